//! What a healthy provider answers: numbered words that carry the backend's name, so that gaps, duplicates and mixtures show.

mod chat;
mod embeddings;
mod media;
mod models;
mod responses;
mod schema;

use std::sync::Mutex;

use fastrand::Rng;
use serde_json::{Value, json};

use super::answer::{Answer, Pace};
use super::backend::lock;
use super::body::Fields;
use super::objects::{Object, Objects};
use super::options::Dialect;
use super::paths::{Operation, Place};
use super::provider_error::Refusal;
use super::request::Request;
use super::settings::{MAX_WORDS, Settings};

pub(super) use media::form_field;

/// One request on its way to an answer.
pub(super) struct Call<'a> {
    pub(super) backend: &'a str,
    pub(super) dialect: Dialect,
    pub(super) settings: &'a Settings,
    pub(super) request: &'a Request,
    pub(super) fields: &'a Fields,
    /// The model or deployment asked for; empty where there is none.
    pub(super) model: &'a str,
    pub(super) sequence: u64,
    /// Unix seconds.
    pub(super) created: u64,
    pub(super) pace: Pace,
    pub(super) rng: Rng,
}

impl Call<'_> {
    /// The words of the answer, each but the first with the blank before it.
    fn words(&self, limits: &[&str]) -> Vec<String> {
        let asked = limits.iter().find_map(|name| self.fields.number(name));
        let choices = self.fields.number("n").unwrap_or(1).max(1);
        let count = asked.unwrap_or(self.settings.words).min(MAX_WORDS / choices);
        let word =
            |index| if index == 0 { format!("{}:0", self.backend) } else { format!(" {}:{index}", self.backend) };
        (0..count).map(word).collect()
    }

    /// An id that tells backend and request.
    fn id(&self, prefix: &str) -> String {
        format!("{prefix}{}-{}", self.backend, self.sequence)
    }

    /// The dated name of the model that served.
    fn snapshot(&self) -> String {
        let name = match self.model {
            // Deployments say nothing about the model behind them.
            _ if self.dialect == Dialect::Azure && !self.model.contains("embedding") => "gpt-4o-2024-08-06",
            "gpt-4o" => "gpt-4o-2024-08-06",
            "gpt-4o-mini" => "gpt-4o-mini-2024-07-18",
            "gpt-4.1" => "gpt-4.1-2025-04-14",
            "gpt-4" => "gpt-4-0613",
            "gpt-3.5-turbo" => "gpt-3.5-turbo-0125",
            other => other,
        };
        name.to_owned()
    }

    fn streams(&self) -> bool {
        self.fields.is_true("stream")
    }
}

/// Text as a JSON string, quotes included.
fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

/// The answer to a valid request.
pub(super) fn answer(place: &Place, call: &mut Call<'_>, objects: &Mutex<Objects>) -> Result<Answer, Refusal> {
    let id = place.id.as_deref().unwrap_or_default();
    match place.operation {
        Operation::Chat => chat::answer(call, chat::Shape::Chat),
        Operation::Completions => chat::answer(call, chat::Shape::Text),
        Operation::Embeddings => embeddings::answer(call),
        Operation::Moderations => media::moderation(call),
        Operation::Speech => media::speech(call),
        Operation::Transcriptions => media::transcription(call),
        Operation::Images => media::images(call),
        Operation::Responses => responses::answer(call, &mut lock(objects)),
        Operation::Models => Ok(models::list(call)),
        Operation::Model => models::one(call, id),
        Operation::Upload => media::upload(call, &mut lock(objects)),
        Operation::CreateBatch => media::create_batch(call, &mut lock(objects)),
        Operation::Response | Operation::File | Operation::Batch => {
            find(&lock(objects), place.operation, id).map(|object| Answer::json(200, object.json.to_string()))
        }
        Operation::FileContent => find(&lock(objects), Operation::File, id)
            .map(|object| Answer::whole(200, "application/octet-stream", object.content.to_vec())),
        Operation::DeleteResponse => delete(&mut lock(objects), Operation::Response, id),
        Operation::DeleteFile => delete(&mut lock(objects), Operation::File, id),
        Operation::Files => Ok(list(&lock(objects), Operation::File)),
        Operation::Batches => Ok(list(&lock(objects), Operation::Batch)),
        Operation::CancelBatch => cancel(&mut lock(objects), id),
    }
}

fn find<'a>(objects: &'a Objects, kind: Operation, id: &str) -> Result<&'a Object, Refusal> {
    objects.get(id).filter(|object| object.kind == kind).ok_or_else(|| Refusal::NoSuchObject(id.to_owned()))
}

fn cancel(objects: &mut Objects, id: &str) -> Result<Answer, Refusal> {
    let object = objects.get_mut(id).filter(|object| object.kind == Operation::Batch);
    let object = object.ok_or_else(|| Refusal::NoSuchObject(id.to_owned()))?;
    object.json["status"] = "cancelling".into();
    Ok(Answer::json(200, object.json.to_string()))
}

fn delete(objects: &mut Objects, kind: Operation, id: &str) -> Result<Answer, Refusal> {
    let object_name = find(objects, kind, id)?.json["object"].clone();
    objects.remove(id);
    Ok(Answer::json(200, json!({"id": id, "object": object_name, "deleted": true}).to_string()))
}

fn list(objects: &Objects, kind: Operation) -> Answer {
    let data: Vec<_> = objects.iter().filter(|object| object.kind == kind).map(|object| &object.json).collect();
    Answer::json(200, json!({"object": "list", "data": data, "has_more": false}).to_string())
}

//! `models`: the names that the settings know; patterns stand for names and are not listed.

use serde_json::{Value, json};

use super::Call;
use crate::simulator::answer::Answer;
use crate::simulator::provider_error::Refusal;

/// All models by name.
pub(super) fn list(call: &Call<'_>) -> Answer {
    let names = call.settings.models.iter().map(|name| name.trim_end_matches('*').trim_end_matches('-'));
    let data: Vec<Value> = names.filter(|name| call.settings.knows(name)).map(|name| model(call, name)).collect();
    Answer::json(200, json!({"object": "list", "data": data}).to_string())
}

/// One model.
pub(super) fn one(call: &Call<'_>, id: &str) -> Result<Answer, Refusal> {
    if !call.settings.knows(id) {
        return Err(Refusal::UnknownModel(id.to_owned()));
    }
    Ok(Answer::json(200, model(call, id).to_string()))
}

fn model(call: &Call<'_>, id: &str) -> Value {
    json!({"id": id, "object": "model", "created": call.created, "owned_by": call.backend})
}

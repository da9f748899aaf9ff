//! From a request to an answer: the provider's checks in its own order, its content and its usual headers.

mod usual;

use std::sync::Arc;
use std::time::Duration;

use super::answer::{Answer, Pace};
use super::backend::{Backend, Begun};
use super::body::Fields;
use super::content::{self, Call};
use super::delay::Delay;
use super::fault::{Fault, Quota, QuotaStyle, RetryAfter, Status, Template};
use super::meter::Reading;
use super::options::Dialect;
use super::paths::{self, Miss, Operation, Place};
use super::provider_error::{self, Refusal};
use super::request::Request;
use super::rule::Asked;
use super::settings::Settings;
use super::tamper;
use crate::clock;

/// A request as far as it can be understood before anything is decided about it.
pub(super) struct Understood {
    place: Result<Place, Miss>,
    fields: Result<Fields, String>,
    model: Option<String>,
}

impl Understood {
    /// Reads path and body.
    pub(super) fn read(dialect: Dialect, request: &Request) -> Self {
        let place = paths::find(dialect, request.method(), request.path(), request.query());
        // The one POST without a body.
        let is_cancel = place.as_ref().is_ok_and(|place| place.operation == Operation::CancelBatch);
        let is_json = request.method() == "POST" && !is_form(request) && !is_cancel;
        let fields = if is_json { Fields::read(request.body()) } else { Ok(Fields::default()) };
        let deployment = place.as_ref().ok().and_then(|place| place.deployment.clone());
        let in_body = || match &fields {
            Ok(fields) if is_json => fields.text("model").map(str::to_owned),
            Ok(_) | Err(_) => form_model(request),
        };
        let model = deployment.or_else(in_body);
        Self { place, fields, model }
    }

    /// What rules look at.
    pub(super) fn asked<'a>(&'a self, request: &'a Request) -> Asked<'a> {
        let fields = self.fields.as_ref().ok();
        let limit = |fields: &Fields| {
            let names = ["max_completion_tokens", "max_tokens", "max_output_tokens"];
            names.iter().find_map(|name| fields.number(name)).unwrap_or(16)
        };
        Asked {
            request,
            model: self.model.as_deref(),
            stream: fields.is_some_and(|fields| fields.is_true("stream")),
            tokens: fields.map_or(0, |fields| fields.prompt_tokens().saturating_add(limit(fields))),
        }
    }
}

fn is_form(request: &Request) -> bool {
    request.header_text("content-type").is_some_and(|kind| kind.trim_start().starts_with("multipart/form-data"))
}

fn form_model(request: &Request) -> Option<String> {
    content::form_field(request, "model").map(|model| String::from_utf8_lossy(&model).into_owned())
}

/// The answer to a request, its fault's changes of content included.
pub(super) fn answer(backend: &Backend, request: &Request, understood: &Understood, begun: &mut Begun) -> Answer {
    let fault = begun.rule.as_ref().map(|chosen| Arc::clone(&chosen.fault));
    let turn = begun.rule.as_ref().map_or(0, |chosen| chosen.turn);
    let mut answer = match fault.as_deref() {
        Some(Fault::Status(status)) => status_answer(backend.dialect, status, turn, begun),
        Some(Fault::Quota(quota)) if !begun.limits.fits => quota_answer(backend.dialect, quota, &begun.limits),
        _ => healthy(backend, request, understood, begun, fault.as_deref()),
    };
    usual::add_fields(&mut answer, backend, begun);
    match fault.as_deref() {
        Some(fault) => tamper::apply(answer, fault),
        None => answer,
    }
}

fn healthy(
    backend: &Backend,
    request: &Request,
    understood: &Understood,
    begun: &mut Begun,
    fault: Option<&Fault>,
) -> Answer {
    let turn = begun.rule.as_ref().map_or(begun.sequence - 1, |chosen| chosen.turn);
    let settings = Arc::clone(&begun.settings);
    let mut draw = |delay: &Delay| delay.draw(&mut begun.rng, turn);
    let lead = match fault {
        Some(Fault::Latency(delay)) => draw(delay),
        _ => draw(&settings.latency_ms),
    };
    let ttft = match fault {
        Some(Fault::Ttft(delay)) => draw(delay),
        _ => draw(&settings.ttft_ms),
    };
    let rate = match fault {
        Some(Fault::TokensPerSecond(rate)) => Some(*rate),
        _ => settings.tokens_per_second,
    };
    let gap = rate.map_or(Duration::ZERO, |rate| Duration::from_secs_f64(1.0 / rate));
    let pace = Pace { ttft, gap, jitter: settings.jitter };
    let mut answer =
        checked(backend, request, understood, begun, pace).unwrap_or_else(|refusal| refusal.answer(backend.dialect));
    answer.lead += lead;
    answer.flushes_events = settings.flush_events;
    answer
}

/// The provider's checks, and the content if all pass.
fn checked(
    backend: &Backend,
    request: &Request,
    understood: &Understood,
    begun: &mut Begun,
    pace: Pace,
) -> Result<Answer, Refusal> {
    let settings = Arc::clone(&begun.settings);
    let whole = || (request.method().to_owned(), request.path().to_owned());
    let place = understood.place.as_ref().map_err(|miss| {
        let (method, path) = whole();
        match miss {
            Miss::Unknown => Refusal::UnknownUrl { method, path },
            Miss::Method => Refusal::Method { method, path },
        }
    })?;
    check_key(backend.dialect, &settings, request)?;
    let fields = understood.fields.as_ref().map_err(|problem| Refusal::InvalidJson(problem.clone()))?;
    if settings.strict
        && let Some(name) = fields.unknown(backend.dialect, place.operation)
    {
        return Err(Refusal::UnknownField(name.to_owned()));
    }
    let model = check_model(&settings, place, understood)?;
    let mut call = Call {
        backend: &backend.name,
        dialect: backend.dialect,
        settings: &settings,
        request,
        fields,
        model,
        sequence: begun.sequence,
        created: clock::unix_now().as_secs(),
        pace,
        rng: begun.rng.fork(),
    };
    content::answer(place, &mut call, &backend.objects)
}

fn check_key(dialect: Dialect, settings: &Settings, request: &Request) -> Result<(), Refusal> {
    let bearer = request.header_text("authorization").and_then(|value| value.strip_prefix("Bearer "));
    let key = match dialect {
        Dialect::OpenAi | Dialect::Compat => bearer,
        Dialect::Azure => request.header_text("api-key").or(bearer),
    };
    match (key, &settings.keys) {
        (Some(key), Some(keys)) if !keys.iter().any(|known| known == key) => Err(Refusal::WrongKey),
        (Some(key), _) if !key.trim().is_empty() => Ok(()),
        (Some(_) | None, None) if dialect == Dialect::Compat => Ok(()),
        (Some(_) | None, _) => Err(Refusal::NoKey),
    }
}

fn check_model<'a>(settings: &Settings, place: &Place, understood: &'a Understood) -> Result<&'a str, Refusal> {
    let model = understood.model.as_deref();
    match (place.operation, model) {
        (_, Some(model)) if settings.knows(model) => Ok(model),
        (_, Some(model)) => Err(Refusal::UnknownModel(model.to_owned())),
        (Operation::Chat | Operation::Completions | Operation::Embeddings, None)
        | (Operation::Speech | Operation::Transcriptions, None) => Err(Refusal::NoModel),
        (Operation::Responses, None) if !has_previous(understood) => Err(Refusal::NoModel),
        (
            Operation::Responses
            | Operation::Moderations
            | Operation::Images
            | Operation::Models
            | Operation::Model
            | Operation::Response
            | Operation::DeleteResponse
            | Operation::Upload
            | Operation::Files
            | Operation::File
            | Operation::FileContent
            | Operation::DeleteFile
            | Operation::CreateBatch
            | Operation::Batches
            | Operation::Batch
            | Operation::CancelBatch,
            None,
        ) => Ok(""),
    }
}

fn has_previous(understood: &Understood) -> bool {
    understood.fields.as_ref().is_ok_and(|fields| fields.get("previous_response_id").is_some())
}

fn status_answer(dialect: Dialect, status: &Status, turn: u64, begun: &mut Begun) -> Answer {
    let own = provider_error::template_of(dialect);
    let mut answer = provider_error::answer(status.body.as_ref().unwrap_or(&own), status.code);
    if let Some(latency) = &status.latency {
        answer.lead = latency.draw(&mut begun.rng, turn);
    }
    if let Some(retry_after) = &status.retry_after {
        set_retry_after(&mut answer, retry_after);
    }
    for (name, value) in &status.headers {
        answer.set(name.clone(), value.clone());
    }
    answer
}

fn set_retry_after(answer: &mut Answer, retry_after: &RetryAfter) {
    match retry_after {
        RetryAfter::Seconds(seconds) => answer.set("retry-after", seconds.to_string()),
        RetryAfter::Float(seconds) => answer.set("retry-after", seconds.to_string()),
        RetryAfter::Date(seconds) => {
            let at = std::time::UNIX_EPOCH + clock::unix_now() + Duration::from_secs((*seconds).min(MAX_DATE_S));
            answer.set("retry-after", httpdate::fmt_http_date(at));
        }
        RetryAfter::Ms(millis) => {
            answer.set("retry-after-ms", millis.to_string());
            answer.set("retry-after", millis.div_ceil(1000).to_string());
        }
    }
}

/// Farthest date that is named: HTTP dates end with the year 9999.
const MAX_DATE_S: u64 = 10 * 365 * 86_400;

fn quota_answer(dialect: Dialect, quota: &Quota, limits: &Reading) -> Answer {
    let own = provider_error::template_of(dialect);
    let millis = limits.reset.as_millis() as u64;
    match quota.style {
        QuotaStyle::RateLimit => {
            let mut answer = provider_error::answer(&own, 429);
            set_retry_after(&mut answer, &RetryAfter::Ms(millis.max(1)));
            answer
        }
        QuotaStyle::InsufficientQuota => provider_error::answer(&Template::InsufficientQuota, 429),
        QuotaStyle::Ptu => {
            let mut answer = provider_error::answer(&own, 429);
            answer.set("retry-after-ms", PTU_RETRY_AFTER_MS);
            answer.set("azure-openai-deployment-utilization", "101.3%");
            answer
        }
    }
}

/// Full provisioned throughput asks to come back soon: some tens of milliseconds.
const PTU_RETRY_AFTER_MS: &str = "43";

//! One check: what is sent, and what came back made into a finding. All of it within the policy's `timeout`.

use std::sync::Arc;
use std::time::Duration;

use actix_web::http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use actix_web::http::{Method, Uri};
use bytes::{Bytes, BytesMut};
use serde_json::json;

use super::{Errand, listing};
use crate::backend::health::Found;
use crate::backend::outcome::{Block, Class, ConnectPhase, Outcome, TimeoutKind};
use crate::backend::{Admission, Call, Kind, Outbox, Permit};
use crate::clock::{self, Instant};
use crate::config::{Backend, HealthCheckKind, Provider, Reasoning};
use crate::proxy::attempt::MAX_ERROR_BODY_BYTES;
use crate::proxy::classify::{self, Event, classify};
use crate::proxy::error_fields::find_error;
use crate::proxy::unary::{self, Expected, Judgement};
use crate::proxy::upstream::{self, Answer, AnswerBody, Asked, Limits, Request, Upstream};
use crate::proxy::{forward, hint_headers};

/// Longest list of models, or completion, that is read. Aggregators list some hundred models in less than 1 MiB.
const MAX_BODY_BYTES: usize = 4 << 20;

/// What a completion is estimated to cost, in tokens: its prompt and one word.
const TOKENS: u64 = 8;

/// A probe's right outlives its check by this.
const LEASE_GRACE: Duration = Duration::from_secs(1);

/// By what a provider's log tells a check from a client's request.
const REQUEST_ID: HeaderValue = HeaderValue::from_static("breakwater-health-check");

/// What a check saw.
pub(super) struct Seen {
    pub(super) found: Found,
    /// When it counted as a success of the backend's half-open circuit, if it did.
    pub(super) counted_at: Option<Instant>,
}

/// Something that asks for no more: its class, and the provider's own wait.
type Refused = (Class, Option<Duration>);

/// Checks a backend once.
pub(super) async fn check(errand: &Errand, started: Instant) -> Seen {
    let policy = &errand.subject.backend.config().policy.health_check;
    let check = Check { errand, config: errand.subject.backend.config(), deadline: started.plus(policy.timeout) };
    let found = match policy.kind {
        HealthCheckKind::Off => Ok(Found::Mute),
        HealthCheckKind::Connect => check.connect().await,
        HealthCheckKind::Models => check.models().await,
        HealthCheckKind::Completion => return check.completion(started).await,
    };
    Seen { found: found.unwrap_or_else(|refused| bad(refused, false)), counted_at: None }
}

const fn bad((class, hint): Refused, is_told: bool) -> Found {
    Found::Bad { class, hint, is_told }
}

/// One check under way.
struct Check<'a> {
    errand: &'a Errand,
    config: &'a Backend,
    deadline: Instant,
}

impl Check<'_> {
    async fn connect(&self) -> Result<Found, Refused> {
        let uri = self.uri("models")?;
        let reached = Upstream::connect(&uri, self.errand.subject.tls.as_ref(), self.deadline).await;
        reached.map(|()| Found::Good { is_listed: false }).map_err(|error| (class_of(error), None))
    }

    async fn models(&self) -> Result<Found, Refused> {
        let mut answer = self.send("models", Method::GET, &[]).await?;
        let status = answer.status;
        if !self.config.policy.health_check.expected_status.contains(&status.as_u16()) {
            let refused = self.refused(answer, false).await;
            // Of a server that has no list nothing is learned.
            let has_no_list = status.as_u16() == 404 && refused.0 == Class::CallerFault;
            return if has_no_list { Ok(Found::Mute) } else { Err(refused) };
        }
        let body = read(&mut answer.body, MAX_BODY_BYTES, self.deadline).await.map_err(|class| (class, None))?;
        Ok(match status.is_success() {
            true => Found::Good { is_listed: self.is_listed(&body) },
            false => Found::Expected,
        })
    }

    /// Whether the list shows that a model which was not found is there. Azure lists models, but is called by deployment, and
    /// a pattern stands for many models: there a list says nothing.
    fn is_listed(&self, body: &[u8]) -> bool {
        let is_missing = clock::now() < self.errand.subject.backend.blocked_until(Block::NotFound);
        let model = &self.config.upstream_model;
        match &self.config.provider {
            Provider::OpenAi | Provider::Compatible(_) => {
                is_missing && !model.contains('*') && listing::names(body, model)
            }
            Provider::AzureDated { .. } | Provider::AzureV1 => false,
        }
    }

    /// Counts for the breaker only where that lets a probe go: then as any other probe does.
    async fn completion(&self, started: Instant) -> Seen {
        let trial = Trial::claim(self.errand, started, self.deadline);
        let asked = self.complete().await;
        let now = clock::now();
        let is_told = trial.is_some();
        match asked {
            Ok(()) => {
                trial.into_iter().for_each(|trial| trial.settle(Outcome::Success, now));
                Seen { found: Found::Good { is_listed: true }, counted_at: is_told.then_some(now) }
            }
            Err((class, hint)) => {
                trial.into_iter().for_each(|trial| trial.settle(Outcome::Failure { class, hint }, now));
                Seen { found: bad((class, hint), is_told), counted_at: None }
            }
        }
    }

    async fn complete(&self) -> Result<(), Refused> {
        let body = Bytes::from(completion_body(self.config));
        let mut answer = self.send("chat/completions", Method::POST, &[body]).await?;
        if !answer.status.is_success() {
            return Err(self.refused(answer, true).await);
        }
        let body = read(&mut answer.body, MAX_BODY_BYTES, self.deadline).await.map_err(|class| (class, None))?;
        match unary::judge(Expected::Json, answer.text(Asked::ContentType), &body) {
            Judgement::Good(_) => Ok(()),
            Judgement::Malformed => Err((Class::Malformed, None)),
            Judgement::Failed(error) => {
                let class = self.judge(Event::InBand(&error.fields));
                let is_limited = matches!(class, Class::RateLimited | Class::QuotaExhausted);
                let hint = is_limited.then(|| hint_headers::wait(429, answer.fields(), &error.fields)).flatten();
                Err((class, hint))
            }
        }
    }

    /// What an answer means that is not the one hoped for.
    async fn refused(&self, mut answer: Answer, names_model: bool) -> Refused {
        // What is left of a broken or endless error body says nothing that its status does not.
        let body = read(&mut answer.body, MAX_ERROR_BODY_BYTES, self.deadline).await.unwrap_or_default();
        let fields = find_error(&body).map(|error| error.fields).unwrap_or_default();
        let status = answer.status.as_u16();
        let hint = hint_headers::wait(status, answer.fields(), &fields);
        let answered = classify::Answer { status, fields: &fields, names_model, has_hint: hint.is_some() };
        (self.judge(Event::Answered(answered)), hint)
    }

    fn judge(&self, event: Event<'_>) -> Class {
        classify(event, &self.config.provider, &self.config.policy.classify)
    }

    async fn send(&self, operation: &str, method: Method, body: &[Bytes]) -> Result<Answer, Refused> {
        let subject = &self.errand.subject;
        let uri = self.uri(operation)?;
        let bearer = match subject.target.token() {
            None => None,
            Some(token) => Some(token.header(self.deadline).await.ok_or((Class::Auth, None))?),
        };
        let headers = |out: &mut HeaderMap| {
            if !body.is_empty() {
                out.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            }
            forward::to_provider(out, &HeaderMap::new(), &[], subject.target.headers(), &REQUEST_ID);
            if let Some(bearer) = &bearer {
                out.insert(AUTHORIZATION, bearer.clone());
            }
        };
        let request = Request { uri: &uri, method: &method, tls: subject.tls.as_ref(), headers: &headers, body };
        let limits = Limits { begun: clock::now(), connect: self.deadline, head: self.deadline };
        let sent = self.errand.tools.upstream.send(&request, limits).await;
        sent.map_err(|error| (class_of(error), None))
    }

    fn uri(&self, operation: &str) -> Result<Uri, Refused> {
        // No backend is to blame for a URL that cannot be made.
        self.errand.subject.target.uri(operation, None).map_err(|_| (Class::Local, None))
    }
}

/// A probe of a half-open circuit that a check makes. Dropped with the check, it is told at once and gives its place back.
struct Trial {
    permit: Option<Permit>,
    outbox: Arc<Outbox>,
}

impl Trial {
    /// Claims a probe where the circuit asks for one. None: the breaker is not to hear of this check.
    fn claim(errand: &Errand, now: Instant, deadline: Instant) -> Option<Self> {
        let backend = &errand.subject.backend;
        if !matches!(backend.status().read(now).admission, Admission::Probe(_)) {
            return None;
        }
        let limit = deadline.since(now);
        let call = Call { tokens: TOKENS, kind: Kind::Unary, limit, lease: deadline.plus(LEASE_GRACE) };
        let outbox = &errand.tools.outbox;
        let permit = backend.try_take(call, now, outbox).ok();
        let trial = Self { permit, outbox: Arc::clone(outbox) };
        // Closed or forced meanwhile: it is no probe, and drops.
        trial.permit.as_ref().is_some_and(Permit::is_probe).then_some(trial)
    }

    fn settle(mut self, outcome: Outcome, now: Instant) {
        self.permit.take().into_iter().for_each(|permit| permit.settle(outcome, now));
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        drop(self.permit.take());
        // No task empties this outbox: what a check has to say is said at its end.
        self.outbox.flush();
    }
}

/// The cheapest question there is. Reasoning models refuse `max_tokens`, old servers do not know its successor.
fn completion_body(backend: &Backend) -> String {
    let limit = match backend.reasoning {
        Reasoning::Always => "max_completion_tokens",
        Reasoning::ByRequest | Reasoning::Never => "max_tokens",
    };
    json!({"model": backend.upstream_model, "messages": [{"role": "user", "content": "ping"}], limit: 1}).to_string()
}

fn class_of(error: upstream::Error) -> Class {
    match error {
        upstream::Error::Dns => Class::Connect(ConnectPhase::Dns),
        upstream::Error::Connect => Class::Connect(ConnectPhase::Connect),
        upstream::Error::Tls => Class::Connect(ConnectPhase::Tls),
        upstream::Error::ConnectTimeout => Class::Timeout(TimeoutKind::Connect),
        upstream::Error::HeadTimeout => Class::Timeout(TimeoutKind::FirstByte),
        upstream::Error::Reset => Class::Reset,
        upstream::Error::Truncated => Class::Truncated,
        upstream::Error::Malformed => Class::Malformed,
    }
}

/// Reads a body to its end, before the deadline. Of one that is too long, what came until then: it is judged as what it is
/// not, a whole answer.
async fn read(body: &mut AnswerBody, most: usize, deadline: Instant) -> Result<Bytes, Class> {
    let mut whole = BytesMut::new();
    while whole.len() <= most {
        match tokio::time::timeout_at(clock::to_tokio(deadline), body.chunk()).await {
            Ok(Some(Ok(chunk))) => whole.extend_from_slice(&chunk),
            Ok(Some(Err(error))) => return Err(class_of(error)),
            Ok(None) => break,
            Err(_) => return Err(Class::Timeout(TimeoutKind::Total)),
        }
    }
    Ok(whole.freeze())
}

//! Answers that are judged as a whole before a byte leaves, and those whose bytes nobody here can read.

use std::collections::VecDeque;
use std::time::Duration;

use actix_web::http::Method;
use actix_web::http::header::ACCEPT_ENCODING;
use bytes::Bytes;

use super::super::attempt::{Attempt, MAX_ERROR_BODY_BYTES};
use super::super::classify::{self, Event};
use super::super::error_fields::find_error;
use super::super::failure::{ErrorAnswer, Said};
use super::super::finish::FinishReason;
use super::super::operation::Group;
use super::super::relay::Source;
use super::super::unary::{self, Expected, Judgement};
use super::super::upstream::{Answer, Asked};
use super::super::wanted::expected;
use super::super::{Head, Reply, WholeReply, forward, hint_headers};
use super::reading::{Unread, read, within};
use super::{Attempted, MAX_WHOLE_BYTES, Served, Stage, coding};
use crate::backend::outcome::Class;
use crate::clock::{self, Instant};
use crate::telemetry::labels::{Endpoint, RequestOutcome};

impl Stage<'_> {
    /// An answer that is no success: its class, its hint, and itself in case it is the last word.
    pub(super) async fn answered(&self, attempt: Attempt, mut answer: Answer) -> Attempted {
        // What is left of a broken or endless error body says nothing that its status does not.
        let body = read(&mut answer.body, MAX_ERROR_BODY_BYTES, &self.clocks).await.unwrap_or_default();
        let (class, said, hint) = self.error_answer(answer, body);
        self.fail(attempt, class, hint, said)
    }

    /// What an answer that is no success means, and how long it asks to be left alone.
    pub(super) fn error_answer(&self, answer: Answer, body: Bytes) -> (Class, Said, Option<Duration>) {
        let status = answer.status.as_u16();
        let headers = answer.into_fields();
        let fields = find_error(&body).map(|error| error.fields).unwrap_or_default();
        let hint = hint_headers::wait(status, &headers, &fields);
        let (names_model, has_hint) = (self.errand.wanted.model.is_some(), hint.is_some());
        let class = self.judge(Event::Answered(classify::Answer { status, fields: &fields, names_model, has_hint }));
        let content_type = headers.text(Asked::ContentType).to_owned();
        let answer = Box::new(ErrorAnswer { status, headers, content_type, body });
        (class, Said::Answer(answer), hint)
    }

    /// A stream was asked for and something else came: an error in disguise, or nonsense.
    pub(super) async fn no_stream(&self, attempt: Attempt, mut answer: Answer) -> Attempted {
        let body = match read(&mut answer.body, MAX_ERROR_BODY_BYTES, &self.clocks).await {
            Ok(body) => body,
            Err(unread) => {
                let (class, said) = self.unread(&unread);
                return self.fail(attempt, class, None, said);
            }
        };
        match unary::judge_no_stream(&body) {
            Judgement::Failed(error) => self.in_band(attempt, answer.fields(), error.fields),
            Judgement::Good(_) | Judgement::Malformed => self.fail(attempt, Class::Malformed, None, Said::Nothing),
        }
    }

    /// An answer that is read to its end before a byte leaves: so truncation, garbage and an HTML page still fail over.
    pub(super) async fn whole(&self, attempt: Attempt, mut answer: Answer) -> Attempted {
        let expected = expected(&self.errand.call.operation, self.errand.call.method);
        let content_type = answer.text(Asked::ContentType);
        let is_legible = ["application/json", "text/html"].iter().any(|kind| unary::is_type(content_type, kind));
        if let Some(coding) = coding(&answer) {
            let accepted = forward::text(self.errand.call.headers, &ACCEPT_ENCODING).to_ascii_lowercase();
            if !accepted.split(',').any(|name| name.split(';').next().unwrap_or_default().trim() == coding) {
                return self.fail(attempt, Class::Malformed, None, Said::Nothing);
            }
            return self.raw(attempt, answer).await;
        }
        if expected == Expected::Anything && !is_legible {
            return self.raw(attempt, answer).await;
        }
        let came_whole = answer.body.came_whole();
        let body = match read(&mut answer.body, MAX_WHOLE_BYTES, &self.clocks).await {
            Ok(body) => body,
            Err(Unread::TooLong(chunks)) => return self.commit_raw(attempt, answer, chunks),
            Err(unread) => {
                let (class, said) = self.unread(&unread);
                return self.fail(attempt, class, None, said);
            }
        };
        let usage = match unary::judge(expected, answer.text(Asked::ContentType), &body) {
            Judgement::Good(usage) => usage,
            Judgement::Malformed => return self.fail(attempt, Class::Malformed, None, Said::Nothing),
            Judgement::Failed(error) => return self.in_band(attempt, answer.fields(), error.fields),
        };
        match usage {
            Some(usage) => attempt.usage(usage),
            None if self.errand.call.is_metered() && !self.errand.wanted.is_background() => {
                attempt.handles().usage_missing.inc();
            }
            None => {}
        }
        let at = if came_whole { answer.at } else { clock::now() };
        self.note_objects(&body, at);
        attempt.succeed(at);
        // No other answers have one, and those of embeddings and images are long.
        let may_finish =
            matches!(self.errand.call.operation.endpoint, Endpoint::ChatCompletions | Endpoint::Completions);
        let finish_reason = if may_finish { FinishReason::of_answer(&body) } else { None };
        let (status, outcome) = (answer.status, RequestOutcome::Success);
        let body = match &self.restamp {
            Some(restamp) => restamp.answer(&body),
            None => body,
        };
        let upstream_id = answer.request_id();
        let head = Head::Provider(answer.into_fields());
        let reply = Reply::Whole(Box::new(WholeReply { status, head, body, waits: None, outcome }));
        Attempted::Served(Box::new(Served {
            status: status.as_u16(),
            at,
            is_first_token: false,
            usage,
            finish_reason,
            upstream_id,
            reply,
        }))
    }

    /// Remembers who holds what a good answer speaks of, or that it is gone.
    pub(super) fn note_objects(&self, body: &[u8], now: Instant) {
        let call = self.errand.call;
        if call.operation.group == Group::Object && *call.method == Method::DELETE {
            if let Some(id) = call.operation.segments().next_back() {
                self.pins.remove(&id);
            }
            return;
        }
        let Some(owner) = self.errand.owner else { return };
        let backend = self.candidate.backend.config().identity;
        self.pins.put_named(body, owner, backend, now);
        if *call.method == Method::GET
            && let Some(id) = call.operation.object_id()
        {
            self.pins.put(&id, owner, backend, now);
        }
    }

    /// An answer whose bytes nobody here can read: it commits at its first byte.
    pub(super) async fn raw(&self, attempt: Attempt, mut answer: Answer) -> Attempted {
        let first = within(self.clocks.begun.plus(self.clocks.head_limit), answer.body.chunk()).await;
        match first {
            Some(Some(Ok(chunk))) => self.commit_raw(attempt, answer, VecDeque::from([chunk])),
            Some(None) => self.commit_raw(attempt, answer, VecDeque::new()),
            Some(Some(Err(error))) => {
                let (class, said) = self.unread(&Unread::Broken(error));
                self.fail(attempt, class, None, said)
            }
            None => {
                let (class, said) = self.too_late();
                self.fail(attempt, class, None, said)
            }
        }
    }

    pub(super) fn commit_raw(&self, mut attempt: Attempt, answer: Answer, queue: VecDeque<Bytes>) -> Attempted {
        let at = clock::now();
        self.note_objects(&[], at);
        attempt.first_content(at);
        let (status, length) = (answer.status.as_u16(), forward::content_length(answer.headers()));
        let length = length.map(|length| length as u64);
        let upstream_id = answer.request_id();
        let reply = self.relay(attempt, answer, Source::Raw, queue, false, length);
        Attempted::Served(Box::new(Served {
            status,
            at,
            is_first_token: false,
            usage: None,
            finish_reason: None,
            upstream_id,
            reply,
        }))
    }
}

//! Answers that are event streams: nothing leaves before their first content.

use std::collections::VecDeque;
use std::sync::Arc;

use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use bytes::Bytes;

use super::super::Reply;
use super::super::attempt::Attempt;
use super::super::failure::Said;
use super::super::pins::created_in_event;
use super::super::relay::{Pace, Relay, Source, Start};
use super::super::sse::{Api, EventStream, Failure as StreamFailure, Options, Step};
use super::super::upstream::{self, Answer};
use super::super::wanted::api;
use super::reading::within;
use super::{Attempted, Served, Stage};
use crate::backend::outcome::Class;
use crate::clock::{self, Instant};

impl Stage<'_> {
    /// An event stream: nothing leaves before its first content.
    pub(super) async fn events(&self, mut attempt: Attempt, mut answer: Answer, drop_usage_event: bool) -> Attempted {
        let policy = &self.plan.route().config.policy;
        let operation = &self.errand.call.operation;
        let api = api(operation);
        let holdback = if api == Api::Responses { policy.responses_holdback } else { policy.holdback };
        let is_background = self.errand.wanted.is_background();
        let options = Options { api, holdback, drop_usage_event, is_background };
        let mut events = Box::new(EventStream::new(options));
        if let Some(restamp) = &self.restamp {
            events.restamp(restamp.clone());
        }
        let mut is_over = false;
        loop {
            for step in events.by_ref() {
                match step {
                    Step::Hold => {}
                    Step::Commit { blocks, is_first_token, is_end } => {
                        let at = clock::now();
                        self.note_created(&blocks, at);
                        attempt.first_content(at);
                        let (status, queue) = (answer.status.as_u16(), VecDeque::from(blocks));
                        let upstream_id = answer.request_id();
                        let reply = self.relay(attempt, answer, Source::Events(events), queue, is_end, None);
                        let served =
                            Served { status, at, is_first_token, usage: None, finish_reason: None, upstream_id, reply };
                        return Attempted::Served(Box::new(served));
                    }
                    Step::Fail(StreamFailure::InBand(fields)) => {
                        return self.in_band(attempt, answer.fields(), fields);
                    }
                    Step::Fail(StreamFailure::Malformed) => {
                        return self.fail(attempt, Class::Malformed, None, Said::Nothing);
                    }
                    Step::Fail(StreamFailure::Truncated) => {
                        return self.fail(attempt, Class::Truncated, None, Said::Nothing);
                    }
                    // Only after the commit point.
                    Step::Pass { .. }
                    | Step::Comment(_)
                    | Step::Drop
                    | Step::Error(..)
                    | Step::Done(_)
                    | Step::TooLarge => {}
                }
            }
            if is_over {
                return self.fail(attempt, Class::Truncated, None, Said::Nothing);
            }
            match within(self.clocks.head, answer.body.chunk()).await {
                Some(Some(Ok(chunk))) => events.push(chunk),
                Some(Some(Err(upstream::Error::Malformed))) => {
                    return self.fail(attempt, Class::Malformed, None, Said::Nothing);
                }
                Some(Some(Err(_)) | None) => {
                    events.close();
                    is_over = true;
                }
                None => {
                    let (class, said) = self.too_late();
                    return self.fail(attempt, class, None, said);
                }
            }
        }
    }

    /// The body that goes on with a committed answer.
    pub(super) fn relay(
        &self,
        attempt: Attempt,
        answer: Answer,
        source: Source,
        queue: VecDeque<Bytes>,
        is_end: bool,
        length: Option<u64>,
    ) -> Reply {
        let policy = &self.plan.route().config.policy;
        let status = answer.status;
        let mut headers = HeaderMap::new();
        answer.fields().append_relayed(&mut headers);
        let (total, keepalive) = match &source {
            Source::Events(_) => (clock::now().plus(policy.stream_total), policy.keepalive),
            Source::Raw => (self.clocks.deadline, None),
        };
        if let Source::Events(_) = &source {
            // Proxies on the way must not gather events.
            headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
        }
        let relay = Relay::new(Start {
            upstream: answer.body,
            source,
            queue,
            is_end,
            length,
            api: api(&self.errand.call.operation),
            is_metered: self.errand.call.is_metered(),
            attempt,
            backend: Arc::clone(self.candidate.backend.config()),
            expose_backend: policy.expose_backends,
            pace: Pace { idle: self.clocks.idle, total, keepalive },
            drain_limit: Arc::clone(self.drain_limit),
        });
        Reply::Relay(status, headers, Box::new(relay))
    }

    /// The same for a stream that says at its beginning what it makes.
    fn note_created(&self, blocks: &[Bytes], now: Instant) {
        let Some(owner) = self.errand.owner else { return };
        if let Some(id) = blocks.iter().find_map(|block| created_in_event(block)) {
            self.pins.put(&id, owner, self.candidate.backend.config().identity, now);
        }
    }
}

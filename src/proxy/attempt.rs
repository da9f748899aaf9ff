//! One attempt's book-keeping: its permit, and its counts exactly once, when it drops.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::usage::Usage;
use crate::backend::Permit;
use crate::backend::outcome::{Class, Outcome};
use crate::clock::{self, Instant};
use crate::config::BackendId;
use crate::telemetry::labels::{AttemptOutcome, FailureDetail, Label as _, ResendReason, TokenDetail, TokenType};
use crate::telemetry::{Lazily, PairHandles};

/// Largest error body that is looked into and shown (spec/wire.md 1.3).
pub const MAX_ERROR_BODY_BYTES: usize = 1 << 20;

/// One upstream call under way. Dropped without a word it counts as cancelled, and its permit gives everything back.
pub struct Attempt {
    permit: Option<Permit>,
    handles: Arc<Lazily<PairHandles>>,
    started: Instant,
    /// Set where another attempt beside it has answered first.
    overtaken: Option<Rc<Cell<bool>>>,
    /// What came of it, in detail, and when.
    verdict: Option<(AttemptOutcome, Option<&'static str>, Instant)>,
}

impl Attempt {
    /// Begins with the permit that was taken. `overtaken` is shared with the attempt beside it, if there may be one.
    pub fn begin(
        permit: Permit,
        handles: &Arc<Lazily<PairHandles>>,
        overtaken: Option<Rc<Cell<bool>>>,
        now: Instant,
    ) -> Self {
        handles.in_flight.inc();
        Self { permit: Some(permit), handles: Arc::clone(handles), started: now, overtaken, verdict: None }
    }

    /// When it began.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// The backend that is called.
    pub fn backend(&self) -> Option<&BackendId> {
        self.permit.as_ref().map(|permit| permit.backend().id())
    }

    /// Its metrics.
    pub fn handles(&self) -> &Arc<Lazily<PairHandles>> {
        &self.handles
    }

    /// It was sent again for free.
    pub fn resent(&self, reason: ResendReason) {
        self.handles.resends(reason).inc();
    }

    /// The first content of a stream has come.
    pub fn first_content(&mut self, now: Instant) {
        if let Some(permit) = &mut self.permit {
            permit.first_content(now);
        }
        self.handles.first_token.observe(now.since(self.started).as_secs_f64());
    }

    /// The provider reported what it cost.
    pub fn usage(&self, usage: Usage) {
        self.handles.tokens(TokenType::Input).inc_by(usage.input);
        self.handles.tokens(TokenType::Output).inc_by(usage.output);
        let parts = [
            (TokenDetail::CachedInput, usage.cached_input),
            (TokenDetail::CacheWriteInput, usage.cache_write_input),
            (TokenDetail::ReasoningOutput, usage.reasoning_output),
        ];
        for (detail, tokens) in parts.into_iter().filter(|(_, tokens)| 0 < *tokens) {
            self.handles.token_details(detail).inc_by(tokens);
        }
        if let Some(permit) = &self.permit {
            permit.usage(usage.input, usage.output);
            if let Some(prices) = &permit.backend().config().prices {
                self.handles.cost.inc_by(usage.cost(prices));
            }
        }
    }

    /// The head of an answer has come.
    pub fn reached(&self, now: Instant) {
        // Only a trial has to say so.
        if let Some(permit) = self.permit.as_ref().filter(|permit| permit.is_any_probe()) {
            permit.reached(now);
        }
    }

    /// The whole answer was there.
    pub fn succeed(mut self, now: Instant) {
        self.verdict = Some((AttemptOutcome::Success, None, now));
        if let Some(permit) = self.permit.take() {
            permit.settle(Outcome::Success, now);
        }
    }

    /// It failed, and the backend hears of it.
    pub fn fail(mut self, class: Class, hint: Option<Duration>, now: Instant) {
        self.verdict = Some((outcome_of(class), class.detail(), now));
        if let Some(permit) = self.permit.take() {
            permit.settle(Outcome::Failure { class, hint }, now);
        }
    }

    /// It was ended by a limit that is nobody's fault: counted as failed, but the backend is not blamed.
    pub fn end_unblamed(mut self, class: Class, now: Instant) {
        self.verdict = Some((outcome_of(class), class.detail(), now));
        if let Some(permit) = self.permit.take() {
            permit.settle(Outcome::Success, now);
        }
    }
}

fn outcome_of(class: Class) -> AttemptOutcome {
    match (class.error_type(), class) {
        (Some(kind), _) => AttemptOutcome::Failure(kind),
        (None, Class::Local) => AttemptOutcome::LocalError,
        (None, _) => AttemptOutcome::Cancelled,
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if self.overtaken.as_ref().is_some_and(|overtaken| overtaken.get())
            && let Some(permit) = self.permit.take()
        {
            permit.give_way(clock::now());
        }
        let unset = if std::thread::panicking() { AttemptOutcome::LocalError } else { AttemptOutcome::Cancelled };
        let (outcome, detail, ended) = self.verdict.unwrap_or_else(|| (unset, None, clock::now()));
        self.handles.in_flight.dec();
        self.handles.attempts(outcome).inc();
        let known = detail.and_then(|word| FailureDetail::ALL.iter().find(|known| known.name() == word));
        if let Some(detail) = known {
            self.handles.detail(*detail).inc();
        }
        let elapsed = ended.since(self.started).as_secs_f64();
        match outcome {
            AttemptOutcome::Success => self.handles.duration(true).observe(elapsed),
            AttemptOutcome::Failure(_) => self.handles.duration(false).observe(elapsed),
            AttemptOutcome::Cancelled | AttemptOutcome::LocalError => {}
        }
    }
}

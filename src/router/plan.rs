//! One request's candidates: its route, which backends it has already tried, and which of those it may try again.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::table::{Candidate, RouteEntry, Table};
use crate::backend::{Backend, Kind, Permit, Reason, Rejection};
use crate::clock::Instant;
use crate::config::{BackendId, RouteName};
use crate::error::ErrorType;
use crate::telemetry::{Lazily, PairHandles};

/// Most backends that a request remembers as passed over: more say nothing new about why it went where it went.
const MAX_PASSED_OVER: usize = 8;

/// What a request is like, as far as choosing a backend goes.
#[derive(Clone, Copy, Debug)]
pub struct Need {
    /// Whether it streams.
    pub stream: bool,
    /// Whether it is a reasoning call, which takes longer.
    pub reasoning: bool,
    /// Estimated tokens of its prompt, and of its outputs where it names their maximum.
    pub tokens: u64,
    /// How many outputs have none: they are estimated by what a backend's answers come to.
    pub open_outputs: u64,
    /// When the request must be over.
    pub deadline: Instant,
    /// Attempts it may still make on its route; one where nothing may follow a failure.
    pub attempts_left: u32,
}

impl Need {
    /// Estimated tokens of a call to this backend (spec/resilience.md 4.1).
    pub(super) fn tokens_at(&self, backend: &Backend) -> u64 {
        if self.open_outputs == 0 {
            return self.tokens;
        }
        self.tokens.saturating_add(self.open_outputs.saturating_mul(backend.limiter().mean_output()))
    }

    /// When a call counts as a success.
    pub fn kind(&self) -> Kind {
        if self.stream { Kind::Stream } else { Kind::Unary }
    }
}

/// One request's way through its route. It keeps the table it began with, whatever is loaded meanwhile.
#[derive(Clone)]
pub struct Plan {
    table: Arc<Table>,
    route: Arc<RouteEntry>,
    asked: Arc<RouteEntry>,
    matched: Option<Arc<str>>,
    /// Fallback routes still to be tried, nearest first.
    waiting: VecDeque<RouteName>,
    visited: Vec<RouteName>,
    /// Most requests try one, which needs no room on the heap.
    first_tried: Option<BackendId>,
    further_tried: Vec<BackendId>,
    /// Those of the tried that may be called again, and from when on.
    again: Vec<(BackendId, Instant)>,
    attempts: usize,
    /// The largest context that was too small for it.
    too_small: Option<u64>,
    /// The only backend that may serve it, where it asks for what that one holds.
    only: Option<BackendId>,
    /// Who was passed over, and why, each once.
    passed_over: Vec<(BackendId, Reason)>,
    /// What it needs.
    pub need: Need,
}

impl Plan {
    /// Begins with the route that `model` names in a table; none if no route has the name.
    pub fn of(table: &Arc<Table>, model: &str, need: Need) -> Option<Self> {
        let route = table.find(model)?;
        let matched = route.matched(model).map(Arc::from);
        Some(Self::on(table, route, matched, need))
    }

    /// Begins with a route of a table, of which only one backend may serve.
    pub fn pinned(table: &Arc<Table>, route: &Arc<RouteEntry>, only: &BackendId, need: Need) -> Self {
        Self { only: Some(only.clone()), ..Self::on(table, route, None, need) }
    }

    /// Only this backend of the route may serve. False if it has no such.
    pub fn pin(&mut self, only: &BackendId) -> bool {
        let is_there = self.route.candidates().any(|member| member.backend.id() == only);
        if is_there {
            self.only = Some(only.clone());
        }
        is_there
    }

    fn on(table: &Arc<Table>, route: &Arc<RouteEntry>, matched: Option<Arc<str>>, need: Need) -> Self {
        Self {
            table: Arc::clone(table),
            route: Arc::clone(route),
            asked: Arc::clone(route),
            matched,
            waiting: VecDeque::new(),
            visited: Vec::new(),
            first_tried: None,
            further_tried: Vec::new(),
            again: Vec::new(),
            attempts: 0,
            too_small: None,
            only: None,
            passed_over: Vec::new(),
            need,
        }
    }

    /// Whether it was made by this table.
    pub(super) fn is_of(&self, table: &Arc<Table>) -> bool {
        Arc::ptr_eq(&self.table, table)
    }

    /// The route it is on.
    pub fn route(&self) -> &Arc<RouteEntry> {
        &self.route
    }

    /// The route that was asked for.
    pub fn asked(&self) -> &Arc<RouteEntry> {
        &self.asked
    }

    /// The metrics of an attempt with one of its candidates: those of the route that was asked for.
    pub fn handles<'a>(&'a self, candidate: &'a Candidate) -> &'a Arc<Lazily<PairHandles>> {
        if Arc::ptr_eq(&self.route, &self.asked) {
            return &candidate.handles;
        }
        self.asked.pair(candidate.backend.id()).unwrap_or(&candidate.handles)
    }

    /// Attempts begun so far.
    pub fn attempts(&self) -> usize {
        self.attempts
    }

    /// Whether a backend was tried in this request.
    pub fn has_tried(&self, backend: &BackendId) -> bool {
        self.first_tried.as_ref() == Some(backend) || self.further_tried.contains(backend)
    }

    /// Whether a backend may serve it and was not tried in this request.
    pub fn is_new(&self, backend: &BackendId) -> bool {
        self.only.as_ref().is_none_or(|only| only == backend) && !self.has_tried(backend)
    }

    /// A tried backend may be called once more, from `at` on.
    pub fn allow_again(&mut self, backend: &BackendId, at: Instant) {
        self.again.retain(|(known, _)| known != backend);
        self.again.push((backend.clone(), at));
    }

    /// No tried backend may be called once more.
    pub fn allow_none_again(&mut self) {
        self.again.clear();
    }

    /// A backend of the route had too small a context: only a larger or an unknown one is worth a call.
    pub fn note_too_small(&mut self, backend: &BackendId) {
        let size = self.route.candidates().find(|member| member.backend.id() == backend);
        let size = size.and_then(|member| member.backend.config().max_input_tokens);
        self.too_small = self.too_small.max(size);
    }

    /// A backend's turn had come, and it could not.
    pub(super) fn note_passed_over(&mut self, place: (usize, usize), reason: Reason) {
        let backend = self.route.tiers[place.0][place.1].backend.id();
        if self.passed_over.len() < MAX_PASSED_OVER && self.passed_over.iter().all(|(known, _)| known != backend) {
            self.passed_over.push((backend.clone(), reason));
        }
    }

    /// The first of those who were passed over, and why.
    pub fn passed_over(&self) -> &[(BackendId, Reason)] {
        &self.passed_over
    }

    /// Whether it may be worth the call, as far as the size of the context goes.
    pub(super) fn fits(&self, member: &Candidate) -> bool {
        match (self.too_small, member.backend.config().max_input_tokens) {
            (Some(too_small), Some(size)) => too_small < size,
            (None, _) | (_, None) => true,
        }
    }

    /// Whether it is a backend's turn.
    pub(super) fn turn(&self, backend: &BackendId, now: Instant) -> Turn {
        if self.is_new(backend) {
            return Turn::First;
        }
        match self.again.iter().find(|(known, _)| known == backend) {
            Some((_, at)) if *at <= now => Turn::Again,
            Some((_, at)) => Turn::Later(at.since(now)),
            None => Turn::Over,
        }
    }

    /// What the `*` of a wildcard route stands for in this request.
    pub fn matched(&self) -> Option<&str> {
        self.matched.as_deref()
    }

    /// Goes on with the next fallback route that was not visited: those of the route first asked for come before those of
    /// its fallbacks. `after` is the error that made it leave, for the lists that serve one error only. False if there is
    /// none.
    pub fn fall_back(&mut self, after: Option<ErrorType>) -> bool {
        if self.only.is_some() {
            return false;
        }
        self.visited.push(self.route.config.name.clone());
        let config = &self.route.config;
        let special = match after {
            Some(ErrorType::ContextWindowExceeded) => config.context_window_fallbacks.as_slice(),
            Some(ErrorType::ContentPolicyViolation) => config.content_policy_fallbacks.as_slice(),
            Some(_) | None => &[],
        };
        self.waiting.extend(special.iter().chain(&config.fallbacks).cloned());
        while let Some(name) = self.waiting.pop_front() {
            if self.visited.contains(&name) {
                continue;
            }
            if let Some(route) = self.table.find(name.as_str()) {
                self.route = Arc::clone(route);
                // A fallback's name may be one that a wildcard covers: it is that name's model that is wanted now.
                self.matched = route.matched(name.as_str()).map(Arc::from);
                return true;
            }
        }
        false
    }

    pub(super) fn note_tried(&mut self, backend: &BackendId) {
        self.attempts += 1;
        self.again.retain(|(known, _)| known != backend);
        if self.has_tried(backend) {
            return;
        }
        match &self.first_tried {
            None => self.first_tried = Some(backend.clone()),
            Some(_) => self.further_tried.push(backend.clone()),
        }
    }
}

/// Whether a backend may be called by this request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// It has not been.
    First,
    /// Once more.
    Again,
    /// Once more, after this time.
    Later(Duration),
    /// It has been, and that is all.
    Over,
}

/// The backend that was chosen, with leave to call it.
pub struct Chosen {
    /// Tier and place on the plan's route.
    pub place: (usize, usize),
    /// Leave for one attempt.
    pub permit: Permit,
    /// Whether this request has called it before.
    pub is_again: bool,
}

impl Chosen {
    /// The candidate on the plan's route.
    pub fn candidate<'a>(&self, plan: &'a Plan) -> &'a Candidate {
        &plan.route.tiers[self.place.0][self.place.1]
    }
}

/// Nobody can serve now: every backend of the route that may still be called, and why it cannot.
#[derive(Clone, Debug, Default)]
pub struct Exhausted {
    /// Backend and reason, in plan order.
    pub reasons: Vec<(BackendId, Rejection)>,
    /// Whether only the retry budget stood before one of them.
    pub is_out_of_budget: bool,
}

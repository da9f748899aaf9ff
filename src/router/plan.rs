//! One request's candidates: its route, and which backends it has already tried.

use std::collections::VecDeque;
use std::sync::Arc;

use super::table::{Candidate, RouteEntry, Table};
use crate::backend::{Permit, Rejection};
use crate::clock::Instant;
use crate::config::{BackendId, RouteName};
use crate::error::ErrorType;

/// What a request is like, as far as choosing a backend goes.
#[derive(Clone, Copy, Debug)]
pub struct Need {
    /// Whether it streams.
    pub stream: bool,
    /// Whether it is a reasoning call, which takes longer.
    pub reasoning: bool,
    /// Estimated tokens.
    pub tokens: u64,
    /// When the request must be over.
    pub deadline: Instant,
}

/// One request's way through its route. It keeps the table it began with, whatever is loaded meanwhile.
pub struct Plan {
    table: Arc<Table>,
    route: Arc<RouteEntry>,
    asked: Arc<RouteEntry>,
    matched: Option<Arc<str>>,
    /// Fallback routes still to be tried, nearest first.
    waiting: VecDeque<RouteName>,
    visited: Vec<RouteName>,
    tried: Vec<BackendId>,
    /// What it needs.
    pub need: Need,
}

impl Plan {
    /// Begins with the route that `model` names.
    pub(super) fn new(table: &Arc<Table>, route: &Arc<RouteEntry>, model: &str, need: Need) -> Self {
        Self {
            table: Arc::clone(table),
            route: Arc::clone(route),
            asked: Arc::clone(route),
            matched: route.matched(model).map(Arc::from),
            waiting: VecDeque::new(),
            visited: Vec::new(),
            tried: Vec::new(),
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

    /// Backends tried so far.
    pub fn tried(&self) -> &[BackendId] {
        &self.tried
    }

    /// Whether a backend was tried in this request.
    pub fn has_tried(&self, backend: &BackendId) -> bool {
        self.tried.contains(backend)
    }

    /// What the `*` of a wildcard route stands for in this request.
    pub fn matched(&self) -> Option<&str> {
        self.matched.as_deref()
    }

    /// Goes on with the next fallback route that was not visited: those of the route first asked for come before those of
    /// its fallbacks. `after` is the error that made it leave, for the lists that serve one error only. False if there is
    /// none.
    pub fn fall_back(&mut self, after: Option<ErrorType>) -> bool {
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
                return true;
            }
        }
        false
    }

    pub(super) fn note_tried(&mut self, backend: &BackendId) {
        self.tried.push(backend.clone());
    }
}

/// The backend that was chosen, with leave to call it.
pub struct Chosen {
    /// Tier and place on the plan's route.
    pub place: (usize, usize),
    /// Leave for one attempt.
    pub permit: Permit,
}

impl Chosen {
    /// The candidate on the plan's route.
    pub fn candidate<'a>(&self, plan: &'a Plan) -> &'a Candidate {
        &plan.route.tiers[self.place.0][self.place.1]
    }
}

/// Nobody can serve now: every untried backend of the route, and why not.
#[derive(Clone, Debug, Default)]
pub struct Exhausted {
    /// Backend and reason, in plan order.
    pub reasons: Vec<(BackendId, Rejection)>,
}

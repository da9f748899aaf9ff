//! One request's candidates: its route, and which backends it has already tried.

use std::sync::Arc;
use std::time::Duration;

use super::table::{Candidate, RouteEntry, Table};
use crate::backend::{Permit, Rejection};
use crate::clock::Instant;
use crate::config::{AttemptTimeouts, BackendId, RouteName};

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

impl Need {
    /// How long an attempt may wait for its first byte or first content.
    pub fn head_limit(&self, timeouts: &AttemptTimeouts) -> Duration {
        match (self.stream, self.reasoning) {
            (true, false) => timeouts.first_token,
            (true, true) => timeouts.first_token_reasoning,
            (false, false) => timeouts.first_byte,
            (false, true) => timeouts.first_byte_reasoning,
        }
    }
}

/// One request's way through its route. It keeps the table it began with, whatever is loaded meanwhile.
pub struct Plan {
    table: Arc<Table>,
    route: Arc<RouteEntry>,
    asked: Arc<RouteEntry>,
    visited: Vec<RouteName>,
    tried: Vec<BackendId>,
    /// What it needs.
    pub need: Need,
}

impl Plan {
    /// Begins with a route of the table.
    pub(super) fn new(table: &Arc<Table>, route: &Arc<RouteEntry>, need: Need) -> Self {
        Self {
            table: Arc::clone(table),
            route: Arc::clone(route),
            asked: Arc::clone(route),
            visited: vec![route.config.name.clone()],
            tried: Vec::new(),
            need,
        }
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

    /// Goes on with the next fallback route that was not visited. False if there is none.
    pub fn fall_back(&mut self) -> bool {
        let next = self.route.config.fallbacks.iter().find(|name| !self.visited.contains(name));
        let Some(route) = next.and_then(|name| self.table.find(name.as_str())).map(Arc::clone) else { return false };
        self.visited.push(route.config.name.clone());
        self.route = route;
        true
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

//! What health checks do to a backend's machine (spec/resilience.md 5). Nothing here touches the breaker's window.

use super::{Edge, HealthChange, Machine};
use crate::backend::health::{Checked, Found, Health, Verdict, clears};
use crate::backend::outcome::Block;
use crate::clock::Instant;
use crate::config::{HealthCheck, HealthCheckKind};

impl Machine {
    /// Takes in what a turn of the checker brought. A check of a kind that is not configured any more says nothing.
    pub fn checked(&mut self, checked: &Checked, now: Instant) {
        let Checked { kind, started, found } = *checked;
        if kind != self.policy.health_check.kind {
            return;
        }
        match found {
            Found::Good { is_listed } => self.lift_cleared(kind, is_listed, started, now),
            Found::Bad { class, hint, is_told: false } => self.block(class, hint, started, now),
            Found::Bad { is_told: true, .. } | Found::Served | Found::Expected | Found::Mute => {}
        }
        let verdict = found.verdict();
        if found != Found::Served {
            self.health.checked_at = now;
            self.edges.push(Edge::Checked(if verdict == Verdict::Failure { "failure" } else { "success" }));
        }
        if self.health.note(verdict, &self.policy.health_check) {
            self.tell_health(found.detail());
        }
    }

    /// Lifts a block whose cause is gone, as a check that began at `started` has shown; one by one, since each block has a
    /// scope of its own.
    pub fn lift(&mut self, block: Block, started: Instant, now: Instant) {
        if self.blocks.lift(block, started, now) {
            self.edges.push(Edge::Lifted(block));
        }
    }

    /// Goes on where the cell of an actor that is gone stands.
    pub fn resume_health(&mut self, seen: Health) {
        self.health = seen;
    }

    /// What another kind of check has found says nothing about this one: nobody stays unhealthy for want of checks.
    pub(super) fn follow_health_check(&mut self, earlier: &HealthCheck) {
        if self.policy.health_check.kind != earlier.kind && self.health.forget() {
            self.tell_health("reconfigured");
        }
    }

    fn lift_cleared(&mut self, kind: HealthCheckKind, is_listed: bool, started: Instant, now: Instant) {
        for block in Block::ALL.into_iter().filter(|block| clears(kind, *block, is_listed)) {
            self.lift(block, started, now);
        }
    }

    fn tell_health(&mut self, detail: &'static str) {
        let Health { is_healthy, failures, .. } = self.health;
        let check = self.policy.health_check.kind.name();
        self.edges.push(Edge::Health(HealthChange { is_healthy, check, failures, detail }));
    }
}

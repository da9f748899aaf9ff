//! The circuit of a host, which all backends there share: it hears only of names, connections and TLS
//! (spec/resilience.md 3.9).
//!
//! The machine is that of a backend with one rule left. The backends' actors write it, all of them on the control arbiter;
//! workers read its cell and claim its probe.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::circuit_breaker::{Change, Kind, StateName};
use super::machine::{Edge, Event, Machine, What};
use super::outcome::{Class, Effect, TimeoutKind};
use super::status::{Admission, BackendStatus, Reason, Rejection, Slot};
use crate::clock::Instant;
use crate::config::{BackendPolicy, CircuitBreaker};

/// The circuit of one host.
#[derive(Debug)]
pub struct Endpoint {
    /// `host:port`.
    name: String,
    status: BackendStatus,
    /// Only ever locked on the control arbiter, so never waited for.
    machine: Mutex<Machine>,
}

/// The policy of a host's circuit, from that of one of its backends: the open time is the backend's, the one rule is the
/// host's, and one connection is proof enough.
pub fn policy(of: &BackendPolicy) -> BackendPolicy {
    let circuit_breaker = CircuitBreaker {
        enabled: of.endpoint_breaker.enabled,
        consecutive_failures: Some(of.endpoint_breaker.consecutive_failures),
        failure_rate_threshold: None,
        slow_call_duration: None,
        half_open_calls: 1,
        max_wait_duration_in_half_open_state: None,
        slow_start: None,
        ..of.circuit_breaker.clone()
    };
    BackendPolicy { circuit_breaker, max_in_flight: u32::MAX, ..BackendPolicy::default() }
}

impl Endpoint {
    /// Starts closed. `policy` as made by [`policy`].
    pub fn new(name: String, policy: BackendPolicy, seed: u64, now: Instant) -> Arc<Self> {
        let status = BackendStatus::new(&policy);
        let endpoint = Self { name, status, machine: Mutex::new(Machine::new(policy, seed, now)) };
        // A breaker that is switched off says so.
        endpoint.step(now, |_, _| {});
        Arc::new(endpoint)
    }

    /// `host:port`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The circuit as read at `now`.
    pub fn state(&self, now: Instant) -> StateName {
        self.status.state(now)
    }

    /// When an open circuit becomes claimable.
    pub fn open_until(&self) -> Instant {
        self.status.open_until()
    }

    /// Whether a call may go there.
    pub fn admission(&self, now: Instant) -> Admission {
        match self.status.admission_by_circuit(now) {
            Admission::Denied(rejection) => Admission::Denied(of_host(rejection)),
            admission @ (Admission::Free | Admission::Probe(_)) => admission,
        }
    }

    /// Takes leave to go there, as a probe where the circuit asks for one.
    ///
    /// # Errors
    /// Why no call may go there now.
    pub(super) fn claim(&self, now: Instant) -> Result<Slot, Rejection> {
        self.status.claim(now).map_err(of_host)
    }

    /// Takes in what calls to one of its backends had to say. On the control arbiter.
    pub(super) fn settle(&self, events: &[Event], now: Instant) -> Vec<Change> {
        let events: Vec<Event> = events.iter().filter_map(said_of_host).collect();
        self.step(now, |machine, now| machine.settle(&events, now))
    }

    /// A connection was made outside of any call: an open circuit whose time is over closes. On the control arbiter.
    pub(super) fn connected(&self, now: Instant) -> Vec<Change> {
        let Ok(slot @ Slot { probe: true, .. }) = self.claim(now) else { return Vec::new() };
        let event =
            |what| Event { permit: 0, generation: slot.generation, host: slot, started: now, kind: Kind::Unary, what };
        let claimed = event(What::ClaimedHost { lease: now.plus(Duration::from_secs(1)) });
        self.settle(&[claimed, event(What::Reached { after: Duration::ZERO })], now)
    }

    /// Lets time pass. On the control arbiter.
    pub(super) fn advance(&self, now: Instant) -> Vec<Change> {
        self.step(now, |_, _| {})
    }

    /// Settings from the next outcome on. On the control arbiter.
    pub fn reconfigure(&self, policy: BackendPolicy, now: Instant) -> Vec<Change> {
        self.status.set_limits(&policy);
        self.step(now, |machine, now| machine.reconfigure(policy, now))
    }

    /// A backend's actor has panicked, and with its mailbox news of a claimed probe may be lost: the place comes back. On the
    /// control arbiter.
    pub(super) fn recount(&self, now: Instant) -> Vec<Change> {
        self.step(now, |machine, _| {
            let seen = self.status.circuit();
            machine.take_over(seen, now);
            machine.recount(seen);
        })
    }

    /// When it next has something to do by itself.
    pub(super) fn wake_at(&self) -> Option<Instant> {
        self.lock().wake_at()
    }

    fn step(&self, now: Instant, change: impl FnOnce(&mut Machine, Instant)) -> Vec<Change> {
        let mut machine = self.lock();
        machine.advance(self.status.circuit(), now);
        change(&mut machine, now);
        machine.publish(&self.status, now);
        let changes = machine.take_edges().into_iter().filter_map(|edge| match edge {
            Edge::Circuit(change) => Some(change),
            // Its probes are the backends' own calls, and no operator lays a hand on it.
            Edge::Blocked(_)
            | Edge::Lifted(_)
            | Edge::Probe(_)
            | Edge::Late
            | Edge::Override(_)
            | Edge::WouldOpen(_)
            | Edge::Checked(_)
            | Edge::Health(_) => None,
        });
        changes.collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Machine> {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn of_host(rejection: Rejection) -> Rejection {
    Rejection { reason: Reason::EndpointOpen, ..rejection }
}

/// What an event of a backend says about its host, in the words of the host's own circuit.
fn said_of_host(event: &Event) -> Option<Event> {
    let what = match event.what {
        What::Started { limit } => What::Started { limit },
        What::ClaimedHost { lease } => What::Claimed { lease },
        What::Reached { after } | What::Succeeded { after } => What::Succeeded { after },
        What::Failed { class, after, .. } => match effect(class) {
            Effect::Success => What::Succeeded { after },
            Effect::Failure => What::Failed { class, hint: None, after },
            Effect::Neutral | Effect::Caller | Effect::Gone | Effect::Cut | Effect::None => What::Dropped { after },
        },
        What::Overtaken { after } | What::Dropped { after } => What::Dropped { after },
        What::Claimed { .. } | What::ClaimedEarly { .. } | What::BrokeLater { .. } => return None,
    };
    Some(Event { generation: event.host.generation, what, ..*event })
}

/// What a failed call says about its host. An answer proves that it is there; a connection that was in use before, and then
/// silent or cut, proves nothing.
const fn effect(class: Class) -> Effect {
    match class {
        Class::Connect(_) | Class::Timeout(TimeoutKind::Connect) => Effect::Failure,
        Class::ServerError
        | Class::Timeout(TimeoutKind::Status)
        | Class::Truncated
        | Class::Malformed
        | Class::Overloaded
        | Class::RateLimited
        | Class::QuotaExhausted
        | Class::Auth
        | Class::Permission
        | Class::NotFound
        | Class::ContextWindow
        | Class::Policy
        | Class::CallerFault => Effect::Success,
        Class::Reset
        | Class::Timeout(TimeoutKind::FirstByte | TimeoutKind::FirstToken | TimeoutKind::Idle | TimeoutKind::Total)
        | Class::Local
        | Class::ClientGone
        | Class::Cut => Effect::None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::outcome::ConnectPhase;

    const START: Instant = Instant::from_nanos(1_000_000_000_000);
    const REFUSED: Class = Class::Connect(ConnectPhase::Connect);

    #[test]
    fn a_hosts_policy_is_its_own_rule_and_the_backends_open_time() {
        let mut of = BackendPolicy::default();
        of.endpoint_breaker.consecutive_failures = 9;
        of.circuit_breaker.slow_call_duration = Some(Duration::from_secs(1));
        of.circuit_breaker.max_wait_duration_in_half_open_state = Some(Duration::from_secs(1));
        of.circuit_breaker.wait_duration_in_open_state = Duration::from_secs(7);
        let found = policy(&of);
        let breaker = &found.circuit_breaker;
        let rules = (breaker.consecutive_failures, breaker.failure_rate_threshold, breaker.slow_call_duration);
        assert_eq!(rules, (Some(9), None, None));
        let rest = (breaker.half_open_calls, breaker.max_wait_duration_in_half_open_state, breaker.slow_start);
        assert_eq!(rest, (1, None, None));
        assert_eq!((breaker.wait_duration_in_open_state, found.max_in_flight), (Duration::from_secs(7), u32::MAX));
        assert_eq!(World::new().endpoint.name(), "api.test:443");
    }

    struct World {
        endpoint: Arc<Endpoint>,
        now: Instant,
        permits: u64,
    }

    impl World {
        fn new() -> Self {
            let mut policy = policy(&BackendPolicy::default());
            policy.circuit_breaker.jitter = 0;
            Self { endpoint: Endpoint::new("api.test:443".into(), policy, 7, START), now: START, permits: 0 }
        }

        fn pass(&mut self, millis: u64) {
            self.now = self.now.plus(Duration::from_millis(millis));
        }

        /// A call that goes there and comes to this; the reason if it may not go.
        fn call(&mut self, what: What) -> Result<Vec<Change>, Rejection> {
            let slot = self.endpoint.claim(self.now)?;
            self.permits += 1;
            let event = |what| Event {
                permit: self.permits,
                generation: 0,
                host: slot,
                started: self.now,
                kind: Kind::Unary,
                what,
            };
            let limit = Duration::from_secs(30);
            let began = match slot.probe {
                true => What::ClaimedHost { lease: self.now.plus(limit) },
                false => What::Started { limit },
            };
            Ok(self.endpoint.settle(&[event(began), event(what)], self.now))
        }

        fn fail(&mut self, class: Class) -> Result<Vec<Change>, Rejection> {
            self.call(What::Failed { class, hint: None, after: Duration::ZERO })
        }

        fn refuse(&mut self) -> Result<Vec<Change>, Rejection> {
            self.fail(REFUSED)
        }

        fn open(&mut self) {
            for _ in 0..5 {
                self.pass(10);
                self.refuse().unwrap();
            }
            assert_eq!(self.endpoint.state(self.now), StateName::Open);
        }
    }

    #[test]
    fn five_refused_connections_open_it_and_one_that_is_made_closes_it() {
        let mut world = World::new();
        world.open();
        let rejection = world.refuse().unwrap_err();
        assert_eq!(rejection, Rejection::lasting(Reason::EndpointOpen, Duration::from_secs(5)));
        world.pass(5_000);
        let slot = world.endpoint.claim(world.now).unwrap();
        assert!(slot.probe);
        assert_eq!(world.refuse().unwrap_err().reason, Reason::EndpointOpen, "one probe at a time");
        world.endpoint.settle(
            &[Event {
                permit: 99,
                generation: 0,
                host: slot,
                started: world.now,
                kind: Kind::Stream,
                what: What::ClaimedHost { lease: world.now.plus(Duration::from_secs(9)) },
            }],
            world.now,
        );
        let reached = What::Reached { after: Duration::from_millis(3) };
        let event =
            Event { permit: 99, generation: 0, host: slot, started: world.now, kind: Kind::Stream, what: reached };
        let changes = world.endpoint.settle(&[event], world.now);
        assert_eq!(changes.last().map(|change| change.to), Some(StateName::Closed));
    }

    #[test]
    fn an_answer_of_any_kind_ends_the_run_and_silence_says_nothing() {
        let answers = [Class::ServerError, Class::RateLimited, Class::CallerFault, Class::Malformed, Class::Auth];
        let silences = [Class::Timeout(TimeoutKind::FirstByte), Class::Reset, Class::ClientGone, Class::Local];
        for (classes, opens) in [(&answers[..], false), (&silences[..], true)] {
            for class in classes {
                let mut world = World::new();
                for call in [None, None, None, None, Some(*class), None] {
                    world.pass(10);
                    world.fail(call.unwrap_or(REFUSED)).unwrap();
                }
                assert_eq!(world.endpoint.state(world.now) == StateName::Open, opens, "{class:?}");
            }
        }
    }

    #[test]
    fn a_check_that_connects_is_its_probe_but_not_before_its_time() {
        let mut world = World::new();
        world.open();
        world.pass(4_999);
        assert_eq!(world.endpoint.connected(world.now), []);
        world.pass(1);
        world.endpoint.connected(world.now);
        assert_eq!(world.endpoint.state(world.now), StateName::Closed);
        assert_eq!(world.endpoint.connected(world.now), [], "and nothing more");
    }

    #[test]
    fn a_probe_that_is_dropped_gives_its_place_back() {
        let mut world = World::new();
        world.open();
        world.pass(5_000);
        world.call(What::Dropped { after: Duration::ZERO }).unwrap();
        assert!(world.call(What::Dropped { after: Duration::ZERO }).is_ok());
    }

    #[test]
    fn a_probe_of_which_no_news_came_gives_its_place_back_when_the_actor_is_replaced() {
        let mut world = World::new();
        world.open();
        world.pass(5_000);
        // Claimed, and then the mailbox is gone.
        assert!(world.endpoint.claim(world.now).unwrap().probe);
        world.pass(600_000);
        world.endpoint.advance(world.now);
        assert!(world.endpoint.claim(world.now).is_err(), "nothing else frees it");
        world.endpoint.recount(world.now);
        let reached = world.call(What::Reached { after: Duration::ZERO }).unwrap();
        assert_eq!(reached.last().map(|change| change.to), Some(StateName::Closed));
    }

    #[test]
    fn switched_off_it_admits_everything() {
        let mut off = BackendPolicy::default();
        off.endpoint_breaker.enabled = false;
        let mut world = World::new();
        world.endpoint.reconfigure(policy(&off), world.now);
        for _ in 0..50 {
            world.pass(10);
            world.refuse().unwrap();
        }
        assert_eq!(world.endpoint.admission(world.now), Admission::Free);
    }
}

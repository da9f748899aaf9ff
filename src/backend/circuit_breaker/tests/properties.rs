//! Promise 1 of spec/resilience.md 12: whatever happens, the breaker says what its definition says.

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::reference::{Reference, line};
use super::*;

/// Operations of one history at most.
const LONGEST: usize = 250;

/// One thing that happens.
#[derive(Clone, Copy, Debug)]
enum Operation {
    Wait(Duration),
    Begin(Kind),
    Claim,
    /// Ends one of the latest calls.
    End(usize, Effect),
    Break(usize),
    Lay(Hand),
    ForceOpenFor(Duration),
    Reset,
    Reload(usize),
}

/// Policies that a reload goes to and fro between.
fn policies() -> [Policy; 4] {
    let small = Policy { consecutive_failures: Some(3), minimum_calls: 4, jitter: 0, ..Policy::default() };
    let slow = Policy { slow_call_duration: Some(Duration::from_secs(2)), consecutive_failures: None, ..small.clone() };
    let limit = Some(Duration::from_secs(12));
    let hasty = Policy { max_wait_duration_in_half_open_state: limit, half_open_calls: 1, ..small.clone() };
    let wide = Policy { sliding_window: Duration::from_secs(70), failure_rate_threshold: Some(3_000), ..slow.clone() };
    [small, slow, hasty, wide]
}

fn operation() -> impl Strategy<Value = Operation> {
    let waits = [0, 1, 400, 1_000, 2_000, 5_000, 45_000, 61_000].map(Duration::from_millis);
    let months = Duration::from_secs(60 * 86_400);
    let effects =
        [Effect::Success, Effect::Failure, Effect::Neutral, Effect::Caller, Effect::Gone, Effect::Cut, Effect::None];
    let hands = [Hand::ForceOpen, Hand::ForceClosed { told: false }, Hand::Disabled, Hand::Auto, Hand::Auto];
    let effect = prop_oneof![
        4 => Just(Effect::Success),
        5 => Just(Effect::Failure),
        2 => prop::sample::select(effects.to_vec()),
    ];
    prop_oneof![
        40 => prop_oneof![Just(Kind::Stream), Just(Kind::Unary)].prop_map(Operation::Begin),
        30 => (0_usize..6, effect).prop_map(|(call, effect)| Operation::End(call, effect)),
        24 => prop::sample::select(waits.to_vec()).prop_map(Operation::Wait),
        15 => Just(Operation::Claim),
        4 => (0_usize..6).prop_map(Operation::Break),
        2 => prop::sample::select(hands.to_vec()).prop_map(Operation::Lay),
        1 => prop::sample::select(waits.to_vec()).prop_map(Operation::ForceOpenFor),
        1 => Just(Operation::Reset),
        1 => Just(Operation::Wait(months)),
        1 => (0_usize..4).prop_map(Operation::Reload),
    ]
}

/// A breaker and its definition, side by side.
struct Pair {
    breaker: CircuitBreaker,
    reference: Reference,
    calls: Vec<Record>,
    now: Instant,
}

impl Pair {
    fn new() -> Self {
        let [policy, ..] = policies();
        let breaker = CircuitBreaker::new(policy.clone(), 0, START);
        Self { breaker, reference: Reference::new(policy), calls: Vec::new(), now: START }
    }

    fn play(&mut self, operation: Operation) {
        let now = self.now;
        match operation {
            Operation::Wait(time) => {
                self.now = now.plus(time);
                let before = self.breaker.clone();
                assert_eq!(self.tell(now), tell(&before, now), "a read changes nothing");
            }
            Operation::Begin(kind) => self.begin(kind),
            Operation::Claim => self.claim(),
            Operation::End(call, effect) => self.end(call, effect),
            Operation::Break(call) => self.break_off(call),
            Operation::Lay(hand) => {
                self.breaker.lay(hand, now);
                self.reference.lay(hand, now);
            }
            Operation::ForceOpenFor(time) => {
                self.breaker.lay(Hand::ForceOpenUntil(now.plus(time)), now);
                self.reference.lay(Hand::ForceOpenUntil(now.plus(time)), now);
            }
            Operation::Reset => {
                self.breaker.reset(now);
                self.reference.reset(now);
            }
            Operation::Reload(policy) => {
                self.breaker.reconfigure(policies()[policy].clone(), now);
                self.reference.reload(policies()[policy].clone(), now);
            }
        }
        self.breaker.advance(self.now, MIDDLE);
        self.reference.advance(self.now);
        assert_eq!(tell(&self.breaker, self.now), self.reference.tell(self.now));
    }

    fn tell(&self, now: Instant) -> String {
        tell(&self.breaker, now)
    }

    /// The number of one of the latest calls.
    fn recent(&self, back: usize) -> Option<usize> {
        self.calls.len().checked_sub(back + 1)
    }

    fn add(&mut self, kind: Kind) -> Record {
        let (permit, generation) = (self.calls.len() as u64, self.reference.generation());
        let (after, effect) = (Duration::ZERO, Effect::None);
        let call = Record { permit, generation, started: self.now, kind, after, effect };
        self.calls.push(call);
        call
    }

    fn begin(&mut self, kind: Kind) {
        if self.reference.is_half_open_with_room() || tell(&self.breaker, self.now).starts_with("HalfOpen") {
            return;
        }
        self.reference.begin(self.now, kind);
        let Record { permit, generation, started, .. } = self.add(kind);
        self.breaker.begin(Start { permit, generation, started, kind, limit: LIMIT });
    }

    fn claim(&mut self) {
        if self.reference.is_claimable(self.now) {
            self.breaker.enter_half_open(self.now);
        } else if !self.reference.is_half_open_with_room() {
            return;
        }
        self.reference.claim(self.now);
        let call = self.add(Kind::Stream);
        self.breaker.claimed(call.permit, call.generation, call.started.plus(LEASE));
    }

    fn end(&mut self, back: usize, effect: Effect) {
        let Some(call) = self.recent(back).filter(|call| self.calls[*call].effect == Effect::None) else { return };
        // `Neutral` stands for "ended" here.
        self.calls[call].effect = Effect::Neutral;
        let after = self.now.since(self.calls[call].started);
        let recorded = self.breaker.record(Record { after, effect, ..self.calls[call] }, self.now, MIDDLE);
        assert_eq!(recorded.late, self.reference.end(call, effect, self.now), "late, at the end of call {call}");
    }

    fn break_off(&mut self, back: usize) {
        let Some(call) = self.recent(back).filter(|call| self.reference.may_break(*call)) else { return };
        if self.calls[call].effect == Effect::Caller {
            return;
        }
        // `Caller` stands for "broken" here.
        self.calls[call].effect = Effect::Caller;
        let after = self.now.since(self.calls[call].started);
        let recorded = self.breaker.record_mid_stream(Record { after, ..self.calls[call] }, self.now, MIDDLE);
        assert_eq!(recorded.late, self.reference.break_off(call, self.now), "late, at the break of call {call}");
    }
}

fn tell(breaker: &CircuitBreaker, now: Instant) -> String {
    let until = match (breaker.state(), breaker.hand()) {
        (State::Open { until }, _) => Some(*until),
        (State::Closed(_) | State::HalfOpen(_), _) => None,
    };
    let (level, run, failing) = (breaker.level(), breaker.run(), breaker.is_failing(now));
    line(breaker.name(), breaker.generation(), level, run, breaker.window(now), failing, until)
}

fn check_histories(operations: u32) {
    // Histories are half as long as the longest on average.
    let config = Config { cases: operations / (LONGEST as u32 / 2), failure_persistence: None, ..Config::default() };
    let histories = prop::collection::vec(operation(), 0..LONGEST);
    let result = TestRunner::new(config).run(&histories, |history| {
        let mut pair = Pair::new();
        history.into_iter().for_each(|operation| pair.play(operation));
        Ok(())
    });
    result.unwrap();
}

#[test]
fn the_breaker_says_what_its_definition_says() {
    check_histories(100_000);
}

#[test]
#[ignore = "the long form: a million operations"]
fn the_breaker_says_what_its_definition_says_in_a_million_operations() {
    check_histories(1_000_000);
}

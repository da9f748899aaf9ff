//! The breaker by its definition: lists of all that ever happened, looked through anew at every question.

use super::*;

/// One call of any generation.
struct Call {
    generation: u32,
    started: Instant,
    kind: Kind,
    limit: Duration,
    /// Of a probe.
    lease: Option<Instant>,
    /// Whether anybody will judge it.
    noted: bool,
    ended: bool,
    /// Generation after its success counted, and whether that was half-open.
    tag: Option<(u32, bool)>,
}

/// One outcome that counted.
struct Booked {
    generation: u32,
    started: Instant,
    at: Instant,
    entry: Entry,
    is_slow: bool,
}

/// What a probe said, or its lease.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Said {
    Ok(Instant),
    Caller,
    Neutral,
    Expired,
}

enum Naive {
    Closed { since: Instant },
    Open { until: Instant },
    HalfOpen { entered: Instant, log: Vec<Said> },
}

/// The reference model.
pub(super) struct Reference {
    policy: Policy,
    state: Naive,
    hand: Hand,
    generation: u32,
    level: u32,
    last_wait: Option<Duration>,
    calls: Vec<Call>,
    booked: Vec<Booked>,
    /// The window holds what was booked from here on.
    window_from: usize,
    times: Vec<(Kind, Duration)>,
}

impl Reference {
    pub(super) fn new(policy: Policy) -> Self {
        Self {
            policy,
            state: Naive::Closed { since: START },
            hand: Hand::Auto,
            generation: 0,
            level: 0,
            last_wait: None,
            calls: Vec::new(),
            booked: Vec::new(),
            window_from: 0,
            times: Vec::new(),
        }
    }

    /// Everything that can be asked of a breaker, in one line.
    pub(super) fn tell(&self, now: Instant) -> String {
        let sums = self.window(now);
        let until = match self.state {
            Naive::Open { until } => Some(until),
            Naive::Closed { .. } | Naive::HalfOpen { .. } => None,
        };
        let resolved = sums.0 + sums.1;
        line(
            self.name(),
            self.generation,
            self.level,
            self.run().len(),
            (sums.1, resolved),
            self.is_failing(now),
            until,
        )
    }

    pub(super) fn is_half_open_with_room(&self) -> bool {
        let Naive::HalfOpen { log, .. } = &self.state else { return false };
        let ok = log.iter().filter(|said| matches!(said, Said::Ok(_))).count();
        let probes = self.calls.iter().filter(|call| self.is_probe_under_way(call)).count();
        let most = self.policy.half_open_calls as usize;
        probes < most.min(ok + 1) && ok + probes < most
    }

    pub(super) fn is_claimable(&self, now: Instant) -> bool {
        self.hand == Hand::Auto && matches!(self.state, Naive::Open { until } if until <= now)
    }

    pub(super) fn generation(&self) -> u32 {
        self.generation
    }

    fn is_probe_under_way(&self, call: &Call) -> bool {
        call.lease.is_some() && call.generation == self.generation && !call.ended
    }

    fn name(&self) -> StateName {
        match (self.hand.name(), &self.state) {
            (Override::ForceOpen, _) | (Override::Auto, Naive::Open { .. }) => StateName::Open,
            (Override::Auto, Naive::HalfOpen { .. }) => StateName::HalfOpen,
            (Override::ForceClosed | Override::Disabled, _) | (Override::Auto, Naive::Closed { .. }) => {
                StateName::Closed
            }
        }
    }

    fn records(&self) -> bool {
        matches!(self.hand.name(), Override::Auto | Override::ForceClosed)
    }

    fn bucket(&self, at: Instant) -> u64 {
        at.as_nanos() / (self.policy.sliding_window.as_nanos() as u64).div_ceil(10)
    }

    fn of_this_generation(&self) -> impl Iterator<Item = &Booked> {
        self.booked.iter().filter(|booked| booked.generation == self.generation)
    }

    /// Successes, failures, slow ones, abandoned.
    fn window(&self, now: Instant) -> (u64, u64, u64, u64) {
        let mut sums = (0, 0, 0, 0);
        for booked in self.booked.iter().skip(self.window_from).filter(|booked| booked.generation == self.generation) {
            let (bucket, newest) = (self.bucket(booked.started), self.bucket(now));
            // When it came, it lay neither in the future nor before the window.
            let was_in = bucket <= self.bucket(booked.at) && self.bucket(booked.at) < bucket + 10;
            if !was_in || bucket > newest || bucket + 10 <= newest {
                continue;
            }
            sums.0 += u64::from(booked.entry == Entry::Success);
            sums.1 += u64::from(booked.entry == Entry::Failure);
            sums.2 += u64::from(booked.is_slow && booked.entry != Entry::Abandoned);
            sums.3 += u64::from(booked.entry == Entry::Abandoned);
        }
        sums
    }

    fn run(&self) -> Vec<Instant> {
        let successes = self.of_this_generation().filter(|booked| booked.entry == Entry::Success);
        let last_ok = successes.map(|booked| booked.started).max().unwrap_or(Instant::ZERO);
        let failures = self.of_this_generation().filter(|booked| booked.entry == Entry::Failure);
        failures.map(|booked| booked.started).filter(|started| last_ok < *started).collect()
    }

    fn expected(&self, kind: Kind) -> Option<Duration> {
        let of_kind = self.times.iter().rev().filter(|(other, _)| *other == kind).take(64);
        let mut times: Vec<Duration> = of_kind.map(|(_, time)| *time).collect();
        times.sort();
        // The least time that at least nine tenths do not exceed.
        let is_rank = |rank: &usize| times.len() * 9 <= rank * 10;
        let rank = (1..=times.len()).find(is_rank)?;
        (10 <= times.len()).then(|| times[rank - 1] * 2)
    }

    fn young(&self, from: Instant, now: Instant) -> u64 {
        let is_young = |call: &&Call| {
            let pending = call.generation == self.generation && call.noted && !call.ended && call.tag.is_none();
            let patience = self.expected(call.kind).unwrap_or(call.limit);
            pending && call.lease.is_none() && from <= call.started && now.since(call.started) <= patience
        };
        self.calls.iter().filter(is_young).count() as u64
    }

    fn is_failing(&self, now: Instant) -> bool {
        let run = self.run();
        let count = run.len() as u64;
        run.iter().min().is_some_and(|began| count * 10 >= 5 * (count + self.young(*began, now)))
    }

    fn trip(&self, now: Instant) -> Option<Cause> {
        let run = self.run();
        let count = run.len() as u64;
        if let (Some(limit), Some(began)) = (self.policy.consecutive_failures.map(u64::from), run.iter().min()) {
            let p = if count < 3 * limit { 8 } else { 5 };
            if count >= limit && count * 10 >= p * (count + self.young(*began, now)) {
                return Some(Cause::Run);
            }
        }
        let (ok, failed, slow, abandoned) = self.window(now);
        let least = u64::from(self.policy.minimum_calls);
        let nanos = (self.policy.sliding_window.as_nanos() as u64).div_ceil(10);
        let from = Instant::from_nanos((self.bucket(now) - 9) * nanos);
        if let Some(threshold) = self.policy.failure_rate_threshold.map(u64::from)
            && ok + failed >= least
            && failed * 10_000 >= threshold * (ok + failed + self.young(from, now))
        {
            return Some(Cause::Ratio);
        }
        let (n, slow) = (ok + failed + abandoned, slow + abandoned);
        let is_slow = slow * 10_000 >= u64::from(self.policy.slow_call_rate_threshold) * n;
        (self.policy.slow_call_duration.is_some() && n >= least && is_slow).then_some(Cause::Slow)
    }

    fn enter(&mut self, state: Naive) {
        self.state = state;
        self.generation += 1;
    }

    fn open(&mut self, now: Instant) {
        let base = self.policy.wait_duration_in_open_state.as_secs_f64();
        let cap = self.policy.max_wait_duration_in_open_state.as_secs_f64();
        let wait = Duration::from_secs_f64((base * f64::powi(2.0, self.level.min(30) as i32)).min(cap).max(1.0));
        self.level += 1;
        self.last_wait = Some(wait);
        self.enter(Naive::Open { until: now.plus(wait) });
    }

    pub(super) fn advance(&mut self, now: Instant) {
        if let Hand::ForceOpenUntil(until) = self.hand
            && until <= now
        {
            self.hand = Hand::Auto;
            self.enter(Naive::Open { until: now });
            return;
        }
        let generation = self.generation;
        let decay = self.policy.level_decay;
        if let (Naive::Closed { since }, Hand::Auto) = (&mut self.state, self.hand) {
            while self.level > 0 && since.plus(decay) <= now {
                let end = since.plus(decay);
                let within =
                    |booked: &&Booked| booked.generation == generation && *since <= booked.at && booked.at < end;
                let has = |entry| self.booked.iter().filter(within).any(|booked| booked.entry == entry);
                if has(Entry::Success) || !has(Entry::Failure) {
                    self.level -= 1;
                }
                *since = end;
            }
        }
        let Naive::HalfOpen { entered, log } = &mut self.state else { return };
        for call in self.calls.iter_mut().filter(|call| call.generation == generation && !call.ended) {
            if call.lease.is_some_and(|lease| lease <= now) {
                call.ended = true;
                log.push(Said::Expired);
            }
        }
        let expired = log.iter().rev().take_while(|said| **said == Said::Expired).count();
        let last_ok = log.iter().rev().find_map(|said| match said {
            Said::Ok(at) => Some(*at),
            Said::Caller | Said::Neutral | Said::Expired => None,
        });
        let since = last_ok.unwrap_or(*entered);
        let limit = self.policy.max_wait_duration_in_half_open_state;
        if 3 <= expired || limit.is_some_and(|limit| since.plus(limit) <= now) {
            let wait = self.last_wait.unwrap_or(self.policy.wait_duration_in_open_state);
            self.enter(Naive::Open { until: now.plus(wait) });
        }
    }

    pub(super) fn claim(&mut self, now: Instant) {
        if self.is_claimable(now) {
            self.enter(Naive::HalfOpen { entered: now, log: Vec::new() });
        }
        self.add(now, Kind::Stream, Some(now.plus(LEASE)));
    }

    pub(super) fn begin(&mut self, now: Instant, kind: Kind) {
        self.add(now, kind, None);
    }

    fn add(&mut self, started: Instant, kind: Kind, lease: Option<Instant>) {
        let noted = self.records() && (lease.is_some() || matches!(self.state, Naive::Closed { .. }));
        let generation = self.generation;
        self.calls.push(Call { generation, started, kind, limit: LIMIT, lease, noted, ended: false, tag: None });
    }

    /// An outcome. Says whether it was late.
    pub(super) fn end(&mut self, call: usize, effect: Effect, now: Instant) -> bool {
        let Call { generation, started, kind, lease, ended, .. } = self.calls[call];
        self.calls[call].ended = effect != Effect::Success;
        let is_void = lease.is_some() && ended;
        if generation != self.generation || is_void || matches!(self.state, Naive::Open { .. }) && self.records() {
            self.calls[call].ended = true;
            return true;
        }
        if !self.records() {
            return false;
        }
        let after = now.since(started);
        let limit = self.policy.slow_call_duration;
        let overdue = self.expected(kind).is_some_and(|expected| after > expected);
        let effect = match effect {
            Effect::Cut if overdue => Effect::Failure,
            Effect::Cut => Effect::Gone,
            Effect::Success | Effect::Failure | Effect::Neutral | Effect::Caller | Effect::Gone | Effect::None => {
                effect
            }
        };
        let is_slow = match effect {
            Effect::Success | Effect::Failure => limit.is_some_and(|limit| after > limit),
            Effect::Gone => limit.is_some_and(|limit| after >= limit),
            Effect::Neutral | Effect::Caller | Effect::None | Effect::Cut => false,
        };
        if effect == Effect::Success {
            self.times.push((kind, after));
        }
        let was_half_open = lease.is_some();
        match was_half_open {
            true => self.end_probe(effect, is_slow, now),
            false => self.end_closed(call, effect, is_slow, now),
        }
        if effect == Effect::Success {
            let is_half_open = matches!(self.state, Naive::HalfOpen { .. });
            self.calls[call].tag = Some((self.generation, is_half_open));
            self.calls[call].ended = was_half_open;
        }
        false
    }

    fn end_closed(&mut self, call: usize, effect: Effect, is_slow: bool, now: Instant) {
        self.calls[call].ended = true;
        let entry = match effect {
            Effect::Success => Entry::Success,
            Effect::Failure => Entry::Failure,
            Effect::Gone if is_slow => Entry::Abandoned,
            Effect::Gone | Effect::Neutral | Effect::Caller | Effect::None | Effect::Cut => return,
        };
        self.book(self.calls[call].started, entry, is_slow, now);
    }

    fn book(&mut self, started: Instant, entry: Entry, is_slow: bool, now: Instant) {
        self.booked.push(Booked { generation: self.generation, started, at: now, entry, is_slow });
        if self.trip(now).is_some() && self.hand == Hand::Auto {
            self.open(now);
        }
    }

    fn end_probe(&mut self, effect: Effect, is_slow: bool, now: Instant) {
        let calls = self.policy.half_open_calls as usize;
        let Naive::HalfOpen { log, .. } = &mut self.state else { panic!("a probe of another state") };
        match effect {
            Effect::Failure => return self.open(now),
            Effect::Success | Effect::Gone if is_slow => return self.open(now),
            Effect::Success => log.push(Said::Ok(now)),
            Effect::Caller => log.push(Said::Caller),
            Effect::Neutral => log.push(Said::Neutral),
            Effect::Gone | Effect::None | Effect::Cut => {}
        }
        let ok = log.iter().filter(|said| matches!(said, Said::Ok(_))).count();
        let since_other = log.iter().rev().take_while(|said| matches!(said, Said::Caller | Said::Expired));
        let caller = since_other.filter(|said| **said == Said::Caller).count();
        if calls <= ok || 3 <= caller {
            self.enter(Naive::Closed { since: now });
        }
    }

    /// A stream that breaks after its success. Says whether it was late.
    pub(super) fn break_off(&mut self, call: usize, now: Instant) -> bool {
        let Call { generation, tag, .. } = self.calls[call];
        self.calls[call].ended = true;
        if !self.records() {
            return generation != self.generation;
        }
        let Some((tag, is_half_open)) = tag else { return true };
        match self.state {
            Naive::Closed { .. } if tag == self.generation || is_half_open && tag + 1 == self.generation => {
                self.book(now, Entry::Failure, false, now);
                false
            }
            Naive::HalfOpen { .. } if tag == self.generation => {
                self.open(now);
                false
            }
            Naive::Closed { .. } | Naive::HalfOpen { .. } | Naive::Open { .. } => true,
        }
    }

    /// Whether its success was told and no end since.
    pub(super) fn may_break(&self, call: usize) -> bool {
        self.calls[call].tag.is_some()
    }

    pub(super) fn lay(&mut self, hand: Hand, now: Instant) {
        if self.hand.name() == hand.name() {
            self.hand = if hand.name() == Override::ForceClosed { self.hand } else { hand };
            return;
        }
        if self.hand == Hand::Disabled {
            self.level = 0;
        }
        self.hand = hand;
        self.enter(Naive::Closed { since: now });
    }

    pub(super) fn reset(&mut self, now: Instant) {
        self.level = 0;
        self.last_wait = None;
        self.enter(Naive::Closed { since: now });
    }

    pub(super) fn reload(&mut self, policy: Policy, now: Instant) {
        if policy.sliding_window != self.policy.sliding_window {
            self.window_from = self.booked.len();
        }
        self.policy = policy;
        if let Naive::HalfOpen { log, .. } = &self.state
            && self.policy.half_open_calls as usize <= log.iter().filter(|said| matches!(said, Said::Ok(_))).count()
        {
            self.enter(Naive::Closed { since: now });
        }
    }
}

pub(super) fn line(
    name: StateName,
    generation: u32,
    level: u32,
    run: usize,
    window: (u64, u64),
    is_failing: bool,
    until: Option<Instant>,
) -> String {
    let until = until.map(Instant::as_nanos);
    format!(
        "{name:?} generation {generation} level {level} run {run} window {window:?} failing {is_failing} until {until:?}"
    )
}

//! Scripts: what a circuit does to the calls of one backend, line by line.

mod properties;
mod reference;

use std::collections::HashMap;

use super::*;

/// Far from zero, as the process's own clock is.
const START: Instant = Instant::from_nanos(86_400_000_000_000);

/// Draw in the middle of the spread: open times without jitter.
const MIDDLE: f64 = 0.5;

/// Own limit of calls, until enough have succeeded.
const LIMIT: Duration = Duration::from_secs(30);

/// Right of a probe.
const LEASE: Duration = Duration::from_secs(10);

/// A breaker, and the calls that a script names.
struct Scene {
    breaker: CircuitBreaker,
    calls: HashMap<String, Record>,
    last: Recorded,
}

fn policy() -> Policy {
    Policy { jitter: 0, ..Policy::default() }
}

fn duration(word: &str) -> Duration {
    let millis = word.strip_suffix("ms").map(|number| number.parse::<f64>().unwrap());
    Duration::from_secs_f64(millis.map_or_else(|| word.strip_suffix('s').unwrap().parse().unwrap(), |ms| ms / 1e3))
}

impl Scene {
    fn new(policy: Policy) -> Self {
        let breaker = CircuitBreaker::new(policy, 0, START);
        Self { breaker, calls: HashMap::new(), last: Recorded::NOTHING }
    }

    /// `TIME WORD [NAMES…] [= EXPECTED…]`
    fn play(&mut self, line: &str) {
        let (action, expected) = line.split_once('=').unwrap_or((line, ""));
        let mut words = action.split_whitespace();
        let now = START.plus(duration(words.next().unwrap()));
        let word = words.next().unwrap();
        self.breaker.advance(now, MIDDLE);
        let names: Vec<&str> = words.collect();
        match word {
            "tick" => {}
            "reset" => drop(self.breaker.reset(now)),
            "auto" => drop(self.breaker.lay(Hand::Auto, now)),
            "disabled" => drop(self.breaker.lay(Hand::Disabled, now)),
            "force_closed" => drop(self.breaker.lay(Hand::ForceClosed { told: false }, now)),
            "force_open" => {
                let hand = names.first().map_or(Hand::ForceOpen, |time| Hand::ForceOpenUntil(now.plus(duration(time))));
                self.breaker.lay(hand, now);
            }
            "begin" | "claim" => names.iter().for_each(|name| self.begin(word, name, now)),
            end => names.iter().for_each(|name| self.end(end, name, now)),
        }
        for word in expected.split_whitespace() {
            assert!(
                self.is(word, now),
                "{line:?}: {:?}, {:?}, level {}",
                self.breaker,
                self.last,
                self.breaker.level()
            );
        }
    }

    fn begin(&mut self, word: &str, name: &str, started: Instant) {
        let kind = if name.starts_with('u') { Kind::Unary } else { Kind::Stream };
        if word == "claim" && matches!(self.breaker.state(), State::Open { .. }) {
            self.breaker.enter_half_open(started);
        }
        let (permit, generation) = (self.calls.len() as u64, self.breaker.generation());
        match word {
            "claim" => self.breaker.claimed(permit, generation, started.plus(LEASE)),
            _ => self.breaker.begin(Start { permit, generation, started, kind, limit: LIMIT }),
        }
        let (after, effect) = (Duration::ZERO, Effect::None);
        let before = self.calls.insert(name.to_owned(), Record { permit, generation, started, kind, after, effect });
        assert!(before.is_none(), "{name} twice");
    }

    fn end(&mut self, word: &str, name: &str, now: Instant) {
        let call = self.calls[name];
        let effect = match word {
            "ok" => Effect::Success,
            "fail" | "break" => Effect::Failure,
            "neutral" => Effect::Neutral,
            "caller" => Effect::Caller,
            "gone" => Effect::Gone,
            "cut" => Effect::Cut,
            "local" => Effect::None,
            other => panic!("no such word: {other}"),
        };
        let record = Record { after: now.since(call.started), effect, ..call };
        self.last = match word {
            "break" => self.breaker.record_mid_stream(record, now, MIDDLE),
            _ => self.breaker.record(record, now, MIDDLE),
        };
    }

    fn is(&self, word: &str, now: Instant) -> bool {
        let number = |text: &str| text.parse::<usize>().unwrap();
        let half = match self.breaker.state() {
            State::HalfOpen(half) => Some(half),
            State::Closed(_) | State::Open { .. } => None,
        };
        match word.split_once(':') {
            Some(("level", level)) => self.breaker.level() as usize == number(level),
            Some(("run", run)) => self.breaker.run() == number(run),
            Some(("pending", pending)) => self.breaker.pending() == number(pending),
            Some(("window", share)) => {
                let (failures, resolved) = self.breaker.window(now);
                format!("{failures}/{resolved}") == share
            }
            Some(("ok", ok)) => half.is_some_and(|half| half.ok as usize == number(ok)),
            Some(("expired", count)) => half.is_some_and(|half| half.expired as usize == number(count)),
            Some(("for", time)) => {
                matches!(self.breaker.state(), State::Open { until } if until.since(now) == duration(time))
            }
            Some(("by", cause)) => {
                let change = self.last.change.map(|change| change.cause);
                change.or(self.last.would_open).is_some_and(|found| found.name() == cause)
            }
            Some((other, _)) => panic!("no such word: {other}"),
            None => match word {
                "late" => self.last.late,
                "counted" => !self.last.late,
                "quiet" => self.last == Recorded::NOTHING,
                "failing" => self.breaker.is_failing(now),
                "well" => !self.breaker.is_failing(now),
                "ramp" => self.breaker.slow_start_from() == Some(now),
                "no_ramp" => self.breaker.slow_start_from().is_none(),
                state => self.breaker.name().name() == state,
            },
        }
    }
}

fn check_with(policy: Policy, script: &str) {
    let mut scene = Scene::new(policy);
    script.lines().map(str::trim).filter(|line| !line.is_empty()).for_each(|line| scene.play(line));
}

fn check(script: &str) {
    check_with(policy(), script);
}

#[test]
fn five_failures_in_a_row_open_and_longer_each_time() {
    check(
        "0s begin a b c d e
         1s fail a b c d = closed run:4 failing
         1s fail e       = open by:run for:5s level:1 run:0 pending:0
         5.9s tick       = open for:0.1s
         6s claim p      = half_open
         6s fail p       = open by:probe_failed for:10s level:2
         16s claim q     = half_open
         17s ok q        = half_open ok:1",
    );
}

#[test]
fn calls_under_way_count_for_the_backend_as_long_as_they_are_young() {
    // Five of seven are less than eight tenths; five of six are not.
    check(
        "0s begin a b c d e f g
         0s fail a         = closed run:1 well
         0s fail b c d e   = closed run:5 pending:2 failing
         1s gone f         = closed pending:1
         1s begin h
         1s fail h         = open by:run",
    );
    // By its own limit of 30 s while nothing is known of their pace.
    check(
        "0s begin a b f g h i
         30s begin c d e
         30s fail a b c d e = closed failing
         30s begin j k
         30.001s fail j     = open by:run",
    );
}

#[test]
fn a_long_run_needs_half_of_the_calls_only() {
    let begin: String = (0..30).map(|call| format!("0s begin f{call} s{call}\n")).collect();
    let fail = |calls: std::ops::Range<usize>| -> String { calls.map(|call| format!("1s fail f{call}\n")).collect() };
    check(&format!("{begin}{}1s tick = closed run:14\n", fail(0..14)));
    // From 15 = 3 × 5 on half of all calls is enough, and not before.
    let twenty: String = (0..10).map(|call| format!("0s begin f{call} s{call}\n")).collect();
    let no_ratio = Policy { failure_rate_threshold: None, ..policy() };
    check_with(no_ratio, &format!("{twenty}{}1s tick = closed run:10\n", fail(0..10)));
    let thirty: String = (0..15).map(|call| format!("0s begin f{call} s{call}\n")).collect();
    check(&format!("{thirty}{}1s fail f14 = open by:run\n", fail(0..14)));
    check(&format!("{begin}{}1s tick = closed run:29\n1s fail f29 = open by:run\n", fail(0..29)));
}

#[test]
fn a_success_cancels_failures_that_began_no_later_than_it() {
    check(
        "0s begin a
         1s begin b c d e s
         2s begin f
         3s fail a b c d = closed run:4
         3s ok s         = closed run:0 window:4/5
         3s fail e       = closed run:0 window:5/6
         3s fail f       = closed run:1",
    );
    // A late success of a call that began before the outage cancels nothing.
    check("0s begin s\n 10s begin a b c d e\n 11s fail a b c d\n 12s ok s = run:4\n 12s fail e = open by:run");
}

#[test]
fn the_ratio_counts_young_calls_against_itself() {
    let ratio = || Policy { consecutive_failures: None, ..policy() };
    let begin = "0s begin f1 f2 f3 f4 f5 s1 s2 s3 s4 s5\n";
    let end = "1s fail f1 f2 f3 f4 f5\n 1s ok s1 s2 s3 s4 = closed window:5/9\n";
    check_with(ratio(), &format!("{begin}{end}1s ok s5 = open by:ratio"));
    // Another call that is still young: 5 of 11.
    check_with(
        ratio(),
        &format!("{begin}1s begin y\n{end}1s ok s5 = closed\n 32s begin z\n 32s fail z = open by:ratio"),
    );
    // The window has passed them by.
    check_with(ratio(), &format!("{begin}{end}50s begin z\n 50s ok z = closed window:0/1"));
}

#[test]
fn slowness_opens_only_where_it_is_asked_to() {
    let slow = || Policy { slow_call_duration: Some(Duration::from_secs(2)), ..policy() };
    let calls = "0s begin a b c d e f g h i j\n";
    check_with(slow(), &format!("{calls}2s ok a b\n 3s ok c d e f g h i = closed\n 3s gone j = open by:slow level:1"));
    // Exactly as long as the limit: slow if the client gave up then, not if the answer came.
    check_with(slow(), &format!("{calls}2s ok a b c\n 2s gone d e f g h i j = closed"));
    check_with(slow(), &format!("{calls}2s ok a b\n 2s gone c d e f g h i = closed\n 2s gone j = open by:slow"));
    check(&format!("{calls}60s ok a b c d e\n 60s gone f g h i j = closed"));
}

#[test]
fn a_cut_call_is_a_failure_only_if_it_was_overdue() {
    let ten = "0s begin a b c d e f g h i j\n 1s ok a b c d e f g h i j = window:0/10\n";
    check(&format!("{ten}10s begin k l\n 12s cut k = window:0/10 pending:1\n 12.001s cut l = window:1/11 run:1"));
    // Ten times are needed, and of the same kind.
    check("0s begin a b c d e f g h i\n 1s ok a b c d e f g h i\n 10s begin k\n 39s cut k = window:0/9 run:0 quiet");
    check(&format!("{ten}10s begin uk\n 39s cut uk = window:0/10 run:0 quiet"));
}

#[test]
fn the_half_open_table_row_by_row() {
    let opened = "0s begin a b c d e\n 0s fail a b c d e = open for:5s level:1\n";
    let rows = [
        "5s claim p\n 6s ok p = ok:1\n 6s claim q r\n 6s ok q = ok:2\n 7s ok r = closed ramp level:1 window:0/0 by:probes_succeeded",
        "5s claim p q r\n 6s caller p q = half_open\n 7s caller r = closed ramp by:caller_faults",
        "5s claim p q r s\n 6s caller p q\n 7s neutral r\n 7s caller s = half_open",
        "5s claim p q r s\n 6s caller p q\n 7s ok r\n 7s caller s = half_open ok:1",
        "5s claim p\n 6s fail p = open for:10s level:2 no_ramp",
        "5s claim p q\n 6s fail p = open\n 6s ok q = open for:10s late",
        "5s claim p\n 6s gone p = half_open quiet_place",
        "5s claim p\n 6s local p = half_open quiet_place",
        "5s claim p\n 15s tick = half_open expired:1\n 15s ok p = half_open late",
        "5s claim p q\n 15s tick = expired:2\n 15s claim r\n 25s tick = open for:5s level:1",
        "5s claim p q\n 15s tick = expired:2\n 15s claim r\n 16s neutral r = expired:0",
        "5s claim p\n 6s reset = closed level:0 no_ramp\n 6s ok p = late",
    ];
    for row in rows {
        check(&format!("{opened}{}", row.replace("quiet_place", "counted")));
    }
    let slow = || Policy { slow_call_duration: Some(Duration::from_secs(2)), ..policy() };
    check_with(slow(), &format!("{opened}5s claim p\n 8s ok p = open by:probe_failed level:2"));
    check_with(slow(), &format!("{opened}5s claim p\n 7s gone p = open by:probe_failed level:2"));
    check_with(slow(), &format!("{opened}5s claim p\n 6.9s gone p = half_open level:1"));
}

#[test]
fn half_open_may_have_a_longest_wait() {
    let limited = || Policy {
        max_wait_duration_in_half_open_state: Some(Duration::from_secs(8)),
        jitter: 0,
        ..Policy::default()
    };
    let opened = "0s begin a b c d e\n 0s fail a b c d e\n 5s claim p\n";
    check_with(limited(), &format!("{opened}12.9s tick = half_open\n 13s tick = open for:5s level:1"));
    check_with(limited(), &format!("{opened}9s ok p = ok:1\n 16.9s tick = half_open\n 17s tick = open for:5s"));
}

#[test]
fn what_comes_of_an_earlier_generation_is_late() {
    check(
        "0s begin a b c d e x y z
         0s gone y z
         0s fail a b c d e = open for:5s
         3s fail x         = late for:2s
         5s claim p q r
         5s ok p q r       = closed ramp
         6s break p        = closed counted run:1
         6s begin m
         7s ok m           = run:0
         8s break m        = counted run:1
         8s fail x         = late run:1",
    );
}

#[test]
fn a_stream_that_breaks_counts_where_its_success_did() {
    let opened = "0s begin a b c d e\n 0s fail a b c d e = open\n 5s claim p\n 6s ok p = ok:1\n";
    // While still half-open; then also what it would have told later is over.
    check(&format!("{opened}7s break p = open by:probe_failed level:2"));
    // In the closed time that directly follows, also by a reset, and dated at the cut.
    check(&format!("{opened}6s claim q r\n 7s ok q r = closed\n 7.5s begin s\n 8s ok s\n 9s break q = counted run:1"));
    check(&format!("{opened}6s reset = closed\n 7s break p = counted run:1 window:1/1"));
    // In no later one, and not if its success was late.
    check(&format!("{opened}6s reset\n 7s reset = closed\n 7s break p = late run:0"));
    check(&format!("{opened}6s claim v\n 16s tick\n 16s ok v = late\n 17s break v = late half_open"));
}

#[test]
fn a_stream_that_breaks_later_is_a_failure_of_its_own_moment_and_not_a_slow_one() {
    let begin = "0s begin a b c d e f g h i j\n 1s ok a b c d e f g h i j\n";
    let slow = Policy {
        slow_call_duration: Some(Duration::from_secs(2)),
        slow_call_rate_threshold: 5_000,
        consecutive_failures: None,
        failure_rate_threshold: None,
        ..policy()
    };
    check_with(slow, &format!("{begin}30s break a b c d e f g h i j = closed window:10/20"));
    // Beneath an operator's hand: on time or late, but nothing is booked.
    check("0s disabled\n 1s begin a\n 2s ok a\n 3s break a = counted window:0/0");
    check("0s begin a\n 1s ok a\n 2s force_open\n 3s break a = late window:0/0");
    check("0s force_closed\n 1s begin a\n 2s ok a\n 3s break a = counted window:1/2");
}

#[test]
fn a_probe_teaches_the_pace_by_its_success_only() {
    let many = || Policy { half_open_calls: 10, ..policy() };
    let opened = "0s begin a b c d e\n 0s fail a b c d e = open\n";
    let probes = "5s claim k l m n o p q r s t\n";
    let closed = format!("{opened}{probes}6s ok k l m n o p q r s t = closed\n 10s begin x y\n");
    check_with(many(), &format!("{closed}12s cut x = window:0/0\n 12.001s cut y = window:1/1"));
    let neutral = format!("{opened}{probes}6s neutral k l m n o p q r s t\n 6s reset\n 10s begin x\n");
    check_with(many(), &format!("{neutral}39s cut x = window:0/0"));
}

#[test]
fn a_probes_stream_may_break_after_its_level_was_forgiven() {
    let opened = "0s begin a b c d e\n 0s fail a b c d e = open\n 5s claim p\n 6s ok p\n 6s claim q r\n 7s ok q r = closed level:1\n";
    check(&format!("{opened}67s tick = level:0\n 70s break p = counted run:1"));
}

#[test]
fn a_call_of_an_earlier_generation_is_not_waited_for() {
    let mut scene = Scene::new(policy());
    scene.play("0s begin a");
    let Record { permit, started, kind, .. } = scene.calls["a"];
    let generation = scene.breaker.generation() + 1;
    scene.breaker.begin(Start { permit: permit + 1, generation, started, kind, limit: LIMIT });
    scene.play("0s tick = pending:1");
    let breaker = CircuitBreaker::restarted(policy(), 7, Hand::ForceOpen, START);
    assert_eq!((breaker.hand(), breaker.slow_start_from()), (Hand::ForceOpen, Some(START)));
    assert_eq!((breaker.name(), breaker.generation()), (StateName::Open, 7));
    let off = CircuitBreaker::restarted(Policy { enabled: false, ..policy() }, 7, Hand::ForceOpen, START);
    assert_eq!(off.hand(), Hand::Disabled);
}

#[test]
fn an_override_decides_until_it_is_lifted() {
    let opened = "0s begin a b c d e\n 0s fail a b c d e = open level:1\n";
    let rows = [
        "1s force_open = open\n 400s tick = open level:1\n 400s auto = closed level:1 window:0/0 no_ramp",
        "1s force_open 10s = open\n 10.9s tick = open\n 11s tick = open for:0s level:1\n 11s claim p = half_open",
        "1s force_open 10s\n 5s force_open 20s\n 24s tick = open\n 24s claim p = open\n 25s tick = open for:0s",
        "1s disabled = closed\n 2s begin f g h i j\n 2s fail f g h i j = closed quiet window:0/0 pending:0\n 3s auto = level:0",
        "1s force_closed = closed\n 2s begin f g h i j k\n 2s gone k\n 2s fail f g h i = quiet\n 2s fail j = closed by:run run:5
         3s begin l\n 3s fail l = closed quiet window:6/6\n 4s force_closed\n 4s begin m\n 4s fail m = quiet run:7
         5s auto = closed run:0 window:0/0 level:1",
        "1s force_closed\n 2s begin f\n 2s disabled\n 3s fail f = late\n 4s force_open = open\n 4s auto = closed",
        "5s claim p\n 6s force_closed = closed\n 6s ok p = late window:0/0",
    ];
    for row in rows {
        check(&format!("{opened}{row}"));
    }
}

#[test]
fn a_level_is_forgiven_for_each_period_that_is_not_all_failures() {
    let opened = "0s begin a b c d e\n 0s fail a b c d e\n 5s claim p\n 5s fail p = level:2\n 15s claim q r s\n 15s ok q r s = closed level:2\n";
    check(&format!("{opened}74s tick = level:2\n 75s tick = level:1\n 135s tick = level:0\n 999s tick = level:0"));
    check(&format!("{opened}20s begin f\n 20s fail f\n 75s tick = level:2\n 135s tick = level:1"));
    check(&format!("{opened}20s begin f g\n 20s fail f\n 21s ok g\n 75s tick = level:1"));
    // Long silence: the bad period first, then the empty ones.
    check(&format!("{opened}20s begin f\n 20s fail f\n 195s tick = level:0"));
}

#[test]
fn open_times_double_up_to_their_cap_and_spread_by_jitter() {
    let table = [(0, 0.5, 5.0), (1, 0.5, 10.0), (6, 0.5, 300.0), (99, 0.5, 300.0), (0, 0.0, 4.0), (0, 1.0, 6.0)];
    let seconds = |policy: &Policy, level, jitter| open_wait(policy, level, jitter).as_secs_f64();
    for (level, jitter, expected) in table {
        assert!((seconds(&Policy::default(), level, jitter) - expected).abs() < 1e-6, "level {level}, jitter {jitter}");
    }
    // The spread never leaves the bounds, and no setting overflows.
    assert_eq!([(6, 1.0), (6, 0.0)].map(|(level, jitter)| seconds(&Policy::default(), level, jitter)), [300.0, 240.0]);
    let short = Policy { wait_duration_in_open_state: Duration::from_millis(20), ..Policy::default() };
    assert_eq!(seconds(&short, 0, 0.5), 1.0);
    let (wait, max) = (Duration::from_millis(20), Duration::from_millis(50));
    let shorter = Policy { wait_duration_in_open_state: wait, max_wait_duration_in_open_state: max, ..short };
    assert_eq!(seconds(&shorter, 3, 0.5), 1.0);
    let (wait, max) = (Duration::MAX, Duration::MAX);
    let endless = Policy { wait_duration_in_open_state: wait, max_wait_duration_in_open_state: max, ..shorter };
    assert!(1e9 < seconds(&endless, 40, 1.0));
}

#[test]
fn a_reload_that_asks_for_fewer_probes_closes_what_they_have_proven() {
    let mut scene = Scene::new(Policy { half_open_calls: 3, ..policy() });
    for line in ["0s begin a b c d e", "0s fail a b c d e = open", "5s claim p", "6s ok p = ok:1"] {
        scene.play(line);
    }
    let change = |calls| Policy { half_open_calls: calls, ..policy() };
    assert_eq!(scene.breaker.reconfigure(change(2), START.plus(Duration::from_secs(6))), None);
    // Else no further probe would have room, and the circuit would stay half-open.
    let closed = scene.breaker.reconfigure(change(1), START.plus(Duration::from_secs(6))).unwrap();
    assert_eq!(
        (closed.from, closed.to, closed.cause),
        (StateName::HalfOpen, StateName::Closed, Cause::ProbesSucceeded)
    );
}

#[test]
fn a_reload_that_changes_the_window_empties_it_and_nothing_else() {
    let mut scene = Scene::new(policy());
    scene.play("0s begin a b");
    scene.play("0s fail a = window:1/1 run:1 pending:1");
    let wider = Policy { sliding_window: Duration::from_secs(60), consecutive_failures: Some(1), ..policy() };
    assert_eq!(scene.breaker.reconfigure(wider, START), None);
    scene.play("0s tick = closed window:0/0 run:1 pending:1");
    // New thresholds count from the next outcome on.
    scene.play("1s fail b = open by:run");
    // Switched off, it is closed; an operator's hand outlasts that.
    assert!(scene.breaker.reconfigure(Policy { enabled: false, ..policy() }, START).is_some());
    assert_eq!((scene.breaker.hand(), scene.breaker.name()), (Hand::Disabled, StateName::Closed));
    scene.breaker.lay(Hand::ForceOpen, START);
    assert_eq!(scene.breaker.reconfigure(policy(), START), None);
    assert_eq!(scene.breaker.name(), StateName::Open);
}

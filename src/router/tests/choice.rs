//! Scripts: whom a request meets, and why not the others (spec/resilience.md 6.1, 9.2).

use super::*;
use crate::backend::machine::Command;
use crate::backend::{Call, Kind, Permit};
use crate::router::Desk;
use crate::telemetry::labels::{Label as _, PassedOver};

/// Longer than any script.
const HOUR: Duration = Duration::from_secs(3_600);

/// A worker's desk over a pool, on a paused clock.
struct Scene {
    table: Arc<Table>,
    desk: Desk,
    outbox: Arc<Outbox>,
    need: Need,
    plan: Option<Plan>,
    held: Vec<(String, Permit)>,
    why: String,
}

impl Scene {
    fn new(router: &Router, need: Need) -> Self {
        let (table, outbox) = (router.table(), Outbox::new());
        let desk =
            Desk::new(Arc::clone(&table), Arc::clone(&outbox), fastrand::Rng::with_seed(1)).without_virtual_start();
        Self { table, desk, outbox, need, plan: None, held: Vec::new(), why: String::new() }
    }

    fn backend(&self, name: &str) -> &Arc<Backend> {
        let found = self.table.backends().find(|backend| backend.id().as_str() == name);
        found.unwrap_or_else(|| panic!("no backend {name}"))
    }

    /// Somebody of the tier, with a permit that is held; else why nobody.
    fn next(&mut self) -> String {
        let plan = self.plan.as_mut().unwrap();
        match self.desk.next(plan, clock::now()) {
            Ok(chosen) => {
                let name = chosen.permit.backend().id().as_str().to_owned();
                let shown = format!("{name}{}", if chosen.permit.is_probe() { "*" } else { "" });
                self.held.push((name, chosen.permit));
                shown
            }
            Err(exhausted) => {
                let reasons = exhausted.reasons.iter().map(|(id, rejection)| {
                    let remaining =
                        rejection.remaining.map_or(String::new(), |wait| format!(" {}", wait.as_secs_f64()));
                    format!("{} {}{remaining}", id.as_str(), rejection.reason.name())
                });
                self.why = reasons.collect::<Vec<_>>().join(", ");
                if self.why.is_empty() {
                    self.why = "nobody".to_owned();
                }
                if exhausted.is_out_of_budget {
                    self.why.push_str(" over budget");
                }
                "-".to_owned()
            }
        }
    }

    fn take_held(&mut self, name: &str) -> Permit {
        let at = self.held.iter().position(|(held, _)| held == name).unwrap_or_else(|| panic!("{name} is not held"));
        self.held.remove(at).1
    }

    /// `WORD ARGUMENTS [= EXPECTED]`. In what is asked, `*` marks a probe and `-` that nobody can serve.
    async fn play(&mut self, line: &str) {
        let (action, expected) = line.split_once(" =").map_or((line, ""), |(action, after)| (action, after.trim()));
        let words: Vec<&str> = action.split_whitespace().collect();
        let now = clock::now();
        match words.as_slice() {
            // Further requests, one after the other, each with its first attempt.
            ["ask"] => {
                let mut met = Vec::new();
                for _ in expected.split_whitespace() {
                    self.plan = Plan::of(&self.table, "r", self.need);
                    met.push(self.next());
                }
                assert_eq!(met.join(" "), expected, "{line}");
            }
            // Further attempts of the last request.
            ["then"] => {
                let mut met = Vec::new();
                for _ in expected.split_whitespace() {
                    met.push(self.next());
                }
                assert_eq!(met.join(" "), expected, "{line}");
            }
            ["why"] => assert_eq!(self.why, expected, "{line}"),
            ["ok", names @ ..] => {
                names.iter().for_each(|name| self.take_held(name).settle(Outcome::Success, now));
            }
            ["fail", names @ ..] => {
                let failure = Outcome::failure(Class::ServerError);
                names.iter().for_each(|name| self.take_held(name).settle(failure, now));
            }
            ["limit", name, millis] => {
                let hint = Some(Duration::from_millis(millis.parse().unwrap()));
                self.take_held(name).settle(Outcome::Failure { class: Class::RateLimited, hint }, now);
            }
            // Extra attempts that count against the route's budget.
            ["extras"] => {
                let (_, extras) = self.table.find("r").unwrap().retry_budget.totals(now);
                assert_eq!(extras.to_string(), expected, "{line}");
            }
            // The same configuration is loaded again; the last request stays with the table it has.
            ["reload"] => {
                let ready = |member: &Candidate| {
                    let (backend, target) = (Arc::clone(&member.backend), Arc::clone(&member.target));
                    (backend.id().clone(), Ready { backend, target, tls: None })
                };
                let ready = self.table.find("r").unwrap().candidates().map(ready).collect();
                self.table = Table::build(&self.table.config, &ready, &Metrics::new(), Some(&self.table));
                self.desk.carry_over(&self.table);
            }
            // A request that goes on until nobody is left: how many served it, and the gates of the others.
            ["served", count] => {
                self.plan = Plan::of(&self.table, "r", self.need);
                let served = std::iter::from_fn(|| Some(self.next()).filter(|met| met != "-")).count();
                assert_eq!(served.to_string(), *count, "{line}");
                let why = self.why.split(", ").map(|reason| reason.split(' ').take(2).collect::<Vec<_>>().join(" "));
                let why = why.filter(|reason| reason != "nobody").collect::<Vec<_>>().join(", ");
                assert_eq!(why, expected, "{line}");
            }
            // A permit of this one, whoever's turn it is.
            ["hold", name] => {
                let call = Call { tokens: 1, kind: Kind::Unary, limit: HOUR, lease: now.plus(HOUR) };
                let permit = self.backend(name).try_take(call, now, &self.outbox);
                self.held.push(((*name).to_owned(), permit.unwrap()));
            }
            ["drop", names @ ..] => names.iter().for_each(|name| drop(self.take_held(name))),
            ["drain", name] => self.backend(name).status().set_draining(true),
            ["open", name, seconds] => {
                let time = Duration::from_secs(seconds.parse().unwrap());
                self.backend(name).command(Command::ForceOpenFor(time));
            }
            ["again", name, seconds] => {
                let at = now.plus(Duration::from_secs(seconds.parse().unwrap()));
                self.plan.as_mut().unwrap().allow_again(&BackendId::new(*name), at);
            }
            ["none_again"] => self.plan.as_mut().unwrap().allow_none_again(),
            ["small", name] => self.plan.as_mut().unwrap().note_too_small(&BackendId::new(*name)),
            ["wait", millis] => pass(Duration::from_millis(millis.parse().unwrap())).await,
            ["passed", name, reason] => {
                let route = self.table.find("r").unwrap();
                let member = route.candidates().find(|member| member.backend.id().as_str() == *name).unwrap();
                let reason = PassedOver::ALL.iter().find(|label| label.name() == *reason).unwrap();
                assert_eq!(member.handles.rejections(*reason).get().to_string(), expected, "{line}");
            }
            other => panic!("no such word: {other:?}"),
        }
        self.outbox.flush();
        pass(Duration::ZERO).await;
    }
}

/// Backends by name with further parameters, then what happens.
fn check_with(backends: &[(&str, &str)], strategy: &str, resilience: &str, need: fn(&mut Need), script: &str) {
    actix::System::new().block_on(async {
        tokio::time::pause();
        let router = pool(backends, strategy, resilience);
        let mut wanted = super::need();
        need(&mut wanted);
        let mut scene = Scene::new(&router, wanted);
        pass(Duration::ZERO).await;
        for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
            scene.play(line).await;
        }
    });
}

const THREE: [(&str, &str); 3] = [("a", ""), ("b", ""), ("c", "")];

/// A tier for each of `a`, `b`, `c`.
fn check(script: &str) {
    check_with(&THREE, "fallback", "", |_| {}, script);
}

/// `a`, `b`, `c` in one tier.
fn check_tier(script: &str) {
    check_with(&THREE, "load_balance", "", |_| {}, script);
}

#[test]
fn the_first_tier_with_a_candidate_serves_and_nobody_twice() {
    check("ask = a a a\n then = b c -\n why = nobody\n ask = a");
    // Every gate spills alike.
    check("open a 9\n ask = b");
    check("drain a\n ask = b\n then = c -\n why = a draining");
    check("ask = a\n limit a 700\n ask = b\n wait 699\n ask = b\n wait 1\n ask = a");
    check("ask = a\n limit a 700\n then = b\n limit b 300\n then = c -\n why = nobody\n ask = c\n wait 300\n ask = b");
}

#[test]
fn a_full_backend_spills_and_says_so() {
    let full = [("a", ", max_parallel_requests: 1"), ("b", ", max_parallel_requests: 2")];
    check_with(&full, "fallback", "", |_| {}, "ask = a b b -\n why = a saturated 2, b saturated 2\n drop a\n ask = a");
    let limited = [("a", ", rpm: 6"), ("b", ", tpm: 60")];
    check_with(&limited, "fallback", "", |_| {}, "ask = a b\n passed a local_rpm = 1\n wait 10000\n ask = a b");
    // An attempt that a limit forbade was none.
    let second = [("a", ""), ("b", ", rpm: 1"), ("c", "")];
    check_with(&second, "fallback", "", |_| {}, "hold b\n ask = a\n then = c\n passed b local_rpm = 1\n extras = 1");
}

#[test]
fn reasons_are_those_of_the_gate_that_lasts_longest() {
    check(
        "open a 9
         ask = b
         limit b 4000
         ask = c
         limit c 2500
         ask = -
         why = a forced_open 9, b rate_limited 4, c rate_limited 2.5
         wait 2500
         open c 1
         ask = -
         why = a forced_open 6.5, b rate_limited 1.5, c forced_open 1",
    );
    // A block that outlasts an open circuit, and the other way round.
    check("ask = a a\n limit a 9000\n drop a\n open a 5\n ask = b\n then = c -\n why = a rate_limited 9");
    check("ask = a\n limit a 900\n open a 5\n ask = b\n then = c -\n why = a forced_open 5");
}

#[test]
fn those_ahead_of_the_tier_that_serves_are_counted() {
    check(
        "open a 9
         open c 9
         ask = b b
         passed a forced_open = 2
         passed c forced_open = 0
         drain b
         ask = -
         passed a forced_open = 3
         passed b draining = 1
         passed c forced_open = 1",
    );
}

#[test]
fn a_probe_goes_first_where_another_backend_can_save_its_request() {
    // One at a time; the others go on, and its failure costs nobody an error.
    check_tier("open c 5\n wait 5001\n ask = c* a b a\n fail c\n ask = b a");
    // A probe of a lower tier waits for those above.
    check("open b 5\n wait 5001\n ask = a\n then = b* c");
    check("open a 5\n wait 5001\n ask = a* b\n ok a\n ask = a* a* b");
    // The one that has waited longest, then the first of the list.
    check_tier("open b 5\n open c 4\n wait 4001\n wait 1000\n ask = c* b* a");
    check_tier("open c 5\n open b 5\n wait 6001\n ask = b* c* a");
}

#[test]
fn a_probe_is_left_to_those_who_can_fail_over() {
    let last = |need: &mut Need| need.attempts_left = 1;
    check_with(&THREE, "load_balance", "", last, "open c 5\n wait 5001\n ask = a b a b");
    let two = |need: &mut Need| need.attempts_left = 2;
    check_with(&THREE, "load_balance", "", two, "open c 5\n wait 5001\n ask = c*");
    check_with(&THREE, "load_balance", "", last, "ask = a\n open c 5\n wait 5001\n then = b");
    // Two attempts of a second each must have time.
    let short = |need: &mut Need| need.deadline = clock::now().plus(Duration::from_secs(7));
    check_with(&THREE, "load_balance", "", short, "open c 5\n wait 5001\n ask = a");
    let enough = |need: &mut Need| need.deadline = clock::now().plus(Duration::from_millis(7_001));
    check_with(&THREE, "load_balance", "", enough, "open c 5\n wait 5001\n ask = c*");
    // Nobody else is closed: then it is better than nothing.
    check_with(&THREE[..1], "load_balance", "", last, "open a 5\n wait 5001\n ask = a* -\n why = a half_open_busy 1");
    check_with(&THREE, "fallback", "", last, "open a 5\n open b 9\n open c 9\n wait 5001\n ask = a* -");
}

#[test]
fn a_probes_right_ends_a_second_after_its_attempt_would() {
    let limits = "timeouts: {first_token: 4s, first_byte: 5s, idle: 7s}";
    let opened = "open a 5\n wait 5001\n ask = a*\n";
    let check = |need: fn(&mut Need), wait: u64| {
        let script = format!("{opened} wait {}\n ask = -\n wait 2\n ask = a*", wait - 1);
        check_with(&THREE[..1], "load_balance", limits, need, &script);
    };
    // The whole answer of one that does not stream: its head, and then a gap.
    check(|_| {}, 5_000 + 7_000 + 1_000);
    check(|need| need.stream = true, 4_000 + 1_000);
    // The request's own deadline, 3 s after the claim.
    check(|need| need.deadline = clock::now().plus(Duration::from_secs(8)), 3_000 + 1_000);
}

#[test]
fn credits_move_only_where_there_was_a_choice() {
    check_tier("ask = a b c a b c");
    // While b and c are out, a serves alone and owes nothing for it.
    check_tier("ask = a b\n drain b\n drain c\n ask = a a a");
    let two = [("a", ""), ("b", "")];
    let script = "ask = a\n open b 5\n ask = a a a\n drop a a a a\n wait 5001\n ask = b* a\n ok b\n ask = b*";
    check_with(&two, "load_balance", "circuit_breaker: {slow_start: off}", |_| {}, script);
}

#[test]
fn without_a_budget_only_a_good_backend_is_gone_to() {
    let none = "retry_budget: {budget_ratio: 0.01, min_retries: 0}";
    check_with(&THREE, "fallback", none, |_| {}, "ask = a\n then = b c -");
    check_with(&THREE, "fallback", none, |_| {}, "hold b\n fail b\n ask = a\n then = c -\n why = nobody over budget");
    // A second call of the same is an extra one, however good it is.
    check_with(&THREE[..1], "fallback", none, |_| {}, "ask = a\n again a 0\n then = -\n why = nobody over budget");
}

#[test]
fn a_reload_keeps_credits_and_a_request_of_before_takes_none() {
    check_tier("ask = a\n reload\n then = b c\n ask = b c a\n reload\n ask = b");
    check_tier("ask = a b\n reload\n ask = c a b\n then = c a -");
}

#[test]
fn a_backend_that_came_back_gets_a_tenth_at_first() {
    let two = [("a", ""), ("b", "")];
    let opened = "open b 5\n wait 5001\n ask = b*\n ok b\n ask = b* b*\n ok b b\n";
    let script = format!("{opened} ask = a a a a a b a a a a a a a a a a b\n wait 30000\n ask = a b a b a b");
    check_with(&two, "load_balance", "", |_| {}, &script);
}

#[test]
fn a_tried_backend_has_its_turn_again_when_it_is_let() {
    check(
        "ask = a\n then = b c -\n again a 3\n then = -\n why = a rate_limited 3\n wait 3000\n then = a -\n why = nobody",
    );
    check("ask = a\n then = b\n again a 0\n then = a c -");
    check("ask = a\n then = b\n again a 0\n none_again\n then = c -");
    check("ask = a\n then = b c\n again b 9\n again b 2\n then = -\n why = b rate_limited 2");
}

#[actix::test]
async fn what_was_too_long_goes_to_a_larger_context_only() {
    let sized = [("a", ""), ("b", ""), ("c", ""), ("d", "")];
    tokio::time::pause();
    let sizes = [Some(8_000), Some(9_000), None, Some(8_000)];
    let text: String = sized
        .iter()
        .zip(sizes)
        .map(|((name, _), size)| {
            let info = size.map_or(String::new(), |size| format!(", model_info: {{max_input_tokens: {size}}}"));
            format!(
                "  - {{model_name: {name}, litellm_params: {{model: m, api_key: k, api_base: 'http://{name}.test/v1'}}{info}}}\n"
            )
        })
        .collect();
    let route =
        "  - {model_name: r, routing_strategy: fallback, models: [{name: a}, {name: b}, {name: c}, {name: d}]}\n";
    let router =
        from_text(&format!("model_list:\n{text}router:\n{route}resilience: {{attempts: {{max_attempts: 9}}}}\n"));
    let mut scene = Scene::new(&router, need());
    for line in ["ask = a", "small a", "then = b c -", "why = d incompatible", "passed d incompatible = 1"] {
        scene.play(line).await;
    }
}

#[actix::test]
async fn a_weight_of_nothing_drains_a_backend_here() {
    tokio::time::pause();
    let backend = |name: &str| {
        format!(
            "  - {{model_name: {name}, litellm_params: {{model: m, api_key: k, api_base: 'http://{name}.test/v1'}}}}\n"
        )
    };
    let members = "[{name: a, weight: 0}, {name: b, weight: 1}]";
    let route = format!("  - {{model_name: r, routing_strategy: load_balance, models: {members}}}\n");
    let router = from_text(&format!("model_list:\n{}{}router:\n{route}", backend("a"), backend("b")));
    let mut scene = Scene::new(&router, need());
    pass(Duration::ZERO).await;
    for line in ["ask = b b", "drain b", "ask = -", "why = a draining, b draining"] {
        scene.play(line).await;
    }
}

#[actix::test]
async fn fallback_routes_follow_in_order_and_once() {
    tokio::time::pause();
    let backend = |name: &str| {
        format!(
            "  - {{model_name: {name}, litellm_params: {{model: m, api_key: k, api_base: 'http://{name}.test/v1'}}}}\n"
        )
    };
    let route = |name: &str, more: &str| format!("  - {{model_name: {name}, models: [{{name: b-{name}}}]{more}}}\n");
    let backends: String = ["b-r", "b-s", "b-t", "b-u", "b-long", "b-policy"].map(backend).concat();
    let routes = [
        route("r", ", fallbacks: [s, t]"),
        route("s", ", fallbacks: [u, r, t]"),
        route("t", ""),
        route("u", ""),
        route("long", ""),
        route("policy", ""),
    ];
    let lists =
        "litellm_settings: {context_window_fallbacks: [{r: [long]}], content_policy_fallbacks: [{r: [policy]}]}\n";
    let router = from_text(&format!("model_list:\n{backends}router:\n{}{lists}", routes.concat()));
    let way = |after: Option<ErrorType>| {
        let mut plan = router.plan("r", need()).unwrap();
        let mut way = Vec::new();
        while plan.fall_back(after) {
            way.push(plan.route().config.name.as_str().to_owned());
            assert_eq!(plan.asked().config.name.as_str(), "r");
        }
        way.join(" ")
    };
    use crate::error::ErrorType;
    // Those of the route that was asked for come first, then those of its fallbacks.
    assert_eq!(way(None), "s t u");
    assert_eq!(way(Some(ErrorType::RateLimit)), "s t u");
    assert_eq!(way(Some(ErrorType::ContextWindowExceeded)), "long s t u");
    assert_eq!(way(Some(ErrorType::ContentPolicyViolation)), "policy s t u");
}

#[actix::test]
async fn a_wildcard_says_what_its_star_stands_for() {
    let text = "model_list:\n  - {model_name: b, litellm_params: {model: m, api_key: k, api_base: 'http://b.test/v1'}}\nrouter:\n  - {model_name: 'gpt-*', models: [{name: b}]}\n";
    let router = from_text(text);
    let matched = |model: &str| router.plan(model, need()).map(|plan| plan.matched().map(str::to_owned));
    assert_eq!(matched("gpt-4o"), Some(Some("4o".to_owned())));
    assert_eq!(matched("b"), Some(None), "an exact name has no star");
    assert!(matched("gpt").is_none());
}

#[actix::test]
async fn a_fallback_that_a_wildcard_covers_stands_for_its_own_name() {
    let params = "litellm_params: {model: m, api_key: k, api_base: 'http://b.test/v1'}";
    let text = format!(
        "model_list:\n  - {{model_name: b, {params}}}\n  - {{model_name: c, {params}, model_info: {{id: c}}}}\nrouter:\n  - {{model_name: 'gpt-*', models: [{{name: b}}]}}\n  - {{model_name: r, models: [{{name: c}}], fallbacks: [gpt-4o, b]}}\n"
    );
    let mut plan = from_text(&text).plan("r", need()).unwrap();
    assert_eq!(plan.matched(), None);
    assert!(plan.fall_back(None));
    assert_eq!((plan.route().config.name.as_str(), plan.matched()), ("gpt-*", Some("4o")));
    assert!(plan.fall_back(None));
    assert_eq!((plan.route().config.name.as_str(), plan.matched()), ("b", None), "and an exact one for none");
}

/// A gate's state: its name as a reason (none: it lets through), further parameters, what brings it about before a second has
/// passed, and after it.
type Gate = (Option<&'static str>, &'static str, &'static str, &'static str);

const GATES: [Gate; 10] = [
    (None, "", "", ""),
    (None, "", "", ""),
    (None, "", "open X 1", ""),
    (Some("half_open_busy"), "", "open X 1", "hold X"),
    (Some("forced_open"), "", "", "open X 60"),
    (Some("circuit_open"), "", "", "hold X\nfail X\nhold X\nfail X\nhold X\nfail X\nhold X\nfail X\nhold X\nfail X"),
    (Some("draining"), "", "", "drain X"),
    (Some("rate_limited"), "", "hold X\nlimit X 60000", ""),
    (Some("saturated"), ", max_parallel_requests: 1", "", "hold X"),
    (Some("local_rpm"), ", rpm: 1", "", "hold X"),
];

/// Promise 12 of spec/resilience.md: nobody is turned away while somebody could serve, and each reason is that of the gate.
fn check_pools(seeds: std::ops::Range<u64>) {
    for seed in seeds {
        let mut random = fastrand::Rng::with_seed(seed);
        let names = &["a", "b", "c", "d", "e"][..random.usize(1..=5)];
        let gates: Vec<&Gate> = names.iter().map(|_| &GATES[random.usize(..GATES.len())]).collect();
        let backends: Vec<(&str, &str)> = names.iter().zip(&gates).map(|(name, gate)| (*name, gate.1)).collect();
        let strategy = if random.bool() { "fallback" } else { "load_balance" };
        let of = |when: fn(&Gate) -> &'static str| -> String {
            names.iter().zip(&gates).map(|(name, gate)| when(gate).replace('X', name) + "\n").collect()
        };
        let free = gates.iter().filter(|gate| gate.0.is_none()).count();
        let script = format!("{}wait 1001\n{}served {free}", of(|gate| gate.2), of(|gate| gate.3));
        let reasons = names.iter().zip(&gates).filter_map(|(name, gate)| Some(format!("{name} {}", gate.0?)));
        let script = format!("{script} = {}", reasons.collect::<Vec<_>>().join(", "));
        let resilience = "attempts: {max_attempts: 9}, retry_budget: {min_retries: 1000}, circuit_breaker: {consecutive_failures: 5}";
        let result = std::panic::catch_unwind(|| check_with(&backends, strategy, resilience, |_| {}, &script));
        assert!(result.is_ok(), "seed {seed}: {strategy}, {script}");
    }
}

#[test]
fn nobody_is_turned_away_while_somebody_could_serve() {
    check_pools(0..60);
}

#[test]
#[ignore = "the long form: five thousand pools"]
fn nobody_is_turned_away_in_five_thousand_pools() {
    check_pools(0..5_000);
}

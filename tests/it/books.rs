//! The books balance whatever happens: clients of all kinds while providers break, operators meddle and the file is edited;
//! then the text of `/metrics` alone must agree with itself, and with the access log (spec/observability.md 1.4).
//!
//! `BOOKS_SECONDS=3600 cargo test --test it -- books` is the long form.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use breakwater::clock;
use breakwater::simulator::{
    CutAt, Delay, Dialect, ErrorForm, Fault, HangAt, InBandError, Malformed, Rule, Stale, Template, Truncate,
};
use serde_json::{Value, json};

use crate::metrics::{histograms_add_up, none_falls};
use crate::support::{Ask, Ending, Gateway, PATIENCE, Providers, Sample, Scrape, route, status, status_as, wait_for};

/// Clients at once.
const CLIENTS: u64 = 6;

/// Calls at once of each backend.
const MAX_IN_FLIGHT: u64 = 2;

/// Length of the form that runs every time.
const SHORT: Duration = Duration::from_secs(6);

const BACKENDS: [&str; 3] = ["one", "two", "three"];

const ROUTES: [&str; 5] = ["fallback", "weighted", "patient", "backed", "hedged"];

/// Outcomes of attempts that are a backend's fault.
const UNJUDGED: [&str; 3] = ["success", "cancelled", "local_error"];

fn yaml(providers: &Providers, weight: u64) -> String {
    let hedge = "resilience: {hedge: {enabled: true, min_delay: 20ms}}";
    let patient = "resilience: {on_exhausted: [queue, reject], queue: {max_wait: 200ms, max_size: 4}}";
    let weighted = format!(
        "  - {{model_name: weighted, routing_strategy: load_balance, models: [{{name: one, weight: {weight}}}, {{name: two, weight: 2}}]}}\n"
    );
    let routes = [
        route("fallback", &BACKENDS, ""),
        weighted,
        route("patient", &["one"], patient),
        route("backed", &["two"], "fallbacks: [fallback]"),
        route("hedged", &["three", "one"], hedge),
    ];
    format!(
        "{}router:\n{}resilience: {{max_in_flight: {MAX_IN_FLIGHT}, timeouts: {{first_byte: 400ms, first_token: 400ms, idle: 300ms}}, \
         circuit_breaker: {{wait_duration_in_open_state: 1s}}}}\nauth: {{keys: [{{name: known, key: sk-known}}]}}\n",
        providers.models(&[]),
        routes.concat()
    )
}

/// What goes wrong at a provider, or nothing.
fn fault(random: &mut fastrand::Rng) -> Option<Fault> {
    let in_band = |at| {
        Fault::InBandError(InBandError {
            at,
            form: ErrorForm::Openai,
            code: None,
            message: None,
            headers: Default::default(),
        })
    };
    Some(match random.u32(0..16) {
        0 => status(503),
        1 => status(500),
        2 => status(429),
        3 => status_as(400, Template::ContextLength),
        4 => status(401),
        5 => Fault::Refuse,
        6 => Fault::AcceptReset,
        7 => Fault::Hang(HangAt::BeforeHeaders),
        8 => Fault::Hang(HangAt::AfterEvents(3)),
        9 => Fault::Reset(CutAt::AfterEvents(2)),
        10 => Fault::Truncate(Truncate::NoDone),
        11 => Fault::Malformed(Malformed::JsonCut),
        12 => in_band(random.usize(0..4)),
        13 => Fault::Stale(Stale::ResetOnReuse),
        _ => return None,
    })
}

/// What a run counts for itself.
#[derive(Default)]
struct Sent {
    number: AtomicU64,
    /// Requests whose client stayed until the answer's end.
    stayed: AtomicU64,
    over: AtomicBool,
}

/// What the access log comes to, line by line: an hour's lines are more than a machine holds.
#[derive(Default)]
struct Log {
    lines: u64,
    requests: HashSet<u64>,
    recovered: u64,
    outcomes: BTreeMap<String, u64>,
    input_tokens: u64,
    output_tokens: u64,
    first_tokens: u64,
    waits: u64,
}

impl Log {
    /// Takes in what has come since it was last asked.
    fn follow(&mut self, gateway: &Gateway) {
        gateway.take_stdout().iter().for_each(|line| self.take(line));
    }

    fn take(&mut self, line: &str) {
        let line: Value = serde_json::from_str(line).expect("a line is one JSON object");
        self.lines += 1;
        let number = line["request_id"].as_str().and_then(|id| id.strip_prefix("books-")?.parse().ok());
        assert!(number.is_some_and(|number| self.requests.insert(number)), "one line per request, and here is {line}");
        let outcome = line["outcome"].as_str().unwrap();
        let has_failed = line["attempts"].as_str().is_some_and(|trail| trail.contains("_error"));
        self.recovered += u64::from(outcome == "success" && has_failed);
        *self.outcomes.entry(outcome.to_owned()).or_default() += 1;
        self.input_tokens += line["input_tokens"].as_u64().unwrap_or(0);
        self.output_tokens += line["output_tokens"].as_u64().unwrap_or(0);
        self.first_tokens += u64::from(line["ttft_ms"].is_number());
        self.waits += u64::from(line["queue_ms"].is_number());
    }
}

/// Says which request it was, if a client gives up.
struct Told<'a>(&'a Ask);

impl Drop for Told<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the request: {:?}", self.0);
        }
    }
}

fn signed(ask: Ask, key: &str, number: u64) -> Ask {
    ask.header("authorization", &format!("Bearer {key}")).header("x-request-id", &format!("books-{number}"))
}

/// Has somebody wait for a place: whether that comes about by itself is up to chance.
fn fill_a_line(gateway: &Gateway, providers: &Providers, sent: &Sent) {
    providers.fault("one", Fault::Latency(Delay::Fixed(300.0)));
    wait_for("a wait", || {
        // One more than there are places.
        let clients: Vec<_> = (0..=MAX_IN_FLIGHT)
            .map(|_| {
                let mut client = gateway.connect();
                let number = sent.number.fetch_add(1, Ordering::Relaxed);
                client.send(&signed(Ask::chat("patient"), "sk-known", number));
                client
            })
            .collect();
        for mut client in clients {
            client.finish();
            sent.stayed.fetch_add(1, Ordering::Relaxed);
        }
        (0.0 < gateway.scrape().sum("breakwater_queue_wait_seconds_count", &[])).then_some(())
    });
    providers.heal("one");
}

fn client(gateway: &Gateway, sent: &Sent, seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    while !sent.over.load(Ordering::Relaxed) {
        let number = sent.number.fetch_add(1, Ordering::Relaxed);
        let route = ROUTES[random.usize(..ROUTES.len())];
        let ask = match random.u32(0..24) {
            0 => Ask::chat("nobody-knows"),
            1 => Ask::post("/v1/chat/completions", "{"),
            2 => Ask::get("/v1/models"),
            3 => Ask::get("/v1/nowhere"),
            4 => Ask::embedding(route, "text"),
            5 => Ask::chat(route).header("x-request-timeout", "0.3"),
            n if n % 2 == 0 => Ask::chat_with(route, r#","max_tokens":4,"stream":true"#),
            _ => Ask::chat_with(route, r#","max_tokens":3"#),
        };
        let key = if random.u32(0..20) == 0 { "sk-strange" } else { "sk-known" };
        let ask = signed(ask, key, number);
        let _told = Told(&ask);
        let mut client = gateway.connect();
        client.send(&ask);
        if random.u32(0..10) == 0 {
            // Leaves: at once, later, or in the middle of the answer.
            if random.bool() {
                client.read_head();
            }
            continue;
        }
        let answer = client.finish();
        assert!(!answer.head.is_empty(), "a request got no answer: {ask:?}");
        if answer.status() == 200 && answer.header("content-type").is_some_and(|kind| kind.contains("json")) {
            assert_eq!(answer.ending, Some(Ending::Whole), "{ask:?}: {answer:?}");
        }
        sent.stayed.fetch_add(1, Ordering::Relaxed);
    }
}

/// Breaks and heals providers, edits the file, lays operators' hands on circuits.
fn chaos(gateway: &Gateway, providers: &Providers, sent: &Sent, seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    while !sent.over.load(Ordering::Relaxed) {
        let backend = BACKENDS[random.usize(..BACKENDS.len())];
        match random.u32(0..12) {
            0 => gateway.save(&yaml(providers, random.u64(1..6))),
            1 => gateway.save("model_list: 7\n"),
            2 | 3 => {
                let action = ["force_open", "force_closed", "disable", "auto", "auto", "reset"][random.usize(..6)];
                let path = format!("/admin/backends/{backend}/circuit");
                gateway.operate(&Ask::post(&path, json!({"action": action}).to_string()));
            }
            _ => {
                let rules = fault(&mut random).map(Rule::from).into_iter().collect();
                providers.rules(backend, rules);
            }
        }
        std::thread::park_timeout(Duration::from_millis(random.u64(5..120)));
    }
}

/// Counters never fall and buckets add up, under load too. Gives the log so far.
fn watch(gateway: &Gateway, sent: &Sent) -> Log {
    let mut log = Log::default();
    let mut before = gateway.scrape();
    while !sent.over.load(Ordering::Relaxed) {
        let after = gateway.scrape();
        none_falls(&before, &after);
        before = after;
        log.follow(gateway);
        std::thread::park_timeout(Duration::from_millis(50));
    }
    log
}

#[test]
fn they_balance_whatever_happens() {
    let seconds = std::env::var("BOOKS_SECONDS").ok().and_then(|seconds| seconds.parse().ok());
    let time = seconds.map_or(SHORT, Duration::from_secs);
    let seed = fastrand::u64(..);
    eprintln!("seed {seed}");
    let dialect = Dialect::OpenAi;
    let providers = Providers::start(&BACKENDS.map(|name| (name, dialect)));
    let gateway = Gateway::start(yaml(&providers, 1));
    let sent = Sent::default();
    fill_a_line(&gateway, &providers, &sent);
    let until = clock::now().plus(time);
    let mut log = std::thread::scope(|scope| {
        for number in 0..CLIENTS {
            let (gateway, sent) = (&gateway, &sent);
            scope.spawn(move || client(gateway, sent, seed ^ number));
        }
        scope.spawn(|| chaos(&gateway, &providers, &sent, !seed));
        let watched = scope.spawn(|| watch(&gateway, &sent));
        while clock::now() < until {
            std::thread::park_timeout(Duration::from_millis(20));
        }
        sent.over.store(true, Ordering::Relaxed);
        watched.join().unwrap()
    });
    BACKENDS.iter().for_each(|backend| providers.heal(backend));
    let scrape = settled(&gateway);
    let (number, stayed) = (sent.number.load(Ordering::Relaxed), sent.stayed.load(Ordering::Relaxed));
    let counted = scrape.sum("breakwater_requests_total", &[]);
    assert!(stayed as f64 <= counted && counted <= number as f64, "{stayed} stayed, {counted} counted, {number} sent");
    wait_for("the last line", || {
        log.follow(&gateway);
        (counted <= log.lines as f64).then_some(())
    });
    assert_eq!(log.lines as f64, counted, "one line per request");
    histograms_add_up(&scrape);
    eprintln!("{number} requests in {time:?}");
    Books { scrape: &scrape, log: &log }.balance();
}

/// The metrics once nothing is under way any more.
fn settled(gateway: &Gateway) -> Scrape {
    let until = clock::now().plus(PATIENCE);
    loop {
        let scrape = gateway.scrape();
        let left: Vec<_> = in_flight(&scrape).into_iter().filter(|(_, count)| *count != 0.0).collect();
        if left.is_empty() {
            return scrape;
        }
        assert!(clock::now() < until, "all clients are gone, and still there are {left:?}");
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

/// Identity 9.
fn in_flight(scrape: &Scrape) -> Vec<(&'static str, f64)> {
    let names = [
        "breakwater_requests_in_flight",
        "breakwater_attempts_in_flight",
        "breakwater_streams_in_flight",
        "breakwater_queue_depth",
        "breakwater_actor_mailbox_depth",
    ];
    names.map(|name| (name, scrape.sum(name, &[]))).to_vec()
}

struct Books<'a> {
    scrape: &'a Scrape,
    log: &'a Log,
}

impl Books<'_> {
    fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.scrape.sum(&format!("breakwater_{name}"), labels)
    }

    /// Over series of this name and label whose value of another label fits.
    fn sum_where(&self, name: &str, labels: &[(&str, &str)], label: &str, fits: impl Fn(&str) -> bool) -> f64 {
        let name = format!("breakwater_{name}");
        let is_meant = |sample: &&Sample| {
            sample.name == name
                && labels.iter().all(|(label, value)| sample.labels.get(*label).is_some_and(|known| known == value))
                && sample.labels.get(label).is_some_and(|value| fits(value))
        };
        self.scrape.0.iter().filter(is_meant).map(|sample| sample.value).sum()
    }

    fn balance(&self) {
        self.requests();
        for route in ROUTES.iter().chain(&["_none"]) {
            self.route(route);
        }
        self.attempts();
        self.streams();
        self.circuits();
        self.access_log();
    }

    /// Identities 1 and 2, over all routes.
    fn requests(&self) {
        let requests = self.sum("requests_total", &[]);
        assert_eq!(self.sum("responses_total", &[]), requests);
        assert_eq!(self.sum("client_requests_total", &[]), requests);
        let headed = self.sum_where("responses_total", &[], "code", |code| code != "499");
        assert_eq!(self.sum("overhead_seconds_count", &[]), headed);
    }

    /// Identities 2, 3, 4 and 6.
    fn route(&self, route: &str) {
        let of = [("route", route)];
        for stream in ["true", "false"] {
            let labels = [("route", route), ("stream", stream)];
            let durations = self.sum("request_duration_seconds_count", &labels);
            assert_eq!(durations, self.sum("requests_total", &labels), "{labels:?}");
        }
        let requests = self.sum("requests_total", &of);
        let started = |kind| self.sum("attempts_started_total", &[("route", route), ("kind", kind)]);
        assert_eq!(started("first") + self.sum("requests_unattempted_total", &of), requests, "route {route}");
        assert_eq!(self.sum("attempts_total", &of), self.sum("attempts_started_total", &of), "attempts of {route}");
        assert_eq!(started("retry"), self.sum("retries_total", &of), "retries of {route}");
        assert_eq!(started("failover"), self.sum("failovers_total", &of), "failovers of {route}");
        assert_eq!(started("hedge"), self.sum("hedges_total", &of), "hedges of {route}");
        let exhausted = self.sum("requests_total", &[("route", route), ("outcome", "exhausted")]);
        assert_eq!(self.sum("requests_exhausted_total", &of), exhausted, "exhausted of {route}");
    }

    /// Identities 4 and 5, over all routes.
    fn attempts(&self) {
        let fallbacks = self.sum("attempts_started_total", &[("kind", "fallback")]);
        assert_eq!(fallbacks, self.sum("fallbacks_total", &[("after", "failure")]), "fallbacks");
        for backend in BACKENDS {
            let of = |outcome| self.sum("attempts_total", &[("backend", backend), ("outcome", outcome)]);
            let durations =
                |result| self.sum("attempt_duration_seconds_count", &[("backend", backend), ("result", result)]);
            assert_eq!(durations("success"), of("success"), "{backend}");
            let failed =
                self.sum_where("attempts_total", &[("backend", backend)], "outcome", |word| !UNJUDGED.contains(&word));
            assert_eq!(durations("failure"), failed, "{backend}");
            let details = self.sum("attempt_failure_details_total", &[("backend", backend)]);
            assert_eq!(details, of("api_connection_error") + of("timeout_error"), "{backend}");
        }
    }

    /// Identity 7.
    fn streams(&self) {
        let ended = |reasons: &[&str]| -> f64 {
            reasons.iter().map(|reason| self.sum("streams_ended_total", &[("reason", reason)])).sum()
        };
        let broken = ended(&["upstream_error", "truncated", "idle_timeout", "total_timeout"]);
        assert_eq!(broken, self.sum("requests_total", &[("outcome", "stream_error")]));
        let well = self.sum("requests_total", &[("outcome", "success"), ("stream", "true")]);
        assert_eq!(ended(&["completed", "done_without_finish"]), well);
        assert!(self.sum("time_to_first_token_seconds_count", &[]) <= self.sum("streams_ended_total", &[]));
    }

    /// Identity 8.
    fn circuits(&self) {
        for backend in BACKENDS {
            let edges = |end| self.sum("circuit_transitions_total", &[("backend", backend), (end, "closed")]);
            let is_closed = 1.0 + edges("to") - edges("from");
            let state = self.sum("circuit_state", &[("backend", backend)]);
            assert_eq!(is_closed, f64::from(u8::from(state == 0.0)), "{backend} is in state {state}");
        }
    }

    /// Identities 1 and 6 by the lines, and the tokens of clients.
    fn access_log(&self) {
        let log = self.log;
        assert_eq!(self.sum("requests_recovered_total", &[]), log.recovered as f64);
        for (outcome, count) in &log.outcomes {
            assert_eq!(self.sum("requests_total", &[("outcome", outcome)]), *count as f64, "{outcome}");
        }
        for (tokens, kind) in [(log.input_tokens, "input"), (log.output_tokens, "output")] {
            assert_eq!(self.sum("client_tokens_total", &[("type", kind)]), tokens as f64, "{kind}");
            assert!(tokens as f64 <= self.sum("tokens_total", &[("type", kind)]), "{kind}");
        }
        let first_tokens = self.sum("time_to_first_token_seconds_count", &[]);
        assert_eq!(first_tokens, log.first_tokens as f64);
        // Of every answer that committed, also where its client had left before.
        assert!(first_tokens <= self.sum("attempt_time_to_first_token_seconds_count", &[]) && 0.0 < first_tokens);
        let (waited, waits) = (log.waits as f64, self.sum("queue_wait_seconds_count", &[]));
        assert!(waited <= waits && 0.0 < waited, "{waited} lines of {waits} waits");
    }
}

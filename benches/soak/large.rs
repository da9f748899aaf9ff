//! A thousand backends in three hundred routes: what it costs to read, to compare and to put in force, and whether a request
//! waits for it.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use breakwater::clock;
use breakwater::config::{SystemSource, diff, load_text};

use super::it::support::{Ask, Gateway, Providers};
use super::{Operator, hash, pause};

const BACKENDS: usize = 1_000;
const ROUTES: usize = 300;

/// Backends of a route.
const MEMBERS: usize = 4;

/// The judge's figure (issue of the living configuration): to build and to swap.
const BUDGET: Duration = Duration::from_millis(50);

/// Requests further apart than this in the same client's view have waited for something.
const QUIET: Duration = Duration::from_millis(300);

/// The `number`-th edit: other weights on every route.
fn text(address: &str, number: usize) -> String {
    let mut text = format!("# edit {number}\nserver: {{host: 127.0.0.1}}\nmodel_list:\n");
    for backend in 0..BACKENDS {
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "  - {{model_name: b{backend}, litellm_params: {{model: gpt-4o, api_key: key-{backend}, api_base: \"http://{address}/v1\"}}}}"
        );
    }
    text.push_str("router:\n");
    for route in 0..ROUTES {
        let member = |at: usize| {
            let (backend, weight) = ((route * MEMBERS + at) % BACKENDS, 1 + (number + at) % 5);
            format!("{{name: b{backend}, priority: 1, weight: {weight}}}")
        };
        let members: Vec<String> = (0..MEMBERS).map(member).collect();
        let _ = writeln!(text, "  - {{model_name: r{route}, models: [{}]}}", members.join(", "));
    }
    text
}

/// Milliseconds with a decimal.
fn ms(time: Duration) -> f64 {
    (time.as_secs_f64() * 10_000.0).round() / 10.0
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

/// Edits it so often and says what each step took. Judged, the run fails if building and swapping take longer than the budget:
/// on a machine that does something else beside it that says nothing.
pub(crate) fn run(providers: &Providers, edits: usize, is_judged: bool) {
    let address = providers.address("openai").to_string();
    providers.rules("openai", Vec::new());
    let gateway = Gateway::start(text(&address, 0));
    let mut operator = Operator::of(&gateway);
    let (is_over, is_editing) = (AtomicBool::new(false), AtomicBool::new(false));
    let (mut quiet, mut busy, mut applied) = (Vec::new(), Vec::new(), Vec::new());
    let mut resident = Vec::new();
    std::thread::scope(|scope| {
        let asker = scope.spawn(|| {
            let mut client = gateway.connect();
            let mut times = Vec::new();
            while !is_over.load(Ordering::Acquire) {
                let during = is_editing.load(Ordering::Acquire);
                let answer = client.ask(&Ask::chat("r7"));
                assert_eq!(answer.status(), 200, "{answer:?}");
                times.push((during || is_editing.load(Ordering::Acquire), answer.elapsed));
            }
            times
        });
        for number in 1..=edits {
            pause(QUIET);
            let edited = text(&address, number);
            is_editing.store(true, Ordering::Release);
            gateway.save(&edited);
            operator.wait(&hash(edited.as_bytes()), clock::now(), "a large file");
            is_editing.store(false, Ordering::Release);
            applied.push(operator.last_took());
            resident.push(super::Footprint::of(gateway.process()).resident_kib);
        }
        is_over.store(true, Ordering::Release);
        for (during, elapsed) in asker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)) {
            if during { busy.push(elapsed) } else { quiet.push(elapsed) }
        }
    });
    let read = |number: usize| {
        let text = text(&address, number);
        let began = clock::now();
        let loaded = load_text("config.yaml", &text, &SystemSource).unwrap_or_else(|report| panic!("{report}"));
        (clock::now().since(began), loaded.config)
    };
    let (mut loads, configs): (Vec<Duration>, Vec<_>) = (0..edits.max(2)).map(read).unzip();
    let began = clock::now();
    let changes = diff::changes(&configs[0], &configs[0], &configs[1]).len();
    let compared = clock::now().since(began);
    let slowest = |times: &[Duration]| times.iter().copied().max().unwrap_or_default();
    println!("\n{BACKENDS} backends in {ROUTES} routes, {edits} edits of every route");
    println!("read and checked in {} ms (on the watch's thread)", ms(median(&mut loads)));
    println!("compared in {} ms ({changes} changes told)", ms(compared));
    println!("compared and put in force in {} ms, slowest {} ms", ms(median(&mut applied)), ms(slowest(&applied)));
    let (few, all) = (ms(median(&mut quiet)), ms(median(&mut busy)));
    println!("a request's median {few} ms without and {all} ms with an edit under way");
    println!("the slowest {} ms without and {} ms with", ms(slowest(&quiet)), ms(slowest(&busy)));
    println!("resident memory {:?} KiB", (resident.first(), resident.last()));
    let whole = median(&mut loads) + median(&mut applied);
    println!("to build and to swap takes {} ms of {}", ms(whole), ms(BUDGET));
    assert!(!is_judged || whole <= BUDGET, "longer than the budget");
}

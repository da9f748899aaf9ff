//! Full load for long, while the primary breaks in one way after the other and the file changes: nothing may fail, nothing grow.
//!
//! Every fault shows before the first content of an answer, and a working backend stands by: so each request must be served,
//! and any error at all is one that nobody can explain.

use std::io::Write as _;
use std::time::Duration;

use breakwater::clock;

use crate::peers::Kind;
use crate::process::Process;
use crate::scenario::Scenario;
use crate::setting::Setting;
use crate::window::{self, Contestant, Span, Window};

/// What goes wrong with the primary, in turn; nothing, between two of them.
const TROUBLES: [&str; 6] = [
    r#"[{"fault":{"status":{"code":503}}}]"#,
    r#"[{"fault":"refuse"}]"#,
    r#"[{"fault":{"status":{"code":429,"retry_after":{"seconds":1}}}}]"#,
    r#"[{"fault":{"hang":"before_headers"}}]"#,
    r#"[{"fault":{"reset":"after_request"}}]"#,
    r#"[{"probability":0.3,"fault":{"status":{"code":500}}}]"#,
];

/// How long each lasts.
const TROUBLE: Duration = Duration::from_secs(5);

/// Connections that ask for whole answers, and that stream.
const ASKERS: usize = 48;
const STREAMERS: usize = 16;

/// Between two looks at the process.
const LOOK: Duration = Duration::from_secs(1);

/// A line is printed for so many looks.
const LOOKS_A_LINE: usize = 60;

/// Growth of resident memory between two tenths of the run that is more than noise of the allocator, in bytes.
const MAX_GROWTH: u64 = 4 << 20;

/// Connections may be under way at one look and not at another: as many as load comes over, on both sides.
const MAX_MORE_DESCRIPTORS: u64 = 2 * (ASKERS + STREAMERS) as u64;

/// What a look found.
#[derive(Clone, Copy)]
struct Look {
    resident: u64,
    descriptors: u64,
}

/// Runs for `span`. Must run inside a `LocalSet`.
///
/// # Errors
/// What failed or grew.
pub(crate) async fn run(setting: &Setting, span: Duration) -> Result<(), String> {
    let contestant = |scenario| setting.contestants(scenario).pop().ok_or("the gateway does not run");
    let (asked, streamed) = (contestant(Scenario::Endure)?, contestant(Scenario::EndureStreams)?);
    let process = asked.process.ok_or("the gateway has no process")?;
    let begun = clock::now();
    let loads = async { tokio::try_join!(keep(&asked, ASKERS, span), keep(&streamed, STREAMERS, span)) };
    let (whole, streams, looks) = tokio::select! {
        ended = async { tokio::try_join!(loads, watch(process, span)) } => {
            let ((whole, streams), looks) = ended?;
            (whole, streams, looks)
        }
        stopped = setting.keep_editing() => return Err(format!("the edits ended: {stopped:?}")),
        stopped = trouble(setting) => return Err(format!("the troubles ended: {stopped:?}")),
    };
    let reloads = setting.count("breakwater_config_reloads_total", "result=\"applied\"").await?;
    let failovers = setting.count("breakwater_failovers_total", "route=\"troubled\"").await?;
    say(&format!(
        "{:.0} s: {} whole answers, {} streams, {} errors, {failovers} failovers, {reloads} reloads",
        clock::now().since(begun).as_secs_f64(),
        whole.answered,
        streams.answered,
        whole.errors + streams.errors
    ));
    judge(&looks, whole.errors + streams.errors)
}

async fn keep(contestant: &Contestant<'_>, connections: usize, span: Duration) -> Result<Window, String> {
    window::drive(contestant, connections, Span { warm_up: Duration::ZERO, measured: span }).await
}

/// Never ends of itself.
async fn trouble(setting: &Setting) -> Result<(), String> {
    for rules in TROUBLES.iter().cycle() {
        setting.set_rules("troubled", rules).await?;
        tokio::time::sleep(TROUBLE).await;
        setting.set_rules("troubled", "[]").await?;
        tokio::time::sleep(TROUBLE).await;
    }
    Ok(())
}

async fn watch(process: &Process, span: Duration) -> Result<Vec<Look>, String> {
    let begun = clock::now();
    let mut looks = Vec::new();
    while clock::now().since(begun) < span {
        tokio::time::sleep(LOOK).await;
        let (Some(resident), Some(descriptors)) = (process.resident(), process.descriptors()) else {
            return Err("the gateway is gone".to_owned());
        };
        looks.push(Look { resident, descriptors });
        if looks.len() % LOOKS_A_LINE == 0 {
            say(&format!("{:>6} s {:>7.1} MiB {descriptors:>5} descriptors", looks.len(), mib(resident)));
        }
    }
    Ok(looks)
}

/// The second tenth of the run against the last: in the first, pools and buffers fill.
fn judge(looks: &[Look], errors: u64) -> Result<(), String> {
    let tenth = (looks.len() / 10).max(1);
    let median = |looks: &[Look], of: fn(&Look) -> u64| {
        let mut values: Vec<u64> = looks.iter().map(of).collect();
        values.sort_unstable();
        values.get(values.len() / 2).copied().unwrap_or_default()
    };
    let (early, late) = (&looks[tenth.min(looks.len())..(2 * tenth).min(looks.len())], &looks[looks.len() - tenth..]);
    let resident = [early, late].map(|looks| median(looks, |look| look.resident));
    let descriptors = [early, late].map(|looks| median(looks, |look| look.descriptors));
    say(&format!(
        "{} MiB in the second tenth, {} MiB in the last; {} and {} descriptors",
        mib(resident[0]).round(),
        mib(resident[1]).round(),
        descriptors[0],
        descriptors[1]
    ));
    let mut problems = Vec::new();
    if 0 < errors {
        problems.push(format!("{errors} requests failed, though one backend worked all the time"));
    }
    if resident[0] + MAX_GROWTH < resident[1] {
        problems.push("memory grew".to_owned());
    }
    if descriptors[0] + MAX_MORE_DESCRIPTORS < descriptors[1] {
        problems.push("descriptors grew".to_owned());
    }
    if problems.is_empty() { Ok(()) } else { Err(format!("{}: {}", Kind::Breakwater.name(), problems.join("; "))) }
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// A reader that is gone is no error.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

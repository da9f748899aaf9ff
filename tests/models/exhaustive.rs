//! Every order of steps of the permit protocol: loom plays each scene with all interleavings of three threads within a bound of
//! preemptions, and with all values that a weakly ordered load may see.
//!
//! ```text
//! cargo run --features models --example model_exhaustive              # two preemptions, some seconds: as CI runs it
//! cargo run --features models --example model_exhaustive -- --long    # three, minutes
//! ```
//!
//! A scene that does not hold panics; `LOOM_LOG=trace LOOM_LOCATION=1` then shows the steps.
#![expect(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "the files of src/backend bring more than a model needs, and a model that does not hold says so by a panic"
)]

use breakwater::{config, error};

#[path = "../../src/backend"]
mod backend {
    pub mod circuit_breaker;
    pub mod figures;
    pub mod health;
    pub mod latency;
    pub mod limiter;
    pub mod machine;
    pub mod outbox;
    pub mod outcome;
    pub mod permit;
    #[path = "../../tests/models/protocol.rs"]
    pub mod protocol;
    pub mod quota;
    pub mod scope;
    #[path = "../../tests/models/stage.rs"]
    pub mod stage;
    pub mod status;
    pub mod times;

    pub mod sync {
        pub use loom::sync::Mutex;
        pub use loom::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
        pub use loom::thread;
    }

    pub use self::stage::{Backend, Call};
}

/// Time stands still, but for what a scene hands in.
mod clock {
    pub use breakwater::clock::Instant;

    pub fn now() -> Instant {
        crate::backend::stage::START
    }
}

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Times that a thread is made to wait although it could go on: most faults of such protocols need one or two.
const PREEMPTIONS: usize = 2;

/// The same in the long form.
const PREEMPTIONS_LONG: usize = 3;

/// Steps of one play, far beyond any scene: only a loop that never ends comes near it.
const MAX_STEPS: usize = 20_000;

fn main() {
    let is_long = std::env::args().any(|argument| argument == "--long");
    let only = std::env::args().skip(1).find(|argument| !argument.starts_with("--")).unwrap_or_default();
    let bound = if is_long { PREEMPTIONS_LONG } else { PREEMPTIONS };
    let mut all = 0;
    for scene in backend::protocol::scenes().into_iter().filter(|scene| scene.name.contains(&only)) {
        let plays = Arc::new(AtomicU64::new(0));
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(bound);
        model.max_branches = MAX_STEPS;
        let (counted, play) = (Arc::clone(&plays), scene.play);
        model.check(move || {
            counted.fetch_add(1, Ordering::Relaxed);
            play();
        });
        let plays = plays.load(Ordering::Relaxed);
        all += plays;
        let _ = writeln!(std::io::stdout(), "{:<60} {plays:>9} orders", scene.name);
    }
    let _ = writeln!(std::io::stdout(), "{all} orders with at most {bound} preemptions: all hold");
}

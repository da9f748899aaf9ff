//! Random orders of steps of the permit protocol: shuttle plays each scene of the exhaustive model, and storms that are too
//! large for it, with schedules drawn from a seed.
//!
//! ```text
//! cargo run --features models --example model_random              # some seconds: as CI runs it
//! cargo run --features models --example model_random -- --long    # more than a million schedules, minutes
//! ```
//!
//! A schedule that does not hold is printed with the seed that leads to it.
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
    #[path = "../../tests/models/storm.rs"]
    pub mod storm;
    pub mod times;

    pub mod sync {
        pub use shuttle::sync::Mutex;
        pub use shuttle::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
        pub use shuttle::thread;
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

use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::{Config, Runner};

/// Schedules of each scene.
const SCHEDULES: usize = 200;

/// The same in the long form: more than a million in all.
const SCHEDULES_LONG: usize = 17_000;

/// The seed of the first schedule; each scene draws its own from it.
const SEED: u64 = 20_261_126;

/// Changes of priority in a schedule: bugs of such protocols need a few steps in a certain order, whatever lies between.
const DEPTH: usize = 3;

fn main() {
    let is_long = std::env::args().any(|argument| argument == "--long");
    let only = std::env::args().skip(1).find(|argument| !argument.starts_with("--")).unwrap_or_default();
    let count = if is_long { SCHEDULES_LONG } else { SCHEDULES };
    let mut scenes = backend::protocol::scenes();
    scenes.push(backend::storm::scene());
    let mut all = 0;
    for scene in scenes.into_iter().filter(|scene| scene.name.contains(&only)) {
        // Half of them even, half with priorities that change seldom.
        let (play, other) = (scene.play.clone(), scene.play);
        let even = Runner::new(RandomScheduler::new_from_seed(SEED, count), Config::default()).run(move || play());
        let seldom = PctScheduler::new_from_seed(SEED, DEPTH, count);
        let plays = even + Runner::new(seldom, Config::default()).run(move || other());
        all += plays;
        let _ = writeln!(std::io::stdout(), "{:<60} {plays:>9} schedules", scene.name);
    }
    let _ = writeln!(std::io::stdout(), "{all} schedules: all hold");
}

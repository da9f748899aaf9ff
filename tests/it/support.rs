//! What the stories share: a gateway as a child process, simulated providers in this one, and a client that hides nothing.
//!
//! Nothing here sleeps for luck: whoever waits names what for, and gives up loudly after [`PATIENCE`].

mod client;
mod gateway;
mod providers;
mod scrape;
mod scripted;

use std::time::Duration;

pub(crate) use self::client::{Answer, Ask, Client, Ending, words_of};
pub(crate) use self::gateway::{Gateway, Setup};
pub(crate) use self::providers::{Providers, rate_limited, route, status, status_as};
pub(crate) use self::scrape::{Sample, Scrape};
pub(crate) use self::scripted::{Scripted, in_chunks, missing, with_length};
use breakwater::clock;

/// Longest a story waits for something that must come: far above what a loaded machine needs, and below the limits that the
/// stories prove not to be waited for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Between two looks at something that cannot wake us, such as another process's metrics.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Looks until `found` finds something. `what` is said if it does not come.
pub(crate) fn wait_for<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let until = clock::now().plus(PATIENCE);
    loop {
        if let Some(it) = found() {
            return it;
        }
        assert!(clock::now() < until, "{what} did not come within {PATIENCE:?}");
        #[expect(clippy::disallowed_methods, reason = "it polls another process, which knows nobody to wake")]
        std::thread::sleep(LOOK_EVERY);
    }
}

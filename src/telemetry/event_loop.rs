//! How late a thread's event loop is: whoever blocks it makes everything on it wait, and shows here.

use std::time::Duration;

use prometheus::Histogram;

use crate::clock;

/// Between two ticks: often enough to meet a stall of a tenth of a second, too seldom to cost anything.
const TICK: Duration = Duration::from_millis(100);

/// Observes the calling thread's loop for as long as it runs.
pub async fn watch(lag: Histogram) {
    loop {
        let due = clock::now().plus(TICK);
        tokio::time::sleep_until(clock::to_tokio(due)).await;
        lag.observe(clock::now().since(due).as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::Metrics;

    #[tokio::test]
    async fn a_loop_that_was_blocked_is_late() {
        let lag = Metrics::new().event_loop_lag.child(&["worker"]);
        let watching = tokio::spawn(watch(lag.clone()));
        tokio::task::yield_now().await;
        // Blocked, as by a computation that does not give way.
        let until = clock::now().plus(TICK * 2);
        while clock::now() < until {
            std::hint::spin_loop();
        }
        while lag.get_sample_count() == 0 {
            tokio::task::yield_now().await;
        }
        watching.abort();
        assert!(TICK.as_secs_f64() / 2.0 < lag.get_sample_sum(), "{}", lag.get_sample_sum());
    }
}

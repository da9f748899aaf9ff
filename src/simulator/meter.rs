//! Counts requests and tokens in fixed windows: what `x-ratelimit-*` tells and what the fault `quota` enforces.

use std::time::Duration;

use crate::clock::Instant;

/// A window's counters.
#[derive(Debug, Default)]
pub(super) struct Meter {
    ends: Instant,
    requests: u64,
    tokens: u64,
}

/// What a window holds at most; an absent limit is none.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) requests: Option<u64>,
    pub(super) tokens: Option<u64>,
    pub(super) window: Duration,
}

/// What is left after a request was counted, or that it did not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reading {
    pub(super) requests: Dimension,
    pub(super) tokens: Dimension,
    /// Until the window ends.
    pub(super) reset: Duration,
    /// Whether the request was within the limits.
    pub(super) fits: bool,
}

/// One dimension of a reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Dimension {
    pub(super) limit: u64,
    /// Below zero when a request took more than there was.
    pub(super) remaining: i64,
}

impl Limits {
    /// Per-minute limits cut to a window: its share, at least one.
    pub(super) fn per_minute(requests: Option<u32>, tokens: Option<u32>, window_s: u32) -> Self {
        let share = |limit: u32| (u64::from(limit) * u64::from(window_s) / 60).max(1);
        Self {
            requests: requests.map(share),
            tokens: tokens.map(share),
            window: Duration::from_secs(u64::from(window_s)),
        }
    }
}

impl Meter {
    /// Counts a request, unless the window is used up. Tokens may overdraw: a provider learns the cost only afterwards.
    pub(super) fn count(&mut self, tokens: u64, limits: Limits, now: Instant) -> Reading {
        if self.ends <= now {
            *self = Self { ends: now.plus(limits.window), ..Self::default() };
        }
        let has_room = |used: u64, limit: Option<u64>| limit.is_none_or(|limit| used < limit);
        let fits = has_room(self.requests, limits.requests) && has_room(self.tokens, limits.tokens);
        if fits {
            self.requests += 1;
            self.tokens += tokens;
        }
        let dimension = |used: u64, limit: Option<u64>| {
            let limit = limit.unwrap_or(u64::from(u32::MAX));
            Dimension { limit, remaining: limit as i64 - used as i64 }
        };
        Reading {
            requests: dimension(self.requests, limits.requests),
            tokens: dimension(self.tokens, limits.tokens),
            reset: self.ends.since(now),
            fits,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_fill_and_start_anew() {
        let limits = Limits::per_minute(Some(120), Some(6000), 1);
        let mut meter = Meter::default();
        let start = Instant::from_nanos(5_000_000_000);
        let after = |millis| start.plus(Duration::from_millis(millis));
        let script = [
            (0, 10, true, 1, 90),
            (100, 200, true, 0, -110),
            (200, 1, false, 0, -110),
            (999, 1, false, 0, -110),
            (1000, 1, true, 1, 99),
        ];
        for (millis, tokens, fits, requests, left) in script {
            let reading = meter.count(tokens, limits, after(millis));
            assert_eq!(
                (reading.fits, reading.requests.remaining, reading.tokens.remaining),
                (fits, requests, left),
                "{millis}"
            );
        }
        assert_eq!(meter.count(1, limits, after(1250)).reset, Duration::from_millis(750));
    }
}

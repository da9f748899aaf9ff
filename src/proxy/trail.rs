//! What was tried for one request: the `x-breakwater-attempts` header, the log line and the error message.

use std::fmt::Write;
use std::time::Duration;

use smallvec::SmallVec;

use crate::config::BackendId;
use crate::error::ErrorType;
use crate::provider::push_name;
use crate::telemetry::labels::AttemptKind;

/// All attempts of one request, in the order of their ends.
#[derive(Clone, Debug, Default)]
pub struct Trail {
    entries: SmallVec<[Entry; 1]>,
}

/// One attempt that has ended, or has got its answer's head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Which backend was called.
    pub backend: BackendId,
    /// What came of it.
    pub result: AttemptResult,
    /// Call begun to result.
    pub elapsed: Duration,
    /// Why it was made.
    pub kind: AttemptKind,
}

/// What came of an attempt, as the trail shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptResult {
    /// This answer is served.
    Served(u16),
    /// It failed like this.
    Failed(ErrorType),
    /// Another attempt answered first.
    Cancelled,
}

/// The word for an attempt that was cancelled; the same as its `outcome` among the metrics.
const CANCELLED: &str = "cancelled";

impl Trail {
    /// Adds an attempt.
    pub fn push(&mut self, entry: Entry) {
        self.entries.push(entry);
    }

    /// All attempts so far.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Attempts on another backend than the first: `x-litellm-attempted-fallbacks`.
    pub fn attempted_fallbacks(&self) -> usize {
        self.entries.iter().filter(|entry| !matches!(entry.kind, AttemptKind::First | AttemptKind::Retry)).count()
    }

    /// Repeated attempts on the same backend: `x-litellm-attempted-retries`.
    pub fn attempted_retries(&self) -> usize {
        self.entries.iter().filter(|entry| entry.kind == AttemptKind::Retry).count()
    }

    /// Whether an attempt failed.
    pub fn has_failures(&self) -> bool {
        self.entries.iter().any(|entry| matches!(entry.result, AttemptResult::Failed(_)))
    }

    /// The value of `x-breakwater-attempts`: `openai-gpt4o=rate_limit_error;azure-gpt4o=200`; `-` before any attempt.
    /// Bytes of a name that a header or this form cannot carry are percent-encoded.
    pub fn header(&self) -> String {
        if self.entries.is_empty() {
            return "-".to_owned();
        }
        let mut text = String::with_capacity(32 * self.entries.len());
        for entry in &self.entries {
            if !text.is_empty() {
                text.push(';');
            }
            push_name(&mut text, entry.backend.as_str());
            text.push('=');
            match entry.result {
                AttemptResult::Served(status) => {
                    // Writing to a String cannot fail.
                    let _ = write!(text, "{status}");
                }
                AttemptResult::Failed(kind) => text.push_str(kind.name()),
                AttemptResult::Cancelled => text.push_str(CANCELLED),
            }
        }
        text
    }

    /// The list for an error message: `openai-gpt4o timeout_error 30000 ms; azure-gpt4o rate_limit_error 12 ms`.
    pub fn message(&self) -> String {
        let mut text = String::new();
        for entry in &self.entries {
            let gap = if text.is_empty() { "" } else { "; " };
            let ms = entry.elapsed.as_millis();
            let _ = match entry.result {
                AttemptResult::Served(status) => write!(text, "{gap}{} {status} {ms} ms", entry.backend),
                AttemptResult::Failed(kind) => write!(text, "{gap}{} {} {ms} ms", entry.backend, kind.name()),
                AttemptResult::Cancelled => write!(text, "{gap}{} {CANCELLED} {ms} ms", entry.backend),
            };
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trail_reads_as_specified() {
        let mut trail = Trail::default();
        assert_eq!((trail.header().as_str(), trail.message().as_str()), ("-", ""));
        for (name, result, ms, kind) in [
            ("openai-gpt4o", AttemptResult::Failed(ErrorType::RateLimit), 12, AttemptKind::First),
            ("openai-gpt4o", AttemptResult::Failed(ErrorType::Timeout), 30_000, AttemptKind::Retry),
            ("azure=é", AttemptResult::Served(200), 7, AttemptKind::Failover),
        ] {
            trail.push(Entry { backend: BackendId::new(name), result, elapsed: Duration::from_millis(ms), kind });
        }
        assert_eq!(trail.header(), "openai-gpt4o=rate_limit_error;openai-gpt4o=timeout_error;azure%3D%C3%A9=200");
        assert_eq!(
            trail.message(),
            "openai-gpt4o rate_limit_error 12 ms; openai-gpt4o timeout_error 30000 ms; azure=é 200 7 ms"
        );
        assert_eq!((trail.attempted_fallbacks(), trail.attempted_retries()), (1, 1));
    }

    #[test]
    fn a_cancelled_attempt_is_told_and_is_no_failure() {
        let mut trail = Trail::default();
        for (name, result, kind) in
            [("a", AttemptResult::Cancelled, AttemptKind::First), ("b", AttemptResult::Served(200), AttemptKind::Hedge)]
        {
            trail.push(Entry { backend: BackendId::new(name), result, elapsed: Duration::from_millis(7), kind });
        }
        assert_eq!(
            (trail.header().as_str(), trail.message().as_str()),
            ("a=cancelled;b=200", "a cancelled 7 ms; b 200 7 ms")
        );
        assert_eq!((trail.attempted_fallbacks(), trail.has_failures()), (1, false));
    }
}

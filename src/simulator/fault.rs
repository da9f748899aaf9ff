//! What can go wrong on purpose (spec/wire.md 8.2), as plain values that are also the control API's JSON.
//!
//! A fault without parameters is a word (`"refuse"`), one with parameters an object of one key
//! (`{"status":{"code":503}}`). Some faults exist only in streams: a rule with one of them passes over other requests.

mod parameters;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::delay::Delay;

pub use parameters::{
    CutAt, ErrorForm, HangAt, InBandError, LineEnd, Malformed, Quota, QuotaStyle, RetryAfter, Slow, Stale, Status,
    Template, Truncate, Wire,
};

/// One way to misbehave. Times are milliseconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Fault {
    /// Waits before the answer's head.
    Latency(Delay),
    /// Waits before the first content; replaces the setting `ttft_ms`.
    Ttft(Delay),
    /// Sends words at this rate; replaces the setting of the same name.
    TokensPerSecond(f64),
    /// Drips the head, throttles the body.
    Slow(Slow),
    /// Answers with an error.
    Status(Status),
    /// Answers 429 once a window's requests or tokens are used up; healthy below.
    Quota(Quota),
    /// The listener is closed, and so are idle connections. Takes neither `match`, `probability` nor `count`.
    Refuse,
    /// Accepts connections and never reads from them. Judged per connection: takes no `match`.
    Blackhole,
    /// Resets connections on accept. Judged per connection: takes no `match`.
    AcceptReset,
    /// Stops sending, and holds the connection until the client leaves.
    Hang(HangAt),
    /// Resets the connection (RST).
    Reset(CutAt),
    /// Closes the connection (FIN).
    Close(CutAt),
    /// Answers, and then the kept-alive connection turns out to be dead.
    Stale(Stale),
    /// Ends the answer before it is whole.
    Truncate(Truncate),
    /// Answers 200 with something unusable.
    Malformed(Malformed),
    /// An error inside a stream that began well. Streams only.
    InBandError(InBandError),
    /// Legal but unusual bytes.
    Wire(Wire),
}

/// When a fault is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// As long as its rule stands.
    Listener,
    /// When a connection is accepted.
    Connection,
    /// When a request has been read.
    Request,
    /// The same, and only if the request asks for a stream.
    Stream,
}

/// Largest padding of one event: four times what the gateway takes for one (spec/wire.md 1.3).
const MAX_LARGE_EVENT_BYTES: usize = 64 << 20;

/// Most parts of one padded event: each is a write, and all are planned before the first is made.
const MAX_PARTS: usize = 1 << 20;

impl Fault {
    /// When it is judged.
    pub(super) fn scope(&self) -> Scope {
        match self {
            Self::Refuse => Scope::Listener,
            Self::Blackhole | Self::AcceptReset => Scope::Connection,
            Self::InBandError(_)
            | Self::Hang(HangAt::BeforeFirstContent | HangAt::CommentsBeforeFirstContent(_) | HangAt::AfterEvents(_))
            | Self::Reset(CutAt::AfterEvents(_))
            | Self::Close(CutAt::AfterEvents(_))
            | Self::Truncate(Truncate::NoDone | Truncate::FinishNoDone)
            | Self::Malformed(Malformed::BadChunk | Malformed::JsonToStream) => Scope::Stream,
            Self::Latency(_)
            | Self::Ttft(_)
            | Self::TokensPerSecond(_)
            | Self::Slow(_)
            | Self::Status(_)
            | Self::Quota(_)
            | Self::Hang(HangAt::BeforeHeaders | HangAt::AfterHeaders)
            | Self::Reset(CutAt::AfterRequest | CutAt::AfterHeaders | CutAt::AfterBytes(_))
            | Self::Close(CutAt::AfterRequest | CutAt::AfterHeaders | CutAt::AfterBytes(_))
            | Self::Stale(_)
            | Self::Truncate(Truncate::ContentLength | Truncate::Chunked)
            | Self::Malformed(
                Malformed::JsonCut
                | Malformed::Html
                | Malformed::Empty
                | Malformed::ContentType
                | Malformed::Gzip
                | Malformed::Redirect,
            )
            | Self::Wire(_) => Scope::Request,
        }
    }

    /// Whether its parameters are possible; the error names the field.
    pub(super) fn check(&self) -> Result<(), String> {
        match self {
            Self::Status(status) if !(200..=599).contains(&status.code) => {
                Err("fault.status.code: must be 200 to 599".to_owned())
            }
            Self::Status(Status { headers, latency, .. }) => {
                latency.as_ref().map_or(Ok(()), |latency| check_delay("fault.status.latency", latency))?;
                check_headers("fault.status.headers", headers)
            }
            Self::Latency(delay) => check_delay("fault.latency", delay),
            Self::Ttft(delay) => check_delay("fault.ttft", delay),
            Self::InBandError(InBandError { headers, .. }) => check_headers("fault.in_band_error.headers", headers),
            Self::TokensPerSecond(rate) if !(0.001..=1e9).contains(rate) => {
                Err("fault.tokens_per_second: must be 0.001 to 1e9".to_owned())
            }
            Self::Quota(Quota { rpm: None, tpm: None, .. }) => {
                Err("fault.quota: needs `rpm` or `tpm` or both".to_owned())
            }
            Self::Quota(quota) if !(1..=3600).contains(&quota.window_s) => {
                Err("fault.quota.window_s: must be 1 to 3600".to_owned())
            }
            Self::Wire(wire) if wire.large_event_bytes.is_some_and(|size| MAX_LARGE_EVENT_BYTES < size.get()) => {
                Err(format!("fault.wire.large_event_bytes: must be at most {MAX_LARGE_EVENT_BYTES}"))
            }
            Self::Wire(Wire { large_event_bytes: Some(size), split_bytes: Some(split), .. })
                if MAX_PARTS < size.get() / split.get() =>
            {
                Err(format!("fault.wire.split_bytes: too small for this large_event_bytes, at most {MAX_PARTS} parts"))
            }
            Self::TokensPerSecond(_)
            | Self::Slow(_)
            | Self::Quota(_)
            | Self::Refuse
            | Self::Blackhole
            | Self::AcceptReset
            | Self::Hang(_)
            | Self::Reset(_)
            | Self::Close(_)
            | Self::Stale(_)
            | Self::Truncate(_)
            | Self::Malformed(_)
            | Self::Wire(_) => Ok(()),
        }
    }
}

fn check_delay(place: &str, delay: &Delay) -> Result<(), String> {
    delay.check().map_err(|problem| format!("{place}: {problem}"))
}

/// Whether these can be written into a head without breaking it.
fn check_headers(place: &str, headers: &BTreeMap<String, String>) -> Result<(), String> {
    let is_name = |name: &str| {
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
    };
    for (name, value) in headers {
        if !is_name(name) {
            return Err(format!("{place}: {name:?} is no header name"));
        }
        if value.bytes().any(|byte| matches!(byte, b'\r' | b'\n' | 0)) {
            return Err(format!("{place}.{name}: a value has no line ends"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_examples_are_faults() {
        let lines = include_str!("../simulator.rs").lines();
        let examples = lines.skip_while(|line| !line.contains("All faults by example")).skip(3);
        let text: String = examples.take_while(|line| !line.contains("```")).map(|line| &line[3..]).collect();
        let faults: Vec<Fault> =
            serde_json::Deserializer::from_str(&text).into_iter().collect::<Result<_, _>>().unwrap();
        assert!(30 < faults.len());
        let names = |faults: &[Fault]| {
            let names = faults.iter().map(|fault| {
                let json = serde_json::to_string(fault).unwrap();
                json.split('"').nth(1).unwrap().to_owned()
            });
            names.collect::<std::collections::BTreeSet<_>>()
        };
        let unknown = serde_json::from_str::<Fault>(r#""?""#).unwrap_err().to_string();
        let all = unknown.split('`').skip(3).step_by(2).map(str::to_owned).collect();
        assert_eq!(names(&faults), all);
        for fault in faults {
            fault.check().unwrap();
        }
    }
}

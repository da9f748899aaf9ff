//! How long a provider asks us to wait, and what it says is left (spec/resilience.md 4.2, spec/wire.md 5.2).
//!
//! Anything that does not match the grammar is ignored, never an error: the next source is tried. Caps and the meaning of a
//! hint of 0 are the quota machine's.

use std::time::{Duration, UNIX_EPOCH};

use super::error_fields::ErrorFields;
use crate::backend::ledger::{Dimension, Sample};

/// Looks up an answer header: its first value as text.
pub type Header<'a> = dyn Fn(Field) -> Option<&'a str> + 'a;

/// A wait a provider asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hint {
    /// From the answer's head on, 0 to seven days.
    pub wait: Duration,
    /// Where it was found.
    pub source: HintSource,
}

/// Where a hint was found, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HintSource {
    /// `retry-after-ms` or `x-ms-retry-after-ms`.
    RetryAfterMs,
    /// `retry-after`.
    RetryAfter,
    /// The reset of the exhausted dimension.
    ResetHeader,
    /// The message's text.
    Message,
}

impl HintSource {
    /// The word for the `backend blocked` event.
    pub const fn name(self) -> &'static str {
        match self {
            Self::RetryAfterMs => "retry-after-ms",
            Self::RetryAfter => "retry-after",
            Self::ResetHeader => "reset_header",
            Self::Message => "message",
        }
    }
}

/// The headers that are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// A wait in milliseconds.
    RetryAfterMs,
    /// The same, in Azure's words.
    MsRetryAfterMs,
    /// A wait in seconds, or a date.
    RetryAfter,
    /// A reset of no named dimension.
    Reset,
    /// Requests per window.
    LimitRequests,
    /// What is left of them.
    RemainingRequests,
    /// When they are whole again.
    ResetRequests,
    /// The same in Azure's other spelling.
    OtherResetRequests,
    /// Tokens per window.
    LimitTokens,
    /// What is left of them.
    RemainingTokens,
    /// When they are whole again.
    ResetTokens,
    /// The same in Azure's other spelling.
    OtherResetTokens,
    /// How full a provisioned deployment is.
    Utilization,
}

impl Field {
    /// All of them, in the order of their discriminants.
    pub const ALL: [Self; 13] = [
        Self::RetryAfterMs,
        Self::MsRetryAfterMs,
        Self::RetryAfter,
        Self::Reset,
        Self::LimitRequests,
        Self::RemainingRequests,
        Self::ResetRequests,
        Self::OtherResetRequests,
        Self::LimitTokens,
        Self::RemainingTokens,
        Self::ResetTokens,
        Self::OtherResetTokens,
        Self::Utilization,
    ];

    /// The header's name, in lower case.
    pub const fn name(self) -> &'static str {
        match self {
            Self::RetryAfterMs => "retry-after-ms",
            Self::MsRetryAfterMs => "x-ms-retry-after-ms",
            Self::RetryAfter => "retry-after",
            Self::Reset => "x-ratelimit-reset",
            Self::LimitRequests => "x-ratelimit-limit-requests",
            Self::RemainingRequests => "x-ratelimit-remaining-requests",
            Self::ResetRequests => "x-ratelimit-reset-requests",
            Self::OtherResetRequests => "x-rate-limit-reset-requests",
            Self::LimitTokens => "x-ratelimit-limit-tokens",
            Self::RemainingTokens => "x-ratelimit-remaining-tokens",
            Self::ResetTokens => "x-ratelimit-reset-tokens",
            Self::OtherResetTokens => "x-rate-limit-reset-tokens",
            Self::Utilization => "azure-openai-deployment-utilization",
        }
    }
}

/// The headers of one dimension: limit, what is left, and its reset in both spellings.
type Fields = [Field; 4];

const REQUESTS: Fields =
    [Field::LimitRequests, Field::RemainingRequests, Field::ResetRequests, Field::OtherResetRequests];
const TOKENS: Fields = [Field::LimitTokens, Field::RemainingTokens, Field::ResetTokens, Field::OtherResetTokens];

/// No wait is longer; the policy caps further.
const LONGEST: Duration = Duration::from_secs(7 * 86_400);
/// Bare resets from here on are seconds since the epoch: no window lasts 30 days.
const EPOCH_SECONDS_FROM: f64 = 2_592_000.0;
/// And from here on milliseconds since the epoch.
const EPOCH_MILLIS_FROM: f64 = 1e12;

/// Finds the wait that an answer asks for. `now` is the time since the Unix epoch. The caller asks only on 429, 503, 529
/// and on a 200 that turned out rate limited in-band.
pub fn find(header: &Header<'_>, fields: &ErrorFields, now: Duration) -> Option<Hint> {
    let hint = |wait: Duration, source| Hint { wait: wait.min(LONGEST), source };
    let millis =
        [Field::RetryAfterMs, Field::MsRetryAfterMs].into_iter().find_map(|field| retry_after_ms(header(field)?));
    millis
        .map(|wait| hint(wait, HintSource::RetryAfterMs))
        .or_else(|| Some(hint(retry_after(header(Field::RetryAfter)?, now)?, HintSource::RetryAfter)))
        .or_else(|| Some(hint(exhausted_reset(header, fields, now)?, HintSource::ResetHeader)))
        .or_else(|| Some(hint(from_message(fields.message.as_deref()?)?, HintSource::Message)))
}

/// What an answer's head says is left; `now` is the time since the Unix epoch, asked only where it is needed.
pub fn left(header: &Header<'_>, now: impl Fn() -> Duration) -> Sample {
    let dimension = |[limit, remaining, reset, other]: Fields| {
        let Some(left) = header(remaining) else { return Dimension::default() };
        let reset = reset_of(header, [reset, other], &now);
        Dimension { limit: header(limit).and_then(count), remaining: count(left), reset }
    };
    Sample { requests: dimension(REQUESTS), tokens: dimension(TOKENS) }
}

/// How full a provisioned deployment says it is, such as `87.5%`, in 1/10 000.
pub fn utilization(header: &Header<'_>) -> Option<u32> {
    let text = header(Field::Utilization)?.trim_ascii();
    let percent = decimal(text.strip_suffix('%').unwrap_or(text).trim_end())?;
    Some((percent * 100.0) as u32)
}

/// The reset of the exhausted dimension, the later of two; else of the one that `error.type` names; else the bare one.
fn exhausted_reset(header: &Header<'_>, fields: &ErrorFields, now: Duration) -> Option<Duration> {
    let both = [("requests", REQUESTS), ("tokens", TOKENS)];
    let reset_of = |[_, _, reset, other]: Fields| reset_of(header, [reset, other], &|| now);
    let is_exhausted = |[_, remaining, ..]: Fields| header(remaining).and_then(count).is_some_and(|left| left <= 0);
    let exhausted = both.iter().filter(|(_, fields)| is_exhausted(*fields));
    let exhausted = exhausted.filter_map(|(_, fields)| reset_of(*fields)).max();
    let is_named = |unit: &str| fields.kind.as_deref() == Some(unit);
    let named = || both.iter().find(|(unit, _)| is_named(unit)).and_then(|(_, fields)| reset_of(*fields));
    exhausted.or_else(named).or_else(|| reset(header(Field::Reset)?, &|| now))
}

/// A dimension's reset, in the first spelling that can be read.
fn reset_of(header: &Header<'_>, spellings: [Field; 2], now: &impl Fn() -> Duration) -> Option<Duration> {
    spellings.into_iter().find_map(|field| reset(header(field)?, now))
}

/// Digits that a `f64` holds exactly.
const EXACT_DIGITS: usize = 15;

/// What a fraction of so many digits is divided by: exact as well, so that the quotient is the float next to what is written.
const POWERS: [f64; EXACT_DIGITS + 1] = {
    let mut powers = [1.0; EXACT_DIGITS + 1];
    let mut digits = 1;
    while digits <= EXACT_DIGITS {
        powers[digits] = powers[digits - 1] * 10.0;
        digits += 1;
    }
    powers
};

/// `DIGITS[.DIGITS]` and nothing else.
fn decimal(text: &str) -> Option<f64> {
    if let Some(short) = short_decimal(text.as_bytes()) {
        return Some(short);
    }
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let is_digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    (is_digits(whole) && is_digits(fraction)).then(|| text.parse().ok())?
}

/// The same of few digits, which most of them have, and then exact: as every answer brings half a dozen, they are not read as floats.
fn short_decimal(text: &[u8]) -> Option<f64> {
    let (mut sum, mut point) = (0_u64, None);
    if EXACT_DIGITS < text.len() {
        return None;
    }
    for (at, byte) in text.iter().enumerate() {
        match byte {
            b'0'..=b'9' => sum = sum * 10 + u64::from(byte - b'0'),
            b'.' if point.is_none() && 0 < at => point = Some(at),
            _ => return None,
        }
    }
    let fraction = text.len().checked_sub(point.map_or(text.len(), |at| at + 1))?;
    let is_whole = !text.is_empty() && (point.is_none() || 0 < fraction);
    is_whole.then(|| sum as f64 / POWERS[fraction])
}

fn from_seconds(seconds: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(seconds).ok()
}

fn retry_after_ms(text: &str) -> Option<Duration> {
    let millis = decimal(text.trim_ascii())?.ceil();
    from_seconds(millis.min(LONGEST.as_secs_f64() * 1e3) / 1e3)
}

fn retry_after(text: &str, now: Duration) -> Option<Duration> {
    let text = text.trim_ascii();
    if let Some(seconds) = decimal(text) {
        return from_seconds(seconds.min(LONGEST.as_secs_f64()));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    Some(date.duration_since(UNIX_EPOCH).unwrap_or_default().saturating_sub(now))
}

/// Optional sign, digits, optional fraction (floored towards zero).
fn count(text: &str) -> Option<i64> {
    let text = text.trim_ascii();
    if let Some(short) = short_decimal(text.as_bytes()) {
        return Some(short as i64);
    }
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    decimal(unsigned)?;
    text.split('.').next()?.parse().ok()
}

/// `now` is only asked where a point in time is named.
fn reset(text: &str, now: &impl Fn() -> Duration) -> Option<Duration> {
    let text = text.trim_ascii();
    let Some(bare) = decimal(text) else {
        return go_duration(text).or_else(|| Some(rfc3339(text)?.saturating_sub(now())));
    };
    if bare >= EPOCH_MILLIS_FROM {
        return Some(from_seconds(bare / 1e3)?.saturating_sub(now()));
    }
    let seconds = from_seconds(bare)?;
    Some(if bare >= EPOCH_SECONDS_FROM { seconds.saturating_sub(now()) } else { seconds })
}

/// `(NUM(h|m|s|ms|us|µs|ns))+`, such as `2m52.8s`.
fn go_duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = 0.0;
    while !rest.is_empty() {
        // No character is cut: what stands before the first place is ASCII, and so is what stands at the second.
        let digits = rest.bytes().position(|byte| !byte.is_ascii_digit() && byte != b'.')?;
        let number = decimal(&rest[..digits])?;
        let unit_end =
            rest[digits..].bytes().position(|byte| byte.is_ascii_digit()).map_or(rest.len(), |at| digits + at);
        total += number
            * match &rest[digits..unit_end] {
                "h" => 3_600.0,
                "m" => 60.0,
                "s" => 1.0,
                "ms" => 1e-3,
                "us" | "µs" | "μs" => 1e-6,
                "ns" => 1e-9,
                _ => return None,
            };
        rest = &rest[unit_end..];
    }
    if text.is_empty() { None } else { from_seconds(total).map(to_nanos) }
}

/// Sums of decimal fractions are off by parts of a nanosecond; round to the microsecond, below which nobody waits.
fn to_nanos(wait: Duration) -> Duration {
    Duration::from_micros(u64::try_from((wait.as_nanos() + 500) / 1_000).unwrap_or(u64::MAX))
}

/// `2026-11-22T19:40:00Z`, with optional fraction and offset, as time since the epoch. Years 1970 to 9999.
fn rfc3339(text: &str) -> Option<Duration> {
    let bytes = text.as_bytes();
    let digits = |from: usize, to: usize| -> Option<i64> {
        let part = text.get(from..to)?;
        if part.bytes().all(|byte| byte.is_ascii_digit()) { part.parse().ok() } else { None }
    };
    let is_marked =
        [(4, b'-'), (7, b'-'), (13, b':'), (16, b':')].iter().all(|(at, mark)| bytes.get(*at) == Some(mark));
    if !is_marked || !matches!(bytes.get(10), Some(b'T' | b't' | b' ')) {
        return None;
    }
    let (year, month, day) = (digits(0, 4)?, digits(5, 7)?, digits(8, 10)?);
    let (hour, minute, second) = (digits(11, 13)?, digits(14, 16)?, digits(17, 19)?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let rest = text.get(19..)?;
    let zone_at = rest.find(['Z', 'z', '+', '-'])?;
    let fraction = if zone_at == 0 { 0.0 } else { decimal(&format!("0{}", &rest[..zone_at]))? };
    let offset = match rest.get(zone_at..)? {
        "Z" | "z" => 0,
        zone => {
            let (hours, minutes) = zone.get(1..)?.split_once(':')?;
            let seconds = i64::from(hours.parse::<u8>().ok()?) * 3_600 + i64::from(minutes.parse::<u8>().ok()?) * 60;
            if zone.starts_with('-') { -seconds } else { seconds }
        }
    };
    let seconds = days_from_civil(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second - offset;
    Some(Duration::from_secs(u64::try_from(seconds).ok()?) + from_seconds(fraction)?)
}

/// Days from 1970-01-01 to a date of the Gregorian calendar (Howard Hinnant, "chrono-compatible low-level date algorithms").
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// "(try again|retry) (in|after) N" and a unit, or a Go duration.
fn from_message(message: &str) -> Option<Duration> {
    // Only ASCII is lowered, so offsets stay those of the message.
    let lower = message.to_ascii_lowercase();
    ["try again in ", "try again after ", "retry in ", "retry after "].iter().find_map(|phrase| {
        let said = lower[lower.find(phrase)? + phrase.len()..].trim_start();
        let end = said.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(said.len());
        let word_end = said.find(|letter: char| letter.is_whitespace() || letter == ',').unwrap_or(said.len());
        let word = said[..word_end].trim_end_matches('.');
        if let Some(wait) = go_duration(word) {
            return Some(wait);
        }
        let number = decimal(said[..end].trim_end_matches('.'))?;
        let unit: String = said[end..].trim_start().chars().take_while(char::is_ascii_alphabetic).collect();
        let seconds = match unit.as_str() {
            "ms" | "millisecond" | "milliseconds" => number / 1e3,
            "s" | "second" | "seconds" => number,
            "m" | "minute" | "minutes" => number * 60.0,
            _ => return None,
        };
        from_seconds(seconds).map(to_nanos)
    })
}

#[cfg(test)]
mod tests;

//! One scalar's text to a number, a boolean, a duration, a size or a ratio. Pure.
//!
//! What counts is the type that the key wants, not how the scalar looks: quoted text and text from a placeholder are read
//! like any other (spec/config.md 5).

use std::time::Duration;

/// Why a text is no such value: what to write instead, if that can be said.
#[derive(Debug, PartialEq)]
pub(super) struct Misfit {
    /// What was expected, such as "a duration".
    pub(super) expected: &'static str,
    /// The mend.
    pub(super) help: Option<String>,
}

/// The outcome of reading one text.
pub(super) type Read<T> = Result<T, Misfit>;

/// Numbers above this cannot be told from their neighbours.
const MAX_EXACT: f64 = 9_007_199_254_740_992.0;

const DURATION: &str = "a duration such as 30, 250ms or 1m30s";
const SIZE: &str = "a size such as 65536 or 64KiB";

fn misfit<T>(expected: &'static str, help: Option<String>) -> Read<T> {
    Err(Misfit { expected, help })
}

/// `true yes on y` and `false no off n`, in any case.
pub(super) fn boolean(text: &str) -> Read<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "y" => Ok(true),
        "false" | "no" | "off" | "n" => Ok(false),
        _ => misfit("a boolean", Some("write true or false".to_owned())),
    }
}

/// Whether a text switches off: `off`, `false`, `no`, `null`, `~`.
pub(super) fn is_off(text: &str) -> bool {
    matches!(text.to_ascii_lowercase().as_str(), "off" | "false" | "no" | "null" | "~" | "none")
}

/// A whole number ≥ 0: `500`, `80_000`, `0x1F4`, `5e2`.
pub(super) fn integer(text: &str) -> Read<u64> {
    const EXPECTED: &str = "a whole number";
    let digits = plain_digits(text, EXPECTED)?;
    for (prefix, radix) in [("0x", 16), ("0o", 8), ("0b", 2)] {
        if let Some(rest) = digits.strip_prefix(prefix) {
            return u64::from_str_radix(rest, radix).or_else(|_| misfit(EXPECTED, None));
        }
    }
    if let Ok(value) = digits.parse() {
        return Ok(value);
    }
    match digits.parse::<f64>() {
        Ok(value) if value.fract() == 0.0 && (0.0..=MAX_EXACT).contains(&value) => Ok(value as u64),
        Ok(_) | Err(_) => misfit(EXPECTED, None),
    }
}

/// A number: `0.5`, `80_000`, `1e5`, `.inf`.
pub(super) fn number(text: &str) -> Read<f64> {
    const EXPECTED: &str = "a number";
    let digits = plain_digits(text, EXPECTED)?;
    match digits.to_ascii_lowercase().as_str() {
        ".inf" | "+.inf" => return Ok(f64::INFINITY),
        "-.inf" => return Ok(f64::NEG_INFINITY),
        ".nan" => return Ok(f64::NAN),
        _ => {}
    }
    digits.parse().or_else(|_| misfit(EXPECTED, None))
}

/// Without `_` between digits; octal and sexagesimal look-alikes of YAML 1.1 are refused with what they may have meant.
fn plain_digits(text: &str, expected: &'static str) -> Read<String> {
    let text = text.trim();
    let bytes = text.as_bytes();
    let is_separator =
        |at: usize| at > 0 && bytes[at - 1].is_ascii_digit() && bytes.get(at + 1).is_some_and(u8::is_ascii_digit);
    if bytes.iter().enumerate().any(|(at, byte)| *byte == b'_' && !is_separator(at)) {
        return misfit(expected, None);
    }
    let digits = text.replace('_', "");
    let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if digits.len() > 1 && digits.starts_with('0') && is_digits(&digits) {
        let decimal = digits.trim_start_matches('0');
        let decimal = if decimal.is_empty() { "0" } else { decimal };
        return misfit(expected, Some(format!("write {decimal} or 0o{decimal}")));
    }
    if let Some((minutes, seconds)) = digits.split_once(':')
        && is_digits(minutes)
        && is_digits(seconds)
    {
        let total = minutes.parse::<u64>().ok().zip(seconds.parse::<u64>().ok());
        let total = total.and_then(|(minutes, seconds)| minutes.checked_mul(60)?.checked_add(seconds));
        return misfit(expected, total.map(|total| format!("write {total}")));
    }
    Ok(digits)
}

/// Seconds, or parts with units in falling order: `250ms`, `30s`, `1m30s`, `2h`. Zero is a duration.
pub(super) fn duration(text: &str) -> Read<Duration> {
    let text = text.trim();
    if text.is_empty() {
        return misfit(DURATION, None);
    }
    if text.bytes().all(|byte| byte.is_ascii_digit() || b"._+-:e".contains(&byte)) {
        let seconds = number(text).map_err(|misfit| Misfit { expected: DURATION, ..misfit })?;
        return Duration::try_from_secs_f64(seconds).or_else(|_| misfit(DURATION, None));
    }
    let mut rest = text;
    let mut total = Duration::ZERO;
    let mut last = f64::INFINITY;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (digits, after) = rest.split_at(end);
        let end = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        let seconds = match unit {
            "ms" => 0.001,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3_600.0,
            "d" => 86_400.0,
            _ => return misfit(DURATION, None),
        };
        let Ok(amount) = digits.parse::<f64>() else { return misfit(DURATION, None) };
        let part = Duration::try_from_secs_f64(amount * seconds).ok();
        let Some(sum) = part.filter(|_| seconds < last).and_then(|part| total.checked_add(part)) else {
            return misfit(DURATION, None);
        };
        (total, last, rest) = (sum, seconds, after);
    }
    Ok(total)
}

/// Bytes, or with a unit: `64KiB`, `32MiB`, `1GiB`, `10MB`.
pub(super) fn size(text: &str) -> Read<usize> {
    let text = text.trim();
    let end = text.find(|c: char| c.is_ascii_alphabetic() || c == ' ').unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    let factor: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "ki" | "kib" => 1 << 10,
        "m" | "mi" | "mib" => 1 << 20,
        "g" | "gi" | "gib" => 1 << 30,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        _ => return misfit(SIZE, None),
    };
    let amount = number(digits).map_err(|misfit| Misfit { expected: SIZE, ..misfit })?;
    let bytes = amount * factor as f64;
    match (0.0..=MAX_EXACT).contains(&bytes) && bytes.fract() == 0.0 {
        true => Ok(bytes as usize),
        false => misfit(SIZE, None),
    }
}

/// `0.5` or `50%`; whatever range it has.
pub(super) fn ratio(text: &str) -> Read<f64> {
    const EXPECTED: &str = "a ratio such as 0.5 or 50%";
    let (digits, divisor) = match text.trim().strip_suffix('%') {
        Some(percent) => (percent.trim_end(), 100.0),
        None => (text, 1.0),
    };
    let value = number(digits).map_err(|misfit| Misfit { expected: EXPECTED, ..misfit })?;
    Ok(value / divisor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_by_the_wanted_type() {
        for (text, expected) in
            [("30", 30), ("80_000", 80_000), ("1e5", 100_000), ("0x1F", 31), ("0o10", 8), ("5.0", 5), ("0", 0)]
        {
            assert_eq!(integer(text), Ok(expected), "{text}");
        }
        for text in ["", "a", "-1", "0.5", "_1", "1__0", "1e300", "NaN"] {
            assert!(integer(text).is_err(), "{text}");
        }
        for (text, help) in [("010", "write 10 or 0o10"), ("1:30", "write 90"), ("00", "write 0 or 0o0")] {
            assert_eq!(integer(text).unwrap_err().help.as_deref(), Some(help));
            assert_eq!(number(text).unwrap_err().help.as_deref(), Some(help));
        }
        for (text, expected) in [("0.5", 0.5), (".5", 0.5), ("1e3", 1000.0), ("-2", -2.0), (".inf", f64::INFINITY)] {
            assert_eq!(number(text), Ok(expected));
        }
    }

    #[test]
    fn booleans_in_both_yamls() {
        for text in ["true", "TRUE", "yes", "Yes", "on", "ON", "y"] {
            assert_eq!(boolean(text), Ok(true), "{text}");
        }
        for text in ["false", "no", "off", "Off", "n", "N"] {
            assert_eq!(boolean(text), Ok(false), "{text}");
        }
        assert!(boolean("1").is_err() && boolean("maybe").is_err());
    }

    #[test]
    fn durations_sizes_and_ratios() {
        for (text, milliseconds) in [
            ("30", 30_000),
            ("0.5", 500),
            ("250ms", 250),
            ("1m30s", 90_000),
            ("2h", 7_200_000),
            ("1.5s", 1_500),
            ("1e2", 100_000),
            ("0", 0),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        for text in ["", "s", "30x", "30s1m", "-1", "1s1s", "1e400", "inf", "5 s"] {
            assert!(duration(text).is_err(), "{text}");
        }
        for (text, bytes) in [
            ("65536", 65_536),
            ("64KiB", 65_536),
            ("32MiB", 32 << 20),
            ("1 GiB", 1 << 30),
            ("10MB", 10_000_000),
            ("0.5KiB", 512),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        assert!(size("5 apples").is_err() && size("-1").is_err() && size("0.3").is_err());
        assert_eq!((ratio("0.5"), ratio("50%"), ratio("150 %")), (Ok(0.5), Ok(0.5), Ok(1.5)));
        assert!(ratio("half").is_err());
    }
}

//! Headers and sentences of providers, as they were seen, and what is read from them.

use super::*;
use proptest::prelude::*;

/// 2026-10-21 07:27:30 UTC.
const NOW: Duration = Duration::from_secs(1_792_567_650);

fn found(headers: &[(&str, &str)], message: &str, kind: &str) -> Option<(u128, HintSource)> {
    let fields = ErrorFields { message: Some(message.into()), kind: Some(kind.into()), ..ErrorFields::default() };
    let header = |field: Field| headers.iter().find(|(name, _)| *name == field.name()).map(|(_, value)| *value);
    find(&header, &fields, NOW).map(|hint| (hint.wait.as_millis(), hint.source))
}

fn millis(name: &str, value: &str) -> Option<u128> {
    found(&[(name, value)], "", "").map(|(wait, _)| wait)
}

#[test]
fn retry_after_vectors() {
    for (name, value, expected) in [
        ("retry-after-ms", "43", Some(43)),
        ("retry-after-ms", "43.2", Some(44)),
        ("retry-after-ms", "-1", None),
        ("retry-after-ms", "1e3", None),
        ("retry-after-ms", "inf", None),
        ("retry-after-ms", "", None),
        ("x-ms-retry-after-ms", "7", Some(7)),
        ("retry-after-ms", "99999999999999", Some(604_800_000)),
        ("retry-after", "7", Some(7_000)),
        ("retry-after", " 1.5 ", Some(1_500)),
        ("retry-after", "0.5", Some(500)),
        ("retry-after", "0", Some(0)),
        ("retry-after", "86400", Some(86_400_000)),
        ("retry-after", "99999999999999999999999", Some(604_800_000)),
        ("retry-after", "Wed, 21 Oct 2026 07:28:00 GMT", Some(30_000)),
        ("retry-after", "Wednesday, 21-Oct-26 07:28:00 GMT", Some(30_000)),
        ("retry-after", "Wed Oct 21 07:28:00 2026", Some(30_000)),
        ("retry-after", "Wed, 21 Oct 2020 07:28:00 GMT", Some(0)),
        ("retry-after", "soon", None),
        ("retry-after", "120s", None),
        ("retry-after", "-1m", None),
    ] {
        assert_eq!(millis(name, value), expected, "{name}: {value}");
    }
}

#[test]
fn reset_vectors() {
    for (value, expected) in [
        ("20ms", Some(20)),
        ("8.64s", Some(8_640)),
        ("1m0s", Some(60_000)),
        ("6m0s", Some(360_000)),
        ("2m52.8s", Some(172_800)),
        ("1h2m3s", Some(3_723_000)),
        ("1h", Some(3_600_000)),
        ("1500µs", Some(1)),
        ("3000000ns", Some(3)),
        ("64", Some(64_000)),
        ("2026-10-21T07:28:00Z", Some(30_000)),
        ("2026-10-21T09:28:00.5+02:00", Some(30_500)),
        ("1792567680", Some(30_000)),
        ("1792567680000", Some(30_000)),
        ("1x", None),
        ("s", None),
        ("-5s", None),
        ("", None),
    ] {
        let headers = [("x-ratelimit-remaining-tokens", "-27689"), ("x-ratelimit-reset-tokens", value)];
        let expected = expected.map(|wait| (wait, HintSource::ResetHeader));
        assert_eq!(found(&headers, "", ""), expected, "{value}");
    }
}

#[test]
fn dates_of_rfc_3339() {
    for (text, expected) in [
        ("2110-03-01T00:00:00Z", Some(4_423_075_200)),
        ("2027-02-28t23:59:58z", Some(1_803_859_198)),
        ("2028-02-29 12:34:56+05:30", Some(1_835_420_696)),
        ("2000-01-01T00:00:00-05:45", Some(946_705_500)),
        ("1970-01-01T00:00:60Z", Some(60)),
        ("1970-12-31T23:59:00Z", Some(31_535_940)),
        ("1969-12-31T23:59:59Z", None),
        ("2026-00-21T07:28:00Z", None),
        ("2026-13-21T07:28:00Z", None),
        ("2026-10-00T07:28:00Z", None),
        ("2026-10-32T07:28:00Z", None),
        ("2026-10-21T24:28:00Z", None),
        ("2026-10-21T07:60:00Z", None),
        ("2026-10-21T07:28:61Z", None),
        ("2026-10-21X07:28:00Z", None),
        ("2026/10-21T07:28:00Z", None),
        ("2026-10-21T07-28:00Z", None),
        ("2026-10-21T07:28:00", None),
        ("2026-10-21T07:28:00+0530", None),
        ("2026-10-21T07:28:0xZ", None),
    ] {
        assert_eq!(rfc3339(text).map(|at| at.as_secs()), expected, "{text}");
    }
}

#[test]
fn the_exhausted_dimension_decides() {
    let resets = [("x-ratelimit-reset-requests", "1s"), ("x-ratelimit-reset-tokens", "2s")];
    let with = |more: &[(&'static str, &'static str)], kind: &str| {
        found(&[&resets[..], more].concat(), "", kind).map(|(wait, _)| wait)
    };
    assert_eq!(with(&[("x-ratelimit-remaining-requests", "0")], "tokens"), Some(1_000));
    let both = [("x-ratelimit-remaining-requests", "0"), ("x-ratelimit-remaining-tokens", "0")];
    assert_eq!(with(&both, ""), Some(2_000));
    assert_eq!(with(&[("x-ratelimit-remaining-requests", "3")], "tokens"), Some(2_000));
    assert_eq!(with(&[], ""), None);
    assert_eq!(with(&[("x-ratelimit-reset", "5")], ""), Some(5_000));
}

#[test]
fn earlier_sources_win_and_bad_ones_are_passed_over() {
    let all = [("retry-after-ms", "soon"), ("retry-after", "2")];
    assert_eq!(found(&all, "try again in 9s", ""), Some((2_000, HintSource::RetryAfter)));
    assert_eq!(found(&all[..1], "try again in 9s", ""), Some((9_000, HintSource::Message)));
    use HintSource as S;
    let names = [S::RetryAfterMs, S::RetryAfter, S::ResetHeader, S::Message].map(HintSource::name);
    assert_eq!(names, ["retry-after-ms", "retry-after", "reset_header", "message"]);
}

#[test]
fn message_texts() {
    for (message, expected) in [
        ("Please try again in 20ms. Visit …", Some(20)),
        ("Please try again in 1m12.5s.", Some(72_500)),
        ("Please retry after 6 seconds.", Some(6_000)),
        ("Please Retry After 1 second", Some(1_000)),
        ("Try again in 2 minutes", Some(120_000)),
        ("retry in 500 ms", Some(500)),
        ("Please try again in 1m12s, or contact us", Some(72_000)),
        ("Please try again in 1m12s or contact us", Some(72_000)),
        ("retry after tomorrow", None),
        ("try again in 5 apples", None),
        ("daily limit", None),
    ] {
        assert_eq!(found(&[], message, "").map(|(wait, _)| wait), expected, "{message}");
    }
}

#[test]
fn rate_limit_headers() {
    let headers = [
        ("x-ratelimit-limit-requests", "500"),
        ("x-ratelimit-remaining-requests", "1500.9"),
        ("x-ratelimit-remaining-tokens", "-27689"),
        ("x-rate-limit-reset-tokens", "64"),
        ("x-ratelimit-limit-tokens", "many"),
    ];
    let header = |field: Field| headers.iter().find(|(name, _)| *name == field.name()).map(|(_, value)| *value);
    let limits = left(&header, || NOW);
    assert_eq!(limits.requests, Dimension { limit: Some(500), remaining: Some(1_500), reset: None });
    let tokens = Dimension { limit: None, remaining: Some(-27_689), reset: Some(Duration::from_secs(64)) };
    assert_eq!(limits.tokens, tokens);
}

#[test]
fn utilization_is_a_percentage() {
    for (text, expected) in [
        ("87.5%", Some(8_750)),
        (" 100 % ", Some(10_000)),
        ("0%", Some(0)),
        ("12", Some(1_200)),
        ("full", None),
        ("-3%", None),
    ] {
        assert_eq!(utilization(&|field| (field == Field::Utilization).then_some(text)), expected, "{text}");
    }
}

proptest! {
    #[test]
    fn nothing_panics(text in "\\PC{0,40}", digits in "[0-9.:TZhms+ -]{0,30}") {
        for value in [&text, &digits] {
            let headers = [("retry-after", value.as_str()), ("x-ratelimit-reset", value.as_str())];
            found(&headers, &format!("retry after {value}"), "");
        }
    }
}

#[test]
fn decimals_are_digits_and_at_most_one_point_between_them() {
    for (text, expected) in [
        ("0", Some(0.0)),
        ("007", Some(7.0)),
        ("8.64", Some(8.64)),
        ("0.1", Some(0.1)),
        ("123456789012.345", Some(123_456_789_012.345)),
        ("1234567890123.45675", Some(1_234_567_890_123.456_8)),
        ("", None),
        (".", None),
        (".5", None),
        ("5.", None),
        ("1.2.3", None),
        ("1e3", None),
        ("+1", None),
    ] {
        assert_eq!(decimal(text), expected, "{text}");
    }
}

proptest::proptest! {
    #[test]
    fn a_short_decimal_is_the_float_next_to_what_is_written(whole in "[0-9]{1,7}", fraction in "[0-9]{1,7}") {
        let text = format!("{whole}.{fraction}");
        proptest::prop_assert_eq!(short_decimal(text.as_bytes()), text.parse().ok());
    }
}

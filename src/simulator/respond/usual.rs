//! The headers that a provider puts on every answer. Some must not reach the gateway's clients.

use std::fmt::Write;
use std::time::Duration;

use crate::simulator::answer::{Answer, Payload};
use crate::simulator::backend::{Backend, Begun};
use crate::simulator::options::Dialect;

/// The headers that this provider puts on every answer, where the answer has not its own.
pub(super) fn add_fields(answer: &mut Answer, backend: &Backend, begun: &Begun) {
    let own = std::mem::take(&mut answer.fields);
    let id = format!("{}-{}", backend.name, begun.sequence);
    let limits = &begun.limits;
    let fields = &mut answer.fields;
    let mut add = |name: &'static str, value: String| fields.push((name.into(), value.into()));
    match backend.dialect {
        Dialect::OpenAi => {
            add("x-ratelimit-limit-requests", limits.requests.limit.to_string());
            add("x-ratelimit-limit-tokens", limits.tokens.limit.to_string());
            add("x-ratelimit-remaining-requests", limits.requests.remaining.max(0).to_string());
            add("x-ratelimit-remaining-tokens", limits.tokens.remaining.max(0).to_string());
            add("x-ratelimit-reset-requests", go_duration(limits.reset));
            add("x-ratelimit-reset-tokens", go_duration(limits.reset));
            add("x-request-id", format!("req_{id}"));
        }
        Dialect::Azure => {
            // Azure counts below zero and gives whole seconds.
            add("x-ratelimit-remaining-requests", limits.requests.remaining.to_string());
            add("x-ratelimit-remaining-tokens", limits.tokens.remaining.to_string());
            add("x-ratelimit-reset-tokens", limits.reset.as_secs().max(1).to_string());
            add("x-request-id", format!("req_{id}"));
            add("apim-request-id", format!("apim-{id}"));
        }
        Dialect::Compat => add("x-request-id", format!("req_{id}")),
    }
    let fixed: &[(&'static str, &'static str)] = match backend.dialect {
        Dialect::OpenAi => &[
            ("openai-organization", "org-simulated"),
            ("openai-processing-ms", "12"),
            ("openai-version", "2020-10-01"),
            ("server", "cloudflare"),
            ("cf-ray", "simulated-AMS"),
            ("set-cookie", "__cf_bm=simulated; path=/; HttpOnly; Secure"),
            ("strict-transport-security", "max-age=31536000; includeSubDomains; preload"),
            ("alt-svc", "h3=\":443\"; ma=86400"),
        ],
        Dialect::Azure => &[
            ("x-ms-region", "Simulated West"),
            ("strict-transport-security", "max-age=31536000; includeSubDomains; preload"),
            ("set-cookie", "ARRAffinity=simulated; Path=/; HttpOnly"),
        ],
        Dialect::Compat => &[("server", "uvicorn")],
    };
    fields.extend(fixed.iter().map(|&(name, value)| (name.into(), value.into())));
    if let Payload::Events(_) = answer.payload {
        answer.fields.push(("cache-control".into(), "no-cache".into()));
    }
    for (name, value) in own {
        answer.set(name, value);
    }
}

/// A duration as Go prints it: `120ms`, `8.64s`, `1m0s`.
fn go_duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    if millis < 1000 {
        return format!("{millis}ms");
    }
    let mut text = String::new();
    let (minutes, rest) = (millis / 60_000, millis % 60_000);
    if 0 < minutes {
        // Writing to a String cannot fail.
        let _ = write!(text, "{minutes}m");
    }
    let _ = write!(text, "{}s", rest as f64 / 1e3);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_look_like_go() {
        let table = [(0, "0ms"), (120, "120ms"), (8640, "8.64s"), (60_000, "1m0s"), (172_800, "2m52.8s")];
        for (millis, expected) in table {
            assert_eq!(go_duration(Duration::from_millis(millis)), expected);
        }
    }
}

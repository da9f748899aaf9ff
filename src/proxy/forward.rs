//! Which headers pass the gateway, in either direction (spec/wire.md 1.6).

use std::borrow::Cow;

use actix_web::http::header::{
    ACCEPT_ENCODING, CONNECTION, CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue, USER_AGENT,
};

/// What a provider is told about us.
const AGENT: HeaderValue = HeaderValue::from_static(concat!("breakwater/", env!("CARGO_PKG_VERSION")));

/// Compressed answers could not be looked into.
const IDENTITY: HeaderValue = HeaderValue::from_static("identity");

/// The trace that a request belongs to.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// Correlates our request with the provider's log.
const CLIENT_REQUEST_ID: HeaderName = HeaderName::from_static("x-client-request-id");

/// Client headers that reach a provider.
fn is_forwarded(name: &str) -> bool {
    matches!(
        name,
        "content-type"
            | "accept"
            | "openai-beta"
            | "idempotency-key"
            | "x-client-request-id"
            | "traceparent"
            | "tracestate"
            | "anthropic-version"
            | "anthropic-beta"
    )
}

/// Never forwarded, whatever `defaults.forward_client_headers` says: credentials, and what belongs to one connection.
const NEVER_FORWARDED: [&str; 16] = [
    "authorization",
    "api-key",
    "x-api-key",
    "cookie",
    "connection",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "forwarded",
    "via",
    "host",
    "content-length",
    "accept-encoding",
    "expect",
];

/// Prefixes of the same kind.
const NEVER_FORWARDED_PREFIXES: [&str; 5] = ["proxy-", "x-forwarded-", "x-stainless-", "x-breakwater-", "x-litellm-"];

/// Provider headers that a client never sees.
fn is_not_relayed(name: &[u8]) -> bool {
    matches!(
        name,
        b"connection"
            | b"keep-alive"
            | b"te"
            | b"trailer"
            | b"transfer-encoding"
            | b"upgrade"
            | b"set-cookie"
            | b"alt-svc"
            | b"server"
            | b"date"
            | b"strict-transport-security"
            | b"content-length"
            | b"proxy-authenticate"
    )
}

/// Prefixes of the same kind: nobody but us says what ours say.
const NOT_RELAYED_PREFIXES: [&str; 4] = ["access-control-", "proxy-", "x-breakwater-", "x-litellm-"];

/// Fills in the headers of an upstream call. `own` (host, credential, extra headers) replaces what a client sent.
pub fn to_provider(
    out: &mut HeaderMap,
    client: &HeaderMap,
    also: &[String],
    own: &[(HeaderName, HeaderValue)],
    request_id: &HeaderValue,
) {
    each_to_provider(client, also, own, request_id, |name, value| out.append(name.clone(), value.clone()));
}

/// Hands over the headers of an upstream call, one by one. `own` (host, credential, extra headers; the last of a name counts)
/// replaces what a client sent.
pub fn each_to_provider(
    client: &HeaderMap,
    also: &[String],
    own: &[(HeaderName, HeaderValue)],
    request_id: &HeaderValue,
    mut put: impl FnMut(&HeaderName, &HeaderValue),
) {
    let connection = named_by_connection(client);
    let is_in = |own: &[(HeaderName, HeaderValue)], name: &HeaderName| own.iter().any(|(known, _)| known == name);
    let mut has_id = false;
    for (name, value) in client {
        let passes = is_forwarded(name.as_str()) || !also.is_empty() && is_asked_for(name.as_str(), also);
        let is_hop = || !connection.is_empty() && is_named(&connection, name.as_str().as_bytes());
        if passes && *name != USER_AGENT && !is_in(own, name) && !is_hop() {
            has_id |= *name == CLIENT_REQUEST_ID;
            put(name, value);
        }
    }
    let ours = [(USER_AGENT, &AGENT), (ACCEPT_ENCODING, &IDENTITY), (CLIENT_REQUEST_ID, request_id)];
    for (name, value) in ours {
        let is_said = has_id && name == CLIENT_REQUEST_ID || is_in(own, &name);
        if !is_said {
            put(&name, value);
        }
    }
    for (index, (name, value)) in own.iter().enumerate() {
        if !is_in(&own[index + 1..], name) {
            put(name, value);
        }
    }
}

fn is_asked_for(name: &str, also: &[String]) -> bool {
    let is_barred = NEVER_FORWARDED.contains(&name)
        || NEVER_FORWARDED_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
        || is_forwarded(name);
    let is_covered = |pattern: &String| match pattern.strip_suffix('*') {
        Some(prefix) => name.starts_with(prefix),
        None => name == pattern,
    };
    !is_barred && also.iter().any(is_covered)
}

/// Whether a client may see a provider's header. `connection` is what the provider says of its connection: it may name
/// headers that belong to that.
pub fn is_relayed(name: &[u8], connection: &str) -> bool {
    !is_not_relayed(name)
        && !NOT_RELAYED_PREFIXES.iter().any(|prefix| name.starts_with(prefix.as_bytes()))
        && (connection.is_empty() || !is_named(connection, name))
}

/// Whether what is said of a connection names this header, in lower case.
fn is_named(connection: &str, name: &[u8]) -> bool {
    connection.split(',').any(|hop| hop.trim().as_bytes().eq_ignore_ascii_case(name))
}

/// All that is said of a connection, in however many fields. What is no text names nothing.
fn named_by_connection(headers: &HeaderMap) -> Cow<'_, str> {
    joined(headers.get_all(&CONNECTION).filter_map(|value| value.to_str().ok()))
}

/// The values of a field that is a list, as if they stood in one (RFC 9110 5.3).
pub fn joined<'a>(mut values: impl Iterator<Item = &'a str>) -> Cow<'a, str> {
    let first = values.next().unwrap_or_default();
    values.fold(Cow::Borrowed(first), |all, more| Cow::Owned(format!("{all},{more}")))
}

/// A header's text, empty if it is missing or no text.
pub fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// The `content-length` a provider named.
pub fn content_length(headers: &HeaderMap) -> Option<usize> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).fold(
            HeaderMap::new(),
            |mut map, (name, value)| {
                map.append(name, value);
                map
            },
        )
    }

    fn names(headers: &HeaderMap) -> Vec<String> {
        let mut names: Vec<String> = headers.keys().map(|name| name.as_str().to_owned()).collect();
        names.sort();
        names
    }

    #[test]
    fn what_a_connection_names_stays_on_it() {
        let client = map(&[
            ("connection", "keep-alive, OpenAI-Beta"),
            ("connection", "x-team"),
            ("openai-beta", "x"),
            ("x-team", "blue"),
            ("x-else", "1"),
        ]);
        let (mut out, id) = (HeaderMap::new(), HeaderValue::from_static("id"));
        to_provider(&mut out, &client, &["x-*".to_owned()], &[], &id);
        assert_eq!(names(&out), ["accept-encoding", "user-agent", "x-client-request-id", "x-else"]);
        let provider =
            map(&[("connection", "keep-alive"), ("connection", "x-internal"), ("x-internal", "1"), ("x-a", "1")]);
        assert_eq!(relayed(&provider), ["x-a"]);
    }

    #[test]
    fn a_clients_credentials_never_reach_a_provider() {
        let client = map(&[
            ("authorization", "Bearer client"),
            ("api-key", "client"),
            ("x-api-key", "client"),
            ("cookie", "a=b"),
            ("x-stainless-retry-count", "1"),
            ("x-forwarded-for", "10.0.0.1"),
            ("content-type", "application/json"),
            ("openai-beta", "x"),
            ("x-team", "blue"),
            ("x-other", "1"),
        ]);
        let pair = |name, value| (HeaderName::from_static(name), HeaderValue::from_static(value));
        let own = [pair("authorization", "Bearer earlier"), pair("authorization", "Bearer ours")];
        let mut out = HeaderMap::new();
        to_provider(&mut out, &client, &["x-*".to_owned()], &own, &HeaderValue::from_static("id-1"));
        let expected = [
            "accept-encoding",
            "authorization",
            "content-type",
            "openai-beta",
            "user-agent",
            "x-client-request-id",
            "x-other",
            "x-team",
        ];
        assert_eq!(names(&out), expected);
        assert_eq!(text(&out, &actix_web::http::header::AUTHORIZATION), "Bearer ours");
        assert_eq!(text(&out, &CLIENT_REQUEST_ID), "id-1");
        assert_eq!(out.len(), expected.len());
    }

    #[test]
    fn an_operators_headers_replace_ours_and_a_clients_id_stays() {
        let client = map(&[("x-client-request-id", "theirs"), ("user-agent", "curl"), ("openai-beta", "x")]);
        let own = [("user-agent", "own"), ("openai-beta", "y"), ("accept-encoding", "gzip")]
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        let mut out = HeaderMap::new();
        to_provider(&mut out, &client, &["user-agent".to_owned()], &own, &HeaderValue::from_static("id-1"));
        assert_eq!(names(&out), ["accept-encoding", "openai-beta", "user-agent", "x-client-request-id"]);
        assert_eq!((text(&out, &CLIENT_REQUEST_ID), text(&out, &USER_AGENT), out.len()), ("theirs", "own", 4));
    }

    fn relayed(provider: &HeaderMap) -> Vec<String> {
        let connection = named_by_connection(provider);
        names(provider).into_iter().filter(|name| is_relayed(name.as_bytes(), &connection)).collect()
    }

    #[test]
    fn what_belongs_to_one_connection_or_to_us_is_not_relayed() {
        let provider = map(&[
            ("connection", "close, x-hop"),
            ("x-hop", "1"),
            ("set-cookie", "a"),
            ("set-cookie", "b"),
            ("server", "cloudflare"),
            ("x-breakwater-backend", "forged"),
            ("access-control-allow-origin", "*"),
            ("content-length", "5"),
            ("x-request-id", "req_1"),
            ("x-ratelimit-remaining-requests", "7"),
            ("content-type", "application/json"),
        ]);
        assert_eq!(content_length(&provider), Some(5));
        assert_eq!(relayed(&provider), ["content-type", "x-ratelimit-remaining-requests", "x-request-id"]);
    }
}

//! Status, headers, body, in-band error or transport failure → outcome class: the one place that judges an answer.
//!
//! First match wins (spec/resilience.md 2.2): the operator's rules, 5xx by status, structured codes, the one phrase, status.
//! No other text is interpreted. Whether anything was committed is the caller's knowledge, not ours.

use super::error_fields::ErrorFields;
use crate::backend::outcome::{Class, ConnectPhase, TimeoutKind};
use crate::config::{ClassifyRule, Provider};

/// What an attempt met.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// No connection.
    NoConnection(ConnectPhase),
    /// Reset or end of file before the answer was whole (a stale reused connection is resent before this is asked).
    Reset,
    /// A clean end short of the length or the terminal event.
    Truncated,
    /// Not decodable, wrong content type, redirect.
    Malformed,
    /// One of our timers.
    TimedOut(TimeoutKind),
    /// A status of 300 or more.
    Answered(Answer<'a>),
    /// An error inside a 2xx answer.
    InBand(&'a ErrorFields),
}

/// An answer that is no success.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    /// The HTTP status.
    pub status: u16,
    /// What its body says; empty if it says nothing.
    pub fields: &'a ErrorFields,
    /// Whether the call names a model rather than a stored object.
    pub names_model: bool,
    /// Whether a wait was named ([`super::hint::find`]).
    pub has_hint: bool,
}

/// Judges what an attempt met.
pub fn classify(event: Event<'_>, provider: &Provider, rules: &[ClassifyRule]) -> Class {
    match event {
        Event::NoConnection(phase) => Class::Connect(phase),
        Event::Reset => Class::Reset,
        Event::Truncated => Class::Truncated,
        Event::Malformed => Class::Malformed,
        Event::TimedOut(kind) => Class::Timeout(kind),
        Event::Answered(answer) => classify_answer(answer, provider, rules),
        Event::InBand(fields) => classify_in_band(fields, provider, rules),
    }
}

fn classify_answer(answer: Answer<'_>, provider: &Provider, rules: &[ClassifyRule]) -> Class {
    let Answer { status, fields, .. } = answer;
    if let Some(class) = by_rule(status, fields, rules) {
        return class;
    }
    match status {
        529 if answer.has_hint => Class::Overloaded,
        500.. => Class::ServerError,
        ..400 => Class::Malformed,
        400..500 => by_code(status, fields)
            .or_else(|| by_phrase(status, fields, provider))
            .unwrap_or_else(|| by_status(status_of(status, fields, provider), answer)),
    }
}

/// Azure's string codes such as `"401"` act as the status where the status itself says only "bad request".
fn status_of(status: u16, fields: &ErrorFields, provider: &Provider) -> u16 {
    match provider {
        Provider::AzureDated { .. } | Provider::AzureV1 if status == 400 => fields.status().unwrap_or(status),
        Provider::AzureDated { .. } | Provider::AzureV1 | Provider::OpenAi | Provider::Compatible(_) => status,
    }
}

fn classify_in_band(fields: &ErrorFields, provider: &Provider, rules: &[ClassifyRule]) -> Class {
    let status = fields.status();
    if let Some(class) = by_rule(status.unwrap_or(200), fields, rules) {
        return class;
    }
    match status {
        Some(500..) => Class::ServerError,
        Some(status) => by_code(status, fields)
            .or_else(|| by_phrase(status, fields, provider))
            .unwrap_or_else(|| by_status(status, Answer { status, fields, names_model: true, has_hint: false })),
        None => by_code(400, fields).unwrap_or(Class::ServerError),
    }
}

fn by_rule(status: u16, fields: &ErrorFields, rules: &[ClassifyRule]) -> Option<Class> {
    let has = |wanted: &Option<String>, said: &Option<String>| wanted.is_none() || wanted == said;
    let rule = rules.iter().find(|rule| {
        rule.status.is_none_or(|wanted| wanted == status)
            && has(&rule.code, &fields.code)
            && has(&rule.kind, &fields.kind)
            && rule.message_contains.as_ref().is_none_or(|part| says(fields, part))
    })?;
    Some(Class::of(rule.class))
}

/// Whether the message holds this text, ASCII case ignored.
fn says(fields: &ErrorFields, part: &str) -> bool {
    let Some(message) = &fields.message else { return false };
    message.to_ascii_lowercase().contains(&part.to_ascii_lowercase())
}

/// The structured codes, in `code`, then in `type`, then Azure's inner code.
fn by_code(status: u16, fields: &ErrorFields) -> Option<Class> {
    if fields.inner_code.as_deref() == Some("ResponsibleAIPolicyViolation") {
        return Some(Class::Policy);
    }
    let words = [fields.code.as_deref(), fields.kind.as_deref()];
    words.into_iter().flatten().find_map(|word| {
        Some(match word {
            "insufficient_quota"
            | "credit_balance_exhausted"
            | "organization_spend_limit_exceeded"
            | "project_spend_limit_exceeded"
            | "organization_usage_limit_exceeded"
            | "billing_hard_limit_reached" => Class::QuotaExhausted,
            "rate_limit_exceeded" | "slow_down" | "requests" | "tokens" | "rate_limit_error" => Class::RateLimited,
            "invalid_api_key" | "invalid_organization" | "ip_not_authorized" => Class::Auth,
            "unsupported_country_region_territory" => Class::Permission,
            "model_not_found" | "DeploymentNotFound" if matches!(status, 400 | 404) => Class::NotFound,
            "context_length_exceeded" | "exceed_context_size_error" => Class::ContextWindow,
            "content_filter" | "content_policy_violation" | "invalid_prompt" | "bio_policy" => Class::Policy,
            _ => return None,
        })
    })
}

/// Compatible servers have no code for it (vLLM, llama.cpp).
fn by_phrase(status: u16, fields: &ErrorFields, provider: &Provider) -> Option<Class> {
    match provider {
        Provider::Compatible(_) if matches!(status, 400 | 413) && says(fields, "maximum context length") => {
            Some(Class::ContextWindow)
        }
        Provider::Compatible(_) | Provider::OpenAi | Provider::AzureDated { .. } | Provider::AzureV1 => None,
    }
}

fn by_status(status: u16, answer: Answer<'_>) -> Class {
    match status {
        401 => Class::Auth,
        402 => Class::QuotaExhausted,
        403 => Class::Permission,
        404 if answer.names_model && !names_other_object(answer.fields) => Class::NotFound,
        408 | 425 => Class::Timeout(TimeoutKind::Status),
        429 => Class::RateLimited,
        500.. => Class::ServerError,
        _ => Class::CallerFault,
    }
}

/// A 404 that is about a stored object the body refers to, such as `previous_response_not_found`.
fn names_other_object(fields: &ErrorFields) -> bool {
    let names = |part: &Option<String>, is_other: fn(&str) -> bool| part.as_deref().is_some_and(is_other);
    names(&fields.param, |param| param != "model")
        || names(&fields.code, |code| {
            code.ends_with("_not_found") && code != "model_not_found" && code != "resource_not_found"
        })
}

#[cfg(test)]
mod tests {
    use super::super::error_fields::find_error;
    use super::*;
    use crate::error::ErrorType;

    const OPENAI: Provider = Provider::OpenAi;
    const AZURE: Provider = Provider::AzureV1;
    const COMPATIBLE: Provider = Provider::Compatible("compatible");

    fn answered(provider: &Provider, status: u16, body: &str) -> Class {
        let fields = find_error(body.as_bytes()).map(|error| error.fields).unwrap_or_default();
        let answer = Answer { status, fields: &fields, names_model: true, has_hint: false };
        classify(Event::Answered(answer), provider, &[])
    }

    fn coded(code: &str, kind: &str) -> String {
        format!(r#"{{"error":{{"message":"m","type":{kind},"param":null,"code":{code}}}}}"#)
    }

    #[test]
    fn the_catalogue() {
        let request = "\"invalid_request_error\"";
        for (provider, status, body, class) in [
            (&OPENAI, 400, coded("null", request), Class::CallerFault),
            (&OPENAI, 413, String::new(), Class::CallerFault),
            (&OPENAI, 409, coded("\"invalid_value\"", request), Class::CallerFault),
            (&OPENAI, 422, String::new(), Class::CallerFault),
            (&OPENAI, 408, String::new(), Class::Timeout(TimeoutKind::Status)),
            (&OPENAI, 425, String::new(), Class::Timeout(TimeoutKind::Status)),
            (&OPENAI, 400, coded("\"context_length_exceeded\"", request), Class::ContextWindow),
            (&COMPATIBLE, 400, r#"{"object":"error","message":"This model's Maximum Context Length is 4096","type":"BadRequestError","param":null,"code":400}"#.into(), Class::ContextWindow),
            (&OPENAI, 400, r#"{"error":{"message":"maximum context length"}}"#.into(), Class::CallerFault),
            (&COMPATIBLE, 400, coded("400", "\"exceed_context_size_error\""), Class::ContextWindow),
            (&OPENAI, 400, coded("\"content_policy_violation\"", request), Class::Policy),
            (&OPENAI, 400, coded("\"invalid_prompt\"", request), Class::Policy),
            (&OPENAI, 401, String::new(), Class::Auth),
            (&OPENAI, 400, coded("\"invalid_api_key\"", request), Class::Auth),
            (&OPENAI, 403, coded("\"unsupported_country_region_territory\"", "null"), Class::Permission),
            (&OPENAI, 403, String::new(), Class::Permission),
            (&OPENAI, 404, coded("\"model_not_found\"", request), Class::NotFound),
            (&OPENAI, 400, coded("\"model_not_found\"", request), Class::NotFound),
            (&OPENAI, 404, r#"{"detail":"Not Found"}"#.into(), Class::NotFound),
            (&OPENAI, 404, coded("\"previous_response_not_found\"", request), Class::CallerFault),
            (&COMPATIBLE, 404, r#"{"object":"error","message":"The model `x` does not exist.","type":"NotFoundError","param":null,"code":404}"#.into(), Class::NotFound),
            (&OPENAI, 429, coded("\"rate_limit_exceeded\"", "\"requests\""), Class::RateLimited),
            (&OPENAI, 429, String::new(), Class::RateLimited),
            (&OPENAI, 429, coded("\"insufficient_quota\"", "\"insufficient_quota\""), Class::QuotaExhausted),
            (&OPENAI, 400, coded("\"billing_hard_limit_reached\"", request), Class::QuotaExhausted),
            (&OPENAI, 402, String::new(), Class::QuotaExhausted),
            (&OPENAI, 500, coded("\"insufficient_quota\"", "null"), Class::ServerError),
            (&OPENAI, 529, String::new(), Class::ServerError),
            (&OPENAI, 504, "<html>".into(), Class::ServerError),
            (&OPENAI, 307, String::new(), Class::Malformed),
            (&AZURE, 401, r#"{"statusCode":401,"message":"Access denied"}"#.into(), Class::Auth),
            (&AZURE, 400, coded("\"401\"", "null"), Class::Auth),
            (&AZURE, 429, coded("\"429\"", "null"), Class::RateLimited),
            (&AZURE, 404, r#"{"error":{"code":"DeploymentNotFound","message":"…"}}"#.into(), Class::NotFound),
            (&AZURE, 404, r#"{"error":{"code":"404","message":"Resource not found"}}"#.into(), Class::NotFound),
            (&AZURE, 400, r#"{"error":{"message":"x","type":null,"param":"prompt","code":"content_filter","status":400}}"#.into(), Class::Policy),
            (&AZURE, 400, r#"{"error":{"message":"x","code":null,"innererror":{"code":"ResponsibleAIPolicyViolation"}}}"#.into(), Class::Policy),
            (&AZURE, 400, r#"{"error":{"message":"x","inner_error":{"code":"ResponsibleAIPolicyViolation"}}}"#.into(), Class::Policy),
            (&COMPATIBLE, 404, r#"{"error":{"message":"model \"x\" not found","type":"not_found_error","param":null,"code":null}}"#.into(), Class::NotFound),
            (&COMPATIBLE, 503, coded("503", "\"unavailable_error\""), Class::ServerError),
            // A code acts as the status only where the status says no more than "bad request".
            (&AZURE, 429, coded("\"401\"", "null"), Class::RateLimited),
            (&AZURE, 400, coded("\"503\"", "null"), Class::ServerError),
            (&OPENAI, 400, coded("\"401\"", "null"), Class::CallerFault),
            (&OPENAI, 400, coded("\"unsupported_country_region_territory\"", "null"), Class::Permission),
            (&OPENAI, 403, coded("\"model_not_found\"", "null"), Class::Permission),
            (&COMPATIBLE, 400, r#"{"message":"no"}"#.into(), Class::CallerFault),
            (&COMPATIBLE, 413, r#"{"message":"maximum context length"}"#.into(), Class::ContextWindow),
            (&COMPATIBLE, 422, r#"{"message":"maximum context length"}"#.into(), Class::CallerFault),
            (&OPENAI, 404, r#"{"error":{"message":"m","param":"model"}}"#.into(), Class::NotFound),
            (&OPENAI, 404, r#"{"error":{"message":"m","param":"file_id"}}"#.into(), Class::CallerFault),
            (&OPENAI, 404, coded("\"resource_not_found\"", "null"), Class::NotFound),
        ] {
            assert_eq!(answered(provider, status, &body), class, "{} {status} {body}", provider.name());
        }
    }

    #[test]
    fn in_band_errors() {
        for (body, class) in [
            (coded("\"rate_limit_exceeded\"", "\"requests\""), Class::RateLimited),
            (coded("\"insufficient_quota\"", "null"), Class::QuotaExhausted),
            (coded("400", "\"BadRequestError\""), Class::CallerFault),
            (coded("429", "null"), Class::RateLimited),
            (coded("502", "null"), Class::ServerError),
            (coded("700", "null"), Class::ServerError),
            (coded("42", "null"), Class::ServerError),
            (coded("\"context_length_exceeded\"", "null"), Class::ContextWindow),
            (coded("\"content_filter\"", "null"), Class::Policy),
            (coded("\"server_error\"", "null"), Class::ServerError),
            (coded("null", "\"invalid_request_error\""), Class::ServerError),
            (r#"{"type":"error","code":"rate_limit_exceeded","message":"…","param":null,"sequence_number":1}"#.into(), Class::RateLimited),
            (r#"{"type":"response.failed","response":{"status":"failed","error":{"code":"rate_limit_exceeded","message":"x"}}}"#.into(), Class::RateLimited),
            (r#"{"error":"boom"}"#.into(), Class::ServerError),
        ] {
            let fields = find_error(body.as_bytes()).unwrap().fields;
            assert_eq!(classify(Event::InBand(&fields), &OPENAI, &[]), class, "{body}");
        }
    }

    #[test]
    fn rules_come_first_and_all_their_parts_must_match() {
        let rule = ClassifyRule {
            status: Some(500),
            code: None,
            kind: None,
            message_contains: Some("Daily".to_owned()),
            class: ErrorType::InsufficientQuota,
        };
        let judge = |status, message: &str| {
            let fields = ErrorFields { message: Some(message.to_owned()), ..ErrorFields::default() };
            let answer = Answer { status, fields: &fields, names_model: true, has_hint: false };
            classify(Event::Answered(answer), &OPENAI, std::slice::from_ref(&rule))
        };
        assert_eq!(judge(500, "the daily limit"), Class::QuotaExhausted);
        assert_eq!(judge(500, "oops"), Class::ServerError);
        assert_eq!(judge(429, "the daily limit"), Class::RateLimited);
        let named = |code: Option<&str>, kind: Option<&str>| {
            let [code, kind] = [code, kind].map(|word| word.map(str::to_owned));
            let rule = ClassifyRule { status: None, code, kind, message_contains: None, class: ErrorType::Timeout };
            let (code, kind) = (Some("c".to_owned()), Some("k".to_owned()));
            let fields = ErrorFields { code, kind, ..ErrorFields::default() };
            classify(Event::InBand(&fields), &OPENAI, &[rule]) == Class::Timeout(TimeoutKind::Status)
        };
        let table = [
            (Some("c"), None, true),
            (None, Some("k"), true),
            (Some("c"), Some("k"), true),
            (Some("other"), Some("k"), false),
            (Some("c"), Some("other"), false),
        ];
        for (code, kind, expected) in table {
            assert_eq!(named(code, kind), expected, "{code:?} {kind:?}");
        }
    }

    #[test]
    fn stored_objects_and_overload() {
        let fields = ErrorFields::default();
        let answer = Answer { status: 404, fields: &fields, names_model: false, has_hint: true };
        assert_eq!(classify(Event::Answered(answer), &OPENAI, &[]), Class::CallerFault);
        let overloaded = Answer { status: 529, ..answer };
        assert_eq!(classify(Event::Answered(overloaded), &OPENAI, &[]), Class::Overloaded);
    }
}

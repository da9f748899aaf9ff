//! What operators' bodies say. Pure.

use std::time::Duration;

use serde_json::{Map, Value};

use super::refusal::Refusal;
use crate::backend::machine::Command;
use crate::backend::status::Override;
use crate::config::parse_duration;

/// What a body looks like.
const CIRCUIT_EXAMPLE: &str = r#"{"action": "force_open"}"#;
const LEVEL_EXAMPLE: &str = r#"{"level": "debug"}"#;

/// The words of `action`.
const ACTIONS: &str = "one of force_open, force_closed, disabled, auto, reset";

/// What a `ttl` may be.
const TTL: &str = "a duration above zero such as 30, \"90s\" or \"5m\", and only with the action force_open";

/// Longest filter that is taken.
const MAX_LEVEL: usize = 256;

/// `POST /admin/backends/{b}/circuit`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Circuit {
    /// The action's word, for the log.
    pub(super) word: &'static str,
    /// What the backend's actor is to do.
    pub(super) command: Command,
}

impl Circuit {
    /// Reads `{"action": …, "ttl"?: duration, "blocks"?: bool}`.
    ///
    /// # Errors
    /// What is wrong, and what there may be.
    pub(super) fn read(body: &[u8]) -> Result<Self, Refusal> {
        let object = object(body, CIRCUIT_EXAMPLE)?;
        for key in object.keys() {
            match key.as_str() {
                "action" | "blocks" | "ttl" => {}
                _ => {
                    let why = "the body may hold `action`, `ttl` and `blocks` and nothing else";
                    return Err(Refusal::field("action", why));
                }
            }
        }
        let action = object.get("action").and_then(Value::as_str).unwrap_or_default();
        let by_word = Override::ALL.into_iter().find(|hand| hand.name() == action);
        let blocks = match (action, object.get("blocks")) {
            (_, None) => false,
            ("reset", Some(Value::Bool(blocks))) => *blocks,
            (_, Some(_)) => return Err(Refusal::field("blocks", "true or false, and only with the action reset")),
        };
        let ttl = object.get("ttl").map(|ttl| (by_word, lifetime(ttl)));
        match by_word {
            Some(hand) if ttl.is_some() => match ttl {
                Some((Some(Override::ForceOpen), Some(ttl))) => {
                    Ok(Self { word: hand.name(), command: Command::ForceOpenFor(ttl) })
                }
                Some(_) | None => Err(Refusal::field("ttl", TTL)),
            },
            None if ttl.is_some() => Err(Refusal::field("ttl", TTL)),
            Some(hand) => Ok(Self { word: hand.name(), command: Command::Override(hand) }),
            None if action == "reset" => Ok(Self { word: "reset", command: Command::Reset { blocks } }),
            None => Err(Refusal::field("action", ACTIONS)),
        }
    }
}

/// Seconds as a number, or a duration as configurations spell it; above zero.
fn lifetime(ttl: &Value) -> Option<Duration> {
    let read = match ttl {
        Value::Number(seconds) => parse_duration(&seconds.to_string()),
        Value::String(text) => parse_duration(text),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    };
    read.filter(|ttl| !ttl.is_zero())
}

/// Reads `{"level": …}`.
///
/// # Errors
/// What is wrong.
pub(super) fn level(body: &[u8]) -> Result<String, Refusal> {
    let object = object(body, LEVEL_EXAMPLE)?;
    let level = object.get("level").and_then(Value::as_str).map(str::trim).unwrap_or_default();
    if level.is_empty() || MAX_LEVEL < level.len() || object.len() != 1 {
        return Err(Refusal::field("level", "a filter such as info, debug or breakwater=debug, and nothing else"));
    }
    Ok(level.to_owned())
}

fn object(body: &[u8], example: &'static str) -> Result<Map<String, Value>, Refusal> {
    match serde_json::from_slice(body) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) | Err(_) => Err(Refusal::NoObject(example)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> Result<Command, String> {
        Circuit::read(body.as_bytes()).map(|circuit| circuit.command).map_err(|refusal| match refusal {
            Refusal::Field(name, _) => name.to_owned(),
            Refusal::NoObject(_) => "body".to_owned(),
            other @ (Refusal::Fault(_)
            | Refusal::NoToken
            | Refusal::FromAPage
            | Refusal::UnknownBackend(_)
            | Refusal::ActorGone(_)
            | Refusal::NothingEarlier
            | Refusal::NoAnswer) => format!("{other:?}"),
        })
    }

    #[test]
    fn actions_become_commands() {
        let hand = |hand| Ok(Command::Override(hand));
        let reset = |blocks| Ok(Command::Reset { blocks });
        let wrong = |field: &str| Err(field.to_owned());
        let table = [
            (r#"{"action":"force_open"}"#, hand(Override::ForceOpen)),
            (r#"{"action":"force_closed"}"#, hand(Override::ForceClosed)),
            (r#"{"action":"disabled"}"#, hand(Override::Disabled)),
            (r#"{"action":"auto"}"#, hand(Override::Auto)),
            (r#"{"action":"reset"}"#, reset(false)),
            (r#"{"action":"reset","blocks":true}"#, reset(true)),
            (r#"{"action":"open"}"#, wrong("action")),
            (r#"{"action":7}"#, wrong("action")),
            ("{}", wrong("action")),
            (r#"{"action":"reset","block":true}"#, wrong("action")),
            (r#"{"action":"reset","blocks":"yes"}"#, wrong("blocks")),
            (r#"{"action":"auto","blocks":true}"#, wrong("blocks")),
            (r#"{"action":"force_open","ttl":"5m"}"#, Ok(Command::ForceOpenFor(Duration::from_secs(300)))),
            (r#"{"action":"force_open","ttl":30}"#, Ok(Command::ForceOpenFor(Duration::from_secs(30)))),
            (r#"{"action":"force_open","ttl":0}"#, wrong("ttl")),
            (r#"{"action":"force_open","ttl":"soon"}"#, wrong("ttl")),
            (r#"{"action":"force_closed","ttl":30}"#, wrong("ttl")),
            (r#"{"action":"reset","ttl":30}"#, wrong("ttl")),
            ("force_open", wrong("body")),
            ("[]", wrong("body")),
            ("", wrong("body")),
        ];
        for (body, expected) in table {
            assert_eq!(read(body), expected, "{body}");
        }
    }

    #[test]
    fn a_level_is_a_word_of_its_own() {
        assert_eq!(level(br#"{"level":" debug "}"#).unwrap(), "debug");
        for body in [r#"{"level":""}"#, r#"{"level":3}"#, r#"{"level":"info","more":1}"#, "debug"] {
            assert!(level(body.as_bytes()).is_err(), "{body}");
        }
    }
}

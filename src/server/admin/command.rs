//! What operators' bodies say. Pure.

use serde_json::{Map, Value};

use super::refusal::Refusal;
use crate::backend::machine::Command;
use crate::backend::status::Override;

/// What a body looks like.
const CIRCUIT_EXAMPLE: &str = r#"{"action": "force_open"}"#;
const LEVEL_EXAMPLE: &str = r#"{"level": "debug"}"#;

/// The words of `action`.
const ACTIONS: &str = "one of force_open, force_closed, disabled, auto, reset";

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
    /// Reads `{"action": …, "blocks"?: bool}`.
    ///
    /// # Errors
    /// What is wrong, and what there may be.
    pub(super) fn read(body: &[u8]) -> Result<Self, Refusal> {
        let object = object(body, CIRCUIT_EXAMPLE)?;
        for key in object.keys() {
            match key.as_str() {
                "action" | "blocks" => {}
                "ttl" => {
                    let why = "an override that ends by itself is not available yet: leave it out, and release the override with `auto`";
                    return Err(Refusal::field("ttl", why));
                }
                _ => return Err(Refusal::field("action", "the body may hold `action` and `blocks` and nothing else")),
            }
        }
        let action = object.get("action").and_then(Value::as_str).unwrap_or_default();
        let by_word = Override::ALL.into_iter().find(|hand| hand.name() == action);
        let blocks = match (action, object.get("blocks")) {
            (_, None) => false,
            ("reset", Some(Value::Bool(blocks))) => *blocks,
            (_, Some(_)) => return Err(Refusal::field("blocks", "true or false, and only with the action reset")),
        };
        match by_word {
            Some(hand) => Ok(Self { word: hand.name(), command: Command::Override(hand) }),
            None if action == "reset" => Ok(Self { word: "reset", command: Command::Reset { blocks } }),
            None => Err(Refusal::field("action", ACTIONS)),
        }
    }
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
            | Refusal::ActorGone(_)) => format!("{other:?}"),
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
            (r#"{"action":"force_open","ttl":"5m"}"#, wrong("ttl")),
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

//! Faults that change what an answer says, before it becomes bytes.

use std::borrow::Cow;

use serde_json::{Value, json};

use super::answer::{Answer, Event, Payload};
use super::fault::{ErrorForm, Fault, InBandError, Malformed, Truncate, Wire};

/// Where a redirect points: nobody listens there, and whoever follows it is found out.
const ELSEWHERE: &str = "http://127.0.0.1:9/elsewhere";

/// The answer after this fault has touched its content; faults of bytes and connections leave it alone.
pub(super) fn apply(mut answer: Answer, fault: &Fault) -> Answer {
    match fault {
        Fault::Malformed(malformed) => return self::malformed(answer, *malformed),
        Fault::InBandError(error) => in_band_error(&mut answer, error),
        Fault::Truncate(truncate) => truncated(&mut answer, *truncate),
        Fault::Wire(Wire { large_event_bytes: Some(size), .. }) => enlarge(&mut answer, size.get()),
        Fault::Latency(_)
        | Fault::Ttft(_)
        | Fault::TokensPerSecond(_)
        | Fault::Slow(_)
        | Fault::Status(_)
        | Fault::Quota(_)
        | Fault::Refuse
        | Fault::Blackhole
        | Fault::AcceptReset
        | Fault::Hang(_)
        | Fault::Reset(_)
        | Fault::Close(_)
        | Fault::Stale(_)
        | Fault::Wire(_) => {}
    }
    answer
}

fn malformed(mut answer: Answer, how: Malformed) -> Answer {
    let replaced = match how {
        Malformed::JsonCut => {
            cut_json(&mut answer);
            return answer;
        }
        Malformed::ContentType => {
            answer.payload = Payload::Whole { content_type: "text/plain".into(), body: flat(&answer.payload) };
            return answer;
        }
        Malformed::Gzip => {
            let content_type = content_type(&answer.payload);
            answer.payload = Payload::Whole { content_type, body: gzip(&flat(&answer.payload)) };
            answer.set("content-encoding", "gzip");
            return answer;
        }
        // The framing is broken by the script.
        Malformed::BadChunk => return answer,
        Malformed::Html => {
            Answer::whole(200, "text/html", "<html><body><h1>Welcome</h1><p>Please sign in.</p></body></html>\n")
        }
        Malformed::Empty => Answer::json(200, ""),
        Malformed::JsonToStream => Answer::json(200, r#"{"id":"chatcmpl-0","object":"chat.completion","choices":[]}"#),
        Malformed::Redirect => {
            let mut redirect = Answer::whole(307, "text/plain", "");
            redirect.set("location", ELSEWHERE);
            redirect
        }
    };
    Answer { lead: answer.lead, ..replaced }
}

/// Half of a whole body; of a stream, half of the event in the middle.
fn cut_json(answer: &mut Answer) {
    match &mut answer.payload {
        Payload::Whole { body, .. } => body.truncate(body.len() / 2),
        Payload::Events(events) => {
            let middle = events.len() / 2;
            if let Some(event) = events.get_mut(middle) {
                event.data = event.data.chars().take(event.data.chars().count() / 2).collect();
            }
        }
    }
}

/// A stream without its end.
fn truncated(answer: &mut Answer, how: Truncate) {
    let Payload::Events(events) = &mut answer.payload else { return };
    match how {
        Truncate::ContentLength | Truncate::Chunked => {}
        Truncate::FinishNoDone => events.retain(|event| !event.is_done()),
        Truncate::NoDone => {
            let is_end = |event: &Event| {
                event.is_done()
                    || event.name == Some("response.completed")
                    || (event.name.is_none() && finishes(&event.data))
            };
            if let Some(end) = events.iter().position(is_end) {
                events.truncate(end);
            }
        }
    }
}

/// Whether a chunk carries a finish reason.
fn finishes(data: &str) -> bool {
    let chunk: Value = serde_json::from_str(data).unwrap_or_default();
    let mut choices = chunk["choices"].as_array().into_iter().flatten();
    choices.any(|choice| choice["finish_reason"].is_string())
}

fn in_band_error(answer: &mut Answer, error: &InBandError) {
    let Payload::Events(events) = &mut answer.payload else { return };
    events.truncate(error.at);
    let data = error_data(error, events.len());
    let event = match error.form {
        ErrorForm::EventError | ErrorForm::ResponsesError | ErrorForm::Anthropic => Event::typed("error", &data),
        ErrorForm::ResponsesFailed => Event::typed("response.failed", &data),
        ErrorForm::Openai | ErrorForm::Vllm | ErrorForm::Flat | ErrorForm::NumericCode => {
            Event::plain(data.to_string())
        }
    };
    events.push(event);
    if error.form == ErrorForm::Vllm {
        events.push(Event::done());
    }
    for (name, value) in &error.headers {
        answer.set(name.clone(), value.clone());
    }
}

fn error_data(error: &InBandError, sequence_number: usize) -> Value {
    let message = error.message.as_deref().unwrap_or("The server had an error while processing your request.");
    let code = |default: Value| error.code.clone().unwrap_or(default);
    match error.form {
        ErrorForm::Openai | ErrorForm::EventError => json!({"error": {
            "message": message, "type": "server_error", "param": null, "code": code(Value::Null),
        }}),
        ErrorForm::NumericCode => json!({"error": {
            "message": message, "type": "rate_limit_error", "param": null, "code": code(429.into()),
        }}),
        ErrorForm::Vllm => json!({"error": {
            "object": "error", "message": message, "type": "BadRequestError", "param": null, "code": code(400.into()),
        }}),
        ErrorForm::Flat => json!({
            "object": "error", "message": message, "type": "internal_error", "param": null, "code": code(50001.into()),
        }),
        ErrorForm::ResponsesError => json!({
            "type": "error", "code": code("server_error".into()), "message": message, "param": null,
            "sequence_number": sequence_number,
        }),
        ErrorForm::ResponsesFailed => json!({
            "type": "response.failed", "sequence_number": sequence_number,
            "response": {
                "id": "resp_failed", "object": "response", "status": "failed", "output": [],
                "error": {"code": code("server_error".into()), "message": message},
            },
        }),
        ErrorForm::Anthropic => json!({
            "type": "error", "error": {"type": code("overloaded_error".into()), "message": message},
        }),
    }
}

/// Pads the first content event by blanks inside its JSON, which every parser skips.
fn enlarge(answer: &mut Answer, size: usize) {
    let Payload::Events(events) = &mut answer.payload else { return };
    let Some(event) = events.iter_mut().find(|event| event.is_content) else { return };
    let padding = size.saturating_sub(event.data.len());
    event.data.insert_str(1, &" ".repeat(padding));
}

/// A payload as the bytes it would be without framing.
fn flat(payload: &Payload) -> Vec<u8> {
    match payload {
        Payload::Whole { body, .. } => body.clone(),
        Payload::Events(events) => {
            let blocks = events.iter().map(|event| {
                let name = event.name.map(|name| format!("event: {name}\n")).unwrap_or_default();
                format!("{name}data: {}\n\n", event.data)
            });
            blocks.collect::<String>().into_bytes()
        }
    }
}

fn content_type(payload: &Payload) -> Cow<'static, str> {
    match payload {
        Payload::Whole { content_type, .. } => content_type.clone(),
        Payload::Events(_) => "text/event-stream".into(),
    }
}

/// A gzip file (RFC 1952) of stored blocks: valid, and no compressor is needed.
fn gzip(bytes: &[u8]) -> Vec<u8> {
    /// Longest stored block of deflate (RFC 1951 section 3.2.4).
    const MAX_STORED_BYTES: usize = 65_535;
    let mut file = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    for block in bytes.chunks(MAX_STORED_BYTES) {
        let length = block.len() as u16;
        file.push(0);
        file.extend(length.to_le_bytes());
        file.extend((!length).to_le_bytes());
        file.extend(block);
    }
    file.extend([1, 0, 0, 0xff, 0xff]);
    file.extend(crc32(bytes).to_le_bytes());
    file.extend((bytes.len() as u32).to_le_bytes());
    file
}

fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 })
    };
    !bytes.iter().fold(!0, step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_right() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn a_finish_reason_in_a_text_is_none() {
        assert!(finishes(r#"{"choices":[{"delta":{},"finish_reason":"stop"}]}"#));
        assert!(!finishes(r#"{"choices":[{"delta":{"content":"\"finish_reason\":\"stop\""},"finish_reason":null}]}"#));
    }
}

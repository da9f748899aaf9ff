//! `chat/completions` and `completions`, whole and streamed.

use std::time::Duration;

use serde_json::{Value, json};

use super::schema;
use super::{Call, quoted};
use crate::simulator::answer::{Answer, Event};
use crate::simulator::options::Dialect;
use crate::simulator::provider_error::Refusal;

/// Most choices of one answer, as OpenAI has it.
const MAX_CHOICES: u64 = 128;

/// Which of the two APIs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Chat,
    Text,
}

/// What the model says.
enum Speech {
    Words(Vec<String>),
    /// A call of a tool: its name, and its arguments in pieces.
    Tool {
        name: String,
        arguments: Vec<String>,
    },
}

impl Speech {
    fn pieces(&self) -> &[String] {
        match self {
            Self::Words(pieces) | Self::Tool { arguments: pieces, .. } => pieces,
        }
    }
}

/// The answer to a chat or text completion.
pub(super) fn answer(call: &mut Call<'_>, shape: Shape) -> Result<Answer, Refusal> {
    let prompt = match shape {
        Shape::Chat => "messages",
        Shape::Text => "prompt",
    };
    if call.fields.get(prompt).is_none() {
        return Err(Refusal::MissingField(prompt));
    }
    if call.settings.reject_stream_options && call.fields.get("stream_options").is_some() {
        return Err(Refusal::UnknownField("stream_options".to_owned()));
    }
    let choices = call.fields.number("n").unwrap_or(1);
    if !(1..=MAX_CHOICES).contains(&choices) {
        return Err(Refusal::InvalidValue { field: "n", problem: "must be 1 to 128" });
    }
    let speech = speech(call, shape);
    Ok(if call.streams() { stream(call, shape, &speech, choices) } else { whole(call, shape, &speech, choices) })
}

fn speech(call: &Call<'_>, shape: Shape) -> Speech {
    let words = call.words(&["max_completion_tokens", "max_tokens"]);
    if shape == Shape::Text || call.fields.ends_with_tool() {
        return Speech::Words(words);
    }
    let may_call = call.fields.text("tool_choice") != Some("none");
    if let Some(tool) = call.fields.get("tools").and_then(|tools| tools.get(0)).filter(|_| may_call) {
        let function = &tool["function"];
        let name = function["name"].as_str().unwrap_or_default().to_owned();
        let arguments = schema::example(&function["parameters"], &words.concat()).to_string();
        return Speech::Tool { name, arguments: schema::pieces(&arguments) };
    }
    let format = call.fields.get("response_format");
    match format.and_then(|format| format["type"].as_str()) {
        Some("json_schema") => {
            let wanted = format.map_or(Value::Null, |format| format["json_schema"]["schema"].clone());
            Speech::Words(schema::pieces(&schema::example(&wanted, &words.concat()).to_string()))
        }
        Some("json_object") => Speech::Words(schema::pieces(&json!({"text": words.concat()}).to_string())),
        Some(_) | None => Speech::Words(words),
    }
}

fn finish_reason<'a>(call: &'a Call<'_>, speech: &Speech) -> &'a str {
    match speech {
        Speech::Words(_) => &call.settings.finish_reason,
        Speech::Tool { .. } => "tool_calls",
    }
}

fn usage(call: &Call<'_>, speech: &Speech, choices: u64) -> String {
    let prompt = call.fields.prompt_tokens();
    let completion = speech.pieces().len() as u64 * choices;
    format!(
        r#"{{"prompt_tokens":{prompt},"completion_tokens":{completion},"total_tokens":{},"prompt_tokens_details":{{"cached_tokens":0,"audio_tokens":0}},"completion_tokens_details":{{"reasoning_tokens":0,"audio_tokens":0,"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}}}}"#,
        prompt + completion
    )
}

/// Azure's verdict on a piece of text, as a further field.
const FILTER_RESULTS: &str = r#","content_filter_results":{"hate":{"filtered":false,"severity":"safe"},"self_harm":{"filtered":false,"severity":"safe"},"sexual":{"filtered":false,"severity":"safe"},"violence":{"filtered":false,"severity":"safe"}}"#;

/// Azure's verdict on the prompt, as a value.
const PROMPT_FILTER_RESULTS: &str = r#"[{"prompt_index":0,"content_filter_results":{"hate":{"filtered":false,"severity":"safe"},"jailbreak":{"filtered":false,"detected":false}}}]"#;

fn whole(call: &mut Call<'_>, shape: Shape, speech: &Speech, count: u64) -> Answer {
    let filter = if call.dialect == Dialect::Azure { FILTER_RESULTS } else { "" };
    let finish = finish_reason(call, speech);
    let choice = |index: u64| match shape {
        Shape::Chat => format!(
            r#"{{"index":{index},"message":{},"logprobs":null,"finish_reason":"{finish}"{filter}}}"#,
            message(call, speech, index)
        ),
        Shape::Text => format!(
            r#"{{"index":{index},"text":{},"logprobs":null,"finish_reason":"{finish}"{filter}}}"#,
            quoted(&speech.pieces().concat())
        ),
    };
    let choices: Vec<String> = (0..count).map(choice).collect();
    let (prefix, object) = match shape {
        Shape::Chat => ("chatcmpl-", "chat.completion"),
        Shape::Text => ("cmpl-", "text_completion"),
    };
    let prompt_filter = match call.dialect {
        Dialect::Azure => format!(r#","prompt_filter_results":{PROMPT_FILTER_RESULTS}"#),
        Dialect::OpenAi | Dialect::Compat => r#","service_tier":"default""#.to_owned(),
    };
    let body = format!(
        r#"{{"id":"{}","object":"{object}","created":{},"model":{},"choices":[{}],"usage":{}{prompt_filter},"system_fingerprint":"fp_{}"}}"#,
        call.id(prefix),
        call.created,
        quoted(&call.snapshot()),
        choices.join(","),
        usage(call, speech, count),
        call.backend,
    );
    Answer { lead: call.pace.whole(speech.pieces().len(), &mut call.rng), ..Answer::json(200, body) }
}

fn message(call: &Call<'_>, speech: &Speech, choice: u64) -> String {
    match speech {
        Speech::Words(words) => {
            format!(r#"{{"role":"assistant","content":{},"refusal":null,"annotations":[]}}"#, quoted(&words.concat()))
        }
        Speech::Tool { name, arguments } => format!(
            r#"{{"role":"assistant","content":null,"tool_calls":[{{"id":"{}-{choice}","type":"function","function":{{"name":{},"arguments":{}}}}}],"refusal":null,"annotations":[]}}"#,
            call.id("call_"),
            quoted(name),
            quoted(&arguments.concat())
        ),
    }
}

/// The parts of a chunk that all chunks of a stream share.
struct Chunks {
    shape: Shape,
    head: String,
    tail: &'static str,
}

impl Chunks {
    fn new(call: &Call<'_>, shape: Shape) -> Self {
        let (prefix, object) = match shape {
            Shape::Chat => ("chatcmpl-", "chat.completion.chunk"),
            Shape::Text => ("cmpl-", "text_completion"),
        };
        let (id, model) =
            if call.settings.empty_ids { (String::new(), String::new()) } else { (call.id(prefix), call.snapshot()) };
        let head = format!(
            r#"{{"id":"{id}","object":"{object}","created":{},"model":{},"service_tier":"default","system_fingerprint":"fp_{}","choices":["#,
            call.created,
            quoted(&model),
            call.backend
        );
        let tail = if call.fields.includes_usage() { r#"],"usage":null}"# } else { "]}" };
        Self { shape, head, tail }
    }

    /// A chunk of one choice; `delta` is the JSON of the delta, or of the text.
    fn choice(&self, index: u64, delta: &str, finish: &str) -> String {
        let name = match self.shape {
            Shape::Chat => "delta",
            Shape::Text => "text",
        };
        format!(
            r#"{}{{"index":{index},"{name}":{delta},"logprobs":null,"finish_reason":{finish}}}{}"#,
            self.head, self.tail
        )
    }
}

fn stream(call: &mut Call<'_>, shape: Shape, speech: &Speech, choices: u64) -> Answer {
    let chunks = Chunks::new(call, shape);
    let pieces = speech.pieces();
    let mut events = Vec::with_capacity(pieces.len() * choices as usize + 6);
    if call.settings.prompt_filter {
        events.push(Event::plain(format!(
            r#"{{"id":"","object":"","created":0,"model":"","choices":[],"prompt_filter_results":{PROMPT_FILTER_RESULTS}}}"#
        )));
    }
    for choice in 0..choices {
        if let Some(delta) = first_delta(call, shape, speech, choice) {
            events.push(Event {
                is_content: matches!(speech, Speech::Tool { .. }),
                ..Event::plain(chunks.choice(choice, &delta, "null"))
            });
        }
    }
    for (index, piece) in pieces.iter().enumerate() {
        for choice in 0..choices {
            let wait = if choice == 0 { call.pace.wait(index, &mut call.rng) } else { Duration::ZERO };
            events.push(Event::content(chunks.choice(choice, &delta(shape, speech, piece), "null"), wait));
        }
        if call.settings.annotations && index == pieces.len() / 2 {
            events.push(annotation(index));
        }
    }
    for choice in 0..choices {
        let nothing = match shape {
            Shape::Chat => "{}",
            Shape::Text => r#""""#,
        };
        let finish = quoted(finish_reason(call, speech));
        events.push(Event::content(chunks.choice(choice, nothing, &finish), Duration::ZERO));
    }
    if call.settings.annotations {
        events.push(annotation(pieces.len()));
    }
    if call.fields.includes_usage() {
        let usage = usage(call, speech, choices);
        events.push(Event::plain(format!(r#"{}],"usage":{usage}}}"#, chunks.head)));
    }
    events.push(Event::done());
    Answer::stream(events)
}

/// The role chunk: no content yet, or the head of a tool call.
fn first_delta(call: &Call<'_>, shape: Shape, speech: &Speech, choice: u64) -> Option<String> {
    match (shape, speech) {
        (Shape::Text, _) => None,
        (Shape::Chat, Speech::Words(_)) => Some(r#"{"role":"assistant","content":"","refusal":null}"#.to_owned()),
        (Shape::Chat, Speech::Tool { name, .. }) => Some(format!(
            r#"{{"role":"assistant","content":null,"tool_calls":[{{"index":0,"id":"{}-{choice}","type":"function","function":{{"name":{},"arguments":""}}}}],"refusal":null}}"#,
            call.id("call_"),
            quoted(name)
        )),
    }
}

fn delta(shape: Shape, speech: &Speech, piece: &str) -> String {
    match (shape, speech) {
        (Shape::Text, _) => quoted(piece),
        (Shape::Chat, Speech::Words(_)) => format!(r#"{{"content":{}}}"#, quoted(piece)),
        (Shape::Chat, Speech::Tool { .. }) => {
            format!(r#"{{"tool_calls":[{{"index":0,"function":{{"arguments":{}}}}}]}}"#, quoted(piece))
        }
    }
}

/// Azure's asynchronous filter: a choice without a delta, in a chunk without id.
fn annotation(offset: usize) -> Event {
    Event::plain(format!(
        r#"{{"id":"","object":"","created":0,"model":"","choices":[{{"index":0,"finish_reason":null{FILTER_RESULTS},"content_filter_offsets":{{"check_offset":{offset},"start_offset":0,"end_offset":{offset}}}}}]}}"#
    ))
}

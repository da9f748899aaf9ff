//! `responses`: create, whole and streamed with numbered events; what is stored can be read and deleted.

use bytes::Bytes;
use serde_json::{Value, json};

use super::Call;
use super::schema;
use crate::simulator::answer::{Answer, Event, Payload};
use crate::simulator::objects::{Object, Objects};
use crate::simulator::paths::Operation;
use crate::simulator::provider_error::Refusal;

/// The answer to a create call.
pub(super) fn answer(call: &mut Call<'_>, objects: &mut Objects) -> Result<Answer, Refusal> {
    if let Some(previous) = call.fields.text("previous_response_id")
        && objects.get(previous).is_none()
    {
        return Err(Refusal::NoSuchObject(previous.to_owned()));
    }
    let words = call.words(&["max_output_tokens"]);
    let item = item(call, &words);
    let id = call.id("resp_");
    let complete = object(call, &id, "completed", json!([item]), usage(call, words.len()));
    if call.fields.get("store").is_none_or(|store| store != false) {
        let stored = Object { kind: Operation::Response, json: complete.clone(), content: Bytes::new() };
        objects.insert(id.clone(), stored);
    }
    if !call.streams() {
        let lead = call.pace.whole(words.len(), &mut call.rng);
        return Ok(Answer { lead, ..Answer::json(200, complete.to_string()) });
    }
    let begun = object(call, &id, "in_progress", json!([]), Value::Null);
    if call.settings.responses_error {
        return Ok(out_of_tokens(&begun));
    }
    Ok(Answer::stream(events(call, &begun, &item, &words, &complete)))
}

/// The one output item: a message, or a call of the first tool.
fn item(call: &Call<'_>, words: &[String]) -> Value {
    let tool = call.fields.get("tools").and_then(|tools| tools.get(0)).filter(|tool| tool["type"] == "function");
    let may_call = call.fields.text("tool_choice") != Some("none") && !answers_a_tool(call);
    let text = words.concat();
    match tool.filter(|_| may_call) {
        Some(tool) => json!({
            "id": call.id("fc_"), "type": "function_call", "status": "completed", "call_id": call.id("call_"),
            "name": tool["name"], "arguments": schema::example(&tool["parameters"], &text).to_string(),
        }),
        None => json!({
            "id": call.id("msg_"), "type": "message", "status": "completed", "role": "assistant",
            "content": [part(&structured(call, text))],
        }),
    }
}

fn answers_a_tool(call: &Call<'_>) -> bool {
    let last = call.fields.get("input").and_then(Value::as_array).and_then(|items| items.last());
    last.is_some_and(|item| item["type"] == "function_call_output")
}

/// The text in the format that was asked for.
fn structured(call: &Call<'_>, text: String) -> String {
    let format = call.fields.get("text").map(|text| &text["format"]);
    match format.and_then(|format| format["type"].as_str()) {
        Some("json_schema") => {
            format.map_or(Value::Null, |format| schema::example(&format["schema"], &text)).to_string()
        }
        Some("json_object") => json!({"text": text}).to_string(),
        Some(_) | None => text,
    }
}

fn part(text: &str) -> Value {
    json!({"type": "output_text", "text": text, "annotations": [], "logprobs": []})
}

fn usage(call: &Call<'_>, words: usize) -> Value {
    let input = call.fields.prompt_tokens();
    json!({
        "input_tokens": input, "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": words, "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": input + words as u64,
    })
}

fn object(call: &Call<'_>, id: &str, status: &str, output: Value, usage: Value) -> Value {
    let echo = |name: &str, default: Value| call.fields.get(name).cloned().unwrap_or(default);
    json!({
        "id": id, "object": "response", "created_at": call.created, "status": status,
        "background": echo("background", false.into()), "error": null, "incomplete_details": null,
        "instructions": echo("instructions", Value::Null), "max_output_tokens": echo("max_output_tokens", Value::Null),
        "model": call.snapshot(), "output": output, "parallel_tool_calls": echo("parallel_tool_calls", true.into()),
        "previous_response_id": echo("previous_response_id", Value::Null),
        "reasoning": {"effort": null, "summary": null}, "store": echo("store", true.into()),
        "temperature": echo("temperature", json!(1.0)), "text": echo("text", json!({"format": {"type": "text"}})),
        "tool_choice": echo("tool_choice", "auto".into()), "tools": echo("tools", json!([])),
        "top_p": echo("top_p", json!(1.0)), "truncation": echo("truncation", "disabled".into()),
        "usage": usage, "user": echo("user", Value::Null), "metadata": echo("metadata", json!({})),
    })
}

/// The events of a stream under one numbering.
struct Sequence {
    events: Vec<Event>,
}

impl Sequence {
    fn push(&mut self, name: &'static str, mut data: Value) -> &mut Event {
        data["sequence_number"] = self.events.len().into();
        let index = self.events.len();
        self.events.push(Event::typed(name, &data));
        &mut self.events[index]
    }

    fn response(&mut self, name: &'static str, response: &Value) {
        self.push(name, json!({"type": name, "response": response}));
    }
}

fn events(call: &mut Call<'_>, begun: &Value, item: &Value, words: &[String], complete: &Value) -> Vec<Event> {
    let mut sequence = Sequence { events: Vec::with_capacity(words.len() + 8) };
    sequence.response("response.created", begun);
    sequence.response("response.in_progress", begun);
    let mut started = item.clone();
    started["status"] = "in_progress".into();
    if item["type"] == "message" {
        started["content"] = json!([]);
        sequence.push("response.output_item.added", added(&started));
        message_events(call, &mut sequence, item, words);
    } else {
        started["arguments"] = "".into();
        sequence.push("response.output_item.added", added(&started));
        argument_events(call, &mut sequence, item);
    }
    sequence.push(
        "response.output_item.done",
        json!({"type": "response.output_item.done", "output_index": 0, "item": item}),
    );
    sequence.response("response.completed", complete);
    sequence.events
}

fn added(item: &Value) -> Value {
    json!({"type": "response.output_item.added", "output_index": 0, "item": item})
}

fn message_events(call: &mut Call<'_>, sequence: &mut Sequence, item: &Value, words: &[String]) {
    let at = |name: &str, more: (&str, Value)| {
        let mut data = json!({"type": name, "item_id": item["id"], "output_index": 0, "content_index": 0});
        data[more.0] = more.1;
        data
    };
    let text = item["content"][0]["text"].as_str().unwrap_or_default();
    let pieces = if text == words.concat() { words.to_vec() } else { schema::pieces(text) };
    sequence.push("response.content_part.added", at("response.content_part.added", ("part", part(""))));
    for (index, piece) in pieces.iter().enumerate() {
        let mut data = at("response.output_text.delta", ("delta", piece.as_str().into()));
        data["logprobs"] = json!([]);
        let event = sequence.push("response.output_text.delta", data);
        event.wait = call.pace.wait(index, &mut call.rng);
        event.is_content = true;
    }
    let mut done = at("response.output_text.done", ("text", text.into()));
    done["logprobs"] = json!([]);
    sequence.push("response.output_text.done", done).is_content = true;
    let done = at("response.content_part.done", ("part", part(text)));
    sequence.push("response.content_part.done", done).is_content = true;
}

fn argument_events(call: &mut Call<'_>, sequence: &mut Sequence, item: &Value) {
    let arguments = item["arguments"].as_str().unwrap_or_default();
    for (index, piece) in schema::pieces(arguments).iter().enumerate() {
        let name = "response.function_call_arguments.delta";
        let data = json!({"type": name, "item_id": item["id"], "output_index": 0, "delta": piece});
        let event = sequence.push(name, data);
        event.wait = call.pace.wait(index, &mut call.rng);
        event.is_content = true;
    }
    let name = "response.function_call_arguments.done";
    let data = json!({"type": name, "item_id": item["id"], "output_index": 0, "arguments": arguments});
    sequence.push(name, data).is_content = true;
}

/// Azure's answer when it is out of tokens: 200, created, error, failed (spec/wire.md 4.2, case 7).
fn out_of_tokens(begun: &Value) -> Answer {
    let message = "Too many requests; please retry after 4 seconds.";
    let mut failed = begun.clone();
    failed["status"] = "failed".into();
    failed["error"] = json!({"code": "rate_limit_exceeded", "message": message});
    let mut sequence = Sequence { events: Vec::new() };
    sequence.response("response.created", begun);
    let error = json!({"type": "error", "code": "rate_limit_exceeded", "message": message, "param": null});
    sequence.push("error", error);
    sequence.response("response.failed", &failed);
    let mut answer = Answer { payload: Payload::Events(sequence.events), ..Answer::json(200, "") };
    answer.set("retry-after", "4");
    answer.set("x-ratelimit-remaining-tokens", "-27689");
    answer
}

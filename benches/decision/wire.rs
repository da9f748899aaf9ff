//! What is looked at of a body, of an event stream and of an error.

use std::fmt::Write as _;
use std::hint::black_box;

use breakwater::backend::outcome::Class;
use breakwater::config::Provider;
use breakwater::proxy::classify::{Answer, Event, classify};
use breakwater::proxy::error_fields::find_error;
use breakwater::proxy::request;
use breakwater::proxy::rewrite::{ModelRewrite, Rewrite};
use breakwater::proxy::sse::{Api, EventStream, Options, Splitter, Step, judge};
use bytes::Bytes;

use crate::meter::Meter;

/// Sizes of request bodies: a question, a long conversation, a document.
const BODIES: [(&str, usize); 3] = [("578 bytes", 578), ("20 kB", 20_000), ("1 MB", 1_000_000)];

/// What a provider serves it as; longer than the route's name, so that every byte behind it moves.
const UPSTREAM_MODEL: &str = "gpt-4o-2024-08-06-deployment";

/// One turn of a conversation; its escapes are what makes a string slower to walk.
const TURN: &str = r#"{"role":"user","content":"Explain \"streaming\" vs batching in LLMs.\nWhen does each of them pay, and what does it cost a gateway that stands in between? Please answer with figures and name your sources."}"#;

/// Events of the measured stream, its `[DONE]` included.
const EVENTS: usize = 50;

/// As a route has it by default.
const HOLDBACK: usize = 64 << 10;

pub(crate) fn measure(meter: &mut Meter) {
    for (shown, size) in BODIES {
        measure_body(meter, shown, &body(size));
    }
    let events = events();
    measure_splitter(meter, &events);
    measure_stream(meter, "SSE: an event through the stream, a chunk each", &events);
    measure_stream(meter, "SSE: an event through the stream, 50 in one chunk", &[Bytes::from(events.concat())]);
    measure_classification(meter);
}

/// A chat request of exactly `size` bytes, the model at its start as SDKs send it.
fn body(size: usize) -> Bytes {
    const TAIL: &str = r#"],"temperature":0.2,"stream":false}"#;
    let mut text = format!(r#"{{"model":"gpt-4-router","messages":[{TURN}"#);
    while text.len() + 1 + TURN.len() + TAIL.len() <= size {
        text.push(',');
        text.push_str(TURN);
    }
    // Blanks between tokens mean nothing and cost next to nothing.
    let missing = size.saturating_sub(text.len() + TAIL.len());
    text.extend(std::iter::repeat_n(' ', missing));
    text.push_str(TAIL);
    Bytes::from(text)
}

fn measure_body(meter: &mut Meter, shown: &str, body: &Bytes) {
    let rewrite = Rewrite {
        model: ModelRewrite::Replace(UPSTREAM_MODEL),
        inject_usage: false,
        defaults: &[],
        strip_priority: true,
    };
    meter.measure(&format!("request: scan, {shown}"), |count| {
        for _ in 0..count {
            let _ = black_box(request::scan(black_box(body).clone()));
        }
    });
    let mut length = 0;
    meter.measure(&format!("request: scan and splice, {shown}"), |count| {
        for _ in 0..count {
            if let Ok(scanned) = request::scan(black_box(body).clone()) {
                length = black_box(scanned.rewrite(&rewrite)).length;
            }
        }
    });
    let grown = body.len() + UPSTREAM_MODEL.len() - "gpt-4-router".len();
    meter.check(length == grown || length == 0, "a spliced body has a wrong length");
    meter.check(request::scan(body.clone()).is_ok(), "a body could not be scanned");
}

/// A chat stream: the role, words, the finish, `[DONE]`.
fn events() -> Vec<Bytes> {
    let chunk = |delta: &str, finish: &str| {
        let head = r#"{"id":"chatcmpl-AbCdEfGhIjKlMnOp","object":"chat.completion.chunk","created":1790000000,"model":"gpt-4o-2024-08-06","service_tier":"default","system_fingerprint":"fp_0123456789""#;
        let choice = format!(r#"{{"index":0,"delta":{delta},"logprobs":null,"finish_reason":{finish}}}"#);
        Bytes::from(format!("data: {head},\"choices\":[{choice}]}}\n\n"))
    };
    let mut events = vec![chunk(r#"{"role":"assistant","content":"","refusal":null}"#, "null")];
    while events.len() < EVENTS - 2 {
        let mut delta = String::new();
        let _ = write!(delta, r#"{{"content":" word{}"}}"#, events.len());
        events.push(chunk(&delta, "null"));
    }
    events.push(chunk("{}", r#""stop""#));
    events.push(Bytes::from_static(b"data: [DONE]\n\n"));
    events
}

fn measure_splitter(meter: &mut Meter, events: &[Bytes]) {
    let chunk = Bytes::from(events.concat());
    let mut blocks = 0_u64;
    let mut streams = 0_u64;
    meter.measure_batches("SSE: split and judge an event", EVENTS as u64, |count| {
        for _ in 0..count {
            let mut splitter = Splitter::default();
            splitter.push(chunk.clone());
            for block in splitter.by_ref() {
                if let Some(data) = block.data() {
                    black_box(judge::chat(block.event(), &data));
                }
                blocks += 1;
            }
            streams += 1;
        }
    });
    meter.check(blocks == streams * EVENTS as u64, "a stream was split into a wrong number of blocks");
}

fn measure_stream(meter: &mut Meter, name: &str, chunks: &[Bytes]) {
    let options = Options { api: Api::Chat, holdback: HOLDBACK, drop_usage_event: false, is_background: false };
    let (mut streams, mut done) = (0_u64, 0_u64);
    meter.measure_batches(name, EVENTS as u64, |count| {
        for _ in 0..count {
            let mut stream = EventStream::new(options);
            for chunk in chunks {
                stream.push(chunk.clone());
                done += stream.by_ref().filter(|step| matches!(black_box(step), Step::Done(_))).count() as u64;
            }
            streams += 1;
        }
    });
    meter.check(done == streams, "a whole stream did not come to its end");
}

fn measure_classification(meter: &mut Meter) {
    let body = br#"{"error":{"message":"Rate limit reached for gpt-4o in organization org-x on tokens per min (TPM): Limit 30000, Used 29500, Requested 800. Please try again in 600ms.","type":"tokens","param":null,"code":"rate_limit_exceeded"}}"#;
    let judge = || {
        let fields = find_error(black_box(body)).map(|error| error.fields).unwrap_or_default();
        let answer = Answer { status: 429, fields: &fields, names_model: true, has_hint: true };
        classify(Event::Answered(answer), &Provider::OpenAi, &[])
    };
    meter.measure("classification: a 429 with its body", |count| {
        for _ in 0..count {
            black_box(judge());
        }
    });
    meter.measure("classification: a reset", |count| {
        for _ in 0..count {
            black_box(classify(black_box(Event::Reset), &Provider::OpenAi, &[]));
        }
    });
    meter.check(judge() == Class::RateLimited, "a 429 was taken for something else");
}

use proptest::prelude::*;

use super::*;

const ROLE: &str = r#"data: {"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}"#;
const HI: &str = r#"data: {"id":"c","choices":[{"index":0,"delta":{"content":"Hi"},"finish_reason":null}]}"#;
const STOP: &str = r#"data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#;
const USAGE: &str = r#"data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2}}"#;
const DONE: &str = "data: [DONE]";

fn options(api: Api) -> Options {
    Options { api, holdback: 64 << 10, drop_usage_event: false, is_background: false }
}

/// One letter per step: H hold, C commit, F fail, P pass, : comment, d drop, E error, D done, L too large.
fn run(stream: &mut EventStream, blocks: &[&str]) -> (String, String) {
    let (mut letters, mut sent) = (String::new(), Vec::new());
    for block in blocks {
        stream.push(Bytes::from(format!("{block}\n\n")));
        for step in stream.by_ref() {
            letters.push(letter(&step));
            send(step, &mut sent);
        }
    }
    (letters, String::from_utf8(sent).unwrap())
}

fn letter(step: &Step) -> char {
    match step {
        Step::Hold => 'H',
        Step::Commit { .. } => 'C',
        Step::Fail(_) => 'F',
        Step::Pass { .. } => 'P',
        Step::Comment(_) => ':',
        Step::Drop => 'd',
        Step::Error(..) => 'E',
        Step::Done(_) => 'D',
        Step::TooLarge => 'L',
    }
}

fn send(step: Step, sent: &mut Vec<u8>) {
    match step {
        Step::Commit { blocks, .. } => sent.extend(blocks.concat()),
        Step::Pass { bytes, .. } | Step::Comment(bytes) | Step::Error(bytes, _) | Step::Done(bytes) => {
            sent.extend(bytes)
        }
        Step::Hold | Step::Fail(_) | Step::Drop | Step::TooLarge => {}
    }
}

fn check(api: Api, blocks: &[&str], letters: &str) -> EventStream {
    let mut stream = EventStream::new(options(api));
    assert_eq!(run(&mut stream, blocks).0, letters, "{blocks:?}");
    stream
}

fn failure(api: Api, blocks: &[&str]) -> Option<Failure> {
    let mut stream = EventStream::new(options(api));
    blocks.iter().for_each(|block| stream.push(Bytes::from(format!("{block}\n\n"))));
    stream.find_map(|step| match step {
        Step::Fail(failure) => Some(failure),
        Step::Hold
        | Step::Commit { .. }
        | Step::Pass { .. }
        | Step::Comment(_)
        | Step::Drop
        | Step::Error(..)
        | Step::Done(_)
        | Step::TooLarge => None,
    })
}

#[test]
fn the_commit_script_of_the_wire_specification() {
    check(
        Api::Chat,
        &[
            r#"data: {"id":"","object":"","created":0,"model":"","choices":[],"prompt_filter_results":[{"prompt_index":0,"content_filter_results":{}}]}"#,
            r#"data: {"id":"c","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}"#,
            HI,
        ],
        "HHC",
    );
    check(
        Api::Chat,
        &[
            r#"data: {"choices":[{"index":0,"delta":{"role":"assistant","content":null,"tool_calls":[{"index":0,"id":"t","type":"function","function":{"name":"f","arguments":""}}]},"finish_reason":null}]}"#,
        ],
        "C",
    );
    check(Api::Chat, &[r#"data: {"choices":[{"index":0,"delta":{},"finish_reason":"content_filter"}]}"#], "C");
    let slow_down =
        r#"data: {"error":{"message":"slow down","type":"requests","param":null,"code":"rate_limit_exceeded"}}"#;
    check(Api::Chat, &[": OPENROUTER PROCESSING", slow_down], "HF");
    let found = failure(Api::Chat, &[slow_down]);
    assert!(matches!(found, Some(Failure::InBand(fields)) if fields.code.as_deref() == Some("rate_limit_exceeded")));
    assert_eq!(check(Api::Chat, &[ROLE], "H").end(), End::Truncated);
    assert_eq!(failure(Api::Chat, &[DONE]), Some(Failure::Truncated));
    let created = "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"id\":\"resp_1\",\"status\":\"in_progress\"},\"sequence_number\":0}";
    let error = "event: error\ndata: {\"type\":\"error\",\"code\":\"rate_limit_exceeded\",\"message\":\"…\",\"param\":null,\"sequence_number\":1}";
    check(Api::Responses, &[created, error], "HF");
    let found = failure(Api::Responses, &[created, error]);
    assert!(matches!(found, Some(Failure::InBand(fields)) if fields.code.as_deref() == Some("rate_limit_exceeded")));
}

#[test]
fn a_torn_block_commits_at_its_last_byte_only() {
    let mut stream = EventStream::new(options(Api::Chat));
    let chunks = ["da", "ta: {\"choices\":[{\"index\":0,\"delta\":{\"con", "tent\":\"x\"}}]}\r", "\n\r"];
    for chunk in chunks {
        stream.push(Bytes::from(chunk));
        assert_eq!(stream.next(), None, "{chunk}");
    }
    stream.push(Bytes::from("\n"));
    assert!(matches!(stream.next(), Some(Step::Commit { .. })));
}

#[test]
fn what_commits_and_what_is_held() {
    for (data, letters) in [
        (r#"{"choices":[{"delta":{"reasoning_content":"a"}}]}"#, "C"),
        (r#"{"choices":[{"delta":{"reasoning":"a"}}]}"#, "C"),
        (r#"{"choices":[{"delta":{"refusal":"a"}}]}"#, "C"),
        (r#"{"choices":[{"delta":{"audio":{"id":"a"}}}]}"#, "C"),
        (r#"{"choices":[{"text":"a"}]}"#, "C"),
        (r#"{"choices":[{"text":""}]}"#, "H"),
        (r#"{"choices":[{"index":0,"content_filter_results":{},"content_filter_offsets":{}}]}"#, "H"),
        (r#"{"choices":[],"usage":null}"#, "H"),
        (r#"{"choices":[],"usage":{"prompt_tokens":1}}"#, "C"),
        (r#"{"choices":[{"delta":{"content":"the \"error\": {"}}],"error":null}"#, "C"),
        (r#"{"something":"else"}"#, "C"),
        (r#"{"object":"error","message":"x","code":400}"#, "F"),
        ("{\"choices\":[", "F"),
        ("hello", "F"),
    ] {
        check(Api::Chat, &[&format!("data: {data}")], letters);
    }
    for (kind, letters) in [
        ("response.queued", "H"),
        ("response.in_progress", "H"),
        ("response.output_item.added", "H"),
        ("response.content_part.added", "H"),
        ("ping", "H"),
        ("response.output_text.delta", "C"),
        ("response.completed", "C"),
        ("response.incomplete", "C"),
        ("response.something_new", "C"),
        ("response.failed", "F"),
    ] {
        check(Api::Responses, &[&format!("data: {{\"type\":\"{kind}\"}}")], letters);
    }
    check(Api::Other, &[r#"data: {"type":"speech.audio.delta"}"#, r#"data: {"type":"speech.audio.done"}"#], "CD");
    check(Api::Other, &[r#"data: {"error":{"message":"x"}}"#], "F");
    check(Api::Other, &["data: plain text", DONE], "CD");
}

#[test]
fn a_background_response_commits_when_created() {
    let mut stream = EventStream::new(Options { is_background: true, ..options(Api::Responses) });
    assert_eq!(run(&mut stream, &[r#"data: {"type":"response.created"}"#]).0, "C");
}

#[test]
fn never_forwarded_blocks() {
    let mut stream = EventStream::new(options(Api::Chat));
    let blocks = [
        ": before",
        ROLE,
        "",
        "event: x",
        "retry: 1",
        HI,
        ": ok",
        "retry: 1",
        "event: x",
        "id: 7\ndata: {}",
        ": no",
        STOP,
    ];
    let (letters, sent) = run(&mut stream, &blocks);
    assert_eq!(letters, "HHHHHHC:PP");
    assert_eq!(sent, [ROLE, HI, ": ok", "id: 7\ndata: {}", STOP].map(|block| format!("{block}\n\n")).concat());
    assert!(!stream.may_comment());
}

#[test]
fn usage_is_seen_and_our_own_event_dropped() {
    let mut stream = EventStream::new(Options { drop_usage_event: true, ..options(Api::Chat) });
    let (letters, sent) = run(&mut stream, &[HI, STOP, USAGE, DONE, HI]);
    assert_eq!((letters.as_str(), sent.contains("usage")), ("CPdD", false));
    assert_eq!(stream.usage().map(|usage| (usage.input, usage.output)), Some((3, 2)));
    assert_eq!(stream.end(), End::Complete);
    check(Api::Chat, &[HI, STOP, USAGE, DONE], "CPPD");
    let filtered = r#"data: {"choices":[],"usage":{"prompt_tokens":3},"prompt_filter_results":[]}"#;
    let mut stream = EventStream::new(Options { drop_usage_event: true, ..options(Api::Chat) });
    assert_eq!(run(&mut stream, &[HI, filtered]).0, "CP");
}

#[test]
fn ends() {
    let done = End::NeedsDone(Bytes::from_static(b"data: [DONE]\n\n"));
    assert_eq!(check(Api::Chat, &[HI, STOP], "CP").end(), done);
    assert_eq!(check(Api::Chat, &[HI], "C").end(), End::Truncated);
    let second = r#"data: {"choices":[{"index":1,"delta":{"content":"x"},"finish_reason":null}]}"#;
    assert_eq!(check(Api::Chat, &[HI, second, STOP], "CPP").end(), End::Truncated);
    let stream = check(Api::Chat, &[HI, DONE], "CD");
    assert!(stream.done_without_finish());
    assert!(!check(Api::Chat, &[STOP, DONE], "CD").done_without_finish());
    let delta = r#"data: {"type":"response.output_text.delta","sequence_number":4}"#;
    let completed = r#"data: {"type":"response.completed","response":{"usage":{"input_tokens":1,"output_tokens":2}}}"#;
    let stream = check(Api::Responses, &[delta], "C");
    assert_eq!((stream.next_sequence(), stream.end()), (5, End::Truncated));
    let stream = check(Api::Responses, &[delta, completed, DONE], "CD");
    assert_eq!((stream.usage().map(|usage| usage.output), stream.end()), (Some(2), End::Complete));
    let mut stream = check(Api::Chat, &[HI], "C");
    stream.push(Bytes::from_static(b"data: [DONE]"));
    assert_eq!(stream.next(), None);
    stream.close();
    assert_eq!(stream.next(), Some(Step::Done(Bytes::from_static(b"data: [DONE]\n\n"))));
    assert_eq!(stream.end(), End::Complete);
}

#[test]
fn errors_after_commit_pass_and_flat_ones_are_wrapped() {
    let wrapped = r#"data: {"error":{"message":"x","code":400}}"#;
    let stream = check(Api::Chat, &[HI, wrapped, DONE], "CED");
    assert_eq!(stream.end(), End::AfterError);
    let mut stream = EventStream::new(options(Api::Chat));
    let (_, sent) = run(&mut stream, &[HI, r#"data: {"object":"error","message":"x"}"#]);
    assert!(sent.ends_with("data: {\"error\":{\"object\":\"error\",\"message\":\"x\"}}\n\n"), "{sent}");
    assert_eq!(stream.end(), End::AfterError);
}

#[test]
fn the_last_block_with_carriage_returns_is_not_lost() {
    let mut stream = EventStream::new(options(Api::Chat));
    stream.push(Bytes::from(format!("{HI}\r\r{STOP}\r\r")));
    assert!(matches!(stream.next(), Some(Step::Commit { .. })));
    assert_eq!(stream.next(), None);
    stream.close();
    assert!(matches!(stream.next(), Some(Step::Pass { .. })));
    assert!(matches!(stream.end(), End::NeedsDone(_)));
}

#[test]
fn bounds() {
    let mut stream = EventStream::new(Options { holdback: 2 * ROLE.len() + 4, ..options(Api::Chat) });
    let (letters, sent) = run(&mut stream, &[ROLE, ROLE, ROLE, HI]);
    assert_eq!((letters.as_str(), sent.matches("role").count()), ("HHCP", 3));
    let huge = Bytes::from(vec![b'x'; MAX_EVENT_BYTES + 1]);
    let mut stream = EventStream::new(options(Api::Chat));
    stream.push(huge.clone());
    assert_eq!(stream.next(), Some(Step::Fail(Failure::Malformed)));
    let mut stream = check(Api::Chat, &[HI], "C");
    stream.push(huge);
    assert_eq!((stream.next(), stream.next()), (Some(Step::TooLarge), None));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is remembered of earlier events, each means what it means alone.
    #[test]
    fn an_event_is_judged_as_if_it_were_the_only_one(
        picks in proptest::collection::vec((0_usize..9, r#"[a,":{}\[\]\\]{0,4}"#, "[a-z]{0,2}"), 1..24),
    ) {
        let shapes = [
            r#"{"id":"c","choices":[{"index":0,"delta":{"content":"WORDS"},"finish_reason":null}],"obfuscation":"PAD"}"#,
            r#"{"obfuscation":"PAD","choices":[{"index":0,"delta":{"content":"WORDS"},"finish_reason":null}]}"#,
            r#"{"id":"PAD","choices":[{"index":0,"delta":{"content":"WORDS"},"finish_reason":null}]}"#,
            r#"{"choices":[{"delta":{"content":"WORDS"},"index":0,"finish_reason":"PAD"}]}"#,
            r#"{"choices":[{"index":0,"delta":{"content":"WORDS"}},{"index":1,"delta":{"content":"PAD"}}]}"#,
            r#"{"choices":[{"index":0,"text":"WORDS"}],"error":null}"#,
            r#"{"choices":[{"index":0,"delta":{"content":"WORDS","content":""}}]}"#,
            r#"{"choices":[{"index":0,"delta":{"role":"assistant","content":"","refusal":"WORDS"}}],"usage":null}"#,
            r#"{"choices":[{"index":0,"delta":{"content":"WORDS"}}],"choices":[]}"#,
        ];
        let mut stream = EventStream::new(options(Api::Chat));
        stream.push(Bytes::from(format!("{HI}\n\n")));
        assert_eq!(stream.by_ref().count(), 1);
        for (shape, words, pad) in picks {
            let data = shapes[shape].replace("WORDS", &words).replace("PAD", &pad);
            stream.push(Bytes::from(format!("data: {data}\n\n")));
            let meaning = judge::chat(b"", data.as_bytes()).meaning;
            if matches!(meaning, Meaning::Error { .. }) {
                break;
            }
            let expected = meaning != Meaning::Preamble;
            let bytes = Bytes::from(format!("data: {data}\n\n"));
            prop_assert_eq!(stream.next(), Some(Step::Pass { bytes, is_content: expected }), "{}", data);
            prop_assert_eq!(stream.next(), None);
        }
    }

    #[test]
    fn any_chunking_gives_the_same_steps(
        picks in proptest::collection::vec(0_usize..8, 0..12),
        end in proptest::sample::select(&["\n", "\r\n", "\r"][..]),
        size in 1_usize..90,
    ) {
        let pool = [ROLE, HI, STOP, USAGE, DONE, ": c", "id: 1\ndata: {}", r#"data: {"error":{"message":"x"}}"#];
        let text: String = picks.iter().map(|pick| format!("{}\n\n", pool[*pick])).collect::<String>().replace('\n', end);
        let whole = |size: usize| {
            let mut stream = EventStream::new(options(Api::Chat));
            let mut steps = Vec::new();
            for chunk in text.as_bytes().chunks(size) {
                stream.push(Bytes::copy_from_slice(chunk));
                steps.extend(stream.by_ref());
            }
            stream.close();
            steps.extend(stream.by_ref());
            let blocks = text.matches(&end.repeat(2)).count();
            assert!(steps.len() <= blocks);
            (steps, stream.end())
        };
        prop_assert_eq!(whole(size), whole(text.len().max(1)));
    }
}

//! Scripts as values: what would be sent, and when.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Connection, End, Script, Step, write};
use crate::simulator::answer::{Answer, Event};
use crate::simulator::fault::Fault;
use crate::simulator::record::Ended;

const HTTP_11: Connection = Connection { takes_chunks: true, keeps_alive: true };

fn script(answer: &Answer, fault: Value, connection: Connection) -> Script {
    let fault: Option<Fault> = serde_json::from_value(fault).unwrap();
    write(answer, fault.as_ref(), connection)
}

/// Role, two words ten milliseconds apart, end.
fn stream() -> Answer {
    let wait = Duration::from_millis(10);
    let words = ["a", "b"].map(|word| Event::content(json!([word]).to_string(), wait));
    Answer::stream([vec![Event::plain("[0]")], words.to_vec(), vec![Event::done()]].concat())
}

/// A script in short: bodies without heads, waits in milliseconds, and the end.
fn told(script: &Script) -> String {
    let step = |step: &Step| match step {
        Step::Wait(wait) => format!("{}ms", wait.as_millis()),
        Step::Send { bytes, events } => {
            let text = String::from_utf8_lossy(bytes);
            let body =
                text.rsplit_once("\r\n\r\n").filter(|_| text.starts_with("HTTP")).map_or(&*text, |(_, body)| body);
            format!("{events}{body:?}")
        }
    };
    let steps: Vec<String> = script.steps.iter().map(step).collect();
    format!("{} {:?}", steps.join(" "), script.end)
}

#[test]
fn waits_part_writes() {
    let table = [
        (
            json!(null),
            r#"1"b\r\ndata: [0]\n\n\r\n" 10ms 1"d\r\ndata: [\"a\"]\n\n\r\n" 10ms 2"d\r\ndata: [\"b\"]\n\n\r\ne\r\ndata: [DONE]\n\n\r\n0\r\n\r\n" KeepAlive"#,
        ),
        (json!({"hang": "after_headers"}), r#"0"" Hang"#),
        (json!({"hang": "before_headers"}), r#" Hang"#),
        (json!({"reset": {"after_events": 1}}), r#"1"b\r\ndata: [0]\n\n\r\n" Reset"#),
        (json!({"close": {"after_bytes": 15}}), r#"1"b\r\ndata: [0]\n\n\r\n" 10ms 0"d\r\ndata" Close"#),
        (json!({"hang": "before_first_content"}), r#"1"b\r\ndata: [0]\n\n\r\n" Hang"#),
    ];
    for (fault, expected) in table {
        assert_eq!(told(&script(&stream(), fault.clone(), HTTP_11)), expected, "{fault}");
    }
}

#[test]
fn comments_go_on_while_waiting() {
    let told = told(&script(&stream(), json!({"wire": {"comments_ms": 4}}), HTTP_11));
    assert_eq!(told.matches("4ms").count(), 4);
    assert_eq!(told.matches("2ms").count(), 2);
    assert_eq!(told.matches(": simulated").count(), 8);
}

#[test]
fn throttles_add_up() {
    let body = Answer::json(200, vec![b'x'; 1000]);
    let script = script(&body, json!({"slow": {"body_bytes_per_second": 2000}}), HTTP_11);
    let waited: Duration =
        script.steps.iter().map(|step| if let Step::Wait(wait) = step { *wait } else { Duration::ZERO }).sum();
    assert_eq!(waited, Duration::from_millis(500));
    assert_eq!(script.steps.iter().filter(|step| matches!(step, Step::Send { .. })).count(), 11, "head and ten parts");
}

#[test]
fn connections_end_as_both_sides_want() {
    let old = Connection { takes_chunks: false, keeps_alive: true };
    let closing = Connection { takes_chunks: true, keeps_alive: false };
    let whole = Answer::json(200, "{}");
    let table = [
        (&whole, json!(null), HTTP_11, End::KeepAlive),
        (&whole, json!(null), old, End::KeepAlive),
        (&whole, json!(null), closing, End::Close),
        (&stream(), json!(null), old, End::Close),
        (&stream(), json!({"wire": {"http10": true}}), HTTP_11, End::Close),
        (&whole, json!({"stale": "reset_on_reuse"}), HTTP_11, End::ResetOnReuse),
        (&whole, json!({"stale": {"close_idle": 5}}), HTTP_11, End::CloseIdle(Duration::from_millis(5))),
    ];
    for (answer, fault, connection, end) in table {
        let script = script(answer, fault.clone(), connection);
        assert_eq!((script.end, script.ended), (end, Ended::Complete), "{fault}");
    }
}

#[test]
fn comments_are_framed_like_their_stream() {
    let fault = json!({"hang": {"comments_before_first_content": 5}});
    for (takes_chunks, start) in [(true, &b"d\r\n: "[..]), (false, b": ")] {
        let connection = Connection { takes_chunks, keeps_alive: true };
        let End::Comment { bytes, every } = script(&stream(), fault.clone(), connection).end else {
            panic!("no comment")
        };
        assert!(bytes.starts_with(start) && every == Duration::from_millis(5));
    }
}

//! Calls that name no model: who holds the object serves it, and to other clients it does not exist.

use crate::support::{Ask, Gateway, Scripted, in_chunks, missing, with_length};

const KEYS: &str =
    "auth:\n  keys:\n    - {name: alice, key: alice-0123456789}\n    - {name: bob, key: bob-0123456789}\n";

fn by(who: &str, ask: Ask) -> Ask {
    ask.header("authorization", &format!("Bearer {who}-0123456789"))
}

#[test]
fn a_response_stays_with_the_backend_that_made_it() {
    let made = with_length(r#"{"id":"resp_a","object":"response","output":[]}"#);
    let (one, two) = (Scripted::start(vec![made]), Scripted::start(vec![with_length(r#"{"id":"resp_b"}"#)]));
    let gateway = Gateway::start(Scripted::yaml_of(&[("one", &one), ("two", &two)], KEYS));
    let first = gateway.ask(&by("alice", Ask::post("/v1/responses", r#"{"model":"r","input":"x"}"#)));
    assert_eq!(first.trail(), "one=200", "{first:?}");
    // Wherever the call would go by itself.
    for (model, backend) in [(r#""model":"two","#, "one"), ("", "one"), (r#""model":"r","#, "one")] {
        let body = format!(r#"{{{model}"previous_response_id":"resp_a","input":"y"}}"#);
        let answer = gateway.ask(&by("alice", Ask::post("/v1/responses", body)));
        assert_eq!((answer.status(), answer.header("x-breakwater-backend")), (200, Some(backend)), "{answer:?}");
    }
    let got = gateway.ask(&by("alice", Ask::get("/v1/responses/resp_a?include=a&api-version=7&limit=2")));
    assert_eq!(got.trail(), "one=200", "{got:?}");
    assert_eq!(one.targets().last().map(String::as_str), Some("/v1/responses/resp_a?include=a&limit=2"));
    for ask in [
        Ask::get("/v1/responses/resp_a").header("x-breakwater-route", "r"),
        Ask::get("/v1/responses/resp_a").header("x-breakwater-backend", "one"),
        Ask::post("/v1/responses", r#"{"model":"r","previous_response_id":"resp_a","input":"y"}"#),
    ] {
        let calls = one.calls();
        let foreign = gateway.ask(&by("bob", ask));
        assert_eq!((foreign.status(), foreign.code().as_str()), (404, "unknown_resource"), "{foreign:?}");
        assert_eq!(one.calls(), calls, "nobody was asked");
    }
    assert_eq!(two.calls(), 0);
}

#[test]
fn a_stream_says_at_its_beginning_what_it_makes() {
    let stream = concat!(
        "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"id\":\"resp_s\"}}\n\n",
        "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"delta\":\"x\"}\n\n",
        "event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"id\":\"resp_s\"}}\n\n",
    );
    let one = Scripted::start(vec![with_length(r#"{"id":"other"}"#)]);
    let two = Scripted::start(vec![in_chunks(stream.as_bytes(), 50), with_length(r#"{"id":"resp_s"}"#)]);
    let gateway = Gateway::start(Scripted::yaml_of(&[("one", &one), ("two", &two)], ""));
    let streamed = gateway.ask(&Ask::post("/v1/responses", r#"{"model":"two","input":"x","stream":true}"#));
    assert_eq!((streamed.status(), streamed.trail()), (200, "two=200"), "{streamed:?}");
    let got = gateway.ask(&Ask::get("/v1/responses/resp_s"));
    assert_eq!(got.trail(), "two=200", "{got:?}");
    assert_eq!(one.calls(), 0);
}

#[test]
fn an_id_that_nobody_knows_is_looked_for_and_then_known() {
    let (one, two) = (Scripted::start(vec![missing()]), Scripted::start(vec![with_length(r#"{"id":"file-1"}"#)]));
    let gateway = Gateway::start(Scripted::yaml_of(&[("one", &one), ("two", &two)], ""));
    let plain = gateway.ask(&Ask::get("/v1/files/file-1"));
    assert_eq!((plain.status(), plain.code().as_str()), (404, "unknown_resource"), "{plain:?}");
    assert!(plain.text().contains("x-breakwater-backend") && plain.text().contains("x-breakwater-route"));
    let found = gateway.ask(&Ask::get("/v1/files/file-1").header("x-breakwater-route", "r"));
    assert_eq!((found.status(), found.header("x-breakwater-backend")), (200, Some("two")), "{found:?}");
    assert_eq!((one.calls(), two.calls()), (1, 1));
    let again = gateway.ask(&Ask::get("/v1/files/file-1/content"));
    assert_eq!(again.trail(), "two=200", "the finder is remembered: {again:?}");
    let deleted = gateway.ask(&Ask::get("/v1/files/file-1").by("DELETE"));
    assert_eq!(deleted.trail(), "two=200", "{deleted:?}");
    assert_eq!(gateway.ask(&Ask::get("/v1/files/file-1")).code(), "unknown_resource", "and forgotten when it is gone");
    // Nobody has it: the provider's own word, and no backend is blamed.
    let nowhere = gateway.ask(&Ask::get("/v1/files/file-2").header("x-breakwater-backend", "one"));
    assert_eq!((nowhere.status(), nowhere.error()["message"].as_str()), (404, Some("No such object")), "{nowhere:?}");
    for (header, name, code) in [("backend", "zz", "unknown_backend"), ("route", "zz", "unknown_route")] {
        let ask = Ask::get("/v1/files/file-2").header(&format!("x-breakwater-{header}"), name);
        let refused = gateway.ask(&ask);
        assert_eq!((refused.status(), refused.code().as_str()), (400, code), "{refused:?}");
    }
}

#[test]
fn without_a_word_the_default_route_serves_and_lists_only_where_they_are_wanted() {
    let (one, two) = (Scripted::start(vec![with_length(r#"{"id":"o"}"#)]), Scripted::start(vec![missing()]));
    let both = [("one", &one), ("two", &two)];
    let gateway = Gateway::start(Scripted::yaml_of(&both, "defaults: {default_route: r, list_endpoints: true}\n"));
    let made = gateway.ask(&Ask::post("/v1/batches", r#"{"input_file_id":"file-9"}"#));
    assert_eq!(made.trail(), "one=200", "{made:?}");
    assert_eq!(gateway.ask(&Ask::get("/v1/files")).code(), "unknown_resource", "whose list is meant must be said");
    let list = gateway.ask(&Ask::get("/v1/files?after=x").header("x-breakwater-backend", "one"));
    assert_eq!((list.trail(), one.targets().pop().as_deref()), ("one=200", Some("/v1/files?after=x")), "{list:?}");
}

#[test]
fn nobody_stands_in_for_who_holds_it_and_a_search_says_what_it_does_not_know() {
    let error = "HTTP/1.1 500 Internal Server Error\r\ncontent-length: 2\r\n\r\n{}".as_bytes().to_vec();
    let one = Scripted::start(vec![with_length(r#"{"id":"resp_1"}"#), error]);
    let two = Scripted::start(vec![missing()]);
    let gateway = Gateway::start(Scripted::yaml_of(&[("one", &one), ("two", &two)], ""));
    assert_eq!(gateway.ask(&Ask::post("/v1/responses", r#"{"model":"r","input":"x"}"#)).trail(), "one=200");
    let pinned = gateway.ask(&Ask::get("/v1/responses/resp_1"));
    assert_eq!((pinned.status(), two.calls()), (500, 0), "{pinned:?}");
    let sought = gateway.ask(&Ask::get("/v1/files/file-1").header("x-breakwater-route", "r"));
    assert_eq!((sought.status(), two.calls()), (500, 1), "it may be where nobody could say: {sought:?}");
}

//! The model in an answer, as the client named it (`defaults.rewrite_response_model`, spec/wire.md 3.1).
//!
//! It stands at the top of an answer and of a chat event, and in the `response` that events of the Responses API carry. All
//! other bytes stay as they came.

use std::ops::Range;

use bytes::Bytes;

use super::json::{self, Members};
use super::rewrite::quote;

/// What stands for the provider's model, as JSON text.
#[derive(Clone, Debug)]
pub struct Restamp(String);

impl Restamp {
    /// Puts `name` into answers.
    pub fn new(name: &str) -> Self {
        Self(quote(name))
    }

    /// A whole answer with the name in it; the same buffer where there is no model in it, or no JSON.
    pub fn answer(&self, body: &Bytes) -> Bytes {
        let spans = models(body);
        if spans.is_empty() { body.clone() } else { Bytes::from(self.replace(body, &spans, 0)) }
    }

    /// An event with the name in it. `data` is what [`super::sse`] read in `block`: a slice of it, or several lines joined.
    pub fn event(&self, block: &Bytes, data: &[u8]) -> Bytes {
        let spans = models(data);
        if spans.is_empty() {
            return block.clone();
        }
        let start = (data.as_ptr() as usize).wrapping_sub(block.as_ptr() as usize);
        if block.get(start..).is_some_and(|rest| data.len() <= rest.len()) {
            return Bytes::from(self.replace(block, &spans, start));
        }
        // Lines of data end between JSON's words: in one line, it says the same.
        let mut text = other_fields(block);
        text.extend_from_slice(b"data: ");
        text.extend(self.replace(data, &spans, 0).iter().map(|byte| if *byte == b'\n' { b' ' } else { *byte }));
        text.extend_from_slice(b"\n\n");
        Bytes::from(text)
    }

    /// The text with the name in place of the spans, which count from `start` in it.
    fn replace(&self, text: &[u8], spans: &[Range<usize>], start: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(text.len() + spans.len() * self.0.len());
        let mut at = 0;
        for span in spans {
            out.extend_from_slice(&text[at..start + span.start]);
            out.extend_from_slice(self.0.as_bytes());
            at = start + span.end;
        }
        out.extend_from_slice(&text[at..]);
        out
    }
}

/// A block's lines without its data and the empty line at its end.
fn other_fields(block: &[u8]) -> Vec<u8> {
    let lines = block.split(|byte| matches!(byte, b'\n' | b'\r'));
    let others = lines.filter(|line| !line.is_empty() && !line.starts_with(b"data:") && *line != b"data");
    others.flat_map(|line| [line, b"\n"].concat()).collect()
}

/// Where the names of models stand, in order.
fn models(text: &[u8]) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    for member in Members::of(text).map_while(Result::ok) {
        let value = &text[member.value.clone()];
        match value.first() {
            Some(b'"') if is_model(&text[member.key.clone()]) => found.push(member.value),
            Some(b'{') if json::is_key(&text[member.key.clone()], "response") => {
                let inner = Members::of(value).map_while(Result::ok);
                let named =
                    inner.filter(|inner| is_model(&value[inner.key.clone()]) && value[inner.value.start] == b'"');
                let start = member.value.start;
                found.extend(named.map(|inner| start + inner.value.start..start + inner.value.end));
            }
            Some(_) | None => {}
        }
    }
    found
}

fn is_model(key: &[u8]) -> bool {
    json::is_key(key, "model")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::sse::blocks::Splitter;
    use super::*;

    fn answer(text: &'static str) -> String {
        let stamped = Restamp::new("my \"route\"").answer(&Bytes::from_static(text.as_bytes()));
        String::from_utf8(stamped.to_vec()).unwrap()
    }

    #[test]
    fn only_the_models_of_an_answer_change() {
        let table = [
            (r#"{"id":"x","model":"gpt-4o-2024","n":1}"#, r#"{"id":"x","model":"my \"route\"","n":1}"#),
            (
                r#" { "model" : "a" , "mod\u0065l": "b"}"#,
                r#" { "model" : "my \"route\"" , "mod\u0065l": "my \"route\""}"#,
            ),
            (
                r#"{"response":{"id":1,"model":"a","x":{"model":"b"}}}"#,
                r#"{"response":{"id":1,"model":"my \"route\"","x":{"model":"b"}}}"#,
            ),
            (r#"{"model":null,"choices":[{"model":"b"}]}"#, r#"{"model":null,"choices":[{"model":"b"}]}"#),
            (r#"{"response":"model"}"#, r#"{"response":"model"}"#),
            ("no JSON \"model\":\"a\"", "no JSON \"model\":\"a\""),
            ("", ""),
        ];
        for (text, expected) in table {
            assert_eq!(answer(text), expected);
        }
    }

    fn event(text: &'static str) -> String {
        let mut splitter = Splitter::default();
        splitter.push(Bytes::from_static(text.as_bytes()));
        let block = splitter.next().unwrap();
        let data = block.data().unwrap();
        String::from_utf8(Restamp::new("r").event(&block.bytes, &data).to_vec()).unwrap()
    }

    #[test]
    fn events_keep_their_other_fields() {
        assert_eq!(event("id: 7\ndata: {\"model\":\"a\"}\n\n"), "id: 7\ndata: {\"model\":\"r\"}\n\n");
        assert_eq!(event("data:{\"n\":1}\r\n\r\n"), "data:{\"n\":1}\r\n\r\n");
        assert_eq!(
            event("event: e\r\ndata: {\r\ndata: \"model\":\"a\"}\r\n\r\n"),
            "event: e\ndata: { \"model\":\"r\"}\n\n"
        );
    }

    proptest! {
        #[test]
        fn whatever_it_reads_it_only_changes_models(
            keys in proptest::collection::vec("model|response|id|\\\\u006dodel|m", 0..6),
            name in "[ -~é\n]{0,12}",
        ) {
            let members: Vec<String> =
                keys.iter().enumerate().map(|(at, key)| format!("\"{key}\": {{\"model\":\"{at}\"}}, \"{key}\":\"{at}\"")).collect();
            let text = format!("{{{}}}", members.join(","));
            let stamped = Restamp::new(&name).answer(&Bytes::from(text.clone()));
            let mut expected: serde_json::Value = serde_json::from_str(&text).unwrap();
            if let Some(model) = expected.get_mut("model") {
                *model = name.clone().into();
            }
            let read: serde_json::Value = serde_json::from_slice(&stamped).unwrap();
            prop_assert_eq!(read, expected);
        }
    }
}

//! What stays the same from one event of a chat stream to the next: all but the words in it.
//!
//! Most events of a stream are one text around a few tokens. Whoever has judged one need not walk through the next: if it differs
//! from the last only inside strings that the judge does not read, it says the same. Walking took half of the gateway's own
//! work per event.

use std::ops::Range;

use super::super::json::{self, Elements, Members, skip_blanks};

/// A longer event is judged each time: so much is kept for every running stream.
const MAX_TEXT_BYTES: usize = 2 << 10;

/// After so many events in a row of which none was like the one before, this stream's are not of that kind.
const MAX_LESSONS: u8 = 16;

/// The last content event's text, and where in it strings are that may differ.
#[derive(Debug, Default)]
pub(super) struct Template {
    text: Vec<u8>,
    /// In order, without their quotes: the words themselves, and the padding that OpenAI puts beside them.
    free: Vec<Range<usize>>,
    /// Lessons without a use of them.
    lessons: u8,
}

impl Template {
    /// Whether an event differs from the last one only in its words, and has some.
    pub(super) fn fits(&mut self, data: &[u8]) -> bool {
        let fits = !self.free.is_empty() && self.walk(data).is_some_and(|rest| rest == self.tail());
        if fits {
            self.lessons = 0;
        }
        fits
    }

    fn tail(&self) -> &[u8] {
        self.free.last().and_then(|last| self.text.get(last.end..)).unwrap_or_default()
    }

    /// What stands behind the last free string; none where anything differs before.
    fn walk<'a>(&self, data: &'a [u8]) -> Option<&'a [u8]> {
        let (mut at, mut from) = (0, 0);
        for free in &self.free {
            let fixed = &self.text[from..free.start];
            if !data[at..].starts_with(fixed) {
                return None;
            }
            at += fixed.len();
            let closing = json::skip_string(data, at - 1).ok()? - 1;
            // No words: that is another kind of event.
            if closing == at {
                return None;
            }
            (at, from) = (closing, free.end);
        }
        data.get(at..)
    }

    /// Takes an event that was judged to be content and nothing more as the pattern of those to come.
    pub(super) fn learn(&mut self, data: &[u8]) {
        self.free.clear();
        if MAX_TEXT_BYTES < data.len() || self.lessons == MAX_LESSONS {
            return;
        }
        self.lessons += 1;
        self.find_free(data);
        self.free.sort_unstable_by_key(|free| free.start);
        self.text.clear();
        self.text.extend_from_slice(data);
    }

    fn find_free(&mut self, data: &[u8]) {
        for member in Members::of(data).map_while(Result::ok) {
            match &data[member.key] {
                b"obfuscation" => self.free.extend(inside(data, member.value)),
                b"choices" => {
                    if let Some(words) = words_of(data, member.value) {
                        self.free.push(words);
                    }
                }
                _ => {}
            }
        }
    }
}

/// The inside of a string that is not empty.
fn inside(data: &[u8], value: Range<usize>) -> Option<Range<usize>> {
    let is_string = data.get(value.start) == Some(&b'"') && 2 < value.len();
    is_string.then_some(value.start + 1..value.end - 1)
}

/// The words in the only choice: in its delta, or beside it as completions have them.
fn words_of(data: &[u8], choices: Range<usize>) -> Option<Range<usize>> {
    if Elements::of(&data[choices.clone()]).count() != 1 {
        return None;
    }
    let choice = skip_blanks(data, choices.start + 1);
    let in_delta = || {
        let (_, delta) = members_of(data, choice).find(|(key, _)| *key == b"delta")?;
        let mut words = members_of(data, delta.start)
            .filter(|(key, _)| matches!(*key, b"content" | b"reasoning_content" | b"reasoning" | b"refusal"));
        words.find_map(|(_, value)| inside(data, value))
    };
    let (_, text) = members_of(data, choice).find(|(key, _)| *key == b"text").unzip();
    text.map_or_else(in_delta, |text| inside(data, text))
}

/// Keys and values, as spans of `data`, of the object in it that begins at `at`.
fn members_of(data: &[u8], at: usize) -> impl Iterator<Item = (&[u8], Range<usize>)> {
    let object = data.get(at..).unwrap_or_default();
    let members = Members::of(object).map_while(Result::ok);
    members.map(move |member| (&object[member.key], at + member.value.start..at + member.value.end))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPENAI: &str = r#"{"id":"c","choices":[{"index":0,"delta":{"content":"Hi"},"finish_reason":null}],"usage":null,"obfuscation":"aB3"}"#;

    fn fits(pattern: &str, event: &str) -> bool {
        let mut template = Template::default();
        template.learn(pattern.as_bytes());
        template.fits(event.as_bytes())
    }

    #[test]
    fn only_words_may_differ() {
        let table = [
            (OPENAI.replace("Hi", " there"), true),
            (OPENAI.replace("Hi", r#"\"error\": \\"#), true),
            (OPENAI.replace("aB3", "x"), true),
            (OPENAI.replace("Hi", "a much longer word").replace("aB3", ""), false),
            (OPENAI.replace("Hi", ""), false),
            (OPENAI.replace("null}", "\"stop\"}"), false),
            (OPENAI.replace("\"usage\":null", "\"usage\":{}"), false),
            (OPENAI.replace("\"c\"", "\"d\""), false),
            (OPENAI.replace("Hi\"}", "Hi\",\"x\":1}"), false),
            (OPENAI.replace("Hi", r#"Hi"},"error":{"a":""#), false),
            (format!("{OPENAI} "), false),
            (OPENAI[..OPENAI.len() - 1].to_owned(), false),
            (String::new(), false),
        ];
        for (event, expected) in table {
            assert_eq!(fits(OPENAI, &event), expected, "{event}");
        }
    }

    #[test]
    fn completions_and_reasoning_have_words_too() {
        for text in [
            r#"{"choices":[{"text":"Hi","index":0,"finish_reason":null}]}"#,
            r#"{"choices": [ {"delta":{"role":"assistant","content":null,"reasoning_content":"Hi"}}]}"#,
        ] {
            assert!(fits(text, &text.replace("Hi", "Ho")), "{text}");
            assert!(!fits(text, &text.replace("Hi", "")), "{text}");
        }
    }

    #[test]
    fn an_event_without_words_is_no_pattern() {
        let two = r#"{"choices":[{"index":0,"delta":{"content":"a"}},{"index":1,"delta":{"content":"b"}}]}"#;
        let call = r#"{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{"}}]}}]}"#;
        for text in [two, call, r#"{"choices":[]}"#, r#"{"choices":"#, "7", ""] {
            assert!(!fits(text, text), "{text}");
        }
        let long = OPENAI.replace("Hi", &"x".repeat(MAX_TEXT_BYTES));
        assert!(!fits(&long, &long));
    }

    #[test]
    fn a_stream_whose_events_are_never_alike_is_left_alone() {
        let mut template = Template::default();
        let event = |id: u8| OPENAI.replace("\"c\"", &format!("\"{id}\""));
        for id in 0..MAX_LESSONS + 1 {
            assert!(!template.fits(event(id).as_bytes()));
            template.learn(event(id).as_bytes());
        }
        assert!(!template.fits(event(MAX_LESSONS).as_bytes()));
        let mut template = Template::default();
        for id in 0..3 * MAX_LESSONS {
            template.learn(event(id).as_bytes());
            assert!(template.fits(event(id).as_bytes()), "each lesson was of use");
        }
    }
}

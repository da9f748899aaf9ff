//! The `model` part of a multipart form: found and replaced, all other bytes kept (spec/wire.md 1.2, 2.3).

use std::borrow::Cow;
use std::ops::Range;

use bytes::Bytes;
use memchr::memmem;

use super::rewrite::{Edit, Parts, splice};
use crate::error::Fault;

/// A form and where its `model` lies.
#[derive(Clone, Debug)]
pub struct Form {
    bytes: Bytes,
    model: Option<Range<usize>>,
}

/// Whether this content type is a multipart form.
pub fn is_multipart(content_type: &str) -> bool {
    content_type.trim_start().get(..10).is_some_and(|start| start.eq_ignore_ascii_case("multipart/"))
}

/// Longest boundary of RFC 2046.
const MAX_BOUNDARY: usize = 70;

/// Finds the part named `model` without a file name; the last one if there are several.
///
/// # Errors
/// [`Fault::InvalidMultipart`]: no boundary, or the form has no end.
pub fn scan(content_type: &str, bytes: Bytes) -> Result<Form, Fault> {
    let boundary = boundary(content_type)
        .filter(|boundary| !boundary.is_empty() && boundary.len() <= MAX_BOUNDARY)
        .ok_or(Fault::InvalidMultipart("the content-type names no boundary"))?;
    let model = find_model(&bytes, boundary).map_err(Fault::InvalidMultipart)?;
    Ok(Form { bytes, model })
}

impl Form {
    /// The model's name, none if there is no such part or it is no UTF-8.
    pub fn model(&self) -> Option<&str> {
        std::str::from_utf8(&self.bytes[self.model.clone()?]).ok().filter(|model| !model.is_empty())
    }

    /// The form with another model; without a `model` part nothing is added.
    pub fn rewrite(&self, model: &str) -> Parts {
        match self.model.clone() {
            Some(span) if self.bytes[span.clone()] != *model.as_bytes() => {
                splice(&self.bytes, &[Edit { span, text: Cow::Borrowed(model) }])
            }
            _ => Parts::whole(self.bytes.clone()),
        }
    }

    /// The form as received.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }
}

fn boundary(content_type: &str) -> Option<&str> {
    parameters(content_type).find(|(name, _)| name.eq_ignore_ascii_case("boundary")).map(|(_, value)| value)
}

/// The `name=value` pairs after the first semicolon, quotes removed. Semicolons inside quotes belong to the value.
fn parameters(header: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut rest = header.find(';').map_or("", |at| &header[at + 1..]);
    std::iter::from_fn(move || {
        let (name, after) = rest.split_once('=')?;
        let (value, next) = match after.trim_start().strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => after.split_at(after.find(';').unwrap_or(after.len())),
        };
        rest = next.find(';').map_or("", |at| &next[at + 1..]);
        Some((name.trim(), value.trim()))
    })
}

fn find_model(bytes: &[u8], boundary: &str) -> Result<Option<Range<usize>>, &'static str> {
    let delimiter = format!("\r\n--{boundary}");
    let finder = memmem::Finder::new(delimiter.as_bytes());
    // The first delimiter may stand at the very start, without its line end.
    let first = &delimiter.as_bytes()[2..];
    let mut at = if bytes.starts_with(first) {
        first.len()
    } else {
        finder.find(bytes).ok_or("the form does not hold its boundary")? + delimiter.len()
    };
    let mut model = None;
    while !bytes[at..].starts_with(b"--") {
        let head = at;
        let head_end = memmem::find(&bytes[head..], b"\r\n\r\n").ok_or("a part has no head")? + head;
        let start = head_end + 4;
        // An empty part's delimiter begins with the line end that closes the head.
        let end = finder.find(&bytes[start - 2..]).ok_or("the form has no closing boundary")? + start - 2;
        if is_model(&bytes[head..head_end]) {
            model = Some(start..end.max(start));
        }
        at = end + delimiter.len();
    }
    Ok(model)
}

fn is_model(head: &[u8]) -> bool {
    let Ok(head) = std::str::from_utf8(head) else { return false };
    let Some((_, disposition)) = head
        .split("\r\n")
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.trim().eq_ignore_ascii_case("content-disposition"))
    else {
        return false;
    };
    let mut is_named = false;
    for (name, value) in parameters(disposition) {
        is_named |= name.eq_ignore_ascii_case("name") && value == "model";
        if name.eq_ignore_ascii_case("filename") || name.eq_ignore_ascii_case("filename*") {
            return false;
        }
    }
    is_named
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TYPE: &str = "multipart/form-data; boundary=xY";

    fn form(parts: &[(&str, &str)]) -> Bytes {
        let mut text = String::new();
        for (head, body) in parts {
            text += &format!("--xY\r\nContent-Disposition: form-data; {head}\r\n\r\n{body}\r\n");
        }
        Bytes::from(text + "--xY--\r\n")
    }

    #[test]
    fn the_model_is_found_and_replaced_wherever_it_stands() {
        let file = ("name=\"file\"; filename=\"model.wav\"", "RIFF\r\n--xZ\r\nname=\"model\"\r\n\r\nno");
        let model = ("name=\"model\"", "whisper");
        for parts in [[file, model], [model, file]] {
            let bytes = form(&parts);
            let found = scan(TYPE, bytes.clone()).unwrap();
            assert_eq!(found.model(), Some("whisper"));
            let after = String::from_utf8(found.rewrite("w-2").slices.concat()).unwrap();
            assert_eq!(after, String::from_utf8(bytes.to_vec()).unwrap().replace("whisper", "w-2"));
            assert_eq!(found.rewrite("whisper").slices[0].as_ptr(), bytes.as_ptr());
        }
    }

    #[test]
    fn a_file_named_model_is_not_the_model() {
        let bytes = form(&[("name=\"model\"; filename=\"x\"", "abc"), ("name=model2", "y"), ("name=\"empty\"", "")]);
        let found = scan(TYPE, bytes.clone()).unwrap();
        assert_eq!(found.model(), None);
        assert_eq!(*found.rewrite("m").slices, [bytes]);
    }

    #[test]
    fn an_empty_model_is_none_and_can_be_filled() {
        let found = scan(TYPE, form(&[("name=model", "")])).unwrap();
        assert_eq!(found.model(), None);
        assert_eq!(found.rewrite("m").slices.concat(), form(&[("name=model", "m")]));
    }

    #[test]
    fn broken_forms_are_faults() {
        for (content_type, text) in [
            ("multipart/form-data", "--xY--"),
            (TYPE, ""),
            (TYPE, "--xY\r\nContent-Disposition: form-data; name=model\r\n\r\nabc"),
            (TYPE, "--xY\r\n"),
        ] {
            let result = scan(content_type, Bytes::copy_from_slice(text.as_bytes()));
            assert!(matches!(result, Err(Fault::InvalidMultipart(_))), "{text}");
        }
        assert!(scan("multipart/form-data; a=\"x;y\"; Boundary=\"xY\"", form(&[])).is_ok());
        assert!(is_multipart("Multipart/Form-Data; boundary=x") && !is_multipart("application/json"));
    }

    proptest! {
        #[test]
        fn never_panics(text in "(--xY|\r\n|name=model|Content-Disposition: a;|-|[a-z]){0,20}") {
            if let Ok(found) = scan(TYPE, Bytes::from(text)) {
                found.rewrite("m");
            }
        }
    }
}

//! The parts of a provider's error that classification and wrapping read, out of every known shape (spec/wire.md 5.1).

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Number;

/// What a provider says about a failure. All parts are the provider's words and may quote the prompt: not for logs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ErrorFields {
    /// `code`; a number becomes its digits.
    pub code: Option<String>,
    /// `type`.
    pub kind: Option<String>,
    /// `message`.
    pub message: Option<String>,
    /// `param`.
    pub param: Option<String>,
    /// `innererror.code` or `inner_error.code` (Azure).
    pub inner_code: Option<String>,
}

/// An error in a body or an event: its fields and its shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundError {
    /// The fields.
    pub fields: ErrorFields,
    /// How it was written.
    pub shape: Shape,
}

/// How an error was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// `{"error":{…,"message":"text"}}`: what clients expect.
    Wrapped,
    /// Anything else: flat, `{"error":"text"}`, `{"statusCode":429,"message":…}`, a Responses event.
    Foreign,
}

/// Reads the error of a JSON body or event; none where it is no JSON object or has no error.
pub fn find_error(text: &[u8]) -> Option<FoundError> {
    let Ok(Part::Object(top)) = serde_json::from_slice(text) else { return None };
    let nested = match &top.response {
        Some(Part::Object(response)) => response.error.as_ref(),
        Some(Part::Null | Part::Text(_) | Part::Number(_) | Part::Other) | None => None,
    };
    let is_there = |error: &&Part<'_>| !matches!(error, Part::Null);
    match top.error.as_ref().filter(is_there).or(nested.filter(is_there)) {
        Some(Part::Object(error)) => {
            let fields = ErrorFields::of(error);
            let is_wrapped = top.error.is_some() && fields.message.is_some();
            Some(FoundError { fields, shape: if is_wrapped { Shape::Wrapped } else { Shape::Foreign } })
        }
        Some(Part::Text(text)) => {
            let fields = ErrorFields { message: Some(text.clone().into_owned()), ..ErrorFields::of_top(&top) };
            Some(FoundError { fields, shape: Shape::Foreign })
        }
        Some(Part::Null | Part::Number(_) | Part::Other) => {
            Some(FoundError { fields: ErrorFields::default(), shape: Shape::Foreign })
        }
        None => {
            let says_error = |part: &Option<Part<'_>>| part.as_ref().and_then(Part::text) == Some("error");
            let is_flat = says_error(&top.object)
                || says_error(&top.kind)
                || top.status_code.is_some()
                || top.message.is_some()
                || top.detail.is_some();
            is_flat.then(|| FoundError { fields: ErrorFields::of_top(&top), shape: Shape::Foreign })
        }
    }
}

/// A value as far as it is read.
enum Part<'a> {
    Null,
    Text(Cow<'a, str>),
    Number(Number),
    Object(Box<Known<'a>>),
    /// `true`, `false` or an array.
    Other,
}

/// The members of an object that are read; the others are skipped over, so that no tree is built of what a provider says at
/// length. Of equal ones the last holds.
#[derive(Default)]
struct Known<'a> {
    error: Option<Part<'a>>,
    response: Option<Part<'a>>,
    object: Option<Part<'a>>,
    kind: Option<Part<'a>>,
    code: Option<Part<'a>>,
    status_code: Option<Part<'a>>,
    message: Option<Part<'a>>,
    detail: Option<Part<'a>>,
    param: Option<Part<'a>>,
    innererror: Option<Part<'a>>,
    inner_error: Option<Part<'a>>,
}

/// Their names.
#[derive(serde::Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum Key {
    Error,
    Response,
    Object,
    Type,
    Code,
    #[serde(rename = "statusCode")]
    StatusCode,
    Message,
    Detail,
    Param,
    Innererror,
    InnerError,
    #[serde(other)]
    Unknown,
}

impl<'a> Known<'a> {
    fn place(&mut self, key: Key) -> Option<&mut Option<Part<'a>>> {
        Some(match key {
            Key::Error => &mut self.error,
            Key::Response => &mut self.response,
            Key::Object => &mut self.object,
            Key::Type => &mut self.kind,
            Key::Code => &mut self.code,
            Key::StatusCode => &mut self.status_code,
            Key::Message => &mut self.message,
            Key::Detail => &mut self.detail,
            Key::Param => &mut self.param,
            Key::Innererror => &mut self.innererror,
            Key::InnerError => &mut self.inner_error,
            Key::Unknown => return None,
        })
    }
}

impl Part<'_> {
    fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Null | Self::Number(_) | Self::Object(_) | Self::Other => None,
        }
    }

    /// A text, or a number's digits.
    fn shown(&self) -> Option<String> {
        match self {
            Self::Text(text) => Some(text.clone().into_owned()),
            Self::Number(number) => Some(number.to_string()),
            Self::Null | Self::Object(_) | Self::Other => None,
        }
    }
}

impl<'de> Deserialize<'de> for Part<'de> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Reader)
    }
}

/// Makes a [`Part`] of whatever comes.
struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Part<'de>;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Part<'de>, E> {
        Ok(Part::Null)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Part<'de>, E> {
        Ok(Part::Other)
    }

    fn visit_i64<E>(self, number: i64) -> Result<Part<'de>, E> {
        Ok(Part::Number(number.into()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Part<'de>, E> {
        Ok(Part::Number(number.into()))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Part<'de>, E> {
        Ok(Number::from_f64(number).map_or(Part::Other, Part::Number))
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Part<'de>, E> {
        Ok(Part::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Part<'de>, E> {
        Ok(Part::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Part<'de>, A::Error> {
        while elements.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Part::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Part<'de>, A::Error> {
        let mut known = Box::<Known<'de>>::default();
        while let Some(key) = members.next_key()? {
            match known.place(key) {
                Some(place) => *place = Some(members.next_value()?),
                None => drop(members.next_value::<IgnoredAny>()?),
            }
        }
        Ok(Part::Object(known))
    }
}

impl ErrorFields {
    fn of(error: &Known<'_>) -> Self {
        let shown = |part: &Option<Part<'_>>| part.as_ref().and_then(Part::shown);
        let text = |part: Option<&Part<'_>>| part.and_then(Part::text).map(str::to_owned);
        let inner_code = match error.innererror.as_ref().or(error.inner_error.as_ref()) {
            Some(Part::Object(inner)) => shown(&inner.code),
            Some(Part::Null | Part::Text(_) | Part::Number(_) | Part::Other) | None => None,
        };
        Self {
            code: shown(&error.code).or_else(|| shown(&error.status_code)),
            kind: shown(&error.kind),
            message: text(error.message.as_ref().or(error.detail.as_ref())),
            param: text(error.param.as_ref()),
            inner_code,
        }
    }

    /// Those of an error whose parts stand at the top. In a Responses event `type` is the event's name and says nothing about
    /// the error.
    fn of_top(top: &Known<'_>) -> Self {
        let kind = top.kind.as_ref().and_then(Part::text);
        let is_name = matches!(kind, Some("error" | "response.failed"));
        let fields = Self::of(top);
        if is_name { Self { kind: None, ..fields } } else { fields }
    }

    /// A code that is an HTTP status of 400–599, as number or text.
    pub fn status(&self) -> Option<u16> {
        self.code.as_deref()?.parse().ok().filter(|status| (400..600).contains(status))
    }

    /// The body that clients expect: all four keys, missing ones filled from the arguments.
    pub fn to_body(&self, kind: &str, code: &str, message: &str) -> Vec<u8> {
        let or = |part: &Option<String>, other: &str| part.clone().unwrap_or_else(|| other.to_owned());
        let error = serde_json::json!({"error": {
            "message": or(&self.message, message),
            "type": or(&self.kind, kind),
            "param": self.param,
            "code": or(&self.code, code),
        }});
        error.to_string().into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fields(parts: [Option<&str>; 5]) -> ErrorFields {
        let [code, kind, message, param, inner_code] = parts.map(|part| part.map(str::to_owned));
        ErrorFields { code, kind, message, param, inner_code }
    }

    #[test]
    fn every_known_shape_is_read() {
        use Shape::{Foreign, Wrapped};
        let text = r#"{"code":"c","type":"t","message":"m","param":"p","innererror":{"code":"i"}}"#;
        let all = fields([Some("c"), Some("t"), Some("m"), Some("p"), Some("i")]);
        let wrapped = format!(r#"{{"id":[1,{{"error":2}}],"error":{text}}}"#);
        let escaped = r#"{"\u0065rror":{"message":"\"m\"","code":429,"inner_error":{"code":7}}}"#;
        let cases: [(&str, Option<(ErrorFields, Shape)>); 14] = [
            (&wrapped, Some((all.clone(), Wrapped))),
            (&format!(r#"{{"type":"response.failed","response":{wrapped}}}"#), Some((all.clone(), Foreign))),
            (&format!(r#"{{"error":null,"response":{wrapped}}}"#), Some((all, Wrapped))),
            (escaped, Some((fields([Some("429"), None, Some("\"m\""), None, Some("7")]), Wrapped))),
            (
                r#"{"error":"words","type":"error","code":1.5}"#,
                Some((fields([Some("1.5"), None, Some("words"), None, None]), Foreign)),
            ),
            (r#"{"error":{"code":"c"}}"#, Some((fields([Some("c"), None, None, None, None]), Foreign))),
            (r#"{"error":{"message":{},"detail":"d"}}"#, Some((ErrorFields::default(), Foreign))),
            (r#"{"error":true}"#, Some((ErrorFields::default(), Foreign))),
            (
                r#"{"statusCode":429,"detail":"d","type":"t"}"#,
                Some((fields([Some("429"), Some("t"), Some("d"), None, None]), Foreign)),
            ),
            (r#"{"object":"error"}"#, Some((ErrorFields::default(), Foreign))),
            // As parsers do, the last of equal members holds.
            (
                r#"{"error":{"message":"a"},"error":{"message":"b"}}"#,
                Some((fields([None, None, Some("b"), None, None]), Wrapped)),
            ),
            (r#"{"error":null,"object":"chat.completion"}"#, None),
            (r#"[{"error":{}}]"#, None),
            (r#"{"error":{"message":"m"}"#, None),
        ];
        for (text, wanted) in cases {
            let found = find_error(text.as_bytes()).map(|found| (found.fields, found.shape));
            assert_eq!(found, wanted, "{text}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(text in "[{}\\[\\]\",:0-9a-z.\\\\ -]{0,60}") {
            find_error(text.as_bytes());
            find_error(format!(r#"{{"error":{text}}}"#).as_bytes());
        }
    }
}

//! Raw path → operation (spec/wire.md 1.1): one handler for `/v1/X`, `/X`, `/openai/X`, `/openai/v1/X` and the Azure and
//! engines styles. It works on the raw path, since the router's own extractor leaves `%2F` undecoded in matching.

use std::borrow::Cow;

use crate::error::Fault;
use crate::telemetry::labels::Endpoint;

/// What a request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// The path without its prefix and empty segments, percent-encoding kept: `chat/completions`, `files/file-1/content`.
    pub text: Cow<'static, str>,
    /// The label of the operation.
    pub endpoint: Endpoint,
    /// The deployment or engine of the path, percent-decoded once; it wins over a `model` in the body.
    pub path_model: Option<String>,
    /// How the route is found.
    pub group: Group,
}

/// How the route of an operation is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// A, B and C: by `model` in the JSON, the form or the path.
    Model,
    /// D: by pin, header or default route. A POST whose JSON has a top-level string `model` is treated as
    /// [`Group::Model`] all the same.
    Object,
    /// D, lists that show every tenant's objects: off unless `defaults.list_endpoints`.
    List,
    /// E: the gateway's own `models`.
    Models,
}

/// POST operations that name a model, exactly.
const MODEL_OPERATIONS: [&str; 17] = [
    "chat/completions",
    "completions",
    "embeddings",
    "responses",
    "responses/compact",
    "responses/input_tokens",
    "moderations",
    "images/generations",
    "images/edits",
    "images/variations",
    "audio/speech",
    "audio/transcriptions",
    "audio/translations",
    "videos",
    "fine_tuning/jobs",
    "assistants",
    "threads/runs",
];

/// Those of them that have no other method.
const POST_ONLY: [&str; 11] = [
    "completions",
    "embeddings",
    "moderations",
    "images/generations",
    "images/edits",
    "images/variations",
    "audio/speech",
    "audio/transcriptions",
    "audio/translations",
    "responses/compact",
    "responses/input_tokens",
];

/// What may follow a deployment, longest first; engines know the first three.
const DEPLOYMENT_OPERATIONS: [&str; 9] = [
    "chat/completions",
    "completions",
    "embeddings",
    "audio/transcriptions",
    "audio/translations",
    "audio/speech",
    "images/generations",
    "images/edits",
    "batches",
];

/// First segments that belong to the API (spec/wire.md 1.4).
const KNOWN_PREFIXES: [&str; 19] = [
    "assistants",
    "audio",
    "batches",
    "chat",
    "completions",
    "containers",
    "conversations",
    "embeddings",
    "evals",
    "files",
    "fine_tuning",
    "images",
    "moderations",
    "responses",
    "skills",
    "threads",
    "uploads",
    "vector_stores",
    "videos",
];

/// First segments that are known and not served, and why.
const NEVER_SERVED: [(&str, &str); 5] = [
    ("realtime", "realtime sessions cannot be relayed"),
    ("organization", "it would act with the operator's credentials"),
    ("projects", "it would act with the operator's credentials"),
    ("chatkit", "its sessions belong to one provider account"),
    ("messages", "Anthropic's API is not served yet"),
];

/// Longest path echoed in an error message, in characters.
const SHOWN_PATH: usize = 128;

impl Operation {
    /// Reads a method and a raw path, which begins with `/` and has no query.
    ///
    /// # Errors
    /// [`Fault::UnknownUrl`], [`Fault::Unsupported`] or [`Fault::MethodNotAllowed`]: faults of the caller.
    pub fn of(method: &str, path: &str) -> Result<Self, Fault> {
        if let Some(common) = Self::common(method, path) {
            return Ok(common);
        }
        let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
        let unknown = || Fault::UnknownUrl(format!("{method} {}", shown(path)));
        // A front end of the provider may resolve them, and so lead out of what is served here.
        if segments.iter().any(|segment| has_dots(segment)) {
            return Err(unknown());
        }
        match segments[..] {
            ["openai", "deployments", ref rest @ ..] => {
                Self::of_named(method, rest, &DEPLOYMENT_OPERATIONS).ok_or_else(unknown)?
            }
            ["engines", ref rest @ ..] | ["v1", "engines", ref rest @ ..] => {
                Self::of_named(method, rest, &DEPLOYMENT_OPERATIONS[..3]).ok_or_else(unknown)?
            }
            ["openai", "v1", ref rest @ ..] | ["openai", ref rest @ ..] | ["v1", ref rest @ ..] => {
                Self::of_plain(method, rest, unknown)
            }
            ref rest => Self::of_plain(method, rest, unknown),
        }
    }

    /// The paths that nearly all requests have, without looking at their parts.
    fn common(method: &str, path: &str) -> Option<Self> {
        if method != "POST" {
            return None;
        }
        let (text, endpoint) = match path {
            "/v1/chat/completions" | "/chat/completions" => ("chat/completions", Endpoint::ChatCompletions),
            "/v1/embeddings" | "/embeddings" => ("embeddings", Endpoint::Embeddings),
            "/v1/responses" => ("responses", Endpoint::Responses),
            _ => return None,
        };
        Some(Self { text: Cow::Borrowed(text), endpoint, path_model: None, group: Group::Model })
    }

    /// The longest known operation at the end, the name being everything before it.
    fn of_named(method: &str, segments: &[&str], known: &[&str]) -> Option<Result<Self, Fault>> {
        let joined = segments.join("/");
        let (name, text) = known.iter().find_map(|operation| {
            let name = joined.strip_suffix(operation)?.strip_suffix('/')?;
            (!name.is_empty()).then_some((name, *operation))
        })?;
        if method != "POST" {
            return Some(Err(Fault::MethodNotAllowed("POST")));
        }
        Some(Ok(Self {
            text: Cow::Owned(text.to_owned()),
            endpoint: endpoint(text),
            path_model: Some(decode_percent(name).into_owned()),
            group: Group::Model,
        }))
    }

    fn of_plain(method: &str, segments: &[&str], unknown: impl Fn() -> Fault) -> Result<Self, Fault> {
        let Some(first) = segments.first() else { return Err(unknown()) };
        if let Some((_, why)) = NEVER_SERVED.iter().find(|(name, _)| name == first) {
            return Err(Fault::Unsupported(format!("{method} {}: {why}", shown(&segments.join("/")))));
        }
        let text = segments.join("/");
        if *first == "models" {
            return Self::of_models(method, text);
        }
        if !KNOWN_PREFIXES.contains(first) {
            return Err(unknown());
        }
        let is_model_operation =
            MODEL_OPERATIONS.contains(&text.as_str()) || matches!(segments, ["threads", _, "runs"]);
        let group = match method {
            "POST" if is_model_operation => Group::Model,
            _ if POST_ONLY.contains(&text.as_str()) => return Err(Fault::MethodNotAllowed("POST")),
            "GET" if segments.len() == 1 || matches!(segments, ["chat", "completions"] | ["fine_tuning", "jobs"]) => {
                Group::List
            }
            "GET" | "POST" | "DELETE" => Group::Object,
            _ => return Err(Fault::MethodNotAllowed("GET, POST, DELETE")),
        };
        Ok(Self { endpoint: endpoint(&text), text: Cow::Owned(text), path_model: None, group })
    }

    fn of_models(method: &str, text: String) -> Result<Self, Fault> {
        match method {
            "GET" | "HEAD" => {
                Ok(Self { text: Cow::Owned(text), endpoint: Endpoint::Models, path_model: None, group: Group::Models })
            }
            "DELETE" => Err(Fault::Unsupported(format!("DELETE {}: models are the operator's", shown(&text)))),
            _ => Err(Fault::MethodNotAllowed("GET, HEAD")),
        }
    }

    /// The model id after `models/`, percent-decoded once; none for the list.
    pub fn models_id(&self) -> Option<Cow<'_, str>> {
        self.text.strip_prefix("models/").map(decode_percent)
    }

    /// Whether a call may leave `model` out (spec/wire.md 1.2): then it goes where a call without one goes.
    pub fn model_is_optional(&self) -> bool {
        matches!(self.first_segment(), "responses" | "moderations" | "images" | "videos" | "threads")
    }

    /// The id of the object that the path is about: `file-1` in `files/file-1/content`.
    pub fn object_id(&self) -> Option<Cow<'_, str>> {
        // `fine_tuning/jobs/ID`, `chat/completions/ID`, `audio/voices/ID`: a family has a name of two parts.
        let at = if matches!(self.first_segment(), "audio" | "chat" | "fine_tuning" | "images") { 2 } else { 1 };
        self.segments().nth(at)
    }

    /// Whether the operation itself creates an object in one provider account (spec/wire.md 1.4 rule 6): then it fails over
    /// only when the provider cannot have acted. `store` and `background` in the body mean the same.
    pub fn creates_object(&self) -> bool {
        match self.group {
            Group::Object | Group::List => true,
            Group::Models => false,
            Group::Model => {
                ["fine_tuning", "assistants", "threads", "videos", "batches"].contains(&self.first_segment())
            }
        }
    }

    /// The segments of the operation, percent-decoded: any of them may be an id that is pinned.
    pub fn segments(&self) -> impl DoubleEndedIterator<Item = Cow<'_, str>> {
        self.text.split('/').map(decode_percent)
    }

    /// Whether `stream_options` exists there (spec/wire.md 2.4).
    pub fn has_stream_options(&self) -> bool {
        matches!(&*self.text, "chat/completions" | "completions")
    }

    /// Whether `"stream": true` must be answered by an event stream (spec/wire.md 3.1).
    pub fn must_stream(&self) -> bool {
        matches!(&*self.text, "chat/completions" | "completions" | "responses")
    }

    fn first_segment(&self) -> &str {
        let end = self.text.bytes().position(|byte| byte == b'/').unwrap_or(self.text.len());
        &self.text[..end]
    }
}

fn endpoint(operation: &str) -> Endpoint {
    match operation.split('/').next().unwrap_or_default() {
        "chat" if operation.starts_with("chat/completions") => Endpoint::ChatCompletions,
        "completions" => Endpoint::Completions,
        "embeddings" => Endpoint::Embeddings,
        "responses" => Endpoint::Responses,
        "images" => Endpoint::Images,
        "audio" => Endpoint::Audio,
        "moderations" => Endpoint::Moderations,
        "models" => Endpoint::Models,
        _ => Endpoint::Other,
    }
}

/// Decodes `%XX` exactly once; what is no such triple stays, bytes that are no UTF-8 become U+FFFD.
pub fn decode_percent(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return Cow::Borrowed(text);
    }
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let digits = bytes.get(at + 1..at + 3).and_then(|pair| std::str::from_utf8(pair).ok());
        match digits.filter(|pair| byte == b'%' && pair.bytes().all(|digit| digit.is_ascii_hexdigit())) {
            Some(pair) => {
                decoded.push(u8::from_str_radix(pair, 16).unwrap_or(b'%'));
                at += 3;
            }
            None => {
                decoded.push(byte);
                at += 1;
            }
        }
    }
    Cow::Owned(
        String::from_utf8(decoded).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()),
    )
}

/// A path for an error message: cut, controls escaped.
fn shown(path: &str) -> String {
    path.chars().take(SHOWN_PATH).flat_map(char::escape_debug).collect()
}

/// Whether a part of a segment, percent-decoded once, stands for another folder.
fn has_dots(segment: &str) -> bool {
    decode_percent(segment).split(['/', '\\']).any(|part| matches!(part, "." | ".."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_operation_by_many_paths() {
        for path in [
            "/v1/chat/completions",
            "/chat/completions",
            "/openai/chat/completions",
            "/openai/v1/chat/completions/",
            "//v1//chat/completions",
        ] {
            let found = Operation::of("POST", path).unwrap();
            assert_eq!((&*found.text, found.group), ("chat/completions", Group::Model), "{path}");
            assert_eq!((found.endpoint, found.path_model), (Endpoint::ChatCompletions, None));
        }
    }

    #[test]
    fn deployments_and_engines_name_the_model() {
        for (path, model, text) in [
            ("/openai/deployments/gpt-4o/chat/completions", "gpt-4o", "chat/completions"),
            ("/openai/deployments/my%20model%2F%C3%BC/embeddings", "my model/ü", "embeddings"),
            ("/openai/deployments/my%20model/%C3%BC/embeddings", "my model/ü", "embeddings"),
            ("/openai/deployments/a%2525b/completions", "a%25b", "completions"),
            ("/openai/deployments/chat/completions", "chat", "completions"),
            ("/openai/deployments/d/batches", "d", "batches"),
            ("/engines/m/completions", "m", "completions"),
            ("/v1/engines/m/chat/completions", "m", "chat/completions"),
        ] {
            let found = Operation::of("POST", path).unwrap();
            assert_eq!((found.path_model.as_deref(), &*found.text), (Some(model), text), "{path}");
        }
        assert!(matches!(Operation::of("POST", "/openai/deployments/d/responses"), Err(Fault::UnknownUrl(_))));
        assert!(matches!(Operation::of("POST", "/engines/m/audio/speech"), Err(Fault::UnknownUrl(_))));
        assert_eq!(Operation::of("GET", "/openai/deployments/d/embeddings"), Err(Fault::MethodNotAllowed("POST")));
    }

    #[test]
    fn groups() {
        for (method, path, group) in [
            ("POST", "/v1/threads/t_1/runs", Group::Model),
            ("POST", "/v1/videos", Group::Model),
            ("POST", "/v1/files", Group::Object),
            ("POST", "/v1/chat/some_new_thing", Group::Object),
            ("GET", "/v1/files", Group::List),
            ("GET", "/v1/chat/completions", Group::List),
            ("GET", "/v1/chat/completions/c_1", Group::Object),
            ("DELETE", "/v1/responses/resp_1", Group::Object),
            ("GET", "/v1/models", Group::Models),
            ("HEAD", "/models/a%2Fb", Group::Models),
        ] {
            assert_eq!(Operation::of(method, path).unwrap().group, group, "{method} {path}");
        }
        assert_eq!(Operation::of("GET", "/v1/models/a/b").unwrap().models_id().as_deref(), Some("a/b"));
        assert!(Operation::of("POST", "/v1/files").unwrap().creates_object());
        assert!(!Operation::of("POST", "/v1/embeddings").unwrap().creates_object());
    }

    #[test]
    fn the_object_that_a_path_is_about() {
        for (path, id) in [
            ("/v1/files/file-1/content", Some("file-1")),
            ("/v1/chat/completions/c_1/messages", Some("c_1")),
            ("/v1/fine_tuning/jobs/j_1", Some("j_1")),
            ("/v1/fine_tuning/checkpoints/k_1/permissions", Some("k_1")),
            ("/v1/audio/voices", None),
            ("/v1/vector_stores/v%2F1/files/f", Some("v/1")),
        ] {
            assert_eq!(Operation::of("GET", path).unwrap().object_id().as_deref(), id, "{path}");
        }
    }

    #[test]
    fn unknown_unsupported_and_wrong_method() {
        assert!(matches!(Operation::of("POST", "/v1/foo"), Err(Fault::UnknownUrl(text)) if text == "POST /v1/foo"));
        assert!(matches!(Operation::of("GET", "/"), Err(Fault::UnknownUrl(_))));
        for path in [
            "/v1/chat/../organization/projects",
            "/v1/files/%2e%2E/users",
            "/v1/files/a%2f..%2Fb",
            "/v1/files/a%5c..",
            "/openai/deployments/../chat/completions",
            "/v1/./embeddings",
        ] {
            assert!(matches!(Operation::of("POST", path), Err(Fault::UnknownUrl(_))), "{path}");
        }
        assert!(Operation::of("GET", "/v1/files/a..b").is_ok());
        for path in ["/v1/realtime", "/v1/organization/users", "/v1/messages/count_tokens", "/v1/chatkit/sessions"] {
            assert!(matches!(Operation::of("POST", path), Err(Fault::Unsupported(_))), "{path}");
        }
        assert!(matches!(Operation::of("DELETE", "/v1/models/x"), Err(Fault::Unsupported(_))));
        assert_eq!(Operation::of("PUT", "/v1/files/f"), Err(Fault::MethodNotAllowed("GET, POST, DELETE")));
        assert_eq!(Operation::of("GET", "/v1/embeddings"), Err(Fault::MethodNotAllowed("POST")));
    }

    #[test]
    fn percent_decoding_happens_once_and_never_fails() {
        for (text, decoded) in
            [("a%2Fb", "a/b"), ("%25%32", "%2"), ("%", "%"), ("%zz%4", "%zz%4"), ("%ff", "\u{fffd}"), ("%+1", "%+1")]
        {
            assert_eq!(decode_percent(text), decoded);
        }
    }
}

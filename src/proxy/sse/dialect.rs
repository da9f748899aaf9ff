//! Whose event stream it is, and how our own error event is written in it (spec/wire.md 4.3).

use bytes::Bytes;

/// The API whose stream is relayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Api {
    /// chat/completions and completions.
    Chat,
    /// responses.
    Responses,
    /// Audio, images and all others.
    Other,
}

/// The words of an error event.
#[derive(Clone, Copy, Debug)]
pub struct ErrorWords<'a> {
    /// What happened, naming the backend where that is shown.
    pub message: &'a str,
    /// The error type.
    pub kind: &'a str,
    /// The code, such as `stream_interrupted`.
    pub code: &'a str,
}

/// The one event that tells a client of a stream's death. `sequence` is the last `sequence_number` seen plus one; only
/// responses have it.
pub fn error_event(api: Api, words: ErrorWords<'_>, sequence: u64) -> Bytes {
    let error = serde_json::json!({"message": words.message, "type": words.kind, "param": null, "code": words.code});
    let text = match api {
        Api::Chat | Api::Other => format!("data: {}\n\n", serde_json::json!({"error": error})),
        Api::Responses => {
            let event = serde_json::json!({
                "type": "error",
                "code": words.code,
                "message": words.message,
                "param": null,
                "sequence_number": sequence,
                "error": error,
            });
            format!("event: error\ndata: {event}\n\n")
        }
    };
    Bytes::from(text)
}

/// A flat error event with the `error` object that SDKs look for around it.
pub(super) fn wrapped(data: &[u8]) -> Bytes {
    Bytes::from([b"data: {\"error\":", data, b"}\n\n"].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORDS: ErrorWords<'_> = ErrorWords {
        message: "azure-gpt4o: stream ended early after 42 events",
        kind: "api_connection_error",
        code: "stream_interrupted",
    };

    #[test]
    fn both_dialects() {
        let error = "{\"message\":\"azure-gpt4o: stream ended early after 42 events\",\"type\":\"api_connection_error\",\
                     \"param\":null,\"code\":\"stream_interrupted\"}";
        assert_eq!(error_event(Api::Chat, WORDS, 0), format!("data: {{\"error\":{error}}}\n\n"));
        let responses = format!(
            "event: error\ndata: {{\"type\":\"error\",\"code\":\"stream_interrupted\",\
             \"message\":\"azure-gpt4o: stream ended early after 42 events\",\"param\":null,\"sequence_number\":7,\
             \"error\":{error}}}\n\n"
        );
        assert_eq!(error_event(Api::Responses, WORDS, 7), responses);
    }
}

//! Azure OpenAI: deployments by dated API, and the v1 API.

/// Operations that stand under a deployment in the dated API; all others stand under `/openai` (spec/wire.md 1.1 C).
const DEPLOYMENT_OPERATIONS: [&str; 8] = [
    "chat/completions",
    "completions",
    "embeddings",
    "audio/transcriptions",
    "audio/translations",
    "audio/speech",
    "images/generations",
    "images/edits",
];

/// The dated API's path with its `api-version`.
pub(super) fn dated_path(base: &str, deployment: &str, operation: &str, api_version: &str) -> String {
    let version = percent_encode(api_version);
    if DEPLOYMENT_OPERATIONS.contains(&operation) {
        let deployment = percent_encode(deployment);
        format!("{base}/openai/deployments/{deployment}/{operation}?api-version={version}")
    } else {
        format!("{base}/openai/{operation}?api-version={version}")
    }
}

/// The v1 API's path.
pub(super) fn v1_path(base: &str, operation: &str) -> String {
    format!("{base}/openai/v1/{operation}")
}

/// Percent-encodes all but RFC 3986's unreserved characters.
pub(super) fn percent_encode(text: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
        encoded
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dated_paths() {
        let table = [
            (
                "",
                "gpt-4o-azure-prod",
                "chat/completions",
                "/openai/deployments/gpt-4o-azure-prod/chat/completions?api-version=2024-10-21",
            ),
            (
                "/llm",
                "my dep/ü",
                "chat/completions",
                "/llm/openai/deployments/my%20dep%2F%C3%BC/chat/completions?api-version=2024-10-21",
            ),
            ("", "d", "files/file-1/content", "/openai/files/file-1/content?api-version=2024-10-21"),
            ("", "d", "responses", "/openai/responses?api-version=2024-10-21"),
        ];
        for (base, deployment, operation, expected) in table {
            assert_eq!(dated_path(base, deployment, operation, "2024-10-21"), expected);
        }
        assert_eq!(v1_path("", "chat/completions"), "/openai/v1/chat/completions");
    }
}

//! Which operation a path names, strictly as the imitated provider has it (spec/wire.md 2.1): what is nearly right is wrong.

use super::options::Dialect;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    Chat,
    Completions,
    Embeddings,
    Moderations,
    Responses,
    Speech,
    Transcriptions,
    Images,
    Models,
    Model,
    Response,
    DeleteResponse,
    Upload,
    Files,
    File,
    FileContent,
    DeleteFile,
    CreateBatch,
    Batches,
    Batch,
    CancelBatch,
}

/// A found operation with what its path carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) operation: Operation,
    /// Azure's deployment, percent-decoded.
    pub(super) deployment: Option<String>,
    /// The object's id.
    pub(super) id: Option<String>,
}

/// Why nothing was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Miss {
    /// No such path; on Azure also a missing or unknown `api-version`.
    Unknown,
    /// The path exists, the method does not.
    Method,
}

/// Versions of Azure's dated API that are served.
const API_VERSIONS: [&str; 22] = [
    "2022-12-01",
    "2023-05-15",
    "2023-12-01-preview",
    "2024-02-01",
    "2024-02-15-preview",
    "2024-03-01-preview",
    "2024-04-01-preview",
    "2024-05-01-preview",
    "2024-06-01",
    "2024-07-01-preview",
    "2024-08-01-preview",
    "2024-09-01-preview",
    "2024-10-01-preview",
    "2024-10-21",
    "2024-12-01-preview",
    "2025-01-01-preview",
    "2025-02-01-preview",
    "2025-03-01-preview",
    "2025-04-01-preview",
    "preview",
    "latest",
    "v1",
];

impl Operation {
    /// Whether Azure's dated API has it under a deployment; all others are under `/openai`.
    fn needs_deployment(self) -> bool {
        match self {
            Self::Chat | Self::Completions | Self::Embeddings | Self::Speech | Self::Transcriptions | Self::Images => {
                true
            }
            Self::Moderations
            | Self::Responses
            | Self::Models
            | Self::Model
            | Self::Response
            | Self::DeleteResponse
            | Self::Upload
            | Self::Files
            | Self::File
            | Self::FileContent
            | Self::DeleteFile
            | Self::CreateBatch
            | Self::Batches
            | Self::Batch
            | Self::CancelBatch => false,
        }
    }
}

/// Finds the operation of a request line.
pub(super) fn find(dialect: Dialect, method: &str, path: &str, query: &str) -> Result<Place, Miss> {
    match dialect {
        Dialect::OpenAi | Dialect::Compat => plain(method, path.strip_prefix("/v1/").ok_or(Miss::Unknown)?),
        Dialect::Azure => azure(method, path.strip_prefix("/openai/").ok_or(Miss::Unknown)?, query),
    }
}

fn plain(method: &str, rest: &str) -> Result<Place, Miss> {
    let (operation, id) = operation(method, rest)?;
    Ok(Place { operation, deployment: None, id })
}

fn azure(method: &str, rest: &str, query: &str) -> Result<Place, Miss> {
    let version = query.split('&').find_map(|part| part.strip_prefix("api-version="));
    if let Some(rest) = rest.strip_prefix("v1/") {
        let is_known = version.is_none_or(|version| ["preview", "latest", "v1"].contains(&version));
        return if is_known { plain(method, rest) } else { Err(Miss::Unknown) };
    }
    let is_dated = version.is_some_and(|version| API_VERSIONS.contains(&version) && version.starts_with("20"));
    if !is_dated {
        return Err(Miss::Unknown);
    }
    let Some(rest) = rest.strip_prefix("deployments/") else {
        let place = plain(method, rest)?;
        return if place.operation.needs_deployment() { Err(Miss::Unknown) } else { Ok(place) };
    };
    let (deployment, rest) = rest.split_once('/').ok_or(Miss::Unknown)?;
    let (operation, id) = operation(method, rest)?;
    if !operation.needs_deployment() {
        return Err(Miss::Unknown);
    }
    Ok(Place { operation, deployment: Some(percent_decode(deployment).ok_or(Miss::Unknown)?), id })
}

fn operation(method: &str, rest: &str) -> Result<(Operation, Option<String>), Miss> {
    let parts: Vec<&str> = rest.split('/').collect();
    let only = |wanted: &str, operation| if method == wanted { Ok((operation, None)) } else { Err(Miss::Method) };
    match parts[..] {
        ["chat", "completions"] => only("POST", Operation::Chat),
        ["completions"] => only("POST", Operation::Completions),
        ["embeddings"] => only("POST", Operation::Embeddings),
        ["moderations"] => only("POST", Operation::Moderations),
        ["responses"] => only("POST", Operation::Responses),
        ["audio", "speech"] => only("POST", Operation::Speech),
        ["audio", "transcriptions"] => only("POST", Operation::Transcriptions),
        ["images", "generations"] => only("POST", Operation::Images),
        ["models"] => only("GET", Operation::Models),
        ["files"] if method == "POST" => only("POST", Operation::Upload),
        ["files"] => only("GET", Operation::Files),
        ["batches"] if method == "POST" => only("POST", Operation::CreateBatch),
        ["batches"] => only("GET", Operation::Batches),
        [_, ""] | [_, "", _] => Err(Miss::Unknown),
        _ => object(method, &parts),
    }
}

fn object(method: &str, parts: &[&str]) -> Result<(Operation, Option<String>), Miss> {
    let (operation, id) = match (parts, method) {
        (["models", id], "GET") => (Operation::Model, id),
        (["responses", id], "GET") => (Operation::Response, id),
        (["responses", id], "DELETE") => (Operation::DeleteResponse, id),
        (["files", id], "GET") => (Operation::File, id),
        (["files", id], "DELETE") => (Operation::DeleteFile, id),
        (["files", id, "content"], "GET") => (Operation::FileContent, id),
        (["batches", id], "GET") => (Operation::Batch, id),
        (["batches", id, "cancel"], "POST") => (Operation::CancelBatch, id),
        (["models" | "responses" | "files" | "batches", _] | ["files", _, "content"] | ["batches", _, "cancel"], _) => {
            return Err(Miss::Method);
        }
        _ => return Err(Miss::Unknown),
    };
    Ok((operation, Some(percent_decode(id).ok_or(Miss::Unknown)?)))
}

/// Decodes once; none if an escape is broken or the result is not UTF-8.
fn percent_decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
        let (high, low) = (digit(rest.next())?, digit(rest.next())?);
        bytes.push((high << 4 | low) as u8);
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(dialect: Dialect, line: &str) -> String {
        let (method, target) = line.split_once(' ').unwrap();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        match find(dialect, method, path, query) {
            Ok(place) => [Some(format!("{:?}", place.operation)), place.deployment, place.id]
                .into_iter()
                .flatten()
                .collect::<Vec<_>>()
                .join(" "),
            Err(miss) => format!("{miss:?}"),
        }
    }

    #[test]
    fn paths_are_strict() {
        let openai = [
            ("POST /v1/chat/completions", "Chat"),
            ("GET /v1/models/gpt-4o", "Model gpt-4o"),
            ("DELETE /v1/responses/resp_1", "DeleteResponse resp_1"),
            ("POST /v1/batches/b/cancel", "CancelBatch b"),
            ("GET /v1/files/f/content", "FileContent f"),
            ("GET /v1/chat/completions", "Method"),
            ("POST /chat/completions", "Unknown"),
            ("POST /v1/v1/chat/completions", "Unknown"),
            ("POST /v1//chat/completions", "Unknown"),
            ("POST /v1/chat/completions/", "Unknown"),
            ("GET /v1/files/", "Unknown"),
            ("POST /openai/deployments/d/chat/completions?api-version=2024-10-21", "Unknown"),
        ];
        for (line, expected) in openai {
            assert_eq!(seen(Dialect::OpenAi, line), expected, "{line}");
        }
        let azure = [
            ("POST /openai/deployments/d/chat/completions?api-version=2024-10-21", "Chat d"),
            ("POST /openai/deployments/my%20dep%2F%C3%BC/embeddings?x=1&api-version=2024-02-01", "Embeddings my dep/ü"),
            ("POST /openai/responses?api-version=2025-04-01-preview", "Responses"),
            ("GET /openai/files/file-1/content?api-version=2024-10-21", "FileContent file-1"),
            ("POST /openai/v1/chat/completions", "Chat"),
            ("POST /openai/v1/chat/completions?api-version=preview", "Chat"),
            ("POST /openai/v1/chat/completions?api-version=2024-10-21", "Unknown"),
            ("POST /openai/deployments/d/chat/completions", "Unknown"),
            ("POST /openai/deployments/d/chat/completions?api-version=2019-01-01", "Unknown"),
            ("POST /openai/deployments/d/responses?api-version=2024-10-21", "Unknown"),
            ("POST /openai/chat/completions?api-version=2024-10-21", "Unknown"),
            ("POST /v1/chat/completions", "Unknown"),
        ];
        for (line, expected) in azure {
            assert_eq!(seen(Dialect::Azure, line), expected, "{line}");
        }
    }
}

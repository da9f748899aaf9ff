//! What a written `api_base` is read as (spec/config.md 3). Pure.

use std::net::IpAddr;

use super::BaseUrl;

/// A URL in its parts. User info and fragments never get this far.
#[derive(Debug, PartialEq)]
pub(super) struct Url {
    /// All but the query; the path as written, without trailing slashes.
    pub(super) base: BaseUrl,
    /// The query, undecoded.
    pub(super) query: Option<String>,
}

/// Why a text is no base URL. Never repeats it, since it may hold user info.
#[derive(Debug, PartialEq)]
pub(super) struct Refusal {
    /// What is wrong.
    pub(super) message: String,
    /// The URL as it should be.
    pub(super) repaired: Option<String>,
}

/// An Azure `api_base`.
#[derive(Debug, PartialEq)]
pub(super) struct AzureBase {
    /// The resource's root.
    pub(super) base: BaseUrl,
    /// The deployment named in it.
    pub(super) deployment: Option<String>,
    /// The `api-version` named in it.
    pub(super) api_version: Option<String>,
    /// Whether it names the v1 API.
    pub(super) is_v1: bool,
}

/// Operations that are pasted behind a base URL.
const OPERATIONS: [&str; 13] = [
    "/chat/completions",
    "/completions",
    "/embeddings",
    "/responses",
    "/images/generations",
    "/images/edits",
    "/audio/transcriptions",
    "/audio/translations",
    "/audio/speech",
    "/moderations",
    "/models",
    "/rerank",
    "/messages",
];

/// Hosts where Azure OpenAI lives.
const AZURE_HOSTS: [&str; 5] =
    ["openai.azure.com", "cognitiveservices.azure.com", "services.ai.azure.com", "openai.azure.us", "openai.azure.cn"];

/// Splits a URL.
pub(super) fn parse(text: &str) -> Result<Url, Refusal> {
    let text = text.trim();
    let refuse = |message: &str| Err(Refusal { message: message.to_owned(), repaired: repaired(text) });
    if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return refuse("a URL holds no blanks and no line breaks");
    }
    let lower = text.to_ascii_lowercase();
    let (tls, rest) = match (lower.starts_with("https://"), lower.starts_with("http://")) {
        (true, _) => (true, &text["https://".len()..]),
        (_, true) => (false, &text["http://".len()..]),
        (false, false) => return refuse("a URL begins with https:// or http://"),
    };
    if rest.contains('#') {
        return refuse("a base URL has no fragment (`#…`)");
    }
    let (rest, query) = match rest.split_once('?') {
        Some((rest, query)) => (rest, Some(query.to_owned())),
        None => (rest, None),
    };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    if authority.contains('@') {
        return refuse("a base URL holds no user info (`user:password@`)");
    }
    let Some((host, port)) = host_and_port(authority, tls) else {
        return refuse("the host or port of the URL is malformed");
    };
    if path.chars().any(|c| !c.is_ascii_graphic() || "\"<>\\^`{|}".contains(c)) {
        return refuse("the path of the URL holds characters that must be percent-encoded");
    }
    let path = path.trim_end_matches('/').to_owned();
    Ok(Url { base: BaseUrl { tls, host, port, path }, query })
}

fn host_and_port(authority: &str, tls: bool) -> Option<(String, u16)> {
    let default = if tls { 443 } else { 80 };
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']')?;
            host.parse::<std::net::Ipv6Addr>().ok()?;
            (host, port.strip_prefix(':').or_else(|| port.is_empty().then_some(""))?)
        }
        None => authority.split_once(':').unwrap_or((authority, "")),
    };
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    if host.is_empty() || !authority.starts_with('[') && !host.chars().all(is_name) {
        return None;
    }
    let port = match port {
        "" if authority.ends_with(':') => return None,
        "" => default,
        port => port.parse().ok().filter(|port| *port != 0)?,
    };
    Some((host.to_ascii_lowercase(), port))
}

/// The nearest URL that would do: scheme added; user info, query, fragment and blanks removed.
fn repaired(text: &str) -> Option<String> {
    let text: String = text.chars().filter(|c| !c.is_whitespace() && !c.is_control()).collect();
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => ("http", rest),
        Some((_, rest)) => ("https", rest),
        None => ("https", text.as_str()),
    };
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let authority = authority.rsplit('@').next().unwrap_or_default();
    let url = format!("{scheme}://{authority}{path}");
    let is_whole = host_and_port(authority, scheme == "https").is_some() && path.is_ascii();
    is_whole.then_some(url)
}

/// Whether a host is one of Azure OpenAI's.
pub(super) fn is_azure_host(host: &str) -> bool {
    AZURE_HOSTS.iter().any(|known| host.strip_suffix(known).is_some_and(|rest| rest.ends_with('.')))
}

/// Whether a host is this machine or on a private network, where plain HTTP is nobody else's business.
pub(super) fn is_private_host(host: &str) -> bool {
    match host.parse::<IpAddr>() {
        Ok(IpAddr::V4(ip)) => ip.is_loopback() || ip.is_private() || ip.is_link_local(),
        Ok(IpAddr::V6(ip)) => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
        Err(_) => !host.contains('.') || [".local", ".localhost", ".internal"].iter().any(|end| host.ends_with(end)),
    }
}

/// Reads an Azure base in any of its spellings.
pub(super) fn azure(url: Url) -> Result<AzureBase, Refusal> {
    let Url { mut base, query } = url;
    let whole = base.path.clone();
    let mut read = AzureBase { base: base.clone(), deployment: None, api_version: None, is_v1: false };
    if let Some((root, rest)) = whole.split_once("/openai/deployments/") {
        let deployment = rest.split('/').next().unwrap_or_default();
        read.deployment = (!deployment.is_empty()).then(|| percent_decode(deployment));
        read.api_version = query.as_deref().and_then(version_in);
        base.path = root.to_owned();
    } else if let Some((root, _)) =
        whole.split_once("/openai/v1/").or_else(|| Some((whole.strip_suffix("/openai/v1")?, "")))
    {
        read.is_v1 = true;
        base.path = root.to_owned();
    } else {
        let root =
            whole.strip_suffix("/openai/deployments").or_else(|| whole.strip_suffix("/openai")).unwrap_or(&whole);
        base.path = root.to_owned();
    }
    if let Some(query) = query
        && !query.split('&').all(|pair| pair.starts_with("api-version="))
    {
        let repaired = Some(show(&base));
        return Err(Refusal { message: "a base URL has no query; use `extra_query`".to_owned(), repaired });
    }
    base.path.truncate(base.path.trim_end_matches('/').len());
    Ok(AzureBase { base, ..read })
}

/// An OpenAI or compatible base.
#[derive(Debug, PartialEq)]
pub(super) struct OpenAiBase {
    /// The base, a pasted operation cut.
    pub(super) base: BaseUrl,
    /// The operation that was cut.
    pub(super) cut: Option<&'static str>,
    /// Whether there is no path, which few servers serve.
    pub(super) is_bare: bool,
}

/// Reads an OpenAI or compatible base: as given, but for a pasted operation and a bare api.openai.com.
pub(super) fn openai(url: Url) -> Result<OpenAiBase, Refusal> {
    let Url { mut base, query } = url;
    let cut = OPERATIONS.into_iter().find(|operation| base.path.ends_with(operation));
    if let Some(operation) = cut {
        base.path.truncate(base.path.len() - operation.len());
        base.path.truncate(base.path.trim_end_matches('/').len());
    }
    if query.is_some() {
        let repaired = Some(show(&base));
        return Err(Refusal { message: "a base URL has no query; use `extra_query`".to_owned(), repaired });
    }
    let is_openai = base.host == "api.openai.com";
    let is_bare = base.path.is_empty() && !is_openai;
    if base.path.is_empty() && is_openai {
        base.path = "/v1".to_owned();
    }
    Ok(OpenAiBase { base, cut, is_bare })
}

/// A base URL as text.
pub(super) fn show(base: &BaseUrl) -> String {
    format!("{}://{}{}", if base.tls { "https" } else { "http" }, base.authority(), base.path)
}

fn version_in(query: &str) -> Option<String> {
    query.split('&').find_map(|pair| pair.strip_prefix("api-version=")).filter(|v| !v.is_empty()).map(str::to_owned)
}

fn percent_decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let code = (bytes[at] == b'%').then(|| text.get(at + 1..at + 3)).flatten();
        match code.and_then(|code| u8::from_str_radix(code, 16).ok()) {
            Some(byte) => {
                decoded.push(byte);
                at += 3;
            }
            None => {
                decoded.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn azure_bases_in_every_spelling() {
        let table = [
            ("https://r.openai.azure.com", "https://r.openai.azure.com", None, None, false),
            ("https://r.openai.azure.com/", "https://r.openai.azure.com", None, None, false),
            ("https://R.openai.azure.com//", "https://r.openai.azure.com", None, None, false),
            (" https://r.openai.azure.com/openai ", "https://r.openai.azure.com", None, None, false),
            ("https://r.openai.azure.com/openai/", "https://r.openai.azure.com", None, None, false),
            ("https://r.openai.azure.com/openai/deployments", "https://r.openai.azure.com", None, None, false),
            ("https://r.openai.azure.com/openai/deployments/", "https://r.openai.azure.com", None, None, false),
            ("https://apim.example/llm", "https://apim.example/llm", None, None, false),
            ("https://apim.example:8443/llm/openai", "https://apim.example:8443/llm", None, None, false),
            ("https://r.openai.azure.com/openai/deployments/d", "https://r.openai.azure.com", Some("d"), None, false),
            (
                "https://r.openai.azure.com/openai/deployments/my%20d/chat/completions?api-version=2024-10-21",
                "https://r.openai.azure.com",
                Some("my d"),
                Some("2024-10-21"),
                false,
            ),
            ("https://r.openai.azure.com/openai/v1", "https://r.openai.azure.com", None, None, true),
            ("https://r.services.ai.azure.com/openai/v1/", "https://r.services.ai.azure.com", None, None, true),
            ("https://r.openai.azure.com/openai/v1/chat/completions", "https://r.openai.azure.com", None, None, true),
        ];
        for (written, root, deployment, version, is_v1) in table {
            let read = azure(parse(written).unwrap()).unwrap();
            assert_eq!(show(&read.base), root, "{written}");
            assert_eq!(read.deployment.as_deref(), deployment, "{written}");
            assert_eq!(read.api_version.as_deref(), version, "{written}");
            assert_eq!(read.is_v1, is_v1, "{written}");
        }
    }

    #[test]
    fn openai_bases_are_taken_as_given() {
        let table = [
            ("https://api.openai.com", "https://api.openai.com/v1", None, false),
            ("https://api.openai.com/v1/", "https://api.openai.com/v1", None, false),
            ("http://10.0.0.5:8000/v1", "http://10.0.0.5:8000/v1", None, false),
            ("http://h:8000", "http://h:8000", None, true),
            ("http://h:8000/v1/chat/completions", "http://h:8000/v1", Some("/chat/completions"), false),
            ("http://h:8000/v1/completions/", "http://h:8000/v1", Some("/completions"), false),
            ("http://[::1]:8000/x", "http://[::1]:8000/x", None, false),
            ("HTTP://LOCALHOST:80/v1", "http://localhost/v1", None, false),
            ("https://r.openai.azure.com/openai/v1/", "https://r.openai.azure.com/openai/v1", None, false),
        ];
        for (written, shown, cut, is_bare) in table {
            let read = openai(parse(written).unwrap()).unwrap();
            assert_eq!((show(&read.base).as_str(), read.cut, read.is_bare), (shown, cut, is_bare), "{written}");
        }
    }

    #[test]
    fn refusals_repair_and_never_repeat_user_info() {
        let table = [
            ("api.example.com/v1", Some("https://api.example.com/v1")),
            ("https://me:pw@api.example.com/v1", Some("https://api.example.com/v1")),
            ("https://api.example.com/v1#x", Some("https://api.example.com/v1")),
            ("https://api.exa mple.com/v1", Some("https://api.example.com/v1")),
            ("https://api.example.com/\nv1", Some("https://api.example.com/v1")),
            ("ftp://api.example.com/v1", Some("https://api.example.com/v1")),
            ("https://", None),
            ("https://h:0/v1", None),
            ("https://h:99999/v1", None),
            ("https://h:/v1", None),
            ("https://[::1/v1", None),
        ];
        for (written, repaired) in table {
            let refusal = parse(written).unwrap_err();
            assert_eq!(refusal.repaired.as_deref(), repaired, "{written}");
            assert!(!refusal.message.contains("pw"));
        }
        assert!(parse("https://h/a b").is_err() && parse("https://h/ü").is_err());
        assert_eq!(openai(parse("https://h/v1?x=1").unwrap()).unwrap_err().repaired.as_deref(), Some("https://h/v1"));
        assert!(azure(parse("https://r.openai.azure.com?key=1").unwrap()).is_err());
    }

    #[test]
    fn hosts_are_told_apart() {
        for host in
            ["r.openai.azure.com", "r.cognitiveservices.azure.com", "r.services.ai.azure.com", "r.openai.azure.us"]
        {
            assert!(is_azure_host(host), "{host}");
        }
        assert!(!is_azure_host("openai.azure.com.evil.example") && !is_azure_host("xopenai.azure.com"));
        for host in ["localhost", "127.0.0.1", "::1", "10.1.2.3", "vllm", "a.internal", "fd00::1", "192.168.1.1"] {
            assert!(is_private_host(host), "{host}");
        }
        assert!(!is_private_host("api.example.com") && !is_private_host("8.8.8.8"));
    }

    proptest::proptest! {
        #[test]
        fn nothing_panics(text in "(https?://)?[a-z@:/?#%\\[\\]ü.0-9-]{0,30}") {
            if let Ok(url) = parse(&text) {
                let _ = azure(Url { base: url.base.clone(), query: url.query.clone() });
                let _ = openai(url);
            }
        }
    }
}

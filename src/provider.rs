//! How a vendor is spoken to: URL, credentials and model name, worked out once per backend.
//!
//! A [`Target`] holds everything that does not change between two calls, so that a request clones handles and formats
//! nothing (spec/wire.md 2.1, 2.2).

mod azure;
mod openai;
pub mod token;

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use actix_web::http::Uri;
use actix_web::http::header::{AUTHORIZATION, HOST, HeaderName, HeaderValue};

use self::token::Token;
use crate::config::{Backend, Credential, Provider};

/// Operations whose URL is made beforehand.
const COMMON: [&str; 3] = ["chat/completions", "completions", "embeddings"];

/// One backend as the proxy sends to it.
pub struct Target {
    backend: Arc<Backend>,
    authority: String,
    common: Vec<Uri>,
    headers: Vec<(HeaderName, HeaderValue)>,
    /// Where its credential is a token that is renewed.
    token: Option<Arc<Token>>,
    /// Its id as a header value.
    shown: HeaderValue,
    /// The attempts header of a request that it served at once with a 200, which is nearly every one.
    shown_served: HeaderValue,
    /// It has refused the `stream_options` that we added: not again, until a reload makes a new target.
    refuses_usage: AtomicBool,
}

impl Target {
    /// Works out everything that stays the same.
    ///
    /// # Errors
    /// A sentence without secrets: a host, header or credential that HTTP cannot carry.
    pub fn new(backend: &Arc<Backend>) -> Result<Self, String> {
        Self::with_token(backend, None)
    }

    /// The same for a backend whose credential is a token that is renewed.
    ///
    /// # Errors
    /// As [`Target::new`].
    pub fn with_token(backend: &Arc<Backend>, token: Option<Arc<Token>>) -> Result<Self, String> {
        let mut target = Self {
            backend: Arc::clone(backend),
            authority: backend.base_url.endpoint(),
            common: Vec::new(),
            headers: headers(backend)?,
            token,
            shown: shown(backend.id.as_str()),
            shown_served: HeaderValue::try_from(trail_of_one(backend.id.as_str()))
                .map_err(|_| "the backend's name cannot stand in a header".to_owned())?,
            refuses_usage: AtomicBool::new(false),
        };
        if !backend.upstream_model.contains('*') {
            target.common =
                COMMON.iter().map(|operation| target.make_uri(operation, None)).collect::<Result<_, _>>()?;
        }
        Ok(target)
    }

    /// Where an operation such as `chat/completions` is asked for. The scheme is always `http`: TLS is the connection's.
    /// `matched` stands for the `*` in the model.
    ///
    /// # Errors
    /// A path that no URL can hold.
    pub fn uri(&self, operation: &str, matched: Option<&str>) -> Result<Uri, String> {
        let common = COMMON.iter().position(|common| *common == operation).and_then(|index| self.common.get(index));
        common.map_or_else(|| self.make_uri(operation, matched), |uri| Ok(uri.clone()))
    }

    /// The same with the client's query behind the backend's own, `api-version` left out: the backend has its own.
    ///
    /// # Errors
    /// A path or query that no URL can hold.
    pub fn uri_with(&self, operation: &str, matched: Option<&str>, query: &str) -> Result<Uri, String> {
        let passes = |pair: &&str| !pair.is_empty() && pair.split('=').next() != Some("api-version");
        let mut pairs = query.split('&').filter(passes).peekable();
        if pairs.peek().is_none() {
            return self.uri(operation, matched);
        }
        let mut text = self.make_uri(operation, matched)?.to_string();
        for pair in pairs {
            text.push(if text.contains('?') { '&' } else { '?' });
            text.push_str(pair);
        }
        text.parse().map_err(|error| format!("no URL can be made: {error}"))
    }

    /// The token that stands for its credential, if that is renewed.
    pub fn token(&self) -> Option<&Arc<Token>> {
        self.token.as_ref()
    }

    /// Host, credential, organization and extra headers. A token that is renewed is not among them.
    pub fn headers(&self) -> &[(HeaderName, HeaderValue)] {
        &self.headers
    }

    /// The backend's id as an answer header.
    pub fn shown(&self) -> &HeaderValue {
        &self.shown
    }

    /// The attempts header of a request that it served at once with a 200.
    pub fn shown_served(&self) -> &HeaderValue {
        &self.shown_served
    }

    /// The model it is asked for; `matched` stands for a `*` in it.
    pub fn model(&self, matched: Option<&str>) -> Cow<'_, str> {
        let model = &self.backend.upstream_model;
        match matched {
            Some(matched) if model.contains('*') => Cow::Owned(model.replacen('*', matched, 1)),
            Some(_) | None => Cow::Borrowed(model),
        }
    }

    /// Whether usage is asked for in streams whose client did not ask.
    pub fn injects_usage(&self) -> bool {
        self.backend.inject_usage && !self.refuses_usage.load(Ordering::Relaxed)
    }

    /// Notes that the provider does not know `stream_options`.
    pub fn note_usage_refused(&self) {
        self.refuses_usage.store(true, Ordering::Relaxed);
    }

    fn make_uri(&self, operation: &str, matched: Option<&str>) -> Result<Uri, String> {
        let backend = &self.backend;
        let mut path = match &backend.provider {
            Provider::OpenAi | Provider::Compatible(_) => openai::path(&backend.base_url.path, operation),
            Provider::AzureDated { api_version } => {
                azure::dated_path(&backend.base_url.path, &self.model(matched), operation, api_version)
            }
            Provider::AzureV1 => azure::v1_path(&backend.base_url.path, operation),
        };
        for (name, value) in &backend.extra_query {
            path.push(if path.contains('?') { '&' } else { '?' });
            path.push_str(&azure::percent_encode(name));
            path.push('=');
            path.push_str(&azure::percent_encode(value));
        }
        format!("http://{}{path}", self.authority).parse().map_err(|error| format!("no URL can be made: {error}"))
    }
}

/// `name=200` as [`crate::proxy::trail::Trail::header`] writes it.
fn trail_of_one(name: &str) -> String {
    let mut text = String::with_capacity(name.len() + 4);
    push_name(&mut text, name);
    text.push_str("=200");
    text
}

/// Writes a backend's name into a trail: bytes that a header or the trail's form cannot carry are percent-encoded.
pub fn push_name(text: &mut String, name: &str) {
    for byte in name.bytes() {
        if byte.is_ascii_graphic() && !matches!(byte, b';' | b'=' | b'%') {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
}

/// A name as a header value: bytes that a header cannot carry, and `%` itself, percent-encoded.
pub fn shown(name: &str) -> HeaderValue {
    let mut text = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_graphic() && byte != b'%' || byte == b' ' {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static("-"))
}

fn headers(backend: &Backend) -> Result<Vec<(HeaderName, HeaderValue)>, String> {
    let value = |text: &str, what: &str| {
        HeaderValue::from_str(text).map_err(|_| format!("{what} holds characters that a header cannot carry"))
    };
    let mut headers = vec![(HOST, value(&backend.base_url.authority(), "the host")?)];
    let credential = match &backend.credential {
        None | Some(Credential::Entra(_)) => None,
        Some(Credential::Bearer(key)) => Some((AUTHORIZATION, value(&format!("Bearer {}", key.expose()), "the key")?)),
        Some(Credential::ApiKeyHeader(key)) => {
            Some((HeaderName::from_static("api-key"), value(key.expose(), "the key")?))
        }
    };
    if let Some((name, mut key)) = credential {
        key.set_sensitive(true);
        headers.push((name, key));
    }
    if let Some(organization) = &backend.organization {
        headers.push((HeaderName::from_static("openai-organization"), value(organization, "the organization")?));
    }
    for (name, secret) in &backend.extra_headers {
        let name: HeaderName = name.parse().map_err(|_| format!("`{name}` is no header name"))?;
        let mut secret = value(secret.expose(), "an extra header")?;
        secret.set_sensitive(true);
        headers.push((name, secret));
    }
    Ok(headers)
}

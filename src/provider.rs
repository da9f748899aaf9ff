//! How a vendor is spoken to: URL, credentials and model name, worked out once per backend.
//!
//! A [`Target`] holds everything that does not change between two calls, so that a request clones handles and formats
//! nothing (spec/wire.md 2.1, 2.2).

mod azure;
mod openai;

use actix_web::http::Uri;
use actix_web::http::header::{AUTHORIZATION, HOST, HeaderName, HeaderValue};

use crate::config::{Backend, Credential, Provider};

/// Operations whose URL is made beforehand.
const COMMON: [&str; 3] = ["chat/completions", "completions", "embeddings"];

/// One backend as the proxy sends to it.
pub struct Target {
    backend: std::sync::Arc<Backend>,
    authority: String,
    common: Vec<Uri>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Target {
    /// Works out everything that stays the same.
    ///
    /// # Errors
    /// A sentence without secrets: a host, header or credential that HTTP cannot carry.
    pub fn new(backend: &std::sync::Arc<Backend>) -> Result<Self, String> {
        let mut target = Self {
            backend: std::sync::Arc::clone(backend),
            authority: backend.base_url.endpoint(),
            common: Vec::new(),
            headers: headers(backend)?,
        };
        target.common = COMMON.iter().map(|operation| target.make_uri(operation)).collect::<Result<_, _>>()?;
        Ok(target)
    }

    /// Where an operation such as `chat/completions` is asked for. The scheme is always `http`: TLS is the connection's.
    ///
    /// # Errors
    /// A path that no URL can hold.
    pub fn uri(&self, operation: &str) -> Result<Uri, String> {
        match COMMON.iter().position(|common| *common == operation) {
            Some(index) => Ok(self.common[index].clone()),
            None => self.make_uri(operation),
        }
    }

    /// Host, credential, organization and extra headers.
    pub fn headers(&self) -> &[(HeaderName, HeaderValue)] {
        &self.headers
    }

    /// The model it is asked for.
    pub fn model(&self) -> &str {
        &self.backend.upstream_model
    }

    fn make_uri(&self, operation: &str) -> Result<Uri, String> {
        let backend = &self.backend;
        let mut path = match &backend.provider {
            Provider::OpenAi | Provider::Compatible(_) => openai::path(&backend.base_url.path, operation),
            Provider::AzureDated { api_version } => {
                azure::dated_path(&backend.base_url.path, &backend.upstream_model, operation, api_version)
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

fn headers(backend: &Backend) -> Result<Vec<(HeaderName, HeaderValue)>, String> {
    let value = |text: &str, what: &str| {
        HeaderValue::from_str(text).map_err(|_| format!("{what} holds characters that a header cannot carry"))
    };
    let mut headers = vec![(HOST, value(&backend.base_url.authority(), "the host")?)];
    let credential = match &backend.credential {
        None => None,
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

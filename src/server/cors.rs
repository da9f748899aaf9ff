//! Cross-origin calls from browsers (Fetch standard, 3.3 "CORS protocol"; spec/wire.md 1.3): off unless `server.cors_origins`
//! names who may.
//!
//! Never with credentials: who calls brings a key in a header, and no page may use a cookie that another one got.

use actix_http::{HttpMessage as _, Request};
use actix_web::HttpResponse;
use actix_web::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, HeaderMap, HeaderValue, ORIGIN, VARY,
};
use actix_web::http::{Method, StatusCode};

use crate::proxy::reply_body::ReplyBody;

/// What a page may do.
const METHODS: HeaderValue = HeaderValue::from_static("GET, POST, DELETE, OPTIONS");

/// How long a browser may remember that, in seconds: as long as the most cautious of them does.
const MAX_AGE: HeaderValue = HeaderValue::from_static("600");

/// What a page may read of an answer's head, beside what it always may. By name: a `*` within a name is none to browsers.
const EXPOSED: HeaderValue = HeaderValue::from_static(
    "x-breakwater-request-id, x-breakwater-route, x-breakwater-backend, x-breakwater-attempts, x-breakwater-overhead-ms, \
     x-litellm-call-id, x-litellm-model-group, x-litellm-model-id, x-litellm-attempted-fallbacks, \
     x-litellm-attempted-retries, x-request-id, retry-after, retry-after-ms, x-should-retry, x-ratelimit-limit-requests, \
     x-ratelimit-limit-tokens, x-ratelimit-remaining-requests, x-ratelimit-remaining-tokens, x-ratelimit-reset-requests, \
     x-ratelimit-reset-tokens",
);

/// What an answer depends on, so that no cache hands one origin's answer to another.
const DEPENDS: HeaderValue = HeaderValue::from_static("origin");

/// What a preflight's answer depends on.
const PREFLIGHT_DEPENDS: HeaderValue = HeaderValue::from_static("origin, access-control-request-headers");

/// Who may call from a browser.
pub(super) struct Cors {
    /// None: everybody.
    origins: Option<Vec<String>>,
}

impl Cors {
    /// Of `server.cors_origins`; none if nobody may.
    pub(super) fn of(origins: &[String]) -> Option<Self> {
        let is_open = origins.iter().any(|origin| origin == "*");
        (!origins.is_empty()).then(|| Self { origins: (!is_open).then(|| origins.to_vec()) })
    }

    /// What `access-control-allow-origin` says to a request; none if it comes from no page, or from one that may not call.
    fn allowed(&self, request: &HeaderMap) -> Option<HeaderValue> {
        let origin = request.get(&ORIGIN)?;
        match &self.origins {
            None => Some(HeaderValue::from_static("*")),
            Some(origins) => {
                let is_known = origins.iter().any(|known| known.as_bytes() == origin.as_bytes());
                is_known.then(|| origin.clone())
            }
        }
    }

    /// The answer to a browser that asks beforehand; none if that is no such question, or nothing is allowed: then the
    /// request is served as any other, and refused by what it is.
    pub(super) fn preflight(&self, request: &Request) -> Option<HttpResponse<ReplyBody>> {
        let headers = request.headers();
        let asks = *request.method() == Method::OPTIONS && headers.contains_key(&ACCESS_CONTROL_REQUEST_METHOD);
        let origin = self.allowed(headers).filter(|_| asks)?;
        let mut response = HttpResponse::with_body(StatusCode::NO_CONTENT, ReplyBody::Plain(None));
        let out = response.headers_mut();
        out.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        out.insert(ACCESS_CONTROL_ALLOW_METHODS, METHODS);
        if let Some(wanted) = headers.get(&ACCESS_CONTROL_REQUEST_HEADERS) {
            out.insert(ACCESS_CONTROL_ALLOW_HEADERS, wanted.clone());
        }
        out.insert(ACCESS_CONTROL_MAX_AGE, MAX_AGE);
        out.insert(VARY, PREFLIGHT_DEPENDS);
        Some(response)
    }

    /// Lets a page read the answer to its request.
    pub(super) fn permit(&self, request: Option<HeaderValue>, out: &mut HeaderMap) {
        if self.origins.is_some() {
            out.append(VARY, DEPENDS);
        }
        if let Some(origin) = request {
            out.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            out.insert(ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
        }
    }

    /// What [`Cors::permit`] needs of a request, which is gone by then.
    pub(super) fn note(&self, request: &Request) -> Option<HeaderValue> {
        self.allowed(request.headers())
    }
}

//! Health, metrics and the list of models: what the gateway answers by itself.

use std::rc::Rc;
use std::sync::Arc;

use actix_http::{HttpMessage as _, Request};
use actix_web::HttpResponse;
use actix_web::http::header::{CONTENT_TYPE, HeaderValue};
use actix_web::http::{Method, StatusCode};
use bytes::Bytes;
use serde_json::{Value, json};

use super::api::json_reply;
use super::error::ErrorAnswer;
use super::headers;
use super::worker::{Shared, Worker};
use crate::backend::{Admission, Reason};
use crate::clock;
use crate::config::{ClientKey, Route};
use crate::error::Fault;
use crate::proxy::operation::Operation;
use crate::proxy::reply_body::ReplyBody;
use crate::proxy::{Reply, may_use};
use crate::router::Table;

/// Content type of the metrics.
const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The answer to a path that belongs to the gateway itself; none for all others.
pub(super) async fn serve(request: &Request, worker: &Rc<Worker>) -> Option<HttpResponse<ReplyBody>> {
    let path = request.path();
    let path = if path.len() > 1 { path.trim_end_matches('/') } else { path };
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
    let mut response = match path {
        "/livez" | "/health/liveliness" | "/health/liveness" if is_read => alive(),
        "/readyz" | "/health/readiness" if is_read => ready(&worker.shared),
        "/health" if is_read => match worker.keys(&worker.table()).check(request.headers()) {
            Ok(_) => health(worker),
            Err(fault) => refused(&fault),
        },
        "/metrics" if is_read => metrics(request, worker).await,
        "/livez" | "/readyz" | "/health" | "/metrics" | "/health/liveliness" | "/health/liveness"
        | "/health/readiness" => refused(&Fault::MethodNotAllowed("GET, HEAD")),
        _ => return None,
    };
    let id = headers::request_id(request.headers());
    headers::stamp_id(response.headers_mut(), &id);
    if worker.shared.is_draining() {
        response.head_mut().set_connection_type(actix_web::http::ConnectionType::Close);
    }
    Some(response)
}

fn refused(fault: &Fault) -> HttpResponse<ReplyBody> {
    let answer = ErrorAnswer::of_fault(fault);
    let mut response = HttpResponse::with_body(answer.status, ReplyBody::Plain(Some(answer.body)));
    *response.headers_mut() = answer.headers;
    response
}

fn alive() -> HttpResponse<ReplyBody> {
    json(StatusCode::OK, &json!("I'm alive!"))
}

fn ready(shared: &Shared) -> HttpResponse<ReplyBody> {
    if shared.is_draining() {
        return json(StatusCode::SERVICE_UNAVAILABLE, &json!({"status": "draining"}));
    }
    json(StatusCode::OK, &json!({"status": "ready", "version": env!("CARGO_PKG_VERSION")}))
}

/// Every backend and whether it could serve now. It calls nobody.
fn health(worker: &Worker) -> HttpResponse<ReplyBody> {
    let now = clock::now();
    let (mut healthy, mut unhealthy) = (Vec::new(), Vec::new());
    for backend in worker.table().backends() {
        let reason = match backend.read(0, now).admission {
            Admission::Free | Admission::Probe(_) if !backend.status().is_healthy() => Some(Reason::Unhealthy.name()),
            Admission::Free | Admission::Probe(_) => None,
            Admission::Denied(rejection) => Some(rejection.reason.name()),
        };
        let shown = json!({
            "model_id": backend.id().as_str(),
            "provider": backend.config().provider.name(),
            "circuit": backend.status().state(now).name(),
            "in_flight": backend.status().in_flight(),
            "reason": reason,
        });
        if reason.is_none() { healthy.push(shown) } else { unhealthy.push(shown) }
    }
    let shown = json!({
        "healthy_count": healthy.len(),
        "unhealthy_count": unhealthy.len(),
        "healthy_endpoints": healthy,
        "unhealthy_endpoints": unhealthy,
    });
    json(StatusCode::OK, &shown)
}

/// A JSON answer that nobody counts.
fn json(status: StatusCode, shown: &Value) -> HttpResponse<ReplyBody> {
    plain(status, "application/json", Bytes::from(shown.to_string()))
}

fn plain(status: StatusCode, content_type: &'static str, body: Bytes) -> HttpResponse<ReplyBody> {
    let mut response = HttpResponse::with_body(status, ReplyBody::Plain(Some(body)));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// Encoded on a blocking thread, never on a worker.
async fn metrics(request: &Request, worker: &Rc<Worker>) -> HttpResponse<ReplyBody> {
    let table = worker.table();
    let server = &table.config.server;
    if !server.metrics_enabled {
        return refused(&Fault::UnknownUrl("GET /metrics".to_owned()));
    }
    if server.metrics_require_auth
        && let Err(fault) = worker.keys(&table).check(request.headers())
    {
        return refused(&fault);
    }
    let (shared, asked) = (Arc::clone(&worker.shared), clock::now());
    let rendered = actix_web::web::block(move || shared.scrapes.render(&shared, &table, asked));
    match rendered.await {
        Ok(text) => plain(StatusCode::OK, METRICS_TYPE, text),
        Err(_) => HttpResponse::with_body(StatusCode::INTERNAL_SERVER_ERROR, ReplyBody::Plain(None)),
    }
}

/// `GET /v1/models` and `GET /v1/models/{id}`: the routes that the key may use.
pub(super) fn models(table: &Table, operation: &Operation, key: Option<&ClientKey>, created: u64) -> Reply {
    let may_use = |route: &Route| key.is_none_or(|key| may_use(key, route.name.as_str()));
    let shown = |route: &Route| json!({"id": route.name.as_str(), "object": "model", "created": created, "owned_by": "breakwater"});
    if let Some(id) = operation.models_id() {
        let known = table.find(&id).filter(|route| may_use(&route.config));
        return match known {
            Some(route) => json_reply(StatusCode::OK, &shown(&route.config)),
            None => Reply::Fault(Fault::UnknownModel(id.chars().take(128).flat_map(char::escape_debug).collect())),
        };
    }
    let mut listed: Vec<&Route> =
        table.routes().map(|route| &*route.config).filter(|route| !route.hidden && may_use(route)).collect();
    listed.sort_by(|a, b| a.name.cmp(&b.name));
    let data: Vec<Value> = listed.into_iter().map(shown).collect();
    json_reply(StatusCode::OK, &json!({"object": "list", "data": data}))
}

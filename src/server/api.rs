//! `/v1/…`, the same without `/v1`, and the Azure-style paths → proxy.

use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use actix_http::{HttpMessage as _, Request};
use actix_web::HttpResponse;
use actix_web::dev::Payload;
use actix_web::error::PayloadError;
use actix_web::http::header::{ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use actix_web::http::{Method, StatusCode};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use futures_util::future::{Either, poll_immediate, select};

use super::auth::Keys;
use super::error::{ErrorAnswer, say_waits};
use super::headers;
use super::key_limits::Over;
use super::worker::Worker;
use crate::clock;
use crate::config::ClientKey;
use crate::error::Fault;
use crate::proxy::ending::{Waits, Words};
use crate::proxy::hold::{Held, Hold};
use crate::proxy::operation::{Group, Operation};
use crate::proxy::record::Record;
use crate::proxy::reply_body::ReplyBody;
use crate::proxy::{Call, Head, Reply, WholeReply, draining, forward};
use crate::router::Table;
use crate::telemetry::labels::{AuthFailure, Label as _, RequestOutcome};
use crate::telemetry::trace_context::TraceContext;

/// Longest gap while a request's body arrives (spec/wire.md 1.3).
const BODY_GAP: Duration = Duration::from_secs(30);

/// The head of a stream of which nothing is known yet.
const EVENT_STREAM: [(HeaderName, &str); 3] = [
    (CONTENT_TYPE, "text/event-stream; charset=utf-8"),
    (CACHE_CONTROL, "no-cache"),
    (HeaderName::from_static("x-accel-buffering"), "no"),
];

/// Room made for a body of unknown length at first.
const FIRST_ROOM: usize = 64 << 10;

/// Serves one request that is no health check and no scrape.
pub(super) async fn serve(request: &Request, payload: &mut Payload, worker: &Rc<Worker>) -> HttpResponse<ReplyBody> {
    let id = headers::request_id(request.headers());
    // In a box of its own: it goes from hand to hand, in the end into the body.
    let mut record = Box::new(Record::new(id, clock::now(), &worker.shared.unrouted, worker.log(), worker.begin()));
    record.is_client_retry = headers::is_client_retry(request.headers());
    record.method = request.method().clone();
    record.trace = request.headers().get(&forward::TRACEPARENT).and_then(|value| TraceContext::parse(value.as_bytes()));
    if let Some(tracer) = &worker.shared.tracer {
        record.spans = tracer.begin(record.trace, &mut worker.random.borrow_mut());
        record.trace = record.spans.as_ref().map(|spans| spans.context).or(record.trace);
    }
    match walk(request, payload, worker, &mut record).await {
        Ok(reply) => respond(worker, record, reply, request),
        // In a box, like all that is rare: every request would carry its room.
        Err(call) => Box::pin(hold(worker, record, call, request)).await,
    }
}

/// Everything up to the answer. A call whose head may leave before it is given back instead.
async fn walk(
    request: &Request,
    payload: &mut Payload,
    worker: &Rc<Worker>,
    record: &mut Record,
) -> Result<Reply, Box<OwnCall>> {
    let table = worker.table();
    let keys = worker.keys(&table);
    record.client = keys.nobody().cloned();
    record.config = Some(Rc::clone(&keys.hash));
    if table.config.logging.client_address {
        record.peer = request.head().peer_addr.map(|address| address.ip());
    }
    let call = match enter(request, payload, worker, &table, &keys, record).await {
        Ok(call) => call,
        Err(reply) => return Ok(reply),
    };
    if table.holds_heads && call.operation.must_stream() {
        return Err(Box::new(OwnCall::of(call)));
    }
    Ok(worker.proxy.serve(record, &call).await)
}

/// Lets a request in: a path that is served, a key that may call, a body that is there. What is served without a backend, and
/// what is refused, is the error.
async fn enter<'a>(
    request: &'a Request,
    payload: &mut Payload,
    worker: &Worker,
    table: &Table,
    keys: &'a Keys,
    record: &mut Record,
) -> Result<Call<'a>, Reply> {
    let config = &table.config;
    let operation = Operation::of(request.method().as_str(), request.path()).map_err(Reply::Fault)?;
    record.endpoint = operation.endpoint;
    if worker.shared.is_cut() {
        return Err(draining(RequestOutcome::Rejected));
    }
    if config.server.max_in_flight.is_some_and(|most| most.get() < worker.shared.live()) {
        return Err(overloaded());
    }
    let key = keys.check(request.headers()).map_err(Reply::Fault)?;
    if let Some(known) = key {
        record.client = Some(Arc::clone(known.handles));
        record.hold(known.limit.try_begin().map_err(|over| key_over(&known.key.name, &over))?);
    }
    let key = key.map(|known| known.key);
    if operation.group == Group::Models {
        return Err(super::status::models(table, &operation, key, worker.shared.started_at));
    }
    let Received { body, has_waited } =
        read_body(payload, request.headers(), config.server.max_request_bytes).await.map_err(Reply::Fault)?;
    record.request_bytes = body.len();
    if has_waited {
        record.receive(clock::now());
    }
    let query = request.uri().query().unwrap_or_default();
    Ok(Call { method: request.method(), operation, query, headers: request.headers(), body, key, hold: None })
}

/// A call that outlives its request's handler: the answer's body goes on with it.
struct OwnCall {
    method: Method,
    operation: Operation,
    query: String,
    headers: HeaderMap,
    body: Bytes,
    key: Option<ClientKey>,
}

impl OwnCall {
    fn of(call: Call<'_>) -> Self {
        let mut headers = call.headers.clone();
        // A head that has left names no coding.
        headers.remove(ACCEPT_ENCODING);
        Self {
            method: call.method.clone(),
            operation: call.operation,
            query: call.query.to_owned(),
            headers,
            body: call.body,
            key: call.key.cloned(),
        }
    }
}

/// Serves a call whose head may leave before its answer is known: then the body carries it on.
async fn hold(
    worker: &Rc<Worker>,
    mut record: Box<Record>,
    call: Box<OwnCall>,
    request: &Request,
) -> HttpResponse<ReplyBody> {
    let hold = Rc::new(Hold::default());
    record.head_hold = Some(Rc::clone(&hold));
    let id = record.shown_id.clone();
    let (serving, heard) = (Rc::clone(worker), Rc::clone(&hold));
    let flight = Box::pin(async move {
        let OwnCall { method, operation, query, headers, body, key } = *call;
        let hold = Some(&*heard);
        let key = key.as_ref();
        let call = Call { method: &method, operation, query: &query, headers: &headers, body, key, hold };
        let reply = serving.proxy.serve(&mut record, &call).await;
        (record, reply)
    });
    match select(flight, pin!(hold.due())).await {
        Either::Left(((record, reply), _)) => respond(worker, record, reply, request),
        Either::Right(((), flight)) => {
            let mut response = HttpResponse::new(StatusCode::OK);
            let headers = response.headers_mut();
            for (name, value) in EVENT_STREAM {
                headers.insert(name, HeaderValue::from_static(value));
            }
            headers::stamp_held(headers, id, hold.leave(), worker.table().config.server.response_headers);
            response.set_body(ReplyBody::Held(Box::new(Held::new(&hold, flight))))
        }
    }
}

fn key_over(name: &str, over: &Over) -> Reply {
    let words = Words {
        status: 429,
        kind: "rate_limit_error",
        code: "client_rate_limit_exceeded",
        message: format!("the key `{name}` has used its {} {}", over.limit, over.what),
    };
    let waits = Waits { retry_after: Some(over.wait), should_not_retry: false };
    Reply::Own(words, waits, RequestOutcome::Rejected)
}

fn overloaded() -> Reply {
    let words = Words {
        status: 503,
        kind: "service_unavailable_error",
        code: "gateway_overloaded",
        message: "the gateway has as many requests in flight as it is allowed".to_owned(),
    };
    let waits = Waits { retry_after: Some(Duration::from_secs(1)), should_not_retry: false };
    Reply::Own(words, waits, RequestOutcome::Rejected)
}

/// A request's body.
pub(super) struct Received {
    pub(super) body: Bytes,
    /// Whether it had not come with its head.
    has_waited: bool,
}

/// Reads a body of at most `most` bytes. One that came in one piece is not copied.
pub(super) async fn read_body(payload: &mut Payload, headers: &HeaderMap, most: usize) -> Result<Received, Fault> {
    let mut has_waited = false;
    let body = read_pieces(payload, headers, most, &mut has_waited).await?;
    Ok(Received { body, has_waited })
}

async fn read_pieces(
    payload: &mut Payload,
    headers: &HeaderMap,
    most: usize,
    has_waited: &mut bool,
) -> Result<Bytes, Fault> {
    let declared = forward::content_length(headers);
    if declared.is_some_and(|length| most < length) {
        return Err(Fault::TooLarge(most));
    }
    let Some(first) = next_piece(payload, has_waited).await? else { return Ok(Bytes::new()) };
    if most < first.len() {
        return Err(Fault::TooLarge(most));
    }
    let Some(second) = next_piece(payload, has_waited).await? else { return Ok(first) };
    let mut body = BytesMut::with_capacity(declared.unwrap_or(FIRST_ROOM).max(first.len() + second.len()));
    body.extend_from_slice(&first);
    body.extend_from_slice(&second);
    while let Some(piece) = next_piece(payload, has_waited).await? {
        if most < body.len() + piece.len() {
            return Err(Fault::TooLarge(most));
        }
        body.extend_from_slice(&piece);
    }
    Ok(body.freeze())
}

async fn next_piece(payload: &mut Payload, has_waited: &mut bool) -> Result<Option<Bytes>, Fault> {
    // A request is served from its head on, and its body mostly lies behind it in the same buffer: one turn later it is here,
    // and needs no timer.
    let mut here = poll_immediate(payload.next()).await;
    if here.is_none() {
        a_turn().await;
        here = poll_immediate(payload.next()).await;
    }
    let piece = match here {
        Some(piece) => Ok(piece),
        None => {
            *has_waited = true;
            tokio::time::timeout(BODY_GAP, payload.next()).await
        }
    };
    match piece {
        Err(_) => Err(Fault::BodyTimeout(BODY_GAP)),
        Ok(None) => Ok(None),
        Ok(Some(Ok(piece))) => Ok(Some(piece)),
        Ok(Some(Err(PayloadError::Overflow))) => Err(Fault::TooLarge(0)),
        Ok(Some(Err(_))) => Err(Fault::ClientGone),
    }
}

/// Lets the connection go on once. It is woken for the body's sake anyway.
async fn a_turn() {
    let mut is_over = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut is_over, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Turns a reply into the answer, with the headers that say who served.
fn respond(worker: &Worker, mut record: Box<Record>, reply: Reply, request: &Request) -> HttpResponse<ReplyBody> {
    let table = worker.table();
    let shape = table.config.server.response_headers;
    let mut closes = worker.shared.is_draining();
    let mut response = HttpResponse::new(StatusCode::OK);
    let headers = response.headers_mut();
    let (status, body) = match reply {
        Reply::Whole(whole) => {
            let WholeReply { status, head, body, waits, outcome } = *whole;
            head.fill(headers);
            if let Some(waits) = waits {
                say_waits(headers, waits);
            }
            (status, Rest::Whole(body, outcome))
        }
        Reply::Relay(status, own, relay) => {
            *headers = own;
            (status, Rest::Relay(relay))
        }
        Reply::Fault(fault) => {
            count_auth_failure(worker, &fault);
            let answer = ErrorAnswer::of_fault(&fault);
            closes |= answer.closes;
            record.error = Some((answer.kind, answer.code));
            let outcome =
                if fault == Fault::ClientGone { RequestOutcome::ClientClosed } else { RequestOutcome::Rejected };
            own(headers, &record, answer, outcome)
        }
        Reply::Own(words, waits, outcome) => {
            closes |= words.code == "gateway_draining";
            record.error.get_or_insert((words.kind, words.code));
            own(headers, &record, ErrorAnswer::of_words(&words, waits), outcome)
        }
    };
    let overhead = record.head(status.as_u16(), clock::now());
    headers::stamp(headers, &record, overhead, shape);
    let body = match body {
        Rest::Whole(bytes, outcome) => ReplyBody::whole(bytes, record, outcome),
        Rest::Relay(mut relay) => {
            relay.attach(record);
            ReplyBody::Relay(relay)
        }
    };
    *response.status_mut() = status;
    if closes && request.head().version < actix_web::http::Version::HTTP_2 {
        response.head_mut().set_connection_type(actix_web::http::ConnectionType::Close);
    }
    response.set_body(body)
}

/// What a body is made of once the headers are known.
enum Rest {
    Whole(Bytes, RequestOutcome),
    Relay(Box<crate::proxy::relay::Relay>),
}

fn own(headers: &mut HeaderMap, record: &Record, answer: ErrorAnswer, outcome: RequestOutcome) -> (StatusCode, Rest) {
    *headers = answer.headers;
    headers.insert(headers::X_REQUEST_ID, record.shown_id.clone());
    (answer.status, Rest::Whole(answer.body, outcome))
}

fn count_auth_failure(worker: &Worker, fault: &Fault) {
    let failure = match fault {
        Fault::MissingKey => AuthFailure::Missing,
        Fault::InvalidKey => AuthFailure::Invalid,
        Fault::RouteNotAllowed(_) => AuthFailure::RouteNotAllowed,
        Fault::InvalidJson { .. }
        | Fault::InvalidMultipart(_)
        | Fault::MissingModel
        | Fault::InvalidModel
        | Fault::UnknownModel(_)
        | Fault::UnknownHeader { .. }
        | Fault::UnknownResource(_)
        | Fault::UnknownUrl(_)
        | Fault::Unsupported(_)
        | Fault::MethodNotAllowed(_)
        | Fault::BodyTimeout(_)
        | Fault::TooLarge(_)
        | Fault::ContentEncoding(_)
        | Fault::ClientGone => return,
    };
    worker.shared.auth_failures[failure.index()].inc();
}

/// A JSON answer of our own, made at once.
pub(super) fn json_reply(status: StatusCode, body: &serde_json::Value) -> Reply {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let body = Bytes::from(body.to_string());
    let (head, outcome) = (Head::Own(headers), RequestOutcome::Success);
    Reply::Whole(Box::new(WholeReply { status, head, body, waits: None, outcome }))
}

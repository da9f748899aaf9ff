//! `/admin/…` on a listener of its own: what operators may see and do (spec/wire.md 1.1).
//!
//! It has one worker, reads cells and tells actors what an operator wants; no client's request ever passes here. Without a
//! token it is open, which only loopback may be, and then not for a browser that some web page sends here.

mod command;
mod document;
mod refusal;
pub mod reloads;

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::str::FromStr as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use actix_http::{HttpMessage as _, Request};
use actix_service::{fn_factory_with_config, fn_service};
use actix_web::dev::{AppConfig, Payload, ServerHandle};
use actix_web::http::header::{CONTENT_TYPE, HOST, HeaderMap, ORIGIN};
use actix_web::http::uri::Authority;
use actix_web::http::{Method, StatusCode};
use actix_web::{HttpResponse, HttpServer};
use bytes::Bytes;
use serde_json::{Value, json};
use tracing::{info, warn};

use self::command::Circuit;
use self::document::{Facts, Moment};
use self::refusal::Refusal;
use self::reloads::Levers;
use super::worker::Shared;
use super::{api, auth};
use crate::backend::Backend;
use crate::error::Fault;
use crate::proxy::operation::decode_percent;
use crate::router::Table;
use crate::telemetry::events;

/// Operators ask seldom, and answers take microseconds.
const WORKERS: usize = 1;

/// Largest body: what is sent here are words, not prompts.
const MAX_BODY_BYTES: usize = 16 << 10;

/// At the end a running call may take this long.
const LAST_CALLS: Duration = Duration::from_secs(1);

/// The running listener for operators.
pub(super) struct Admin {
    handle: ServerHandle,
}

/// What one answer is made of.
type Answer = Result<(StatusCode, Value), Refusal>;

impl Admin {
    /// Starts serving on a listener.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn start(listener: TcpListener, shared: Arc<Shared>, levers: Levers) -> std::io::Result<Self> {
        let address = listener.local_addr()?;
        let desk =
            Arc::new(Desk { shared, levers, is_loopback: address.ip().is_loopback(), revision: Revision::default() });
        let server = HttpServer::new(move || {
            let desk = Arc::clone(&desk);
            fn_factory_with_config(move |_: AppConfig| {
                let desk = Arc::clone(&desk);
                let serve = move |request: Request| handle(request, Arc::clone(&desk));
                std::future::ready(Ok::<_, Infallible>(fn_service(serve)))
            })
        })
        .workers(WORKERS)
        .client_request_timeout(super::HEAD_LIMIT)
        .disable_signals()
        .shutdown_timeout(LAST_CALLS.as_secs())
        .listen(listener)?
        .run();
        let handle = server.handle();
        actix_rt::spawn(server);
        info!(%address, "admin listening");
        Ok(Self { handle })
    }

    /// Stops after the calls under way.
    pub(super) async fn stop(&self) {
        self.handle.stop(true).await;
    }
}

/// What the listener's worker serves from.
struct Desk {
    shared: Arc<Shared>,
    levers: Levers,
    is_loopback: bool,
    revision: Revision,
}

/// Counts the states in which the status document was seen.
#[derive(Default)]
struct Revision(Mutex<(u64, u64)>);

impl Revision {
    /// The number of a state: another one than the last has the next number.
    fn of(&self, essence: u64) -> u64 {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if last.1 == 0 || last.0 != essence {
            *last = (essence, last.1 + 1);
        }
        last.1
    }
}

async fn handle(mut request: Request, desk: Arc<Desk>) -> Result<HttpResponse, Infallible> {
    let payload = request.take_payload();
    let answered = match desk.admit(&request) {
        Ok(()) => desk.serve(&request, payload).await,
        Err(refusal) => Err(refusal),
    };
    Ok(match answered {
        Ok((StatusCode::NOT_MODIFIED, _)) => HttpResponse::new(StatusCode::NOT_MODIFIED),
        Ok((status, shown)) => {
            let body = Bytes::from(shown.to_string());
            HttpResponse::build(status).insert_header((CONTENT_TYPE, "application/json")).body(body)
        }
        Err(refusal) => refusal.response(),
    })
}

impl Desk {
    /// Whether a request may be here at all.
    fn admit(&self, request: &Request) -> Result<(), Refusal> {
        let table = self.shared.current.get();
        match &table.config.admin.token {
            Some(token) => auth::check_token(token, request.headers()).map_err(Refusal::Fault),
            // A reload may have taken away the token that the address was opened with.
            None if !self.is_loopback => Err(Refusal::NoToken),
            None if is_from_a_page(request.headers()) => Err(Refusal::FromAPage),
            None => Ok(()),
        }
    }

    async fn serve(&self, request: &Request, mut payload: Payload) -> Answer {
        let path = request.path().trim_end_matches('/');
        let (method, rest) = (request.method(), path.strip_prefix("/admin/").unwrap_or_default());
        let known = match rest {
            "status" => Known::Status,
            "reload" => Known::Reload,
            "config/rollback" => Known::Rollback,
            "log-level" => Known::LogLevel,
            rest => Known::of_backend(rest).ok_or_else(|| unknown(request))?,
        };
        if *method != known.method() {
            return Err(Refusal::Fault(Fault::MethodNotAllowed(known.allowed())));
        }
        let body = api::read_body(&mut payload, request.headers(), MAX_BODY_BYTES).await.map_err(Refusal::Fault)?.body;
        let asker = Asker { peer: request.peer_addr() };
        match known {
            Known::Status => self.status(request),
            Known::Reload => self.reload(request, &asker).await,
            Known::Rollback => self.roll_back(&asker).await,
            Known::LogLevel => log_level(&body, &asker),
            Known::Circuit(id) => self.circuit(&id, &body, &asker).await,
            Known::Drain(id) => self.set_draining(&id, true, &asker),
            Known::Enable(id) => self.set_draining(&id, false, &asker),
        }
    }

    /// The document, or 304 where it would tell whoever says `?since=REVISION` nothing but other counts.
    fn status(&self, request: &Request) -> Answer {
        let wrong = || Refusal::field("since", "the query may say `since=` with the `revision` of an earlier answer");
        let since = match request.uri().query() {
            None | Some("") => None,
            Some(query) => {
                let revision = query.strip_prefix("since=").and_then(|revision| revision.parse::<u64>().ok());
                Some(revision.ok_or_else(wrong)?)
            }
        };
        let table = self.shared.current.get();
        let (shared, reloads, moment) = (&self.shared, &self.levers.reloads, Moment::now());
        let mut document = document::whole(&Facts { table: &table, shared, reloads, moment });
        let revision = self.revision.of(document::essence(&document));
        if since == Some(revision) {
            return Ok((StatusCode::NOT_MODIFIED, Value::Null));
        }
        document["revision"] = revision.into();
        Ok((StatusCode::OK, document))
    }

    async fn circuit(&self, id: &str, body: &Bytes, asker: &Asker) -> Answer {
        let table = self.shared.current.get();
        let backend = find(&table, id)?;
        let Circuit { word, command } = Circuit::read(body)?;
        if !backend.carry_out(command).await {
            return Err(Refusal::ActorGone(id.to_owned()));
        }
        asker.tell(id, word);
        Ok(self.shown(backend))
    }

    fn set_draining(&self, id: &str, draining: bool, asker: &Asker) -> Answer {
        let table = self.shared.current.get();
        let backend = find(&table, id)?;
        backend.status().set_draining(draining);
        asker.tell(id, if draining { "drain" } else { "enable" });
        Ok(self.shown(backend))
    }

    /// A backend as it now stands.
    fn shown(&self, backend: &Backend) -> (StatusCode, Value) {
        (StatusCode::OK, document::backend(backend, None, &self.shared, &Moment::now()))
    }

    async fn reload(&self, request: &Request, asker: &Asker) -> Answer {
        let dry_run = match request.uri().query() {
            None | Some("" | "dry_run=false") => false,
            Some("dry_run=true") => true,
            Some(_) => return Err(Refusal::field("dry_run", "the query may say `dry_run=true` and nothing else")),
        };
        asker.tell_reload(dry_run);
        let report = if dry_run { self.levers.check().await } else { self.levers.reload().await };
        let Some(report) = report else {
            return Ok((StatusCode::ACCEPTED, json!({"result": "started"})));
        };
        let status = if report.is_rejected() { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK };
        Ok((status, report.shown()))
    }

    async fn roll_back(&self, asker: &Asker) -> Answer {
        asker.tell_rollback();
        let answered = self.levers.roll_back().await.map_err(|_| Refusal::NoAnswer)?;
        let report = answered.ok_or(Refusal::NothingEarlier)?;
        let status = if report.is_rejected() { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK };
        Ok((status, report.shown()))
    }
}

/// Who asked, for the log.
struct Asker {
    peer: Option<SocketAddr>,
}

impl Asker {
    fn shown(&self) -> String {
        self.peer.map_or_else(|| "unknown".to_owned(), |peer| peer.to_string())
    }

    fn tell(&self, backend: &str, action: &str) {
        warn!(backend, action, peer = self.shown(), "operator command");
    }

    fn tell_reload(&self, dry_run: bool) {
        info!(action = "reload", dry_run, peer = self.shown(), "operator command");
    }

    fn tell_rollback(&self) {
        warn!(action = "rollback", peer = self.shown(), "operator command");
    }

    fn tell_level(&self, level: &str) {
        warn!(action = "log_level", level, peer = self.shown(), "operator command");
    }
}

/// A path of this listener; backends' names decoded.
enum Known {
    Status,
    Reload,
    Rollback,
    LogLevel,
    Circuit(String),
    Drain(String),
    Enable(String),
}

impl Known {
    /// `backends/{name}/{what}`. A name may hold slashes, plain or encoded.
    fn of_backend(rest: &str) -> Option<Self> {
        let (name, what) = rest.strip_prefix("backends/")?.rsplit_once('/')?;
        let name = decode_percent(name).into_owned();
        match what {
            "circuit" => Some(Self::Circuit(name)),
            "drain" => Some(Self::Drain(name)),
            "enable" => Some(Self::Enable(name)),
            _ => None,
        }
    }

    fn method(&self) -> Method {
        match self {
            Self::Status => Method::GET,
            Self::Reload | Self::Rollback | Self::LogLevel | Self::Circuit(_) | Self::Drain(_) | Self::Enable(_) => {
                Method::POST
            }
        }
    }

    fn allowed(&self) -> &'static str {
        if self.method() == Method::GET { "GET" } else { "POST" }
    }
}

fn unknown(request: &Request) -> Refusal {
    let shown: String = request.path().chars().take(128).flat_map(char::escape_debug).collect();
    Refusal::Fault(Fault::UnknownUrl(format!("{} {shown}", request.method())))
}

fn find<'a>(table: &'a Table, id: &str) -> Result<&'a Arc<Backend>, Refusal> {
    table.backends().find(|backend| backend.id().as_str() == id).ok_or_else(|| Refusal::unknown_backend(id))
}

fn log_level(body: &Bytes, asker: &Asker) -> Answer {
    let level = command::level(body)?;
    events::set_level(&level).map_err(|problem| Refusal::field("level", problem))?;
    asker.tell_level(&level);
    Ok((StatusCode::OK, json!({"level": level})))
}

/// Whether a browser sends this for some web page: by a script of another origin, or under a public name that was pointed
/// here. An open listener must not obey either. Names without a dot are nobody's to point.
fn is_from_a_page(headers: &HeaderMap) -> bool {
    let is_ours = |host: &str| {
        let Ok(authority) = Authority::from_str(host) else { return false };
        let name = authority.host().trim_matches(['[', ']']);
        !name.contains('.') || name.parse::<IpAddr>().is_ok()
    };
    let host = headers.get(HOST).map(|host| host.to_str().unwrap_or_default());
    headers.contains_key(ORIGIN) || host.is_some_and(|host| !is_ours(host))
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::{HeaderName, HeaderValue};

    use super::*;

    #[test]
    fn pages_are_told_from_tools() {
        let table: [(&[(HeaderName, &str)], bool); 9] = [
            (&[], false),
            (&[(HOST, "127.0.0.1:4001")], false),
            (&[(HOST, "localhost:4001")], false),
            (&[(HOST, "[::1]:4001")], false),
            (&[(HOST, "gateway")], false),
            (&[(HOST, "rebound.example:4001")], true),
            (&[(HOST, "a b")], true),
            (&[(HOST, "localhost"), (ORIGIN, "https://page.example")], true),
            (&[(HOST, "localhost"), (ORIGIN, "null")], true),
        ];
        for (headers, expected) in table {
            let headers = headers.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value)));
            let map: HeaderMap = headers.collect();
            assert_eq!(is_from_a_page(&map), expected, "{map:?}");
        }
    }

    #[test]
    fn names_of_backends_may_hold_slashes() {
        let name = |rest: &str| match Known::of_backend(rest) {
            Some(Known::Circuit(name)) => format!("circuit {name}"),
            Some(Known::Drain(name)) => format!("drain {name}"),
            Some(Known::Enable(name)) => format!("enable {name}"),
            Some(Known::Status | Known::Reload | Known::Rollback | Known::LogLevel) | None => "-".to_owned(),
        };
        let table = [
            ("backends/a/circuit", "circuit a"),
            ("backends/openai/gpt-4o/drain", "drain openai/gpt-4o"),
            ("backends/openai%2Fgpt%204o/enable", "enable openai/gpt 4o"),
            ("backends/a/explode", "-"),
            ("backends/circuit", "-"),
        ];
        for (rest, expected) in table {
            assert_eq!(name(rest), expected, "{rest}");
        }
    }
}

//! The front door: one application per worker, the listener, graceful shutdown; and the operators' door beside it.

pub mod admin;
mod api;
mod auth;
mod berth;
mod cors;
mod error;
mod exporter;
mod headers;
mod key_limits;
mod scrape;
mod status;
mod worker;

use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix_http::Request;
use actix_service::{fn_factory_with_config, fn_service};
use actix_web::dev::{AppConfig, ServerHandle};
use actix_web::{HttpResponse, HttpServer};
use socket2::{Domain, Socket, Type};
use tokio::net::TcpStream;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_rustls::server::TlsStream;
use tracing::{info, warn};

use self::admin::Admin;
use self::admin::reloads::{Depth, Levers};
use self::berth::Berths;
use self::worker::{Shared, Worker};
use crate::proxy::Proxy;
use crate::proxy::reply_body::ReplyBody;
use crate::router::Router;
use crate::supervisor::Supervisor;
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::event_loop;
use crate::telemetry::labels::{ActorKind, Label as _};

/// How long a request's head may take to arrive (spec/wire.md 1.3).
const HEAD_LIMIT: Duration = Duration::from_secs(10);

/// How long a client's TLS handshake may take: as long as a head, and for the same reason.
const HANDSHAKE_LIMIT: Duration = HEAD_LIMIT;

/// Connections that wait to be accepted: a burst of clients between two turns of the accepting thread.
const BACKLOG: i32 = 1_024;

/// How long a client may take nothing of what was sent to it: then the kernel ends its connection, and with it the upstream
/// call. Longer than any pause of a reader that still lives, as short as the idle limit of upstreams.
const CLIENT_STALL: Duration = Duration::from_secs(60);

/// After the drain limit the last words of cut answers may take this long to leave.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Longest wait for the logs at the end.
const LOG_FLUSH: Duration = Duration::from_secs(1);

/// A running front door.
pub struct Server {
    handle: ServerHandle,
    shared: Arc<Shared>,
    address: SocketAddr,
    admin: Option<Admin>,
    /// Heard from before the first event says that it listens: who reads that may already stop it.
    signals: Signals,
    ended: tokio::task::JoinHandle<std::io::Result<()>>,
}

/// What ends a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    /// All requests were answered.
    Drained,
    /// The limit was over.
    Limit,
    /// A second signal came.
    Again,
}

impl Server {
    /// Takes the address, before anything else is started.
    ///
    /// # Errors
    /// The system's, if the address cannot be had.
    pub fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        // A gateway that is started again must not wait for its predecessor's last connections.
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(socket.into())
    }

    /// Starts the workers on a listener. Must run on the control arbiter.
    ///
    /// # Errors
    /// The system's.
    pub fn start(supervisor: &Supervisor, listener: TcpListener, log: Option<AccessLog>) -> std::io::Result<Self> {
        let signals = Signals::new()?;
        let metrics = Arc::clone(supervisor.metrics());
        let table = supervisor.current().get();
        let tracer = exporter::start(&table.config, &metrics).map_err(std::io::Error::other)?;
        let shared = Shared::new(Arc::clone(&metrics), supervisor.current().clone(), log, tracer);
        let settings = &table.config.server;
        let workers = settings.workers.map_or_else(cores, |workers| workers.get() as usize);
        let drain_limit = settings.shutdown_delay + settings.shutdown_timeout + LAST_WORDS;
        actix_rt::spawn(event_loop::watch(metrics.event_loop_lag.child(&["control"])));
        let (factory_shared, factory_supervisor) = (Arc::clone(&shared), supervisor.clone());
        let tls = settings.tls.is_some().then(|| supervisor.certificate().server_config());
        let tls = tls.transpose().map_err(std::io::Error::other)?;
        let scheme = if tls.is_some() { "https" } else { "http" };
        let server = HttpServer::new(move || {
            let shared = Arc::clone(&factory_shared);
            let worker = make_worker(shared, &factory_supervisor);
            // The front door has one handler for all paths: a service as it is spares each request the application's router.
            let berths = Berths::new(move |request: Request| handle(request, Rc::clone(&worker)));
            fn_factory_with_config(move |_: AppConfig| {
                let berths = Rc::clone(&berths);
                let serve = move |request: Request| berths.moor(request);
                std::future::ready(Ok::<_, Infallible>(fn_service(serve)))
            })
        })
        .workers(workers)
        .keep_alive(settings.keep_alive)
        .client_request_timeout(HEAD_LIMIT)
        .tls_handshake_timeout(HANDSHAKE_LIMIT)
        .h1_allow_half_closed(false)
        .tcp_nodelay(true)
        .disable_signals()
        .shutdown_timeout(drain_limit.as_secs() + 1)
        .on_connect(|connection, _| {
            let under_tls = || connection.downcast_ref::<TlsStream<TcpStream>>().map(|stream| stream.get_ref().0);
            if let Some(socket) = connection.downcast_ref::<TcpStream>().or_else(under_tls) {
                limit_stalls(socket);
            }
        });
        let server = match tls {
            Some(tls) => server.listen_rustls_0_23(listener, tls)?,
            None => server.listen_auto_h2c(listener)?,
        };
        let address = server.addrs().first().copied().ok_or(std::io::ErrorKind::AddrNotAvailable)?;
        let server = server.run();
        let handle = server.handle();
        let ended = actix_rt::spawn(server);
        let hash = table.config.hash.as_str();
        info!(%address, scheme, workers, version = env!("CARGO_PKG_VERSION"), config = hash, "listening");
        Ok(Self { handle, shared, address, admin: None, signals, ended })
    }

    /// Opens the operators' door as well. It stays open until all requests are answered. Must run on the control arbiter.
    ///
    /// # Errors
    /// The system's.
    pub fn open_admin(&mut self, listener: TcpListener, levers: Levers) -> std::io::Result<()> {
        self.admin = Some(Admin::start(listener, Arc::clone(&self.shared), levers)?);
        Ok(())
    }

    /// Shows with the metrics how many finds of the file's watch wait.
    pub fn watched(&self, depth: Depth) {
        // Once per process.
        let _ = self.shared.watcher_depth.set(depth);
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until SIGTERM or SIGINT, then drains. A second signal ends at once.
    pub async fn run(mut self) {
        self.signals.next().await;
        self.stop().await;
    }

    #[expect(clippy::cognitive_complexity, reason = "tracing's macros count as branches")]
    async fn stop(self) {
        let Self { handle, shared, admin, mut signals, .. } = self;
        let table = shared.current.get();
        let settings = &table.config.server;
        shared.drain();
        info!(in_flight = shared.live(), "draining");
        let mut end = Stop::Drained;
        if !settings.shutdown_delay.is_zero() {
            tokio::select! {
                () = tokio::time::sleep(settings.shutdown_delay) => {}
                () = signals.next() => end = Stop::Again,
            }
        }
        if end == Stop::Drained {
            end = finish(&handle, &shared, settings.shutdown_timeout, &mut signals).await;
        }
        match end {
            Stop::Drained => info!("drained"),
            Stop::Limit | Stop::Again => warn!(in_flight = shared.live(), "stopped before all was answered"),
        }
        if let Some(admin) = &admin {
            admin.stop().await;
        }
        if let Some(log) = &shared.log {
            log.flush(LOG_FLUSH);
        }
        if let Some(tracer) = &shared.tracer {
            tracer.flush(LOG_FLUSH).await;
        }
        info!("stopped");
    }

    /// Stops at once, for tests and the demo's end.
    pub async fn abort(self) {
        self.handle.stop(false).await;
        let _ = self.ended.await;
    }
}

/// Takes no new connections and waits for what is under way; leftovers are told and cut.
async fn finish(handle: &ServerHandle, shared: &Shared, limit: Duration, signals: &mut Signals) -> Stop {
    let mut closing = std::pin::pin!(handle.stop(true));
    tokio::select! {
        () = &mut closing => return Stop::Drained,
        () = tokio::time::sleep(limit) => {}
        () = signals.next() => return Stop::Again,
    }
    shared.cut();
    tokio::select! {
        () = &mut closing => {}
        () = tokio::time::sleep(LAST_WORDS) => {}
        () = signals.next() => return Stop::Again,
    }
    Stop::Limit
}

/// SIGTERM and SIGINT.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get)
}

/// Runs once per worker, on that worker's arbiter.
fn make_worker(shared: Arc<Shared>, supervisor: &Supervisor) -> Rc<Worker> {
    let restarts = shared.metrics.actor_restarts.child(&[ActorKind::Router.name()]);
    let restarted = Arc::new(move || {
        tracing::error!(actor = ActorKind::Router.name(), "actor restarted");
        restarts.inc();
    });
    let router = Router::start(supervisor.current().clone(), restarted);
    supervisor.join(router.remote());
    let pins = Arc::clone(&shared.pins);
    Worker::new(shared, |drain_limit| Proxy::new(router, pins, drain_limit))
}

async fn handle(request: Request, worker: Rc<Worker>) -> Result<HttpResponse<ReplyBody>, Infallible> {
    match &worker.cors {
        None => Ok(serve(request, &worker).await),
        Some(cors) => {
            if let Some(answer) = cors.preflight(&request) {
                return Ok(answer);
            }
            let origin = cors.note(&request);
            let mut response = serve(request, &worker).await;
            cors.permit(origin, response.headers_mut());
            Ok(response)
        }
    }
}

async fn serve(mut request: Request, worker: &Rc<Worker>) -> HttpResponse<ReplyBody> {
    if let Some(response) = status::serve(&request, worker).await {
        return response;
    }
    let mut payload = request.take_payload();
    api::serve(&request, &mut payload, worker).await
}

/// A client that takes nothing for [`CLIENT_STALL`] must not hold its upstream call.
fn limit_stalls(socket: &TcpStream) {
    #[cfg(target_os = "linux")]
    if socket2::SockRef::from(socket).set_tcp_user_timeout(Some(CLIENT_STALL)).is_err() {
        tracing::debug!("the system takes no TCP_USER_TIMEOUT");
    }
    #[cfg(not(target_os = "linux"))]
    let _ = socket;
}

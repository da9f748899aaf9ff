//! The supervisor's shell on the control arbiter: knows every backend and every router, and no rule.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, AsyncContext as _, Context, Handler, Message, ResponseFuture};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tracing::error;

use super::departed::Departed;
use super::gone::Gone;
use super::observer::Edges;
use super::prepare::{Prepared, PreparedBackend, prepare};
use super::scopes::Registry;
use super::trust::Trust;
use crate::backend::{Backend, Observer as _};
use crate::certificate::Certificate;
use crate::clock::{self, Instant};
use crate::config::{BackendId, Config, Credential};
use crate::health::{Checkers, Subject};
use crate::provider::token::Token;
use crate::router::table::Ready;
use crate::router::{CurrentTable, RouterRemote, Table};
use crate::telemetry::Metrics;
use crate::telemetry::labels::{ActorKind, Label as _};
use crate::tokens::{self, Renewers};

/// Between looks at whether every actor is alive: an actor that panicked is replaced within this.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Longest pause before an actor that keeps panicking is re-created.
const MAX_PAUSE: Duration = Duration::from_secs(30);

/// A backend that ran this long without a panic starts counting from nothing again.
const FORGIVEN_AFTER: Duration = Duration::from_secs(60);

/// Who reloads is kept waiting this long for a worker that does not come to it; the worker takes the table all the same.
const TAKEN_LIMIT: Duration = Duration::from_secs(1);

/// A backend and how often its actor had to be replaced of late.
struct Kept {
    backend: Arc<Backend>,
    panics: u32,
    /// Not replaced before then.
    not_before: Instant,
    revived_at: Instant,
}

impl Kept {
    fn new(backend: Arc<Backend>) -> Self {
        Self { backend, panics: 0, not_before: Instant::ZERO, revived_at: Instant::ZERO }
    }
}

/// Owner of every backend's handle.
pub(super) struct SupervisorActor {
    backends: HashMap<BackendId, Kept>,
    gone: Gone,
    departed: Departed,
    registry: Registry,
    routers: Vec<RouterRemote>,
    current: CurrentTable,
    certificate: Certificate,
    metrics: Arc<Metrics>,
    observer: Arc<Edges>,
    checkers: Checkers,
    renewers: Renewers,
    trust: Trust,
}

impl SupervisorActor {
    pub(super) fn new(config: &Arc<Config>, prepared: Prepared, metrics: Arc<Metrics>, observer: Arc<Edges>) -> Self {
        let certificate = Certificate::default();
        certificate.renew(prepared.certificate);
        let (mut registry, mut gone) = (Registry::new(), Gone::default());
        let earlier = Earlier { backends: HashMap::new(), gone: &mut gone, table: None };
        let built = build(config, prepared.backends, earlier, &mut registry, &metrics, &observer);
        let (backends, current) = (built.kept, CurrentTable::new(built.table));
        let mut checkers = Checkers::default();
        checkers.follow(built.subjects);
        let mut renewers = Renewers::default();
        renewers.follow(users(&backends, prepared.tokens));
        let departed = Departed::default();
        let routers = Vec::new();
        Self {
            backends,
            gone,
            departed,
            registry,
            routers,
            current,
            certificate,
            metrics,
            observer,
            checkers,
            renewers,
            trust: prepared.trust,
        }
    }

    pub(super) fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    pub(super) fn current(&self) -> &CurrentTable {
        &self.current
    }

    /// Replaces panicked actors and ends those of drained backends.
    fn look(&mut self) {
        let now = clock::now();
        for kept in self.backends.values_mut() {
            if kept.backend.is_alive() || now < kept.not_before {
                continue;
            }
            if FORGIVEN_AFTER <= now.since(kept.revived_at) {
                kept.panics = 0;
            }
            kept.backend.revive();
            let pause = Duration::from_secs(1 << kept.panics.min(5)).min(MAX_PAUSE);
            (kept.panics, kept.revived_at, kept.not_before) = (kept.panics + 1, now, now.plus(pause));
            let (actor, name) = (ActorKind::Backend.name(), kept.backend.id().as_str());
            error!(actor, name, "actor restarted");
            self.metrics.actor_restarts.child(&[actor]).inc();
        }
        self.checkers.look();
        self.renewers.look();
        self.gone.look(now);
        let gone = self.departed.due(now, |backend| self.gone.is_busy(backend));
        if !gone.is_empty() {
            self.metrics.forget(&gone);
        }
    }

    /// Puts a configuration in force; what comes back ends when every worker routes by it.
    fn apply(&mut self, config: &Arc<Config>) -> Result<impl Future<Output = ()> + use<>, String> {
        let prepared = prepare(config, &self.renewers, &self.trust)?;
        // Nothing from here on can fail.
        let known = std::mem::take(&mut self.backends);
        let before: Vec<Arc<Backend>> = known.values().map(|kept| Arc::clone(&kept.backend)).collect();
        let table = self.current.get();
        let (earlier_config, earlier_table) = (Arc::clone(&table.config), Arc::downgrade(&table));
        let earlier = Earlier { backends: known, gone: &mut self.gone, table: Some(table) };
        let Built { table, kept, subjects } =
            build(config, prepared.backends, earlier, &mut self.registry, &self.metrics, &self.observer);
        self.backends = kept;
        self.certificate.renew(prepared.certificate);
        self.trust = prepared.trust;
        self.checkers.follow(subjects);
        self.renewers.follow(users(&self.backends, prepared.tokens));
        self.current.set(Arc::clone(&table));
        let (taken, mut all_taken) = mpsc::channel(1);
        for router in &self.routers {
            router.swap(&table, taken.clone());
        }
        let now = clock::now();
        self.departed.reload(&earlier_config, config, now);
        let goes_on = |backend: &Backend| {
            let known = self.backends.get(backend.id());
            let is_it = |kept: &Kept| kept.backend.is_same_cell(backend);
            // Under its own name in most cases; a renamed one is looked for.
            known.is_some_and(is_it) || self.backends.values().any(is_it)
        };
        let left: Vec<Arc<Backend>> = before.into_iter().filter(|backend| !goes_on(backend)).collect();
        self.gone.leave(left, earlier_table, now);
        drop(taken);
        Ok(async move {
            let _: Option<Infallible> = all_taken.recv().await;
        })
    }
}

/// What was in force before.
struct Earlier<'a> {
    backends: HashMap<BackendId, Kept>,
    gone: &'a mut Gone,
    table: Option<Arc<Table>>,
}

impl Earlier<'_> {
    /// Whom each wanted backend goes on as: state follows the upstream, not the name. By name first, so that of several
    /// with the same upstream each keeps its own (spec/resilience.md 10.2).
    fn matched(&mut self, config: &Config) -> HashMap<BackendId, Kept> {
        let mut matched = HashMap::new();
        let wanted = || config.backends.values();
        for wanted in wanted() {
            if self.backends.get(&wanted.id).is_some_and(|known| known.backend.config().identity == wanted.identity) {
                matched.extend(self.backends.remove(&wanted.id).map(|kept| (wanted.id.clone(), kept)));
            }
        }
        for wanted in wanted() {
            if matched.contains_key(&wanted.id) {
                continue;
            }
            let same = |known: &Kept| known.backend.config().identity == wanted.identity;
            let mut renamed: Vec<_> =
                self.backends.iter().filter(|(_, known)| same(known)).map(|(id, _)| id.clone()).collect();
            renamed.sort_unstable();
            let renamed = renamed.first().and_then(|id| self.backends.remove(id));
            let kept = renamed.or_else(|| self.gone.take(wanted).map(Kept::new));
            matched.extend(kept.map(|kept| (wanted.id.clone(), kept)));
        }
        matched
    }
}

/// Every token with the backends that use it.
fn users(
    backends: &HashMap<BackendId, Kept>,
    tokens: Vec<(Arc<Token>, Option<Arc<rustls::ClientConfig>>)>,
) -> Vec<tokens::Subject> {
    let uses = |backend: &Backend, token: &Token| match &backend.config().credential {
        Some(Credential::Entra(identity)) => **identity == *token.identity(),
        Some(Credential::Bearer(_) | Credential::ApiKeyHeader(_)) | None => false,
    };
    let subject = |(token, tls): (Arc<Token>, _)| {
        let users = backends.values().map(|kept| &kept.backend).filter(|backend| uses(backend, &token));
        tokens::Subject { backends: users.map(Arc::clone).collect(), token, tls }
    };
    tokens.into_iter().map(subject).collect()
}

/// What a configuration becomes.
struct Built {
    table: Arc<Table>,
    kept: HashMap<BackendId, Kept>,
    /// Every backend, for those that check.
    subjects: Vec<Subject>,
}

/// Starts what is new, reconfigures what goes on under the same identity, and builds the table over both.
fn build(
    config: &Arc<Config>,
    prepared: HashMap<BackendId, PreparedBackend>,
    mut earlier: Earlier<'_>,
    registry: &mut Registry,
    metrics: &Arc<Metrics>,
    observer: &Arc<Edges>,
) -> Built {
    let mut matched = earlier.matched(config);
    let earlier_config = earlier.table.as_ref().map(|table| &table.config);
    let mut kept = HashMap::new();
    let mut subjects = Vec::new();
    let mut ready = HashMap::new();
    for (id, PreparedBackend { target, tls }) in prepared {
        let Some(wanted) = config.backends.get(&id) else { continue };
        let known = matched.remove(&id);
        let scopes = registry.scopes(wanted);
        // Its series stand already, and their labels are part of its identity. One that comes back may have lost them.
        let is_counted = earlier_config
            .is_some_and(|config| config.backends.get(&id).is_some_and(|earlier| earlier.identity == wanted.identity));
        let mine = match known {
            Some(mut known) => {
                if *known.backend.config() != *wanted {
                    known.backend = known.backend.reconfigured(Arc::clone(wanted), scopes);
                }
                known
            }
            None => Kept::new(Backend::start(Arc::clone(wanted), scopes, Arc::clone(observer) as Arc<_>)),
        };
        if !is_counted {
            let (model, host) = (wanted.upstream_model.as_str(), wanted.base_url.host.as_str());
            metrics.backend_info.child(&[id.as_str(), wanted.provider.name(), model, host]).set(1);
            metrics.backend(id.as_str());
            metrics.endpoint(&wanted.base_url.endpoint());
        }
        let backend = || Arc::clone(&mine.backend);
        subjects.push(Subject { backend: backend(), target: Arc::clone(&target), tls: tls.clone() });
        ready.insert(id.clone(), Ready { backend: backend(), target, tls });
        kept.insert(id, mine);
    }
    for (endpoint, change) in registry.settle(config) {
        observer.observe_endpoint(&endpoint, &change);
    }
    metrics.config_info.child(&[&config.hash]).set(1);
    metrics.config_info.retain(|values| values == [&*config.hash]);
    // One line per backend, or nothing could be joined with it.
    metrics.backend_info.retain(|values| {
        let known = config.backends.get(values[0].as_str());
        known.is_none_or(|known| values[1..] == [known.provider.name(), &known.upstream_model, &known.base_url.host])
    });
    metrics.config_last_successful.child(&[]).set(1);
    metrics.config_last_success_at.child(&[]).set(clock::unix_now().as_secs() as i64);
    Built { table: Table::build(config, &ready, metrics, earlier.table.as_deref()), kept, subjects }
}

impl Actor for SupervisorActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.run_interval(LOOK_EVERY, |actor, _| actor.look());
    }
}

/// Another configuration is to be in force. The answer comes when it is, for every request from then on: who hears of a
/// reload and asks is served by what was loaded.
#[derive(Message)]
#[rtype(result = "Result<(), String>")]
pub(super) struct Apply(pub(super) Arc<Config>);

impl Handler<Apply> for SupervisorActor {
    type Result = ResponseFuture<Result<(), String>>;

    fn handle(&mut self, Apply(config): Apply, _: &mut Context<Self>) -> Self::Result {
        let applied = self.apply(&config);
        Box::pin(async {
            // Too late is no error: it is in force, but for one worker that is busy.
            let _ = timeout(TAKEN_LIMIT, applied?).await;
            Ok(())
        })
    }
}

/// A worker's router has started.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Join(pub(super) RouterRemote);

impl Handler<Join> for SupervisorActor {
    type Result = ();

    fn handle(&mut self, Join(router): Join, _: &mut Context<Self>) {
        // A reload may have come between the router's start and this message.
        router.swap(&self.current.get(), mpsc::channel(1).0);
        self.routers.push(router);
    }
}

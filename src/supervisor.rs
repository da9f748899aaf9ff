//! The life of all actors: started from a configuration, reconfigured, drained, re-created after a panic.
//!
//! [`Supervisor`] is the handle; its actor on the control arbiter knows every address and no rule. What can fail is done
//! before anything becomes visible: URLs, credentials and certificates are worked out for the whole configuration first.

mod actor;
mod departed;
mod gone;
mod observer;
mod prepare;
pub mod probation;
mod scopes;
#[cfg(test)]
mod tests;
mod trust;

use std::sync::Arc;

use actix::{Actor as _, Addr};

use self::actor::{Apply, Join, SupervisorActor};
use self::observer::Edges;
use self::prepare::prepare;
use self::trust::Trust;
use crate::certificate::Certificate;
use crate::config::Config;
use crate::router::{CurrentTable, RouterRemote};
use crate::telemetry::Metrics;
use crate::tokens::Renewers;

/// The handle of the supervisor.
#[derive(Clone)]
pub struct Supervisor {
    addr: Addr<SupervisorActor>,
    current: CurrentTable,
    certificate: Certificate,
    metrics: Arc<Metrics>,
}

impl Supervisor {
    /// Starts every backend of a configuration. Must run on the control arbiter.
    ///
    /// # Errors
    /// A sentence without secrets that names the backend: a URL, header, credential or certificate that cannot be used.
    pub fn start(config: &Arc<Config>, metrics: Arc<Metrics>) -> Result<Self, String> {
        let prepared = prepare(config, &Renewers::default(), &Trust::default())?;
        let observer = Arc::new(Edges::new(Arc::clone(&metrics)));
        let actor = SupervisorActor::new(config, prepared, Arc::clone(&metrics), observer);
        let (current, certificate) = (actor.current().clone(), actor.certificate().clone());
        Ok(Self { addr: actor.start(), current, certificate, metrics })
    }

    /// Whether a configuration could be put in force. Reads certificates from the disk.
    ///
    /// # Errors
    /// As [`Supervisor::start`].
    pub fn check(config: &Config) -> Result<(), String> {
        prepare(config, &Renewers::default(), &Trust::default()).map(drop)
    }

    /// The listener's certificate, where the configuration names one.
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// The table in force.
    pub fn current(&self) -> &CurrentTable {
        &self.current
    }

    /// The metrics of the process.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// A worker's router has started: it hears of every new table.
    pub fn join(&self, router: RouterRemote) {
        // One per worker.
        self.addr.do_send(Join(router));
    }

    /// Puts another configuration in force, whole or not at all. Waits for it: not for the request path.
    ///
    /// # Errors
    /// As [`Supervisor::start`]; then everything is as it was.
    pub async fn apply(&self, config: &Arc<Config>) -> Result<(), String> {
        #[expect(clippy::disallowed_methods, reason = "the room's face, once per reload")]
        let answer = self.addr.send(Apply(Arc::clone(config))).await;
        answer.unwrap_or_else(|_| Err("the supervisor is gone".to_owned()))
    }
}

//! Active checks of backends, off by default (spec/resilience.md 5): one checker per backend that wants checks.
//!
//! [`Checkers`] are the supervisor's, on the control arbiter. A checker is a plain task: it waits for its turn, asks the
//! backend, and tells the backend's actor what it saw. What that means is the actor's to decide; without a configured check
//! there is no task, no client and no connection.

mod check;
mod checker;
mod listing;
mod schedule;

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use tracing::warn;

use self::checker::Checker;
use crate::backend::{Backend, Outbox};
use crate::config::{BackendId, HealthCheckKind};
use crate::provider::Target;
use crate::proxy::upstream::Upstream;

/// A backend that may be checked, and how it is spoken to.
pub struct Subject {
    /// The running backend.
    pub backend: Arc<Backend>,
    /// How it is spoken to.
    pub target: Arc<Target>,
    /// TLS roots, if it speaks TLS.
    pub tls: Option<Arc<rustls::ClientConfig>>,
}

/// What the checkers of one configuration share.
struct Tools {
    upstream: Upstream,
    outbox: Arc<Outbox>,
}

/// A subject and what it is checked with; replaced by a reload.
struct Errand {
    subject: Subject,
    tools: Rc<Tools>,
}

/// The checkers of all backends. Dropped, they end.
#[derive(Default)]
pub struct Checkers {
    running: HashMap<BackendId, Checker>,
}

impl Checkers {
    /// Checks these backends from now on, and no others. A checker whose settings are the same goes on; one whose settings
    /// changed is ended, and one other takes its place. Must run on the control arbiter.
    pub fn follow(&mut self, subjects: Vec<Subject>) {
        let mut before = std::mem::take(&mut self.running);
        let mut shared: Option<Rc<Tools>> = None;
        for subject in subjects {
            if !is_checked(&subject) {
                continue;
            }
            let id = subject.backend.id().clone();
            let tools =
                shared.get_or_insert_with(|| Rc::new(Tools { upstream: Upstream::new(), outbox: Outbox::new() }));
            let errand = Errand { subject, tools: Rc::clone(tools) };
            let checker = match before.remove(&id) {
                Some(checker) if checker.goes_on_with(&errand.subject) => checker.with(errand),
                earlier => Checker::start(errand, earlier),
            };
            self.running.insert(id, checker);
        }
    }

    /// Starts a checker that panicked anew. Its settings are those it had.
    pub fn look(&mut self) {
        for checker in self.running.values_mut().filter(|checker| checker.is_over()) {
            checker.restart();
        }
    }
}

/// Whether it is to be checked, and can be.
fn is_checked(subject: &Subject) -> bool {
    let config = subject.backend.config();
    match config.policy.health_check.kind {
        HealthCheckKind::Off => false,
        HealthCheckKind::Connect | HealthCheckKind::Models => true,
        HealthCheckKind::Completion => {
            let names_a_model = !config.upstream_model.contains('*');
            if !names_a_model {
                // Asked for the pattern itself, the provider would say that there is no such model, and block it.
                warn!(
                    backend = config.id.as_str(),
                    "no health check: a completion needs a model, and this is a pattern"
                );
            }
            names_a_model
        }
    }
}

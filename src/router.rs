//! Which backend next: `plan` finds a request's candidates, `next` chooses one and takes leave for it.
//!
//! [`Router`] is a worker's handle on its own router actor, on its own thread. Nothing here waits for another thread.

mod actor;
pub mod picker;
mod plan;
mod selection;
pub mod table;

use std::sync::{Arc, Mutex, PoisonError};

use actix::{Actor as _, Addr};

use self::actor::{MakePlan, Next, RouterActor, Swap};
pub use self::plan::{Chosen, Exhausted, Need, Plan};
pub use self::table::{Candidate, RouteEntry, Table};
use crate::backend::Outbox;

/// The table in force, for workers that start and for what only reads.
#[derive(Clone)]
pub struct CurrentTable(Arc<Mutex<Arc<Table>>>);

impl CurrentTable {
    /// Holds a first table.
    pub fn new(table: Arc<Table>) -> Self {
        Self(Arc::new(Mutex::new(table)))
    }

    /// The table now in force.
    pub fn get(&self) -> Arc<Table> {
        Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts another in force.
    pub fn set(&self, table: Arc<Table>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = table;
    }
}

/// A worker's way to its router actor.
#[derive(Clone)]
pub struct Router {
    addr: Arc<Mutex<Addr<RouterActor>>>,
    table: CurrentTable,
    outbox: Arc<Outbox>,
    restarted: Arc<dyn Fn() + Send + Sync>,
}

impl Router {
    /// Starts a router actor on the calling thread's arbiter, and the task that empties its outbox. `restarted` is called
    /// when a panicked actor was replaced.
    pub fn start(table: CurrentTable, restarted: Arc<dyn Fn() + Send + Sync>) -> Self {
        let outbox = Outbox::new();
        actix_rt::spawn(Arc::clone(&outbox).run());
        let addr = RouterActor::new(table.get(), Arc::clone(&outbox)).start();
        Self { addr: Arc::new(Mutex::new(addr)), table, outbox, restarted }
    }

    /// A plan for a model name; none if no route has it.
    pub async fn plan(&self, model: &str, need: Need) -> Option<Plan> {
        let message = || MakePlan { model: model.to_owned(), need };
        #[expect(clippy::disallowed_methods, reason = "the room's face: the ask stays on this thread")]
        match self.addr().send(message()).await {
            Ok(plan) => plan,
            Err(_) => {
                self.revive();
                #[expect(clippy::disallowed_methods, reason = "the same, to the actor's successor")]
                self.addr().send(message()).await.ok().flatten()
            }
        }
    }

    /// The next backend of a plan, with leave to call it. `None` if the router itself failed, which loses the plan.
    pub async fn next(&self, plan: Plan) -> Option<(Plan, Result<Chosen, Exhausted>)> {
        #[expect(clippy::disallowed_methods, reason = "the room's face: the ask stays on this thread")]
        let answer = self.addr().send(Next(plan)).await;
        if answer.is_err() {
            self.revive();
        }
        answer.ok()
    }

    /// Tells the actor about a new table.
    pub fn swap(&self, table: &Arc<Table>) {
        // One per reload.
        self.addr().do_send(Swap(Arc::clone(table)));
    }

    /// Sends what the outbox holds, as at shutdown.
    pub fn flush(&self) {
        self.outbox.flush();
    }

    /// Replaces the actor if it panicked. On this thread, which is the worker's.
    fn revive(&self) {
        let mut addr = self.addr.lock().unwrap_or_else(PoisonError::into_inner);
        if !addr.connected() {
            *addr = RouterActor::new(self.table.get(), Arc::clone(&self.outbox)).start();
            (self.restarted)();
        }
    }

    fn addr(&self) -> Addr<RouterActor> {
        self.addr.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

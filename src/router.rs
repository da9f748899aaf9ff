//! Which backend next: `plan` finds a request's candidates, `next` chooses one and takes leave for it.
//!
//! [`Router`] is a worker's handle on its own router actor, on its own thread. Nothing here waits for another thread.

mod actor;
mod desk;
pub mod hedge_budget;
pub mod picker;
mod plan;
mod queue;
pub mod retry_budget;
mod selection;
pub mod table;
#[cfg(test)]
pub(crate) mod tests;
mod window;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};

use actix::{Actor as _, Addr};

use self::actor::{Beside, LeastBad, Next, RouterActor, Swap, Taken};
pub use self::desk::Desk;
pub use self::plan::{Chosen, Exhausted, Need, Plan};
pub use self::queue::{Queues, Ticket};
pub use self::table::{Candidate, RouteEntry, Table};
use crate::backend::{Outbox, Waiting};

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

/// The table as one worker sees it: its router actor writes it at each swap, the worker reads it without a lock.
type View = Rc<RefCell<Arc<Table>>>;

/// A worker's way to its router actor. Not `Send`: it stays on the worker's thread.
#[derive(Clone)]
pub struct Router {
    addr: Rc<RefCell<Addr<RouterActor>>>,
    remote: RouterRemote,
    view: View,
    current: CurrentTable,
    outbox: Arc<Outbox>,
    queues: Rc<Queues>,
    waiting: Waiting,
    restarted: Arc<dyn Fn() + Send + Sync>,
}

/// What the supervisor needs of a worker's router: a way to tell it about a new table.
#[derive(Clone)]
pub struct RouterRemote(Arc<Mutex<Addr<RouterActor>>>);

impl RouterRemote {
    /// Tells the actor about a new table, which drops `taken` when it routes by it.
    pub fn swap(&self, table: &Arc<Table>, taken: Taken) {
        // One per reload.
        self.0.lock().unwrap_or_else(PoisonError::into_inner).do_send(Swap(Arc::clone(table), taken));
    }
}

impl Router {
    /// Starts a router actor on the calling thread's arbiter, and the task that empties its outbox. `restarted` is called
    /// when a panicked actor was replaced.
    pub fn start(current: CurrentTable, restarted: Arc<dyn Fn() + Send + Sync>) -> Self {
        let outbox = Outbox::new();
        actix_rt::spawn(Arc::clone(&outbox).run());
        let view: View = Rc::new(RefCell::new(current.get()));
        let addr = RouterActor::new(Rc::clone(&view), Arc::clone(&outbox)).start();
        let remote = RouterRemote(Arc::new(Mutex::new(addr.clone())));
        let addr = Rc::new(RefCell::new(addr));
        Self { addr, remote, view, current, outbox, queues: Rc::default(), waiting: Waiting::default(), restarted }
    }

    /// The supervisor's end.
    pub fn remote(&self) -> RouterRemote {
        self.remote.clone()
    }

    /// The table this worker routes by.
    pub fn table(&self) -> Arc<Table> {
        Arc::clone(&self.view.borrow())
    }

    /// Looks at the table this worker routes by without holding on to it.
    pub fn look<T>(&self, look: impl FnOnce(&Table) -> T) -> T {
        look(&self.view.borrow())
    }

    /// A plan for a model name, by the table that the actor has published to this worker; none if no route has the name.
    pub fn plan(&self, model: &str, need: Need) -> Option<Plan> {
        Plan::of(&self.view.borrow(), model, need)
    }

    /// Leads the way to plans: see [`Plan`].
    pub fn plan_by<T>(&self, find: impl FnOnce(&Arc<Table>) -> T) -> T {
        find(&self.view.borrow())
    }

    /// The next backend of a plan, with leave to call it. `None` if the router itself failed, which loses the plan.
    pub async fn next(&self, plan: Plan) -> Option<(Plan, Result<Chosen, Exhausted>)> {
        #[expect(clippy::disallowed_methods, reason = "the room's face: the ask stays on this thread")]
        let asked = self.addr.borrow().send(Next(plan, self.waiting.one_more()));
        let answer = asked.await;
        if answer.is_err() {
            self.revive();
        }
        answer.ok()
    }

    /// Where nobody can serve: leave to call the open circuit that comes back soonest, before its time. `None` as
    /// [`Router::next`].
    pub async fn least_bad(&self, plan: Plan) -> Option<(Plan, Option<Chosen>)> {
        #[expect(clippy::disallowed_methods, reason = "the room's face: the ask stays on this thread")]
        let asked = self.addr.borrow().send(LeastBad(plan, self.waiting.one_more()));
        let answer = asked.await;
        if answer.is_err() {
            self.revive();
        }
        answer.ok()
    }

    /// A backend for a second call beside the slow one at `beside`, with leave to call it, and the plan in which it is tried;
    /// none if there is none, or the route's budgets forbid it.
    pub async fn hedge(&self, plan: Plan, beside: (usize, usize)) -> Option<(Plan, Chosen)> {
        #[expect(clippy::disallowed_methods, reason = "the room's face: the ask stays on this thread")]
        let asked = self.addr.borrow().send(Beside(plan, beside, self.waiting.one_more()));
        let answer = asked.await;
        if answer.is_err() {
            self.revive();
        }
        answer.ok()?
    }

    /// Questions asked of the actor and not yet answered.
    pub fn waiting(&self) -> &Waiting {
        &self.waiting
    }

    /// The requests of this worker that wait for a backend.
    pub fn queues(&self) -> &Rc<Queues> {
        &self.queues
    }

    /// Sends what the outbox holds, as at shutdown.
    pub fn flush(&self) {
        self.outbox.flush();
    }

    /// Replaces the actor if it panicked. On this thread, which is the worker's.
    fn revive(&self) {
        if self.addr.borrow().connected() {
            return;
        }
        // A swap may have been told to the dead one.
        self.view.replace(self.current.get());
        let addr = RouterActor::new(Rc::clone(&self.view), Arc::clone(&self.outbox)).start();
        *self.remote.0.lock().unwrap_or_else(PoisonError::into_inner) = addr.clone();
        self.addr.replace(addr);
        (self.restarted)();
    }
}

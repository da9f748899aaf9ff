//! Load by the clock: requests come at a given rate, whether earlier ones are answered or not.
//!
//! A closed loop asks less of who answers late, and so never sees what its users would (coordinated omission). Here a request's
//! time counts from when it was due, also while it waits for a free connection.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use breakwater::clock::{self, Instant};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::client::Connection;
use crate::process::Process;
use crate::window::{Contestant, LAST_ANSWERS, Notes, Span, Window};

/// Between two looks at the clock: as fine as the runtime's timers are. Requests that are due since the last look come together,
/// and count from this one.
const LOOK: Duration = Duration::from_millis(1);

/// What the clock and the connections share. They run on one thread.
#[derive(Default)]
struct Queue {
    due: RefCell<VecDeque<Instant>>,
    came: Notify,
    is_over: Cell<bool>,
}

/// Drives a window at `rate` requests a second. Must run inside a `LocalSet`.
///
/// # Errors
/// Answers that do not come, even long after the window.
pub(crate) async fn drive(
    contestant: &Contestant<'_>,
    connections: usize,
    rate: u32,
    span: Span,
) -> Result<Window, String> {
    let (notes, queue) = (Rc::new(Notes::default()), Rc::new(Queue::default()));
    let mut loops = JoinSet::new();
    for _ in 0..connections {
        let (load, notes, queue) = (contestant.load.clone(), Rc::clone(&notes), Rc::clone(&queue));
        loops.spawn_local(async move {
            let mut connection = None;
            while let Some(due) = queue.next().await {
                if connection.is_none() {
                    connection = Connection::open(load.address).await.ok();
                }
                let is_good = match &mut connection {
                    Some(open) => open.exchange(&load.request).await.is_ok_and(|answer| load.wanted.is_met(&answer)),
                    None => false,
                };
                if !is_good {
                    connection = None;
                }
                notes.note(is_good, clock::now().since(due));
            }
        });
    }
    let cpu = || contestant.process.and_then(Process::cpu);
    queue.fill(rate, span.warm_up).await;
    let (begun, before) = (clock::now(), cpu());
    notes.begin();
    queue.fill(rate, span.measured).await;
    let (elapsed, after) = (clock::now().since(begun), cpu());
    // Late ones are noted too: that they are late is what is measured.
    queue.close();
    let drained = tokio::time::timeout(LAST_ANSWERS, async { while loops.join_next().await.is_some() {} }).await;
    if drained.is_err() {
        return Err(format!("{} owes {} answers", contestant.kind.name(), queue.due.borrow().len() + loops.len()));
    }
    Ok(notes.window(elapsed, after.zip(before), contestant.process.and_then(Process::resident)))
}

impl Queue {
    /// Lets requests come for a while.
    async fn fill(&self, rate: u32, span: Duration) {
        let begun = clock::now();
        let (mut came, mut passed) = (0, Duration::ZERO);
        while passed < span {
            tokio::time::sleep(LOOK).await;
            let now = clock::now();
            passed = now.since(begun).min(span);
            let due = (passed.as_secs_f64() * f64::from(rate)) as usize;
            for _ in came..due {
                self.due.borrow_mut().push_back(now);
                self.came.notify_one();
            }
            came = due;
        }
    }

    async fn next(&self) -> Option<Instant> {
        loop {
            // Asked for before the look, so that nothing comes in between unheard.
            let came = self.came.notified();
            if let Some(due) = self.due.borrow_mut().pop_front() {
                return Some(due);
            }
            if self.is_over.get() {
                return None;
            }
            came.await;
        }
    }

    fn close(&self) {
        self.is_over.set(true);
        self.came.notify_waiters();
    }
}

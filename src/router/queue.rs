//! Requests that wait for a backend: one line per route on each worker, first come, first looked after (spec/resilience.md 9.1).
//!
//! A line knows no gate. Whoever stands first has the timer; each look of his is passed on down the line, so that all look
//! in their order, and nobody overtakes. A [`Ticket`] leaves the line when it drops, whatever happens to its request.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;

use prometheus::{Histogram, IntGauge};
use tokio::sync::Notify;

use super::table::RouteEntry;
use crate::clock::{self, Instant};
use crate::config::RouteName;

/// All lines of one worker.
#[derive(Default)]
pub struct Queues {
    lines: RefCell<HashMap<RouteName, Rc<Line>>>,
}

/// The requests that wait for one route.
#[derive(Default)]
struct Line {
    places: RefCell<VecDeque<Place>>,
    next_number: Cell<u64>,
}

/// One waiting request.
struct Place {
    number: u64,
    /// Whether it has tried nobody: then whoever comes later has no better chance.
    is_fresh: bool,
    wake: Rc<Notify>,
}

/// A place in a line.
pub struct Ticket {
    queues: Rc<Queues>,
    line: Rc<Line>,
    route: RouteName,
    number: u64,
    wake: Rc<Notify>,
    joined: Instant,
    depth: IntGauge,
    waited: Histogram,
}

impl Queues {
    /// Joins a route's line at its end; none if it is full.
    pub fn try_join(self: &Rc<Self>, route: &RouteEntry, is_fresh: bool, now: Instant) -> Option<Ticket> {
        let name = &route.config.name;
        let line = Rc::clone(self.lines.borrow_mut().entry(name.clone()).or_default());
        if route.config.policy.queue_max_size <= line.places.borrow().len() {
            return None;
        }
        let number = line.next_number.get();
        line.next_number.set(number + 1);
        let wake = Rc::new(Notify::new());
        line.places.borrow_mut().push_back(Place { number, is_fresh, wake: Rc::clone(&wake) });
        let (depth, waited) = (route.handles.queue_depth.clone(), route.handles.queue_wait.clone());
        depth.inc();
        Some(Ticket { queues: Rc::clone(self), line, route: name.clone(), number, wake, joined: now, depth, waited })
    }

    /// Whether somebody waits who would have to be overtaken by a request that has tried nobody yet.
    pub fn has_fresh(&self, route: &RouteName) -> bool {
        let lines = self.lines.borrow();
        lines.get(route).is_some_and(|line| line.places.borrow().iter().any(|place| place.is_fresh))
    }

    /// A backend may have got a free place: the first of every line looks.
    pub fn wake(&self) {
        for line in self.lines.borrow().values() {
            line.wake_from(0);
        }
    }
}

impl Line {
    /// Wakes the first whose number is at least this.
    fn wake_from(&self, number: u64) {
        if let Some(place) = self.places.borrow().iter().find(|place| number <= place.number) {
            place.wake.notify_one();
        }
    }
}

impl Ticket {
    /// Whether nobody stands before it: then it must not wait for others to wake it.
    pub fn is_first(&self) -> bool {
        self.line.places.borrow().front().is_some_and(|place| place.number == self.number)
    }

    /// Waits for its turn to look, at most until `at`.
    pub async fn turn(&self, at: Instant) {
        // Either way it looks.
        let _ = tokio::time::timeout_at(clock::to_tokio(at), self.wake.notified()).await;
    }

    /// It has looked: now the next one.
    pub fn pass_on(&self) {
        self.line.wake_from(self.number + 1);
    }

    /// How long it has waited.
    pub fn age(&self, now: Instant) -> std::time::Duration {
        now.since(self.joined)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.line.places.borrow_mut().retain(|place| place.number != self.number);
        // The next one may be first now, and then it needs the timer; and there may be room for two.
        self.pass_on();
        if self.line.places.borrow().is_empty() {
            self.queues.lines.borrow_mut().remove(&self.route);
        }
        self.depth.dec();
        self.waited.observe(self.age(clock::now()).as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::tests::router;
    use super::*;

    /// Whether its turn comes within a moment.
    async fn has_turn(ticket: &Ticket) -> bool {
        let wait = tokio::time::timeout(Duration::from_millis(1), ticket.turn(Instant::NEVER));
        wait.await.is_ok()
    }

    #[actix::test]
    async fn looks_go_down_the_line_and_leaving_lets_the_next_one_look() {
        tokio::time::pause();
        let router = router("on_exhausted: [queue], queue: {max_size: 3}");
        let (queues, table) = (router.queues(), router.table());
        let route = table.find("r").unwrap();
        let name = &route.config.name;
        let join = |is_fresh| queues.try_join(route, is_fresh, clock::now());
        assert!(!queues.has_fresh(name));
        let (first, second, third) = (join(false).unwrap(), join(true).unwrap(), join(false).unwrap());
        assert!(join(true).is_none(), "three are enough");
        assert_eq!((queues.has_fresh(name), route.handles.queue_depth.get()), (true, 3));
        assert!(first.is_first() && !second.is_first());
        assert!(!has_turn(&first).await, "nothing has happened");
        queues.wake();
        assert!(has_turn(&first).await && !has_turn(&second).await);
        first.pass_on();
        assert!(has_turn(&second).await && !has_turn(&third).await);
        drop(second);
        assert!(has_turn(&third).await && !third.is_first() && !queues.has_fresh(name));
        drop(first);
        assert!(has_turn(&third).await && third.is_first());
        assert_eq!((route.handles.queue_depth.get(), route.handles.queue_wait.get_sample_count()), (1, 2));
        drop(third);
        assert!(queues.lines.borrow().is_empty(), "no line outlives its last request");
    }

    #[actix::test]
    async fn a_turn_comes_at_its_time_without_anybody() {
        tokio::time::pause();
        let router = router("on_exhausted: [queue]");
        let table = router.table();
        let now = clock::now();
        let ticket = router.queues().try_join(table.find("r").unwrap(), true, now).unwrap();
        ticket.turn(now.plus(Duration::from_millis(70))).await;
        // tokio's timers round up to the millisecond.
        assert!((70..=71).contains(&ticket.age(clock::now()).as_millis()));
    }
}

//! The time limits of an answer that is being relayed: one timer for all of them, and the drain limit.
//!
//! What comes moves the moments and leaves the timer as it is; set anew it is only when it has fired. And as long as it
//! cannot have fired, and whom it would wake is still the one who asks, nobody looks at it: of thousands of slow streams each
//! event finds its memory cold, and every line that is left alone is a tenth of a microsecond.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use tokio::sync::futures::OwnedNotified;
use tokio::task::coop::has_budget_remaining;
use tokio::time::Sleep;

use super::super::drain_limit::DrainLimit;
use crate::clock::{self, Instant};

/// How long a running answer may take.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Longest gap between bytes or data events.
    pub idle: Duration,
    /// When the whole answer must be over.
    pub total: Instant,
    /// Gap after which a comment is sent; none: never.
    pub keepalive: Option<Duration>,
}

/// What the time has come for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// The gateway gives up what is under way.
    Shutdown,
    /// The whole answer took too long.
    Total,
    /// Nothing has come for too long.
    Idle,
    /// A comment, so that nobody on the way takes the silence for an end.
    Comment,
}

/// The limits of one answer. Dropping it forgets them.
pub(super) struct Deadlines {
    pace: Pace,
    /// When data has come.
    heard_at: Instant,
    /// When anything, a comment of ours included, has gone on.
    spoken_at: Instant,
    /// When the timer fires.
    rings_at: Instant,
    timer: Pin<Box<Sleep>>,
    drain_limit: Arc<DrainLimit>,
    ended: Pin<Box<OwnedNotified>>,
    /// Whom timer and drain limit wake.
    registered: Option<Waker>,
}

impl Deadlines {
    /// They begin now.
    pub(super) fn new(pace: Pace, drain_limit: &Arc<DrainLimit>, now: Instant) -> Self {
        let rings_at = pace.first_limit(now, now);
        Self {
            pace,
            heard_at: now,
            spoken_at: now,
            rings_at,
            timer: Box::pin(tokio::time::sleep_until(clock::to_tokio(rings_at))),
            drain_limit: Arc::clone(drain_limit),
            ended: Box::pin(drain_limit.ended()),
            registered: None,
        }
    }

    /// The longest gap between data.
    pub(super) fn idle(&self) -> Duration {
        self.pace.idle
    }

    /// Data has come: the gaps begin anew.
    pub(super) fn alive(&mut self, now: Instant) {
        (self.heard_at, self.spoken_at) = (now, now);
    }

    /// Whether the answer's whole time is over, however much still comes.
    pub(super) fn is_overrun(&self, now: Instant) -> bool {
        self.pace.total <= now
    }

    /// What the time has come for; if for nothing, whoever asks is woken then.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Option<Due> {
        if self.drain_limit.is_over() {
            return Some(Due::Shutdown);
        }
        let is_registered = self.registered.as_ref().is_some_and(|waker| waker.will_wake(cx.waker()));
        if is_registered && clock::now() < self.rings_at {
            return None;
        }
        if self.ended.as_mut().poll(cx).is_ready() {
            return Some(Due::Shutdown);
        }
        while self.timer.as_mut().poll(cx).is_ready() {
            let now = clock::now();
            let due = self.due(now);
            if due == Some(Due::Comment) {
                self.spoken_at = now;
            }
            self.rings_at = self.pace.first_limit(self.heard_at, self.spoken_at);
            self.timer.as_mut().reset(clock::to_tokio(self.rings_at));
            if due.is_some() {
                self.registered = None;
                return due;
            }
        }
        // A task that has done enough for its turn is woken anew instead of registered.
        self.registered = has_budget_remaining().then(|| cx.waker().clone());
        None
    }

    /// The gravest of what is due.
    fn due(&self, now: Instant) -> Option<Due> {
        let limits = self.pace.limits(self.heard_at, self.spoken_at);
        limits.into_iter().find(|(at, _)| *at <= now).map(|(_, due)| due)
    }
}

impl Pace {
    /// When each limit is due, the gravest first.
    fn limits(&self, heard_at: Instant, spoken_at: Instant) -> [(Instant, Due); 3] {
        let comment_at = self.keepalive.map_or(Instant::NEVER, |gap| spoken_at.plus(gap));
        [(self.total, Due::Total), (heard_at.plus(self.idle), Due::Idle), (comment_at, Due::Comment)]
    }

    fn first_limit(&self, heard_at: Instant, spoken_at: Instant) -> Instant {
        self.limits(heard_at, spoken_at).into_iter().fold(Instant::NEVER, |first, (at, _)| first.min(at))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    /// Counts how often it was called.
    #[derive(Default)]
    struct Bell(AtomicUsize);

    impl Wake for Bell {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Deadlines under a paused clock, and whom they wake.
    struct Scene {
        deadlines: Deadlines,
        drain_limit: Arc<DrainLimit>,
        bell: Arc<Bell>,
    }

    const SECOND: Duration = Duration::from_secs(1);

    impl Scene {
        fn new(idle: Duration, total: Duration, keepalive: Option<Duration>) -> Self {
            let now = clock::now();
            let drain_limit = Arc::new(DrainLimit::default());
            let pace = Pace { idle, total: now.plus(total), keepalive };
            Self { deadlines: Deadlines::new(pace, &drain_limit, now), drain_limit, bell: Arc::default() }
        }

        fn poll(&mut self) -> Option<Due> {
            let waker = Waker::from(Arc::clone(&self.bell));
            self.deadlines.poll(&mut Context::from_waker(&waker))
        }

        fn rung(&self) -> usize {
            self.bell.0.load(Ordering::Relaxed)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn events_put_the_idle_limit_off_and_the_timer_rings_all_the_same() {
        let mut scene = Scene::new(3 * SECOND, 60 * SECOND, None);
        assert_eq!(scene.poll(), None);
        tokio::time::advance(2 * SECOND).await;
        scene.deadlines.alive(clock::now());
        assert_eq!((scene.poll(), scene.rung()), (None, 0));
        // The timer of the beginning rings, finds that something has come, and is set for the rest.
        tokio::time::advance(SECOND + SECOND / 2).await;
        assert_eq!((scene.rung(), scene.poll()), (1, None));
        tokio::time::advance(2 * SECOND).await;
        assert_eq!((scene.rung(), scene.poll()), (2, Some(Due::Idle)));
    }

    #[tokio::test(start_paused = true)]
    async fn comments_come_in_silence_and_the_whole_time_ends_it() {
        let mut scene = Scene::new(30 * SECOND, 5 * SECOND, Some(2 * SECOND));
        let mut seen = Vec::new();
        for _ in 0..5 {
            seen.extend(std::iter::from_fn(|| scene.poll()).take(2));
            tokio::time::advance(SECOND + SECOND / 100).await;
        }
        assert_eq!(seen, [Due::Comment, Due::Comment]);
        assert_eq!(scene.poll(), Some(Due::Total));
        assert!(scene.deadlines.is_overrun(clock::now()));
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_asks_last_is_woken() {
        let mut scene = Scene::new(SECOND, 60 * SECOND, None);
        assert_eq!(scene.poll(), None);
        let first = std::mem::take(&mut scene.bell);
        assert_eq!(scene.poll(), None);
        tokio::time::advance(2 * SECOND).await;
        assert_eq!((first.0.load(Ordering::Relaxed), scene.rung()), (0, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn the_drain_limit_ends_it_between_events_and_within() {
        let mut scene = Scene::new(30 * SECOND, 60 * SECOND, None);
        assert_eq!(scene.poll(), None);
        scene.drain_limit.end();
        assert_eq!(scene.rung(), 1);
        // An event that comes in the same turn hides nothing.
        scene.deadlines.alive(clock::now());
        assert_eq!(scene.poll(), Some(Due::Shutdown));
        let late = Deadlines::new(scene.deadlines.pace, &scene.drain_limit, clock::now());
        assert_eq!(Scene { deadlines: late, ..scene }.poll(), Some(Due::Shutdown));
    }
}

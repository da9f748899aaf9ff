//! Room for a request's future, used again by the next request: several kilobytes that the allocator would otherwise have to
//! find and join again for each of them, and that would be copied into their place; while a connection that waits has none.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

/// Berths kept: a worker's requests under way on a busy day.
const MAX_FREE: usize = 256;

/// What goes into a berth, and what comes out.
struct Hatch<A, O> {
    in_: Cell<Option<A>>,
    out: Cell<Option<O>>,
}

/// A future that serves one request after the other, each made where it then stays.
struct Berth<A, O> {
    serving: Pin<Box<dyn Future<Output = ()>>>,
    hatch: Rc<Hatch<A, O>>,
}

/// One worker's free berths. Not `Send`.
pub(super) struct Berths<A, O> {
    free: RefCell<Vec<Berth<A, O>>>,
    build: Box<dyn Fn() -> Berth<A, O>>,
}

impl<A: 'static, O: 'static> Berths<A, O> {
    /// None yet. `serve` is what happens in them.
    pub(super) fn new<F: Future<Output = O> + 'static>(serve: impl Fn(A) -> F + Clone + 'static) -> Rc<Self> {
        let build = move || {
            let hatch = Rc::new(Hatch { in_: Cell::new(None), out: Cell::new(None) });
            let (inner, serve) = (Rc::clone(&hatch), serve.clone());
            let serving = Box::pin(async move {
                loop {
                    let next = poll_fn(|_| inner.in_.take().map_or(Poll::Pending, Poll::Ready)).await;
                    inner.out.set(Some(serve(next).await));
                }
            });
            Berth { serving, hatch }
        };
        Rc::new(Self { free: RefCell::default(), build: Box::new(build) })
    }

    /// Takes a request in.
    pub(super) fn moor(self: &Rc<Self>, request: A) -> Moored<A, O> {
        let berth = self.free.borrow_mut().pop().unwrap_or_else(|| (self.build)());
        berth.hatch.in_.set(Some(request));
        Moored { berth: Some(berth), berths: Rc::clone(self) }
    }
}

/// A request in its berth. At its end the berth is free for another; one that is left before goes down with it.
pub(super) struct Moored<A, O> {
    berth: Option<Berth<A, O>>,
    berths: Rc<Berths<A, O>>,
}

impl<A, O> Future for Moored<A, O> {
    type Output = O;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<O> {
        // After its end, nobody polls it.
        let Some(berth) = &mut self.berth else { return Poll::Pending };
        // It never ends by itself: after each request it waits for the next.
        let Poll::Pending = berth.serving.as_mut().poll(cx) else { return Poll::Pending };
        let Some(output) = berth.hatch.out.take() else { return Poll::Pending };
        let berth = self.berth.take();
        let mut free = self.berths.free.borrow_mut();
        if free.len() < MAX_FREE {
            free.extend(berth);
        }
        drop(free);
        Poll::Ready(output)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::future::{pending, ready};

    use futures_util::FutureExt as _;

    use super::*;

    /// Counts itself out.
    struct Counted(Rc<Cell<usize>>);

    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.set(self.0.get() + 1);
        }
    }

    #[test]
    fn a_berth_is_free_again_after_an_end_and_gone_after_a_drop() {
        let dropped = Rc::new(Cell::new(0));
        let berths = Berths::new(|(counted, ends): (Counted, bool)| async move {
            let _counted = counted;
            if ends { ready(7).await } else { pending().await }
        });
        let sail = |ends: bool| (Counted(Rc::clone(&dropped)), ends);
        for round in 1..=3 {
            let mut moored = berths.moor(sail(true));
            assert_eq!((&mut moored).now_or_never(), Some(7));
            assert_eq!(dropped.get(), 2 * round - 1, "what has ended is gone at once");
            drop(moored);
            assert_eq!(berths.free.borrow().len(), 1, "the berth is free");
            assert_eq!(berths.moor(sail(false)).now_or_never(), None);
            assert_eq!(
                (dropped.get(), berths.free.borrow().len()),
                (2 * round, 0),
                "what was under way is gone, and the berth with it"
            );
        }
        let mut two = [berths.moor(sail(true)), berths.moor(sail(true))];
        assert_eq!(two.each_mut().map(|moored| moored.now_or_never()), [Some(7), Some(7)]);
        assert_eq!((dropped.get(), berths.free.borrow().len()), (8, 2));
        let unseen = berths.moor(sail(false));
        drop(unseen);
        assert_eq!((dropped.get(), berths.free.borrow().len()), (9, 1), "one that nobody polled");
    }
}

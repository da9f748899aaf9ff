//! Room for a request's future, used again by the next request: several kilobytes that the allocator would otherwise have to
//! find and join again for each of them, while a connection that waits has none.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

/// Berths kept: a worker's requests under way on a busy day.
const MAX_FREE: usize = 256;

/// A boxed place for one future.
type Berth<F> = Pin<Box<Option<F>>>;

/// One worker's free berths. Not `Send`.
pub(super) struct Berths<F>(RefCell<Vec<Berth<F>>>);

impl<F: Future> Berths<F> {
    /// None yet.
    pub(super) fn new() -> Rc<Self> {
        Rc::new(Self(RefCell::default()))
    }

    /// Takes a future in.
    pub(super) fn moor(self: &Rc<Self>, future: F) -> Moored<F> {
        let mut berth = self.0.borrow_mut().pop().unwrap_or_else(|| Box::pin(None));
        berth.as_mut().set(Some(future));
        Moored { berth: Some(berth), berths: Rc::clone(self) }
    }
}

/// A future in its berth, which it leaves at its end or when it is dropped; then the berth is free again once this is dropped.
pub(super) struct Moored<F: Future> {
    berth: Option<Berth<F>>,
    berths: Rc<Berths<F>>,
}

impl<F: Future> Future for Moored<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        // After its end, nobody polls it.
        let Some(berth) = &mut self.berth else { return Poll::Pending };
        let Some(future) = berth.as_mut().as_pin_mut() else { return Poll::Pending };
        let output = ready!(future.poll(cx));
        berth.as_mut().set(None);
        Poll::Ready(output)
    }
}

impl<F: Future> Drop for Moored<F> {
    fn drop(&mut self) {
        let Some(mut berth) = self.berth.take() else { return };
        berth.as_mut().set(None);
        let mut free = self.berths.0.borrow_mut();
        if free.len() < MAX_FREE {
            free.push(berth);
        }
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
    fn a_berth_is_free_again_after_an_end_and_after_a_drop() {
        let (berths, dropped) = (Berths::new(), Rc::new(Cell::new(0)));
        let sail = |ends: bool| {
            let counted = Counted(Rc::clone(&dropped));
            async move {
                let _counted = counted;
                if ends { ready(7).await } else { pending().await }
            }
        };
        for round in 1..=3 {
            let mut moored = berths.moor(sail(true));
            assert_eq!((&mut moored).now_or_never(), Some(7));
            assert_eq!(dropped.get(), 2 * round - 1, "what has ended is gone at once");
            drop(moored);
            assert_eq!(berths.moor(sail(false)).now_or_never(), None);
            assert_eq!(
                (dropped.get(), berths.0.borrow().len()),
                (2 * round, 1),
                "what was within is gone, the berth stays"
            );
        }
        let two = (berths.moor(sail(false)), berths.moor(sail(false)));
        drop(two);
        assert_eq!((dropped.get(), berths.0.borrow().len()), (8, 2));
    }
}

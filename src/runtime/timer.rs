//! Timers of one thread, all on a single one of async-io's.
//!
//! A timer of async-io costs a write to the poller's eventfd when it is made and a turn of the poller to read that again, whether it
//! ever rings or not; and most never do: limits of requests, QUIC's timers, which move with every packet. Here such a timer is an
//! entry in a map, and the one below is touched only when the earliest moves forward.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

/// The clock that sockets and QUIC use.
#[expect(clippy::disallowed_methods, reason = "the room with the clock")]
pub(super) fn now() -> Instant {
    Instant::now()
}

/// Unique in the process: an entry is found, or not, on any thread.
static NEXT_ID: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static TIMERS: RefCell<Timers> = const { RefCell::new(Timers::new()) };
}

struct Timers {
    waiting: BTreeMap<(Instant, u64), Waker>,
    /// Whether this thread has its [`Driver`].
    driven: bool,
    /// How many `block_on`s run it now, one inside the other.
    running: usize,
    /// When it is woken next.
    armed: Option<Instant>,
    driver: Option<Waker>,
}

impl Timers {
    const fn new() -> Self {
        Self { waiting: BTreeMap::new(), driven: false, running: 0, armed: None, driver: None }
    }
}

/// Resolves at a time. Cancel safe.
#[derive(Debug)]
pub struct Sleep {
    at: Instant,
    /// Its entry, if it has one.
    id: Option<u64>,
    /// Where no driver runs: outside of `block_on`.
    own: Option<async_io::Timer>,
}

impl Sleep {
    /// Rings at `at`.
    pub fn until(at: Instant) -> Self {
        Self { at, id: None, own: None }
    }

    /// Rings at `at` instead. To be polled again.
    pub fn reset(&mut self, at: Instant) {
        self.leave();
        self.at = at;
        self.own = None;
    }

    fn leave(&mut self) {
        if let Some(id) = self.id.take() {
            // Wakers are dropped outside of the borrow: they may own what has timers itself.
            let _waker = TIMERS.try_with(|timers| timers.borrow_mut().waiting.remove(&(self.at, id)));
        }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(own) = &mut self.own {
            return Pin::new(own).poll(cx).map(|_| ());
        }
        if now() >= self.at {
            self.leave();
            return Poll::Ready(());
        }
        let id = self.id.unwrap_or_else(|| NEXT_ID.fetch_add(1, Ordering::Relaxed));
        let (driven, dropped, woken) = TIMERS.with_borrow_mut(|timers| {
            if timers.running == 0 {
                return (false, None, None);
            }
            let old = timers.waiting.insert((self.at, id), cx.waker().clone());
            let first = timers.armed.is_none_or(|armed| self.at < armed);
            (true, old, if first { timers.driver.take() } else { None })
        });
        drop(dropped);
        if let Some(driver) = woken {
            driver.wake();
        }
        if driven {
            self.id = Some(id);
            return Poll::Pending;
        }
        self.leave();
        let mut own = async_io::Timer::at(self.at);
        let done = Pin::new(&mut own).poll(cx).map(|_| ());
        self.own = Some(own);
        done
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.leave();
    }
}

/// Wakes what is due. A thread has one, on its executor, from its first `block_on` on.
pub(super) struct Driver {
    timer: async_io::Timer,
}

impl Driver {
    /// `None` if this thread has one already.
    pub(super) fn new() -> Option<Self> {
        let driven = TIMERS.with_borrow_mut(|timers| std::mem::replace(&mut timers.driven, true));
        (!driven).then(|| Self { timer: async_io::Timer::never() })
    }
}

/// While it lives, this thread's driver is polled.
pub(super) struct Running;

impl Running {
    pub(super) fn new() -> Self {
        TIMERS.with_borrow_mut(|timers| timers.running += 1);
        Self
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        TIMERS.with_borrow_mut(|timers| timers.running -= 1);
    }
}

impl Future for Driver {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let now = now();
            let (due, next, armed) = TIMERS.with_borrow_mut(|timers| {
                // Ids are far below the greatest, so this takes all up to now.
                let later = timers.waiting.split_off(&(now, u64::MAX));
                let due = std::mem::replace(&mut timers.waiting, later);
                let next = timers.waiting.first_key_value().map(|((at, _), _)| *at);
                timers.driver = Some(cx.waker().clone());
                (due, next, timers.armed)
            });
            for waker in due.into_values() {
                waker.wake();
            }
            // Armed for one that was cancelled since: it rings for nothing, which costs less than to move it.
            let rings = armed.filter(|&armed| armed > now && next.is_none_or(|next| armed <= next)).or(next);
            if rings != armed {
                TIMERS.with_borrow_mut(|timers| timers.armed = rings);
                match rings {
                    Some(at) => self.timer.set_at(at),
                    None => self.timer.clear(),
                }
            }
            if Pin::new(&mut self.timer).poll(cx).is_pending() {
                return Poll::Pending;
            }
            TIMERS.with_borrow_mut(|timers| timers.armed = None);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;
    use std::time::Duration;

    use super::*;
    use crate::runtime::{block_on, sleep, spawn, timeout};

    fn entries() -> usize {
        TIMERS.with_borrow(|t| t.waiting.len())
    }

    #[test]
    fn they_ring_in_order_whatever_the_order_they_were_made_in() {
        let order = block_on(async {
            let order: Rc<RefCell<Vec<u64>>> = Rc::default();
            let tasks: Vec<_> = [30u64, 10, 20, 0, 10]
                .map(|ms| {
                    let order = order.clone();
                    spawn(async move {
                        sleep(Duration::from_millis(ms)).await;
                        order.borrow_mut().push(ms);
                    })
                })
                .into();
            for task in tasks {
                task.await;
            }
            order.take()
        });
        assert_eq!(order, [0, 10, 10, 20, 30]);
    }

    #[test]
    fn what_is_done_in_time_leaves_nothing_behind() {
        block_on(async {
            for _ in 0..100 {
                let limit = Duration::from_secs(3600);
                timeout(limit, async { futures_lite::future::yield_now().await }).await.unwrap();
            }
            assert_eq!(entries(), 0);
            assert!(timeout(Duration::from_millis(1), std::future::pending::<()>()).await.is_none());
            assert_eq!(entries(), 0);
        });
    }

    #[test]
    fn a_timer_can_be_moved_both_ways() {
        block_on(async {
            let far = now() + Duration::from_secs(3600);
            let mut timer = Sleep::until(far);
            assert!(futures_lite::future::poll_once(&mut timer).await.is_none());
            timer.reset(now() + Duration::from_millis(5));
            (&mut timer).await;
            timer.reset(far);
            assert!(futures_lite::future::poll_once(&mut timer).await.is_none());
            assert_eq!(entries(), 1);
            drop(timer);
            assert_eq!(entries(), 0);
        });
    }

    #[test]
    fn without_a_driver_and_with_a_second_one_they_ring_too() {
        futures_lite::future::block_on(sleep(Duration::from_millis(2)));
        let rang = Rc::new(Cell::new(0));
        let inner = rang.clone();
        block_on(async move {
            // One `block_on` in another shares its driver.
            block_on(sleep(Duration::from_millis(2)));
            inner.set(inner.get() + 1);
            sleep(Duration::from_millis(2)).await;
            inner.set(inner.get() + 1);
        });
        assert_eq!(rang.get(), 2);
        // The next `block_on` finds the driver where the last one left it, and outside of both there is none.
        block_on(sleep(Duration::from_millis(2)));
        futures_lite::future::block_on(sleep(Duration::from_millis(2)));
    }
}

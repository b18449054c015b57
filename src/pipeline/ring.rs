//! A ring of slots between two threads: one puts in, one takes out, nothing is locked and nothing is allocated.
//!
//! Who finds it full or empty waits as a future; a thread without an executor waits by
//! [`futures_lite::future::block_on`]. The ring itself is `rtrb`; what is added is how the two wake each other.
//!
//! # How nobody sleeps through
//! Who is to wait says so, then looks once more. The other acts, then looks whether somebody waits. Between saying and looking
//! each has a sequentially consistent fence, so at least one sees the other.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::task::{Context, Poll};

use atomic_waker::AtomicWaker;

/// One side's bed.
#[derive(Debug, Default)]
struct Bed {
    occupied: AtomicBool,
    waker: AtomicWaker,
}

impl Bed {
    fn lie_down(&self, cx: &Context<'_>) {
        self.waker.register(cx.waker());
        self.occupied.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    #[inline]
    fn wake(&self) {
        fence(Ordering::SeqCst);
        if self.occupied.load(Ordering::Relaxed) {
            self.wake_up();
        }
    }

    #[cold]
    fn wake_up(&self) {
        if self.occupied.swap(false, Ordering::Relaxed) {
            self.waker.wake();
        }
    }
}

#[derive(Debug, Default)]
struct Beds {
    sender: Bed,
    receiver: Bed,
}

/// A ring of `slots` places.
pub fn ring<T>(slots: usize) -> (Sender<T>, Receiver<T>) {
    let (tx, rx) = rtrb::RingBuffer::new(slots);
    let beds = Arc::new(Beds::default());
    (Sender { ring: Some(tx), beds: beds.clone() }, Receiver { ring: Some(rx), beds })
}

/// The end that puts in. Dropping it ends the ring when it is empty.
#[derive(Debug)]
pub struct Sender<T> {
    /// `None` only while it is being dropped.
    ring: Option<rtrb::Producer<T>>,
    beds: Arc<Beds>,
}

/// The end that takes out. Dropping it drops what is inside, at the latest with the other end.
#[derive(Debug)]
pub struct Receiver<T> {
    ring: Option<rtrb::Consumer<T>>,
    beds: Arc<Beds>,
}

/// What could not be put in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotSent<T> {
    /// Every place is taken.
    Full(T),
    /// Nobody takes out any more.
    Gone(T),
}

impl<T> Sender<T> {
    /// Puts `item` in if there is a place.
    #[inline]
    pub fn try_send(&mut self, item: T) -> Result<(), NotSent<T>> {
        let Some(ring) = self.ring.as_mut().filter(|ring| !ring.is_abandoned()) else {
            return Err(NotSent::Gone(item));
        };
        ring.push(item).map_err(|rtrb::PushError::Full(item)| NotSent::Full(item))?;
        self.beds.receiver.wake();
        Ok(())
    }

    /// Puts `item` in, waiting for a place; gives it back if nobody takes out any more. Cancel safe: `item` is lost with the
    /// future, and nothing else.
    pub async fn send(&mut self, item: T) -> Result<(), T> {
        let mut item = Some(item);
        poll_fn(|cx| {
            for last in [false, true] {
                let Some(next) = item.take() else { break };
                match self.try_send(next) {
                    Ok(()) => return Poll::Ready(Ok(())),
                    Err(NotSent::Gone(back)) => return Poll::Ready(Err(back)),
                    Err(NotSent::Full(back)) => item = Some(back),
                }
                if !last {
                    self.beds.sender.lie_down(cx);
                }
            }
            Poll::Pending
        })
        .await
    }

    /// Places that are free at least.
    pub fn free(&self) -> usize {
        self.ring.as_ref().map_or(0, rtrb::Producer::slots)
    }
}

impl<T> Receiver<T> {
    /// What is next, if there is something.
    #[inline]
    pub fn try_recv(&mut self) -> Option<T> {
        let item = self.ring.as_mut()?.pop().ok()?;
        self.beds.sender.wake();
        Some(item)
    }

    /// What is next, waiting for it; `None` when it is empty and nobody puts in any more. Cancel safe.
    pub async fn recv(&mut self) -> Option<T> {
        poll_fn(|cx| {
            for last in [false, true] {
                // Asked before looking: what was put in before the end is seen.
                let gone = self.ring.as_ref().is_none_or(rtrb::Consumer::is_abandoned);
                match self.try_recv() {
                    Some(item) => return Poll::Ready(Some(item)),
                    None if gone => return Poll::Ready(None),
                    None => {}
                }
                if !last {
                    self.beds.receiver.lie_down(cx);
                }
            }
            Poll::Pending
        })
        .await
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        drop(self.ring.take());
        self.beds.receiver.wake();
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        drop(self.ring.take());
        self.beds.sender.wake();
    }
}

#[cfg(test)]
mod tests {
    use futures_lite::future::block_on;

    use super::*;

    #[test]
    fn everything_comes_once_and_in_order_however_the_two_run() {
        for seed in 0..8 {
            let (mut tx, mut rx) = ring(1 + seed * 3);
            let sender = std::thread::spawn(move || {
                let mut rng = fastrand::Rng::with_seed(seed as u64);
                for n in 0..20_000u64 {
                    if rng.u8(..) == 0 {
                        std::thread::yield_now();
                    }
                    block_on(tx.send(n)).unwrap();
                }
            });
            let mut rng = fastrand::Rng::with_seed(99 - seed as u64);
            for n in 0..20_000 {
                if rng.u8(..) == 0 {
                    std::thread::yield_now();
                }
                assert_eq!(block_on(rx.recv()), Some(n));
            }
            assert_eq!(block_on(rx.recv()), None);
            sender.join().unwrap();
        }
    }

    #[test]
    fn who_waits_hears_that_the_other_has_gone() {
        let (mut tx, rx) = ring(1);
        block_on(tx.send(1)).unwrap();
        assert_eq!(tx.try_send(2), Err(NotSent::Full(2)));
        let waits = std::thread::spawn(move || block_on(tx.send(3)));
        std::thread::yield_now();
        drop(rx);
        assert_eq!(waits.join().unwrap(), Err(3));

        let (tx, mut rx) = ring::<u8>(1);
        let waits = std::thread::spawn(move || block_on(rx.recv()));
        std::thread::yield_now();
        drop(tx);
        assert_eq!(waits.join().unwrap(), None);
    }

    #[test]
    fn what_was_put_in_before_the_end_still_comes() {
        let (mut tx, mut rx) = ring(4);
        for n in 0..3 {
            tx.try_send(n).unwrap();
        }
        drop(tx);
        let left: Vec<_> = std::iter::from_fn(|| block_on(rx.recv())).collect();
        assert_eq!(left, [0, 1, 2]);
    }
}

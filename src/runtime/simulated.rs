//! For simulations: several nodes on one thread, each with clocks, an executor and randomness of its own.
//!
//! While a [`Node`] is [entered](Node::enter), this room's functions speak of it: `mono_now` is its clock, `spawn` puts
//! onto its executor, `rng` draws from its seed. Tasks of a node run in the order in which they were woken.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use async_executor::LocalExecutor;

use super::time::Mono;

thread_local! {
    static CURRENT: RefCell<Option<Rc<Node>>> = const { RefCell::new(None) };
}

/// The node whose code is running; `None` outside of simulations.
pub(crate) fn node() -> Option<Rc<Node>> {
    CURRENT.with_borrow(Clone::clone)
}

/// One machine with one process.
pub(crate) struct Node {
    boot: u64,
    mono: Cell<Mono>,
    wall_us: Cell<i64>,
    rng: RefCell<fastrand::Rng>,
    executor: RefCell<Option<Rc<LocalExecutor<'static>>>>,
    timers: RefCell<BTreeMap<(Mono, u64), Waker>>,
    next_timer: Cell<u64>,
}

/// Leaves the node when it is dropped.
pub(crate) struct Entered(Option<Rc<Node>>);

impl Drop for Entered {
    fn drop(&mut self) {
        CURRENT.set(self.0.take());
    }
}

impl Node {
    pub(crate) fn new(boot: u64, seed: u64) -> Rc<Self> {
        Rc::new(Self {
            boot,
            mono: Cell::default(),
            wall_us: Cell::default(),
            rng: RefCell::new(fastrand::Rng::with_seed(seed)),
            executor: RefCell::new(Some(Rc::new(LocalExecutor::new()))),
            timers: RefCell::default(),
            next_timer: Cell::default(),
        })
    }

    /// From now on this thread runs the node's code.
    pub(crate) fn enter(self: &Rc<Self>) -> Entered {
        Entered(CURRENT.replace(Some(self.clone())))
    }

    /// Sets both clocks. The monotonic one must not go back.
    pub(crate) fn set_clocks(&self, mono: Mono, wall_us: i64) {
        self.mono.set(self.mono.get().max(mono));
        self.wall_us.set(wall_us);
    }

    /// Wakes what waits for a time that has come, and polls one task. False if nothing is to be done.
    pub(crate) fn turn(self: &Rc<Self>) -> bool {
        let now = self.mono.get();
        while let Some(((at, id), waker)) = { self.timers.borrow_mut().pop_first() } {
            if at > now {
                self.timers.borrow_mut().insert((at, id), waker);
                break;
            }
            waker.wake();
        }
        let executor = self.executor.borrow().clone();
        executor.is_some_and(|executor| executor.try_tick())
    }

    /// When the next timer rings, by the node's own clock.
    pub(crate) fn next_timer(&self) -> Option<Mono> {
        self.timers.borrow().first_key_value().map(|((at, _), _)| *at)
    }

    /// The process is gone: every task is dropped where it stands.
    pub(crate) fn kill(self: &Rc<Self>) {
        let _entered = self.enter();
        drop(self.executor.take());
        self.timers.take();
    }

    pub(super) fn spawn<T: 'static>(&self, future: impl Future<Output = T> + 'static) -> super::Task<T> {
        let executor = self.executor.borrow().clone();
        // A process that is gone runs nothing.
        executor.unwrap_or_else(|| Rc::new(LocalExecutor::new())).spawn(future)
    }

    pub(super) fn now(&self) -> Mono {
        self.mono.get()
    }

    pub(super) fn wall_us(&self) -> i64 {
        self.wall_us.get()
    }

    pub(super) fn boot(&self) -> u64 {
        self.boot
    }

    pub(super) fn rng(&self) -> fastrand::Rng {
        self.rng.borrow_mut().fork()
    }

    pub(super) fn sleep_until(self: Rc<Self>, at: Mono) -> impl Future<Output = ()> {
        Sleep { node: self, at, id: None }
    }
}

thread_local! {
    static NEXT_TIMER: Cell<u64> = const { Cell::new(1 << 63) };
}

/// A timer of the node that is entered when it is polled: quinn's must be `Send`.
#[derive(Debug)]
pub(crate) struct Timer {
    at: Mono,
    /// No other timer of the thread has it.
    id: Option<u64>,
}

impl Timer {
    /// Rings at `at`.
    pub(crate) fn new(at: Mono) -> Self {
        Self { at, id: None }
    }

    /// Rings at `at` instead. To be polled again.
    pub(crate) fn reset(&mut self, at: Mono) {
        self.leave();
        self.at = at;
    }

    fn leave(&mut self) {
        if let Some(id) = self.id.take()
            && let Some(node) = node()
        {
            let waker = node.timers.borrow_mut().remove(&(self.at, id));
            drop(waker);
        }
    }
}

impl Future for Timer {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Some(node) = node() else { return Poll::Pending };
        if node.now() >= self.at {
            self.leave();
            return Poll::Ready(());
        }
        let id = *self.id.get_or_insert_with(|| NEXT_TIMER.replace(NEXT_TIMER.get() + 1));
        let before = node.timers.borrow_mut().insert((self.at, id), cx.waker().clone());
        drop(before);
        Poll::Pending
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.leave();
    }
}

struct Sleep {
    node: Rc<Node>,
    at: Mono,
    id: Option<u64>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.node.now() >= self.at {
            return Poll::Ready(());
        }
        let id = self.id.unwrap_or_else(|| self.node.next_timer.get());
        if self.id.is_none() {
            self.node.next_timer.set(id + 1);
            self.id = Some(id);
        }
        let at = self.at;
        self.node.timers.borrow_mut().insert((at, id), cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.node.timers.borrow_mut().remove(&(self.at, id));
        }
    }
}

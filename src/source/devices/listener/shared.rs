//! What the listener's tasks share, and the feeder between hub and engine.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use crate::link::Transport;
use crate::runtime::{Stop, mono_now, sleep, spawn};
use crate::sink::Claimed;
use crate::source::devices::admit::Admission;
use crate::source::devices::auth::{Denied, Identity};
use crate::source::devices::hub::{Hub, Mail};
use crate::source::{Claim, Outlet};
use crate::telemetry::gauge;

use super::checker::Checker;

/// What a connection's task is woken for.
pub(super) enum Letter {
    Mail(Mail),
    Checked(Result<Identity, Denied>),
    Claimed(Result<Claimed, String>),
    Stop,
}

/// Letters of one connection.
#[derive(Default)]
pub(super) struct Mailbox {
    letters: RefCell<VecDeque<Letter>>,
    waker: RefCell<Option<Waker>>,
}

impl Mailbox {
    pub(super) fn post(&self, letter: Letter) {
        self.letters.borrow_mut().push_back(letter);
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    pub(super) fn take(&self) -> Option<Letter> {
        self.letters.borrow_mut().pop_front()
    }

    /// Whether there is a letter; if not, `cx` is woken by the next.
    pub(super) fn poll_letter(&self, cx: &Context<'_>) -> bool {
        if !self.letters.borrow().is_empty() {
            return true;
        }
        self.waker.replace(Some(cx.waker().clone()));
        false
    }
}

pub(crate) struct Shared {
    pub(crate) hub: RefCell<Hub>,
    pub(crate) admission: RefCell<Admission>,
    pub(super) checker: Option<Checker>,
    /// Where sessions are claimed that other nodes know of.
    claims: Option<async_channel::Sender<Claim>>,
    pub(super) connect_timeout: Duration,
    /// Set when the listener is gone.
    pub(super) ended: Stop,
    boxes: RefCell<HashMap<u64, Rc<Mailbox>>>,
    next_id: Cell<u64>,
    /// By QUIC, TLS and TCP.
    connections: (Cell<usize>, Cell<usize>, Cell<usize>),
    stopping: Cell<bool>,
    /// Told when the hub may have work.
    work: (async_channel::Sender<()>, async_channel::Receiver<()>),
}

impl Shared {
    pub(super) fn new(
        hub: Hub,
        admission: Admission,
        checker: Option<Checker>,
        connect_timeout: Duration,
        ended: Stop,
    ) -> Self {
        Self {
            hub: RefCell::new(hub),
            admission: RefCell::new(admission),
            checker,
            claims: None,
            connect_timeout,
            ended,
            boxes: RefCell::default(),
            next_id: Cell::new(1),
            connections: Default::default(),
            stopping: Cell::new(false),
            work: async_channel::bounded(1),
        }
    }

    pub(super) fn with_claims(self, claims: Option<async_channel::Sender<Claim>>) -> Self {
        Self { claims, ..self }
    }

    /// Claims a session of `device`; the answer comes by mail.
    pub(super) fn claim(&self, device: Arc<str>, mailbox: Rc<Mailbox>) {
        let claims = self.claims.clone();
        spawn(async move {
            let (done, claimed) = async_channel::bounded(1);
            if let Some(claims) = claims {
                // Nobody listens any more when dts stops; then nobody answers either.
                claims.send(Claim { device, done }).await.ok();
            }
            let claimed = claimed.recv().await.unwrap_or_else(|_| Err("dts is stopping".to_owned()));
            mailbox.post(Letter::Claimed(claimed));
        })
        .detach();
    }

    /// A number and a mailbox for a new connection.
    pub(super) fn register(&self, transport: Transport) -> (u64, Rc<Mailbox>) {
        let id = self.next_id.get();
        self.next_id.set(id + 1);
        let mailbox = Rc::new(Mailbox::default());
        if self.stopping.get() {
            mailbox.post(Letter::Stop);
        }
        self.boxes.borrow_mut().insert(id, mailbox.clone());
        self.count_connections(transport, |n| n + 1);
        (id, mailbox)
    }

    pub(super) fn unregister(&self, id: u64, transport: Transport) {
        self.boxes.borrow_mut().remove(&id);
        self.count_connections(transport, |n| n.saturating_sub(1));
    }

    fn count_connections(&self, transport: Transport, change: impl Fn(usize) -> usize) {
        let counter = match transport {
            Transport::Quic => &self.connections.0,
            Transport::Tls => &self.connections.1,
            Transport::Tcp => &self.connections.2,
        };
        counter.set(change(counter.get()));
        gauge("dts_connections", &[("transport", transport.as_str())], counter.get() as f64);
    }

    /// Delivers the hub's mail and wakes the feeder. To be called after every call of the hub that
    /// can make either.
    pub(super) fn dispatch(&self) {
        loop {
            let mail = self.hub.borrow_mut().poll_mail();
            let Some((id, mail)) = mail else { break };
            // What is for a connection that is gone is for nobody.
            if let Some(mailbox) = self.boxes.borrow().get(&id) {
                mailbox.post(Letter::Mail(mail));
            }
        }
        // Full means that it is told already.
        self.work.0.try_send(()).ok();
    }

    /// Hands the hub's work to the engine, devices in turns, as its credit allows.
    pub(crate) async fn feed(self: Rc<Self>, outlet: Outlet) {
        loop {
            let work = self.hub.borrow_mut().poll_work();
            let Some(work) = work else {
                // Never closed: this task holds both ends.
                self.work.1.recv().await.ok();
                continue;
            };
            let receipt = outlet.submit_marked(work.batch, work.mark).await;
            let (shared, then) = (self.clone(), work.then);
            spawn(async move {
                let result = receipt.await;
                shared.hub.borrow_mut().resolved(then, result);
                shared.dispatch();
            })
            .detach();
        }
    }

    /// Tells every connection to stop, and waits until they did.
    pub(crate) async fn stop(&self, drain: Duration) {
        self.stopping.set(true);
        let until = mono_now() + drain;
        // What was taken is answered, if the sinks are in time.
        while self.hub.borrow().bytes() > 0 && mono_now() < until {
            sleep(Duration::from_millis(5)).await;
        }
        for mailbox in self.boxes.borrow().values() {
            mailbox.post(Letter::Stop);
        }
        let until = mono_now() + Duration::from_millis(200);
        while !self.boxes.borrow().is_empty() && mono_now() < until {
            sleep(Duration::from_millis(5)).await;
        }
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.get()
    }
}

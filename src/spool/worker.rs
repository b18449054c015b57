//! What the thread `sqlite` does: takes commands, joins appends into group commits, lets appends
//! wait at a full lane, does what is due. Sans-IO like the store: a simulation runs it on its own
//! clock.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use async_channel::Sender;

use super::error::SpoolError;
use super::handle::Released;
use super::inspect::Peeked;
use super::options::Class;
use super::queue::Commit;
use super::reconcile::{CentreView, Reconciled};
use super::stats::Stats;
use super::store::Store;
use super::stored::{StoredBatch, StoredId};
use crate::event::Batch;
use crate::planted::{self, Bug};
use crate::runtime::Mono;
use crate::source::Refused;

/// Bytes that wait for a commit after which it waits no longer.
const GROUP_BYTES: usize = 512 << 10;
/// Who was refused is offered to the store again after this time, if it did not free space before: a disk that failed
/// may work again, which nobody says.
const AGAIN: Duration = Duration::from_secs(1);
/// Longest wait for company, whatever the config says.
pub(super) const LINGER: Duration = Duration::from_millis(50);

/// Where an answer goes. Nobody may be waiting for it any more.
pub(super) struct Reply<T>(pub Sender<T>);

impl<T> Reply<T> {
    fn send(self, value: T) {
        // The channel holds one answer; the asker may be gone.
        self.0.try_send(value).ok();
    }
}

/// A lane by name, and how to answer.
pub(super) enum Command {
    Store(Arc<str>, Batch, Reply<Result<(), Refused>>),
    Read(Arc<str>, Option<StoredId>, usize, Reply<Result<Vec<StoredBatch>, SpoolError>>),
    Ack(Arc<str>, Vec<StoredId>, Reply<Result<(), SpoolError>>),
    Release(Arc<str>, Reply<Result<(), SpoolError>>),
    SetAside(StoredId, Box<str>, bool, Reply<Result<(), SpoolError>>),
    Reconcile(Arc<str>, CentreView, Reply<Result<Reconciled, SpoolError>>),
    Stats(Reply<Stats>),
    Peek(Option<Arc<str>>, usize, Reply<Result<Vec<Peeked>, SpoolError>>),
    LinkUp(bool),
    Sync(Reply<Result<(), SpoolError>>),
    Stop(Reply<Result<(), SpoolError>>),
}

struct Waiting {
    lane: Arc<str>,
    batch: Batch,
    reply: Reply<Result<(), Refused>>,
    /// Until when it waits at a full lane; `None` while it was not refused.
    until: Option<Mono>,
}

/// The store and what waits for it.
pub(super) struct Worker {
    store: Store,
    waiting: Vec<Waiting>,
    waiting_bytes: usize,
    commit_at: Option<Mono>,
    /// Lanes at which something waits for space.
    stuck: HashSet<Arc<str>>,
    /// `store.freed` when they were last tried.
    freed: u64,
    /// When they are tried again all the same.
    again_at: Mono,
    /// `store.revived` when they were last tried.
    revived: u64,
    /// `store.revived` when readers were last told.
    told: u64,
    changed: Sender<()>,
}

impl Worker {
    /// `changed` hears when there may be something new to read.
    pub(super) fn new(store: Store, changed: Sender<()>) -> Self {
        Self {
            store,
            waiting: Vec::new(),
            waiting_bytes: 0,
            commit_at: None,
            stuck: HashSet::new(),
            freed: 0,
            again_at: Mono(0),
            revived: 0,
            told: 0,
            changed,
        }
    }

    /// Executes one command. Breaks when it was the last: the store is closed.
    pub(super) fn handle(mut self, now: Mono, command: Command) -> ControlFlow<(), Self> {
        match command {
            Command::Store(lane, batch, reply) => self.take(now, lane, batch, reply),
            Command::Read(lane, after, max_bytes, reply) => {
                reply.send(self.store.read(now, &lane, after, max_bytes))
            }
            Command::Ack(lane, ids, reply) => reply.send(self.store.ack(now, &lane, &ids)),
            Command::Release(lane, reply) => reply.send(self.store.release(&lane)),
            Command::SetAside(id, reason, exact, reply) => {
                reply.send(self.store.set_aside(now, id, &reason, exact));
                self.tell();
            }
            Command::Reconcile(lane, view, reply) => {
                reply.send(self.store.reconcile(now, &lane, &view));
                self.tell();
            }
            Command::Stats(reply) => reply.send(self.store.stats(now)),
            Command::Peek(lane, limit, reply) => reply.send(self.store.peek(now, lane.as_deref(), limit)),
            Command::LinkUp(up) => self.store.link_up(now, up),
            Command::Sync(reply) => {
                self.commit_now(now);
                reply.send(self.store.sync(now));
            }
            Command::Stop(reply) => {
                self.commit_now(now);
                for w in self.waiting.drain(..) {
                    w.reply.send(Err(Refused::Stopping));
                }
                reply.send(self.store.close(now));
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(self)
    }

    pub(super) fn released(&self, lane: &str, ids: &[StoredId]) -> Vec<Released> {
        self.store.released(lane, ids)
    }

    pub(super) fn stats(&mut self, now: Mono) -> Stats {
        self.store.stats(now)
    }

    /// Does what is due.
    pub(super) fn run(&mut self, now: Mono) {
        self.store.tick(now);
        if std::mem::replace(&mut self.told, self.store.revived) != self.store.revived {
            // A commit that was not confirmed may have been found, or salvaged rows.
            self.tell();
        }
        let late = self.waiting.iter().any(|w| w.until.is_some_and(|at| now >= at));
        let freed = self.may_fit(now);
        if self.commit_at.is_some_and(|at| now >= at) || late || freed {
            self.commit_now(now);
        }
    }

    /// When [`Self::run`] has something to do next.
    pub(super) fn poll_timeout(&self, now: Mono) -> Mono {
        if self.may_fit(now) {
            return now;
        }
        let until = self.waiting.iter().filter_map(|w| w.until);
        let again = (!self.stuck.is_empty()).then_some(self.again_at);
        until.chain(self.commit_at).chain(again).fold(self.store.poll_timeout(), Mono::min)
    }

    /// The commit that stores wait for; `None` where none is due, or where one is refused for want of space: who comes then is
    /// heard at once.
    pub(super) fn commit(&self) -> Option<Commit> {
        let at = self.commit_at.filter(|_| self.stuck.is_empty())?;
        Some(Commit { at, room: GROUP_BYTES.saturating_sub(self.waiting_bytes) })
    }

    /// Whether what waits for space, or for a disk that works, is worth another try.
    fn may_fit(&self, now: Mono) -> bool {
        let tried = (self.freed, self.revived);
        !self.stuck.is_empty() && (tried != (self.store.freed, self.store.revived) || now >= self.again_at)
    }

    fn take(&mut self, now: Mono, lane: Arc<str>, batch: Batch, reply: Reply<Result<(), Refused>>) {
        let options = self.store.lane_index(&lane).and_then(|i| self.store.lanes.get(i)).map(|l| &l.options);
        let linger = options.map_or(Duration::ZERO, |o| match o.class {
            Class::Fsync => o.commit_interval.min(LINGER),
            // Nothing is gained by waiting for a commit that will not come.
            Class::Delayed | Class::Ram => Duration::ZERO,
        });
        if options.is_some_and(|o| o.class != Class::Fsync) && !self.stuck.contains(&lane) {
            // No commit is waited for. Only who is refused for want of space waits.
            let item = [(lane, batch)];
            let revived = self.store.revived;
            let verdict = self.store.append(now, &item).pop().unwrap_or(Err(Refused::Stopping));
            if !matches!(verdict, Err(Refused::Busy(_))) {
                reply.send(verdict);
                return self.tell();
            }
            let [(lane, batch)] = item;
            self.park(now, lane, batch, reply);
            self.revived = revived;
            return;
        }
        // Behind one that waits for space there is nothing to hurry for.
        if self.stuck.contains(&lane) {
            return self.park(now, lane, batch, reply);
        }
        if planted::on(Bug::AckBeforeCommit) {
            reply.0.try_send(Ok(())).ok();
        }
        self.waiting_bytes += batch.body.len();
        let urgent = linger.is_zero() || self.waiting_bytes >= GROUP_BYTES;
        let at = if urgent { now } else { now + linger };
        self.commit_at = Some(self.commit_at.map_or(at, |due| due.min(at)));
        self.waiting.push(Waiting { lane, batch, reply, until: None });
    }

    /// Lets a batch wait for space.
    fn park(&mut self, now: Mono, lane: Arc<str>, batch: Batch, reply: Reply<Result<(), Refused>>) {
        if self.stuck.insert(lane.clone()) {
            self.freed = self.store.freed;
            self.revived = self.store.revived;
            self.again_at = now + AGAIN;
        }
        let until = Some(now + self.store.options.block_wait);
        self.waiting.push(Waiting { lane, batch, reply, until });
    }

    /// Offers everything that waits to the store. Who is refused for want of space waits on, in order,
    /// until its time is up.
    fn commit_now(&mut self, now: Mono) {
        self.commit_at = None;
        self.waiting_bytes = 0;
        self.stuck.clear();
        if self.waiting.is_empty() {
            return;
        }
        let items: Vec<(Arc<str>, Batch)> =
            self.waiting.iter().map(|w| (w.lane.clone(), w.batch.clone())).collect();
        // A file that was opened anew on the way may take them at once.
        self.revived = self.store.revived;
        let verdicts = self.store.append(now, &items);
        self.freed = self.store.freed;
        self.again_at = now + AGAIN;
        let wait = self.store.options.block_wait;
        let mut stored = false;
        for (mut w, verdict) in std::mem::take(&mut self.waiting).into_iter().zip(verdicts) {
            let until = *w.until.get_or_insert(now + wait);
            match verdict {
                Err(Refused::Busy(_)) if now < until && self.store.lane_index(&w.lane).is_some() => {
                    self.stuck.insert(w.lane.clone());
                    self.waiting.push(w);
                }
                verdict => {
                    stored |= verdict.is_ok();
                    w.reply.send(verdict);
                }
            }
        }
        for w in &mut self.waiting {
            w.until.get_or_insert(now + wait);
        }
        if stored {
            self.tell();
        }
    }

    /// There may be something new to read.
    fn tell(&self) {
        // Full: it is told already.
        self.changed.try_send(()).ok();
    }
}

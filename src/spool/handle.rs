//! The handle to the thread `sqlite`.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc;

use async_channel::Receiver;

use super::error::SpoolError;
use super::inspect::Peeked;
use super::options::{Class, LaneOptions, Options};
use super::queue::{self, Next};
use super::reconcile::{CentreView, Reconciled};
use super::stats::Stats;
use super::store::{Epochs, Opened, Store};
use super::stored::{StoredBatch, StoredId};
use super::worker::{Command, LINGER, Reply, Worker};
use crate::event::Batch;
use crate::runtime::{Mono, mono_now};
use crate::source::Refused;

/// The thread's stack. SQLite's own need is below 64 KiB; only touched pages count.
const STACK: usize = 256 << 10;

/// Commands executed before what is due is done.
const TURNS: u32 = 256;

/// A handle to the spool. Cheap to clone; stays on the thread that made it.
#[derive(Clone)]
pub struct Spool {
    send: Rc<dyn Fn(Command) -> bool>,
    changed: Receiver<()>,
    lanes: Arc<[LaneOptions]>,
}

impl std::fmt::Debug for Spool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Spool").field("lanes", &self.lanes.len()).finish()
    }
}

impl Spool {
    /// Opens the store on a thread of its own, named `sqlite`, and waits until it is open.
    ///
    /// `epochs` is called on that thread.
    pub fn start(options: Options, epochs: Epochs) -> Result<(Self, Opened), SpoolError> {
        let (tx, rx) = queue::channel();
        let (changed_tx, changed) = async_channel::bounded(1);
        let (opened_tx, opened_rx) = mpsc::sync_channel(1);
        let dir = options.dir.clone();
        std::thread::Builder::new()
            .name("sqlite".into())
            .stack_size(STACK)
            .spawn(move || match Store::open(options, epochs, mono_now()) {
                Ok((store, opened)) => {
                    let lanes = lane_options(&store);
                    if opened_tx.send(Ok((opened, lanes))).is_ok() {
                        drive(Worker::new(store, changed_tx), &rx);
                    }
                }
                Err(e) => {
                    // Whoever started it waits for this answer.
                    opened_tx.send(Err(e)).ok();
                }
            })
            .map_err(|error| SpoolError::Folder { what: "cannot start a thread for", path: dir, error })?;
        let (opened, lanes) = opened_rx.recv().map_err(|_| SpoolError::Stopped)??;
        let of_lanes = lanes.clone();
        let send = Rc::new(move |command| {
            let joins = joins(&command, &of_lanes);
            tx.send(command, joins)
        });
        Ok((Self { send, changed, lanes }, opened))
    }

    async fn ask<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Option<T> {
        let (tx, rx) = async_channel::bounded(1);
        if !(self.send)(command(Reply(tx))) {
            return None;
        }
        rx.recv().await.ok()
    }

    /// Stores `batch`; resolves when the lane's class is met. Many callers share a commit. At a full
    /// lane with the policy `block`, and while the disk is full or broken, it waits for
    /// [`Options::block_wait`] before it says [`Refused::Busy`].
    ///
    /// Batches of one lane are stored in the order of the calls. A cancelled call stores or does not.
    pub async fn store(&self, lane: &str, batch: Batch) -> Result<(), Refused> {
        self.ask(|reply| Command::Store(lane.into(), batch, reply)).await.unwrap_or(Err(Refused::Stopping))
    }

    /// As [`Store::read`].
    pub async fn read(
        &self,
        lane: &str,
        after: Option<StoredId>,
        max_bytes: usize,
    ) -> Result<Vec<StoredBatch>, SpoolError> {
        let answer = self.ask(|reply| Command::Read(lane.into(), after, max_bytes, reply)).await;
        answer.unwrap_or(Err(SpoolError::Stopped))
    }

    /// These batches are durable at the centre. Resolves when the store knows it, which is not yet on
    /// disk: after a crash they may be read again.
    pub async fn ack(&self, lane: &str, ids: Vec<StoredId>) -> Result<(), SpoolError> {
        let answer = self.ask(|reply| Command::Ack(lane.into(), ids, reply)).await;
        answer.unwrap_or(Err(SpoolError::Stopped))
    }

    /// The connection is gone: nothing of the lane is in the window.
    pub async fn release(&self, lane: &str) -> Result<(), SpoolError> {
        let answer = self.ask(|reply| Command::Release(lane.into(), reply)).await;
        answer.unwrap_or(Err(SpoolError::Stopped))
    }

    /// The centre refused this batch for good. It is kept aside for people (the newest few), and a loss
    /// record takes its place; `exact`: none of its rows arrived.
    pub async fn set_aside(&self, id: StoredId, reason: &str, exact: bool) -> Result<(), SpoolError> {
        let answer = self.ask(|reply| Command::SetAside(id, reason.into(), exact, reply)).await;
        answer.unwrap_or(Err(SpoolError::Stopped))
    }

    /// As [`Store::reconcile`].
    pub async fn reconcile(&self, lane: &str, centre: CentreView) -> Result<Reconciled, SpoolError> {
        let answer = self.ask(|reply| Command::Reconcile(lane.into(), centre, reply)).await;
        answer.unwrap_or(Err(SpoolError::Stopped))
    }

    /// All lanes with what they promise, those that are only drained included. Constant.
    pub fn lanes(&self) -> &[LaneOptions] {
        &self.lanes
    }

    /// Numbers.
    pub async fn stats(&self) -> Result<Stats, SpoolError> {
        self.ask(Command::Stats).await.ok_or(SpoolError::Stopped)
    }

    /// The first `limit` rows of a lane, or of each lane, as dts would send them; the window and what
    /// is acknowledged do not change.
    pub async fn peek(&self, lane: Option<&str>, limit: usize) -> Result<Vec<Peeked>, SpoolError> {
        let answer = self.ask(|reply| Command::Peek(lane.map(Into::into), limit, reply)).await;
        answer.unwrap_or(Err(SpoolError::Stopped))
    }

    /// Says whether the link is up and acknowledgements come: `Ram` lanes go to disk while not.
    pub fn link_up(&self, up: bool) {
        (self.send)(Command::LinkUp(up));
    }

    /// Writes what is in memory to disk.
    pub async fn sync(&self) -> Result<(), SpoolError> {
        self.ask(Command::Sync).await.unwrap_or(Err(SpoolError::Stopped))
    }

    /// Waits until there may be something new to read. What came since the last call counts, so: read
    /// until nothing comes, then wait. One waiter at a time is woken. Cancel safe. Never resolves
    /// after [`Self::stop`].
    pub async fn changed(&self) {
        if self.changed.recv().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Stores what waits, writes the memory out, closes the file. Later calls answer
    /// [`SpoolError::Stopped`].
    pub async fn stop(&self) -> Result<(), SpoolError> {
        self.ask(Command::Stop).await.unwrap_or(Err(SpoolError::Stopped))
    }
}

fn lane_options(store: &Store) -> Arc<[LaneOptions]> {
    store.lanes.iter().map(|l| l.options.clone()).collect()
}

/// Until when a store waits for a commit, and its bytes; `None` for what wants to be done at once.
fn joins(command: &Command, lanes: &[LaneOptions]) -> Option<(Mono, usize)> {
    let Command::Store(name, batch, _) = command else { return None };
    let lane = lanes.iter().find(|l| l.name == *name && l.class == Class::Fsync)?;
    Some((mono_now() + lane.commit_interval.min(LINGER), batch.bytes()))
}

/// The thread's loop: a command, and all that wait behind it, then what is due.
fn drive(mut worker: Worker, commands: &queue::Receiver) {
    loop {
        let now = mono_now();
        let wait = worker.poll_timeout(now).since(now);
        let mut next = match commands.next(wait, worker.commit()) {
            Next::Command(command) => Some(command),
            Next::Timeout => None,
            // As if stopped.
            Next::Closed => {
                let (tx, _rx) = async_channel::bounded(1);
                Some(Command::Stop(Reply(tx)))
            }
        };
        // What is due is due, however many ask.
        let mut turns = TURNS;
        while let Some(command) = next {
            worker = match worker.handle(mono_now(), command) {
                std::ops::ControlFlow::Continue(worker) => worker,
                std::ops::ControlFlow::Break(()) => return,
            };
            turns -= 1;
            next = if turns > 0 { commands.try_next() } else { None };
        }
        worker.run(mono_now());
    }
}

/// For a simulation: the same handle without a thread. Commands are executed by whoever calls
/// [`LocalSpool::run`], on a clock of its own.
pub struct LocalSpool {
    worker: Option<Worker>,
    commands: mpsc::Receiver<Command>,
    /// Taken from the channel to see whether there is one.
    next: Option<Command>,
    released: Vec<Released>,
}

/// A batch that was acknowledged to the spool: what a simulation compares with the centre.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Released {
    /// Name of its lane.
    pub lane: Arc<str>,
    /// Its epoch.
    pub epoch: u64,
    /// First sequence number.
    pub first_seq: u64,
    /// Last sequence number, inclusive.
    pub last_seq: u64,
    /// Its rows, which may be fewer after a compaction.
    pub rows: u32,
}

impl std::fmt::Debug for LocalSpool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LocalSpool").field("stopped", &self.worker.is_none()).finish()
    }
}

impl LocalSpool {
    /// Takes an open store, and makes a handle to it.
    pub fn new(store: Store) -> (Spool, Self) {
        let (tx, commands) = mpsc::channel();
        let (changed_tx, changed) = async_channel::bounded(1);
        let lanes = lane_options(&store);
        let spool = Spool { send: Rc::new(move |command| tx.send(command).is_ok()), changed, lanes };
        (
            spool,
            Self { worker: Some(Worker::new(store, changed_tx)), commands, next: None, released: Vec::new() },
        )
    }

    /// Whether a command waits.
    pub fn is_asked(&mut self) -> bool {
        self.next = self.next.take().or_else(|| self.commands.try_recv().ok());
        self.next.is_some()
    }

    /// What was acknowledged since the last call.
    pub fn take_released(&mut self) -> Vec<Released> {
        std::mem::take(&mut self.released)
    }

    /// As [`Spool::stats`], at once; `None` once it is stopped.
    pub fn stats(&mut self, now: Mono) -> Option<Stats> {
        self.worker.as_mut().map(|worker| worker.stats(now))
    }

    /// Executes every command that waits, and what is due. Returns when it wants to be called again
    /// at the latest; `None` once it is stopped.
    pub fn run(&mut self, now: Mono) -> Option<Mono> {
        while let Some(command) = self.next.take().or_else(|| self.commands.try_recv().ok()) {
            let worker = self.worker.take()?;
            if let Command::Ack(lane, ids, _) = &command {
                self.released.extend(worker.released(lane, ids));
            }
            self.worker = match worker.handle(now, command) {
                std::ops::ControlFlow::Continue(worker) => Some(worker),
                std::ops::ControlFlow::Break(()) => None,
            };
        }
        let worker = self.worker.as_mut()?;
        worker.run(now);
        Some(worker.poll_timeout(now))
    }
}

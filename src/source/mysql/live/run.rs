//! Hands batches on, and moves the checkpoint behind their receipts.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use async_channel::{Receiver, Sender};

use super::config::{Config, Snapshots, Start};
use super::core::{Core, Limits, Out};
use super::error::LiveError;
use super::filter::Filter;
use super::place::{GtidState, Mark};
use super::thread::{self, Message, Setup};
use crate::checkpoint::sqlite::Store;
use crate::checkpoint::{Checkpoint, VERSION};
use crate::runtime::{self, Stop};
use crate::source::mysql::client::Wake;
use crate::source::mysql::snapshot::{self, Made, Shared};
use crate::source::mysql::tables::Entry;
use crate::source::{Outlet, Receipt, Refused, SourceError};

/// Batches that wait between the thread and the pipeline.
const QUEUE: usize = 8;
/// How often the position is told where no rows are.
const MARK_INTERVAL: Duration = Duration::from_secs(5);
/// How often metrics say where the source is.
const SHOW_INTERVAL: Duration = Duration::from_secs(5);
/// How often a lag that comes near the server's retention is warned about.
const WARN_INTERVAL: Duration = Duration::from_secs(600);
/// How often it is looked whether everything is durable.
const LOOK: Duration = Duration::from_millis(20);
/// Longest wait for receipts at the end.
const LAST_WAIT: Duration = Duration::from_millis(900);

/// What is to be stored.
enum Keep {
    /// Number of the first, and the entries.
    Schemas(u64, Vec<String>),
    Position(Checkpoint),
    /// Where everything begins; said when it is durable.
    First(Checkpoint, Sender<()>),
    /// Nothing: the next start begins anew.
    Nothing,
}

/// What is reached behind a receipt.
enum Reached {
    Mark(Mark),
    Snapshot(snapshot::Progress),
}

/// What is durable everywhere.
#[derive(Default)]
struct Progress {
    checkpoint: Checkpoint,
    gtids: GtidState,
    is_dirty: bool,
    /// A place is known; before there is nothing to store.
    has_place: bool,
    /// The source ends behind its snapshot.
    ends: bool,
    /// How long the server keeps a file, in seconds; 0 for ever.
    kept_s: u64,
    /// Nothing more had come from the server.
    is_current: bool,
    /// Where everything begins is not stored yet.
    is_new: bool,
    refused: Option<Refused>,
}

impl Progress {
    fn reach(&mut self, mark: Mark) {
        if let Some(base) = mark.base {
            self.gtids = base;
        }
        mark.gtids.iter().for_each(|gtid| self.gtids.add(gtid));
        let checkpoint = &mut self.checkpoint;
        checkpoint.file = mark.file.to_string();
        checkpoint.pos = mark.pos;
        checkpoint.partial = mark.partial.map(|gtid| gtid.to_string());
        checkpoint.schemas = mark.schemas;
        checkpoint.ts_ms = mark.ts_ms;
        self.is_current = mark.is_current;
        self.is_dirty = true;
        self.has_place = true;
    }

    fn snapshot(&mut self, progress: snapshot::Progress) {
        self.checkpoint.snapshot = Some(progress);
        self.is_dirty = true;
    }

    fn has_snapshot(&self) -> bool {
        self.checkpoint.snapshot.as_ref().is_some_and(snapshot::Progress::is_done)
    }

    /// What to store, if it is not stored yet.
    fn take(&mut self) -> Option<Checkpoint> {
        if !self.has_place || !std::mem::take(&mut self.is_dirty) {
            return None;
        }
        Some(Checkpoint { version: VERSION, gtids: self.gtids.text(), ..self.checkpoint.clone() })
    }
}

fn fatal(error: impl std::fmt::Display) -> SourceError {
    SourceError::Fatal(error.to_string())
}

/// Runs the source.
pub(super) async fn run(config: Config, name: String, outlet: Outlet, stop: Stop) -> Result<(), SourceError> {
    let dir = outlet.state_dir.clone().ok_or_else(|| fatal("`mysql-binlog` keeps its own position and cannot fill a buffer: leave `buffer` out, and ship by another sink"))?;
    let start = Start::parse(&config.start).ok_or_else(|| fatal("`start` cannot be read"))?;
    let filter = Filter::new(&config.include_tables, &config.exclude_tables).map_err(fatal)?;
    let mut store = Store::open(&dir.join("checkpoint.db"), &name).map_err(fatal)?;
    let checkpoint = store.load().map_err(fatal)?;
    let kept =
        store.history(checkpoint.as_ref().map_or(0, |checkpoint| checkpoint.schemas)).map_err(fatal)?;
    let history: Result<Vec<Entry>, _> = kept.iter().map(|body| serde_json::from_str(body)).collect();
    let history = history.map_err(|error| fatal(format!("the schema history cannot be read: {error}")))?;

    let limits = Limits {
        batch_bytes: usize::try_from(config.batch_bytes.0).unwrap_or(usize::MAX),
        max_row_bytes: usize::try_from(config.max_row_bytes.0).unwrap_or(usize::MAX),
        max_xa_bytes: usize::try_from(config.max_xa_bytes.0).unwrap_or(usize::MAX),
        mark_interval: MARK_INTERVAL,
    };
    let mut progress = Progress::default();
    let mut schemas = 0;
    if let Some(found) = &checkpoint {
        progress.checkpoint = found.clone();
        progress.has_place = true;
        schemas = found.schemas;
        // MariaDB's look otherwise.
        progress.gtids = match &found.gtids {
            None => GtidState::None,
            Some(text) => match text.parse() {
                Ok(set) if text.contains(':') || text.is_empty() && !found.server.is_empty() => {
                    GtidState::MySql(set)
                }
                _ => GtidState::MariaDb(text.parse().map_err(fatal)?),
            },
        };
    }
    let mode = config.snapshot;
    let is_resumed = checkpoint.is_some();
    let snapshot = match (mode, is_resumed) {
        (Snapshots::Never, _) => None,
        (_, true) => progress.checkpoint.snapshot.clone(),
        (_, false) => Some(snapshot::Progress::new(format!("{:x}", runtime::wall_now_us()))),
    };
    progress.checkpoint.snapshot.clone_from(&snapshot);
    if mode == Snapshots::Only && (progress.has_snapshot() || is_resumed && snapshot.is_none()) {
        log::info!("source `{name}`: the snapshot was complete before; nothing is left to do");
        return Ok(());
    }
    let snapshot = snapshot.filter(|snapshot| !snapshot.is_done());
    let shared = Arc::new(Shared::new(snapshot.is_some()));
    let progress = Rc::new(RefCell::new(progress));
    let interval = config.checkpoint_interval;
    let (waker, wake) = Wake::new().map_err(fatal)?;
    let (tx, messages) = async_channel::bounded(QUEUE);
    let (ended_tx, ended) = async_channel::bounded(1);
    if let Some(snapshot) = snapshot {
        let wanted = filter.clone();
        let job = snapshot::Job {
            dsn: config.dsn.clone(),
            source: outlet.source.clone(),
            shared: shared.clone(),
            progress: snapshot,
            is_resumed,
            wants: Box::new(move |db, table| wanted.wants(db, table)),
            batch_bytes: limits.batch_bytes,
            max_row_bytes: limits.max_row_bytes,
        };
        let (tx, wake) = (tx.clone(), wake.clone());
        let spawned = std::thread::Builder::new().name("mysql-snap".into()).spawn(move || {
            let send = |made| tx.send_blocking(Message::Snapshot(made)).is_ok();
            if let Err(why) = snapshot::run(job, &wake, &send) {
                tx.send_blocking(Message::SnapshotFailed(why)).ok();
            }
        });
        spawned.map_err(|error| SourceError::Retry(format!("start a thread: {error}")))?;
    }
    let temp_dir = dir.to_path_buf();
    let setup = Setup { config, name: name.clone(), filter, start, checkpoint, history, temp_dir, shared };
    let source = outlet.source.clone();
    let spawned = std::thread::Builder::new().name("mysql".into()).spawn(move || {
        let on_unlogged = setup.config.on_unlogged_change;
        let core = Core::new(source, setup.filter.clone(), limits, on_unlogged, super::core::Read::default());
        let out = tx.clone();
        ended_tx.send_blocking(thread::run(setup, core, tx, wake)).ok();
        // The snapshot's thread has an end of it too.
        out.close();
    });
    spawned.map_err(|error| SourceError::Retry(format!("start a thread: {error}")))?;

    let (keep, kept) = keeper(store);
    let (receipts, waiting) = async_channel::unbounded();
    let reached = runtime::spawn(follow_receipts(waiting, progress.clone()));
    let saver = runtime::spawn(save(progress.clone(), keep.clone(), interval, name.clone()));
    progress.borrow_mut().ends = mode == Snapshots::Only;
    progress.borrow_mut().is_new = !is_resumed;
    let taken = take(&outlet, &stop, &messages, &receipts, &keep, &progress, schemas).await;
    // The thread ends when nobody takes what it has.
    messages.close();
    drop((waker, receipts));
    let gone = runtime::timeout(LAST_WAIT, reached).await;
    drop(saver);
    if gone.is_none() {
        log::info!("source `{name}`: stopped before the sinks had everything; it comes again");
    }
    let last = progress.borrow_mut().take();
    let over = ended.try_recv().ok();
    let begins_anew = mode == Snapshots::WhenNeeded && matches!(over, Some(Err(LiveError::Position(_))));
    if begins_anew {
        keep.send(Keep::Nothing).await.ok();
    } else if let Some(checkpoint) = last {
        keep.send(Keep::Position(checkpoint)).await.ok();
    }
    drop(keep);
    // Durable before we are gone.
    let stored = kept.recv().await.unwrap_or(Ok(()));
    taken?;
    stored.map_err(SourceError::Retry)?;
    let refused = progress.borrow_mut().refused.take();
    match refused {
        Some(Refused::TooLarge { bytes, max }) => {
            return Err(fatal(format!("a row of {bytes} bytes is larger than can be taken ({max})")));
        }
        Some(refused) if !stop.is_set() => return Err(SourceError::Retry(refused.to_string())),
        _ => {}
    }
    if stop.is_set() {
        return Ok(());
    }
    let over = match over {
        Some(over) => Ok(over),
        None => ended.recv().await,
    };
    match over {
        Ok(Err(error)) if begins_anew => {
            Err(SourceError::Retry(format!("{error}. By `snapshot: when_needed` everything is read anew")))
        }
        Ok(Err(error)) if error.is_retriable() && !matches!(error, LiveError::Clash(_)) => {
            Err(SourceError::Retry(error.to_string()))
        }
        Ok(Err(error)) => Err(fatal(error)),
        Ok(Ok(())) => Ok(()),
        Err(_) => Err(SourceError::Retry("the thread `mysql` ended".into())),
    }
}

/// Takes what the thread has until it ends, or dts stops, or the sinks refuse.
async fn take(
    outlet: &Outlet,
    stop: &Stop,
    messages: &Receiver<Message>,
    receipts: &Sender<(Option<Receipt>, Option<Reached>)>,
    keep: &Sender<Keep>,
    progress: &Rc<RefCell<Progress>>,
    mut schemas: u64,
) -> Result<(), SourceError> {
    loop {
        let Some(message) = stop.or(messages.recv()).await else { return Ok(()) };
        let Ok(message) = message else { return Ok(()) };
        let sent = match message {
            Message::Server(server, kept_s) => {
                let mut progress = progress.borrow_mut();
                progress.checkpoint.server = server;
                progress.kept_s = kept_s;
                true
            }
            Message::Out(Out::Schema(entries)) => {
                let bodies: Result<Vec<_>, _> = entries.iter().map(serde_json::to_string).collect();
                let bodies = bodies.map_err(fatal)?;
                let first = schemas;
                schemas += bodies.len() as u64;
                keep.send(Keep::Schemas(first, bodies)).await.is_ok()
            }
            // Nothing is handed on before it is durable where that began: a restart would begin behind it.
            Message::Out(Out::Mark(mark)) if progress.borrow().is_new => {
                progress.borrow_mut().is_new = false;
                progress.borrow_mut().reach(mark);
                let (done, saved) = async_channel::bounded(1);
                let first = progress.borrow_mut().take();
                match first {
                    Some(first) => {
                        keep.send(Keep::First(first, done)).await.is_ok() && saved.recv().await.is_ok()
                    }
                    None => true,
                }
            }
            Message::Out(Out::Mark(mark)) => receipts.send((None, Some(Reached::Mark(mark)))).await.is_ok(),
            Message::Out(Out::Batch(batch, mark)) => {
                let Some(receipt) = stop.or(outlet.submit(batch)).await else { return Ok(()) };
                receipts.send((Some(receipt), mark.map(Reached::Mark))).await.is_ok()
            }
            Message::Snapshot(Made::Rows(batch)) => {
                let Some(receipt) = stop.or(outlet.submit(batch)).await else { return Ok(()) };
                receipts.send((Some(receipt), None)).await.is_ok()
            }
            Message::Snapshot(Made::Reached(reached)) => {
                let is_last = progress.borrow().ends && reached.is_done();
                let sent = receipts.send((None, Some(Reached::Snapshot(reached)))).await.is_ok();
                while is_last && !progress.borrow().has_snapshot() && progress.borrow().refused.is_none() {
                    if stop.or(runtime::sleep(LOOK)).await.is_none() {
                        break;
                    }
                }
                if is_last {
                    return Ok(());
                }
                sent
            }
            Message::SnapshotFailed(why) => return Err(fatal(format!("snapshot: {why}"))),
        };
        // A store that failed says so at the end; a batch that was refused is in the progress.
        if !sent || progress.borrow().refused.is_some() {
            return Ok(());
        }
    }
}

/// Moves the progress behind each receipt, in order.
async fn follow_receipts(
    waiting: Receiver<(Option<Receipt>, Option<Reached>)>,
    progress: Rc<RefCell<Progress>>,
) {
    while let Ok((receipt, mark)) = waiting.recv().await {
        if let Some(receipt) = receipt
            && let Err(refused) = receipt.await
        {
            progress.borrow_mut().refused = Some(refused);
            // Nothing behind it counts.
            waiting.close();
            return;
        }
        match mark {
            Some(Reached::Mark(mark)) => progress.borrow_mut().reach(mark),
            Some(Reached::Snapshot(reached)) => progress.borrow_mut().snapshot(reached),
            None => {}
        }
    }
}

async fn save(progress: Rc<RefCell<Progress>>, keep: Sender<Keep>, interval: Duration, source: String) {
    let (mut shown, mut warned) = (None, None);
    loop {
        runtime::sleep(interval).await;
        let now = runtime::mono_now();
        if shown.is_none_or(|shown| now.since(shown) >= SHOW_INTERVAL) {
            shown = Some(now);
            let is_low = show(&progress.borrow(), &source);
            if is_low && warned.is_none_or(|warned| now.since(warned) >= WARN_INTERVAL) {
                warned = Some(now);
                log::warn!(
                    "source `{source}`: the server keeps its binlog for not much longer than dts lags behind; make the \
                     sinks faster, or the retention longer"
                );
            }
        }
        let next = progress.borrow_mut().take();
        if let Some(checkpoint) = next
            && keep.send(Keep::Position(checkpoint)).await.is_err()
        {
            return;
        }
    }
}

/// Shows how far behind the source is, and how long the server keeps what it has not delivered. Whether that is little.
fn show(progress: &Progress, source: &str) -> bool {
    if progress.checkpoint.ts_ms == 0 {
        return false;
    }
    let behind = runtime::wall_now_us() as f64 / 1e6 - progress.checkpoint.ts_ms as f64 / 1e3;
    let behind = if progress.is_current { 0.0 } else { behind.max(0.0) };
    crate::telemetry::gauge("dts_mysql_lag_seconds", &[("source", source)], behind);
    if progress.kept_s == 0 {
        return false;
    }
    let kept = progress.kept_s as f64;
    crate::telemetry::gauge("dts_binlog_headroom_seconds", &[("source", source)], kept - behind);
    behind > kept * 0.75
}

/// The thread `checkpoint`; what it ended with comes when the sender is dropped.
fn keeper(mut store: Store) -> (Sender<Keep>, Receiver<Result<(), String>>) {
    let (tx, rx) = async_channel::bounded::<Keep>(8);
    let (done_tx, done) = async_channel::bounded(1);
    let spawned = std::thread::Builder::new().name("checkpoint".into()).spawn(move || {
        let mut result = Ok(());
        while let Ok(keep) = rx.recv_blocking() {
            result = match keep {
                Keep::Schemas(first, entries) => store.append(first, &entries),
                Keep::Position(checkpoint) => store.save(&checkpoint),
                Keep::First(checkpoint, done) => {
                    let saved = store.save(&checkpoint);
                    // Else it is dropped, which says enough.
                    if saved.is_ok() {
                        done.send_blocking(()).ok();
                    }
                    saved
                }
                Keep::Nothing => store.reset(),
            };
            if result.is_err() {
                break;
            }
        }
        // So that nobody goes on without it.
        rx.close();
        done_tx.send_blocking(result.map_err(|error| error.to_string())).ok();
    });
    if let Err(error) = spawned {
        log::error!("start the thread `checkpoint`: {error}");
    }
    (tx, done)
}

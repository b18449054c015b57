//! Where changes come from. One folder a source.
//!
//! A source reads, builds a [`Batch`] and hands it to its [`Outlet`]; the [`Receipt`] tells when it
//! is safe to forget what was read (an input of the device: when the durability class of its lane
//! is met; the centre's listener: when every sink has it durably).

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::clock::Stamp;
use crate::event::Batch;
use crate::runtime::{LocalFuture, Stop};
use crate::sink::{Claimed, Mark};

#[cfg(feature = "source-devices")]
pub mod devices;
#[cfg(feature = "source-exec")]
pub mod exec;
#[cfg(feature = "source-file")]
pub mod file;
#[cfg(feature = "source-http")]
pub mod http;
#[cfg(any(feature = "source-exec", feature = "source-file", feature = "source-stdin"))]
mod lines;
#[cfg(feature = "source-mqtt")]
pub mod mqtt;
#[cfg(feature = "mysql-binlog")]
pub mod mysql;
#[cfg(feature = "source-sqlite")]
pub mod sqlite;
#[cfg(feature = "source-stdin")]
pub mod stdin;

/// A source as its config says, checked and not yet open.
pub trait SourceConfig: std::fmt::Debug {
    /// What is wrong with its fields together; the message says what to do. `dts check` shows it at
    /// the place of the whole section.
    fn mistake(&self) -> Option<String> {
        None
    }

    /// Makes the source. Opens nothing that another process could notice; [`Source::run`] does.
    fn build(&self, name: &str) -> Result<Box<dyn Source>, SourceError>;

    /// Its own type, for commands that need its section.
    fn as_any(&self) -> Option<&(dyn std::any::Any + 'static)> {
        None
    }

    /// Whether other nodes take the same devices at the same time, so that the sink must be one that they
    /// share ([`crate::sink::SinkConfig::shares_state`]).
    fn has_other_nodes(&self) -> bool {
        false
    }

    /// Whether a spool must stand behind it, because what it read cannot be read again.
    fn needs_buffer(&self) -> bool {
        true
    }
}

/// A source that is configured and ready to run.
pub trait Source {
    /// Reads until `stop`, or until it has nothing more to read for good (standard input).
    ///
    /// After `stop` it takes nothing new, waits for the receipts it holds and ends within a second.
    fn run(self: Box<Self>, outlet: Outlet, stop: Stop) -> LocalFuture<'static, Result<(), SourceError>>;

    /// Tries what [`Self::run`] would need (open the file, bind the port, reach the broker) and
    /// says in one line what it found. For `dts check --connect`.
    fn probe(&self) -> LocalFuture<'_, Result<String, SourceError>>;
}

/// What ends a source.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// Cannot go on without a change by the user; the message says which.
    #[error("{0}")]
    Fatal(String),
    /// Worth another try after a pause; the engine restarts the source with back-off.
    #[error("{0}")]
    Retry(String),
}

/// Why a batch was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Larger than any frame can be: reject it at the input (HTTP 413).
    #[error("a row of {bytes} bytes does not fit a frame of {max} bytes")]
    TooLarge {
        /// Bytes of the row.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// Not stored now: full disk, or a full buffer with the policy `block`. Try again later.
    #[error("{0}")]
    Busy(String),
    /// A newer session of the device writes, here or at another node; nothing was stored.
    #[error("a newer connection of the device took over")]
    TakenOver,
    /// dts is stopping; nothing was stored.
    #[error("dts is stopping")]
    Stopping,
}

/// Asks the sink for a session of a device ([`crate::sink::Sink::claim`]).
#[derive(Debug)]
pub struct Claim {
    /// The device.
    pub device: Arc<str>,
    /// Takes the answer; the error is for people.
    pub done: async_channel::Sender<Result<Claimed, String>>,
}

/// A batch on its way, and where to say what became of it.
#[derive(Debug)]
pub struct Submission {
    /// Name of the source in the config. A batch's own `source` is a device's word.
    pub source: Arc<str>,
    /// The lane that the source is configured for (devices' batches: ignored).
    pub lane: Arc<str>,
    /// The batch.
    pub batch: Batch,
    /// The watermark that it moves (devices' batches), to be durable not before the batch.
    pub mark: Option<Mark>,
    /// Resolves the [`Receipt`]. Dropping it means [`Refused::Stopping`].
    pub done: async_channel::Sender<Result<(), Refused>>,
}

/// Where a source puts its batches. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Outlet {
    /// Name of the source in the config.
    pub source: Arc<str>,
    /// The lane that the source is configured for.
    pub lane: Arc<str>,
    /// Stamps rows with the hybrid clock.
    pub stamp: Stamp,
    /// Largest row that can be taken, in bytes of its record.
    pub max_row_bytes: usize,
    /// What the source stored with its last batch ([`Batch::positions`]), from before the restart.
    pub positions: Arc<[(Box<str>, Box<[u8]>)]>,
    /// Watermarks that every sink holds (for `devices`), from before the restart.
    pub marks: Arc<[Mark]>,
    /// Where sessions are claimed, if the sink is shared with other nodes (for `devices`).
    pub claims: Option<async_channel::Sender<Claim>>,
    /// Where a source keeps what it must know after a restart, if it keeps that itself.
    pub state_dir: Option<Arc<std::path::Path>>,
    tx: async_channel::Sender<Submission>,
}

impl Outlet {
    /// An outlet into `tx`, whose bound is the credit of all sources together.
    pub fn new(
        source: Arc<str>,
        lane: Arc<str>,
        stamp: Stamp,
        max_row_bytes: usize,
        positions: Arc<[(Box<str>, Box<[u8]>)]>,
        tx: async_channel::Sender<Submission>,
    ) -> Self {
        Self {
            source,
            lane,
            stamp,
            max_row_bytes,
            positions,
            marks: Arc::new([]),
            claims: None,
            state_dir: None,
            tx,
        }
    }

    /// With the watermarks that the sinks hold.
    #[must_use]
    pub fn with_marks(self, marks: Arc<[Mark]>) -> Self {
        Self { marks, ..self }
    }

    /// With a way to claim sessions.
    #[must_use]
    pub fn with_claims(self, claims: Option<async_channel::Sender<Claim>>) -> Self {
        Self { claims, ..self }
    }

    /// With the folder of what must be known after a restart.
    #[must_use]
    pub fn with_state_dir(self, dir: &std::path::Path) -> Self {
        Self { state_dir: Some(dir.into()), ..self }
    }

    /// Hands `batch` on, waiting for credit. Batches of one source are taken in the order of the
    /// calls. Cancel safe: a batch is handed on wholly or not at all.
    pub async fn submit(&self, batch: Batch) -> Receipt {
        self.submit_marked(batch, None).await
    }

    /// As [`Self::submit`], moving a watermark with the batch.
    pub async fn submit_marked(&self, batch: Batch, mark: Option<Mark>) -> Receipt {
        let (done, receipt) = Receipt::channel();
        // If nobody listens any more `done` is dropped, which the receipt reads as Stopping.
        self.tx
            .send(Submission { source: self.source.clone(), lane: self.lane.clone(), batch, mark, done })
            .await
            .ok();
        receipt
    }

    /// The stored position under `key`, if any.
    pub fn position(&self, key: &str) -> Option<&[u8]> {
        self.positions.iter().find(|(k, _)| &**k == key).map(|(_, v)| &**v)
    }
}

/// Resolves when the batch is safe, or was refused. Dropping it changes nothing for the batch.
#[derive(Debug)]
pub struct Receipt(Pin<Box<async_channel::Receiver<Result<(), Refused>>>>);

impl Receipt {
    /// A receipt and what resolves it.
    pub fn channel() -> (async_channel::Sender<Result<(), Refused>>, Self) {
        let (done, rx) = async_channel::bounded(1);
        (done, Self(Box::pin(rx)))
    }
}

impl Future for Receipt {
    type Output = Result<(), Refused>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        use futures_lite::Stream;
        self.0.as_mut().poll_next(cx).map(|done| done.unwrap_or(Err(Refused::Stopping)))
    }
}

/// Counts what a source read and could not take (too long, too large), and says so once a call.
#[cfg(any(feature = "source-exec", feature = "source-file", feature = "source-stdin"))]
fn count_dropped(source: &str, rows: u64) {
    if rows > 0 {
        crate::telemetry::count(
            "dts_source_dropped_rows_total",
            &[("source", source), ("reason", "too_large")],
            rows,
        );
        log::error!("source `{source}`: {rows} lines were too long and are lost; raise max_line_bytes");
    }
}

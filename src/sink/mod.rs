//! Where changes go. One folder a sink.
//!
//! A sink declares what it can do ([`Abilities`]); the pipeline and the behaviour suite use that.
//! [`Sink::write`] resolves only when the peer confirmed durability.

use std::sync::Arc;

use crate::event::Batch;
use crate::runtime::LocalFuture;

#[cfg(feature = "sink-centre")]
pub mod centre;
#[cfg(feature = "sink-file")]
pub mod file;
#[cfg(feature = "sink-http")]
pub mod http;
#[cfg(feature = "sink-kafka")]
pub mod kafka;
#[cfg(feature = "sink-mqtt")]
pub mod mqtt;
#[cfg(feature = "sink-null")]
pub mod null;
#[cfg(feature = "sink-sqlite")]
pub mod sqlite;
#[cfg(feature = "sink-stdout")]
pub mod stdout;

#[cfg(any(feature = "sink-file", feature = "sink-sqlite", feature = "sink-stdout"))]
mod thread;

#[cfg(test)]
mod behaviour;

/// A sink as its config says, checked and not yet open.
pub trait SinkConfig: std::fmt::Debug {
    /// What is wrong with its fields together; the message says what to do. `dts check` shows it at
    /// the place of the whole section.
    fn mistake(&self) -> Option<String> {
        None
    }

    /// Opens it. Creates what is missing (files, tables).
    fn open(&self, name: &str) -> LocalFuture<'_, Result<Box<dyn Sink>, SinkError>>;

    /// Whether several dts may write to it at a time and know of each other: it keeps [`Mark`]s and session
    /// numbers ([`Sink::claim`]) where all of them see them.
    fn shares_state(&self) -> bool {
        false
    }

    /// For the type `centre`: its `centre::Config`, since the shipping is driven by the spool and not by the
    /// pipeline.
    fn as_centre(&self) -> Option<&(dyn std::any::Any + 'static)> {
        None
    }
}

/// What a sink can do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Abilities {
    /// A resolved write survives a power cut.
    pub durable: bool,
    /// Writing a row twice leaves what writing it once leaves.
    pub idempotent: bool,
    /// Keeps the newest row of each key instead of every change.
    pub upsert: bool,
    /// Follows schema changes.
    pub ddl: bool,
    /// Stores [`Mark`]s in the same transaction as the rows, and gives them back.
    pub marks: bool,
    /// Most bytes of bodies that it wants in one write.
    pub max_write_bytes: usize,
    /// Writes that it takes before the first of them is durable, by [`Sink::begin`]; 0 or 1: one after the other.
    pub writes_under_way: usize,
}

/// Up to where a lane of a device is durable in this sink: the watermark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Name of the device.
    pub device: Arc<str>,
    /// Name of the lane.
    pub lane: Arc<str>,
    /// Epoch of the lane.
    pub epoch: u64,
    /// Highest sequence number durable without a hole.
    pub seq: u64,
    /// crc32c of the body that ended at `seq`, to tell a fork; 0 if unknown.
    pub crc: u32,
    /// The device's session number, so that a newer connection fences an older one.
    pub session: u64,
}

/// A session that a node began for a device, and what the sink then held of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claimed {
    /// Its number: above that of every session before, of any node.
    pub session: u64,
    /// The device's marks. They stand still until this session, or a newer one, writes.
    pub marks: Vec<Mark>,
}

/// A sink that is open.
pub trait Sink {
    /// What it can do. Constant for its life.
    fn abilities(&self) -> Abilities;

    /// Writes `batches` in order, with `marks` in the same transaction if it can. Resolves when all
    /// of it is durable; after an error nothing may be taken for written, and the same batches may
    /// come again. Not cancel safe: drop the sink after dropping a write.
    fn write(&mut self, batches: Vec<Batch>, marks: Vec<Mark>) -> LocalFuture<'_, Result<(), SinkError>>;

    /// As [`Self::write`], for sinks whose [`Abilities::writes_under_way`] is above 1: takes the batches now and
    /// resolves when they are durable, whether it is polled or not. Writes are durable in the order in which they were
    /// begun; after one failed, those begun after it fail too. `None`: this sink does not.
    fn begin(
        &mut self,
        batches: Vec<Batch>,
        marks: Vec<Mark>,
    ) -> Option<LocalFuture<'static, Result<(), SinkError>>> {
        drop((batches, marks));
        None
    }

    /// Every mark it holds. Called once, before the first write. Empty without `marks`.
    fn marks(&mut self) -> LocalFuture<'_, Result<Vec<Mark>, SinkError>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    /// Begins a session of `device`, for sinks whose config says [`SinkConfig::shares_state`]. From now on
    /// every write with a [`Mark`] of an older session of this device is [`SinkError::Fenced`].
    fn claim(&mut self, device: Arc<str>) -> LocalFuture<'_, Result<Claimed, SinkError>> {
        Box::pin(async move {
            Err(SinkError::Fatal(format!("no session of {device} can be counted: this sink shares nothing")))
        })
    }

    /// Tries to reach the peer and says in one line what it found. For `dts check --connect`.
    fn probe(&mut self) -> LocalFuture<'_, Result<String, SinkError>>;

    /// Flushes and closes within a second.
    fn close(self: Box<Self>) -> LocalFuture<'static, Result<(), SinkError>>;
}

/// Why a write failed.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// The peer is away or busy: the same write again after a pause.
    #[error("{0}")]
    Retry(String),
    /// This row can never be written: it goes to the dead letters, or stops the pipeline.
    #[error("batch {batch}, row {row}: {reason}")]
    Reject {
        /// Index into the batches of the write.
        batch: usize,
        /// Index into the rows of that batch.
        row: u32,
        /// What is wrong with it.
        reason: String,
    },
    /// These devices have newer sessions, at another node or here, than those whose batches are in the
    /// write. Nothing was written: the same write without them.
    #[error("newer sessions of {} devices have taken over", .devices.len())]
    Fenced {
        /// Device, and the number of its newest session.
        devices: Vec<(Arc<str>, u64)>,
    },
    /// Cannot go on without a change by the user; the message says which.
    #[error("{0}")]
    Fatal(String),
    /// The reader at the other end has gone for good (a closed pipe, as by `| head`): the run ends
    /// quietly and with success.
    #[error("{0}")]
    Closed(String),
}

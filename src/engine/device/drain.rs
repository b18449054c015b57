//! Empties the spool into sinks of this process: a device that mirrors into a local file, or hands on to a broker.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures_lite::FutureExt;

use crate::config::Plan;
use crate::control::Tap;
use crate::engine::{EngineError, direct};
use crate::event::batch::ClockState;
use crate::event::{Batch, Origin, RowClock};
use crate::pipeline::core::Limits;
use crate::runtime::{self, Stop};
use crate::sink::Mark;
use crate::source::{Receipt, Refused, Submission};
use crate::spool::{Spool, StoredBatch, StoredId};
use crate::telemetry::Readiness;

/// Batches of one lane that are read and not yet durable at every sink.
const MAX_IN_FLIGHT: usize = 16;
/// Bytes read at a time.
const READ_BYTES: usize = 256 << 10;
/// Looks for what a missed wake-up would leave.
const POLL: Duration = Duration::from_millis(500);

pub(super) async fn run(plan: &Plan, spool: Spool, ready: &Readiness, stop: Stop) -> Result<(), EngineError> {
    let Some(sinks) = stop.or(direct::open_sinks(plan)).await else { return Ok(()) };
    let sinks = sinks?;
    ready.set("sinks", None);
    let device: Arc<str> = plan.device.name.clone().unwrap_or_else(|| "local".into());
    let (tx, submissions) = async_channel::bounded::<Submission>(4);
    let lanes = spool.lanes().iter().map(|l| l.name.clone()).collect::<Vec<_>>();
    let mut readers = Vec::new();
    for lane in lanes {
        let lane = Lane { spool: spool.clone(), name: lane, device: device.clone(), tx: tx.clone() };
        readers.push(runtime::spawn(lane.run(stop.clone())));
    }
    drop(tx);
    let limits = Limits { slots: 64, bytes: 1 << 20, ..Limits::default() };
    // The spool itself remembers what is delivered: watermarks beside it would tell nothing more, and on a full disk
    // they could not be written, so that nothing could leave.
    let ended = crate::pipeline::run(sinks, None, limits, submissions, Tap::default(), stop).await;
    for reader in readers {
        reader.await?;
    }
    ended.map_err(Into::into)
}

/// One lane, read in order.
struct Lane {
    spool: Spool,
    name: Arc<str>,
    device: Arc<str>,
    tx: async_channel::Sender<Submission>,
}

impl Lane {
    async fn run(self, stop: Stop) -> Result<(), EngineError> {
        let fail = |error: crate::spool::SpoolError| EngineError::Other(format!("buffer: {error}"));
        let mut waiting: VecDeque<(StoredId, Receipt)> = VecDeque::new();
        let mut after = None;
        while !stop.is_set() {
            let mut got = 0;
            if waiting.len() < MAX_IN_FLIGHT {
                let batches = self.spool.read(&self.name, after, READ_BYTES).await.map_err(fail)?;
                got = batches.len();
                for stored in batches {
                    after = Some(stored.id);
                    waiting.push_back((stored.id, self.submit(stored).await));
                }
            }
            let front = async {
                match waiting.front_mut() {
                    Some((_, receipt)) => Some(receipt.await),
                    None => std::future::pending().await,
                }
            };
            let more = async {
                if got > 0 && got < MAX_IN_FLIGHT {
                    return None;
                }
                runtime::timeout(POLL, self.spool.changed()).await;
                None
            };
            match stop.or(front.or(more)).await.flatten() {
                Some(Ok(())) => {
                    if let Some((id, _)) = waiting.pop_front() {
                        self.spool.ack(&self.name, vec![id]).await.map_err(fail)?;
                    }
                }
                // The pipeline has ended, and says why by itself.
                Some(Err(_)) => return Ok(()),
                None => {}
            }
        }
        Ok(())
    }

    async fn submit(&self, stored: StoredBatch) -> Receipt {
        let mark = Mark {
            device: self.device.clone(),
            lane: self.name.clone(),
            epoch: stored.epoch,
            seq: stored.last_seq,
            crc: stored.crc,
            session: 0,
        };
        let origin = Origin::Device {
            device: self.device.clone(),
            lane: self.name.clone(),
            epoch: stored.epoch,
            first_seq: stored.first_seq,
            last_seq: stored.last_seq,
        };
        let (done, receipt) = Receipt::channel();
        let tables: Vec<_> = stored.tables.clone();
        let resolve = |hash| tables.iter().find(|t| t.hash() == hash).cloned();
        // Stamped by this machine's own clock, which nobody vouches for.
        let clock = match stored.clock.state {
            ClockState::Unknown => RowClock { state: ClockState::Estimated, ..stored.clock },
            _ => stored.clock,
        };
        let batch = Batch::from_body(stored.source, origin, clock, stored.rows, stored.body, resolve);
        match batch {
            Ok(batch) => {
                let submission = Submission {
                    source: "buffer".into(),
                    lane: self.name.clone(),
                    batch,
                    mark: Some(mark),
                    done,
                };
                self.tx.send(submission).await.ok();
            }
            Err(error) => {
                // Its checksum was right: written by a dts that knew more. Never passed on, never dropped.
                log::error!("buffer: a batch of lane `{}` cannot be read by this dts: {error}", self.name);
                done.try_send(Err(Refused::Stopping)).ok();
            }
        }
        receipt
    }
}

/// Waits until nothing is in the buffer.
pub(super) async fn until_empty(spool: &Spool, stop: &Stop) {
    loop {
        match spool.stats().await {
            Ok(stats) if stats.lanes.iter().any(|l| l.rows + l.memory_rows > 0) => {}
            _ => return,
        }
        if stop.or(runtime::sleep(Duration::from_millis(50))).await.is_none() {
            return;
        }
    }
}

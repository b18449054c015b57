//! One source's way into the spool: in order, with credit.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use super::Positions;
use crate::control::Tap;
use crate::runtime::{self, Task};
use crate::source::{Refused, Submission};
use crate::spool::Spool;
use crate::telemetry;

/// Batches of one source that are not yet safe. More wait in the source.
const MAX_BATCHES: usize = 64;
/// Their bytes. One batch is always taken.
const MAX_BYTES: usize = 256 << 10;

/// What is on its way into the spool.
struct Credit {
    batches: Cell<usize>,
    bytes: Cell<usize>,
    freed: async_channel::Sender<()>,
}

impl Credit {
    fn is_used_up(&self) -> bool {
        self.batches.get() >= MAX_BATCHES || (self.bytes.get() >= MAX_BYTES && self.batches.get() > 0)
    }

    fn take(&self, bytes: usize) {
        self.batches.set(self.batches.get() + 1);
        self.bytes.set(self.bytes.get() + bytes);
    }

    fn give(&self, bytes: usize) {
        self.batches.set(self.batches.get() - 1);
        self.bytes.set(self.bytes.get() - bytes);
        // Full: somebody is woken already.
        self.freed.try_send(()).ok();
    }
}

/// The channel for the source's outlet, and the task that empties it. The task ends when every outlet is gone and
/// what was taken is answered.
pub(crate) fn start(
    spool: Spool,
    source: Arc<str>,
    max_row_bytes: usize,
    tap: Tap,
    positions: Rc<Positions>,
) -> (async_channel::Sender<Submission>, Task<()>) {
    let (tx, rx) = async_channel::bounded::<Submission>(1);
    let (freed_tx, freed) = async_channel::bounded(1);
    let credit = Rc::new(Credit { batches: Cell::new(0), bytes: Cell::new(0), freed: freed_tx });
    let task = runtime::spawn(async move {
        while let Ok(submission) = rx.recv().await {
            while credit.is_used_up() {
                freed.recv().await.ok();
            }
            let batch = &submission.batch;
            tap.show(batch);
            telemetry::count("dts_source_rows_total", &[("source", &source)], u64::from(batch.rows));
            telemetry::count("dts_source_bytes_total", &[("source", &source)], batch.bytes() as u64);
            if let Some(refused) = too_large(&submission, max_row_bytes) {
                submission.done.try_send(Err(refused)).ok();
                continue;
            }
            let bytes = batch.bytes();
            credit.take(bytes);
            let (spool, credit, positions) = (spool.clone(), credit.clone(), positions.clone());
            let source = source.clone();
            // Tasks are first polled in the order of their spawning, and a store is queued at its first poll.
            runtime::spawn(async move {
                let Submission { lane, batch, done, .. } = submission;
                let moves = batch.positions.clone();
                let stored = spool.store(&lane, batch).await;
                if stored.is_ok() {
                    positions.stored(&source, moves);
                }
                credit.give(bytes);
                done.try_send(stored).ok();
            })
            .detach();
        }
        while credit.batches.get() > 0 {
            freed.recv().await.ok();
        }
    });
    (tx, task)
}

/// Whether one of its rows fits no stored batch.
fn too_large(submission: &Submission, max: usize) -> Option<Refused> {
    if submission.batch.bytes() <= max {
        return None;
    }
    let mut rows = submission.batch.iter().flatten().map(|row| row.encoded_len());
    rows.find(|len| *len > max).map(|bytes| Refused::TooLarge { bytes, max })
}

//! Producers: tasks on a device that make events and hand them to the shipped way into the buffer.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use super::oracle::{Id, Oracle, Outcome, as_payload, headers_of, key_of, payload_of};
use super::plan::{InputPlan, Kind};
use crate::event::builtin::{self, message_values};
use crate::event::{Batch, BatchBuilder, Op};
use crate::runtime::{sleep, spawn};
use crate::source::{Outlet, Refused};

/// Where a follower's position stands.
const POSITION: &str = "n";

/// One producer.
pub(super) struct Producer {
    pub(super) input: usize,
    pub(super) plan: InputPlan,
    pub(super) oracle: Oracle,
    pub(super) outlet: Outlet,
    pub(super) rng: fastrand::Rng,
    pub(super) now: Rc<Cell<u64>>,
    /// Cleared when the run ends: nothing new is made.
    pub(super) producing: Rc<Cell<bool>>,
    /// The event that a follower hands on next.
    pub(super) next: Rc<Cell<u64>>,
}

/// A batch of events `first..first + rows`.
pub(super) fn batch(
    oracle: &Oracle,
    outlet: &Outlet,
    input: usize,
    first: u64,
    rows: u64,
    position: bool,
) -> Batch {
    let spec = oracle.input(input);
    let mut builder = BatchBuilder::new(outlet.source.clone());
    for n in first..first + rows {
        let id: Id = (input, n);
        oracle.made(input, n);
        let (raw, headers, key) = (payload_of(&spec, id), headers_of(id), format!("k{}", key_of(&spec, n)));
        let values = message_values("t", Some(&key), as_payload(&spec, &raw), Some(&headers));
        let stamp = outlet.stamp.next();
        builder.push(Op::Message, stamp, builtin::message(), None, builtin::image(&values)).unwrap();
    }
    if position {
        builder.position(POSITION, &(first + rows - 1).to_le_bytes());
    }
    builder.finish()
}

impl Producer {
    pub(super) async fn run(mut self) {
        let parallel = Rc::new(Cell::new(0));
        let mut next = self.start();
        loop {
            self.next.set(next);
            let pause = self.rng.u64(0..=self.plan.pause_us * 2);
            sleep(Duration::from_micros(pause)).await;
            let follows = self.plan.kind == Kind::Follower;
            let issued = self.oracle.issued(self.input);
            // What stands in a follower's log is handed on, whatever happens.
            if !(self.producing.get() || follows && next <= issued) {
                continue;
            }
            let mut rows = u64::from(self.rng.u32(1..=self.plan.max_rows));
            if !follows {
                if parallel.get() >= self.plan.parallel {
                    continue;
                }
                let first = self.oracle.issue(self.input, rows);
                self.client(first, rows, parallel.clone()).await;
                continue;
            }
            if next <= issued {
                rows = rows.min(issued + 1 - next);
            } else {
                self.oracle.issue(self.input, rows);
            }
            if self.follower(next, rows).await {
                next += rows;
            }
        }
    }

    /// Where a follower goes on.
    fn start(&self) -> u64 {
        let stored = self.outlet.position(POSITION).and_then(|raw| raw.try_into().ok());
        let next = stored.map_or(1, |raw| u64::from_le_bytes(raw) + 1);
        // A copied buffer knows of a log that is not this machine's.
        next.min(self.oracle.issued(self.input) + 1)
    }

    async fn client(&mut self, first: u64, rows: u64, parallel: Rc<Cell<usize>>) {
        let batch = batch(&self.oracle, &self.outlet, self.input, first, rows, false);
        let receipt = self.outlet.submit(batch).await;
        parallel.set(parallel.get() + 1);
        let (oracle, now, input) = (self.oracle.clone(), self.now.clone(), self.input);
        spawn(async move {
            let result = receipt.await;
            parallel.set(parallel.get() - 1);
            oracle.resolve(input, first, rows, outcome(&result, now.get()));
        })
        .detach();
    }

    /// Whether it was taken.
    async fn follower(&mut self, first: u64, rows: u64) -> bool {
        let batch = batch(&self.oracle, &self.outlet, self.input, first, rows, true);
        let result = self.outlet.submit(batch).await.await;
        self.oracle.resolve(self.input, first, rows, outcome(&result, self.now.get()));
        // A row that fits nowhere is passed over.
        matches!(result, Ok(()) | Err(Refused::TooLarge { .. }))
    }
}

pub(super) fn outcome(result: &Result<(), Refused>, now: u64) -> Outcome {
    match result {
        Ok(()) => Outcome::Acked(now),
        Err(Refused::Busy(_) | Refused::TooLarge { .. }) => Outcome::Refused,
        Err(Refused::Stopping | Refused::TakenOver) => Outcome::Open,
    }
}

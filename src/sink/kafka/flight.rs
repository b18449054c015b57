//! What was handed to librdkafka and is not yet reported: the memory of its messages, and the writes that wait for it.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_channel::Sender;

use crate::sink::SinkError;

/// Buffers kept for the next parcels.
const KEPT_BUFFERS: usize = 8;
/// A buffer larger than this is given back.
const KEPT_BYTES: usize = 4 << 20;

/// Which row a message is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) batch: u32,
    pub(super) row: u32,
    /// Bytes of value and key.
    pub(super) bytes: u32,
}

/// A write under way. It is done when each encoder's part is.
#[derive(Debug)]
pub(super) struct Write {
    parts: AtomicU32,
    failed: Mutex<Option<SinkError>>,
    done: Sender<Result<(), SinkError>>,
}

impl Write {
    pub(super) fn new(parts: u32, done: Sender<Result<(), SinkError>>) -> Arc<Self> {
        Arc::new(Self { parts: AtomicU32::new(parts), failed: Mutex::new(None), done })
    }

    /// Notes why it failed. A row's own fault counts more than what follows from it.
    pub(super) fn fail(&self, error: SinkError) {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        if failed.is_none() || matches!(*failed, Some(SinkError::Retry(_))) {
            *failed = Some(error);
        }
    }

    /// One encoder's part is over.
    pub(super) fn part_done(&self) {
        if self.parts.fetch_sub(1, Ordering::AcqRel) == 1 {
            let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner).take();
            // Whoever began the write may be gone.
            drop(self.done.try_send(failed.map_or(Ok(()), Err)));
        }
    }
}

/// Messages of one write that stand in one buffer.
#[derive(Debug)]
pub(super) struct Parcel {
    pub(super) buffer: Vec<u8>,
    pub(super) rows: Vec<Row>,
    /// Messages not yet reported.
    pub(super) left: usize,
    pub(super) write: Arc<Write>,
}

impl Parcel {
    /// What it costs in memory: the buffer, and librdkafka's own record of each message.
    fn cost(&self) -> usize {
        self.buffer.len() + self.rows.len() * 256
    }
}

#[derive(Debug, Default)]
struct Parcels {
    slots: Vec<Option<Parcel>>,
    free: Vec<usize>,
    cost: usize,
    buffers: Vec<(Vec<u8>, Vec<Row>)>,
}

/// What encoders, reports and the sink share.
#[derive(Debug)]
pub(super) struct Flight {
    parcels: Mutex<Parcels>,
    room: Condvar,
    limit: usize,
    /// A write failed: those begun after it fail too, until none is under way.
    failed: AtomicBool,
    /// The sink closes.
    closed: AtomicBool,
}

impl Flight {
    /// `limit`: bytes that may be out.
    pub(super) fn new(limit: usize) -> Self {
        Self {
            parcels: Mutex::default(),
            room: Condvar::new(),
            limit,
            failed: AtomicBool::new(false),
            closed: AtomicBool::new(false),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Parcels> {
        // Nothing in here panics half-way.
        self.parcels.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire) || self.is_closed()
    }

    pub(super) fn set_failed(&self, failed: bool) {
        self.failed.store(failed, Ordering::Release);
        self.room.notify_all();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.room.notify_all();
    }

    /// Bytes that are out.
    pub(super) fn cost(&self) -> usize {
        self.lock().cost
    }

    /// An empty buffer, perhaps one used before.
    pub(super) fn buffer(&self) -> (Vec<u8>, Vec<Row>) {
        self.lock().buffers.pop().unwrap_or_default()
    }

    /// Waits until there is room for a parcel, keeps it, and gives it a number. `Err` with the parcel when a write
    /// failed meanwhile or the sink closes. Blocks: for an encoder's thread.
    pub(super) fn admit(&self, parcel: Parcel) -> Result<usize, Parcel> {
        let cost = parcel.cost();
        let mut parcels = self.lock();
        // One that is larger than all of the room goes alone.
        while parcels.cost > 0 && parcels.cost + cost > self.limit && !self.has_failed() {
            let waited = self.room.wait_timeout(parcels, Duration::from_millis(200));
            parcels = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        if self.has_failed() {
            return Err(parcel);
        }
        parcels.cost += cost;
        let slot = parcels.free.pop().unwrap_or_else(|| {
            parcels.slots.push(None);
            parcels.slots.len() - 1
        });
        if let Some(place) = parcels.slots.get_mut(slot) {
            *place = Some(parcel);
        }
        Ok(slot)
    }

    /// Waits, or less if a write fails. Blocks: for an encoder's thread.
    pub(super) fn pause(&self, span: Duration) {
        let parcels = self.lock();
        if !self.has_failed() {
            drop(self.room.wait_timeout(parcels, span));
        }
    }

    /// The number of a message: of its parcel, and within it.
    pub(super) fn number(slot: usize, message: usize) -> usize {
        slot << 32 | message
    }

    /// Where the bytes of a parcel stand, which they do until its last message is reported.
    pub(super) fn base(&self, slot: usize) -> *const u8 {
        let parcels = self.lock();
        parcels.slots.get(slot).and_then(Option::as_ref).map_or(std::ptr::null(), |p| p.buffer.as_ptr())
    }

    /// `messages` of a parcel are reported or were never taken. `failed` says of which row, and makes the error.
    pub(super) fn reported(&self, number: usize, messages: usize, failed: Option<&dyn Fn(Row) -> SinkError>) {
        let (slot, message) = (number >> 32, number & 0xffff_ffff);
        let mut parcels = self.lock();
        let Some(place) = parcels.slots.get_mut(slot) else { return };
        let Some(parcel) = place else { return };
        if let (Some(failed), Some(row)) = (failed, parcel.rows.get(message)) {
            parcel.write.fail(failed(*row));
        }
        parcel.left = parcel.left.saturating_sub(messages);
        if parcel.left > 0 {
            return;
        }
        let Some(parcel) = place.take() else { return };
        parcels.free.push(slot);
        parcels.cost = parcels.cost.saturating_sub(parcel.cost());
        let Parcel { mut buffer, mut rows, write, .. } = parcel;
        if parcels.buffers.len() < KEPT_BUFFERS && buffer.capacity() <= KEPT_BYTES {
            buffer.clear();
            rows.clear();
            parcels.buffers.push((buffer, rows));
        }
        drop(parcels);
        self.room.notify_all();
        write.part_done();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parcel(write: &Arc<Write>, bytes: usize, messages: u32) -> Parcel {
        let row = |row| Row { batch: 0, row, bytes: 1 };
        Parcel {
            buffer: vec![0; bytes],
            rows: (0..messages).map(row).collect(),
            left: messages as usize,
            write: write.clone(),
        }
    }

    #[test]
    fn a_write_is_done_with_its_last_message() {
        let flight = Flight::new(10_000);
        let (done, result) = async_channel::bounded(1);
        let write = Write::new(2, done);
        let a = flight.admit(parcel(&write, 100, 2)).unwrap();
        let b = flight.admit(parcel(&write, 100, 1)).unwrap();
        assert_eq!(flight.cost(), 200 + 3 * 256);
        flight.reported(Flight::number(a, 0), 1, None);
        flight.reported(Flight::number(b, 0), 1, None);
        assert!(result.try_recv().is_err());
        flight.reported(Flight::number(a, 1), 1, None);
        assert!(result.try_recv().unwrap().is_ok());
        assert_eq!(flight.cost(), 0);
        // The slots are used again.
        let (done, _result) = async_channel::bounded(1);
        let slot = flight.admit(parcel(&Write::new(1, done), 1, 1)).unwrap();
        assert!(slot < 2);
    }

    #[test]
    fn the_fault_of_a_row_wins_over_what_follows_from_it() {
        let flight = Flight::new(1);
        let (done, result) = async_channel::bounded(1);
        let write = Write::new(1, done);
        let slot = flight.admit(parcel(&write, 100, 3)).unwrap();
        let retry = |_: Row| SinkError::Retry("purged".into());
        let reject = |row: Row| SinkError::Reject { batch: 0, row: row.row, reason: "large".into() };
        flight.reported(Flight::number(slot, 0), 1, Some(&retry));
        flight.reported(Flight::number(slot, 1), 1, Some(&reject));
        flight.reported(Flight::number(slot, 2), 1, Some(&retry));
        assert!(matches!(result.try_recv().unwrap(), Err(SinkError::Reject { row: 1, .. })));
    }

    #[test]
    fn who_waits_for_room_gives_up_when_a_write_failed() {
        let flight = Arc::new(Flight::new(1000));
        let (done, _result) = async_channel::bounded(1);
        let write = Write::new(9, done);
        flight.admit(parcel(&write, 900, 0)).unwrap();
        let waiting = {
            let (flight, write) = (flight.clone(), write.clone());
            std::thread::spawn(move || flight.admit(parcel(&write, 900, 0)).is_err())
        };
        flight.set_failed(true);
        assert!(waiting.join().unwrap());
    }
}

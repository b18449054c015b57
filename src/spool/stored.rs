//! A batch as it is stored, and what makes sure that it is the one that was stored.

use std::sync::Arc;

use bytes::Bytes;
use rusqlite::Row;
use rusqlite::types::ValueRef;

use super::error::Fault;
use crate::event::batch::ClockState;
use crate::event::{Batch, RowClock, Table};

/// Names a stored batch for the life of its store; in a lane it grows with the order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StoredId(pub(super) i64);

/// Bits of an id that count the batches of a lane.
const NUMBER_BITS: u32 = 48;
/// The greatest number of a batch.
pub(super) const MAX_NUMBER: u64 = (1 << NUMBER_BITS) - 1;
/// Lanes that one file can ever have had.
pub(super) const MAX_LANES: u16 = i16::MAX as u16;

impl StoredId {
    pub(super) fn new(lane: u16, n: u64) -> Self {
        Self(i64::from(lane) << NUMBER_BITS | (n & MAX_NUMBER) as i64)
    }

    pub(super) fn lane(self) -> u16 {
        (self.0 >> NUMBER_BITS) as u16
    }

    pub(super) fn n(self) -> u64 {
        self.0 as u64 & MAX_NUMBER
    }
}

/// One batch of a lane, to be shipped as one frame.
#[derive(Clone, Debug)]
pub struct StoredBatch {
    /// Its name, for the acknowledgement.
    pub id: StoredId,
    /// Name of the lane.
    pub lane: Arc<str>,
    /// Epoch of the lane.
    pub epoch: u64,
    /// Sequence number of ordinal 0.
    pub first_seq: u64,
    /// Sequence number that it ends at, inclusive.
    pub last_seq: u64,
    /// Lowest sequence number of the epoch that the store still holds: all below is acknowledged
    /// or named by a loss record.
    pub base: u64,
    /// Row records in the body. Fewer than the range is long after a compaction.
    pub rows: u32,
    /// crc32c of the body.
    pub crc: u32,
    /// The boot in which the rows were made.
    pub boot: u64,
    /// What their time stamps are worth.
    pub clock: RowClock,
    /// Name of the source in the config.
    pub source: Arc<str>,
    /// The body ([`crate::event::batch`]).
    pub body: Bytes,
    /// The tables that the body refers to, in its order.
    pub tables: Vec<Arc<Table>>,
}

/// What a batch counts against the limits beside its body: its row and its share of the b-tree.
pub(super) const OVERHEAD: u64 = 96;

/// What the rows of a batch are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Rows = 0,
    Loss = 1,
}

/// Everything of a stored row but its body.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Head {
    pub id: StoredId,
    pub lane: Arc<str>,
    /// As stamped when stored; a lane's eras say what it is called outside.
    pub epoch: u64,
    pub first_seq: u64,
    pub last_seq: u64,
    pub rows: u32,
    pub made: u64,
    pub boot: u64,
    pub clock: RowClock,
    pub kind: Kind,
    pub source: Arc<str>,
    pub crc: u32,
    pub body_len: usize,
}

/// The columns that [`Head::read`] reads, in its order.
pub(super) const HEAD: &str = "id, lane, epoch, first_seq, last_seq, rows, made, boot, clock, boot_offset, kind, \
                               source, crc, head, length(body)";
/// Number of those columns: the index of a body selected after them.
pub(super) const BODY: usize = 15;

impl Head {
    /// Bytes that it counts against the limits.
    pub(super) fn cost(&self) -> u64 {
        self.body_len as u64 + OVERHEAD
    }

    /// crc32c over every field but the body, whose length and crc it covers.
    pub(super) fn checksum(&self) -> u32 {
        let mut crc = 0;
        let offset = self.clock.boot_offset_us;
        for n in [
            self.id.0 as u64,
            self.lane.len() as u64,
            self.epoch,
            self.first_seq,
            self.last_seq,
            u64::from(self.rows),
            self.made,
            self.boot,
            u64::from(clock_number(self.clock.state)),
            u64::from(offset.is_some()),
            offset.unwrap_or(0) as u64,
            self.kind as u64,
            self.source.len() as u64,
            u64::from(self.crc),
            self.body_len as u64,
        ] {
            crc = crc32c::crc32c_append(crc, &n.to_le_bytes());
        }
        crc = crc32c::crc32c_append(crc, self.lane.as_bytes());
        crc32c::crc32c_append(crc, self.source.as_bytes())
    }

    /// Reads and checks a row of [`HEAD`].
    pub(super) fn read(row: &Row<'_>) -> Result<Self, Fault> {
        let int = |i: usize| -> Result<u64, Fault> { Ok(row.get::<_, i64>(i)? as u64) };
        let small = |i: usize| -> Result<u32, Fault> {
            u32::try_from(int(i)?).map_err(|_| Fault::corrupt("a number is out of range"))
        };
        let text = |i: usize| -> Result<Arc<str>, Fault> {
            match row.get_ref(i)? {
                ValueRef::Text(t) => std::str::from_utf8(t).map(Arc::from).map_err(|_| ()),
                _ => Err(()),
            }
            .map_err(|()| Fault::corrupt("a name is no text"))
        };
        let state = match int(8)? {
            0 => ClockState::Unknown,
            1 => ClockState::Estimated,
            2 => ClockState::Synced,
            _ => return Err(Fault::corrupt("an unknown clock state")),
        };
        let kind = match int(10)? {
            0 => Kind::Rows,
            1 => Kind::Loss,
            _ => return Err(Fault::corrupt("an unknown kind of batch")),
        };
        let head = Self {
            id: StoredId(row.get(0)?),
            lane: text(1)?,
            epoch: int(2)?,
            first_seq: int(3)?,
            last_seq: int(4)?,
            rows: small(5)?,
            made: int(6)?,
            boot: int(7)?,
            clock: RowClock { state, boot_offset_us: row.get(9)? },
            kind,
            source: text(11)?,
            crc: small(12)?,
            body_len: usize::try_from(int(14)?).unwrap_or(usize::MAX),
        };
        if head.checksum() != small(13)? {
            return Err(Fault::Corrupt(format!("batch {} has a wrong checksum", head.id.0)));
        }
        Ok(head)
    }

    /// The body in the column after [`HEAD`], checked.
    pub(super) fn body(&self, row: &Row<'_>) -> Result<Bytes, Fault> {
        let ValueRef::Blob(body) = row.get_ref(BODY)? else {
            return Err(Fault::corrupt("a body is no blob"));
        };
        if crc32c::crc32c(body) != self.crc {
            return Err(Fault::Corrupt(format!("the body of batch {} has a wrong checksum", self.id.0)));
        }
        Ok(Bytes::copy_from_slice(body))
    }
}

pub(super) fn clock_number(state: ClockState) -> u8 {
    match state {
        ClockState::Unknown => 0,
        ClockState::Estimated => 1,
        ClockState::Synced => 2,
    }
}

/// A body with what is needed to store it: a batch before it has its numbers.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    pub source: Arc<str>,
    pub clock: RowClock,
    pub tables: Arc<[Arc<Table>]>,
    pub rows: u32,
    pub body: Bytes,
}

impl Piece {
    pub(super) fn cost(&self) -> u64 {
        self.body.len() as u64 + OVERHEAD
    }
}

impl From<Batch> for Piece {
    fn from(b: Batch) -> Self {
        Self { source: b.source, clock: b.clock, tables: b.tables, rows: b.rows, body: b.body }
    }
}

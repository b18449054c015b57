//! Rows that travel together: from an input into the spool, over the wire, into a sink.
//!
//! ```text
//! body = version u8 (1) | flags u8 (0) | tables u16 | table hash u64 × tables | row record…
//! ```
//!
//! The body is what the spool stores and what a frame carries; the tables behind the hashes are
//! kept beside it ([`Table::encode`]). A batch is written once and then shared read-only.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use super::binlog::{Binlog, Snapshot};
use super::row::{Image, Op, RowError, RowHead, RowView, RowWriter};
use super::table::{Table, TableKey};

/// The version of the body's layout that this code writes.
pub const BODY_VERSION: u8 = 1;

/// Where a batch got its identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Made by an input of this process and not yet stored: its rows have no identity yet.
    Input,
    /// A stored batch of a device. Row `n` has the sequence number `first_seq + ordinal`.
    Device {
        /// Name of the device.
        device: Arc<str>,
        /// Name of the lane.
        lane: Arc<str>,
        /// Epoch of the lane: number in the upper, randomness in the lower half.
        epoch: u64,
        /// Sequence number of ordinal 0.
        first_seq: u64,
        /// Sequence number that the batch ends at, inclusive.
        last_seq: u64,
    },
    /// Rows of a binlog: the log itself is the durable queue behind them.
    Binlog(Arc<Binlog>),
    /// Rows that a snapshot read.
    Snapshot(Arc<Snapshot>),
}

/// What the clock was worth when the rows were made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct RowClock {
    /// `synced`, `estimated` or `unknown`.
    pub state: ClockState,
    /// For rows stamped with monotonic microseconds: what to add to get microseconds since 1970
    /// UTC. `None` while it is not known.
    pub boot_offset_us: Option<i64>,
}

/// How far a device's time can be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Hash)]
pub enum ClockState {
    /// Never told by anybody.
    #[default]
    Unknown,
    /// Known within a bound.
    Estimated,
    /// Told by a verified centre or a disciplined local clock.
    Synced,
}

/// Marks an `hlc` field that holds monotonic microseconds.
pub const MONOTONIC: u64 = 1 << 63;

impl RowClock {
    /// The row's hybrid time (48 bits of milliseconds, 16 of logic) from its stored stamp.
    /// Zero if it was made before the time was known and no offset has been learned.
    pub fn hlc(&self, stamp: u64) -> u64 {
        if stamp & MONOTONIC == 0 {
            return stamp;
        }
        let mono_us = (stamp & !MONOTONIC) as i64;
        let Some(us) = self.boot_offset_us.and_then(|o| mono_us.checked_add(o)) else { return 0 };
        ((us.max(0) / 1000) as u64) << 16
    }
}

/// Rows that travel together, with the shapes they refer to. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Name of the source in the config.
    pub source: Arc<str>,
    /// Identity of the rows.
    pub origin: Origin,
    /// What the rows' time stamps are worth.
    pub clock: RowClock,
    /// Tables in the order of the body's hashes.
    pub tables: Arc<[Arc<Table>]>,
    /// Number of row records.
    pub rows: u32,
    /// The body, as laid out in the module's header.
    pub body: Bytes,
    /// Where the input goes on after a restart: opaque (key, value) pairs, written in the same
    /// transaction as the batch. Empty beyond the spool.
    pub positions: Vec<(Box<str>, Box<[u8]>)>,
}

/// A body that is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// The body ends early.
    #[error("batch body is cut short")]
    Short,
    /// A layout that this version does not know.
    #[error("batch body has version {0}, this dts reads version 1")]
    Version(u8),
    /// A table hash that nobody can resolve.
    #[error("batch refers to table {0:016x}, whose shape is not known here")]
    UnknownTable(u64),
    /// The record count does not fit.
    #[error("batch holds {got} rows, its header says {want}")]
    Rows {
        /// Rows found.
        got: u32,
        /// Rows announced.
        want: u32,
    },
    /// A row is wrong.
    #[error("row {row}: {error}")]
    Row {
        /// Place in the batch.
        row: u32,
        /// What is wrong.
        error: RowError,
    },
}

/// The table hashes of a body, and the row records behind them.
pub fn split_body(body: &[u8]) -> Result<(Vec<u64>, &[u8]), BodyError> {
    let (head, rest) = body.split_at_checked(4).ok_or(BodyError::Short)?;
    if head[0] != BODY_VERSION || head[1] != 0 {
        return Err(BodyError::Version(head[0]));
    }
    let tables = usize::from(u16::from_le_bytes([head[2], head[3]]));
    let (hashes, rows) = rest.split_at_checked(tables * 8).ok_or(BodyError::Short)?;
    let hash =
        |raw: &[u8]| u64::from_le_bytes([raw[0], raw[1], raw[2], raw[3], raw[4], raw[5], raw[6], raw[7]]);
    Ok((hashes.chunks_exact(8).map(hash).collect(), rows))
}

impl Batch {
    /// Reads a stored or received body and checks every row to its last byte.
    ///
    /// `resolve` finds a table by its hash. Positions are left empty.
    pub fn from_body(
        source: Arc<str>,
        origin: Origin,
        clock: RowClock,
        rows: u32,
        body: Bytes,
        mut resolve: impl FnMut(u64) -> Option<Arc<Table>>,
    ) -> Result<Self, BodyError> {
        let (hashes, _) = split_body(&body)?;
        let tables = hashes
            .into_iter()
            .map(|h| resolve(h).ok_or(BodyError::UnknownTable(h)))
            .collect::<Result<Vec<_>, _>>()?;
        let batch = Self { source, origin, clock, tables: tables.into(), rows, body, positions: Vec::new() };
        let mut got = 0;
        for row in batch.iter() {
            let checked = row.and_then(|r| r.images().map(|_| ()));
            checked.map_err(|error| BodyError::Row { row: got, error })?;
            got += 1;
        }
        if got == rows { Ok(batch) } else { Err(BodyError::Rows { got, want: rows }) }
    }

    /// The rows in order. Ends after the first error.
    pub fn iter(&self) -> Rows<'_> {
        Rows { rest: split_body(&self.body).map_or(&[], |(_, rows)| rows), tables: &self.tables, next: 0 }
    }

    /// Bytes of the body.
    pub fn bytes(&self) -> usize {
        self.body.len()
    }

    /// The `id` of a row of a device: `device/lane/epoch/seq`. Empty for others: the `id` of a binlog's row is
    /// written by [`crate::codec`].
    pub fn row_id(&self, ordinal: u64) -> String {
        match &self.origin {
            Origin::Device { device, lane, epoch, first_seq, .. } => {
                format!("{device}/{lane}/{epoch:016x}/{}", first_seq.wrapping_add(ordinal))
            }
            _ => String::new(),
        }
    }
}

impl<'a> IntoIterator for &'a Batch {
    type Item = Result<RowView<'a>, RowError>;
    type IntoIter = Rows<'a>;

    fn into_iter(self) -> Rows<'a> {
        self.iter()
    }
}

/// Walks the rows of a [`Batch`].
#[derive(Clone, Debug)]
pub struct Rows<'a> {
    rest: &'a [u8],
    tables: &'a [Arc<Table>],
    next: u32,
}

impl<'a> Iterator for Rows<'a> {
    type Item = Result<RowView<'a>, RowError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let row = RowView::take(&mut self.rest, self.tables);
        if row.is_err() {
            self.rest = &[];
        }
        let index = self.next;
        self.next = index.wrapping_add(1);
        Some(row.map(|row| row.at(index)))
    }
}

/// What is computed of a table's whole shape.
#[derive(Clone)]
struct Known {
    table: Arc<Table>,
    hash: u64,
    key: Arc<TableKey>,
}

/// Tables remembered on a thread.
const KNOWN: usize = 8;

thread_local! {
    /// The tables used last: many batches are one row of the table that the batch before had.
    static RECENT: RefCell<VecDeque<Known>> = const { RefCell::new(VecDeque::new()) };
}

fn known(table: &Arc<Table>) -> Known {
    RECENT.with_borrow_mut(|recent| {
        if let Some(known) = recent.iter().find(|k| Arc::ptr_eq(&k.table, table)) {
            return known.clone();
        }
        let key = Arc::new(TableKey::from(&**table));
        let known = Known { table: table.clone(), hash: table.hash(), key };
        recent.truncate(KNOWN - 1);
        recent.push_front(known.clone());
        known
    })
}

/// Collects rows into a [`Batch`]. Rows are numbered from 0 unless pushed with an ordinal.
#[derive(Debug)]
pub struct BatchBuilder {
    source: Arc<str>,
    tables: Vec<Arc<Table>>,
    hashes: Vec<u64>,
    keys: Vec<Arc<TableKey>>,
    rows: u32,
    next_ordinal: u64,
    records: Vec<u8>,
    positions: Vec<(Box<str>, Box<[u8]>)>,
}

impl BatchBuilder {
    /// An empty batch of `source`.
    pub fn new(source: Arc<str>) -> Self {
        Self {
            source,
            tables: Vec::new(),
            hashes: Vec::new(),
            keys: Vec::new(),
            rows: 0,
            next_ordinal: 0,
            records: Vec::new(),
            positions: Vec::new(),
        }
    }

    /// The index of `table` in this batch; added if it is new. Compares by `Arc` first, then by
    /// hash. `None` if the batch is full of tables (65,535).
    pub fn table(&mut self, table: &Arc<Table>) -> Option<u16> {
        if let Some(i) = self.tables.iter().position(|t| Arc::ptr_eq(t, table)) {
            return u16::try_from(i).ok();
        }
        let known = known(table);
        let hash = known.hash;
        if let Some(i) = self.hashes.iter().position(|&h| h == hash) {
            return u16::try_from(i).ok();
        }
        if self.tables.len() >= usize::from(u16::MAX) {
            return None;
        }
        self.tables.push(table.clone());
        self.hashes.push(hash);
        self.keys.push(known.key);
        u16::try_from(self.tables.len() - 1).ok()
    }

    /// Appends one row with the next ordinal.
    pub fn push(
        &mut self,
        op: Op,
        hlc: u64,
        table: &Arc<Table>,
        before: Option<Image<'_>>,
        after: Option<Image<'_>>,
    ) -> Result<(), RowError> {
        let schema = self.table(table).ok_or(RowError::NoTable(u16::MAX))?;
        let head = RowHead { op, schema, ordinal: self.next_ordinal, hlc };
        let key = self.keys.get(usize::from(schema)).ok_or(RowError::NoTable(schema))?;
        RowWriter::write_keyed(&mut self.records, head, table, key, before, after)?;
        self.rows += 1;
        self.next_ordinal += 1;
        Ok(())
    }

    /// Appends a row of another batch, its images as they are, with the next ordinal.
    pub fn push_row(&mut self, row: &RowView<'_>) -> Result<(), RowError> {
        self.push_row_at(row, self.next_ordinal)
    }

    /// Appends a row of another batch with an ordinal not below the next one (a compacted batch
    /// has holes).
    pub fn push_row_at(&mut self, row: &RowView<'_>, ordinal: u64) -> Result<(), RowError> {
        let schema = self.table(row.table()).ok_or(RowError::NoTable(u16::MAX))?;
        RowWriter::copy(&mut self.records, row, schema, ordinal);
        self.rows += 1;
        self.next_ordinal = ordinal + 1;
        Ok(())
    }

    /// Notes where the input goes on after a restart; the last value of a key wins.
    pub fn position(&mut self, key: &str, value: &[u8]) {
        self.positions.retain(|(k, _)| &**k != key);
        self.positions.push((key.into(), value.into()));
    }

    /// Rows so far.
    pub fn rows(&self) -> u32 {
        self.rows
    }

    /// Bytes that [`Self::finish`]'s body would have now.
    pub fn bytes(&self) -> usize {
        4 + 8 * self.hashes.len() + self.records.len()
    }

    /// Whether nothing was pushed.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// The batch, with [`Origin::Input`].
    pub fn finish(self) -> Batch {
        let mut body = Vec::with_capacity(self.bytes());
        body.extend_from_slice(&[BODY_VERSION, 0]);
        // `table` keeps the count within u16.
        body.extend_from_slice(&(self.hashes.len() as u16).to_le_bytes());
        for hash in &self.hashes {
            body.extend_from_slice(&hash.to_le_bytes());
        }
        body.extend_from_slice(&self.records);
        Batch {
            source: self.source,
            origin: Origin::Input,
            clock: RowClock::default(),
            tables: self.tables.into(),
            rows: self.rows,
            body: body.into(),
            positions: self.positions,
        }
    }
}

//! Rows on their way into a batch: what is complete, and behind it what the transaction at hand has so far.

use std::sync::Arc;

use crate::event::batch::BODY_VERSION;
use crate::event::binlog::{Binlog, RowsEvent, Transaction};
use crate::event::{Batch, Origin, RowClock, Table};

/// The tables that the records refer to by index.
#[derive(Debug, Default)]
pub(super) struct Shapes {
    tables: Vec<Arc<Table>>,
    hashes: Vec<u64>,
}

impl Shapes {
    /// The index of `table`, which is added if it is new. `None` if there are 65,535.
    pub(super) fn index(&mut self, table: &Arc<Table>) -> Option<u16> {
        if let Some(i) = self.tables.iter().position(|known| Arc::ptr_eq(known, table)) {
            return u16::try_from(i).ok();
        }
        if self.tables.len() >= usize::from(u16::MAX) {
            return None;
        }
        self.tables.push(table.clone());
        self.hashes.push(table.hash());
        u16::try_from(self.tables.len() - 1).ok()
    }
}

/// What is collected.
#[derive(Debug, Default)]
pub(super) struct Collect {
    pub(super) shapes: Shapes,
    pub(super) records: Vec<u8>,
    pub(super) rows: u32,
    transactions: Vec<Transaction>,
    events: Vec<RowsEvent>,
    /// Where the transaction at hand begins.
    cut: Cut,
}

/// A place in what is collected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Cut {
    records: usize,
    pub(super) rows: u32,
    transactions: usize,
    events: usize,
}

impl Collect {
    /// Bytes of records.
    pub(super) fn bytes(&self) -> usize {
        self.records.len()
    }

    /// Whether something is there that belongs to a whole transaction.
    pub(super) fn has_complete(&self) -> bool {
        self.cut.rows > 0
    }

    /// Rows of the transaction at hand begin here.
    pub(super) fn has_open(&self) -> bool {
        self.rows > self.cut.rows
    }

    /// Bytes of the transaction at hand.
    pub(super) fn open_bytes(&self) -> usize {
        self.records.len() - self.cut.records
    }

    /// Rows of an event follow; the transaction is added with its first.
    pub(super) fn event(&mut self, transaction: impl FnOnce() -> Transaction, end: u64, ts_ms: u64) {
        if self.transactions.len() == self.cut.transactions {
            self.transactions.push(transaction());
        }
        let transaction = (self.transactions.len() - 1) as u32;
        let first_row = self.rows;
        // One without rows would stand at the same place.
        if self.events.last().is_some_and(|last| last.first_row == first_row) {
            self.events.pop();
        }
        self.events.push(RowsEvent { first_row, transaction, end, ts_ms });
    }

    /// Here.
    pub(super) fn here(&self) -> Cut {
        Cut {
            records: self.records.len(),
            rows: self.rows,
            transactions: self.transactions.len(),
            events: self.events.len(),
        }
    }

    /// The transaction at hand is whole.
    pub(super) fn complete(&mut self) {
        self.cut = self.here();
    }

    /// Takes back what came behind `cut`, a place in the transaction at hand.
    pub(super) fn truncate(&mut self, cut: Cut) {
        self.records.truncate(cut.records);
        self.rows = cut.rows;
        self.transactions.truncate(cut.transactions);
        self.events.truncate(cut.events);
    }

    /// Takes back the transaction at hand.
    pub(super) fn roll_back(&mut self) {
        self.truncate(self.cut);
    }

    /// The whole transactions as a batch, or with `all` everything. `None` without rows.
    pub(super) fn take(&mut self, source: &Arc<str>, server_uuid: &Arc<str>, all: bool) -> Option<Batch> {
        if all {
            self.cut = self.here();
        }
        let cut = std::mem::take(&mut self.cut);
        if cut.rows == 0 {
            self.cut = cut;
            return None;
        }
        let behind = Self {
            shapes: Shapes::default(),
            records: self.records.split_off(cut.records),
            rows: self.rows - cut.rows,
            transactions: self.transactions.split_off(cut.transactions),
            events: self.events.split_off(cut.events),
            cut: Cut::default(),
        };
        let mut whole = std::mem::replace(self, behind);
        for event in &mut self.events {
            event.first_row -= cut.rows;
            event.transaction -= cut.transactions as u32;
        }
        if self.rows > 0 {
            // Their records refer to the tables by index.
            self.shapes = Shapes { tables: whole.shapes.tables.clone(), hashes: whole.shapes.hashes.clone() };
        }
        whole.rows = cut.rows;
        Some(whole.batch(source, server_uuid))
    }

    /// Takes the transaction at hand out of what is collected.
    pub(super) fn take_open(&mut self) -> Self {
        let cut = self.cut;
        let mut open = Self {
            shapes: Shapes { tables: self.shapes.tables.clone(), hashes: self.shapes.hashes.clone() },
            records: self.records.split_off(cut.records),
            rows: self.rows - cut.rows,
            transactions: self.transactions.split_off(cut.transactions),
            events: self.events.split_off(cut.events),
            cut: Cut::default(),
        };
        self.rows = cut.rows;
        for event in &mut open.events {
            event.first_row -= cut.rows;
            event.transaction -= cut.transactions as u32;
        }
        open
    }

    /// Everything as a batch.
    pub(super) fn batch(self, source: &Arc<str>, server_uuid: &Arc<str>) -> Batch {
        let Self { shapes, records, rows, transactions, events, .. } = self;
        let mut body = Vec::with_capacity(4 + 8 * shapes.hashes.len() + records.len());
        body.extend_from_slice(&[BODY_VERSION, 0]);
        body.extend_from_slice(&(shapes.hashes.len() as u16).to_le_bytes());
        shapes.hashes.iter().for_each(|hash| body.extend_from_slice(&hash.to_le_bytes()));
        body.extend_from_slice(&records);
        let binlog = Binlog { server_uuid: server_uuid.clone(), transactions, events };
        Batch {
            source: source.clone(),
            origin: Origin::Binlog(Arc::new(binlog)),
            clock: RowClock::default(),
            tables: shapes.tables.into(),
            rows,
            body: body.into(),
            positions: Vec::new(),
        }
    }
}

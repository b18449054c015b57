//! A stored batch in parts, for a peer that takes less than the spool stores.
//!
//! The spool knows nothing of it: a batch is acknowledged when its last part is. A part ends at a row, has the
//! sequence numbers of its rows, and the checksum of its own body.

use std::cell::Cell;
use std::rc::Rc;

use crate::event::batch::split_body;
use crate::event::{BatchBuilder, RowView};
use crate::planted::{self, Bug};
use crate::spool::StoredBatch;

/// The batch that parts belong to.
#[derive(Debug)]
pub(super) struct Whole {
    /// Parts not settled.
    left: Cell<usize>,
    /// A part was refused for good, so the batch is set aside; the rest is sent all the same.
    aside: Cell<bool>,
}

impl Whole {
    pub(super) fn new() -> Rc<Self> {
        Rc::new(Self { left: Cell::new(1), aside: Cell::new(false) })
    }

    /// A part became `n` parts.
    pub(super) fn divided(&self, n: usize) {
        self.left.set(self.left.get() + n.saturating_sub(1));
    }

    /// A part is durable. True if the batch is with it.
    pub(super) fn part_done(&self) -> bool {
        self.left.set(self.left.get().saturating_sub(1));
        (self.left.get() == 0 || planted::on(Bug::LoseTail)) && !self.aside.get()
    }

    /// A part was refused for good. True for the first one.
    pub(super) fn part_refused(&self) -> bool {
        self.left.set(self.left.get().saturating_sub(1));
        !self.aside.replace(true)
    }
}

/// Splits `batch` at its rows into bodies of at most `max_bytes`; a larger row is alone. `None` if it has only
/// one part, or cannot be read.
pub(super) fn split(batch: &StoredBatch, max_bytes: usize) -> Option<Vec<StoredBatch>> {
    let (_, mut rest) = split_body(&batch.body).ok()?;
    let mut parts: Vec<StoredBatch> = Vec::new();
    let mut builder = BatchBuilder::new(batch.source.clone());
    let mut first = batch.first_seq;
    while !rest.is_empty() {
        let row = RowView::take(&mut rest, &batch.tables).ok()?;
        let seq = batch.first_seq + row.head().ordinal;
        // Eight bytes for the hash of its table.
        if !builder.is_empty() && builder.bytes() + row.encoded_len() + 8 > max_bytes {
            let full = std::mem::replace(&mut builder, BatchBuilder::new(batch.source.clone()));
            // Holes that a compaction left belong to the part before them.
            parts.push(part(batch, full, first, seq.checked_sub(1)?));
            first = seq;
        }
        builder.push_row_at(&row, seq.checked_sub(first)?).ok()?;
    }
    if parts.is_empty() || builder.is_empty() {
        return None;
    }
    parts.push(part(batch, builder, first, batch.last_seq));
    Some(parts)
}

fn part(batch: &StoredBatch, builder: BatchBuilder, first_seq: u64, last_seq: u64) -> StoredBatch {
    let rows = builder.finish();
    StoredBatch {
        first_seq,
        last_seq,
        rows: rows.rows,
        crc: crc32c::crc32c(&rows.body),
        body: rows.body,
        tables: rows.tables.to_vec(),
        ..batch.clone()
    }
}

//! Many small batches become few of the stored size, a large one is split at its rows.

use std::sync::Arc;

use super::stored::Piece;
use crate::event::{Batch, BatchBuilder, RowClock};
use crate::source::Refused;

/// Bytes of a body's fixed head, and of each table it refers to.
const FIXED: usize = 4;
const PER_TABLE: usize = 8;

/// Checks that `batch` can be stored: every row reads and fits a body of `max` bytes.
pub(super) fn check(batch: &Batch, max: usize) -> Result<(), Refused> {
    let limit = max.saturating_sub(FIXED + PER_TABLE);
    let mut rows = 0;
    for row in batch {
        // A bug of the input: nothing can be said that would make it better.
        let row =
            row.map_err(|e| Refused::Busy(format!("batch of `{}` cannot be read: {e}", batch.source)))?;
        let bytes = row.encoded_len();
        if bytes > limit {
            return Err(Refused::TooLarge { bytes, max: limit });
        }
        rows += 1;
    }
    if rows != batch.rows {
        return Err(Refused::Busy(format!(
            "batch of `{}` has {rows} rows, not {}",
            batch.source, batch.rows
        )));
    }
    Ok(())
}

/// Whether `batch` can be stored as it is: rows numbered from 0 without a hole.
fn is_dense(batch: &Batch) -> bool {
    batch.iter().enumerate().all(|(i, row)| row.is_ok_and(|r| r.head().ordinal == i as u64))
}

/// Joins `batches`, all [`check`]ed, into bodies of at most `max` bytes, in order. Only rows of one
/// source with the same clock share a body.
pub(super) fn join<'a>(batches: impl IntoIterator<Item = &'a Batch>, max: usize) -> Vec<Piece> {
    let mut joiner = Joiner { max, done: Vec::new(), open: None };
    let mut batches = batches.into_iter().filter(|b| b.rows > 0).peekable();
    while let Some(batch) = batches.next() {
        // One that stands alone is taken as it is, not copied.
        let alone = joiner.open.is_none()
            && batches.peek().is_none_or(|next| next.source != batch.source || next.clock != batch.clock);
        if alone && batch.body.len() <= max && is_dense(batch) {
            joiner.done.push(Piece::from(batch.clone()));
        } else {
            joiner.add(batch);
        }
    }
    joiner.close();
    joiner.done
}

struct Joiner {
    max: usize,
    done: Vec<Piece>,
    open: Option<Open>,
}

struct Open {
    source: Arc<str>,
    clock: RowClock,
    builder: BatchBuilder,
}

impl Joiner {
    fn add(&mut self, batch: &Batch) {
        if self.open.as_ref().is_some_and(|o| o.source != batch.source || o.clock != batch.clock) {
            self.close();
        }
        for row in batch.iter().map_while(Result::ok) {
            // What the row can add at most: a renumbered ordinal may take nine bytes more.
            let adds = row.encoded_len() + PER_TABLE + 9;
            if self
                .open
                .as_ref()
                .is_some_and(|o| !o.builder.is_empty() && o.builder.bytes() + adds > self.max)
            {
                self.close();
            }
            if self.open(batch).push_row(&row).is_err() {
                // Full of tables (65,535): a new body takes it.
                self.close();
                let pushed = self.open(batch).push_row(&row);
                debug_assert!(pushed.is_ok(), "an empty batch takes any row");
            }
        }
    }

    fn open(&mut self, batch: &Batch) -> &mut BatchBuilder {
        let open = self.open.get_or_insert_with(|| Open {
            source: batch.source.clone(),
            clock: batch.clock,
            builder: BatchBuilder::new(batch.source.clone()),
        });
        &mut open.builder
    }

    fn close(&mut self) {
        if let Some(open) = self.open.take()
            && !open.builder.is_empty()
        {
            let batch = Batch { clock: open.clock, ..open.builder.finish() };
            self.done.push(batch.into());
        }
    }
}

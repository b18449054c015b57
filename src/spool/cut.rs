//! Whether a body is a part of a stored batch.
//!
//! A centre that takes less than the spool stores gets a batch in parts, and its mark has the crc of the part that ended
//! there. Where parts begin depends on the limits of that session, so every row of the batch is tried as the first one: the
//! crc of no other rows fits. It is done once a connection, for one batch a lane.

use std::sync::Arc;

use bytes::Bytes;

use crate::event::{BatchBuilder, RowView, Table};

/// Bytes that are put together at most for one answer.
const MAX_WORK: usize = 64 << 20;

/// Whether rows of a batch that begins at `first_seq` can have made a body with this `crc` that ended at `seq`. A batch
/// too large to tell counts as one that cannot: it then goes out twice, and is not lost.
pub(super) fn has_part(records: &[u8], tables: &[Arc<Table>], first_seq: u64, seq: u64, crc: u32) -> bool {
    let mut rest = records;
    let mut rows = Vec::new();
    while !rest.is_empty() {
        let Ok(row) = RowView::take(&mut rest, tables) else { return false };
        if first_seq.saturating_add(row.head().ordinal) > seq {
            break;
        }
        rows.push(row);
    }
    let mut work = 0;
    // A first part begins where the batch does, which may be before its first row.
    let starts = (0..rows.len()).rev().filter_map(|at| Some((at, rows.get(at)?.head().ordinal)));
    for (at, first) in starts.chain([(0, 0)]) {
        let Some(body) = body(rows.get(at..).unwrap_or_default(), first) else { return false };
        if crc32c::crc32c(&body) == crc {
            return true;
        }
        work += body.len();
        if work > MAX_WORK {
            return false;
        }
    }
    false
}

fn body(rows: &[RowView<'_>], first: u64) -> Option<Bytes> {
    let mut builder = BatchBuilder::new("".into());
    for row in rows {
        builder.push_row_at(row, row.head().ordinal.checked_sub(first)?).ok()?;
    }
    Some(builder.finish().body)
}

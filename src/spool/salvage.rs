//! Reads what can be read of a damaged file: every row whose checksums are right, past every page
//! that is not.

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension};

use super::error::Fault;
use super::stored::{HEAD, Head, StoredId};

/// Searches for the end of a damaged stretch, in all, so that a file made to be slow is not.
const SEARCHES: usize = 10_000;

/// Calls `each` with every batch that reads right, in order of their ids. Returns how many rows were seen and did not read right.
pub(super) fn walk(
    conn: &Connection,
    mut each: impl FnMut(Head, Bytes) -> Result<(), Fault>,
) -> Result<u64, Fault> {
    let mut bad = 0;
    let mut last = i64::MIN;
    for _ in 0..SEARCHES {
        if !stretch(conn, &mut last, &mut bad, &mut each)? {
            return Ok(bad);
        }
        bad += 1;
        let Some(next) = after_damage(conn, last) else { return Ok(bad) };
        last = next - 1;
    }
    Ok(bad)
}

/// Reads on behind `last` until the end (false) or a page that cannot be read (true).
fn stretch(
    conn: &Connection,
    last: &mut i64,
    bad: &mut u64,
    each: &mut impl FnMut(Head, Bytes) -> Result<(), Fault>,
) -> Result<bool, Fault> {
    let Ok(mut statement) = conn.prepare(&format!("SELECT {HEAD} FROM batch WHERE id > ?1 ORDER BY id"))
    else {
        return Ok(false);
    };
    let Ok(mut rows) = statement.query([*last]) else { return Ok(false) };
    loop {
        let row = match rows.next() {
            Ok(Some(row)) => row,
            Ok(None) => return Ok(false),
            Err(_) => return Ok(true),
        };
        let Ok(id) = row.get::<_, i64>(0) else { return Ok(true) };
        if id <= *last {
            // A cycle of pages.
            return Ok(true);
        }
        *last = id;
        let Ok(head) = Head::read(row) else {
            *bad += 1;
            continue;
        };
        let Some(body) = body(conn, &head) else {
            *bad += 1;
            continue;
        };
        each(head, body)?;
    }
}

/// The body of one batch, if it reads right. Asked for singly, since an error ends its statement.
fn body(conn: &Connection, head: &Head) -> Option<Bytes> {
    let mut statement = conn.prepare_cached("SELECT body FROM batch WHERE id = ?1").ok()?;
    let body: Vec<u8> = statement.query_row([head.id.0], |r| r.get(0)).ok()?;
    (crc32c::crc32c(&body) == head.crc).then(|| body.into())
}

/// The first id behind `last` that a cursor can be put on again: doubling steps, then halving.
fn after_damage(conn: &Connection, last: i64) -> Option<i64> {
    let probe = |from: i64| -> Option<Option<i64>> {
        let mut statement =
            conn.prepare_cached("SELECT id FROM batch WHERE id >= ?1 ORDER BY id LIMIT 1").ok()?;
        statement.query_row([from], |r| r.get(0)).optional().ok()
    };
    let start = last.max(StoredId::new(0, 0).0);
    let (mut low, mut step) = (start, 1i64);
    let mut high = loop {
        let from = start.checked_add(step)?;
        if probe(from).is_some() {
            break from;
        }
        low = from;
        step = step.checked_mul(2)?;
    };
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if probe(middle).is_some() {
            high = middle;
        } else {
            low = middle;
        }
    }
    probe(high)?.filter(|&id| id > last)
}

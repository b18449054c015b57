//! A table without a key: read at once, at a position that is known exactly.
//!
//! Its rows have no names, so nothing of the stream can stand in for one of them. The stream is held between two transactions
//! where the read's view lies: what is before was handed on before the rows, what is behind comes behind them. Other tables
//! wait meanwhile.

use std::time::Duration;

use super::progress::Left;
use super::table::Described;
use super::thread::{Made, SnapError, Thread, now_ms};
use super::window::Position;
use crate::event::{BatchBuilder, Op, Origin};
use crate::source::mysql::client::ClientError;
use crate::telemetry;

/// Tries to find a moment in which nothing is committed.
const TRIES: u32 = 200;
/// Bytes of records that are handed on together.
const BYTES: usize = 1 << 20;

/// Reads the table; how many rows.
pub(super) fn read(thread: &mut Thread<'_>, left: &Left, table: &Described) -> Result<u64, SnapError> {
    let sql = "SELECT engine AS engine FROM information_schema.tables WHERE table_schema = ";
    let text = |name: &str| format!("'{}'", name.replace('\\', "").replace('\'', "''"));
    let sql = format!("{sql}{} AND table_name = {}", text(&left.db), text(&left.table));
    // The session's sql_mode is empty: a backslash escapes, and names with one are not read.
    let engine = thread.conn.query(&sql)?.text(0, "engine");
    if !matches!(engine.to_ascii_lowercase().as_str(), "innodb" | "rocksdb") {
        return Err(SnapError::Refused(format!(
            "it has no primary key, and its engine {engine} no transactions: give it a primary key"
        )));
    }
    let result = held(thread, left, table);
    thread.shared.release();
    result
}

fn held(thread: &mut Thread<'_>, left: &Left, table: &Described) -> Result<u64, SnapError> {
    thread.shared.hold(None);
    let (mut at, mut gtids) = stands(thread)?;
    let view = if thread.conn.is_mariadb() {
        thread.conn.query("START TRANSACTION WITH CONSISTENT SNAPSHOT")?;
        let view = thread.view()?;
        if view > at {
            thread.shared.hold(Some(view.clone()));
            (at, _) = stands(thread)?;
        }
        if view > at || view < at && !thread.is_empty_between(&view, &at)? {
            // The stream was given what queries do not see yet.
            return Err(again("the view lies before the stream"));
        }
        view
    } else {
        let mut tries = 0;
        loop {
            tries += 1;
            if tries > TRIES {
                return Err(SnapError::Refused(
                    "it has no primary key, and the server never paused long enough to know the position of a read: give it \
                     a primary key, or begin the snapshot when less is written"
                        .into(),
                ));
            }
            if tries > 1 && !thread.wake.sleep(Duration::from_millis(5)) {
                return Err(ClientError::Stopped.into());
            }
            let (low, _) = thread.mark()?;
            if low > at {
                thread.shared.hold(Some(low.clone()));
                (at, gtids) = stands(thread)?;
            }
            let Some(gtids) = gtids.as_deref().filter(|gtids| !gtids.is_empty()) else {
                return Err(SnapError::Refused(
                    "it has no primary key, and without GTIDs (gtid_mode = ON) the position of a read cannot be known: \
                     give it a primary key"
                        .into(),
                ));
            };
            // What the log has, queries see; and nothing is committed until the view is made.
            let sql = format!("SELECT GTID_SUBSET('{gtids}', @@global.gtid_executed) AS yes");
            if low != at || thread.conn.query(&sql)?.text(0, "yes") != "1" {
                continue;
            }
            thread.conn.query("START TRANSACTION WITH CONSISTENT SNAPSHOT")?;
            let (high, _) = thread.mark()?;
            if high == low {
                break high;
            }
            thread.conn.query("ROLLBACK")?;
        }
    };
    let (_, gtids) = thread.mark()?;
    let origin = thread.origin(&view, gtids);
    if thread.is_resumed {
        // Rows of it may have been handed on before.
        let mut builder = BatchBuilder::new(thread.source().clone());
        let hlc = now_ms() << 16;
        builder.push(Op::Truncate, hlc, &table.table, None, None).map_err(super::row::RecordError::from)?;
        let mut batch = builder.finish();
        batch.origin = Origin::Snapshot(origin.clone());
        thread.hand_on(Made::Rows(batch))?;
    }
    // From here on a second try would give rows twice.
    thread.is_resumed = true;
    let mut rows = thread.rows_of(table);
    let source = thread.source().clone();
    let (mut total, max) = (0, thread.max_row_bytes());
    let sql = super::chunk::select_all(table, left.only.as_deref());
    let mut ready = Vec::new();
    let send = thread.sender();
    thread.conn.rows::<SnapError>(&sql, max, |columns, row| {
        rows.add(columns, row, now_ms())?;
        total += 1;
        if rows.bytes() >= BYTES {
            ready.extend(rows.take(&source, &origin, |_| true));
            for batch in ready.drain(..) {
                if !send(Made::Rows(batch)) {
                    return Err(ClientError::Stopped.into());
                }
            }
        }
        Ok(())
    })?;
    for batch in rows.take(&source, &origin, |_| true) {
        thread.hand_on(Made::Rows(batch))?;
    }
    thread.conn.query("COMMIT")?;
    telemetry::count("dts_mysql_snapshot_rows_total", &[("source", &source)], total);
    Ok(total)
}

fn again(why: &'static str) -> SnapError {
    ClientError::Io { what: "read a table without a key", error: std::io::Error::other(why) }.into()
}

/// Waits until the stream stands still: where, and what transactions are before.
fn stands(thread: &Thread<'_>) -> Result<(Position, Option<String>), SnapError> {
    loop {
        if let Some(held) = thread.shared.held() {
            return Ok(held);
        }
        if thread.wake.is_over() {
            return Err(ClientError::Stopped.into());
        }
        if thread.shared.server().is_empty() {
            return Err(again("the stream was lost"));
        }
    }
}

//! Records of dts JSON other than rows, and what stands around rows.

use super::group::{Group, Place};
use super::rows::{Frame, Marks};
use super::session::Statement;
use super::view::View;
use crate::codec::{json, text};
use crate::source::mysql::binlog::{Rows, RowsKind, Side};

/// The marks of dts JSON.
pub(super) const MARKS: Marks = Marks {
    before: b",\"before\":",
    after: b",\"after\":",
    no_before: b",\"before\":null",
    no_after: b",\"after\":null",
    full: true,
};

/// The word for what happened to a row.
pub(super) fn op(kind: RowsKind) -> &'static str {
    match kind {
        RowsKind::Insert => "insert",
        RowsKind::Update => "update",
        RowsKind::Delete => "delete",
    }
}

/// Makes what is the same for all rows of an event.
pub(super) fn frame(
    frame: &mut Frame,
    group: &Group,
    view: &View,
    rows: &Rows<'_>,
    file: &str,
    Place { ts_ms, pos }: Place,
) {
    let Frame { head, names, tail, clock, end } = frame;
    head.clear();
    head.extend_from_slice(b"{\"kind\":\"row\",\"op\":\"");
    head.extend_from_slice(op(rows.kind).as_bytes());
    head.extend_from_slice(b"\",\"source\":\"dump\"");
    time(head, group, ts_ms);
    head.extend_from_slice(b",\"id\":\"");
    json::escape(head, &group.id);
    head.push(b'#');
    names.clear();
    names.push(b'"');
    names.extend_from_slice(&view.names);
    tail.clear();
    let partial = [(Side::Before, "\"before\""), (Side::After, "\"after\"")];
    let has = |side| match side {
        Side::Before => rows.kind != RowsKind::Insert,
        Side::After => rows.kind != RowsKind::Delete,
    };
    let mut lacking = partial.iter().filter(|(side, _)| has(*side) && rows.is_partial(*side)).peekable();
    if lacking.peek().is_some() {
        tail.extend_from_slice(b",\"partial\":[");
        for (i, (_, name)) in lacking.enumerate() {
            tail.extend_from_slice(if i > 0 { b"," } else { b"" });
            tail.extend_from_slice(name.as_bytes());
        }
        tail.push(b']');
    }
    tail.extend_from_slice(b",\"schema\":");
    text::padded(tail, u64::from(view.schema), 1);
    xa(tail, group);
    position(tail, group, file, pos);
    tail.extend_from_slice(b",\"row\":");
    clock.clear();
    clock.push(b'}');
    hlc(clock, ts_ms);
    *end = b"\"}\n";
}

/// `begin`.
pub(super) fn begin(out: &mut Vec<u8>, group: &Group, file: &str, place: Place, record: u64) {
    start(out, "begin", group, place);
    end(out, group, file, place, record);
}

/// `commit`. `rolled_back` where the transaction ended with ROLLBACK: what a transactional table got by it was undone.
pub(super) fn commit(
    out: &mut Vec<u8>,
    group: &Group,
    file: &str,
    place: Place,
    record: u64,
    rolled_back: bool,
) {
    start(out, "commit", group, place);
    out.extend_from_slice(b",\"rows\":{");
    for (i, (table, rows)) in group.by_table.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        json::string(out, table);
        out.push(b':');
        text::padded(out, *rows, 1);
    }
    out.push(b'}');
    if rolled_back {
        out.extend_from_slice(b",\"rolled_back\":true");
    }
    end(out, group, file, place, record);
}

/// `xa_commit` or `xa_rollback`: what becomes of the rows under its XID.
pub(super) fn xa_end(out: &mut Vec<u8>, kind: &str, group: &Group, file: &str, place: Place, record: u64) {
    start(out, kind, group, place);
    xa(out, group);
    end(out, group, file, place, record);
}

/// `ddl`.
pub(super) fn ddl(
    out: &mut Vec<u8>,
    statement: &Statement,
    db: &str,
    group: &Group,
    file: &str,
    place: Place,
    record: u64,
) {
    start(out, "ddl", group, place);
    out.extend_from_slice(b",\"default_db\":");
    match db {
        "" => out.extend_from_slice(b"null"),
        db => json::string(out, db),
    }
    out.extend_from_slice(b",\"tables\":[");
    for (i, [db, table]) in statement.tables.iter().enumerate() {
        out.extend_from_slice(if i > 0 { b",[" } else { b"[" });
        json::string(out, db);
        out.push(b',');
        json::string(out, table);
        out.push(b']');
    }
    out.extend_from_slice(b"],\"sql\":");
    match &statement.sql {
        Ok(sql) => json::string(out, sql),
        Err(bytes) => json::base64_object(out, bytes),
    }
    end(out, group, file, place, record);
}

/// `heartbeat`.
pub(super) fn heartbeat(out: &mut Vec<u8>, group: &Group, file: &str, place: Place) {
    start(out, "heartbeat", group, place);
    end(out, group, file, place, 0);
}

fn start(out: &mut Vec<u8>, kind: &str, group: &Group, place: Place) {
    out.extend_from_slice(b"{\"kind\":\"");
    out.extend_from_slice(kind.as_bytes());
    out.extend_from_slice(b"\",\"source\":\"dump\"");
    time(out, group, place.ts_ms);
}

fn end(out: &mut Vec<u8>, group: &Group, file: &str, place: Place, record: u64) {
    position(out, group, file, place.pos);
    out.push(b'}');
    hlc(out, place.ts_ms);
    text::padded(out, record, 1);
    out.extend_from_slice(b"\"}\n");
}

fn time(out: &mut Vec<u8>, group: &Group, ts_ms: u64) {
    out.extend_from_slice(b",\"ts_ms\":");
    text::padded(out, ts_ms, 1);
    if let Some(us) = group.commit_ts_us {
        out.extend_from_slice(b",\"commit_ts_us\":");
        text::padded(out, us, 1);
    }
}

fn xa(out: &mut Vec<u8>, group: &Group) {
    if let Some(xid) = &group.xa {
        out.extend_from_slice(b",\"xa\":");
        json::string(out, xid);
    }
}

/// Without its closing brace.
fn position(out: &mut Vec<u8>, group: &Group, file: &str, pos: u64) {
    out.extend_from_slice(b",\"pos\":{\"file\":");
    json::string(out, file);
    out.extend_from_slice(b",\"pos\":");
    text::padded(out, pos, 1);
    out.extend_from_slice(b",\"gtid\":");
    match group.gtid.as_str() {
        "" => out.extend_from_slice(b"null"),
        gtid => json::string(out, gtid),
    }
}

fn hlc(out: &mut Vec<u8>, ts_ms: u64) {
    out.extend_from_slice(b",\"hlc\":\"");
    text::padded(out, ts_ms, 1);
    out.push(b'.');
}

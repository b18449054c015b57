//! Which row a record is about: its `id`, its time, its place in a binlog.

use std::sync::Arc;

use super::json;
use super::text;
use crate::event::binlog::{Binlog, Gtid, RowsEvent, Transaction};
use crate::event::{Batch, ImageView, Origin, RowView};

/// What of a row a record tells: a change of key is two records at a sink with keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Part {
    /// All of it.
    #[default]
    Whole,
    /// The row is gone from its old key. Its `id` ends in `d`.
    Gone,
    /// The row came to its new key. Its `id` ends in `i`.
    Came,
}

impl Part {
    pub(super) fn suffix(self) -> &'static [u8] {
        match self {
            Self::Whole => b"",
            Self::Gone => b"d",
            Self::Came => b"i",
        }
    }
}

/// The `id` of a row, as dts JSON has it; empty where the row has none yet.
pub fn row_id(batch: &Batch, row: &RowView<'_>) -> String {
    let mut out = Vec::new();
    write_id(&mut out, batch, row);
    // What was written is UTF-8.
    String::from_utf8(out).unwrap_or_default()
}

fn write_id(out: &mut Vec<u8>, batch: &Batch, row: &RowView<'_>) {
    let ordinal = row.head().ordinal;
    match &batch.origin {
        Origin::Input => {}
        Origin::Device { .. } => out.extend_from_slice(batch.row_id(ordinal).as_bytes()),
        Origin::Binlog(log) => {
            if let Some((_, transaction)) = log.of(row.index()) {
                transaction_id(out, &batch.source, log, transaction);
                text::padded(out, ordinal, 1);
            }
        }
        Origin::Snapshot(snapshot) => {
            let table = row.table();
            for part in [&*batch.source, "/snap/", &*snapshot.run, "/", &*table.db, ".", &*table.name, "/"] {
                out.extend_from_slice(part.as_bytes());
            }
            match row.newest() {
                Ok(Some(image)) if table.columns.iter().any(|c| c.key.is_some()) => key_object(out, &image),
                _ => text::padded(out, ordinal, 1),
            }
        }
    }
}

/// The key's columns as an object, in key order.
fn key_object(out: &mut Vec<u8>, image: &ImageView<'_>) {
    out.push(b'{');
    for (i, column) in image.table().key_columns().into_iter().enumerate() {
        if let (Some(shape), Some(value)) = (image.table().columns.get(column), image.get(column)) {
            out.extend_from_slice(if i > 0 { b"," } else { b"" });
            json::string(out, &shape.name);
            out.push(b':');
            json::write_value(out, shape, value, json::Integers::Number);
        }
    }
    out.push(b'}');
}

/// Appends a GTID as the server prints it.
pub(super) fn gtid(out: &mut Vec<u8>, gtid: &Gtid) {
    match gtid {
        Gtid::None => {}
        Gtid::MySql { uuid, tag, number } => {
            text::uuid(out, uuid);
            out.push(b':');
            if let Some(tag) = tag {
                out.extend_from_slice(tag.as_bytes());
                out.push(b':');
            }
            text::padded(out, *number, 1);
        }
        Gtid::MariaDb { domain, server, sequence } => {
            text::padded(out, u64::from(*domain), 1);
            out.push(b'-');
            text::padded(out, u64::from(*server), 1);
            out.push(b'-');
            text::padded(out, *sequence, 1);
        }
    }
}

/// What the ids of a transaction's rows begin with, up to the row's number.
fn transaction_id(out: &mut Vec<u8>, source: &str, log: &Binlog, transaction: &Transaction) {
    match &transaction.gtid {
        Gtid::None => {
            if !log.server_uuid.is_empty() {
                out.extend_from_slice(log.server_uuid.as_bytes());
                out.push(b':');
            }
            out.extend_from_slice(transaction.file.as_bytes());
            out.push(b':');
            text::padded(out, transaction.start, 1);
        }
        Gtid::MariaDb { .. } => {
            out.extend_from_slice(source.as_bytes());
            out.push(b':');
            gtid(out, &transaction.gtid);
        }
        Gtid::MySql { .. } => gtid(out, &transaction.gtid),
    }
    out.push(b'#');
}

/// What the rows of one event of a binlog share, as text; made once for all of them.
#[derive(Debug, Default)]
pub(super) struct Place {
    of: Option<(Arc<Binlog>, Arc<str>)>,
    /// Indexes of the rows that it is right for.
    from: u32,
    to: u32,
    /// In milliseconds since 1970 UTC.
    pub(super) ts_ms: u64,
    /// `,"source":"…","ts_ms":…,"commit_ts_us":…,"id":"…#`: up to the row's number.
    pub(super) head: Vec<u8>,
    /// The same without the time of the commit.
    pub(super) short_head: Vec<u8>,
    /// `,"xa":"…"` if there is one.
    pub(super) xa: Vec<u8>,
    /// `"file":"…","pos":…,"gtid":…,"row":`
    pub(super) pos: Vec<u8>,
}

impl Place {
    /// Makes it that of the row at `index`. `false` if the batch does not say where that row stands.
    pub(super) fn seek(&mut self, source: &Arc<str>, log: &Arc<Binlog>, index: u32) -> bool {
        let known = self.of.as_ref().is_some_and(|(l, s)| Arc::ptr_eq(l, log) && Arc::ptr_eq(s, source));
        if known && (self.from..self.to).contains(&index) {
            return true;
        }
        let next = log.events.partition_point(|event| event.first_row <= index);
        let Some((event, transaction)) = log.of(index) else { return false };
        if !known {
            self.of = Some((log.clone(), source.clone()));
        }
        self.from = event.first_row;
        self.to = log.events.get(next).map_or(u32::MAX, |event| event.first_row);
        self.fill(source, log, event, transaction);
        true
    }

    fn fill(&mut self, source: &str, log: &Binlog, event: &RowsEvent, transaction: &Transaction) {
        self.ts_ms = event.ts_ms;
        let Self { head, short_head, xa, pos, .. } = self;
        short_head.clear();
        short_head.extend_from_slice(b",\"source\":");
        json::string(short_head, source);
        short_head.extend_from_slice(b",\"ts_ms\":");
        text::padded(short_head, event.ts_ms, 1);
        head.clear();
        head.extend_from_slice(short_head);
        if let Some(us) = transaction.commit_ts_us {
            head.extend_from_slice(b",\"commit_ts_us\":");
            text::padded(head, us, 1);
        }
        let id = short_head.len();
        short_head.extend_from_slice(b",\"id\":\"");
        let from = short_head.len();
        transaction_id(short_head, source, log, transaction);
        // A source's name and a file's may hold what JSON escapes; nearly none does.
        if short_head.iter().skip(from).any(|&b| b < 0x20 || b == b'"' || b == b'\\') {
            let plain = short_head.split_off(from);
            json::escape(short_head, std::str::from_utf8(&plain).unwrap_or_default());
        }
        head.extend_from_slice(short_head.get(id..).unwrap_or_default());
        xa.clear();
        if let Some(xid) = &transaction.xa {
            xa.extend_from_slice(b",\"xa\":");
            json::string(xa, xid);
        }
        pos.clear();
        pos.extend_from_slice(b"\"file\":");
        json::string(pos, &transaction.file);
        pos.extend_from_slice(b",\"pos\":");
        text::padded(pos, event.end, 1);
        pos.extend_from_slice(b",\"gtid\":");
        match &transaction.gtid {
            Gtid::None => pos.extend_from_slice(b"null"),
            known => {
                pos.push(b'"');
                gtid(pos, known);
                pos.push(b'"');
            }
        }
        pos.extend_from_slice(b",\"row\":");
    }
}

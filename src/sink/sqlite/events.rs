//! Tables that only grow: messages, losses, schema changes, and the log of everything.

use rusqlite::{Connection, params};

use super::error::ApplyError;
use super::mirror::Version;
use crate::codec::json::{self, Format};
use crate::event::builtin::Loss;
use crate::event::{Batch, ImageView, Op, Origin, RowView, TableKind, Value};

/// The change that an event's row tells of.
#[derive(Clone, Copy)]
pub(super) struct Event<'a, 'b> {
    pub(super) batch: &'b Batch,
    pub(super) row: &'a RowView<'b>,
    pub(super) version: Option<Version>,
}

impl Event<'_, '_> {
    fn origin(&self) -> (Option<&str>, Option<&str>) {
        match &self.batch.origin {
            Origin::Device { device, lane, .. } => (Some(device), Some(lane)),
            _ => (None, None),
        }
    }

    /// Milliseconds since 1970 UTC; `None` if the time was not known.
    fn ts_ms(&self) -> Option<i64> {
        match self.batch.clock.hlc(self.row.head().hlc) {
            0 => None,
            hlc => Some((hlc >> 16) as i64),
        }
    }

    /// The image of a builtin row of the right kind.
    fn image(&self, kind: TableKind) -> Result<ImageView<'_>, ApplyError> {
        let op = self.row.op().as_str();
        let (_, after) = self.row.images().map_err(|e| ApplyError::Reject(e.to_string()))?;
        match after {
            Some(image) if self.row.table().kind == kind => Ok(image),
            _ => Err(ApplyError::Reject(format!("a {op} event in a row of another shape"))),
        }
    }
}

/// Writes a message, loss or schema change into its table. `false` if the row is none of them.
pub(super) fn write(conn: &Connection, event: Event<'_, '_>) -> Result<bool, ApplyError> {
    match event.row.op() {
        Op::Message => message(conn, event)?,
        Op::Loss => loss(conn, event)?,
        Op::Ddl => ddl(conn, event)?,
        _ => return Ok(false),
    }
    Ok(true)
}

fn message(conn: &Connection, event: Event<'_, '_>) -> Result<(), ApplyError> {
    let image = event.image(TableKind::Message)?;
    let mut values = [Value::Null; 6];
    for (i, value) in &image {
        if let Some(place) = values.get_mut(i) {
            *place = value;
        }
    }
    let [key, topic, json, text, bytes, headers] = values;
    let (format, words, blob) = match (json, text, bytes) {
        (Value::Text(json), ..) => ("json", Some(json), None),
        (_, Value::Text(text), _) => ("text", Some(text), None),
        (.., Value::Bytes(bytes)) => ("bytes", None, Some(bytes)),
        _ => return Err(ApplyError::Reject("a message without a payload".to_owned())),
    };
    let (device, lane) = event.origin();
    let (epoch, seq) = (event.version.map(|v| v.epoch), event.version.map(|v| v.seq));
    conn.prepare_cached(
        "INSERT INTO messages(device, lane, epoch, seq, source, ts_ms, topic, key, format, payload, headers)
         VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ifnull(?10, ?11), ?12)",
    )?
    .execute(params![
        device,
        lane,
        epoch,
        seq,
        &*event.batch.source,
        event.ts_ms(),
        words_of(topic),
        words_of(key),
        format,
        words,
        blob,
        words_of(headers)
    ])?;
    Ok(())
}

fn words_of(value: Value<'_>) -> Option<&str> {
    match value {
        Value::Text(text) => Some(text),
        _ => None,
    }
}

fn loss(conn: &Connection, event: Event<'_, '_>) -> Result<(), ApplyError> {
    let image = event.image(TableKind::Loss)?;
    let Some(loss) = Loss::from_image(&image) else {
        return Err(ApplyError::Reject("a loss record that lacks a field".to_owned()));
    };
    let (device, lane) = event.origin();
    let (epoch, seq) = (event.version.map(|v| v.epoch), event.version.map(|v| v.seq));
    conn.prepare_cached(
        "INSERT INTO dts_losses(device, lane, epoch, seq, source, ts_ms, lost_lane, lost_epoch, from_seq, to_seq, \
         reason, bound, rows) VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
    )?
    .execute(params![
        device,
        lane,
        epoch,
        seq,
        &*event.batch.source,
        event.ts_ms(),
        &*loss.lane,
        loss.epoch as i64,
        loss.from as i64,
        loss.to as i64,
        &*loss.reason,
        if loss.exact { "exact" } else { "at_most" },
        loss.rows as i64
    ])?;
    Ok(())
}

fn ddl(conn: &Connection, event: Event<'_, '_>) -> Result<(), ApplyError> {
    let image = event.image(TableKind::Ddl)?;
    let text = |i| image.get(i).and_then(words_of);
    let (device, lane) = event.origin();
    let (epoch, seq) = (event.version.map(|v| v.epoch), event.version.map(|v| v.seq));
    conn.prepare_cached(
        "INSERT INTO dts_ddl(device, lane, epoch, seq, source, ts_ms, default_db, tables, sql)
         VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
    )?
    .execute(params![
        device,
        lane,
        epoch,
        seq,
        &*event.batch.source,
        event.ts_ms(),
        text(0),
        text(1),
        text(2)
    ])?;
    Ok(())
}

/// Appends a change of any kind to the log, as dts JSON. `scratch` holds the text.
pub(super) fn log(conn: &Connection, event: Event<'_, '_>, scratch: &mut Vec<u8>) -> Result<(), ApplyError> {
    scratch.clear();
    json::write_row(scratch, event.batch, event.row, Format::default())
        .map_err(|e| ApplyError::Reject(e.to_string()))?;
    let text = std::str::from_utf8(scratch).map_err(|e| ApplyError::Reject(e.to_string()))?;
    let op = event.row.op();
    let kind = match op {
        Op::Message | Op::Loss | Op::Ddl => op.as_str(),
        _ => "row",
    };
    let (device, lane) = event.origin();
    let (epoch, seq) = (event.version.map(|v| v.epoch), event.version.map(|v| v.seq));
    let table = event.row.table();
    conn.prepare_cached(
        "INSERT INTO dts_log(device, lane, epoch, seq, source, ts_ms, kind, db, tbl, json)
         VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
    )?
    .execute(params![
        device,
        lane,
        epoch,
        seq,
        &*event.batch.source,
        event.ts_ms(),
        kind,
        &*table.db,
        &*table.name,
        text
    ])?;
    Ok(())
}

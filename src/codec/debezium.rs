//! Debezium's JSON without schemas, as its MySQL connector (3.x) writes it with its defaults: what a reader of
//! Debezium's topics can be given instead.
//!
//! ```text
//! {"before":…,"after":…,"source":{…},"transaction":null,"op":"c|u|d|r|t","ts_ms":…,"ts_us":…,"ts_ns":…}
//! ```
//!
//! Values, by the table "How the connector maps data types" of Debezium's documentation of its MySQL connector:
//!
//! | SQL type | JSON | setting of Debezium |
//! |---|---|---|
//! | integers, YEAR | number; BIGINT UNSIGNED beyond 2^63 wraps below zero | `bigint.unsigned.handling.mode=long` |
//! | DECIMAL | base64 of the unscaled value, big-endian, two's complement, as short as it goes | `decimal.handling.mode=precise` |
//! | BIT(1) / BIT(n) | boolean / base64, little-endian, ⌈n/8⌉ bytes | |
//! | BINARY … BLOB | base64 | `binary.handling.mode=bytes` |
//! | ENUM, SET, JSON, text | string | |
//! | DATE | days since 1970 | `time.precision.mode=adaptive_time_microseconds` |
//! | TIME | microseconds | |
//! | DATETIME(0–3) / (4–6) | milliseconds / microseconds since 1970, as if it were UTC | |
//! | TIMESTAMP | `2024-02-29T23:59:59.5Z`, UTC | |
//! | geometry | `{"wkb":base64,"srid":n}` | |
//! | VECTOR | array of numbers | |
//!
//! A zero or partly zero date is `null` (Debezium writes 1970-01-01 into NOT NULL columns; whether a column is one is not known here).
//! What dts does not know (`server_id`, `thread`, `query`) is 0 or `null`. JSON is the text that the server prints. Messages, losses and DDL
//! have no form there: they are dts JSON.

use std::ops::Range;

use super::json::{self, Encoder, Format, Integers, JsonError, Meta};
use super::place::{Part, Place};
use super::shape::{Keys, Shape, Shapes};
use super::{base64, document, text};
use crate::event::{Batch, Column, Op, Origin, RowView, Type, Value, Walk};

/// Writes rows in Debezium's form; remembers what is the same for many.
#[derive(Debug, Default)]
pub struct DebeziumEncoder {
    shapes: Shapes,
    place: Place,
    /// For what is no row.
    others: Encoder,
}

impl DebeziumEncoder {
    /// Appends the value of a row, or of the part of a row that changed its key, and behind it the object of its key,
    /// if it has one: where in `out` that stands. On an error `out` is as it was.
    pub fn write(
        &mut self,
        out: &mut Vec<u8>,
        batch: &Batch,
        row: &RowView<'_>,
        part: Part,
    ) -> Result<Option<Range<usize>>, JsonError> {
        if matches!(row.op(), Op::Message | Op::Loss | Op::Ddl) {
            let format = Format { meta: Meta::Full, integers: Integers::Number };
            return self.others.write(out, batch, row, format, part).map(|_| None);
        }
        let start = out.len();
        let is_logged = match &batch.origin {
            Origin::Binlog(log) => self.place.seek(&batch.source, log, row.index()),
            _ => false,
        };
        let Some(shape) = self.shapes.of(row.table()) else { return Ok(None) };
        let written = record(out, batch, row, is_logged.then_some(&self.place), shape, part);
        if written.is_err() {
            out.truncate(start);
        }
        written
    }
}

fn record(
    out: &mut Vec<u8>,
    batch: &Batch,
    row: &RowView<'_>,
    place: Option<&Place>,
    shape: &Shape,
    part: Part,
) -> Result<Option<Range<usize>>, JsonError> {
    out.reserve(1024);
    out.extend_from_slice(b"{\"before\":");
    let mut images = Images {
        out,
        shape,
        shows: (part != Part::Came, part != Part::Gone),
        seen: (false, false),
        open: false,
        first: true,
        old: Keys::default(),
        new: Keys::default(),
        before: true,
    };
    row.walk(&mut images)?;
    images.end();
    let Images { out, seen, old, new, .. } = images;
    let made_ms = batch.clock.hlc(row.head().hlc) >> 16;
    let (ts_ms, is_snapshot) = match (&batch.origin, place) {
        (_, Some(place)) => (place.ts_ms, false),
        (Origin::Snapshot(snapshot), None) => (snapshot.ts_ms, true),
        _ => (made_ms, false),
    };
    let at = made_ms.max(ts_ms);
    source(out, batch, row, place, shape, ts_ms, is_snapshot);
    let op: &[u8] = match (part, row.op()) {
        (Part::Gone, _) | (_, Op::Delete) => b"d",
        (Part::Came, _) | (_, Op::Insert) => b"c",
        (_, Op::Update) => b"u",
        (_, Op::Truncate) => b"t",
        _ => b"r",
    };
    out.extend_from_slice(b",\"transaction\":null,\"op\":\"");
    out.extend_from_slice(op);
    out.push(b'"');
    times(out, at);
    out.push(b'}');
    if shape.key.is_empty() || !(seen.0 || seen.1) {
        return Ok(None);
    }
    let start = out.len();
    out.push(b'{');
    let mut first = true;
    for (n, &column) in shape.key.iter().enumerate() {
        // After a change of the row the key is the new one; of a row that went, the old one.
        let known = match part {
            Part::Gone => old.get(n),
            _ => new.get(n).or_else(|| old.get(n)),
        };
        if let (Some(known), Some(of)) = (known, shape.table.columns.get(column)) {
            out.extend_from_slice(shape.name(column, std::mem::take(&mut first)));
            value(out, of, known);
        }
    }
    out.push(b'}');
    Ok(Some(start..out.len()))
}

/// `ts_ms`, `ts_us`, `ts_ns`: of milliseconds.
fn times(out: &mut Vec<u8>, ms: u64) {
    let names: [(&[u8], u64); 3] =
        [(b",\"ts_ms\":", 1), (b",\"ts_us\":", 1_000), (b",\"ts_ns\":", 1_000_000)];
    for (name, unit) in names {
        out.extend_from_slice(name);
        text::padded(out, ms.saturating_mul(unit), 1);
    }
}

fn source(
    out: &mut Vec<u8>,
    batch: &Batch,
    row: &RowView<'_>,
    place: Option<&Place>,
    shape: &Shape,
    ts_ms: u64,
    is_snapshot: bool,
) {
    out.extend_from_slice(
        concat!(
            ",\"source\":{\"version\":\"",
            env!("CARGO_PKG_VERSION"),
            "\",\"connector\":\"mysql\",\"name\":"
        )
        .as_bytes(),
    );
    json::string(out, &batch.source);
    out.extend_from_slice(b",\"ts_ms\":");
    text::padded(out, ts_ms, 1);
    out.extend_from_slice(if is_snapshot {
        b",\"snapshot\":\"true\""
    } else {
        b",\"snapshot\":\"false\"" as &[u8]
    });
    out.extend_from_slice(&shape.names);
    out.extend_from_slice(b",\"sequence\":null,\"ts_us\":");
    text::padded(out, ts_ms.saturating_mul(1_000), 1);
    out.extend_from_slice(b",\"ts_ns\":");
    text::padded(out, ts_ms.saturating_mul(1_000_000), 1);
    out.extend_from_slice(b",\"server_id\":0,");
    match (place, &batch.origin) {
        (Some(place), _) => out.extend_from_slice(&place.pos),
        (None, Origin::Snapshot(snapshot)) => {
            out.extend_from_slice(b"\"file\":");
            json::string(out, &snapshot.file);
            out.extend_from_slice(b",\"pos\":");
            text::padded(out, snapshot.pos, 1);
            out.extend_from_slice(b",\"gtid\":null,\"row\":");
        }
        _ => out.extend_from_slice(b"\"file\":\"\",\"pos\":0,\"gtid\":null,\"row\":"),
    }
    text::padded(out, row.head().ordinal, 1);
    out.extend_from_slice(b",\"thread\":null,\"query\":null}");
}

/// Both images, written as they are walked. Pairs are (before, after).
struct Images<'w, 'a> {
    out: &'w mut Vec<u8>,
    shape: &'w Shape,
    shows: (bool, bool),
    seen: (bool, bool),
    open: bool,
    first: bool,
    before: bool,
    old: Keys<'a>,
    new: Keys<'a>,
}

impl Images<'_, '_> {
    fn close(&mut self) {
        if std::mem::take(&mut self.open) {
            self.out.push(b'}');
        }
    }

    fn end(&mut self) {
        self.close();
        match self.seen {
            (false, false) => self.out.extend_from_slice(b"null,\"after\":null"),
            (_, false) => self.out.extend_from_slice(b",\"after\":null"),
            _ => {}
        }
    }

    fn begin(&mut self, shown: bool) {
        self.first = true;
        self.open = shown;
        self.out.extend_from_slice(if shown { b"{" } else { b"null" as &[u8] });
    }
}

impl<'a> Walk<'a> for Images<'_, 'a> {
    fn image(&mut self, before: bool, _partial: bool) {
        self.close();
        self.before = before;
        if before {
            self.seen.0 = true;
            return self.begin(self.shows.0);
        }
        self.out.extend_from_slice(if self.seen.0 { b",\"after\":" } else { b"null,\"after\":" as &[u8] });
        self.seen.1 = true;
        self.begin(self.shows.1);
    }

    #[inline]
    fn value(&mut self, column: usize, found: Value<'a>) {
        let Some((_, place)) = self.shape.columns.get(column) else { return };
        if let Some(place) = *place {
            match self.before {
                true => self.old.set(place, found),
                false => self.new.set(place, found),
            }
        }
        if let (true, Some(of)) = (self.open, self.shape.table.columns.get(column)) {
            self.out.extend_from_slice(self.shape.name(column, std::mem::take(&mut self.first)));
            value(self.out, of, found);
        }
    }
}

/// Appends one value.
fn value(out: &mut Vec<u8>, column: &Column, value: Value<'_>) {
    let number = |out: &mut Vec<u8>, n: Option<i64>| match n {
        Some(n) => text::int(out, n),
        None => out.extend_from_slice(b"null"),
    };
    match (column.ty, value) {
        (Type::Date, Value::Uint(packed)) => number(out, date_days(packed)),
        (Type::DateTime { fsp }, Value::Uint(packed)) => {
            number(out, datetime_us(packed).map(|us| if fsp <= 3 { us.div_euclid(1000) } else { us }));
        }
        (Type::Timestamp { .. }, Value::Int(i64::MIN)) => out.extend_from_slice(b"null"),
        (Type::Timestamp { fsp }, Value::Int(us)) => {
            out.push(b'"');
            text::timestamp(out, us, fsp);
            out.push(b'"');
        }
        (Type::Time { .. }, Value::Int(us)) => text::int(out, us),
        (Type::Decimal { .. }, Value::Decimal(n)) => {
            let bytes = n.to_be_bytes();
            // Bytes that only repeat the sign say nothing.
            let sign = if n < 0 { 0xff } else { 0 };
            let mut from = bytes.iter().take(15).take_while(|&&b| b == sign).count();
            if from > 0 && bytes.get(from).is_some_and(|b| b >> 7 != sign >> 7) {
                from -= 1;
            }
            json::base64_string(out, bytes.get(from..).unwrap_or_default());
        }
        (Type::Bit, Value::Uint(n)) => bit(out, column, n),
        (Type::U64, Value::Uint(n)) => text::int(out, n.cast_signed()),
        (Type::Geometry, Value::Bytes(raw)) => match raw.split_first_chunk::<4>() {
            Some((srid, wkb)) => {
                out.extend_from_slice(b"{\"wkb\":");
                json::base64_string(out, wkb);
                out.extend_from_slice(b",\"srid\":");
                match u32::from_le_bytes(*srid) {
                    0 => out.extend_from_slice(b"null"),
                    srid => text::padded(out, u64::from(srid), 1),
                }
                out.push(b'}');
            }
            None => out.extend_from_slice(b"null"),
        },
        (Type::JsonB, Value::Bytes(raw)) => {
            document::text(out, raw);
        }
        (_, Value::Bytes(raw) | Value::RawText(raw))
            if column.ty != Type::Vector && !is_address(column.ty) =>
        {
            out.push(b'"');
            base64::encode(raw, out);
            out.push(b'"');
        }
        _ => {
            json::write_value(out, column, value, Integers::Number);
        }
    }
}

fn is_address(ty: Type) -> bool {
    matches!(ty, Type::Uuid | Type::Inet4 | Type::Inet6)
}

/// `bit(n)` as declared says how many bytes; where that is not known, as many as the value needs.
fn bit(out: &mut Vec<u8>, column: &Column, n: u64) {
    let bits = column.declared.strip_prefix("bit(").and_then(|rest| rest.trim_end_matches(')').parse().ok());
    match bits {
        Some(1u32) => out.extend_from_slice(if n == 1 { b"true" } else { b"false" as &[u8] }),
        _ => {
            let needed = (64 - n.leading_zeros()).max(1);
            let bytes = bits.unwrap_or(needed).clamp(1, 64).div_ceil(8) as usize;
            json::base64_string(out, n.to_le_bytes().get(..bytes).unwrap_or_default());
        }
    }
}

/// Days since 1970-01-01; `None` for a date that is none.
fn date_days(packed: u64) -> Option<i64> {
    text::days(packed >> 9, packed >> 5 & 15, packed & 31)
}

/// Microseconds since 1970, as if it were UTC; `None` for a time that is none.
fn datetime_us(packed: u64) -> Option<i64> {
    let seconds = packed >> 24;
    let months = seconds >> 22;
    let days = text::days(months / 13, months % 13, seconds >> 17 & 31)?;
    let in_day = (seconds >> 12 & 31) * 3600 + (seconds >> 6 & 63) * 60 + (seconds & 63);
    Some((days * 86_400 + in_day as i64) * 1_000_000 + (packed & 0xff_ffff) as i64)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::event::binlog::{Binlog, Gtid, RowsEvent, Transaction};
    use crate::event::{BatchBuilder, Image, Table, TableKind};

    fn packed(y: u64, mo: u64, d: u64, h: u64, mi: u64, s: u64, us: u64) -> u64 {
        ((((y * 13 + mo) << 5 | d) << 17) | h << 12 | mi << 6 | s) << 24 | us
    }

    #[test]
    fn values() {
        let column = |ty| Column::new("c", ty);
        let bits = |n| Column { declared: format!("bit({n})").into(), ..Column::new("c", Type::Bit) };
        let decimal = Type::Decimal { precision: 12, scale: 2 };
        let geometry = [0xe6, 0x10, 0, 0, 1, 2, 3];
        let cases: &[(Column, Value<'_>, &str)] = &[
            // Unscaled 12345 is 0x3039, -1 is 0xff, 128 needs a byte for its sign, 0 is one byte.
            (column(decimal), Value::Decimal(12345), "\"MDk=\""),
            (column(decimal), Value::Decimal(-1), "\"/w==\""),
            (column(decimal), Value::Decimal(128), "\"AIA=\""),
            (column(decimal), Value::Decimal(-128), "\"gA==\""),
            (column(decimal), Value::Decimal(0), "\"AA==\""),
            (bits(1), Value::Uint(1), "true"),
            (bits(1), Value::Uint(0), "false"),
            (bits(12), Value::Uint(0x0102), "\"AgE=\""),
            (column(Type::U64), Value::Uint(u64::MAX), "-1"),
            (column(Type::Date), Value::Uint(2024 << 9 | 2 << 5 | 29), "19782"),
            (column(Type::Date), Value::Uint(0), "null"),
            (column(Type::Time { fsp: 0 }), Value::Int(-1_000_000), "-1000000"),
            (
                column(Type::DateTime { fsp: 3 }),
                Value::Uint(packed(2018, 6, 20, 6, 37, 3, 123_000)),
                "1529476623123",
            ),
            (
                column(Type::DateTime { fsp: 6 }),
                Value::Uint(packed(2018, 6, 20, 6, 37, 3, 123_456)),
                "1529476623123456",
            ),
            (column(Type::DateTime { fsp: 0 }), Value::Uint(0), "null"),
            (
                column(Type::Timestamp { fsp: 0 }),
                Value::Int(1_529_476_623_000_000),
                "\"2018-06-20T06:37:03Z\"",
            ),
            (column(Type::Year), Value::Uint(2024), "2024"),
            (column(Type::Bytes), Value::Bytes(b"\x00\x01"), "\"AAE=\""),
            (column(Type::Geometry), Value::Bytes(&geometry), r#"{"wkb":"AQID","srid":4326}"#),
            (column(Type::Text), Value::Text("a\"b"), r#""a\"b""#),
            (column(Type::Json), Value::Text("{\"a\": 1}"), r#""{\"a\": 1}""#),
            (column(Type::Text), Value::Null, "null"),
        ];
        for (column, given, expected) in cases {
            let mut out = Vec::new();
            value(&mut out, column, *given);
            assert_eq!(std::str::from_utf8(&out).unwrap(), *expected, "{:?} {given:?}", column.ty);
        }
    }

    #[test]
    fn golden_envelopes() {
        let columns = vec![
            Column { key: Some(0), ..Column::new("id", Type::I32) },
            Column::new("first_name", Type::Text),
        ];
        let table = Arc::new(Table {
            kind: TableKind::Table,
            db: "inventory".into(),
            name: "customers".into(),
            version: 1,
            columns,
        });
        let mut b = BatchBuilder::new("mysql-server-1".into());
        let row = |id, name| [Value::Int(id), Value::Text(name)];
        let (anne, marie, moved) = (row(1004, "Anne"), row(1004, "Anne Marie"), row(7, "Anne Marie"));
        let hlc = 1_700_000_000_500 << 16;
        b.push(Op::Insert, hlc, &table, None, Some(Image::full(&anne))).unwrap();
        b.push(Op::Update, hlc, &table, Some(Image::full(&anne)), Some(Image::full(&marie))).unwrap();
        b.push(Op::Update, hlc, &table, Some(Image::full(&marie)), Some(Image::full(&moved))).unwrap();
        b.push(Op::Delete, hlc, &table, Some(Image::full(&moved)), None).unwrap();
        let mut batch = b.finish();
        let transaction = Transaction {
            gtid: Gtid::None,
            file: "mysql-bin.000003".into(),
            start: 4,
            commit_ts_us: None,
            xa: None,
        };
        let events = vec![RowsEvent { first_row: 0, transaction: 0, end: 484, ts_ms: 1_700_000_000_000 }];
        batch.origin = Origin::Binlog(Arc::new(Binlog {
            server_uuid: "u".into(),
            transactions: vec![transaction],
            events,
        }));
        let mut encoder = DebeziumEncoder::default();
        let parts = [&[Part::Whole][..], &[Part::Whole], &[Part::Gone, Part::Came], &[Part::Whole]];
        let mut lines = Vec::new();
        for (row, parts) in batch.iter().zip(parts) {
            for part in parts {
                let mut out = Vec::new();
                let key = encoder.write(&mut out, &batch, &row.unwrap(), *part).unwrap().unwrap();
                assert_eq!(key.end, out.len());
                let (value, key) = out.split_at(key.start);
                serde_json::from_slice::<serde_json::Value>(value).unwrap();
                lines.push([key, b" ", value].concat());
            }
        }
        let lines = String::from_utf8(lines.join(&b'\n')).unwrap();
        let golden = include_str!("debezium_golden.txt").replace("VERSION", env!("CARGO_PKG_VERSION"));
        assert_eq!(lines, golden.trim_end());
    }
}

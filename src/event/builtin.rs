//! The shapes of events that no source's table stands behind.
//!
//! Their column order is part of the stored format: append only, with a new `version`.

use std::sync::{Arc, LazyLock};

use super::row::Image;
use super::table::{Column, Table, TableKind};
use super::value::{Type, Value};

fn shape(kind: TableKind, columns: &[(&str, Type, Option<u16>)]) -> Arc<Table> {
    let columns = columns.iter().map(|&(name, ty, key)| Column { key, ..Column::new(name, ty) });
    let columns = columns.collect();
    Arc::new(Table { kind, db: "".into(), name: "".into(), version: 1, columns })
}

/// `key, topic, json, text, bytes, headers`: a body that was JSON stands in `json`, other UTF-8 in
/// `text`, the rest in `bytes`; exactly one of the three is not NULL. `headers` is a JSON object.
/// (`topic`, `key`) is its key: `key` is what a message is compacted by, where the input knows one.
pub fn message() -> &'static Arc<Table> {
    static SHAPE: LazyLock<Arc<Table>> = LazyLock::new(|| {
        shape(
            TableKind::Message,
            &[
                ("key", Type::Text, Some(1)),
                ("topic", Type::Text, Some(0)),
                ("json", Type::Json, None),
                ("text", Type::Text, None),
                ("bytes", Type::Bytes, None),
                ("headers", Type::Json, None),
            ],
        )
    });
    &SHAPE
}

/// `lane, epoch, from, to, reason, bound, rows`: sequences `from`…`to` of a lane's epoch that a
/// device had to give up. `reason` and `bound` are FORMATS' words; `rows` counts the rows lost in
/// the range, which after a compaction is fewer than its length.
pub fn loss() -> &'static Arc<Table> {
    static SHAPE: LazyLock<Arc<Table>> = LazyLock::new(|| {
        shape(
            TableKind::Loss,
            &[
                ("lane", Type::Text, None),
                ("epoch", Type::U64, None),
                ("from", Type::U64, None),
                ("to", Type::U64, None),
                ("reason", Type::Text, None),
                ("bound", Type::Text, None),
                ("rows", Type::U64, None),
            ],
        )
    });
    &SHAPE
}

/// `default_db, tables, sql`: a statement that changed a schema; `tables` is a JSON list of
/// [db, table].
pub fn ddl() -> &'static Arc<Table> {
    static SHAPE: LazyLock<Arc<Table>> = LazyLock::new(|| {
        shape(
            TableKind::Ddl,
            &[("default_db", Type::Text, None), ("tables", Type::Json, None), ("sql", Type::Text, None)],
        )
    });
    &SHAPE
}

/// The body of a message, before it is a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload<'a> {
    /// Valid JSON text.
    Json(&'a str),
    /// UTF-8 that is no JSON.
    Text(&'a str),
    /// Anything else.
    Bytes(&'a [u8]),
}

impl<'a> Payload<'a> {
    /// JSON if it is valid JSON of at most [`MAX_JSON_DEPTH`] levels, else text if it is UTF-8, else bytes.
    pub fn guess(bytes: &'a [u8]) -> Self {
        let Ok(text) = std::str::from_utf8(bytes) else { return Self::Bytes(bytes) };
        match serde_json::from_str::<&serde_json::value::RawValue>(text) {
            Ok(json) if json_depth(text) <= MAX_JSON_DEPTH => Self::Json(json.get()),
            _ => Self::Text(text),
        }
    }
}

/// Levels that every JSON reader behind dts can be expected to take; serde_json's own limit.
pub const MAX_JSON_DEPTH: usize = 127;

/// How deep the arrays and objects of valid JSON are nested.
pub fn json_depth(json: &str) -> usize {
    let (mut depth, mut deepest, mut in_string, mut escaped) = (0usize, 0, false, false);
    for byte in json.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// The values of a [`message`] row, to be pushed with [`super::Op::Message`] as
/// `Image::full(&values)`.
pub fn message_values<'a>(
    topic: &'a str,
    key: Option<&'a str>,
    payload: Payload<'a>,
    headers: Option<&'a str>,
) -> [Value<'a>; 6] {
    let text = |t: Option<&'a str>| t.map_or(Value::Null, Value::Text);
    let (json, plain, bytes) = match payload {
        Payload::Json(j) => (Value::Text(j), Value::Null, Value::Null),
        Payload::Text(t) => (Value::Null, Value::Text(t), Value::Null),
        Payload::Bytes(b) => (Value::Null, Value::Null, Value::Bytes(b)),
    };
    [text(key), Value::Text(topic), json, plain, bytes, text(headers)]
}

/// Why and what a device gave up; see [`loss`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// Name of the lane.
    pub lane: Box<str>,
    /// Its epoch.
    pub epoch: u64,
    /// First sequence number.
    pub from: u64,
    /// Last sequence number, inclusive.
    pub to: u64,
    /// `max_bytes`, `max_age`, `compact`, `downsample`, `power`, `corrupt`, `refused`.
    pub reason: Box<str>,
    /// Whether the count is exact or an upper bound.
    pub exact: bool,
    /// Rows lost in the range.
    pub rows: u64,
}

impl Loss {
    /// The values of its row, to be pushed with [`super::Op::Loss`] as `Image::full(&values)`.
    pub fn values(&self) -> [Value<'_>; 7] {
        [
            Value::Text(&self.lane),
            Value::Uint(self.epoch),
            Value::Uint(self.from),
            Value::Uint(self.to),
            Value::Text(&self.reason),
            Value::Text(if self.exact { "exact" } else { "at_most" }),
            Value::Uint(self.rows),
        ]
    }

    /// Reads a row of the shape [`loss`]; `None` if a value is missing.
    pub fn from_image(image: &super::ImageView<'_>) -> Option<Self> {
        let text = |i| match image.get(i) {
            Some(Value::Text(t)) => Some(t),
            _ => None,
        };
        let uint = |i| match image.get(i) {
            Some(Value::Uint(n)) => Some(n),
            _ => None,
        };
        Some(Self {
            lane: text(0)?.into(),
            epoch: uint(1)?,
            from: uint(2)?,
            to: uint(3)?,
            reason: text(4)?.into(),
            exact: text(5)? == "exact",
            rows: uint(6)?,
        })
    }
}

/// An image of `values`; a shorthand for builtin rows.
pub fn image<'a>(values: &'a [Value<'a>]) -> Option<Image<'a>> {
    Some(Image::full(values))
}

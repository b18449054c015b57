//! dts JSON, the native text form of a change: one object a line.
//!
//! The public format is described for users in `docs/formats.md`. A row is written straight from its
//! record into a buffer: nothing is allocated for a value.
//!
//! What that page leaves open, as it is done here:
//! - A device event whose clock was never known has `"ts_ms":null` and no `hlc`.
//! - `message` also carries `key` where the input knows one; `loss` also `rows` (rows lost in the
//!   range) and `id`; `ddl` also `id`. A loss's `epoch` is 16 hex digits, as in an `id`.
//! - NaN and infinities, which JSON numbers cannot say: `{"special":"NaN"}`, `"Infinity"`, `"-Infinity"`.
//! - Columns that hold values of mixed types (SQLite): an integer is a number without, a real one
//!   with a point or an exponent; text is a string. A blob is a base64 string where the column is declared as
//!   BLOB or BINARY and `{"base64":…}` elsewhere; text in a column declared as BLOB is `{"text":…}`, so
//!   that it is never taken for base64.
//! - MySQL's binary JSON and its partial updates are not decoded yet: `{"base64":…}` of the bytes as
//!   they came, and the column stands in `unresolved`. So does a geometry too short for its SRID.
//! - A message that claims to be JSON and is not (its sender lied) is written as the string it is.

use crate::config::node::{Kind, Node};
use crate::config::{Context, Field};
use crate::event::batch::ClockState;
use crate::event::{Batch, Column, ImageView, Op, Origin, RowError, RowView, Table, TableKind, Type, Value};

use super::{base64, text};

/// How much of what is known about a change is written beside its values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Meta {
    /// Everything.
    #[default]
    Full,
    /// Without `hlc`, `clock`, `schema`, `pos`, and without `before` where a key names the row.
    Id,
    /// As `Id`, and without `id`, `source`, `ts_ms`.
    None,
}

impl Field for Meta {
    fn read(node: &Node, cx: &mut Context) -> Option<Self> {
        match &node.kind {
            Kind::Scalar { text, .. } if text == "full" => Some(Self::Full),
            Kind::Scalar { text, .. } if text == "id" => Some(Self::Id),
            Kind::Scalar { text, .. } if text == "none" => Some(Self::None),
            _ => cx.expected(node, "`full`, `id` or `none`"),
        }
    }

    fn schema() -> serde_json::Value {
        serde_json::json!({ "enum": ["full", "id", "none"] })
    }
}

/// How SQL integers are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Integers {
    /// As JSON numbers, exact up to 64 bits.
    #[default]
    Number,
    /// As strings, for readers that lose precision beyond 2^53.
    String,
}

impl Field for Integers {
    fn read(node: &Node, cx: &mut Context) -> Option<Self> {
        match &node.kind {
            Kind::Scalar { text, .. } if text == "number" => Some(Self::Number),
            Kind::Scalar { text, .. } if text == "string" => Some(Self::String),
            _ => cx.expected(node, "`number` or `string`"),
        }
    }

    fn schema() -> serde_json::Value {
        serde_json::json!({ "enum": ["number", "string"] })
    }
}

/// How a sink wants its JSON.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Format {
    /// What is written beside the values.
    pub meta: Meta,
    /// How SQL integers are written.
    pub integers: Integers,
}

/// A row that cannot be written as JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// Its record is damaged.
    #[error(transparent)]
    Row(#[from] RowError),
    /// A message, loss or ddl that does not have the shape of one.
    #[error("a {} event in a row of another shape", .0.as_str())]
    Shape(Op),
}

/// Which row of a batch cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("row {row}: {error}")]
pub struct BatchError {
    /// Index into the rows of the batch.
    pub row: u32,
    /// What is wrong with it.
    pub error: JsonError,
}

/// Appends every row of `batch`, each with a line feed. On an error `out` ends with the last row
/// before the bad one.
pub fn write_batch(out: &mut Vec<u8>, batch: &Batch, format: Format) -> Result<(), BatchError> {
    for (row, view) in (0u32..).zip(batch) {
        view.map_err(JsonError::Row)
            .and_then(|view| write_row(out, batch, &view, format))
            .map_err(|error| BatchError { row, error })?;
        out.push(b'\n');
    }
    Ok(())
}

/// Appends one row of `batch` as one JSON object, without a line feed and with none inside. On an
/// error `out` is as it was.
pub fn write_row(
    out: &mut Vec<u8>,
    batch: &Batch,
    row: &RowView<'_>,
    format: Format,
) -> Result<(), JsonError> {
    let start = out.len();
    let written = Writer { out, batch, row, format }.record();
    if written.is_err() {
        out.truncate(start);
    }
    written
}

struct Writer<'w, 'b> {
    out: &'w mut Vec<u8>,
    batch: &'b Batch,
    row: &'w RowView<'b>,
    format: Format,
}

impl Writer<'_, '_> {
    fn record(&mut self) -> Result<(), JsonError> {
        let (before, after) = self.row.images()?;
        let op = self.row.op();
        self.raw(b"{\"kind\":\"");
        match op {
            Op::Message => self.message(after.ok_or(JsonError::Shape(op))?)?,
            Op::Loss => self.loss(after.ok_or(JsonError::Shape(op))?)?,
            Op::Ddl => self.ddl(after.ok_or(JsonError::Shape(op))?)?,
            _ => self.change(before, after),
        }
        self.stamp();
        self.raw(b"}");
        Ok(())
    }

    fn change(&mut self, before: Option<ImageView<'_>>, after: Option<ImageView<'_>>) {
        let table = &**self.row.table();
        let keyed = table.columns.iter().any(|c| c.key.is_some());
        self.raw(b"row\",\"op\":\"");
        self.raw(self.row.op().as_str().as_bytes());
        self.raw(b"\"");
        self.head();
        self.raw(b",\"db\":");
        string(self.out, &table.db);
        self.raw(b",\"table\":");
        string(self.out, &table.name);
        self.raw(b",\"key\":");
        let old = before.or(after);
        match old {
            Some(image) if keyed => self.key(table, &image),
            _ => self.raw(b"null"),
        }
        if let (true, Some(new), true) = (keyed && self.row.key_changed(), after, before.is_some()) {
            self.raw(b",\"new_key\":");
            self.key(table, &new);
        }
        let mut resolved = true;
        if self.format.meta == Meta::Full || !keyed {
            self.raw(b",\"before\":");
            resolved &= self.image(before);
        }
        self.raw(b",\"after\":");
        resolved &= self.image(after);
        let partial = |image: Option<ImageView<'_>>| image.is_some_and(|i| i.is_partial());
        match (partial(before), partial(after)) {
            (true, true) => self.raw(b",\"partial\":[\"before\",\"after\"]"),
            (true, false) => self.raw(b",\"partial\":[\"before\"]"),
            (false, true) => self.raw(b",\"partial\":[\"after\"]"),
            (false, false) => {}
        }
        if !resolved {
            self.unresolved(before, after);
        }
        if self.format.meta == Meta::Full {
            self.raw(b",\"schema\":");
            text::padded(self.out, u64::from(table.version), 1);
        }
    }

    fn message(&mut self, image: ImageView<'_>) -> Result<(), JsonError> {
        let mut values = [Value::Null; 6];
        self.shape(image, TableKind::Message, &mut values)?;
        let [key, topic, json, plain, bytes, headers] = values;
        let Value::Text(topic) = topic else { return Err(JsonError::Shape(Op::Message)) };
        self.raw(b"message\"");
        self.head();
        self.raw(b",\"topic\":");
        string(self.out, topic);
        if let Value::Text(key) = key {
            self.raw(b",\"key\":");
            string(self.out, key);
        }
        self.raw(b",\"payload\":");
        match (json, plain, bytes) {
            (Value::Text(json), ..) => document(self.out, json),
            (_, Value::Text(plain), _) => string(self.out, plain),
            (.., Value::Bytes(bytes)) => base64_object(self.out, bytes),
            _ => self.raw(b"null"),
        }
        if let Value::Text(headers) = headers {
            self.raw(b",\"headers\":");
            document(self.out, headers);
        }
        Ok(())
    }

    fn loss(&mut self, image: ImageView<'_>) -> Result<(), JsonError> {
        let mut values = [Value::Null; 7];
        self.shape(image, TableKind::Loss, &mut values)?;
        let [
            Value::Text(lane),
            Value::Uint(epoch),
            Value::Uint(from),
            Value::Uint(to),
            Value::Text(reason),
            Value::Text(bound),
            Value::Uint(rows),
        ] = values
        else {
            return Err(JsonError::Shape(Op::Loss));
        };
        self.raw(b"loss\"");
        self.head();
        self.raw(b",\"lane\":");
        string(self.out, lane);
        self.raw(b",\"epoch\":\"");
        text::hex64(self.out, epoch);
        self.raw(b"\",\"from\":");
        text::padded(self.out, from, 1);
        self.raw(b",\"to\":");
        text::padded(self.out, to, 1);
        self.raw(b",\"reason\":");
        string(self.out, reason);
        self.raw(b",\"bound\":");
        string(self.out, bound);
        self.raw(b",\"rows\":");
        text::padded(self.out, rows, 1);
        Ok(())
    }

    fn ddl(&mut self, image: ImageView<'_>) -> Result<(), JsonError> {
        let mut values = [Value::Null; 3];
        self.shape(image, TableKind::Ddl, &mut values)?;
        let [default_db, tables, sql] = values;
        let Value::Text(sql) = sql else { return Err(JsonError::Shape(Op::Ddl)) };
        self.raw(b"ddl\"");
        self.head();
        self.raw(b",\"default_db\":");
        match default_db {
            Value::Text(db) => string(self.out, db),
            _ => self.raw(b"null"),
        }
        self.raw(b",\"tables\":");
        match tables {
            Value::Text(tables) => document(self.out, tables),
            _ => self.raw(b"[]"),
        }
        self.raw(b",\"sql\":");
        string(self.out, sql);
        Ok(())
    }

    /// The first columns of a builtin shape, which only ever grows at its end.
    fn shape<'a>(
        &self,
        image: ImageView<'a>,
        kind: TableKind,
        values: &mut [Value<'a>],
    ) -> Result<(), JsonError> {
        if image.table().kind != kind {
            return Err(JsonError::Shape(self.row.op()));
        }
        for (i, value) in &image {
            if let Some(place) = values.get_mut(i) {
                *place = value;
            }
        }
        Ok(())
    }

    /// `source`, `ts_ms`, `id`: what stands before the change itself.
    fn head(&mut self) {
        if self.format.meta == Meta::None {
            return;
        }
        self.raw(b",\"source\":");
        string(self.out, &self.batch.source);
        self.raw(b",\"ts_ms\":");
        match self.hlc() {
            0 => self.raw(b"null"),
            hlc => text::padded(self.out, hlc >> 16, 1),
        }
        if let Origin::Device { device, lane, epoch, first_seq, .. } = &self.batch.origin {
            self.raw(b",\"id\":\"");
            escape(self.out, device);
            self.raw(b"/");
            escape(self.out, lane);
            self.raw(b"/");
            text::hex64(self.out, *epoch);
            self.raw(b"/");
            text::padded(self.out, first_seq.wrapping_add(self.row.head().ordinal), 1);
            self.raw(b"\"");
        }
    }

    /// `hlc`, `clock`: what stands behind it.
    fn stamp(&mut self) {
        if self.format.meta != Meta::Full {
            return;
        }
        let hlc = self.hlc();
        if hlc != 0 {
            self.raw(b",\"hlc\":\"");
            text::padded(self.out, hlc >> 16, 1);
            self.raw(b".");
            text::padded(self.out, hlc & 0xffff, 1);
            self.raw(b"\"");
        }
        if matches!(self.batch.origin, Origin::Device { .. }) {
            self.raw(match self.batch.clock.state {
                ClockState::Synced => b",\"clock\":\"synced\"" as &[u8],
                ClockState::Estimated => b",\"clock\":\"estimated\"",
                ClockState::Unknown => b",\"clock\":\"unknown\"",
            });
        }
    }

    fn hlc(&self) -> u64 {
        self.batch.clock.hlc(self.row.head().hlc)
    }

    fn key(&mut self, table: &Table, image: &ImageView<'_>) {
        self.raw(b"{");
        let mut first = true;
        for place in 0u16.. {
            let Some(column) = table.columns.iter().position(|c| c.key == Some(place)) else { break };
            if let (Some(value), Some(shape)) = (image.get(column), table.columns.get(column)) {
                self.member(shape, value, &mut first);
            }
        }
        self.raw(b"}");
    }

    /// Whether every value could be made what the format says.
    fn image(&mut self, image: Option<ImageView<'_>>) -> bool {
        let Some(image) = image else {
            self.raw(b"null");
            return true;
        };
        let (mut first, mut resolved) = (true, true);
        self.raw(b"{");
        for (column, value) in &image {
            if let Some(shape) = image.table().columns.get(column) {
                resolved &= self.member(shape, value, &mut first);
            }
        }
        self.raw(b"}");
        resolved
    }

    fn member(&mut self, column: &Column, value: Value<'_>, first: &mut bool) -> bool {
        if !std::mem::take(first) {
            self.raw(b",");
        }
        string(self.out, &column.name);
        self.raw(b":");
        write_value(self.out, column, value, self.format.integers)
    }

    /// Written only for the rare row that has such columns, so it may walk the images once more.
    fn unresolved(&mut self, before: Option<ImageView<'_>>, after: Option<ImageView<'_>>) {
        self.raw(b",\"unresolved\":[");
        let mut first = true;
        let mut scratch = Vec::new();
        for (i, column) in self.row.table().columns.iter().enumerate() {
            let mut open = |image: Option<ImageView<'_>>| {
                let value = image.and_then(|image| image.get(i));
                scratch.clear();
                value.is_some_and(|v| !write_value(&mut scratch, column, v, Integers::Number))
            };
            if open(before) || open(after) {
                if !std::mem::take(&mut first) {
                    self.raw(b",");
                }
                string(self.out, &column.name);
            }
        }
        self.raw(b"]");
    }

    fn raw(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }
}

/// Appends one value of `column` as JSON. `false` if it could not be made what the format says:
/// such a column is listed in `unresolved`.
pub fn write_value(out: &mut Vec<u8>, column: &Column, value: Value<'_>, integers: Integers) -> bool {
    let quoted = integers == Integers::String;
    match (column.ty, value) {
        (_, Value::Null) => out.extend_from_slice(b"null"),
        (Type::Timestamp { .. } | Type::Time { .. }, Value::Int(_))
        | (Type::Date | Type::DateTime { .. }, Value::Uint(_))
        | (Type::Decimal { .. }, Value::Decimal(_))
        | (Type::Uuid | Type::Inet4 | Type::Inet6, Value::Bytes(_)) => {
            out.push(b'"');
            let known = text::formatted(out, column, value);
            out.push(b'"');
            return known;
        }
        (Type::Enum, Value::Uint(n)) => match text::label(n, &column.labels) {
            Some(label) => string(out, label),
            None => {
                integer(out, false, |out| text::padded(out, n, 1));
                return false;
            }
        },
        (Type::Set, Value::Uint(n)) => return set(out, n, &column.labels),
        (_, Value::Int(n)) => integer(out, quoted, |out| text::int(out, n)),
        (_, Value::Uint(n)) => integer(out, quoted, |out| text::padded(out, n, 1)),
        (_, Value::F32(n)) => real(out, f64::from(n), |out| serde_json::to_writer(out, &n), true),
        (ty, Value::F64(n)) => real(out, n, |out| serde_json::to_writer(out, &n), ty != Type::Any),
        (_, Value::Decimal(n)) => {
            out.push(b'"');
            text::decimal(out, n, 0);
            out.push(b'"');
        }
        (_, Value::Digits(digits)) => string(out, digits),
        (Type::Any, Value::Text(s)) if declared_blob(&column.declared) => {
            out.extend_from_slice(b"{\"text\":");
            string(out, s);
            out.push(b'}');
        }
        (_, Value::Text(s)) => string(out, s),
        (_, Value::RawText(b)) => base64_object(out, b),
        (Type::Any, Value::Bytes(b)) if !declared_blob(&column.declared) => base64_object(out, b),
        (Type::JsonB | Type::JsonPatch, Value::Bytes(b)) => {
            base64_object(out, b);
            return false;
        }
        (Type::Geometry, Value::Bytes(b)) => return geometry(out, b),
        (Type::Vector, Value::Bytes(b)) => return vector(out, b),
        (_, Value::Bytes(b)) => base64_string(out, b),
    }
    true
}

/// Whether a mixed column is declared to hold bytes, so that its blobs are plain base64.
fn declared_blob(declared: &str) -> bool {
    let name = declared.split('(').next().unwrap_or_default().trim();
    ["BLOB", "BINARY", "VARBINARY", "TINYBLOB", "MEDIUMBLOB", "LONGBLOB"]
        .iter()
        .any(|known| name.eq_ignore_ascii_case(known))
}

fn integer(out: &mut Vec<u8>, quoted: bool, digits: impl FnOnce(&mut Vec<u8>)) {
    if quoted {
        out.push(b'"');
    }
    digits(out);
    if quoted {
        out.push(b'"');
    }
}

/// Appends the shortest digits that read back to the same f32.
pub fn float(out: &mut Vec<u8>, n: f32) {
    real(out, f64::from(n), |out| serde_json::to_writer(out, &n), true);
}

/// Appends the shortest digits that read back to the same f64.
pub fn double(out: &mut Vec<u8>, n: f64) {
    real(out, n, |out| serde_json::to_writer(out, &n), true);
}

/// The shortest digits that read back to the same number. `bare`: a whole number has no `.0`.
fn real(out: &mut Vec<u8>, n: f64, digits: impl FnOnce(&mut Vec<u8>) -> serde_json::Result<()>, bare: bool) {
    if !n.is_finite() {
        let name = match (n.is_nan(), n > 0.0) {
            (true, _) => "NaN",
            (_, true) => "Infinity",
            _ => "-Infinity",
        };
        out.extend_from_slice(b"{\"special\":\"");
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b"\"}");
        return;
    }
    let start = out.len();
    // A Vec takes everything, and the number is finite.
    digits(out).unwrap_or_default();
    if let Some(at) = out.iter().skip(start).position(|&b| b == b'+') {
        out.remove(start + at);
    }
    // A parser that takes `-0` for an integer would lose the sign.
    if bare && out.ends_with(b".0") && !(n == 0.0 && n.is_sign_negative()) {
        out.truncate(out.len() - 2);
    }
}

fn set(out: &mut Vec<u8>, bits: u64, labels: &[Box<str>]) -> bool {
    let known = !labels.is_empty() && (labels.len() >= 64 || bits >> labels.len() == 0);
    if !known {
        text::padded(out, bits, 1);
        return false;
    }
    out.push(b'"');
    let mut first = true;
    for (_, label) in labels.iter().take(64).enumerate().filter(|(i, _)| bits >> i & 1 == 1) {
        if !std::mem::take(&mut first) {
            out.push(b',');
        }
        escape(out, label);
    }
    out.push(b'"');
    true
}

/// Appends SRID (little-endian) and WKB, as MySQL stores them. `false`, with the bytes appended, if there is no SRID.
pub fn geometry(out: &mut Vec<u8>, bytes: &[u8]) -> bool {
    let Some((srid, wkb)) = bytes.split_first_chunk::<4>() else {
        base64_object(out, bytes);
        return false;
    };
    out.extend_from_slice(b"{\"srid\":");
    text::padded(out, u64::from(u32::from_le_bytes(*srid)), 1);
    out.extend_from_slice(b",\"wkb\":");
    base64_string(out, wkb);
    out.push(b'}');
    true
}

/// Appends a vector of f32, little-endian. `false`, with the bytes appended, if they are no whole numbers of it.
pub fn vector(out: &mut Vec<u8>, bytes: &[u8]) -> bool {
    let (elements, rest) = bytes.as_chunks::<4>();
    let mut numbers = elements.iter().map(|e| f32::from_le_bytes(*e));
    if !rest.is_empty() || !numbers.clone().all(f32::is_finite) {
        base64_object(out, bytes);
        return rest.is_empty();
    }
    out.push(b'[');
    let write =
        |n: f32, out: &mut Vec<u8>| real(out, f64::from(n), |out| serde_json::to_writer(out, &n), true);
    if let Some(n) = numbers.next() {
        write(n, out);
    }
    for n in numbers {
        out.push(b',');
        write(n, out);
    }
    out.push(b']');
    true
}

/// Appends bytes as a base64 string.
pub fn base64_string(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'"');
    base64::encode(bytes, out);
    out.push(b'"');
}

/// Appends bytes that should have been something else: `{"base64": …}`.
pub fn base64_object(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(b"{\"base64\":");
    base64_string(out, bytes);
    out.push(b'}');
}

/// A JSON document as it came, on one line; as a string if it is none. A line feed can only stand
/// between its tokens: inside a string JSON forbids it.
fn document(out: &mut Vec<u8>, json: &str) {
    if serde_json::from_str::<serde::de::IgnoredAny>(json).is_err() {
        return string(out, json);
    }
    let start = out.len();
    out.extend_from_slice(json.as_bytes());
    for byte in out.iter_mut().skip(start).filter(|b| matches!(b, b'\n' | b'\r')) {
        *byte = b' ';
    }
}

/// Appends `s` as a JSON string.
pub fn string(out: &mut Vec<u8>, s: &str) {
    out.push(b'"');
    escape(out, s);
    out.push(b'"');
}

/// What must be escaped: quote, backslash and control characters (RFC 8259, section 7).
#[inline]
fn is_escaped(byte: u8) -> bool {
    (byte < 0x20) | (byte == b'"') | (byte == b'\\')
}

/// Where the first byte is that must be escaped.
#[inline]
fn first_escaped(bytes: &[u8]) -> Option<usize> {
    // Sixteen at a time, all of them, which is one step of a vector unit.
    let (blocks, end) = bytes.as_chunks::<16>();
    let clean = |block: &[u8; 16]| !block.iter().fold(false, |any, &b| any | is_escaped(b));
    let from = match blocks.iter().position(|block| !clean(block)) {
        Some(block) => block * 16,
        None => bytes.len() - end.len(),
    };
    bytes.get(from..)?.iter().position(|&b| is_escaped(b)).map(|at| from + at)
}

/// Appends `s` as the inside of a JSON string.
pub fn escape(out: &mut Vec<u8>, s: &str) {
    let mut rest = s.as_bytes();
    while let Some(at) = first_escaped(rest) {
        let (clean, tail) = rest.split_at(at);
        out.extend_from_slice(clean);
        let Some((&byte, tail)) = tail.split_first() else { break };
        rest = tail;
        out.push(b'\\');
        match byte {
            b'"' | b'\\' => out.push(byte),
            b'\n' => out.push(b'n'),
            b'\r' => out.push(b'r'),
            b'\t' => out.push(b't'),
            8 => out.push(b'b'),
            12 => out.push(b'f'),
            _ => {
                out.extend_from_slice(b"u00");
                text::hex(out, byte);
            }
        }
    }
    out.extend_from_slice(rest);
}

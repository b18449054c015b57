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
//! - MySQL's binary JSON that is damaged, or in a build without its decoder: `{"base64":…}` of the bytes as
//!   they came, and the column stands in `unresolved`. So does a geometry too short for its SRID.
//! - A message that claims to be JSON and is not (its sender lied) is written as the string it is.

mod value;

use std::cell::RefCell;
use std::ops::Range;

use crate::config::node::{Kind, Node};
use crate::config::{Context, Field};
use crate::event::batch::ClockState;
use crate::event::{Batch, ImageView, Op, Origin, RowError, RowView, TableKind, Value, Walk};

use super::place::{Part, Place, row_id};
use super::shape::{Keys, Shape, Shapes};
use super::text;

pub use value::{base64_object, base64_string, double, escape, float, geometry, string, vector, write_value};

/// How much of what is known about a change is written beside its values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Meta {
    /// Everything.
    #[default]
    Full,
    /// Without `hlc`, `clock`, `schema`, `pos`, `commit_ts_us`, `xa`, and without `before` where a key names the row.
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
    RECENT.with_borrow_mut(|encoder| {
        for (row, view) in (0u32..).zip(batch) {
            view.map_err(JsonError::Row)
                .and_then(|view| encoder.write(out, batch, &view, format, Part::Whole))
                .map_err(|error| BatchError { row, error })?;
            out.push(b'\n');
        }
        Ok(())
    })
}

/// Appends one row of `batch` as one JSON object, without a line feed and with none inside. On an
/// error `out` is as it was.
pub fn write_row(
    out: &mut Vec<u8>,
    batch: &Batch,
    row: &RowView<'_>,
    format: Format,
) -> Result<(), JsonError> {
    RECENT.with_borrow_mut(|encoder| encoder.write(out, batch, row, format, Part::Whole).map(|_| ()))
}

thread_local! {
    /// What [`write_batch`] and [`write_row`] remember from row to row.
    static RECENT: RefCell<Encoder> = RefCell::new(Encoder::default());
}

/// Writes rows, and remembers what is the same for many: the names of tables, and of a binlog what the rows of an
/// event share. Nothing is allocated for a row.
#[derive(Debug, Default)]
pub struct Encoder {
    shapes: Shapes,
    place: Place,
}

impl Encoder {
    /// Appends a row, or the part of a row that changed its key, as one JSON object without a line feed; says where
    /// in `out` the object of its key stands, if it has one. On an error `out` is as it was.
    pub fn write(
        &mut self,
        out: &mut Vec<u8>,
        batch: &Batch,
        row: &RowView<'_>,
        format: Format,
        part: Part,
    ) -> Result<Option<Range<usize>>, JsonError> {
        let start = out.len();
        let is_logged = match &batch.origin {
            Origin::Binlog(log) => self.place.seek(&batch.source, log, row.index()),
            _ => false,
        };
        let place = is_logged.then_some(&self.place);
        let written = match row.op() {
            Op::Message | Op::Loss | Op::Ddl => {
                Event { out, batch, row, format, place }.record().map(|()| None)
            }
            _ => match self.shapes.of(row.table()) {
                Some(shape) => Change { out, batch, row, format, place, shape, part }.record(),
                None => Ok(None),
            },
        };
        if written.is_err() {
            out.truncate(start);
        }
        written
    }
}

/// Whether an update gave its row another key. The record's own mark is only a hint where the after image lacks
/// columns: those did not change.
pub fn key_moved(row: &RowView<'_>) -> Result<bool, RowError> {
    if !row.key_changed() {
        return Ok(false);
    }
    let (Some(before), Some(after)) = row.images()? else { return Ok(false) };
    let table = row.table();
    let differs = |&i: &usize| matches!((before.get(i), after.get(i)), (Some(old), Some(new)) if old != new);
    Ok(table.key_columns().iter().any(differs))
}

/// `source`, `ts_ms`, `id`: what stands before the change itself. The `id` of a snapshot's row is written behind it:
/// it holds the key.
fn head(out: &mut Vec<u8>, batch: &Batch, row: &RowView<'_>, meta: Meta, place: Option<&Place>, part: Part) {
    if meta == Meta::None {
        return;
    }
    if let Some(place) = place {
        out.extend_from_slice(if meta == Meta::Full { &place.head } else { &place.short_head });
        text::padded(out, row.head().ordinal, 1);
        out.extend_from_slice(part.suffix());
        out.push(b'"');
        return;
    }
    out.extend_from_slice(b",\"source\":");
    string(out, &batch.source);
    out.extend_from_slice(b",\"ts_ms\":");
    match (&batch.origin, batch.clock.hlc(row.head().hlc)) {
        (Origin::Snapshot(snapshot), _) => text::padded(out, snapshot.ts_ms, 1),
        (_, 0) => out.extend_from_slice(b"null"),
        (_, hlc) => text::padded(out, hlc >> 16, 1),
    }
    if let Origin::Device { device, lane, epoch, first_seq, .. } = &batch.origin {
        out.extend_from_slice(b",\"id\":\"");
        escape(out, device);
        out.push(b'/');
        escape(out, lane);
        out.push(b'/');
        text::hex64(out, *epoch);
        out.push(b'/');
        text::padded(out, first_seq.wrapping_add(row.head().ordinal), 1);
        out.extend_from_slice(part.suffix());
        out.push(b'"');
    }
}

/// `xa`, `pos`, `hlc`, `clock`: what stands behind it; and the `id` of a snapshot's row.
fn stamp(out: &mut Vec<u8>, batch: &Batch, row: &RowView<'_>, meta: Meta, place: Option<&Place>) {
    let ordinal = row.head().ordinal;
    if let (Origin::Snapshot(_), Meta::Full | Meta::Id) = (&batch.origin, meta) {
        out.extend_from_slice(b",\"id\":");
        string(out, &row_id(batch, row));
    }
    if meta != Meta::Full {
        return;
    }
    if let Some(place) = place {
        out.extend_from_slice(&place.xa);
        out.extend_from_slice(b",\"pos\":{");
        out.extend_from_slice(&place.pos);
        text::padded(out, ordinal, 1);
        out.push(b'}');
    }
    if let Origin::Snapshot(snapshot) = &batch.origin {
        out.extend_from_slice(b",\"pos\":{\"file\":");
        string(out, &snapshot.file);
        out.extend_from_slice(b",\"pos\":");
        text::padded(out, snapshot.pos, 1);
        out.extend_from_slice(b",\"gtid\":");
        match &*snapshot.gtids {
            "" => out.extend_from_slice(b"null"),
            gtids => string(out, gtids),
        }
        out.extend_from_slice(b",\"row\":");
        text::padded(out, ordinal, 1);
        out.push(b'}');
    }
    let hlc = batch.clock.hlc(row.head().hlc);
    if hlc != 0 {
        out.extend_from_slice(b",\"hlc\":\"");
        text::padded(out, hlc >> 16, 1);
        out.push(b'.');
        text::padded(out, hlc & 0xffff, 1);
        out.push(b'"');
    }
    if matches!(batch.origin, Origin::Device { .. }) {
        out.extend_from_slice(match batch.clock.state {
            ClockState::Synced => b",\"clock\":\"synced\"" as &[u8],
            ClockState::Estimated => b",\"clock\":\"estimated\"",
            ClockState::Unknown => b",\"clock\":\"unknown\"",
        });
    }
}

/// A row of a table, being written.
struct Change<'w, 'b> {
    out: &'w mut Vec<u8>,
    batch: &'b Batch,
    row: &'w RowView<'b>,
    format: Format,
    place: Option<&'w Place>,
    shape: &'w Shape,
    part: Part,
}

impl Change<'_, '_> {
    fn record(self) -> Result<Option<Range<usize>>, JsonError> {
        let Self { out, batch, row, format: Format { meta, integers }, place, shape, part } = self;
        let keyed = !shape.key.is_empty();
        out.reserve(512);
        out.extend_from_slice(match (part, row.op()) {
            (Part::Gone, _) | (_, Op::Delete) => b"{\"kind\":\"row\",\"op\":\"delete\"" as &[u8],
            (Part::Came, _) | (_, Op::Insert) => b"{\"kind\":\"row\",\"op\":\"insert\"",
            (_, Op::Update) => b"{\"kind\":\"row\",\"op\":\"update\"",
            (_, Op::Truncate) => b"{\"kind\":\"row\",\"op\":\"truncate\"",
            _ => b"{\"kind\":\"row\",\"op\":\"snapshot\"",
        });
        head(out, batch, row, meta, place, part);
        out.extend_from_slice(&shape.names);
        let mut images = Images {
            out,
            shape,
            integers,
            with_before: meta == Meta::Full || !keyed,
            shows: (part != Part::Came, part != Part::Gone),
            seen: (false, false),
            lacks: (false, false),
            side: Side::None,
            first: true,
            resolved: true,
            old: Keys::default(),
            new: Keys::default(),
        };
        row.walk(&mut images)?;
        images.end();
        let Images { out, seen, lacks, resolved, old, new, .. } = images;
        let key = if keyed && (seen.0 || seen.1) {
            // Columns that the after image lacks did not change; those that the before image lacks are not known.
            let told = |place: usize| if seen.0 { old.get(place) } else { new.get(place) };
            let filled = |place: usize| new.get(place).or_else(|| old.get(place));
            let moved = seen.0 && seen.1 && row.key_changed() && {
                let differs = |place| new.get(place).is_some_and(|n| old.get(place).is_some_and(|o| o != n));
                (0..shape.key.len()).any(differs)
            };
            out.extend_from_slice(b",\"key\":");
            let start = out.len();
            match part {
                Part::Came => key_object(out, shape, integers, filled),
                _ => key_object(out, shape, integers, told),
            }
            let key = start..out.len();
            let (name, other): (&[u8], bool) = match part {
                Part::Whole => (b",\"new_key\":", true),
                Part::Gone => (b",\"moved_to\":", true),
                Part::Came => (b",\"moved_from\":", false),
            };
            if moved {
                out.extend_from_slice(name);
                match other {
                    true => key_object(out, shape, integers, filled),
                    false => key_object(out, shape, integers, told),
                }
            }
            Some(key)
        } else {
            out.extend_from_slice(b",\"key\":null");
            None
        };
        if !resolved {
            unresolved(out, row)?;
        }
        let shown = (seen.0 && lacks.0 && part != Part::Came, seen.1 && lacks.1 && part != Part::Gone);
        match shown {
            (true, true) => out.extend_from_slice(b",\"partial\":[\"before\",\"after\"]"),
            (true, false) => out.extend_from_slice(b",\"partial\":[\"before\"]"),
            (false, true) => out.extend_from_slice(b",\"partial\":[\"after\"]"),
            (false, false) => {}
        }
        if meta == Meta::Full {
            out.extend_from_slice(&shape.schema);
        }
        stamp(out, batch, row, meta, place);
        out.push(b'}');
        Ok(key)
    }
}

/// The key's columns as an object.
fn key_object<'a>(
    out: &mut Vec<u8>,
    shape: &Shape,
    integers: Integers,
    value: impl Fn(usize) -> Option<Value<'a>>,
) {
    out.push(b'{');
    let mut first = true;
    for (place, &column) in shape.key.iter().enumerate() {
        if let (Some(value), Some(of)) = (value(place), shape.table.columns.get(column)) {
            out.extend_from_slice(shape.name(column, std::mem::take(&mut first)));
            write_value(out, of, value, integers);
        }
    }
    out.push(b'}');
}

/// Written only for the rare row that has such columns, so it may walk the images once more.
fn unresolved(out: &mut Vec<u8>, row: &RowView<'_>) -> Result<(), RowError> {
    let (before, after) = row.images()?;
    out.extend_from_slice(b",\"unresolved\":[");
    let mut first = true;
    let mut scratch = Vec::new();
    for (i, column) in row.table().columns.iter().enumerate() {
        let mut open = |image: Option<ImageView<'_>>| {
            let value = image.and_then(|image| image.get(i));
            scratch.clear();
            value.is_some_and(|v| !write_value(&mut scratch, column, v, Integers::Number))
        };
        if open(before) || open(after) {
            if !std::mem::take(&mut first) {
                out.push(b',');
            }
            string(out, &column.name);
        }
    }
    out.push(b']');
    Ok(())
}

/// Which image is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    None,
    Before,
    After,
    /// One that is not shown.
    Hidden {
        before: bool,
    },
}

/// Both images, written as they are walked. Pairs are (before, after).
struct Images<'w, 'a> {
    out: &'w mut Vec<u8>,
    shape: &'w Shape,
    integers: Integers,
    /// Whether the field `before` is written at all.
    with_before: bool,
    /// Whether an image that is there is shown.
    shows: (bool, bool),
    seen: (bool, bool),
    lacks: (bool, bool),
    side: Side,
    first: bool,
    /// Whether every value could be made what the format says.
    resolved: bool,
    old: Keys<'a>,
    new: Keys<'a>,
}

impl Images<'_, '_> {
    fn close(&mut self) {
        if matches!(self.side, Side::Before | Side::After) {
            self.out.push(b'}');
        }
    }

    fn end(&mut self) {
        self.close();
        if self.with_before && !self.seen.0 && !self.seen.1 {
            self.out.extend_from_slice(b",\"before\":null");
        }
        if !self.seen.1 {
            self.out.extend_from_slice(b",\"after\":null");
        }
        self.side = Side::None;
    }
}

impl<'a> Walk<'a> for Images<'_, 'a> {
    fn image(&mut self, before: bool, partial: bool) {
        self.close();
        self.first = true;
        if before {
            self.seen.0 = true;
            self.lacks.0 = partial;
            self.side = match (self.with_before, self.shows.0) {
                (true, true) => {
                    self.out.extend_from_slice(b",\"before\":{");
                    Side::Before
                }
                (true, false) => {
                    self.out.extend_from_slice(b",\"before\":null");
                    Side::Hidden { before }
                }
                (false, _) => Side::Hidden { before },
            };
            return;
        }
        if self.with_before && !self.seen.0 {
            self.out.extend_from_slice(b",\"before\":null");
        }
        self.seen.1 = true;
        self.lacks.1 = partial;
        self.side = match self.shows.1 {
            true => {
                self.out.extend_from_slice(b",\"after\":{");
                Side::After
            }
            false => {
                self.out.extend_from_slice(b",\"after\":null");
                Side::Hidden { before }
            }
        };
    }

    #[inline]
    fn value(&mut self, column: usize, value: Value<'a>) {
        let Some((_, place)) = self.shape.columns.get(column) else { return };
        if let Some(place) = *place {
            match self.side {
                Side::Before | Side::Hidden { before: true } => self.old.set(place, value),
                _ => self.new.set(place, value),
            }
        }
        if let (Side::Before | Side::After, Some(of)) = (self.side, self.shape.table.columns.get(column)) {
            self.out.extend_from_slice(self.shape.name(column, std::mem::take(&mut self.first)));
            self.resolved &= write_value(self.out, of, value, self.integers);
        }
    }
}

/// An event without a row, being written.
struct Event<'w, 'b> {
    out: &'w mut Vec<u8>,
    batch: &'b Batch,
    row: &'w RowView<'b>,
    format: Format,
    place: Option<&'w Place>,
}

impl Event<'_, '_> {
    fn record(&mut self) -> Result<(), JsonError> {
        let (_, after) = self.row.images()?;
        let op = self.row.op();
        let after = after.ok_or(JsonError::Shape(op))?;
        self.raw(b"{\"kind\":\"");
        match op {
            Op::Message => self.message(after)?,
            Op::Loss => self.loss(after)?,
            _ => self.ddl(after)?,
        }
        stamp(self.out, self.batch, self.row, self.format.meta, self.place);
        self.raw(b"}");
        Ok(())
    }

    fn head(&mut self) {
        head(self.out, self.batch, self.row, self.format.meta, self.place, Part::Whole);
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
            (Value::Text(json), ..) => value::document_as_it_is(self.out, json),
            (_, Value::Text(plain), _) => string(self.out, plain),
            (.., Value::Bytes(bytes)) => base64_object(self.out, bytes),
            _ => self.raw(b"null"),
        }
        if let Value::Text(headers) = headers {
            self.raw(b",\"headers\":");
            value::document_as_it_is(self.out, headers);
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
            Value::Text(tables) => value::document_as_it_is(self.out, tables),
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

    fn raw(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }
}

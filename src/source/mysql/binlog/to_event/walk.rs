//! All rows of an event at once: each value goes from the event straight into its record.
//!
//! Covers the rows whose images hold every column and whose values fit the table's usual shape, which is nearly all
//! there are. At the first row that is otherwise the walk stops, and [`super::ToEvent::write`] does the rest.

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::super::column::Column;
use super::super::error::Malformed;
use super::super::rows::{Rows, RowsKind, Side, Visit};
use super::super::value::Value;
use super::{BINARY, ToUtf8, is_text, is_utf8};
use crate::event::{self, Op, OpenRow, RowHead, TableKey, Type, varint};

/// How a value of a column is written in the usual shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    /// Fixed width, little-endian.
    Number(u8),
    /// Decimal of up to 38 digits.
    Decimal,
    /// Bytes as they come.
    Bytes,
    /// `BINARY(n)`: the server cuts zeros off its end.
    Padded(u16),
    /// Text whose bytes are UTF-8.
    Utf8,
    /// Text of this collation.
    Text(u16),
    /// A fixed number of bytes.
    Array,
    /// Only row by row.
    Seldom,
}

fn how(column: &Column, ty: Type) -> How {
    match ty {
        Type::I8 | Type::U8 => How::Number(1),
        Type::I16 | Type::U16 | Type::Year | Type::Enum => How::Number(2),
        Type::I32 | Type::U32 | Type::Date | Type::F32 => How::Number(4),
        Type::I64 | Type::U64 | Type::F64 | Type::Bit | Type::Set => How::Number(8),
        Type::Time { .. } | Type::DateTime { .. } | Type::Timestamp { .. } => How::Number(8),
        Type::Decimal { precision, .. } if precision <= 38 => How::Decimal,
        Type::Text if is_utf8(column) => How::Utf8,
        Type::Text => How::Text(column.charset.unwrap_or(BINARY)),
        Type::Bytes if column.is_padded_binary() => match column.length().map(u16::try_from) {
            Some(Ok(length)) => How::Padded(length),
            _ => How::Seldom,
        },
        // A column whose character set is not known is of this type too.
        Type::Bytes if !is_text(column) => How::Bytes,
        Type::JsonB | Type::Geometry | Type::Vector => How::Bytes,
        Type::Uuid | Type::Inet4 | Type::Inet6 => How::Array,
        _ => How::Seldom,
    }
}

/// What is known of the table before its rows come.
#[derive(Debug)]
pub(super) struct Shape {
    how: Box<[How]>,
    key: TableKey,
    /// For each column its place in the key, or [`NO_KEY`].
    place: Box<[u16]>,
}

const NO_KEY: u16 = u16::MAX;

impl Shape {
    pub(super) fn new(columns: &[Column], table: &event::Table) -> Self {
        let key = TableKey::from(table);
        let mut place = vec![NO_KEY; columns.len()];
        for (n, &column) in (0u16..).zip(&key.columns) {
            if let Some(place) = place.get_mut(column) {
                *place = n;
            }
        }
        let how = columns.iter().zip(&table.columns).map(|(c, t)| how(c, t.ty)).collect();
        Self { how, key, place: place.into() }
    }
}

/// What the rows of an event have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowsStamp {
    /// Place of the first row in its transaction, from 0.
    pub ordinal: u64,
    /// When the transaction was committed, in milliseconds since 1970 UTC.
    pub time_ms: u64,
    /// Index of the usual shape in the batch.
    pub schema: u16,
}

impl RowsStamp {
    /// The hybrid time of the row at `ordinal`: the same whenever the log is read.
    pub fn hlc(&self, ordinal: u64) -> u64 {
        (self.time_ms << 16) | ordinal.min(0xffff)
    }
}

/// Scratch that stays between events.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    text: Vec<u8>,
    /// Where the encoded values of the key's columns are, of the image at hand; `None` for NULL.
    spans: Vec<Option<(usize, usize)>>,
    key: Vec<u8>,
}

/// Appends records until a row needs more than this; how many rows were appended, and whether they were all.
pub(super) fn write(
    shape: &Shape,
    scratch: &mut Scratch,
    out: &mut Vec<u8>,
    rows: &Rows<'_>,
    stamp: RowsStamp,
    to_utf8: ToUtf8<'_>,
) -> Result<(u32, bool), super::ToEventError> {
    if rows.is_partial(Side::Before) || rows.is_partial(Side::After) {
        return Ok((0, false));
    }
    scratch.spans.clear();
    scratch.spans.resize(shape.key.columns.len(), None);
    let op = match rows.kind {
        RowsKind::Insert => Op::Insert,
        RowsKind::Update => Op::Update,
        RowsKind::Delete => Op::Delete,
    };
    let start = out.len();
    // A record is about as long as the row in the log.
    out.reserve(rows.image_bytes() + rows.image_bytes() / 4);
    let mut writer = Writer {
        shape,
        scratch,
        out,
        stamp,
        to_utf8,
        op,
        row: start,
        image: 0,
        nulls: 0,
        hashes: [0; 2],
        written: 0,
        open: None,
        given_up: false,
        too_large: false,
    };
    let walked = rows.walk(&mut writer);
    if walked.is_ok() {
        writer.end_row();
    }
    let (written, end) = (writer.written, writer.row);
    let (given_up, too_large) = (writer.given_up, writer.too_large);
    out.truncate(if walked.is_err() || too_large { start } else { end });
    walked?;
    if too_large {
        return Err(event::RowError::TooLarge.into());
    }
    Ok((written, !given_up))
}

struct Writer<'w, 't> {
    shape: &'w Shape,
    scratch: &'w mut Scratch,
    out: &'w mut Vec<u8>,
    stamp: RowsStamp,
    to_utf8: ToUtf8<'t>,
    op: Op,
    /// Where the row at hand begins: all before it is complete.
    row: usize,
    /// Images of it that have begun.
    image: u8,
    /// Where the null bitmap of its image begins.
    nulls: usize,
    hashes: [u64; 2],
    written: u32,
    open: Option<OpenRow>,
    /// From here on row by row.
    given_up: bool,
    too_large: bool,
}

impl Writer<'_, '_> {
    fn end_image(&mut self) {
        let key = &self.shape.key;
        let mut hash = key.seed;
        if !key.columns.is_empty() {
            let bytes = &mut self.scratch.key;
            bytes.clear();
            for span in &self.scratch.spans {
                match span.and_then(|(from, to)| self.out.get(from..to)) {
                    Some(value) => {
                        bytes.push(1);
                        bytes.extend_from_slice(value);
                    }
                    None => bytes.push(0),
                }
            }
            hash = xxh3_64_with_seed(bytes, key.seed);
        }
        if let Some(place) = self.hashes.get_mut(usize::from(self.image - 1)) {
            *place = hash;
        }
    }

    fn end_row(&mut self) {
        let Some(open) = self.open.take().filter(|_| !self.given_up) else { return };
        if self.image > 0 {
            self.end_image();
        }
        if open.end(self.out, self.hashes).is_err() {
            (self.too_large, self.given_up) = (true, true);
            return;
        }
        self.row = self.out.len();
        self.written += 1;
    }

    /// The row cannot be said here.
    #[cold]
    fn give_up(&mut self) {
        self.given_up = true;
    }

    #[inline(always)]
    fn bytes(&mut self, bytes: &[u8]) {
        varint::put(self.out, bytes.len() as u64);
        self.out.extend_from_slice(bytes);
    }

    #[inline(always)]
    fn number(&mut self, width: u8, n: u64) {
        let raw = n.to_le_bytes();
        match width {
            1 => self.out.push(raw[0]),
            2 => self.out.extend_from_slice(&raw[..2]),
            4 => self.out.extend_from_slice(&raw[..4]),
            _ => self.out.extend_from_slice(&raw),
        }
    }

    #[inline(never)]
    fn text(&mut self, collation: u16, raw: &[u8]) {
        let mut text = std::mem::take(&mut self.scratch.text);
        text.clear();
        if (self.to_utf8)(collation, raw, &mut text) {
            self.bytes(&text);
        } else {
            self.give_up();
        }
        self.scratch.text = text;
    }
}

impl<'a> Visit<'a> for Writer<'_, '_> {
    #[inline]
    fn row(&mut self) {
        self.end_row();
        if self.given_up {
            return;
        }
        let ordinal = self.stamp.ordinal + u64::from(self.written);
        let head = RowHead { op: self.op, schema: self.stamp.schema, ordinal, hlc: self.stamp.hlc(ordinal) };
        self.open = Some(OpenRow::begin(self.out, head));
        self.image = 0;
    }

    #[inline]
    fn image(&mut self, _side: Side) {
        if self.given_up {
            return;
        }
        if self.image > 0 {
            self.end_image();
        }
        self.image += 1;
        self.nulls = self.out.len();
        self.out.resize(self.nulls + self.shape.how.len().div_ceil(8), 0);
    }

    #[inline(always)]
    fn value(&mut self, column: usize, value: Value<'a>) -> Result<(), Malformed> {
        if self.given_up {
            return Ok(());
        }
        let Some(&how) = self.shape.how.get(column) else { return Ok(()) };
        let start = self.out.len();
        match (how, value) {
            (_, Value::Null) => {
                if let Some(byte) = self.out.get_mut(self.nulls + column / 8) {
                    *byte |= 1 << (column % 8);
                }
            }
            (How::Number(width), Value::Int(n) | Value::Time(n) | Value::Timestamp(n)) => {
                self.number(width, n as u64);
            }
            (How::Number(width), Value::Uint(n) | Value::DateTime(n) | Value::Bit(n) | Value::Set(n)) => {
                self.number(width, n)
            }
            (How::Number(width), Value::Date(n)) => self.number(width, u64::from(n)),
            (How::Number(width), Value::Year(n) | Value::Enum(n)) => self.number(width, u64::from(n)),
            (How::Number(width), Value::Float(n)) => self.number(width, u64::from(n.to_bits())),
            (How::Number(width), Value::Double(n)) => self.number(width, n.to_bits()),
            (How::Utf8, Value::Bytes(raw)) => {
                if std::str::from_utf8(raw).is_ok() {
                    self.bytes(raw);
                } else {
                    self.give_up();
                }
            }
            (How::Text(collation), Value::Bytes(raw)) => self.text(collation, raw),
            (How::Bytes, Value::Bytes(raw) | Value::Geometry(raw) | Value::Vector(raw)) => self.bytes(raw),
            (How::Bytes, Value::Json(doc)) => self.bytes(doc.raw()),
            (How::Padded(length), Value::Bytes(raw)) => {
                let length = usize::from(length).max(raw.len());
                varint::put(self.out, length as u64);
                self.out.extend_from_slice(raw);
                self.out.resize(self.out.len() + length - raw.len(), 0);
            }
            (How::Decimal, Value::Decimal(decimal)) => match decimal.unscaled()? {
                Some(n) => self.out.extend_from_slice(&n.to_le_bytes()),
                None => self.give_up(),
            },
            (How::Array, Value::Uuid(raw) | Value::Inet6(raw)) => self.out.extend_from_slice(&raw),
            (How::Array, Value::Inet4(raw)) => self.out.extend_from_slice(&raw),
            _ => self.give_up(),
        }
        if let Some(&place) = self.shape.place.get(column)
            && place != NO_KEY
            && let Some(span) = self.scratch.spans.get_mut(usize::from(place))
        {
            *span = (value != Value::Null).then_some((start, self.out.len()));
        }
        Ok(())
    }
}

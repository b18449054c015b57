//! One change as bytes.
//!
//! ```text
//! len u32 | op u8 | flags u8 | schema u16 | ordinal varint | hlc u64 | key hash u64 of each image | image…
//! image   = present bitmap (only if partial) | null bitmap | values in column order
//! ```
//!
//! `len` counts what follows it. Integers are little-endian, bitmaps start at the least significant
//! bit. `schema` indexes the batch's tables. `ordinal` is the row's sequence number minus the
//! batch's first (device events), or its place in the transaction (MySQL). The before image, if
//! any, comes first. A partial image holds null bits and values of the present columns only.
//!
//! `hlc`: 48 bits of milliseconds and 16 of logic; or, with the top bit set, the microseconds of
//! the monotonic clock of a boot that did not know the time ([`super::RowClock`] corrects it).

use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::table::{Table, TableKey};
use super::value::{Value, ValueError};
use super::varint;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Op {
    /// A new row: `after` only.
    Insert = 1,
    /// `before` and `after`.
    Update = 2,
    /// `before` only.
    Delete = 3,
    /// A row as a snapshot read it: `after` only.
    Snapshot = 4,
    /// All rows of the table are void (a restarted snapshot): no image.
    Truncate = 5,
    /// An event without a row: `after` in the shape of [`super::builtin::message`].
    Message = 6,
    /// What a device had to give up: `after` in the shape of [`super::builtin::loss`].
    Loss = 7,
    /// A schema change: `after` in the shape of [`super::builtin::ddl`].
    Ddl = 8,
}

impl Op {
    fn from_u8(n: u8) -> Option<Self> {
        Some(match n {
            1 => Self::Insert,
            2 => Self::Update,
            3 => Self::Delete,
            4 => Self::Snapshot,
            5 => Self::Truncate,
            6 => Self::Message,
            7 => Self::Loss,
            8 => Self::Ddl,
            _ => return None,
        })
    }

    /// The word that dts JSON has for it (`op`; for events without a row, `kind`).
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Insert => "insert",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Snapshot => "snapshot",
            Self::Truncate => "truncate",
            Self::Message => "message",
            Self::Loss => "loss",
            Self::Ddl => "ddl",
        }
    }
}

const BEFORE: u8 = 1;
const AFTER: u8 = 2;
const BEFORE_PARTIAL: u8 = 4;
const AFTER_PARTIAL: u8 = 8;
const KEY_CHANGED: u8 = 32;

/// What of a row is not an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowHead {
    /// What happened.
    pub op: Op,
    /// Index into the batch's tables.
    pub schema: u16,
    /// Sequence number minus the batch's first, or place in the transaction.
    pub ordinal: u64,
    /// Hybrid logical clock, or monotonic microseconds with the top bit set.
    pub hlc: u64,
}

/// One image to be written: a value per column.
#[derive(Clone, Copy, Debug)]
pub struct Image<'a> {
    /// As many as the table has columns; what stands where `present` is false is not read.
    pub values: &'a [Value<'a>],
    /// Which columns the image holds; `None` if all.
    pub present: Option<&'a [bool]>,
}

impl<'a> Image<'a> {
    /// An image that holds every column.
    pub fn full(values: &'a [Value<'a>]) -> Self {
        Self { values, present: None }
    }
}

/// Bytes that are no row record, or a row that does not fit its table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RowError {
    /// The record ends early.
    #[error("row record is cut short")]
    Short,
    /// An operation that this version does not know.
    #[error("unknown row operation {0}")]
    UnknownOp(u8),
    /// Flags that do not go together or that this version does not know.
    #[error("unknown row flags {0:#04x}")]
    UnknownFlags(u8),
    /// An index beyond the batch's tables.
    #[error("row names table {0}, which its batch does not hold")]
    NoTable(u16),
    /// Bytes left over behind the last value.
    #[error("row record has {0} bytes too many")]
    Trailing(usize),
    /// The number of values is not the number of columns.
    #[error("image has {got} values, its table {columns} columns")]
    Columns {
        /// Values given.
        got: usize,
        /// Columns of the table.
        columns: usize,
    },
    /// A row of more than `u32::MAX` bytes.
    #[error("row is larger than 4 GiB")]
    TooLarge,
    /// A value is wrong.
    #[error("column {column}: {error}")]
    Value {
        /// Index of the column.
        column: usize,
        /// What is wrong.
        error: ValueError,
    },
}

/// Appends row records to a buffer.
#[derive(Debug)]
pub struct RowWriter;

impl RowWriter {
    /// Appends one record. On an error the buffer is as it was.
    pub fn write(
        out: &mut Vec<u8>,
        head: RowHead,
        table: &Table,
        before: Option<Image<'_>>,
        after: Option<Image<'_>>,
    ) -> Result<(), RowError> {
        Self::write_keyed(out, head, table, &table.into(), before, after)
    }

    /// As [`Self::write`], with the table's key at hand.
    pub fn write_keyed(
        out: &mut Vec<u8>,
        head: RowHead,
        table: &Table,
        key: &TableKey,
        before: Option<Image<'_>>,
        after: Option<Image<'_>>,
    ) -> Result<(), RowError> {
        let start = out.len();
        let written = Self::write_inner(out, head, table, key, before, after);
        if written.is_err() {
            out.truncate(start);
        }
        written
    }

    fn write_inner(
        out: &mut Vec<u8>,
        head: RowHead,
        table: &Table,
        key: &TableKey,
        before: Option<Image<'_>>,
        after: Option<Image<'_>>,
    ) -> Result<(), RowError> {
        let start = out.len();
        let mut hash = |image: &Image<'_>| key_hash(key, table, image, out);
        let (before_hash, after_hash) = (before.as_ref().map(&mut hash), after.as_ref().map(&mut hash));
        let mut flags = 0;
        if let Some(b) = &before {
            flags |= BEFORE | if b.present.is_some() { BEFORE_PARTIAL } else { 0 };
        }
        if let Some(a) = &after {
            flags |= AFTER | if a.present.is_some() { AFTER_PARTIAL } else { 0 };
        }
        if before_hash.is_some() && after_hash.is_some() && before_hash != after_hash {
            flags |= KEY_CHANGED;
        }
        out.extend_from_slice(&[0; 4]);
        out.push(head.op as u8);
        out.push(flags);
        out.extend_from_slice(&head.schema.to_le_bytes());
        varint::put(out, head.ordinal);
        out.extend_from_slice(&head.hlc.to_le_bytes());
        for hash in [before_hash, after_hash].into_iter().flatten() {
            out.extend_from_slice(&hash.to_le_bytes());
        }
        for image in [before, after].into_iter().flatten() {
            write_image(out, table, image)?;
        }
        let len = u32::try_from(out.len() - start - 4).map_err(|_| RowError::TooLarge)?;
        out[start..start + 4].copy_from_slice(&len.to_le_bytes());
        Ok(())
    }

    /// Appends the record `row` again with another table index and ordinal: how the batcher joins
    /// batches and how a split renumbers them. Images are copied as bytes.
    pub fn copy(out: &mut Vec<u8>, row: &RowView<'_>, schema: u16, ordinal: u64) {
        let start = out.len();
        out.extend_from_slice(&[0; 4]);
        out.push(row.head.op as u8);
        out.push(row.flags);
        out.extend_from_slice(&schema.to_le_bytes());
        varint::put(out, ordinal);
        out.extend_from_slice(&row.head.hlc.to_le_bytes());
        out.extend_from_slice(row.tail);
        // A little longer than a record that fitted u32, and bounded by max_row_bytes long before.
        let len = (out.len() - start - 4) as u32;
        out[start..start + 4].copy_from_slice(&len.to_le_bytes());
    }
}

/// A record whose images are written value by value by who knows their encoding: what the binlog's hot path does.
///
/// After [`Self::begin`] each image follows: its null bitmap and the encoded values of all columns.
#[derive(Clone, Copy, Debug)]
pub struct OpenRow {
    start: usize,
    hashes: usize,
    images: u8,
}

impl OpenRow {
    /// Appends the head of a record with the full images that `head.op` has.
    #[inline]
    pub fn begin(out: &mut Vec<u8>, head: RowHead) -> Self {
        let flags = match head.op {
            Op::Update => BEFORE | AFTER,
            Op::Delete => BEFORE,
            _ => AFTER,
        };
        let start = out.len();
        out.extend_from_slice(&[0, 0, 0, 0, head.op as u8, flags]);
        out.extend_from_slice(&head.schema.to_le_bytes());
        varint::put(out, head.ordinal);
        out.extend_from_slice(&head.hlc.to_le_bytes());
        let hashes = out.len();
        let images = if head.op == Op::Update { 2 } else { 1 };
        out.extend_from_slice(&[0; 16][..8 * usize::from(images)]);
        Self { start, hashes, images }
    }

    /// Completes the record. `hashes` are the keys' of its images, in their order, as [`RowWriter`] makes them.
    #[inline]
    pub fn end(self, out: &mut [u8], hashes: [u64; 2]) -> Result<(), RowError> {
        let len = u32::try_from(out.len() - self.start - 4).map_err(|_| RowError::TooLarge)?;
        out[self.start..self.start + 4].copy_from_slice(&len.to_le_bytes());
        out[self.hashes..self.hashes + 8].copy_from_slice(&hashes[0].to_le_bytes());
        if self.images == 2 {
            out[self.hashes + 8..self.hashes + 16].copy_from_slice(&hashes[1].to_le_bytes());
            if hashes[0] != hashes[1] {
                out[self.start + 5] |= KEY_CHANGED;
            }
        }
        Ok(())
    }
}

fn write_image(out: &mut Vec<u8>, table: &Table, image: Image<'_>) -> Result<(), RowError> {
    let columns = table.columns.len();
    let got = image.present.map_or(image.values.len(), <[bool]>::len);
    if image.values.len() != columns || got != columns {
        return Err(RowError::Columns { got: image.values.len().min(got), columns });
    }
    let present = |i: usize| image.present.is_none_or(|p| p[i]);
    if image.present.is_some() {
        write_bitmap(out, (0..columns).map(present));
    }
    write_bitmap(out, (0..columns).filter(|&i| present(i)).map(|i| image.values[i] == Value::Null));
    for i in (0..columns).filter(|&i| present(i)) {
        if image.values[i] != Value::Null {
            let ty = table.columns[i].ty;
            ty.encode(image.values[i], out).map_err(|error| RowError::Value { column: i, error })?;
        }
    }
    Ok(())
}

fn write_bitmap(out: &mut Vec<u8>, bits: impl Iterator<Item = bool>) {
    let (mut byte, mut n) = (0u8, 0);
    for bit in bits {
        byte |= u8::from(bit) << n;
        n += 1;
        if n == 8 {
            out.push(byte);
            (byte, n) = (0, 0);
        }
    }
    if n > 0 {
        out.push(byte);
    }
}

/// Hash of the key columns' encoded values; of the table's name alone where there is no key, or
/// where the image lacks a part of it.
///
/// The values are encoded at the end of `out`, which is as it was afterwards.
fn key_hash(key: &TableKey, table: &Table, image: &Image<'_>, out: &mut Vec<u8>) -> u64 {
    let start = out.len();
    let whole = key.columns.iter().all(|&i| {
        let present = image.present.is_none_or(|p| p.get(i).copied().unwrap_or(false));
        present
            && match image.values.get(i) {
                None | Some(Value::Null) => {
                    out.push(0);
                    true
                }
                Some(&v) => {
                    out.push(1);
                    table.columns[i].ty.encode(v, out).is_ok()
                }
            }
    });
    let hash =
        if whole && !key.columns.is_empty() { xxh3_64_with_seed(&out[start..], key.seed) } else { key.seed };
    out.truncate(start);
    hash
}

/// One record, borrowed. Checked as far as its head; images are checked while they are walked.
#[derive(Clone, Copy, Debug)]
pub struct RowView<'a> {
    head: RowHead,
    flags: u8,
    table: &'a Arc<Table>,
    /// Key hashes and images, as in the record.
    tail: &'a [u8],
    before_hash: Option<u64>,
    after_hash: Option<u64>,
    images: &'a [u8],
    /// See [`Self::index`].
    index: u32,
}

/// What [`RowView::walk`] passes through.
pub trait Walk<'a> {
    /// An image begins: the before image, or else the after image; `partial` if it lacks columns.
    fn image(&mut self, before: bool, partial: bool);
    /// One column of it and its value.
    fn value(&mut self, column: usize, value: Value<'a>);
}

impl<'a> RowView<'a> {
    /// Takes one record off the front of `bytes`.
    pub fn take(bytes: &mut &'a [u8], tables: &'a [Arc<Table>]) -> Result<Self, RowError> {
        let short = RowError::Short;
        let mut rest = *bytes;
        let len = varint::take_bytes(&mut rest, 4).ok_or(short)?;
        let len = u32::from_le_bytes([len[0], len[1], len[2], len[3]]);
        let mut record = varint::take_bytes(&mut rest, u64::from(len)).ok_or(short)?;
        let fixed = varint::take_bytes(&mut record, 4).ok_or(short)?;
        let op = Op::from_u8(fixed[0]).ok_or(RowError::UnknownOp(fixed[0]))?;
        let flags = fixed[1];
        let known = BEFORE | AFTER | BEFORE_PARTIAL | AFTER_PARTIAL | KEY_CHANGED;
        let partial_without = (flags & BEFORE == 0 && flags & BEFORE_PARTIAL != 0)
            || (flags & AFTER == 0 && flags & AFTER_PARTIAL != 0);
        if flags & !known != 0 || partial_without {
            return Err(RowError::UnknownFlags(flags));
        }
        let schema = u16::from_le_bytes([fixed[2], fixed[3]]);
        let table = tables.get(usize::from(schema)).ok_or(RowError::NoTable(schema))?;
        let ordinal = varint::take(&mut record).ok_or(short)?;
        let hlc = take_u64(&mut record).ok_or(short)?;
        let tail = record;
        let before_hash = if flags & BEFORE != 0 { Some(take_u64(&mut record).ok_or(short)?) } else { None };
        let after_hash = if flags & AFTER != 0 { Some(take_u64(&mut record).ok_or(short)?) } else { None };
        *bytes = rest;
        let head = RowHead { op, schema, ordinal, hlc };
        Ok(Self { head, flags, table, tail, before_hash, after_hash, images: record, index: 0 })
    }

    /// The same row as the one at `index` of its batch.
    pub(super) fn at(self, index: u32) -> Self {
        Self { index, ..self }
    }

    /// Its place among the rows of its batch, from 0, as [`super::batch::Rows`] counts; 0 if it was taken alone.
    pub fn index(&self) -> u32 {
        self.index
    }

    /// Passes through both images once, checking each value as it comes: what was told before an error holds no
    /// more. Cheaper than [`Self::images`] for who looks at all values.
    pub fn walk(&self, to: &mut impl Walk<'a>) -> Result<(), RowError> {
        let mut rest = self.images;
        for (has, lacks) in [(BEFORE, BEFORE_PARTIAL), (AFTER, AFTER_PARTIAL)] {
            if self.flags & has == 0 {
                continue;
            }
            let partial = self.flags & lacks != 0;
            to.image(has == BEFORE, partial);
            let (present, nulls) = ImageView::bitmaps(&mut rest, self.table, partial)?;
            let mut held = 0;
            for (column, shape) in self.table.columns.iter().enumerate() {
                if present.is_some_and(|p| !bit(p, column)) {
                    continue;
                }
                let value = if bit(nulls, held) {
                    Value::Null
                } else {
                    shape.ty.decode(&mut rest).map_err(|error| RowError::Value { column, error })?
                };
                held += 1;
                to.value(column, value);
            }
        }
        if rest.is_empty() { Ok(()) } else { Err(RowError::Trailing(rest.len())) }
    }

    /// What happened, where, when.
    pub fn head(&self) -> RowHead {
        self.head
    }

    /// What happened.
    pub fn op(&self) -> Op {
        self.head.op
    }

    /// The shape of its images.
    pub fn table(&self) -> &'a Arc<Table> {
        self.table
    }

    /// Key hash of the before image, if there is one.
    pub fn before_hash(&self) -> Option<u64> {
        self.before_hash
    }

    /// Key hash of the after image, if there is one.
    pub fn after_hash(&self) -> Option<u64> {
        self.after_hash
    }

    /// Whether an update changed the primary key.
    pub fn key_changed(&self) -> bool {
        self.flags & KEY_CHANGED != 0
    }

    /// Both images, checked to their last byte.
    pub fn images(&self) -> Result<(Option<ImageView<'a>>, Option<ImageView<'a>>), RowError> {
        let mut rest = self.images;
        let mut next = |has: u8, partial: u8| {
            (self.flags & has != 0)
                .then(|| ImageView::take(&mut rest, self.table, self.flags & partial != 0))
                .transpose()
        };
        let before = next(BEFORE, BEFORE_PARTIAL)?;
        let after = next(AFTER, AFTER_PARTIAL)?;
        if rest.is_empty() { Ok((before, after)) } else { Err(RowError::Trailing(rest.len())) }
    }

    /// The after image, or else the before image: what names the row.
    pub fn newest(&self) -> Result<Option<ImageView<'a>>, RowError> {
        let (before, after) = self.images()?;
        Ok(after.or(before))
    }

    /// The whole record's length in bytes, its length field included.
    pub fn encoded_len(&self) -> usize {
        let mut ordinal = Vec::with_capacity(10);
        varint::put(&mut ordinal, self.head.ordinal);
        4 + 4 + ordinal.len() + 8 + self.tail.len()
    }
}

fn take_u64(bytes: &mut &[u8]) -> Option<u64> {
    let raw = varint::take_bytes(bytes, 8)?;
    let mut wide = [0; 8];
    wide.copy_from_slice(raw);
    Some(u64::from_le_bytes(wide))
}

/// One image, borrowed and checked.
#[derive(Clone, Copy, Debug)]
pub struct ImageView<'a> {
    table: &'a Table,
    present: Option<&'a [u8]>,
    nulls: &'a [u8],
    values: &'a [u8],
}

impl<'a> ImageView<'a> {
    /// The bitmaps before the values: columns that are there, and which of them are NULL.
    fn bitmaps(
        bytes: &mut &'a [u8],
        table: &Table,
        partial: bool,
    ) -> Result<(Option<&'a [u8]>, &'a [u8]), RowError> {
        let columns = table.columns.len();
        let take = |bytes: &mut &'a [u8], bits: usize| {
            varint::take_bytes(bytes, bits.div_ceil(8) as u64).ok_or(RowError::Short)
        };
        let present = if partial { Some(take(bytes, columns)?) } else { None };
        let held = present.map_or(columns, |p| (0..columns).filter(|&i| bit(p, i)).count());
        Ok((present, take(bytes, held)?))
    }

    fn take(bytes: &mut &'a [u8], table: &'a Table, partial: bool) -> Result<Self, RowError> {
        let (present, nulls) = Self::bitmaps(bytes, table, partial)?;
        let values = *bytes;
        let view = Self { table, present, nulls, values };
        let mut walk = view.iter();
        while let Some(value) = walk.next_checked() {
            value?;
        }
        let used = values.len() - walk.rest.len();
        *bytes = &values[used..];
        Ok(Self { values: &values[..used], ..view })
    }

    /// Whether columns are missing.
    pub fn is_partial(&self) -> bool {
        self.present.is_some()
    }

    /// The columns that the image holds, in column order, each with its index.
    pub fn iter(&self) -> ImageIter<'a> {
        ImageIter { view: *self, rest: self.values, column: 0, held: 0 }
    }

    /// The value of one column. `None` if the image does not hold it. Walks the image.
    pub fn get(&self, column: usize) -> Option<Value<'a>> {
        self.iter().find(|(i, _)| *i == column).map(|(_, v)| v)
    }

    /// The shape of the image.
    pub fn table(&self) -> &'a Table {
        self.table
    }
}

impl<'a> IntoIterator for &ImageView<'a> {
    type Item = (usize, Value<'a>);
    type IntoIter = ImageIter<'a>;

    fn into_iter(self) -> ImageIter<'a> {
        self.iter()
    }
}

/// Walks the columns of an [`ImageView`].
#[derive(Clone, Debug)]
pub struct ImageIter<'a> {
    view: ImageView<'a>,
    rest: &'a [u8],
    column: usize,
    held: usize,
}

impl<'a> ImageIter<'a> {
    fn next_checked(&mut self) -> Option<Result<(usize, Value<'a>), RowError>> {
        let table = self.view.table;
        while self.column < table.columns.len() {
            let column = self.column;
            self.column += 1;
            if self.view.present.is_some_and(|p| !bit(p, column)) {
                continue;
            }
            let null = bit(self.view.nulls, self.held);
            self.held += 1;
            if null {
                return Some(Ok((column, Value::Null)));
            }
            let value = table.columns[column].ty.decode(&mut self.rest);
            return Some(value.map(|v| (column, v)).map_err(|error| RowError::Value { column, error }));
        }
        None
    }
}

impl<'a> Iterator for ImageIter<'a> {
    type Item = (usize, Value<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        // Checked to the end when the view was made.
        self.next_checked()?.ok()
    }
}

fn bit(bitmap: &[u8], i: usize) -> bool {
    bitmap.get(i / 8).is_some_and(|b| b >> (i % 8) & 1 == 1)
}

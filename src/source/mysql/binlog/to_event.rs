//! A decoded row as dts' own row record ([`crate::event`]): what the live source hands on.
//!
//! A column's [`Type`] is fixed by the table's shape. The few rows whose values do not fit it (text
//! that is none in its character set, JSON as differences) get a shape of their own, in which that
//! one column is `Any` (raw text), `Json` or `JsonPatch`: nothing is repaired and nothing lost.

mod walk;

use std::ops::Range;
use std::sync::Arc;

use super::column::{Column, ColumnType, Special};
use super::error::{Malformed, Problem};
use super::rows::{Row, Rows};
use super::table_map::TableMap;
use super::value::Value;
use crate::event;
use crate::event::{Image, Op, RowError, RowHead, RowWriter, Table, TableKind, Type};

pub use walk::RowsStamp;

/// Converts text: collation id, bytes, where to append UTF-8. `false` if the bytes are no text in
/// it, or the collation is unknown.
pub type ToUtf8<'f> = &'f mut dyn FnMut(u16, &[u8], &mut Vec<u8>) -> bool;

/// How the value of a column is said in one row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum As {
    /// In the column's own type.
    Usual,
    /// As bytes: text that is none.
    Bytes,
    /// As text: a document that differences were applied to.
    JsonText,
    /// As differences: the before image has no document to apply them to.
    JsonPatch,
}

/// A row that cannot be said.
#[derive(Debug, thiserror::Error)]
pub enum ToEventError {
    /// A value is damaged.
    #[error(transparent)]
    Problem(#[from] Problem),
    /// The record cannot hold it.
    #[error(transparent)]
    Row(#[from] RowError),
}

/// Collation id of `binary`.
const BINARY: u16 = 63;

/// What a record says beside the images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowStamp {
    /// Place of the row in its transaction, from 0.
    pub ordinal: u64,
    /// Hybrid logical clock, as in [`RowHead::hlc`].
    pub hlc: u64,
}

/// Converts the rows of one table shape.
#[derive(Debug)]
pub struct ToEvent {
    /// Shapes so far; the first is the usual one.
    shapes: Vec<(Box<[As]>, Arc<Table>)>,
    /// Bytes that a COMPRESSED value may inflate to.
    max_value_bytes: usize,
    walked: walk::Shape,
    walk: walk::Scratch,
    how: Vec<As>,
    /// Bytes made for values, and which value has which.
    arena: Vec<u8>,
    made: Vec<Option<Range<usize>>>,
    scratch: Vec<u8>,
}

impl ToEvent {
    /// For the shape `map`; `version` is the schema's number at the source.
    pub fn new(map: &TableMap, version: u32, max_value_bytes: usize, to_utf8: ToUtf8<'_>) -> Self {
        let columns: Vec<_> = map.columns.iter().enumerate().map(|(i, c)| column(i, c, to_utf8)).collect();
        let (db, name) = (map.db.clone(), map.table.clone());
        let usual = Table { kind: TableKind::Table, db, name, version, columns };
        let how: Box<[As]> = vec![As::Usual; map.columns.len()].into();
        Self {
            walked: walk::Shape::new(&map.columns, &usual),
            walk: walk::Scratch::default(),
            shapes: vec![(how, Arc::new(usual))],
            max_value_bytes,
            how: Vec::new(),
            arena: Vec::new(),
            made: Vec::new(),
            scratch: Vec::new(),
        }
    }

    /// Gives columns the labels that the TABLE_MAP lacks and the DDL knows, in UTF-8; `None` and columns with labels
    /// stay as they are. To be called before the first row.
    #[must_use]
    pub fn with_labels<'l>(mut self, labels: impl Iterator<Item = Option<&'l [String]>>) -> Self {
        if let Some((_, table)) = self.shapes.first_mut() {
            let columns = &mut Arc::make_mut(table).columns;
            for (column, labels) in columns.iter_mut().zip(labels) {
                if let Some(labels) = labels.filter(|_| column.labels.is_empty()) {
                    column.labels = labels.iter().map(|label| label.as_str().into()).collect();
                }
            }
        }
        self
    }

    /// The usual shape.
    pub fn table(&self) -> &Arc<Table> {
        match self.shapes.first() {
            Some((_, table)) => table,
            None => event::builtin::message(),
        }
    }

    /// Appends the records of all `rows`, each with the next ordinal; how many they are. `schema` tells the index of a
    /// shape in the batch; that of [`Self::table`] stands in `stamp`.
    pub fn write_all(
        &mut self,
        out: &mut Vec<u8>,
        rows: &Rows<'_>,
        stamp: RowsStamp,
        to_utf8: ToUtf8<'_>,
        schema: &mut dyn FnMut(&Arc<Table>) -> Option<u16>,
    ) -> Result<u32, ToEventError> {
        let start = out.len();
        let walk = walk::write(&self.walked, &mut self.walk, out, rows, stamp, to_utf8)?;
        let (mut written, complete) = walk;
        if complete {
            return Ok(written);
        }
        let mut cursor = rows.cursor();
        let mut index = 0;
        while let Some(row) = cursor.next() {
            let row = row.inspect_err(|_| out.truncate(start))?;
            if index >= written {
                let ordinal = stamp.ordinal + u64::from(index);
                let one = RowStamp { ordinal, hlc: stamp.hlc(ordinal) };
                self.write(out, rows, &row, one, to_utf8, schema).inspect_err(|_| out.truncate(start))?;
                written += 1;
            }
            index += 1;
        }
        Ok(written)
    }

    /// Appends the record of `row`, one of `rows`. `schema` tells the index of a shape in the batch
    /// (its tables are few: `BatchBuilder::table`).
    pub fn write(
        &mut self,
        out: &mut Vec<u8>,
        rows: &Rows<'_>,
        row: &Row<'_, '_>,
        stamp: RowStamp,
        to_utf8: ToUtf8<'_>,
        schema: &mut dyn FnMut(&Arc<Table>) -> Option<u16>,
    ) -> Result<(), ToEventError> {
        let columns = &rows.table.columns;
        let images = [row.before, row.after];
        self.arena.clear();
        self.made.clear();
        self.how.clear();
        self.how.resize(columns.len(), As::Usual);
        for image in images.iter().flatten() {
            for (i, (column, value)) in columns.iter().zip(*image).enumerate() {
                let before = row.before.and_then(|b| b.get(i));
                let made = self.make(i, column, value, before, to_utf8)?;
                self.made.push(made);
            }
        }
        let table = self.shape();
        let mut made = self.made.iter();
        let (mut values, mut present) = (Vec::new(), Vec::new());
        for image in images.iter().flatten() {
            for ((value, how), column) in image.iter().zip(&self.how).zip(&table.columns) {
                let made = made.next().cloned().flatten().and_then(|at| self.arena.get(at));
                present.push(*value != Value::Absent);
                values.push(said(value, *how, column.ty, made));
            }
        }
        let mut rest = (&values[..], &present[..]);
        let mut next = |image: Option<&[Value<'_>]>| {
            let n = image?.len();
            let (values, present) = (rest.0.get(..n)?, rest.1.get(..n)?);
            rest = (rest.0.get(n..)?, rest.1.get(n..)?);
            Some(Image { values, present: present.contains(&false).then_some(present) })
        };
        let (before, after) = (next(row.before), next(row.after));
        let op = match (row.before, row.after) {
            (None, _) => Op::Insert,
            (_, None) => Op::Delete,
            _ => Op::Update,
        };
        let schema = schema(&table).ok_or(RowError::NoTable(u16::MAX))?;
        let head = RowHead { op, schema, ordinal: stamp.ordinal, hlc: stamp.hlc };
        RowWriter::write(out, head, &table, before, after)?;
        Ok(())
    }

    /// Makes the bytes of a value that cannot be borrowed, and says how the column is said.
    fn make(
        &mut self,
        i: usize,
        column: &Column,
        value: &Value<'_>,
        before: Option<&Value<'_>>,
        to_utf8: ToUtf8<'_>,
    ) -> Result<Option<Range<usize>>, Problem> {
        let start = self.arena.len();
        let is_text = is_text(column);
        let mut how = As::Usual;
        match value {
            Value::Bytes(raw) if is_text => {
                // UTF-8 is borrowed; `binary` is no text.
                if std::str::from_utf8(raw).is_ok() && is_utf8(column) {
                    return Ok(None);
                }
                if !to_utf8(column.charset.unwrap_or(BINARY), raw, &mut self.arena) {
                    self.arena.truncate(start);
                    self.arena.extend_from_slice(raw);
                    how = As::Bytes;
                }
            }
            Value::Bytes(raw) if column.is_padded_binary() => {
                self.arena.extend_from_slice(raw);
                self.arena.resize(start + column.length().unwrap_or(0).max(raw.len()), 0);
            }
            Value::Compressed(c) => {
                let raw = c.inflate(&mut self.scratch, self.max_value_bytes)?;
                if !is_text {
                    self.arena.extend_from_slice(raw);
                } else if !to_utf8(column.charset.unwrap_or(BINARY), raw, &mut self.arena) {
                    self.arena.truncate(start);
                    self.arena.extend_from_slice(raw);
                    how = As::Bytes;
                }
            }
            Value::Decimal(d) if d.precision() > 38 => d.write(&mut self.arena)?,
            // Read here, so that a damaged one is an error.
            Value::Decimal(d) => {
                d.unscaled()?;
                return Ok(None);
            }
            Value::JsonDiff(diff) => match before {
                Some(Value::Json(doc)) => {
                    doc.write_patched(diff, &mut self.arena)?;
                    how = As::JsonText;
                }
                _ => {
                    self.arena.extend_from_slice(diff.raw());
                    how = As::JsonPatch;
                }
            },
            Value::Uuid(raw) | Value::Inet6(raw) => self.arena.extend_from_slice(raw),
            Value::Inet4(raw) => self.arena.extend_from_slice(raw),
            _ => return Ok(None),
        }
        if let Some(place) = self.how.get_mut(i).filter(|_| how != As::Usual) {
            // The before image of a patched document becomes text too.
            if let (As::JsonText, Some(Value::Json(doc))) = (how, before) {
                let at = self.arena.len();
                doc.write(&mut self.arena)?;
                if let Some(made) = self.made.get_mut(i) {
                    *made = Some(at..self.arena.len());
                }
                *place = how;
                return Ok(Some(start..at));
            }
            *place = how;
        }
        Ok(Some(start..self.arena.len()))
    }

    /// The shape of a row that is said in `self.how`.
    fn shape(&mut self) -> Arc<Table> {
        if let Some((_, table)) = self.shapes.iter().find(|(how, _)| **how == *self.how) {
            return table.clone();
        }
        let mut table = Table::clone(self.table());
        for (column, how) in table.columns.iter_mut().zip(&self.how) {
            column.ty = match how {
                As::Usual => column.ty,
                // Raw text, which is told from bytes that were declared as such.
                As::Bytes => Type::Any,
                As::JsonText => Type::Json,
                As::JsonPatch => Type::JsonPatch,
            };
        }
        let table = Arc::new(table);
        // Rare by nature; a table where they are not must not grow without end.
        if self.shapes.len() > 64 {
            self.shapes.truncate(1);
        }
        self.shapes.push((self.how.clone().into(), table.clone()));
        table
    }
}

fn said<'v>(value: &Value<'v>, how: As, ty: Type, made: Option<&'v [u8]>) -> event::Value<'v> {
    use event::Value as E;
    let text = |raw: &'v [u8]| std::str::from_utf8(raw).map_or(E::Bytes(raw), E::Text);
    match (*value, made) {
        (Value::Absent | Value::Null, _) => E::Null,
        (Value::Int(n), _) => E::Int(n),
        (Value::Uint(n) | Value::DateTime(n) | Value::Bit(n) | Value::Set(n), _) => E::Uint(n),
        (Value::Time(n) | Value::Timestamp(n), _) => E::Int(n),
        (Value::Float(n), _) => E::F32(n),
        (Value::Double(n), _) => E::F64(n),
        (Value::Date(n), _) => E::Uint(u64::from(n)),
        (Value::Year(n) | Value::Enum(n), _) => E::Uint(u64::from(n)),
        (Value::Decimal(_), Some(digits)) => E::Digits(std::str::from_utf8(digits).unwrap_or_default()),
        (Value::Decimal(d), None) => match d.unscaled() {
            Ok(Some(n)) => E::Decimal(n),
            // Cannot be: `make` read it.
            _ => E::Bytes(d.raw()),
        },
        (_, Some(made)) if how == As::Usual && ty == Type::Text || how == As::JsonText => text(made),
        (Value::Bytes(raw), Some(made)) if how == As::Bytes && made != raw => text(made),
        (_, Some(made)) if how == As::Bytes => std::str::from_utf8(made).map_or(E::RawText(made), E::Text),
        (_, Some(made)) => E::Bytes(made),
        (Value::Bytes(raw), None) if ty == Type::Text || how == As::Bytes => text(raw),
        (Value::Bytes(raw) | Value::Geometry(raw) | Value::Vector(raw), None) => E::Bytes(raw),
        (Value::Json(doc), None) => E::Bytes(doc.raw()),
        (Value::JsonDiff(diff), None) => E::Bytes(diff.raw()),
        // All have made bytes.
        (Value::Compressed(_) | Value::Uuid(_) | Value::Inet4(_) | Value::Inet6(_), None) => E::Null,
    }
}

/// Whether its bytes are text: a known collation that is not `binary`.
fn is_text(column: &Column) -> bool {
    column.ty.is_character() && column.special.is_none() && column.is_binary() == Some(false)
}

/// Whether the collation is one of utf8mb3's, utf8mb4's or ascii's, whose bytes are UTF-8.
fn is_utf8(column: &Column) -> bool {
    // The ids of MySQL's and MariaDB's collations by character set; what is missing here is only
    // converted, which gives the same.
    matches!(column.charset, Some(11 | 33 | 45 | 46 | 65 | 76 | 83 | 192..=247 | 255..=323 | 2048..=2559))
}

fn column(i: usize, c: &Column, to_utf8: ToUtf8<'_>) -> event::Column {
    use ColumnType as T;
    let signed = |signed, unsigned| if c.unsigned == Some(true) { unsigned } else { signed };
    let fsp = c.fsp;
    let ty = match c.ty {
        T::TINY => signed(Type::I8, Type::U8),
        T::SHORT => signed(Type::I16, Type::U16),
        T::INT24 | T::LONG => signed(Type::I32, Type::U32),
        T::LONGLONG => signed(Type::I64, Type::U64),
        T::FLOAT => Type::F32,
        T::DOUBLE => Type::F64,
        T::YEAR => Type::Year,
        T::NEWDECIMAL => match c.decimal() {
            Some((precision, scale)) => Type::Decimal { precision, scale },
            None => Type::Bytes,
        },
        T::DATE | T::NEWDATE => Type::Date,
        T::TIME | T::TIME2 => Type::Time { fsp },
        T::DATETIME | T::DATETIME2 => Type::DateTime { fsp },
        T::TIMESTAMP | T::TIMESTAMP2 => Type::Timestamp { fsp },
        T::BIT => Type::Bit,
        T::ENUM => Type::Enum,
        T::SET => Type::Set,
        T::JSON => Type::JsonB,
        T::GEOMETRY => Type::Geometry,
        T::VECTOR => Type::Vector,
        _ => match c.special {
            Some(Special::Uuid | Special::UuidSwapped) => Type::Uuid,
            Some(Special::Inet4) => Type::Inet4,
            Some(Special::Inet6) => Type::Inet6,
            Some(Special::Vector) => Type::Vector,
            None if is_text(c) => Type::Text,
            None => Type::Bytes,
        },
    };
    let mut label = |raw: &[u8]| -> Option<Box<str>> {
        let mut text = Vec::new();
        if !to_utf8(c.charset.unwrap_or(BINARY), raw, &mut text) {
            text = raw.to_vec();
        }
        String::from_utf8(text).ok().map(Into::into)
    };
    let name = match &c.name {
        Some(name) => name.clone(),
        None => format!("@{}", i + 1).into(),
    };
    event::Column {
        name,
        ty,
        key: c.key.map(|k| k.ordinal),
        // What the type alone does not say.
        declared: c.bits().map(|bits| format!("bit({bits})")).unwrap_or_default().into(),
        // One that is no text makes them all unknown: the value is its number then.
        labels: c.labels.iter().map(|l| label(l)).collect::<Option<_>>().unwrap_or_default(),
    }
}

/// For tests and for tables that are all UTF-8: takes what is valid UTF-8 as it is.
pub fn utf8_only(_collation: u16, raw: &[u8], out: &mut Vec<u8>) -> bool {
    out.extend_from_slice(raw);
    std::str::from_utf8(raw).is_ok()
}

impl From<Malformed> for ToEventError {
    fn from(why: Malformed) -> Self {
        Self::Problem(why.into())
    }
}

//! The optional metadata of a TABLE_MAP: `(type u8 | length packed | value)…`.
//!
//! Source: MySQL's `libs/mysql/binlog/event/rows_event.h`,
//! `Table_map_event::Optional_metadata_field_type`.

use super::bytes::{Bytes, utf8};
use super::column::{Column, ColumnType, KeyPart};
use super::error::Malformed;

const SIGNEDNESS: u8 = 1;
const DEFAULT_CHARSET: u8 = 2;
const COLUMN_CHARSET: u8 = 3;
const COLUMN_NAME: u8 = 4;
const SET_STR_VALUE: u8 = 5;
const ENUM_STR_VALUE: u8 = 6;
const GEOMETRY_TYPE: u8 = 7;
const SIMPLE_PRIMARY_KEY: u8 = 8;
const PRIMARY_KEY_WITH_PREFIX: u8 = 9;
const ENUM_AND_SET_DEFAULT_CHARSET: u8 = 10;
const ENUM_AND_SET_COLUMN_CHARSET: u8 = 11;
const COLUMN_VISIBILITY: u8 = 12;
const VECTOR_DIMENSIONALITY: u8 = 13;

/// Reads all of `b` into `columns`. Fields of later servers are passed over.
///
/// MariaDB counts geometry among the character columns (`sql/log_event_server.cc`, `is_character_type`: it is stored as a BLOB), MySQL
/// vectors (seen of 9.7).
pub(super) fn read(mut b: Bytes<'_>, columns: &mut [Column], mariadb: bool) -> Result<(), Malformed> {
    let is_character: fn(ColumnType) -> bool = match mariadb {
        true => |ty| ty.is_character() || ty == ColumnType::GEOMETRY,
        false => |ty| ty.is_character() || ty == ColumnType::VECTOR,
    };
    while !b.is_empty() {
        let field = b.u8("a metadata field")?;
        let len = b.packed_len("a metadata field's length")?;
        let mut v = Bytes(b.take(len, "a metadata field's value")?);
        match field {
            SIGNEDNESS => {
                let numeric = columns.iter_mut().filter(|c| c.ty.is_numeric());
                for (bit, column) in bits(v.0).zip(numeric) {
                    column.unsigned = Some(bit);
                }
            }
            DEFAULT_CHARSET => default_charset(&mut v, columns, is_character)?,
            COLUMN_CHARSET => column_charset(&mut v, columns, is_character)?,
            ENUM_AND_SET_DEFAULT_CHARSET => default_charset(&mut v, columns, ColumnType::is_enum_or_set)?,
            ENUM_AND_SET_COLUMN_CHARSET => column_charset(&mut v, columns, ColumnType::is_enum_or_set)?,
            COLUMN_NAME => {
                for column in columns.iter_mut() {
                    let len = v.packed_len("a column name's length")?;
                    let name = v.take(len, "a column's name")?;
                    column.name = Some(utf8(name, "a column name in UTF-8")?.into());
                }
            }
            SET_STR_VALUE => labels(&mut v, columns, ColumnType::SET)?,
            ENUM_STR_VALUE => labels(&mut v, columns, ColumnType::ENUM)?,
            GEOMETRY_TYPE => {
                for column in columns.iter_mut().filter(|c| c.ty == ColumnType::GEOMETRY) {
                    column.geometry = Some(v.packed("a geometry type")? as u32);
                }
            }
            VECTOR_DIMENSIONALITY => {
                for column in columns.iter_mut().filter(|c| c.ty == ColumnType::VECTOR) {
                    column.dimensions = Some(v.packed("a vector's dimensions")? as u32);
                }
            }
            SIMPLE_PRIMARY_KEY => key(&mut v, columns, false)?,
            PRIMARY_KEY_WITH_PREFIX => key(&mut v, columns, true)?,
            COLUMN_VISIBILITY => {
                for (bit, column) in bits(v.0).zip(columns.iter_mut()) {
                    column.visible = Some(bit);
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// The most significant bit first.
fn bits(raw: &[u8]) -> impl Iterator<Item = bool> + '_ {
    raw.iter().flat_map(|byte| (0..8).rev().map(move |i| byte >> i & 1 == 1))
}

fn collation(n: u64) -> Result<u16, Malformed> {
    u16::try_from(n).map_err(|_| Malformed::Invalid { expected: "a collation id", found: n })
}

/// `default packed | (index among these columns packed | collation packed)…`
fn default_charset(
    v: &mut Bytes<'_>,
    columns: &mut [Column],
    has: fn(ColumnType) -> bool,
) -> Result<(), Malformed> {
    let default = collation(v.packed("the default collation")?)?;
    let mut these: Vec<&mut Column> = columns.iter_mut().filter(|c| has(c.ty)).collect();
    for column in &mut these {
        column.charset = Some(default);
    }
    while !v.is_empty() {
        let i = v.packed_len("a column's index")?;
        let charset = collation(v.packed("a collation")?)?;
        match these.get_mut(i) {
            Some(column) => column.charset = Some(charset),
            None => return Err(Malformed::Invalid { expected: "a text column's index", found: i as u64 }),
        }
    }
    Ok(())
}

fn column_charset(
    v: &mut Bytes<'_>,
    columns: &mut [Column],
    has: fn(ColumnType) -> bool,
) -> Result<(), Malformed> {
    for column in columns.iter_mut().filter(|c| has(c.ty)) {
        column.charset = Some(collation(v.packed("a collation")?)?);
    }
    Ok(())
}

/// `(count packed | (length packed | label)…)…`
fn labels(v: &mut Bytes<'_>, columns: &mut [Column], ty: ColumnType) -> Result<(), Malformed> {
    for column in columns.iter_mut().filter(|c| c.ty == ty) {
        let count = v.packed("the number of labels")?;
        let mut labels = Vec::new();
        for _ in 0..count {
            let len = v.packed_len("a label's length")?;
            labels.push(v.take(len, "a label")?.into());
        }
        column.labels = labels.into();
    }
    Ok(())
}

/// `(column packed | [prefix packed])…`
fn key(v: &mut Bytes<'_>, columns: &mut [Column], with_prefix: bool) -> Result<(), Malformed> {
    let mut ordinal = 0;
    while !v.is_empty() {
        let i = v.packed_len("a key column's index")?;
        let prefix = if with_prefix { v.packed("a key prefix")? as u32 } else { 0 };
        let Some(column) = columns.get_mut(i) else {
            return Err(Malformed::Invalid { expected: "a key column's index", found: i as u64 });
        };
        column.key = Some(KeyPart { prefix, ..KeyPart::whole(ordinal) });
        ordinal += 1;
    }
    Ok(())
}

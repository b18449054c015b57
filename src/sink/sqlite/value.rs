//! How a value is stored in SQLite, and the bytes that stand for a key or a row.
//!
//! Columns are declared without a type, so SQLite converts nothing. Integers, reals, text and blobs
//! are stored as such; text keeps its bytes even where they are no UTF-8. Types that SQLite does not
//! have (decimals, dates, times, labels, UUIDs, addresses) are text as in dts JSON; unsigned integers above 2^63 - 1
//! too; NaN is the text `NaN`, since SQLite would make it NULL. Binary JSON, geometry and vectors are
//! blobs as they came.

use rusqlite::Statement;
use rusqlite::types::{ToSqlOutput, ValueRef};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::codec::text;
use crate::event::{Column, Type, Value};

/// What is stored for `value`. `scratch` holds the text of types that SQLite does not have.
pub(super) fn stored<'a>(column: &Column, value: Value<'a>, scratch: &'a mut Vec<u8>) -> ValueRef<'a> {
    let plain = match (column.ty, value) {
        (_, Value::Null) => Some(ValueRef::Null),
        (Type::Time { .. } | Type::Timestamp { .. }, Value::Int(_)) => None,
        (Type::Date | Type::DateTime { .. } | Type::Enum | Type::Set, Value::Uint(_)) => None,
        (Type::Uuid | Type::Inet4 | Type::Inet6, Value::Bytes(_)) => None,
        (_, Value::Int(n)) => Some(ValueRef::Integer(n)),
        (_, Value::Uint(n)) => i64::try_from(n).ok().map(ValueRef::Integer),
        (_, Value::F32(n)) if !n.is_nan() => Some(ValueRef::Real(f64::from(n))),
        (_, Value::F64(n)) if !n.is_nan() => Some(ValueRef::Real(n)),
        (_, Value::F32(_) | Value::F64(_)) => Some(ValueRef::Text(b"NaN")),
        (_, Value::Text(s)) => Some(ValueRef::Text(s.as_bytes())),
        (_, Value::RawText(b)) => Some(ValueRef::Text(b)),
        (_, Value::Bytes(b)) => Some(ValueRef::Blob(b)),
        (_, Value::Decimal(_) | Value::Digits(_)) => None,
    };
    if let Some(plain) = plain {
        return plain;
    }
    scratch.clear();
    if text::formatted(scratch, column, value) {
        return ValueRef::Text(scratch);
    }
    match value {
        // A label that is unknown: its number.
        Value::Uint(n) if matches!(column.ty, Type::Enum | Type::Set) && n >> 63 == 0 => {
            ValueRef::Integer(n as i64)
        }
        Value::Uint(n) => {
            text::padded(scratch, n, 1);
            ValueRef::Text(scratch)
        }
        Value::Decimal(n) => {
            text::decimal(scratch, n, 0);
            ValueRef::Text(scratch)
        }
        Value::Bytes(b) => ValueRef::Blob(b),
        _ => ValueRef::Null,
    }
}

/// Binds `value` to parameter `index` (from 1).
pub(super) fn bind(statement: &mut Statement<'_>, index: usize, value: ValueRef<'_>) -> rusqlite::Result<()> {
    statement.raw_bind_parameter(index, ToSqlOutput::Borrowed(value))
}

/// Appends bytes that are equal exactly where SQLite calls two values equal: 1 and 1.0 are.
pub(super) fn key_bytes(value: ValueRef<'_>, out: &mut Vec<u8>) {
    const TWO_63: f64 = 9_223_372_036_854_775_808.0;
    let (tag, bytes): (u8, &[u8]) = match value {
        ValueRef::Null => (0, &[]),
        ValueRef::Integer(n) => (1, &n.to_be_bytes()),
        ValueRef::Real(r) if r.fract() == 0.0 && (-TWO_63..TWO_63).contains(&r) => {
            (1, &(r as i64).to_be_bytes())
        }
        ValueRef::Real(r) => (2, &r.to_bits().to_be_bytes()),
        ValueRef::Text(t) => (3, t),
        ValueRef::Blob(b) => (4, b),
    };
    out.push(tag);
    out.extend_from_slice(&(bytes.len() as u64).to_be_bytes());
    out.extend_from_slice(bytes);
}

/// One column's part of the hash that finds a row without key. The parts are added, so that neither
/// the order of columns nor a new column that is NULL changes the sum. NULL adds nothing.
pub(super) fn row_hash(column: &str, value: ValueRef<'_>) -> u64 {
    let (tag, bytes): (u64, &[u8]) = match value {
        ValueRef::Null => return 0,
        ValueRef::Integer(n) => (1, &n.to_be_bytes()),
        ValueRef::Real(r) => (2, &r.to_bits().to_be_bytes()),
        ValueRef::Text(t) => (3, t),
        ValueRef::Blob(b) => (4, b),
    };
    xxh3_64_with_seed(bytes, xxh3_64_with_seed(column.as_bytes(), tag))
}

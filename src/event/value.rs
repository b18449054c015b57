//! What a column can hold, and its bytes.
//!
//! Numbers and times have a fixed width, little-endian; the rest is a varint length and bytes.
//! A value carries no tag: its column's [`Type`] says how to read it. The one exception is
//! [`Type::Any`], for sources whose columns hold mixed types (SQLite).

use serde::{Deserialize, Serialize};

use super::varint;

/// The type of a column. Closed: what cannot be said in it is said in `Bytes`.
///
/// The order of the variants is part of the stored format (postcard writes their index): append only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Type {
    /// Self-describing: a tag byte, then NULL-free integer, real, text or bytes. SQLite's columns.
    Any,
    /// Signed 8-bit integer.
    I8,
    /// Signed 16-bit integer.
    I16,
    /// Signed 32-bit integer (MySQL's MEDIUMINT too).
    I32,
    /// Signed 64-bit integer.
    I64,
    /// Unsigned 8-bit integer.
    U8,
    /// Unsigned 16-bit integer.
    U16,
    /// Unsigned 32-bit integer.
    U32,
    /// Unsigned 64-bit integer.
    U64,
    /// IEEE 754 single.
    F32,
    /// IEEE 754 double.
    F64,
    /// Exact decimal. Up to 38 digits: the unscaled i128; beyond: its ASCII digits.
    Decimal {
        /// Digits in all.
        precision: u8,
        /// Digits after the point.
        scale: u8,
    },
    /// Packed `year << 9 | month << 5 | day`; zero and partly zero dates are values.
    Date,
    /// Signed microseconds; hours go beyond 24.
    Time {
        /// Fractional digits that the column keeps, 0–6.
        fsp: u8,
    },
    /// Packed `(((year * 13 + month) << 5 | day) << 17 | h << 12 | m << 6 | s) << 24 | µs`.
    DateTime {
        /// Fractional digits that the column keeps, 0–6.
        fsp: u8,
    },
    /// Microseconds since 1970 UTC; `i64::MIN` is the zero date.
    Timestamp {
        /// Fractional digits that the column keeps, 0–6.
        fsp: u8,
    },
    /// A year, 0 or 1901–2155.
    Year,
    /// Up to 64 bits.
    Bit,
    /// The 1-based index of a label; 0 is MySQL's invalid value.
    Enum,
    /// A bitmap of labels.
    Set,
    /// UTF-8.
    Text,
    /// Bytes without a meaning known to dts.
    Bytes,
    /// A JSON document as UTF-8 text.
    Json,
    /// MySQL's binary JSON, as it came.
    JsonB,
    /// A partial update of a JSON document, as it came.
    JsonPatch,
    /// SRID u32 and WKB, as MySQL stores it.
    Geometry,
    /// f32 elements, little-endian.
    Vector,
    /// 16 bytes in text order.
    Uuid,
    /// 4 bytes in network order.
    Inet4,
    /// 16 bytes in network order.
    Inet6,
}

/// One value, borrowed from its row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// SQL NULL. Never encoded: the image's null bitmap says it.
    Null,
    /// A signed integer of any width; also `Time` and `Timestamp` in microseconds.
    Int(i64),
    /// An unsigned integer of any width; also `Date`, `DateTime`, `Year`, `Bit`, `Enum`, `Set`.
    Uint(u64),
    /// A single.
    F32(f32),
    /// A double.
    F64(f64),
    /// The unscaled value of a decimal of up to 38 digits.
    Decimal(i128),
    /// The ASCII digits of a longer decimal, with sign and point.
    Digits(&'a str),
    /// Text.
    Text(&'a str),
    /// Text that is not valid UTF-8 (`Any` columns only): kept, never repaired.
    RawText(&'a [u8]),
    /// Everything else.
    Bytes(&'a [u8]),
}

/// Tags of [`Type::Any`].
mod any {
    pub(super) const INT: u8 = 1;
    pub(super) const REAL: u8 = 2;
    pub(super) const TEXT: u8 = 3;
    pub(super) const BYTES: u8 = 4;
    pub(super) const RAW_TEXT: u8 = 5;
}

/// A value that does not fit its column, or bytes that are no value of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// The variant is not one that the column's type takes, or a number is out of its range.
    #[error("a value of another type or range than its column {0:?}")]
    Mismatch(Type),
    /// The bytes end early.
    #[error("a value of type {0:?} is cut short")]
    Short(Type),
    /// The bytes are there, but no value of the type.
    #[error("bytes that are no value of type {0:?}")]
    Malformed(Type),
}

impl Type {
    /// Bytes of an encoded value, where it is the same for all values.
    pub fn fixed_width(self) -> Option<usize> {
        Some(match self {
            Self::I8 | Self::U8 => 1,
            Self::I16 | Self::U16 | Self::Year | Self::Enum => 2,
            Self::I32 | Self::U32 | Self::F32 | Self::Date | Self::Inet4 => 4,
            Self::I64
            | Self::U64
            | Self::F64
            | Self::Time { .. }
            | Self::DateTime { .. }
            | Self::Timestamp { .. }
            | Self::Bit
            | Self::Set => 8,
            Self::Uuid | Self::Inet6 => 16,
            Self::Decimal { precision, .. } if precision <= 38 => 16,
            _ => return None,
        })
    }

    /// Appends the encoding of `value`, which is not NULL.
    ///
    /// On an error nothing was appended.
    pub fn encode(self, value: Value<'_>, out: &mut Vec<u8>) -> Result<(), ValueError> {
        let bad = ValueError::Mismatch(self);
        match (self, value) {
            (Self::Any, Value::Int(n)) => {
                out.push(any::INT);
                varint::put(out, varint::zigzag(n));
            }
            (Self::Any, Value::F64(n)) => {
                out.push(any::REAL);
                out.extend_from_slice(&n.to_bits().to_le_bytes());
            }
            (Self::Any, Value::Text(s)) => {
                out.push(any::TEXT);
                put_bytes(out, s.as_bytes());
            }
            (Self::Any, Value::Bytes(b)) => {
                out.push(any::BYTES);
                put_bytes(out, b);
            }
            (Self::Any, Value::RawText(b)) => {
                out.push(any::RAW_TEXT);
                put_bytes(out, b);
            }
            (Self::I8, Value::Int(n)) => out.push(i8::try_from(n).map_err(|_| bad)? as u8),
            (Self::I16, Value::Int(n)) => out.extend(i16::try_from(n).map_err(|_| bad)?.to_le_bytes()),
            (Self::I32, Value::Int(n)) => out.extend(i32::try_from(n).map_err(|_| bad)?.to_le_bytes()),
            (Self::I64 | Self::Time { .. } | Self::Timestamp { .. }, Value::Int(n)) => {
                out.extend(n.to_le_bytes());
            }
            (Self::U8, Value::Uint(n)) => out.push(u8::try_from(n).map_err(|_| bad)?),
            (Self::U16 | Self::Year | Self::Enum, Value::Uint(n)) => {
                out.extend(u16::try_from(n).map_err(|_| bad)?.to_le_bytes());
            }
            (Self::U32 | Self::Date, Value::Uint(n)) => {
                out.extend(u32::try_from(n).map_err(|_| bad)?.to_le_bytes());
            }
            (Self::U64 | Self::DateTime { .. } | Self::Bit | Self::Set, Value::Uint(n)) => {
                out.extend(n.to_le_bytes());
            }
            (Self::F32, Value::F32(n)) => out.extend(n.to_bits().to_le_bytes()),
            (Self::F64, Value::F64(n)) => out.extend(n.to_bits().to_le_bytes()),
            (Self::Decimal { precision, .. }, Value::Decimal(n)) if precision <= 38 => {
                out.extend(n.to_le_bytes());
            }
            (Self::Decimal { precision, .. }, Value::Digits(s)) if precision > 38 => {
                put_bytes(out, s.as_bytes());
            }
            (Self::Text | Self::Json, Value::Text(s)) => put_bytes(out, s.as_bytes()),
            (
                Self::Bytes | Self::JsonB | Self::JsonPatch | Self::Geometry | Self::Vector,
                Value::Bytes(b),
            ) => {
                put_bytes(out, b);
            }
            (Self::Uuid | Self::Inet4 | Self::Inet6, Value::Bytes(b)) => {
                if Some(b.len()) != self.fixed_width() {
                    return Err(bad);
                }
                out.extend_from_slice(b);
            }
            _ => return Err(bad),
        }
        Ok(())
    }

    /// Takes one value off the front of `bytes`, borrowing text and bytes from it.
    pub fn decode<'a>(self, bytes: &mut &'a [u8]) -> Result<Value<'a>, ValueError> {
        let short = ValueError::Short(self);
        if let Some(width) = self.fixed_width() {
            let raw = varint::take_bytes(bytes, width as u64).ok_or(short)?;
            return Ok(self.fixed(raw));
        }
        if self == Self::Any {
            return self.decode_any(bytes);
        }
        let len = varint::take(bytes).ok_or(short)?;
        let raw = varint::take_bytes(bytes, len).ok_or(short)?;
        Ok(match self {
            Self::Text | Self::Json => Value::Text(self.utf8(raw)?),
            Self::Decimal { .. } => Value::Digits(self.utf8(raw)?),
            _ => Value::Bytes(raw),
        })
    }

    fn decode_any<'a>(self, bytes: &mut &'a [u8]) -> Result<Value<'a>, ValueError> {
        let short = ValueError::Short(self);
        let (&tag, rest) = bytes.split_first().ok_or(short)?;
        *bytes = rest;
        if tag == any::INT {
            return varint::take(bytes).map(|n| Value::Int(varint::unzigzag(n))).ok_or(short);
        }
        if tag == any::REAL {
            let raw = varint::take_bytes(bytes, 8).ok_or(short)?;
            return Ok(Value::F64(f64::from_bits(le(raw))));
        }
        let len = varint::take(bytes).ok_or(short)?;
        let raw = varint::take_bytes(bytes, len).ok_or(short)?;
        match tag {
            any::TEXT => Ok(Value::Text(self.utf8(raw)?)),
            any::BYTES => Ok(Value::Bytes(raw)),
            any::RAW_TEXT => Ok(Value::RawText(raw)),
            _ => Err(ValueError::Malformed(self)),
        }
    }

    /// `raw` has the type's fixed width.
    fn fixed(self, raw: &[u8]) -> Value<'_> {
        match self {
            Self::I8 => Value::Int(i64::from(raw[0] as i8)),
            Self::I16 => Value::Int(i64::from(le(raw) as i16)),
            Self::I32 => Value::Int(i64::from(le(raw) as i32)),
            Self::I64 | Self::Time { .. } | Self::Timestamp { .. } => Value::Int(le(raw) as i64),
            Self::F32 => Value::F32(f32::from_bits(le(raw) as u32)),
            Self::F64 => Value::F64(f64::from_bits(le(raw))),
            Self::Decimal { .. } => {
                let mut wide = [0; 16];
                wide.copy_from_slice(raw);
                Value::Decimal(i128::from_le_bytes(wide))
            }
            Self::Uuid | Self::Inet4 | Self::Inet6 => Value::Bytes(raw),
            _ => Value::Uint(le(raw)),
        }
    }

    fn utf8(self, raw: &[u8]) -> Result<&str, ValueError> {
        std::str::from_utf8(raw).map_err(|_| ValueError::Malformed(self))
    }
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    varint::put(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Up to eight little-endian bytes.
fn le(raw: &[u8]) -> u64 {
    let mut wide = [0; 8];
    wide[..raw.len()].copy_from_slice(raw);
    u64::from_le_bytes(wide)
}

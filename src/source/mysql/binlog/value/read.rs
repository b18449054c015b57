//! One value off the front of an image.

use super::super::bytes::{be, le};
use super::super::error::Malformed;
use super::super::json::Json;
use super::super::plan::{Read, Step};
use super::{Compressed, Decimal, Value, decimal, mariadb, temporal};

const SHORT: Malformed = Malformed::Ends("the value's end");

#[inline(always)]
fn take<'a>(rest: &mut &'a [u8], n: usize) -> Result<&'a [u8], Malformed> {
    let (head, tail) = rest.split_at_checked(n).ok_or(SHORT)?;
    *rest = tail;
    Ok(head)
}

#[inline(always)]
fn array<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], Malformed> {
    let (head, tail) = rest.split_first_chunk().ok_or(SHORT)?;
    *rest = tail;
    Ok(*head)
}

/// One byte of length and that many bytes.
#[inline(always)]
fn short<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], Malformed> {
    let [n] = array(rest)?;
    take(rest, usize::from(n))
}

/// Two bytes of length and that many bytes.
#[inline(always)]
fn long<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], Malformed> {
    let n = u16::from_le_bytes(array(rest)?);
    take(rest, usize::from(n))
}

/// `a` bytes of length, 1 to 4, and that many bytes.
#[inline(always)]
fn blob<'a>(rest: &mut &'a [u8], a: u8) -> Result<&'a [u8], Malformed> {
    // The plan lets no other sizes through.
    let n = match a {
        1 => u32::from(u8::from_le_bytes(array(rest)?)),
        2 => u32::from(u16::from_le_bytes(array(rest)?)),
        3 => {
            let [x, y, z] = array(rest)?;
            u32::from_le_bytes([x, y, z, 0])
        }
        _ => u32::from_le_bytes(array(rest)?),
    };
    take(rest, n as usize)
}

/// Takes the value of a column that is not NULL off the front of `rest`.
#[inline(always)]
pub(in super::super) fn read<'a>(step: Step, rest: &mut &'a [u8]) -> Result<Value<'a>, Malformed> {
    Ok(match step.read {
        Read::I8 => Value::Int(i64::from(i8::from_le_bytes(array(rest)?))),
        Read::U8 => Value::Uint(u64::from(u8::from_le_bytes(array(rest)?))),
        Read::I16 => Value::Int(i64::from(i16::from_le_bytes(array(rest)?))),
        Read::U16 => Value::Uint(u64::from(u16::from_le_bytes(array(rest)?))),
        Read::I24 => {
            let [x, y, z] = array(rest)?;
            // In the upper three bytes, and down again with the sign.
            Value::Int(i64::from(i32::from_le_bytes([0, x, y, z]) >> 8))
        }
        Read::U24 => {
            let [x, y, z] = array(rest)?;
            Value::Uint(u64::from(u32::from_le_bytes([x, y, z, 0])))
        }
        Read::I32 => Value::Int(i64::from(i32::from_le_bytes(array(rest)?))),
        Read::U32 => Value::Uint(u64::from(u32::from_le_bytes(array(rest)?))),
        Read::I64 => Value::Int(i64::from_le_bytes(array(rest)?)),
        Read::U64 => Value::Uint(u64::from_le_bytes(array(rest)?)),
        Read::F32 => Value::Float(f32::from_le_bytes(array(rest)?)),
        Read::F64 => Value::Double(f64::from_le_bytes(array(rest)?)),
        Read::Year => {
            let [n] = array(rest)?;
            Value::Year(if n == 0 { 0 } else { 1900 + u16::from(n) })
        }
        Read::Decimal => {
            let len = decimal::bytes(step.a, step.b).ok_or(SHORT)?;
            Value::Decimal(Decimal::new(take(rest, len)?, step.a, step.b))
        }
        Read::Date => {
            let [x, y, z] = array(rest)?;
            Value::Date(u32::from_le_bytes([x, y, z, 0]))
        }
        Read::Time => Value::Time(temporal::time(take(rest, usize::from(step.b))?)),
        Read::DateTime => Value::DateTime(temporal::datetime(take(rest, usize::from(step.b))?)),
        Read::Timestamp => Value::Timestamp(temporal::timestamp(take(rest, usize::from(step.b))?)),
        Read::OldTime => Value::Time(temporal::old_time(array(rest)?)),
        Read::OldDateTime => Value::DateTime(temporal::old_datetime(u64::from_le_bytes(array(rest)?))),
        Read::OldTimestamp => Value::Timestamp(temporal::micros(u32::from_le_bytes(array(rest)?), 0)),
        Read::HiresTime => Value::Time(temporal::hires_time(take(rest, usize::from(step.b))?, step.a)),
        Read::HiresDateTime => {
            Value::DateTime(temporal::hires_datetime(take(rest, usize::from(step.b))?, step.a))
        }
        Read::HiresTimestamp => {
            Value::Timestamp(temporal::hires_timestamp(take(rest, usize::from(step.b))?, step.a))
        }
        Read::Bit => Value::Bit(be(take(rest, usize::from(step.a))?)),
        Read::Enum => Value::Enum(le(take(rest, usize::from(step.a))?) as u16),
        Read::Set => Value::Set(le(take(rest, usize::from(step.a))?)),
        Read::Short => Value::Bytes(short(rest)?),
        Read::Long => Value::Bytes(long(rest)?),
        Read::Blob => Value::Bytes(blob(rest, step.a)?),
        Read::Json => Value::Json(Json::new(blob(rest, step.a)?)),
        Read::Geometry => Value::Geometry(blob(rest, step.a)?),
        Read::Vector => Value::Vector(blob(rest, step.a)?),
        Read::CompressedShort => Value::Compressed(Compressed::new(short(rest)?)),
        Read::CompressedLong => Value::Compressed(Compressed::new(long(rest)?)),
        Read::CompressedBlob => Value::Compressed(Compressed::new(blob(rest, step.a)?)),
        Read::Uuid => Value::Uuid(mariadb::uuid(mariadb::padded(short(rest)?)?, false)),
        Read::UuidSwapped => Value::Uuid(mariadb::uuid(mariadb::padded(short(rest)?)?, true)),
        Read::Inet4 => Value::Inet4(mariadb::padded(short(rest)?)?),
        Read::Inet6 => Value::Inet6(mariadb::padded(short(rest)?)?),
    })
}

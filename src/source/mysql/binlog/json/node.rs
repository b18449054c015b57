//! One value of a document.

use super::super::bytes::{Bytes, be, le};
use super::super::error::Malformed;

const SMALL_OBJECT: u8 = 0;
const LARGE_OBJECT: u8 = 1;
const SMALL_ARRAY: u8 = 2;
const LARGE_ARRAY: u8 = 3;
const LITERAL: u8 = 4;
const INT16: u8 = 5;
const UINT16: u8 = 6;
const INT32: u8 = 7;
const UINT32: u8 = 8;
const INT64: u8 = 9;
const UINT64: u8 = 10;
const DOUBLE: u8 = 11;
const STRING: u8 = 12;
const OPAQUE: u8 = 15;

/// A value, borrowed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Node<'a> {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// An integer.
    Int(i64),
    /// An integer that was unsigned in SQL.
    Uint(u64),
    /// A double.
    Double(f64),
    /// UTF-8, unchecked.
    String(&'a [u8]),
    /// A value of another type of SQL: decimals, dates, bytes.
    Opaque {
        /// Number of the column type.
        ty: u8,
        /// The value in that type's form.
        data: &'a [u8],
    },
    /// An array.
    Array(Members<'a>),
    /// An object.
    Object(Members<'a>),
}

/// What an array or object holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Members<'a> {
    /// From the count on to the end of its size.
    data: &'a [u8],
    count: usize,
    large: bool,
    object: bool,
}

impl<'a> Node<'a> {
    pub(super) fn read(ty: u8, value: &'a [u8]) -> Result<Self, Malformed> {
        let what = "a JSON value's end";
        let mut b = Bytes(value);
        Ok(match ty {
            SMALL_OBJECT => Self::Object(Members::read(value, false, true)?),
            LARGE_OBJECT => Self::Object(Members::read(value, true, true)?),
            SMALL_ARRAY => Self::Array(Members::read(value, false, false)?),
            LARGE_ARRAY => Self::Array(Members::read(value, true, false)?),
            LITERAL => literal(u64::from(b.u8(what)?))?,
            INT16 => Self::Int(i64::from(b.u16(what)? as i16)),
            UINT16 => Self::Uint(u64::from(b.u16(what)?)),
            INT32 => Self::Int(i64::from(b.u32(what)? as i32)),
            UINT32 => Self::Uint(u64::from(b.u32(what)?)),
            INT64 => Self::Int(b.i64(what)?),
            UINT64 => Self::Uint(b.u64(what)?),
            DOUBLE => Self::Double(f64::from_bits(b.u64(what)?)),
            STRING => Self::String(counted(&mut b)?),
            OPAQUE => Self::Opaque { ty: b.u8(what)?, data: counted(&mut b)? },
            ty => return Err(Malformed::Invalid { expected: "a JSON type", found: u64::from(ty) }),
        })
    }

    /// Bytes that it takes in the document beside its place in the container's table.
    pub(super) fn cost(&self) -> usize {
        match self {
            Self::String(s) => s.len(),
            Self::Opaque { data, .. } => data.len(),
            _ => 0,
        }
    }
}

fn literal(n: u64) -> Result<Node<'static>, Malformed> {
    match n {
        0 => Ok(Node::Null),
        1 => Ok(Node::Bool(true)),
        2 => Ok(Node::Bool(false)),
        n => Err(Malformed::Invalid { expected: "null, true or false", found: n }),
    }
}

/// A length of seven bits a byte, and that many bytes.
fn counted<'a>(b: &mut Bytes<'a>) -> Result<&'a [u8], Malformed> {
    let mut len = 0usize;
    for shift in (0..35).step_by(7) {
        let byte = b.u8("a JSON string's length")?;
        len |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return b.take(len, "a JSON string's end");
        }
    }
    Err(Malformed::Invalid { expected: "a JSON string's length", found: len as u64 })
}

impl<'a> Members<'a> {
    fn read(data: &'a [u8], large: bool, object: bool) -> Result<Self, Malformed> {
        let width = if large { 4 } else { 2 };
        let mut b = Bytes(data);
        let count = le(b.take(width, "a JSON container's count")?) as usize;
        let size = le(b.take(width, "a JSON container's size")?) as usize;
        let data = data.get(..size).ok_or(Malformed::Ends("a JSON container's end"))?;
        let members = Self { data, count, large, object };
        // So that every member has its place in the table, and a false count shows here.
        if members.table_end() > size {
            return Err(Malformed::Invalid { expected: "a JSON container's count", found: count as u64 });
        }
        Ok(members)
    }

    fn width(&self) -> usize {
        if self.large { 4 } else { 2 }
    }

    fn table_end(&self) -> usize {
        let keys = if self.object { self.width() + 2 } else { 0 };
        let entry = keys + 1 + self.width();
        self.count.saturating_mul(entry).saturating_add(2 * self.width())
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The key of member `i` of an object; UTF-8, unchecked.
    pub fn key(&self, i: usize) -> Result<&'a [u8], Malformed> {
        let what = "a JSON key";
        let at = 2 * self.width() + i * (self.width() + 2);
        let entry = self.data.get(at..at + self.width() + 2).ok_or(Malformed::Ends(what))?;
        let (offset, len) = entry.split_at(self.width());
        let (offset, len) = (le(offset) as usize, le(len) as usize);
        self.data.get(offset..offset + len).ok_or(Malformed::Ends(what))
    }

    /// Member `i`.
    pub fn value(&self, i: usize) -> Result<Node<'a>, Malformed> {
        let keys = if self.object { self.count * (self.width() + 2) } else { 0 };
        let at = 2 * self.width() + keys + i * (1 + self.width());
        let entry =
            self.data.get(at..at + 1 + self.width()).ok_or(Malformed::Ends("a JSON value's entry"))?;
        let [ty, place @ ..] = entry else { return Err(Malformed::Ends("a JSON value's entry")) };
        let inlined = matches!(*ty, LITERAL | INT16 | UINT16) || self.large && matches!(*ty, INT32 | UINT32);
        if inlined {
            return Node::read(*ty, place);
        }
        let offset = le(place) as usize;
        // Within the table there are no values; a container that holds itself would be there.
        if offset < self.table_end() {
            return Err(Malformed::Invalid { expected: "a JSON value's offset", found: offset as u64 });
        }
        let value = self.data.get(offset..).ok_or(Malformed::Ends("a JSON value"))?;
        Node::read(*ty, value)
    }

    /// Bytes of a member's place in the table and, for an object, of its key.
    pub(super) fn cost(&self, key: &[u8]) -> usize {
        1 + self.width() + if self.object { self.width() + 2 + key.len() } else { 0 }
    }
}

/// The packed numbers of dates and times in opaque values.
pub(super) fn packed(data: &[u8]) -> Result<i64, Malformed> {
    match <[u8; 8]>::try_from(data) {
        Ok(raw) => Ok(i64::from_le_bytes(raw)),
        Err(_) => {
            let found = be(data.get(..8).unwrap_or(data));
            Err(Malformed::Invalid { expected: "eight bytes of date or time", found })
        }
    }
}

//! One number that depends on every value of every image: equal numbers, equal reading.
//!
//! Integers are folded with their signs, NULL as 1, text and bytes by length, first and last byte;
//! decimals and JSON by their text, dates and times by their packed numbers. For numbers and
//! strings other decoders that fold the same way come to the same sum.

use super::error::Malformed;
use super::rows::{Side, Visit};
use super::value::Value;

/// Counts and folds.
#[derive(Debug, Default)]
pub struct Fold {
    /// Rows.
    pub rows: u64,
    /// Images: one for an insert or delete, two for an update.
    pub images: u64,
    /// The sum so far; users see 16 hex digits.
    pub sum: u64,
    text: Vec<u8>,
}

impl Fold {
    /// Nothing folded.
    pub fn new() -> Self {
        Self::default()
    }

    #[inline(always)]
    fn int(&mut self, n: u64) {
        self.sum = self.sum.rotate_left(5) ^ n;
    }

    #[inline(always)]
    fn bytes(&mut self, bytes: &[u8]) {
        let (first, last) = match *bytes {
            [] => (0, 0),
            [first, .., last] => (first, last),
            [only] => (only, only),
        };
        self.int((bytes.len() as u64) << 16 | u64::from(first) << 8 | u64::from(last));
    }

    #[inline(never)]
    fn text(&mut self, write: impl FnOnce(&mut Vec<u8>) -> Result<(), Malformed>) -> Result<(), Malformed> {
        let mut text = std::mem::take(&mut self.text);
        text.clear();
        let written = write(&mut text);
        self.bytes(&text);
        self.text = text;
        written
    }
}

impl<'a> Visit<'a> for Fold {
    #[inline(always)]
    fn row(&mut self) {
        self.rows += 1;
    }

    #[inline(always)]
    fn image(&mut self, _side: Side) {
        self.images += 1;
    }

    #[inline(always)]
    fn value(&mut self, _column: usize, value: Value<'a>) -> Result<(), Malformed> {
        match value {
            Value::Absent => {}
            Value::Null => self.int(1),
            Value::Int(n) | Value::Time(n) | Value::Timestamp(n) => self.int(n as u64),
            Value::Uint(n) | Value::DateTime(n) | Value::Bit(n) | Value::Set(n) => self.int(n),
            Value::Float(n) => self.int(u64::from(n.to_bits())),
            Value::Double(n) => self.int(n.to_bits()),
            Value::Date(n) => self.int(u64::from(n)),
            Value::Year(n) | Value::Enum(n) => self.int(u64::from(n)),
            Value::Bytes(b) | Value::Geometry(b) | Value::Vector(b) => self.bytes(b),
            Value::Compressed(c) => self.bytes(c.raw()),
            Value::Decimal(d) => return self.text(|out| d.write(out)),
            Value::Json(j) => return self.text(|out| j.write(out)),
            Value::JsonDiff(d) => self.bytes(d.raw()),
            Value::Uuid(b) | Value::Inet6(b) => self.bytes(&b),
            Value::Inet4(b) => self.bytes(&b),
        }
        Ok(())
    }
}

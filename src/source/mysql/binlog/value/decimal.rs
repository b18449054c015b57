//! DECIMAL: groups of nine digits in four bytes, big-endian, the first bit inverted, all bits
//! inverted if negative.
//!
//! ```text
//! [1–8 digits of the integer part in 1–4 bytes] | 9 digits in 4 bytes… | 9 digits in 4 bytes… | [1–8 digits of the fraction]
//! ```
//!
//! Source: MySQL's `strings/decimal.cc`, `decimal2bin`.

use super::super::error::Malformed;

/// Most digits that a server has.
pub const MAX_PRECISION: u8 = 65;
/// Most digits after the point (MariaDB has 38, MySQL 30).
pub const MAX_SCALE: u8 = 38;

/// Bytes of a group of so many digits.
pub(super) const GROUP_BYTES: [u8; 10] = [0, 1, 1, 2, 2, 3, 3, 4, 4, 4];

/// Powers of ten.
const POWERS: [u32; 10] =
    [1, 10, 100, 1000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000, 1_000_000_000];

/// Bytes of a value; `None` if no server has such a column.
#[inline]
pub(in super::super) fn bytes(precision: u8, scale: u8) -> Option<usize> {
    if precision > MAX_PRECISION { None } else { computed_bytes(precision, scale) }
}

/// Most digits of a value that is in no column: nine words of nine, the integer part counted in whole words.
const MAX_COMPUTED: u8 = 81;

fn computed_bytes(precision: u8, scale: u8) -> Option<usize> {
    if precision == 0 || precision > MAX_COMPUTED || scale > precision || scale > MAX_SCALE {
        return None;
    }
    let part = |digits: u8| digits / 9 * 4 + GROUP_BYTES[usize::from(digits % 9)];
    Some(usize::from(part(precision - scale) + part(scale)))
}

/// A decimal as the server packed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decimal<'a> {
    raw: &'a [u8],
    precision: u8,
    scale: u8,
}

/// A decimal's digits in groups, most significant first.
struct Groups<'a> {
    raw: &'a [u8],
    /// All bits of a negative one.
    mask: u32,
    first: bool,
}

impl Groups<'_> {
    #[inline]
    fn next(&mut self, digits: u8) -> Result<u32, Malformed> {
        let len = usize::from(GROUP_BYTES[usize::from(digits.min(9))]);
        let (head, tail) = self.raw.split_at_checked(len).ok_or(Malformed::Ends("a decimal's digits"))?;
        self.raw = tail;
        // Below the bytes that are there, so that both masks come down with them.
        let high = match *head {
            [a, b, c, d] => [a, b, c, d],
            [a, b, c] => [a, b, c, 0],
            [a, b] => [a, b, 0, 0],
            [a] => [a, 0, 0, 0],
            _ => return Ok(0),
        };
        let sign = if std::mem::take(&mut self.first) { 0x8000_0000 } else { 0 };
        let n = (u32::from_be_bytes(high) ^ self.mask ^ sign) >> (32 - 8 * len);
        if n >= POWERS[usize::from(digits.min(9))] {
            return Err(Malformed::Invalid { expected: "at most nine decimal digits", found: u64::from(n) });
        }
        Ok(n)
    }
}

impl<'a> Decimal<'a> {
    pub(in super::super) fn new(raw: &'a [u8], precision: u8, scale: u8) -> Self {
        Self { raw, precision, scale }
    }

    /// Reads one as JSON's opaque members carry it: precision, scale, digits.
    pub(in super::super) fn tagged(raw: &'a [u8]) -> Result<Self, Malformed> {
        match *raw {
            [precision, scale, ref digits @ ..] if computed_bytes(precision, scale) == Some(digits.len()) => {
                Ok(Self::new(digits, precision, scale))
            }
            _ => Err(Malformed::Invalid { expected: "a packed decimal", found: raw.len() as u64 }),
        }
    }

    /// Digits in all.
    pub fn precision(&self) -> u8 {
        self.precision
    }

    /// Digits after the point.
    pub fn scale(&self) -> u8 {
        self.scale
    }

    /// The bytes as the server packed them.
    pub fn raw(&self) -> &'a [u8] {
        self.raw
    }

    /// Whether the sign bit says negative. There is no negative zero on the server.
    pub fn is_negative(&self) -> bool {
        self.raw.first().is_some_and(|b| b & 0x80 == 0)
    }

    fn groups(&self) -> Groups<'a> {
        Groups { raw: self.raw, mask: if self.is_negative() { u32::MAX } else { 0 }, first: true }
    }

    /// The value times ten to the scale. `None` beyond 38 digits.
    pub fn unscaled(&self) -> Result<Option<i128>, Malformed> {
        if self.precision > 38 {
            return Ok(None);
        }
        let mut groups = self.groups();
        let whole = self.precision - self.scale;
        let mut n = i128::from(groups.next(whole % 9)?);
        for _ in 0..whole / 9 + self.scale / 9 {
            n = n * 1_000_000_000 + i128::from(groups.next(9)?);
        }
        let rest = self.scale % 9;
        n = n * 10i128.pow(u32::from(rest)) + i128::from(groups.next(rest)?);
        Ok(Some(if self.is_negative() { -n } else { n }))
    }

    /// Appends the text as the server prints it: `-0.50`, the scale kept, no leading zeros.
    pub fn write(&self, out: &mut Vec<u8>) -> Result<(), Malformed> {
        let start = out.len();
        let written = self.write_groups(out);
        if written.is_err() {
            out.truncate(start);
        }
        written
    }

    #[inline]
    fn write_groups(&self, out: &mut Vec<u8>) -> Result<(), Malformed> {
        // Sign, 65 digits, point, and the leading zeros of the first group.
        let mut text = [0u8; 96];
        let mut at = 1;
        let mut groups = self.groups();
        let whole = self.precision - self.scale;
        at = digits(&mut text, at, groups.next(whole % 9)?, whole % 9);
        for _ in 0..whole / 9 {
            at = digits(&mut text, at, groups.next(9)?, 9);
        }
        let zeros = text[1..at].iter().take_while(|&&b| b == b'0').count();
        // One digit stands before the point.
        let mut from = 1 + zeros;
        if zeros == at - 1 {
            if at == 1 {
                text[at] = b'0';
                at += 1;
            } else {
                from -= 1;
            }
        }
        if self.scale > 0 {
            text[at] = b'.';
            at += 1;
            for _ in 0..self.scale / 9 {
                at = digits(&mut text, at, groups.next(9)?, 9);
            }
            at = digits(&mut text, at, groups.next(self.scale % 9)?, self.scale % 9);
        }
        if self.is_negative() {
            from -= 1;
            text[from] = b'-';
        }
        out.extend_from_slice(&text[from..at]);
        Ok(())
    }
}

/// Writes `n`, of at most `width` digits, with exactly so many at `at`; where the next one goes.
#[inline]
fn digits(text: &mut [u8; 96], at: usize, n: u32, width: u8) -> usize {
    let width = usize::from(width.min(9));
    // All nine, zeros behind: those are written over by what comes next.
    let n = n * POWERS[9 - width];
    if let Some([first, rest @ ..]) = text.get_mut(at..).and_then(|text| text.first_chunk_mut::<9>()) {
        *first = b'0' + (n / 100_000_000) as u8;
        *rest = eight(n % 100_000_000);
    }
    at + width
}

/// Eight digits, all at once: halves, quarters and single digits in the lanes of one register.
#[inline]
fn eight(n: u32) -> [u8; 8] {
    let halves = u64::from(n / 10_000) | u64::from(n % 10_000) << 32;
    // n * 10486 >> 20 is n / 100 below 10,000; n * 103 >> 10 is n / 10 below 100.
    let hundreds = (halves * 10_486) >> 20 & 0x7f_0000_007f;
    let quarters = hundreds | (halves - hundreds * 100) << 16;
    let tens = (quarters * 103) >> 10 & 0x000f_000f_000f_000f;
    let ones = tens | (quarters - tens * 10) << 8;
    (ones | 0x3030_3030_3030_3030).to_le_bytes()
}

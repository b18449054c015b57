//! A value of a COMPRESSED column of MariaDB.
//!
//! ```text
//! empty | 0x00, the value as it is | 0x80 | 8 if raw deflate, else zlib | n, n bytes inflated length big-endian, stream
//! ```
//!
//! Source: MariaDB's `sql/field_comp.cc`.

use super::super::bytes::be;
use super::super::error::{Malformed, Problem};
use super::super::inflate;

/// A compressed value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compressed<'a> {
    raw: &'a [u8],
}

impl<'a> Compressed<'a> {
    pub(super) fn new(raw: &'a [u8]) -> Self {
        Self { raw }
    }

    /// The bytes as they stand in the row.
    pub fn raw(&self) -> &'a [u8] {
        self.raw
    }

    /// The value. Inflates into `out`, which is cleared, unless it is stored as it is. Never makes
    /// more than `max` bytes.
    pub fn inflate<'b>(&self, out: &'b mut Vec<u8>, max: usize) -> Result<&'b [u8], Problem>
    where
        'a: 'b,
    {
        let Some((&head, rest)) = self.raw.split_first() else { return Ok(&[]) };
        let len_bytes = usize::from(head & 7);
        match head & 0xf0 {
            0x00 => return Ok(rest),
            0x80 if (1..=4).contains(&len_bytes) => {}
            _ => {
                let expected = "a compression method of a COMPRESSED column";
                return Err(Malformed::Invalid { expected, found: u64::from(head) }.into());
            }
        }
        let what = "the inflated length";
        let (len, stream) = rest.split_at_checked(len_bytes).ok_or(Malformed::Ends(what))?;
        inflate::all("a COMPRESSED column", stream, head & 8 == 0, be(len), max as u64, out)?;
        Ok(out)
    }
}

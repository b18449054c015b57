//! MySQL's binary JSON.
//!
//! ```text
//! doc       = type u8 | value
//! object    = count | size | (key offset, key length u16)… | (type u8, offset or inlined value)… | key… | value…
//! array     = count | size | (type u8, offset or inlined value)… | value…
//! string    = length, seven bits a byte, the least significant first | UTF-8
//! opaque    = column type u8 | length as a string's | bytes
//! ```
//!
//! Counts, sizes and offsets have two bytes in the small forms of object and array, four in the
//! large; offsets count from the container's beginning. Literals and integers that fit are inlined.
//! Source: MySQL's `sql-common/json_binary.h` and `json_binary.cc`.
//!
//! Nothing here trusts an offset: a walk may not visit more bytes than the document has, so that a
//! damaged one that refers to itself ends early.

mod diff;
mod node;
mod path;
#[cfg(test)]
mod tests;
mod text;
mod tree;

pub use diff::{Diff, DiffOp, JsonDiffs};
pub use node::{Members, Node};

use super::error::Malformed;

/// Levels that a server allows.
pub const MAX_DEPTH: usize = 100;

/// A document in binary form. Checked while it is walked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Json<'a> {
    raw: &'a [u8],
}

impl<'a> Json<'a> {
    /// A document from the bytes of its column, without their length.
    pub fn new(raw: &'a [u8]) -> Self {
        Self { raw }
    }

    /// The bytes.
    pub fn raw(&self) -> &'a [u8] {
        self.raw
    }

    /// The top of the document. A column of no bytes (an `INSERT IGNORE` of nothing) reads as `null`.
    pub fn root(&self) -> Result<Node<'a>, Malformed> {
        match self.raw.split_first() {
            Some((&ty, value)) => Node::read(ty, value),
            None => Ok(Node::Null),
        }
    }

    /// Appends the document's text as the server prints it: `{"a": 1, "b": [true, null]}`. On an
    /// error the buffer is as it was.
    pub fn write(&self, out: &mut Vec<u8>) -> Result<(), Malformed> {
        let start = out.len();
        let written = self.root().and_then(|root| text::Writer::new(self.raw.len()).node(&root, out, 0));
        if written.is_err() {
            out.truncate(start);
        }
        written
    }

    /// Appends the text of this document with `diffs` applied: the after image of a partial update.
    /// On an error the buffer is as it was.
    pub fn write_patched(&self, diffs: &JsonDiffs<'_>, out: &mut Vec<u8>) -> Result<(), Malformed> {
        let start = out.len();
        let written = tree::patched(self, diffs, out);
        if written.is_err() {
            out.truncate(start);
        }
        written
    }
}

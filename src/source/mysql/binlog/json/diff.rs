//! What an update changed in a document, as PARTIAL_UPDATE_ROWS carries it.
//!
//! ```text
//! length u32 | (operation u8 | path length packed, path | [value length packed, document])…
//! ```
//!
//! Source: MySQL's `sql/json_diff.cc`, `Json_diff_vector::read_binary`.

use super::super::bytes::Bytes;
use super::super::error::Malformed;
use super::Json;

/// What is done at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiffOp {
    /// The value there becomes another.
    Replace,
    /// A member is added, or an element before the one there.
    Insert,
    /// The value there goes.
    Remove,
}

impl DiffOp {
    /// The word that dts JSON has for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Replace => "replace",
            Self::Insert => "insert",
            Self::Remove => "remove",
        }
    }
}

/// One change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Diff<'a> {
    /// What.
    pub op: DiffOp,
    /// Where: `$.a[0]."b c"`.
    pub path: &'a [u8],
    /// The new value; `None` for a removal.
    pub value: Option<Json<'a>>,
}

/// All changes of a document, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JsonDiffs<'a> {
    raw: &'a [u8],
}

impl<'a> JsonDiffs<'a> {
    /// From the bytes behind the length.
    pub fn new(raw: &'a [u8]) -> Self {
        Self { raw }
    }

    /// The bytes.
    pub fn raw(&self) -> &'a [u8] {
        self.raw
    }

    /// The changes. Ends after the first error.
    pub fn iter(&self) -> impl Iterator<Item = Result<Diff<'a>, Malformed>> + use<'a> {
        let mut b = Bytes(self.raw);
        std::iter::from_fn(move || {
            if b.is_empty() {
                return None;
            }
            let diff = Diff::take(&mut b);
            if diff.is_err() {
                b = Bytes(&[]);
            }
            Some(diff)
        })
    }
}

impl<'a> Diff<'a> {
    fn take(b: &mut Bytes<'a>) -> Result<Self, Malformed> {
        let op = match b.u8("a JSON difference's operation")? {
            0 => DiffOp::Replace,
            1 => DiffOp::Insert,
            2 => DiffOp::Remove,
            n => {
                let expected = "replace, insert or remove";
                return Err(Malformed::Invalid { expected, found: u64::from(n) });
            }
        };
        let len = b.packed_len("a JSON path's length")?;
        let path = b.take(len, "a JSON path")?;
        let value = match op {
            DiffOp::Remove => None,
            _ => {
                let len = b.packed_len("a JSON value's length")?;
                Some(Json::new(b.take(len, "a JSON value")?))
            }
        };
        Ok(Self { op, path, value })
    }
}

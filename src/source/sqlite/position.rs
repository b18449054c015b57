//! Where the input goes on after a restart. Travels with each batch, so what is stored and how far
//! dts has come are one.

use rusqlite::types::{ToSql, ToSqlOutput, ValueRef};
use serde::{Deserialize, Serialize};

/// Key of the position in a batch.
pub(super) const KEY: &str = "sqlite";

/// A key value, owned. Text may be no UTF-8.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum KeyValue {
    Null,
    Int(i64),
    Real(f64),
    Text(Vec<u8>),
    Blob(Vec<u8>),
}

impl KeyValue {
    pub(super) fn of(value: ValueRef<'_>) -> Self {
        match value {
            ValueRef::Null => Self::Null,
            ValueRef::Integer(n) => Self::Int(n),
            ValueRef::Real(n) => Self::Real(n),
            ValueRef::Text(t) => Self::Text(t.to_vec()),
            ValueRef::Blob(b) => Self::Blob(b.to_vec()),
        }
    }
}

impl ToSql for KeyValue {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Null => ValueRef::Null,
            Self::Int(n) => ValueRef::Integer(*n),
            Self::Real(n) => ValueRef::Real(*n),
            Self::Text(t) => ValueRef::Text(t),
            Self::Blob(b) => ValueRef::Blob(b),
        }))
    }
}

/// A captured row that was read: its number, and the random number in it, by which a database that
/// was restored from a copy or lost its last commits is told from the one that dts knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Cursor {
    pub(super) id: i64,
    pub(super) nonce: i64,
}

/// A table that is being read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Running {
    pub(super) table: i64,
    /// What of `_dts_table.gen` is being read.
    pub(super) reading: u32,
    /// Key of the last row read; empty before the first.
    pub(super) after: Vec<KeyValue>,
}

/// How far dts has come in one database.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Position {
    /// `_dts_meta.install` of that database.
    pub(super) install: i64,
    pub(super) cursor: Cursor,
    /// Tables that were read to their end: number and `_dts_table.gen`, by number.
    pub(super) done: Vec<(i64, u32)>,
    pub(super) running: Option<Running>,
}

impl Position {
    /// A version byte and postcard.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = vec![1];
        // Writing to a Vec of such a type cannot fail.
        out.extend(postcard::to_allocvec(self).unwrap_or_default());
        out
    }

    /// `None` if the bytes are no position that this dts knows: then all tables are read anew.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        match bytes.split_first() {
            Some((1, rest)) => postcard::from_bytes(rest).ok(),
            _ => None,
        }
    }

    /// What was last read of table number `table` to its end; 0 for nothing.
    pub(super) fn done_of(&self, table: i64) -> u32 {
        self.done.iter().find(|(t, _)| *t == table).map_or(0, |(_, gen_)| *gen_)
    }

    /// Notes that `table` was read to its end.
    pub(super) fn finish(&mut self, table: i64, reading: u32) {
        self.done.retain(|(t, _)| *t != table);
        self.done.push((table, reading));
        self.done.sort_unstable();
        self.running = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_comes_back() {
        let mut position = Position { install: -7, ..Position::default() };
        position.finish(3, 9);
        position.finish(1, u32::MAX);
        position.finish(3, 10);
        position.running = Some(Running {
            table: 2,
            reading: 5,
            after: vec![KeyValue::Text(vec![0xff]), KeyValue::Real(0.5), KeyValue::Null],
        });
        assert_eq!(position.done, [(1, u32::MAX), (3, 10)]);
        assert_eq!(Position::decode(&position.encode()), Some(position));
        assert_eq!(Position::decode(b""), None);
        assert_eq!(Position::decode(b"\x02abc"), None);
    }
}

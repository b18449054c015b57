//! The shape of a row. Shared by `Arc`, never repeated in a row.

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::value::Type;

/// What a table is to the reader of its rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum TableKind {
    /// Rows of a table at the source.
    Table,
    /// Events without a row: HTTP, MQTT, file, exec, stdin. See [`super::builtin::message`].
    Message,
    /// What a device had to give up. See [`super::builtin::loss`].
    Loss,
    /// A statement that changed a schema. See [`super::builtin::ddl`].
    Ddl,
}

/// One column, in the order of the source's table.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Column {
    /// Name as the source spells it.
    pub name: Box<str>,
    /// How its values are encoded.
    pub ty: Type,
    /// Place in the primary key, from 0; `None` if it is no part of it.
    pub key: Option<u16>,
    /// The type as declared at the source (`VARCHAR(20) COLLATE NOCASE`); empty if unknown.
    pub declared: Box<str>,
    /// Labels of an `Enum` or `Set`.
    pub labels: Vec<Box<str>>,
}

/// One version of one table's shape.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Table {
    /// What its rows are.
    pub kind: TableKind,
    /// Database (SQLite: the config's name of the source).
    pub db: Box<str>,
    /// Table name as the source spells it.
    pub name: Box<str>,
    /// Version of the schema as the source counts it; grows with each change of the shape.
    pub version: u32,
    /// The columns, in order.
    pub columns: Vec<Column>,
}

/// What [`super::RowWriter`] wants to know of a table, and what it costs to find out at each row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableKey {
    /// [`Table::key_columns`].
    pub columns: Box<[usize]>,
    /// [`Table::name_hash`].
    pub seed: u64,
}

impl From<&Table> for TableKey {
    fn from(table: &Table) -> Self {
        Self { columns: table.key_columns().into(), seed: table.name_hash() }
    }
}

impl Column {
    /// A column that is no part of the key.
    pub fn new(name: &str, ty: Type) -> Self {
        Self { name: name.into(), ty, key: None, declared: "".into(), labels: Vec::new() }
    }
}

impl Table {
    /// Indexes of the primary-key columns, in key order. Empty for a table without a key.
    pub fn key_columns(&self) -> Vec<usize> {
        let mut key: Vec<(u16, usize)> =
            self.columns.iter().enumerate().filter_map(|(i, c)| c.key.map(|k| (k, i))).collect();
        key.sort_unstable();
        key.into_iter().map(|(_, i)| i).collect()
    }

    /// The stored form: postcard. Two tables are equal exactly if their bytes are.
    pub fn encode(&self) -> Vec<u8> {
        // Writing to a Vec cannot fail: the type has no maps, no unsized sequences.
        postcard::to_allocvec(self).unwrap_or_default()
    }

    /// Reads [`Self::encode`]'s bytes. `None` if they are not exactly one table.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        match postcard::take_from_bytes::<Self>(bytes) {
            Ok((table, [])) => Some(table),
            _ => None,
        }
    }

    /// Names this shape in stored batches and on the wire: xxh3-64 of [`Self::encode`].
    pub fn hash(&self) -> u64 {
        xxh3_64(&self.encode())
    }

    /// Hash of `db` and `name`: the key hash of a table without a key, and the seed of one with.
    pub fn name_hash(&self) -> u64 {
        let mut name = Vec::with_capacity(self.db.len() + self.name.len() + 1);
        name.extend_from_slice(self.db.as_bytes());
        name.push(0);
        name.extend_from_slice(self.name.as_bytes());
        xxh3_64(&name)
    }
}

//! Which rows of a chunk the stream has overtaken. No IO, no clock.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::Arc;

use crate::event::{Batch, ImageView, Op, RowError, RowView, Table, TableKind, Value};

/// A place in a server's binlog.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// The file.
    pub file: Arc<str>,
    /// Offset in it.
    pub pos: u64,
}

impl Ord for Position {
    /// The files' numbers grow, and get longer when they must.
    fn cmp(&self, other: &Self) -> Ordering {
        let key = |p: &Self| (p.file.len(), p.file.clone(), p.pos);
        key(self).cmp(&key(other))
    }
}

impl PartialOrd for Position {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Why a chunk must be read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Spoiled {
    /// A statement changed the table.
    #[error("a statement changed the table")]
    Ddl,
    /// More keys came in the stream than are kept.
    #[error("too many rows of it changed meanwhile")]
    TooMany,
    /// Rows came without their key, or not whole: what the chunk has of them cannot be left out.
    #[error("changes came without all columns (binlog_row_image)")]
    Partial,
    /// The stream was lost and found again.
    #[error("the stream was connected anew")]
    Reconnected,
    /// Queries do not see yet what the stream gave.
    #[error("the server does not show yet what it has logged")]
    NotShown,
    /// Another chunk was asked for.
    #[error("the window was opened anew")]
    Replaced,
}

/// Keys that a window keeps, and bytes of them.
const MAX_KEYS: usize = 100_000;
const MAX_BYTES: usize = 16 << 20;

/// Open from before a chunk is asked for until its rows are handed on.
#[derive(Debug)]
pub struct Window {
    db: Box<str>,
    table: Box<str>,
    /// Keys of both images of every row that the stream gave, by their hash.
    keys: HashMap<u64, Vec<Box<[u8]>>>,
    count: usize,
    bytes: usize,
    spoiled: Option<Spoiled>,
}

impl Window {
    /// For a chunk of this table.
    pub fn open(db: &str, table: &str) -> Self {
        Self { db: db.into(), table: table.into(), keys: HashMap::new(), count: 0, bytes: 0, spoiled: None }
    }

    /// What the stream hands on, in its order.
    pub fn batch(&mut self, batch: &Batch) {
        let ours = |table: &Arc<Table>| {
            table.kind == TableKind::Ddl || (table.db == self.db && table.name == self.table)
        };
        if self.spoiled.is_some() || !batch.tables.iter().any(ours) {
            return;
        }
        for row in batch {
            let taken = match row {
                Ok(row) => self.row(&row),
                Err(error) => Err(error),
            };
            if taken.is_err() {
                // Cannot be: the batch was made here.
                self.spoil(Spoiled::Partial);
            }
        }
    }

    fn row(&mut self, row: &RowView<'_>) -> Result<(), RowError> {
        if row.op() == Op::Ddl {
            if self.is_named(row)? {
                self.spoil(Spoiled::Ddl);
            }
            return Ok(());
        }
        let table = row.table();
        if table.db != self.db || table.name != self.table || self.spoiled.is_some() {
            return Ok(());
        }
        let (before, after) = row.images()?;
        // What is left out of the chunk must have come whole.
        if after.is_some_and(|after| after.is_partial()) {
            self.spoil(Spoiled::Partial);
            return Ok(());
        }
        for (image, hash) in [(before, row.before_hash()), (after, row.after_hash())] {
            let (Some(image), Some(hash)) = (image, hash) else { continue };
            let Some(key) = key_of(&image) else {
                self.spoil(Spoiled::Partial);
                return Ok(());
            };
            let known = self.keys.entry(hash).or_default();
            if !known.contains(&key) {
                self.bytes += key.len() + 64;
                self.count += 1;
                known.push(key);
            }
        }
        if self.count > MAX_KEYS || self.bytes > MAX_BYTES {
            self.spoil(Spoiled::TooMany);
        }
        Ok(())
    }

    /// Whether a statement names the table.
    fn is_named(&self, row: &RowView<'_>) -> Result<bool, RowError> {
        let Some(image) = row.newest()? else { return Ok(true) };
        let Some(Value::Text(tables)) = image.get(1) else { return Ok(true) };
        let Ok(tables) = serde_json::from_str::<Vec<[String; 2]>>(tables) else { return Ok(true) };
        let same = |a: &str, b: &str| a.eq_ignore_ascii_case(b);
        Ok(tables.is_empty()
            || tables.iter().any(|[db, table]| same(db, &self.db) && same(table, &self.table)))
    }

    /// The chunk must be read again.
    pub fn spoil(&mut self, why: Spoiled) {
        self.spoiled.get_or_insert(why);
        self.keys = HashMap::new();
    }

    /// Why the chunk must be read again, if it must.
    pub fn spoiled(&self) -> Option<Spoiled> {
        self.spoiled
    }

    /// Whether the stream gave nothing of the table.
    pub fn is_untouched(&self) -> bool {
        self.keys.is_empty() && self.spoiled.is_none()
    }

    /// Whether the chunk's row is as new as what the stream gave.
    pub fn keeps(&self, row: &RowView<'_>) -> Result<bool, RowError> {
        let Some(known) = row.after_hash().and_then(|hash| self.keys.get(&hash)) else { return Ok(true) };
        let Some(image) = row.newest()? else { return Ok(true) };
        // Two keys may have one hash.
        Ok(key_of(&image).is_some_and(|key| !known.contains(&key)))
    }
}

/// The key's columns as their types encode them. `None` without a key, or if a part of it is missing.
fn key_of(image: &ImageView<'_>) -> Option<Box<[u8]>> {
    let columns = image.table().key_columns();
    let mut bytes = Vec::new();
    for &column in &columns {
        let ty = image.table().columns.get(column)?.ty;
        match image.get(column)? {
            Value::Null => bytes.push(0),
            value => {
                bytes.push(1);
                ty.encode(value, &mut bytes).ok()?;
            }
        }
    }
    (!columns.is_empty()).then(|| bytes.into())
}

#[cfg(test)]
#[path = "window_tests.rs"]
mod tests;

//! The newest row of each key: which rows of a run that leaves, and what they carry.
//!
//! | oldest row of the key in the run | newest | stays |
//! |---|---|---|
//! | had a before image | update, insert | update: oldest before, newest after |
//! | insert or snapshot | update | insert or snapshot of the newest after |
//! | any | delete | delete, with the oldest before image if there is one |
//! | any | snapshot, message | the newest as it is |
//!
//! A row without a key, or with a NULL in it, stays. An update that changes the key, and one with
//! columns missing, stays too and ends what can be joined for its keys; a truncate or DDL does so for
//! all keys.

use std::collections::{HashMap, HashSet};

use super::reduce::Reducer;
use crate::event::{Image, ImageView, Op, RowError, RowHead, RowView, RowWriter, Value};

/// Most keys of a run.
const KEYS: usize = 4096;
/// Most bytes of keys and before images of a run.
const BYTES: usize = 256 << 10;

/// A table's hash and the encoded values of a row's key.
type Key = (u64, Vec<u8>);

/// What is known of a key.
#[derive(Debug)]
struct Entry {
    newest: u64,
    oldest: Oldest,
    joined: bool,
}

/// What the newest row takes from the oldest.
#[derive(Clone, Debug)]
struct Oldest {
    op: Op,
    /// Its record, if it has a before image.
    record: Option<Vec<u8>>,
}

#[derive(Debug, Default)]
pub(super) struct Compactor {
    keys: HashMap<Key, Entry>,
    bytes: usize,
    dropped: HashSet<u64>,
    replaced: HashMap<u64, Oldest>,
}

impl Reducer for Compactor {
    fn observe(&mut self, seq: u64, row: &RowView<'_>) -> Result<bool, RowError> {
        let (before, after) = row.images()?;
        let Some(newest) = after.or(before) else {
            self.end_all();
            return Ok(true);
        };
        if matches!(row.op(), Op::Ddl | Op::Truncate) {
            self.end_all();
            return Ok(true);
        }
        if row.table().key_columns().is_empty() {
            return Ok(true);
        }
        let partial = before.is_some_and(|i| i.is_partial()) || after.is_some_and(|i| i.is_partial());
        if partial || row.key_changed() {
            for image in [before, after].into_iter().flatten() {
                match key_of(row, &image) {
                    Ok(Some(key)) => self.end(&key),
                    Ok(None) => {}
                    // Its key is not known: it may be any.
                    Err(Missing) => self.end_all(),
                }
            }
            return Ok(true);
        }
        let Ok(Some(key)) = key_of(row, &newest) else { return Ok(true) };
        match self.keys.get_mut(&key) {
            Some(entry) => {
                self.dropped.insert(entry.newest);
                entry.newest = seq;
                entry.joined = true;
            }
            None => {
                let record = before.is_some().then(|| record_of(row));
                self.bytes += key.1.len() + record.as_ref().map_or(0, Vec::len) + 96;
                let oldest = Oldest { op: row.op(), record };
                self.keys.insert(key, Entry { newest: seq, oldest, joined: false });
            }
        }
        Ok(self.keys.len() < KEYS && self.bytes < BYTES)
    }

    fn finish(&mut self) {
        self.end_all();
    }

    fn drops(&self, seq: u64) -> bool {
        self.dropped.contains(&seq)
    }

    fn replaces(&self, seq: u64, row: &RowView<'_>) -> Result<Option<Vec<u8>>, RowError> {
        let Some(oldest) = self.replaced.get(&seq) else { return Ok(None) };
        let (before, after) = row.images()?;
        // Written by `record_of`: its only table is the row's.
        let tables = [row.table().clone()];
        let first = match &oldest.record {
            Some(record) => RowView::take(&mut &record[..], &tables)?.images()?.0,
            None => None,
        };
        let op = match (row.op(), &first) {
            (Op::Delete, _) => Op::Delete,
            (Op::Insert | Op::Update, Some(_)) => Op::Update,
            (Op::Update, None) if oldest.op == Op::Snapshot => Op::Snapshot,
            (Op::Update, None) => Op::Insert,
            _ => return Ok(None),
        };
        let before = first.or_else(|| before.filter(|_| op == Op::Delete));
        let (before, after) = (before.map(values), after.map(values));
        let mut out = Vec::new();
        let head = RowHead { op, ..row.head() };
        RowWriter::write(
            &mut out,
            head,
            row.table(),
            before.as_deref().map(Image::full),
            after.as_deref().map(Image::full),
        )?;
        Ok(Some(out))
    }

    fn reason(&self) -> &'static str {
        "compact"
    }
}

impl Compactor {
    /// Rows of this key that follow are joined among themselves only.
    fn end(&mut self, key: &Key) {
        if let Some(entry) = self.keys.remove(key) {
            self.close(entry);
        }
    }

    fn end_all(&mut self) {
        for (_, entry) in std::mem::take(&mut self.keys) {
            self.close(entry);
        }
    }

    fn close(&mut self, entry: Entry) {
        if entry.joined {
            self.replaced.insert(entry.newest, entry.oldest);
        }
    }
}

/// The image lacks a column of the key.
struct Missing;

/// The key of an image; `None` if a part of it is NULL.
fn key_of(row: &RowView<'_>, image: &ImageView<'_>) -> Result<Option<Key>, Missing> {
    let table = row.table();
    let mut bytes = Vec::with_capacity(24);
    for column in table.key_columns() {
        let Some(ty) = table.columns.get(column).map(|c| c.ty) else { return Err(Missing) };
        match image.get(column) {
            None => return Err(Missing),
            Some(Value::Null) => return Ok(None),
            Some(value) => {
                if ty.encode(value, &mut bytes).is_err() {
                    return Ok(None);
                }
            }
        }
    }
    Ok(Some((table.hash(), bytes)))
}

/// A copy of the row with its table as the only one.
fn record_of(row: &RowView<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    RowWriter::copy(&mut out, row, 0, row.head().ordinal);
    out
}

fn values(image: ImageView<'_>) -> Vec<Value<'_>> {
    image.iter().map(|(_, value)| value).collect()
}

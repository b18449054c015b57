//! Applies changes to mirrored tables: look up, compare versions, write.
//!
//! A row's version is (epoch, seq) of the change that wrote it, the epoch compared by number, then
//! by all its bits. Versions of two devices are not comparable: where they share rows
//! (`device_column: false`) the later arrival wins. Changes without a version (sources of this process) always apply.
//!
//! A row with a whole key is found by it. All other rows (table without key, NULL in a key) are a bag: a delete takes one row that
//! equals the whole before image, an update replaces one.

use std::collections::HashMap;

use rusqlite::Connection;
use rusqlite::types::ValueRef;

use super::error::ApplyError;
use super::graves::{Graves, WHOLE_TABLE};
use super::layout::Options;
use super::shape::Shape;
use super::value::{bind, key_bytes, row_hash, stored};
use crate::event::{ImageView, Op, RowView, Value};

/// Shapes kept bound. Each has six prepared statements.
const MAX_SHAPES: usize = 256;

/// A row's version; ordered as CORE's `(epoch, seq)` as long as the epoch's top bit is clear, which
/// is checked where a batch comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Version {
    pub(super) epoch: i64,
    pub(super) seq: i64,
}

/// Who made a change, and when.
#[derive(Clone, Copy, Debug)]
pub(super) struct At<'a> {
    /// Empty for sources without one.
    pub(super) device: &'a str,
    /// `None` applies always.
    pub(super) version: Option<Version>,
    /// A mark of this write covers it.
    pub(super) marked: bool,
}

impl At<'_> {
    fn stamp(&self) -> Version {
        self.version.unwrap_or(Version { epoch: 0, seq: 0 })
    }

    /// Whether a row of `device` at `stored` stays as it is.
    fn is_older_than(&self, device: &str, stored: Version) -> bool {
        device == self.device && self.version.is_some_and(|v| v < stored)
    }
}

/// An image, taken apart: a place per column, `None` where the image lacks it.
pub(super) type Values<'b> = Vec<Option<Value<'b>>>;

/// Room for the images of one row, kept for a batch.
#[derive(Debug, Default)]
pub(super) struct Room<'b> {
    before: Values<'b>,
    after: Values<'b>,
}

/// A row found by its key.
struct Found {
    row: i64,
    older: bool,
    version: Version,
}

/// The mirrored tables of a file.
pub(super) struct Mirror<'c> {
    conn: &'c Connection,
    options: &'c Options,
    shapes: HashMap<u64, Shape<'c>>,
    pub(super) graves: Graves,
    scratch: Vec<u8>,
}

impl<'c> Mirror<'c> {
    pub(super) fn new(conn: &'c Connection, options: &'c Options) -> rusqlite::Result<Self> {
        let graves = Graves::new(conn, options.max_tombstones)?;
        Ok(Self { conn, options, shapes: HashMap::new(), graves, scratch: Vec::new() })
    }

    /// Forgets what was read of the file: it was rolled back, or changed by somebody else.
    pub(super) fn forget(&mut self) -> rusqlite::Result<()> {
        self.shapes.clear();
        self.graves = Graves::new(self.conn, self.options.max_tombstones)?;
        Ok(())
    }

    /// Makes sure that the shape of `row`, whose table has `hash`, is bound.
    pub(super) fn prepare(&mut self, row: &RowView<'_>, hash: u64) -> Result<(), ApplyError> {
        if self.shapes.get(&hash).is_some_and(|shape| shape.table == *row.table()) {
            return Ok(());
        }
        if self.shapes.len() >= MAX_SHAPES {
            self.shapes.clear();
        }
        let (shape, changed) = Shape::bind(self.conn, self.options, row.table())?;
        if changed {
            // What they know of columns may be out of date.
            self.shapes.clear();
        }
        self.shapes.insert(hash, shape);
        Ok(())
    }

    /// Applies one row, whose shape was prepared under `hash`. `false` if newer changes stand there.
    pub(super) fn apply<'b>(
        &mut self,
        row: &RowView<'b>,
        hash: u64,
        at: At<'_>,
        room: &mut Room<'b>,
    ) -> Result<bool, ApplyError> {
        let Some(shape) = self.shapes.get_mut(&hash) else {
            return Err(ApplyError::Reject("its table is not bound".to_owned()));
        };
        let (before, after) = row.images().map_err(|e| ApplyError::Reject(e.to_string()))?;
        fill(&mut room.before, before, shape.columns.len());
        fill(&mut room.after, after, shape.columns.len());
        let mut hand =
            Hand { conn: self.conn, shape, graves: &mut self.graves, scratch: &mut self.scratch, at };
        let whole = after.is_some_and(|a| !a.is_partial());
        match (row.op(), before.is_some(), after.is_some()) {
            (Op::Truncate, ..) => hand.truncate(),
            (_, true, false) => hand.remove(&room.before),
            (_, false, true) => hand.put(&room.after, whole),
            (_, true, true) => {
                // What a partial image lacks did not change: the key above all.
                for &k in &hand.shape.key {
                    let old = room.before.get(k).copied().flatten();
                    if let Some(new) = room.after.get_mut(k) {
                        *new = new.or(old);
                    }
                }
                hand.replace(&room.before, &room.after, whole)
            }
            (op, false, false) => Err(ApplyError::Reject(format!("{} without an image", op.as_str()))),
        }
    }
}

fn fill<'b>(values: &mut Values<'b>, image: Option<ImageView<'b>>, columns: usize) {
    values.clear();
    values.resize(columns, None);
    for (i, value) in image.iter().flatten() {
        if let Some(place) = values.get_mut(i) {
            *place = Some(value);
        }
    }
}

/// Everything needed to write one row.
struct Hand<'h, 'c> {
    conn: &'h Connection,
    shape: &'h mut Shape<'c>,
    graves: &'h mut Graves,
    scratch: &'h mut Vec<u8>,
    at: At<'h>,
}

impl Hand<'_, '_> {
    /// A row as it now is: inserted, or read by a snapshot, or updated without a before image.
    fn put(&mut self, after: &Values<'_>, whole: bool) -> Result<bool, ApplyError> {
        if !self.is_keyed(after) {
            return self.insert(after, true).map(|()| true);
        }
        if self.graves.any()
            && let Some(key) = self.key(after)
            && self.buried(&key)?
        {
            return Ok(false);
        }
        match self.find(after)? {
            Some(found) if !found.older => Ok(false),
            Some(found) => self.update(found.row, after, whole, false).map(|()| true),
            None => self.insert(after, false).map(|()| true),
        }
    }

    /// A row with its images before and after.
    fn replace(&mut self, before: &Values<'_>, after: &Values<'_>, whole: bool) -> Result<bool, ApplyError> {
        let (old, new) = (self.key(before), self.key(after));
        match (&old, &new) {
            // The before image may lack the key (none sent): then the after image names the row.
            (_, Some(_)) if old == new || self.lacks_key(before) => self.put(after, whole),
            (Some(old), Some(new)) => {
                let moved = self.find(before)?;
                let moved = moved.filter(|row| row.older);
                self.dig(old)?;
                let buried = self.buried(new)?;
                match (moved, self.find(after)?) {
                    (moved, there) if buried || there.as_ref().is_some_and(|row| !row.older) => {
                        moved.map_or(Ok(()), |row| self.delete(row.row))?;
                        return Ok(false);
                    }
                    // In place, so that what a partial image lacks is kept.
                    (Some(moved), there) => {
                        there.map_or(Ok(()), |row| self.delete(row.row))?;
                        self.update(moved.row, after, whole, false)?;
                    }
                    (None, Some(there)) => self.update(there.row, after, whole, false)?,
                    (None, None) => self.insert(after, false)?,
                }
                Ok(true)
            }
            (Some(_), None) => {
                self.remove(before)?;
                self.insert(after, true).map(|()| true)
            }
            (None, _) => match self.find_whole(before)? {
                Some(row) if new.is_none() => self.update(row, after, whole, true).map(|()| true),
                found => {
                    if let Some(row) = found {
                        self.delete(row)?;
                    }
                    self.put(after, whole)
                }
            },
        }
    }

    /// A row that is gone.
    fn remove(&mut self, before: &Values<'_>) -> Result<bool, ApplyError> {
        let Some(key) = self.key(before) else {
            let found = self.find_whole(before)?;
            if let Some(row) = found {
                self.delete(row)?;
            }
            return Ok(found.is_some());
        };
        let found = self.find(before)?;
        if found.as_ref().is_some_and(|f| !f.older) {
            return Ok(false);
        }
        self.dig(&key)?;
        if let Some(found) = found {
            self.delete(found.row)?;
        }
        Ok(true)
    }

    /// All older rows of the device are void.
    fn truncate(&mut self) -> Result<bool, ApplyError> {
        let up_to = self.at.version.unwrap_or(Version { epoch: i64::MAX, seq: i64::MAX });
        let statement = &mut self.shape.truncate;
        bind(statement, 1, ValueRef::Text(self.at.device.as_bytes()))?;
        bind(statement, 2, ValueRef::Integer(up_to.epoch))?;
        bind(statement, 3, ValueRef::Integer(up_to.seq))?;
        statement.raw_execute()?;
        self.dig(WHOLE_TABLE)?;
        Ok(true)
    }

    fn buried(&mut self, key: &[u8]) -> Result<bool, ApplyError> {
        match self.at.version {
            Some(version) => {
                Ok(self.graves.covers(self.conn, (self.shape.id, self.at.device, key), version)?)
            }
            None => Ok(false),
        }
    }

    fn dig(&mut self, key: &[u8]) -> Result<(), ApplyError> {
        match self.at.version {
            Some(version) if !self.at.marked => {
                Ok(self.graves.dig(self.conn, (self.shape.id, self.at.device, key), version)?)
            }
            _ => Ok(()),
        }
    }

    /// Bytes of the row's key. `None` if it has none: no key columns, a NULL, or not in the image.
    fn key(&mut self, values: &Values<'_>) -> Option<Vec<u8>> {
        let mut key = Vec::with_capacity(8 + 17 * self.shape.key.len());
        for &i in &self.shape.key {
            let (column, value) = (self.shape.table.columns.get(i)?, (*values.get(i)?)?);
            if value == Value::Null {
                return None;
            }
            key.extend_from_slice(&xxhash_rust::xxh3::xxh3_64(column.name.as_bytes()).to_be_bytes());
            key_bytes(stored(column, value, self.scratch), &mut key);
        }
        (!key.is_empty()).then_some(key)
    }

    /// Whether the row has a whole key.
    fn is_keyed(&self, values: &Values<'_>) -> bool {
        let held = |&i: &usize| matches!(values.get(i), Some(Some(value)) if *value != Value::Null);
        !self.shape.key.is_empty() && self.shape.key.iter().all(held)
    }

    /// Whether the image says nothing of the key.
    fn lacks_key(&self, values: &Values<'_>) -> bool {
        self.shape.key.iter().all(|&i| values.get(i).is_none_or(Option::is_none))
    }

    /// The newest row with this key. Rows under the same key that are older are remains of a key that the table had
    /// before; they go.
    fn find(&mut self, values: &Values<'_>) -> Result<Option<Found>, ApplyError> {
        let Shape { find: Some(find), key, table, .. } = &mut *self.shape else { return Ok(None) };
        for (n, &i) in (1..).zip(key.iter()) {
            if let (Some(column), Some(&Some(value))) = (table.columns.get(i), values.get(i)) {
                bind(find, n, stored(column, value, self.scratch))?;
            }
        }
        if find.parameter_count() > key.len() {
            bind(find, key.len() + 1, ValueRef::Text(self.at.device.as_bytes()))?;
        }
        let mut newest: Option<Found> = None;
        let mut void = Vec::new();
        let mut rows = find.raw_query();
        while let Some(row) = rows.next()? {
            let version = Version { epoch: row.get(2)?, seq: row.get(3)? };
            let device = row.get_ref(1)?.as_str().unwrap_or_default();
            let found = Found { row: row.get(0)?, older: !self.at.is_older_than(device, version), version };
            match &newest {
                Some(other) if other.version > found.version => void.push(found),
                _ => void.extend(newest.replace(found)),
            }
        }
        drop(rows);
        for found in void.iter().filter(|f| f.older) {
            self.delete(found.row)?;
        }
        Ok(newest)
    }

    /// One row of the bag that equals the image: by hash, else (an image that lacks columns, a table that changed)
    /// by looking at all of them.
    fn find_whole(&mut self, values: &Values<'_>) -> Result<Option<i64>, ApplyError> {
        let whole = values.iter().all(Option::is_some);
        if whole {
            let hash = self.hash(values);
            let statement = &mut self.shape.find_whole;
            bind(statement, 1, ValueRef::Text(self.at.device.as_bytes()))?;
            bind(statement, 2, ValueRef::Integer(hash))?;
            for ((n, column), value) in (3..).zip(&self.shape.table.columns).zip(values) {
                bind(statement, n, stored(column, value.unwrap_or(Value::Null), self.scratch))?;
            }
            if let Some(row) = statement.raw_query().next()? {
                return Ok(Some(row.get(0)?));
            }
        }
        let held: Vec<usize> =
            (0..values.len()).filter(|&i| values.get(i).is_some_and(Option::is_some)).collect();
        let names: Vec<&str> =
            held.iter().filter_map(|&i| self.shape.columns.get(i)).map(String::as_str).collect();
        if names.is_empty() {
            return Ok(None);
        }
        let params: Vec<String> = (2..).zip(&names).map(|(n, _)| format!("?{n}")).collect();
        let (names, params) = match names.as_slice() {
            [one] => ((*one).to_owned(), params.concat()),
            _ => (format!("({})", names.join(", ")), format!("({})", params.join(", "))),
        };
        let mut scan = self.conn.prepare_cached(&format!(
            "SELECT _dts_row FROM {} WHERE _dts_device=?1 AND _dts_hash IS NOT NULL AND {names} IS {params} \
             ORDER BY _dts_row LIMIT 1",
            self.shape.mirror
        ))?;
        bind(&mut scan, 1, ValueRef::Text(self.at.device.as_bytes()))?;
        for (n, &i) in (2..).zip(&held) {
            if let (Some(column), Some(&Some(value))) = (self.shape.table.columns.get(i), values.get(i)) {
                bind(&mut scan, n, stored(column, value, self.scratch))?;
            }
        }
        let row = scan.raw_query().next()?.map(|row| row.get(0)).transpose()?;
        Ok(row)
    }

    fn hash(&mut self, values: &Values<'_>) -> i64 {
        let mut sum = 0u64;
        for (column, value) in self.shape.table.columns.iter().zip(values) {
            let value = stored(column, value.unwrap_or(Value::Null), self.scratch);
            sum = sum.wrapping_add(row_hash(&column.name, value));
        }
        sum as i64
    }

    /// `bag`: the row has no key and is found by its hash.
    fn insert(&mut self, values: &Values<'_>, bag: bool) -> Result<(), ApplyError> {
        let hash = bag.then(|| self.hash(values));
        let Shape { insert, table, .. } = &mut *self.shape;
        head(insert, &self.at, hash)?;
        for ((n, column), value) in (5..).zip(&table.columns).zip(values) {
            bind(insert, n, stored(column, value.unwrap_or(Value::Null), self.scratch))?;
        }
        insert.raw_execute()?;
        Ok(())
    }

    fn update(&mut self, row: i64, values: &Values<'_>, whole: bool, bag: bool) -> Result<(), ApplyError> {
        if !whole {
            return self.update_partly(row, values, bag);
        }
        let hash = bag.then(|| self.hash(values));
        let Shape { update, table, .. } = &mut *self.shape;
        head(update, &self.at, hash)?;
        for ((n, column), value) in (5..).zip(&table.columns).zip(values) {
            bind(update, n, stored(column, value.unwrap_or(Value::Null), self.scratch))?;
        }
        bind(update, 5 + table.columns.len(), ValueRef::Integer(row))?;
        update.raw_execute()?;
        Ok(())
    }

    fn update_partly(&mut self, row: i64, values: &Values<'_>, bag: bool) -> Result<(), ApplyError> {
        let held: Vec<usize> =
            (0..values.len()).filter(|&i| values.get(i).is_some_and(Option::is_some)).collect();
        let set: String = (6..)
            .zip(&held)
            .filter_map(|(n, &i)| Some(format!(", {}=?{n}", self.shape.columns.get(i)?)))
            .collect();
        let mut update = self.conn.prepare_cached(&format!(
            "UPDATE {} SET _dts_device=?1, _dts_epoch=?2, _dts_seq=?3, _dts_hash=?4{set} WHERE _dts_row=?5",
            self.shape.mirror
        ))?;
        // The whole row is not known here: its hash matches nothing, and `find_whole` looks at all.
        head(&mut update, &self.at, bag.then_some(0))?;
        bind(&mut update, 5, ValueRef::Integer(row))?;
        for (n, &i) in (6..).zip(&held) {
            if let (Some(column), Some(&Some(value))) = (self.shape.table.columns.get(i), values.get(i)) {
                bind(&mut update, n, stored(column, value, self.scratch))?;
            }
        }
        update.raw_execute()?;
        Ok(())
    }

    fn delete(&mut self, row: i64) -> Result<(), ApplyError> {
        bind(&mut self.shape.delete, 1, ValueRef::Integer(row))?;
        self.shape.delete.raw_execute()?;
        Ok(())
    }
}

/// Binds device, epoch, seq and hash to the first four parameters.
fn head(statement: &mut rusqlite::Statement<'_>, at: &At<'_>, hash: Option<i64>) -> rusqlite::Result<()> {
    let Version { epoch, seq } = at.stamp();
    bind(statement, 1, ValueRef::Text(at.device.as_bytes()))?;
    bind(statement, 2, ValueRef::Integer(epoch))?;
    bind(statement, 3, ValueRef::Integer(seq))?;
    bind(statement, 4, hash.map_or(ValueRef::Null, ValueRef::Integer))
}

//! Makes row records of captured rows and of tables that are read.

use std::collections::BTreeMap;
use std::sync::Arc;

use rusqlite::Connection;
use rusqlite::types::ValueRef;

use crate::event::{Batch, BatchBuilder, Image, Op, Table};

use super::cells::{Cells, fitting};
use super::config::Capture;
use super::error::{Doing, Error, Result};
use super::follower::{Counts, Limits};
use super::install::{Catalog, Followed, Numbered};
use super::position::{Cursor, KEY, KeyValue, Position, Running};
use super::rows::{PAGE, RowSql};
use super::triggers::{WIDTH, op};

/// Bytes of a record that are no value: head, hashes, bitmaps of two images.
const RECORD_OVERHEAD: usize = 64;

/// What a step reads, within one read transaction.
#[derive(Debug)]
pub(super) struct Source<'a> {
    pub(super) conn: &'a Connection,
    pub(super) catalog: &'a Catalog,
    pub(super) position: &'a mut Position,
    pub(super) counts: &'a mut Counts,
    /// Tables whose key was found to hold NULL.
    pub(super) hide: &'a mut Vec<i64>,
}

/// A captured row's head.
#[derive(Clone, Copy, Debug)]
struct Captured {
    id: i64,
    shape: i64,
    op: i64,
    nonce: i64,
    bytes: i64,
}

/// One table, ready to be read and sent.
#[derive(Debug)]
struct Ready {
    table: Arc<Table>,
    sql: RowSql,
}

/// Builds batches of one source.
#[derive(Debug)]
pub(super) struct Emitter {
    source: Arc<str>,
    builder: BatchBuilder,
    /// By table number: the shapes of now.
    ready: BTreeMap<i64, Ready>,
    /// By shape number: the rows of tables and shapes that are gone.
    old: BTreeMap<i64, Arc<Table>>,
    before: Cells,
    after: Cells,
}

impl Emitter {
    pub(super) fn new(source: Arc<str>) -> Self {
        Self {
            builder: BatchBuilder::new(source.clone()),
            source,
            ready: BTreeMap::new(),
            old: BTreeMap::new(),
            before: Cells::default(),
            after: Cells::default(),
        }
    }

    /// Name of the source in the config.
    pub(super) fn source(&self) -> &str {
        &self.source
    }

    /// Takes over another catalog.
    pub(super) fn follow(&mut self, catalog: &Catalog) {
        self.ready.clear();
        let table_of = |n: &Numbered| n.shape.table(&self.source, n.version);
        self.old = catalog.shapes.iter().map(|(id, n)| (*id, table_of(n))).collect();
        for (id, followed) in &catalog.tables {
            let shape = catalog.shapes.get(&followed.shape);
            if let (Some(info), Some(shape), Some(table)) =
                (&followed.info, shape, self.old.get(&followed.shape))
            {
                let sql = RowSql::new(info, &shape.shape);
                self.ready.insert(*id, Ready { table: table.clone(), sql });
            }
        }
    }

    /// Forgets what was built.
    pub(super) fn discard(&mut self) {
        self.builder = BatchBuilder::new(self.source.clone());
    }

    /// The batch, if it has rows.
    pub(super) fn finish(&mut self, position: &Position) -> Option<Batch> {
        if self.builder.is_empty() {
            return None;
        }
        self.builder.position(KEY, &position.encode());
        let next = BatchBuilder::new(self.source.clone());
        Some(std::mem::replace(&mut self.builder, next).finish())
    }

    fn is_full(&self, limits: Limits) -> bool {
        self.builder.rows() >= limits.rows || self.builder.bytes() >= limits.batch_bytes
    }

    /// Takes captured rows behind the cursor, whose byte count is `bytes`. True when none is left.
    pub(super) fn captured(
        &mut self,
        source: &mut Source<'_>,
        mut bytes: i64,
        limits: Limits,
        stamp: &mut dyn FnMut() -> u64,
    ) -> Result<bool> {
        let doing = "read captured rows";
        let conn = source.conn;
        let mut stmt = conn
            .prepare_cached("SELECT id, t, o, n, b FROM _dts_capture WHERE id>?1 ORDER BY id")
            .doing(doing)?;
        let mut rows = stmt.query([source.position.cursor.id]).doing(doing)?;
        // Rows that say nothing are bounded too, or a step could take long.
        let mut walked = 0;
        while let Some(row) = rows.next().doing(doing)? {
            let captured = (|| {
                Ok(Captured {
                    id: row.get(0)?,
                    shape: row.get(1)?,
                    op: row.get(2)?,
                    nonce: row.get(3)?,
                    bytes: row.get(4)?,
                })
            })()
            .doing(doing)?;
            let size = usize::try_from(captured.bytes - bytes).unwrap_or(0);
            let full = !self.builder.is_empty() && self.builder.bytes() + size > limits.batch_bytes;
            let says = !matches!(captured.op, op::PART | op::NONE | op::CANDIDATE);
            if says {
                if full || self.is_full(limits) {
                    return Ok(false);
                }
                self.change(source, captured, size, limits, stamp)?;
                if !source.hide.is_empty() {
                    return Ok(false);
                }
            }
            bytes = captured.bytes;
            source.position.cursor = Cursor { id: captured.id, nonce: captured.nonce };
            walked += 1;
            if walked >= 16 * limits.rows {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn change(
        &mut self,
        source: &mut Source<'_>,
        captured: Captured,
        size: usize,
        limits: Limits,
        stamp: &mut dyn FnMut() -> u64,
    ) -> Result<()> {
        let shape = source.catalog.shapes.get(&captured.shape).ok_or_else(|| {
            Error::Inconsistent(format!("captured row {} has shape {}", captured.id, captured.shape))
        })?;
        let followed = source.catalog.tables.get(&shape.table);
        self.load(source.conn, captured, shape, size, limits, source.counts)?;
        let (has_old, has_new) = images(captured.op);
        let key = &shape.shape.key;
        let null = (has_old && self.before.has_null(key)) || (has_new && self.after.has_null(key));
        let now = followed.filter(|f| f.info.is_some());
        let current = now.is_some_and(|f| f.shape == shape.id);
        let same_key =
            now.and_then(|f| source.catalog.shapes.get(&f.shape)).map(|n| n.shape.same_key(&shape.shape));
        if null && same_key == Some(true) && now.is_some_and(|f| !f.row.hidden) {
            source.hide.push(shape.table);
            return Ok(());
        }
        let pushed = if current && shape.shape.capture == Capture::Images {
            self.push(source, captured.op, captured.shape, limits, stamp)
        } else {
            self.push_by_key(source, captured.op, shape, followed, limits, stamp)?
        };
        source.counts.captured_rows += u64::from(pushed);
        Ok(())
    }

    /// Fills `before` and `after` with the captured values, in the columns of the captured shape.
    fn load(
        &mut self,
        conn: &Connection,
        captured: Captured,
        shape: &Numbered,
        size: usize,
        limits: Limits,
        counts: &mut Counts,
    ) -> Result<()> {
        let doing = "read captured rows";
        let recorded = shape.shape.recorded();
        let columns = shape.shape.columns.len();
        self.before.reset(columns);
        self.after.reset(columns);
        let (has_old, has_new) = images(captured.op);
        // A deletion noticed by an update's trigger has an empty new image behind it.
        let places: Vec<(bool, usize)> = has_old
            .then_some(true)
            .into_iter()
            .chain(has_new.then_some(false))
            .flat_map(|old| recorded.iter().map(move |&c| (old, c)))
            .collect();
        let budget = limits.row_bytes.saturating_sub(RECORD_OVERHEAD + columns / 2);
        let wanted = if size + 11 * places.len() <= budget {
            None
        } else {
            let fit = self.fit(conn, captured.id, &places, shape, budget)?;
            counts.left_out += fit.iter().filter(|taken| !**taken).count() as u64;
            Some(fit)
        };
        for (part, places) in places.chunks(WIDTH).enumerate() {
            let id = captured.id + part as i64;
            let taken = |i: usize| wanted.as_ref().is_none_or(|w| w.get(part * WIDTH + i) == Some(&true));
            let list: Vec<String> = (0..places.len())
                .map(|i| if taken(i) { format!("c{i}") } else { "NULL".to_owned() })
                .collect();
            conn.prepare_cached(&format!("SELECT {} FROM _dts_capture WHERE id=?1", list.join(",")))
                .and_then(|mut s| {
                    s.query_row([id], |r| {
                        for (i, &(old, column)) in places.iter().enumerate().filter(|(i, _)| taken(*i)) {
                            let value: ValueRef<'_> = r.get_ref(i)?;
                            if old { self.before.set(column, value) } else { self.after.set(column, value) }
                        }
                        Ok(())
                    })
                })
                .doing(doing)?;
        }
        Ok(())
    }

    /// Which of the values to load so that the row fits.
    fn fit(
        &self,
        conn: &Connection,
        id: i64,
        places: &[(bool, usize)],
        shape: &Numbered,
        budget: usize,
    ) -> Result<Vec<bool>> {
        let mut sizes = Vec::with_capacity(places.len());
        for (part, chunk) in places.chunks(WIDTH).enumerate() {
            let list: Vec<String> =
                (0..chunk.len()).map(|i| format!("ifnull(octet_length(c{i}),0)")).collect();
            let sql = format!("SELECT {} FROM _dts_capture WHERE id=?1", list.join(","));
            conn.prepare(&sql)
                .and_then(|mut s| {
                    s.query_row([id + part as i64], |r| {
                        for (i, &(old, column)) in chunk.iter().enumerate() {
                            let bytes = usize::try_from(r.get::<_, i64>(i)?).unwrap_or(0) + 11;
                            sizes.push((old, shape.shape.key.contains(&column), bytes));
                        }
                        Ok(())
                    })
                })
                .doing("read captured rows")?;
        }
        // Where not even the keys fit nothing is loaded, and the row counts as lost.
        Ok(fitting(&sizes, budget).unwrap_or_else(|| vec![false; sizes.len()]))
    }

    /// Sends `before` and `after` as they are. False if nothing was to be sent.
    fn push(
        &mut self,
        source: &mut Source<'_>,
        op: i64,
        shape: i64,
        limits: Limits,
        stamp: &mut dyn FnMut() -> u64,
    ) -> bool {
        let Some(table) = self.old.get(&shape).cloned() else { return false };
        let (op, old, new) = match op {
            op::INSERT => (Op::Insert, false, true),
            op::UPDATE => (Op::Update, true, true),
            // Another row has the old key: only what it became is true.
            op::MOVED => (Op::Insert, false, true),
            _ => (Op::Delete, true, false),
        };
        self.push_images(source.counts, &table, op, old, new, limits, stamp)
    }

    /// One record of the images that are wanted.
    #[expect(clippy::too_many_arguments, reason = "a private leaf; all of it is needed")]
    fn push_images(
        &mut self,
        counts: &mut Counts,
        table: &Arc<Table>,
        op: Op,
        old: bool,
        new: bool,
        limits: Limits,
        stamp: &mut dyn FnMut() -> u64,
    ) -> bool {
        let key = table.key_columns();
        let lacks = |cells: &Cells| {
            let present = cells.present();
            key.iter().any(|&i| present.as_ref().is_some_and(|p| p.get(i) != Some(&true)))
        };
        let total = |cells: &Cells| (0..table.columns.len()).map(|i| cells.bytes_of(i)).sum::<usize>();
        let bytes = if old { total(&self.before) } else { 0 } + if new { total(&self.after) } else { 0 };
        if (old && lacks(&self.before)) || (new && lacks(&self.after)) {
            self.lose(counts, &table.name);
            return false;
        }
        if bytes + RECORD_OVERHEAD + table.columns.len() / 2 > limits.row_bytes && old && new {
            // Read by key: both images fit alone. The key is what the old one is needed for.
            for i in (0..table.columns.len()).filter(|i| !key.contains(i)) {
                self.before.leave_out(i);
                counts.left_out += 1;
            }
        }
        let (before, after) = (self.before.values(), self.after.values());
        let (has_before, has_after) = (self.before.present(), self.after.present());
        let image = |values, present| Some(Image { values, present });
        let before = if old { image(&before, has_before.as_deref()) } else { None };
        let after = if new { image(&after, has_after.as_deref()) } else { None };
        match self.builder.push(op, stamp(), table, before, after) {
            Ok(()) => true,
            Err(e) => {
                log::error!("{}: a row of `{}` cannot be written: {e}", self.source, table.name);
                counts.lost_rows += 1;
                false
            }
        }
    }

    fn lose(&self, counts: &mut Counts, table: &str) {
        counts.lost_rows += 1;
        log::error!(
            "{}: the key of a row of `{table}` alone is larger than a frame; the row is not sent",
            self.source
        );
    }

    /// Sends what the key of a captured row stands for now: in `keys` mode, and for rows of a shape
    /// that the table has no more.
    fn push_by_key(
        &mut self,
        source: &mut Source<'_>,
        op: i64,
        shape: &Numbered,
        followed: Option<&Followed>,
        limits: Limits,
        stamp: &mut dyn FnMut() -> u64,
    ) -> Result<bool> {
        let now = followed.and_then(|f| source.catalog.shapes.get(&f.shape)).map(|n| &n.shape);
        let Some(ready) = self.ready.get(&shape.table) else {
            // The table is gone: what was captured is all there is, and it will be cleared.
            let whole = shape.shape.capture == Capture::Images || matches!(op, op::DELETE | op::DISPLACED);
            return Ok(whole && self.push(source, op, shape.id, limits, stamp));
        };
        let Some(now) = now.filter(|now| now.same_key(&shape.shape)) else {
            // Named by another key since: the reading that this has caused says it.
            return Ok(false);
        };
        let table = ready.table.clone();
        let (has_old, has_new) = images(op);
        let old_key = self.before.key(&shape.shape.key);
        let new_key = self.after.key(&shape.shape.key);
        // The old image in the columns of now.
        let mut old = Cells::default();
        old.reset(now.columns.len());
        let old_values = self.before.values();
        let had = self.before.present();
        for (place, column) in now.columns.iter().enumerate() {
            let from = shape.shape.columns.iter().position(|c| c.name == column.name);
            if let Some(i) = from.filter(|&i| had.as_ref().is_none_or(|p| p.get(i) == Some(&true))) {
                set(&mut old, place, old_values.get(i));
            }
        }
        drop(old_values);
        self.before = old;
        let budget = limits.row_bytes.saturating_sub(RECORD_OVERHEAD + now.columns.len() / 2);
        let found =
            if has_new { ready.sql.load(source.conn, &new_key, budget, &mut self.after)? } else { None };
        let Some(left_out) = found else {
            // Gone since: a later captured row says so, except of a key that it moved away from.
            let deletes = has_old && op != op::MOVED && (!has_new || old_key != new_key);
            return Ok(
                deletes && self.push_images(source.counts, &table, Op::Delete, true, false, limits, stamp)
            );
        };
        source.counts.left_out += left_out as u64;
        let (op, has_old) = match op {
            op::UPDATE => (Op::Update, true),
            _ => (Op::Insert, false),
        };
        Ok(self.push_images(source.counts, &table, op, has_old, true, limits, stamp))
    }

    /// Goes on with the tables that must be read, while there is room.
    pub(super) fn tables(
        &mut self,
        source: &mut Source<'_>,
        limits: Limits,
        stamp: &mut dyn FnMut() -> u64,
    ) -> Result<()> {
        let catalog = source.catalog;
        // The table that was begun goes first, or it would have to begin anew.
        let begun = source.position.running.as_ref().map(|r| r.table);
        let begun = begun.and_then(|id| catalog.tables.get_key_value(&id));
        for (&id, followed) in begun.into_iter().chain(&catalog.tables) {
            let waits = source.position.done_of(id) != followed.row.reading;
            if waits && (self.is_full(limits) || !self.table_slice(source, id, followed, limits, stamp)?) {
                return Ok(());
            }
        }
        Ok(())
    }

    /// A piece of one table. False if it must be gone on with in another batch.
    fn table_slice(
        &mut self,
        source: &mut Source<'_>,
        id: i64,
        followed: &Followed,
        limits: Limits,
        stamp: &mut dyn FnMut() -> u64,
    ) -> Result<bool> {
        let reading = followed.row.reading;
        let running = source.position.running.take().filter(|r| r.table == id && r.reading == reading);
        let started = running.is_some();
        let mut running = running.unwrap_or(Running { table: id, reading, after: Vec::new() });
        let done = source.position.done_of(id);
        let clears = done != reading && i64::from(done) != followed.row.keep;
        if let Some(table) = self.old.get(&followed.shape).filter(|_| !started && clears) {
            let table = table.clone();
            if let Err(e) = self.builder.push(Op::Truncate, stamp(), &table, None, None) {
                return Err(Error::Inconsistent(e.to_string()));
            }
        }
        let Some(ready) = self.ready.get(&id) else {
            source.position.finish(id, reading);
            return Ok(true);
        };
        let (table, sql) = (ready.table.clone(), ready.sql.clone());
        let room = limits.batch_bytes.saturating_sub(self.builder.bytes()).max(1);
        let page = sql.page(source.conn, &running.after, room)?;
        let is_last = page.len() < PAGE && page.iter().map(|(_, n)| n).sum::<usize>() < room;
        let budget = limits.row_bytes.saturating_sub(RECORD_OVERHEAD + table.columns.len() / 2);
        for (key, _) in page {
            if self.is_full(limits) {
                source.position.running = Some(running);
                return Ok(false);
            }
            if key.contains(&KeyValue::Null) {
                source.hide.push(id);
                return Ok(false);
            }
            if let Some(left_out) = sql.load(source.conn, &key, budget, &mut self.after)? {
                source.counts.left_out += left_out as u64;
                if self.push_images(source.counts, &table, Op::Snapshot, false, true, limits, stamp) {
                    source.counts.snapshot_rows += 1;
                }
            }
            running.after = key;
        }
        if is_last {
            source.position.finish(id, reading);
            log::info!("{}: read table `{}`", self.source, table.name);
        } else {
            source.position.running = Some(running);
        }
        Ok(is_last)
    }
}

/// Which images a captured row has: (old, new).
fn images(op: i64) -> (bool, bool) {
    match op {
        op::INSERT => (false, true),
        op::UPDATE | op::MOVED => (true, true),
        _ => (true, false),
    }
}

fn set(cells: &mut Cells, column: usize, value: Option<&crate::event::Value<'_>>) {
    use crate::event::Value;
    let value = match value {
        Some(&Value::Int(n)) => ValueRef::Integer(n),
        Some(&Value::F64(n)) => ValueRef::Real(n),
        Some(&Value::Text(t)) => ValueRef::Text(t.as_bytes()),
        Some(&Value::RawText(t)) => ValueRef::Text(t),
        Some(&Value::Bytes(b)) => ValueRef::Blob(b),
        _ => ValueRef::Null,
    };
    cells.set(column, value);
}

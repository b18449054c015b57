//! A damaged file: what can be read of it goes into a new one, it gets another name, and what is
//! missing is named by loss records. The agent goes on.
//!
//! `buffer.db.new` is filled first, then `buffer.db` is renamed to `buffer.db.corrupt-N`, then the new
//! one takes its name: a crash on the way leaves either the damaged file, to be salvaged again, or a
//! complete new one.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use rusqlite::Connection;

use super::error::Fault;
use super::lane::Lane;
use super::loss::Lost;
use super::meta::{self, LaneMeta, StoreMeta};
use super::options::{Class, LaneOptions};
use super::read::read_table;
use super::salvage;
use super::schema::{self, FILE};
use super::store::Store;
use super::stored::{Head, Piece, StoredId};
use crate::event::Table;
use crate::event::batch::split_body;
use crate::planted::{self, Bug};
use crate::runtime::Mono;

const NEW: &str = "buffer.db.new";
/// Damaged files that are kept for people to look at; the oldest go.
const KEPT: u64 = 3;
/// Highest number of a damaged file.
const NAMES: u64 = 1000;
/// Batches salvaged in one transaction.
const STEP: u64 = 64;
/// Ranges of a lane that are named one by one; beyond, the last one grows.
const RANGES: usize = 16;
/// No row record is smaller: what bounds the rows of a file that says nothing.
const LEAST_ROW: u64 = 32;

/// What of a lane was found, against what should be there.
#[derive(Debug)]
struct Fate {
    /// The counters as they were; `None` if they are damaged too.
    known: Option<LaneMeta>,
    rows: u64,
    /// Where the sequence should go on, in the rows' own epoch.
    next: Option<(u64, u64)>,
    /// Epoch and number of the first batch that was found.
    begin: Option<(u64, u64)>,
    gaps: Vec<(u64, u64, u64)>,
}

impl Fate {
    fn new(known: Option<LaneMeta>) -> Self {
        let next = known.as_ref().and_then(|m| m.front);
        Self { known, rows: 0, next, begin: None, gaps: Vec::new() }
    }

    fn gap(&mut self, epoch: u64, from: u64, to: u64) {
        if from > to {
            return;
        }
        let many = self.gaps.len() >= RANGES;
        match self.gaps.last_mut() {
            Some(last) if many && last.0 == epoch => last.2 = to,
            _ => self.gaps.push((epoch, from, to)),
        }
    }

    /// The eras end, one after the other, until that of `epoch`.
    fn enter(&mut self, epoch: u64) {
        let Some((mut at, mut seq)) = self.next else {
            self.next = Some((epoch, 0));
            return;
        };
        let eras = self.known.as_ref().map(|m| m.eras.clone()).unwrap_or_default();
        while at != epoch {
            let place = eras.iter().position(|e| e.stamped == at);
            if let Some(era) = place.and_then(|i| eras.get(i)) {
                self.gap(at, seq, era.next_seq.saturating_sub(1));
            }
            match place.and_then(|i| eras.get(i + 1)) {
                Some(era) => (at, seq) = (era.stamped, 1),
                None => (at, seq) = (epoch, 0),
            }
        }
        self.next = Some((at, seq));
    }

    /// Whether a batch was acknowledged and deleted before: a file that lost its last transactions has it again. It
    /// must not count for one that is missing.
    fn is_stale(&self, head: &Head) -> bool {
        let Some(known) = self.known.as_ref().filter(|m| m.kept_rows == 0) else { return false };
        known.front.is_some_and(|(epoch, seq)| head.epoch == epoch && head.last_seq < seq)
    }

    /// Rows of a batch that are beyond what was known to be stored: those of a commit that counted as failed. They must
    /// not count for some that are missing.
    fn beyond(&self, head: &Head) -> u64 {
        let era = self.known.as_ref().and_then(LaneMeta::era).filter(|e| e.stamped == head.epoch);
        era.map_or(0, |e| (head.last_seq + 1).saturating_sub(e.next_seq.max(head.first_seq)))
    }

    /// A batch was found.
    fn found(&mut self, head: &Head) {
        self.begin.get_or_insert((head.epoch, head.first_seq));
        self.enter(head.epoch);
        if let Some((_, seq)) = self.next
            && seq > 0
        {
            self.gap(head.epoch, seq, head.first_seq.saturating_sub(1));
        }
        self.next = Some((head.epoch, head.last_seq.saturating_add(1)));
        if !self.is_stale(head) {
            self.rows += u64::from(head.rows).saturating_sub(self.beyond(head));
        }
    }

    /// What is lost. `ends`: the era and number behind the last that was on disk. `bound`: most rows
    /// that a file can have held of which nothing is known.
    fn losses(mut self, ends: Option<(u64, u64)>, bound: u64) -> Vec<Lost> {
        let lost = |(epoch, from, to): (u64, u64, u64), rows: u64, exact: bool| Lost {
            epoch,
            from,
            to,
            rows,
            reason: "corrupt",
            exact,
        };
        let Some(known) = self.known.clone() else {
            let (epoch, seq) = self.next.unwrap_or((0, 1));
            let last = (epoch, seq, seq.saturating_add(bound.saturating_sub(1)));
            let rows = |g: &(u64, u64, u64)| g.2 - g.1 + 1;
            return self.gaps.iter().chain([&last]).map(|g| lost(*g, rows(g), false)).collect();
        };
        let expected = known.rows + known.kept_rows;
        let missing = expected.saturating_sub(self.rows);
        if missing == 0 {
            return Vec::new();
        }
        if let Some((epoch, seq)) = ends {
            self.enter(epoch);
            let from = self.next.map_or(1, |(_, s)| s.max(1));
            self.gap(epoch, from, seq.saturating_sub(1));
        }
        let length: u64 = self.gaps.iter().map(|g| g.2 - g.1 + 1).sum();
        // Holes of earlier evictions and compactions stand among the gaps: then the sum is a bound.
        let exact = length == missing;
        let mut losses: Vec<Lost> =
            self.gaps.iter().map(|g| lost(*g, (g.2 - g.1 + 1).min(missing), exact)).collect();
        if length < missing {
            // What is missing and stands in no gap was before the first that was found.
            let (epoch, seq) = self.begin.or(ends).unwrap_or((0, 1));
            losses.insert(0, lost((epoch, 1, seq.saturating_sub(1).max(1)), missing - length, false));
        }
        losses
    }
}

impl Store {
    /// If an earlier quarantine was cut short, ends it.
    pub(super) fn finish_quarantine(&self) {
        let is_there = |name: &str| self.folder.size(name).is_some();
        if !is_there(NEW) {
            return;
        }
        let done = if is_there(FILE) {
            remove_file(self, NEW)
        } else {
            // The log that is still there is the damaged file's, never to be read with another one.
            remove_wal(self, FILE).and_then(|()| self.folder.rename(NEW, FILE))
        };
        if let Err(e) = done {
            log::warn!("buffer: {NEW}: {e}");
        }
    }

    /// Replaces the file, which holds what was never written, by one that holds what can be read of
    /// it. There must be no connection. Where that fails (a full disk) the store is down, and tries
    /// again.
    pub(super) fn quarantine(&mut self, now: Mono, what: &str) -> Result<(), Fault> {
        self.conn = None;
        self.look_for_doubt(now);
        for lane in 0..self.lanes.len() {
            self.seal(now, lane);
        }
        let metas: Vec<LaneMeta> = self.lanes.iter().map(|l| l.meta.clone()).collect();
        let store_meta = self.meta.clone();
        let done = self.replace_file(now, what);
        if let Err(fault) = &done {
            // What should be there must still be known at the next try.
            self.lanes.truncate(metas.len());
            for (lane, meta) in self.lanes.iter_mut().zip(metas) {
                lane.meta = meta;
            }
            self.meta = store_meta;
            let reason = format!("the file is damaged, and no new one can be made: {fault}");
            self.go_down(now, &reason);
        }
        done
    }

    /// A commit that failed may be in the file: what should be in it depends on that.
    fn look_for_doubt(&mut self, now: Mono) {
        if !self.has_doubt() {
            return;
        }
        let Ok((conn, _)) = schema::connect(&*self.folder, FILE, self.options.vfs.as_deref()) else { return };
        if let Ok(Some(found)) = meta::get_json::<StoreMeta>(&conn, "store") {
            self.settle_doubt(now, &conn, found.txn);
        }
    }

    fn replace_file(&mut self, now: Mono, what: &str) -> Result<(), Fault> {
        let is_there = |n: &u64| self.folder.size(&corrupt_name(*n)).is_some();
        let n = 1 + (1..=NAMES).filter(is_there).max().unwrap_or(0);
        let name = corrupt_name(n);
        // Else its counters are in memory, and so may be rows.
        let starting = self.lanes.is_empty();
        log::error!(
            "the buffer in {} is damaged ({what}); it is set aside as {name}, what can be read of it is kept, \
             what cannot is reported upstream",
            self.options.dir.display()
        );
        crate::telemetry::count("dts_spool_quarantined_total", &[], 1);
        let damaged =
            schema::connect(&*self.folder, FILE, self.options.vfs.as_deref()).ok().map(|(conn, _)| conn);
        let known = self.known_metas(damaged.as_ref());
        // A file that is cut says nothing of its length: the limit does.
        let most_bytes = self.folder.size(FILE).unwrap_or(0).max(self.options.max_bytes);
        remove_file(self, NEW).map_err(|e| Fault::Io(e.to_string()))?;
        // Salvaging needs room, if only for a while.
        self.space.release(&*self.folder);
        let (new, _) = schema::connect(&*self.folder, NEW, self.options.vfs.as_deref())?;
        self.tables.forget_disk();
        self.tables.load(&new, &[])?;
        let mut fates = self.salvage(&new, damaged.as_ref(), &known)?;
        drop(damaged);
        self.meta.quarantined += 1;
        self.settle(&new, now, &mut fates, most_bytes / LEAST_ROW, starting)?;
        schema::checkpoint(&new, "TRUNCATE")?;
        drop(new);
        self.take_names(&name).map_err(|e| Fault::Io(format!("cannot set the damaged buffer aside: {e}")))?;
        for old in 1..=n.saturating_sub(KEPT) {
            if let Err(e) = remove_file(self, &corrupt_name(old)) {
                log::warn!("buffer: {}: {e}", corrupt_name(old));
            }
        }
        self.quarantined.push(name);
        self.tables.forget_disk();
        let (conn, _) = schema::connect(&*self.folder, FILE, self.options.vfs.as_deref())?;
        self.conn = Some(conn);
        self.reconnected();
        self.freed += 1;
        Ok(())
    }

    /// The counters of the lanes: those in memory, or those that can still be read.
    fn known_metas(&mut self, damaged: Option<&Connection>) -> HashMap<Arc<str>, LaneMeta> {
        if !self.lanes.is_empty() {
            return self.lanes.iter().map(|l| (l.name().clone(), l.meta.clone())).collect();
        }
        let Some(conn) = damaged else { return HashMap::new() };
        if let Ok(Some(found)) = meta::get_json::<StoreMeta>(conn, "store") {
            self.meta = StoreMeta { quarantined: self.meta.quarantined.max(found.quarantined), ..found };
        }
        let mut metas = HashMap::new();
        for name in meta::lanes(conn).unwrap_or_default() {
            if let Ok(Some(found)) = meta::get_json::<LaneMeta>(conn, &format!("lane/{name}")) {
                metas.insert(Arc::from(name), found);
            }
        }
        metas
    }

    /// Copies what reads right into `new`. The lanes count from zero.
    fn salvage(
        &mut self,
        new: &Connection,
        damaged: Option<&Connection>,
        known: &HashMap<Arc<str>, LaneMeta>,
    ) -> Result<HashMap<Arc<str>, Fate>, Fault> {
        for (name, meta) in known {
            if self.lane_index(name).is_none() {
                let lane = self.found_lane(name, meta.clone());
                self.lanes.push(lane);
            }
        }
        let mut fates: HashMap<Arc<str>, Fate> =
            known.iter().map(|(name, meta)| (name.clone(), Fate::new(Some(meta.clone())))).collect();
        for lane in &mut self.lanes {
            let meta = &mut lane.meta;
            (meta.bytes, meta.batches, meta.rows) = (0, 0, 0);
            (meta.kept_bytes, meta.kept_batches, meta.kept_rows) = (0, 0, 0);
            meta.losses.clear();
            lane.tail = None;
            lane.written = None;
        }
        let Some(damaged) = damaged else { return Ok(fates) };
        new.execute_batch("BEGIN IMMEDIATE")?;
        let mut stored = 0u64;
        let bad = salvage::walk(damaged, |head, body| {
            self.salvage_batch(new, damaged, &mut fates, &head, body)?;
            stored += 1;
            if stored.is_multiple_of(STEP) {
                new.execute_batch("COMMIT")?;
                // Never within a transaction: SQLite refuses it there.
                if schema::checkpoint(new, "NOOP")? >= schema::WAL_PAGES {
                    schema::checkpoint(new, "PASSIVE")?;
                }
                new.execute_batch("BEGIN IMMEDIATE")?;
            }
            Ok(())
        })?;
        if !new.is_autocommit() {
            new.execute_batch("COMMIT")?;
        }
        log::warn!("buffer: {stored} batches salvaged, {bad} places could not be read");
        self.salvage_positions(new, damaged);
        // A batch in the window that is not there any more cannot be deleted.
        for lane in &mut self.lanes {
            let (no, disk_n) = (lane.meta.no, lane.meta.disk_n);
            let gone =
                |n: u64| n <= disk_n && !super::append::exists(new, StoredId::new(no, n)).unwrap_or(false);
            lane.window.retain(|&n, _| !gone(n));
            lane.acked.retain(|&n, _| !gone(n));
        }
        Ok(fates)
    }

    fn salvage_batch(
        &mut self,
        new: &Connection,
        damaged: &Connection,
        fates: &mut HashMap<Arc<str>, Fate>,
        head: &Head,
        body: Bytes,
    ) -> Result<(), Fault> {
        // A shape that cannot be read makes a batch that cannot be.
        let Ok((hashes, _)) = split_body(&body) else { return Ok(()) };
        let shapes: Result<Vec<Arc<Table>>, Fault> =
            hashes.into_iter().map(|hash| read_table(damaged, hash)).collect();
        let Ok(tables) = shapes else { return Ok(()) };
        let index = match self.lane_index(&head.lane) {
            Some(index) => index,
            None => {
                let meta = LaneMeta { no: head.id.lane(), next_n: 1, ..LaneMeta::default() };
                let lane = self.found_lane(&head.lane, meta);
                self.lanes.push(lane);
                self.lanes.len() - 1
            }
        };
        if self.lanes[index].meta.no != head.id.lane() {
            return Ok(());
        }
        fates.entry(head.lane.clone()).or_insert_with(|| Fate::new(None)).found(head);
        let piece = Piece {
            source: head.source.clone(),
            clock: head.clock,
            tables: tables.into(),
            rows: head.rows,
            body,
        };
        self.insert_as(new, index, head, &piece)?;
        let meta = &mut self.lanes[index].meta;
        if head.id.n() <= meta.acked_n {
            meta.kept_batches += 1;
            meta.kept_bytes += head.cost();
            meta.kept_rows += u64::from(head.rows);
            meta.batches -= 1;
            meta.bytes -= head.cost();
            meta.rows -= u64::from(head.rows);
        }
        meta.next_n = meta.next_n.max(head.id.n() + 1);
        if let Some(era) = meta.eras.last_mut().filter(|e| e.stamped == head.epoch) {
            era.next_seq = era.next_seq.max(head.last_seq.saturating_add(1));
        }
        Ok(())
    }

    fn found_lane(&self, name: &Arc<str>, meta: LaneMeta) -> Lane {
        let options = self.options.lanes.iter().find(|o| o.name == *name).cloned();
        let configured = options.is_some();
        Lane::new(options.unwrap_or_else(|| LaneOptions::new(name, Class::Fsync)), configured, meta)
    }

    fn salvage_positions(&self, new: &Connection, damaged: &Connection) {
        let positions = meta::readable_positions(damaged);
        for position in positions {
            if let Err(fault) = meta::put_position(new, &position) {
                log::warn!("buffer: position of `{}`: {}", position.0, fault.public());
            }
        }
    }

    /// Ends the eras, names the losses, and writes what was in memory.
    fn settle(
        &mut self,
        new: &Connection,
        now: Mono,
        fates: &mut HashMap<Arc<str>, Fate>,
        bound: u64,
        starting: bool,
    ) -> Result<(), Fault> {
        // A lane of which the file says nothing may have been in it.
        for options in self.options.lanes.clone() {
            if self.lane_index(&options.name).is_none() {
                let Some(no) = self.free_number() else { break };
                let meta = LaneMeta { no, next_n: 1, ..LaneMeta::default() };
                self.lanes.push(Lane::new(options.clone(), true, meta));
                fates.insert(options.name.clone(), Fate::new(None));
            }
        }
        new.execute_batch("BEGIN IMMEDIATE")?;
        self.settle_acked(new, now)?;
        for index in 0..self.lanes.len() {
            let lane = &mut self.lanes[index];
            let fate = fates.remove(lane.name()).unwrap_or_else(|| Fate::new(Some(lane.meta.clone())));
            let mut losses = Vec::new();
            let in_memory = lane.mem.front().map(|m| (m.head.epoch, m.head.first_seq));
            if starting && !self.meta.clean {
                losses.extend(lane.power_loss());
            }
            if fate.known.is_none() {
                // Numbers that were given and are not known must not be given again.
                lane.meta.next_n += 1 << 20;
            }
            let ends = in_memory.or_else(|| {
                let era = fate.known.as_ref().and_then(|m| m.era().copied());
                era.map(|e| (e.stamped, e.next_seq))
            });
            let corrupt = fate.losses(ends, bound);
            let outside: Vec<u64> = corrupt.iter().map(|l| lane.meta.outside(l.epoch)).collect();
            losses.extend(corrupt.into_iter().zip(outside).map(|(l, epoch)| Lost { epoch, ..l }));
            lane.handed = lane.meta.next_n.saturating_sub(1);
            let epoch = (self.epochs)(0).map_err(|e| Fault::Other(super::SpoolError::Epoch(e)))?;
            self.flush_lane(new, index)?;
            self.lanes[index].meta.begin_era(epoch);
            if self.lanes[index].in_memory() && !starting {
                self.lanes[index].reserve(0);
            }
            if planted::on(Bug::LoseCorruptSilently) {
                losses.clear();
            }
            for lost in &losses {
                self.lose(new, now, index, lost)?;
            }
        }
        self.write_metas(new, now, false)?;
        new.execute_batch("COMMIT")?;
        self.mark_written();
        Ok(())
    }

    fn take_names(&self, name: &str) -> std::io::Result<()> {
        let wal = format!("{FILE}-wal");
        self.folder.rename(FILE, name)?;
        if self.folder.size(&wal).is_some() {
            self.folder.rename(&wal, &format!("{name}-wal"))?;
        }
        self.folder.rename(NEW, FILE)?;
        remove_wal(self, NEW)
    }
}

fn corrupt_name(n: u64) -> String {
    format!("{FILE}.corrupt-{n}")
}

/// Removes a database and its log, if they are there.
fn remove_file(store: &Store, name: &str) -> std::io::Result<()> {
    if store.folder.size(name).is_some() {
        store.folder.remove(name)?;
    }
    remove_wal(store, name)
}

fn remove_wal(store: &Store, name: &str) -> std::io::Result<()> {
    let wal = format!("{name}-wal");
    if store.folder.size(&wal).is_some() { store.folder.remove(&wal) } else { Ok(()) }
}

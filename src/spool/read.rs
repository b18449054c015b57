//! Batches on their way out, and the shapes that they refer to.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension};

use super::error::{Fault, SpoolError};
use super::lane::{Cost, Lane, shapes};
use super::store::Store;
use super::stored::{HEAD, Head, MAX_NUMBER, Piece, StoredBatch, StoredId};
use crate::event::Table;
use crate::event::batch::split_body;
use crate::runtime::Mono;

/// Shapes kept in memory; the file has them all.
const CACHED: usize = 64;

/// The table `schema` and a part of it in memory.
#[derive(Debug, Default)]
pub(super) struct Tables {
    cached: HashMap<u64, Arc<Table>>,
    /// Hashes on disk, each with the number of the last batch of each lane that may refer to it.
    /// `None`: to be read again. A shape goes when every lane is beyond.
    on_disk: Option<HashMap<u64, HashMap<u16, u64>>>,
}

impl Tables {
    /// What is on disk may no longer be what it was.
    pub(super) fn forget_disk(&mut self) {
        self.on_disk = None;
    }

    /// Reads which shapes are on disk; any batch that is there may refer to any of them.
    pub(super) fn load(&mut self, conn: &Connection, lanes: &[Lane]) -> Result<(), Fault> {
        if self.on_disk.is_some() {
            return Ok(());
        }
        let used: HashMap<u16, u64> = lanes.iter().map(|l| (l.meta.no, l.meta.next_n)).collect();
        let mut statement = conn.prepare("SELECT hash FROM schema")?;
        let hashes = statement.query_map([], |r| r.get::<_, i64>(0))?;
        let mut on_disk = HashMap::new();
        for hash in hashes {
            on_disk.insert(hash? as u64, used.clone());
        }
        self.on_disk = Some(on_disk);
        Ok(())
    }

    /// Stores the shapes that batch `id` refers to.
    pub(super) fn store(&mut self, conn: &Connection, id: StoredId, piece: &Piece) -> Result<(), Fault> {
        for (hash, table) in shapes(piece) {
            self.remember(hash, table);
            let on_disk = self.on_disk.get_or_insert_with(HashMap::new);
            if !on_disk.contains_key(&hash) {
                conn.prepare_cached("INSERT OR REPLACE INTO schema(hash, body) VALUES(?1, ?2)")?
                    .execute((hash as i64, table.encode()))?;
            }
            let last = on_disk.entry(hash).or_default().entry(id.lane()).or_default();
            *last = (*last).max(id.n());
        }
        Ok(())
    }

    fn remember(&mut self, hash: u64, table: &Arc<Table>) {
        if self.cached.len() >= CACHED && !self.cached.contains_key(&hash) {
            self.cached.clear();
        }
        self.cached.entry(hash).or_insert_with(|| table.clone());
    }

    /// The shape named `hash`.
    pub(super) fn get(&mut self, conn: &Connection, hash: u64) -> Result<Arc<Table>, Fault> {
        if let Some(table) = self.cached.get(&hash) {
            return Ok(table.clone());
        }
        let table = read_table(conn, hash)?;
        self.remember(hash, &table);
        Ok(table)
    }

    /// The shapes of a body, in its order.
    pub(super) fn of_body(&mut self, conn: &Connection, body: &[u8]) -> Result<Vec<Arc<Table>>, Fault> {
        let (hashes, _) = split_body(body).map_err(|e| Fault::Corrupt(e.to_string()))?;
        hashes.into_iter().map(|h| self.get(conn, h)).collect()
    }

    /// Removes shapes that no batch refers to. `oldest` has, for each lane, its oldest batch.
    pub(super) fn collect(&mut self, conn: &Connection, oldest: &HashMap<u16, u64>) -> Result<(), Fault> {
        let Some(on_disk) = &self.on_disk else { return Ok(()) };
        let unused = |used: &HashMap<u16, u64>| {
            used.iter().all(|(lane, last)| oldest.get(lane).is_none_or(|first| first > last))
        };
        for (hash, _) in on_disk.iter().filter(|(_, used)| unused(used)) {
            conn.prepare_cached("DELETE FROM schema WHERE hash = ?1")?.execute([*hash as i64])?;
        }
        Ok(())
    }

    /// How many shapes are on disk.
    pub(super) fn count(&self) -> usize {
        self.on_disk.as_ref().map_or(0, HashMap::len)
    }
}

/// Reads a shape and checks that it is the one its name says.
pub(super) fn read_table(conn: &Connection, hash: u64) -> Result<Arc<Table>, Fault> {
    let body: Option<Vec<u8>> = conn
        .prepare_cached("SELECT body FROM schema WHERE hash = ?1")?
        .query_row([hash as i64], |r| r.get(0))
        .optional()?;
    let body = body.ok_or_else(|| Fault::Corrupt(format!("table {hash:016x} is missing")))?;
    if xxhash_rust::xxh3::xxh3_64(&body) != hash {
        return Err(Fault::Corrupt(format!("table {hash:016x} has a wrong checksum")));
    }
    let table =
        Table::decode(&body).ok_or_else(|| Fault::Corrupt(format!("table {hash:016x} cannot be read")))?;
    Ok(Arc::new(table))
}

/// What [`Store::read`] collects.
#[derive(Default)]
struct Found {
    batches: Vec<(Head, StoredBatch)>,
    bytes: usize,
    /// More is on disk than was asked for.
    more: bool,
}

impl Store {
    /// The next batches of a lane behind `after` (`None`: from its front), in order, at least one if
    /// there is one, else as many as fit `max_bytes` of bodies. They are in the window then: neither
    /// evicted nor compacted until they are acknowledged or [released](Self::release).
    pub fn read(
        &mut self,
        now: Mono,
        lane: &str,
        after: Option<StoredId>,
        max_bytes: usize,
    ) -> Result<Vec<StoredBatch>, SpoolError> {
        let lane = self.find_lane(lane)?;
        let found = self.find(now, lane, after, max_bytes)?;
        for (head, _) in &found {
            let lane = &mut self.lanes[lane];
            let n = head.id.n();
            lane.window.insert(n, Cost { bytes: head.cost(), rows: u64::from(head.rows) });
            lane.handed = lane.handed.max(n);
        }
        let l = &mut self.lanes[lane];
        let rows = found.iter().map(|(head, _)| u64::from(head.rows)).sum();
        if let Some((head, _)) = found.last() {
            l.hand_out((head.epoch, head.last_seq), rows);
        }
        // After a crash it must be known which bodies the centre may have seen, and how far.
        let disk_n = l.meta.disk_n;
        let last = found.iter().rev().map(|(head, _)| head).find(|head| head.id.n() <= disk_n);
        if l.must_note_handed(last.map(|head| (head.epoch, head.last_seq)))
            && let Err(fault) = self.transact(now, true, |_, _| Ok(()))
        {
            // Shipping matters more: at worst what was compacted after a crash is taken for a fork, and
            // sent twice.
            log::debug!("buffer: {}", fault.public());
        }
        Ok(found.into_iter().map(|(_, batch)| batch).collect())
    }

    /// As [`Self::read`], without handing out.
    pub(super) fn find(
        &mut self,
        now: Mono,
        lane: usize,
        after: Option<StoredId>,
        max_bytes: usize,
    ) -> Result<Vec<(Head, StoredBatch)>, SpoolError> {
        let (mut again, mut failed) = (true, false);
        let mut found = loop {
            if !self.lanes[lane].on_disk() {
                break Found::default();
            }
            let conn = self.usable(now).map_err(Fault::public)?;
            match self.read_disk(&conn, lane, after, max_bytes) {
                Ok(found) => {
                    self.conn = Some(conn);
                    break found;
                }
                Err(Fault::Corrupt(what)) if again => {
                    drop(conn);
                    again = false;
                    self.quarantine(now, &what).map_err(Fault::public)?;
                }
                Err(Fault::Other(e)) => {
                    self.conn = Some(conn);
                    return Err(e);
                }
                Err(fault) => {
                    drop(conn);
                    if failed {
                        // It opens, and cannot be read: what can be goes elsewhere.
                        let what = fault.public().to_string();
                        self.quarantine(now, &what).map_err(Fault::public)?;
                        return Err(SpoolError::Down(what));
                    }
                    failed = true;
                    if self.reopen(now).is_none() {
                        return Err(fault.public());
                    }
                }
            }
        };
        if !found.more && found.bytes < max_bytes {
            self.read_memory(now, lane, after, max_bytes, &mut found);
        }
        Ok(found.batches)
    }

    fn read_disk(
        &mut self,
        conn: &Connection,
        lane: usize,
        after: Option<StoredId>,
        max_bytes: usize,
    ) -> Result<Found, Fault> {
        self.tables.load(conn, &self.lanes)?;
        let lane = &self.lanes[lane];
        let mut found = Found::default();
        let (from, to) = lane.ids(after.map_or(0, StoredId::n).max(lane.meta.acked_n), MAX_NUMBER);
        let mut statement = conn.prepare_cached(&format!(
            "SELECT {HEAD}, body FROM batch WHERE id > ?1 AND id <= ?2 ORDER BY id"
        ))?;
        let mut rows = statement.query([from.0, to.0])?;
        let mut last = from.0;
        let mut base: Option<(u64, u64)> = None;
        while let Some(row) = rows.next()? {
            let head = Head::read(row)?;
            if head.id.0 <= last || head.lane != *lane.name() {
                return Err(Fault::Corrupt(format!("batch {} is out of place", head.id.0)));
            }
            last = head.id.0;
            if lane.acked.contains_key(&head.id.n()) {
                continue;
            }
            if !found.batches.is_empty() && found.bytes + head.body_len > max_bytes {
                found.more = true;
                break;
            }
            found.bytes += head.body_len;
            let body = head.body(row)?;
            let tables = self.tables.of_body(conn, &body)?;
            let seq = match base {
                Some((epoch, seq)) if epoch == head.epoch => seq,
                _ => base_on_disk(conn, lane, &head)?,
            };
            base = Some((head.epoch, seq));
            let mut batch = head.stored(lane.meta.outside(head.epoch), body, tables);
            batch.base = seq.min(head.first_seq);
            found.batches.push((head, batch));
        }
        if !found.more {
            self.check_end(conn, lane, after.map_or(0, StoredId::n), found.batches.len() as u64)?;
        }
        Ok(found)
    }

    /// The end of the lane on disk was reached, and `found` batches behind `after`. With those handed out before that may be
    /// all that the counters know of; if it is not, they are counted, since the b-tree may not show some: they were stored, and
    /// are lost.
    fn check_end(&self, conn: &Connection, lane: &Lane, after: u64, found: u64) -> Result<(), Fault> {
        let meta = &lane.meta;
        let handed = lane.window.range(..=after.min(meta.disk_n)).count() as u64;
        if found + handed >= lane.unread() {
            return Ok(());
        }
        let (from, to) = lane.ids(meta.acked_n, MAX_NUMBER);
        let there: i64 = conn
            .prepare_cached("SELECT count(*) FROM batch WHERE id > ?1 AND id <= ?2")?
            .query_row([from.0, to.0], |r| r.get(0))?;
        if there as u64 >= meta.batches {
            return Ok(());
        }
        let name = lane.name();
        Err(Fault::Corrupt(format!("lane `{name}` should hold {} batches, {there} are found", meta.batches)))
    }

    fn read_memory(
        &mut self,
        now: Mono,
        lane: usize,
        after: Option<StoredId>,
        max_bytes: usize,
        found: &mut Found,
    ) {
        self.seal(now, lane);
        let lane = &self.lanes[lane];
        // What is on disk comes before, though all of it may have been handed out: it is still held.
        let on_disk =
            |head: &Head| base_on_disk(self.conn.as_ref().filter(|_| lane.on_disk())?, lane, head).ok();
        let after = found.batches.last().map(|(h, _)| h.id).or(after).map_or(0, StoredId::n);
        let mut base = found.batches.last().map(|(h, b)| (h.epoch, b.base));
        for m in lane.mem.iter().filter(|m| m.head.id.n() > after && !m.acked) {
            if !found.batches.is_empty() && found.bytes + m.head.body_len > max_bytes {
                break;
            }
            found.bytes += m.head.body_len;
            let seq = match base {
                Some((epoch, seq)) if epoch == m.head.epoch => seq,
                _ => {
                    on_disk(&m.head).or_else(|| lane.base_in_memory(m.head.epoch)).unwrap_or(m.head.first_seq)
                }
            };
            base = Some((m.head.epoch, seq));
            let epoch = lane.meta.outside(m.head.epoch);
            let mut batch = m.head.stored(epoch, m.piece.body.clone(), m.piece.tables.to_vec());
            batch.base = seq.min(m.head.first_seq);
            found.batches.push((m.head.clone(), batch));
        }
    }
}

/// Lowest sequence number that is on disk of the epoch of `head`.
fn base_on_disk(conn: &Connection, lane: &Lane, head: &Head) -> Result<u64, Fault> {
    let eras = &lane.meta.eras;
    let place = eras.iter().position(|e| e.stamped == head.epoch);
    let before = place.and_then(|i| i.checked_sub(1)).and_then(|i| eras.get(i)).map_or(0, |e| e.last_n);
    let (from, to) = lane.ids(before, head.id.n());
    let seq: i64 = conn
        .prepare_cached("SELECT first_seq FROM batch WHERE id > ?1 AND id <= ?2 ORDER BY id LIMIT 1")?
        .query_row([from.0, to.0], |r| r.get(0))?;
    Ok(seq as u64)
}

impl Head {
    pub(super) fn stored(&self, epoch: u64, body: Bytes, tables: Vec<Arc<Table>>) -> StoredBatch {
        StoredBatch {
            id: self.id,
            lane: self.lane.clone(),
            epoch,
            first_seq: self.first_seq,
            last_seq: self.last_seq,
            base: self.first_seq,
            rows: self.rows,
            crc: self.crc,
            boot: self.boot,
            clock: self.clock,
            source: self.source.clone(),
            body,
            tables,
        }
    }
}

//! Batches on their way in: taken or refused, joined, numbered, stored in one transaction.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension};

use super::error::Fault;
use super::join;
use super::lane::{Lane, MemBatch, Tail};
use super::meta::{self, Position};
use super::options::{Class, Policy};
use super::store::Store;
use super::stored::{HEAD, Head, Kind, Piece, StoredId, clock_number};
use crate::event::Batch;
use crate::planted::{self, Bug};
use crate::runtime::Mono;
use crate::source::Refused;

/// Largest body that rows are still added to: it fits a leaf page of the b-tree, so that storing it
/// again writes the page that the new row alone would have written.
const SMALL: usize = 3800;
/// Fewest and most sequence numbers reserved ahead for rows in memory.
const AHEAD: (u64, u64) = (256, 65_536);

/// What one call takes for one lane.
#[derive(Clone, Debug, Default)]
struct Take {
    items: Vec<usize>,
    bytes: u64,
    rows: u64,
    /// One was refused: those behind it are too, so that the order is kept.
    stuck: bool,
}

impl Store {
    /// Takes batches into their lanes, all of them in one transaction; a verdict for each. `Ok`: the
    /// class of the lane is met. Refused ones have left no trace; of a lane that refused one, later
    /// ones are refused too.
    pub fn append(&mut self, now: Mono, items: &[(Arc<str>, Batch)]) -> Vec<Result<(), Refused>> {
        if self.conn.is_none()
            && let Ok(conn) = self.usable(now)
        {
            // Now it is known what of a failed commit is there.
            self.conn = Some(conn);
        }
        self.relieve_memory(now);
        let mut takes = vec![Take::default(); self.lanes.len()];
        let mut verdicts: Vec<Result<(), Refused>> = Vec::with_capacity(items.len());
        for (i, (name, batch)) in items.iter().enumerate() {
            if self.has_landed(batch) {
                verdicts.push(Ok(()));
                continue;
            }
            let verdict = self.admit(name, batch, &mut takes);
            if let Some(take) = verdict.as_ref().ok().and_then(|&lane| takes.get_mut(lane)) {
                take.items.push(i);
            }
            verdicts.push(verdict.map(|_| ()));
        }
        let in_memory = |lane: usize| self.lanes.get(lane).is_some_and(Lane::in_memory);
        let (memory, disk): (Vec<usize>, Vec<usize>) =
            (0..takes.len()).filter(|&l| !takes[l].items.is_empty()).partition(|&l| in_memory(l));
        let reserve: Vec<usize> =
            memory.iter().copied().filter(|&l| self.lanes[l].must_reserve(takes[l].rows)).collect();
        if !disk.is_empty() || !reserve.is_empty() {
            let doubts = self.doubts;
            let stored = self.transact(now, true, |store, conn| {
                let bytes = disk.iter().map(|&l| takes[l].bytes).sum();
                store.make_room(conn, now, bytes)?;
                for &lane in &disk {
                    let batches: Vec<&Batch> =
                        takes[lane].items.iter().filter_map(|&i| items.get(i)).map(|(_, b)| b).collect();
                    store.store_batches(conn, now, lane, &batches)?;
                }
                for &lane in &reserve {
                    store.lanes[lane].reserve(takes[lane].rows);
                }
                store.enforce_limits(conn, now)
            });
            if let Err(fault) = stored {
                let busy = Refused::Busy(fault.public().to_string());
                // Not where the transaction in doubt is an earlier one: these were not in it.
                if self.is_in_doubt_since(doubts) {
                    let refused = disk.iter().flat_map(|&l| &takes[l].items).filter_map(|&i| items.get(i));
                    self.doubtful = refused.map(|(_, b)| (b.source.clone(), b.body.clone())).collect();
                }
                for &i in disk.iter().chain(&reserve).flat_map(|&l| &takes[l].items) {
                    verdicts[i] = Err(busy.clone());
                }
                for &lane in &reserve {
                    takes[lane].items.clear();
                }
            }
        }
        for &lane in &memory {
            for (_, batch) in takes[lane].items.iter().filter_map(|&i| items.get(i)) {
                self.lanes[lane].keep(now, batch.clone());
            }
        }
        self.relieve_memory(now);
        verdicts
    }

    /// The lane that takes `batch`, or why none does.
    fn admit(&self, name: &str, batch: &Batch, takes: &mut [Take]) -> Result<usize, Refused> {
        let lane = self.lanes.iter().position(|l| **l.name() == *name && l.configured);
        let lane = lane.ok_or_else(|| Refused::Busy(format!("no lane `{name}`")))?;
        join::check(batch, self.options.max_body_bytes)?;
        let cost = Piece::from(batch.clone()).cost();
        let total: u64 = self.lanes.iter().map(|l| l.bytes() + l.meta.kept_bytes).sum();
        let taken: u64 = takes.iter().map(|t| t.bytes).sum();
        let Some(take) = takes.get_mut(lane) else { return Err(Refused::Stopping) };
        let options = &self.lanes[lane].options;
        if take.stuck {
            return Err(Refused::Busy(format!("lane `{name}` is full")));
        }
        let full = options.policy == Policy::Block
            && self.lanes[lane].bytes() + take.bytes + cost > options.max_bytes;
        let over = total + taken + cost > self.options.max_bytes && !self.can_drop(lane);
        if full || over {
            take.stuck = true;
            let (what, limit) = if full {
                (format!("lane `{name}`"), options.max_bytes)
            } else {
                ("the buffer".into(), self.options.max_bytes)
            };
            return Err(Refused::Busy(format!(
                "{what} holds its limit of {limit} bytes; it empties as the centre confirms"
            )));
        }
        if options.class != Class::Fsync && self.memory() > self.options.memory_bytes as u64 {
            take.stuck = true;
            return Err(Refused::Busy("memory is full and the disk does not take it".into()));
        }
        take.bytes += cost;
        take.rows += u64::from(batch.rows);
        Ok(lane)
    }

    /// Bytes of all lanes that are in memory only.
    pub(super) fn memory(&self) -> u64 {
        self.lanes.iter().map(|l| l.mem_bytes).sum()
    }

    /// Writes the memory out when it is at its mark.
    fn relieve_memory(&mut self, now: Mono) {
        if self.memory() > self.options.memory_bytes as u64
            && let Err(fault) = self.flush_all(now, false)
        {
            log::debug!("buffer: {}", fault.public());
        }
    }

    fn store_batches(
        &mut self,
        conn: &Connection,
        now: Mono,
        lane: usize,
        batches: &[&Batch],
    ) -> Result<(), Fault> {
        let max = self.options.max_body_bytes;
        let tail = self.lanes[lane].tail.take().filter(|t| self.lanes[lane].takes_more(t, batches));
        let pieces = match &tail {
            Some(tail) => {
                let first = tail.piece.to_batch();
                join::join(std::iter::once(&first).chain(batches.iter().copied()), max)
            }
            None => join::join(batches.iter().copied(), max),
        };
        let mut last = None;
        for (i, piece) in pieces.into_iter().enumerate() {
            let head = match &tail {
                Some(tail) if i == 0 => {
                    let meta = &mut self.lanes[lane].meta;
                    let more = u64::from(piece.rows - tail.head.rows);
                    if let Some(era) = meta.eras.last_mut() {
                        era.next_seq += more;
                    }
                    self.replace(conn, lane, &tail.head, &piece, tail.head.last_seq + more)?
                }
                _ => self.insert(conn, now, lane, &piece, Kind::Rows)?,
            };
            last = Some(Tail { head, piece });
        }
        self.lanes[lane].tail = last.filter(|t| t.piece.body.len() < SMALL);
        for batch in batches {
            for position in positions(batch).filter(|_| !planted::on(Bug::ForgetPosition)) {
                meta::put_position(conn, &position)?;
            }
        }
        Ok(())
    }

    /// Stores `piece` as the lane's next batch.
    pub(super) fn insert(
        &mut self,
        conn: &Connection,
        now: Mono,
        lane: usize,
        piece: &Piece,
        kind: Kind,
    ) -> Result<Head, Fault> {
        // What is in memory comes before it.
        self.flush_lane(conn, lane)?;
        let made = self.elapsed(now);
        let head = self.lanes[lane].number(piece, kind, made, self.options.boot);
        self.insert_as(conn, lane, &head, piece)?;
        Ok(head)
    }

    /// Stores a batch that has its numbers.
    pub(super) fn insert_as(
        &mut self,
        conn: &Connection,
        lane: usize,
        head: &Head,
        piece: &Piece,
    ) -> Result<(), Fault> {
        self.tables.store(conn, head.id, piece)?;
        write_row(conn, head, &piece.body)?;
        let meta = &mut self.lanes[lane].meta;
        meta.bytes += head.cost();
        meta.batches += 1;
        meta.rows += u64::from(head.rows);
        meta.disk_n = meta.disk_n.max(head.id.n());
        Ok(())
    }

    /// Stores `piece` in place of the batch `old`, to end at `last_seq`.
    pub(super) fn replace(
        &mut self,
        conn: &Connection,
        lane: usize,
        old: &Head,
        piece: &Piece,
        last_seq: u64,
    ) -> Result<Head, Fault> {
        self.tables.store(conn, old.id, piece)?;
        let head = Head {
            last_seq,
            rows: piece.rows,
            crc: crc32c::crc32c(&piece.body),
            body_len: piece.body.len(),
            ..old.clone()
        };
        let changed = conn
            .prepare_cached(
                "UPDATE batch SET last_seq = ?2, rows = ?3, crc = ?4, head = ?5, body = ?6 WHERE id = ?1",
            )?
            .execute((
                head.id.0,
                head.last_seq as i64,
                head.rows,
                head.crc,
                head.checksum(),
                &piece.body[..],
            ))?;
        if changed != 1 {
            return Err(Fault::Corrupt(format!("batch {} is gone", head.id.0)));
        }
        let meta = &mut self.lanes[lane].meta;
        meta.bytes = (meta.bytes + head.cost()).saturating_sub(old.cost());
        meta.rows = (meta.rows + u64::from(head.rows)).saturating_sub(u64::from(old.rows));
        Ok(head)
    }

    /// Deletes one batch that is not acknowledged.
    pub(super) fn delete_batch(&mut self, conn: &Connection, lane: usize, n: u64) -> Result<Head, Fault> {
        let head = head_of(conn, StoredId::new(self.lanes[lane].meta.no, n))?;
        self.delete_known(conn, lane, &head)?;
        Ok(head)
    }

    pub(super) fn delete_known(&mut self, conn: &Connection, lane: usize, head: &Head) -> Result<(), Fault> {
        let gone = conn.prepare_cached("DELETE FROM batch WHERE id = ?1")?.execute([head.id.0])?;
        if gone != 1 {
            return Err(Fault::Corrupt(format!("batch {} is gone", head.id.0)));
        }
        let lane = &mut self.lanes[lane];
        lane.meta.bytes = lane.meta.bytes.saturating_sub(head.cost());
        lane.meta.batches = lane.meta.batches.saturating_sub(1);
        lane.meta.rows = lane.meta.rows.saturating_sub(u64::from(head.rows));
        if lane.tail.as_ref().is_some_and(|t| t.head.id == head.id) {
            lane.tail = None;
        }
        Ok(())
    }

    /// Writes what a lane has numbered in memory. Within a transaction; the memory is given up when
    /// it is committed.
    pub(super) fn flush_lane(&mut self, conn: &Connection, lane: usize) -> Result<(), Fault> {
        if self.lanes[lane].mem.is_empty() {
            return Ok(());
        }
        let mem = std::mem::take(&mut self.lanes[lane].mem);
        let flushed = self.flush_batches(conn, lane, &mem);
        self.lanes[lane].mem = mem;
        flushed
    }

    fn flush_batches(
        &mut self,
        conn: &Connection,
        lane: usize,
        mem: &VecDeque<MemBatch>,
    ) -> Result<(), Fault> {
        for m in mem {
            if m.head.id.n() > self.lanes[lane].meta.disk_n {
                // An acknowledged one only waits for those before it: it is not needed any more.
                if !m.acked {
                    self.insert_as(conn, lane, &m.head, &m.piece)?;
                }
                for position in &m.positions {
                    meta::put_position(conn, position)?;
                }
            }
        }
        if let Some(last) = mem.back() {
            let meta = &mut self.lanes[lane].meta;
            meta.disk_n = meta.disk_n.max(last.head.id.n());
        }
        Ok(())
    }

    /// Numbers the rows that wait in memory; not while it is unknown which numbers are given.
    pub(super) fn seal(&mut self, now: Mono, lane: usize) {
        if self.numbers_in_doubt(lane) {
            return;
        }
        let (max, made, boot) = (self.options.max_body_bytes, self.elapsed(now), self.options.boot);
        if let Some(lane) = self.lanes.get_mut(lane) {
            lane.seal(max, made, boot);
        }
    }

    /// Writes all memory out. `last`: nothing more will come, so no number stays reserved.
    pub(super) fn flush_all(&mut self, now: Mono, last: bool) -> Result<(), Fault> {
        let lanes: Vec<usize> = (0..self.lanes.len()).filter(|&l| self.lanes[l].in_memory()).collect();
        self.flush(now, &lanes, last)
    }

    /// Writes the memory of `lanes` out.
    pub(super) fn flush(&mut self, now: Mono, lanes: &[usize], last: bool) -> Result<(), Fault> {
        // Then it is known, too, what became of a commit in doubt.
        let conn = self.usable(now)?;
        self.conn = Some(conn);
        for &lane in lanes {
            self.seal(now, lane);
        }
        let bytes: u64 = lanes.iter().map(|&l| self.lanes[l].mem_bytes).sum();
        self.transact(now, true, |store, conn| {
            store.make_room(conn, now, bytes)?;
            for &lane in lanes {
                store.flush_lane(conn, lane)?;
                store.lanes[lane].renew_reservation(last);
            }
            store.enforce_limits(conn, now)
        })?;
        for &lane in lanes {
            self.lanes[lane].recent_rows = 0;
        }
        Ok(())
    }
}

impl Lane {
    /// Whether `batches` may be added to the tail `t`.
    fn takes_more(&self, t: &Tail, batches: &[&Batch]) -> bool {
        let bytes: usize = batches.iter().map(|b| b.body.len()).sum();
        t.piece.body.len() + bytes <= SMALL
            && self.is_private(t.head.id.n())
            && self.meta.era().is_some_and(|e| e.stamped == t.head.epoch && e.next_seq == t.head.last_seq + 1)
            && batches.iter().all(|b| b.source == t.piece.source && b.clock == t.piece.clock)
    }

    /// Gives `piece` its number, epoch and sequence numbers.
    fn number(&mut self, piece: &Piece, kind: Kind, made: u64, boot: u64) -> Head {
        let rows = u64::from(piece.rows);
        let (n, epoch, first_seq) = self.meta.take(rows);
        Head {
            id: StoredId::new(self.meta.no, n),
            lane: self.options.name.clone(),
            epoch,
            first_seq,
            last_seq: first_seq + rows.saturating_sub(1),
            rows: piece.rows,
            made,
            boot,
            clock: piece.clock,
            kind,
            source: piece.source.clone(),
            crc: crc32c::crc32c(&piece.body),
            body_len: piece.body.len(),
        }
    }

    /// Keeps a batch in memory.
    fn keep(&mut self, now: Mono, batch: Batch) {
        self.mem_used = now;
        self.mem_since.get_or_insert(now);
        self.pending_rows += u64::from(batch.rows);
        self.recent_rows += u64::from(batch.rows);
        let piece = Piece::from(batch.clone());
        self.mem_bytes += piece.cost();
        self.pending.push(batch);
    }

    fn seal(&mut self, max_body: usize, made: u64, boot: u64) {
        if self.pending.is_empty() {
            return;
        }
        let pending = std::mem::take(&mut self.pending);
        let before: u64 = pending.iter().map(|b| b.body.len() as u64 + super::stored::OVERHEAD).sum();
        let mut after = 0;
        for piece in join::join(&pending, max_body) {
            after += piece.cost();
            let head = self.number(&piece, Kind::Rows, made, boot);
            self.mem.push_back(MemBatch { head, piece, positions: Vec::new(), acked: false });
        }
        self.mem_bytes = (self.mem_bytes + after).saturating_sub(before);
        self.pending_rows = 0;
        // Behind all rows that they speak of.
        let positions = pending.iter().flat_map(positions);
        match self.mem.back_mut() {
            Some(last) => last.positions.extend(positions),
            // Not in doubt: whoever finds a transaction on disk must not take them for stored.
            None => self.settled.extend(positions.map(|p| (u64::MAX, p))),
        }
    }

    /// Whether `rows` more in memory need numbers that are not reserved.
    fn must_reserve(&self, rows: u64) -> bool {
        self.meta.next_seq() + self.pending_rows + rows > self.meta.reserved.saturating_add(1)
    }

    pub(super) fn reserve(&mut self, rows: u64) {
        let ahead = self.recent_rows.saturating_mul(2).clamp(AHEAD.0, AHEAD.1);
        self.meta.reserved = self.meta.next_seq() + self.pending_rows + rows + ahead;
    }

    /// After a flush: numbers stay reserved only while rows keep coming.
    fn renew_reservation(&mut self, last: bool) {
        if last || self.recent_rows == 0 {
            self.meta.reserved = self.meta.next_seq() + self.pending_rows - 1;
        } else {
            self.reserve(0);
        }
    }
}

impl Piece {
    /// As a batch of an input, to be joined with others.
    fn to_batch(&self) -> Batch {
        Batch {
            source: self.source.clone(),
            origin: crate::event::Origin::Input,
            clock: self.clock,
            tables: self.tables.clone(),
            rows: self.rows,
            body: self.body.clone(),
            positions: Vec::new(),
        }
    }
}

fn positions(batch: &Batch) -> impl Iterator<Item = Position> {
    batch.positions.iter().map(|(key, value)| (batch.source.clone(), key.clone(), value.clone()))
}

/// Writes a row of `batch`.
pub(super) fn write_row(conn: &Connection, head: &Head, body: &[u8]) -> Result<(), Fault> {
    conn.prepare_cached(
        "INSERT INTO batch(id, lane, epoch, first_seq, last_seq, rows, made, boot, clock, boot_offset, kind, \
         source, crc, head, body) VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)",
    )?
    .execute(rusqlite::params![
        head.id.0,
        &*head.lane,
        head.epoch as i64,
        head.first_seq as i64,
        head.last_seq as i64,
        head.rows,
        head.made as i64,
        head.boot as i64,
        clock_number(head.clock.state),
        head.clock.boot_offset_us,
        head.kind as i64,
        &*head.source,
        head.crc,
        head.checksum(),
        body,
    ])?;
    Ok(())
}

/// The head of one batch, which must be there.
pub(super) fn head_of(conn: &Connection, id: StoredId) -> Result<Head, Fault> {
    let mut statement = conn.prepare_cached(&format!("SELECT {HEAD} FROM batch WHERE id = ?1"))?;
    let mut rows = statement.query([id.0])?;
    match rows.next()? {
        Some(row) => Head::read(row),
        None => Err(Fault::Corrupt(format!("batch {} is gone", id.0))),
    }
}

/// The body of one batch, which must be there.
pub(super) fn body_of(conn: &Connection, head: &Head) -> Result<Bytes, Fault> {
    let found: Option<Vec<u8>> = conn
        .prepare_cached("SELECT body FROM batch WHERE id = ?1")?
        .query_row([head.id.0], |r| r.get(0))
        .optional()?;
    let body = found.ok_or_else(|| Fault::Corrupt(format!("batch {} is gone", head.id.0)))?;
    if crc32c::crc32c(&body) != head.crc {
        return Err(Fault::Corrupt(format!("batch {} has a wrong checksum", head.id.0)));
    }
    Ok(body.into())
}

/// Whether a batch is there.
pub(super) fn exists(conn: &Connection, id: StoredId) -> Result<bool, Fault> {
    let found: Option<i64> = conn
        .prepare_cached("SELECT 1 FROM batch WHERE id = ?1")?
        .query_row([id.0], |r| r.get(0))
        .optional()?;
    Ok(found.is_some())
}

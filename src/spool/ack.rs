//! What the centre has: forgotten, or kept for a while for a centre that may be restored.
//!
//! An acknowledgement needs no durability: if it is lost, the batch goes out again and the centre
//! knows it. So it waits for a transaction that has another reason, for company, or for a while.

use rusqlite::{Connection, OptionalExtension};

use super::error::{Fault, SpoolError};
use super::handle::Released;
use super::lane::{Cost, Lane};
use super::meta;
use super::options::KeepAcked;
use super::store::Store;
use super::stored::{HEAD, Head, MAX_NUMBER, StoredId};
use crate::runtime::Mono;

/// Acknowledged batches and bytes of a lane that are deleted without waiting longer.
const COMPANY: (usize, u64) = (256, 1 << 20);

impl Store {
    /// These batches are durable at the centre. Ids that are not in the window are ignored.
    pub fn ack(&mut self, now: Mono, lane: &str, ids: &[StoredId]) -> Result<(), SpoolError> {
        let index = self.find_lane(lane)?;
        let lane = &mut self.lanes[index];
        let mut rows = 0;
        for id in ids.iter().filter(|id| id.lane() == lane.meta.no) {
            let Some(cost) = lane.window.remove(&id.n()) else { continue };
            rows += cost.rows;
            if id.n() > lane.meta.disk_n {
                lane.mem_used = now;
                if let Some(m) = lane.mem.iter_mut().find(|m| m.head.id == *id) {
                    m.acked = true;
                }
            } else {
                lane.acked.insert(id.n(), cost);
                self.acked_since.get_or_insert(now);
            }
        }
        lane.pop_acked();
        self.freed += 1;
        crate::telemetry::count("dts_spool_acked_rows_total", &[("lane", lane.name())], rows);
        let bytes: u64 = lane.acked.values().map(|c| c.bytes).sum();
        if lane.acked.len() >= COMPANY.0 || bytes >= COMPANY.1 {
            self.delete_acked(now);
        }
        Ok(())
    }

    /// Which batches an acknowledgement of `ids` would release: those in the window that can be read.
    pub(super) fn released(&self, lane: &str, ids: &[StoredId]) -> Vec<Released> {
        let Some(lane) = self.lane_index(lane).and_then(|i| self.lanes.get(i)) else { return Vec::new() };
        let in_window = ids.iter().filter(|id| lane.window.contains_key(&id.n()));
        let heads = in_window.filter_map(|id| match lane.mem.iter().find(|m| m.head.id == *id) {
            Some(m) => Some(m.head.clone()),
            None => super::append::head_of(self.conn.as_ref()?, *id).ok(),
        });
        let released = heads.map(|head| Released {
            lane: lane.name().clone(),
            epoch: lane.meta.outside(head.epoch),
            first_seq: head.first_seq,
            last_seq: head.last_seq,
            rows: head.rows,
        });
        released.collect()
    }

    /// Nothing is in the window any more: the connection is gone. What was handed out and not
    /// acknowledged will be read again.
    pub fn release(&mut self, lane: &str) -> Result<(), SpoolError> {
        let lane = self.find_lane(lane)?;
        self.lanes[lane].window.clear();
        Ok(())
    }

    /// Deletes what is acknowledged, in a transaction of its own. Errors are left to the next one.
    pub(super) fn delete_acked(&mut self, now: Mono) {
        if let Err(fault) = self.transact(now, false, |_, _| Ok(())) {
            log::debug!("buffer: {}", fault.public());
        }
    }

    /// Within a transaction: deletes what is acknowledged, and stores the positions that came with what
    /// was acknowledged in memory.
    pub(super) fn settle_acked(&mut self, conn: &Connection, now: Mono) -> Result<(), Fault> {
        self.apply_acks(conn, now)?;
        for (_, position) in self.lanes.iter().flat_map(|l| &l.settled) {
            meta::put_position(conn, position)?;
        }
        Ok(())
    }

    /// Within a transaction: deletes what is acknowledged. The lists are emptied when it is committed.
    fn apply_acks(&mut self, conn: &Connection, now: Mono) -> Result<(), Fault> {
        for lane in 0..self.lanes.len() {
            if let Some(keep) = self.lanes[lane].options.keep_acked {
                self.move_acked(conn, lane)?;
                self.trim_kept(conn, now, lane, keep)?;
                continue;
            }
            let lane = &mut self.lanes[lane];
            if lane.acked.is_empty() {
                continue;
            }
            let mut acked = lane.acked.iter().peekable();
            while let Some((&first, cost)) = acked.next() {
                let (mut last, mut batches, mut sum) = (first, 1, *cost);
                while let Some((&n, cost)) = acked.next_if(|(n, _)| **n == last + 1) {
                    (last, batches) = (n, batches + 1);
                    sum = Cost { bytes: sum.bytes + cost.bytes, rows: sum.rows + cost.rows };
                }
                let (from, to) = (StoredId::new(lane.meta.no, first), StoredId::new(lane.meta.no, last));
                let gone = conn
                    .prepare_cached("DELETE FROM batch WHERE id BETWEEN ?1 AND ?2")?
                    .execute([from.0, to.0])?;
                if gone != batches {
                    return Err(Fault::Corrupt(format!("of {batches} batches {gone} are there")));
                }
                lane.meta.batches = lane.meta.batches.saturating_sub(batches as u64);
                lane.meta.bytes = lane.meta.bytes.saturating_sub(sum.bytes);
                lane.meta.rows = lane.meta.rows.saturating_sub(sum.rows);
                if lane.tail.as_ref().is_some_and(|t| t.head.id <= to) {
                    lane.tail = None;
                }
            }
            lane.look_up_front(conn)?;
        }
        Ok(())
    }

    /// Moves the mark of what is acknowledged over the batches that are, without a gap.
    fn move_acked(&mut self, conn: &Connection, lane: usize) -> Result<(), Fault> {
        let lane = &mut self.lanes[lane];
        if lane.acked.is_empty() {
            return Ok(());
        }
        let (from, to) = lane.ids(lane.meta.acked_n, MAX_NUMBER);
        let mut statement =
            conn.prepare_cached("SELECT id FROM batch WHERE id > ?1 AND id <= ?2 ORDER BY id")?;
        let mut rows = statement.query([from.0, to.0])?;
        while let Some(row) = rows.next()? {
            let n = StoredId(row.get(0)?).n();
            let Some(cost) = lane.acked.get(&n) else { break };
            lane.meta.acked_n = n;
            lane.meta.batches = lane.meta.batches.saturating_sub(1);
            lane.meta.bytes = lane.meta.bytes.saturating_sub(cost.bytes);
            lane.meta.rows = lane.meta.rows.saturating_sub(cost.rows);
            lane.meta.kept_batches += 1;
            lane.meta.kept_bytes += cost.bytes;
            lane.meta.kept_rows += cost.rows;
        }
        if lane.tail.as_ref().is_some_and(|t| t.head.id.n() <= lane.meta.acked_n) {
            lane.tail = None;
        }
        Ok(())
    }

    /// Deletes kept batches that are beyond what is to be kept.
    fn trim_kept(&mut self, conn: &Connection, now: Mono, lane: usize, keep: KeepAcked) -> Result<(), Fault> {
        let old =
            self.elapsed(now).saturating_sub(u64::try_from(keep.max_age.as_micros()).unwrap_or(u64::MAX));
        while let Some(head) = self.oldest_kept(conn, lane)? {
            if self.lanes[lane].meta.kept_bytes <= keep.max_bytes && head.made >= old {
                break;
            }
            self.delete_kept(conn, lane, &head)?;
        }
        Ok(())
    }

    /// The oldest batch that is acknowledged and kept.
    pub(super) fn oldest_kept(&self, conn: &Connection, lane: usize) -> Result<Option<Head>, Fault> {
        let lane = &self.lanes[lane];
        if lane.meta.kept_batches == 0 {
            return Ok(None);
        }
        let (from, to) = lane.ids(0, lane.meta.acked_n);
        let mut statement = conn.prepare_cached(&format!(
            "SELECT {HEAD} FROM batch WHERE id > ?1 AND id <= ?2 ORDER BY id LIMIT 1"
        ))?;
        let mut rows = statement.query([from.0, to.0])?;
        match rows.next()? {
            Some(row) => Head::read(row).map(Some),
            None => Err(Fault::corrupt("kept batches are gone")),
        }
    }

    pub(super) fn delete_kept(&mut self, conn: &Connection, lane: usize, head: &Head) -> Result<(), Fault> {
        let gone = conn.prepare_cached("DELETE FROM batch WHERE id = ?1")?.execute([head.id.0])?;
        if gone != 1 {
            return Err(Fault::Corrupt(format!("batch {} is gone", head.id.0)));
        }
        let meta = &mut self.lanes[lane].meta;
        meta.kept_batches = meta.kept_batches.saturating_sub(1);
        meta.kept_bytes = meta.kept_bytes.saturating_sub(head.cost());
        meta.kept_rows = meta.kept_rows.saturating_sub(u64::from(head.rows));
        Ok(())
    }
}

impl Lane {
    /// Notes where the lane begins now.
    fn look_up_front(&mut self, conn: &Connection) -> Result<(), Fault> {
        let (from, to) = self.ids(self.meta.acked_n, MAX_NUMBER);
        let first: Option<(i64, i64, i64)> = conn
            .prepare_cached(
                "SELECT id, epoch, first_seq FROM batch WHERE id > ?1 AND id <= ?2 ORDER BY id LIMIT 1",
            )?
            .query_row([from.0, to.0], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?)))
            .optional()?;
        let end = self.meta.era().map(|e| (e.stamped, e.next_seq));
        self.meta.front = first.map(|(_, epoch, seq)| (epoch as u64, seq as u64)).or(end);
        let in_memory = self.mem.front().map(|m| m.head.id.n());
        let first_n = first.map(|(id, _, _)| StoredId(id).n()).or(in_memory).unwrap_or(self.meta.next_n);
        if self.meta.kept_batches == 0 {
            self.meta.trim_eras(first_n);
        }
        Ok(())
    }
}

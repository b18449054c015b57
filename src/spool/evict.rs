//! The limits by bytes and by age, and what goes when they are reached.

use rusqlite::Connection;

use super::error::Fault;
use super::loss::Lost;
use super::options::Policy;
use super::store::Store;
use super::stored::{HEAD, Head, Kind, MAX_NUMBER};
use crate::planted::{self, Bug};
use crate::runtime::Mono;

/// Batches looked at in one step.
const STEP: usize = 64;

/// What a step evicts.
struct Evict {
    /// As many bytes, at least.
    bytes: u64,
    /// And all that was made before.
    made_before: u64,
    reason: &'static str,
}

impl Store {
    /// Whether something may be dropped so that `lane` can store: its own, or what weighs no more.
    pub(super) fn can_drop(&self, lane: usize) -> bool {
        self.droppable(Some(lane)).next().is_some() || self.lanes.iter().any(|l| l.meta.kept_bytes > 0)
    }

    /// Lanes whose policy allows to drop, and that hold something that can be, lightest first. The
    /// lane `own` counts even if it holds nothing yet.
    fn droppable(&self, own: Option<usize>) -> impl Iterator<Item = usize> + use<> {
        let mut lanes: Vec<(u32, usize)> = self
            .lanes
            .iter()
            .enumerate()
            .filter(|(i, l)| l.options.policy != Policy::Block && (l.on_disk() || own == Some(*i)))
            .map(|(i, l)| (l.options.weight, i))
            .collect();
        lanes.sort_unstable();
        lanes.into_iter().map(|(_, i)| i)
    }

    /// Within a transaction: brings every lane, and the whole, within its limits.
    pub(super) fn enforce_limits(&mut self, conn: &Connection, now: Mono) -> Result<(), Fault> {
        for lane in 0..self.lanes.len() {
            self.enforce_lane(conn, now, lane)?;
        }
        let max = self.options.max_bytes;
        while self.total_on_disk() > max {
            // With some air, so that not every transaction evicts.
            let bytes = self.total_on_disk() - max + (max / 64).min(1 << 20);
            if !self.drop_some(conn, now, bytes)? {
                break;
            }
        }
        Ok(())
    }

    fn total_on_disk(&self) -> u64 {
        self.lanes.iter().map(|l| l.meta.bytes + l.meta.kept_bytes).sum()
    }

    fn enforce_lane(&mut self, conn: &Connection, now: Mono, lane: usize) -> Result<(), Fault> {
        let max = self.lanes[lane].options.max_bytes;
        if self.lanes[lane].options.policy == Policy::Block {
            return Ok(());
        }
        while self.lanes[lane].bytes_on_disk() > max {
            let over = self.lanes[lane].bytes_on_disk() - max;
            if self.reduce(conn, now, lane)? > 0 {
                continue;
            }
            let bytes = over + (max / 64).min(1 << 20);
            if self.evict(conn, now, lane, &Evict { bytes, made_before: 0, reason: "max_bytes" })? == 0 {
                break;
            }
        }
        Ok(())
    }

    /// Drops about `bytes` of what matters least: what is kept though acknowledged, then the oldest of
    /// the lightest lane that may drop. False if there is nothing.
    pub(super) fn drop_some(&mut self, conn: &Connection, now: Mono, bytes: u64) -> Result<bool, Fault> {
        for lane in 0..self.lanes.len() {
            if let Some(head) = self.oldest_kept(conn, lane)? {
                self.delete_kept(conn, lane, &head)?;
                return Ok(true);
            }
        }
        for lane in self.droppable(None) {
            if self.evict(conn, now, lane, &Evict { bytes, made_before: 0, reason: "max_bytes" })? > 0 {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Within a transaction: drops what is older than its lane's limit of age.
    pub(super) fn drop_aged(&mut self, conn: &Connection, now: Mono) -> Result<(), Fault> {
        for lane in 0..self.lanes.len() {
            let Some(age) = self.lanes[lane].options.max_age else { continue };
            let age = u64::try_from(age.as_micros()).unwrap_or(u64::MAX);
            let made_before = self.elapsed(now).saturating_sub(age);
            let step = Evict { bytes: 0, made_before, reason: "max_age" };
            while self.evict(conn, now, lane, &step)? > 0 {}
        }
        Ok(())
    }

    /// Evicts the oldest batches of a lane that are not in the window, a step of them. Returns the
    /// bytes that went.
    fn evict(&mut self, conn: &Connection, now: Mono, lane: usize, what: &Evict) -> Result<u64, Fault> {
        let mut gone: Vec<Head> = Vec::new();
        let mut freed = 0;
        let mut after = self.lanes[lane].meta.acked_n;
        // The window is at the front, so a second look is needed only while it is long.
        'look: loop {
            let heads = self.heads(conn, lane, after, STEP)?;
            let Some(last) = heads.last() else { break };
            after = last.id.n();
            for head in heads {
                if freed >= what.bytes && head.made >= what.made_before {
                    break 'look;
                }
                let l = &self.lanes[lane];
                let held = l.window.contains_key(&head.id.n()) || l.acked.contains_key(&head.id.n());
                if held && !planted::on(Bug::EvictWindow) || head.kind == Kind::Loss {
                    continue;
                }
                freed += head.cost();
                gone.push(head);
            }
            if gone.len() >= STEP {
                break;
            }
        }
        for head in &gone {
            self.delete_known(conn, lane, head)?;
        }
        for lost in self.ranges(lane, &gone, what.reason) {
            if planted::on(Bug::EvictSilently) {
                break;
            }
            self.lose(conn, now, lane, &lost)?;
        }
        if !gone.is_empty() {
            self.freed += 1;
        }
        Ok(freed)
    }

    /// Batches that are gone, as ranges without a gap.
    fn ranges(&self, lane: usize, gone: &[Head], reason: &'static str) -> Vec<Lost> {
        let meta = &self.lanes[lane].meta;
        let mut ranges: Vec<Lost> = Vec::new();
        for head in gone {
            let epoch = meta.outside(head.epoch);
            // One that was handed out may have arrived.
            let exact = head.id.n() > self.lanes[lane].handed;
            let rows = u64::from(head.rows);
            match ranges.last_mut() {
                Some(r) if r.epoch == epoch && r.exact == exact && r.to + 1 == head.first_seq => {
                    r.to = head.last_seq;
                    r.rows += rows;
                }
                _ => {
                    ranges.push(Lost { epoch, from: head.first_seq, to: head.last_seq, rows, reason, exact })
                }
            }
        }
        ranges
    }

    /// Heads of the batches behind number `after`, at most `limit`.
    pub(super) fn heads(
        &self,
        conn: &Connection,
        lane: usize,
        after: u64,
        limit: usize,
    ) -> Result<Vec<Head>, Fault> {
        let lane = &self.lanes[lane];
        let (from, to) = lane.ids(after, MAX_NUMBER);
        let mut statement = conn.prepare_cached(&format!(
            "SELECT {HEAD} FROM batch WHERE id > ?1 AND id <= ?2 ORDER BY id LIMIT ?3"
        ))?;
        let mut rows = statement.query([from.0, to.0, limit as i64])?;
        let mut heads = Vec::new();
        while let Some(row) = rows.next()? {
            heads.push(Head::read(row)?);
        }
        Ok(heads)
    }
}

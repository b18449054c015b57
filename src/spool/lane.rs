//! A lane in memory. Its size is bounded by the window and by `memory_bytes`, never by the backlog.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use rusqlite::Connection;

use super::loss::Lost;
use super::meta::{LaneMeta, Position};
use super::options::{Class, LaneOptions};
use super::stored::{Head, Kind, Piece, StoredId};
use crate::event::{Batch, Table};
use crate::planted::{self, Bug};
use crate::runtime::Mono;

/// Batches that may be handed out before the counters must say so.
const HANDED_AHEAD: u64 = 64;
/// The same, rows: fewest and most.
const HANDED_ROWS_AHEAD: (u64, u64) = (64, 65_536);

#[derive(Debug)]
pub(super) struct Lane {
    pub options: LaneOptions,
    /// Stands in the config, so it takes batches.
    pub configured: bool,
    pub meta: LaneMeta,
    /// What stands on disk of `meta`: it is written only when it changed.
    pub written: Option<LaneMeta>,
    /// Taken and acknowledged, without numbers yet (not [`Class::Fsync`]).
    pub pending: Vec<Batch>,
    pub pending_rows: u64,
    /// Rows taken since the last flush: how far to reserve ahead.
    pub recent_rows: u64,
    /// Numbered, in memory only, in order; all behind what is on disk.
    pub mem: VecDeque<MemBatch>,
    /// Bytes of `pending` and `mem`, overhead included.
    pub mem_bytes: u64,
    /// Since when something is in memory only.
    pub mem_since: Option<Mono>,
    /// When something last came in or went out of memory, for giving back the reservation.
    pub mem_used: Mono,
    /// Positions of batches that were acknowledged while they were in memory, each with the batch's number.
    pub settled: Vec<(u64, Position)>,
    /// Number of the last batch that was handed out; `meta` has a bound of it.
    pub handed: u64,
    /// Stamped epoch and sequence number up to which rows were handed out; `meta` has a bound of it.
    pub handed_to: Option<(u64, u64)>,
    /// How far the bound is to be ahead, once something was handed out in this run. 0: nothing was.
    pub handed_ahead: u64,
    /// Handed out and not acknowledged: batch number → cost.
    pub window: BTreeMap<u64, Cost>,
    /// Acknowledged, on disk, not yet deleted.
    pub acked: BTreeMap<u64, Cost>,
    /// The last batch on disk, if rows can still be added to it.
    pub tail: Option<Tail>,
    /// Last batch of the last run that was tried to be reduced, and what the sweep it is part of freed.
    pub reduced_n: u64,
    pub sweep_freed: u64,
}

/// What a batch counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Cost {
    pub bytes: u64,
    pub rows: u64,
}

#[derive(Clone, Debug)]
pub(super) struct MemBatch {
    pub head: Head,
    pub piece: Piece,
    pub positions: Vec<Position>,
    /// Acknowledged, waiting for those before it.
    pub acked: bool,
}

/// A small batch that later rows of the same source are added to, so that an event a second does
/// not become a frame a second. Never one that was handed out: its crc may be known to the centre.
#[derive(Clone, Debug)]
pub(super) struct Tail {
    pub head: Head,
    pub piece: Piece,
}

impl Lane {
    pub(super) fn new(options: LaneOptions, configured: bool, meta: LaneMeta) -> Self {
        Self {
            options,
            configured,
            handed: meta.handed,
            handed_to: meta.handed_to,
            handed_ahead: 0,
            meta,
            written: None,
            pending: Vec::new(),
            pending_rows: 0,
            recent_rows: 0,
            mem: VecDeque::new(),
            mem_bytes: 0,
            mem_since: None,
            mem_used: Mono(0),
            settled: Vec::new(),
            window: BTreeMap::new(),
            acked: BTreeMap::new(),
            tail: None,
            reduced_n: 0,
            sweep_freed: 0,
        }
    }

    pub(super) fn name(&self) -> &Arc<str> {
        &self.options.name
    }

    pub(super) fn in_memory(&self) -> bool {
        self.options.class != Class::Fsync
    }

    /// Everything held that counts against the limits: on disk and in memory, less what is
    /// acknowledged and only waits to be deleted.
    pub(super) fn bytes(&self) -> u64 {
        let acked: u64 = self.acked.values().map(|c| c.bytes).sum();
        (self.meta.bytes + self.mem_bytes).saturating_sub(acked)
    }

    /// Bytes on disk that count against the limit.
    pub(super) fn bytes_on_disk(&self) -> u64 {
        self.meta.bytes
    }

    /// The id range of the lane's batches with numbers from `from` to `to`.
    pub(super) fn ids(&self, from: u64, to: u64) -> (StoredId, StoredId) {
        (StoredId::new(self.meta.no, from), StoredId::new(self.meta.no, to))
    }

    /// Whether the body of batch `n` may be written anew: nobody outside ever saw it.
    pub(super) fn is_private(&self, n: u64) -> bool {
        n > self.handed && !self.window.contains_key(&n)
    }

    /// Whether anything of the lane is on disk.
    pub(super) fn on_disk(&self) -> bool {
        self.meta.batches + self.meta.kept_batches > 0
    }

    /// Batches on disk that are not acknowledged.
    pub(super) fn unread(&self) -> u64 {
        self.meta.batches.saturating_sub(self.acked.len() as u64)
    }

    /// Lowest sequence number in memory of the epoch `stamped`.
    pub(super) fn base_in_memory(&self, stamped: u64) -> Option<u64> {
        self.mem.iter().find(|m| m.head.epoch == stamped && !m.acked).map(|m| m.head.first_seq)
    }

    /// Notes in the counters how far batches are handed out before the next transaction.
    pub(super) fn set_handed(&mut self) {
        if self.handed + HANDED_AHEAD / 2 > self.meta.handed {
            self.meta.handed = self.handed + HANDED_AHEAD;
        }
        // While nothing is handed out the bound stands, however much is stored: a mark beyond it is another's.
        let ahead = self.handed_ahead;
        let Some(to) = self.handed_to.filter(|_| ahead > 0) else { return };
        let bound = self.meta.handed_to.unwrap_or_default();
        if self.meta.rank((to.0, to.1.saturating_add(ahead / 2))) >= self.meta.rank(bound) {
            let issued = self.meta.issued_to();
            let (stamped, seq) = if self.meta.rank(issued) > self.meta.rank(to) { issued } else { to };
            self.meta.handed_to = Some((stamped, seq.saturating_add(ahead)));
        }
    }

    /// The first rows of a new lane go out without a transaction of their own.
    pub(super) fn begin_handing(&mut self) {
        self.meta.handed_to = self.meta.era().map(|e| (e.stamped, HANDED_ROWS_AHEAD.0));
    }

    /// Rows are handed out up to (stamped epoch, sequence number) `to`.
    pub(super) fn hand_out(&mut self, to: (u64, u64), rows: u64) {
        // What an earlier release handed out is not known: perhaps all.
        let known = self.handed_to.unwrap_or_else(|| self.meta.issued_to());
        self.handed_to = Some(if self.meta.rank(to) > self.meta.rank(known) {
            self.handed_ahead = rows.saturating_mul(2).clamp(HANDED_ROWS_AHEAD.0, HANDED_ROWS_AHEAD.1);
            to
        } else {
            known
        });
    }

    /// Whether rows on disk were handed out beyond the bound in the counters.
    pub(super) fn must_note_handed(&self, on_disk_to: Option<(u64, u64)>) -> bool {
        let beyond = |to| self.meta.handed_to.is_none_or(|b| self.meta.rank(to) > self.meta.rank(b));
        self.handed.min(self.meta.disk_n) > self.meta.handed || on_disk_to.is_some_and(beyond)
    }

    /// Notes in the counters what of the last era is in memory only: what a power cut would lose.
    pub(super) fn set_volatile(&mut self) {
        let disk_n = self.meta.disk_n;
        let first = self.mem.iter().find(|m| m.head.id.n() > disk_n && !m.acked);
        self.meta.volatile_from = match first {
            _ if self.meta.reserved == 0 => 0,
            Some(m) if self.meta.era().is_some_and(|e| e.stamped == m.head.epoch) => m.head.first_seq,
            _ => self.meta.next_seq(),
        };
    }

    /// After an unclean end: the numbers that were given to rows in memory are skipped, and named.
    pub(super) fn power_loss(&mut self) -> Option<Lost> {
        let meta = &mut self.meta;
        let (from, to) = (meta.volatile_from, meta.reserved);
        // Rows in memory are handed out without a word in the counters.
        if let (Some(era), Some(handed)) = (meta.era(), meta.handed_to)
            && to > 0
            && meta.rank((era.stamped, to)) > meta.rank(handed)
        {
            meta.handed_to = Some((era.stamped, to));
            self.handed_to = meta.handed_to;
        }
        meta.reserved = 0;
        meta.volatile_from = 0;
        let era = meta.eras.last_mut()?;
        if planted::on(Bug::ReuseSeqAfterCrash) {
            return None;
        }
        era.next_seq = era.next_seq.max(to.saturating_add(1));
        let epoch = era.epoch;
        if to == 0 || from > to {
            return None;
        }
        Some(Lost { epoch, from, to, rows: to - from + 1, reason: "power", exact: false })
    }

    /// After a commit: what it wrote is no longer in memory, what it deleted no longer waits.
    pub(super) fn committed(&mut self) {
        self.leave_memory();
        self.settled.clear();
        if self.options.keep_acked.is_some() {
            let acked_n = self.meta.acked_n;
            self.acked.retain(|&n, _| n > acked_n);
        } else {
            self.acked.clear();
        }
        if self.written.as_ref() != Some(&self.meta) {
            self.written = Some(self.meta.clone());
        }
    }

    /// A transaction that counted as failed is on disk: the lane is as it left it (`after`), and as it was changed since:
    /// rows got numbers, batches were acknowledged. `settled`: how many of the positions it stored.
    pub(super) fn landed(&mut self, conn: &Connection, before: &LaneMeta, after: LaneMeta, settled: usize) {
        let given = self.meta.next_n > before.next_n;
        let (next_n, next_seq) = (self.meta.next_n, self.meta.next_seq());
        let (old_n, disk_n) = (before.disk_n, after.disk_n);
        self.written = Some(after.clone());
        self.meta = after;
        if given {
            self.meta.next_n = next_n;
            if let Some(era) = self.meta.eras.last_mut() {
                era.next_seq = next_seq;
            }
        }
        self.tail = None;
        self.settled.drain(..settled.min(self.settled.len()));
        self.settled.retain(|(n, _)| *n > disk_n);
        // What was acknowledged since is still in the file.
        let (no, kept_n) = (self.meta.no, self.meta.acked_n);
        let is_there = |n: u64| super::append::exists(conn, StoredId::new(no, n)).unwrap_or(false);
        self.acked.retain(|&n, _| n > kept_n && is_there(n));
        for n in old_n + 1..=disk_n {
            let held = self.mem.iter().any(|m| m.head.id.n() == n && !m.acked);
            if self.in_memory()
                && !held
                && let Ok(head) = super::append::head_of(conn, StoredId::new(no, n))
                && head.kind == Kind::Rows
            {
                self.acked.insert(n, Cost { bytes: head.cost(), rows: u64::from(head.rows) });
            }
        }
        self.leave_memory();
    }

    /// What is on disk is no longer in memory.
    fn leave_memory(&mut self) {
        let disk_n = self.meta.disk_n;
        while self.mem.front().is_some_and(|m| m.head.id.n() <= disk_n) {
            let Some(m) = self.mem.pop_front() else { break };
            self.mem_bytes = self.mem_bytes.saturating_sub(m.piece.cost());
        }
        if self.mem.is_empty() && self.pending.is_empty() {
            self.mem_since = None;
        }
    }

    /// Removes acknowledged batches from the front of the memory; their positions become settled.
    pub(super) fn pop_acked(&mut self) {
        while self.mem.front().is_some_and(|m| m.acked) {
            let Some(m) = self.mem.pop_front() else { break };
            self.mem_bytes = self.mem_bytes.saturating_sub(m.piece.cost());
            self.settled.extend(m.positions.into_iter().map(|p| (m.head.id.n(), p)));
        }
        if self.mem.is_empty() && self.pending.is_empty() {
            self.mem_since = None;
        }
    }
}

/// Hashes of a piece's tables, in the body's order.
pub(super) fn shapes(piece: &Piece) -> impl Iterator<Item = (u64, &Arc<Table>)> {
    let hashes = crate::event::batch::split_body(&piece.body).map(|(h, _)| h).unwrap_or_default();
    hashes.into_iter().zip(piece.tables.iter())
}

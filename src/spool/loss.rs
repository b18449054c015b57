//! What had to be given up, said in the lane itself: rows of the shape `event::builtin::loss`.
//!
//! A loss record is written in the transaction that loses, at the end of the lane, and never
//! evicted. While it was not handed out it grows with what follows it without a gap, so that a lane
//! that loses steadily holds one record, not one a batch. It only ever names numbers below its own.

use rusqlite::Connection;

use super::error::Fault;
use super::meta::LossRef;
use super::store::Store;
use super::stored::{Kind, Piece, StoredId};
use crate::event::batch::MONOTONIC;
use crate::event::builtin::{self, Loss};
use crate::event::{BatchBuilder, Op};
use crate::runtime::Mono;

/// Records of a lane that can still grow.
const OPEN: usize = 8;

/// A range that is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Lost {
    /// What it is called outside.
    pub epoch: u64,
    pub from: u64,
    pub to: u64,
    pub rows: u64,
    /// FORMATS: `max_bytes`, `max_age`, `compact`, `downsample`, `power`, `corrupt`, `refused`.
    pub reason: &'static str,
    pub exact: bool,
}

impl Store {
    /// Records `lost` in the lane, within a transaction.
    pub(super) fn lose(
        &mut self,
        conn: &Connection,
        now: Mono,
        lane: usize,
        lost: &Lost,
    ) -> Result<(), Fault> {
        let name = self.lanes[lane].name();
        let bound = if lost.exact { "exact" } else { "at_most" };
        let labels = [("lane", &**name), ("reason", lost.reason), ("bound", bound)];
        crate::telemetry::count("dts_spool_lost_rows_total", &labels, lost.rows);
        let handed = self.lanes[lane].handed;
        let meta = &mut self.lanes[lane].meta;
        meta.lost_rows = meta.lost_rows.saturating_add(lost.rows);
        meta.losses.retain(|l| l.n > handed);
        let mut new = LossRef {
            n: 0,
            seq: 0,
            epoch: lost.epoch,
            from: lost.from,
            to: lost.to,
            rows: lost.rows,
            reason: lost.reason.into(),
            exact: lost.exact,
        };
        let same = |l: &LossRef| l.epoch == new.epoch && l.reason == new.reason && l.exact == new.exact;
        // Rows that stay stand among those that a reduction took: only their count says how many went.
        let reduces = matches!(lost.reason, "compact" | "downsample");
        let grown = meta
            .losses
            .iter()
            .position(|l| same(l) && l.seq > lost.to && (reduces || l.to.checked_add(1) == Some(lost.from)));
        // The record stands in the middle of what is lost: it is withdrawn, and its number with it.
        let passed = meta.losses.iter().position(|l| {
            let follows = l.to.checked_add(1) == Some(l.seq) && l.seq.checked_add(1) == Some(lost.from);
            same(l) && (follows || reduces && l.seq < lost.from)
        });
        if let Some(i) = grown.or(passed) {
            let old = meta.losses.remove(i);
            new.from = new.from.min(old.from);
            new.to = new.to.max(old.to);
            new.rows = new.rows.saturating_add(old.rows);
            if grown.is_some() {
                new.n = old.n;
                new.seq = old.seq;
                self.rewrite_loss(conn, now, lane, &new)?;
                self.lanes[lane].meta.losses.push(new);
                return Ok(());
            }
            self.delete_batch(conn, lane, old.n)?;
        }
        let piece = self.loss_piece(now, lane, &new)?;
        let head = self.insert(conn, now, lane, &piece, Kind::Loss)?;
        (new.n, new.seq) = (head.id.n(), head.first_seq);
        let losses = &mut self.lanes[lane].meta.losses;
        losses.push(new);
        if losses.len() > OPEN {
            losses.remove(0);
        }
        Ok(())
    }

    fn loss_piece(&self, now: Mono, lane: usize, l: &LossRef) -> Result<Piece, Fault> {
        let loss = Loss {
            lane: (&**self.lanes[lane].name()).into(),
            epoch: l.epoch,
            from: l.from,
            to: l.to,
            reason: l.reason.clone(),
            exact: l.exact,
            rows: l.rows,
        };
        let mut builder = BatchBuilder::new("dts".into());
        builder
            .push(Op::Loss, MONOTONIC | now.0, builtin::loss(), None, builtin::image(&loss.values()))
            .map_err(|e| Fault::Io(format!("loss record: {e}")))?;
        Ok(builder.finish().into())
    }

    fn rewrite_loss(&mut self, conn: &Connection, now: Mono, lane: usize, l: &LossRef) -> Result<(), Fault> {
        let piece = self.loss_piece(now, lane, l)?;
        let id = StoredId::new(self.lanes[lane].meta.no, l.n);
        let old = super::append::head_of(conn, id)?;
        self.replace(conn, lane, &old, &piece, old.last_seq)?;
        Ok(())
    }
}

//! What the centre says it holds, against what is held here.
//!
//! A mark of the centre is believed only where it fits: it may not be beyond what this store ever
//! issued, nor may the body that ended there have had another checksum. Where it does not fit, two
//! stores have written under one epoch (a cloned image, a restored backup, a disk that lied): a fork.
//! What is left then goes out again under a new epoch. Sequence numbers stay as they are, so a new
//! name costs one row of counters, not a rewrite of the backlog.

use super::cut;
use super::error::{Fault, SpoolError};
use super::lane::Cost;
use super::meta::Era;
use super::store::Store;
use super::stored::Head;
use crate::event::batch::split_body;
use crate::planted::{self, Bug};
use crate::runtime::Mono;

/// Heads looked at in one step, batches deleted in one transaction.
const STEP: usize = 256;

/// What the centre knows of one lane of this device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CentreView {
    /// Up to where each epoch is durable there: (epoch, sequence number, crc32c of the body that ended
    /// there or 0). Epochs that are not named were never seen.
    pub marks: Vec<(u64, u64, u32)>,
    /// Greatest epoch number known there of the device, all lanes.
    pub epoch_number: u32,
    /// The peer takes less than a batch, and was sent batches in parts: a mark within a batch is no fork, where it has no crc.
    pub parts: bool,
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reconciled {
    /// Rows that were durable there and are no longer held here.
    pub dropped_rows: u64,
    /// Epochs in which two stores wrote.
    pub forked: Vec<u64>,
    /// Epochs with a new name: (old, new).
    pub restamped: Vec<(u64, u64)>,
    /// Rows kept after their acknowledgement that the centre does not hold any more.
    pub again_rows: u64,
}

impl Store {
    /// Brings a lane into line with the centre, after CONNACK and before the first frame. Empties the
    /// window. Nothing of it is to be called with a broker that is no dts centre.
    pub fn reconcile(
        &mut self,
        now: Mono,
        lane: &str,
        centre: &CentreView,
    ) -> Result<Reconciled, SpoolError> {
        let lane = self.find_lane(lane)?;
        self.lanes[lane].window.clear();
        let mut done = Reconciled::default();
        let eras = self.lanes[lane].meta.eras.clone();
        log::debug!("lane `{}`: the centre holds {centre:?}, here are {eras:?}", self.lanes[lane].name());
        let mut rename_from = None;
        for (i, era) in eras.iter().enumerate() {
            let mark = centre.marks.iter().find(|m| m.0 == era.epoch);
            let fits = match mark {
                Some(&(_, seq, crc)) => {
                    self.fits(now, lane, era, seq, crc, centre.parts).map_err(Fault::public)?
                }
                None => true,
            };
            let unseen = mark.is_none() && number(era.epoch) < centre.epoch_number;
            if !fits {
                done.forked.push(era.epoch);
            }
            // Later eras must stay above: the number is the version that sinks compare by.
            if rename_from.is_none() && (!fits || unseen) {
                rename_from = Some(i);
            }
        }
        done.again_rows = self.take_back(now, lane, centre, &done.forked).map_err(Fault::public)?;
        for era in &eras {
            let mark = centre.marks.iter().find(|m| m.0 == era.epoch);
            if let Some(&(_, seq, _)) = mark.filter(|_| !done.forked.contains(&era.epoch)) {
                done.dropped_rows += self.drop_durable(now, lane, era.stamped, seq).map_err(Fault::public)?;
            }
        }
        if let Some(from) = rename_from {
            done.restamped = self.rename(now, lane, &eras, from, centre.epoch_number)?;
        }
        let name = self.lanes[lane].name();
        for epoch in &done.forked {
            log::warn!(
                "lane `{name}`: epoch {epoch:016x} was written by another copy of this buffer (a cloned or restored \
                 image?); what is left is sent under a new one"
            );
            crate::telemetry::count("dts_spool_forks_total", &[("lane", name)], 1);
        }
        if done.again_rows > 0 {
            log::warn!(
                "lane `{name}`: the centre lost {} rows that it had; they are sent again",
                done.again_rows
            );
        }
        Ok(done)
    }

    /// Whether the centre's mark can be one that this store made.
    fn fits(
        &mut self,
        now: Mono,
        lane: usize,
        era: &Era,
        seq: u64,
        crc: u32,
        parts: bool,
    ) -> Result<bool, Fault> {
        if planted::on(Bug::ContinueOnClone) {
            return Ok(true);
        }
        if seq >= era.next_seq {
            return Ok(false);
        }
        // Nor can what was never handed out be there, were it evicted since.
        let l = &self.lanes[lane];
        let never = |to| l.meta.rank((era.stamped, seq)) > l.meta.rank(to);
        if seq > 0 && l.handed_to.is_some_and(never) {
            return Ok(false);
        }
        let handed = l.handed;
        let (mut holds, mut unsent) = (None, false);
        self.walk_era(now, lane, era.stamped, |head| {
            if head.first_seq <= seq && seq <= head.last_seq {
                holds = Some(head.clone());
            }
            // What was never handed out cannot be there.
            unsent |= head.first_seq <= seq && head.id.n() > handed;
            head.last_seq < seq && !unsent
        })?;
        if unsent {
            return Ok(false);
        }
        // Else it is not held any more.
        let Some(head) = holds else { return Ok(true) };
        if crc == 0 {
            return Ok(head.last_seq == seq || parts);
        }
        if head.last_seq == seq && head.crc == crc {
            return Ok(true);
        }
        // Only where it was sent in parts: then the crc is that of the last one.
        self.has_part(now, lane, &head, seq, crc)
    }

    /// Whether a part of the batch `head` that ended at `seq` can have had this `crc`.
    fn has_part(&mut self, now: Mono, lane: usize, head: &Head, seq: u64, crc: u32) -> Result<bool, Fault> {
        if let Some(m) = self.lanes[lane].mem.iter().find(|m| m.head.id == head.id) {
            let Ok((_, records)) = split_body(&m.piece.body) else { return Ok(false) };
            return Ok(cut::has_part(records, &m.piece.tables, head.first_seq, seq, crc));
        }
        let conn = self.usable(now)?;
        let found = super::append::body_of(&conn, head).and_then(|body| {
            let tables = self.tables.of_body(&conn, &body)?;
            Ok((body, tables))
        });
        self.conn = Some(conn);
        match found {
            Ok((body, tables)) => {
                let Ok((_, records)) = split_body(&body) else { return Ok(false) };
                Ok(cut::has_part(records, &tables, head.first_seq, seq, crc))
            }
            Err(Fault::Corrupt(what)) => {
                self.quarantine(now, &what)?;
                Err(Fault::Io("the lanes are others now".into()))
            }
            Err(fault) => Err(fault),
        }
    }

    /// Calls `each` with the heads of the era `stamped` in order, those in memory too, while it returns true.
    fn walk_era(
        &mut self,
        now: Mono,
        lane: usize,
        stamped: u64,
        mut each: impl FnMut(&Head) -> bool,
    ) -> Result<(), Fault> {
        let eras = &self.lanes[lane].meta.eras;
        // Nothing is held of an era that is not listed.
        let Some(era) = eras.iter().position(|e| e.stamped == stamped) else { return Ok(()) };
        let mut after = era.checked_sub(1).and_then(|i| eras.get(i)).map_or(0, |e| e.last_n);
        while self.lanes[lane].on_disk() {
            let conn = self.usable(now)?;
            let heads = self.heads(&conn, lane, after, STEP);
            self.conn = Some(conn);
            let heads = match heads {
                Err(Fault::Corrupt(what)) => {
                    self.quarantine(now, &what)?;
                    continue;
                }
                heads => heads?,
            };
            let Some(last) = heads.last() else { break };
            after = last.id.n();
            for head in &heads {
                if head.epoch != stamped || !each(head) {
                    return Ok(());
                }
            }
        }
        for m in self.lanes[lane].mem.iter().filter(|m| m.head.epoch == stamped && !m.acked) {
            if !each(&m.head) {
                break;
            }
        }
        Ok(())
    }

    /// Forgets what of an era the centre holds up to `seq`.
    fn drop_durable(&mut self, now: Mono, lane: usize, stamped: u64, seq: u64) -> Result<u64, Fault> {
        let mut rows = 0;
        loop {
            let mut durable: Vec<(u64, Cost)> = Vec::new();
            let (acked_n, acked): (u64, Vec<u64>) =
                (self.lanes[lane].meta.acked_n, self.lanes[lane].acked.keys().copied().collect());
            self.walk_era(now, lane, stamped, |head| {
                let n = head.id.n();
                if head.last_seq > seq || durable.len() >= STEP {
                    return false;
                }
                if n > acked_n && acked.binary_search(&n).is_err() {
                    durable.push((n, Cost { bytes: head.cost(), rows: u64::from(head.rows) }));
                }
                true
            })?;
            if durable.is_empty() {
                return Ok(rows);
            }
            let l = &mut self.lanes[lane];
            for (n, cost) in durable {
                rows += cost.rows;
                if n > l.meta.disk_n {
                    if let Some(m) = l.mem.iter_mut().find(|m| m.head.id.n() == n) {
                        m.acked = true;
                    }
                } else {
                    l.acked.insert(n, cost);
                }
            }
            l.pop_acked();
            self.freed += 1;
            self.transact(now, false, |_, _| Ok(()))?;
        }
    }

    /// With `keep_acked`: what the centre does not hold any more is to be sent again.
    fn take_back(
        &mut self,
        now: Mono,
        lane: usize,
        centre: &CentreView,
        forked: &[u64],
    ) -> Result<u64, Fault> {
        if self.lanes[lane].meta.kept_batches == 0 {
            return Ok(0);
        }
        let centre = centre.clone();
        let forked = forked.to_vec();
        self.transact(now, true, |store, conn| {
            let (mut after, mut back) = (0, Cost::default());
            let (acked_n, mut batches, mut first) = (store.lanes[lane].meta.acked_n, 0, None);
            'walk: loop {
                let heads = store.heads(conn, lane, after, STEP)?;
                let Some(last) = heads.last() else { break };
                after = last.id.n();
                for head in &heads {
                    if head.id.n() > acked_n {
                        break 'walk;
                    }
                    let epoch = store.lanes[lane].meta.outside(head.epoch);
                    let mark = centre.marks.iter().find(|m| m.0 == epoch).map_or(0, |m| m.1);
                    // What a fork left was acknowledged all the same: only what is missing is wanted.
                    if first.is_none() && (head.last_seq <= mark || forked.contains(&epoch)) {
                        continue;
                    }
                    if first.is_none() {
                        first = Some(head.id.n());
                    }
                    batches += 1;
                    back.bytes += head.cost();
                    back.rows += u64::from(head.rows);
                }
            }
            let meta = &mut store.lanes[lane].meta;
            if let Some(first) = first {
                meta.acked_n = first - 1;
                meta.kept_batches = meta.kept_batches.saturating_sub(batches);
                meta.kept_bytes = meta.kept_bytes.saturating_sub(back.bytes);
                meta.kept_rows = meta.kept_rows.saturating_sub(back.rows);
                meta.batches += batches;
                meta.bytes += back.bytes;
                meta.rows += back.rows;
            }
            Ok(back.rows)
        })
    }

    /// Gives the eras from `from` on new names above `known`.
    fn rename(
        &mut self,
        now: Mono,
        lane: usize,
        eras: &[Era],
        from: usize,
        known: u32,
    ) -> Result<Vec<(u64, u64)>, SpoolError> {
        let mut names = Vec::new();
        // Dropping may have ended eras of which nothing was left.
        for era in eras.iter().skip(from) {
            if self.lanes[lane].meta.eras.iter().any(|e| e.stamped == era.stamped) {
                let new = (self.epochs)(known.saturating_add(1)).map_err(SpoolError::Epoch)?;
                names.push((era.stamped, era.epoch, new));
            }
        }
        self.transact(now, true, |store, _| {
            for (stamped, _, new) in &names {
                if let Some(era) = store.lanes[lane].meta.eras.iter_mut().find(|e| e.stamped == *stamped) {
                    era.epoch = *new;
                }
            }
            Ok(())
        })
        .map_err(Fault::public)?;
        Ok(names.into_iter().map(|(_, old, new)| (old, new)).collect())
    }
}

/// The number of an epoch: its upper half.
fn number(epoch: u64) -> u32 {
    (epoch >> 32) as u32
}

//! Runs of whole batches made smaller: the part that compaction and downsampling share.
//!
//! A pass takes a run of batches that nobody outside has seen, of one era, source and clock; reads them twice, one at a time (which rows stay; write those); and puts
//! fewer batches in their place, over the same numbers, if that at least halves them: so no more is
//! written than is freed. Its memory is bounded by the run's length, not by the lane's.

use std::sync::Arc;

use rusqlite::Connection;

use super::compact::Compactor;
use super::downsample::Downsampler;
use super::error::Fault;
use super::lane::Lane;
use super::loss::Lost;
use super::options::Policy;
use super::store::Store;
use super::stored::{Head, Kind, OVERHEAD, Piece};
use crate::event::{Batch, BatchBuilder, Origin, RowError, RowView, Table};
use crate::runtime::Mono;

/// Longest and shortest run, in bytes; between them a quarter of the lane's limit.
const RUN_BYTES: (u64, u64) = (16 << 10, 512 << 10);
/// Most batches in a run.
const RUN_BATCHES: usize = 512;
/// Runs tried in one pass before it gives up.
const TRIES: usize = 4;

/// Decides which rows of a run stay.
pub(super) trait Reducer {
    /// Shown every row in order. `Ok(false)`: no more will fit its memory, end the run here.
    fn observe(&mut self, seq: u64, row: &RowView<'_>) -> Result<bool, RowError>;
    /// All rows were shown.
    fn finish(&mut self);
    /// Whether the row at `seq` goes.
    fn drops(&self, seq: u64) -> bool;
    /// The record that stands in for the row, if it is another one: written with the row's own tables.
    fn replaces(&self, seq: u64, row: &RowView<'_>) -> Result<Option<Vec<u8>>, RowError>;
    /// FORMATS' word for what is lost.
    fn reason(&self) -> &'static str;
}

/// What stands in a run's place.
struct Output {
    pieces: Vec<(Piece, u64, u64)>,
    cost: u64,
    dropped: u64,
    /// First and last number that went.
    range: Option<(u64, u64)>,
}

impl Store {
    /// Within a transaction: one pass over a lane. Returns the bytes freed; 0 if nothing is to be
    /// gained now.
    pub(super) fn reduce(&mut self, conn: &Connection, now: Mono, lane: usize) -> Result<u64, Fault> {
        for _ in 0..TRIES {
            let mut reducer: Box<dyn Reducer> = match &self.lanes[lane].options.policy {
                Policy::Compact => Box::new(Compactor::default()),
                Policy::Downsample { every, fields } => Box::new(Downsampler::new(*every, fields)),
                Policy::Block | Policy::DropOldest => return Ok(0),
            };
            let Some(run) = self.next_run(conn, lane)? else {
                let lane = &mut self.lanes[lane];
                // What one sweep left of several runs may be one run for the next.
                if lane.sweep_freed == 0 {
                    return Ok(0);
                }
                (lane.sweep_freed, lane.reduced_n) = (0, 0);
                continue;
            };
            let run = self.observe(conn, &mut *reducer, run)?;
            let Some(last) = run.last() else { return Ok(0) };
            self.lanes[lane].reduced_n = last.id.n();
            if let Some(output) = self.write_run(conn, &*reducer, &run)? {
                let freed = self.put_in_place(conn, now, lane, &run, output, reducer.reason())?;
                self.lanes[lane].sweep_freed += freed;
                return Ok(freed);
            }
        }
        Ok(0)
    }

    /// The next run that was not tried, if it is long enough.
    fn next_run(&self, conn: &Connection, lane: usize) -> Result<Option<Vec<Head>>, Fault> {
        let l = &self.lanes[lane];
        let limit = (l.options.max_bytes / 4).clamp(RUN_BYTES.0, RUN_BYTES.1);
        let window = l.window.keys().next_back().copied().unwrap_or(0);
        let mut after = l.meta.acked_n.max(l.handed).max(l.reduced_n).max(window);
        let mut run: Vec<Head> = Vec::new();
        let mut bytes = 0;
        loop {
            let heads = self.heads(conn, lane, after, 64)?;
            let Some(last) = heads.last() else { break };
            after = last.id.n();
            for head in heads {
                let follows = run.last().is_none_or(|last| last.is_followed_by(&head));
                if bytes >= limit || run.len() >= RUN_BATCHES || (!follows && bytes >= limit / 2) {
                    return Ok(Some(run));
                }
                if !follows || head.kind == Kind::Loss {
                    run.clear();
                    bytes = 0;
                }
                if head.kind == Kind::Rows {
                    bytes += head.cost();
                    run.push(head);
                }
            }
        }
        Ok(Some(run).filter(|_| bytes >= limit / 2))
    }

    /// Shows the run to the reducer, batch by batch; ends it where that is full.
    fn observe(
        &mut self,
        conn: &Connection,
        reducer: &mut dyn Reducer,
        mut run: Vec<Head>,
    ) -> Result<Vec<Head>, Fault> {
        for i in 0..run.len() {
            let batch = self.load_batch(conn, &run[i])?;
            let mut room = true;
            for row in &batch {
                let row = row.map_err(|e| unreadable(&run[i], e))?;
                let seq = run[i].first_seq + row.head().ordinal;
                room &= reducer.observe(seq, &row).map_err(|e| unreadable(&run[i], e))?;
            }
            if !room {
                run.truncate(i + 1);
                break;
            }
        }
        reducer.finish();
        Ok(run)
    }

    fn write_run(
        &mut self,
        conn: &Connection,
        reducer: &dyn Reducer,
        run: &[Head],
    ) -> Result<Option<Output>, Fault> {
        let (Some(first), Some(last)) = (run.first(), run.last()) else { return Ok(None) };
        let before: u64 = run.iter().map(Head::cost).sum();
        let mut writer = Writer {
            source: first.source.clone(),
            clock: first.clock,
            max: self.options.max_body_bytes,
            first_seq: first.first_seq,
            builder: BatchBuilder::new(first.source.clone()),
            out: Output { pieces: Vec::new(), cost: 0, dropped: 0, range: None },
        };
        for head in run {
            let batch = self.load_batch(conn, head)?;
            for row in &batch {
                let row = row.map_err(|e| unreadable(head, e))?;
                let seq = head.first_seq + row.head().ordinal;
                if reducer.drops(seq) {
                    writer.out.dropped += 1;
                    writer.out.range = Some((writer.out.range.map_or(seq, |r| r.0), seq));
                    continue;
                }
                match reducer.replaces(seq, &row).map_err(|e| unreadable(head, e))? {
                    None => writer.push(seq, &row),
                    Some(record) => {
                        let mut bytes = &record[..];
                        let row =
                            RowView::take(&mut bytes, &batch.tables).map_err(|e| unreadable(head, e))?;
                        writer.push(seq, &row);
                    }
                }
                if 2 * writer.cost() > before {
                    return Ok(None);
                }
            }
        }
        writer.close(last.last_seq);
        let out = writer.out;
        let gains = out.dropped > 0 && out.pieces.len() <= run.len() && 2 * out.cost <= before;
        Ok(Some(out).filter(|_| gains))
    }

    fn put_in_place(
        &mut self,
        conn: &Connection,
        now: Mono,
        lane: usize,
        run: &[Head],
        output: Output,
        reason: &'static str,
    ) -> Result<u64, Fault> {
        let bytes = self.lanes[lane].meta.bytes;
        for head in run {
            self.delete_known(conn, lane, head)?;
        }
        let places = run.get(run.len() - output.pieces.len()..).unwrap_or_default();
        for ((piece, first_seq, last_seq), place) in output.pieces.into_iter().zip(places) {
            let head = Head {
                first_seq,
                last_seq,
                rows: piece.rows,
                crc: crc32c::crc32c(&piece.body),
                body_len: piece.body.len(),
                ..place.clone()
            };
            self.insert_as(conn, lane, &head, &piece)?;
        }
        if let (Some((from, to)), Some(head)) = (output.range, run.first()) {
            let epoch = self.lanes[lane].meta.outside(head.epoch);
            let rows = output.dropped;
            self.lose(conn, now, lane, &Lost { epoch, from, to, rows, reason, exact: true })?;
        }
        self.freed += 1;
        Ok(bytes.saturating_sub(self.lanes[lane].meta.bytes))
    }

    /// The batch of `head`, checked.
    fn load_batch(&mut self, conn: &Connection, head: &Head) -> Result<Batch, Fault> {
        let mut statement =
            conn.prepare_cached(&format!("SELECT {}, body FROM batch WHERE id = ?1", super::stored::HEAD))?;
        let mut rows = statement.query([head.id.0])?;
        let row = rows.next()?.ok_or_else(|| Fault::Corrupt(format!("batch {} is gone", head.id.0)))?;
        let body = head.body(row)?;
        let tables: Arc<[Arc<Table>]> = self.tables.of_body(conn, &body)?.into();
        Ok(Batch {
            source: head.source.clone(),
            origin: Origin::Input,
            clock: head.clock,
            tables,
            rows: head.rows,
            body,
            positions: Vec::new(),
        })
    }
}

fn unreadable(head: &Head, error: RowError) -> Fault {
    Fault::Corrupt(format!("batch {}: {error}", head.id.0))
}

/// Collects the rows that stay into bodies that cover the run's numbers without a gap.
struct Writer {
    source: Arc<str>,
    clock: crate::event::RowClock,
    max: usize,
    first_seq: u64,
    builder: BatchBuilder,
    out: Output,
}

impl Writer {
    fn push(&mut self, seq: u64, row: &RowView<'_>) {
        if !self.builder.is_empty() && self.builder.bytes() + row.encoded_len() + 8 + 9 > self.max {
            self.close(seq - 1);
        }
        if self.builder.push_row_at(row, seq - self.first_seq).is_err() {
            // Full of tables: a new body takes it.
            self.close(seq - 1);
            let pushed = self.builder.push_row_at(row, seq - self.first_seq);
            debug_assert!(pushed.is_ok(), "an empty batch takes any row");
        }
    }

    fn close(&mut self, last_seq: u64) {
        let builder = std::mem::replace(&mut self.builder, BatchBuilder::new(self.source.clone()));
        if builder.is_empty() {
            // Nothing stays behind the last body: that one covers these numbers too.
            if let Some(last) = self.out.pieces.last_mut() {
                last.2 = last_seq;
            }
            return;
        }
        let piece = Piece::from(Batch { clock: self.clock, ..builder.finish() });
        self.out.cost += piece.cost();
        self.out.pieces.push((piece, self.first_seq, last_seq));
        self.first_seq = last_seq + 1;
    }

    fn cost(&self) -> u64 {
        let open = if self.builder.is_empty() { 0 } else { self.builder.bytes() as u64 + OVERHEAD };
        self.out.cost + open
    }
}

impl Head {
    /// Whether a body may hold rows of both. Numbers between them are of what is gone and named; a loss
    /// record that is held ends a run, since a body over its number would hide it.
    fn is_followed_by(&self, next: &Self) -> bool {
        next.epoch == self.epoch
            && next.kind == self.kind
            && next.source == self.source
            && next.clock == self.clock
            && next.boot == self.boot
            && self.last_seq < next.first_seq
    }
}

impl Lane {
    /// Whether a pass is due though the limit is not reached.
    pub(super) fn is_crowded(&self) -> bool {
        let reduces = matches!(self.options.policy, Policy::Compact | Policy::Downsample { .. });
        reduces && self.meta.bytes > self.options.max_bytes / 8 * 7
    }
}

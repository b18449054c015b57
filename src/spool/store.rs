//! The store: one connection, its lanes, and what happens when a transaction fails.
//!
//! Sync and without a clock: every call takes the time. A transaction that fails leaves the lanes as
//! they were; what it failed of decides what follows (`Fault`): a full disk gets its reserve, a
//! device error a new connection, a damaged file a new name.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension};

use super::error::{Fault, SpoolError};
use super::folder::{DiskFolder, Folder};
use super::lane::Lane;
use super::meta::{self, LaneMeta, Position, StoreMeta};
use super::options::{Class, LaneOptions, Options};
use super::read::Tables;
use super::schema::{self, FILE, LOG};
use super::space::Space;
use super::stored::{MAX_LANES, StoredId};
use crate::event::Batch;
use crate::planted::{self, Bug};
use crate::runtime::Mono;

/// Makes a new epoch whose number is at least the argument; durable before it returns.
pub type Epochs = Box<dyn FnMut(u32) -> Result<u64, String> + Send>;

/// What was found when the store was opened.
#[derive(Clone, Debug, Default)]
pub struct Opened {
    /// Where each source goes on.
    pub positions: Vec<Position>,
    /// New names of files that were damaged and set aside at this start.
    pub quarantined: Vec<String>,
    /// Names of all lanes, those that are only drained included.
    pub lanes: Vec<Arc<str>>,
    /// Whether the last run did not close the store.
    pub unclean: bool,
}

impl Opened {
    /// Where one source goes on, as [`crate::source::Outlet`] wants it.
    #[allow(clippy::type_complexity, reason = "the outlet's own type")]
    pub fn positions_of(&self, source: &str) -> Arc<[(Box<str>, Box<[u8]>)]> {
        let own = self.positions.iter().filter(|(s, _, _)| **s == *source);
        own.map(|(_, key, value)| (key.clone(), value.clone())).collect()
    }
}

/// The sync core of the spool.
pub struct Store {
    pub(super) options: Options,
    pub(super) folder: Box<dyn Folder>,
    pub(super) epochs: Epochs,
    pub(super) conn: Option<Connection>,
    pub(super) lanes: Vec<Lane>,
    pub(super) meta: StoreMeta,
    /// Powered time at `since`.
    elapsed: u64,
    since: Mono,
    pub(super) tables: Tables,
    pub(super) space: Space,
    down: Option<Down>,
    /// The last transaction, whose commit failed, may be on disk all the same.
    doubt: Option<Doubt>,
    /// How many there were.
    pub(super) doubts: u64,
    /// Source and body of the batches in it that were refused for that.
    pub(super) doubtful: Vec<(Arc<str>, Bytes)>,
    /// The same once it was found on disk: who comes with one of them again has it stored.
    pub(super) landed: Vec<(Arc<str>, Bytes)>,
    /// Transactions in a row that the device failed, though the file could be opened again.
    io_errors: u32,
    /// Whether `synchronous` is FULL now.
    full_sync: bool,
    pub(super) link_up: bool,
    /// Names given to damaged files since the start.
    pub(super) quarantined: Vec<String>,
    /// Grows when space was freed: who waits at a full lane may try again.
    pub(super) freed: u64,
    /// Grows when the file was opened anew after an error: who waits may try again.
    pub(super) revived: u64,
    /// Since when acknowledged batches wait to be deleted.
    pub(super) acked_since: Option<Mono>,
    pub(super) next_check: Mono,
}

/// No connection: the last one failed, and so did opening another.
#[derive(Debug)]
struct Down {
    reason: String,
    retry_at: Mono,
    tries: u32,
}

/// A transaction of which it is not known whether it happened. While there is one, no number is given in a lane in which
/// it gave some (`Store::seal`), and none beyond the lower of both reservations.
struct Doubt {
    before: Vec<LaneMeta>,
    after: Saved,
    /// Positions of each lane that it stored.
    settled: Vec<usize>,
}

/// The lanes' counters as they were before a transaction.
struct Saved {
    metas: Vec<LaneMeta>,
    txn: u64,
}

/// Device errors in a row after which the file is given up, if it can be opened at all.
const IO_ERRORS: u32 = 4;
/// Longest and shortest pause between two tries to open a file that does not work.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(60));

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("dir", &self.options.dir).field("lanes", &self.lanes.len()).finish()
    }
}

impl Store {
    /// Opens the spool in `options.dir`, or makes it. O(1) in the backlog. A damaged file is set
    /// aside and what can be read of it salvaged.
    pub fn open(options: Options, epochs: Epochs, now: Mono) -> Result<(Self, Opened), SpoolError> {
        let folder = Box::new(DiskFolder::new(&options.dir));
        Self::open_in(options, folder, epochs, now)
    }

    /// As [`Self::open`], in another folder than the file system's.
    pub fn open_in(
        options: Options,
        mut folder: Box<dyn Folder>,
        epochs: Epochs,
        now: Mono,
    ) -> Result<(Self, Opened), SpoolError> {
        folder.lock()?;
        let mut store = Self {
            options,
            folder,
            epochs,
            conn: None,
            lanes: Vec::new(),
            meta: StoreMeta::default(),
            elapsed: 0,
            since: now,
            tables: Tables::default(),
            space: Space::default(),
            down: None,
            doubt: None,
            doubts: 0,
            doubtful: Vec::new(),
            landed: Vec::new(),
            io_errors: 0,
            full_sync: true,
            link_up: false,
            quarantined: Vec::new(),
            freed: 0,
            revived: 0,
            acked_since: None,
            next_check: now,
        };
        let opened = store.start(now)?;
        Ok((store, opened))
    }

    fn start(&mut self, now: Mono) -> Result<Opened, SpoolError> {
        self.finish_quarantine();
        let loaded = if self.was_emptied()? {
            Err(Fault::corrupt("the file is empty or cut short, and it was not always"))
        } else {
            self.load(now).and_then(|()| self.positions())
        };
        let positions = match loaded {
            Ok(positions) => positions,
            Err(Fault::Corrupt(what)) => {
                self.conn = None;
                self.lanes.clear();
                self.quarantine(now, &what).map_err(Fault::public)?;
                self.positions().map_err(Fault::public)?
            }
            // A disk that is full right now cannot even be opened for writing without its reserve.
            Err(Fault::Full) => {
                self.conn = None;
                self.space.release(&*self.folder);
                self.lanes.clear();
                self.load(now).and_then(|()| self.positions()).map_err(Fault::public)?
            }
            Err(fault) => return Err(fault.public()),
        };
        let unclean = self.meta.txn > 0 && !self.meta.clean;
        self.begin(now, unclean)?;
        self.space.reserve(&*self.folder, self.options.reserve_bytes, now);
        Ok(Opened {
            positions,
            quarantined: self.quarantined.clone(),
            lanes: self.lanes.iter().map(|l| l.name().clone()).collect(),
            unclean,
        })
    }

    /// Whether the file is there, empty or almost, and without a log, though epochs were given before: SQLite would take it for a
    /// new one. (A file that is missing was removed by somebody, who knows.)
    fn was_emptied(&mut self) -> Result<bool, SpoolError> {
        if !self.is_cut_short() || self.has_log() {
            return Ok(false);
        }
        let epoch = (self.epochs)(0).map_err(SpoolError::Epoch)?;
        Ok(epoch >> 32 > 1)
    }

    fn is_cut_short(&self) -> bool {
        self.folder.size(FILE).is_some_and(|bytes| bytes < schema::LEAST_FILE)
    }

    fn has_log(&self) -> bool {
        self.folder.size(LOG).is_some_and(|bytes| bytes > 0)
    }

    /// Opens the file and reads its counters.
    fn load(&mut self, now: Mono) -> Result<(), Fault> {
        let conn = self.connect()?;
        self.meta = meta::get_json(&conn, "store")?.unwrap_or_default();
        self.elapsed = self.meta.elapsed_us;
        // In the same boot the clock ran on; in another one at least since its start.
        let since = if self.meta.boot == self.options.boot && now.0 >= self.meta.mono_us {
            self.meta.mono_us
        } else {
            0
        };
        self.elapsed = self.elapsed.saturating_add(now.0 - since);
        self.since = now;
        for name in meta::lanes(&conn)? {
            let Some(found) = meta::get_json::<LaneMeta>(&conn, &format!("lane/{name}"))? else {
                return Err(Fault::corrupt("a lane's name is damaged"));
            };
            let options = self.options.lanes.iter().find(|o| *o.name == *name).cloned();
            let configured = options.is_some();
            let options = options.unwrap_or_else(|| LaneOptions::new(&name, Class::Fsync));
            let mut lane = Lane::new(options, configured, found.clone());
            lane.written = Some(found);
            self.lanes.push(lane);
        }
        self.check_lanes(&conn)?;
        self.tables.forget_disk();
        self.tables.load(&conn, &self.lanes)?;
        self.conn = Some(conn);
        Ok(())
    }

    /// A damaged page may show fewer counters than there were, without an error: a lane that has batches has counters.
    fn check_lanes(&self, conn: &Connection) -> Result<(), Fault> {
        let mut from = i64::MIN;
        loop {
            let found: Option<i64> = conn
                .prepare_cached("SELECT id FROM batch WHERE id >= ?1 ORDER BY id LIMIT 1")?
                .query_row([from], |r| r.get(0))
                .optional()?;
            let Some(no) = found.map(|id| StoredId(id).lane()) else { return Ok(()) };
            if self.lanes.iter().all(|l| l.meta.no != no) {
                return Err(Fault::Corrupt(format!("lane number {no} has batches and no counters")));
            }
            let Some(next) = no.checked_add(1).filter(|no| *no <= MAX_LANES) else { return Ok(()) };
            from = StoredId::new(next, 0).0;
        }
    }

    /// A new connection to the file, able to be read by this code.
    fn connect(&mut self) -> Result<Connection, Fault> {
        // SQLite takes such a file for a new one and removes its log. It writes the file before the first log.
        if self.is_cut_short() && self.has_log() {
            return Err(Fault::corrupt("the file is empty or cut short, and its write-ahead log is not"));
        }
        let (conn, _) = schema::connect(&*self.folder, FILE, self.options.vfs.as_deref())?;
        schema::check_reader(&conn, &*self.folder)?;
        self.full_sync = true;
        Ok(conn)
    }

    fn positions(&self) -> Result<Vec<Position>, Fault> {
        self.conn.as_ref().map_or_else(|| Ok(Vec::new()), meta::positions)
    }

    /// Brings the lanes into line with the config, and starts their epochs.
    fn begin(&mut self, now: Mono, unclean: bool) -> Result<(), SpoolError> {
        // A lane that is no longer configured and holds nothing is forgotten.
        let gone: Vec<Arc<str>> = self
            .lanes
            .iter()
            .filter(|l| !l.configured && l.meta.batches == 0 && l.meta.kept_batches == 0)
            .map(|l| l.name().clone())
            .collect();
        self.lanes.retain(|l| !gone.contains(l.name()));
        for options in self.options.lanes.clone() {
            if self.lanes.iter().all(|l| *l.name() != options.name) {
                let no = self.free_number().ok_or_else(|| SpoolError::Damaged("too many lanes".into()))?;
                let handed_to = Some((0, 0));
                let meta = LaneMeta { no, next_n: 1, handed_to, ..LaneMeta::default() };
                self.lanes.push(Lane::new(options, true, meta));
            }
        }
        self.lanes.sort_by_key(|l| l.meta.no);
        let mut losses = Vec::new();
        for i in 0..self.lanes.len() {
            let lane = &mut self.lanes[i];
            if unclean {
                losses.extend(lane.power_loss().map(|lost| (i, lost)));
            }
            let fresh = lane.meta.eras.is_empty();
            let renews = lane.options.class == Class::Ram && !planted::on(Bug::ReuseSeqAfterCrash);
            if fresh || (lane.configured && renews) {
                let epoch = (self.epochs)(0).map_err(SpoolError::Epoch)?;
                self.lanes[i].meta.begin_era(epoch);
            }
            if fresh && self.lanes[i].handed_to.is_some() {
                self.lanes[i].begin_handing();
            }
        }
        let begun = self.transact(now, true, |store, conn| {
            for name in &gone {
                conn.execute("DELETE FROM meta WHERE key = ?1", [format!("lane/{name}")])?;
            }
            for (lane, lost) in &losses {
                store.lose(conn, now, *lane, lost)?;
            }
            Ok(())
        });
        match begun {
            Ok(()) => {}
            // Nothing can be stored now, but what is there can be read; tried again with each transaction.
            Err(Fault::Full) if losses.is_empty() => {}
            Err(fault) => return Err(fault.public()),
        }
        for (_, lost) in &losses {
            log::error!(
                "power was lost: up to {} rows of epoch {:016x} were in memory only; reported upstream",
                lost.rows,
                lost.epoch
            );
        }
        Ok(())
    }

    /// A number that no lane in the file has; that of a forgotten one will do, none of its batches is
    /// left.
    pub(super) fn free_number(&self) -> Option<u16> {
        (1..=MAX_LANES).find(|&no| self.lanes.iter().all(|l| l.meta.no != no))
    }

    /// Powered time in µs, carried over restarts.
    pub(super) fn elapsed(&self, now: Mono) -> u64 {
        self.elapsed.saturating_add(now.0.saturating_sub(self.since.0))
    }

    pub(super) fn lane_index(&self, name: &str) -> Option<usize> {
        self.lanes.iter().position(|l| **l.name() == *name)
    }

    pub(super) fn find_lane(&self, name: &str) -> Result<usize, SpoolError> {
        self.lane_index(name).ok_or_else(|| SpoolError::NoLane(name.into()))
    }

    fn snapshot(&self) -> Saved {
        Saved { metas: self.lanes.iter().map(|l| l.meta.clone()).collect(), txn: self.meta.txn }
    }

    fn restore(&mut self, saved: Saved) {
        for (lane, meta) in self.lanes.iter_mut().zip(saved.metas) {
            lane.meta = meta;
            lane.tail = None;
        }
        self.meta.txn = saved.txn;
        self.tables.forget_disk();
    }

    /// Runs `body` in one transaction with the counters. `durable`: on disk when it returns, else
    /// when the next durable one does. `body` may run twice, and must change nothing of the store but
    /// the lanes' `meta`.
    pub(super) fn transact<T>(
        &mut self,
        now: Mono,
        durable: bool,
        mut body: impl FnMut(&mut Self, &Connection) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let mut again = true;
        loop {
            let conn = self.usable(now)?;
            let saved = self.snapshot();
            let mut value = None;
            let fault = match self.attempt(&conn, now, durable, &mut body, &mut value) {
                Ok(()) => {
                    self.io_errors = 0;
                    self.conn = Some(conn);
                    self.after_commit(now);
                    return value.ok_or_else(|| Fault::Io("no result".into()));
                }
                Err(fault) => fault,
            };
            match fault {
                Fault::Full => {
                    roll_back(&conn);
                    self.restore(saved);
                    self.conn = Some(conn);
                    self.ran_full(now);
                    if !again {
                        return Err(Fault::Full);
                    }
                }
                Fault::Other(e) => {
                    roll_back(&conn);
                    self.restore(saved);
                    self.conn = Some(conn);
                    return Err(Fault::Other(e));
                }
                Fault::Io(e) => {
                    drop(conn);
                    let attempted = self.meta.txn;
                    // The commit failed: is it there? Whoever opens the file next finds out.
                    let after = self.snapshot();
                    self.doubtful.clear();
                    self.doubts += u64::from(value.is_some());
                    let settled = self.lanes.iter().map(|l| l.settled.len()).collect();
                    let before = saved.metas.clone();
                    self.restore(saved);
                    self.doubt = value.is_some().then_some(Doubt { before, after, settled });
                    self.lower_reservations();
                    crate::telemetry::count("dts_spool_io_errors_total", &[], 1);
                    self.io_errors += 1;
                    if self.io_errors > IO_ERRORS {
                        // It opens, and still does not work: what can be read of it goes elsewhere.
                        self.io_errors = 0;
                        self.quarantine(now, &e)?;
                        return Err(Fault::Io(e));
                    }
                    log::error!("buffer: {e}; opening the file anew");
                    match (self.reopen(now), value) {
                        // The commit failed, and yet it is there.
                        (Some(txn), Some(value)) if txn == attempted => return Ok(value),
                        _ => return Err(Fault::Io(e)),
                    }
                }
                Fault::Corrupt(e) => {
                    drop(conn);
                    self.restore(saved);
                    self.quarantine(now, &e)?;
                    if !again {
                        return Err(Fault::Io(e));
                    }
                }
            }
            again = false;
        }
    }

    fn attempt<T>(
        &mut self,
        conn: &Connection,
        now: Mono,
        durable: bool,
        body: &mut impl FnMut(&mut Self, &Connection) -> Result<T, Fault>,
        value: &mut Option<T>,
    ) -> Result<(), Fault> {
        if durable != self.full_sync {
            conn.execute_batch(if durable {
                "PRAGMA synchronous = FULL"
            } else {
                "PRAGMA synchronous = NORMAL"
            })?;
            self.full_sync = durable;
        }
        self.tables.load(conn, &self.lanes)?;
        conn.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        self.settle_acked(conn, now)?;
        let done = body(self, conn)?;
        self.write_metas(conn, now, false)?;
        *value = Some(done);
        conn.prepare_cached("COMMIT")?.execute([])?;
        self.mark_written();
        Ok(())
    }

    /// Writes the counters that changed.
    pub(super) fn write_metas(&mut self, conn: &Connection, now: Mono, clean: bool) -> Result<(), Fault> {
        self.meta.txn += 1;
        let store = StoreMeta {
            elapsed_us: self.elapsed(now),
            mono_us: now.0,
            boot: self.options.boot,
            clean,
            ..self.meta
        };
        meta::put_json(conn, "store", &store)?;
        for lane in &mut self.lanes {
            lane.set_volatile();
            if clean {
                lane.meta.handed = lane.handed;
                lane.meta.handed_to = lane.handed_to;
            } else {
                lane.set_handed();
            }
            if lane.written.as_ref() != Some(&lane.meta) {
                meta::put_json(conn, &format!("lane/{}", lane.options.name), &lane.meta)?;
            }
        }
        Ok(())
    }

    pub(super) fn mark_written(&mut self) {
        self.lanes.iter_mut().for_each(Lane::committed);
        self.acked_since = None;
    }

    /// Pages of the log at which it is copied back. When the disk becomes full, the file must grow by what is in
    /// the log and not in the file before the log can be written anew: the reserve must hold that.
    fn wal_pages(&self) -> i64 {
        let half = self.options.reserve_bytes / 2 / 4096;
        i64::try_from(half).unwrap_or(i64::MAX).clamp(schema::LEAST_WAL_PAGES, schema::WAL_PAGES)
    }

    /// Copies the log back when it is long enough.
    fn after_commit(&mut self, now: Mono) {
        let Some(conn) = self.conn.take() else { return };
        let done = schema::checkpoint(&conn, "NOOP").and_then(|frames| {
            if frames < self.wal_pages() { Ok(frames) } else { schema::checkpoint(&conn, "PASSIVE") }
        });
        match done {
            Ok(_) => self.conn = Some(conn),
            Err(Fault::Full) => {
                self.conn = Some(conn);
                self.ran_full(now);
            }
            Err(Fault::Corrupt(e)) => {
                drop(conn);
                self.quarantine_or_wait(now, &e);
            }
            Err(fault) => {
                drop(conn);
                log::error!("buffer: checkpoint: {}; opening the file anew", fault.public());
                let _ = self.reopen(now);
            }
        }
    }

    /// The connection, opened anew if the last one failed and it is time to try.
    pub(super) fn usable(&mut self, now: Mono) -> Result<Connection, Fault> {
        if let Some(conn) = self.conn.take() {
            return Ok(conn);
        }
        if let Some(down) = &self.down
            && now < down.retry_at
        {
            return Err(Fault::Io(down.reason.clone()));
        }
        let _ = self.reopen(now);
        match (self.conn.take(), &self.down) {
            (Some(conn), _) => Ok(conn),
            (None, Some(down)) => Err(Fault::Io(down.reason.clone())),
            (None, None) => Err(Fault::Io("no connection".into())),
        }
    }

    /// Opens the file anew after a device error and makes sure that what can be read is on disk: the
    /// whole log is copied back and synced, since a failed fsync may have marked pages clean that never
    /// were written. Returns the number of the last transaction in the file; `None` if it is another
    /// file now, or none.
    pub(super) fn reopen(&mut self, now: Mono) -> Option<u64> {
        let opened = self.connect().and_then(|conn| {
            schema::checkpoint(&conn, "TRUNCATE")?;
            let found: StoreMeta = meta::get_json(&conn, "store")?.unwrap_or_default();
            self.tables.forget_disk();
            Ok((conn, found.txn))
        });
        match opened {
            // Transactions that were acknowledged are gone: the disk lied.
            Ok((conn, txn)) if txn < self.meta.txn => {
                drop(conn);
                let what = format!("transactions {} to {} are missing", txn + 1, self.meta.txn);
                self.quarantine_or_wait(now, &what)
            }
            Ok((conn, txn)) => {
                self.down = None;
                self.settle_doubt(now, &conn, txn);
                self.conn = Some(conn);
                self.revived += 1;
                Some(txn)
            }
            Err(Fault::Corrupt(e)) => self.quarantine_or_wait(now, &e),
            Err(fault) => {
                self.go_down(now, &fault.public().to_string());
                None
            }
        }
    }

    /// `txn` is the last transaction in the file of `conn`. If it is the one in doubt, the lanes are as it left them, and as
    /// they were changed since.
    pub(super) fn settle_doubt(&mut self, now: Mono, conn: &Connection, txn: u64) {
        let Some(Doubt { before, after, settled }) = self.doubt.take() else { return };
        let doubtful = std::mem::take(&mut self.doubtful);
        if txn != after.txn || self.lanes.len() != before.len() {
            return;
        }
        self.meta.txn = txn;
        self.landed = doubtful;
        self.tables.forget_disk();
        for (((lane, before), after), settled) in
            self.lanes.iter_mut().zip(before).zip(after.metas).zip(settled)
        {
            lane.landed(conn, &before, after, settled);
            if !lane.acked.is_empty() {
                self.acked_since.get_or_insert(now);
            }
        }
    }

    pub(super) fn has_doubt(&self) -> bool {
        self.doubt.is_some()
    }

    /// Whether the transaction in doubt gave numbers of `lane`.
    pub(super) fn numbers_in_doubt(&self, lane: usize) -> bool {
        let Some(Doubt { before, after, .. }) = &self.doubt else { return false };
        let numbers = |metas: &[LaneMeta]| metas.get(lane).map(|m| (m.next_n, m.eras.clone()));
        numbers(before) != numbers(&after.metas)
    }

    /// After a power cut the file may say either reservation: only what both cover may be given.
    fn lower_reservations(&mut self) {
        let Some(doubt) = &self.doubt else { return };
        for (lane, after) in self.lanes.iter_mut().zip(&doubt.after.metas) {
            lane.meta.reserved = lane.meta.reserved.min(after.reserved);
        }
    }

    /// Whether a transaction that was reported as failed since there were `doubts` may be on disk.
    pub(super) fn is_in_doubt_since(&self, doubts: u64) -> bool {
        self.doubt.is_some() && self.doubts != doubts
    }

    /// Whether `batch` was refused because of a commit that failed and yet was there.
    pub(super) fn has_landed(&mut self, batch: &Batch) -> bool {
        let same = |(source, body): &(Arc<str>, Bytes)| *source == batch.source && *body == batch.body;
        let at = self.landed.iter().position(same);
        at.map(|at| self.landed.swap_remove(at)).is_some()
    }

    fn quarantine_or_wait(&mut self, now: Mono, what: &str) -> Option<u64> {
        if let Err(fault) = self.quarantine(now, what) {
            log::debug!("buffer: {}", fault.public());
        }
        None
    }

    /// There is no connection, and for a while none is tried.
    pub(super) fn go_down(&mut self, now: Mono, reason: &str) {
        let tries = self.down.as_ref().map_or(0, |d| d.tries);
        let pause = RETRY.0.saturating_mul(1 << tries.min(10)).min(RETRY.1);
        log::error!("buffer: {reason}; next try in {pause:?}");
        self.down = Some(Down { reason: reason.into(), retry_at: now + pause, tries: tries + 1 });
        self.conn = None;
    }

    /// A connection was made another way.
    pub(super) fn reconnected(&mut self) {
        self.down = None;
        self.doubt = None;
        self.doubtful.clear();
        self.full_sync = true;
        self.revived += 1;
    }

    /// When there is no connection: when opening one is tried again.
    pub(super) fn retry_at(&self) -> Option<Mono> {
        self.down.as_ref().map(|d| d.retry_at)
    }

    /// Writes everything, marks the file clean and closes it.
    pub fn close(mut self, now: Mono) -> Result<(), SpoolError> {
        self.flush_all(now, true).map_err(Fault::public)?;
        let conn = self.usable(now).map_err(Fault::public)?;
        let closed = conn
            .execute_batch("BEGIN IMMEDIATE")
            .map_err(Fault::from)
            .and_then(|()| self.write_metas(&conn, now, true))
            .and_then(|()| Ok(conn.execute_batch("COMMIT")?))
            .and_then(|()| schema::checkpoint(&conn, "TRUNCATE"));
        closed.map(|_| ()).map_err(Fault::public)
    }
}

fn roll_back(conn: &Connection) {
    if !conn.is_autocommit() && conn.execute_batch("ROLLBACK").is_err() {
        log::debug!("buffer: nothing to roll back");
    }
}

#[cfg(test)]
impl Store {
    /// As if the commit of `item` had failed although it is on disk, and the file could not be opened since.
    pub(super) fn commit_in_doubt(&mut self, now: Mono, item: (Arc<str>, Batch)) {
        let saved = self.snapshot();
        let batch = item.1.clone();
        assert_eq!(self.append(now, &[item]), [Ok(())]);
        let before = saved.metas.clone();
        let settled = vec![0; before.len()];
        self.doubt = Some(Doubt { before, after: self.snapshot(), settled });
        self.doubtful = vec![(batch.source.clone(), batch.body)];
        self.restore(saved);
        self.lower_reservations();
        self.conn = None;
        self.go_down(now, "a test");
    }
}

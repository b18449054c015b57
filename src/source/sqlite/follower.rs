//! Follows one database, synchronously: [`Follower::step`] makes the next batch, [`Follower::stored`]
//! says that it is safe, [`Follower::trim`] deletes what is. No clock, no task, no waiting: a lock
//! that is not free is [`Error::Busy`].
//!
//! A step is one short read transaction. First it takes captured rows in their order. Only when none
//! is left, in the same transaction, it goes on with a table that must be read: so what it reads there
//! is the table as of the last captured row it took, and the stream is one history without overlap.
//!
//! Invariants
//! * `durable` ≤ `position`: captured rows up to `durable.cursor` are stored behind the outlet.
//! * The row at `durable.cursor`, the row at `position.cursor` and the last row are never deleted:
//!   they prove that this is still the same database, and ids only grow.
//! * The schema that a step works with is that of its own read transaction.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension};

use crate::event::Batch;

use super::config::Config;
use super::emit::{Emitter, Source};
use super::error::{Doing, Error, Result};
use super::install::{self, Catalog, Known, Outcome};
use super::position::{Cursor, Position};
use super::store;

/// Most captured rows deleted in one transaction.
const TRIM_ROWS: i64 = 2000;

/// How much one step may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Rows in a batch.
    pub(super) rows: u32,
    /// Bytes after which a batch is full. One row may exceed it.
    pub(super) batch_bytes: usize,
    /// Largest record.
    pub(super) row_bytes: usize,
}

/// What a step came to.
#[derive(Debug)]
pub(super) enum Step {
    /// Rows, with the position behind them.
    Batch(Batch),
    /// Something was put in order; step again.
    Again,
    /// Nothing to read now.
    Idle,
}

/// Counts since the last look, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) captured_rows: u64,
    pub(super) snapshot_rows: u64,
    /// Values that did not fit the largest record.
    pub(super) left_out: u64,
    /// Rows whose key alone does not fit.
    pub(super) lost_rows: u64,
}

/// A database being followed.
#[derive(Debug)]
pub(super) struct Follower {
    pub(super) conn: Connection,
    path: PathBuf,
    file: Option<(u64, u64)>,
    config: Config,
    catalog: Catalog,
    emitter: Emitter,
    /// Read so far.
    position: Position,
    /// Stored so far.
    durable: Position,
    rng: fastrand::Rng,
    due: Due,
    pub(super) counts: Counts,
    /// Bytes of the limit that captured changes take, deleted or not, as of the last step.
    pub(super) used_bytes: i64,
    /// What [`Self::trim`] has seen last: safe and read.
    trimmed: (Cursor, Cursor),
}

/// What must be put in order before the next read.
#[derive(Debug, Default)]
struct Due {
    schema: bool,
    lost: bool,
    stale: bool,
    hide: Vec<i64>,
}

impl Follower {
    /// Opens the database and brings its triggers in line. `stored` is the position of before.
    pub(super) fn open(
        config: &Config,
        source: Arc<str>,
        stored: Option<&[u8]>,
        rng: fastrand::Rng,
    ) -> Result<Self> {
        let conn = store::open(&config.path)?;
        let position = stored.and_then(Position::decode);
        let mut follower = Self {
            conn,
            path: std::fs::canonicalize(&config.path).unwrap_or_else(|_| config.path.clone()),
            file: store::file_id(&config.path),
            config: config.clone(),
            catalog: Catalog::default(),
            emitter: Emitter::new(source),
            position: position.clone().unwrap_or_default(),
            durable: position.clone().unwrap_or_default(),
            rng,
            due: Due { schema: true, ..Due::default() },
            counts: Counts::default(),
            used_bytes: 0,
            trimmed: Default::default(),
        };
        follower.start(position.is_some())?;
        Ok(follower)
    }

    /// Finds out whether the position is of this database, and starts at its end if there is none.
    fn start(&mut self, has_position: bool) -> Result<()> {
        let (config, position) = (self.config.clone(), self.position.clone());
        let rng = &mut self.rng;
        let (outcome, at) = store::write(&mut self.conn, "install the triggers", true, |tx| {
            let known_here = match store::is_installed(tx)? {
                false => false,
                true if has_position => {
                    store::meta(tx)?.install == position.install && at_cursor(tx, position.cursor)?.is_some()
                }
                // Installed by hand and never followed: as good as new.
                true => !store::meta(tx)?.followed,
            };
            let first = !has_position && (known_here || !store::is_installed(tx)?);
            let lost = !known_here && !first;
            let empty = Position::default();
            let base = if lost || first { &empty } else { &position };
            let known = Known { position: base, durable: base, lost, stale: false, hide: &[] };
            let outcome = install::reconcile(tx, &config, &known, rng)?;
            tx.execute("UPDATE _dts_meta SET followed=1 WHERE followed<>1", []).doing("update _dts_meta")?;
            let last = if lost || first { store::last_captured(tx)? } else { None };
            Ok((outcome, last))
        })?;
        if let Some((id, nonce, _)) = at {
            let install = outcome.catalog.install;
            self.position = Position { install, cursor: Cursor { id, nonce }, ..Position::default() };
            self.durable = self.position.clone();
        }
        self.take_over(outcome);
        Ok(())
    }

    fn take_over(&mut self, outcome: Outcome) {
        for (table, reason) in &outcome.rereads {
            let source = self.emitter.source();
            let labels = [("source", source), ("reason", reason.as_str())];
            crate::telemetry::count("dts_sqlite_rereads_total", &labels, 1);
            match reason {
                install::Reason::New => log::info!("{source}: follows table `{table}`, reads it once"),
                install::Reason::Columns => {
                    log::info!("{source}: columns of `{table}` changed, reads it again")
                }
                install::Reason::Dropped => log::info!("{source}: table `{table}` is gone, clears its rows"),
                _ => log::warn!(
                    "{source}: changes in `{table}` may have been missed ({}); clears its rows and reads it again",
                    reason.as_str()
                ),
            }
        }
        for skipped in &outcome.catalog.skipped {
            if !self.catalog.skipped.contains(skipped) {
                log::warn!(
                    "{}: does not follow `{}`: {}",
                    self.emitter.source(),
                    skipped.table,
                    skipped.reason
                );
            }
        }
        self.catalog = outcome.catalog;
        self.emitter.follow(&self.catalog);
        self.position.done.retain(|(table, _)| self.catalog.tables.contains_key(table));
        self.due = Due::default();
    }

    /// Whether another file lies under the path, or none.
    pub(super) fn is_replaced(&self) -> bool {
        store::file_id(&self.config.path) != self.file
    }

    /// Whether a writer is about to commit in a rollback journal: a reader would be in its way.
    ///
    /// The magic stands in the journal from its sync until the commit, and after a crash. (The locks
    /// of SQLite are on the database: opening the journal beside it harms none.)
    pub(super) fn is_being_written(&self) -> bool {
        use std::io::Read;
        const MAGIC: [u8; 8] = [0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7];
        let mut head = [0; 8];
        std::fs::File::open(store::beside(&self.path, "-journal"))
            .and_then(|mut file| file.read_exact(&mut head))
            .is_ok_and(|()| head == MAGIC)
    }

    /// How many tables are followed and how many must still be read.
    pub(super) fn progress(&self) -> (usize, usize) {
        let waiting = self.catalog.tables.values().filter(|t| self.wants(t)).count();
        (self.catalog.tables.values().filter(|t| t.info.is_some()).count(), waiting)
    }

    fn wants(&self, table: &install::Followed) -> bool {
        self.position.done_of(table.row.id) != table.row.reading
    }

    /// Makes the next batch. Until [`Self::stored`] is told of it, the same rows come again only by
    /// opening anew.
    pub(super) fn step(&mut self, limits: Limits, stamp: &mut dyn FnMut() -> u64) -> Result<Step> {
        self.settle()?;
        self.conn.execute_batch("BEGIN").doing("begin to read")?;
        let done = self.read(limits, stamp);
        let ended = self.conn.execute_batch("COMMIT").doing("end to read");
        if done.is_err() && !self.conn.is_autocommit() {
            self.conn.execute_batch("ROLLBACK").doing("end to read")?;
        }
        let step = done?;
        ended?;
        Ok(step)
    }

    /// Puts in order what the last step found out of it.
    fn settle(&mut self) -> Result<()> {
        let due = std::mem::take(&mut self.due);
        if !(due.schema || due.lost || due.stale || !due.hide.is_empty()) {
            return Ok(());
        }
        let done = self.settle_due(&due);
        if done.is_err() {
            self.due = due;
        }
        done
    }

    fn settle_due(&mut self, due: &Due) -> Result<()> {
        let (config, rng) = (&self.config, &mut self.rng);
        let empty = Position::default();
        let (position, durable) = if due.lost { (&empty, &empty) } else { (&self.position, &self.durable) };
        let known = Known { position, durable, lost: due.lost, stale: due.stale, hide: &due.hide };
        let (outcome, last) = store::write(&mut self.conn, "install the triggers", true, |tx| {
            let outcome = install::reconcile(tx, config, &known, rng)?;
            // Whatever was captured before is told again by the reading.
            Ok((outcome, if due.lost { store::last_captured(tx)? } else { None }))
        })?;
        if due.lost {
            let (id, nonce, _) =
                last.ok_or_else(|| Error::Inconsistent("_dts_capture is empty".to_owned()))?;
            let install = outcome.catalog.install;
            self.position = Position { install, cursor: Cursor { id, nonce }, ..Position::default() };
            // Not stored, but there is nothing older that could still be read.
            self.durable = self.position.clone();
        }
        self.take_over(outcome);
        Ok(())
    }

    /// Within a read transaction.
    fn read(&mut self, limits: Limits, stamp: &mut dyn FnMut() -> u64) -> Result<Step> {
        if store::schema_version(&self.conn)? != self.catalog.schema_version {
            if !store::is_installed(&self.conn)? {
                log::warn!("{}: somebody removed the triggers; installs them again", self.emitter.source());
                self.due.lost = true;
            }
            self.due.schema = true;
            return Ok(Step::Again);
        }
        let meta = store::meta(&self.conn)?;
        let bytes = at_cursor(&self.conn, self.position.cursor)?;
        let (Some(bytes), true) = (bytes, meta.install == self.position.install) else {
            log::warn!(
                "{}: this is not the database of before, or an older copy of it",
                self.emitter.source()
            );
            self.due.lost = true;
            return Ok(Step::Again);
        };
        let before = self.position.clone();
        let mut source = Source {
            conn: &self.conn,
            catalog: &self.catalog,
            position: &mut self.position,
            counts: &mut self.counts,
            hide: &mut self.due.hide,
        };
        let done = self.emitter.captured(&mut source, bytes, limits, stamp);
        let drained = match done {
            Ok(true) if source.hide.is_empty() => {
                self.emitter.tables(&mut source, limits, stamp).map(|()| true)
            }
            other => other,
        };
        if drained.is_err() || !self.due.hide.is_empty() {
            // Nothing of this step leaves; it is read again.
            self.emitter.discard();
            self.position = before;
            return drained.map(|_| Step::Again);
        }
        self.used_bytes = self.max_bytes() - (meta.stop - meta.captured_bytes);
        let drained = drained?;
        if let Some(batch) = self.emitter.finish(&self.position) {
            return Ok(Step::Batch(batch));
        }
        // The marks are looked at only here, when all that was captured before them is stored.
        if !drained {
            return Ok(Step::Again);
        }
        if self.has_stale()? {
            self.due.stale = true;
            return Ok(Step::Again);
        }
        Ok(Step::Idle)
    }

    /// Whether a table was marked, and the triggers record again.
    fn has_stale(&self) -> Result<bool> {
        self.conn
            .prepare_cached(
                "SELECT EXISTS(SELECT 1 FROM _dts_table WHERE stale<>0) AND \
                 (SELECT stop-b>max/2 FROM _dts_meta)",
            )
            .and_then(|mut s| s.query_row([], |r| r.get(0)))
            .doing("read _dts_table")
    }

    /// The batch of the last step is stored.
    pub(super) fn stored(&mut self) {
        self.durable = self.position.clone();
    }

    /// What is stored, to open anew from.
    pub(super) fn durable(&self) -> Vec<u8> {
        self.durable.encode()
    }

    /// Whether there is something to delete.
    pub(super) fn can_trim(&self) -> bool {
        self.trimmed != (self.durable.cursor, self.position.cursor)
    }

    /// Deletes captured rows that are stored, some at a time. Only to be called when no batch is on
    /// its way. True if more are left.
    pub(super) fn trim(&mut self) -> Result<bool> {
        let (safe, read) = (self.durable.cursor, self.position.cursor);
        let more = store::write(&mut self.conn, "delete captured rows", false, |tx| {
            if at_cursor(tx, read)?.is_none() {
                // Not the rows that were stored: the next step finds out.
                return Ok(false);
            }
            let doing = "delete captured rows";
            let deleted = tx
                .prepare_cached(
                    "DELETE FROM _dts_capture WHERE id<?1 AND id<?2+(SELECT min(id) FROM _dts_capture)",
                )
                .and_then(|mut s| s.execute([safe.id, TRIM_ROWS]))
                .doing(doing)?;
            let more = tx
                .prepare_cached("SELECT EXISTS(SELECT 1 FROM _dts_capture WHERE id<?1)")
                .and_then(|mut s| s.query_row([safe.id], |r| r.get::<_, bool>(0)))
                .doing(doing)?;
            if !more && deleted < usize::try_from(TRIM_ROWS).unwrap_or(0) {
                // What was read since says nothing (candidates that were not displaced).
                tx.prepare_cached("DELETE FROM _dts_capture WHERE id>?1 AND id<?2")
                    .and_then(|mut s| s.execute([safe.id, read.id]))
                    .doing(doing)?;
            }
            // What is used counts from the first row that is left; rows that say nothing are not in it.
            tx.prepare_cached(
                "UPDATE _dts_meta SET stop=max+(SELECT b FROM _dts_capture WHERE id=\
                 (SELECT CASE WHEN ?1 THEN min(id) ELSE ?2 END FROM _dts_capture))",
            )
            .and_then(|mut s| s.execute((more, read.id)))
            .doing(doing)?;
            Ok(more)
        })?;
        if !more {
            self.trimmed = (safe, read);
        }
        Ok(more)
    }

    /// The path of the database.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes that may wait in the database.
    pub(super) fn max_bytes(&self) -> i64 {
        self.config.max_bytes()
    }
}

/// The byte count at a captured row, if it is the one meant.
fn at_cursor(conn: &Connection, cursor: Cursor) -> Result<Option<i64>> {
    conn.prepare_cached("SELECT b FROM _dts_capture WHERE id=?1 AND n=?2")
        .and_then(|mut s| s.query_row([cursor.id, cursor.nonce], |r| r.get(0)).optional())
        .doing("read captured rows")
}

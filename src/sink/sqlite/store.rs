//! The synchronous core: one write is one transaction. No thread, no clock.
//!
//! Rows that were written before are skipped by their sequence numbers (`dts_seen`), so a resent
//! batch changes nothing, whatever its tables; the version of each mirrored row is the second line, for
//! changes that come out of order.

use std::collections::HashMap;
use std::sync::Arc;

use rusqlite::{Connection, params};

use super::error::{ApplyError, Class, advice, class};
use super::events::{self, Event};
use super::layout::Options;
use super::mirror::{At, Mirror, Room, Version};
use super::ranges::Ranges;
use super::sessions;
use crate::event::{Batch, Origin};
use crate::sink::{Claimed, Mark, SinkError};

/// (device, epoch) pairs kept in memory; all are forgotten when there are more.
const MAX_SEEN: usize = 4096;

/// What a write did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Rows applied.
    pub applied: u64,
    /// Rows that were there before, or that newer ones had replaced.
    pub absorbed: u64,
}

/// A failed write: what to tell, and whether the connection must be opened anew.
#[derive(Debug)]
pub struct WriteError {
    /// For the pipeline.
    pub error: SinkError,
    /// Whether the [`Connection`] must not be used again.
    pub reopen: bool,
}

#[derive(Debug, Default)]
struct Seen {
    ranges: Ranges,
    dirty: bool,
}

/// Writes batches into a file. Borrows its connection, since it keeps statements prepared.
pub struct Store<'c> {
    conn: &'c Connection,
    options: &'c Options,
    mirror: Mirror<'c>,
    seen: HashMap<(Arc<str>, u64), Seen>,
    scratch: Vec<u8>,
    /// Changes when somebody else writes to the file.
    data_version: i64,
    /// Sessions are claimed: marks of older ones are refused.
    fences: bool,
}

impl std::fmt::Debug for Store<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("options", &self.options).finish_non_exhaustive()
    }
}

/// A failure inside of a transaction: (batch, row) where it is known.
type Failure = (ApplyError, Option<(usize, u32)>);

fn outside(error: impl Into<ApplyError>) -> Failure {
    (error.into(), None)
}

impl<'c> Store<'c> {
    /// On an open connection ([`super::open`]).
    pub fn new(conn: &'c Connection, options: &'c Options) -> Result<Self, WriteError> {
        conn.set_prepared_statement_cache_capacity(64);
        let mirror = Mirror::new(conn, options).map_err(|e| explain(options, outside(e)))?;
        let (seen, scratch) = (HashMap::new(), Vec::new());
        Ok(Self { conn, options, mirror, seen, scratch, data_version: 0, fences: false })
    }

    /// Every mark in the file.
    pub fn marks(&self) -> Result<Vec<Mark>, WriteError> {
        let read = || -> rusqlite::Result<Vec<Mark>> {
            let mut query =
                self.conn.prepare("SELECT device, lane, epoch, seq, crc, session FROM dts_marks")?;
            let marks = query.query_map([], |row| {
                Ok(Mark {
                    device: row.get::<_, String>(0)?.into(),
                    lane: row.get::<_, String>(1)?.into(),
                    epoch: row.get::<_, i64>(2)? as u64,
                    seq: row.get::<_, i64>(3)? as u64,
                    crc: row.get(4)?,
                    session: row.get::<_, i64>(5)? as u64,
                })
            })?;
            marks.collect()
        };
        read().map_err(|e| explain(self.options, outside(e)))
    }

    /// From now on marks of older sessions are refused.
    pub fn fence(&mut self) {
        self.fences = true;
    }

    /// Begins a session of `device`, and fences older ones: see [`crate::sink::Sink::claim`].
    pub fn claim(&mut self, device: &Arc<str>) -> Result<Claimed, WriteError> {
        self.fence();
        let claimed = sessions::claim(self.conn, device);
        if claimed.is_err() && !self.conn.is_autocommit() {
            // The next transaction fails if this does, and says so.
            self.conn.execute_batch("ROLLBACK").unwrap_or_default();
        }
        claimed.map_err(|e| explain(self.options, outside(e)))
    }

    /// Writes all of it, or nothing.
    pub fn write(&mut self, batches: &[Batch], marks: &[Mark]) -> Result<Written, WriteError> {
        let result = self.transaction(batches, marks);
        if result.is_err() {
            // Some errors roll back by themselves.
            if !self.conn.is_autocommit() && self.conn.execute_batch("ROLLBACK").is_err() {
                log::warn!(
                    "{}: the failed transaction could not be rolled back",
                    self.options.path.display()
                );
            }
            self.seen.clear();
            if self.mirror.forget().is_err() {
                self.data_version = 0;
            }
        }
        result.map_err(|failure| explain(self.options, failure))
    }

    fn transaction(&mut self, batches: &[Batch], marks: &[Mark]) -> Result<Written, Failure> {
        let sql = |error: rusqlite::Error| outside(error);
        self.conn.execute_batch("BEGIN IMMEDIATE").map_err(sql)?;
        let version =
            self.conn.prepare_cached("PRAGMA data_version").map_err(sql)?.query_row([], |r| r.get(0));
        let version = version.map_err(sql)?;
        if version != self.data_version {
            self.data_version = version;
            self.seen.clear();
            self.mirror.forget().map_err(sql)?;
        }
        if self.fences {
            let fenced = sessions::fenced(self.conn, marks).map_err(sql)?;
            if !fenced.is_empty() {
                return Err(outside(ApplyError::Fenced(fenced)));
            }
        }
        let mut written = Written::default();
        for (i, batch) in batches.iter().enumerate() {
            self.batch(batch, marks, &mut written)
                .map_err(|(error, row)| (error, row.map(|row| (i, row))))?;
        }
        self.close(marks).map_err(sql)?;
        self.conn.execute_batch("COMMIT").map_err(sql)?;
        if self.seen.len() > MAX_SEEN {
            self.seen.clear();
        }
        Ok(written)
    }

    fn batch(
        &mut self,
        batch: &Batch,
        marks: &[Mark],
        written: &mut Written,
    ) -> Result<(), (ApplyError, Option<u32>)> {
        let key = match &batch.origin {
            Origin::Device { device, epoch, .. } => Some((device.clone(), *epoch)),
            _ => None,
        };
        if let Some(key) = &key
            && !self.seen.contains_key(key)
        {
            let ranges = load(self.conn, key).map_err(|e| (e.into(), None))?;
            self.seen.insert(key.clone(), Seen { ranges, dirty: false });
        }
        // Taken out while the rows are written; on an error everything is forgotten anyway.
        let mut seen = key.as_ref().and_then(|key| self.seen.remove(key));
        let mut hashes: Vec<Option<u64>> = vec![None; batch.tables.len()];
        let mut room = Room::default();
        for (n, row) in (0u32..).zip(batch) {
            let reject = |error| (error, Some(n));
            let row = row.map_err(|e| reject(ApplyError::Reject(e.to_string())))?;
            let at =
                place(batch, row.head().ordinal, marks).map_err(|why| reject(ApplyError::Reject(why)))?;
            let seq = at.version.map(|v| v.seq as u64);
            if let (Some(seen), Some(seq)) = (&seen, seq)
                && seen.ranges.contains(seq)
            {
                written.absorbed += 1;
                continue;
            }
            let event = Event { batch, row: &row, version: at.version };
            let applied = if self.options.log {
                events::log(self.conn, event, &mut self.scratch).map(|()| true).map_err(reject)?
            } else if events::write(self.conn, event).map_err(reject)? {
                true
            } else {
                let known = hashes.get_mut(usize::from(row.head().schema));
                let hash = known
                    .map_or_else(|| row.table().hash(), |h| *h.get_or_insert_with(|| row.table().hash()));
                self.mirror.prepare(&row, hash).map_err(reject)?;
                self.mirror.apply(&row, hash, at, &mut room).map_err(reject)?
            };
            written.applied += u64::from(applied);
            written.absorbed += u64::from(!applied);
            if let (Some(seen), Some(seq)) = (&mut seen, seq) {
                seen.ranges.insert(seq, seq);
                seen.dirty = true;
            }
        }
        if let (Some(key), Some(seen)) = (key, seen) {
            self.seen.insert(key, seen);
        }
        Ok(())
    }

    /// What a transaction ends with: sequence numbers, marks, tombstones.
    fn close(&mut self, marks: &[Mark]) -> rusqlite::Result<()> {
        for ((device, epoch), seen) in self.seen.iter_mut().filter(|(_, seen)| seen.dirty) {
            self.conn
                .prepare_cached("DELETE FROM dts_seen WHERE device=?1 AND epoch=?2")?
                .execute(params![&**device, *epoch as i64])?;
            let mut insert = self
                .conn
                .prepare_cached("INSERT INTO dts_seen(device, epoch, first, last) VALUES(?1, ?2, ?3, ?4)")?;
            for (first, last) in seen.ranges.iter() {
                insert.execute(params![&**device, *epoch as i64, first as i64, last as i64])?;
            }
            seen.dirty = false;
        }
        for mark in marks {
            self.conn
                .prepare_cached(
                    "INSERT INTO dts_marks(device, lane, epoch, seq, crc, session) VALUES(?1, ?2, ?3, ?4, ?5, ?6)
                     ON CONFLICT(device, lane, epoch) DO UPDATE SET
                       crc = iif(excluded.seq >= seq, excluded.crc, crc),
                       seq = max(seq, excluded.seq), session = max(session, excluded.session)",
                )?
                .execute(params![
                    &*mark.device,
                    &*mark.lane,
                    mark.epoch as i64,
                    mark.seq as i64,
                    mark.crc,
                    mark.session as i64
                ])?;
            let version = Version { epoch: mark.epoch as i64, seq: mark.seq as i64 };
            self.mirror.graves.prune(self.conn, &mark.device, version)?;
        }
        self.mirror.graves.limit(self.conn)
    }

    /// One line about the file.
    pub fn probe(&self) -> Result<String, WriteError> {
        let read = || -> rusqlite::Result<(i64, i64)> {
            self.conn.execute_batch("BEGIN IMMEDIATE; ROLLBACK")?;
            let tables = self.conn.query_row("SELECT count(*) FROM dts_tables", [], |row| row.get(0))?;
            let marks = self.conn.query_row("SELECT count(*) FROM dts_marks", [], |row| row.get(0))?;
            Ok((tables, marks))
        };
        let (tables, marks) = read().map_err(|e| explain(self.options, outside(e)))?;
        Ok(format!("{}: writable, {tables} mirrored tables, {marks} watermarks", self.options.path.display()))
    }
}

/// Where a row stands in its device's order.
fn place<'a>(batch: &'a Batch, ordinal: u64, marks: &[Mark]) -> Result<At<'a>, String> {
    let Origin::Device { device, lane, epoch, first_seq, .. } = &batch.origin else {
        return Ok(At { device: "", version: None, marked: false });
    };
    let seq = first_seq.checked_add(ordinal).and_then(|seq| i64::try_from(seq).ok());
    let (Some(seq), Ok(signed)) = (seq, i64::try_from(*epoch)) else {
        return Err(format!("epoch {epoch:016x} or sequence {first_seq} + {ordinal} is out of range"));
    };
    let covers =
        |m: &Mark| m.epoch == *epoch && m.device == *device && m.lane == *lane && m.seq >= seq as u64;
    let version = Some(Version { epoch: signed, seq });
    Ok(At { device, version, marked: marks.iter().any(covers) })
}

fn load(conn: &Connection, (device, epoch): &(Arc<str>, u64)) -> rusqlite::Result<Ranges> {
    let mut query = conn.prepare_cached("SELECT first, last FROM dts_seen WHERE device=?1 AND epoch=?2")?;
    let mut rows = query.query(params![&**device, *epoch as i64])?;
    let mut ranges = Ranges::default();
    while let Some(row) = rows.next()? {
        let (first, last): (i64, i64) = (row.get(0)?, row.get(1)?);
        ranges.insert(first as u64, last as u64);
    }
    Ok(ranges)
}

/// Puts a failure into the pipeline's words.
fn explain(options: &Options, (error, row): Failure) -> WriteError {
    let path = options.path.display();
    let sqlite = match error {
        ApplyError::Reject(reason) => {
            let error = match row {
                Some((batch, row)) => SinkError::Reject { batch, row, reason },
                None => SinkError::Fatal(format!("write {path}: {reason}")),
            };
            return WriteError { error, reopen: false };
        }
        ApplyError::Fenced(devices) => {
            return WriteError { error: SinkError::Fenced { devices }, reopen: false };
        }
        ApplyError::Sqlite(error) => error,
    };
    let text = format!("write {path}: {sqlite}; {}", advice(&sqlite));
    let (class, reopen) = (class(&sqlite), class(&sqlite) == Class::Reopen);
    let error = match (class, row) {
        (Class::Retry | Class::Reopen, _) => SinkError::Retry(text),
        (Class::Reject, Some((batch, row))) => SinkError::Reject { batch, row, reason: sqlite.to_string() },
        _ => SinkError::Fatal(text),
    };
    WriteError { error, reopen }
}

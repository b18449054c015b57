//! Tombstones: versions of deleted rows, so that an older change that comes late cannot bring them
//! back.
//!
//! A change at or below a watermark never comes again, so a delete that its own write's marks cover
//! leaves none, and marks remove those below them. Where no marks come (local sources, foreign
//! brokers) the oldest go first beyond `max_tombstones`.

use rusqlite::{Connection, OptionalExtension};

use super::mirror::Version;

/// The key of a tombstone for a whole table (truncate). No row's key has no bytes.
pub(super) const WHOLE_TABLE: &[u8] = b"";

/// The tombstones of a file.
#[derive(Debug)]
pub(super) struct Graves {
    /// At least as many as there are; 0 only if there are none.
    count: u64,
    max: u64,
}

impl Graves {
    /// Counts those that the file holds.
    pub(super) fn new(conn: &Connection, max: u32) -> rusqlite::Result<Self> {
        Ok(Self { count: count(conn)?, max: u64::from(max) })
    }

    /// Whether there may be any.
    pub(super) fn any(&self) -> bool {
        self.count > 0
    }

    /// Whether a row with this key was deleted, or its table truncated, by a newer change than
    /// `version`. An older tombstone of the row is removed: the row itself holds the version now.
    pub(super) fn covers(
        &mut self,
        conn: &Connection,
        (table, device, key): (i64, &str, &[u8]),
        version: Version,
    ) -> rusqlite::Result<bool> {
        if self.count == 0 {
            return Ok(false);
        }
        let mut find = conn.prepare_cached(
            "SELECT id, epoch, seq FROM dts_tombstones WHERE tbl=?1 AND device=?2 AND key=?3",
        )?;
        for key in [key, WHOLE_TABLE] {
            let found = find
                .query_row((table, device, key), |row| {
                    Ok((row.get::<_, i64>(0)?, Version { epoch: row.get(1)?, seq: row.get(2)? }))
                })
                .optional()?;
            match found {
                Some((_, grave)) if grave > version => return Ok(true),
                Some((id, _)) if key != WHOLE_TABLE => {
                    conn.prepare_cached("DELETE FROM dts_tombstones WHERE id=?1")?.execute([id])?;
                    self.count = self.count.saturating_sub(1);
                }
                _ => {}
            }
        }
        Ok(false)
    }

    /// Notes that `version` deleted the row.
    pub(super) fn dig(
        &mut self,
        conn: &Connection,
        (table, device, key): (i64, &str, &[u8]),
        version: Version,
    ) -> rusqlite::Result<()> {
        conn.prepare_cached(
            "INSERT INTO dts_tombstones(tbl, device, key, epoch, seq) VALUES(?1, ?2, ?3, ?4, ?5)
             ON CONFLICT(tbl, device, key) DO UPDATE SET epoch=excluded.epoch, seq=excluded.seq
             WHERE (excluded.epoch, excluded.seq) > (dts_tombstones.epoch, dts_tombstones.seq)",
        )?
        .execute((table, device, key, version.epoch, version.seq))?;
        self.count += 1;
        Ok(())
    }

    /// Removes what a watermark covers.
    pub(super) fn prune(&mut self, conn: &Connection, device: &str, mark: Version) -> rusqlite::Result<()> {
        if self.count > 0 {
            let gone = conn
                .prepare_cached("DELETE FROM dts_tombstones WHERE device=?1 AND epoch=?2 AND seq<=?3")?
                .execute((device, mark.epoch, mark.seq))?;
            self.count = self.count.saturating_sub(gone as u64);
        }
        Ok(())
    }

    /// Removes the oldest beyond the limit.
    pub(super) fn limit(&mut self, conn: &Connection) -> rusqlite::Result<()> {
        if self.count <= self.max {
            return Ok(());
        }
        self.count = count(conn)?;
        let excess = self.count.saturating_sub(self.max);
        if excess > 0 {
            let gone = conn
                .prepare_cached(
                    "DELETE FROM dts_tombstones WHERE id IN (SELECT id FROM dts_tombstones ORDER BY id LIMIT ?1)",
                )?
                .execute([excess as i64])?;
            self.count = self.count.saturating_sub(gone as u64);
        }
        Ok(())
    }
}

fn count(conn: &Connection) -> rusqlite::Result<u64> {
    conn.query_row("SELECT count(*) FROM dts_tombstones", [], |row| row.get::<_, i64>(0))
        .map(i64::unsigned_abs)
}

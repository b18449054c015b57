//! What is counted, so that nothing is counted by a scan. One row a lane and one for the store, as
//! JSON with a checksum, written in the transaction that changes what it says.

use rusqlite::{Connection, OptionalExtension};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::error::Fault;

/// The store's own row.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct StoreMeta {
    /// Grows with each transaction: tells, after a failed commit, whether it landed.
    pub txn: u64,
    /// Powered time of the store, µs, at `mono_us` of the boot `boot`.
    pub elapsed_us: u64,
    pub mono_us: u64,
    pub boot: u64,
    /// Closed as it should be; false from the first transaction on.
    pub clean: bool,
    /// Files that were quarantined.
    pub quarantined: u64,
}

/// A run of batches of a lane that share an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Era {
    /// The epoch in the rows.
    pub stamped: u64,
    /// What it is called outside: another one after a restamp, which so rewrites no row.
    pub epoch: u64,
    /// One above the last sequence number issued.
    pub next_seq: u64,
    /// Number of its last batch; `u64::MAX` for the one that goes on.
    pub last_n: u64,
}

/// A lane's row.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct LaneMeta {
    /// Its number in batch ids.
    pub no: u16,
    /// Number of the next batch.
    pub next_n: u64,
    /// Oldest first; the last one goes on. Older ones go when nothing of them is held.
    pub eras: Vec<Era>,
    /// Lanes with rows in memory: no sequence number of the last era above this was acknowledged to
    /// an input or handed out before this row was durable. 0: none.
    pub reserved: u64,
    /// Lowest sequence number that was in memory only when this row was written.
    pub volatile_from: u64,
    /// Where the lane begins: stamped epoch and sequence number of its first batch on disk, when this
    /// was last looked up. All before is acknowledged or named.
    pub front: Option<(u64, u64)>,
    /// Number of the last batch on disk.
    pub disk_n: u64,
    /// On disk, acknowledged ones that are kept not counted.
    pub bytes: u64,
    pub batches: u64,
    pub rows: u64,
    /// Number up to which batches may have been handed out, at most: their bodies must not change.
    pub handed: u64,
    /// Stamped epoch and sequence number up to which rows may have been handed out, at most; all of earlier eras may have been,
    /// nothing of later ones. `None`: not known (an earlier release wrote the file).
    #[serde(default)]
    pub handed_to: Option<(u64, u64)>,
    /// With `keep_acked`: number up to which batches are acknowledged and kept.
    pub acked_n: u64,
    pub kept_bytes: u64,
    pub kept_batches: u64,
    pub kept_rows: u64,
    /// Rows lost, all reasons together.
    pub lost_rows: u64,
    /// Loss records that can still be extended.
    pub losses: Vec<LossRef>,
}

/// A loss record on disk that was not handed out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LossRef {
    /// Its batch.
    pub n: u64,
    /// Its own sequence number.
    pub seq: u64,
    pub epoch: u64,
    pub from: u64,
    pub to: u64,
    pub rows: u64,
    pub reason: Box<str>,
    pub exact: bool,
}

impl LaneMeta {
    /// The era that goes on.
    pub(super) fn era(&self) -> Option<&Era> {
        self.eras.last()
    }

    pub(super) fn next_seq(&self) -> u64 {
        self.era().map_or(1, |e| e.next_seq)
    }

    /// What a stamped epoch is called outside.
    pub(super) fn outside(&self, stamped: u64) -> u64 {
        self.eras.iter().rev().find(|e| e.stamped == stamped).map_or(stamped, |e| e.epoch)
    }

    /// Puts (stamped epoch, sequence number) in order. Eras that are no longer listed come first.
    pub(super) fn rank(&self, (stamped, seq): (u64, u64)) -> (usize, u64) {
        (self.eras.iter().position(|e| e.stamped == stamped).map_or(0, |i| i + 1), seq)
    }

    /// The last number that was given: stamped epoch and sequence number.
    pub(super) fn issued_to(&self) -> (u64, u64) {
        let era = self.eras.iter().rev().find(|e| e.next_seq > 1);
        era.map_or((0, 0), |e| (e.stamped, e.next_seq - 1))
    }

    /// Ends the era that goes on and begins `epoch` at sequence number 1.
    pub(super) fn begin_era(&mut self, epoch: u64) {
        let last_n = self.next_n.saturating_sub(1);
        if let Some(era) = self.eras.last_mut() {
            era.last_n = last_n;
        }
        // One that never had a batch leaves no trace.
        if self.eras.last().is_some_and(|e| e.next_seq == 1) {
            self.eras.pop();
        }
        self.eras.push(Era { stamped: epoch, epoch, next_seq: 1, last_n: u64::MAX });
        self.reserved = 0;
        self.volatile_from = 0;
    }

    /// Takes `rows` sequence numbers, returning the first, and a batch number.
    pub(super) fn take(&mut self, rows: u64) -> (u64, u64, u64) {
        let n = self.next_n;
        self.next_n += 1;
        match self.eras.last_mut() {
            Some(era) => {
                let first = era.next_seq;
                era.next_seq += rows;
                (n, era.stamped, first)
            }
            None => (n, 0, 1),
        }
    }

    /// Forgets eras of which nothing is held: `first_n` is the oldest batch.
    pub(super) fn trim_eras(&mut self, first_n: u64) {
        let last = self.eras.len().saturating_sub(1);
        let mut i = 0;
        self.eras.retain(|e| {
            i += 1;
            i > last || e.last_n >= first_n
        });
    }
}

fn checksum(key: &str, value: &str) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c_append(crc32c::crc32c(key.as_bytes()), &[0]), value.as_bytes())
}

pub(super) fn put(conn: &Connection, key: &str, value: &str) -> Result<(), Fault> {
    conn.prepare_cached("INSERT OR REPLACE INTO meta(key, value, crc) VALUES(?1, ?2, ?3)")?.execute((
        key,
        value,
        checksum(key, value),
    ))?;
    Ok(())
}

/// The value under `key`, checked.
pub(super) fn get(conn: &Connection, key: &str) -> Result<Option<String>, Fault> {
    let row: Option<(String, u32)> = conn
        .prepare_cached("SELECT value, crc FROM meta WHERE key = ?1")?
        .query_row([key], |r| Ok((r.get(0)?, r.get(1)?)))
        .optional()?;
    let Some((value, crc)) = row else { return Ok(None) };
    if checksum(key, &value) != crc {
        return Err(Fault::Corrupt(format!("meta `{key}` has a wrong checksum")));
    }
    Ok(Some(value))
}

pub(super) fn put_json(conn: &Connection, key: &str, value: &impl Serialize) -> Result<(), Fault> {
    let text = serde_json::to_string(value).map_err(|e| Fault::Io(e.to_string()))?;
    put(conn, key, &text)
}

pub(super) fn get_json<T: DeserializeOwned>(conn: &Connection, key: &str) -> Result<Option<T>, Fault> {
    let Some(text) = get(conn, key)? else { return Ok(None) };
    serde_json::from_str(&text).map(Some).map_err(|e| Fault::Corrupt(format!("meta `{key}`: {e}")))
}

/// Names of the lanes that have a row.
pub(super) fn lanes(conn: &Connection) -> Result<Vec<String>, Fault> {
    let mut statement =
        conn.prepare("SELECT substr(key, 6) FROM meta WHERE key >= 'lane/' AND key < 'lane0'")?;
    let names = statement.query_map([], |r| r.get(0))?.collect::<Result<Vec<String>, _>>()?;
    Ok(names)
}

fn position_checksum(source: &str, key: &str, value: &[u8]) -> u32 {
    let crc = crc32c::crc32c_append(crc32c::crc32c(source.as_bytes()), &[0]);
    let crc = crc32c::crc32c_append(crc32c::crc32c_append(crc, key.as_bytes()), &[0]);
    crc32c::crc32c_append(crc, value)
}

/// Where an input goes on: (source, key, value).
pub type Position = (std::sync::Arc<str>, Box<str>, Box<[u8]>);

/// Stores a position; an empty value removes it.
pub(super) fn put_position(conn: &Connection, (source, key, value): &Position) -> Result<(), Fault> {
    if value.is_empty() {
        conn.prepare_cached("DELETE FROM position WHERE source = ?1 AND key = ?2")?.execute((source, key))?;
        return Ok(());
    }
    conn.prepare_cached("INSERT OR REPLACE INTO position(source, key, value, crc) VALUES(?1, ?2, ?3, ?4)")?
        .execute((source, key, value, position_checksum(source, key, value)))?;
    Ok(())
}

/// Every position, checked.
pub(super) fn positions(conn: &Connection) -> Result<Vec<Position>, Fault> {
    let mut statement = conn.prepare("SELECT source, key, value, crc FROM position ORDER BY source, key")?;
    let mut rows = statement.query([])?;
    let mut all: Vec<Position> = Vec::new();
    while let Some(row) = rows.next()? {
        let (source, key, value): (String, String, Vec<u8>) = (row.get(0)?, row.get(1)?, row.get(2)?);
        if position_checksum(&source, &key, &value) != row.get::<_, u32>(3)? {
            return Err(Fault::Corrupt(format!("position `{key}` of `{source}` has a wrong checksum")));
        }
        let source = match all.last() {
            Some((s, _, _)) if **s == *source => s.clone(),
            _ => source.into(),
        };
        all.push((source, key.into(), value.into()));
    }
    Ok(all)
}

/// The positions that can be read, of a damaged file.
pub(super) fn readable_positions(conn: &Connection) -> Vec<Position> {
    let mut all = Vec::new();
    let Ok(mut statement) = conn.prepare("SELECT source, key, value, crc FROM position") else { return all };
    let Ok(mut rows) = statement.query([]) else { return all };
    while let Ok(Some(row)) = rows.next() {
        let (Ok(source), Ok(key), Ok(value), Ok(crc)) = (
            row.get::<_, String>(0),
            row.get::<_, String>(1),
            row.get::<_, Vec<u8>>(2),
            row.get::<_, u32>(3),
        ) else {
            continue;
        };
        if position_checksum(&source, &key, &value) == crc {
            all.push((source.into(), key.into(), value.into()));
        }
    }
    all
}

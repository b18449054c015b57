//! The file: how it is opened, and the tables of ours beside the mirrored ones.
//!
//! Epochs and sequence numbers are stored as the integers they are; `printf('%016x', epoch)` gives
//! the form that they have in an `id`.

use std::path::PathBuf;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

/// What the store needs to know; a simulation makes one by hand.
#[derive(Clone, Debug)]
pub struct Options {
    /// The database file.
    pub path: PathBuf,
    /// One table of JSON instead of mirrored tables.
    pub log: bool,
    /// Whether the device is part of every key.
    pub device_column: bool,
    /// How long to wait for somebody else's lock.
    pub busy_timeout: Duration,
    /// Page cache, in bytes.
    pub cache_bytes: u64,
    /// Most mirrored tables.
    pub max_tables: u32,
    /// Most deletes remembered.
    pub max_tombstones: u32,
    /// Name of the SQLite VFS; `None` is the system's. For simulations.
    pub vfs: Option<String>,
    /// Lock the file for good and use no shared memory. For simulations.
    pub exclusive: bool,
}

/// Version of this layout, in `dts_meta`.
const LAYOUT: i64 = 1;

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS dts_meta(key TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS dts_marks(
  device TEXT NOT NULL, lane TEXT NOT NULL, epoch INTEGER NOT NULL, seq INTEGER NOT NULL,
  crc INTEGER NOT NULL, session INTEGER NOT NULL, PRIMARY KEY(device, lane, epoch)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS dts_sessions(device TEXT PRIMARY KEY, session INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS dts_seen(
  device TEXT NOT NULL, epoch INTEGER NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL,
  PRIMARY KEY(device, epoch, first)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS dts_tables(
  id INTEGER PRIMARY KEY, db TEXT NOT NULL, name TEXT NOT NULL, mirror TEXT NOT NULL, UNIQUE(db, name));
CREATE TABLE IF NOT EXISTS dts_columns(
  tbl INTEGER NOT NULL, name TEXT NOT NULL, mirror TEXT NOT NULL, PRIMARY KEY(tbl, name)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS dts_tombstones(
  id INTEGER PRIMARY KEY, tbl INTEGER NOT NULL, device TEXT NOT NULL, key BLOB NOT NULL,
  epoch INTEGER NOT NULL, seq INTEGER NOT NULL, UNIQUE(tbl, device, key));
CREATE INDEX IF NOT EXISTS dts_tombstones_by_version ON dts_tombstones(device, epoch, seq);
CREATE TABLE IF NOT EXISTS messages(
  id INTEGER PRIMARY KEY, device TEXT, lane TEXT, epoch INTEGER, seq INTEGER, source TEXT, ts_ms INTEGER,
  topic TEXT, key TEXT, format TEXT, payload, headers TEXT);
CREATE TABLE IF NOT EXISTS dts_losses(
  id INTEGER PRIMARY KEY, device TEXT, lane TEXT, epoch INTEGER, seq INTEGER, source TEXT, ts_ms INTEGER,
  lost_lane TEXT, lost_epoch INTEGER, from_seq INTEGER, to_seq INTEGER, reason TEXT, bound TEXT, rows INTEGER);
CREATE TABLE IF NOT EXISTS dts_ddl(
  id INTEGER PRIMARY KEY, device TEXT, lane TEXT, epoch INTEGER, seq INTEGER, source TEXT, ts_ms INTEGER,
  default_db TEXT, tables TEXT, sql TEXT);
CREATE TABLE IF NOT EXISTS dts_log(
  id INTEGER PRIMARY KEY, device TEXT, lane TEXT, epoch INTEGER, seq INTEGER, source TEXT, ts_ms INTEGER,
  kind TEXT, db TEXT, tbl TEXT, json TEXT);
";

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// SQLite says so.
    #[error("{0}")]
    Sqlite(#[from] rusqlite::Error),
    /// It holds somebody else's tables.
    #[error("it holds tables that dts did not make; name a file of its own for dts")]
    Foreign,
    /// A newer dts wrote it.
    #[error("it has layout {0} and this dts knows layout {LAYOUT}; run the newer dts")]
    Newer(i64),
}

/// Makes sure that what the log says is on disk. An fsync that failed, in this process or in one before it, leaves what it
/// was for in the page cache only, where it reads well, and no later fsync writes it: a power cut would then take it,
/// and with it all that was appended behind it. Copied into the file it is written anew.
fn settle_log(conn: &Connection) -> Result<(), rusqlite::Error> {
    let busy: i64 = conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
    if busy != 0 {
        log::warn!(
            "a reader keeps the log of the mirror from being copied; it is as safe as the last fsync was"
        );
    }
    Ok(())
}

/// Opens or makes the file.
pub fn open(options: &Options) -> Result<Connection, OpenError> {
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = match &options.vfs {
        Some(vfs) => Connection::open_with_flags_and_vfs(&options.path, flags, vfs.as_str())?,
        None => Connection::open_with_flags(&options.path, flags)?,
    };
    conn.busy_timeout(options.busy_timeout)?;
    // A misspelt identifier is an error and never a string.
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_DQS_DML, false)?;
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_DQS_DDL, false)?;
    let cache_kib = options.cache_bytes / 1024;
    let lock = if options.exclusive { "EXCLUSIVE" } else { "NORMAL" };
    conn.execute_batch(&format!(
        "PRAGMA locking_mode={lock}; PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA foreign_keys=OFF;
         PRAGMA temp_store=MEMORY; PRAGMA trusted_schema=OFF; PRAGMA wal_autocheckpoint=4000;
         PRAGMA journal_size_limit=67108864; PRAGMA cache_size=-{cache_kib};"
    ))?;
    settle_log(&conn)?;
    let count = |sql: &str| conn.query_row(sql, [], |row| row.get::<_, i64>(0));
    if count("SELECT count(*) FROM sqlite_schema WHERE name='dts_meta'")? == 0
        && count(
            "SELECT count(*) FROM sqlite_schema WHERE type='table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'",
        )? > 0
    {
        return Err(OpenError::Foreign);
    }
    conn.execute_batch("BEGIN IMMEDIATE")?;
    let made = conn.execute_batch(SCHEMA).and_then(|()| {
        conn.execute("INSERT OR IGNORE INTO dts_meta VALUES('layout', ?1)", [LAYOUT])?;
        count("SELECT value FROM dts_meta WHERE key='layout'")
    });
    conn.execute_batch(if made.is_ok() { "COMMIT" } else { "ROLLBACK" })?;
    match made? {
        layout if layout > LAYOUT => Err(OpenError::Newer(layout)),
        _ => Ok(conn),
    }
}

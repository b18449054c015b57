//! The file: its tables, how a connection to it is set up, what of it this code can read.

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::error::{Fault, SpoolError};
use super::folder::Folder;
use super::meta;

/// The database's file in the spool's folder.
pub(super) const FILE: &str = "buffer.db";
/// SQLite's write-ahead log of it.
pub(super) const LOG: &str = "buffer.db-wal";
/// Bytes of a file that SQLite does not take for a new one, at least: its smallest page.
pub(super) const LEAST_FILE: u64 = 512;
/// The format that this code writes, and the newest that it reads.
pub(super) const FORMAT: u64 = 1;
/// The least format whose code may read what this code writes. Raised only when old code would
/// misread the file.
pub(super) const MIN_READER: u64 = 1;
/// Pages of write-ahead log after which it is copied back: 4 MiB. The meta page and the pages of
/// batches that are acknowledged before that are copied once or never.
pub(super) const WAL_PAGES: i64 = 1000;
/// The least, where the reserve is small.
pub(super) const LEAST_WAL_PAGES: i64 = 64;

const PRAGMAS: &str = "
    PRAGMA locking_mode = EXCLUSIVE;
    PRAGMA page_size = 4096;
    PRAGMA auto_vacuum = NONE;
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = FULL;
    PRAGMA wal_autocheckpoint = 0;
    PRAGMA journal_size_limit = 8388608;
    PRAGMA secure_delete = OFF;
    PRAGMA cache_size = -256;
    PRAGMA mmap_size = 0;
    PRAGMA temp_store = MEMORY;
    PRAGMA cell_size_check = ON;
    PRAGMA trusted_schema = OFF;";

const TABLES: &str = "
    CREATE TABLE meta(key TEXT PRIMARY KEY, value TEXT NOT NULL, crc INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE batch(
        id INTEGER PRIMARY KEY, lane TEXT NOT NULL, epoch INTEGER NOT NULL, first_seq INTEGER NOT NULL,
        last_seq INTEGER NOT NULL, rows INTEGER NOT NULL, made INTEGER NOT NULL, boot INTEGER NOT NULL,
        clock INTEGER NOT NULL, boot_offset INTEGER, kind INTEGER NOT NULL, source TEXT NOT NULL,
        crc INTEGER NOT NULL, head INTEGER NOT NULL, body BLOB NOT NULL);
    CREATE TABLE schema(hash INTEGER PRIMARY KEY, body BLOB NOT NULL);
    CREATE TABLE position(
        source TEXT NOT NULL, key TEXT NOT NULL, value BLOB NOT NULL, crc INTEGER NOT NULL,
        PRIMARY KEY(source, key)) WITHOUT ROWID;
    CREATE TABLE aside(
        id INTEGER PRIMARY KEY, reason TEXT NOT NULL, lane TEXT NOT NULL, epoch INTEGER NOT NULL,
        first_seq INTEGER NOT NULL, last_seq INTEGER NOT NULL, rows INTEGER NOT NULL, made INTEGER NOT NULL,
        boot INTEGER NOT NULL, clock INTEGER NOT NULL, boot_offset INTEGER, kind INTEGER NOT NULL,
        source TEXT NOT NULL, crc INTEGER NOT NULL, head INTEGER NOT NULL, body BLOB NOT NULL);";

/// Opens the file `name`, made if it is missing, ready to be used, and says whether it is new.
pub(super) fn connect(
    folder: &dyn Folder,
    name: &str,
    vfs: Option<&str>,
) -> Result<(Connection, bool), Fault> {
    folder
        .create(name)
        .map_err(|e| Fault::Io(format!("cannot make {}: {e}", folder.path(name).display())))?;
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_CREATE;
    let path = folder.path(name);
    let conn = match vfs {
        Some(vfs) => Connection::open_with_flags_and_vfs(path, flags, vfs)?,
        None => Connection::open_with_flags(path, flags)?,
    };
    // A connection that failed must not write on its way out.
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    conn.set_prepared_statement_cache_capacity(24);
    conn.execute_batch(PRAGMAS)?;
    let mode: String = conn.pragma_query_value(None, "journal_mode", |r| r.get(0))?;
    if mode != "wal" {
        return Err(Fault::Io(format!("the file system does not allow a write-ahead log (mode {mode})")));
    }
    let tables: i64 = conn.query_row("SELECT count(*) FROM sqlite_master", [], |r| r.get(0))?;
    if tables == 0 {
        conn.execute_batch("BEGIN IMMEDIATE")?;
        conn.execute_batch(TABLES)?;
        meta::put(&conn, "min_reader", &MIN_READER.to_string())?;
        meta::put(&conn, "format", &FORMAT.to_string())?;
        conn.execute_batch("COMMIT")?;
    }
    Ok((conn, tables == 0))
}

/// Refuses a file that says it cannot be read by this code.
pub(super) fn check_reader(conn: &Connection, folder: &dyn Folder) -> Result<(), Fault> {
    let min_reader = meta::get(conn, "min_reader")?.and_then(|v| v.parse::<u64>().ok());
    match min_reader {
        None => Err(Fault::corrupt("no min_reader")),
        Some(n) if n > FORMAT => Err(Fault::Other(SpoolError::Newer {
            dir: folder.path(FILE).parent().map(Into::into).unwrap_or_default(),
            min_reader: n,
            reads: FORMAT,
        })),
        Some(_) => Ok(()),
    }
}

/// Copies the log back into the file. `mode`: `PASSIVE`, `TRUNCATE`; `NOOP` only counts. Returns the
/// frames in the log.
pub(super) fn checkpoint(conn: &Connection, mode: &str) -> Result<i64, Fault> {
    let mut statement = conn.prepare_cached(&format!("PRAGMA wal_checkpoint({mode})"))?;
    Ok(statement.query_row([], |r| r.get(1))?)
}

//! dts's own tables in the application's database, and the connection to it.
//!
//! ```text
//! _dts_meta     install, format, b, stop, max, followed      one row, rowid 2
//! _dts_table    id, name, root, gen, keep, stale, hidden, gone
//! _dts_shape    id, t, version, def
//! _dts_capture  id, t (shape), o, n (random), b, c0 … c31
//! _dts_note     id, t (table), rec (capture id), k0 … k7
//! ```
//!
//! * Columns have no type, so a value keeps its storage class. No constraint but the rowid's, so no
//!   conflict clause of an application's statement can hit here. No AUTOINCREMENT, which would leave
//!   `sqlite_sequence` behind: the last captured row is never deleted, so ids only grow.
//! * `_dts_meta` is the canary of VACUUM: the table has no key, and its one row leaves a hole before
//!   it. Where VACUUM renumbers rowids it becomes row 1.
//! * `b` is the count of bytes ever captured and `stop` where the triggers stop recording; each
//!   captured row keeps the count as of itself, so what is used is a subtraction.
//! * `gen` is a random number drawn whenever the table must be read (again). It was read when the
//!   position says so; `keep` is a reading after which the mirror's rows may stay (0: the first).

use std::path::{Path, PathBuf};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, OptionalExtension, TransactionBehavior};

use super::error::{Doing, Error, Result};
use super::schema::MAX_NOTE_KEYS;
use super::triggers::WIDTH;

/// Version of the layout above.
pub(super) const FORMAT: i64 = 1;

/// The rowid that `_dts_meta`'s row has until a VACUUM.
const CANARY: i64 = 2;

/// `keep` where the mirror's rows must not stay.
pub(super) const KEEP_NONE: i64 = -1;

/// The one row of `_dts_meta`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Meta {
    pub(super) install: i64,
    pub(super) captured_bytes: i64,
    pub(super) stop: i64,
    pub(super) followed: bool,
    pub(super) vacuumed: bool,
}

/// Opens the database of an application as a guest: never waits for a lock, never checkpoints, makes
/// no file.
pub(super) fn open(path: &Path) -> Result<Connection> {
    let at = |doing| move |e| Error::of(path, doing, e);
    let len = std::fs::metadata(path).map_err(|_| Error::Absent(path.to_owned()))?.len();
    if len == 0 {
        // Writing to it would choose page size and encoding in the application's place.
        return Err(Error::Empty(path.to_owned()));
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(path, flags).map_err(at("open the database"))?;
    conn.busy_timeout(std::time::Duration::ZERO).map_err(at("open the database"))?;
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).map_err(at("open the database"))?;
    conn.set_prepared_statement_cache_capacity(64);
    conn.execute_batch(
        "PRAGMA wal_autocheckpoint=0; PRAGMA cache_size=-512; PRAGMA temp_store=MEMORY; \
         PRAGMA foreign_keys=OFF; PRAGMA mmap_size=0;",
    )
    .map_err(at("open the database"))?;
    let tables: i64 = conn
        .query_row("SELECT count(*) FROM main.sqlite_master WHERE type='table'", [], |r| r.get(0))
        .map_err(at("read the database's header"))?;
    if tables == 0 {
        return Err(Error::Empty(path.to_owned()));
    }
    Ok(conn)
}

/// Device and inode, by which a file that was replaced is told.
pub(super) fn file_id(path: &Path) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(path).ok().map(|m| (m.dev(), m.ino()))
}

/// `path` with `suffix` behind its name: the file's `-wal` or `-journal`.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Runs `f` in a write transaction, if the lock is free at once.
///
/// `durable`: on disk when it returns. Else as safe as the journal mode needs, no more.
pub(super) fn write<T>(
    conn: &mut Connection,
    doing: &'static str,
    durable: bool,
    f: impl FnOnce(&Connection) -> Result<T>,
) -> Result<T> {
    // In a rollback journal only FULL is safe against a power cut; in WAL mode NORMAL is.
    let wal = journal_mode(conn)?.eq_ignore_ascii_case("wal");
    let level = if durable || !wal { "FULL" } else { "NORMAL" };
    conn.pragma_update(None, "synchronous", level).doing(doing)?;
    let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate).doing(doing)?;
    let done = f(&tx)?;
    match tx.commit() {
        Ok(()) => Ok(done),
        Err(e) => {
            // A commit that met a reader (rollback journal) leaves the transaction open.
            if !conn.is_autocommit() {
                conn.execute_batch("ROLLBACK").doing("roll back")?;
            }
            Err(e).doing(doing)
        }
    }
}

/// `wal`, `delete`, `truncate`, …
pub(super) fn journal_mode(conn: &Connection) -> Result<String> {
    conn.query_row("PRAGMA main.journal_mode", [], |r| r.get(0)).doing("read the journal mode")
}

/// Grows with each change of the schema and each VACUUM.
pub(super) fn schema_version(conn: &Connection) -> Result<i64> {
    conn.prepare_cached("PRAGMA main.schema_version")
        .and_then(|mut s| s.query_row([], |r| r.get(0)))
        .doing("read the schema's version")
}

/// Whether dts's tables are there.
pub(super) fn is_installed(conn: &Connection) -> Result<bool> {
    conn.query_row(
        "SELECT count(*) FROM main.sqlite_master WHERE type='table' AND name='_dts_meta'",
        [],
        |r| r.get::<_, i64>(0),
    )
    .doing("look for the capture tables")
    .map(|n| n > 0)
}

/// Makes dts's tables, all of them anew. To be called in a write transaction.
pub(super) fn create(conn: &Connection, install: i64, max_bytes: i64) -> Result<()> {
    let values: String = (0..WIDTH).map(|i| format!(",c{i}")).collect();
    let keys: String = (0..MAX_NOTE_KEYS).map(|i| format!(",k{i}")).collect();
    conn.execute_batch(&format!(
        "CREATE TABLE _dts_meta(install,format,b,stop,max,followed);
         CREATE TABLE _dts_table(id INTEGER PRIMARY KEY,name,root,gen,keep,stale,hidden,gone);
         CREATE TABLE _dts_shape(id INTEGER PRIMARY KEY,t,version,def);
         CREATE TABLE _dts_capture(id INTEGER PRIMARY KEY,t,o,n,b{values});
         CREATE TABLE _dts_note(id INTEGER PRIMARY KEY,t,rec{keys});
         INSERT INTO _dts_meta(rowid,install,format,b,stop,max,followed)
           VALUES({CANARY},{install},{FORMAT},0,{max_bytes},{max_bytes},0);
         INSERT INTO _dts_capture(t,o,n,b) VALUES(0,0,random(),0);"
    ))
    .doing("make the capture tables")
}

/// Takes everything of dts out of the database. To be called in a write transaction.
pub(super) fn remove(conn: &Connection) -> Result<()> {
    let doing = "remove the triggers and capture tables";
    for name in own_triggers(conn)?.into_iter().map(|t| t.name) {
        conn.execute_batch(&format!("DROP TRIGGER {}", super::sql::ident(&name))).doing(doing)?;
    }
    conn.execute_batch(
        "DROP TABLE IF EXISTS _dts_note; DROP TABLE IF EXISTS _dts_capture; DROP TABLE IF EXISTS _dts_shape;
         DROP TABLE IF EXISTS _dts_table; DROP TABLE IF EXISTS _dts_meta;",
    )
    .doing(doing)
}

/// A trigger of dts as it stands in the schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OwnTrigger {
    pub(super) name: String,
    pub(super) table: String,
    pub(super) sql: String,
}

/// Every trigger of dts, in the order in which they were made.
pub(super) fn own_triggers(conn: &Connection) -> Result<Vec<OwnTrigger>> {
    conn.prepare_cached(
        "SELECT name, tbl_name, sql FROM main.sqlite_master \
         WHERE type='trigger' AND substr(name,1,5)='_dts_' ORDER BY rowid",
    )
    .and_then(|mut s| {
        s.query_map([], |r| Ok(OwnTrigger { name: r.get(0)?, table: r.get(1)?, sql: r.get(2)? }))?.collect()
    })
    .doing("read the triggers")
}

/// Reads `_dts_meta`.
pub(super) fn meta(conn: &Connection) -> Result<Meta> {
    let row = conn
        .prepare_cached("SELECT install, format, b, stop, followed, rowid FROM _dts_meta")
        .and_then(|mut s| {
            s.query_row([], |r| {
                let meta = Meta {
                    install: r.get(0)?,
                    captured_bytes: r.get(2)?,
                    stop: r.get(3)?,
                    followed: r.get(4)?,
                    vacuumed: r.get::<_, i64>(5)? != CANARY,
                };
                Ok((meta, r.get::<_, i64>(1)?))
            })
            .optional()
        })
        .doing("read _dts_meta")?;
    match row {
        None => Err(Error::Inconsistent("_dts_meta is empty".to_owned())),
        Some((_, found)) if found > FORMAT => Err(Error::Format { found, known: FORMAT }),
        Some((meta, _)) => Ok(meta),
    }
}

/// Puts the canary back where the next VACUUM moves it.
pub(super) fn reset_canary(conn: &Connection) -> Result<()> {
    conn.execute(&format!("UPDATE _dts_meta SET rowid={CANARY}"), []).doing("update _dts_meta").map(drop)
}

/// The last captured row: (id, nonce, b).
pub(super) fn last_captured(conn: &Connection) -> Result<Option<(i64, i64, i64)>> {
    conn.query_row("SELECT id, n, b FROM _dts_capture ORDER BY id DESC LIMIT 1", [], |r| {
        Ok((r.get(0)?, r.get(1)?, r.get(2)?))
    })
    .optional()
    .doing("read the end of the captured rows")
}

/// A row of `_dts_table`.
#[derive(Clone, Debug)]
pub(super) struct TableRow {
    pub(super) id: i64,
    pub(super) name: String,
    pub(super) root: i64,
    /// The reading that is wanted.
    pub(super) reading: u32,
    pub(super) keep: i64,
    pub(super) stale: bool,
    pub(super) hidden: bool,
    pub(super) gone: bool,
}

/// All of `_dts_table`, by number.
pub(super) fn table_rows(conn: &Connection) -> Result<Vec<TableRow>> {
    conn.prepare_cached("SELECT id, name, root, gen, keep, stale, hidden, gone FROM _dts_table ORDER BY id")
        .and_then(|mut s| {
            s.query_map([], |r| {
                Ok(TableRow {
                    id: r.get(0)?,
                    name: r.get(1)?,
                    root: r.get(2)?,
                    reading: r.get(3)?,
                    keep: r.get(4)?,
                    stale: r.get(5)?,
                    hidden: r.get(6)?,
                    gone: r.get(7)?,
                })
            })?
            .collect()
        })
        .doing("read _dts_table")
}

/// Stores `row`, new or changed.
pub(super) fn put_table_row(conn: &Connection, row: &TableRow) -> Result<()> {
    conn.execute("DELETE FROM _dts_table WHERE id=?1", [row.id]).doing("update _dts_table")?;
    conn.execute(
        "INSERT INTO _dts_table(id,name,root,gen,keep,stale,hidden,gone) VALUES(?1,?2,?3,?4,?5,?6,?7,?8)",
        (row.id, &row.name, row.root, row.reading, row.keep, row.stale, row.hidden, row.gone),
    )
    .doing("update _dts_table")
    .map(drop)
}

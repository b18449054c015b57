//! One version of a source's table, bound to its mirror: names, statements.
//!
//! A mirrored table has the source's columns without types, and in front of them
//!
//! | column | holds |
//! |---|---|
//! | `_dts_row` | rowid |
//! | `_dts_device` | the device that the row came from; empty for sources without one |
//! | `_dts_epoch`, `_dts_seq` | version: the change that wrote it |
//! | `_dts_hash` | for rows without a (whole) key: finds the row by its values; else NULL |
//!
//! Keys are indexed, not declared unique: devices of one fleet may run different versions of an
//! application, with different keys of one table.
//!
//! Which mirror belongs to which table, and which column to which, stands in `dts_tables` and `dts_columns`, since names
//! may have to differ. Columns are added as they appear and never dropped: another device may still have
//! them. A full image sets those that its table does not have to NULL.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, Statement};

use super::error::ApplyError;
use super::layout::Options;
use super::names::{choose, quote, reserved};
use crate::event::Table;

/// SQLite takes 2,000; five are ours, the rest is margin.
const MAX_COLUMNS: usize = 1900;
/// Bytes of a table's column names together: an SQL text may have 1,000,000.
const MAX_NAME_BYTES: usize = 100_000;
/// Our columns of a mirror.
const OURS: [&str; 5] = ["_dts_row", "_dts_device", "_dts_epoch", "_dts_seq", "_dts_hash"];
/// Different keys of one table.
const MAX_KEYS: i64 = 16;

/// See the module's header.
pub(super) struct Shape<'c> {
    /// The shape at the source.
    pub(super) table: Arc<Table>,
    /// Number in `dts_tables`.
    pub(super) id: i64,
    /// Quoted name of the mirror.
    pub(super) mirror: String,
    /// Quoted names of the mirror's columns, in the source's order.
    pub(super) columns: Vec<String>,
    /// Indexes of the key's columns, in key order.
    pub(super) key: Vec<usize>,
    /// `(key…, device)` → row, device, epoch, seq. `None` without a key.
    pub(super) find: Option<Statement<'c>>,
    /// `(device, hash, all columns…)` → row.
    pub(super) find_whole: Statement<'c>,
    /// `(device, epoch, seq, hash, all columns…)`.
    pub(super) insert: Statement<'c>,
    /// `(device, epoch, seq, hash, all columns…, row)`.
    pub(super) update: Statement<'c>,
    /// `(row)`.
    pub(super) delete: Statement<'c>,
    /// `(device, epoch, seq)`: rows of the device below the version.
    pub(super) truncate: Statement<'c>,
}

impl<'c> Shape<'c> {
    /// Finds or makes the mirror of `table`, adds the columns that it lacks, and prepares. `true` if the
    /// file's schema was changed by it: other shapes of the table must be bound anew.
    pub(super) fn bind(
        conn: &'c Connection,
        options: &Options,
        table: &Arc<Table>,
    ) -> Result<(Self, bool), ApplyError> {
        let name_bytes: usize = table.columns.iter().map(|c| c.name.len()).sum();
        if table.columns.len() > MAX_COLUMNS || name_bytes + table.name.len() > MAX_NAME_BYTES {
            return Err(ApplyError::Reject(format!(
                "its table has {} columns with names of {name_bytes} bytes, more than SQLite takes",
                table.columns.len()
            )));
        }
        let version = schema_version(conn)?;
        let (id, mirror) = mirror_of(conn, options, table)?;
        let (columns, extra) = columns_of(conn, id, &mirror, table)?;
        let key = table.key_columns();
        let quoted = quote(&mirror);
        let keys: Vec<&str> = key.iter().filter_map(|&i| columns.get(i)).map(String::as_str).collect();
        index(conn, options, id, &quoted, &keys)?;
        let changed = schema_version(conn)? != version;
        let shape = Self::prepare(conn, options, table.clone(), (id, quoted), columns, key, &extra)?;
        Ok((shape, changed))
    }

    fn prepare(
        conn: &'c Connection,
        options: &Options,
        table: Arc<Table>,
        (id, mirror): (i64, String),
        columns: Vec<String>,
        key: Vec<usize>,
        extra: &[String],
    ) -> Result<Self, ApplyError> {
        let n = columns.len();
        let params = |from: usize, n: usize| list((from..from + n).map(|i| format!("?{i}")));
        let find = if key.is_empty() {
            None
        } else {
            let mut terms: Vec<String> =
                (1..).zip(&key).filter_map(|(i, &k)| Some(format!("{}=?{i}", columns.get(k)?))).collect();
            if options.device_column {
                terms.push(format!("_dts_device=?{}", key.len() + 1));
            }
            let terms = terms.join(" AND ");
            Some(conn.prepare(&format!(
                "SELECT _dts_row, _dts_device, _dts_epoch, _dts_seq FROM {mirror} WHERE {terms}"
            ))?)
        };
        let whole = match columns.as_slice() {
            [] => String::new(),
            [one] => format!(" AND {one} IS ?3"),
            _ => format!(" AND ({}) IS ({})", list(columns.iter().cloned()), params(3, n)),
        };
        let names: String = columns.iter().map(|c| format!(", {c}")).collect();
        let all = params(1, n + 4);
        let set: String = (5..).zip(&columns).map(|(i, c)| format!(", {c}=?{i}")).collect();
        let void: String = extra.iter().map(|c| format!(", {c}=NULL")).collect();
        Ok(Self {
            find,
            find_whole: conn.prepare(&format!(
                "SELECT _dts_row FROM {mirror} WHERE _dts_device=?1 AND _dts_hash=?2{whole} ORDER BY _dts_row LIMIT 1"
            ))?,
            insert: conn.prepare(&format!(
                "INSERT INTO {mirror}(_dts_device, _dts_epoch, _dts_seq, _dts_hash{names}) VALUES({all})"
            ))?,
            update: conn.prepare(&format!(
                "UPDATE {mirror} SET _dts_device=?1, _dts_epoch=?2, _dts_seq=?3, _dts_hash=?4{set}{void} \
                 WHERE _dts_row=?{}",
                n + 5
            ))?,
            delete: conn.prepare(&format!("DELETE FROM {mirror} WHERE _dts_row=?1"))?,
            truncate: conn.prepare(&format!(
                "DELETE FROM {mirror} WHERE _dts_device=?1 AND (_dts_epoch, _dts_seq) < (?2, ?3)"
            ))?,
            table,
            id,
            mirror,
            columns,
            key,
        })
    }
}

fn list(items: impl Iterator<Item = String>) -> String {
    items.collect::<Vec<_>>().join(", ")
}

fn schema_version(conn: &Connection) -> rusqlite::Result<i64> {
    conn.query_row("PRAGMA schema_version", [], |row| row.get(0))
}

/// Number and name of the table's mirror; both chosen if it has none.
fn mirror_of(conn: &Connection, options: &Options, table: &Table) -> Result<(i64, String), ApplyError> {
    let known = conn
        .prepare_cached("SELECT id, mirror FROM dts_tables WHERE db=?1 AND name=?2")?
        .query_row((&*table.db, &*table.name), |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    match known {
        Some(known) => Ok(known),
        None => new_mirror(conn, options, table),
    }
}

fn new_mirror(conn: &Connection, options: &Options, table: &Table) -> Result<(i64, String), ApplyError> {
    let tables: i64 = conn.query_row("SELECT count(*) FROM dts_tables", [], |row| row.get(0))?;
    if tables >= i64::from(options.max_tables) {
        return Err(ApplyError::Reject(format!(
            "table {}.{} would be mirrored table {}; max_tables is {}",
            table.db,
            table.name,
            tables + 1,
            options.max_tables
        )));
    }
    let mut names: Vec<String> = Vec::new();
    // Tables, views and indexes share their names; a mirror that is missing still owns its own.
    let mut all = conn.prepare("SELECT name FROM sqlite_schema UNION ALL SELECT mirror FROM dts_tables")?;
    for name in all.query_map([], |row| row.get(0))? {
        names.push(name?);
    }
    let taken = |name: &str| reserved(name) || names.iter().any(|n| n.eq_ignore_ascii_case(name));
    let mut mirror = table.name.replace('\0', "_");
    if mirror.is_empty() || taken(&mirror) {
        // A name with the database in front is not in `reserved`'s prefixes unless that is.
        let db = if reserved(&table.db) || table.db.is_empty() { "t" } else { &*table.db };
        mirror = choose(&format!("{db}_{mirror}"), taken);
    }
    if mirror != *table.name {
        log::warn!("table {}.{} is mirrored as {mirror}: its own name is taken", table.db, table.name);
    }
    conn.execute(
        "INSERT INTO dts_tables(db, name, mirror) VALUES(?1, ?2, ?3)",
        (&*table.db, &*table.name, &mirror),
    )?;
    Ok((conn.last_insert_rowid(), mirror))
}

/// Quoted names of the mirror's columns in the source's order, and of those that the source does
/// not have. What is missing is added, the table itself too.
fn columns_of(
    conn: &Connection,
    id: i64,
    mirror: &str,
    table: &Table,
) -> Result<(Vec<String>, Vec<String>), ApplyError> {
    let mut there: Vec<String> = Vec::new();
    let mut info = conn.prepare("SELECT name FROM pragma_table_info(?1)")?;
    for name in info.query_map([mirror], |row| row.get(0))? {
        there.push(name?);
    }
    let mut known: Vec<(String, String)> = Vec::new();
    let mut mapped = conn.prepare_cached("SELECT name, mirror FROM dts_columns WHERE tbl=?1")?;
    for pair in mapped.query_map([id], |row| Ok((row.get(0)?, row.get(1)?)))? {
        known.push(pair?);
    }
    let same = |a: &str, b: &str| a.eq_ignore_ascii_case(b);
    let mut bound: Vec<String> = Vec::with_capacity(table.columns.len());
    for column in &table.columns {
        let name = &*column.name;
        let by_name = known.iter().find(|(source, _)| source == name).map(|(_, mirror)| mirror.clone());
        // A column renamed in its case only is the same column, unless this table has both.
        let by_case = || {
            let (source, mirror) = known.iter().find(|(source, _)| same(source, name))?;
            let both = table.columns.iter().any(|c| *c.name == **source);
            (!both).then(|| mirror.clone())
        };
        let own = match by_name.or_else(by_case) {
            Some(own) if !bound.iter().any(|b| same(b, &own)) => own,
            _ => {
                let own = choose(name, |n| {
                    let ours = OURS.iter().any(|o| same(o, n));
                    ours || there.iter().chain(&bound).any(|t| same(t, n))
                        || known.iter().any(|(_, m)| same(m, n))
                        // A new table may have a column of that name; SQLite adds none to an old one.
                        || (!there.is_empty() && ["rowid", "oid", "_rowid_"].iter().any(|r| same(r, n)))
                });
                conn.execute(
                    "INSERT OR REPLACE INTO dts_columns(tbl, name, mirror) VALUES(?1, ?2, ?3)",
                    (id, name, &own),
                )?;
                own
            }
        };
        bound.push(own);
    }
    let quoted = quote(mirror);
    let missing: Vec<String> = bound.iter().filter(|b| !there.iter().any(|t| same(t, b))).cloned().collect();
    if there.len() + missing.len() > MAX_COLUMNS + OURS.len() {
        return Err(ApplyError::Reject(format!(
            "the mirror of {}.{} would have {} columns and SQLite takes no more",
            table.db,
            table.name,
            there.len() + missing.len()
        )));
    }
    if there.is_empty() {
        let columns: String = missing.iter().map(|c| format!(", {}", quote(c))).collect();
        conn.execute_batch(&format!(
            "CREATE TABLE {quoted}(_dts_row INTEGER PRIMARY KEY, _dts_device TEXT NOT NULL, \
             _dts_epoch INTEGER NOT NULL, _dts_seq INTEGER NOT NULL, _dts_hash INTEGER{columns})"
        ))?;
    } else {
        for column in &missing {
            conn.execute_batch(&format!("ALTER TABLE {quoted} ADD COLUMN {}", quote(column)))?;
        }
    }
    let extra = there.iter().filter(|t| !OURS.contains(&t.as_str()) && !bound.iter().any(|b| same(b, t)));
    let extra = extra.map(|t| quote(t)).collect();
    Ok((bound.iter().map(|b| quote(b)).collect(), extra))
}

/// Indexes that find rows: by key, and by hash for those without.
fn index(
    conn: &Connection,
    options: &Options,
    id: i64,
    mirror: &str,
    keys: &[&str],
) -> Result<(), ApplyError> {
    conn.execute_batch(&format!(
        "CREATE INDEX IF NOT EXISTS dts_hash_{id} ON {mirror}(_dts_device, _dts_hash) WHERE _dts_hash IS NOT NULL"
    ))?;
    if keys.is_empty() {
        return Ok(());
    }
    let columns = keys.join(", ");
    let columns = if options.device_column { format!("_dts_device, {columns}") } else { columns };
    let name = format!("dts_key_{id}_{:016x}", xxhash_rust::xxh3::xxh3_64(columns.as_bytes()));
    let mut others =
        conn.prepare("SELECT count(*) FROM sqlite_schema WHERE type='index' AND name GLOB ?1 AND name<>?2")?;
    let others: i64 = others.query_row((format!("dts_key_{id}_*"), &name), |row| row.get(0))?;
    if others >= MAX_KEYS {
        return Err(ApplyError::Reject(format!(
            "its table has had {others} different keys; no more are taken"
        )));
    }
    conn.execute_batch(&format!("CREATE INDEX IF NOT EXISTS {name} ON {mirror}({columns})"))?;
    Ok(())
}

//! `dts sqlite install | status | uninstall`: the triggers in an application's database, by hand.
//!
//! These wait up to five seconds for the application's lock. None of them needs a running agent;
//! `uninstall` wants it stopped, or it installs the triggers again.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::Connection;
use serde::Serialize;

use super::config::{Capture, Config};
use super::error::{Doing, Error, Result};
use super::install::{self, Known};
use super::position::Position;
use super::schema::{self, Skipped};
use super::shape::Shape;
use super::store;
use super::triggers;

/// One table in a [`Report`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TableReport {
    /// Its name.
    pub name: String,
    /// Whether its changes are recorded.
    pub followed: bool,
    /// What is recorded of a change; `None` if nothing is.
    pub capture: Option<Capture>,
    /// The columns that name its rows: the primary key, or `_dts_rowid`.
    pub key: Vec<String>,
    /// Captured columns.
    pub columns: usize,
    /// Changes in it were not recorded because the capture table was full; it will be read again.
    pub stale: bool,
    /// Whether SQLite will refuse to drop a column of it.
    pub blocks_drop_column: bool,
}

/// What stands in the database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The database.
    pub path: PathBuf,
    /// Its journal mode.
    pub journal_mode: String,
    /// Whether dts's tables are in it.
    pub installed: bool,
    /// Its tables.
    pub tables: Vec<TableReport>,
    /// Tables that cannot be followed.
    pub skipped: Vec<Skipped>,
    /// Changes that wait to be fetched, or to be deleted after they were.
    pub captured_rows: i64,
    /// Their bytes, as the limit counts them.
    pub captured_bytes: i64,
    /// The limit.
    pub max_capture_bytes: i64,
}

/// Makes the triggers that `config` wants, as a running agent would.
pub fn install(config: &Config) -> Result<Report> {
    let mut conn = open(&config.path)?;
    let mut rng = crate::runtime::rng();
    let none = Position::default();
    store::write(&mut conn, "install the triggers", true, |tx| {
        let known = Known { position: &none, durable: &none, lost: false, stale: false, hide: &[] };
        install::reconcile(tx, config, &known, &mut rng).map(drop)
    })?;
    report(&conn, &config.path)
}

/// Says what is there. Changes nothing.
pub fn status(path: &Path) -> Result<Report> {
    report(&open(path)?, path)
}

/// Takes the triggers and every table of dts out of the database. Changes that were captured and not
/// yet fetched are gone with them; an agent that is started again reads all tables anew.
pub fn uninstall(path: &Path) -> Result<Report> {
    let mut conn = open(path)?;
    store::write(&mut conn, "remove the triggers", true, store::remove)?;
    report(&conn, path)
}

fn open(path: &Path) -> Result<Connection> {
    let conn = store::open(path)?;
    conn.busy_timeout(Duration::from_secs(5)).doing("open the database")?;
    Ok(conn)
}

fn report(conn: &Connection, path: &Path) -> Result<Report> {
    let journal_mode = store::journal_mode(conn)?;
    conn.execute_batch("BEGIN").doing("read the database")?;
    let report = read(conn, path, journal_mode);
    conn.execute_batch("COMMIT").doing("read the database")?;
    report
}

fn read(conn: &Connection, path: &Path, journal_mode: String) -> Result<Report> {
    let schema = schema::load(conn)?;
    let installed = store::is_installed(conn)?;
    let mut rows = Vec::new();
    let mut shapes: Vec<(i64, Shape)> = Vec::new();
    let (mut captured_rows, mut captured_bytes, mut max_capture_bytes) = (0, 0, 0);
    if installed {
        let meta = store::meta(conn)?;
        rows = store::table_rows(conn)?;
        shapes = load_shapes(conn)?;
        (captured_rows, captured_bytes, max_capture_bytes) = conn
            .query_row(
                "SELECT (SELECT count(*) FROM _dts_capture WHERE o BETWEEN 1 AND 5), \
                 b-ifnull((SELECT b FROM _dts_capture ORDER BY id LIMIT 1),b), max FROM _dts_meta",
                [],
                |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?)),
            )
            .doing("read the capture tables")?;
        debug_assert!(meta.captured_bytes >= captured_bytes);
    }
    let own = store::own_triggers(conn)?;
    let tables = schema.tables.into_iter().map(|info| {
        let row = rows.iter().find(|r| r.name.eq_ignore_ascii_case(&info.name));
        let has_triggers = own.iter().any(|t| t.table == info.name);
        let shape = row.and_then(|r| shapes.iter().rev().find(|(t, _)| *t == r.id)).map(|(_, s)| s);
        let followed = has_triggers && shape.is_some();
        let shape = shape.filter(|_| followed);
        TableReport {
            followed,
            capture: shape.map(|s| s.capture),
            key: shape.map_or_else(Vec::new, |s| s.key.iter().map(|&i| s.columns[i].name.clone()).collect()),
            columns: shape.map_or(0, |s| s.columns.len()),
            stale: row.is_some_and(|r| r.stale),
            blocks_drop_column: shape.is_some_and(|s| triggers::blocks_drop_column(s, &info)),
            name: info.name,
        }
    });
    Ok(Report {
        path: path.to_owned(),
        journal_mode,
        installed,
        tables: tables.collect(),
        skipped: schema.skipped,
        captured_rows,
        captured_bytes,
        max_capture_bytes,
    })
}

fn load_shapes(conn: &Connection) -> Result<Vec<(i64, Shape)>> {
    let rows: Vec<(i64, String)> = conn
        .prepare("SELECT t, def FROM _dts_shape ORDER BY id")
        .and_then(|mut s| s.query_map([], |r| Ok((r.get(0)?, r.get(1)?)))?.collect())
        .doing("read _dts_shape")?;
    let parse = |(t, def): (i64, String)| {
        serde_json::from_str(&def)
            .map(|shape| (t, shape))
            .map_err(|e| Error::Inconsistent(format!("_dts_shape: {e}")))
    };
    rows.into_iter().map(parse).collect()
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}  journal mode {}", self.path.display(), self.journal_mode)?;
        if !self.installed {
            writeln!(f, "no triggers of dts")?;
        } else {
            writeln!(
                f,
                "captured: {} changes, {} of {} bytes",
                self.captured_rows, self.captured_bytes, self.max_capture_bytes
            )?;
        }
        for table in &self.tables {
            let capture = match table.capture {
                None => "not followed".to_owned(),
                Some(Capture::Images) => format!("images of {} columns", table.columns),
                Some(Capture::Keys) => "keys".to_owned(),
            };
            write!(f, "  {:<24} {capture}", table.name)?;
            if table.followed {
                write!(f, ", key {}", table.key.join(", "))?;
            }
            if table.stale {
                write!(f, ", will be read again (the capture table was full)")?;
            }
            writeln!(f)?;
        }
        for skipped in &self.skipped {
            writeln!(f, "  {:<24} cannot be followed: {}", skipped.table, skipped.reason)?;
        }
        Ok(())
    }
}

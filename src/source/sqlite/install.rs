//! Brings triggers and registry in line with the application's tables and the config: at the start,
//! and whenever `PRAGMA schema_version` says that a migration (or VACUUM) has been there.
//!
//! All of it is one write transaction. What it finds tells which tables must be read again:
//!
//! | found | then |
//! |---|---|
//! | a table that was never followed | triggers; read it |
//! | triggers gone, or a table in another place of the file (rebuilt) | triggers; clear the mirror's, read it |
//! | another set of columns | triggers; read it unless the difference cannot hold a value |
//! | another set of unique indexes, and changes since | triggers; clear, read (what they displaced was not seen) |
//! | a trigger of the application that ran before ours | triggers, so that ours run first; clear, read |
//! | rowids renumbered by VACUUM | clear, read those that are named by rowid |
//! | a table that is gone | clear the mirror's |
//! | a database that is not the one dts knows | clear, read all |

use std::collections::BTreeMap;

use rusqlite::Connection;

use super::config::Config;
use super::error::{Doing, Error, Result};
use super::position::Position;
use super::schema::{self, Schema, Skipped, TableInfo};
use super::shape::Shape;
use super::sql::ident;
use super::store::{self, KEEP_NONE, OwnTrigger, TableRow};
use super::triggers::{self, Trigger};

/// A shape by its number.
#[derive(Clone, Debug)]
pub(super) struct Numbered {
    pub(super) id: i64,
    /// The table that it belongs to.
    pub(super) table: i64,
    pub(super) version: u32,
    pub(super) shape: Shape,
}

/// A table that is followed.
#[derive(Clone, Debug)]
pub(super) struct Followed {
    pub(super) row: TableRow,
    /// `None` when the table is gone.
    pub(super) info: Option<TableInfo>,
    /// Number of the shape that its triggers record.
    pub(super) shape: i64,
}

/// Everything that dts knows of the database, as of one `schema_version`.
#[derive(Debug, Default)]
pub(super) struct Catalog {
    pub(super) schema_version: i64,
    pub(super) install: i64,
    pub(super) tables: BTreeMap<i64, Followed>,
    pub(super) shapes: BTreeMap<i64, Numbered>,
    pub(super) skipped: Vec<Skipped>,
}

/// Why a table has to be read again, or for the first time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// Never followed before.
    New,
    /// Its triggers were gone or it was rebuilt: changes may have been missed.
    Rebuilt,
    /// Its columns are others.
    Columns,
    /// Its unique indexes or what names its rows are others.
    Key,
    /// A trigger of the application was made after ours and so ran before them: where it failed
    /// (OR FAIL), ours were not run.
    Order,
    /// VACUUM renumbered its rowids.
    Vacuum,
    /// The capture table was full.
    Overflow,
    /// It is gone.
    Dropped,
    /// The database, or what dts knew of it, is not the one from before.
    Unknown,
}

impl Reason {
    /// The word for metrics and logs.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Rebuilt => "rebuilt",
            Self::Columns => "columns",
            Self::Key => "key",
            Self::Order => "order",
            Self::Vacuum => "vacuum",
            Self::Overflow => "overflow",
            Self::Dropped => "dropped",
            Self::Unknown => "unknown",
        }
    }

    /// Whether rows that the mirror has may be gone at the source, or have another key.
    fn clears(self) -> bool {
        !matches!(self, Self::New | Self::Columns)
    }
}

/// What a [`reconcile`] is told besides the config.
#[derive(Debug)]
pub(super) struct Known<'a> {
    /// How far dts has read, in memory: newer than what is durable.
    pub(super) position: &'a Position,
    /// How far it is durable.
    pub(super) durable: &'a Position,
    /// The position is not of this database, or there is none although it was followed before.
    pub(super) lost: bool,
    /// Read tables again that were marked while the capture table was full.
    pub(super) stale: bool,
    /// Tables whose key turned out to hold NULL: from now on the rowid names their rows.
    pub(super) hide: &'a [i64],
}

/// What a [`reconcile`] did.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) catalog: Catalog,
    /// Tables to be read, with the reason. Also those that were only dropped.
    pub(super) rereads: Vec<(String, Reason)>,
}

/// Makes the triggers and the registry what they should be. To be called in a write transaction.
pub(super) fn reconcile(
    conn: &Connection,
    config: &Config,
    known: &Known<'_>,
    rng: &mut fastrand::Rng,
) -> Result<Outcome> {
    let max = config.max_bytes();
    if !store::is_installed(conn)? {
        store::remove(conn)?;
        store::create(conn, rng.i64(1..), max)?;
    }
    let meta = store::meta(conn)?;
    if meta.vacuumed {
        store::reset_canary(conn)?;
    }
    set_limit(conn, max)?;
    let Schema { tables, mut skipped } = schema::load(conn)?;
    let rows = store::table_rows(conn)?;
    let shapes = load_shapes(conn)?;
    let mut own: BTreeMap<String, OwnTrigger> =
        store::own_triggers(conn)?.into_iter().map(|t| (t.name.clone(), t)).collect();
    let mut work = Work { conn, known, rng, meta_vacuumed: meta.vacuumed, rereads: Vec::new(), shapes };
    let mut followed = BTreeMap::new();
    for info in tables.into_iter().filter(|info| config.wants(&info.name)) {
        let row = rows.iter().find(|r| r.name.eq_ignore_ascii_case(&info.name)).cloned();
        let name = info.name.clone();
        match work.table(info, row, config, &mut own)? {
            Ok(table) => {
                followed.insert(table.row.id, table);
            }
            Err(reason) => skipped.push(Skipped { table: name, reason }),
        }
    }
    for row in rows {
        if !followed.contains_key(&row.id) && !skipped.iter().any(|s| s.table == row.name) {
            if let Some(table) = work.without_table(row)? {
                followed.insert(table.row.id, table);
            }
        } else if skipped.iter().any(|s| s.table == row.name) {
            rest(conn, row.id)?;
        }
    }
    // Whatever is left belongs to tables that were renamed, or are not wanted any more.
    for name in own.keys() {
        conn.execute_batch(&format!("DROP TRIGGER {}", ident(name))).doing("drop a trigger")?;
    }
    if known.stale {
        // The marks of tables that are not followed any more.
        conn.execute("UPDATE _dts_table SET stale=0 WHERE stale<>0", []).doing("update _dts_table")?;
    }
    let rereads = std::mem::take(&mut work.rereads);
    let mut shapes = std::mem::take(&mut work.shapes);
    forget_shapes(conn, &mut shapes, &followed)?;
    let catalog = Catalog {
        schema_version: store::schema_version(conn)?,
        install: meta.install,
        tables: followed,
        shapes,
        skipped,
    };
    Ok(Outcome { catalog, rereads })
}

/// Follows a table no more, and remembers that the mirror may hold rows of it.
fn rest(conn: &Connection, table: i64) -> Result<()> {
    conn.execute("UPDATE _dts_table SET gone=1 WHERE id=?1", [table]).doing("update _dts_table").map(drop)
}

fn set_limit(conn: &Connection, max: i64) -> Result<()> {
    conn.execute("UPDATE _dts_meta SET stop=stop-max+?1, max=?1 WHERE max<>?1", [max])
        .doing("update _dts_meta")
        .map(drop)
}

fn load_shapes(conn: &Connection) -> Result<BTreeMap<i64, Numbered>> {
    let rows: Vec<(i64, i64, u32, String)> = conn
        .prepare_cached("SELECT id, t, version, def FROM _dts_shape")
        .and_then(|mut s| s.query_map([], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?, r.get(3)?)))?.collect())
        .doing("read _dts_shape")?;
    rows.into_iter()
        .map(|(id, table, version, def)| {
            let shape = serde_json::from_str(&def)
                .map_err(|e| Error::Inconsistent(format!("_dts_shape {id}: {e}")))?;
            Ok((id, Numbered { id, table, version, shape }))
        })
        .collect()
}

/// Deletes the shapes that neither a trigger nor a captured row needs.
fn forget_shapes(
    conn: &Connection,
    shapes: &mut BTreeMap<i64, Numbered>,
    tables: &BTreeMap<i64, Followed>,
) -> Result<()> {
    let current: Vec<i64> = tables.values().map(|t| t.shape).collect();
    if shapes.keys().all(|id| current.contains(id)) {
        return Ok(());
    }
    let needed: Vec<i64> = conn
        .prepare("SELECT DISTINCT t FROM _dts_capture")
        .and_then(|mut s| s.query_map([], |r| r.get(0))?.collect())
        .doing("read captured rows")?;
    let old: Vec<i64> =
        shapes.keys().copied().filter(|id| !current.contains(id) && !needed.contains(id)).collect();
    for id in old {
        conn.execute("DELETE FROM _dts_shape WHERE id=?1", [id]).doing("update _dts_shape")?;
        shapes.remove(&id);
    }
    Ok(())
}

struct Work<'a> {
    conn: &'a Connection,
    known: &'a Known<'a>,
    rng: &'a mut fastrand::Rng,
    meta_vacuumed: bool,
    rereads: Vec<(String, Reason)>,
    shapes: BTreeMap<i64, Numbered>,
}

impl Work<'_> {
    /// One table of the application; `Err` says why it cannot be followed.
    fn table(
        &mut self,
        info: TableInfo,
        row: Option<TableRow>,
        config: &Config,
        own: &mut BTreeMap<String, OwnTrigger>,
    ) -> Result<std::result::Result<Followed, String>> {
        let is_new = row.is_none();
        let mut row = match row {
            Some(row) => row,
            None => self.new_row(&info)?,
        };
        let before = row.clone();
        let hide = self.known.hide.contains(&row.id) && !row.hidden;
        row.hidden |= hide;
        let info = if row.hidden { info.hidden() } else { info };
        let shape = Shape::of(&info, config);
        let current = self.current_shape(row.id).cloned();
        let same = current.as_ref().is_some_and(|c| c.shape == shape);
        let number = match &current {
            Some(c) if same => c.id,
            _ => self.new_shape(row.id, &shape)?,
        };
        let mut wanted = triggers::triggers(&info, &shape, row.id, number);
        // The text that SQLite keeps, as it was given, until a rename rewrites it.
        let there: Vec<OwnTrigger> = wanted.iter().filter_map(|w| own.remove(&w.name)).collect();
        let all_there = there.len() == wanted.len() && there.iter().all(|t| t.table == info.name);
        let first = self.run_first(&info.name)?;
        let intact = all_there && first && wanted.iter().all(|w| there.iter().any(|t| is(t, w)));
        let moved = row.root != info.root && !self.meta_vacuumed;
        let reason = if self.known.lost {
            Some(Reason::Unknown)
        } else if is_new {
            Some(Reason::New)
        } else if row.gone || !all_there || moved {
            Some(Reason::Rebuilt)
        } else if !first {
            Some(Reason::Order)
        } else if self.meta_vacuumed && info.identity == schema::Identity::Hidden {
            Some(Reason::Vacuum)
        } else if row.stale && self.known.stale {
            Some(Reason::Overflow)
        } else {
            self.changed(current.as_ref(), &shape)?
        };
        if !intact {
            for trigger in &there {
                self.execute(&format!("DROP TRIGGER {}", ident(&trigger.name)))?;
            }
            // What does not compile without ours is not ours to judge.
            let already = self.compile(&info).err();
            for trigger in wanted.drain(..) {
                self.execute(&trigger.sql)?;
            }
            if let Some(message) = self.compile(&info).err().filter(|e| already.as_ref() != Some(e)) {
                self.unfollow(row.id)?;
                return Ok(Err(format!("its triggers would not compile: {message}")));
            }
        }
        row.root = info.root;
        row.name.clone_from(&info.name);
        if let Some(reason) = reason {
            self.read_again(&mut row, reason);
        }
        if is_new || !same_row(&row, &before) {
            store::put_table_row(self.conn, &row)?;
        }
        Ok(Ok(Followed { row, info: Some(info), shape: number }))
    }

    /// Whether ours are younger than any other trigger of the table: SQLite runs the youngest first.
    fn run_first(&self, table: &str) -> Result<bool> {
        self.conn
            .prepare_cached(
                "SELECT ifnull(max(CASE WHEN substr(name,1,5)<>'_dts_' THEN rowid END),0) \
                 < ifnull(min(CASE WHEN substr(name,1,5)='_dts_' THEN rowid END),1<<62) \
                 FROM main.sqlite_master WHERE type='trigger' AND tbl_name=?1 COLLATE NOCASE",
            )
            .and_then(|mut s| s.query_row([table], |r| r.get(0)))
            .doing("read the triggers")
    }

    fn execute(&self, sql: &str) -> Result<()> {
        self.conn.execute_batch(sql).doing("change the triggers")
    }

    /// Compiles the triggers as the application will, without running them: one that does not
    /// compile would break every write to the table.
    fn compile(&self, info: &TableInfo) -> std::result::Result<(), String> {
        for probe in triggers::probes(info) {
            if let Err(e) = self.conn.prepare(&probe) {
                let message = e.to_string();
                // Functions and collations of the application's own, in its own indexes and defaults.
                let foreign = ["no such function", "unknown function", "no such collation"];
                if !foreign.iter().any(|f| message.contains(f)) {
                    return Err(message);
                }
            }
        }
        Ok(())
    }

    /// Takes the triggers of a table away again.
    fn unfollow(&mut self, table: i64) -> Result<()> {
        for trigger in store::own_triggers(self.conn)? {
            if trigger.name.starts_with(&format!("_dts_{table}_")) {
                self.execute(&format!("DROP TRIGGER {}", ident(&trigger.name)))?;
            }
        }
        rest(self.conn, table)
    }

    fn new_row(&mut self, info: &TableInfo) -> Result<TableRow> {
        // Above every number that a shape or the position still knows.
        let stored: i64 = self
            .conn
            .query_row(
                "SELECT max(ifnull((SELECT max(id) FROM _dts_table),0), ifnull((SELECT max(t) FROM _dts_shape),0))",
                [],
                |r| r.get(0),
            )
            .doing("read _dts_table")?;
        let known = self.known.position.done.iter().map(|(t, _)| *t).max().unwrap_or(0);
        let row = TableRow {
            id: stored.max(known) + 1,
            name: info.name.clone(),
            root: info.root,
            reading: 0,
            keep: 0,
            stale: false,
            hidden: false,
            gone: false,
        };
        // Takes the number for the next one.
        store::put_table_row(self.conn, &row)?;
        Ok(row)
    }

    fn current_shape(&self, table: i64) -> Option<&Numbered> {
        self.shapes.values().rev().find(|s| s.table == table)
    }

    fn new_shape(&mut self, table: i64, shape: &Shape) -> Result<i64> {
        let def = serde_json::to_string(shape).map_err(|e| Error::Inconsistent(e.to_string()))?;
        let id: i64 = self
            .conn
            .query_row(
                "SELECT 1+max(ifnull((SELECT max(id) FROM _dts_shape),0), ifnull((SELECT max(t) FROM _dts_capture),0))",
                [],
                |r| r.get(0),
            )
            .doing("read _dts_shape")?;
        // Grows for ever, also over a removal and a new start.
        let version = u32::try_from(store::schema_version(self.conn)?).unwrap_or(u32::MAX);
        self.conn
            .execute(
                "INSERT INTO _dts_shape(id,t,version,def) VALUES(?1,?2,?3,?4)",
                (id, table, version, def),
            )
            .doing("update _dts_shape")?;
        self.shapes.insert(id, Numbered { id, table, version, shape: shape.clone() });
        Ok(id)
    }

    /// Whether another shape means that rows must be read.
    fn changed(&self, old: Option<&Numbered>, new: &Shape) -> Result<Option<Reason>> {
        let Some(old) = old else { return Ok(Some(Reason::Rebuilt)) };
        if !new.same_key(&old.shape) {
            return Ok(Some(Reason::Key));
        }
        let watched = new.unique.iter().all(|u| old.shape.unique.contains(u));
        if !watched {
            // A unique index that the triggers did not know: what it displaced was not seen.
            let since: i64 = self
                .conn
                .query_row(
                    "SELECT EXISTS(SELECT 1 FROM _dts_capture WHERE id>?1 AND t=?2)",
                    (self.known.position.cursor.id, old.id),
                    |r| r.get(0),
                )
                .doing("read captured rows")?;
            if since != 0 {
                return Ok(Some(Reason::Key));
            }
        }
        Ok((!new.follows_from(&old.shape)).then_some(Reason::Columns))
    }

    fn read_again(&mut self, row: &mut TableRow, reason: Reason) {
        if reason.clears() {
            row.keep = KEEP_NONE;
        } else if reason != Reason::New && self.known.position.done_of(row.id) == row.reading {
            row.keep = i64::from(row.reading);
        }
        let old = row.reading;
        while row.reading == old || row.reading == 0 {
            row.reading = self.rng.u32(1..);
        }
        row.stale = false;
        row.gone = reason == Reason::Dropped;
        self.rereads.push((row.name.clone(), reason));
    }

    /// A table that is not there, or not wanted any more.
    fn without_table(&mut self, mut row: TableRow) -> Result<Option<Followed>> {
        let exists: i64 = self
            .conn
            .query_row(
                "SELECT count(*) FROM main.sqlite_master WHERE type='table' AND name=?1 COLLATE NOCASE",
                [&row.name],
                |r| r.get(0),
            )
            .doing("read the application's schema")?;
        let cleared = row.gone && self.known.durable.done_of(row.id) == row.reading;
        if exists > 0 {
            rest(self.conn, row.id)?;
            return Ok(None);
        }
        if cleared {
            self.conn.execute("DELETE FROM _dts_table WHERE id=?1", [row.id]).doing("update _dts_table")?;
            return Ok(None);
        }
        if !row.gone || self.known.lost {
            self.read_again(&mut row, Reason::Dropped);
            store::put_table_row(self.conn, &row)?;
        }
        let shape = self.current_shape(row.id).map_or(0, |s| s.id);
        Ok(Some(Followed { row, info: None, shape }))
    }
}

fn is(there: &OwnTrigger, wanted: &Trigger) -> bool {
    there.name == wanted.name && there.sql == wanted.sql
}

fn same_row(a: &TableRow, b: &TableRow) -> bool {
    a.name == b.name
        && a.root == b.root
        && a.reading == b.reading
        && a.keep == b.keep
        && a.stale == b.stale
        && a.hidden == b.hidden
        && a.gone == b.gone
}

//! An application with its own connection, dts's [`Follower`] beside it, and a mirror that applies
//! what comes out.

mod alter;
mod basics;
mod limits;
mod locks;
mod random;
mod replace;
mod shell;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use rusqlite::Connection;
use rusqlite::types::ValueRef;

use crate::config::{Context, Field, Node, Place, node::Kind};
use crate::event::{Batch, ImageView, Op, Value};

use super::config::Config;
use super::error::Class;
use super::follower::{Follower, Limits, Step};
use super::position::KEY;
use super::schema::ROWID;

pub(super) const LIMITS: Limits = Limits { rows: 256, batch_bytes: 64 << 10, row_bytes: 128 << 10 };

/// A folder that goes when the test does.
pub(super) struct Folder(pub(super) PathBuf);

impl Folder {
    pub(super) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("dts-sqlite-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _gone = std::fs::remove_dir_all(&self.0);
    }
}

/// The config with defaults, of a file.
pub(super) fn config(path: &Path) -> Config {
    let place = Place { line: 1, column: 1 };
    let scalar = |text: &str| Node { place, kind: Kind::Scalar { text: text.to_owned(), plain: true } };
    let map = Kind::Map(vec![("path".to_owned(), place, scalar(&path.display().to_string()))]);
    let mut cx = Context::default();
    let config = Config::read(&Node { place, kind: map }, &mut cx);
    assert_eq!(cx.mistakes, []);
    config.unwrap()
}

/// Column name to value, both printed.
pub(super) type Row = BTreeMap<String, String>;
/// Rows of a table by the values of its key.
pub(super) type Rows = BTreeMap<Vec<String>, Row>;

/// What a sink would hold.
#[derive(Clone, Debug, Default)]
pub(super) struct Mirror {
    pub(super) tables: BTreeMap<String, Rows>,
    /// Every record, one line each.
    pub(super) log: Vec<String>,
    /// Old images that differ from what the mirror held.
    pub(super) wrong_before: Vec<String>,
    pub(super) columns: BTreeMap<String, (Vec<String>, Vec<String>)>,
}

fn print(value: Value<'_>) -> String {
    match value {
        Value::Null => "NULL".to_owned(),
        Value::Int(n) => n.to_string(),
        Value::F64(n) => format!("{n:?}r"),
        Value::Text(t) => format!("{t:?}"),
        Value::RawText(t) => format!("raw{t:?}"),
        Value::Bytes(b) => format!("x{b:?}"),
        other => panic!("{other:?} in a column of type Any"),
    }
}

fn row_of(image: &ImageView<'_>) -> Row {
    image.iter().map(|(i, v)| (image.table().columns[i].name.to_string(), print(v))).collect()
}

impl Mirror {
    pub(super) fn apply(&mut self, batch: &Batch) {
        for row in batch {
            let row = row.unwrap();
            let table = row.table();
            let key_names: Vec<String> =
                table.key_columns().into_iter().map(|i| table.columns[i].name.to_string()).collect();
            let names = table.columns.iter().map(|c| c.name.to_string()).collect();
            self.columns.insert(table.name.to_string(), (names, key_names.clone()));
            let rows = self.tables.entry(table.name.to_string()).or_default();
            let key = |row: &Row| key_names.iter().map(|n| row[n].clone()).collect::<Vec<_>>();
            let (before, after) = row.images().unwrap();
            let (before, after) = (before.as_ref().map(row_of), after.as_ref().map(row_of));
            let line = format!("{} {} {before:?} {after:?}", row.op().as_str(), table.name);
            if let Some(before) = &before
                && let Some(held) = rows.get(&key(before))
                && before.iter().any(|(n, v)| held.get(n).is_some_and(|h| h != v))
            {
                self.wrong_before.push(format!("{line}, held {held:?}"));
            }
            match row.op() {
                Op::Truncate => rows.clear(),
                Op::Delete => {
                    rows.remove(&key(before.as_ref().unwrap()));
                }
                Op::Insert | Op::Update | Op::Snapshot => {
                    let after = after.unwrap();
                    if let Some(before) = before.filter(|b| key(b) != key(&after)) {
                        rows.remove(&key(&before));
                    }
                    rows.entry(key(&after)).or_default().extend(after);
                }
                other => panic!("{other:?} from a table"),
            }
            self.log.push(line);
        }
    }
}

/// What a table really holds, in the columns that dts sends of it.
pub(super) fn truth(app: &Connection, table: &str, columns: &[String], key: &[String]) -> Rows {
    let list: Vec<String> =
        columns.iter().map(|c| if c == ROWID { "rowid".to_owned() } else { super::sql::ident(c) }).collect();
    let sql = format!("SELECT {} FROM {}", list.join(","), super::sql::ident(table));
    let mut stmt = app.prepare(&sql).unwrap();
    let mut rows = stmt.query([]).unwrap();
    let mut out = Rows::new();
    while let Some(row) = rows.next().unwrap() {
        let mut values = Row::new();
        for (i, name) in columns.iter().enumerate() {
            let value = match row.get_ref(i).unwrap() {
                ValueRef::Null => print(Value::Null),
                ValueRef::Integer(n) => print(Value::Int(n)),
                ValueRef::Real(n) => print(Value::F64(n)),
                ValueRef::Text(t) => std::str::from_utf8(t)
                    .map_or_else(|_| print(Value::RawText(t)), |t| print(Value::Text(t))),
                ValueRef::Blob(b) => print(Value::Bytes(b)),
            };
            values.insert(name.clone(), value);
        }
        let key: Vec<String> = key.iter().map(|k| values[k].clone()).collect();
        assert!(out.insert(key.clone(), values).is_none(), "two rows of {table} with key {key:?}");
    }
    out
}

/// An application, dts beside it, and the mirror.
pub(super) struct World {
    pub(super) app: Connection,
    pub(super) config: Config,
    pub(super) dts: Option<Follower>,
    pub(super) stored: Option<Vec<u8>>,
    pub(super) mirror: Mirror,
    pub(super) limits: Limits,
    pub(super) stamp: u64,
    pub(super) path: PathBuf,
    pub(super) _folder: Folder,
}

impl World {
    pub(super) fn new(schema: &str) -> Self {
        Self::with(schema, |_| {})
    }

    pub(super) fn with(schema: &str, change: impl FnOnce(&mut Config)) -> Self {
        let folder = Folder::new();
        let path = folder.0.join("app.db");
        let app = Connection::open(&path).unwrap();
        app.execute_batch("PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF").unwrap();
        app.execute_batch(schema).unwrap();
        let mut config = config(&path);
        change(&mut config);
        let mirror = Mirror::default();
        Self { app, config, dts: None, stored: None, mirror, limits: LIMITS, stamp: 0, path, _folder: folder }
    }

    pub(super) fn open(&mut self) -> super::error::Result<&mut Follower> {
        if self.dts.is_none() {
            let rng = fastrand::Rng::with_seed(self.stamp + 1);
            self.dts = Some(Follower::open(&self.config, "app".into(), self.stored.as_deref(), rng)?);
        }
        Ok(self.dts.as_mut().unwrap())
    }

    /// One step; the batch is stored, and dts told so if `told`.
    pub(super) fn step(&mut self, told: bool) -> super::error::Result<bool> {
        let (limits, mut stamp) = (self.limits, self.stamp);
        let step = self.open()?.step(limits, &mut || {
            stamp += 1;
            stamp
        });
        self.stamp = stamp;
        match step? {
            Step::Batch(batch) => {
                assert!(batch.rows > 0 && batch.rows <= limits.rows);
                let position = batch.positions.iter().find(|(k, _)| &**k == KEY).unwrap();
                self.stored = Some(position.1.to_vec());
                self.mirror.apply(&batch);
                if told {
                    self.dts.as_mut().unwrap().stored();
                }
                Ok(true)
            }
            Step::Again => Ok(true),
            Step::Idle => Ok(false),
        }
    }

    /// Steps and deletes until nothing is left to do.
    pub(super) fn drain(&mut self) {
        for _ in 0..100_000 {
            match self.step(true) {
                Ok(true) => {}
                Ok(false) => {
                    let dts = self.dts.as_mut().unwrap();
                    let trimmed = dts.can_trim();
                    while dts.trim().unwrap() {}
                    if !trimmed {
                        return;
                    }
                }
                Err(e) => assert_eq!(e.class(), Class::Busy, "{e}"),
            }
        }
        panic!("never done");
    }

    pub(super) fn kill(&mut self) {
        self.dts = None;
    }

    pub(super) fn sql(&self, sql: &str) {
        self.app.execute_batch(sql).unwrap_or_else(|e| panic!("{sql}: {e}"));
    }

    /// After a drain the mirror holds exactly what the application does.
    pub(super) fn check(&mut self) {
        self.drain();
        let mut names: Vec<String> = self
            .app
            .prepare("SELECT name FROM pragma_table_list WHERE schema='main' AND type='table' AND substr(name,1,5)<>'_dts_' AND substr(name,1,7)<>'sqlite_'")
            .unwrap()
            .query_map([], |r| r.get(0))
            .unwrap()
            .map(Result::unwrap)
            .filter(|name: &String| self.config.wants(name))
            .collect::<Vec<_>>();
        names.extend(self.mirror.tables.keys().cloned());
        names.sort();
        names.dedup();
        // Shadow tables of a full text index: SQLite knows them as such only where its module is compiled in.
        for name in names.into_iter().filter(|name| !name.starts_with("fts_")) {
            let held = self.mirror.tables.get(&name).cloned().unwrap_or_default();
            let exists: i64 = self
                .app
                .query_row(
                    "SELECT count(*) FROM sqlite_master WHERE type='table' AND name=?1",
                    [&name],
                    |r| r.get(0),
                )
                .unwrap();
            if exists == 0 {
                assert_eq!(held, Rows::new(), "{name} is gone at the source");
                continue;
            }
            let Some((columns, key)) = self.mirror.columns.get(&name).cloned() else {
                let n: i64 = self
                    .app
                    .query_row(&format!("SELECT count(*) FROM {}", super::sql::ident(&name)), [], |r| {
                        r.get(0)
                    })
                    .unwrap();
                assert_eq!(n, 0, "no row of {name} ever came");
                continue;
            };
            // A column that was dropped or added without a value shows with the next row.
            let now: Vec<String> = self
                .app
                .prepare("SELECT name FROM pragma_table_xinfo(?1)")
                .unwrap()
                .query_map([&name], |r| r.get(0))
                .unwrap()
                .map(Result::unwrap)
                .collect();
            let columns: Vec<String> =
                columns.into_iter().filter(|c| c == ROWID || now.contains(c)).collect();
            let held: Rows = held
                .into_iter()
                .map(|(k, row)| {
                    let row = columns
                        .iter()
                        .map(|c| (c.clone(), row.get(c).cloned().unwrap_or_else(|| "NULL".into())));
                    (k, row.collect())
                })
                .collect();
            let truth = truth(&self.app, &name, &columns, &key);
            if held != truth {
                let missing: Vec<_> = truth.iter().filter(|(k, v)| held.get(*k) != Some(v)).take(3).collect();
                let extra: Vec<_> = held.iter().filter(|(k, v)| truth.get(*k) != Some(v)).take(3).collect();
                let tail = self.mirror.log.iter().rev().filter(|l| l.contains(&format!(" {name} "))).take(12);
                panic!(
                    "mirror of {name} differs\n source has {missing:#?}\n mirror has {extra:#?}\n last: {:#?}",
                    tail.collect::<Vec<_>>()
                );
            }
        }
    }

    pub(super) fn captured(&self) -> i64 {
        self.app.query_row("SELECT count(*) FROM _dts_capture", [], |r| r.get(0)).unwrap()
    }

    pub(super) fn take_log(&mut self) -> Vec<String> {
        std::mem::take(&mut self.mirror.log)
    }
}

//! Every source against the centre's mirror, row by row.

use std::collections::BTreeMap;
use std::path::Path;

use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags};

/// What one source and the mirror have of each other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Difference {
    /// Rows or events at the source.
    pub(super) rows: u64,
    /// At the source, not at the centre.
    pub(super) missing: u64,
    /// At the centre, not at the source.
    pub(super) invented: u64,
    /// At both, and not the same.
    pub(super) different: u64,
    /// The first few, for people.
    pub(super) examples: Vec<String>,
}

impl Difference {
    pub(super) fn is_none(&self) -> bool {
        self.missing + self.invented + self.different == 0
    }

    fn note(&mut self, what: &str, key: &str) {
        if self.examples.len() < 3 {
            self.examples.push(format!("{what}: {key}"));
        }
    }

    fn of(source: &BTreeMap<String, String>, mirror: &BTreeMap<String, String>) -> Self {
        let mut diff = Self { rows: source.len() as u64, ..Self::default() };
        for (key, row) in source {
            match mirror.get(key) {
                None => {
                    diff.missing += 1;
                    diff.note("missing", key);
                }
                Some(other) if other != row => {
                    diff.different += 1;
                    diff.note("different", &format!("{key}: {row} is {other} at the centre"));
                }
                Some(_) => {}
            }
        }
        for key in mirror.keys().filter(|key| !source.contains_key(*key)) {
            diff.invented += 1;
            diff.note("invented", key);
        }
        diff
    }
}

fn open(path: &Path) -> Result<Connection, String> {
    let db = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)
        .map_err(|error| format!("open {}: {error}", path.display()))?;
    db.busy_timeout(std::time::Duration::from_secs(5)).map_err(|e| e.to_string())?;
    Ok(db)
}

/// The rows of `query` by their first column. A key that stands twice is kept under a name of its own, so that it
/// shows as invented.
fn rows(db: &Connection, query: &str) -> Result<BTreeMap<String, String>, String> {
    let fail = |error: rusqlite::Error| format!("{query}: {error}");
    let mut statement = db.prepare(query).map_err(fail)?;
    let columns = statement.column_count();
    let mut found = statement.query([]).map_err(fail)?;
    let mut out = BTreeMap::new();
    while let Some(row) = found.next().map_err(fail)? {
        let values: Vec<Value> = (0..columns).map(|i| row.get(i)).collect::<Result<_, _>>().map_err(fail)?;
        let mut key = values.first().map(|v| format!("{v:?}")).unwrap_or_default();
        while out.contains_key(&key) {
            key.push_str(" again");
        }
        out.insert(key, format!("{values:?}"));
    }
    Ok(out)
}

/// A table of the application against its mirror.
pub(super) fn table(app: &Path, mirror: &Path, name: &str, columns: &str) -> Result<Difference, String> {
    let query = format!("SELECT {columns} FROM {name}");
    Ok(Difference::of(&rows(&open(app)?, &query)?, &rows(&open(mirror)?, &query)?))
}

/// Numbered events: the source made 0…`made`; `number` is SQL that gives the number of a message at the centre.
pub(super) fn numbered(mirror: &Path, topic: &str, made: u64, number: &str) -> Result<Difference, String> {
    let query = format!("SELECT CAST({number} AS TEXT) FROM messages WHERE topic LIKE '{topic}'");
    let source = (0..made).map(|n| {
        let key = format!("{:?}", Value::Text(n.to_string()));
        let row = format!("[{key}]");
        (key, row)
    });
    Ok(Difference::of(&source.collect(), &rows(&open(mirror)?, &query)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lost_invented_changed_and_doubled_rows_are_seen() {
        let dir = std::env::temp_dir().join(format!("dts-compare-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let (app, mirror) = (dir.join("app.db"), dir.join("mirror.db"));
        let make = |path: &Path, sql: &str| Connection::open(path).unwrap().execute_batch(sql).unwrap();
        make(&app, "CREATE TABLE t(id, v); INSERT INTO t VALUES(1, 'a'), (2, 'b'), (3, 1), (4, NULL);");
        make(
            &mirror,
            "CREATE TABLE t(id, v, _x); INSERT INTO t VALUES(1, 'a', 0), (3, 1.0, 0), (4, NULL, 0), (5, 0, 0);",
        );
        let diff = table(&app, &mirror, "t", "id, v").unwrap();
        assert_eq!((diff.rows, diff.missing, diff.invented, diff.different), (4, 1, 1, 1), "{diff:?}");
        make(
            &mirror,
            "CREATE TABLE messages(topic, n); INSERT INTO messages VALUES('x', 0), ('x', 1), ('x', 1), ('y', 7);",
        );
        let diff = numbered(&mirror, "x", 3, "n").unwrap();
        assert_eq!((diff.missing, diff.invented), (1, 1), "{diff:?}");
        assert!(numbered(&mirror, "y", 0, "n").unwrap().invented == 1);
        std::fs::remove_dir_all(&dir).unwrap();
    }
}

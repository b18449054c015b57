//! Checkpoints in a SQLite file: one row a task, `synchronous=FULL`.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension, params};

use super::{Checkpoint, CheckpointError, VERSION};

/// The store of one task.
#[derive(Debug)]
pub struct Store {
    connection: Connection,
    path: String,
    task: String,
}

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS checkpoint (task TEXT PRIMARY KEY, body TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS schema_history (
  task TEXT NOT NULL, n INTEGER NOT NULL, body TEXT NOT NULL, PRIMARY KEY (task, n)
) STRICT, WITHOUT ROWID;
";

impl Store {
    /// Opens the file, and makes it if it is not there.
    pub fn open(path: &Path, task: &str) -> Result<Self, CheckpointError> {
        let shown = path.display().to_string();
        let open = || {
            let connection = Connection::open(path)?;
            connection.busy_timeout(std::time::Duration::from_secs(5))?;
            connection.pragma_update(None, "journal_mode", "WAL")?;
            connection.pragma_update(None, "synchronous", "FULL")?;
            connection.execute_batch(SCHEMA)?;
            Ok(connection)
        };
        let connection = open().map_err(|error| CheckpointError::Sqlite { path: shown.clone(), error })?;
        Ok(Self { connection, path: shown, task: task.to_owned() })
    }

    fn error(&self, error: rusqlite::Error) -> CheckpointError {
        CheckpointError::Sqlite { path: self.path.clone(), error }
    }

    fn damaged(&self, why: String) -> CheckpointError {
        CheckpointError::Damaged { path: self.path.clone(), task: self.task.clone(), why }
    }

    /// The task's checkpoint, if it has one.
    pub fn load(&self) -> Result<Option<Checkpoint>, CheckpointError> {
        let sql = "SELECT body FROM checkpoint WHERE task = ?1";
        let body: Option<String> = self
            .connection
            .query_row(sql, [&self.task], |row| row.get(0))
            .optional()
            .map_err(|error| self.error(error))?;
        let Some(body) = body else { return Ok(None) };
        let found: Checkpoint =
            serde_json::from_str(&body).map_err(|error| self.damaged(error.to_string()))?;
        match found.version {
            VERSION => Ok(Some(found)),
            other => Err(self.damaged(format!("it has version {other}, this dts reads version {VERSION}"))),
        }
    }

    /// Stores it; durable on return.
    pub fn save(&mut self, checkpoint: &Checkpoint) -> Result<(), CheckpointError> {
        let body = serde_json::to_string(checkpoint).map_err(|error| self.damaged(error.to_string()))?;
        let sql =
            "INSERT INTO checkpoint VALUES (?1, ?2) ON CONFLICT (task) DO UPDATE SET body = excluded.body";
        self.connection.execute(sql, params![self.task, body]).map_err(|error| self.error(error))?;
        Ok(())
    }

    /// Forgets the task: its checkpoint and its history of schemas.
    pub fn reset(&mut self) -> Result<(), CheckpointError> {
        let mut forget = || {
            let transaction = self.connection.transaction()?;
            for table in ["checkpoint", "schema_history"] {
                transaction.execute(&format!("DELETE FROM {table} WHERE task = ?1"), [&self.task])?;
            }
            transaction.commit()
        };
        forget().map_err(|error| CheckpointError::Sqlite { path: self.path.clone(), error })
    }

    /// The first `count` entries of the history of schemas; what lies behind them is forgotten, since it comes again.
    pub fn history(&mut self, count: u64) -> Result<Vec<String>, CheckpointError> {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        let read = || {
            self.connection.execute(
                "DELETE FROM schema_history WHERE task = ?1 AND n >= ?2",
                params![self.task, count],
            )?;
            let mut statement =
                self.connection.prepare("SELECT body FROM schema_history WHERE task = ?1 ORDER BY n")?;
            let rows = statement.query_map([&self.task], |row| row.get(0))?;
            rows.collect::<Result<Vec<String>, _>>()
        };
        let found = read().map_err(|error| self.error(error))?;
        if (found.len() as i64) < count {
            return Err(
                self.damaged(format!("{} of {count} entries of its schema history are there", found.len()))
            );
        }
        Ok(found)
    }

    /// Appends to the history of schemas; `first` is the number of the first entry. Durable on return.
    pub fn append(&mut self, first: u64, entries: &[String]) -> Result<(), CheckpointError> {
        let first = i64::try_from(first).unwrap_or(i64::MAX);
        let mut write = || {
            let transaction = self.connection.transaction()?;
            for (n, body) in (first..).zip(entries) {
                let sql = "INSERT OR REPLACE INTO schema_history VALUES (?1, ?2, ?3)";
                transaction.execute(sql, params![self.task, n, body])?;
            }
            transaction.commit()
        };
        write().map_err(|error| CheckpointError::Sqlite { path: self.path.clone(), error })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_saved_is_there_after_a_restart_and_by_task() {
        let dir = std::env::temp_dir().join(format!("dts-checkpoint-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("checkpoint.db");
        let at = |pos| Checkpoint {
            version: VERSION,
            file: "b.000001".into(),
            pos,
            schemas: 2,
            ..Checkpoint::default()
        };
        {
            let mut store = Store::open(&path, "a").unwrap();
            assert_eq!(store.load().unwrap(), None);
            store.save(&at(4)).unwrap();
            store.save(&at(90)).unwrap();
            store.append(0, &["x".into(), "y".into()]).unwrap();
            store.append(2, &["z".into()]).unwrap();
        }
        let mut store = Store::open(&path, "a").unwrap();
        assert_eq!(store.load().unwrap(), Some(at(90)));
        // The third lies behind the checkpoint.
        assert_eq!(store.history(2).unwrap(), ["x", "y"]);
        store.append(2, &["w".into()]).unwrap();
        assert_eq!(store.history(3).unwrap(), ["x", "y", "w"]);
        assert!(matches!(store.history(4), Err(CheckpointError::Damaged { .. })));
        let other = Store::open(&path, "b").unwrap();
        assert_eq!(other.load().unwrap(), None);
        store.reset().unwrap();
        assert_eq!((store.load().unwrap(), store.history(0).unwrap().len()), (None, 0));
        let later = Checkpoint { version: 9, ..at(4) };
        store.save(&later).unwrap();
        assert!(store.load().unwrap_err().to_string().contains("version 9"));
        std::fs::remove_dir_all(&dir).unwrap();
    }
}

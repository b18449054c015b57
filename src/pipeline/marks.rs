//! Watermarks in a small SQLite file beside the state, for sinks that cannot store them in their
//! own transaction (`file`, `stdout`, `http`, `mqtt`).
//!
//! One node only: with several, each would know its own half (docs/architecture.md, "Watermarks").
//! Written after the sink confirmed and before the device hears of it. SQLite runs on a thread of
//! its own, `marks`, since a commit waits for the disk.

use std::path::Path;
use std::sync::Arc;

use rusqlite::{Connection, params};

use super::run::KeepMarks;
use crate::runtime::LocalFuture;
use crate::sink::{Mark, SinkError};

/// Most epochs kept for one lane of one device; the oldest go.
const EPOCHS_KEPT: u32 = 8;

struct Job {
    sink: String,
    marks: Vec<Mark>,
    done: async_channel::Sender<Result<(), SinkError>>,
}

/// The file, open.
#[derive(Debug)]
pub struct MarkFile {
    jobs: async_channel::Sender<Job>,
    stored: Vec<(String, Mark)>,
}

impl MarkFile {
    /// Opens or creates the file and reads every mark in it.
    pub fn open(path: &Path) -> Result<Self, SinkError> {
        let fatal = |error: rusqlite::Error| {
            SinkError::Fatal(format!(
                "watermarks {}: {error}; move the file away to start without them (devices then resend \
                 what they still hold)",
                path.display()
            ))
        };
        let db = Connection::open(path).map_err(fatal)?;
        prepare(&db).map_err(fatal)?;
        let stored = load(&db).map_err(fatal)?;
        let (jobs, queue) = async_channel::bounded::<Job>(16);
        let thread = std::thread::Builder::new().name("marks".into()).stack_size(256 << 10);
        thread
            .spawn(move || {
                let mut db = db;
                while let Ok(job) = queue.recv_blocking() {
                    let result = store(&mut db, &job.sink, &job.marks);
                    let result =
                        result.map_err(|error| SinkError::Retry(format!("store watermarks: {error}")));
                    job.done.try_send(result).ok();
                }
            })
            .map_err(|error| SinkError::Fatal(format!("start thread marks: {error}")))?;
        Ok(Self { jobs, stored })
    }

    /// What was stored for `sink` when the file was opened.
    pub fn of(&self, sink: &str) -> Vec<Mark> {
        self.stored.iter().filter(|(name, _)| name == sink).map(|(_, mark)| mark.clone()).collect()
    }
}

impl KeepMarks for MarkFile {
    fn keep<'a>(&'a self, sink: &'a str, marks: Vec<Mark>) -> LocalFuture<'a, Result<(), SinkError>> {
        Box::pin(async move {
            let (done, answer) = async_channel::bounded(1);
            let gone = || SinkError::Fatal("the thread marks has ended".to_owned());
            self.jobs.send(Job { sink: sink.to_owned(), marks, done }).await.map_err(|_| gone())?;
            answer.recv().await.map_err(|_| gone())?
        })
    }
}

pub(crate) fn prepare(db: &Connection) -> rusqlite::Result<()> {
    db.execute_batch(
        "PRAGMA journal_mode=WAL;
         PRAGMA synchronous=FULL;
         CREATE TABLE IF NOT EXISTS mark(
             sink TEXT NOT NULL, device TEXT NOT NULL, lane TEXT NOT NULL, epoch INTEGER NOT NULL,
             seq INTEGER NOT NULL, crc INTEGER NOT NULL, session INTEGER NOT NULL,
             PRIMARY KEY(sink, device, lane, epoch)) WITHOUT ROWID;",
    )
}

pub(crate) fn load(db: &Connection) -> rusqlite::Result<Vec<(String, Mark)>> {
    let mut rows = db.prepare("SELECT sink, device, lane, epoch, seq, crc, session FROM mark")?;
    let marks = rows.query_map([], |row| {
        let (device, lane): (String, String) = (row.get(1)?, row.get(2)?);
        Ok((
            row.get(0)?,
            Mark {
                device: Arc::from(device),
                lane: Arc::from(lane),
                // SQLite has signed 64-bit integers only; the bits are what counts.
                epoch: row.get::<_, i64>(3)? as u64,
                seq: row.get::<_, i64>(4)? as u64,
                crc: row.get(5)?,
                session: row.get::<_, i64>(6)? as u64,
            },
        ))
    })?;
    marks.collect()
}

pub(crate) fn store(db: &mut Connection, sink: &str, marks: &[Mark]) -> rusqlite::Result<()> {
    let tx = db.transaction()?;
    {
        let mut put = tx.prepare_cached("INSERT OR REPLACE INTO mark VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7)")?;
        let mut prune = tx.prepare_cached(
            "DELETE FROM mark WHERE sink = ?1 AND device = ?2 AND lane = ?3 AND epoch NOT IN (
                 SELECT epoch FROM mark WHERE sink = ?1 AND device = ?2 AND lane = ?3
                 ORDER BY (epoch >> 32) & 4294967295 DESC LIMIT ?4)",
        )?;
        for m in marks {
            put.execute(params![
                sink,
                &*m.device,
                &*m.lane,
                m.epoch as i64,
                m.seq as i64,
                m.crc,
                m.session as i64
            ])?;
            prune.execute(params![sink, &*m.device, &*m.lane, EPOCHS_KEPT])?;
        }
    }
    tx.commit()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(device: &str, epoch: u64, seq: u64) -> Mark {
        Mark { device: device.into(), lane: "data".into(), epoch, seq, crc: u32::MAX, session: 3 }
    }

    #[test]
    fn marks_survive_and_old_epochs_go() {
        let dir = std::env::temp_dir().join(format!("dts-marks-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("marks.db");
        {
            let file = MarkFile::open(&path).unwrap();
            crate::runtime::block_on(async {
                file.keep("out", vec![mark("a", u64::MAX, 5), mark("b", 1 << 32, 1)]).await.unwrap();
                file.keep("out", vec![mark("b", 1 << 32, 9)]).await.unwrap();
                for number in 1..=20u64 {
                    file.keep("other", vec![mark("a", number << 32 | 7, number)]).await.unwrap();
                }
            });
        }
        let file = MarkFile::open(&path).unwrap();
        assert_eq!(file.of("out"), [mark("a", u64::MAX, 5), mark("b", 1 << 32, 9)]);
        let kept: Vec<u64> = file.of("other").iter().map(|m| m.epoch >> 32).collect();
        assert_eq!(kept, (13..=20).collect::<Vec<_>>());
        std::fs::remove_dir_all(&dir).unwrap();
    }
}

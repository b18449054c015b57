//! The centre's sinks over the simulated disk: the shipped SQLite store, and a plain file that can neither keep marks nor
//! absorb anything, with the shipped marks beside it.

use std::mem::ManuallyDrop;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::Connection;

use super::disk;
use super::oracle::Oracle;
use super::vfs;
use crate::event::Batch;
use crate::event::builtin::Loss;
use crate::pipeline::marks;
use crate::pipeline::run::KeepMarks;
use crate::runtime::{LocalFuture, sleep};
use crate::sink::sqlite::{Options, Store, open};
use crate::sink::{Abilities, Mark, Sink, SinkError};

const FILE: &str = "centre.db";

pub(super) fn options(disk: u32, log: bool) -> Options {
    Options {
        path: disk::path(disk, FILE),
        log,
        device_column: true,
        busy_timeout: Duration::ZERO,
        cache_bytes: 1 << 20,
        max_tables: 100,
        max_tombstones: 1_000,
        vfs: Some(vfs::NAME.to_owned()),
        exclusive: true,
    }
}

/// A store with the connection and the options that it borrows.
struct Held {
    store: ManuallyDrop<Store<'static>>,
    conn: *mut Connection,
    options: *mut Options,
}

impl Held {
    fn new(options: &Options) -> Result<Self, SinkError> {
        let retry = |what: String| SinkError::Retry(what);
        let conn = Box::into_raw(Box::new(open(options).map_err(|e| retry(e.to_string()))?));
        let options = Box::into_raw(Box::new(options.clone()));
        // SAFETY: both live until `drop`, which ends the store first.
        match Store::new(unsafe { &*conn }, unsafe { &*options }) {
            Ok(store) => Ok(Self { store: ManuallyDrop::new(store), conn, options }),
            Err(e) => {
                // SAFETY: nothing borrows them.
                unsafe { drop((Box::from_raw(conn), Box::from_raw(options))) };
                Err(e.error)
            }
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // SAFETY: the store goes before what it borrows; each once.
        unsafe {
            ManuallyDrop::drop(&mut self.store);
            drop((Box::from_raw(self.conn), Box::from_raw(self.options)));
        }
    }
}

/// The shipped SQLite sink without its thread: a write takes a while, is done at one moment, and is answered a while later.
pub(super) struct SqliteSink {
    options: Options,
    held: Option<Held>,
    oracle: Oracle,
    disk: u32,
    write_us: u64,
}

impl SqliteSink {
    pub(super) fn open(disk: u32, log: bool, write_us: u64, oracle: Oracle) -> Result<Self, SinkError> {
        let options = options(disk, log);
        let held = Some(Held::new(&options)?);
        Ok(Self { options, held, oracle, disk, write_us })
    }

    pub(super) fn marks_now(&self) -> Result<Vec<Mark>, SinkError> {
        let held = self.held.as_ref().ok_or_else(|| SinkError::Retry("not open".into()))?;
        held.store.marks().map_err(|e| e.error)
    }

    fn write_now(&mut self, batches: &[Batch], marks: &[Mark]) -> Result<(), SinkError> {
        let mut held = match self.held.take() {
            Some(held) => held,
            None => Held::new(&self.options)?,
        };
        match held.store.write(batches, marks) {
            Ok(_) => {
                self.held = Some(held);
                self.oracle.committed(batches);
                Ok(())
            }
            Err(e) => {
                if !e.reopen {
                    self.held = Some(held);
                }
                Err(e.error)
            }
        }
    }
}

async fn pause(disk: u32, write_us: u64) {
    let busy = disk::with(disk, |d| std::mem::take(&mut d.busy_us)).unwrap_or(0);
    sleep(Duration::from_micros(write_us / 2 + busy)).await;
}

impl Sink for SqliteSink {
    fn abilities(&self) -> Abilities {
        Abilities {
            durable: true,
            idempotent: true,
            upsert: true,
            ddl: true,
            marks: true,
            max_write_bytes: 8 << 20,
            writes_under_way: 1,
        }
    }

    fn write(&mut self, batches: Vec<Batch>, marks: Vec<Mark>) -> LocalFuture<'_, Result<(), SinkError>> {
        Box::pin(async move {
            pause(self.disk, self.write_us).await;
            let result = self.write_now(&batches, &marks);
            pause(self.disk, self.write_us).await;
            result
        })
    }

    fn marks(&mut self) -> LocalFuture<'_, Result<Vec<Mark>, SinkError>> {
        Box::pin(async move { self.marks_now() })
    }

    fn probe(&mut self) -> LocalFuture<'_, Result<String, SinkError>> {
        Box::pin(async { Ok("simulated".into()) })
    }

    fn close(self: Box<Self>) -> LocalFuture<'static, Result<(), SinkError>> {
        Box::pin(async move {
            drop(self);
            Ok(())
        })
    }
}

/// A row of the centre's file.
pub(super) enum Found {
    Event { headers: String, key: Option<String>, payload: Vec<u8> },
    Loss(Loss),
}

/// Reads what the centre's file holds into the oracle, by a connection of its own.
pub(super) fn inspect(disk: u32, log: bool, oracle: &Oracle) {
    let read = || -> rusqlite::Result<()> {
        let conn = open(&options(disk, log)).map_err(|_| rusqlite::Error::InvalidQuery)?;
        let tables = if log {
            "SELECT device, lane, epoch, seq, kind, json FROM dts_log ORDER BY id"
        } else {
            "SELECT device, lane, epoch, seq, 'message', json_array(headers, key, hex(payload)) FROM messages \
             UNION ALL SELECT device, lane, epoch, seq, 'loss', json_object('lane', lost_lane, 'epoch', \
             printf('%016x', lost_epoch), 'from', from_seq, 'to', to_seq, 'reason', reason, 'bound', bound, 'rows', rows) \
             FROM dts_losses"
        };
        let mut statement = conn.prepare(tables)?;
        let mut rows = statement.query([])?;
        let mut seen = std::collections::HashSet::new();
        while let Some(row) = rows.next()? {
            let (Some(device), Some(lane)) =
                (row.get::<_, Option<String>>(0)?, row.get::<_, Option<String>>(1)?)
            else {
                continue;
            };
            // What a device says of itself has no number.
            let (Some(epoch), Some(seq)) = (row.get::<_, Option<i64>>(2)?, row.get::<_, Option<i64>>(3)?)
            else {
                continue;
            };
            let (device, lane): (Arc<str>, Arc<str>) = (device.into(), lane.into());
            let (epoch, seq) = (epoch as u64, seq as u64);
            if !seen.insert((device.clone(), lane.clone(), epoch, seq)) {
                oracle.violation(format!(
                    "{device}/{lane}/{epoch:016x}/{seq} stands twice in the centre's file"
                ));
            }
            let (kind, json): (String, String) = (row.get(4)?, row.get(5)?);
            match found(&kind, &json, log) {
                Some(Found::Loss(loss)) => oracle.lost(&device, &lane, epoch, seq, loss),
                Some(Found::Event { headers, key, payload }) => {
                    oracle.event(&device, &lane, epoch, seq, &headers, key.as_deref(), &payload, None);
                }
                None => {}
            }
        }
        Ok(())
    };
    if let Err(e) = read() {
        oracle.violation(format!("the centre's file cannot be read: {e}"));
    }
}

fn found(kind: &str, json: &str, log: bool) -> Option<Found> {
    let v: serde_json::Value = serde_json::from_str(json).ok()?;
    let text = |v: &serde_json::Value| v.as_str().map(str::to_owned);
    let hex = |v: &serde_json::Value| u64::from_str_radix(v.as_str()?, 16).ok();
    if kind == "loss" {
        return Some(Found::Loss(Loss {
            lane: text(&v["lane"])?.into(),
            epoch: hex(&v["epoch"])?,
            from: v["from"].as_u64()?,
            to: v["to"].as_u64()?,
            reason: text(&v["reason"])?.into(),
            exact: v["bound"] == "exact",
            rows: v["rows"].as_u64().unwrap_or(0),
        }));
    }
    if log {
        // The values of the text form are another test's.
        return None;
    }
    let payload = v[2].as_str()?;
    let byte = |i: usize| u8::from_str_radix(payload.get(i * 2..i * 2 + 2)?, 16).ok();
    let payload = (0..payload.len() / 2).map(byte).collect::<Option<Vec<u8>>>()?;
    Some(Found::Event { headers: text(&v[0])?, key: text(&v[1]), payload })
}

/// A sink that only appends: no marks of its own, nothing absorbed.
pub(super) struct PlainSink {
    pub(super) disk: u32,
    pub(super) write_us: u64,
    pub(super) oracle: Oracle,
}

impl PlainSink {
    const FILE: &'static str = "rows";

    fn write_now(&self, batches: &[Batch]) -> Result<(), SinkError> {
        let done = disk::with(self.disk, |d| {
            d.create(Self::FILE)?;
            let mut at = d.size(Self::FILE).unwrap_or(0) as usize;
            for batch in batches {
                d.write(Self::FILE, at, &batch.body)?;
                at += batch.body.len();
            }
            d.sync(Self::FILE)
        });
        match done {
            Some(Ok(())) => {
                self.oracle.committed(batches);
                Ok(())
            }
            error => Err(SinkError::Retry(format!("append: {error:?}"))),
        }
    }
}

impl Sink for PlainSink {
    fn abilities(&self) -> Abilities {
        Abilities { durable: true, max_write_bytes: 1 << 20, ..Abilities::default() }
    }

    fn write(&mut self, batches: Vec<Batch>, _: Vec<Mark>) -> LocalFuture<'_, Result<(), SinkError>> {
        Box::pin(async move {
            pause(self.disk, self.write_us).await;
            let result = self.write_now(&batches);
            pause(self.disk, self.write_us).await;
            result
        })
    }

    fn probe(&mut self) -> LocalFuture<'_, Result<String, SinkError>> {
        Box::pin(async { Ok("simulated".into()) })
    }

    fn close(self: Box<Self>) -> LocalFuture<'static, Result<(), SinkError>> {
        Box::pin(async { Ok(()) })
    }
}

/// The shipped file of watermarks without its thread.
pub(super) struct SimMarks {
    conn: std::cell::RefCell<Connection>,
    disk: u32,
    oracle: Oracle,
}

impl SimMarks {
    pub(super) fn open(disk: u32, oracle: Oracle) -> rusqlite::Result<(Self, Vec<(String, Mark)>)> {
        let path: PathBuf = disk::path(disk, "marks.db");
        let conn = Connection::open_with_flags_and_vfs(path, rusqlite::OpenFlags::default(), vfs::NAME)?;
        conn.execute_batch("PRAGMA locking_mode=EXCLUSIVE")?;
        marks::prepare(&conn)?;
        let stored = marks::load(&conn)?;
        Ok((Self { conn: conn.into(), disk, oracle }, stored))
    }
}

impl KeepMarks for SimMarks {
    fn keep<'a>(&'a self, sink: &'a str, all: Vec<Mark>) -> LocalFuture<'a, Result<(), SinkError>> {
        Box::pin(async move {
            pause(self.disk, 1_000).await;
            let stored = marks::store(&mut self.conn.borrow_mut(), sink, &all);
            stored.map_err(|e| {
                // The write comes again, and the sink cannot absorb it.
                self.oracle.centre_forgets();
                SinkError::Retry(format!("store watermarks: {e}"))
            })
        })
    }
}

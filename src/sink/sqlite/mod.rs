//! The embedded default: tables of the sources, mirrored into one SQLite file.
//!
//! | file | concept |
//! |---|---|
//! | `layout` | opening the file; our own tables |
//! | `names` | quoting; names that cannot be kept |
//! | `shape` | a source's table bound to its mirror |
//! | `value` | how a value is stored |
//! | `mirror` | applying a change: look up, compare versions, write |
//! | `graves` | versions of deleted rows |
//! | `ranges` | sequence numbers that were written |
//! | `events` | messages, losses, schema changes, the log |
//! | `sessions` | session numbers of devices, shared by all nodes that write to the file |
//! | `store` | the core: one write is one transaction |
//!
//! Failure: a full disk, a lock of somebody else and a disk error are tried again (after a disk
//! error on a connection opened anew); a row that cannot be stored is rejected; a damaged file ends
//! the run and says what to do. The file is WAL with `synchronous=FULL`: what was acknowledged
//! survives a power cut. Others may read it at any time.

mod error;
mod events;
mod graves;
mod layout;
mod mirror;
mod names;
mod ranges;
mod sessions;
mod shape;
mod store;
#[cfg(test)]
mod tests;
mod value;

use std::cell::Cell;
use std::path::PathBuf;

use async_channel::Receiver;

use super::thread::{Job, Reply, ThreadSink, answer};
use super::{Abilities, Sink, SinkConfig, SinkError};
use crate::config::node::{Kind, Node};
use crate::config::{ByteSize, Context, Duration, Field};
use crate::runtime::LocalFuture;
use crate::telemetry;

pub use layout::{OpenError, Options, open};
pub use store::{Store, WriteError, Written};

/// Bytes of bodies in one transaction.
const MAX_WRITE_BYTES: usize = 8 << 20;

/// What the file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// A table for each table of the sources, holding its newest rows.
    Mirror,
    /// One table, `dts_log`, with every change as dts JSON.
    Log,
}

impl Field for Mode {
    fn read(node: &Node, cx: &mut Context) -> Option<Self> {
        match &node.kind {
            Kind::Scalar { text, .. } if text == "mirror" => Some(Self::Mirror),
            Kind::Scalar { text, .. } if text == "log" => Some(Self::Log),
            _ => cx.expected(node, "`mirror` or `log`"),
        }
    }

    fn schema() -> serde_json::Value {
        serde_json::json!({ "enum": ["mirror", "log"] })
    }
}

crate::section! {
    /// Writes into a SQLite file: tables that follow the sources' (`mirror`), or a log of every change.
    pub struct Config {
        /// The file. Made if it is missing; dts wants it for itself, others may read it.
        path: PathBuf,
        /// `mirror`: tables are made and altered to follow the source, rows updated by key and version; messages go
        /// to `messages`. `log`: everything goes to `dts_log` as dts JSON.
        mode: Mode = "mirror",
        /// Whether rows of different devices are different rows even with equal keys. `false` is for
        /// fleets that share one set of keys: the last writer wins.
        device_column: bool = "true",
        /// How long to wait for another program's lock before the write is tried again later.
        busy_timeout: Duration = "5s",
        /// Page cache. More helps when rows all over a large table are updated; it is memory that stays in use.
        cache: ByteSize = "16MiB",
        /// Most mirrored tables. Rows of further ones are rejected, so that a device cannot fill the file with tables.
        max_tables: u32 = "10000",
        /// Most deletes remembered, to tell late older changes of deleted rows; about 100 bytes each. Deletes below a device's watermark
        /// need none.
        max_tombstones: u32 = "100000",
    }
}

impl Config {
    fn options(&self) -> Options {
        Options {
            path: self.path.clone(),
            log: self.mode == Mode::Log,
            device_column: self.device_column,
            busy_timeout: self.busy_timeout,
            cache_bytes: self.cache.0,
            max_tables: self.max_tables,
            max_tombstones: self.max_tombstones,
            vfs: None,
            exclusive: false,
        }
    }
}

impl SinkConfig for Config {
    /// SQLite's locks hold among the processes of one machine.
    fn shares_state(&self) -> bool {
        true
    }

    fn open(&self, name: &str) -> LocalFuture<'_, Result<Box<dyn Sink>, SinkError>> {
        let name = name.to_owned();
        Box::pin(async move {
            let options = self.options();
            let abilities = Abilities {
                durable: true,
                idempotent: true,
                upsert: !options.log,
                ddl: true,
                marks: true,
                max_write_bytes: MAX_WRITE_BYTES,
                writes_under_way: 1,
            };
            ThreadSink::start("sink-sqlite", abilities, move |jobs, opened| {
                serve(&name, &options, &jobs, opened);
            })
            .await
        })
    }
}

fn explain_open(options: &Options, error: &OpenError) -> SinkError {
    let path = options.path.display();
    match error {
        OpenError::Sqlite(e) if matches!(error::class(e), error::Class::Retry) => {
            SinkError::Retry(format!("open {path}: {e}; {}", error::advice(e)))
        }
        OpenError::Sqlite(e) => SinkError::Fatal(format!("open {path}: {e}; {}", error::advice(e))),
        OpenError::Foreign | OpenError::Newer(_) => SinkError::Fatal(format!("open {path}: {error}")),
    }
}

/// The thread: opens the file, works, and opens it anew after a disk error.
fn serve(name: &str, options: &Options, jobs: &Receiver<Job>, opened: Reply<()>) {
    let mut opened = Some(opened);
    // Outlives the connection: a disk error does not let older sessions in.
    let fences = Cell::new(false);
    loop {
        let conn = match open(options) {
            Ok(conn) => conn,
            Err(error) => {
                let error = explain_open(options, &error);
                match opened.take() {
                    Some(first) => return answer(&first, Err(error)),
                    // It was open before: refuse this job, try again at the next.
                    None if refuse(jobs, error) => continue,
                    None => return,
                }
            }
        };
        let end = Store::new(&conn, options).map(|store| {
            if let Some(opened) = opened.take() {
                answer(&opened, Ok(()));
            }
            work(name, store, &fences, jobs)
        });
        match end {
            Ok(End::Reopen) => log::warn!("{}: opening the file again", options.path.display()),
            Ok(End::Gone) => return,
            Ok(End::Close(reply)) => {
                let closed = conn.close().map_err(|(_, e)| SinkError::Retry(format!("close: {e}")));
                return answer(&reply, closed);
            }
            Err(WriteError { error, .. }) => match opened.take() {
                Some(first) => return answer(&first, Err(error)),
                None if refuse(jobs, error) => {}
                None => return,
            },
        }
    }
}

/// Answers one job with an error. `false` when there are no more.
fn refuse(jobs: &Receiver<Job>, error: SinkError) -> bool {
    // What cannot be opened now was open before: worth another try.
    let error = match error {
        SinkError::Fatal(text) => SinkError::Retry(text),
        other => other,
    };
    match jobs.recv_blocking() {
        Ok(Job::Write(_, _, reply)) => answer(&reply, Err(error)),
        Ok(Job::Marks(reply)) => answer(&reply, Err(error)),
        Ok(Job::Claim(_, reply)) => answer(&reply, Err(error)),
        Ok(Job::Probe(reply)) => answer(&reply, Err(error)),
        Ok(Job::Close(reply)) => {
            answer(&reply, Ok(()));
            return false;
        }
        Err(_) => return false,
    }
    true
}

/// Why work ended.
enum End {
    /// The connection must be opened anew.
    Reopen,
    /// The sink is closed; the reply wants to know when the file is.
    Close(Reply<()>),
    /// The sink was dropped.
    Gone,
}

fn work(name: &str, mut store: Store<'_>, fences: &Cell<bool>, jobs: &Receiver<Job>) -> End {
    if fences.get() {
        store.fence();
    }
    while let Ok(job) = jobs.recv_blocking() {
        let reopen = match job {
            Job::Write(batches, marks, reply) => {
                let result = store.write(&batches, &marks);
                if let Ok(written) = &result {
                    telemetry::count("dts_sink_absorbed_rows_total", &[("sink", name)], written.absorbed);
                }
                reply_to(&reply, result.map(|_| ()))
            }
            Job::Marks(reply) => reply_to(&reply, store.marks()),
            Job::Claim(device, reply) => {
                fences.set(true);
                reply_to(&reply, store.claim(&device))
            }
            Job::Probe(reply) => reply_to(&reply, store.probe()),
            Job::Close(reply) => return End::Close(reply),
        };
        if reopen {
            return End::Reopen;
        }
    }
    End::Gone
}

/// `true` if the connection must be opened anew.
fn reply_to<T>(reply: &Reply<T>, result: Result<T, WriteError>) -> bool {
    let reopen = result.as_ref().is_err_and(|e| e.reopen);
    answer(reply, result.map_err(|e| e.error));
    reopen
}

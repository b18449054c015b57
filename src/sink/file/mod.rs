//! Lines of dts JSON, appended to a file that is rotated by size and age.
//!
//! | file | concept |
//! |---|---|
//! | `core` | append, rotate, sync |
//! | `repair` | what a crash left at the end |
//!
//! All batches of a write are one append and, with `fsync: always`, one fdatasync. The current file has
//! the configured name; a full one is renamed to `<stem>-<number>.<extension>` in one step and never
//! touched again. A resent batch is written again: its lines have the same ids.

mod core;
mod repair;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use async_channel::{Receiver, RecvError};
use futures_lite::future::block_on;

use self::core::{Core, Options, failed};
use super::thread::{Job, Reply, ThreadSink, answer, unshared};
use super::{Abilities, Sink, SinkConfig, SinkError};
use crate::codec::json::{Format, Integers, Meta};
use crate::config::node::{Kind, Node};
use crate::config::{ByteSize, Context, Duration, Field};
use crate::runtime::{LocalFuture, mono_now, sleep, sleep_until, wall_now_us};
use crate::telemetry;

pub use self::core::Fsync;

/// Bytes of bodies in one write; the text is some times larger.
const MAX_WRITE_BYTES: usize = 8 << 20;

impl Field for Fsync {
    fn read(node: &Node, cx: &mut Context) -> Option<Self> {
        match &node.kind {
            Kind::Scalar { text, .. } if text == "always" => Some(Self::Always),
            Kind::Scalar { text, .. } if text == "never" => Some(Self::Never),
            // Duration would not name the words.
            _ => match Duration::read(node, &mut Context::default()) {
                Some(interval) if !interval.is_zero() => Some(Self::Interval(interval)),
                _ => cx.expected(node, "`always`, `never` or a time like `1s`"),
            },
        }
    }

    fn schema() -> serde_json::Value {
        serde_json::json!({ "anyOf": [{ "enum": ["always", "never"] }, Duration::schema()] })
    }
}

crate::section! {
    /// Appends dts JSON, one change a line, to a file.
    pub struct Config {
        /// The current file. Its folder must exist.
        path: PathBuf,
        /// When lines are made durable: `always` (before the write is acknowledged: one fdatasync a write), a time like `1s` (at
        /// most that much is lost at a power cut) or `never` (left to the system).
        fsync: Fsync = "always",
        /// Size at which the file is rotated, before the next write; 0 is never.
        max_bytes: ByteSize = "256MiB",
        /// Age at which the file is rotated; 0 is never.
        max_age: Duration = "0",
        /// Rotated files that are kept; the oldest are removed. 0 keeps all.
        keep_files: u32 = "0",
        /// What is written beside the values: `full`, `id` or `none`.
        meta: Meta = "full",
        /// How integers are written: `number`, or `string` for readers that lose precision beyond 2^53.
        integers: Integers = "number",
    }
}

impl SinkConfig for Config {
    fn open(&self, name: &str) -> LocalFuture<'_, Result<Box<dyn Sink>, SinkError>> {
        let name = name.to_owned();
        Box::pin(async move {
            let (path, options) = (self.path.clone(), self.options());
            let abilities = Abilities {
                durable: self.fsync == Fsync::Always,
                ddl: true,
                max_write_bytes: MAX_WRITE_BYTES,
                ..Abilities::default()
            };
            ThreadSink::start("sink-file", abilities, move |jobs, opened| {
                serve(&name, path, options, &jobs, &opened);
            })
            .await
        })
    }
}

impl Config {
    fn options(&self) -> Options {
        Options {
            fsync: self.fsync,
            max_bytes: self.max_bytes.0,
            max_age: self.max_age,
            keep_files: self.keep_files,
            format: Format { meta: self.meta, integers: self.integers },
        }
    }
}

/// Opens the file. A lock that is held by a run which is just ending is waited for.
fn open(path: &std::path::Path, options: Options) -> Result<Core, SinkError> {
    let mut tries = 0;
    loop {
        let opened =
            Core::open(path.to_owned(), options, Box::new(|file| Box::new(file)), mono_now(), wall_now_us());
        match opened {
            Ok(core) => return Ok(core),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock && tries < 50 => {
                tries += 1;
                block_on(sleep(Duration::from_millis(20)));
            }
            Err(error) => {
                let text = failed(path, "open", &error);
                return Err(match error.kind() {
                    std::io::ErrorKind::WouldBlock | std::io::ErrorKind::StorageFull => {
                        SinkError::Retry(text)
                    }
                    _ => SinkError::Fatal(text),
                });
            }
        }
    }
}

fn serve(name: &str, path: PathBuf, options: Options, jobs: &Receiver<Job>, opened: &Reply<()>) {
    let mut core = match open(&path, options) {
        Ok(core) => core,
        Err(error) => return answer(opened, Err(error)),
    };
    answer(opened, Ok(()));
    loop {
        if core.torn > 0 {
            telemetry::count("dts_sink_torn_lines_total", &[("sink", name)], std::mem::take(&mut core.torn));
        }
        match next(jobs, &core) {
            Next::Job(Job::Write(batches, _, reply)) => {
                answer(&reply, core.write(&batches, mono_now(), wall_now_us()));
            }
            Next::Job(Job::Claim(_, reply)) => answer(&reply, Err(unshared())),
            Next::Job(Job::Marks(reply)) => answer(&reply, Ok(Vec::new())),
            Next::Job(Job::Probe(reply)) => answer(&reply, Ok(core.probe())),
            Next::Job(Job::Close(reply)) => {
                let synced = core.sync();
                drop(core);
                return answer(&reply, synced);
            }
            Next::Tick => {
                if let Err(error) = core.tick(mono_now(), wall_now_us()) {
                    telemetry::count("dts_sink_sync_failures_total", &[("sink", name)], 1);
                    log::error!("{error}; lines that were acknowledged may be lost");
                }
            }
            Next::End => {
                if let Err(error) = core.sync() {
                    log::error!("{error}");
                }
                return;
            }
        }
    }
}

enum Next {
    Job(Job),
    Tick,
    End,
}

/// The next job, or the word that something is due.
fn next(jobs: &Receiver<Job>, core: &Core) -> Next {
    let job = async {
        match jobs.recv().await {
            Ok(job) => Next::Job(job),
            Err(RecvError) => Next::End,
        }
    };
    match core.deadline() {
        None => block_on(job),
        Some(at) => block_on(futures_lite::future::or(job, async {
            sleep_until(at).await;
            Next::Tick
        })),
    }
}

//! Lines of dts JSON on standard output.
//!
//! When the reader closes the pipe (`dts run … | head`), the write ends with [`SinkError::Closed`] and
//! the run ends quietly. A reader that is slow holds dts back.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};

use async_channel::Receiver;
use rustix::event::{PollFd, PollFlags, poll};

use super::thread::{Job, Reply, ThreadSink, answer, unshared};
use super::{Abilities, Sink, SinkConfig, SinkError};
use crate::codec::json::{self, Format, Integers, Meta};
use crate::event::Batch;
use crate::runtime::LocalFuture;

/// Encoded bytes handed to the system at once.
const CHUNK_BYTES: usize = 256 << 10;

crate::section! {
    /// Writes dts JSON, one change a line, to standard output.
    pub struct Config {
        /// What is written beside the values: `full`, `id` or `none`.
        meta: Meta = "full",
        /// How integers are written: `number`, or `string` for readers that lose precision beyond 2^53.
        integers: Integers = "number",
    }
}

impl SinkConfig for Config {
    fn open(&self, _name: &str) -> LocalFuture<'_, Result<Box<dyn Sink>, SinkError>> {
        Box::pin(async {
            let fd = rustix::io::dup(rustix::stdio::stdout())
                .map_err(|e| SinkError::Fatal(format!("open standard output: {e}")))?;
            start(fd, Format { meta: self.meta, integers: self.integers }).await
        })
    }
}

async fn start(fd: OwnedFd, format: Format) -> Result<Box<dyn Sink>, SinkError> {
    // Two, so that the thread has the next while the first is answered; no failure of it is tried again.
    let abilities =
        Abilities { ddl: true, max_write_bytes: 1 << 20, writes_under_way: 2, ..Abilities::default() };
    ThreadSink::start("sink-stdout", abilities, move |jobs, opened| serve(fd, format, &jobs, &opened)).await
}

fn serve(fd: OwnedFd, format: Format, jobs: &Receiver<Job>, opened: &Reply<()>) {
    answer(opened, Ok(()));
    let mut out = File::from(fd);
    let mut buffer = Vec::new();
    while let Ok(job) = jobs.recv_blocking() {
        match job {
            Job::Write(batches, _, reply) => answer(&reply, write(&mut out, &mut buffer, &batches, format)),
            Job::Claim(_, reply) => answer(&reply, Err(unshared())),
            Job::Marks(reply) => answer(&reply, Ok(Vec::new())),
            Job::Probe(reply) => answer(&reply, Ok("standard output is open".to_owned())),
            Job::Close(reply) => return answer(&reply, Ok(())),
        }
    }
}

fn write(out: &mut File, buffer: &mut Vec<u8>, batches: &[Batch], format: Format) -> Result<(), SinkError> {
    // What cannot be taken back must be right before its first byte is out.
    buffer.clear();
    for (batch, rows) in batches.iter().enumerate() {
        json::write_batch(buffer, rows, format).map_err(|e| SinkError::Reject {
            batch,
            row: e.row,
            reason: e.error.to_string(),
        })?;
    }
    for chunk in buffer.chunks(CHUNK_BYTES) {
        send(out, chunk).map_err(|e| match e.kind() {
            io::ErrorKind::BrokenPipe => {
                SinkError::Closed("the reader of standard output has gone".to_owned())
            }
            // Part of it may be out: the rest cannot follow later without tearing a line.
            _ => SinkError::Fatal(format!("write to standard output: {e}")),
        })?;
    }
    buffer.clear();
    buffer.shrink_to(4 * CHUNK_BYTES);
    Ok(())
}

/// Writes all of it; waits where somebody made the terminal non-blocking.
fn send(out: &mut File, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match out.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => bytes = bytes.get(n..).unwrap_or_default(),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                poll(&mut [PollFd::new(&out.as_fd(), PollFlags::OUT)], None)?;
            }
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::Read;

    use super::*;
    use crate::event::Op;
    use crate::runtime::block_on;
    use crate::sink::behaviour::{self, Subject, TempDir, batch, ndjson, put};

    /// Standard output redirected to a file, as by `>>`.
    #[derive(Debug)]
    struct Redirected(TempDir);

    impl Redirected {
        fn text(&self) -> String {
            std::fs::read_to_string(self.0.0.join("out")).unwrap_or_default()
        }
    }

    #[derive(Debug)]
    struct To(std::path::PathBuf);

    impl SinkConfig for To {
        fn open(&self, _name: &str) -> LocalFuture<'_, Result<Box<dyn Sink>, SinkError>> {
            let file = File::options().append(true).create(true).open(&self.0).unwrap();
            Box::pin(start(file.into(), Format::default()))
        }
    }

    impl Subject for Redirected {
        fn config(&self) -> Box<dyn SinkConfig> {
            Box::new(To(self.0.0.join("out")))
        }

        fn state(&self) -> BTreeMap<i64, String> {
            ndjson::state(&self.text())
        }

        fn kinds(&self) -> Vec<String> {
            ndjson::kinds(&self.text())
        }

        fn ids(&self) -> Option<Vec<String>> {
            Some(ndjson::ids(&self.text()))
        }
    }

    #[test]
    fn stdout_behaves() {
        behaviour::suite(|| Redirected(TempDir::new("stdout")));
    }

    #[test]
    fn a_reader_that_goes_ends_the_run_quietly() {
        let (read, write) = rustix::pipe::pipe().unwrap();
        block_on(async {
            let mut sink = start(write, Format::default()).await.unwrap();
            sink.write(vec![batch(1, |b| put(b, Op::Insert, 1, "x"))], vec![]).await.unwrap();
            let mut first = [0; 9];
            File::from(read).read_exact(&mut first).unwrap();
            assert_eq!(&first, b"{\"kind\":\"");
            let more = sink.write(vec![batch(2, |b| put(b, Op::Insert, 2, "x"))], vec![]).await;
            assert!(matches!(more, Err(SinkError::Closed(_))), "{more:?}");
            sink.close().await.unwrap();
        });
    }

    #[test]
    fn a_reader_that_sleeps_holds_nobody_at_the_end() {
        let (_read, write) = rustix::pipe::pipe().unwrap();
        rustix::io::ioctl_fionbio(&write, true).unwrap();
        block_on(async {
            let mut sink = start(write, Format::default()).await.unwrap();
            let many = batch(1, |b| (0..5000).for_each(|n| put(b, Op::Insert, n, "x")));
            let stuck =
                crate::runtime::timeout(std::time::Duration::from_millis(50), sink.write(vec![many], vec![]));
            assert!(stuck.await.is_none(), "a full pipe took 5,000 lines");
            assert!(matches!(sink.close().await, Err(SinkError::Retry(_))));
        });
    }
}

//! Standard input: one message a line. Ends the run when the input ends.

use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};

use async_io::Async;

use super::lines::{LineSplitter, MessageWriter};
use super::{Outlet, Source, SourceConfig, SourceError};
use crate::config::ByteSize;
use crate::runtime::{LocalFuture, Stop};
use crate::telemetry;

crate::section! {
    /// Reads lines from standard input, each one event. JSON stays JSON, all else is text.
    /// What was read cannot be read again: a buffer stands behind it.
    pub struct Config {
        /// Topic of the events.
        topic: String = "stdin",
        /// Longest line taken, in bytes. Longer ones are dropped and counted. Costs this much memory.
        max_line_bytes: ByteSize = "64KiB",
    }
}

impl SourceConfig for Config {
    fn build(&self, _name: &str) -> Result<Box<dyn Source>, SourceError> {
        Ok(Box::new(Stdin { config: self.clone() }))
    }
}

struct Stdin {
    config: Config,
}

impl Source for Stdin {
    fn run(self: Box<Self>, outlet: Outlet, stop: Stop) -> LocalFuture<'static, Result<(), SourceError>> {
        Box::pin(async move {
            let input = Input::open()?;
            let mut splitter = LineSplitter::new(self.config.max_line_bytes.0 as usize);
            let mut writer = MessageWriter::new(outlet);
            let topic = self.config.topic.as_str();
            let mut chunk = vec![0; 32 * 1024];
            while let Some(read) = stop.or(input.read(&mut chunk)).await {
                let n = read.map_err(|error| SourceError::Fatal(format!("read standard input: {error}")))?;
                splitter.feed(&chunk[..n], |line, _| writer.push(topic, line, None));
                if n == 0 {
                    if let Some(last) = splitter.finish() {
                        writer.push(topic, &last, None);
                    }
                    break;
                }
                if writer.flush().await.is_err() {
                    break;
                }
            }
            // A refusal here means that dts is stopping; what was not taken is lost to nobody but
            // the writer of the pipe, who sees it closed.
            writer.settle().await.ok();
            super::count_dropped(writer.source(), splitter.too_long + writer.too_large);
            telemetry::count("dts_source_ended_total", &[("source", writer.source())], 1);
            Ok(())
        })
    }

    fn probe(&self) -> LocalFuture<'_, Result<String, SourceError>> {
        Box::pin(async { Ok("standard input is read when dts runs".to_owned()) })
    }
}

/// Standard input, waited for by poll where it can be (pipe, terminal, socket), else just read (file).
enum Input {
    Waited(Async<OwnedFd>),
    Direct(std::fs::File),
}

impl Input {
    fn open() -> Result<Self, SourceError> {
        let fatal = |error| SourceError::Fatal(format!("open standard input: {error}"));
        let fd = std::io::stdin().as_fd().try_clone_to_owned().map_err(fatal)?;
        let again = fd.try_clone().map_err(fatal)?;
        // Not made non-blocking: that would change the terminal for other processes too.
        match Async::new_nonblocking(fd) {
            Ok(waited) => Ok(Self::Waited(waited)),
            Err(_) => Ok(Self::Direct(again.into())),
        }
    }

    async fn read(&self, chunk: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Self::Waited(fd) => {
                fd.readable().await?;
                rustix::io::read(fd.get_ref(), chunk).map_err(Into::into)
            }
            Self::Direct(file) => {
                futures_lite::future::yield_now().await;
                (&mut &*file).read(chunk)
            }
        }
    }
}

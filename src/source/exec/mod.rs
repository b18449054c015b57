//! A command's standard output: one message a line. The command runs once, on and on, or every so often.

use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use async_io::Async;
use futures_lite::AsyncReadExt;

use super::lines::{LineSplitter, MessageWriter};
use super::{Outlet, Source, SourceConfig, SourceError};
use crate::config::{ByteSize, Duration as Span};
use crate::runtime::{self, LocalFuture, Stop};
use crate::telemetry;

/// Pause after a command that was to run on and on has ended: doubles up to [`MAX_RESTART_PAUSE`].
const MIN_RESTART_PAUSE: Duration = Duration::from_millis(500);
const MAX_RESTART_PAUSE: Duration = Duration::from_secs(60);
/// What a command gets between SIGTERM and SIGKILL.
const TERM_GRACE: Duration = Duration::from_millis(400);

crate::section! {
    /// Runs a command and takes each line of its standard output as an event. Its standard error goes to dts's.
    /// What it printed cannot be read again: a buffer stands behind it.
    pub struct Config {
        /// The program and its arguments, run without a shell: `[df, --output=avail, /]`.
        command: Vec<String>,
        /// Run it this often. Left out: it runs on and on, and is started again when it ends.
        every: Option<Span>,
        /// A run with `every` that takes longer than this is ended.
        timeout: Span = "30s",
        /// Topic of the events. Left out: the program's name.
        topic: Option<String>,
        /// Longest line taken, in bytes. Longer ones are dropped and counted. Costs this much memory.
        max_line_bytes: ByteSize = "64KiB",
    }
}

impl SourceConfig for Config {
    fn build(&self, name: &str) -> Result<Box<dyn Source>, SourceError> {
        if self.command.is_empty() {
            return Err(SourceError::Fatal(format!("source `{name}`: `command` is empty; name a program")));
        }
        Ok(Box::new(Exec { config: self.clone() }))
    }
}

struct Exec {
    config: Config,
}

impl Exec {
    fn program(&self) -> &str {
        self.config.command.first().map_or("", String::as_str)
    }

    fn start(&self) -> Result<(Child, Async<ChildStdout>), SourceError> {
        let mut command = Command::new(self.program());
        command.args(self.config.command.iter().skip(1));
        // A group of its own, so that what it starts is ended with it.
        command.stdin(Stdio::null()).stdout(Stdio::piped()).process_group(0);
        let retry = |error| SourceError::Retry(format!("start `{}`: {error}", self.program()));
        let mut child = command.spawn().map_err(retry)?;
        let stdout = child.stdout.take().ok_or_else(|| retry(std::io::ErrorKind::BrokenPipe.into()))?;
        Ok((child, Async::new(stdout).map_err(retry)?))
    }

    /// Reads one run to its end. `false` if dts is stopping.
    async fn one_run(&self, writer: &mut MessageWriter) -> Result<bool, SourceError> {
        let (child, mut stdout) = self.start()?;
        let mut child = Running(Some(child));
        let mut splitter = LineSplitter::new(self.config.max_line_bytes.0 as usize);
        let topic = self.config.topic.clone().unwrap_or_else(|| self.program().to_owned());
        let mut chunk = vec![0; 16 * 1024];
        loop {
            let n = stdout.read(&mut chunk).await;
            let n =
                n.map_err(|error| SourceError::Retry(format!("read from `{}`: {error}", self.program())))?;
            splitter.feed(&chunk[..n], |line, _| writer.push(&topic, line, None));
            if n == 0 {
                break;
            }
            if writer.flush().await.is_err() {
                return Ok(false);
            }
        }
        if let Some(last) = splitter.finish() {
            writer.push(&topic, &last, None);
        }
        let too_large = std::mem::take(&mut writer.too_large);
        super::count_dropped(writer.source(), splitter.too_long + too_large);
        let taken = writer.flush().await.is_ok();
        let status = child.end().await;
        if !status.is_some_and(|s| s.success()) {
            telemetry::count("dts_exec_failures_total", &[("source", writer.source())], 1);
            let status = status.map_or_else(|| "did not end".to_owned(), |s| s.to_string());
            log::warn!("source `{}`: `{}` {status}", writer.source(), self.program());
        }
        Ok(taken)
    }
}

impl Source for Exec {
    fn run(self: Box<Self>, outlet: Outlet, stop: Stop) -> LocalFuture<'static, Result<(), SourceError>> {
        Box::pin(async move {
            let mut writer = MessageWriter::new(outlet);
            let mut pause = MIN_RESTART_PAUSE;
            loop {
                let started = runtime::mono_now();
                let one = async {
                    match self.config.every {
                        Some(_) => {
                            match runtime::timeout(self.config.timeout, self.one_run(&mut writer)).await {
                                Some(ended) => ended,
                                None => {
                                    log::warn!(
                                        "`{}` ran longer than {:?}: ended",
                                        self.program(),
                                        self.config.timeout
                                    );
                                    Ok(true)
                                }
                            }
                        }
                        None => self.one_run(&mut writer).await,
                    }
                };
                match stop.or(one).await {
                    None | Some(Ok(false)) => break,
                    Some(Ok(true)) => {}
                    Some(Err(error)) => log::warn!("source `{}`: {error}", writer.source()),
                }
                let wait = match self.config.every {
                    Some(every) => every.saturating_sub(runtime::mono_now().since(started)),
                    None => {
                        if runtime::mono_now().since(started) > MAX_RESTART_PAUSE {
                            pause = MIN_RESTART_PAUSE;
                        }
                        let longer = (pause * 2).min(MAX_RESTART_PAUSE);
                        std::mem::replace(&mut pause, longer)
                    }
                };
                if stop.or(runtime::sleep(wait)).await.is_none() {
                    break;
                }
            }
            writer.settle().await.ok();
            Ok(())
        })
    }

    fn probe(&self) -> LocalFuture<'_, Result<String, SourceError>> {
        Box::pin(async move {
            let program = self.program();
            let found = if program.contains('/') {
                std::path::Path::new(program).exists()
            } else {
                let path = std::env::var_os("PATH").unwrap_or_default();
                std::env::split_paths(&path).any(|dir| dir.join(program).exists())
            };
            if found {
                Ok(format!("`{program}` is there"))
            } else {
                Err(SourceError::Fatal(format!(
                    "`{program}` is not in PATH; give its full path in `command`"
                )))
            }
        })
    }
}

/// A child that is ended, with all that it started, when it is dropped.
struct Running(Option<Child>);

impl Running {
    /// Waits for a child that closed its output; ends it if it does not go by itself.
    async fn end(&mut self) -> Option<std::process::ExitStatus> {
        let child = self.0.as_mut()?;
        for _ in 0..100 {
            if let Ok(Some(status)) = child.try_wait() {
                self.0 = None;
                return Some(status);
            }
            runtime::sleep(Duration::from_millis(10)).await;
        }
        None
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let Some(mut child) = self.0.take() else { return };
        let group = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process_group(group, rustix::process::Signal::TERM).ok();
        // Reaped later, on the executor, so that a drop never blocks.
        runtime::spawn(async move {
            let deadline = runtime::mono_now() + TERM_GRACE;
            while runtime::mono_now() < deadline {
                if let Ok(Some(_)) = child.try_wait() {
                    return;
                }
                runtime::sleep(Duration::from_millis(10)).await;
            }
            rustix::process::kill_process_group(group, rustix::process::Signal::KILL).ok();
            child.wait().ok();
        })
        .detach();
    }
}

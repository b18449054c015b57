//! Standard output in large writes, and a progress bar on standard error.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use crate::cli::output::{Exit, Failure, complain};
use crate::runtime::{Mono, mono_now};

/// Written when so much is there.
const FULL: usize = 128 << 10;
/// A buffer that one large row made larger is given back.
const KEEP: usize = 1 << 20;

/// Standard output. What is in `buf` is written when it is full, and at the end.
#[derive(Debug, Default)]
pub(super) struct Output {
    pub(super) buf: Vec<u8>,
    failed: Option<io::Error>,
}

impl Output {
    /// Writes if there is enough to write. A failure is kept for [`Self::flush`].
    #[inline]
    pub(super) fn written(&mut self) {
        if self.buf.len() >= FULL {
            self.write();
        }
    }

    #[inline(never)]
    fn write(&mut self) {
        if self.failed.is_none() {
            self.failed = io::stdout().lock().write_all(&self.buf).err();
        }
        self.buf.clear();
        self.buf.shrink_to(KEEP);
    }

    /// Whether a write failed: then there is no sense in going on.
    #[inline]
    pub(super) fn has_failed(&self) -> bool {
        self.failed.is_some()
    }

    /// Writes all. A reader that has gone away ends the command quietly.
    pub(super) fn flush(&mut self) -> Result<(), Failure> {
        self.write();
        let error = self.failed.take().or_else(|| io::stdout().lock().flush().err());
        match error {
            None => Ok(()),
            Some(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Failure::quiet(Exit::Done)),
            Some(error) => Err(Failure::failed(format!("cannot write to standard output: {error}"))),
        }
    }
}

/// How far the reading is, on a terminal that is not also shown the result.
#[derive(Debug)]
pub(super) struct Progress {
    shown: bool,
    enabled: bool,
    /// Bytes of all files, and of those that are read.
    total: u64,
    done: u64,
    next_look: u64,
    next_show: Mono,
    start: Mono,
}

/// Bytes between two looks at the clock.
const LOOK: u64 = 4 << 20;
const SHOW: Duration = Duration::from_millis(200);

impl Progress {
    /// Over files of so many bytes together; `None` if that is not known.
    pub(super) fn new(total: Option<u64>) -> Self {
        let enabled = total.is_some() && io::stderr().is_terminal() && !io::stdout().is_terminal();
        let start = mono_now();
        let total = total.unwrap_or(0);
        // A short file is read before a bar is of use.
        Self { shown: false, enabled, total, done: 0, next_look: LOOK, next_show: start + SHOW, start }
    }

    /// The file at hand is read up to `offset`.
    #[inline]
    pub(super) fn at(&mut self, offset: u64) {
        if self.enabled && self.done + offset >= self.next_look {
            self.look(offset);
        }
    }

    #[inline(never)]
    fn look(&mut self, offset: u64) {
        let read = self.done + offset;
        self.next_look = read + LOOK;
        let now = mono_now();
        if now < self.next_show {
            return;
        }
        self.next_show = now + SHOW;
        let seconds = now.since(self.start).as_secs_f64().max(0.001);
        let part = (read as f64 / self.total.max(1) as f64).min(1.0);
        let filled = (part * 30.0) as usize;
        let bar = format!("{:#<filled$}{:.<empty$}", "", "", empty = 30 - filled);
        let mib = |bytes: u64| bytes >> 20;
        let line = format!(
            "\r[{bar}] {:3.0} %  {} of {} MiB  {:.0} MiB/s\x1b[K",
            part * 100.0,
            mib(read),
            mib(self.total),
            mib(read) as f64 / seconds
        );
        self.shown = true;
        drop(io::stderr().lock().write_all(line.as_bytes()));
    }

    /// The file at hand, of `bytes`, is over.
    pub(super) fn file(&mut self, bytes: u64) {
        self.done += bytes;
    }

    /// Takes the bar away.
    pub(super) fn clear(&mut self) {
        if std::mem::take(&mut self.shown) {
            drop(io::stderr().lock().write_all(b"\r\x1b[K"));
        }
    }
}

/// A line for the user beside the result, once the bar is out of its way.
pub(super) fn note(progress: &mut Progress, line: &str) {
    progress.clear();
    complain(line);
}

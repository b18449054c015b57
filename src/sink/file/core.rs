//! The synchronous core: appends, rotates, syncs. No thread; time is an argument.
//!
//! A write is whole or not there: after a failure the file is cut back to where the write began, on
//! the same handle if only the write failed (a full disk), on a new one if a sync failed, since then nobody
//! knows which of the pages are on disk. What was synced before stays.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{CWD, FlockOperation, RenameFlags, flock, renameat_with};

use super::repair::{Repair, repair};
use crate::codec::json::{self, Format};
use crate::event::Batch;
use crate::runtime::Mono;
use crate::sink::SinkError;

/// Encoded bytes handed to the system at once.
const CHUNK_BYTES: usize = 1 << 20;

/// When written bytes are made durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fsync {
    /// Before a write is acknowledged.
    Always,
    /// At most so long after it.
    Interval(Duration),
    /// When the system likes.
    Never,
}

/// What the core needs to know.
#[derive(Clone, Copy, Debug)]
pub(super) struct Options {
    pub(super) fsync: Fsync,
    /// Rotated before a write when it has so many bytes. 0: never.
    pub(super) max_bytes: u64,
    /// Rotated when its first line is so old. Zero: never.
    pub(super) max_age: Duration,
    /// Rotated files kept. 0: all.
    pub(super) keep_files: u32,
    pub(super) format: Format,
}

/// The open file; a test puts a failing one in its place.
pub(super) trait Disk: Send {
    /// Writes at the end.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Makes all of it durable.
    fn sync(&mut self) -> io::Result<()>;
    /// Cuts off everything from `len` on.
    fn cut(&mut self, len: u64) -> io::Result<()>;
}

impl Disk for File {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }

    fn cut(&mut self, len: u64) -> io::Result<()> {
        self.set_len(len)
    }
}

/// Puts an opened file into service.
pub(super) type Wrap = Box<dyn Fn(File) -> Box<dyn Disk> + Send>;

struct Open {
    disk: Box<dyn Disk>,
    /// Device and inode, to notice that somebody moved the file away.
    id: (u64, u64),
    len: u64,
    born: Mono,
}

/// Appends lines to a file.
pub(super) struct Core {
    path: PathBuf,
    options: Options,
    wrap: Wrap,
    open: Option<Open>,
    /// Where the last good write ended, if the handle was given up after a failed one.
    cut_to: Option<u64>,
    /// When the oldest byte that is not synced was written.
    dirty_since: Option<Mono>,
    /// Number of the next rotated file.
    next_number: u64,
    buffer: Vec<u8>,
    /// Torn lines that were cut off.
    pub(super) torn: u64,
}

impl Core {
    /// Opens or makes the file and mends its end. `wall_us` is the system's time, to tell its age.
    pub(super) fn open(
        path: PathBuf,
        options: Options,
        wrap: Wrap,
        now: Mono,
        wall_us: i64,
    ) -> io::Result<Self> {
        let mut core = Self {
            path,
            options,
            wrap,
            open: None,
            cut_to: None,
            dirty_since: None,
            next_number: 1,
            buffer: Vec::new(),
            torn: 0,
        };
        core.next_number = core.rotated()?.last().map_or(1, |(n, _)| n + 1);
        core.reopen(now, wall_us)?;
        Ok(core)
    }

    /// Appends every row of `batches`, all or nothing.
    pub(super) fn write(&mut self, batches: &[Batch], now: Mono, wall_us: i64) -> Result<(), SinkError> {
        if batches.iter().all(|b| b.rows == 0) {
            return Ok(());
        }
        let retry = |path: &Path, doing: &str, e: &io::Error| SinkError::Retry(failed(path, doing, e));
        self.ready(now, wall_us).map_err(|e| retry(&self.path, "open", &e))?;
        let Some(open) = &mut self.open else {
            return Err(SinkError::Retry(format!("{} is not open", self.path.display())));
        };
        let start = open.len;
        let mut result = append(open, &mut self.buffer, batches, self.options.format);
        if result.is_ok() && self.options.fsync == Fsync::Always {
            result = open.disk.sync().map_err(Failure::Sync);
        }
        let failure = match result {
            Ok(()) => {
                if self.options.fsync != Fsync::Always {
                    self.dirty_since.get_or_insert(now);
                }
                return Ok(());
            }
            Err(failure) => failure,
        };
        let cut = open.disk.cut(start);
        open.len = start;
        if cut.is_err() || matches!(failure, Failure::Sync(_)) {
            self.open = None;
            self.cut_to = Some(start);
        }
        Err(match failure {
            Failure::Reject { batch, error } => {
                SinkError::Reject { batch, row: error.row, reason: error.error.to_string() }
            }
            Failure::Write(e) => retry(&self.path, "write", &e),
            Failure::Sync(e) => retry(&self.path, "sync", &e),
        })
    }

    /// When [`Self::tick`] has something to do.
    pub(super) fn deadline(&self) -> Option<Mono> {
        let sync = match (self.options.fsync, self.dirty_since) {
            (Fsync::Interval(d), Some(since)) => Some(since + d),
            _ => None,
        };
        let old = match &self.open {
            Some(open) if open.len > 0 && !self.options.max_age.is_zero() => {
                Some(open.born + self.options.max_age)
            }
            _ => None,
        };
        sync.into_iter().chain(old).min()
    }

    /// Syncs and rotates what is due. What fails is tried again at the next write.
    pub(super) fn tick(&mut self, now: Mono, wall_us: i64) -> Result<(), SinkError> {
        let due = matches!((self.options.fsync, self.dirty_since), (Fsync::Interval(d), Some(since)) if since + d <= now);
        if due {
            self.sync()?;
        }
        if self.is_due(now) {
            self.rotate(now, wall_us).map_err(|e| SinkError::Retry(failed(&self.path, "rotate", &e)))?;
        }
        Ok(())
    }

    /// Makes durable what is not yet.
    pub(super) fn sync(&mut self) -> Result<(), SinkError> {
        if self.dirty_since.take().is_none() {
            return Ok(());
        }
        let Some(open) = &mut self.open else { return Ok(()) };
        open.disk.sync().map_err(|e| {
            // Lines since the last sync may be lost; they were acknowledged by the user's choice of policy.
            self.open = None;
            SinkError::Retry(failed(&self.path, "sync", &e))
        })
    }

    /// One line about the file.
    pub(super) fn probe(&self) -> String {
        let bytes = self.open.as_ref().map_or(0, |open| open.len);
        format!("{}: writable, {bytes} bytes", self.path.display())
    }

    fn is_due(&self, now: Mono) -> bool {
        let Some(open) = &self.open else { return false };
        let Options { max_bytes, max_age, .. } = self.options;
        open.len > 0
            && ((max_bytes > 0 && open.len >= max_bytes)
                || (!max_age.is_zero() && open.born + max_age <= now))
    }

    /// Opens the file again if it was given up or moved away, and rotates it if that is due.
    fn ready(&mut self, now: Mono, wall_us: i64) -> io::Result<()> {
        if let Some(open) = &mut self.open {
            match std::fs::metadata(&self.path) {
                Ok(there) if (there.dev(), there.ino()) == open.id => open.len = there.len(),
                _ => {
                    log::warn!("{} was moved away: starting a new file", self.path.display());
                    self.open = None;
                    self.cut_to = None;
                }
            }
        }
        if self.open.is_none() {
            self.reopen(now, wall_us)?;
        }
        if self.is_due(now) {
            self.rotate(now, wall_us)?;
        }
        Ok(())
    }

    fn reopen(&mut self, now: Mono, wall_us: i64) -> io::Result<()> {
        let file = File::options().read(true).append(true).create(true).open(&self.path)?;
        flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        if let Some(len) = self.cut_to
            && file.metadata()?.len() > len
        {
            file.set_len(len)?;
        }
        match repair(&file)? {
            Repair::None => {}
            Repair::Cut(bytes) => {
                self.torn += 1;
                log::warn!(
                    "{}: a torn line of {bytes} bytes was cut off; it comes again",
                    self.path.display()
                );
            }
            Repair::Sealed => {
                log::warn!("{}: its last line is not one of dts; a line feed was added", self.path.display());
            }
        }
        self.sync_folder()?;
        self.cut_to = None;
        let meta = file.metadata()?;
        let created_us = meta.created().ok().and_then(|t| t.duration_since(std::time::UNIX_EPOCH).ok());
        let created_us = created_us.and_then(|d| i64::try_from(d.as_micros()).ok());
        // An age by the wall clock once, by the monotonic clock from then on.
        let age_us = created_us.filter(|_| meta.len() > 0).map_or(0, |us| wall_us.saturating_sub(us).max(0));
        let born = now - Duration::from_micros(age_us.unsigned_abs());
        let id = (meta.dev(), meta.ino());
        self.open = Some(Open { disk: (self.wrap)(file), id, len: meta.len(), born });
        Ok(())
    }

    /// Renames the file to its number and starts a new one. A crash between leaves no file, and
    /// the next open makes it.
    fn rotate(&mut self, now: Mono, wall_us: i64) -> io::Result<()> {
        if let Some(open) = &mut self.open
            && self.options.fsync != Fsync::Never
        {
            let synced = open.disk.sync();
            self.dirty_since = None;
            if let Err(error) = synced {
                self.open = None;
                return Err(error);
            }
        }
        loop {
            let target = self.numbered(self.next_number);
            match rename_new(&self.path, &target) {
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => self.next_number += 1,
                other => break other?,
            }
        }
        self.next_number += 1;
        self.open = None;
        self.reopen(now, wall_us)?;
        self.drop_old();
        Ok(())
    }

    fn drop_old(&self) {
        let keep = self.options.keep_files as usize;
        if keep == 0 {
            return;
        }
        let rotated = self.rotated().unwrap_or_default();
        let old = rotated.len().saturating_sub(keep);
        for (_, path) in rotated.into_iter().take(old) {
            if let Err(error) = std::fs::remove_file(&path) {
                log::warn!("{}", failed(&path, "remove", &error));
            }
        }
    }

    /// `events.ndjson` and 7 make `events-00000007.ndjson`.
    fn numbered(&self, number: u64) -> PathBuf {
        let (stem, end) = self.stem_and_end();
        self.path.with_file_name(format!("{stem}-{number:08}{end}"))
    }

    fn stem_and_end(&self) -> (String, String) {
        let stem = self.path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let end = self.path.extension().map_or_else(String::new, |e| format!(".{}", e.to_string_lossy()));
        (stem, end)
    }

    /// Rotated files with their numbers, oldest first.
    fn rotated(&self) -> io::Result<Vec<(u64, PathBuf)>> {
        let (stem, end) = self.stem_and_end();
        let mut found = Vec::new();
        for entry in std::fs::read_dir(self.folder())? {
            let entry = entry?;
            let name = entry.file_name();
            let number =
                name.to_str().and_then(|n| n.strip_prefix(&stem)?.strip_prefix('-')?.strip_suffix(&end));
            let digits = number.filter(|n| n.len() >= 8 && n.bytes().all(|b| b.is_ascii_digit()));
            if let Some(number) = digits.and_then(|n| n.parse().ok()) {
                found.push((number, entry.path()));
            }
        }
        found.sort_unstable();
        Ok(found)
    }

    fn folder(&self) -> &Path {
        self.path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."))
    }

    /// Makes names durable.
    fn sync_folder(&self) -> io::Result<()> {
        if self.options.fsync == Fsync::Never {
            return Ok(());
        }
        File::open(self.folder())?.sync_all()
    }
}

/// What ended a write.
enum Failure {
    Reject { batch: usize, error: json::BatchError },
    Write(io::Error),
    Sync(io::Error),
}

fn append(open: &mut Open, buffer: &mut Vec<u8>, batches: &[Batch], format: Format) -> Result<(), Failure> {
    buffer.clear();
    for (i, batch) in batches.iter().enumerate() {
        json::write_batch(buffer, batch, format).map_err(|error| Failure::Reject { batch: i, error })?;
        if buffer.len() >= CHUNK_BYTES {
            flush(open, buffer)?;
        }
    }
    flush(open, buffer)?;
    buffer.shrink_to(2 * CHUNK_BYTES);
    Ok(())
}

fn flush(open: &mut Open, buffer: &mut Vec<u8>) -> Result<(), Failure> {
    open.disk.append(buffer).map_err(Failure::Write)?;
    open.len += buffer.len() as u64;
    buffer.clear();
    Ok(())
}

/// Renames without ever replacing a file.
fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // File systems without the flag.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {
            if to.try_exists()? {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            std::fs::rename(from, to)
        }
        other => Ok(other?),
    }
}

/// An error in the user's words.
pub(super) fn failed(path: &Path, doing: &str, error: &io::Error) -> String {
    let hint = match error.kind() {
        io::ErrorKind::StorageFull => "; free space: dts goes on by itself",
        io::ErrorKind::WouldBlock => "; another process writes to it: end that one",
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => "; make it writable",
        io::ErrorKind::NotFound => "; make its folder",
        _ => "",
    };
    format!("{doing} {}: {error}{hint}", path.display())
}

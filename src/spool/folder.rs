//! The folder of a spool: its lock, its reserve, the names in it. Everything below SQLite is the
//! VFS's; everything beside it is here, so that a simulation can stand in for both.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::PathBuf;

use rustix::fs::{FallocateFlags, FlockOperation};

use super::error::SpoolError;

/// What the store does to its folder other than through SQLite.
pub trait Folder: std::fmt::Debug {
    /// Makes the folder if it is missing and takes its lock, which is held until `self` is dropped.
    fn lock(&mut self) -> Result<(), SpoolError>;
    /// The name under which SQLite opens a file.
    fn path(&self, name: &str) -> PathBuf;
    /// Makes an empty file that only its owner may read; leaves one that is there as it is.
    fn create(&self, name: &str) -> io::Result<()>;
    /// Bytes of a file; `None` if there is none.
    fn size(&self, name: &str) -> Option<u64>;
    /// Renames a file, durably.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes a file that occupies `bytes` on disk.
    fn allocate(&self, name: &str, bytes: u64) -> io::Result<()>;
    /// Free bytes for an unprivileged user.
    fn free_bytes(&self) -> io::Result<u64>;
}

/// A process that was just forked holds every lock of its parent until it runs its own program, and one that was
/// just killed until the kernel is done with it: a lock is asked for this often before it counts as somebody's.
const LOCK_TRIES: u32 = 50;
const LOCK_PAUSE: rustix::event::Timespec = rustix::event::Timespec { tv_sec: 0, tv_nsec: 10_000_000 };

/// A folder of the file system.
#[derive(Debug)]
pub struct DiskFolder {
    dir: PathBuf,
    lock: Option<File>,
}

impl DiskFolder {
    /// The folder `dir`; nothing is touched yet.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into(), lock: None }
    }

    fn error(&self, what: &'static str, error: impl Into<io::Error>) -> SpoolError {
        SpoolError::Folder { what, path: self.dir.clone(), error: error.into() }
    }
}

impl Folder for DiskFolder {
    fn lock(&mut self) -> Result<(), SpoolError> {
        if self.lock.is_some() {
            return Ok(());
        }
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.dir)
            .map_err(|e| self.error("cannot make the folder", e))?;
        let dir = File::open(&self.dir).map_err(|e| self.error("cannot open the folder", e))?;
        for _ in 0..LOCK_TRIES {
            match rustix::fs::flock(&dir, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {
                    self.lock = Some(dir);
                    return Ok(());
                }
                Err(rustix::io::Errno::WOULDBLOCK) => {
                    rustix::event::poll(&mut [], Some(&LOCK_PAUSE)).ok();
                }
                Err(e) => return Err(self.error("cannot lock the folder", e)),
            }
        }
        Err(SpoolError::Locked { dir: self.dir.clone() })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    fn create(&self, name: &str) -> io::Result<()> {
        OpenOptions::new().create(true).append(true).mode(0o600).open(self.path(name)).map(|_| ())
    }

    fn size(&self, name: &str) -> Option<u64> {
        std::fs::metadata(self.path(name)).ok().map(|m| m.len())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.path(from), self.path(to))?;
        File::open(&self.dir)?.sync_all()
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.path(name))
    }

    fn allocate(&self, name: &str, bytes: u64) -> io::Result<()> {
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(self.path(name))?;
        if file.metadata()?.len() >= bytes {
            return Ok(());
        }
        match rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, bytes) {
            Ok(()) => Ok(()),
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => write_out(file, bytes),
            Err(e) => Err(e.into()),
        }
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let s = rustix::fs::statvfs(&self.dir)?;
        Ok(s.f_bavail.saturating_mul(s.f_frsize))
    }
}

/// For file systems that cannot allocate (vfat): bytes that no file system makes a hole of.
fn write_out(mut file: File, bytes: u64) -> io::Result<()> {
    use std::io::Write;
    let block = [0x5a; 4096];
    let mut left = bytes.saturating_sub(file.metadata()?.len());
    while left > 0 {
        let n = left.min(block.len() as u64);
        file.write_all(block.get(..n as usize).unwrap_or(&block))?;
        left -= n;
    }
    Ok(())
}

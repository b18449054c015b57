//! A file that is read again when it changes.

use std::fs::{File, Metadata};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The file is looked at for changes at most this often.
const LOOK_EVERY_US: i64 = 1_000_000;

/// What was made of a file, and how to see that the file is another now.
#[derive(Debug)]
pub(super) struct Watched<T> {
    path: PathBuf,
    stamp: Stamp,
    looked_us: i64,
    value: T,
    read: fn(&[u8]) -> Result<T, String>,
    max_bytes: u64,
}

/// Inode, length, time of change.
type Stamp = (u64, u64, i64, i64);

impl<T> Watched<T> {
    /// Reads the file. An error of `read` is to be a sentence, or `line: sentence`.
    pub(super) fn open(
        path: &Path,
        max_bytes: u64,
        read: fn(&[u8]) -> Result<T, String>,
    ) -> Result<Self, String> {
        let (value, stamp) = load(path, max_bytes, read)?;
        Ok(Self { path: path.to_owned(), stamp, looked_us: i64::MIN, value, read, max_bytes })
    }

    /// What the file says now. One that changed and cannot be read leaves it as it was, and says so
    /// once.
    pub(super) fn get(&mut self, now_us: i64) -> &T {
        // A clock that was set back looks at once.
        if !(self.looked_us..self.looked_us.saturating_add(LOOK_EVERY_US)).contains(&now_us) {
            self.looked_us = now_us;
            let now = std::fs::metadata(&self.path).ok().map(|m| stamp(&m));
            if let Some(now) = now.filter(|&s| s != self.stamp) {
                self.stamp = now;
                self.reload();
            }
        }
        &self.value
    }

    fn reload(&mut self) {
        match load(&self.path, self.max_bytes, self.read) {
            Ok((value, stamp)) => {
                log::info!("{} changed and was read again", self.path.display());
                (self.value, self.stamp) = (value, stamp);
            }
            Err(why) => log::warn!("{why}; what was read before stays in force"),
        }
    }
}

fn load<T>(path: &Path, max_bytes: u64, read: fn(&[u8]) -> Result<T, String>) -> Result<(T, Stamp), String> {
    let fail = |e: &dyn std::fmt::Display| format!("read {}: {e}", path.display());
    let file = File::open(path).map_err(|e| fail(&e))?;
    let stamp = stamp(&file.metadata().map_err(|e| fail(&e))?);
    if stamp.1 > max_bytes {
        return Err(fail(&format!("larger than {max_bytes} bytes")));
    }
    let mut bytes = Vec::new();
    file.take(max_bytes).read_to_end(&mut bytes).map_err(|e| fail(&e))?;
    let value = read(&bytes).map_err(|why| format!("{}:{why}", path.display()))?;
    Ok((value, stamp))
}

fn stamp(meta: &Metadata) -> Stamp {
    (meta.ino(), meta.len(), meta.mtime(), meta.mtime_nsec())
}

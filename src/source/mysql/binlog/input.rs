//! Where a reader's bytes come from: a file, or a stream whose large events go to disk first.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes that are hashed or copied at a time in the first pass over a large event.
const BLOCK: usize = 256 << 10;

enum From {
    File(File),
    Stream(Box<dyn Read>),
}

/// A file or a stream.
pub(super) struct Input {
    from: From,
    /// What of a stream was put aside and is read before the rest of it: the file, and bytes left.
    aside: Option<(File, u64)>,
}

impl std::fmt::Debug for Input {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let aside = self.aside.as_ref().map(|(_, left)| left);
        f.debug_struct("Input").field("aside", &aside).finish_non_exhaustive()
    }
}

impl Input {
    pub(super) fn file(file: File) -> Self {
        Self { from: From::File(file), aside: None }
    }

    pub(super) fn stream(stream: Box<dyn Read>) -> Self {
        Self { from: From::Stream(stream), aside: None }
    }

    /// As `Read::read`, again after an interruption.
    #[inline]
    pub(super) fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = match (&mut self.aside, &mut self.from) {
                (Some((file, left)), _) if *left > 0 => {
                    let most = buf.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                    let read = file.read(buf.get_mut(..most).unwrap_or_default());
                    if let Ok(n) = read {
                        *left -= n as u64;
                    }
                    read
                }
                (_, From::File(file)) => file.read(buf),
                (_, From::Stream(stream)) => stream.read(buf),
            };
            match read {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                read => return read,
            }
        }
    }

    /// Gives the next `bytes` to `look`, in blocks, and goes back to where they began: a stream's
    /// bytes are put aside in an unlinked file of `dir`. How many there were, if fewer.
    pub(super) fn look_ahead(
        &mut self,
        bytes: u64,
        dir: &Path,
        mut look: impl FnMut(&[u8]),
    ) -> io::Result<u64> {
        let mut block = vec![0; BLOCK];
        let mut aside = match self.from {
            From::File(_) => None,
            From::Stream(_) => Some(unlinked(dir)?),
        };
        let mut left = bytes;
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(BLOCK).min(BLOCK);
            let n = self.read(block.get_mut(..most).unwrap_or_default())?;
            let Some(got) = block.get(..n).filter(|got| !got.is_empty()) else { break };
            look(got);
            if let Some(file) = &mut aside {
                file.write_all(got)?;
            }
            left -= n as u64;
        }
        let got = bytes - left;
        match (&mut self.from, aside) {
            (From::File(file), _) => {
                let back = i64::try_from(got).map_err(io::Error::other)?;
                file.seek(SeekFrom::Current(-back))?;
            }
            (From::Stream(_), Some(mut file)) => {
                file.rewind()?;
                self.aside = Some((file, got));
            }
            (From::Stream(_), None) => {}
        }
        Ok(got)
    }

    /// Goes to `offset`. `false` if it cannot: a stream.
    pub(super) fn seek(&mut self, offset: u64) -> io::Result<bool> {
        match &mut self.from {
            From::File(file) => file.seek(SeekFrom::Start(offset)).map(|_| true),
            From::Stream(_) => Ok(false),
        }
    }
}

/// A file without a name: gone when it is closed.
fn unlinked(dir: &Path) -> io::Result<File> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    loop {
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = dir.join(format!("dts-binlog-{}-{n}", std::process::id()));
        match OpenOptions::new().read(true).write(true).create_new(true).open(&path) {
            Ok(file) => {
                std::fs::remove_file(&path)?;
                return Ok(file);
            }
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => {
                let what = format!("cannot put a large event aside in {}: {e}", dir.display());
                return Err(io::Error::new(e.kind(), what));
            }
        }
    }
}

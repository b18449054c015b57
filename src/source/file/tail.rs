//! One file being followed.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::runtime::Mono;
use crate::source::lines::{LineSplitter, MessageWriter};

/// Bytes of the beginning that tell two files with one inode apart.
const FINGERPRINT: usize = 256;
/// Bytes read at a time.
const SLICE: usize = 32 * 1024;

/// Device and inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct FileId(u64, u64);

impl FileId {
    /// Of a regular file, following links; `None` if there is none.
    pub(super) fn of(path: &Path) -> Option<Self> {
        let meta = std::fs::metadata(path).ok()?;
        meta.is_file().then(|| Self(meta.dev(), meta.ino()))
    }
}

/// How far a file was read, and how its beginning looked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position {
    /// End of the last line taken.
    offset: u64,
    fingerprint: Fingerprint,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Fingerprint {
    len: u16,
    crc: u32,
}

impl Fingerprint {
    fn of(file: &File, len: usize) -> io::Result<Self> {
        let mut head = [0; FINGERPRINT];
        let mut got = 0;
        while got < len {
            let n = file.read_at(&mut head[got..len], got as u64)?;
            if n == 0 {
                break;
            }
            got += n;
        }
        Ok(Self { len: got as u16, crc: crc32c::crc32c(&head[..got]) })
    }

    fn still_holds(self, file: &File) -> io::Result<bool> {
        Ok(Self::of(file, usize::from(self.len))? == self)
    }
}

/// Key and value under which a position is stored with its lines.
fn write_position(id: FileId, p: Position) -> (String, [u8; 14]) {
    let mut value = [0; 14];
    value[..8].copy_from_slice(&p.offset.to_le_bytes());
    value[8..10].copy_from_slice(&p.fingerprint.len.to_le_bytes());
    value[10..].copy_from_slice(&p.fingerprint.crc.to_le_bytes());
    (format!("file/{}/{}", id.0, id.1), value)
}

/// The inverse; `None` for the positions of something else, and for a file that was let go.
pub(super) fn parse_position(key: &str, value: &[u8]) -> Option<(FileId, Position)> {
    let (dev, ino) = key.strip_prefix("file/")?.split_once('/')?;
    let v: &[u8; 14] = value.try_into().ok()?;
    let offset = u64::from_le_bytes([v[0], v[1], v[2], v[3], v[4], v[5], v[6], v[7]]);
    let fingerprint = Fingerprint {
        len: u16::from_le_bytes([v[8], v[9]]),
        crc: u32::from_le_bytes([v[10], v[11], v[12], v[13]]),
    };
    Some((FileId(dev.parse().ok()?, ino.parse().ok()?), Position { offset, fingerprint }))
}

/// An open file and how far it was read.
pub(super) struct Tail {
    path: PathBuf,
    id: FileId,
    file: File,
    topic: String,
    splitter: LineSplitter,
    /// Next byte to read.
    read: u64,
    /// End of the last line taken.
    taken: u64,
    fingerprint: Fingerprint,
    /// Whether a name that is looked for still leads to it.
    pub(super) named: bool,
    /// When it last had a new byte.
    pub(super) last_growth: Mono,
}

impl Tail {
    /// Opens `path` at the stored position if its beginning is still the same; else at its end
    /// (`skip`) or its beginning.
    pub(super) fn open(
        path: &Path,
        id: FileId,
        topic: String,
        known: Option<Position>,
        skip: bool,
        max_line: usize,
    ) -> io::Result<Self> {
        let file = File::open(path)?;
        let meta = file.metadata()?;
        if (meta.dev(), meta.ino()) != (id.0, id.1) {
            // Rotated between looking and opening: found again at the next look.
            return Err(io::ErrorKind::NotFound.into());
        }
        let mut start = if skip { meta.len() } else { 0 };
        if let Some(position) = known
            && position.offset <= meta.len()
            && position.fingerprint.still_holds(&file)?
        {
            start = position.offset;
        }
        let fingerprint = Fingerprint::of(&file, FINGERPRINT)?;
        Ok(Self {
            path: path.to_owned(),
            id,
            file,
            topic,
            splitter: LineSplitter::new(max_line),
            read: start,
            taken: start,
            fingerprint,
            named: true,
            last_growth: Mono(u64::MAX),
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn offset(&self) -> u64 {
        self.taken
    }

    /// Lines that were too long since the last call.
    pub(super) fn take_too_long(&mut self) -> u64 {
        std::mem::take(&mut self.splitter.too_long)
    }

    /// Reads one slice and pushes its lines. `false` at the end of the file.
    pub(super) fn read_slice(&mut self, writer: &mut MessageWriter, now: Mono) -> io::Result<bool> {
        if self.last_growth == Mono(u64::MAX) {
            self.last_growth = now;
        }
        if self.file.metadata()?.len() < self.read || !self.fingerprint.still_holds(&self.file)? {
            log::info!("{} was truncated or overwritten: read from its beginning", self.path.display());
            self.splitter.reset();
            (self.read, self.taken) = (0, 0);
            self.fingerprint = Fingerprint::default();
        }
        let mut slice = [0; SLICE];
        let n = self.file.read_at(&mut slice, self.read)?;
        if n == 0 {
            return Ok(false);
        }
        if usize::from(self.fingerprint.len) < FINGERPRINT {
            self.fingerprint = Fingerprint::of(&self.file, FINGERPRINT)?;
        }
        self.last_growth = now;
        let before = self.taken;
        let (read, topic) = (self.read, &self.topic);
        let mut taken = self.taken;
        self.splitter.feed(&slice[..n], |line, end| {
            writer.push(topic, line, None);
            taken = read + end as u64;
        });
        self.read += n as u64;
        self.taken = taken;
        if self.taken != before {
            let position = Position { offset: self.taken, fingerprint: self.fingerprint };
            let (key, value) = write_position(self.id, position);
            writer.position(&key, &value);
        }
        Ok(true)
    }

    /// Rotated away: its last line counts even without an end, and its position is let go.
    pub(super) fn finish(&mut self, writer: &mut MessageWriter) {
        if let Some(last) = self.splitter.finish() {
            writer.push(&self.topic, &last, None);
        }
        let (key, _) = write_position(self.id, Position { offset: 0, fingerprint: self.fingerprint });
        writer.position(&key, &[]);
    }
}

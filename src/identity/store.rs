//! The two copies on disk.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::record::{Memory, RECORD_BYTES, Record, Unreadable, decode, encode};
use crate::planted::{self, Bug};

const COPIES: [&str; 2] = ["identity.a", "identity.b"];

/// What [`Identity::open`] found. Anything but `Found` and `Created` should be told to a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opened {
    /// Both copies, in order.
    Found,
    /// Nothing: the first start in this folder.
    Created,
    /// One copy was missing or damaged and was written again from the other.
    Repaired {
        /// The file that was written again.
        copy: PathBuf,
    },
    /// Both copies were damaged: this is a new instance. The damaged files were kept.
    Replaced {
        /// Where they are now.
        kept: Vec<PathBuf>,
    },
}

/// Why the identity cannot be read or kept. Fatal at the start; later the caller tries again when
/// the disk does.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The file system refuses.
    #[error("{step} {}: {error}. dts needs a writable state folder", path.display())]
    Io {
        /// What was tried, as a verb.
        step: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// Written by a newer dts. Nothing was changed.
    #[error("{} was written by a newer dts (version {version}): start that one", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: u8,
    },
    /// All 2³² epoch numbers are used up.
    #[error("no epoch numbers are left: give this device a new name")]
    Exhausted,
}

/// This installation. One process at a time may have it open (the buffer's lock sees to it).
#[derive(Debug)]
pub struct Identity {
    shelf: Box<dyn Shelf>,
    record: Record,
    generation: u64,
    opened: Opened,
}

/// Where the copies stand: a folder of the file system, or of a simulation's disk.
pub trait Shelf: std::fmt::Debug + Send {
    /// The first `limit` bytes of a file; `None` if there is none.
    fn read(&self, name: &str, limit: usize) -> io::Result<Option<Vec<u8>>>;
    /// Overwrites a file in place, or makes it; on disk when it returns.
    fn write(&self, name: &str, raw: &[u8]) -> io::Result<()>;
    /// Renames a file.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// A file's name, for people.
    fn path(&self, name: &str) -> PathBuf;
}

/// A folder of the file system.
#[derive(Debug)]
struct Dir(PathBuf);

impl Shelf for Dir {
    fn read(&self, name: &str, limit: usize) -> io::Result<Option<Vec<u8>>> {
        let mut raw = Vec::with_capacity(limit);
        match File::open(self.path(name)).and_then(|f| f.take(limit as u64).read_to_end(&mut raw)) {
            Ok(_) => Ok(Some(raw)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    fn write(&self, name: &str, raw: &[u8]) -> io::Result<()> {
        let path = self.path(name);
        let is_new = !path.exists();
        let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path)?;
        file.write_all_at(raw, 0)?;
        file.set_len(raw.len() as u64)?;
        file.sync_all()?;
        if is_new { File::open(&self.0)?.sync_all() } else { Ok(()) }
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.path(from), self.path(to))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Identity {
    /// Reads the identity in `dir`, which must exist, or makes one. Mends what can be mended.
    pub fn open(dir: &Path, rng: &mut fastrand::Rng) -> Result<Self, IdentityError> {
        Self::open_on(Box::new(Dir(dir.to_owned())), rng)
    }

    /// As [`Self::open`], on another shelf than the file system's.
    pub fn open_on(shelf: Box<dyn Shelf>, rng: &mut fastrand::Rng) -> Result<Self, IdentityError> {
        let copies = [read(&*shelf, COPIES[0])?, read(&*shelf, COPIES[1])?];
        let newest = copies.iter().filter_map(Copy::good).max_by_key(|(_, generation)| *generation).cloned();
        let Some((record, generation)) = newest else { return Self::make(shelf, &copies, rng) };
        let mut this = Self { shelf, record, generation, opened: Opened::Found };
        for (copy, name) in copies.iter().zip(COPIES) {
            if copy.good() == Some(&(this.record.clone(), generation)) {
                continue;
            }
            this.write(name, &encode(&this.record, generation))?;
            // Older by one is how a cut between the two writes leaves it: nothing was lost.
            if copy.good().is_none() {
                this.opened = Opened::Repaired { copy: this.shelf.path(name) };
            }
        }
        Ok(this)
    }

    fn make(
        shelf: Box<dyn Shelf>,
        copies: &[Copy; 2],
        rng: &mut fastrand::Rng,
    ) -> Result<Self, IdentityError> {
        let mut kept = Vec::new();
        for (copy, name) in copies.iter().zip(COPIES) {
            if matches!(copy, Copy::Damaged) {
                let to = format!("{name}.bad-{:08x}", rng.u32(..));
                shelf.rename(name, &to).map_err(|error| IdentityError::Io {
                    step: "set aside",
                    path: shelf.path(name),
                    error,
                })?;
                kept.push(shelf.path(&to));
            }
        }
        let record = Record { instance: rng.u64(1..), number: 0, memory: Memory::default() };
        let opened = if kept.is_empty() { Opened::Created } else { Opened::Replaced { kept } };
        let mut this = Self { shelf, record: record.clone(), generation: 0, opened };
        this.keep(record)?;
        Ok(this)
    }

    /// What `open` found.
    pub fn opened(&self) -> &Opened {
        &self.opened
    }

    /// The installation's random id.
    pub fn instance(&self) -> u64 {
        self.record.instance
    }

    /// Number of the last epoch that was given out; 0 if none.
    pub fn epoch_number(&self) -> u32 {
        self.record.number
    }

    /// Gives out a new epoch: number in the upper half, one above the last and above `at_least` (the
    /// greatest that the centre knows, 0 if it was not asked); randomness in the lower half. It is on
    /// disk in both copies before this returns. After an error nothing was given out.
    pub fn next_epoch(&mut self, at_least: u32, rng: &mut fastrand::Rng) -> Result<u64, IdentityError> {
        if planted::on(Bug::ReuseEpoch) && self.record.number > 0 {
            return Ok(u64::from(self.record.number) << 32 | 1);
        }
        let number = self.record.number.max(at_least).checked_add(1).ok_or(IdentityError::Exhausted)?;
        self.keep(Record { number, ..self.record.clone() })?;
        Ok(u64::from(number) << 32 | u64::from(rng.u32(..)))
    }

    /// What was last remembered.
    pub fn memory(&self) -> &Memory {
        &self.record.memory
    }

    /// Remembers it; writes only if it differs. `true` if it was written. Call it seldom (flash): when
    /// a back-off grows or ends, once a day for the floor, at a stop.
    pub fn remember(&mut self, memory: Memory) -> Result<bool, IdentityError> {
        if memory == self.record.memory {
            return Ok(false);
        }
        self.keep(Record { memory, ..self.record.clone() })?;
        Ok(true)
    }

    fn keep(&mut self, record: Record) -> Result<(), IdentityError> {
        let raw = encode(&record, self.generation + 1);
        // One after the other: a cut leaves at least one of them whole.
        for name in COPIES {
            self.write(name, &raw)?;
        }
        self.generation += 1;
        self.record = record;
        Ok(())
    }

    fn write(&self, name: &str, raw: &[u8; RECORD_BYTES]) -> Result<(), IdentityError> {
        let failed = |error| IdentityError::Io { step: "write", path: self.shelf.path(name), error };
        self.shelf.write(name, raw).map_err(failed)
    }
}

/// What was found of a copy.
enum Copy {
    Good((Record, u64)),
    Missing,
    Damaged,
}

impl Copy {
    fn good(&self) -> Option<&(Record, u64)> {
        match self {
            Self::Good(found) => Some(found),
            Self::Missing | Self::Damaged => None,
        }
    }
}

fn read(shelf: &dyn Shelf, name: &str) -> Result<Copy, IdentityError> {
    let path = shelf.path(name);
    let raw = match shelf.read(name, RECORD_BYTES + 1) {
        Ok(Some(raw)) => raw,
        Ok(None) => return Ok(Copy::Missing),
        // A bad sector is damage; a wrong owner is not.
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()) => {
            log::warn!("{}: {error}", path.display());
            return Ok(Copy::Damaged);
        }
        Err(error) => return Err(IdentityError::Io { step: "read", path, error }),
    };
    match decode(&raw) {
        Ok(found) => Ok(Copy::Good(found)),
        Err(Unreadable::Damaged) => Ok(Copy::Damaged),
        Err(Unreadable::Newer(version)) => Err(IdentityError::Newer { path, version }),
    }
}

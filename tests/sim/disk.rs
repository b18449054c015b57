//! The model of a disk: what was written and not synced, and everything that can go wrong with it.
//!
//! A file has two contents: what reads see, and what a power cut leaves. `sync` makes them equal. At a power cut each
//! write since then is kept, torn or lost by itself; names (create, rename, remove) are durable at once. A failed `sync`
//! may leave pages that read right and are never written. A disk that lies says `sync` is done and does nothing.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::PathBuf;
use std::rc::Rc;

use crate::identity::Shelf;
use crate::spool::{Folder, SpoolError};

/// Writes are torn at these bounds.
const SECTOR: usize = 512;
const PAGE: usize = 4096;

thread_local! {
    static DISKS: RefCell<HashMap<u32, Rc<RefCell<Disk>>>> = RefCell::default();
}

/// Runs `f` on a disk of this thread's simulation; `None` if there is no such disk.
pub(super) fn with<T>(id: u32, f: impl FnOnce(&mut Disk) -> T) -> Option<T> {
    let disk = DISKS.with_borrow(|disks| disks.get(&id).cloned())?;
    let mut disk = disk.borrow_mut();
    Some(f(&mut disk))
}

/// Forgets all disks of this thread.
pub(super) fn clear() {
    DISKS.with_borrow_mut(HashMap::clear);
}

/// Why an operation failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// No room.
    Full,
    /// The device says no.
    Io,
    /// No such file.
    Missing,
}

impl From<Trouble> for io::Error {
    fn from(trouble: Trouble) -> Self {
        Self::from_raw_os_error(match trouble {
            Trouble::Full => libc::ENOSPC,
            Trouble::Io => libc::EIO,
            Trouble::Missing => libc::ENOENT,
        })
    }
}

#[derive(Clone, Debug)]
enum Change {
    Write(usize, Vec<u8>),
    Cut(usize),
}

impl Change {
    fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Self::Write(at, data) => {
                if content.len() < at + data.len() {
                    content.resize(at + data.len(), 0);
                }
                content[*at..at + data.len()].copy_from_slice(data);
            }
            Self::Cut(len) => content.truncate(*len),
        }
    }
}

#[derive(Clone, Debug, Default)]
struct File {
    now: Vec<u8>,
    synced: Vec<u8>,
    unsynced: Vec<Change>,
}

/// All files of a disk, to be put back later: a backup, or the image that a clone starts from.
#[derive(Clone, Debug, Default)]
pub(super) struct Image(BTreeMap<String, File>);

/// What became of the disk, for the oracle and the coverage table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Met {
    pub(super) syncs: u64,
    pub(super) torn: u64,
    pub(super) lost: u64,
    pub(super) lies: u64,
    pub(super) read_errors: u64,
    pub(super) write_errors: u64,
    pub(super) sync_errors: u64,
    pub(super) full: u64,
}

/// One disk.
#[derive(Debug)]
pub(super) struct Disk {
    files: BTreeMap<String, File>,
    rng: fastrand::Rng,
    /// Bytes that fit.
    pub(super) capacity: u64,
    /// Operations that change something until the machine dies.
    pub(super) dies_in: Option<u32>,
    /// The machine, or the process, is dead: nothing works and nothing changes.
    pub(super) dead: bool,
    pub(super) fail_reads: u32,
    pub(super) fail_writes: u32,
    pub(super) fail_syncs: u32,
    /// Syncs that succeed before `fail_syncs` counts.
    pub(super) spare_syncs: u32,
    /// `sync` does nothing and says that it did.
    pub(super) lies: bool,
    /// Something that `sync` was said of is not on the disk.
    pub(super) lied: bool,
    /// How long one `sync` takes.
    pub(super) sync_us: u64,
    /// What the operations since the last look cost.
    pub(super) busy_us: u64,
    pub(super) met: Met,
}

impl Disk {
    pub(super) fn make(id: u32, seed: u64) {
        let disk = Self {
            files: BTreeMap::new(),
            rng: fastrand::Rng::with_seed(seed),
            capacity: u64::MAX,
            dies_in: None,
            dead: false,
            fail_reads: 0,
            fail_writes: 0,
            fail_syncs: 0,
            spare_syncs: 0,
            lies: false,
            lied: false,
            sync_us: 200,
            busy_us: 0,
            met: Met::default(),
        };
        DISKS.with_borrow_mut(|disks| disks.insert(id, Rc::new(RefCell::new(disk))));
    }

    /// Counts an operation that changes something; an error if it is the last, or beyond.
    fn step(&mut self) -> Result<(), Trouble> {
        match &mut self.dies_in {
            Some(0) => self.dead = true,
            Some(n) => *n -= 1,
            None => {}
        }
        if self.dead { Err(Trouble::Io) } else { Ok(()) }
    }

    pub(super) fn used(&self) -> u64 {
        self.files.values().map(|f| f.now.len() as u64).sum()
    }

    pub(super) fn exists(&self, name: &str) -> bool {
        self.files.contains_key(name)
    }

    pub(super) fn size(&self, name: &str) -> Option<u64> {
        self.files.get(name).map(|f| f.now.len() as u64)
    }

    pub(super) fn create(&mut self, name: &str) -> Result<(), Trouble> {
        if self.dead {
            return Err(Trouble::Io);
        }
        self.files.entry(name.to_owned()).or_default();
        Ok(())
    }

    /// Reads what is there of `buf`; the number of bytes read.
    pub(super) fn read(&mut self, name: &str, at: usize, buf: &mut [u8]) -> Result<usize, Trouble> {
        if self.dead {
            return Err(Trouble::Io);
        }
        if self.fail_reads > 0 && name.starts_with("buffer.db") {
            self.fail_reads -= 1;
            self.met.read_errors += 1;
            return Err(Trouble::Io);
        }
        let file = self.files.get(name).ok_or(Trouble::Missing)?;
        let there = file.now.get(at..).unwrap_or_default();
        let n = there.len().min(buf.len());
        buf[..n].copy_from_slice(&there[..n]);
        Ok(n)
    }

    pub(super) fn write(&mut self, name: &str, at: usize, data: &[u8]) -> Result<(), Trouble> {
        let dies = self.step();
        if dies.is_err() {
            // What the kernel took of the last write before the machine died.
            let part = if self.dies_in.take().is_some() { self.rng.usize(0..=data.len()) } else { 0 };
            if let Some(file) = self.files.get_mut(name).filter(|_| part > 0) {
                let change = Change::Write(at, data[..part].to_vec());
                change.apply(&mut file.now);
                file.unsynced.push(change);
            }
            return dies;
        }
        if self.fail_writes > 0 {
            self.fail_writes -= 1;
            self.met.write_errors += 1;
            return Err(Trouble::Io);
        }
        let size = self.size(name).ok_or(Trouble::Missing)?;
        let grows = ((at + data.len()) as u64).saturating_sub(size);
        if grows > 0 && self.used() + grows > self.capacity {
            self.met.full += 1;
            return Err(Trouble::Full);
        }
        self.busy_us += 5;
        if let Some(file) = self.files.get_mut(name) {
            let change = Change::Write(at, data.to_vec());
            change.apply(&mut file.now);
            file.unsynced.push(change);
        }
        Ok(())
    }

    pub(super) fn truncate(&mut self, name: &str, len: usize) -> Result<(), Trouble> {
        self.step()?;
        let file = self.files.get_mut(name).ok_or(Trouble::Missing)?;
        file.now.truncate(len);
        file.unsynced.push(Change::Cut(len));
        Ok(())
    }

    pub(super) fn sync(&mut self, name: &str) -> Result<(), Trouble> {
        self.step()?;
        self.busy_us += self.sync_us;
        self.met.syncs += 1;
        let forgets = self.rng.bool();
        let file = self.files.get_mut(name).ok_or(Trouble::Missing)?;
        let spared = self.spare_syncs > 0;
        self.spare_syncs = self.spare_syncs.saturating_sub(1);
        if self.fail_syncs > 0 && !spared {
            self.fail_syncs -= 1;
            self.met.sync_errors += 1;
            if forgets {
                // The kernel takes the pages for clean: they read right and are never written.
                file.unsynced.clear();
            }
            return Err(Trouble::Io);
        }
        if self.lies {
            self.lied |= !file.unsynced.is_empty();
            self.met.lies += 1;
            return Ok(());
        }
        for change in file.unsynced.drain(..) {
            change.apply(&mut file.synced);
        }
        Ok(())
    }

    pub(super) fn rename(&mut self, from: &str, to: &str) -> Result<(), Trouble> {
        self.step()?;
        let file = self.files.remove(from).ok_or(Trouble::Missing)?;
        self.files.insert(to.to_owned(), file);
        Ok(())
    }

    pub(super) fn remove(&mut self, name: &str) -> Result<(), Trouble> {
        self.step()?;
        self.files.remove(name).map(|_| ()).ok_or(Trouble::Missing)
    }

    /// The power is cut. True if something is gone that `sync` was said of.
    pub(super) fn cut_power(&mut self) -> bool {
        let mood = self.rng.u8(0..4);
        for file in self.files.values_mut() {
            let mut content = std::mem::take(&mut file.synced);
            let changes = std::mem::take(&mut file.unsynced);
            let kept = match mood {
                0 => 0,
                1 => self.rng.usize(0..=changes.len()),
                _ => changes.len(),
            };
            self.met.lost += (changes.len() - kept) as u64;
            for change in &changes[..kept] {
                match change {
                    // In any order: each by itself.
                    Change::Write(..) if mood == 2 && self.rng.bool() => self.met.lost += 1,
                    Change::Write(at, data) if mood >= 2 && self.rng.u8(0..4) == 0 => {
                        self.met.torn += 1;
                        let sectors = self.rng.usize(0..=data.len() / SECTOR);
                        let part = data[..(sectors * SECTOR).min(data.len())].to_vec();
                        Change::Write(*at, part).apply(&mut content);
                    }
                    change => change.apply(&mut content),
                }
            }
            file.now.clone_from(&content);
            file.synced = content;
        }
        let lied = std::mem::take(&mut self.lied);
        self.revive();
        lied
    }

    /// The process was killed: the kernel still has all that it wrote.
    pub(super) fn revive(&mut self) {
        (self.dead, self.dies_in) = (false, None);
    }

    /// Flips bits in `pages` pages of the buffer. The names of the files that were hit.
    pub(super) fn rot(&mut self, pages: u32) -> Vec<String> {
        let mut hit = Vec::new();
        let names: Vec<String> = self
            .files
            .iter()
            .filter(|(n, f)| n.starts_with("buffer.db") && !n.contains("corrupt") && f.now.len() >= PAGE)
            .map(|(n, _)| n.clone())
            .collect();
        for _ in 0..pages {
            if names.is_empty() {
                break;
            }
            let name = &names[self.rng.usize(0..names.len())];
            if let Some(file) = self.files.get_mut(name) {
                let at = self.rng.usize(0..file.now.len());
                let bit = 1 << self.rng.u8(0..8);
                file.now[at] ^= bit;
                if let Some(byte) = file.synced.get_mut(at) {
                    *byte ^= bit;
                }
                hit.push(name.clone());
            }
        }
        hit
    }

    /// Flips one bit.
    pub(super) fn flip(&mut self, name: &str, at: usize) {
        if let Some(file) = self.files.get_mut(name) {
            file.now[at] ^= 4;
            file.synced[at] ^= 4;
        }
    }

    /// The disk as a power cut at this moment could leave it: all that was synced.
    pub(super) fn image(&self) -> Image {
        let durable = |f: &File| File { now: f.now.clone(), synced: f.now.clone(), unsynced: Vec::new() };
        Image(self.files.iter().map(|(name, f)| (name.clone(), durable(f))).collect())
    }

    /// Puts an image back.
    pub(super) fn restore(&mut self, image: &Image) {
        self.files.clone_from(&image.0);
        self.lied = false;
        self.revive();
    }

    /// No fault is left.
    pub(super) fn heal(&mut self) {
        (self.fail_reads, self.fail_writes, self.fail_syncs) = (0, 0, 0);
        (self.capacity, self.lies, self.sync_us, self.dies_in) = (u64::MAX, false, 200, None);
        // What was lied about is written now.
        for file in self.files.values_mut() {
            if self.lied {
                file.synced.clone_from(&file.now);
                file.unsynced.clear();
            }
        }
        self.lied = false;
    }
}

/// The name under which SQLite opens a file of a disk.
pub(super) fn path(id: u32, name: &str) -> PathBuf {
    PathBuf::from(format!("/sim/{id}/{name}"))
}

fn gone<T>(_: T) -> io::Error {
    io::Error::from_raw_os_error(libc::EIO)
}

fn on<T>(id: u32, f: impl FnOnce(&mut Disk) -> Result<T, Trouble>) -> io::Result<T> {
    with(id, f).ok_or_else(|| gone(())).and_then(|result| result.map_err(io::Error::from))
}

/// The spool's folder on a disk.
#[derive(Debug)]
pub(super) struct SimFolder(pub(super) u32);

impl Folder for SimFolder {
    fn lock(&mut self) -> Result<(), SpoolError> {
        Ok(())
    }

    fn path(&self, name: &str) -> PathBuf {
        path(self.0, name)
    }

    fn create(&self, name: &str) -> io::Result<()> {
        on(self.0, |d| d.create(name))
    }

    fn size(&self, name: &str) -> Option<u64> {
        with(self.0, |d| d.size(name))?
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        on(self.0, |d| d.rename(from, to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        on(self.0, |d| d.remove(name))
    }

    fn allocate(&self, name: &str, bytes: u64) -> io::Result<()> {
        on(self.0, |d| {
            d.step()?;
            let grows = bytes.saturating_sub(d.size(name).unwrap_or(0));
            if d.used() + grows > d.capacity {
                return Err(Trouble::Full);
            }
            let content = vec![0; bytes as usize];
            d.files.insert(
                name.to_owned(),
                File { now: content.clone(), synced: content, unsynced: Vec::new() },
            );
            Ok(())
        })
    }

    fn free_bytes(&self) -> io::Result<u64> {
        on(self.0, |d| Ok(d.capacity.saturating_sub(d.used())))
    }
}

/// The identity's files on a disk.
#[derive(Debug)]
pub(super) struct SimShelf(pub(super) u32);

impl Shelf for SimShelf {
    fn read(&self, name: &str, limit: usize) -> io::Result<Option<Vec<u8>>> {
        on(self.0, |d| {
            if !d.exists(name) {
                return if d.dead { Err(Trouble::Io) } else { Ok(None) };
            }
            let mut raw = vec![0; limit];
            let n = d.read(name, 0, &mut raw)?;
            raw.truncate(n);
            Ok(Some(raw))
        })
    }

    fn write(&self, name: &str, raw: &[u8]) -> io::Result<()> {
        on(self.0, |d| {
            d.create(name)?;
            d.write(name, 0, raw)?;
            d.sync(name)
        })
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        on(self.0, |d| d.rename(from, to))
    }

    fn path(&self, name: &str) -> PathBuf {
        path(self.0, name)
    }
}

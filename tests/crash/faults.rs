//! A disk and a clock that can fail, for one process: `shim.c`, preloaded.
//!
//! The control page says what fails next and what failed. The journal holds every change of a file since the process
//! started, with the bytes before and after it, and every fsync; [`Faults::power_cut`] makes of it what a disk would
//! have kept: all that was synced, and of the rest anything, the last of it torn. A write whose fsync failed is not on
//! disk although the page cache has it, and a later fsync does not bring it back (the kernel marks such pages clean).

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::harness::*;

/// Builds the shim once; why it cannot be built, where there is no C compiler.
fn shim() -> Result<&'static Path, &'static str> {
    static SHIM: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let built = SHIM.get_or_init(|| {
        let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("faults-{}.so", std::process::id()));
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/crash/shim.c");
        let mut cc = Command::new(std::env::var("CC").unwrap_or_else(|_| "cc".to_owned()));
        let made = cc.args(["-shared", "-fPIC", "-O2", "-o"]).arg(&out).arg(source).arg("-ldl").output();
        match made {
            Ok(made) if made.status.success() => Ok(out),
            Ok(made) => Err(String::from_utf8_lossy(&made.stderr).into_owned()),
            Err(e) => Err(format!("no C compiler: {e}")),
        }
    });
    built.as_deref().map_err(String::as_str)
}

/// Places in the control page.
#[derive(Clone, Copy)]
enum Field {
    ClockUs = 0,
    ReadOnly = 8,
    WriteIn = 12,
    WriteTimes = 16,
    SyncIn = 20,
    SyncTimes = 24,
    Failed = 28,
    Syncs = 36,
}

/// The faults of one process, over all its lives.
#[derive(Debug)]
pub(super) struct Faults {
    control: File,
    journal: PathBuf,
    root: PathBuf,
}

const RECORD: usize = 40;
const MAGIC: u32 = 0x6474_5346;
const WRITE: u32 = 1;
const TRUNCATE: u32 = 2;
const SYNC: u32 = 3;
const SYNC_FAILED: u32 = 4;
const UNLINK: u32 = 5;

/// One change of a file.
#[derive(Debug)]
struct Change {
    truncates: bool,
    offset: u64,
    old_size: u64,
    old: Vec<u8>,
    new: Vec<u8>,
}

/// What became of the changes of a file.
#[derive(Debug, Default)]
struct History {
    /// All of them, to be undone.
    all: Vec<Change>,
    /// Indexes of those that are synced.
    durable: Vec<usize>,
    pending: Vec<usize>,
}

impl Faults {
    /// For `node`, whose files are under `root`.
    pub(super) fn of(node: &mut Node, root: &Path) -> Result<Self, &'static str> {
        let shim = shim()?;
        let name = node.process.name.clone();
        let (page, journal) =
            (root.join(format!("{name}.control.faults")), root.join(format!("{name}.journal.faults")));
        std::fs::write(&page, [0; 4096]).unwrap();
        std::fs::write(&journal, []).unwrap();
        node.process.env("LD_PRELOAD", shim.to_str().unwrap());
        node.process.env("DTS_FAULT_DIR", root.to_str().unwrap());
        node.process.env("DTS_FAULT_CONTROL", page.to_str().unwrap());
        node.process.env("DTS_FAULT_JOURNAL", journal.to_str().unwrap());
        let control = File::options().read(true).write(true).open(page).unwrap();
        Ok(Self { control, journal, root: root.to_owned() })
    }

    fn set(&self, field: Field, value: u32) {
        self.control.write_all_at(&value.to_le_bytes(), field as u64).unwrap();
    }

    fn get(&self, field: Field) -> u32 {
        let mut bytes = [0; 4];
        self.control.read_exact_at(&mut bytes, field as u64).unwrap();
        u32::from_le_bytes(bytes)
    }

    /// The wall clock of the process is so far off from now on.
    pub(super) fn clock(&self, seconds: i64) {
        self.control.write_all_at(&(seconds * 1_000_000).to_le_bytes(), Field::ClockUs as u64).unwrap();
    }

    /// Every change of a file fails with EROFS, or does not any more.
    pub(super) fn read_only(&self, yes: bool) {
        self.set(Field::ReadOnly, u32::from(yes));
    }

    /// The write number `n` from now and the next ones, `times` in all, fail with EIO.
    pub(super) fn fail_writes(&self, n: u32, times: u32) {
        self.set(Field::WriteTimes, times);
        self.set(Field::WriteIn, n);
    }

    /// The fsync number `n` from now and the next ones, `times` in all, fail with EIO.
    pub(super) fn fail_syncs(&self, n: u32, times: u32) {
        self.set(Field::SyncTimes, times);
        self.set(Field::SyncIn, n);
    }

    /// How often something failed on purpose.
    pub(super) fn failed(&self) -> u32 {
        self.get(Field::Failed)
    }

    pub(super) fn syncs(&self) -> u32 {
        self.get(Field::Syncs)
    }

    /// The process was killed: its files become what a power cut at that moment would have left. Returns how many
    /// changes were not synced, and how many of them are lost.
    pub(super) fn power_cut(&self, rng: &mut fastrand::Rng) -> (usize, usize) {
        let histories = read_journal(&std::fs::read(&self.journal).unwrap());
        std::fs::write(&self.journal, []).unwrap();
        let mut files = BTreeMap::new();
        find(&self.root, &mut files);
        let (mut pending, mut lost) = (0, 0);
        for (inode, history) in histories {
            // A file that is gone has nothing to lose.
            let Some(path) = files.get(&inode) else { continue };
            pending += history.pending.len();
            lost += rewrite(path, &history, rng);
        }
        (pending, lost)
    }

    /// The process was killed and nothing is lost.
    pub(super) fn forget(&self) {
        std::fs::write(&self.journal, []).unwrap();
    }
}

fn find(dir: &Path, files: &mut BTreeMap<u64, PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        let meta = entry.metadata().unwrap();
        if meta.is_dir() {
            find(&entry.path(), files);
        } else if meta.is_file() {
            files.insert(meta.ino(), entry.path());
        }
    }
}

fn read_journal(mut bytes: &[u8]) -> BTreeMap<u64, History> {
    let mut all: BTreeMap<u64, History> = BTreeMap::new();
    // A record that was being written when the process was killed belongs to a change that did not happen.
    while let Some((head, rest)) = bytes.split_at_checked(RECORD) {
        let u32_at = |at: usize| u32::from_le_bytes(head[at..at + 4].try_into().unwrap());
        let u64_at = |at: usize| u64::from_le_bytes(head[at..at + 8].try_into().unwrap());
        assert_eq!(u32_at(0), MAGIC, "the journal is damaged");
        let (kind, inode) = (u32_at(4), u64_at(8));
        let (old_len, new_len) = (u32_at(32) as usize, u32_at(36) as usize);
        let Some((old, rest)) = rest.split_at_checked(old_len) else { break };
        let Some((new, rest)) = rest.split_at_checked(new_len) else { break };
        bytes = rest;
        let history = all.entry(inode).or_default();
        match kind {
            WRITE | TRUNCATE => {
                history.pending.push(history.all.len());
                history.all.push(Change {
                    truncates: kind == TRUNCATE,
                    offset: u64_at(16),
                    old_size: u64_at(24),
                    old: old.to_vec(),
                    new: new.to_vec(),
                });
            }
            SYNC => history.durable.append(&mut history.pending),
            SYNC_FAILED => history.pending.clear(),
            UNLINK => *history = History::default(),
            other => panic!("a record of kind {other}"),
        }
    }
    all
}

fn put(image: &mut Vec<u8>, offset: u64, bytes: &[u8]) {
    let (at, end) = (offset as usize, offset as usize + bytes.len());
    if image.len() < end {
        image.resize(end, 0);
    }
    image[at..end].copy_from_slice(bytes);
}

/// Undoes all changes, then does again what is durable and some of the rest. Returns how many changes are lost.
fn rewrite(path: &Path, history: &History, rng: &mut fastrand::Rng) -> usize {
    let now = std::fs::read(path).unwrap();
    let mut image = now.clone();
    for change in history.all.iter().rev() {
        if !change.truncates || !change.old.is_empty() {
            put(&mut image, change.offset, &change.old);
        }
        image.resize(change.old_size as usize, 0);
    }
    // Nothing, a beginning, or any of what was not synced; the last of it in part.
    let pending = &history.pending;
    let kept: Vec<usize> = match rng.u8(..3) {
        0 => Vec::new(),
        1 => pending[..rng.usize(..=pending.len())].to_vec(),
        _ => pending.iter().copied().filter(|_| rng.bool()).collect(),
    };
    let torn = kept.last().copied().filter(|_| rng.bool());
    for &i in history.durable.iter().chain(&kept) {
        let change = &history.all[i];
        if change.truncates {
            image.resize(change.offset as usize, 0);
        } else {
            let whole = change.new.len();
            let len = if torn == Some(i) { rng.usize(..=whole) } else { whole };
            put(&mut image, change.offset, &change.new[..len]);
        }
    }
    if image != now {
        std::fs::write(path, image).unwrap();
    }
    pending.len() - kept.len()
}

/// A journal as the shim writes it.
fn record(kind: u32, inode: u64, offset: u64, old_size: u64, old: &[u8], new: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend_from_slice(&MAGIC.to_le_bytes());
    bytes.extend_from_slice(&kind.to_le_bytes());
    for n in [inode, offset, old_size] {
        bytes.extend_from_slice(&n.to_le_bytes());
    }
    for part in [old, new] {
        bytes.extend_from_slice(&(part.len() as u32).to_le_bytes());
    }
    bytes.extend_from_slice(old);
    bytes.extend_from_slice(new);
    bytes
}

#[test]
fn a_power_cut_keeps_what_was_synced_and_never_what_a_failed_fsync_left() {
    let dir = Dir::new("journal");
    for seed in 0..200 {
        let path = dir.write("file", b"abXYgh");
        let inode = std::fs::metadata(&path).unwrap().ino();
        // "ab" was there; "cd" is synced; "ef" is written and its fsync fails; "XY" over "cd" is not synced, "gh" neither.
        let journal = [
            record(WRITE, inode, 2, 2, b"", b"cd"),
            record(SYNC, inode, 0, 0, b"", b""),
            record(WRITE, inode, 4, 4, b"", b"ef"),
            record(SYNC_FAILED, inode, 0, 0, b"", b""),
            record(SYNC, inode, 0, 0, b"", b""),
            record(WRITE, inode, 2, 6, b"cd", b"XY"),
            record(WRITE, inode, 4, 6, b"ef", b"gh"),
            b"a record that is cut".to_vec(),
        ];
        let histories = read_journal(&journal.concat());
        let history = &histories[&inode];
        assert_eq!((history.all.len(), history.durable.len(), history.pending.len()), (4, 1, 2));
        rewrite(&path, history, &mut fastrand::Rng::with_seed(seed));
        let left = std::fs::read(&path).unwrap();
        assert!(left.starts_with(b"ab"), "seed {seed}: {left:?}");
        assert!([&b"cd"[..], b"Xd", b"XY"].contains(&&left[2..4]), "seed {seed}: {left:?}");
        assert!(!left.windows(2).any(|w| w == b"ef"), "seed {seed}: {left:?}");
        assert!([&b""[..], b"g", b"gh"].contains(&&left[4..]), "seed {seed}: {left:?}");
    }
}

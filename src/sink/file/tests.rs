use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::core::{Core, Disk, Options};
use super::*;
use crate::event::{Batch, Op};
use crate::runtime::Mono;
use crate::sink::behaviour::{self, Subject, TempDir, batch, ndjson, put};

struct Lines(TempDir, Fsync);

impl Lines {
    fn path(&self) -> PathBuf {
        self.0.0.join("events.ndjson")
    }

    fn text(&self) -> String {
        std::fs::read_to_string(self.path()).unwrap_or_default()
    }
}

impl Subject for Lines {
    fn config(&self) -> Box<dyn SinkConfig> {
        Box::new(Config {
            path: self.path(),
            fsync: self.1,
            max_bytes: ByteSize(0),
            max_age: Duration::ZERO,
            keep_files: 0,
            meta: Meta::Full,
            integers: Integers::Number,
        })
    }

    fn state(&self) -> BTreeMap<i64, String> {
        ndjson::state(&self.text())
    }

    fn kinds(&self) -> Vec<String> {
        ndjson::kinds(&self.text())
    }

    fn ids(&self) -> Option<Vec<String>> {
        Some(ndjson::ids(&self.text()))
    }

    fn break_it(&mut self) -> bool {
        std::fs::rename(self.path(), self.0.0.join("aside")).unwrap();
        std::fs::create_dir(self.path()).unwrap();
        true
    }

    fn mend(&mut self) {
        std::fs::remove_dir(self.path()).unwrap();
        std::fs::rename(self.0.0.join("aside"), self.path()).unwrap();
    }
}

#[test]
fn file_behaves() {
    behaviour::suite(|| Lines(TempDir::new("file"), Fsync::Always));
}

#[test]
fn file_behaves_without_fsync() {
    behaviour::suite(|| Lines(TempDir::new("file"), Fsync::Never));
    behaviour::suite(|| Lines(TempDir::new("file"), Fsync::Interval(Duration::from_millis(1))));
}

/// A file that fails on command, as a full or dying disk does.
struct Faulty {
    file: File,
    plan: Arc<Mutex<Plan>>,
}

#[derive(Default)]
struct Plan {
    /// Bytes that still fit.
    room: Option<usize>,
    sync_fails: bool,
    syncs: u32,
    opens: u32,
}

impl Disk for Faulty {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut plan = self.plan.lock().unwrap();
        let Some(room) = &mut plan.room else { return self.file.append(bytes) };
        let fits = bytes.len().min(*room);
        *room -= fits;
        self.file.append(&bytes[..fits])?;
        if fits < bytes.len() { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut plan = self.plan.lock().unwrap();
        plan.syncs += 1;
        if plan.sync_fails { Err(io::Error::from_raw_os_error(5)) } else { self.file.sync() }
    }

    fn cut(&mut self, len: u64) -> io::Result<()> {
        self.file.cut(len)
    }
}

const OPTIONS: Options = Options {
    fsync: Fsync::Always,
    max_bytes: 0,
    max_age: Duration::ZERO,
    keep_files: 0,
    format: Format { meta: Meta::Full, integers: Integers::Number },
};

fn core(dir: &TempDir, options: Options) -> (Core, Arc<Mutex<Plan>>) {
    let plan = Arc::new(Mutex::new(Plan::default()));
    let held = plan.clone();
    let wrap = Box::new(move |file| -> Box<dyn Disk> {
        held.lock().unwrap().opens += 1;
        Box::new(Faulty { file, plan: held.clone() })
    });
    (Core::open(dir.0.join("e.ndjson"), options, wrap, Mono(0), 0).unwrap(), plan)
}

fn one(seq: u64) -> Vec<Batch> {
    vec![batch(seq, |b| put(b, Op::Insert, seq as i64, "x"))]
}

fn keys(dir: &TempDir, name: &str) -> Vec<i64> {
    ndjson::state(&std::fs::read_to_string(dir.0.join(name)).unwrap()).into_keys().collect()
}

fn names(dir: &TempDir) -> Vec<String> {
    let mut names: Vec<_> =
        std::fs::read_dir(&dir.0).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_full_disk_leaves_no_half_line_and_passes() {
    let dir = TempDir::new("file");
    let (mut core, plan) = core(&dir, OPTIONS);
    core.write(&one(1), Mono(0), 0).unwrap();
    for room in [0, 1, 100] {
        plan.lock().unwrap().room = Some(room);
        match core.write(&one(2), Mono(0), 0) {
            Err(SinkError::Retry(text)) => assert!(text.contains("free space"), "{text}"),
            other => panic!("{other:?}"),
        }
        assert_eq!(keys(&dir, "e.ndjson"), [1]);
    }
    plan.lock().unwrap().room = None;
    core.write(&one(2), Mono(0), 0).unwrap();
    assert_eq!(keys(&dir, "e.ndjson"), [1, 2]);
    assert_eq!(plan.lock().unwrap().opens, 1);
}

#[test]
fn after_a_failed_sync_the_file_is_opened_anew_and_written_again() {
    let dir = TempDir::new("file");
    let (mut core, plan) = core(&dir, OPTIONS);
    core.write(&one(1), Mono(0), 0).unwrap();
    plan.lock().unwrap().sync_fails = true;
    assert!(matches!(core.write(&one(2), Mono(0), 0), Err(SinkError::Retry(_))));
    assert_eq!(keys(&dir, "e.ndjson"), [1]);
    plan.lock().unwrap().sync_fails = false;
    core.write(&one(2), Mono(0), 0).unwrap();
    assert_eq!(keys(&dir, "e.ndjson"), [1, 2]);
    let plan = plan.lock().unwrap();
    assert_eq!((plan.opens, plan.syncs), (2, 3));
}

#[test]
fn a_write_is_synced_once() {
    let dir = TempDir::new("file");
    let (mut always, plan) = core(&dir, OPTIONS);
    let many: Vec<Batch> = (1..50).flat_map(one).collect();
    always.write(&many, Mono(0), 0).unwrap();
    always.write(&[batch(1, |_| {})], Mono(0), 0).unwrap();
    assert_eq!(plan.lock().unwrap().syncs, 1);
    let dir = TempDir::new("file");
    let (mut later, plan) = core(&dir, Options { fsync: Fsync::Interval(Duration::from_secs(1)), ..OPTIONS });
    assert_eq!(later.deadline(), None);
    later.write(&many, Mono(10), 0).unwrap();
    later.write(&many, Mono(500_000), 0).unwrap();
    assert_eq!(later.deadline(), Some(Mono(1_000_010)));
    later.tick(Mono(1_000_009), 0).unwrap();
    assert_eq!(plan.lock().unwrap().syncs, 0);
    later.tick(Mono(1_000_010), 0).unwrap();
    assert_eq!((plan.lock().unwrap().syncs, later.deadline()), (1, None));
}

#[test]
fn rotated_by_size_and_old_ones_removed() {
    let dir = TempDir::new("file");
    let options = Options { max_bytes: 1, keep_files: 2, ..OPTIONS };
    let (mut first, _) = core(&dir, options);
    for n in 1..=3 {
        first.write(&one(n), Mono(0), 0).unwrap();
    }
    assert_eq!(names(&dir), ["e-00000001.ndjson", "e-00000002.ndjson", "e.ndjson"]);
    drop(first);
    // A file that is in the way is never replaced; numbers go on after a restart.
    std::fs::write(dir.0.join("e-00000004.ndjson"), "mine").unwrap();
    let (mut second, _) = core(&dir, Options { keep_files: 0, ..options });
    second.write(&one(4), Mono(0), 0).unwrap();
    std::fs::write(dir.0.join("e-00000006.ndjson"), "mine").unwrap();
    second.write(&one(5), Mono(0), 0).unwrap();
    assert_eq!(keys(&dir, "e-00000005.ndjson"), [3]);
    assert_eq!(keys(&dir, "e-00000007.ndjson"), [4]);
    assert_eq!(keys(&dir, "e.ndjson"), [5]);
    drop(second);
    let (mut third, _) = core(&dir, options);
    third.write(&one(6), Mono(0), 0).unwrap();
    assert_eq!(names(&dir), ["e-00000007.ndjson", "e-00000008.ndjson", "e.ndjson"]);
}

#[test]
fn rotated_by_age_also_when_idle() {
    let dir = TempDir::new("file");
    let (mut core, _) = core(&dir, Options { max_age: Duration::from_secs(60), ..OPTIONS });
    assert_eq!(core.deadline(), None);
    core.write(&one(1), Mono(1_000_000), 0).unwrap();
    assert_eq!(core.deadline(), Some(Mono(60_000_000)));
    core.tick(Mono(59_999_999), 0).unwrap();
    assert_eq!(names(&dir), ["e.ndjson"]);
    core.tick(Mono(60_000_000), 0).unwrap();
    assert_eq!(names(&dir), ["e-00000001.ndjson", "e.ndjson"]);
    assert_eq!(core.deadline(), None);
}

#[test]
fn a_torn_line_is_cut_off_and_counted() {
    let dir = TempDir::new("file");
    core(&dir, OPTIONS).0.write(&one(1), Mono(0), 0).unwrap();
    let path = dir.0.join("e.ndjson");
    let torn = std::fs::read_to_string(&path).unwrap() + "{\"kind\":\"ro";
    std::fs::write(&path, torn).unwrap();
    let (mut core, _) = core(&dir, OPTIONS);
    assert_eq!(core.torn, 1);
    core.write(&one(2), Mono(0), 0).unwrap();
    assert_eq!(keys(&dir, "e.ndjson"), [1, 2]);
}

#[test]
fn a_file_moved_away_is_let_go() {
    let dir = TempDir::new("file");
    let (mut core, _) = core(&dir, OPTIONS);
    core.write(&one(1), Mono(0), 0).unwrap();
    std::fs::rename(dir.0.join("e.ndjson"), dir.0.join("by-logrotate")).unwrap();
    core.write(&one(2), Mono(0), 0).unwrap();
    assert_eq!((keys(&dir, "by-logrotate"), keys(&dir, "e.ndjson")), (vec![1], vec![2]));
    // copytruncate.
    File::options().write(true).open(dir.0.join("e.ndjson")).unwrap().set_len(0).unwrap();
    core.write(&one(3), Mono(0), 0).unwrap();
    assert_eq!(keys(&dir, "e.ndjson"), [3]);
}

#[test]
fn two_writers_are_one_too_many() {
    let dir = TempDir::new("file");
    let (_first, _) = core(&dir, OPTIONS);
    let wrap = Box::new(|file| -> Box<dyn Disk> { Box::new(file) });
    let second = Core::open(dir.0.join("e.ndjson"), OPTIONS, wrap, Mono(0), 0);
    assert_eq!(second.map(|_| ()).unwrap_err().kind(), io::ErrorKind::WouldBlock);
}

#[test]
fn the_config_names_its_words() {
    let node = |text: &str| Node {
        place: crate::config::Place::default(),
        kind: Kind::Scalar { text: text.to_owned(), plain: true },
    };
    let mut cx = Context::default();
    assert_eq!(Fsync::read(&node("always"), &mut cx), Some(Fsync::Always));
    assert_eq!(Fsync::read(&node("2s"), &mut cx), Some(Fsync::Interval(Duration::from_secs(2))));
    assert!(cx.mistakes.is_empty());
    assert_eq!(Fsync::read(&node("sometimes"), &mut cx), None);
    assert!(cx.mistakes[0].message.contains("always"));
}

//! A disk that is full: SQLite's own limit of pages stands in for it.

use super::*;
use crate::source::Refused;
use crate::spool::worker::{Command, Reply, Worker};

/// Nothing can grow any more.
pub(super) fn fill_disk(store: &Store) {
    let conn = store.conn.as_ref().unwrap();
    let pages: i64 = conn.pragma_query_value(None, "page_count", |r| r.get(0)).unwrap();
    conn.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(())).unwrap();
}

/// There is room again.
pub(super) fn empty_disk(store: &Store) {
    let conn = store.conn.as_ref().unwrap();
    conn.pragma_update_and_check(None, "max_page_count", 1 << 30, |_| Ok(())).unwrap();
}

fn store_until_full(store: &mut Store, from: u64) -> u64 {
    for i in from..from + 1000 {
        let verdict = store.append(at(i), &[("data".into(), batch_of("app", i..i + 1, 10_000))]).remove(0);
        match verdict {
            Ok(()) => {}
            Err(Refused::Busy(_)) => return i,
            Err(e) => panic!("{e}"),
        }
    }
    panic!("never full")
}

#[test]
fn a_full_disk_deletes_stores_what_fits_and_is_well_again() {
    let dir = TempDir::new();
    let n = number();
    let (mut store, _) = Store::open(options(&dir, vec![lane(Class::Fsync)]), epochs(&n), at(0)).unwrap();
    assert_eq!(std::fs::metadata(dir.path().join("reserve")).unwrap().len(), 64 << 10);
    for i in 0..50 {
        put(&mut store, at(i), batch_of("app", i..i + 1, 10_000));
    }
    fill_disk(&store);
    let next = store_until_full(&mut store, 50);
    assert!(store.stats(at(60)).disk_full);
    assert!(!dir.path().join("reserve").exists(), "the reserve is given back");
    // It deletes, and what was deleted makes room.
    let some = store.read(at(61), "data", None, 300_000).unwrap();
    assert!(some.len() >= 25);
    ack_all(&mut store, at(62), "data", &some);
    store.delete_acked(at(62));
    put(&mut store, at(63), batch_of("app", next..next + 1, 10_000));
    let next = store_until_full(&mut store, next + 1);
    // There is room again: within the time of a look, all is as before.
    empty_disk(&store);
    store.tick(at(20_000));
    assert!(!store.stats(at(20_000)).disk_full);
    assert!(dir.path().join("reserve").exists());
    for i in next..next + 50 {
        put(&mut store, at(20_001), batch_of("app", i..i + 1, 10_000));
    }
    let seen: Vec<u64> = [decode(&some).numbers(), drain(&mut store, at(20_002)).numbers()].concat();
    assert_eq!(seen, (0..next + 50).collect::<Vec<_>>(), "nothing was lost, nothing refused was stored");
}

#[test]
fn a_full_disk_follows_the_policy() {
    let dir = TempDir::new();
    let n = number();
    let l = LaneOptions { policy: Policy::DropOldest, ..lane(Class::Fsync) };
    let (mut store, _) = Store::open(options(&dir, vec![l.clone()]), epochs(&n), at(0)).unwrap();
    for i in 0..50 {
        put(&mut store, at(i), batch_of("app", i..i + 1, 10_000));
    }
    fill_disk(&store);
    for i in 50..200 {
        put(&mut store, at(i), batch_of("app", i..i + 1, 10_000));
    }
    let crashed = dir.crash();
    let (mut store, _) = Store::open(options(&crashed, vec![l]), epochs(&n), at(300)).unwrap();
    let seen = drain(&mut store, at(301));
    assert_eq!(seen.numbers().last(), Some(&199));
    let lost: u64 = seen.losses.iter().map(|l| l.rows).sum();
    assert_eq!(seen.rows.len() as u64 + lost, 200);
    assert!(lost > 100);
}

#[test]
fn an_emptied_file_is_rebuilt() {
    let dir = TempDir::new();
    let (mut store, _) =
        Store::open(options(&dir, vec![lane(Class::Fsync)]), epochs(&number()), at(0)).unwrap();
    for i in 0..200u64 {
        put(&mut store, at(i), batch_of("app", i..i + 1, 100_000));
    }
    store.tick(at(10_000));
    assert!(store.stats(at(300)).file_bytes > 15 << 20);
    drain(&mut store, at(400));
    put(&mut store, at(500), batch(200..201));
    store.tick(at(30_000));
    let stats = store.stats(at(30_000));
    assert!(stats.file_bytes + stats.wal_bytes < 1 << 20, "{stats:?}");
    assert_eq!(drain(&mut store, at(30_001)).numbers(), [200]);
}

/// A folder in which files cannot be made for a while.
#[derive(Debug)]
struct Broken {
    disk: DiskFolder,
    broken: Arc<std::sync::atomic::AtomicBool>,
}

impl Folder for Broken {
    fn lock(&mut self) -> Result<(), SpoolError> {
        self.disk.lock()
    }
    fn path(&self, name: &str) -> PathBuf {
        self.disk.path(name)
    }
    fn create(&self, name: &str) -> std::io::Result<()> {
        if self.broken.load(Ordering::Relaxed) {
            return Err(std::io::ErrorKind::ReadOnlyFilesystem.into());
        }
        self.disk.create(name)
    }
    fn size(&self, name: &str) -> Option<u64> {
        self.disk.size(name)
    }
    fn rename(&self, from: &str, to: &str) -> std::io::Result<()> {
        self.disk.rename(from, to)
    }
    fn remove(&self, name: &str) -> std::io::Result<()> {
        self.disk.remove(name)
    }
    fn allocate(&self, name: &str, bytes: u64) -> std::io::Result<()> {
        self.disk.allocate(name, bytes)
    }
    fn free_bytes(&self) -> std::io::Result<u64> {
        self.disk.free_bytes()
    }
}

type Answer = async_channel::Receiver<Result<(), Refused>>;

fn offer(worker: Worker, now: Mono, batch: Batch) -> (Worker, Answer) {
    let (tx, rx) = async_channel::bounded(1);
    let command = Command::Store("data".into(), batch, Reply(tx));
    let std::ops::ControlFlow::Continue(worker) = worker.handle(now, command) else { panic!("it stops") };
    (worker, rx)
}

/// Runs the worker as its thread does, whenever something is due.
fn run_until(worker: &mut Worker, mut now: Mono, end: Mono) {
    for turn in 0.. {
        assert!(turn < 10_000, "a timer spins");
        now = worker.poll_timeout(now).max(now);
        if now > end {
            return;
        }
        worker.run(now);
    }
}

/// As the engine sets it: an input waits as long as it takes.
fn patient(dir: &TempDir, lane: LaneOptions) -> Options {
    Options { block_wait: Duration::from_secs(365 * 86_400), ..options(dir, vec![lane]) }
}

#[test]
fn who_waits_while_the_disk_fails_is_served_when_it_works_again() {
    let dir = TempDir::new();
    let broken = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let folder = Box::new(Broken { disk: DiskFolder::new(dir.path()), broken: broken.clone() });
    let options = patient(&dir, lane(Class::Fsync));
    let (mut store, _) = Store::open_in(options, folder, epochs(&number()), at(0)).unwrap();
    broken.store(true, Ordering::Relaxed);
    store.go_down(at(1), "a test");
    let (worker, first) = offer(Worker::new(store, async_channel::bounded(1).0), at(2), batch(0..1));
    let (mut worker, second) = offer(worker, at(3), batch(1..2));
    run_until(&mut worker, at(4), at(5000));
    assert!(first.try_recv().is_err() && second.try_recv().is_err(), "nothing works yet");
    broken.store(false, Ordering::Relaxed);
    // Back-off, then the next look.
    run_until(&mut worker, at(5000), at(20_000));
    assert_eq!((first.try_recv(), second.try_recv()), (Ok(Ok(())), Ok(Ok(()))));
}

#[test]
fn a_batch_that_comes_behind_others_does_not_hide_that_space_was_freed() {
    let dir = TempDir::new();
    let small = LaneOptions { max_bytes: 30_000, ..lane(Class::Fsync) };
    let (mut store, _) = Store::open(patient(&dir, small), epochs(&number()), at(0)).unwrap();
    let next = store_until_full(&mut store, 0);
    let held = read_all(&mut store, at(2000), "data");
    let big = |n| batch_of("app", n..n + 1, 10_000);
    let (mut worker, first) = offer(Worker::new(store, async_channel::bounded(1).0), at(2001), big(next));
    run_until(&mut worker, at(2002), at(2100));
    assert!(first.try_recv().is_err(), "it waits");
    let (tx, _rx) = async_channel::bounded(1);
    let ack = Command::Ack("data".into(), held.iter().map(|b| b.id).collect(), Reply(tx));
    let std::ops::ControlFlow::Continue(worker) = worker.handle(at(2101), ack) else { panic!("it stops") };
    let (mut worker, second) = offer(worker, at(2101), big(next + 1));
    run_until(&mut worker, at(2101), at(2200));
    assert_eq!((first.try_recv(), second.try_recv()), (Ok(Ok(())), Ok(Ok(()))));
}

#[test]
fn a_commit_that_failed_and_is_there_is_neither_lost_nor_doubled() {
    let dir = TempDir::new();
    let (mut store, _) =
        Store::open(options(&dir, vec![lane(Class::Fsync)]), epochs(&number()), at(0)).unwrap();
    put(&mut store, at(1), batch_of("app", 0..1, 5000));
    let first = read_all(&mut store, at(2), "data");
    // Its transaction also deletes what is acknowledged here, and more is acknowledged behind it.
    put(&mut store, at(3), batch_of("app", 1..2, 5000));
    let second = read_all(&mut store, at(4), "data")[1..].to_vec();
    ack_all(&mut store, at(5), "data", &first);
    store.commit_in_doubt(at(6), ("data".into(), batch_of("app", 2..3, 5000)));
    ack_all(&mut store, at(7), "data", &second);
    // Others that come before the file can be opened were not in it.
    let more = [("data".into(), batch_of("app", 2..3, 5000)), ("data".into(), batch_of("app", 3..4, 5000))];
    assert!(store.append(at(8), &more).iter().all(Result::is_err));
    // Who was refused comes again, with them.
    let items = [("data".into(), batch_of("app", 2..3, 5000)), ("data".into(), batch_of("app", 3..4, 5000))];
    assert_eq!(store.append(at(5000), &items), [Ok(()), Ok(())]);
    assert_eq!(drain(&mut store, at(5001)).numbers(), [2, 3]);
    store.delete_acked(at(5002));
    let stats = store.stats(at(5003));
    assert_eq!((stats.lanes[0].rows, stats.quarantined), (0, 0), "{stats:?}");
}

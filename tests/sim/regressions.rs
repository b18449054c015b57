//! What the simulation found, each by itself, named after what broke.

use std::time::Duration;

use super::disk::{self, SimFolder};
use super::vfs;
use crate::event::builtin::{self, Loss, Payload};
use crate::event::{Batch, BatchBuilder, Op, Origin};
use crate::runtime::Mono;
use crate::spool::{Class, Epochs, LaneOptions, Options, Store, StoredBatch};

const DISK: u32 = 77;

fn store(lane: LaneOptions, now: Mono) -> Store {
    store_of(vec![lane], now)
}

fn store_of(lanes: Vec<LaneOptions>, now: Mono) -> Store {
    let mut options = Options::new("/sim/77", "d");
    options.lanes = lanes;
    options.reserve_bytes = 0;
    options.boot = 7;
    options.vfs = Some(vfs::NAME.to_owned());
    let mut number = 0;
    let epochs: Epochs = Box::new(move |least| {
        number = least.max(number) + 1;
        Ok(u64::from(number) << 32 | 9)
    });
    Store::open_in(options, Box::new(SimFolder(DISK)), epochs, now).unwrap().0
}

fn fresh_disk() {
    vfs::register();
    disk::clear();
    disk::Disk::make(DISK, 1);
}

fn put(store: &mut Store, now: Mono, text: &str) -> bool {
    store.append(now, &[("data".into(), batch(text))])[0].is_ok()
}

/// Everything that is held of a lane, as (first, last) of each batch, and its texts by number.
fn held(store: &mut Store, now: Mono, lane: &str) -> (Vec<(u64, u64)>, Vec<StoredBatch>) {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let some = store.read(now, lane, after, 1 << 20).unwrap();
        let Some(last) = some.last() else { break };
        after = Some(last.id);
        all.extend(some);
    }
    (all.iter().map(|b| (b.first_seq, b.last_seq)).collect(), all)
}

fn batch(text: &str) -> Batch {
    let mut builder = BatchBuilder::new("app".into());
    let values = builtin::message_values("t", None, Payload::Text(text), None);
    builder.push(Op::Message, 1, builtin::message(), None, builtin::image(&values)).unwrap();
    builder.finish()
}

fn losses(batches: &[StoredBatch]) -> Vec<Loss> {
    let mut losses = Vec::new();
    for b in batches {
        let find = |hash| b.tables.iter().find(|t| t.hash() == hash).cloned();
        let batch =
            Batch::from_body(b.source.clone(), Origin::Input, b.clock, b.rows, b.body.clone(), find).unwrap();
        for row in &batch {
            let row = row.unwrap();
            if row.op() == Op::Loss {
                losses.push(Loss::from_image(&row.newest().unwrap().unwrap()).unwrap());
            }
        }
    }
    losses
}

/// The first try fails on the disk: the second must not take the batch for one that is gone.
#[test]
fn a_batch_that_could_not_be_set_aside_is_so_at_the_next_try() {
    fresh_disk();
    let now = Mono(1_000_000);
    let mut store = store(LaneOptions::new("data", Class::Fsync), now);
    assert_eq!(store.append(now, &[("data".into(), batch("x"))]), [Ok(())]);
    let id = store.read(now, "data", None, 1 << 20).unwrap()[0].id;
    disk::with(DISK, |d| d.fail_writes = 1);
    assert!(store.set_aside(now, id, "too large", true).is_err());
    store.set_aside(now + Duration::from_secs(1), id, "too large", true).unwrap();
    let left = store.read(now, "data", None, 1 << 20).unwrap();
    let losses = losses(&left);
    assert_eq!((left.len(), losses.len()), (1, 1), "{left:?}");
    assert_eq!((&*losses[0].reason, losses[0].rows, losses[0].exact), ("refused", 1, true));
}

/// Some rows of a batch that went in parts arrived: what is named lost is then an upper bound.
#[test]
fn a_loss_after_parts_is_no_exact_number() {
    fresh_disk();
    let now = Mono(1_000_000);
    let mut store = store(LaneOptions::new("data", Class::Fsync), now);
    assert_eq!(store.append(now, &[("data".into(), batch("x"))]), [Ok(())]);
    let id = store.read(now, "data", None, 1 << 20).unwrap()[0].id;
    store.set_aside(now, id, "a part is too large", false).unwrap();
    let losses = losses(&store.read(now, "data", None, 1 << 20).unwrap());
    assert!(!losses[0].exact);
}

/// Rows in memory stand behind rows on disk that are handed out and not acknowledged: those are still held, and a centre
/// that was told otherwise would take them for delivered when they are sent again.
#[test]
fn the_base_of_rows_in_memory_is_not_above_what_is_on_disk() {
    fresh_disk();
    let now = Mono(1_000_000);
    let mut store = store(LaneOptions::new("data", Class::Delayed), now);
    store.append(now, &[("data".into(), batch("x"))]);
    store.sync(now).unwrap();
    let first = store.read(now, "data", None, 1 << 20).unwrap();
    store.append(now, &[("data".into(), batch("y"))]);
    let second = store.read(now, "data", Some(first[0].id), 1 << 20).unwrap();
    assert_eq!((first.len(), second.len()), (1, 1));
    assert_eq!((second[0].first_seq, second[0].base), (2, 1));
}

/// An append that fails with the disk waits for the disk, not for an acknowledgement that never comes.
#[test]
fn an_append_that_a_broken_disk_refused_is_tried_when_the_disk_works() {
    fresh_disk();
    let now = Mono(1_000_000);
    let mut options = LaneOptions::new("data", Class::Fsync);
    options.commit_interval = Duration::ZERO;
    let (spool, mut local) = crate::spool::LocalSpool::new(store(options, now));
    disk::with(DISK, |d| d.fail_syncs = 2);
    let mut stored = None;
    let task = async { stored = Some(spool.store("data", batch("x")).await) };
    let run = async {
        let mut at = now;
        for _ in 0..20 {
            at = local.run(at).unwrap_or(at).max(at + Duration::from_millis(1));
            futures_lite::future::yield_now().await;
        }
    };
    // Biased: the store is asked before it runs.
    futures_lite::future::block_on(async { futures_lite::future::zip(task, run).await });
    assert_eq!(stored, Some(Ok(())));
}

/// A commit that failed twice over and landed all the same: its numbers are used.
#[test]
fn numbers_of_a_commit_that_landed_unconfirmed_are_not_given_again() {
    fresh_disk();
    let mut now = Mono(1_000_000);
    let mut store = store(LaneOptions::new("data", Class::Fsync), now);
    store.append(now, &[("data".into(), batch("a"))]);
    let read = store.read(now, "data", None, 1 << 20).unwrap();
    assert_eq!(read.len(), 1);
    // The commit's sync and that of the reopened file.
    disk::with(DISK, |d| d.fail_syncs = 2);
    assert!(store.append(now, &[("data".into(), batch("b"))])[0].is_err());
    now = now + Duration::from_secs(5);
    store.tick(now);
    assert_eq!(store.append(now, &[("data".into(), batch("c"))]), [Ok(())]);
    let left = store.read(now, "data", None, 1 << 20).unwrap();
    let mut seqs: Vec<u64> = left.iter().flat_map(|b| b.first_seq..=b.last_seq).collect();
    let rows: u32 = left.iter().map(|b| b.rows).sum();
    seqs.dedup();
    assert_eq!(seqs.len(), rows as usize, "{left:?}");
    assert!(store.stats(now).lanes[0].rows == u64::from(rows), "{:?}", store.stats(now));
}

/// The same, while rows of another lane got numbers in memory: what landed was forgotten for that, and its numbers given
/// again. The file was then taken for damaged, and its lanes for forks of themselves (seeds 940 and 815).
#[test]
fn a_commit_that_landed_unconfirmed_counts_though_rows_in_memory_got_numbers_since() {
    fresh_disk();
    let mut now = Mono(1_000_000);
    let lanes = vec![LaneOptions::new("data", Class::Fsync), LaneOptions::new("bulk", Class::Ram)];
    let mut store = store_of(lanes, now);
    store.append(now, &[("data".into(), batch("a"))]);
    store.append(now, &[("bulk".into(), batch("x"))]);
    held(&mut store, now, "data");
    disk::with(DISK, |d| d.fail_syncs = 2);
    assert!(store.append(now, &[("data".into(), batch("b"))])[0].is_err());
    assert_eq!(store.append(now, &[("bulk".into(), batch("y"))]), [Ok(())]);
    assert_eq!(held(&mut store, now, "bulk").0, [(1, 2)]);
    now = now + Duration::from_secs(5);
    store.tick(now);
    assert_eq!(store.append(now, &[("data".into(), batch("c"))]), [Ok(())]);
    assert_eq!(store.append(now, &[("bulk".into(), batch("z"))]), [Ok(())]);
    assert_eq!(store.stats(now).quarantined, 0);
    assert_eq!(held(&mut store, now, "data").0, [(1, 1), (2, 2), (3, 3)]);
    assert_eq!(held(&mut store, now, "bulk").0, [(1, 2), (3, 3)]);
    assert_eq!(store.stats(now).lanes[0].rows, 3);
}

/// A commit in doubt gave numbers of a lane that has rows in memory: those wait until it is known.
#[test]
fn rows_in_memory_do_not_take_the_numbers_of_a_commit_in_doubt() {
    fresh_disk();
    let mut now = Mono(1_000_000);
    let mut options = LaneOptions::new("data", Class::Delayed);
    options.commit_interval = Duration::from_millis(100);
    let mut store = store(options, now);
    store.append(now, &[("data".into(), batch("a"))]);
    store.sync(now).unwrap();
    let id = held(&mut store, now, "data").1[0].id;
    disk::with(DISK, |d| d.fail_syncs = 2);
    // Its loss record takes number 2.
    assert!(store.set_aside(now, id, "too large", true).is_err());
    assert_eq!(store.append(now, &[("data".into(), batch("b"))]), [Ok(())]);
    // A flush is due before the file is tried again.
    for ms in [200, 90_000, 1_000] {
        now = now + Duration::from_millis(ms);
        store.tick(now);
    }
    assert_eq!(store.stats(now).quarantined, 0);
    let (ranges, all) = held(&mut store, now, "data");
    assert_eq!((ranges, losses(&all).len()), (vec![(2, 2), (3, 3)], 1));
}

/// Rows in memory were acknowledged while their flush was in doubt: once it is found on disk they are to be deleted there,
/// not to be counted for ever (seed 815).
#[test]
fn what_was_acknowledged_while_its_flush_was_in_doubt_leaves_the_disk() {
    fresh_disk();
    let mut now = Mono(1_000_000);
    let mut store = store(LaneOptions::new("data", Class::Delayed), now);
    store.append(now, &[("data".into(), batch("a"))]);
    let id = held(&mut store, now, "data").1[0].id;
    disk::with(DISK, |d| d.fail_syncs = 2);
    assert!(store.sync(now).is_err());
    store.ack(now, "data", &[id]).unwrap();
    for _ in 0..3 {
        now = now + Duration::from_secs(20);
        store.tick(now);
    }
    assert_eq!(held(&mut store, now, "data").0, []);
    let stats = store.stats(now);
    assert_eq!((stats.lanes[0].rows, stats.lanes[0].memory_rows, stats.quarantined), (0, 0, 0));
}

/// After a commit in doubt the file may hold the lower reservation: rows beyond it must not be given numbers that are
/// given again after a crash, unnamed.
#[test]
fn a_reservation_in_doubt_is_the_lower_one() {
    fresh_disk();
    let mut now = Mono(1_000_000);
    let mut store = store(LaneOptions::new("data", Class::Delayed), now);
    store.append(now, &[("data".into(), batch("a"))]);
    let id = held(&mut store, now, "data").1[0].id;
    store.ack(now, "data", &[id]).unwrap();
    store.sync(now).unwrap();
    // Nothing came for a while: the flush gives the reservation back, and is in doubt.
    now = now + Duration::from_secs(1);
    disk::with(DISK, |d| d.fail_syncs = 2);
    assert!(store.sync(now).is_err());
    let taken = store.append(now, &[("data".into(), batch("b"))]);
    let handed = held(&mut store, now, "data").0.last().map_or(0, |range| range.1);
    drop(store);
    disk::with(DISK, |d| d.heal());
    disk::with(DISK, |d| d.revive());
    let mut again = store_of(vec![LaneOptions::new("data", Class::Delayed)], now);
    again.append(now, &[("data".into(), batch("c"))]);
    let next = held(&mut again, now, "data").0.last().map_or(0, |range| range.0);
    assert!(taken[0].is_err() || next > handed, "{handed} was handed out, {next} is given");
}

/// The file is given up right after a commit that counted as failed and is there: its rows made up, in the sum, for those
/// that were damaged, and acknowledged rows were lost unnamed.
#[test]
fn rows_of_a_commit_in_doubt_do_not_stand_for_damaged_ones() {
    fresh_disk();
    let now = Mono(1_000_000);
    let mut first = store(LaneOptions::new("data", Class::Fsync), now);
    let text = "x".repeat(5_000);
    for _ in 0..20 {
        assert!(put(&mut first, now, &text));
    }
    first.close(now).unwrap();
    disk::with(DISK, |d| d.flip("buffer.db", 60_000));
    let mut again = store(LaneOptions::new("data", Class::Fsync), now);
    for n in 0..5 {
        // The log's head, if it is to be written, is synced before the commit.
        let fresh = disk::with(DISK, |d| d.size("buffer.db-wal")) == Some(Some(0));
        disk::with(DISK, |d| (d.spare_syncs, d.fail_syncs) = (u32::from(fresh), 1));
        // The fifth in a row gives the file up.
        assert_eq!(put(&mut again, now, &format!("{n}{text}")), n < 4, "{n} {:?}", again.stats(now));
    }
    assert_eq!(again.stats(now).quarantined, 1);
    let (_, all) = held(&mut again, now, "data");
    let losses = losses(&all);
    let rows: u64 = all.iter().map(|b| u64::from(b.rows)).sum();
    assert_eq!((losses.len(), losses[0].rows, rows), (1, 1, 19 + 5 + 1), "{losses:?}");
}

/// Whoever asks every second on a full disk puts the look for new room off every second.
#[test]
fn a_disk_that_was_full_is_found_well_though_somebody_keeps_asking() {
    fresh_disk();
    let mut now = Mono(1_000_000);
    let mut store = store(LaneOptions::new("data", Class::Fsync), now);
    let text = "x".repeat(20_000);
    disk::with(DISK, |d| d.capacity = d.used() + 60_000);
    while put(&mut store, now, &text) {
        now = now + Duration::from_secs(1);
    }
    disk::with(DISK, |d| d.capacity = u64::MAX);
    let well = (0..30).any(|_| {
        now = now + Duration::from_secs(1);
        store.tick(now);
        put(&mut store, now, &text)
    });
    assert!(well, "{:?}", store.stats(now));
}

/// Salvaging copies in several transactions, and must not copy the log back within one.
#[test]
fn a_damaged_buffer_of_many_batches_is_salvaged() {
    fresh_disk();
    let now = Mono(1_000_000);
    let mut first = store(LaneOptions::new("data", Class::Fsync), now);
    let text = "x".repeat(5_000);
    for _ in 0..200 {
        assert!(put(&mut first, now, &text));
    }
    first.close(now).unwrap();
    // A batch in the middle, in its body: the pages around it stay good.
    disk::with(DISK, |d| d.flip("buffer.db", 600_000));
    let mut again = store(LaneOptions::new("data", Class::Fsync), now);
    let (mut rows, mut lost, mut after) = (0, 0, None);
    loop {
        let some = again.read(now, "data", after, 1 << 20).unwrap();
        let Some(last) = some.last() else { break };
        after = Some(last.id);
        lost += losses(&some).iter().map(|l| l.rows).sum::<u64>();
        rows += some.iter().map(|b| u64::from(b.rows)).sum::<u64>();
    }
    // The one that is lost, and the record that says so.
    assert_eq!((rows, lost), (200, 1));
}

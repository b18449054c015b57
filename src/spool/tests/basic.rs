//! In, out, acknowledged, restarted.

use super::*;
use crate::source::Refused;

#[test]
fn what_is_stored_is_read_in_order_and_gone_when_acknowledged() {
    let dir = TempDir::new();
    let n = number();
    let (mut store, opened) =
        Store::open(options(&dir, vec![lane(Class::Fsync)]), epochs(&n), at(0)).unwrap();
    assert!(!opened.unclean && opened.quarantined.is_empty());
    put(&mut store, at(1), batch(0..3));
    put(&mut store, at(2), batch(3..5));
    let batches = read_all(&mut store, at(3), "data");
    let seen = decode(&batches);
    assert_eq!(seen.numbers(), [0, 1, 2, 3, 4]);
    let seqs: Vec<u64> = seen.rows.iter().map(|r| r.1).collect();
    assert_eq!(seqs, [1, 2, 3, 4, 5], "sequence numbers start at 1 and have no hole");
    assert_eq!(batches[0].epoch >> 32, 1);
    assert_eq!(batches[0].base, 1);
    store.ack(at(4), "data", &[batches[0].id]).unwrap();
    store.release("data").unwrap();
    put(&mut store, at(5), batch(5..6));
    assert_eq!(drain(&mut store, at(6)).numbers(), [5]);
    assert_eq!(store.stats(at(7)).lanes[0].rows, 0);
    store.close(at(8)).unwrap();
}

#[test]
fn a_crash_loses_nothing_that_was_acknowledged_to_the_input() {
    let dir = TempDir::new();
    let n = number();
    let (mut store, _) = Store::open(options(&dir, vec![lane(Class::Fsync)]), epochs(&n), at(0)).unwrap();
    put(&mut store, at(1), batch(0..100));
    let crashed = dir.crash();
    let (mut again, opened) =
        Store::open(options(&crashed, vec![lane(Class::Fsync)]), epochs(&n), at(2)).unwrap();
    assert!(opened.unclean);
    let before = decode(&read_all(&mut store, at(2), "data"));
    let seen = drain(&mut again, at(3));
    assert_eq!(seen, before, "ids and rows are the same");
    put(&mut again, at(4), batch(100..101));
    let next = drain(&mut again, at(5));
    assert_eq!(next.rows[0].1, 101, "the sequence goes on");
    assert!(next.losses.is_empty());
}

#[test]
fn small_batches_are_joined_and_large_ones_split() {
    let dir = TempDir::new();
    let n = number();
    let options = Options { max_body_bytes: 4096, ..options(&dir, vec![lane(Class::Fsync)]) };
    let (mut store, _) = Store::open(options, epochs(&n), at(0)).unwrap();
    // One commit of ten callers, then ten commits of one: each ten is one batch.
    let ten: Vec<(Arc<str>, Batch)> = (0..10).map(|i| ("data".into(), batch(i..i + 1))).collect();
    assert!(store.append(at(1), &ten).iter().all(Result::is_ok));
    for i in 10..20 {
        put(&mut store, at(2), batch(i..i + 1));
    }
    let batches = read_all(&mut store, at(3), "data");
    assert_eq!(batches.len(), 1, "they were joined");
    assert_eq!(batches[0].rows, 20);
    // What was handed out is not touched any more.
    put(&mut store, at(4), batch(20..21));
    let batches = read_all(&mut store, at(5), "data");
    assert_eq!(batches.iter().map(|b| b.rows).collect::<Vec<_>>(), [20, 1]);
    // 100 rows of 200 bytes do not fit one body of 4 KiB.
    put(&mut store, at(6), batch_of("app", 21..121, 200));
    let batches = read_all(&mut store, at(7), "data");
    assert!(batches.iter().all(|b| b.body.len() <= 4096));
    assert!(batches.len() >= 7, "{}", batches.len());
    assert_eq!(decode(&batches).numbers(), (0..121).collect::<Vec<_>>());
}

#[test]
fn rows_of_two_sources_do_not_share_a_batch() {
    let dir = TempDir::new();
    let (mut store, _) =
        Store::open(options(&dir, vec![lane(Class::Fsync)]), epochs(&number()), at(0)).unwrap();
    let items = [("data".into(), batch_of("a", 0..1, 0)), ("data".into(), batch_of("b", 1..2, 0))];
    assert!(store.append(at(1), &items).iter().all(Result::is_ok));
    let batches = read_all(&mut store, at(2), "data");
    let sources: Vec<&str> = batches.iter().map(|b| &*b.source).collect();
    assert_eq!(sources, ["a", "b"]);
}

#[test]
fn a_row_that_fits_no_body_is_refused_and_leaves_no_trace() {
    let dir = TempDir::new();
    let o = Options { max_body_bytes: 4096, ..options(&dir, vec![lane(Class::Fsync)]) };
    let largest = o.max_row_bytes();
    let (mut store, _) = Store::open(o, epochs(&number()), at(0)).unwrap();
    let fixed = batch_of("app", 0..1, 0).iter().next().unwrap().unwrap().encoded_len();
    // The padding's own length takes one more byte from 128 on.
    let fits = batch_of("app", 0..1, largest - fixed - 1);
    assert_eq!(fits.iter().next().unwrap().unwrap().encoded_len(), largest);
    put(&mut store, at(1), fits);
    let verdicts = store.append(at(2), &[("data".into(), batch_of("app", 0..3, largest - fixed))]);
    assert_eq!(verdicts, [Err(Refused::TooLarge { bytes: largest + 1, max: largest })]);
    assert_eq!(drain(&mut store, at(3)).rows.len(), 1);
}

#[test]
fn positions_are_stored_with_their_batch_and_handed_back() {
    let dir = TempDir::new();
    let n = number();
    let (mut store, opened) =
        Store::open(options(&dir, vec![lane(Class::Fsync)]), epochs(&n), at(0)).unwrap();
    assert!(opened.positions.is_empty());
    let with = |numbers: std::ops::Range<u64>, value: &[u8]| {
        let mut b = batch(numbers);
        b.positions.push(("offset".into(), value.into()));
        b
    };
    put(&mut store, at(1), with(0..1, b"10"));
    put(&mut store, at(2), with(1..2, b"20"));
    let crashed = dir.crash();
    let (_, opened) = Store::open(options(&crashed, vec![lane(Class::Fsync)]), epochs(&n), at(3)).unwrap();
    assert_eq!(opened.positions, [("app".into(), "offset".into(), (*b"20").into())]);
    assert_eq!(*opened.positions_of("app"), [("offset".into(), (*b"20").into())]);
    assert!(opened.positions_of("other").is_empty());
    put(&mut store, at(4), with(2..3, b""));
    store.close(at(5)).unwrap();
    let (_, opened) = Store::open(options(&dir, vec![lane(Class::Fsync)]), epochs(&n), at(6)).unwrap();
    assert!(opened.positions.is_empty(), "an empty value removes a position");
}

#[test]
fn a_second_agent_is_told_so() {
    let dir = TempDir::new();
    let (store, _) = Store::open(options(&dir, vec![lane(Class::Fsync)]), epochs(&number()), at(0)).unwrap();
    let second = Store::open(options(&dir, vec![lane(Class::Fsync)]), epochs(&number()), at(0));
    assert!(matches!(second, Err(SpoolError::Locked { .. })), "{second:?}");
    assert!(matches!(Inspector::open(dir.path(), "dev1"), Err(SpoolError::Locked { .. })));
    drop(store);
    Store::open(options(&dir, vec![lane(Class::Fsync)]), epochs(&number()), at(0)).unwrap();
}

#[test]
fn a_store_of_a_newer_dts_is_refused_and_left_as_it_is() {
    let dir = TempDir::new();
    let n = number();
    let (mut store, _) = Store::open(options(&dir, vec![lane(Class::Fsync)]), epochs(&n), at(0)).unwrap();
    put(&mut store, at(1), batch(0..1));
    store.close(at(2)).unwrap();
    let set = |min_reader: &str| {
        let conn = rusqlite::Connection::open(dir.path().join("buffer.db")).unwrap();
        meta::put(&conn, "min_reader", min_reader).unwrap();
    };
    set("2");
    let refused = Store::open(options(&dir, vec![lane(Class::Fsync)]), epochs(&n), at(3));
    assert!(matches!(refused, Err(SpoolError::Newer { min_reader: 2, reads: 1, .. })), "{refused:?}");
    set("1");
    let (mut store, opened) =
        Store::open(options(&dir, vec![lane(Class::Fsync)]), epochs(&n), at(4)).unwrap();
    assert!(opened.quarantined.is_empty());
    assert_eq!(drain(&mut store, at(5)).numbers(), [0]);
}

#[test]
fn files_are_private() {
    use std::os::unix::fs::PermissionsExt;
    let dir = TempDir::new();
    let (mut store, _) =
        Store::open(options(&dir, vec![lane(Class::Fsync)]), epochs(&number()), at(0)).unwrap();
    put(&mut store, at(1), batch(0..1));
    for entry in std::fs::read_dir(dir.path()).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{entry:?}");
    }
}

#[test]
fn a_lane_that_is_no_longer_configured_is_drained_and_then_forgotten() {
    let dir = TempDir::new();
    let n = number();
    let (mut store, _) = Store::open(options(&dir, vec![lane(Class::Fsync)]), epochs(&n), at(0)).unwrap();
    put(&mut store, at(1), batch(0..2));
    store.close(at(2)).unwrap();
    let other = vec![LaneOptions::new("alarms", Class::Fsync)];
    let (mut store, opened) = Store::open(options(&dir, other.clone()), epochs(&n), at(3)).unwrap();
    assert_eq!(opened.lanes.iter().map(|l| &**l).collect::<Vec<_>>(), ["data", "alarms"]);
    let refused = store.append(at(4), &[("data".into(), batch(2..3))]);
    assert!(matches!(refused[0], Err(Refused::Busy(_))));
    assert_eq!(drain(&mut store, at(5)).numbers(), [0, 1]);
    store.close(at(6)).unwrap();
    let (_, opened) = Store::open(options(&dir, other), epochs(&n), at(7)).unwrap();
    assert_eq!(opened.lanes.iter().map(|l| &**l).collect::<Vec<_>>(), ["alarms"]);
}

#[test]
fn the_handle_joins_callers_and_stops() {
    let dir = TempDir::new();
    let n = number();
    let o = options(&dir, vec![lane(Class::Fsync)]);
    crate::runtime::block_on(async {
        let (spool, _) = Spool::start(o.clone(), epochs(&n)).unwrap();
        let tasks: Vec<_> = (0..50)
            .map(|i| {
                let spool = spool.clone();
                crate::runtime::spawn(async move { spool.store("data", batch(i..i + 1)).await })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        spool.changed().await;
        let batches = spool.read("data", None, 1 << 20).await.unwrap();
        assert!(batches.len() < 50, "callers share commits");
        assert_eq!(decode(&batches).set(), (0..50).collect());
        spool.ack("data", batches.iter().map(|b| b.id).collect()).await.unwrap();
        assert_eq!(spool.stats().await.unwrap().lanes[0].rows, 0);
        spool.stop().await.unwrap();
        assert_eq!(spool.store("data", batch(50..51)).await, Err(Refused::Stopping));
        assert!(matches!(spool.stats().await, Err(SpoolError::Stopped)));
    });
    let (mut store, opened) = Store::open(o, epochs(&n), at(0)).unwrap();
    assert!(!opened.unclean);
    assert!(drain(&mut store, at(1)).rows.is_empty());
}

#[test]
fn one_event_a_commit_writes_two_pages() {
    let dir = TempDir::new();
    let (mut store, _) =
        Store::open(options(&dir, vec![lane(Class::Fsync)]), epochs(&number()), at(0)).unwrap();
    let frames = |store: &Store| schema::checkpoint(store.conn.as_ref().unwrap(), "NOOP").unwrap();
    put(&mut store, at(0), batch_of("app", 0..1, 200));
    let (before, mut sum) = (frames(&store), 0);
    for i in 1..400u64 {
        // As it is online: stored, sent, acknowledged.
        put(&mut store, at(i * 1000), batch_of("app", i..i + 1, 200));
        drain(&mut store, at(i * 1000 + 500));
        store.tick(at(i * 1000 + 500));
        sum = frames(&store) - before;
    }
    // A page of batches, and the counters'; the deletions cost nothing of their own.
    assert!(sum <= 400 * 2 + 40, "{sum} pages for 400 events");
    // Offline rows join: a page takes several.
    let batches = store.lanes[0].meta.batches;
    for i in 400..800u64 {
        put(&mut store, at(400_000 + i), batch_of("app", i..i + 1, 200));
    }
    assert!(store.lanes[0].meta.batches - batches <= 30);
}

#[test]
fn a_device_error_costs_a_connection_and_no_row() {
    for class in [Class::Fsync, Class::Delayed] {
        let dir = TempDir::new();
        let (mut store, _) = Store::open(options(&dir, vec![lane(class)]), epochs(&number()), at(0)).unwrap();
        let mut stored = Vec::new();
        for i in 0..60u64 {
            if i % 5 == 4 {
                // The next write fails as on a file system that went read-only.
                store.conn.as_ref().unwrap().execute_batch("PRAGMA query_only = ON").unwrap();
            }
            let mut verdict = store.append(at(i), &[("data".into(), batch(i..i + 1))]).remove(0);
            if verdict.is_err() {
                verdict = store.append(at(i), &[("data".into(), batch(i..i + 1))]).remove(0);
            }
            assert_eq!(verdict, Ok(()));
            stored.push(i);
            if i % 7 == 0 {
                store.tick(at(i) + 11 * SECOND);
            }
        }
        assert!(store.quarantined.is_empty());
        assert_eq!(drain(&mut store, at(100)).numbers(), stored, "{class:?}");
    }
}

#[test]
fn a_quarantine_that_was_cut_short_is_ended() {
    let dir = TempDir::new();
    let n = number();
    let (mut store, _) = Store::open(options(&dir, vec![lane(Class::Fsync)]), epochs(&n), at(0)).unwrap();
    put(&mut store, at(1), batch(0..5));
    store.close(at(2)).unwrap();
    let path = |name: &str| dir.path().join(name);
    // Before the names were changed: the half-made file goes.
    std::fs::write(path("buffer.db.new"), b"half").unwrap();
    let (store, _) = Store::open(options(&dir, vec![lane(Class::Fsync)]), epochs(&n), at(3)).unwrap();
    assert!(!path("buffer.db.new").exists());
    store.close(at(4)).unwrap();
    // Between the renames: the new one takes its name, the log of the damaged one is not read.
    std::fs::rename(path("buffer.db"), path("buffer.db.new")).unwrap();
    std::fs::write(path("buffer.db-wal"), [0x37; 5000]).unwrap();
    let (mut store, opened) =
        Store::open(options(&dir, vec![lane(Class::Fsync)]), epochs(&n), at(5)).unwrap();
    assert!(opened.quarantined.is_empty());
    assert_eq!(drain(&mut store, at(6)).numbers(), [0, 1, 2, 3, 4]);
}

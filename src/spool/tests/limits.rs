//! The limits, and what they cost: exactly what is reported.

use super::*;
use crate::source::Refused;

fn limited(policy: Policy, max_bytes: u64) -> LaneOptions {
    LaneOptions { policy, max_bytes, ..lane(Class::Fsync) }
}

fn lost(seen: &Seen) -> u64 {
    seen.losses.iter().map(|l| l.rows).sum()
}

#[test]
fn a_blocking_lane_says_busy_and_loses_nothing() {
    let dir = TempDir::new();
    let (mut store, _) =
        Store::open(options(&dir, vec![limited(Policy::Block, 20_000)]), epochs(&number()), at(0)).unwrap();
    let mut stored = 0;
    let refused = loop {
        let verdict =
            store.append(at(1), &[("data".into(), batch_of("app", stored..stored + 1, 1000))]).remove(0);
        match verdict {
            Ok(()) => stored += 1,
            Err(e) => break e,
        }
    };
    assert!(matches!(refused, Refused::Busy(_)));
    assert!(stored >= 15, "{stored}");
    // A small one behind a refused one does not overtake it.
    let both = [("data".into(), batch_of("app", stored..stored + 1, 1000)), ("data".into(), batch(99..100))];
    assert!(store.append(at(2), &both).iter().all(Result::is_err));
    let first = store.read(at(3), "data", None, 5000).unwrap();
    ack_all(&mut store, at(3), "data", &first);
    put(&mut store, at(4), batch_of("app", stored..stored + 1, 1000));
    let seen: Vec<u64> = [decode(&first).numbers(), drain(&mut store, at(5)).numbers()].concat();
    assert_eq!(seen, (0..=stored).collect::<Vec<_>>());
}

#[test]
fn drop_oldest_names_exactly_what_went_in_one_record() {
    let dir = TempDir::new();
    let n = number();
    let lanes = || vec![limited(Policy::DropOldest, 100_000)];
    let (mut store, _) = Store::open(options(&dir, lanes()), epochs(&n), at(0)).unwrap();
    for i in 0..2000u64 {
        put(&mut store, at(i), batch_of("app", i..i + 1, 500));
        assert!(store.lanes[0].meta.bytes <= 100_000);
    }
    let crashed = dir.crash();
    let (mut store, _) = Store::open(options(&crashed, lanes()), epochs(&n), at(3000)).unwrap();
    let seen = drain(&mut store, at(3001));
    let kept = seen.rows.len() as u64;
    assert_eq!(seen.numbers(), (2000 - kept..2000).collect::<Vec<_>>(), "the newest stay, in order");
    assert_eq!(seen.losses.len(), 1, "{:?}", seen.losses);
    let loss = &seen.losses[0];
    assert_eq!((&*loss.reason, loss.exact, loss.rows), ("max_bytes", true, 2000 - kept));
    assert_eq!(loss.from, 1);
    assert!(seen.rows.iter().all(|r| r.1 > loss.to), "nothing that is held is named");
}

#[test]
fn what_is_in_the_window_is_never_dropped() {
    let dir = TempDir::new();
    let (mut store, _) =
        Store::open(options(&dir, vec![limited(Policy::DropOldest, 50_000)]), epochs(&number()), at(0))
            .unwrap();
    for i in 0..10u64 {
        put(&mut store, at(i), batch_of("app", i..i + 1, 4000));
    }
    let window = store.read(at(20), "data", None, 12_000).unwrap();
    let held = decode(&window).set();
    for i in 10..50u64 {
        put(&mut store, at(i), batch_of("app", i..i + 1, 4000));
    }
    store.release("data").unwrap();
    let seen = drain(&mut store, at(60));
    assert!(held.is_subset(&seen.set()));
    assert_eq!(seen.rows.len() as u64 + lost(&seen), 50);
    assert!(seen.losses.iter().all(|l| l.exact && !seen.rows.iter().any(|r| (l.from..=l.to).contains(&r.1))));
    // Handed out once, given back, then dropped: it may have arrived, so the count is a bound.
    for i in 50..60u64 {
        put(&mut store, at(i), batch_of("app", i..i + 1, 4000));
    }
    store.read(at(70), "data", None, 1 << 20).unwrap();
    store.release("data").unwrap();
    for i in 60..90u64 {
        put(&mut store, at(i), batch_of("app", i..i + 1, 4000));
    }
    let seen = drain(&mut store, at(90));
    let exact: u64 = seen.losses.iter().filter(|l| l.exact).map(|l| l.rows).sum();
    assert_eq!((seen.rows.len() as u64 + lost(&seen), lost(&seen) - exact), (40, 10));
}

#[test]
fn an_age_limit_drops_what_is_older() {
    let dir = TempDir::new();
    let n = number();
    let aged = LaneOptions { max_age: Some(60 * SECOND), ..lane(Class::Fsync) };
    let (mut store, _) = Store::open(options(&dir, vec![aged.clone()]), epochs(&n), at(0)).unwrap();
    put(&mut store, at(0), batch_of("app", 0..1, 4000));
    put(&mut store, at(50_000), batch_of("app", 1..2, 4000));
    store.close(at(55_000)).unwrap();
    // Another boot, whose clock starts anew; its uptime counts.
    let o = Options { boot: 8, ..options(&dir, vec![aged]) };
    let (mut store, _) = Store::open(o, epochs(&n), Mono(8_000_000)).unwrap();
    store.tick(Mono(9_000_000));
    let seen = drain(&mut store, Mono(9_000_001));
    assert_eq!(seen.numbers(), [1]);
    assert_eq!((&*seen.losses[0].reason, seen.losses[0].rows), ("max_age", 1));
}

#[test]
fn the_whole_is_limited_at_the_cost_of_the_lightest_lane() {
    let dir = TempDir::new();
    let bulk = LaneOptions { policy: Policy::DropOldest, ..LaneOptions::new("bulk", Class::Fsync) };
    let alarms = LaneOptions { weight: 10, ..LaneOptions::new("alarms", Class::Fsync) };
    let o = Options { max_bytes: 100_000, ..options(&dir, vec![bulk, alarms]) };
    let (mut store, _) = Store::open(o, epochs(&number()), at(0)).unwrap();
    for i in 0..100u64 {
        let verdicts = store.append(at(i), &[("bulk".into(), batch_of("app", i..i + 1, 2000))]);
        assert_eq!(verdicts, [Ok(())]);
    }
    for i in 0..20u64 {
        let verdicts = store.append(at(i), &[("alarms".into(), batch_of("app", i..i + 1, 2000))]);
        assert_eq!(verdicts, [Ok(())], "an alarm does not wait behind readings");
    }
    let alarms = decode(&read_all(&mut store, at(200), "alarms"));
    assert_eq!((alarms.rows.len(), alarms.losses.len()), (20, 0));
    let bulk = decode(&read_all(&mut store, at(200), "bulk"));
    assert_eq!(bulk.rows.len() as u64 + lost(&bulk), 100);
    let held: u64 = store.lanes.iter().map(|l| l.meta.bytes).sum();
    assert!(held <= 100_000, "{held}");
}

#[test]
fn the_handle_waits_for_space_and_then_says_busy() {
    let dir = TempDir::new();
    let o = Options {
        block_wait: Duration::from_secs(600),
        ..options(&dir, vec![limited(Policy::Block, 10_000)])
    };
    let n = number();
    crate::runtime::block_on(async {
        let (spool, _) = Spool::start(o, epochs(&n)).unwrap();
        spool.store("data", batch_of("app", 0..1, 8000)).await.unwrap();
        let (a, b) = (spool.clone(), spool.clone());
        let second = crate::runtime::spawn(async move { a.store("data", batch_of("app", 1..2, 8000)).await });
        let third = crate::runtime::spawn(async move { b.store("data", batch(2..3)).await });
        let first = loop {
            let read = spool.read("data", None, 1 << 20).await.unwrap();
            if !read.is_empty() {
                break read;
            }
        };
        assert_eq!(decode(&first).numbers(), [0]);
        spool.ack("data", vec![first[0].id]).await.unwrap();
        second.await.unwrap();
        third.await.unwrap();
        let rest = spool.read("data", Some(first[0].id), 1 << 20).await.unwrap();
        assert_eq!(decode(&rest).numbers(), [1, 2], "in the order of the calls");
        spool.stop().await.unwrap();
    });
    let dir = TempDir::new();
    let o = Options { block_wait: Duration::ZERO, ..options(&dir, vec![limited(Policy::Block, 10_000)]) };
    let (store, _) = Store::open(o, epochs(&n), at(0)).unwrap();
    let (spool, mut local) = LocalSpool::new(store);
    let mut answers = Vec::new();
    for i in 0..3 {
        let spool = spool.clone();
        answers.push(Box::pin(async move { spool.store("data", batch_of("app", i..i + 1, 6000)).await }));
    }
    let mut done = Vec::new();
    for (i, mut answer) in answers.into_iter().enumerate() {
        // The command is sent by the first poll, executed by the simulation, answered to the second.
        assert_eq!(futures_lite::future::block_on(futures_lite::future::poll_once(&mut answer)), None);
        local.run(at(i as u64 * 100));
        local.run(at(i as u64 * 100 + 50));
        done.push(futures_lite::future::block_on(futures_lite::future::poll_once(&mut answer)).unwrap());
    }
    assert!(done[0].is_ok());
    assert!(done[1..].iter().all(|d| matches!(d, Err(Refused::Busy(_)))), "{done:?}");
}

#[test]
fn a_refused_batch_is_kept_aside_and_named() {
    let dir = TempDir::new();
    let (mut store, _) =
        Store::open(options(&dir, vec![lane(Class::Fsync)]), epochs(&number()), at(0)).unwrap();
    put(&mut store, at(1), batch_of("app", 0..3, 2000));
    put(&mut store, at(2), batch(3..4));
    let batches = read_all(&mut store, at(3), "data");
    store.set_aside(at(4), batches[0].id, "packet too large", true).unwrap();
    store.set_aside(at(4), batches[0].id, "again", true).unwrap();
    store.release("data").unwrap();
    let seen = drain(&mut store, at(5));
    assert_eq!(seen.numbers(), [3]);
    assert_eq!(seen.losses.len(), 1);
    let l = &seen.losses[0];
    assert_eq!((&*l.reason, l.exact, l.from, l.to, l.rows), ("refused", true, 1, 3, 3));
    let aside: (String, i64) = store
        .conn
        .as_ref()
        .unwrap()
        .query_row("SELECT reason, rows FROM aside", [], |r| Ok((r.get(0)?, r.get(1)?)))
        .unwrap();
    assert_eq!(aside, ("packet too large".into(), 3));
}

#[test]
fn shapes_go_when_no_batch_refers_to_them() {
    use crate::event::{Column, Image, Table, TableKind, Type};
    let dir = TempDir::new();
    let (mut store, _) =
        Store::open(options(&dir, vec![lane(Class::Fsync)]), epochs(&number()), at(0)).unwrap();
    for version in 0..100u32 {
        let columns = vec![Column::new("id", Type::I64)];
        let table = Table { kind: TableKind::Table, db: "app".into(), name: "t".into(), version, columns };
        let mut b = BatchBuilder::new("app".into());
        let values = [Value::Int(1)];
        b.push(Op::Insert, 1, &Arc::new(table), None, Some(Image::full(&values))).unwrap();
        put(&mut store, at(1), b.finish());
    }
    let batches = read_all(&mut store, at(2), "data");
    let (old, new) = batches.split_at(batches.len() - 1);
    ack_all(&mut store, at(3), "data", old);
    store.delete_acked(at(3));
    let shapes = |store: &Store| -> i64 {
        store.conn.as_ref().unwrap().query_row("SELECT count(*) FROM schema", [], |r| r.get(0)).unwrap()
    };
    assert_eq!(shapes(&store), 100);
    store.tick(at(20_000));
    let held: BTreeSet<u64> = new.iter().flat_map(|b| &b.tables).map(|t| t.hash()).collect();
    assert_eq!(shapes(&store), held.len() as i64);
    store.release("data").unwrap();
    assert_eq!(read_all(&mut store, at(20_001), "data").len(), 1, "what is held can be read");
}

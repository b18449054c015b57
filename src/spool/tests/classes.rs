//! What each durability class promises, and what a power cut costs it.

use super::*;
use crate::source::Refused;

fn on_disk(store: &Store) -> u64 {
    store.lanes[0].meta.batches
}

#[test]
fn a_delayed_lane_is_on_disk_within_its_interval() {
    let dir = TempDir::new();
    let n = number();
    let (mut store, _) = Store::open(options(&dir, vec![lane(Class::Delayed)]), epochs(&n), at(0)).unwrap();
    put(&mut store, at(1), batch(0..3));
    assert_eq!(on_disk(&store), 0);
    assert!(store.poll_timeout() <= at(10_001));
    store.tick(at(10_001));
    assert_eq!(on_disk(&store), 1);
    let crashed = dir.crash();
    let (mut store, _) =
        Store::open(options(&crashed, vec![lane(Class::Delayed)]), epochs(&n), at(10_002)).unwrap();
    assert_eq!(drain(&mut store, at(10_003)).numbers(), [0, 1, 2]);
}

#[test]
fn a_power_cut_of_a_delayed_lane_is_named_as_an_upper_bound() {
    let dir = TempDir::new();
    let n = number();
    let (mut store, _) = Store::open(options(&dir, vec![lane(Class::Delayed)]), epochs(&n), at(0)).unwrap();
    put(&mut store, at(1), batch(0..3));
    let epoch = store.lanes[0].meta.era().unwrap().epoch;
    let crashed = dir.crash();
    let (mut store, _) =
        Store::open(options(&crashed, vec![lane(Class::Delayed)]), epochs(&n), at(2)).unwrap();
    put(&mut store, at(3), batch(3..4));
    let seen = drain(&mut store, at(4));
    assert_eq!(seen.numbers(), [3]);
    assert_eq!(seen.losses.len(), 1);
    let loss = &seen.losses[0];
    assert_eq!((loss.epoch, loss.from, &*loss.reason, loss.exact), (epoch, 1, "power", false));
    assert!(loss.rows >= 3 && loss.to == loss.from + loss.rows - 1);
    assert!(seen.rows[0].1 > loss.to, "no number is used twice");
}

#[test]
fn an_idle_lane_has_nothing_to_lose() {
    let dir = TempDir::new();
    let n = number();
    let (mut store, _) = Store::open(options(&dir, vec![lane(Class::Delayed)]), epochs(&n), at(0)).unwrap();
    put(&mut store, at(1), batch(0..3));
    store.tick(at(10_001));
    store.tick(at(25_000));
    let crashed = dir.crash();
    let (mut store, opened) =
        Store::open(options(&crashed, vec![lane(Class::Delayed)]), epochs(&n), at(25_001)).unwrap();
    assert!(opened.unclean);
    assert!(drain(&mut store, at(25_002)).losses.is_empty());
}

#[test]
fn a_clean_end_loses_nothing_of_any_class() {
    for class in [Class::Fsync, Class::Delayed, Class::Ram] {
        let dir = TempDir::new();
        let n = number();
        let (mut store, _) = Store::open(options(&dir, vec![lane(class)]), epochs(&n), at(0)).unwrap();
        store.link_up(at(0), true);
        for i in 0..20 {
            put(&mut store, at(i), batch(i..i + 1));
        }
        store.close(at(21)).unwrap();
        let (mut store, opened) = Store::open(options(&dir, vec![lane(class)]), epochs(&n), at(22)).unwrap();
        assert!(!opened.unclean);
        let seen = drain(&mut store, at(23));
        assert_eq!(seen.numbers(), (0..20).collect::<Vec<_>>());
        assert!(seen.losses.is_empty(), "{class:?}: {:?}", seen.losses);
    }
}

#[test]
fn a_ram_lane_stays_off_the_disk_while_the_link_is_up() {
    let dir = TempDir::new();
    let n = number();
    let (mut store, _) = Store::open(options(&dir, vec![lane(Class::Ram)]), epochs(&n), at(0)).unwrap();
    store.link_up(at(0), true);
    let txn = store.meta.txn;
    for i in 0..500u64 {
        put(&mut store, at(i * 100), batch(i..i + 1));
        assert_eq!(drain(&mut store, at(i * 100 + 50)).numbers(), [i]);
        store.tick(at(i * 100 + 60));
    }
    assert_eq!(store.lanes[0].meta.disk_n, 0);
    assert!(store.meta.txn - txn <= 4, "only numbers are reserved: {}", store.meta.txn - txn);
    // The link goes: what is not acknowledged goes to disk.
    put(&mut store, at(60_000), batch(500..503));
    store.link_up(at(60_001), false);
    assert_eq!(on_disk(&store), 1);
    // While it is down, as a delayed lane.
    put(&mut store, at(60_002), batch(503..504));
    store.tick(at(70_002));
    assert_eq!(on_disk(&store), 2);
    store.link_up(at(70_003), true);
    put(&mut store, at(70_004), batch(504..505));
    let batches = read_all(&mut store, at(70_005), "data");
    assert_eq!(decode(&batches).numbers(), [500, 501, 502, 503, 504], "disk first, then memory");
    assert_eq!(batches[0].base, 501);
    assert_eq!(batches.iter().map(|b| b.base).collect::<BTreeSet<_>>().len(), 1);
}

#[test]
fn a_ram_lane_starts_a_new_epoch_and_names_what_a_power_cut_took() {
    let dir = TempDir::new();
    let n = number();
    let (mut store, _) = Store::open(options(&dir, vec![lane(Class::Ram)]), epochs(&n), at(0)).unwrap();
    store.link_up(at(0), true);
    put(&mut store, at(1), batch(0..5));
    let first = drain(&mut store, at(2));
    put(&mut store, at(3), batch(5..8));
    let crashed = dir.crash();
    let (mut store, _) = Store::open(options(&crashed, vec![lane(Class::Ram)]), epochs(&n), at(4)).unwrap();
    put(&mut store, at(5), batch(8..9));
    let seen = drain(&mut store, at(6));
    assert_eq!(seen.numbers(), [8]);
    assert!(seen.rows[0].0 > first.rows[0].0, "a new epoch");
    let loss = &seen.losses[0];
    assert_eq!((loss.epoch, loss.exact), (first.rows[0].0, false));
    assert!(loss.from <= 6 && loss.to >= 8);
}

#[test]
fn memory_at_its_mark_goes_to_disk() {
    let dir = TempDir::new();
    let o = Options { memory_bytes: 64 << 10, ..options(&dir, vec![lane(Class::Ram)]) };
    let (mut store, _) = Store::open(o, epochs(&number()), at(0)).unwrap();
    store.link_up(at(0), true);
    for i in 0..1000u64 {
        put(&mut store, at(i), batch_of("app", i..i + 1, 200));
        assert!(store.memory() <= 65 << 10, "{}", store.memory());
    }
    assert!(on_disk(&store) > 0);
    assert_eq!(drain(&mut store, at(2000)).numbers(), (0..1000).collect::<Vec<_>>());
    assert_eq!(store.memory(), 0);
}

#[test]
fn a_position_is_never_ahead_of_its_rows() {
    let dir = TempDir::new();
    let n = number();
    let with = |i: u64| {
        let mut b = batch(i..i + 1);
        b.positions.push(("offset".into(), i.to_string().as_bytes().into()));
        b
    };
    let stored = |dir: &TempDir| {
        let crashed = dir.crash();
        let (mut store, opened) =
            Store::open(options(&crashed, vec![lane(Class::Ram)]), epochs(&n), at(9)).unwrap();
        let position = opened.positions.first().map(|p| String::from_utf8(p.2.to_vec()).unwrap());
        (position, drain(&mut store, at(9)).numbers())
    };
    let (mut store, _) = Store::open(options(&dir, vec![lane(Class::Ram)]), epochs(&n), at(0)).unwrap();
    store.link_up(at(0), true);
    put(&mut store, at(1), with(0));
    assert_eq!(stored(&dir), (None, vec![]));
    let batches = read_all(&mut store, at(2), "data");
    put(&mut store, at(2), with(1));
    ack_all(&mut store, at(3), "data", &batches);
    store.delete_acked(at(3));
    assert_eq!(stored(&dir), (Some("0".into()), vec![]), "the centre has row 0; row 1 is in memory");
    store.sync(at(4)).unwrap();
    assert_eq!(stored(&dir), (Some("1".into()), vec![1]));
}

#[test]
fn acknowledged_rows_wait_for_company_before_they_are_deleted() {
    let dir = TempDir::new();
    let (mut store, _) =
        Store::open(options(&dir, vec![lane(Class::Fsync)]), epochs(&number()), at(0)).unwrap();
    put(&mut store, at(1), batch(0..3));
    let txn = store.meta.txn;
    drain(&mut store, at(2));
    assert_eq!((store.meta.txn, on_disk(&store)), (txn, 1));
    assert_eq!(store.stats(at(2)).lanes[0].rows, 0, "and yet it is gone");
    put(&mut store, at(3), batch(3..4));
    assert_eq!((store.meta.txn, on_disk(&store)), (txn + 1, 1), "deleted by the next append");
    drain(&mut store, at(4));
    store.tick(at(5_005));
    assert_eq!((store.meta.txn, on_disk(&store)), (txn + 2, 0), "or after a while");
}

#[test]
fn a_lane_without_memory_left_and_without_disk_says_busy() {
    let dir = TempDir::new();
    let o = Options { memory_bytes: 16 << 10, ..options(&dir, vec![lane(Class::Ram)]) };
    let (mut store, _) = Store::open(o, epochs(&number()), at(0)).unwrap();
    store.link_up(at(0), true);
    put(&mut store, at(0), batch(0..1));
    full::fill_disk(&store);
    let mut taken = 1;
    let refused = (1..1000).find_map(|i| {
        let verdict = store.append(at(i), &[("data".into(), batch_of("app", i..i + 1, 100))]).remove(0);
        taken += u64::from(verdict.is_ok());
        verdict.err()
    });
    assert!(matches!(refused, Some(Refused::Busy(_))), "{refused:?}");
    assert!(store.memory() < 20 << 10);
    full::empty_disk(&store);
    store.tick(at(20_000));
    put(&mut store, at(20_001), batch(taken..taken + 1));
    assert_eq!(drain(&mut store, at(20_002)).numbers(), (0..=taken).collect::<Vec<_>>());
}

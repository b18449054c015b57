//! Damaged files: quarantine or correct, never a panic, never an event that was not made, and never a
//! silent loss.

use super::*;

const ROWS: u64 = 150;

/// Epochs come from outside the damaged file.
fn later() -> Arc<AtomicU32> {
    Arc::new(AtomicU32::new(100))
}

/// A closed store with rows of several sizes.
fn make(dir: &TempDir, n: &Arc<AtomicU32>) {
    let o = Options { max_body_bytes: 6000, ..options(dir, vec![lane(Class::Fsync)]) };
    let (mut store, _) = Store::open(o, epochs(n), at(0)).unwrap();
    for i in (0..ROWS).step_by(10) {
        let mut b = batch_of("app", i..i + 10, if i % 30 == 0 { 400 } else { 20 });
        b.positions.push(("offset".into(), i.to_string().as_bytes().into()));
        put(&mut store, at(i), b);
    }
    store.close(at(ROWS)).unwrap();
}

/// What a store that may be damaged gives, held against what was put in.
fn check(dir: &TempDir, n: &Arc<AtomicU32>, what: &str) -> (usize, bool) {
    let o = Options { max_body_bytes: 6000, ..options(dir, vec![lane(Class::Fsync)]) };
    let (mut store, _) = match Store::open(o, epochs(n), at(1000)) {
        Ok(opened) => opened,
        // A min_reader that is damaged has a wrong checksum, so no other error can be.
        Err(e) => panic!("{what}: {e}"),
    };
    let mut seen = drain(&mut store, at(1001));
    put(&mut store, at(1002), batch(ROWS..ROWS + 1));
    let rest = drain(&mut store, at(1003));
    seen.rows.extend(rest.rows);
    seen.losses.extend(rest.losses);
    let quarantined = !store.quarantined.is_empty();
    let set = seen.set();
    assert!(set.contains(&ROWS), "{what}: a fresh event passes");
    let missing: Vec<u64> = (0..ROWS).filter(|n| !set.contains(n)).collect();
    let lost: u64 = seen.losses.iter().map(|l| l.rows).sum();
    assert!(missing.len() as u64 <= lost, "{what}: {} rows missing, {lost} named", missing.len());
    assert!(missing.is_empty() || quarantined, "{what}");
    // Ids: of the old epoch as they were made.
    for (epoch, seq, number) in &seen.rows {
        if *epoch >> 32 == 1 {
            assert_eq!(*seq, number + 1, "{what}: another row under an old id");
        }
    }
    for number in &missing {
        let named = |l: &Loss| (l.from..=l.to).contains(&(number + 1)) || l.epoch >> 32 != 1;
        assert!(seen.losses.iter().any(named), "{what}: row {number} is not named: {:?}", seen.losses);
    }
    (missing.len(), quarantined)
}

#[test]
fn every_64th_byte() {
    let dir = TempDir::new();
    let n = number();
    make(&dir, &n);
    let file = dir.path().join("buffer.db");
    let whole = std::fs::read(&file).unwrap();
    let (mut quarantined, mut lost) = (0, 0);
    for place in (0..whole.len()).step_by(64) {
        let copy = TempDir::new();
        let mut bytes = whole.clone();
        bytes[place] ^= 0x15;
        std::fs::write(copy.path().join("buffer.db"), bytes).unwrap();
        let (missing, was) = check(&copy, &later(), &format!("byte {place} of {}", whole.len()));
        quarantined += usize::from(was);
        lost += missing;
    }
    assert!(quarantined > 0, "the damage was seen");
    assert!(lost > 0, "and cost something");
    println!("{} places, {quarantined} quarantined, {lost} rows lost", whole.len().div_ceil(64));
}

#[test]
fn whole_pages() {
    let dir = TempDir::new();
    make(&dir, &number());
    let whole = std::fs::read(dir.path().join("buffer.db")).unwrap();
    for page in 0..whole.len() / 4096 {
        for fill in [Some(0), Some(0xff), None] {
            let copy = TempDir::new();
            let mut bytes = whole.clone();
            match fill {
                Some(fill) => bytes[page * 4096..(page + 1) * 4096].fill(fill),
                // Another page in its place.
                None => bytes.copy_within(4096..8192, page * 4096),
            }
            if bytes == whole {
                continue;
            }
            std::fs::write(copy.path().join("buffer.db"), bytes).unwrap();
            check(&copy, &later(), &format!("page {page} filled with {fill:?}"));
        }
    }
}

#[test]
fn cut_files() {
    let dir = TempDir::new();
    make(&dir, &number());
    let whole = std::fs::read(dir.path().join("buffer.db")).unwrap();
    for len in (100..whole.len()).step_by(2048) {
        let copy = TempDir::new();
        std::fs::write(copy.path().join("buffer.db"), &whole[..len]).unwrap();
        check(&copy, &later(), &format!("cut at {len}"));
    }
}

#[test]
fn damage_is_found_while_it_runs_and_the_file_is_kept_for_people() {
    let dir = TempDir::new();
    let n = number();
    make(&dir, &n);
    let o = Options { max_body_bytes: 6000, ..options(&dir, vec![lane(Class::Fsync)]) };
    let (mut store, opened) = Store::open(o.clone(), epochs(&n), at(1000)).unwrap();
    assert!(opened.quarantined.is_empty());
    let epoch = store.lanes[0].meta.era().unwrap().epoch;
    // Under the feet of the open store.
    let file = dir.path().join("buffer.db");
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 5000].fill(0xaa);
    std::fs::write(&file, &bytes).unwrap();
    let seen = drain(&mut store, at(1001));
    put(&mut store, at(1002), batch(ROWS..ROWS + 1));
    let rest = drain(&mut store, at(1003));
    assert_eq!(store.quarantined, ["buffer.db.corrupt-1"]);
    assert!(dir.path().join("buffer.db.corrupt-1").exists());
    assert!(rest.rows.iter().all(|r| r.0 > epoch), "a new epoch: {rest:?}");
    let numbers: BTreeSet<u64> = seen.set().union(&rest.set()).copied().collect();
    let lost: u64 = seen.losses.iter().chain(&rest.losses).map(|l| l.rows).sum();
    assert_eq!(numbers.len() as u64 + lost, ROWS + 1, "exact, since the counters were known");
    assert!(seen.losses.iter().chain(&rest.losses).all(|l| l.exact && &*l.reason == "corrupt"));
    assert_eq!(store.stats(at(1004)).quarantined, 1);
    store.close(at(1005)).unwrap();
    let (_, opened) = Store::open(o, epochs(&n), at(1006)).unwrap();
    assert_eq!(opened.positions.len(), 1, "positions were salvaged");
}

#[test]
fn no_database_at_all() {
    for content in [&b"garbage"[..], &[0; 8192], &[0xff; 100_000]] {
        let dir = TempDir::new();
        std::fs::write(dir.path().join("buffer.db"), content).unwrap();
        let (mut store, opened) =
            Store::open(options(&dir, vec![lane(Class::Fsync)]), epochs(&number()), at(0)).unwrap();
        assert_eq!(opened.quarantined.len(), 1);
        put(&mut store, at(1), batch(0..1));
        let seen = drain(&mut store, at(2));
        assert_eq!(seen.numbers(), [0]);
        assert!(seen.losses.iter().all(|l| !l.exact && &*l.reason == "corrupt") && !seen.losses.is_empty());
    }
}

#[test]
fn verify_says_what_is_wrong_first() {
    let dir = TempDir::new();
    make(&dir, &number());
    let good = Inspector::open(dir.path(), "dev1").unwrap();
    let verified = good.verify().unwrap();
    assert_eq!((verified.rows, &verified.first_bad), (ROWS, &None));
    let exported: Vec<StoredBatch> = good.export().map(Result::unwrap).collect();
    assert_eq!(decode(&exported).numbers(), (0..ROWS).collect::<Vec<_>>());
    assert_eq!(good.batches().map(|b| b.unwrap().rows).sum::<u32>(), ROWS as u32);
    drop(good);
    let file = dir.path().join("buffer.db");
    let mut bytes = std::fs::read(&file).unwrap();
    let half = bytes.len() / 2;
    bytes[half..].iter_mut().filter(|b| **b == b'x').for_each(|b| *b = b'y');
    std::fs::write(&file, &bytes).unwrap();
    let bad = Inspector::open(dir.path(), "dev1").unwrap();
    let verified = bad.verify().unwrap();
    assert!(verified.first_bad.as_ref().is_some_and(|w| w.contains("checksum")), "{verified:?}");
    assert!(bad.export().any(|b| b.is_err()));
}

/// SQLite takes an empty file for a new one: what it held would be lost unnamed. The fuzz target `spool` found it.
#[test]
fn an_emptied_file_is_no_new_one() {
    let dir = TempDir::new();
    let n = number();
    let (mut store, opened) =
        Store::open(options(&dir, vec![lane(Class::Fsync)]), epochs(&n), at(0)).unwrap();
    assert!(opened.quarantined.is_empty(), "a new one is");
    put(&mut store, at(1), batch(0..20));
    store.close(at(2)).unwrap();
    std::fs::write(dir.path().join("buffer.db"), b"").unwrap();
    let (mut store, opened) =
        Store::open(options(&dir, vec![lane(Class::Fsync)]), epochs(&n), at(3)).unwrap();
    assert_eq!(opened.quarantined.len(), 1);
    let seen = drain(&mut store, at(4));
    let named: u64 = seen.losses.iter().map(|l| l.rows).sum();
    assert!(named >= 20 && seen.losses.iter().all(|l| !l.exact), "{:?}", seen.losses);
}

/// SQLite takes a file of fewer than 512 bytes for a new one, too. The fuzz target `spool` found it.
#[test]
fn a_file_cut_within_its_first_sector_is_no_new_one() {
    for (len, logged) in
        [1, 15, 16, 99, 100, 101, 511].into_iter().flat_map(|len| [(len, false), (len, true)])
    {
        let dir = TempDir::new();
        let n = number();
        let (mut store, _) = Store::open(options(&dir, vec![lane(Class::Fsync)]), epochs(&n), at(0)).unwrap();
        put(&mut store, at(1), batch(0..20));
        let log = std::fs::read(dir.path().join("buffer.db-wal")).unwrap();
        store.close(at(2)).unwrap();
        let file = dir.path().join("buffer.db");
        let bytes = std::fs::read(&file).unwrap();
        std::fs::write(&file, &bytes[..len]).unwrap();
        if logged {
            // Of a log that ends within its first frame, nothing counts.
            std::fs::write(dir.path().join("buffer.db-wal"), &log[..1000]).unwrap();
        }
        let (mut store, opened) =
            Store::open(options(&dir, vec![lane(Class::Fsync)]), epochs(&n), at(3)).unwrap();
        assert_eq!(opened.quarantined.len(), 1, "{len} bytes, a log: {logged}");
        let seen = drain(&mut store, at(4));
        let named: u64 = seen.losses.iter().map(|l| l.rows).sum();
        assert!(named >= 20 && seen.losses.iter().all(|l| !l.exact), "{len} bytes: {:?}", seen.losses);
    }
}

/// A b-tree that shows fewer batches than are counted, seen by reads of which none is from the front to the end.
#[test]
fn batches_missing_from_a_tree_are_noticed_at_its_end() {
    let dir = TempDir::new();
    let (mut store, _) =
        Store::open(options(&dir, vec![lane(Class::Fsync)]), epochs(&number()), at(0)).unwrap();
    for i in 0..20 {
        put(&mut store, at(i), batch_of("app", i..i + 1, 4000));
    }
    let conn = store.conn.as_ref().unwrap();
    assert_eq!(conn.execute("DELETE FROM batch WHERE last_seq BETWEEN 4 AND 6", []).unwrap(), 3);
    let mut seen = Vec::new();
    let mut after = None;
    loop {
        let some = store.read(at(30), "data", after, 8_000).unwrap();
        let Some(last) = some.last() else { break };
        after = Some(last.id);
        seen.extend(some);
    }
    let seen = decode(&seen);
    assert_eq!(seen.numbers(), (0..20).filter(|n| !(3..6).contains(n)).collect::<Vec<_>>());
    let losses: Vec<_> = seen.losses.iter().map(|l| (l.from, l.to, l.rows, l.exact)).collect();
    assert_eq!(losses, [(4, 6, 3, true)]);
    // Released and read from the middle: nothing is missing, and nothing is suspected.
    store.release("data").unwrap();
    store.read(at(31), "data", after, 8_000).unwrap();
    assert_eq!(store.quarantined.len(), 1);
}

/// As a damaged page may show it.
#[test]
fn batches_of_a_lane_without_counters_are_kept_and_their_numbers_not_given_again() {
    let dir = TempDir::new();
    let n = number();
    let o = || options(&dir, vec![lane(Class::Fsync)]);
    let (mut store, _) = Store::open(o(), epochs(&n), at(0)).unwrap();
    put(&mut store, at(1), batch(0..20));
    store.close(at(2)).unwrap();
    let conn = rusqlite::Connection::open(dir.path().join("buffer.db")).unwrap();
    assert_eq!(conn.execute("DELETE FROM meta WHERE key IN ('store', 'lane/data')", []).unwrap(), 2);
    conn.close().unwrap();
    let (mut store, opened) = Store::open(o(), epochs(&n), at(3)).unwrap();
    assert_eq!(opened.quarantined.len(), 1);
    put(&mut store, at(4), batch(20..21));
    let seen = drain(&mut store, at(5));
    assert_eq!(seen.numbers(), (0..21).collect::<Vec<_>>());
    assert_ne!(seen.rows[0].0, seen.rows[20].0, "another epoch");
}

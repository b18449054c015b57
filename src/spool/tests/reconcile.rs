//! The centre's word, believed where it fits.

use super::*;

fn view(marks: &[(u64, u64, u32)], epoch_number: u32) -> CentreView {
    CentreView { marks: marks.to_vec(), epoch_number, ..CentreView::default() }
}

/// Twenty rows in batches of their own.
fn filled(dir: &TempDir, n: &Arc<AtomicU32>, lane: LaneOptions) -> (Store, Vec<StoredBatch>) {
    let (mut store, _) = Store::open(options(dir, vec![lane]), epochs(n), at(0)).unwrap();
    for i in 0..20 {
        put(&mut store, at(i), batch_of("app", i..i + 1, 4000));
    }
    let batches = read_all(&mut store, at(30), "data");
    assert_eq!(batches.len(), 20);
    (store, batches)
}

#[test]
fn what_is_durable_there_is_dropped() {
    let dir = TempDir::new();
    let (mut store, b) = filled(&dir, &number(), lane(Class::Fsync));
    let done = store.reconcile(at(40), "data", &view(&[(b[0].epoch, 7, b[6].crc)], 1)).unwrap();
    assert_eq!(done, Reconciled { dropped_rows: 7, ..Reconciled::default() });
    let batches = read_all(&mut store, at(41), "data");
    assert_eq!(decode(&batches).numbers(), (7..20).collect::<Vec<_>>());
    assert_eq!(batches[0].base, 8);
    // Again the same: nothing to do. A crc that nobody knows: neither.
    let done = store.reconcile(at(42), "data", &view(&[(b[0].epoch, 7, 99)], 1)).unwrap();
    assert_eq!(done, Reconciled::default());
}

#[test]
fn a_mark_beyond_what_was_issued_is_a_fork() {
    let dir = TempDir::new();
    let n = number();
    let (mut store, b) = filled(&dir, &n, lane(Class::Fsync));
    let done = store.reconcile(at(40), "data", &view(&[(b[0].epoch, 21, 0)], 5)).unwrap();
    assert_eq!(done.forked, [b[0].epoch]);
    assert_eq!((done.dropped_rows, done.restamped.len()), (0, 1));
    put(&mut store, at(41), batch(20..21));
    let batches = read_all(&mut store, at(42), "data");
    let seen = decode(&batches);
    assert_eq!(seen.numbers(), (0..21).collect::<Vec<_>>(), "all of it goes out again");
    assert!(seen.rows.iter().all(|r| r.0 >> 32 == 6), "under a number above the centre's");
    assert_eq!(seen.rows.iter().map(|r| r.1).collect::<Vec<_>>(), (1..22).collect::<Vec<_>>());
    // The new name survives a restart.
    let crashed = dir.crash();
    let (mut store, _) =
        Store::open(options(&crashed, vec![lane(Class::Fsync)]), epochs(&n), at(50)).unwrap();
    assert_eq!(drain(&mut store, at(51)), seen);
}

#[test]
fn another_body_under_one_number_is_a_fork() {
    let dir = TempDir::new();
    let (mut store, b) = filled(&dir, &number(), lane(Class::Fsync));
    let done = store.reconcile(at(40), "data", &view(&[(b[0].epoch, 7, b[6].crc ^ 1)], 1)).unwrap();
    assert_eq!((done.forked.len(), done.dropped_rows), (1, 0));
    assert_eq!(drain(&mut store, at(41)).rows.len(), 20);
}

/// A copy of this buffer wrote on under the same numbers: what was never handed out here cannot be there, though nothing is
/// known of the body at the mark.
#[test]
fn a_mark_over_what_was_never_handed_out_is_a_fork() {
    let dir = TempDir::new();
    let (mut store, _) =
        Store::open(options(&dir, vec![lane(Class::Fsync)]), epochs(&number()), at(0)).unwrap();
    for i in 0..10 {
        put(&mut store, at(i), batch_of("app", i..i + 1, 4000));
    }
    let epoch = read_all(&mut store, at(30), "data")[0].epoch;
    for i in 10..20 {
        put(&mut store, at(i), batch_of("app", i..i + 1, 4000));
    }
    let done = store.reconcile(at(40), "data", &view(&[(epoch, 10, 0)], 1)).unwrap();
    assert_eq!((done.forked.len(), done.dropped_rows), (0, 10));
    let done = store.reconcile(at(41), "data", &view(&[(epoch, 15, 0)], 1)).unwrap();
    assert_eq!((done.forked.len(), done.dropped_rows), (1, 0));
    assert_eq!(drain(&mut store, at(42)).rows.len(), 10);
}

/// A copy of this buffer wrote on under the same numbers, and here all up to the mark was evicted: what is left says nothing of
/// it, but how far rows were handed out does. Before, what was acknowledged here was taken for delivered (seed 362).
#[test]
fn a_mark_over_what_was_evicted_and_never_handed_out_is_a_fork() {
    let dir = TempDir::new();
    let n = number();
    let small = || LaneOptions { policy: Policy::DropOldest, max_bytes: 400_000, ..lane(Class::Fsync) };
    let (mut store, _) = Store::open(options(&dir, vec![small()]), epochs(&n), at(0)).unwrap();
    let ten = |store: &mut Store, i: u64| put(store, at(i), batch_of("app", i * 10..i * 10 + 10, 400));
    (0..10).for_each(|i| ten(&mut store, i));
    let epoch = read_all(&mut store, at(20), "data")[0].epoch;
    store.sync(at(21)).unwrap();
    ten(&mut store, 10);
    // The image.
    let dir = dir.crash();
    let (mut store, _) = Store::open(options(&dir, vec![small()]), epochs(&n), at(30)).unwrap();
    (11..140).for_each(|i| ten(&mut store, i));
    let again = dir.crash();
    let look = |store: &mut Store, mark| {
        store.reconcile(at(600), "data", &view(&[(epoch, mark, 0)], 1)).unwrap().forked.len()
    };
    assert_eq!(look(&mut store, 100), 0, "what stood in the image");
    drop(store);
    // The other copy went on. This one's process may have been killed since.
    let (mut store, _) = Store::open(options(&again, vec![small()]), epochs(&n), at(550)).unwrap();
    assert_eq!(look(&mut store, 400), 1);
    let rows = drain(&mut store, at(601)).rows;
    assert!(rows.iter().all(|r| r.0 != epoch && r.1 > 400), "{:?} goes out under a new one", rows.first());
}

/// Of a buffer that says nothing of how far it was handed out (an earlier release wrote it) every number may have been.
#[test]
fn a_mark_is_believed_where_it_is_not_known_what_was_handed_out() {
    let dir = TempDir::new();
    let n = number();
    let (mut store, b) = filled(&dir, &n, lane(Class::Fsync));
    ack_all(&mut store, at(31), "data", &b);
    store.lanes[0].meta.handed_to = None;
    store.lanes[0].handed_to = None;
    put(&mut store, at(32), batch(20..21));
    let again = dir.crash();
    let (mut store, _) = Store::open(options(&again, vec![lane(Class::Fsync)]), epochs(&n), at(40)).unwrap();
    let done = store.reconcile(at(41), "data", &view(&[(b[0].epoch, 20, 0)], 1)).unwrap();
    assert_eq!(done.forked.len(), 0);
}

/// A centre that takes less than a batch gets it in parts, and its mark has a part's crc: it is compared all the same. Before,
/// what a cloned image held was taken for delivered there.
#[test]
fn a_mark_within_a_batch_is_a_fork_unless_a_part_of_it_ended_there() {
    let dir = TempDir::new();
    let (mut store, _) =
        Store::open(options(&dir, vec![lane(Class::Fsync)]), epochs(&number()), at(0)).unwrap();
    put(&mut store, at(1), batch_of("app", 0..10, 20));
    let whole = read_all(&mut store, at(2), "data").remove(0);
    let crc_of = |from: u64, to: u64| {
        let mut builder = BatchBuilder::new("app".into());
        let (_, mut records) = crate::event::batch::split_body(&whole.body).unwrap();
        for n in 0..whole.last_seq {
            let row = crate::event::RowView::take(&mut records, &whole.tables).unwrap();
            if (from..=to).contains(&(n + whole.first_seq)) {
                builder.push_row_at(&row, n + whole.first_seq - from).unwrap();
            }
        }
        crc32c::crc32c(&builder.finish().body)
    };
    let mut fits = |seq, crc| {
        let view = CentreView { parts: true, ..view(&[(whole.epoch, seq, crc)], 1) };
        store.reconcile(at(3), "data", &view).unwrap().forked.is_empty()
    };
    for from in 1..=7 {
        assert!(fits(7, crc_of(from, 7)), "rows {from} to 7");
    }
    assert!(fits(7, 0), "a crc that is not known says nothing");
    // As the last part, and as another body.
    assert!(fits(9, crc_of(8, 9)));
    assert!(!fits(7, crc_of(1, 6)));
}

#[test]
fn an_epoch_that_the_centre_never_saw_stays_above_what_it_knows() {
    let dir = TempDir::new();
    let (mut store, b) = filled(&dir, &number(), lane(Class::Fsync));
    let done = store.reconcile(at(40), "data", &view(&[], 1)).unwrap();
    assert_eq!(done, Reconciled::default(), "its number is not below");
    let done = store.reconcile(at(40), "data", &view(&[(77 << 32, 5, 0)], 77)).unwrap();
    assert_eq!(done.restamped.len(), 1);
    assert_eq!(done.restamped[0].0, b[0].epoch);
    let seen = drain(&mut store, at(41));
    assert!(seen.rows.iter().all(|r| r.0 >> 32 == 78));
    assert_eq!(seen.rows.len(), 20);
}

#[test]
fn later_epochs_stay_above_a_renamed_one() {
    let dir = TempDir::new();
    let n = number();
    let (mut store, _) = Store::open(options(&dir, vec![lane(Class::Ram)]), epochs(&n), at(0)).unwrap();
    put(&mut store, at(1), batch(0..3));
    store.close(at(2)).unwrap();
    let (mut store, _) = Store::open(options(&dir, vec![lane(Class::Ram)]), epochs(&n), at(3)).unwrap();
    put(&mut store, at(4), batch(3..6));
    let seen = decode(&read_all(&mut store, at(5), "data"));
    let (one, two) = (seen.rows[0].0, seen.rows[5].0);
    assert!(one < two);
    // A fork of the first, while the second fits.
    let done =
        store.reconcile(at(6), "data", &view(&[(one, 99, 0), (two, 1, 0)], (two >> 32) as u32)).unwrap();
    assert_eq!(done.forked, [one, two], "a mark within a batch does not fit either");
    let seen = decode(&read_all(&mut store, at(7), "data"));
    assert_eq!(seen.numbers(), [0, 1, 2, 3, 4, 5]);
    let epochs: Vec<u64> = seen.rows.iter().map(|r| r.0).collect();
    assert!(
        epochs.windows(2).all(|w| w[0] <= w[1]) && epochs[0] > two && epochs[0] < epochs[5],
        "{epochs:x?}"
    );
}

#[test]
fn memory_is_reconciled_too() {
    let dir = TempDir::new();
    let (mut store, _) =
        Store::open(options(&dir, vec![lane(Class::Ram)]), epochs(&number()), at(0)).unwrap();
    store.link_up(at(0), true);
    put(&mut store, at(1), batch(0..3));
    let b = read_all(&mut store, at(2), "data");
    put(&mut store, at(3), batch(3..6));
    let done = store.reconcile(at(4), "data", &view(&[(b[0].epoch, 3, b[0].crc)], 1)).unwrap();
    assert_eq!(done.dropped_rows, 3);
    assert_eq!(drain(&mut store, at(5)).numbers(), [3, 4, 5]);
}

#[test]
fn a_restored_centre_gets_again_what_is_kept() {
    let dir = TempDir::new();
    let n = number();
    let keep = KeepAcked { max_bytes: 45_000, max_age: 60 * SECOND };
    let l = || LaneOptions { keep_acked: Some(keep), ..lane(Class::Fsync) };
    let (mut store, b) = filled(&dir, &n, l());
    ack_all(&mut store, at(40), "data", &b[..15]);
    store.delete_acked(at(40));
    let kept = store.stats(at(40)).lanes[0].kept_bytes;
    assert!(kept > 30_000 && kept <= 45_000, "{kept}");
    store.release("data").unwrap();
    assert_eq!(decode(&read_all(&mut store, at(41), "data")).numbers(), (15..20).collect::<Vec<_>>());
    let crashed = dir.crash();
    let (mut store, _) = Store::open(options(&crashed, vec![l()]), epochs(&n), at(42)).unwrap();
    // The centre was restored to what it was when it held 12.
    let done = store.reconcile(at(43), "data", &view(&[(b[0].epoch, 12, b[11].crc)], 1)).unwrap();
    assert_eq!((done.again_rows, done.dropped_rows), (3, 0));
    let seen = drain(&mut store, at(44));
    assert_eq!(seen.numbers(), (12..20).collect::<Vec<_>>());
    assert!(seen.rows.iter().all(|r| r.0 == b[0].epoch), "under their old numbers");
    // And too old: gone.
    store.tick(at(120_000));
    assert_eq!(store.stats(at(120_000)).lanes[0].kept_bytes, 0);
}

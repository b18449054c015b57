//! Compaction and downsampling: what stays is right, what goes is counted.

use super::*;
use crate::event::builtin::message_values;
use crate::event::{Column, Image, RowView, Table, TableKind, Type};

fn small(policy: Policy) -> LaneOptions {
    LaneOptions { policy, max_bytes: 40_000, ..lane(Class::Fsync) }
}

fn keyed(n: u64, key: &str, hlc: u64) -> Batch {
    let text = format!("{n}:{}", "x".repeat(60));
    let values = message_values("t", Some(key), Payload::Text(&text), None);
    let mut b = BatchBuilder::new("app".into());
    b.push(Op::Message, hlc, builtin::message(), None, builtin::image(&values)).unwrap();
    b.finish()
}

#[test]
fn compaction_keeps_the_newest_of_each_key() {
    let dir = TempDir::new();
    let n = number();
    let (mut store, _) = Store::open(options(&dir, vec![small(Policy::Compact)]), epochs(&n), at(0)).unwrap();
    let mut newest = std::collections::BTreeMap::new();
    for i in 0..5000u64 {
        let key = format!("k{}", i * 7 % 20);
        put(&mut store, at(i), keyed(i, &key, i));
        newest.insert(key, i);
        assert!(store.lanes[0].meta.bytes <= 40_000);
    }
    let crashed = dir.crash();
    let (mut store, _) =
        Store::open(options(&crashed, vec![small(Policy::Compact)]), epochs(&n), at(9000)).unwrap();
    let seen = drain(&mut store, at(9001));
    let set = seen.set();
    assert!(newest.values().all(|n| set.contains(n)), "the newest of every key is there");
    assert!(seen.rows.windows(2).all(|w| w[0].1 < w[1].1 && w[0].2 < w[1].2), "in order");
    assert!(seen.losses.iter().all(|l| l.exact));
    assert_eq!(seen.rows.len() as u64 + seen.losses.iter().map(|l| l.rows).sum::<u64>(), 5000);
    assert!(seen.losses.iter().all(|l| &*l.reason == "compact"), "{:?}", seen.losses);
    assert!(seen.losses.len() <= 2, "records are joined: {:?}", seen.losses);
}

#[test]
fn what_cannot_be_compacted_is_dropped_from_the_front() {
    let dir = TempDir::new();
    let (mut store, _) =
        Store::open(options(&dir, vec![small(Policy::Compact)]), epochs(&number()), at(0)).unwrap();
    for i in 0..2000u64 {
        put(&mut store, at(i), keyed(i, &format!("k{i}"), i));
        assert!(store.lanes[0].meta.bytes <= 40_000);
    }
    let seen = drain(&mut store, at(9001));
    assert_eq!(seen.rows.len() as u64 + seen.losses.iter().map(|l| l.rows).sum::<u64>(), 2000);
    assert!(seen.losses.iter().all(|l| &*l.reason == "max_bytes"));
}

#[test]
fn what_was_handed_out_is_not_compacted() {
    let dir = TempDir::new();
    let n = number();
    let (mut store, _) = Store::open(options(&dir, vec![small(Policy::Compact)]), epochs(&n), at(0)).unwrap();
    for i in 0..100u64 {
        put(&mut store, at(i), keyed(i, "k", i));
    }
    let out = read_all(&mut store, at(100), "data");
    store.release("data").unwrap();
    // Even over a crash.
    let crashed = dir.crash();
    let (mut store, _) =
        Store::open(options(&crashed, vec![small(Policy::Compact)]), epochs(&n), at(101)).unwrap();
    for i in 100..300u64 {
        put(&mut store, at(i), keyed(i, "k", i));
    }
    let again = read_all(&mut store, at(300), "data");
    for b in &out {
        assert!(again.iter().all(|a| a.id != b.id || a.crc == b.crc), "another body under one number");
    }
}

fn table() -> Arc<Table> {
    let id = Column { key: Some(0), ..Column::new("id", Type::I64) };
    let columns = vec![id, Column::new("v", Type::Text)];
    Arc::new(Table { kind: TableKind::Table, db: "app".into(), name: "t".into(), version: 1, columns })
}

/// Id and value of a row.
type Side = Option<(i64, &'static str)>;

/// Rows of a table through a compactor, as a run would be.
fn compacted(rows: &[(Op, Side, Side)]) -> Vec<String> {
    use super::super::compact::Compactor;
    use super::super::reduce::Reducer;
    let table = table();
    let mut b = BatchBuilder::new("app".into());
    for (op, before, after) in rows {
        let before = before.map(|(id, v)| [Value::Int(id), Value::Text(v)]);
        let after = after.map(|(id, v)| [Value::Int(id), Value::Text(v)]);
        let before = before.as_ref().map(|v| Image::full(v));
        b.push(*op, 5, &table, before, after.as_ref().map(|v| Image::full(v))).unwrap();
    }
    let batch = b.finish();
    let mut c = Compactor::default();
    for row in &batch {
        let row = row.unwrap();
        assert!(c.observe(row.head().ordinal, &row).unwrap());
    }
    c.finish();
    let show = |row: &RowView<'_>| {
        let (before, after) = row.images().unwrap();
        let side = |i: Option<crate::event::ImageView<'_>>| match i {
            None => "-".into(),
            Some(i) => match (i.get(0), i.get(1)) {
                (Some(Value::Int(id)), Some(Value::Text(v))) => format!("{id}{v}"),
                other => panic!("{other:?}"),
            },
        };
        format!("{} {} {} {}", row.head().ordinal, row.op().as_str(), side(before), side(after))
    };
    let mut out = Vec::new();
    for row in &batch {
        let row = row.unwrap();
        let seq = row.head().ordinal;
        if c.drops(seq) {
            continue;
        }
        match c.replaces(seq, &row).unwrap() {
            None => out.push(show(&row)),
            Some(record) => out.push(show(&RowView::take(&mut &record[..], &batch.tables).unwrap())),
        }
    }
    out
}

#[test]
fn table_rows_carry_the_oldest_before_image() {
    use Op::{Delete, Insert, Snapshot, Truncate, Update};
    let (a, b, c) = (Some((1, "a")), Some((1, "b")), Some((1, "c")));
    assert_eq!(compacted(&[(Update, a, b), (Update, b, c)]), ["1 update 1a 1c"]);
    assert_eq!(compacted(&[(Insert, None, a), (Update, a, b)]), ["1 insert - 1b"]);
    assert_eq!(compacted(&[(Snapshot, None, a), (Update, a, b)]), ["1 snapshot - 1b"]);
    assert_eq!(compacted(&[(Update, a, b), (Delete, b, None)]), ["1 delete 1a -"], "deletes stay");
    assert_eq!(compacted(&[(Insert, None, a), (Delete, a, None)]), ["1 delete 1a -"]);
    assert_eq!(compacted(&[(Delete, a, None), (Insert, None, b)]), ["1 update 1a 1b"]);
    let other = Some((2, "z"));
    assert_eq!(
        compacted(&[(Insert, None, a), (Insert, None, other), (Update, a, b)]),
        ["1 insert - 2z", "2 insert - 1b"]
    );
    // The key changes: what was before is not joined with what is after.
    assert_eq!(
        compacted(&[(Update, a, b), (Update, b, c), (Update, c, other), (Update, other, Some((2, "y")))]),
        ["1 update 1a 1c", "2 update 1c 2z", "3 update 2z 2y"]
    );
    assert_eq!(
        compacted(&[(Update, a, b), (Truncate, None, None), (Insert, None, c), (Update, c, a)]),
        ["0 update 1a 1b", "1 truncate - -", "3 insert - 1a"]
    );
}

fn reading(temp: &str, key: Option<&str>, ms: u64) -> Batch {
    let json = format!(r#"{{"unit":"C","temp":{temp},"n":{ms}}}"#);
    let values = message_values("room", key, Payload::Json(&json), None);
    let mut b = BatchBuilder::new("app".into());
    b.push(Op::Message, ms << 16, builtin::message(), None, builtin::image(&values)).unwrap();
    b.finish()
}

#[test]
fn downsampling_keeps_one_reading_a_slice() {
    for (keep, want) in [
        (Keep::First, "20.5"),
        (Keep::Last, "19"),
        (Keep::Min, "-3e0"),
        (Keep::Max, "20.5"),
        (Keep::Mean, "12.375"),
    ] {
        let dir = TempDir::new();
        let fields = vec![("temp".into(), keep)];
        let policy = Policy::Downsample { every: 10 * SECOND, fields };
        let l = LaneOptions { max_bytes: 1 << 20, ..small(policy) };
        let (mut store, _) = Store::open(options(&dir, vec![l]), epochs(&number()), at(0)).unwrap();
        let mut rows = 0;
        // 100 slices of two keys, four readings each; and what is no reading.
        for slice in 0..100u64 {
            for (i, temp) in ["20.5", "-3e0", "13.0", "19"].iter().enumerate() {
                for key in ["a", "b"] {
                    put(&mut store, at(1), reading(temp, Some(key), slice * 10_000 + i as u64 * 2000));
                    rows += 1;
                }
            }
            put(&mut store, at(1), reading("\"off\"", Some("a"), slice * 10_000));
            rows += 1;
        }
        // The lane is small now: it is reduced until nothing more is to be gained.
        store.lanes[0].options.max_bytes = 40_000;
        while store.transact(at(2), true, |s, conn| s.reduce(conn, at(2), 0)).unwrap() > 0 {}
        let (mut texts, mut lost) = (Vec::new(), 0);
        for b in read_all(&mut store, at(3), "data") {
            let find = |hash| b.tables.iter().find(|t| t.hash() == hash).cloned();
            let batch =
                Batch::from_body(b.source.clone(), Origin::Input, b.clock, b.rows, b.body.clone(), find)
                    .unwrap();
            for row in &batch {
                let image = row.unwrap().newest().unwrap().unwrap();
                match (row.unwrap().op(), image.get(2)) {
                    (Op::Loss, _) => lost += Loss::from_image(&image).unwrap().rows,
                    (_, Some(Value::Text(json))) => texts.push(json.to_owned()),
                    other => panic!("{other:?}"),
                }
            }
        }
        assert_eq!(texts.len() as u64 + lost, rows, "{keep:?}");
        assert_eq!(texts.iter().filter(|t| t.contains("\"off\"")).count(), 100, "other rows stay");
        let first = &texts.iter().find(|t| !t.contains("off")).unwrap();
        assert_eq!(**first, format!(r#"{{"unit":"C","temp":{want},"n":6000}}"#), "{keep:?}");
        assert!(texts.len() < 600, "{keep:?}: {}", texts.len());
    }
}

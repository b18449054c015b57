use std::sync::Arc;

use super::builtin::{self, Payload};
use super::*;

fn readings() -> Arc<Table> {
    let mut id = Column::new("id", Type::I64);
    id.key = Some(0);
    Arc::new(Table {
        kind: TableKind::Table,
        db: "app".into(),
        name: "readings".into(),
        version: 3,
        columns: vec![id, Column::new("label", Type::Text), Column::new("value", Type::Any)],
    })
}

fn sample() -> Batch {
    let table = readings();
    let mut b = BatchBuilder::new("app".into());
    let before = [Value::Int(7), Value::Text("a"), Value::F64(0.5)];
    let after = [Value::Int(8), Value::Null, Value::RawText(b"\xff")];
    b.push(Op::Update, 0x1234 << 16 | 5, &table, Some(Image::full(&before)), Some(Image::full(&after)))
        .unwrap();
    let partial = Image { values: &after, present: Some(&[true, false, false]) };
    b.push(Op::Delete, 1, &table, Some(partial), None).unwrap();
    let m = builtin::message_values("t/1", None, Payload::guess(b"{\"a\":1}"), None);
    b.push(Op::Message, 2, builtin::message(), None, builtin::image(&m)).unwrap();
    b.finish()
}

#[test]
fn golden_bytes_of_version_1() {
    let hex: String = sample().body.iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(hex, include_str!("golden_v1.hex").trim());
}

#[test]
fn rows_read_back_as_written() {
    let batch = sample();
    let rows: Vec<_> = batch.iter().map(Result::unwrap).collect();
    assert_eq!(rows.len(), 3);
    assert!(rows[0].key_changed());
    let (before, after) = rows[0].images().unwrap();
    assert_eq!(before.unwrap().get(2), Some(Value::F64(0.5)));
    assert_eq!(after.unwrap().get(1), Some(Value::Null));
    assert_eq!(after.unwrap().get(2), Some(Value::RawText(b"\xff")));
    let gone = rows[1].images().unwrap().0.unwrap();
    assert!(gone.is_partial());
    assert_eq!(gone.iter().collect::<Vec<_>>(), vec![(0, Value::Int(8))]);
    assert_eq!(rows[1].before_hash(), rows[0].after_hash());
    assert_eq!(rows[2].newest().unwrap().unwrap().get(2), Some(Value::Text("{\"a\":1}")));
}

#[test]
fn body_cut_anywhere_is_an_error_never_a_panic() {
    let batch = sample();
    let tables: Vec<_> = batch.tables.iter().map(|t| (t.hash(), t.clone())).collect();
    let resolve = |h| tables.iter().find(|(hash, _)| *hash == h).map(|(_, t)| t.clone());
    for cut in 0..batch.body.len() {
        let body = batch.body.slice(..cut);
        let read = Batch::from_body("x".into(), Origin::Input, RowClock::default(), 3, body, resolve);
        assert!(read.is_err(), "cut at {cut}");
    }
    for at in 0..batch.body.len() {
        for bit in 0..8 {
            let mut body = batch.body.to_vec();
            body[at] ^= 1 << bit;
            // The crc stands outside the body; here only that nothing panics.
            Batch::from_body("x".into(), Origin::Input, RowClock::default(), 3, body.into(), resolve).ok();
        }
    }
}

#[test]
fn joined_rows_keep_their_images() {
    let (a, mut b) = (sample(), BatchBuilder::new("joined".into()));
    for row in a.iter().chain(a.iter()) {
        b.push_row(&row.unwrap()).unwrap();
    }
    let joined = b.finish();
    assert_eq!(joined.rows, 6);
    let last = joined.iter().last().unwrap().unwrap();
    assert_eq!(last.head().ordinal, 5);
    assert_eq!(last.newest().unwrap().unwrap().get(1), Some(Value::Text("t/1")));
    assert_eq!(joined.iter().map(|r| r.unwrap().encoded_len()).sum::<usize>() + 4 + 16, joined.bytes());
}

#[test]
fn a_row_without_known_time_is_corrected_by_its_boots_offset() {
    let stamp = batch::MONOTONIC | 5_000_000;
    assert_eq!(RowClock::default().hlc(stamp), 0);
    let known = RowClock { boot_offset_us: Some(1_700_000_000_000_000), ..RowClock::default() };
    assert_eq!(known.hlc(stamp) >> 16, 1_700_000_005_000);
}

proptest::proptest! {
    #[test]
    fn any_values_round_trip(n: i64, f: f64, s: String, b: Vec<u8>, u: u64, wide: i128) {
        let cases = [
            (Type::Any, Value::Int(n)), (Type::Any, Value::Text(&s)), (Type::Any, Value::Bytes(&b)),
            (Type::I64, Value::Int(n)), (Type::U64, Value::Uint(u)), (Type::Text, Value::Text(&s)),
            (Type::Bytes, Value::Bytes(&b)), (Type::Decimal { precision: 38, scale: 2 }, Value::Decimal(wide)),
            (Type::F64, Value::F64(if f.is_nan() { 0.0 } else { f })),
        ];
        for (ty, value) in cases {
            let mut out = Vec::new();
            ty.encode(value, &mut out).unwrap();
            let mut rest = &out[..];
            proptest::prop_assert_eq!(ty.decode(&mut rest).unwrap(), value);
            proptest::prop_assert!(rest.is_empty());
        }
    }

    #[test]
    fn random_bytes_are_no_panic(bytes: Vec<u8>) {
        let tables = [readings()];
        let mut rest = &bytes[..];
        while let Ok(row) = RowView::take(&mut rest, &tables) {
            row.images().ok();
        }
    }
}

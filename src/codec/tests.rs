use std::sync::Arc;

use serde_json::json;

use super::json::{Format, Integers, JsonError, Meta, write_batch, write_value};
use super::{base64, text};
use crate::event::batch::{ClockState, MONOTONIC};
use crate::event::builtin::{self, Loss, Payload};
use crate::event::{Batch, BatchBuilder, Column, Image, Op, Origin, RowClock, Table, TableKind, Type, Value};

const HLC: u64 = 1_700_000_000_123 << 16 | 7;

fn readings(keyed: bool) -> Arc<Table> {
    let mut id = Column::new("id", Type::I64);
    id.key = keyed.then_some(0);
    Arc::new(Table {
        kind: TableKind::Table,
        db: "app".into(),
        name: "readings".into(),
        version: 3,
        columns: vec![id, Column::new("label", Type::Text), Column::new("value", Type::Any)],
    })
}

fn as_device(mut batch: Batch) -> Batch {
    batch.origin = Origin::Device {
        device: "press-7".into(),
        lane: "main".into(),
        epoch: 0x0000_0002_dead_beef,
        first_seq: 40,
        last_seq: 40 + u64::from(batch.rows) - 1,
    };
    batch.clock.state = ClockState::Synced;
    batch
}

fn lines(batch: &Batch, meta: Meta) -> Vec<String> {
    let mut out = Vec::new();
    write_batch(&mut out, batch, Format { meta, ..Format::default() }).unwrap();
    let text = String::from_utf8(out).unwrap();
    assert!(text.ends_with('\n') || text.is_empty());
    text.lines().map(str::to_owned).collect()
}

fn one(f: impl FnOnce(&mut BatchBuilder)) -> Batch {
    let mut b = BatchBuilder::new("src".into());
    f(&mut b);
    as_device(b.finish())
}

#[test]
fn golden_lines() {
    let table = readings(true);
    let batch = one(|b| {
        let old = [Value::Int(7), Value::Text("a"), Value::F64(0.5)];
        let new = [Value::Int(8), Value::Null, Value::RawText(b"\xff")];
        b.push(Op::Insert, HLC, &table, None, Some(Image::full(&old))).unwrap();
        b.push(Op::Update, HLC, &table, Some(Image::full(&old)), Some(Image::full(&new))).unwrap();
        let present = [true, false, false];
        let part = Image { values: &new, present: Some(&present) };
        b.push(Op::Delete, HLC, &table, Some(part), None).unwrap();
        b.push(Op::Truncate, HLC, &table, None, None).unwrap();
        let m = builtin::message_values("t/1", Some("k"), Payload::Json("{\"a\":\n 1}"), Some("{\"h\":1}"));
        b.push(Op::Message, HLC, builtin::message(), None, builtin::image(&m)).unwrap();
        let loss = Loss {
            lane: "main".into(),
            epoch: 9,
            from: 1,
            to: 4,
            reason: "max_age".into(),
            exact: true,
            rows: 3,
        };
        b.push(Op::Loss, HLC, builtin::loss(), None, builtin::image(&loss.values())).unwrap();
        let ddl = [Value::Null, Value::Text("[[\"app\",\"t\"]]"), Value::Text("DROP TABLE t")];
        b.push(Op::Ddl, 0, builtin::ddl(), None, builtin::image(&ddl)).unwrap();
    });
    let id = |n| format!(r#""source":"src","ts_ms":1700000000123,"id":"press-7/main/00000002deadbeef/{n}""#);
    let end = r#""hlc":"1700000000123.7","clock":"synced"}"#;
    let expected = [
        format!(
            r#"{{"kind":"row","op":"insert",{},"db":"app","table":"readings","before":null,"after":{{"id":7,"label":"a","value":0.5}},"key":{{"id":7}},"schema":3,{end}"#,
            id(40)
        ),
        format!(
            r#"{{"kind":"row","op":"update",{},"db":"app","table":"readings","before":{{"id":7,"label":"a","value":0.5}},"after":{{"id":8,"label":null,"value":{{"base64":"/w=="}}}},"key":{{"id":7}},"new_key":{{"id":8}},"schema":3,{end}"#,
            id(41)
        ),
        format!(
            r#"{{"kind":"row","op":"delete",{},"db":"app","table":"readings","before":{{"id":8}},"after":null,"key":{{"id":8}},"partial":["before"],"schema":3,{end}"#,
            id(42)
        ),
        format!(
            r#"{{"kind":"row","op":"truncate",{},"db":"app","table":"readings","before":null,"after":null,"key":null,"schema":3,{end}"#,
            id(43)
        ),
        format!(
            r#"{{"kind":"message",{},"topic":"t/1","key":"k","payload":{{"a":  1}},"headers":{{"h":1}},{end}"#,
            id(44)
        ),
        format!(
            r#"{{"kind":"loss",{},"lane":"main","epoch":"0000000000000009","from":1,"to":4,"reason":"max_age","bound":"exact","rows":3,{end}"#,
            id(45)
        ),
        r#"{"kind":"ddl","source":"src","ts_ms":null,"id":"press-7/main/00000002deadbeef/46","default_db":null,"tables":[["app","t"]],"sql":"DROP TABLE t","clock":"synced"}"#
            .to_owned(),
    ];
    assert_eq!(lines(&batch, Meta::Full), expected);
}

#[test]
fn meta_leaves_out_what_it_says() {
    let values = [Value::Int(7), Value::Text("a"), Value::Null];
    let row = |keyed| {
        one(|b| {
            b.push(Op::Delete, HLC, &readings(keyed), Some(Image::full(&values)), None).unwrap();
        })
    };
    assert_eq!(
        lines(&row(true), Meta::Id),
        [
            r#"{"kind":"row","op":"delete","source":"src","ts_ms":1700000000123,"id":"press-7/main/00000002deadbeef/40","db":"app","table":"readings","after":null,"key":{"id":7}}"#
        ]
    );
    assert_eq!(
        lines(&row(true), Meta::None),
        [r#"{"kind":"row","op":"delete","db":"app","table":"readings","after":null,"key":{"id":7}}"#]
    );
    // Without a key only the before image says which row is gone.
    assert_eq!(
        lines(&row(false), Meta::None),
        [
            r#"{"kind":"row","op":"delete","db":"app","table":"readings","before":{"id":7,"label":"a","value":null},"after":null,"key":null}"#
        ]
    );
}

#[test]
fn a_row_from_before_the_time_was_known_says_so() {
    let mut batch = one(|b| {
        b.push(Op::Truncate, MONOTONIC | 5_000_000, &readings(true), None, None).unwrap();
    });
    batch.clock = RowClock::default();
    let line = &lines(&batch, Meta::Full)[0];
    assert!(line.contains(r#""ts_ms":null"#) && line.ends_with(r#","clock":"unknown"}"#), "{line}");
    assert!(!line.contains("hlc"));
    batch.clock.boot_offset_us = Some(1_700_000_000_000_000);
    assert!(lines(&batch, Meta::Full)[0].contains(r#""ts_ms":1700000005000"#));
}

#[test]
fn rows_without_identity_have_no_id() {
    let mut b = BatchBuilder::new("src".into());
    b.push(Op::Truncate, HLC, &readings(true), None, None).unwrap();
    let line = &lines(&b.finish(), Meta::Full)[0];
    assert!(!line.contains("\"id\"") && !line.contains("clock"), "{line}");
}

#[test]
fn a_builtin_event_of_another_shape_is_refused_and_leaves_nothing() {
    let values = [Value::Int(1), Value::Null, Value::Null];
    let batch = one(|b| {
        b.push(Op::Insert, HLC, &readings(true), None, Some(Image::full(&values))).unwrap();
        b.push(Op::Loss, HLC, &readings(true), None, Some(Image::full(&values))).unwrap();
    });
    let mut out = Vec::new();
    let error = write_batch(&mut out, &batch, Format::default()).unwrap_err();
    assert_eq!((error.row, error.error), (1, JsonError::Shape(Op::Loss)));
    assert_eq!(out.iter().filter(|&&b| b == b'\n').count(), 1);
    assert!(out.ends_with(b"}\n"));
}

#[test]
fn a_false_json_claim_cannot_break_the_line() {
    for lie in ["{\"a\":", "1}\n{\"kind\":\"row\"", "", "nul", "\"\u{1}\""] {
        let batch = one(|b| {
            let m = builtin::message_values("t", None, Payload::Json(lie), Some(lie));
            b.push(Op::Message, HLC, builtin::message(), None, builtin::image(&m)).unwrap();
        });
        let lines = lines(&batch, Meta::Full);
        assert_eq!(lines.len(), 1);
        let parsed: serde_json::Value = serde_json::from_str(&lines[0]).unwrap();
        assert_eq!((&parsed["payload"], &parsed["headers"]), (&json!(lie), &json!(lie)));
    }
}

fn column(ty: Type) -> Column {
    Column::new("c", ty)
}

fn labelled(ty: Type) -> Column {
    Column { labels: vec!["a".into(), "b\"".into(), "c".into()], ..column(ty) }
}

fn declared(declared: &str) -> Column {
    Column { declared: declared.into(), ..column(Type::Any) }
}

fn written(column: &Column, value: Value<'_>) -> (String, bool) {
    let mut out = Vec::new();
    let resolved = write_value(&mut out, column, value, Integers::Number);
    (String::from_utf8(out).unwrap(), resolved)
}

/// Packs as [`Type::DateTime`].
fn packed(y: u64, mo: u64, d: u64, h: u64, mi: u64, s: u64, us: u64) -> u64 {
    (((y * 13 + mo) << 5 | d) << 17 | h << 12 | mi << 6 | s) << 24 | us
}

#[test]
fn every_type_as_the_format_page_says() {
    let vector = [0.1f32, -2.0].map(f32::to_le_bytes).concat();
    let nan = f32::NAN.to_le_bytes();
    let mapped = std::net::Ipv6Addr::from(0xffff_0102_0304u128).octets();
    let compatible = std::net::Ipv6Addr::from(0x0102_0304u128).octets();
    let local = std::net::Ipv6Addr::LOCALHOST.octets();
    let geometry = [&4326u32.to_le_bytes()[..], &[1, 2, 3]].concat();
    let uuid: Vec<u8> = (0..16).collect();
    let dec = |precision, scale| column(Type::Decimal { precision, scale });
    let cases: Vec<(Column, Value<'_>, &str)> = vec![
        (column(Type::U64), Value::Uint(u64::MAX), "18446744073709551615"),
        (column(Type::I64), Value::Int(i64::MIN), "-9223372036854775808"),
        (column(Type::I8), Value::Int(-1), "-1"),
        (column(Type::Year), Value::Uint(2024), "2024"),
        (column(Type::Bit), Value::Uint(5), "5"),
        (dec(10, 2), Value::Decimal(-50), r#""-0.50""#),
        (dec(10, 2), Value::Decimal(0), r#""0.00""#),
        (dec(10, 0), Value::Decimal(12), r#""12""#),
        (dec(38, 38), Value::Decimal(1), r#""0.00000000000000000000000000000000000001""#),
        (dec(38, 1), Value::Decimal(i128::MIN), r#""-17014118346046923173168730371588410572.8""#),
        (dec(65, 2), Value::Digits("-1.20"), r#""-1.20""#),
        (column(Type::F64), Value::F64(0.1), "0.1"),
        (column(Type::F64), Value::F64(1e300), "1e300"),
        (column(Type::F64), Value::F64(3.0), "3"),
        (column(Type::F64), Value::F64(-0.0), "-0.0"),
        (column(Type::F32), Value::F32(0.1), "0.1"),
        (column(Type::F64), Value::F64(f64::NAN), r#"{"special":"NaN"}"#),
        (column(Type::F64), Value::F64(f64::NEG_INFINITY), r#"{"special":"-Infinity"}"#),
        (column(Type::F32), Value::F32(f32::INFINITY), r#"{"special":"Infinity"}"#),
        (column(Type::Any), Value::F64(3.0), "3.0"),
        (column(Type::Any), Value::Int(3), "3"),
        (column(Type::Any), Value::Text("3"), r#""3""#),
        (column(Type::Any), Value::Bytes(b"\x00\x01"), r#"{"base64":"AAE="}"#),
        (declared("BLOB"), Value::Bytes(b"\x00\x01"), r#""AAE=""#),
        (declared("varbinary(20)"), Value::Bytes(b"\x00\x01"), r#""AAE=""#),
        (declared("BLOB"), Value::Text("AAE="), r#"{"text":"AAE="}"#),
        (declared("TEXT"), Value::RawText(b"\xc3("), r#"{"base64":"wyg="}"#),
        (
            column(Type::Text),
            Value::Text("\u{1}\"\\\n\r\t\u{8}\u{c}/\u{2028}\u{7f}"),
            "\"\\u0001\\\"\\\\\\n\\r\\t\\b\\f/\u{2028}\u{7f}\"",
        ),
        (column(Type::Bytes), Value::Bytes(b"\x00\x01"), r#""AAE=""#),
        (column(Type::Json), Value::Text(r#"{"a": 1}"#), r#""{\"a\": 1}""#),
        (labelled(Type::Enum), Value::Uint(0), r#""""#),
        (labelled(Type::Enum), Value::Uint(2), r#""b\"""#),
        (labelled(Type::Set), Value::Uint(0b101), r#""a,c""#),
        (labelled(Type::Set), Value::Uint(0), r#""""#),
        (column(Type::Date), Value::Uint(2024 << 9 | 2 << 5 | 31), r#""2024-02-31""#),
        (column(Type::Date), Value::Uint(0), r#""0000-00-00""#),
        (
            column(Type::DateTime { fsp: 6 }),
            Value::Uint(packed(2024, 2, 29, 23, 59, 59, 1)),
            r#""2024-02-29 23:59:59.000001""#,
        ),
        (
            column(Type::DateTime { fsp: 0 }),
            Value::Uint(packed(2024, 12, 1, 0, 0, 0, 0)),
            r#""2024-12-01 00:00:00""#,
        ),
        (column(Type::DateTime { fsp: 0 }), Value::Uint(0), r#""0000-00-00 00:00:00""#),
        (
            column(Type::Timestamp { fsp: 1 }),
            Value::Int(1_709_251_199_500_000),
            r#""2024-02-29T23:59:59.5Z""#,
        ),
        (column(Type::Timestamp { fsp: 3 }), Value::Int(i64::MIN), r#""0000-00-00T00:00:00.000Z""#),
        (column(Type::Timestamp { fsp: 0 }), Value::Int(-1), r#""1969-12-31T23:59:59Z""#),
        (
            column(Type::Time { fsp: 6 }),
            Value::Int(-(838 * 3600 + 59 * 60 + 59) * 1_000_000),
            r#""-838:59:59.000000""#,
        ),
        (column(Type::Time { fsp: 0 }), Value::Int(61_000_000), r#""00:01:01""#),
        (column(Type::Geometry), Value::Bytes(&geometry), r#"{"srid":4326,"wkb":"AQID"}"#),
        (column(Type::Vector), Value::Bytes(&vector), "[0.1,-2]"),
        (column(Type::Vector), Value::Bytes(&nan), r#"{"base64":"AADAfw=="}"#),
        (column(Type::Uuid), Value::Bytes(&uuid), r#""00010203-0405-0607-0809-0a0b0c0d0e0f""#),
        (column(Type::Inet4), Value::Bytes(&[10, 0, 0, 1]), r#""10.0.0.1""#),
        (column(Type::Inet6), Value::Bytes(&mapped), r#""::ffff:1.2.3.4""#),
        (column(Type::Inet6), Value::Bytes(&compatible), r#""::1.2.3.4""#),
        (column(Type::Inet6), Value::Bytes(&local), r#""::1""#),
        (column(Type::Text), Value::Null, "null"),
    ];
    for (column, value, expected) in cases {
        assert_eq!(written(&column, value), (expected.to_owned(), true), "{:?} {value:?}", column.ty);
    }
}

#[test]
fn what_cannot_be_resolved_is_named() {
    let cases = [
        (column(Type::Enum), Value::Uint(2), "2"),
        (labelled(Type::Enum), Value::Uint(4), "4"),
        (column(Type::Set), Value::Uint(3), "3"),
        (labelled(Type::Set), Value::Uint(8), "8"),
        (column(Type::JsonB), Value::Bytes(b"\x05\x01"), r#"{"base64":"BQE="}"#),
        (column(Type::JsonPatch), Value::Bytes(b"\x05\x01"), r#"{"base64":"BQE="}"#),
        (column(Type::Geometry), Value::Bytes(b"\x01"), r#"{"base64":"AQ=="}"#),
    ];
    for (column, value, expected) in cases {
        assert_eq!(written(&column, value), (expected.to_owned(), false), "{:?}", column.ty);
    }
    let columns = vec![
        Column { key: Some(0), ..Column::new("id", Type::I64) },
        Column::new("e", Type::Enum),
        Column::new("j", Type::JsonB),
    ];
    let table = Table { kind: TableKind::Table, db: "d".into(), name: "t".into(), version: 1, columns };
    let batch = one(|b| {
        let before = [Value::Int(1), Value::Uint(1), Value::Null];
        let after = [Value::Int(1), Value::Uint(2), Value::Bytes(b"x")];
        let (before, after) = (Some(Image::full(&before)), Some(Image::full(&after)));
        b.push(Op::Update, HLC, &Arc::new(table.clone()), before, after).unwrap();
    });
    let line = &lines(&batch, Meta::Full)[0];
    assert!(line.contains(r#","unresolved":["e","j"],"#), "{line}");
}

#[test]
fn integers_as_strings() {
    let mut out = Vec::new();
    write_value(&mut out, &column(Type::U64), Value::Uint(u64::MAX), Integers::String);
    write_value(&mut out, &column(Type::Any), Value::Int(-1), Integers::String);
    write_value(&mut out, &column(Type::F64), Value::F64(1.5), Integers::String);
    assert_eq!(out, b"\"18446744073709551615\"\"-1\"1.5");
}

fn unbase64(s: &str) -> Vec<u8> {
    const A: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut out, mut n, mut bits) = (Vec::new(), 0u32, 0);
    for c in s.bytes().filter(|&c| c != b'=') {
        n = n << 6 | A.iter().position(|&a| a == c).unwrap() as u32;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            out.push((n >> bits) as u8);
        }
    }
    out
}

proptest::proptest! {
    #[test]
    fn base64_reads_back(bytes: Vec<u8>) {
        let mut out = Vec::new();
        base64::encode(&bytes, &mut out);
        proptest::prop_assert_eq!(out.len() % 4, 0);
        proptest::prop_assert_eq!(unbase64(std::str::from_utf8(&out).unwrap()), bytes);
    }

    #[test]
    fn decimals_keep_value_and_scale(n: i128, scale in 0u8..=38) {
        let mut out = Vec::new();
        text::decimal(&mut out, n, scale);
        let text = String::from_utf8(out).unwrap();
        let (whole, part) = text.split_once('.').unwrap_or((&text, ""));
        proptest::prop_assert_eq!(part.len(), usize::from(scale));
        proptest::prop_assert!(!whole.trim_start_matches('-').is_empty());
        proptest::prop_assert_eq!(format!("{whole}{part}").parse::<i128>().unwrap(), n);
    }

    #[test]
    fn rows_parse_with_their_values(n: i64, u: u64, f: f64, g: f32, s: String, name: String, raw: Vec<u8>) {
        let columns = vec![
            Column { key: Some(1), ..Column::new("n", Type::I64) },
            Column { key: Some(0), ..Column::new("u", Type::U64) },
            Column::new("f", Type::F64),
            Column::new("g", Type::F32),
            Column::new("s", Type::Text),
            Column::new("r", Type::Any),
            Column::new("b", Type::Bytes),
        ];
        let table = Arc::new(Table {
            kind: TableKind::Table, db: name.as_str().into(), name: s.as_str().into(), version: 1, columns,
        });
        let values = [
            Value::Int(n), Value::Uint(u), Value::F64(f), Value::F32(g), Value::Text(&s),
            Value::RawText(&raw), Value::Bytes(&raw),
        ];
        let batch = one(|b| b.push(Op::Snapshot, HLC, &table, None, Some(Image::full(&values))).unwrap());
        let lines = lines(&batch, Meta::Full);
        proptest::prop_assert_eq!(lines.len(), 1);
        let got: serde_json::Value = serde_json::from_str(&lines[0]).unwrap();
        let after = &got["after"];
        proptest::prop_assert_eq!(&got["db"], &json!(name));
        proptest::prop_assert_eq!(&got["table"], &json!(s));
        proptest::prop_assert_eq!(&after["s"], &json!(s));
        proptest::prop_assert_eq!(after["n"].as_i64(), Some(n));
        proptest::prop_assert_eq!(after["u"].as_u64(), Some(u));
        let keys: Vec<_> = lines[0].split("\"key\":{").nth(1).unwrap().split('}').next().unwrap().split(',').collect();
        proptest::prop_assert_eq!(keys, [format!("\"u\":{u}"), format!("\"n\":{n}")]);
        if f.is_finite() {
            let raw = lines[0].split("\"f\":").nth(1).unwrap().split(',').next().unwrap();
            proptest::prop_assert_eq!(raw.parse::<f64>().unwrap().to_bits(), f.to_bits());
        }
        if g.is_finite() {
            let raw = lines[0].split("\"g\":").nth(1).unwrap().split(',').next().unwrap();
            proptest::prop_assert_eq!(raw.parse::<f32>().unwrap().to_bits(), g.to_bits());
        }
        proptest::prop_assert_eq!(unbase64(after["r"]["base64"].as_str().unwrap()), raw.clone());
        proptest::prop_assert_eq!(unbase64(after["b"].as_str().unwrap()), raw);
    }
}

mod logged {
    use super::*;
    use crate::codec::json::Encoder;
    use crate::codec::{Part, row_id};
    use crate::event::binlog::{Binlog, Gtid, RowsEvent, Snapshot, Transaction};

    const UUID: [u8; 16] =
        [0x3e, 0x11, 0xfa, 0x47, 0x71, 0xca, 0x11, 0xe1, 0x9e, 0x33, 0xc8, 0x0a, 0xa9, 0x42, 0x95, 0x62];

    /// Two transactions of one row each: with a GTID and an XID, and with what `gtid` says.
    fn batch(gtid: Gtid) -> Batch {
        let mut b = BatchBuilder::new("shop".into());
        let table = readings(true);
        let old = [Value::Int(7), Value::Text("a"), Value::Null];
        let new = [Value::Int(8), Value::Text("a"), Value::Null];
        b.push(Op::Update, HLC, &table, Some(Image::full(&old)), Some(Image::full(&new))).unwrap();
        b.push(Op::Delete, HLC, &table, Some(Image::full(&new)), None).unwrap();
        let mut batch = b.finish();
        let transaction = |gtid, start, commit_ts_us, xa| Transaction {
            gtid,
            file: "bin.000003".into(),
            start,
            commit_ts_us,
            xa,
        };
        let named = Gtid::MySql { uuid: UUID, tag: None, number: 23 };
        let event =
            |first_row, transaction, end| RowsEvent { first_row, transaction, end, ts_ms: 1_700_000_000_000 };
        batch.origin = Origin::Binlog(Arc::new(Binlog {
            server_uuid: "u".into(),
            transactions: vec![
                transaction(named, 4, Some(1_700_000_000_123_456), Some("X'61',X'',1".into())),
                transaction(gtid, 900, None, None),
            ],
            events: vec![event(0, 0, 484), event(1, 1, 990)],
        }));
        batch
    }

    #[test]
    fn golden_lines() {
        let batch = batch(Gtid::None);
        let expected = [
            r#"{"kind":"row","op":"update","source":"shop","ts_ms":1700000000000,"commit_ts_us":1700000000123456,"id":"3e11fa47-71ca-11e1-9e33-c80aa9429562:23#0","db":"app","table":"readings","before":{"id":7,"label":"a","value":null},"after":{"id":8,"label":"a","value":null},"key":{"id":7},"new_key":{"id":8},"schema":3,"xa":"X'61',X'',1","pos":{"file":"bin.000003","pos":484,"gtid":"3e11fa47-71ca-11e1-9e33-c80aa9429562:23","row":0},"hlc":"1700000000123.7"}"#,
            r#"{"kind":"row","op":"delete","source":"shop","ts_ms":1700000000000,"id":"u:bin.000003:900#1","db":"app","table":"readings","before":{"id":8,"label":"a","value":null},"after":null,"key":{"id":8},"schema":3,"pos":{"file":"bin.000003","pos":990,"gtid":null,"row":1},"hlc":"1700000000123.7"}"#,
        ];
        assert_eq!(lines(&batch, Meta::Full), expected);
        assert_eq!(
            lines(&batch, Meta::Id)[0],
            r#"{"kind":"row","op":"update","source":"shop","ts_ms":1700000000000,"id":"3e11fa47-71ca-11e1-9e33-c80aa9429562:23#0","db":"app","table":"readings","after":{"id":8,"label":"a","value":null},"key":{"id":7},"new_key":{"id":8}}"#
        );
    }

    #[test]
    fn ids() {
        let id = |batch: &Batch, n: usize| row_id(batch, &batch.iter().nth(n).unwrap().unwrap());
        let mariadb = batch(Gtid::MariaDb { domain: 0, server: 1, sequence: 9 });
        assert_eq!(id(&mariadb, 0), "3e11fa47-71ca-11e1-9e33-c80aa9429562:23#0");
        assert_eq!(id(&mariadb, 1), "shop:0-1-9#1");
        let tagged = batch(Gtid::MySql { uuid: UUID, tag: Some("night".into()), number: 5 });
        assert_eq!(id(&tagged, 1), "3e11fa47-71ca-11e1-9e33-c80aa9429562:night:5#1");
        let mut snapshot = batch(Gtid::None);
        snapshot.origin = Origin::Snapshot(Arc::new(Snapshot {
            run: "r1".into(),
            file: "bin.000003".into(),
            pos: 77,
            gtids: "".into(),
            ts_ms: 1_700_000_000_000,
        }));
        assert_eq!(id(&snapshot, 1), r#"shop/snap/r1/app.readings/{"id":8}"#);
        let line: serde_json::Value = serde_json::from_str(&lines(&snapshot, Meta::Full)[1]).unwrap();
        assert_eq!(line["id"], r#"shop/snap/r1/app.readings/{"id":8}"#);
        assert_eq!(line["pos"], json!({"file": "bin.000003", "pos": 77, "gtid": null, "row": 1}));
        // The id of a record is the one that is told beside it.
        for batch in [mariadb, tagged] {
            for (n, line) in lines(&batch, Meta::Id).iter().enumerate() {
                let line: serde_json::Value = serde_json::from_str(line).unwrap();
                assert_eq!(line["id"], id(&batch, n));
            }
        }
    }

    #[test]
    fn a_change_of_key_in_two_parts() {
        let batch = batch(Gtid::None);
        let row = batch.iter().next().unwrap().unwrap();
        let part = |part| {
            let mut out = Vec::new();
            let format = Format { meta: Meta::Id, ..Format::default() };
            let key = Encoder::default().write(&mut out, &batch, &row, format, part).unwrap().unwrap();
            (
                String::from_utf8(out[key].to_vec()).unwrap(),
                serde_json::from_slice::<serde_json::Value>(&out).unwrap(),
            )
        };
        let (key, gone) = part(Part::Gone);
        assert_eq!(key, r#"{"id":7}"#);
        assert_eq!(
            (&gone["op"], &gone["after"], &gone["moved_to"]),
            (&json!("delete"), &json!(null), &json!({"id": 8}))
        );
        assert!(gone["id"].as_str().unwrap().ends_with("#0d"));
        let (key, came) = part(Part::Came);
        assert_eq!(key, r#"{"id":8}"#);
        assert_eq!(
            (&came["op"], &came["after"]["id"], &came["moved_from"]),
            (&json!("insert"), &json!(8), &json!({"id": 7}))
        );
        assert!(came["id"].as_str().unwrap().ends_with("#0i"));
        assert!(gone.get("new_key").is_none() && came.get("new_key").is_none());
    }

    #[test]
    fn columns_that_an_update_does_not_hold_did_not_change_the_key() {
        // MINIMAL images: the key before, what changed after.
        let table = readings(true);
        let batch = one(|b| {
            let before = [Value::Int(7), Value::Null, Value::Null];
            let before = Image { values: &before, present: Some(&[true, false, false]) };
            let after = [Value::Null, Value::Text("b"), Value::Null];
            let after = Image { values: &after, present: Some(&[false, true, false]) };
            b.push(Op::Update, HLC, &table, Some(before), Some(after)).unwrap();
        });
        let row = batch.iter().next().unwrap().unwrap();
        assert!(row.key_changed() && !super::super::json::key_moved(&row).unwrap());
        assert!(!lines(&batch, Meta::Full)[0].contains("new_key"));
    }

    #[test]
    fn whatever_must_be_escaped_is_at_every_place_of_a_word() {
        for at in 0..20 {
            for bad in ["\"", "\\", "\n", "\u{1}", "\u{1f}", "é", "\u{7f}"] {
                let text = format!("{}{bad}{}", "x".repeat(at), "y".repeat(20 - at));
                let mut out = Vec::new();
                super::super::json::string(&mut out, &text);
                let back: String = serde_json::from_slice(&out).unwrap();
                assert_eq!(back, text);
            }
        }
    }
}

//! Recordings against what SELECT said on the server (`tests/fixtures/make_binlogs.py`).

use serde_json::Value as Said;

use super::*;
use crate::codec::text;

/// A value as the recorder's SELECT prints it.
fn text_of(column: &Column, value: &Value<'_>, doc: Option<&Value<'_>>) -> Option<String> {
    let mut out = Vec::new();
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02X}")).collect::<String>();
    match value {
        Value::Absent => panic!("absent"),
        Value::Null => return None,
        Value::Int(n) => text::int(&mut out, *n),
        Value::Uint(n) | Value::Bit(n) | Value::Set(n) => text::padded(&mut out, *n, 1),
        Value::Enum(n) => text::padded(&mut out, u64::from(*n), 1),
        Value::Float(n) => return Some(n.to_string()),
        Value::Double(n) => return Some(n.to_string()),
        Value::Decimal(d) => d.write(&mut out).unwrap(),
        Value::Date(n) => text::date(&mut out, u64::from(*n)),
        Value::Time(n) => text::time(&mut out, *n, column.fsp),
        Value::DateTime(n) => text::datetime(&mut out, *n, column.fsp),
        Value::Timestamp(n) => {
            text::timestamp(&mut out, *n, column.fsp);
            let iso = String::from_utf8(out).unwrap();
            return Some(iso.trim_end_matches('Z').replace('T', " "));
        }
        Value::Year(n) => text::padded(&mut out, u64::from(*n), 4),
        Value::Bytes(b) => {
            let mut b = b.to_vec();
            if column.is_padded_binary() {
                b.resize(column.length().unwrap(), 0);
            }
            return Some(hex(&b));
        }
        Value::Geometry(b) | Value::Vector(b) => return Some(hex(b)),
        Value::Compressed(c) => return Some(hex(c.inflate(&mut Vec::new(), 1 << 20).unwrap())),
        Value::Json(j) => j.write(&mut out).unwrap(),
        Value::JsonDiff(d) => match doc {
            Some(Value::Json(before)) => before.write_patched(d, &mut out).unwrap(),
            other => panic!("a difference to {other:?}"),
        },
        Value::Uuid(b) => text::uuid(&mut out, b),
        Value::Inet4(b) => text::inet4(&mut out, *b),
        Value::Inet6(b) => text::inet6(&mut out, *b),
    }
    Some(String::from_utf8(out).unwrap())
}

fn same(column: &Column, got: &Option<String>, said: &Said) -> bool {
    let (Some(got), Some(said)) = (got, said.as_str()) else { return got.is_none() && said.is_null() };
    match column.ty {
        ColumnType::FLOAT => got.parse::<f32>().unwrap() == said.parse::<f32>().unwrap(),
        ColumnType::DOUBLE => got.parse::<f64>().unwrap() == said.parse::<f64>().unwrap(),
        _ => got == said,
    }
}

/// What the recorder's DDL said of `special` and of unsigned columns, where the log does not.
fn hints(table: &TableMap) -> Vec<ColumnHint> {
    let mut hints = vec![ColumnHint::default(); table.columns.len()];
    if &*table.table == "special" {
        hints[1].special = Some(Special::Uuid);
        hints[2].special = Some(Special::Inet4);
        hints[3].special = Some(Special::Inet6);
    }
    hints
}

fn compare(name: &str) {
    let expected = format!("{name}.expected.json");
    let expected = &unpacked().iter().find(|(n, _)| *n == expected).unwrap().1;
    let expected: Vec<Said> = serde_json::from_slice(expected).unwrap();
    let mut expected = expected.iter();
    let mut reader = reader(recording(&format!("{name}.binlog")));
    let mut known = 0;
    let mut describe: Option<(u64, Vec<ColumnHint>)> = None;
    loop {
        if let Some((id, hints)) = describe.take() {
            assert!(reader.describe(id, &hints).unwrap());
        }
        let Some(item) = reader.next().unwrap() else { break };
        assert!(item.position_agrees(), "{item:?}");
        match item.event {
            Event::TableMap(table) if table.generation > known => {
                known = table.generation + 1;
                describe = Some((table.table_id, hints(table)));
            }
            Event::Rows(rows) => {
                let mut cursor = rows.cursor();
                while let Some(row) = cursor.next() {
                    let row = row.unwrap();
                    let said = expected.next().unwrap_or_else(|| panic!("{name}: a row too many"));
                    assert_eq!(said["table"], *rows.table.table);
                    let op = match rows.kind {
                        RowsKind::Insert => "insert",
                        RowsKind::Update => "update",
                        RowsKind::Delete => "delete",
                    };
                    assert_eq!(said["op"], op, "{name} {said}");
                    for (side, image) in [("before", row.before), ("after", row.after)] {
                        let Some(image) = image else {
                            assert!(said[side].is_null());
                            continue;
                        };
                        assert_eq!(image.len(), rows.table.columns.len());
                        // The recorder asks for the key once more in front.
                        for (i, (column, value)) in rows.table.columns.iter().zip(image).enumerate() {
                            let got = text_of(column, value, row.before.map(|b| &b[i]));
                            assert!(
                                same(column, &got, &said[side][i]),
                                "{name} {}.{i} {column:?} {side}: got {got:?}, SELECT said {}",
                                rows.table.table,
                                said[side][i]
                            );
                        }
                    }
                }
            }
            _ => {}
        }
    }
    assert!(expected.next().is_none(), "{name}: rows are missing");
}

#[test]
fn mysqls_values_are_those_of_select() {
    compare("mysql97-full");
    compare("mysql97-minimal");
}

#[test]
fn a_compressed_transactions_values_are_those_of_select() {
    compare("mysql97-compressed");
    let payloads = everything(reader(recording("mysql97-compressed.binlog"))).unwrap();
    assert!(payloads.iter().any(|l| l.contains("TRANSACTION_PAYLOAD Zstd")));
}

#[test]
fn partial_json_becomes_the_whole_document() {
    compare("mysql97-partial-json");
    let rows = everything(reader(recording("mysql97-partial-json.binlog"))).unwrap();
    assert!(rows.iter().any(|l| l.contains("JsonDiff")));
}

#[test]
fn partial_json_without_its_before_image_says_so() {
    let rows = everything(reader(recording("mysql97-partial-json-minimal.binlog"))).unwrap();
    let (mut diffs, mut absent) = (0, 0);
    for row in rows.iter().filter(|l| l.contains("PARTIAL_UPDATE_ROWS")) {
        diffs += usize::from(row.contains("JsonDiff"));
        absent += usize::from(row.contains("[Int(1), Absent"));
    }
    assert!(diffs > 5 && absent > 5, "{diffs} {absent}");
}

#[test]
fn tagged_gtids_are_read_in_both_events() {
    compare("mysql97-tagged");
    compare("mysql97-tagged2");
    let uuid = "c0dec0de-0097-11ee-8000-0242ac110097";
    let mut seen = Vec::new();
    let mut reader = reader(recording("mysql97-tagged.binlog"));
    while let Some(item) = reader.next().unwrap() {
        if let Event::Gtid(gtid) = item.event {
            seen.push(gtid.gtid.unwrap().to_string());
            assert!(gtid.transaction_length.is_some());
            assert_eq!(gtid.immediate_server_version, Some(90704));
        }
    }
    assert!(seen.contains(&format!("{uuid}:first:2")), "{seen:?}");
    assert!(seen.contains(&format!("{uuid}:a_very_long_tag_of_32_character:1")), "{seen:?}");
    assert!(seen.contains(&format!("{uuid}:x:9007199254740993")), "{seen:?}");
    let mut reader = super::reader(recording("mysql97-tagged2.binlog"));
    let mut previous = None;
    while let Some(item) = reader.next().unwrap() {
        if let Event::PreviousGtids(set) = item.event {
            previous = Some(*set);
        }
    }
    let previous = previous.unwrap();
    for gtid in seen {
        assert!(previous.contains(&gtid.parse().unwrap()), "{gtid} is not in {previous}");
    }
}

#[test]
fn mariadbs_values_are_those_of_select() {
    compare("mariadb118-full");
}

#[test]
fn mariadbs_compressed_events_hold_the_same() {
    compare("mariadb118-compressed");
    let events = everything(reader(recording("mariadb118-compressed.binlog"))).unwrap();
    assert!(events.iter().any(|l| l.contains("MARIADB_WRITE_ROWS_COMPRESSED_V1 row")));
    assert!(events.iter().any(|l| l.contains("MARIADB_QUERY_COMPRESSED Query")));
}

#[test]
fn metadata_names_what_the_table_was_made_with() {
    let mut reader = reader(recording("mysql97-full.binlog"));
    let mut seen = 0;
    while let Some(item) = reader.next().unwrap() {
        let Event::TableMap(table) = item.event else { continue };
        assert!(table.is_named());
        assert_eq!(table.key_columns(), [0]);
        let column = |name: &str| table.columns.iter().find(|c| c.name.as_deref() == Some(name)).unwrap();
        match &*table.table {
            "ints" => {
                assert_eq!(column("a").unsigned, Some(false));
                assert_eq!(column("eU").unsigned, Some(true));
                assert_eq!(column("b9").bits(), Some(9));
                assert_eq!(column("y").ty, ColumnType::YEAR);
            }
            "strs" => {
                assert_eq!(
                    column("e").labels.iter().map(|l| l.to_vec()).collect::<Vec<_>>(),
                    [&b"a"[..], b"b", b""]
                );
                assert_eq!(column("el").labels.len(), 300);
                assert_eq!(column("sl").labels.len(), 64);
                assert_eq!(column("l1").charset, Some(8));
                assert_eq!(column("b").is_binary(), Some(true));
                assert_eq!(column("cl").length(), Some(1020));
                assert_eq!(column("id").key, Some(KeyPart { ordinal: 0, prefix: 0 }));
            }
            "geo" => assert_eq!(column("p").geometry, Some(1)),
            "vec" => assert_eq!(column("v").dimensions, Some(3)),
            _ => continue,
        }
        seen += 1;
    }
    assert!(seen > 10, "{seen}");
}

#[test]
fn xa_and_statements_are_named() {
    let all = everything(reader(recording("mysql97-full.binlog"))).unwrap().join("\n");
    assert!(all.contains("XaPrepare(XaPrepare { one_phase: false, xid: Xid { format: 7, gtrid: [103, 116], bqual: [98, 113] } })"));
    assert!(all.contains("one_phase: true"));
    assert!(all.contains("ROWS_QUERY RowsQuery"));
    let all = everything(reader(recording("mariadb118-full.binlog"))).unwrap().join("\n");
    for name in [
        "MARIADB_GTID ",
        "MARIADB_GTID_LIST",
        "MARIADB_BINLOG_CHECKPOINT",
        "MARIADB_ANNOTATE_ROWS",
        "XA_PREPARE",
        "xid: Some(Xid { format: 7",
    ] {
        assert!(all.contains(name), "{name}");
    }
}

#[test]
fn every_recording_reads_to_its_end() {
    for (name, bytes) in recordings() {
        let lines = everything(reader(bytes));
        if name == "old_temporal_hires.000001" {
            // Its rows cannot be read without the DDL.
            assert!(matches!(lines.unwrap_err().problem, Problem::Row { .. }));
            continue;
        }
        assert!(lines.unwrap().len() > 3, "{name}");
    }
}

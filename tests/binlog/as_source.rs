//! The same row gives the same JSON from `dts binlog dump` and from a source's batches, which another writer makes.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use dts::codec::json::{Format, write_batch};
use dts::event::binlog::{Binlog, Gtid, RowsEvent, Transaction};
use dts::event::{BatchBuilder, Origin, RowView, Table};
use dts::source::mysql::binlog::to_event::{RowStamp, ToEvent};
use dts::source::mysql::binlog::{Event, Options, Reader};
use dts::source::mysql::charset;
use serde_json::Value;

use super::{dump, of_kind, root};
use crate::harness::Dir;

fn to_utf8(collation: u16, raw: &[u8], out: &mut Vec<u8>) -> bool {
    let Some(set) = charset::by_collation(collation) else { return false };
    let mut text = String::new();
    let converted = set.to_utf8(raw, &mut text).map(str::to_owned);
    converted.map(|text| out.extend_from_slice(text.as_bytes())).is_ok()
}

/// The rows of a file as a source hands them on, as dts JSON.
fn as_source(file: &Path) -> Vec<Value> {
    let mut reader = Reader::from_file(std::fs::File::open(file).unwrap(), Options::default());
    let mut converters: HashMap<u64, ToEvent> = HashMap::new();
    let mut lines = Vec::new();
    let mut ordinal = 0;
    while let Some(item) = reader.next().unwrap() {
        let ts_ms = u64::from(item.header.timestamp) * 1000;
        let rows = match item.event {
            Event::Gtid(_) | Event::MariaDbGtid(_) => {
                ordinal = 0;
                continue;
            }
            Event::Rows(rows) => rows,
            _ => continue,
        };
        let to = converters
            .entry(rows.table.generation)
            .or_insert_with(|| ToEvent::new(rows.table, 1, 1 << 20, &mut to_utf8));
        let mut cursor = rows.cursor();
        while let Some(row) = cursor.next() {
            let mut tables: Vec<Arc<Table>> = Vec::new();
            let mut record = Vec::new();
            let mut schema = |table: &Arc<Table>| {
                tables.push(table.clone());
                Some(0)
            };
            let stamp = RowStamp { ordinal, hlc: ts_ms << 16 };
            to.write(&mut record, &rows, &row.unwrap(), stamp, &mut to_utf8, &mut schema).unwrap();
            let mut builder = BatchBuilder::new("dump".into());
            builder.push_row_at(&RowView::take(&mut &record[..], &tables).unwrap(), ordinal).unwrap();
            let mut batch = builder.finish();
            let transaction = Transaction {
                gtid: Gtid::None,
                file: file.file_name().unwrap().to_str().unwrap().into(),
                start: 4,
                commit_ts_us: None,
                xa: None,
            };
            let events = vec![RowsEvent { first_row: 0, transaction: 0, end: 0, ts_ms }];
            let log = Binlog { server_uuid: "".into(), transactions: vec![transaction], events };
            batch.origin = Origin::Binlog(Arc::new(log));
            let mut line = Vec::new();
            write_batch(&mut line, &batch, Format::default()).unwrap();
            lines.push(serde_json::from_slice(&line).unwrap());
            ordinal += 1;
        }
    }
    lines
}

#[test]
fn a_row_has_one_json_wherever_it_comes_from() {
    let dir = Dir::new("as-source");
    let archive = root().join("tests/fixtures/binlogs-servers.tar.xz");
    let unpack =
        std::process::Command::new("tar").arg("xJf").arg(archive).arg("-C").arg(dir.join("")).status();
    assert!(unpack.unwrap().success());
    let mut compared = 0;
    for folder in std::fs::read_dir(dir.join("")).unwrap() {
        for file in std::fs::read_dir(folder.unwrap().path()).unwrap() {
            let file = file.unwrap().path();
            let name = file.file_name().unwrap().to_str().unwrap();
            // Of MySQL, whose log can say all; where it does not, the dump learns from DDL and a source from the server.
            if !name.starts_with("mysql97") || !name.ends_with(".binlog") {
                continue;
            }
            let dumped = dump(&[], &[&file]);
            let dumped = of_kind(&dumped, "row");
            let sourced = as_source(&file);
            assert_eq!(dumped.len(), sourced.len(), "{name}");
            for (dumped, sourced) in dumped.iter().zip(&sourced) {
                let image = sourced["after"].as_object().or(sourced["before"].as_object());
                if image.is_some_and(|image| image.keys().any(|name| name.starts_with('@'))) {
                    continue;
                }
                let fields = [
                    "op",
                    "db",
                    "table",
                    "before",
                    "after",
                    "key",
                    "new_key",
                    "unresolved",
                    "partial",
                    "ts_ms",
                ];
                for field in fields {
                    assert_eq!(dumped.get(field), sourced.get(field), "{name}: {field} of {dumped}");
                }
                assert_eq!(dumped["pos"]["row"], sourced["pos"]["row"], "{name}");
                compared += 1;
            }
        }
    }
    assert!(compared > 150, "{compared}");
}

//! peer: mysql_cdc BinlogReader (no CRC check, no compressed transactions, no GTID_TAGGED in the library). usage: peer-mysql-cdc FILE

use dts_bench_peers::{Tally, measure};
use mysql_cdc::{
    binlog_reader::BinlogReader,
    events::{
        binlog_event::BinlogEvent,
        row_events::{mysql_value::MySqlValue as V, row_data::RowData},
    },
};
use std::fs::File;

fn row(t: &mut Tally, r: &RowData) {
    t.images += 1;
    for v in &r.cells {
        match v {
            None => t.int(1),
            Some(V::TinyInt(x)) => t.int(*x as u64),
            Some(V::SmallInt(x)) => t.int(*x as u64),
            Some(V::MediumInt(x)) | Some(V::Int(x)) | Some(V::Enum(x)) => t.int(*x as u64),
            Some(V::BigInt(x)) | Some(V::Set(x)) | Some(V::Timestamp(x)) => t.int(*x),
            Some(V::Float(x)) => t.int(x.to_bits() as u64),
            Some(V::Double(x)) => t.int(x.to_bits()),
            Some(V::Decimal(s)) | Some(V::String(s)) => t.bytes(s.as_bytes()),
            Some(V::Bit(b)) => t.int(b.iter().fold(0, |a, x| a << 1 | *x as u64)),
            Some(V::Blob(b)) => t.bytes(b),
            Some(V::Year(x)) => t.int(*x as u64),
            Some(V::Date(d)) => t.int((d.year as u64) << 16 ^ (d.month as u64) << 8 ^ d.day as u64),
            Some(V::Time(d)) => t.int(
                (d.hour as u64) << 40 ^ (d.minute as u64) << 32 ^ (d.second as u64) << 24 ^ d.millis as u64,
            ),
            Some(V::DateTime(d)) => t.int(
                (d.year as u64) << 44
                    ^ (d.month as u64) << 40
                    ^ (d.day as u64) << 35
                    ^ (d.hour as u64) << 30
                    ^ (d.minute as u64) << 25
                    ^ (d.second as u64) << 20
                    ^ d.millis as u64,
            ),
        }
    }
}

fn main() {
    let a: Vec<String> = std::env::args().collect();
    measure("mysql_cdc", &a[1], |t| {
        let r =
            BinlogReader::new(File::open(&a[1]).map_err(|e| e.to_string())?).map_err(|e| format!("{e:?}"))?;
        for e in r.read_events() {
            match e.map_err(|e| format!("{e:?}"))?.1 {
                BinlogEvent::WriteRowsEvent(e) => {
                    t.rows += e.rows.len() as u64;
                    e.rows.iter().for_each(|r| row(t, r));
                }
                BinlogEvent::DeleteRowsEvent(e) => {
                    t.rows += e.rows.len() as u64;
                    e.rows.iter().for_each(|r| row(t, r));
                }
                BinlogEvent::UpdateRowsEvent(e) => {
                    t.rows += e.rows.len() as u64;
                    e.rows.iter().for_each(|r| {
                        row(t, &r.before_update);
                        row(t, &r.after_update);
                    });
                }
                _ => {}
            }
        }
        Ok(())
    });
}

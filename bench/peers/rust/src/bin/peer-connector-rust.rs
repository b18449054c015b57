//! peer: mysql-binlog-connector-rust BinlogParser (no CRC check in the library). usage: peer-connector-rust FILE

use dts_bench_peers::{Tally, measure};
use mysql_binlog_connector_rust::{
    binlog_error::BinlogError,
    binlog_parser::BinlogParser,
    column::{column_value::ColumnValue as V, json::json_binary::JsonBinary},
    event::{event_data::EventData, row_event::RowEvent},
};
use std::{
    collections::HashMap,
    fs::File,
    io::{BufReader, Read, Seek, SeekFrom},
};

/// the library seeks over each event's CRC, and BufReader::seek would throw its buffer away every time
struct Reader(BufReader<File>);

impl Read for Reader {
    fn read(&mut self, b: &mut [u8]) -> std::io::Result<usize> {
        self.0.read(b)
    }
}

impl Seek for Reader {
    fn seek(&mut self, p: SeekFrom) -> std::io::Result<u64> {
        match p {
            SeekFrom::Current(n) => self.0.seek_relative(n).map(|_| 0),
            p => self.0.seek(p),
        }
    }
}

fn row(t: &mut Tally, r: &RowEvent) -> Result<(), String> {
    t.images += 1;
    for v in &r.column_values {
        match v {
            V::None => t.int(1),
            V::Tiny(x) => t.int(*x as u64),
            V::Short(x) => t.int(*x as u64),
            V::Long(x) => t.int(*x as u64),
            V::LongLong(x) => t.int(*x as u64),
            V::Float(x) => t.int(x.to_bits() as u64),
            V::Double(x) => t.int(x.to_bits()),
            V::Decimal(s) | V::Time(s) | V::Date(s) | V::DateTime(s) => t.bytes(s.as_bytes()),
            V::Timestamp(x) => t.int(*x as u64),
            V::Year(x) => t.int(*x as u64),
            V::String(b) | V::Blob(b) => t.bytes(b),
            V::Bit(x) | V::Set(x) => t.int(*x),
            V::Enum(x) => t.int(*x as u64),
            V::Json(b) => {
                t.bytes(JsonBinary::parse_as_string(b).map_err(|e| format!("json: {e}"))?.as_bytes())
            }
        }
    }
    Ok(())
}

fn event(t: &mut Tally, e: EventData) -> Result<(), String> {
    match e {
        EventData::WriteRows(e) => {
            t.rows += e.rows.len() as u64;
            e.rows.iter().try_for_each(|r| row(t, r))
        }
        EventData::DeleteRows(e) => {
            t.rows += e.rows.len() as u64;
            e.rows.iter().try_for_each(|r| row(t, r))
        }
        EventData::UpdateRows(e) => {
            t.rows += e.rows.len() as u64;
            e.rows.iter().try_for_each(|(b, a)| row(t, b).and_then(|_| row(t, a)))
        }
        EventData::TransactionPayload(p) => {
            p.uncompressed_events.into_iter().try_for_each(|(_, e)| event(t, e))
        }
        _ => Ok(()),
    }
}

fn main() {
    let a: Vec<String> = std::env::args().collect();
    measure("connector-rust", &a[1], |t| {
        let mut f = Reader(BufReader::with_capacity(1 << 20, File::open(&a[1]).map_err(|e| e.to_string())?));
        let mut p = BinlogParser { checksum_length: 0, table_map_event_by_table_id: HashMap::new() };
        p.check_magic(&mut f).map_err(|e| e.to_string())?;
        loop {
            match p.next(&mut f) {
                Ok((_, e)) => event(t, e)?,
                Err(BinlogError::IoError(e)) if e.kind() == std::io::ErrorKind::UnexpectedEof => {
                    return Ok(());
                }
                Err(e) => return Err(e.to_string()),
            }
        }
    });
}

//! peer: mysql_common BinlogFile. usage: peer-mysql-common [crc|nocrc] FILE

use dts_bench_peers::{Tally, measure};
use mysql_common::{
    binlog::{
        BinlogFile, EventStreamReader,
        consts::{BinlogChecksumAlg, BinlogVersion},
        events::{Event, EventData, RowsEventData},
        row::BinlogRow,
        value::BinlogValue,
    },
    value::Value,
};
use std::{fs::File, io::BufReader};

fn row(t: &mut Tally, r: BinlogRow) -> Result<(), String> {
    t.images += 1;
    for v in r.unwrap() {
        match v {
            BinlogValue::Value(v) => match v {
                Value::NULL => t.int(1),
                Value::Bytes(b) => t.bytes(&b),
                Value::Int(i) => t.int(i as u64),
                Value::UInt(u) => t.int(u),
                Value::Float(f) => t.int(f.to_bits() as u64),
                Value::Double(f) => t.int(f.to_bits()),
                Value::Date(y, mo, d, h, mi, s, us) => t.int(
                    (y as u64) << 44
                        ^ (mo as u64) << 40
                        ^ (d as u64) << 35
                        ^ (h as u64) << 30
                        ^ (mi as u64) << 25
                        ^ (s as u64) << 20
                        ^ us as u64,
                ),
                Value::Time(n, d, h, m, s, us) => t.int(
                    (n as u64) << 60
                        ^ (d as u64) << 40
                        ^ (h as u64) << 35
                        ^ (m as u64) << 28
                        ^ (s as u64) << 20
                        ^ us as u64,
                ),
            },
            BinlogValue::Jsonb(j) => {
                let j: serde_json::Value = j.try_into().map_err(|e| format!("json: {e:?}"))?;
                t.bytes(j.to_string().as_bytes());
            }
            BinlogValue::JsonDiff(d) => t.int(d.len() as u64),
        }
    }
    Ok(())
}

fn rows(t: &mut Tally, d: &RowsEventData<'_>, r: &EventStreamReader) -> Result<(), String> {
    let tme = r.get_tme(d.table_id()).ok_or("no table map")?;
    for x in d.rows(tme) {
        let (b, a) = x.map_err(|e| e.to_string())?;
        t.rows += 1;
        if let Some(b) = b {
            row(t, b)?;
        }
        if let Some(a) = a {
            row(t, a)?;
        }
    }
    Ok(())
}

fn check(t: &mut Tally, e: &Event) -> Result<(), String> {
    if let Some(c) = e.checksum() {
        if u32::from_le_bytes(c) != e.calc_checksum(BinlogChecksumAlg::BINLOG_CHECKSUM_ALG_CRC32) {
            return Err("crc mismatch".into());
        }
        t.crc_checked += 1;
    }
    Ok(())
}

fn main() {
    let a: Vec<String> = std::env::args().collect();
    let crc = a[1] == "crc";
    measure(if crc { "mysql_common" } else { "mysql_common-nocrc" }, &a[2], |t| {
        let f = BufReader::with_capacity(1 << 20, File::open(&a[2]).map_err(|e| e.to_string())?);
        let mut f = BinlogFile::new(BinlogVersion::Version4, f).map_err(|e| e.to_string())?;
        while let Some(e) = f.next() {
            let e = e.map_err(|e| e.to_string())?;
            if crc {
                check(t, &e)?;
            }
            match e.read_data().map_err(|e| e.to_string())? {
                Some(EventData::RowsEvent(d)) => rows(t, &d, f.reader())?,
                Some(EventData::TransactionPayloadEvent(p)) => {
                    let mut p = p.decompressed().map_err(|e| e.to_string())?;
                    while let Some(e) = f.reader_mut().read_decompressed(&mut p).map_err(|e| e.to_string())? {
                        if let Some(EventData::RowsEvent(d)) = e.read_data().map_err(|e| e.to_string())? {
                            rows(t, &d, f.reader())?;
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(())
    });
}

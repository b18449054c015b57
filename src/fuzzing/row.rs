//! Bodies of batches: what a spool holds and a device sends.

use std::sync::Arc;

use bytes::Bytes;

use crate::codec::json::{Format, Integers, Meta, write_batch};
use crate::event::batch::BodyError;
use crate::event::{Batch, BatchBuilder, Column, Origin, RowClock, Table, TableKind, Type};
use crate::mqtt::codec::sample::Gen;

/// Every type, by the first byte.
pub(super) fn ty(g: &mut Gen<'_>) -> Type {
    use Type::{
        Any, Bit, Bytes, Date, DateTime, Decimal, Enum, F32, F64, Geometry, I8, I16, I32, I64, Inet4, Inet6,
        Json, JsonB, JsonPatch, Set, Text, Time, Timestamp, U8, U16, U32, U64, Uuid, Vector, Year,
    };
    let kind = g.pick(30);
    // Of one byte, so that an input need not be long. Devices may say more digits than there are.
    let fsp = if matches!(kind, 12..=15) { g.u8() } else { 0 };
    match kind {
        0 => Any,
        1 => I8,
        2 => I16,
        3 => I32,
        4 => I64,
        5 => U8,
        6 => U16,
        7 => U32,
        8 => U64,
        9 => F32,
        10 => F64,
        11 => Date,
        12 => Decimal { precision: fsp, scale: g.u8() },
        13 => Time { fsp },
        14 => DateTime { fsp },
        15 => Timestamp { fsp },
        16 => Year,
        17 => Bit,
        18 => Enum,
        19 => Set,
        20 => Text,
        21 => Bytes,
        22 => Json,
        23 => JsonB,
        24 => JsonPatch,
        25 => Geometry,
        26 => Vector,
        27 => Uuid,
        28 => Inet4,
        _ => Inet6,
    }
}

pub(super) fn table(g: &mut Gen<'_>) -> Table {
    let columns = g.pick(6);
    let kind =
        [TableKind::Table, TableKind::Message, TableKind::Loss, TableKind::Ddl][usize::from(g.pick(4))];
    let column = |n: u8| {
        let mut column = Column::new(&format!("c{n}"), ty(g));
        match g.pick(4) {
            0 => column.key = Some(u16::from(g.pick(3))),
            1 => column.labels = vec!["a".into(), "\"\n".into()],
            _ => {}
        }
        column
    };
    Table { kind, db: "d".into(), name: "t".into(), version: 1, columns: (0..columns).map(column).collect() }
}

/// What was read must be fit for all that comes after it.
pub(super) fn judge(batch: &Batch) {
    for meta in [Meta::Full, Meta::Id, Meta::None] {
        for integers in [Integers::Number, Integers::String] {
            let mut out = Vec::new();
            // A message in the shape of a table is an error, and leaves whole lines.
            let whole = write_batch(&mut out, batch, Format { meta, integers });
            let lines: Vec<&[u8]> = out.split_inclusive(|b| *b == b'\n').collect();
            let want = whole.as_ref().map_or_else(|e| e.row, |()| batch.rows);
            assert_eq!(lines.len() as u64, u64::from(want), "{:?}", String::from_utf8_lossy(&out));
            for line in lines {
                let parsed = serde_json::from_slice::<serde::de::IgnoredAny>(line);
                assert!(parsed.is_ok(), "{parsed:?}: {:?}", String::from_utf8_lossy(line));
            }
        }
    }
    let mut copy = BatchBuilder::new(batch.source.clone());
    for row in batch {
        assert!(row.is_ok_and(|row| copy.push_row(&row).is_ok()), "a row that was read is not copied");
    }
    let copy = copy.finish();
    let known = |hash| batch.tables.iter().find(|t| t.hash() == hash).cloned();
    let again =
        Batch::from_body("s".into(), Origin::Input, RowClock::default(), copy.rows, copy.body.clone(), known);
    assert!(again.is_ok(), "{again:?}");
    for (a, b) in batch.iter().zip(&copy) {
        let (Ok(a), Ok(b)) = (a, b) else { continue };
        assert_eq!((a.op(), a.before_hash(), a.after_hash()), (b.op(), b.before_hash(), b.after_hash()));
        let (Ok(a), Ok(b)) = (a.images(), b.images()) else { continue };
        assert_eq!(format!("{a:?}"), format!("{b:?}"));
    }
}

/// Tables, then a body that refers to them.
pub fn row(data: &[u8]) {
    let g = &mut Gen(data);
    let tables: Vec<Arc<Table>> = (0..g.pick(3)).map(|_| Arc::new(table(g))).collect();
    for table in &tables {
        assert_eq!(Table::decode(&table.encode()).as_ref(), Some(&**table));
    }
    let body = if g.bit() {
        let mut body = vec![1, 0, tables.len() as u8, 0];
        body.extend(tables.iter().flat_map(|t| t.hash().to_le_bytes()));
        body.extend_from_slice(g.0);
        Bytes::from(body)
    } else {
        Table::decode(g.0);
        Bytes::copy_from_slice(g.0)
    };
    let read = |rows| {
        let known = |hash| tables.iter().find(|t| t.hash() == hash).cloned();
        Batch::from_body("s".into(), Origin::Input, RowClock::default(), rows, body.clone(), known)
    };
    let batch = match read(0) {
        Err(BodyError::Rows { got, .. }) => read(got),
        other => other,
    };
    if let Ok(batch) = batch {
        judge(&batch);
    }
}

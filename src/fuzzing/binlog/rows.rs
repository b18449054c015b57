//! Rows, looked at in every way there is; all must agree.

use std::sync::Arc;

use crate::event::{self, Batch, Origin, RowClock};
use crate::fuzzing::row;
use crate::source::mysql::binlog::to_event::{RowStamp, ToEvent, utf8_only};
use crate::source::mysql::binlog::{Fold, Rows, Value};

/// Counts, folds, and makes dts' own rows of them. Whether the rows are sound.
pub(super) fn judge(rows: &Rows<'_>, fold: &mut Fold) -> bool {
    let counted = rows.count();
    let before = fold.rows;
    let folded = rows.walk(fold);
    // Folding reads values to their end and so sees more that is wrong.
    assert!(counted.is_ok() || folded.is_err(), "{counted:?} {folded:?}");
    let mut to = ToEvent::new(rows.table, 1, 1 << 20, &mut utf8_only);
    let mut records = Records::default();
    let (mut cursor, mut read) = (rows.cursor(), 0);
    let ended = loop {
        let Some(row) = cursor.next() else { break Ok(()) };
        let row = match row {
            Ok(row) => row,
            Err(problem) => break Err(problem),
        };
        assert_eq!(row.index, rows.part.rows_before + read);
        for image in [row.before, row.after].into_iter().flatten() {
            assert_eq!(image.len(), rows.table.columns.len());
            image.iter().for_each(look);
        }
        let stamp = RowStamp { ordinal: read, hlc: 0 };
        let start = records.bytes.len();
        let Records { tables, bytes, rows: count } = &mut records;
        let mut schema = |table: &Arc<event::Table>| {
            let known = tables.iter().position(|t| t == table);
            let place = known.unwrap_or_else(|| {
                tables.push(table.clone());
                tables.len() - 1
            });
            u16::try_from(place).ok()
        };
        match to.write(bytes, rows, &row, stamp, &mut utf8_only, &mut schema) {
            Ok(()) => *count += 1,
            // A value that is read as bytes may be no number, document or UTF-8.
            Err(_) => bytes.truncate(start),
        }
        read += 1;
    };
    assert_eq!(counted.is_ok(), ended.is_ok(), "{counted:?} {ended:?}");
    if let Ok(count) = counted {
        assert_eq!(count, read);
    }
    if folded.is_ok() {
        assert_eq!(fold.rows - before, read);
    }
    records.judge();
    folded.is_ok()
}

fn look(value: &Value<'_>) {
    let (mut out, mut inflated) = (Vec::new(), Vec::new());
    match value {
        Value::Decimal(d) if d.write(&mut out).is_ok() => {
            assert!(out.iter().all(|b| b.is_ascii_digit() || b"-.".contains(b)), "{d:?}");
        }
        Value::Json(doc) => super::json::judge(doc),
        Value::JsonDiff(diffs) => diffs.iter().for_each(drop),
        Value::Compressed(c) => drop(c.inflate(&mut inflated, 1 << 16).map(<[u8]>::len)),
        _ => {}
    }
    assert!(inflated.len() <= 1 << 16);
}

/// dts' own rows.
#[derive(Default)]
struct Records {
    tables: Vec<Arc<event::Table>>,
    bytes: Vec<u8>,
    rows: u32,
}

impl Records {
    /// They are fit for all that comes after the source.
    fn judge(self) {
        if self.rows == 0 {
            return;
        }
        let mut body = vec![1, 0];
        body.extend((self.tables.len() as u16).to_le_bytes());
        body.extend(self.tables.iter().flat_map(|table| table.hash().to_le_bytes()));
        body.extend_from_slice(&self.bytes);
        let known = |hash| self.tables.iter().find(|t| t.hash() == hash).cloned();
        let batch =
            Batch::from_body("s".into(), Origin::Input, RowClock::default(), self.rows, body.into(), known);
        match batch {
            Ok(batch) => row::judge(&batch),
            Err(error) => assert!(self.tables.len() > usize::from(u16::MAX), "{error:?}"),
        }
    }
}

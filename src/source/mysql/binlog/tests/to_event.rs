//! Rows of the recordings as dts' own row records.

use super::super::to_event::{RowStamp, RowsStamp, ToEvent, utf8_only};
use super::*;
use crate::event::{self, BatchBuilder, RowView, Type};

/// Converts every row of a recording and reads the records back.
fn convert(name: &str, mut look: impl FnMut(&RowView<'_>)) -> usize {
    let mut reader = reader(recording(name));
    let mut converters = std::collections::HashMap::new();
    let mut count = 0;
    while let Some(item) = reader.next().unwrap() {
        let Event::Rows(rows) = item.event else { continue };
        let to = converters
            .entry(rows.table.generation)
            .or_insert_with(|| ToEvent::new(rows.table, 1, 1 << 20, &mut utf8_only));
        let mut cursor = rows.cursor();
        while let Some(row) = cursor.next() {
            let row = row.unwrap();
            let (mut out, mut batch) = (Vec::new(), BatchBuilder::new("x".into()));
            let mut tables = Vec::new();
            let mut schema = |table: &std::sync::Arc<event::Table>| {
                tables.push(table.clone());
                batch.table(table)
            };
            to.write(
                &mut out,
                &rows,
                &row,
                RowStamp { ordinal: count as u64, hlc: 0 },
                &mut utf8_only,
                &mut schema,
            )
            .unwrap();
            let mut rest = &out[..];
            let view = RowView::take(&mut rest, &tables).unwrap();
            assert!(rest.is_empty());
            let (before, after) = view.images().unwrap();
            assert_eq!((before.is_some(), after.is_some()), (row.before.is_some(), row.after.is_some()));
            look(&view);
            count += 1;
        }
    }
    count
}

#[test]
fn every_row_of_every_recording_becomes_a_record() {
    let mut rows = 0;
    for (name, _) in recordings().iter().filter(|(n, _)| !n.contains("hires") && !n.contains("minimal")) {
        rows += convert(name, |_| {});
    }
    assert!(rows > 3000, "{rows}");
}

#[test]
fn a_patched_document_is_text_and_an_unresolved_one_a_patch() {
    let (mut text, mut patch) = (0, 0);
    let mut look = |view: &RowView<'_>| {
        let ty = view.table().columns[1].ty;
        text += usize::from(ty == Type::Json);
        patch += usize::from(ty == Type::JsonPatch);
        if ty == Type::Json {
            let (before, after) = view.images().unwrap();
            for image in [before, after].into_iter().flatten() {
                let Some(event::Value::Text(doc)) = image.get(1) else { panic!("{image:?}") };
                serde_json::from_str::<serde_json::Value>(doc).unwrap();
            }
        }
    };
    convert("mysql97-partial-json.binlog", &mut look);
    convert("mysql97-partial-json-minimal.binlog", &mut look);
    assert!(text > 5 && patch > 5, "{text} {patch}");
}

#[test]
fn text_that_is_none_stays_bytes() {
    // l1 is latin1, which this test's converter does not know.
    let mut seen = false;
    convert("mysql97-full.binlog", |view| {
        let Some(column) = view.table().columns.iter().position(|c| &*c.name == "l1") else { return };
        if let Some(event::Value::RawText(raw)) = view.newest().unwrap().unwrap().get(column) {
            assert_eq!((raw, view.table().columns[column].ty), (&[0xe9][..], Type::Any));
            seen = true;
        }
    });
    assert!(seen);
}

#[test]
fn all_rows_of_an_event_at_once_are_the_records_of_each() {
    let (mut events, mut records) = (0, 0);
    // Old temporal types with fractions need the DDL.
    for (name, _) in recordings().iter().filter(|(name, _)| !name.contains("hires")) {
        let mut reader = reader(recording(name));
        let mut converters = std::collections::HashMap::new();
        while let Some(item) = reader.next().unwrap() {
            let Event::Rows(rows) = item.event else { continue };
            let to = converters
                .entry(rows.table.generation)
                .or_insert_with(|| ToEvent::new(rows.table, 1, 1 << 20, &mut utf8_only));
            let mut batch = BatchBuilder::new("x".into());
            let schema = batch.table(to.table()).unwrap();
            let stamp = RowsStamp { ordinal: 65_530, time_ms: 1_700_000_000_000, schema };
            let mut all = vec![7];
            let written = to.write_all(&mut all, &rows, stamp, &mut utf8_only, &mut |t| batch.table(t));
            let (mut each, mut cursor) = (vec![7], rows.cursor());
            let mut count = 0;
            while let Some(row) = cursor.next() {
                let row = row.unwrap();
                let ordinal = stamp.ordinal + count;
                let one = RowStamp { ordinal, hlc: stamp.hlc(ordinal) };
                to.write(&mut each, &rows, &row, one, &mut utf8_only, &mut |t| batch.table(t)).unwrap();
                count += 1;
            }
            assert_eq!(u64::from(written.unwrap()), count, "{name}");
            assert!(all == each, "{name}: {}", rows.table.full_name());
            events += 1;
            records += count;
        }
    }
    assert!(events > 100 && records > 3000, "{events} {records}");
}

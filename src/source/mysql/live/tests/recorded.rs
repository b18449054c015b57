//! Recordings of real servers through the core, and events cut off at every place.

use std::io::Cursor;
use std::sync::Arc;
use std::time::Duration;

use super::super::config::OnUnlogged;
use super::super::core::{Core, Limits, Out, Read};
use super::super::error::LiveError;
use super::super::filter::Filter;
use super::super::place::Mark;
use crate::event::{Batch, Op, Origin, TableKind};
use crate::runtime::Mono;
use crate::source::mysql::binlog::tests::recording;
use crate::source::mysql::binlog::{Event, Options, Reader};

const LIMITS: Limits = Limits {
    batch_bytes: 4096,
    max_row_bytes: 64 << 20,
    max_xa_bytes: 64 << 20,
    mark_interval: Duration::from_secs(5),
};

fn core(include: &[&str], limits: Limits) -> Core {
    let include: Vec<String> = include.iter().map(|s| (*s).to_owned()).collect();
    let filter = Filter::new(&include, &[]).unwrap();
    let mut core = Core::new("s".into(), filter, limits, OnUnlogged::Alert, Read::default());
    core.connected("uuid", "b.000001");
    core
}

/// Feeds a recording; `each` is called behind every event.
fn feed(core: &mut Core, name: &str, mut each: impl FnMut(&mut Core)) -> Result<(), LiveError> {
    let mut reader = Reader::from_stream(Cursor::new(recording(name)), Options::default());
    while let Some(item) = reader.next().unwrap() {
        let statement = match &item.event {
            Event::Query(query) => Some(core.tables.statement(query)),
            _ => None,
        };
        core.event(&item, statement.as_ref(), Mono(0))?;
        let new = match &item.event {
            Event::TableMap(map) => core.tables.news(map).map(|hints| (map.table_id, hints)),
            _ => None,
        };
        if let Some((id, hints)) = new {
            reader.describe(id, &hints).unwrap();
            if let Some(map) = reader.decoder().table(id) {
                core.tables.handled(map);
            }
        }
        each(core);
    }
    core.idle(Mono(u64::MAX));
    Ok(())
}

fn batches(core: &mut Core) -> Vec<(Batch, Option<Mark>)> {
    let of = |out| match out {
        Out::Batch(batch, mark) => Some((batch, mark)),
        _ => None,
    };
    core.out.drain(..).filter_map(of).collect()
}

/// Id and images of every row: what two ways through the core are compared by.
fn rows(batches: &[(Batch, Option<Mark>)]) -> Vec<String> {
    let mut lines = Vec::new();
    for (batch, _) in batches {
        let Origin::Binlog(log) = &batch.origin else { panic!("{:?}", batch.origin) };
        let mut count = 0;
        for (i, row) in batch.iter().enumerate() {
            let row = row.unwrap();
            let (event, transaction) = log.of(i as u32).unwrap();
            let (before, after) = row.images().unwrap();
            let text = |image: Option<_>| format!("{image:?}");
            lines.push(format!(
                "{}:{}:{}#{} {} {:?} {} {} {}",
                transaction.gtid,
                transaction.file,
                transaction.start,
                row.head().ordinal,
                event.end,
                row.head().op,
                row.table().name,
                text(before),
                text(after)
            ));
            count += 1;
        }
        assert_eq!(count, batch.rows);
        assert_eq!(log.events.first().map(|event| event.first_row), Some(0));
    }
    lines
}

const RECORDINGS: &[&str] = &[
    "mysql97-full.binlog",
    "mysql97-minimal.binlog",
    "mysql97-compressed.binlog",
    "mysql97-tagged.binlog",
    "mysql97-partial-json.binlog",
    "mariadb118-full.binlog",
    "mariadb118-compressed.binlog",
];

/// Rows in the recording, by a reader alone.
fn count(name: &str) -> u64 {
    let mut reader = Reader::from_stream(Cursor::new(recording(name)), Options::default());
    let mut count = 0;
    while let Some(item) = reader.next().unwrap() {
        if let Event::Rows(rows) = item.event {
            count += rows.count().unwrap();
        }
    }
    count
}

#[test]
fn every_row_of_a_recording_comes_whatever_the_batches() {
    for name in RECORDINGS {
        let mut whole = core(&[], Limits { batch_bytes: 1 << 30, ..LIMITS });
        feed(&mut whole, name, |_| ()).unwrap();
        let whole = rows(&batches(&mut whole));
        let data = whole.iter().filter(|line| !line.contains(&format!(" {:?} ", Op::Ddl))).count();
        assert_eq!(data as u64, count(name), "{name}");
        for batch_bytes in [1, 300, 5000] {
            let mut cut = core(&[], Limits { batch_bytes, ..LIMITS });
            feed(&mut cut, name, |_| ()).unwrap();
            assert!(rows(&batches(&mut cut)) == whole, "{name} {batch_bytes}");
        }
        let mut idle = core(&[], LIMITS);
        feed(&mut idle, name, |core| core.idle(Mono(0))).unwrap();
        assert!(rows(&batches(&mut idle)) == whole, "{name}");
    }
}

#[test]
fn ordinals_do_not_depend_on_the_filter() {
    for name in RECORDINGS {
        let mut all = core(&[], LIMITS);
        feed(&mut all, name, |_| ()).unwrap();
        let all = batches(&mut all);
        // The table of some row in the middle.
        let shapes = all[all.len() / 2..].iter().flat_map(|(batch, _)| batch.tables.iter());
        let table = shapes.clone().find(|table| table.kind == TableKind::Table).unwrap();
        let mut some = core(&[&format!("{}.{}", table.db, table.name)], LIMITS);
        feed(&mut some, name, |_| ()).unwrap();
        let in_table = format!(" {} ", table.name);
        let only = |rows: Vec<String>| rows.into_iter().filter(|r| r.contains(&in_table)).collect::<Vec<_>>();
        let (got, wanted) = (only(rows(&batches(&mut some))), only(rows(&all)));
        assert!(!got.is_empty() && got == wanted, "{name}");
    }
}

/// A mark says that all rows of the transactions before it were handed on, and none behind it.
#[test]
fn marks_stand_between_transactions() {
    for name in RECORDINGS {
        let mut core = core(&[], Limits { batch_bytes: 300, ..LIMITS });
        feed(&mut core, name, |_| ()).unwrap();
        let batches = batches(&mut core);
        let (mut last, mut seen) = (0, 0);
        for (batch, mark) in &batches {
            let Origin::Binlog(log) = &batch.origin else { panic!() };
            let mark = mark.as_ref().unwrap();
            // The recording ends with the next file.
            if &*mark.file != "b.000001" {
                continue;
            }
            assert!(mark.pos >= last, "{name}");
            last = mark.pos;
            for event in &log.events {
                let start = log.transactions[event.transaction as usize].start;
                // What stands before the mark is whole.
                if start < mark.pos {
                    assert!(event.end <= mark.pos, "{name}: {event:?} {mark:?}");
                }
                assert!(start >= seen || start < mark.pos, "{name}");
            }
            seen = seen.max(log.transactions.first().map_or(0, |t| t.start));
        }
        assert!(last > 4 && last as usize <= recording(name).len(), "{name}");
        let gtids = core.read.gtids.text();
        assert!(gtids.is_some_and(|text| !text.is_empty()), "{name}");
    }
}

#[test]
fn what_was_not_whole_is_not_handed_on_when_the_connection_is_lost() {
    let name = "mysql97-full.binlog";
    let mut whole = core(&[], LIMITS);
    feed(&mut whole, name, |_| ()).unwrap();
    let whole = rows(&batches(&mut whole));
    let mut core = core(&[], Limits { batch_bytes: 1 << 30, ..LIMITS });
    let mut reader = Reader::from_stream(Cursor::new(recording(name)), Options::default());
    let mut events = 0;
    // Until the rows of some transaction stand open.
    while let Some(item) = reader.next().unwrap() {
        let statement = match &item.event {
            Event::Query(query) => Some(core.tables.statement(query)),
            _ => None,
        };
        core.event(&item, statement.as_ref(), Mono(0)).unwrap();
        events += 1;
        if events > 40 && matches!(item.event, Event::Rows(_)) {
            break;
        }
    }
    core.connected("uuid", "b.000001");
    core.idle(Mono(0));
    let got = rows(&batches(&mut core));
    assert!(!got.is_empty() && got.len() < whole.len());
    assert_eq!(got, whole[..got.len()]);
    let source: Arc<str> = "b.000001".into();
    assert_eq!(core.read.file, source);
}

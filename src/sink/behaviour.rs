//! What every sink must do, by its declared [`Abilities`]. Each sink's tests run [`suite`] on it.

// Not every set of features has every sink.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::{Mark, Sink, SinkConfig, SinkError};
use crate::event::builtin::{self, Loss, Payload};
use crate::event::{Batch, BatchBuilder, Column, Image, Op, Origin, Table, TableKind, Type, Value};
use crate::runtime::block_on;

/// A sink under test, and how to look at what it wrote.
pub(crate) trait Subject {
    /// Its config; opened several times over, always on the same place.
    fn config(&self) -> Box<dyn SinkConfig>;

    /// The newest value of each key of [`readings`], after everything written so far.
    fn state(&self) -> BTreeMap<i64, String>;

    /// The kinds of all events without a row, sorted; without doubles that have the same id.
    fn kinds(&self) -> Vec<String>;

    /// Ids of all rows in the order of their arrival, doubles included. `None` if the sink keeps
    /// the newest row only.
    fn ids(&self) -> Option<Vec<String>>;

    /// Makes the next writes fail in a way that passes. `false` if there is no way to.
    fn break_it(&mut self) -> bool {
        false
    }

    /// Ends that.
    fn mend(&mut self) {}

    /// Whether a reopened sink finds what was written before, so that the observers above do.
    fn keeps(&self) -> bool {
        true
    }

    /// Whether it looks at rows at all (`null` does not).
    fn reads_rows(&self) -> bool {
        true
    }
}

/// A folder that is gone when this is dropped.
#[derive(Debug)]
pub(crate) struct TempDir(pub(crate) PathBuf);

impl TempDir {
    pub(crate) fn new(what: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("dts-{what}-{}-{n}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// `id` (key), `label`, `value`.
pub(crate) fn readings() -> Arc<Table> {
    let mut id = Column::new("id", Type::I64);
    id.key = Some(0);
    Arc::new(Table {
        kind: TableKind::Table,
        db: "app".into(),
        name: "readings".into(),
        version: 1,
        columns: vec![id, Column::new("label", Type::Text), Column::new("value", Type::Any)],
    })
}

/// A stored batch of the device `press-7`, lane `main`, epoch 2, from `first_seq`.
pub(crate) fn batch(first_seq: u64, fill: impl FnOnce(&mut BatchBuilder)) -> Batch {
    let mut b = BatchBuilder::new("app".into());
    fill(&mut b);
    let mut batch = b.finish();
    batch.origin = Origin::Device {
        device: "press-7".into(),
        lane: "main".into(),
        epoch: 2 << 32 | 0xabc,
        first_seq,
        last_seq: (first_seq + u64::from(batch.rows)).saturating_sub(1),
    };
    batch
}

pub(crate) const HLC: u64 = 1_700_000_000_000 << 16;

/// Writes `label` under `id`.
pub(crate) fn put(b: &mut BatchBuilder, op: Op, id: i64, label: &str) {
    let values = [Value::Int(id), Value::Text(label), Value::F64(0.5)];
    b.push(op, HLC, &readings(), None, Some(Image::full(&values))).unwrap();
}

/// Replaces `old` by `new` under `id`.
pub(crate) fn update(b: &mut BatchBuilder, id: i64, old: &str, new: &str) {
    let old = [Value::Int(id), Value::Text(old), Value::F64(0.5)];
    let new = [Value::Int(id), Value::Text(new), Value::F64(0.5)];
    b.push(Op::Update, HLC, &readings(), Some(Image::full(&old)), Some(Image::full(&new))).unwrap();
}

pub(crate) fn delete(b: &mut BatchBuilder, id: i64, label: &str) {
    let values = [Value::Int(id), Value::Text(label), Value::F64(0.5)];
    b.push(Op::Delete, HLC, &readings(), Some(Image::full(&values)), None).unwrap();
}

/// A row that no sink can write: a loss that lacks everything of one.
fn impossible(b: &mut BatchBuilder) {
    let values = [Value::Int(1), Value::Null, Value::Null];
    b.push(Op::Loss, HLC, &readings(), None, Some(Image::full(&values))).unwrap();
}

/// One message in every form, a loss and a schema change.
pub(crate) fn builtins(b: &mut BatchBuilder) {
    for payload in [Payload::Json("{\"a\":[1]}"), Payload::Text("plain"), Payload::Bytes(b"\xff\x00")] {
        let m = builtin::message_values("t/1", Some("k"), payload, Some("{\"h\":\"x\"}"));
        b.push(Op::Message, HLC, builtin::message(), None, builtin::image(&m)).unwrap();
    }
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
    let ddl = [Value::Text("app"), Value::Text("[[\"app\",\"t\"]]"), Value::Text("DROP TABLE t")];
    b.push(Op::Ddl, HLC, builtin::ddl(), None, builtin::image(&ddl)).unwrap();
}

fn mark(seq: u64) -> Mark {
    Mark {
        device: "press-7".into(),
        lane: "main".into(),
        epoch: 2 << 32 | 0xabc,
        seq,
        crc: 0xdead_beef,
        session: 7,
    }
}

fn state(pairs: &[(i64, &str)]) -> BTreeMap<i64, String> {
    pairs.iter().map(|&(k, v)| (k, v.to_owned())).collect()
}

fn open(subject: &dyn Subject) -> Box<dyn Sink> {
    block_on(async { subject.config().open("under-test").await.expect("opens") })
}

fn write(sink: &mut Box<dyn Sink>, batches: &[Batch], marks: &[Mark]) -> Result<(), SinkError> {
    block_on(sink.write(batches.to_vec(), marks.to_vec()))
}

fn close(sink: Box<dyn Sink>) {
    block_on(sink.close()).expect("closes");
}

/// Everything; `new` makes a fresh place each time.
pub(crate) fn suite<S: Subject>(new: impl Fn() -> S) {
    nothing_written_is_nothing(&new());
    order_is_kept(&new());
    every_kind_is_taken(&new());
    ten_thousand_rows(&new());
    twice_is_once(&new());
    a_rejected_row_is_named(&new());
    marks_go_with_rows(&new());
    reopened_it_goes_on(&new());
    after_a_failure_the_same_write_passes(&mut new());
}

fn nothing_written_is_nothing(subject: &dyn Subject) {
    let mut sink = open(subject);
    assert!(block_on(sink.marks()).unwrap().is_empty());
    write(&mut sink, &[], &[]).unwrap();
    write(&mut sink, &[batch(1, |_| {}), batch(1, |_| {})], &[]).unwrap();
    assert!(!block_on(sink.probe()).unwrap().is_empty());
    assert!(sink.abilities().max_write_bytes > 0);
    close(sink);
    assert!(subject.state().is_empty());
    assert!(subject.kinds().is_empty());
}

fn order_is_kept(subject: &dyn Subject) {
    let mut sink = open(subject);
    let one = batch(1, |b| {
        put(b, Op::Insert, 1, "a");
        put(b, Op::Snapshot, 2, "b");
        update(b, 1, "a", "c");
    });
    let two = batch(4, |b| {
        delete(b, 2, "b");
        put(b, Op::Insert, 3, "d");
        update(b, 1, "c", "e");
    });
    write(&mut sink, &[one, two], &[]).unwrap();
    write(&mut sink, &[batch(7, |b| update(b, 1, "e", "f"))], &[]).unwrap();
    close(sink);
    if subject.reads_rows() {
        assert_eq!(subject.state(), state(&[(1, "f"), (3, "d")]));
    }
    if let Some(ids) = subject.ids() {
        let expected: Vec<_> = (1..=7).map(|n| format!("press-7/main/0000000200000abc/{n}")).collect();
        assert_eq!(ids, expected);
    }
}

fn every_kind_is_taken(subject: &dyn Subject) {
    let mut sink = open(subject);
    write(&mut sink, &[batch(1, builtins)], &[]).unwrap();
    let table = readings();
    let rows = batch(6, |b| {
        put(b, Op::Insert, 1, "gone");
        b.push(Op::Truncate, HLC, &table, None, None).unwrap();
        put(b, Op::Insert, 2, "kept");
        let values = [Value::Int(2), Value::Null, Value::Int(5)];
        let part = Image { values: &values, present: Some(&[true, false, true]) };
        b.push(Op::Update, HLC, &table, Some(part), Some(part)).unwrap();
    });
    write(&mut sink, &[rows], &[]).unwrap();
    close(sink);
    if subject.reads_rows() {
        assert_eq!(subject.kinds(), ["ddl", "loss", "message", "message", "message"]);
        assert_eq!(subject.state(), state(&[(2, "kept")]));
    }
}

fn ten_thousand_rows(subject: &dyn Subject) {
    let mut sink = open(subject);
    let many = batch(1, |b| (0..10_000).for_each(|n| put(b, Op::Insert, n, "x")));
    write(&mut sink, &[many], &[]).unwrap();
    close(sink);
    if subject.reads_rows() {
        assert_eq!(subject.state().len(), 10_000);
    }
}

fn twice_is_once(subject: &dyn Subject) {
    let mut sink = open(subject);
    let once = [
        batch(1, |b| {
            put(b, Op::Insert, 1, "a");
            put(b, Op::Insert, 2, "b");
        }),
        batch(3, |b| {
            delete(b, 2, "b");
            update(b, 1, "a", "c");
        }),
        batch(5, builtins),
    ];
    write(&mut sink, &once, &[]).unwrap();
    let (rows, kinds, ids) = (subject.state(), subject.kinds(), subject.ids());
    write(&mut sink, &once, &[]).unwrap();
    write(&mut sink, &once[..1], &[]).unwrap();
    let idempotent = sink.abilities().idempotent;
    close(sink);
    if idempotent {
        assert_eq!((subject.state(), subject.kinds(), subject.ids()), (rows, kinds, ids));
    } else if let (Some(before), Some(after)) = (ids, subject.ids()) {
        // Doubles are there, and can be told by their ids.
        assert_eq!(after.len(), 2 * before.len() + 2);
        assert_eq!(subject.kinds(), kinds);
    }
}

fn a_rejected_row_is_named(subject: &dyn Subject) {
    if !subject.reads_rows() {
        return;
    }
    let mut sink = open(subject);
    let good = batch(1, |b| put(b, Op::Insert, 1, "a"));
    let bad = batch(2, |b| {
        put(b, Op::Insert, 2, "b");
        put(b, Op::Insert, 3, "c");
        impossible(b);
        put(b, Op::Insert, 4, "d");
    });
    match write(&mut sink, &[good.clone(), bad], &[mark(5)]) {
        Err(SinkError::Reject { batch: 1, row: 2, reason }) => assert!(!reason.is_empty()),
        other => panic!("expected a reject of batch 1, row 2, got {other:?}"),
    }
    if sink.abilities().marks {
        assert!(subject.state().is_empty(), "a rejected write left rows");
        assert!(block_on(sink.marks()).unwrap().is_empty(), "a rejected write left marks");
    }
    // Without the row the rest passes; its sequence number stays unused.
    let without = batch(2, |b| {
        put(b, Op::Insert, 2, "b");
        put(b, Op::Insert, 3, "c");
        let mut last = BatchBuilder::new("app".into());
        put(&mut last, Op::Insert, 4, "d");
        let last = last.finish();
        b.push_row_at(&last.iter().next().unwrap().unwrap(), 3).unwrap();
    });
    write(&mut sink, &[good, without], &[mark(5)]).unwrap();
    close(sink);
    assert_eq!(subject.state(), state(&[(1, "a"), (2, "b"), (3, "c"), (4, "d")]));
}

fn marks_go_with_rows(subject: &dyn Subject) {
    let mut sink = open(subject);
    let has = sink.abilities().marks;
    write(&mut sink, &[batch(1, |b| put(b, Op::Insert, 1, "a"))], &[mark(1)]).unwrap();
    write(&mut sink, &[batch(2, |b| put(b, Op::Insert, 2, "b"))], &[mark(2)]).unwrap();
    // Without rows: a mark over named losses.
    write(&mut sink, &[], &[mark(9)]).unwrap();
    let expected = if has { vec![mark(9)] } else { Vec::new() };
    assert_eq!(block_on(sink.marks()).unwrap(), expected);
    close(sink);
    let mut sink = open(subject);
    assert_eq!(block_on(sink.marks()).unwrap(), expected);
    close(sink);
}

fn reopened_it_goes_on(subject: &dyn Subject) {
    if !subject.keeps() {
        return;
    }
    for n in 1..4 {
        let mut sink = open(subject);
        let id = n as i64;
        write(&mut sink, &[batch(n, |b| put(b, Op::Insert, id, "x"))], &[]).unwrap();
        if n == 2 {
            // Dropped and not closed, as by a crash.
            drop(sink);
        } else {
            close(sink);
        }
    }
    assert_eq!(subject.state().into_keys().collect::<Vec<_>>(), [1, 2, 3]);
}

fn after_a_failure_the_same_write_passes(subject: &mut dyn Subject) {
    let mut sink = open(subject);
    write(&mut sink, &[batch(1, |b| put(b, Op::Insert, 1, "a"))], &[]).unwrap();
    if !subject.break_it() {
        return close(sink);
    }
    let wide = "x".repeat(100_000);
    let next = [batch(2, |b| put(b, Op::Insert, 2, &wide)), batch(3, |b| update(b, 1, "a", "b"))];
    match write(&mut sink, &next, &[mark(3)]) {
        Err(SinkError::Retry(text)) => assert!(!text.is_empty()),
        other => panic!("expected Retry, got {other:?}"),
    }
    subject.mend();
    write(&mut sink, &next, &[mark(3)]).unwrap();
    close(sink);
    assert_eq!(subject.state(), state(&[(1, "b"), (2, &wide)]));
    if let Some(ids) = subject.ids() {
        assert_eq!(ids.len(), 3, "a failed write left something: {ids:?}");
    }
}

/// Reads NDJSON as written by `file`, `stdout`, `http`: the observers of those sinks.
pub(crate) mod ndjson {
    use super::*;

    fn parsed(text: &str) -> Vec<serde_json::Value> {
        text.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
    }

    pub(crate) fn ids(text: &str) -> Vec<String> {
        parsed(text).iter().map(|v| v["id"].as_str().unwrap().to_owned()).collect()
    }

    pub(crate) fn state(text: &str) -> BTreeMap<i64, String> {
        let mut state = BTreeMap::new();
        for line in parsed(text).iter().filter(|v| v["kind"] == "row") {
            match (line["op"].as_str().unwrap(), &line["after"]) {
                ("truncate", _) => state.clear(),
                ("delete", _) => {
                    state.remove(&line["key"]["id"].as_i64().unwrap());
                }
                (_, after) => {
                    if let Some(label) = after["label"].as_str() {
                        state.insert(after["id"].as_i64().unwrap(), label.to_owned());
                    }
                }
            }
        }
        state
    }

    pub(crate) fn kinds(text: &str) -> Vec<String> {
        let unique: BTreeMap<_, _> = parsed(text)
            .into_iter()
            .filter(|v| v["kind"] != "row")
            .map(|v| (v["id"].as_str().unwrap().to_owned(), v["kind"].as_str().unwrap().to_owned()))
            .collect();
        let mut kinds: Vec<_> = unique.into_values().collect();
        kinds.sort();
        kinds
    }
}

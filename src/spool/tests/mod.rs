//! Tests of the spool: one file a concern.

mod basic;
mod classes;
mod damage;
mod full;
mod limits;
#[cfg(feature = "full")]
mod log_damage;
mod model;
mod reconcile;
mod reduce;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::*;
use crate::event::builtin::{self, Loss, Payload};
use crate::event::{Batch, BatchBuilder, Op, Origin, Value};
use crate::runtime::Mono;

/// A folder that is removed at the end.
pub(super) struct TempDir(PathBuf);

impl TempDir {
    pub(super) fn new() -> Self {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let n = COUNTER.fetch_add(1, Ordering::Relaxed);
        // In memory where there is such a place: thousands of fsyncs are not what is tested.
        let memory = Path::new("/dev/shm");
        let root = if memory.is_dir() { memory.to_path_buf() } else { std::env::temp_dir() };
        let dir = root.join(format!("dts-spool-{}-{n}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// What a power cut or SIGKILL leaves: the files as they are now, in a new folder.
    pub(super) fn crash(&self) -> Self {
        let copy = Self::new();
        for entry in std::fs::read_dir(&self.0).unwrap() {
            let entry = entry.unwrap();
            std::fs::copy(entry.path(), copy.0.join(entry.file_name())).unwrap();
        }
        copy
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let removed = std::fs::remove_dir_all(&self.0);
        assert!(removed.is_ok() || std::thread::panicking(), "{removed:?}");
    }
}

/// Epochs numbered from 1, each with a random half that tells nothing.
pub(super) fn epochs(next: &Arc<AtomicU32>) -> Epochs {
    let next = next.clone();
    Box::new(move |at_least| {
        let number = next.fetch_max(at_least, Ordering::SeqCst).max(at_least);
        next.store(number + 1, Ordering::SeqCst);
        Ok(u64::from(number) << 32 | 0xabcd)
    })
}

pub(super) fn number() -> Arc<AtomicU32> {
    Arc::new(AtomicU32::new(1))
}

pub(super) fn options(dir: &TempDir, lanes: Vec<LaneOptions>) -> Options {
    Options { lanes, boot: 7, reserve_bytes: 64 << 10, ..Options::new(dir.path(), "dev1") }
}

pub(super) fn lane(class: Class) -> LaneOptions {
    LaneOptions::new("data", class)
}

pub(super) fn at(ms: u64) -> Mono {
    Mono(1_000_000 + ms * 1000)
}

/// A batch of messages, one a number; the payload says the number.
pub(super) fn batch(numbers: impl IntoIterator<Item = u64>) -> Batch {
    batch_of("app", numbers, 0)
}

pub(super) fn batch_of(source: &str, numbers: impl IntoIterator<Item = u64>, padding: usize) -> Batch {
    let mut builder = BatchBuilder::new(source.into());
    for n in numbers {
        let text = format!("{n}:{}", "x".repeat(padding));
        let values = builtin::message_values("t", None, Payload::Text(&text), None);
        builder.push(Op::Message, n, builtin::message(), None, builtin::image(&values)).unwrap();
    }
    builder.finish()
}

/// What a stored batch says: its rows' numbers and sequence numbers, and its loss records.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Seen {
    pub rows: Vec<(u64, u64, u64)>,
    pub losses: Vec<Loss>,
}

impl Seen {
    pub(super) fn numbers(&self) -> Vec<u64> {
        self.rows.iter().map(|r| r.2).collect()
    }

    pub(super) fn set(&self) -> BTreeSet<u64> {
        self.rows.iter().map(|r| r.2).collect()
    }
}

/// Decodes stored batches, checking everything that can be checked.
pub(super) fn decode(batches: &[StoredBatch]) -> Seen {
    let mut seen = Seen::default();
    for b in batches {
        assert_eq!(crc32c::crc32c(&b.body), b.crc);
        assert!(b.base <= b.first_seq && b.first_seq <= b.last_seq, "{b:?}");
        let find = |hash| b.tables.iter().find(|t| t.hash() == hash).cloned();
        let batch =
            Batch::from_body(b.source.clone(), Origin::Input, b.clock, b.rows, b.body.clone(), find).unwrap();
        for row in &batch {
            let row = row.unwrap();
            let seq = b.first_seq + row.head().ordinal;
            assert!(seq <= b.last_seq);
            let image = row.newest().unwrap().unwrap();
            if row.op() == Op::Loss {
                seen.losses.push(Loss::from_image(&image).unwrap());
                continue;
            }
            let Some(Value::Text(text)) = image.get(3) else { panic!("no text") };
            let (n, padding) = text.split_once(':').unwrap();
            assert!(padding.bytes().all(|b| b == b'x'), "an event that was never made: {text}");
            seen.rows.push((b.epoch, seq, n.parse().unwrap()));
        }
    }
    seen
}

/// Reads a lane to its end, in small bites, without acknowledging.
pub(super) fn read_all(store: &mut Store, now: Mono, lane: &str) -> Vec<StoredBatch> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let some = store.read(now, lane, after, 16 << 10).unwrap();
        let Some(last) = some.last() else { return all };
        after = Some(last.id);
        all.extend(some);
    }
}

pub(super) fn ack_all(store: &mut Store, now: Mono, lane: &str, batches: &[StoredBatch]) {
    let ids: Vec<StoredId> = batches.iter().map(|b| b.id).collect();
    store.ack(now, lane, &ids).unwrap();
}

pub(super) fn put(store: &mut Store, now: Mono, batch: Batch) {
    let verdicts = store.append(now, &[("data".into(), batch)]);
    assert_eq!(verdicts, [Ok(())]);
}

/// Reads, acknowledges and decodes everything that a lane holds.
pub(super) fn drain(store: &mut Store, now: Mono) -> Seen {
    let batches = read_all(store, now, "data");
    let seen = decode(&batches);
    ack_all(store, now, "data", &batches);
    seen
}

const SECOND: Duration = Duration::from_secs(1);

//! A buffer whose files are damaged. For [`crate::fuzzing`], and for the tests of every 64th byte.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use super::{Class, Epochs, LaneOptions, Options, Store, StoredBatch};
use crate::event::builtin::{self, Loss, Payload};
use crate::event::{Batch, BatchBuilder, Op, Origin, Value};
use crate::mqtt::codec::sample::Gen;
use crate::runtime::Mono;

const ROWS: u64 = 60;
/// Of the damaged store; epochs come from outside it.
const FIRST_EPOCH: u32 = 1;
const LATER_EPOCH: u32 = 100;

struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let memory = Path::new("/dev/shm");
        let root = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let path = root.join(format!("dts-fuzz-{}-{}", std::process::id(), COUNT.fetch_add(1, Relaxed)));
        let made = std::fs::create_dir_all(&path);
        assert!(made.is_ok(), "{made:?}");
        Self(path)
    }

    fn put(&self, name: &str, bytes: &[u8]) {
        let put = std::fs::write(self.0.join(name), bytes);
        assert!(put.is_ok(), "{put:?}");
    }

    fn open(&self, epoch: u32, now: Mono) -> Store {
        let lane = LaneOptions::new("data", Class::Fsync);
        let options = Options {
            lanes: vec![lane],
            boot: 7,
            reserve_bytes: 4 << 10,
            max_body_bytes: 2000,
            ..Options::new(&self.0, "dev1")
        };
        let mut next = epoch;
        let epochs: Epochs = Box::new(move |least| {
            let number = next.max(least);
            next = number + 1;
            Ok(u64::from(number) << 32 | 0xabcd)
        });
        let opened = Store::open(options, epochs, now);
        assert!(opened.is_ok(), "{opened:?}");
        match opened {
            Ok((store, _)) => store,
            Err(_) => std::process::abort(),
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

fn batch(numbers: std::ops::Range<u64>, padding: usize) -> Batch {
    let mut rows = BatchBuilder::new("app".into());
    for n in numbers {
        let text = format!("{n}:{}", "x".repeat(padding));
        let values = builtin::message_values("t", None, Payload::Text(&text), None);
        rows.push(Op::Message, n, builtin::message(), None, builtin::image(&values)).unwrap_or_default();
    }
    rows.finish()
}

/// The files of a buffer: closed, and killed with its newest rows in the write-ahead log.
fn images() -> &'static [Vec<(&'static str, Vec<u8>)>; 2] {
    static IMAGES: OnceLock<[Vec<(&'static str, Vec<u8>)>; 2]> = OnceLock::new();
    IMAGES.get_or_init(|| {
        let folder = Folder::new();
        let mut store = folder.open(FIRST_EPOCH, Mono(0));
        for n in (0..ROWS).step_by(20) {
            if n == 20 {
                // The first rows are in the file itself.
                let closed = store.close(Mono(n));
                assert!(closed.is_ok(), "{closed:?}");
                store = folder.open(FIRST_EPOCH, Mono(n));
            }
            let mut rows = batch(n..n + 20, if n == 20 { 200 } else { 20 });
            rows.positions.push(("offset".into(), n.to_string().as_bytes().into()));
            let stored = store.append(Mono(n), &[("data".into(), rows)]);
            assert!(stored.iter().all(Result::is_ok), "{stored:?}");
        }
        let read = |name| std::fs::read(folder.0.join(name)).unwrap_or_default();
        let killed = vec![("buffer.db", read("buffer.db")), ("buffer.db-wal", read("buffer.db-wal"))];
        let closed = store.close(Mono(ROWS));
        assert!(closed.is_ok(), "{closed:?}");
        [vec![("buffer.db", read("buffer.db"))], killed]
    })
}

/// Bytes of a file of an image.
#[cfg(test)]
pub(super) fn size(image: usize, name: &str) -> usize {
    let files = images().get(image).into_iter().flatten();
    files.filter(|(of, _)| *of == name).map(|(_, bytes)| bytes.len()).sum()
}

/// One change of a file.
#[derive(Clone, Copy, Debug)]
pub(super) enum Damage {
    /// Bits of a byte.
    Flip(usize, u8),
    /// Bytes from a place on.
    Fill(usize, u8, usize),
    /// A page over another.
    Copy(usize, usize),
    /// The end is missing.
    Cut(usize),
}

fn apply(bytes: &mut Vec<u8>, damage: Damage) {
    let len = bytes.len().max(1);
    match damage {
        Damage::Flip(at, bits) => {
            if let Some(b) = bytes.get_mut(at % len) {
                *b ^= bits;
            }
        }
        Damage::Fill(at, with, n) => bytes.iter_mut().skip(at % len).take(n).for_each(|b| *b = with),
        Damage::Copy(from, to) => {
            let page = |n: usize| n * 4096 % len / 4096 * 4096;
            let copy: Vec<u8> = bytes.iter().skip(page(from)).take(4096).copied().collect();
            bytes.iter_mut().skip(page(to)).zip(copy).for_each(|(b, new)| *b = new);
        }
        Damage::Cut(at) => bytes.truncate(at % len),
    }
}

/// What was found in a damaged buffer. Only tests read it.
#[derive(Debug, Default)]
#[cfg_attr(not(test), allow(dead_code))]
pub(super) struct Found {
    pub(super) missing: u64,
    pub(super) quarantined: bool,
}

/// Opens a buffer of `image` (0 closed, 1 killed) with the damage done to its files, and holds what it gives against what
/// was put in.
pub(super) fn open_damaged(image: usize, damages: &[(&str, Damage)]) -> Found {
    let folder = Folder::new();
    // A write-ahead log ends at its first bad checksum, be it a torn write or a bent byte: what is behind is missing and
    // cannot be named, and its numbers are used again (the centre sees the fork if it had them).
    let log_is_bent = damages.iter().any(|(name, _)| name.ends_with("-wal"));
    for (name, bytes) in images().get(image).into_iter().flatten() {
        let mut bytes = bytes.clone();
        damages.iter().filter(|(of, _)| of == name).for_each(|(_, damage)| apply(&mut bytes, *damage));
        folder.put(name, &bytes);
    }
    let mut store = folder.open(LATER_EPOCH, Mono(1_000_000));
    let mut seen = Seen { numbers_may_repeat: log_is_bent, ..Seen::default() };
    seen.drain(&mut store, Mono(1_001_000));
    let stored = store.append(Mono(1_002_000), &[("data".into(), batch(ROWS..ROWS + 1, 0))]);
    assert_eq!(stored, [Ok(())], "{damages:?}");
    seen.drain(&mut store, Mono(1_003_000));
    assert!(seen.numbers.contains(&ROWS), "{damages:?}: a fresh event passes");
    let missing: Vec<u64> = (0..ROWS).filter(|n| !seen.numbers.contains(n)).collect();
    let named: u64 = seen.losses.iter().map(|l| l.rows).sum();
    let quarantined = !store.quarantined.is_empty();
    if !log_is_bent {
        assert!(missing.len() as u64 <= named, "{damages:?}: {missing:?} missing, {named} named");
        assert!(missing.is_empty() || quarantined, "{damages:?}: {missing:?}");
    }
    Found { missing: missing.len() as u64, quarantined }
}

#[derive(Default)]
struct Seen {
    numbers_may_repeat: bool,
    numbers: BTreeSet<u64>,
    losses: Vec<Loss>,
}

impl Seen {
    /// Reads, checks and acknowledges all that is there.
    fn drain(&mut self, store: &mut Store, now: Mono) {
        let mut after = None;
        let mut ids = Vec::new();
        loop {
            let read = store.read(now, "data", after, 4 << 10);
            assert!(read.is_ok(), "{read:?}");
            let Ok(batches) = read else { return };
            let Some(last) = batches.last() else { break };
            after = Some(last.id);
            for stored in &batches {
                ids.push(stored.id);
                self.look(stored);
            }
        }
        let acked = store.ack(now, "data", &ids);
        assert!(acked.is_ok(), "{acked:?}");
    }

    fn look(&mut self, stored: &StoredBatch) {
        assert_eq!(crc32c::crc32c(&stored.body), stored.crc);
        assert!(stored.base <= stored.first_seq && stored.first_seq <= stored.last_seq, "{stored:?}");
        let known = |hash| stored.tables.iter().find(|t| t.hash() == hash).cloned();
        let batch = Batch::from_body(
            stored.source.clone(),
            Origin::Input,
            stored.clock,
            stored.rows,
            stored.body.clone(),
            known,
        );
        assert!(batch.is_ok(), "{batch:?}");
        let Ok(batch) = batch else { return };
        for row in batch.iter().flatten() {
            let seq = stored.first_seq + row.head().ordinal;
            let Ok(Some(image)) = row.newest() else { continue };
            if row.op() == Op::Loss {
                self.losses.extend(Loss::from_image(&image));
                continue;
            }
            let text = if let Some(Value::Text(text)) = image.get(3) { text } else { "" };
            let number = text.split_once(':').and_then(|(n, padding)| {
                padding.bytes().all(|b| b == b'x').then(|| n.parse::<u64>().ok()).flatten()
            });
            assert!(number.is_some_and(|n| n <= ROWS), "an event that was never made: {text}");
            let number = number.unwrap_or_default();
            assert!(self.numbers.insert(number), "{number} came twice");
            if stored.epoch >> 32 == u64::from(FIRST_EPOCH) && !self.numbers_may_repeat {
                assert_eq!(seq, number + 1, "another row under an old id");
            }
        }
    }
}

/// Which files, and what becomes of them.
pub(crate) fn spool(data: &[u8]) {
    let g = &mut Gen(data);
    let image = usize::from(g.pick(2));
    let mut damages = Vec::new();
    while !g.0.is_empty() && damages.len() < 6 {
        let name = if image == 1 && g.bit() { "buffer.db-wal" } else { "buffer.db" };
        // Any byte, or one of a page's head, where its structure stands.
        let place = match g.pick(2) {
            0 => usize::from(g.u16()) << 2 | usize::from(g.pick(4)),
            _ => usize::from(g.u8()) * 4096 + usize::from(g.pick(64)),
        };
        damages.push((
            name,
            match g.pick(6) {
                0 | 1 => Damage::Flip(place, g.u8().max(1)),
                2 | 3 => Damage::Fill(place, g.u8(), usize::from(g.u16() % 5000)),
                4 => Damage::Copy(usize::from(g.u8()), usize::from(g.u8())),
                _ => Damage::Cut(place),
            },
        ));
    }
    open_damaged(image, &damages);
}

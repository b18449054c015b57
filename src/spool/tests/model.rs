//! Random operations against a model of a set: what was acknowledged to an input is delivered or named
//! as lost, nothing is invented, order is kept, no number is used twice.

use std::collections::BTreeMap;

use super::*;
use crate::source::Refused;

/// What the model knows.
#[derive(Default)]
struct Model {
    /// Numbers whose store was acknowledged.
    acked: BTreeSet<u64>,
    /// Numbers that were offered.
    issued: u64,
    /// (epoch, seq) → number, of all that was ever handed out.
    ids: BTreeMap<(u64, u64), u64>,
    /// (epoch, last seq) → crc, of every batch that was ever handed out.
    crcs: BTreeMap<(u64, u64), u32>,
    /// (epoch, seq) → loss record.
    losses: BTreeMap<(u64, u64), Loss>,
    /// Numbers that were refused.
    refused: BTreeSet<u64>,
    events: BTreeMap<&'static str, u64>,
}

impl Model {
    fn count(&mut self, what: &'static str) {
        *self.events.entry(what).or_default() += 1;
    }

    /// The centre gets batches.
    fn deliver(&mut self, batches: &[StoredBatch], seed: u64) {
        let mut last = None;
        for b in batches {
            let seen = decode(std::slice::from_ref(b));
            let before = self.crcs.insert((b.epoch, b.last_seq), b.crc);
            assert!(before.is_none_or(|crc| crc == b.crc), "seed {seed}: two bodies end at one number");
            for (epoch, seq, number) in seen.rows {
                assert!(!self.refused.contains(&number), "seed {seed}: {number} was refused, and stored");
                assert!(number < self.issued, "seed {seed}: {number} was never made");
                let before = self.ids.insert((epoch, seq), number);
                assert!(
                    before.is_none_or(|n| n == number),
                    "seed {seed}: {epoch:x}/{seq} was {before:?}, is {number}"
                );
                assert!(last.is_none_or(|l| l < (epoch, seq)), "seed {seed}: out of order");
                last = Some((epoch, seq));
            }
            for loss in seen.losses {
                let before = self.losses.insert((b.epoch, b.first_seq), loss.clone());
                assert!(
                    before.is_none_or(|l| l == loss),
                    "seed {seed}: a loss record changed after it was sent"
                );
            }
        }
    }

    fn check(&self, seed: u64, exact: bool) {
        let delivered: BTreeSet<u64> = self.ids.values().copied().collect();
        let missing = self.acked.difference(&delivered).count() as u64;
        let sum =
            |exact: bool| self.losses.values().filter(|l| l.exact == exact).map(|l| l.rows).sum::<u64>();
        assert!(missing <= sum(true) + sum(false), "seed {seed}: {missing} missing, {:?}", self.losses);
        if exact {
            assert!(sum(true) <= missing, "seed {seed}: {missing} missing, {:?}", self.losses);
        }
        // In each epoch numbers grow with the sequence.
        let mut last: BTreeMap<u64, u64> = BTreeMap::new();
        for ((epoch, seq), number) in &self.ids {
            if let Some(before) = last.insert(*epoch, *number) {
                assert!(before < *number, "seed {seed}: order at {epoch:x}/{seq}");
            }
        }
    }
}

fn lane_for(rng: &mut fastrand::Rng) -> LaneOptions {
    let class = *rng.choice(&[Class::Fsync, Class::Fsync, Class::Delayed, Class::Ram]).unwrap();
    let policy = match rng.u8(0..4) {
        0 => Policy::Block,
        1 => Policy::DropOldest,
        2 => Policy::Compact,
        _ => Policy::Downsample { every: SECOND, fields: vec![("n".into(), Keep::Mean)] },
    };
    let max_bytes = *rng.choice(&[30_000, 100_000, u64::MAX]).unwrap();
    LaneOptions { policy, max_bytes, ..lane(class) }
}

fn run(seed: u64) -> BTreeMap<&'static str, u64> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let l = lane_for(&mut rng);
    let n = number();
    let mut dir = TempDir::new();
    let make = |dir: &TempDir| Options {
        max_body_bytes: 8000,
        memory_bytes: 20_000,
        ..options(dir, vec![l.clone()])
    };
    let mut now = 0;
    let (mut store, _) = Store::open(make(&dir), epochs(&n), at(now)).unwrap();
    let mut model = Model::default();
    // What the session holds: handed out, not acknowledged.
    let mut window: Vec<StoredBatch> = Vec::new();
    let mut full = false;
    let mut online = rng.bool();
    for _ in 0..rng.usize(50..400) {
        now += rng.u64(0..200);
        match rng.u8(0..100) {
            0..50 => {
                let rows = rng.u64(1..8);
                let numbers = model.issued..model.issued + rows;
                model.issued += rows;
                let padding = *rng.choice(&[0, 30, 300, 3000]).unwrap();
                let mut b = batch_of("app", numbers.clone(), padding);
                if l.policy == Policy::Compact && rng.u8(0..4) > 0 {
                    b = keyed(numbers.clone(), rng.u64(0..3), padding.min(300));
                }
                match store.append(at(now), &[("data".into(), b)]).remove(0) {
                    Ok(()) => model.acked.extend(numbers),
                    Err(Refused::Busy(_)) => {
                        model.refused.extend(numbers);
                        model.count("busy");
                    }
                    Err(e) => panic!("seed {seed}: {e}"),
                }
            }
            50..65 if online => {
                let after = window.last().map(|b| b.id);
                let some = store.read(at(now), "data", after, rng.usize(1..30_000)).unwrap();
                model.deliver(&some, seed);
                window.extend(some);
            }
            65..80 => {
                // Acknowledgements come in order, most of the time.
                let n = rng.usize(0..=window.len());
                let some: Vec<StoredBatch> = if rng.u8(0..10) == 0 && !window.is_empty() {
                    vec![window.remove(rng.usize(0..window.len()))]
                } else {
                    window.drain(..n).collect()
                };
                ack_all(&mut store, at(now), "data", &some);
            }
            80..84 => {
                store.release("data").unwrap();
                window.clear();
                model.count("released");
            }
            50..65 => {}
            84..87 => {
                online = rng.bool();
                store.link_up(at(now), online);
            }
            87..94 => {
                now += rng.u64(0..30_000);
                store.tick(at(now));
            }
            94..96 => {
                let crashed = dir.crash();
                drop(store);
                dir = crashed;
                window.clear();
                full = false;
                let (again, opened) = Store::open(make(&dir), epochs(&n), at(now)).unwrap();
                assert!(opened.quarantined.is_empty(), "seed {seed}");
                store = again;
                model.count("crash");
            }
            96..97 => {
                window.clear();
                full = false;
                if store.close(at(now)).is_err() {
                    model.count("closed on a full disk");
                }
                store = Store::open(make(&dir), epochs(&n), at(now)).unwrap().0;
                model.count("restart");
            }
            97..98 => {
                full = !full;
                if full {
                    full::fill_disk(&store);
                    model.count("full");
                } else {
                    full::empty_disk(&store);
                    now += 11_000;
                    store.tick(at(now));
                }
            }
            _ => {
                // The centre says what it holds: what was acknowledged, or all that was sent.
                let marks = if rng.bool() { held(&model, &window) } else { sent(&model) };
                let done = store
                    .reconcile(at(now), "data", &CentreView { marks: marks.clone(), ..CentreView::default() })
                    .unwrap();
                assert!(done.forked.is_empty(), "seed {seed}: a fork that is none: {done:?}");
                window.clear();
                model.count("reconciled");
            }
        }
        // Only what is in the window may be beyond the limit when a transaction is over.
        if rng.u8(0..20) == 0
            && store.transact(at(now), true, |s, conn| s.enforce_limits(conn, at(now))).is_ok()
        {
            let out: u64 = store.lanes[0].window.values().map(|c| c.bytes).sum();
            let held = store.lanes[0].meta.bytes;
            assert!(held <= l.max_bytes.saturating_add(1000 + out), "seed {seed}: {held} bytes, {l:?}");
        }
    }
    full::empty_disk(&store);
    now += 20_000;
    store.tick(at(now));
    store.release("data").unwrap();
    for _ in 0..2 {
        let batches = read_all(&mut store, at(now), "data");
        model.deliver(&batches, seed);
        ack_all(&mut store, at(now), "data", &batches);
        store.delete_acked(at(now));
    }
    model.check(seed, true);
    assert_eq!(store.stats(at(now)).lanes[0].rows, 0, "seed {seed}");
    assert_eq!(store.lanes[0].meta.bytes, 0, "seed {seed}: counters");
    for reason in ["max_bytes", "compact", "power"] {
        let n = model.losses.values().filter(|l| &*l.reason == reason).count() as u64;
        if n > 0 {
            model.events.insert(reason, n);
        }
    }
    model.events
}

/// Messages of one key.
fn keyed(numbers: std::ops::Range<u64>, key: u64, padding: usize) -> Batch {
    let mut builder = BatchBuilder::new("app".into());
    for n in numbers {
        let (text, key) = (format!("{n}:{}", "x".repeat(padding)), key.to_string());
        let values = builtin::message_values("t", Some(&key), Payload::Text(&text), None);
        builder.push(Op::Message, n, builtin::message(), None, builtin::image(&values)).unwrap();
    }
    builder.finish()
}

/// A centre that made durable all that was delivered before the window.
fn held(model: &Model, window: &[StoredBatch]) -> Vec<(u64, u64, u32)> {
    let Some(first) = window.first() else { return Vec::new() };
    let seq = model.ids.range((first.epoch, 0)..(first.epoch, first.first_seq)).next_back().map(|(k, _)| k.1);
    seq.map(|seq| vec![(first.epoch, seq.min(first.first_seq - 1), 0)]).unwrap_or_default()
}

/// A centre that made durable all that was sent.
fn sent(model: &Model) -> Vec<(u64, u64, u32)> {
    let mut marks: BTreeMap<u64, (u64, u32)> = BTreeMap::new();
    for ((epoch, seq), crc) in &model.crcs {
        marks.insert(*epoch, (*seq, *crc));
    }
    marks.into_iter().map(|(epoch, (seq, crc))| (epoch, seq, crc)).collect()
}

#[test]
fn random_operations() {
    let mut events: BTreeMap<&'static str, u64> = BTreeMap::new();
    // `DTS_SEED=144` repeats one, `DTS_SEEDS=10000` runs more.
    let given = |name: &str| std::env::var(name).ok().and_then(|s| s.parse::<u64>().ok());
    let one = given("DTS_SEED");
    let seeds = one.map_or_else(|| 0..given("DTS_SEEDS").unwrap_or(200), |seed| seed..seed + 1);
    for seed in seeds {
        for (what, n) in run(seed) {
            *events.entry(what).or_default() += n;
        }
    }
    println!("{events:?}");
    for what in
        ["busy", "released", "crash", "restart", "full", "reconciled", "max_bytes", "compact", "power"]
    {
        assert!(one.is_some() || events.contains_key(what), "{what} never happened: {events:?}");
    }
}

//! A model of a server, its log, a stream, chunks and a replica, in every order that a seed makes.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::*;
use crate::event::{BatchBuilder, Column, Image, Type};

fn table(name: &str) -> Arc<Table> {
    let columns = vec![Column { key: Some(0), ..Column::new("k", Type::I64) }, Column::new("v", Type::I64)];
    Arc::new(Table { kind: TableKind::Table, db: "d".into(), name: name.into(), version: 1, columns })
}

fn batch(op: Op, table: &Arc<Table>, before: Option<[i64; 2]>, after: Option<[i64; 2]>) -> Batch {
    let mut builder = BatchBuilder::new("s".into());
    let values = |row: Option<[i64; 2]>| row.map(|row| row.map(Value::Int));
    let (before, after) = (values(before), values(after));
    let image = |values: &Option<[Value<'static>; 2]>| values.as_ref().map(|v| v.to_vec());
    let (before, after) = (image(&before), image(&after));
    builder
        .push(op, 0, table, before.as_deref().map(Image::full), after.as_deref().map(Image::full))
        .unwrap();
    builder.finish()
}

/// A change: the row before and after, as key and version.
#[derive(Clone, Copy, Debug)]
struct Change {
    before: Option<[i64; 2]>,
    after: Option<[i64; 2]>,
}

impl Change {
    fn batch(self, table: &Arc<Table>) -> Batch {
        let op = match (self.before, self.after) {
            (None, _) => Op::Insert,
            (_, None) => Op::Delete,
            _ => Op::Update,
        };
        batch(op, table, self.before, self.after)
    }
}

/// What may be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Planted {
    Nothing,
    /// Keys of before images are not noted.
    NoBefore,
    /// The chunk is handed on as soon as it was read.
    ClosedAtLow,
    /// The SELECT is run before the server shows what the stream gave.
    NoLow,
    /// The window is opened behind the SELECT.
    OpenedLate,
}

type Rows = BTreeMap<i64, i64>;

fn apply(rows: &mut Rows, change: Change) {
    if let Some([key, _]) = change.before {
        rows.remove(&key);
    }
    if let Some([key, version]) = change.after {
        rows.insert(key, version);
    }
}

struct Model {
    rng: fastrand::Rng,
    planted: Planted,
    table: Arc<Table>,
    log: Vec<Change>,
    /// As if everything in the log were shown.
    newest: Rows,
    /// What queries see: so much of the log.
    shown: Rows,
    shown_until: usize,
    /// What the stream handed on: so much of the log.
    given: usize,
    replica: Rows,
    /// Highest version that the replica had of each key.
    seen: Rows,
    went_back: bool,
    window: Option<Window>,
    version: i64,
}

impl Model {
    fn new(seed: u64, planted: Planted) -> Self {
        let mut model = Self {
            rng: fastrand::Rng::with_seed(seed),
            planted,
            table: table("t"),
            log: Vec::new(),
            newest: Rows::new(),
            shown: Rows::new(),
            shown_until: 0,
            given: 0,
            replica: Rows::new(),
            seen: Rows::new(),
            went_back: false,
            window: None,
            version: 0,
        };
        for _ in 0..20 {
            model.change();
        }
        // The stream begins here: what was before comes by the snapshot only.
        while model.shown_until < model.log.len() {
            model.show();
        }
        model.given = model.log.len();
        model
    }

    fn change(&mut self) {
        self.version += 1;
        let key = self.rng.i64(0..24);
        let row = self.newest.get(&key).map(|&version| [key, version]);
        let other = self.rng.i64(0..24);
        let change = match (row, self.rng.u8(0..4)) {
            (None, _) => Change { before: None, after: Some([key, self.version]) },
            (Some(_), 0) => Change { before: row, after: None },
            (Some(_), 1) if !self.newest.contains_key(&other) => {
                Change { before: row, after: Some([other, self.version]) }
            }
            (Some(_), _) => Change { before: row, after: Some([key, self.version]) },
        };
        apply(&mut self.newest, change);
        self.log.push(change);
    }

    /// The server shows the next of the log to queries.
    fn show(&mut self) {
        if let Some(&change) = self.log.get(self.shown_until) {
            apply(&mut self.shown, change);
            self.shown_until += 1;
        }
    }

    fn put(&mut self, change: Change) {
        apply(&mut self.replica, change);
        if let Some([key, version]) = change.after {
            let seen = self.seen.entry(key).or_insert(version);
            self.went_back |= *seen > version;
            *seen = version.max(*seen);
        }
    }

    /// The stream hands on the next of the log: the log's readers may be ahead of queries.
    fn give(&mut self) {
        let Some(&change) = self.log.get(self.given) else { return };
        let noted = match self.planted {
            Planted::NoBefore if change.after.is_some() => Change { before: None, ..change },
            _ => change,
        };
        if let Some(window) = &mut self.window {
            window.batch(&noted.batch(&self.table));
            window.batch(&noted.batch(&table("other")));
        }
        self.put(change);
        self.given += 1;
    }

    fn world(&mut self) {
        for _ in 0..self.rng.u8(0..6) {
            match self.rng.u8(0..3) {
                0 => self.change(),
                1 => self.show(),
                _ => self.give(),
            }
        }
    }

    /// Reads chunks to the end of the table.
    fn snapshot(&mut self) {
        let mut after = i64::MIN;
        loop {
            let limit = self.rng.usize(1..6);
            if self.planted != Planted::OpenedLate {
                self.window = Some(Window::open("d", "t"));
            }
            let given = self.given;
            self.world();
            while self.planted != Planted::NoLow && self.shown_until < given {
                self.show();
            }
            let chunk: Vec<[i64; 2]> =
                self.shown.range(after.saturating_add(1)..).take(limit).map(|(&k, &v)| [k, v]).collect();
            self.world();
            let high = self.log.len();
            if self.planted == Planted::OpenedLate {
                self.window = Some(Window::open("d", "t"));
            }
            while self.given < high && self.planted != Planted::ClosedAtLow {
                self.world();
                self.give();
            }
            if let Some(&[last, _]) = chunk.last() {
                after = last;
            }
            let window = self.window.take().unwrap();
            assert_eq!(window.spoiled(), None);
            for &row in &chunk {
                let batch = batch(Op::Snapshot, &self.table, None, Some(row));
                let keeps = batch.iter().all(|row| window.keeps(&row.unwrap()).unwrap());
                assert!(keeps || !window.is_untouched());
                if keeps {
                    self.put(Change { before: None, after: Some(row) });
                }
            }
            if chunk.len() < limit {
                break;
            }
        }
        while self.given < self.log.len() {
            self.give();
        }
    }
}

/// Whether the replica ends as the source, and no row of it went back in time.
fn is_right(seed: u64, planted: Planted) -> bool {
    let mut model = Model::new(seed, planted);
    model.snapshot();
    model.replica == model.newest && !model.went_back
}

#[test]
fn a_replica_equals_its_source_in_every_order() {
    for seed in 0..1000 {
        assert!(is_right(seed, Planted::Nothing), "seed {seed}");
    }
}

#[test]
fn the_model_sees_what_is_wrong() {
    for planted in [Planted::NoBefore, Planted::ClosedAtLow, Planted::NoLow, Planted::OpenedLate] {
        assert!((0..1000).any(|seed| !is_right(seed, planted)), "{planted:?}");
    }
}

#[test]
fn positions_follow_the_numbers_of_files() {
    let at = |file: &str, pos| Position { file: file.into(), pos };
    assert!(at("b.000009", 500) < at("b.000010", 4));
    assert!(at("b.999999", 500) < at("b.1000000", 4));
    assert!(at("b.000010", 4) < at("b.000010", 5));
}

#[test]
fn a_window_is_spoiled_by_what_it_cannot_tell() {
    let t = table("t");
    let mut without = Table::clone(&t);
    without.columns.iter_mut().for_each(|column| column.key = None);
    let mut window = Window::open("d", "t");
    window.batch(&batch(Op::Insert, &Arc::new(without), None, Some([1, 1])));
    assert_eq!(window.spoiled(), Some(Spoiled::Partial));

    let mut builder = BatchBuilder::new("s".into());
    let (before, after) = ([Value::Int(1), Value::Int(1)], [Value::Null, Value::Int(2)]);
    let part = Image { values: &after, present: Some(&[false, true]) };
    builder.push(Op::Update, 0, &t, Some(Image::full(&before)), Some(part)).unwrap();
    let mut window = Window::open("d", "t");
    window.batch(&builder.finish());
    assert_eq!(window.spoiled(), Some(Spoiled::Partial));

    let ddl = |tables: &str| {
        let mut builder = BatchBuilder::new("s".into());
        let values = [Value::Null, Value::Text(tables), Value::Text("alter …")];
        builder.push(Op::Ddl, 0, crate::event::builtin::ddl(), None, Some(Image::full(&values))).unwrap();
        builder.finish()
    };
    for (tables, spoils) in
        [(r#"[["d","u"],["d","T"]]"#, true), (r#"[["e","t"]]"#, false), ("[]", true), ("no list", true)]
    {
        let mut window = Window::open("d", "t");
        window.batch(&ddl(tables));
        assert_eq!(window.spoiled().is_some(), spoils, "{tables}");
    }

    let mut window = Window::open("d", "t");
    for key in 0..=MAX_KEYS as i64 {
        window.batch(&batch(Op::Insert, &t, None, Some([key, 1])));
    }
    assert_eq!(window.spoiled(), Some(Spoiled::TooMany));
}

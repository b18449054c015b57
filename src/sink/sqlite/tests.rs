use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::Connection;
use rusqlite::types::Value as Sql;

use super::*;
use crate::event::{Batch, BatchBuilder, Column, Image, Op, Origin, Table, TableKind, Type, Value};
use crate::runtime::block_on;
use crate::sink::Mark;
use crate::sink::behaviour::{self, HLC, Subject, TempDir};

struct File {
    dir: TempDir,
    mode: Mode,
    blocker: Option<Connection>,
}

impl File {
    fn new(mode: Mode) -> Self {
        Self { dir: TempDir::new("sqlite"), mode, blocker: None }
    }

    fn config(&self) -> Config {
        Config {
            path: self.dir.0.join("m.db"),
            mode: self.mode,
            device_column: true,
            // The file of a sink that was dropped is still being closed by its thread.
            busy_timeout: Duration::from_secs(1),
            cache: ByteSize(1 << 20),
            max_tables: 10,
            max_tombstones: 1000,
        }
    }

    fn read(&self) -> Connection {
        Connection::open(self.dir.0.join("m.db")).unwrap()
    }
}

impl Subject for File {
    fn config(&self) -> Box<dyn SinkConfig> {
        Box::new(self.config())
    }

    fn state(&self) -> BTreeMap<i64, String> {
        let conn = self.read();
        if self.mode == Mode::Log {
            return behaviour::ndjson::state(&log_lines(&conn));
        }
        let Ok(mut query) = conn.prepare("SELECT id, label FROM readings") else { return BTreeMap::new() };
        let rows = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        rows.map(Result::unwrap).collect()
    }

    fn kinds(&self) -> Vec<String> {
        let conn = self.read();
        if self.mode == Mode::Log {
            return behaviour::ndjson::kinds(&log_lines(&conn));
        }
        let sql = "SELECT 'ddl' FROM dts_ddl UNION ALL SELECT 'loss' FROM dts_losses \
                   UNION ALL SELECT 'message' FROM messages";
        let mut query = conn.prepare(sql).unwrap();
        query.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    }

    fn ids(&self) -> Option<Vec<String>> {
        (self.mode == Mode::Log).then(|| behaviour::ndjson::ids(&log_lines(&self.read())))
    }

    fn break_it(&mut self) -> bool {
        let blocker = self.read();
        blocker.execute_batch("BEGIN IMMEDIATE").unwrap();
        self.blocker = Some(blocker);
        true
    }

    fn mend(&mut self) {
        self.blocker = None;
    }
}

fn log_lines(conn: &Connection) -> String {
    let mut query = conn.prepare("SELECT json || char(10) FROM dts_log ORDER BY id").unwrap();
    query.query_map([], |row| row.get::<_, String>(0)).unwrap().map(Result::unwrap).collect()
}

#[test]
fn mirror_behaves() {
    behaviour::suite(|| File::new(Mode::Mirror));
}

#[test]
fn log_behaves() {
    behaviour::suite(|| File::new(Mode::Log));
}

fn options(dir: &TempDir) -> Options {
    File { dir: TempDir(dir.0.clone()), mode: Mode::Mirror, blocker: None }.leaked()
}

impl File {
    /// The options; the folder is removed by its other owner.
    fn leaked(self) -> Options {
        let options = self.config().options();
        std::mem::forget(self.dir);
        options
    }
}

/// An open mirror, as the thread has it.
fn with_store<T>(options: &Options, f: impl FnOnce(&mut Store<'_>, &Connection) -> T) -> T {
    let conn = open(options).unwrap();
    // Hundreds of small writes; what a power cut does is not looked at here.
    conn.execute_batch("PRAGMA synchronous=OFF").unwrap();
    let mut store = Store::new(&conn, options).unwrap();
    f(&mut store, &conn)
}

fn table(name: &str, key: &[&str], columns: &[&str]) -> Arc<Table> {
    let columns = columns
        .iter()
        .map(|&c| Column {
            key: key.iter().position(|k| *k == c).map(|k| k as u16),
            ..Column::new(c, Type::Any)
        })
        .collect();
    Arc::new(Table { kind: TableKind::Table, db: "app".into(), name: name.into(), version: 1, columns })
}

fn from(device: &str, epoch: u64, first_seq: u64, fill: impl FnOnce(&mut BatchBuilder)) -> Batch {
    let mut batch = behaviour::batch(first_seq, fill);
    let last_seq = (first_seq + u64::from(batch.rows)).saturating_sub(1);
    batch.origin = Origin::Device { device: device.into(), lane: "main".into(), epoch, first_seq, last_seq };
    batch
}

fn insert(b: &mut BatchBuilder, table: &Arc<Table>, values: &[Value<'_>]) {
    b.push(Op::Insert, HLC, table, None, Some(Image::full(values))).unwrap();
}

fn change(b: &mut BatchBuilder, table: &Arc<Table>, old: &[Value<'_>], new: &[Value<'_>]) {
    b.push(Op::Update, HLC, table, Some(Image::full(old)), Some(Image::full(new))).unwrap();
}

fn remove(b: &mut BatchBuilder, table: &Arc<Table>, old: &[Value<'_>]) {
    b.push(Op::Delete, HLC, table, Some(Image::full(old)), None).unwrap();
}

fn rows(conn: &Connection, sql: &str) -> Vec<Vec<Sql>> {
    let mut query = conn.prepare(sql).unwrap();
    let n = query.column_count();
    let rows = query.query_map([], |row| (0..n).map(|i| row.get(i)).collect()).unwrap();
    rows.map(Result::unwrap).collect()
}

fn int(n: i64) -> Sql {
    Sql::Integer(n)
}

fn text(s: &str) -> Sql {
    Sql::Text(s.to_owned())
}

#[test]
fn values_are_kept_to_the_bit() {
    let dir = TempDir::new("sqlite");
    let types = [
        ("any", Type::Any, Value::RawText(b"\xff\x00x")),
        ("any2", Type::Any, Value::Text("1")),
        ("any3", Type::Any, Value::F64(1.0)),
        ("any4", Type::Any, Value::Bytes(b"")),
        ("any5", Type::Any, Value::Text("")),
        ("nul", Type::Any, Value::Text("a\0b")),
        ("big", Type::U64, Value::Uint(u64::MAX)),
        ("small", Type::U64, Value::Uint(5)),
        ("dec", Type::Decimal { precision: 10, scale: 2 }, Value::Decimal(-50)),
        ("ts", Type::Timestamp { fsp: 3 }, Value::Int(1_709_251_199_500_000)),
        ("nan", Type::F64, Value::F64(f64::NAN)),
        ("inf", Type::F64, Value::F64(f64::INFINITY)),
        ("uuid", Type::Uuid, Value::Bytes(&[0xab; 16])),
        ("enum", Type::Enum, Value::Uint(3)),
        ("none", Type::Text, Value::Null),
    ];
    let columns = types.iter().map(|(name, ty, _)| Column::new(name, *ty)).collect();
    let table =
        Arc::new(Table { kind: TableKind::Table, db: "app".into(), name: "v".into(), version: 1, columns });
    let values: Vec<_> = types.iter().map(|t| t.2).collect();
    with_store(&options(&dir), |store, conn| {
        store.write(&[from("d", 1, 1, |b| insert(b, &table, &values))], &[]).unwrap();
        let got = conn
            .query_row(
                "SELECT hex(any), typeof(any), any2, typeof(any2), typeof(any3), typeof(any4), typeof(any5), \
                 length(CAST(nul AS BLOB)), big, small, dec, ts, nan, typeof(inf), uuid, enum, none FROM v",
                [],
                |row| (0..17).map(|i| row.get::<_, Sql>(i)).collect::<Result<Vec<_>, _>>(),
            )
            .unwrap();
        let expected = [
            text("FF0078"),
            text("text"),
            text("1"),
            text("text"),
            text("real"),
            text("blob"),
            text("text"),
            int(3),
            text("18446744073709551615"),
            int(5),
            text("-0.50"),
            text("2024-02-29T23:59:59.500Z"),
            text("NaN"),
            text("real"),
            text("abababab-abab-abab-abab-abababababab"),
            int(3),
            Sql::Null,
        ];
        assert_eq!(got, expected);
    });
}

#[test]
fn a_table_follows_its_source() {
    let dir = TempDir::new("sqlite");
    let options = options(&dir);
    let v1 = table("t", &["id"], &["id", "a"]);
    let v2 = table("t", &["id"], &["id", "A", "b"]);
    let v3 = table("t", &["id"], &["id", "b"]);
    with_store(&options, |store, conn| {
        let (one, two, x) = (Value::Int(1), Value::Int(2), Value::Text("x"));
        store.write(&[from("d", 1, 1, |b| insert(b, &v1, &[one, x]))], &[]).unwrap();
        store.write(&[from("d", 1, 2, |b| insert(b, &v2, &[two, x, Value::Int(7)]))], &[]).unwrap();
        // Renamed in its case only: the same column.
        assert_eq!(
            rows(conn, "SELECT id, a, b FROM t ORDER BY id"),
            [[int(1), text("x"), Sql::Null], [int(2), text("x"), int(7)]]
        );
        // A dropped column is NULL in rows written since, and stays in the others.
        store
            .write(&[from("d", 1, 3, |b| change(b, &v3, &[two, Value::Int(7)], &[two, Value::Int(8)]))], &[])
            .unwrap();
        assert_eq!(
            rows(conn, "SELECT id, a, b FROM t ORDER BY id"),
            [[int(1), text("x"), Sql::Null], [int(2), Sql::Null, int(8)]]
        );
        // An older shape of another device goes on beside it.
        store.write(&[from("e", 1, 1, |b| insert(b, &v1, &[two, x]))], &[]).unwrap();
        assert_eq!(rows(conn, "SELECT count(*), count(DISTINCT _dts_device) FROM t"), [[int(3), int(2)]]);
    });
}

#[test]
fn names_that_clash_find_a_place() {
    let dir = TempDir::new("sqlite");
    let odd = table("Messages", &[], &["rowid", "_dts_seq", "x\"y", "X\"Y", "", "select"]);
    let other = Arc::new(Table { db: "other".into(), ..(*table("READINGS", &["id"], &["id"])).clone() });
    let values: Vec<Value<'_>> = (1..=6).map(Value::Int).collect();
    let options = options(&dir);
    let all = from("d", 1, 1, |b| {
        insert(b, &odd, &values);
        insert(b, &table("readings", &["id"], &["id"]), &values[..1]);
        insert(b, &other, &values[1..2]);
    });
    let check = |conn: &Connection| {
        assert_eq!(
            rows(
                conn,
                "SELECT \"rowid\", \"_dts_seq_2\", \"x\"\"y\", \"X\"\"Y_2\", \"unnamed\", \"select\" FROM app_Messages"
            ),
            [(1..=6).map(int).collect::<Vec<_>>()]
        );
        assert_eq!(rows(conn, "SELECT id FROM readings"), [[int(1)]]);
        assert_eq!(rows(conn, "SELECT id FROM other_READINGS"), [[int(2)]]);
    };
    with_store(&options, |store, conn| {
        store.write(std::slice::from_ref(&all), &[]).unwrap();
        check(conn);
    });
    // The names are remembered.
    with_store(&options, |store, conn| {
        let again = from("d", 1, 4, |b| remove(b, &odd, &values));
        store.write(&[again], &[]).unwrap();
        assert_eq!(rows(conn, "SELECT count(*) FROM app_Messages"), [[int(0)]]);
        store.write(&[from("d", 1, 5, |b| insert(b, &odd, &values))], &[]).unwrap();
        check(conn);
        let grown = table("readings", &["id"], &["id", "rowid"]);
        store.write(&[from("d", 1, 6, |b| insert(b, &grown, &values[2..4]))], &[]).unwrap();
        assert_eq!(rows(conn, "SELECT \"rowid_2\" FROM readings WHERE id=3"), [[int(4)]]);
    });
}

#[test]
fn rows_without_a_whole_key_are_a_bag() {
    let dir = TempDir::new("sqlite");
    let bag = table("bag", &[], &["a", "b"]);
    let keyed = table("keyed", &["a"], &["a", "b"]);
    let (null, x, y) = (Value::Null, Value::Text("x"), Value::Text("y"));
    with_store(&options(&dir), |store, conn| {
        let first = from("d", 1, 1, |b| {
            for table in [&bag, &keyed] {
                insert(b, table, &[null, x]);
                insert(b, table, &[null, x]);
                insert(b, table, &[null, y]);
            }
        });
        store.write(std::slice::from_ref(&first), &[]).unwrap();
        store.write(std::slice::from_ref(&first), &[]).unwrap();
        for name in ["bag", "keyed"] {
            assert_eq!(
                rows(conn, &format!("SELECT b FROM {name} ORDER BY b")),
                [[text("x")], [text("x")], [text("y")]]
            );
        }
        let second = from("d", 1, 7, |b| {
            for table in [&bag, &keyed] {
                remove(b, table, &[null, x]);
                change(b, table, &[null, y], &[null, Value::Int(3)]);
            }
            // Out of the bag, under a key, and back.
            change(b, &keyed, &[null, x], &[Value::Int(1), x]);
            change(b, &keyed, &[Value::Int(1), x], &[null, y]);
            // A column is added: rows from before are found all the same.
            remove(b, &table("bag", &[], &["a", "b", "c"]), &[null, x, null]);
        });
        store.write(std::slice::from_ref(&second), &[]).unwrap();
        store.write(&[first, second], &[]).unwrap();
        assert_eq!(rows(conn, "SELECT b FROM bag"), [[int(3)]]);
        assert_eq!(
            rows(conn, "SELECT a, b FROM keyed ORDER BY b"),
            [[Sql::Null, int(3)], [Sql::Null, text("y")]]
        );
        // A partial image takes one row that fits.
        let part = from("d", 1, 14, |b| {
            let values = [null, Value::Int(3)];
            let image = Image { values: &values, present: Some(&[false, true]) };
            b.push(Op::Delete, HLC, &bag, Some(image), None).unwrap();
        });
        store.write(&[part], &[]).unwrap();
        assert_eq!(rows(conn, "SELECT count(*) FROM bag"), [[int(0)]]);
    });
}

#[test]
fn partial_images_change_what_they_hold() {
    let dir = TempDir::new("sqlite");
    let t = table("t", &["id"], &["id", "a", "b"]);
    let (x, y) = (Value::Text("x"), Value::Text("y"));
    with_store(&options(&dir), |store, conn| {
        let batch = from("d", 1, 1, |b| {
            insert(b, &t, &[Value::Int(1), x, x]);
            let values = [Value::Int(1), Value::Null, y];
            let key = Image { values: &values, present: Some(&[true, false, false]) };
            // MINIMAL: the key before, the changed column after.
            let change = Image { values: &values, present: Some(&[false, false, true]) };
            b.push(Op::Update, HLC, &t, Some(key), Some(change)).unwrap();
            // The same with a change of the key.
            let values = [Value::Int(2), Value::Null, Value::Null];
            let moved = Image { values: &values, present: Some(&[true, false, false]) };
            b.push(Op::Update, HLC, &t, Some(key), Some(moved)).unwrap();
        });
        store.write(&[batch], &[]).unwrap();
        assert_eq!(rows(conn, "SELECT id, a, b FROM t"), [[int(2), text("x"), text("y")]]);
    });
}

#[test]
fn a_new_key_finds_the_rows_of_the_old_one() {
    let dir = TempDir::new("sqlite");
    let (old, new) = (table("t", &["a", "b"], &["a", "b"]), table("t", &["a"], &["a", "b"]));
    let (one, two, three) = (Value::Int(1), Value::Int(2), Value::Int(3));
    with_store(&options(&dir), |store, conn| {
        let before = |device| {
            from(device, 1, 1, |b| {
                insert(b, &old, &[one, one]);
                insert(b, &old, &[one, two]);
            })
        };
        store.write(&[before("d"), before("e")], &[]).unwrap();
        // `d` migrates: there can be one row only with a = 1. `e` has not.
        store.write(&[from("d", 1, 3, |b| insert(b, &new, &[one, three]))], &[]).unwrap();
        store.write(&[from("e", 1, 3, |b| remove(b, &old, &[one, one]))], &[]).unwrap();
        assert_eq!(
            rows(conn, "SELECT _dts_device, b FROM t ORDER BY 1"),
            [[text("d"), int(3)], [text("e"), int(2)]]
        );
    });
}

#[test]
fn devices_share_rows_where_told_to() {
    let dir = TempDir::new("sqlite");
    let t = table("t", &["id"], &["id", "a"]);
    let options = Options { device_column: false, ..options(&dir) };
    with_store(&options, |store, conn| {
        let put = |device, epoch, seq, value| {
            from(device, epoch, seq, |b| insert(b, &t, &[Value::Int(1), Value::Int(value)]))
        };
        store.write(&[put("d", 5, 10, 1), put("e", 1, 1, 2)], &[]).unwrap();
        assert_eq!(rows(conn, "SELECT _dts_device, a FROM t"), [[text("e"), int(2)]]);
        // Versions of one device are compared all the same.
        store.write(&[put("e", 1, 3, 3), put("e", 1, 2, 4)], &[]).unwrap();
        assert_eq!(rows(conn, "SELECT _dts_device, a FROM t"), [[text("e"), int(3)]]);
    });
}

#[test]
fn rows_of_this_process_have_no_version() {
    let dir = TempDir::new("sqlite");
    let t = table("t", &["id"], &["id", "a"]);
    with_store(&options(&dir), |store, conn| {
        let put = |value| {
            let mut b = BatchBuilder::new("app".into());
            insert(&mut b, &t, &[Value::Int(1), Value::Int(value)]);
            b.finish()
        };
        store.write(&[put(1), put(2)], &[]).unwrap();
        assert_eq!(rows(conn, "SELECT _dts_device, a FROM t"), [[text(""), int(2)]]);
        let mut b = BatchBuilder::new("app".into());
        b.push(Op::Truncate, HLC, &t, None, None).unwrap();
        store.write(&[b.finish(), put(3)], &[]).unwrap();
        assert_eq!(rows(conn, "SELECT a FROM t"), [[int(3)]]);
        assert_eq!(rows(conn, "SELECT count(*) FROM dts_tombstones"), [[int(0)]]);
    });
}

#[test]
fn tombstones_go_below_the_watermark_and_beyond_the_limit() {
    let dir = TempDir::new("sqlite");
    let t = table("t", &["id"], &["id"]);
    let options = Options { max_tombstones: 5, ..options(&dir) };
    with_store(&options, |store, conn| {
        let mark = |seq| Mark { device: "d".into(), lane: "main".into(), epoch: 1, seq, crc: 0, session: 1 };
        let del = |seq, n| from("d", 1, seq, |b| (0..n).for_each(|i| remove(b, &t, &[Value::Int(i)])));
        let count = || rows(conn, "SELECT count(*), min(seq) FROM dts_tombstones").remove(0);
        store.write(&[del(1, 3)], &[]).unwrap();
        assert_eq!(count(), [int(3), int(1)]);
        store.write(&[del(4, 2)], &[mark(5)]).unwrap();
        assert_eq!(count(), [int(0), Sql::Null]);
        store.write(&[del(6, 20)], &[]).unwrap();
        assert_eq!(count(), [int(5), int(21)]);
    });
}

#[test]
fn a_full_disk_is_a_pause() {
    let dir = TempDir::new("sqlite");
    let t = table("t", &["id"], &["id", "a"]);
    let wide = vec![7u8; 50_000];
    with_store(&options(&dir), |store, conn| {
        let put = |seq| from("d", 1, seq, |b| insert(b, &t, &[Value::Int(seq as i64), Value::Bytes(&wide)]));
        store.write(&[put(1)], &[]).unwrap();
        let pages: i64 = conn.query_row("PRAGMA page_count", [], |row| row.get(0)).unwrap();
        conn.query_row(&format!("PRAGMA max_page_count={pages}"), [], |row| row.get::<_, i64>(0)).unwrap();
        let error = store.write(&[put(2), put(3)], &[]).unwrap_err();
        assert!(!error.reopen);
        match error.error {
            SinkError::Retry(text) => assert!(text.contains("full"), "{text}"),
            other => panic!("{other:?}"),
        }
        assert_eq!(rows(conn, "SELECT count(*) FROM t"), [[int(1)]]);
        conn.query_row("PRAGMA max_page_count=1000000", [], |row| row.get::<_, i64>(0)).unwrap();
        store.write(&[put(2), put(3)], &[]).unwrap();
        assert_eq!(rows(conn, "SELECT count(*) FROM t"), [[int(3)]]);
    });
}

#[test]
fn a_damaged_or_foreign_file_ends_the_run_and_says_what_to_do() {
    let dir = TempDir::new("sqlite");
    let file = File { dir, mode: Mode::Mirror, blocker: None };
    std::fs::write(file.dir.0.join("m.db"), vec![7u8; 8192]).unwrap();
    match block_on(file.config().open("m")).map(drop) {
        Err(SinkError::Fatal(text)) => assert!(text.contains("recover"), "{text}"),
        other => panic!("{other:?}"),
    }
    std::fs::remove_file(file.dir.0.join("m.db")).unwrap();
    file.read().execute_batch("CREATE TABLE mine(x)").unwrap();
    match block_on(file.config().open("m")).map(drop) {
        Err(SinkError::Fatal(text)) => assert!(text.contains("did not make"), "{text}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_no_table_can_hold_is_rejected_and_leaves_nothing() {
    let dir = TempDir::new("sqlite");
    let options = Options { max_tables: 2, ..options(&dir) };
    let names: Vec<String> = (0..1990).map(|n| format!("c{n}")).collect();
    let wide = table("wide", &[], &names.iter().map(String::as_str).collect::<Vec<_>>());
    let nulls = vec![Value::Null; 1990];
    with_store(&options, |store, conn| {
        let rejected = |error: WriteError| match error.error {
            SinkError::Reject { batch, row, reason } => (batch, row, reason),
            other => panic!("{other:?}"),
        };
        let ok = from("d", 1, 1, |b| insert(b, &table("a", &[], &["x"]), &nulls[..1]));
        let bad = from("d", 1, 2, |b| insert(b, &wide, &nulls));
        let (batch, row, _) = rejected(store.write(&[ok.clone(), bad], &[]).unwrap_err());
        assert_eq!((batch, row), (1, 0));
        assert_eq!(rows(conn, "SELECT count(*) FROM dts_tables"), [[int(0)]]);
        let many = from("d", 1, 2, |b| {
            insert(b, &table("b", &[], &["x"]), &nulls[..1]);
            insert(b, &table("c", &[], &["x"]), &nulls[..1]);
        });
        let (batch, row, reason) = rejected(store.write(&[ok.clone(), many], &[]).unwrap_err());
        assert_eq!((batch, row), (1, 1));
        assert!(reason.contains("max_tables"), "{reason}");
        let far = from("d", u64::MAX, 1, |b| insert(b, &table("a", &[], &["x"]), &nulls[..1]));
        assert_eq!(rejected(store.write(&[far], &[]).unwrap_err()).0, 0);
        store.write(&[ok], &[]).unwrap();
    });
}

#[test]
fn changes_by_hand_are_noticed() {
    let dir = TempDir::new("sqlite");
    let t = table("t", &["id"], &["id", "a"]);
    let options = options(&dir);
    with_store(&options, |store, conn| {
        let put = |seq| from("d", 1, seq, |b| insert(b, &t, &[Value::Int(seq as i64), Value::Int(0)]));
        store.write(&[put(1)], &[]).unwrap();
        Connection::open(&options.path).unwrap().execute_batch("DROP TABLE t").unwrap();
        store.write(&[put(2)], &[]).unwrap();
        assert_eq!(rows(conn, "SELECT id FROM t"), [[int(2)]]);
        // A constraint of the user's rejects the row that breaks it.
        let other = Connection::open(&options.path).unwrap();
        other.execute_batch("CREATE UNIQUE INDEX mine ON t(a)").unwrap();
        match store.write(&[put(3)], &[]).unwrap_err().error {
            SinkError::Reject { batch: 0, row: 0, reason } => assert!(reason.contains("UNIQUE"), "{reason}"),
            other => panic!("{other:?}"),
        }
        other.execute_batch("DROP INDEX mine").unwrap();
        store.write(&[put(3)], &[]).unwrap();
    });
}

/// One change of the model: what a source did, with its version.
#[derive(Clone, Debug)]
struct Step {
    epoch: u64,
    seq: u64,
    op: Op,
    old: Option<(i64, i64)>,
    new: Option<(i64, i64)>,
}

fn steps(rng: &mut fastrand::Rng) -> (Vec<Step>, BTreeMap<i64, i64>) {
    let (mut model, mut steps) = (BTreeMap::new(), Vec::new());
    let (mut epoch, mut seq) = (1u64 << 32 | 77, 0);
    for n in 0..rng.i64(20..120) {
        if rng.u8(..) < 8 {
            // A smaller random half: the number decides.
            epoch = ((epoch >> 32) + 1) << 32 | rng.u64(..1000);
            seq = 0;
        }
        seq += 1;
        let key = rng.i64(..8);
        let held = model.get(&key).copied();
        let (op, old, new) = match (rng.u8(..20), held) {
            (0, _) => (Op::Truncate, None, None),
            (1..6, Some(value)) => (Op::Delete, Some((key, value)), None),
            (6..9, Some(value)) => {
                let target = rng.i64(..8);
                // As REPLACE does: what is in the way is deleted first.
                if target != key
                    && let Some(there) = model.remove(&target)
                {
                    steps.push(Step { epoch, seq, op: Op::Delete, old: Some((target, there)), new: None });
                    seq += 1;
                }
                (Op::Update, Some((key, value)), Some((target, n)))
            }
            (_, Some(value)) => (Op::Update, Some((key, value)), Some((key, n))),
            (9..12, None) => (Op::Snapshot, None, Some((key, n))),
            (_, None) => (Op::Insert, None, Some((key, n))),
        };
        if op == Op::Truncate {
            model.clear();
        }
        old.map(|(k, _)| model.remove(&k));
        new.map(|(k, v)| model.insert(k, v));
        steps.push(Step { epoch, seq, op, old, new });
    }
    (steps, model)
}

fn batch_of(steps: &[Step], table: &Arc<Table>) -> Batch {
    let first = &steps[0];
    from("d", first.epoch, first.seq, |b| {
        for step in steps {
            let values = |pair: Option<(i64, i64)>| pair.map(|(k, v)| [Value::Int(k), Value::Int(v)]);
            let (old, new) = (values(step.old), values(step.new));
            let (old, new) = (old.as_ref().map(|v| Image::full(v)), new.as_ref().map(|v| Image::full(v)));
            b.push(step.op, HLC, table, old, new).unwrap();
        }
    })
}

/// Cuts into batches of consecutive steps of one epoch.
fn cut(rng: &mut fastrand::Rng, steps: &[Step], table: &Arc<Table>) -> Vec<Batch> {
    let mut batches = Vec::new();
    for run in steps.chunk_by(|a, b| a.epoch == b.epoch) {
        let mut rest = run;
        while !rest.is_empty() {
            let (head, tail) = rest.split_at(rng.usize(1..=rest.len().min(9)));
            batches.push(batch_of(head, table));
            rest = tail;
        }
    }
    batches
}

fn mirrored(conn: &Connection) -> BTreeMap<i64, i64> {
    let rows = rows(conn, "SELECT k, v FROM t");
    let mut map = BTreeMap::new();
    for row in rows {
        let [Sql::Integer(k), Sql::Integer(v)] = row[..] else { panic!("{row:?}") };
        assert!(map.insert(k, v).is_none(), "key {k} is there twice");
    }
    map
}

#[test]
fn resent_batches_leave_the_model() {
    for seed in 0..60 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let (steps, model) = steps(&mut rng);
        let dir = TempDir::new("sqlite");
        for key in [&["k"][..], &[]] {
            let (dir, t) = (TempDir(dir.0.join(format!("{}", key.len()))), table("t", key, &["k", "v"]));
            std::fs::create_dir(&dir.0).unwrap();
            with_store(&options(&dir), |store, conn| {
                // In order, with any run of what was sent before sent again at any time.
                let batches = cut(&mut rng, &steps, &t);
                for end in 1..=batches.len() {
                    let start = if rng.bool() { end - 1 } else { rng.usize(..end) };
                    store.write(&batches[start..end], &[]).unwrap();
                }
                assert_eq!(mirrored(conn), model, "seed {seed}, key {key:?}");
                // Cut otherwise, all of it again.
                let again = cut(&mut rng, &steps, &t);
                let written = store.write(&again, &[]).unwrap();
                assert_eq!((written.applied, mirrored(conn)), (0, model.clone()), "seed {seed}");
            });
        }
    }
}

#[test]
fn out_of_date_versions_leave_the_model() {
    for seed in 0..60 {
        let mut rng = fastrand::Rng::with_seed(1000 + seed);
        let (steps, model) = steps(&mut rng);
        let dir = TempDir::new("sqlite");
        let t = table("t", &["k"], &["k", "v"]);
        with_store(&options(&dir), |store, conn| {
            // Any order at all: each key ends as the newest version left it.
            let mut batches: Vec<Batch> = steps.chunks(1).map(|s| batch_of(s, &t)).collect();
            rng.shuffle(&mut batches);
            for some in batches.chunks(7) {
                store.write(some, &[]).unwrap();
            }
            assert_eq!(mirrored(conn), model, "seed {seed}");
        });
    }
}

#[test]
fn a_newer_session_at_another_node_fences_the_older_ones_writes() {
    let dir = TempDir::new("sqlite");
    let (here, there) = (options(&dir), options(&dir));
    let (conn_here, conn_there) = (open(&here).unwrap(), open(&there).unwrap());
    let (mut a, mut b) = (Store::new(&conn_here, &here).unwrap(), Store::new(&conn_there, &there).unwrap());
    let t = table("t", &["id"], &["id"]);
    let put = |seq: u64| from("box", 9, seq, |batch| insert(batch, &t, &[Value::Int(seq as i64)]));
    let mark = |device: &str, seq, session| Mark {
        device: device.into(),
        lane: "main".into(),
        epoch: 9,
        seq,
        crc: seq as u32,
        session,
    };
    let device: Arc<str> = "box".into();
    // Before anybody claims, a mark's session is only noted.
    a.write(&[put(1)], &[mark("box", 1, 5)]).unwrap();
    let claimed = a.claim(&device).unwrap();
    assert_eq!((claimed.session, claimed.marks), (6, vec![mark("box", 1, 6)]));
    a.write(&[put(2)], &[mark("box", 2, 6)]).unwrap();
    let claimed = b.claim(&device).unwrap();
    assert_eq!((claimed.session, claimed.marks), (7, vec![mark("box", 2, 7)]));
    // Nothing of the old session's write is kept, nor of what comes with it.
    let other = from("other", 9, 1, |batch| insert(batch, &t, &[Value::Int(100)]));
    let refused = a.write(&[put(3), other.clone()], &[mark("box", 3, 6), mark("other", 1, 1)]).unwrap_err();
    match refused.error {
        SinkError::Fenced { devices } => assert_eq!(devices, [(device.clone(), 7)]),
        error => panic!("{error}"),
    }
    assert!(!refused.reopen);
    a.write(&[other], &[mark("other", 1, 1)]).unwrap();
    b.write(&[put(3)], &[mark("box", 3, 7)]).unwrap();
    let ids = rows(&conn_here, "SELECT id FROM t ORDER BY id");
    assert_eq!(ids, [[int(1)], [int(2)], [int(3)], [int(100)]]);
    // Back again; and a device that nobody knows begins at 1.
    assert_eq!(a.claim(&device).unwrap().session, 8);
    assert!(b.write(&[put(4)], &[mark("box", 4, 7)]).is_err());
    let claimed = b.claim(&"new".into()).unwrap();
    assert_eq!((claimed.session, claimed.marks), (1, Vec::new()));
}

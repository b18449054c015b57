//! Inserts, updates, deletes, values of every kind, tables of every kind.

use super::*;

#[test]
fn changes_come_in_order_with_both_images() {
    let mut w = World::new("CREATE TABLE t(id INTEGER PRIMARY KEY, a, b); INSERT INTO t VALUES(1,'x',2.5)");
    w.check();
    assert_eq!(
        w.take_log(),
        ["snapshot t None Some({\"a\": \"\\\"x\\\"\", \"b\": \"2.5r\", \"id\": \"1\"})"]
    );
    w.sql("INSERT INTO t VALUES(2,x'00ff',NULL); UPDATE t SET a=7 WHERE id=1; DELETE FROM t WHERE id=2;");
    w.sql("UPDATE t SET id=9 WHERE id=1");
    w.check();
    assert_eq!(
        w.take_log(),
        [
            "insert t None Some({\"a\": \"x[0, 255]\", \"b\": \"NULL\", \"id\": \"2\"})",
            "update t Some({\"a\": \"\\\"x\\\"\", \"b\": \"2.5r\", \"id\": \"1\"}) Some({\"a\": \"7\", \"b\": \"2.5r\", \"id\": \"1\"})",
            "delete t Some({\"a\": \"x[0, 255]\", \"b\": \"NULL\", \"id\": \"2\"}) None",
            "update t Some({\"a\": \"7\", \"b\": \"2.5r\", \"id\": \"1\"}) Some({\"a\": \"7\", \"b\": \"2.5r\", \"id\": \"9\"})",
        ]
    );
    assert_eq!(w.mirror.wrong_before, Vec::<String>::new());
    assert_eq!(w.captured(), 1, "what is stored is deleted, but for the last row");
}

#[test]
fn values_of_every_kind_arrive_as_they_are() {
    let mut w =
        World::new("CREATE TABLE t(id INTEGER PRIMARY KEY, i INT, r REAL, x TEXT, b BLOB, n NUMERIC)");
    w.drain();
    let values = [
        "NULL",
        "0",
        "-1",
        "9223372036854775807",
        "-9223372036854775808",
        "1.5",
        "1e300",
        "-0.0",
        "9e999",
        "''",
        "'é'",
        "CAST(x'ff00fe' AS TEXT)",
        "'a'||char(0)||'b'",
        "x''",
        "zeroblob(100)",
        "x'00'",
        "'12'",
        "' 1'",
    ];
    for value in values {
        w.sql(&format!("INSERT INTO t(i,r,x,b,n) VALUES({0},{0},{0},{0},{0})", value));
    }
    w.sql("UPDATE t SET b=x, x=b");
    w.check();
    w.kill();
    w.stored = None;
    w.mirror = Mirror::default();
    w.check();
}

/// The application's SQLite has FTS5, ours has not.
#[test]
fn tables_of_every_kind_are_followed() {
    let mut w = World::new(
        "CREATE TABLE nokey(a, b);
         CREATE TABLE wr(k TEXT, n, v, PRIMARY KEY(k,n)) WITHOUT ROWID;
         CREATE TABLE txt(k TEXT PRIMARY KEY, v);
         CREATE TABLE nocase(k TEXT PRIMARY KEY COLLATE NOCASE, v);
         CREATE TABLE descending(k INTEGER PRIMARY KEY DESC, v);
         CREATE TABLE gen(id INTEGER PRIMARY KEY, a INT, v AS (a*2), s AS (a||'!') STORED UNIQUE);
         CREATE TABLE \"we \"\"ird\"(\"sel ect\" INTEGER PRIMARY KEY, \"a\"\"b\", [c'd], \"rowid\");
         CREATE TABLE strict(id INTEGER PRIMARY KEY, a TEXT) STRICT;
         CREATE TABLE auto(id INTEGER PRIMARY KEY AUTOINCREMENT, a);
         CREATE VIEW view AS SELECT * FROM nokey;
         PRAGMA writable_schema=ON;
         INSERT INTO sqlite_schema VALUES('table','fts','fts',0,'CREATE VIRTUAL TABLE fts USING fts5(body)');
         PRAGMA writable_schema=OFF;
         CREATE TABLE fts_data(id INTEGER PRIMARY KEY, block BLOB);
         CREATE TABLE doc(id INTEGER PRIMARY KEY, body);
         INSERT INTO doc VALUES(1,'a'),(2,'b');
         CREATE TRIGGER doc_fts AFTER INSERT ON doc BEGIN INSERT INTO fts(rowid,body) VALUES(new.id,new.body); END;",
    );
    w.drain();
    w.sql(
        "INSERT INTO nokey VALUES(1,2),(1,2),(NULL,NULL); DELETE FROM nokey WHERE rowid=1; UPDATE nokey SET b=b+1;
         UPDATE nokey SET rowid=50 WHERE rowid=2;
         INSERT INTO wr VALUES('a',1,0),('a',1.5,0),('b',x'00',0); UPDATE wr SET n=n+1 WHERE k='a'; DELETE FROM wr WHERE k='b';
         INSERT INTO txt VALUES('a',1),('b',2); UPDATE txt SET k='c' WHERE k='a';
         INSERT INTO nocase VALUES('a',1),('B',2); UPDATE nocase SET k='A' WHERE k='a'; REPLACE INTO nocase VALUES('b',3);
         INSERT INTO descending VALUES(3,1),(1,2); DELETE FROM descending WHERE k=3;
         INSERT INTO gen(a) VALUES(1),(2); UPDATE gen SET a=a+10; REPLACE INTO gen(id,a) VALUES(9,11);
         INSERT INTO \"we \"\"ird\" VALUES(1,2,3,4); UPDATE \"we \"\"ird\" SET \"a\"\"b\"='x', \"rowid\"=5;
         INSERT INTO strict VALUES(1,'x'); INSERT INTO auto(a) VALUES(1),(2); DELETE FROM auto WHERE id=2; INSERT INTO auto(a) VALUES(3);
         INSERT INTO fts_data VALUES(1,x'00'); DELETE FROM fts_data;
         UPDATE doc SET body='c' WHERE id=1; DELETE FROM doc WHERE id=2;",
    );
    w.check();
    assert_eq!(w.mirror.wrong_before, Vec::<String>::new());
    assert_eq!(w.mirror.columns["nokey"], (vec![ROWID.into(), "a".into(), "b".into()], vec![ROWID.into()]));
    assert_eq!(w.mirror.columns["wr"].1, ["k", "n"]);
    assert_eq!(w.mirror.tables["doc"].len(), 1);
    assert!(!w.mirror.tables.keys().any(|t| t.starts_with("fts") || t == "view"));
    let report = super::super::status(&w.path).unwrap();
    assert!(
        report.skipped.iter().any(|s| s.table == "fts")
            && report.skipped.iter().any(|s| s.table == "fts_data")
    );
}

#[test]
fn null_in_a_primary_key_makes_the_rowid_the_key() {
    let mut w =
        World::new("CREATE TABLE t(k TEXT, n INT, v, PRIMARY KEY(k,n)); INSERT INTO t VALUES('a',1,0)");
    w.check();
    assert_eq!(w.mirror.columns["t"].1, ["k", "n"]);
    w.sql(
        "INSERT INTO t VALUES(NULL,1,1),(NULL,1,2),('b',NULL,3),('b',NULL,4); UPDATE t SET v=v+10 WHERE v<3",
    );
    w.check();
    assert_eq!(w.mirror.columns["t"].1, [ROWID]);
    w.sql("DELETE FROM t WHERE v=12; INSERT INTO t VALUES(NULL,NULL,9)");
    w.check();
    w.kill();
    w.check();
    // In a captured row of a shape that is not the table's any more.
    let mut w = World::new("CREATE TABLE t(k TEXT PRIMARY KEY, v)");
    w.check();
    w.sql("INSERT INTO t VALUES(NULL,1),(NULL,2); ALTER TABLE t ADD COLUMN w");
    w.check();
    assert_eq!(w.mirror.tables["t"].len(), 2);
    // And when they were there before dts was.
    let mut w =
        World::new("CREATE TABLE t(k TEXT PRIMARY KEY, v); INSERT INTO t VALUES(NULL,1),(NULL,2),('a',3)");
    w.check();
    assert_eq!(w.mirror.tables["t"].len(), 3);
}

#[test]
fn vacuum_that_renumbers_rowids_is_noticed() {
    let mut w = World::new("CREATE TABLE t(a, b); CREATE TABLE k(id INTEGER PRIMARY KEY, a)");
    w.sql("INSERT INTO t VALUES(1,1),(2,2),(3,3); INSERT INTO k VALUES(5,1)");
    w.check();
    w.sql("DELETE FROM t WHERE a=1");
    w.check();
    w.take_log();
    w.sql("VACUUM; UPDATE t SET b=99 WHERE a=3; INSERT INTO t VALUES(4,4)");
    w.check();
    let log = w.take_log();
    assert!(log.iter().any(|l| l.starts_with("truncate t")), "{log:#?}");
    assert!(!log.iter().any(|l| l.contains(" k ")), "named by its key: {log:#?}");
    // Again, and while dts is away.
    w.kill();
    w.sql("DELETE FROM t WHERE a=2; VACUUM; UPDATE t SET b=100 WHERE a=4");
    w.check();
}

#[test]
fn columns_and_tables_are_left_out_as_asked() {
    let mut w = World::with(
        "CREATE TABLE user(id INTEGER PRIMARY KEY, name, password_hash UNIQUE); CREATE TABLE cache_a(id INTEGER PRIMARY KEY);
         CREATE TABLE other(id INTEGER PRIMARY KEY)",
        |c| {
            c.tables = vec!["user".into(), "cache_*".into()];
            c.exclude_tables = vec!["CACHE_*".into()];
            c.overrides = vec![super::super::TableConfig {
                table: "us?r".into(),
                capture: None,
                exclude_columns: vec!["password*".into(), "id".into()],
            }];
        },
    );
    w.drain();
    w.sql("INSERT INTO user VALUES(1,'a','secret'); REPLACE INTO user VALUES(2,'b','secret'); INSERT INTO other VALUES(1); INSERT INTO cache_a VALUES(1)");
    let stored: i64 = w
        .app
        .query_row(
            "SELECT count(*) FROM _dts_capture WHERE c0='secret' OR c1='secret' OR c2='secret'",
            [],
            |r| r.get(0),
        )
        .unwrap();
    assert_eq!(stored, 0, "what is left out is not even recorded");
    w.check();
    assert_eq!(w.mirror.columns["user"].0, ["id", "name"]);
    assert_eq!(w.mirror.tables.keys().collect::<Vec<_>>(), ["user"]);
    assert_eq!(w.mirror.tables["user"].len(), 1, "displaced by the column that is left out");
}

#[test]
fn what_was_left_out_and_is_wanted_again_is_read() {
    let schema = "CREATE TABLE t(id INTEGER PRIMARY KEY, a, b); CREATE TABLE u(id INTEGER PRIMARY KEY);
        INSERT INTO t VALUES(1,1,1),(2,2,2); INSERT INTO u VALUES(1),(2)";
    let mut w = World::new(schema);
    w.check();
    w.kill();
    let all = w.config.clone();
    w.config.exclude_tables = vec!["u".into()];
    let no_b =
        super::super::TableConfig { table: "t".into(), capture: None, exclude_columns: vec!["b".into()] };
    w.config.overrides = vec![no_b];
    w.drain();
    w.sql("DELETE FROM u WHERE id=1; UPDATE t SET b=9 WHERE id=1; UPDATE t SET a=9 WHERE id=2");
    w.drain();
    assert_eq!(w.mirror.tables["u"].len(), 2, "as it was");
    w.kill();
    w.config = all;
    w.check();
    assert_eq!(w.mirror.tables["u"].len(), 1);
}

#[test]
fn wide_tables_are_recorded_in_parts() {
    let columns: Vec<String> = (0..100).map(|i| format!("c{i}")).collect();
    let mut w =
        World::new(&format!("CREATE TABLE t(id INTEGER PRIMARY KEY, {}, UNIQUE(c99))", columns.join(",")));
    w.limits.rows = 2;
    w.drain();
    let set: Vec<String> = columns.iter().enumerate().map(|(i, c)| format!("{c}={i}+id*1000")).collect();
    w.sql(&format!("INSERT INTO t(id) VALUES(1),(2),(3); UPDATE t SET {}", set.join(",")));
    w.sql("INSERT OR REPLACE INTO t(id,c99,c98) VALUES(7,1099,'x'); UPDATE OR REPLACE t SET c99=2099 WHERE id=3");
    w.sql("INSERT OR IGNORE INTO t(id,c99) VALUES(8,2099); DELETE FROM t WHERE id=7");
    w.check();
    assert_eq!(w.mirror.tables["t"].len(), 1);
    assert_eq!(w.mirror.wrong_before, Vec::<String>::new());
}

#[test]
fn very_wide_tables_compile() {
    let columns: Vec<String> = (0..1500).map(|i| format!("c{i}")).collect();
    let mut w = World::new(&format!("CREATE TABLE t(id INTEGER PRIMARY KEY, {})", columns.join(",")));
    w.drain();
    w.sql("INSERT INTO t(id,c1499) VALUES(1,'end'); UPDATE t SET c1498=5");
    w.check();
    assert_eq!(w.mirror.tables["t"].len(), 1);
}

#[test]
fn a_rolled_back_change_never_comes() {
    let mut w = World::new("CREATE TABLE t(id INTEGER PRIMARY KEY, a)");
    w.check();
    w.sql("BEGIN; INSERT INTO t VALUES(1,1); SAVEPOINT s; INSERT INTO t VALUES(2,2); ROLLBACK TO s; COMMIT");
    w.sql("BEGIN; DELETE FROM t; ROLLBACK");
    w.check();
    assert_eq!(w.take_log().len(), 1);
}

#[test]
fn a_kill_anywhere_in_the_first_reading_loses_nothing_and_repeats_nothing() {
    let mut w =
        World::new("CREATE TABLE t(id INTEGER PRIMARY KEY, a); CREATE TABLE u(k TEXT PRIMARY KEY, a)");
    for i in 0..100 {
        w.sql(&format!("INSERT INTO t VALUES({i},{i}); INSERT INTO u VALUES('k{i}',{i})"));
    }
    w.limits.rows = 7;
    for turn in 0.. {
        let more = w.step(turn % 3 == 0).unwrap();
        if turn % 2 == 0 {
            w.kill();
        }
        if turn < 20 {
            w.sql(&format!("UPDATE t SET a=a+1 WHERE id%7={}; DELETE FROM u WHERE a={turn}", turn % 7));
        }
        if !more && turn > 20 {
            break;
        }
    }
    w.check();
    let read = w.mirror.log.iter().filter(|l| l.starts_with("snapshot t")).count();
    assert_eq!(read, 100, "each row is read once");
    assert!(!w.mirror.log.iter().any(|l| l.starts_with("truncate")));
}

//! Migrations while dts is there, and while it is away.

use super::super::config::Capture;
use super::*;

/// Runs `migration` with dts alive (false) or away (true), and with writes before dts looks.
fn around(schema: &str, keys: bool, sql: &str) -> Vec<World> {
    [false, true]
        .into_iter()
        .map(|away| {
            let mut w = World::with(schema, |c| {
                if keys {
                    c.capture = Capture::Keys;
                }
            });
            w.check();
            w.take_log();
            if away {
                w.kill();
            }
            w.sql(sql);
            w.check();
            w
        })
        .collect()
}

const ONE: &str = "CREATE TABLE t(id INTEGER PRIMARY KEY, a, b); INSERT INTO t VALUES(1,'x','y'),(2,'p','q')";

#[test]
fn add_column_without_a_value_reads_nothing_again() {
    for w in around(
        ONE,
        false,
        "ALTER TABLE t ADD COLUMN c; UPDATE t SET c=5 WHERE id=2; INSERT INTO t VALUES(3,0,0,7)",
    ) {
        assert!(!w.mirror.log.iter().any(|l| l.starts_with("snapshot")), "{:#?}", w.mirror.log);
        assert_eq!(w.mirror.tables["t"][&vec!["2".to_owned()]]["c"], "5", "changed before dts looked");
        assert_eq!(w.mirror.columns["t"].0, ["id", "a", "b", "c"]);
    }
}

#[test]
fn add_column_with_a_value_reads_the_table_again_and_clears_nothing() {
    for w in around(ONE, false, "ALTER TABLE t ADD COLUMN c DEFAULT 9; DELETE FROM t WHERE id=1") {
        assert_eq!(w.mirror.log.iter().filter(|l| l.starts_with("snapshot")).count(), 1);
        assert!(!w.mirror.log.iter().any(|l| l.starts_with("truncate")));
    }
}

#[test]
fn rename_column_and_table() {
    for w in around(ONE, false, "ALTER TABLE t RENAME COLUMN a TO z; UPDATE t SET z='new' WHERE id=1") {
        assert_eq!(w.mirror.tables["t"][&vec!["2".to_owned()]]["z"], "\"p\"");
    }
    for w in around(ONE, false, "ALTER TABLE t RENAME COLUMN id TO nr; UPDATE t SET a='new' WHERE nr=1") {
        assert_eq!(w.mirror.columns["t"].1, ["nr"]);
    }
    for w in
        around(ONE, false, "INSERT INTO t VALUES(3,3,3); ALTER TABLE t RENAME TO u; DELETE FROM u WHERE id=1")
    {
        assert_eq!(w.mirror.tables["t"].len(), 0);
        assert_eq!(w.mirror.tables["u"].len(), 2);
    }
    around(
        ONE,
        false,
        "ALTER TABLE t RENAME TO old; CREATE TABLE t(id INTEGER PRIMARY KEY, other); INSERT INTO t VALUES(9,9)",
    );
}

#[test]
fn drop_column_is_free_with_keys_and_refused_with_images() {
    for w in around(
        ONE,
        true,
        "ALTER TABLE t DROP COLUMN a; UPDATE t SET b='n' WHERE id=1; DELETE FROM t WHERE id=2",
    ) {
        assert_eq!(w.mirror.columns["t"].0, ["id", "b"]);
        assert!(!w.mirror.log.iter().any(|l| l.starts_with("snapshot")));
    }
    let mut w = World::new(ONE);
    w.check();
    let error = w.app.execute_batch("ALTER TABLE t DROP COLUMN a").unwrap_err().to_string();
    assert!(error.contains("_dts_") && error.contains("no such column"), "{error}");
    // What the documentation says to do.
    super::super::uninstall(&w.path).unwrap();
    w.sql("ALTER TABLE t DROP COLUMN a; INSERT INTO t VALUES(7,7); DELETE FROM t WHERE id=1");
    w.check();
}

#[test]
fn a_rebuilt_table_is_read_again() {
    let rebuild = "BEGIN; CREATE TABLE n(id INTEGER PRIMARY KEY, a, b NOT NULL); INSERT INTO n SELECT id,a||'!',b FROM t WHERE id>1;
        DROP TABLE t; ALTER TABLE n RENAME TO t; COMMIT; INSERT INTO t VALUES(5,5,5)";
    for w in around(ONE, false, rebuild) {
        assert!(w.mirror.log.iter().any(|l| l.starts_with("truncate t")), "{:#?}", w.mirror.log);
    }
    // A tool that makes the triggers again, as they were.
    for away in [false, true] {
        let mut w = World::new(ONE);
        w.check();
        if away {
            w.kill();
        }
        let triggers: Vec<String> = w
            .app
            .prepare("SELECT sql FROM sqlite_master WHERE type='trigger' ORDER BY rowid")
            .unwrap()
            .query_map([], |r| r.get(0))
            .unwrap()
            .map(|r| r.unwrap())
            .collect();
        w.sql(
            "BEGIN; CREATE TABLE n(id INTEGER PRIMARY KEY, a, b); INSERT INTO n SELECT id,a||'!',b FROM t WHERE id>1;
             DROP TABLE t; ALTER TABLE n RENAME TO t",
        );
        w.sql(&format!("{}; COMMIT", triggers.join(";")));
        w.check();
    }
}

#[test]
fn dropped_triggers_are_noticed() {
    for w in around(ONE, false, "DROP TRIGGER _dts_1_ad; DELETE FROM t WHERE id=1") {
        assert!(w.mirror.log.iter().any(|l| l.starts_with("truncate t")));
        let n: i64 = w
            .app
            .query_row("SELECT count(*) FROM sqlite_master WHERE type='trigger'", [], |r| r.get(0))
            .unwrap();
        assert_eq!(n, 8);
    }
    around(ONE, false, "DROP TABLE t");
    for w in around(
        ONE,
        false,
        "DELETE FROM t WHERE id=2; DROP TABLE t; CREATE TABLE t(k TEXT PRIMARY KEY, v); INSERT INTO t VALUES('k',1)",
    ) {
        assert_eq!(w.mirror.columns["t"].1, ["k"]);
    }
}

#[test]
fn a_unique_index_that_came_later_is_watched() {
    around(ONE, false, "CREATE UNIQUE INDEX u ON t(a); INSERT OR REPLACE INTO t VALUES(3,'x',1)");
    for mut w in around(ONE, false, "CREATE UNIQUE INDEX u ON t(a)") {
        assert_eq!(w.take_log(), Vec::<String>::new(), "nothing was missed, nothing is read");
        w.sql("INSERT OR REPLACE INTO t VALUES(3,'x',1); DROP INDEX u; INSERT INTO t VALUES(4,'x',1)");
        w.check();
        assert!(w.take_log().iter().all(|l| !l.starts_with("snapshot")));
    }
}

#[test]
fn an_unrelated_migration_reads_nothing_again() {
    for mut w in
        around(ONE, false, "CREATE INDEX i ON t(a); CREATE VIEW v AS SELECT * FROM t; ANALYZE; VACUUM")
    {
        assert_eq!(w.take_log(), Vec::<String>::new());
        w.sql("CREATE TABLE n(id INTEGER PRIMARY KEY); INSERT INTO n VALUES(1)");
        w.check();
        assert_eq!(w.take_log().len(), 1, "a new table is followed");
    }
}

#[test]
fn a_removed_installation_is_made_again() {
    let mut w = World::new(ONE);
    w.check();
    w.take_log();
    super::super::uninstall(&w.path).unwrap();
    w.sql("DELETE FROM t WHERE id=1; UPDATE t SET a=a||'2'");
    w.check();
    assert!(w.take_log().iter().any(|l| l.starts_with("truncate t")));
}

#[test]
fn functions_and_collations_of_the_application_are_left_to_it() {
    let folder = Folder::new();
    let path = folder.0.join("app.db");
    let program = "
import sqlite3, sys
c = sqlite3.connect(sys.argv[1], isolation_level=None)
c.create_function('mine', 1, lambda x: str(x)[:1], deterministic=True)
c.create_collation('ours', lambda a, b: (a.lower() > b.lower()) - (a.lower() < b.lower()))
for line in sys.stdin: c.execute(line)
";
    let run = |sql: &str| {
        use std::io::Write;
        let python = std::process::Command::new("python3")
            .args(["-c", program, path.to_str().unwrap()])
            .stdin(std::process::Stdio::piped())
            .spawn();
        let Ok(mut python) = python else {
            eprintln!("skipped: no python3");
            return false;
        };
        python.stdin.take().unwrap().write_all(sql.as_bytes()).unwrap();
        assert!(python.wait().unwrap().success(), "{sql}");
        true
    };
    let made = run("CREATE TABLE t(id INTEGER PRIMARY KEY, a TEXT COLLATE ours UNIQUE, b)\n\
        CREATE UNIQUE INDEX f ON t(mine(b))\nCREATE TABLE k(k TEXT COLLATE ours PRIMARY KEY, v)\n\
        CREATE TABLE w(k TEXT COLLATE ours PRIMARY KEY, v) WITHOUT ROWID\n");
    if !made {
        return;
    }
    let app = Connection::open(&path).unwrap();
    let (config, mirror) = (config(&path), Mirror::default());
    let mut w = World {
        app,
        config,
        dts: None,
        stored: None,
        mirror,
        limits: LIMITS,
        stamp: 0,
        path: path.clone(),
        _folder: folder,
    };
    w.drain();
    run(
        "INSERT INTO t VALUES(1,'a','xa'),(2,'b','yb')\nREPLACE INTO t VALUES(3,'A','z')\nREPLACE INTO t VALUES(4,'q','ye')\n\
        INSERT INTO k VALUES('a',1)\nREPLACE INTO k VALUES('A',2)\n",
    );
    w.drain();
    let skipped = super::super::status(&path).unwrap().skipped;
    assert_eq!(skipped.iter().map(|s| &s.table).collect::<Vec<_>>(), ["w"]);
    assert_eq!(
        w.mirror.tables["t"].keys().collect::<Vec<_>>(),
        [&vec!["3".to_owned()], &vec!["4".to_owned()]]
    );
    assert_eq!(w.mirror.tables["k"].len(), 1);
}

//! REPLACE in every form, with `recursive_triggers` off and on.

use super::*;

const SCHEMA: &str = "
    CREATE TABLE t(id INTEGER PRIMARY KEY, u UNIQUE, v, p);
    CREATE UNIQUE INDEX partial ON t(v) WHERE p > 0;
    CREATE UNIQUE INDEX expr ON t(lower(p) COLLATE NOCASE, id % 2) WHERE typeof(p)='text';
    CREATE TABLE w(a TEXT COLLATE NOCASE, b, v UNIQUE, PRIMARY KEY(a,b)) WITHOUT ROWID;
    CREATE TABLE c(id INTEGER PRIMARY KEY, x NOT NULL DEFAULT 7 UNIQUE ON CONFLICT REPLACE, y UNIQUE ON CONFLICT REPLACE);
    CREATE TABLE n(a NOT NULL ON CONFLICT REPLACE DEFAULT 'dflt' UNIQUE, b);
    CREATE TABLE k(k TEXT PRIMARY KEY, v UNIQUE);
";

fn world(recursive: bool) -> World {
    let w = World::new(SCHEMA);
    w.app.pragma_update(None, "recursive_triggers", recursive).unwrap();
    w
}

#[test]
fn every_displaced_row_is_a_delete_with_its_image() {
    for recursive in [false, true] {
        let mut w = world(recursive);
        w.drain();
        w.sql("INSERT INTO t VALUES(1,'a',1,1),(2,'b',2,1),(3,'c',3,1),(4,'d',1,0)");
        w.check();
        w.take_log();
        w.sql("REPLACE INTO t VALUES(1,'b',3,1)");
        w.check();
        let log = w.take_log();
        let kinds: Vec<&str> = log.iter().map(|l| l.split(' ').next().unwrap()).collect();
        assert_eq!(kinds, ["delete", "delete", "delete", "insert"], "{recursive} {log:#?}");
        assert!(log[..3].iter().all(|l| l.contains("\"v\"")), "with their images: {log:#?}");
        w.sql("INSERT INTO t VALUES(2,'x',5,1); UPDATE OR REPLACE t SET u='x', v=1, p=1 WHERE id=4");
        w.check();
        w.sql("UPDATE OR REPLACE t SET id=4 WHERE id=1; INSERT OR REPLACE INTO t(u) VALUES('b')");
        w.sql("INSERT INTO t VALUES(11,'l1',100,'Text'),(12,'l2',101,'other'); REPLACE INTO t VALUES(13,'l3',102,'tEXT')");
        w.sql("UPDATE OR REPLACE t SET p='TEXT' , id=15 WHERE id=12");
        w.check();
        assert!(!w.mirror.tables["t"].contains_key(&vec!["11".to_owned()]));
        assert_eq!(w.mirror.wrong_before, Vec::<String>::new());
    }
}

#[test]
fn constraints_that_replace_by_themselves_are_seen() {
    for recursive in [false, true] {
        let mut w = world(recursive);
        w.drain();
        w.sql("INSERT INTO c VALUES(1,7,1); INSERT INTO c(id,y) VALUES(2,2); INSERT INTO c VALUES(3,8,2)");
        w.sql("INSERT OR REPLACE INTO c VALUES(4,NULL,9); INSERT INTO c VALUES(5,7,10)");
        w.sql("INSERT INTO n VALUES(NULL,1); INSERT OR REPLACE INTO n VALUES(NULL,2); INSERT INTO n VALUES('z',3)");
        w.sql("UPDATE OR REPLACE n SET a=NULL WHERE a='z'");
        w.sql("INSERT INTO w VALUES('a',1,1),('b',1,2); REPLACE INTO w VALUES('A',1,2); UPDATE OR REPLACE w SET v=3");
        w.sql("INSERT INTO k VALUES('a',1),('b',2); REPLACE INTO k VALUES('a',2); REPLACE INTO k VALUES('a',3); UPDATE k SET k='c'");
        w.check();
        assert_eq!(w.mirror.wrong_before, Vec::<String>::new());
        assert_eq!(w.mirror.tables["n"].len(), 1);
    }
}

#[test]
fn a_conflict_that_displaces_nothing_is_no_delete() {
    for recursive in [false, true] {
        let mut w = world(recursive);
        w.sql("INSERT INTO t VALUES(1,'a',1,1),(2,'b',2,1)");
        w.check();
        w.take_log();
        for i in 0..200 {
            w.sql(&format!(
                "INSERT OR IGNORE INTO t VALUES(1,'zz',{i},0); INSERT OR IGNORE INTO t VALUES({i}+9,'a',0,0)"
            ));
            w.sql("INSERT INTO t VALUES(9,'a',0,0) ON CONFLICT DO NOTHING");
            w.sql("INSERT INTO t VALUES(1,'q',0,0) ON CONFLICT(id) DO UPDATE SET v=v+10");
            assert!(w.app.execute_batch("INSERT OR FAIL INTO t VALUES(2,'q',0,0)").is_err());
            assert!(w.app.execute_batch("UPDATE t SET u='a' WHERE id=2").is_err());
        }
        w.check();
        let log = w.take_log();
        assert!(log.iter().all(|l| l.starts_with("update t")) && log.len() == 200, "{:?}", log.last());
        let notes: i64 = w.app.query_row("SELECT count(*) FROM _dts_note", [], |r| r.get(0)).unwrap();
        assert!(notes < 64, "{notes} notes");
        // The notes that are left must not be taken for displaced rows later.
        w.sql("DELETE FROM t WHERE id=1; INSERT INTO t VALUES(1,'a',1,1); UPDATE t SET id=5 WHERE id=2; INSERT INTO t VALUES(2,'c',9,1)");
        w.check();
        assert_eq!(w.take_log().iter().filter(|l| l.starts_with("delete")).count(), 1);
    }
}

#[test]
fn rows_that_say_nothing_do_not_fill_the_capture_table() {
    let mut w = World::with(SCHEMA, |c| c.max_capture_bytes = crate::config::ByteSize(64 << 10));
    w.sql("INSERT INTO t VALUES(1,'a',1,1)");
    w.check();
    w.take_log();
    for _ in 0..50 {
        for _ in 0..20 {
            w.sql("INSERT OR IGNORE INTO t VALUES(1,'a',zeroblob(100),1)");
        }
        w.drain();
        assert!(w.captured() <= 2);
    }
    w.sql("UPDATE t SET v=2");
    w.check();
    assert_eq!(w.take_log().len(), 1, "the table was not marked");
    w.kill();
    w.sql("UPDATE t SET v=3");
    w.check();
    assert_eq!(w.take_log().len(), 1, "nor was the position lost");
}

#[test]
fn triggers_of_the_application_that_change_the_row_again_are_no_trouble() {
    for recursive in [false, true] {
        let mut w = World::new(
            "CREATE TABLE t(id INTEGER PRIMARY KEY, a, touched DEFAULT 0, u UNIQUE);
             CREATE TRIGGER early AFTER INSERT ON t BEGIN UPDATE t SET touched=touched+1 WHERE id=NEW.id; END",
        );
        w.app.pragma_update(None, "recursive_triggers", recursive).unwrap();
        w.drain();
        // Made after ours, these run before ours.
        w.sql(
            "CREATE TRIGGER late AFTER INSERT ON t WHEN NEW.a='late' BEGIN UPDATE t SET a='changed' WHERE id=NEW.id; END;
             CREATE TRIGGER gone AFTER INSERT ON t WHEN NEW.a='gone' BEGIN DELETE FROM t WHERE id=NEW.id; END;
             CREATE TRIGGER undead AFTER DELETE ON t WHEN OLD.a='undead' BEGIN INSERT INTO t(id,a) VALUES(OLD.id,'again'); END;
             CREATE TRIGGER moved AFTER UPDATE OF a ON t WHEN NEW.a='move' BEGIN UPDATE t SET id=NEW.id+100, a='moved' WHERE id=NEW.id; END;
             CREATE TRIGGER taken AFTER UPDATE OF id ON t WHEN NEW.a='taken' BEGIN INSERT INTO t(id,a) VALUES(OLD.id,'taker'); END;
             CREATE TEMP TRIGGER temporary AFTER UPDATE OF touched ON t BEGIN UPDATE t SET u=random() WHERE id=NEW.id; END;",
        );
        w.sql("INSERT INTO t(id,a) VALUES(1,'late'),(2,'gone'),(3,'undead'),(4,'x'),(5,'taken')");
        w.sql("DELETE FROM t WHERE id=3; UPDATE t SET a='move' WHERE id=4; UPDATE t SET id=6 WHERE id=5; REPLACE INTO t(id,a) VALUES(1,'late')");
        w.check();
        assert_eq!(w.mirror.tables["t"][&vec!["1".to_owned()]]["a"], "\"changed\"");
    }
}

#[test]
fn a_trigger_of_the_application_that_fails_does_not_hide_the_row() {
    let mut w = World::new("CREATE TABLE t(id INTEGER PRIMARY KEY, a)");
    w.drain();
    // OR FAIL keeps the row, and no trigger after the failing one runs.
    w.sql("CREATE TRIGGER refuses AFTER INSERT ON t WHEN NEW.a='bad' BEGIN SELECT RAISE(FAIL, 'no'); END");
    assert!(w.app.execute_batch("INSERT INTO t VALUES(1,'bad')").is_err());
    w.check();
    assert_eq!(w.mirror.tables["t"].len(), 1, "made before dts saw the trigger");
    w.take_log();
    assert!(w.app.execute_batch("INSERT INTO t VALUES(2,'bad')").is_err());
    w.check();
    assert_eq!(w.take_log().len(), 1, "ours runs first by now");
}

#[test]
fn foreign_key_actions_are_seen() {
    let mut w = World::new(
        "CREATE TABLE p(id INTEGER PRIMARY KEY, u UNIQUE);
         CREATE TABLE c(id INTEGER PRIMARY KEY, p REFERENCES p ON DELETE CASCADE ON UPDATE SET NULL)",
    );
    w.sql("PRAGMA foreign_keys=ON; INSERT INTO p VALUES(1,1),(2,2); INSERT INTO c VALUES(1,1),(2,1),(3,2)");
    w.check();
    w.sql("REPLACE INTO p VALUES(3,1); UPDATE p SET id=9 WHERE id=2");
    w.check();
    assert_eq!(w.mirror.tables["c"].len(), 1);
}

#[test]
fn a_row_that_is_deleted_by_what_its_own_update_displaces() {
    for recursive in [false, true] {
        let mut w = World::new("CREATE TABLE p(id INTEGER PRIMARY KEY, up REFERENCES p ON DELETE CASCADE)");
        w.app.pragma_update(None, "recursive_triggers", recursive).unwrap();
        w.sql("INSERT INTO p VALUES(1,NULL),(2,3),(3,2)");
        w.check();
        w.sql("PRAGMA foreign_keys=ON; UPDATE OR REPLACE p SET id=3, up=2 WHERE id=2");
        w.check();
        assert_eq!(w.mirror.tables["p"].len(), 1);
        let deleted = w.mirror.log.iter().filter(|l| l.starts_with("delete")).count();
        // With recursive_triggers the end of 3 is told by the action and by its own trigger.
        assert_eq!(deleted, if recursive { 3 } else { 2 });
    }
}

#[test]
fn no_trigger_scans_the_table() {
    let mut w = world(false);
    w.drain();
    let mut stmt = w.app.prepare("SELECT name FROM sqlite_master WHERE type='trigger'").unwrap();
    assert_eq!(stmt.query_map([], |_| Ok(())).unwrap().count(), 8 * 5);
    drop(stmt);
    for i in 0..500 {
        w.sql(&format!(
            "INSERT INTO t VALUES({i},{i},{i},1),({i}+1000,{i}+1000,{i}+1000,'p{i}'); INSERT INTO w VALUES('a{i}',{i},{i});
             INSERT INTO c VALUES({i},{i},{i}); INSERT INTO n VALUES({i},1); INSERT INTO k VALUES({i},{i})"
        ));
    }
    w.drain();
    for sql in [
        "REPLACE INTO t VALUES(5000,3,4,1)",
        "REPLACE INTO t VALUES(7,8,9,'P11')",
        "UPDATE OR REPLACE t SET u=20, v=21, p=2 WHERE id=22",
        "UPDATE OR REPLACE t SET p='P30', id=1031 WHERE id=33",
        "DELETE FROM t WHERE id=40",
        "REPLACE INTO w VALUES('A5',5,6)",
        "UPDATE OR REPLACE w SET v=9, a='A8', b=8 WHERE a='a7' AND b=7",
        "DELETE FROM w WHERE a='a20' AND b=20",
        "INSERT INTO c VALUES(900,6,7)",
        "INSERT OR REPLACE INTO n VALUES(5,2)",
        "REPLACE INTO k VALUES('5',6)",
        "UPDATE OR REPLACE k SET k='8', v=9 WHERE k='7'",
        "DELETE FROM k WHERE k='20'",
    ] {
        let mut stmt = w.app.prepare(sql).unwrap();
        assert!(stmt.execute([]).unwrap() > 0, "{sql}");
        // Counts the steps of the triggers' programs too.
        let scanned = stmt.get_status(rusqlite::StatementStatus::FullscanStep);
        assert!(scanned < 20, "{sql} scans {scanned} rows");
    }
    w.check();
}

//! The limit of the capture table, rows too large, copies of databases.

use super::*;
use crate::config::ByteSize;

const SCHEMA: &str =
    "CREATE TABLE busy(id INTEGER PRIMARY KEY, a); CREATE TABLE still(id INTEGER PRIMARY KEY, a);
    INSERT INTO still VALUES(1,1)";

#[test]
fn a_dead_agent_fills_no_disk_and_what_changed_is_read_again() {
    let mut w = World::with(SCHEMA, |c| c.max_capture_bytes = ByteSize(64 << 10));
    w.check();
    w.kill();
    w.sql("UPDATE still SET a=2");
    for i in 0..3000 {
        w.sql(&format!("INSERT INTO busy VALUES({i},zeroblob(50)); DELETE FROM busy WHERE id={i}-100"));
    }
    let bytes: i64 = w.app.query_row("SELECT max(b)-min(b) FROM _dts_capture", [], |r| r.get(0)).unwrap();
    assert!((60 << 10..80 << 10).contains(&bytes), "{bytes}");
    let report = super::super::status(&w.path).unwrap();
    assert!(report.tables.iter().any(|t| t.name == "busy" && t.stale));
    assert!(report.tables.iter().any(|t| t.name == "still" && !t.stale));
    w.take_log();
    w.check();
    let log = w.take_log();
    assert!(log.iter().any(|l| l.starts_with("truncate busy")));
    assert!(!log.iter().any(|l| l.starts_with("truncate still") || l.starts_with("snapshot still")));
    w.sql("UPDATE busy SET a='recorded again' WHERE id=2999; UPDATE still SET a=4");
    w.check();
    assert_eq!(w.take_log().len(), 2);
}

#[test]
fn a_table_that_was_marked_and_is_not_wanted_any_more() {
    let mut w = World::with(SCHEMA, |c| c.max_capture_bytes = ByteSize(64 << 10));
    w.check();
    w.kill();
    w.sql("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<5000) INSERT INTO busy SELECT i, i FROM n");
    w.config.exclude_tables = vec!["busy".into()];
    w.drain();
    w.sql("UPDATE still SET a=5");
    w.drain();
    assert_eq!(w.mirror.tables["still"][&vec!["1".to_owned()]]["a"], "5");
}

#[test]
fn one_change_of_many_rows_beyond_the_limit() {
    let mut w = World::with(SCHEMA, |c| c.max_capture_bytes = ByteSize(64 << 10));
    w.check();
    w.sql("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<5000) INSERT INTO busy SELECT i, i FROM n");
    w.check();
    w.sql("DELETE FROM busy");
    w.check();
    assert_eq!(w.mirror.tables["busy"].len(), 0);
}

#[test]
fn what_is_too_large_is_left_out_and_counted() {
    let mut w = World::new(
        "CREATE TABLE t(id INTEGER PRIMARY KEY, a, b, c); INSERT INTO t VALUES(1,'small',zeroblob(5000000),3)",
    );
    w.limits.row_bytes = 4096;
    w.drain();
    let row = w.mirror.tables["t"][&vec!["1".to_owned()]].clone();
    assert_eq!(row.keys().collect::<Vec<_>>(), ["a", "c", "id"], "read");
    w.sql("INSERT INTO t VALUES(2,zeroblob(3000),'x',zeroblob(3000)); UPDATE t SET a=zeroblob(2500) WHERE id=1; DELETE FROM t WHERE id=1");
    w.drain();
    assert_eq!(w.mirror.tables["t"].len(), 1);
    assert_eq!(w.mirror.tables["t"][&vec!["2".to_owned()]].len(), 3, "captured");
    assert!(w.dts.as_ref().unwrap().counts.left_out >= 3);
    // Both images fit alone, not together: the old one gives way.
    w.sql("INSERT INTO t VALUES(3,zeroblob(2500),1,1); UPDATE t SET a=zeroblob(2600) WHERE id=3");
    w.drain();
    let update = w.mirror.log.last().unwrap();
    assert!(
        update.starts_with("update t Some({\"b\": \"1\", \"c\": \"1\", \"id\": \"3\"}) Some({\"a\": "),
        "{update:.100}"
    );
    // A key larger than any row cannot be sent at all; the others can.
    let mut w = World::new("CREATE TABLE k(k TEXT PRIMARY KEY, v)");
    w.limits.row_bytes = 4096;
    w.drain();
    w.sql("INSERT INTO k VALUES(printf('%5000s','x'),1),('y',2)");
    w.drain();
    assert_eq!(w.mirror.tables["k"].len(), 1);
    assert_eq!(w.dts.as_ref().unwrap().counts.lost_rows, 1);
    w.kill();
    w.stored = None;
    w.mirror = Mirror::default();
    w.drain();
    assert_eq!(w.mirror.tables["k"].len(), 1);
}

#[test]
fn a_database_put_back_from_a_copy_is_read_again() {
    let mut w = World::new("CREATE TABLE t(id INTEGER PRIMARY KEY, a); INSERT INTO t VALUES(1,1)");
    w.sql("PRAGMA journal_mode=DELETE");
    w.check();
    let copy = w.path.with_extension("copy");
    std::fs::copy(&w.path, &copy).unwrap();
    w.sql("INSERT INTO t VALUES(2,2); DELETE FROM t WHERE id=1");
    w.check();
    // While dts is away: as many changes as were lost, so that the numbers of captured rows agree.
    w.kill();
    std::fs::copy(&copy, &w.path).unwrap();
    w.app = Connection::open(&w.path).unwrap();
    w.sql("INSERT INTO t VALUES(3,3); INSERT INTO t VALUES(4,4)");
    w.take_log();
    w.check();
    assert!(w.take_log().iter().any(|l| l.starts_with("truncate t")));
    // While it follows: another file under the name.
    std::fs::rename(&copy, &w.path).unwrap();
    w.app = Connection::open(&w.path).unwrap();
    assert!(w.dts.as_ref().unwrap().is_replaced());
    w.stored = Some(w.dts.as_ref().unwrap().durable());
    w.kill();
    w.check();
    // A new file without anything of dts in it.
    w.kill();
    std::fs::remove_file(&w.path).unwrap();
    w.app = Connection::open(&w.path).unwrap();
    w.sql("CREATE TABLE t(id INTEGER PRIMARY KEY, a); INSERT INTO t VALUES(77,7)");
    w.check();
}

#[test]
fn a_position_that_was_lost_or_is_no_position() {
    let mut w = World::new("CREATE TABLE t(id INTEGER PRIMARY KEY, a); INSERT INTO t VALUES(1,1),(2,2)");
    w.check();
    for stored in [None, Some(b"\x01garbage".to_vec()), Some(Vec::new())] {
        w.kill();
        w.stored = stored;
        w.sql("DELETE FROM t WHERE id=(SELECT min(id) FROM t); INSERT INTO t(a) VALUES(5)");
        w.take_log();
        w.check();
        assert!(w.take_log().iter().any(|l| l.starts_with("truncate t")));
    }
}

#[test]
fn install_by_hand_and_then_follow() {
    let mut w = World::new("CREATE TABLE t(id INTEGER PRIMARY KEY, a); INSERT INTO t VALUES(1,1)");
    let before = super::super::status(&w.path).unwrap();
    assert!(!before.installed && !before.tables[0].followed);
    let report = super::super::install(&w.config).unwrap();
    assert!(report.installed && report.tables[0].followed && report.tables[0].blocks_drop_column);
    assert_eq!(report.tables[0].key, ["id"]);
    w.sql("INSERT INTO t VALUES(2,2)");
    let status = super::super::status(&w.path).unwrap();
    assert_eq!(status.captured_rows, 1);
    assert!(status.to_string().contains("images of 2 columns, key id"), "{status}");
    w.check();
    assert!(!w.take_log().iter().any(|l| l.starts_with("truncate")), "the first reading clears nothing");
    w.kill();
    let after = super::super::uninstall(&w.path).unwrap();
    assert!(!after.installed);
    let left: i64 = w
        .app
        .query_row("SELECT count(*) FROM sqlite_master WHERE name LIKE '%dts%'", [], |r| r.get(0))
        .unwrap();
    assert_eq!(left, 0);
    w.sql("ALTER TABLE t DROP COLUMN a; INSERT INTO t VALUES(3)");
}

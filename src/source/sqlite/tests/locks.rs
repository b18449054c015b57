//! A database that its application locks, one that is not there, one that is none.

use super::super::Error;
use super::*;

#[test]
fn a_lock_is_never_waited_for_and_nothing_is_lost() {
    for journal in ["WAL", "DELETE", "TRUNCATE", "PERSIST"] {
        let mut w = World::new("CREATE TABLE t(id INTEGER PRIMARY KEY, a); INSERT INTO t VALUES(1,1)");
        w.sql(&format!("PRAGMA journal_mode={journal}"));
        w.sql("BEGIN IMMEDIATE");
        assert!(matches!(w.step(true), Err(Error::Busy { .. })), "{journal}: cannot install");
        w.sql("COMMIT");
        w.check();
        w.sql("BEGIN IMMEDIATE; UPDATE t SET a=2");
        let step = w.step(true);
        assert!(matches!(step, Ok(false) | Err(Error::Busy { .. })), "{journal}: {step:?}");
        w.sql("COMMIT");
        while w.step(true).unwrap() {}
        w.sql("BEGIN IMMEDIATE; UPDATE t SET a=3");
        assert!(
            matches!(w.dts.as_mut().unwrap().trim(), Err(Error::Busy { .. })),
            "{journal}: cannot delete"
        );
        w.sql("COMMIT");
        // A reader of the application's that stays.
        let reader = Connection::open(&w.path).unwrap();
        reader.execute_batch("BEGIN; SELECT * FROM t").unwrap();
        let _either = w.step(true);
        w.sql("PRAGMA busy_timeout=0");
        reader.execute_batch("COMMIT").unwrap();
        drop(reader);
        w.sql("UPDATE t SET a=4");
        w.check();
        // All to itself.
        w.kill();
        w.sql("PRAGMA locking_mode=EXCLUSIVE; BEGIN EXCLUSIVE; UPDATE t SET a=5; COMMIT");
        assert!(matches!(w.step(true), Err(Error::Busy { .. })), "{journal}: exclusive");
        w.sql("PRAGMA locking_mode=NORMAL; SELECT count(*) FROM t");
        w.check();
    }
}

#[test]
fn dts_holds_no_lock_between_steps_and_leaves_the_wal_alone() {
    let mut w = World::new("CREATE TABLE t(id INTEGER PRIMARY KEY, a)");
    w.app.busy_timeout(std::time::Duration::ZERO).unwrap();
    w.check();
    let wal = super::super::store::beside(&w.path, "-wal");
    w.sql("PRAGMA wal_autocheckpoint=0");
    for i in 0..2000 {
        w.sql(&format!("INSERT INTO t VALUES({i},zeroblob(500))"));
        if i % 10 == 0 {
            w.step(true).unwrap();
            w.dts.as_mut().unwrap().trim().unwrap();
        }
    }
    let main = std::fs::metadata(&w.path).unwrap().len();
    assert!(std::fs::metadata(&wal).unwrap().len() > 2 << 20);
    w.check();
    assert_eq!(std::fs::metadata(&w.path).unwrap().len(), main, "a checkpoint is the application's");
    // The last connection of all closes: still none.
    let app = std::mem::replace(&mut w.app, Connection::open_in_memory().unwrap());
    app.set_db_config(rusqlite::config::DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).unwrap();
    drop(app);
    w.kill();
    assert_eq!(std::fs::metadata(&w.path).unwrap().len(), main);
    assert!(wal.exists());
    w.app = Connection::open(&w.path).unwrap();
    w.check();
}

#[test]
fn what_is_no_database_is_said_and_left_as_it_is() {
    let folder = Folder::new();
    let path = folder.0.join("app.db");
    let config = config(&path);
    let open = || Follower::open(&config, "app".into(), None, fastrand::Rng::with_seed(1)).map(drop);
    assert!(matches!(open(), Err(Error::Absent(_))));
    assert!(!path.exists(), "dts makes no file");
    std::fs::write(&path, b"").unwrap();
    assert!(matches!(open(), Err(Error::Empty(_))));
    assert_eq!(
        std::fs::metadata(&path).unwrap().len(),
        0,
        "page size and encoding are the application's choice"
    );
    std::fs::write(&path, vec![b'x'; 8192]).unwrap();
    assert!(matches!(open(), Err(Error::NotADatabase(_) | Error::Sqlite { .. })), "{:?}", open());
    assert_eq!(open().unwrap_err().class(), Class::Wait);
    std::fs::remove_file(&path).unwrap();
    let app = Connection::open(&path).unwrap();
    app.execute_batch("PRAGMA user_version=1").unwrap();
    assert!(matches!(open(), Err(Error::Empty(_))), "no table yet");
    app.execute_batch("CREATE TABLE t(a)").unwrap();
    open().unwrap();
}

#[test]
fn a_damaged_database_is_an_error_and_no_panic() {
    let mut w = World::new("CREATE TABLE t(id INTEGER PRIMARY KEY, a UNIQUE)");
    w.sql("PRAGMA journal_mode=DELETE");
    for i in 0..500 {
        w.sql(&format!("INSERT INTO t VALUES({i},printf('%200d',{i}))"));
    }
    w.check();
    w.kill();
    let good = std::fs::read(&w.path).unwrap();
    let mut rng = fastrand::Rng::with_seed(7);
    let mut failed = 0;
    for _ in 0..60 {
        let mut bad = good.clone();
        for _ in 0..rng.usize(1..200) {
            let at = rng.usize(100..bad.len());
            bad[at] = rng.u8(..);
        }
        bad.truncate(rng.usize(bad.len() / 2..=bad.len()));
        let path = w.path.with_extension("bad");
        std::fs::write(&path, &bad).unwrap();
        let config = config(&path);
        let opened = Follower::open(&config, "app".into(), w.stored.as_deref(), fastrand::Rng::with_seed(1));
        let mut stamp = 0;
        let done = opened.and_then(|mut dts| {
            for _ in 0..200 {
                match dts.step(LIMITS, &mut || {
                    stamp += 1;
                    stamp
                })? {
                    Step::Idle => break,
                    Step::Batch(_) => dts.stored(),
                    Step::Again => {}
                }
            }
            dts.trim().map(drop)
        });
        if let Err(e) = done {
            assert_ne!(e.class(), Class::Busy, "{e}");
            failed += 1;
        }
    }
    assert!(failed > 5, "damage must be met: {failed}");
}

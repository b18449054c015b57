//! The whole source on its executor, with writers in other processes.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::clock::Stamp;
use crate::runtime::{Stop, block_on, sleep, spawn, timeout};
use crate::source::{Outlet, Refused, SourceConfig, Submission};

/// Set in the process that writes: the path of its database.
const WRITER: &str = "DTS_SQLITE_WRITER";

/// Not a test of its own: what the writing process runs.
#[test]
fn writer_process() {
    let Some(path) = std::env::var_os(WRITER) else { return };
    let app = Connection::open(Path::new(&path)).unwrap();
    app.busy_timeout(Duration::from_secs(10)).unwrap();
    app.execute_batch("PRAGMA synchronous=OFF").unwrap();
    for i in 0..200 {
        app.execute_batch(&format!(
            "BEGIN IMMEDIATE; INSERT OR REPLACE INTO t(a) VALUES({i}); REPLACE INTO t(id,a) VALUES({i}%17,'r{i}');
             UPDATE OR REPLACE t SET a=a||'u' WHERE id={i}%13; DELETE FROM t WHERE id={i}%29; COMMIT"
        ))
        .unwrap();
        if i == 100 {
            // Each writer its own.
            let column = format!("b{}", std::process::id());
            app.execute_batch(&format!("ALTER TABLE t ADD COLUMN {column} DEFAULT 'b'")).unwrap();
        }
    }
}

fn writer(path: &Path) -> std::process::Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "source::sqlite::tests::shell::writer_process"])
        .env(WRITER, path)
        .arg("--nocapture")
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

/// Takes submissions as a spool would; refuses some.
struct Spool {
    rx: async_channel::Receiver<Submission>,
    tx: async_channel::Sender<Submission>,
    mirror: Mirror,
    stored: Option<Vec<u8>>,
    rng: fastrand::Rng,
}

impl Spool {
    fn new() -> Self {
        let (tx, rx) = async_channel::bounded(4);
        Self { rx, tx, mirror: Mirror::default(), stored: None, rng: fastrand::Rng::with_seed(3) }
    }

    fn outlet(&self) -> Outlet {
        let positions: Vec<(Box<str>, Box<[u8]>)> =
            self.stored.iter().map(|p| (KEY.into(), p.clone().into_boxed_slice())).collect();
        let clock = std::cell::Cell::new(0);
        let stamp = Stamp::new(move || {
            clock.set(clock.get() + 1);
            clock.get()
        });
        Outlet::new("app".into(), Arc::from("lane"), stamp, 128 << 10, positions.into(), self.tx.clone())
    }

    fn take(&mut self, submission: Submission) {
        self.mirror.apply(&submission.batch);
        if let Some((_, position)) = submission.batch.positions.iter().find(|(k, _)| &**k == KEY) {
            self.stored = Some(position.to_vec());
        }
        let _dropped = submission.done.try_send(Ok(()));
    }

    /// Takes what comes until nothing has come for a while.
    async fn settle(&mut self, quiet: Duration) {
        while let Some(Ok(submission)) = timeout(quiet, self.rx.recv()).await {
            self.take(submission);
        }
    }
}

fn equal(path: &Path, mirror: &Mirror) -> bool {
    let app = Connection::open(path).unwrap();
    let Some((columns, key)) = mirror.columns.get("t") else { return false };
    mirror.tables["t"] == truth(&app, "t", columns, key)
}

#[test]
fn writers_in_other_processes_are_followed_in_every_journal_mode() {
    for journal in ["wal", "delete", "truncate", "persist"] {
        let folder = Folder::new();
        let path = folder.0.join("app.db");
        let app = Connection::open(&path).unwrap();
        app.execute_batch(&format!(
            "PRAGMA journal_mode={journal}; CREATE TABLE t(id INTEGER PRIMARY KEY, a UNIQUE)"
        ))
        .unwrap();
        drop(app);
        block_on(async {
            let mut spool = Spool::new();
            let mut children = vec![writer(&path), writer(&path)];
            // Killed again and again while they write.
            while !children.is_empty() {
                let (stopper, stop) = Stop::new();
                let source = config(&path).build("app").unwrap();
                let task = spawn(source.run(spool.outlet(), stop));
                for _ in 0..spool.rng.usize(1..20) {
                    match timeout(Duration::from_millis(300), spool.rx.recv()).await {
                        Some(Ok(s)) if spool.rng.u8(0..4) == 0 => {
                            let _dropped = s.done.try_send(Err(Refused::Busy("full".to_owned())));
                            break;
                        }
                        Some(Ok(s)) => spool.take(s),
                        _ => break,
                    }
                }
                children.retain_mut(|c| match c.try_wait().unwrap() {
                    Some(status) => {
                        assert!(status.success());
                        false
                    }
                    None => true,
                });
                drop(task);
                // What was on its way is lost with the process.
                while spool.rx.try_recv().is_ok() {}
                drop(stopper);
            }
            let (stopper, stop) = Stop::new();
            let task = spawn(config(&path).build("app").unwrap().run(spool.outlet(), stop));
            spool.settle(Duration::from_millis(700)).await;
            assert!(equal(&path, &spool.mirror), "{journal}");
            // Woken by the file, not by the clock (which is at five seconds).
            let app = Connection::open(&path).unwrap();
            app.busy_timeout(Duration::from_secs(5)).unwrap();
            app.execute_batch("INSERT INTO t(id,a) VALUES(1000000,'last')").unwrap();
            spool.settle(Duration::from_secs(2)).await;
            assert!(equal(&path, &spool.mirror), "{journal}: woken");
            stopper.stop();
            assert!(timeout(Duration::from_secs(5), task).await.expect("stops").is_ok());
        });
    }
}

#[test]
fn an_absent_file_is_waited_for_and_a_replaced_one_is_followed() {
    let folder = Folder::new();
    let path = folder.0.join("late.db");
    block_on(async {
        let mut spool = Spool::new();
        let (stopper, stop) = Stop::new();
        let task = spawn(config(&path).build("app").unwrap().run(spool.outlet(), stop));
        sleep(Duration::from_millis(50)).await;
        assert!(!path.exists());
        let app = Connection::open(&path).unwrap();
        app.execute_batch(
            "PRAGMA journal_mode=WAL; CREATE TABLE t(id INTEGER PRIMARY KEY, a); INSERT INTO t VALUES(1,1)",
        )
        .unwrap();
        spool.settle(Duration::from_secs(1)).await;
        assert!(equal(&path, &spool.mirror));
        drop(app);
        let other = folder.0.join("other.db");
        let app = Connection::open(&other).unwrap();
        app.execute_batch("CREATE TABLE t(id INTEGER PRIMARY KEY, a); INSERT INTO t VALUES(2,2)").unwrap();
        drop(app);
        for suffix in ["-wal", "-shm"] {
            let _gone = std::fs::remove_file(super::super::store::beside(&path, suffix));
        }
        std::fs::rename(&other, &path).unwrap();
        spool.settle(Duration::from_secs(1)).await;
        assert!(equal(&path, &spool.mirror));
        assert_eq!(spool.mirror.tables["t"].len(), 1);
        stopper.stop();
        assert!(timeout(Duration::from_secs(5), task).await.expect("stops").is_ok());
    });
}

#[test]
fn a_batch_that_is_refused_comes_again_and_one_too_large_comes_in_pieces() {
    let folder = Folder::new();
    let path = folder.0.join("app.db");
    let app = Connection::open(&path).unwrap();
    app.execute_batch("CREATE TABLE t(id INTEGER PRIMARY KEY, a); INSERT INTO t VALUES(1,1),(2,2),(3,3)")
        .unwrap();
    block_on(async {
        let mut spool = Spool::new();
        let (stopper, stop) = Stop::new();
        let task = spawn(config(&path).build("app").unwrap().run(spool.outlet(), stop));
        let first = spool.rx.recv().await.unwrap();
        assert_eq!(first.batch.rows, 3);
        first.done.try_send(Err(Refused::Busy("full".to_owned()))).unwrap();
        let again = spool.rx.recv().await.unwrap();
        assert_eq!(again.batch.body, first.batch.body);
        again.done.try_send(Err(Refused::TooLarge { bytes: 9, max: 1 })).unwrap();
        for i in 0..3 {
            let one = spool.rx.recv().await.unwrap();
            assert_eq!(one.batch.rows, 1);
            assert_eq!(one.batch.positions.len(), usize::from(i == 2));
            if i == 1 {
                one.done.try_send(Err(Refused::TooLarge { bytes: 9, max: 1 })).unwrap();
            } else {
                spool.take(one);
            }
        }
        spool.settle(Duration::from_millis(300)).await;
        assert_eq!(spool.mirror.tables["t"].len(), 2);
        stopper.stop();
        assert!(timeout(Duration::from_secs(5), task).await.expect("stops").is_ok());
    });
}

#[test]
fn the_defaults_are_those_of_the_config() {
    let path = Path::new("/x/app.db");
    assert_eq!(format!("{:?}", config(path)), format!("{:?}", Config::for_file(path)));
}

#[test]
fn the_probe_says_what_it_found() {
    let folder = Folder::new();
    let path = folder.0.join("app.db");
    let source = config(&path).build("app").unwrap();
    assert!(block_on(source.probe()).is_err());
    Connection::open(&path).unwrap().execute_batch("CREATE TABLE t(a)").unwrap();
    let said = block_on(source.probe()).unwrap();
    assert!(said.contains("1 tables to follow, journal mode delete, triggers not installed yet"), "{said}");
}

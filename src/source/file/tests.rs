use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::*;
use crate::clock::Stamp;
use crate::event::Value;
use crate::source::Submission;

struct Fixture {
    dir: PathBuf,
    lines: Arc<Mutex<Vec<String>>>,
    positions: Arc<Mutex<BTreeMap<String, Vec<u8>>>>,
}

impl Drop for Fixture {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.dir).ok();
    }
}

impl Fixture {
    fn new() -> Self {
        let dir = std::env::temp_dir().join(format!("dts-file-{}-{}", std::process::id(), fastrand::u64(..)));
        std::fs::create_dir_all(&dir).unwrap();
        Self { dir, lines: Arc::default(), positions: Arc::default() }
    }

    fn append(&self, name: &str, text: &str) {
        let path = self.dir.join(name);
        std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .unwrap()
            .write_all(text.as_bytes())
            .unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Runs the source while `script` does its part; stored lines and positions stay for the next run.
    fn run(&self, from: From, script: impl AsyncFnOnce(&Self)) {
        let config = Config {
            paths: vec![self.dir.join("*.log")],
            topic: Some("t".into()),
            from,
            max_line_bytes: ByteSize(100),
            max_files: 8,
            poll_interval: Duration::from_millis(20),
        };
        let positions: Vec<(Box<str>, Box<[u8]>)> = self
            .positions
            .lock()
            .unwrap()
            .iter()
            .map(|(k, v)| (k.as_str().into(), v.clone().into()))
            .collect();
        runtime::block_on(async {
            let (tx, rx) = async_channel::bounded::<Submission>(8);
            let (stopper, stop) = Stop::new();
            let outlet = Outlet::new("in".into(), "l".into(), Stamp::new(|| 1), 10_000, positions.into(), tx);
            let running = runtime::spawn(config.build("in").unwrap().run(outlet, stop));
            let (lines, positions) = (self.lines.clone(), self.positions.clone());
            let store = runtime::spawn(async move {
                while let Ok(s) = rx.recv().await {
                    for row in &s.batch {
                        let image = row.unwrap().newest().unwrap().unwrap();
                        let text = [2, 3].into_iter().find_map(|i| match image.get(i) {
                            Some(Value::Text(t)) => Some(t.to_owned()),
                            _ => None,
                        });
                        lines.lock().unwrap().push(text.unwrap());
                    }
                    for (key, value) in &s.batch.positions {
                        positions.lock().unwrap().insert(key.to_string(), value.to_vec());
                    }
                    s.done.try_send(Ok(())).ok();
                }
            });
            script(self).await;
            stopper.stop();
            running.await.unwrap();
            store.await;
        });
    }

    /// Waits until `n` lines were stored, in all.
    async fn until(&self, n: usize) {
        for _ in 0..2_000 {
            if self.lines.lock().unwrap().len() >= n {
                return;
            }
            runtime::sleep(Duration::from_millis(5)).await;
        }
        panic!("only {:?}", self.lines.lock().unwrap());
    }

    fn stored(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }
}

#[test]
fn a_restart_neither_loses_nor_repeats_a_line() {
    let f = Fixture::new();
    f.append("a.log", "1\n2\nhal");
    f.run(From::Start, async |f| f.until(2).await);
    f.append("a.log", "f\n3\n");
    f.run(From::Start, async |f| f.until(4).await);
    f.run(From::Start, async |f| {
        f.append("a.log", "4\n");
        f.until(5).await;
    });
    assert_eq!(f.stored(), ["1", "2", "half", "3", "4"]);
}

#[test]
fn rotation_by_rename_loses_nothing_even_over_a_restart() {
    let f = Fixture::new();
    f.append("a.log", "1\n");
    f.run(From::Start, async |f| {
        f.until(1).await;
        f.append("a.log", "2\n");
        std::fs::rename(f.path("a.log"), f.path("b.log")).unwrap();
        f.append("b.log", "3\n");
        f.append("a.log", "4\n");
        f.until(4).await;
    });
    std::fs::rename(f.path("a.log"), f.path("c.log")).unwrap();
    f.append("a.log", "5\n");
    f.run(From::Start, async |f| f.until(5).await);
    assert_eq!(f.stored(), ["1", "2", "3", "4", "5"]);
}

#[test]
fn what_was_rotated_away_while_nobody_looked_is_read_before_what_came_after() {
    let f = Fixture::new();
    // Names and inodes say nothing of the order.
    for (name, lines, minutes) in
        [("b.log", "4\n5\n", 3), ("a.log", "1\n", 1), ("c.log", "2\n3\n", 2), ("0.log", "6\n", 4)]
    {
        f.append(name, lines);
        let time = std::time::UNIX_EPOCH + Duration::from_secs(1_000_000_000 + minutes * 60);
        std::fs::File::options().append(true).open(f.path(name)).unwrap().set_modified(time).unwrap();
    }
    f.run(From::Start, async |f| f.until(6).await);
    assert_eq!(f.stored(), ["1", "2", "3", "4", "5", "6"]);
}

#[test]
fn rotation_by_truncation_is_seen_also_when_the_file_has_outgrown_its_old_size() {
    let f = Fixture::new();
    f.append("a.log", "old line one\n");
    f.run(From::Start, async |f| {
        f.until(1).await;
        std::fs::write(f.path("a.log"), "short\n").unwrap();
        f.until(2).await;
    });
    std::fs::write(f.path("a.log"), "a much longer beginning than before\nand more\n").unwrap();
    f.run(From::Start, async |f| f.until(4).await);
    assert_eq!(f.stored(), ["old line one", "short", "a much longer beginning than before", "and more"]);
}

#[test]
fn old_content_is_skipped_when_asked_but_new_files_are_read_whole() {
    let f = Fixture::new();
    f.append("a.log", "old\n");
    f.run(From::End, async |f| {
        runtime::sleep(Duration::from_millis(100)).await;
        f.append("a.log", "new\n");
        f.until(1).await;
        f.append("b.log", "second\n");
        f.until(2).await;
    });
    assert_eq!(f.stored(), ["new", "second"]);
}

#[test]
fn an_inode_that_is_used_again_is_another_file() {
    let f = Fixture::new();
    f.append("a.log", "first file\n");
    f.run(From::Start, async |f| f.until(1).await);
    let id = FileId::of(&f.path("a.log")).unwrap();
    // Same inode, other content: what a reused inode looks like.
    std::fs::write(f.path("a.log"), "second file is another\n").unwrap();
    assert_eq!(FileId::of(&f.path("a.log")), Some(id));
    f.run(From::Start, async |f| f.until(2).await);
    assert_eq!(f.stored(), ["first file", "second file is another"]);
}

#[test]
fn lines_that_are_too_long_are_dropped_alone() {
    let f = Fixture::new();
    f.append("a.log", &format!("a\n{}\nb\n", "x".repeat(500)));
    f.run(From::Start, async |f| f.until(2).await);
    assert_eq!(f.stored(), ["a", "b"]);
}

#[test]
fn a_path_that_is_not_there_is_waited_for() {
    let f = Fixture::new();
    f.run(From::Start, async |f| {
        runtime::sleep(Duration::from_millis(50)).await;
        f.append("late.log", "here\n");
        f.until(1).await;
    });
    assert_eq!(f.stored(), ["here"]);
    assert!(Path::new(&f.path("late.log")).exists());
}

//! kill -9 at random moments, under load; power cuts, failing disks, wrong clocks. What was acknowledged is there exactly
//! once, in order.
//!
//! The page cache survives a kill, so a kill says nothing of a power cut: for that, dts runs with the disk of [`faults`].
//! `DTS_SEED` repeats the moments of a run, `DTS_SOAK_SECONDS` makes the tests whose names end in `soak` that long.

mod faults;
mod real;

use std::collections::HashSet;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::harness::*;

/// Writers that go on whatever happens; each counts what it made.
struct Load {
    stop: Arc<AtomicBool>,
    posts: JoinHandle<u64>,
    lines: JoinHandle<u64>,
}

impl Load {
    /// Posts numbers, each until it is taken, and appends numbered lines to `log`, which is rotated now and then.
    fn start(posts: u16, log: PathBuf) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (a, b) = (stop.clone(), stop.clone());
        let posts = std::thread::spawn(move || {
            let mut n = 0;
            while !a.load(Relaxed) {
                post_one(posts, n);
                n += 1;
            }
            n
        });
        let lines = std::thread::spawn(move || {
            let open = || std::fs::File::options().create(true).append(true).open(&log).unwrap();
            let (mut file, mut n) = (open(), 0_u64);
            while !b.load(Relaxed) {
                writeln!(file, "{{\"line\":{n}}}").unwrap();
                n += 1;
                if n % 500 == 0 {
                    std::fs::rename(&log, log.with_extension(format!("log.{}", n / 500))).unwrap();
                    file = open();
                }
                std::thread::sleep(Duration::from_millis(3));
            }
            n
        });
        Self { stop, posts, lines }
    }

    /// How many posts and lines there were.
    fn finish(self) -> (u64, u64) {
        self.stop.store(true, Relaxed);
        (self.posts.join().unwrap(), self.lines.join().unwrap())
    }
}

/// Who gets no answer asks again under the same key.
fn post_one(port: u16, n: u64) {
    let key = format!("post-{n}");
    let headers = [("Content-Type", "application/json"), ("Idempotency-Key", key.as_str())];
    until(&format!("post {n}"), || {
        let answer = request(port, "POST", "/posts", &headers, format!("{{\"post\":{n}}}").as_bytes());
        match answer.map(|a| a.status) {
            Ok(200 | 202) => Some(()),
            Ok(503) | Err(_) => None,
            Ok(other) => panic!("post {n} is answered {other}"),
        }
    });
}

fn seed() -> u64 {
    let seed =
        std::env::var("DTS_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or_else(|| fastrand::u64(..));
    eprintln!("DTS_SEED={seed}");
    seed
}

/// What a rampage did.
#[derive(Clone, Copy, Debug, Default)]
struct Figures {
    kills: u64,
    posts: u64,
    lines: u64,
    /// Frames that were sent again, as the centre counted them until shortly before each of its ends.
    absorbed: u64,
}

/// A centre, an agent and their load.
struct Lab {
    centre: Centre,
    agent: Agent,
    sink: SinkKind,
    load: Option<Load>,
    dir: Dir,
}

impl Lab {
    fn new(test: &str, sink: SinkKind) -> Self {
        let dir = Dir::new(test);
        let pki = Pki::new(&dir, "ca");
        let centre = Centre::new(&dir, &pki, sink);
        let app = dir.join("app");
        std::fs::create_dir(&app).unwrap();
        let more = format!(
            "  - type: file\n    name: lines\n    paths: ['{}/app.log*']\n    topic: lines\n",
            app.display()
        );
        let agent = Agent::with(&dir, "box", &centre.sink(&pki.device("box")), &more);
        Self { centre, agent, sink, load: None, dir }
    }

    fn start(&mut self) {
        self.centre.start();
        self.agent.start();
        self.load = Some(Load::start(self.agent.posts, self.dir.join("app").join("app.log")));
    }

    fn assert_both_run(&mut self) {
        let run = self.agent.node.process.runs() && self.centre.node.process.runs();
        assert!(run, "one has ended by itself");
    }

    /// Ends the load, waits until all of it is at the centre, and compares. Returns posts, lines, and the frames
    /// that the centre absorbed in its last life.
    fn finish(&mut self) -> (u64, u64, u64) {
        let (posts, lines) = self.load.take().unwrap().finish();
        until("all at the centre", || {
            let there = arrived(&self.centre).len() as u64;
            (there >= posts + lines).then_some(())
        });
        until("an empty buffer", || (self.agent.waiting() == 0).then_some(()));
        let mut next = (0, 0);
        for (topic, number) in arrived(&self.centre) {
            let next = if topic == "posts" { &mut next.0 } else { &mut next.1 };
            assert_eq!(number, *next, "{topic}: out of order, lost or twice");
            *next += 1;
        }
        assert_eq!(next, (posts, lines));
        if self.sink == SinkKind::Mirror {
            assert_eq!(losses(&self.centre.out), []);
        }
        let absorbed = self.centre.metric("dts_frames_duplicate_total", "");
        self.agent.node.stop();
        self.centre.node.stop();
        (posts, lines, absorbed)
    }
}

/// How long a process lives before its next kill: mostly while it works, sometimes while it starts.
fn life(rng: &mut fastrand::Rng) -> Duration {
    Duration::from_millis(if rng.u8(0..4) == 0 { rng.u64(0..60) } else { rng.u64(100..1200) })
}

/// Kills agent and centre by turns of luck, until `enough` says so.
fn rampage(test: &str, sink: SinkKind, mut enough: impl FnMut(u32) -> bool) -> Figures {
    let mut rng = fastrand::Rng::with_seed(seed());
    let mut lab = Lab::new(test, sink);
    lab.start();
    let (mut kills, mut absorbed) = (0, 0);
    while !enough(kills) {
        std::thread::sleep(life(&mut rng));
        let dead = Duration::from_millis(rng.u64(0..300));
        let (a, c) = [(true, false), (false, true), (true, true)][rng.usize(..3)];
        lab.assert_both_run();
        if a {
            lab.agent.node.kill();
        }
        if c {
            absorbed += lab.centre.metric("dts_frames_duplicate_total", "");
            lab.centre.node.kill();
        }
        std::thread::sleep(dead);
        if c {
            lab.centre.node.process.start();
        }
        if a {
            lab.agent.node.process.start();
        }
        kills += u32::from(a) + u32::from(c);
    }
    let (posts, lines, last) = lab.finish();
    absorbed += last;
    eprintln!("{kills} kills, {posts} posts, {lines} lines");
    Figures { kills: u64::from(kills), posts, lines, absorbed }
}

/// Topic and number of each event at the sink, in order. A file holds lines again that were written before the crash
/// of a centre and not known to be: they have the same `id`.
fn arrived(centre: &Centre) -> Vec<(String, u64)> {
    let number = |body: &serde_json::Value| body["post"].as_u64().or_else(|| body["line"].as_u64()).unwrap();
    if centre.out.extension().is_some_and(|e| e == "db") {
        let all = messages(&centre.out).into_iter();
        return all.map(|m| (m.topic, number(&serde_json::from_str(&m.payload).unwrap()))).collect();
    }
    let mut ids = HashSet::new();
    let once = events(&centre.out).into_iter().filter(|v| ids.insert(v["id"].as_str().unwrap().to_owned()));
    once.map(|v| (v["topic"].as_str().unwrap().to_owned(), number(&v["payload"]))).collect()
}

#[test]
fn nothing_is_lost_or_doubled_in_a_mirror_by_twenty_kills() {
    rampage("mirror", SinkKind::Mirror, |kills| kills >= 20);
}

#[test]
fn nothing_is_lost_in_a_file_by_twenty_kills() {
    rampage("file", SinkKind::File, |kills| kills >= 20);
}

/// How long the soaks are, if they are wanted.
fn soak() -> Option<Duration> {
    std::env::var("DTS_SOAK_SECONDS").ok()?.parse().ok().map(Duration::from_secs)
}

#[test]
fn kills_soak() {
    let Some(long) = soak() else { return };
    let begin = Instant::now();
    let (mut round, mut all) = (0_u64, Figures::default());
    // At least one, however short it is.
    while round == 0 || begin.elapsed() < long {
        let sink = if round % 2 == 0 { SinkKind::Mirror } else { SinkKind::File };
        let one = rampage("soak", sink, |kills| kills >= 200 || begin.elapsed() >= long);
        round += 1;
        all.kills += one.kills;
        all.posts += one.posts;
        all.lines += one.lines;
        all.absorbed += one.absorbed;
        eprintln!(
            "soak: {} of {} s, {round} rounds: {} kills, {} events made and found once and in order \
             ({} posts, {} lines), {} frames sent again and absorbed",
            begin.elapsed().as_secs(),
            long.as_secs(),
            all.kills,
            all.posts + all.lines,
            all.posts,
            all.lines,
            all.absorbed
        );
    }
}

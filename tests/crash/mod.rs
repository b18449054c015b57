//! kill -9 at random moments, under load. What was acknowledged is there exactly once, in order.
//!
//! The page cache survives a kill, so this says nothing of a power cut: that is for a simulated disk.
//! `DTS_SEED` repeats the moments of a run, `DTS_SOAK_SECONDS` makes the test whose name ends in `soak` that long.

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

/// Kills agent and centre by turns of luck, until `enough` says so.
fn rampage(test: &str, sink: SinkKind, mut enough: impl FnMut(u32) -> bool) -> Figures {
    let mut rng = fastrand::Rng::with_seed(seed());
    let dir = Dir::new(test);
    let pki = Pki::new(&dir, "ca");
    let mut centre = Centre::new(&dir, &pki, sink);
    let app = dir.join("app");
    std::fs::create_dir(&app).unwrap();
    let more = format!(
        "  - type: file\n    name: lines\n    paths: ['{}/app.log*']\n    topic: lines\n",
        app.display()
    );
    let mut agent = Agent::with(&dir, "box", &centre.sink(&pki.device("box")), &more);
    centre.start();
    agent.start();
    let load = Load::start(agent.posts, app.join("app.log"));
    let (mut kills, mut absorbed) = (0, 0);
    while !enough(kills) {
        // Mostly while it works, sometimes while it starts.
        let alive = if rng.u8(..4) == 0 { rng.u64(0..60) } else { rng.u64(100..1200) };
        std::thread::sleep(Duration::from_millis(alive));
        let dead = Duration::from_millis(rng.u64(0..300));
        let (a, c) = [(true, false), (false, true), (true, true)][rng.usize(..3)];
        assert!(agent.node.process.runs() && centre.node.process.runs(), "one has ended by itself");
        if a {
            agent.node.kill();
        }
        if c {
            absorbed += centre.metric("dts_frames_duplicate_total", "");
            centre.node.kill();
        }
        std::thread::sleep(dead);
        if c {
            centre.node.process.start();
        }
        if a {
            agent.node.process.start();
        }
        kills += u32::from(a) + u32::from(c);
    }
    let (posts, lines) = load.finish();
    until("all at the centre", || {
        let there = arrived(&centre).len() as u64;
        (there >= posts + lines).then_some(())
    });
    until("an empty buffer", || (agent.waiting() == 0).then_some(()));
    let mut next = (0, 0);
    for (topic, number) in arrived(&centre) {
        let next = if topic == "posts" { &mut next.0 } else { &mut next.1 };
        assert_eq!(number, *next, "{topic}: out of order, lost or twice");
        *next += 1;
    }
    assert_eq!(next, (posts, lines));
    if sink == SinkKind::Mirror {
        assert_eq!(losses(&centre.out), []);
    }
    absorbed += centre.metric("dts_frames_duplicate_total", "");
    agent.node.stop();
    centre.node.stop();
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

#[test]
fn kills_soak() {
    let Some(seconds) = std::env::var("DTS_SOAK_SECONDS").ok().and_then(|s| s.parse().ok()) else { return };
    let (begin, long) = (Instant::now(), Duration::from_secs(seconds));
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
            "soak: {} of {seconds} s, {round} rounds: {} kills, {} events made and found once and in order \
             ({} posts, {} lines), {} frames sent again and absorbed",
            begin.elapsed().as_secs(),
            all.kills,
            all.posts + all.lines,
            all.posts,
            all.lines,
            all.absorbed
        );
    }
}

//! Power cuts, failing disks and wrong clocks, with real processes and real SQLite files.

use std::time::{Duration, Instant};

use super::faults::Faults;
use super::{Lab, life, seed, soak};
use crate::harness::*;

/// Both processes on disks that can fail.
struct Faulty {
    lab: Lab,
    agent: Faults,
    centre: Faults,
    rng: fastrand::Rng,
    restarts: u32,
}

/// What a round is about.
type Round = fn(&mut Faulty) -> String;

impl Faulty {
    /// `None` where the shim cannot be built.
    fn new(test: &str, sink: SinkKind) -> Option<Self> {
        let mut lab = Lab::new(test, sink);
        let root = lab.dir.join("");
        let made = Faults::of(&mut lab.agent.node, &root)
            .and_then(|agent| Ok((agent, Faults::of(&mut lab.centre.node, &root)?)));
        match made {
            Ok((agent, centre)) => {
                lab.start();
                Some(Self { lab, agent, centre, rng: fastrand::Rng::with_seed(seed()), restarts: 0 })
            }
            Err(why) => {
                eprintln!("skipped: no faulty disk here: {why}");
                None
            }
        }
    }

    fn sleep(&mut self, ms: std::ops::Range<u64>) {
        std::thread::sleep(Duration::from_millis(self.rng.u64(ms)));
    }

    /// The faults of either.
    fn one(&mut self) -> &Faults {
        if self.rng.bool() { &self.agent } else { &self.centre }
    }

    /// As a supervisor does: what ended because of its disk, having said why, is started again.
    fn keep_running(&mut self) {
        for node in [&mut self.lab.agent.node, &mut self.lab.centre.node] {
            if !node.process.runs() {
                let status = node.process.ended();
                let said = node.process.log();
                assert!(status.code().is_some_and(|c| c != 0 && c != 101), "{status}: {said}");
                assert!(said.contains("rror") || said.contains("ead-only"), "it does not say why: {said}");
                node.process.start();
                self.restarts += 1;
            }
        }
    }

    /// Everything works again.
    fn heal(&mut self) {
        for faults in [&self.agent, &self.centre] {
            faults.fail_writes(0, 0);
            faults.fail_syncs(0, 0);
            faults.read_only(false);
        }
        std::thread::sleep(Duration::from_millis(300));
        self.keep_running();
    }

    /// SIGKILL, and what a power cut leaves on disk.
    fn cut(&mut self, agent: bool) -> (usize, usize) {
        let (node, faults) = if agent {
            (&mut self.lab.agent.node, &self.agent)
        } else {
            (&mut self.lab.centre.node, &self.centre)
        };
        node.kill();
        let lost = faults.power_cut(&mut self.rng);
        node.process.start();
        lost
    }
}

/// `rounds` of faults under load; afterwards all is at the sink.
fn under(test: &str, sink: SinkKind, round: Round, mut more: impl FnMut(u32) -> bool) {
    let Some(mut faulty) = Faulty::new(test, sink) else { return };
    let mut rounds = 0;
    while more(rounds) {
        faulty.keep_running();
        let what = round(&mut faulty);
        if !what.is_empty() {
            eprintln!("{test}: {what}");
        }
        rounds += 1;
    }
    faulty.heal();
    let restarts = faulty.restarts;
    let (failed, syncs) =
        (faulty.agent.failed() + faulty.centre.failed(), faulty.agent.syncs() + faulty.centre.syncs());
    let (posts, lines, _) = faulty.lab.finish();
    assert!(syncs > 0, "the shim is not in the way");
    eprintln!(
        "{test}: {rounds} rounds, {failed} failures, {restarts} restarts, {syncs} fsyncs, {posts} posts, {lines} lines"
    );
}

fn power_cut(f: &mut Faulty) -> String {
    std::thread::sleep(life(&mut f.rng));
    let (agent, centre) = [(true, false), (false, true), (true, true)][f.rng.usize(..3)];
    let mut said = String::new();
    for (who, name) in [(true, "agent"), (false, "centre")] {
        if if who { agent } else { centre } {
            let (pending, lost) = f.cut(who);
            said.push_str(&format!("{name}: {lost} of {pending} unsynced writes lost; "));
        }
    }
    said
}

fn io_error(f: &mut Faulty) -> String {
    f.sleep(50..400);
    let (n, times, writes) = (f.rng.u32(1..30), f.rng.u32(1..3), f.rng.bool());
    let faults = f.one();
    if writes {
        faults.fail_writes(n, times)
    } else {
        faults.fail_syncs(n, times)
    }
    f.sleep(300..900);
    // A write whose fsync failed and that nobody repeated is lost now.
    if f.rng.u8(..3) == 0 {
        let who = f.rng.bool();
        f.cut(who);
    }
    String::new()
}

fn read_only(f: &mut Faulty) -> String {
    f.sleep(100..500);
    let agent = f.rng.bool();
    let faults = if agent { &f.agent } else { &f.centre };
    faults.read_only(true);
    f.sleep(100..900);
    let faults = if agent { &f.agent } else { &f.centre };
    faults.read_only(false);
    f.sleep(600..900);
    String::new()
}

fn clock(f: &mut Faulty) -> String {
    const DAY: i64 = 86_400;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() as i64;
    let jump = [-DAY, DAY, -10 * 365 * DAY, 3 * 365 * DAY, DAY - now, 0, -1][f.rng.usize(..7)];
    // The centre is no device: its clock is wrong by days, not by decades.
    if f.rng.bool() {
        f.agent.clock(jump)
    } else {
        f.centre.clock(jump.clamp(-2 * DAY, 2 * DAY))
    }
    f.sleep(200..600);
    match f.rng.u8(..4) {
        0 => {
            f.lab.agent.node.kill();
            f.agent.forget();
            f.lab.agent.node.process.start();
        }
        1 => {
            f.lab.centre.node.kill();
            f.centre.forget();
            f.lab.centre.node.process.start();
        }
        _ => {}
    }
    format!("a clock jumps by {jump} s")
}

#[test]
fn nothing_is_lost_or_doubled_in_a_mirror_by_power_cuts() {
    under("cut-mirror", SinkKind::Mirror, power_cut, |n| n < 6);
}

#[test]
fn nothing_is_lost_in_a_file_by_power_cuts() {
    under("cut-file", SinkKind::File, power_cut, |n| n < 6);
}

#[test]
fn nothing_is_lost_by_writes_and_fsyncs_that_fail() {
    under("eio-mirror", SinkKind::Mirror, io_error, |n| n < 4);
    under("eio-file", SinkKind::File, io_error, |n| n < 4);
}

#[test]
fn nothing_is_lost_by_a_disk_that_is_read_only_for_a_while() {
    under("ro-file", SinkKind::File, read_only, |n| n < 4);
}

#[test]
fn nothing_is_lost_by_clocks_that_jump() {
    under("clock", SinkKind::Mirror, clock, |n| n < 6);
}

#[test]
fn a_disk_that_is_mounted_read_only_is_said_and_all_is_well_when_it_is_not() {
    let dir = Dir::new("remount");
    let disk = match SmallDisk::mount(&dir.join("box"), "16m") {
        Ok(disk) => disk,
        Err(why) => return eprintln!("skipped: no small file system here: {why}"),
    };
    let pki = Pki::new(&dir, "ca");
    let mut centre = Centre::new(&dir, &pki, SinkKind::Mirror);
    let mut agent = Agent::with(&dir, "box", &centre.sink(&pki.device("box")), "buffer:\n  reserve: 1MiB\n");
    agent.start();
    for n in 0..10 {
        agent.post("t", &n.to_string());
    }
    agent.node.stop();
    disk.remount(true);
    agent.node.process.start();
    until("word of the read-only disk", || {
        agent.node.process.log().to_lowercase().contains("read-only").then_some(())
    });
    let alive = agent.node.process.runs();
    disk.remount(false);
    eprintln!("on a read-only disk the agent {}", if alive { "waits" } else { "ends" });
    if !alive {
        agent.node.process.ended();
        agent.start();
    }
    centre.start();
    until("a post that is taken", || {
        (post(agent.posts, "t", "10").is_ok_and(|a| a.status == 202)).then_some(())
    });
    until("an empty buffer", || (agent.waiting() == 0).then_some(()));
    let numbers: Vec<String> = messages(&centre.out).into_iter().map(|m| m.payload).collect();
    assert_eq!(numbers, (0..11).map(|n| n.to_string()).collect::<Vec<_>>());
    agent.node.stop();
    drop(disk);
}

#[test]
fn real_faults_soak() {
    let Some(long) = soak() else { return };
    let begin = Instant::now();
    let all: [(&str, Round); 4] =
        [("cut", power_cut), ("eio", io_error), ("ro", read_only), ("clock", clock)];
    let mut turn = 0;
    while begin.elapsed() < long {
        let (name, round) = all[turn % all.len()];
        let sink = if (turn / all.len()).is_multiple_of(2) { SinkKind::Mirror } else { SinkKind::File };
        under(name, sink, round, |n| n < 60 && begin.elapsed() < long);
        turn += 1;
    }
}

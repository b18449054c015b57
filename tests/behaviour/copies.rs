//! A device's buffer that exists twice (a cloned image), and a centre that is restored from a backup.

use std::collections::BTreeMap;
use std::path::Path;

use crate::harness::*;

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else if entry.file_type().unwrap().is_file() {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// How often each payload is there.
fn counted(mirror: &Path) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for message in messages(mirror) {
        *counts.entry(message.payload).or_default() += 1;
    }
    counts
}

#[test]
fn both_copies_of_a_cloned_device_go_on_and_the_fork_is_reported() {
    let dir = Dir::new("fork");
    let pki = Pki::new(&dir, "ca");
    let mut centre = Centre::new(&dir, &pki, SinkKind::Mirror);
    centre.start();
    let own = pki.device("box");
    let mut first = Agent::with(&dir, "box", &centre.sink(&own), "");
    first.start();
    first.post("t", "\"common-1\"");
    until("an empty buffer", || (first.waiting() == 0).then_some(()));
    // Something waits while the image is made.
    centre.node.stop();
    first.post("t", "\"common-2\"");
    first.node.stop();
    let second_dir = Dir::new("fork-copy");
    let second = Agent::with(&second_dir, "box", &centre.sink(&own), "");
    copy(&first.node.state, &second.node.state);
    let mut agents = [first, second];
    centre.start();
    let mut want = vec!["common-1".to_owned(), "common-2".to_owned()];
    for round in 0..3 {
        for (who, agent) in agents.iter_mut().enumerate() {
            agent.start();
            for n in 0..5 {
                let text = format!("round-{round}-of-{who}-{n}");
                agent.post("t", &format!("\"{text}\""));
                want.push(text);
            }
            until("an empty buffer", || (agent.waiting() == 0).then_some(()));
            agent.node.stop();
        }
    }
    let seen = counted(&centre.out);
    for text in &want {
        let times = seen.get(&format!("\"{text}\"")).copied().unwrap_or(0);
        // What both had may have been sent by both.
        assert!(times == 1 || (text.starts_with("common") && times == 2), "{text}: {times} times");
    }
    assert_eq!(seen.len(), want.len());
    assert_eq!(losses(&centre.out), []);
    let said: String = agents.iter().map(|a| a.node.process.whole_log()).collect();
    assert!(said.contains("fork") || said.contains("copy"), "{said}");
}

#[test]
fn both_copies_go_on_side_by_side() {
    let dir = Dir::new("clones");
    let pki = Pki::new(&dir, "ca");
    let mut centre = Centre::new(&dir, &pki, SinkKind::Mirror);
    centre.start();
    let own = pki.device("box");
    let mut first = Agent::with(&dir, "box", &centre.sink(&own), "");
    first.start();
    first.post("t", "\"common\"");
    until("an empty buffer", || (first.waiting() == 0).then_some(()));
    first.node.stop();
    let second_dir = Dir::new("clones-copy");
    let second = Agent::with(&second_dir, "box", &centre.sink(&own), "");
    copy(&first.node.state, &second.node.state);
    let mut agents = [first, second];
    for agent in &mut agents {
        agent.start();
    }
    let mut want = vec!["common".to_owned()];
    for n in 0..10 {
        for (who, agent) in agents.iter().enumerate() {
            let text = format!("{n}-of-{who}");
            agent.post("t", &format!("\"{text}\""));
            want.push(text);
        }
    }
    // They take each other's session, and do not contest it at once: this takes a minute.
    for _ in 0..2 {
        let waits = || agents.iter().any(|a| a.waiting() > 0);
        let begin = std::time::Instant::now();
        while waits() && begin.elapsed() < PATIENCE {
            pause(200);
        }
    }
    let seen = counted(&centre.out);
    for text in &want {
        assert_eq!(seen.get(&format!("\"{text}\"")), Some(&1), "{text}");
    }
    assert_eq!(seen.len(), want.len());
}

/// Ten events before the backup of the centre, ten after it, ten after it was restored. What the centre then has.
fn restored(test: &str, buffer: &str) -> (Dir, Centre, Vec<u64>) {
    let dir = Dir::new(test);
    let pki = Pki::new(&dir, "ca");
    let mut centre = Centre::new(&dir, &pki, SinkKind::Mirror);
    centre.start();
    let mut agent = Agent::with(&dir, "box", &centre.sink(&pki.device("box")), buffer);
    agent.start();
    let seen =
        |out: &Path| -> Vec<u64> { messages(out).iter().map(|m| m.payload.parse().unwrap()).collect() };
    let mut posted = 0;
    let out = centre.out.clone();
    let mut deliver = |agent: &Agent| {
        for _ in 0..10 {
            agent.post("t", &posted.to_string());
            posted += 1;
        }
        until("the last event", || seen(&out).contains(&(posted - 1)).then_some(()));
    };
    deliver(&agent);
    centre.node.stop();
    let backup = dir.join("backup.db");
    std::fs::copy(&centre.out, &backup).unwrap();
    centre.start();
    deliver(&agent);
    // The disk of the centre is lost, the backup is older than what was acknowledged since.
    centre.node.stop();
    for ending in ["", "-wal", "-shm"] {
        std::fs::remove_file(format!("{}{ending}", centre.out.display())).ok();
    }
    std::fs::copy(&backup, &centre.out).unwrap();
    centre.start();
    deliver(&agent);
    let seen = seen(&centre.out);
    assert_eq!(centre.metric("dts_frames_bad_total", ""), 0);
    (dir, centre, seen)
}

#[test]
fn a_centre_that_is_restored_gets_again_what_was_kept() {
    let kept = "buffer:\n  lanes:\n    default:\n      keep_acked: {max_bytes: 1MiB, max_age: 1d}\n";
    let (_dir, centre, seen) = restored("restored", kept);
    assert_eq!(seen, (0..30).collect::<Vec<_>>());
    assert_eq!(centre.metric("dts_acked_elsewhere_total", ""), 0);
}

#[test]
fn what_a_restored_centre_cannot_have_again_is_said() {
    let (_dir, centre, seen) = restored("forgotten", "");
    assert_eq!(seen, (0..10).chain(20..30).collect::<Vec<_>>());
    assert_eq!(centre.metric("dts_acked_elsewhere_total", ""), 10);
    let log = centre.node.process.log();
    assert!(log.contains("device box: 10 of its sequence numbers were acknowledged elsewhere"), "{log}");
}

#[test]
fn the_first_of_two_installations_is_kept_where_that_is_asked_for() {
    let dir = Dir::new("conflict");
    let pki = Pki::new(&dir, "ca");
    let more = "  on_conflict: keep_first\n  retry_after: 1s\n";
    let mut centre = Centre::with(&dir, &pki, SinkKind::Mirror, more);
    centre.start();
    let own = pki.device("box");
    let mut first = Agent::with(&dir, "box", &centre.sink(&own), "");
    first.start();
    first.post("t", "\"first-1\"");
    until("the first's event", || (counted(&centre.out).len() == 1).then_some(()));
    // Another installation under the same name, with a buffer of its own.
    let second_dir = Dir::new("conflict-2");
    let mut second = Agent::with(&second_dir, "box", &centre.sink(&own), "");
    second.start();
    second.post("t", "\"second-1\"");
    centre.counts("dts_identity_conflicts_total", "", 1);
    first.post("t", "\"first-2\"");
    until("the first goes on", || counted(&centre.out).contains_key("\"first-2\"").then_some(()));
    assert_eq!(first.metric("dts_ship_connections_total", ""), 1);
    assert_eq!((second.waiting(), counted(&centre.out).len()), (1, 2));
    assert!(centre.node.process.log().contains("two installations are live under the name box"));
}

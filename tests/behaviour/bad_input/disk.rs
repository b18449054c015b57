//! A full disk, a full buffer, a damaged buffer.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::mpsc::{Receiver, channel};

use crate::harness::*;

/// A body of about 20 KiB that names `n`.
fn event(n: usize) -> String {
    let mut rng = fastrand::Rng::with_seed(n as u64);
    let text: String = std::iter::repeat_with(|| rng.alphanumeric()).take(20 << 10).collect();
    format!("{{\"n\":{n},\"text\":\"{text}\"}}")
}

fn number(message: &Message) -> usize {
    let body: serde_json::Value = serde_json::from_str(&message.payload).unwrap();
    body["n"].as_u64().unwrap() as usize
}

#[test]
fn a_full_disk_holds_up_the_inputs_and_is_well_again_when_space_returns() {
    let dir = Dir::new("full");
    let disk = match SmallDisk::mount(&dir.join("box"), "16m") {
        Ok(disk) => disk,
        Err(why) => return eprintln!("skipped: no small file system here: {why}"),
    };
    let pki = Pki::new(&dir, "ca");
    let mut centre = Centre::new(&dir, &pki, SinkKind::Mirror);
    // Something else on that disk that will go away.
    let other = disk.0.join("other");
    std::fs::write(&other, vec![1; 6 << 20]).unwrap();
    let buffer = "    timeout: 2s\nbuffer:\n  max_bytes: 64MiB\n  reserve: 1MiB\n";
    let mut agent = Agent::with(&dir, "box", &centre.sink(&pki.device("box")), buffer);
    agent.start();
    let mut taken = Vec::new();
    let mut post_until_refused = |agent: &Agent, from: usize| {
        for n in from.. {
            let answer = post(agent.posts, "t", &event(n)).unwrap();
            match answer.status {
                202 => taken.push(n),
                503 => return n,
                _ => panic!("{answer:?}"),
            }
        }
        from
    };
    let full = post_until_refused(&agent, 0);
    assert!(full > 20, "it took {full}");
    // Alive, and says what is wrong.
    let (status, health) = agent.node.ask(&["health", "--json"]);
    assert_eq!(status, 4, "{health}");
    assert!(health.contains("disk is full"), "{health}");
    assert_eq!(post(agent.posts, "t", &event(full + 1)).unwrap().status, 503);
    // Space returns, and with it all is well, without a restart.
    std::fs::remove_file(&other).unwrap();
    until("a post that is taken again", || {
        (post(agent.posts, "again", "\"well\"").unwrap().status == 202).then_some(())
    });
    until("good health", || {
        let (_, health) = agent.node.ask(&["health", "--json"]);
        (!health.contains("disk is full")).then_some(())
    });
    // Full once more, and now the centre comes: a full disk still lets data go.
    let again = post_until_refused(&agent, 10_000);
    assert!(again > 10_000);
    centre.start();
    until("an empty buffer", || (agent.waiting() == 0).then_some(()));
    // The disk is full still; what was deleted leaves room for others.
    until("a post that is taken into freed pages", || {
        (post(agent.posts, "t", &event(99_999)).unwrap().status == 202).then_some(())
    });
    until("an empty buffer", || (agent.waiting() == 0).then_some(()));
    let arrived = messages(&centre.out);
    let numbers: Vec<_> = arrived.iter().filter(|m| m.topic == "t").map(number).collect();
    let delivered: BTreeSet<_> = numbers.iter().copied().collect();
    // A post that was refused because it was late may have been stored none the less, and posted again.
    assert_eq!(numbers.iter().filter(|n| **n != 99_999).count(), delivered.len() - 1, "nothing twice");
    // What was refused may have been stored none the less, what was taken must.
    for n in &taken {
        assert!(delivered.contains(n), "event {n} was taken and is lost");
    }
    assert!(delivered.contains(&99_999));
    assert_eq!(losses(&centre.out), []);
    agent.node.stop();
}

/// Takes posts of events like an HTTP sink makes them, and gives their numbers.
fn serve(listener: TcpListener) -> Receiver<usize> {
    let (tx, rx) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, tx) = (BufReader::new(stream.unwrap()), tx.clone());
            std::thread::spawn(move || {
                loop {
                    let mut length = 0;
                    loop {
                        let mut line = String::new();
                        if stream.read_line(&mut line).unwrap_or(0) == 0 {
                            return;
                        }
                        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                            length = value.trim().parse().unwrap();
                        }
                        if line == "\r\n" {
                            break;
                        }
                    }
                    let mut body = vec![0; length];
                    stream.read_exact(&mut body).unwrap();
                    for line in body.split(|b| *b == b'\n').filter(|l| !l.is_empty()) {
                        let event: serde_json::Value = serde_json::from_slice(line).unwrap();
                        tx.send(event["payload"]["n"].as_u64().unwrap() as usize).ok();
                    }
                    stream.get_mut().write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").ok();
                }
            });
        }
    });
    rx
}

#[test]
fn a_full_disk_still_empties_into_a_sink_of_its_own() {
    let dir = Dir::new("full-sink");
    let disk = match SmallDisk::mount(&dir.join("box"), "8m") {
        Ok(disk) => disk,
        Err(why) => return eprintln!("skipped: no small file system here: {why}"),
    };
    let at = port();
    let sink = format!(
        "    timeout: 2s\nbuffer:\n  max_bytes: 64MiB\n  reserve: 1MiB\n\
         sink:\n  type: http\n  url: http://127.0.0.1:{at}/in\n"
    );
    let mut agent = Agent::with(&dir, "box", &sink, "");
    agent.start();
    let mut taken = BTreeSet::new();
    for n in 0.. {
        match post(agent.posts, "t", &event(n)).unwrap().status {
            202 => drop(taken.insert(n)),
            _ => break,
        }
    }
    assert!(taken.len() > 20, "it took {}", taken.len());
    let arriving = serve(TcpListener::bind(("127.0.0.1", at)).unwrap());
    let mut arrived = BTreeSet::new();
    while !arrived.is_superset(&taken) {
        arrived.insert(arriving.recv_timeout(PATIENCE).expect("the rest of the events"));
    }
    until("an empty buffer", || (agent.waiting() == 0).then_some(()));
    until("a post that is taken again", || {
        (post(agent.posts, "t", &event(99_999)).unwrap().status == 202).then_some(())
    });
    agent.node.stop();
    drop(disk);
}

#[test]
fn what_a_full_buffer_gives_up_is_reported() {
    let dir = Dir::new("drop");
    let pki = Pki::new(&dir, "ca");
    let mut centre = Centre::new(&dir, &pki, SinkKind::Mirror);
    let buffer = "buffer:\n  max_bytes: 1MiB\n  lanes:\n    data: {policy: drop_oldest}\n";
    let mut agent = Agent::with(&dir, "box", &centre.sink(&pki.device("box")), buffer);
    agent.start();
    for n in 0..100 {
        agent.post("t", &event(n));
    }
    agent.node.kill();
    agent.start();
    centre.start();
    until("an empty buffer", || (agent.waiting() == 0).then_some(()));
    let numbers: Vec<_> = messages(&centre.out).iter().filter(|m| m.topic == "t").map(number).collect();
    // The newest, in order, none twice; the rest is named.
    assert!(numbers.len() > 10 && numbers.len() < 60, "{}", numbers.len());
    assert_eq!(numbers, (100 - numbers.len()..100).collect::<Vec<_>>());
    let lost: u64 = losses(&centre.out).iter().map(|(_, rows)| rows).sum();
    assert_eq!(lost, 100 - numbers.len() as u64, "{:?}", losses(&centre.out));
    agent.node.stop();
}

#[test]
fn a_damaged_buffer_is_put_aside_and_the_agent_goes_on() {
    for (test, from, len) in [("middle", 40 << 10, 24 << 10), ("head", 0, 200)] {
        let dir = Dir::new(test);
        let pki = Pki::new(&dir, "ca");
        let mut centre = Centre::new(&dir, &pki, SinkKind::Mirror);
        let mut agent = Agent::new(&dir, &pki, "box", &centre);
        agent.start();
        for n in 0..20 {
            agent.post("t", &event(n));
        }
        agent.node.stop();
        let file = agent.node.state.join("buffer/buffer.db");
        let mut bytes = std::fs::read(&file).unwrap();
        assert!(bytes.len() > 300 << 10, "{} bytes", bytes.len());
        bytes[from..from + len].fill(0xa5);
        std::fs::write(&file, bytes).unwrap();

        // Damage behind the first pages is found when they are read.
        agent.start();
        centre.start();
        until("the report of the damage", || (agent.spool()["quarantined"].as_u64()? > 0).then_some(()));
        let aside = std::fs::read_dir(agent.node.state.join("buffer")).unwrap().flatten();
        let aside: Vec<_> = aside.map(|e| e.file_name().to_string_lossy().into_owned()).collect();
        assert!(aside.iter().any(|name| name.contains("corrupt")), "{test}: {aside:?}");
        // The agent goes on.
        for n in 20..25 {
            agent.post("t", &event(n));
        }
        until("an empty buffer", || (agent.waiting() == 0).then_some(()));
        let numbers: Vec<_> = messages(&centre.out).iter().map(number).collect();
        let delivered: BTreeSet<_> = numbers.iter().copied().collect();
        assert_eq!(delivered.len(), numbers.len(), "{test}: nothing twice");
        assert!((20..25).all(|n| delivered.contains(&n)), "{test}: {delivered:?}");
        // Each of the others is there, or told of.
        let missing = 25 - delivered.len() as u64;
        let lost: u64 = losses(&centre.out).iter().map(|(_, rows)| rows).sum();
        assert!(lost >= missing, "{test}: {missing} are missing, {lost} are reported");
        agent.node.stop();
    }
}

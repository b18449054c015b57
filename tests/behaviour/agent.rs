//! The agent as its machine and its operator see it.

use std::process::{Command, Stdio};

use crate::harness::*;

#[test]
fn the_agent_has_the_threads_that_it_says_and_stops_in_order() {
    let dir = Dir::new("threads");
    let pki = Pki::new(&dir, "ca");
    let mut centre = Centre::new(&dir, &pki, SinkKind::File);
    centre.start();
    let app = dir.join("app.log");
    let more = format!(
        "  - type: file\n    name: log\n    paths: ['{}']\n  - type: exec\n    name: beat\n    \
         command: [echo, '{{\"beat\":1}}']\n    every: 1s\n",
        app.display()
    );
    // By name, so that the resolver is needed.
    let sink = centre.sink(&pki.device("box")).replace("address: 127.0.0.1", "address: localhost");
    let mut agent = Agent::with(&dir, "box", &sink, &more);
    agent.start();
    std::fs::write(&app, "one\ntwo\n").unwrap();
    agent.post("t", "1");
    until("events of all three inputs", || {
        let seen = payloads(&centre.out);
        let has = |topic: &str| seen.iter().any(|(t, _)| t.contains(topic));
        (has("t") && has("app.log") && has("echo")).then_some(())
    });
    // Whatever it does, there are these and no others.
    for _ in 0..50 {
        let mut threads = agent.node.process.threads();
        threads.retain(|name| name != "dns");
        assert_eq!(threads, ["async-io", "dts", "sqlite"]);
        pause(10);
    }
    agent.node.stop();
    let log = agent.node.process.log();
    assert!(!log.contains("WARN") && !log.contains("ERROR") && !log.contains("panic"), "{log}");
    // So does the centre.
    let log = centre.node.process.log();
    centre.node.stop();
    assert!(!log.contains("WARN") && !log.contains("ERROR"), "{log}");
    // A clean end is known as such.
    agent.start();
    assert!(!agent.node.process.log().contains("did not end in order"));
    agent.node.kill();
    agent.start();
    agent.node.process.says("did not end in order");
    agent.node.stop();
}

#[test]
fn a_running_agent_answers_on_its_control_socket() {
    let dir = Dir::new("control");
    let pki = Pki::new(&dir, "ca");
    let mut centre = Centre::new(&dir, &pki, SinkKind::File);
    let mut agent = Agent::new(&dir, &pki, "box", &centre);
    // Nobody is there yet.
    let (status, out) = agent.node.ask(&["health", "--json"]);
    assert_eq!((status, out.as_str()), (4, ""));
    agent.start();
    let (status, out) = agent.node.ask(&["health", "--json"]);
    let health: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((status, &health["status"]), (0, &serde_json::json!("ok")), "{out}");
    assert_eq!(health["device"], "box");
    assert_eq!(health["runs"], serde_json::json!({"sources": ["posts"], "sinks": ["centre"]}));
    let (status, out) = agent.node.ask(&["health"]);
    assert_eq!(status, 0);
    assert!(out.contains("posts -> centre"), "{out}");

    // A tap sees what passes, and only what it was asked for.
    let mut tap = Command::new(env!("CARGO_BIN_EXE_dts"));
    tap.args(["tap", "--source", "posts", "--limit", "3", "--config"]).arg(&agent.node.config);
    let mut tap = tap.stdout(Stdio::piped()).spawn().unwrap();
    let mut posted = 0;
    until("the end of the tap", || {
        // The first ones may pass before it looks.
        agent.post("t", &posted.to_string());
        posted += 1;
        tap.try_wait().unwrap()
    });
    let out = tap.wait_with_output().unwrap();
    assert!(out.status.success());
    let lines: Vec<serde_json::Value> =
        String::from_utf8(out.stdout).unwrap().lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(lines.len(), 3);
    let numbers: Vec<_> = lines.iter().map(|l| l["payload"].as_u64().unwrap()).collect();
    assert!(numbers.windows(2).all(|w| w[1] == w[0] + 1), "{numbers:?}");
    assert!(lines.iter().all(|l| l["source"] == "posts" && l["topic"] == "t"));

    // The buffer, by the running agent and, when it is gone, from its file.
    for running in [true, false] {
        if !running {
            agent.node.stop();
        }
        assert_eq!(agent.waiting(), posted, "running: {running}");
        let (status, out) = agent.node.ask(&["spool", "peek", "--limit", "2"]);
        assert_eq!((status, out.lines().count()), (0, 2), "{out}");
        let first: serde_json::Value = serde_json::from_str(out.lines().next().unwrap()).unwrap();
        assert_eq!(first["payload"], 0);
        // These want it for themselves.
        let (status, out) = agent.node.ask(&["spool", "verify"]);
        assert_eq!(status, i32::from(running), "{out}");
        let (status, out) = agent.node.ask(&["spool", "export"]);
        assert_eq!(status, i32::from(running), "{out}");
        assert_eq!(out.lines().count() as u64, if running { 0 } else { posted });
    }
    // All that looking changed nothing.
    agent.start();
    centre.start();
    until("every event", || (payloads(&centre.out).len() as u64 >= posted).then_some(()));
    let want: Vec<_> = (0..posted).map(|n| ("t".to_owned(), serde_json::json!(n))).collect();
    assert_eq!(payloads(&centre.out), want);
    until("an empty buffer", || (agent.waiting() == 0).then_some(()));
}

#[test]
fn a_second_agent_on_the_same_buffer_says_so_and_ends() {
    let dir = Dir::new("second");
    let pki = Pki::new(&dir, "ca");
    let centre = Centre::new(&dir, &pki, SinkKind::File);
    let mut agent = Agent::new(&dir, &pki, "box", &centre);
    agent.start();
    // The same but for the ports.
    let text = std::fs::read_to_string(&agent.node.config).unwrap();
    let (_, rest) = text.split_once("sources:").unwrap();
    let rest = rest.replace(&agent.posts.to_string(), &port().to_string());
    let text = format!("device:\n  name: box\n  state_dir: {}\nsources:{rest}", agent.node.state.display());
    let config = dir.write("second.yaml", text);
    let mut second = Process::dts(&dir, "second", &["run", "--config", config.to_str().unwrap()]);
    second.start();
    assert_eq!(second.ended().code(), Some(1));
    assert!(second.log().contains("buffer"), "{}", second.log());
    // The first does not notice.
    agent.post("t", "1");
    assert_eq!(agent.node.ask(&["health"]).0, 0);
}

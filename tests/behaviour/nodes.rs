//! Two centres that take the same devices and share one sink.

use dts::mqtt::{ConnAck, Packet};

use crate::harness::*;

/// Two centres that write to one mirror.
struct Pair {
    nodes: [Centre; 2],
    pki: Pki,
    out: std::path::PathBuf,
    dir: Dir,
    _second: Dir,
}

impl Pair {
    fn start(test: &str) -> Self {
        let dir = Dir::new(test);
        let second = Dir::new(test);
        let pki = Pki::new(&dir, "ca");
        let out = dir.join("mirror.db");
        let sink = format!("sink:\n  type: sqlite\n  path: {}\n", out.display());
        let nodes = [&dir, &second].map(|dir| {
            let mut centre = Centre::to(dir, &pki, out.clone(), "  nodes: many\n", &sink);
            centre.start();
            centre
        });
        Self { nodes, pki, out, dir, _second: second }
    }

    /// A device's agent connects to a node.
    fn connect(&self, node: usize) -> (Mqtt, ConnAck) {
        let mut client = Mqtt::plain(self.nodes[node].plain);
        let ack = client.connect(agent_connect("box-7", 0xaa));
        assert_eq!(ack.reason, 0);
        (client, ack)
    }
}

fn property<'a>(ack: &'a ConnAck, name: &str) -> Vec<&'a str> {
    ack.user.iter().filter(|(n, _)| n == name).map(|(_, v)| v.as_str()).collect()
}

/// Publishes a frame and waits for its PUBACK.
fn durable(client: &mut Mqtt, seq: u64) {
    client.send(&frame("box-7", seq, seq as u16));
    match client.receive() {
        Some(Packet::PubAck(ack)) => assert_eq!((ack.packet_id, ack.reason), (seq as u16, 0)),
        other => panic!("PUBACK of {seq} is expected, {other:?} came"),
    }
}

#[test]
fn a_newer_session_fences_the_older_one_at_another_node() {
    let pair = Pair::start("nodes");
    let (mut first, ack) = pair.connect(0);
    let session: u64 = property(&ack, "dts-session")[0].parse().unwrap();
    durable(&mut first, 1);
    durable(&mut first, 2);
    // The device moves. The other node knows what this one has.
    let (mut second, ack) = pair.connect(1);
    assert_eq!(property(&ack, "dts-session"), [(session + 1).to_string()]);
    assert!(property(&ack, "dts-mark")[0].starts_with("data/0000000300000007/2/"), "{ack:?}");
    // What the old connection still sends is not answered, and written by nobody.
    first.send(&frame("box-7", 3, 3));
    assert_eq!(first.closed(), Some(0x8e));
    pair.nodes[0].counts("dts_sink_fenced_batches_total", "", 1);
    let all = || messages(&pair.out).iter().map(|m| m.seq).collect::<Vec<_>>();
    assert_eq!(all(), [1, 2]);
    durable(&mut second, 3);
    durable(&mut second, 4);
    // Back to the first node, whose own memory is of yesterday.
    let (mut third, ack) = pair.connect(0);
    assert_eq!(property(&ack, "dts-session"), [(session + 2).to_string()]);
    assert!(property(&ack, "dts-mark")[0].starts_with("data/0000000300000007/4/"), "{ack:?}");
    second.send(&frame("box-7", 5, 5));
    assert_eq!(second.closed(), Some(0x8e));
    durable(&mut third, 5);
    assert_eq!(all(), [1, 2, 3, 4, 5]);
    // Resent ones are known, whoever took them.
    durable(&mut third, 4);
    assert_eq!(all(), [1, 2, 3, 4, 5]);
    // Both nodes go on for everybody else.
    for node in &pair.nodes {
        let mut other = Mqtt::plain(node.plain);
        assert_eq!(other.connect(connect_as("box-8", dts::mqtt::Version::V5)).reason, 0);
    }
}

#[test]
fn an_agent_that_wanders_between_two_nodes_loses_and_doubles_nothing() {
    let mut pair = Pair::start("wander");
    let path = TcpPath::start(pair.nodes[0].tls);
    let sink = pair.nodes[0].sink(&pair.pki.device("box"));
    let sink = sink.replace(
        &format!("tcp_port: {}", pair.nodes[0].tls),
        &format!("tcp_port: {}\n  transports: [tls]", path.port),
    );
    let mut agent = Agent::with(&pair.dir, "box", &sink, "");
    agent.start();
    let mut posted = 0;
    for round in 1..=6 {
        for _ in 0..40 {
            agent.post("t", &posted.to_string());
            posted += 1;
        }
        if round == 3 {
            // This one dies with what it has.
            pair.nodes[1].node.kill();
            pair.nodes[1].start();
        }
        path.lead_to(pair.nodes[round % 2].tls);
        let before = agent.metric("dts_ship_connections_total", "");
        until("a connection to the other node", || {
            (agent.metric("dts_ship_connections_total", "") > before || agent.metric("dts_link_up", "") == 1)
                .then_some(())
        });
    }
    until("an empty buffer", || (agent.waiting() == 0).then_some(()));
    let seen: Vec<u64> = messages(&pair.out).iter().map(|m| m.payload.parse().unwrap()).collect();
    assert_eq!(seen, (0..posted).collect::<Vec<_>>());
    let connects = |node: &Centre| node.metric("dts_connects_total", "");
    assert!(pair.nodes.iter().all(|node| connects(node) >= 1), "it was at both");
}

#[test]
fn several_nodes_want_a_sink_that_they_share() {
    let dir = Dir::new("unshared");
    let pki = Pki::new(&dir, "ca");
    let file = dir.join("out.ndjson");
    let one = |sink: &str| {
        let centre = Centre::to(&dir, &pki, file.clone(), "  nodes: many\n", sink);
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_dts"));
        let out = command.args(["run", "--config"]).arg(&centre.node.config).output().unwrap();
        (out.status.code(), String::from_utf8_lossy(&out.stderr).into_owned())
    };
    let (status, said) = one(&format!("sink:\n  type: file\n  path: {}\n", file.display()));
    assert_eq!(status, Some(2), "{said}");
    assert!(said.contains("the sink `file` keeps nothing that several nodes could share"), "{said}");
    let two = format!(
        "sinks:\n  - type: sqlite\n    path: {0}.a\n  - type: sqlite\n    name: b\n    path: {0}.b\n",
        file.display()
    );
    let (status, said) = one(&two);
    assert_eq!(status, Some(2), "{said}");
    assert!(said.contains("`nodes: many` takes one sink"), "{said}");
    assert!(!file.exists());
}

//! mosquitto as the agent's broker: frames for whoever subscribes behind it.

use dts::event::builtin::message;
use dts::event::{Batch, Origin, RowClock, Value};
use dts::frame::{self, Header};

use super::mosquitto::Mosquitto;
use super::require;
use crate::harness::*;

/// An agent that ships through a broker; `way` are the lines of its sink that say how to get there.
pub(super) fn ship_through(dir: &Dir, way: &str) -> Agent {
    let sink =
        format!("sink:\n  type: centre\n  address: 127.0.0.1\n  peer: broker\n  backoff_max: 1s\n{way}");
    Agent::with(dir, "box", &sink, "")
}

/// The payloads of the messages in the frames that a subscriber wrote down (`topic hex`), in order, each once.
pub(super) fn decoded(log: &str) -> Vec<String> {
    let mut out = Vec::new();
    let mut next = std::collections::HashMap::new();
    for line in log.lines() {
        let Some(hex) = line.strip_prefix("dts/v1/box/c ") else { continue };
        let bytes: Vec<u8> =
            (0..hex.len() / 2).map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap()).collect();
        let (Header::V1(header), body) = frame::decode(&bytes.into(), 1 << 20).unwrap();
        // Behind a broker nobody can be asked for a shape: it goes along with every frame.
        assert_eq!(header.tables, [message().encode()]);
        let first = next.entry((header.lane.clone(), header.epoch)).or_insert(header.first_seq);
        if header.last_seq < *first {
            continue;
        }
        assert_eq!(header.first_seq, *first, "a hole, or a frame that was cut anew");
        *first = header.last_seq + 1;
        let origin = Origin::Input;
        let clock = RowClock { state: dts::event::batch::ClockState::Unknown, boot_offset_us: None };
        let rows =
            Batch::from_body("posts".into(), origin, clock, header.rows, body, |_| Some(message().clone()));
        for row in rows.unwrap().iter() {
            let row = row.unwrap();
            let (_, after) = row.images().unwrap();
            let payload = after.unwrap().iter().find_map(|(i, v)| match v {
                Value::Text(text) if i == 2 => Some(text.to_owned()),
                _ => None,
            });
            out.push(payload.unwrap());
        }
    }
    out
}

#[test]
fn the_agent_ships_through_mosquitto_over_tcp_tls_and_mtls() {
    if !require("mosquitto") {
        return;
    }
    let dir = Dir::new("upstream");
    let broker = Mosquitto::start(&dir, "box");
    let mut watch = broker.subscribe(&dir, "dts/v1/box/#", "%t %x");
    let ca = broker.ca.display();
    let (cert, key) = (broker.own.cert.display(), broker.own.key.display());
    let ways = [
        ("tcp", format!("  tcp_port: {}\n", broker.port)),
        ("tcp", format!("  tcp_port: {}\n  username: dts\n  password: dtspw\n", broker.port + 1)),
        ("tls", format!("  tcp_port: {}\n  tls: {{ca_file: {ca}}}\n", broker.port + 2)),
        (
            "tls",
            format!(
                "  tcp_port: {}\n  tls: {{ca_file: {ca}, cert_file: {cert}, key_file: {key}}}\n",
                broker.port + 3
            ),
        ),
    ];
    let mut agent = ship_through(&dir, "");
    let mut posted = Vec::new();
    for (i, (transport, way)) in ways.iter().enumerate() {
        // The same agent, moved from one way to the next.
        let text = std::fs::read_to_string(&agent.node.config).unwrap();
        let head = text.split("  backoff_max: 1s\n").next().unwrap();
        let text = format!("{head}  backoff_max: 1s\n  transports: {transport}\n{way}");
        std::fs::write(&agent.node.config, text).unwrap();
        agent.start();
        let mut post = |agent: &Agent, count: usize| {
            for _ in 0..count {
                agent.post("t", &posted.len().to_string());
                posted.push(posted.len().to_string());
            }
        };
        post(&agent, 20);
        if i == 2 {
            until("an empty buffer", || (agent.waiting() == 0).then_some(()));
            broker.stop();
            post(&agent, 10);
            broker.again();
        }
        post(&agent, 10);
        until("an empty buffer", || (agent.waiting() == 0).then_some(()));
        if i == 1 {
            agent.node.kill();
        } else {
            agent.node.stop();
        }
    }
    until("every event", || (decoded(&watch.log()).len() >= posted.len()).then_some(()));
    assert_eq!(decoded(&watch.log()), posted);
    assert!(watch.log().contains("dts/v1/box/s "), "its status goes along");
    watch.kill();
}

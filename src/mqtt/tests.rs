//! Both cores against each other, both against anything, and the conformance table against the tests.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use bytes::BytesMut;
use proptest::prelude::*;

use super::codec::sample::Gen;
use super::*;
use crate::runtime::Mono;

const V5: Version = Version::V5;
const V311: Version = Version::V311;

fn limits() -> ServerLimits {
    ServerLimits {
        max_packet_bytes: 20_000,
        receive_maximum: 5,
        maximum_qos: QoS::ExactlyOnce,
        window: 4,
        max_pending_bytes: 8000,
        ..ServerLimits::default()
    }
}

fn client(version: Version) -> Client {
    let options = ClientOptions {
        connect: Connect { keep_alive_s: 30, ..Connect::new(version, "d") },
        max_packet_bytes: 20_000,
        window: 7,
        ping_timeout: Duration::from_secs(5),
    };
    Client::new(options, Mono(0)).unwrap()
}

/// One way between the two: takes what is written, gives it in pieces.
#[derive(Default)]
struct Pipe(BytesMut);

impl Pipe {
    fn piece(&mut self, rng: &mut fastrand::Rng) -> BytesMut {
        let n = rng.usize(..=self.0.len().min(3000));
        self.0.split_to(n)
    }
}

fn message(rng: &mut fastrand::Rng, number: u64) -> Publish {
    let mut payload = number.to_le_bytes().to_vec();
    let most = if rng.u8(..) < 30 { 12_000 } else { 50 };
    payload.resize(8 + rng.usize(..most), 0xA5);
    let mut publish = Publish::new(format!("t/{number}"), 0, payload);
    publish.qos = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce][rng.usize(..3)];
    publish
}

/// One direction's bookkeeping.
#[derive(Default)]
struct Way {
    next: u64,
    /// Published, to be delivered in this order.
    sent: VecDeque<u64>,
    /// Delivered and unanswered: packet id, number, QoS.
    open: Vec<(u16, u64)>,
    /// What each number was answered.
    answers: Vec<(u64, u8)>,
    /// Published with QoS 1 or 2 and not yet acknowledged to the sender.
    unacked: BTreeSet<u64>,
    delivered: u64,
}

impl Way {
    fn published(&mut self, qos: QoS) {
        self.sent.push_back(self.next);
        if qos != QoS::AtMostOnce {
            self.unacked.insert(self.next);
        }
        self.next += 1;
    }

    fn arrived(&mut self, p: &Publish) {
        let number = u64::from_le_bytes(p.payload[..8].try_into().unwrap());
        assert_eq!(self.sent.pop_front(), Some(number), "each once and in order");
        assert_eq!(p.topic, format!("t/{number}"));
        self.delivered += 1;
        if p.packet_id != 0 {
            self.open.push((p.packet_id, number));
        }
    }

    fn answer(&mut self, rng: &mut fastrand::Rng, version: Version) -> Option<(u16, u8)> {
        if self.open.is_empty() || rng.bool() {
            return None;
        }
        let (id, number) = self.open.swap_remove(rng.usize(..self.open.len()));
        let reason = if version == V5 && rng.u8(..) < 40 { 0x97 } else { 0 };
        self.answers.push((number, reason));
        Some((id, reason))
    }

    fn acked(&mut self, token: u64, ack: &Ack) {
        assert!(self.unacked.remove(&token), "each token once");
        assert!(
            self.answers.contains(&(token, ack.reason)),
            "what the receiver said is what the sender hears"
        );
    }

    fn done(&self) -> bool {
        self.next == 60 && self.sent.is_empty() && self.unacked.is_empty()
    }
}

fn run(version: Version, seed: u64) {
    let rng = &mut fastrand::Rng::with_seed(seed);
    let mut server = Server::new(limits(), Mono(0));
    let mut client = client(version);
    let (mut to_server, mut to_client) = (Pipe::default(), Pipe::default());
    let (mut up, mut down) = (Way::default(), Way::default());
    let mut now = Mono(0);
    for _ in 0..200_000 {
        now = now + Duration::from_millis(rng.u64(..20));
        client.handle_timeout(now).unwrap();
        server.handle_timeout(now).unwrap();
        if up.next < 60 && rng.bool() {
            let message = message(rng, up.next);
            let qos = message.qos;
            if client.publish(message, up.next).is_ok() {
                up.published(qos);
            }
        }
        if down.next < 60 && rng.bool() {
            let message = message(rng, down.next);
            let qos = message.qos;
            if server.publish(message, down.next).is_ok() {
                down.published(qos);
            }
        }
        if let Some((id, reason)) = up.answer(rng, version) {
            server.ack(id, reason, Vec::new());
        }
        if let Some((id, reason)) = down.answer(rng, version) {
            client.ack(id, reason);
        }
        if rng.bool() {
            while let Some(bytes) = client.poll_transmit() {
                to_server.0.extend_from_slice(&bytes);
            }
        }
        if rng.bool() {
            while let Some(bytes) = server.poll_transmit() {
                to_client.0.extend_from_slice(&bytes);
            }
        }
        if server.ready() {
            server.receive(now, &to_server.piece(rng)).unwrap();
        }
        if client.ready() {
            client.receive(now, &to_client.piece(rng)).unwrap();
        }
        while let Some(event) = server.poll_event() {
            match event {
                ServerEvent::Connect(_) => server.accept(ConnAck::default()),
                ServerEvent::Publish(p) => up.arrived(&p),
                ServerEvent::Delivered { token, ack } => down.acked(token, &ack),
                other => panic!("{other:?}"),
            }
        }
        while let Some(event) = client.poll_event() {
            match event {
                ClientEvent::Connected(_) => {}
                ClientEvent::Message(p) => down.arrived(&p),
                ClientEvent::Acked { token, ack } => up.acked(token, &ack),
                other => panic!("{other:?}"),
            }
        }
        let held = server.qos2_ids().len();
        assert!(server.inflight() <= 5 + if version == V311 { held } else { 0 });
        assert!(server.pending_bytes() <= 8000 + 12_100 + 100);
        if up.done() && down.done() {
            assert_eq!((up.delivered, down.delivered), (60, 60));
            client.disconnect(0);
            while let Some(bytes) = client.poll_transmit() {
                to_server.0.extend_from_slice(&bytes);
            }
            while server.ready() && !to_server.0.is_empty() {
                server.receive(now, &to_server.piece(rng)).unwrap();
            }
            let closed: Vec<_> = std::iter::from_fn(|| server.poll_event()).collect();
            assert!(matches!(closed[..], [ServerEvent::Closed { clean: true, .. }]), "{closed:?}");
            return;
        }
    }
    panic!("not done: up {} of {}, down {} of {}", up.delivered, up.next, down.delivered, down.next);
}

#[test]
fn client_and_server_deliver_everything_once_and_in_order() {
    for seed in 0..100 {
        run(V5, seed);
        run(V311, seed);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever a client sends and the caller does: no panic, bounded memory, one `Closed` at the end, and
    /// every byte written is a packet that a server may send.
    #[test]
    fn a_server_takes_anything(entropy in proptest::collection::vec(any::<u8>(), 0..1500), v5 in any::<bool>()) {
        let version = if v5 { V5 } else { V311 };
        let g = &mut Gen(&entropy);
        let mut server = Server::new(limits(), Mono(0));
        let mut out = BytesMut::new();
        encode(&Packet::Connect(Box::new(Connect::new(version, "d"))), version, &mut out).unwrap();
        let mut now = Mono(0);
        let (mut closed, mut ids, mut written) = (0, Vec::new(), BytesMut::new());
        for _ in 0..60 {
            now = now + Duration::from_millis(u64::from(g.u8()) * 50);
            match g.pick(10) {
                0 => server.ack(ids.pop().unwrap_or(1), [0, 0x97][usize::from(g.pick(2))], Vec::new()),
                1 => drop(server.publish(Publish::new("a", u16::from(g.pick(2)), "x"), 1)),
                2 => server.suback(SubAck { packet_id: 1, reasons: vec![0], reason_string: None, user: vec![] }),
                3 => server.handle_timeout(now).unwrap_or_default(),
                4 if g.u8() > 250 => server.disconnect(Disconnect::default()),
                5 => {
                    out.extend_from_slice(&[g.u8(), g.u8(), g.u8()]);
                }
                _ => encode(&g.packet(version), version, &mut out).unwrap(),
            }
            if server.ready() {
                let n = out.len().min(usize::from(g.u8()) * 8);
                server.receive(now, &out.split_to(n)).unwrap_or_default();
            }
            while let Some(event) = server.poll_event() {
                prop_assert_eq!(closed, 0, "nothing after Closed");
                match event {
                    ServerEvent::Connect(_) => server.accept(ConnAck::default()),
                    ServerEvent::Publish(p) => ids.push(p.packet_id),
                    ServerEvent::Closed { .. } => closed += 1,
                    _ => {}
                }
            }
            prop_assert!(server.pending_bytes() <= 8000 + 4000);
            prop_assert_eq!(server.is_closed(), closed == 1);
            while let Some(bytes) = server.poll_transmit() {
                written.extend_from_slice(&bytes);
            }
        }
        while let Some(packet) = decode(&mut written, Some(version), 1 << 20).unwrap() {
            let said = matches!(
                packet,
                Packet::ConnAck(_) | Packet::Publish(_) | Packet::PubAck(_) | Packet::PubRec(_) | Packet::PubRel(_)
                    | Packet::PubComp(_) | Packet::SubAck(_) | Packet::PingResp | Packet::Disconnect(_)
            );
            prop_assert!(said && (v5 || !matches!(packet, Packet::Disconnect(_))), "{packet:?}");
        }
        prop_assert!(written.is_empty());
    }

    /// The same for a client and whatever a server sends.
    #[test]
    fn a_client_takes_anything(entropy in proptest::collection::vec(any::<u8>(), 0..1500), v5 in any::<bool>()) {
        let version = if v5 { V5 } else { V311 };
        let g = &mut Gen(&entropy);
        let mut client = client(version);
        while client.poll_transmit().is_some() {}
        let mut out = BytesMut::new();
        encode(&Packet::ConnAck(Box::default()), version, &mut out).unwrap();
        let mut now = Mono(0);
        let (mut ended, mut ids, mut written) = (0, Vec::new(), BytesMut::new());
        for _ in 0..60 {
            now = now + Duration::from_millis(u64::from(g.u8()) * 50);
            match g.pick(10) {
                0 => client.ack(ids.pop().unwrap_or(1), 0),
                1 | 2 => drop(client.publish(Publish::new("a", u16::from(g.pick(2)), "x"), 1)),
                3 => client.handle_timeout(now).unwrap_or_default(),
                4 => drop(client.subscribe(&[("a/#", QoS::AtLeastOnce)])),
                5 => out.extend_from_slice(&[g.u8(), g.u8(), g.u8()]),
                _ => encode(&g.packet(version), version, &mut out).unwrap(),
            }
            if client.ready() {
                let n = out.len().min(usize::from(g.u8()) * 8);
                client.receive(now, &out.split_to(n)).unwrap_or_default();
            }
            while let Some(event) = client.poll_event() {
                prop_assert_eq!(ended, 0, "nothing after the end");
                match event {
                    ClientEvent::Message(p) => ids.push(p.packet_id),
                    ClientEvent::Failed(_) | ClientEvent::Closed(_) | ClientEvent::Refused(_) => ended += 1,
                    _ => {}
                }
            }
            prop_assert_eq!(client.is_closed(), ended == 1);
            while let Some(bytes) = client.poll_transmit() {
                written.extend_from_slice(&bytes);
            }
        }
        while let Some(packet) = decode(&mut written, Some(version), 1 << 20).unwrap() {
            let said = matches!(
                packet,
                Packet::Publish(_) | Packet::PubAck(_) | Packet::PubRec(_) | Packet::PubRel(_) | Packet::PubComp(_)
                    | Packet::Subscribe(_) | Packet::PingReq | Packet::Disconnect(_)
            );
            prop_assert!(said, "{packet:?}");
        }
        prop_assert!(written.is_empty());
    }
}

/// The sections of MQTT 5.0 with normative statements, and the last number of each (appendix B).
const STATEMENTS: [(&str, u8); 56] = [
    ("1.5.4", 3),
    ("1.5.5", 1),
    ("1.5.7", 1),
    ("2.1.3", 1),
    ("2.2.1", 6),
    ("2.2.2", 1),
    ("3.1.0", 2),
    ("3.1.2", 30),
    ("3.1.3", 12),
    ("3.1.4", 6),
    ("3.2.0", 2),
    ("3.2.2", 22),
    ("3.3.1", 13),
    ("3.3.2", 20),
    ("3.3.4", 10),
    ("3.4.2", 3),
    ("3.5.2", 3),
    ("3.6.1", 1),
    ("3.6.2", 3),
    ("3.7.2", 3),
    ("3.8.1", 1),
    ("3.8.3", 5),
    ("3.8.4", 8),
    ("3.9.2", 2),
    ("3.9.3", 2),
    ("3.10.1", 1),
    ("3.10.3", 2),
    ("3.10.4", 6),
    ("3.11.2", 2),
    ("3.11.3", 2),
    ("3.12.4", 1),
    ("3.14.0", 1),
    ("3.14.1", 1),
    ("3.14.2", 4),
    ("3.14.4", 3),
    ("3.15.1", 1),
    ("3.15.2", 3),
    ("4.1.0", 2),
    ("4.2.0", 1),
    ("4.3.1", 1),
    ("4.3.2", 5),
    ("4.3.3", 13),
    ("4.4.0", 2),
    ("4.5.0", 2),
    ("4.6.0", 6),
    ("4.7.0", 1),
    ("4.7.1", 2),
    ("4.7.2", 1),
    ("4.7.3", 4),
    ("4.8.2", 6),
    ("4.9.0", 3),
    ("4.12.0", 7),
    ("4.12.1", 2),
    ("4.13.1", 1),
    ("4.13.2", 1),
    ("6.0.0", 1),
];

#[test]
fn conformance_table_names_tests_that_exist() {
    let table = include_str!("../../docs/mqtt-conformance.md");
    let tests = [
        include_str!("codec/tests.rs"),
        include_str!("client/tests.rs"),
        include_str!("server/tests.rs"),
        include_str!("topic.rs"),
        include_str!("tests.rs"),
        // What the core leaves to its caller, the listener.
        include_str!("../source/devices/tests/session.rs"),
        include_str!("../source/devices/tests/listener.rs"),
        include_str!("../source/devices/auth/tests.rs"),
        include_str!("../source/devices/fence.rs"),
        include_str!("../../tests/hostile/mqtt.rs"),
    ]
    .concat();
    let mut rows = 0;
    for row in table.lines().filter(|line| line.starts_with("| MQTT-")) {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [_, _, how] = cells[..] else { panic!("three cells: {row}") };
        let (mut named, mut quoted) = (false, how.split('`'));
        while let (Some(_), Some(name)) = (quoted.next(), quoted.next()) {
            named = true;
            let found = tests.contains(&format!("fn {name}(")) || tests.contains(&format!("\"{name}"));
            assert!(found, "no test {name}: {row}");
        }
        assert!(named || how.len() > 10, "neither a test nor a reason: {row}");
        rows += 1;
    }
    // Appendix B of MQTT 5.0 has 251 statements: none is left out. Its numbers begin at 2 in 2.2.1, and the four of
    // chapter 6 (WebSocket) share a row.
    let numbers = table.split("## MQTT 3.1.1").next().unwrap_or_default();
    let all: BTreeSet<&str> =
        numbers.lines().filter_map(|l| l.strip_prefix("| MQTT-")?.split(' ').next()).collect();
    let statements = STATEMENTS.iter().flat_map(|(section, last)| {
        let first = if *section == "2.2.1" { 2 } else { 1 };
        (first..=*last).map(move |n| format!("{section}-{n}"))
    });
    let missing: Vec<String> = statements.clone().filter(|s| !all.contains(&**s)).collect();
    assert!(missing.is_empty(), "statements without a row: {missing:?}");
    assert_eq!((statements.count(), all.len()), (248, 248), "247 and WebSocket");
    assert!(rows > 248, "{rows}");
    // And the other way: what a test says to prove is in the table.
    for (at, _) in tests.match_indices("MQTT-") {
        let id: String =
            tests[at + 5..].chars().take_while(|c| c.is_ascii_digit() || *c == '.' || *c == '-').collect();
        let id = id.trim_end_matches(['.', '-']);
        if id.contains('-') {
            assert!(table.contains(&format!("| MQTT-{id} ")), "MQTT-{id} is not in the table");
        }
    }
}

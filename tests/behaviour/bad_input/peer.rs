//! Who speaks to the centre's listener and should not, or not like that.

use std::net::UdpSocket;

use dts::event::builtin::{Payload, image, message, message_values};
use dts::event::{BatchBuilder, Op};
use dts::frame::{self, Codec, Header, HeaderV1};
use dts::mqtt::{Packet, Publish, Version};

use crate::harness::*;

/// A centre, and an agent of its own that ships to it all the while.
struct Lab {
    agent: Agent,
    centre: Centre,
    posted: usize,
    pki: Pki,
    _dir: Dir,
}

impl Lab {
    fn new(test: &str) -> Self {
        let dir = Dir::new(test);
        let pki = Pki::new(&dir, "ca");
        let mut centre = Centre::new(&dir, &pki, SinkKind::File);
        centre.start();
        // However slow the machine is, it goes by QUIC.
        let sink = format!("{}  race_delay: 2m\n", centre.sink(&pki.device("good")));
        let mut agent = Agent::with(&dir, "good", &sink, "");
        agent.start();
        let mut lab = Self { agent, centre, posted: 0, pki, _dir: dir };
        lab.still_well();
        lab
    }

    /// The agent's next event arrives, on the connection that it has had all the time.
    fn still_well(&mut self) {
        self.posted += 1;
        self.agent.post("t", &self.posted.to_string());
        until("the good agent's event", || (payloads(&self.centre.out).len() >= self.posted).then_some(()));
        assert_eq!(self.agent.metric("dts_ship_connections_total", ""), 1);
    }

    /// Nothing but the good agent's events is at the sink.
    fn nothing_else_arrived(&mut self) {
        self.still_well();
        let want: Vec<_> = (1..=self.posted).map(|n| ("t".to_owned(), serde_json::json!(n))).collect();
        assert_eq!(payloads(&self.centre.out), want);
    }
}

/// What a client may not send after a good CONNECT, and the reason that it gets.
const BROKEN: [(&str, &[u8], u8); 8] = [
    ("a packet of type 0", &[0x00, 0], 0x81),
    ("QoS 3", &[0x36, 7, 0, 1, b'a', 0, 1, 0, b'x'], 0x81),
    ("a length that never ends", &[0x30, 0xff, 0xff, 0xff, 0xff], 0x81),
    ("a topic that is not UTF-8", &[0x30, 4, 0, 1, 0xff, 0], 0x81),
    ("a topic longer than its packet", &[0x30, 3, 0, 9, b'a'], 0x81),
    ("a wildcard in a topic", &[0x30, 4, 0, 1, b'#', 0], 0x81),
    ("packet id 0", &[0x32, 6, 0, 1, b'a', 0, 0, 0], 0x81),
    ("a packet of 256 MiB", &[0x30, 0xff, 0xff, 0xff, 0x7f], 0x95),
];

#[test]
fn broken_mqtt_closes_that_connection_and_no_other() {
    let mut lab = Lab::new("broken");
    let own = lab.pki.device("box-7");
    for (what, bytes, reason) in BROKEN {
        let plain = (Mqtt::plain(lab.centre.plain), connect_as("box-7", Version::V5));
        let anonymous = dts::mqtt::Connect::new(Version::V5, "box-7");
        let tls = (Mqtt::tls(lab.centre.tls, &lab.centre.ca, Some(&own)), anonymous);
        for (mut client, connect) in [plain, tls] {
            assert_eq!(client.connect(connect).reason, 0, "{what}");
            client.send_bytes(bytes);
            assert_eq!(client.closed(), Some(reason), "{what}");
        }
    }
    // A client of 3.1.1 cannot be told why.
    let mut client = Mqtt::plain(lab.centre.plain);
    assert_eq!(client.connect(connect_as("box-7", Version::V311)).reason, 0);
    client.send_bytes(&[0x00, 0]);
    assert_eq!(client.closed(), None);
    for (reason, count) in [("malformed packet", 15), ("packet too large", 2)] {
        let label = format!("reason=\"{reason}\"");
        assert_eq!(lab.centre.metric("dts_disconnects_total", &label), count, "{reason}");
    }
    lab.nothing_else_arrived();

    // A goodbye is no mistake.
    let before = lab.centre.node.process.whole_log().matches("box-8").count();
    for version in [Version::V5, Version::V311] {
        let mut client = Mqtt::plain(lab.centre.plain);
        assert_eq!(client.connect(connect_as("box-8", version)).reason, 0);
        client.send(&Packet::Disconnect(Default::default()));
        assert_eq!(client.closed(), None);
    }
    lab.still_well();
    let after = lab.centre.node.process.whole_log().matches("box-8").count();
    assert_eq!(after, before, "nothing is said about a clean DISCONNECT");
}

#[test]
fn garbage_before_any_handshake_is_dropped() {
    let mut lab = Lab::new("garbage");
    // No MQTT on the plain port, no TLS on the TLS port.
    let cases: [(&str, &[u8]); 4] = [
        ("HTTP", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
        ("zeros", &[0; 64]),
        ("TLS to nobody", &[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]),
        ("another protocol", &[0x10, 12, 0, 4, b'M', b'Q', b'T', b'X', 4, 2, 0, 60, 0, 0]),
    ];
    for (what, bytes) in cases {
        for port in [lab.centre.plain, lab.centre.tls] {
            let mut client = Mqtt::plain(port);
            client.send_bytes(bytes);
            if what != "TLS to nobody" {
                client.ends();
            }
        }
    }
    lab.centre.counts("dts_handshakes_failed_total", "", 2);

    // QUIC: random bytes, the begin of an Initial packet, packets of other versions, all sizes.
    let mut rng = fastrand::Rng::with_seed(3);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    for n in 0..2000 {
        let mut datagram = vec![0; rng.usize(0..1400)];
        rng.fill(&mut datagram);
        match (n % 4, datagram.as_mut_slice()) {
            (0, [first, v @ .., _]) if v.len() > 4 => {
                *first |= 0xc0;
                v[..4].copy_from_slice(&[0, 0, 0, 1]);
            }
            (1, [first, ..]) => *first = 0x40 | *first & 0x3f,
            (2, [first, ..]) => *first |= 0x80,
            _ => {}
        }
        socket.send_to(&datagram, ("127.0.0.1", lab.centre.quic)).unwrap();
    }
    lab.nothing_else_arrived();
    assert!(lab.agent.node.process.log().contains("over quic"));
    // And a new connection over QUIC comes through.
    lab.agent.node.stop();
    lab.agent.start();
    lab.still_well();
    assert!(lab.agent.node.process.log().contains("over quic"));
}

/// A frame of `box-7` with one message.
fn frame(change: impl FnOnce(&mut HeaderV1, &mut Vec<u8>)) -> Vec<u8> {
    let mut rows = BatchBuilder::new("app".into());
    let values = message_values("t", None, Payload::Json("\"bad\""), None);
    rows.push(Op::Message, 1 << 20, message(), None, image(&values)).unwrap();
    let batch = rows.finish();
    let mut body = batch.body.to_vec();
    let mut header = HeaderV1 {
        lane: "data".into(),
        epoch: 3 << 32 | 7,
        base: 1,
        first_seq: 1,
        last_seq: 1,
        rows: batch.rows,
        body_crc: 0,
        body_len: 0,
        source: "app".into(),
        clock: 2,
        boot_offset_us: None,
        tables: vec![message().encode()],
    };
    (header.body_len, header.body_crc) = (body.len() as u32, crc32c::crc32c(&body));
    change(&mut header, &mut body);
    frame::encode(&Header::V1(header), &body, Codec::Lz4).unwrap()
}

fn as_agent() -> dts::mqtt::Connect {
    let mut connect = connect_as("box-7", Version::V5);
    connect.client_id = "box-7:00000000000000aa".to_owned();
    connect.user = vec![("dts".into(), "1".into())];
    connect
}

#[test]
fn a_bad_frame_closes_its_connection_and_nothing_of_it_is_passed_on() {
    let mut lab = Lab::new("frame");
    let bent = |at: usize| {
        let mut bytes = frame(|_, _| {});
        let at = at.min(bytes.len() - 1);
        bytes[at] ^= 0x10;
        bytes
    };
    let bomb = |claimed: u32| {
        frame(move |header, body| {
            *body = vec![0; 64 << 20];
            header.body_len = if claimed == 0 { body.len() as u32 } else { claimed };
            header.body_crc = crc32c::crc32c(body);
        })
    };
    let cases = [
        ("a bad checksum", bent(usize::MAX), 0x99),
        ("a bent header", bent(20), 0x99),
        ("an unknown version", bent(2), 0x99),
        ("a bomb of 64 MiB", bomb(0), 0x95),
        ("a bomb that says it is small", bomb(100), 0x99),
        ("more rows than it holds", frame(|h, _| h.rows = 1000), 0x99),
        ("a body of another checksum", frame(|h, _| h.body_crc ^= 1), 0x99),
        ("garbage", vec![0xee; 500], 0x99),
        ("nothing", Vec::new(), 0x99),
    ];
    let count = cases.len() as u64;
    for (what, payload, reason) in cases {
        let mut client = Mqtt::plain(lab.centre.plain);
        assert_eq!(client.connect(as_agent()).reason, 0, "{what}");
        client.send(&Packet::Publish(Box::new(Publish::new("dts/v1/box-7/c", 1, payload))));
        assert_eq!(client.closed(), Some(reason), "{what}");
    }
    assert_eq!(lab.centre.metric("dts_frames_bad_total", ""), count);
    assert!(lab.centre.node.process.log().contains("nothing of the frame is passed on"));
    lab.nothing_else_arrived();
    // What made it bad was not the way it was sent.
    let mut client = Mqtt::plain(lab.centre.plain);
    assert_eq!(client.connect(as_agent()).reason, 0);
    let good = frame(|_, _| {});
    client.send(&Packet::Publish(Box::new(Publish::new("dts/v1/box-7/c", 1, good))));
    match client.receive() {
        Some(Packet::PubAck(ack)) => assert_eq!((ack.packet_id, ack.reason), (1, 0)),
        other => panic!("PUBACK is expected, {other:?} came"),
    }
    assert!(payloads(&lab.centre.out).contains(&("t".to_owned(), serde_json::json!("bad"))));
}

#[test]
fn a_device_that_publishes_as_another_is_refused_and_that_is_said_once() {
    let mut lab = Lab::new("another");
    for (connect, topic) in [
        (connect_as("box-7", Version::V5), "dts/v1/good/c"),
        (connect_as("box-7", Version::V5), "dts/v1/good/s"),
        (connect_as("box-7", Version::V5), "dts/v1/box-77/c"),
        (as_agent(), "dts/v1/good/c"),
    ] {
        let mut client = Mqtt::plain(lab.centre.plain);
        assert_eq!(client.connect(connect).reason, 0);
        client.send(&Packet::Publish(Box::new(Publish::new(topic, 7, frame(|_, _| {})))));
        match client.receive() {
            Some(Packet::PubAck(ack)) => assert_eq!((ack.packet_id, ack.reason), (7, 0x87), "{topic}"),
            other => panic!("PUBACK is expected, {other:?} came"),
        }
        // QoS 0 has no answer but the end.
        client.send(&Packet::Publish(Box::new(Publish::new(topic, 0, "1"))));
        assert_eq!(client.closed(), Some(0x87), "{topic}");
    }
    // Nor under the name of another.
    let mut connect = connect_as("box-7", Version::V5);
    connect.username = Some("box-8".into());
    assert_eq!(Mqtt::plain(lab.centre.plain).connect(connect).reason, 0x86);
    let mut connect = connect_as("box-7", Version::V5);
    connect.client_id = "good".into();
    assert_eq!(Mqtt::plain(lab.centre.plain).connect(connect).reason, 0x85);

    assert!(lab.centre.metric("dts_publishes_refused_total", "not authorized") >= 8);
    let said = lab.centre.node.process.log().matches("publishes on a topic that is not its own").count();
    assert_eq!(said, 1);
    lab.nothing_else_arrived();
}

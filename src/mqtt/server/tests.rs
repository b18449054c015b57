use super::*;
use crate::mqtt::{Filter, codec::MAX_FILTERS, encode};

const V5: Version = Version::V5;
const V311: Version = Version::V311;
const BOTH: [Version; 2] = [V311, V5];

fn at(seconds: u64) -> Mono {
    Mono(seconds * 1_000_000)
}

fn limits() -> ServerLimits {
    ServerLimits {
        max_packet_bytes: 4096,
        max_connect_bytes: 1024,
        receive_maximum: 3,
        topic_alias_maximum: 2,
        max_topic_bytes: 100,
        maximum_qos: QoS::ExactlyOnce,
        retain_available: true,
        wildcard_subscriptions: true,
        subscription_identifiers: true,
        window: 2,
        max_pending_bytes: 1000,
        connect_timeout: Duration::from_secs(10),
        max_keep_alive_s: 0,
    }
}

fn wire(version: Version, packet: Packet) -> BytesMut {
    let mut out = BytesMut::new();
    encode(&packet, version, &mut out).unwrap();
    out
}

fn connect(version: Version) -> Connect {
    Connect { keep_alive_s: 60, ..Connect::new(version, "d") }
}

fn publish(packet_id: u16, qos: QoS) -> Publish {
    Publish { qos, packet_id, ..Publish::new("a", 0, "x") }
}

fn ack(packet_id: u16) -> Ack {
    Ack::new(packet_id, 0)
}

fn filter(filter: &str) -> Filter {
    Filter {
        filter: filter.to_owned(),
        qos: QoS::AtLeastOnce,
        no_local: false,
        retain_as_published: false,
        retain_handling: 0,
    }
}

fn subscribe(filters: &[&str]) -> Packet {
    Packet::Subscribe(Box::new(Subscribe {
        packet_id: 9,
        filters: filters.iter().map(|f| filter(f)).collect(),
        subscription_id: None,
        user: Vec::new(),
    }))
}

/// A server with a client's mouth.
struct Bench {
    server: Server,
    version: Version,
    now: Mono,
}

impl Bench {
    fn new(version: Version, limits: ServerLimits) -> Self {
        Self { server: Server::new(limits, at(0)), version, now: at(0) }
    }

    /// Let in with these limits and this CONNECT; nothing is left to poll.
    fn open(limits: ServerLimits, connect: Connect) -> Self {
        let mut b = Self::new(connect.version, limits);
        b.send(Packet::Connect(Box::new(connect)));
        assert!(matches!(b.events()[..], [ServerEvent::Connect(_)]));
        b.server.accept(ConnAck::default());
        assert!(matches!(b.written()[..], [Packet::ConnAck(_)]));
        b.server.handle_timeout(b.now).unwrap();
        b
    }

    fn send(&mut self, packet: Packet) {
        let bytes = wire(self.version, packet);
        self.raw(&bytes);
    }

    fn raw(&mut self, bytes: &[u8]) {
        self.server.receive(self.now, bytes).unwrap_or_default(); // an error is an event as well
    }

    fn events(&mut self) -> Vec<ServerEvent> {
        std::iter::from_fn(|| self.server.poll_event()).collect()
    }

    fn bytes(&mut self) -> BytesMut {
        let mut all = BytesMut::new();
        while let Some(bytes) = self.server.poll_transmit() {
            all.extend_from_slice(&bytes);
        }
        all
    }

    fn written(&mut self) -> Vec<Packet> {
        let mut bytes = self.bytes();
        let packets = std::iter::from_fn(|| {
            crate::mqtt::decode(&mut bytes, Some(self.version), MAX_PACKET_BYTES).unwrap()
        });
        packets.collect()
    }

    fn published(&mut self) -> Vec<u16> {
        let ids = self.events().into_iter().map(|e| match e {
            ServerEvent::Publish(p) => p.packet_id,
            other => panic!("{other:?}"),
        });
        ids.collect()
    }

    /// Advances to where the server wants to be called.
    fn sleep(&mut self) -> Result<(), ProtocolError> {
        self.now = self.server.poll_timeout().unwrap().max(self.now);
        self.server.handle_timeout(self.now)
    }

    /// What the connection ended with: the error's reason and what was written.
    #[track_caller]
    fn ended(&mut self) -> (Option<u8>, Vec<Packet>, Option<Box<Will>>) {
        let Some(ServerEvent::Closed { error, will, .. }) = self.events().pop() else { panic!("not closed") };
        assert!(self.server.is_closed() && !self.server.ready() && self.server.poll_timeout().is_none());
        (error.map(|e| e.reason), self.written(), will)
    }
}

fn disconnect(reason: u8) -> Packet {
    Packet::Disconnect(Disconnect { reason, ..Disconnect::default() })
}

#[test]
fn violations_end_the_connection_with_the_specified_reason() {
    let big = Publish::new("a", 0, vec![0; 4096]);
    let mut aliased = publish(0, QoS::AtMostOnce);
    aliased.topic_alias = Some(3);
    let mut unset = publish(0, QoS::AtMostOnce);
    unset.topic_alias = Some(2);
    unset.topic.clear();
    let mut identified = publish(0, QoS::AtMostOnce);
    identified.subscription_ids = vec![1];
    let retained = Publish { retain: true, ..publish(0, QoS::AtMostOnce) };
    let p = |p: Publish| Packet::Publish(Box::new(p));
    let mut numbered =
        Subscribe { packet_id: 1, filters: vec![filter("a")], subscription_id: Some(1), user: vec![] };
    let with_id = Packet::Subscribe(Box::new(numbered.clone()));
    numbered.packet_id = 2;
    let bye = |d: Disconnect| Packet::Disconnect(d);
    let strict = ServerLimits {
        maximum_qos: QoS::AtLeastOnce,
        retain_available: false,
        wildcard_subscriptions: false,
        subscription_identifiers: false,
        ..limits()
    };
    let qos1 = |id| p(publish(id, QoS::AtLeastOnce));
    let loose = limits();
    let table: Vec<(&str, Version, &ServerLimits, Vec<Packet>, u8)> = vec![
        ("MQTT-3.1.0-2 second CONNECT", V5, &loose, vec![Packet::Connect(Box::new(connect(V5)))], 0x82),
        (
            "3.1.1 MQTT-3.1.0-2 second CONNECT",
            V311,
            &loose,
            vec![Packet::Connect(Box::new(connect(V311)))],
            0x82,
        ),
        ("MQTT-3.2.2-11 QoS over the maximum", V5, &strict, vec![p(publish(1, QoS::ExactlyOnce))], 0x9B),
        ("MQTT-3.2.2-14 retain not available", V5, &strict, vec![p(retained)], 0x9A),
        ("MQTT-3.2.2-15 packet too large", V5, &loose, vec![p(big.clone())], 0x95),
        ("packet too large in 3.1.1", V311, &loose, vec![p(big)], 0x95),
        ("MQTT-3.2.2-17 alias over the maximum", V5, &loose, vec![p(aliased)], 0x94),
        ("MQTT-3.3.2-7 alias never set", V5, &loose, vec![p(unset)], 0x82),
        ("MQTT-3.3.4-6 subscription identifier from a client", V5, &loose, vec![p(identified)], 0x82),
        (
            "MQTT-3.3.4-7 receive maximum",
            V5,
            &loose,
            vec![qos1(1), p(publish(2, QoS::ExactlyOnce)), qos1(3), qos1(4)],
            0x93,
        ),
        ("MQTT-2.2.1-3 identifier in use", V5, &loose, vec![qos1(1), qos1(1)], 0x82),
        (
            "identifier in use by another QoS",
            V311,
            &loose,
            vec![qos1(1), p(publish(1, QoS::ExactlyOnce))],
            0x82,
        ),
        ("topic over the length limit", V5, &loose, vec![p(Publish::new("x".repeat(101), 0, ""))], 0x90),
        ("wildcard subscription", V5, &strict, vec![subscribe(&["a", "b/#"])], 0xA2),
        ("subscription identifier that is not available", V5, &strict, vec![with_id], 0xA1),
        ("shared subscription", V5, &loose, vec![subscribe(&["$share/g/a"])], 0x9E),
        (
            "PUBREL before PUBREC",
            V5,
            &loose,
            vec![p(publish(1, QoS::ExactlyOnce)), Packet::PubRel(ack(1))],
            0x82,
        ),
        ("PUBACK of nothing", V5, &loose, vec![Packet::PubAck(ack(7))], 0x82),
        ("CONNACK from a client", V5, &loose, vec![Packet::ConnAck(Box::default())], 0x82),
        ("PINGRESP from a client", V5, &loose, vec![Packet::PingResp], 0x82),
        ("MQTT-4.12.0-7 AUTH without a method", V5, &loose, vec![Packet::Auth(0x18)], 0x82),
        ("DISCONNECT with a server's reason", V5, &loose, vec![disconnect(0x8E)], 0x82),
        (
            "session expiry at DISCONNECT only",
            V5,
            &loose,
            vec![bye(Disconnect { session_expiry_s: Some(5), ..Disconnect::default() })],
            0x82,
        ),
        (
            "server reference from a client",
            V5,
            &loose,
            vec![bye(Disconnect { server_reference: Some("s".to_owned()), ..Disconnect::default() })],
            0x82,
        ),
    ];
    for (what, version, limits, packets, want) in table {
        let mut b = Bench::open(
            limits.clone(),
            Connect { will: Some(Will::new("w", "", QoS::AtMostOnce)), ..connect(version) },
        );
        for packet in packets {
            assert!(!b.server.is_closed(), "{what}: too early");
            b.send(packet);
        }
        let (reason, written, will) = b.ended();
        assert_eq!(reason, Some(want), "{what}");
        // [MQTT-4.13.1-1]; 3.1.1 servers have no DISCONNECT
        let told = if version == V5 { vec![disconnect(want)] } else { vec![] };
        assert_eq!(written, told, "{what}");
        assert!(will.is_some(), "{what}: [MQTT-3.1.2-8] the will");
        // Nothing more comes of it.
        b.send(Packet::PingReq);
        assert!(b.events().is_empty() && b.written().is_empty(), "{what}");
    }
}

#[test]
fn refusals_of_connect_are_answered_in_the_clients_version() {
    let hex = |s: &str| -> Vec<u8> {
        let digits: Vec<u8> = s.bytes().filter(u8::is_ascii_hexdigit).collect();
        digits.chunks(2).map(|p| u8::from_str_radix(std::str::from_utf8(p).unwrap(), 16).unwrap()).collect()
    };
    let table = [
        ("MQTT-3.1.0-1 not CONNECT", "C0 00", 0x82, ""),
        ("MQTT-3.1.2-2 level 3", "10 10 0006 4D5149736470 03 02 003C 0002 6431", 0x84, "20 02 00 01"),
        ("MQTT-3.1.2-2 level 6", "10 0D 0004 4D515454 06 02 003C 00 0000", 0x84, "20 03 00 84 00"),
        ("MQTT-3.1.2-1 another protocol", "10 0D 0004 4D515458 04 02 003C 00 0000", 0x84, "20 02 00 01"),
        ("MQTT-3.1.4-1 malformed 5.0", "10 0D 0004 4D515454 05 03 003C 00 0000", 0x81, "20 03 00 81 00"),
        ("MQTT-3.1.4-1 malformed 3.1.1", "10 0C 0004 4D515454 04 03 003C 0000", 0x81, ""),
        ("CONNECT over its limit", "10 D00F 0004 4D515454 05 03 003C 00 0000", 0x95, "20 03 00 95 00"),
    ];
    for (what, request, reason, answer) in table {
        let mut b = Bench::new(V5, limits());
        b.raw(&hex(request));
        assert_eq!(b.bytes(), hex(answer)[..], "{what}");
        assert_eq!(b.ended().0, Some(reason), "{what}");
    }
}

#[test]
fn connects_that_cannot_be_kept_are_refused() {
    let strict = ServerLimits { maximum_qos: QoS::AtMostOnce, retain_available: false, ..limits() };
    let base = connect(V5);
    let will = Will::new("w", "", QoS::AtMostOnce);
    let table = [
        (
            "MQTT-3.2.2-12 will QoS",
            Connect { will: Some(Will { qos: QoS::AtLeastOnce, ..will.clone() }), ..base.clone() },
            0x9B,
        ),
        (
            "MQTT-3.2.2-13 will retain",
            Connect { will: Some(Will { retain: true, ..will.clone() }), ..base.clone() },
            0x9A,
        ),
        (
            "will topic too long",
            Connect { will: Some(Will { topic: "x".repeat(101), ..will }), ..base.clone() },
            0x90,
        ),
        ("MQTT-4.12.0-1", Connect { authentication_method: Some("SCRAM".to_owned()), ..base }, 0x8C),
        (
            "3.1.1 MQTT-3.1.3-8 no client id and no clean session",
            Connect { clean_start: false, ..Connect::new(V311, "") },
            0x85,
        ),
    ];
    for (what, connect, reason) in table {
        let mut b = Bench::new(connect.version, strict.clone());
        b.send(Packet::Connect(Box::new(connect)));
        let refusal = ConnAck { reason, ..ConnAck::default() };
        assert_eq!(b.written(), [Packet::ConnAck(Box::new(refusal))], "{what}");
        let closed = ServerEvent::Closed { clean: false, error: None, disconnect: None, will: None };
        assert_eq!(b.events(), [closed], "{what}");
    }
}

#[test]
fn mqtt_3_2_2_7_refuse_says_why_and_closes() {
    // caller's reason, what 5.0 is told, what 3.1.1 is told
    let table = [
        (0x87, 0x87, Some(0x87)),
        (0x89, 0x89, Some(0x88)),
        (0x8B, 0x88, Some(0x88)),
        (0x95, 0x95, None),
        (0x8E, 0x80, None),
        (0x00, 0x80, None),
    ];
    for (reason, v5, v311) in table {
        for (version, told) in [(V5, Some(v5)), (V311, v311)] {
            let mut b = Bench::new(version, limits());
            let will = Some(Will::new("w", "", QoS::AtMostOnce));
            b.send(Packet::Connect(Box::new(Connect { will, ..connect(version) })));
            b.events();
            b.server.refuse(ConnAck { reason, session_present: true, ..ConnAck::default() });
            let told: Vec<_> = told
                .map(|reason| Packet::ConnAck(Box::new(ConnAck { reason, ..ConnAck::default() })))
                .into_iter()
                .collect();
            assert_eq!(b.written(), told);
            assert_eq!(b.ended().2, None, "a refused client has no will");
        }
    }
}

#[test]
fn mqtt_3_1_4_6_nothing_is_processed_before_accept() {
    for version in BOTH {
        let mut b = Bench::new(version, limits());
        let mut early = wire(version, Packet::Connect(Box::new(connect(version))));
        early.extend_from_slice(&wire(version, Packet::Publish(Box::new(publish(1, QoS::AtLeastOnce)))));
        early.extend_from_slice(&wire(version, Packet::PingReq));
        b.raw(&early);
        assert!(matches!(b.events()[..], [ServerEvent::Connect(_)]));
        assert!(!b.server.ready() && b.written().is_empty());
        b.server.accept(ConnAck::default());
        assert!(b.server.ready());
        assert_eq!(b.published(), [1]);
        assert!(matches!(b.written()[..], [Packet::ConnAck(_), Packet::PingResp]));

        let mut b = Bench::new(version, limits());
        b.raw(&early);
        b.events();
        b.server.refuse(ConnAck { reason: 0x87, ..ConnAck::default() });
        assert!(matches!(b.events()[..], [ServerEvent::Closed { .. }]));
    }
}

#[test]
fn connack_says_the_limits() {
    let strict = ServerLimits {
        maximum_qos: QoS::AtLeastOnce,
        retain_available: false,
        wildcard_subscriptions: false,
        subscription_identifiers: false,
        max_keep_alive_s: 45,
        ..limits()
    };
    for (keep_alive_s, told) in [(0, Some(45)), (46, Some(45)), (45, None), (10, None)] {
        let mut b = Bench::new(V5, strict.clone());
        let asks = Connect { keep_alive_s, session_expiry_s: 9, client_id: String::new(), ..connect(V5) };
        b.send(Packet::Connect(Box::new(asks)));
        b.events();
        b.server.accept(ConnAck {
            session_present: true,
            assigned_client_id: Some("x".to_owned()),
            user: vec![("dts".to_owned(), "1".to_owned())],
            ..ConnAck::default()
        });
        let want = ConnAck {
            session_present: false, // [MQTT-3.2.2-2]: Clean Start
            reason: 0,
            session_expiry_s: Some(0),
            receive_maximum: Some(3),
            maximum_qos: Some(1),
            retain_available: Some(false),
            maximum_packet_size: Some(4096),
            assigned_client_id: Some("x".to_owned()),
            topic_alias_maximum: 2,
            reason_string: None,
            wildcard_subscription_available: Some(false),
            subscription_identifiers_available: Some(false),
            shared_subscription_available: Some(false),
            server_keep_alive_s: told,
            server_reference: None,
            user: vec![("dts".to_owned(), "1".to_owned())],
        };
        assert_eq!(b.written(), [Packet::ConnAck(Box::new(want))]);
        b.server.accept(ConnAck::default()); // [MQTT-3.2.0-2] one CONNACK only
        b.server.refuse(ConnAck::default());
        assert_eq!(b.written(), []);
    }
}

#[test]
fn mqtt_3_2_2_16_no_client_id_needs_an_assigned_one() {
    let mut b = Bench::new(V5, limits());
    b.send(Packet::Connect(Box::new(Connect::new(V5, ""))));
    b.events();
    b.server.accept(ConnAck::default());
    let refusal = ConnAck { reason: 0x85, ..ConnAck::default() };
    assert_eq!(b.written(), [Packet::ConnAck(Box::new(refusal))]);
    assert!(b.server.is_closed());
}

#[test]
fn mqtt_3_1_2_22_keep_alive_times_one_and_a_half() {
    for version in BOTH {
        let will = Some(Will::new("w", "gone", QoS::AtLeastOnce));
        let mut b = Bench::open(limits(), Connect { will: will.clone(), ..connect(version) });
        assert_eq!(b.server.poll_timeout(), Some(at(90)));
        b.now = at(89);
        assert!(b.server.handle_timeout(b.now).is_ok());
        b.send(Packet::PingReq);
        assert_eq!(b.written(), [Packet::PingResp]); // [MQTT-3.12.4-1]
        assert_eq!(b.server.poll_timeout(), Some(at(179)));
        assert_eq!(b.sleep().unwrap_err().reason, 0x8D);
        let told = if version == V5 { vec![disconnect(0x8D)] } else { vec![] };
        assert_eq!(b.ended(), (Some(0x8D), told, will.map(Box::new)));
    }
}

#[test]
fn no_keep_alive_is_no_timeout() {
    let b = Bench::open(limits(), Connect::new(V5, "d"));
    assert_eq!(b.server.poll_timeout(), None);
}

#[test]
fn mqtt_3_2_2_22_server_keep_alive_counts() {
    let b = Bench::open(ServerLimits { max_keep_alive_s: 20, ..limits() }, connect(V5));
    assert_eq!(b.server.poll_timeout(), Some(at(30)));
    // A 3.1.1 client cannot be told.
    let b = Bench::open(ServerLimits { max_keep_alive_s: 20, ..limits() }, connect(V311));
    assert_eq!(b.server.poll_timeout(), Some(at(90)));
}

#[test]
fn a_slow_packet_gets_time_by_its_size_and_no_more() {
    let mut b = Bench::open(limits(), connect(V5));
    let packet = wire(V5, Packet::Publish(Box::new(Publish::new("a", 0, vec![7; 3072]))));
    b.now = at(80);
    for byte in &packet[..10] {
        b.raw(&[*byte]);
        b.now = b.now + Duration::from_secs(5); // dripping does not extend it
    }
    assert_eq!(b.server.poll_timeout(), Some(at(80 + 90 + 3)));
    b.now = at(172);
    b.raw(&packet[10..]);
    assert_eq!(b.published(), [0]);
    assert_eq!(b.server.poll_timeout(), Some(at(172 + 90)));
}

#[test]
fn connect_has_its_time() {
    let mut b = Bench::new(V5, limits());
    let bytes = wire(V5, Packet::Connect(Box::new(connect(V5))));
    for byte in &bytes[..bytes.len() - 1] {
        b.raw(&[*byte]);
        b.now = b.now + Duration::from_millis(100);
    }
    assert_eq!(b.server.poll_timeout(), Some(at(10)));
    assert_eq!(b.sleep().unwrap_err().reason, 0x8D);
    assert_eq!(b.ended(), (Some(0x8D), vec![], None));
}

#[test]
fn mqtt_4_6_0_2_answers_come_in_the_order_of_the_publishes() {
    for version in BOTH {
        let mut b = Bench::open(limits(), connect(version));
        for (id, qos) in [(7, QoS::AtLeastOnce), (5, QoS::ExactlyOnce), (6, QoS::AtLeastOnce)] {
            b.send(Packet::Publish(Box::new(publish(id, qos))));
        }
        assert_eq!(b.published(), [7, 5, 6]);
        assert_eq!(b.server.inflight(), 3);
        b.server.ack(6, 0, Vec::new());
        b.server.ack(5, 0, Vec::new());
        b.server.ack(99, 0, Vec::new());
        assert_eq!(b.written(), []);
        b.server.ack(7, 0, Vec::new());
        assert_eq!(b.written(), [Packet::PubAck(ack(7)), Packet::PubRec(ack(5)), Packet::PubAck(ack(6))]);
        assert_eq!(b.server.inflight(), 1);
        b.send(Packet::PubRel(ack(5)));
        assert_eq!(b.written(), [Packet::PubComp(ack(5))]);
        assert_eq!(b.server.inflight(), 0);
    }
}

#[test]
fn mqtt_4_9_0_2_quota_is_free_again_after_the_answer() {
    let mut b = Bench::open(limits(), connect(V5));
    for id in 1..=50 {
        b.send(Packet::Publish(Box::new(publish(id, QoS::AtLeastOnce))));
        assert_eq!(b.published(), [id]);
        if id >= 3 {
            b.server.ack(id - 2, 0, Vec::new());
        }
    }
    // [MQTT-4.3.2-5] After PUBACK the same id is a new message.
    let mut b = Bench::open(limits(), connect(V5));
    for _ in 0..5 {
        b.send(Packet::Publish(Box::new(Publish { dup: true, ..publish(7, QoS::AtLeastOnce) })));
        assert_eq!(b.published(), [7]);
        b.server.ack(7, 0, Vec::new());
    }
    // [MQTT-4.3.3-9] A failing PUBREC frees its place and its id as well.
    let mut b = Bench::open(limits(), connect(V5));
    for _ in 0..50 {
        b.send(Packet::Publish(Box::new(publish(7, QoS::ExactlyOnce))));
        assert_eq!(b.published(), [7]);
        b.server.ack(7, 0x97, Vec::new());
        assert_eq!(b.written(), [Packet::PubRec(Ack::new(7, 0x97))]);
    }
}

#[test]
fn mqtt_4_9_0_1_what_is_not_released_counts() {
    let mut b = Bench::open(limits(), connect(V5));
    for id in 1..=4 {
        b.send(Packet::Publish(Box::new(publish(id, QoS::ExactlyOnce))));
        b.server.ack(id, 0, Vec::new());
        assert_eq!(b.server.is_closed(), id == 4, "PUBREC does not free a place");
    }
    assert_eq!(b.ended().0, Some(0x93));
}

#[test]
fn a_3_1_1_client_is_held_back_by_not_reading() {
    let mut b = Bench::open(limits(), connect(V311));
    let mut many = BytesMut::new();
    for id in 1..=10 {
        many.extend_from_slice(&wire(V311, Packet::Publish(Box::new(publish(id, QoS::AtLeastOnce)))));
    }
    b.raw(&many);
    assert_eq!(b.published(), [1, 2, 3]);
    assert!(!b.server.ready());
    assert_eq!(b.server.poll_timeout(), None, "its silence is not its fault");
    b.now = at(1000);
    b.server.ack(1, 0, Vec::new());
    assert!(b.server.ready());
    assert_eq!(b.server.poll_timeout(), Some(at(0)), "asks for the time at once");
    b.sleep().unwrap();
    assert_eq!(b.server.poll_timeout(), Some(at(1090)));
    assert_eq!(b.published(), [4]);
    for id in 2..=10 {
        b.server.ack(id, 0, Vec::new());
        b.events();
    }
    assert_eq!(b.written().len(), 10);
}

#[test]
fn a_negative_answer_is_an_answer_in_5_and_the_end_in_3_1_1() {
    let user = vec![("dts-need".to_owned(), "tables".to_owned())];
    let mut b = Bench::open(limits(), connect(V5));
    b.send(Packet::Publish(Box::new(publish(1, QoS::AtLeastOnce))));
    b.server.ack(1, 0x83, user.clone());
    let want = Ack { packet_id: 1, reason: 0x83, reason_string: None, user: user.clone() };
    assert_eq!(b.written(), [Packet::PubAck(want)]);

    let mut b = Bench::open(limits(), connect(V311)); // [3.1.1 MQTT-3.3.5-2]
    b.send(Packet::Publish(Box::new(publish(1, QoS::AtLeastOnce))));
    b.server.ack(1, 0x83, user);
    assert_eq!(b.written(), []);
    assert_eq!(b.ended().0, Some(0x83));
}

#[test]
fn mqtt_3_4_2_1_a_reason_that_puback_does_not_have_is_said_as_unspecified() {
    let mut b = Bench::open(limits(), connect(V5));
    for (reason, said) in [(0x8E, 0x80), (0x95, 0x80), (0x03, 0), (0x10, 0x10), (0x97, 0x97)] {
        b.send(Packet::Publish(Box::new(publish(1, QoS::AtLeastOnce))));
        b.server.ack(1, reason, Vec::new());
        assert_eq!(b.written(), [Packet::PubAck(Ack::new(1, said))]);
    }
}

#[test]
fn mqtt_3_1_2_29_problem_information_only_if_asked() {
    let user = vec![("k".to_owned(), "v".to_owned())];
    let asks = Connect { request_problem_information: false, ..connect(V5) };
    let mut b = Bench::open(limits(), asks);
    b.send(Packet::Publish(Box::new(publish(1, QoS::AtLeastOnce))));
    b.server.ack(1, 0x97, user.clone());
    b.server.suback(SubAck {
        packet_id: 2,
        reasons: vec![0],
        reason_string: Some("r".to_owned()),
        user: user.clone(),
    });
    b.server.disconnect(Disconnect { reason: 0x89, user: user.clone(), ..Disconnect::default() });
    let suback = SubAck { packet_id: 2, reasons: vec![0], reason_string: None, user: Vec::new() };
    let bye = Packet::Disconnect(Disconnect { reason: 0x89, user, ..Disconnect::default() });
    assert_eq!(b.written(), [Packet::PubAck(Ack::new(1, 0x97)), Packet::SubAck(suback), bye]);
}

#[test]
fn mqtt_3_4_2_2_explanations_are_dropped_where_they_do_not_fit() {
    let long = vec![("k".to_owned(), "v".repeat(100))];
    let mut b = Bench::new(V5, limits());
    b.send(Packet::Connect(Box::new(Connect { maximum_packet_size: Some(60), ..connect(V5) })));
    b.events();
    b.server.accept(ConnAck { user: long.clone(), ..ConnAck::default() });
    let Some(Packet::ConnAck(connack)) = b.written().pop() else { panic!() };
    assert!(connack.user.is_empty()); // [MQTT-3.2.2-20]
    b.send(Packet::Publish(Box::new(publish(1, QoS::AtLeastOnce))));
    b.server.ack(1, 0x97, long.clone());
    assert_eq!(b.written(), [Packet::PubAck(Ack::new(1, 0x97))]);
    b.server.disconnect(Disconnect { reason: 0x89, user: long, ..Disconnect::default() });
    assert_eq!(b.written(), [disconnect(0x89)]);
}

#[test]
fn mqtt_4_3_3_qos_2_is_delivered_once() {
    for version in BOTH {
        let mut b = Bench::open(limits(), connect(version));
        let message = || Packet::Publish(Box::new(publish(4, QoS::ExactlyOnce)));
        b.send(message());
        b.send(message()); // before the answer
        assert_eq!(b.published(), [4]);
        b.server.ack(4, 0, Vec::new());
        assert_eq!(b.written(), [Packet::PubRec(ack(4))]);
        assert_eq!(b.server.qos2_ids(), [4]);
        b.send(message()); // [MQTT-4.3.3-10] before PUBREL
        assert_eq!(b.published(), [0u16; 0]);
        assert_eq!(b.written(), [Packet::PubRec(ack(4))]);
        b.send(Packet::PubRel(ack(4)));
        assert_eq!(b.written(), [Packet::PubComp(ack(4))]); // [MQTT-4.3.3-11]
        b.send(Packet::PubRel(ack(4)));
        let again = if version == V5 { Ack::new(4, 0x92) } else { ack(4) };
        assert_eq!(b.written(), [Packet::PubComp(again)]);
        b.send(message()); // [MQTT-4.3.3-12] a new message
        assert_eq!(b.published(), [4]);
    }
}

#[test]
fn qos_2_ids_outlive_the_connection_where_the_caller_keeps_them() {
    let mut b = Bench::new(V311, limits());
    b.send(Packet::Connect(Box::new(Connect { clean_start: false, ..connect(V311) })));
    b.events();
    b.server.restore_qos2(&[4]);
    b.server.accept(ConnAck { session_present: true, ..ConnAck::default() });
    let connack = ConnAck { session_present: true, ..ConnAck::default() };
    assert_eq!(b.written(), [Packet::ConnAck(Box::new(connack))]);
    b.send(Packet::Publish(Box::new(Publish { dup: true, ..publish(4, QoS::ExactlyOnce) })));
    assert_eq!(b.published(), [0u16; 0]);
    assert_eq!(b.written(), [Packet::PubRec(ack(4))]);
}

#[test]
fn a_3_1_1_client_that_never_releases_is_bounded() {
    let mut b = Bench::open(limits(), connect(V311));
    for id in 1..=1025 {
        b.send(Packet::Publish(Box::new(publish(id, QoS::ExactlyOnce))));
        b.server.ack(id, 0, Vec::new());
        b.written();
        assert_eq!(b.server.is_closed(), id == 1025);
        if id < 1025 {
            b.events();
        }
    }
    assert_eq!(b.ended().0, Some(0x93));
}

#[test]
fn a_3_1_1_resend_before_the_answer_is_absorbed() {
    let mut b = Bench::open(limits(), connect(V311));
    b.send(Packet::Publish(Box::new(publish(1, QoS::AtLeastOnce))));
    b.send(Packet::Publish(Box::new(Publish { dup: true, ..publish(1, QoS::AtLeastOnce) })));
    assert_eq!(b.published(), [1]);
    b.server.ack(1, 0, Vec::new());
    assert_eq!(b.written(), [Packet::PubAck(ack(1))]);
}

#[test]
fn mqtt_3_3_2_aliases_are_resolved() {
    let mut b = Bench::open(limits(), connect(V5));
    let mut send = |topic: &str, alias| {
        let mut p = Publish::new(topic, 0, "x");
        p.topic_alias = Some(alias);
        b.send(Packet::Publish(Box::new(p)));
        match &b.events()[..] {
            [ServerEvent::Publish(p)] => (p.topic.clone(), p.topic_alias),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(send("one", 2), ("one".to_owned(), None));
    assert_eq!(send("two", 1), ("two".to_owned(), None));
    assert_eq!(send("", 2), ("one".to_owned(), None));
    assert_eq!(send("three", 2), ("three".to_owned(), None));
    assert_eq!(send("", 2), ("three".to_owned(), None));
    assert_eq!(send("", 1), ("two".to_owned(), None));
}

#[test]
fn subscriptions_are_the_callers() {
    for version in BOTH {
        let mut b = Bench::open(limits(), connect(version));
        b.send(subscribe(&["a/#", "b"]));
        let Some(ServerEvent::Subscribe(s)) = b.events().pop() else { panic!() };
        assert_eq!(s.filters.len(), 2);
        let suback = |reasons: &[u8]| SubAck {
            packet_id: 9,
            reasons: reasons.to_vec(),
            reason_string: None,
            user: vec![],
        };
        b.server.suback(suback(&[1, 0x87]));
        let told = if version == V5 { 0x87 } else { 0x80 };
        assert_eq!(b.written(), [Packet::SubAck(suback(&[1, told]))]);
        let filters = vec!["b".to_owned()];
        b.send(Packet::Unsubscribe(Box::new(Unsubscribe { packet_id: 9, filters, user: vec![] })));
        assert!(matches!(b.events()[..], [ServerEvent::Unsubscribe(_)]));
        b.server.unsuback(suback(&[0x11]));
        let reasons: &[u8] = if version == V5 { &[0x11] } else { &[] };
        assert_eq!(b.written(), [Packet::UnsubAck(suback(reasons))]);
    }
    // To 3.1.1 `$share/…` is a name like others.
    let mut b = Bench::open(limits(), connect(V311));
    b.send(subscribe(&["$share/g/a"]));
    assert!(matches!(b.events()[..], [ServerEvent::Subscribe(_)]));
}

#[test]
fn mqtt_3_3_4_9_publishes_to_the_client_keep_its_receive_maximum() {
    for (version, receive_maximum, want) in
        [(V5, Some(1), 1), (V5, Some(9), 2), (V5, None, 2), (V311, None, 2)]
    {
        let mut b = Bench::open(limits(), Connect { receive_maximum, ..connect(version) });
        assert_eq!(b.server.capacity(), want);
        for token in 0..want as u64 {
            b.server.publish(publish(0, QoS::AtLeastOnce), token).unwrap();
        }
        assert_eq!(b.server.publish(publish(0, QoS::ExactlyOnce), 7), Err(PublishError::Full));
        b.server.publish(publish(0, QoS::AtMostOnce), 8).unwrap();
        b.send(Packet::PingReq);
        let mut written = b.written();
        assert_eq!(written.pop(), Some(Packet::PingResp), "[MQTT-3.3.4-10] all else goes on");
        let ids = written.into_iter().map(|p| match p {
            Packet::Publish(p) => p.packet_id,
            other => panic!("{other:?}"),
        });
        let ids: Vec<u16> = ids.collect();
        assert_eq!(ids, if want == 1 { vec![1, 0] } else { vec![1, 2, 0] });
        b.send(Packet::PubAck(ack(1)));
        assert_eq!(b.events(), [ServerEvent::Delivered { token: 0, ack: ack(1) }]);
        assert_eq!(b.server.capacity(), 1);
    }
}

#[test]
fn qos_2_to_the_client() {
    for version in BOTH {
        let mut b = Bench::open(limits(), connect(version));
        b.server.publish(publish(0, QoS::ExactlyOnce), 5).unwrap();
        b.written();
        b.send(Packet::PubRec(ack(1)));
        assert_eq!(b.written(), [Packet::PubRel(ack(1))]);
        assert_eq!(b.server.capacity(), 1, "not free before PUBCOMP");
        b.send(Packet::PubRec(ack(1))); // again
        assert_eq!(b.written(), [Packet::PubRel(ack(1))]);
        b.send(Packet::PubComp(ack(1)));
        assert_eq!(b.events(), [ServerEvent::Delivered { token: 5, ack: ack(1) }]);
        assert_eq!(b.server.capacity(), 2);
        // One that was never sent.
        b.send(Packet::PubRec(ack(9)));
        let unknown = if version == V5 { Ack::new(9, 0x92) } else { ack(9) };
        assert_eq!(b.written(), [Packet::PubRel(unknown)]);
    }
    // A failing PUBREC is the end of it.
    let mut b = Bench::open(limits(), connect(V5));
    b.server.publish(publish(0, QoS::ExactlyOnce), 5).unwrap();
    b.send(Packet::PubRec(Ack::new(1, 0x97)));
    assert_eq!(b.events(), [ServerEvent::Delivered { token: 5, ack: Ack::new(1, 0x97) }]);
    assert_eq!(b.server.capacity(), 2);
}

#[test]
fn mqtt_3_1_2_24_packets_over_the_clients_limit_are_not_sent() {
    let mut b = Bench::open(limits(), Connect { maximum_packet_size: Some(60), ..connect(V5) });
    let big = Publish { qos: QoS::AtLeastOnce, ..Publish::new("a", 0, vec![0; 54]) };
    assert_eq!(b.server.publish(big.clone(), 1), Err(PublishError::TooLarge { bytes: 62, limit: 60 }));
    assert_eq!(b.server.capacity(), 2, "its packet id is free again");
    assert_eq!(b.bytes(), b""[..]);
    let fits = Publish { payload: big.payload.slice(2..), ..big };
    b.server.publish(fits, 1).unwrap();
    assert_eq!(b.bytes().len(), 60);
}

#[test]
fn what_cannot_be_published_is_an_error_and_leaves_nothing() {
    let mut b = Bench::open(limits(), connect(V5));
    for topic in ["", "a/#", "a\0"] {
        let p = Publish { qos: QoS::AtLeastOnce, ..Publish::new(topic, 0, "") };
        assert!(matches!(b.server.publish(p, 1), Err(PublishError::Invalid(_))), "{topic}");
    }
    let aliased = Publish { topic_alias: Some(1), ..publish(0, QoS::AtMostOnce) };
    assert!(matches!(b.server.publish(aliased, 1), Err(PublishError::Invalid(_))));
    let long = Publish { content_type: Some("x".repeat(65_536)), ..publish(0, QoS::AtLeastOnce) };
    assert!(matches!(b.server.publish(long, 1), Err(PublishError::Invalid(_))));
    assert_eq!((b.written(), b.server.capacity()), (vec![], 2));
    let mut b = Bench::new(V5, limits());
    assert_eq!(b.server.publish(publish(0, QoS::AtMostOnce), 1), Err(PublishError::NotConnected));
}

#[test]
fn pending_bytes_are_bounded_both_ways() {
    let mut b = Bench::open(limits(), connect(V5));
    let message = || Publish::new("a", 0, vec![7; 300]);
    for _ in 0..3 {
        b.server.publish(message(), 0).unwrap();
    }
    assert_eq!(b.server.publish(message(), 0), Err(PublishError::Full));
    // A client that pings and never reads: no more than the limit and one answer, and then it is not read.
    let pings: Vec<u8> = [0xC0, 0].repeat(4096);
    b.raw(&pings);
    assert!(!b.server.ready());
    assert_eq!(b.server.pending_bytes(), 1000 + 1, "3 × 307, then 40 × 2");
    // It goes on as it reads.
    let mut written = 0;
    while b.server.pending_bytes() > 0 {
        written += b.bytes().len();
        b.events();
    }
    assert_eq!(written, 3 * 307 + 4096 * 2);
    assert!(b.server.ready());
    // One that is not read for its own fault is not excused.
    b.raw(&pings);
    assert!(b.sleep().is_err());
}

#[test]
fn one_large_message_always_fits() {
    let mut b = Bench::open(limits(), connect(V5));
    b.server.publish(Publish::new("a", 0, vec![7; 100_000]), 0).unwrap();
    assert_eq!(b.server.publish(publish(0, QoS::AtMostOnce), 0), Err(PublishError::Full));
    assert_eq!(b.bytes().len(), 100_000 + 8);
}

#[test]
fn mqtt_3_14_4_3_will_is_dropped_by_a_normal_disconnect_only() {
    for (version, reason, published) in [(V5, 0, false), (V311, 0, false), (V5, 4, true), (V5, 0x80, true)] {
        let will = Will::new("w", "gone", QoS::AtLeastOnce);
        let mut b = Bench::open(
            limits(),
            Connect { will: Some(will.clone()), session_expiry_s: 9, ..connect(version) },
        );
        let session_expiry_s = (version == V5).then_some(30);
        let bye = Disconnect { reason, session_expiry_s, ..Disconnect::default() };
        b.send(Packet::Disconnect(bye.clone()));
        let closed = ServerEvent::Closed {
            clean: true,
            error: None,
            disconnect: Some(Box::new(bye)),
            will: published.then_some(Box::new(will)),
        };
        assert_eq!(b.events(), [closed]);
        assert_eq!(b.written(), []);
        b.server.handle_eof(); // the client closes after DISCONNECT [MQTT-3.14.4-1]
        assert_eq!(b.events(), []);
    }
}

#[test]
fn mqtt_3_1_2_8_will_is_published_when_the_stream_ends() {
    for version in BOTH {
        let will = Will::new("w", "gone", QoS::AtLeastOnce);
        let mut b = Bench::open(limits(), Connect { will: Some(will.clone()), ..connect(version) });
        b.server.handle_eof();
        b.server.handle_eof();
        let closed =
            ServerEvent::Closed { clean: false, error: None, disconnect: None, will: Some(Box::new(will)) };
        assert_eq!(b.events(), [closed]);
    }
}

#[test]
fn disconnect_is_said_in_5_only() {
    for version in BOTH {
        let mut b = Bench::open(limits(), connect(version));
        b.server.disconnect(Disconnect { reason: 0x8E, session_expiry_s: Some(3), ..Disconnect::default() });
        let told = if version == V5 { vec![disconnect(0x8E)] } else { vec![] };
        assert_eq!(b.written(), told);
        assert_eq!(b.ended(), (None, vec![], None));
    }
    let mut b = Bench::new(V5, limits());
    b.send(Packet::Connect(Box::new(connect(V5))));
    b.events();
    b.server.disconnect(Disconnect { reason: 0x89, ..Disconnect::default() });
    let refusal = ConnAck { reason: 0x89, ..ConnAck::default() };
    assert_eq!(b.written(), [Packet::ConnAck(Box::new(refusal))]);
}

#[test]
fn events_made_ahead_are_bounded() {
    let mut b = Bench::open(limits(), connect(V5));
    let one = wire(V5, Packet::Publish(Box::new(publish(0, QoS::AtMostOnce))));
    b.raw(&one.repeat(1000));
    assert_eq!(b.server.events.len(), MAX_EVENTS);
    assert!(!b.server.ready());
    assert_eq!(b.published().len(), 1000);
    assert!(b.server.ready());
    assert_eq!(b.server.buf.capacity() + b.server.events.capacity(), 0, "an idle connection holds nothing");
}

#[test]
fn largest_subscribe() {
    let mut b = Bench::open(ServerLimits { max_packet_bytes: 1 << 20, ..limits() }, connect(V5));
    b.send(subscribe(&vec!["a"; MAX_FILTERS]));
    assert!(matches!(b.events()[..], [ServerEvent::Subscribe(_)]));
    b.send(subscribe(&vec!["a"; MAX_FILTERS + 1]));
    assert_eq!(b.ended().0, Some(0x97));
}

#[test]
fn a_second_connect_of_an_unknown_version_is_answered_with_a_reason_that_disconnect_may_have() {
    let mut server = Server::new(limits(), at(0));
    server.receive(at(0), &wire(V5, Packet::Connect(Box::new(connect(V5))))).unwrap();
    assert!(matches!(server.poll_event(), Some(ServerEvent::Connect(_))));
    server.accept(ConnAck::default());
    while server.poll_transmit().is_some() {}
    server.receive(at(1), &[0x10, 7, 0, 4, b'M', b'Q', b'T', b'T', 9]).unwrap_err();
    let mut written = BytesMut::new();
    while let Some(bytes) = server.poll_transmit() {
        written.extend_from_slice(&bytes);
    }
    let packet = codec::decode(&mut written, Some(V5), 100);
    assert!(matches!(&packet, Ok(Some(Packet::Disconnect(d))) if d.reason == 0x82), "{packet:?}");
}

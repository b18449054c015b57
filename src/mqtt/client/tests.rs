use super::*;
use crate::mqtt::{Unsubscribe, encode};

const V5: Version = Version::V5;
const V311: Version = Version::V311;
const BOTH: [Version; 2] = [V311, V5];

fn at(seconds: u64) -> Mono {
    Mono(seconds * 1_000_000)
}

fn options(version: Version) -> ClientOptions {
    ClientOptions {
        connect: Connect { keep_alive_s: 30, topic_alias_maximum: 2, ..Connect::new(version, "d") },
        max_packet_bytes: 4096,
        window: 3,
        ping_timeout: Duration::from_secs(5),
    }
}

fn wire(version: Version, packet: Packet) -> BytesMut {
    let mut out = BytesMut::new();
    encode(&packet, version, &mut out).unwrap();
    out
}

fn publish(packet_id: u16, qos: QoS) -> Publish {
    Publish { qos, packet_id, ..Publish::new("a", 0, "x") }
}

fn ack(packet_id: u16) -> Ack {
    Ack::new(packet_id, 0)
}

fn disconnect(reason: u8) -> Packet {
    Packet::Disconnect(Disconnect { reason, ..Disconnect::default() })
}

/// A client with a server's mouth.
struct Bench {
    client: Client,
    version: Version,
    now: Mono,
}

impl Bench {
    fn new(options: ClientOptions) -> Self {
        let version = options.connect.version;
        Self { client: Client::new(options, at(0)).unwrap(), version, now: at(0) }
    }

    /// Connected to a server that says this; nothing is left to poll.
    fn open_with(options: ClientOptions, connack: ConnAck) -> Self {
        let mut b = Self::new(options);
        assert!(matches!(b.written()[..], [Packet::Connect(_)]));
        b.send(Packet::ConnAck(Box::new(connack)));
        assert!(matches!(b.events()[..], [ClientEvent::Connected(_)]));
        b
    }

    fn open(version: Version) -> Self {
        Self::open_with(options(version), ConnAck::default())
    }

    fn send(&mut self, packet: Packet) {
        let bytes = wire(self.version, packet);
        self.client.receive(self.now, &bytes).unwrap_or_default(); // an error is an event as well
    }

    fn events(&mut self) -> Vec<ClientEvent> {
        std::iter::from_fn(|| self.client.poll_event()).collect()
    }

    fn bytes(&mut self) -> BytesMut {
        let mut all = BytesMut::new();
        while let Some(bytes) = self.client.poll_transmit() {
            all.extend_from_slice(&bytes);
        }
        all
    }

    fn written(&mut self) -> Vec<Packet> {
        let mut bytes = self.bytes();
        let packets = std::iter::from_fn(|| {
            let first = bytes.first().copied().unwrap_or_default();
            let version = (first != 0x10).then_some(self.version);
            crate::mqtt::decode(&mut bytes, version, MAX_PACKET_BYTES).unwrap()
        });
        packets.collect()
    }

    fn published(&mut self) -> Vec<u16> {
        let ids = self.events().into_iter().map(|e| match e {
            ClientEvent::Message(p) => p.packet_id,
            other => panic!("{other:?}"),
        });
        ids.collect()
    }

    /// Advances to where the client wants to be called.
    fn sleep(&mut self) -> Result<(), ProtocolError> {
        self.now = self.client.poll_timeout().unwrap().max(self.now);
        self.client.handle_timeout(self.now)
    }
}

#[test]
fn violations_by_the_server_end_the_connection_with_the_specified_reason() {
    let p = |p: Publish| Packet::Publish(Box::new(p));
    let qos1 = |id| p(publish(id, QoS::AtLeastOnce));
    let aliased = Publish { topic_alias: Some(3), ..publish(0, QoS::AtMostOnce) };
    let unset = Publish { topic: String::new(), topic_alias: Some(2), ..publish(0, QoS::AtMostOnce) };
    let subscribe = Subscribe {
        packet_id: 1,
        filters: vec![Filter {
            filter: "a".to_owned(),
            qos: QoS::AtMostOnce,
            no_local: false,
            retain_as_published: false,
            retain_handling: 0,
        }],
        subscription_id: None,
        user: Vec::new(),
    };
    let unsubscribe = Unsubscribe { packet_id: 1, filters: vec!["a".to_owned()], user: Vec::new() };
    let suback = SubAck { packet_id: 1, reasons: vec![0], reason_string: None, user: Vec::new() };
    let expiry = Disconnect { session_expiry_s: Some(1), ..Disconnect::default() };
    let table: Vec<(&str, Version, Vec<Packet>, u8)> = vec![
        ("MQTT-3.2.0-2 second CONNACK", V5, vec![Packet::ConnAck(Box::default())], 0x82),
        ("MQTT-3.1.2-24 packet too large", V5, vec![p(Publish::new("a", 0, vec![0; 4096]))], 0x95),
        ("packet too large in 3.1.1", V311, vec![p(Publish::new("a", 0, vec![0; 4096]))], 0x95),
        ("MQTT-3.1.2-26 alias over the maximum", V5, vec![p(aliased)], 0x94),
        ("MQTT-3.3.2-7 alias never set", V5, vec![p(unset)], 0x82),
        ("MQTT-3.3.4-9 receive maximum", V5, vec![qos1(1), qos1(2), qos1(3), qos1(4)], 0x93),
        ("MQTT-2.2.1-4 identifier in use", V5, vec![qos1(1), qos1(1)], 0x82),
        ("MQTT-2.2.1-5 PUBACK of nothing", V5, vec![Packet::PubAck(ack(1))], 0x82),
        ("MQTT-2.2.1-6 SUBACK of nothing", V5, vec![Packet::SubAck(suback.clone())], 0x82),
        ("UNSUBACK of nothing", V5, vec![Packet::UnsubAck(suback)], 0x82),
        ("CONNECT from a server", V5, vec![Packet::Connect(Box::new(Connect::new(V5, "x")))], 0x82),
        ("SUBSCRIBE from a server", V5, vec![Packet::Subscribe(Box::new(subscribe))], 0x82),
        ("UNSUBSCRIBE from a server", V311, vec![Packet::Unsubscribe(Box::new(unsubscribe))], 0x82),
        ("PINGREQ from a server", V5, vec![Packet::PingReq], 0x82),
        ("MQTT-4.12.0-6 AUTH without a method", V5, vec![Packet::Auth(0x18)], 0x82),
        ("MQTT-3.14.2-2 session expiry from a server", V5, vec![Packet::Disconnect(expiry)], 0x82),
        ("DISCONNECT from a 3.1.1 server", V311, vec![disconnect(0)], 0x82),
    ];
    for (what, version, packets, want) in table {
        let mut b = Bench::open(version);
        for packet in packets {
            assert!(!b.client.is_closed(), "{what}: too early");
            b.send(packet);
        }
        let Some(ClientEvent::Failed(e)) = b.events().pop() else { panic!("{what}") };
        assert_eq!(e.reason, want, "{what}");
        assert!(b.client.is_closed() && !b.client.ready() && b.client.poll_timeout().is_none());
        // [MQTT-4.13.1-1]; 3.1.1 has no reasons, and an unclean end keeps the will
        assert_eq!(b.written(), if version == V5 { vec![disconnect(want)] } else { vec![] }, "{what}");
        b.send(Packet::PingResp);
        b.client.ack(1, 0);
        b.client.disconnect(0);
        assert!(b.events().is_empty() && b.written().is_empty(), "{what}: [MQTT-3.14.4-1]");
        assert_eq!(b.client.publish(publish(0, QoS::AtMostOnce), 0), Err(PublishError::NotConnected));
    }
}

#[test]
fn violations_before_connack() {
    let present = ConnAck { session_present: true, ..ConnAck::default() };
    let table = [
        ("MQTT-3.2.0-1 first packet", V5, Packet::PingResp),
        ("3.1.1 MQTT-3.2.0-1 first packet", V311, Packet::PingResp),
        ("MQTT-3.2.2-4 session present after Clean Start", V5, Packet::ConnAck(Box::new(present))),
    ];
    for (what, version, packet) in table {
        let mut b = Bench::new(options(version));
        b.written();
        b.send(packet);
        let Some(ClientEvent::Failed(e)) = b.events().pop() else { panic!("{what}") };
        assert_eq!(e.reason, 0x82, "{what}");
    }
}

#[test]
fn connect_says_the_limits() {
    let mut b = Bench::new(options(V5));
    let mut want = options(V5).connect;
    want.receive_maximum = Some(3);
    want.maximum_packet_size = Some(4096);
    assert_eq!(b.written(), [Packet::Connect(Box::new(want))]);
    let mut b = Bench::new(options(V311));
    let want = Connect { topic_alias_maximum: 0, ..options(V311).connect };
    assert_eq!(b.written(), [Packet::Connect(Box::new(want))]);
    let mut long = options(V5);
    long.connect.client_id = "x".repeat(65_536);
    assert_eq!(Client::new(long, at(0)).unwrap_err().reason, 0x95);
}

#[test]
fn nothing_is_published_before_connack() {
    let mut b = Bench::new(options(V5));
    assert_eq!(b.client.capacity(), 0);
    assert_eq!(b.client.publish(publish(0, QoS::AtLeastOnce), 0), Err(PublishError::NotConnected));
    assert_eq!(b.client.subscribe(&[("a", QoS::AtLeastOnce)]), Err(PublishError::NotConnected));
    assert!(b.client.server().is_none());
}

#[test]
fn a_refusal_is_an_event_and_the_end() {
    for (version, user) in [(V5, vec![("retry_after_ms".to_owned(), "9".to_owned())]), (V311, vec![])] {
        let mut b = Bench::new(options(version));
        b.written();
        let reason = if version == V5 { 0x89 } else { 0x88 };
        let refusal = Box::new(ConnAck { reason, user, ..ConnAck::default() });
        b.send(Packet::ConnAck(refusal.clone()));
        assert_eq!(b.events(), [ClientEvent::Refused(refusal)]);
        assert!(b.client.is_closed() && b.written().is_empty());
    }
}

#[test]
fn mqtt_3_1_2_20_ping_after_keep_alive() {
    for version in BOTH {
        let mut b = Bench::open(version);
        assert_eq!(b.client.poll_timeout(), Some(at(30)));
        b.now = at(29);
        b.client.handle_timeout(b.now).unwrap();
        assert_eq!(b.written(), []);
        b.sleep().unwrap();
        assert_eq!(b.written(), [Packet::PingReq]);
        b.now = at(31);
        b.send(Packet::PingResp);
        assert_eq!(b.client.poll_timeout(), Some(at(60)), "one PINGREQ a keep-alive");
        // What is sent and answered takes the place of a ping.
        b.now = at(50);
        b.client.handle_timeout(b.now).unwrap();
        b.client.publish(publish(0, QoS::AtLeastOnce), 1).unwrap();
        b.send(Packet::PubAck(ack(1)));
        assert_eq!(b.client.poll_timeout(), Some(at(80)));
    }
}

#[test]
fn a_server_that_is_never_heard_is_asked_although_we_send() {
    let mut b = Bench::open(V5);
    for second in [10, 20, 29] {
        b.now = at(second);
        b.client.handle_timeout(b.now).unwrap();
        b.client.publish(publish(0, QoS::AtMostOnce), 0).unwrap();
        b.written();
    }
    b.sleep().unwrap();
    assert_eq!((b.now, b.written()), (at(30), vec![Packet::PingReq]));
}

#[test]
fn a_dead_server_is_an_error() {
    let mut b = Bench::open(V5);
    b.sleep().unwrap();
    assert_eq!(b.client.poll_timeout(), Some(at(35)));
    let error = b.sleep().unwrap_err();
    assert_eq!((b.now, error.reason), (at(35), 0x80));
    assert_eq!(b.events(), [ClientEvent::Failed(error)]);
    // No CONNACK.
    let mut b = Bench::new(options(V5));
    assert_eq!(b.client.poll_timeout(), Some(at(5)));
    assert!(b.sleep().is_err());
    // Any byte is a sign of life.
    let mut b = Bench::open(V5);
    b.sleep().unwrap();
    b.now = at(34);
    b.client.receive(b.now, &[0x30]).unwrap();
    assert_eq!(b.client.poll_timeout(), Some(at(60)));
}

#[test]
fn mqtt_3_1_2_21_server_keep_alive_is_used() {
    for (told, want) in [(Some(10), Some(at(10))), (Some(0), None), (None, Some(at(30)))] {
        let b = Bench::open_with(options(V5), ConnAck { server_keep_alive_s: told, ..ConnAck::default() });
        assert_eq!(b.client.poll_timeout(), want);
    }
    let mut none = options(V5);
    none.connect.keep_alive_s = 0;
    assert_eq!(Bench::open_with(none, ConnAck::default()).client.poll_timeout(), None);
}

#[test]
fn mqtt_3_3_4_7_window_is_the_smaller_of_ours_and_the_servers() {
    for (receive_maximum, want) in [(None, 3), (Some(2), 2), (Some(9), 3)] {
        let mut b = Bench::open_with(options(V5), ConnAck { receive_maximum, ..ConnAck::default() });
        assert_eq!(b.client.capacity(), want);
        for token in 0..want as u64 {
            b.client.publish(publish(0, QoS::AtLeastOnce), 100 + token).unwrap();
        }
        assert_eq!(b.client.publish(publish(0, QoS::ExactlyOnce), 7), Err(PublishError::Full));
        // [MQTT-3.3.4-8] All else goes on.
        b.client.publish(publish(0, QoS::AtMostOnce), 8).unwrap();
        assert_eq!(b.client.subscribe(&[("a", QoS::AtMostOnce)]), Ok(want as u16 + 1));
        assert_eq!(b.written().len(), want + 2);
        b.send(Packet::PubAck(ack(2)));
        assert_eq!(b.events(), [ClientEvent::Acked { token: 101, ack: ack(2) }]);
        assert_eq!(b.client.capacity(), 1);
    }
}

#[test]
fn a_negative_puback_is_not_success() {
    let mut b = Bench::open(V5);
    b.client.publish(publish(0, QoS::AtLeastOnce), 5).unwrap();
    let ack = Ack {
        packet_id: 1,
        reason: 0x83,
        reason_string: Some("need".to_owned()),
        user: vec![("dts-need".to_owned(), "tables".to_owned())],
    };
    b.send(Packet::PubAck(ack.clone()));
    assert_eq!(b.events(), [ClientEvent::Acked { token: 5, ack }]);
    assert_eq!(b.client.capacity(), 3, "[MQTT-4.4.0-2] the id is free");
}

#[test]
fn what_the_server_does_not_take_is_an_error_value() {
    let server = ConnAck {
        maximum_packet_size: Some(60),
        maximum_qos: Some(1),
        retain_available: Some(false),
        topic_alias_maximum: 1,
        ..ConnAck::default()
    };
    let mut b = Bench::open_with(options(V5), server.clone());
    b.written();
    assert_eq!(b.client.server(), Some(&server));
    let base = || publish(0, QoS::AtLeastOnce);
    let table = [
        (
            "MQTT-3.2.2-15",
            Publish { payload: vec![0; 60].into(), ..base() },
            PublishError::TooLarge { bytes: 68, limit: 60 },
        ),
        ("MQTT-3.2.2-11", publish(0, QoS::ExactlyOnce), PublishError::QosNotSupported),
        ("MQTT-3.2.2-14", Publish { retain: true, ..base() }, PublishError::RetainNotSupported),
    ];
    for (what, publish, want) in table {
        assert_eq!(b.client.publish(publish, 1), Err(want), "{what}");
    }
    let wrong = [
        ("MQTT-3.2.2-17", Publish { topic_alias: Some(2), ..base() }),
        ("MQTT-3.3.2-8", Publish { topic_alias: Some(0), ..base() }),
        ("MQTT-3.3.2-2", Publish { topic: "a/+".to_owned(), ..base() }),
        ("MQTT-4.7.3-1", Publish { topic: String::new(), ..base() }),
    ];
    for (what, publish) in wrong {
        assert!(matches!(b.client.publish(publish, 1), Err(PublishError::Invalid(_))), "{what}");
    }
    assert!(matches!(b.client.subscribe(&[("a#", QoS::AtMostOnce)]), Err(PublishError::Invalid(_))));
    assert!(matches!(b.client.subscribe(&[]), Err(PublishError::Invalid(_))));
    let long = "x".repeat(100);
    assert!(matches!(b.client.subscribe(&[(&long, QoS::AtMostOnce)]), Err(PublishError::Invalid(_))));
    assert_eq!((b.client.capacity(), b.events()), (3, vec![]), "nothing is left of it");
    assert_eq!(b.bytes(), b""[..]);
    b.client.publish(Publish { topic_alias: Some(1), ..base() }, 1).unwrap();
}

#[test]
fn qos_0_does_not_pile_up() {
    let mut b = Bench::open(V5);
    let message = || Publish::new("a", 0, vec![0; 100 << 10]);
    b.client.publish(message(), 0).unwrap();
    b.client.publish(message(), 0).unwrap();
    assert_eq!(b.client.publish(message(), 0), Err(PublishError::Full));
    b.written();
    b.client.publish(message(), 0).unwrap();
}

#[test]
fn mqtt_4_3_3_qos_2_both_ways() {
    for version in BOTH {
        let mut b = Bench::open(version);
        b.client.publish(publish(0, QoS::ExactlyOnce), 5).unwrap();
        assert_eq!(b.written(), [Packet::Publish(Box::new(publish(1, QoS::ExactlyOnce)))]);
        b.send(Packet::PubRec(ack(1)));
        assert_eq!(b.written(), [Packet::PubRel(ack(1))]);
        b.send(Packet::PubComp(ack(1)));
        assert_eq!(b.events(), [ClientEvent::Acked { token: 5, ack: ack(1) }]);

        b.send(Packet::Publish(Box::new(publish(9, QoS::ExactlyOnce))));
        b.send(Packet::Publish(Box::new(publish(9, QoS::ExactlyOnce))));
        assert_eq!(b.published(), [9]);
        b.client.ack(9, 0);
        b.send(Packet::PubRel(ack(9)));
        assert_eq!(b.written(), [Packet::PubRec(ack(9)), Packet::PubComp(ack(9))]);
    }
}

#[test]
fn mqtt_4_6_0_2_answers_come_in_the_order_of_the_messages() {
    for version in BOTH {
        let mut b = Bench::open(version);
        for id in [7, 5, 6] {
            b.send(Packet::Publish(Box::new(publish(id, QoS::AtLeastOnce))));
        }
        assert_eq!(b.published(), [7, 5, 6]);
        b.client.ack(5, 0x99);
        b.client.ack(6, 0);
        assert_eq!(b.written(), []);
        b.client.ack(7, 0);
        // 3.1.1 has no other word than "taken".
        let refused = Ack::new(5, if version == V5 { 0x99 } else { 0 });
        assert_eq!(b.written(), [Packet::PubAck(ack(7)), Packet::PubAck(refused), Packet::PubAck(ack(6))]);
    }
}

#[test]
fn mqtt_3_3_2_10_aliases_are_resolved() {
    let mut b = Bench::open(V5);
    for (topic, want) in [("one", "one"), ("", "one"), ("two", "two"), ("", "two")] {
        let p = Publish { topic: topic.to_owned(), topic_alias: Some(2), ..publish(0, QoS::AtMostOnce) };
        b.send(Packet::Publish(Box::new(p)));
        let Some(ClientEvent::Message(p)) = b.events().pop() else { panic!() };
        assert_eq!((&*p.topic, p.topic_alias), (want, None));
    }
}

#[test]
fn a_3_1_1_server_is_held_back_by_not_reading() {
    let mut b = Bench::open(V311);
    for id in 1..=5 {
        b.send(Packet::Publish(Box::new(publish(id, QoS::AtLeastOnce))));
    }
    assert_eq!(b.published(), [1, 2, 3]);
    assert!(!b.client.ready());
    b.client.ack(1, 0);
    b.client.ack(2, 0);
    assert!(b.client.ready());
    assert_eq!(b.published(), [4, 5]);
}

#[test]
fn subscribe_and_its_answer() {
    for version in BOTH {
        let mut b = Bench::open(version);
        let id = b.client.subscribe(&[("a/#", QoS::AtLeastOnce), ("b", QoS::AtMostOnce)]).unwrap();
        let Some(Packet::Subscribe(s)) = b.written().pop() else { panic!() };
        assert_eq!((s.packet_id, &*s.filters[0].filter, s.filters[1].qos), (id, "a/#", QoS::AtMostOnce));
        let suback = SubAck { packet_id: id, reasons: vec![1, 0x80], reason_string: None, user: Vec::new() };
        b.send(Packet::SubAck(suback.clone()));
        assert_eq!(b.events(), [ClientEvent::Subscribed(suback)]);
    }
    // [MQTT-3.8.4-6] One reason for each filter.
    let mut b = Bench::open(V5);
    let packet_id = b.client.subscribe(&[("a", QoS::AtLeastOnce)]).unwrap();
    b.send(Packet::SubAck(SubAck { packet_id, reasons: vec![1, 1], reason_string: None, user: Vec::new() }));
    assert!(matches!(b.events()[..], [ClientEvent::Failed(_)]));
}

#[test]
fn mqtt_2_2_1_3_identifiers_in_use_are_skipped() {
    let mut wide = options(V5);
    wide.window = 5;
    let mut b = Bench::open_with(wide, ConnAck::default());
    b.client.publish(publish(0, QoS::AtLeastOnce), 0).unwrap(); // 1, never answered
    let mut ids = Vec::new();
    for _ in 0..65_536 {
        b.client.publish(publish(0, QoS::AtLeastOnce), 0).unwrap();
        let Some(Packet::Publish(p)) = b.written().pop() else { panic!() };
        ids.push(p.packet_id);
        b.send(Packet::PubAck(ack(p.packet_id)));
        b.events();
    }
    assert_eq!(ids[0], 2);
    assert_eq!(ids[65_533..], [65_535, 2, 3]);
}

#[test]
fn disconnect_is_the_last_packet() {
    let mut b = Bench::open(V5);
    b.client.publish(publish(0, QoS::AtLeastOnce), 0).unwrap();
    b.client.disconnect(4);
    assert!(matches!(&b.written()[..], [Packet::Publish(_), bye] if *bye == disconnect(4)));
    assert!(b.client.is_closed());
    // 3.1.1 can only say the normal end; for the will the connection is closed without it.
    for (reason, told) in [(0, vec![disconnect(0)]), (4, vec![])] {
        let mut b = Bench::open(V311);
        b.client.disconnect(reason);
        assert_eq!(b.written(), told);
        assert!(b.client.is_closed());
    }
}

#[test]
fn the_servers_disconnect_is_an_event() {
    let mut b = Bench::open(V5);
    let bye = Disconnect {
        reason: 0x8E,
        reason_string: Some("other".to_owned()),
        user: vec![("dts-conflict".to_owned(), "00".to_owned())],
        ..Disconnect::default()
    };
    // What came before it is not lost.
    let mut bytes = wire(V5, Packet::Publish(Box::new(publish(0, QoS::AtMostOnce))));
    bytes.extend_from_slice(&wire(V5, Packet::Disconnect(bye.clone())));
    b.client.receive(at(1), &bytes).unwrap();
    let events = b.events();
    assert!(matches!(events[0], ClientEvent::Message(_)));
    assert_eq!(events[1..], [ClientEvent::Closed(bye)]);
    assert!(b.client.is_closed() && b.written().is_empty());
}

#[test]
fn large_payloads_are_shared_with_what_is_written() {
    let mut b = Bench::open(V5);
    let payload = Bytes::from(vec![7; 5000]);
    b.client.publish(Publish { payload: payload.clone(), ..publish(0, QoS::AtLeastOnce) }, 0).unwrap();
    let head = b.client.poll_transmit().unwrap();
    let body = b.client.poll_transmit().unwrap();
    assert_eq!((head.len(), body.as_ptr()), (9, payload.as_ptr()));
    assert_eq!(b.client.poll_transmit(), None);
}

#[test]
fn nothing_secret_is_printed() {
    let mut secret = options(V5);
    secret.connect.username = Some("u".to_owned());
    secret.connect.password = Some(Bytes::from_static(b"s3cret"));
    let text = format!("{secret:?} {:?}", Client::new(secret.clone(), at(0)).unwrap());
    assert!(!text.contains("s3cret"), "{text}");
}

#[test]
fn a_connect_from_the_server_is_answered_with_a_reason_that_disconnect_may_have() {
    // Of a version that no codec knows: the error is 0x84, which is CONNACK's alone [MQTT-3.14.2-1].
    let mut b = Bench::open_with(options(V5), ConnAck::default());
    b.client.receive(at(1), &[0x10, 7, 0, 4, b'M', b'Q', b'T', b'T', 9]).unwrap_err();
    let written = b.written();
    assert!(matches!(&written[..], [Packet::Disconnect(d)] if d.reason == 0x82), "{written:?}");
}

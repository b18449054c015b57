use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

use super::sample::Gen;
use super::*;
use crate::mqtt::{
    Ack, ConnAck, Connect, Disconnect, Filter, Publish, QoS, SubAck, Subscribe, Unsubscribe, Will,
};

const V5: Version = Version::V5;
const V311: Version = Version::V311;
const BIG: usize = 1 << 20;

fn bytes(hex: &str) -> BytesMut {
    let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect::<Vec<u8>>()[..]
        .into()
}

/// What `decode` needs to know for `packet`.
fn version_for(packet: &Packet, version: Version) -> Option<Version> {
    if matches!(packet, Packet::Connect(_)) { None } else { Some(version) }
}

fn encoded(packet: &Packet, version: Version) -> BytesMut {
    let mut out = BytesMut::new();
    encode(packet, version, &mut out).unwrap();
    out
}

fn user(name: &str, value: &str) -> Vec<(String, String)> {
    vec![(name.to_owned(), value.to_owned())]
}

fn connect(version: Version) -> Packet {
    let mut p = Connect::new(version, "d1");
    p.keep_alive_s = 60;
    p.username = Some("u".to_owned());
    p.password = Some(Bytes::from_static(b"pw"));
    let mut will = Will::new("w/t", "bye", QoS::AtLeastOnce);
    will.retain = true;
    if version == V5 {
        p.session_expiry_s = 10;
        p.receive_maximum = Some(20);
        p.maximum_packet_size = Some(1024);
        p.topic_alias_maximum = 3;
        p.request_problem_information = false;
        p.authentication_method = Some("M".to_owned());
        p.user = user("a", "b");
        will.delay_s = 5;
        will.payload_is_utf8 = true;
        will.message_expiry_s = Some(7);
        will.content_type = Some("t".to_owned());
        will.response_topic = Some("r".to_owned());
        will.correlation_data = Some(Bytes::from_static(b"c"));
        will.user = user("x", "y");
    }
    p.will = Some(will);
    Packet::Connect(Box::new(p))
}

fn connack() -> ConnAck {
    ConnAck {
        session_present: true,
        reason: 0,
        session_expiry_s: Some(9),
        receive_maximum: Some(10),
        maximum_qos: Some(1),
        retain_available: Some(false),
        maximum_packet_size: Some(2048),
        assigned_client_id: Some("id".to_owned()),
        topic_alias_maximum: 4,
        reason_string: Some("ok".to_owned()),
        wildcard_subscription_available: Some(true),
        subscription_identifiers_available: Some(false),
        shared_subscription_available: Some(false),
        server_keep_alive_s: Some(30),
        server_reference: Some("s2".to_owned()),
        user: user("dts", "1"),
    }
}

fn publish() -> Publish {
    let mut p = Publish::new("a/b", 10, "hello");
    p.dup = true;
    p.retain = true;
    p.payload_is_utf8 = true;
    p.message_expiry_s = Some(60);
    p.topic_alias = Some(2);
    p.response_topic = Some("r".to_owned());
    p.correlation_data = Some(Bytes::from_static(&[1, 2]));
    p.content_type = Some("j".to_owned());
    p.subscription_ids = vec![1, 200];
    p.user = user("k", "v");
    p
}

fn filter(filter: &str, qos: QoS) -> Filter {
    Filter { filter: filter.to_owned(), qos, no_local: false, retain_as_published: false, retain_handling: 0 }
}

fn suback(reasons: &[u8]) -> SubAck {
    SubAck { packet_id: 7, reasons: reasons.to_vec(), reason_string: None, user: Vec::new() }
}

/// Every packet in both versions, with the bytes that the specifications say.
fn golden() -> Vec<(Packet, Version, &'static str)> {
    let full = Ack { packet_id: 5, reason: 0x97, reason_string: Some("q".to_owned()), user: user("r", "9") };
    let options = Filter {
        no_local: true,
        retain_as_published: true,
        retain_handling: 2,
        ..filter("#", QoS::ExactlyOnce)
    };
    let subscribe = |subscription_id, filters| {
        Packet::Subscribe(Box::new(Subscribe { packet_id: 7, filters, subscription_id, user: Vec::new() }))
    };
    let unsubscribe = Packet::Unsubscribe(Box::new(Unsubscribe {
        packet_id: 7,
        filters: vec!["a".to_owned(), "b/#".to_owned()],
        user: Vec::new(),
    }));
    let bye = Disconnect {
        reason: 0x89,
        session_expiry_s: Some(1),
        reason_string: Some("b".to_owned()),
        server_reference: Some("s".to_owned()),
        user: user("retry_after_ms", "5"),
    };
    vec![
        (
            connect(V311),
            V311,
            "10 1F 0004 4D515454 04 EE 003C 0002 6431 0003 772F74 0003 627965 0001 75 0002 7077",
        ),
        (
            connect(V5),
            V5,
            "10 5D 0004 4D515454 05 EE 003C \
             1D 11 0000000A 21 0014 27 00000400 22 0003 17 00 15 0001 4D 26 0001 61 0001 62 \
             0002 6431 \
             1F 18 00000005 01 01 02 00000007 03 0001 74 08 0001 72 09 0001 63 26 0001 78 0001 79 \
             0003 772F74 0003 627965 0001 75 0002 7077",
        ),
        (
            Packet::ConnAck(Box::new(ConnAck { session_present: true, ..ConnAck::default() })),
            V311,
            "20 02 01 00",
        ),
        (Packet::ConnAck(Box::new(ConnAck { reason: 0x87, ..ConnAck::default() })), V311, "20 02 00 05"),
        (Packet::ConnAck(Box::default()), V5, "20 03 00 00 00"),
        (
            Packet::ConnAck(Box::new(connack())),
            V5,
            "20 38 01 00 35 11 00000009 21 000A 24 01 25 00 27 00000800 12 0002 6964 22 0004 1F 0002 6F6B \
             28 01 29 00 2A 00 13 001E 1C 0002 7332 26 0003 647473 0001 31",
        ),
        (Packet::Publish(Box::new(Publish::new("a", 0, "x"))), V311, "30 04 0001 61 78"),
        (Packet::Publish(Box::new(Publish::new("a", 258, ""))), V311, "32 05 0001 61 0102"),
        (Packet::Publish(Box::new(Publish::new("a", 0, "x"))), V5, "30 05 0001 61 00 78"),
        (
            Packet::Publish(Box::new(publish())),
            V5,
            "3B 30 0003 612F62 000A 23 01 01 02 0000003C 23 0002 08 0001 72 09 0002 0102 03 0001 6A \
             0B 01 0B C801 26 0001 6B 0001 76 68656C6C6F",
        ),
        (Packet::PubAck(Ack::new(5, 0)), V311, "40 02 0005"),
        (Packet::PubRec(Ack::new(5, 0)), V311, "50 02 0005"),
        (Packet::PubRel(Ack::new(5, 0)), V311, "62 02 0005"),
        (Packet::PubComp(Ack::new(5, 0)), V311, "70 02 0005"),
        (Packet::PubAck(Ack::new(5, 0)), V5, "40 02 0005"),
        (Packet::PubAck(Ack::new(5, 0x10)), V5, "40 03 0005 10"),
        (Packet::PubAck(full.clone()), V5, "40 0F 0005 97 0B 1F 0001 71 26 0001 72 0001 39"),
        (Packet::PubRec(full), V5, "50 0F 0005 97 0B 1F 0001 71 26 0001 72 0001 39"),
        (Packet::PubRel(Ack::new(5, 0x92)), V5, "62 03 0005 92"),
        (Packet::PubComp(Ack::new(5, 0x92)), V5, "70 03 0005 92"),
        (
            subscribe(None, vec![filter("a/+", QoS::AtLeastOnce), filter("b", QoS::AtMostOnce)]),
            V311,
            "82 0C 0007 0003 612F2B 01 0001 62 00",
        ),
        (subscribe(Some(200), vec![options]), V5, "82 0A 0007 03 0B C801 0001 23 2E"),
        (Packet::SubAck(suback(&[0, 1, 2, 0x80])), V311, "90 06 0007 00 01 02 80"),
        (Packet::SubAck(suback(&[1, 0x9E])), V5, "90 05 0007 00 01 9E"),
        (unsubscribe.clone(), V311, "A2 0A 0007 0001 61 0003 622F23"),
        (unsubscribe, V5, "A2 0B 0007 00 0001 61 0003 622F23"),
        (Packet::UnsubAck(suback(&[])), V311, "B0 02 0007"),
        (Packet::UnsubAck(suback(&[0, 0x11])), V5, "B0 05 0007 00 00 11"),
        (Packet::PingReq, V311, "C0 00"),
        (Packet::PingReq, V5, "C0 00"),
        (Packet::PingResp, V311, "D0 00"),
        (Packet::PingResp, V5, "D0 00"),
        (Packet::Disconnect(Disconnect::default()), V311, "E0 00"),
        (Packet::Disconnect(Disconnect::default()), V5, "E0 00"),
        (Packet::Disconnect(Disconnect { reason: 4, ..Disconnect::default() }), V5, "E0 01 04"),
        (
            Packet::Disconnect(bye),
            V5,
            "E0 23 89 21 11 00000001 1F 0001 62 1C 0001 73 26 000E 72657472795F61667465725F6D73 0001 35",
        ),
        (Packet::Auth(0), V5, "F0 00"),
        (Packet::Auth(0x18), V5, "F0 01 18"),
    ]
}

#[test]
fn golden_bytes_are_written_and_read() {
    for (packet, version, hex) in golden() {
        let want = bytes(hex);
        assert_eq!(encoded(&packet, version), want, "{packet:?}\n{:02X}", encoded(&packet, version));
        let mut buf = want.clone();
        let got = decode(&mut buf, version_for(&packet, version), want.len()).unwrap();
        assert_eq!(got, Some(packet));
        assert!(buf.is_empty());
    }
}

#[test]
fn truncated_at_every_byte_waits_for_more() {
    for (packet, version, hex) in golden() {
        let whole = bytes(hex);
        for cut in 0..whole.len() {
            let mut buf = BytesMut::from(&whole[..cut]);
            assert_eq!(decode(&mut buf, version_for(&packet, version), BIG), Ok(None), "{packet:?} at {cut}");
            assert_eq!(buf, whole[..cut]);
        }
    }
}

#[test]
fn a_body_shortened_inside_its_packet_is_never_read_over() {
    for (packet, version, hex) in golden() {
        let whole = bytes(hex);
        for len in 0..whole.len() - 2 {
            let mut buf = BytesMut::from(&whole[..2 + len]);
            buf[1] = len as u8; // every golden packet has a one-byte length
            let got = decode(&mut buf, version_for(&packet, version), BIG);
            assert_ne!(got, Ok(None), "{packet:?} at {len}");
        }
    }
}

#[test]
fn every_bit_flip_is_read_or_refused() {
    for (packet, version, hex) in golden() {
        let whole = bytes(hex);
        for bit in 0..whole.len() * 8 {
            let mut buf = whole.clone();
            buf[bit / 8] ^= 1 << (bit % 8);
            let before = buf.len();
            if let Ok(Some(got)) = decode(&mut buf, version_for(&packet, version), BIG) {
                // What was read can be written, and means the same.
                let v = if let Packet::Connect(c) = &got { c.version } else { version };
                let again = encoded(&got, v);
                assert_eq!(decode(&mut again.clone(), version_for(&got, v), BIG), Ok(Some(got)));
                assert!(buf.len() < before);
            }
        }
    }
}

#[test]
fn malformed_packets_are_refused_with_the_specified_reason() {
    let table = [
        // what, version, bytes, reason
        ("MQTT-2.1.3-1 reserved flags", Some(V5), "21 03 00 00 00", 0x81),
        ("MQTT-3.6.1-1 PUBREL flags", Some(V5), "60 02 0001", 0x81),
        ("MQTT-3.8.1-1 SUBSCRIBE flags", Some(V5), "80 07 0001 00 0001 61 00", 0x81),
        ("MQTT-3.10.1-1 UNSUBSCRIBE flags", Some(V5), "A0 06 0001 00 0001 61", 0x81),
        ("MQTT-3.14.1-1 DISCONNECT flags", Some(V5), "E1 00", 0x81),
        ("MQTT-3.15.1-1 AUTH flags", Some(V5), "F1 00", 0x81),
        ("AUTH in 3.1.1", Some(V311), "F0 00", 0x81),
        ("type 0", Some(V5), "00 00", 0x81),
        ("remaining length over four bytes", Some(V5), "C0 80 80 80 80", 0x81),
        ("MQTT-3.1.0-1 first packet", None, "C0 00", 0x82),
        ("MQTT-1.5.4-1 surrogate in UTF-8", Some(V5), "30 06 0003 EDA080 00", 0x81),
        ("MQTT-1.5.4-1 overlong UTF-8", Some(V5), "30 05 0002 C0AF 00", 0x81),
        ("MQTT-1.5.4-2 U+0000", Some(V5), "30 04 0001 00 00", 0x81),
        ("MQTT-1.5.7-1 UTF-8 of a user property", Some(V5), "30 0B 0001 61 07 26 0001 61 0001 FF", 0x81),
        ("3.1.1 MQTT-1.5.3-1 UTF-8", Some(V311), "30 04 0002 61 FF", 0x81),
        ("3.1.1 MQTT-2.3.1-1 packet id 0", Some(V311), "32 05 0001 61 0000", 0x81),
        ("3.1.1 MQTT-1.5.3-2 U+0000", Some(V311), "30 03 0001 00", 0x81),
        ("MQTT-3.1.2-1 protocol name", None, "10 10 0006 4D5149736470 03 02 003C 0002 6431", 0x84),
        ("MQTT-3.1.2-2 protocol level", None, "10 0D 0004 4D515454 06 02 003C 00 0000", 0x84),
        ("MQTT-3.1.2-3 reserved connect flag", None, "10 0D 0004 4D515454 05 03 003C 00 0000", 0x81),
        ("MQTT-3.1.2-11 will QoS without will", None, "10 0D 0004 4D515454 05 0A 003C 00 0000", 0x81),
        ("MQTT-3.1.2-12 will QoS 3", None, "10 13 0004 4D515454 05 1E 003C 00 0000 00 0001 61 0000", 0x81),
        ("MQTT-3.1.2-13 will retain without will", None, "10 0D 0004 4D515454 05 22 003C 00 0000", 0x81),
        ("3.1.1 MQTT-3.1.2-22 password without user", None, "10 0E 0004 4D515454 04 42 003C 0000 0000", 0x81),
        (
            "MQTT-4.7.0-1 wildcard in will topic",
            None,
            "10 13 0004 4D515454 05 06 003C 00 0000 00 0001 23 0000",
            0x81,
        ),
        ("receive maximum 0", None, "10 10 0004 4D515454 05 02 003C 03 21 0000 0000", 0x82),
        ("maximum packet size 0", None, "10 12 0004 4D515454 05 02 003C 05 27 00000000 0000", 0x82),
        (
            "session expiry twice",
            None,
            "10 17 0004 4D515454 05 02 003C 0A 11 00000001 11 00000001 0000",
            0x82,
        ),
        ("request problem information 2", None, "10 0F 0004 4D515454 05 02 003C 02 17 02 0000", 0x82),
        ("authentication data alone", None, "10 11 0004 4D515454 05 02 003C 04 16 0001 61 0000", 0x82),
        ("topic alias is not of CONNECT", None, "10 10 0004 4D515454 05 02 003C 03 23 0001 0000", 0x81),
        ("bytes after CONNECT", None, "10 0E 0004 4D515454 05 02 003C 00 0000 00", 0x81),
        ("MQTT-3.2.2-1 reserved bits of CONNACK", Some(V5), "20 03 02 00 00", 0x81),
        ("MQTT-3.2.2-6 session present in a refusal", Some(V5), "20 03 01 87 00", 0x82),
        ("MQTT-3.2.2-8 unknown reason code", Some(V5), "20 03 00 01 00", 0x82),
        ("3.1.1 return code 6", Some(V311), "20 02 00 06", 0x82),
        ("maximum QoS 2", Some(V5), "20 05 00 00 02 24 02", 0x82),
        ("MQTT-3.3.1-2 DUP at QoS 0", Some(V5), "38 04 0001 61 00", 0x81),
        ("MQTT-3.3.1-4 QoS 3", Some(V5), "36 06 0001 61 0001 00", 0x81),
        ("MQTT-3.3.2-2 wildcard in topic", Some(V5), "30 04 0001 2B 00", 0x81),
        ("MQTT-3.3.2-14 wildcard in response topic", Some(V5), "30 08 0001 61 04 08 0001 23", 0x81),
        ("MQTT-4.7.3-1 empty topic, no alias", Some(V5), "30 03 0000 00", 0x82),
        ("3.1.1 MQTT-4.7.3-1 empty topic", Some(V311), "30 02 0000", 0x82),
        ("MQTT-2.2.1-3 packet id 0", Some(V5), "32 06 0001 61 0000 00", 0x81),
        ("MQTT-3.3.2-8 topic alias 0", Some(V5), "30 07 0001 61 03 23 0000", 0x94),
        ("subscription identifier 0", Some(V5), "30 06 0001 61 02 0B 00", 0x82),
        ("payload format 2", Some(V5), "30 06 0001 61 02 01 02", 0x82),
        ("message expiry twice", Some(V5), "30 0E 0001 61 0A 02 00000001 02 00000001", 0x82),
        ("unknown property", Some(V5), "30 06 0001 61 02 04 00", 0x81),
        ("property over 63", Some(V5), "30 06 0001 61 02 7F 00", 0x81),
        ("properties longer than the packet", Some(V5), "30 04 0001 61 05", 0x81),
        ("property over the properties' length", Some(V5), "30 09 0001 61 02 02 00000001", 0x81),
        ("MQTT-2.2.1-5 PUBACK's id 0", Some(V5), "40 02 0000", 0x81),
        ("PUBACK of length 1", Some(V5), "40 01 00", 0x81),
        ("MQTT-3.7.2-1 PUBCOMP with another's reason", Some(V5), "70 03 0001 97", 0x82),
        ("MQTT-3.5.2-1 PUBREC with another's reason", Some(V5), "50 03 0001 92", 0x82),
        ("MQTT-3.11.3-2 UNSUBACK with another's reason", Some(V5), "B0 04 0001 00 01", 0x82),
        ("MQTT-3.9.3-2 SUBACK with another's reason", Some(V5), "90 04 0001 00 03", 0x82),
        ("MQTT-3.4.2-1 PUBACK with another's reason", Some(V5), "40 03 0001 8E", 0x82),
        ("3.1.1 PUBACK of length 3", Some(V311), "40 03 0001 00", 0x81),
        ("MQTT-3.6.2-1 PUBREL with another's reason", Some(V5), "62 03 0001 97", 0x82),
        ("reason string twice", Some(V5), "40 0C 0001 00 08 1F 0001 61 1F 0001 61", 0x82),
        ("MQTT-3.8.3-2 SUBSCRIBE without filter", Some(V5), "82 03 0001 00", 0x82),
        ("3.1.1 MQTT-3.8.3-3 SUBSCRIBE without filter", Some(V311), "82 02 0001", 0x82),
        ("MQTT-3.8.3-5 reserved option bits", Some(V5), "82 07 0001 00 0001 61 40", 0x81),
        ("3.1.1 MQTT-3.8.3-4 reserved option bits", Some(V311), "82 06 0001 0001 61 04", 0x81),
        ("subscription QoS 3", Some(V5), "82 07 0001 00 0001 61 03", 0x81),
        ("retain handling 3", Some(V5), "82 07 0001 00 0001 61 30", 0x82),
        ("MQTT-3.8.3-4 no local and shared", Some(V5), "82 10 0001 00 000A 2473686172652F672F61 04", 0x82),
        ("MQTT-4.8.2-1 share without a name", Some(V5), "82 0F 0001 00 0009 2473686172652F2F61 00", 0x81),
        ("MQTT-4.7.1-1 multi-level wildcard", Some(V5), "82 08 0001 00 0002 6123 00", 0x81),
        ("MQTT-4.7.1-2 single-level wildcard", Some(V5), "82 08 0001 00 0002 612B 00", 0x81),
        (
            "MQTT-4.8.2-2 share name with a wildcard",
            Some(V5),
            "82 10 0001 00 000A 2473686172652F2B2F61 00",
            0x81,
        ),
        ("MQTT-4.7.3-1 empty filter", Some(V5), "82 06 0001 00 0000 00", 0x81),
        ("subscription identifier twice", Some(V5), "82 0B 0001 04 0B01 0B01 0001 61 00", 0x82),
        ("SUBACK without reason", Some(V5), "90 03 0001 00", 0x82),
        ("3.1.1 MQTT-3.9.3-2 SUBACK code", Some(V311), "90 03 0001 87", 0x82),
        ("MQTT-3.10.3-2 UNSUBSCRIBE without filter", Some(V5), "A2 03 0001 00", 0x82),
        ("PINGREQ with a body", Some(V5), "C0 01 00", 0x81),
        ("MQTT-3.14.2-1 DISCONNECT with another's reason", Some(V5), "E0 01 10", 0x82),
        ("3.1.1 DISCONNECT with a body", Some(V311), "E0 01 00", 0x81),
        ("MQTT-3.15.2-1 AUTH's reason", Some(V5), "F0 01 01", 0x82),
    ];
    for (what, version, hex, want) in table {
        match decode(&mut bytes(hex), version, BIG) {
            Err(e) => assert_eq!(e.reason, want, "{what}: {e}"),
            got => panic!("{what}: {got:?}"),
        }
    }
}

#[test]
fn short_forms_are_read() {
    let read = |hex| decode(&mut bytes(hex), Some(V5), BIG).unwrap().unwrap();
    assert_eq!(read("40 02 0001"), Packet::PubAck(Ack::new(1, 0)));
    assert_eq!(read("40 03 0001 83"), Packet::PubAck(Ack::new(1, 0x83)));
    assert_eq!(read("40 04 0001 83 00"), Packet::PubAck(Ack::new(1, 0x83)));
    assert_eq!(read("E0 00"), Packet::Disconnect(Disconnect::default()));
    assert_eq!(read("E0 02 00 00"), Packet::Disconnect(Disconnect::default()));
    assert_eq!(read("C0 80 00"), Packet::PingReq, "length in more bytes than needed");
}

#[test]
fn mqtt_4_3_1_1_no_dup_at_qos_0() {
    let packet = Packet::Publish(Box::new(Publish { dup: true, ..Publish::new("a", 0, "x") }));
    assert_eq!(encoded(&packet, V5), bytes("30 05 0001 61 00 78"));
}

#[test]
fn password_is_not_printed() {
    let mut p = Connect::new(V5, "c");
    p.password = Some(Bytes::from_static(b"s3cret"));
    p.user = user("token", "s3cret");
    let text = format!("{p:?} {:?}", Packet::Connect(Box::new(p.clone())));
    assert!(!text.contains("s3cret") && !text.contains("115, 51"), "{text}");
}

#[test]
fn size_is_judged_by_the_fixed_header() {
    // 128 MiB announced, five bytes there.
    let mut buf = bytes("30 FFFFFF 3F");
    assert_eq!(decode(&mut buf, Some(V5), BIG).unwrap_err().reason, 0x95);
    let mut buf = bytes("30 05 0001 61 00 78");
    assert_eq!(decode(&mut buf.clone(), Some(V5), 6).unwrap_err().reason, 0x95);
    assert!(decode(&mut buf, Some(V5), 7).unwrap().is_some());
}

#[test]
fn counts_are_bounded() {
    let mut p = Publish::new("a", 0, "");
    p.user = vec![(String::new(), String::new()); MAX_USER_PROPERTIES];
    let full = Packet::Publish(Box::new(p.clone()));
    assert_eq!(decode(&mut encoded(&full, V5), Some(V5), BIG), Ok(Some(full)));
    p.user.push(Default::default());
    let over = encoded(&Packet::Publish(Box::new(p)), V5);
    assert_eq!(decode(&mut over.clone(), Some(V5), BIG).unwrap_err().reason, 0x97);

    let filters = vec!["a".to_owned(); MAX_FILTERS + 1];
    let over =
        encoded(&Packet::Unsubscribe(Box::new(Unsubscribe { packet_id: 1, filters, user: vec![] })), V5);
    assert_eq!(decode(&mut over.clone(), Some(V5), BIG).unwrap_err().reason, 0x97);
}

#[test]
fn what_cannot_be_written_is_an_error_and_leaves_nothing() {
    let long = "x".repeat(65_536);
    let mut nul = Publish::new("a", 0, "");
    nul.user = user("a", "b\0");
    let mut no_id = Publish::new("a", 1, "");
    no_id.packet_id = 0;
    let mut anonymous = Connect::new(V311, "c");
    anonymous.password = Some(Bytes::from_static(b"p"));
    let empty = Subscribe { packet_id: 1, filters: Vec::new(), subscription_id: None, user: Vec::new() };
    let table = [
        (Packet::Publish(Box::new(Publish::new(long.clone(), 0, ""))), V5),
        (Packet::Connect(Box::new(Connect::new(V5, long))), V5),
        (Packet::Publish(Box::new(nul)), V5),
        (Packet::Publish(Box::new(no_id)), V5),
        (Packet::Publish(Box::new(Publish::new("a", 0, vec![0; 268_435_455]))), V5),
        (Packet::Connect(Box::new(anonymous)), V311),
        (Packet::Subscribe(Box::new(empty)), V5),
        (Packet::ConnAck(Box::new(ConnAck { reason: 0x81, ..ConnAck::default() })), V311),
        (Packet::Auth(0), V311),
    ];
    for (packet, version) in table {
        let mut out = BytesMut::from(&b"before"[..]);
        assert!(encode(&packet, version, &mut out).is_err());
        assert_eq!(out, b"before"[..]);
    }
}

#[test]
fn lengths_around_each_size_of_the_length_field() {
    for len in
        [0, 120, 121, 122, 123, 124, 125, 127, 128, 16_376, 16_379, 16_380, 16_384, 2_097_144, 2_097_160]
    {
        let packet = Packet::Publish(Box::new(Publish::new("a", 0, vec![7; len])));
        let mut out = encoded(&packet, V5);
        let total = out.len();
        assert_eq!(packet_len(&out), Some(total));
        assert_eq!(decode(&mut out, Some(V5), total), Ok(Some(packet)));
    }
}

#[test]
fn payload_shares_the_receive_buffer() {
    let packet = Packet::Publish(Box::new(Publish::new("a", 0, vec![7; 1000])));
    let mut buf = encoded(&packet, V5);
    let memory = buf.as_ptr() as usize..buf.as_ptr() as usize + buf.len();
    let Ok(Some(Packet::Publish(p))) = decode(&mut buf, Some(V5), BIG) else { panic!() };
    assert!(memory.contains(&(p.payload.as_ptr() as usize)));
}

#[test]
fn packets_one_after_another() {
    let packets: Vec<_> =
        golden().into_iter().filter(|g| g.1 == V5 && !matches!(g.0, Packet::Connect(_))).collect();
    let mut buf = BytesMut::new();
    for (packet, version, _) in &packets {
        encode(packet, *version, &mut buf).unwrap();
    }
    for (packet, ..) in packets {
        assert_eq!(decode(&mut buf, Some(V5), BIG), Ok(Some(packet)));
    }
    assert_eq!(decode(&mut buf, Some(V5), BIG), Ok(None));
}

#[test]
fn return_codes_of_v311() {
    for (reason, code, back) in
        [(0u8, 0u8, 0u8), (0x84, 1, 0x84), (0x85, 2, 0x85), (0x89, 3, 0x88), (0x86, 4, 0x86), (0x8A, 5, 0x87)]
    {
        let mut out = encoded(&Packet::ConnAck(Box::new(ConnAck { reason, ..ConnAck::default() })), V311);
        assert_eq!(out, [0x20, 2, 0, code][..]);
        let Ok(Some(Packet::ConnAck(p))) = decode(&mut out, Some(V311), BIG) else { panic!() };
        assert_eq!(p.reason, back);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_is_read(entropy in proptest::collection::vec(any::<u8>(), 0..400), v5 in any::<bool>()) {
        let version = if v5 { V5 } else { V311 };
        let packet = Gen(&entropy).packet(version);
        let mut out = BytesMut::new();
        encode(&packet, version, &mut out).unwrap();
        let total = out.len();
        out.extend_from_slice(b"next");
        prop_assert_eq!(decode(&mut out, version_for(&packet, version), total), Ok(Some(packet)));
        prop_assert_eq!(&out[..], b"next");
    }

    #[test]
    fn random_bytes_never_panic(body in proptest::collection::vec(any::<u8>(), 0..300), first: u8, which in 0..3) {
        let version = [None, Some(V5), Some(V311)][which as usize];
        let mut buf = BytesMut::from(&[first][..]);
        let mut head = [body.len() as u8 | 0x80, (body.len() >> 7) as u8];
        if body.len() < 128 { head[0] &= 0x7F; }
        buf.extend_from_slice(&head[..if body.len() < 128 { 1 } else { 2 }]);
        buf.extend_from_slice(&body);
        decode(&mut buf, version, BIG).unwrap_or_default();
        announced_level(&body);
        let mut raw = BytesMut::from(&body[..]);
        decode(&mut raw, version, BIG).unwrap_or_default();
    }

    #[test]
    fn bytes_changed_in_a_packet_never_panic(
        entropy in proptest::collection::vec(any::<u8>(), 0..200),
        changes in proptest::collection::vec((any::<u16>(), any::<u8>()), 1..4),
        v5 in any::<bool>(),
    ) {
        let version = if v5 { V5 } else { V311 };
        let packet = Gen(&entropy).packet(version);
        let mut out = BytesMut::new();
        encode(&packet, version, &mut out).unwrap();
        for (at, to) in changes {
            let len = out.len();
            out[usize::from(at) % len] = to;
        }
        decode(&mut out, version_for(&packet, version), BIG).unwrap_or_default();
    }
}

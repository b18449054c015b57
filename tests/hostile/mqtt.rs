//! Who speaks MQTT, and means no good by it.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use bytes::BytesMut;
use dts::mqtt::{self, Filter, Packet, Publish, QoS, Subscribe, Version, Will};

use super::Lab;
use crate::harness::*;

const V5: Version = Version::V5;

fn client(lab: &Lab) -> Mqtt {
    let mut client = Mqtt::plain(lab.centre.plain);
    assert_eq!(client.connect(connect_as("box-7", V5)).reason, 0);
    client
}

fn filter(filter: String) -> Filter {
    Filter { filter, qos: QoS::AtLeastOnce, no_local: false, retain_as_published: false, retain_handling: 0 }
}

/// QoS 0 with id 0, else QoS 1.
fn publish(id: u16) -> Packet {
    Packet::Publish(Box::new(Publish::new("t/hostile", id, "x")))
}

/// For the table's test: the name of a case that stands in a list.
fn row(name: &'static str) -> &'static str {
    name
}

fn with_alias(topic: &str, alias: u16) -> Vec<u8> {
    let mut publish = Publish::new(topic, 0, "x");
    publish.topic_alias = Some(alias.max(1));
    let mut bytes = BytesMut::new();
    mqtt::encode(&Packet::Publish(Box::new(publish)), V5, &mut bytes).unwrap();
    let mut bytes = bytes.to_vec();
    if alias == 0 {
        // What no codec writes: the property's two bytes are the last before the payload.
        let at = bytes.len() - 2;
        bytes[at] = 0;
    }
    bytes
}

#[test]
fn topic_aliases() {
    let mut lab = Lab::new("alias", "");
    let metric = ("dts_disconnects_total", "topic alias invalid");
    for (name, topic, alias, reason) in [
        (row("topic alias 0"), "t", 0, 0x94),
        (row("a topic alias over the maximum"), "t", 17, 0x94),
        (row("the greatest topic alias"), "t", u16::MAX, 0x94),
    ] {
        lab.case(name, metric, |lab| {
            let mut client = client(lab);
            client.send_bytes(&with_alias(topic, alias));
            assert_eq!(client.closed(), Some(reason), "{name}");
        });
    }
    lab.case("a topic alias that was never set", ("dts_disconnects_total", "protocol error"), |lab| {
        let mut client = client(lab);
        client.send_bytes(&with_alias("", 3));
        assert_eq!(client.closed(), Some(0x82));
    });
    lab.case(
        "every topic alias set to the longest topic, again and again",
        ("dts_messages_total", ""),
        |lab| {
            let before = lab.rss_kib();
            let mut client = client(lab);
            for n in 0..2000_u16 {
                client.send_bytes(&with_alias(&format!("{n:01024}"), n % 16 + 1));
            }
            client.send(&Packet::PingReq);
            assert_eq!(client.receive(), Some(Packet::PingResp));
            let grown = lab.rss_kib().saturating_sub(before);
            assert!(grown < 32 << 10, "{grown} KiB for 16 topics");
        },
    );
    lab.finish();
}

#[test]
fn greed() {
    let mut lab = Lab::new("greed", "");
    lab.case("100,000 subscriptions", ("dts_connects_total", ""), |lab| {
        let before = lab.rss_kib();
        let mut client = client(lab);
        let mut taken = 0;
        for n in 0..100 {
            let filters = (0..1000).map(|m| filter(format!("dts/v1/box-7/{n}/{m}"))).collect();
            let subscribe = Subscribe { packet_id: n + 1, filters, subscription_id: None, user: Vec::new() };
            client.send(&Packet::Subscribe(Box::new(subscribe)));
            match client.receive() {
                Some(Packet::SubAck(ack)) => {
                    taken += ack.reasons.iter().filter(|r| **r < 0x80).count();
                    assert!(ack.reasons.iter().all(|r| [0, 1, 0x97].contains(r)), "{:?}", &ack.reasons[..3]);
                }
                other => panic!("SUBACK is expected, {other:?} came"),
            }
        }
        assert_eq!(taken, 16, "the rest is told Quota exceeded");
        let grown = lab.rss_kib().saturating_sub(before);
        assert!(grown < 16 << 10, "{grown} KiB for 16 filters");
    });
    lab.case("more filters in a packet than are read", ("dts_disconnects_total", "quota exceeded"), |lab| {
        let mut client = client(lab);
        let filters = (0..1001).map(|m| filter(m.to_string())).collect();
        let subscribe = Subscribe { packet_id: 1, filters, subscription_id: None, user: Vec::new() };
        client.send(&Packet::Subscribe(Box::new(subscribe)));
        assert_eq!(client.closed(), Some(0x97));
    });
    lab.case(
        "more PUBLISHes at once than Receive Maximum",
        ("dts_disconnects_total", "receive maximum exceeded"),
        |lab| {
            let mut client = client(lab);
            let mut bytes = BytesMut::new();
            for id in 1..=20_000 {
                mqtt::encode(&publish(id), V5, &mut bytes).unwrap();
            }
            client.send_bytes(&bytes);
            let mut acks = 0;
            let reason = loop {
                match client.receive() {
                    Some(Packet::PubAck(_)) => acks += 1,
                    Some(Packet::Disconnect(d)) => break Some(d.reason),
                    None => break None,
                    other => panic!("{other:?}"),
                }
            };
            assert_eq!(reason, Some(0x93), "after {acks} answers");
        },
    );
    lab.case("giant user properties in CONNECT", ("dts_disconnects_total", "packet too large"), |lab| {
        let mut client = Mqtt::plain(lab.centre.plain);
        let mut connect = connect_as("box-7", V5);
        connect.user = vec![("k".repeat(60_000), "v".repeat(60_000)); 10];
        client.send(&Packet::Connect(Box::new(connect)));
        client.ends();
    });
    lab.case("giant user properties in PUBLISH", ("dts_disconnects_total", "packet too large"), |lab| {
        let mut client = client(lab);
        let mut publish = Publish::new("t", 0, "x");
        publish.user = vec![("k".repeat(60_000), "v".repeat(60_000)); 10];
        client.send(&Packet::Publish(Box::new(publish)));
        assert_eq!(client.closed(), Some(0x95));
    });
    lab.case("10,000 empty user properties", ("dts_disconnects_total", "quota exceeded"), |lab| {
        let mut client = client(lab);
        let mut publish = Publish::new("t", 0, "x");
        publish.user = vec![(String::new(), String::new()); 10_000];
        client.send(&Packet::Publish(Box::new(publish)));
        assert_eq!(client.closed(), Some(0x97));
    });
    lab.case("a will on a topic of another device", ("dts_connects_refused_total", "will"), |lab| {
        let mut client = Mqtt::plain(lab.centre.plain);
        let mut connect = connect_as("box-7", V5);
        connect.will = Some(Will::new("dts/v1/good/c".to_owned(), "x", QoS::AtMostOnce));
        assert_eq!(client.connect(connect).reason, 0x87);
    });
    lab.finish();
}

#[test]
fn floods() {
    let mut lab = Lab::new("flood", "  max_handshakes_per_s: 50\n");
    lab.case("a flood of QoS 0 PUBLISHes", ("dts_messages_total", ""), |lab| {
        let mut client = client(lab);
        let mut bytes = BytesMut::new();
        for _ in 0..1000 {
            mqtt::encode(&publish(0), V5, &mut bytes).unwrap();
        }
        for _ in 0..100 {
            client.send_bytes(&bytes);
        }
        client.send(&Packet::PingReq);
        assert_eq!(client.receive(), Some(Packet::PingResp));
    });
    lab.case("a flood of PINGREQs", ("dts_connects_total", ""), |lab| {
        let mut client = client(lab);
        for _ in 0..100 {
            client.send_bytes(&[0xc0, 0].repeat(1000));
            for _ in 0..1000 {
                assert_eq!(client.receive(), Some(Packet::PingResp));
            }
        }
    });
    lab.case("a flood of connections", ("dts_connects_refused_total", "rate"), |lab| {
        for _ in 0..10 {
            let to = SocketAddr::from((Ipv4Addr::LOCALHOST, lab.centre.tls));
            // What the kernel itself refuses was refused, too.
            let all: Vec<_> = (0..200)
                .filter_map(|_| TcpStream::connect_timeout(&to, Duration::from_secs(5)).ok())
                .collect();
            drop(all);
        }
    });
    lab.case("one name from two places, in turns", ("dts_takeovers_total", ""), |lab| {
        // Not faster than handshakes are let in.
        for _ in 0..10 {
            pause(100);
            let mut older = client(lab);
            let _newer = client(lab);
            assert_eq!(older.closed(), Some(0x8e));
        }
    });
    lab.finish();
}

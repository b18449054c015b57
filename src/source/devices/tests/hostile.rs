//! What bad input gets: that connection is closed with a reason, nothing is passed on, the others
//! do not notice.

use bytes::BytesMut;

use super::kit::*;
use super::session::Lab;
use crate::event::builtin::{Loss, image, loss, message};
use crate::event::{BatchBuilder, Op};
use crate::frame::{self, Codec, Header};
use crate::mqtt::{self, Packet, Publish, QoS, Version};

/// A payload of `…/c`, and what the device gets for it.
fn frames() -> Vec<(&'static str, Vec<u8>, Seen)> {
    let good = || FrameKit::new(1, 3, "a");
    let closed = Seen::Closed(0x99);
    let bent = |at: usize| {
        let mut bytes = good().bytes();
        bytes[at] ^= 0x40;
        bytes
    };
    let of = |change: fn(&mut frame::HeaderV1)| good().with(change).bytes();
    let bomb = || {
        let body = vec![0; 1 << 20];
        let mut kit = good();
        kit.header.body_len = body.len() as u32;
        kit.header.body_crc = crc32c::crc32c(&body);
        frame::encode(&Header::V1(kit.header), &body, Codec::Lz4).unwrap()
    };
    let liar = || {
        let body = vec![0; 1 << 16];
        let mut kit = good();
        kit.header.body_len = 64;
        frame::encode(&Header::V1(kit.header), &body, Codec::Lz4).unwrap()
    };
    let no_loss = || {
        // A row that says it is a loss, in the shape of a message.
        let mut rows = BatchBuilder::new("app".into());
        let values =
            crate::event::builtin::message_values("t", None, crate::event::builtin::Payload::Text("x"), None);
        rows.push(Op::Loss, 1, message(), None, image(&values)).unwrap();
        FrameKit::of(rows.finish(), 1, 1, vec![message().encode()]).bytes()
    };
    let odd_loss = || {
        let loss_row = Loss {
            lane: "data".into(),
            epoch: EPOCH,
            from: u64::MAX,
            to: 0,
            reason: "made up".into(),
            exact: true,
            rows: u64::MAX,
        };
        let mut rows = BatchBuilder::new("app".into());
        let values = loss_row.values();
        rows.push(Op::Loss, 1, loss(), None, image(&values)).unwrap();
        FrameKit::of(rows.finish(), 1, 1, vec![loss().encode()])
    };
    vec![
        ("nothing", Vec::new(), closed.clone()),
        ("garbage", b"garbage garbage garbage".to_vec(), closed.clone()),
        ("another magic", bent(0), closed.clone()),
        ("a newer version", bent(2), closed.clone()),
        ("a bad checksum", bent(30), closed.clone()),
        ("cut short", good().bytes()[..40].to_vec(), closed.clone()),
        ("a bomb", bomb(), Seen::Closed(0x95)),
        ("a bomb that lies", liar(), closed.clone()),
        ("fewer rows than it says", of(|h| h.rows = 9), closed.clone()),
        ("rows beyond its last", of(|h| h.last_seq = 2), closed.clone()),
        ("first after last", of(|h| h.first_seq = 9), closed.clone()),
        ("no end of numbers", of(|h| h.last_seq = u64::MAX), closed.clone()),
        ("a lane that is no name", of(|h| h.lane = "a/b".into()), closed.clone()),
        ("an endless source", of(|h| h.source = "x".repeat(200)), closed.clone()),
        ("an unknown clock", of(|h| h.clock = 7), closed.clone()),
        ("a malformed shape", of(|h| h.tables = vec![vec![0xff; 9]]), closed.clone()),
        ("a loss that is none", no_loss(), closed),
        ("a loss of everything", odd_loss().bytes(), Seen::Acked(1, 0)),
    ]
}

#[test]
fn every_bad_frame_closes_its_connection_and_nothing_is_passed_on() {
    for (what, payload, want) in frames() {
        let mut lab = Lab::new();
        let other = lab.connect("other", agent("other", 1));
        let id = lab.connect("box", agent("box", 1));
        lab.publish(id, Publish::new("dts/v1/box/c", 1, payload), 1);
        if want == Seen::Acked(1, 0) {
            lab.sink(1, Ok(()));
        }
        assert_eq!(lab.seen(id), [Seen::Connected, want.clone()], "{what}");
        assert!(lab.work.is_empty(), "{what} is passed on");
        if want != Seen::Acked(1, 0) {
            assert!(lab.session(id).is_closed(), "{what}");
        }
        // The rest is undisturbed.
        lab.publish(other, FrameKit::new(1, 2, "o").publish("other"), 1);
        lab.sink(1, Ok(()));
        assert_eq!(lab.seen(other), [Seen::Connected, Seen::Acked(1, 0)], "{what}");
        // And the device, well again, is welcome.
        let id = lab.connect("box", agent("box", 1));
        assert_eq!(lab.seen(id), [Seen::Connected], "{what}");
    }
}

#[test]
fn what_was_read_behind_a_bad_frame_is_not_passed_on() {
    let mut lab = Lab::new();
    let id = lab.connect("box", agent("box", 1));
    let mut bytes = BytesMut::new();
    for (n, payload) in [b"garbage".to_vec(), FrameKit::new(1, 3, "a").bytes()].into_iter().enumerate() {
        let publish = Publish { packet_id: n as u16 + 1, ..Publish::new("dts/v1/box/c", 1, payload) };
        mqtt::encode(&Packet::Publish(Box::new(publish)), Version::V5, &mut bytes).unwrap();
    }
    let now = crate::source::devices::session::Now { mono: lab.now, wall_us: 0 };
    lab.session(id).receive(now, &bytes);
    lab.run();
    assert!(lab.session(id).is_closed() && lab.work.is_empty());
}

#[test]
fn bytes_that_are_no_mqtt_end_the_connection() {
    let now = crate::runtime::Mono(1_000_000);
    for (what, bytes) in [
        ("HTTP", &b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..]),
        ("TLS on the plain port", &[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]),
        ("a PUBLISH first", &[0x30, 5, 0, 1, b'a', b'x', b'y']),
        ("an endless length", &[0x10, 0xff, 0xff, 0xff, 0xff, 0xff]),
        ("a CONNECT of 256 MiB", &[0x10, 0xff, 0xff, 0xff, 0x7f, 0, 4, b'M', b'Q', b'T', b'T', 5]),
        ("another protocol", &[0x10, 12, 0, 4, b'M', b'Q', b'T', b'X', 4, 2, 0, 60, 0, 0]),
    ] {
        let mut lab = Lab::new();
        let peer = crate::source::devices::session::Peer {
            address: "127.0.0.1:9".parse().unwrap(),
            transport: "tcp",
            certificate: None,
        };
        let place = crate::source::devices::admit::Place::Seat;
        let mut session = crate::source::devices::session::Session::new(9, peer, place, &lab.hub, now);
        let now = crate::source::devices::session::Now { mono: now, wall_us: 0 };
        session.receive(now, bytes);
        while session.turn(now, &mut lab.hub) {}
        assert!(session.is_closed(), "{what}");
    }
}

#[test]
fn a_message_larger_than_a_row_is_refused_and_the_connection_goes_on() {
    let mut lab = Lab::new();
    let id = lab.connect("box", connect("box", Version::V5));
    lab.publish(id, Publish::new("a", 1, vec![b'x'; 40 << 10]), 1);
    assert_eq!(lab.seen(id), [Seen::Connected, Seen::Acked(1, 0x99)]);
    lab.publish(id, Publish { qos: QoS::AtLeastOnce, ..Publish::new("a", 1, "x") }, 2);
    lab.sink(1, Ok(()));
    assert_eq!(lab.seen(id), [Seen::Acked(2, 0)]);
}

#[test]
fn one_lane_too_many_is_set_aside() {
    let mut lab = Lab::new();
    let id = lab.connect("box", agent("box", 1));
    for n in 0..5 {
        let frame = FrameKit::message(1, "x").with(|h| h.lane = format!("lane{n}"));
        lab.send(id, &frame, n);
    }
    lab.sink(4, Ok(()));
    let acked = (0..5).map(|n| Seen::Acked(n, if n < 4 { 0 } else { 0x99 })).collect::<Vec<_>>();
    assert_eq!(lab.seen(id)[1..], acked);
}

#[test]
fn damaged_streams_pass_on_nothing_but_whole_frames() {
    use crate::source::devices::admit::Place;
    use crate::source::devices::auth::DeviceName;
    use crate::source::devices::session::{Now, Peer, Session};

    let mut stream = BytesMut::new();
    let mut put = |packet| mqtt::encode(&packet, Version::V5, &mut stream).unwrap();
    put(Packet::Connect(Box::new(agent("box", 1))));
    let mut whole = Vec::new();
    for n in 0..6u64 {
        let frame = FrameKit::new(n * 3 + 1, n * 3 + 3, "a");
        whole.push(frame.body.clone());
        put(Packet::Publish(Box::new(Publish { packet_id: n as u16 + 1, ..frame.publish("box") })));
    }
    let (mut passed, mut closed) = (0, 0);
    for seed in 0..3000 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut bytes = stream.to_vec();
        for _ in 0..rng.usize(1..4) {
            match rng.u8(0..3) {
                0 => bytes[rng.usize(..stream.len() - 9)] ^= 1 << rng.u8(0..8),
                1 => drop(bytes.remove(rng.usize(..stream.len() - 9))),
                _ => bytes.insert(rng.usize(..stream.len() - 9), rng.u8(..)),
            }
        }
        let mut lab = Lab::new();
        let certificate = Some(DeviceName::new("box"));
        let peer = Peer { address: "127.0.0.1:9".parse().unwrap(), transport: "tcp", certificate };
        let mut session = Session::new(1, peer, Place::Seat, &lab.hub, lab.now);
        let now = Now { mono: lab.now, wall_us: 0 };
        let mut rest = &bytes[..];
        while !rest.is_empty() && !session.is_closed() {
            let (some, more) = rest.split_at(rng.usize(1..=rest.len().min(200)));
            rest = more;
            session.receive(now, some);
            while session.turn(now, &mut lab.hub) {}
            while session.poll_transmit().is_some() {}
        }
        while let Some(work) = lab.hub.poll_work() {
            if work.mark.is_some() {
                assert!(whole.contains(&work.batch.body), "seed {seed}: {:?}", work.batch);
                passed += 1;
            }
        }
        closed += u32::from(session.is_closed());
    }
    // Frames before the damage came through; most of the damage was seen.
    assert!(passed > 1000 && closed > 2000, "{passed} {closed}");
}

//! Sessions, their hub and `mqtt::Client`s, over bytes in memory and a clock that the test turns.

use std::collections::BTreeMap;
use std::time::Duration;

use super::kit::*;
use crate::clock::Stamp;
use crate::event::{BatchBuilder, Origin};
use crate::mqtt::{Client, ClientEvent, ConnAck, Connect, Disconnect, Publish, QoS, Version, Will};
use crate::runtime::Mono;
use crate::sink::{Claimed, Mark};
use crate::source::Refused;
use crate::source::devices::admit::Place;
use crate::source::devices::auth::{Denied, DeviceName, Identity};
use crate::source::devices::hub::{Hub, Options, Work};
use crate::source::devices::session::{Now, Peer, Session};

pub(super) struct Lab {
    pub(super) hub: Hub,
    pub(super) now: Mono,
    ends: BTreeMap<u64, End>,
    /// What the sinks were given and have not answered.
    pub(super) work: Vec<Work>,
    /// Rows that the sinks hold, and marks.
    pub(super) durable: Vec<String>,
    pub(super) marks: Vec<Mark>,
    /// Sessions that wait for their number: device, connection.
    claims: Vec<(std::sync::Arc<str>, u64)>,
}

struct End {
    client: Client,
    session: Session,
    connack: Option<ConnAck>,
    last: Option<Disconnect>,
    user: Vec<(String, String)>,
}

impl Lab {
    pub(super) fn new() -> Self {
        Self::with(options(), &[])
    }

    pub(super) fn with(options: Options, marks: &[Mark]) -> Self {
        let stamp = Stamp::new(|| 7 << 16);
        let hub = Hub::new(options, marks, stamp, fastrand::Rng::with_seed(7));
        Self {
            hub,
            now: Mono(1_000_000),
            ends: BTreeMap::new(),
            work: Vec::new(),
            durable: Vec::new(),
            marks: Vec::new(),
            claims: Vec::new(),
        }
    }

    /// Answers the oldest claim.
    fn claimed(&mut self, result: Result<Claimed, String>) {
        let (_, connection) = self.claims.remove(0);
        let now = self.time();
        self.ends.get_mut(&connection).unwrap().session.claimed(now, result, &mut self.hub);
        self.run();
    }

    fn time(&self) -> Now {
        Now { mono: self.now, wall_us: self.now.0 as i64 + 1_700_000_000_000_000 }
    }

    /// Connects a client whose certificate names `device`.
    pub(super) fn connect(&mut self, device: &str, connect: Connect) -> u64 {
        self.connect_as(Some(DeviceName::new(device)), Place::Seat, connect)
    }

    pub(super) fn connect_as(
        &mut self,
        certificate: Option<Result<DeviceName, Denied>>,
        place: Place,
        connect: Connect,
    ) -> u64 {
        let id = self.ends.len() as u64 + 1;
        let peer = Peer { address: "127.0.0.1:9".parse().unwrap(), transport: "tcp", certificate };
        let session = Session::new(id, peer, place, &self.hub, self.now);
        let client = client(connect, self.now);
        self.ends.insert(id, End { client, session, connack: None, last: None, user: Vec::new() });
        self.run();
        id
    }

    /// Moves bytes, turns, mail until nothing moves.
    pub(super) fn run(&mut self) {
        let now = self.time();
        loop {
            let mut moved = false;
            while let Some((id, mail)) = self.hub.poll_mail() {
                if let Some(end) = self.ends.get_mut(&id) {
                    end.session.mail(now, mail, &mut self.hub);
                    moved = true;
                }
            }
            for end in self.ends.values_mut() {
                if end.session.wants_read()
                    && let Some(bytes) = end.client.poll_transmit()
                {
                    end.session.receive(now, &bytes);
                    moved = true;
                }
                while end.session.turn(now, &mut self.hub) {}
                if let Some(device) = end.session.poll_claim() {
                    self.claims.push((device, end.session.id()));
                }
                while let Some(bytes) = end.session.poll_transmit() {
                    // The test looks at the events.
                    end.client.receive(now.mono, &bytes).ok();
                    moved = true;
                }
            }
            while let Some(work) = self.hub.poll_work() {
                self.work.push(work);
                moved = true;
            }
            if !moved {
                break;
            }
        }
    }

    pub(super) fn seen(&mut self, id: u64) -> Vec<Seen> {
        let end = self.ends.get_mut(&id).unwrap();
        let mut seen = Vec::new();
        while let Some(event) = end.client.poll_event() {
            match &event {
                ClientEvent::Connected(c) | ClientEvent::Refused(c) => end.connack = Some((**c).clone()),
                ClientEvent::Closed(d) => end.last = Some(d.clone()),
                ClientEvent::Acked { ack, .. } => end.user.clone_from(&ack.user),
                _ => {}
            }
            seen.push(Seen::of(event));
        }
        seen
    }

    pub(super) fn session(&mut self, id: u64) -> &mut Session {
        &mut self.ends.get_mut(&id).unwrap().session
    }

    /// A user property of the last CONNACK, DISCONNECT or PUBACK.
    fn property(&self, id: u64, name: &str) -> Vec<String> {
        let end = &self.ends[&id];
        let all =
            [end.connack.as_ref().map(|c| &c.user), end.last.as_ref().map(|d| &d.user), Some(&end.user)];
        let all = all.into_iter().flatten().flatten();
        all.filter(|(n, _)| n == name).map(|(_, v)| v.clone()).collect()
    }

    pub(super) fn publish(&mut self, id: u64, publish: Publish, token: u64) {
        self.ends.get_mut(&id).unwrap().client.publish(publish, token).unwrap();
        self.run();
    }

    pub(super) fn send(&mut self, id: u64, frame: &FrameKit, token: u64) {
        self.publish(id, frame.publish("box"), token);
    }

    /// The sinks answer for the oldest `n` batches.
    pub(super) fn sink(&mut self, n: usize, result: Result<(), Refused>) {
        for work in self.work.drain(..n).collect::<Vec<_>>() {
            if result.is_ok() {
                for row in &work.batch {
                    self.durable.push(work.batch.row_id(row.unwrap().head().ordinal));
                }
                self.marks.extend(work.mark);
            }
            self.hub.resolved(work.then, result.clone());
        }
        self.run();
    }

    fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
        let now = self.time();
        for end in self.ends.values_mut() {
            if end.session.poll_timeout().is_some_and(|at| at <= self.now) {
                end.session.handle_timeout(now, &mut self.hub);
            }
        }
        self.run();
    }
}

fn seqs(lab: &Lab) -> Vec<u64> {
    lab.durable.iter().map(|id| id.rsplit('/').next().unwrap().parse().unwrap()).collect()
}

fn mark(seq: u64, crc: u32) -> Mark {
    Mark { device: "box".into(), lane: "data".into(), epoch: EPOCH, seq, crc, session: 41 }
}

#[test]
fn a_frame_is_answered_when_the_sinks_have_it() {
    let mut lab = Lab::new();
    let id = lab.connect("box", agent("box", 1));
    assert_eq!(lab.seen(id), [Seen::Connected]);
    lab.send(id, &FrameKit::new(1, 3, "a"), 10);
    // The shape was told with the first frame.
    lab.send(id, &FrameKit::new(4, 5, "a").with(|h| h.tables.clear()), 11);
    assert_eq!(lab.seen(id), []);
    assert_eq!(lab.work.len(), 2);
    let batch = &lab.work[0].batch;
    let Origin::Device { device, lane, epoch, first_seq, last_seq } = &batch.origin else { panic!() };
    assert_eq!((&**device, &**lane, *epoch, *first_seq, *last_seq), ("box", "data", EPOCH, 1, 3));
    lab.sink(2, Ok(()));
    assert_eq!(lab.seen(id), [Seen::Acked(10, 0), Seen::Acked(11, 0)]);
    assert_eq!(seqs(&lab), [1, 2, 3, 4, 5]);
    assert_eq!(lab.durable[0], format!("box/data/{EPOCH:016x}/1"));
    assert_eq!((lab.marks[1].seq, lab.marks[1].session), (5, 1));
}

#[test]
fn connack_tells_a_device_where_it_stands_and_a_plain_client_nothing() {
    let mut lab = Lab::with(options(), &[mark(9, 0xab)]);
    let id = lab.connect("box", agent("box", 1));
    assert_eq!(lab.seen(id), [Seen::Connected]);
    assert_eq!(lab.property(id, "dts"), ["1"]);
    assert_eq!(lab.property(id, "dts-mark"), [format!("data/{EPOCH:016x}/9/000000ab")]);
    assert_eq!(lab.property(id, "dts-epoch"), ["3"]);
    assert_eq!(lab.property(id, "dts-session"), ["42"]);
    assert_eq!(lab.property(id, "dts-max-body"), ["65536"]);
    assert_eq!(lab.property(id, "dts-time"), ["1700000001000000"]);
    let plain = lab.connect("box", connect("box", Version::V5));
    assert_eq!(lab.seen(plain), [Seen::Connected]);
    assert_eq!(lab.property(plain, "dts"), Vec::<String>::new());
}

#[test]
fn a_frame_resent_on_a_new_connection_waits_for_its_first_copy() {
    let mut lab = Lab::new();
    let old = lab.connect("box", agent("box", 1));
    lab.send(old, &FrameKit::new(1, 3, "a"), 10);
    let new = lab.connect("box", agent("box", 1));
    assert_eq!(lab.seen(old), [Seen::Connected, Seen::Closed(0x8e)]);
    lab.send(new, &FrameKit::new(1, 3, "a"), 20);
    assert_eq!(lab.seen(new), [Seen::Connected]);
    assert_eq!(lab.work.len(), 1, "handed on once");
    lab.sink(1, Ok(()));
    assert_eq!(lab.seen(new), [Seen::Acked(20, 0)]);
    lab.send(new, &FrameKit::new(1, 3, "a"), 21);
    assert_eq!(lab.seen(new), [Seen::Acked(21, 0)], "durable: answered at once");
    assert_eq!(seqs(&lab), [1, 2, 3]);
}

#[test]
fn after_a_restart_the_marks_drop_what_was_durable_and_cut_what_was_in_part() {
    let first = FrameKit::new(1, 3, "a");
    let mut lab = Lab::with(options(), &[mark(3, first.header.body_crc)]);
    let id = lab.connect("box", agent("box", 1));
    lab.send(id, &first, 1);
    assert_eq!(lab.seen(id), [Seen::Connected, Seen::Acked(1, 0)]);
    lab.send(id, &FrameKit::new(2, 6, "a"), 2);
    lab.sink(1, Ok(()));
    assert_eq!(lab.seen(id), [Seen::Acked(2, 0)]);
    assert_eq!(seqs(&lab), [4, 5, 6], "2 and 3 were durable");
}

#[test]
fn a_compacted_frame_that_is_cut_keeps_its_numbers() {
    let mut lab = Lab::with(options(), &[mark(3, 9)]);
    let id = lab.connect("box", agent("box", 1));
    let whole = FrameKit::new(1, 9, "a");
    let batch = whole.batch();
    let mut holes = BatchBuilder::new("app".into());
    for (ordinal, row) in batch.iter().enumerate().filter(|(n, _)| [1, 4, 7].contains(n)) {
        holes.push_row_at(&row.unwrap(), ordinal as u64).unwrap();
    }
    lab.send(id, &FrameKit::of(holes.finish(), 1, 9, whole.header.tables), 1);
    lab.sink(1, Ok(()));
    assert_eq!(lab.seen(id), [Seen::Connected, Seen::Acked(1, 0)]);
    assert_eq!(seqs(&lab), [5, 8], "2 was durable");
    assert_eq!(lab.marks[0].seq, 9);
}

#[test]
fn what_the_engine_refuses_comes_again() {
    let mut lab = Lab::new();
    let id = lab.connect("box", agent("box", 1));
    lab.send(id, &FrameKit::new(1, 3, "a"), 1);
    lab.send(id, &FrameKit::new(4, 6, "a"), 2);
    lab.sink(2, Err(Refused::Busy("disk full".into())));
    assert_eq!(lab.seen(id), [Seen::Connected, Seen::Acked(1, 0x97), Seen::Acked(2, 0x97)]);
    lab.send(id, &FrameKit::new(4, 6, "a"), 3);
    assert_eq!(lab.seen(id), [Seen::Acked(3, 0x97)], "not past the hole");
    lab.send(id, &FrameKit::new(1, 3, "a"), 4);
    lab.send(id, &FrameKit::new(4, 6, "a"), 5);
    lab.sink(2, Ok(()));
    assert_eq!(lab.seen(id), [Seen::Acked(4, 0), Seen::Acked(5, 0)]);
}

#[test]
fn an_unknown_shape_is_asked_for() {
    let mut lab = Lab::new();
    let id = lab.connect("box", agent("box", 1));
    lab.send(id, &FrameKit::new(1, 3, "a").with(|h| h.tables.clear()), 1);
    assert_eq!(lab.seen(id), [Seen::Connected, Seen::Acked(1, 0x83)]);
    assert_eq!(lab.property(id, "dts-need"), ["tables"]);
    lab.send(id, &FrameKit::new(1, 3, "a"), 2);
    lab.sink(1, Ok(()));
    assert_eq!(lab.seen(id), [Seen::Acked(2, 0)]);
}

#[test]
fn a_fork_ends_the_connection_and_in_the_end_the_frame_is_set_aside() {
    let mut lab = Lab::new();
    let id = lab.connect("box", agent("box", 1));
    lab.send(id, &FrameKit::new(1, 3, "a"), 1);
    lab.sink(1, Ok(()));
    lab.send(id, &FrameKit::new(1, 3, "b"), 2);
    assert_eq!(lab.seen(id)[2..], [Seen::Closed(0x83)]);
    assert_eq!(lab.property(id, "dts-fork"), [format!("data/{EPOCH:016x}/1")]);
    // A device that does not see it for itself does not reconnect without end.
    let id = lab.connect("box", agent("box", 1));
    lab.send(id, &FrameKit::new(1, 3, "b"), 2);
    assert_eq!(lab.seen(id), [Seen::Connected, Seen::Closed(0x83)]);
    let id = lab.connect("box", agent("box", 1));
    lab.send(id, &FrameKit::new(1, 3, "b"), 2);
    assert_eq!(lab.seen(id), [Seen::Connected, Seen::Acked(2, 0x99)]);
    assert_eq!(seqs(&lab), [1, 2, 3]);
}

#[test]
fn a_device_publishes_and_subscribes_only_as_itself() {
    let mut lab = Lab::new();
    let id = lab.connect("box", agent("box", 1));
    lab.publish(id, FrameKit::new(1, 1, "a").publish("other"), 1);
    lab.publish(id, Publish::new("dts/v1/box/w", 1, "{}"), 2);
    lab.publish(id, Publish::new("$SYS/x", 1, "{}"), 3);
    lab.publish(id, Publish::new("dts/x", 1, "{}"), 4);
    let refused = [Seen::Acked(1, 0x87), Seen::Acked(2, 0x90), Seen::Acked(3, 0x90), Seen::Acked(4, 0x87)];
    assert_eq!(lab.seen(id)[1..], refused);
    assert!(lab.work.is_empty());
    let filters =
        ["dts/v1/box/w", "dts/v1/box/#", "dts/v1/other/w", "#", "dts/v1/+/w", "dts/v1/boxer/w", "x"];
    let filters: Vec<_> = filters.iter().map(|f| (*f, QoS::AtLeastOnce)).collect();
    lab.ends.get_mut(&id).unwrap().client.subscribe(&filters).unwrap();
    lab.run();
    assert_eq!(lab.seen(id)[0], Seen::Subscribed(vec![0, 0, 0x87, 0x87, 0x87, 0x87, 0x87]));
    // QoS 0 has no answer: the connection ends.
    lab.publish(id, Publish { qos: QoS::AtMostOnce, ..Publish::new("dts/v1/other/s", 0, "{}") }, 0);
    assert_eq!(lab.seen(id).last(), Some(&Seen::Closed(0x87)));
    // 3.1.1 has no reason: the connection ends.
    let old = lab.connect("box", connect("box:old", Version::V311));
    lab.publish(old, Publish::new("dts/v1/other/s", 1, "{}"), 1);
    assert!(lab.session(old).is_closed() && lab.work.is_empty());
}

#[test]
fn plain_clients_of_both_versions_publish_messages() {
    for version in [Version::V5, Version::V311] {
        let mut lab = Lab::new();
        let id = lab.connect("box", connect("", version));
        lab.publish(id, Publish::new("room/1", 1, r#"{"t":20}"#), 1);
        lab.publish(id, Publish { qos: QoS::AtMostOnce, ..Publish::new("room/2", 0, "x") }, 0);
        assert_eq!(lab.seen(id), [Seen::Connected]);
        lab.sink(2, Ok(()));
        assert_eq!(lab.seen(id), [Seen::Acked(1, 0)]);
        assert_eq!(lab.marks, [], "no watermark: a packet id means nothing beyond its connection");
        assert!(
            lab.durable[0].starts_with("box/mqtt/") && lab.durable[0].ends_with("/1"),
            "{}",
            lab.durable[0]
        );
        assert!(lab.durable[1].ends_with("/2"));
    }
}

#[test]
fn a_3_1_1_client_whose_message_is_refused_is_closed() {
    let mut lab = Lab::new();
    let id = lab.connect("box", connect("box", Version::V311));
    lab.publish(id, Publish::new("a", 1, "x"), 1);
    lab.sink(1, Err(Refused::Busy("full".into())));
    assert_eq!(lab.seen(id), [Seen::Connected]);
    assert!(lab.session(id).is_closed());
}

#[test]
fn a_will_becomes_a_message_when_the_connection_breaks_and_not_at_a_goodbye() {
    let will = |topic: &str| Will {
        topic: topic.into(),
        payload: "gone".into(),
        qos: QoS::AtLeastOnce,
        retain: true,
        delay_s: 0,
        payload_is_utf8: false,
        message_expiry_s: None,
        content_type: None,
        response_topic: None,
        correlation_data: None,
        user: Vec::new(),
    };
    let with_will = |topic| Connect { will: Some(will(topic)), ..agent("box", 1) };
    let mut lab = Lab::new();
    let id = lab.connect("box", with_will("dts/v1/box/s"));
    let now = lab.time();
    let Lab { hub, ends, .. } = &mut lab;
    ends.get_mut(&id).unwrap().session.gone(now, hub);
    lab.run();
    assert_eq!(lab.work.len(), 1);
    let id = lab.connect("box", with_will("dts/v1/box/s"));
    lab.ends.get_mut(&id).unwrap().client.disconnect(0);
    lab.run();
    assert!(lab.session(id).is_closed());
    assert_eq!(lab.work.len(), 1);
    // Its own newer connection shows that it lives.
    let old = lab.connect("box", with_will("dts/v1/box/s"));
    lab.connect("box", with_will("dts/v1/box/s"));
    assert!(lab.session(old).is_closed());
    assert_eq!(lab.work.len(), 1);
    let foreign = lab.connect("box", with_will("dts/v1/other/s"));
    assert_eq!(lab.seen(foreign), [Seen::Refused(0x87)]);
}

#[test]
fn the_time_is_told_to_who_asks() {
    let mut lab = Lab::new();
    let id = lab.connect("box", agent("box", 1));
    lab.ends.get_mut(&id).unwrap().client.subscribe(&[("dts/v1/box/t", QoS::AtMostOnce)]).unwrap();
    lab.run();
    lab.publish(
        id,
        Publish { qos: QoS::AtMostOnce, ..Publish::new("dts/v1/box/p", 0, 77u64.to_le_bytes().to_vec()) },
        0,
    );
    let wall = lab.time().wall_us.to_le_bytes();
    let answer = [&77u64.to_le_bytes()[..], &wall, &wall].concat();
    assert_eq!(lab.seen(id)[2..], [Seen::Message("dts/v1/box/t".into(), answer)]);
    assert!(lab.work.is_empty());
}

#[test]
fn watermarks_are_published_at_most_every_second() {
    let mut lab = Lab::new();
    let id = lab.connect("box", agent("box", 1));
    lab.ends.get_mut(&id).unwrap().client.subscribe(&[("dts/v1/box/w", QoS::AtLeastOnce)]).unwrap();
    lab.run();
    let told = |lab: &mut Lab| -> Vec<String> {
        let seen = lab.seen(id);
        let json = |s| if let Seen::Message(_, json) = s { String::from_utf8(json).ok() } else { None };
        seen.into_iter().filter_map(json).collect()
    };
    assert_eq!(told(&mut lab), [r#"{"marks":[]}"#], "as a retained message");
    let mut crc = 0;
    for n in 1..=3 {
        let frame = FrameKit::new(n, n, "a");
        crc = frame.header.body_crc;
        lab.send(id, &frame, n);
        lab.sink(1, Ok(()));
    }
    assert_eq!(told(&mut lab), Vec::<String>::new());
    lab.pass(Duration::from_secs(1));
    let json = format!(r#"{{"marks":[{{"crc":"{crc:08x}","epoch":"{EPOCH:016x}","lane":"data","seq":3}}]}}"#);
    assert_eq!(told(&mut lab), [json]);
    lab.pass(Duration::from_secs(5));
    assert_eq!(told(&mut lab), Vec::<String>::new(), "nothing moved");
}

#[test]
fn a_second_installation_is_told_and_waits_its_turn() {
    let mut lab = Lab::new();
    let one = lab.connect("box", agent("box", 0x11));
    let two = lab.connect("box", agent("box", 0x22));
    assert_eq!(lab.seen(one), [Seen::Connected, Seen::Closed(0x8e)]);
    assert_eq!(lab.property(one, "dts-conflict"), ["0000000000000022"]);
    assert_eq!(lab.seen(two), [Seen::Connected]);
    let one = lab.connect("box", agent("box", 0x11));
    assert_eq!(lab.seen(one), [Seen::Refused(0x89)]);
    assert_eq!(lab.property(one, "dts-conflict"), ["0000000000000022"]);
    let wait: u64 = lab.property(one, "retry_after_ms")[0].parse().unwrap();
    assert!((60_000..120_000).contains(&wait), "{wait}");
    lab.pass(Duration::from_secs(61));
    let one = lab.connect("box", agent("box", 0x11));
    assert_eq!(lab.seen(one), [Seen::Connected]);
}

#[test]
fn who_is_nobody_is_refused() {
    let mut lab = Lab::new();
    let mut refused = |certificate, connect| {
        let id = lab.connect_as(certificate, Place::Seat, connect);
        let seen = lab.seen(id);
        assert!(lab.session(id).is_closed());
        seen
    };
    let named = |n: &str| Some(DeviceName::new(n));
    assert_eq!(refused(Some(Err(Denied::BadCertificate)), agent("box", 1)), [Seen::Refused(0x87)]);
    assert_eq!(refused(named("other"), agent("box", 1)), [Seen::Refused(0x85)]);
    // 3.1.1 knows fewer reasons: identifier rejected is 2.
    assert_eq!(refused(named("box"), connect("mosq-1", Version::V311)), [Seen::Refused(0x85)]);
}

#[test]
fn without_a_certificate_user_and_password_are_checked_elsewhere() {
    let mut lab = Lab::new();
    let with = |password: &str| Connect {
        username: Some("box".into()),
        password: Some(password.as_bytes().to_vec().into()),
        ..connect("", Version::V5)
    };
    let id = lab.connect_as(None, Place::Seat, with("secret"));
    let check = lab.session(id).poll_check().unwrap();
    assert_eq!(check.user.as_deref(), Some("box"));
    assert_eq!(check.password.as_deref().map(|p| &p[..]), Some(&b"secret"[..]));
    assert!(!format!("{check:?}").contains(&format!("{:?}", b"secret")));
    assert!(!lab.session(id).wants_read(), "nothing is taken before");
    let now = lab.time();
    let identity =
        Identity { device: DeviceName::new("box").unwrap(), until_us: Some(now.wall_us + 30_000_000) };
    let Lab { hub, ends, .. } = &mut lab;
    ends.get_mut(&id).unwrap().session.checked(now, Ok(identity), hub);
    lab.run();
    assert_eq!(lab.seen(id), [Seen::Connected]);
    // What was shown ends.
    lab.pass(Duration::from_secs(29));
    assert_eq!(lab.seen(id), []);
    lab.pass(Duration::from_secs(1));
    assert_eq!(lab.seen(id), [Seen::Closed(0xa0)]);
    let id = lab.connect_as(None, Place::Seat, with("wrong"));
    let now = lab.time();
    let Lab { hub, ends, .. } = &mut lab;
    ends.get_mut(&id).unwrap().session.checked(now, Err(Denied::WrongPassword), hub);
    lab.run();
    assert_eq!(lab.seen(id), [Seen::Refused(0x86)]);
    // A check that is never answered.
    let id = lab.connect_as(None, Place::Seat, with("late"));
    lab.pass(Duration::from_secs(10));
    assert_eq!(lab.seen(id), [Seen::Refused(0x88)]);
}

#[test]
fn the_lobby_is_told_to_come_later() {
    let mut lab = Lab::new();
    let id = lab.connect_as(Some(DeviceName::new("box")), Place::Lobby, agent("box", 1));
    assert_eq!(lab.seen(id), [Seen::Refused(0x89)]);
    let wait: u64 = lab.property(id, "retry_after_ms")[0].parse().unwrap();
    assert!((5_000..10_000).contains(&wait), "{wait}");
}

#[test]
fn a_client_with_too_much_on_its_way_is_held_back_then_told_and_comes_well_again() {
    let mut lab = Lab::new();
    let id = lab.connect("box", connect("box", Version::V5));
    let message = || Publish::new("a", 1, vec![b'x'; 6 << 10]);
    for token in 1..=5 {
        lab.publish(id, message(), token);
    }
    assert_eq!(lab.seen(id), [Seen::Connected]);
    assert_eq!(lab.work.len(), 3, "16 KiB of one connection");
    assert!(!lab.session(id).wants_read());
    lab.pass(Duration::from_secs(1));
    assert_eq!(lab.work.len(), 3);
    // It is told, so that its pings are heard; the answers keep their order.
    lab.pass(Duration::from_secs(1));
    assert!(lab.session(id).wants_read());
    assert_eq!((lab.work.len(), lab.hub.bytes() < 32 << 10), (3, true));
    lab.sink(3, Ok(()));
    let acked = [(1, 0), (2, 0), (3, 0), (4, 0x97), (5, 0x97)].map(|(t, r)| Seen::Acked(t, r));
    assert_eq!(lab.seen(id), acked);
    lab.publish(id, message(), 6);
    lab.sink(1, Ok(()));
    assert_eq!(lab.seen(id), [Seen::Acked(6, 0)]);
}

#[test]
fn all_connections_together_are_bounded_and_a_pause_of_ours_is_not_held_against_a_client() {
    let mut lab = Lab::new();
    let quiet = lab.connect("quiet", Connect { keep_alive_s: 2, ..connect("quiet", Version::V311) });
    // The first wait after CONNECT is excused by the core.
    lab.pass(Duration::from_secs(3));
    let devices = ["a", "b", "c"];
    let ids = devices.map(|d| lab.connect(d, Connect { keep_alive_s: 2, ..connect(d, Version::V311) }));
    for token in 0..4 {
        for id in ids {
            lab.publish(id, Publish::new("a", 1, vec![b'x'; 5 << 10]), token);
        }
    }
    let held = lab.hub.bytes();
    assert!((32 << 10..40 << 10).contains(&held), "{held}");
    // 3.1.1 clients cannot be told: they are not read, and may be silent.
    for _ in 0..10 {
        lab.pass(Duration::from_secs(1));
    }
    assert!(ids.iter().all(|id| !lab.session(*id).is_closed()));
    while !lab.work.is_empty() {
        lab.sink(1, Ok(()));
    }
    // What it sent in the meantime lies unread, and its time is up: it is heard first.
    lab.pass(Duration::ZERO);
    assert!(!lab.session(quiet).is_closed());
    for id in ids {
        let acked = (0..4).map(|t| Seen::Acked(t, 0));
        assert_eq!(lab.seen(id)[1..], acked.collect::<Vec<_>>());
    }
    assert_eq!(lab.hub.bytes(), 0);
    // Now silence is silence.
    lab.pass(Duration::from_secs(20));
    lab.pass(Duration::from_secs(20));
    assert!(ids.iter().chain([&quiet]).all(|id| lab.session(*id).is_closed()));
}

#[test]
fn devices_take_turns() {
    let mut lab = Lab::new();
    let (heavy, light) = (
        lab.connect("heavy", connect("heavy", Version::V5)),
        lab.connect("light", connect("light", Version::V5)),
    );
    let end = lab.ends.get_mut(&heavy).unwrap();
    for token in 0..6 {
        end.client.publish(Publish::new("h", 1, "x"), token).unwrap();
    }
    lab.ends.get_mut(&light).unwrap().client.publish(Publish::new("l", 1, "x"), 0).unwrap();
    lab.run();
    let devices: Vec<bool> = lab.work.iter().map(|w| w.batch.row_id(0).starts_with("light")).collect();
    assert_eq!(devices.iter().position(|l| *l), Some(1), "{devices:?}");
}

#[test]
fn sessions_are_claimed_where_other_nodes_write_to_the_same_sink() {
    let mut lab = Lab::with(Options { claims_sessions: true, ..options() }, &[mark(3, 0xab)]);
    let id = lab.connect("box", agent("box", 1));
    assert_eq!(lab.seen(id), [], "its number is not known yet");
    // Another node has taken more since this one looked.
    lab.claimed(Ok(Claimed { session: 17, marks: vec![mark(9, 0xcd)] }));
    assert_eq!(lab.seen(id), [Seen::Connected]);
    assert_eq!(lab.property(id, "dts-session"), ["17"]);
    assert_eq!(lab.property(id, "dts-mark"), [format!("data/{EPOCH:016x}/9/000000cd")]);
    lab.send(id, &FrameKit::new(10, 10, "a"), 10);
    assert_eq!(lab.work[0].mark.as_ref().map(|m| m.session), Some(17));
    // A plain client has no watermark and needs no number.
    let plain = lab.connect("box", connect("box", Version::V5));
    assert_eq!(lab.seen(plain), [Seen::Connected]);
    // The device is elsewhere by now.
    lab.sink(1, Err(Refused::TakenOver));
    assert_eq!(lab.seen(id), [Seen::Closed(0x8e)]);
    assert_eq!(lab.durable.len(), 0);

    // A sink that does not answer: come again. Too late: the same.
    let id = lab.connect("box", agent("box", 1));
    lab.claimed(Err("the disk is full".to_owned()));
    assert_eq!(lab.seen(id), [Seen::Refused(0x89)]);
    let id = lab.connect("box", agent("box", 1));
    lab.pass(Duration::from_secs(11));
    assert_eq!(lab.seen(id), [Seen::Refused(0x88)]);
    lab.claimed(Ok(Claimed { session: 18, marks: Vec::new() }));
    // None of them holds a place among the device's connections.
    for n in 0..4 {
        let id = lab.connect("box", agent("box", 1));
        lab.claimed(Ok(Claimed { session: 19 + n, marks: Vec::new() }));
        assert_eq!(lab.seen(id), [Seen::Connected]);
    }
}

#[test]
fn subscribing_again_replaces_and_unsubscribing_ends_it() {
    use crate::mqtt::{self, Filter, Packet, Subscribe, Unsubscribe};
    use bytes::BytesMut;

    let mut lab = Lab::new();
    let peer = Peer {
        address: "127.0.0.1:9".parse().unwrap(),
        transport: "tcp",
        certificate: Some(DeviceName::new("box")),
    };
    let mut session = Session::new(77, peer, Place::Seat, &lab.hub, lab.now);
    // What it answers to these packets, a second later.
    let mut say = |lab: &mut Lab, packets: &[Packet]| {
        lab.now = lab.now + Duration::from_secs(2);
        let (now, mut bytes) = (lab.time(), BytesMut::new());
        packets.iter().for_each(|p| mqtt::encode(p, Version::V5, &mut bytes).unwrap());
        session.receive(now, &bytes);
        while session.turn(now, &mut lab.hub) {}
        session.handle_timeout(now, &mut lab.hub);
        let mut written = BytesMut::new();
        while let Some(bytes) = session.poll_transmit() {
            written.extend_from_slice(&bytes);
        }
        std::iter::from_fn(|| mqtt::decode(&mut written, Some(Version::V5), 1 << 20).unwrap())
            .collect::<Vec<_>>()
    };
    let watermarks = |packets: &[Packet]| {
        packets.iter().filter(|p| matches!(p, Packet::Publish(p) if p.topic == "dts/v1/box/w")).count()
    };
    let connack = say(&mut lab, &[Packet::Connect(Box::new(agent("box", 1)))]);
    assert!(matches!(&connack[..], [Packet::ConnAck(c)] if c.reason == 0));
    let subscribe = |packet_id, qos| {
        let filter = Filter {
            filter: "dts/v1/box/w".into(),
            qos,
            no_local: false,
            retain_as_published: false,
            retain_handling: 0,
        };
        Packet::Subscribe(Box::new(Subscribe {
            packet_id,
            filters: vec![filter],
            subscription_id: None,
            user: Vec::new(),
        }))
    };
    let answers = say(&mut lab, &[subscribe(1, QoS::AtMostOnce), subscribe(2, QoS::AtLeastOnce)]);
    let subacks: Vec<_> = answers
        .iter()
        .filter_map(|p| if let Packet::SubAck(a) = p { Some((a.packet_id, a.reasons.clone())) } else { None })
        .collect();
    assert_eq!(subacks, [(1, vec![0]), (2, vec![0])], "QoS 0 is granted, whatever is asked");
    let sent = answers.iter().filter_map(|p| if let Packet::Publish(p) = p { Some(p.qos) } else { None });
    assert!(sent.clone().count() > 0 && sent.clone().all(|qos| qos == QoS::AtMostOnce));
    // One subscription, so one copy.
    let frame = |n| {
        let publish = FrameKit::new(n, n, "a").publish("box");
        Packet::Publish(Box::new(Publish { packet_id: n as u16, ..publish }))
    };
    say(&mut lab, &[frame(1)]);
    let work = lab.hub.poll_work().unwrap();
    lab.hub.resolved(work.then, Ok(()));
    let (id, mail) = lab.hub.poll_mail().unwrap();
    assert_eq!(id, 77);
    drop(mail);
    let told = say(&mut lab, &[subscribe(3, QoS::AtMostOnce)]);
    assert_eq!(watermarks(&told), 1, "{told:?}");
    // Filters are compared by characters, and each has its reason, in order, in one UNSUBACK.
    let filters = vec!["dts/v1/box/W".to_owned(), "dts/v1/box/w".to_owned(), "dts/v1/box/+".to_owned()];
    let unsubscribe = Unsubscribe { packet_id: 4, filters, user: Vec::new() };
    let answers = say(&mut lab, &[Packet::Unsubscribe(Box::new(unsubscribe))]);
    assert!(
        matches!(&answers[..], [Packet::UnsubAck(a)] if a.packet_id == 4 && a.reasons == [0x11, 0, 0x11]),
        "{answers:?}"
    );
    say(&mut lab, &[frame(2)]);
    while let Some(work) = lab.hub.poll_work() {
        lab.hub.resolved(work.then, Ok(()));
    }
    let more = say(&mut lab, &[Packet::PingReq]);
    assert_eq!(watermarks(&more), 0, "{more:?}");
}

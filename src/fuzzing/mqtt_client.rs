//! The agent's session, and a centre or broker that says anything.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashSet};
use std::rc::Rc;
use std::time::Duration;

use bytes::BytesMut;

use crate::clock::TimeKeeper;
use crate::event::builtin::{self, Payload};
use crate::event::{BatchBuilder, Op, RowClock};
use crate::frame::{self, Codec, Header};
use crate::mqtt::codec::sample::Gen;
use crate::mqtt::{self, Ack, ConnAck, Packet, Publish, SubAck, Version};
use crate::runtime::Mono;
use crate::sink::centre::config::{AckBy, Peer};
use crate::sink::centre::session::{Action, Common, Input, Options, Session, Trust};
use crate::sink::centre::wire::Credentials;
use crate::spool::{StoredBatch, StoredId};

const V5: Version = Version::V5;
const EPOCH: u64 = 3 << 32 | 0xbeef;

/// A batch of one message.
fn batch(id: i64, bytes: usize) -> StoredBatch {
    let mut rows = BatchBuilder::new("app".into());
    let text = "x".repeat(bytes);
    let values = builtin::message_values("t", None, Payload::Text(&text), None);
    // One row of a shape that is known to fit.
    rows.push(Op::Message, 1 << 16, builtin::message(), None, builtin::image(&values)).unwrap_or_default();
    let rows = rows.finish();
    StoredBatch {
        id: StoredId::from_raw(id),
        lane: "data".into(),
        epoch: EPOCH,
        first_seq: id as u64,
        last_seq: id as u64,
        base: 1,
        rows: rows.rows,
        crc: crc32c::crc32c(&rows.body),
        boot: 7,
        clock: RowClock::default(),
        source: "app".into(),
        body: rows.body.clone(),
        tables: rows.tables.to_vec(),
    }
}

struct Lab {
    session: Session,
    now: Mono,
    /// What the spool holds, by id.
    held: BTreeMap<i64, StoredBatch>,
    /// Sequence numbers that left in a frame.
    sent: HashSet<u64>,
    /// Packet ids that left.
    packets: Vec<u16>,
    out: BytesMut,
    answers: Vec<Input>,
    over: bool,
}

/// Steps until the bytes are used up.
pub fn mqtt_client(data: &[u8]) {
    let g = &mut Gen(data);
    let choice = g.u8();
    let options = Options {
        device: "box".into(),
        instance: 0xaa,
        boot: 7,
        peer: if choice & 1 == 0 { Peer::Dts } else { Peer::Broker },
        ack: if choice & 3 == 3 { AckBy::Centre } else { AckBy::Peer },
        window: 4,
        max_stored_bytes: 4096,
        max_in_flight_bytes: 8192,
        codec: if choice & 4 == 0 { Codec::None } else { Codec::Lz4 },
        dictionary: None,
        keep_alive: Duration::from_secs(25),
        time_interval: Duration::from_secs(60),
    };
    let trust = if choice & 8 == 0 { Trust::Verified } else { Trust::AfterTime };
    let now = Mono(1_000_000);
    let keeper = Rc::new(RefCell::new(TimeKeeper::new(now, 7, 0, &[], 1_700_000_000)));
    let lanes = vec![("data".into(), 1)];
    let common = Rc::new(Common { options, lanes, memory: RefCell::default(), keeper });
    let rng = fastrand::Rng::with_seed(7);
    let Ok(session) = Session::new(common, Credentials::default(), trust, rng, now) else { return };
    let held = (1..=12).map(|n| (n, batch(n, n as usize * 97))).collect();
    let mut lab = Lab {
        session,
        now,
        held,
        sent: HashSet::new(),
        packets: Vec::new(),
        out: BytesMut::new(),
        answers: Vec::new(),
        over: false,
    };
    lab.run();
    let put = |packet: &Packet, wire: &mut BytesMut| mqtt::encode(packet, V5, wire).unwrap_or_default();
    let mut wire = BytesMut::new();
    if choice & 16 == 0 {
        let mut user =
            vec![("dts".to_owned(), "1".to_owned()), ("dts-time".to_owned(), "1790000000000000".to_owned())];
        if choice & 32 == 0 {
            user.push(("dts-max-body".to_owned(), (u32::from(g.u8()) * 16).to_string()));
            user.push(("dts-mark".to_owned(), format!("data/{EPOCH:016x}/{}/00000000", g.pick(14))));
        }
        put(&Packet::ConnAck(Box::new(ConnAck { user, ..ConnAck::default() })), &mut wire);
    }
    while !g.0.is_empty() {
        match g.pick(10) {
            0 => {
                let n = usize::from(g.u8());
                wire.extend_from_slice(g.take(n));
            }
            1 | 2 => put(&g.packet(V5), &mut wire),
            3 | 4 => {
                let mut ack =
                    Ack::new(lab.packet(g), [0, 0, 0x10, 0x83, 0x87, 0x97, 0x99][usize::from(g.pick(7))]);
                if g.pick(4) == 0 {
                    ack.user = vec![("dts-need".into(), "tables".into())];
                }
                put(&Packet::PubAck(ack), &mut wire);
            }
            5 => {
                let what = ["w", "t", "cfg"][usize::from(g.pick(3))];
                let n = usize::from(g.u8());
                let payload = match g.pick(3) {
                    0 => format!("{{\"data\":[{{\"epoch\":\"{EPOCH:016x}\",\"seq\":{}}}]}}", g.pick(14))
                        .into_bytes(),
                    _ => g.take(n).to_vec(),
                };
                put(
                    &Packet::Publish(Box::new(Publish::new(format!("dts/v1/box/{what}"), 0, payload))),
                    &mut wire,
                );
            }
            6 => {
                let ack = SubAck {
                    packet_id: lab.packet(g),
                    reasons: vec![g.pick(2); 1],
                    reason_string: None,
                    user: vec![],
                };
                put(&Packet::SubAck(ack), &mut wire);
            }
            7 => {
                lab.now = lab.now + Duration::from_millis(u64::from(g.u16()) * 10);
                if lab.session.poll_timeout().is_some_and(|at| at <= lab.now) {
                    lab.session.handle_timeout(lab.now);
                }
            }
            8 => {
                let input = match g.pick(8) {
                    0 => Input::Drain(lab.now + Duration::from_secs(5)),
                    1 => Input::Resume,
                    2 => Input::Status("{}".into()),
                    3 if g.u8() > 250 => Input::Disconnect,
                    4 => Input::ChainChecked(Err("no".into())),
                    _ => Input::Changed,
                };
                lab.session.handle(lab.now, input);
            }
            _ => {
                if !lab.answers.is_empty() {
                    let answer = lab.answers.remove(0);
                    lab.session.handle(lab.now, answer);
                }
            }
        }
        while !wire.is_empty() {
            let n = usize::from(g.u8()).max(1) * 4;
            let some = wire.split_to(n.min(wire.len()));
            lab.session.receive(lab.now, &some);
            lab.run();
        }
        lab.run();
    }
}

impl Lab {
    fn packet(&self, g: &mut Gen<'_>) -> u16 {
        let n = usize::from(g.u8());
        self.packets.get(n % (self.packets.len() + 1)).copied().unwrap_or(1 + n as u16)
    }

    fn run(&mut self) {
        while let Some(bytes) = self.session.poll_transmit(self.now) {
            self.out.extend_from_slice(&bytes);
        }
        while let Some(packet) = self.next_packet() {
            assert!(client_says(&packet), "a client does not say {packet:?}");
            let id = match packet {
                Packet::Publish(p) => {
                    if &*p.topic == "dts/v1/box/c" || p.topic.is_empty() {
                        let frame = frame::decode(&p.payload, 1 << 20);
                        assert!(frame.is_ok(), "{frame:?}");
                        let Ok((Header::V1(header), _)) = frame else { continue };
                        self.sent.extend(header.first_seq..=header.last_seq);
                    }
                    p.packet_id
                }
                Packet::Subscribe(s) => s.packet_id,
                _ => 0,
            };
            if id != 0 {
                self.packets.push(id);
            }
        }
        while let Some(action) = self.session.poll_action() {
            assert!(!self.over, "{action:?} after the end");
            self.act(action);
        }
        assert!(self.session.in_flight() <= 5);
        assert_eq!(self.over, self.session.is_closed());
    }

    fn next_packet(&mut self) -> Option<Packet> {
        // CONNECT comes first and is read without a version.
        let version = (self.out.first().is_none_or(|b| b >> 4 != 1)).then_some(V5);
        let packet = mqtt::decode(&mut self.out, version, 1 << 20);
        assert!(packet.is_ok(), "{packet:?}");
        packet.unwrap_or_default()
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Connected => self.session.handle(self.now, Input::Adopt),
            Action::Reconcile { lane, .. } => self.answers.push(Input::Reconciled { lane }),
            Action::Read { lane, after, max_bytes } => {
                let after = after.map_or(0, |id| id.raw());
                let (mut bytes, mut batches) = (0, Vec::new());
                for b in self.held.range(after + 1..).map(|(_, b)| b) {
                    if !batches.is_empty() && bytes + b.body.len() > max_bytes {
                        break;
                    }
                    bytes += b.body.len();
                    batches.push(b.clone());
                }
                self.answers.push(Input::Batches { lane, batches });
            }
            Action::Ack { ids, .. } => {
                for id in ids {
                    let gone = self.held.remove(&id.raw());
                    assert!(
                        gone.is_some_and(|b| self.sent.contains(&b.last_seq)),
                        "{id:?} is acknowledged and was not sent, or for the second time"
                    );
                }
            }
            Action::SetAside { lane, id, .. } => {
                assert!(self.held.remove(&id.raw()).is_some(), "{id:?} is not held");
                self.answers.push(Input::SetAside { lane });
            }
            Action::CheckChain { .. } => self.answers.push(Input::ChainChecked(Ok(()))),
            Action::Closed(_) => self.over = true,
            Action::TimeLearned | Action::Idle | Action::Drained => {}
        }
    }
}

fn client_says(packet: &Packet) -> bool {
    matches!(
        packet,
        Packet::Connect(_)
            | Packet::Publish(_)
            | Packet::Subscribe(_)
            | Packet::PingReq
            | Packet::Disconnect(_)
            | Packet::PubAck(_)
            | Packet::PubRec(_)
            | Packet::PubRel(_)
            | Packet::PubComp(_)
    )
}

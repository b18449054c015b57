//! A client of the listener: bytes, time and the sinks' answers in any order, over the session, the hub and the
//! watermarks as shipped.

use std::time::Duration;

use bytes::BytesMut;

use super::{frame, row};
use crate::clock::Stamp;
use crate::event::Origin;
use crate::mqtt::codec::sample::Gen;
use crate::mqtt::{self, Connect, Packet, Publish, Version};
use crate::runtime::Mono;
use crate::source::Refused;
use crate::source::devices::admit::Place;
use crate::source::devices::auth::{Denied, DeviceName, Identity};
use crate::source::devices::fence::OnConflict;
use crate::source::devices::hub::{Hub, Options, Work};
use crate::source::devices::session::{Now, Peer, Session};
use crate::source::devices::watermark;

const TOTAL: usize = 32 << 10;
/// One read, one packet, its answers.
const MOST_HELD: usize = TOTAL + (64 << 10) + 4096;

fn options() -> Options {
    Options {
        source: "in".into(),
        max_packet_bytes: 16 << 10,
        max_body_bytes: 16 << 10,
        receive_maximum: 8,
        connection_bytes: 8 << 10,
        total_bytes: TOTAL,
        max_row_bytes: 8 << 10,
        keep_alive_max_s: 600,
        connect_timeout: Duration::from_secs(10),
        retry_after: Duration::from_secs(5),
        on_conflict: OnConflict::KeepBoth,
        max_per_device: 4,
        watermarks: watermark::Limits { max_lanes: 4, max_epochs: 4 },
        dictionaries: Vec::new(),
        claims_sessions: false,
    }
}

struct Lab {
    hub: Hub,
    session: Session,
    now: Mono,
    work: Vec<Work>,
    written: BytesMut,
    /// Bytes of the client that were not yet taken.
    wire: BytesMut,
    closed: bool,
}

/// Steps until the bytes are used up.
pub fn mqtt_server(data: &[u8]) {
    let g = &mut Gen(data);
    let version = if g.bit() { Version::V5 } else { Version::V311 };
    let certificate = match g.pick(4) {
        0 => None,
        1 => Some(Err(Denied::BadCertificate)),
        _ => Some(DeviceName::new("box")),
    };
    let place = if g.u8() == 255 { Place::Lobby } else { Place::Seat };
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], 9));
    let hub = Hub::new(options(), &[], Stamp::new(|| 7 << 16), fastrand::Rng::with_seed(7));
    let now = Mono(1_000_000);
    let session = Session::new(1, Peer { address, transport: "tcp", certificate }, place, &hub, now);
    let (work, written, wire) = (Vec::new(), BytesMut::new(), BytesMut::new());
    let mut lab = Lab { hub, session, now, work, written, wire, closed: false };
    let put = |packet: &Packet, wire: &mut BytesMut| mqtt::encode(packet, version, wire).unwrap_or_default();
    if g.pick(8) > 0 {
        let mut connect = Connect::new(version, if g.bit() { "box:00000000000000aa" } else { "box" });
        connect.keep_alive_s = u16::from(g.u8());
        if version == Version::V5 && g.bit() {
            connect.user = vec![("dts".into(), "1".into())];
        }
        put(&Packet::Connect(Box::new(connect)), &mut lab.wire);
    }
    while !g.0.is_empty() {
        match g.pick(10) {
            0 => {
                let n = usize::from(g.u8());
                lab.wire.extend_from_slice(g.take(n));
            }
            1 | 2 => put(&g.packet(version), &mut lab.wire),
            3..=5 => {
                let (id, frame) = (g.u8(), frame::made(g));
                let topic = ["dts/v1/box/c", "dts/v1/box/p", "dts/v1/box/s", "dts/v1/fox/c", "t"]
                    [usize::from(g.pick(8)).saturating_sub(3)];
                let mut publish = Publish::new(topic, 1, frame);
                publish.packet_id = u16::from(id);
                put(&Packet::Publish(Box::new(publish)), &mut lab.wire);
            }
            6 => lab.pass(u64::from(g.u16()) * 10),
            7 => {
                let result = match g.pick(3) {
                    0 => Err(Refused::Busy("full".to_owned())),
                    _ => Ok(()),
                };
                lab.resolve(usize::from(g.u8()), result);
            }
            8 => {
                let result = if g.bit() { Err(Denied::WrongPassword) } else { DeviceName::new("box") };
                if lab.session.poll_check().is_some() {
                    let identity =
                        result.map(|device| Identity { device, until_us: g.bit().then_some(9_000_000) });
                    lab.session.checked(lab.time(), identity, &mut lab.hub);
                }
            }
            _ => {
                let n = usize::from(g.u16() % 700) + 1;
                lab.run(n);
            }
        }
        lab.run(64);
    }
    lab.finish(version);
}

impl Lab {
    fn time(&self) -> Now {
        Now { mono: self.now, wall_us: self.now.0 as i64 }
    }

    fn pass(&mut self, ms: u64) {
        self.now = self.now + Duration::from_millis(ms);
        if self.session.poll_timeout().is_some_and(|at| at <= self.now) {
            self.session.handle_timeout(self.time(), &mut self.hub);
        }
    }

    fn resolve(&mut self, at: usize, result: Result<(), Refused>) {
        if !self.work.is_empty() {
            let work = self.work.remove(at % self.work.len());
            self.hub.resolved(work.then, result);
        }
    }

    /// Moves bytes, turns and mail, `n` bytes at a time.
    fn run(&mut self, n: usize) {
        let now = self.time();
        loop {
            if !self.session.is_closed() && self.session.wants_read() && !self.wire.is_empty() {
                let some = self.wire.split_to(n.min(self.wire.len()));
                self.session.receive(now, &some);
            }
            while self.session.turn(now, &mut self.hub) {}
            let mut moved = false;
            while let Some((id, mail)) = self.hub.poll_mail() {
                assert_eq!(id, 1);
                self.session.mail(now, mail, &mut self.hub);
                moved = true;
            }
            while let Some(bytes) = self.session.poll_transmit() {
                self.written.extend_from_slice(&bytes);
                moved = true;
            }
            while let Some(work) = self.hub.poll_work() {
                if matches!(work.batch.origin, Origin::Device { .. }) {
                    row::judge(&work.batch);
                }
                self.work.push(work);
            }
            assert!(self.hub.bytes() <= MOST_HELD, "{} bytes are held", self.hub.bytes());
            let stuck = self.wire.is_empty() || !self.session.wants_read() || self.session.is_closed();
            assert!(!self.closed || self.session.is_closed(), "a session that was over goes on");
            self.closed = self.session.is_closed();
            if stuck && !moved {
                break;
            }
        }
    }

    fn finish(mut self, version: Version) {
        while !self.work.is_empty() {
            self.resolve(0, Ok(()));
            self.run(64);
        }
        let now = self.time();
        self.session.gone(now, &mut self.hub);
        self.run(64);
        assert!(self.session.is_closed());
        while !self.work.is_empty() {
            self.resolve(0, Ok(()));
        }
        assert_eq!(self.hub.bytes(), 0, "what is resolved is not held");
        // Which version is spoken, says the client's CONNECT, which may be of raw bytes.
        let legal = |version| {
            let mut rest = self.written.clone();
            while let Ok(Some(packet)) = mqtt::decode(&mut rest, Some(version), 1 << 20) {
                assert!(server_says(&packet), "a server does not say {packet:?}");
            }
            rest.is_empty()
        };
        assert!(legal(version) || legal(Version::V5) || legal(Version::V311), "{:?}", self.written);
    }
}

fn server_says(packet: &Packet) -> bool {
    matches!(
        packet,
        Packet::ConnAck(_)
            | Packet::Publish(_)
            | Packet::PubAck(_)
            | Packet::PubRec(_)
            | Packet::PubComp(_)
            | Packet::PubRel(_)
            | Packet::SubAck(_)
            | Packet::UnsubAck(_)
            | Packet::PingResp
            | Packet::Disconnect(_)
    )
}

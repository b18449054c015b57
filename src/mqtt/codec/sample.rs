//! Packets made of entropy, for random tests and for fuzzing: bytes are read as choices, so that a mutation of a few
//! of them is a small change of a valid packet.

use bytes::Bytes;

use crate::mqtt::{
    Ack, ConnAck, Connect, Disconnect, Filter, Packet, Publish, QoS, SubAck, Subscribe, Unsubscribe, Version,
    Will,
};

const V5: Version = Version::V5;

/// Makes packets of entropy; without any left everything is small, so that failures shrink.
#[derive(Debug)]
pub(crate) struct Gen<'a>(pub(crate) &'a [u8]);

impl<'a> Gen<'a> {
    pub(crate) fn u8(&mut self) -> u8 {
        let Some((&first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        first
    }

    pub(crate) fn pick(&mut self, n: u8) -> u8 {
        self.u8() % n
    }

    pub(crate) fn bit(&mut self) -> bool {
        self.u8() & 1 == 1
    }

    pub(crate) fn u16(&mut self) -> u16 {
        u16::from_be_bytes([self.u8(), self.u8()])
    }

    pub(crate) fn u32(&mut self) -> u32 {
        u32::from(self.u16()) << 16 | u32::from(self.u16())
    }

    fn id(&mut self) -> u16 {
        self.u16().max(1)
    }

    fn some<T>(&mut self, make: impl FnOnce(&mut Self) -> T) -> Option<T> {
        self.bit().then(|| make(self))
    }

    fn many<T>(&mut self, min: u8, mut make: impl FnMut(&mut Self) -> T) -> Vec<T> {
        let n = min + self.pick(4);
        (0..n).map(|_| make(self)).collect()
    }

    pub(crate) fn text(&mut self) -> String {
        const POOL: [&str; 8] = ["a", "/", " ", "é", "\u{feff}", "\u{1f600}", "$", "\u{1}"];
        let n = self.pick(200);
        (0..n).map(|_| POOL[usize::from(self.pick(8))]).collect()
    }

    fn topic(&mut self) -> String {
        format!("t{}", self.text())
    }

    fn data(&mut self) -> Bytes {
        let n = usize::from(self.u8()) * usize::from(self.pick(4));
        let fill = self.u8();
        vec![fill; n].into()
    }

    fn user(&mut self) -> Vec<(String, String)> {
        self.many(0, |g| (g.text(), g.text()))
    }

    fn qos(&mut self) -> QoS {
        [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce][usize::from(self.pick(3))]
    }

    fn of(&mut self, codes: &[u8]) -> u8 {
        codes[usize::from(self.u8()) % codes.len()]
    }

    /// The next `n` bytes, or what is left.
    pub(crate) fn take(&mut self, n: usize) -> &'a [u8] {
        let (some, rest) = self.0.split_at(n.min(self.0.len()));
        self.0 = rest;
        some
    }

    fn ack(&mut self, v5: bool, codes: &[u8]) -> Ack {
        let mut ack = Ack::new(self.id(), 0);
        if v5 {
            ack.reason = self.of(codes);
            ack.reason_string = self.some(Self::text);
            ack.user = self.user();
        }
        ack
    }

    fn will(&mut self, v5: bool) -> Will {
        let mut w = Will::new(self.topic(), self.data(), self.qos());
        w.retain = self.bit();
        if v5 {
            w.delay_s = self.u32();
            w.payload_is_utf8 = self.bit();
            w.message_expiry_s = self.some(Self::u32);
            w.content_type = self.some(Self::text);
            w.response_topic = self.some(Self::text);
            w.correlation_data = self.some(Self::data);
            w.user = self.user();
        }
        w
    }

    fn connect(&mut self, version: Version) -> Connect {
        let v5 = version == V5;
        let mut p = Connect::new(version, self.text());
        p.clean_start = self.bit();
        p.keep_alive_s = self.u16();
        p.username = self.some(Self::text);
        p.password = self.some(Self::data).filter(|_| v5 || p.username.is_some());
        p.will = self.some(|g| g.will(v5));
        if v5 {
            p.session_expiry_s = self.u32();
            p.receive_maximum = self.some(Self::id);
            p.maximum_packet_size = self.some(|g| g.u32().max(1));
            p.topic_alias_maximum = self.u16();
            p.request_problem_information = self.bit();
            p.authentication_method = self.some(Self::text);
            p.user = self.user();
        } else if !p.clean_start {
            p.session_expiry_s = u32::MAX;
        }
        p
    }

    fn connack(&mut self, v5: bool) -> ConnAck {
        let mut p = ConnAck { session_present: self.bit(), ..ConnAck::default() };
        if !p.session_present {
            p.reason = self.of(&[0, 0x84, 0x85, 0x86, 0x87, 0x88]);
        }
        if v5 {
            p.session_expiry_s = self.some(Self::u32);
            p.receive_maximum = self.some(Self::id);
            p.maximum_qos = self.some(|g| g.pick(2));
            p.retain_available = self.some(Self::bit);
            p.maximum_packet_size = self.some(|g| g.u32().max(1));
            p.assigned_client_id = self.some(Self::text);
            p.topic_alias_maximum = self.u16();
            p.reason_string = self.some(Self::text);
            p.wildcard_subscription_available = self.some(Self::bit);
            p.subscription_identifiers_available = self.some(Self::bit);
            p.shared_subscription_available = self.some(Self::bit);
            p.server_keep_alive_s = self.some(Self::u16);
            p.server_reference = self.some(Self::text);
            p.user = self.user();
        }
        p
    }

    pub(crate) fn publish(&mut self, v5: bool) -> Publish {
        let mut p = Publish::new(self.topic(), 0, self.data());
        p.qos = self.qos();
        p.retain = self.bit();
        if p.qos != QoS::AtMostOnce {
            p.dup = self.bit();
            p.packet_id = self.id();
        }
        if v5 {
            p.payload_is_utf8 = self.bit();
            p.message_expiry_s = self.some(Self::u32);
            p.topic_alias = self.some(Self::id);
            p.response_topic = self.some(Self::topic);
            p.correlation_data = self.some(Self::data);
            p.content_type = self.some(Self::text);
            p.subscription_ids = self.many(0, |g| (g.u32() & 0x0FFF_FFFF).max(1));
            p.user = self.user();
            if p.topic_alias.is_some() && self.bit() {
                p.topic.clear();
            }
        }
        p
    }

    fn filter(&mut self, v5: bool) -> Filter {
        Filter {
            filter: format!("{}/#", self.text()),
            qos: self.qos(),
            no_local: v5 && self.bit(),
            retain_as_published: v5 && self.bit(),
            retain_handling: if v5 { self.pick(3) } else { 0 },
        }
    }

    pub(crate) fn packet(&mut self, version: Version) -> Packet {
        const PUB: &[u8] = &[0, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99];
        let v5 = version == V5;
        match self.pick(if v5 { 15 } else { 14 }) {
            0 => Packet::PingReq,
            1 => Packet::PingResp,
            2 => Packet::Connect(Box::new(self.connect(version))),
            3 => Packet::ConnAck(Box::new(self.connack(v5))),
            4 => Packet::Publish(Box::new(self.publish(v5))),
            5 => Packet::PubAck(self.ack(v5, PUB)),
            6 => Packet::PubRec(self.ack(v5, PUB)),
            7 => Packet::PubRel(self.ack(v5, &[0, 0x92])),
            8 => Packet::PubComp(self.ack(v5, &[0, 0x92])),
            9 => Packet::Subscribe(Box::new(Subscribe {
                packet_id: self.id(),
                filters: self.many(1, |g| g.filter(v5)),
                subscription_id: if v5 { self.some(|g| (g.u32() >> 4).max(1)) } else { None },
                user: if v5 { self.user() } else { Vec::new() },
            })),
            kind @ (10 | 11) => {
                let mut p = SubAck {
                    packet_id: self.id(),
                    reasons: Vec::new(),
                    reason_string: None,
                    user: Vec::new(),
                };
                if v5 || kind == 10 {
                    p.reasons = self.many(1, |g| g.of(&[0, 0x80]));
                }
                if v5 {
                    p.reason_string = self.some(Self::text);
                    p.user = self.user();
                }
                if kind == 10 { Packet::SubAck(p) } else { Packet::UnsubAck(p) }
            }
            12 => Packet::Unsubscribe(Box::new(Unsubscribe {
                packet_id: self.id(),
                filters: self.many(1, |g| format!("+/{}", g.text())),
                user: if v5 { self.user() } else { Vec::new() },
            })),
            13 if v5 => Packet::Disconnect(Disconnect {
                reason: self.of(&[0, 4, 0x80, 0x82, 0x89, 0x8E, 0x97, 0xA2]),
                session_expiry_s: self.some(Self::u32),
                reason_string: self.some(Self::text),
                server_reference: self.some(Self::text),
                user: self.user(),
            }),
            13 => Packet::Disconnect(Disconnect::default()),
            _ => Packet::Auth(self.of(&[0, 0x18, 0x19])),
        }
    }
}

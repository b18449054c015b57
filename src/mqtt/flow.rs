//! The messages of one connection in both directions, QoS 0 to 2: the part that is the same for a client
//! and a server (MQTT 5.0, sections 4.3, 4.6 and 4.9).

use std::collections::{BTreeMap, VecDeque};

use super::codec::{self, ProtocolError};
use super::outbox::Outbox;
use super::{Ack, Packet, Publish, QoS, SubAck, UserProperties, Version, reason, topic};
use crate::planted::{self, Bug};

/// QoS 2 ids that a 3.1.1 peer may leave without PUBREL (5.0 has the receive maximum for that).
const MAX_UNRELEASED: usize = 1024;

/// Why a message was not queued. Nothing of it was, and the connection goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// No place in the window, or too many bytes wait to be written. Try again after the next answer.
    #[error("the send window is full")]
    Full,
    /// Not (or no longer) connected.
    #[error("not connected")]
    NotConnected,
    /// Over the peer's Maximum Packet Size: it would drop the connection.
    #[error("packet of {bytes} bytes is over the peer's limit of {limit}")]
    TooLarge {
        /// Size of the packet.
        bytes: usize,
        /// The peer's limit.
        limit: usize,
    },
    /// The server takes no messages of this QoS.
    #[error("the server takes no messages of this QoS")]
    QosNotSupported,
    /// The server takes no retained messages.
    #[error("the server takes no retained messages")]
    RetainNotSupported,
    /// It cannot be written: a wrong topic or filter, or a string that is too long.
    #[error(transparent)]
    Invalid(#[from] ProtocolError),
}

/// What the peer takes.
pub(super) struct Peer {
    /// QoS 1 and 2 PUBLISHes without answer; our own window is in it.
    pub(super) receive_maximum: usize,
    pub(super) max_packet_bytes: usize,
    pub(super) maximum_qos: QoS,
    pub(super) retain_available: bool,
    pub(super) topic_alias_maximum: u16,
    /// Reason strings and user properties on answers.
    pub(super) problem_information: bool,
}

/// What we take.
pub(super) struct Own {
    pub(super) receive_maximum: usize,
    pub(super) topic_alias_maximum: u16,
    pub(super) max_topic_bytes: usize,
}

/// What a packet came to.
pub(super) enum Flowed {
    Nothing,
    Message(Box<Publish>),
    Acked { token: u64, ack: Ack },
    Subscribed(SubAck),
}

pub(super) struct Flow {
    pub(super) version: Version,
    pub(super) outbox: Outbox,
    pub(super) peer: Peer,
    pub(super) own: Own,
    outgoing: Outgoing,
    incoming: Incoming,
    /// Topics by alias - 1; empty where unset. Invariant: at most `own.topic_alias_maximum` long.
    aliases: Vec<String>,
}

impl Flow {
    pub(super) fn new(version: Version, own: Own, peer: Peer) -> Self {
        Self {
            version,
            outbox: Outbox::default(),
            peer,
            own,
            outgoing: Outgoing::default(),
            incoming: Incoming::default(),
            aliases: Vec::new(),
        }
    }

    /// Free places for QoS 1 and 2.
    pub(super) fn capacity(&self) -> usize {
        self.peer.receive_maximum.saturating_sub(self.outgoing.publishes)
    }

    /// QoS 1 and 2 messages of the peer's that are not finished.
    pub(super) fn inflight(&self) -> usize {
        self.incoming.queue.len() + self.incoming.held.len()
    }

    /// 3.1.1 has no receive maximum: there nothing more is read until messages are answered.
    pub(super) fn paused(&self) -> bool {
        self.version == Version::V311 && self.incoming.queue.len() >= self.own.receive_maximum
    }

    /// QoS 2 ids of which PUBREL is awaited: what a session has to keep.
    pub(super) fn held(&self) -> &[u16] {
        &self.incoming.held
    }

    pub(super) fn hold(&mut self, ids: &[u16]) {
        for &id in ids.iter().take(MAX_UNRELEASED) {
            self.incoming.hold(id);
        }
    }

    /// Takes a packet that is about messages; any other is a protocol error.
    pub(super) fn handle(&mut self, packet: Packet) -> Result<Flowed, ProtocolError> {
        let v5 = self.version == Version::V5;
        match packet {
            Packet::Publish(publish) => self.on_publish(publish),
            Packet::PubAck(ack) => match self.outgoing.step(ack.packet_id) {
                Some(Step::Ack) => Ok(self.finish(ack)),
                None if !v5 => Ok(Flowed::Nothing),
                _ => Err(protocol("PUBACK without its PUBLISH")),
            },
            Packet::PubRec(ack) => match self.outgoing.step(ack.packet_id) {
                Some(Step::Rec) if ack.reason >= 0x80 => Ok(self.finish(ack)),
                Some(Step::Rec | Step::Comp) => {
                    self.outgoing.advance(ack.packet_id, Step::Comp);
                    self.answer(Packet::PubRel(Ack::new(ack.packet_id, reason::SUCCESS)))?;
                    Ok(Flowed::Nothing)
                }
                None => {
                    self.answer(Packet::PubRel(Ack::new(ack.packet_id, reason::PACKET_ID_NOT_FOUND)))?;
                    Ok(Flowed::Nothing)
                }
                Some(_) => Err(protocol("PUBREC without its PUBLISH")),
            },
            Packet::PubComp(ack) => match self.outgoing.step(ack.packet_id) {
                Some(Step::Comp) => Ok(self.finish(ack)),
                None => Ok(Flowed::Nothing), // the end of a PUBREL that found nothing
                Some(_) => Err(protocol("PUBCOMP without its PUBREL")),
            },
            Packet::PubRel(ack) => {
                if self.incoming.position(ack.packet_id).is_some() {
                    return Err(protocol("PUBREL before PUBREC"));
                }
                let known = self.incoming.release(ack.packet_id);
                let reason = if known { reason::SUCCESS } else { reason::PACKET_ID_NOT_FOUND };
                self.answer(Packet::PubComp(Ack::new(ack.packet_id, reason)))?;
                Ok(Flowed::Nothing)
            }
            Packet::SubAck(suback) => match self.outgoing.step(suback.packet_id) {
                Some(Step::SubAck(filters)) if filters == suback.reasons.len() => {
                    self.outgoing.remove(suback.packet_id);
                    Ok(Flowed::Subscribed(suback))
                }
                _ => Err(protocol("SUBACK without its SUBSCRIBE")),
            },
            _ => Err(protocol("packet that the peer may not send")),
        }
    }

    fn on_publish(&mut self, mut publish: Box<Publish>) -> Result<Flowed, ProtocolError> {
        if publish.topic.len() > self.own.max_topic_bytes {
            return Err(ProtocolError::new(reason::TOPIC_NAME_INVALID, "topic over the length limit"));
        }
        self.resolve_alias(&mut publish)?;
        if publish.qos == QoS::AtMostOnce {
            return Ok(Flowed::Message(publish));
        }
        match self.incoming.arrive(&publish, self.version, self.own.receive_maximum)? {
            Arrival::New => Ok(Flowed::Message(publish)),
            Arrival::Waiting => Ok(Flowed::Nothing),
            Arrival::Held => {
                self.answer(Packet::PubRec(Ack::new(publish.packet_id, reason::SUCCESS)))?;
                Ok(Flowed::Nothing)
            }
        }
    }

    fn resolve_alias(&mut self, publish: &mut Publish) -> Result<(), ProtocolError> {
        let Some(alias) = publish.topic_alias.take() else { return Ok(()) };
        if alias == 0 || alias > self.own.topic_alias_maximum {
            return Err(ProtocolError::new(reason::TOPIC_ALIAS_INVALID, "topic alias over the maximum"));
        }
        let at = usize::from(alias) - 1;
        if publish.topic.is_empty() {
            let known = self.aliases.get(at).filter(|topic| !topic.is_empty());
            publish.topic.clone_from(known.ok_or(protocol("topic alias was never set"))?);
        } else {
            if self.aliases.len() <= at {
                self.aliases.resize(at + 1, String::new());
            }
            if let Some(slot) = self.aliases.get_mut(at) {
                slot.clone_from(&publish.topic);
            }
        }
        Ok(())
    }

    fn finish(&mut self, ack: Ack) -> Flowed {
        let token = self.outgoing.remove(ack.packet_id);
        Flowed::Acked { token, ack }
    }

    /// Queues a message. `packet_id` is given here; `max_pending_bytes` bounds what waits to be written,
    /// but one packet always fits.
    pub(super) fn publish(
        &mut self,
        mut publish: Publish,
        token: u64,
        max_pending_bytes: usize,
    ) -> Result<(), PublishError> {
        let alias = publish.topic_alias;
        if !(topic::valid_name(&publish.topic) || (publish.topic.is_empty() && alias.is_some())) {
            return Err(ProtocolError::new(reason::TOPIC_NAME_INVALID, "topic name").into());
        }
        if alias.is_some_and(|alias| alias == 0 || alias > self.peer.topic_alias_maximum) {
            return Err(ProtocolError::new(reason::TOPIC_ALIAS_INVALID, "topic alias over the peer's").into());
        }
        if publish.qos > self.peer.maximum_qos {
            return Err(PublishError::QosNotSupported);
        }
        if publish.retain && !self.peer.retain_available {
            return Err(PublishError::RetainNotSupported);
        }
        let qos = publish.qos;
        if qos != QoS::AtMostOnce && self.capacity() == 0 {
            return Err(PublishError::Full);
        }
        // The head is small beside this.
        if self.outbox.len() > 0 && self.outbox.len() + publish.payload.len() > max_pending_bytes {
            return Err(PublishError::Full);
        }
        publish.packet_id = match qos {
            QoS::AtMostOnce => 0,
            QoS::AtLeastOnce => self.outgoing.allocate(token, Step::Ack).ok_or(PublishError::Full)?,
            QoS::ExactlyOnce => self.outgoing.allocate(token, Step::Rec).ok_or(PublishError::Full)?,
        };
        let packet_id = publish.packet_id;
        let limit = self.peer.max_packet_bytes;
        let error = match self.outbox.push_publish(publish, self.version, limit) {
            Ok(None) => return Ok(()),
            Ok(Some(bytes)) => PublishError::TooLarge { bytes, limit },
            Err(e) => e.into(),
        };
        self.outgoing.remove(packet_id);
        Err(error)
    }

    /// A packet id for a SUBSCRIBE of so many filters.
    pub(super) fn subscribe(&mut self, filters: usize) -> Option<u16> {
        self.outgoing.allocate(0, Step::SubAck(filters))
    }

    pub(super) fn forget(&mut self, packet_id: u16) {
        self.outgoing.remove(packet_id);
    }

    /// Answers a message; written once all before it are answered [MQTT-4.6.0-2, MQTT-4.6.0-3]. An id that
    /// waits for no answer is ignored.
    pub(super) fn ack(
        &mut self,
        packet_id: u16,
        reason: u8,
        user: UserProperties,
    ) -> Result<(), ProtocolError> {
        let reason = match reason {
            reason if codec::is_puback_reason(reason) => reason,
            0x80.. => reason::UNSPECIFIED, // one of another packet's
            _ => reason::SUCCESS,
        };
        let ack = Ack { packet_id, reason, reason_string: None, user };
        self.incoming.answer(ack);
        while let Some((ack, qos)) = self.incoming.next_answered() {
            let taken = ack.reason < 0x80 || self.version == Version::V311;
            if qos == QoS::ExactlyOnce && taken {
                self.incoming.hold(ack.packet_id);
            }
            let packet = if qos == QoS::ExactlyOnce { Packet::PubRec(ack) } else { Packet::PubAck(ack) };
            self.answer(packet)?;
        }
        Ok(())
    }

    /// Queues an answer; what only explains it is left out where the peer did not ask for it
    /// [MQTT-3.1.2-29] or it would be too large [MQTT-3.4.2-2].
    pub(super) fn answer(&mut self, mut packet: Packet) -> Result<(), ProtocolError> {
        let asked =
            self.peer.problem_information || matches!(packet, Packet::ConnAck(_) | Packet::Disconnect(_));
        if asked && self.outbox.push(&packet, self.version, self.peer.max_packet_bytes).is_ok() {
            return Ok(());
        }
        strip(&mut packet);
        self.outbox.push(&packet, self.version, self.peer.max_packet_bytes)
    }
}

/// Takes out what is for people only.
fn strip(packet: &mut Packet) {
    let (text, user) = match packet {
        Packet::ConnAck(p) => (&mut p.reason_string, &mut p.user),
        Packet::PubAck(p) | Packet::PubRec(p) | Packet::PubRel(p) | Packet::PubComp(p) => {
            (&mut p.reason_string, &mut p.user)
        }
        Packet::SubAck(p) | Packet::UnsubAck(p) => (&mut p.reason_string, &mut p.user),
        Packet::Disconnect(p) => (&mut p.reason_string, &mut p.user),
        _ => return,
    };
    *text = None;
    user.clear();
}

const fn protocol(message: &'static str) -> ProtocolError {
    ProtocolError::new(reason::PROTOCOL_ERROR, message)
}

/// What a packet id of ours waits for.
#[derive(Clone, Copy)]
enum Step {
    /// PUBACK.
    Ack,
    /// PUBREC.
    Rec,
    /// PUBCOMP.
    Comp,
    /// SUBACK with so many reasons.
    SubAck(usize),
}

/// Our packet ids in use.
#[derive(Default)]
struct Outgoing {
    slots: BTreeMap<u16, (u64, Step)>,
    /// Those of `slots` that are PUBLISHes.
    publishes: usize,
    last_id: u16,
}

impl Outgoing {
    fn allocate(&mut self, token: u64, step: Step) -> Option<u16> {
        if self.slots.len() >= usize::from(u16::MAX) {
            return None;
        }
        loop {
            if planted::on(Bug::SkipCollision) {
                self.last_id = self.last_id % 3 + 1;
                break;
            }
            self.last_id = self.last_id.wrapping_add(1);
            if self.last_id != 0 && !self.slots.contains_key(&self.last_id) {
                break;
            }
        }
        self.publishes += usize::from(!matches!(step, Step::SubAck(_)));
        self.slots.insert(self.last_id, (token, step));
        Some(self.last_id)
    }

    fn step(&self, packet_id: u16) -> Option<Step> {
        self.slots.get(&packet_id).map(|slot| slot.1)
    }

    fn advance(&mut self, packet_id: u16, to: Step) {
        if let Some(slot) = self.slots.get_mut(&packet_id) {
            slot.1 = to;
        }
    }

    fn remove(&mut self, packet_id: u16) -> u64 {
        let Some((token, step)) = self.slots.remove(&packet_id) else { return 0 };
        self.publishes -= usize::from(!matches!(step, Step::SubAck(_)));
        token
    }
}

enum Arrival {
    /// To be delivered.
    New,
    /// Delivered, its answer is awaited.
    Waiting,
    /// Delivered and answered by PUBREC, but not released.
    Held,
}

struct Waiting {
    packet_id: u16,
    qos: QoS,
    answer: Option<Ack>,
}

/// The peer's packet ids in use.
#[derive(Default)]
struct Incoming {
    /// Without PUBACK or PUBREC, in the order of the PUBLISHes.
    queue: VecDeque<Waiting>,
    /// With PUBREC, without PUBREL; sorted.
    held: Vec<u16>,
}

impl Incoming {
    fn position(&self, packet_id: u16) -> Option<usize> {
        self.queue.iter().position(|w| w.packet_id == packet_id)
    }

    fn arrive(
        &mut self,
        publish: &Publish,
        version: Version,
        maximum: usize,
    ) -> Result<Arrival, ProtocolError> {
        let packet_id = publish.packet_id;
        let exactly_once = publish.qos == QoS::ExactlyOnce;
        if let Some(waiting) = self.position(packet_id).and_then(|at| self.queue.get(at)) {
            // 5.0 forbids to resend on one connection [MQTT-4.4.0-1]; 3.1.1 does not.
            return if waiting.qos == publish.qos && (version == Version::V311 || exactly_once) {
                Ok(Arrival::Waiting)
            } else {
                Err(protocol("packet identifier in use"))
            };
        }
        if self.held.binary_search(&packet_id).is_ok() {
            return if exactly_once { Ok(Arrival::Held) } else { Err(protocol("packet identifier in use")) };
        }
        let full = match version {
            Version::V5 => self.queue.len() + self.held.len() >= maximum,
            Version::V311 => exactly_once && self.held.len() >= MAX_UNRELEASED,
        };
        if full {
            return Err(ProtocolError::new(reason::RECEIVE_MAXIMUM_EXCEEDED, "receive maximum exceeded"));
        }
        self.queue.push_back(Waiting { packet_id, qos: publish.qos, answer: None });
        Ok(Arrival::New)
    }

    fn answer(&mut self, ack: Ack) {
        if let Some(waiting) = self.queue.iter_mut().find(|w| w.packet_id == ack.packet_id) {
            waiting.answer.get_or_insert(ack);
        }
    }

    fn next_answered(&mut self) -> Option<(Ack, QoS)> {
        let ack = self.queue.front_mut()?.answer.take()?;
        let waiting = self.queue.pop_front()?;
        Some((ack, waiting.qos))
    }

    fn hold(&mut self, packet_id: u16) {
        if let Err(at) = self.held.binary_search(&packet_id) {
            self.held.insert(at, packet_id);
        }
    }

    fn release(&mut self, packet_id: u16) -> bool {
        self.held.binary_search(&packet_id).map(|at| self.held.remove(at)).is_ok()
    }
}

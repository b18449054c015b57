//! The server's side of one connection, sans-IO: all of MQTT's rules for 5.0 and 3.1.1; who may do what is the
//! caller's. It keeps no session over connections, and says so in CONNACK.
//!
//! Memory of a connection, at most: one packet in reading and one read of the caller's; 32 events, each no
//! larger than ten times its packet (a packet of only empty user properties); the will; `receive_maximum`
//! ids of 72 bytes, each with its answer once given (the messages themselves are the caller's); 1,024 ids of
//! 2 bytes (QoS 2); `topic_alias_maximum` topics of `max_topic_bytes`; `window` ids of 40 bytes;
//! `max_pending_bytes`, one packet and the caller's answers waiting to be written. An idle connection holds
//! none of the buffers.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::codec::{self, MAX_PACKET_BYTES, ProtocolError};
use super::flow::{Flow, Flowed, Own, Peer, PublishError};
use super::{
    Ack, ConnAck, Connect, Disconnect, Packet, Publish, QoS, SubAck, Subscribe, Unsubscribe, UserProperties,
    Version, Will, reason, topic,
};
use crate::runtime::Mono;

/// Events made ahead of the caller; the rest stays as bytes.
const MAX_EVENTS: usize = 32;

/// A packet that has begun is given this rate on top of the keep-alive: slower, and it is a slow-loris.
const MIN_BYTES_PER_SECOND: u64 = 1024;

/// What one client may take.
#[derive(Clone, Debug)]
pub struct ServerLimits {
    /// Largest packet taken, in bytes; said in CONNACK.
    pub max_packet_bytes: u32,
    /// Largest CONNECT taken, in bytes: it comes from strangers.
    pub max_connect_bytes: u32,
    /// QoS 1 and 2 PUBLISHes without answer; said in CONNACK. A 3.1.1 client is held back by not reading.
    /// Looking one up takes time in proportion; keep it under some thousand.
    pub receive_maximum: u16,
    /// Topic aliases taken; said in CONNACK.
    pub topic_alias_maximum: u16,
    /// Longest topic name taken, in bytes.
    pub max_topic_bytes: usize,
    /// Highest QoS taken from 5.0 clients; said in CONNACK. 3.1.1 clients cannot be told and may use all.
    pub maximum_qos: QoS,
    /// Whether retained messages are taken.
    pub retain_available: bool,
    /// Whether subscriptions may have wildcards.
    pub wildcard_subscriptions: bool,
    /// Whether subscriptions may have identifiers.
    pub subscription_identifiers: bool,
    /// QoS 1 and 2 PUBLISHes to the client without answer; its Receive Maximum may make it smaller.
    pub window: u16,
    /// Bytes waiting to be written, above which nothing more is read from the client and published to it.
    pub max_pending_bytes: usize,
    /// Time from the connection's start to a whole CONNECT.
    pub connect_timeout: Duration,
    /// Longest keep-alive, in seconds; a 5.0 client that wants a longer one or none is told this one. 0 is no
    /// limit.
    pub max_keep_alive_s: u16,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            max_packet_bytes: 256 << 10,
            max_connect_bytes: 16 << 10,
            receive_maximum: 64,
            topic_alias_maximum: 16,
            max_topic_bytes: 1024,
            maximum_qos: QoS::AtLeastOnce,
            retain_available: true,
            wildcard_subscriptions: true,
            subscription_identifiers: false,
            window: 16,
            max_pending_bytes: 64 << 10,
            connect_timeout: Duration::from_secs(10),
            max_keep_alive_s: 0,
        }
    }
}

/// What happened, in order. `Closed` comes exactly once and last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerEvent {
    /// A client wants in: answer by [`Server::accept`] or [`Server::refuse`]. Until then nothing is read.
    Connect(Box<Connect>),
    /// A message, its alias resolved. QoS 1 and 2 are to be answered by [`Server::ack`].
    Publish(Box<Publish>),
    /// To be answered by [`Server::suback`]. No shared one comes from a 5.0 client.
    Subscribe(Box<Subscribe>),
    /// To be answered by [`Server::unsuback`].
    Unsubscribe(Box<Unsubscribe>),
    /// The client's last answer to a QoS 1 or 2 message. `ack.reason` from 0x80 on means: not taken.
    Delivered {
        /// As given to [`Server::publish`].
        token: u64,
        /// PUBACK, PUBCOMP or a failing PUBREC.
        ack: Ack,
    },
    /// The connection is over: write what is left, then close it.
    Closed {
        /// Whether the client ended it by DISCONNECT.
        clean: bool,
        /// The reason, if it was not the client's DISCONNECT, its going away, or the caller's wish.
        error: Option<ProtocolError>,
        /// The client's DISCONNECT.
        disconnect: Option<Box<Disconnect>>,
        /// To be published now: sessions end with their connection, so its delay is void [MQTT-3.1.2-8].
        will: Option<Box<Will>>,
    },
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// No CONNECT yet; the time it has to come.
    Waiting(Mono),
    /// CONNECT is with the caller.
    Asking,
    Open,
    Closed,
}

/// One connection, from its first byte to its end.
///
/// The caller gives it what it reads ([`receive`](Self::receive)) while [`ready`](Self::ready), takes events
/// until there is none (also after `ack` and after writing: bytes may wait inside), writes what
/// [`poll_transmit`](Self::poll_transmit) gives, calls [`handle_timeout`](Self::handle_timeout) when
/// [`poll_timeout`](Self::poll_timeout) is reached and [`handle_eof`](Self::handle_eof) when the client is gone.
/// A write that does not go on is the caller's to time out.
pub struct Server {
    state: State,
    limits: ServerLimits,
    buf: BytesMut,
    /// Speaks 3.1.1 until CONNECT says otherwise; nothing is written before.
    flow: Flow,
    version: Option<Version>,
    events: VecDeque<ServerEvent>,
    /// Of CONNECT: what `accept` needs to know.
    asked: Asked,
    will: Option<Box<Will>>,
    keep_alive: Duration,
    now: Mono,
    /// When the last packet was whole.
    last_packet: Mono,
    /// When the packet began of which a part is there.
    partial_since: Option<Mono>,
    /// Reading was stopped by us, so the client's silence was not its fault: its time begins at the next
    /// `handle_timeout`, for which `poll_timeout` then asks at once.
    excused: bool,
}

#[derive(Default)]
struct Asked {
    clean_start: bool,
    no_client_id: bool,
    keep_alive_s: u16,
    session_expiry_s: u32,
}

impl Server {
    /// A connection that has just been made.
    pub fn new(limits: ServerLimits, now: Mono) -> Self {
        let own = Own {
            receive_maximum: usize::from(limits.receive_maximum.max(1)),
            topic_alias_maximum: limits.topic_alias_maximum,
            max_topic_bytes: limits.max_topic_bytes,
        };
        let peer = Peer {
            receive_maximum: usize::from(limits.window.max(1)),
            max_packet_bytes: MAX_PACKET_BYTES,
            maximum_qos: QoS::ExactlyOnce,
            retain_available: true,
            topic_alias_maximum: 0,
            problem_information: true,
        };
        Self {
            state: State::Waiting(now + limits.connect_timeout),
            limits,
            buf: BytesMut::new(),
            flow: Flow::new(Version::V311, own, peer),
            version: None,
            events: VecDeque::new(),
            asked: Asked::default(),
            will: None,
            keep_alive: Duration::ZERO,
            now,
            last_packet: now,
            partial_since: None,
            excused: false,
        }
    }

    /// Takes bytes from the client. An error ends the connection; [`ServerEvent::Closed`] has it as well.
    pub fn receive(&mut self, now: Mono, bytes: &[u8]) -> Result<(), ProtocolError> {
        self.now = self.now.max(now);
        if self.state == State::Closed {
            return Ok(());
        }
        self.buf.extend_from_slice(bytes);
        self.process()
    }

    /// Whether more should be read now. Not reading is how a client is held back that sends more than it
    /// may have unanswered (3.1.1), does not read its answers, or was not yet let in.
    pub fn ready(&self) -> bool {
        match self.state {
            State::Waiting(_) => true,
            State::Open => !self.blocked() && self.events.len() < MAX_EVENTS,
            State::Asking | State::Closed => false,
        }
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<ServerEvent> {
        if self.events.is_empty() && !self.buf.is_empty() {
            self.process().unwrap_or_default(); // an error is an event as well
        }
        let event = self.events.pop_front();
        if self.events.is_empty() && self.events.capacity() > 4 {
            self.events = VecDeque::new();
        }
        event
    }

    /// The next bytes to write.
    pub fn poll_transmit(&mut self) -> Option<Bytes> {
        self.flow.outbox.pop()
    }

    /// When [`handle_timeout`](Self::handle_timeout) is next wanted.
    pub fn poll_timeout(&self) -> Option<Mono> {
        match self.state {
            State::Waiting(deadline) => Some(deadline),
            State::Open if self.keep_alive.is_zero() || self.flow.paused() => None,
            State::Open if self.excused => Some(self.now),
            State::Open => {
                let mut since = self.last_packet;
                let mut allowed = self.keep_alive * 3 / 2;
                if let Some(began) = self.partial_since {
                    let bytes = codec::packet_len(&self.buf).unwrap_or_default() as u64;
                    since = since.max(began);
                    allowed += Duration::from_secs(bytes / MIN_BYTES_PER_SECOND);
                }
                Some(since + allowed)
            }
            _ => None,
        }
    }

    /// Ends the connection of a client that sent no CONNECT, or nothing for one and a half keep-alives.
    pub fn handle_timeout(&mut self, now: Mono) -> Result<(), ProtocolError> {
        self.now = self.now.max(now);
        if self.state == State::Open && !self.flow.paused() && std::mem::take(&mut self.excused) {
            self.last_packet = self.now;
            self.partial_since = self.partial_since.map(|_| self.now);
        }
        if self.poll_timeout().is_none_or(|at| self.now < at) {
            return Ok(());
        }
        let message = if self.state == State::Open { "keep alive timeout" } else { "no CONNECT in time" };
        self.fail(ProtocolError::new(reason::KEEP_ALIVE_TIMEOUT, message))
    }

    /// The client's side of the connection ended, without DISCONNECT if none came before.
    pub fn handle_eof(&mut self) {
        self.close(false, None, None);
    }

    /// Lets the client in. What the limits say is filled in, the rest is the caller's: reason is made
    /// Success; a session that the client wants to last is said to last 0 seconds unless the caller says
    /// otherwise; an empty client id needs `assigned_client_id` in 5.0, else the client is refused.
    pub fn accept(&mut self, mut connack: ConnAck) {
        if self.state != State::Asking {
            return;
        }
        let limits = &self.limits;
        connack.reason = reason::SUCCESS;
        connack.session_present &= !self.asked.clean_start;
        let mut keep_alive_s = self.asked.keep_alive_s;
        if self.flow.version == Version::V5 {
            if self.asked.no_client_id && connack.assigned_client_id.is_none() {
                return self.refuse(ConnAck { reason: reason::BAD_CLIENT_ID, ..ConnAck::default() });
            }
            let longest = limits.max_keep_alive_s;
            if longest != 0 && (keep_alive_s == 0 || keep_alive_s > longest) {
                connack.server_keep_alive_s.get_or_insert(longest);
            }
            keep_alive_s = connack.server_keep_alive_s.unwrap_or(keep_alive_s);
            connack.receive_maximum = Some(limits.receive_maximum.max(1));
            connack.maximum_packet_size = Some(limits.max_packet_bytes.max(1));
            connack.topic_alias_maximum = limits.topic_alias_maximum;
            connack.maximum_qos = Some(limits.maximum_qos as u8);
            connack.retain_available = Some(limits.retain_available);
            connack.wildcard_subscription_available = Some(limits.wildcard_subscriptions);
            connack.subscription_identifiers_available = Some(limits.subscription_identifiers);
            connack.shared_subscription_available = Some(false);
            if self.asked.session_expiry_s != 0 {
                connack.session_expiry_s.get_or_insert(0);
            }
        }
        self.keep_alive = Duration::from_secs(u64::from(keep_alive_s));
        self.state = State::Open;
        self.excused = true;
        if let Err(e) = self.flow.answer(Packet::ConnAck(Box::new(connack))) {
            self.fail(e).unwrap_or_default();
        }
    }

    /// Turns the client away. 3.1.1 has few return codes: for a reason that it has no word for, the
    /// connection is closed without CONNACK [3.1.1 MQTT-3.2.2-6].
    pub fn refuse(&mut self, mut connack: ConnAck) {
        if self.state != State::Asking {
            return;
        }
        connack.session_present = false;
        connack.reason = match connack.reason {
            reason::SERVER_SHUTTING_DOWN => reason::SERVER_UNAVAILABLE, // only DISCONNECT has it
            reason if reason >= 0x80 && codec::is_connack_reason(reason) => reason,
            _ => reason::UNSPECIFIED,
        };
        self.will = None;
        // If it cannot be said, closing says it.
        self.flow.answer(Packet::ConnAck(Box::new(connack))).unwrap_or_default();
        self.close(false, None, None);
    }

    /// Answers a message of QoS 1 or 2, in any order; answers are written in the order of the messages. A
    /// failure (reason from 0x80 on) closes a 3.1.1 connection, for that version has no other word for it
    /// [3.1.1 MQTT-3.3.5-2]. An id that waits for no answer is ignored.
    pub fn ack(&mut self, packet_id: u16, reason: u8, user: UserProperties) {
        if self.state != State::Open {
            return;
        }
        let result = if reason >= 0x80 && self.flow.version == Version::V311 {
            Err(ProtocolError::new(reason, "message refused"))
        } else {
            self.flow.ack(packet_id, reason, user)
        };
        if let Err(e) = result {
            self.fail(e).unwrap_or_default();
        }
    }

    /// Answers a SUBSCRIBE, with one reason for each filter.
    pub fn suback(&mut self, suback: SubAck) {
        self.answer(Packet::SubAck(suback));
    }

    /// Answers an UNSUBSCRIBE, with one reason for each filter.
    pub fn unsuback(&mut self, unsuback: SubAck) {
        self.answer(Packet::UnsubAck(unsuback));
    }

    /// Queues a message for the client; `packet_id` in it is ignored. QoS 1 and 2 come back as
    /// [`ServerEvent::Delivered`] with `token`; QoS 0 does not.
    pub fn publish(&mut self, publish: Publish, token: u64) -> Result<(), PublishError> {
        if self.state != State::Open {
            return Err(PublishError::NotConnected);
        }
        self.flow.publish(publish, token, self.limits.max_pending_bytes)
    }

    /// QoS 1 and 2 messages that can be published to the client now.
    pub fn capacity(&self) -> usize {
        if self.state == State::Open { self.flow.capacity() } else { 0 }
    }

    /// Ends the connection; a 3.1.1 client is told nothing. Before CONNACK it is a refusal with that reason.
    /// The will is in [`ServerEvent::Closed`].
    pub fn disconnect(&mut self, mut disconnect: Disconnect) {
        if self.state == State::Asking {
            let Disconnect { reason, reason_string, server_reference, user, .. } = disconnect;
            return self.refuse(ConnAck {
                reason,
                reason_string,
                server_reference,
                user,
                ..ConnAck::default()
            });
        }
        if self.state == State::Open && self.flow.version == Version::V5 {
            disconnect.session_expiry_s = None; // [MQTT-3.14.2-2]
            self.flow.answer(Packet::Disconnect(disconnect)).unwrap_or_default();
        }
        self.close(false, None, None);
    }

    /// The client's version, once known.
    pub fn version(&self) -> Option<Version> {
        self.version
    }

    /// QoS 1 and 2 messages of the client's that are not finished.
    pub fn inflight(&self) -> usize {
        self.flow.inflight()
    }

    /// Bytes waiting to be written.
    pub fn pending_bytes(&self) -> usize {
        self.flow.outbox.len()
    }

    /// QoS 2 ids that were answered by PUBREC but not released. A caller that keeps sessions gives them to
    /// [`restore_qos2`](Self::restore_qos2) of the next connection, so that a repeated message stays one.
    pub fn qos2_ids(&self) -> &[u16] {
        self.flow.held()
    }

    /// Continues a session's QoS 2 (see [`qos2_ids`](Self::qos2_ids)); call it before `accept`.
    pub fn restore_qos2(&mut self, ids: &[u16]) {
        self.flow.hold(ids);
    }

    /// Whether the connection is over: write what is left, then close it.
    pub fn is_closed(&self) -> bool {
        self.state == State::Closed
    }

    /// No more is taken from the client for now.
    fn blocked(&self) -> bool {
        self.flow.paused() || self.flow.outbox.len() >= self.limits.max_pending_bytes
    }

    /// Reads packets until the buffer is used up, enough events wait, or the client is held back.
    fn process(&mut self) -> Result<(), ProtocolError> {
        while matches!(self.state, State::Waiting(_) | State::Open)
            && self.events.len() < MAX_EVENTS
            && !self.blocked()
        {
            let waiting = self.version.is_none();
            let limit = if waiting { self.limits.max_connect_bytes } else { self.limits.max_packet_bytes };
            let level = if waiting { codec::announced_level(&self.buf) } else { None };
            match codec::decode(&mut self.buf, self.version, limit as usize) {
                Ok(None) => break,
                Ok(Some(packet)) => {
                    self.last_packet = self.now;
                    self.partial_since = None;
                    if let Err(e) = self.handle(packet) {
                        return self.fail(e);
                    }
                }
                Err(e) => {
                    self.refuse_unread(level, e);
                    return self.fail(e);
                }
            }
        }
        self.excused |= self.flow.paused();
        if self.buf.is_empty() {
            self.buf = BytesMut::new(); // an idle connection holds no memory
            self.partial_since = None;
        } else {
            self.partial_since.get_or_insert(self.now);
        }
        Ok(())
    }

    /// Answers a CONNECT that could not be read, in the version that it announced.
    fn refuse_unread(&mut self, level: Option<u8>, error: ProtocolError) {
        self.flow.version = match level {
            Some(5..) => Version::V5,
            Some(_) if error.reason == reason::UNSUPPORTED_VERSION => Version::V311,
            _ => return,
        };
        let connack = ConnAck { reason: error.reason, ..ConnAck::default() };
        self.flow.answer(Packet::ConnAck(Box::new(connack))).unwrap_or_default();
    }

    fn handle(&mut self, packet: Packet) -> Result<(), ProtocolError> {
        let v5 = self.flow.version == Version::V5;
        match packet {
            Packet::Connect(connect) if self.version.is_none() => self.on_connect(connect),
            Packet::Connect(_) => return Err(protocol("second CONNECT")),
            Packet::PingReq => self.flow.answer(Packet::PingResp)?,
            Packet::Disconnect(disconnect) => return self.on_disconnect(disconnect),
            Packet::Subscribe(subscribe) => {
                if v5 {
                    self.check_subscribe(&subscribe)?;
                }
                self.events.push_back(ServerEvent::Subscribe(subscribe));
            }
            Packet::Unsubscribe(unsubscribe) => self.events.push_back(ServerEvent::Unsubscribe(unsubscribe)),
            Packet::Publish(publish) if v5 => {
                self.check_publish(&publish)?;
                self.flow(Packet::Publish(publish))?;
            }
            packet => self.flow(packet)?,
        }
        Ok(())
    }

    fn flow(&mut self, packet: Packet) -> Result<(), ProtocolError> {
        match self.flow.handle(packet)? {
            Flowed::Message(publish) => self.events.push_back(ServerEvent::Publish(publish)),
            Flowed::Acked { token, ack } => self.events.push_back(ServerEvent::Delivered { token, ack }),
            Flowed::Nothing | Flowed::Subscribed(_) => {}
        }
        Ok(())
    }

    fn on_connect(&mut self, connect: Box<Connect>) {
        self.version = Some(connect.version);
        self.flow.version = connect.version;
        self.state = State::Asking;
        let peer = &mut self.flow.peer;
        if let Some(maximum) = connect.receive_maximum {
            peer.receive_maximum = peer.receive_maximum.min(usize::from(maximum));
        }
        if let Some(maximum) = connect.maximum_packet_size {
            peer.max_packet_bytes = peer.max_packet_bytes.min(maximum as usize);
        }
        peer.topic_alias_maximum = connect.topic_alias_maximum;
        peer.problem_information = connect.request_problem_information;
        self.asked = Asked {
            clean_start: connect.clean_start,
            no_client_id: connect.client_id.is_empty(),
            keep_alive_s: connect.keep_alive_s,
            session_expiry_s: connect.session_expiry_s,
        };
        if let Some(reason) = self.objection(&connect) {
            return self.refuse(ConnAck { reason, ..ConnAck::default() });
        }
        self.will = connect.will.clone().map(Box::new);
        self.events.push_back(ServerEvent::Connect(connect));
    }

    /// Why a CONNECT cannot be taken, whoever it is from.
    fn objection(&self, connect: &Connect) -> Option<u8> {
        let v5 = connect.version == Version::V5;
        if connect.authentication_method.is_some() {
            return Some(reason::BAD_AUTHENTICATION_METHOD);
        }
        if !v5 && connect.client_id.is_empty() && !connect.clean_start {
            return Some(reason::BAD_CLIENT_ID); // [3.1.1 MQTT-3.1.3-8]
        }
        let will = connect.will.as_ref()?;
        if will.topic.len() > self.limits.max_topic_bytes {
            return Some(reason::TOPIC_NAME_INVALID);
        }
        if v5 && will.qos > self.limits.maximum_qos {
            return Some(reason::QOS_NOT_SUPPORTED); // [MQTT-3.2.2-12]
        }
        if v5 && will.retain && !self.limits.retain_available {
            return Some(reason::RETAIN_NOT_SUPPORTED); // [MQTT-3.2.2-13]
        }
        None
    }

    fn check_publish(&self, publish: &Publish) -> Result<(), ProtocolError> {
        if publish.qos > self.limits.maximum_qos {
            return Err(ProtocolError::new(reason::QOS_NOT_SUPPORTED, "QoS over the maximum"));
        }
        if publish.retain && !self.limits.retain_available {
            return Err(ProtocolError::new(reason::RETAIN_NOT_SUPPORTED, "retained message"));
        }
        if !publish.subscription_ids.is_empty() {
            return Err(protocol("subscription identifier from a client")); // [MQTT-3.3.4-6]
        }
        Ok(())
    }

    fn check_subscribe(&self, subscribe: &Subscribe) -> Result<(), ProtocolError> {
        if subscribe.subscription_id.is_some() && !self.limits.subscription_identifiers {
            let reason = reason::SUBSCRIPTION_IDS_NOT_SUPPORTED;
            return Err(ProtocolError::new(reason, "subscription identifier"));
        }
        for filter in &subscribe.filters {
            if topic::is_shared(&filter.filter) {
                let reason = reason::SHARED_SUBSCRIPTIONS_NOT_SUPPORTED;
                return Err(ProtocolError::new(reason, "shared subscription"));
            }
            if topic::has_wildcards(&filter.filter) && !self.limits.wildcard_subscriptions {
                return Err(ProtocolError::new(reason::WILDCARDS_NOT_SUPPORTED, "wildcard subscription"));
            }
        }
        Ok(())
    }

    fn on_disconnect(&mut self, disconnect: Disconnect) -> Result<(), ProtocolError> {
        if !matches!(disconnect.reason, 0 | 4 | 0x80..=0x83 | 0x90 | 0x93..=0x99) {
            return Err(protocol("reason code that only a server may send"));
        }
        if disconnect.server_reference.is_some() {
            return Err(protocol("server reference from a client"));
        }
        if self.asked.session_expiry_s == 0 && disconnect.session_expiry_s.is_some_and(|s| s != 0) {
            return Err(protocol("session expiry at DISCONNECT that CONNECT did not have"));
        }
        if disconnect.reason == reason::SUCCESS {
            self.will = None; // [MQTT-3.14.4-3]
        }
        self.close(true, None, Some(disconnect));
        Ok(())
    }

    fn answer(&mut self, packet: Packet) {
        if self.state == State::Open
            && let Err(e) = self.flow.answer(packet)
        {
            self.fail(e).unwrap_or_default();
        }
    }

    fn fail(&mut self, error: ProtocolError) -> Result<(), ProtocolError> {
        if self.state == State::Open && self.flow.version == Version::V5 {
            let reason = codec::disconnect_reason(error.reason, false);
            let disconnect = Disconnect { reason, ..Disconnect::default() };
            self.flow.answer(Packet::Disconnect(disconnect)).unwrap_or_default();
        }
        self.close(false, Some(error), None);
        Err(error)
    }

    fn close(&mut self, clean: bool, error: Option<ProtocolError>, disconnect: Option<Disconnect>) {
        if self.state != State::Closed {
            self.state = State::Closed;
            self.buf = BytesMut::new();
            let will = self.will.take();
            let disconnect = disconnect.map(Box::new);
            self.events.push_back(ServerEvent::Closed { clean, error, disconnect, will });
        }
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("version", &self.version)
            .field("open", &(self.state == State::Open))
            .field("inflight", &self.inflight())
            .field("pending_bytes", &self.pending_bytes())
            .finish_non_exhaustive()
    }
}

const fn protocol(message: &'static str) -> ProtocolError {
    ProtocolError::new(reason::PROTOCOL_ERROR, message)
}

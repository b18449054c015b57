//! The client's side of one connection, sans-IO. It keeps no session: what was not acknowledged when the
//! connection ends is the caller's to send again.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::codec::{self, MAX_PACKET_BYTES, ProtocolError};
use super::flow::{Flow, Flowed, Own, Peer, PublishError};
use super::{
    Ack, ConnAck, Connect, Disconnect, Filter, Packet, Publish, QoS, SubAck, Subscribe, Version, reason,
    topic,
};
use crate::runtime::Mono;

/// Events made ahead of the caller; the rest stays as bytes.
const MAX_EVENTS: usize = 32;

/// How a client connects.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// What is sent. In 5.0 `receive_maximum` and `maximum_packet_size`, where `None`, are filled in from
    /// the two fields below.
    pub connect: Connect,
    /// Largest packet taken from the server, in bytes. Memory: one such packet and one read of the caller's.
    pub max_packet_bytes: usize,
    /// QoS 1 and 2 PUBLISHes that are unanswered at a time, in each direction; the server's Receive Maximum
    /// may make it smaller. Memory: about 64 bytes each, and what the caller holds.
    pub window: u16,
    /// Time for the CONNACK, and for a sign of life after a PINGREQ.
    pub ping_timeout: Duration,
}

/// What happened, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientEvent {
    /// The server took the connection.
    Connected(Box<ConnAck>),
    /// The server refused it; the connection is over.
    Refused(Box<ConnAck>),
    /// The server's last answer to a QoS 1 or 2 message. `ack.reason` from 0x80 on means: not taken.
    Acked {
        /// As given to [`Client::publish`].
        token: u64,
        /// PUBACK, PUBCOMP or a failing PUBREC.
        ack: Ack,
    },
    /// A message. QoS 1 and 2 are to be answered by [`Client::ack`].
    Message(Box<Publish>),
    /// The server's answer to [`Client::subscribe`]; reasons from 0x80 on are refusals.
    Subscribed(SubAck),
    /// The server ended the connection by DISCONNECT.
    Closed(Disconnect),
    /// The server broke the protocol or is dead; the connection is over.
    Failed(ProtocolError),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Connecting,
    Connected,
    Closed,
}

/// One connection, from CONNECT to its end.
///
/// The caller gives it what it reads ([`receive`](Self::receive)), takes events until there is none, writes
/// what [`poll_transmit`](Self::poll_transmit) gives until there is nothing, and calls
/// [`handle_timeout`](Self::handle_timeout) when [`poll_timeout`](Self::poll_timeout) is reached. Time does
/// not go on by itself: `publish` counts as sent when the core last heard of the time, so that a PINGREQ may
/// come early, never late.
pub struct Client {
    state: State,
    buf: BytesMut,
    flow: Flow,
    events: VecDeque<ClientEvent>,
    server: Option<Box<ConnAck>>,
    clean_start: bool,
    max_packet_bytes: usize,
    keep_alive: Duration,
    ping_timeout: Duration,
    now: Mono,
    last_sent: Mono,
    last_received: Mono,
    /// When a PINGREQ was queued after which nothing came.
    pinged: Option<Mono>,
}

impl Client {
    /// Starts with a CONNECT to be written. An error if that cannot be written (a string too long).
    pub fn new(options: ClientOptions, now: Mono) -> Result<Self, ProtocolError> {
        let ClientOptions { mut connect, max_packet_bytes, window, ping_timeout } = options;
        let window = window.max(1);
        if connect.version == Version::V5 {
            connect.receive_maximum = Some(connect.receive_maximum.unwrap_or(window).max(1));
            let bytes = u32::try_from(max_packet_bytes).unwrap_or(u32::MAX).max(1);
            connect.maximum_packet_size.get_or_insert(bytes);
        }
        let own = Own {
            receive_maximum: usize::from(connect.receive_maximum.unwrap_or(window).max(1)),
            topic_alias_maximum: connect.topic_alias_maximum,
            max_topic_bytes: usize::from(u16::MAX),
        };
        // What a server is held to before its CONNACK.
        let peer = Peer {
            receive_maximum: usize::from(window),
            max_packet_bytes: MAX_PACKET_BYTES,
            maximum_qos: QoS::ExactlyOnce,
            retain_available: true,
            topic_alias_maximum: 0,
            problem_information: true,
        };
        let mut client = Self {
            state: State::Connecting,
            buf: BytesMut::new(),
            flow: Flow::new(connect.version, own, peer),
            events: VecDeque::new(),
            server: None,
            clean_start: connect.clean_start,
            max_packet_bytes,
            keep_alive: Duration::from_secs(u64::from(connect.keep_alive_s)),
            ping_timeout,
            now,
            last_sent: now,
            last_received: now,
            pinged: None,
        };
        let version = connect.version;
        client.flow.outbox.push(&Packet::Connect(Box::new(connect)), version, MAX_PACKET_BYTES)?;
        Ok(client)
    }

    /// Takes bytes from the server. An error ends the connection: it is an event
    /// ([`ClientEvent::Failed`]) as well, and a DISCONNECT with its reason is to be written where 5.0 has one.
    pub fn receive(&mut self, now: Mono, bytes: &[u8]) -> Result<(), ProtocolError> {
        self.now = self.now.max(now);
        self.last_received = self.now;
        self.pinged = None;
        if self.state == State::Closed {
            return Ok(());
        }
        self.buf.extend_from_slice(bytes);
        self.process()
    }

    /// Whether more should be read: a 3.1.1 server that sends more than the window is held back by
    /// not reading until messages are acknowledged.
    pub fn ready(&self) -> bool {
        self.state != State::Closed && !self.flow.paused()
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<ClientEvent> {
        if self.events.is_empty() && !self.buf.is_empty() {
            self.process().unwrap_or_default(); // an error is an event as well
        }
        self.events.pop_front()
    }

    /// The next bytes to write.
    pub fn poll_transmit(&mut self) -> Option<Bytes> {
        self.flow.outbox.pop()
    }

    /// Bytes that [`poll_transmit`](Self::poll_transmit) has still to give.
    pub fn queued_bytes(&self) -> usize {
        self.flow.outbox.len()
    }

    /// When [`handle_timeout`](Self::handle_timeout) is next wanted; `None` without keep-alive or after the
    /// end.
    pub fn poll_timeout(&self) -> Option<Mono> {
        match self.state {
            State::Connecting => Some(self.last_received + self.ping_timeout),
            State::Connected => match self.pinged {
                Some(at) => Some(at + self.ping_timeout),
                None if self.keep_alive.is_zero() => None,
                None => Some(self.last_sent.min(self.last_received) + self.keep_alive),
            },
            State::Closed => None,
        }
    }

    /// Sends a PINGREQ when nothing was sent or nothing came for the keep-alive. An error if the server does
    /// not answer; it is an event as well.
    pub fn handle_timeout(&mut self, now: Mono) -> Result<(), ProtocolError> {
        self.now = self.now.max(now);
        if self.poll_timeout().is_none_or(|at| self.now < at) {
            return Ok(());
        }
        if self.state == State::Connecting || self.pinged.is_some() {
            return self.fail(ProtocolError::new(reason::UNSPECIFIED, "server does not answer"));
        }
        self.pinged = Some(self.now);
        self.send(&Packet::PingReq)
    }

    /// QoS 1 and 2 messages that can be published now.
    pub fn capacity(&self) -> usize {
        if self.state == State::Connected { self.flow.capacity() } else { 0 }
    }

    /// Queues a message; `packet_id` in it is ignored. QoS 1 and 2 come back as [`ClientEvent::Acked`] with
    /// `token`, in the server's order; QoS 0 does not. QoS 0 is refused as `Full` while 256 KiB wait to be
    /// written. Memory: the payload is shared, not copied, from 4 KiB on.
    pub fn publish(&mut self, publish: Publish, token: u64) -> Result<(), PublishError> {
        if self.state != State::Connected {
            return Err(PublishError::NotConnected);
        }
        // QoS 1 and 2 are bounded by the window.
        let max_pending_bytes = if publish.qos == QoS::AtMostOnce { 256 << 10 } else { usize::MAX };
        self.flow.publish(publish, token, max_pending_bytes)?;
        self.last_sent = self.now;
        Ok(())
    }

    /// Subscribes; returns the packet id that [`ClientEvent::Subscribed`] will have.
    pub fn subscribe(&mut self, filters: &[(&str, QoS)]) -> Result<u16, PublishError> {
        if self.state != State::Connected {
            return Err(PublishError::NotConnected);
        }
        if !filters.iter().all(|(filter, _)| topic::valid_filter(filter)) {
            return Err(ProtocolError::new(reason::TOPIC_FILTER_INVALID, "topic filter").into());
        }
        let packet_id = self.flow.subscribe(filters.len()).ok_or(PublishError::Full)?;
        let filters = filters
            .iter()
            .map(|&(filter, qos)| Filter {
                filter: filter.to_owned(),
                qos,
                no_local: false,
                retain_as_published: false,
                retain_handling: 0,
            })
            .collect();
        let subscribe = Subscribe { packet_id, filters, subscription_id: None, user: Vec::new() };
        self.send(&Packet::Subscribe(Box::new(subscribe)))
            .map_err(|e| {
                self.flow.forget(packet_id);
                e.into()
            })
            .map(|()| packet_id)
    }

    /// Answers a message of QoS 1 or 2, in any order; it is written in the order of the messages. 3.1.1 has
    /// no word for a failure (from 0x80 on) and says that it was taken, else the server would send it for
    /// ever: note it before. An unknown id is ignored.
    pub fn ack(&mut self, packet_id: u16, reason: u8) {
        if self.state == State::Connected {
            let before = self.flow.outbox.len();
            if let Err(e) = self.flow.ack(packet_id, reason, Vec::new()) {
                self.fail(e).unwrap_or_default();
            } else if self.flow.outbox.len() > before {
                self.last_sent = self.now;
            }
        }
    }

    /// Ends the connection: 0 for good, 4 with the will published. What was queued before is written first.
    pub fn disconnect(&mut self, reason: u8) {
        let said = self.flow.version == Version::V5 || reason == reason::SUCCESS;
        if self.state != State::Closed && said {
            let packet = Packet::Disconnect(Disconnect { reason, ..Disconnect::default() });
            self.send(&packet).unwrap_or_default();
        }
        self.close();
    }

    /// What the server said in its CONNACK.
    pub fn server(&self) -> Option<&ConnAck> {
        self.server.as_deref()
    }

    /// Whether the connection is over: write what is left, then close it.
    pub fn is_closed(&self) -> bool {
        self.state == State::Closed
    }

    /// Reads packets until the buffer is used up or enough events wait.
    fn process(&mut self) -> Result<(), ProtocolError> {
        while self.state != State::Closed && self.events.len() < MAX_EVENTS && !self.flow.paused() {
            match codec::decode(&mut self.buf, Some(self.flow.version), self.max_packet_bytes) {
                Ok(None) => break,
                Ok(Some(packet)) => {
                    if let Err(e) = self.handle(packet) {
                        return self.fail(e);
                    }
                }
                Err(e) => return self.fail(e),
            }
        }
        if self.buf.is_empty() {
            self.buf = BytesMut::new(); // an idle connection holds no memory
        }
        Ok(())
    }

    fn handle(&mut self, packet: Packet) -> Result<(), ProtocolError> {
        match (self.state, packet) {
            (State::Connecting, Packet::ConnAck(connack)) => return self.on_connack(connack),
            (State::Connecting, _) => return Err(protocol("first packet is not CONNACK")),
            (_, Packet::PingResp) => {}
            (_, Packet::Disconnect(disconnect)) => {
                if self.flow.version == Version::V311 || disconnect.session_expiry_s.is_some() {
                    return Err(protocol("DISCONNECT that a server may not send"));
                }
                self.close();
                self.events.push_back(ClientEvent::Closed(disconnect));
            }
            (_, packet) => match self.flow.handle(packet)? {
                Flowed::Nothing => {}
                Flowed::Message(publish) => self.events.push_back(ClientEvent::Message(publish)),
                Flowed::Acked { token, ack } => self.events.push_back(ClientEvent::Acked { token, ack }),
                Flowed::Subscribed(suback) => self.events.push_back(ClientEvent::Subscribed(suback)),
            },
        }
        Ok(())
    }

    fn on_connack(&mut self, connack: Box<ConnAck>) -> Result<(), ProtocolError> {
        if connack.reason != reason::SUCCESS {
            self.close();
            self.events.push_back(ClientEvent::Refused(connack));
            return Ok(());
        }
        if connack.session_present && self.clean_start {
            return Err(protocol("session present after Clean Start"));
        }
        let peer = &mut self.flow.peer;
        if let Some(maximum) = connack.receive_maximum {
            peer.receive_maximum = peer.receive_maximum.min(usize::from(maximum));
        }
        if let Some(maximum) = connack.maximum_packet_size {
            peer.max_packet_bytes = peer.max_packet_bytes.min(maximum as usize);
        }
        peer.maximum_qos = match connack.maximum_qos {
            Some(0) => QoS::AtMostOnce,
            Some(1) => QoS::AtLeastOnce,
            _ => QoS::ExactlyOnce,
        };
        peer.retain_available = connack.retain_available != Some(false);
        peer.topic_alias_maximum = connack.topic_alias_maximum;
        if let Some(keep_alive) = connack.server_keep_alive_s {
            self.keep_alive = Duration::from_secs(u64::from(keep_alive));
        }
        self.state = State::Connected;
        self.server = Some(connack.clone());
        self.events.push_back(ClientEvent::Connected(connack));
        Ok(())
    }

    fn send(&mut self, packet: &Packet) -> Result<(), ProtocolError> {
        self.last_sent = self.now;
        self.flow.outbox.push(packet, self.flow.version, self.flow.peer.max_packet_bytes)
    }

    fn fail(&mut self, error: ProtocolError) -> Result<(), ProtocolError> {
        if self.flow.version == Version::V5 {
            self.disconnect(error.reason);
        }
        self.close();
        self.events.push_back(ClientEvent::Failed(error));
        Err(error)
    }

    fn close(&mut self) {
        self.state = State::Closed;
        self.buf = BytesMut::new();
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("connected", &(self.state == State::Connected))
            .field("capacity", &self.capacity())
            .field("inflight", &self.flow.inflight())
            .finish_non_exhaustive()
    }
}

const fn protocol(message: &'static str) -> ProtocolError {
    ProtocolError::new(reason::PROTOCOL_ERROR, message)
}

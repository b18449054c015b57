//! One client: from CONNECT to its end, over `mqtt::Server`. Sans-IO.
//!
//! The shell gives it bytes ([`Session::receive`]), turns ([`Session::turn`]), mail of the
//! [`Hub`] ([`Session::mail`]) and time; it writes what [`Session::poll_transmit`] gives and reads
//! while [`Session::wants_read`]. A client that has too much on its way to the sinks is not read; if
//! that lasts, an MQTT 5 client is told 0x97 for what comes, so that its pings are heard again.

mod connect;
mod publish;
mod subscribe;

use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use zeroize::Zeroizing;

use crate::mqtt::{
    Connect, Disconnect, ProtocolError, Server, ServerEvent, ServerLimits, UserProperties, Version, Will,
    reason, topic,
};
use crate::runtime::Mono;
use crate::sink::Claimed;
use crate::source::Refused;
use crate::telemetry::count;

use super::admit::Place;
use super::auth::{Denied, DeviceName, Identity};
use super::frames::Frames;
use super::hub::{Hub, Mail};
use super::messages::Messages;

/// Events that a connection handles before others have their turn.
const TURN: usize = 16;
/// A client that was not read for so long is told why.
const SHED_AFTER: Duration = Duration::from_secs(2);
/// After a pause of ours the client has this long to be heard again.
const GRACE: Duration = Duration::from_secs(10);
const MAX_TOPIC_BYTES: usize = 1024;

/// The time, by both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// For limits and waits.
    pub mono: Mono,
    /// Microseconds since 1970 UTC, for devices.
    pub wall_us: i64,
}

/// The other end, as the transport knows it.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Where it comes from.
    pub address: SocketAddr,
    /// What it runs on: `quic`, `tls` or `tcp`.
    pub transport: &'static str,
    /// The device that its verified certificate names; `None` without a certificate.
    pub certificate: Option<Result<DeviceName, Denied>>,
}

/// What is to be checked on a thread that may block; [`Session::checked`] takes the result.
pub struct Check {
    /// User name of CONNECT.
    pub user: Option<String>,
    /// Its password; wiped when dropped.
    pub password: Option<Zeroizing<Vec<u8>>>,
}

impl fmt::Debug for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Check").field("user", &self.user).finish_non_exhaustive()
    }
}

/// One connection.
#[derive(Debug)]
pub struct Session {
    id: u64,
    peer: Peer,
    place: Place,
    server: Server,
    state: State,
    connect_by: Mono,
    check: Option<Check>,
    /// Whose session is to be claimed.
    claim: Option<Arc<str>>,
    /// Since when it is not read because of what it has on its way.
    blocked_since: Option<Mono>,
    /// It has been so for [`SHED_AFTER`], and an MQTT 5 client is told 0x97 for what comes.
    shedding: bool,
    /// The client's silence before this is our fault.
    timers_from: Mono,
    /// We end it: what was read before is not looked at any more.
    closing: bool,
}

#[derive(Debug)]
enum State {
    Connecting,
    Checking(Box<Connect>),
    /// Let in, and waiting for the number of its session.
    Claiming(Box<Entering>),
    Open(Box<Open>),
    Closed,
}

/// A client that may stay.
#[derive(Debug)]
struct Entering {
    device: DeviceName,
    version: Version,
    /// What the server has called it.
    assigned: Option<String>,
    /// Whether it is a dts agent.
    asks: bool,
    until_us: Option<i64>,
}

#[derive(Debug)]
struct Open {
    device: DeviceName,
    version: Version,
    frames: Frames,
    messages: Messages,
    filters: Vec<String>,
    /// Packets on their way, with the bytes that they hold. Id 0 is QoS 0.
    pending: VecDeque<(u16, usize)>,
    pending_bytes: usize,
    /// When what the client showed expires.
    until: Option<Mono>,
    /// A watermark moved that the client was not told of on `…/w`.
    untold: bool,
    tell_from: Mono,
}

impl Session {
    /// A connection whose handshake began at `since`.
    pub fn new(id: u64, peer: Peer, place: Place, hub: &Hub, since: Mono) -> Self {
        let options = &hub.options;
        let limits = ServerLimits {
            max_packet_bytes: u32::try_from(options.max_packet_bytes).unwrap_or(u32::MAX),
            receive_maximum: options.receive_maximum,
            max_topic_bytes: MAX_TOPIC_BYTES,
            connect_timeout: options.connect_timeout,
            max_keep_alive_s: options.keep_alive_max_s,
            ..ServerLimits::default()
        };
        Self {
            id,
            peer,
            place,
            server: Server::new(limits, since),
            state: State::Connecting,
            connect_by: since + options.connect_timeout,
            check: None,
            claim: None,
            blocked_since: None,
            shedding: false,
            timers_from: since,
            closing: false,
        }
    }

    /// Number of the connection.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Takes bytes from the client. What is wrong with them ends the connection and shows in the
    /// next turn.
    pub fn receive(&mut self, now: Now, bytes: &[u8]) {
        // The error comes as an event, too.
        self.server.receive(now.mono, bytes).unwrap_or_default();
    }

    /// The client has closed its side.
    pub fn handle_eof(&mut self) {
        self.server.handle_eof();
    }

    /// Handles some events. Whether more are there: let others have their turn first.
    pub fn turn(&mut self, now: Now, hub: &mut Hub) -> bool {
        for _ in 0..TURN {
            if self.is_blocked(now.mono, hub) && !self.shedding && !self.server.is_closed() {
                return false;
            }
            match self.server.poll_event() {
                Some(event) => self.event(now, event, hub),
                None => return false,
            }
        }
        true
    }

    /// Whether to read more now.
    pub fn wants_read(&self) -> bool {
        self.server.ready() && (self.blocked_since.is_none() || self.shedding)
    }

    /// The next bytes to write.
    pub fn poll_transmit(&mut self) -> Option<Bytes> {
        self.server.poll_transmit()
    }

    /// What is to be checked, once.
    pub fn poll_check(&mut self) -> Option<Check> {
        self.check.take()
    }

    /// The device whose session is to be claimed at the sink, once; [`Self::claimed`] takes the answer.
    pub fn poll_claim(&mut self) -> Option<Arc<str>> {
        self.claim.take()
    }

    /// Whether it is over: write what is left, then close.
    pub fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed)
    }

    /// Packets that wait for the sinks.
    pub fn pending(&self) -> usize {
        if let State::Open(open) = &self.state { open.pending.len() } else { 0 }
    }

    /// When [`Self::handle_timeout`] is next wanted.
    pub fn poll_timeout(&self) -> Option<Mono> {
        let heard = self.blocked_since.is_none() || self.shedding;
        let keep_alive = self.server.poll_timeout().filter(|_| heard).map(|at| at.max(self.timers_from));
        let own = match &self.state {
            State::Checking(_) | State::Claiming(_) => Some(self.connect_by),
            State::Open(open) => {
                let tell = (open.untold && open.wants("w")).then_some(open.tell_from);
                let sheds = open.version == Version::V5 && !self.shedding;
                let shed = self.blocked_since.filter(|_| sheds).map(|at| at + SHED_AFTER);
                [tell, shed, open.until].into_iter().flatten().min()
            }
            State::Connecting | State::Closed => None,
        };
        [keep_alive, own].into_iter().flatten().min()
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Now, hub: &mut Hub) {
        if let (Some(since), State::Open(open)) = (self.blocked_since, &self.state)
            && open.version == Version::V5
            && !self.shedding
            && now.mono >= since + SHED_AFTER
        {
            self.shedding = true;
            // Its pings are heard from now on; what lies unread comes first.
            self.timers_from = self.timers_from.max(now.mono + GRACE);
        }
        if now.mono >= self.timers_from && (self.blocked_since.is_none() || self.shedding) {
            // The error comes as an event, too.
            self.server.handle_timeout(now.mono).unwrap_or_default();
        }
        match &mut self.state {
            State::Checking(_) | State::Claiming(_) if now.mono >= self.connect_by => {
                self.leave(now.mono, hub);
                count("dts_connects_refused_total", &[("reason", "timeout")], 1);
                self.refuse(reason::SERVER_UNAVAILABLE, Vec::new());
            }
            State::Open(open) => {
                if open.until.is_some_and(|until| now.mono >= until) {
                    return self.close(reason::MAXIMUM_CONNECT_TIME, "the token has expired", Vec::new());
                }
                if open.untold && open.wants("w") && now.mono >= open.tell_from {
                    self.tell_watermarks(now.mono, hub);
                }
            }
            _ => {}
        }
    }

    /// The result of [`Self::poll_check`].
    pub fn checked(&mut self, now: Now, result: Result<Identity, Denied>, hub: &mut Hub) {
        if !matches!(self.state, State::Checking(_)) {
            return;
        }
        let State::Checking(connect) = std::mem::replace(&mut self.state, State::Connecting) else { return };
        match result {
            Ok(identity) => self.let_in(now, &connect, identity, hub),
            Err(denied) => self.deny(now.mono, denied, hub),
        }
    }

    /// The result of [`Self::poll_claim`].
    pub fn claimed(&mut self, now: Now, result: Result<Claimed, String>, hub: &mut Hub) {
        if !matches!(self.state, State::Claiming(_)) {
            return;
        }
        match result {
            Ok(Claimed { session, marks }) => {
                let State::Claiming(entering) = std::mem::replace(&mut self.state, State::Connecting) else {
                    return;
                };
                hub.watermarks.replace(entering.device.shared(), session, &marks);
                self.open(now, *entering, session, hub);
            }
            Err(why) => {
                self.leave(now.mono, hub);
                hub.log.warn(now.mono, "claim", None, || {
                    format!("a device was sent away, since its session could not be counted: {why}")
                });
                self.busy("claim", hub.options.retry_after, Vec::new(), hub);
            }
        }
    }

    /// The thread that checks has too much to do.
    pub fn check_later(&mut self, hub: &mut Hub) {
        self.busy("auth", hub.options.retry_after, Vec::new(), hub);
    }

    /// Takes mail of the hub.
    pub fn mail(&mut self, now: Now, mail: Mail, hub: &mut Hub) {
        match mail {
            Mail::Answer { packet, result } => self.answer(packet, result),
            Mail::TakenOver { conflict } => {
                let user = conflict.map(|other| ("dts-conflict".to_owned(), format!("{other:016x}")));
                // Its newer connection shows that the device lives: the will is void.
                self.server.disconnect(disconnect(reason::SESSION_TAKEN_OVER, user.into_iter().collect()));
                self.end(now.mono, hub);
            }
            Mail::Room => {}
        }
        self.is_blocked(now.mono, hub);
    }

    /// The centre stops.
    pub fn stop(&mut self, now: Mono, hub: &mut Hub) {
        self.server.disconnect(disconnect(reason::SERVER_SHUTTING_DOWN, Vec::new()));
        self.end(now, hub);
    }

    /// The connection broke, or is given up by the shell. The will is due.
    pub fn gone(&mut self, now: Now, hub: &mut Hub) {
        self.server.handle_eof();
        while let Some(event) = self.server.poll_event() {
            if let ServerEvent::Closed { will, .. } = event {
                self.will(will, hub);
            }
        }
        self.end(now.mono, hub);
    }

    fn event(&mut self, now: Now, event: ServerEvent, hub: &mut Hub) {
        match event {
            ServerEvent::Connect(connect) => self.on_connect(now, connect, hub),
            ServerEvent::Publish(publish) => self.on_publish(now, &publish, hub),
            ServerEvent::Subscribe(subscribe) => self.on_subscribe(now, &subscribe, hub),
            ServerEvent::Unsubscribe(unsubscribe) => self.on_unsubscribe(&unsubscribe),
            ServerEvent::Delivered { .. } => {}
            ServerEvent::Closed { error, disconnect, will, .. } => {
                self.on_closed(now, error, disconnect.as_deref(), hub);
                self.will(will, hub);
                self.end(now.mono, hub);
            }
        }
    }

    fn on_closed(
        &mut self,
        now: Now,
        error: Option<ProtocolError>,
        disconnect: Option<&Disconnect>,
        hub: &mut Hub,
    ) {
        let name = match (&error, disconnect) {
            (Some(error), _) => reason::name(error.reason),
            (None, Some(disconnect)) => reason::name(disconnect.reason),
            (None, None) => "connection lost",
        };
        count("dts_disconnects_total", &[("reason", name)], 1);
        // A keep-alive that ran out is a bad link and no mistake.
        let Some(error) = error.filter(|e| e.reason != reason::KEEP_ALIVE_TIMEOUT) else { return };
        let device =
            if let State::Open(open) = &self.state { Some(open.device.shared().clone()) } else { None };
        let address = self.peer.address.ip();
        hub.log.warn(now.mono, reason::name(error.reason), device.as_ref(), || {
            let who =
                device.as_ref().map_or_else(|| format!("a client at {address}"), |d| format!("device {d}"));
            format!("{who}: {}; its connection is closed", error.message)
        });
    }

    fn will(&mut self, will: Option<Box<Will>>, hub: &mut Hub) {
        let (State::Open(open), Some(will)) = (&mut self.state, will) else { return };
        let stamp = hub.stamp.next();
        if let Ok(batch) = open.messages.will(&will, stamp)
            && batch.bytes() <= hub.options.max_row_bytes
        {
            count("dts_messages_total", &[], 1);
            hub.message(open.device.shared(), batch, None);
        }
    }

    fn answer(&mut self, packet: u16, result: Result<(), Refused>) {
        let State::Open(open) = &mut self.state else { return };
        open.done_with(packet);
        match result {
            Ok(()) => {
                open.untold = true;
                self.server.ack(packet, reason::SUCCESS, Vec::new());
            }
            Err(refused) => {
                let reason = match &refused {
                    Refused::Busy(_) => reason::QUOTA_EXCEEDED,
                    Refused::TooLarge { .. } => reason::PAYLOAD_FORMAT_INVALID,
                    // Its newer connection has it all.
                    Refused::TakenOver => {
                        count("dts_takeovers_total", &[], 1);
                        let why = "a newer connection of this device took over";
                        return self.close(reason::SESSION_TAKEN_OVER, why, Vec::new());
                    }
                    // The client sends it again to whoever is there next.
                    Refused::Stopping => {
                        return self.close(reason::SERVER_SHUTTING_DOWN, "stopping", Vec::new());
                    }
                };
                count("dts_publishes_refused_total", &[("reason", reason::name(reason))], 1);
                self.server.ack(packet, reason, vec![("dts-why".to_owned(), refused.to_string())]);
            }
        }
    }

    fn close(&mut self, reason: u8, why: &str, user: UserProperties) {
        self.closing = true;
        let disconnect = Disconnect { reason_string: Some(why.to_owned()), ..disconnect(reason, user) };
        self.server.disconnect(disconnect);
    }

    fn end(&mut self, now: Mono, hub: &mut Hub) {
        self.leave(now, hub);
        self.state = State::Closed;
    }

    /// Gives its place among the device's live connections back, if it has one.
    fn leave(&self, now: Mono, hub: &mut Hub) {
        match &self.state {
            State::Open(open) => hub.fence.leave(now, &open.device, self.id),
            State::Claiming(entering) => hub.fence.leave(now, &entering.device, self.id),
            _ => {}
        }
    }

    /// Whether too much is on its way; notes since when.
    fn is_blocked(&mut self, now: Mono, hub: &mut Hub) -> bool {
        let State::Open(open) = &self.state else { return false };
        let blocked = open.pending_bytes >= hub.options.connection_bytes || hub.is_full(self.id);
        match (blocked, self.blocked_since) {
            (true, None) => self.blocked_since = Some(now),
            (false, Some(_)) => {
                self.blocked_since = None;
                self.shedding = false;
                self.timers_from = now + GRACE;
            }
            _ => {}
        }
        blocked
    }
}

impl Open {
    /// Whether the client subscribed to its topic `…/what`.
    fn wants(&self, what: &str) -> bool {
        let name = format!("dts/v1/{}/{what}", self.device);
        self.filters.iter().any(|filter| topic::matches(filter, &name))
    }

    fn wait_for(&mut self, packet: u16, bytes: usize) {
        self.pending.push_back((packet, bytes));
        self.pending_bytes += bytes;
    }

    fn done_with(&mut self, packet: u16) {
        if let Some(at) = self.pending.iter().position(|(p, _)| *p == packet)
            && let Some((_, bytes)) = self.pending.remove(at)
        {
            self.pending_bytes = self.pending_bytes.saturating_sub(bytes);
        }
    }
}

fn disconnect(reason: u8, user: UserProperties) -> Disconnect {
    Disconnect { reason, user, ..Disconnect::default() }
}

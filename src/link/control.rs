//! The watching end of a connection: how fast, how stuck, how much, and how to move or end it.

use std::fmt;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::{CertificateDer, ServerName};

use super::Transport;
use super::error::LinkError;
use super::quic::QuicControl;
use super::tcp::TcpControl;
use super::verify::ServerVerifier;
use crate::runtime::Mono;

/// Data in flight without an acknowledgement for this long is a dead link, whatever the round trip.
const DEAD_AFTER: Duration = Duration::from_secs(5);

/// Bytes on the wire, headers of IP, UDP and TCP included (TCP: estimated, without what was sent
/// again).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WireBytes {
    /// From here.
    pub sent: u64,
    /// To here.
    pub received: u64,
}

/// Watches and steers a connection beside its [`Io`](super::Io). Cheap to clone. Keeps a socket
/// open, but not the connection alive.
#[derive(Clone)]
pub struct Control(Rc<Inner>);

struct Inner {
    transport: Transport,
    remote: SocketAddr,
    steer: Box<dyn Steer>,
    peer: Option<Peer>,
}

/// What a transport knows of its connection; [`Control`] says what the answers mean.
pub(crate) trait Steer {
    fn rtt(&self) -> Option<Duration>;
    fn stalled_for(&self, now: Mono) -> Duration;
    fn rebind(&self, remote: SocketAddr) -> Result<(), LinkError>;
    fn path_mtu(&self) -> Option<u16>;
    fn wire_bytes(&self) -> WireBytes;
    fn close(&self, reason: &str);
}

impl Steer for QuicControl {
    fn rtt(&self) -> Option<Duration> {
        Some(self.rtt())
    }

    fn stalled_for(&self, now: Mono) -> Duration {
        self.stalled_for(now)
    }

    fn rebind(&self, remote: SocketAddr) -> Result<(), LinkError> {
        self.rebind(remote)
    }

    fn path_mtu(&self) -> Option<u16> {
        Some(self.path_mtu())
    }

    fn wire_bytes(&self) -> WireBytes {
        self.wire_bytes()
    }

    fn close(&self, reason: &str) {
        self.close(reason);
    }
}

impl Steer for TcpControl {
    fn rtt(&self) -> Option<Duration> {
        self.rtt()
    }

    fn stalled_for(&self, now: Mono) -> Duration {
        self.stalled_for(now)
    }

    fn rebind(&self, _remote: SocketAddr) -> Result<(), LinkError> {
        self.rebind()
    }

    fn path_mtu(&self) -> Option<u16> {
        self.path_mtu()
    }

    fn wire_bytes(&self) -> WireBytes {
        self.wire_bytes()
    }

    fn close(&self, _reason: &str) {
        self.close();
    }
}

/// Who was believed, and by whom.
struct Peer {
    verifier: Arc<ServerVerifier>,
    name: ServerName<'static>,
    chain: Vec<CertificateDer<'static>>,
}

impl Control {
    pub(crate) fn new(transport: Transport, remote: SocketAddr, steer: impl Steer + 'static) -> Self {
        Self(Rc::new(Inner { transport, remote, steer: Box::new(steer), peer: None }))
    }

    /// With the server's chain, so that it can be checked again.
    pub(super) fn with_peer(
        self,
        verifier: Arc<ServerVerifier>,
        name: ServerName<'static>,
        chain: Vec<CertificateDer<'static>>,
    ) -> Self {
        let peer = Some(Peer { verifier, name, chain });
        match Rc::try_unwrap(self.0) {
            Ok(inner) => Self(Rc::new(Inner { peer, ..inner })),
            Err(shared) => Self(shared),
        }
    }

    /// What it runs on.
    pub fn transport(&self) -> Transport {
        self.0.transport
    }

    /// Where the peer was when the connection was made.
    pub fn remote(&self) -> SocketAddr {
        self.0.remote
    }

    /// Smoothed round-trip time; `None` if the system does not say.
    pub fn rtt(&self) -> Option<Duration> {
        self.0.steer.rtt()
    }

    /// For how long data has been in flight without any acknowledgement; zero if none is. It learns
    /// by being asked: ask about once a second while the connection is used.
    pub fn stalled_for(&self, now: Mono) -> Duration {
        self.0.steer.stalled_for(now)
    }

    /// [`Control::stalled_for`] this long means a dead link: three probe timeouts (RFC 9002 section
    /// 6.2.1), at least 5 s. The variance of the round trip is not known here and taken for half of it.
    pub fn dead_after(&self) -> Duration {
        let pto = self.rtt().unwrap_or_default() * 3 + Duration::from_millis(25);
        (pto * 3).max(DEAD_AFTER)
    }

    /// Whether the link is dead by that measure.
    pub fn is_dead(&self, now: Mono) -> bool {
        self.stalled_for(now) >= self.dead_after()
    }

    /// After the network changed. QUIC moves to a new socket; TCP finds out whether its own address
    /// is still there. After an error reconnect: the connection has no way left.
    pub fn rebind(&self) -> Result<(), LinkError> {
        self.0.steer.rebind(self.0.remote)
    }

    /// Largest packet the path is known to carry: UDP payload for QUIC, IP packet for TCP.
    pub fn path_mtu(&self) -> Option<u16> {
        self.0.steer.path_mtu()
    }

    /// All bytes of the connection so far.
    pub fn wire_bytes(&self) -> WireBytes {
        self.0.steer.wire_bytes()
    }

    /// Ends the connection at once; what was not delivered is lost. QUIC tells the peer `reason`.
    pub fn close(&self, reason: &str) {
        self.0.steer.close(reason);
    }

    /// Checks the server's chain strictly at `now_s` (seconds since 1970 UTC), the time that this
    /// server told. Without TLS there is nothing to check. After an error close the connection and
    /// do not believe its time.
    pub fn recheck(&self, now_s: u64) -> Result<(), LinkError> {
        let Some(peer) = &self.0.peer else { return Ok(()) };
        peer.verifier
            .recheck(&peer.chain, &peer.name, now_s)
            .map_err(|e| LinkError::from_tls(&self.0.remote.to_string(), &e))
    }
}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Control")
            .field("transport", &self.0.transport)
            .field("remote", &self.0.remote)
            .finish_non_exhaustive()
    }
}

/// Since when nothing moved.
#[derive(Debug, Default)]
pub(super) struct Stall {
    progress: u64,
    since: Option<Mono>,
}

impl Stall {
    /// `progress` grows with every acknowledgement. Returns how long it has stood still while
    /// something was in flight, as far as the calls can tell.
    pub(super) fn observe(&mut self, now: Mono, progress: u64, in_flight: bool) -> Duration {
        if !in_flight || progress != self.progress {
            self.progress = progress;
            self.since = in_flight.then_some(now);
            return Duration::ZERO;
        }
        now.since(*self.since.get_or_insert(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stall_counts_only_while_something_is_in_flight_and_nothing_moves() {
        let mut stall = Stall::default();
        let s = Duration::from_secs;
        let at = |n| Mono(0) + s(n);
        assert_eq!(stall.observe(at(0), 0, false), s(0));
        assert_eq!(stall.observe(at(100), 0, true), s(0), "idle time is not stall");
        assert_eq!(stall.observe(at(103), 0, true), s(3));
        assert_eq!(stall.observe(at(104), 1, true), s(0));
        assert_eq!(stall.observe(at(110), 1, true), s(6));
        assert_eq!(stall.observe(at(111), 1, false), s(0));
        assert_eq!(stall.observe(at(200), 1, true), s(0));
    }
}

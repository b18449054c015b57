//! QUIC by quinn, with everything bounded: one bidirectional stream carries MQTT.
//!
//! No datagrams, no unidirectional streams, no 0-RTT (a replayed CONNECT would be one). Packets start
//! at 1,200 bytes and grow by path MTU discovery; a path that is known to carry less is refused before
//! anything is sent, one that swallows them fails the handshake, or is dead by [`Control::is_dead`]
//! later, and TCP takes over.
//!
//! Memory of a connection: about 12 KiB of quinn's and rustls' state, plus at most `receive_window`
//! of data that was not read and `send_window` of data that was not acknowledged, both only while
//! they are held. Before a handshake is taken at most `max_handshakes` × 16 KiB wait. A server's
//! endpoint has a receive buffer of 3 MiB, a client's one of 46 KiB.

use std::any::Any;
use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_lite::{AsyncRead, AsyncWrite};
use quinn::crypto::rustls::{HandshakeData, QuicClientConfig, QuicServerConfig};
use quinn::{ConnectionError, Endpoint, EndpointConfig, ReadError, RecvStream, SendStream, VarInt};
use rustls_pki_types::{CertificateDer, ServerName};

use super::congestion::CubicWithFloor;
use super::control::{Control, Stall, WireBytes};
use super::dial::Connection;
use super::error::LinkError;
use super::tls::{ALPN_MQTT, ClientTls};
use super::{Io, Transport};
use crate::runtime::{Mono, QuicRuntime, route_mtu, timeout, udp_socket};

/// A client's first datagrams have at least this size (RFC 9000 section 14.1).
const MIN_DATAGRAM: u32 = 1200;
/// Close code of a connection that ended in order.
const DONE: VarInt = VarInt::from_u32(0);
/// Close code of a connection that was dropped or given up.
const GIVEN_UP: VarInt = VarInt::from_u32(1);

/// Bounds of QUIC connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuicLimits {
    /// Most bytes from the peer that wait to be read, a connection.
    pub receive_window: u32,
    /// Most bytes to the peer that wait to be acknowledged, a connection. Throughput is at most this
    /// per round trip.
    pub send_window: u32,
    /// Streams that the peer may have open at a time. A device needs one.
    pub max_streams: u8,
    /// A connection without a packet for this long is over.
    pub idle_timeout: Duration,
    /// Silence after which a packet is sent to keep NAT open; `None`: none is sent.
    pub keep_alive: Option<Duration>,
    /// Handshakes that may wait to be taken; more are refused before any work is done for them.
    pub max_handshakes: u16,
}

impl QuicLimits {
    /// Of an agent.
    pub fn client() -> Self {
        Self {
            receive_window: 64 << 10,
            send_window: 256 << 10,
            max_streams: 0,
            idle_timeout: Duration::from_secs(75),
            keep_alive: Some(Duration::from_secs(25)),
            max_handshakes: 0,
        }
    }

    /// Of a centre.
    pub fn server() -> Self {
        Self {
            receive_window: 128 << 10,
            send_window: 64 << 10,
            max_streams: 1,
            idle_timeout: Duration::from_secs(75),
            keep_alive: None,
            max_handshakes: 1024,
        }
    }

    fn transport(&self) -> quinn::TransportConfig {
        let mut t = quinn::TransportConfig::default();
        let idle_ms = u32::try_from(self.idle_timeout.as_millis()).unwrap_or(u32::MAX);
        t.max_concurrent_bidi_streams(VarInt::from_u32(u32::from(self.max_streams)))
            .max_concurrent_uni_streams(VarInt::from_u32(0))
            .max_idle_timeout(Some(VarInt::from_u32(idle_ms).into()))
            .stream_receive_window(VarInt::from_u32(self.receive_window))
            .receive_window(VarInt::from_u32(self.receive_window))
            .send_window(u64::from(self.send_window))
            .datagram_receive_buffer_size(None)
            .datagram_send_buffer_size(0)
            .keep_alive_interval(self.keep_alive)
            .congestion_controller_factory(Arc::new(CubicWithFloor))
            .allow_spin(false);
        t
    }
}

/// Where sockets and time come from: the system, or a simulation.
#[derive(Clone)]
pub struct Net {
    /// Spawns and times for quinn.
    pub runtime: Arc<dyn quinn::Runtime>,
    /// Binds a UDP socket. For a client the second argument is where it shall lead to; an error means
    /// that there is no way.
    #[allow(clippy::type_complexity)]
    pub bind: Rc<dyn Fn(SocketAddr, Option<SocketAddr>) -> io::Result<Arc<dyn quinn::AsyncUdpSocket>>>,
    /// What a simulation has in place of TLS and of the system's randomness.
    #[cfg(test)]
    pub(crate) null: Option<Rc<dyn Null>>,
}

/// A null session for TLS, and keys and numbers from a seed.
#[cfg(test)]
pub(crate) trait Null {
    fn endpoint(&self) -> EndpointConfig;
    fn client(&self, tls: &ClientTls) -> quinn::ClientConfig;
    fn server(&self) -> quinn::ServerConfig;
}

impl Net {
    /// The system's.
    pub fn system() -> Self {
        let bind = |local: SocketAddr, remote: Option<SocketAddr>| {
            if let Some(remote) = remote {
                // Asks the routing table; sends nothing.
                let probe = std::net::UdpSocket::bind(local)?;
                probe.connect(remote)?;
                wide_enough(&probe, remote)?;
            }
            let socket = std::net::UdpSocket::bind(local)?;
            if remote.is_none() {
                // Room for a burst of handshakes; the system may allow less.
                rustix::net::sockopt::set_socket_recv_buffer_size(&socket, 2 << 20).ok();
            }
            udp_socket(socket, remote.is_none())
        };
        Self {
            runtime: Arc::new(QuicRuntime),
            bind: Rc::new(bind),
            #[cfg(test)]
            null: None,
        }
    }

    fn endpoint_config(&self) -> EndpointConfig {
        #[cfg(test)]
        if let Some(null) = &self.null {
            return null.endpoint();
        }
        EndpointConfig::default()
    }

    fn client_config(&self, tls: &ClientTls) -> Result<quinn::ClientConfig, LinkError> {
        #[cfg(test)]
        if let Some(null) = &self.null {
            return Ok(null.client(tls));
        }
        let crypto = QuicClientConfig::try_from(tls.config.clone())
            .map_err(|e| LinkError::Config(format!("TLS for QUIC: {e}")))?;
        Ok(quinn::ClientConfig::new(Arc::new(crypto)))
    }

    fn server_config(&self, tls: Arc<rustls::ServerConfig>) -> Result<quinn::ServerConfig, LinkError> {
        #[cfg(test)]
        if let Some(null) = &self.null {
            return Ok(null.server());
        }
        server_quic(tls)
    }

    /// A socket that leads to `remote`.
    fn bind_for(&self, remote: SocketAddr) -> io::Result<Arc<dyn quinn::AsyncUdpSocket>> {
        let any = if remote.is_ipv6() { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
        (self.bind)(SocketAddr::new(any, 0), Some(remote))
    }
}

impl fmt::Debug for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Net").field("runtime", &self.runtime).finish_non_exhaustive()
    }
}

/// Whether the way of a connected socket carries QUIC's smallest packets. A system that does not say may.
fn wide_enough(probe: &std::net::UdpSocket, remote: SocketAddr) -> io::Result<()> {
    let needed = MIN_DATAGRAM + ip_udp_header(remote);
    match route_mtu(probe) {
        Ok(mtu) if mtu < needed => {
            Err(io::Error::other(LinkError::PathMtu { peer: remote.to_string(), mtu, needed }))
        }
        _ => Ok(()),
    }
}

/// Bytes of the headers of IP (without options) and UDP.
fn ip_udp_header(remote: SocketAddr) -> u32 {
    if remote.is_ipv6() { 48 } else { 28 }
}

/// An endpoint for one connection to `remote`.
pub fn client_endpoint(net: &Net, remote: SocketAddr) -> Result<Endpoint, LinkError> {
    let peer = || remote.to_string();
    let socket = net.bind_for(remote).map_err(|e| LinkError::from_io("open a UDP socket", &peer(), e))?;
    Endpoint::new_with_abstract_socket(net.endpoint_config(), None, socket, net.runtime.clone())
        .map_err(|error| LinkError::System { step: "start QUIC", error })
}

/// A listening endpoint. The caller takes [`quinn::Incoming`] from `accept()` and may `refuse`,
/// `retry` or `ignore` each before any cryptography is done for it, or give it to [`accept`].
pub fn server_endpoint(
    net: &Net,
    local: SocketAddr,
    tls: Arc<rustls::ServerConfig>,
    limits: &QuicLimits,
) -> Result<Endpoint, LinkError> {
    let config = bounded(net.server_config(tls)?, limits);
    let socket = (net.bind)(local, None)
        .map_err(|e| LinkError::Config(format!("listen on UDP {local}: {e}. Is another process there?")))?;
    Endpoint::new_with_abstract_socket(net.endpoint_config(), Some(config), socket, net.runtime.clone())
        .map_err(|error| LinkError::System { step: "start QUIC", error })
}

/// Gives new connections of `endpoint` another TLS config (a renewed certificate).
pub fn set_server_tls(
    endpoint: &Endpoint,
    tls: Arc<rustls::ServerConfig>,
    limits: &QuicLimits,
) -> Result<(), LinkError> {
    endpoint.set_server_config(Some(bounded(server_quic(tls)?, limits)));
    Ok(())
}

fn server_quic(tls: Arc<rustls::ServerConfig>) -> Result<quinn::ServerConfig, LinkError> {
    let crypto =
        QuicServerConfig::try_from(tls).map_err(|e| LinkError::Config(format!("TLS for QUIC: {e}")))?;
    Ok(quinn::ServerConfig::with_crypto(Arc::new(crypto)))
}

fn bounded(mut config: quinn::ServerConfig, limits: &QuicLimits) -> quinn::ServerConfig {
    let waiting = u64::from(limits.max_handshakes);
    config
        .transport_config(Arc::new(limits.transport()))
        .migration(true)
        .max_incoming(usize::from(limits.max_handshakes))
        .incoming_buffer_size(16 << 10)
        .incoming_buffer_size_total(waiting * (16 << 10));
    config
}

/// Makes a connection and opens its stream. The caller sets the time limit. Cancel safe: dropping it
/// abandons the attempt.
pub(super) async fn dial(
    net: &Net,
    remote: SocketAddr,
    name: &ServerName<'static>,
    tls: &ClientTls,
    limits: &QuicLimits,
) -> Result<Connection, LinkError> {
    let peer = remote.to_string();
    let mut config = net.client_config(tls)?;
    config.transport_config(Arc::new(limits.transport()));
    let endpoint = client_endpoint(net, remote)?;
    // A refusal of an earlier attempt is not this one's.
    tls.verifier.take_refusal();
    let connection = endpoint
        .connect_with(config, remote, &name.to_str())
        .map_err(|e| LinkError::Config(format!("connect to {peer}: {e}")))?
        .await
        .map_err(|e| match tls.verifier.take_refusal() {
            Some(refusal) => LinkError::from_certificate(peer.clone(), &refusal),
            None => connection_error(&peer, &e),
        })?;
    let protocol = protocol_of(&connection);
    if protocol.as_deref() != Some(ALPN_MQTT) {
        connection.close(GIVEN_UP, b"");
        return Err(LinkError::Alpn { peer, reason: "it chose no protocol".to_owned() });
    }
    let chain = chain_of(&connection);
    let (send, recv) = connection.open_bi().await.map_err(|e| connection_error(&peer, &e))?;
    let control = QuicControl::new(connection.clone(), Some((endpoint, net.clone())));
    let control = Control::new(Transport::Quic, remote, control).with_peer(
        tls.verifier.clone(),
        name.clone(),
        chain.clone(),
    );
    let io = Box::new(QuicStream { send, recv, connection, closing: None, closed: false });
    Ok(Connection { transport: Transport::Quic, remote, io, control, peer_certs: chain })
}

/// Takes a handshake and waits for the client's stream, all within `limit`. Cancel safe: dropping it
/// closes the connection.
pub async fn accept(incoming: quinn::Incoming, limit: Duration) -> Result<Connection, LinkError> {
    let remote = incoming.remote_address();
    let peer = remote.to_string();
    let taken = timeout(limit, async {
        let connection = incoming.await.map_err(|e| connection_error(&peer, &e))?;
        let streams = connection.accept_bi().await.map_err(|e| connection_error(&peer, &e))?;
        Ok((connection, streams))
    });
    let Some(taken) = taken.await else {
        return Err(LinkError::Timeout { step: "QUIC handshake with", peer, limit });
    };
    let (connection, (send, recv)) = taken?;
    let peer_certs = chain_of(&connection);
    let control = Control::new(Transport::Quic, remote, QuicControl::new(connection.clone(), None));
    let io: Box<dyn Io> = Box::new(QuicStream { send, recv, connection, closing: None, closed: false });
    Ok(Connection { transport: Transport::Quic, remote, io, control, peer_certs })
}

fn chain_of(connection: &quinn::Connection) -> Vec<CertificateDer<'static>> {
    let identity: Option<Box<dyn Any>> = connection.peer_identity();
    identity.and_then(|any| any.downcast().ok()).map_or_else(Vec::new, |chain| *chain)
}

fn protocol_of(connection: &quinn::Connection) -> Option<Vec<u8>> {
    connection.handshake_data()?.downcast::<HandshakeData>().ok()?.protocol
}

fn connection_error(peer: &str, error: &ConnectionError) -> LinkError {
    /// TLS alerts are QUIC error codes 0x100 to 0x1ff (RFC 9001 section 4.8).
    fn alert(code: quinn::TransportErrorCode) -> Option<rustls::AlertDescription> {
        let code = u64::from(code);
        (0x100..=0x1ff).contains(&code).then(|| rustls::AlertDescription::from((code & 0xff) as u8))
    }
    let peer_name = peer.to_owned();
    match error {
        ConnectionError::TimedOut => {
            LinkError::Lost { peer: peer_name, reason: "no answer (QUIC)".to_owned() }
        }
        ConnectionError::TransportError(e) => match alert(e.code) {
            Some(rustls::AlertDescription::NoApplicationProtocol) => {
                LinkError::Alpn { peer: peer_name, reason: "no common protocol".to_owned() }
            }
            Some(_) => LinkError::Tls { peer: peer_name, reason: e.reason.clone() },
            None => LinkError::Lost { peer: peer_name, reason: e.to_string() },
        },
        ConnectionError::ConnectionClosed(close) => match alert(close.error_code) {
            Some(alert) => LinkError::from_tls(peer, &rustls::Error::AlertReceived(alert)),
            None if close.error_code == quinn::TransportErrorCode::CONNECTION_REFUSED => {
                LinkError::Refused { peer: peer_name }
            }
            None => LinkError::Lost { peer: peer_name, reason: close.to_string() },
        },
        other => LinkError::Lost { peer: peer_name, reason: other.to_string() },
    }
}

/// The watching end of a QUIC connection.
pub(super) struct QuicControl {
    connection: quinn::Connection,
    /// What a client needs to move.
    endpoint: Option<(Endpoint, Net)>,
    stall: RefCell<QuicStall>,
}

#[derive(Default)]
struct QuicStall {
    acks: u64,
    /// Packets that want an acknowledgement, sent when the last one came.
    sent_at_ack: u64,
    stall: Stall,
}

impl QuicControl {
    fn new(connection: quinn::Connection, endpoint: Option<(Endpoint, Net)>) -> Self {
        Self { connection, endpoint, stall: RefCell::default() }
    }

    pub(super) fn rtt(&self) -> Duration {
        self.connection.rtt()
    }

    pub(super) fn stalled_for(&self, now: Mono) -> Duration {
        // quinn does not tell what is in flight. But whatever stays unacknowledged is sent again or
        // pinged for within a probe timeout, so it shows as frames sent since the last ACK came.
        // Probes of the path's MTU may get lost in good order and do not count.
        let s = self.connection.stats();
        // (Both pings and, with the ACK frequency extension, IMMEDIATE_ACK frames probe.)
        let mtu = s.path.sent_plpmtud_probes;
        let probes = s.frame_tx.ping.saturating_sub(mtu) + s.frame_tx.immediate_ack.saturating_sub(mtu);
        let sent = s.frame_tx.stream + s.frame_tx.crypto + s.frame_tx.max_data + probes;
        let mut stall = self.stall.borrow_mut();
        if stall.acks != s.frame_rx.acks {
            stall.acks = s.frame_rx.acks;
            stall.sent_at_ack = sent;
        }
        let in_flight = sent > stall.sent_at_ack;
        stall.stall.observe(now, s.frame_rx.acks, in_flight)
    }

    pub(super) fn path_mtu(&self) -> u16 {
        self.connection.stats().path.current_mtu
    }

    pub(super) fn wire_bytes(&self) -> WireBytes {
        let s = self.connection.stats();
        let header = u64::from(ip_udp_header(self.connection.remote_address()));
        WireBytes {
            sent: s.udp_tx.bytes + s.udp_tx.datagrams * header,
            received: s.udp_rx.bytes + s.udp_rx.datagrams * header,
        }
    }

    pub(super) fn rebind(&self, remote: SocketAddr) -> Result<(), LinkError> {
        let Some((endpoint, net)) = &self.endpoint else { return Ok(()) };
        net.bind_for(remote)
            .and_then(|socket| endpoint.rebind_abstract(socket))
            .map_err(|e| LinkError::Unreachable { peer: remote.to_string(), reason: e.to_string() })
    }

    pub(super) fn close(&self, reason: &str) {
        self.connection.close(GIVEN_UP, reason.as_bytes());
    }
}

impl fmt::Debug for QuicControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QuicControl").field("connection", &self.connection).finish_non_exhaustive()
    }
}

/// The one stream. `close` waits until the peer has all of it, then closes the connection.
struct QuicStream {
    send: SendStream,
    recv: RecvStream,
    connection: quinn::Connection,
    closing: Option<Pin<Box<dyn Future<Output = ()>>>>,
    closed: bool,
}

impl AsyncRead for QuicStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(match ready!(self.recv.poll_read(cx, buf)) {
            Ok(n) => Ok(n),
            Err(ReadError::ConnectionLost(ConnectionError::ApplicationClosed(c))) if c.error_code == DONE => {
                Ok(0)
            }
            Err(ReadError::ConnectionLost(ConnectionError::LocallyClosed)) => Ok(0),
            // quinn's own text says only that it is lost.
            Err(ReadError::ConnectionLost(e)) => {
                let peer = self.connection.remote_address().to_string();
                Err(io::Error::new(io::ErrorKind::ConnectionAborted, connection_error(&peer, &e)))
            }
            Err(e) => Err(e.into()),
        })
    }
}

impl AsyncWrite for QuicStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.send).poll_write(cx, buf).map_err(Into::into)
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // quinn sends what was written by itself.
        Poll::Ready(Ok(()))
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.closed {
            return Poll::Ready(Ok(()));
        }
        let closing = this.closing.get_or_insert_with(|| {
            // It may be finished or stopped by the peer already: then there is nothing to wait for.
            this.send.finish().ok();
            let stopped = this.send.stopped();
            Box::pin(async move {
                stopped.await.ok();
            })
        });
        ready!(closing.as_mut().poll(cx));
        this.closed = true;
        this.connection.close(DONE, b"");
        Poll::Ready(Ok(()))
    }
}

impl Drop for QuicStream {
    fn drop(&mut self) {
        if !self.closed {
            self.connection.close(GIVEN_UP, b"");
        }
    }
}

//! Makes connections: resolve, connect (happy eyeballs), proxy, TLS or QUIC, every step with a limit.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

use async_io::Async;
use rustls_pki_types::{CertificateDer, ServerName};

use super::control::Control;
use super::error::LinkError;
use super::netlink::NetWatch;
use super::proxy::Proxy;
use super::quic::{self, Net, QuicLimits};
use super::race::{interleave, race};
use super::resolve::Resolver;
use super::tcp::TcpIo;
use super::tls::{ClientTls, Reloading, TlsClient, peer_chain, reloading_client, server_name};
use super::trust::TrustTime;
use super::{Io, Transport};
use crate::runtime::{LocalFuture, sleep, timeout};

/// Changes of the network come in bursts.
const NETWORK_SETTLES: Duration = Duration::from_millis(300);

/// Where to.
#[derive(Clone, Debug)]
pub struct Target {
    /// DNS name or IP address (an IPv6 one may stand in brackets).
    pub host: String,
    /// UDP port of QUIC.
    pub quic_port: u16,
    /// TCP port, with or without TLS.
    pub tcp_port: u16,
    /// HTTP proxy for TCP. QUIC does not use it.
    pub proxy: Option<Proxy>,
}

/// How patient, and where addresses are kept.
#[derive(Clone, Debug)]
pub struct DialOptions {
    /// For the system's resolver; after it the addresses of last time are used.
    pub dns_timeout: Duration,
    /// From the first packet to a TCP connection, or to a finished QUIC handshake.
    pub connect_timeout: Duration,
    /// For the proxy's answer.
    pub proxy_timeout: Duration,
    /// For the TLS handshake over TCP.
    pub tls_timeout: Duration,
    /// Between the starts of attempts to several addresses (RFC 8305 section 5).
    pub attempt_delay: Duration,
    /// File that keeps the last good addresses for when DNS is dead.
    pub addresses_file: Option<PathBuf>,
    /// Bounds of QUIC.
    pub quic: QuicLimits,
    /// Where QUIC's sockets come from.
    pub net: Net,
}

impl Default for DialOptions {
    fn default() -> Self {
        Self {
            dns_timeout: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(10),
            proxy_timeout: Duration::from_secs(10),
            tls_timeout: Duration::from_secs(15),
            attempt_delay: Duration::from_millis(250),
            addresses_file: None,
            quic: QuicLimits::client(),
            net: Net::system(),
        }
    }
}

/// A connection to a peer whose certificate was checked (except plain TCP).
pub struct Connection {
    /// What it runs on.
    pub transport: Transport,
    /// The peer's address (the proxy's, if there is one).
    pub remote: SocketAddr,
    /// The bytes.
    pub io: Box<dyn Io>,
    /// Watches and ends it.
    pub control: Control,
    /// The peer's certificates, its own first. Empty without TLS, and for clients that showed none.
    pub peer_certs: Vec<CertificateDer<'static>>,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("transport", &self.transport)
            .field("remote", &self.remote)
            .finish_non_exhaustive()
    }
}

/// What makes connections to one target: a [`Dialer`], or a simulation's.
pub trait Dial: fmt::Debug {
    /// Makes one connection. Cancel safe: dropping it abandons every attempt. Several dials may run
    /// at a time.
    fn dial(&self, transport: Transport) -> LocalFuture<'_, Result<Connection, LinkError>>;

    /// Keep-alive of QUIC connections dialed from now on.
    fn set_keep_alive(&self, interval: Duration);

    /// Waits until the addresses that packets to the peer would leave from are others. Never
    /// resolves where nobody tells.
    fn network_changed(&self) -> LocalFuture<'_, ()>;
}

/// Makes connections to one target.
#[derive(Debug)]
pub struct Dialer {
    target: Target,
    options: DialOptions,
    tls: Option<Reloading<ClientTls>>,
    name: Option<ServerName<'static>>,
    /// Of the target, or of the proxy.
    direct: Resolver,
    proxy: Option<Resolver>,
    keep_alive: Cell<Option<Duration>>,
    /// The watch on the network, while nobody waits for it.
    watch: RefCell<Option<Watch>>,
}

/// A watch, and the addresses when it was last looked at.
#[derive(Debug)]
struct Watch {
    changes: NetWatch,
    before: Local,
}

/// The address that packets to the peer leave from, by family.
type Local = (Option<IpAddr>, Option<IpAddr>);

impl Dial for Dialer {
    fn dial(&self, transport: Transport) -> LocalFuture<'_, Result<Connection, LinkError>> {
        Box::pin(self.dial(transport))
    }

    fn set_keep_alive(&self, interval: Duration) {
        self.keep_alive.set(Some(interval));
    }

    fn network_changed(&self) -> LocalFuture<'_, ()> {
        Box::pin(async move {
            let kept = self.watch.take();
            let opened = match kept {
                Some(watch) => Ok(watch),
                None => NetWatch::open().map(|changes| Watch { changes, before: self.local_addresses() }),
            };
            let mut watch = match opened {
                Ok(watch) => watch,
                Err(e) => {
                    log::info!("no word of network changes ({e}); dead links are noticed by their silence");
                    return std::future::pending().await;
                }
            };
            loop {
                watch.changes.changed().await;
                sleep(NETWORK_SETTLES).await;
                let after = self.local_addresses();
                if std::mem::replace(&mut watch.before, after) != after {
                    break;
                }
            }
            self.watch.replace(Some(watch));
        })
    }
}

impl Dialer {
    /// Reads the TLS files. Without `tls` only [`Transport::Tcp`] can be dialed.
    pub fn new(
        target: Target,
        tls: Option<TlsClient>,
        trust: TrustTime,
        options: DialOptions,
    ) -> Result<Self, LinkError> {
        let host = target.host.trim_matches(['[', ']']);
        let name = match &tls {
            Some(tls) => Some(server_name(tls.server_name.as_deref().unwrap_or(host))?),
            None => None,
        };
        let tls = tls.map(|tls| reloading_client(tls, trust)).transpose()?;
        let direct = Resolver::new(host, options.addresses_file.clone());
        let proxy = target.proxy.as_ref().map(|p| Resolver::new(&p.host, None));
        let keep_alive = Cell::new(options.quic.keep_alive);
        Ok(Self { target, options, tls, name, direct, proxy, keep_alive, watch: RefCell::default() })
    }

    /// Makes one connection. Cancel safe: dropping it abandons every attempt. Several dials may run
    /// at a time.
    pub async fn dial(&self, transport: Transport) -> Result<Connection, LinkError> {
        match transport {
            Transport::Quic => self.dial_quic().await,
            Transport::Tls | Transport::Tcp => self.dial_tcp(transport == Transport::Tls).await,
        }
    }

    /// The address that packets to the peer would leave from, by family; `None` where there is no
    /// way. If it stays the same over a network change, nothing changed for us. Sends nothing.
    pub fn local_addresses(&self) -> Local {
        let known = match &self.proxy {
            Some(proxy) => proxy.known(),
            None => self.direct.known(),
        };
        let via = |any: &str, far: Option<&IpAddr>| {
            let socket = std::net::UdpSocket::bind((any, 0)).ok()?;
            socket.connect((*far?, 9)).ok()?;
            socket.local_addr().ok().map(|a| a.ip())
        };
        (via("0.0.0.0", known.iter().find(|a| a.is_ipv4())), via("::", known.iter().find(|a| a.is_ipv6())))
    }

    fn tls(&self) -> Result<(ClientTls, &ServerName<'static>), LinkError> {
        match (&self.tls, &self.name) {
            (Some(tls), Some(name)) => Ok((tls.current(), name)),
            _ => Err(LinkError::Config("this link has no `tls` section".to_owned())),
        }
    }

    async fn dial_quic(&self) -> Result<Connection, LinkError> {
        let (tls, name) = self.tls()?;
        let addresses = self.direct.resolve(self.options.dns_timeout).await?;
        let mut limits = self.options.quic.clone();
        limits.keep_alive = self.keep_alive.get();
        if let Some(keep_alive) = limits.keep_alive {
            limits.idle_timeout = limits.idle_timeout.max(keep_alive * 3);
        }
        let limit = self.options.connect_timeout;
        let dial = |ip: IpAddr| {
            let remote = SocketAddr::new(ip, self.target.quic_port);
            let (net, tls, limits) = (&self.options.net, &tls, &limits);
            async move {
                let dialed = timeout(limit, quic::dial(net, remote, name, tls, limits)).await;
                let peer = || remote.to_string();
                dialed.unwrap_or_else(|| Err(LinkError::Timeout { step: "QUIC to", peer: peer(), limit }))
            }
        };
        let connection = race(interleave(&addresses), self.options.attempt_delay, dial).await?;
        self.direct.worked(connection.remote.ip());
        Ok(connection)
    }

    async fn dial_tcp(&self, with_tls: bool) -> Result<Connection, LinkError> {
        let tls = if with_tls { Some(self.tls()?) } else { None };
        let (resolver, port) = match (&self.proxy, &self.target.proxy) {
            (Some(resolver), Some(proxy)) => (resolver, proxy.port),
            _ => (&self.direct, self.target.tcp_port),
        };
        let addresses = resolver.resolve(self.options.dns_timeout).await?;
        let limit = self.options.connect_timeout;
        let connect = |ip: IpAddr| async move {
            let remote = SocketAddr::new(ip, port);
            match timeout(limit, Async::<TcpStream>::connect(remote)).await {
                Some(Ok(stream)) => Ok((remote, stream)),
                Some(Err(e)) => Err(LinkError::from_io("connect", &remote.to_string(), e)),
                None => Err(LinkError::Timeout { step: "TCP to", peer: remote.to_string(), limit }),
            }
        };
        let (remote, stream) = race(interleave(&addresses), self.options.attempt_delay, connect).await?;
        let mut io = TcpIo::new(stream);
        let transport = if with_tls { Transport::Tls } else { Transport::Tcp };
        let control = Control::new(transport, remote, io.control());
        if let Some(proxy) = &self.target.proxy {
            let limit = self.options.proxy_timeout;
            let tunnel = proxy.open(&mut io, &self.target.host, self.target.tcp_port);
            let peer = || format!("{}:{}", proxy.host, proxy.port);
            timeout(limit, tunnel).await.unwrap_or_else(|| {
                Err(LinkError::Timeout { step: "CONNECT through", peer: peer(), limit })
            })?;
        }
        let Some((tls, name)) = tls else {
            resolver.worked(remote.ip());
            return Ok(Connection { transport, remote, io: Box::new(io), control, peer_certs: Vec::new() });
        };
        let peer = format!("{}:{}", self.target.host, self.target.tcp_port);
        let limit = self.options.tls_timeout;
        let handshake = futures_rustls::TlsConnector::from(tls.config).connect(name.clone(), io);
        let stream = match timeout(limit, handshake).await {
            Some(Ok(stream)) => stream,
            Some(Err(e)) => return Err(LinkError::from_io("TLS handshake", &peer, e)),
            None => return Err(LinkError::Timeout { step: "TLS with", peer, limit }),
        };
        resolver.worked(remote.ip());
        let peer_certs = peer_chain(stream.get_ref().1);
        let control = control.with_peer(tls.verifier, name.clone(), peer_certs.clone());
        Ok(Connection { transport, remote, io: Box::new(stream), control, peer_certs })
    }
}

//! A socket to the server: plain or TLS, with limits of time, and woken when dts stops.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustls::ClientConnection;

use super::dsn::{Address, Dsn, Tls};
use super::error::ClientError;
use super::packet::Packets;
use crate::link::tls::{TlsClient, TlsVersion, client_tls, provider, server_name};
use crate::link::trust::TrustTime;
use crate::runtime::mono_now;

/// Heard by every wait of a connection. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Wake(Arc<UnixStream>);

/// Ends the waits of all its [`Wake`]s when it is dropped.
#[derive(Debug)]
pub struct Waker(#[allow(dead_code, reason = "its end is the word")] UnixStream);

impl Wake {
    /// A pair.
    pub fn new() -> std::io::Result<(Waker, Self)> {
        let (here, there) = UnixStream::pair()?;
        Ok((Waker(here), Self(Arc::new(there))))
    }

    /// Waits for `limit`, or less if the [`Waker`] goes away: then `false`.
    pub fn sleep(&self, limit: Duration) -> bool {
        let until = mono_now() + limit;
        loop {
            let left = until.since(mono_now());
            if left.is_zero() {
                return true;
            }
            if wait(None, self, left).is_err() {
                return false;
            }
        }
    }

    /// Whether the [`Waker`] went away.
    pub fn is_over(&self) -> bool {
        matches!(wait(None, self, Duration::ZERO), Err(Ended::Stopped))
    }
}

enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Socket {
    fn fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(socket) => socket.as_fd(),
            Self::Unix(socket) => socket.as_fd(),
        }
    }
}

impl Read for Socket {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Self::Tcp(socket) => socket.read(buf),
            Self::Unix(socket) => socket.read(buf),
        }
    }
}

impl Write for Socket {
    fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
        match self {
            Self::Tcp(socket) => socket.write(buf),
            Self::Unix(socket) => socket.write(buf),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A connected socket, and the packets that came over it.
pub(super) struct Wire {
    socket: Socket,
    tls: Option<Box<ClientConnection>>,
    wake: Wake,
    pub(super) packets: Packets,
}

impl std::fmt::Debug for Wire {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wire").field("tls", &self.tls.is_some()).finish_non_exhaustive()
    }
}

/// Why a wait ended without bytes.
enum Ended {
    Stopped,
    TimedOut,
    Io(std::io::Error),
}

/// Until the socket can be read (or written), the waker goes away, or the time is over.
fn wait(socket: Option<(BorrowedFd<'_>, PollFlags)>, wake: &Wake, limit: Duration) -> Result<(), Ended> {
    let mut fds = vec![PollFd::from_borrowed_fd(wake.0.as_fd(), PollFlags::IN)];
    fds.extend(socket.map(|(fd, flags)| PollFd::from_borrowed_fd(fd, flags)));
    // Rounded up, so that a wait of less than a unit is none of zero.
    let limit = limit.saturating_add(Duration::from_micros(999));
    let limit = rustix::event::Timespec {
        tv_sec: limit.as_secs().min(86_400) as i64,
        tv_nsec: i64::from(limit.subsec_nanos()),
    };
    match poll(&mut fds, Some(&limit)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => {}
        Err(error) => return Err(Ended::Io(error.into())),
    }
    let came = |i: usize| fds.get(i).is_some_and(|fd| !fd.revents().is_empty());
    match (came(0), came(1)) {
        (true, _) => Err(Ended::Stopped),
        (_, true) => Ok(()),
        // Interrupted, or the time is over: the caller looks at the clock.
        _ if socket.is_some() => Err(Ended::TimedOut),
        _ => Ok(()),
    }
}

impl Wire {
    /// Dials; names are looked up by the system.
    pub(super) fn connect(dsn: &Dsn, wake: Wake) -> Result<Self, ClientError> {
        let socket = match &dsn.address {
            Address::Unix(path) => {
                let socket = UnixStream::connect(path).map_err(ClientError::io("connect"))?;
                socket.set_nonblocking(true).map_err(ClientError::io("connect"))?;
                Socket::Unix(socket)
            }
            Address::Tcp(host, port) => {
                let addresses =
                    (host.as_str(), *port).to_socket_addrs().map_err(ClientError::io("look up the host"))?;
                let mut last = ClientError::Login(format!("no address for {host}"));
                let mut connected = None;
                for address in addresses {
                    if wake.is_over() {
                        return Err(ClientError::Stopped);
                    }
                    match TcpStream::connect_timeout(&address, dsn.timeout) {
                        Ok(socket) => {
                            connected = Some(socket);
                            break;
                        }
                        Err(error) => last = ClientError::Io { what: "connect", error },
                    }
                }
                let Some(socket) = connected else { return Err(last) };
                socket.set_nodelay(true).map_err(ClientError::io("connect"))?;
                socket.set_nonblocking(true).map_err(ClientError::io("connect"))?;
                Socket::Tcp(socket)
            }
        };
        Ok(Self { socket, tls: None, wake, packets: Packets::new() })
    }

    pub(super) fn is_local(&self) -> bool {
        matches!(self.socket, Socket::Unix(_))
    }

    /// Sends all of `bytes`.
    pub(super) fn send(&mut self, bytes: &[u8], limit: Duration) -> Result<(), ClientError> {
        let until = mono_now() + limit;
        let mut rest = bytes;
        if let Some(tls) = &mut self.tls {
            // Its buffer takes all of it: what we send is small.
            tls.writer().write_all(rest).map_err(ClientError::io("send"))?;
            rest = &[];
        }
        loop {
            let sent = match &mut self.tls {
                Some(tls) if tls.wants_write() => tls.write_tls(&mut self.socket).map(|_| ()),
                _ if rest.is_empty() => return Ok(()),
                _ => self.socket.write(rest).map(|n| rest = rest.get(n..).unwrap_or_default()),
            };
            match sent {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    let left = until.since(mono_now());
                    if left.is_zero() {
                        return Err(ClientError::Timeout { what: "send", after: limit });
                    }
                    self.wait(PollFlags::OUT, left, "send")?;
                }
                Err(error) => return Err(ClientError::Io { what: "send", error }),
            }
        }
    }

    fn wait(&self, flags: PollFlags, left: Duration, what: &'static str) -> Result<(), ClientError> {
        match wait(Some((self.socket.fd(), flags)), &self.wake, left) {
            Ok(()) | Err(Ended::TimedOut) => Ok(()),
            Err(Ended::Stopped) => Err(ClientError::Stopped),
            Err(Ended::Io(error)) => Err(ClientError::Io { what, error }),
        }
    }

    /// Reads what is there into [`Self::packets`], without waiting: `false` if there is nothing.
    pub(super) fn read_now(&mut self) -> Result<bool, ClientError> {
        let gone = || ClientError::Io { what: "read", error: ErrorKind::UnexpectedEof.into() };
        loop {
            let room = self.packets.room();
            let read = match &mut self.tls {
                None => self.socket.read(room),
                Some(tls) => match tls.reader().read(room) {
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {
                        match tls.read_tls(&mut self.socket) {
                            Ok(0) => return Err(gone()),
                            Ok(_) => {
                                tls.process_new_packets()
                                    .map_err(|error| ClientError::Tls(error.to_string()))?;
                                continue;
                            }
                            Err(error) => Err(error),
                        }
                    }
                    other => other,
                },
            };
            match read {
                Ok(0) => return Err(gone()),
                Ok(n) => {
                    self.packets.filled(n);
                    return Ok(true);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(ClientError::Io { what: "read", error }),
            }
        }
    }

    /// Reads into [`Self::packets`], waiting at most `limit` for the first byte.
    pub(super) fn read(&mut self, limit: Duration, what: &'static str) -> Result<(), ClientError> {
        let until = mono_now() + limit;
        while !self.read_now()? {
            let left = until.since(mono_now());
            if left.is_zero() {
                return Err(ClientError::Timeout { what, after: limit });
            }
            self.wait(PollFlags::IN, left, what)?;
        }
        Ok(())
    }

    /// Begins TLS; the server was asked for it.
    pub(super) fn start_tls(&mut self, dsn: &Dsn) -> Result<(), ClientError> {
        let wrong = |error: &dyn std::fmt::Display| ClientError::Tls(error.to_string());
        let verify = dsn.tls == Tls::Verify || dsn.tls_ca.is_some();
        let config = if verify {
            let tls = TlsClient {
                ca_file: dsn.tls_ca.clone(),
                min_version: TlsVersion::V12,
                ..TlsClient::default()
            };
            let made = client_tls(&tls, &TrustTime::system()).map_err(|error| wrong(&error))?;
            let mut config = Arc::unwrap_or_clone(made.config);
            config.alpn_protocols.clear();
            config
        } else {
            rustls::ClientConfig::builder_with_provider(provider())
                .with_protocol_versions(rustls::ALL_VERSIONS)
                .map_err(|error| wrong(&error))?
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(Anyone))
                .with_no_client_auth()
        };
        let name = server_name(dsn.host()).map_err(|error| wrong(&error))?;
        let connection = ClientConnection::new(Arc::new(config), name).map_err(|error| wrong(&error))?;
        let mut tls = Box::new(connection);
        // So that nothing of ours blocks on it.
        tls.set_buffer_limit(None);
        let until = mono_now() + dsn.timeout;
        while tls.is_handshaking() {
            let step = if tls.wants_write() {
                tls.write_tls(&mut self.socket).map(|_| ())
            } else {
                match tls.read_tls(&mut self.socket) {
                    Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
                    Ok(_) => {
                        if let Err(error) = tls.process_new_packets() {
                            // So that the server's log says why.
                            tls.write_tls(&mut self.socket).ok();
                            return Err(ClientError::Tls(format!("{error} (server {})", dsn.address)));
                        }
                        Ok(())
                    }
                    Err(error) => Err(error),
                }
            };
            match step {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    let left = until.since(mono_now());
                    if left.is_zero() {
                        return Err(ClientError::Timeout { what: "the TLS handshake", after: dsn.timeout });
                    }
                    let flags = if tls.wants_write() { PollFlags::OUT } else { PollFlags::IN };
                    self.wait(flags, left, "the TLS handshake")?;
                }
                Err(error) => return Err(ClientError::Io { what: "the TLS handshake", error }),
            }
        }
        self.tls = Some(tls);
        Ok(())
    }
}

/// Takes every certificate, as `tls=skip-verify` says.
#[derive(Debug)]
struct Anyone;

impl rustls::client::danger::ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _own: &rustls_pki_types::CertificateDer<'_>,
        _chain: &[rustls_pki_types::CertificateDer<'_>],
        _name: &rustls_pki_types::ServerName<'_>,
        _ocsp: &[u8],
        _now: rustls_pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        own: &rustls_pki_types::CertificateDer<'_>,
        signed: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        let algorithms = provider().signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, own, signed, &algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        own: &rustls_pki_types::CertificateDer<'_>,
        signed: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        let algorithms = provider().signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, own, signed, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

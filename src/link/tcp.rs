//! TCP, with and without TLS on it, and what the kernel knows of a connection.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::net::{Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use async_io::Async;
use futures_lite::{AsyncRead, AsyncWrite};

use super::control::{Control, Stall, WireBytes};
use super::dial::Connection;
use super::error::LinkError;
use super::tls::peer_chain;
use super::{Io, Transport};
use crate::runtime::{Mono, Socket, timeout};

/// A TCP connection as an [`Io`] that counts.
pub(super) struct TcpIo {
    stream: Socket<TcpStream>,
    bytes: Rc<Cell<(u64, u64)>>,
}

impl TcpIo {
    /// Sets `TCP_NODELAY`: frames are whole when they are written.
    pub(super) fn new(stream: Async<TcpStream>) -> Self {
        // Without it only latency suffers.
        stream.get_ref().set_nodelay(true).ok();
        Self { stream: Socket::new(stream), bytes: Rc::default() }
    }

    pub(super) fn control(&self) -> TcpControl {
        TcpControl { stream: self.stream.io().clone(), bytes: self.bytes.clone(), stall: RefCell::default() }
    }
}

impl AsyncRead for TcpIo {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let done = Pin::new(&mut self.stream).poll_read(cx, buf);
        if let Poll::Ready(Ok(n)) = done {
            let (sent, received) = self.bytes.get();
            self.bytes.set((sent, received + n as u64));
        }
        done
    }
}

impl AsyncWrite for TcpIo {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let done = Pin::new(&mut &**self.stream.io()).poll_write(cx, buf);
        if let Poll::Ready(Ok(n)) = done {
            let (sent, received) = self.bytes.get();
            self.bytes.set((sent + n as u64, received));
        }
        done
    }

    // TLS writes its last alert behind other records, in one call.
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let done = Pin::new(&mut &**self.stream.io()).poll_write_vectored(cx, bufs);
        if let Poll::Ready(Ok(n)) = done {
            let (sent, received) = self.bytes.get();
            self.bytes.set((sent + n as u64, received));
        }
        done
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut &**self.stream.io()).poll_flush(cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut &**self.stream.io()).poll_close(cx)
    }
}

/// The watching end of a TCP connection.
pub(super) struct TcpControl {
    stream: Arc<Async<TcpStream>>,
    bytes: Rc<Cell<(u64, u64)>>,
    stall: RefCell<Stall>,
}

impl TcpControl {
    pub(super) fn rtt(&self) -> Option<Duration> {
        tcp_info(self.stream.get_ref()).map(|i| i.rtt)
    }

    pub(super) fn stalled_for(&self, now: Mono) -> Duration {
        let Some(info) = tcp_info(self.stream.get_ref()) else { return Duration::ZERO };
        self.stall.borrow_mut().observe(now, info.acked_bytes, info.in_flight)
    }

    pub(super) fn path_mtu(&self) -> Option<u16> {
        tcp_info(self.stream.get_ref()).and_then(|i| u16::try_from(i.path_mtu).ok())
    }

    pub(super) fn wire_bytes(&self) -> WireBytes {
        let (sent, received) = self.bytes.get();
        let info = tcp_info(self.stream.get_ref());
        let (segments_out, segments_in) = info.map_or((0, 0), |i| (i.segments_out, i.segments_in));
        // IP and TCP header with time stamps. Payload that was sent again is not counted.
        let v6 = self.stream.get_ref().peer_addr().is_ok_and(|a| a.is_ipv6());
        let header = if v6 { 72 } else { 52 };
        WireBytes { sent: sent + segments_out * header, received: received + segments_in * header }
    }

    /// A TCP connection cannot move: this finds out whether its own address is still there.
    pub(super) fn rebind(&self) -> Result<(), LinkError> {
        let local = self.stream.get_ref().local_addr();
        let there = local.and_then(|a| UdpSocket::bind(SocketAddr::new(a.ip(), 0)));
        match there {
            Ok(_) => Ok(()),
            Err(e) => Err(LinkError::Unreachable {
                peer: self.stream.get_ref().peer_addr().map_or_else(|_| "peer".to_owned(), |a| a.to_string()),
                reason: format!("our own address is gone: {e}"),
            }),
        }
    }

    pub(super) fn close(&self) {
        // It may be closed already.
        self.stream.get_ref().shutdown(Shutdown::Both).ok();
    }
}

impl fmt::Debug for TcpControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TcpControl").field("stream", &self.stream).finish_non_exhaustive()
    }
}

struct TcpInfo {
    rtt: Duration,
    in_flight: bool,
    acked_bytes: u64,
    path_mtu: u32,
    segments_out: u64,
    segments_in: u64,
}

/// `struct tcp_info` of linux/tcp.h, of which a kernel gives as much as it knows.
fn tcp_info(stream: &TcpStream) -> Option<TcpInfo> {
    let mut raw = [0u8; 152];
    let mut len = raw.len() as libc::socklen_t;
    // SAFETY: the file descriptor is open; the kernel writes at most `len` bytes into `raw`.
    let done = unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            raw.as_mut_ptr().cast(),
            &raw mut len,
        )
    };
    if done != 0 {
        return None;
    }
    let field = |at: usize| raw.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_ne_bytes);
    let wide = |at: usize| raw.get(at..at + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_ne_bytes);
    Some(TcpInfo {
        in_flight: field(24) > 0 || field(144) > 0, // tcpi_unacked, tcpi_notsent_bytes
        path_mtu: field(60),
        rtt: Duration::from_micros(u64::from(field(68))),
        acked_bytes: wide(120),
        segments_out: u64::from(field(136)),
        segments_in: u64::from(field(140)),
    })
}

/// Makes a [`Connection`] of a TCP connection that was accepted, without TLS.
pub fn accept_plain(stream: Async<TcpStream>) -> Result<Connection, LinkError> {
    let remote = remote_of(&stream)?;
    let io = TcpIo::new(stream);
    let control = Control::new(Transport::Tcp, remote, io.control());
    Ok(Connection { transport: Transport::Tcp, remote, io: Box::new(io), control, peer_certs: Vec::new() })
}

/// Takes a TLS handshake within `limit`. Cancel safe: dropping it closes the connection.
pub async fn accept_tls(
    stream: Async<TcpStream>,
    config: Arc<rustls::ServerConfig>,
    limit: Duration,
) -> Result<Connection, LinkError> {
    let remote = remote_of(&stream)?;
    let io = TcpIo::new(stream);
    let control = Control::new(Transport::Tls, remote, io.control());
    let peer = remote.to_string();
    let acceptor = futures_rustls::TlsAcceptor::from(config);
    let stream = match timeout(limit, acceptor.accept(io)).await {
        Some(Ok(stream)) => stream,
        Some(Err(e)) => return Err(LinkError::from_io("TLS handshake with", &peer, e)),
        None => return Err(LinkError::Timeout { step: "TLS handshake with", peer, limit }),
    };
    let peer_certs = peer_chain(stream.get_ref().1);
    let io: Box<dyn Io> = Box::new(stream);
    Ok(Connection { transport: Transport::Tls, remote, io, control, peer_certs })
}

fn remote_of(stream: &Async<TcpStream>) -> Result<SocketAddr, LinkError> {
    stream.get_ref().peer_addr().map_err(|error| LinkError::System { step: "accept", error })
}

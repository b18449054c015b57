//! quinn on this thread: its futures go onto the local executor, its sockets and timers to async-io.
//! No other thread and no global executor is started.

use std::fmt;
use std::future::Future;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use async_io::{Async, WritableOwned};
use quinn::udp::{RecvMeta, Transmit, UdpSocketState};
use quinn::{AsyncTimer, AsyncUdpSocket, Runtime, UdpPoller};

/// Runs quinn on the thread that polls it, which must be inside [`super::block_on`].
#[derive(Debug)]
pub struct QuicRuntime;

impl Runtime for QuicRuntime {
    fn new_timer(&self, at: Instant) -> Pin<Box<dyn AsyncTimer>> {
        Box::pin(Timer(super::Sleep::until(at)))
    }

    fn spawn(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>) {
        super::spawn(future).detach();
    }

    fn wrap_udp_socket(&self, socket: std::net::UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        udp_socket(socket, true)
    }
}

/// Makes a socket ready for quinn.
///
/// With `coalesce` the kernel joins datagrams as they come (GRO) and quinn keeps a buffer of 3 MiB
/// for them: for a server. Without, the buffer is 46 KiB.
pub fn udp_socket(socket: std::net::UdpSocket, coalesce: bool) -> io::Result<Arc<dyn AsyncUdpSocket>> {
    let state = UdpSocketState::new((&socket).into())?;
    let receive_segments = if coalesce {
        state.gro_segments()
    } else {
        // The state has switched it on. A kernel without it refuses, and has nothing to switch off.
        no_gro(&socket).ok();
        1
    };
    Ok(Arc::new(UdpSocket { io: Arc::new(Async::new_nonblocking(socket)?), state, receive_segments }))
}

fn no_gro(socket: &impl AsFd) -> io::Result<()> {
    const UDP_GRO: libc::c_int = 104; // linux/udp.h
    let off: libc::c_int = 0;
    // SAFETY: the file descriptor is open, the option's value is an int that outlives the call.
    let done = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_UDP,
            UDP_GRO,
            (&raw const off).cast(),
            size_of_val(&off) as libc::socklen_t,
        )
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Largest IP packet that the way of a connected socket is known to carry: of its route, or less if
/// a router said so. Sends nothing.
pub fn route_mtu(socket: &std::net::UdpSocket) -> io::Result<u32> {
    let (level, name) = match socket.local_addr()? {
        SocketAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_MTU),
        SocketAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_MTU),
    };
    let mut mtu: libc::c_int = 0;
    let mut len = size_of_val(&mtu) as libc::socklen_t;
    // SAFETY: the file descriptor is open, value and length outlive the call, the length is the value's.
    let done = unsafe {
        libc::getsockopt(socket.as_fd().as_raw_fd(), level, name, (&raw mut mtu).cast(), &raw mut len)
    };
    if done == 0 { Ok(u32::try_from(mtu).unwrap_or(0)) } else { Err(io::Error::last_os_error()) }
}

#[derive(Debug)]
struct Timer(super::Sleep);

impl AsyncTimer for Timer {
    fn reset(mut self: Pin<&mut Self>, at: Instant) {
        self.0.reset(at);
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.0).poll(cx)
    }
}

#[derive(Debug)]
struct UdpSocket {
    io: Arc<Async<std::net::UdpSocket>>,
    state: UdpSocketState,
    receive_segments: usize,
}

impl AsyncUdpSocket for UdpSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Poller { io: self.io.clone(), waiting: None })
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.state.send((&*self.io).into(), transmit)
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.io.poll_readable(cx))?;
            // Errors of single datagrams (ICMP) are as good as loss, and no news means wait again.
            if let Ok(n) = self.state.recv((&*self.io).into(), buffers, meta) {
                return Poll::Ready(Ok(n));
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.io.get_ref().local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.state.max_gso_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.receive_segments
    }

    fn may_fragment(&self) -> bool {
        self.state.may_fragment()
    }
}

/// Waits until the socket takes datagrams again.
struct Poller {
    io: Arc<Async<std::net::UdpSocket>>,
    waiting: Option<Pin<Box<WritableOwned<std::net::UdpSocket>>>>,
}

impl UdpPoller for Poller {
    fn poll_writable(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let waiting = this.waiting.get_or_insert_with(|| Box::pin(this.io.clone().writable_owned()));
        let done = ready!(waiting.as_mut().poll(cx));
        this.waiting = None;
        Poll::Ready(done)
    }
}

impl fmt::Debug for Poller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Poller")
    }
}

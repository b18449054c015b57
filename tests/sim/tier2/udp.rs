//! UDP between devices and the centre: every datagram by itself, each device behind a NAT of its own.
//!
//! A datagram is lost, comes late, twice or after a younger one; it is swallowed where the path carries less; it waits behind
//! others on a slow line, and is dropped where too many wait. A NAT forgets what was silent, or everything. A socket that was
//! opened before the address changed leads nowhere, where the device binds sockets to a network.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use quinn::udp::{EcnCodepoint, RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::link::LinkError;
use crate::sim::net::Way;

/// Of IPv4 and UDP.
const HEADERS: usize = 28;
/// QUIC's smallest path, headers included.
const NEEDED_MTU: u16 = 1200 + HEADERS as u16;
/// What waits longer on a slow line is dropped.
const QUEUE_US: u64 = 400_000;
/// A socket's receive buffer, in datagrams.
const RECEIVE_BUFFER: usize = 512;
/// Directions, as indexes.
const UP: usize = 0;
const DOWN: usize = 1;

/// Where the centre listens.
pub(in crate::sim) const CENTRE: [u8; 4] = [198, 51, 100, 1];
pub(in crate::sim) const PORT: u16 = 8883;

/// All of it. `Send`, because quinn's sockets are; one thread uses it.
#[derive(Clone)]
pub(in crate::sim) struct Udp(Arc<Mutex<Inner>>);

struct Inner {
    now: u64,
    rng: fastrand::Rng,
    hosts: Vec<Host>,
    sockets: BTreeMap<u64, Bound>,
    next: u64,
    /// Under way, by the time of arrival.
    flying: BTreeMap<(u64, u64), Datagram>,
    /// Of every datagram that was sent: when, from where, what.
    trace: u64,
    sent: u64,
    /// Datagrams that were longer than the path.
    too_long: u64,
}

/// A device and its NAT.
struct Host {
    way: Way,
    /// Counts addresses.
    address: u8,
    nat: BTreeMap<SocketAddr, Mapping>,
    next_port: u16,
    /// When the line is free again, by direction.
    free: [u64; 2],
}

struct Mapping {
    port: u16,
    used: u64,
}

struct Bound {
    machine: Option<usize>,
    local: SocketAddr,
    stranded: bool,
    queue: VecDeque<Datagram>,
    reader: Option<Waker>,
    /// It takes nothing until then.
    full_until: u64,
    writers: Vec<Waker>,
}

#[derive(Clone)]
struct Datagram {
    from: SocketAddr,
    to: SocketAddr,
    ecn: Option<EcnCodepoint>,
    device: usize,
    direction: usize,
    bytes: Vec<u8>,
}

fn public(device: usize, host: &Host, port: u16) -> SocketAddr {
    SocketAddr::from(([100, 64 + device as u8, host.address, 1], port))
}

fn private(device: usize, host: &Host, port: u16) -> SocketAddr {
    SocketAddr::from(([10, device as u8, host.address, 2], port))
}

/// The device behind a public address.
fn behind(address: SocketAddr) -> Option<(usize, u8)> {
    match address.ip() {
        IpAddr::V4(ip) if ip.octets()[0] == 100 => Some((usize::from(ip.octets()[1] - 64), ip.octets()[2])),
        _ => None,
    }
}

impl Udp {
    pub(super) fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            now: 0,
            rng: fastrand::Rng::with_seed(seed ^ 0x0ddb),
            hosts: Vec::new(),
            sockets: BTreeMap::new(),
            next: 0,
            flying: BTreeMap::new(),
            trace: seed,
            sent: 0,
            too_long: 0,
        })))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The way of a device as it is now.
    pub(in crate::sim) fn set_way(&self, device: usize, way: Way) {
        let mut inner = self.lock();
        match inner.hosts.get_mut(device) {
            Some(host) => host.way = way,
            None => {
                let (nat, next_port) = (BTreeMap::new(), 20_000);
                inner.hosts.push(Host { way, address: 0, nat, next_port, free: [0; 2] });
            }
        }
    }

    pub(in crate::sim) fn set_now(&self, now: u64) {
        self.lock().now = now;
    }

    /// A hash of all that was sent, how many that were, and how many were too long for their path.
    pub(in crate::sim) fn trace(&self) -> (u64, u64, u64) {
        let inner = self.lock();
        (inner.trace, inner.sent, inner.too_long)
    }

    /// When something arrives, or a socket takes datagrams again.
    pub(in crate::sim) fn next_at(&self) -> Option<u64> {
        let inner = self.lock();
        let arrives = inner.flying.first_key_value().map(|((at, _), _)| *at);
        let full = inner.sockets.values().filter(|s| !s.writers.is_empty()).map(|s| s.full_until);
        full.chain(arrives).min()
    }

    /// Delivers what has arrived by now.
    pub(in crate::sim) fn advance(&self) {
        let mut wake = Vec::new();
        let mut inner = self.lock();
        let now = inner.now;
        while let Some(entry) = inner.flying.first_entry() {
            if entry.key().0 > now {
                break;
            }
            let datagram = entry.remove();
            wake.extend(inner.arrive(datagram));
        }
        for socket in inner.sockets.values_mut().filter(|s| s.full_until <= now) {
            wake.append(&mut socket.writers);
        }
        drop(inner);
        wake.into_iter().for_each(Waker::wake);
    }

    /// The machine's process is gone, and its sockets with it.
    pub(in crate::sim) fn close_all(&self, machine: Option<usize>) {
        let mut inner = self.lock();
        let (gone, kept) =
            std::mem::take(&mut inner.sockets).into_iter().partition(|(_, s)| s.machine == machine);
        inner.sockets = kept;
        drop(inner);
        let gone: BTreeMap<u64, Bound> = gone;
        drop(gone);
    }

    /// The device gets another address. `strands`: sockets that are open now lead nowhere from here on.
    pub(in crate::sim) fn change_address(&self, device: usize, strands: bool) {
        let mut inner = self.lock();
        let Inner { hosts, sockets, .. } = &mut *inner;
        let host = &mut hosts[device];
        host.address = host.address.wrapping_add(1);
        host.nat.clear();
        for socket in sockets.values_mut().filter(|s| s.machine == Some(device)) {
            socket.stranded |= strands;
            socket.local = private(device, host, socket.local.port());
        }
    }

    /// The NAT has forgotten everything.
    pub(in crate::sim) fn forget_nat(&self, device: usize) {
        self.lock().hosts[device].nat.clear();
    }

    pub(super) fn bind(
        &self,
        machine: Option<usize>,
        local: SocketAddr,
        remote: Option<SocketAddr>,
    ) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        let mut inner = self.lock();
        let Inner { hosts, sockets, rng, next, .. } = &mut *inner;
        let local = match machine {
            None if sockets.values().any(|s| s.local == local) => {
                return Err(io::ErrorKind::AddrInUse.into());
            }
            None => local,
            Some(device) => {
                let host = &hosts[device];
                // As the shipped `bind`: what the route is known to carry.
                if host.way.mtu_said && host.way.mtu < NEEDED_MTU {
                    let (peer, mtu) =
                        (remote.map(|r| r.to_string()).unwrap_or_default(), u32::from(host.way.mtu));
                    return Err(io::Error::other(LinkError::PathMtu {
                        peer,
                        mtu,
                        needed: u32::from(NEEDED_MTU),
                    }));
                }
                private(device, host, rng.u16(32_768..61_000))
            }
        };
        *next += 1;
        let id = *next;
        sockets.insert(
            id,
            Bound {
                machine,
                local,
                stranded: false,
                queue: VecDeque::new(),
                reader: None,
                full_until: 0,
                writers: Vec::new(),
            },
        );
        // Some kernels cut a long buffer into datagrams themselves.
        let segments = if rng.bool() { 1 } else { 8 };
        Ok(Arc::new(Socket { udp: self.clone(), id, segments }))
    }
}

impl Inner {
    /// What becomes of a datagram that leaves a socket.
    fn send(
        &mut self,
        machine: Option<usize>,
        source: SocketAddr,
        stranded: bool,
        datagram: &Transmit<'_>,
        bytes: &[u8],
    ) {
        self.sent += 1;
        let place =
            self.now ^ (u64::from(source.port()) << 40) ^ (u64::from(datagram.destination.port()) << 24);
        self.trace = xxh3_64_with_seed(bytes, self.trace ^ place);
        let (device, direction) = match (machine, behind(datagram.destination)) {
            (Some(device), _) => (device, UP),
            (None, Some((device, address)))
                if self.hosts.get(device).is_some_and(|h| h.address == address) =>
            {
                (device, DOWN)
            }
            (None, _) => return,
        };
        let (now, rng) = (self.now, &mut self.rng);
        let Some(host) = self.hosts.get_mut(device) else { return };
        let from = match machine {
            None => source,
            Some(_) => {
                let idle = host.way.nat_idle_us;
                let next_port = &mut host.next_port;
                let mapping = host.nat.entry(source).or_insert(Mapping { port: 0, used: 0 });
                if mapping.port == 0 || now > mapping.used + idle {
                    *next_port += 1;
                    mapping.port = *next_port;
                }
                mapping.used = now;
                let port = mapping.port;
                public(device, host, port)
            }
        };
        let way = &host.way;
        if stranded || way.udp_blocked || way.silent {
            return;
        }
        let size = bytes.len() + HEADERS;
        if size > usize::from(way.mtu) {
            self.too_long += 1;
            return;
        }
        let free = host.free[direction].max(now);
        if free > now + QUEUE_US || rng.u32(0..1000) < way.loss {
            return;
        }
        host.free[direction] = free + size as u64 * 1_000_000 / way.bytes_per_s.max(1);
        let sent = Datagram {
            from,
            to: datagram.destination,
            ecn: datagram.ecn,
            device,
            direction,
            bytes: bytes.to_vec(),
        };
        let copies = 1 + u32::from(rng.u32(0..1000) < way.doubled);
        for _ in 0..copies {
            let mut at = host.free[direction] + way.latency_us[direction] + rng.u64(0..=way.jitter_us);
            if rng.u32(0..1000) < way.reordered {
                at += rng.u64(0..20_000 + 2 * way.latency_us[direction]);
            }
            self.next += 1;
            self.flying.insert((at.max(now + 1), self.next), sent.clone());
        }
    }

    /// Whom to wake.
    fn arrive(&mut self, mut datagram: Datagram) -> Option<Waker> {
        let now = self.now;
        let host = self.hosts.get_mut(datagram.device)?;
        if host.way.udp_blocked || host.way.silent {
            return None;
        }
        let machine = if datagram.direction == UP {
            None
        } else {
            // What no mapping leads through is dropped.
            let (_, address) = behind(datagram.to)?;
            let idle = host.way.nat_idle_us;
            let live = |m: &Mapping| m.port == datagram.to.port() && now <= m.used + idle;
            let (inside, mapping) = host.nat.iter_mut().find(|(_, m)| live(m))?;
            if host.address != address {
                return None;
            }
            mapping.used = now;
            datagram.to = *inside;
            Some(datagram.device)
        };
        let socket = self
            .sockets
            .values_mut()
            .find(|s| s.machine == machine && !s.stranded && s.local.port() == datagram.to.port())?;
        if socket.queue.len() < RECEIVE_BUFFER {
            socket.queue.push_back(datagram);
        }
        socket.reader.take()
    }
}

/// An end.
struct Socket {
    udp: Udp,
    id: u64,
    segments: usize,
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Socket").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let bound = self.udp.lock().sockets.remove(&self.id);
        // Its wakers outside of the lock: they may own tasks with sockets.
        drop(bound);
    }
}

impl AsyncUdpSocket for Socket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Poller(self))
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let mut inner = self.udp.lock();
        let full = inner.rng.u16(0..400) == 0;
        let (now, ms) = (inner.now, inner.rng.u64(1..5));
        // The process was killed, and says nothing more.
        let Some(socket) = inner.sockets.get_mut(&self.id) else { return Ok(()) };
        if full {
            socket.full_until = now + ms * 1000;
        }
        if socket.full_until > now {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let (machine, source, stranded) = (socket.machine, socket.local, socket.stranded);
        let size = transmit.segment_size.unwrap_or(transmit.contents.len()).max(1);
        for bytes in transmit.contents.chunks(size) {
            inner.send(machine, source, stranded, transmit, bytes);
        }
        Ok(())
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let mut inner = self.udp.lock();
        let Some(socket) = inner.sockets.get_mut(&self.id) else { return Poll::Pending };
        let mut n = 0;
        for (buffer, meta) in buffers.iter_mut().zip(meta.iter_mut()) {
            let Some(Datagram { from, ecn, bytes, .. }) = socket.queue.pop_front() else { break };
            let len = bytes.len().min(buffer.len());
            buffer[..len].copy_from_slice(&bytes[..len]);
            *meta = RecvMeta { addr: from, len, stride: len, ecn, dst_ip: Some(socket.local.ip()) };
            n += 1;
        }
        if n > 0 {
            return Poll::Ready(Ok(n));
        }
        let before = socket.reader.replace(cx.waker().clone());
        drop(inner);
        drop(before);
        Poll::Pending
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        let inner = self.udp.lock();
        inner.sockets.get(&self.id).map(|s| s.local).ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    fn max_transmit_segments(&self) -> usize {
        self.segments
    }

    fn may_fragment(&self) -> bool {
        false
    }
}

#[derive(Debug)]
struct Poller(Arc<Socket>);

impl UdpPoller for Poller {
    fn poll_writable(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut inner = self.0.udp.lock();
        let now = inner.now;
        match inner.sockets.get_mut(&self.0.id) {
            Some(socket) if socket.full_until > now => {
                socket.writers.push(cx.waker().clone());
                Poll::Pending
            }
            _ => Poll::Ready(Ok(())),
        }
    }
}

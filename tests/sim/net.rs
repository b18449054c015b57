//! The network between devices and the centre, at the level of MQTT's byte stream.
//!
//! A connection is two pipes. What loss, reordering and duplication of packets do to a stream is delay and stall: bytes come
//! late, never wrong. A stream "like TCP" dies of a change of address, one "like QUIC" goes on; either can be cut at any byte,
//! with or without a word to the ends.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use futures_lite::{AsyncRead, AsyncWrite};
use rustls_pki_types::CertificateDer;

use crate::link::control::{Control, Steer, WireBytes};
use crate::link::{Connection, Dial, LinkError, Transport, TrustTime};
use crate::runtime::{LocalFuture, Mono, sleep};

/// Bytes of one direction that may be under way.
const WINDOW: usize = 32 << 10;
/// A connection "like QUIC" on which nothing came through for so long is over at both ends.
const IDLE: u64 = 75_000_000;
/// How long a dial waits for an answer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The centre's certificate ends here, in seconds since 1970 UTC (2035).
pub(super) const CERTIFICATE_ENDS_S: u64 = 2_051_222_400;

/// Directions, as indexes.
const UP: usize = 0;
const DOWN: usize = 1;

/// The way between one device and the centre.
#[derive(Clone, Debug)]
pub(super) struct Way {
    /// One way, by direction.
    pub(super) latency_us: [u64; 2],
    pub(super) jitter_us: u64,
    /// Of a thousand segments so many come only after a timeout.
    pub(super) loss: u32,
    pub(super) bytes_per_s: u64,
    pub(super) udp_blocked: bool,
    pub(super) tcp_blocked: bool,
    /// The machine is off: it says nothing, not even that it is gone.
    pub(super) silent: bool,
    /// For the second tier: of a thousand datagrams so many come late, so many come twice.
    pub(super) reordered: u32,
    pub(super) doubled: u32,
    /// Largest packet, and whether the device is told.
    pub(super) mtu: u16,
    pub(super) mtu_said: bool,
    /// After so much silence the NAT forgets a mapping.
    pub(super) nat_idle_us: u64,
}

impl Default for Way {
    fn default() -> Self {
        Self {
            latency_us: [10_000, 10_000],
            jitter_us: 1_000,
            loss: 0,
            bytes_per_s: 2_000_000,
            udp_blocked: false,
            tcp_blocked: false,
            silent: false,
            reordered: 0,
            doubled: 0,
            mtu: 1500,
            mtu_said: false,
            nat_idle_us: u64::MAX / 2,
        }
    }
}

impl Way {
    fn blocks(&self, transport: Transport) -> bool {
        if transport == Transport::Quic { self.udp_blocked } else { self.tcp_blocked }
    }
}

#[derive(Debug)]
enum Item {
    Bytes(Bytes),
    Fin,
    Reset,
}

#[derive(Debug, Default)]
struct Pipe {
    /// Under way: when it was sent, when it arrives.
    queue: VecDeque<(u64, u64, Item)>,
    ready: VecDeque<Bytes>,
    bytes: usize,
    last_at: u64,
    progress: u64,
    fin_sent: bool,
    fin: bool,
    broken: bool,
    reader_gone: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
    total: u64,
}

impl Pipe {
    fn wake(&mut self) {
        for waker in [self.reader.take(), self.writer.take()].into_iter().flatten() {
            waker.wake();
        }
    }

    fn break_it(&mut self) {
        self.broken = true;
        self.queue.clear();
        self.wake();
    }
}

#[derive(Debug)]
struct Conn {
    device: usize,
    transport: Transport,
    pipes: [Pipe; 2],
    /// Its addresses are no more: nothing comes through, nobody is told.
    frozen: bool,
    ends: u8,
}

/// All connections.
pub(super) struct Net {
    pub(super) now: Cell<u64>,
    inner: RefCell<Inner>,
}

struct Inner {
    rng: fastrand::Rng,
    ways: Vec<Way>,
    conns: BTreeMap<u64, Conn>,
    next: u64,
    centre_up: bool,
    accepts: VecDeque<Accept>,
    /// Dials and closed connections, for the trace.
    notes: Vec<String>,
    /// Network changes that devices are told of.
    changed: Vec<(u64, Option<Waker>)>,
}

/// A connection that waits at the centre's door.
pub(super) struct Accept {
    pub(super) connection: Connection,
}

impl Net {
    pub(super) fn new(seed: u64) -> Rc<Self> {
        let inner = Inner {
            rng: fastrand::Rng::with_seed(seed),
            ways: Vec::new(),
            conns: BTreeMap::new(),
            next: 0,
            centre_up: false,
            accepts: VecDeque::new(),
            notes: Vec::new(),
            changed: Vec::new(),
        };
        Rc::new(Self { now: Cell::new(0), inner: RefCell::new(inner) })
    }

    pub(super) fn add(&self, way: Way) {
        let mut inner = self.inner.borrow_mut();
        inner.ways.push(way);
        inner.changed.push((0, None));
    }

    pub(super) fn way(&self, device: usize, f: impl FnOnce(&mut Way)) {
        let mut inner = self.inner.borrow_mut();
        f(&mut inner.ways[device]);
        // What was held up is sent again a little later.
        let now = self.now.get();
        for conn in inner.conns.values_mut().filter(|c| c.device == device) {
            for pipe in &mut conn.pipes {
                pipe.last_at = pipe.last_at.min(now + 1_000_000);
            }
        }
    }

    /// The way of a device as it is now.
    pub(super) fn way_now(&self, device: usize) -> Way {
        self.inner.borrow().ways[device].clone()
    }

    pub(super) fn set_centre(&self, up: bool) {
        self.inner.borrow_mut().centre_up = up;
    }

    pub(super) fn poll_accept(&self) -> Option<Accept> {
        self.inner.borrow_mut().accepts.pop_front()
    }

    pub(super) fn notes(&self) -> Vec<String> {
        std::mem::take(&mut self.inner.borrow_mut().notes)
    }

    /// What the links of a device do now.
    pub(super) fn state(&self, device: usize) -> &'static str {
        let inner = self.inner.borrow();
        let of_it: Vec<&Conn> = inner.conns.values().filter(|c| c.device == device && !c.frozen).collect();
        if of_it.is_empty() {
            "offline"
        } else if of_it.iter().any(|c| c.pipes.iter().any(|p| p.bytes > 0)) {
            "sending"
        } else {
            "idle"
        }
    }

    /// Delivers what has arrived by now.
    pub(super) fn advance(&self) {
        let now = self.now.get();
        let mut inner = self.inner.borrow_mut();
        let Inner { rng, ways, conns, .. } = &mut *inner;
        for conn in conns.values_mut() {
            if conn.frozen || ways[conn.device].blocks(conn.transport) {
                if conn.transport == Transport::Quic && conn.pipes.iter().all(|p| now > p.progress + IDLE) {
                    conn.pipes.iter_mut().for_each(Pipe::break_it);
                }
                continue;
            }
            for pipe in &mut conn.pipes {
                while let Some((sent, at, item)) = pipe.queue.pop_front() {
                    if at > now {
                        pipe.queue.push_front((sent, at, item));
                        break;
                    }
                    pipe.progress = now;
                    match item {
                        Item::Fin => pipe.fin = true,
                        Item::Reset => pipe.broken = true,
                        Item::Bytes(mut bytes) => {
                            // A stream has no bounds: the end of a read falls anywhere.
                            if bytes.len() > 1 && rng.u8(0..4) == 0 {
                                let rest = bytes.split_off(rng.usize(1..bytes.len()));
                                pipe.queue.push_front((sent, now + rng.u64(0..500), Item::Bytes(rest)));
                            }
                            pipe.ready.push_back(bytes);
                        }
                    }
                    if let Some(waker) = pipe.reader.take() {
                        waker.wake();
                    }
                }
            }
        }
        conns.retain(|_, c| c.ends > 0);
    }

    /// When something arrives next.
    pub(super) fn next_at(&self) -> Option<u64> {
        let inner = self.inner.borrow();
        let live = inner.conns.values().filter_map(|c| {
            if c.frozen || inner.ways[c.device].blocks(c.transport) {
                let idle = c.pipes.iter().map(|p| p.progress).max().map(|at| at + IDLE + 1);
                return idle.filter(|_| c.transport == Transport::Quic && !c.pipes[0].broken);
            }
            c.pipes.iter().filter_map(|p| p.queue.front().map(|(_, at, _)| *at)).min()
        });
        live.min()
    }

    /// Ends every connection of a device at any byte: what was under way arrives in part, or not at all.
    pub(super) fn cut(&self, device: usize) {
        let mut inner = self.inner.borrow_mut();
        let Inner { rng, conns, .. } = &mut *inner;
        for conn in conns.values_mut().filter(|c| c.device == device) {
            for pipe in &mut conn.pipes {
                let keep = rng.usize(0..=pipe.queue.len());
                pipe.queue.truncate(keep);
                if let Some((_, _, Item::Bytes(bytes))) = pipe.queue.back_mut()
                    && !bytes.is_empty()
                {
                    bytes.truncate(rng.usize(0..=bytes.len()));
                }
                let at = pipe.queue.back().map_or(0, |(_, at, _)| *at).max(self.now.get());
                pipe.queue.push_back((self.now.get(), at, Item::Reset));
            }
        }
    }

    /// The device has another address. Streams like TCP are dead and nobody says so; `told`: the device notices.
    pub(super) fn change_address(&self, device: usize, told: bool) {
        let now = self.now.get();
        let mut inner = self.inner.borrow_mut();
        for conn in inner.conns.values_mut().filter(|c| c.device == device) {
            if conn.transport == Transport::Quic {
                for pipe in &mut conn.pipes {
                    // The path is validated before it is used: a round trip or two.
                    for (_, at, _) in &mut pipe.queue {
                        *at = (*at).max(now + 150_000);
                    }
                    pipe.last_at = pipe.last_at.max(now + 150_000);
                }
            } else {
                conn.frozen = true;
            }
        }
        if told {
            let (changes, waker) = &mut inner.changed[device];
            *changes += 1;
            if let Some(waker) = waker.take() {
                waker.wake();
            }
        }
    }

    fn open(self: &Rc<Self>, device: usize, transport: Transport) -> (SimIo, SimIo) {
        let mut inner = self.inner.borrow_mut();
        inner.next += 1;
        let id = inner.next;
        let pipe = || Pipe { progress: self.now.get(), ..Pipe::default() };
        let conn = Conn { device, transport, pipes: [pipe(), pipe()], frozen: false, ends: 2 };
        inner.conns.insert(id, conn);
        inner.notes.push(format!("device {device} connects by {} as {id}", transport.as_str()));
        let io = |out| SimIo { net: self.clone(), conn: id, out };
        (io(UP), io(DOWN))
    }
}

/// One end of a connection.
struct SimIo {
    net: Rc<Net>,
    conn: u64,
    /// The direction that it writes.
    out: usize,
}

impl SimIo {
    fn send(inner: &mut Inner, now: u64, conn: u64, out: usize, item: Item) {
        let Inner { rng, ways, conns, .. } = inner;
        let Some(conn) = conns.get_mut(&conn) else { return };
        let way = &ways[conn.device];
        let pipe = &mut conn.pipes[out];
        let bytes = if let Item::Bytes(b) = &item { b.len() as u64 } else { 0 };
        let mut at = now
            + way.latency_us[out]
            + rng.u64(0..=way.jitter_us)
            + bytes * 1_000_000 / way.bytes_per_s.max(1);
        if way.loss > 0 && rng.u32(0..1000) < way.loss {
            // Sent again after a timeout; all behind it waits.
            at += way.latency_us[0] + way.latency_us[1] + rng.u64(50_000..400_000);
        }
        pipe.last_at = pipe.last_at.max(at);
        pipe.bytes += bytes as usize;
        pipe.total += bytes;
        pipe.queue.push_back((now, pipe.last_at, item));
    }
}

impl AsyncRead for SimIo {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut inner = self.net.inner.borrow_mut();
        let Some(conn) = inner.conns.get_mut(&self.conn) else { return Poll::Ready(Ok(0)) };
        let pipe = &mut conn.pipes[1 - self.out];
        if let Some(mut bytes) = pipe.ready.pop_front() {
            let n = bytes.len().min(buf.len());
            buf[..n].copy_from_slice(&bytes.split_to(n));
            if !bytes.is_empty() {
                pipe.ready.push_front(bytes);
            }
            pipe.bytes -= n.min(pipe.bytes);
            if let Some(waker) = pipe.writer.take() {
                waker.wake();
            }
            return Poll::Ready(Ok(n));
        }
        if pipe.broken {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        if pipe.fin {
            return Poll::Ready(Ok(0));
        }
        pipe.reader = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl AsyncWrite for SimIo {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let now = self.net.now.get();
        let mut inner = self.net.inner.borrow_mut();
        let piece = inner.rng.usize(1..=4096).min(buf.len());
        let Some(conn) = inner.conns.get_mut(&self.conn) else {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        };
        // An end hears of its peer's end on the pipe that it reads.
        let heard = conn.pipes[1 - self.out].broken;
        let pipe = &mut conn.pipes[self.out];
        if pipe.fin_sent || heard || pipe.broken {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if pipe.reader_gone {
            return Poll::Ready(Ok(buf.len()));
        }
        let room = WINDOW.saturating_sub(pipe.bytes).min(piece);
        if room == 0 {
            pipe.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let bytes = Bytes::copy_from_slice(&buf[..room]);
        Self::send(&mut inner, now, self.conn, self.out, Item::Bytes(bytes));
        Poll::Ready(Ok(room))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let now = self.net.now.get();
        let mut inner = self.net.inner.borrow_mut();
        if let Some(conn) = inner.conns.get_mut(&self.conn)
            && !std::mem::replace(&mut conn.pipes[self.out].fin_sent, true)
        {
            Self::send(&mut inner, now, self.conn, self.out, Item::Fin);
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for SimIo {
    fn drop(&mut self) {
        let now = self.net.now.get();
        let mut inner = self.net.inner.borrow_mut();
        let Some(conn) = inner.conns.get_mut(&self.conn) else { return };
        conn.ends -= 1;
        let device = conn.device;
        let into = &mut conn.pipes[1 - self.out];
        into.reader_gone = true;
        into.queue.clear();
        into.ready.clear();
        into.bytes = 0;
        into.wake();
        let closed = conn.pipes[self.out].fin_sent;
        let silent = inner.ways[device].silent && self.out == UP;
        if !closed && !silent {
            Self::send(&mut inner, now, self.conn, self.out, Item::Reset);
        }
    }
}

/// Watches a connection from the device's end.
struct SimSteer {
    net: Rc<Net>,
    conn: u64,
    out: usize,
}

impl SimSteer {
    fn with<T>(&self, f: impl FnOnce(&mut Conn, &Way) -> T) -> Option<T> {
        let mut inner = self.net.inner.borrow_mut();
        let Inner { ways, conns, .. } = &mut *inner;
        let conn = conns.get_mut(&self.conn)?;
        let way = &ways[conn.device];
        Some(f(conn, way))
    }
}

impl Steer for SimSteer {
    fn rtt(&self) -> Option<Duration> {
        self.with(|_, way| Duration::from_micros(way.latency_us[0] + way.latency_us[1]))
    }

    fn stalled_for(&self, _now: Mono) -> Duration {
        let now = self.net.now.get();
        let out = self.out;
        let stalled = self.with(|conn, _| {
            let pipe = &conn.pipes[out];
            pipe.queue.front().map_or(0, |(sent, ..)| now.saturating_sub(pipe.progress.max(*sent)))
        });
        Duration::from_micros(stalled.unwrap_or(0))
    }

    fn rebind(&self, _remote: SocketAddr) -> Result<(), LinkError> {
        let dead = self.with(|conn, _| conn.frozen).unwrap_or(true);
        let gone = || LinkError::Unreachable { peer: "centre".into(), reason: "the address is gone".into() };
        if dead { Err(gone()) } else { Ok(()) }
    }

    fn path_mtu(&self) -> Option<u16> {
        None
    }

    fn wire_bytes(&self) -> WireBytes {
        let out = self.out;
        let bytes = self
            .with(|conn, _| WireBytes { sent: conn.pipes[out].total, received: conn.pipes[1 - out].total });
        bytes.unwrap_or_default()
    }

    fn close(&self, _reason: &str) {
        // Dropping the stream ends it.
    }
}

/// Dials for a device.
pub(super) struct SimDial {
    pub(super) net: Rc<Net>,
    pub(super) device: usize,
    pub(super) trust: TrustTime,
    pub(super) certificate: CertificateDer<'static>,
    pub(super) heard: Cell<u64>,
}

impl std::fmt::Debug for SimDial {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SimDial").field("device", &self.device).finish_non_exhaustive()
    }
}

impl SimDial {
    fn blocked(&self, transport: Transport) -> bool {
        self.net.inner.borrow().ways[self.device].blocks(transport)
    }

    async fn connect(&self, transport: Transport) -> Result<Connection, LinkError> {
        let peer = || "centre".to_owned();
        let rtt = {
            let way = &self.net.inner.borrow().ways[self.device];
            Duration::from_micros(way.latency_us[0] + way.latency_us[1])
        };
        let trips = if transport == Transport::Quic { 1 } else { 2 };
        if !self.blocked(transport) {
            sleep(rtt * trips).await;
        }
        if self.blocked(transport) {
            sleep(CONNECT_TIMEOUT).await;
            return Err(LinkError::Timeout { step: "connect to", peer: peer(), limit: CONNECT_TIMEOUT });
        }
        if !self.net.inner.borrow().centre_up {
            return Err(LinkError::Refused { peer: peer() });
        }
        // What the verifier does with a floor: no chain is believed that ended before.
        if self.trust.floor_s() > CERTIFICATE_ENDS_S {
            return Err(LinkError::Certificate { peer: peer(), reason: "it ended before the floor".into() });
        }
        let (ours, theirs) = self.net.open(self.device, transport);
        let connection = |io: SimIo, certs: Vec<CertificateDer<'static>>| {
            let remote = SocketAddr::from(([10, 0, (self.device >> 8) as u8, self.device as u8], 8883));
            let steer = SimSteer { net: self.net.clone(), conn: io.conn, out: io.out };
            let control = Control::new(transport, remote, steer);
            Connection { transport, remote, io: Box::new(io), control, peer_certs: certs }
        };
        let accept = Accept { connection: connection(theirs, vec![self.certificate.clone()]) };
        self.net.inner.borrow_mut().accepts.push_back(accept);
        Ok(connection(ours, Vec::new()))
    }
}

impl Dial for SimDial {
    fn dial(&self, transport: Transport) -> LocalFuture<'_, Result<Connection, LinkError>> {
        Box::pin(self.connect(transport))
    }

    fn set_keep_alive(&self, _interval: Duration) {}

    fn network_changed(&self) -> LocalFuture<'_, ()> {
        Box::pin(std::future::poll_fn(|cx| {
            let mut inner = self.net.inner.borrow_mut();
            let (changes, waker) = &mut inner.changed[self.device];
            if *changes > self.heard.get() {
                self.heard.set(*changes);
                return Poll::Ready(());
            }
            *waker = Some(cx.waker().clone());
            Poll::Pending
        }))
    }
}

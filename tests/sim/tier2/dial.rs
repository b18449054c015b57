//! How a device of the second tier connects, and what is seen of it: by QUIC with the shipped dialer, by TLS with the first
//! tier's model of a stream "like TCP".

use std::cell::{Cell, RefCell};
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_lite::{AsyncRead, AsyncWrite};

use super::Tier;
use super::udp::{CENTRE, PORT};
use crate::link::quic::QuicLimits;
use crate::link::tls::TlsClient;
use crate::link::{Connection, Control, Dial, DialOptions, Dialer, Io, LinkError, Target, Transport};
use crate::runtime::LocalFuture;
use crate::sim::net::SimDial;

/// More at once than a good-bye or a ping.
const MORE_THAN_A_WORD: usize = 40;

/// A connection of a device, as the device sees it. Times are virtual, in µs.
#[derive(Debug)]
pub(in crate::sim) struct Line {
    pub(in crate::sim) transport: Transport,
    /// CONNECT.
    wrote_first: Option<u64>,
    /// The centre's first and last word.
    pub(in crate::sim) heard_first: Option<u64>,
    pub(in crate::sim) heard: Option<u64>,
    pub(in crate::sim) closed: Option<u64>,
    /// Largest datagram that the path was known to carry at best, and now.
    top_mtu: u16,
    pub(in crate::sim) shrunk: bool,
    control: Option<Control>,
}

#[derive(Debug, Default)]
pub(in crate::sim) struct Seen {
    pub(in crate::sim) lines: Vec<Line>,
    pub(in crate::sim) dials: Vec<(u64, Transport)>,
    pub(in crate::sim) binds: usize,
    /// Frames went out by a connection after a younger one had said CONNECT.
    pub(in crate::sim) overlaps: Vec<u64>,
}

impl Seen {
    /// The youngest open connection on which the centre has answered.
    pub(in crate::sim) fn live(&self) -> Option<&Line> {
        self.lines.iter().rev().find(|l| l.closed.is_none() && l.heard.is_some())
    }

    /// As [`Self::live`]: its number.
    pub(in crate::sim) fn live_number(&self) -> Option<usize> {
        self.lines.iter().rposition(|l| l.closed.is_none() && l.heard.is_some())
    }
}

/// By machine.
#[derive(Debug, Default)]
pub(in crate::sim) struct Watch(RefCell<Vec<Seen>>);

impl Watch {
    /// Looks at what a machine did.
    pub(in crate::sim) fn of<T>(&self, machine: usize, look: impl FnOnce(&mut Seen) -> T) -> T {
        let mut all = self.0.borrow_mut();
        while all.len() <= machine {
            all.push(Seen::default());
        }
        look(&mut all[machine])
    }

    pub(super) fn bound(&self, machine: Option<usize>) {
        if let Some(machine) = machine {
            self.of(machine, |seen| seen.binds += 1);
        }
    }
}

/// Dials for a device.
#[derive(Debug)]
pub(in crate::sim) struct TierDial {
    quic: Dialer,
    tcp: SimDial,
    watch: Rc<Watch>,
    now: Rc<Cell<u64>>,
}

impl TierDial {
    /// To be called while the device is entered.
    pub(in crate::sim) fn new(
        tier: &Tier,
        name: &std::sync::Arc<str>,
        tcp: SimDial,
        now: Rc<Cell<u64>>,
    ) -> Self {
        let target = Target {
            host: std::net::Ipv4Addr::from(CENTRE).to_string(),
            quic_port: PORT,
            tcp_port: PORT,
            proxy: None,
        };
        let ca = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/sim/tier2/ca.pem"));
        let tls =
            TlsClient { ca_file: Some(ca), server_name: Some("centre".to_owned()), ..TlsClient::default() };
        let net = tier.net(Some(tcp.device), name);
        let options = DialOptions { quic: QuicLimits::client(), net, ..DialOptions::default() };
        let quic = Dialer::new(target, Some(tls), tcp.trust.clone(), options).unwrap();
        Self { quic, tcp, watch: tier.watch.clone(), now }
    }

    fn watched(&self, connection: Connection) -> Connection {
        let Connection { transport, remote, io, control, peer_certs } = connection;
        let line = self.watch.of(self.tcp.device, |seen| {
            seen.lines.push(Line {
                transport,
                wrote_first: None,
                heard_first: None,
                heard: None,
                closed: None,
                top_mtu: 0,
                shrunk: false,
                control: Some(control.clone()),
            });
            seen.lines.len() - 1
        });
        let (watch, machine, now) = (self.watch.clone(), self.tcp.device, self.now.clone());
        let io = Box::new(Watched { io, watch, machine, line, now });
        Connection { transport, remote, io, control, peer_certs }
    }
}

impl Dial for TierDial {
    fn dial(&self, transport: Transport) -> LocalFuture<'_, Result<Connection, LinkError>> {
        Box::pin(async move {
            self.watch.of(self.tcp.device, |seen| seen.dials.push((self.now.get(), transport)));
            let dialed = match transport {
                Transport::Quic => self.quic.dial(transport).await,
                _ => Dial::dial(&self.tcp, transport).await,
            };
            dialed.map(|connection| self.watched(connection))
        })
    }

    fn set_keep_alive(&self, interval: Duration) {
        self.quic.set_keep_alive(interval);
    }

    fn network_changed(&self) -> LocalFuture<'_, ()> {
        self.tcp.network_changed()
    }
}

/// A connection that is watched.
struct Watched {
    io: Box<dyn Io>,
    watch: Rc<Watch>,
    machine: usize,
    line: usize,
    now: Rc<Cell<u64>>,
}

impl Watched {
    fn wrote(&self, bytes: usize) {
        let now = self.now.get();
        self.watch.of(self.machine, |seen| {
            let younger = seen.lines.iter().skip(self.line + 1);
            let overtaken = younger.clone().any(|l| l.wrote_first.is_some_and(|at| at < now));
            if overtaken && bytes > MORE_THAN_A_WORD {
                seen.overlaps.push(now);
            }
            seen.lines[self.line].wrote_first.get_or_insert(now);
        });
    }

    fn heard(&self) {
        let now = self.now.get();
        let control = self.watch.of(self.machine, |seen| {
            let line = &mut seen.lines[self.line];
            line.heard_first.get_or_insert(now);
            line.heard = Some(now);
            line.control.clone()
        });
        if let Some(mtu) = control.and_then(|c| c.path_mtu()) {
            self.watch.of(self.machine, |seen| {
                let line = &mut seen.lines[self.line];
                line.shrunk |= mtu < line.top_mtu;
                line.top_mtu = mtu.max(line.top_mtu);
            });
        }
    }
}

impl AsyncRead for Watched {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let read = Pin::new(&mut self.io).poll_read(cx, buf);
        if let Poll::Ready(Ok(1..)) = read {
            self.heard();
        }
        read
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, buf);
        if let Poll::Ready(Ok(n)) = written {
            self.wrote(n);
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_close(cx)
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let now = self.now.get();
        let control = self.watch.of(self.machine, |seen| {
            let line = &mut seen.lines[self.line];
            line.closed = Some(now);
            line.control.take()
        });
        drop(control);
    }
}

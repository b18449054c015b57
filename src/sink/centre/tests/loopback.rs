//! The whole way over loopback: the shipped spool, driver, link, the shipped listener, and a sink that the test plays.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_io::Async;
use futures_lite::{FutureExt, io};

use crate::clock::{Stamp, TimeKeeper};
use crate::config::node::Kind;
use crate::config::{Context, Field, Node, Place};
use crate::event::builtin::{self, Loss, Payload};
use crate::event::{Batch, BatchBuilder, Op};
use crate::identity::Identity;
use crate::link::tls::TlsVersion;
use crate::link::{TlsClient, TrustTime};
use crate::runtime::{Stop, Stopper, Task, block_on, mono_now, sleep, spawn, timeout};
use crate::sink::centre::{Agent, Config, run};
use crate::sink::{Mark, SinkError};
use crate::source::devices::listener::Listener;
use crate::source::{Outlet, SourceError, Submission};
use crate::spool::{Class, LaneOptions, Options, Spool};

/// Generous: a busy machine is no failure.
const PATIENCE: Duration = Duration::from_secs(30);

/// A folder of its own, with the keys of a CA.
struct Room {
    folder: PathBuf,
    ca: rcgen::CertificateParams,
    ca_key: rcgen::KeyPair,
}

thread_local! {
    static ROOMS: Cell<u32> = const { Cell::new(0) };
}

impl Room {
    fn new() -> Self {
        let n = ROOMS.with(|r| r.replace(r.get() + 1));
        let thread = format!("{:?}", std::thread::current().id()).replace(['(', ')'], "");
        let folder = std::env::temp_dir().join(format!("dts-ship-{}-{thread}-{n}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let mut ca = rcgen::CertificateParams::default();
        ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let ca_key = rcgen::KeyPair::generate().unwrap();
        let room = Self { folder, ca, ca_key };
        std::fs::write(room.path("ca"), room.ca.self_signed(&room.ca_key).unwrap().pem()).unwrap();
        room.issue("server", |p| {
            p.subject_alt_names = vec![rcgen::SanType::IpAddress("127.0.0.1".parse().unwrap())];
        });
        room.issue("box", |_| {});
        room
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn issue(&self, name: &str, change: impl FnOnce(&mut rcgen::CertificateParams)) {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        change(&mut params);
        let issuer = rcgen::Issuer::from_params(&self.ca, &self.ca_key);
        let certificate = params.signed_by(&key, &issuer).unwrap();
        std::fs::write(self.path(name), certificate.pem()).unwrap();
        std::fs::write(self.path(&format!("{name}.key")), key.serialize_pem()).unwrap();
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.folder).ok();
    }
}

fn text(text: &str) -> Node {
    Node { place: Place::default(), kind: Kind::Scalar { text: text.to_owned(), plain: true } }
}

fn map(entries: &[(&str, Node)]) -> Node {
    let entries = entries.iter().map(|(k, n)| ((*k).to_owned(), Place::default(), n.clone()));
    Node { place: Place::default(), kind: Kind::Map(entries.collect()) }
}

fn read<T: Field>(entries: &[(&str, Node)]) -> T {
    let mut cx = Context::default();
    let config = T::read(&map(entries), &mut cx);
    config.unwrap_or_else(|| panic!("{:?}", cx.mistakes))
}

/// What the centre's sink holds.
#[derive(Default)]
struct Sink {
    /// How often each row came, by its id.
    rows: RefCell<BTreeMap<String, u32>>,
    order: RefCell<Vec<String>>,
    messages: Cell<u32>,
    /// From, to, why.
    losses: RefCell<Vec<(u64, u64, String)>>,
    /// The last status.
    status: RefCell<serde_json::Value>,
    marks: RefCell<Vec<Mark>>,
    held: RefCell<VecDeque<Submission>>,
    holding: Cell<bool>,
}

impl Sink {
    fn commit(&self, submission: Submission) {
        for row in &submission.batch {
            let row = row.unwrap();
            let id = submission.batch.row_id(row.head().ordinal);
            if submission.mark.is_none() {
                self.messages.set(self.messages.get() + 1);
                let image = row.newest().unwrap().unwrap();
                let Some(crate::event::Value::Text(json)) = image.get(2) else { panic!("a status is JSON") };
                *self.status.borrow_mut() = serde_json::from_str(json).unwrap();
                continue;
            }
            if row.op() == Op::Loss {
                let loss = Loss::from_image(&row.newest().unwrap().unwrap()).unwrap();
                self.losses.borrow_mut().push((loss.from, loss.to, loss.reason.into()));
            }
            *self.rows.borrow_mut().entry(id.clone()).or_insert(0) += 1;
            self.order.borrow_mut().push(id);
        }
        if let Some(mark) = submission.mark {
            let mut marks = self.marks.borrow_mut();
            marks.retain(|m| (&m.device, &m.lane, m.epoch) != (&mark.device, &mark.lane, mark.epoch));
            marks.push(mark);
        }
        submission.done.try_send(Ok(())).unwrap_or_default();
    }

    fn release(&self) {
        self.holding.set(false);
        while let Some(submission) = self.held.borrow_mut().pop_front() {
            self.commit(submission);
        }
    }

    fn len(&self) -> usize {
        self.rows.borrow().len()
    }

    fn epochs(&self) -> usize {
        let rows = self.rows.borrow();
        let epochs = rows.keys().map(|id| id.rsplit_once('/').unwrap().0);
        epochs.collect::<std::collections::BTreeSet<_>>().len()
    }

    /// Each row came once, those of a lane in order.
    fn assert_exact(&self, rows: usize) {
        assert_eq!(self.len(), rows);
        assert!(self.rows.borrow().values().all(|n| *n == 1), "a row came twice");
        let mut last: BTreeMap<String, u64> = BTreeMap::new();
        for id in self.order.borrow().iter() {
            let (lane, seq) = id.rsplit_once('/').unwrap();
            let seq: u64 = seq.parse().unwrap();
            let before = last.insert(lane.to_owned(), seq).unwrap_or(0);
            assert!(before < seq, "{lane}: {seq} after {before}");
        }
    }
}

struct Centre {
    quic: SocketAddr,
    tls: SocketAddr,
    stopper: Stopper,
    task: Task<Result<(), SourceError>>,
    engine: Task<()>,
}

impl Centre {
    fn start(room: &Room, sink: &Rc<Sink>) -> Self {
        Self::start_with(room, sink, &[])
    }

    fn start_with(room: &Room, sink: &Rc<Sink>, more: &[(&str, Node)]) -> Self {
        let path = |name: &str| text(room.path(name).to_str().unwrap());
        let keys =
            [("cert_file", path("server")), ("key_file", path("server.key")), ("client_ca_file", path("ca"))];
        let any = || text("127.0.0.1:0");
        let entries = [&[("quic", any()), ("tls_tcp", any()), ("tls", map(&keys))], more].concat();
        let config: crate::source::devices::Config = read(&entries);
        let listener = Listener::bind(&config, "in").unwrap();
        let (quic, tls) = (listener.quic_address().unwrap(), listener.tls_address().unwrap());
        let (stopper, stop) = Stop::new();
        let (tx, rx) = async_channel::bounded::<Submission>(16);
        let stamp = Stamp::new(|| 7 << 16);
        let marks: Arc<[Mark]> = sink.marks.borrow().as_slice().into();
        let outlet = Outlet::new("in".into(), "".into(), stamp, 1 << 20, Arc::new([]), tx).with_marks(marks);
        let sink = sink.clone();
        let engine = spawn(async move {
            while let Ok(submission) = rx.recv().await {
                if sink.holding.get() {
                    sink.held.borrow_mut().push_back(submission);
                } else {
                    sink.commit(submission);
                }
            }
        });
        let task = spawn(listener.run(outlet, stop));
        Self { quic, tls, stopper, task, engine }
    }

    /// As a kill would.
    async fn kill(self, sink: &Sink) {
        drop(self.stopper);
        self.task.cancel().await;
        self.engine.cancel().await;
        sink.held.borrow_mut().clear();
    }
}

struct Device {
    spool: Spool,
    keeper: Rc<RefCell<TimeKeeper>>,
    stopper: Stopper,
    task: Task<Result<(), SinkError>>,
}

impl Device {
    fn start(room: &Room, quic: u16, tls: u16, more: &[(&str, Node)]) -> Self {
        let rng = &mut crate::runtime::rng();
        let identity = Arc::new(Mutex::new(Identity::open(&room.folder, rng).unwrap()));
        let epochs = identity.clone();
        let mut lanes = vec![LaneOptions::new("data", Class::Fsync), LaneOptions::new("alarm", Class::Fsync)];
        lanes[1].weight = 8;
        let options =
            Options { lanes, boot: crate::runtime::boot_id(), ..Options::new(room.path("spool"), "box") };
        let max_stored_bytes = options.max_body_bytes;
        let (spool, _) = Spool::start(
            options,
            Box::new(move |least| {
                let mut rng = fastrand::Rng::new();
                epochs.lock().unwrap().next_epoch(least, &mut rng).map_err(|e| e.to_string())
            }),
        )
        .unwrap();
        let boot = crate::runtime::boot_id();
        let keeper = TimeKeeper::new(mono_now(), boot, crate::runtime::wall_now_us(), &[], 0);
        let keeper = Rc::new(RefCell::new(keeper));
        let agent = Agent {
            device: "box".into(),
            identity,
            keeper: keeper.clone(),
            trust: TrustTime::unknown(0),
            boot,
            max_stored_bytes,
            data_dir: None,
        };
        let mut entries = vec![
            ("address", text("127.0.0.1")),
            ("quic_port", text(&quic.to_string())),
            ("tcp_port", text(&tls.to_string())),
            ("probe_interval", text("200ms")),
            ("race_delay", text("200ms")),
            ("backoff_max", text("300ms")),
        ];
        entries.extend(more.iter().cloned());
        let mut config: Config = read(&entries);
        config.tls = TlsClient {
            ca_file: Some(room.path("ca")),
            cert_file: Some(room.path("box")),
            key_file: Some(room.path("box.key")),
            server_name: None,
            min_version: TlsVersion::V13,
        };
        let (stopper, stop) = Stop::new();
        let shipped = spool.clone();
        let task = spawn(async move { run(shipped, &config, agent, stop).await });
        Self { spool, keeper, stopper, task }
    }

    async fn store(&self, lane: &str, rows: u32) {
        let stamp = self.keeper.borrow_mut().stamp(mono_now());
        self.spool.store(lane, messages(rows, stamp)).await.unwrap();
    }

    /// Everything stored left the spool.
    async fn is_empty(&self) -> bool {
        self.spool.stats().await.unwrap().lanes.iter().all(|l| l.bytes == 0)
    }

    async fn drained(&self) {
        let drained = async {
            while !self.is_empty().await {
                sleep(Duration::from_millis(5)).await;
            }
        };
        assert!(timeout(PATIENCE, drained).await.is_some(), "the buffer does not drain");
    }

    /// Stops, and closes the spool. (That it takes less than a second follows from `STOP_WITHIN`; here it must
    /// end by itself, whatever hangs.)
    async fn stop(self) {
        self.stopper.stop();
        timeout(PATIENCE, self.task).await.expect("the shipping stops").unwrap();
        self.spool.stop().await.unwrap();
    }
}

fn messages(rows: u32, stamp: u64) -> Batch {
    let mut builder = BatchBuilder::new("test".into());
    for n in 0..rows {
        let text = format!("row {n} of {stamp}");
        let values = builtin::message_values("t", None, Payload::Text(&text), None);
        builder.push(Op::Message, stamp, builtin::message(), None, builtin::image(&values)).unwrap();
    }
    builder.finish()
}

/// One row of at least `bytes`.
fn large(bytes: usize) -> Batch {
    let mut builder = BatchBuilder::new("test".into());
    let text = "x".repeat(bytes);
    let values = builtin::message_values("t", None, Payload::Text(&text), None);
    builder.push(Op::Message, 0, builtin::message(), None, builtin::image(&values)).unwrap();
    builder.finish()
}

async fn until(what: &str, done: impl Fn() -> bool) {
    let waited = timeout(PATIENCE, async {
        while !done() {
            sleep(Duration::from_millis(2)).await;
        }
    });
    assert!(waited.await.is_some(), "never: {what}");
}

/// A port that nobody listens on.
fn free_port() -> u16 {
    UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// QUIC's and TLS's address of the centre, if there is one.
type Target = Option<(SocketAddr, SocketAddr)>;

/// Stands between the agent and centres that come and go; its ports stay.
struct Relay {
    quic: u16,
    tls: u16,
    to: Rc<Cell<Target>>,
    /// Datagrams are swallowed.
    no_udp: Rc<Cell<bool>>,
    /// Streams so far, and those open.
    streams: Rc<Cell<(u32, u32)>>,
    _tasks: [Task<()>; 2],
}

impl Relay {
    fn new() -> Self {
        let front = Async::<UdpSocket>::bind(([127, 0, 0, 1], 0)).unwrap();
        let back = Async::<UdpSocket>::bind(([127, 0, 0, 1], 0)).unwrap();
        let listener = Async::<TcpListener>::bind(([127, 0, 0, 1], 0)).unwrap();
        let (quic, tls) = (front.get_ref().local_addr().unwrap(), listener.get_ref().local_addr().unwrap());
        let (to, no_udp) = (Rc::new(Cell::new(None)), Rc::new(Cell::new(false)));
        let udp = spawn(Self::datagrams(front, back, to.clone(), no_udp.clone()));
        let streams = Rc::new(Cell::new((0, 0)));
        let tcp = spawn(Self::carry(listener, to.clone(), streams.clone()));
        Self { quic: quic.port(), tls: tls.port(), to, no_udp, streams, _tasks: [udp, tcp] }
    }

    fn lead_to(&self, centre: &Centre) {
        self.to.set(Some((centre.quic, centre.tls)));
    }

    async fn datagrams(
        front: Async<UdpSocket>,
        back: Async<UdpSocket>,
        to: Rc<Cell<Target>>,
        swallow: Rc<Cell<bool>>,
    ) {
        let mut client: Option<SocketAddr> = None;
        let (mut up, mut down) = (vec![0; 2048], vec![0; 2048]);
        loop {
            let from_client = async { (true, front.recv_from(&mut up).await) };
            let from_centre = async { (false, back.recv_from(&mut down).await) };
            let (up_bound, came) = from_client.or(from_centre).await;
            let Ok((n, from)) = came else { continue };
            if up_bound {
                client = Some(from);
            }
            if swallow.get() {
                continue;
            }
            let sent = match (up_bound, to.get(), client) {
                (true, Some((quic, _)), _) => back.send_to(&up[..n], quic).await,
                (false, _, Some(client)) => front.send_to(&down[..n], client).await,
                _ => Ok(0),
            };
            sent.unwrap_or_default();
        }
    }

    async fn carry(listener: Async<TcpListener>, to: Rc<Cell<Target>>, streams: Rc<Cell<(u32, u32)>>) {
        let mut open = Vec::new();
        while let Ok((near, _)) = listener.accept().await {
            let Some((_, tls)) = to.get() else { continue };
            let streams = streams.clone();
            open.push(spawn(async move {
                let (all, now) = streams.get();
                streams.set((all + 1, now + 1));
                let Ok(far) = Async::<TcpStream>::connect(tls).await else { return };
                let up = io::copy(&near, &far);
                let down = io::copy(&far, &near);
                up.or(down).await.unwrap_or_default();
                let (all, now) = streams.get();
                streams.set((all, now - 1));
            }));
        }
    }
}

#[test]
fn rows_go_from_the_spool_to_the_centre_over_quic_and_over_tls() {
    block_on(async {
        for transport in ["quic", "tls"] {
            let (room, sink) = (Room::new(), Rc::new(Sink::default()));
            let centre = Centre::start(&room, &sink);
            let more = [("transports", text(transport))];
            let device = Device::start(&room, centre.quic.port(), centre.tls.port(), &more);
            for n in 0..50 {
                device.store(if n % 5 == 0 { "alarm" } else { "data" }, 3).await;
            }
            device.drained().await;
            sink.assert_exact(150);
            assert!(device.keeper.borrow().utc_us(mono_now()).is_some(), "the centre told the time");
            until("a status", || sink.messages.get() > 0).await;
            device.stop().await;
            centre.kill(&sink).await;
        }
    });
}

#[test]
fn a_killed_centre_gets_what_it_did_not_answer_again() {
    block_on(async {
        let (room, sink) = (Room::new(), Rc::new(Sink::default()));
        let mut centre = Centre::start(&room, &sink);
        let relay = Relay::new();
        relay.lead_to(&centre);
        let device = Device::start(&room, relay.quic, relay.tls, &[]);
        let mut rows = 0;
        for round in 0..3 {
            sink.holding.set(true);
            for _ in 0..20 {
                device.store("data", 2).await;
                rows += 2;
            }
            until("something held", || !sink.held.borrow().is_empty()).await;
            if round == 1 {
                // Some of it is durable, its answer lost.
                let frame = sink.held.borrow().iter().position(|s| s.mark.is_some());
                if let Some(first) = frame.and_then(|at| sink.held.borrow_mut().remove(at)) {
                    sink.commit(first);
                }
            }
            centre.kill(&sink).await;
            sink.holding.set(false);
            centre = Centre::start(&room, &sink);
            relay.lead_to(&centre);
            device.drained().await;
            sink.assert_exact(rows);
        }
        device.stop().await;
        centre.kill(&sink).await;
    });
}

#[test]
fn a_centre_that_takes_less_gets_parts_and_a_row_too_large_is_a_recorded_loss() {
    block_on(async {
        let (room, sink) = (Room::new(), Rc::new(Sink::default()));
        let small = [("max_body_bytes", text("2KiB"))];
        let mut centre = Centre::start_with(&room, &sink, &small);
        let relay = Relay::new();
        relay.lead_to(&centre);
        let device = Device::start(&room, relay.quic, relay.tls, &[]);
        // Killed with some parts of a batch durable and some not.
        sink.holding.set(true);
        device.store("data", 200).await;
        let part = || sink.held.borrow().iter().position(|s| s.mark.is_some());
        until("a part held", || part().is_some()).await;
        let first = part().and_then(|at| sink.held.borrow_mut().remove(at)).unwrap();
        sink.commit(first);
        assert!((1..200).contains(&sink.len()), "{} rows in one part", sink.len());
        centre.kill(&sink).await;
        sink.holding.set(false);
        centre = Centre::start_with(&room, &sink, &small);
        relay.lead_to(&centre);
        device.drained().await;
        sink.assert_exact(200);
        assert_eq!(sink.epochs(), 1, "parts are no fork");
        // A row that cannot be split: its loss is recorded, what comes after it arrives.
        device.spool.store("data", large(3_000)).await.unwrap();
        device.store("data", 5).await;
        device.drained().await;
        assert_eq!(*sink.losses.borrow(), [(201, 201, "refused".to_owned())]);
        sink.assert_exact(206);
        device.stop().await;
        centre.kill(&sink).await;
    });
}

#[test]
fn a_restarted_agent_goes_on_where_it_was() {
    block_on(async {
        let (room, sink) = (Room::new(), Rc::new(Sink::default()));
        let centre = Centre::start(&room, &sink);
        for round in 1..=3 {
            let device = Device::start(&room, centre.quic.port(), centre.tls.port(), &[]);
            sink.holding.set(true);
            for _ in 0..10 {
                device.store("data", 2).await;
            }
            if round > 1 {
                until("something held", || !sink.held.borrow().is_empty()).await;
            }
            device.stop().await;
            sink.release();
        }
        let device = Device::start(&room, centre.quic.port(), centre.tls.port(), &[]);
        device.drained().await;
        sink.assert_exact(60);
        device.stop().await;
        centre.kill(&sink).await;
    });
}

#[test]
fn without_udp_it_ships_over_tcp_and_returns_to_quic_when_it_can() {
    block_on(async {
        let (room, sink) = (Room::new(), Rc::new(Sink::default()));
        let centre = Centre::start(&room, &sink);
        let relay = Relay::new();
        relay.lead_to(&centre);
        relay.no_udp.set(true);
        let device = Device::start(&room, relay.quic, relay.tls, &[]);
        device.store("data", 5).await;
        device.drained().await;
        let transport = || {
            let json = sink.status.borrow();
            json["link"]["transport"].as_str().unwrap_or_default().to_owned()
        };
        until("connected over tls", || transport() == "tls").await;
        // UDP comes back.
        relay.no_udp.set(false);
        let mut rows = 5;
        let returned = timeout(PATIENCE, async {
            while transport() != "quic" {
                device.store("data", 1).await;
                rows += 1;
                sleep(Duration::from_millis(5)).await;
            }
        });
        assert!(returned.await.is_some(), "never back on QUIC");
        device.drained().await;
        sink.assert_exact(rows);
        // And is gone again: the agent notices and falls back.
        relay.no_udp.set(true);
        device.store("data", 1).await;
        device.drained().await;
        sink.assert_exact(rows + 1);
        until("back on tls", || transport() == "tls").await;
        device.stop().await;
        centre.kill(&sink).await;
    });
}

#[test]
fn a_closed_udp_port_costs_no_more_than_the_race() {
    block_on(async {
        let (room, sink) = (Room::new(), Rc::new(Sink::default()));
        let centre = Centre::start(&room, &sink);
        let device = Device::start(&room, free_port(), centre.tls.port(), &[]);
        device.store("data", 5).await;
        device.drained().await;
        sink.assert_exact(5);
        device.stop().await;
        centre.kill(&sink).await;
    });
}

#[test]
fn it_stops_whatever_the_link_does() {
    block_on(async {
        let (room, sink) = (Room::new(), Rc::new(Sink::default()));
        // Nobody there.
        let device = Device::start(&room, free_port(), free_port(), &[]);
        device.store("data", 5).await;
        device.stop().await;
        // A centre that does not answer.
        let centre = Centre::start(&room, &sink);
        sink.holding.set(true);
        let device = Device::start(&room, centre.quic.port(), centre.tls.port(), &[]);
        device.store("data", 5).await;
        until("something held", || !sink.held.borrow().is_empty()).await;
        device.stop().await;
        centre.kill(&sink).await;
    });
}

#[test]
fn a_burst_link_connects_for_a_reason_and_disconnects() {
    block_on(async {
        let (room, sink) = (Room::new(), Rc::new(Sink::default()));
        let centre = Centre::start(&room, &sink);
        let urgent = Node { place: Place::default(), kind: Kind::List(vec![text("alarm")]) };
        let burst = map(&[("every", text("1h")), ("linger", text("50ms")), ("urgent", urgent)]);
        let relay = Relay::new();
        relay.lead_to(&centre);
        let more = [("link", burst), ("transports", text("tls"))];
        let device = Device::start(&room, relay.quic, relay.tls, &more);
        // The first burst comes at the start and ends by itself.
        device.store("data", 1).await;
        device.drained().await;
        until("disconnected", || relay.streams.get() == (1, 0)).await;
        device.store("data", 1).await;
        // Time to do the wrong thing.
        sleep(Duration::from_millis(100)).await;
        assert_eq!(relay.streams.get(), (1, 0), "a reading is no reason to connect");
        device.store("alarm", 1).await;
        device.drained().await;
        sink.assert_exact(3);
        device.stop().await;
        centre.kill(&sink).await;
    });
}

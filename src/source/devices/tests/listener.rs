//! The listener over loopback sockets, with an engine that the test plays.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_lite::{AsyncReadExt, AsyncWriteExt};

use super::kit::*;
use crate::clock::Stamp;
use crate::config::ByteSize;
use crate::event::Origin;
use crate::link::tls::TlsVersion;
use crate::link::{Connection, DialOptions, Dialer, Io, Target, TlsClient, TlsServer, Transport, TrustTime};
use crate::mqtt::{Client, Connect, Publish, QoS, Version};
use crate::runtime::{Stop, Stopper, Task, block_on, mono_now, sleep, spawn, timeout};
use crate::sink::Mark;
use crate::source::devices::config::Config;
use crate::source::devices::fence::OnConflict;
use crate::source::devices::listener::Listener;
use crate::source::{Outlet, SourceError, Submission};

/// Generous: a busy machine is no failure.
const PATIENCE: Duration = Duration::from_secs(20);

// The files of a centre and its devices.

struct Pki {
    folder: PathBuf,
    ca: rcgen::CertificateParams,
    ca_key: rcgen::KeyPair,
}

thread_local! {
    static FOLDERS: Cell<u32> = const { Cell::new(0) };
}

impl Pki {
    fn new() -> Self {
        let n = FOLDERS.with(|f| f.replace(f.get() + 1));
        let thread = format!("{:?}", std::thread::current().id()).replace(['(', ')'], "");
        let folder = std::env::temp_dir().join(format!("dts-devices-{}-{thread}-{n}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let mut ca = rcgen::CertificateParams::default();
        ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let ca_key = rcgen::KeyPair::generate().unwrap();
        let pki = Self { folder, ca, ca_key };
        let der = pki.ca.self_signed(&pki.ca_key).unwrap();
        std::fs::write(pki.path("ca"), der.pem()).unwrap();
        pki.issue("server", |p| {
            p.subject_alt_names = vec![rcgen::SanType::IpAddress("127.0.0.1".parse().unwrap())];
        });
        pki
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// A certificate `name` with its key `name.key`.
    fn issue(&self, name: &str, change: impl FnOnce(&mut rcgen::CertificateParams)) -> (PathBuf, PathBuf) {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        change(&mut params);
        let issuer = rcgen::Issuer::from_params(&self.ca, &self.ca_key);
        let certificate = params.signed_by(&key, &issuer).unwrap();
        let paths = (self.path(name), self.path(&format!("{name}.key")));
        std::fs::write(&paths.0, certificate.pem()).unwrap();
        std::fs::write(&paths.1, key.serialize_pem()).unwrap();
        paths
    }

    fn client(&self, own: Option<(PathBuf, PathBuf)>) -> TlsClient {
        let (cert_file, key_file) = own.unzip();
        TlsClient {
            ca_file: Some(self.path("ca")),
            cert_file,
            key_file,
            server_name: None,
            min_version: TlsVersion::V13,
        }
    }

    fn device(&self, name: &str) -> TlsClient {
        self.client(Some(self.issue(name, |_| {})))
    }

    fn config(&self) -> Config {
        let any = "127.0.0.1:0".parse().ok();
        Config {
            quic: any,
            tls_tcp: any,
            plain_tcp: None,
            allow_plain: false,
            tls: Some(TlsServer {
                cert_file: self.path("server"),
                key_file: self.path("server.key"),
                client_ca_file: Some(self.path("ca")),
                client_auth: None,
                min_version: TlsVersion::V13,
            }),
            password_file: None,
            jwt_keys_file: None,
            jwks_url: None,
            jwks_ca_file: None,
            jwks_refresh: Duration::from_secs(3600),
            nodes: crate::source::devices::config::Nodes::One,
            zstd_dictionary_files: Vec::new(),
            jwt_audience: None,
            jwt_leeway: Duration::from_secs(60),
            on_conflict: OnConflict::KeepBoth,
            max_connections: 100,
            max_connections_per_device: 16,
            max_connections_per_address: 100,
            max_handshakes_per_s: 100,
            retry_after: Duration::from_secs(5),
            connect_timeout: PATIENCE,
            max_keep_alive: Duration::from_secs(600),
            max_packet_bytes: ByteSize(1 << 20),
            max_body_bytes: ByteSize(1 << 20),
            receive_maximum: 16,
            connection_bytes: ByteSize(1 << 20),
            total_bytes: ByteSize(4 << 20),
            max_lanes: 8,
            max_epochs: 8,
        }
    }

    /// Passwords instead of certificates, on plain TCP.
    fn plain_config(&self) -> Config {
        let passwords = self.path("passwords");
        std::fs::write(&passwords, crate::source::devices::auth::PASSWORDS).unwrap();
        let plain_tcp = "127.0.0.1:0".parse().ok();
        Config {
            quic: None,
            tls_tcp: None,
            plain_tcp,
            tls: None,
            password_file: Some(passwords),
            ..self.config()
        }
    }
}

impl Drop for Pki {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.folder).ok();
    }
}

// The engine and its sinks.

#[derive(Default)]
struct Sink {
    rows: RefCell<Vec<String>>,
    marks: RefCell<Vec<Mark>>,
    held: RefCell<VecDeque<Submission>>,
    holding: Cell<bool>,
}

impl Sink {
    fn commit(&self, submission: Submission) {
        for row in &submission.batch {
            self.rows.borrow_mut().push(submission.batch.row_id(row.unwrap().head().ordinal));
        }
        self.marks.borrow_mut().extend(submission.mark);
        submission.done.try_send(Ok(())).unwrap();
    }

    fn release(&self) {
        self.holding.set(false);
        while let Some(submission) = self.held.borrow_mut().pop_front() {
            self.commit(submission);
        }
    }

    fn seqs(&self, device: &str) -> Vec<u64> {
        let rows = self.rows.borrow();
        let of_device = rows.iter().filter(|id| id.starts_with(&format!("{device}/")));
        of_device.map(|id| id.rsplit('/').next().unwrap().parse().unwrap()).collect()
    }
}

struct Centre {
    quic: Option<SocketAddr>,
    tls: Option<SocketAddr>,
    plain: Option<SocketAddr>,
    stopper: Stopper,
    task: Task<Result<(), SourceError>>,
    engine: Task<()>,
}

impl Centre {
    /// Starts a listener whose engine writes to `sink`.
    fn start(config: &Config, sink: &Rc<Sink>) -> Self {
        let listener = Listener::bind(config, "in").unwrap();
        let (quic, tls, plain) = (listener.quic_address(), listener.tls_address(), listener.plain_address());
        let (stopper, stop) = Stop::new();
        let (tx, rx) = async_channel::bounded::<Submission>(16);
        let stamp = Stamp::new(|| 7 << 16);
        let marks: Arc<[Mark]> = sink.marks.borrow().as_slice().into();
        // Of each epoch the last mark counts, as in a sink's table.
        let last = |mark: &&Mark| {
            !marks.iter().any(|m| m.epoch == mark.epoch && m.device == mark.device && m.seq > mark.seq)
        };
        let marks: Arc<[Mark]> = marks.iter().filter(last).cloned().collect();
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
        Self { quic, tls, plain, stopper, task, engine }
    }

    async fn stop(self) {
        self.stopper.stop();
        timeout(PATIENCE, self.task).await.expect("stops").unwrap();
        drop(self.engine);
    }

    /// As a kill would.
    async fn kill(self) {
        self.task.cancel().await;
        self.engine.cancel().await;
    }

    async fn dial(
        &self,
        transport: Transport,
        tls: Option<TlsClient>,
    ) -> Result<Connection, crate::link::LinkError> {
        let port = |a: Option<SocketAddr>| a.map_or(1, |a| a.port());
        let tcp = if transport == Transport::Tcp { self.plain } else { self.tls };
        let target =
            Target { host: "127.0.0.1".into(), quic_port: port(self.quic), tcp_port: port(tcp), proxy: None };
        let dialer = Dialer::new(target, tls, TrustTime::system(), DialOptions::default()).unwrap();
        dialer.dial(transport).await
    }

    async fn join(&self, transport: Transport, tls: Option<TlsClient>, connect: Connect) -> Wire {
        let connection = self.dial(transport, tls).await.unwrap();
        Wire { io: connection.io, client: client(connect, mono_now()), seen: VecDeque::new() }
    }
}

/// A device's end.
struct Wire {
    io: Box<dyn Io>,
    client: Client,
    seen: VecDeque<Seen>,
}

impl Wire {
    async fn flush(&mut self) {
        while let Some(bytes) = self.client.poll_transmit() {
            if self.io.write_all(&bytes).await.is_err() {
                return;
            }
        }
        self.io.flush().await.ok();
    }

    /// The next event.
    async fn next(&mut self) -> Seen {
        let next = async {
            loop {
                if let Some(seen) = self.seen.pop_front() {
                    return seen;
                }
                self.flush().await;
                let mut buffer = [0; 4096];
                match self.io.read(&mut buffer).await {
                    Ok(n) if n > 0 => drop(self.client.receive(mono_now(), &buffer[..n])),
                    _ => return Seen::Gone,
                }
                while let Some(event) = self.client.poll_event() {
                    self.seen.push_back(Seen::of(event));
                }
            }
        };
        timeout(PATIENCE, next).await.expect("an answer")
    }

    async fn send(&mut self, publish: Publish, token: u64) {
        self.client.publish(publish, token).unwrap();
        self.flush().await;
    }
}

/// Waits until `done`.
async fn until(what: &str, done: impl Fn() -> bool) {
    let waited = timeout(PATIENCE, async {
        while !done() {
            sleep(Duration::from_millis(2)).await;
        }
    });
    assert!(waited.await.is_some(), "never: {what}");
}

#[test]
fn a_device_ships_over_quic_and_tls_and_its_frames_are_known_after_a_restart() {
    block_on(async {
        let (pki, sink) = (Pki::new(), Rc::new(Sink::default()));
        let tls = pki.device("box");
        for (n, transport) in [Transport::Quic, Transport::Tls].into_iter().enumerate() {
            let centre = Centre::start(&pki.config(), &sink);
            let mut device = centre.join(transport, Some(tls.clone()), agent("box", 1)).await;
            assert_eq!(device.next().await, Seen::Connected);
            let first = n as u64 * 6 + 1;
            device.send(FrameKit::new(first, first + 2, "a").publish("box"), 1).await;
            device.send(FrameKit::new(first + 3, first + 5, "a").publish("box"), 2).await;
            assert_eq!(device.next().await, Seen::Acked(1, 0), "{transport:?}");
            assert_eq!(device.next().await, Seen::Acked(2, 0));
            centre.kill().await;
            // The answer was lost on the way: sent again to the next one.
            let centre = Centre::start(&pki.config(), &sink);
            let mut device = centre.join(transport, Some(tls.clone()), agent("box", 1)).await;
            assert_eq!(device.next().await, Seen::Connected);
            device.send(FrameKit::new(first + 3, first + 5, "a").publish("box"), 3).await;
            assert_eq!(device.next().await, Seen::Acked(3, 0));
            centre.stop().await;
            assert_eq!(device.next().await, Seen::Closed(0x8b), "it says goodbye");
        }
        assert_eq!(sink.seqs("box"), (1..=12).collect::<Vec<_>>(), "each row once");
        let sessions: Vec<u64> = sink.marks.borrow().iter().map(|m| m.session).collect();
        assert!(sessions.is_sorted() && sessions.first() < sessions.last(), "{sessions:?}");
    });
}

#[test]
fn a_newer_connection_takes_over_while_a_frame_is_in_flight() {
    block_on(async {
        let (pki, sink) = (Pki::new(), Rc::new(Sink::default()));
        let tls = pki.device("box");
        let centre = Centre::start(&pki.config(), &sink);
        sink.holding.set(true);
        let mut old = centre.join(Transport::Quic, Some(tls.clone()), agent("box", 1)).await;
        assert_eq!(old.next().await, Seen::Connected);
        old.send(FrameKit::new(1, 3, "a").publish("box"), 1).await;
        until("the frame reaches the engine", || sink.held.borrow().len() == 1).await;
        let mut new = centre.join(Transport::Tls, Some(tls), agent("box", 1)).await;
        assert_eq!(new.next().await, Seen::Connected);
        assert_eq!(old.next().await, Seen::Closed(0x8e));
        new.send(FrameKit::new(1, 3, "a").publish("box"), 2).await;
        new.send(FrameKit::new(4, 4, "a").publish("box"), 3).await;
        until("the second frame reaches the engine", || sink.held.borrow().len() == 2).await;
        sink.release();
        assert_eq!(new.next().await, Seen::Acked(2, 0));
        assert_eq!(new.next().await, Seen::Acked(3, 0));
        assert_eq!(sink.seqs("box"), [1, 2, 3, 4]);
        centre.stop().await;
    });
}

#[test]
fn who_has_no_good_certificate_does_not_get_in() {
    block_on(async {
        let (pki, foreign, sink) = (Pki::new(), Pki::new(), Rc::new(Sink::default()));
        let centre = Centre::start(&pki.config(), &sink);
        let expired = pki.issue("old", |p| {
            p.not_before = rcgen::date_time_ymd(2001, 1, 1);
            p.not_after = rcgen::date_time_ymd(2002, 1, 1);
        });
        let stranger = foreign.issue("box", |_| {});
        let nameless = pki.issue("two words", |_| {});
        for transport in [Transport::Tls, Transport::Quic] {
            for (what, own) in
                [("none", None), ("expired", Some(expired.clone())), ("another CA's", Some(stranger.clone()))]
            {
                // TLS 1.3 lets a client begin before the server has looked at its certificate.
                let seen = match centre.dial(transport, Some(pki.client(own))).await {
                    Err(_) => Seen::Gone,
                    Ok(connection) => {
                        let client = client(agent("box", 1), mono_now());
                        Wire { io: connection.io, client, seen: VecDeque::new() }.next().await
                    }
                };
                assert_eq!(seen, Seen::Gone, "{what} on {transport:?}");
            }
            let tls = pki.client(Some(nameless.clone()));
            let mut wire = centre.join(transport, Some(tls), agent("box", 1)).await;
            assert_eq!(wire.next().await, Seen::Refused(0x87));
            // A good one is not disturbed, and is only who it is.
            let mut wire = centre.join(transport, Some(pki.device("box")), agent("other", 1)).await;
            assert_eq!(wire.next().await, Seen::Refused(0x85));
            let mut wire = centre.join(transport, Some(pki.device("box")), agent("box", 1)).await;
            assert_eq!(wire.next().await, Seen::Connected);
            wire.send(FrameKit::new(1, 1, "a").publish("other"), 1).await;
            assert_eq!(wire.next().await, Seen::Acked(1, 0x87));
        }
        assert!(sink.rows.borrow().is_empty());
        centre.stop().await;
    });
}

#[test]
fn plain_clients_log_in_by_password_and_publish() {
    block_on(async {
        let (pki, sink) = (Pki::new(), Rc::new(Sink::default()));
        let centre = Centre::start(&pki.plain_config(), &sink);
        let with = |password: &str, version| Connect {
            username: Some("box-7".into()),
            password: Some(password.as_bytes().to_vec().into()),
            ..connect("", version)
        };
        for version in [Version::V311, Version::V5] {
            let mut wire = centre.join(Transport::Tcp, None, with("correct horse", version)).await;
            assert_eq!(wire.next().await, Seen::Connected);
            wire.send(Publish::new("room/1", 1, r#"{"t":20}"#), 1).await;
            assert_eq!(wire.next().await, Seen::Acked(1, 0));
            // QoS 0 and goodbye in one breath.
            wire.client
                .publish(Publish { qos: QoS::AtMostOnce, ..Publish::new("room/2", 0, "x") }, 0)
                .unwrap();
            wire.client.disconnect(0);
            wire.flush().await;
            let mut wire = centre.join(Transport::Tcp, None, with("wrong", version)).await;
            assert_eq!(wire.next().await, Seen::Refused(0x86));
            let mut wire = centre.join(Transport::Tcp, None, connect("", version)).await;
            assert_eq!(wire.next().await, Seen::Refused(0x87));
        }
        until("all messages are there", || sink.rows.borrow().len() == 4).await;
        assert!(sink.rows.borrow().iter().all(|id| id.starts_with("box-7/mqtt/")));
        centre.stop().await;
    });
}

#[test]
fn a_thousand_frames_of_several_devices_come_through_once_each_and_in_order() {
    block_on(async {
        let (pki, sink) = (Pki::new(), Rc::new(Sink::default()));
        let centre = Centre::start(&pki.config(), &sink);
        let mut tasks = Vec::new();
        for name in ["a", "b", "c", "d"] {
            let transport = if name < "c" { Transport::Quic } else { Transport::Tls };
            let mut wire = centre.join(transport, Some(pki.device(name)), agent(name, 1)).await;
            tasks.push(spawn(async move {
                assert_eq!(wire.next().await, Seen::Connected);
                let (mut sent, mut acked) = (0, 0);
                while acked < 250 {
                    while sent < 250 && wire.client.capacity() > 0 {
                        sent += 1;
                        wire.send(FrameKit::new(sent * 2 - 1, sent * 2, "a").publish(name), sent).await;
                    }
                    acked += 1;
                    assert_eq!(wire.next().await, Seen::Acked(acked, 0));
                }
            }));
        }
        for task in tasks {
            task.await;
        }
        for name in ["a", "b", "c", "d"] {
            assert_eq!(sink.seqs(name), (1..=500).collect::<Vec<_>>());
        }
        centre.stop().await;
    });
}

#[test]
fn slow_and_silent_clients_are_cut_off_and_others_are_not() {
    block_on(async {
        let (pki, sink) = (Pki::new(), Rc::new(Sink::default()));
        let config = Config { connect_timeout: Duration::from_millis(300), ..pki.plain_config() };
        let centre = Centre::start(&config, &sink);
        let address = centre.plain.unwrap();
        let mut good = centre
            .join(
                Transport::Tcp,
                None,
                Connect {
                    username: Some("box-8".into()),
                    password: Some(b"other".to_vec().into()),
                    ..connect("", Version::V5)
                },
            )
            .await;
        assert_eq!(good.next().await, Seen::Connected);
        for bytes in [&b""[..], b"\x10", b"\x10\x20\x00\x04MQTT"] {
            let mut slow = async_net::TcpStream::connect(address).await.unwrap();
            slow.write_all(bytes).await.unwrap();
            let mut rest = Vec::new();
            let end = timeout(PATIENCE, slow.read_to_end(&mut rest)).await;
            assert!(end.is_some(), "{bytes:?} is not cut off");
        }
        good.send(Publish::new("a", 1, "x"), 1).await;
        assert_eq!(good.next().await, Seen::Acked(1, 0));
        centre.stop().await;
    });
}

#[test]
fn seats_are_counted_and_given_back() {
    block_on(async {
        let (pki, sink) = (Pki::new(), Rc::new(Sink::default()));
        let config = Config { max_connections: 2, ..pki.plain_config() };
        let centre = Centre::start(&config, &sink);
        let with = || Connect {
            username: Some("box-8".into()),
            password: Some(b"other".to_vec().into()),
            ..connect("", Version::V5)
        };
        let mut seated = Vec::new();
        for _ in 0..2 {
            let mut wire = centre.join(Transport::Tcp, None, with()).await;
            assert_eq!(wire.next().await, Seen::Connected);
            seated.push(wire);
        }
        let mut late = centre.join(Transport::Tcp, None, with()).await;
        assert_eq!(late.next().await, Seen::Refused(0x89));
        seated.pop();
        let back = async {
            loop {
                let mut wire = centre.join(Transport::Tcp, None, with()).await;
                if wire.next().await == Seen::Connected {
                    break;
                }
            }
        };
        timeout(PATIENCE, back).await.expect("a seat comes back");
        centre.stop().await;
    });
}

#[test]
fn who_waited_for_others_is_woken_when_there_is_room() {
    block_on(async {
        let (pki, sink) = (Pki::new(), Rc::new(Sink::default()));
        let config = Config { total_bytes: ByteSize(2048), ..pki.config() };
        let centre = Centre::start(&config, &sink);
        sink.holding.set(true);
        let mut heavy = centre.join(Transport::Quic, Some(pki.device("heavy")), agent("heavy", 1)).await;
        let mut light =
            centre.join(Transport::Tls, Some(pki.device("light")), connect("light", Version::V311)).await;
        assert_eq!((heavy.next().await, light.next().await), (Seen::Connected, Seen::Connected));
        heavy.send(FrameKit::new(1, 99, "heavy").publish("heavy"), 1).await;
        until("all room is taken", || sink.held.borrow().len() == 1).await;
        light.send(Publish::new("a", 1, "x"), 1).await;
        // Long enough to be read, if it were to be.
        sleep(Duration::from_millis(100)).await;
        assert_eq!(sink.held.borrow().len(), 1);
        sink.release();
        assert_eq!(light.next().await, Seen::Acked(1, 0));
        assert_eq!(heavy.next().await, Seen::Acked(1, 0));
        centre.stop().await;
    });
}

#[test]
fn a_stop_waits_for_what_the_sinks_are_writing() {
    block_on(async {
        let (pki, sink) = (Pki::new(), Rc::new(Sink::default()));
        let centre = Centre::start(&pki.config(), &sink);
        let mut device = centre.join(Transport::Quic, Some(pki.device("box")), agent("box", 1)).await;
        assert_eq!(device.next().await, Seen::Connected);
        sink.holding.set(true);
        device.send(FrameKit::new(1, 3, "a").publish("box"), 1).await;
        until("the frame reaches the engine", || sink.held.borrow().len() == 1).await;
        centre.stopper.stop();
        sleep(Duration::from_millis(50)).await;
        sink.release();
        centre.stop().await;
        assert_eq!(device.next().await, Seen::Acked(1, 0));
        assert_eq!(device.next().await, Seen::Closed(0x8b));
    });
}

#[test]
fn origin_and_source_of_a_frame_are_the_device_s() {
    block_on(async {
        let (pki, sink) = (Pki::new(), Rc::new(Sink::default()));
        let centre = Centre::start(&pki.config(), &sink);
        let urn = pki.issue("cn-is-not-read", |p| {
            let urn = "urn:dts:device:box".try_into().unwrap();
            p.subject_alt_names = vec![rcgen::SanType::URI(urn)];
        });
        sink.holding.set(true);
        let tls = pki.client(Some(urn));
        let mut device = centre.join(Transport::Tls, Some(tls), agent("box", 1)).await;
        assert_eq!(device.next().await, Seen::Connected);
        device.send(FrameKit::new(1, 3, "a").publish("box"), 1).await;
        until("the frame reaches the engine", || sink.held.borrow().len() == 1).await;
        let batch = sink.held.borrow()[0].batch.clone();
        assert_eq!(&*batch.source, "app");
        let Origin::Device { device: name, .. } = &batch.origin else { panic!() };
        assert_eq!(&**name, "box");
        sink.release();
        centre.stop().await;
    });
}

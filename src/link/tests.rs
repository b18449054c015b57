//! Real handshakes on the loopback, between our own two ends.

use std::cell::Cell;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_io::Async;
use futures_lite::{AsyncReadExt, AsyncWriteExt};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};

use super::quic::{self, Net, QuicLimits};
use super::tls::{ALPN_MQTT, ClientAuth, TlsVersion, reloading_client, reloading_server};
use super::trust::build_time_s;
use super::*;
use crate::runtime::{Task, block_on, mono_now, sleep, spawn, timeout};

const LIMIT: Duration = Duration::from_secs(30);
const YEAR_S: u64 = 365 * 86_400;

/// A folder that is removed at the end.
pub(super) struct TempDir(PathBuf);

impl TempDir {
    pub(super) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("dts-link-{}-{n}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        std::fs::write(self.path(name), text).unwrap();
        self.path(name)
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

fn at(params: &mut CertificateParams, from_s: u64, to_s: u64) {
    let date = |s: u64| rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(s);
    params.not_before = date(from_s);
    params.not_after = date(to_s);
}

/// A throw-away CA that signs into a folder.
struct Ca {
    dir: TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Ca {
    fn new() -> Self {
        Self::named("test CA")
    }

    fn named(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        at(&mut params, 0, 4_000_000_000);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let dir = TempDir::new();
        dir.write("ca.pem", &issuer.pem());
        Self { dir, issuer }
    }

    /// Signs `<name>.pem` and `<name>.key` for `host`.
    fn sign(&self, name: &str, host: &str, from_s: u64, to_s: u64) -> (PathBuf, PathBuf) {
        let mut params = CertificateParams::new([host.to_owned()]).unwrap();
        at(&mut params, from_s, to_s);
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        (
            self.dir.write(&format!("{name}.pem"), &cert.pem()),
            self.dir.write(&format!("{name}.key"), &key.serialize_pem()),
        )
    }

    fn server(&self, host: &str, from_s: u64, to_s: u64) -> TlsServer {
        let (cert_file, key_file) = self.sign("server", host, from_s, to_s);
        let min_version = TlsVersion::V13;
        TlsServer { cert_file, key_file, client_ca_file: None, client_auth: None, min_version }
    }

    /// Good for a year around the build's time.
    fn good_server(&self) -> TlsServer {
        self.server("localhost", build_time_s() - YEAR_S, build_time_s() + 20 * YEAR_S)
    }

    fn client(&self) -> TlsClient {
        TlsClient {
            ca_file: Some(self.dir.path("ca.pem")),
            server_name: Some("localhost".to_owned()),
            ..TlsClient::default()
        }
    }
}

/// Echoes what each connection sends, until it ends it. Remembers how many client certificates came.
struct Echo {
    quic: SocketAddr,
    tcp: SocketAddr,
    _tasks: [Task<()>; 2],
}

impl Echo {
    fn start(tls: &TlsServer) -> Self {
        Self::with_alpn(tls, ALPN_MQTT)
    }

    fn with_alpn(tls: &TlsServer, alpn: &[u8]) -> Self {
        let config = Arc::new(server_config(tls, &[alpn]).unwrap());
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let endpoint =
            quic::server_endpoint(&Net::system(), any, config.clone(), &QuicLimits::server()).unwrap();
        let listener = Async::<std::net::TcpListener>::bind(any).unwrap();
        let (quic, tcp) = (endpoint.local_addr().unwrap(), listener.get_ref().local_addr().unwrap());
        let accepting = endpoint.clone();
        let udp = spawn(async move {
            while let Some(incoming) = accepting.accept().await {
                spawn(async move { echo(quic::accept(incoming, LIMIT).await).await }).detach();
            }
        });
        let streams = spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let config = config.clone();
                spawn(async move { echo(tcp::accept_tls(stream, config, LIMIT).await).await }).detach();
            }
        });
        Self { quic, tcp, _tasks: [udp, streams] }
    }

    fn dialer(&self, tls: TlsClient, trust: TrustTime) -> Dialer {
        let target = Target {
            host: "127.0.0.1".to_owned(),
            quic_port: self.quic.port(),
            tcp_port: self.tcp.port(),
            proxy: None,
        };
        Dialer::new(target, Some(tls), trust, DialOptions::default()).unwrap()
    }
}

/// Passes datagrams on, or swallows them.
struct Relay {
    port: u16,
    black_hole: Rc<Cell<bool>>,
    /// How many addresses clients came from.
    clients: Rc<Cell<usize>>,
    _task: Task<()>,
}

impl Relay {
    fn start(server: SocketAddr) -> Self {
        let near = Async::<std::net::UdpSocket>::bind(([127, 0, 0, 1], 0)).unwrap();
        let far = Async::<std::net::UdpSocket>::bind(([127, 0, 0, 1], 0)).unwrap();
        let port = near.get_ref().local_addr().unwrap().port();
        let (black_hole, clients) = (Rc::new(Cell::new(false)), Rc::new(Cell::new(0)));
        let (swallow, count) = (black_hole.clone(), clients.clone());
        let task = spawn(async move {
            let (mut a, mut b) = ([0; 2048], [0; 2048]);
            let mut client = None;
            loop {
                let up = async { (true, near.recv_from(&mut a).await.unwrap()) };
                let down = async { (false, far.recv_from(&mut b).await.unwrap()) };
                let (is_up, (n, from)) = futures_lite::future::or(up, down).await;
                if is_up && client != Some(from) {
                    client = Some(from);
                    count.set(count.get() + 1);
                }
                let sent = match client {
                    _ if swallow.get() => continue,
                    _ if is_up => far.send_to(&a[..n], server).await,
                    Some(client) => near.send_to(&b[..n], client).await,
                    None => continue,
                };
                drop(sent);
            }
        });
        Self { port, black_hole, clients, _task: task }
    }
}

async fn echo(connection: Result<Connection, LinkError>) {
    let Ok(mut c) = connection else { return };
    let mut buf = [0; 2048];
    // What stands before the echo: how many certificates the client showed.
    c.io.write_all(&[c.peer_certs.len() as u8]).await.ok();
    while let Ok(n @ 1..) = c.io.read(&mut buf).await {
        if c.io.write_all(&buf[..n]).await.is_err() {
            return;
        }
    }
    c.io.close().await.ok();
}

/// Sends a word there and back; returns how many certificates the server says that we showed.
async fn round_trip(c: &mut Connection) -> u8 {
    c.io.write_all(b"hello").await.unwrap();
    let mut answer = [0; 6];
    c.io.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer[1..], b"hello");
    answer[0]
}

const BOTH: [Transport; 2] = [Transport::Quic, Transport::Tls];

#[test]
fn quic_and_tls_carry_bytes_and_close_in_order() {
    let ca = Ca::new();
    block_on(async {
        let echo = Echo::start(&ca.good_server());
        let dialer = echo.dialer(ca.client(), TrustTime::unknown(0));
        for transport in BOTH {
            let mut c = dialer.dial(transport).await.unwrap();
            assert_eq!(c.transport, transport);
            assert_eq!(round_trip(&mut c).await, 0);
            assert_eq!(c.peer_certs.len(), 1);
            assert!(c.control.rtt().is_some());
            assert!(c.control.path_mtu().unwrap() >= 1200);
            let wire = c.control.wire_bytes();
            assert!(wire.sent > 600 && wire.received > 600, "{wire:?}");
            // The last bytes before a close arrive.
            c.io.write_all(&[7; 1000]).await.unwrap();
            c.io.close().await.unwrap();
            if transport == Transport::Tls {
                let mut rest = Vec::new();
                c.io.read_to_end(&mut rest).await.unwrap();
                assert_eq!(rest, [7; 1000]);
            }
        }
    });
}

#[test]
fn quinn_starts_no_thread() {
    let ca = Ca::new();
    block_on(async {
        let echo = Echo::start(&ca.good_server());
        let mut c = echo.dialer(ca.client(), TrustTime::unknown(0)).dial(Transport::Quic).await.unwrap();
        round_trip(&mut c).await;
        for task in std::fs::read_dir("/proc/self/task").unwrap().flatten() {
            let name = std::fs::read_to_string(task.path().join("comm")).unwrap_or_default();
            for hidden in ["smol", "blocking", "tokio", "async-std", "async-global"] {
                assert!(!name.starts_with(hidden), "thread {name}");
            }
        }
    });
    let lock = std::fs::read_to_string("Cargo.lock").unwrap();
    assert!(!lock.contains("name = \"smol\"\n"), "smol brings a global executor");
}

#[test]
fn client_certificates_are_asked_for_as_configured() {
    let ca = Ca::new();
    let (cert, key) = ca.sign("device", "device-1", build_time_s() - YEAR_S, build_time_s() + 20 * YEAR_S);
    let with = TlsClient { cert_file: Some(cert), key_file: Some(key), ..ca.client() };
    let foreign = Ca::new();
    let (cert, key) = foreign.sign("device", "device-1", 0, build_time_s() + 20 * YEAR_S);
    let foreign = TlsClient { cert_file: Some(cert), key_file: Some(key), ..ca.client() };
    block_on(async {
        let mut server = ca.good_server();
        server.client_ca_file = Some(ca.dir.path("ca.pem"));
        for (auth, anonymous_gets_in) in [(ClientAuth::Required, false), (ClientAuth::Optional, true)] {
            server.client_auth = Some(auth);
            let echo = Echo::start(&server);
            let trust = || TrustTime::unknown(0);
            for transport in BOTH {
                let mut c = echo.dialer(with.clone(), trust()).dial(transport).await.unwrap();
                assert_eq!(round_trip(&mut c).await, 1);
                let anonymous = gets_in(&echo.dialer(ca.client(), trust()), transport).await;
                assert_eq!(anonymous, anonymous_gets_in, "{auth:?} {transport:?}");
                assert!(!gets_in(&echo.dialer(foreign.clone(), trust()), transport).await);
            }
        }
    });
}

/// In TLS 1.3 a client learns of its refusal only after its own side of the handshake is done.
async fn gets_in(dialer: &Dialer, transport: Transport) -> bool {
    let Ok(mut c) = dialer.dial(transport).await else { return false };
    c.io.write_all(b"x").await.ok();
    c.io.read_exact(&mut [0; 2]).await.is_ok()
}

async fn refusals(ca: &Ca, server: &TlsServer, trust: TrustTime) -> Vec<LinkError> {
    let echo = Echo::start(server);
    let dialer = echo.dialer(ca.client(), trust);
    let mut errors = Vec::new();
    for transport in BOTH {
        errors.push(dialer.dial(transport).await.unwrap_err());
    }
    errors
}

#[test]
fn a_foreign_ca_and_a_wrong_name_are_refused_and_named() {
    let ca = Ca::new();
    block_on(async {
        for foreign in [Ca::named("captive portal"), Ca::named("test CA")] {
            for e in refusals(&ca, &foreign.good_server(), TrustTime::unknown(0)).await {
                assert!(
                    matches!(&e, LinkError::Certificate { reason, .. } if reason.contains("CA")),
                    "{e:?}"
                );
                assert_eq!((e.class(), e.kind()), (Class::Reject, FailKind::Tls));
            }
        }
        let other = ca.server("elsewhere.test", 0, build_time_s() + YEAR_S);
        for e in refusals(&ca, &other, TrustTime::unknown(0)).await {
            assert!(matches!(&e, LinkError::Name { .. }), "{e:?}");
            assert!(e.to_string().contains("elsewhere.test"), "{e}");
        }
    });
}

#[test]
fn a_ca_s_own_certificate_on_a_server_is_said_in_words() {
    block_on(async {
        let ca = Ca::new();
        let key_file = ca.dir.write("ca.key", &ca.issuer.key().serialize_pem());
        let own = TlsServer { cert_file: ca.dir.path("ca.pem"), key_file, ..ca.good_server() };
        for e in refusals(&ca, &own, TrustTime::unknown(0)).await {
            assert!(e.to_string().contains("it is a CA's own certificate"), "{e}");
        }
    });
}

#[test]
fn a_peer_that_speaks_something_else_is_an_alpn_error() {
    let ca = Ca::new();
    block_on(async {
        let echo = Echo::with_alpn(&ca.good_server(), b"h3");
        let dialer = echo.dialer(ca.client(), TrustTime::unknown(0));
        for transport in BOTH {
            let e = dialer.dial(transport).await.unwrap_err();
            assert!(matches!(e, LinkError::Alpn { .. }), "{e:?}");
        }
    });
}

#[test]
fn a_certificate_younger_than_the_firmware_is_good_while_the_time_is_unknown() {
    let ca = Ca::new();
    let floor = build_time_s();
    // Issued five years after the build, for a device that believes nothing of its clock.
    let server = ca.server("localhost", floor + 5 * YEAR_S, floor + 6 * YEAR_S);
    block_on(async {
        let echo = Echo::start(&server);
        let trust = TrustTime::unknown(0);
        for transport in BOTH {
            let c = echo.dialer(ca.client(), trust.clone()).dial(transport).await.unwrap();
            // The centre tells the time: the chain is looked at again.
            c.control.recheck(floor + 5 * YEAR_S + 1).unwrap();
            let e = c.control.recheck(floor + 7 * YEAR_S).unwrap_err();
            assert!(e.to_string().contains("expired"), "{e}");
            assert!(c.control.recheck(floor).is_err(), "not valid yet");
        }
    });
}

#[test]
fn an_expired_certificate_is_refused_by_the_floor_and_by_the_time() {
    let ca = Ca::new();
    let floor = build_time_s();
    block_on(async {
        // Expired before the build.
        let server = ca.server("localhost", floor - 2 * YEAR_S, floor - YEAR_S);
        for e in refusals(&ca, &server, TrustTime::unknown(0)).await {
            assert!(
                matches!(&e, LinkError::Certificate { reason, .. } if reason.starts_with("expired")),
                "{e:?}"
            );
        }
        // Good by the build's floor, expired by a floor that a centre confirmed.
        let server = ca.server("localhost", floor - YEAR_S, floor + YEAR_S);
        let trust = TrustTime::unknown(0);
        trust.raise_floor(floor + 2 * YEAR_S);
        assert_eq!(refusals(&ca, &server, trust).await.len(), 2);
        // Good by the floor, expired by the time that was told.
        let trust = TrustTime::with_clock(0, || crate::runtime::Mono(1_000_000));
        assert!(gets_in(&Echo::start(&server).dialer(ca.client(), trust.clone()), Transport::Quic).await);
        trust.told(((floor + 2 * YEAR_S) * 1_000_000) as i64);
        assert_eq!(trust.now_s(), Some(floor + 2 * YEAR_S + 1));
        assert_eq!(refusals(&ca, &server, trust.clone()).await.len(), 2);
        // The floor does not fall, and a clock at 1970 or 2099 is never asked.
        trust.raise_floor(5);
        assert!(trust.floor_s() >= floor);
    });
}

#[test]
fn wrong_files_are_named_with_what_is_wrong() {
    let ca = Ca::new();
    let good = ca.good_server();
    let (other_cert, other_key) = ca.sign("other", "localhost", 0, build_time_s());
    let text = ca.dir.write("text.pem", "hello");
    let cut = ca.dir.write("cut.pem", "-----BEGIN PRIVATE KEY-----\nMC4CAQ\n");
    let junk = ca.dir.write("junk.pem", "-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n");
    let encrypted = ca.dir.write(
        "enc.key",
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAA==\n-----END ENCRYPTED PRIVATE KEY-----\n",
    );
    let missing = ca.dir.path("missing.pem");
    let (cert, key) = (good.cert_file.clone(), good.key_file.clone());
    let cases = [
        (&missing, &key, "missing.pem: cannot be opened"),
        (&text, &key, "text.pem: holds no certificate"),
        (&junk, &key, "junk.pem: holds a `CERTIFICATE` that is none"),
        (&key, &key, "server.key: holds no certificate"),
        (&cert, &other_key, "other.key: does not belong to"),
        (&other_cert, &key, "server.key: does not belong to"),
        (&cert, &cut, "cut.pem: is cut short"),
        (&cert, &cert, "server.pem: holds no private key"),
        (&cert, &encrypted, "enc.key: is encrypted"),
    ];
    for (cert_file, key_file, want) in cases {
        let tls = TlsServer { cert_file: cert_file.clone(), key_file: key_file.clone(), ..good.clone() };
        let e = server_config(&tls, &[ALPN_MQTT]).unwrap_err();
        assert_eq!(e.class(), Class::Fatal);
        assert!(e.to_string().contains(want), "`{e}` lacks `{want}`");
        assert!(!format!("{e:?}").contains("MC4CAQ"), "{e:?}");
    }
    let half = TlsClient { cert_file: Some(cert), ..ca.client() };
    assert!(client_config(&half, &TrustTime::unknown(0)).unwrap_err().to_string().contains("key_file"));
    let no_ca = TlsServer { client_auth: Some(ClientAuth::Required), ..good };
    assert!(server_config(&no_ca, &[ALPN_MQTT]).unwrap_err().to_string().contains("client_ca_file"));
    // What is shown of keys: nothing.
    let shown = format!("{:?}", client_config(&ca.client(), &TrustTime::unknown(0)).unwrap());
    assert!(!shown.contains("BEGIN"));
}

#[test]
fn changed_files_are_read_again_and_wrong_ones_are_not_taken() {
    let ca = Ca::new();
    let server = ca.good_server();
    let tls = reloading_server(server.clone()).unwrap();
    let first = tls.current();
    assert!(Arc::ptr_eq(&first, &tls.current()), "unchanged files are not read again");
    ca.good_server();
    let second = tls.current();
    assert!(!Arc::ptr_eq(&first, &second));
    assert_eq!(tls.version(), 1);
    std::fs::write(&server.key_file, "no key").unwrap();
    assert!(Arc::ptr_eq(&second, &tls.current()), "a wrong file leaves the earlier config");
    ca.good_server();
    assert!(!Arc::ptr_eq(&second, &tls.current()));

    let client = reloading_client(ca.client(), TrustTime::unknown(0)).unwrap();
    let before = client.current();
    std::fs::write(ca.dir.path("ca.pem"), Ca::new().issuer.pem()).unwrap();
    assert!(!Arc::ptr_eq(&before.config, &client.current().config));
}

#[test]
fn sessions_resume_without_a_second_full_handshake() {
    let ca = Ca::new();
    block_on(async {
        let echo = Echo::start(&ca.good_server());
        for transport in BOTH {
            // QUIC and TLS would share their tickets.
            let dialer = echo.dialer(ca.client(), TrustTime::unknown(0));
            let mut sizes = Vec::new();
            for _ in 0..2 {
                let mut c = dialer.dial(transport).await.unwrap();
                round_trip(&mut c).await;
                sizes.push(c.control.wire_bytes().received);
                // The resumed session still knows whom it believed.
                assert_eq!(c.peer_certs.len(), 1);
                c.control.recheck(build_time_s()).unwrap();
            }
            if transport == Transport::Tls {
                assert!(sizes[1] + 300 < sizes[0], "no certificate is sent again: {sizes:?}");
            }
        }
    });
}

#[test]
fn nobody_there_is_refused_on_tcp_and_a_timeout_on_quic() {
    let ca = Ca::new();
    block_on(async {
        // Bound, silent, and not listening for TCP.
        let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let unused = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let target = Target {
            host: "127.0.0.1".to_owned(),
            quic_port: silent.local_addr().unwrap().port(),
            tcp_port: unused,
            proxy: None,
        };
        let options = DialOptions { connect_timeout: Duration::from_millis(200), ..DialOptions::default() };
        let dialer = Dialer::new(target, Some(ca.client()), TrustTime::unknown(0), options).unwrap();
        let e = dialer.dial(Transport::Tls).await.unwrap_err();
        assert!(matches!(e, LinkError::Refused { .. }), "{e:?}");
        let e = dialer.dial(Transport::Quic).await.unwrap_err();
        assert!(matches!(e, LinkError::Timeout { .. }), "{e:?}");
    });
}

/// In a network of its own, so that nothing else is touched.
#[test]
fn a_way_too_narrow_for_quic_is_known_before_anything_is_sent() {
    let dialed = std::thread::spawn(|| {
        // SAFETY: only this thread, which ends with the test, leaves the network.
        if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
            return None;
        }
        let ip =
            |args: &[&str]| std::process::Command::new("ip").args(args).status().ok().filter(|s| s.success());
        ip(&["link", "set", "lo", "mtu", "1227", "up"])?;
        let ca = Ca::new();
        Some(block_on(async {
            let echo = Echo::start(&ca.good_server());
            let dialer = echo.dialer(ca.client(), TrustTime::unknown(0));
            let narrow = dialer.dial(Transport::Quic).await.map(drop);
            let by_tcp = dialer.dial(Transport::Tls).await.map(drop);
            ip(&["link", "set", "lo", "mtu", "1228"]);
            (narrow, by_tcp, dialer.dial(Transport::Quic).await.map(drop))
        }))
    });
    let Some((narrow, by_tcp, wide)) = dialed.join().unwrap() else {
        return println!("skipped: no rights for a network namespace, or no `ip`");
    };
    let error = narrow.unwrap_err();
    assert!(matches!(error, LinkError::PathMtu { mtu: 1227, needed: 1228, .. }), "{error}");
    assert_eq!(error.kind(), FailKind::PathMtu);
    by_tcp.unwrap();
    wide.unwrap();
}

#[test]
fn a_refused_quic_handshake_says_so() {
    let ca = Ca::new();
    block_on(async {
        let config = Arc::new(server_config(&ca.good_server(), &[ALPN_MQTT]).unwrap());
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let endpoint = quic::server_endpoint(&Net::system(), any, config, &QuicLimits::server()).unwrap();
        let quic_port = endpoint.local_addr().unwrap().port();
        spawn(async move {
            while let Some(incoming) = endpoint.accept().await {
                incoming.refuse();
            }
        })
        .detach();
        let target = Target { host: "127.0.0.1".to_owned(), quic_port, tcp_port: 1, proxy: None };
        let options = DialOptions::default();
        let dialer = Dialer::new(target, Some(ca.client()), TrustTime::unknown(0), options).unwrap();
        let e = dialer.dial(Transport::Quic).await.unwrap_err();
        assert!(matches!(e, LinkError::Refused { .. }), "{e:?}");
    });
}

#[test]
fn quic_survives_a_new_socket_and_sees_a_dead_peer() {
    let ca = Ca::new();
    block_on(async {
        let echo = Echo::start(&ca.good_server());
        let relay = Relay::start(echo.quic);
        let target = Target { host: "127.0.0.1".to_owned(), quic_port: relay.port, tcp_port: 1, proxy: None };
        let options = DialOptions::default();
        let dialer = Dialer::new(target, Some(ca.client()), TrustTime::unknown(0), options).unwrap();
        let mut c = dialer.dial(Transport::Quic).await.unwrap();
        round_trip(&mut c).await;
        c.control.rebind().unwrap();
        c.io.write_all(b"moved").await.unwrap();
        let mut answer = [0; 5];
        c.io.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"moved");
        assert_eq!(relay.clients.get(), 2, "the second socket was not used");
        assert!(!c.control.is_dead(mono_now()));

        relay.black_hole.set(true);
        c.io.write_all(b"anybody?").await.unwrap();
        let start = mono_now();
        while c.control.stalled_for(mono_now()) < Duration::from_millis(300) {
            assert!(mono_now().since(start) < LIMIT, "stall is not seen: {:?}", c.control);
            sleep(Duration::from_millis(20)).await;
        }
        assert!(c.control.is_dead(mono_now() + Duration::from_secs(3600)));

        // It was the network, and it is back.
        relay.black_hole.set(false);
        c.io.read_exact(&mut [0; 8]).await.unwrap();
        assert!(!c.control.is_dead(mono_now()));
        c.control.close("dead");
    });
}

#[test]
fn tcp_knows_what_is_in_flight() {
    block_on(async {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let target = Target {
            host: "127.0.0.1".to_owned(),
            quic_port: 1,
            tcp_port: listener.local_addr().unwrap().port(),
            proxy: None,
        };
        let dialer = Dialer::new(target, None, TrustTime::system(), DialOptions::default()).unwrap();
        assert!(matches!(dialer.dial(Transport::Tls).await, Err(LinkError::Config(_))));
        let mut c = dialer.dial(Transport::Tcp).await.unwrap();
        let (reader, _) = listener.accept().unwrap();
        // Nobody reads: in the end the kernel holds what it cannot send.
        let block = vec![1; 65536];
        while timeout(Duration::from_millis(50), c.io.write_all(&block)).await.is_some() {}
        let now = mono_now();
        while c.control.stalled_for(mono_now()) == Duration::ZERO {
            assert!(mono_now().since(now) < LIMIT);
            sleep(Duration::from_millis(10)).await;
        }
        assert!(c.control.is_dead(mono_now() + Duration::from_secs(3600)));
        assert!(c.control.wire_bytes().sent > 65536);
        assert!(c.control.rtt().is_some());
        c.control.rebind().unwrap();
        drop(reader);
    });
}

#[test]
fn a_proxy_opens_the_way_or_says_why_not() {
    use crate::config::Secret;
    let ca = Ca::new();
    block_on(async {
        let echo = Echo::start(&ca.good_server());
        let listener = Async::<std::net::TcpListener>::bind(([127, 0, 0, 1], 0)).unwrap();
        let port = listener.get_ref().local_addr().unwrap().port();
        let centre = echo.tcp;
        let _proxy = spawn(async move {
            while let Ok((mut down, _)) = listener.accept().await {
                spawn(async move {
                    let mut ask = Vec::new();
                    while !ask.ends_with(b"\r\n\r\n") {
                        let mut byte = [0];
                        down.read_exact(&mut byte).await.unwrap();
                        ask.push(byte[0]);
                    }
                    let ask = String::from_utf8(ask).unwrap();
                    assert!(ask.starts_with(&format!("CONNECT 127.0.0.1:{} HTTP/1.1\r\n", centre.port())));
                    if !ask.contains("Proxy-Authorization: Basic dXNlcjpwYXNz\r\n") {
                        down.write_all(b"HTTP/1.1 407 Who are you\r\n\r\n").await.ok();
                        return;
                    }
                    let mut up = Async::<std::net::TcpStream>::connect(centre).await.unwrap();
                    down.write_all(b"HTTP/1.1 200 OK\r\nVia: test\r\n\r\n").await.unwrap();
                    let (mut a, mut b) = ([0; 4096], [0; 4096]);
                    loop {
                        let turn = futures_lite::future::or(
                            async { (true, down.read(&mut a).await.unwrap_or(0)) },
                            async { (false, up.read(&mut b).await.unwrap_or(0)) },
                        );
                        match turn.await {
                            (_, 0) => return,
                            (true, n) => up.write_all(&a[..n]).await.unwrap(),
                            (false, n) => down.write_all(&b[..n]).await.unwrap(),
                        }
                    }
                })
                .detach();
            }
        });
        let through = |url: String| {
            let target = Target {
                host: "127.0.0.1".to_owned(),
                quic_port: 1,
                tcp_port: centre.port(),
                proxy: Some(Proxy::parse(&Secret::new(url)).unwrap()),
            };
            Dialer::new(target, Some(ca.client()), TrustTime::unknown(0), DialOptions::default()).unwrap()
        };
        let dialer = through(format!("http://user:pass@127.0.0.1:{port}"));
        let mut c = dialer.dial(Transport::Tls).await.unwrap();
        round_trip(&mut c).await;
        let e =
            through(format!("http://user:wrong@127.0.0.1:{port}")).dial(Transport::Tls).await.unwrap_err();
        assert!(matches!(e, LinkError::Proxy { .. }), "{e:?}");
        assert!(e.to_string().contains("password") && !e.to_string().contains("wrong"), "{e}");
    });
}

#[test]
fn older_tls_is_taken_only_on_request() {
    let ca = Ca::new();
    block_on(async {
        let config = rustls::ServerConfig::builder_with_provider(tls::provider())
            .with_protocol_versions(&[&rustls::version::TLS12])
            .unwrap();
        let good = ca.good_server();
        let chain = vec![rustls_pki_types::pem::PemObject::from_pem_file(&good.cert_file).unwrap()];
        let key = rustls_pki_types::pem::PemObject::from_pem_file(&good.key_file).unwrap();
        let config = Arc::new(config.with_no_client_auth().with_single_cert(chain, key).unwrap());
        let listener = Async::<std::net::TcpListener>::bind(([127, 0, 0, 1], 0)).unwrap();
        let target = Target {
            host: "127.0.0.1".to_owned(),
            quic_port: 1,
            tcp_port: listener.get_ref().local_addr().unwrap().port(),
            proxy: None,
        };
        let _server = spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                echo(tcp::accept_tls(stream, config.clone(), LIMIT).await).await;
            }
        });
        let dialer = |min_version| {
            let tls = TlsClient { min_version, ..ca.client() };
            let trust = TrustTime::unknown(0);
            Dialer::new(target.clone(), Some(tls), trust, DialOptions::default()).unwrap()
        };
        let e = dialer(TlsVersion::V13).dial(Transport::Tls).await.unwrap_err();
        assert!(matches!(e, LinkError::Tls { .. }), "{e:?}");
        // A broker without ALPN is taken over TCP.
        let mut c = dialer(TlsVersion::V12).dial(Transport::Tls).await.unwrap();
        round_trip(&mut c).await;
    });
}

//! The client without a server: hand-made packets, hostile ones, and keys of our own making.

use proptest::prelude::*;

use super::answer::Answer;
use super::auth::Plugin;
use super::dsn::{Address, Dsn, Tls};
use super::error::ClientError;
use super::login::{Login, Step};
use super::packet::{FULL, Joiner, Packets, encode};
use super::stream::Unpack;

fn hex(text: &str) -> Vec<u8> {
    (0..text.len() / 2).map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap()).collect()
}

fn dsn(text: &str) -> Dsn {
    Dsn::parse(text).unwrap()
}

#[test]
fn both_forms_of_a_dsn_are_read() {
    let go = dsn("ro:ot:p@ss/w%20d@tcp(10.1.2.3:3307)/db%2F1?timeout=1m5s&tls=skip-verify&parseTime=true");
    assert_eq!((go.user.as_str(), go.password.expose()), ("ro", "ot:p@ss/w%20d"));
    assert_eq!(go.address, Address::Tcp("10.1.2.3".into(), 3307));
    assert_eq!(
        (go.db.as_deref(), go.tls, go.timeout),
        (Some("db/1"), Tls::SkipVerify, std::time::Duration::from_secs(65))
    );
    let url = dsn("mysql://ro%3Aot:p%40ss@[::1]:3308/?tls=true");
    assert_eq!((url.user.as_str(), url.password.expose()), ("ro:ot", "p@ss"));
    assert_eq!(url.address, Address::Tcp("::1".into(), 3308));
    assert_eq!((url.db, url.tls), (None, Tls::Verify));
    assert_eq!(dsn("/").address, Address::Tcp("127.0.0.1".into(), 3306));
    assert_eq!(dsn("u@unix(/run/s.sock)/").address, Address::Unix("/run/s.sock".into()));
    assert_eq!(dsn("root:pwd@tcp(h)/?timeout=5s").address, Address::Tcp("h".into(), 3306));
}

#[test]
fn a_wrong_dsn_is_refused_without_its_password() {
    for (text, says) in [
        ("root:sesame@tcp(h:3306)", "no `/`"),
        ("root:sesame@tcp(h:3306/", "`)` is missing"),
        ("root:sesame@udp(h:3306)/", "only `tcp(…)`"),
        ("root:sesame@tcp(h:99999)/", "port"),
        ("root:sesame@tcp(h:1)/?timeot=5s", "did you mean `timeout`"),
        ("root:sesame@tcp(h:1)/?timeout=5", "a time such as"),
        ("root:sesame@tcp(h:1)/?tls=custom", "skip-verify"),
        ("postgres://root:sesame@h/", "expected `mysql://`"),
        ("mysql://root:sesame%zz@h/", "hexadecimal"),
    ] {
        let error = Dsn::parse(text).unwrap_err();
        assert!(error.contains(says) && !error.contains("sesame"), "{text}: {error}");
    }
    assert!(!format!("{:?}", dsn("root:sesame@tcp(h)/")).contains("sesame"));
}

/// The scrambles as the servers' own clients make them.
#[test]
fn scrambles_are_those_of_other_clients() {
    let nonce: Vec<u8> = (1..=20).collect();
    assert_eq!(Plugin::Native.scramble(b"", &nonce), b"");
    // Both made by go-sql-driver/mysql's formulas in Python's hashlib.
    let native = Plugin::Native.scramble(b"secret", &nonce);
    let sha2 = Plugin::CachingSha2.scramble(b"secret", &nonce);
    assert_eq!(native, hex(NATIVE));
    assert_eq!(sha2, hex(SHA2));
}

/// A greeting with this plugin; `ssl` whether TLS is offered.
fn greeting(plugin: &str, ssl: bool) -> Vec<u8> {
    let mut out = vec![10];
    out.extend_from_slice(b"9.7.4\0");
    out.extend_from_slice(&7u32.to_le_bytes());
    out.extend_from_slice(&[b'a'; 8]);
    out.push(0);
    let low: u16 = 0xf7ff | if ssl { 0x800 } else { 0 };
    out.extend_from_slice(&low.to_le_bytes());
    out.extend_from_slice(&[45, 2, 0]);
    out.extend_from_slice(&0x00ffu16.to_le_bytes());
    out.push(21);
    out.extend_from_slice(&[0; 10]);
    out.extend_from_slice(b"bbbbbbbbbbbb\0");
    out.extend_from_slice(plugin.as_bytes());
    out.push(0);
    out
}

fn step(login: &mut Login<'_>, payload: &[u8]) -> Result<Step, ClientError> {
    login.packet(payload, [7; 20])
}

#[test]
fn the_fast_way_in_needs_no_key() {
    let dsn = dsn("root:pw@tcp(h)/shop");
    let mut login = Login::new(&dsn, false);
    let Step::Send(answer) = step(&mut login, &greeting("caching_sha2_password", false)).unwrap() else {
        panic!()
    };
    assert_eq!((login.greeting.version.as_str(), login.greeting.thread), ("9.7.4", 7));
    let text = String::from_utf8_lossy(&answer);
    assert!(text.contains("root\0") && text.contains("shop\0") && text.contains("caching_sha2_password\0"));
    assert!(!text.contains("pw"));
    assert_eq!(step(&mut login, &[1, 3]).unwrap(), Step::Wait);
    assert_eq!(step(&mut login, &[0, 0, 0, 2, 0, 0, 0]).unwrap(), Step::Done);
}

#[test]
fn the_password_itself_goes_only_where_nobody_listens() {
    let plain = dsn("root:pw@tcp(h)/");
    let mut login = Login::new(&plain, false);
    step(&mut login, &greeting("caching_sha2_password", false)).unwrap();
    let refused = step(&mut login, &[1, 4]).unwrap_err().to_string();
    assert!(refused.contains("tls=true") && refused.contains("allowPublicKeyRetrieval=true"), "{refused}");

    let tls = dsn("root:pw@tcp(h)/?tls=true");
    let mut login = Login::new(&tls, false);
    let Step::StartTls(request) = step(&mut login, &greeting("caching_sha2_password", true)).unwrap() else {
        panic!()
    };
    assert_eq!(request.len(), 32);
    assert!(String::from_utf8_lossy(&login.encrypted()).contains("root"));
    assert_eq!(step(&mut login, &[1, 4]).unwrap(), Step::Send(b"pw\0".to_vec()));
    let mut login = Login::new(&tls, false);
    let refused = step(&mut login, &greeting("caching_sha2_password", false)).unwrap_err().to_string();
    assert!(refused.contains("does not offer TLS"), "{refused}");

    let allowed = dsn("root:pw@tcp(h)/?allowPublicKeyRetrieval=true");
    let mut login = Login::new(&allowed, false);
    step(&mut login, &greeting("caching_sha2_password", false)).unwrap();
    assert_eq!(step(&mut login, &[1, 4]).unwrap(), Step::Send(vec![2]));
    let mut key = vec![1];
    key.extend_from_slice(KEY.as_bytes());
    let Step::Send(sealed) = step(&mut login, &key).unwrap() else { panic!() };
    assert_eq!(sealed, hex(SEALED));
}

#[test]
fn another_plugin_is_answered_or_named() {
    let dsn = dsn("root:pw@tcp(h)/");
    let mut login = Login::new(&dsn, false);
    step(&mut login, &greeting("caching_sha2_password", false)).unwrap();
    let mut switch = b"\xfemysql_native_password\0".to_vec();
    switch.extend_from_slice(&[9; 20]);
    switch.push(0);
    assert_eq!(step(&mut login, &switch).unwrap(), Step::Send(Plugin::Native.scramble(b"pw", &[9; 20])));
    let error = step(&mut login, b"\xfemysql_clear_password\0").unwrap_err().to_string();
    assert!(error.contains("mysql_clear_password"), "{error}");
    let denied = b"\xff\x15\x04#28000Access denied for user 'root'@'h'";
    let error = step(&mut login, denied).unwrap_err();
    assert!(!error.is_retriable() && error.to_string().contains("check user, password"), "{error}");
}

fn packets(payloads: &[&[u8]]) -> Vec<u8> {
    let (mut out, mut sequence) = (Vec::new(), 0);
    payloads.iter().for_each(|payload| encode(payload, &mut sequence, &mut out));
    out
}

fn feed(packets: &mut Packets, bytes: &mut &[u8], most: usize) {
    let room = packets.room();
    let n = room.len().min(bytes.len()).min(most);
    room[..n].copy_from_slice(&bytes[..n]);
    packets.filled(n);
    *bytes = &bytes[n..];
}

/// A stream of packets cut into pieces of `most` bytes, as the events' bytes.
fn unpack(mut bytes: &[u8], most: usize, room: usize) -> (Vec<u8>, Option<ClientError>) {
    let (mut packets, mut unpack, mut out) = (Packets::new(), Unpack::default(), Vec::new());
    let mut buf = vec![0; room];
    loop {
        match unpack.take(&mut packets, &mut buf) {
            Ok(0) if bytes.is_empty() => return (out, None),
            Ok(0) => feed(&mut packets, &mut bytes, most),
            Ok(n) => out.extend_from_slice(&buf[..n]),
            Err(error) => return (out, Some(error)),
        }
    }
}

#[test]
fn a_payload_of_sixteen_mebibytes_is_joined() {
    for length in [FULL - 1, FULL, FULL + 1, 2 * FULL] {
        let payload = vec![5; length];
        let bytes = packets(&[&payload, b"next"]);
        let (mut packets, mut joiner, mut rest) = (Packets::new(), Joiner::default(), &bytes[..]);
        let mut found = Vec::new();
        while found.len() < 2 {
            match joiner.take(&mut packets, 64 << 20, "").unwrap() {
                Some(payload) => found.push(payload),
                None => feed(&mut packets, &mut rest, usize::MAX),
            }
        }
        assert!(found[0] == payload && found[1] == b"next");
        let mut event = vec![0];
        event.resize(length, 5);
        let (stream, error) = unpack(&super::tests::packets(&[&event, b"\0end"]), usize::MAX, 1 << 20);
        assert!(
            error.is_none() && stream.len() == 4 + length - 1 + 3 && stream.ends_with(b"end"),
            "{length}"
        );
    }
}

#[test]
fn the_end_of_a_binlog_is_an_error_that_says_why() {
    let purged = b"\xff\xd4\x04#HY000Could not find first log file name in binary log index file";
    let (stream, error) = unpack(&packets(&[b"\0ab", purged]), 1, 7);
    assert_eq!(stream, b"\xfebinab");
    match error {
        Some(ClientError::Server(error)) => {
            assert!(error.code == 1236 && error.message.starts_with("Could not"))
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_result_is_read_with_its_nulls() {
    let mut column = Vec::new();
    for part in ["def", "", "", "", "File"] {
        column.push(part.len() as u8);
        column.extend_from_slice(part.as_bytes());
    }
    let mut answer = Answer::default();
    let end: &[u8] = &[0xfe, 0, 0, 2, 0];
    let mut rows = None;
    for packet in [&[1][..], &column, end, b"\x03abc", b"\xfb", end] {
        rows = answer.packet(packet, 1 << 20).unwrap();
    }
    let rows = rows.unwrap();
    assert_eq!((rows.text(0, "file").as_str(), rows.value(1, "file"), rows.rows.len()), ("abc", None, 2));
    assert!(matches!(Answer::default().packet(&[0; 100], 10), Err(ClientError::TooLarge { .. })));
}

proptest! {
    #[test]
    fn events_do_not_depend_on_how_the_network_cuts_them(
        events in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..60), 0..8),
        most in 1usize..50, room in 1usize..70,
    ) {
        let payloads: Vec<Vec<u8>> = events.iter().map(|event| [&[0], &event[..]].concat()).collect();
        let borrowed: Vec<&[u8]> = payloads.iter().map(|p| &p[..]).collect();
        let (stream, error) = unpack(&packets(&borrowed), most, room);
        prop_assert!(error.is_none());
        prop_assert_eq!(&stream[..4], b"\xfebin");
        prop_assert_eq!(&stream[4..], events.concat());
    }

    #[test]
    fn hostile_bytes_are_an_error_or_nothing(bytes in proptest::collection::vec(any::<u8>(), 0..200), secure: bool) {
        unpack(&bytes, 17, 33);
        let dsn = dsn("root:pw@tcp(h)/?allowPublicKeyRetrieval=true");
        let mut login = Login::new(&dsn, secure);
        step(&mut login, &bytes).ok();
        let mut login = Login::new(&dsn, secure);
        step(&mut login, &greeting("caching_sha2_password", false)).unwrap();
        step(&mut login, &bytes).ok();
        step(&mut login, &[1, 4]).ok();
        step(&mut login, &[&[1], &bytes[..]].concat()).ok();
        let mut answer = Answer::default();
        for packet in bytes.chunks(9) {
            if answer.packet(packet, 1 << 20).is_err() {
                break;
            }
        }
    }

    #[test]
    fn no_dsn_makes_it_panic(text in "\\PC{0,60}", mixed in "[a-z:@/()?=%\\[\\]]{0,40}") {
        Dsn::parse(&text).ok();
        Dsn::parse(&mixed).ok();
        Dsn::parse(&format!("mysql://{mixed}")).ok();
    }
}

const NATIVE: &str = "b32bb3a583e1340c0a1108d58b1be49781ad8c2f";
const SHA2: &str = "746ebe205d56a0707acb3e796e834e0dd7b1d61743b26bd5202c7a623230c7c9";
/// Made by `openssl genrsa 2048`; what was sealed was opened by `openssl pkeyutl -decrypt`.
const KEY: &str = "-----BEGIN PUBLIC KEY-----
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAtyas2UbfuqMPgF1itaG4
k0AMxTLp2/awggxeHXGHH9htQcsvuRvBinUx7fojEUiORNQskgo585JosCallDyh
QQCAn6xYvphpqoLTQRKhR4RYO/wWwVW8HPNk9tS83k+7HxNztr6pVMB/wRwSBjtN
km9OEa20krw2u3LHcIM8i15XCpauA19wQh+TMuGZtUlecCzfq4kQ/ZYIrpE+lt8v
N4w0eqdqlGdRmmpQiis4fzx48N0/F9y9GLC7oQPDmyfgSzTLDyH5TogmiWEWNXEB
gEMmgMvL+KaDLgsmacuoKkd9Z4jDUbsbY7wClZoanhGQDjNeQfh8OT+BQSmmB+YC
CwIDAQAB
-----END PUBLIC KEY-----
";
const SEALED: &str = "00cf66ec76083f49021eb65d3e0be7ab870d9ece17babd5bc8935aae3f992d33a262a45b3a68dab5e05158d5cc96afac3a415507c84a778dfd11f9cd5b186bd6fd51faafab67efe08b16f9c5bcf72e634dd00d40a31186fcf9c110eae04d00a2b5e59a25b7a97e2109f27d06d966128008dd187e44366672edc16f38029a31f39bd26bf922242a7bad2a067c7119e2889ec6032e70662e13ef8d5339acdeb160b5ce26a3092ae2cc5c3460f7c7a9378e2b7ced9bc5dfb7931d133787dfdbc63a2c5f9c7054026642182e42f8db2ca33af92e4fa959930e941f40a481101417e659485a2210983b5f05a4040d68e712331fef4a55a026554191220f8a361646e2";

/// A server of one connection that does what `serve` says.
fn server(serve: impl FnOnce(std::net::TcpStream) + Send + 'static) -> Dsn {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || serve(listener.accept().unwrap().0));
    dsn(&format!("root:pw@tcp(127.0.0.1:{port})/?timeout=200ms&readTimeout=200ms"))
}

fn open(dsn: &Dsn) -> (super::Waker, Result<super::Conn, ClientError>) {
    let (waker, wake) = super::Wake::new().unwrap();
    let conn = super::Conn::open(dsn, &wake);
    (waker, conn)
}

/// Greets, and takes every password.
fn greet(socket: &mut std::net::TcpStream) {
    use std::io::{Read, Write};
    socket.write_all(&packets(&[&greeting("mysql_native_password", false)])).unwrap();
    let _ = socket.read(&mut [0; 1024]).unwrap();
    socket.write_all(&[7, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0]).unwrap();
}

#[test]
fn every_wait_has_an_end() {
    use std::io::{Read, Write};
    let silent = server(|mut socket| drop(socket.read(&mut [0; 64])));
    assert!(matches!(open(&silent).1, Err(ClientError::Timeout { .. })));
    let gone = server(|mut socket| socket.write_all(&[80, 0, 0, 0, 10]).unwrap());
    let error = open(&gone).1.unwrap_err();
    assert!(error.is_retriable() && matches!(error, ClientError::Io { .. }), "{error}");
    let endless = server(|mut socket| {
        // A packet that claims 16 MiB, and another.
        while socket.write_all(&[255; 4096]).is_ok() {}
    });
    assert!(matches!(open(&endless).1, Err(ClientError::Protocol(_) | ClientError::TooLarge { .. })));
    let mute = server(|mut socket| {
        greet(&mut socket);
        socket.read_to_end(&mut Vec::new()).ok();
    });
    let (_waker, conn) = open(&mute);
    let mut conn = conn.unwrap();
    assert_eq!((conn.version(), conn.is_mariadb()), ("9.7.4", false));
    assert!(matches!(conn.query("SELECT 1"), Err(ClientError::Timeout { .. })));
}

#[test]
fn a_wait_ends_when_dts_stops() {
    use std::io::Read;
    let mute = server(|mut socket| {
        greet(&mut socket);
        socket.read_to_end(&mut Vec::new()).ok();
    });
    let mute = Dsn { read_timeout: std::time::Duration::from_secs(3600), ..mute };
    let (waker, conn) = open(&mute);
    let mut conn = conn.unwrap();
    let waiting = std::thread::spawn(move || conn.query("SELECT 1").map(|_| ()));
    drop(waker);
    assert!(matches!(waiting.join().unwrap(), Err(ClientError::Stopped)));
}

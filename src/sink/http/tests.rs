use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use async_net::TcpListener;
use futures_lite::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::event::{BatchBuilder, Op};
use crate::link::Io;
use crate::runtime::block_on;
use crate::sink::behaviour::{self, Subject, TempDir, batch, ndjson, put};

/// One request as the server saw it.
#[derive(Clone, Debug)]
struct Seen {
    head: String,
    body: String,
}

impl Seen {
    fn header(&self, name: &str) -> Option<String> {
        self.head.lines().find_map(|l| {
            let (n, v) = l.split_once(':')?;
            n.eq_ignore_ascii_case(name).then(|| v.trim().to_owned())
        })
    }
}

/// A web server that answers as it is told, then 204.
#[derive(Default)]
struct Peer {
    taken: Vec<Seen>,
    refused: Vec<Seen>,
    answers: VecDeque<String>,
    /// Any row that holds this is refused with 422.
    poison: Option<&'static str>,
    busy: bool,
    connections: usize,
}

type Shared = Rc<RefCell<Peer>>;

fn answer(status: &str, more: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n{more}\r\n{body}", body.len())
}

/// Serves one connection until it ends.
async fn serve(mut io: Box<dyn Io>, peer: Shared) {
    let mut buffer = Vec::new();
    loop {
        let end = loop {
            if let Some(at) = buffer.windows(4).position(|w| w == b"\r\n\r\n") {
                break at + 4;
            }
            let mut more = [0; 4096];
            match io.read(&mut more).await {
                Ok(n) if n > 0 => buffer.extend_from_slice(&more[..n]),
                _ => return,
            }
        };
        let head = String::from_utf8(buffer[..end].to_vec()).unwrap();
        let mut seen = Seen { head, body: String::new() };
        let length: usize = seen.header("content-length").unwrap().parse().unwrap();
        while buffer.len() < end + length {
            let mut more = [0; 4096];
            let n = io.read(&mut more).await.unwrap();
            assert!(n > 0, "request cut short");
            buffer.extend_from_slice(&more[..n]);
        }
        seen.body = String::from_utf8(buffer[end..end + length].to_vec()).unwrap();
        buffer.drain(..end + length);
        let reply = {
            let mut peer = peer.borrow_mut();
            let told = peer.answers.pop_front();
            let reply = match told {
                Some(told) => told,
                None if peer.busy => answer("503 Busy", "", "not now"),
                None if peer.poison.is_some_and(|p| seen.body.contains(p)) => {
                    answer("422 No", "", "a poisoned\nrow")
                }
                None => answer("204 Fine", "", ""),
            };
            let ok = reply.starts_with("HTTP/1.1 2");
            if ok {
                peer.taken.push(seen)
            } else {
                peer.refused.push(seen)
            }
            reply
        };
        if reply.is_empty() || io.write_all(reply.as_bytes()).await.is_err() {
            return;
        }
    }
}

struct Server {
    port: u16,
    peer: Shared,
    _task: Task<()>,
}

impl Server {
    fn new() -> Self {
        block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let port = listener.local_addr().unwrap().port();
            let peer = Shared::default();
            let held = peer.clone();
            let task = spawn(async move {
                while let Ok((io, _)) = listener.accept().await {
                    held.borrow_mut().connections += 1;
                    spawn(serve(Box::new(io), held.clone())).detach();
                }
            });
            Self { port, peer, _task: task }
        })
    }

    fn config(&self) -> Config {
        Config {
            url: Url::parse(&format!("http://127.0.0.1:{}/in?x=1", self.port)).unwrap(),
            format: BodyFormat::Ndjson,
            token: Some(Secret::new("s3cret".to_owned())),
            token_file: None,
            headers: vec![Secret::new("X-Site: four".to_owned())],
            ca_file: None,
            cert_file: None,
            key_file: None,
            max_request_bytes: ByteSize(1 << 20),
            timeout: Span::from_secs(20),
            meta: Meta::Full,
            integers: Integers::Number,
        }
    }

    fn text(&self) -> String {
        self.peer.borrow().taken.iter().map(|s| s.body.as_str()).collect()
    }
}

impl Subject for Server {
    fn config(&self) -> Box<dyn SinkConfig> {
        Box::new(self.config())
    }

    fn state(&self) -> BTreeMap<i64, String> {
        ndjson::state(&self.text())
    }

    fn kinds(&self) -> Vec<String> {
        ndjson::kinds(&self.text())
    }

    fn ids(&self) -> Option<Vec<String>> {
        Some(ndjson::ids(&self.text()))
    }

    fn break_it(&mut self) -> bool {
        self.peer.borrow_mut().busy = true;
        true
    }

    fn mend(&mut self) {
        self.peer.borrow_mut().busy = false;
    }
}

#[test]
fn http_behaves() {
    behaviour::suite(Server::new);
}

fn rows(first_seq: u64, n: i64) -> Batch {
    batch(first_seq, |b| (0..n).for_each(|i| put(b, Op::Insert, first_seq as i64 + i, &format!("row{i};"))))
}

fn with_sink<T>(config: &Config, f: impl AsyncFnOnce(&mut Box<dyn Sink>) -> T) -> T {
    block_on(async {
        let mut sink = config.open("h").await.unwrap();
        f(&mut sink).await
    })
}

#[test]
fn requests_are_bounded_in_order_and_on_one_connection() {
    let server = Server::new();
    let config = Config { max_request_bytes: ByteSize(2000), ..server.config() };
    with_sink(&config, async |sink| {
        sink.write(vec![rows(1, 20), batch(21, |_| {}), rows(21, 20)], vec![]).await.unwrap();
        let wide = "w".repeat(5000);
        sink.write(vec![batch(41, |b| put(b, Op::Insert, 41, &wide))], vec![]).await.unwrap();
    });
    let peer = server.peer.borrow();
    assert_eq!(peer.connections, 1);
    let bodies: Vec<_> = peer.taken.iter().map(|s| s.body.len()).collect();
    assert!(bodies.len() > 4 && bodies[..bodies.len() - 1].iter().all(|&n| n <= 2000), "{bodies:?}");
    let expected: Vec<_> = (1..=41).map(|n| format!("press-7/main/0000000200000abc/{n}")).collect();
    assert_eq!(server.ids().unwrap(), expected);
    let first = &peer.taken[0];
    assert!(first.head.starts_with("POST /in?x=1 HTTP/1.1\r\n"), "{}", first.head);
    assert_eq!(first.header("authorization").unwrap(), "Bearer s3cret");
    assert_eq!(first.header("x-site").unwrap(), "four");
    assert_eq!(first.header("content-type").unwrap(), "application/x-ndjson");
    assert_eq!(first.header("host").unwrap(), format!("127.0.0.1:{}", server.port));
}

#[test]
fn a_request_sent_again_has_the_same_key() {
    let server = Server::new();
    let key = |i: usize| server.peer.borrow().taken[i].header("idempotency-key");
    let mut local = BatchBuilder::new("app".into());
    put(&mut local, Op::Insert, 1, "x");
    let local = local.finish();
    with_sink(&server.config(), async |sink| {
        for batches in
            [vec![rows(1, 3)], vec![rows(1, 3)], vec![rows(4, 3)], vec![rows(1, 3), rows(9, 1)], vec![local]]
        {
            sink.write(batches, vec![]).await.unwrap();
        }
    });
    assert!(key(0).unwrap().starts_with("press-7/main/0000000200000abc/1+3-"));
    assert_eq!(key(0), key(1));
    assert_ne!(key(0), key(2));
    assert_ne!(key(0), key(3));
    // Nothing names its rows: two equal ones are not the same.
    assert_eq!(key(4), None);
}

#[test]
fn arrays_too() {
    let server = Server::new();
    let config = Config { format: BodyFormat::Json, meta: Meta::None, ..server.config() };
    with_sink(&config, async |sink| sink.write(vec![rows(1, 3), rows(4, 1)], vec![]).await.unwrap());
    let peer = server.peer.borrow();
    let body: serde_json::Value = serde_json::from_str(&peer.taken[0].body).unwrap();
    assert_eq!(body.as_array().unwrap().len(), 4);
    assert_eq!(peer.taken[0].header("content-type").unwrap(), "application/json");
}

#[test]
fn the_one_bad_row_is_found() {
    let server = Server::new();
    server.peer.borrow_mut().poison = Some("row7;");
    for format in [BodyFormat::Ndjson, BodyFormat::Json] {
        let config = Config { format, ..server.config() };
        let error = with_sink(&config, async |sink| sink.write(vec![rows(1, 2), rows(3, 20)], vec![]).await);
        match error {
            Err(SinkError::Reject { batch: 1, row: 7, reason }) => {
                assert!(reason.contains("422") && reason.contains("a poisoned row"), "{reason}");
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(server.peer.borrow().refused.len() <= 12, "{}", server.peer.borrow().refused.len());
}

#[test]
fn statuses() {
    let server = Server::new();
    let cases = [
        ("500 Oops", true),
        ("401 Who", true),
        ("404 Where", true),
        ("301 There", false),
        ("415 What", false),
    ];
    for (status, again) in cases {
        server.peer.borrow_mut().answers.push_back(answer(
            status,
            "location: http://elsewhere/\r\n",
            "why\u{1b}[31m",
        ));
        let result = with_sink(&server.config(), async |sink| {
            let first = sink.write(vec![rows(1, 2)], vec![]).await;
            sink.write(vec![rows(1, 2)], vec![]).await.unwrap();
            first
        });
        match (result, again) {
            (Err(SinkError::Retry(text)), true) | (Err(SinkError::Fatal(text)), false) => {
                assert!(
                    text.contains(&status[..3]) && text.contains("why") && !text.contains('\u{1b}'),
                    "{text}"
                );
                assert!(!text.contains("s3cret"), "{text}");
            }
            other => panic!("{status}: {other:?}"),
        }
    }
}

#[test]
fn retry_after_is_obeyed() {
    let server = Server::new();
    block_on(async {
        let mut sink = server.config().sink("h".to_owned()).unwrap();
        server.peer.borrow_mut().answers.push_back(answer("429 Slow", "retry-after: 1\r\n", ""));
        let before = mono_now();
        assert!(matches!(sink.write(vec![rows(1, 1)], vec![]).await, Err(SinkError::Retry(_))));
        let until = sink.not_before;
        assert!(until >= before + Span::from_secs(1), "{until:?}");
        sink.write(vec![rows(1, 1)], vec![]).await.unwrap();
        assert!(mono_now() >= until, "the peer was called before it wanted to");
        // A pause longer than a write may take.
        sink.max_wait = Span::from_millis(1);
        sink.not_before = mono_now() + Span::from_secs(60);
        let seen = server.peer.borrow().taken.len();
        match sink.write(vec![rows(2, 1)], vec![]).await {
            Err(SinkError::Retry(text)) => assert!(text.contains("asked not to be called"), "{text}"),
            other => panic!("{other:?}"),
        }
        assert_eq!(server.peer.borrow().taken.len(), seen);
    });
}

#[test]
fn a_kept_connection_that_died_is_replaced() {
    let server = Server::new();
    with_sink(&server.config(), async |sink| {
        sink.write(vec![rows(1, 1)], vec![]).await.unwrap();
        // Takes the request and hangs up.
        server.peer.borrow_mut().answers.push_back(String::new());
        sink.write(vec![rows(2, 1)], vec![]).await.unwrap();
        // On a new connection that is an error of the write.
        server.peer.borrow_mut().answers.extend([String::new(), String::new()]);
        assert!(matches!(sink.write(vec![rows(3, 1)], vec![]).await, Err(SinkError::Retry(_))));
        sink.write(vec![rows(3, 1)], vec![]).await.unwrap();
    });
    assert_eq!(server.state().len(), 3);
}

#[test]
fn hostile_answers_are_bounded() {
    let server = Server::new();
    with_sink(&server.config(), async |sink| {
        let long = answer("200 OK", "", &"x".repeat(10 << 20));
        server.peer.borrow_mut().answers.push_back(long);
        sink.write(vec![rows(1, 1)], vec![]).await.unwrap();
        sink.write(vec![rows(2, 1)], vec![]).await.unwrap();
        let endless = format!("HTTP/1.1 200 OK\r\nx: {}", "y".repeat(2 << 20));
        server.peer.borrow_mut().answers.extend([endless.clone(), endless, "nonsense\r\n\r\n".to_owned()]);
        for _ in 0..2 {
            let result = sink.write(vec![rows(3, 1)], vec![]).await;
            assert!(matches!(result, Err(SinkError::Retry(_))), "{result:?}");
        }
    });
}

#[test]
fn silence_and_nobody_are_retried() {
    let server = Server::new();
    block_on(async {
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = silent.local_addr().unwrap().port();
        let url = Url::parse(&format!("http://127.0.0.1:{port}/")).unwrap();
        let config = Config { url, timeout: Span::from_millis(100), ..server.config() };
        let mut sink = config.open("h").await.unwrap();
        match sink.write(vec![rows(1, 1)], vec![]).await {
            Err(SinkError::Retry(text)) => assert!(text.contains("within"), "{text}"),
            other => panic!("{other:?}"),
        }
        drop(silent);
        assert!(matches!(sink.write(vec![rows(1, 1)], vec![]).await, Err(SinkError::Retry(_))));
        assert!(matches!(sink.probe().await, Err(SinkError::Retry(_))));
    });
}

#[test]
fn secrets_do_not_show() {
    let server = Server::new();
    let config = server.config();
    assert!(!format!("{config:?}").contains("s3cret"));
    let both = Config { token_file: Some("x".into()), ..config.clone() };
    let odd = Config { headers: vec![Secret::new("no colon s3cret".to_owned())], ..config.clone() };
    let newline = Config { token: Some(Secret::new("s3cret\nx".to_owned())), ..config };
    for bad in [both, odd, newline] {
        let error = bad.sink("h".to_owned()).map(drop).unwrap_err();
        assert!(!error.contains("s3cret"), "{error}");
    }
}

#[test]
fn https_with_the_right_certificate_only() {
    let dir = TempDir::new("https");
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (ca, wrong) = (dir.0.join("ca.pem"), dir.0.join("wrong.pem"));
    std::fs::write(&ca, made.cert.pem()).unwrap();
    std::fs::write(&wrong, other.cert.pem()).unwrap();
    let key = PrivateKey::from(made.signing_key.serialize_der());
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key.into())
        .unwrap();
    let acceptor = futures_rustls::TlsAcceptor::from(std::sync::Arc::new(tls));
    let plain = Server::new();
    block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let peer = plain.peer.clone();
        let _task = spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                if let Ok(io) = acceptor.accept(tcp).await {
                    spawn(serve(Box::new(io), peer.clone())).detach();
                }
            }
        });
        let url = Url::parse(&format!("https://localhost:{port}/")).unwrap();
        let config = Config { url, ca_file: Some(ca), ..plain.config() };
        let mut sink = config.open("h").await.unwrap();
        sink.write(vec![rows(1, 1)], vec![]).await.unwrap();
        let mut sink = Config { ca_file: Some(wrong), ..config }.open("h").await.unwrap();
        match sink.write(vec![rows(2, 1)], vec![]).await {
            Err(SinkError::Retry(text)) => assert!(text.contains("certificate"), "{text}"),
            other => panic!("{other:?}"),
        }
    });
    assert_eq!(plain.state().len(), 1);
}

use rustls_pki_types::PrivatePkcs8KeyDer as PrivateKey;

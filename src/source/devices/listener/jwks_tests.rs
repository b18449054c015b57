//! A web server on the loopback publishes keys; tokens are signed here by ring.

use std::cell::{Cell, RefCell};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use async_io::Async;
use futures_lite::{AsyncReadExt, AsyncWriteExt};
use ring::signature::{Ed25519KeyPair, KeyPair};

use super::*;
use crate::link::tls::TlsVersion;
use crate::link::web::Url;
use crate::link::{TlsServer, server_config};
use crate::runtime::{Task, block_on, spawn};
use crate::source::devices::auth::{Denied, JwtKeys, JwtRules, base64_url};

const NOW: i64 = 1_500_000_000_000_000;
/// Generous: a busy machine is no failure.
const PATIENCE: Duration = Duration::from_secs(20);
const SOON: Pace = Pace { refresh: Duration::from_secs(3600), rest: Duration::from_millis(20) };

struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("dts-jwks-{}-{n}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

/// Answers every request with the same document.
struct Web {
    url: String,
    ca: PathBuf,
    answer: Rc<RefCell<(u16, Vec<u8>)>>,
    asked: Rc<Cell<u32>>,
    _folder: Folder,
    _task: Task<()>,
}

impl Web {
    fn start() -> Self {
        let folder = Folder::new();
        let mut params = rcgen::CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().unwrap();
        let ca = folder.0.join("ca.pem");
        std::fs::write(&ca, params.self_signed(&key).unwrap().pem()).unwrap();
        let issuer = rcgen::Issuer::new(params, key);
        let (cert_file, key_file) = (folder.0.join("own.pem"), folder.0.join("own.key"));
        let own = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
        std::fs::write(&cert_file, params.signed_by(&own, &issuer).unwrap().pem()).unwrap();
        std::fs::write(&key_file, own.serialize_pem()).unwrap();
        let tls = TlsServer {
            cert_file,
            key_file,
            client_ca_file: None,
            client_auth: None,
            min_version: TlsVersion::V13,
        };
        let tls = Arc::new(server_config(&tls, &[b"http/1.1"]).unwrap());
        let listener = Async::<std::net::TcpListener>::bind(([127, 0, 0, 1], 0)).unwrap();
        let url = format!("https://localhost:{}/keys", listener.get_ref().local_addr().unwrap().port());
        let (answer, asked) = (Rc::new(RefCell::new((200, Vec::new()))), Rc::new(Cell::new(0)));
        let (say, count) = (answer.clone(), asked.clone());
        let task = spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (tls, say, count) = (tls.clone(), say.clone(), count.clone());
                spawn(async move {
                    let Ok(mut io) = futures_rustls::TlsAcceptor::from(tls).accept(stream).await else {
                        return;
                    };
                    let (mut request, mut chunk) = (Vec::new(), [0; 1024]);
                    while !request.ends_with(b"\r\n\r\n") {
                        let Ok(n @ 1..) = io.read(&mut chunk).await else { return };
                        request.extend_from_slice(&chunk[..n]);
                    }
                    assert!(request.starts_with(b"GET /keys HTTP/1.1\r\n"));
                    let (status, body) = say.borrow().clone();
                    let head = format!("HTTP/1.1 {status} x\r\nContent-Length: {}\r\n\r\n", body.len());
                    count.set(count.get() + 1);
                    io.write_all(head.as_bytes()).await.ok();
                    io.write_all(&body).await.ok();
                    io.close().await.ok();
                })
                .detach();
            }
        });
        Self { url, ca, answer, asked, _folder: folder, _task: task }
    }

    fn says(&self, status: u16, body: impl Into<Vec<u8>>) {
        self.answer.replace((status, body.into()));
    }

    fn connector(&self, ca: &Path) -> Connector {
        Connector::new(&Url::parse(&self.url).unwrap(), Some(ca), None, None).unwrap()
    }
}

struct Signer {
    kid: &'static str,
    pair: Ed25519KeyPair,
}

impl Signer {
    fn new(kid: &'static str, seed: u8) -> Self {
        Self { kid, pair: Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap() }
    }

    fn jwk(&self) -> String {
        let x = base64_url(self.pair.public_key().as_ref());
        format!(r#"{{"kty":"OKP","crv":"Ed25519","kid":"{}","x":"{x}"}}"#, self.kid)
    }

    fn token(&self, sub: &str) -> String {
        let head = format!(r#"{{"alg":"EdDSA","kid":"{}"}}"#, self.kid);
        let claims = format!(r#"{{"sub":"{sub}","exp":2000000000}}"#);
        let signed = format!("{}.{}", base64_url(head.as_bytes()), base64_url(claims.as_bytes()));
        let signature = base64_url(self.pair.sign(signed.as_bytes()).as_ref());
        format!("{signed}.{signature}")
    }
}

fn jwks(signers: &[&Signer]) -> String {
    let keys: Vec<_> = signers.iter().map(|s| s.jwk()).collect();
    format!(r#"{{"keys":[{},{{"kty":"oct"}}]}}"#, keys.join(","))
}

fn check(keys: &mut JwtKeys, token: &str) -> Result<String, Denied> {
    let rules = JwtRules { audience: None, leeway: Duration::from_secs(60) };
    keys.check(token.as_bytes(), &rules, NOW).map(|who| who.device.to_string())
}

async fn until(what: &str, mut is: impl FnMut() -> bool) {
    let waited = timeout(PATIENCE, async {
        while !is() {
            sleep(Duration::from_millis(2)).await;
        }
    });
    assert!(waited.await.is_some(), "{what}");
}

#[test]
fn keys_are_fetched_when_a_token_names_an_unknown_one() {
    block_on(async {
        let web = Web::start();
        let (a, b, c) = (Signer::new("a", 1), Signer::new("b", 2), Signer::new("a", 3));
        web.says(200, jwks(&[&a]));
        let fetched = FetchedKeys::default();
        let mut keys = JwtKeys::fetched(fetched.clone());
        assert_eq!(check(&mut keys, &a.token("x")), Err(Denied::KeysPending));
        let _task = spawn(keep(web.connector(&web.ca), fetched, SOON));
        until("the first keys", || check(&mut keys, &a.token("x")).as_deref() == Ok("x")).await;
        assert_eq!(web.asked.get(), 1);
        // Signed by somebody else under a known name: no reason to ask.
        assert_eq!(check(&mut keys, &c.token("x")), Err(Denied::BadToken));
        // A new key is found by its first token; one that was withdrawn is gone.
        web.says(200, jwks(&[&b]));
        until("the new key", || check(&mut keys, &b.token("y")).as_deref() == Ok("y")).await;
        assert_eq!(web.asked.get(), 2);
        assert!(check(&mut keys, &a.token("x")).is_err());
    });
}

#[test]
fn a_failed_fetch_leaves_the_keys_of_last_time_in_force() {
    block_on(async {
        let web = Web::start();
        let (a, b) = (Signer::new("a", 1), Signer::new("b", 2));
        web.says(200, jwks(&[&a]));
        let fetched = FetchedKeys::default();
        let mut keys = JwtKeys::fetched(fetched.clone());
        let _task = spawn(keep(web.connector(&web.ca), fetched, SOON));
        until("the first keys", || check(&mut keys, &a.token("x")).is_ok()).await;
        let too_large = format!("{}{}", jwks(&[&b]), " ".repeat(MAX_BYTES));
        let bad: [(u16, Vec<u8>); 5] = [
            (500, jwks(&[&b]).into()),
            (302, jwks(&[&b]).into()),
            (200, b"<html>".to_vec()),
            (200, br#"{"keys":[]}"#.to_vec()),
            (200, too_large.into()),
        ];
        for (status, body) in bad {
            let before = web.asked.get();
            let what = format!("{status} with {} bytes", body.len());
            web.says(status, body);
            // It is tried again until it is well; two answers have been judged when the third is asked for.
            until(&what, || {
                let denied = check(&mut keys, &b.token("y"));
                assert!(matches!(denied, Err(Denied::KeysPending | Denied::BadToken)), "{what}: {denied:?}");
                web.asked.get() >= before + 3
            })
            .await;
            assert_eq!(check(&mut keys, &a.token("x")).as_deref(), Ok("x"), "{what}");
        }
        web.says(200, jwks(&[&a, &b]));
        until("the end of the trouble", || check(&mut keys, &b.token("y")).is_ok()).await;
    });
}

#[test]
fn made_up_key_names_and_foreign_servers_cost_one_fetch() {
    block_on(async {
        let web = Web::start();
        let (a, b) = (Signer::new("a", 1), Signer::new("b", 2));
        web.says(200, jwks(&[&a]));
        let fetched = FetchedKeys::default();
        let mut keys = JwtKeys::fetched(fetched.clone());
        let seldom = Pace { rest: Duration::from_secs(3600), ..SOON };
        let _task = spawn(keep(web.connector(&web.ca), fetched, seldom));
        until("the first keys", || check(&mut keys, &a.token("x")).is_ok()).await;
        for _ in 0..1000 {
            assert_eq!(check(&mut keys, &b.token("y")), Err(Denied::BadToken));
        }
        sleep(Duration::from_millis(50)).await;
        assert_eq!(web.asked.get(), 1);
        // A server that another CA vouches for is not asked.
        let other = Web::start();
        let fetched = FetchedKeys::default();
        let mut none = JwtKeys::fetched(fetched.clone());
        let _task = spawn(keep(web.connector(&other.ca), fetched, seldom));
        until("the refusal", || check(&mut none, &a.token("x")) == Err(Denied::BadToken)).await;
        assert_eq!(web.asked.get(), 1);
    });
}

//! An agent without a certificate of its own: by password, by token.

use ring::signature::{Ed25519KeyPair, KeyPair};

use crate::harness::*;

/// The section `sink` of an agent that trusts the centre and shows `how`, one line.
fn sink(centre: &Centre, pki: &Pki, how: &str) -> String {
    let with = centre.sink(&pki.device("unused"));
    let without: Vec<&str> =
        with.lines().filter(|l| !l.contains("cert_file") && !l.contains("key_file")).collect();
    format!("{}\n  {how}\n", without.join("\n"))
}

fn arrives(centre: &Centre, payload: serde_json::Value) {
    until(&format!("the event {payload}"), || {
        payloads(&centre.out).iter().any(|(_, p)| *p == payload).then_some(())
    });
}

#[test]
fn a_password_lets_an_agent_in_and_is_read_again_from_its_file() {
    let dir = Dir::new("password");
    let pki = Pki::new(&dir, "ca");
    let mut centre = Centre::new(&dir, &pki, SinkKind::File);
    centre.start();
    let file = dir.write("own-password", "not it\n");
    let how = format!("password_file: {}", file.display());
    let mut agent = Agent::with(&dir, "box-7", &sink(&centre, &pki, &how), "");
    agent.start();
    agent.post("t", "1");
    centre.counts("dts_connects_refused_total", "wrong_password", 2);
    assert_eq!(agent.waiting(), 1);
    // The right one, without a restart.
    std::fs::write(&file, "correct horse\n").unwrap();
    arrives(&centre, serde_json::json!(1));
    assert!(events(&centre.out)[0]["id"].as_str().unwrap().starts_with("box-7/"));
    for log in [agent.node.process.whole_log(), centre.node.process.whole_log()] {
        assert!(!log.contains("not it") && !log.contains("correct horse"), "{log}");
    }
}

struct Signer {
    kid: &'static str,
    pair: Ed25519KeyPair,
}

fn url_base64(bytes: &[u8]) -> String {
    const ABC: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let n = chunk.iter().fold(0u32, |n, &b| n << 8 | u32::from(b)) << (8 * (3 - chunk.len()));
        out.extend((0..=chunk.len()).map(|i| char::from(ABC[(n >> (18 - 6 * i)) as usize & 63])));
    }
    out
}

impl Signer {
    fn new(kid: &'static str, seed: u8) -> Self {
        Self { kid, pair: Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap() }
    }

    fn jwks(&self) -> String {
        let x = url_base64(self.pair.public_key().as_ref());
        format!(r#"{{"keys":[{{"kty":"OKP","crv":"Ed25519","kid":"{}","x":"{x}"}}]}}"#, self.kid)
    }

    fn token(&self, device: &str, seconds: i64) -> String {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let exp = now.as_secs() as i64 + seconds;
        let head = format!(r#"{{"alg":"EdDSA","kid":"{}"}}"#, self.kid);
        let claims = format!(r#"{{"sub":"{device}","exp":{exp},"aud":"dts"}}"#);
        let signed = format!("{}.{}", url_base64(head.as_bytes()), url_base64(claims.as_bytes()));
        let signature = url_base64(self.pair.sign(signed.as_bytes()).as_ref());
        format!("{signed}.{signature}")
    }
}

#[test]
fn a_token_lets_an_agent_in_by_keys_of_a_file() {
    let dir = Dir::new("token");
    let pki = Pki::new(&dir, "ca");
    let (good, other) = (Signer::new("a", 1), Signer::new("a", 2));
    let keys = dir.write("keys.json", good.jwks());
    let more = format!("  jwt_keys_file: {}\n  jwt_audience: dts\n  jwt_leeway: 1s\n", keys.display());
    let mut centre = Centre::with(&dir, &pki, SinkKind::File, &more);
    centre.start();
    // By somebody else's key, expired, of another device's name: refused. Then its own.
    let file = dir.write("token", other.token("box", 3600));
    let how = format!("token_file: {}", file.display());
    let mut agent = Agent::with(&dir, "box", &sink(&centre, &pki, &how), "");
    agent.start();
    agent.post("t", "1");
    centre.counts("dts_connects_refused_total", "bad_token", 1);
    std::fs::write(&file, good.token("box", -3600)).unwrap();
    centre.counts("dts_connects_refused_total", "expired", 1);
    std::fs::write(&file, good.token("another", 3600)).unwrap();
    centre.counts("dts_connects_refused_total", "bad_client_id", 1);
    assert_eq!(agent.waiting(), 1);
    let token = good.token("box", 3600);
    std::fs::write(&file, &token).unwrap();
    arrives(&centre, serde_json::json!(1));
    assert!(events(&centre.out)[0]["id"].as_str().unwrap().starts_with("box/"));
    for log in [agent.node.process.whole_log(), centre.node.process.whole_log()] {
        assert!(!log.contains(&token[..40]), "{log}");
    }
}

#[test]
fn a_token_lets_an_agent_in_by_keys_of_a_url() {
    let dir = Dir::new("jwks");
    let pki = Pki::new(&dir, "ca");
    let (first, second) = (Signer::new("first", 1), Signer::new("second", 2));
    let web = Document::start(first.jwks());
    let more = format!("  jwks_url: http://127.0.0.1:{}/keys\n  jwks_refresh: 1s\n", web.port);
    let mut centre = Centre::with(&dir, &pki, SinkKind::File, &more);
    let (status, out) = centre.node.ask(&["check", "--connect"]);
    assert!(status == 0 && out.contains("; keys of tokens at 127.0.0.1:"), "{out}");
    centre.start();
    centre.counts("dts_jwks_fetches_total", "result=\"ok\"", 1);
    let file = dir.write("token", first.token("box", 3600));
    let how = format!("token_file: {}", file.display());
    let mut agent = Agent::with(&dir, "box", &sink(&centre, &pki, &how), "");
    agent.start();
    agent.post("t", "1");
    arrives(&centre, serde_json::json!(1));
    // The signer changes its key. Who holds only an old token has to get a new one.
    agent.node.stop();
    web.change(second.jwks());
    let before = centre.metric("dts_jwks_fetches_total", "result=\"ok\"");
    centre.counts("dts_jwks_fetches_total", "result=\"ok\"", before + 2);
    agent.start();
    agent.post("t", "2");
    centre.counts("dts_connects_refused_total", "reason=", 1);
    assert_eq!(agent.waiting(), 1);
    std::fs::write(&file, second.token("box", 3600)).unwrap();
    arrives(&centre, serde_json::json!(2));
    // Without its server the centre goes on with what it has, and says so.
    drop(web);
    centre.counts("dts_jwks_fetches_total", "result=\"failed\"", 1);
    agent.node.stop();
    agent.start();
    agent.post("t", "3");
    arrives(&centre, serde_json::json!(3));
    assert!(centre.node.process.log().contains("those of last time stay in force"));
}

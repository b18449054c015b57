//! Against a real broker: Mosquitto, as `tests/servers/mosquitto.sh` starts it.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::tests::{config, rows};
use super::*;
use crate::runtime::block_on;
use crate::sink::behaviour::TempDir;

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/servers/mosquitto.sh")
}

/// Whether Mosquitto is installed for the tests; says so if not.
fn installed() -> bool {
    let variable = |name| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let cache = variable("DTS_CACHE").or_else(|| {
        let cache = variable("XDG_CACHE_HOME").or_else(|| Some(variable("HOME")?.join(".cache")));
        Some(cache?.join("dts"))
    });
    if cache.is_some_and(|cache| cache.join("servers/mosquitto/.done").exists()) {
        return true;
    }
    let why = "Mosquitto is not installed for the tests: `make servers`";
    assert!(std::env::var_os("DTS_REQUIRE_SERVERS").is_none(), "{why}");
    eprintln!("skipped: {why}");
    false
}

struct Broker {
    dir: TempDir,
    port: u16,
}

impl Broker {
    /// Ports: plain, with a password, TLS, TLS with client certificates.
    fn start() -> Self {
        let dir = TempDir::new("mosquitto");
        for _ in 0..20 {
            let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let taken = |n| TcpListener::bind(("127.0.0.1", free + n)).is_err();
            if free > 60_000 || (0..4).any(taken) {
                continue;
            }
            let done =
                Command::new(script()).arg("start").arg(&dir.0).arg(free.to_string()).status().unwrap();
            if done.success() {
                return Self { dir, port: free };
            }
        }
        panic!("Mosquitto does not start");
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        Command::new(script()).arg("stop").arg(&self.dir.0).status().unwrap();
    }
}

/// Runs `mosquitto_sub` with a session that lasts, and gives back what it printed.
fn subscriber(port: u16, how: &[&str]) -> String {
    let out = Command::new(script())
        .args(["run", "mosquitto_sub", "-c", "-i", "sub", "-q", "1", "-t", "#", "-F", "%t %p", "-W", "60"])
        .args(["-p", &port.to_string()])
        .args(how)
        .output()
        .unwrap();
    assert!(out.status.success(), "{out:?}");
    String::from_utf8(out.stdout).unwrap()
}

#[test]
fn mosquitto_takes_and_passes_on_what_is_published() {
    if !installed() {
        return;
    }
    let broker = Broker::start();
    for version in [Version::V5, Version::V311] {
        // Subscribes and goes; the broker keeps for it what comes.
        subscriber(broker.port, &["-E"]);
        let plain = config(broker.port, version);
        block_on(async {
            let mut sink = plain.open("m").await.unwrap();
            assert!(sink.probe().await.unwrap().contains("takes the connection"));
            sink.write(vec![rows(1, 300), rows(301, 100)], vec![]).await.unwrap();
            sink.write(vec![rows(401, 100)], vec![]).await.unwrap();
            sink.close().await.unwrap();
        });
        let got = subscriber(broker.port, &["-C", "500"]);
        assert_eq!(got.lines().count(), 500);
        for (n, line) in (1..).zip(got.lines()) {
            let (topic, record) = line.split_once(' ').unwrap();
            assert_eq!(topic, "changes/press-7/app/readings");
            let record: serde_json::Value = serde_json::from_str(record).unwrap();
            assert_eq!(record["id"], format!("press-7/main/0000000200000abc/{n}"));
        }
    }
}

#[test]
fn mosquitto_with_passwords_and_tls() {
    if !installed() {
        return;
    }
    let broker = Broker::start();
    let file = |name: &str| Some(broker.dir.0.join("tls").join(name));
    let open = |config: Config| {
        block_on(async move {
            let mut sink = config.open("m").await.unwrap();
            let written = sink.write(vec![rows(1, 10)], vec![]).await;
            sink.close().await.unwrap();
            written
        })
    };
    let plain = config(broker.port + 1, Version::V5);
    let user = |password: &str| Config {
        username: Some("dts".to_owned()),
        password: Some(Secret::new(password.to_owned())),
        ..plain.clone()
    };
    open(user("dtspw")).unwrap();
    match open(user("wr0ng")) {
        Err(SinkError::Retry(text)) => {
            assert!(text.contains("not authorized") && !text.contains("wr0ng"), "{text}");
        }
        other => panic!("{other:?}"),
    }
    let tls = TlsClient { ca_file: file("ca.pem"), ..TlsClient::default() };
    let secure = |port, tls: &TlsClient| Config {
        host: "localhost".to_owned(),
        port,
        tls: Some(tls.clone()),
        username: None,
        password: None,
        ..plain.clone()
    };
    open(secure(broker.port + 2, &tls)).unwrap();
    let own = TlsClient { cert_file: file("client.pem"), key_file: file("client.key"), ..tls.clone() };
    open(secure(broker.port + 3, &own)).unwrap();
    assert!(matches!(open(secure(broker.port + 3, &tls)), Err(SinkError::Retry(_))));
}

//! A QUIC stack that is not quinn on the other side, both ways: aioquic; and quic-go as a broker's.

use serde_json::json;

use super::mosquitto::Mosquitto;
use super::upstream::{decoded, ship_through};
use super::{is_installed, python, require, script};
use crate::harness::*;

#[test]
fn aioquic_speaks_mqtt_to_the_centre() {
    if !require("python") {
        return;
    }
    let dir = Dir::new("aioquic");
    let pki = Pki::new(&dir, "ca");
    let mut centre = Centre::new(&dir, &pki, SinkKind::File);
    centre.start();
    let own = pki.device("box-9");
    let certificate =
        json!({ "port": centre.quic, "ca": pki.ca, "id": "box-9", "cert": own.cert, "key": own.key });
    let password = json!({
        "port": centre.quic, "ca": pki.ca, "id": "box-7", "user": "box-7", "password": "correct horse",
    });
    let with = |args: &serde_json::Value, more: serde_json::Value| {
        let mut args = args.clone();
        args.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        args
    };
    for (name, args) in [("certificate", &certificate), ("password", &password)] {
        let topic = format!("quic/{name}");
        let told = python("quic_client.py", &with(args, json!({ "topic": topic, "count": 50 })));
        assert_eq!(told["connack"], 0, "{told}");
        let acks: Vec<_> = (1..=50).map(|n| json!([n, 0])).collect();
        assert_eq!(told["acks"], json!(acks));
        let there: Vec<_> =
            payloads(&centre.out).into_iter().filter(|(t, _)| *t == topic).map(|(_, v)| v).collect();
        let want: Vec<_> = (0..50).map(|n| json!({ "n": n })).collect();
        assert_eq!(there, want);
    }
    assert!(!centre.node.process.log().contains("WARN"), "a clean DISCONNECT is no mistake");
    // Broken MQTT inside good QUIC: a reason, and the end.
    for (what, bytes, reason) in [
        ("a packet of type 0", "0000", 0x81),
        ("QoS 3", "3607000161000100", 0x81),
        ("another CONNECT", "", 0x82),
    ] {
        let second = "101100044d5154540502003c00000462782d39";
        let send = if bytes.is_empty() { second } else { bytes };
        let told = python("quic_client.py", &with(&certificate, json!({ "send": send })));
        assert_eq!((&told["disconnect"], &told["ended"]), (&json!(reason), &json!(true)), "{what}: {told}");
    }
    // Nobody, and somebody whom the centre does not know.
    let nobody = json!({ "port": centre.quic, "ca": pki.ca, "id": "box-9" });
    let told = python("quic_client.py", &with(&nobody, json!({ "send": "" })));
    assert_ne!(told["connack"], 0, "{told}");
    assert_eq!(payloads(&centre.out).len(), 100);
}

#[test]
fn the_agent_ships_to_a_server_on_aioquic() {
    if !require("python") || !require("mosquitto") {
        return;
    }
    let dir = Dir::new("bridge");
    let broker = Mosquitto::start(&dir, "box");
    let pki = Pki::new(&dir, "ca");
    let quic = port();
    let args = json!({ "quic": quic, "tcp": broker.port, "cert": pki.server.cert, "key": pki.server.key });
    let file = script("quic_bridge.py");
    let args = ["run".to_owned(), file.display().to_string(), args.to_string()];
    let mut bridge = Process::new(&dir, "bridge", script("python.sh"), args);
    bridge.start();
    bridge.says("listening");
    let watch = broker.subscribe(&dir, "dts/v1/box/#", "%t %x");
    let way = format!(
        "  quic_port: {quic}\n  transports: quic\n  tls: {{ca_file: {}, server_name: localhost}}\n",
        pki.ca.display()
    );
    let mut agent = ship_through(&dir, &way);
    agent.start();
    for n in 0..50 {
        agent.post("t", &n.to_string());
    }
    until("an empty buffer", || (agent.waiting() == 0).then_some(()));
    // The way breaks in the middle of the work, and comes again.
    bridge.kill();
    for n in 50..100 {
        agent.post("t", &n.to_string());
    }
    bridge.start();
    until("an empty buffer", || (agent.waiting() == 0).then_some(()));
    agent.node.stop();
    let want: Vec<_> = (0..100).map(|n| n.to_string()).collect();
    until("every event", || (decoded(&watch.log()).len() >= 100).then_some(()));
    assert_eq!(decoded(&watch.log()), want);
}

/// Writes down what a broker passes on of device `box`.
fn subscribe_at(dir: &Dir, tcp: u16) -> Process {
    let port = tcp.to_string();
    let args = ["run", "mosquitto_sub", "-p", &port, "-q", "1", "-t", "dts/v1/box/#", "-F", "%t %x"];
    let mut watch = Process::new(dir, "watch", script("mosquitto.sh"), args);
    watch.start();
    until("the subscription", || {
        let hello = ["-p", &port, "-q", "1", "-t", "dts/v1/box/hello", "-m", "hello"];
        assert_eq!(Mosquitto::pub_to(&hello, "").status, 0);
        pause(50);
        watch.log().contains("hello").then_some(())
    });
    watch
}

#[test]
fn the_agent_ships_to_mochi_mqtt_on_quic_go() {
    if !require("mosquitto") {
        return;
    }
    if !is_installed("quicgo") {
        // Needs a Go, which `make servers` does not install.
        return eprintln!("skipped: quic-go's broker is not installed");
    }
    let dir = Dir::new("quicgo");
    let pki = Pki::new(&dir, "ca");
    let (quic, tcp) = (port(), port());
    let args = [
        "run".to_owned(),
        format!("-quic=127.0.0.1:{quic}"),
        format!("-tcp=127.0.0.1:{tcp}"),
        format!("-cert={}", pki.server.cert.display()),
        format!("-key={}", pki.server.key.display()),
    ];
    let mut broker = Process::new(&dir, "quicgo", script("quicgo.sh"), args);
    broker.start();
    broker.says("listening");
    let watch = subscribe_at(&dir, tcp);
    let way = format!(
        "  quic_port: {quic}\n  transports: quic\n  tls: {{ca_file: {}, server_name: localhost}}\n",
        pki.ca.display()
    );
    let mut agent = ship_through(&dir, &way);
    agent.start();
    for n in 0..100 {
        agent.post("t", &n.to_string());
    }
    until("an empty buffer", || (agent.waiting() == 0).then_some(()));
    assert!(agent.node.process.log().contains("over quic"));
    let want: Vec<_> = (0..100).map(|n| n.to_string()).collect();
    until("every event", || (decoded(&watch.log()).len() >= 100).then_some(()));
    assert_eq!(decoded(&watch.log()), want);
    // The broker goes in the middle of the work, and comes again. It forgets who subscribed: what it acknowledged
    // meanwhile is its own affair.
    broker.kill();
    agent.post("t", "100");
    broker.start();
    broker.says("listening");
    until("an empty buffer", || (agent.waiting() == 0).then_some(()));
    agent.node.stop();
}

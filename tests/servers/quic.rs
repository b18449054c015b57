//! A QUIC stack that is not quinn on the other side, both ways: aioquic.

use serde_json::json;

use super::mosquitto::Mosquitto;
use super::upstream::{decoded, ship_through};
use super::{python, require, script};
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

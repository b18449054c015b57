//! mosquitto_pub and paho-mqtt as clients of the centre.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::{Command, Stdio};

use serde_json::json;

use super::mosquitto::Mosquitto;
use super::{python, require, script};
use crate::harness::*;

struct Lab {
    centre: Centre,
    own: Files,
    port: String,
    dir: Dir,
}

impl Lab {
    fn new(test: &str) -> Self {
        let dir = Dir::new(test);
        let pki = Pki::new(&dir, "ca");
        let mut centre = Centre::new(&dir, &pki, SinkKind::File);
        centre.start();
        let port = centre.tls.to_string();
        Self { centre, own: pki.device("box-9"), port, dir }
    }

    /// Arguments of mosquitto_pub for TLS, as `who`.
    fn tls<'a>(&'a self, who: &'a str) -> Vec<&'a str> {
        let mut args =
            vec!["-h", "localhost", "-p", &self.port, "--cafile", self.centre.ca.to_str().unwrap()];
        match who {
            "box-9" => args.extend([
                "--cert",
                self.own.cert.to_str().unwrap(),
                "--key",
                self.own.key.to_str().unwrap(),
            ]),
            _ => args.extend(["-u", "box-7", "-P", "correct horse"]),
        }
        args
    }

    fn of(&self, topic: &str) -> Vec<serde_json::Value> {
        payloads(&self.centre.out).into_iter().filter(|(t, _)| t == topic).map(|(_, v)| v).collect()
    }
}

#[test]
fn mosquitto_pub_gets_its_puback_when_the_sink_has_the_message() {
    if !require("mosquitto") {
        return;
    }
    let lab = Lab::new("pub");
    for version in ["mqttv311", "mqttv5"] {
        for who in ["box-9", "box-7"] {
            for qos in ["0", "1", "2"] {
                let topic = format!("{version}/{who}/{qos}");
                let mut args = lab.tls(who);
                args.extend(["-V", version, "-q", qos, "-t", &topic, "-l"]);
                // With a name of its own choice, and with none.
                if qos != "0" {
                    args.extend(["-i", who]);
                }
                let ended = Mosquitto::pub_to(&args, "{\"n\":1}\n{\"n\":2}\ntext\n");
                if (version, qos) == ("mqttv5", "2") {
                    // The centre keeps no MQTT session, so it does not promise QoS 2; version 5 can be told.
                    assert!(ended.status != 0 && ended.err.contains("QoS not supported"), "{ended:?}");
                    assert_eq!(lab.of(&topic), Vec::<serde_json::Value>::new());
                    continue;
                }
                assert_eq!(ended.status, 0, "{topic}: {}", ended.err);
                let want = [json!({"n":1}), json!({"n":2}), json!("text")];
                if qos == "0" {
                    until(&topic, || (lab.of(&topic).len() == 3).then_some(()));
                }
                // No wait: it ended because all was acknowledged, and so it is there.
                assert_eq!(lab.of(&topic), want, "{topic}");
            }
        }
    }
    let ids: std::collections::HashSet<_> =
        events(&lab.centre.out).iter().map(|v| v["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(ids.len(), 30, "each has an id of its own");
    let count = |label: &str| lab.centre.metric("dts_connects_total", label);
    assert_eq!((count("version=\"3.1.1\""), count("version=\"5.0\"")), (6, 6));
}

#[test]
fn no_puback_before_the_sink_is_done() {
    if !require("mosquitto") {
        return;
    }
    // A sink that takes its time: this test answers its requests.
    let slow = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/in", slow.local_addr().unwrap());
    let dir = Dir::new("slow");
    let pki = Pki::new(&dir, "ca");
    let sink = format!("sink: {{type: http, url: \"{url}\"}}\n");
    let mut centre = Centre::to(&dir, &pki, dir.join("none"), "", &sink);
    centre.start();
    let port = centre.plain.to_string();
    let mut client = Command::new(script("mosquitto.sh"));
    client.args([
        "run",
        "mosquitto_pub",
        "-p",
        &port,
        "-u",
        "box-7",
        "-P",
        "correct horse",
        "-q",
        "1",
        "-t",
        "a",
    ]);
    let mut client = client.args(["-m", "{\"held\":1}"]).stdin(Stdio::null()).spawn().unwrap();
    let (mut request, _) = slow.accept().unwrap();
    let mut read = Vec::new();
    while !read.windows(4).any(|w| w == b"held") {
        let mut chunk = [0; 4096];
        let n = request.read(&mut chunk).unwrap();
        assert!(n > 0, "{}", String::from_utf8_lossy(&read));
        read.extend_from_slice(&chunk[..n]);
    }
    // The sink has the request and has not answered: the client waits.
    pause(500);
    assert!(client.try_wait().unwrap().is_none(), "acknowledged before the sink was done");
    request.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
    let status = until("the end of mosquitto_pub", || client.try_wait().unwrap());
    assert!(status.success());
}

#[test]
fn mosquitto_pub_is_refused_where_it_must_be() {
    if !require("mosquitto") {
        return;
    }
    let lab = Lab::new("refused");
    // As another device.
    for (version, qos) in [("mqttv5", "1"), ("mqttv311", "1"), ("mqttv311", "2"), ("mqttv5", "0")] {
        let mut args = lab.tls("box-9");
        args.extend(["-V", version, "-q", qos, "-t", "dts/v1/box-7/s", "-m", "{}"]);
        let ended = Mosquitto::pub_to(&args, "");
        let refused = lab.centre.metric("dts_publishes_refused_total", "not authorized");
        assert!(refused >= 1, "{version} {qos}: {ended:?}");
        if (version, qos) == ("mqttv5", "1") {
            assert!(ended.err.contains("ot authorized"), "{ended:?}");
        }
    }
    until("four refusals", || {
        (lab.centre.metric("dts_publishes_refused_total", "not authorized") >= 4).then_some(())
    });
    // With a wrong password, with none, under another's name.
    let ca = lab.centre.ca.to_str().unwrap();
    let base = ["-h", "localhost", "-p", &lab.port, "--cafile", ca, "-t", "a", "-m", "1", "-q", "1"];
    for (version, more) in [
        ("mqttv5", vec!["-u", "box-7", "-P", "wrong"]),
        ("mqttv311", vec!["-u", "box-7", "-P", "wrong"]),
        ("mqttv5", vec![]),
        ("mqttv311", vec![]),
        ("mqttv5", vec!["-u", "box-7", "-P", "correct horse", "-i", "box-8"]),
    ] {
        let ended = Mosquitto::pub_to(&[&base[..], &["-V", version], &more].concat(), "");
        assert_ne!(ended.status, 0, "{version} {more:?}: {ended:?}");
    }
    // It does not trust this centre, and so it says nothing.
    let other = Pki::new(&lab.dir, "other");
    let mut args = lab.tls("box-9");
    args[5] = other.ca.to_str().unwrap();
    args.extend(["-t", "a", "-m", "1", "-q", "1"]);
    assert_ne!(Mosquitto::pub_to(&args, "").status, 0);
    assert!(payloads(&lab.centre.out).is_empty());
    // And the centre is as well as before.
    let mut args = lab.tls("box-9");
    args.extend(["-t", "a", "-m", "1", "-q", "1"]);
    assert_eq!(Mosquitto::pub_to(&args, "").status, 0);
    assert_eq!(lab.of("a"), [json!(1)]);
}

#[test]
fn paho_publishes_in_both_versions_and_learns_why_it_is_refused() {
    if !require("python") {
        return;
    }
    let lab = Lab::new("paho");
    let certificate = json!({ "cert": lab.own.cert, "key": lab.own.key });
    let password = json!({ "user": "box-7", "password": "correct horse" });
    for (version, auth, device) in [
        (4, &certificate, "box-9"),
        (4, &password, "box-7"),
        (5, &certificate, "box-9"),
        (5, &password, "box-7"),
    ] {
        let topic = format!("paho/{version}/{device}");
        let mut args = json!({
            "host": "localhost", "port": lab.centre.tls, "ca": lab.centre.ca, "version": version, "id": device,
            "topic": topic, "count": 30, "out": lab.centre.out, "foreign": "dts/v1/other/s",
        });
        let more = auth.as_object().unwrap().clone();
        args.as_object_mut().unwrap().extend(more);
        let told = python("paho_client.py", &args);
        assert_eq!(told["connected"], 0, "{told}");
        // Each was at the sink when its acknowledgement came.
        assert_eq!(told["acked_and_there"], 30, "{told}");
        if version == 5 {
            assert_eq!(told["foreign"], 0x87, "{told}");
        } else {
            // 3.1.1 has no word for it but the end of the connection.
            assert_eq!(told["closed"], true, "{told}");
        }
        let want: Vec<_> = (0..30).map(|n| json!({ "n": n })).collect();
        assert_eq!(lab.of(&topic), want);
        if version == 5 {
            let all = events(&lab.centre.out);
            let one = all.iter().find(|v| v["topic"] == topic).unwrap();
            assert_eq!(one["headers"]["unit"], "kelvin", "{one}");
        }
    }
}

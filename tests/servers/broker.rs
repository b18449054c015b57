//! mosquitto as the broker that the source `mqtt` subscribes on and the sink `mqtt` publishes to.

use std::collections::HashSet;

use super::mosquitto::Mosquitto;
use super::require;
use crate::harness::*;

/// Each of the four ways in: topic, and its lines of the config.
fn ways(broker: &Mosquitto) -> Vec<(&'static str, String)> {
    let Mosquitto { port, ca, own, .. } = broker;
    let tls = format!("ca_file: {}", ca.display());
    let mtls = format!("{tls}, cert_file: {}, key_file: {}", own.cert.display(), own.key.display());
    vec![
        ("plain", format!("port: {port}")),
        ("password", format!("port: {}, version: 3.1.1, username: dts, password: dtspw", port + 1)),
        ("tls", format!("host: localhost, port: {}, tls: {{{tls}}}", port + 2)),
        ("mtls", format!("port: {}, tls: {{{mtls}}}", port + 3)),
    ]
}

fn lines(topic: &str, from: usize, to: usize) -> Vec<String> {
    (from..to).map(|n| format!("{{\"{topic}\":{n}}}")).collect()
}

#[test]
fn what_is_published_on_mosquitto_is_taken_whoever_is_away_meanwhile() {
    if !require("mosquitto") {
        return;
    }
    let dir = Dir::new("source");
    let broker = Mosquitto::start(&dir, "dts");
    let mut yaml = "sources:\n".to_owned();
    let ways = ways(&broker);
    for (topic, way) in &ways {
        yaml.push_str(&format!("  - {{type: mqtt, name: {topic}, topics: [{topic}/#], {way}}}\n"));
    }
    let out = dir.join("out.ndjson");
    yaml.push_str(&format!("buffer: {{}}\nsink: {{type: file, path: {}}}\n", out.display()));
    let mut node = Node::new(&dir, "box", &yaml);
    let subscribed = |node: &Node| {
        until("four subscriptions", || (node.process.log().matches("subscribed").count() >= 4).then_some(()));
    };
    let publish = |from: usize, to: usize| {
        for (topic, _) in &ways {
            broker.publish(&format!("{topic}/a"), &lines(topic, from, to));
        }
    };
    node.start();
    subscribed(&node);
    publish(0, 20);
    // Killed while it takes them, and away while more come.
    node.kill();
    publish(20, 40);
    node.start();
    subscribed(&node);
    publish(40, 60);
    // The broker goes, and comes again with its sessions.
    let all_there = |count: usize| {
        until(&format!("{count} messages each way"), || {
            let seen: HashSet<_> = payloads(&out).into_iter().map(|(t, v)| (t, v.to_string())).collect();
            (seen.len() >= count * ways.len()).then_some(())
        });
    };
    all_there(60);
    broker.stop();
    broker.again();
    until("four subscriptions again", || {
        (node.process.log().matches("subscribed").count() >= 8).then_some(())
    });
    publish(60, 80);
    all_there(80);
    // Both away.
    node.stop();
    publish(80, 90);
    broker.stop();
    broker.again();
    node.start();
    all_there(90);
    node.stop();
    // QoS 1 may repeat after a kill; the first of each came in order.
    for (topic, _) in &ways {
        let mut seen = HashSet::new();
        let all = payloads(&out);
        let of = all.iter().filter(|(t, _)| *t == format!("{topic}/a"));
        let first: Vec<_> = of.map(|(_, v)| v.to_string()).filter(|v| seen.insert(v.clone())).collect();
        assert_eq!(first, lines(topic, 0, 90));
    }
}

#[test]
fn the_sink_mqtt_publishes_on_mosquitto_and_waits_while_it_is_away() {
    if !require("mosquitto") {
        return;
    }
    let dir = Dir::new("sink");
    let broker = Mosquitto::start(&dir, "dts");
    let mut watch = broker.subscribe(&dir, "out/#", "%t %p");
    let mut posted: Vec<String> = Vec::new();
    for (way, config) in ways(&broker) {
        let sink = format!(
            "buffer: {{}}\nsink: {{type: mqtt, topic: \"out/{{topic}}\", payload: body, {config}}}\n"
        );
        let mut agent = Agent::with(&dir, way, &sink, "");
        let mut post = |agent: &Agent, from: usize, to: usize| {
            for n in from..to {
                agent.post(way, &n.to_string());
                posted.push(format!("out/{way} {n}"));
            }
        };
        agent.start();
        post(&agent, 0, 10);
        if way == "tls" {
            broker.stop();
            post(&agent, 10, 20);
            broker.again();
        }
        post(&agent, 20, 30);
        until("an empty buffer", || (agent.waiting() == 0).then_some(()));
        agent.node.stop();
    }
    until("every message at the subscriber", || {
        let log = watch.log();
        let seen: HashSet<_> = log.lines().collect();
        posted.iter().all(|line| seen.contains(line.as_str())).then_some(())
    });
    watch.kill();
    // In order, those that came twice after the restart apart.
    let log = watch.log();
    let mut seen = HashSet::new();
    let first: Vec<_> = log.lines().filter(|l| !l.ends_with("hello") && seen.insert(*l)).collect();
    assert_eq!(first, posted);
}

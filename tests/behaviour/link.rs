//! The way from an agent to its centre: narrow, through a proxy, in bursts, with a budget, from another address.

use std::sync::atomic::Ordering::Relaxed;

use crate::harness::*;

/// A centre that writes to a file.
fn centre(dir: &Dir) -> (Pki, Centre) {
    let pki = Pki::new(dir, "ca");
    let mut centre = Centre::new(dir, &pki, SinkKind::File);
    centre.start();
    (pki, centre)
}

fn arrived(centre: &Centre, least: usize) {
    until(&format!("{least} events"), || (payloads(&centre.out).len() >= least).then_some(()));
}

/// The wishes of the link policy since `from`, in order.
fn wishes(log: &str, from: usize) -> Vec<String> {
    let wish = |line: &str| Some(line.split_once("link: ")?.1.trim().to_owned());
    log.get(from..).unwrap_or_default().lines().filter_map(wish).collect()
}

#[test]
fn a_path_that_swallows_large_datagrams_is_left_to_tcp_and_remembered() {
    let dir = Dir::new("narrow");
    let (pki, mut centre) = centre(&dir);
    let path = UdpPath::start(centre.quic, 1000);
    let sink = centre.sink(&pki.device("box"));
    let sink = sink.replace(&format!("quic_port: {}", centre.quic), &format!("quic_port: {}", path.port));
    let mut agent = Agent::with(&dir, "box", &sink, "log:\n  level: debug\n");
    agent.start();
    agent.post("t", "1");
    arrived(&centre, 1);
    assert!(path.swallowed.load(Relaxed) > 0);
    let log = agent.node.process.log();
    assert!(log.contains("over tls") && !log.contains("over quic"), "{log}");

    // The next time on this network nobody waits for QUIC's head start.
    let from = agent.node.process.log().len();
    centre.node.kill();
    centre.start();
    agent.post("t", "2");
    arrived(&centre, 2);
    let wishes = wishes(&agent.node.process.log(), from);
    let first = wishes.iter().position(|w| w == "Dial(Quic)").expect("QUIC is tried again");
    assert_eq!(wishes.get(first + 1).map(String::as_str), Some("Dial(Tls)"), "{wishes:?}");
    assert!(!agent.node.process.log().contains("over quic"));
}

#[test]
fn tcp_goes_through_an_http_proxy_that_wants_a_password() {
    let dir = Dir::new("proxy");
    let (pki, centre) = centre(&dir);
    // `me:secret-word`
    let proxy = HttpProxy::start("bWU6c2VjcmV0LXdvcmQ=");
    let own = pki.device("box");
    let sink = |password: &str| {
        format!(
            "{}  transports: [tls]\n  proxy: http://me:{password}@127.0.0.1:{}\n",
            centre.sink(&own),
            proxy.port
        )
    };
    let mut agent = Agent::with(&dir, "box", &sink("wrong-word"), "");
    agent.start();
    agent.post("t", "1");
    until("two refusals", || (proxy.refused.load(Relaxed) >= 2).then_some(()));
    assert!(agent.metric("dts_ship_dial_failures_total", "reason=\"proxy\"") >= 1);
    assert_eq!(agent.waiting(), 1);
    agent.node.stop();
    let text = std::fs::read_to_string(&agent.node.config).unwrap();
    std::fs::write(&agent.node.config, text.replace("wrong-word", "secret-word")).unwrap();
    agent.start();
    arrived(&centre, 1);
    assert!(proxy.tunnels.load(Relaxed) >= 1);
    let log = agent.node.process.whole_log();
    assert!(log.contains("it wants a user and password, or other ones"), "{log}");
    assert!(!log.contains("secret-word") && !log.contains("wrong-word"), "{log}");
}

#[test]
fn a_budget_that_is_used_up_ends_the_day_even_over_a_restart() {
    let dir = Dir::new("budget");
    let (pki, centre) = centre(&dir);
    let sink = format!("{}  data_budget: 64KiB\n", centre.sink(&pki.device("box")));
    let mut agent = Agent::with(&dir, "box", &sink, "");
    agent.start();
    let mut posted = 0;
    let mut post = |agent: &Agent| {
        // What does not compress.
        let noise: String = (0..4096).map(|_| fastrand::alphanumeric()).collect();
        agent.post("t", &format!("{{\"n\":{posted},\"noise\":\"{noise}\"}}"));
        posted += 1;
        posted
    };
    until("the end of the budget", || {
        post(&agent);
        let up = agent.metric("dts_link_up", "");
        (agent.metric("dts_link_wire_bytes_total", "") >= 64 << 10 && up == 0).then_some(())
    });
    let connections = agent.metric("dts_ship_connections_total", "");
    for _ in 0..20 {
        post(&agent);
    }
    pause(500);
    assert_eq!(agent.metric("dts_ship_connections_total", ""), connections, "the link rests");
    assert!(agent.waiting() >= 20);
    // Neither a power cut nor an orderly restart makes a new day.
    for orderly in [false, true] {
        if orderly {
            agent.node.stop();
        } else {
            agent.node.kill();
        }
        agent.start();
        pause(1500);
        assert_eq!(agent.metric("dts_ship_connections_total", ""), 0, "orderly: {orderly}");
        assert!(agent.waiting() >= 20);
    }
    agent.node.stop();
    // Whoever pays for more gets more.
    let text = std::fs::read_to_string(&agent.node.config).unwrap();
    std::fs::write(&agent.node.config, text.replace("64KiB", "1GiB")).unwrap();
    agent.start();
    let all = post(&agent);
    until("an empty buffer", || (agent.waiting() == 0).then_some(()));
    let numbers: Vec<_> = payloads(&centre.out).iter().map(|(_, p)| p["n"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (0..all as u64).collect::<Vec<_>>());
}

#[test]
fn a_burst_link_connects_for_a_reason_and_rests_in_between() {
    let dir = Dir::new("burst");
    let (pki, centre) = centre(&dir);
    let alarms = port();
    let more = format!(
        "  - type: http\n    name: alarms\n    listen: 127.0.0.1:{alarms}\n    lane: alarms\n\
         buffer:\n  lanes:\n    default: {{}}\n    alarms: {{weight: 10}}\n"
    );
    let sink = format!(
        "{}  link:\n    every: 1h\n    bytes: 8KiB\n    urgent: [alarms]\n    linger: 100ms\n",
        centre.sink(&pki.device("box"))
    );
    let mut agent = Agent::with(&dir, "box", &sink, &more);
    agent.start();
    let rests = |agent: &Agent, times: u64| {
        until(&format!("the rest after burst {times}"), || {
            let (up, made) =
                (agent.metric("dts_link_up", ""), agent.metric("dts_ship_connections_total", ""));
            (up == 0 && made == times).then_some(())
        });
    };
    // It looks at once whether there is something for it to know.
    rests(&agent, 1);
    agent.post("t", "1");
    pause(1500);
    assert_eq!((agent.waiting(), payloads(&centre.out).len()), (1, 0), "one small event is no reason");
    // An alarm is, and takes along what waits.
    post(alarms, "fire", "2").unwrap();
    arrived(&centre, 2);
    rests(&agent, 2);
    assert_eq!(agent.waiting(), 0);
    // So is enough of anything.
    for n in 0..3 {
        agent.post("t", &format!("\"{n}{}\"", "x".repeat(4096)));
    }
    arrived(&centre, 5);
    rests(&agent, 3);
    assert_eq!(agent.waiting(), 0);
}

/// In a network of its own, whose addresses the test may change: a thread's children live where it lives.
#[test]
fn quic_survives_a_change_of_address() {
    // SAFETY: only this test's thread leaves the network, and it ends with the test.
    if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
        return println!("skipped: no rights for a network namespace");
    }
    let ip = |args: &str| {
        let done = std::process::Command::new("ip").args(args.split(' ')).output();
        done.is_ok_and(|out| out.status.success())
    };
    if !ip("link set lo up") {
        return println!("skipped: no `ip`");
    }
    for n in 1..=3 {
        assert!(ip(&format!("address add 10.9.0.{n}/32 dev lo")));
    }
    let leave_from = |n: u8| {
        assert!(ip(&format!("route change local 10.9.0.1 dev lo table local src 10.9.0.{n}")));
    };
    leave_from(2);

    let dir = Dir::new("rebind");
    let mut pki = Pki::new(&dir, "ca");
    pki.server = pki.server("server", |p| {
        p.subject_alt_names = vec![rcgen::SanType::DnsName("localhost".try_into().unwrap())];
    });
    let mut centre = Centre::new(&dir, &pki, SinkKind::File);
    let text = std::fs::read_to_string(&centre.node.config).unwrap();
    let text = text.replace("quic: 127.0.0.1", "quic: 10.9.0.1");
    std::fs::write(&centre.node.config, text).unwrap();
    centre.start();
    let sink = centre.sink(&pki.device("box")).replace("address: 127.0.0.1", "address: 10.9.0.1");
    let sink = format!("{sink}  transports: [quic]\n");
    let mut agent = Agent::with(&dir, "box", &sink, "log:\n  level: debug\n");
    agent.start();
    agent.post("t", "1");
    arrived(&centre, 1);
    for (n, from, gone) in [(2, 3, 2), (3, 2, 3)] {
        let before = agent.node.process.log().matches("link: Rebind(Quic)").count();
        assert!(ip(&format!("address replace 10.9.0.{from}/32 dev lo")));
        leave_from(from);
        assert!(ip(&format!("address del 10.9.0.{gone}/32 dev lo")));
        until("the new address is seen", || {
            (agent.node.process.log().matches("link: Rebind(Quic)").count() > before).then_some(())
        });
        agent.post("t", &n.to_string());
        arrived(&centre, n);
    }
    assert_eq!(agent.metric("dts_ship_connections_total", ""), 1, "it is the same connection");
    assert_eq!(payloads(&centre.out).len(), 3);
}

#[test]
fn server_busy_is_obeyed() {
    let dir = Dir::new("busy");
    let pki = Pki::new(&dir, "ca");
    let more = "  max_connections: 1\n  retry_after: 10s\n";
    let mut centre = Centre::with(&dir, &pki, SinkKind::File, more);
    centre.start();
    // Somebody else has the only seat.
    let mut other = Mqtt::plain(centre.plain);
    assert_eq!(other.connect(connect_as("box-7", dts::mqtt::Version::V5)).reason, 0);
    let mut agent = Agent::new(&dir, &pki, "box", &centre);
    agent.start();
    agent.post("t", "1");
    centre.counts("dts_connects_refused_total", "full", 1);
    let refused = centre.metric("dts_connects_refused_total", "full");
    // `backoff_max` is 1 s here: who does not listen comes back a few times.
    pause(4000);
    assert_eq!(centre.metric("dts_connects_refused_total", "full"), refused);
    drop(other);
    arrived(&centre, 1);
}

#[test]
fn the_back_off_survives_a_kill() {
    let dir = Dir::new("backoff");
    let pki = Pki::new(&dir, "ca");
    let centre = Centre::new(&dir, &pki, SinkKind::File);
    // Nobody is there.
    let sink = centre.sink(&pki.device("box")).replace("backoff_max: 1s", "backoff_max: 1h");
    let mut agent = Agent::with(&dir, "box", &sink, "");
    agent.start();
    // In a copy: the agent has its own for itself.
    let (state, look) = (agent.node.state.clone(), dir.join("look"));
    std::fs::create_dir(&look).unwrap();
    let level = || {
        for copy in ["identity.a", "identity.b"] {
            std::fs::copy(state.join(copy), look.join(copy)).unwrap();
        }
        let identity = dts::identity::Identity::open(&look, &mut fastrand::Rng::new());
        identity.map_or(0, |identity| identity.memory().backoff_level)
    };
    until("a back-off that has grown", || (level() >= 2).then_some(()));
    agent.node.kill();
    assert!(level() >= 2);
}

#[test]
fn check_connect_says_what_is_reached_and_what_is_not() {
    let dir = Dir::new("check");
    let pki = Pki::new(&dir, "ca");
    let foreign = Pki::new(&dir, "foreign");
    let mut centre = Centre::new(&dir, &pki, SinkKind::File);
    let own = pki.device("box");
    let agent = Agent::with(&dir, "box", &centre.sink(&own), "");
    // Nobody there yet: on its side all is well.
    let (status, out) = centre.node.ask(&["check", "--connect"]);
    assert_eq!(status, 0, "{out}");
    assert!(out.contains("ok     source devices: can listen on quic 127.0.0.1:"), "{out}");
    let (status, out) = agent.node.ask(&["check", "--connect"]);
    assert_eq!(status, 1, "{out}");
    assert!(out.contains("FAILED sink centre: "), "{out}");
    assert!(out.contains("ok     source posts: "), "{out}");
    centre.start();
    let (status, out) = agent.node.ask(&["check", "--connect"]);
    assert_eq!(status, 0, "{out}");
    assert!(
        out.contains("ok     sink centre: reached quic at 127.0.0.1:") && out.contains(", tls at "),
        "{out}"
    );
    let (status, out) = agent.node.ask(&["check", "--connect", "--json"]);
    let report: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((status, &report["ok"]), (0, &serde_json::json!(true)));
    assert_eq!(report["connections"].as_array().unwrap().len(), 2);
    // The port is taken: by the centre that runs.
    let (status, out) = centre.node.ask(&["check", "--connect"]);
    assert_eq!(status, 1, "{out}");
    assert!(out.contains("FAILED source devices: "), "{out}");
    // One that this CA did not sign.
    let text = std::fs::read_to_string(&agent.node.config).unwrap();
    let text = text.replace(&pki.ca.display().to_string(), &foreign.ca.display().to_string());
    std::fs::write(&agent.node.config, text).unwrap();
    let (status, out) = agent.node.ask(&["check", "--connect"]);
    assert_eq!(status, 1, "{out}");
    assert!(out.contains("not signed by a CA that dts was told to trust"), "{out}");
    // Nothing of it is left behind, and nothing was sent.
    assert!(payloads(&centre.out).is_empty());
}

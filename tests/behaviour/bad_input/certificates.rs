//! Certificates that are not good, on either side: refused, said once, tried again at leisure; nothing is lost, and
//! all is well when the right file is there.

use rcgen::date_time_ymd;

use crate::harness::*;

/// Who has the wrong certificate.
struct Case {
    what: &'static str,
    /// The agent's: own certificate and CA.
    own: Files,
    ca: std::path::PathBuf,
    /// Whether the centre's is the wrong one.
    old_server: bool,
}

#[test]
fn wrong_certificates_are_refused_and_said_once_and_nothing_is_lost() {
    let dir = Dir::new("certs");
    let pki = Pki::new(&dir, "ca");
    let foreign = Pki::new(&dir, "foreign");
    let expired = |params: &mut rcgen::CertificateParams| {
        params.not_before = date_time_ymd(2019, 1, 1);
        params.not_after = date_time_ymd(2020, 1, 1);
    };
    let mut centre = Centre::new(&dir, &pki, SinkKind::File);
    centre.start();
    // A second one, whose own certificate has expired.
    let old = Dir::new("certs-old");
    let mut old_pki = Pki::new(&old, "ca");
    old_pki.server = old_pki.server("old", expired);
    let mut old_centre = Centre::new(&old, &old_pki, SinkKind::File);
    old_centre.start();

    let case = |what, own: &Files, ca: &std::path::Path| Case {
        what,
        own: own.clone(),
        ca: ca.to_owned(),
        old_server: false,
    };
    let cases = [
        case("wrong-ca", &pki.device("wrong-ca"), &foreign.ca),
        case("foreign", &foreign.device("foreign"), &pki.ca),
        case("expired", &pki.device_with("expired", "expired", expired), &pki.ca),
        Case { old_server: true, ..case("old-centre", &old_pki.device("old-centre"), &old_pki.ca) },
    ];
    let mut agents = Vec::new();
    for Case { what, own, ca, old_server } in cases {
        let at = if old_server { &old_centre } else { &centre };
        let sink = at.sink(&own).replace(&at.ca.display().to_string(), &ca.display().to_string());
        let mut agent = Agent::with(&dir, what, &sink, "");
        agent.start();
        agent.post("t", &format!("\"{what}\""));
        agents.push((what, agent));
    }
    for (what, agent) in &mut agents {
        until(&format!("four refusals of {what}"), || {
            (agent.metric("dts_ship_dial_failures_total", "reason=\"tls\"") >= 4).then_some(())
        });
        assert!(agent.node.process.runs());
        let log = agent.node.process.log();
        let of_it = |l: &&str| l.contains("WARN") && l.contains("driver") && l.contains("certificate");
        let said = log.lines().filter(of_it).count();
        assert!((1..=2).contains(&said), "{what}: one line for QUIC, one for TLS:\n{log}");
        assert!(!log.contains("connected to"), "{what}");
        assert_eq!(agent.waiting(), 1, "{what}");
    }
    assert!(payloads(&centre.out).is_empty() && payloads(&old_centre.out).is_empty());
    let said = centre.node.process.log();
    assert!(said.matches("WARN").count() <= 4, "a warning a kind:\n{said}");

    // The right files make all well, without a loss.
    for (what, agent) in &mut agents {
        agent.node.stop();
        let own = pki.device_with(&format!("{what}-again"), what, |_| {});
        let sink = centre.sink(&own);
        let text = std::fs::read_to_string(&agent.node.config).unwrap();
        let head = text.split("sink:\n").next().unwrap();
        std::fs::write(&agent.node.config, format!("{head}{sink}")).unwrap();
        agent.start();
        until(&format!("the event of {what}"), || {
            payloads(&centre.out).contains(&("t".to_owned(), serde_json::json!(what))).then_some(())
        });
    }
}

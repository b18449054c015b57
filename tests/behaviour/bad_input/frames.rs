//! Frames that the centre does not take.

use crate::harness::*;

/// JSON text of `bytes` that does not compress well.
fn noise(bytes: usize, rng: &mut fastrand::Rng) -> String {
    let text: String = std::iter::repeat_with(|| rng.alphanumeric()).take(bytes).collect();
    format!("\"{text}\"")
}

#[test]
fn a_frame_too_large_for_the_peer_is_split_and_a_row_too_large_is_kept_aside_and_reported() {
    let dir = Dir::new("large");
    let pki = Pki::new(&dir, "ca");
    let mut centre =
        Centre::with(&dir, &pki, SinkKind::Mirror, "  max_packet_bytes: 32KiB\n  max_body_bytes: 32KiB\n");
    let mut agent = Agent::new(&dir, &pki, "box", &centre);
    agent.start();
    let mut rng = fastrand::Rng::with_seed(5);
    // One stored batch of about 100 KiB, then a row of 60 KiB, then others.
    let rows: Vec<_> = (0..50).map(|_| noise(2000, &mut rng)).collect();
    let kind = [("Content-Type", "application/x-ndjson")];
    let answer = request(agent.posts, "POST", "/many", &kind, rows.join("\n").as_bytes()).unwrap();
    assert_eq!(answer.status, 202, "{}", answer.body);
    agent.post("large", &noise(60 << 10, &mut rng));
    let rest: Vec<_> = (0..20).map(|n| n.to_string()).collect();
    for row in &rest {
        agent.post("rest", row);
    }
    centre.start();
    until("all but the large row", || (messages(&centre.out).len() >= 70).then_some(()));
    until("the report of the loss", || (!losses(&centre.out).is_empty()).then_some(()));
    until("an empty buffer", || (agent.waiting() == 0).then_some(()));
    let all = messages(&centre.out);
    let of =
        |topic: &str| all.iter().filter(|m| m.topic == topic).map(|m| m.payload.clone()).collect::<Vec<_>>();
    assert_eq!(of("many"), rows);
    assert_eq!(of("rest"), rest);
    assert!(of("large").is_empty());
    assert_eq!(losses(&centre.out), [("refused".to_owned(), 1)]);
    assert!(agent.node.process.log().contains("kept aside"));
    // It was not found out by reconnecting again and again.
    assert!(centre.metric("dts_connects_total", "") <= 3, "{}", centre.metric("dts_connects_total", ""));
    agent.node.stop();
    centre.node.stop();
}

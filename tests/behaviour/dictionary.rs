//! Frames compressed with a dictionary, from the samples to the centre.

use crate::harness::*;

fn row(n: usize) -> String {
    format!(
        "{{\"n\":{n},\"machine\":\"press-{}\",\"celsius\":{},\"bar\":{},\"state\":\"running\"}}",
        n % 5,
        n * 37 % 90,
        n * 13 % 7
    )
}

#[test]
fn a_trained_dictionary_makes_frames_smaller_and_an_unknown_one_is_not_used() {
    let dir = Dir::new("dictionary");
    let pki = Pki::new(&dir, "ca");
    let own = pki.device("box");
    // Samples from a buffer with data in it, as a user would take them.
    let no_centre = Centre::new(&dir, &pki, SinkKind::File);
    let collector_dir = Dir::new("dictionary-samples");
    let mut collector = Agent::with(&collector_dir, "box", &no_centre.sink(&own), "");
    collector.start();
    for n in 0..300 {
        collector.post("t", &row(n));
    }
    let samples = dir.join("samples");
    let path = samples.display().to_string();
    let (status, out) = collector.node.ask(&["spool", "samples", "--output", &path]);
    assert_eq!((status, out.as_str()), (1, ""), "an agent runs on it");
    collector.node.stop();
    let (status, out) = collector.node.ask(&["spool", "samples", "--output", &path]);
    assert_eq!(status, 0, "{out}");
    assert!(out.contains("zstd --train"), "{out}");
    let files: Vec<_> = std::fs::read_dir(&samples).unwrap().map(|e| e.unwrap().path()).collect();
    assert!(files.len() >= 100, "{out}");
    // What `zstd --train` does.
    let trained = zstd::dict::from_files(&files, 8 << 10).unwrap();
    let dictionary = dir.write("dts.dict", trained);

    // The same events by each of: zstd alone; with a dictionary that the centre lacks; with one that it has.
    let known = format!("  zstd_dictionary_files: [{}]\n", dictionary.display());
    let with = format!("  zstd_dictionary_file: {}\n", dictionary.display());
    let mut bytes = Vec::new();
    for (name, at_centre, at_agent) in [
        ("alone", known.as_str(), ""),
        ("unknown", "", with.as_str()),
        ("both", known.as_str(), with.as_str()),
    ] {
        let dir = Dir::new(&format!("dict-{name}"));
        let mut centre = Centre::with(&dir, &pki, SinkKind::File, at_centre);
        centre.start();
        let sink = format!("{}  codec: zstd\n{at_agent}", centre.sink(&own));
        let mut agent = Agent::with(&dir, "box", &sink, "");
        agent.start();
        agent.post("t", &row(0));
        until("the first event", || (payloads(&centre.out).len() == 1).then_some(()));
        // One at a time, so that the batches are alike.
        let before = centre.metric("dts_frame_wire_bytes_total", "");
        for n in 1..=30 {
            agent.post("t", &row(n));
            until("the event", || (payloads(&centre.out).len() == n + 1).then_some(()));
        }
        bytes.push(centre.metric("dts_frame_wire_bytes_total", "") - before);
        let want: Vec<serde_json::Value> = (0..=30).map(|n| serde_json::from_str(&row(n)).unwrap()).collect();
        let seen: Vec<_> = payloads(&centre.out).into_iter().map(|(_, p)| p).collect();
        assert_eq!(seen, want, "{name}");
        assert_eq!(centre.metric("dts_frames_bad_total", ""), 0, "{name}");
    }
    eprintln!("bytes of 30 frames: {bytes:?}");
    assert!(bytes[2] < bytes[0] && bytes[2] < bytes[1], "{bytes:?}");
}

#[test]
fn what_cannot_be_a_dictionary_is_said_at_the_start() {
    let dir = Dir::new("no-dictionary");
    let pki = Pki::new(&dir, "ca");
    let raw = dir.write("raw.dict", "no id in here");
    let at = format!("  zstd_dictionary_files: [{}]\n", raw.display());
    let centre = Centre::with(&dir, &pki, SinkKind::File, &at);
    let (status, out) = centre.node.ask(&["check", "--connect"]);
    assert_eq!(status, 1, "{out}");
    assert!(out.contains("it is no dictionary of `zstd --train`"), "{out}");
    // For another codec it is a mistake in the config.
    let sink = format!("{}  zstd_dictionary_file: {}\n", centre.sink(&pki.device("box")), raw.display());
    let agent = Agent::with(&dir, "box", &sink, "");
    let out = std::process::Command::new(env!("CARGO_BIN_EXE_dts"))
        .args(["check", "--config"])
        .arg(&agent.node.config)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(2), "{said}");
    assert!(said.contains("`zstd_dictionary_file` is for `codec: zstd`"), "{said}");
}

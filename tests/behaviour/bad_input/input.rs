//! A wrong config, and bodies that are no events.

use std::process::Command;

use crate::harness::*;

#[test]
fn a_wrong_config_is_refused_with_all_its_mistakes_at_once() {
    let dir = Dir::new("config");
    let config = dir.write(
        "wrong.yaml",
        "device:
  name: a/b
source:
  type: http
  listn: 127.0.0.1:8080
sink:
  type: sqlit
buffer:
  max_bytes: twelve
log:
  level: loud
",
    );
    for command in ["run", "check"] {
        let mut dts = Command::new(env!("CARGO_BIN_EXE_dts"));
        let out = dts.args([command, "--config", config.to_str().unwrap()]).output().unwrap();
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!(out.status.code(), Some(2), "{said}");
        assert!(out.stdout.is_empty());
        // Line, column, and the nearest right name.
        for part in [
            ":2:9: ",
            ":5:3: ",
            "did you mean `listen`?",
            ":7:9: ",
            "did you mean `sqlite`?",
            ":9:14: ",
            ":11:10: ",
            "5 mistakes",
        ] {
            assert!(said.contains(part), "`{part}` is missing:\n{said}");
        }
    }
    let mut dts = Command::new(env!("CARGO_BIN_EXE_dts"));
    let out = dts.args(["run", "--config", "/nowhere/dts.yaml"]).output().unwrap();
    assert_eq!(out.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&out.stderr).contains("/nowhere/dts.yaml"));
}

/// An agent that needs no centre: its buffer goes to a file.
fn to_file(dir: &Dir) -> (Agent, std::path::PathBuf) {
    let out = dir.join("out.ndjson");
    let sink = format!("buffer: {{}}\nsink:\n  type: file\n  path: {}\n", out.display());
    (Agent::with(dir, "box", &sink, ""), out)
}

#[test]
fn a_bad_body_is_refused_and_nothing_of_it_is_stored() {
    let dir = Dir::new("body");
    let (mut agent, out) = to_file(&dir);
    agent.start();
    let json = "application/json";
    let lines = "application/x-ndjson";
    let deep = format!("{}1{}", "[".repeat(500), "]".repeat(500));
    let big = format!("\"{}\"", "x".repeat(2 << 20));
    let cases: [(&str, &str, &[u8], u16); 10] = [
        ("broken", json, b"{\"a\": ", 400),
        ("two values", json, b"{} {}", 400),
        ("not UTF-8", json, b"\"\xff\"", 400),
        ("a lone surrogate is JSON, a bad escape is not", json, b"\"\\x\"", 400),
        ("too deep", json, deep.as_bytes(), 400),
        ("too big", json, big.as_bytes(), 413),
        ("a broken line among good ones", lines, b"{\"n\":1}\n{\"n\":\n{\"n\":3}\n", 400),
        ("a deep line among good ones", lines, &[b"1\n", deep.as_bytes(), b"\n2\n"].concat(), 400),
        ("nothing", json, b"", 400),
        ("nothing but empty lines", lines, b"\n\n\n", 400),
    ];
    for (what, kind, body, status) in cases {
        let answer = request(agent.posts, "POST", "/t", &[("Content-Type", kind)], body).unwrap();
        assert_eq!(answer.status, status, "{what}: {}", answer.body);
        assert!(answer.body.contains("error"), "{what}: {}", answer.body);
    }
    let topics = [("/", 404), ("/a%", 404), ("/a+b", 404), ("/%ff", 404)];
    for (path, status) in topics {
        let answer = request(agent.posts, "POST", path, &[("Content-Type", json)], b"1").unwrap();
        assert_eq!(answer.status, status, "{path}");
    }
    // It goes on, and what came before and behind was not stored in part.
    agent.post("t", "{\"good\":true}");
    until("the good event", || (!ndjson(&out).is_empty()).then_some(()));
    agent.node.stop();
    assert_eq!(payloads(&out), [("t".to_owned(), serde_json::json!({"good": true}))]);
}

#[test]
fn a_row_larger_than_any_frame_is_refused_at_the_input() {
    let dir = Dir::new("row");
    let (mut agent, out) = to_file(&dir);
    agent.start();
    let text = |n: usize| format!("\"{}\"", "x".repeat(n));
    let answer = post(agent.posts, "t", &text(200 << 10)).unwrap();
    assert_eq!(answer.status, 413, "{}", answer.body);
    // Among small ones it takes them with it: all or none.
    let lines = format!("1\n{}\n2\n", text(200 << 10));
    let kind = [("Content-Type", "application/x-ndjson")];
    let answer = request(agent.posts, "POST", "/t", &kind, lines.as_bytes()).unwrap();
    assert_eq!(answer.status, 413, "{}", answer.body);
    // As large as a frame takes is taken, and many rows that are larger together.
    agent.post("t", &text(110 << 10));
    let lines = format!("{}\n", text(50 << 10)).repeat(5);
    let answer = request(agent.posts, "POST", "/t", &kind, lines.as_bytes()).unwrap();
    assert_eq!(answer.status, 202, "{}", answer.body);
    until("six events", || (ndjson(&out).len() >= 6).then_some(()));
    agent.node.stop();
    let sizes: Vec<_> = payloads(&out).iter().map(|(_, v)| v.as_str().unwrap().len()).collect();
    assert_eq!(sizes, [110 << 10, 50 << 10, 50 << 10, 50 << 10, 50 << 10, 50 << 10]);
}

use std::sync::Arc;

use futures_lite::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::clock::Stamp;
use crate::config::Field;
use crate::config::field::Context;
use crate::config::node::{Kind, Node, Place};
use crate::event::Batch;
use crate::source::Submission;

fn config(fields: &[(&str, &str)]) -> Config {
    let place = Place::default();
    let scalar = |t: &str| Node { place, kind: Kind::Scalar { text: t.into(), plain: true } };
    let map = fields.iter().map(|(k, v)| ((*k).to_owned(), place, scalar(v))).collect();
    let mut cx = Context::default();
    Config::read(&Node { place, kind: Kind::Map(map) }, &mut cx).unwrap()
}

/// Runs the source on a Unix socket, sends `request` for each, and gives the answers and what was stored.
fn talk(fields: &[(&str, &str)], requests: &[Vec<u8>], refuse: Option<Refused>) -> (Vec<String>, Vec<Batch>) {
    let path =
        std::env::temp_dir().join(format!("dts-http-{}-{}.sock", std::process::id(), fastrand::u64(..)));
    let listen = format!("unix:{}", path.display());
    let mut fields = fields.to_vec();
    fields.push(("listen", &listen));
    let source = config(&fields).build("in").unwrap();
    runtime::block_on(async {
        let (tx, rx) = async_channel::bounded::<Submission>(8);
        let (stopper, stop) = Stop::new();
        let outlet = Outlet::new("in".into(), "data".into(), Stamp::new(|| 1), 100_000, Arc::new([]), tx);
        let running = runtime::spawn(source.run(outlet, stop));
        let stored = runtime::spawn(async move {
            let mut stored = Vec::new();
            while let Ok(s) = rx.recv().await {
                let answer = refuse.clone().map_or(Ok(()), Err);
                if answer.is_ok() {
                    stored.push(s.batch);
                }
                s.done.try_send(answer).ok();
            }
            stored
        });
        let mut answers = Vec::new();
        for request in requests {
            let mut client = loop {
                if let Ok(c) = async_net::unix::UnixStream::connect(&path).await {
                    break c;
                }
                runtime::sleep(std::time::Duration::from_millis(2)).await;
            };
            // One that is refused early is not read to its end.
            client.write_all(request).await.ok();
            let mut answer = String::new();
            client.read_to_string(&mut answer).await.ok();
            answers.push(answer);
        }
        stopper.stop();
        running.await.unwrap();
        (answers, stored.await)
    })
}

fn post(path: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let mut r = format!(
        "POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n",
        body.len()
    )
    .into_bytes();
    r.extend_from_slice(body);
    r
}

fn status(answer: &str) -> u16 {
    answer.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0)
}

const JSON: &str = "Content-Type: application/json\r\n";
const NDJSON: &str = "Content-Type: application/x-ndjson\r\n";

#[test]
fn json_ndjson_text_and_bytes_become_messages() {
    let requests = [
        post("/a/b%20c", JSON, b" {\"x\":1} "),
        post("/n", NDJSON, b"{\"k\":1}\n\n[2]\n"),
        post("/t", "", b"plain"),
        post("/b", "", b"\xff\x00"),
    ];
    let (answers, stored) = talk(&[("key_field", "x")], &requests, None);
    assert!(answers.iter().all(|a| status(a) == 202), "{answers:?}");
    let values: Vec<Vec<String>> = stored
        .iter()
        .flat_map(|b| {
            b.iter()
                .map(|r| {
                    r.unwrap()
                        .newest()
                        .unwrap()
                        .unwrap()
                        .iter()
                        .map(|(_, v)| format!("{v:?}"))
                        .collect::<Vec<_>>()
                })
                .collect::<Vec<_>>()
        })
        .collect();
    assert_eq!(values.len(), 5);
    assert_eq!(values[0][..3], ["Text(\"1\")", "Text(\"a/b c\")", "Text(\"{\\\"x\\\":1}\")"]);
    assert_eq!(values[2][2], "Text(\"[2]\")");
    assert_eq!(values[3][3], "Text(\"plain\")");
    assert_eq!(values[4][4], "Bytes([255, 0])");
}

#[test]
fn bad_requests_are_refused_and_nothing_is_stored() {
    let deep = "[".repeat(200) + &"]".repeat(200);
    let cases = [
        (post("/t", JSON, b"{\"a\":"), 400),
        (post("/t", JSON, b"{} {}"), 400),
        (post("/t", JSON, b""), 400),
        (post("/t", JSON, b"\"\xff\""), 400),
        (post("/t", JSON, deep.as_bytes()), 400),
        (post("/t", NDJSON, b"{}\n{]\n"), 400),
        (post("/t", "", b""), 400),
        (post("/", JSON, b"{}"), 404),
        (post("/a+b", JSON, b"{}"), 404),
        (post("/%zz", JSON, b"{}"), 404),
        (post("/t", "Content-Encoding: gzip\r\n", b"x"), 415),
        (post("/t", "Idempotency-Key: \r\n", b"x"), 400),
        (post("/t", "", &vec![b'x'; 120_000]), 413),
        (post("/t", "", &vec![b'x'; 2_000_000]), 413),
        (b"GET /t HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".to_vec(), 405),
        (b"garbage\r\n\r\n".to_vec(), 400),
    ];
    let requests: Vec<_> = cases.iter().map(|(r, _)| r.clone()).collect();
    let (answers, stored) = talk(&[], &requests, None);
    for ((request, want), answer) in cases.iter().zip(&answers) {
        let shown = String::from_utf8_lossy(&request[..request.len().min(90)]).into_owned();
        assert_eq!(status(answer), *want, "{shown} → {answer}");
    }
    assert!(stored.is_empty());
}

#[test]
fn a_key_that_was_stored_is_not_stored_again() {
    let one = post("/t", "Idempotency-Key: k1\r\n", b"a");
    let two = post("/t", "Idempotency-Key: k2\r\n", b"b");
    let (answers, stored) = talk(&[], &[one.clone(), one, two], None);
    assert_eq!(answers.iter().map(|a| status(a)).collect::<Vec<_>>(), [202, 200, 202]);
    assert_eq!(stored.len(), 2);
    assert!(stored.iter().all(|b| b.positions.len() == 1));
}

#[test]
fn a_full_buffer_answers_503_and_the_key_is_not_taken_for_stored() {
    let one = post("/t", "Idempotency-Key: k1\r\n", b"a");
    let (answers, stored) = talk(&[], &[one.clone(), one], Some(Refused::Busy("disk is full".into())));
    assert!(
        answers.iter().all(|a| status(a) == 503 && a.to_lowercase().contains("retry-after: 1")),
        "{answers:?}"
    );
    assert!(stored.is_empty());
}

#[test]
fn a_token_is_asked_for_and_never_told() {
    let requests = [
        post("/t", "", b"a"),
        post("/t", "Authorization: Bearer wrong\r\n", b"a"),
        post("/t", "Authorization: Bearer s3cret\r\n", b"a"),
    ];
    let (answers, stored) = talk(&[("token", "s3cret")], &requests, None);
    assert_eq!(answers.iter().map(|a| status(a)).collect::<Vec<_>>(), [401, 401, 202]);
    assert_eq!(stored.len(), 1);
    assert!(answers.iter().all(|a| !a.contains("s3cret")));
}

#[test]
fn a_listener_for_the_world_needs_a_token() {
    assert!(config(&[("listen", "0.0.0.0:1")]).build("x").is_err());
    assert!(config(&[("listen", "0.0.0.0:1"), ("token", "t")]).build("x").is_ok());
    assert!(config(&[("listen", "nonsense")]).build("x").is_err());
}

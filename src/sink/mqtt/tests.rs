use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use async_net::TcpListener;
use futures_lite::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::link::Io;
use crate::mqtt::server::{Server, ServerEvent, ServerLimits};
use crate::mqtt::{ConnAck, QoS, reason};
use crate::runtime::{block_on, mono_now, spawn};
use crate::sink::behaviour::{self, Subject, batch, builtins, ndjson, put};

/// A broker that notes what it acknowledges.
#[derive(Default)]
struct Notes {
    taken: Vec<Publish>,
    connects: Vec<Connect>,
    pings: usize,
    most_unanswered: usize,
    /// Answers with this reason whatever holds the text.
    no: Option<(&'static str, u8)>,
    /// Lets nobody in.
    closed: bool,
    /// Hangs up instead of answering so many messages.
    hang_up: usize,
    /// Answers nothing.
    mute: bool,
}

type Shared = Rc<RefCell<Notes>>;

async fn serve(mut io: Box<dyn Io>, notes: Shared, limits: ServerLimits) {
    let mut server = Server::new(limits, mono_now());
    let mut chunk = [0; 16 << 10];
    loop {
        let mut open = Vec::new();
        while let Some(event) = server.poll_event() {
            let mut notes = notes.borrow_mut();
            match event {
                ServerEvent::Connect(connect) => {
                    notes.connects.push(*connect);
                    if notes.closed {
                        server.refuse(ConnAck { reason: reason::SERVER_UNAVAILABLE, ..ConnAck::default() });
                    } else {
                        server.accept(ConnAck::default());
                    }
                }
                ServerEvent::Publish(publish) if notes.hang_up > 0 => {
                    drop(publish);
                    notes.hang_up -= 1;
                    return;
                }
                ServerEvent::Publish(publish) => {
                    open.push(*publish);
                    notes.most_unanswered = notes.most_unanswered.max(open.len());
                }
                _ => {}
            }
        }
        for publish in open {
            let mut notes = notes.borrow_mut();
            if notes.mute {
                continue;
            }
            let text = String::from_utf8_lossy(&publish.payload).into_owned();
            let no = notes.no.filter(|(bad, _)| text.contains(bad));
            server.ack(publish.packet_id, no.map_or(reason::SUCCESS, |(_, code)| code), vec![]);
            if no.is_none() {
                notes.taken.push(publish);
            }
        }
        while let Some(bytes) = server.poll_transmit() {
            // PINGRESP.
            notes.borrow_mut().pings += usize::from(*bytes == [0xd0, 0][..]);
            if io.write_all(&bytes).await.is_err() {
                return;
            }
        }
        if server.is_closed() {
            return;
        }
        match io.read(&mut chunk).await {
            Ok(n) if n > 0 => server.receive(mono_now(), &chunk[..n]).unwrap_or_default(),
            _ => server.handle_eof(),
        }
    }
}

struct Fake {
    port: u16,
    notes: Shared,
    version: Version,
    _task: Task<()>,
}

impl Fake {
    fn new(version: Version, limits: ServerLimits) -> Self {
        block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let port = listener.local_addr().unwrap().port();
            let notes = Shared::default();
            let held = notes.clone();
            let task = spawn(async move {
                while let Ok((io, _)) = listener.accept().await {
                    spawn(serve(Box::new(io), held.clone(), limits.clone())).detach();
                }
            });
            Self { port, notes, version, _task: task }
        })
    }

    fn config(&self) -> Config {
        Config {
            username: Some("me".to_owned()),
            password: Some(Secret::new("s3cret".to_owned())),
            ..config(self.port, self.version)
        }
    }

    fn text(&self) -> String {
        let notes = self.notes.borrow();
        notes.taken.iter().map(|p| std::str::from_utf8(&p.payload).unwrap().to_owned() + "\n").collect()
    }
}

impl Subject for Fake {
    fn config(&self) -> Box<dyn SinkConfig> {
        Box::new(self.config())
    }

    fn state(&self) -> BTreeMap<i64, String> {
        ndjson::state(&self.text())
    }

    fn kinds(&self) -> Vec<String> {
        ndjson::kinds(&self.text())
    }

    fn ids(&self) -> Option<Vec<String>> {
        Some(ndjson::ids(&self.text()))
    }

    fn break_it(&mut self) -> bool {
        // The connection that the sink holds goes, and no new one is taken.
        let mut notes = self.notes.borrow_mut();
        (notes.closed, notes.hang_up) = (true, 1);
        true
    }

    fn mend(&mut self) {
        let mut notes = self.notes.borrow_mut();
        (notes.closed, notes.hang_up) = (false, 0);
    }
}

#[test]
fn mqtt_behaves() {
    for version in [Version::V5, Version::V311] {
        behaviour::suite(|| Fake::new(version, ServerLimits::default()));
    }
}

pub(super) fn config(port: u16, version: Version) -> Config {
    Config {
        host: "127.0.0.1".to_owned(),
        port,
        tls: None,
        topic: Template::parse("changes/{device}/{topic}").unwrap(),
        payload: Payload::Record,
        retain: false,
        version: ProtocolVersion(version),
        client_id: None,
        username: None,
        password: None,
        password_file: None,
        window: 20,
        keep_alive: Duration::from_secs(30),
        timeout: Duration::from_secs(20),
        meta: Meta::Full,
        integers: Integers::Number,
        max_write_bytes: ByteSize(1 << 20),
    }
}

pub(super) fn rows(first_seq: u64, n: i64) -> Batch {
    batch(first_seq, |b| (0..n).for_each(|i| put(b, Op::Insert, first_seq as i64 + i, &format!("row{i};"))))
}

fn with_sink<T>(config: &Config, f: impl AsyncFnOnce(&mut Box<dyn Sink>) -> T) -> T {
    block_on(async {
        let mut sink = config.open("m").await.unwrap();
        let result = f(&mut sink).await;
        sink.close().await.unwrap();
        result
    })
}

#[test]
fn messages_carry_topic_type_and_id() {
    let fake = Fake::new(Version::V5, ServerLimits::default());
    let config = Config { payload: Payload::Body, retain: true, ..fake.config() };
    with_sink(&config, async |sink| {
        sink.write(vec![rows(1, 1), batch(2, builtins)], vec![]).await.unwrap();
    });
    let notes = fake.notes.borrow();
    let seen: Vec<_> =
        notes.taken.iter().map(|p| (p.topic.as_str(), p.content_type.as_deref().unwrap())).collect();
    assert_eq!(
        seen,
        [
            ("changes/press-7/app/readings", "application/json"),
            ("changes/press-7/t/1", "application/json"),
            ("changes/press-7/t/1", "text/plain;charset=utf-8"),
            ("changes/press-7/t/1", "application/octet-stream"),
            ("changes/press-7/loss", "application/json"),
            ("changes/press-7/ddl", "application/json"),
        ]
    );
    let bodies: Vec<&[u8]> = notes.taken[1..4].iter().map(|p| &p.payload[..]).collect();
    assert_eq!(bodies, [b"{\"a\":[1]}" as &[u8], b"plain", b"\xff\x00"]);
    let id = ("id".to_owned(), "press-7/main/0000000200000abc/1".to_owned());
    assert_eq!(notes.taken[0].user, [id]);
    assert!(notes.taken.iter().all(|p| p.qos == QoS::AtLeastOnce && p.retain && !p.dup));
    let connect = &notes.connects[0];
    assert!(connect.client_id.starts_with("dts-m-") && connect.clean_start);
    assert_eq!(connect.password.as_deref(), Some(&b"s3cret"[..]));
}

#[test]
fn the_brokers_window_is_kept() {
    let limits = ServerLimits { receive_maximum: 3, ..ServerLimits::default() };
    let fake = Fake::new(Version::V5, limits);
    with_sink(&fake.config(), async |sink| sink.write(vec![rows(1, 50)], vec![]).await.unwrap());
    let notes = fake.notes.borrow();
    assert_eq!((notes.taken.len(), notes.connects.len()), (50, 1));
    assert!((1..=3).contains(&notes.most_unanswered), "{}", notes.most_unanswered);
}

#[test]
fn a_refused_message_is_named_or_tried_again() {
    let fake = Fake::new(Version::V5, ServerLimits::default());
    let cases = [
        (reason::PAYLOAD_FORMAT_INVALID, true),
        (reason::TOPIC_NAME_INVALID, true),
        (reason::QUOTA_EXCEEDED, false),
        (reason::NOT_AUTHORIZED, false),
    ];
    with_sink(&fake.config(), async |sink| {
        for (code, rejected) in cases {
            fake.notes.borrow_mut().no = Some(("row7;", code));
            match (sink.write(vec![rows(1, 2), rows(3, 30)], vec![]).await, rejected) {
                (Err(SinkError::Reject { batch: 1, row: 7, reason }), true) => {
                    assert!(reason.contains("invalid"), "{reason}");
                }
                (Err(SinkError::Retry(text)), false) => {
                    assert!(text.contains(reason::name(code)), "{text}");
                }
                other => panic!("{code:#x}: {other:?}"),
            }
        }
        // The connection stayed in step.
        fake.notes.borrow_mut().no = None;
        sink.write(vec![rows(1, 30)], vec![]).await.unwrap();
    });
    assert_eq!(fake.notes.borrow().connects.len(), 1);
}

#[test]
fn a_message_over_the_brokers_limit_is_rejected() {
    let limits = ServerLimits { max_packet_bytes: 2000, ..ServerLimits::default() };
    let fake = Fake::new(Version::V5, limits);
    let wide = "w".repeat(3000);
    with_sink(&fake.config(), async |sink| {
        let both = batch(1, |b| {
            put(b, Op::Insert, 1, "fits");
            put(b, Op::Insert, 2, &wide);
        });
        let result = sink.write(vec![both], vec![]).await;
        assert!(matches!(result, Err(SinkError::Reject { batch: 0, row: 1, .. })), "{result:?}");
    });
    assert_eq!(fake.state().len(), 1);
}

#[test]
fn a_connection_that_died_between_writes_is_replaced() {
    let fake = Fake::new(Version::V5, ServerLimits::default());
    with_sink(&fake.config(), async |sink| {
        sink.write(vec![rows(1, 1)], vec![]).await.unwrap();
        fake.notes.borrow_mut().hang_up = 1;
        sink.write(vec![rows(2, 1)], vec![]).await.unwrap();
        // Twice in a row is a failure of the write.
        fake.notes.borrow_mut().hang_up = 2;
        assert!(matches!(sink.write(vec![rows(3, 1)], vec![]).await, Err(SinkError::Retry(_))));
        sink.write(vec![rows(3, 1)], vec![]).await.unwrap();
    });
    assert_eq!(fake.state().len(), 3);
}

#[test]
fn an_idle_connection_is_kept_alive() {
    let limits = ServerLimits { max_keep_alive_s: 1, ..ServerLimits::default() };
    let fake = Fake::new(Version::V5, limits);
    with_sink(&fake.config(), async |sink| {
        sink.write(vec![rows(1, 1)], vec![]).await.unwrap();
        while fake.notes.borrow().pings < 2 {
            runtime::sleep(Duration::from_millis(20)).await;
        }
        sink.write(vec![rows(2, 1)], vec![]).await.unwrap();
    });
    assert_eq!(fake.notes.borrow().connects.len(), 1);
}

#[test]
fn a_broker_that_does_not_answer_is_left() {
    let fake = Fake::new(Version::V311, ServerLimits::default());
    let config = Config { timeout: Duration::from_millis(100), ..fake.config() };
    fake.notes.borrow_mut().mute = true;
    with_sink(&config, async |sink| {
        match sink.write(vec![rows(1, 1)], vec![]).await {
            Err(SinkError::Retry(text)) => {
                assert!(text.contains("no answer") && !text.contains("s3cret"), "{text}");
            }
            other => panic!("{other:?}"),
        }
        fake.notes.borrow_mut().mute = false;
        sink.write(vec![rows(1, 1)], vec![]).await.unwrap();
    });
    let config = Config { port: 1, ..fake.config() };
    with_sink(&config, async |sink| {
        assert!(matches!(sink.probe().await, Err(SinkError::Retry(_))));
        assert!(matches!(sink.write(vec![rows(1, 1)], vec![]).await, Err(SinkError::Retry(_))));
    });
}

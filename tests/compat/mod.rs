//! What earlier releases wrote is read: buffers, frames, configs, a centre's state. And what a newer one wrote, of which it
//! says that this code must not read it, is refused and left as it is.
//!
//! `v<release>/` is written once, by `make.sh`, and kept: `agent-closed/` and `agent-killed/` (identity and buffer of an
//! agent that was stopped and one that was killed), `centre/` (state and mirror), `*.frame`, `frames.ndjson` (what the
//! frames say), `buffers.json` (what the buffers hold), `mirror.json`, `agent.yaml`, `centre.yaml`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use dts::codec::json::{Format, write_batch};
use dts::event::builtin::{self, Loss, Payload};
use dts::event::{Batch, BatchBuilder, Column, Image, Op, Origin, RowClock, Table, TableKind, Type, Value};
use dts::frame::{self, Codec, Header, HeaderV1};
use dts::mqtt::{Connect, Packet, Publish, Version};

use crate::harness::*;

const THIS: &str = "v0.1";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/compat")
}

/// The folders of all releases.
fn releases() -> Vec<PathBuf> {
    let all = std::fs::read_dir(root()).unwrap().flatten().map(|e| e.path()).filter(|p| p.is_dir());
    let mut all: Vec<_> = all.collect();
    all.sort();
    assert!(
        all.iter().any(|p| p.ends_with(THIS)),
        "the golden files of {THIS} are missing: tests/compat/make.sh"
    );
    all
}

/// Files that are the same after a restart of the machine: no socket, no reserve.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        let name = entry.file_name();
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            copy(&entry.path(), &to.join(&name));
        } else if kind.is_file()
            && !["reserve", "-shm"].iter().any(|part| name.to_string_lossy().contains(part))
        {
            std::fs::copy(entry.path(), to.join(&name)).unwrap();
        }
    }
}

fn files(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        let path = entry.path();
        if entry.file_type().unwrap().is_dir() {
            all.extend(files(&path));
        } else if entry.file_type().unwrap().is_file() {
            all.push((path.clone(), std::fs::read(path).unwrap()));
        }
    }
    all.sort();
    all
}

/// A centre and an agent with a release's configs, in a folder of the test.
struct Lab {
    agent: Process,
    centre: Process,
    posts: u16,
    tls: u16,
    agent_http: u16,
    pki: Pki,
    dir: Dir,
}

impl Lab {
    fn new(test: &str, release: &Path) -> Self {
        let dir = Dir::new(test);
        let pki = Pki::new(&dir, "ca");
        pki.device("box-7");
        std::fs::create_dir(dir.join("app")).unwrap();
        let (quic, tls, posts, http) = (port(), port(), port(), [port(), port()]);
        let of = |name: &str, http: u16| {
            let config = release.join(format!("{name}.yaml"));
            let mut node = Process::dts(&dir, name, &["run", "--config", config.to_str().unwrap()]);
            for (name, value) in [
                ("DIR", dir.join("").to_str().unwrap().trim_end_matches('/').to_owned()),
                ("POSTS", posts.to_string()),
                ("QUIC", quic.to_string()),
                ("TLS", tls.to_string()),
                ("HTTP", http.to_string()),
            ] {
                node.env(&format!("DTS_GOLDEN_{name}"), &value);
            }
            node
        };
        Self {
            agent: of("agent", http[0]),
            centre: of("centre", http[1]),
            posts,
            tls,
            agent_http: http[0],
            pki,
            dir,
        }
    }

    fn start_centre(&mut self) {
        self.centre.start();
        self.centre.says("listening on");
    }

    fn start_agent(&mut self) {
        self.agent.start();
        self.agent.says("listening on");
    }

    fn mirror(&self) -> PathBuf {
        self.dir.join("centre").join("mirror.db")
    }

    fn waiting(&self) -> Option<u64> {
        let answer = get(self.agent_http, "/metrics").ok()?;
        let rows = answer.body.lines().filter(|l| l.starts_with("dts_spool_rows{"));
        Some(rows.filter_map(|l| l.rsplit_once(' ')?.1.parse::<f64>().ok()).sum::<f64>() as u64)
    }

    /// The mirror as JSON, the order of lanes apart.
    fn held(&self) -> serde_json::Value {
        let mut all = messages(&self.mirror());
        all.sort_by_key(|m| (m.lane.clone(), m.epoch, m.seq));
        let row = |m: &Message| serde_json::json!([m.device, m.lane, m.epoch, m.seq, m.topic, m.payload]);
        all.iter().map(row).collect()
    }

    /// A client of the centre that is the agent `box-7`.
    fn client(&self) -> Mqtt {
        let own = self.pki.device("box-7");
        let mut client = Mqtt::tls(self.tls, &self.dir.join("ca").join("ca.pem"), Some(&own));
        let mut connect = Connect::new(Version::V5, "box-7:00000000000000aa");
        connect.user = vec![("dts".into(), "1".into())];
        assert_eq!(client.connect(connect).reason, 0);
        client
    }
}

fn send(client: &mut Mqtt, frame: &[u8], id: u16) -> u8 {
    client.send(&Packet::Publish(Box::new(Publish::new("dts/v1/box-7/c", id, frame.to_vec()))));
    match client.receive() {
        Some(Packet::PubAck(ack)) => ack.reason,
        other => panic!("PUBACK is expected, {other:?} came"),
    }
}

fn readings() -> Arc<Table> {
    let id = Column { key: Some(0), ..Column::new("id", Type::I64) };
    let columns = vec![
        id,
        Column { declared: "TEXT COLLATE NOCASE".into(), ..Column::new("name", Type::Text) },
        Column::new("any", Type::Any),
        Column::new("price", Type::Decimal { precision: 20, scale: 2 }),
        Column::new("made", Type::DateTime { fsp: 3 }),
        Column::new("at", Type::Timestamp { fsp: 6 }),
        Column { labels: vec!["a".into(), "b".into()], ..Column::new("kind", Type::Enum) },
        Column::new("doc", Type::Json),
        Column::new("raw", Type::Bytes),
        Column::new("uuid", Type::Uuid),
    ];
    Arc::new(Table { kind: TableKind::Table, db: "app".into(), name: "readings".into(), version: 7, columns })
}

/// Rows of every kind, under sequence numbers from 1.
fn rows() -> Batch {
    let table = readings();
    let mut rows = BatchBuilder::new("app".into());
    let before = [
        Value::Int(7),
        Value::Text("Grüße \u{1f600}"),
        Value::F64(0.5),
        Value::Decimal(-123_456),
        Value::Uint(((2024 * 13 + 2) << 5 | 29) << 17 << 24 | 5000),
        Value::Int(1_700_000_000_123_456),
        Value::Uint(2),
        Value::Text("{\"a\": [1, 2]}"),
        Value::Bytes(b"\0\xff"),
        Value::Bytes(&[7; 16]),
    ];
    let mut after = before;
    (after[0], after[1], after[2]) = (Value::Int(8), Value::Null, Value::RawText(b"\xff"));
    let hlc = 1_700_000_000_000 << 16 | 5;
    rows.push(Op::Insert, hlc, &table, None, Some(Image::full(&before))).unwrap();
    rows.push(Op::Update, hlc + 1, &table, Some(Image::full(&before)), Some(Image::full(&after))).unwrap();
    let mut present = [false; 10];
    present[0] = true;
    let key = Image { values: &after, present: Some(&present) };
    rows.push(Op::Delete, hlc + 2, &table, Some(key), None).unwrap();
    let message = builtin::message_values("t/1", Some("k"), Payload::Json("{\"n\":1}"), None);
    rows.push(Op::Message, hlc + 3, builtin::message(), None, builtin::image(&message)).unwrap();
    let loss = Loss {
        lane: "data".into(),
        epoch: 3 << 32,
        from: 1,
        to: 9,
        reason: "max_age".into(),
        exact: true,
        rows: 9,
    };
    let values = loss.values();
    rows.push(Op::Loss, hlc + 4, builtin::loss(), None, builtin::image(&values)).unwrap();
    rows.finish()
}

fn frame_of(batch: &Batch, first_seq: u64, codec: Codec) -> Vec<u8> {
    let header = HeaderV1 {
        lane: "golden".into(),
        epoch: 3 << 32 | 0xbeef,
        base: 1,
        first_seq,
        last_seq: first_seq + u64::from(batch.rows) - 1,
        rows: batch.rows,
        body_crc: crc32c::crc32c(&batch.body),
        body_len: batch.body.len() as u32,
        source: "app".into(),
        clock: 2,
        boot_offset_us: Some(-5),
        tables: batch.tables.iter().map(|t| t.encode()).collect(),
    };
    frame::encode(&Header::V1(header), &batch.body, codec).unwrap()
}

/// What a frame says, as dts JSON.
fn says(bytes: &[u8]) -> String {
    let (Header::V1(header), body) = frame::decode(&Bytes::copy_from_slice(bytes), 1 << 20).unwrap();
    let tables: Vec<_> = header.tables.iter().map(|t| Arc::new(Table::decode(t).unwrap())).collect();
    let find = |hash| tables.iter().find(|t| t.hash() == hash).cloned();
    let origin = Origin::Device {
        device: "box-7".into(),
        lane: header.lane.as_str().into(),
        epoch: header.epoch,
        first_seq: header.first_seq,
        last_seq: header.last_seq,
    };
    let source = header.source.as_str().into();
    let batch = Batch::from_body(source, origin, RowClock::default(), header.rows, body, find).unwrap();
    let mut out = Vec::new();
    write_batch(&mut out, &batch, Format::default()).unwrap();
    String::from_utf8(out).unwrap()
}

const FRAMES: [(&str, Codec); 3] =
    [("none.frame", Codec::None), ("lz4.frame", Codec::Lz4), ("zstd.frame", Codec::Zstd)];

fn load(lab: &Lab) {
    let post = |topic: &str, kind: &str, body: &str| {
        let answer = request(lab.posts, "POST", topic, &[("Content-Type", kind)], body.as_bytes()).unwrap();
        assert_eq!(answer.status, 202, "{}", answer.body);
    };
    post("/one", "application/json", "{\"id\":\"a\",\"t\":20.5}");
    post("/many", "application/x-ndjson", "{\"n\":1}\n{\"n\":2}\n{\"n\":3}\n");
    post("/text", "text/plain", "Grüße \u{1f600}");
    post("/large", "application/json", &format!("\"{}\"", "x".repeat(3000)));
    std::fs::write(lab.dir.join("app").join("a.log"), "{\"t\":1,\"p\":2}\n{\"t\":3,\"p\":1}\nno json\n")
        .unwrap();
    until("all in the buffer", || (lab.waiting()? == 9).then_some(()));
    // The lane `bulk` is on disk after its commit interval.
    pause(700);
}

#[test]
fn make() {
    if std::env::var_os("DTS_MAKE_GOLDENS").is_none() {
        return;
    }
    let release = root().join(THIS);
    let batch = rows();
    for (name, codec) in FRAMES {
        std::fs::write(release.join(name), frame_of(&batch, 1, codec)).unwrap();
    }
    std::fs::write(release.join("frames.ndjson"), says(&frame_of(&batch, 1, Codec::None))).unwrap();
    let mut lab = Lab::new("make", &release);
    lab.start_agent();
    load(&lab);
    lab.agent.kill();
    let state = lab.dir.join("agent");
    for (name, stops) in [("agent-killed", false), ("agent-closed", true)] {
        if stops {
            lab.start_agent();
            lab.agent.stop();
        }
        let to = release.join(name);
        std::fs::remove_dir_all(&to).ok();
        copy(&state, &to);
    }
    lab.start_centre();
    lab.start_agent();
    until("an empty buffer", || (lab.waiting()? == 0).then_some(()));
    lab.agent.stop();
    std::fs::write(release.join("buffers.json"), format!("{:#}\n", lab.held())).unwrap();
    assert_eq!(send(&mut lab.client(), &frame_of(&batch, 1, Codec::Lz4), 1), 0);
    lab.centre.stop();
    std::fs::write(release.join("mirror.json"), format!("{:#}\n", lab.held())).unwrap();
    let to = release.join("centre");
    std::fs::remove_dir_all(&to).ok();
    copy(&lab.dir.join("centre"), &to);
}

fn golden(path: &Path) -> serde_json::Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn configs_of_every_release_are_taken() {
    for release in releases() {
        let lab = Lab::new("config", &release);
        for name in ["agent", "centre"] {
            let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_dts"));
            command.args(["check", "--config"]).arg(release.join(format!("{name}.yaml")));
            let dir = lab.dir.join("");
            command.env("DTS_GOLDEN_DIR", dir.to_str().unwrap().trim_end_matches('/'));
            for port in ["POSTS", "QUIC", "TLS", "HTTP"] {
                command.env(format!("DTS_GOLDEN_{port}"), "9");
            }
            let out = command.output().unwrap();
            assert!(out.status.success(), "{name}: {}", String::from_utf8_lossy(&out.stderr));
        }
    }
}

#[test]
fn frames_of_every_release_are_read() {
    for release in releases() {
        // The order of an object's members is not part of the format.
        let lines = |text: &str| -> Vec<serde_json::Value> {
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
        };
        let want = lines(&std::fs::read_to_string(release.join("frames.ndjson")).unwrap());
        assert!(!want.is_empty());
        for (name, _) in FRAMES {
            assert_eq!(
                lines(&says(&std::fs::read(release.join(name)).unwrap())),
                want,
                "{}",
                release.join(name).display()
            );
        }
    }
}

#[test]
fn buffers_of_every_release_are_shipped() {
    for release in releases() {
        for image in ["agent-closed", "agent-killed"] {
            let mut lab = Lab::new("buffer", &release);
            copy(&release.join(image), &lab.dir.join("agent"));
            lab.start_centre();
            lab.start_agent();
            until("an empty buffer", || (lab.waiting()? == 0).then_some(()));
            assert_eq!(lab.held(), golden(&release.join("buffers.json")), "{image}");
            assert_eq!(losses(&lab.mirror()), []);
            // And it goes on with it.
            assert_eq!(post(lab.posts, "more", "1").unwrap().status, 202);
            until("one more", || messages(&lab.mirror()).iter().any(|m| m.topic == "more").then_some(()));
            lab.agent.stop();
            lab.centre.stop();
        }
    }
}

#[test]
fn a_centre_of_every_release_knows_what_it_has() {
    for release in releases() {
        let mut lab = Lab::new("centre", &release);
        copy(&release.join("centre"), &lab.dir.join("centre"));
        lab.start_centre();
        let mut client = lab.client();
        // Again what it has, then what comes next.
        assert_eq!(send(&mut client, &std::fs::read(release.join("lz4.frame")).unwrap(), 1), 0);
        assert_eq!(lab.held(), golden(&release.join("mirror.json")));
        let next = frame_of(&rows(), 6, Codec::Lz4);
        assert_eq!(send(&mut client, &next, 2), 0);
        assert!(messages(&lab.mirror()).iter().any(|m| m.lane == "golden" && m.seq == 9));
        lab.centre.stop();
    }
}

/// Gives the row `key` of a table `meta` another value, with the checksum that belongs to it.
fn set_meta(db: &Path, sql: &str, key: &str, value: &str) {
    let conn = rusqlite::Connection::open(db).unwrap();
    let crc = crc32c::crc32c(format!("{key}\0{value}").as_bytes());
    let changed = if sql.contains("crc") {
        conn.execute(sql, (value, crc, key))
    } else {
        conn.execute(sql, (value, key))
    };
    assert_eq!(changed.unwrap(), 1);
}

#[test]
fn what_only_a_newer_release_may_read_is_refused_and_left_as_it_is() {
    let release = root().join(THIS);
    let mut lab = Lab::new("newer", &release);
    copy(&release.join("agent-closed"), &lab.dir.join("agent"));
    let state = lab.dir.join("agent");
    let db = state.join("buffer/buffer.db");
    set_meta(&db, "UPDATE meta SET value = ?1, crc = ?2 WHERE key = ?3", "min_reader", "99");
    let before = files(&state.join("buffer"));
    lab.agent.start();
    let status = lab.agent.ended();
    assert!(!status.success());
    let said = lab.agent.log();
    assert!(said.contains("needs dts buffer format 99") && said.contains("run the newer dts"), "{said}");
    let after: Vec<_> = files(&state.join("buffer"))
        .into_iter()
        .filter(|(p, _)| before.iter().any(|(b, _)| b == p))
        .collect();
    assert_eq!(after.len(), before.len());
    assert!(after == before, "the buffer was changed");
    assert!(!files(&state).iter().any(|(p, _)| p.to_string_lossy().contains("corrupt")), "it was put aside");
    // Back to the release that may read it: nothing is missing.
    set_meta(&db, "UPDATE meta SET value = ?1, crc = ?2 WHERE key = ?3", "min_reader", "1");
    lab.start_centre();
    lab.start_agent();
    until("an empty buffer", || (lab.waiting()? == 0).then_some(()));
    assert_eq!(lab.held(), golden(&release.join("buffers.json")));
    lab.agent.stop();
    lab.centre.stop();

    // A centre's mirror as well.
    let mirror = lab.mirror();
    set_meta(&mirror, "UPDATE dts_meta SET value = CAST(?1 AS INTEGER) WHERE key = ?2", "layout", "99");
    lab.centre.start();
    let status = lab.centre.ended();
    assert!(!status.success());
    assert!(lab.centre.log().contains("layout 99"), "{}", lab.centre.log());
    let rows = messages(&mirror).len();
    assert_eq!(rows, 9, "nothing of it is gone");
}

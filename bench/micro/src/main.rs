//! dts-micro CASE: does one thing often enough, the same at each run. Only what runs below [`measured`] is counted
//! (`bench/micro/run.sh` tells callgrind so); the last line is how many times it was done.

use std::hint::black_box;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use dts::codec::json::{self, Format};
use dts::event::builtin::{self, Payload};
use dts::event::{Batch, BatchBuilder, Column, Image, Op, Origin, RowClock, Table, TableKind, Type, Value};
use dts::frame::{self, Codec, Header, HeaderV1};
use dts::mqtt::{ConnAck, Server, ServerEvent, ServerLimits};
use dts::runtime::Mono;
use dts::source::mysql::binlog::{self, Event, Fold, Reader};
use dts::spool::{Class, LaneOptions, Options, Store};

const ROWS: u64 = 100;

fn main() {
    let case = std::env::args().nth(1).unwrap_or_default();
    let done = match case.as_str() {
        "row-encode" => row_encode(),
        "row-decode-json" => row_decode_json(),
        "message-decode-json" => message_decode_json(),
        "frame-pack" => frame_pack(),
        "frame-unpack" => frame_unpack(),
        "mqtt-publish-parse" => mqtt_publish_parse(),
        "spool-append-ack" => spool_append_ack(),
        "binlog-oltp" => binlog(include_bytes!("../binlogs/oltp")),
        "binlog-narrow" => binlog(include_bytes!("../binlogs/narrow")),
        "binlog-wide" => binlog(include_bytes!("../binlogs/wide")),
        "binlog-small-txn" => binlog(include_bytes!("../binlogs/small-txn")),
        _ => {
            eprintln!("unknown case {case:?}");
            std::process::exit(2);
        }
    };
    println!("{done}");
}

/// What callgrind counts. It must stay a function of its own.
#[inline(never)]
fn measured<T>(times: u64, mut work: impl FnMut(u64) -> T) -> u64 {
    for n in 0..times {
        black_box(work(n));
    }
    times
}

/// Text that LZ4 finds nothing in, the same at each run.
fn text(seed: u64, len: usize) -> String {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let letter = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        char::from(b'a' + (state % 26) as u8)
    };
    (0..len).map(letter).collect()
}

fn table() -> Arc<Table> {
    let mut id = Column::new("id", Type::I64);
    id.key = Some(0);
    let columns =
        vec![id, Column::new("value", Type::F64), Column::new("unit", Type::Text), Column::new("note", Type::Text)];
    Arc::new(Table { kind: TableKind::Table, db: "app".into(), name: "reading".into(), version: 1, columns })
}

fn rows(table: &Arc<Table>, notes: &[String]) -> Batch {
    let mut batch = BatchBuilder::new("bench".into());
    for (n, note) in notes.iter().enumerate() {
        let values = [Value::Int(n as i64), Value::F64(n as f64 / 8.0), Value::Text("degC"), Value::Text(note)];
        let pushed = batch.push(Op::Update, 1 << 40, table, Some(Image::full(&values)), Some(Image::full(&values)));
        assert!(pushed.is_ok());
    }
    batch.finish()
}

fn messages(bodies: &[String]) -> Batch {
    let mut batch = BatchBuilder::new("bench".into());
    for body in bodies {
        let values = builtin::message_values("bench", None, Payload::Json(body), None);
        let pushed = batch.push(Op::Message, 1 << 40, builtin::message(), None, builtin::image(&values));
        assert!(pushed.is_ok());
    }
    batch.finish()
}

fn bodies() -> Vec<String> {
    (0..ROWS).map(|n| format!("{{\"seq\":{n},\"t\":21.5,\"pad\":\"{}\"}}", text(n + 1, 170))).collect()
}

fn origin() -> Origin {
    Origin::Device { device: "dev".into(), lane: "default".into(), epoch: 1 << 32, first_seq: 1, last_seq: ROWS }
}

fn row_encode() -> u64 {
    let (table, notes) = (table(), (0..ROWS).map(|n| text(n + 1, 60)).collect::<Vec<_>>());
    measured(200, |_| rows(&table, &notes)) * ROWS
}

fn decode_json(batch: &Batch) -> u64 {
    let mut out = Vec::new();
    measured(200, |_| {
        out.clear();
        let known = |hash| batch.tables.iter().find(|t| t.hash() == hash).cloned();
        let clock = RowClock::default();
        let read = Batch::from_body("bench".into(), origin(), clock, batch.rows, batch.body.clone(), known);
        json::write_batch(&mut out, &read.expect("a body just made"), Format::default()).expect("rows just made");
        out.len()
    }) * ROWS
}

fn row_decode_json() -> u64 {
    decode_json(&rows(&table(), &(0..ROWS).map(|n| text(n + 1, 60)).collect::<Vec<_>>()))
}

fn message_decode_json() -> u64 {
    decode_json(&messages(&bodies()))
}

fn header(batch: &Batch) -> Header {
    Header::V1(HeaderV1 {
        lane: "default".into(),
        epoch: 1 << 32,
        base: 1,
        first_seq: 1,
        last_seq: ROWS,
        rows: batch.rows,
        body_crc: crc32c::crc32c(&batch.body),
        body_len: batch.body.len() as u32,
        source: "bench".into(),
        clock: 2,
        boot_offset_us: None,
        tables: Vec::new(),
    })
}

fn frame_pack() -> u64 {
    let batch = messages(&bodies());
    measured(200, |_| frame::encode(&header(&batch), &batch.body, Codec::Lz4))
}

fn frame_unpack() -> u64 {
    let batch = messages(&bodies());
    let frame: Bytes = frame::encode(&header(&batch), &batch.body, Codec::Lz4).expect("a frame").into();
    measured(200, |_| frame::decode(&frame, 1 << 20))
}

/// PUBLISHes at QoS 1 of 200 B, 16 in a read; each is answered.
fn mqtt_publish_parse() -> u64 {
    let mut server = Server::new(ServerLimits::default(), Mono(0));
    let connect = b"\x10\x10\x00\x04MQTT\x04\x02\x00\x3c\x00\x04load";
    server.receive(Mono(0), connect).expect("a CONNECT");
    while server.poll_event().is_some() {}
    server.accept(ConnAck::default());
    while server.poll_transmit().is_some() {}
    let mut packets = Vec::new();
    for id in 1u16..=16 {
        let body = text(u64::from(id), 200);
        packets.extend_from_slice(&[0x32, 0xd1, 0x01, 0x00, 0x05]);
        packets.extend_from_slice(b"t/dev");
        packets.extend_from_slice(&id.to_be_bytes());
        packets.extend_from_slice(body.as_bytes());
    }
    measured(1_000, |_| {
        server.receive(Mono(1), &packets).expect("PUBLISHes");
        let mut taken = 0;
        while let Some(event) = server.poll_event() {
            if let ServerEvent::Publish(publish) = event {
                taken += 1;
                server.ack(publish.packet_id, 0, Vec::new());
            }
        }
        assert_eq!(taken, 16);
        while let Some(bytes) = server.poll_transmit() {
            black_box(bytes);
        }
    }) * 16
}

/// Batches of 100 messages into the store, read back and acknowledged: what a device does with each, SQLite included.
fn spool_append_ack() -> u64 {
    let dir = PathBuf::from(format!("/dev/shm/dts-micro-{}", std::process::id()));
    let mut options = Options::new(&dir, "dev");
    options.lanes = vec![LaneOptions::new("default", Class::Fsync)];
    options.reserve_bytes = 0;
    let mut epoch = 0;
    let epochs = Box::new(move |at_least: u32| {
        epoch = at_least.max(epoch + 1);
        Ok(u64::from(epoch) << 32 | 7)
    });
    let (mut store, _) = Store::open(options, epochs, Mono(0)).expect("an empty folder");
    let lane: Arc<str> = "default".into();
    let items = [(lane.clone(), messages(&bodies()))];
    let (mut now, mut after) = (Mono(1_000), None);
    let done = measured(200, |_| {
        now = Mono(now.0 + 5_000);
        assert!(store.append(now, &items).iter().all(Result::is_ok));
        let read = store.read(now, &lane, after, 256 << 10).expect("what was stored");
        let ids: Vec<_> = read.iter().map(|b| b.id).collect();
        after = ids.last().copied();
        store.ack(now, &lane, &ids).expect("what was read");
        store.tick(now);
    });
    store.close(now).expect("closed");
    std::fs::remove_dir_all(&dir).ok();
    done
}

/// Rows of a binlog, checksums verified, every value folded. The files are the beginnings of what the issue's `gen.sh` makes
/// with MySQL 9.7.4 (40 columns of all types in `wide`, one row a transaction in `small-txn`).
fn binlog(file: &'static [u8]) -> u64 {
    let mut fold = Fold::new();
    measured(20, |_| {
        let mut reader = Reader::from_stream(std::io::Cursor::new(file), binlog::Options::default());
        while let Some(item) = reader.next().expect("a sound binlog") {
            if let Event::Rows(rows) = item.event {
                rows.walk(&mut fold).expect("sound rows");
            }
        }
    });
    fold.rows
}

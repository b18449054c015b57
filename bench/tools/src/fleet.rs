//! Devices that ship frames to a centre as agents do, over plain TCP. All frames are made before the clock starts, so that the
//! machine's CPU is the centre's as far as can be.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use dts::event::builtin::{self, Payload};
use dts::event::{Batch, BatchBuilder, Column, Image, Op, Table, TableKind, Type, Value};
use dts::frame::{self, Codec, Header, HeaderV1};
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::sync::Notify;

use crate::args::Args;
use crate::mqtt::{self, Connect, Packets};
use crate::net::{self, Result};
use crate::stats;

const RUN_HLC: u64 = 0;

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Message,
    Insert,
    Update,
}

pub async fn run(args: Args) -> Result<()> {
    let (devices, rows): (u64, u64) = (args.or("devices", 100)?, args.or("rows", 1000)?);
    let (batch, size): (u64, usize) = (args.or("batch", 100)?, args.or("size", 200)?);
    let window: usize = args.or("window", 16)?;
    let kind = match args.get("kind").unwrap_or("message") {
        "message" => Kind::Message,
        "insert" => Kind::Insert,
        "update" => Kind::Update,
        other => return Err(format!("--kind {other}: message, insert or update").into()),
    };
    let first: u64 = args.or("first", 0)?;
    let keys: u64 = args.or("keys", rows)?;
    let password = args.get("password").unwrap_or("pw").to_owned();
    let addr = args.text("addr")?.to_owned();
    let epoch = args.or("epoch", 1u64)? << 32 | u64::from(fastrand::u32(..));
    let mut fleet = Vec::new();
    for device in 0..devices {
        let spec = Spec { device, first, rows, batch, size, keys, kind, epoch };
        fleet.push(frames(&spec)?);
    }
    let (mut connected, mut tasks) = (Vec::new(), Vec::new());
    for device in 0..devices {
        connected.push(connect(&addr, device, &password).await?);
    }
    let start = Instant::now();
    for (frames, (writer, packets, device)) in fleet.into_iter().zip(connected) {
        tasks.push(tokio::task::spawn_local(ship(frames, writer, packets, device, window)));
    }
    let mut waits = Vec::new();
    let mut failed = None;
    for task in tasks {
        match task.await? {
            Ok(more) => waits.extend(more),
            Err(error) => failed = Some(error.to_string()),
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    let acked = waits.len() as u64 * batch;
    println!(
        "{}",
        json!({"acked": acked, "seconds": seconds, "rate": acked as f64 / seconds, "puback": stats::summary(&mut waits),
            "failed": failed})
    );
    Ok(())
}

struct Spec {
    device: u64,
    first: u64,
    rows: u64,
    batch: u64,
    size: usize,
    keys: u64,
    kind: Kind,
    epoch: u64,
}

fn table() -> Arc<Table> {
    let mut id = Column::new("id", Type::I64);
    id.key = Some(0);
    let columns = vec![id, Column::new("value", Type::F64), Column::new("note", Type::Text)];
    Arc::new(Table { kind: TableKind::Table, db: "app".into(), name: "reading".into(), version: 1, columns })
}

fn frames(spec: &Spec) -> Result<Vec<Vec<u8>>> {
    let table = table();
    let mut rng = fastrand::Rng::with_seed(spec.device);
    let mut out = Vec::new();
    let mut n = 0;
    while n < spec.rows {
        let count = spec.batch.min(spec.rows - n);
        let mut batch = BatchBuilder::new("bench".into());
        let mut text = Vec::new();
        for i in 0..count {
            text.clear();
            let seq = spec.first + n + i;
            if spec.kind == Kind::Message {
                stats::event(&mut text, seq, spec.size, &mut rng);
                let json = std::str::from_utf8(&text)?;
                let values = builtin::message_values("bench", None, Payload::Json(json), None);
                batch.push(Op::Message, hlc(), builtin::message(), None, builtin::image(&values))?;
                continue;
            }
            stats::fill(&mut text, spec.size.saturating_sub(16), &mut rng);
            let key = if spec.kind == Kind::Insert { seq } else { rng.u64(..spec.keys) } as i64;
            let values = [Value::Int(key), Value::F64(seq as f64), Value::Text(std::str::from_utf8(&text)?)];
            if spec.kind == Kind::Insert {
                batch.push(Op::Insert, hlc(), &table, None, Some(Image::full(&values)))?;
            } else {
                batch.push(
                    Op::Update,
                    hlc(),
                    &table,
                    Some(Image::full(&values)),
                    Some(Image::full(&values)),
                )?;
            }
        }
        out.push(publish(spec, &batch.finish(), spec.first + n, out.len())?);
        n += count;
    }
    Ok(out)
}

fn hlc() -> u64 {
    (stats::now_ns() / 1_000_000) << 16 | RUN_HLC
}

fn publish(spec: &Spec, batch: &Batch, first: u64, index: usize) -> Result<Vec<u8>> {
    let body: &Bytes = &batch.body;
    // Sequence numbers start at 1.
    let header = Header::V1(HeaderV1 {
        lane: "default".into(),
        epoch: spec.epoch,
        base: spec.first + 1,
        first_seq: first + 1,
        last_seq: first + u64::from(batch.rows),
        rows: batch.rows,
        body_crc: crc32c::crc32c(body),
        body_len: body.len() as u32,
        source: "bench".into(),
        clock: 2,
        boot_offset_us: None,
        tables: if index == 0 { batch.tables.iter().map(|t| t.encode()).collect() } else { Vec::new() },
    });
    let frame = frame::encode(&header, body, Codec::Lz4)?;
    let mut out = Vec::with_capacity(frame.len() + 64);
    let topic = format!("dts/v1/dev-{}/c", spec.device);
    mqtt::publish(&mut out, true, &topic, (index % 65_535 + 1) as u16, &frame);
    Ok(out)
}

type Connected = (net::Writer, Packets<net::Reader>, u64);

async fn connect(addr: &str, device: u64, password: &str) -> Result<Connected> {
    let (reader, mut writer) = net::tcp(addr).await?;
    let name = format!("dev-{device}");
    let client_id = format!("{name}:{:016x}", fastrand::u64(..));
    let user = Some((&*name, password));
    let connect = Connect { v5: true, client_id: &client_id, user, dts: true, keep_alive_s: 60 };
    writer.write_all(&mqtt::connect(&connect)).await?;
    let mut packets = Packets::new(reader);
    packets.connack().await.map_err(|e| format!("{name}: {e}"))?;
    Ok((writer, packets, device))
}

async fn ship(
    frames: Vec<Vec<u8>>,
    mut writer: net::Writer,
    mut packets: Packets<net::Reader>,
    device: u64,
    window: usize,
) -> Result<Vec<u64>> {
    let n = frames.len();
    let state = Rc::new((Cell::new(0usize), Notify::new()));
    let sent = Rc::new(std::cell::RefCell::new(Vec::with_capacity(n)));
    let acks = tokio::task::spawn_local({
        let (state, sent) = (state.clone(), sent.clone());
        async move {
            let mut waits = Vec::with_capacity(n);
            while waits.len() < n {
                let (head, body) = match packets.next().await {
                    Ok(packet) => packet,
                    Err(error) => return Err(format!("dev-{device} after {} frames: {error}", waits.len())),
                };
                if head >> 4 == 4 {
                    if body.get(2).is_some_and(|&reason| reason >= 0x80) {
                        return Err(format!("dev-{device}: frame refused with {:#x}", body[2]));
                    }
                    let at: Instant = sent.borrow()[waits.len()];
                    waits.push(at.elapsed().as_nanos() as u64);
                    state.0.set(waits.len());
                    state.1.notify_one();
                }
            }
            Ok(waits)
        }
    });
    for (i, frame) in frames.iter().enumerate() {
        while i >= state.0.get() + window {
            if acks.is_finished() {
                break;
            }
            tokio::select! {
                () = state.1.notified() => {}
                () = tokio::time::sleep(std::time::Duration::from_millis(500)) => {}
            }
        }
        sent.borrow_mut().push(Instant::now());
        if writer.write_all(frame).await.is_err() {
            break;
        }
    }
    Ok(acks.await??)
}

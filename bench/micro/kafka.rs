//! What it costs to make messages of rows and to hand them to Kafka. One JSON line.
//!
//! `kafka encode [ROWS]`: rows to values and keys, nobody takes them.
//! `kafka sink BROKER TOPIC ROWS [meta=id|full] [format=debezium] [headers] [threads=N] [linger=MS] [compression=…]`: through the
//!   sink, as the pipeline drives it.
//! `kafka bare BROKER TOPIC ROWS …`: the same messages, made before, through librdkafka alone.
//! `kafka kilobyte BROKER TOPIC MESSAGES …`: messages of 1 KB (one text column) through the sink.
//!
//! The rows are those of the peers' load: BIGINT key, INT, DECIMAL(12,2), VARCHAR(40), DATETIME(6), BIGINT, VARCHAR(140): about 200 bytes,
//! 1,000 a transaction, 40 an event of the binlog.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a measurement"
)]

use std::collections::VecDeque;
use std::ffi::CString;
use std::sync::Arc;
use std::time::Instant;

use dts::codec::Part;
use dts::codec::debezium::DebeziumEncoder;
use dts::codec::json::{Encoder, Format, Integers, Meta};
use dts::config::ByteSize;
use dts::event::binlog::{Binlog, Gtid, RowsEvent, Transaction};
use dts::event::{Batch, BatchBuilder, Column, Image, Op, Origin, Table, TableKind, Type, Value};
use dts::runtime::{LocalFuture, block_on};
use dts::sink::kafka::{Compression, Config, Headers, KeyChoice, Partitioner, Plaintext, Template};
use dts::sink::{Sink, SinkConfig, SinkError};
use rdkafka_sys as rd;

fn table(text_only: bool) -> Arc<Table> {
    let key = Column { key: Some(0), ..Column::new("id", Type::I64) };
    let mut columns = vec![key];
    if text_only {
        columns.push(Column::new("pad", Type::Text));
    } else {
        columns.extend([
            Column::new("grp", Type::I32),
            Column::new("amount", Type::Decimal { precision: 12, scale: 2 }),
            Column::new("name", Type::Text),
            Column::new("created", Type::DateTime { fsp: 6 }),
            Column::new("sent_us", Type::I64),
            Column::new("pad", Type::Text),
        ]);
    }
    Arc::new(Table { kind: TableKind::Table, db: "bench".into(), name: "t1".into(), version: 1, columns })
}

/// One transaction of 1,000 rows.
fn batch(table: &Arc<Table>, number: u64, kilobyte: bool) -> Batch {
    let pad: String = (0..1400u32).map(|i| char::from(97 + ((i * 7 + i / 26) % 26) as u8)).collect();
    let mut b = BatchBuilder::new("bench".into());
    for n in 0..1000 {
        let id = number * 1000 + n;
        let k = id.wrapping_mul(2_654_435_761) & 0xffff_ffff;
        let hlc = (1_795_000_000_000 << 16) | n;
        let from = (k % 200) as usize;
        if kilobyte {
            let text = format!("{}{k:08x}", &pad[from..from + 800]);
            let values = [Value::Int(id as i64), Value::Text(&text)];
            b.push(Op::Insert, hlc, table, None, Some(Image::full(&values))).unwrap();
            continue;
        }
        let name = format!("customer-{k:010}");
        let text = format!("{}{k:08x}{:08x}", &pad[from..from + 100], (k * 31) & 0xffff_ffff);
        let created = (((2026 * 13 + 11) << 5 | 22) << 17 | 21 << 12 | 33 << 6 | 44) << 24 | (k % 1_000_000);
        let values = [
            Value::Int(id as i64),
            Value::Int((k % 1000) as i64),
            Value::Decimal(i128::from(k % 100_000_000)),
            Value::Text(&name),
            Value::Uint(created),
            Value::Int(1_795_000_000_000_000 + id as i64),
            Value::Text(&text),
        ];
        b.push(Op::Insert, hlc, table, None, Some(Image::full(&values))).unwrap();
    }
    let mut batch = b.finish();
    let uuid =
        [0x3e, 0x11, 0xfa, 0x47, 0x71, 0xca, 0x11, 0xe1, 0x9e, 0x33, 0xc8, 0x0a, 0xa9, 0x42, 0x95, 0x62];
    let transaction = Transaction {
        gtid: Gtid::MySql { uuid, tag: None, number },
        file: "binlog.000007".into(),
        start: number * 250_000,
        commit_ts_us: Some(1_795_000_000_000_000),
        xa: None,
    };
    let event = |n: u32| RowsEvent {
        first_row: n * 40,
        transaction: 0,
        end: number * 250_000 + u64::from(n) * 8_000,
        ts_ms: 1_795_000_000_000,
    };
    batch.origin = Origin::Binlog(Arc::new(Binlog {
        server_uuid: "".into(),
        transactions: vec![transaction],
        events: (0..25).map(event).collect(),
    }));
    batch
}

fn cpu() -> f64 {
    let usage = |raw: &str| -> f64 { raw.parse::<f64>().unwrap() / 100.0 };
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    usage(fields[11]) + usage(fields[12])
}

fn peak_mb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

struct Args {
    meta: Meta,
    debezium: bool,
    headers: bool,
    threads: u8,
    linger_ms: u32,
    compression: Compression,
}

fn config(broker: &str, topic: &str, args: &Args) -> Config {
    Config {
        brokers: vec![broker.to_owned()],
        security_protocol: Plaintext,
        topic_template: Some(Template::parse(topic).unwrap()),
        allow_shared_topic: false,
        ddl_topic: "none".to_owned(),
        key: KeyChoice::PrimaryKey,
        partitioner: Partitioner::Murmur2,
        tombstones: false,
        headers: if args.headers { Headers::Schema } else { Headers::None },
        format: match args.debezium {
            true => dts::sink::kafka::Format::DebeziumJson,
            false => dts::sink::kafka::Format::DtsJson,
        },
        meta: args.meta,
        integers: Integers::Number,
        compression: args.compression,
        linger_ms: args.linger_ms,
        max_message_bytes: ByteSize(1_000_000),
        queue_bytes: ByteSize(16 << 20),
        encode_threads: args.threads,
        create_topics: None,
    }
}

/// Values and keys of a batch: (value, key) in one buffer.
fn encoded(
    batch: &Batch,
    args: &Args,
    dts: &mut Encoder,
    debezium: &mut DebeziumEncoder,
    out: &mut Vec<u8>,
) -> Vec<[usize; 4]> {
    let mut places = Vec::new();
    for row in batch {
        let row = row.unwrap();
        let start = out.len();
        let (key, end) = if args.debezium {
            let key = debezium.write(out, batch, &row, Part::Whole).unwrap().unwrap();
            let end = key.start;
            (key, end)
        } else {
            let format = Format { meta: args.meta, integers: Integers::Number };
            let key = dts.write(out, batch, &row, format, Part::Whole).unwrap().unwrap();
            (key, out.len())
        };
        places.push([start, end, key.start, key.end]);
    }
    places
}

fn main() {
    let all: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let word = |n: usize| all.get(n).map_or("", String::as_str);
    let option = |name: &str| all.iter().find_map(|a| a.strip_prefix(name)?.strip_prefix('='));
    let args = Args {
        meta: if option("meta") == Some("full") { Meta::Full } else { Meta::Id },
        debezium: option("format") == Some("debezium"),
        headers: all.iter().any(|a| a == "headers"),
        threads: option("threads").map_or(1, |n| n.parse().unwrap()),
        linger_ms: option("linger").map_or(5, |n| n.parse().unwrap()),
        compression: match option("compression") {
            Some("none") => Compression::None,
            Some("snappy") => Compression::Snappy,
            _ => Compression::Lz4,
        },
    };
    match word(0) {
        "encode" => encode(word(1).parse().unwrap_or(1_000_000), &args),
        "sink" => sink(word(1), word(2), word(3).parse().unwrap(), &args, false),
        "kilobyte" => sink(word(1), word(2), word(3).parse().unwrap(), &args, true),
        "bare" => bare(word(1), word(2), word(3).parse().unwrap(), &args),
        _ => eprintln!("encode, sink, kilobyte or bare"),
    }
}

fn encode(rows: u64, args: &Args) {
    let table = table(false);
    let batches: Vec<Batch> = (0..50).map(|n| batch(&table, n, false)).collect();
    let (mut dts, mut debezium) = (Encoder::default(), DebeziumEncoder::default());
    let mut out = Vec::new();
    let mut bytes = 0;
    let body: usize = batches.iter().map(Batch::bytes).sum();
    let (from, started) = (cpu(), Instant::now());
    let mut done = 0;
    while done < rows {
        for batch in &batches {
            out.clear();
            drop(encoded(batch, args, &mut dts, &mut debezium, &mut out));
            bytes += out.len();
            done += 1000;
        }
    }
    let (used, wall) = (cpu() - from, started.elapsed().as_secs_f64());
    println!(
        "{{\"what\":\"encode\",\"rows\":{done},\"row_bytes\":{},\"value_bytes\":{},\"cpu_s_per_million\":{:.3},\"wall_s\":{wall:.2}}}",
        body / 50_000,
        bytes as u64 / done,
        used * 1e6 / done as f64
    );
}

fn said(what: &str, rows: u64, bytes: u64, used: f64, wall: f64) {
    println!(
        "{{\"what\":\"{what}\",\"messages\":{rows},\"bytes\":{},\"messages_per_s\":{:.0},\"mb_per_s\":{:.1},\"cpu_s_per_million\":{:.3},\"peak_mb\":{}}}",
        bytes / rows,
        rows as f64 / wall,
        bytes as f64 / wall / 1e6,
        used * 1e6 / rows as f64,
        peak_mb()
    );
}

/// Sixteen writes of a batch are under way, as the pipeline does it. The batches are made before and used over.
fn sink(broker: &str, topic: &str, rows: u64, args: &Args, kilobyte: bool) {
    let table = table(kilobyte);
    let batches: Vec<Batch> = (0..20).map(|n| batch(&table, n, kilobyte)).collect();
    let (mut dts, mut debezium) = (Encoder::default(), DebeziumEncoder::default());
    let mut out = Vec::new();
    encoded(&batches[0], args, &mut dts, &mut debezium, &mut out);
    let each = out.len() as u64 / 1000;
    drop(out);
    let config = config(broker, topic, args);
    block_on(async {
        let mut sink: Box<dyn Sink> = config.open("bench").await.unwrap();
        sink.write(vec![batches[0].clone()], Vec::new()).await.unwrap();
        let (from, started) = (cpu(), Instant::now());
        let mut begun: VecDeque<LocalFuture<'static, Result<(), SinkError>>> = VecDeque::new();
        let mut next = batches.iter().cycle();
        for _ in 0..rows / 1000 {
            if begun.len() == sink.abilities().writes_under_way {
                begun.pop_front().unwrap().await.unwrap();
            }
            begun.push_back(sink.begin(vec![next.next().unwrap().clone()], Vec::new()).unwrap());
        }
        for write in begun {
            write.await.unwrap();
        }
        let (used, wall) = (cpu() - from, started.elapsed().as_secs_f64());
        said(if kilobyte { "kilobyte" } else { "sink" }, rows, rows * each, used, wall);
        sink.close().await.unwrap();
    });
}

/// librdkafka alone: the same messages, uncopied, in batches of 1,000, all to partition 0; reports are polled and dropped.
fn bare(broker: &str, topic: &str, rows: u64, args: &Args) {
    let table = table(false);
    let (mut dts, mut debezium) = (Encoder::default(), DebeziumEncoder::default());
    let mut out = Vec::new();
    let places: Vec<Vec<[usize; 4]>> =
        (0..20).map(|n| encoded(&batch(&table, n, false), args, &mut dts, &mut debezium, &mut out)).collect();
    let each = out.len() as u64 / 20_000;
    let c = |s: &str| CString::new(s).unwrap();
    let compression = match args.compression {
        Compression::None => "none",
        Compression::Lz4 => "lz4",
        Compression::Snappy => "snappy",
    };
    let linger = args.linger_ms.to_string();
    let settings = [
        ("bootstrap.servers", broker),
        ("enable.idempotence", "true"),
        ("acks", "all"),
        ("linger.ms", &linger),
        ("compression.codec", compression),
        ("batch.num.messages", "100000"),
        ("queue.buffering.max.kbytes", "16384"),
    ];
    // SAFETY: what is made lives to the end of the program; `out` does not change any more.
    unsafe {
        let conf = rd::rd_kafka_conf_new();
        for (name, value) in settings {
            rd::rd_kafka_conf_set(conf, c(name).as_ptr(), c(value).as_ptr(), std::ptr::null_mut(), 0);
        }
        rd::rd_kafka_conf_set_events(conf, rd::RD_KAFKA_EVENT_DR);
        let rk = rd::rd_kafka_new(rd::rd_kafka_type_t::RD_KAFKA_PRODUCER, conf, std::ptr::null_mut(), 0);
        let queue = rd::rd_kafka_queue_get_main(rk);
        let rkt = rd::rd_kafka_topic_new(rk, c(topic).as_ptr(), std::ptr::null_mut());
        let mut done = 0;
        let (from, started) = (cpu(), Instant::now());
        let mut poll = |wait| {
            let event = rd::rd_kafka_queue_poll(queue, wait);
            if !event.is_null() {
                while let Some(m) = rd::rd_kafka_event_message_next(event).as_ref() {
                    assert_eq!(m.err, rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR);
                    done += 1;
                }
                rd::rd_kafka_event_destroy(event);
            }
            done
        };
        for n in 0..rows / 1000 {
            let mut messages: Vec<rd::rd_kafka_message_t> = places[n as usize % 20]
                .iter()
                .map(|&[start, end, key, key_end]| rd::rd_kafka_message_t {
                    err: rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR,
                    rkt: std::ptr::null_mut(),
                    partition: 0,
                    payload: out.as_ptr().add(start).cast_mut().cast(),
                    len: end - start,
                    key: out.as_ptr().add(key).cast_mut().cast(),
                    key_len: key_end - key,
                    offset: 0,
                    _private: std::ptr::null_mut(),
                })
                .collect();
            let mut rest = &mut messages[..];
            while !rest.is_empty() {
                let taken =
                    rd::rd_kafka_produce_batch(rkt, 0, 0, rest.as_mut_ptr(), rest.len() as i32) as usize;
                rest = &mut rest[taken..];
                poll(if rest.is_empty() { 0 } else { 20 });
            }
        }
        while poll(100) < rows {}
        said("bare", rows, rows * each, cpu() - from, started.elapsed().as_secs_f64());
        std::process::exit(0);
    }
}

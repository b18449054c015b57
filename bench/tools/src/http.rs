//! POSTs numbered events at a rate from several keep-alive connections.

use std::cell::{Cell, RefCell};
use std::io::Write as _;
use std::rc::Rc;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::args::Args;
use crate::net::Result;
use crate::stats;

struct Shared {
    addr: String,
    n: u64,
    first: u64,
    batch: u64,
    size: usize,
    rate: f64,
    next: Cell<u64>,
    acked: Cell<u64>,
    busy: Cell<u64>,
    waits: RefCell<Vec<u64>>,
    /// (first number, how many, when the answer came)
    acks: RefCell<Vec<(u64, u64, u64)>>,
    start: Instant,
}

pub async fn run(args: Args) -> Result<()> {
    let connections: usize = args.or("connections", 4)?;
    let shared = Rc::new(Shared {
        addr: args.text("addr")?.to_owned(),
        n: args.or("n", 1000)?,
        first: args.or("first", 0)?,
        batch: args.or("batch", 1)?,
        size: args.or("size", 200)?,
        rate: args.or("rate", 0.0)?,
        next: Cell::new(0),
        acked: Cell::new(0),
        busy: Cell::new(0),
        waits: RefCell::default(),
        acks: RefCell::default(),
        start: Instant::now(),
    });
    let tasks: Vec<_> =
        (0..connections).map(|_| tokio::task::spawn_local(connection(shared.clone()))).collect();
    let mut failed = None;
    for task in tasks {
        if let Err(error) = task.await? {
            failed = Some(error.to_string());
        }
    }
    let seconds = shared.start.elapsed().as_secs_f64();
    if let Some(path) = args.get("acks") {
        let mut out = std::io::BufWriter::new(std::fs::File::create(path)?);
        for (first, n, at) in shared.acks.borrow().iter() {
            for seq in *first..first + n {
                writeln!(out, "{seq} {at}")?;
            }
        }
        out.flush()?;
    }
    let waits = stats::summary(&mut shared.waits.borrow_mut());
    println!(
        "{}",
        json!({"acked": shared.acked.get(), "busy": shared.busy.get(), "seconds": seconds,
        "rate": shared.acked.get() as f64 / seconds, "answer": waits, "failed": failed})
    );
    Ok(())
}

async fn connection(shared: Rc<Shared>) -> Result<()> {
    let mut rng = fastrand::Rng::new();
    let mut stream = BufReader::new(TcpStream::connect(&shared.addr).await?);
    stream.get_ref().set_nodelay(true)?;
    let mut line = String::new();
    loop {
        let at = shared.next.get();
        if at >= shared.n {
            return Ok(());
        }
        let count = shared.batch.min(shared.n - at);
        shared.next.set(at + count);
        if shared.rate > 0.0 {
            let due = shared.start + Duration::from_secs_f64(at as f64 / shared.rate);
            tokio::time::sleep_until(due.into()).await;
        }
        let mut body = Vec::with_capacity((shared.size + 1) * count as usize);
        for i in 0..count {
            if i > 0 {
                body.push(b'\n');
            }
            stats::event(&mut body, shared.first + at + i, shared.size, &mut rng);
        }
        let kind = if shared.batch == 1 { "application/json" } else { "application/x-ndjson" };
        let head = format!(
            "POST /bench HTTP/1.1\r\nHost: a\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        let request = [head.as_bytes(), &body].concat();
        loop {
            let sent = Instant::now();
            stream.write_all(&request).await?;
            let mut length = 0;
            line.clear();
            if stream.read_line(&mut line).await? == 0 {
                return Err("the agent closed the connection".into());
            }
            let status = line.split(' ').nth(1).unwrap_or("").to_owned();
            loop {
                line.clear();
                stream.read_line(&mut line).await?;
                if line.trim_end().is_empty() {
                    break;
                }
                if let Some((name, value)) = line.split_once(':')
                    && name.eq_ignore_ascii_case("content-length")
                {
                    length = value.trim().parse()?;
                }
            }
            let mut text = vec![0; length];
            stream.read_exact(&mut text).await?;
            match status.as_str() {
                "202" => {
                    shared.acks.borrow_mut().push((shared.first + at, count, stats::now_ns()));
                    shared.waits.borrow_mut().push(sent.elapsed().as_nanos() as u64);
                    shared.acked.set(shared.acked.get() + count);
                    break;
                }
                "503" => {
                    shared.busy.set(shared.busy.get() + 1);
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                _ => return Err(format!("answer {status}: {}", String::from_utf8_lossy(&text)).into()),
            }
        }
    }
}

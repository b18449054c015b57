//! Many idle QUIC sessions, and all of them coming back at once.
//!
//! Phases, each announced as a line `{"phase": …}` after which it waits for a line on standard input, so that the caller can look
//! at the centre: `open` (all sessions stand), then `storm` (they were dropped and are all back), once with full handshakes and
//! once with resumed ones.
//!
//! With `--probes N --out FILE` it is instead N sessions that publish one event ten times a second until it is ended, and write when each
//! PUBACK came and what it took: in a process of their own, since one that does thousands of handshakes is late itself.

use std::cell::{Cell, RefCell};
use std::io::Write as _;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::args::Args;
use crate::mqtt::{self, Connect, Packets};
use crate::net::{self, Pki, Result};
use crate::stats;

struct Device {
    name: String,
    config: quinn::ClientConfig,
}

/// An open session; dropped without a word to the other side when `connection` is closed.
struct Session {
    connection: quinn::Connection,
    send: quinn::SendStream,
    packets: Packets<quinn::RecvStream>,
    handshake: Duration,
}

async fn open(endpoint: &quinn::Endpoint, addr: SocketAddr, device: &Device) -> Result<Session> {
    let start = Instant::now();
    let connection = endpoint.connect_with(device.config.clone(), addr, "localhost")?.await?;
    let handshake = start.elapsed();
    let (mut send, recv) = connection.open_bi().await?;
    let connect = Connect { v5: true, client_id: &device.name, user: None, dts: false, keep_alive_s: 300 };
    send.write_all(&mqtt::connect(&connect)).await?;
    let mut packets = Packets::new(recv);
    packets.connack().await?;
    Ok(Session { connection, send, packets, handshake })
}

/// Opens all, at most `rate` attempts a second if it is not 0; each tries again until it is in.
async fn open_all(
    endpoint: &quinn::Endpoint,
    addr: SocketAddr,
    devices: &Rc<Vec<Device>>,
    rate: f64,
    pause: Duration,
) -> Result<(Vec<Session>, u64, Vec<u64>, Vec<u64>)> {
    let (tries, start) = (Rc::new(Cell::new(0u64)), Instant::now());
    let mut tasks = Vec::new();
    for i in 0..devices.len() {
        let (endpoint, devices, tries) = (endpoint.clone(), devices.clone(), tries.clone());
        tasks.push(tokio::task::spawn_local(async move {
            if rate > 0.0 {
                tokio::time::sleep_until((start + Duration::from_secs_f64(i as f64 / rate)).into()).await;
            }
            loop {
                tries.set(tries.get() + 1);
                // As an agent does: who is forgotten asks again.
                let opened = tokio::time::timeout(Duration::from_secs(15), open(&endpoint, addr, &devices[i]));
                match opened.await.unwrap_or_else(|_| Err("no answer".into())) {
                    Ok(session) => return (session, start.elapsed().as_nanos() as u64),
                    Err(error) if tries.get() > 200 * devices.len() as u64 => panic!("{error}"),
                    Err(_) => tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64())).await,
                }
            }
        }));
    }
    let (mut sessions, mut back, mut handshakes) = (Vec::new(), Vec::new(), Vec::new());
    for task in tasks {
        let (session, at) = task.await?;
        back.push(at);
        handshakes.push(session.handshake.as_nanos() as u64);
        sessions.push(session);
    }
    Ok((sessions, tries.get(), back, handshakes))
}

/// Publishes, and notes (nanoseconds since 1970, nanoseconds until the PUBACK).
async fn probe(mut session: Session, name: String, waits: Rc<RefCell<Vec<(u64, u64)>>>) -> Result<()> {
    let mut tick = tokio::time::interval(Duration::from_millis(100));
    for n in 0u64.. {
        tick.tick().await;
        let mut out = Vec::new();
        mqtt::publish(&mut out, true, &format!("probe/{name}"), (n % 65_535 + 1) as u16, b"{\"probe\":1}");
        let start = Instant::now();
        session.send.write_all(&out).await?;
        while session.packets.next().await?.0 >> 4 != 4 {}
        waits.borrow_mut().push((stats::now_ns(), start.elapsed().as_nanos() as u64));
    }
    Ok(())
}

async fn probes(addr: SocketAddr, devices: Rc<Vec<Device>>, path: &str) -> Result<()> {
    let endpoint = net::endpoint()?;
    let (sessions, ..) = open_all(&endpoint, addr, &devices, 100.0, Duration::from_millis(500)).await?;
    let waits: Rc<RefCell<Vec<(u64, u64)>>> = Rc::default();
    let mut running = Vec::new();
    for (session, device) in sessions.into_iter().zip(devices.iter()) {
        running.push(tokio::task::spawn_local(
            probe(session, device.name.clone(), waits.clone()).map_err_to_log(),
        ));
    }
    println!("{}", json!({"phase": "ready"}));
    std::io::stdout().flush()?;
    let mut out = std::fs::File::create(path)?;
    loop {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let mut text = String::new();
        for (at, wait) in waits.borrow_mut().drain(..) {
            text.push_str(&format!("{at} {wait}\n"));
        }
        out.write_all(text.as_bytes())?;
    }
}

async fn say(line: serde_json::Value, stdin: &mut BufReader<tokio::io::Stdin>) -> Result<()> {
    println!("{line}");
    std::io::stdout().flush()?;
    let mut answer = String::new();
    stdin.read_line(&mut answer).await?;
    Ok(())
}

pub async fn run(args: Args) -> Result<()> {
    let addr: SocketAddr = args.text("addr")?.parse()?;
    let (n, probes): (usize, usize) = (args.or("n", 1000)?, args.or("probes", 0)?);
    let (rate, storms): (f64, usize) = (args.or("rate", 300.0)?, args.or("storms", 0)?);
    let pause = Duration::from_millis(args.or("pause-ms", 2000)?);
    let pki = Pki::load(args.text("ca")?, args.text("ca-key")?)?;
    let mut stdin = BufReader::new(tokio::io::stdin());
    let devices = |prefix: &str, n: usize| -> Result<Rc<Vec<Device>>> {
        let device = |i| {
            let name = format!("{prefix}-{i}");
            Ok(Device { config: pki.device(&name)?, name })
        };
        Ok(Rc::new((0..n).map(device).collect::<Result<_>>()?))
    };
    let endpoint = net::endpoint()?;
    if let Some(path) = args.get("out") {
        return self::probes(addr, devices("probe", probes)?, path).await;
    }
    let mut fleet = devices("idle", n)?;
    say(json!({"phase": "ready"}), &mut stdin).await?;
    let (mut sessions, tries, mut back, mut handshakes) =
        open_all(&endpoint, addr, &fleet, rate, pause).await?;
    tokio::time::sleep(Duration::from_secs(args.or("settle-s", 5)?)).await;
    say(
        json!({"phase": "open", "sessions": sessions.len(), "tries": tries, "back": stats::summary(&mut back),
            "handshake": stats::summary(&mut handshakes)}),
        &mut stdin,
    )
    .await?;
    for storm in 0..storms {
        // The first with tickets at hand, the second as devices that were never here.
        let resumed = storm == 0;
        for session in sessions.drain(..) {
            session.connection.close(0u32.into(), b"");
        }
        if !resumed {
            fleet = devices("idle", n)?;
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
        say(json!({"phase": "closed"}), &mut stdin).await?;
        let (opened, tries, mut back, mut handshakes) = open_all(&endpoint, addr, &fleet, 0.0, pause).await?;
        sessions = opened;
        say(
            json!({"phase": "storm", "resumed": resumed, "sessions": sessions.len(), "tries": tries,
                "back": stats::summary(&mut back), "handshake": stats::summary(&mut handshakes)}),
            &mut stdin,
        )
        .await?;
    }
    Ok(())
}

trait MapErrToLog {
    async fn map_err_to_log(self);
}

impl<F: Future<Output = Result<()>>> MapErrToLog for F {
    async fn map_err_to_log(self) {
        if let Err(error) = self.await {
            eprintln!("probe: {error}");
        }
    }
}

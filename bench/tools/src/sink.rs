//! The upstream of agents that are not dts: takes MQTT publishes, acknowledges them, counts the numbers in them.
//!
//! SIGUSR1 closes listener and connections (an outage), SIGUSR2 opens them again. Prints ten lines a second.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;

use crate::args::Args;
use crate::mqtt::{self, Packets};
use crate::net::Result;
use crate::stats;

#[derive(Default)]
struct Counter {
    seen: Vec<u64>,
    unique: u64,
    twice: u64,
    latencies: Vec<u64>,
}

impl Counter {
    fn scan(&mut self, mut bytes: &[u8]) {
        let now = stats::now_ns();
        while let Some(at) = find(bytes, b"seq") {
            bytes = &bytes[at + 3..];
            let Some(seq) = number(bytes).filter(|n| *n < 1 << 32) else { continue };
            let (word, bit) = (seq as usize / 64, 1 << (seq % 64));
            if self.seen.len() <= word {
                self.seen.resize(word + 1024, 0);
            }
            if self.seen[word] & bit != 0 {
                self.twice += 1;
            } else {
                self.seen[word] |= bit;
                self.unique += 1;
            }
            if let Some(at) = find(bytes, b"ts").filter(|at| *at < 64)
                && let Some(made) = number(&bytes[at + 2..])
            {
                self.latencies.push(now.saturating_sub(made));
            }
        }
    }

    fn report(&mut self, start: Instant) -> Value {
        let mut latencies = std::mem::take(&mut self.latencies);
        json!({"t": start.elapsed().as_secs_f64(), "unique": self.unique, "twice": self.twice,
            "latency": stats::summary(&mut latencies)})
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|w| w == needle)
}

fn number(bytes: &[u8]) -> Option<u64> {
    let digits = bytes.iter().skip_while(|b| b"\":= ".contains(b)).take_while(|b| b.is_ascii_digit());
    let mut n = None;
    for d in digits {
        n = Some(n.unwrap_or(0u64).wrapping_mul(10).wrapping_add(u64::from(d - b'0')));
    }
    n
}

pub async fn run(args: Args) -> Result<()> {
    let addr = args.text("addr")?.to_owned();
    let counter = Rc::new(RefCell::new(Counter::default()));
    let start = Instant::now();
    let mut down = signal(SignalKind::user_defined1())?;
    let mut up = signal(SignalKind::user_defined2())?;
    let mut end = signal(SignalKind::terminate())?;
    let mut tick = tokio::time::interval(Duration::from_millis(100));
    let mut listening = Some(listen(&addr, &counter).await?);
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            _ = down.recv() => {
                if let Some((task, connections)) = listening.take() {
                    task.abort();
                    connections.borrow_mut().drain(..).for_each(|c| c.abort());
                }
            }
            _ = up.recv() => if listening.is_none() { listening = Some(listen(&addr, &counter).await?) },
            _ = end.recv() => break,
        }
        println!("{}", counter.borrow_mut().report(start));
    }
    println!("{}", counter.borrow_mut().report(start));
    Ok(())
}

type Tasks = Rc<RefCell<Vec<JoinHandle<()>>>>;

async fn listen(addr: &str, counter: &Rc<RefCell<Counter>>) -> Result<(JoinHandle<()>, Tasks)> {
    let listener = TcpListener::bind(addr).await?;
    let connections = Tasks::default();
    let (counter, held) = (counter.clone(), connections.clone());
    let task = tokio::task::spawn_local(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let counter = counter.clone();
            held.borrow_mut().push(tokio::task::spawn_local(async move {
                serve(stream, counter).await.ok();
            }));
        }
    });
    Ok((task, connections))
}

async fn serve(stream: TcpStream, counter: Rc<RefCell<Counter>>) -> Result<()> {
    stream.set_nodelay(true)?;
    let (reader, mut writer) = stream.into_split();
    let mut packets = Packets::new(reader);
    let (mut out, mut v5) = (Vec::new(), false);
    loop {
        let (head, body) = packets.next().await?;
        match head >> 4 {
            1 => {
                v5 = body.get(6) == Some(&5);
                mqtt::packet(&mut out, 0x20, if v5 { &[0, 0, 0] } else { &[0, 0] });
            }
            3 => {
                let topic = 2 + usize::from(u16::from_be_bytes([body[0], body[1]]));
                counter.borrow_mut().scan(&body[topic..]);
                if head >> 1 & 3 == 1 {
                    mqtt::packet(&mut out, 0x40, &body[topic..topic + 2]);
                }
            }
            8 => {
                let mut ack = body[..2].to_vec();
                ack.extend_from_slice(if v5 { &[0, 1] } else { &[1] });
                mqtt::packet(&mut out, 0x90, &ack);
            }
            10 => mqtt::packet(&mut out, 0xb0, &body[..2]),
            12 => mqtt::packet(&mut out, 0xd0, &[]),
            14 => return Ok(()),
            _ => {}
        }
        if packets.is_empty() || out.len() > 1 << 14 {
            writer.write_all(&out).await?;
            out.clear();
        }
    }
}

//! Plain MQTT 3.1.1 clients that publish at QoS 1, each with a window of unacknowledged messages.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::sync::Notify;

use crate::args::Args;
use crate::mqtt::{self, Connect, Packets};
use crate::net::{self, Result};
use crate::stats;

#[derive(Default)]
struct Client {
    sent: RefCell<VecDeque<Instant>>,
    acked: Cell<u64>,
    room: Notify,
    broken: Cell<bool>,
}

pub async fn run(args: Args) -> Result<()> {
    let (n, clients): (u64, u64) = (args.or("n", 1000)?, args.or("clients", 1)?);
    let rate: f64 = args.or("rate", 0.0)?;
    let args = Rc::new(args);
    let waits = Rc::new(RefCell::new(Vec::new()));
    let start = Instant::now();
    let mut tasks = Vec::new();
    for c in 0..clients {
        let (args, waits) = (args.clone(), waits.clone());
        let share = n / clients + u64::from(c < n % clients);
        tasks.push(tokio::task::spawn_local(client(args, waits, c, share, rate / clients as f64, start)));
    }
    let (mut acked, mut failed) = (0, None);
    for task in tasks {
        match task.await? {
            Ok(n) => acked += n,
            Err(error) => failed = Some(error.to_string()),
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    let waits = stats::summary(&mut waits.borrow_mut());
    println!(
        "{}",
        json!({"acked": acked, "seconds": seconds, "rate": acked as f64 / seconds, "puback": waits, "failed": failed})
    );
    Ok(())
}

async fn client(
    args: Rc<Args>,
    waits: Rc<RefCell<Vec<u64>>>,
    index: u64,
    n: u64,
    rate: f64,
    start: Instant,
) -> Result<u64> {
    let (size, window): (usize, usize) = (args.or("size", 200)?, args.or("window", 20)?);
    let first: u64 = args.or("first", 0)?;
    let topic = args.get("topic").unwrap_or("t/dev").to_owned();
    let (reader, mut writer) = net::tcp(args.text("addr")?).await?;
    let user = args.get("user").map(|u| u.replace("{n}", &index.to_string()));
    let id = user.as_deref().map_or(format!("load{index}"), |u| format!("{u}:plain{index}"));
    let password = args.get("password").unwrap_or("");
    let connect = Connect {
        v5: false,
        client_id: &id,
        user: user.as_deref().map(|u| (u, password)),
        dts: false,
        keep_alive_s: 60,
    };
    writer.write_all(&mqtt::connect(&connect)).await?;
    let mut packets = Packets::new(reader);
    packets.connack().await?;
    let shared = Rc::new(Client::default());
    let acks = tokio::task::spawn_local({
        let shared = shared.clone();
        async move {
            while shared.acked.get() < n {
                let Ok((head, _)) = packets.next().await else {
                    shared.broken.set(true);
                    shared.room.notify_one();
                    break;
                };
                if head >> 4 == 4 {
                    if let Some(sent) = shared.sent.borrow_mut().pop_front() {
                        waits.borrow_mut().push(sent.elapsed().as_nanos() as u64);
                    }
                    shared.acked.set(shared.acked.get() + 1);
                    shared.room.notify_one();
                }
            }
        }
    });
    let mut rng = fastrand::Rng::with_seed(index);
    let (mut out, mut body) = (Vec::new(), Vec::new());
    for i in 0..n {
        while shared.sent.borrow().len() >= window && !shared.broken.get() {
            if !out.is_empty() {
                writer.write_all(&out).await?;
                out.clear();
            }
            shared.room.notified().await;
        }
        if shared.broken.get() {
            return Err(format!("connection lost after {} acknowledged", shared.acked.get()).into());
        }
        if rate > 0.0 {
            let due = start + Duration::from_secs_f64(i as f64 / rate);
            if due > Instant::now() + Duration::from_millis(1) {
                writer.write_all(&out).await?;
                out.clear();
                tokio::time::sleep_until(due.into()).await;
            }
        }
        body.clear();
        stats::event(&mut body, first + index * n + i, size, &mut rng);
        mqtt::publish(&mut out, false, &topic, (i % 65_535 + 1) as u16, &body);
        shared.sent.borrow_mut().push_back(Instant::now());
        if out.len() > 1 << 14 {
            writer.write_all(&out).await?;
            out.clear();
        }
    }
    writer.write_all(&out).await?;
    acks.await?;
    writer.write_all(&[0xe0, 0]).await.ok();
    Ok(shared.acked.get())
}

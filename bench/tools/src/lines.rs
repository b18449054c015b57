//! Numbered events as lines of the influx protocol over TCP: what telegraf takes. No answers.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::AsyncWriteExt;

use crate::args::Args;
use crate::net::{self, Result};
use crate::stats;

pub async fn run(args: Args) -> Result<()> {
    let (n, first): (u64, u64) = (args.or("n", 1000)?, args.or("first", 0)?);
    let (rate, size): (f64, usize) = (args.or("rate", 0.0)?, args.or("size", 200)?);
    let (_reader, mut writer) = net::tcp(args.text("addr")?).await?;
    let mut rng = fastrand::Rng::new();
    let start = Instant::now();
    let mut out = Vec::new();
    for i in 0..n {
        let begin = out.len();
        out.extend_from_slice(format!("m seq={}i,ts={}i,pad=\"", first + i, stats::now_ns()).as_bytes());
        let pad = (begin + size).saturating_sub(out.len() + 1);
        stats::fill(&mut out, pad, &mut rng);
        out.extend_from_slice(b"\"\n");
        if rate > 0.0 {
            let due = start + Duration::from_secs_f64(i as f64 / rate);
            if due > Instant::now() + Duration::from_millis(1) {
                writer.write_all(&out).await?;
                out.clear();
                tokio::time::sleep_until(due.into()).await;
            }
        } else if out.len() > 1 << 16 {
            writer.write_all(&out).await?;
            out.clear();
        }
    }
    writer.write_all(&out).await?;
    writer.shutdown().await?;
    let seconds = start.elapsed().as_secs_f64();
    println!("{}", json!({"sent": n, "seconds": seconds, "rate": n as f64 / seconds}));
    Ok(())
}

//! When numbered events show in a mirror's table `messages`. SQLite shows a commit to readers only when its write-ahead log was
//! synced (`synchronous=FULL`), so that is when it is durable.

use std::io::Write as _;
use std::time::{Duration, Instant};

use rusqlite::{Connection, OpenFlags};
use serde_json::json;

use crate::args::Args;
use crate::net::Result;
use crate::stats;

pub fn run(args: &Args) -> Result<()> {
    let (path, n): (&str, u64) = (args.text("db")?, args.or("n", 1000)?);
    let limit = Duration::from_secs(args.or("limit", 120)?);
    let column = args.get("column").unwrap_or("payload");
    let start = Instant::now();
    let conn = loop {
        match Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY) {
            Ok(conn) if conn.prepare(&format!("SELECT {column} FROM messages LIMIT 1")).is_ok() => {
                break conn;
            }
            other if start.elapsed() > limit => return Err(format!("{path}: {other:?}").into()),
            _ => std::thread::sleep(Duration::from_millis(5)),
        }
    };
    let mut out = std::io::BufWriter::new(std::fs::File::create(args.text("out")?)?);
    let (mut version, mut last, mut found) = (-1i64, 0i64, 0u64);
    while found < n && start.elapsed() < limit {
        let now_version: i64 = conn.pragma_query_value(None, "data_version", |r| r.get(0))?;
        if now_version == version {
            std::thread::sleep(Duration::from_millis(1));
            continue;
        }
        version = now_version;
        let at = stats::now_ns();
        let mut rows = conn.prepare_cached(&format!(
            "SELECT rowid, {column} FROM messages WHERE rowid > ?1 ORDER BY rowid"
        ))?;
        let mut rows = rows.query([last])?;
        while let Some(row) = rows.next()? {
            last = row.get(0)?;
            let text: String = row.get(1)?;
            let seq: String =
                text.trim_start_matches("{\"seq\":").chars().take_while(char::is_ascii_digit).collect();
            // The agent's own status comes along as messages.
            if !seq.is_empty() {
                writeln!(out, "{seq} {at}")?;
                found += 1;
            }
        }
    }
    out.flush()?;
    println!("{}", json!({"found": found, "seconds": start.elapsed().as_secs_f64()}));
    Ok(())
}

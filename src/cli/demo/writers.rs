//! The applications of the demo, each a process of its own: they know nothing of dts.
//!
//! Each writes until the file `stop` appears in its folder, then says in `<kind>.made` how much it made.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_lite::{AsyncReadExt, AsyncWriteExt};

use super::process::{ADDRESS, FOLDER};
use crate::runtime::{self, block_on, sleep};

/// Runs the writer `kind` as its environment says.
pub(super) fn run(kind: &str) -> Result<(), String> {
    let variable = |name: &str| std::env::var(name).map_err(|_| format!("{name} is not set"));
    let (dir, address) = (PathBuf::from(variable(FOLDER)?), variable(ADDRESS)?);
    block_on(async {
        let made = match kind {
            "sqlite" => sqlite(&dir).await.map_err(|e| e.to_string())?,
            "http" => http(&dir, &address).await?,
            "log" => log_file(&dir).await.map_err(|e| e.to_string())?,
            _ => return Err(format!("no writer `{kind}`")),
        };
        std::fs::write(dir.join(format!("{kind}.made")), made.to_string()).map_err(|e| e.to_string())
    })
}

fn stopped(dir: &Path) -> bool {
    dir.join("stop").exists()
}

/// Half-way, the application is updated: its table gets a column.
fn migrate_now(dir: &Path) -> bool {
    dir.join("migrate").exists()
}

/// An application with readings that come, change and go. Returns the row changes made.
async fn sqlite(dir: &Path) -> Result<u64, rusqlite::Error> {
    let db = rusqlite::Connection::open(dir.join("app.db"))?;
    db.busy_timeout(Duration::from_secs(10))?;
    db.execute_batch(
        "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;
         CREATE TABLE IF NOT EXISTS reading(id INTEGER PRIMARY KEY, sensor TEXT NOT NULL, value REAL, note);
         CREATE TABLE IF NOT EXISTS setting(name TEXT PRIMARY KEY, value) WITHOUT ROWID;",
    )?;
    let mut rng = runtime::rng();
    let (mut made, mut migrated, mut n) = (0u64, false, 0i64);
    while !stopped(dir) {
        if !migrated && migrate_now(dir) {
            db.execute_batch("ALTER TABLE reading ADD COLUMN unit TEXT DEFAULT 'C'")?;
            migrated = true;
        }
        let tx = db.unchecked_transaction()?;
        for _ in 0..rng.u32(1..8) {
            n += 1;
            let sensor = format!("s{}", rng.u8(0..20));
            made += match rng.u8(0..10) {
                0..=5 => db.execute(
                    "INSERT INTO reading(id, sensor, value, note) VALUES(?1, ?2, ?3, ?4)",
                    (n, &sensor, rng.f64() * 100.0, rng.bool().then_some("ok")),
                )?,
                6 | 7 => {
                    db.execute("UPDATE reading SET value = value + 1 WHERE id = ?1", [rng.i64(0..n.max(1))])?
                }
                8 => db.execute("DELETE FROM reading WHERE id = ?1", [rng.i64(0..n.max(1))])?,
                _ => db.execute("INSERT OR REPLACE INTO setting VALUES(?1, ?2)", (&sensor, n))?,
            } as u64;
        }
        tx.commit()?;
        sleep(Duration::from_millis(rng.u64(5..25))).await;
    }
    Ok(made)
}

/// Posts JSON events, each with an id, and posts again what got no answer. Returns the events answered.
async fn http(dir: &Path, address: &str) -> Result<u64, String> {
    let mut rng = runtime::rng();
    let mut made = 0u64;
    while !stopped(dir) {
        let body = format!("{{\"n\":{made},\"temperature\":{:.2}}}", 20.0 + 5.0 * rng.f64());
        if post(address, made, &body).await.is_ok() {
            made += 1;
            sleep(Duration::from_millis(8)).await;
        } else {
            sleep(Duration::from_millis(100)).await;
        }
    }
    Ok(made)
}

/// One request on a connection of its own.
async fn post(address: &str, key: u64, body: &str) -> std::io::Result<()> {
    let mut stream = async_net::TcpStream::connect(address).await?;
    let request = format!(
        "POST /room/1 HTTP/1.1\r\nHost: demo\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Idempotency-Key: demo-{key}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let taken = answer.starts_with("HTTP/1.1 202") || answer.starts_with("HTTP/1.1 200");
    if taken { Ok(()) } else { Err(std::io::Error::other(answer)) }
}

/// Writes log lines and rotates the file by renaming it. Returns the lines written.
async fn log_file(dir: &Path) -> std::io::Result<u64> {
    let path = dir.join("app.log");
    let mut made = 0u64;
    let mut file = std::fs::File::options().create(true).append(true).open(&path)?;
    while !stopped(dir) {
        writeln!(file, "level=info n={made} msg=\"something happened\"")?;
        made += 1;
        if made.is_multiple_of(1500) {
            std::fs::rename(&path, dir.join(format!("app.log.{}", made / 1500)))?;
            file = std::fs::File::options().create(true).append(true).open(&path)?;
        }
        sleep(Duration::from_millis(4)).await;
    }
    Ok(made)
}

//! What arrived.

use std::path::Path;

use rusqlite::{Connection, OpenFlags};
use serde_json::Value;

/// A row of the mirror's `messages`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) device: String,
    pub(crate) lane: String,
    pub(crate) epoch: i64,
    pub(crate) seq: i64,
    pub(crate) topic: String,
    pub(crate) payload: String,
}

fn open(path: &Path) -> Option<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(path, flags).ok()?;
    conn.busy_timeout(std::time::Duration::from_secs(10)).ok()?;
    Some(conn)
}

/// The mirror's messages in the order in which they were written, without those that tell a device's status; none if
/// there is no mirror yet.
pub(crate) fn messages(mirror: &Path) -> Vec<Message> {
    let all = || -> Option<Vec<Message>> {
        let conn = open(mirror)?;
        let sql = "SELECT device, lane, epoch, seq, topic, payload FROM messages \
                   WHERE topic NOT LIKE 'dts/v1/%' ORDER BY id";
        let mut query = conn.prepare(sql).ok()?;
        let rows = query.query_map([], |r| {
            Ok(Message {
                device: r.get(0)?,
                lane: r.get(1)?,
                epoch: r.get(2)?,
                seq: r.get(3)?,
                topic: r.get(4)?,
                payload: r.get(5)?,
            })
        });
        rows.ok()?.collect::<Result<_, _>>().ok()
    };
    all().unwrap_or_default()
}

/// The losses that the mirror was told of: reason, rows.
pub(crate) fn losses(mirror: &Path) -> Vec<(String, u64)> {
    let all = || -> Option<Vec<(String, u64)>> {
        let conn = open(mirror)?;
        let mut query = conn.prepare("SELECT reason, rows FROM dts_losses ORDER BY id").ok()?;
        let rows = query.query_map([], |r| Ok((r.get(0)?, r.get::<_, i64>(1)? as u64)));
        rows.ok()?.collect::<Result<_, _>>().ok()
    };
    all().unwrap_or_default()
}

/// The whole lines of a file of dts JSON; every one of them must be JSON.
pub(crate) fn ndjson(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
    whole.lines().map(parse).collect()
}

/// Topic and payload of the messages among them, without those that tell a device's status.
pub(crate) fn payloads(path: &Path) -> Vec<(String, Value)> {
    events(path)
        .into_iter()
        .map(|v| (v["topic"].as_str().unwrap().to_owned(), v["payload"].clone()))
        .collect()
}

/// The messages among them as they are.
pub(crate) fn events(path: &Path) -> Vec<Value> {
    let mut all = ndjson(path);
    all.retain(|v| v["kind"] == "message" && !v["topic"].as_str().unwrap().starts_with("dts/v1/"));
    all
}

//! What the buffer says of itself on the control socket.

use crate::engine::answers::Buffer;
use crate::event::Batch;
use crate::runtime::LocalFuture;
use crate::spool::{Spool, Stats};

impl Buffer for Spool {
    fn stats(&self) -> LocalFuture<'_, Result<serde_json::Value, String>> {
        Box::pin(async {
            Self::stats(self).await.map(|stats| json(&stats)).map_err(|error| error.to_string())
        })
    }

    fn peek(&self, lane: Option<String>, limit: usize) -> LocalFuture<'_, Result<Vec<Batch>, String>> {
        Box::pin(
            async move { Self::peek(self, lane.as_deref(), limit).await.map_err(|error| error.to_string()) },
        )
    }
}

/// The numbers as `dts spool stats --json` prints them.
pub(crate) fn json(stats: &Stats) -> serde_json::Value {
    let lanes = stats.lanes.iter().map(|l| {
        serde_json::json!({
            "lane": &*l.name,
            "class": format!("{:?}", l.class).to_lowercase(),
            "configured": l.configured,
            "epoch": format!("{:016x}", l.epoch),
            "next_seq": l.next_seq,
            "bytes": l.bytes,
            "batches": l.batches,
            "rows": l.rows,
            "memory_rows": l.memory_rows,
            "memory_bytes": l.memory_bytes,
            "kept_bytes": l.kept_bytes,
            "in_window": l.window,
            "oldest_s": l.oldest.map(|d| d.as_secs()),
            "lost_rows": l.lost_rows,
        })
    });
    serde_json::json!({
        "file_bytes": stats.file_bytes,
        "wal_bytes": stats.wal_bytes,
        "disk_full": stats.disk_full,
        "down": stats.down,
        "quarantined": stats.quarantined,
        "lanes": lanes.collect::<Vec<_>>(),
    })
}

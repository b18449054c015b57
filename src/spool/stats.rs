//! Numbers.

use std::sync::Arc;
use std::time::Duration;

use super::options::Class;
use super::schema;
use super::store::Store;
use crate::runtime::Mono;

/// The whole spool.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    /// Bytes of the database file.
    pub file_bytes: u64,
    /// Bytes of its write-ahead log.
    pub wal_bytes: u64,
    /// The disk is full.
    pub disk_full: bool,
    /// The file cannot be used now.
    pub down: bool,
    /// Damaged files that were set aside, ever.
    pub quarantined: u64,
    /// Lanes by their order in the file.
    pub lanes: Vec<LaneStats>,
}

/// One lane.
#[derive(Clone, Debug)]
pub struct LaneStats {
    /// Its name.
    pub name: Arc<str>,
    /// Its durability class.
    pub class: Class,
    /// Whether it stands in the config; if not, it is only drained.
    pub configured: bool,
    /// Its share of the link.
    pub weight: u32,
    /// The epoch that it stamps now.
    pub epoch: u64,
    /// The sequence number that comes next.
    pub next_seq: u64,
    /// Bytes held and not acknowledged, overhead and memory included.
    pub bytes: u64,
    /// Batches on disk, not acknowledged.
    pub batches: u64,
    /// Rows on disk, not acknowledged.
    pub rows: u64,
    /// Rows in memory only.
    pub memory_rows: u64,
    /// Bytes in memory only.
    pub memory_bytes: u64,
    /// Acknowledged bytes that are kept.
    pub kept_bytes: u64,
    /// Batches handed out and not acknowledged.
    pub window: usize,
    /// Age of the oldest batch on disk, in powered time.
    pub oldest: Option<Duration>,
    /// Rows lost, ever, all reasons together.
    pub lost_rows: u64,
}

impl Store {
    /// What is held now. O(1) in the backlog.
    pub fn stats(&mut self, now: Mono) -> Stats {
        let elapsed = self.elapsed(now);
        let size = |name: &str| self.folder.size(name).unwrap_or(0);
        let lanes = (0..self.lanes.len()).map(|i| {
            let lane = &self.lanes[i];
            let first = match &self.conn {
                Some(conn) if lane.on_disk() => self.heads(conn, i, lane.meta.acked_n, 1).unwrap_or_default(),
                _ => Vec::new(),
            };
            let acked: u64 = lane.acked.values().map(|c| c.rows).sum();
            let mem_rows: u64 = lane.mem.iter().filter(|m| !m.acked).map(|m| u64::from(m.head.rows)).sum();
            LaneStats {
                name: lane.name().clone(),
                class: lane.options.class,
                configured: lane.configured,
                weight: lane.options.weight,
                epoch: lane.meta.era().map_or(0, |e| e.epoch),
                next_seq: lane.meta.next_seq(),
                bytes: lane.bytes(),
                batches: lane.unread(),
                rows: lane.meta.rows.saturating_sub(acked),
                memory_rows: mem_rows + lane.pending_rows,
                memory_bytes: lane.mem_bytes,
                kept_bytes: lane.meta.kept_bytes,
                window: lane.window.len(),
                oldest: first.first().map(|h| Duration::from_micros(elapsed.saturating_sub(h.made))),
                lost_rows: lane.meta.lost_rows,
            }
        });
        Stats {
            lanes: lanes.collect(),
            file_bytes: size(schema::FILE),
            wal_bytes: size(&format!("{}-wal", schema::FILE)),
            disk_full: self.space.full,
            down: self.conn.is_none(),
            quarantined: self.meta.quarantined,
        }
    }

    /// Sets the gauges.
    pub(super) fn publish(&mut self, now: Mono) {
        let stats = self.stats(now);
        let gauge = crate::telemetry::gauge;
        gauge("dts_spool_file_bytes", &[], (stats.file_bytes + stats.wal_bytes) as f64);
        gauge("dts_spool_disk_full", &[], f64::from(u8::from(stats.disk_full)));
        gauge("dts_spool_down", &[], f64::from(u8::from(stats.down)));
        for lane in &stats.lanes {
            let labels = [("lane", &*lane.name)];
            gauge("dts_spool_bytes", &labels, lane.bytes as f64);
            gauge("dts_spool_rows", &labels, (lane.rows + lane.memory_rows) as f64);
            gauge("dts_spool_oldest_seconds", &labels, lane.oldest.unwrap_or_default().as_secs_f64());
        }
    }
}

//! The device's status as it is published (`dts/v1/<device>/s`, retained): at the start of a session, when something
//! changed, and every hour.
//!
//! ```json
//! {"dts": "0.1.0", "instance": "0000000000000abc", "boot": "00000000000000ff", "uptime_s": 12,
//!  "link": {"transport": "quic", "connections": 3, "rtt_ms": 21.5}, "clock": {"state": "synced", "bound_ms": 2.1},
//!  "buffer": {"file_bytes": 65536, "disk_full": false, "down": false, "quarantined": 0, "lanes": [
//!    {"lane": "data", "epoch": "00000003deadbeef", "next_seq": 18, "rows": 0, "bytes": 0, "oldest_s": 0, "lost_rows": 0}]}}
//! ```

use std::time::Duration;

use crate::event::batch::ClockState;
use crate::runtime::Mono;
use crate::spool::Stats;

/// Without a change it is said again.
pub(super) const EVERY: Duration = Duration::from_secs(3600);
/// How often the buffer is asked whether something changed.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(60);

/// What is known beside the buffer.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Device {
    pub(super) instance: u64,
    pub(super) boot: u64,
    pub(super) transport: &'static str,
    pub(super) connections: u64,
    pub(super) rtt: Option<Duration>,
    pub(super) clock: ClockState,
    /// Half of what the centre's time may be off.
    pub(super) bound: Option<Duration>,
}

/// When the status was said last, and what of it a change is measured by.
#[derive(Debug, Default)]
pub(super) struct Status {
    started: Option<Mono>,
    said: Option<(Mono, Gist)>,
}

/// What a person wants to know at once.
#[derive(Clone, Debug, PartialEq)]
struct Gist {
    transport: &'static str,
    connections: u64,
    clock: ClockState,
    disk_full: bool,
    down: bool,
    quarantined: u64,
    lost_rows: u64,
}

impl Status {
    /// The document, if it is time to say it.
    pub(super) fn document(&mut self, now: Mono, device: &Device, stats: &Stats) -> Option<String> {
        let started = *self.started.get_or_insert(now);
        let gist = Gist {
            transport: device.transport,
            connections: device.connections,
            clock: device.clock,
            disk_full: stats.disk_full,
            down: stats.down,
            quarantined: stats.quarantined,
            lost_rows: stats.lanes.iter().map(|l| l.lost_rows).sum(),
        };
        let fresh = |(at, old): &(Mono, Gist)| now.since(*at) < EVERY && *old == gist;
        if self.said.as_ref().is_some_and(fresh) {
            return None;
        }
        self.said = Some((now, gist));
        Some(document(now.since(started), device, stats))
    }
}

fn document(uptime: Duration, device: &Device, stats: &Stats) -> String {
    let ms = |d: Duration| (d.as_micros() as f64) / 1000.0;
    let state = match device.clock {
        ClockState::Unknown => "unknown",
        ClockState::Estimated => "estimated",
        ClockState::Synced => "synced",
    };
    let lanes: Vec<_> = stats
        .lanes
        .iter()
        .map(|lane| {
            serde_json::json!({
                "lane": &*lane.name,
                "epoch": format!("{:016x}", lane.epoch),
                "next_seq": lane.next_seq,
                "rows": lane.rows + lane.memory_rows,
                "bytes": lane.bytes,
                "oldest_s": lane.oldest.unwrap_or_default().as_secs(),
                "lost_rows": lane.lost_rows,
            })
        })
        .collect();
    serde_json::json!({
        "dts": env!("CARGO_PKG_VERSION"),
        "instance": format!("{:016x}", device.instance),
        "boot": format!("{:016x}", device.boot),
        "uptime_s": uptime.as_secs(),
        "link": { "transport": device.transport, "connections": device.connections, "rtt_ms": device.rtt.map(ms) },
        "clock": { "state": state, "bound_ms": device.bound.map(ms) },
        "buffer": {
            "file_bytes": stats.file_bytes + stats.wal_bytes,
            "disk_full": stats.disk_full,
            "down": stats.down,
            "quarantined": stats.quarantined,
            "lanes": lanes,
        },
    })
    .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device() -> Device {
        Device {
            instance: 0xabc,
            boot: 0xff,
            transport: "quic",
            connections: 1,
            rtt: Some(Duration::from_micros(21_500)),
            clock: ClockState::Synced,
            bound: None,
        }
    }

    #[test]
    fn it_is_said_at_start_on_change_and_every_hour() {
        let (mut status, mut stats, mut device) = (Status::default(), Stats::default(), device());
        let at = |s| Mono(0) + Duration::from_secs(s);
        assert!(status.document(at(1), &device, &stats).is_some());
        device.rtt = None;
        assert!(status.document(at(2), &device, &stats).is_none(), "a round trip is no news");
        stats.disk_full = true;
        assert!(status.document(at(3), &device, &stats).is_some());
        device.transport = "tls";
        assert!(status.document(at(4), &device, &stats).is_some());
        assert!(status.document(at(3603), &device, &stats).is_none());
        assert!(status.document(at(3604), &device, &stats).is_some());
    }

    #[test]
    fn the_document_is_json() {
        let json = document(Duration::from_secs(12), &device(), &Stats::default());
        let value: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(value["link"]["rtt_ms"], 21.5);
        assert_eq!((&value["uptime_s"], &value["clock"]["state"]), (&12.into(), &"synced".into()));
    }
}

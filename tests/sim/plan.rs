//! What a seed says: machines, inputs, and the list of faults. Data only.

use std::time::Duration;

use super::net::Way;
use crate::frame::Codec;
use crate::spool::{Class, Keep, LaneOptions, Policy};

/// Which transports an agent may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transports {
    Both,
    Quic,
    Tls,
}

/// How an input gets its events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// As an HTTP client: what is not acknowledged is not sent again.
    Client,
    /// As the tail of a log: goes on from the stored position.
    Follower,
}

#[derive(Clone, Debug)]
pub(super) struct InputPlan {
    pub(super) lane: usize,
    pub(super) kind: Kind,
    pub(super) keys: u64,
    /// Mean pause between two batches.
    pub(super) pause_us: u64,
    pub(super) max_rows: u32,
    /// Largest payload, seldom reached.
    pub(super) max_bytes: usize,
    /// Batches on their way at once.
    pub(super) parallel: usize,
}

#[derive(Clone, Debug)]
pub(super) struct DevicePlan {
    pub(super) lanes: Vec<LaneOptions>,
    pub(super) inputs: Vec<InputPlan>,
    pub(super) way: Way,
    pub(super) max_bytes: u64,
    pub(super) memory_bytes: usize,
    pub(super) max_body_bytes: usize,
    pub(super) ppm: i64,
    pub(super) wall_error_us: i64,
    pub(super) transports: Transports,
    pub(super) burst: bool,
    pub(super) window: u16,
    pub(super) in_flight_bytes: usize,
    pub(super) codec: Codec,
}

#[derive(Clone, Debug)]
pub(super) struct CentrePlan {
    /// The sink writes a log of changes instead of tables.
    pub(super) log: bool,
    /// The sink cannot keep marks and is not idempotent: an append-only file.
    pub(super) plain: bool,
    pub(super) receive_maximum: u16,
    pub(super) connection_bytes: u64,
    pub(super) total_bytes: u64,
    pub(super) max_body_bytes: u64,
    pub(super) max_packet_bytes: u64,
    pub(super) write_us: u64,
}

/// Which transports a black-out takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Blocked {
    Udp,
    Tcp,
    Both,
}

/// A fault. Times are in milliseconds of virtual time; `device` counts from 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// SIGKILL; started again after the pause.
    Kill {
        device: usize,
        ms: u64,
    },
    /// SIGKILL after so many more writes and syncs of the disk.
    KillAt {
        device: usize,
        ops: u32,
        ms: u64,
    },
    /// Power cut.
    PowerCut {
        device: usize,
        ms: u64,
    },
    /// Power cut within a write or sync.
    PowerCutAt {
        device: usize,
        ops: u32,
        ms: u64,
    },
    /// Stopped in order.
    Restart {
        device: usize,
        ms: u64,
    },
    CentreKill {
        ms: u64,
    },
    CentrePowerCut {
        ms: u64,
    },
    CentrePowerCutAt {
        ops: u32,
        ms: u64,
    },
    CentreRestart {
        ms: u64,
    },
    /// The centre gets the disk that it had `back_ms` before.
    CentreRestored {
        back_ms: u64,
        ms: u64,
    },
    /// Every connection is cut at any byte.
    Cut {
        device: usize,
    },
    BlackOut {
        device: usize,
        blocked: Blocked,
        ms: u64,
    },
    NewAddress {
        device: usize,
        told: bool,
    },
    /// The NAT in front of the device forgets every mapping. Second tier only.
    NatRebind {
        device: usize,
    },
    /// The path carries less; `said`: the device is told. Second tier only.
    PathMtu {
        device: usize,
        mtu: u16,
        said: bool,
        ms: u64,
    },
    /// Late, lossy, lopsided.
    BadWay {
        device: usize,
        up_ms: u64,
        down_ms: u64,
        loss: u32,
        ms: u64,
    },
    SlowDisk {
        device: usize,
        sync_ms: u64,
        ms: u64,
    },
    FullDisk {
        device: usize,
        ms: u64,
    },
    ReadErrors {
        device: usize,
        count: u32,
    },
    WriteErrors {
        device: usize,
        count: u32,
    },
    SyncErrors {
        device: usize,
        count: u32,
    },
    /// Syncs do nothing for a while, and then the power is cut.
    LostSync {
        device: usize,
        ms: u64,
    },
    Rot {
        device: usize,
        pages: u32,
    },
    CentreSlowDisk {
        sync_ms: u64,
        ms: u64,
    },
    CentreFullDisk {
        ms: u64,
    },
    CentreWriteErrors {
        count: u32,
    },
    CentreSyncErrors {
        count: u32,
    },
    /// Somebody sets the wall clock.
    WallJump {
        device: usize,
        seconds: i64,
    },
    Drift {
        device: usize,
        ppm: i64,
    },
    /// A second installation under the device's name.
    Twin {
        device: usize,
    },
    /// A copy of the device's disk runs on a second machine.
    Clone {
        device: usize,
    },
    /// The device gets the disk that it had `back_ms` before.
    DeviceRestored {
        device: usize,
        back_ms: u64,
    },
}

impl Fault {
    /// Its name in the coverage table.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Kill { .. } => "kill",
            Self::KillAt { .. } => "kill within a write",
            Self::PowerCut { .. } => "power cut",
            Self::PowerCutAt { .. } => "power cut within a write",
            Self::Restart { .. } => "restart",
            Self::CentreKill { .. } => "centre: kill",
            Self::CentrePowerCut { .. } => "centre: power cut",
            Self::CentrePowerCutAt { .. } => "centre: power cut within a write",
            Self::CentreRestart { .. } => "centre: restart",
            Self::CentreRestored { .. } => "centre: restored from backup",
            Self::Cut { .. } => "connection cut",
            Self::BlackOut { .. } => "black-out",
            Self::NewAddress { .. } => "address change",
            Self::NatRebind { .. } => "NAT forgets",
            Self::PathMtu { .. } => "path MTU shrinks",
            Self::BadWay { .. } => "loss and uneven delay",
            Self::SlowDisk { .. } => "slow disk",
            Self::FullDisk { .. } => "full disk",
            Self::ReadErrors { .. } => "read error",
            Self::WriteErrors { .. } => "write error",
            Self::SyncErrors { .. } => "fsync error",
            Self::LostSync { .. } => "lost fsync",
            Self::Rot { .. } => "bit rot",
            Self::CentreSlowDisk { .. } => "centre: slow disk",
            Self::CentreFullDisk { .. } => "centre: full disk",
            Self::CentreWriteErrors { .. } => "centre: write error",
            Self::CentreSyncErrors { .. } => "centre: fsync error",
            Self::WallJump { .. } => "wall clock set",
            Self::Drift { .. } => "clock drift",
            Self::Twin { .. } => "two devices with one name",
            Self::Clone { .. } => "cloned image",
            Self::DeviceRestored { .. } => "restored image",
        }
    }

    /// The names of those of the second tier.
    pub(super) const QUIC_NAMES: [&'static str; 13] = [
        "kill",
        "power cut",
        "restart",
        "centre: kill",
        "centre: power cut",
        "centre: restart",
        "connection cut",
        "black-out",
        "address change",
        "NAT forgets",
        "path MTU shrinks",
        "loss and uneven delay",
        "clock drift",
    ];

    /// How long it lasts, or until what it ended is begun again.
    pub(super) fn lasts_ms(&self) -> u64 {
        match self {
            Self::Kill { ms, .. }
            | Self::PowerCut { ms, .. }
            | Self::Restart { ms, .. }
            | Self::CentreKill { ms }
            | Self::CentrePowerCut { ms }
            | Self::CentreRestart { ms }
            | Self::BlackOut { ms, .. }
            | Self::PathMtu { ms, .. }
            | Self::BadWay { ms, .. } => *ms,
            _ => 0,
        }
    }

    /// The names of those of the first tier.
    pub(super) const NAMES: [&'static str; 30] = [
        "kill",
        "kill within a write",
        "power cut",
        "power cut within a write",
        "restart",
        "centre: kill",
        "centre: power cut",
        "centre: power cut within a write",
        "centre: restart",
        "centre: restored from backup",
        "connection cut",
        "black-out",
        "address change",
        "loss and uneven delay",
        "slow disk",
        "full disk",
        "read error",
        "write error",
        "fsync error",
        "lost fsync",
        "bit rot",
        "centre: slow disk",
        "centre: full disk",
        "centre: write error",
        "centre: fsync error",
        "wall clock set",
        "clock drift",
        "two devices with one name",
        "cloned image",
        "restored image",
    ];

    /// The device that it strikes; `None`: the centre.
    pub(super) fn device(&self) -> Option<usize> {
        match self {
            Self::Kill { device, .. }
            | Self::KillAt { device, .. }
            | Self::PowerCut { device, .. }
            | Self::PowerCutAt { device, .. }
            | Self::Restart { device, .. }
            | Self::Cut { device }
            | Self::BlackOut { device, .. }
            | Self::NewAddress { device, .. }
            | Self::NatRebind { device }
            | Self::PathMtu { device, .. }
            | Self::BadWay { device, .. }
            | Self::SlowDisk { device, .. }
            | Self::FullDisk { device, .. }
            | Self::ReadErrors { device, .. }
            | Self::WriteErrors { device, .. }
            | Self::SyncErrors { device, .. }
            | Self::LostSync { device, .. }
            | Self::Rot { device, .. }
            | Self::WallJump { device, .. }
            | Self::Drift { device, .. }
            | Self::Twin { device }
            | Self::Clone { device }
            | Self::DeviceRestored { device, .. } => Some(*device),
            _ => None,
        }
    }
}

/// A whole run.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) seed: u64,
    pub(super) devices: Vec<DevicePlan>,
    pub(super) centre: CentrePlan,
    /// When, in µs, and what.
    pub(super) faults: Vec<(u64, Fault)>,
    /// Until then there are inputs and faults, in µs.
    pub(super) horizon: u64,
    /// The second tier: over the shipped QUIC shell.
    pub(super) quic: bool,
}

impl Plan {
    pub(super) fn of(seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5eed);
        let devices = 1 + usize::from(rng.u8(0..4) == 0) + usize::from(rng.u8(0..8) == 0);
        let devices: Vec<DevicePlan> = (0..devices).map(|_| device(&mut rng)).collect();
        let big = rng.u8(0..4) > 0;
        let centre = CentrePlan {
            log: rng.u8(0..4) == 0,
            plain: rng.u8(0..5) == 0,
            receive_maximum: rng.u16(1..=64),
            connection_bytes: if big { 4 << 20 } else { rng.u64(20_000..200_000) },
            total_bytes: if big { 64 << 20 } else { rng.u64(40_000..400_000) },
            max_body_bytes: if rng.u8(0..4) > 0 { 4 << 20 } else { rng.u64(6_000..30_000) },
            max_packet_bytes: if rng.u8(0..6) > 0 { 1 << 20 } else { rng.u64(8_000..40_000) },
            write_us: rng.u64(100..20_000),
        };
        let horizon = rng.u64(5..40) * 1_000_000;
        let count = if rng.u8(0..10) == 0 { 0 } else { rng.usize(1..9) };
        let mut faults: Vec<(u64, Fault)> =
            (0..count).map(|_| (rng.u64(100_000..horizon), fault(&mut rng, devices.len()))).collect();
        faults.sort_by_key(|f| f.0);
        // Not found out, and not mended: docs/simulation.md, "What is not modelled".
        let copies = |f: &Fault| {
            matches!(
                f,
                Fault::Clone { .. }
                    | Fault::Twin { .. }
                    | Fault::DeviceRestored { .. }
                    | Fault::LostSync { .. }
                    | Fault::Rot { .. }
            )
        };
        // One lie of the hardware a run: of two nobody can say what should have come of them.
        let mut lies = 0;
        faults.retain(|(_, f)| {
            lies += u32::from(copies(f));
            !copies(f) || lies == 1
        });
        Self { seed, devices, centre, faults, horizon, quic: false }
    }
}

impl Plan {
    /// As [`Self::of`], and the centre gets into trouble while a lot is on its way: its disk is full, connections are cut,
    /// frames are refused, and it is killed.
    pub(super) fn pressed(seed: u64) -> Self {
        let mut plan = Self::of(seed);
        plan.horizon = plan.horizon.max(12_000_000);
        plan.centre.connection_bytes = 6_000;
        for input in plan.devices.iter_mut().flat_map(|d| &mut d.inputs) {
            (input.pause_us, input.max_bytes) = (input.pause_us.min(60_000), input.max_bytes.min(800));
        }
        let at = 3_000_000 + seed % 7 * 300_000;
        plan.faults = vec![
            (at, Fault::CentreFullDisk { ms: 2_600 + seed % 5 * 700 }),
            (at + 500_000, Fault::Cut { device: 0 }),
            (at + 2_300_000 + seed % 13 * 100_000, Fault::CentreKill { ms: 100 }),
            (at + 4_000_000, Fault::CentreSlowDisk { sync_ms: 400, ms: 4_000 }),
            (at + 5_000_000, Fault::Cut { device: 0 }),
            (at + 5_000_000 + seed % 11 * 200_000, Fault::CentreKill { ms: 200 }),
        ];
        plan
    }
}

impl Plan {
    /// As [`Self::of`], and the buffers are small, the black-outs long, and the centre takes little at a time.
    pub(super) fn starved(seed: u64) -> Self {
        let mut plan = Self::of(seed);
        plan.horizon = 20_000_000;
        plan.centre.max_body_bytes = 1_500;
        for device in &mut plan.devices {
            for lane in &mut device.lanes {
                (lane.max_bytes, lane.policy) = (30_000, Policy::DropOldest);
            }
            for input in &mut device.inputs {
                (input.pause_us, input.max_bytes, input.keys) = (40_000, 900, 3);
            }
        }
        let blocked = Blocked::Both;
        plan.faults = vec![
            (2_000_000, Fault::BlackOut { device: 0, blocked, ms: 5_000 + seed % 9 * 500 }),
            (9_000_000 + seed % 17 * 100_000, Fault::Cut { device: 0 }),
            (12_000_000 + seed % 13 * 100_000, Fault::Cut { device: 0 }),
        ];
        plan
    }
}

impl Plan {
    /// Lanes whose rows must all arrive, and a lot of them.
    fn brisk(seed: u64) -> Self {
        let mut plan = Self::of(seed);
        (plan.centre.receive_maximum, plan.centre.max_body_bytes) = (64, 4 << 20);
        (plan.centre.connection_bytes, plan.centre.total_bytes) = (4 << 20, 64 << 20);
        plan.devices.truncate(1);
        for device in &mut plan.devices {
            (device.window, device.in_flight_bytes, device.burst) = (40, 600_000, false);
            for lane in &mut device.lanes {
                (lane.class, lane.policy, lane.max_bytes) = (Class::Fsync, Policy::Block, u64::MAX);
                lane.max_age = None;
            }
            for input in &mut device.inputs {
                (input.pause_us, input.max_bytes, input.max_rows) = (40_000, 900, 6);
            }
        }
        plan
    }

    /// The sink is slow, and the device comes back while what it sent is on its way there.
    pub(super) fn resent(seed: u64) -> Self {
        let mut plan = Self::brisk(seed);
        plan.horizon = 26_000_000;
        plan.faults = vec![
            // Slower than the longest pause before the device dials again.
            (5_000_000, Fault::CentreSlowDisk { sync_ms: 6_000 + seed % 5 * 700, ms: 17_000 }),
            (7_000_000 + seed % 23 * 100_000, Fault::Cut { device: 0 }),
            (16_000_000 + seed % 17 * 200_000, Fault::Cut { device: 0 }),
            (22_000_000 + seed % 13 * 100_000, Fault::CentreKill { ms: 100 }),
        ];
        plan
    }

    /// A slow link is full of frames while the centre has room for few: some are refused, and there is room again when those
    /// behind them come.
    pub(super) fn streaming(seed: u64) -> Self {
        let mut plan = Self::brisk(seed);
        plan.horizon = 24_000_000;
        plan.centre.connection_bytes = 6_000;
        for device in &mut plan.devices {
            device.way.bytes_per_s = 30_000 + seed % 7 * 10_000;
            device.way.loss = 0;
        }
        let slow = |at: u64, sync_ms| (at, Fault::CentreSlowDisk { sync_ms, ms: 900 + seed % 9 * 200 });
        plan.faults = vec![
            (2_000_000, Fault::BlackOut { device: 0, blocked: Blocked::Both, ms: 2_000 }),
            slow(6_000_000, 600),
            slow(9_000_000 + seed % 5 * 100_000, 900),
            slow(13_000_000 + seed % 7 * 100_000, 400),
            slow(17_000_000 + seed % 11 * 100_000, 700),
            (23_000_000, Fault::CentreKill { ms: 100 }),
        ];
        plan
    }

    /// As [`Self::of`], with a cloned image, and the centre takes little at a time: what is stored goes out in parts.
    pub(super) fn cloned(seed: u64) -> Self {
        let mut plan = Self::of(seed);
        plan.horizon = 20_000_000;
        plan.centre.max_body_bytes = 1_500;
        plan.devices.truncate(1);
        for device in &mut plan.devices {
            for lane in &mut device.lanes {
                (lane.class, lane.policy, lane.max_bytes) = (Class::Fsync, Policy::Block, u64::MAX);
                lane.max_age = None;
            }
            for input in &mut device.inputs {
                (input.pause_us, input.max_bytes, input.keys) = (40_000, 900, 3);
            }
        }
        let blocked = Blocked::Both;
        plan.faults = vec![
            // Both hold a backlog of their own when they come back.
            (2_000_000, Fault::BlackOut { device: 0, blocked, ms: 2_500 + seed % 9 * 500 }),
            (3_000_000, Fault::Clone { device: 0 }),
            (6_000_000 + seed % 17 * 100_000, Fault::Cut { device: 0 }),
            (8_000_000 + seed % 7 * 300_000, Fault::CentreKill { ms: 100 }),
            (12_000_000 + seed % 13 * 100_000, Fault::Cut { device: 0 }),
        ];
        plan
    }
}

fn device(rng: &mut fastrand::Rng) -> DevicePlan {
    let max_body_bytes = [4_000, 16_000, 64_000, 120 << 10][rng.usize(0..4)];
    let count = 1 + usize::from(rng.bool()) + usize::from(rng.u8(0..4) == 0);
    let tight = rng.u8(0..3) == 0;
    let lanes: Vec<LaneOptions> = (0..count).map(|n| lane(rng, n, tight, max_body_bytes)).collect();
    let inputs = 1 + rng.usize(0..3).min(rng.usize(0..4));
    let inputs = (0..inputs.max(count))
        .map(|n| InputPlan {
            lane: n % count,
            kind: if rng.u8(0..3) == 0 { Kind::Follower } else { Kind::Client },
            keys: rng.u64(1..12),
            pause_us: rng.u64(20_000..1_500_000),
            max_rows: rng.u32(1..12),
            max_bytes: if rng.u8(0..3) == 0 {
                max_body_bytes - 300
            } else {
                rng.usize(1..2_000).min(max_body_bytes - 300)
            },
            parallel: rng.usize(1..4),
        })
        .collect();
    DevicePlan {
        lanes,
        inputs,
        way: Way {
            latency_us: [rng.u64(200..150_000), rng.u64(200..150_000)],
            jitter_us: rng.u64(0..20_000),
            loss: if rng.bool() { rng.u32(0..50) } else { 0 },
            bytes_per_s: rng.u64(50_000..5_000_000),
            ..Way::default()
        },
        max_bytes: if tight { rng.u64(600_000..2_000_000) } else { 64 << 20 },
        memory_bytes: if rng.bool() { 512 << 10 } else { rng.usize(2_000..40_000) },
        max_body_bytes,
        ppm: rng.i64(-200..200),
        wall_error_us: match rng.u8(0..4) {
            0 => -super::clock::START_US,
            1 => 72 * 365 * 86_400 * 1_000_000,
            _ => rng.i64(-5_000_000..5_000_000),
        },
        transports: match rng.u8(0..4) {
            0 => Transports::Quic,
            1 => Transports::Tls,
            _ => Transports::Both,
        },
        burst: rng.u8(0..10) == 0,
        window: rng.u16(1..40),
        in_flight_bytes: rng.usize(4_000..600_000),
        codec: if rng.bool() { Codec::Lz4 } else { Codec::None },
    }
}

fn lane(rng: &mut fastrand::Rng, n: usize, tight: bool, max_body_bytes: usize) -> LaneOptions {
    let class = [Class::Fsync, Class::Fsync, Class::Delayed, Class::Ram][rng.usize(0..4)];
    let mut lane = LaneOptions::new(["data", "alarm", "bulk"][n], class);
    if class != Class::Fsync {
        lane.commit_interval = Duration::from_millis(rng.u64(100..10_000));
    } else {
        lane.commit_interval = Duration::from_millis(rng.u64(0..50));
    }
    lane.weight = rng.u32(1..8);
    lane.policy = match rng.u8(0..6) {
        0 | 1 => Policy::DropOldest,
        2 => Policy::Compact,
        3 => Policy::Downsample {
            every: Duration::from_secs(rng.u64(1..10)),
            fields: vec![("v".into(), Keep::Last)],
        },
        _ => Policy::Block,
    };
    if tight {
        lane.max_bytes = rng.u64(4 * max_body_bytes as u64..8 * max_body_bytes as u64 + 100_000);
    }
    if rng.u8(0..8) == 0 {
        lane.max_age = Some(Duration::from_secs(rng.u64(5..60)));
    }
    lane
}

fn fault(rng: &mut fastrand::Rng, devices: usize) -> Fault {
    let device = rng.usize(0..devices);
    let ms = match rng.u8(0..4) {
        0 => rng.u64(1..100),
        1 | 2 => rng.u64(100..4_000),
        _ => rng.u64(4_000..40_000),
    };
    let ops = match rng.u8(0..3) {
        0 => rng.u32(0..6),
        _ => rng.u32(0..60),
    };
    let count = rng.u32(1..8);
    match rng.u8(0..40) {
        0 => Fault::Kill { device, ms },
        1 | 2 => Fault::KillAt { device, ops, ms },
        3 | 4 => Fault::PowerCut { device, ms },
        5 | 6 => Fault::PowerCutAt { device, ops, ms },
        7 => Fault::Restart { device, ms },
        8 => Fault::CentreKill { ms },
        9 => Fault::CentrePowerCut { ms },
        10 => Fault::CentrePowerCutAt { ops, ms },
        11 => Fault::CentreRestart { ms },
        12 => Fault::CentreRestored { back_ms: rng.u64(100..10_000), ms },
        13..=15 => Fault::Cut { device },
        16 | 17 => {
            let blocked = [Blocked::Udp, Blocked::Tcp, Blocked::Both, Blocked::Both][rng.usize(0..4)];
            Fault::BlackOut { device, blocked, ms: ms * 2 }
        }
        18 | 19 => Fault::NewAddress { device, told: rng.u8(0..3) > 0 },
        20 | 21 => Fault::BadWay {
            device,
            up_ms: rng.u64(1..800),
            down_ms: rng.u64(1..800),
            loss: rng.u32(0..300),
            ms: ms * 2,
        },
        22 => Fault::SlowDisk { device, sync_ms: rng.u64(10..1_500), ms },
        23 | 24 => Fault::FullDisk { device, ms: ms * 2 },
        25 => Fault::ReadErrors { device, count },
        26 => Fault::WriteErrors { device, count },
        27 => Fault::SyncErrors { device, count },
        28 => Fault::LostSync { device, ms },
        29 | 30 => Fault::Rot { device, pages: rng.u32(1..4) },
        31 => Fault::CentreSlowDisk { sync_ms: rng.u64(10..1_500), ms },
        32 => Fault::CentreFullDisk { ms },
        33 => Fault::CentreWriteErrors { count },
        34 => Fault::CentreSyncErrors { count },
        35 => {
            let far = [-57 * 365 * 86_400, 72 * 365 * 86_400, 3_600, -3_600, 30, -30];
            Fault::WallJump { device, seconds: far[rng.usize(0..far.len())] }
        }
        36 => Fault::Drift { device, ppm: rng.i64(-500..500) },
        37 => Fault::Twin { device },
        38 => Fault::Clone { device },
        _ => Fault::DeviceRestored { device, back_ms: rng.u64(100..10_000) },
    }
}

//! What a seed of the second tier says: as in the first tier, with faults of the network in place of those of the disk.

use crate::sim::net::Way;
use crate::sim::plan::{Blocked, DevicePlan, Fault, Plan, Transports};

impl Plan {
    /// A run over the shipped QUIC shell.
    pub(super) fn quic(seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x9d1c);
        let mut plan = Self::of(seed ^ 0x7132_0000);
        plan.seed = seed;
        plan.quic = true;
        plan.devices.truncate(2);
        for device in &mut plan.devices {
            on_a_radio(device, &mut rng);
        }
        // The centre is at ease: what it refuses is the first tier's.
        let centre = &mut plan.centre;
        centre.receive_maximum = centre.receive_maximum.max(8);
        (centre.connection_bytes, centre.total_bytes) = (4 << 20, 64 << 20);
        (centre.max_body_bytes, centre.max_packet_bytes) = (4 << 20, 1 << 20);
        centre.write_us = centre.write_us.min(8_000);
        plan.horizon = rng.u64(20..90) * 1_000_000;
        // One fault by itself shows best what a link does about it.
        let count = match rng.u8(0..10) {
            0 => 0,
            1..=4 => 1,
            _ => rng.usize(2..7),
        };
        let devices = plan.devices.len();
        plan.faults =
            (0..count).map(|_| (rng.u64(2_000_000..plan.horizon), fault(&mut rng, devices))).collect();
        if let [(at, fault)] = &mut plan.faults[..] {
            *at = rng.u64(8_000_000..12_000_000);
            if let Fault::BlackOut { ms, .. } | Fault::PathMtu { ms, .. } = fault {
                *ms = rng.u64(27_000..60_000);
            }
            plan.horizon = plan.horizon.max(45_000_000);
        }
        plan.faults.sort_by_key(|f| f.0);
        plan
    }

    /// Whether nothing else happens to the device or to the centre from `before` until `after` µs around fault `number`.
    pub(in crate::sim) fn is_quiet(&self, number: usize, device: usize, before: u64, after: u64) -> bool {
        let at = self.faults[number].0;
        let (from, to) = (at.saturating_sub(before), at + after);
        let others = self.faults.iter().enumerate().filter(|(n, _)| *n != number);
        let near = |(start, fault): &(u64, Fault)| {
            let it = fault.device().is_none_or(|d| d == device);
            it && *start <= to && start + fault.lasts_ms() * 1000 >= from
        };
        to < self.horizon && !others.into_iter().any(|(_, f)| near(f))
    }
}

impl Plan {
    /// Whether the device, its way and the centre have been well for a while at `t`.
    pub(in crate::sim) fn is_calm(&self, device: usize, t: u64) -> bool {
        let strikes = |(start, fault): &(u64, Fault)| {
            let it = fault.device().is_none_or(|d| d == device);
            it && *start <= t && t <= start + fault.lasts_ms() * 1000 + 3_000_000
        };
        self.devices[device].way.loss < 5 && !self.faults.iter().any(strikes)
    }
}

fn on_a_radio(device: &mut DevicePlan, rng: &mut fastrand::Rng) {
    device.burst = false;
    device.transports = match rng.u8(0..8) {
        0 => Transports::Quic,
        _ => Transports::Both,
    };
    device.max_bytes = 64 << 20;
    device.in_flight_bytes = device.in_flight_bytes.min(64 << 10);
    device.max_body_bytes = device.max_body_bytes.min(16_000);
    for input in &mut device.inputs {
        input.max_bytes = input.max_bytes.min(3_000);
        input.pause_us = input.pause_us.clamp(60_000, 1_000_000);
    }
    for lane in &mut device.lanes {
        lane.max_bytes = u64::MAX;
        lane.max_age = None;
        lane.commit_interval = lane.commit_interval.min(std::time::Duration::from_secs(2));
    }
    let narrow = device.transports == Transports::Both && rng.u8(0..7) == 0;
    device.way = Way {
        latency_us: [rng.u64(500..120_000), rng.u64(500..120_000)],
        jitter_us: rng.u64(0..15_000),
        loss: if rng.bool() { rng.u32(0..30) } else { 0 },
        bytes_per_s: rng.u64(100_000..5_000_000),
        reordered: if rng.bool() { rng.u32(0..60) } else { 0 },
        doubled: if rng.bool() { rng.u32(0..40) } else { 0 },
        mtu: match rng.u8(0..3) {
            _ if narrow => rng.u16(576..1228),
            0 => 1500,
            1 => rng.u16(1228..1500),
            _ => 1420,
        },
        mtu_said: rng.bool(),
        nat_idle_us: if rng.bool() { rng.u64(8..120) * 1_000_000 } else { u64::MAX / 2 },
        ..Way::default()
    };
}

fn fault(rng: &mut fastrand::Rng, devices: usize) -> Fault {
    let device = rng.usize(0..devices);
    let ms = match rng.u8(0..3) {
        0 => rng.u64(50..3_000),
        1 => rng.u64(3_000..15_000),
        _ => rng.u64(15_000..45_000),
    };
    match rng.u8(0..32) {
        0..=6 => Fault::BlackOut { device, blocked: Blocked::Udp, ms },
        7 => Fault::BlackOut { device, blocked: Blocked::Tcp, ms },
        8 | 9 => Fault::BlackOut { device, blocked: Blocked::Both, ms },
        10..=13 => Fault::NewAddress { device, told: true },
        14 => Fault::NewAddress { device, told: false },
        15 | 16 => Fault::NatRebind { device },
        17..=20 => {
            let mtu = if rng.u8(0..3) == 0 { rng.u16(600..1228) } else { rng.u16(1228..1400) };
            Fault::PathMtu { device, mtu, said: rng.bool(), ms: ms + 4_000 }
        }
        21 | 22 => {
            let (up_ms, down_ms) = (rng.u64(1..500), rng.u64(1..500));
            Fault::BadWay { device, up_ms, down_ms, loss: rng.u32(0..200), ms }
        }
        23 => Fault::Cut { device },
        24 => Fault::Kill { device, ms },
        25 => Fault::PowerCut { device, ms },
        26 => Fault::Restart { device, ms: ms.min(5_000) },
        27 => Fault::CentreKill { ms },
        28 => Fault::CentrePowerCut { ms },
        29 | 30 => Fault::CentreRestart { ms },
        _ => Fault::Drift { device, ppm: rng.i64(-500..500) },
    }
}

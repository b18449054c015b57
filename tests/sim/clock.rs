//! The clocks of a machine in virtual time.

use crate::runtime::Mono;

/// True time at the start of every run, in microseconds since 1970 UTC (2027-01-15).
pub(super) const START_US: i64 = 1_800_000_000_000_000;

/// A monotonic clock that drifts, and a wall clock that somebody sets.
#[derive(Clone, Debug)]
pub(super) struct Clock {
    /// Names the boot.
    pub(super) boot: u64,
    base_mono: u64,
    base_t: u64,
    ppm: i64,
    /// Wall clock less true time.
    pub(super) wall_error_us: i64,
}

impl Clock {
    pub(super) fn new(boot: u64, t: u64, mono: u64, ppm: i64, wall_error_us: i64) -> Self {
        Self { boot, base_mono: mono, base_t: t, ppm, wall_error_us }
    }

    pub(super) fn mono(&self, t: u64) -> Mono {
        let passed = t.saturating_sub(self.base_t) as i128;
        Mono(self.base_mono + (passed * (1_000_000 + self.ppm as i128) / 1_000_000) as u64)
    }

    /// The first virtual time at which the clock shows `mono`.
    pub(super) fn at(&self, mono: Mono) -> u64 {
        let ahead = mono.0.saturating_sub(self.base_mono) as i128;
        let mut t = self.base_t + (ahead * 1_000_000 / (1_000_000 + self.ppm as i128)) as u64;
        while self.mono(t) < mono {
            t += 1;
        }
        t
    }

    pub(super) fn wall_us(&self, t: u64) -> i64 {
        START_US + t as i64 + self.wall_error_us
    }

    pub(super) fn drift(&mut self, t: u64, ppm: i64) {
        (self.base_mono, self.base_t, self.ppm) = (self.mono(t).0, t, ppm);
    }

    /// Another boot: the monotonic clock starts again.
    pub(super) fn reboot(&mut self, t: u64, boot: u64) {
        (self.boot, self.base_mono, self.base_t) = (boot, 4_000_000, t);
    }
}

//! The clocks of the machine.

use std::ops::{Add, Sub};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Monotonic time in microseconds since boot, suspend included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mono(pub u64);

impl Mono {
    /// Time since `earlier`; zero if that is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Mono {
    type Output = Self;

    fn add(self, d: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(d.as_micros()).unwrap_or(u64::MAX)))
    }
}

impl Sub<Duration> for Mono {
    type Output = Self;

    fn sub(self, d: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(d.as_micros()).unwrap_or(u64::MAX)))
    }
}

/// Now, by CLOCK_BOOTTIME.
pub fn mono_now() -> Mono {
    #[cfg(test)]
    if let Some(node) = super::simulated::node() {
        return node.now();
    }
    let t = clock_gettime(ClockId::Boottime);
    Mono(t.tv_sec as u64 * 1_000_000 + t.tv_nsec as u64 / 1000)
}

/// What the system says the time is, in microseconds since 1970 UTC. May be wrong by decades.
pub fn wall_now_us() -> i64 {
    #[cfg(test)]
    if let Some(node) = super::simulated::node() {
        return node.wall_us();
    }
    let t = clock_gettime(ClockId::Realtime);
    t.tv_sec * 1_000_000 + t.tv_nsec / 1000
}

/// Names this boot: the kernel's boot id, folded to 64 bits; 0 if it cannot be read.
pub fn boot_id() -> u64 {
    #[cfg(test)]
    if let Some(node) = super::simulated::node() {
        return node.boot();
    }
    std::fs::read("/proc/sys/kernel/random/boot_id").map_or(0, |id| xxhash_rust::xxh3::xxh3_64(&id))
}

//! What TLS may believe about the time.
//!
//! A device's clock may say 1970 or 2099. Until a centre told the time, TLS knows one thing only:
//! it is not earlier than the *floor* (the build, or the last time a verified centre confirmed). The
//! local wall clock never decides anything, except where the user says that it is right
//! ([`TrustTime::system`], for machines with NTP).

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use rustls_pki_types::UnixTime;

use crate::runtime::{Mono, mono_now, wall_now_us};

/// No earlier than this: `SOURCE_DATE_EPOCH` of the build, or the day of the last release
/// (2026-11-01), so that builds stay reproducible. Seconds since 1970 UTC.
pub fn build_time_s() -> u64 {
    const RELEASED_S: u64 = 1_793_491_200;
    let stamped = option_env!("SOURCE_DATE_EPOCH").and_then(|s| s.parse().ok());
    stamped.unwrap_or(0).max(RELEASED_S)
}

const UNKNOWN: i64 = i64::MIN;

/// Shared by the verifiers of a process and by whoever learns the time. Cheap to clone.
#[derive(Clone)]
pub struct TrustTime(Arc<Inner>);

struct Inner {
    floor_s: AtomicU64,
    /// What to add to monotonic microseconds to get microseconds since 1970; or `UNKNOWN`.
    offset_us: AtomicI64,
    now: Box<dyn Fn() -> Mono + Send + Sync>,
    system: bool,
}

impl TrustTime {
    /// The time is unknown. The floor is the build's or `floor_s`, whichever is later.
    pub fn unknown(floor_s: u64) -> Self {
        Self::with_clock(floor_s, mono_now)
    }

    /// As [`TrustTime::unknown`], with the monotonic clock given (simulations).
    pub fn with_clock(floor_s: u64, now: impl Fn() -> Mono + Send + Sync + 'static) -> Self {
        Self(Arc::new(Inner {
            floor_s: AtomicU64::new(floor_s.max(build_time_s())),
            offset_us: AtomicI64::new(UNKNOWN),
            now: Box::new(now),
            system: false,
        }))
    }

    /// The wall clock is right: certificates are checked strictly against it.
    pub fn system() -> Self {
        Self(Arc::new(Inner {
            floor_s: AtomicU64::new(0),
            offset_us: AtomicI64::new(UNKNOWN),
            now: Box::new(mono_now),
            system: true,
        }))
    }

    /// A centre whose chain was checked at this very time told it: UTC = monotonic + `offset_us`.
    pub fn told(&self, offset_us: i64) {
        self.0.offset_us.store(offset_us, Ordering::Relaxed);
    }

    /// Raises the floor to a time that a verified centre confirmed. Never lowers it.
    pub fn raise_floor(&self, unix_s: u64) {
        self.0.floor_s.fetch_max(unix_s, Ordering::Relaxed);
    }

    /// Seconds since 1970 UTC that it certainly is by now.
    pub fn floor_s(&self) -> u64 {
        self.0.floor_s.load(Ordering::Relaxed)
    }

    /// Seconds since 1970 UTC, if the time is known.
    pub fn now_s(&self) -> Option<u64> {
        let us = if self.0.system {
            wall_now_us()
        } else {
            match self.0.offset_us.load(Ordering::Relaxed) {
                UNKNOWN => return None,
                offset => i64::try_from((self.0.now)().0).ok()?.checked_add(offset)?,
            }
        };
        u64::try_from(us / 1_000_000).ok()
    }
}

impl fmt::Debug for TrustTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TrustTime").field("floor_s", &self.floor_s()).field("now_s", &self.now_s()).finish()
    }
}

impl rustls::time_provider::TimeProvider for TrustTime {
    fn current_time(&self) -> Option<UnixTime> {
        // Only ages of session tickets are counted with it: our verifier does not look at it.
        Some(UnixTime::since_unix_epoch(Duration::from_secs(self.now_s().unwrap_or_else(|| self.floor_s()))))
    }
}

//! Keeps the time: what is known of it, the hybrid clock, and corrections for rows that were stamped
//! before it was known. No clock is read here.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use super::boot::Boot;
use super::offset::{Estimator, RoundTrip, Verdict};
use super::stamp::Stamp;
use crate::event::batch::{ClockState, MONOTONIC, RowClock};
use crate::runtime::Mono;

/// A peer that claims to be further ahead is not believed.
const MAX_AHEAD_MS: u64 = 60_000;
/// Worse than this is `estimated`, not `synced`.
const SYNCED_WITHIN: Duration = Duration::from_millis(500);
/// A clock kept over a restart of dts may have drifted by so much a second since it was told.
const KEPT_DRIFT: f64 = 200e-6;
/// Boots that are remembered.
const MAX_BOOTS: usize = 8;

/// Where the time comes from.
#[derive(Debug)]
enum Source {
    /// Nobody told it.
    Nobody,
    /// An offset that an earlier run of dts learned in this boot.
    Kept { offset_us: i64 },
    /// Round trips with a centre.
    Centre(Estimator),
    /// The machine's own clock, kept right by others (NTP), within a bound.
    Local { offset_us: i64, bound: Duration },
}

/// The time of one process.
#[derive(Debug)]
pub struct TimeKeeper {
    source: Source,
    boot: u64,
    boots: Vec<Boot>,
    floor_us: i64,
    last_hlc: u64,
    refused_ahead: u64,
    refused_samples: u64,
}

impl TimeKeeper {
    /// The time is unknown, or what an earlier run in this boot learned.
    ///
    /// `wall_us` is the wall clock as it stands, right or wrong; it only serves to place rows of boots
    /// that never learned the time. `known` is what [`TimeKeeper::boots`] said last. It is certainly not
    /// before `floor_s` (seconds since 1970 UTC).
    pub fn new(now: Mono, boot: u64, wall_us: i64, known: &[Boot], floor_s: u64) -> Self {
        let mut boots: Vec<Boot> = known.to_vec();
        if !boots.iter().any(|b| b.id == boot) {
            let wall_offset_us = wall_us.saturating_sub_unsigned(now.0);
            boots.push(Boot { id: boot, wall_offset_us, offset_us: None });
        }
        let spare = boots.len().saturating_sub(MAX_BOOTS);
        boots.drain(..spare);
        // Boot 0 is a machine that cannot name its boots: nothing carries over.
        let kept = boots.iter().find(|b| b.id == boot && boot != 0).and_then(|b| b.offset_us);
        let source = kept.map_or(Source::Nobody, |offset_us| Source::Kept { offset_us });
        let floor_us = i64::try_from(floor_s).unwrap_or(0).saturating_mul(1_000_000);
        Self { source, boot, boots, floor_us, last_hlc: 0, refused_ahead: 0, refused_samples: 0 }
    }

    /// The machine's clock is right within `bound` (a centre with NTP). Call it again about once a
    /// second: steps and slews of the wall clock are followed.
    pub fn local(&mut self, now: Mono, wall_us: i64, bound: Duration) {
        self.source = Source::Local { offset_us: wall_us.saturating_sub_unsigned(now.0), bound };
    }

    /// Takes a round trip with a verified centre whose chain was checked at this time
    /// ([`crate::link::Control::recheck`]). A machine that trusts its own clock ignores it.
    pub fn round_trip(&mut self, trip: RoundTrip) -> Verdict {
        if matches!(self.source, Source::Local { .. }) {
            return Verdict::Outlier;
        }
        if trip.t3_us < self.floor_us {
            self.refused_samples += 1;
            return Verdict::Impossible;
        }
        let before = self.utc_us(trip.t4);
        let mut estimator = match std::mem::replace(&mut self.source, Source::Nobody) {
            Source::Centre(estimator) => estimator,
            _ => Estimator::default(),
        };
        let verdict = estimator.add(trip);
        if verdict != Verdict::Used {
            self.refused_samples += 1;
            if before.is_some_and(|us| trip.t3_us.saturating_sub(us) > MAX_AHEAD_MS as i64 * 1000) {
                self.refused_ahead += 1;
            }
        }
        if verdict == Verdict::Impossible && estimator.offset_us(trip.t4).is_none() {
            // As it was: an impossible answer must not undo what an earlier run learned.
            let kept =
                self.boots.iter().find(|b| b.id == self.boot && self.boot != 0).and_then(|b| b.offset_us);
            self.source = kept.map_or(Source::Nobody, |offset_us| Source::Kept { offset_us });
            return verdict;
        }
        let offset = estimator.offset_us(trip.t4);
        if let Some(boot) = self.boots.iter_mut().find(|b| b.id == self.boot) {
            boot.offset_us = offset;
        }
        self.source = Source::Centre(estimator);
        verdict
    }

    /// UTC minus monotonic, in microseconds, at a monotonic time of this boot.
    pub fn offset_us(&self, at: Mono) -> Option<i64> {
        match &self.source {
            Source::Nobody => None,
            Source::Kept { offset_us } | Source::Local { offset_us, .. } => Some(*offset_us),
            Source::Centre(estimator) => estimator.offset_us(at),
        }
    }

    /// Microseconds since 1970 UTC.
    pub fn utc_us(&self, at: Mono) -> Option<i64> {
        self.offset_us(at)?.checked_add_unsigned(at.0)
    }

    /// Largest error of [`TimeKeeper::utc_us`] that is to be expected. With unequal delays the error is
    /// half their difference, which nobody can know but which is at most half the round trip.
    pub fn bound(&self, at: Mono) -> Option<Duration> {
        match &self.source {
            Source::Nobody => None,
            Source::Kept { .. } => Some(Duration::from_micros((at.0 as f64 * KEPT_DRIFT) as u64)),
            Source::Local { bound, .. } => Some(*bound),
            Source::Centre(estimator) => estimator.bound(at),
        }
    }

    /// How far the time can be trusted now.
    pub fn state(&self, at: Mono) -> ClockState {
        match (&self.source, self.bound(at)) {
            (Source::Nobody, _) | (_, None) => ClockState::Unknown,
            (Source::Kept { .. }, _) => ClockState::Estimated,
            (_, Some(bound)) if bound <= SYNCED_WITHIN => ClockState::Synced,
            _ => ClockState::Estimated,
        }
    }

    /// Microseconds a second that the monotonic clock is slow, as far as it is known.
    pub fn drift_ppm(&self) -> Option<f64> {
        match &self.source {
            Source::Centre(estimator) => estimator.drift_ppm(),
            _ => None,
        }
    }

    /// A time that may become TLS's floor: one that a centre confirmed within the bound. Seconds since
    /// 1970 UTC.
    pub fn confirmed_s(&self, at: Mono) -> Option<u64> {
        let Source::Centre(estimator) = &self.source else { return None };
        let earliest = self.utc_us(at)?.checked_sub_unsigned(estimator.bound(at)?.as_micros() as u64)?;
        u64::try_from(earliest / 1_000_000).ok()
    }

    /// The next hybrid time: 48 bits of milliseconds, 16 of logic, greater than all before. `None` while
    /// the time is unknown.
    pub fn hlc(&mut self, at: Mono) -> Option<u64> {
        let physical = u64::try_from(self.utc_us(at)? / 1000).ok()? << 16;
        self.last_hlc = physical.max(self.last_hlc.saturating_add(1)) & !MONOTONIC;
        Some(self.last_hlc)
    }

    /// Takes over a peer's hybrid time, so that what is stamped here afterwards is later. `false`, and
    /// counted, if it is more than 60 s ahead; `false` while the time here is unknown.
    pub fn observe(&mut self, at: Mono, hlc: u64) -> bool {
        let Some(us) = self.utc_us(at) else { return false };
        let now_ms = u64::try_from(us / 1000).unwrap_or(0);
        if hlc & MONOTONIC != 0 || hlc >> 16 > now_ms.saturating_add(MAX_AHEAD_MS) {
            self.refused_ahead += 1;
            return false;
        }
        self.last_hlc = self.last_hlc.max(hlc);
        true
    }

    /// Times that were refused because they were too far ahead.
    pub fn refused_ahead(&self) -> u64 {
        self.refused_ahead
    }

    /// Round trips that were refused or held back.
    pub fn refused_samples(&self) -> u64 {
        self.refused_samples
    }

    /// The `hlc` field of a row made now: hybrid, or monotonic with the top bit while the time is
    /// unknown.
    pub fn stamp(&mut self, now: Mono) -> u64 {
        self.hlc(now).unwrap_or(now.0 | MONOTONIC)
    }

    /// What rows stamped in `boot` around `at` (that boot's monotonic time) are worth now.
    pub fn row_clock(&self, boot: u64, at: Mono, now: Mono) -> RowClock {
        if boot == self.boot {
            return RowClock { state: self.state(now), boot_offset_us: self.offset_us(at) };
        }
        let Some(then) = self.boots.iter().rev().find(|b| b.id == boot && boot != 0) else {
            return RowClock::default();
        };
        let offset = then.offset_us.or_else(|| self.placed_by_wall(then, at, now));
        let state = if offset.is_some() { ClockState::Estimated } else { ClockState::Unknown };
        RowClock { state, boot_offset_us: offset }
    }

    /// If nobody set the wall clock between the two boots, it was wrong by the same in both. That holds
    /// with a clock chip that runs on, even in 2099; not where the clock starts at 1970 in every boot.
    fn placed_by_wall(&self, then: &Boot, at: Mono, now: Mono) -> Option<i64> {
        let this = self.boots.iter().find(|b| b.id == self.boot)?;
        let this_offset = self.offset_us(now)?;
        let offset = then.wall_offset_us.checked_add(this_offset.checked_sub(this.wall_offset_us)?)?;
        let placed = offset.checked_add_unsigned(at.0)?;
        // It must lie before this boot and not before this program was made.
        (placed <= this_offset && placed >= self.floor_us.min(this_offset)).then_some(offset)
    }

    /// What should outlive the process: the last boots, newest last.
    pub fn boots(&self) -> &[Boot] {
        &self.boots
    }
}

/// A [`Stamp`] for inputs, from a shared keeper and a reader of the monotonic clock.
pub fn stamp(keeper: &Rc<RefCell<TimeKeeper>>, now: impl Fn() -> Mono + 'static) -> Stamp {
    let keeper = keeper.clone();
    Stamp::new(move || keeper.borrow_mut().stamp(now()))
}

//! Estimates UTC minus the monotonic clock from round trips.
//!
//! A round trip gives `offset = ((t2 − t1) + (t3 − t4)) / 2`, wrong by half the difference of the two
//! delays, so by at most half the round trip. Samples with round trips near the smallest are fitted
//! with a line (weighted least squares, the slope held near zero until the samples say otherwise):
//! the slope is the drift of this device's clock, its uncertainty grows with the age of the samples.

use std::time::Duration;

use crate::runtime::Mono;

/// Samples that are remembered; one a minute covers a quarter of an hour.
const WINDOW: usize = 16;
/// Drift that a quartz may have before anything is known of it.
const DRIFT_PRIOR: f64 = 100e-6;
/// No quartz drifts more.
const DRIFT_MAX: f64 = 500e-6;
/// Error of a time stamp besides the network's.
const NOISE_US: f64 = 100.0;
/// A longer round trip tells too little.
const MAX_ROUND_TRIP: Duration = Duration::from_secs(10);
/// So many samples in a row that contradict the estimate, but not each other, replace it.
const STEP_AFTER: usize = 3;

/// One round trip: sent at `t1`, received there at `t2`, answered there at `t3`, back at `t4`.
/// `t1` and `t4` are monotonic, the others microseconds since 1970 UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoundTrip {
    /// Sent here.
    pub t1: Mono,
    /// Received by the peer.
    pub t2_us: i64,
    /// Sent by the peer.
    pub t3_us: i64,
    /// Received here.
    pub t4: Mono,
}

/// What became of a [`RoundTrip`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is part of the estimate.
    Used,
    /// It contradicts the estimate and is held back. A few of the same kind replace it.
    Outlier,
    /// It cannot be: times run backwards, or it took too long.
    Impossible,
}

/// A round trip, digested.
#[derive(Clone, Copy, Debug)]
struct Sample {
    /// Middle of the round trip, monotonic microseconds.
    at_us: i64,
    offset_us: i64,
    /// Half the round trip without the peer's share: the largest error.
    half_us: f64,
}

/// A line through the samples.
#[derive(Clone, Copy, Debug)]
struct Fit {
    ref_at_us: i64,
    ref_offset_us: i64,
    /// Offset at the reference time, relative to `ref_offset_us`, and slope.
    a: f64,
    b: f64,
    /// Inverse normal matrix.
    var_a: f64,
    cov: f64,
    var_b: f64,
    /// Smallest half round trip: what no fit can see.
    half_us: f64,
}

/// The estimate. Empty until the first sample.
#[derive(Clone, Debug, Default)]
pub(super) struct Estimator {
    samples: Vec<Sample>,
    outliers: Vec<Sample>,
    fit: Option<Fit>,
}

impl Estimator {
    /// Takes one round trip.
    pub(super) fn add(&mut self, trip: RoundTrip) -> Verdict {
        let Some(sample) = digest(trip) else { return Verdict::Impossible };
        if let Some(fit) = self.fit
            && !agrees(&sample, fit.offset_at(sample.at_us), fit.bound_at(sample.at_us))
        {
            self.outliers.retain(|o| {
                let age = (sample.at_us - o.at_us) as f64;
                agrees(&sample, o.offset_us as f64, o.half_us + age.abs() * DRIFT_MAX)
            });
            self.outliers.push(sample);
            if self.outliers.len() < STEP_AFTER {
                return Verdict::Outlier;
            }
            self.samples = std::mem::take(&mut self.outliers);
        } else {
            self.outliers.clear();
            if self.samples.len() == WINDOW {
                self.samples.remove(0);
            }
            self.samples.push(sample);
        }
        self.fit = fit(&self.samples);
        Verdict::Used
    }

    /// UTC minus monotonic, in microseconds, at a monotonic time.
    pub(super) fn offset_us(&self, at: Mono) -> Option<i64> {
        Some(self.fit?.offset_at(micros(at)).round() as i64)
    }

    /// Largest error of [`Estimator::offset_us`] that is to be expected: half the smallest round trip,
    /// and what drift may have added since.
    pub(super) fn bound(&self, at: Mono) -> Option<Duration> {
        Some(Duration::from_micros(self.fit?.bound_at(micros(at)).ceil() as u64))
    }

    /// Estimated drift of this clock: microseconds a second that it is slow.
    pub(super) fn drift_ppm(&self) -> Option<f64> {
        Some(self.fit?.b * 1e6)
    }
}

fn micros(at: Mono) -> i64 {
    i64::try_from(at.0).unwrap_or(i64::MAX)
}

/// Within what both errors allow, and a little for the clock's own steps.
fn agrees(sample: &Sample, offset_us: f64, bound_us: f64) -> bool {
    (sample.offset_us as f64 - offset_us).abs() <= sample.half_us + bound_us + 5_000.0
}

fn digest(trip: RoundTrip) -> Option<Sample> {
    let (t1, t4) = (i64::try_from(trip.t1.0).ok()?, i64::try_from(trip.t4.0).ok()?);
    let there = trip.t3_us.checked_sub(trip.t2_us)?;
    let whole = t4.checked_sub(t1)?;
    if trip.t2_us < 0 || there < 0 || whole < 0 {
        return None;
    }
    // The peer's clock ticks a little differently: its share may seem longer than the whole.
    let travelled = (whole - there).max(0);
    if travelled as u128 > MAX_ROUND_TRIP.as_micros() || whole - there < -1_000 {
        return None;
    }
    let sum = trip.t2_us.checked_sub(t1)?.checked_add(trip.t3_us.checked_sub(t4)?)?;
    Some(Sample { at_us: t1 + whole / 2, offset_us: sum / 2, half_us: travelled as f64 / 2.0 })
}

fn fit(samples: &[Sample]) -> Option<Fit> {
    let last = samples.last()?;
    let best = samples.iter().map(|s| s.half_us).fold(f64::INFINITY, f64::min);
    let (mut s, mut sx, mut sy, mut sxy) = (0.0, 0.0, 0.0, 0.0);
    // The slope's prior, as if it had been measured.
    let mut sxx = 1.0 / (DRIFT_PRIOR * DRIFT_PRIOR);
    for sample in samples {
        let excess = sample.half_us - best;
        let sigma = NOISE_US + excess;
        let w = 1.0 / (sigma * sigma);
        let x = (sample.at_us - last.at_us) as f64;
        let y = (sample.offset_us - last.offset_us) as f64;
        s += w;
        sx += w * x;
        sxx += w * x * x;
        sy += w * y;
        sxy += w * x * y;
    }
    let det = s * sxx - sx * sx;
    // `s` and the prior are positive, so `det` is.
    let b = ((s * sxy - sx * sy) / det).clamp(-DRIFT_MAX, DRIFT_MAX);
    Some(Fit {
        ref_at_us: last.at_us,
        ref_offset_us: last.offset_us,
        a: (sy - b * sx) / s,
        b,
        var_a: sxx / det,
        cov: -sx / det,
        var_b: s / det,
        half_us: best,
    })
}

impl Fit {
    fn offset_at(&self, at_us: i64) -> f64 {
        let x = (at_us - self.ref_at_us) as f64;
        self.ref_offset_us as f64 + self.a + self.b * x
    }

    fn bound_at(&self, at_us: i64) -> f64 {
        let x = (at_us - self.ref_at_us) as f64;
        let variance = self.var_a + 2.0 * x * self.cov + x * x * self.var_b;
        // A quartz' drift changes with temperature: 1 ppm beside what the fit can know.
        self.half_us + 2.0 * variance.max(0.0).sqrt() + x.abs() * 1e-6
    }
}

//! Simulated clocks: drift, unequal delays, jumps, peers in 2099.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use super::*;
use crate::event::batch::{ClockState, MONOTONIC};
use crate::runtime::Mono;

/// 2026-11-22.
const FLOOR_S: u64 = 1_795_305_600;
const S: u64 = 1_000_000;
const MINUTE: u64 = 60 * S;

/// A device whose monotonic clock is slow by `drift`, and the true time.
struct World {
    /// True time since the device's boot, in microseconds.
    t: u64,
    drift: f64,
    boot_utc_us: i64,
    rng: fastrand::Rng,
}

impl World {
    fn new(drift_ppm: f64, seed: u64) -> Self {
        let boot_utc_us = (FLOOR_S as i64 + 3600) * 1_000_000;
        Self { t: 5 * S, drift: drift_ppm * 1e-6, boot_utc_us, rng: fastrand::Rng::with_seed(seed) }
    }

    fn mono(&self) -> Mono {
        Mono((self.t as f64 * (1.0 - self.drift)) as u64)
    }

    fn utc_us(&self) -> i64 {
        self.boot_utc_us + self.t as i64
    }

    fn keeper(&self) -> TimeKeeper {
        TimeKeeper::new(self.mono(), 1, 0, &[], FLOOR_S)
    }

    /// A round trip with these one-way delays, plus up to `jitter_us` each way.
    fn trip(&mut self, up_us: u64, down_us: u64, jitter_us: u64) -> RoundTrip {
        let t1 = self.mono();
        self.t += up_us + self.rng.u64(0..=jitter_us);
        let t2_us = self.utc_us();
        self.t += 150;
        let t3_us = self.utc_us();
        self.t += down_us + self.rng.u64(0..=jitter_us);
        RoundTrip { t1, t2_us, t3_us, t4: self.mono() }
    }

    fn error_us(&self, keeper: &TimeKeeper) -> i64 {
        keeper.utc_us(self.mono()).unwrap() - self.utc_us()
    }
}

#[test]
fn within_two_ms_on_a_steady_link_whatever_the_drift() {
    for drift in [-200.0, -80.0, -20.0, 0.0, 5.0, 50.0, 100.0, 200.0] {
        for delay in [500, 10_000, 80_000] {
            let mut w = World::new(drift, 1);
            let mut keeper = w.keeper();
            for round in 0..200 {
                assert_eq!(
                    keeper.round_trip(w.trip(delay, delay, 300)),
                    Verdict::Used,
                    "{drift} {delay} {round}"
                );
                // The first rounds come faster, as after a connect.
                let pause = if round < 5 { 2 * S } else { MINUTE };
                for part in 0..4 {
                    w.t += pause / 4;
                    // After the drift was seen for some minutes; before that the bound says so.
                    let error = w.error_us(&keeper).unsigned_abs();
                    let bound = keeper.bound(w.mono()).unwrap().as_micros() as u64;
                    assert!(error <= bound, "{drift} {delay} {round}.{part}: {error} > {bound}");
                    if round >= 7 {
                        assert!(error < 2_000, "{drift} {delay} {round}.{part}: {error}");
                    }
                }
            }
            let seen = keeper.drift_ppm().unwrap();
            assert!((seen - drift).abs() < 3.0, "drift {drift} seen as {seen}");
            assert_eq!(keeper.state(w.mono()), ClockState::Synced);
        }
    }
}

#[test]
fn unequal_delays_cost_half_their_difference_and_the_bound_knows() {
    let mut w = World::new(30.0, 2);
    let mut keeper = w.keeper();
    for _ in 0..30 {
        keeper.round_trip(w.trip(70_000, 10_000, 500));
        w.t += 20 * S;
    }
    let error = w.error_us(&keeper);
    assert!((error - -30_000).abs() < 1_500 || (error - 30_000).abs() < 1_500, "{error}");
    let bound = keeper.bound(w.mono()).unwrap();
    assert!(bound >= Duration::from_micros(30_000) && bound < Duration::from_micros(45_000), "{bound:?}");
}

#[test]
fn a_jittery_link_is_judged_by_its_quick_moments() {
    let mut w = World::new(-40.0, 3);
    let mut keeper = w.keeper();
    let mut worst = 0;
    for round in 0..300 {
        // One in four trips meets a queue in one direction.
        let queue = if w.rng.u8(..4) == 0 { w.rng.u64(20_000..400_000) } else { 0 };
        let (up, down) = if w.rng.bool() { (queue, 0) } else { (0, queue) };
        assert_ne!(keeper.round_trip(w.trip(15_000 + up, 15_000 + down, 500)), Verdict::Impossible);
        w.t += 30 * S;
        if round > 20 {
            worst = worst.max(w.error_us(&keeper).abs());
        }
    }
    assert!(worst < 3_000, "{worst}");
}

#[test]
fn offline_the_bound_grows_and_the_state_follows() {
    let mut w = World::new(20.0, 4);
    let mut keeper = w.keeper();
    for _ in 0..20 {
        keeper.round_trip(w.trip(20_000, 20_000, 1_000));
        w.t += MINUTE;
    }
    let near = keeper.bound(w.mono()).unwrap();
    for day in 1..60 {
        w.t += 24 * 60 * MINUTE;
        let (error, bound) = (w.error_us(&keeper).unsigned_abs(), keeper.bound(w.mono()).unwrap());
        assert!(u128::from(error) <= bound.as_micros(), "day {day}: {error} > {bound:?}");
    }
    assert!(keeper.bound(w.mono()).unwrap() > near * 10);
    assert_eq!(keeper.state(w.mono()), ClockState::Estimated);
}

#[test]
fn a_step_is_followed_after_three_and_a_lie_is_not() {
    let mut w = World::new(0.0, 5);
    let mut keeper = w.keeper();
    for _ in 0..10 {
        keeper.round_trip(w.trip(5_000, 5_000, 100));
        w.t += 10 * S;
    }
    // One answer out of 2099.
    let mut lie = w.trip(5_000, 5_000, 100);
    lie.t2_us += 73 * 365 * 86_400 * 1_000_000;
    lie.t3_us += 73 * 365 * 86_400 * 1_000_000;
    assert_eq!(keeper.round_trip(lie), Verdict::Outlier);
    assert!(w.error_us(&keeper).abs() < 1_000);
    assert_eq!((keeper.refused_ahead(), keeper.refused_samples()), (1, 1));
    // The centre's clock is set right by an hour (or our clock stopped for as long).
    w.boot_utc_us += 3600 * 1_000_000;
    for want in [Verdict::Outlier, Verdict::Outlier, Verdict::Used] {
        assert_eq!(keeper.round_trip(w.trip(5_000, 5_000, 100)), want);
        w.t += 10 * S;
    }
    assert!(w.error_us(&keeper).abs() < 1_000);
    // A step between two wild answers does not make three of a kind.
    let wild = |us: i64, mut trip: RoundTrip| {
        trip.t2_us += us;
        trip.t3_us += us;
        trip
    };
    for us in [10_000_000, -20_000_000, 40_000_000, -80_000_000] {
        let trip = wild(us, w.trip(5_000, 5_000, 100));
        assert_eq!(keeper.round_trip(trip), Verdict::Outlier);
    }
    assert!(w.error_us(&keeper).abs() < 1_000);
}

#[test]
fn impossible_answers_are_refused_and_change_nothing() {
    let mut w = World::new(0.0, 6);
    let mut keeper = w.keeper();
    let good = w.trip(5_000, 5_000, 0);
    let bad = [
        RoundTrip { t3_us: good.t2_us - 1, ..good },
        RoundTrip { t4: Mono(good.t1.0 - 1), ..good },
        RoundTrip { t2_us: -5, t3_us: -5, ..good },
        RoundTrip { t2_us: i64::MIN, t3_us: i64::MAX, ..good },
        RoundTrip { t1: Mono(u64::MAX), t4: Mono(u64::MAX), ..good },
        RoundTrip { t4: Mono(good.t1.0 + 20 * S), ..good },
        // The answer took longer there than the whole way here.
        RoundTrip { t3_us: good.t3_us + 50_000_000, ..good },
        // Before the floor, which is certain.
        RoundTrip { t2_us: 1_000_000, t3_us: 1_000_000, ..good },
    ];
    for trip in bad {
        assert_eq!(keeper.round_trip(trip), Verdict::Impossible, "{trip:?}");
        assert_eq!(keeper.state(w.mono()), ClockState::Unknown);
    }
    assert_eq!(keeper.round_trip(good), Verdict::Used);
    let before = keeper.utc_us(w.mono());
    for trip in bad {
        assert_eq!(keeper.round_trip(trip), Verdict::Impossible);
    }
    assert_eq!(keeper.utc_us(w.mono()), before);
}

#[test]
fn rows_before_the_time_was_known_are_corrected_later() {
    let mut w = World::new(0.0, 7);
    let keeper = Rc::new(RefCell::new(w.keeper()));
    let clock = Rc::new(Cell::new(w.mono()));
    let reader = clock.clone();
    let stamp = stamp(&keeper, move || reader.get());
    let (early, early_utc) = (stamp.next(), w.utc_us());
    assert_eq!(early, w.mono().0 | MONOTONIC);
    assert!(stamp.next() > early, "stamps of one moment differ");
    let unknown = keeper.borrow().row_clock(1, w.mono(), w.mono());
    assert_eq!((unknown.state, unknown.hlc(early)), (ClockState::Unknown, 0));

    w.t += 100 * S;
    let trip = w.trip(1_000, 1_000, 0);
    keeper.borrow_mut().round_trip(trip);
    clock.set(w.mono());
    let late = stamp.next();
    assert_eq!(late & MONOTONIC, 0);
    assert_eq!((late >> 16) as i64, w.utc_us() / 1000);
    let known = keeper.borrow().row_clock(1, Mono(early & !MONOTONIC), w.mono());
    assert_eq!(known.state, ClockState::Synced);
    assert!(((known.hlc(early) >> 16) as i64 - early_utc / 1000).abs() <= 1);
    // A stamp that was hybrid already stays.
    assert_eq!(known.hlc(late), late);
}

#[test]
fn hybrid_time_grows_and_a_device_in_2099_does_not_move_the_centre() {
    let now = Mono(5 * S);
    let wall = (FLOOR_S as i64 + 50) * 1_000_000;
    let mut centre = TimeKeeper::new(now, 1, wall, &[], FLOOR_S);
    assert_eq!(centre.hlc(now), None);
    assert!(!centre.observe(now, 5), "an unknown clock adopts nothing");
    centre.local(now, wall, Duration::from_millis(50));
    assert_eq!(centre.state(now), ClockState::Synced);
    assert_eq!(centre.confirmed_s(now), None, "its own clock is no centre's word");
    let first = centre.hlc(now).unwrap();
    assert_eq!(first >> 16, wall as u64 / 1000);
    assert_eq!(centre.hlc(now), Some(first + 1));
    // A peer half a minute ahead pulls the clock along, so that causes come before effects.
    let ahead = first + (30_000 << 16);
    assert!(centre.observe(now, ahead));
    assert_eq!(centre.hlc(now), Some(ahead + 1));
    // 2099, the far end of the field, and a monotonic stamp do not.
    for wrong in [4_070_908_800_000 << 16, u64::MAX >> 1, u64::MAX, MONOTONIC | 5] {
        assert!(!centre.observe(now, wrong));
    }
    assert_eq!(centre.refused_ahead(), 4);
    assert_eq!(centre.hlc(now), Some(ahead + 2));
    // The wall clock is set back by a minute: hybrid time still grows.
    centre.local(now, wall - 60_000_000, Duration::from_millis(50));
    assert_eq!(centre.hlc(now), Some(ahead + 3));
}

#[test]
fn a_restart_in_the_same_boot_keeps_the_time_as_an_estimate() {
    let mut w = World::new(0.0, 8);
    let mut keeper = w.keeper();
    keeper.round_trip(w.trip(1_000, 1_000, 0));
    let floor = keeper.confirmed_s(w.mono()).unwrap();
    assert!(floor as i64 <= w.utc_us() / 1_000_000 && floor as i64 >= w.utc_us() / 1_000_000 - 1);
    let boots = keeper.boots().to_vec();
    w.t += 60 * S;
    let again = TimeKeeper::new(w.mono(), 1, 0, &boots, floor);
    assert_eq!(again.state(w.mono()), ClockState::Estimated);
    assert!(w.error_us(&again).abs() < 10);
    assert_eq!(again.confirmed_s(w.mono()), None);
    // Another boot knows nothing of now, but places the rows of that one.
    let other = TimeKeeper::new(Mono(S), 2, 0, &boots, floor);
    assert_eq!(other.state(Mono(S)), ClockState::Unknown);
    let then = other.row_clock(1, Mono(9 * S), Mono(S));
    assert_eq!((then.state, then.boot_offset_us), (ClockState::Estimated, Some(w.boot_utc_us)));
    assert_eq!(other.row_clock(77, Mono(S), Mono(S)).state, ClockState::Unknown);
}

/// Rows of boot 1, which never learned the time; the wall clock started boots at these values. Boot 3
/// starts `gap_s` after boot 1 and learns the time.
fn place_boot_1(wall_boot_1_s: i64, wall_boot_3_s: i64, gap_s: i64) -> Option<i64> {
    let at = Mono(S);
    let wall = |s: i64| s * 1_000_000;
    let first = TimeKeeper::new(at, 1, wall(wall_boot_1_s), &[], FLOOR_S);
    let second = TimeKeeper::new(at, 2, wall(wall_boot_1_s + gap_s / 2), first.boots(), FLOOR_S);
    let mut w = World::new(0.0, 9);
    w.t = S;
    let mut third = TimeKeeper::new(w.mono(), 3, wall(wall_boot_3_s), second.boots(), FLOOR_S);
    third.round_trip(w.trip(1_000, 1_000, 0));
    let clock = third.row_clock(1, at, w.mono());
    // How long before boot 3 the boot 1 is placed.
    clock.boot_offset_us.map(|o| (w.boot_utc_us - o) / 1_000_000)
}

#[test]
fn a_clock_chip_in_2099_over_two_reboots_still_tells_distances() {
    let y2099 = 4_070_908_800;
    assert_eq!(place_boot_1(y2099, y2099 + 600, 600), Some(600));
    // No chip: every boot starts at 1970, and nothing can be said.
    assert_eq!(place_boot_1(0, 0, 600), None);
    // Somebody set the clock in between: the place would be before this program was made.
    assert_eq!(place_boot_1(0, FLOOR_S as i64 + 3600, 600), None);
}

#[test]
fn only_eight_boots_are_kept() {
    let mut boots = Vec::new();
    for id in 1..=30 {
        boots = TimeKeeper::new(Mono(S), id, 0, &boots, FLOOR_S).boots().to_vec();
    }
    assert_eq!(boots.iter().map(|b| b.id).collect::<Vec<_>>(), (23..=30).collect::<Vec<_>>());
}

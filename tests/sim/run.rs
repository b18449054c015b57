//! Many seeds; one seed again; the shortest list of faults that still fails.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::plan::{Fault, Plan};
use super::trace;
use super::world::{self, Report};

/// Seeds of an ordinary test run.
const SEEDS: u64 = 1_000;
const THREADS: usize = 2;
/// Seeds that fail, each with its reason; docs/simulation.md, "Open". They are run by `DTS_SIM_SEED` and by nothing else.
const OPEN: [(u64, &str); 3] = [
    (
        362,
        "a clone evicted what stood at the centre's mark and below it: nothing is left that tells the fork",
    ),
    (
        930,
        "failed fsyncs while a batch that is too large waits to be set aside: a fresh event is set aside with it",
    ),
    (641, "after lost fsyncs an epoch holds numbers twice, and what is salvaged goes out in another order"),
];

/// Runs a plan; a panic is a violation.
pub(super) fn attempt(plan: &Plan, traces: bool) -> Report {
    let caught = catch_unwind(AssertUnwindSafe(|| world::run(plan, traces)));
    caught.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()));
        Report { violations: vec![format!("panic: {}", text.unwrap_or_default())], ..Report::default() }
    })
}

/// The shortest list of faults with which the plan still fails.
fn shrink(plan: &Plan) -> Plan {
    let mut best = plan.clone();
    let mut size = best.faults.len().div_ceil(2).max(1);
    while !best.faults.is_empty() {
        let mut at = 0;
        let mut shorter = false;
        while at < best.faults.len() {
            let mut less = best.clone();
            less.faults.drain(at..(at + size).min(best.faults.len()));
            if attempt(&less, false).violations.is_empty() {
                at += size;
            } else {
                best = less;
                shorter = true;
            }
        }
        if size == 1 && !shorter {
            break;
        }
        size = (size / 2).max(1);
    }
    best
}

/// What people need of a seed that fails.
fn explain(seed: u64, report: &Report) -> String {
    let mut text = format!("seed {seed} fails:\n");
    for violation in &report.violations {
        let _ = writeln!(text, "  {violation}");
    }
    let _ = writeln!(
        text,
        "repeat it with\n  DTS_SIM_SEED={seed} cargo test --features full --lib sim::run::one_seed -- --nocapture"
    );
    let shrunk = shrink(&Plan::of(seed));
    let _ = writeln!(text, "the shortest list of faults that still fails:");
    for (at, fault) in &shrunk.faults {
        let _ = writeln!(text, "  {:>8.3} s  {fault:?}", *at as f64 / 1e6);
    }
    text
}

/// What a run over many seeds came to.
#[derive(Debug, Default)]
struct Sum {
    seeds: u64,
    coverage: BTreeMap<(&'static str, &'static str), u32>,
    counts: (u64, u64, u64, u64),
    quarantined: u64,
    virtual_us: u64,
    failed: Option<(u64, Report)>,
}

/// Runs seeds from `first` on, until there were `seeds` or `more` says no, or one fails.
fn seeds(first: u64, seeds: u64, more: impl Fn() -> bool + Sync) -> Sum {
    let (next, sum, stop) = (AtomicU64::new(first), Mutex::new(Sum::default()), AtomicBool::new(false));
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) && more() {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first.saturating_add(seeds) {
                        break;
                    }
                    if OPEN.iter().any(|(open, _)| *open == seed) {
                        continue;
                    }
                    let report = attempt(&Plan::of(seed), false);
                    let mut sum = sum.lock().unwrap();
                    sum.seeds += 1;
                    for (place, n) in &report.coverage {
                        *sum.coverage.entry(*place).or_default() += n;
                    }
                    let (c, r) = (sum.counts, report.counts);
                    sum.counts = (c.0 + r.0, c.1 + r.1, c.2 + r.2, c.3 + r.3);
                    sum.quarantined += report.quarantined;
                    sum.virtual_us += report.ended_us;
                    if !report.violations.is_empty() && sum.failed.as_ref().is_none_or(|(s, _)| seed < *s) {
                        stop.store(true, Ordering::Relaxed);
                        sum.failed = Some((seed, report));
                    }
                }
            });
        }
    });
    sum.into_inner().unwrap()
}

/// How often each kind of fault met each state.
fn table(sum: &Sum) -> String {
    let states = ["sending", "idle", "offline", "down"];
    let mut text = format!("{:<34}", "fault");
    for state in states {
        let _ = write!(text, "{state:>9}");
    }
    text.push('\n');
    for name in Fault::NAMES {
        let _ = write!(text, "{name:<34}");
        for state in states {
            let _ = write!(text, "{:>9}", sum.coverage.get(&(name, state)).copied().unwrap_or(0));
        }
        text.push('\n');
    }
    let (issued, acked, delivered, lost) = sum.counts;
    let _ = writeln!(
        text,
        "{} seeds, {:.0} s of virtual time, {issued} events issued, {acked} acknowledged, {delivered} delivered, {lost} reported \
         lost, {} damaged buffers put aside",
        sum.seeds,
        sum.virtual_us as f64 / 1e6,
        sum.quarantined
    );
    text
}

#[test]
fn a_thousand_seeds() {
    let sum = seeds(0, SEEDS, || true);
    if let Some((seed, report)) = &sum.failed {
        panic!("{}", explain(*seed, report));
    }
    println!("{}", table(&sum));
    for name in Fault::NAMES {
        assert!(
            sum.coverage.keys().any(|(n, _)| *n == name),
            "no seed has the fault `{name}`:\n{}",
            table(&sum)
        );
    }
    assert!(sum.quarantined > 0 && sum.counts.3 > 0, "{}", table(&sum));
}

/// Two copies of a buffer, sent in parts: what either acknowledged arrives.
#[test]
fn cloned_images_that_go_out_in_parts() {
    for seed in 0..8 {
        let report = attempt(&Plan::cloned(seed), false);
        assert!(report.violations.is_empty(), "seed {seed}: {:#?}", report.violations);
    }
}

/// `DTS_SOAK_SECONDS=n`: new seeds for so long.
#[test]
fn soak() {
    let Some(seconds) = std::env::var("DTS_SOAK_SECONDS").ok().and_then(|s| s.parse().ok()) else { return };
    let until = crate::runtime::mono_now() + Duration::from_secs(seconds);
    let first = SEEDS + fastrand::u64(0..1 << 40);
    let sum = seeds(first, u64::MAX, || crate::runtime::mono_now() < until);
    println!("seeds from {first} on\n{}", table(&sum));
    if let Some((seed, report)) = &sum.failed {
        panic!("{}", explain(*seed, report));
    }
}

/// `DTS_SIM_SEED=n`: one seed, with its trace. `DTS_SIM_PLAN=resent`: of that profile.
#[test]
fn one_seed() {
    let Some(seed) = std::env::var("DTS_SIM_SEED").ok().and_then(|s| s.parse().ok()) else { return };
    let plan = match std::env::var("DTS_SIM_PLAN").as_deref() {
        Ok("pressed") => Plan::pressed(seed),
        Ok("starved") => Plan::starved(seed),
        Ok("cloned") => Plan::cloned(seed),
        Ok("resent") => Plan::resent(seed),
        Ok("streaming") => Plan::streaming(seed),
        _ => Plan::of(seed),
    };
    println!("{plan:#?}");
    trace::start();
    let report = attempt(&plan, true);
    trace::stop();
    println!("(issued, acknowledged, delivered, reported lost) = {:?}", report.counts);
    if !report.violations.is_empty() && std::env::var_os("DTS_SIM_PLAN").is_none() {
        panic!("{}", explain(seed, &report));
    }
    assert!(report.violations.is_empty(), "{:#?}", report.violations);
}

#[test]
fn the_same_seed_makes_the_same_run() {
    for seed in 0..6 {
        let (one, two) = (attempt(&Plan::of(seed), true), attempt(&Plan::of(seed), true));
        let differs = one.trace.iter().zip(&two.trace).find(|(a, b)| a != b);
        assert_eq!(differs, None, "seed {seed}");
        assert_eq!((one.counts, one.ended_us), (two.counts, two.ended_us), "seed {seed}");
    }
}

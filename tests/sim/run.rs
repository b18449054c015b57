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
const OPEN: [(u64, &str); 1] = [(
    930,
    "a row is too large for the centre: the loss record names its whole batch, and rows of it that fit and are still to come are \
     taken for delivered",
)];

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

/// Seeds of one kind.
pub(super) struct Series {
    pub(super) plan: fn(u64) -> Plan,
    /// Seeds that are not run with others.
    pub(super) open: &'static [(u64, &'static str)],
    /// The command for one seed, which stands where `{}` is.
    pub(super) one: &'static str,
}

const FIRST: Series = Series {
    plan: Plan::of,
    open: &OPEN,
    one: "DTS_SIM_SEED={} cargo test --features full --lib sim::run::one_seed -- --nocapture",
};

/// What people need of a seed that fails.
pub(super) fn explain(series: &Series, seed: u64, report: &Report) -> String {
    let mut text = format!("seed {seed} fails:\n");
    for violation in &report.violations {
        let _ = writeln!(text, "  {violation}");
    }
    let _ = writeln!(text, "repeat it with\n  {}", series.one.replace("{}", &seed.to_string()));
    let shrunk = shrink(&(series.plan)(seed));
    let _ = writeln!(text, "the shortest list of faults that still fails:");
    for (at, fault) in &shrunk.faults {
        let _ = writeln!(text, "  {:>8.3} s  {fault:?}", *at as f64 / 1e6);
    }
    text
}

/// What a run over many seeds came to.
#[derive(Debug, Default)]
pub(super) struct Sum {
    seeds: u64,
    pub(super) coverage: BTreeMap<(&'static str, &'static str), u32>,
    pub(super) met: BTreeMap<&'static str, u32>,
    counts: (u64, u64, u64, u64),
    quarantined: u64,
    virtual_us: u64,
    pub(super) failed: Option<(u64, Report)>,
}

impl Sum {
    pub(super) fn add(&mut self, report: &Report) {
        self.seeds += 1;
        for (place, n) in &report.coverage {
            *self.coverage.entry(*place).or_default() += n;
        }
        for (what, n) in &report.met {
            *self.met.entry(*what).or_default() += n;
        }
        let (c, r) = (self.counts, report.counts);
        self.counts = (c.0 + r.0, c.1 + r.1, c.2 + r.2, c.3 + r.3);
        self.quarantined += report.quarantined;
        self.virtual_us += report.ended_us;
    }
}

impl Series {
    /// Runs seeds from `first` on, until there were `seeds` or `more` says no, or one fails.
    pub(super) fn run(&self, first: u64, seeds: u64, more: impl Fn() -> bool + Sync) -> Sum {
        let (next, sum, stop) = (AtomicU64::new(first), Mutex::new(Sum::default()), AtomicBool::new(false));
        std::thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed) && more() {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= first.saturating_add(seeds) {
                            break;
                        }
                        if self.open.iter().any(|(open, _)| *open == seed) {
                            continue;
                        }
                        let report = attempt(&(self.plan)(seed), false);
                        let mut sum = sum.lock().unwrap();
                        sum.add(&report);
                        if !report.violations.is_empty() && sum.failed.as_ref().is_none_or(|(s, _)| seed < *s)
                        {
                            stop.store(true, Ordering::Relaxed);
                            sum.failed = Some((seed, report));
                        }
                    }
                });
            }
        });
        sum.into_inner().unwrap()
    }
}

/// How often each kind of fault met each state.
pub(super) fn table(sum: &Sum, names: &[&'static str], states: &[&'static str]) -> String {
    let mut text = format!("{:<34}", "fault");
    for state in states {
        let _ = write!(text, "{state:>9}");
    }
    text.push('\n');
    for &name in names {
        let _ = write!(text, "{name:<34}");
        for &state in states {
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

/// The table of the first tier.
fn all(sum: &Sum) -> String {
    table(sum, &Fault::NAMES, &["sending", "idle", "offline", "down"])
}

/// With `DTS_SOAK_SECONDS=n`: a seed above `after` to begin with, and whether there is time for one more.
pub(super) fn soak_for(after: u64) -> Option<(u64, impl Fn() -> bool + Sync)> {
    let seconds = std::env::var("DTS_SOAK_SECONDS").ok().and_then(|s| s.parse().ok())?;
    let until = crate::runtime::mono_now() + Duration::from_secs(seconds);
    Some((after + fastrand::u64(0..1 << 40), move || crate::runtime::mono_now() < until))
}

#[test]
fn a_thousand_seeds() {
    let sum = FIRST.run(0, SEEDS, || true);
    if let Some((seed, report)) = &sum.failed {
        panic!("{}", explain(&FIRST, *seed, report));
    }
    println!("{}", all(&sum));
    for name in Fault::NAMES {
        assert!(
            sum.coverage.keys().any(|(n, _)| *n == name),
            "no seed has the fault `{name}`:\n{}",
            all(&sum)
        );
    }
    assert!(sum.quarantined > 0 && sum.counts.3 > 0, "{}", all(&sum));
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
    let Some((first, more)) = soak_for(SEEDS) else { return };
    let sum = FIRST.run(first, u64::MAX, more);
    println!("seeds from {first} on\n{}", all(&sum));
    if let Some((seed, report)) = &sum.failed {
        panic!("{}", explain(&FIRST, *seed, report));
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
        panic!("{}", explain(&FIRST, seed, &report));
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

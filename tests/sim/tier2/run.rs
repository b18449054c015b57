//! Seeds of the second tier.

use crate::sim::plan::{Fault, Plan};
use crate::sim::run::{Series, Sum, attempt, explain, soak_for, table};
use crate::sim::trace;

/// Seeds of an ordinary test run.
const SEEDS: u64 = 120;

const SERIES: Series = Series {
    plan: Plan::quic,
    open: &[],
    one: "DTS_SIM_QUIC_SEED={} cargo test --features full --lib sim::tier2::run::one_seed -- --nocapture",
};

/// What a run over all seeds must have met.
const MUST: [&str; 10] = [
    "connections over QUIC",
    "fallback to TLS",
    "return to QUIC",
    "rebind",
    "path MTU shrank",
    "narrow path, so TLS",
    "fell back in time",
    "survived an address",
    "survived a NAT",
    "survived a narrower path",
];

fn print(sum: &Sum) -> String {
    let mut text = table(sum, &Fault::QUIC_NAMES, &["quic", "tls", "offline", "down"]);
    for (what, n) in &sum.met {
        text.push_str(&format!("{what}: {n}\n"));
    }
    text
}

#[test]
fn a_hundred_seeds() {
    let sum = SERIES.run(0, SEEDS, || true);
    if let Some((seed, report)) = &sum.failed {
        panic!("{}", explain(&SERIES, *seed, report));
    }
    println!("{}", print(&sum));
    for what in MUST {
        assert!(sum.met.get(what).copied().unwrap_or(0) > 0, "no seed met `{what}`:\n{}", print(&sum));
    }
    for name in Fault::QUIC_NAMES {
        assert!(
            sum.coverage.keys().any(|(n, _)| *n == name),
            "no seed has the fault `{name}`:\n{}",
            print(&sum)
        );
    }
}

/// `DTS_SOAK_SECONDS=n`: new seeds for so long.
#[test]
fn soak() {
    let Some((first, more)) = soak_for(SEEDS) else { return };
    let sum = SERIES.run(first, u64::MAX, more);
    println!("seeds over QUIC from {first} on\n{}", print(&sum));
    if let Some((seed, report)) = &sum.failed {
        panic!("{}", explain(&SERIES, *seed, report));
    }
}

/// `DTS_SIM_QUIC_SEED=n`: one seed, with its trace.
#[test]
fn one_seed() {
    let Some(seed) = std::env::var("DTS_SIM_QUIC_SEED").ok().and_then(|s| s.parse().ok()) else { return };
    let plan = Plan::quic(seed);
    println!("{plan:#?}");
    trace::start();
    let report = attempt(&plan, true);
    trace::stop();
    println!("(issued, acknowledged, delivered, reported lost) = {:?}", report.counts);
    println!("(hash of the datagrams, sent, too long) = {:x?}; met: {:?}", report.wire, report.met);
    if !report.violations.is_empty() {
        panic!("{}", explain(&SERIES, seed, &report));
    }
}

#[test]
fn the_same_seed_sends_the_same_datagrams() {
    for seed in 0..6 {
        let (one, two) = (attempt(&Plan::quic(seed), true), attempt(&Plan::quic(seed), true));
        let differs = one.trace.iter().zip(&two.trace).find(|(a, b)| a != b);
        assert_eq!(differs, None, "seed {seed}");
        assert_eq!((one.counts, one.ended_us, one.wire), (two.counts, two.ended_us, two.wire), "seed {seed}");
        assert!(one.wire.1 > 0, "seed {seed} sent nothing");
    }
}

/// `DTS_SIM_QUIC_SEEDS=first,count`: all of them, and what is wrong with each that fails.
#[test]
fn many_seeds() {
    let Ok(range) = std::env::var("DTS_SIM_QUIC_SEEDS") else { return };
    let numbers: Vec<u64> = range.split(',').filter_map(|n| n.parse().ok()).collect();
    let [first, count] = numbers[..] else { return };
    let mut sum = Sum::default();
    for seed in first..first + count {
        let report = attempt(&Plan::quic(seed), false);
        sum.add(&report);
        for violation in &report.violations {
            println!("seed {seed}: {violation}");
        }
    }
    println!("{}", print(&sum));
}

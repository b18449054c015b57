//! The process's one registry of metrics.

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::names::{Kind, METRICS};

type Labels = Vec<(&'static str, String)>;
/// Label sets kept for one metric. A peer must not be able to grow memory by inventing names.
const MAX_SERIES: usize = 1_000;

#[derive(Clone)]
struct Buckets;

impl MetricConstructor<Histogram> for Buckets {
    /// 1 ms to about 16 s, doubling; a device that was away is in the last one.
    fn new_metric(&self) -> Histogram {
        Histogram::new((0..15).map(|n| 0.001 * f64::from(1 << n)))
    }
}

enum Metric {
    Counter(Family<Labels, Counter>),
    Gauge(Family<Labels, Gauge<f64, AtomicU64>>),
    Histogram(Family<Labels, Histogram, Buckets>),
}

struct Metrics {
    registry: Registry,
    by_name: HashMap<&'static str, (Metric, Vec<Labels>)>,
}

static ALL: LazyLock<Mutex<Metrics>> = LazyLock::new(|| {
    let mut registry = Registry::default();
    let mut by_name = HashMap::new();
    for &(name, kind, help) in METRICS {
        let metric = match kind {
            Kind::Counter => {
                let family = Family::default();
                // The encoder appends `_total` itself.
                registry.register(name.trim_end_matches("_total"), help, family.clone());
                Metric::Counter(family)
            }
            Kind::Gauge => {
                let family = Family::default();
                registry.register(name, help, family.clone());
                Metric::Gauge(family)
            }
            Kind::Histogram => {
                let family = Family::new_with_constructor(Buckets);
                registry.register(name, help, family.clone());
                Metric::Histogram(family)
            }
        };
        by_name.insert(name, (metric, Vec::new()));
    }
    Mutex::new(Metrics { registry, by_name })
});

fn all() -> MutexGuard<'static, Metrics> {
    // Counters cannot be left half-changed by a panic.
    ALL.lock().unwrap_or_else(PoisonError::into_inner)
}

fn with(name: &'static str, labels: &[(&'static str, &str)], change: impl FnOnce(&Metric, &Labels)) {
    let mut all = all();
    let Some((metric, seen)) = all.by_name.get_mut(name) else {
        debug_assert!(false, "metric {name} is not in telemetry/names.rs");
        return;
    };
    let mut labels: Labels = labels.iter().map(|&(k, v)| (k, v.to_owned())).collect();
    if !seen.contains(&labels) {
        if seen.len() >= MAX_SERIES {
            for label in &mut labels {
                label.1 = "other".to_owned();
            }
        }
        if !seen.contains(&labels) {
            seen.push(labels.clone());
        }
    }
    change(metric, &labels);
}

/// Adds `n` to a counter. `name` and its labels stand in the table of metrics (`names.rs`).
/// Costs a lock and a look-up: call it a batch, not a row.
pub fn count(name: &'static str, labels: &[(&'static str, &str)], n: u64) {
    with(name, labels, |metric, labels| {
        if let Metric::Counter(family) = metric {
            family.get_or_create(labels).inc_by(n);
        }
    });
}

/// Sets a gauge.
pub fn gauge(name: &'static str, labels: &[(&'static str, &str)], value: f64) {
    with(name, labels, |metric, labels| {
        if let Metric::Gauge(family) = metric {
            family.get_or_create(labels).set(value);
        }
    });
}

/// Adds an observation, in seconds, to a histogram.
pub fn observe(name: &'static str, labels: &[(&'static str, &str)], seconds: f64) {
    with(name, labels, |metric, labels| {
        if let Metric::Histogram(family) = metric {
            family.get_or_create(labels).observe(seconds);
        }
    });
}

/// The sum of a counter or gauge over all its labels; 0 if there is none of that name.
pub fn value(name: &str) -> f64 {
    let all = all();
    let Some((metric, seen)) = all.by_name.get(name) else { return 0.0 };
    seen.iter()
        .map(|labels| match metric {
            Metric::Counter(family) => family.get_or_create(labels).get() as f64,
            Metric::Gauge(family) => family.get_or_create(labels).get(),
            Metric::Histogram(_) => 0.0,
        })
        .sum()
}

/// All metrics in the text format of OpenMetrics 1.0.
pub fn expose() -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ignored = encode(&mut out, &all().registry);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_conventions_and_are_unique() {
        let mut seen = std::collections::HashSet::new();
        for &(name, kind, help) in METRICS {
            assert!(seen.insert(name), "{name} stands twice");
            assert!(name.starts_with("dts_") && !help.is_empty());
            assert_eq!(kind == Kind::Counter, name.ends_with("_total"), "{name}");
            assert!(kind != Kind::Histogram || name.ends_with("_seconds"), "{name}");
        }
    }

    #[test]
    fn what_was_counted_is_exposed() {
        count("dts_source_restarts_total", &[("source", "metrics-test")], 2);
        count("dts_source_restarts_total", &[("source", "metrics-test")], 1);
        let text = expose();
        assert!(text.contains("dts_source_restarts_total{source=\"metrics-test\"} 3\n"), "{text}");
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn inventing_labels_does_not_grow_memory() {
        for n in 0..3_000 {
            gauge("dts_build_info", &[("version", &n.to_string())], 1.0);
        }
        assert!(all().by_name["dts_build_info"].1.len() <= MAX_SERIES + 1);
    }
}

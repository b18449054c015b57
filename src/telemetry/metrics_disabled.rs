//! Stands in for the metrics in a build that has no port to ask for them.

use super::names::METRICS;

fn check(name: &str) {
    debug_assert!(METRICS.iter().any(|m| m.0 == name), "metric {name} is not in telemetry/names.rs");
}

/// Counts nothing.
pub fn count(name: &'static str, _labels: &[(&'static str, &str)], _n: u64) {
    check(name);
}

/// Keeps nothing.
pub fn gauge(name: &'static str, _labels: &[(&'static str, &str)], _value: f64) {
    check(name);
}

/// Keeps nothing.
pub fn observe(name: &'static str, _labels: &[(&'static str, &str)], _seconds: f64) {
    check(name);
}

/// 0.
pub fn value(_name: &str) -> f64 {
    0.0
}

/// No metrics, in the text format of OpenMetrics 1.0.
pub fn expose() -> String {
    "# EOF\n".to_owned()
}

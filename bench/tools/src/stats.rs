//! Percentiles and the clock that all processes of this machine share.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

pub fn now_ns() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos() as u64)
}

/// P50, P95, P99 and the greatest, in milliseconds.
pub fn summary(ns: &mut [u64]) -> Value {
    ns.sort_unstable();
    let ms = |n: u64| (n as f64 / 1e4).round() / 100.0;
    let at = |p: usize| ns.get((ns.len() * p / 100).min(ns.len().saturating_sub(1))).map(|&n| ms(n));
    json!({"n": ns.len(), "p50_ms": at(50), "p95_ms": at(95), "p99_ms": at(99), "max_ms": ns.last().map(|&n| ms(n))})
}

/// An event of `size` bytes as JSON: its number, when it was made, and padding that does not compress.
pub fn event(out: &mut Vec<u8>, seq: u64, size: usize, rng: &mut fastrand::Rng) {
    let start = out.len();
    out.extend_from_slice(format!("{{\"seq\":{seq},\"ts\":{},\"pad\":\"", now_ns()).as_bytes());
    fill(out, (start + size).saturating_sub(out.len() + 2), rng);
    out.extend_from_slice(b"\"}");
}

pub fn fill(out: &mut Vec<u8>, n: usize, rng: &mut fastrand::Rng) {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut bits = 0u64;
    for i in 0..n {
        if i % 10 == 0 {
            bits = rng.u64(..);
        }
        out.push(DIGITS[(bits & 63) as usize]);
        bits >>= 6;
    }
}

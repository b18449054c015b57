//! The ring between a source's thread and the pipeline, beside bare `rtrb`: `cargo bench --bench ring --features thread-ring`.
//! Prints one JSON line a case.
//!
//! - `hand-over`: both sides are busy, one item at a time: from before the push until the other side has it.
//! - `pipeline`: batches of 256 events, a million events a second for five seconds, who has nothing to do sleeps: CPU of
//!   both threads in percent of a core, beside an idle ring.

#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use dts::pipeline::ring::ring;
use futures_lite::future::block_on;

const ITEMS: usize = 200_000;

fn main() {
    for round in 0..3 {
        let start = Instant::now();
        let (mut tx, mut rx) = rtrb::RingBuffer::new(1024);
        let bare = hand_over(start, move |n| tx.push(n).is_ok(), move || rx.pop().ok());
        let (mut tx, mut rx) = ring(1024);
        let ours = hand_over(start, move |n| tx.try_send(n).is_ok(), move || rx.try_recv());
        for (who, times) in [("rtrb", bare), ("dts", ours)] {
            let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
            println!(
                "{{\"case\":\"hand-over\",\"round\":{round},\"ring\":\"{who}\",\"p50_ns\":{},\"p99_ns\":{},\"p999_ns\":{}}}",
                at(0.5),
                at(0.99),
                at(0.999)
            );
        }
    }
    for events_per_second in [0, 1_000_000] {
        let cpu = pipeline(events_per_second);
        println!(
            "{{\"case\":\"pipeline\",\"events_per_second\":{events_per_second},\"cpu_percent\":{cpu:.2}}}"
        );
    }
}

/// Sorted nanoseconds from before each push until it was seen.
fn hand_over(
    start: Instant,
    mut push: impl FnMut(u64) -> bool + Send + 'static,
    mut pop: impl FnMut() -> Option<u64>,
) -> Vec<u64> {
    let seen = Arc::new(AtomicU64::new(0));
    let theirs = seen.clone();
    let sender = std::thread::spawn(move || {
        for n in 1..=ITEMS as u64 {
            while !push(start.elapsed().as_nanos() as u64) {}
            while theirs.load(Ordering::Acquire) < n {
                std::hint::spin_loop();
            }
        }
    });
    let mut times = Vec::with_capacity(ITEMS);
    while times.len() < ITEMS {
        if let Some(sent) = pop() {
            times.push(start.elapsed().as_nanos() as u64 - sent);
            seen.store(times.len() as u64, Ordering::Release);
        } else {
            std::hint::spin_loop();
        }
    }
    sender.join().unwrap();
    times.sort_unstable();
    times
}

/// CPU of the process in percent of a core over five seconds.
fn pipeline(events_per_second: u64) -> f64 {
    const BATCH: u64 = 256;
    let seconds = 5;
    let (mut tx, mut rx) = ring::<[u64; BATCH as usize]>(64);
    let (began, cpu) = (Instant::now(), cpu_us());
    let sender = std::thread::spawn(move || {
        let batches = events_per_second * seconds / BATCH;
        for n in 0..batches {
            let due = Duration::from_nanos(n * BATCH * 1_000_000_000 / events_per_second);
            if let Some(wait) = due.checked_sub(began.elapsed()) {
                std::thread::sleep(wait);
            }
            block_on(tx.send([n; BATCH as usize])).unwrap();
        }
        std::thread::sleep(Duration::from_secs(seconds).saturating_sub(began.elapsed()));
    });
    let mut sum = 0u64;
    while let Some(batch) = block_on(rx.recv()) {
        sum = batch.iter().fold(sum, |sum, n| sum.wrapping_add(*n));
    }
    sender.join().unwrap();
    std::hint::black_box(sum);
    (cpu_us() - cpu) as f64 / began.elapsed().as_micros() as f64 * 100.0
}

fn cpu_us() -> u64 {
    let time = |who: libc::timeval| who.tv_sec as u64 * 1_000_000 + who.tv_usec as u64;
    // SAFETY: getrusage fills what it is given.
    let usage = unsafe {
        let mut usage = std::mem::zeroed::<libc::rusage>();
        libc::getrusage(libc::RUSAGE_SELF, &mut usage);
        usage
    };
    time(usage.ru_utime) + time(usage.ru_stime)
}

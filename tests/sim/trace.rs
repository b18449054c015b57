//! The product's own log in a trace: `DTS_SIM_LOG=debug` shows more.

use std::cell::{Cell, RefCell};

use log::{LevelFilter, Log, Metadata, Record};

thread_local! {
    static NOW: Cell<u64> = const { Cell::new(0) };
    static WHO: RefCell<String> = const { RefCell::new(String::new()) };
    static ON: Cell<bool> = const { Cell::new(false) };
}

struct Printer;

impl Log for Printer {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        ON.get()
    }

    fn log(&self, record: &Record<'_>) {
        if ON.get() {
            let who = WHO.with_borrow(Clone::clone);
            let level = record.level().as_str().to_lowercase();
            println!("{:>10.3}      {who}: {level}: {}", NOW.get() as f64 / 1e6, record.args());
        }
    }

    fn flush(&self) {}
}

/// Prints this thread's log from now on.
pub(super) fn start() {
    let level = std::env::var("DTS_SIM_LOG").ok().and_then(|l| l.parse().ok()).unwrap_or(LevelFilter::Info);
    // Another test may have set one: then there is none here.
    if log::set_logger(&Printer).is_ok() {
        log::set_max_level(level);
    }
    ON.set(true);
}

pub(super) fn stop() {
    ON.set(false);
}

/// Prints a line of the simulation's own.
pub(super) fn say(line: &str) {
    if ON.get() {
        println!("{line}");
    }
}

/// Whose code runs, and when.
pub(super) fn at(now: u64, who: impl FnOnce() -> String) {
    if ON.get() {
        NOW.set(now);
        WHO.set(who());
    }
}

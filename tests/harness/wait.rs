//! Bounded waits.

use std::time::{Duration, Instant};

/// Generous: a busy machine is no failure.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

/// Asks until there is an answer. Fails, saying `what` did not come, when patience is over.
pub(crate) fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        if begin.elapsed() > PATIENCE {
            panic!("{what}: did not come within {} s", PATIENCE.as_secs());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// For what has no sign to wait for: gives a wrong thing time to happen.
pub(crate) fn pause(ms: u64) {
    std::thread::sleep(Duration::from_millis(ms));
}

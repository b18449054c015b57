//! Says the same thing seldom: a month without the centre must not fill a disk with logs.

use std::collections::HashMap;
use std::time::Duration;

use crate::runtime::Mono;

/// The same thing again after this.
const EVERY: Duration = Duration::from_secs(3600);
/// Things remembered; if there are more all may be said again.
const MAX_THINGS: usize = 64;

/// What was said, when, and how often it was not said since.
#[derive(Debug, Default)]
pub(super) struct Seldom(HashMap<String, (Mono, u64)>);

impl Seldom {
    /// Whether to say the thing called `key` now; if so, how often it was left unsaid.
    pub(super) fn say(&mut self, now: Mono, key: &str) -> Option<u64> {
        if let Some((at, unsaid)) = self.0.get_mut(key) {
            if now.since(*at) < EVERY {
                *unsaid += 1;
                return None;
            }
            *at = now;
            return Some(std::mem::take(unsaid));
        }
        if self.0.len() >= MAX_THINGS {
            self.0.clear();
        }
        self.0.insert(key.to_owned(), (now, 0));
        Some(0)
    }
}

/// ` (5 more times in the last hour)`, or nothing.
pub(super) fn more(unsaid: u64) -> String {
    if unsaid == 0 { String::new() } else { format!(" ({unsaid} more times in the last hour)") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_thing_is_said_once_an_hour() {
        let mut seldom = Seldom::default();
        let at = |s| Mono(0) + Duration::from_secs(s);
        assert_eq!((seldom.say(at(0), "a"), seldom.say(at(1), "b")), (Some(0), Some(0)));
        assert_eq!((seldom.say(at(2), "a"), seldom.say(at(3599), "a")), (None, None));
        assert_eq!(seldom.say(at(3600), "a"), Some(2));
        assert_eq!((seldom.say(at(3601), "a"), seldom.say(at(7300), "a")), (None, Some(1)));
        for n in 0..1000 {
            seldom.say(at(8000), &n.to_string());
        }
        assert!(seldom.0.len() <= MAX_THINGS);
    }
}

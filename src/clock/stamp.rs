//! The stamp that inputs put on their rows.

use std::cell::Cell;
use std::fmt;
use std::rc::Rc;

/// Gives each row its `hlc` field ([`crate::event::row`]). Shared by all inputs of a thread.
#[derive(Clone)]
pub struct Stamp(Rc<Inner>);

struct Inner {
    now: Box<dyn Fn() -> u64>,
    last: Cell<u64>,
}

impl Stamp {
    /// `now` reads a clock and returns the field's value; it need not be monotonic.
    pub fn new(now: impl Fn() -> u64 + 'static) -> Self {
        Self(Rc::new(Inner { now: Box::new(now), last: Cell::new(0) }))
    }

    /// The next stamp: the clock's, or one above the last if that is greater.
    pub fn next(&self) -> u64 {
        let last = self.0.last.get();
        let mut next = (self.0.now)();
        // A stamp of the other kind (monotonic before the time was known) is not comparable.
        if next >> 63 == last >> 63 && next <= last {
            next = last + 1;
        }
        self.0.last.set(next);
        next
    }
}

impl fmt::Debug for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stamp").field("last", &self.0.last).finish()
    }
}

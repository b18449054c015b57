//! What time it is, and how far that can be trusted.
//!
//! Invariants: the wall clock of a device decides nothing; the time comes from round trips with a
//! verified centre ([`TimeKeeper::round_trip`]), and until then rows carry monotonic stamps that are
//! corrected when they are shipped ([`TimeKeeper::row_clock`]). Nobody who claims to be more than 60 s
//! ahead moves a clock. `seq` decides the order of rows, never a time.

mod boot;
mod keeper;
mod offset;
mod stamp;

#[cfg(test)]
mod tests;

pub use boot::Boot;
pub use keeper::{TimeKeeper, stamp};
pub use offset::{RoundTrip, Verdict};
pub use stamp::Stamp;

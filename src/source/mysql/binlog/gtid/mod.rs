//! Global transaction identifiers, one at a time and in sets.

mod mariadb;
mod mysql;
#[cfg(test)]
mod tests;

pub use mariadb::{MariaDbGtid, MariaDbGtidSet};
pub use mysql::{MySqlGtid, MySqlGtidSet, Tag};

/// Text or bytes that are no GTID set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a GTID set: expected {expected}, found `{found}`")]
pub struct BadGtid {
    /// What should stand there.
    pub expected: &'static str,
    /// What stands there.
    pub found: Box<str>,
}

fn bad(expected: &'static str, found: &str) -> BadGtid {
    // Enough to find it in a config, however long it is.
    BadGtid { expected, found: found.chars().take(80).collect() }
}

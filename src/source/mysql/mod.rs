//! MySQL and MariaDB: their binlog, and what is needed to read it, from files and live.

pub mod binlog;
pub mod charset;
#[cfg(feature = "source-mysql")]
pub mod client;
pub mod ddl;
#[cfg(feature = "source-mysql")]
pub mod live;
#[cfg(feature = "source-mysql")]
pub mod snapshot;
#[cfg(any(feature = "cmd-binlog", feature = "source-mysql"))]
#[allow(dead_code, reason = "each of its two users takes a part")]
pub(crate) mod tables;

#[cfg(feature = "source-mysql")]
pub use live::Config;

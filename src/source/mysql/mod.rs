//! MySQL and MariaDB: their binlog, and what is needed to read it.

pub mod binlog;
pub mod charset;
#[cfg(feature = "source-mysql")]
pub mod client;
pub mod ddl;

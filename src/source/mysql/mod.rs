//! MySQL and MariaDB: their binlog, and what is needed to read it.

pub mod binlog;

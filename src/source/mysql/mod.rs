//! MySQL and MariaDB: their binlog, and what is needed to read it.

pub mod binlog;
pub mod charset;
pub mod ddl;

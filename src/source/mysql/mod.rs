//! MySQL and MariaDB.

pub mod charset;
pub mod ddl;

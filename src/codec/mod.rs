//! Bytes <-> events: the forms in which sinks write a change.

pub mod base64;
pub mod debezium;
#[cfg(feature = "mysql-binlog")]
#[path = "document_enabled.rs"]
mod document;
#[cfg(not(feature = "mysql-binlog"))]
#[path = "document_disabled.rs"]
mod document;
pub mod json;
mod place;
mod shape;
pub mod text;

#[cfg(test)]
mod tests;

pub use place::{Part, row_id};

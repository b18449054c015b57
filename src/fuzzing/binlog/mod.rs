//! The binlog: files, events, binary JSON.
//!
//! Checksums and lengths would keep a fuzzer out of what they guard: [`parts`] takes a file apart and puts it together
//! again with both mended, in the target itself and in its mutator.

mod event;
mod file;
mod json;
mod model;
mod parts;
mod rows;

pub use event::binlog_event;
pub use file::{binlog_file, binlog_file_mutate};
pub use json::binlog_json;

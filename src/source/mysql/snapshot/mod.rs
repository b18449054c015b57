//! Snapshots: the rows that a table has, read in parallel with the stream of its changes, without locks.
//!
//! | file | concept |
//! |---|---|
//! | [`table`] | what a table looks like, and how its columns are asked for |
//! | [`row`] | a row of a SELECT as the record that the stream gives of it (promise P7) |
//! | [`chunk`] | the SELECT of a chunk: behind the last key, so many rows |
//! | [`window`] | which rows of a chunk the stream has overtaken. No IO |
//! | [`shared`] | where the stream's thread and the snapshot's meet |
//! | [`progress`] | what is read, as the checkpoint keeps it |
//! | `thread` | the thread `mysql-snap` |
//! | `whole` | a table without a key: one read at an exact position |
//!
//! A chunk: a window is opened, the SELECT is run, and behind it the server's position is asked (the high mark). When the
//! stream has handed on everything up to there, the chunk's rows are handed on, without those whose keys came in the stream
//! since the window was opened: what the stream gave of them is newer. Nothing of the server is locked or written.
//! After "DBLog: A Watermark Based Change-Data-Capture Framework" (2020), with positions in place of its watermark rows.

pub mod chunk;
pub mod progress;
pub mod row;
pub mod shared;
pub mod table;
mod thread;
mod whole;
pub mod window;

pub use progress::Progress;
pub use shared::Shared;
pub use thread::{Job, Made, identity, run};

//! What the fuzz targets in `fuzz/` call. No part of the interface: it may change at any time.
//!
//! A target takes bytes, reads them as choices (structure-aware: a mutation of few bytes is a small change of a
//! sensible input), and asserts what must hold whatever they are. Kept inputs stand in `fuzz/corpus/<target>/`;
//! [`tests`] replays them without a fuzzer.
//!
//! | target | what is under it | what must hold beside no panic |
//! |---|---|---|
//! | `config` | YAML to a checked plan | a plan or mistakes with places; no secret in them |
//! | `row` | a stored or received batch body | read rows write valid JSON, and copy to equal rows |
//! | `frame` | a frame of a device | what is read is written and read again |
//! | `mqtt_server` | the listener's session, hub and watermarks | rows passed on are sound; one end; every byte written is legal |
//! | `mqtt_client` | the agent's session | only what was sent is acknowledged, and once |
//! | `http` | HTTP requests of applications | as many rows are stored as were promised |
//! | `spool` | a buffer file with damaged bytes | quarantined or correct, never an event that was not made |
//! | `token` | JWTs and certificates of strangers | nobody is let in |
//! | `binlog_file` | files of events, lengths and checksums mended | read in parts as whole; forward, within the file |
//! | `binlog_event` | events of tables made of choices | all ways of reading rows agree; dts' own rows are sound |
//! | `binlog_json` | binary documents and differences | the text that a model says; any text is JSON |

mod binlog;
mod config;
mod frame;
mod http;
mod mqtt_client;
mod mqtt_server;
mod row;
#[cfg(test)]
mod tests;

pub use crate::source::devices::auth::fuzz::token;
pub use binlog::{binlog_event, binlog_file, binlog_file_mutate, binlog_json};
pub use config::config;
pub use frame::frame;
pub use http::http;
pub use mqtt_client::mqtt_client;
pub use mqtt_server::mqtt_server;
pub use row::row;

/// `data` says which bytes of which files of a buffer are damaged.
pub fn spool(data: &[u8]) {
    crate::spool::fuzz::spool(data);
}

/// A target by its name.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: [Target; 11] = [
    ("config", config),
    ("row", row),
    ("frame", frame),
    ("mqtt_server", mqtt_server),
    ("mqtt_client", mqtt_client),
    ("http", http),
    ("spool", spool),
    ("token", token),
    ("binlog_file", binlog_file),
    ("binlog_event", binlog_event),
    ("binlog_json", binlog_json),
];

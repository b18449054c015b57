//! Where a task goes on after a restart: what a source had read when every sink had it durably.
//!
//! A position moves only behind durable receipts, and only to the end of a transaction. It is kept in SQLite beside the
//! state ([`sqlite`]); the history of schemas stands in the same file, so that both are of one moment.

pub mod sqlite;

use serde::{Deserialize, Serialize};

/// The version of what is stored.
pub const VERSION: u32 = 1;

/// A position in a binlog.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// [`VERSION`].
    pub version: u32,
    /// `server_uuid` of the server (MySQL); empty for MariaDB.
    pub server: String,
    /// Every transaction that is done, as the server prints a set of GTIDs; `None` if that is not known.
    pub gtids: Option<String>,
    /// Binlog file.
    pub file: String,
    /// Where the next transaction begins in it.
    pub pos: u64,
    /// GTID of a transaction of which some rows were delivered and others were not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partial: Option<String>,
    /// Entries of the history of schemas that lie before.
    #[serde(default)]
    pub schemas: u64,
    /// Time of the last event, milliseconds since 1970 UTC.
    #[serde(default)]
    pub ts_ms: u64,
    /// How far the snapshot is, if there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<crate::source::mysql::snapshot::Progress>,
}

/// A store that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// SQLite's word.
    #[error("{path}: {error}")]
    Sqlite {
        /// The file.
        path: String,
        /// What it said.
        error: rusqlite::Error,
    },
    /// What is stored cannot be read.
    #[error("{path}: the checkpoint of `{task}` cannot be read: {why}; move the file away to begin anew")]
    Damaged {
        /// The file.
        path: String,
        /// Whose.
        task: String,
        /// What is wrong.
        why: String,
    },
}

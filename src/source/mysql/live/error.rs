//! What ends the reading of a binlog, for a moment or for good.

use crate::source::mysql::binlog;
use crate::source::mysql::client::ClientError;

/// Why it ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum LiveError {
    /// dts is stopping.
    #[error("stopping")]
    Stopped,
    /// Between client and server.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The server no longer has, or never had, what lies behind our position.
    #[error("{0}")]
    Position(String),
    /// Another replica reads under our `server_id`.
    #[error("another replica reads under server_id {0}: give one of the two another number")]
    Clash(u32),
    /// The log cannot be read.
    #[error("{file}: {error}")]
    Log {
        /// The server's file.
        file: String,
        /// What and where.
        error: binlog::Error,
    },
    /// Needs the user; the message says what to do.
    #[error("{0}")]
    User(String),
}

impl LiveError {
    /// Whether connecting again may help.
    pub(super) fn is_retriable(&self) -> bool {
        match self {
            Self::Client(error) => error.is_retriable(),
            Self::Clash(_) => true,
            _ => false,
        }
    }

    /// An error of the server during the dump, 1236 above all, as what it means.
    pub(super) fn from_dump(error: ClientError, server_id: u32) -> Self {
        let ClientError::Server(server) = &error else { return Self::Client(error) };
        let says =
            |words: &[&str]| words.iter().any(|word| server.message.to_ascii_lowercase().contains(word));
        // MariaDB has a number of its own for it.
        if says(&["same server_uuid", "same server_id", "same server id"]) {
            return Self::Clash(server_id);
        }
        if server.code == 1236 || server.code == 1593 {
            if says(&[
                "could not find first log",
                "purged",
                "could not find gtid state",
                "could not open log file",
                "missing gtids",
                "does not have",
            ]) {
                return Self::Position(format!(
                    "the server has purged the binlog behind our position ({}): begin anew with `dts offsets reset`, \
                     and copy the tables for what was missed; a longer retention avoids it \
                     (MySQL: SET PERSIST binlog_expire_logs_seconds = 604800; MariaDB: SET GLOBAL expire_logs_days = 7)",
                    server.message
                ));
            }
            if says(&[
                "more gtids than",
                "position > file size",
                "impossible position",
                "not in the master's binlog",
                "which is not in",
            ]) {
                return Self::Position(format!(
                    "our position is of another server, or of this one before it was restored ({}): connect to the server \
                     that it is of, or begin anew with `dts offsets reset`",
                    server.message
                ));
            }
            return Self::User(format!("the server cannot send its binlog: {}", server.message));
        }
        if matches!(server.code, 1227 | 1045 | 1142) {
            return Self::User(format!(
                "{server}; grant what is missing: GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO the user of the dsn"
            ));
        }
        Self::Client(error)
    }
}

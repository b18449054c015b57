//! What a user says about a server.

use crate::config::{ByteSize, Duration};
use crate::source::mysql::binlog::gtid::{MariaDbGtidSet, MySqlGtidSet};
use crate::source::mysql::client::Dsn;

crate::choice! {
    /// How a position is told to the server.
    pub enum Positions {
        /// By GTID where the server has them, else by file.
        Auto = "auto",
        /// By GTID only.
        Gtid = "gtid",
        /// By file and offset only.
        File = "file",
    }
}

crate::choice! {
    /// What is done about a change that no row tells.
    pub enum OnUnlogged {
        /// Stop with an error.
        StopTable = "stop_table",
        /// Say so, count it, and go on.
        Alert = "alert",
    }
}

crate::choice! {
    /// Whether the rows that tables have already are read too.
    pub enum Snapshots {
        /// Changes only.
        Never = "never",
        /// At the first start, before there is a checkpoint.
        Initial = "initial",
        /// As `initial`, and the source ends when all is read.
        Only = "only",
        /// As `initial`, and anew when the server has purged the binlog behind the checkpoint.
        WhenNeeded = "when_needed",
    }
}

crate::section! {
    /// Follows the row changes of a MySQL (5.7 to 9.x) or MariaDB (10.5 to 12.x) server by its binlog. See docs/mysql.md for
    /// the grants and settings that the server needs.
    pub struct Config {
        /// Where the server is and how to get in: `user:password@tcp(host:3306)/?timeout=5s&tls=true`, or
        /// `mysql://user:password@host:3306/`.
        dsn: Dsn,
        /// The `server_id` under which dts reads: from 1 on, unique among all replicas of the server.
        server_id: u32,
        /// Tables to follow, as `table` (in every database) or `database.table`; `*` and `?` match. Empty: all but the
        /// server's own.
        include_tables: Vec<String> = "[]",
        /// Tables not to follow; wins over `include_tables`.
        exclude_tables: Vec<String> = "[]",
        /// Where to begin when there is no checkpoint: `current`, `earliest`, a set of GTIDs, or `file:offset`.
        start: String = "current",
        /// How positions are told to the server: `auto`, `gtid` or `file`.
        positions: Positions = "auto",
        /// How often an idle server says that it is there. After three silent periods dts connects anew.
        heartbeat: Duration = "5s",
        /// Largest row, and largest event that is no rows. A larger one stops the source.
        max_row_bytes: ByteSize = "64MiB",
        /// Bytes of rows that are handed on together when the server sends without pause.
        batch_bytes: ByteSize = "256KiB",
        /// Bytes of rows of prepared XA transactions that are kept in memory until they are committed. Beyond it the source
        /// stops.
        max_xa_bytes: ByteSize = "64MiB",
        /// How often the checkpoint is written while rows flow.
        checkpoint_interval: Duration = "1s",
        /// What is done when the binlog shows that a table changed without rows that tell how (statements logged as such,
        /// partitions dropped, a server's INCIDENT): `stop_table` or `alert`. For now the former stops the whole source.
        on_unlogged_change: OnUnlogged = "stop_table",
        /// Whether the rows that tables have already are read too: `never`, `initial`, `only`, `when_needed`. They are read
        /// beside the stream, without locks, and come with `op: snapshot`. Needs SELECT on the tables, and `start: current`.
        snapshot: Snapshots = "never",
    }
}

/// Where to begin when there is no checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Start {
    Current,
    Earliest,
    MySql(MySqlGtidSet),
    MariaDb(MariaDbGtidSet),
    File(String, u64),
}

impl Start {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        match text {
            "current" => return Some(Self::Current),
            "earliest" => return Some(Self::Earliest),
            "" => return None,
            _ => {}
        }
        // A uuid has 36 characters before its colon.
        if text.find(':').is_some_and(|at| at >= 32)
            && let Ok(set) = text.parse()
        {
            return Some(Self::MySql(set));
        }
        if let Ok(set) = text.parse() {
            return Some(Self::MariaDb(set));
        }
        let (file, pos) = text.rsplit_once(':')?;
        let pos = pos.parse().ok().filter(|&pos| pos >= 4)?;
        (!file.is_empty()).then(|| Self::File(file.to_owned(), pos))
    }
}

impl Config {
    pub(super) fn wrong(&self) -> Option<String> {
        if self.server_id == 0 {
            return Some("`server_id` must be from 1 on, and unique among all replicas of the server".into());
        }
        if Start::parse(&self.start).is_none() {
            return Some(
                "`start` is `current`, `earliest`, a set of GTIDs (`3e11fa47-…:1-5`, `0-1-42`) or `file:offset` \
                 (`binlog.000007:4`)"
                    .into(),
            );
        }
        if self.snapshot != Snapshots::Never && Start::parse(&self.start) != Some(Start::Current) {
            return Some("a `snapshot` holds everything up to now: leave `start` out".into());
        }
        let secs = self.heartbeat.as_secs_f64();
        if !(0.1..=3600.0).contains(&secs) {
            return Some("`heartbeat` is from 100ms to 1h".into());
        }
        if !(4096..=1 << 30).contains(&self.max_row_bytes.0) {
            return Some("`max_row_bytes` is from 4KiB to 1GiB".into());
        }
        if !(1024..=16 << 20).contains(&self.batch_bytes.0) {
            return Some("`batch_bytes` is from 1KiB to 16MiB".into());
        }
        super::filter::Filter::new(&self.include_tables, &self.exclude_tables).err()
    }
}

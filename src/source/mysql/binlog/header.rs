//! The header that every event begins with, and the types of events.
//!
//! ```text
//! timestamp u32 | type u8 | server id u32 | event length u32 | next position u32 | flags u16
//! ```
//!
//! Source: MySQL's `libs/mysql/binlog/event/binlog_event.h`, `Log_event_header` and
//! `Log_event_type`; MariaDB's `sql/log_event.h` for the types from 160 on. All integers in
//! headers are little-endian.

use std::fmt;

use super::error::Malformed;

/// Bytes of the header.
pub const HEADER_BYTES: usize = 19;

/// The header of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Seconds since 1970 UTC: when the statement began on the server that it came from first.
    pub timestamp: u32,
    /// Type.
    pub event_type: EventType,
    /// `server_id` of the server that wrote it first.
    pub server_id: u32,
    /// Length in bytes, header and checksum included.
    pub length: u32,
    /// `end_log_pos`: the next event's offset in the file of the server that wrote it, modulo
    /// 2^32; 0 where the server did not know it (inside transactions of MariaDB 11.4, inside a
    /// compressed payload, in artificial events).
    pub next_position: u32,
    /// Bits of [`flags`].
    pub flags: u16,
}

/// Bits of [`Header::flags`].
pub mod flags {
    /// In FORMAT_DESCRIPTION: the server had the file open, or crashed with it.
    pub const BINLOG_IN_USE: u16 = 0x1;
    /// The statement made temporary tables that the thread number tells apart.
    pub const THREAD_SPECIFIC: u16 = 0x4;
    /// Statements: do not issue USE before.
    pub const SUPPRESS_USE: u16 = 0x8;
    /// Made by the server for the reader, does not stand in the file.
    pub const ARTIFICIAL: u16 = 0x20;
    /// Written by the replica's IO thread: a relay log's own event.
    pub const RELAY_LOG: u16 = 0x40;
    /// A reader that does not know the type may pass over it.
    pub const IGNORABLE: u16 = 0x80;
    /// Not filtered by database.
    pub const NO_FILTER: u16 = 0x100;
    /// Group changes in their own statement.
    pub const MTS_ISOLATE: u16 = 0x200;
}

impl Header {
    /// Reads the first 19 bytes of `bytes`.
    #[inline(always)]
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let &[t0, t1, t2, t3, event_type, s0, s1, s2, s3, l0, l1, l2, l3, n0, n1, n2, n3, f0, f1] =
            bytes.first_chunk().ok_or(Malformed::Ends("the event header's end"))?;
        Ok(Self {
            timestamp: u32::from_le_bytes([t0, t1, t2, t3]),
            event_type: EventType(event_type),
            server_id: u32::from_le_bytes([s0, s1, s2, s3]),
            length: u32::from_le_bytes([l0, l1, l2, l3]),
            next_position: u32::from_le_bytes([n0, n1, n2, n3]),
            flags: u16::from_le_bytes([f0, f1]),
        })
    }

    /// Whether a reader that does not know the type may pass over it.
    pub fn is_ignorable(&self) -> bool {
        self.flags & flags::IGNORABLE != 0
    }

    /// Whether the server made it for the reader.
    pub fn is_artificial(&self) -> bool {
        self.flags & flags::ARTIFICIAL != 0
    }
}

/// Number of an event's type. Displays as its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EventType(pub u8);

macro_rules! types {
    ($($name:ident = $n:literal $doc:literal;)*) => {
        impl EventType {
            $(#[doc = $doc] pub const $name: Self = Self($n);)*

            /// The name that the servers have for it, without `_EVENT`; `None` for numbers without a name.
            pub fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($n => Some(stringify!($name)),)*
                    _ => None,
                }
            }
        }
    };
}

types! {
    START_V3 = 1 "First event of a format before version 4.";
    QUERY = 2 "A statement: DDL, BEGIN, COMMIT, SAVEPOINT, XA …";
    STOP = 3 "The server was shut down.";
    ROTATE = 4 "The next file.";
    INTVAR = 5 "LAST_INSERT_ID or INSERT_ID for the statement that follows.";
    LOAD = 6 "LOAD DATA of 3.23.";
    SLAVE = 7 "Never written.";
    CREATE_FILE = 8 "LOAD DATA of 4.0.";
    APPEND_BLOCK = 9 "Data of a LOAD DATA.";
    EXEC_LOAD = 10 "LOAD DATA of 4.0.";
    DELETE_FILE = 11 "A LOAD DATA that failed.";
    NEW_LOAD = 12 "LOAD DATA of 4.0.";
    RAND = 13 "Seeds for RAND() in the statement that follows.";
    USER_VAR = 14 "A user variable for the statement that follows.";
    FORMAT_DESCRIPTION = 15 "First event of a file.";
    XID = 16 "Commit of a transaction.";
    BEGIN_LOAD_QUERY = 17 "Data of a LOAD DATA.";
    EXECUTE_LOAD_QUERY = 18 "A LOAD DATA statement.";
    TABLE_MAP = 19 "Number, name and columns of a table.";
    PRE_GA_WRITE_ROWS = 20 "Rows of 5.1 before its release.";
    PRE_GA_UPDATE_ROWS = 21 "Rows of 5.1 before its release.";
    PRE_GA_DELETE_ROWS = 22 "Rows of 5.1 before its release.";
    WRITE_ROWS_V1 = 23 "Inserted rows (MySQL 5.1, 5.5; MariaDB).";
    UPDATE_ROWS_V1 = 24 "Updated rows (MySQL 5.1, 5.5; MariaDB).";
    DELETE_ROWS_V1 = 25 "Deleted rows (MySQL 5.1, 5.5; MariaDB).";
    INCIDENT = 26 "Something happened on the server that the log lacks.";
    HEARTBEAT = 27 "The server is alive (only over the network).";
    IGNORABLE = 28 "To be passed over.";
    ROWS_QUERY = 29 "The statement behind the rows that follow.";
    WRITE_ROWS = 30 "Inserted rows.";
    UPDATE_ROWS = 31 "Updated rows.";
    DELETE_ROWS = 32 "Deleted rows.";
    GTID = 33 "Beginning of a transaction, its GTID.";
    ANONYMOUS_GTID = 34 "Beginning of a transaction without a GTID.";
    PREVIOUS_GTIDS = 35 "All GTIDs of the files before.";
    TRANSACTION_CONTEXT = 36 "Group replication.";
    VIEW_CHANGE = 37 "Group replication.";
    XA_PREPARE = 38 "XA PREPARE.";
    PARTIAL_UPDATE_ROWS = 39 "Updated rows, JSON documents as differences.";
    TRANSACTION_PAYLOAD = 40 "A transaction's events, compressed.";
    HEARTBEAT_V2 = 41 "The server is alive, position in 64 bits.";
    GTID_TAGGED = 42 "Beginning of a transaction, its GTID with a tag.";
    MARIADB_ANNOTATE_ROWS = 160 "The statement behind the rows that follow.";
    MARIADB_BINLOG_CHECKPOINT = 161 "Oldest file that a crash recovery needs.";
    MARIADB_GTID = 162 "Beginning of a transaction, MariaDB's GTID.";
    MARIADB_GTID_LIST = 163 "Last GTID of each domain and server in the files before.";
    MARIADB_START_ENCRYPTION = 164 "Events are encrypted from here on.";
    MARIADB_QUERY_COMPRESSED = 165 "A statement, compressed.";
    MARIADB_WRITE_ROWS_COMPRESSED_V1 = 166 "Inserted rows, compressed.";
    MARIADB_UPDATE_ROWS_COMPRESSED_V1 = 167 "Updated rows, compressed.";
    MARIADB_DELETE_ROWS_COMPRESSED_V1 = 168 "Deleted rows, compressed.";
    MARIADB_WRITE_ROWS_COMPRESSED = 169 "Inserted rows, compressed.";
    MARIADB_UPDATE_ROWS_COMPRESSED = 170 "Updated rows, compressed.";
    MARIADB_DELETE_ROWS_COMPRESSED = 171 "Deleted rows, compressed.";
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "event type {}", self.0),
        }
    }
}

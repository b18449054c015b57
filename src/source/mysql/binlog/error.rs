//! What can be wrong with a binlog, where, and whether it is worth another try.

use std::fmt;

use super::header::EventType;

/// What is wrong, and where. Knows no file name: who opened the file adds it.
#[derive(Debug, thiserror::Error)]
#[error("{place}: {problem}")]
pub struct Error {
    /// Where.
    pub place: Place,
    /// What.
    #[source]
    pub problem: Problem,
}

/// A place in a binlog.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Offset in bytes of the event in its file, counted in 64 bits; of the payload event for an
    /// event inside a compressed transaction.
    pub offset: u64,
    /// Offset in the inflated payload, for an event inside a compressed transaction.
    pub inside: Option<u64>,
    /// Type of the event, once its header was read.
    pub event: Option<EventType>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "offset {}", self.offset)?;
        if let Some(inside) = self.inside {
            write!(f, " (byte {inside} of its inflated payload)")?;
        }
        match self.event {
            Some(event) => write!(f, ", {event}"),
            None => Ok(()),
        }
    }
}

/// What to do about an [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Reading failed; the same bytes may be readable later.
    Retry,
    /// These bytes will never be read by this version, or under these limits.
    Fatal,
}

/// What is wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// The operating system's word.
    #[error("read: {0}")]
    Io(#[from] std::io::Error),
    /// A file of zero bytes.
    #[error("the file is empty: expected the magic number fe 62 69 6e")]
    Empty,
    /// No binlog.
    #[error("not a binlog: expected the magic number fe 62 69 6e, found {}", hex(.0))]
    NotABinlog(Vec<u8>),
    /// MySQL's encrypted binlog (`binlog_encryption=ON`): the key is in the server's keyring.
    #[error(
        "the file is encrypted (magic number fd 62 69 6e, binlog_encryption=ON): read it through the server"
    )]
    EncryptedFile,
    /// MariaDB's encrypted binlog (`encrypt_binlog=ON`): every event after this one is cipher text.
    #[error(
        "the events are encrypted from here on (START_ENCRYPTION, scheme {scheme}, key version {key_version}): \
         read it through the server"
    )]
    EncryptedEvents {
        /// Number of the scheme.
        scheme: u8,
        /// Version of the key.
        key_version: u32,
    },
    /// A format of before MySQL 5.0.
    #[error("binlog format version {0}, this decoder reads version 4 (MySQL 5.0 and later)")]
    OldFormat(u16),
    /// The file ends inside an event.
    #[error("cut short: expected {expected} bytes, found {found}")]
    Truncated {
        /// Bytes that should be there.
        expected: u64,
        /// Bytes that are there.
        found: u64,
    },
    /// An event's length cannot be.
    #[error("event length {found}, expected at least {least}")]
    Length {
        /// What its header says.
        found: u32,
        /// Its header and checksum.
        least: u32,
    },
    /// The bytes are not those that the server wrote.
    #[error("checksum {found:08x}, expected {expected:08x}: the event is damaged")]
    Checksum {
        /// What the event says.
        expected: u32,
        /// What its bytes have.
        found: u32,
    },
    /// An algorithm that this version does not know.
    #[error("unknown checksum algorithm {0}, expected 0 (none) or 1 (CRC32)")]
    UnknownChecksum(u8),
    /// A type that this version does not know and that is not marked as ignorable.
    #[error("event type {0} is unknown here and not ignorable; it may hold rows")]
    UnknownEvent(u8),
    /// An event before the format description, that cannot be read without it.
    #[error("an event before the FORMAT_DESCRIPTION event")]
    NoFormat,
    /// The event's inner structure is wrong.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// A row is wrong.
    #[error("row {row} of {table}, column {column}: {why}")]
    Row {
        /// `db.table`.
        table: Box<str>,
        /// Place of the row in its event, from 0.
        row: u64,
        /// Index of the column, from 0.
        column: usize,
        /// What is wrong.
        why: Malformed,
    },
    /// Rows without the TABLE_MAP that must stand before them in the same statement.
    #[error("rows of table id {table_id}, for which no TABLE_MAP came in this statement")]
    NoTableMap {
        /// The server's number for the table.
        table_id: u64,
    },
    /// A column type whose values cannot be read.
    #[error("column {column} of {table} has type {ty}, which cannot be read")]
    UnknownColumnType {
        /// `db.table`.
        table: Box<str>,
        /// Index of the column, from 0.
        column: usize,
        /// Type number, as in the TABLE_MAP.
        ty: u8,
    },
    /// Beyond a limit of the reader's options.
    #[error("{what} has more than {max} bytes (max_row_bytes)")]
    TooLarge {
        /// What.
        what: &'static str,
        /// The limit.
        max: u64,
    },
    /// A compressed event or value that cannot be inflated.
    #[error("inflate {what}: {why}")]
    Inflate {
        /// What was compressed.
        what: &'static str,
        /// The library's word.
        why: Box<str>,
    },
}

/// An inner structure that is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The bytes end early.
    #[error("the bytes end before {0}")]
    Ends(&'static str),
    /// The bytes are there and make no sense.
    #[error("expected {expected}, found {found}")]
    Invalid {
        /// What should be there.
        expected: &'static str,
        /// The number that is there.
        found: u64,
    },
    /// Bytes are left over.
    #[error("{0} bytes too many")]
    Trailing(usize),
}

impl Problem {
    /// Whether another try can help.
    pub fn class(&self) -> Class {
        match self {
            Self::Io(_) => Class::Retry,
            _ => Class::Fatal,
        }
    }

    /// With its place.
    pub fn at(self, place: Place) -> Error {
        Error { place, problem: self }
    }
}

impl From<Malformed> for Box<Problem> {
    fn from(why: Malformed) -> Self {
        Self::new(why.into())
    }
}

impl Error {
    /// Whether another try can help.
    pub fn class(&self) -> Class {
        self.problem.class()
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect::<Vec<_>>().join(" ")
}

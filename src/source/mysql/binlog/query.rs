//! QUERY: a statement, and the session that it ran in.
//!
//! ```text
//! thread u32 | seconds u32 | db length u8 | error u16 | status length u16 | status… | db | NUL | statement
//! ```
//!
//! MariaDB's QUERY_COMPRESSED has the same with the statement compressed.
//! Source: MySQL's `libs/mysql/binlog/event/statement_events.h`, `Query_event`; MariaDB's
//! `sql/log_event.h` for the codes from 128 on.

use super::bytes::{Bytes, utf8};
use super::error::Malformed;

/// A statement.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Query<'a> {
    /// Number of the connection.
    pub thread: u32,
    /// How long it ran, seconds.
    pub seconds: u32,
    /// Error number that it ended with; 0 if none.
    pub error: u16,
    /// The default database; empty if none.
    pub db: &'a str,
    /// The statement, in the session's `character_set_client` ([`Status::charset`]).
    pub statement: &'a [u8],
    /// The session, unread.
    pub status: &'a [u8],
}

impl<'a> Query<'a> {
    /// `body` is what stands behind the header, without the checksum; `post_header` is the length
    /// of the fixed part.
    pub(crate) fn parse(body: &'a [u8], post_header: usize) -> Result<Self, Malformed> {
        let mut b = Bytes(body);
        let thread = b.u32("the thread number")?;
        let seconds = b.u32("the execution time")?;
        let db_len = usize::from(b.u8("the database's length")?);
        let error = b.u16("the error number")?;
        // 4.x wrote none.
        let status_len = if post_header >= 13 { b.u16("the status variables' length")? } else { 0 };
        b.take(post_header.saturating_sub(13), "the post-header's end")?;
        let status = b.take(usize::from(status_len), "the status variables' end")?;
        let db = utf8(b.take(db_len, "the database's name")?, "a database name in UTF-8")?;
        b.take(1, "the NUL behind the database's name")?;
        Ok(Self { thread, seconds, error, db, statement: b.0, status })
    }

    /// The session's variables that the event carries.
    pub fn status(&self) -> Status<'a> {
        Status::parse(self.status)
    }
}

/// `Q_…_CODE`: variables of the session. What the event does not carry is `None`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Status<'a> {
    /// `OPTION_…` bits: auto_is_null, no foreign key checks, relaxed unique checks, no autocommit.
    pub flags2: Option<u32>,
    /// `sql_mode`.
    pub sql_mode: Option<u64>,
    /// Always `std`.
    pub catalog: Option<&'a [u8]>,
    /// `auto_increment_increment` and `auto_increment_offset`.
    pub auto_increment: Option<(u16, u16)>,
    /// Collation ids of `character_set_client`, `collation_connection`, `collation_server`.
    pub charset: Option<(u16, u16, u16)>,
    /// `time_zone`.
    pub time_zone: Option<&'a [u8]>,
    /// Number of `lc_time_names`.
    pub lc_time_names: Option<u16>,
    /// Collation id of `collation_database`.
    pub charset_database: Option<u16>,
    /// Bits of the tables that a multi-table update changes.
    pub table_map_for_update: Option<u64>,
    /// `server_log_data_written`.
    pub data_written: Option<u32>,
    /// User and host of the invoker or definer.
    pub invoker: Option<(&'a [u8], &'a [u8])>,
    /// Databases that the statement changes, NUL behind each; `None` also if more than 16.
    pub updated_dbs: Option<&'a [u8]>,
    /// Microseconds to the header's timestamp.
    pub microseconds: Option<u32>,
    /// `explicit_defaults_for_timestamp`.
    pub explicit_defaults_for_timestamp: Option<u8>,
    /// XID of an atomic DDL.
    pub ddl_xid: Option<u64>,
    /// Collation id of `default_collation_for_utf8mb4`.
    pub default_collation_for_utf8mb4: Option<u16>,
    /// `sql_require_primary_key`.
    pub sql_require_primary_key: Option<u8>,
    /// `default_table_encryption`.
    pub default_table_encryption: Option<u8>,
    /// MariaDB: microseconds of `NOW()`.
    pub hrnow: Option<u32>,
    /// MariaDB: XID.
    pub mariadb_xid: Option<u64>,
    /// MariaDB: `character_set_collations`, pairs of u16 (charset, collation), unread.
    pub character_set_collations: Option<&'a [u8]>,
    /// The first code that is unknown here: what stands behind it was not read.
    pub unknown: Option<u8>,
}

impl<'a> Status<'a> {
    fn parse(raw: &'a [u8]) -> Self {
        let mut status = Self::default();
        let mut b = Bytes(raw);
        while let Ok(code) = b.u8("") {
            if status.variable(code, &mut b).is_err() {
                status.unknown = Some(code);
                break;
            }
        }
        status
    }

    fn variable(&mut self, code: u8, b: &mut Bytes<'a>) -> Result<(), Malformed> {
        let w = "the variable's end";
        let string = |b: &mut Bytes<'a>| {
            let len = b.u8(w)?;
            b.take(usize::from(len), w)
        };
        match code {
            0 => self.flags2 = Some(b.u32(w)?),
            1 => self.sql_mode = Some(b.u64(w)?),
            2 => {
                self.catalog = Some(string(b)?);
                b.take(1, w)?;
            }
            3 => self.auto_increment = Some((b.u16(w)?, b.u16(w)?)),
            4 => self.charset = Some((b.u16(w)?, b.u16(w)?, b.u16(w)?)),
            5 => self.time_zone = Some(string(b)?),
            6 => self.catalog = Some(string(b)?),
            7 => self.lc_time_names = Some(b.u16(w)?),
            8 => self.charset_database = Some(b.u16(w)?),
            9 => self.table_map_for_update = Some(b.u64(w)?),
            10 => self.data_written = Some(b.u32(w)?),
            11 => self.invoker = Some((string(b)?, string(b)?)),
            12 => {
                let count = b.u8(w)?;
                let start = b.0;
                if count != 254 {
                    for _ in 0..count {
                        b.until(0, w)?;
                    }
                    self.updated_dbs = start.get(..start.len() - b.len());
                }
            }
            13 => self.microseconds = Some(super::bytes::le(b.take(3, w)?) as u32),
            14 | 15 => {
                b.take(8, w)?;
            }
            16 => self.explicit_defaults_for_timestamp = Some(b.u8(w)?),
            17 => self.ddl_xid = Some(b.u64(w)?),
            18 => self.default_collation_for_utf8mb4 = Some(b.u16(w)?),
            19 => self.sql_require_primary_key = Some(b.u8(w)?),
            20 => self.default_table_encryption = Some(b.u8(w)?),
            128 => self.hrnow = Some(super::bytes::le(b.take(3, w)?) as u32),
            129 => self.mariadb_xid = Some(b.u64(w)?),
            130 => {
                // Q_GTID_FLAGS3: flags, and the number of the ALTER that a bit of them announces.
                if b.u8(w)? & (4 | 8) != 0 {
                    b.u64(w)?;
                }
            }
            131 => {
                let count = b.u8(w)?;
                self.character_set_collations = Some(b.take(usize::from(count) * 4, w)?);
            }
            code => {
                let found = u64::from(code);
                return Err(Malformed::Invalid { expected: "a status variable's code", found });
            }
        }
        Ok(())
    }
}

/// Why there is no statement in a QUERY_COMPRESSED; also the layout of MariaDB's compressed rows:
///
/// ```text
/// 1 byte: 0x80 | algorithm << 4 | n    n bytes: inflated length, big-endian    zlib stream
/// ```
///
/// Source: MariaDB's `sql/log_event.cc`, `binlog_buf_compress`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Packed<'a> {
    pub(crate) inflated_len: u64,
    pub(crate) zlib: &'a [u8],
}

impl<'a> Packed<'a> {
    pub(crate) fn parse(raw: &'a [u8]) -> Result<Self, Malformed> {
        let mut b = Bytes(raw);
        let head = b.u8("the compression header")?;
        if head & 0xf0 != 0x80 {
            let expected = "a compression header of zlib";
            return Err(Malformed::Invalid { expected, found: u64::from(head) });
        }
        let len = usize::from(head & 7);
        if !(1..=4).contains(&len) {
            return Err(Malformed::Invalid { expected: "a length of 1 to 4 bytes", found: len as u64 });
        }
        Ok(Self { inflated_len: super::bytes::be(b.take(len, "the inflated length")?), zlib: b.0 })
    }
}

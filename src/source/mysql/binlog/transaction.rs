//! Events that begin, name or end a transaction.
//!
//! Sources: MySQL's `libs/mysql/binlog/event/control_events.h` (`Gtid_event`, `Xid_event`,
//! `XA_prepare_event`, `Previous_gtids_event`); MariaDB's `sql/log_event.h` (`Gtid_log_event`,
//! `Gtid_list_log_event`).

use super::bytes::{Bytes, utf8};
use super::error::Malformed;
use super::gtid::{MariaDbGtid, MySqlGtid, Tag};

/// GTID, ANONYMOUS_GTID and GTID_TAGGED: how MySQL begins a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GtidEvent {
    /// The transaction's GTID; `None` if anonymous.
    pub gtid: Option<MySqlGtid>,
    /// Bit 0: the transaction may hold statements (it is not only rows).
    pub flags: u8,
    /// Logical clock of group commit: the last commit before this transaction's prepare.
    pub last_committed: i64,
    /// Logical clock: this transaction's commit.
    pub sequence_number: i64,
    /// When this server committed it, microseconds since 1970 UTC. `None` before 8.0.
    pub immediate_commit_us: Option<u64>,
    /// When the server that it came from committed it, microseconds since 1970 UTC.
    pub original_commit_us: Option<u64>,
    /// Bytes of the transaction in the binlog, this event included.
    pub transaction_length: Option<u64>,
    /// Version of the server that committed it here, 80036 for 8.0.36.
    pub immediate_server_version: Option<u32>,
    /// Version of the server that it came from.
    pub original_server_version: Option<u32>,
    /// Ticket of the group commit.
    pub commit_group_ticket: Option<u64>,
}

const ORIGINAL_TIME_FOLLOWS: u64 = 1 << 55;
const ORIGINAL_VERSION_FOLLOWS: u32 = 1 << 31;

impl GtidEvent {
    /// GTID and ANONYMOUS_GTID:
    ///
    /// ```text
    /// flags u8 | uuid [16] | number i64 | 2 u8 | last committed i64 | sequence number i64
    ///   | immediate commit u56, bit 55: original commit u56 follows
    ///   | transaction length packed | immediate version u32, bit 31: original version u32 follows | ticket u64
    /// ```
    ///
    /// Everything from `2` on came one by one in 5.7 and 8.0.
    pub(crate) fn parse(body: &[u8], anonymous: bool) -> Result<Self, Malformed> {
        let mut b = Bytes(body);
        let flags = b.u8("the flags")?;
        let uuid = b.uuid("the UUID")?;
        let number = b.i64("the GTID's number")?;
        let gtid = if anonymous {
            None
        } else {
            let number = u64::try_from(number).ok().filter(|&n| n > 0);
            let expected = "a GTID number above 0";
            Some(MySqlGtid {
                uuid,
                tag: Tag::default(),
                number: number.ok_or(Malformed::Invalid { expected, found: 0 })?,
            })
        };
        let mut event = Self {
            gtid,
            flags,
            last_committed: 0,
            sequence_number: 0,
            immediate_commit_us: None,
            original_commit_us: None,
            transaction_length: None,
            immediate_server_version: None,
            original_server_version: None,
            commit_group_ticket: None,
        };
        if b.is_empty() || b.u8("the logical clock's type")? != 2 {
            return Ok(event);
        }
        event.last_committed = b.i64("the last committed number")?;
        event.sequence_number = b.i64("the sequence number")?;
        if b.is_empty() {
            return Ok(event);
        }
        let immediate = b.u56("the commit time")?;
        let original = match immediate & ORIGINAL_TIME_FOLLOWS {
            0 => immediate,
            _ => b.u56("the original commit time")?,
        };
        event.immediate_commit_us = Some(immediate & !ORIGINAL_TIME_FOLLOWS);
        event.original_commit_us = Some(original & !ORIGINAL_TIME_FOLLOWS);
        if b.is_empty() {
            return Ok(event);
        }
        event.transaction_length = Some(b.packed("the transaction's length")?);
        if b.is_empty() {
            return Ok(event);
        }
        let immediate = b.u32("the server version")?;
        let original = match immediate & ORIGINAL_VERSION_FOLLOWS {
            0 => immediate,
            _ => b.u32("the original server version")?,
        };
        event.immediate_server_version = Some(immediate & !ORIGINAL_VERSION_FOLLOWS);
        event.original_server_version = Some(original);
        if b.len() >= 8 {
            event.commit_group_ticket = Some(b.u64("the commit group ticket")?);
        }
        Ok(event)
    }

    /// GTID_TAGGED (8.3): a message of `mysql::serialization`.
    ///
    /// ```text
    /// version | size | last field that must be known | (field id | value)…      all variable-length integers
    /// 0 flags | 1 uuid, 16 integers | 2 number | 3 tag, length and bytes | 4 last committed | 5 sequence number
    /// 6 immediate commit | 7 original commit | 8 transaction length | 9 immediate version | 10 original version
    /// 11 commit group ticket
    /// ```
    pub(crate) fn parse_tagged(body: &[u8]) -> Result<Self, Malformed> {
        let mut b = Bytes(body);
        let version = b.varlen("the serialization version")?;
        if version != 1 {
            return Err(Malformed::Invalid { expected: "serialization version 1", found: version });
        }
        b.varlen("the message's size")?;
        let must_know = b.varlen("the last field that must be known")?;
        let mut event = Self {
            gtid: None,
            flags: 0,
            last_committed: 0,
            sequence_number: 0,
            immediate_commit_us: None,
            original_commit_us: None,
            transaction_length: None,
            immediate_server_version: None,
            original_server_version: None,
            commit_group_ticket: None,
        };
        let (mut uuid, mut number, mut tag) = (None, 0, Tag::default());
        while !b.is_empty() {
            match b.varlen("a field's id")? {
                0 => event.flags = b.varlen("the flags")? as u8,
                1 => {
                    let mut raw = [0; 16];
                    for byte in &mut raw {
                        *byte = b.varlen("the UUID")? as u8;
                    }
                    uuid = Some(raw);
                }
                2 => number = b.varlen_signed("the GTID's number")?,
                3 => {
                    let len = b.varlen("the tag's length")?;
                    let len = usize::try_from(len).unwrap_or(usize::MAX);
                    tag = Tag::new(utf8(b.take(len, "the tag")?, "a tag in ASCII")?)?;
                }
                4 => event.last_committed = b.varlen_signed("the last committed number")?,
                5 => event.sequence_number = b.varlen_signed("the sequence number")?,
                6 => event.immediate_commit_us = Some(b.varlen("the commit time")?),
                7 => event.original_commit_us = Some(b.varlen("the original commit time")?),
                8 => event.transaction_length = Some(b.varlen("the transaction's length")?),
                9 => event.immediate_server_version = Some(b.varlen("the server version")? as u32),
                10 => event.original_server_version = Some(b.varlen("the original server version")? as u32),
                11 => event.commit_group_ticket = Some(b.varlen("the commit group ticket")?),
                // Fields of a later server: without a schema their length is unknown.
                field if field > must_know => break,
                field => return Err(Malformed::Invalid { expected: "a known field", found: field }),
            }
        }
        // What is left out equals its neighbour.
        event.original_commit_us = event.original_commit_us.or(event.immediate_commit_us);
        event.original_server_version = event.original_server_version.or(event.immediate_server_version);
        let uuid = uuid.ok_or(Malformed::Ends("the UUID"))?;
        let number = u64::try_from(number).ok().filter(|&n| n > 0);
        let number = number.ok_or(Malformed::Invalid { expected: "a GTID number above 0", found: 0 })?;
        event.gtid = Some(MySqlGtid { uuid, tag, number });
        Ok(event)
    }
}

/// An XA transaction's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Xid<'a> {
    /// Format number; 1 unless the client said otherwise.
    pub format: u32,
    /// Global part.
    pub gtrid: &'a [u8],
    /// Branch part.
    pub bqual: &'a [u8],
}

/// XA_PREPARE of both servers: `one phase u8 | format u32 | gtrid length u32 | bqual length u32 | both`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct XaPrepare<'a> {
    /// `XA COMMIT … ONE PHASE`: this commits.
    pub one_phase: bool,
    /// Which.
    pub xid: Xid<'a>,
}

impl<'a> XaPrepare<'a> {
    pub(crate) fn parse(body: &'a [u8]) -> Result<Self, Malformed> {
        let mut b = Bytes(body);
        let one_phase = b.u8("the one-phase mark")? != 0;
        let format = b.u32("the XID's format")?;
        let gtrid = xid_len(b.u32("the gtrid's length")?)?;
        let bqual = xid_len(b.u32("the bqual's length")?)?;
        let xid = Xid { format, gtrid: b.take(gtrid, "the gtrid")?, bqual: b.take(bqual, "the bqual")? };
        b.end()?;
        Ok(Self { one_phase, xid })
    }
}

fn xid_len(n: u32) -> Result<usize, Malformed> {
    if n <= 64 {
        Ok(n as usize)
    } else {
        Err(Malformed::Invalid { expected: "at most 64 bytes of XID", found: u64::from(n) })
    }
}

/// How MariaDB begins a transaction, or a standalone statement.
///
/// ```text
/// number u64 | domain u32 | flags u8 | [commit id u64 if FL_GROUP_COMMIT_ID]
///   | [format u32 | gtrid length u8 | bqual length u8 | both, if PREPARED_XA or COMPLETED_XA]
///   | [extra flags u8 | engines u8 | ALTER's number u64 | thread u32, each if its flag is set]
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MariaDbGtidEvent<'a> {
    /// The transaction's GTID; its server is the header's.
    pub gtid: MariaDbGtid,
    /// `FL_…` bits.
    pub flags: u8,
    /// Transactions with one number were committed together.
    pub commit_id: Option<u64>,
    /// The XID of a prepared XA transaction, or of its end.
    pub xid: Option<Xid<'a>>,
    /// Number of the START ALTER that this COMMIT or ROLLBACK ALTER ends.
    pub alter: Option<u64>,
    /// The connection (11.5 and later).
    pub thread: Option<u32>,
}

impl<'a> MariaDbGtidEvent<'a> {
    /// One statement without BEGIN and COMMIT around it: DDL, or rows of a CREATE … SELECT.
    pub const STANDALONE: u8 = 1;
    /// Has a commit id.
    pub const GROUP_COMMIT_ID: u8 = 2;
    /// Can be rolled back.
    pub const TRANSACTIONAL: u8 = 4;
    /// May run in parallel with those before.
    pub const ALLOW_PARALLEL: u8 = 8;
    /// Waited for a lock.
    pub const WAITED: u8 = 16;
    /// A DDL.
    pub const DDL: u8 = 32;
    /// XA PREPARE.
    pub const PREPARED_XA: u8 = 64;
    /// XA COMMIT or XA ROLLBACK of a prepared transaction.
    pub const COMPLETED_XA: u8 = 128;

    pub(crate) fn parse(body: &'a [u8], server_id: u32) -> Result<Self, Malformed> {
        let mut b = Bytes(body);
        let number = b.u64("the GTID's number")?;
        let domain = b.u32("the GTID's domain")?;
        let flags = b.u8("the flags")?;
        let gtid = MariaDbGtid { domain, server: server_id, number };
        let mut event = Self { gtid, flags, commit_id: None, xid: None, alter: None, thread: None };
        if flags & Self::GROUP_COMMIT_ID != 0 {
            event.commit_id = Some(b.u64("the commit id")?);
        }
        if flags & (Self::PREPARED_XA | Self::COMPLETED_XA) != 0 {
            let format = b.u32("the XID's format")?;
            let gtrid = xid_len(u32::from(b.u8("the gtrid's length")?))?;
            let bqual = xid_len(u32::from(b.u8("the bqual's length")?))?;
            let (gtrid, bqual) = (b.take(gtrid, "the gtrid")?, b.take(bqual, "the bqual")?);
            event.xid = Some(Xid { format, gtrid, bqual });
        }
        // What follows is zero padding up to the post-header's length, or the extra flags.
        if let Ok(extra) = b.u8("") {
            if extra & 1 != 0 {
                b.u8("the number of engines")?;
            }
            if extra & (4 | 8) != 0 {
                event.alter = Some(b.u64("the ALTER's number")?);
            }
            if extra & 16 != 0 {
                event.thread = Some(b.u32("the thread number")?);
            }
        }
        Ok(event)
    }

    /// Whether the group ends with its one statement.
    pub fn is_standalone(&self) -> bool {
        self.flags & Self::STANDALONE != 0
    }
}

/// MariaDB's GTID_LIST: `flags in the upper 4 bits, count in the lower 28: u32 | (domain u32 | server u32 | number u64)…`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GtidList<'a> {
    /// Upper four bits of the count.
    pub flags: u8,
    raw: &'a [u8],
}

impl<'a> GtidList<'a> {
    pub(crate) fn parse(body: &'a [u8]) -> Result<Self, Malformed> {
        let mut b = Bytes(body);
        let head = b.u32("the count")?;
        let count = (head & 0x0fff_ffff) as usize;
        let raw = b.take(count * 16, "the GTIDs")?;
        Ok(Self { flags: (head >> 28) as u8, raw })
    }

    /// The GTIDs.
    pub fn iter(&self) -> impl Iterator<Item = MariaDbGtid> + 'a {
        self.raw.chunks_exact(16).map(|raw| MariaDbGtid {
            domain: super::bytes::le(&raw[..4]) as u32,
            server: super::bytes::le(&raw[4..8]) as u32,
            number: super::bytes::le(&raw[8..]),
        })
    }
}

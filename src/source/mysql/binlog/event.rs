//! The events.

use super::bytes::{Bytes, utf8};
use super::error::{Malformed, Problem};
use super::format::FormatDescription;
use super::gtid::MySqlGtidSet;
use super::payload::Payload;
use super::query::Query;
use super::rows::Rows;
use super::table_map::TableMap;
use super::transaction::{GtidEvent, GtidList, MariaDbGtidEvent, XaPrepare};

/// An event, read. Borrows from its bytes and from the decoder.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// First event of a file: what the others look like.
    FormatDescription(&'a FormatDescription),
    /// The next file.
    Rotate(Rotate<'a>),
    /// The server was shut down.
    Stop,
    /// A statement. MariaDB's QUERY_COMPRESSED comes inflated.
    Query(Query<'a>),
    /// A transaction's commit.
    Xid(u64),
    /// XA PREPARE, or the commit in one phase.
    XaPrepare(XaPrepare<'a>),
    /// A table's number, name and columns.
    TableMap(&'a TableMap),
    /// Changed rows.
    Rows(Rows<'a>),
    /// No rows, and the end of a statement: table ids are void.
    RowsEnd,
    /// ROWS_QUERY, ANNOTATE_ROWS: the statement behind the rows that follow, in its session's
    /// character set.
    RowsQuery(&'a [u8]),
    /// GTID, ANONYMOUS_GTID, GTID_TAGGED: beginning of a transaction.
    Gtid(&'a GtidEvent),
    /// All GTIDs of the files before. Boxed: once a file.
    PreviousGtids(Box<MySqlGtidSet>),
    /// A transaction's events, compressed. The reader gives them next, one by one.
    TransactionPayload(Payload<'a>),
    /// MariaDB: beginning of a transaction. Boxed, since an event is moved more often than this one comes.
    MariaDbGtid(Box<MariaDbGtidEvent<'a>>),
    /// MariaDB: last GTIDs of the files before.
    MariaDbGtidList(GtidList<'a>),
    /// MariaDB: name of the oldest file that a crash recovery needs.
    MariaDbBinlogCheckpoint(&'a str),
    /// The server is alive; where it would write next.
    Heartbeat(Heartbeat<'a>),
    /// A value for the statement that follows: named, not executed.
    IntVar(IntVar),
    /// Seeds for RAND() in the statement that follows.
    Rand(u64, u64),
    /// A user variable for the statement that follows.
    UserVar(UserVar<'a>),
    /// Something happened on the server that the log lacks: number and message.
    Incident(u16, &'a [u8]),
    /// LOAD DATA in statement form, group replication and other events without rows: body unread.
    Other(&'a [u8]),
    /// IGNORABLE, and types that are unknown here and marked as ignorable: body unread.
    Ignorable(&'a [u8]),
    /// A statement text beyond the reader's limit, passed over.
    Skipped,
}

/// The next file: `position u64 | name`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotate<'a> {
    /// Where its first event stands: 4.
    pub position: u64,
    /// Its name.
    pub file: &'a str,
}

impl<'a> Rotate<'a> {
    pub(super) fn parse(body: &'a [u8]) -> Result<Self, Malformed> {
        let mut b = Bytes(body);
        let position = b.u64("the position")?;
        let file = utf8(b.0, "a file name in UTF-8")?;
        Ok(Self { position, file })
    }
}

/// Where the server would write next. Only over the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heartbeat<'a> {
    /// File.
    pub file: &'a str,
    /// Position in 64 bits; version 1 has it in the header, in 32.
    pub position: u64,
}

impl<'a> Heartbeat<'a> {
    /// HEARTBEAT: the body is the file's name.
    pub(super) fn parse(body: &'a [u8], next_position: u32) -> Result<Self, Malformed> {
        Ok(Self { file: utf8(body, "a file name in UTF-8")?, position: u64::from(next_position) })
    }

    /// HEARTBEAT_V2: `(1 | length | file) (2 | length | position packed) 0`, all packed integers.
    /// Source: MySQL's `libs/mysql/binlog/event/codecs/binary.cpp`.
    pub(super) fn parse_v2(body: &'a [u8]) -> Result<Self, Malformed> {
        let mut b = Bytes(body);
        let mut event = Self { file: "", position: 0 };
        while !b.is_empty() {
            let field = b.packed("a heartbeat's field")?;
            if field == 0 {
                break;
            }
            let len = b.packed_len("a heartbeat field's length")?;
            let value = b.take(len, "a heartbeat field's value")?;
            match field {
                1 => event.file = utf8(value, "a file name in UTF-8")?,
                2 => event.position = Bytes(value).packed("the position")?,
                _ => {}
            }
        }
        Ok(event)
    }
}

/// `type u8 | value u64`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IntVar {
    /// 1 LAST_INSERT_ID, 2 INSERT_ID.
    pub kind: u8,
    /// Its value.
    pub value: u64,
}

impl IntVar {
    pub(super) fn parse(body: &[u8]) -> Result<Self, Malformed> {
        let mut b = Bytes(body);
        Ok(Self { kind: b.u8("the variable's kind")?, value: b.u64("the variable's value")? })
    }
}

/// `name length u32, name | null u8 | [type u8 | collation u32 | value length u32, value | flags u8]`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UserVar<'a> {
    /// Name, without `@`.
    pub name: &'a [u8],
    /// Value; `None` if NULL.
    pub value: Option<UserVarValue<'a>>,
}

/// The value of a user variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UserVarValue<'a> {
    /// 0 string, 1 real (f64), 2 integer (8 bytes), 4 decimal (precision, scale, packed digits).
    pub ty: u8,
    /// Collation id.
    pub collation: u32,
    /// Its bytes.
    pub bytes: &'a [u8],
    /// Whether an integer is unsigned.
    pub unsigned: bool,
}

impl<'a> UserVar<'a> {
    pub(super) fn parse(body: &'a [u8]) -> Result<Self, Malformed> {
        let mut b = Bytes(body);
        let len = b.u32("the name's length")?;
        let name = b.take(len as usize, "the name")?;
        if b.u8("the NULL mark")? != 0 {
            return Ok(Self { name, value: None });
        }
        let ty = b.u8("the value's type")?;
        let collation = b.u32("the value's collation")?;
        let len = b.u32("the value's length")?;
        let bytes = b.take(len as usize, "the value")?;
        let unsigned = b.u8("").is_ok_and(|flags| flags & 1 != 0);
        Ok(Self { name, value: Some(UserVarValue { ty, collation, bytes, unsigned }) })
    }
}

/// `number u16 | message length u8, message`
pub(super) fn incident(body: &[u8]) -> Result<(u16, &[u8]), Malformed> {
    let mut b = Bytes(body);
    let number = b.u16("the incident's number")?;
    let len = b.u8("the message's length").unwrap_or(0);
    Ok((number, b.take(usize::from(len), "the message")?))
}

/// MariaDB's START_ENCRYPTION, as an error: `scheme u8 | key version u32 | nonce [12]`.
pub(super) fn encrypted(body: &[u8]) -> Problem {
    let mut b = Bytes(body);
    let (scheme, key_version) = (b.u8("").unwrap_or(0), b.u32("").unwrap_or(0));
    Problem::EncryptedEvents { scheme, key_version }
}

/// MariaDB's BINLOG_CHECKPOINT: `length u32 | name`.
pub(super) fn checkpoint(body: &[u8]) -> Result<&str, Malformed> {
    let mut b = Bytes(body);
    let len = b.u32("the name's length")?;
    utf8(b.take(len as usize, "the name")?, "a file name in UTF-8")
}

//! TABLE_MAP: number, name and columns of a table, before the rows of each statement.
//!
//! ```text
//! table id u48 | flags u16 | db length u8, db, NUL | table length u8, table, NUL | columns packed | type u8 each
//!   | metadata length packed, metadata | nullable bitmap | (type u8 | length packed | value)…   optional metadata
//! ```
//!
//! Which optional metadata there is depends on `binlog_row_metadata`: MySQL's MINIMAL has signedness,
//! character sets and geometry types; MariaDB's NO_LOG has none. Source: MySQL's
//! `libs/mysql/binlog/event/rows_event.h`, `Table_map_event`.

use super::bytes::{Bytes, utf8};
use super::column::{Column, ColumnHint, ColumnType, KeyPart, Special};
use super::error::{Malformed, Problem};
use super::plan::Plan;

/// A table's shape, and how its rows are read. Made once for every different TABLE_MAP.
#[derive(Clone, Debug)]
pub struct TableMap {
    /// The server's number for this version of the table, until the server is restarted.
    pub table_id: u64,
    /// Differs between any two shapes of one decoder, hints included: what is kept beside a shape
    /// can be kept under it.
    pub generation: u64,
    /// Flags; bit 0 is never set by servers.
    pub flags: u16,
    /// Database.
    pub db: Box<str>,
    /// Table.
    pub table: Box<str>,
    /// The columns, in order.
    pub columns: Box<[Column]>,
    pub(super) plan: Plan,
    /// The bytes that it was made of.
    pub(super) raw: Box<[u8]>,
}

impl TableMap {
    /// `body` is what stands behind the header, without the checksum.
    pub(super) fn parse(
        body: &[u8],
        id_bytes: usize,
        generation: u64,
        mariadb: bool,
    ) -> Result<Self, Problem> {
        let mut b = Bytes(body);
        let table_id = super::bytes::le(b.take(id_bytes, "the table id")?);
        let flags = b.u16("the flags")?;
        let name = |b: &mut Bytes<'_>, what: &'static str| {
            let len = b.packed_len(what)?;
            let name = utf8(b.take(len, what)?, what)?.into();
            b.take(1, "the NUL behind a name")?;
            Ok::<Box<str>, Malformed>(name)
        };
        let db = name(&mut b, "the database's name")?;
        let table = name(&mut b, "the table's name")?;
        let count = b.packed_len("the number of columns")?;
        // Servers have at most 4,096. Every column has a byte here, so nothing is allocated for
        // columns that are not there.
        if count > usize::from(u16::MAX) {
            return Err(Malformed::Invalid { expected: "at most 65,535 columns", found: count as u64 }.into());
        }
        let types = b.take(count, "the column types")?;
        let meta_len = b.packed_len("the metadata's length")?;
        let mut meta = Bytes(b.take(meta_len, "the metadata")?);
        let nullable = b.take(count.div_ceil(8), "the nullable bitmap")?;
        let mut columns = Vec::with_capacity(count);
        for (i, &ty) in types.iter().enumerate() {
            let nullable = nullable.get(i / 8).is_some_and(|byte| byte >> (i % 8) & 1 == 1);
            columns.push(column(ColumnType(ty), &mut meta, nullable)?);
        }
        meta.end()?;
        super::metadata::read(b, &mut columns, mariadb)?;
        let plan = Plan::new(&columns, || format!("{db}.{table}").into())?;
        let columns = columns.into();
        Ok(Self { table_id, generation, flags, db, table, columns, plan, raw: body.into() })
    }

    /// Fills what the event left open from what the DDL told: as many hints as columns, else nothing
    /// is done and `false` returned.
    pub(super) fn describe(&mut self, hints: &[ColumnHint]) -> Result<bool, Problem> {
        if hints.len() != self.columns.len() {
            return Ok(false);
        }
        let keyed = self.columns.iter().any(|c| c.key.is_some());
        for (column, hint) in self.columns.iter_mut().zip(hints) {
            column.name = column.name.take().or_else(|| hint.name.clone());
            column.unsigned = column.unsigned.or_else(|| hint.unsigned.filter(|_| column.ty.is_numeric()));
            column.charset = column.charset.or(hint.charset);
            if column.labels.is_empty() && column.ty.is_enum_or_set() {
                column.labels = hint.labels.clone();
            }
            if !keyed {
                column.key = hint.key;
            }
            let fits = match hint.special {
                Some(Special::Vector) => {
                    column.ty == ColumnType::VARCHAR && column.length().is_some_and(|bytes| bytes % 4 == 0)
                }
                Some(Special::Inet4) => column.ty == ColumnType::STRING && column.length() == Some(4),
                _ => column.ty == ColumnType::STRING && column.length() == Some(16),
            };
            if fits {
                column.special = hint.special;
            }
            if matches!(column.ty, ColumnType::TIME | ColumnType::DATETIME | ColumnType::TIMESTAMP) {
                column.fsp = hint.fsp.unwrap_or(0).min(6);
            }
        }
        let (db, table) = (&self.db, &self.table);
        self.plan = Plan::new(&self.columns, || format!("{db}.{table}").into())?;
        Ok(true)
    }

    /// About how much memory it takes, in bytes.
    pub(super) fn memory(&self) -> usize {
        2 * self.raw.len() + self.columns.len() * size_of::<Column>() + size_of::<Self>()
    }

    /// Indexes of the primary key's columns in key order; empty if it has none, or is unknown.
    pub fn key_columns(&self) -> Vec<usize> {
        let mut key: Vec<(u16, usize)> =
            self.columns.iter().enumerate().filter_map(|(i, c)| c.key.map(|k| (k.ordinal, i))).collect();
        key.sort_unstable();
        key.into_iter().map(|(_, i)| i).collect()
    }

    /// Whether all columns have names.
    pub fn is_named(&self) -> bool {
        self.columns.iter().all(|c| c.name.is_some())
    }

    /// `db.table`, for messages.
    pub fn full_name(&self) -> String {
        format!("{}.{}", self.db, self.table)
    }
}

/// Reads the metadata of one column.
fn column(ty: ColumnType, meta: &mut Bytes<'_>, nullable: bool) -> Result<Column, Malformed> {
    use ColumnType as T;
    let what = "a column's metadata";
    let mut real = ty;
    let mut fsp = 0;
    let value = match ty {
        T::FLOAT
        | T::DOUBLE
        | T::BLOB
        | T::TINY_BLOB
        | T::MEDIUM_BLOB
        | T::LONG_BLOB
        | T::BLOB_COMPRESSED
        | T::GEOMETRY
        | T::JSON
        | T::VECTOR => u16::from(meta.u8(what)?),
        T::TIMESTAMP2 | T::DATETIME2 | T::TIME2 => {
            fsp = meta.u8(what)?;
            if fsp > 6 {
                return Err(Malformed::Invalid {
                    expected: "0 to 6 fractional digits",
                    found: u64::from(fsp),
                });
            }
            u16::from(fsp)
        }
        T::VARCHAR | T::VAR_STRING | T::VARCHAR_COMPRESSED => meta.u16(what)?,
        // Two bytes each, the first the more significant here: bits beyond whole bytes and whole
        // bytes (BIT), precision and scale (DECIMAL).
        T::BIT => {
            let (bits, bytes) = (meta.u8(what)?, meta.u8(what)?);
            if bits > 7 || bytes > 8 {
                return Err(Malformed::Invalid { expected: "at most 64 bits", found: u64::from(bytes) });
            }
            u16::from(bytes) << 8 | u16::from(bits)
        }
        T::NEWDECIMAL => u16::from(meta.u8(what)?) << 8 | u16::from(meta.u8(what)?),
        T::STRING => {
            let (high, low) = (meta.u8(what)?, meta.u8(what)?);
            // Two bits of a length beyond 255 are hidden, inverted, in the real type, all of which
            // have both bits set.
            real = T(high | 0x30);
            let length = u16::from(low) | u16::from(high & 0x30 ^ 0x30) << 4;
            if !matches!(real, T::STRING | T::ENUM | T::SET) {
                let expected = "CHAR, ENUM or SET behind STRING";
                return Err(Malformed::Invalid { expected, found: u64::from(high) });
            }
            if real != T::STRING && !(1..=8).contains(&low) {
                let expected = "1 to 8 bytes of ENUM or SET";
                return Err(Malformed::Invalid { expected, found: u64::from(low) });
            }
            length
        }
        T::ENUM | T::SET => {
            meta.u8(what)?;
            u16::from(meta.u8(what)?)
        }
        _ => 0,
    };
    Ok(Column {
        ty: real,
        meta: value,
        nullable,
        unsigned: None,
        charset: None,
        name: None,
        labels: Box::default(),
        geometry: None,
        dimensions: None,
        visible: None,
        key: None,
        special: None,
        fsp,
    })
}

impl KeyPart {
    pub(super) fn whole(ordinal: usize) -> Self {
        Self { ordinal: ordinal as u16, prefix: 0 }
    }
}

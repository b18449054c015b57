//! How the values of a table's rows are read: one small step a column.
//!
//! Made once for each different TABLE_MAP, so that a row is a tight loop over a few bytes of plan,
//! and no metadata is looked at again.

use super::column::{Column, ColumnType, Special};
use super::error::Problem;
use super::value::decimal;

/// What a step reads. Lengths and layouts stand at [`super::value::read`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Read {
    I8,
    U8,
    I16,
    U16,
    I24,
    U24,
    I32,
    U32,
    I64,
    U64,
    F32,
    F64,
    Year,
    Decimal,
    Date,
    /// Before 5.6, whole seconds.
    OldTime,
    OldDateTime,
    OldTimestamp,
    /// MariaDB 5.3 with fractional digits.
    HiresTime,
    HiresDateTime,
    HiresTimestamp,
    /// From 5.6 on.
    Time,
    DateTime,
    Timestamp,
    Bit,
    Enum,
    Set,
    /// One byte of length.
    Short,
    /// Two bytes of length.
    Long,
    /// `a` bytes of length.
    Blob,
    Json,
    Geometry,
    Vector,
    /// One, two or `a` bytes of length, MariaDB's COMPRESSED.
    CompressedShort,
    CompressedLong,
    CompressedBlob,
    Uuid,
    UuidSwapped,
    Inet4,
    Inet6,
}

/// How one column is read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    pub(super) read: Read,
    /// Bytes, or digits in all (decimal), or fsp.
    pub(super) a: u8,
    /// Digits after the point (decimal), bytes (temporal).
    pub(super) b: u8,
}

/// How a row is read.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) steps: Box<[Step]>,
    /// JSON columns: each has a bit in the partial bitmap of a PARTIAL_UPDATE_ROWS.
    pub(super) json_columns: usize,
}

impl Plan {
    pub(super) fn new(columns: &[Column], table: impl Fn() -> Box<str>) -> Result<Self, Problem> {
        let mut steps = Vec::with_capacity(columns.len());
        for (i, column) in columns.iter().enumerate() {
            let unknown = || Problem::UnknownColumnType { table: table(), column: i, ty: column.ty.0 };
            steps.push(step(column).ok_or_else(unknown)?);
        }
        let json_columns = columns.iter().filter(|c| c.ty == ColumnType::JSON).count();
        Ok(Self { steps: steps.into(), json_columns })
    }
}

fn step(c: &Column) -> Option<Step> {
    use ColumnType as T;
    let plain = |read| Some(Step { read, a: 0, b: 0 });
    let with = |read, a, b| Some(Step { read, a, b });
    let unsigned = c.unsigned == Some(true);
    let int = |signed, un| plain(if unsigned { un } else { signed });
    let old = |read, hires, bytes: [u8; 7]| match c.fsp {
        0 => plain(read),
        fsp => with(hires, fsp, bytes.get(usize::from(fsp)).copied()?),
    };
    let sized = |read| (1..=4).contains(&c.meta).then_some(Step { read, a: c.meta as u8, b: 0 });
    match c.ty {
        T::TINY => int(Read::I8, Read::U8),
        T::SHORT => int(Read::I16, Read::U16),
        T::INT24 => int(Read::I24, Read::U24),
        T::LONG => int(Read::I32, Read::U32),
        T::LONGLONG => int(Read::I64, Read::U64),
        // The metadata is the number's size on the server.
        T::FLOAT if c.meta == 4 => plain(Read::F32),
        T::DOUBLE if c.meta == 8 => plain(Read::F64),
        T::YEAR => plain(Read::Year),
        T::NEWDECIMAL => {
            let (precision, scale) = c.decimal()?;
            decimal::bytes(precision, scale)?;
            with(Read::Decimal, precision, scale)
        }
        T::DATE | T::NEWDATE => plain(Read::Date),
        T::TIME => old(Read::OldTime, Read::HiresTime, [3, 4, 4, 5, 5, 5, 6]),
        T::DATETIME => old(Read::OldDateTime, Read::HiresDateTime, [5, 6, 6, 7, 7, 7, 8]),
        T::TIMESTAMP => old(Read::OldTimestamp, Read::HiresTimestamp, [4, 5, 5, 6, 6, 7, 7]),
        T::TIME2 => with(Read::Time, c.fsp, 3 + c.fsp.div_ceil(2)),
        T::DATETIME2 => with(Read::DateTime, c.fsp, 5 + c.fsp.div_ceil(2)),
        T::TIMESTAMP2 => with(Read::Timestamp, c.fsp, 4 + c.fsp.div_ceil(2)),
        T::BIT => with(Read::Bit, c.bits()?.div_ceil(8) as u8, 0),
        T::ENUM if c.meta <= 2 => with(Read::Enum, c.meta as u8, 0),
        T::SET if (1..=8).contains(&c.meta) => with(Read::Set, c.meta as u8, 0),
        T::STRING => match c.special {
            Some(Special::Uuid) => plain(Read::Uuid),
            Some(Special::UuidSwapped) => plain(Read::UuidSwapped),
            Some(Special::Inet4) => plain(Read::Inet4),
            Some(Special::Inet6) => plain(Read::Inet6),
            None | Some(Special::Vector) => plain(if c.meta > 255 { Read::Long } else { Read::Short }),
        },
        T::VARCHAR | T::VAR_STRING => plain(if c.meta > 255 { Read::Long } else { Read::Short }),
        T::VARCHAR_COMPRESSED => {
            plain(if c.meta > 255 { Read::CompressedLong } else { Read::CompressedShort })
        }
        T::BLOB_COMPRESSED => sized(Read::CompressedBlob),
        T::BLOB => sized(Read::Blob),
        T::TINY_BLOB => with(Read::Blob, 1, 0),
        T::MEDIUM_BLOB => with(Read::Blob, 3, 0),
        T::LONG_BLOB => with(Read::Blob, 4, 0),
        T::JSON => sized(Read::Json),
        T::GEOMETRY => sized(Read::Geometry),
        T::VECTOR => sized(Read::Vector),
        _ => None,
    }
}

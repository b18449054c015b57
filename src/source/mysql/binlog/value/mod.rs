//! The values of a row image, and how each type is laid out.
//!
//! Source: MySQL's `libs/mysql/binlog/event/rows_event.h` (table of column types), `sql/log_event.cc`
//! (`log_event_print_value`), `mysys/my_time.cc` (`my_…_packed_from_binary`); MariaDB's
//! `sql/field.cc` (`Field_…_hires`), `sql/sql_type_inet.h`, `sql/sql_type_uuid.h`.

pub mod compressed;
pub mod decimal;
mod mariadb;
mod read;
mod temporal;
#[cfg(test)]
mod tests;

pub use compressed::Compressed;
pub use decimal::Decimal;
pub(super) use read::read;

use super::json::{Json, JsonDiffs};

/// One value, borrowed from its event.
///
/// Numbers and times are ready to use; what takes work to read (decimals, JSON, compressed columns)
/// comes as a view. Dates and times are packed as in [`crate::event::Type`], whose text forms stand
/// in [`crate::codec::text`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// The image does not hold the column (`binlog_row_image` MINIMAL or NOBLOB).
    Absent,
    /// SQL NULL.
    Null,
    /// TINYINT … BIGINT, signed, or of unknown sign.
    Int(i64),
    /// TINYINT … BIGINT UNSIGNED.
    Uint(u64),
    /// FLOAT.
    Float(f32),
    /// DOUBLE.
    Double(f64),
    /// DECIMAL.
    Decimal(Decimal<'a>),
    /// DATE, packed `year << 9 | month << 5 | day`.
    Date(u32),
    /// TIME in microseconds, signed.
    Time(i64),
    /// DATETIME, packed `(((year * 13 + month) << 5 | day) << 17 | h << 12 | m << 6 | s) << 24 | µs`.
    DateTime(u64),
    /// TIMESTAMP in microseconds since 1970 UTC; `i64::MIN` is the zero date.
    Timestamp(i64),
    /// YEAR; 0 is `0000`.
    Year(u16),
    /// BIT.
    Bit(u64),
    /// ENUM: index of the label from 1; 0 is the invalid value `''`.
    Enum(u16),
    /// SET: a bit a label.
    Set(u64),
    /// CHAR, VARCHAR, TEXT in the column's character set; BINARY, VARBINARY, BLOB. CHAR without its
    /// trailing spaces, BINARY without its trailing zero bytes. MariaDB's JSON is a TEXT.
    Bytes(&'a [u8]),
    /// A COMPRESSED column of MariaDB.
    Compressed(Compressed<'a>),
    /// JSON, MySQL's binary form.
    Json(Json<'a>),
    /// What an update changed in a JSON document (after image of a PARTIAL_UPDATE_ROWS).
    JsonDiff(JsonDiffs<'a>),
    /// Geometry: SRID u32 little-endian, then WKB.
    Geometry(&'a [u8]),
    /// VECTOR: f32 little-endian each.
    Vector(&'a [u8]),
    /// MariaDB's UUID, in text order.
    Uuid([u8; 16]),
    /// MariaDB's INET4, in network order.
    Inet4([u8; 4]),
    /// MariaDB's INET6, in network order.
    Inet6([u8; 16]),
}

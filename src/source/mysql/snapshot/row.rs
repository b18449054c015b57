//! A row of a SELECT as dts' record, with the values that the stream gives of the same row (promise P7).

use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::table::{Column, Described};
use crate::event::{self, Op, OpenRow, RowError, RowHead, TableKey, Type, varint};
use crate::source::mysql::charset::Charset;
use crate::source::mysql::client::ClientError;
use crate::source::mysql::client::statement::{BinaryRow, Cell, Date, ResultColumn};

/// A row that cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The answer is damaged.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// It cannot be a record.
    #[error(transparent)]
    Row(#[from] RowError),
    /// The server sends a column in another way than its type says: the table changed meanwhile.
    #[error("column `{column}` came as {found}, which is not what the table says")]
    Value {
        /// Its name.
        column: String,
        /// What came.
        found: String,
    },
}

/// Writes the rows of one table.
#[derive(Debug)]
pub struct Record {
    columns: Vec<Column>,
    key: TableKey,
    /// For each column its place in the key.
    place: Vec<Option<usize>>,
    /// Shapes so far, by which columns are bytes because their text is none; the first is the usual one.
    shapes: Vec<(Vec<bool>, Arc<event::Table>)>,
    spans: Vec<Option<(usize, usize)>>,
    bytes: Vec<u8>,
    no_text: Vec<bool>,
    text: String,
}

impl Record {
    /// For the rows of a table.
    pub fn new(table: &Described) -> Self {
        let key = TableKey::from(&*table.table);
        let place = (0..table.columns.len()).map(|i| key.columns.iter().position(|&c| c == i)).collect();
        Self {
            columns: table.columns.clone(),
            spans: vec![None; key.columns.len()],
            key,
            place,
            shapes: vec![(vec![false; table.columns.len()], table.table.clone())],
            bytes: Vec::new(),
            no_text: Vec::new(),
            text: String::new(),
        }
    }

    /// Appends the record of `row`; `schema` tells the index of a shape in the batch.
    pub fn write(
        &mut self,
        out: &mut Vec<u8>,
        columns: &[ResultColumn],
        row: BinaryRow<'_>,
        ordinal: u64,
        hlc: u64,
        schema: &mut dyn FnMut(&Arc<event::Table>) -> Option<u16>,
    ) -> Result<(), RecordError> {
        let start = out.len();
        let written = self.try_write(out, columns, row, ordinal, hlc, schema);
        if written.is_err() {
            out.truncate(start);
        }
        written
    }

    fn try_write(
        &mut self,
        out: &mut Vec<u8>,
        columns: &[ResultColumn],
        row: BinaryRow<'_>,
        ordinal: u64,
        hlc: u64,
        schema: &mut dyn FnMut(&Arc<event::Table>) -> Option<u16>,
    ) -> Result<(), RecordError> {
        if columns.len() != self.columns.len() {
            return Err(ClientError::Protocol("a result with another number of columns").into());
        }
        let start = out.len();
        // What is no text has the same form as bytes, so only the shape's index comes later.
        let open = OpenRow::begin(out, RowHead { op: Op::Snapshot, schema: 0, ordinal, hlc });
        let nulls = out.len();
        out.resize(nulls + self.columns.len().div_ceil(8), 0);
        self.no_text.clear();
        self.no_text.resize(self.columns.len(), false);
        let Self { columns: own, place, spans, bytes, no_text, text, .. } = self;
        spans.fill(None);
        row.cells::<RecordError>(columns, |i, cell| {
            let from = out.len();
            let Some(column) = own.get(i) else { return Ok(()) };
            if cell == Cell::Null {
                if let Some(byte) = out.get_mut(nulls + i / 8) {
                    *byte |= 1 << (i % 8);
                }
                return Ok(());
            }
            let is_text = value(out, column, cell, text).ok_or_else(|| RecordError::Value {
                column: column.name.clone(),
                found: kind(cell).to_owned(),
            })?;
            if !is_text && let Some(place) = no_text.get_mut(i) {
                *place = true;
            }
            if let Some(span) = place.get(i).copied().flatten().and_then(|place| spans.get_mut(place)) {
                *span = Some((from, out.len()));
            }
            Ok(())
        })?;
        let mut hash = self.key.seed;
        if !spans.is_empty() {
            bytes.clear();
            for span in spans.iter() {
                match span.and_then(|(from, to)| out.get(from..to)) {
                    Some(value) => {
                        bytes.push(1);
                        bytes.extend_from_slice(value);
                    }
                    None => bytes.push(0),
                }
            }
            hash = xxh3_64_with_seed(bytes, self.key.seed);
        }
        open.end(out, [hash, 0])?;
        let index = schema(&self.shape()).ok_or(RowError::NoTable(u16::MAX))?;
        if let Some(place) = out.get_mut(start + 6..start + 8) {
            place.copy_from_slice(&index.to_le_bytes());
        }
        Ok(())
    }

    fn shape(&mut self) -> Arc<event::Table> {
        if let Some((_, table)) = self.shapes.iter().find(|(no_text, _)| *no_text == self.no_text) {
            return table.clone();
        }
        let Some((_, usual)) = self.shapes.first() else { return event::builtin::message().clone() };
        let mut table = event::Table::clone(usual);
        for (column, _) in table.columns.iter_mut().zip(&self.no_text).filter(|(_, no_text)| **no_text) {
            column.ty = Type::Bytes;
        }
        let table = Arc::new(table);
        // Rare by nature; a table where they are not must not grow without end.
        if self.shapes.len() > 64 {
            self.shapes.truncate(1);
        }
        self.shapes.push((self.no_text.clone(), table.clone()));
        table
    }
}

fn kind(cell: Cell<'_>) -> &'static str {
    match cell {
        Cell::Null => "NULL",
        Cell::Int(_) | Cell::Uint(_) => "a number",
        Cell::Float(_) | Cell::Double(_) => "a real number",
        Cell::Date(_) => "a date",
        Cell::Time(_) => "a time",
        Cell::Bytes(_) => "bytes",
    }
}

fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    varint::put(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Appends a value; `false` if it is text that is none in its character set, `None` if it is no value of the column.
fn value(out: &mut Vec<u8>, column: &Column, cell: Cell<'_>, text: &mut String) -> Option<bool> {
    match (column.ty, cell) {
        (Type::I8 | Type::U8, Cell::Int(_) | Cell::Uint(_)) => {
            out.push(number(cell, column.ty == Type::U8, 8)? as u8);
        }
        (Type::I16 | Type::U16, Cell::Int(_) | Cell::Uint(_)) => {
            out.extend_from_slice(&(number(cell, column.ty == Type::U16, 16)? as u16).to_le_bytes());
        }
        (Type::I32 | Type::U32, Cell::Int(_) | Cell::Uint(_)) => {
            out.extend_from_slice(&(number(cell, column.ty == Type::U32, 32)? as u32).to_le_bytes());
        }
        (Type::I64, Cell::Int(_) | Cell::Uint(_)) => {
            out.extend_from_slice(&(number(cell, false, 64)? as u64).to_le_bytes());
        }
        (Type::U64 | Type::Bit | Type::Set, Cell::Int(_) | Cell::Uint(_)) => {
            out.extend_from_slice(&(number(cell, true, 64)? as u64).to_le_bytes());
        }
        (Type::Year | Type::Enum, Cell::Int(_) | Cell::Uint(_)) => {
            out.extend_from_slice(&(number(cell, true, 16)? as u16).to_le_bytes());
        }
        (Type::F32, Cell::Float(n)) => out.extend_from_slice(&n.to_bits().to_le_bytes()),
        (Type::F64, Cell::Double(n)) => out.extend_from_slice(&n.to_bits().to_le_bytes()),
        (Type::Decimal { precision, scale }, Cell::Bytes(digits)) => decimal(out, digits, precision, scale)?,
        (Type::Date, Cell::Date(date)) => out.extend_from_slice(&packed_date(date).to_le_bytes()),
        (Type::DateTime { .. }, Cell::Date(date)) => out.extend_from_slice(&packed(date).to_le_bytes()),
        (Type::Timestamp { .. }, Cell::Date(date)) => out.extend_from_slice(&timestamp(date).to_le_bytes()),
        (Type::Time { .. }, Cell::Time(micros)) => out.extend_from_slice(&micros.to_le_bytes()),
        (Type::Text, Cell::Bytes(raw)) => return Some(put_text(out, column.charset?, raw, text)),
        (Type::Json, Cell::Bytes(raw)) => {
            std::str::from_utf8(raw).ok()?;
            put(out, raw);
        }
        (Type::Bytes | Type::Geometry | Type::Vector, Cell::Bytes(raw)) => put(out, raw),
        (Type::Uuid, Cell::Bytes(raw)) => out.extend_from_slice(&uuid(raw)?),
        (Type::Inet4, Cell::Bytes(raw)) => {
            let address: std::net::Ipv4Addr = std::str::from_utf8(raw).ok()?.parse().ok()?;
            out.extend_from_slice(&address.octets());
        }
        (Type::Inet6, Cell::Bytes(raw)) => {
            let address: std::net::Ipv6Addr = std::str::from_utf8(raw).ok()?.parse().ok()?;
            out.extend_from_slice(&address.octets());
        }
        _ => return None,
    }
    Some(true)
}

/// A number that fits into so many bits.
fn number(cell: Cell<'_>, unsigned: bool, bits: u32) -> Option<i128> {
    let n = match cell {
        Cell::Int(n) => i128::from(n),
        Cell::Uint(n) => i128::from(n),
        _ => return None,
    };
    let range = if unsigned { 0..1i128 << bits } else { -(1i128 << (bits - 1))..1i128 << (bits - 1) };
    range.contains(&n).then_some(n)
}

fn put_text(out: &mut Vec<u8>, charset: &Charset, raw: &[u8], text: &mut String) -> bool {
    text.clear();
    match charset.to_utf8(raw, text) {
        Ok(text) => {
            put(out, text.as_bytes());
            true
        }
        Err(_) => {
            put(out, raw);
            false
        }
    }
}

/// `-12.50` as the column's declared digits: the unscaled number, or the digits where there are more than 38.
fn decimal(out: &mut Vec<u8>, digits: &[u8], precision: u8, scale: u8) -> Option<()> {
    let digits = std::str::from_utf8(digits).ok()?;
    if precision > 38 {
        put(out, digits.as_bytes());
        return Some(());
    }
    let (sign, rest) = match digits.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, digits),
    };
    let (whole, fraction) = rest.split_once('.').unwrap_or((rest, ""));
    if fraction.len() != usize::from(scale) {
        return None;
    }
    let mut n: i128 = 0;
    for digit in whole.bytes().chain(fraction.bytes()) {
        let digit = digit.checked_sub(b'0').filter(|digit| *digit < 10)?;
        n = n.checked_mul(10)?.checked_add(i128::from(digit))?;
    }
    out.extend_from_slice(&(sign * n).to_le_bytes());
    Some(())
}

fn packed_date(date: Date) -> u32 {
    u32::from(date.year) << 9 | u32::from(date.month) << 5 | u32::from(date.day)
}

fn packed(date: Date) -> u64 {
    let ymd = (u64::from(date.year) * 13 + u64::from(date.month)) << 5 | u64::from(date.day);
    let hms = u64::from(date.hour) << 12 | u64::from(date.minute) << 6 | u64::from(date.second);
    (ymd << 17 | hms) << 24 | u64::from(date.micros)
}

/// Microseconds since 1970 of a time in UTC.
fn timestamp(date: Date) -> i64 {
    if date.year == 0 {
        return i64::MIN;
    }
    // Days from civil, with years that begin in March.
    let (year, month) = (i64::from(date.year), i64::from(date.month));
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year - era * 400;
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + i64::from(date.day) - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    let seconds =
        days * 86_400 + i64::from(date.hour) * 3600 + i64::from(date.minute) * 60 + i64::from(date.second);
    seconds * 1_000_000 + i64::from(date.micros)
}

fn uuid(text: &[u8]) -> Option<[u8; 16]> {
    let mut digits = text.iter().filter(|&&c| c != b'-').map(|&c| char::from(c).to_digit(16));
    let mut raw = [0; 16];
    for byte in &mut raw {
        *byte = (digits.next()?? << 4 | digits.next()??) as u8;
    }
    digits.next().is_none().then_some(raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_decimals_keep_their_scale() {
        let of = |text: &str, precision, scale| {
            let mut out = Vec::new();
            decimal(&mut out, text.as_bytes(), precision, scale).map(|()| out)
        };
        assert_eq!(of("-12.50", 10, 2), Some((-1250i128).to_le_bytes().to_vec()));
        assert_eq!(of("0", 10, 0), Some(0i128.to_le_bytes().to_vec()));
        assert_eq!(of("1.5", 10, 2), None);
        assert_eq!(of("1x", 10, 0), None);
        assert!(of("9".repeat(39).as_str(), 38, 0).is_none());
        assert_eq!(of("-1.5", 65, 1), Some(b"\x04-1.5".to_vec()));
    }

    #[test]
    fn times_are_those_of_the_stream() {
        let at = |year, month, day, hour, minute, second, micros| Date {
            year,
            month,
            day,
            hour,
            minute,
            second,
            micros,
        };
        assert_eq!(timestamp(at(1970, 1, 1, 0, 0, 1, 5)), 1_000_005);
        assert_eq!(timestamp(at(2038, 1, 19, 3, 14, 7, 999_999)), 2_147_483_647_999_999);
        assert_eq!(timestamp(at(2024, 2, 29, 23, 59, 59, 0)), 1_709_251_199_000_000);
        assert_eq!(timestamp(Date::default()), i64::MIN);
        let mut text = Vec::new();
        crate::codec::text::datetime(&mut text, packed(at(2024, 2, 29, 23, 59, 59, 7)), 6);
        assert_eq!(text, b"2024-02-29 23:59:59.000007");
        text.clear();
        crate::codec::text::date(&mut text, u64::from(packed_date(at(2024, 0, 31, 0, 0, 0, 0))));
        assert_eq!(text, b"2024-00-31");
    }

    #[test]
    fn a_uuid_is_read_in_the_order_of_its_text() {
        assert_eq!(uuid(b"00010203-0405-0607-0809-0a0b0c0d0e0f").unwrap()[..4], [0, 1, 2, 3]);
        assert_eq!(uuid(b"0001"), None);
        assert_eq!(uuid(b"000102030405060708090a0b0c0d0e0f0"), None);
        assert_eq!(uuid(b"zz0102030405060708090a0b0c0d0e0f"), None);
    }
}

//! Prepared statements: numbers, times and bytes of a result as they are, not as text; row by row.
//!
//! Values are part of a statement's text here, as literals: it is prepared for the form of its answer. Sources: MySQL's
//! "COM_STMT_PREPARE", "COM_STMT_EXECUTE", "Binary Protocol Resultset", "Binary Protocol Value".

use super::answer::{MAX_COLUMNS, SHORT, ServerError};
use super::conn::{Conn, payload};
use super::error::ClientError;
use super::packet::{FULL, Joiner};
use crate::source::mysql::binlog::bytes::Bytes;

/// Bytes that the definition of a column may have.
const MAX_DEFINITION: usize = 64 << 10;

/// A column of a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResultColumn {
    /// `enum_field_types`.
    pub ty: u8,
    /// Whether a number is without sign.
    pub unsigned: bool,
    /// Collation of its text; 63 for bytes.
    pub charset: u16,
}

/// A value of a row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Cell<'a> {
    /// SQL NULL.
    Null,
    /// A number with a sign.
    Int(i64),
    /// A number without.
    Uint(u64),
    /// A single.
    Float(f32),
    /// A double.
    Double(f64),
    /// DATE, DATETIME, TIMESTAMP.
    Date(Date),
    /// TIME, in microseconds.
    Time(i64),
    /// Everything else, DECIMAL among it.
    Bytes(&'a [u8]),
}

/// A date, and the time of day.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Date {
    /// 0–9999.
    pub year: u16,
    /// 0–12.
    pub month: u8,
    /// 0–31.
    pub day: u8,
    /// 0–23.
    pub hour: u8,
    /// 0–59.
    pub minute: u8,
    /// 0–59.
    pub second: u8,
    /// 0–999,999.
    pub micros: u32,
}

/// A row, borrowed from the packet that it came in.
#[derive(Clone, Copy, Debug)]
pub struct BinaryRow<'a> {
    payload: &'a [u8],
}

impl<'a> BinaryRow<'a> {
    /// A packet of a result.
    pub fn new(payload: &'a [u8]) -> Self {
        Self { payload }
    }

    /// The packet.
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// Calls `each` with the place and the value of every column.
    pub fn cells<E: From<ClientError>>(
        &self,
        columns: &[ResultColumn],
        mut each: impl FnMut(usize, Cell<'a>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut b = Bytes(self.payload);
        let short = |_| SHORT;
        b.take(1, "").map_err(short)?;
        let nulls = b.take((columns.len() + 9) / 8, "").map_err(short)?;
        for (i, column) in columns.iter().enumerate() {
            let bit = i + 2;
            let is_null = nulls.get(bit / 8).is_some_and(|byte| byte >> (bit % 8) & 1 == 1);
            let value = if is_null { Cell::Null } else { cell(&mut b, column)? };
            each(i, value)?;
        }
        match b.is_empty() {
            true => Ok(()),
            false => Err(ClientError::Protocol("a row of a result is too long").into()),
        }
    }
}

fn cell<'a>(b: &mut Bytes<'a>, column: &ResultColumn) -> Result<Cell<'a>, ClientError> {
    let short = |_| SHORT;
    let number = |signed: i64, n: u64| if column.unsigned { Cell::Uint(n) } else { Cell::Int(signed) };
    Ok(match column.ty {
        1 => b.u8("").map(|n| number(i64::from(n as i8), u64::from(n))).map_err(short)?,
        2 | 13 => b.u16("").map(|n| number(i64::from(n as i16), u64::from(n))).map_err(short)?,
        3 | 9 => b.u32("").map(|n| number(i64::from(n as i32), u64::from(n))).map_err(short)?,
        8 => b.u64("").map(|n| number(n as i64, n)).map_err(short)?,
        4 => Cell::Float(f32::from_bits(b.u32("").map_err(short)?)),
        5 => Cell::Double(f64::from_bits(b.u64("").map_err(short)?)),
        6 => Cell::Null,
        7 | 10 | 12 | 14 | 17 | 18 => Cell::Date(date(b)?),
        11 | 19 => Cell::Time(time(b)?),
        _ => {
            let length = b.packed_len("").map_err(short)?;
            Cell::Bytes(b.take(length, "").map_err(short)?)
        }
    })
}

fn date(b: &mut Bytes<'_>) -> Result<Date, ClientError> {
    let length = usize::from(b.u8("").map_err(|_| SHORT)?);
    let mut raw = [0; 11];
    if !matches!(length, 0 | 4 | 7 | 11) {
        return Err(ClientError::Protocol("a date of an unknown length"));
    }
    let some = b.take(length, "").map_err(|_| SHORT)?;
    raw.iter_mut().zip(some).for_each(|(to, from)| *to = *from);
    let [y0, y1, month, day, hour, minute, second, m0, m1, m2, m3] = raw;
    let (year, micros) = (u16::from_le_bytes([y0, y1]), u32::from_le_bytes([m0, m1, m2, m3]));
    Ok(Date { year, month, day, hour, minute, second, micros })
}

fn time(b: &mut Bytes<'_>) -> Result<i64, ClientError> {
    let length = usize::from(b.u8("").map_err(|_| SHORT)?);
    let mut raw = [0; 12];
    if !matches!(length, 0 | 8 | 12) {
        return Err(ClientError::Protocol("a time of an unknown length"));
    }
    let some = b.take(length, "").map_err(|_| SHORT)?;
    raw.iter_mut().zip(some).for_each(|(to, from)| *to = *from);
    let [negative, d0, d1, d2, d3, hour, minute, second, m0, m1, m2, m3] = raw;
    let days = i64::from(u32::from_le_bytes([d0, d1, d2, d3]));
    let seconds = days * 86_400 + i64::from(hour) * 3600 + i64::from(minute) * 60 + i64::from(second);
    let micros = seconds * 1_000_000 + i64::from(u32::from_le_bytes([m0, m1, m2, m3]));
    Ok(if negative == 0 { micros } else { -micros })
}

/// Reads what stands behind the names of a column's definition.
fn definition(payload: &[u8]) -> Result<ResultColumn, ClientError> {
    let mut b = Bytes(payload);
    // Catalog, schema, table and column, both as they are called and as they are.
    for _ in 0..6 {
        let length = b.packed_len("").map_err(|_| SHORT)?;
        b.take(length, "").map_err(|_| SHORT)?;
    }
    b.u8("").map_err(|_| SHORT)?;
    let charset = b.u16("").map_err(|_| SHORT)?;
    b.u32("").map_err(|_| SHORT)?;
    let ty = b.u8("").map_err(|_| SHORT)?;
    let flags = b.u16("").map_err(|_| SHORT)?;
    Ok(ResultColumn { ty, unsigned: flags & 32 != 0, charset })
}

fn is_eof(payload: &[u8]) -> bool {
    payload.first() == Some(&0xfe) && payload.len() < 9
}

fn error_of(payload: &[u8]) -> Option<ClientError> {
    let (&first, rest) = payload.split_first()?;
    (first == 0xff).then(|| ServerError::parse(rest).into())
}

impl Conn {
    /// Runs a statement by the binary protocol. `row` is given each row as it comes, from a buffer that the next
    /// one takes, and the columns. After an error of it the connection can only be dropped.
    pub fn rows<E: From<ClientError>>(
        &mut self,
        sql: &str,
        max_row_bytes: usize,
        mut row: impl FnMut(&[ResultColumn], BinaryRow<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let id = self.prepare(sql)?;
        let mut command = vec![0x17];
        command.extend_from_slice(&id.to_le_bytes());
        // No cursor; once.
        command.extend_from_slice(&[0, 1, 0, 0, 0]);
        self.command(&command)?;
        let first = self.small("the answer to a statement")?;
        if let Some(error) = error_of(&first) {
            self.close(id)?;
            return Err(error.into());
        }
        if first.first() == Some(&0) {
            self.close(id)?;
            return Ok(());
        }
        let count = Bytes(&first).packed("").map_err(|_| SHORT)?;
        if count > MAX_COLUMNS {
            return Err(ClientError::Protocol("a result with too many columns").into());
        }
        let mut columns = Vec::new();
        for _ in 0..count {
            columns.push(definition(&self.small("a column of a result")?)?);
        }
        if !is_eof(&self.small("the end of the columns")?) {
            return Err(ClientError::Protocol("no end of the columns").into());
        }
        loop {
            let limit = self.read_timeout;
            let length = loop {
                match self.wire.packets.head()? {
                    Some(length) => break length,
                    None => self.wire.read(limit, "a row")?,
                }
            };
            // Most rows lie in the buffer whole.
            if length < FULL && self.wire.packets.data().len() >= length {
                let here = self.wire.packets.data().get(..length).unwrap_or_default();
                let done = one(here, &columns, &mut row)?;
                self.wire.packets.consume(length);
                if done {
                    break;
                }
                continue;
            }
            if length > max_row_bytes {
                return Err(ClientError::TooLarge { what: "a row", max: max_row_bytes }.into());
            }
            let mut joiner = Joiner::begun(length);
            let whole = loop {
                match joiner.take(&mut self.wire.packets, max_row_bytes, "a row")? {
                    Some(whole) => break whole,
                    None => self.wire.read(limit, "a row")?,
                }
            };
            if one(&whole, &columns, &mut row)? {
                break;
            }
        }
        self.close(id)?;
        Ok(())
    }

    fn small(&mut self, what: &'static str) -> Result<Vec<u8>, ClientError> {
        payload(&mut self.wire, self.read_timeout, MAX_DEFINITION, what)
    }

    /// The statement's number.
    fn prepare(&mut self, sql: &str) -> Result<u32, ClientError> {
        let mut command = vec![0x16];
        command.extend_from_slice(sql.as_bytes());
        self.command(&command)?;
        let first = self.small("the answer to a statement")?;
        if let Some(error) = error_of(&first) {
            return Err(error);
        }
        let mut b = Bytes(&first);
        b.take(1, "").map_err(|_| SHORT)?;
        let id = b.u32("").map_err(|_| SHORT)?;
        let columns = b.u16("").map_err(|_| SHORT)?;
        let params = b.u16("").map_err(|_| SHORT)?;
        // Their definitions, each list with an end; those of the answer count.
        for list in [params, columns] {
            for _ in 0..u32::from(list) + u32::from(list > 0) {
                self.small("a column of a statement")?;
            }
        }
        match params {
            0 => Ok(id),
            _ => Err(ClientError::Protocol("a statement with parameters")),
        }
    }

    /// There is no answer to it.
    fn close(&mut self, id: u32) -> Result<(), ClientError> {
        let mut command = vec![0x19];
        command.extend_from_slice(&id.to_le_bytes());
        self.command(&command)
    }
}

/// Takes a packet; whether it was the last.
fn one<E: From<ClientError>>(
    payload: &[u8],
    columns: &[ResultColumn],
    row: &mut impl FnMut(&[ResultColumn], BinaryRow<'_>) -> Result<(), E>,
) -> Result<bool, E> {
    if is_eof(payload) {
        return Ok(true);
    }
    if let Some(error) = error_of(payload) {
        return Err(error.into());
    }
    row(columns, BinaryRow::new(payload))?;
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(ty: u8, unsigned: bool) -> ResultColumn {
        ResultColumn { ty, unsigned, charset: 63 }
    }

    fn cells(payload: &[u8], columns: &[ResultColumn]) -> Result<Vec<String>, ClientError> {
        let mut found = Vec::new();
        BinaryRow::new(payload).cells(columns, |_, cell| {
            found.push(format!("{cell:?}"));
            Ok::<_, ClientError>(())
        })?;
        Ok(found)
    }

    #[test]
    fn values_are_read_as_the_manual_says() {
        let columns =
            [column(1, false), column(8, true), column(12, false), column(11, false), column(253, false)];
        let mut row = vec![0, 0];
        row.push(0xff);
        row.extend_from_slice(&u64::MAX.to_le_bytes());
        row.extend_from_slice(&[11, 0xda, 0x07, 0x0a, 0x11, 0x13, 0x1b, 0x1e, 0x01, 0, 0, 0]);
        row.extend_from_slice(&[12, 1, 120, 0, 0, 0, 19, 27, 30, 1, 0, 0, 0]);
        row.extend_from_slice(&[2, b'a', b'b']);
        let found = cells(&row, &columns).unwrap();
        assert_eq!(found[0], "Int(-1)");
        assert_eq!(found[1], format!("Uint({})", u64::MAX));
        assert!(
            found[2].contains("year: 2010, month: 10, day: 17, hour: 19, minute: 27, second: 30, micros: 1")
        );
        let micros = -((120 * 86_400 + 19 * 3600 + 27 * 60 + 30) * 1_000_000i64 + 1);
        assert_eq!(found[3], format!("Time({micros})"));
        assert_eq!(found[4], "Bytes([97, 98])");
        for cut in 0..row.len() {
            assert!(cells(&row[..cut], &columns).is_err(), "{cut}");
        }
        row.push(0);
        assert!(cells(&row, &columns).is_err());
    }

    #[test]
    fn the_bitmap_of_nulls_begins_at_its_third_bit() {
        let columns = vec![column(1, true); 7];
        // (7 + 9) / 8 = 2 bytes.
        let mut row = vec![0, 0b1111_1100, 0b0000_0000];
        row.push(9);
        let found = cells(&row, &columns).unwrap();
        assert_eq!(found[5..], ["Null", "Uint(9)"]);
        let columns = vec![column(1, true); 6];
        assert_eq!(cells(&[0, 0b1111_1100], &columns).unwrap(), vec!["Null"; 6]);
    }
}

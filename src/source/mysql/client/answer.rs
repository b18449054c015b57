//! What a server answers: OK, ERR, and the rows of a text result.
//!
//! Sources: MySQL's "OK_Packet", "ERR_Packet", "Text Resultset".

use super::error::ClientError;
use crate::source::mysql::binlog::bytes::Bytes;

/// An error that the server named.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("server error {code}: {message}")]
pub struct ServerError {
    /// Its number, as in the manual.
    pub code: u16,
    /// Its words.
    pub message: String,
}

impl ServerError {
    /// Reads what stands behind the byte `ff`.
    pub(super) fn parse(rest: &[u8]) -> Self {
        let (code, rest) = match rest.split_first_chunk() {
            Some((code, rest)) => (u16::from_le_bytes(*code), rest),
            None => (0, rest),
        };
        // `#` and five bytes of SQL state; not in errors before login.
        let rest = if rest.first() == Some(&b'#') { rest.get(6..).unwrap_or_default() } else { rest };
        let rest = rest.get(..512).unwrap_or(rest);
        let clean = |c: char| if c.is_control() { ' ' } else { c };
        Self { code, message: String::from_utf8_lossy(rest).chars().map(clean).collect() }
    }

    /// Whether another try, with nothing changed, may work: the server is busy, starting or stopping.
    pub fn is_retriable(&self) -> bool {
        matches!(
            self.code,
            // too many connections, out of resources, bad handshake, shutdown, aborted connection
            1040 | 1041 | 1042 | 1043 | 1053 | 1077 | 1079 | 1152
                // network errors that the server saw
                | 1154
                ..=1161
                // deadlock, lock wait, killed, cannot connect (proxies), server gone, offline mode, timeouts
                | 1205 | 1213 | 1317 | 1927 | 2002 | 2003 | 2006 | 2013 | 3032 | 3168 | 4031
        )
    }
}

/// Rows of a text result: every value as the server prints it, `None` for NULL.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rows {
    /// Names of the columns, in lower case.
    pub columns: Vec<String>,
    /// The rows.
    pub rows: Vec<Vec<Option<Vec<u8>>>>,
}

impl Rows {
    /// The text of a column of the row at `row`; empty if it is NULL or not there.
    pub fn text(&self, row: usize, column: &str) -> String {
        self.value(row, column).unwrap_or_default()
    }

    /// As [`Self::text`], `None` for NULL and for what is not there.
    pub fn value(&self, row: usize, column: &str) -> Option<String> {
        let at = self.columns.iter().position(|name| name == column)?;
        let value = self.rows.get(row)?.get(at)?.as_deref()?;
        Some(String::from_utf8_lossy(value).into_owned())
    }

    /// The first value of each row.
    pub fn first_column(&self) -> impl Iterator<Item = String> + '_ {
        self.rows.iter().map(|row| {
            let value = row.first().and_then(Option::as_deref).unwrap_or_default();
            String::from_utf8_lossy(value).into_owned()
        })
    }
}

/// Reads the answer to a query, packet by packet.
#[derive(Debug, Default)]
pub(super) struct Answer {
    rows: Rows,
    state: State,
    bytes: usize,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Start,
    Columns(usize),
    /// The EOF behind the columns.
    Divider,
    Rows,
}

/// Columns that a result may have.
pub(super) const MAX_COLUMNS: u64 = 4096;
pub(super) const SHORT: ClientError = ClientError::Protocol("a packet of a result is cut short");

impl Answer {
    /// Takes a packet; the rows once they are all there. An OK gives none.
    pub(super) fn packet(&mut self, payload: &[u8], max: usize) -> Result<Option<Rows>, ClientError> {
        self.bytes += payload.len();
        if self.bytes > max {
            return Err(ClientError::TooLarge { what: "the result of a query", max });
        }
        let is_eof = payload.first() == Some(&0xfe) && payload.len() < 9;
        if let Some((0xff, rest)) = payload.split_first() {
            return Err(ServerError::parse(rest).into());
        }
        match self.state {
            State::Start => match payload.first() {
                Some(0) => return Ok(Some(std::mem::take(&mut self.rows))),
                Some(0xfb) => return Err(ClientError::Protocol("it asks for a local file")),
                _ => {
                    let columns = Bytes(payload).packed("").map_err(|_| SHORT)?;
                    if columns > MAX_COLUMNS {
                        return Err(ClientError::Protocol("a result with too many columns"));
                    }
                    self.state = State::Columns(columns as usize);
                }
            },
            State::Columns(left) => {
                self.rows.columns.push(column_name(payload).ok_or(SHORT)?);
                self.state = if left > 1 { State::Columns(left - 1) } else { State::Divider };
            }
            State::Divider if is_eof => self.state = State::Rows,
            State::Divider => return Err(ClientError::Protocol("no end of the columns")),
            State::Rows if is_eof => return Ok(Some(std::mem::take(&mut self.rows))),
            State::Rows => {
                // What a value costs here, however short it is there.
                self.bytes += 32 * self.rows.columns.len();
                let mut b = Bytes(payload);
                let mut row = Vec::new();
                for _ in 0..self.rows.columns.len() {
                    row.push(if b.0.first() == Some(&0xfb) {
                        b.take(1, "").map_err(|_| SHORT)?;
                        None
                    } else {
                        let length = b.packed_len("").map_err(|_| SHORT)?;
                        Some(b.take(length, "").map_err(|_| SHORT)?.to_vec())
                    });
                }
                self.rows.rows.push(row);
            }
        }
        Ok(None)
    }
}

/// Fifth field: catalog, schema, table, original table, name.
fn column_name(payload: &[u8]) -> Option<String> {
    let mut b = Bytes(payload);
    for _ in 0..4 {
        let length = b.packed_len("").ok()?;
        b.take(length, "").ok()?;
    }
    let length = b.packed_len("").ok()?;
    Some(String::from_utf8_lossy(b.take(length, "").ok()?).to_lowercase())
}

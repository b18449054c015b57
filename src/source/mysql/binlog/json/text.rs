//! A document as the server prints it.
//!
//! Source: MySQL's `sql-common/json_dom.cc`, `wrapper_to_string` and `double_quote`;
//! `strings/dtoa.cc`, `my_gcvt`; `mysys/base64_encode.cc`.

use super::super::column::ColumnType;
use super::super::error::Malformed;
use super::super::value::Decimal;
use super::MAX_DEPTH;
use super::node::{Node, packed};
use crate::codec::{base64, text};

/// Writes nodes, no more than the document's bytes can hold.
#[derive(Debug)]
pub(super) struct Writer {
    budget: usize,
}

impl Writer {
    pub(super) fn new(document_bytes: usize) -> Self {
        Self { budget: document_bytes }
    }

    pub(super) fn spend(&mut self, cost: usize) -> Result<(), Malformed> {
        let expected = "a JSON document whose values do not overlap";
        self.budget =
            self.budget.checked_sub(cost).ok_or(Malformed::Invalid { expected, found: cost as u64 })?;
        Ok(())
    }

    pub(super) fn node(&mut self, node: &Node<'_>, out: &mut Vec<u8>, depth: usize) -> Result<(), Malformed> {
        self.spend(node.cost())?;
        match *node {
            Node::Null => out.extend_from_slice(b"null"),
            Node::Bool(true) => out.extend_from_slice(b"true"),
            Node::Bool(false) => out.extend_from_slice(b"false"),
            Node::Int(n) => text::int(out, n),
            Node::Uint(n) => text::padded(out, n, 1),
            Node::Double(n) => double(out, n),
            Node::String(s) => quoted(out, s)?,
            Node::Opaque { ty, data } => opaque(out, ty, data)?,
            Node::Array(members) => {
                deeper(depth)?;
                out.push(b'[');
                for i in 0..members.len() {
                    self.spend(members.cost(&[]))?;
                    separate(out, i);
                    self.node(&members.value(i)?, out, depth + 1)?;
                }
                out.push(b']');
            }
            Node::Object(members) => {
                deeper(depth)?;
                out.push(b'{');
                for i in 0..members.len() {
                    let key = members.key(i)?;
                    self.spend(members.cost(key))?;
                    separate(out, i);
                    member(out, key)?;
                    self.node(&members.value(i)?, out, depth + 1)?;
                }
                out.push(b'}');
            }
        }
        Ok(())
    }
}

/// Whether a container may stand in `depth` others.
pub(super) fn deeper(depth: usize) -> Result<(), Malformed> {
    if depth < MAX_DEPTH {
        Ok(())
    } else {
        Err(Malformed::Invalid { expected: "at most 100 levels of JSON", found: depth as u64 + 1 })
    }
}

pub(super) fn separate(out: &mut Vec<u8>, i: usize) {
    if i > 0 {
        out.extend_from_slice(b", ");
    }
}

/// A key and its colon.
pub(super) fn member(out: &mut Vec<u8>, key: &[u8]) -> Result<(), Malformed> {
    quoted(out, key)?;
    out.extend_from_slice(b": ");
    Ok(())
}

fn quoted(out: &mut Vec<u8>, s: &[u8]) -> Result<(), Malformed> {
    out.push(b'"');
    // Plain ASCII, which most of it is, is copied as it is: all of it looked at, which goes by vectors.
    let special = |any, &b: &u8| any | (b < 0x20) | (b == b'"') | (b == b'\\') | (b >= 0x80);
    if s.iter().fold(false, special) {
        escaped(out, s)?;
    } else {
        out.extend_from_slice(s);
    }
    out.push(b'"');
    Ok(())
}

fn escaped(out: &mut Vec<u8>, s: &[u8]) -> Result<(), Malformed> {
    let s = super::super::bytes::utf8(s, "UTF-8 in JSON")?.as_bytes();
    let mut from = 0;
    for (i, &byte) in s.iter().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' {
            continue;
        }
        out.extend_from_slice(&s[from..i]);
        from = i + 1;
        let short = match byte {
            b'"' | b'\\' => byte,
            8 => b'b',
            9 => b't',
            10 => b'n',
            12 => b'f',
            13 => b'r',
            _ => {
                out.extend_from_slice(b"\\u00");
                text::hex(out, byte);
                continue;
            }
        };
        out.extend_from_slice(&[b'\\', short]);
    }
    out.extend_from_slice(&s[from..]);
    Ok(())
}

fn opaque(out: &mut Vec<u8>, ty: u8, data: &[u8]) -> Result<(), Malformed> {
    match ColumnType(ty) {
        ColumnType::NEWDECIMAL => return Decimal::tagged(data)?.write(out),
        ColumnType::DATE => {
            out.push(b'"');
            text::date(out, date_in(packed(data)?));
        }
        ColumnType::DATETIME | ColumnType::TIMESTAMP => {
            out.push(b'"');
            text::datetime(out, packed(data)? as u64, 6);
        }
        ColumnType::TIME => {
            out.push(b'"');
            time(out, packed(data)?);
        }
        _ => {
            out.extend_from_slice(b"\"base64:type");
            text::padded(out, u64::from(ty), 1);
            out.push(b':');
            // The server breaks the lines, as its base64 always does.
            for (i, line) in data.chunks(57).enumerate() {
                if i > 0 {
                    out.extend_from_slice(b"\\n");
                }
                base64::encode(line, out);
            }
        }
    }
    out.push(b'"');
    Ok(())
}

/// The date in a packed datetime, as a packed date.
fn date_in(packed: i64) -> u64 {
    let date = packed as u64 >> 41;
    let months = date >> 5;
    ((months / 13) << 9) | ((months % 13) << 5) | (date & 31)
}

/// `hour << 12 | minute << 6 | second`, then 24 bits of microseconds; negative as a whole.
fn time(out: &mut Vec<u8>, packed: i64) {
    let n = packed.unsigned_abs();
    let s = n >> 24;
    let micros = (((s >> 12 & 0x3ff) * 60 + (s >> 6 & 63)) * 60 + (s & 63)) * 1_000_000 + (n & 0xff_ffff);
    text::time(out, if packed < 0 { -(micros as i64) } else { micros as i64 }, 6);
}

/// The shortest digits that read back, with an exponent below 1e-15 and from 1e15 on, and always a
/// sign that it is no integer.
pub(super) fn double(out: &mut Vec<u8>, n: f64) {
    if !n.is_finite() {
        // The server stores no such number.
        out.extend_from_slice(b"null");
        return;
    }
    let mut buffer = zmij::Buffer::new();
    let raw = buffer.format_finite(n).as_bytes();
    let (negative, raw) = match raw.split_first() {
        Some((b'-', rest)) => (true, rest),
        _ => (false, raw),
    };
    // Digits without the zeros around them, and where the point stands among them.
    let at = raw.iter().position(|&b| b == b'e').unwrap_or(raw.len());
    let mut exponent: i32 = 0;
    if let Some((sign, digits)) = raw.get(at + 1..).and_then(|e| e.split_first()) {
        let (sign, digits) = match sign {
            b'-' => (-1, digits),
            b'+' => (1, digits),
            _ => (1, raw.get(at + 1..).unwrap_or_default()),
        };
        exponent = sign * digits.iter().fold(0, |n, d| n * 10 + i32::from(d - b'0'));
    }
    let mut digits = [b'0'; 40];
    let (mut len, mut point) = (0, None);
    for &b in &raw[..at] {
        match b {
            b'.' => point = Some(len),
            // Leading zeros only move the point.
            b'0' if len == 0 => exponent -= i32::from(point.is_some()),
            _ => {
                if let Some(digit) = digits.get_mut(len) {
                    *digit = b;
                    len += 1;
                }
            }
        }
    }
    exponent += point.unwrap_or(len) as i32 - 1;
    while len > 1 && digits[len - 1] == b'0' {
        len -= 1;
    }
    if len == 0 {
        // Zero has one digit.
        (len, exponent) = (1, 0);
    }
    if negative {
        out.push(b'-');
    }
    let digits = &digits[..len];
    if !(-15..15).contains(&exponent) {
        out.extend_from_slice(&digits[..1]);
        if len > 1 {
            out.push(b'.');
            out.extend_from_slice(&digits[1..]);
        }
        out.push(b'e');
        text::int(out, i64::from(exponent));
        return;
    }
    if exponent < 0 {
        out.extend_from_slice(b"0.");
        out.extend(std::iter::repeat_n(b'0', (-exponent - 1) as usize));
        out.extend_from_slice(digits);
        return;
    }
    let whole = exponent as usize + 1;
    out.extend_from_slice(&digits[..whole.min(len)]);
    out.extend(std::iter::repeat_n(b'0', whole.saturating_sub(len)));
    out.push(b'.');
    match digits.get(whole..) {
        Some(fraction) if !fraction.is_empty() => out.extend_from_slice(fraction),
        _ => out.push(b'0'),
    }
}

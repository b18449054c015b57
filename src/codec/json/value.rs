//! One value as JSON ("Values" in the format's page), and the pieces it is made of.

use crate::event::{Column, Type, Value};

use super::super::{base64, document, text};
use super::Integers;

/// Appends one value of `column` as JSON. `false` if it could not be made what the format says:
/// such a column is listed in `unresolved`.
pub fn write_value(out: &mut Vec<u8>, column: &Column, value: Value<'_>, integers: Integers) -> bool {
    let quoted = integers == Integers::String;
    match (column.ty, value) {
        (_, Value::Null) => out.extend_from_slice(b"null"),
        (Type::Timestamp { .. } | Type::Time { .. }, Value::Int(_))
        | (Type::Date | Type::DateTime { .. }, Value::Uint(_))
        | (Type::Decimal { .. }, Value::Decimal(_))
        | (Type::Uuid | Type::Inet4 | Type::Inet6, Value::Bytes(_)) => {
            out.push(b'"');
            let known = text::formatted(out, column, value);
            out.push(b'"');
            return known;
        }
        (Type::Enum, Value::Uint(n)) => match text::label(n, &column.labels) {
            Some(label) => string(out, label),
            None => {
                integer(out, false, |out| text::padded(out, n, 1));
                return false;
            }
        },
        (Type::Set, Value::Uint(n)) => return set(out, n, &column.labels),
        (_, Value::Int(n)) => integer(out, quoted, |out| text::int(out, n)),
        (_, Value::Uint(n)) => integer(out, quoted, |out| text::padded(out, n, 1)),
        (_, Value::F32(n)) => real(out, f64::from(n), |out| serde_json::to_writer(out, &n), true),
        (ty, Value::F64(n)) => real(out, n, |out| serde_json::to_writer(out, &n), ty != Type::Any),
        (_, Value::Decimal(n)) => {
            out.push(b'"');
            text::decimal(out, n, 0);
            out.push(b'"');
        }
        (_, Value::Digits(digits)) => string(out, digits),
        (Type::Any, Value::Text(s)) if declared_blob(&column.declared) => {
            out.extend_from_slice(b"{\"text\":");
            string(out, s);
            out.push(b'}');
        }
        (_, Value::Text(s)) => string(out, s),
        (_, Value::RawText(b)) => base64_object(out, b),
        (Type::Any, Value::Bytes(b)) if !declared_blob(&column.declared) => base64_object(out, b),
        (Type::JsonB, Value::Bytes(b)) => return document::text(out, b),
        (Type::JsonPatch, Value::Bytes(b)) => {
            document::patch(out, b);
            return false;
        }
        (Type::Geometry, Value::Bytes(b)) => return geometry(out, b),
        (Type::Vector, Value::Bytes(b)) => return vector(out, b),
        (_, Value::Bytes(b)) => base64_string(out, b),
    }
    true
}

/// Whether a mixed column is declared to hold bytes, so that its blobs are plain base64.
fn declared_blob(declared: &str) -> bool {
    let name = declared.split('(').next().unwrap_or_default().trim();
    ["BLOB", "BINARY", "VARBINARY", "TINYBLOB", "MEDIUMBLOB", "LONGBLOB"]
        .iter()
        .any(|known| name.eq_ignore_ascii_case(known))
}

fn integer(out: &mut Vec<u8>, quoted: bool, digits: impl FnOnce(&mut Vec<u8>)) {
    if quoted {
        out.push(b'"');
    }
    digits(out);
    if quoted {
        out.push(b'"');
    }
}

/// Appends the shortest digits that read back to the same f32.
pub fn float(out: &mut Vec<u8>, n: f32) {
    real(out, f64::from(n), |out| serde_json::to_writer(out, &n), true);
}

/// Appends the shortest digits that read back to the same f64.
pub fn double(out: &mut Vec<u8>, n: f64) {
    real(out, n, |out| serde_json::to_writer(out, &n), true);
}

/// The shortest digits that read back to the same number. `bare`: a whole number has no `.0`.
fn real(out: &mut Vec<u8>, n: f64, digits: impl FnOnce(&mut Vec<u8>) -> serde_json::Result<()>, bare: bool) {
    if !n.is_finite() {
        let name = match (n.is_nan(), n > 0.0) {
            (true, _) => "NaN",
            (_, true) => "Infinity",
            _ => "-Infinity",
        };
        out.extend_from_slice(b"{\"special\":\"");
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b"\"}");
        return;
    }
    let start = out.len();
    // A Vec takes everything, and the number is finite.
    digits(out).unwrap_or_default();
    if let Some(at) = out.iter().skip(start).position(|&b| b == b'+') {
        out.remove(start + at);
    }
    // A parser that takes `-0` for an integer would lose the sign.
    if bare && out.ends_with(b".0") && !(n == 0.0 && n.is_sign_negative()) {
        out.truncate(out.len() - 2);
    }
}

fn set(out: &mut Vec<u8>, bits: u64, labels: &[Box<str>]) -> bool {
    let known = !labels.is_empty() && (labels.len() >= 64 || bits >> labels.len() == 0);
    if !known {
        text::padded(out, bits, 1);
        return false;
    }
    out.push(b'"');
    let mut first = true;
    for (_, label) in labels.iter().take(64).enumerate().filter(|(i, _)| bits >> i & 1 == 1) {
        if !std::mem::take(&mut first) {
            out.push(b',');
        }
        escape(out, label);
    }
    out.push(b'"');
    true
}

/// Appends SRID (little-endian) and WKB, as MySQL stores them. `false`, with the bytes appended, if there is no SRID.
pub fn geometry(out: &mut Vec<u8>, bytes: &[u8]) -> bool {
    let Some((srid, wkb)) = bytes.split_first_chunk::<4>() else {
        base64_object(out, bytes);
        return false;
    };
    out.extend_from_slice(b"{\"srid\":");
    text::padded(out, u64::from(u32::from_le_bytes(*srid)), 1);
    out.extend_from_slice(b",\"wkb\":");
    base64_string(out, wkb);
    out.push(b'}');
    true
}

/// Appends a vector of f32, little-endian. `false`, with the bytes appended, if they are no whole numbers of it.
pub fn vector(out: &mut Vec<u8>, bytes: &[u8]) -> bool {
    let (elements, rest) = bytes.as_chunks::<4>();
    let mut numbers = elements.iter().map(|e| f32::from_le_bytes(*e));
    if !rest.is_empty() || !numbers.clone().all(f32::is_finite) {
        base64_object(out, bytes);
        return rest.is_empty();
    }
    out.push(b'[');
    let write =
        |n: f32, out: &mut Vec<u8>| real(out, f64::from(n), |out| serde_json::to_writer(out, &n), true);
    if let Some(n) = numbers.next() {
        write(n, out);
    }
    for n in numbers {
        out.push(b',');
        write(n, out);
    }
    out.push(b']');
    true
}

/// Appends bytes as a base64 string.
pub fn base64_string(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'"');
    base64::encode(bytes, out);
    out.push(b'"');
}

/// Appends bytes that should have been something else: `{"base64": …}`.
pub fn base64_object(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(b"{\"base64\":");
    base64_string(out, bytes);
    out.push(b'}');
}

/// A JSON document as it came, on one line; as a string if it is none. A line feed can only stand
/// between its tokens: inside a string JSON forbids it.
pub(super) fn document_as_it_is(out: &mut Vec<u8>, json: &str) {
    if serde_json::from_str::<serde::de::IgnoredAny>(json).is_err() {
        return string(out, json);
    }
    let start = out.len();
    out.extend_from_slice(json.as_bytes());
    for byte in out.iter_mut().skip(start).filter(|b| matches!(b, b'\n' | b'\r')) {
        *byte = b' ';
    }
}

/// Appends `s` as a JSON string.
pub fn string(out: &mut Vec<u8>, s: &str) {
    out.push(b'"');
    escape(out, s);
    out.push(b'"');
}

/// What must be escaped: quote, backslash and control characters (RFC 8259, section 7).
#[inline]
fn is_escaped(byte: u8) -> bool {
    (byte < 0x20) | (byte == b'"') | (byte == b'\\')
}

/// Where the first byte is that must be escaped.
#[inline]
fn first_escaped(bytes: &[u8]) -> Option<usize> {
    // Sixteen at a time, all of them, which is one step of a vector unit.
    let (blocks, end) = bytes.as_chunks::<16>();
    let clean = |block: &[u8; 16]| !block.iter().fold(false, |any, &b| any | is_escaped(b));
    let from = match blocks.iter().position(|block| !clean(block)) {
        Some(block) => block * 16,
        None => bytes.len() - end.len(),
    };
    bytes.get(from..)?.iter().position(|&b| is_escaped(b)).map(|at| from + at)
}

/// Appends `s` as the inside of a JSON string.
pub fn escape(out: &mut Vec<u8>, s: &str) {
    let mut rest = s.as_bytes();
    while let Some(at) = first_escaped(rest) {
        let (clean, tail) = rest.split_at(at);
        out.extend_from_slice(clean);
        let Some((&byte, tail)) = tail.split_first() else { break };
        rest = tail;
        out.push(b'\\');
        match byte {
            b'"' | b'\\' => out.push(byte),
            b'\n' => out.push(b'n'),
            b'\r' => out.push(b'r'),
            b'\t' => out.push(b't'),
            8 => out.push(b'b'),
            12 => out.push(b'f'),
            _ => {
                out.extend_from_slice(b"u00");
                text::hex(out, byte);
            }
        }
    }
    out.extend_from_slice(rest);
}

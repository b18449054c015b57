//! The path of a difference: `$.a[0]."b c"`, as the server writes paths.

use std::borrow::Cow;

use super::super::error::Malformed;
use super::MAX_DEPTH;

/// A step down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Leg<'a> {
    Member(Cow<'a, [u8]>),
    Cell(usize),
}

/// The legs of `path`.
pub(super) fn parse(path: &[u8]) -> Result<Vec<Leg<'_>>, Malformed> {
    let wrong = || Malformed::Invalid { expected: "a JSON path", found: path.len() as u64 };
    let mut rest = path.strip_prefix(b"$").ok_or_else(wrong)?;
    let mut legs = Vec::new();
    while let Some((&first, tail)) = rest.split_first() {
        // No document goes deeper.
        if legs.len() > MAX_DEPTH {
            return Err(wrong());
        }
        match first {
            b'[' => {
                let end = tail.iter().position(|&b| b == b']').ok_or_else(wrong)?;
                let number = std::str::from_utf8(&tail[..end]).ok().and_then(|n| n.parse().ok());
                legs.push(Leg::Cell(number.ok_or_else(wrong)?));
                rest = &tail[end + 1..];
            }
            b'.' if tail.first() == Some(&b'"') => {
                // To the quote that no backslash stands before.
                let mut end = 1;
                loop {
                    match tail.get(end) {
                        Some(b'\\') => end += 2,
                        Some(b'"') => break,
                        Some(_) => end += 1,
                        None => return Err(wrong()),
                    }
                }
                let quoted = std::str::from_utf8(&tail[..=end]).map_err(|_| wrong())?;
                let name: String = serde_json::from_str(quoted).map_err(|_| wrong())?;
                legs.push(Leg::Member(Cow::Owned(name.into_bytes())));
                rest = &tail[end + 1..];
            }
            b'.' => {
                let end = tail.iter().position(|b| matches!(b, b'.' | b'[')).unwrap_or(tail.len());
                if end == 0 {
                    return Err(wrong());
                }
                legs.push(Leg::Member(Cow::Borrowed(&tail[..end])));
                rest = &tail[end..];
            }
            _ => return Err(wrong()),
        }
    }
    Ok(legs)
}

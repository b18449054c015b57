//! A table as its rows are taken: converter, version of its schema, text.

use std::collections::HashMap;

use crate::source::mysql::binlog::TableMap;
use crate::source::mysql::binlog::to_event::ToEvent;
use crate::source::mysql::charset;

/// A table as its rows are taken.
#[derive(Debug)]
pub(super) struct View {
    /// `None` if it is not wanted.
    pub(super) to_event: Option<ToEvent>,
}

/// The version of the table's schema, and whether it is a new one: it grows when the table looks otherwise than before.
pub(super) fn version(versions: &mut HashMap<Box<str>, (u64, u32)>, map: &TableMap) -> (u32, bool) {
    let shape = crate::source::mysql::tables::shape(map);
    let name: Box<str> = map.full_name().into();
    let last = versions.get(&name).copied();
    let version = match last {
        Some((known, version)) if known == shape => return (version, false),
        Some((_, version)) => version.saturating_add(1),
        None => 1,
    };
    versions.insert(name, (shape, version));
    (version, true)
}

/// Text of any character set that servers have.
pub(super) fn to_utf8(collation: u16, raw: &[u8], out: &mut Vec<u8>) -> bool {
    let Some(set) = charset::by_collation(collation) else { return false };
    let mut text = String::new();
    match set.to_utf8(raw, &mut text) {
        Ok(text) => {
            out.extend_from_slice(text.as_bytes());
            true
        }
        Err(_) => false,
    }
}

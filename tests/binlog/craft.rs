//! Binlog files made of recordings: events changed, taken out or put in, with lengths and checksums mended.

use std::path::Path;

/// Types that the tests look for.
pub(super) const QUERY: u8 = 2;
pub(super) const XID: u8 = 16;
pub(super) const TABLE_MAP: u8 = 19;
pub(super) const MARIADB_GTID: u8 = 162;

const HEADER: usize = 19;

/// An event: its header, its body, no checksum.
#[derive(Clone, Debug)]
pub(super) struct Event(pub(super) Vec<u8>);

impl Event {
    /// With the header of another.
    pub(super) fn like(other: &Self, ty: u8, body: &[u8]) -> Self {
        let mut bytes = [&other.0[..HEADER], body].concat();
        bytes[4] = ty;
        Self(bytes)
    }

    /// A statement, as servers log BEGIN.
    pub(super) fn query(other: &Self, statement: &str) -> Self {
        let body = [&[1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0][..], statement.as_bytes()].concat();
        Self::like(other, QUERY, &body)
    }

    pub(super) fn ty(&self) -> u8 {
        self.0[4]
    }

    pub(super) fn body(&mut self) -> &mut [u8] {
        &mut self.0[HEADER..]
    }

    /// `end_log_pos`.
    pub(super) fn set_position(&mut self, position: u32) {
        self.0[13..17].copy_from_slice(&position.to_le_bytes());
    }
}

/// The events of a file.
pub(super) fn events(path: &Path) -> Vec<Event> {
    let bytes = std::fs::read(path).unwrap();
    let (mut at, mut events, mut sum) = (4, Vec::new(), 0);
    while at < bytes.len() {
        let length = u32::from_le_bytes(bytes[at + 9..at + 13].try_into().unwrap()) as usize;
        if at == 4 {
            sum = if bytes[at + length - 5] == 1 { 4 } else { 0 };
            assert_eq!(sum, 4, "a recording with checksums");
        }
        events.push(Event(bytes[at..at + length - sum].to_vec()));
        at += length;
    }
    events
}

/// A file of these events, the first being the format description.
pub(super) fn file(events: &[Event]) -> Vec<u8> {
    let mut bytes = b"\xfebin".to_vec();
    for Event(event) in events {
        let mut event = event.clone();
        let length = event.len() as u32 + 4;
        event[9..13].copy_from_slice(&length.to_le_bytes());
        if event[4] == 15 {
            // The mark of a file in use.
            event[17] &= !1;
        }
        let sum = crc32fast::hash(&event);
        bytes.extend(event);
        bytes.extend(sum.to_le_bytes());
    }
    bytes
}

//! A binlog file as a list of events, to be changed.

use crate::source::mysql::binlog::{Checksum, EventType, FormatDescription, HEADER_BYTES, MAGIC, Payload};

/// An event without its checksum.
#[derive(Clone, Debug)]
pub(super) struct Part {
    pub(super) bytes: Vec<u8>,
    /// Whether a checksum is put behind it.
    sealed: bool,
}

/// Events one after the other.
#[derive(Clone, Debug, Default)]
pub(super) struct Parts {
    pub(super) events: Vec<Part>,
    /// What is no event.
    rest: Vec<u8>,
}

fn u32_at(bytes: &[u8], at: usize) -> usize {
    let four = bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).unwrap_or_default();
    u32::from_le_bytes(four) as usize
}

fn put(bytes: &mut [u8], at: usize, what: &[u8]) {
    if let Some(place) = bytes.get_mut(at..at + what.len()) {
        place.copy_from_slice(what);
    }
}

impl Part {
    pub(super) fn ty(&self) -> EventType {
        EventType(self.bytes.get(4).copied().unwrap_or(0))
    }

    pub(super) fn body(&self) -> &[u8] {
        self.bytes.get(HEADER_BYTES..).unwrap_or_default()
    }

    pub(super) fn with_body(&self, body: &[u8]) -> Self {
        let mut bytes = self.bytes.clone();
        bytes.truncate(HEADER_BYTES);
        bytes.extend_from_slice(body);
        Self { bytes, sealed: self.sealed }
    }

    /// With length and checksum as they must be.
    fn join(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&self.bytes);
        let length = self.bytes.len() + if self.sealed { 4 } else { 0 };
        let event = out.get_mut(start..).unwrap_or_default();
        put(event, 9, &(length as u32).to_le_bytes());
        if self.sealed {
            let mut summed = event.to_vec();
            if self.ty() == EventType::FORMAT_DESCRIPTION {
                // The mark of a file in use is not part of it.
                summed.iter_mut().skip(17).take(1).for_each(|b| *b &= !1);
            }
            out.extend_from_slice(&crc32fast::hash(&summed).to_le_bytes());
        }
    }
}

impl Parts {
    /// A file's.
    pub(super) fn of_file(file: &[u8]) -> Self {
        Self::of_stream(file.strip_prefix(&MAGIC).unwrap_or(file), false)
    }

    /// Events as they stand in a payload, or in a file behind its magic number.
    pub(super) fn of_stream(mut rest: &[u8], mut sealed: bool) -> Self {
        let mut events = Vec::new();
        while rest.len() >= HEADER_BYTES {
            // What is longer than the file, or shorter than its header, goes to the file's end.
            let length = u32_at(rest, 9);
            let length = if (HEADER_BYTES..=rest.len()).contains(&length) { length } else { rest.len() };
            let (event, tail) = rest.split_at(length);
            if event.get(4) == Some(&EventType::FORMAT_DESCRIPTION.0) {
                sealed = FormatDescription::parse(event).is_ok_and(|f| f.checksum == Checksum::Crc32);
            }
            let sum = if sealed && length >= HEADER_BYTES + 4 { 4 } else { 0 };
            let bytes = event.get(..length - sum).unwrap_or_default().to_vec();
            events.push(Part { bytes, sealed });
            rest = tail;
        }
        Self { events, rest: rest.to_vec() }
    }

    /// As a file.
    pub(super) fn file(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        self.join(&mut out);
        out
    }

    pub(super) fn join(&self, out: &mut Vec<u8>) {
        self.events.iter().for_each(|event| event.join(out));
        out.extend_from_slice(&self.rest);
    }
}

/// Appends a packed integer.
fn packed(out: &mut Vec<u8>, n: u64) {
    match n {
        0..=250 => out.push(n as u8),
        251..=0xffff => {
            out.push(252);
            out.extend_from_slice(&(n as u16).to_le_bytes());
        }
        _ => {
            out.push(254);
            out.extend_from_slice(&n.to_le_bytes());
        }
    }
}

/// The events in a TRANSACTION_PAYLOAD's body.
pub(super) fn open_payload(body: &[u8]) -> Option<Parts> {
    let payload = Payload::parse(body).ok()?;
    let inflated = zstd::bulk::decompress(payload.bytes, 1 << 20).ok()?;
    Some(Parts::of_stream(&inflated, false))
}

/// The body of a TRANSACTION_PAYLOAD with these events.
pub(super) fn close_payload(parts: &Parts) -> Vec<u8> {
    let mut inflated = Vec::new();
    parts.join(&mut inflated);
    let stored = zstd::bulk::compress(&inflated, 1).unwrap_or_default();
    let (mut body, mut value) = (Vec::new(), Vec::new());
    for (field, n) in [(2, 0), (3, inflated.len()), (1, stored.len())] {
        value.clear();
        packed(&mut value, n as u64);
        body.extend([field, value.len() as u8]);
        body.extend_from_slice(&value);
    }
    body.push(0);
    body.extend_from_slice(&stored);
    body
}

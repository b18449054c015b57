//! One copy of the identity as bytes.
//!
//! ```text
//! 0 magic "dtID" | 4 version u8 (1) | 5 zero u8 × 3 | 8 crc32c u32 of 4..8 and 12..512 | 12 length u16
//! 14 generation u64 | 22 payload (postcard) | zeros up to 512
//! ```
//!
//! Little-endian. The payload only ever grows at its end; a newer version keeps the head. 512 bytes are one sector: they are
//! overwritten in place, which needs no space on a full disk, one copy after the other.

use serde::{Deserialize, Serialize};

use crate::clock::Boot;

pub(super) const RECORD_BYTES: usize = 512;
const MAGIC: &[u8; 4] = b"dtID";
const VERSION: u8 = 1;
const HEAD_BYTES: usize = 22;

/// What the link and the clock want to know after a restart. Lost without harm.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// How far the back-off between sessions has grown ([`crate::link`]'s policy).
    pub backoff_level: u8,
    /// Last time that a verified centre confirmed, in seconds since 1970 UTC: TLS's floor.
    pub floor_s: u64,
    /// Bytes of the data budget used in the current day.
    pub budget_spent_bytes: u64,
    /// Seconds that were left of that day.
    pub budget_left_s: u32,
    /// What is known of the clocks of the last boots, newest last; eight are kept.
    pub boots: Vec<Boot>,
}

/// All that a copy holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// Random, made once per installation.
    pub(super) instance: u64,
    /// Number of the last epoch that was given out.
    pub(super) number: u32,
    pub(super) memory: Memory,
}

/// Why a copy cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// Torn, flipped, or not ours.
    Damaged,
    /// Written by a dts that this one does not understand.
    Newer(u8),
}

/// Most boots that fit.
const MAX_BOOTS: usize = 8;

pub(super) fn encode(record: &Record, generation: u64) -> [u8; RECORD_BYTES] {
    let mut record = record.clone();
    let spare = record.memory.boots.len().saturating_sub(MAX_BOOTS);
    record.memory.boots.drain(..spare);
    let mut out = [0; RECORD_BYTES];
    let (head, body) = out.split_at_mut(HEAD_BYTES);
    // 8 boots of at most 31 bytes and 40 bytes beside them fit, so this cannot fail.
    let length = postcard::to_slice(&record, body).map_or(0, |used| used.len());
    head[..4].copy_from_slice(MAGIC);
    head[4] = VERSION;
    head[12..14].copy_from_slice(&(length as u16).to_le_bytes());
    head[14..22].copy_from_slice(&generation.to_le_bytes());
    seal(&mut out);
    out
}

fn crc_of(raw: &[u8; RECORD_BYTES]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&raw[4..8]), &raw[12..])
}

/// Writes the checksum of what stands there.
pub(super) fn seal(raw: &mut [u8; RECORD_BYTES]) {
    let crc = crc_of(raw);
    raw[8..12].copy_from_slice(&crc.to_le_bytes());
}

pub(super) fn decode(raw: &[u8]) -> Result<(Record, u64), Unreadable> {
    let bad = Unreadable::Damaged;
    let raw: &[u8; RECORD_BYTES] = raw.try_into().map_err(|_| bad)?;
    let crc = u32::from_le_bytes([raw[8], raw[9], raw[10], raw[11]]);
    if !raw.starts_with(MAGIC) || crc_of(raw) != crc {
        return Err(bad);
    }
    if raw[4] > VERSION {
        return Err(Unreadable::Newer(raw[4]));
    }
    let length = usize::from(u16::from_le_bytes([raw[12], raw[13]]));
    let generation = raw[14..22].try_into().map(u64::from_le_bytes).map_err(|_| bad)?;
    let payload = raw.get(HEAD_BYTES..HEAD_BYTES + length).ok_or(bad)?;
    let (record, _) = postcard::take_from_bytes(payload).map_err(|_| bad)?;
    Ok((record, generation))
}

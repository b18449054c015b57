//! The checksum at the end of every event.
//!
//! CRC-32 (IEEE 802.3, as in zlib) over the event without its last four bytes, little-endian.
//! Which algorithm a file has is told by the last byte but four of its FORMAT_DESCRIPTION.
//! Source: MySQL's `libs/mysql/binlog/event/binlog_event.h`, `enum_binlog_checksum_alg`.

use super::crc32;
use super::error::Problem;
use super::header::flags;

/// How events end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Checksum {
    /// `binlog_checksum=NONE`, or a server older than 5.6.1.
    #[default]
    None,
    /// Four bytes of CRC-32.
    Crc32,
}

impl Checksum {
    /// From the byte in the FORMAT_DESCRIPTION.
    pub fn from_u8(n: u8) -> Result<Self, Problem> {
        match n {
            0 => Ok(Self::None),
            1 => Ok(Self::Crc32),
            n => Err(Problem::UnknownChecksum(n)),
        }
    }

    /// Bytes at the end of every event.
    pub fn bytes(self) -> usize {
        match self {
            Self::None => 0,
            Self::Crc32 => 4,
        }
    }
}

/// Checks the last four bytes of `event` against the rest.
#[inline]
pub fn verify(event: &[u8]) -> Result<(), Problem> {
    let Some((body, tail)) = event.split_last_chunk::<4>() else {
        return Err(Problem::Length { found: event.len() as u32, least: 4 });
    };
    let (expected, found) = (u32::from_le_bytes(*tail), crc32::hash(body));
    if expected == found { Ok(()) } else { Err(Problem::Checksum { expected, found }) }
}

/// The same for a FORMAT_DESCRIPTION: the server sets and clears its flag `BINLOG_IN_USE` in place
/// and leaves the checksum, which is that of the event without the flag.
pub fn verify_format(event: &[u8]) -> Result<(), Problem> {
    const FLAGS: usize = 17;
    let Some((body, tail)) = event.split_last_chunk::<4>() else {
        return Err(Problem::Length { found: event.len() as u32, least: 4 });
    };
    let mut hasher = crc32fast::Hasher::new();
    match (body.get(..FLAGS), body.get(FLAGS), body.get(FLAGS + 1..)) {
        (Some(head), Some(&low), Some(rest)) => {
            hasher.update(head);
            hasher.update(&[low & !(flags::BINLOG_IN_USE as u8)]);
            hasher.update(rest);
        }
        _ => return Err(Problem::Length { found: event.len() as u32, least: 23 }),
    }
    let (expected, found) = (u32::from_le_bytes(*tail), hasher.finalize());
    if expected == found { Ok(()) } else { Err(Problem::Checksum { expected, found }) }
}

//! The bytes between a device and the centre: one PUBLISH payload, exactly one batch.
//!
//! ```text
//! 0 magic "dT" | 2 version u8 | 3 codec u8 | 4 crc32c u32 of all after it | 8 header length u16
//! 10 header (postcard of Header) … body (one batch body, compressed by codec)
//! ```
//!
//! The codec is 0 for none, 1 for an LZ4 block, 2 for a Zstandard frame, 3 for a Zstandard frame that
//! names, by the id in its own header (RFC 8878 section 3.1.1.1.3), the dictionary that it needs.
//!
//! Integers are little-endian. The crc is checked before anything is read, the raw length against
//! a limit before anything is inflated. `Header` is an enum that only grows at its end; golden
//! bytes pin each version.

mod codec;
#[cfg(test)]
mod tests;
#[cfg_attr(feature = "zstd", path = "zstd_enabled.rs")]
#[cfg_attr(not(feature = "zstd"), path = "zstd_disabled.rs")]
mod zstd;

pub use codec::{Codec, FrameError, decode, decode_with, encode, encode_with};
pub use zstd::Dictionary;

use serde::{Deserialize, Serialize};

/// The version of the layout that this code writes.
pub const VERSION: u8 = 1;

/// The header, by version of its content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Header {
    /// The first.
    V1(HeaderV1),
}

/// What the centre must know of a batch before it opens the body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeaderV1 {
    /// Name of the lane.
    pub lane: String,
    /// Its epoch.
    pub epoch: u64,
    /// Lowest sequence number of this epoch that the device still holds: all below is acknowledged
    /// or named by a loss record.
    pub base: u64,
    /// Sequence number of ordinal 0.
    pub first_seq: u64,
    /// Sequence number that the batch ends at, inclusive.
    pub last_seq: u64,
    /// Rows in the body.
    pub rows: u32,
    /// crc32c of the body as stored, uncompressed.
    pub body_crc: u32,
    /// Bytes of the body, uncompressed.
    pub body_len: u32,
    /// Name of the source in the device's config (of the first row).
    pub source: String,
    /// 0 unknown, 1 estimated, 2 synced: the device's clock when the rows were made.
    pub clock: u8,
    /// For rows stamped with monotonic microseconds: what to add to get µs since 1970 UTC.
    pub boot_offset_us: Option<i64>,
    /// Shapes that the body refers to and that the peer is not known to hold: `Table::encode`.
    pub tables: Vec<Vec<u8>>,
}

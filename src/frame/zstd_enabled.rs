//! Zstandard bodies, in builds with the feature `zstd`.

use super::FrameError;

/// Level 3: zstd's own default.
const LEVEL: i32 = 3;

pub(super) fn compress(body: &[u8]) -> Result<Vec<u8>, FrameError> {
    ::zstd::bulk::compress(body, LEVEL).map_err(|_| FrameError::Malformed("zstd body"))
}

/// Never makes more than `len` bytes.
pub(super) fn decompress(packed: &[u8], len: usize) -> Result<Vec<u8>, FrameError> {
    ::zstd::bulk::decompress(packed, len).map_err(|_| FrameError::Malformed("zstd body"))
}

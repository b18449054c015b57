//! Zstandard bodies, in builds without the feature `zstd`: refused by name.

use super::{Codec, FrameError};

pub(super) fn compress(_body: &[u8]) -> Result<Vec<u8>, FrameError> {
    Err(FrameError::Codec(Codec::Zstd as u8))
}

pub(super) fn decompress(_packed: &[u8], _len: usize) -> Result<Vec<u8>, FrameError> {
    Err(FrameError::Codec(Codec::Zstd as u8))
}

//! Zstandard bodies, in builds without the feature `zstd`: refused by name.

use std::path::Path;

use super::{Codec, FrameError};

/// A dictionary of Zstandard; there is none in this build.
#[derive(Clone, Debug)]
pub struct Dictionary(std::convert::Infallible);

impl Dictionary {
    /// Says which feature to rebuild with.
    pub fn open(path: &Path) -> Result<Self, String> {
        Err(format!("{}: dictionaries are not compiled in: rebuild with `--features zstd`", path.display()))
    }

    /// None.
    pub fn new(_bytes: &[u8]) -> Option<Self> {
        None
    }

    /// The id that it carries.
    pub fn id(&self) -> u32 {
        match self.0 {}
    }
}

pub(super) fn compress(_body: &[u8]) -> Result<Vec<u8>, FrameError> {
    Err(FrameError::Codec(Codec::Zstd as u8))
}

pub(super) fn decompress(_packed: &[u8], _len: usize) -> Result<Vec<u8>, FrameError> {
    Err(FrameError::Codec(Codec::Zstd as u8))
}

pub(super) fn compress_with(_body: &[u8], dictionary: &Dictionary) -> Result<Vec<u8>, FrameError> {
    match dictionary.0 {}
}

pub(super) fn decompress_with(
    _packed: &[u8],
    _len: usize,
    _dictionaries: &[Dictionary],
) -> Result<Vec<u8>, FrameError> {
    Err(FrameError::Codec(super::codec::ZSTD_WITH_DICTIONARY))
}

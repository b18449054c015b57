//! Zstandard bodies, in builds with the feature `zstd`.

use std::path::Path;
use std::sync::Arc;

use ::zstd::bulk::{Compressor, Decompressor};
use ::zstd::dict::{DecoderDictionary, EncoderDictionary};
use ::zstd::zstd_safe::{get_dict_id_from_dict, get_dict_id_from_frame};

use super::FrameError;

/// Level 3: zstd's own default.
const LEVEL: i32 = 3;
/// Larger dictionaries gain nothing: what `zstd --train` makes has 110 KiB.
const MAX_BYTES: u64 = 1 << 20;

/// A dictionary as `zstd --train` makes it. It carries its own id, by which frames name it. Memory: about
/// three times the file. Cheap to clone.
#[derive(Clone)]
pub struct Dictionary(Arc<Inner>);

struct Inner {
    id: u32,
    encoder: EncoderDictionary<'static>,
    decoder: DecoderDictionary<'static>,
}

impl Dictionary {
    /// Reads a file. The error is a sentence for people.
    pub fn open(path: &Path) -> Result<Self, String> {
        let fail = |why: &dyn std::fmt::Display| format!("read {}: {why}", path.display());
        let size = std::fs::metadata(path).map_err(|e| fail(&e))?.len();
        if size > MAX_BYTES {
            return Err(fail(&format!("larger than {MAX_BYTES} bytes")));
        }
        let bytes = std::fs::read(path).map_err(|e| fail(&e))?;
        Self::new(&bytes).ok_or_else(|| fail(&"it is no dictionary of `zstd --train`"))
    }

    /// From the bytes of such a file; `None` if they are something else. Raw content without an id is
    /// none: frames could not name it.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        let id = get_dict_id_from_dict(bytes)?.get();
        let (encoder, decoder) = (EncoderDictionary::copy(bytes, LEVEL), DecoderDictionary::copy(bytes));
        Some(Self(Arc::new(Inner { id, encoder, decoder })))
    }

    /// The id that it carries, never 0.
    pub fn id(&self) -> u32 {
        self.0.id
    }
}

impl std::fmt::Debug for Dictionary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dictionary").field("id", &self.0.id).finish()
    }
}

pub(super) fn compress(body: &[u8]) -> Result<Vec<u8>, FrameError> {
    ::zstd::bulk::compress(body, LEVEL).map_err(|_| FrameError::Malformed("zstd body"))
}

/// Never makes more than `len` bytes.
pub(super) fn decompress(packed: &[u8], len: usize) -> Result<Vec<u8>, FrameError> {
    ::zstd::bulk::decompress(packed, len).map_err(|_| FrameError::Malformed("zstd body"))
}

pub(super) fn compress_with(body: &[u8], dictionary: &Dictionary) -> Result<Vec<u8>, FrameError> {
    let compressor = Compressor::with_prepared_dictionary(&dictionary.0.encoder);
    compressor.and_then(|mut c| c.compress(body)).map_err(|_| FrameError::Malformed("zstd body"))
}

/// Never makes more than `len` bytes.
pub(super) fn decompress_with(
    packed: &[u8],
    len: usize,
    dictionaries: &[Dictionary],
) -> Result<Vec<u8>, FrameError> {
    let bad = FrameError::Malformed("zstd body");
    let Some(id) = get_dict_id_from_frame(packed) else { return Err(bad) };
    let known = dictionaries.iter().find(|d| d.id() == id.get());
    let dictionary = known.ok_or_else(|| FrameError::Dictionary(id.get()))?;
    let decompressor = Decompressor::with_prepared_dictionary(&dictionary.0.decoder);
    decompressor.and_then(|mut d| d.decompress(packed, len)).map_err(|_| bad)
}

#[cfg(test)]
#[path = "zstd_tests.rs"]
mod tests;

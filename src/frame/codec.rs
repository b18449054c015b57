//! Header and body to bytes and back.

use bytes::Bytes;

use super::{Dictionary, Header, VERSION};

const MAGIC: &[u8; 2] = b"dT";
const FIXED: usize = 10;
/// The codec byte of Zstandard with a dictionary.
pub(super) const ZSTD_WITH_DICTIONARY: u8 = 3;

/// How a body is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Codec {
    /// As it is.
    None = 0,
    /// LZ4 block. The default.
    Lz4 = 1,
    /// Zstandard (feature `zstd`).
    Zstd = 2,
}

/// A frame that cannot be read. The connection that it came on is not to be trusted further.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Cut short, or another protocol.
    #[error("no dts frame: {0}")]
    Malformed(&'static str),
    /// Written by a newer dts.
    #[error("frame version {0} is newer than this dts reads ({VERSION}); upgrade the centre")]
    Version(u8),
    /// A compression that is unknown or not compiled in.
    #[error("frame codec {0} is not compiled in; rebuild with `--features zstd`, or use codec lz4")]
    Codec(u8),
    /// Compressed with a dictionary that is not there.
    #[error("zstd dictionary {0} is not known here; name its file in `zstd_dictionary_files`")]
    Dictionary(u32),
    /// Damaged on the way.
    #[error("frame checksum is wrong")]
    Checksum,
    /// The body would be larger than allowed.
    #[error("frame body of {len} bytes is over the limit of {max}")]
    TooLarge {
        /// Bytes announced.
        len: u64,
        /// The limit.
        max: usize,
    },
}

/// Writes a frame. Falls back to no compression where it would not make the body smaller.
pub fn encode(header: &Header, body: &[u8], codec: Codec) -> Result<Vec<u8>, FrameError> {
    encode_with(header, body, codec, None)
}

/// As [`encode`]; [`Codec::Zstd`] with a dictionary, if there is one.
pub fn encode_with(
    header: &Header,
    body: &[u8],
    codec: Codec,
    dictionary: Option<&Dictionary>,
) -> Result<Vec<u8>, FrameError> {
    let head = postcard::to_allocvec(header).map_err(|_| FrameError::Malformed("header"))?;
    let head_len = u16::try_from(head.len())
        .map_err(|_| FrameError::TooLarge { len: head.len() as u64, max: 65_535 })?;
    let (byte, packed) = match (codec, dictionary) {
        (Codec::Zstd, Some(d)) => (ZSTD_WITH_DICTIONARY, Some(super::zstd::compress_with(body, d)?)),
        _ => (codec as u8, compress(body, codec)?),
    };
    let packed = packed.filter(|p| p.len() < body.len());
    let byte = if packed.is_some() { byte } else { Codec::None as u8 };
    let body = packed.as_deref().unwrap_or(body);
    let mut out = Vec::with_capacity(FIXED + head.len() + body.len());
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&[VERSION, byte, 0, 0, 0, 0]);
    out.extend_from_slice(&head_len.to_le_bytes());
    out.extend_from_slice(&head);
    out.extend_from_slice(body);
    let crc = crc32c::crc32c(&out[8..]);
    out[4..8].copy_from_slice(&crc.to_le_bytes());
    Ok(out)
}

/// Reads a frame: its header, and its body uncompressed and checked against the header's crc.
pub fn decode(frame: &Bytes, max_body: usize) -> Result<(Header, Bytes), FrameError> {
    decode_with(frame, max_body, &[])
}

/// As [`decode`], with the dictionaries that frames may name.
pub fn decode_with(
    frame: &Bytes,
    max_body: usize,
    dictionaries: &[Dictionary],
) -> Result<(Header, Bytes), FrameError> {
    const CUT: FrameError = FrameError::Malformed("cut short");
    let bad = FrameError::Malformed;
    let (fixed, rest) = frame.split_at_checked(FIXED).ok_or(CUT)?;
    if &fixed[..2] != MAGIC {
        return Err(bad("wrong magic"));
    }
    if fixed[2] != VERSION {
        return Err(FrameError::Version(fixed[2]));
    }
    let crc = u32::from_le_bytes([fixed[4], fixed[5], fixed[6], fixed[7]]);
    if crc32c::crc32c(&frame[8..]) != crc {
        return Err(FrameError::Checksum);
    }
    let head_len = usize::from(u16::from_le_bytes([fixed[8], fixed[9]]));
    let (head, packed) = rest.split_at_checked(head_len).ok_or(CUT)?;
    let Ok((header, [])) = postcard::take_from_bytes::<Header>(head) else { return Err(bad("header")) };
    let Header::V1(h) = &header;
    let len = h.body_len as usize;
    if len > max_body {
        return Err(FrameError::TooLarge { len: u64::from(h.body_len), max: max_body });
    }
    let start = frame.len() - packed.len();
    let body = match fixed[3] {
        0 => frame.slice(start..),
        1 => lz4_flex::block::decompress(packed, len).map_err(|_| bad("lz4 body"))?.into(),
        ZSTD_WITH_DICTIONARY => super::zstd::decompress_with(packed, len, dictionaries)?.into(),
        n => inflate_other(n, packed, len)?.into(),
    };
    if body.len() != len {
        return Err(bad("body length"));
    }
    if crc32c::crc32c(&body) != h.body_crc {
        return Err(FrameError::Checksum);
    }
    Ok((header, body))
}

fn compress(body: &[u8], codec: Codec) -> Result<Option<Vec<u8>>, FrameError> {
    match codec {
        Codec::None => Ok(None),
        Codec::Lz4 => Ok(Some(lz4_flex::block::compress(body))),
        Codec::Zstd => super::zstd::compress(body).map(Some),
    }
}

fn inflate_other(codec: u8, packed: &[u8], len: usize) -> Result<Vec<u8>, FrameError> {
    if codec == Codec::Zstd as u8 {
        super::zstd::decompress(packed, len)
    } else {
        Err(FrameError::Codec(codec))
    }
}

//! TRANSACTION_PAYLOAD: a transaction's events, compressed.
//!
//! ```text
//! (1 | length | payload bytes) (2 | length | compression) (3 | length | inflated bytes) 0 | payload     all packed integers
//! ```
//!
//! The payload is a stream of events without checksums, as a Zstandard frame (0) or as it is (255).
//! Source: MySQL's `libs/mysql/binlog/event/codecs/binary.cpp`, `Transaction_payload`.

use super::bytes::Bytes;
use super::error::{Malformed, Problem};

/// How a payload is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// A Zstandard frame.
    Zstd,
    /// As it is.
    None,
}

/// The head of a payload event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Payload<'a> {
    /// How it is stored.
    pub compression: Compression,
    /// Bytes as stored.
    pub stored_bytes: u64,
    /// Bytes after inflating, as the server says.
    pub inflated_bytes: Option<u64>,
    /// The stored bytes; for an event that the reader streams, only the first of them.
    pub bytes: &'a [u8],
}

impl<'a> Payload<'a> {
    /// `body` is what stands behind the header, without the checksum, or at least its beginning.
    pub(crate) fn parse(body: &'a [u8]) -> Result<Self, Malformed> {
        let mut b = Bytes(body);
        let (mut stored, mut compression, mut inflated_bytes) = (None, None, None);
        loop {
            let field = b.packed("a payload field")?;
            if field == 0 {
                break;
            }
            let len = b.packed_len("a payload field's length")?;
            let mut value = Bytes(b.take(len, "a payload field's value")?);
            match field {
                1 => stored = Some(value.packed("the payload's size")?),
                2 => compression = Some(value.packed("the payload's compression")?),
                3 => inflated_bytes = Some(value.packed("the payload's inflated size")?),
                _ => {}
            }
        }
        let compression = match compression {
            Some(0) => Compression::Zstd,
            Some(255) => Compression::None,
            other => {
                let expected = "compression 0 (zstd) or 255 (none)";
                return Err(Malformed::Invalid { expected, found: other.unwrap_or(u64::MAX) });
            }
        };
        let stored_bytes = stored.unwrap_or(b.len() as u64);
        Ok(Self { compression, stored_bytes, inflated_bytes, bytes: b.0 })
    }
}

/// Inflates payloads, one after the other, in the memory of one.
pub(super) struct Zstd {
    raw: ::zstd::stream::raw::Decoder<'static>,
    /// Between frames: the input may end.
    pub(super) at_frame_end: bool,
}

impl std::fmt::Debug for Zstd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Zstd").field("at_frame_end", &self.at_frame_end).finish_non_exhaustive()
    }
}

fn failed(why: std::io::Error) -> Problem {
    Problem::Inflate { what: "the transaction's payload", why: why.to_string().into() }
}

impl Zstd {
    pub(super) fn new(window_log_max: u32) -> Result<Self, Problem> {
        let mut raw = ::zstd::stream::raw::Decoder::new().map_err(failed)?;
        raw.set_parameter(::zstd::stream::raw::DParameter::WindowLogMax(window_log_max)).map_err(failed)?;
        Ok(Self { raw, at_frame_end: true })
    }

    /// For the next payload.
    pub(super) fn reset(&mut self) -> Result<(), Problem> {
        use ::zstd::stream::raw::Operation;
        self.at_frame_end = true;
        self.raw.reinit().map_err(failed)
    }

    /// Bytes taken from `input` and made in `output`.
    pub(super) fn run(&mut self, input: &[u8], output: &mut [u8]) -> Result<(usize, usize), Problem> {
        use ::zstd::stream::raw::Operation;
        let status = self.raw.run_on_buffers(input, output).map_err(failed)?;
        self.at_frame_end = status.remaining == 0;
        Ok((status.bytes_read, status.bytes_written))
    }
}

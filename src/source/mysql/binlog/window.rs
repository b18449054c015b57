//! A buffer that slides over a stream of bytes.

use super::error::Problem;

/// A buffer that a large event made larger than this is given back. Not below: events of some mebibytes
/// follow each other, and to take and give back memory for each costs more than to read it.
const KEEP: usize = 8 << 20;

/// Bytes `lo..hi` of `buf` are there and not yet used.
#[derive(Debug)]
pub(super) struct Window {
    buf: Vec<u8>,
    lo: usize,
    hi: usize,
    /// What it has when nothing asks for more.
    usual: usize,
}

impl Window {
    pub(super) fn new(usual: usize) -> Self {
        Self { buf: vec![0; usual], lo: 0, hi: 0, usual }
    }

    /// One without memory, which it takes when it is asked for room.
    pub(super) fn empty(usual: usize) -> Self {
        Self { buf: Vec::new(), lo: 0, hi: 0, usual }
    }

    #[inline]
    pub(super) fn data(&self) -> &[u8] {
        self.buf.get(self.lo..self.hi).unwrap_or_default()
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.hi - self.lo
    }

    #[inline]
    pub(super) fn consume(&mut self, n: usize) {
        self.lo = (self.lo + n).min(self.hi);
    }

    pub(super) fn clear(&mut self) {
        (self.lo, self.hi) = (0, 0);
        if self.buf.len() > KEEP.max(self.usual) {
            self.buf = Vec::new();
        }
    }

    /// At least `bytes` of room for bytes that are sure to come; no more than a bound of the caller.
    pub(super) fn widen(&mut self, bytes: usize) {
        if self.buf.len() < bytes {
            self.buf.resize(bytes, 0);
        }
    }

    /// Room behind what is there, made by moving it to the front and, if that makes none, by
    /// doubling: memory grows only with bytes that came. `max` bounds what is there.
    pub(super) fn room(&mut self, what: &'static str, max: usize) -> Result<&mut [u8], Problem> {
        if self.lo == self.hi {
            if self.buf.len() > KEEP.max(self.usual) {
                self.buf.truncate(self.usual);
                self.buf.shrink_to_fit();
            }
            (self.lo, self.hi) = (0, 0);
        } else if self.lo > 0 {
            self.buf.copy_within(self.lo..self.hi, 0);
            (self.lo, self.hi) = (0, self.hi - self.lo);
        }
        if self.hi == self.buf.len() {
            if self.hi >= max {
                return Err(Problem::TooLarge { what, max: max as u64 });
            }
            let len = (self.buf.len() * 2).clamp(4096, max);
            self.buf.reserve_exact(len - self.buf.len());
            self.buf.resize(len, 0);
        }
        Ok(self.buf.get_mut(self.hi..).unwrap_or_default())
    }

    /// `n` bytes were put into [`Self::room`].
    pub(super) fn filled(&mut self, n: usize) {
        self.hi = (self.hi + n).min(self.buf.len());
    }
}

//! Packets: `length u24 | sequence u8 | payload`. A payload of 16 MiB - 1 goes on in the next packet.
//!
//! Source: MySQL's "Protocol::Packet".

use super::error::ClientError;

/// A payload of this length goes on in the next packet.
pub(super) const FULL: usize = 0xff_ffff;
/// Bytes of a packet's head.
pub(super) const HEAD: usize = 4;
/// Bytes read at once.
const BUFFER: usize = 128 << 10;

/// What came from the server and is not used yet.
#[derive(Debug)]
pub(super) struct Packets {
    buf: Vec<u8>,
    lo: usize,
    hi: usize,
    /// Of the next packet.
    pub(super) sequence: u8,
}

impl Packets {
    pub(super) fn new() -> Self {
        Self { buf: vec![0; BUFFER], lo: 0, hi: 0, sequence: 0 }
    }

    /// Where the next bytes go. Never empty as long as a head's worth is taken out when it is there.
    pub(super) fn room(&mut self) -> &mut [u8] {
        if self.lo > 0 {
            self.buf.copy_within(self.lo..self.hi, 0);
            (self.lo, self.hi) = (0, self.hi - self.lo);
        }
        self.buf.get_mut(self.hi..).unwrap_or_default()
    }

    /// `n` bytes were put into [`Self::room`].
    pub(super) fn filled(&mut self, n: usize) {
        self.hi = (self.hi + n).min(self.buf.len());
    }

    /// What is there.
    pub(super) fn data(&self) -> &[u8] {
        self.buf.get(self.lo..self.hi).unwrap_or_default()
    }

    pub(super) fn consume(&mut self, n: usize) {
        self.lo = (self.lo + n).min(self.hi);
    }

    /// Takes the head of the next packet: its length. `None` if it is not there yet.
    pub(super) fn head(&mut self) -> Result<Option<usize>, ClientError> {
        let Some(&[a, b, c, sequence]) = self.data().first_chunk::<HEAD>() else { return Ok(None) };
        if sequence != self.sequence {
            return Err(ClientError::Protocol("a packet is out of order"));
        }
        self.sequence = sequence.wrapping_add(1);
        self.consume(HEAD);
        Ok(Some(usize::from(a) | usize::from(b) << 8 | usize::from(c) << 16))
    }
}

/// Joins one payload out of what [`Packets`] has.
#[derive(Debug, Default)]
pub(super) struct Joiner {
    payload: Vec<u8>,
    /// Bytes of the packet at hand that are still to come; `None` between packets.
    left: Option<usize>,
    goes_on: bool,
}

impl Joiner {
    /// For a payload of which the head of the first packet was taken.
    pub(super) fn begun(length: usize) -> Self {
        Self { payload: Vec::new(), left: Some(length), goes_on: length == FULL }
    }

    /// Takes what is there; the payload once it is whole.
    pub(super) fn take(
        &mut self,
        packets: &mut Packets,
        max: usize,
        what: &'static str,
    ) -> Result<Option<Vec<u8>>, ClientError> {
        loop {
            let left = match self.left {
                Some(left) => left,
                None => match packets.head()? {
                    None => return Ok(None),
                    Some(length) => {
                        if self.payload.len() + length > max {
                            return Err(ClientError::TooLarge { what, max });
                        }
                        self.goes_on = length == FULL;
                        length
                    }
                },
            };
            let here = packets.data();
            let some = here.get(..left).unwrap_or(here);
            self.payload.extend_from_slice(some);
            let taken = some.len();
            packets.consume(taken);
            if taken < left {
                self.left = Some(left - taken);
                return Ok(None);
            }
            self.left = None;
            if !self.goes_on {
                return Ok(Some(std::mem::take(&mut self.payload)));
            }
        }
    }
}

/// Appends `payload` as packets, from `sequence` on.
pub(super) fn encode(payload: &[u8], sequence: &mut u8, out: &mut Vec<u8>) {
    let mut rest = payload;
    loop {
        let (now, later) = rest.split_at(rest.len().min(FULL));
        let [a, b, c, ..] = (now.len() as u32).to_le_bytes();
        out.extend_from_slice(&[a, b, c, *sequence]);
        out.extend_from_slice(now);
        *sequence = sequence.wrapping_add(1);
        rest = later;
        if now.len() < FULL {
            return;
        }
    }
}

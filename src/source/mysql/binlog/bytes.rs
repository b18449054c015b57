//! Walks bytes from the front. Every read names what it reads, so that an error can.

use super::error::Malformed;

/// The rest of some bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bytes<'a>(pub(crate) &'a [u8]);

impl<'a> Bytes<'a> {
    #[inline]
    pub(crate) fn take(&mut self, n: usize, what: &'static str) -> Result<&'a [u8], Malformed> {
        let (head, tail) = self.0.split_at_checked(n).ok_or(Malformed::Ends(what))?;
        self.0 = tail;
        Ok(head)
    }

    #[inline]
    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], Malformed> {
        let (head, tail) = self.0.split_first_chunk().ok_or(Malformed::Ends(what))?;
        self.0 = tail;
        Ok(*head)
    }

    pub(crate) fn u8(&mut self, what: &'static str) -> Result<u8, Malformed> {
        self.array::<1>(what).map(|b| b[0])
    }

    pub(crate) fn u16(&mut self, what: &'static str) -> Result<u16, Malformed> {
        self.array(what).map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self, what: &'static str) -> Result<u32, Malformed> {
        self.array(what).map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self, what: &'static str) -> Result<u64, Malformed> {
        self.array(what).map(u64::from_le_bytes)
    }

    pub(crate) fn i64(&mut self, what: &'static str) -> Result<i64, Malformed> {
        self.array(what).map(i64::from_le_bytes)
    }

    /// Seven bytes.
    pub(crate) fn u56(&mut self, what: &'static str) -> Result<u64, Malformed> {
        self.array::<7>(what).map(|b| le(&b))
    }

    pub(crate) fn uuid(&mut self, what: &'static str) -> Result<[u8; 16], Malformed> {
        self.array(what)
    }

    /// A length-encoded integer (protocol page "Protocol::LengthEncodedInteger", in the binlog
    /// "packed integer"): below 251 one byte, else 252, 253, 254 and 2, 3, 8 bytes.
    pub(crate) fn packed(&mut self, what: &'static str) -> Result<u64, Malformed> {
        match self.u8(what)? {
            n @ 0..=250 => Ok(u64::from(n)),
            252 => self.u16(what).map(u64::from),
            253 => self.array::<3>(what).map(|b| le(&b)),
            254 => self.u64(what),
            n => Err(Malformed::Invalid { expected: "a packed integer", found: u64::from(n) }),
        }
    }

    /// A packed integer that counts bytes or things in memory.
    pub(crate) fn packed_len(&mut self, what: &'static str) -> Result<usize, Malformed> {
        let n = self.packed(what)?;
        usize::try_from(n).map_err(|_| Malformed::Invalid { expected: what, found: n })
    }

    /// An integer of `mysql::serialization` ("Library mysql::serialization", variable-length
    /// integers): as many more bytes follow the first as its lowest bits are ones before a zero.
    pub(crate) fn varlen(&mut self, what: &'static str) -> Result<u64, Malformed> {
        let first = *self.0.first().ok_or(Malformed::Ends(what))?;
        let more = first.trailing_ones() as usize;
        let raw = self.take(more + 1, what)?;
        // With eight more bytes the first has no room for a bit of the number.
        Ok(if more == 8 { le(&raw[1..]) } else { le(raw) >> (more + 1) })
    }

    /// The same, signed: the lowest bit is the sign, a negative number stored as its complement.
    pub(crate) fn varlen_signed(&mut self, what: &'static str) -> Result<i64, Malformed> {
        let n = self.varlen(what)?;
        Ok((n >> 1) as i64 ^ -((n & 1) as i64))
    }

    /// Bytes up to `end`, which is taken too.
    pub(crate) fn until(&mut self, end: u8, what: &'static str) -> Result<&'a [u8], Malformed> {
        let at = self.0.iter().position(|&b| b == end).ok_or(Malformed::Ends(what))?;
        let (head, tail) = (&self.0[..at], &self.0[at + 1..]);
        self.0 = tail;
        Ok(head)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Nothing may be left.
    pub(crate) fn end(&self) -> Result<(), Malformed> {
        if self.0.is_empty() { Ok(()) } else { Err(Malformed::Trailing(self.0.len())) }
    }
}

/// Up to eight little-endian bytes.
#[inline]
pub(crate) fn le(raw: &[u8]) -> u64 {
    // By length, since a copy of so many bytes as there happen to be is a call.
    match *raw {
        [a] => u64::from(a),
        [a, b] => u64::from(u16::from_le_bytes([a, b])),
        [a, b, c] => u64::from(u32::from_le_bytes([a, b, c, 0])),
        [a, b, c, d] => u64::from(u32::from_le_bytes([a, b, c, d])),
        _ => raw.iter().take(8).rev().fold(0, |n, &b| n << 8 | u64::from(b)),
    }
}

/// Up to eight big-endian bytes.
#[inline]
pub(crate) fn be(raw: &[u8]) -> u64 {
    raw.iter().fold(0, |n, &b| n << 8 | u64::from(b))
}

/// Names are UTF-8 in every event.
pub(crate) fn utf8<'a>(raw: &'a [u8], what: &'static str) -> Result<&'a str, Malformed> {
    std::str::from_utf8(raw).map_err(|e| Malformed::Invalid { expected: what, found: e.valid_up_to() as u64 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variable_length_integers_are_those_of_the_library() {
        // The document's examples: 65535 is fb ff 07, i.e. 3 bytes, two low ones.
        for (raw, n) in [
            (&[0x00][..], 0),
            (&[0xfe], 127),
            (&[0x01, 0x02], 128),
            (&[0xfb, 0xff, 0x07], 65535),
            (&[0xff, 255, 255, 255, 255, 255, 255, 255, 255], u64::MAX),
        ] {
            let mut b = Bytes(raw);
            assert_eq!(b.varlen("n"), Ok(n), "{raw:x?}");
            assert!(b.is_empty());
            assert!(Bytes(&raw[..raw.len() - 1]).varlen("n").is_err());
        }
        assert_eq!(Bytes(&[0x02]).varlen_signed("n"), Ok(-1));
        assert_eq!(Bytes(&[0x04]).varlen_signed("n"), Ok(1));
    }

    #[test]
    fn packed_integers() {
        for (raw, n) in [
            (&[250u8][..], 250),
            (&[252, 251, 0], 251),
            (&[253, 1, 2, 3], 0x03_02_01),
            (&[254, 1, 0, 0, 0, 0, 0, 0, 0x80], 0x8000_0000_0000_0001),
        ] {
            assert_eq!(Bytes(raw).packed("n"), Ok(n));
            assert!(Bytes(&raw[..raw.len() - 1]).packed("n").is_err());
        }
        assert!(Bytes(&[255]).packed("n").is_err());
        assert!(Bytes(&[251]).packed("n").is_err());
    }
}

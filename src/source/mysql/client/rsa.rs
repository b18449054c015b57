//! RSA encryption with OAEP (SHA-1, MGF1): how a password goes to a server over a plain connection.
//!
//! Only the public operation, with the server's key, once a login. Source: RFC 8017, 7.1.1; MySQL's
//! `sha2_password_common.cc`. *ring* has no RSA encryption.

use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY as SHA1, digest};
use rustls_pki_types::SubjectPublicKeyInfoDer;
use rustls_pki_types::pem::PemObject;

/// Largest modulus: what servers make has 2,048 bits.
const MAX_BITS: usize = 8192;
const HASH: usize = 20;

/// A public key.
#[derive(Debug)]
pub(super) struct PublicKey {
    modulus: Vec<u32>,
    /// Bytes of the modulus.
    bytes: usize,
    exponent: u64,
}

impl PublicKey {
    /// Reads `-----BEGIN PUBLIC KEY-----`. `None` if it is no RSA key.
    pub(super) fn from_pem(pem: &[u8]) -> Option<Self> {
        let der = SubjectPublicKeyInfoDer::from_pem_slice(pem).ok()?;
        // SEQUENCE { SEQUENCE { OID, NULL }, BIT STRING { SEQUENCE { INTEGER n, INTEGER e } } }
        let mut outer = Der(der.as_ref()).take(0x30)?;
        outer.take(0x30)?;
        let bits = outer.take(0x03)?;
        let (unused, key) = bits.0.split_first()?;
        let mut key = Der(key).take(0x30).filter(|_| *unused == 0)?;
        let (n, e) = (key.take(0x02)?.0, key.take(0x02)?.0);
        let n = n.get(n.iter().position(|&b| b != 0)?..)?;
        if n.len() * 8 > MAX_BITS || n.len() < 64 || n.last()? & 1 == 0 || e.len() > 8 {
            return None;
        }
        let exponent = e.iter().fold(0u64, |e, &b| e << 8 | u64::from(b));
        (exponent > 1).then(|| Self { modulus: from_bytes(n, n.len()), bytes: n.len(), exponent })
    }

    /// Encrypts a short message. `None` if it does not fit the key.
    pub(super) fn encrypt(&self, message: &[u8], seed: [u8; HASH]) -> Option<Vec<u8>> {
        let room = self.bytes.checked_sub(2 * HASH + 2)?;
        let padding = room.checked_sub(message.len())?;
        let mut block = digest(&SHA1, b"").as_ref().to_vec();
        block.resize(HASH + padding, 0);
        block.push(1);
        block.extend_from_slice(message);
        mask(&mut block, &seed);
        let mut masked_seed = seed;
        mask(&mut masked_seed, &block);
        let mut encoded = vec![0];
        encoded.extend_from_slice(&masked_seed);
        encoded.extend_from_slice(&block);
        Some(self.power(&from_bytes(&encoded, self.bytes)))
    }

    /// `base` to the public exponent, as bytes.
    fn power(&self, base: &[u32]) -> Vec<u8> {
        let mut result = base.to_vec();
        for bit in (0..63 - self.exponent.leading_zeros()).rev() {
            result = self.times(&result, &result.clone());
            if self.exponent >> bit & 1 == 1 {
                result = self.times(&result, base);
            }
        }
        let mut bytes: Vec<u8> = result.iter().rev().flat_map(|limb| limb.to_be_bytes()).collect();
        bytes.drain(..bytes.len().saturating_sub(self.bytes));
        bytes
    }

    /// Modular product, bit by bit: slow, short, and done once a login.
    fn times(&self, a: &[u32], b: &[u32]) -> Vec<u32> {
        let mut result = vec![0; self.modulus.len()];
        for limb in b.iter().rev() {
            for bit in (0..32).rev() {
                let twice = result.clone();
                let carry = add(&mut result, &twice);
                self.reduce(&mut result, carry);
                if limb >> bit & 1 == 1 {
                    let carry = add(&mut result, a);
                    self.reduce(&mut result, carry);
                }
            }
        }
        result
    }

    /// Brings a number below twice the modulus below it.
    fn reduce(&self, number: &mut [u32], carry: bool) {
        let less = number.iter().rev().lt(self.modulus.iter().rev());
        if carry || !less {
            let mut borrow = false;
            for (n, m) in number.iter_mut().zip(&self.modulus) {
                let (d, b1) = n.overflowing_sub(*m);
                let (d, b2) = d.overflowing_sub(u32::from(borrow));
                (*n, borrow) = (d, b1 || b2);
            }
        }
    }
}

fn add(number: &mut [u32], other: &[u32]) -> bool {
    let mut carry = 0u64;
    for (n, o) in number.iter_mut().zip(other) {
        let sum = u64::from(*n) + u64::from(*o) + carry;
        *n = sum as u32;
        carry = sum >> 32;
    }
    carry > 0
}

/// Big-endian bytes as limbs, the lowest first, as many as `bytes` bytes take.
fn from_bytes(big_endian: &[u8], bytes: usize) -> Vec<u32> {
    let mut limbs: Vec<u32> = big_endian
        .rchunks(4)
        .map(|chunk| chunk.iter().fold(0, |limb, &byte| limb << 8 | u32::from(byte)))
        .collect();
    limbs.resize(bytes.div_ceil(4), 0);
    limbs
}

/// MGF1 of `seed` over `block`.
fn mask(block: &mut [u8], seed: &[u8]) {
    for (i, chunk) in (0u32..).zip(block.chunks_mut(HASH)) {
        let hash = digest(&SHA1, &[seed, &i.to_be_bytes()].concat());
        chunk.iter_mut().zip(hash.as_ref()).for_each(|(byte, mask)| *byte ^= mask);
    }
}

/// DER, as much as a public key needs.
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    /// The content of the next element, which must have this tag.
    fn take(&mut self, tag: u8) -> Option<Self> {
        let (&[found, length], rest) = self.0.split_first_chunk::<2>()?;
        let (length, rest) = match length {
            0..=0x7f => (usize::from(length), rest),
            0x81..=0x83 => {
                let (raw, rest) = rest.split_at_checked(usize::from(length & 0x7f))?;
                (raw.iter().fold(0, |n, &b| n << 8 | usize::from(b)), rest)
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        (found == tag).then_some(Self(content))
    }
}

//! CRC-32 (IEEE 802.3) of one event.
//!
//! Most events are short, and a library's way is made for long ones: what is left below 128 bytes
//! goes by tables, a few bytes at a time. Here it is all folded by carry-less multiplication, in four
//! streams of 16 bytes as long as there are so many, then in one, the odd end included. Source: Gopal
//! et al., "Fast CRC Computation for Generic Polynomials Using PCLMULQDQ Instruction" (Intel, 2009),
//! section 3 for folding, section 4 for the reflected form.

use std::sync::LazyLock;

/// From here on the library is faster: it has wider registers for it.
#[cfg(target_arch = "x86_64")]
const LONG: usize = 2048;

/// CRC-32 of `bytes`.
#[inline]
pub(super) fn hash(bytes: &[u8]) -> u32 {
    #[cfg(target_arch = "x86_64")]
    if (16..LONG).contains(&bytes.len())
        && is_x86_feature_detected!("pclmulqdq")
        && is_x86_feature_detected!("sse4.1")
    {
        // SAFETY: the processor has both.
        return unsafe { x86::folded(bytes) };
    }
    library(bytes)
}

fn library(bytes: &[u8]) -> u32 {
    // Which instructions there are is asked once, not an event.
    static HASHER: LazyLock<crc32fast::Hasher> = LazyLock::new(crc32fast::Hasher::new);
    let mut hasher = HASHER.clone();
    hasher.update(bytes);
    hasher.finalize()
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    /// x^(512+64) and x^512 modulo the polynomial, reflected: fold by 64 bytes.
    const K1: i64 = 0x1_5444_2bd4;
    const K2: i64 = 0x1_c6e4_1596;
    /// x^(128+64) and x^128 modulo the polynomial, reflected: fold by 16 bytes.
    const K3: i64 = 0x1_7519_97d0;
    const K4: i64 = 0x0_ccaa_009e;
    /// x^64: fold from 12 bytes to 8.
    const K5: i64 = 0x1_63cd_6124;
    /// The polynomial and its inverse, for Barrett's reduction.
    const P: i64 = 0x1_db71_0641;
    const U: i64 = 0x1_f701_1641;

    /// A window of 16 bytes of it moves bytes up (from 0) or down (from 16); 0x80 makes a zero.
    const SHIFTS: [u8; 48] = {
        let mut shifts = [0x80; 48];
        let mut i = 0;
        while i < 16 {
            shifts[16 + i] = i as u8;
            i += 1;
        }
        shifts
    };

    #[target_feature(enable = "pclmulqdq,sse4.1")]
    fn fold(by: __m128i, a: __m128i, next: __m128i) -> __m128i {
        let (low, high) = (_mm_clmulepi64_si128(a, by, 0x00), _mm_clmulepi64_si128(a, by, 0x11));
        _mm_xor_si128(_mm_xor_si128(low, high), next)
    }

    #[target_feature(enable = "pclmulqdq,sse4.1")]
    fn load(block: &[u8; 16]) -> __m128i {
        // SAFETY: reads 16 bytes, without alignment.
        unsafe { _mm_loadu_si128(block.as_ptr().cast()) }
    }

    /// 16 bytes of [`SHIFTS`] from `at`, which is at most 32.
    #[target_feature(enable = "pclmulqdq,sse4.1")]
    fn shift(at: usize) -> __m128i {
        match SHIFTS.get(at..).and_then(|s| s.first_chunk()) {
            Some(block) => load(block),
            None => _mm_setzero_si128(),
        }
    }

    /// Of at least 16 bytes.
    #[target_feature(enable = "pclmulqdq,sse4.1")]
    pub(super) fn folded(bytes: &[u8]) -> u32 {
        let (Some((first, rest)), Some(last)) = (bytes.split_first_chunk(), bytes.last_chunk()) else {
            return super::library(bytes);
        };
        let by = _mm_set_epi64x(K4, K3);
        // The register begins as all ones.
        let mut x = _mm_xor_si128(load(first), _mm_cvtsi32_si128(-1));
        let (mut blocks, odd) = rest.as_chunks::<16>();
        if let Some(([b, c, d], more)) = blocks.split_first_chunk()
            && more.len() >= 4
        {
            // A multiplication's result comes some cycles later: four streams need not wait for it.
            let by_four = _mm_set_epi64x(K2, K1);
            let (fours, last) = more.as_chunks::<4>();
            let [mut b, mut c, mut d] = [load(b), load(c), load(d)];
            for [next_x, next_b, next_c, next_d] in fours {
                x = fold(by_four, x, load(next_x));
                b = fold(by_four, b, load(next_b));
                c = fold(by_four, c, load(next_c));
                d = fold(by_four, d, load(next_d));
            }
            x = fold(by, fold(by, fold(by, x, b), c), d);
            blocks = last;
        }
        for block in blocks {
            x = fold(by, x, load(block));
        }
        if !odd.is_empty() {
            // As if zero bytes stood before the whole: the front of `x` becomes a block of its own,
            // its back and the odd bytes the block after.
            let n = odd.len();
            let front = _mm_shuffle_epi8(x, shift(n));
            let down = shift(16 + n);
            let back = _mm_shuffle_epi8(x, down);
            // Where `down` has no byte of `x`, the bytes of the end stand.
            let next = _mm_blendv_epi8(back, load(last), down);
            x = fold(by, front, next);
        }
        // 16 bytes to 8, to 4.
        let low = _mm_set_epi32(0, 0, 0, -1);
        x = _mm_xor_si128(_mm_clmulepi64_si128(x, by, 0x10), _mm_srli_si128(x, 8));
        let k5 = _mm_set_epi64x(0, K5);
        x = _mm_xor_si128(_mm_clmulepi64_si128(_mm_and_si128(x, low), k5, 0x00), _mm_srli_si128(x, 4));
        let pu = _mm_set_epi64x(U, P);
        let t = _mm_clmulepi64_si128(_mm_and_si128(x, low), pu, 0x10);
        let t = _mm_xor_si128(_mm_clmulepi64_si128(_mm_and_si128(t, low), pu, 0x00), x);
        !(_mm_extract_epi32(t, 1) as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_librarys_for_every_length() {
        assert_eq!(hash(b"123456789"), 0xcbf4_3926);
        let mut rng = fastrand::Rng::with_seed(1);
        for len in (0..600).chain(2000..2100).chain([4096, 100_001]) {
            for _ in 0..5 {
                let bytes: Vec<u8> = std::iter::repeat_with(|| rng.u8(..)).take(len).collect();
                assert_eq!(hash(&bytes), crc32fast::hash(&bytes), "{len} bytes");
            }
        }
        for len in 16..300 {
            assert_eq!(hash(&vec![0; len]), crc32fast::hash(&vec![0; len]));
        }
    }
}

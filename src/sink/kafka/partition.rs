//! Which partition a key goes to, as other producers would choose it.

crate::choice! {
    /// How a partition is chosen by the key.
    pub enum Partitioner {
        /// As Java's producer does, and whatever is built on it.
        Murmur2 = "murmur2",
        /// As librdkafka's `consistent` does, and what is built on it.
        Crc32 = "crc32",
    }
}

impl Partitioner {
    /// The partition of `key`, of `count` partitions.
    pub fn of(self, key: &[u8], count: i32) -> i32 {
        let count = count.max(1);
        match self {
            // Java's `toPositive` drops the sign.
            Self::Murmur2 => (murmur2(key) & 0x7fff_ffff) as i32 % count,
            Self::Crc32 => (i64::from(crc32(key)) % i64::from(count)) as i32,
        }
    }
}

/// MurmurHash2 of 32 bits with Kafka's seed (org.apache.kafka.common.utils.Utils.murmur2).
fn murmur2(data: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let mut h = 0x9747_b28c ^ data.len() as u32;
    let (words, rest) = data.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> 24;
        h = h.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    if !rest.is_empty() {
        for (i, &byte) in rest.iter().enumerate() {
            h ^= u32::from(byte) << (8 * i);
        }
        h = h.wrapping_mul(M);
    }
    h ^= h >> 13;
    h = h.wrapping_mul(M);
    h ^ h >> 15
}

/// CRC-32 of IEEE 802.3, by bytes: keys are short.
fn crc32(data: &[u8]) -> u32 {
    static TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut n = 0;
        while n < 256 {
            let mut c = n as u32;
            let mut bit = 0;
            while bit < 8 {
                c = if c & 1 == 1 { 0xedb8_8320 ^ c >> 1 } else { c >> 1 };
                bit += 1;
            }
            table[n] = c;
            n += 1;
        }
        table
    };
    !data.iter().fold(!0, |crc, &byte| TABLE[usize::from(crc as u8 ^ byte)] ^ crc >> 8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_java_has_it() {
        // The cases of Kafka's own UtilsTest.testMurmur2.
        let cases: [(&str, i32); 6] = [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ];
        for (key, hash) in cases {
            assert_eq!(murmur2(key.as_bytes()).cast_signed(), hash, "{key}");
        }
        assert_eq!(Partitioner::Murmur2.of(b"foobar", 12), (-790_332_482i32 & 0x7fff_ffff) % 12);
    }

    #[test]
    fn crc32_is_the_usual_one() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        assert_eq!(Partitioner::Crc32.of(b"123456789", 7), (0xcbf4_3926u32 % 7) as i32);
        assert_eq!(Partitioner::Crc32.of(b"", 1), 0);
    }
}

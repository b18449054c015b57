//! Keys of requests that were stored in the last minutes, so that a client may send again what it got no answer
//! for. They are written in the batch's own transaction and survive a restart.
//!
//! A fixed number of slots, chosen by the key's hash: a newer key overwrites an older one in its slot. Bounded on
//! disk and in memory; what it forgets too early is stored twice, never lost.

use xxhash_rust::xxh3::xxh3_64;

use crate::event::BatchBuilder;

const SLOTS: u64 = 1024;
/// A key counts for this long.
const MAX_AGE_US: i64 = 10 * 60 * 1_000_000;

/// The slots: hash of the key, and when it was stored.
#[derive(Debug)]
pub(super) struct Recent(Vec<(u64, i64)>);

fn slot(hash: u64) -> usize {
    (hash % SLOTS) as usize
}

impl Recent {
    /// From what was stored with the batches before the restart.
    pub(super) fn restore(positions: &[(Box<str>, Box<[u8]>)]) -> Self {
        let mut recent = Self(Vec::new());
        for (_, value) in positions.iter().filter(|(key, _)| key.starts_with("idem/")) {
            let Ok(value) = <[u8; 16]>::try_from(&**value) else { continue };
            let (hash, at) = value.split_at(8);
            let read = |raw: &[u8]| raw.iter().rev().fold(0u64, |n, b| n << 8 | u64::from(*b));
            recent.put(read(hash), read(at) as i64);
        }
        recent
    }

    pub(super) fn contains(&self, key: &str, now_us: i64) -> bool {
        let hash = xxh3_64(key.as_bytes());
        // A clock that was set back keeps a key longer, which is harmless.
        self.0.get(slot(hash)).is_some_and(|&(h, at)| h == hash && now_us.saturating_sub(at) < MAX_AGE_US)
    }

    /// Notes the key in the batch that it came with.
    pub(super) fn note(&self, key: &str, now_us: i64, batch: &mut BatchBuilder) {
        let hash = xxh3_64(key.as_bytes());
        let mut value = [0; 16];
        value[..8].copy_from_slice(&hash.to_le_bytes());
        value[8..].copy_from_slice(&now_us.to_le_bytes());
        batch.position(&format!("idem/{}", slot(hash)), &value);
    }

    pub(super) fn insert(&mut self, key: &str, now_us: i64) {
        self.put(xxh3_64(key.as_bytes()), now_us);
    }

    fn put(&mut self, hash: u64, at: i64) {
        // Nobody who does not use keys pays for the slots.
        self.0.resize(SLOTS as usize, (0, i64::MIN / 2));
        if let Some(entry) = self.0.get_mut(slot(hash)) {
            *entry = (hash, at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_counts_for_ten_minutes_and_over_a_restart() {
        let mut recent = Recent::restore(&[]);
        assert!(!recent.contains("a", 0));
        recent.insert("a", 1_000);
        assert!(recent.contains("a", 2_000));
        assert!(!recent.contains("b", 2_000));
        assert!(!recent.contains("a", 1_000 + MAX_AGE_US));
        let mut batch = BatchBuilder::new("x".into());
        recent.note("a", 1_000, &mut batch);
        let again = Recent::restore(&batch.finish().positions);
        assert!(again.contains("a", 2_000));
    }
}

//! Which sequence numbers were written: a short sorted list of ranges.

/// Most ranges kept of one epoch. More holes than that exist only where rows come far out of order;
/// then the lowest range is forgotten, which can double rows of a table without key but lose none.
pub(super) const MAX_RANGES: usize = 64;

/// Inclusive ranges, ascending, neither overlapping nor touching.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ranges(Vec<(u64, u64)>);

impl Ranges {
    /// Whether `n` lies in one of them.
    pub(super) fn contains(&self, n: u64) -> bool {
        let behind = self.0.partition_point(|&(first, _)| first <= n);
        behind.checked_sub(1).and_then(|i| self.0.get(i)).is_some_and(|&(_, last)| n <= last)
    }

    /// Adds `first..=last`, joining what it touches.
    pub(super) fn insert(&mut self, first: u64, last: u64) {
        let start = self.0.partition_point(|&(_, l)| l.saturating_add(1) < first);
        let end = self.0.partition_point(|&(f, _)| f <= last.saturating_add(1));
        let touched = self.0.get(start..end.max(start)).unwrap_or_default();
        let low = touched.first().map_or(first, |r| r.0.min(first));
        let high = touched.last().map_or(last, |r| r.1.max(last));
        self.0.splice(start..end.max(start), [(low, high)]);
        if self.0.len() > MAX_RANGES {
            self.0.remove(0);
        }
    }

    /// The ranges.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.0.iter().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_inserts_equal_a_set() {
        let mut rng = fastrand::Rng::with_seed(7);
        for _ in 0..200 {
            let (mut ranges, mut model) = (Ranges::default(), std::collections::BTreeSet::new());
            for _ in 0..40 {
                let first = rng.u64(..120);
                let last = first + rng.u64(..6);
                ranges.insert(first, last);
                model.extend(first..=last);
                let got: Vec<u64> = (0..130).filter(|&n| ranges.contains(n)).collect();
                assert_eq!(got, model.iter().copied().collect::<Vec<_>>());
                let all: Vec<_> = ranges.iter().collect();
                assert!(all.windows(2).all(|w| w[0].1 + 1 < w[1].0), "{all:?}");
            }
        }
    }

    #[test]
    fn stays_short_and_forgets_the_lowest() {
        let mut ranges = Ranges::default();
        (0..1000).for_each(|n| ranges.insert(n * 10, n * 10));
        assert_eq!(ranges.iter().count(), MAX_RANGES);
        assert!(ranges.contains(9990) && !ranges.contains(0));
        ranges.insert(u64::MAX, u64::MAX);
        assert!(ranges.contains(u64::MAX));
    }
}

//! Distributions of times and sizes.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

/// Steps within a power of two: a quantile is known to an eighth of its value.
const STEPS: usize = 8;
/// Values up to 2^40: eighteen minutes in nanoseconds. Greater ones count as that.
const OCTAVES: usize = 40;
const BUCKETS: usize = STEPS * (OCTAVES - 2);

/// A distribution with one writer and any number of readers.
#[derive(Debug)]
pub struct Histogram {
    buckets: [AtomicU64; BUCKETS],
    sum: AtomicU64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            buckets: [const { AtomicU64::new(0) }; BUCKETS],
            sum: AtomicU64::new(0),
        }
    }
}

/// The bucket of a value: the first ones hold one value each, then [`STEPS`] a power of two.
fn bucket(value: u64) -> usize {
    let value = value.min((1 << OCTAVES) - 1);
    let Some(octave) = value.checked_ilog2().filter(|octave| *octave >= 3) else {
        return value as usize;
    };
    let step = (value >> (octave - 3)) as usize & (STEPS - 1);
    (octave as usize - 2) * STEPS + step
}

/// The greatest value of a bucket.
fn upper(bucket: usize) -> u64 {
    if bucket < STEPS {
        return bucket as u64;
    }
    let (octave, step) = (bucket / STEPS + 2, bucket % STEPS);
    let width = 1u64 << (octave - 3);
    (1u64 << octave) + (step as u64 + 1) * width - 1
}

impl Histogram {
    /// One more value.
    pub fn record(&self, value: u64) {
        self.buckets[bucket(value)].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(value, Ordering::Relaxed);
    }

    /// The distribution so far.
    pub fn snapshot(&self) -> HistogramSnapshot {
        let buckets = self.buckets.iter().enumerate();
        let buckets = buckets.map(|(at, count)| (upper(at), count.load(Ordering::Relaxed)));
        HistogramSnapshot {
            sum: self.sum.load(Ordering::Relaxed),
            buckets: buckets.filter(|(_, count)| *count > 0).collect(),
        }
    }
}

/// A distribution at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistogramSnapshot {
    /// Of all values.
    pub sum: u64,
    /// Counts by the greatest value they stand for, ascending; empty ones left out.
    pub buckets: Vec<(u64, u64)>,
}

impl HistogramSnapshot {
    /// How many values.
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|(_, count)| count).sum()
    }

    /// The value that the share `q` (0 to 1) of all values does not exceed, to an eighth; `None`
    /// without values.
    pub fn quantile(&self, q: f64) -> Option<u64> {
        let wanted = (self.count() as f64 * q).ceil().max(1.0) as u64;
        let mut seen = 0;
        let found = self.buckets.iter().find(|(_, count)| {
            seen += count;
            seen >= wanted
        });
        found.map(|(value, _)| *value)
    }

    /// Adds another distribution.
    pub fn merge(&mut self, other: &Self) {
        self.sum = self.sum.saturating_add(other.sum);
        for (value, count) in &other.buckets {
            match self
                .buckets
                .binary_search_by_key(value, |(value, _)| *value)
            {
                Ok(at) => self.buckets[at].1 += count,
                Err(at) => self.buckets.insert(at, (*value, *count)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_in_a_bucket_an_eighth_wide() {
        for value in (0..100_000).chain((17..40).map(|n| (1 << n) + 12_345)) {
            let top = upper(bucket(value));
            assert!(top >= value && top - value <= value / 8, "{value} {top}");
            assert_eq!(bucket(top), bucket(value));
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn quantiles_are_found() {
        let histogram = Histogram::default();
        for value in 1..=1000 {
            histogram.record(value);
        }
        let mut all = histogram.snapshot();
        assert_eq!((all.count(), all.sum), (1000, 500_500));
        for (q, value) in [(0.5, 500), (0.99, 990), (0.999, 999), (0.0, 1), (1.0, 1000)] {
            let found = all.quantile(q).unwrap();
            assert!(found >= value && found <= value + value / 8, "{q}: {found}");
        }
        let copy = all.clone();
        all.merge(&copy);
        assert_eq!(all.count(), 2000);
        assert_eq!(HistogramSnapshot::default().quantile(0.5), None);
    }
}

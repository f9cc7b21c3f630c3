//! Sums over queues, and what happened between two looks at a device.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::{DeviceStats, HistogramSnapshot, QueueStats};

impl DeviceStats {
    /// All queues as if they were one: counters and gauges summed, distributions merged.
    pub fn total(&self) -> QueueStats {
        let mut total = QueueStats::default();
        for queue in &self.queues {
            total.merge(queue);
        }
        total
    }

    /// Its name, or its number where it has none.
    pub fn label(&self) -> String {
        match self.name.as_str() {
            "" => self.devid.to_string(),
            name => name.to_owned(),
        }
    }
}

impl QueueStats {
    /// A counter; zero if there is none of that name.
    pub fn counter(&self, name: &str) -> u64 {
        self.counters.get(name).copied().unwrap_or(0)
    }

    /// The sum of several counters.
    pub fn counters(&self, names: &[&str]) -> u64 {
        let values = names.iter().map(|name| self.counter(name));
        values.fold(0, u64::saturating_add)
    }

    /// A gauge; zero if there is none of that name.
    pub fn gauge(&self, name: &str) -> u64 {
        self.gauges.get(name).copied().unwrap_or(0)
    }

    /// Adds another queue.
    pub fn merge(&mut self, other: &Self) {
        for (all, one) in [
            (&mut self.counters, &other.counters),
            (&mut self.gauges, &other.gauges),
        ] {
            for (name, value) in one {
                let sum = all.entry(name.clone()).or_default();
                *sum = sum.saturating_add(*value);
            }
        }
        for (name, histogram) in &other.histograms {
            let sum = self.histograms.entry(name.clone()).or_default();
            sum.merge(histogram);
        }
    }

    /// What happened since `earlier`: counters and distributions are differences, gauges are as they
    /// are now. A counter that is smaller than it was began anew with another front end; then all of
    /// it happened since.
    pub fn since(&self, earlier: &Self) -> Self {
        let counters = self.counters.iter();
        let histograms = self.histograms.iter();
        let none = HistogramSnapshot::default();
        Self {
            counters: counters
                .map(|(name, now)| (name.clone(), gone_by(*now, earlier.counter(name))))
                .collect(),
            gauges: self.gauges.clone(),
            histograms: histograms
                .map(|(name, now)| {
                    let before = earlier.histograms.get(name).unwrap_or(&none);
                    (name.clone(), now.since(before))
                })
                .collect(),
        }
    }
}

impl HistogramSnapshot {
    /// The values recorded since `earlier`; all of them if this one began anew.
    pub fn since(&self, earlier: &Self) -> Self {
        let before: BTreeMap<u64, u64> = earlier.buckets.iter().copied().collect();
        let now: BTreeMap<u64, u64> = self.buckets.iter().copied().collect();
        let anew = before
            .iter()
            .any(|(value, count)| now.get(value).is_none_or(|now| now < count));
        if anew {
            return self.clone();
        }
        let left = now.into_iter().map(|(value, count)| {
            let count = count - before.get(&value).copied().unwrap_or(0);
            (value, count)
        });
        Self {
            sum: gone_by(self.sum, earlier.sum),
            buckets: left.filter(|(_, count)| *count > 0).collect(),
        }
    }
}

/// How much a counter grew from `before` to `now`; all of it if it began anew.
pub fn gone_by(now: u64, before: u64) -> u64 {
    now.checked_sub(before).unwrap_or(now)
}

/// `count` in `elapsed`, per second; `None` of no time.
pub fn per_second(count: u64, elapsed: Duration) -> Option<f64> {
    let seconds = elapsed.as_secs_f64();
    (seconds > 0.0).then(|| count as f64 / seconds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Histogram;

    fn queue(reads: u64, latencies: &[u64]) -> QueueStats {
        let histogram = Histogram::default();
        for latency in latencies {
            histogram.record(*latency);
        }
        QueueStats {
            counters: [("read_requests".to_owned(), reads)].into(),
            gauges: [("in_flight".to_owned(), 2)].into(),
            histograms: [("read_latency_ns".to_owned(), histogram.snapshot())].into(),
        }
    }

    #[test]
    fn queues_add_up() {
        let device = DeviceStats {
            queues: vec![queue(3, &[5, 5]), queue(4, &[5, 900])],
            ..DeviceStats::default()
        };
        let total = device.total();
        assert_eq!(
            (total.counter("read_requests"), total.gauge("in_flight")),
            (7, 4)
        );
        assert_eq!(total.counters(&["read_requests", "nonsense"]), 7);
        let latency = &total.histograms["read_latency_ns"];
        assert_eq!((latency.count(), latency.sum), (4, 915));
        assert_eq!(DeviceStats::default().total(), QueueStats::default());
    }

    #[test]
    fn differences_of_what_went_on() {
        let before = queue(10, &[5, 900]);
        let now = queue(25, &[5, 900, 900, 70]);
        let since = now.since(&before);
        assert_eq!(
            (since.counter("read_requests"), since.gauge("in_flight")),
            (15, 2)
        );
        let latency = &since.histograms["read_latency_ns"];
        assert_eq!((latency.count(), latency.sum), (2, 970));
        assert_eq!(now.since(&QueueStats::default()), now);
    }

    #[test]
    fn what_began_anew_counts_from_zero() {
        let before = queue(10, &[5, 900]);
        let now = queue(3, &[70]);
        assert_eq!(now.since(&before), now);
    }

    #[test]
    fn rates() {
        assert_eq!(per_second(500, Duration::from_millis(250)), Some(2000.0));
        assert_eq!(per_second(500, Duration::ZERO), None);
        assert_eq!((gone_by(5, 3), gone_by(3, 5)), (2, 3));
    }
}

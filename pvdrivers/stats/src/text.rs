//! Numbers for people: three digits and a unit.

use std::fmt;

use crate::HistogramSnapshot;

/// A number of bytes: `7.0 MiB`.
pub fn bytes(count: u64) -> String {
    scaled(count as f64, 1024.0, &BYTES, " ")
}

/// A number of bytes in little room: `7.0M`, in powers of 1024.
pub fn short_bytes(count: f64) -> String {
    scaled(count, 1024.0, &["", "K", "M", "G", "T", "P", "E"], "")
}

/// A number of things: `12.3k`, in powers of 1000.
pub fn count(count: f64) -> String {
    scaled(count, 1000.0, &["", "k", "M", "G", "T", "P", "E"], "")
}

/// A time of so many nanoseconds: `12.3 us`.
pub fn time(ns: u64) -> String {
    scaled(ns as f64, 1000.0, &TIMES, " ")
}

/// A time in little room: `12.3us`.
pub fn short_time(ns: u64) -> String {
    scaled(ns as f64, 1000.0, &TIMES, "")
}

const BYTES: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
const TIMES: [&str; 4] = ["ns", "us", "ms", "s"];

/// The greatest unit of which there is one at least; a fraction only where it says something.
fn scaled(mut value: f64, step: f64, units: &[&str], space: &str) -> String {
    let mut unit = 0;
    // What would be rounded up to a whole step is one of the next unit.
    while value >= step - 0.5 && unit + 1 < units.len() {
        value /= step;
        unit += 1;
    }
    let digits = usize::from(unit > 0 && value < 99.95);
    format!("{value:.digits$}{space}{}", units[unit])
}

/// Three quantiles of a distribution of times, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Quantiles {
    /// Half of all values are no greater.
    pub p50: u64,
    /// 99 of 100 are no greater.
    pub p99: u64,
    /// 999 of 1000 are no greater.
    pub p999: u64,
}

impl HistogramSnapshot {
    /// The quantiles that people ask for; `None` without values.
    pub fn quantiles(&self) -> Option<Quantiles> {
        Some(Quantiles {
            p50: self.quantile(0.5)?,
            p99: self.quantile(0.99)?,
            p999: self.quantile(0.999)?,
        })
    }
}

impl fmt::Display for Quantiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [p50, p99, p999] = [self.p50, self.p99, self.p999].map(time);
        write!(f, "p50 {p50}, p99 {p99}, p99.9 {p999}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_with_units() {
        for (number, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (102_400, "100 KiB"),
            ((1 << 20) - 1, "1.0 MiB"),
            (7 << 20, "7.0 MiB"),
            (u64::MAX, "16.0 EiB"),
        ] {
            assert_eq!(bytes(number), text);
        }
        for (number, text) in [
            (999, "999 ns"),
            (12_345, "12.3 us"),
            (999_960, "1.0 ms"),
            (99_960, "100 us"),
            (17_000_000_000, "17.0 s"),
            (3_600_000_000_000, "3600 s"),
        ] {
            assert_eq!(time(number), text);
        }
        assert_eq!(short_bytes(1536.0), "1.5K");
        assert_eq!(count(1_234_567.0), "1.2M");
        assert_eq!(count(0.4), "0");
        assert_eq!(short_time(1_500), "1.5us");
    }

    #[test]
    fn quantiles_as_text() {
        let histogram = crate::Histogram::default();
        assert_eq!(histogram.snapshot().quantiles(), None);
        for _ in 0..1000 {
            histogram.record(4);
        }
        let text = histogram.snapshot().quantiles().unwrap().to_string();
        assert_eq!(text, "p50 4 ns, p99 4 ns, p99.9 4 ns");
    }
}

//! The rate limit: credit for some bytes each interval, as netback gives it.

use std::time::{Duration, Instant};

use super::nodes::Rate;

/// Credit grows to so many bytes at least: otherwise a limit below the size of a large segment
/// would never let one pass.
const MIN_BURST: u64 = 128 * 1024;

/// A card's credit. All its queues draw from one: netback gives each queue the whole, so that a
/// guest with eight of them sends eight times its limit.
#[derive(Debug)]
pub(super) struct Credit {
    rate: Rate,
    remaining: u64,
    window: Instant,
}

impl Credit {
    pub fn new(rate: Rate, now: Instant) -> Self {
        Self {
            rate,
            remaining: rate.bytes,
            window: now,
        }
    }

    /// Takes credit for a packet.
    ///
    /// # Errors
    /// There is not enough before that time.
    pub fn take(&mut self, bytes: u64, now: Instant) -> Result<(), Instant> {
        if bytes > self.remaining {
            let next = self.window + Duration::from_micros(self.rate.usecs);
            if now < next {
                return Err(next);
            }
            self.window = now;
            let burst = MIN_BURST.max(self.rate.bytes);
            self.remaining = self.remaining.saturating_add(self.rate.bytes).min(burst);
            if bytes > self.remaining {
                return Err(now + Duration::from_micros(self.rate.usecs));
            }
        }
        self.remaining -= bytes;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends packets of `bytes` as fast as the limit permits for `span`; how many.
    fn sent(rate: Rate, bytes: u64, span: Duration) -> u64 {
        let start = Instant::now();
        let (mut credit, mut now, mut packets) = (Credit::new(rate, start), start, 0);
        while now < start + span {
            match credit.take(bytes, now) {
                Ok(()) => packets += 1,
                Err(next) => {
                    assert!(next > now);
                    now = next;
                }
            }
        }
        packets
    }

    #[test]
    fn the_rate_is_kept() {
        let rate = Rate {
            bytes: 20_000,
            usecs: 50_000,
        };
        for bytes in [60, 1514, 65_535] {
            let total = bytes * sent(rate, bytes, Duration::from_secs(10));
            let exact = 4_000_000;
            assert!(
                (exact - 70_000..=exact + 20_000).contains(&total),
                "{bytes}: {total}"
            );
        }
    }

    #[test]
    fn a_small_limit_lets_large_segments_pass() {
        let rate = Rate { bytes: 1, usecs: 1 };
        assert!(sent(rate, 65_535, Duration::from_secs(1)) > 0);
    }
}

//! When a guest's kernel will want its next tick.
//!
//! A kernel that keeps a periodic tick on a single-shot timer asks, in each
//! tick, for one a period later. [`ENOUGH`] like that make a period known; from then
//! on the timer is armed for the next tick when one fires, and the kernel finds
//! it so ([`super::ring3`]). What it asks for by hypercall, another deadline or
//! none, holds as ever and starts the count anew.
//!
//! A kernel that stops asking without a word would go on being told of ticks:
//! after [`MOST`] it has to ask. (`VIRQ_TIMER` is "timebase update, and/or
//! requested timeout" in `xen/include/public/xen.h`: one unasked for means no
//! more to a kernel than a look at the clock.)

/// Deadlines in a row at one distance that make a tick: fewer may be chance.
const ENOUGH: u32 = 8;
/// Ticks foretold before the kernel is asked to say what it wants.
const MOST: u32 = 32;
/// How far a deadline may be from the period's grid, ns: kernels count from a
/// clock they read a moment earlier.
const TOLERANCE: u64 = 10_000;
/// How much later than the grid to arm, ns: more than [`TOLERANCE`], or a
/// deadline could lie after it.
const LATE: u64 = 15_000;
/// Periods to deal with, ns.
const PERIODS: std::ops::RangeInclusive<u64> = 1_000_000..=20_000_000;

/// What is known of one virtual CPU's tick.
#[derive(Debug, Default)]
pub struct Foresight {
    /// Last deadline it asked for by hypercall, system time.
    asked: u64,
    /// Distance of its deadlines.
    period: u64,
    /// How many in a row have come at that distance.
    steady: u32,
    /// Ticks foretold since.
    foretold: u32,
}

impl Foresight {
    /// The kernel asked for a deadline.
    pub fn asked(&mut self, at: u64) {
        let since = at.saturating_sub(self.asked);
        // Ticks foretold or missed in between count, too.
        let periods = match self.period {
            0 => 0,
            period => since.saturating_add(period / 2) / period,
        };
        let fits = periods != 0
            && since.abs_diff(periods * self.period) <= TOLERANCE
            && PERIODS.contains(&self.period);
        (self.steady, self.period) = match fits {
            true => (self.steady.saturating_add(1), since / periods),
            false => (0, since),
        };
        self.asked = at;
        self.foretold = 0;
    }

    /// A tick has fired at system time `now`: what to arm the timer for.
    pub fn next(&mut self, now: u64) -> Option<u64> {
        if self.steady < ENOUGH || self.foretold >= MOST {
            return None;
        }
        self.foretold += 1;
        let periods = now.saturating_sub(self.asked) / self.period + 1;
        Some(self.asked + periods * self.period + LATE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outside::ring3::Window;

    const PERIOD: u64 = 4_000_000;

    /// The last deadline asked for is the 102nd.
    fn steady() -> Foresight {
        let mut foresight = Foresight::default();
        for tick in 102 - u64::from(ENOUGH) - 1..=102 {
            foresight.asked(tick * PERIOD);
        }
        foresight
    }

    fn admits(armed: u64, asked: u64) -> bool {
        let window = Window::up_to(armed);
        asked.wrapping_sub(window.first) < window.count
    }

    #[test]
    fn ticks_must_have_come_at_the_same_distance() {
        let mut foresight = Foresight::default();
        for tick in 101 - u64::from(ENOUGH)..=101 {
            foresight.asked(tick * PERIOD);
        }
        assert_eq!(foresight.next(101 * PERIOD), None);
        foresight.asked(102 * PERIOD + 700);
        let armed = foresight.next(102 * PERIOD + 9_000).expect("a tick");
        assert!(admits(armed, 103 * PERIOD));
        assert!(admits(armed, 103 * PERIOD + 700));
        assert!(!admits(armed, 104 * PERIOD));
    }

    #[test]
    fn a_late_tick_leaves_out_those_that_have_passed() {
        let mut foresight = steady();
        let armed = foresight.next(105 * PERIOD + 5).expect("a tick");
        assert!(admits(armed, 106 * PERIOD));
        foresight.asked(108 * PERIOD + 3_000);
        let armed = foresight.next(109 * PERIOD).expect("still steady");
        assert!(
            admits(armed, 109 * PERIOD + 3_000),
            "which is still to come"
        );
        let armed = foresight.next(109 * PERIOD + 9_000).expect("still steady");
        assert!(admits(armed, 110 * PERIOD + 3_000));
    }

    #[test]
    fn another_deadline_ends_it() {
        let mut foresight = steady();
        foresight.asked(102 * PERIOD + PERIOD / 3);
        assert_eq!(foresight.next(103 * PERIOD), None);
    }

    #[test]
    fn the_kernel_has_to_ask_again_in_time() {
        let mut foresight = steady();
        let told = (102..200).filter(|tick| foresight.next(tick * PERIOD).is_some());
        assert_eq!(told.count() as u32, MOST);
        foresight.asked(200 * PERIOD);
        assert!(foresight.next(200 * PERIOD).is_some());
    }

    #[test]
    fn storms_and_sleeps_are_no_ticks() {
        for period in [1_000, 100_000_000] {
            let mut foresight = Foresight::default();
            for tick in 100..120 {
                foresight.asked(tick * period);
            }
            assert_eq!(foresight.next(120 * period), None);
        }
    }
}

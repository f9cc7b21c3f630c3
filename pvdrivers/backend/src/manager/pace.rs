//! How often a device gets a turn: a front end that flaps, or floods xenstore, costs the host a
//! bounded share of a CPU and of its log.

use std::time::{Duration, Instant};

/// What may be saved up; a whole handshake is some ten turns.
const MOST: u32 = 200;
/// One more each: 100 a second.
const EACH: Duration = Duration::from_millis(10);
/// Turns that a failure costs: mapping, unmapping and telling of it are dear.
const FAILURE: u32 = 50;
/// Failures of a device are told of this seldom.
const TELL: Duration = Duration::from_secs(10);

/// Turns a device has left.
#[derive(Debug)]
pub(super) struct Pace {
    turns: u32,
    /// Up to when turns have been given out.
    since: Instant,
    told: Option<Instant>,
}

impl Pace {
    pub fn new(now: Instant) -> Self {
        Self {
            turns: MOST,
            since: now,
            told: None,
        }
    }

    /// Takes a turn, or says when there will be one.
    pub fn turn(&mut self, now: Instant) -> Result<(), Instant> {
        let passed = now.saturating_duration_since(self.since);
        let earned = u32::try_from(passed.as_micros() / EACH.as_micros()).unwrap_or(MOST);
        if earned >= MOST {
            self.turns = MOST;
            self.since = now;
        } else {
            self.turns = MOST.min(self.turns + earned);
            self.since += EACH * earned;
        }
        match self.turns.checked_sub(1) {
            Some(left) => self.turns = left,
            None => return Err(self.since.max(now) + EACH),
        }
        Ok(())
    }

    /// Something has failed; whether to tell of it.
    pub fn failure(&mut self, now: Instant) -> bool {
        if self.turns < FAILURE {
            self.since = now + EACH * (FAILURE - self.turns);
        }
        self.turns = self.turns.saturating_sub(FAILURE);
        let tell = self
            .told
            .is_none_or(|told| now.saturating_duration_since(told) >= TELL);
        if tell {
            self.told = Some(now);
        }
        tell
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_run_out_and_come_back() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        assert_eq!((0..300).filter(|_| pace.turn(start).is_ok()).count(), 200);
        let next = pace.turn(start).unwrap_err();
        assert_eq!(next, start + EACH);
        assert_eq!(pace.turn(next), Ok(()));
        assert!(pace.turn(next).is_err());
        let later = start + Duration::from_secs(3600);
        assert_eq!((0..300).filter(|_| pace.turn(later).is_ok()).count(), 200);
    }

    #[test]
    fn failures_cost_many_turns_and_are_told_of_seldom() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        let told = (0..10).filter(|_| pace.failure(start)).count();
        assert_eq!(told, 1);
        assert!(pace.turn(start).unwrap_err() >= start + EACH * 50);
        assert!(pace.failure(start + TELL));
    }
}

//! Whether a queue's thread lets the guest finish before it takes the processor.
//!
//! Linux's block front end notifies of each request by itself, as long as the back end asks for it. Where
//! guest and back end share a processor, a thread that runs at the first notification serves one
//! request at a time, with a change of threads, a system call and an interrupt for each. One that waits
//! for the guest to have nothing more to do serves all of them at once, but makes a guest that sends
//! one at a time go idle for each. A network card's frames come like that too, from the host as well. Which of the two a guest is shows in how many requests a patient
//! thread finds; an impatient one cannot tell, and tries patience now and then.

/// Turns of a patient thread with one request or none, after which it stops being so.
const FEW: u32 = 4;
/// Turns after which an impatient thread tries again, and of how many that trial is.
const TRIAL: u32 = 64;
const TRIAL_TURNS: u32 = 2;

/// Learns from turn to turn; a turn is from one sleep to the next.
#[derive(Debug, Default)]
pub struct Patience {
    patient: bool,
    /// Turns that count towards a change.
    turns: u32,
}

impl Patience {
    /// A turn served so many requests: whether to be patient from now on, if that changes.
    pub fn learn(&mut self, requests: u32) -> Option<bool> {
        let many = requests > 1;
        self.turns = match (self.patient, many) {
            (true, true) => 0,
            (true, false) if self.turns + 1 < FEW => self.turns + 1,
            (true, false) => return Some(self.change(0)),
            (false, true) => return Some(self.change(0)),
            (false, false) if self.turns + 1 < TRIAL => self.turns + 1,
            (false, false) => return Some(self.change(FEW - TRIAL_TURNS)),
        };
        None
    }

    fn change(&mut self, turns: u32) -> bool {
        self.turns = turns;
        self.patient = !self.patient;
        self.patient
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time_is_served_at_once_but_for_trials() {
        let mut patience = Patience::default();
        let mut patient = false;
        let mut slow = 0;
        for _ in 0..66 * 10 {
            slow += u32::from(patient);
            patient = patience.learn(1).unwrap_or(patient);
        }
        assert_eq!(slow, 10 * TRIAL_TURNS);
    }

    #[test]
    fn many_at_once_are_waited_for_from_the_first_trial_on() {
        let mut patience = Patience::default();
        let mut patient = false;
        let mut turns = 0;
        let mut left = 1000u32;
        while left > 0 {
            // What an impatient thread finds, and a patient one.
            let found = if patient { 32.min(left) } else { 1 };
            left -= found;
            turns += 1;
            patient = patience.learn(found).unwrap_or(patient);
        }
        assert_eq!(turns, TRIAL + (1000 - TRIAL).div_ceil(32));
        // And no longer than it is good for something.
        assert!((1..=FEW).any(|_| patience.learn(0) == Some(false)));
    }

    #[test]
    fn a_thread_that_finds_many_anyhow_is_patient() {
        let mut patience = Patience::default();
        assert_eq!(patience.learn(2), Some(true));
        assert_eq!(patience.learn(2), None);
    }
}

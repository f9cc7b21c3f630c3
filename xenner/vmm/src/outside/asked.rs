//! What other virtual CPUs ask of one: to drop its translations.
//!
//! The request stays until [`Asked::take`], which the thread calls where it
//! writes what its CPU does next, the flush included. Whoever asks need not
//! wait for a thread that is not in the guest: it cannot get to guest code
//! without having been interrupted there first ([`Asked::enter`]).

use std::sync::atomic::{AtomicBool, Ordering};

/// Requests to one virtual CPU's thread.
#[derive(Debug, Default)]
pub struct Asked {
    /// It may execute guest code.
    in_guest: AtomicBool,
    /// All translations are to be dropped before guest code runs again.
    flush: AtomicBool,
}

// Each side stores its own word before it loads the other's, in one order for
// both: at least one of them sees the other.
impl Asked {
    /// Asks for a flush. True when the virtual CPU is to be interrupted.
    #[must_use]
    pub fn flush(&self) -> bool {
        self.flush.store(true, Ordering::SeqCst);
        self.in_guest.load(Ordering::SeqCst)
    }

    /// Whether guest code may still run with what was to be dropped.
    pub fn is_due(&self) -> bool {
        self.in_guest.load(Ordering::SeqCst) && self.flush.load(Ordering::SeqCst)
    }

    /// Guest code is about to run. True when a flush has been asked for since
    /// [`Asked::take`]: the thread then interrupts its own virtual CPU, which
    /// leaves before its first instruction in ring 3.
    #[must_use]
    pub fn enter(&self) -> bool {
        self.in_guest.store(true, Ordering::SeqCst);
        self.flush.load(Ordering::SeqCst)
    }

    /// The guest has been left.
    pub fn leave(&self) {
        self.in_guest.store(false, Ordering::SeqCst);
    }

    /// Takes up the request: what the CPU does next drops its translations.
    #[must_use]
    pub fn take(&self) -> bool {
        self.flush.swap(false, Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_virtual_cpu_in_the_guest_is_interrupted_and_waited_for() {
        let asked = Asked::default();
        assert!(!asked.enter());
        assert!(asked.flush() && asked.is_due());
        asked.leave();
        assert!(!asked.is_due(), "it cannot run on without the flush");
        assert!(asked.take() && !asked.take());
    }

    #[test]
    fn a_request_between_two_runs_is_kept_until_it_is_taken_up() {
        let asked = Asked::default();
        assert!(!asked.flush(), "nobody is there to be interrupted");
        // What it does next was written before: it goes in only to be
        // interrupted, maybe more than once.
        for _ in 0..2 {
            assert!(asked.enter());
            asked.leave();
        }
        assert!(asked.take(), "the flush was asked for and not made");
        assert!(!asked.enter());
    }
}

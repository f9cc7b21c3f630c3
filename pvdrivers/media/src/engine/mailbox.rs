//! Answers from other threads, and the event that tells of them.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::sys::eventfd::{EfdFlags, EventFd};

use super::Answer;

/// Answers from other threads, and the event that tells of them.
#[derive(Debug)]
pub(crate) struct Mailbox {
    answers: Mutex<Vec<Answer>>,
    event: EventFd,
}

impl Mailbox {
    pub(crate) fn new() -> io::Result<Self> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        Ok(Self {
            answers: Mutex::default(),
            event: EventFd::from_value_and_flags(0, flags)?,
        })
    }

    /// Puts an answer in.
    pub(crate) fn put(&self, answer: Answer) {
        let mut answers = self.lock();
        answers.push(answer);
        if answers.len() == 1 {
            self.ring();
        }
    }

    /// Makes the event readable.
    pub(crate) fn ring(&self) {
        // Fails only when the counter is full, and then it is readable.
        let _ = self.event.write(1);
    }

    /// Clears the event. Whatever it told of is still to be taken.
    pub(crate) fn clear(&self) {
        let _ = self.event.read();
    }

    /// Whether there are answers.
    pub(crate) fn any(&self) -> bool {
        !self.lock().is_empty()
    }

    /// Takes all answers; the event is clear until there is a new one.
    pub(crate) fn take(&self, to: &mut Vec<Answer>) {
        // Cleared first: an answer that comes in between is taken and leaves the event set.
        self.clear();
        to.append(&mut self.lock());
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Answer>> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsFd for Mailbox {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}

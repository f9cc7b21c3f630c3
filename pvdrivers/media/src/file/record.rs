//! A log of what was done to a file, for tests that cut the power.

use std::sync::{Arc, Mutex};

/// What happened, in order.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// A change began.
    Begun(Change),
    /// The change of that index in the log was reported as done.
    Done(usize),
    /// A test's own mark.
    Mark(u64),
}

/// What was done.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    Write(u64, Vec<u8>),
    Punch(u64, u64),
    Size(u64),
    Sync,
}

/// The log of one file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Record(pub Arc<Mutex<Vec<Event>>>);

/// Notes the end of a change when dropped.
pub(crate) struct Noted(Record, usize);

impl Drop for Noted {
    fn drop(&mut self) {
        self.0.0.lock().unwrap().push(Event::Done(self.1));
    }
}

impl Record {
    fn begin(&self, change: Change) -> Noted {
        let mut log = self.0.lock().unwrap();
        log.push(Event::Begun(change));
        Noted(self.clone(), log.len() - 1)
    }

    pub(crate) fn write(&self, offset: u64, bytes: &[u8]) -> Noted {
        self.begin(Change::Write(offset, bytes.to_vec()))
    }

    pub(crate) fn punch(&self, offset: u64, len: u64) -> Noted {
        self.begin(Change::Punch(offset, len))
    }

    pub(crate) fn size(&self, size: u64) -> Noted {
        self.begin(Change::Size(size))
    }

    pub(crate) fn sync(&self) -> Noted {
        self.begin(Change::Sync)
    }

    pub(crate) fn mark(&self, value: u64) {
        self.0.lock().unwrap().push(Event::Mark(value));
    }
}

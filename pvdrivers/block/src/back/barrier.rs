//! `BLKIF_OP_WRITE_BARRIER`: a write behind all that came before it and ahead of all that comes
//! after, durable when answered; and a flush that carries data, which asks for no more.
//!
//! Everything in flight is answered first, nothing is taken meanwhile. Then a flush makes what came
//! before durable, the data is written, and another flush makes that durable. Without data one
//! flush does.

use super::buffers::Buffers;

/// Where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// What was in flight before it is not answered yet.
    Drain,
    /// The flush of what came before is on its way.
    Preflush,
    /// The data is.
    Write,
    /// The last flush is.
    Flush,
    /// It can be answered.
    Done,
}

/// A barrier that is not answered yet.
#[derive(Debug)]
pub(crate) struct Barrier<P> {
    pub(crate) step: Step,
    /// The request's slot.
    pub(crate) tag: u32,
    /// The data, until it is written.
    pub(crate) buffers: Option<Buffers<P>>,
}

impl<P> Barrier<P> {
    pub(crate) fn new(range: (u64, u64), buffers: Buffers<P>) -> Self {
        Self {
            step: Step::Drain,
            tag: 0,
            buffers: (range.1 > 0).then_some(buffers),
        }
    }

    /// Nothing is in flight any more; the tag to flush with.
    pub(crate) fn begin(&mut self) -> u32 {
        self.step = match self.buffers {
            Some(_) => Step::Preflush,
            None => Step::Flush,
        };
        self.tag
    }

    /// What comes after the step that has just ended, well or not.
    pub(crate) fn next(&mut self, ok: bool) -> Step {
        self.step = match self.step {
            Step::Preflush if ok => Step::Write,
            Step::Write if ok => Step::Flush,
            _ => Step::Done,
        };
        self.step
    }
}

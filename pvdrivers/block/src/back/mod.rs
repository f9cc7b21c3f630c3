//! The back end.
//!
//! [`VbdDriver`] is a device: it opens its [`Medium`], tells the front end of it, and for each of the
//! front end's rings runs a thread with a [`BlockQueue`], which does the work.
//!
//! The data is never copied: a request's segments become the pieces of memory that the medium's
//! kernel reads and writes, and the pages stay mapped until it is done. What comes from the guest
//! is checked in `request` and `nodes`; a lie in a request is answered with an error, a broken ring
//! closes the device.

mod barrier;
mod buffers;
mod driver;
mod grants;
mod journal;
mod medium;
mod nodes;
mod queue;
mod request;
mod stats;
mod worker;

pub use buffers::Buffers;
pub use driver::{OpenJournal, OpenMedium, VbdDriver};
pub use journal::JournalMemory;
pub use medium::{DiscardInfo, Medium, MediumInfo};
pub use queue::{BlockQueue, MediumQueue, PageOf, QueueError, QueueParts};
pub use request::Geometry;
pub use stats::QueueCounters;

use crate::wire::MAX_RING_PAGE_ORDER;

/// What a back end offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `multi-queue-max-queues`: rings, each with a thread.
    pub max_queues: u32,
    /// `max-ring-page-order`: two to this power is the most pages of a ring.
    pub max_ring_page_order: u32,
    /// `feature-max-indirect-segments`: pages that one request can read or write; up to 4096, the
    /// segments of eight pages. 0: no indirect requests.
    pub max_indirect_segments: u16,
    /// Pages kept mapped for each queue, if the front end wants that. 0: none.
    pub persistent_grants: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            max_queues: 4,
            max_ring_page_order: MAX_RING_PAGE_ORDER,
            max_indirect_segments: 256,
            persistent_grants: 2048,
        }
    }
}

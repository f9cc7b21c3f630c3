//! What a virtual disk is kept in, as far as the back end needs to know.

use std::io;

use pv_media::{Disk, Queue};
use pv_ring::IoBuffers;

pub use pv_media::{Discard as DiscardInfo, DiskInfo as MediumInfo};

/// A disk, open: [`Disk`], or a test's own.
pub trait Medium: Send + 'static {
    /// Its properties.
    fn info(&self) -> MediumInfo;

    /// Its properties after a look at the host, where its size may have changed.
    ///
    /// # Errors
    /// The host's; the properties are what they were.
    fn refresh(&self) -> io::Result<MediumInfo> {
        Ok(self.info())
    }

    /// Access to it for one thread, with up to `depth` requests at a time.
    ///
    /// # Errors
    /// The host's.
    fn queue<B: IoBuffers>(&self, depth: usize) -> io::Result<Box<dyn Queue<B>>>;
}

impl Medium for Disk {
    fn info(&self) -> MediumInfo {
        self.info()
    }

    fn refresh(&self) -> io::Result<MediumInfo> {
        self.refresh()
    }

    fn queue<B: IoBuffers>(&self, depth: usize) -> io::Result<Box<dyn Queue<B>>> {
        self.queue(depth)
    }
}

//! What a virtual disk is kept in, as far as the back end needs to know.

use std::io;

use pv_media::Queue;
use pv_ring::IoBuffers;

/// A disk's properties at this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MediumInfo {
    /// Its size, in sectors of 512 bytes.
    pub sectors: u64,
    /// Bytes of the smallest unit it transfers; a power of two of at least 512.
    pub sector_size: u32,
    /// Bytes of the unit it writes without reading first.
    pub physical_sector_size: u32,
    /// It cannot be written.
    pub readonly: bool,
    /// It can be told that ranges do not matter any more.
    pub discard: Option<DiscardInfo>,
    /// It has a cache that a flush empties. Without, whatever is answered is durable.
    pub flush: bool,
}

/// How a disk discards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiscardInfo {
    /// Bytes of the unit it discards in.
    pub granularity: u32,
    /// Byte on the disk where the first unit begins.
    pub alignment: u32,
    /// It can make what was there unreadable.
    pub secure: bool,
}

/// A disk, open.
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

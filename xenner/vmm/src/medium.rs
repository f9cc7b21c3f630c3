//! A disk as the block back end's medium.

use std::io;

use pv_block::back::{DiscardInfo, Medium, MediumInfo};
use pv_media::{Disk, Queue};
use pv_ring::IoBuffers;

/// The medium.
pub struct OnDisk(pub Disk);

impl Medium for OnDisk {
    fn info(&self) -> MediumInfo {
        let info = self.0.info();
        MediumInfo {
            sectors: info.sectors,
            sector_size: info.sector_size,
            physical_sector_size: info.physical_sector_size,
            readonly: info.readonly,
            discard: info.discard.map(|discard| DiscardInfo {
                granularity: discard.granularity,
                alignment: discard.alignment,
                secure: discard.secure,
            }),
            flush: info.flush,
        }
    }

    fn queue<B: IoBuffers>(&self, depth: usize) -> io::Result<Box<dyn Queue<B>>> {
        self.0.queue(depth)
    }
}

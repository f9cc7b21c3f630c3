//! Requests past the page cache, one or many at a time.

use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use super::aio::Queue;
use super::least;
use crate::{Context, Failure, ensure, modules};

const BLOCK: usize = 4096;
const MIB: usize = 1 << 20;
/// Requests under way at once in the row of many.
const DEPTH: usize = 32;

pub fn measure(device: &str) -> Result<(), Failure> {
    let path = Path::new(device);
    modules::await_file(path)?;
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_DIRECT)
        .open(path)
        .context(device)?;
    let size = file.seek(SeekFrom::End(0)).context("size")?;
    ensure!(size >= 2 * MIB as u64, "{size} bytes are too few");
    let mut at = Random::new(size / BLOCK as u64);

    let mut memory = vec![0; MIB + BLOCK];
    let buffer = aligned(&mut memory, MIB);
    let block = &mut buffer[..BLOCK];
    least("read-4k", 200, || {
        (0..200).try_for_each(|_| file.read_exact_at(block, at.offset()).context("read"))
    })?;
    many(&file, &mut at)?;
    let mibs = size / MIB as u64;
    least("read-1m", 16, || {
        (0..16).try_for_each(|n| {
            let offset = n % mibs * MIB as u64;
            file.read_exact_at(buffer, offset).context("read")
        })
    })?;
    let block = &buffer[..BLOCK];
    least("write-4k-sync", 100, || {
        (0..100).try_for_each(|_| {
            file.write_all_at(block, at.offset()).context("write")?;
            file.sync_data().context("fdatasync")
        })
    })
}

/// Reads of 4 KiB, [`DEPTH`] submitted and awaited together.
fn many(file: &File, at: &mut Random) -> Result<(), Failure> {
    let mut memory = vec![0; (DEPTH + 1) * BLOCK];
    let buffer = aligned(&mut memory, DEPTH * BLOCK);
    let mut queue = Queue::new(DEPTH)?;
    least("read-4k-32", 8 * DEPTH as u32, || {
        (0..8).try_for_each(|_| {
            let blocks = buffer.chunks_exact_mut(BLOCK);
            queue.read(file.as_raw_fd(), blocks.map(|block| (block, at.offset())))
        })
    })
}

/// A part of `memory` that O_DIRECT takes.
fn aligned(memory: &mut [u8], length: usize) -> &mut [u8] {
    let start = memory.as_ptr().align_offset(BLOCK);
    &mut memory[start..start + length]
}

/// The same blocks in the same order everywhere.
struct Random {
    state: u64,
    blocks: u64,
}

impl Random {
    fn new(blocks: u64) -> Self {
        Self { state: 1, blocks }
    }

    /// Of some block. A linear congruential generator with Knuth's constants;
    /// its upper bits are the good ones.
    fn offset(&mut self) -> u64 {
        self.state = self
            .state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.state >> 33) % self.blocks * BLOCK as u64
    }
}

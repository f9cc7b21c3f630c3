//! qcow2 images.
//!
//! Everything about the image's state is kept in memory and written by a flush, in an order that
//! leaves the file sound whatever part of the writes between two barriers a power cut leaves out:
//!
//! 1. refcounts, and tables that nothing refers to yet; barrier (data was written before it too);
//! 2. if there are new refcount blocks, what refers to them; barrier;
//! 3. L2 tables in place, L1 entries, the header; barrier.
//!
//! A cluster that nothing refers to any more is free only once that is durable and all requests
//! that may still use it have ended. So a cut loses nothing that a flush has promised, and at
//! worst leaks clusters, which the next start of the image counts and frees.

mod check;
mod flush;
pub(crate) mod header;
#[cfg(test)]
mod power_test;
mod refcounts;
mod state;
mod write;

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::packed::Method;
use super::{Packed, Place, Run};
use crate::MediumError;
use crate::engine::Files;
use crate::file::MediaFile;
use header::{Header, OFFSET};
use state::{State, Table};

/// The entry is the only reference to its cluster.
const COPIED: u64 = 1 << 63;
/// The cluster is compressed.
const COMPRESSED: u64 = 1 << 62;
/// The cluster reads as zeros.
const ZERO: u64 = 1;

/// A qcow2 image.
#[derive(Debug)]
pub(crate) struct Qcow2 {
    header: Header,
    file: usize,
    writable: bool,
    /// Whether there is something below it.
    backed: bool,
    size: AtomicU64,
    state: Mutex<State>,
    /// Held by who changes mappings.
    changing: Mutex<()>,
    /// Held by who flushes.
    flushing: Mutex<()>,
    /// Writing went wrong in a way that leaves the file's state unknown.
    failed: AtomicBool,
}

/// What an L2 entry says of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cluster {
    Absent,
    Zero,
    At(u64),
    Packed { offset: u64, len: u64 },
}

/// Where a compressed cluster is, and how many bytes it has at most.
fn packed_range(header: &Header, entry: u64) -> (u64, u64) {
    // The offset has what the count of further sectors leaves of 62 bits.
    let bits = 62 - (header.cluster_bits - 8);
    let offset = entry & ((1 << bits) - 1);
    let sectors = ((entry & !(COPIED | COMPRESSED)) >> bits) + 1;
    (offset, sectors * 512 - offset % 512)
}

impl Qcow2 {
    /// `file` is the index it will have; `backed` whether an image lies below.
    pub(crate) fn open(
        file: &MediaFile,
        index: usize,
        header: Header,
        backed: bool,
    ) -> Result<Self, MediumError> {
        let writable = file.writable();
        let l1 = header.read_l1(file)?;
        let mut state = State::new(&header, l1);
        if writable {
            state.refcounts = check::refcounts(file, &header, &state.l1)?;
        }
        let image = Self {
            size: header.size.into(),
            header,
            file: index,
            writable,
            backed,
            state: Mutex::new(state),
            changing: Mutex::default(),
            flushing: Mutex::default(),
            failed: AtomicBool::new(false),
        };
        if writable {
            image
                .prepare(file)
                .map_err(MediumError::file("prepare the header of", file.path()))?;
        }
        Ok(image)
    }

    pub(crate) fn size(&self) -> u64 {
        self.size.load(Ordering::Acquire)
    }

    pub(crate) fn writable(&self) -> bool {
        self.writable
    }

    pub(crate) fn cluster_size(&self) -> u64 {
        self.header.cluster_size()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a lock that guards nothing but an order.
    fn only(lock: &Mutex<()>) -> MutexGuard<'_, ()> {
        lock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn l1_index(&self, at: u64) -> usize {
        (at >> self.header.cluster_bits) as usize / self.header.l2_entries() as usize
    }

    fn l2_index(&self, at: u64) -> usize {
        (at >> self.header.cluster_bits) as usize % self.header.l2_entries() as usize
    }

    fn decode(&self, entry: u64) -> Cluster {
        if entry & COMPRESSED != 0 {
            let (offset, len) = packed_range(&self.header, entry);
            return Cluster::Packed { offset, len };
        }
        match (
            entry & OFFSET,
            self.header.version >= 3 && entry & ZERO != 0,
        ) {
            (_, true) => Cluster::Zero,
            (0, _) => Cluster::Absent,
            (offset, _) => Cluster::At(offset),
        }
    }

    /// See [`Layer::lookup`](super::Layer).
    pub(crate) fn lookup(
        &self,
        files: &Files,
        at: u64,
        len: u64,
        wait: bool,
    ) -> io::Result<Option<Run>> {
        let l1 = self.l1_index(at);
        if !self.state().has(l1) {
            if !wait {
                return Ok(None);
            }
            self.load(files, l1)?;
        }
        let mut state = self.state();
        if !state.has(l1) {
            // Somebody needed the room; there will be another try.
            drop(state);
            return self.lookup(files, at, len, wait);
        }
        let size = self.header.cluster_size();
        let within = at & (size - 1);
        let table = state.table(l1).map(|table| &*table);
        let entry = |i: usize| table.map_or(0, |table| table.entries[i]);
        let first = self.l2_index(at);
        let place = self.place(entry(first), at)?;
        let mut run = (size - within).min(len);
        // Clusters that continue the first one's place.
        let mut next = first + 1;
        while run < len && next < self.header.l2_entries() as usize {
            let follows = match (&place, self.decode(entry(next))) {
                (Place::Packed(_), _) => false,
                (Place::File { offset, .. }, Cluster::At(host)) => {
                    host == offset + run && self.whole(host)
                }
                (Place::Zero, Cluster::Zero) | (Place::Below, Cluster::Absent) => true,
                (Place::Zero, Cluster::Absent) => !self.backed,
                _ => false,
            };
            if !follows {
                break;
            }
            run += size.min(len - run);
            next += 1;
        }
        // The last cluster of a file that is not a multiple of clusters is zero where it ends.
        if let Place::File { offset, .. } = place
            && !self.writable
            && offset + run > self.header.file_size
        {
            let there = self.header.file_size.saturating_sub(offset);
            return Ok(Some(match there {
                0 => Run {
                    place: Place::Zero,
                    len: run,
                },
                there => Run { place, len: there },
            }));
        }
        Ok(Some(Run { place, len: run }))
    }

    /// Whether a host cluster is there in its whole length.
    fn whole(&self, host: u64) -> bool {
        self.writable || host + self.header.cluster_size() <= self.header.file_size
    }

    fn place(&self, entry: u64, at: u64) -> io::Result<Place> {
        let size = self.header.cluster_size();
        let within = at & (size - 1);
        Ok(match self.decode(entry) {
            Cluster::Absent if self.backed => Place::Below,
            Cluster::Absent | Cluster::Zero => Place::Zero,
            Cluster::At(host) if self.writable || self.header.holds(host) => {
                let (file, offset) = (self.file, host + within);
                Place::File { file, offset }
            }
            Cluster::Packed { offset, len } if self.writable || offset < self.header.file_size => {
                let method = if self.header.zstd {
                    Method::Zstd
                } else {
                    Method::Deflate
                };
                Place::Packed(Packed {
                    file: self.file,
                    offset,
                    len,
                    method,
                    at: at - within,
                    size: size as usize,
                })
            }
            Cluster::At(offset) | Cluster::Packed { offset, .. } => {
                tracing::warn!(offset, "A qcow2 image refers to what is not in its file");
                return Err(io::Error::from_raw_os_error(libc::EIO));
            }
        })
    }

    /// Reads an L2 table.
    fn load(&self, files: &Files, l1: usize) -> io::Result<()> {
        let offset = match self.state().l1.get(l1) {
            Some(entry) if entry & OFFSET != 0 => entry & OFFSET,
            _ => return Ok(()),
        };
        let mut bytes = vec![0; self.header.cluster_size() as usize];
        files[self.file].read_at(&mut bytes, offset)?;
        let mut state = self.state();
        // Meanwhile somebody may have loaded, or replaced, it.
        if !state.has(l1) && state.l1[l1] & OFFSET == offset {
            state.insert(l1, Table::loaded(offset, &bytes));
        }
        Ok(())
    }
}

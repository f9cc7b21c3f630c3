//! The memory of a domain that is being built, through mappings of its pages.
//!
//! Pages are mapped in pieces as they are needed and cleared then: frames that Xen hands out are
//! scrubbed unless its command line says otherwise, and the builder relies on zeroes.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;

use pv_ring::SharedPage;
use xen_sys::DomId;
use xen_sys::addr::{Mfn, PAGE_SIZE, Pfn};
use xen_sys::memory::XENMEMF_populate_on_demand;
use xt_builder::memory::check_range;
use xt_builder::{GuestMemory, MemoryError};
use xt_host_xen::{Control, ForeignPages};

/// Pages of a superpage, as an order of 2.
const SUPERPAGE: u32 = 9;
/// Pages mapped at once: 4 MiB.
const PIECE: u64 = 1024;
/// Extents asked for at once; Xen stops in between when it is needed elsewhere.
const EXTENTS: usize = 1024;

/// Which frames are behind the pages.
#[derive(Debug)]
enum Frames {
    /// PV: any; the machine frame of each page.
    Listed(Vec<u64>),
    /// PVH: the pages' own numbers, which Xen translates. So many pages.
    Own(u64),
}

/// A domain's memory from page 0 on.
#[derive(Debug)]
pub struct DomainMemory<'a> {
    control: &'a Control,
    domid: DomId,
    frames: Frames,
    pieces: RefCell<BTreeMap<u64, ForeignPages>>,
}

impl<'a> DomainMemory<'a> {
    /// Gives a PV domain `nr_pages` pages.
    ///
    /// # Errors
    /// The hypervisor's; `ENOMEM` when it runs out of memory.
    pub fn of_pv(control: &'a Control, domid: DomId, nr_pages: u64) -> io::Result<Self> {
        let mut frames: Vec<u64> = (0..nr_pages).collect();
        populate(control, domid, &mut frames, 0)?;
        Ok(Self {
            control,
            domid,
            frames: Frames::Listed(frames),
            pieces: RefCell::default(),
        })
    }

    /// Gives a PVH domain memory in the given ranges of pages, on demand if so wanted; the first is
    /// the one to build in.
    ///
    /// # Errors
    /// The hypervisor's; `ENOMEM` when it runs out of memory.
    pub fn of_pvh(
        control: &'a Control,
        domid: DomId,
        ranges: &[std::ops::Range<u64>],
        on_demand: bool,
    ) -> io::Result<Self> {
        let flags = if on_demand {
            XENMEMF_populate_on_demand
        } else {
            0
        };
        for range in ranges {
            let mut frames: Vec<u64> = range.clone().collect();
            populate(control, domid, &mut frames, flags)?;
        }
        Ok(Self {
            control,
            domid,
            frames: Frames::Own(ranges.first().map_or(0, |range| range.end)),
            pieces: RefCell::default(),
        })
    }

    /// Clears the pages from 0 to `end`, so that the builder may count on zeroes there.
    ///
    /// # Errors
    /// The hypervisor's.
    pub fn clear_to(&self, end: Pfn) -> io::Result<()> {
        for piece in 0..end.0.min(self.nr_pages()).div_ceil(PIECE) {
            self.with_piece(piece, |_| ())?;
        }
        Ok(())
    }

    fn with_piece<R>(&self, piece: u64, f: impl FnOnce(&ForeignPages) -> R) -> io::Result<R> {
        let mut pieces = self.pieces.borrow_mut();
        if let Some(pages) = pieces.get(&piece) {
            return Ok(f(pages));
        }
        let range = piece * PIECE..((piece + 1) * PIECE).min(self.nr_pages());
        let own: Vec<u64>;
        let frames = match &self.frames {
            Frames::Listed(frames) => &frames[range.start as usize..range.end as usize],
            Frames::Own(_) => {
                own = range.collect();
                &own
            }
        };
        let pages = self.control.map_foreign(self.domid, frames)?;
        for page in (0..pages.len()).step_by(PAGE_SIZE) {
            pages.write(page, &[0; PAGE_SIZE]);
        }
        let result = f(&pages);
        pieces.insert(piece, pages);
        Ok(result)
    }

    /// Calls `f(piece, offset in it, range of the caller's bytes)` for each piece of an access.
    fn access(
        &self,
        pfn: Pfn,
        offset: u64,
        len: usize,
        mut f: impl FnMut(&ForeignPages, usize, std::ops::Range<usize>),
    ) -> Result<(), MemoryError> {
        let start = check_range(self.nr_pages(), pfn, offset, len)?;
        let size = PIECE * PAGE_SIZE as u64;
        let mut done = 0;
        while done < len {
            let at = start + done as u64;
            let inside = at % size;
            let count = (size - inside).min((len - done) as u64) as usize;
            self.with_piece(at / size, |piece| {
                f(piece, inside as usize, done..done + count)
            })
            .map_err(|source| MemoryError::Host { pfn, source })?;
            done += count;
        }
        Ok(())
    }
}

impl GuestMemory for DomainMemory<'_> {
    fn nr_pages(&self) -> u64 {
        match &self.frames {
            Frames::Listed(frames) => frames.len() as u64,
            Frames::Own(count) => *count,
        }
    }

    fn mfn(&self, pfn: Pfn) -> Mfn {
        let none = Mfn(u64::MAX);
        match &self.frames {
            Frames::Listed(frames) => frames.get(pfn.0 as usize).copied().map_or(none, Mfn),
            Frames::Own(count) if pfn.0 < *count => Mfn(pfn.0),
            Frames::Own(_) => none,
        }
    }

    fn mfn_list(&self, first: Pfn, out: &mut [u64]) {
        let from = first.0 as usize;
        match &self.frames {
            Frames::Listed(frames) => match frames.get(from..from + out.len()) {
                Some(there) => out.copy_from_slice(there),
                None => out.fill(u64::MAX),
            },
            Frames::Own(_) => {
                for (pfn, slot) in (first.0..).zip(out) {
                    *slot = self.mfn(Pfn(pfn)).0;
                }
            }
        }
    }

    fn write(&mut self, pfn: Pfn, offset: u64, bytes: &[u8]) -> Result<(), MemoryError> {
        self.access(pfn, offset, bytes.len(), |piece, at, range| {
            piece.write(at, &bytes[range]);
        })
    }

    fn read(&self, pfn: Pfn, offset: u64, bytes: &mut [u8]) -> Result<(), MemoryError> {
        self.access(pfn, offset, bytes.len(), |piece, at, range| {
            piece.read(at, &mut bytes[range]);
        })
    }
}

/// Gives memory at the pages in `frames`, a run, in superpages as far as there are any; puts the
/// machine frames there for a PV domain.
pub(crate) fn populate(
    control: &Control,
    domid: DomId,
    frames: &mut [u64],
    flags: u32,
) -> io::Result<()> {
    let size = 1 << SUPERPAGE;
    let first = frames.first().copied().unwrap_or(0);
    let unaligned = (first.next_multiple_of(size) - first).min(frames.len() as u64);
    let (head, rest) = frames.split_at_mut(unaligned as usize);
    small(control, domid, head, flags)?;
    let whole = rest.len() - rest.len() % size as usize;
    let (large, tail) = rest.split_at_mut(whole);
    let mut starts: Vec<u64> = large.iter().step_by(size as usize).copied().collect();
    let mut done = 0;
    for batch in starts.chunks_mut(EXTENTS) {
        let count = control.populate(domid, batch, SUPERPAGE, flags)?;
        done += count;
        if count < batch.len() {
            break;
        }
    }
    let (made, missing) = large.split_at_mut(done * size as usize);
    for (pages, start) in made.chunks_mut(size as usize).zip(&starts) {
        for (page, frame) in pages.iter_mut().zip(*start..) {
            *page = frame;
        }
    }
    small(control, domid, missing, flags)?;
    small(control, domid, tail, flags)
}

/// The same, page by page.
fn small(control: &Control, domid: DomId, frames: &mut [u64], flags: u32) -> io::Result<()> {
    for batch in frames.chunks_mut(EXTENTS) {
        if control.populate(domid, batch, 0, flags)? < batch.len() {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
    }
    Ok(())
}

//! The virtual machine's memory and the host's access to it.
//!
//! Three regions of guest-physical memory, all of them sparse: the emulator
//! with the hypervisor's heap, the machine-to-physical table, and the domain's
//! own memory from 4 GiB on. The host copies; it never makes a reference to
//! what a guest may change, but to atomics.

mod mapping;
mod span;

use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use vm_memory::{
    Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion, GuestRegionMmap,
};
use xen_sys::addr::{Maddr, Mfn, PAGE_SIZE, Pfn, Vaddr};
use xenner_core::Physical;
use xenner_core::image::{HEAP_BASE, IMAGE_BASE, M2P_BASE, RAM_BASE};
use xenner_core::mmu::pte;
use xt_builder::MemoryError;

use crate::grants::HostMemory;
use mapping::Mapping;
use span::{Span, Word};

/// Memory could not be had or reached.
#[derive(Debug, thiserror::Error)]
pub enum MemError {
    /// The host has no address space left for it.
    #[error("Cannot reserve {mib} MiB of address space for the domain.")]
    Reserve {
        /// How much.
        mib: u64,
        /// Why not.
        source: std::io::Error,
    },
    /// An address outside the virtual machine's memory.
    #[error("Guest-physical address {at:#x} is no memory.")]
    Access {
        /// Where.
        at: u64,
        /// Why not.
        source: vm_memory::GuestMemoryError,
    },
    /// An address where no such word can be: outside the memory, or not aligned.
    #[error("Guest-physical address {at:#x} is no place for a word of {size} bytes.")]
    Word {
        /// Where.
        at: u64,
        /// Its bytes.
        size: usize,
    },
}

const REGIONS: usize = 3;

/// The memory of one virtual machine; clones share it.
#[derive(Clone, Debug)]
pub struct Memory {
    /// The regions of `map`, in its order. Words are looked at in the first of all, where the
    /// hypervisor's heap is with the grant table; pages are the domain's, in the last.
    spans: [Span; REGIONS],
    map: Arc<GuestMemoryMmap<()>>,
    /// What `map` and `spans` lie in, given back after them.
    _mappings: Arc<Vec<Mapping>>,
    /// Frames the domain starts with.
    nr_pages: u64,
    /// Frames it may have.
    max_pages: u64,
    /// Frames there are.
    ram_pages: u64,
    heap_pages: u64,
}

/// Frames to have for a domain that may own `max_pages`. The rest is what
/// `XENMEM_exchange` takes contiguous frames from: two of the largest extents,
/// and as much again as alignment costs. Untouched frames cost address space.
pub fn ram_pages(max_pages: u64) -> u64 {
    const LARGEST_EXTENT: u64 = 512;
    max_pages + 3 * LARGEST_EXTENT
}

impl Memory {
    /// Reserves address space; pages come when they are touched, huge ones if
    /// `huge`. Where KVM shadows the guest's page tables it maps single pages
    /// whatever is behind them; then huge ones cost only, most of all on a
    /// machine that gives its free memory back to a host of its own: there each
    /// takes milliseconds.
    ///
    /// # Errors
    /// [`MemError::Reserve`].
    pub fn new(
        nr_pages: u64,
        max_pages: u64,
        heap_pages: u64,
        huge: bool,
    ) -> Result<Self, MemError> {
        let page = PAGE_SIZE as u64;
        let first = HEAP_BASE + heap_pages * page - IMAGE_BASE;
        let ram_pages = ram_pages(max_pages);
        const HUGE: u64 = 2 << 20;
        let m2p = ((RAM_BASE / page + ram_pages) * 8).next_multiple_of(HUGE);
        // Only the entries of real frames are written, a few pages for a small
        // domain, and few of the hypervisor's own.
        let entries = RAM_BASE / page * 8..(RAM_BASE / page + max_pages) * 8 / HUGE * HUGE;
        let ranges: [_; REGIONS] = [
            (GuestAddress(IMAGE_BASE), first, 0..0),
            (GuestAddress(M2P_BASE), m2p, entries),
            (
                GuestAddress(RAM_BASE),
                ram_pages * page,
                0..ram_pages * page,
            ),
        ];
        let mib = ram_pages / 256;
        let reserve = |source| MemError::Reserve { mib, source };
        let (mut regions, mut mappings) = (Vec::new(), Vec::new());
        for (start, size, full) in ranges {
            let full = full.start as usize..full.end as usize;
            let full = if huge { full } else { 0..0 };
            let made = Mapping::region(start, size as usize, full);
            let (region, mapping) = made.map_err(reserve)?;
            regions.push(region);
            mappings.push(mapping);
        }
        let map = GuestMemoryMmap::from_regions(regions)
            .map_err(|error| reserve(std::io::Error::other(error)))?;
        let span = |region: &GuestRegionMmap<()>| {
            let host = NonNull::new(region.as_ptr()).expect("a mapping is not at 0");
            // SAFETY: mapped as long as `_mappings`, which every copy of the spans goes with;
            // whatever accesses it does so through `Memory` or what it hands out.
            unsafe { Span::new(region.start_addr().0, region.len(), host) }
        };
        let spans: Vec<_> = map.iter().map(span).collect();
        Ok(Self {
            spans: spans.try_into().expect("a span for each range"),
            map: Arc::new(map),
            _mappings: Arc::new(mappings),
            nr_pages,
            max_pages,
            ram_pages,
            heap_pages,
        })
    }

    /// The regions: guest-physical start, length in bytes, host address.
    pub fn regions(&self) -> impl Iterator<Item = (u64, u64, u64)> + '_ {
        self.map
            .iter()
            .map(|region| (region.start_addr().0, region.len(), region.as_ptr() as u64))
    }

    /// Frames the domain starts with.
    pub fn nr_pages(&self) -> u64 {
        self.nr_pages
    }

    /// Frames the domain may have.
    pub fn max_pages(&self) -> u64 {
        self.max_pages
    }

    /// Frames there are from `RAM_BASE` on.
    pub fn ram_pages(&self) -> u64 {
        self.ram_pages
    }

    /// Frames of the hypervisor's heap.
    pub fn heap_pages(&self) -> u64 {
        self.heap_pages
    }

    /// Copies out.
    ///
    /// # Errors
    /// [`MemError::Access`].
    pub fn read(&self, at: Maddr, to: &mut [u8]) -> Result<(), MemError> {
        self.map
            .read_slice(to, GuestAddress(at.0))
            .map_err(|source| MemError::Access { at: at.0, source })
    }

    /// Copies in.
    ///
    /// # Errors
    /// [`MemError::Access`].
    pub fn write(&self, at: Maddr, from: &[u8]) -> Result<(), MemError> {
        self.map
            .write_slice(from, GuestAddress(at.0))
            .map_err(|source| MemError::Access { at: at.0, source })
    }

    /// Loads an aligned word.
    ///
    /// # Errors
    /// [`MemError::Word`].
    #[inline]
    pub fn load<T: Word>(&self, at: Maddr) -> Result<T, MemError> {
        self.atomic::<T, _>(at, T::load)
    }

    /// Stores an aligned word.
    ///
    /// # Errors
    /// [`MemError::Word`].
    #[inline]
    pub fn store<T: Word>(&self, at: Maddr, value: T) -> Result<(), MemError> {
        self.atomic::<T, _>(at, |word| value.store(word))
    }

    /// Calls `f` with the atomic at `at`.
    #[inline]
    fn atomic<W: Word, R>(
        &self,
        at: Maddr,
        f: impl FnOnce(&W::Atomic) -> R,
    ) -> Result<R, MemError> {
        match self.spans[0].atomic::<W>(at.0) {
            Some(word) => Ok(f(word)),
            None => self.atomic_beyond::<W, R>(at, f),
        }
    }

    /// The same in the other regions. By itself, so that the first takes few instructions.
    #[inline(never)]
    fn atomic_beyond<W: Word, R>(
        &self,
        at: Maddr,
        f: impl FnOnce(&W::Atomic) -> R,
    ) -> Result<R, MemError> {
        let mut others = self.spans[1..].iter();
        let word = others.find_map(|span| span.atomic::<W>(at.0));
        word.map(f).ok_or(MemError::Word {
            at: at.0,
            size: size_of::<W>(),
        })
    }

    /// Atomically sets bits of an aligned word, returns the word before.
    ///
    /// # Errors
    /// [`MemError::Word`].
    pub fn fetch_or(&self, at: Maddr, bits: u64) -> Result<u64, MemError> {
        self.atomic::<u64, _>(at, |word| word.fetch_or(bits, Ordering::SeqCst))
    }

    /// Atomically clears the bits not in `bits`, returns the word before.
    ///
    /// # Errors
    /// [`MemError::Word`].
    #[inline]
    pub fn fetch_and(&self, at: Maddr, bits: u64) -> Result<u64, MemError> {
        self.atomic::<u64, _>(at, |word| word.fetch_and(bits, Ordering::SeqCst))
    }

    /// Atomically replaces `old` by `new`; the inner result holds what was found.
    ///
    /// # Errors
    /// [`MemError::Word`].
    #[inline]
    pub fn compare_exchange64(
        &self,
        at: Maddr,
        old: u64,
        new: u64,
    ) -> Result<Result<u64, u64>, MemError> {
        self.atomic::<u64, _>(at, |word| {
            word.compare_exchange(old, new, Ordering::SeqCst, Ordering::SeqCst)
        })
    }

    /// The same on 32 bits.
    ///
    /// # Errors
    /// [`MemError::Word`].
    pub fn compare_exchange32(
        &self,
        at: Maddr,
        old: u32,
        new: u32,
    ) -> Result<Result<u32, u32>, MemError> {
        self.atomic::<u32, _>(at, |word| {
            word.compare_exchange(old, new, Ordering::SeqCst, Ordering::SeqCst)
        })
    }

    /// Where a guest-virtual address leads by the guest's page tables.
    pub fn translate(&self, l4: Mfn, at: Vaddr) -> Option<Maddr> {
        let mut table = l4;
        for level in [4u32, 3, 2, 1] {
            let index = at.0 >> (12 + 9 * (level - 1)) & 511;
            let entry: u64 = self.load(table.addr().offset(index * 8)).ok()?;
            if entry & pte::PRESENT == 0 {
                return None;
            }
            if level > 1 && entry & pte::HUGE != 0 {
                let size = 1u64 << (12 + 9 * (level - 1));
                let base = entry & pte::FRAME & !(size - 1);
                return Some(Maddr(base + (at.0 & (size - 1))));
            }
            table = Maddr(entry & pte::FRAME).frame();
        }
        Some(table.addr().offset(at.page_offset() as u64))
    }

    /// The domain's own pages: pseudo-physical number and machine frame, by
    /// the machine-to-physical table. The guest may have changed that one, so
    /// it is its own picture of itself.
    pub fn domain_frames(&self) -> impl Iterator<Item = (Pfn, Mfn)> + '_ {
        let first = RAM_BASE / PAGE_SIZE as u64;
        (first..first + self.ram_pages).filter_map(|mfn| {
            let pfn: u64 = self.load(Maddr(M2P_BASE + mfn * 8)).ok()?;
            (pfn < self.max_pages).then_some((Pfn(pfn), Mfn(mfn)))
        })
    }

    /// The machine-to-physical table before the guest runs: the domain's
    /// frames in order, all others nobody's.
    ///
    /// # Errors
    /// [`MemError::Access`].
    pub fn fill_m2p(&self) -> Result<(), MemError> {
        const CHUNK: u64 = 8192;
        let first = RAM_BASE / PAGE_SIZE as u64;
        let mut bytes = Vec::with_capacity(CHUNK as usize * 8);
        let mut pfn = 0;
        while pfn < self.ram_pages {
            let end = (pfn + CHUNK).min(self.ram_pages);
            bytes.clear();
            for n in pfn..end {
                let owner = if n < self.nr_pages { n } else { u64::MAX };
                bytes.extend_from_slice(&owner.to_le_bytes());
            }
            self.write(Maddr(M2P_BASE + (first + pfn) * 8), &bytes)?;
            pfn = end;
        }
        Ok(())
    }

    /// Gives frames' memory back to the host; they read as zero afterwards.
    /// Frames that are not the domain's are ignored.
    pub fn release(&self, first: Mfn, count: u64) {
        let base = Mfn(RAM_BASE / PAGE_SIZE as u64);
        let Some(start) = first.0.checked_sub(base.0) else {
            return;
        };
        if count == 0
            || start
                .checked_add(count)
                .is_none_or(|end| end > self.ram_pages)
        {
            return;
        }
        let Ok(host) = self.map.get_host_address(GuestAddress(first.addr().0)) else {
            return;
        };
        // SAFETY: the range lies in the domain's region, which is a private
        // anonymous mapping of whole pages; the host keeps no reference to it.
        unsafe {
            libc::madvise(host.cast(), count as usize * PAGE_SIZE, libc::MADV_DONTNEED);
        }
    }
}

/// An address that is no memory reads as zero and takes no store.
impl Physical for Memory {
    fn is_ram(&self, mfn: Mfn) -> bool {
        mfn.0.wrapping_sub(RAM_BASE >> 12) < self.ram_pages
            || mfn.0.wrapping_sub(HEAP_BASE >> 12) < self.heap_pages
    }

    #[inline]
    fn load64(&self, at: Maddr) -> u64 {
        self.load(at).unwrap_or(0)
    }

    fn store64(&self, at: Maddr, value: u64) {
        let _ = self.store(at, value);
    }

    #[inline]
    fn cmpxchg64(&self, at: Maddr, old: u64, new: u64) -> Result<u64, u64> {
        self.compare_exchange64(at, old, new).unwrap_or(Err(0))
    }

    fn cmpxchg32(&self, at: Maddr, old: u32, new: u32) -> Result<u32, u32> {
        self.compare_exchange32(at, old, new).unwrap_or(Err(0))
    }

    fn load32(&self, at: Maddr) -> u32 {
        self.load(at).unwrap_or(0)
    }

    fn store32(&self, at: Maddr, value: u32) {
        let _ = self.store(at, value);
    }

    fn fetch_or64(&self, at: Maddr, bits: u64) -> u64 {
        self.fetch_or(at, bits).unwrap_or(0)
    }

    #[inline]
    fn fetch_and64(&self, at: Maddr, bits: u64) -> u64 {
        self.fetch_and(at, bits).unwrap_or(0)
    }

    fn store8(&self, at: Maddr, value: u8) {
        let _ = self.store(at, value);
    }

    fn load8(&self, at: Maddr) -> u8 {
        self.load(at).unwrap_or(0)
    }

    fn read_frame(&self, from: Maddr, to: &mut [u8]) {
        let _ = self.read(from, to);
    }

    fn write_frame(&self, to: Maddr, from: &[u8]) {
        let _ = self.write(to, from);
    }
}

impl HostMemory for Memory {
    #[inline]
    fn host_address(&self, mfn: Mfn) -> Option<NonNull<u8>> {
        let at = mfn.0.checked_mul(PAGE_SIZE as u64)?;
        let [others @ .., own] = &self.spans;
        let in_span = |span: &Span| span.host(at, PAGE_SIZE as u64);
        in_span(own).or_else(|| others.iter().find_map(in_span))
    }
}

impl xt_builder::GuestMemory for Memory {
    fn nr_pages(&self) -> u64 {
        self.nr_pages
    }

    fn mfn(&self, pfn: Pfn) -> Mfn {
        if pfn.0 < self.nr_pages {
            Mfn(RAM_BASE / PAGE_SIZE as u64 + pfn.0)
        } else {
            Mfn(u64::MAX)
        }
    }

    fn write(&mut self, pfn: Pfn, offset: u64, bytes: &[u8]) -> Result<(), MemoryError> {
        let at = xt_builder::memory::check_range(self.nr_pages, pfn, offset, bytes.len())?;
        Memory::write(self, Maddr(RAM_BASE + at), bytes).map_err(|source| host_error(pfn, source))
    }

    fn read(&self, pfn: Pfn, offset: u64, bytes: &mut [u8]) -> Result<(), MemoryError> {
        let at = xt_builder::memory::check_range(self.nr_pages, pfn, offset, bytes.len())?;
        Memory::read(self, Maddr(RAM_BASE + at), bytes).map_err(|source| host_error(pfn, source))
    }
}

fn host_error(pfn: Pfn, source: MemError) -> MemoryError {
    MemoryError::Host {
        pfn,
        source: std::io::Error::other(source),
    }
}

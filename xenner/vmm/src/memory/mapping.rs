//! Address space of this process that guest memory lies in.

use std::ops::Range;

use vm_memory::{GuestAddress, GuestRegionMmap, MmapRegion};

/// Address space of this process that guest memory lies in.
#[derive(Debug)]
pub(super) struct Mapping {
    start: *mut libc::c_void,
    length: usize,
}

// SAFETY: it is a range of addresses, unmapped once by whoever drops it.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// A region of guest memory whose host addresses are congruent to the
    /// guest's modulo 2 MiB: only then does KVM map huge pages as such, which
    /// spares the guest 511 of 512 exits at first touch, and TLB misses ever
    /// after. `huge` is the part of it that will be full.
    pub(super) fn region(
        start: GuestAddress,
        size: usize,
        huge: Range<usize>,
    ) -> Result<(GuestRegionMmap<()>, Self), std::io::Error> {
        const HUGE: usize = 2 << 20;
        let (protection, flags) = (
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
        );
        let length = size + HUGE;
        // SAFETY: a new mapping where the system likes.
        let base = unsafe { libc::mmap(std::ptr::null_mut(), length, protection, flags, -1, 0) };
        if base == libc::MAP_FAILED {
            return Err(std::io::Error::last_os_error());
        }
        let mapping = Self {
            start: base,
            length,
        };
        let skip = (start.0 as usize).wrapping_sub(base as usize) % HUGE;
        // SAFETY: `skip` is less than the slack, so that `size` bytes remain,
        // and `huge` lies in them; the mapping lives as long as `Memory`.
        // Advice may be refused.
        let region = unsafe {
            let at = base.byte_add(skip);
            if !huge.is_empty() {
                libc::madvise(at.byte_add(huge.start), huge.len(), libc::MADV_HUGEPAGE);
            }
            MmapRegion::build_raw(at.cast(), size, protection, flags)
        };
        let region = region.map_err(std::io::Error::other)?;
        let region = GuestRegionMmap::new(region, start)
            .ok_or_else(|| std::io::Error::other("it ends beyond the address space"))?;
        Ok((region, mapping))
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: it was mapped by `region`, and nothing refers to it any more.
        unsafe { libc::munmap(self.start, self.length) };
    }
}

//! The memory of the domain that is being built.

use xen_sys::addr::{Mfn, PAGE_SIZE, Pfn};

/// Bytes in a page, as a slice length.
pub(crate) const PAGE: usize = PAGE_SIZE;

/// The memory of a domain under construction.
///
/// Addresses are pseudo-physical: page 0 to [`nr_pages`](Self::nr_pages) - 1, all of them
/// populated. Which machine frame is behind which page is the implementation's business; only
/// [`mfn`](Self::mfn) tells.
///
/// **Guest memory starts zeroed.** The builder writes what it has to and clears nothing: neither
/// `.bss` nor the tail of a page. An implementation that recycles frames must clear them first.
pub trait GuestMemory {
    /// Pages of the domain.
    fn nr_pages(&self) -> u64;

    /// The machine frame of a page; `Mfn(u64::MAX)` for a page that the domain does not have.
    fn mfn(&self, pfn: Pfn) -> Mfn;

    /// Writes the machine frames of the pages from `first` on to `out`.
    ///
    /// This fills the phys-to-machine list, so implementations with a contiguous mapping may want
    /// to do better than one call per page.
    fn mfn_list(&self, first: Pfn, out: &mut [u64]) {
        for (pfn, slot) in (first.0..).zip(out) {
            *slot = self.mfn(Pfn(pfn)).0;
        }
    }

    /// Copies `bytes` to guest memory from byte `offset` of page `pfn` on.
    ///
    /// The copy goes on into the following pages; `offset` itself may exceed a page.
    ///
    /// # Errors
    /// [`MemoryError`] when a byte of the range is not the domain's, or cannot be reached.
    fn write(&mut self, pfn: Pfn, offset: u64, bytes: &[u8]) -> Result<(), MemoryError>;

    /// Copies guest memory to `bytes`; the counterpart of [`write`](Self::write).
    ///
    /// # Errors
    /// As for [`write`](Self::write).
    fn read(&self, pfn: Pfn, offset: u64, bytes: &mut [u8]) -> Result<(), MemoryError>;
}

/// Memory of this process, whose frames are its pages in order: to look at what would be built.
#[derive(Clone, Debug)]
pub struct OwnMemory(Vec<u8>);

impl OwnMemory {
    /// So many pages, all zero.
    pub fn new(nr_pages: u64) -> Self {
        Self(vec![0; nr_pages as usize * PAGE])
    }

    /// All of it.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl GuestMemory for OwnMemory {
    fn nr_pages(&self) -> u64 {
        (self.0.len() / PAGE) as u64
    }

    fn mfn(&self, pfn: Pfn) -> Mfn {
        Mfn(pfn.0)
    }

    fn write(&mut self, pfn: Pfn, offset: u64, bytes: &[u8]) -> Result<(), MemoryError> {
        let at = check_range(self.nr_pages(), pfn, offset, bytes.len())? as usize;
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    fn read(&self, pfn: Pfn, offset: u64, bytes: &mut [u8]) -> Result<(), MemoryError> {
        let at = check_range(self.nr_pages(), pfn, offset, bytes.len())? as usize;
        bytes.copy_from_slice(&self.0[at..at + bytes.len()]);
        Ok(())
    }
}

/// An access to guest memory that failed.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// The range is not within the domain's memory.
    #[error("{len} bytes at offset {offset:#x} of page {:#x} are beyond the {nr_pages:#x} pages of the domain", pfn.0)]
    OutOfRange {
        /// First page of the access.
        pfn: Pfn,
        /// Offset from the start of that page, bytes.
        offset: u64,
        /// Length of the access, bytes.
        len: u64,
        /// Pages of the domain.
        nr_pages: u64,
    },
    /// The system refused.
    #[error("Guest memory at page {:#x} cannot be reached", pfn.0)]
    Host {
        /// First page of the access.
        pfn: Pfn,
        /// The system's answer.
        source: std::io::Error,
    },
}

/// Checks an access against the size of the domain; returns its offset from page 0 in bytes.
///
/// For implementations of [`GuestMemory`].
///
/// # Errors
/// [`MemoryError::OutOfRange`].
pub fn check_range(nr_pages: u64, pfn: Pfn, offset: u64, len: usize) -> Result<u64, MemoryError> {
    let len = len as u64;
    let start = pfn
        .0
        .checked_mul(PAGE_SIZE as u64)
        .and_then(|p| p.checked_add(offset));
    let end = start.and_then(|s| s.checked_add(len));
    match (start, end) {
        (Some(start), Some(end)) if end.div_ceil(PAGE_SIZE as u64) <= nr_pages => Ok(start),
        _ => Err(MemoryError::OutOfRange {
            pfn,
            offset,
            len,
            nr_pages,
        }),
    }
}

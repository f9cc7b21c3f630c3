//! Memory of this process's own that can be lent: for bounce buffers, measurements and tests.
#![allow(unsafe_code)]

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ptr::NonNull;

use pv_ring::{IoBuffers, IoVec};

/// Page-aligned memory, lent in pieces of a page.
#[derive(Debug)]
pub struct Memory {
    base: NonNull<u8>,
    len: usize,
    iov: Vec<IoVec>,
}

// SAFETY: the memory is this value's own, like a `Box<[u8]>`.
unsafe impl Send for Memory {}

// SAFETY: the memory lives as long as the value, wherever that is; references to it are made only
// inside of methods that borrow the value.
unsafe impl IoBuffers for Memory {
    fn iovecs(&self) -> &[IoVec] {
        &self.iov
    }
}

const PAGE: usize = 4096;

impl Memory {
    /// Zeros.
    pub fn zeroed(len: usize) -> Self {
        let layout = Self::layout(len);
        // SAFETY: the layout is never of size zero.
        let base = unsafe { alloc_zeroed(layout) };
        let base = NonNull::new(base).unwrap_or_else(|| handle_alloc_error(layout));
        let mut memory = Self {
            base,
            len,
            iov: Vec::new(),
        };
        let whole = IoVec::of_bytes(memory.bytes_mut());
        let pieces = (0..len).step_by(PAGE);
        memory.iov = pieces
            .map(|at| whole.part(at..len.min(at + PAGE)))
            .collect();
        memory
    }

    /// A copy of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        let mut memory = Self::zeroed(bytes.len());
        memory.bytes_mut().copy_from_slice(bytes);
        memory
    }

    /// Lends it in other pieces: ranges of it, in any order.
    ///
    /// # Panics
    /// A range is not within.
    pub fn pieces(mut self, ranges: &[std::ops::Range<usize>]) -> Self {
        let whole = IoVec::of_bytes(self.bytes_mut());
        self.iov = ranges
            .iter()
            .map(|range| whole.part(range.clone()))
            .collect();
        self
    }

    fn layout(len: usize) -> Layout {
        Layout::from_size_align(len.max(1), PAGE).expect("a size that memory has")
    }

    /// Its content.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: allocated with this length and initialised; nobody writes while the value is
        // borrowed, since to lend it is to give it away.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr(), self.len) }
    }

    /// Its content.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.base.as_ptr(), self.len) }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: allocated so in `zeroed`.
        unsafe { dealloc(self.base.as_ptr(), Self::layout(self.len)) }
    }
}

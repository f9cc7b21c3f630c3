//! Pieces of shared memory handed to the host's kernel.

use core::ops::Range;

use crate::HostPage;

/// A piece of memory for `readv` and its kin: `struct iovec`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct IoVec {
    base: *mut u8,
    len: usize,
}

// SAFETY: only an address; what it takes to use it is told in `IoBuffers`.
#[allow(unsafe_code)]
unsafe impl Send for IoVec {}

impl IoVec {
    /// Part of a page. It must not outlive the page when it is used.
    ///
    /// # Panics
    /// The range is not within the page.
    #[inline]
    pub fn of(page: &impl HostPage, range: Range<usize>) -> Self {
        assert!(range.start <= range.end && range.end <= page.len());
        Self {
            base: page.as_ptr().as_ptr().wrapping_add(range.start),
            len: range.end - range.start,
        }
    }

    /// Memory of this process's own.
    #[inline]
    pub fn of_bytes(bytes: &mut [u8]) -> Self {
        Self {
            base: bytes.as_mut_ptr(),
            len: bytes.len(),
        }
    }

    /// Takes in `next` if it begins where this ends; whether it does.
    #[inline]
    pub fn join(&mut self, next: &Self) -> bool {
        let adjacent = self.base.wrapping_add(self.len) == next.base;
        if adjacent {
            self.len += next.len;
        }
        adjacent
    }

    /// A part of the piece.
    ///
    /// # Panics
    /// The range is not within the piece.
    #[inline]
    pub fn part(&self, range: Range<usize>) -> Self {
        assert!(range.start <= range.end && range.end <= self.len);
        Self {
            base: self.base.wrapping_add(range.start),
            len: range.end - range.start,
        }
    }

    /// Where it begins.
    #[inline]
    pub fn base(&self) -> *mut u8 {
        self.base
    }

    /// Bytes.
    #[allow(clippy::len_without_is_empty)]
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }
}

/// Memory lent to the host's kernel for a transfer.
///
/// # Safety
/// As long as the value lives, wherever it is moved to, each piece is mapped memory of which no Rust
/// reference exists; dropping the value is what ends the loan. The memory may be read, and written
/// if that is what the transfer does which the value is handed over for: memory mapped for reading
/// only is handed over for writing to a medium, never for reading from one.
#[allow(unsafe_code)]
pub unsafe trait IoBuffers: Send + 'static {
    /// The pieces in order.
    fn iovecs(&self) -> &[IoVec];
}

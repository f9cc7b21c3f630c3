//! Memory shared with a far end that may write to it at any time.
//!
//! No Rust reference to such memory is ever made: it is loaded, stored and copied. The only
//! `unsafe` of the crate is in the module of [`RawPage`].

mod raw;
mod word;

use core::marker::PhantomData;
use core::ops::{Deref, Range};
use core::ptr::NonNull;

use xen_sys::addr::PAGE_SIZE;

use crate::RingError;

pub use raw::RawPage;
pub use word::WordPage;

/// Shared memory: a page, or several that behave as one.
///
/// The rings check once that their layout fits [`len`](Self::len) and mask every index, so they
/// never pass an offset out of range; an implementation panics on one rather than touch memory
/// that is not its own.
#[allow(clippy::len_without_is_empty)] // never empty
pub trait SharedPage {
    /// Bytes of shared memory.
    fn len(&self) -> usize;

    /// Loads the aligned 32-bit word at `offset`, with acquire ordering: pairs with the far end's
    /// write barrier before it moved an index.
    fn load_u32(&self, offset: usize) -> u32;

    /// Stores the aligned 32-bit word at `offset`, with release ordering: what was written before
    /// is visible to a far end that sees the new value.
    fn store_u32(&self, offset: usize, value: u32);

    /// Copies `to.len()` bytes out. Concurrent writes by the far end give any mixture.
    fn read(&self, offset: usize, to: &mut [u8]);

    /// Copies `from` in.
    fn write(&self, offset: usize, from: &[u8]);
}

/// Shared memory at one host address, for I/O without a copy.
///
/// The pointer is good as long as the page object lives, for system calls and volatile accesses;
/// no reference may be made from it.
pub trait HostPage: SharedPage {
    /// Address of byte 0.
    fn as_ptr(&self) -> NonNull<u8>;
}

impl<D> SharedPage for D
where
    D: Deref,
    D::Target: SharedPage,
{
    fn len(&self) -> usize {
        (**self).len()
    }

    fn load_u32(&self, offset: usize) -> u32 {
        (**self).load_u32(offset)
    }

    fn store_u32(&self, offset: usize, value: u32) {
        (**self).store_u32(offset, value);
    }

    fn read(&self, offset: usize, to: &mut [u8]) {
        (**self).read(offset, to);
    }

    fn write(&self, offset: usize, from: &[u8]) {
        (**self).write(offset, from);
    }
}

/// Several pages of [`PAGE_SIZE`] bytes that need not be adjacent in the host, as one: a multi-page
/// ring. `S` is an array, a slice or a vector of them.
#[derive(Clone, Copy, Debug)]
pub struct PageRun<S, P> {
    pages: S,
    page: PhantomData<P>,
}

impl<S: AsRef<[P]>, P: SharedPage> PageRun<S, P> {
    /// The pages in their order.
    ///
    /// # Errors
    /// [`RingError::TooSmall`] when there is none, or one is smaller than [`PAGE_SIZE`].
    pub fn new(pages: S) -> Result<Self, RingError> {
        let have = pages.as_ref().iter().map(P::len).min().unwrap_or(0);
        if have < PAGE_SIZE {
            return Err(RingError::TooSmall {
                need: PAGE_SIZE,
                have,
            });
        }
        Ok(Self {
            pages,
            page: PhantomData,
        })
    }

    /// Calls `f(page, offset in it, range of the caller's bytes)` for each piece.
    fn pieces(&self, offset: usize, len: usize, mut f: impl FnMut(&P, usize, Range<usize>)) {
        let mut done = 0;
        while done < len {
            let at = offset + done;
            let n = (PAGE_SIZE - at % PAGE_SIZE).min(len - done);
            f(
                &self.pages.as_ref()[at / PAGE_SIZE],
                at % PAGE_SIZE,
                done..done + n,
            );
            done += n;
        }
    }
}

impl<S: AsRef<[P]>, P: SharedPage> SharedPage for PageRun<S, P> {
    fn len(&self) -> usize {
        self.pages.as_ref().len() * PAGE_SIZE
    }

    fn load_u32(&self, offset: usize) -> u32 {
        self.pages.as_ref()[offset / PAGE_SIZE].load_u32(offset % PAGE_SIZE)
    }

    fn store_u32(&self, offset: usize, value: u32) {
        self.pages.as_ref()[offset / PAGE_SIZE].store_u32(offset % PAGE_SIZE, value);
    }

    fn read(&self, offset: usize, to: &mut [u8]) {
        self.pieces(offset, to.len(), |page, at, range| {
            page.read(at, &mut to[range])
        });
    }

    fn write(&self, offset: usize, from: &[u8]) {
        self.pieces(offset, from.len(), |page, at, range| {
            page.write(at, &from[range])
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_of_pages_behaves_as_one() {
        let run = PageRun::new([WordPage::new(), WordPage::new()]).unwrap();
        assert_eq!(run.len(), 8192);
        run.write(4094, b"abcd");
        run.store_u32(4100, 7);
        let mut back = [0; 4];
        run.read(4094, &mut back);
        assert_eq!(&back, b"abcd");
        assert_eq!(run.load_u32(4100), 7);
        let none: [WordPage; 0] = [];
        assert!(PageRun::new(none).is_err());
    }
}

//! The regions of guest memory as plain addresses, for single words.
//!
//! A back end looks at a dozen words of guest memory for each page that is granted to it, so finding
//! one has to cost a few instructions: a subtraction and a comparison for each of three regions.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};

/// An integer that memory can hold as an atomic.
///
/// # Safety
/// Any bits make an `Atomic`, which has the integer's size.
pub unsafe trait Word: Copy {
    /// The atomic.
    type Atomic;

    /// Loads with acquire ordering.
    fn load(from: &Self::Atomic) -> Self;

    /// Stores with release ordering.
    fn store(self, to: &Self::Atomic);
}

macro_rules! words {
    ($($word:ty: $atomic:ty,)*) => {$(
        // SAFETY: one of the standard library's integer atomics.
        unsafe impl Word for $word {
            type Atomic = $atomic;

            #[inline]
            fn load(from: &$atomic) -> Self {
                from.load(Ordering::Acquire)
            }

            #[inline]
            fn store(self, to: &$atomic) {
                to.store(self, Ordering::Release);
            }
        }
    )*};
}

words! { u8: AtomicU8, u16: AtomicU16, u32: AtomicU32, u64: AtomicU64, }

/// Guest-physical memory that lies in this process in one piece.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    start: u64,
    len: u64,
    host: NonNull<u8>,
}

// SAFETY: it is a range of addresses; what it leads to is accessed atomically only.
unsafe impl Send for Span {}
// SAFETY: as above.
unsafe impl Sync for Span {}

impl Span {
    /// `len` bytes of guest-physical memory from `start` on, which lie at `host`.
    ///
    /// # Safety
    /// As long as this span or a copy of it is used
    /// - `host..host + len` is mapped, readable and writable;
    /// - no Rust reference to any of it exists but to atomics, and this program accesses it by
    ///   atomic or volatile operations and system calls only. The guest may write to it at any
    ///   time.
    ///
    /// `start` and `host` are congruent modulo a page.
    pub(super) unsafe fn new(start: u64, len: u64, host: NonNull<u8>) -> Self {
        Self { start, len, host }
    }

    /// Where `size` bytes at `at` lie, if all of them are in the span.
    #[inline]
    pub(super) fn host(&self, at: u64, size: u64) -> Option<NonNull<u8>> {
        // Below `start` it wraps to more than any length.
        let offset = at.wrapping_sub(self.start);
        let inside = offset < self.len && size <= self.len - offset;
        // SAFETY: less than `len`, so within the mapping.
        inside.then(|| unsafe { self.host.add(offset as usize) })
    }

    /// The atomic at `at`, if all of it is in the span and it is aligned.
    #[inline]
    pub(super) fn atomic<W: Word>(&self, at: u64) -> Option<&W::Atomic> {
        let size = size_of::<W::Atomic>() as u64;
        let host = self.host(at, size)?.cast::<W::Atomic>();
        if host.is_aligned() {
            // SAFETY: mapped by the contract of `new`, all of it as just checked, for as long as `self`
            // is borrowed; aligned; any bits are an integer; and nothing accesses it but atomically.
            Some(unsafe { host.as_ref() })
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two pages whose guest-physical address is `start`.
    fn with_span(start: u64, test: impl FnOnce(Span, *mut u8)) {
        const WORDS: usize = 1024;
        let mut memory = vec![0u64; 2 * WORDS];
        let host = NonNull::new(memory.as_mut_ptr()).unwrap().cast();
        // SAFETY: `memory` outlives the span and is not used but through it.
        test(unsafe { Span::new(start, 8192, host) }, host.as_ptr());
    }

    #[test]
    fn a_range_is_inside_or_it_is_not() {
        with_span(0x10_0000, |span, host| {
            let offset = |at, size| {
                span.host(at, size)
                    .map(|is| is.as_ptr().addr() - host.addr())
            };
            for (at, size, expected) in [
                (0x10_0000, 8192, Some(0)),
                (0x10_0000, 8193, None),
                (0x10_1000, 4096, Some(4096)),
                (0x10_1001, 4096, None),
                (0x10_1fff, 1, Some(8191)),
                (0x10_2000, 1, None),
                (0x10_2000, 0, None),
                (0x0f_ffff, 1, None),
                (0x0f_ffff, 2, None),
                (0, 1, None),
                (u64::MAX, 1, None),
                (0x10_0000, u64::MAX, None),
                (0x10_1fff, u64::MAX, None),
                (u64::MAX - 7, 8, None),
            ] {
                assert_eq!(offset(at, size), expected, "{size} bytes at {at:#x}");
            }
        });
    }

    #[test]
    fn a_span_may_end_with_the_address_space() {
        with_span(u64::MAX - 8191, |span, host| {
            assert!(span.host(u64::MAX, 1).is_some());
            assert!(span.host(u64::MAX, 2).is_none());
            assert!(span.host(0, 1).is_none());
            let first = span.host(u64::MAX - 8191, 8192);
            assert_eq!(first.map(NonNull::as_ptr), Some(host));
        });
    }

    #[test]
    fn words_are_aligned_and_whole() {
        with_span(0x4000, |span, _| {
            let word = span.atomic::<u64>(0x5ff8).unwrap();
            word.store(0x0807_0605_0403_0201, Ordering::Relaxed);
            let half = span.atomic::<u32>(0x5ffc).unwrap();
            assert_eq!(half.load(Ordering::Relaxed), 0x0807_0605);
            let last = span.atomic::<u8>(0x5fff).unwrap();
            assert_eq!(last.load(Ordering::Relaxed), 8);
            for at in [0x3ff8, 0x5ff9, 0x5ffc, 0x6000, u64::MAX - 7, u64::MAX] {
                assert!(span.atomic::<u64>(at).is_none(), "{at:#x}");
            }
            assert!(span.atomic::<u32>(0x5ffe).is_none());
        });
    }
}

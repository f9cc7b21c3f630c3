//! Shared memory behind a raw pointer.
//!
//! Invariant: `base` is valid for reads and writes of `len` bytes and 4-byte aligned while the
//! [`RawPage`] exists, by the contract of [`RawPage::new`]; every access below is checked against
//! `len` first.
#![allow(unsafe_code)]

use core::marker::PhantomData;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, Ordering};

use super::{HostPage, SharedPage};

/// Shared memory behind a raw pointer, for the lifetime `'a` of the mapping.
#[derive(Clone, Copy, Debug)]
pub struct RawPage<'a> {
    base: NonNull<u8>,
    len: usize,
    mapping: PhantomData<&'a ()>,
}

// SAFETY: a `RawPage` is only an address; all accesses are volatile or atomic, and the memory is by
// contract one that others change at any time, so a second thread is no new danger.
unsafe impl Send for RawPage<'_> {}
// SAFETY: as for `Send`.
unsafe impl Sync for RawPage<'_> {}

impl RawPage<'_> {
    /// Shared memory of `len` bytes at `base`.
    ///
    /// # Safety
    /// For all of `'a`:
    /// - `base..base + len` is mapped, readable and writable (readable suffices if nothing is
    ///   written), `base` is 4-byte aligned;
    /// - no Rust reference to any of it exists, and nothing in this program accesses it but by
    ///   volatile or atomic operations or through system calls. Others (a guest, another process)
    ///   may write to it at any time.
    #[inline]
    pub const unsafe fn new(base: NonNull<u8>, len: usize) -> Self {
        Self {
            base,
            len,
            mapping: PhantomData,
        }
    }

    /// Address of `offset`, after checking that `size` bytes there are in range.
    #[inline]
    fn at(&self, offset: usize, size: usize) -> *mut u8 {
        let in_range = offset.checked_add(size).is_some_and(|end| end <= self.len);
        assert!(
            in_range,
            "access of {size} bytes at {offset} in {} shared bytes",
            self.len
        );
        self.base.as_ptr().wrapping_add(offset)
    }

    #[inline]
    fn word(&self, offset: usize) -> &AtomicU32 {
        assert!(
            offset.is_multiple_of(4),
            "unaligned word at {offset} in shared memory"
        );
        let at = self.at(offset, 4).cast::<u32>();
        // SAFETY: `at` is in range and, `base` and `offset` being multiples of 4, aligned; the
        // memory stays mapped for `'a`, and is accessed by atomic or volatile operations only.
        unsafe { AtomicU32::from_ptr(at) }
    }
}

/// `len` bytes at `at` in accesses that are aligned: bytes up to a word, a word up to two, pairs of
/// words, and the same downwards. What lies in rings is made of words.
#[derive(Clone, Copy)]
struct Cut {
    bytes: usize,
    word: bool,
    pairs: usize,
}

impl Cut {
    #[inline]
    fn of(at: *const u8, len: usize) -> Self {
        let bytes = (at.addr().wrapping_neg() % 4).min(len);
        let word = !(at.addr() + bytes).is_multiple_of(8) && len - bytes >= 4;
        let pairs = (len - bytes - if word { 4 } else { 0 }) / 8;
        Self { bytes, word, pairs }
    }
}

impl SharedPage for RawPage<'_> {
    #[inline]
    fn len(&self) -> usize {
        self.len
    }

    #[inline]
    fn load_u32(&self, offset: usize) -> u32 {
        self.word(offset).load(Ordering::Acquire)
    }

    #[inline]
    fn store_u32(&self, offset: usize, value: u32) {
        self.word(offset).store(value, Ordering::Release);
    }

    #[inline]
    fn read(&self, offset: usize, to: &mut [u8]) {
        let at = self.at(offset, to.len()).cast_const();
        let cut = Cut::of(at, to.len());
        let mut done = 0;
        let word = |done: usize, to: &mut [u8]| {
            // SAFETY: 4 bytes of `to`, whose whole length is in range; aligned by `Cut`.
            let word = unsafe { at.wrapping_add(done).cast::<u32>().read_volatile() };
            to[done..done + 4].copy_from_slice(&word.to_ne_bytes());
        };
        let byte = |done: usize, to: &mut [u8]| {
            // SAFETY: a byte of `to`, whose whole length is in range.
            to[done] = unsafe { at.wrapping_add(done).read_volatile() };
        };
        while done < cut.bytes {
            byte(done, to);
            done += 1;
        }
        if cut.word {
            word(done, to);
            done += 4;
        }
        let pairs = &mut to[done..done + cut.pairs * 8];
        for pair in pairs.as_chunks_mut::<8>().0 {
            // SAFETY: in range as above; what came before ends at an 8-byte boundary.
            *pair = unsafe { at.wrapping_add(done).cast::<u64>().read_volatile() }.to_ne_bytes();
            done += 8;
        }
        if to.len() - done >= 4 {
            word(done, to);
            done += 4;
        }
        while done < to.len() {
            byte(done, to);
            done += 1;
        }
    }

    #[inline]
    fn write(&self, offset: usize, from: &[u8]) {
        let at = self.at(offset, from.len());
        let cut = Cut::of(at, from.len());
        let mut done = 0;
        let word = |done: usize| {
            let word = u32::from_ne_bytes(from[done..done + 4].try_into().expect("4 bytes"));
            // SAFETY: 4 bytes of `from`, whose whole length is in range; aligned by `Cut`.
            unsafe { at.wrapping_add(done).cast::<u32>().write_volatile(word) };
        };
        let byte = |done: usize| {
            // SAFETY: a byte of `from`, whose whole length is in range.
            unsafe { at.wrapping_add(done).write_volatile(from[done]) };
        };
        while done < cut.bytes {
            byte(done);
            done += 1;
        }
        if cut.word {
            word(done);
            done += 4;
        }
        let pairs = &from[done..done + cut.pairs * 8];
        for pair in pairs.as_chunks::<8>().0 {
            let pair = u64::from_ne_bytes(*pair);
            // SAFETY: in range as above; what came before ends at an 8-byte boundary.
            unsafe { at.wrapping_add(done).cast::<u64>().write_volatile(pair) };
            done += 8;
        }
        if from.len() - done >= 4 {
            word(done);
            done += 4;
        }
        while done < from.len() {
            byte(done);
            done += 1;
        }
    }
}

impl HostPage for RawPage<'_> {
    #[inline]
    fn as_ptr(&self) -> NonNull<u8> {
        self.base
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;
    use std::vec::Vec;

    /// Runs `f` on shared memory of 64 bytes.
    fn with_page(f: impl Fn(RawPage<'_>)) {
        let mut memory = vec![0u64; 8];
        let base = NonNull::new(memory.as_mut_ptr().cast::<u8>()).unwrap();
        // SAFETY: `memory` outlives the call, is aligned, and is not used but through the page.
        f(unsafe { RawPage::new(base, 64) });
    }

    #[test]
    fn copies_at_every_alignment_and_length() {
        with_page(|page| {
            for offset in 0..16 {
                for len in 0..32 {
                    let from: Vec<u8> = (1..=len as u8).collect();
                    page.write(0, &[0xee; 64]);
                    page.write(offset, &from);
                    let mut all = [0; 64];
                    page.read(0, &mut all);
                    assert_eq!(&all[offset..offset + len], &from);
                    assert!(
                        all[..offset]
                            .iter()
                            .chain(&all[offset + len..])
                            .all(|b| *b == 0xee)
                    );
                    let mut back = vec![0; len];
                    page.read(offset, &mut back);
                    assert_eq!(back, from);
                }
            }
        });
    }

    #[test]
    fn words_are_little_endian_bytes() {
        with_page(|page| {
            page.store_u32(60, 0x0403_0201);
            let mut bytes = [0; 4];
            page.read(60, &mut bytes);
            assert_eq!(bytes, [1, 2, 3, 4]);
            assert_eq!(page.load_u32(60), 0x0403_0201);
        });
    }

    #[test]
    #[should_panic(expected = "access of 4 bytes at 64")]
    fn out_of_range_is_refused() {
        with_page(|page| page.store_u32(64, 1));
    }

    #[test]
    #[should_panic(expected = "access of 2 bytes at 18446744073709551615")]
    fn wrapping_offset_is_refused() {
        with_page(|page| page.read(usize::MAX, &mut [0; 2]));
    }
}

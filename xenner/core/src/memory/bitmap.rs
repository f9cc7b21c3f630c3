//! The bitmap of owned frames, in the first frames of the heap.
//!
//! A bit per frame, and in a second bitmap a bit per word of the first that is
//! full, so that a search in a large domain skips 4096 frames at a time. Bits
//! around the domain's memory are set: they never look free.

use xen_sys::addr::{Maddr, PAGE_SIZE};

use super::CHUNK;
use crate::domain::Config;
use crate::{Machine, Physical};

/// The shape of the bitmap.
#[derive(Clone, Copy)]
pub(super) struct Bitmap {
    leaf: Maddr,
    words: u64,
    summary: Maddr,
    /// The frame of bit 0.
    pub base: u64,
}

const fn leaf_words(ram_pages: u64) -> u64 {
    (ram_pages + 2 * CHUNK - 1) / CHUNK * CHUNK / 64
}

/// Frames the bitmap of a domain with `ram_pages` frames takes; they are the
/// first of the heap.
pub const fn bitmap_pages(ram_pages: u64) -> u64 {
    let words = leaf_words(ram_pages);
    (words * 8 + words.div_ceil(64) * 8).div_ceil(PAGE_SIZE as u64)
}

impl Bitmap {
    pub fn of(config: &Config) -> Self {
        let leaf = config.heap_base.addr();
        let words = leaf_words(config.ram_pages);
        let summary = Maddr(leaf.0 + words * 8);
        Self {
            leaf,
            words,
            summary,
            base: config.ram_base.0 & !(CHUNK - 1),
        }
    }

    fn word(&self, index: u64) -> Maddr {
        Maddr(self.leaf.0 + index * 8)
    }

    fn set_word<M: Machine>(&self, m: &M, index: u64, value: u64) {
        m.store64(self.word(index), value);
        let at = Maddr(self.summary.0 + index / 64 * 8);
        let bit = 1 << (index % 64);
        let summary = m.load64(at);
        m.store64(
            at,
            if value == u64::MAX {
                summary | bit
            } else {
                summary & !bit
            },
        );
    }

    pub fn get<M: Physical>(&self, m: &M, mfn: u64) -> bool {
        let index = mfn - self.base;
        m.load64(self.word(index / 64)) >> (index % 64) & 1 != 0
    }

    /// Sets or clears the bits of a range that lies in the bitmap.
    pub fn mark<M: Machine>(&self, m: &M, first: u64, count: u64, owned: bool) {
        let (mut index, end) = (first - self.base, first - self.base + count);
        while index < end {
            let bits = (64 - index % 64).min(end - index);
            let mask = (u64::MAX >> (64 - bits)) << (index % 64);
            let word = if bits == 64 {
                0
            } else {
                m.load64(self.word(index / 64))
            };
            self.set_word(
                m,
                index / 64,
                if owned { word | mask } else { word & !mask },
            );
            index += bits;
        }
    }

    /// The first free extent of 2^order frames, aligned to its size, that ends
    /// at or below `limit`.
    pub fn find<M: Machine>(&self, m: &M, from: u64, order: u32, limit: u64) -> Option<u64> {
        let step = 1 << order.saturating_sub(6);
        let mut index = from / step * step;
        while index < self.words {
            if index.is_multiple_of(64)
                && m.load64(Maddr(self.summary.0 + index / 64 * 8)) == u64::MAX
            {
                index += 64;
                continue;
            }
            if self.base + index * 64 >= limit {
                return None;
            }
            if let Some(bit) = self.find_in(m, index, order) {
                let mfn = self.base + index * 64 + bit;
                return (mfn + (1 << order) <= limit).then_some(mfn);
            }
            index += step;
        }
        None
    }

    /// The same in the words of one aligned extent.
    fn find_in<M: Machine>(&self, m: &M, index: u64, order: u32) -> Option<u64> {
        if order >= 6 {
            let words = 1 << (order - 6);
            return (index..index + words)
                .all(|i| m.load64(self.word(i)) == 0)
                .then_some(0);
        }
        let mut free = !m.load64(self.word(index));
        for shift in 0..order {
            free &= free >> (1 << shift);
        }
        let aligned = free & (u64::MAX / (u64::MAX >> (64 - (1u64 << order))));
        (aligned != 0).then(|| u64::from(aligned.trailing_zeros()))
    }
}

/// Fills in the bitmap at the start of the heap before the domain starts: the first
/// `nr_pages` frames are the domain's, the others up to `ram_pages` free.
pub fn init<M: Machine>(m: &M, config: &Config) {
    let map = Bitmap::of(config);
    let ram = config.ram_base.0;
    let owned = config.nr_pages.min(config.max_pages);
    // What lies around the domain's memory is never free.
    let end = map.base + map.words * 64;
    map.mark(m, map.base, end - map.base, true);
    map.mark(m, ram + owned, config.ram_pages - owned, false);
    let tail = map.words.next_multiple_of(64);
    for index in map.words..tail {
        let at = Maddr(map.summary.0 + index / 64 * 8);
        m.store64(at, m.load64(at) | 1 << (index % 64));
    }
}

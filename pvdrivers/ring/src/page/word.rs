use core::sync::atomic::{AtomicU32, Ordering};

use super::SharedPage;

/// A page of ordinary memory: both ends in one program, without `unsafe`. For tests and loopback;
/// a test plays the hostile far end by writing to it.
#[derive(Debug)]
pub struct WordPage<const WORDS: usize = 1024>([AtomicU32; WORDS]);

impl WordPage {
    /// A page of zeroes.
    pub const fn new() -> Self {
        Self::zeroed()
    }
}

impl<const WORDS: usize> WordPage<WORDS> {
    /// `WORDS` 32-bit words of zero.
    pub const fn zeroed() -> Self {
        Self([const { AtomicU32::new(0) }; WORDS])
    }
}

impl<const WORDS: usize> Default for WordPage<WORDS> {
    fn default() -> Self {
        Self::zeroed()
    }
}

impl<const WORDS: usize> SharedPage for WordPage<WORDS> {
    fn len(&self) -> usize {
        WORDS * 4
    }

    fn load_u32(&self, offset: usize) -> u32 {
        assert!(
            offset.is_multiple_of(4),
            "unaligned word at {offset} in shared memory"
        );
        u32::from_le(self.0[offset / 4].load(Ordering::Acquire))
    }

    fn store_u32(&self, offset: usize, value: u32) {
        assert!(
            offset.is_multiple_of(4),
            "unaligned word at {offset} in shared memory"
        );
        self.0[offset / 4].store(value.to_le(), Ordering::Release);
    }

    fn read(&self, offset: usize, to: &mut [u8]) {
        for (at, byte) in (offset..).zip(to) {
            *byte = self.0[at / 4].load(Ordering::Relaxed).to_ne_bytes()[at % 4];
        }
    }

    fn write(&self, offset: usize, from: &[u8]) {
        for (at, byte) in (offset..).zip(from) {
            // Two ends may write to different bytes of one word: only this one changes.
            let word = &self.0[at / 4];
            let mut change = [0; 4];
            change[at % 4] = word.load(Ordering::Relaxed).to_ne_bytes()[at % 4] ^ byte;
            word.fetch_xor(u32::from_ne_bytes(change), Ordering::Relaxed);
        }
    }
}

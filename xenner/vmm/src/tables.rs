//! The page tables of Xen's hole, which every top-level table of the guest
//! carries: the direct map, the machine-to-physical table, the emulator's own.

use xen_sys::addr::{Maddr, Mfn, PAGE_SIZE, Vaddr};
use xenner_core::image::*;
use xenner_core::mmu::pte;

use crate::memory::{MemError, Memory};

/// The no-execute bit.
pub const NO_EXECUTE: u64 = 1 << 63;
/// Bytes a second-level entry maps.
pub const LARGE: u64 = 2 << 20;

/// The hole: what stands in slots 256 to 271.
#[derive(Clone, Copy, Debug)]
pub struct Hole {
    /// The 16 entries.
    pub entries: [u64; 16],
    /// A top-level table with nothing else, for virtual CPUs to start in.
    pub boot_l4: Mfn,
    /// Where the next table may go.
    next: Maddr,
}

impl Hole {
    /// Builds the tables from guest-physical `first` on. `image` says how the
    /// pages from [`IMAGE_BASE`] to there may be used; all other memory is data.
    ///
    /// # Errors
    /// [`MemError`].
    pub fn build(
        memory: &Memory,
        first: Maddr,
        image: &[(std::ops::Range<u64>, u64)],
    ) -> Result<Self, MemError> {
        let mut tables = Tables {
            memory,
            next: first,
        };
        let l4 = tables.new_table()?;
        let data = pte::PRESENT | pte::WRITABLE | NO_EXECUTE;
        let mut at = IMAGE_BASE;
        while at < first.0.next_multiple_of(LARGE) {
            let known = image.iter().find(|(range, _)| range.contains(&at));
            let flags = match known {
                Some((_, flags)) => pte::PRESENT | flags,
                None if at < first.0 => pte::PRESENT | NO_EXECUTE,
                None => data,
            };
            tables.map_page(l4, Vaddr(DIRECT_MAP + at), at | flags)?;
            at += PAGE_SIZE as u64;
        }
        for (start, length, _) in memory.regions() {
            let end = (start + length).next_multiple_of(LARGE);
            let mut from = at.max(start & !(LARGE - 1));
            while from < end {
                tables.map_large(l4, Vaddr(DIRECT_MAP + from), from | data)?;
                from += LARGE;
            }
            at = at.max(end);
            if start == M2P_BASE {
                let user = pte::PRESENT | pte::USER | NO_EXECUTE;
                for offset in (0..length).step_by(LARGE as usize) {
                    tables.map_large(l4, Vaddr(M2P + offset), (start + offset) | user)?;
                }
            }
        }
        let mut hole = Self {
            entries: [0; 16],
            boot_l4: l4,
            next: tables.next,
        };
        hole.read_entries(memory)?;
        Ok(hole)
    }

    /// Has a first-level table map the 2 MiB at `va`.
    ///
    /// # Errors
    /// [`MemError`].
    pub fn link(&self, memory: &Memory, va: Vaddr, table: Mfn) -> Result<(), MemError> {
        let mut tables = Tables {
            memory,
            next: self.next,
        };
        tables.link_l1(self.boot_l4, va, table)
    }

    /// Maps one page with the flags given, besides `PRESENT`.
    ///
    /// # Errors
    /// [`MemError`].
    pub fn map(
        &mut self,
        memory: &Memory,
        va: Vaddr,
        to: Maddr,
        flags: u64,
    ) -> Result<(), MemError> {
        let mut tables = Tables {
            memory,
            next: self.next,
        };
        tables.map_page(self.boot_l4, va, to.0 | pte::PRESENT | flags)?;
        self.next = tables.next;
        self.read_entries(memory)
    }

    fn read_entries(&mut self, memory: &Memory) -> Result<(), MemError> {
        for (index, entry) in self.entries.iter_mut().enumerate() {
            *entry = memory.load(self.boot_l4.addr().offset((256 + index as u64) * 8))?;
        }
        Ok(())
    }
}

/// Page tables under construction, one frame after the other.
struct Tables<'a> {
    memory: &'a Memory,
    next: Maddr,
}

impl Tables<'_> {
    fn new_table(&mut self) -> Result<Mfn, MemError> {
        let table = self.next.frame();
        self.next = self.next.offset(PAGE_SIZE as u64);
        // Memory starts zeroed; reading proves that it is there.
        self.memory.load::<u64>(table.addr())?;
        Ok(table)
    }

    /// The entry for `va` in the table of `level`, tables above it made.
    fn slot(&mut self, l4: Mfn, va: Vaddr, level: u32) -> Result<Maddr, MemError> {
        let mut table = l4;
        for above in (level + 1..=4).rev() {
            let at = entry_of(table, va, above);
            let mut entry: u64 = self.memory.load(at)?;
            if entry == 0 {
                let flags = pte::PRESENT | pte::WRITABLE | pte::USER | pte::ACCESSED;
                entry = self.new_table()?.addr().0 | flags;
                self.memory.store(at, entry)?;
            }
            table = Maddr(entry & pte::FRAME).frame();
        }
        Ok(entry_of(table, va, level))
    }

    fn map_page(&mut self, l4: Mfn, va: Vaddr, entry: u64) -> Result<(), MemError> {
        let at = self.slot(l4, va, 1)?;
        self.memory.store(at, entry | pte::ACCESSED | pte::DIRTY)
    }

    fn map_large(&mut self, l4: Mfn, va: Vaddr, entry: u64) -> Result<(), MemError> {
        let at = self.slot(l4, va, 2)?;
        self.memory
            .store(at, entry | pte::HUGE | pte::ACCESSED | pte::DIRTY)
    }

    fn link_l1(&mut self, l4: Mfn, va: Vaddr, table: Mfn) -> Result<(), MemError> {
        let at = self.slot(l4, va, 2)?;
        self.memory.store(
            at,
            table.addr().0 | pte::PRESENT | pte::WRITABLE | pte::ACCESSED,
        )
    }
}

fn entry_of(table: Mfn, va: Vaddr, level: u32) -> Maddr {
    table
        .addr()
        .offset((va.0 >> (12 + 9 * (level - 1)) & 511) * 8)
}

//! The ring-0 image and the page tables it runs in.

use goblin::elf::{Elf, program_header::PT_LOAD};
use xen_sys::addr::{Maddr, Mfn, PAGE_SIZE, Vaddr};
use xenner_core::image::*;
use xenner_core::mmu::pte;

use crate::memory::{MemError, Memory};

/// The image, built with this crate.
static IMAGE: &[u8] = include_bytes!(env!("XENNER_EMU"));

/// The image could not be loaded; it is this program's own, so this is a
/// fault of the build.
#[derive(Debug, thiserror::Error)]
pub enum EmulatorError {
    /// Not the image that was expected.
    #[error("The ring-0 image in this program is damaged: {0}.")]
    Damaged(&'static str),
    /// Its place in memory.
    #[error("Cannot load the ring-0 image.")]
    Memory(#[from] MemError),
}

/// Where things are in the loaded image, as guest-physical addresses.
#[derive(Clone, Copy, Debug)]
pub struct Emulator {
    /// Where virtual CPUs start, a virtual address.
    pub entry: Vaddr,
    /// [`Boot`].
    pub boot: Maddr,
    /// [`Doorbells`].
    pub doorbells: Maddr,
    /// [`Epitaph`].
    pub epitaph: Maddr,
    cpus: Maddr,
    cpu_size: u64,
    stack_end: u64,
    tables: Maddr,
    /// Hypercall counters.
    pub hypercalls: Maddr,
    /// End of the image.
    end: Maddr,
    /// The top-level table virtual CPUs start in.
    pub boot_l4: Mfn,
    /// The 16 entries of Xen's hole.
    pub hole: [u64; 16],
}

impl Emulator {
    /// Loads the image and builds its page tables.
    ///
    /// # Errors
    /// [`EmulatorError`].
    pub fn load(memory: &Memory) -> Result<Self, EmulatorError> {
        let elf = Elf::parse(IMAGE).map_err(|_| EmulatorError::Damaged("not an ELF file"))?;
        let mut end = IMAGE_BASE;
        let mut permissions = Vec::new();
        for segment in elf.program_headers.iter().filter(|s| s.p_type == PT_LOAD) {
            let at = segment.p_vaddr.wrapping_sub(DIRECT_MAP);
            let data = IMAGE
                .get(segment.file_range())
                .ok_or(EmulatorError::Damaged("a segment is missing"))?;
            memory.write(Maddr(at), data)?;
            end = end.max(at + segment.p_memsz);
            let writable = if segment.is_write() { pte::WRITABLE } else { 0 };
            let no_execute = if segment.is_executable() { 0 } else { NO_EXECUTE };
            permissions.push((at..at + segment.p_memsz, writable | no_execute));
        }
        let mut emulator = Self::read_header(memory, Maddr(end.next_multiple_of(4096)))?;
        emulator.build_tables(memory, &permissions)?;
        Ok(emulator)
    }

    fn read_header(memory: &Memory, end: Maddr) -> Result<Self, EmulatorError> {
        let mut words = [0u64; size_of::<Header>() / 8];
        for (index, word) in words.iter_mut().enumerate() {
            *word = memory.load(Maddr(IMAGE_BASE + index as u64 * 8))?;
        }
        let [magic, entry, boot, doorbells, epitaph, cpus, cpu_size, stack_end, tables, counters] =
            words;
        if magic != MAGIC {
            return Err(EmulatorError::Damaged("no header"));
        }
        let physical = |at: u64| Maddr(at.wrapping_sub(DIRECT_MAP));
        Ok(Self {
            entry: Vaddr(entry),
            boot: physical(boot),
            doorbells: physical(doorbells),
            epitaph: physical(epitaph),
            cpus: physical(cpus),
            cpu_size,
            stack_end,
            tables: physical(tables),
            hypercalls: physical(counters),
            end,
            boot_l4: Mfn(0),
            hole: [0; 16],
        })
    }

    /// End of a virtual CPU's stack, where the guest's registers end too.
    pub fn stack_end(&self, vcpu: usize) -> Maddr {
        self.cpus.offset(vcpu as u64 * self.cpu_size + self.stack_end)
    }

    fn build_tables(
        &mut self,
        memory: &Memory,
        permissions: &[(std::ops::Range<u64>, u64)],
    ) -> Result<(), MemError> {
        let mut tables = Tables { memory, next: self.end };
        self.boot_l4 = tables.new_table()?;
        let l4 = self.boot_l4;
        // The image page by page, each with its segment's permissions; from
        // its end on everything is data.
        let mut at = IMAGE_BASE;
        while at < self.end.0 {
            let flags = permissions
                .iter()
                .find(|(range, _)| range.contains(&at))
                .map_or(NO_EXECUTE, |(_, flags)| *flags);
            tables.map_page(l4, Vaddr(DIRECT_MAP + at), at | pte::PRESENT | flags)?;
            at += PAGE_SIZE as u64;
        }
        let data = pte::PRESENT | pte::WRITABLE | NO_EXECUTE;
        while !at.is_multiple_of(LARGE) {
            tables.map_page(l4, Vaddr(DIRECT_MAP + at), at | data)?;
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
                let mut offset = 0;
                while offset < length {
                    tables.map_large(l4, Vaddr(M2P + offset), (start + offset) | user)?;
                    offset += LARGE;
                }
            }
        }
        for page in 0..TABLES_PAGES as u64 {
            let table = self.tables.offset(page * PAGE_SIZE as u64);
            tables.link_l1(l4, Vaddr(TABLES + page * LARGE), table.frame())?;
        }
        for (index, entry) in self.hole.iter_mut().enumerate() {
            *entry = memory.load(l4.addr().offset((256 + index as u64) * 8))?;
        }
        // No guest page table may look as if the marker were missing.
        debug_assert!(self.hole[0] != 0);
        Ok(())
    }
}

const NO_EXECUTE: u64 = 1 << 63;
const LARGE: u64 = 2 << 20;

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
        self.memory.store(at, entry | pte::HUGE | pte::ACCESSED | pte::DIRTY)
    }

    fn link_l1(&mut self, l4: Mfn, va: Vaddr, table: Mfn) -> Result<(), MemError> {
        let at = self.slot(l4, va, 2)?;
        self.memory.store(at, table.addr().0 | pte::PRESENT | pte::WRITABLE | pte::ACCESSED)
    }
}

fn entry_of(table: Mfn, va: Vaddr, level: u32) -> Maddr {
    table.addr().offset((va.0 >> (12 + 9 * (level - 1)) & 511) * 8)
}

//! Fakes for the unit tests: a guest memory in a `Vec`, and ELF images made to measure.

use std::collections::BTreeMap;

use xen_sys::addr::{Mfn, PAGE_SIZE, Pfn, Vaddr};

use crate::memory::{GuestMemory, MemoryError, check_range};

/// Guest memory whose frames are scrambled, so that a pfn taken for an mfn shows.
pub struct FakeMemory {
    bytes: Vec<u8>,
    nr_pages: u64,
}

/// Odd, so multiplying by it modulo a power of two is a bijection.
const SCRAMBLE: u64 = 0x9e37_79b1;
const FIRST_MFN: u64 = 0x10_0000;

impl FakeMemory {
    pub fn new(mib: usize) -> Self {
        let bytes = vec![0; mib << 20];
        Self {
            nr_pages: (bytes.len() / PAGE_SIZE) as u64,
            bytes,
        }
    }

    fn mask(&self) -> u64 {
        self.nr_pages.next_power_of_two() - 1
    }

    pub fn u64_at(&self, pfn: Pfn, offset: u64) -> u64 {
        let mut bytes = [0; 8];
        self.read(pfn, offset, &mut bytes).unwrap();
        u64::from_le_bytes(bytes)
    }
}

impl GuestMemory for FakeMemory {
    fn nr_pages(&self) -> u64 {
        self.nr_pages
    }

    fn mfn(&self, pfn: Pfn) -> Mfn {
        assert!(pfn.0 < self.nr_pages);
        Mfn(FIRST_MFN + (pfn.0.wrapping_mul(SCRAMBLE) & self.mask()))
    }

    fn write(&mut self, pfn: Pfn, offset: u64, bytes: &[u8]) -> Result<(), MemoryError> {
        let at = check_range(self.nr_pages, pfn, offset, bytes.len())? as usize;
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    fn read(&self, pfn: Pfn, offset: u64, bytes: &mut [u8]) -> Result<(), MemoryError> {
        let at = check_range(self.nr_pages, pfn, offset, bytes.len())? as usize;
        bytes.copy_from_slice(&self.bytes[at..at + bytes.len()]);
        Ok(())
    }
}

/// What page tables map: every present page with its frame and whether it can be written.
pub fn walk(memory: &FakeMemory, cr3: Mfn) -> BTreeMap<u64, (Pfn, bool)> {
    let frames: BTreeMap<u64, Pfn> = (0..memory.nr_pages())
        .map(|pfn| (memory.mfn(Pfn(pfn)).0, Pfn(pfn)))
        .collect();
    let mut found = BTreeMap::new();
    walk_table(memory, &frames, frames[&cr3.0], 4, 0, &mut found);
    found
}

fn walk_table(
    memory: &FakeMemory,
    frames: &BTreeMap<u64, Pfn>,
    table: Pfn,
    level: u32,
    base: u64,
    found: &mut BTreeMap<u64, (Pfn, bool)>,
) {
    for slot in 0..512 {
        let entry = memory.u64_at(table, slot * 8);
        if entry == 0 {
            continue;
        }
        // Present, user, accessed; nothing but these, write and the frame.
        assert_eq!(entry & 0x25, 0x25, "entry {entry:#x} of level {level}");
        assert_eq!(
            entry & 0xfff & !0x27,
            0,
            "entry {entry:#x} of level {level}"
        );
        let target = frames[&(entry >> 12)];
        let at = base | slot << (12 + 9 * (level - 1));
        if level > 1 {
            assert_eq!(entry & 2, 2, "an upper entry that forbids writing");
            walk_table(memory, frames, target, level - 1, at, found);
        } else {
            let canonical = if at >> 47 == 1 { at | 0xffff << 48 } else { at };
            found.insert(canonical, (target, entry & 2 != 0));
        }
    }
}

/// An ELF image in the making: one PT_LOAD per call of `load`, notes in a PT_NOTE.
pub struct ElfMaker {
    loads: Vec<(u64, u64, Vec<u8>)>,
    notes: Vec<u8>,
    symbols: Vec<(String, u64)>,
    legacy: String,
}

impl ElfMaker {
    pub fn new() -> Self {
        Self {
            loads: Vec::new(),
            notes: Vec::new(),
            symbols: Vec::new(),
            legacy: String::new(),
        }
    }

    /// A kernel as Linux is: at 16 MiB, mapped from -2 GiB, with a `.bss`.
    pub fn linux() -> Self {
        Self::new()
            .load(0x100_0000, 0x5000, b"the text")
            .load(0x110_0000, 0x20_0123, b"the data")
            .number(1, 0xffff_ffff_8100_0010)
            .number(3, 0xffff_ffff_8000_0000)
            .number(4, 0)
            .text(5, "xen-3.0")
            .text(6, "linux")
            .text(8, "generic")
            .text(10, "!writable_page_tables|pae_pgdir_above_4gb")
            .number(15, 0x80_0000_0000)
            .note(16, &1u32.to_le_bytes())
    }

    pub fn load(mut self, paddr: u64, memsz: u64, data: &[u8]) -> Self {
        self.loads.push((paddr, memsz, data.to_vec()));
        self
    }

    /// Adds a `.symtab` and its string table.
    pub fn symbols(mut self, symbols: &[(&str, u64)]) -> Self {
        self.symbols = symbols
            .iter()
            .map(|(name, at)| ((*name).to_owned(), *at))
            .collect();
        self
    }

    /// Adds a legacy `__xen_guest` section.
    pub fn legacy(mut self, text: &str) -> Self {
        self.legacy = format!("{text}\0");
        self
    }

    pub fn note(mut self, kind: u32, desc: &[u8]) -> Self {
        for word in [4, desc.len() as u32, kind] {
            self.notes.extend_from_slice(&word.to_le_bytes());
        }
        self.notes.extend_from_slice(b"Xen\0");
        self.notes.extend_from_slice(desc);
        self.notes.resize(self.notes.len().next_multiple_of(4), 0);
        self
    }

    pub fn number(self, kind: u32, value: u64) -> Self {
        self.note(kind, &value.to_le_bytes())
    }

    pub fn text(self, kind: u32, value: &str) -> Self {
        self.note(kind, format!("{value}\0").as_bytes())
    }

    /// Forgets all notes of that kind.
    pub fn without(mut self, kind: u32) -> Self {
        let mut kept = Vec::new();
        let mut rest = &self.notes[..];
        while !rest.is_empty() {
            let desc = u32::from_le_bytes(rest[4..8].try_into().unwrap()) as usize;
            let (note, after) = rest.split_at(16 + desc.next_multiple_of(4));
            if u32::from_le_bytes(note[8..12].try_into().unwrap()) != kind {
                kept.extend_from_slice(note);
            }
            rest = after;
        }
        self.notes = kept;
        self
    }

    pub fn build(&self) -> Vec<u8> {
        let headers = self.loads.len() + 1;
        let mut elf = vec![0; 64 + headers * 56];
        let mut phdrs = Vec::new();
        let notes = (4u32, 0, self.notes.len() as u64, &self.notes);
        let loads = self
            .loads
            .iter()
            .map(|(paddr, memsz, data)| (1u32, *paddr, *memsz, data));
        for (kind, paddr, memsz, data) in loads.chain([notes]) {
            phdrs.extend_from_slice(&kind.to_le_bytes());
            phdrs.extend_from_slice(&7u32.to_le_bytes());
            let offset = elf.len() as u64;
            words(
                &mut phdrs,
                &[offset, paddr, paddr, data.len() as u64, memsz, 4],
            );
            elf.extend_from_slice(data);
        }
        let (sections_at, sections) = self.sections(&mut elf);
        let mut header = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x3e\0\x01\0\0\0".to_vec();
        words(&mut header, &[ELF_ENTRY, 64, sections_at]);
        header.extend_from_slice(&[0; 4]);
        for half in [64, 56, headers as u16, 64, sections, 2] {
            header.extend_from_slice(&half.to_le_bytes());
        }
        elf[..64].copy_from_slice(&header);
        elf[64..64 + phdrs.len()].copy_from_slice(&phdrs);
        elf
    }

    /// Appends sections: a null one, .symtab, .strtab, __xen_guest. Returns offset and number.
    fn sections(&self, elf: &mut Vec<u8>) -> (u64, u16) {
        if self.symbols.is_empty() && self.legacy.is_empty() {
            return (0, 0);
        }
        let mut names = b"\0__xen_guest\0".to_vec();
        let symtab_at = elf.len() as u64;
        for (name, value) in &self.symbols {
            elf.extend_from_slice(&(names.len() as u32).to_le_bytes());
            elf.extend_from_slice(&[0x12, 0, 1, 0]);
            words(elf, &[*value, 0]);
            names.extend_from_slice(name.as_bytes());
            names.push(0);
        }
        let names_at = elf.len() as u64;
        elf.extend_from_slice(&names);
        let legacy_at = elf.len() as u64;
        elf.extend_from_slice(self.legacy.as_bytes());
        let sections_at = elf.len() as u64;
        elf.extend_from_slice(&[0; 64]);
        // sh_name and sh_type, sh_offset, sh_size, sh_link
        for (kind, at, len, link) in [
            (2u64 << 32, symtab_at, names_at - symtab_at, 2),
            (3 << 32, names_at, legacy_at - names_at, 0),
            (1 << 32 | 1, legacy_at, self.legacy.len() as u64, 0),
        ] {
            words(elf, &[kind, 0, 0, at, len, link, 1, 0]);
        }
        (sections_at, 4)
    }
}

/// `e_entry` of every image made here.
pub const ELF_ENTRY: u64 = 0x1000;

fn words(bytes: &mut Vec<u8>, words: &[u64]) {
    for word in words {
        bytes.extend_from_slice(&word.to_le_bytes());
    }
}

/// The pages of a range of addresses.
pub fn addresses(from: Vaddr, pages: u64) -> impl Iterator<Item = u64> {
    (0..pages).map(move |page| from.0 + (page << 12))
}

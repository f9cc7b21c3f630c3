//! The ring-0 image and the page tables it runs in.

use goblin::elf::{Elf, program_header::PT_LOAD};
use xen_sys::addr::{Maddr, PAGE_SIZE, Vaddr};
use xenner_core::image::*;
use xenner_core::mmu::pte;

use crate::memory::{MemError, Memory};
use crate::tables::{Hole, LARGE, NO_EXECUTE};

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
    /// Event channel ports.
    pub ports: Maddr,
    runstates: Maddr,
    runstate_step: u64,
    /// Frames owned beyond those owned at start.
    pub balance: Maddr,
}

impl Emulator {
    /// Loads the image and builds its page tables.
    ///
    /// # Errors
    /// [`EmulatorError`].
    pub fn load(memory: &Memory) -> Result<(Self, Hole), EmulatorError> {
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
            let no_execute = if segment.is_executable() {
                0
            } else {
                NO_EXECUTE
            };
            permissions.push((at..at + segment.p_memsz, writable | no_execute));
        }
        let hole = Hole::build(memory, Maddr(end.next_multiple_of(4096)), &permissions)?;
        let emulator = Self::read_header(memory)?;
        for page in 0..TABLES_PAGES as u64 {
            let table = emulator.tables.offset(page * PAGE_SIZE as u64).frame();
            hole.link(memory, Vaddr(TABLES + page * LARGE), table)?;
        }
        Ok((emulator, hole))
    }

    fn read_header(memory: &Memory) -> Result<Self, EmulatorError> {
        let mut words = [0u64; size_of::<Header>() / 8];
        for (index, word) in words.iter_mut().enumerate() {
            *word = memory.load(Maddr(IMAGE_BASE + index as u64 * 8))?;
        }
        let [
            magic,
            entry,
            boot,
            doorbells,
            epitaph,
            cpus,
            cpu_size,
            stack_end,
            tables,
            counters,
            ports,
            runstates,
            runstate_step,
            balance,
        ] = words;
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
            ports: physical(ports),
            runstates: physical(runstates),
            runstate_step,
            balance: physical(balance),
        })
    }

    /// Where a virtual CPU's runstate is, 32 bits.
    pub fn runstate(&self, vcpu: usize) -> Maddr {
        self.runstates.offset(vcpu as u64 * self.runstate_step)
    }

    /// End of a virtual CPU's stack, where the guest's registers end too.
    pub fn stack_end(&self, vcpu: usize) -> Maddr {
        self.cpus
            .offset(vcpu as u64 * self.cpu_size + self.stack_end)
    }
}

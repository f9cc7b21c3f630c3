//! ACPI: which tables a domain gets, and where they go.
//!
//! At the start of the reserved area lie a few words that the DSDT reads
//! (`facts`); the tables follow, and the root pointer goes where the BIOS
//! looks for it.

pub mod aml;
pub mod numa;
pub mod ssdt;
pub mod tables;

use xen_sys::addr::Paddr;

use crate::bytes::{Bytes, Full, checksum};
use crate::layout::{FOUR_GIB, RESERVED, TPM};
use crate::loader::Error;
use crate::machine::{Machine, Store, flag};
use crate::pass::Passed;
use crate::ram::Ram;

/// Who made the tables.
const OEM: [u8; 6] = *b"Xen\0\0\0";
const OEM_TABLE: [u8; 8] = *b"HVM\0\0\0\0\0";
const CREATOR: [u8; 4] = *b"HVML";

/// `dsdt.asl`, compiled.
pub const DSDT: &[u8] = include_bytes!("acpi/dsdt.aml");

/// Bytes of a table's header; where its length and checksum are.
const HEADER: usize = 36;
const LENGTH: usize = 4;
const CHECKSUM: usize = 9;

/// Bytes of the facts for the DSDT.
const FACTS: usize = 0x30;

/// Bytes for a TPM's log: the least there may be
/// (TCG ACPI Specification 1.2, 6).
const TPM_LOG: usize = 64 << 10;

const MAX_TABLES: usize = 32;

/// The largest table made here: the one with 128 processors.
const LARGEST: usize = 24 << 10;

/// What the tables tell of.
#[derive(Debug)]
pub struct Subject<'a> {
    /// Virtual CPUs.
    pub vcpus: u32,
    /// Which are online now.
    pub online: u128,
    /// Whether there are APICs.
    pub apic: bool,
    /// Devices' memory below 4 GiB begins here.
    pub window: u64,
    /// Devices' memory above 4 GiB; empty if there is none.
    pub high: core::ops::Range<u64>,
    /// Where the VM generation id is, if there is one.
    pub generation: Option<Paddr>,
    /// The toolstack's own tables.
    pub passed: &'a Passed,
}

/// A table: its header, what `body` writes, and the checksum.
///
/// # Errors
/// [`Full`].
pub fn table(
    out: &mut Bytes<'_>,
    signature: [u8; 4],
    revision: u8,
    body: impl FnOnce(&mut Bytes<'_>) -> Result<(), Full>,
) -> Result<(), Full> {
    let start = out.len();
    out.put(&signature)?;
    out.u32(0)?;
    out.put(&[revision, 0])?;
    out.put(&OEM)?;
    out.put(&OEM_TABLE)?;
    out.u32(0)?;
    out.put(&CREATOR)?;
    out.u32(0)?;
    body(out)?;
    let length = (out.len() - start) as u32;
    out.set(start + LENGTH, &length.to_le_bytes());
    let sum = checksum(out.tail_mut(start));
    out.set(start + CHECKSUM, &[sum]);
    Ok(())
}

/// Writes all tables; the root pointer, for the caller to place.
///
/// # Errors
/// When the reserved area is full, or Xen gives it no memory.
pub fn build<M: Machine, S: Store>(
    machine: &mut M,
    store: &mut S,
    ram: &mut Ram,
    subject: &Subject<'_>,
) -> Result<[u8; tables::ROOT_POINTER], Error> {
    let facts_at = ram.reserve(machine, FACTS, 16)?;
    debug_assert!(facts_at == RESERVED, "the DSDT looks there");
    let has_hpet = hpet_id(machine);
    let facts = facts(machine, subject, has_hpet.is_some());
    machine.write(facts_at, &facts);

    let facs = put(machine, ram, &tables::facs())?;
    let dsdt = put(machine, ram, DSDT)?;
    let mut list = List {
        at: [0; MAX_TABLES],
        count: 0,
    };
    list.add(machine, ram, |out| tables::fadt(facs, dsdt, out))?;
    if subject.apic {
        list.add(machine, ram, |out| {
            tables::madt(subject.vcpus, subject.online, out)
        })?;
    }
    if let Some(id) = has_hpet {
        list.add(machine, ram, |out| tables::hpet(id, out))?;
    }
    list.add(machine, ram, tables::waet)?;
    if let Some(numa) = machine.numa() {
        list.add(machine, ram, |out| numa.srat(subject.vcpus, out))?;
        list.add(machine, ram, |out| numa.slit(out))?;
    }
    list.add(machine, ram, |out| ssdt::build(subject.vcpus, out))?;
    for (node, name, kind) in [
        ("platform/acpi_s3", *b"_S3_", 1),
        ("platform/acpi_s4", *b"_S4_", 6),
    ] {
        if flag(store, node, true) {
            list.add(machine, ram, |out| tables::sleep_state(name, kind, out))?;
        }
    }
    if has_tpm(machine) {
        // The log of measurements, which nobody has written yet.
        let log = ram.reserve(machine, TPM_LOG, 64)?;
        list.add(machine, ram, |out| tables::tcpa(log.0, TPM_LOG as u32, out))?;
    }
    let mut next = 0;
    while let Some((table, after)) = subject.passed.acpi(machine, next) {
        let len = table.end - table.start;
        let to = ram.reserve(machine, len as usize, 16)?;
        machine.copy(Paddr(table.start), to, len as u32);
        list.push(to.0 as u32);
        next = after;
    }

    let (rsdt, xsdt) = list.finish(machine, ram)?;
    Ok(tables::root_pointer(rsdt, xsdt))
}

/// Copies a finished table into the reserved area.
fn put<M: Machine>(machine: &mut M, ram: &mut Ram, table: &[u8]) -> Result<u32, Error> {
    // The FACS must be aligned to 64 bytes; the others may be.
    let at = ram.reserve(machine, table.len(), 64)?;
    machine.write(at, table);
    Ok(at.0 as u32)
}

/// The tables the root tables name.
struct List {
    at: [u32; MAX_TABLES],
    count: usize,
}

impl List {
    fn push(&mut self, at: u32) {
        if let Some(free) = self.at.get_mut(self.count) {
            *free = at;
            self.count += 1;
        }
    }

    fn add<M: Machine>(
        &mut self,
        machine: &mut M,
        ram: &mut Ram,
        table: impl FnOnce(&mut Bytes<'_>) -> Result<(), Full>,
    ) -> Result<(), Error> {
        let mut buffer = [0; LARGEST];
        let mut out = Bytes::new(&mut buffer);
        table(&mut out)?;
        let at = put(machine, ram, out.all())?;
        self.push(at);
        Ok(())
    }

    fn finish<M: Machine>(&self, machine: &mut M, ram: &mut Ram) -> Result<(u32, u32), Error> {
        let mut root = |wide| -> Result<u32, Error> {
            let mut buffer = [0; HEADER + 8 * MAX_TABLES];
            let mut out = Bytes::new(&mut buffer);
            tables::root(&self.at[..self.count], wide, &mut out)?;
            put(machine, ram, out.all())
        };
        Ok((root(false)?, root(true)?))
    }
}

/// The capabilities of the HPET, if there is one: its period is at most 100 ns.
fn hpet_id<M: Machine>(machine: &mut M) -> Option<u32> {
    let id = machine.read32(crate::layout::HPET);
    let period = machine.read32(Paddr(crate::layout::HPET.0 + 4));
    (id != u32::MAX && (1..=100_000_000).contains(&period)).then_some(id)
}

/// Whether a TPM answers (TCG PC Client TPM Interface Specification 1.3, 5.5.2):
/// bit 7 of the access register of locality 0 says that the register is valid.
fn has_tpm<M: Machine>(machine: &mut M) -> bool {
    let access = machine.read32(TPM);
    access != u32::MAX && access & 0x80 != 0
}

/// The words that `dsdt.asl` reads, field `FACT`.
fn facts<M: Machine>(machine: &mut M, subject: &Subject<'_>, hpet: bool) -> [u8; FACTS] {
    let serial = |machine: &mut M, base: u16| {
        // The scratch register of a serial port keeps what is written to it.
        machine.out8(base + 7, 0x5a);
        machine.in8(base + 7) == 0x5a
    };
    let parallel = |machine: &mut M, base: u16| {
        machine.out8(base, 0x5a);
        machine.in8(base) == 0x5a
    };
    let flags = u32::from(serial(machine, 0x3f8))
        | u32::from(serial(machine, 0x2f8)) << 1
        | u32::from(parallel(machine, 0x378)) << 2
        | u32::from(hpet) << 3
        | u32::from(has_tpm(machine)) << 4;
    let mut facts = [0; FACTS];
    facts[..4].copy_from_slice(&flags.to_le_bytes());
    facts[4..8].copy_from_slice(&(subject.window as u32).to_le_bytes());
    facts[8..12].copy_from_slice(&(RESERVED.0 as u32 - 1).to_le_bytes());
    let high = &subject.high;
    if high.start < high.end && high.start >= FOUR_GIB {
        facts[0x10..0x18].copy_from_slice(&high.start.to_le_bytes());
        facts[0x18..0x20].copy_from_slice(&(high.end - 1).to_le_bytes());
        facts[0x20..0x28].copy_from_slice(&(high.end - high.start).to_le_bytes());
    }
    let generation = subject.generation.map_or(0, |at| at.0 as u32);
    facts[0x28..0x2c].copy_from_slice(&generation.to_le_bytes());
    facts
}

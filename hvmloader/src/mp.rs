//! The MP tables (Intel MultiProcessor Specification 1.4, chapter 4): what
//! systems without ACPI know processors and interrupts by.

use crate::apic;
use crate::bytes::{Bytes, Full, checksum};
use crate::layout::{IO_APIC, LOCAL_APIC};
use crate::pci::chipset::{LINK_IRQS, SCI};

/// Bytes of the floating pointer structure.
pub const POINTER: usize = 16;

const HEADER: usize = 44;
const PROCESSOR: u8 = 0;
const BUS: u8 = 1;
const IO_APIC_ENTRY: u8 = 2;
const IO_INTERRUPT: u8 = 3;
const LOCAL_INTERRUPT: u8 = 4;

const ISA: u8 = 0;
const INT: u8 = 0;
const NMI: u8 = 1;
const EXTINT: u8 = 3;
/// Polarity and trigger as the bus has them.
const CONFORMING: u16 = 0;
/// Active high and level triggered, as Xen's PCI interrupts are.
const LEVEL_HIGH: u16 = 0xd;

/// What the tables tell of processors.
#[derive(Clone, Copy, Debug)]
pub struct Processors {
    /// How many there are.
    pub count: u32,
    /// Which may be started now.
    pub online: u128,
    /// CPUID leaf 1, EAX.
    pub signature: u32,
    /// CPUID leaf 1, EDX.
    pub features: u32,
    /// Version register of the local APIC.
    pub apic_version: u8,
    /// Version register of the I/O APIC.
    pub io_apic_version: u8,
}

/// The floating pointer structure for a table at `at`.
pub fn pointer(at: u32) -> [u8; POINTER] {
    let mut pointer = [0; POINTER];
    pointer[..4].copy_from_slice(b"_MP_");
    pointer[4..8].copy_from_slice(&at.to_le_bytes());
    pointer[8] = 1; // length in units of 16 bytes
    pointer[9] = 4; // specification 1.4
    pointer[10] = checksum(&pointer);
    pointer
}

/// Writes the configuration table.
///
/// # Errors
/// [`Full`] when it does not fit.
pub fn build(processors: Processors, out: &mut Bytes<'_>) -> Result<(), Full> {
    let start = out.len();
    out.zeros(HEADER)?;
    let mut entries = 0u16;
    for cpu in 0..processors.count {
        let boot = u8::from(cpu == 0) << 1;
        let enabled = (processors.online >> cpu & 1) as u8;
        out.put(&[
            PROCESSOR,
            apic::id_of(cpu),
            processors.apic_version,
            enabled | boot,
        ])?;
        out.u32(processors.signature)?;
        out.u32(processors.features)?;
        out.u64(0)?;
        entries += 1;
    }
    out.put(&[BUS, ISA])?;
    out.put(b"ISA   ")?;
    out.put(&[
        IO_APIC_ENTRY,
        apic::IO_APIC_ID,
        processors.io_apic_version,
        1,
    ])?;
    out.u32(IO_APIC.0 as u32)?;
    entries += 2;
    for irq in 0..16 {
        // The 8254 is at input 2; the second 8259 has no input.
        let (input, flags) = match irq {
            0 => (2, CONFORMING),
            2 => continue,
            irq if irq == SCI || LINK_IRQS.contains(&irq) => (irq, LEVEL_HIGH),
            irq => (irq, CONFORMING),
        };
        interrupt(out, IO_INTERRUPT, INT, flags, irq, apic::IO_APIC_ID, input)?;
        entries += 1;
    }
    interrupt(out, LOCAL_INTERRUPT, EXTINT, CONFORMING, 0, 0xff, 0)?;
    interrupt(out, LOCAL_INTERRUPT, NMI, CONFORMING, 0, 0xff, 1)?;
    entries += 2;

    let length = (out.len() - start) as u16;
    out.set(start, b"PCMP");
    out.set(start + 4, &length.to_le_bytes());
    out.set(start + 6, &[4]);
    out.set(start + 8, b"_HVMCPU_XEN         ");
    out.set(start + 34, &entries.to_le_bytes());
    out.set(start + 36, &(LOCAL_APIC.0 as u32).to_le_bytes());
    let sum = checksum(out.tail_mut(start));
    out.set(start + 7, &[sum]);
    Ok(())
}

fn interrupt(
    out: &mut Bytes<'_>,
    entry: u8,
    kind: u8,
    flags: u16,
    irq: u8,
    apic: u8,
    input: u8,
) -> Result<(), Full> {
    out.put(&[entry, kind])?;
    out.u16(flags)?;
    out.put(&[ISA, irq, apic, input])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_counted_and_summed() {
        let processors = Processors {
            count: 2,
            online: 1,
            signature: 0x80_0f12,
            features: 0x178b_fbff,
            apic_version: 0x14,
            io_apic_version: 0x11,
        };
        let mut buffer = [0; 1024];
        let mut out = Bytes::new(&mut buffer);
        build(processors, &mut out).unwrap();
        let table = out.all();
        assert_eq!((checksum(table), &table[..4]), (0, &b"PCMP"[..]));
        assert_eq!(table.len(), HEADER + 2 * 20 + 8 + 8 + 17 * 8);
        assert_eq!(table[34..36], [2 + 1 + 1 + 17, 0]);
        // The first boots, the second is not online; their numbers are even.
        assert_eq!(table[44..48], [0, 0, 0x14, 3]);
        assert_eq!(table[64..68], [0, 2, 0x14, 0]);
        // The timer comes to input 2, the SCI level triggered to 9.
        assert_eq!(table[100..108], [3, 0, 0, 0, 0, 0, 1, 2]);
        assert!(
            table[100..]
                .chunks(8)
                .any(|entry| entry == [3, 0, 0xd, 0, 0, 9, 1, 9])
        );
        assert_eq!(checksum(&pointer(0xfc00_1000)), 0);
    }
}

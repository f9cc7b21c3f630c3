//! The tables that are data (ACPI 6.4, chapter 5).

use super::table;
use crate::apic;
use crate::bytes::{Bytes, Full, checksum};
use crate::layout::{HPET, IO_APIC, LOCAL_APIC};
use crate::pci::chipset::{LINK_IRQS, PM_BASE, SCI};

/// Bytes of the root pointer.
pub const ROOT_POINTER: usize = 36;
/// Bytes of the firmware control structure.
pub const FACS: usize = 64;

/// `ACPI_GPE0_BLK_ADDRESS_V1` and its length (`hvm/ioreq.h`).
const GPE0: u16 = 0xafe0;
const GPE0_LEN: u8 = 4;

/// The chipset's reset control (PIIX3, 2.5.5), and what resets by it.
const RESET: u16 = 0xcf9;
const RESET_VALUE: u8 = 6;

/// FADT flags (5.2.9.3).
const WBINVD: u32 = 1 << 0;
const PROC_C1: u32 = 1 << 2;
const FIX_RTC: u32 = 1 << 6;
const TMR_VAL_EXT: u32 = 1 << 8;
const USE_PLATFORM_CLOCK: u32 = 1 << 15;

/// The root pointer (5.2.5.3).
pub fn root_pointer(rsdt: u32, xsdt: u32) -> [u8; ROOT_POINTER] {
    let mut pointer = [0; ROOT_POINTER];
    pointer[..8].copy_from_slice(b"RSD PTR ");
    pointer[9..15].copy_from_slice(&super::OEM);
    pointer[15] = 2;
    pointer[16..20].copy_from_slice(&rsdt.to_le_bytes());
    pointer[20] = ROOT_POINTER as u8;
    pointer[24..32].copy_from_slice(&u64::from(xsdt).to_le_bytes());
    pointer[8] = checksum(&pointer[..20]);
    pointer[32] = checksum(&pointer);
    pointer
}

/// The root tables (5.2.7, 5.2.8): 32-bit addresses, 64-bit addresses.
pub fn root(tables: &[u32], wide: bool, out: &mut Bytes<'_>) -> Result<(), Full> {
    let signature = if wide { *b"XSDT" } else { *b"RSDT" };
    table(out, signature, 1, |out| {
        tables.iter().try_for_each(|at| match wide {
            true => out.u64(u64::from(*at)),
            false => out.u32(*at),
        })
    })
}

/// The firmware control structure (5.2.10).
pub fn facs() -> [u8; FACS] {
    let mut facs = [0; FACS];
    facs[..4].copy_from_slice(b"FACS");
    facs[4..8].copy_from_slice(&(FACS as u32).to_le_bytes());
    facs[32] = 1; // version
    facs
}

/// An I/O register in the generic form (5.2.3.2).
fn port(out: &mut Bytes<'_>, port: u16, bits: u8) -> Result<(), Full> {
    let space = u8::from(port != 0);
    out.put(&[space, bits, 0, 0])?;
    out.u64(u64::from(port))
}

/// The fixed description (5.2.9), revision 4.
pub fn fadt(facs: u32, dsdt: u32, out: &mut Bytes<'_>) -> Result<(), Full> {
    table(out, *b"FACP", 4, |out| {
        out.u32(facs)?;
        out.u32(dsdt)?;
        out.put(&[0, 1])?; // reserved; a desktop
        out.u16(u16::from(SCI))?;
        out.zeros(8)?; // no SMI: ACPI is on already
        for block in [PM_BASE, 0, PM_BASE + 4, 0, 0, PM_BASE + 8, GPE0, 0] {
            out.u32(u32::from(block))?;
        }
        out.put(&[4, 2, 0, 4, GPE0_LEN, 0, 0, 0])?;
        out.u16(0xfff)?; // no C2
        out.u16(0xfff)?; // no C3
        out.zeros(6)?;
        out.put(&[0, 0, 0x32])?; // the century is in the clock's byte 32h
        out.u16(3)?; // ISA devices and an 8042
        out.u8(0)?;
        // Power and sleep buttons are fixed registers: Xen presses them there.
        out.u32(WBINVD | PROC_C1 | FIX_RTC | TMR_VAL_EXT | USE_PLATFORM_CLOCK)?;
        port(out, RESET, 8)?;
        out.put(&[RESET_VALUE, 0, 0, 0])?;
        out.u64(u64::from(facs))?;
        out.u64(u64::from(dsdt))?;
        for (block, bits) in [
            (PM_BASE, 32),
            (0, 0),
            (PM_BASE + 4, 16),
            (0, 0),
            (0, 0),
            (PM_BASE + 8, 32),
            (GPE0, 32),
            (0, 0),
        ] {
            port(out, block, bits)?;
        }
        Ok(())
    })
}

/// The interrupt controllers (5.2.12).
pub fn madt(vcpus: u32, online: u128, out: &mut Bytes<'_>) -> Result<(), Full> {
    table(out, *b"APIC", 2, |out| {
        out.u32(LOCAL_APIC.0 as u32)?;
        out.u32(1)?; // there are two 8259s, too
        out.put(&[1, 12, apic::IO_APIC_ID, 0])?;
        out.u32(IO_APIC.0 as u32)?;
        out.u32(0)?;
        source_override(out, 0, 2, 0)?;
        for irq in 0..16u8 {
            if LINK_IRQS.contains(&irq) {
                // Active low and level triggered, as PCI interrupts are.
                source_override(out, irq, irq, 0xf)?;
            }
        }
        for cpu in 0..vcpus {
            out.put(&[0, 8, cpu as u8, apic::id_of(cpu)])?;
            out.u32((online >> cpu & 1) as u32)?;
        }
        Ok(())
    })
}

fn source_override(out: &mut Bytes<'_>, irq: u8, input: u8, flags: u16) -> Result<(), Full> {
    out.put(&[2, 10, 0, irq])?;
    out.u32(u32::from(input))?;
    out.u16(flags)
}

/// The event timer (IA-PC HPET specification, 3.2.4). Xen's has no vendor.
pub fn hpet(id: u32, out: &mut Bytes<'_>) -> Result<(), Full> {
    table(out, *b"HPET", 1, |out| {
        out.u32(id)?;
        out.zeros(4)?; // memory
        out.u64(HPET.0)?;
        out.put(&[0, 0, 0, 0])
    })
}

/// Tells Windows that it runs on emulated timers (Microsoft "Windows ACPI
/// Emulated Devices Table").
pub fn waet(out: &mut Bytes<'_>) -> Result<(), Full> {
    const RTC_GOOD: u32 = 1;
    const PM_TIMER_GOOD: u32 = 2;
    table(out, *b"WAET", 1, |out| out.u32(RTC_GOOD | PM_TIMER_GOOD))
}

/// A TPM's log (TCG ACPI Specification 1.2, 6.2): of a client, where, how long.
pub fn tcpa(log: u64, len: u32, out: &mut Bytes<'_>) -> Result<(), Full> {
    table(out, *b"TCPA", 2, |out| {
        out.u16(0)?;
        out.u32(len)?;
        out.u64(log)
    })
}

/// Power states beyond "off", each a package `_S3` or `_S4` (7.4.2).
pub fn sleep_state(name: [u8; 4], kind: u8, out: &mut Bytes<'_>) -> Result<(), Full> {
    table(out, *b"SSDT", 2, |out| {
        let mut aml = super::aml::Aml::new(out);
        aml.raw(b"\x08\\")?;
        aml.raw(&name)?;
        aml.package(4, |aml| {
            aml.integer(u32::from(kind))?;
            aml.integer(u32::from(kind))?;
            aml.integer(0)?;
            aml.integer(0)
        })
    })
}

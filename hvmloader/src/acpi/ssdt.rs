//! The second table of AML: what is one object a processor, a slot or a wire.

use super::aml::Aml;
use super::table;
use crate::bytes::{Bytes, Full};
use crate::pci::chipset::link_of;

const SB: &[u8] = b"\\_SB_";
const PCI0: &[u8] = b"\\\x2e_SB_PCI0";
/// The links' paths: `\_SB.PCI0.ISA.LNKA` and so on.
const LINK: &[u8] = b"\\\x2f\x04_SB_PCI0ISA_LNK";

/// Devices of bus 0 that have wires: 0 is the host bridge.
const DEVICES: core::ops::Range<u8> = 1..32;
/// Those that may come and go: 1 is the chipset.
const SLOTS: core::ops::Range<u8> = 2..32;

/// Writes the table for `vcpus` processors.
///
/// # Errors
/// [`Full`].
pub fn build(vcpus: u32, out: &mut Bytes<'_>) -> Result<(), Full> {
    table(out, *b"SSDT", 2, |out| {
        let mut aml = Aml::new(out);
        aml.scope(SB, |aml| {
            aml.name(*b"CNUM")?;
            aml.integer(vcpus)?;
            (0..vcpus).try_for_each(|cpu| processor(aml, cpu as u8))?;
            notifier(aml, *b"CNOT", b'P', 0..vcpus as u8)
        })?;
        aml.scope(PCI0, |aml| {
            wires(aml, *b"PRTL", |aml, device, pin| {
                aml.raw(LINK)?;
                aml.raw(&[b'A' + link_of(device, pin + 1) as u8])?;
                aml.integer(0)
            })?;
            wires(aml, *b"PRTG", |aml, device, pin| {
                aml.integer(0)?;
                aml.integer(gsi_of(device, pin))
            })?;
            SLOTS.clone().try_for_each(|device| slot(aml, device))?;
            notifier(aml, *b"PNOT", b'S', SLOTS)
        })
    })
}

/// The I/O APIC's input of a pin (0 to 3): Xen spreads the pins of 31 devices
/// over its inputs 16 to 47.
pub fn gsi_of(device: u8, pin: u8) -> u32 {
    let device = u32::from(device);
    16 + (((device << 2) + (device >> 3) + u32::from(pin)) & 31)
}

/// A letter and a number: `P00A`, `S01F`.
fn numbered(letter: u8, number: u8) -> [u8; 4] {
    let digit = |value: u8| b"0123456789ABCDEF"[usize::from(value & 15)];
    [letter, b'0', digit(number >> 4), digit(number)]
}

/// A processor: whether it is there, its entry of the MADT, how it goes.
fn processor(aml: &mut Aml<'_, '_>, cpu: u8) -> Result<(), Full> {
    aml.processor(numbered(b'P', cpu), cpu, |aml| {
        for (name, helper) in [(b"_STA", b"CSTA"), (b"_MAT", b"CMAT")] {
            aml.method(*name, 0, |aml| {
                aml.begin_return()?;
                aml.raw(helper)?;
                aml.integer(u32::from(cpu))
            })?;
        }
        // QEMU takes no processor away by this; the method tells the system
        // that it may let one go.
        aml.method(*b"_EJ0", 1, |_| Ok(()))
    })
}

/// A slot of the bus, from which its device can be taken.
fn slot(aml: &mut Aml<'_, '_>, device: u8) -> Result<(), Full> {
    aml.device(numbered(b'S', device), |aml| {
        aml.name(*b"_ADR")?;
        aml.integer(u32::from(device) << 16)?;
        aml.name(*b"_SUN")?;
        aml.integer(u32::from(device))?;
        aml.method(*b"_EJ0", 1, |aml| {
            aml.raw(b"PEJT")?;
            aml.integer(u32::from(device))
        })
    })
}

/// `name (number, event)`: notifies the numbered object.
fn notifier(
    aml: &mut Aml<'_, '_>,
    name: [u8; 4],
    letter: u8,
    numbers: core::ops::Range<u8>,
) -> Result<(), Full> {
    aml.method(name, 2, |aml| {
        numbers.clone().try_for_each(|number| {
            aml.if_arg0_is(u32::from(number), |aml| {
                aml.notify_arg1(numbered(letter, number))
            })
        })
    })
}

/// A package for `_PRT`: device, pin, source and index of each wire.
fn wires(
    aml: &mut Aml<'_, '_>,
    name: [u8; 4],
    target: impl Fn(&mut Aml<'_, '_>, u8, u8) -> Result<(), Full>,
) -> Result<(), Full> {
    aml.name(name)?;
    aml.package(4 * DEVICES.len() as u8, |aml| {
        for device in DEVICES {
            for pin in 0..4 {
                aml.package(4, |aml| {
                    aml.integer(u32::from(device) << 16 | 0xffff)?;
                    aml.integer(u32::from(pin))?;
                    target(aml, device, pin)
                })?;
            }
        }
        Ok(())
    })
}

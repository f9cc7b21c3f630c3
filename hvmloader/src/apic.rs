//! The interrupt controllers as a BIOS leaves them.

use xen_sys::addr::Paddr;

use crate::layout::{IO_APIC, LOCAL_APIC};
use crate::machine::Machine;

const APIC_ID: u64 = 0x20;
const SPURIOUS: u64 = 0xf0;
const ICR_LOW: u64 = 0x300;
const ICR_HIGH: u64 = 0x310;
const LINT0: u64 = 0x350;
const LINT1: u64 = 0x360;

const MODE_NMI: u32 = 4 << 8;
const MODE_INIT: u32 = 5 << 8;
const MODE_STARTUP: u32 = 6 << 8;
const MODE_EXTINT: u32 = 7 << 8;
const ASSERT: u32 = 1 << 14;

/// The number the I/O APIC is given; local APICs have even ones.
pub const IO_APIC_ID: u8 = 1;

/// A vCPU's local APIC: Xen leaves room for a second thread of each.
pub fn id_of(vcpu: u32) -> u8 {
    (vcpu * 2) as u8
}

fn register(offset: u64) -> Paddr {
    Paddr(LOCAL_APIC.0 + offset)
}

/// Sets the I/O APIC's number, and the boot processor's local APIC to "virtual
/// wire": the 8259s' interrupts come through LINT0, NMI through LINT1
/// (MultiProcessor Specification 1.4, 3.6.2.2).
pub fn init(machine: &mut impl Machine) {
    machine.write32(IO_APIC, 0);
    machine.write32(Paddr(IO_APIC.0 + 0x10), u32::from(IO_APIC_ID) << 24);
    let spurious = machine.read32(register(SPURIOUS));
    machine.write32(register(SPURIOUS), spurious | 0x1ff);
    machine.write32(register(LINT0), MODE_EXTINT);
    machine.write32(register(LINT1), MODE_NMI);
}

/// The number of this processor's local APIC.
pub fn own_id(machine: &mut impl Machine) -> u8 {
    (machine.read32(register(APIC_ID)) >> 24) as u8
}

/// The version register of the I/O APIC.
pub fn io_apic_version(machine: &mut impl Machine) -> u8 {
    machine.write32(IO_APIC, 1);
    machine.read32(Paddr(IO_APIC.0 + 0x10)) as u8
}

/// The version register of the local APIC.
pub fn local_version(machine: &mut impl Machine) -> u8 {
    machine.read32(register(0x30)) as u8
}

/// Makes a processor start in real mode at `entry`, a page below 1 MiB.
pub fn start(machine: &mut impl Machine, apic_id: u8, entry: Paddr) {
    for command in [
        MODE_INIT | ASSERT,
        MODE_STARTUP | ASSERT | (entry.0 >> 12) as u32 & 0xff,
        MODE_STARTUP | ASSERT | (entry.0 >> 12) as u32 & 0xff,
    ] {
        machine.write32(register(ICR_HIGH), u32::from(apic_id) << 24);
        machine.write32(register(ICR_LOW), command);
        // Delivered at once under Xen; the bit says so.
        while machine.read32(register(ICR_LOW)) & (1 << 12) != 0 {}
    }
}

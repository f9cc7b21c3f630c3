//! QEMU's PIIX3 and PIIX4 (Intel 82371FB/SB and 82371AB data sheets): interrupt
//! routing, disks, power management.

use super::Bus;
use super::config::{Function, Register};
use crate::machine::Machine;

/// ISA interrupts of the four PCI interrupt links, as Xen's firmware routes them.
pub const LINK_IRQS: [u8; 4] = [5, 10, 11, 5];

/// The interrupt of power management events: the SCI.
pub const SCI: u8 = 9;

/// Where the power management ports are
/// (`ACPI_PM1A_EVT_BLK_ADDRESS_V1`, `hvm/ioreq.h`).
pub const PM_BASE: u16 = 0xb000;

const PIIX3_ISA: u32 = 0x7000_8086;
const PIIX3_IDE: u32 = 0x7010_8086;
const PIIX4_PM: u32 = 0x7113_8086;

/// `PIRQRC`: four bytes, bit 7 clear: routed.
const PIRQ_ROUTE: u8 = 0x60;
/// `IDETIM` of both channels; bit 15 switches a channel's ports on.
const IDE_TIMING: u8 = 0x40;
const IDE_DECODE: u16 = 1 << 15;
/// `PMBA` and `PMREGMISC`.
const PM_BASE_REGISTER: u8 = 0x40;
const PM_MISC: u8 = 0x80;
const PM_ENABLE: u8 = 1;

/// The second 8259's and the first's edge or level register: a bit an interrupt.
const ELCR: [u16; 2] = [0x4d0, 0x4d1];

/// The link an interrupt pin (1 to 4) of a device is wired to.
pub fn link_of(device: u8, pin: u8) -> usize {
    usize::from(device.wrapping_add(pin).wrapping_sub(1) & 3)
}

/// Sets up what is the chipset's, and tells each device its interrupt.
pub fn init(machine: &mut impl Machine, bus: &Bus) {
    for function in bus.functions() {
        match function.id(machine) {
            PIIX3_ISA => route(machine, *function),
            PIIX3_IDE => {
                for channel in 0..2 {
                    let register = Register(IDE_TIMING + 2 * channel);
                    let timing = function.read16(machine, register);
                    function.write16(machine, register, timing | IDE_DECODE);
                }
            }
            PIIX4_PM => {
                let base = u32::from(PM_BASE) | 1;
                function.write32(machine, Register(PM_BASE_REGISTER), base);
                let misc = function.read8(machine, Register(PM_MISC));
                function.write8(machine, Register(PM_MISC), misc | PM_ENABLE);
            }
            _ => {}
        }
        let pin = function.read8(machine, Register::INTERRUPT_PIN);
        if (1..=4).contains(&pin) {
            let line = LINK_IRQS[link_of(function.device(), pin)];
            function.write8(machine, Register::INTERRUPT_LINE, line);
        }
    }
}

/// Routes the four links, whose interrupts then are level triggered.
fn route(machine: &mut impl Machine, bridge: Function) {
    let mut level = 1u16 << SCI;
    for (link, irq) in (0..).zip(LINK_IRQS) {
        bridge.write8(machine, Register(PIRQ_ROUTE + link), irq);
        level |= 1 << irq;
    }
    for (port, bits) in ELCR.into_iter().zip(level.to_le_bytes()) {
        machine.out8(port, bits);
    }
}

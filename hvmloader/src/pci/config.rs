//! Configuration space by mechanism 1 (PCI Local Bus Specification 3.0,
//! 3.2.2.3.2), and the header's registers (chapter 6).

use core::fmt;

use super::{Bar, Space};
use crate::machine::Machine;

const CONFIG_ADDRESS: u16 = 0xcf8;
const CONFIG_DATA: u16 = 0xcfc;

const COMMAND_IO: u16 = 1;
const COMMAND_MEMORY: u16 = 2;
const COMMAND_MASTER: u16 = 4;
const ROM_ENABLE: u32 = 1;
const CLASS_VGA: u16 = 0x0300;

/// An offset in configuration space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Register(pub u8);

impl Register {
    /// Vendor and device.
    pub const ID: Self = Self(0x00);
    /// Command.
    pub const COMMAND: Self = Self(0x04);
    /// Revision and class.
    pub const CLASS: Self = Self(0x08);
    /// Header type.
    pub const HEADER_TYPE: Self = Self(0x0e);
    /// The interrupt's line, as software sees it.
    pub const INTERRUPT_LINE: Self = Self(0x3c);
    /// The interrupt's pin: 1 to 4, 0 for none.
    pub const INTERRUPT_PIN: Self = Self(0x3d);

    /// A base address register.
    pub fn bar(number: u8) -> Self {
        Self(0x10 + 4 * number)
    }
}

/// A function of a device on bus 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Function(u8);

impl Function {
    /// Function `number` (0 to 7) of device `device` (0 to 31).
    pub fn new(device: u8, number: u8) -> Self {
        Self(device << 3 | number & 7)
    }

    /// The device's number.
    pub fn device(self) -> u8 {
        self.0 >> 3
    }

    fn select(self, machine: &mut impl Machine, register: Register) -> u16 {
        let address = 1 << 31 | u32::from(self.0) << 8 | u32::from(register.0 & 0xfc);
        machine.out32(CONFIG_ADDRESS, address);
        CONFIG_DATA + u16::from(register.0 & 3)
    }

    /// Reads a byte.
    pub fn read8(self, machine: &mut impl Machine, register: Register) -> u8 {
        let port = self.select(machine, register);
        machine.in8(port)
    }

    /// Writes a byte.
    pub fn write8(self, machine: &mut impl Machine, register: Register, value: u8) {
        let port = self.select(machine, register);
        machine.out8(port, value);
    }

    /// Reads two bytes.
    pub fn read16(self, machine: &mut impl Machine, register: Register) -> u16 {
        let port = self.select(machine, register);
        machine.in16(port)
    }

    /// Writes two bytes.
    pub fn write16(self, machine: &mut impl Machine, register: Register, value: u16) {
        let port = self.select(machine, register);
        machine.out16(port, value);
    }

    /// Reads four bytes.
    pub fn read32(self, machine: &mut impl Machine, register: Register) -> u32 {
        let port = self.select(machine, register);
        machine.in32(port)
    }

    /// Writes four bytes.
    pub fn write32(self, machine: &mut impl Machine, register: Register, value: u32) {
        let port = self.select(machine, register);
        machine.out32(port, value);
    }

    /// Whether anybody answers.
    pub fn exists(self, machine: &mut impl Machine) -> bool {
        self.read16(machine, Register::ID) != 0xffff
    }

    /// Vendor in the low half, device in the high.
    pub fn id(self, machine: &mut impl Machine) -> u32 {
        self.read32(machine, Register::ID)
    }

    /// Base class and sub-class.
    pub fn class(self, machine: &mut impl Machine) -> u16 {
        (self.read32(machine, Register::CLASS) >> 16) as u16
    }

    pub(super) fn has_siblings(self, machine: &mut impl Machine) -> bool {
        self.read8(machine, Register::HEADER_TYPE) & 0x80 != 0
    }

    /// Six for a device, two for a bridge.
    pub(super) fn bar_registers(self, machine: &mut impl Machine) -> u8 {
        match self.read8(machine, Register::HEADER_TYPE) & 0x7f {
            0 => 6,
            1 => 2,
            _ => 0,
        }
    }

    pub(super) fn rom_register(self, machine: &mut impl Machine) -> Option<Register> {
        match self.read8(machine, Register::HEADER_TYPE) & 0x7f {
            0 => Some(Register(0x30)),
            1 => Some(Register(0x38)),
            _ => None,
        }
    }

    /// Lets the device answer at no address, so that its registers can be sized.
    pub(super) fn disable(self, machine: &mut impl Machine) {
        let command = self.read16(machine, Register::COMMAND);
        let off = command & !(COMMAND_IO | COMMAND_MEMORY);
        self.write16(machine, Register::COMMAND, off);
    }

    /// Lets the device answer where all of its registers of a space were placed.
    ///
    /// A display besides has the ports and the memory of a PC's, which no
    /// register names. Every device may reach memory: some drivers count on it.
    pub(super) fn enable<'a>(self, machine: &mut impl Machine, own: impl Iterator<Item = &'a Bar>) {
        let (mut have, mut lack) = (0, 0);
        if self.class(machine) == CLASS_VGA {
            have = COMMAND_IO | COMMAND_MEMORY;
        }
        for bar in own {
            let bit = match bar.space {
                Space::Ports => COMMAND_IO,
                Space::Memory32 | Space::Memory64 => COMMAND_MEMORY,
                Space::Rom => continue,
            };
            match bar.base {
                Some(_) => have |= bit,
                None => lack |= bit,
            }
        }
        let command = self.read16(machine, Register::COMMAND);
        self.write16(
            machine,
            Register::COMMAND,
            command | COMMAND_MASTER | have & !lack,
        );
    }

    /// Writes all ones and reads back which bits are wired.
    pub(super) fn size_bar(self, machine: &mut impl Machine, register: Register) -> Option<Bar> {
        let old = self.read32(machine, register);
        self.write32(machine, register, u32::MAX);
        let wired = self.read32(machine, register);
        self.write32(machine, register, old);
        if wired == 0 || wired == u32::MAX {
            return None;
        }
        let (space, mask) = if wired & 1 != 0 {
            // Devices need not wire the upper half of a port's address.
            (Space::Ports, u64::from(wired & !3 | 0xffff_0000) | !0 << 32)
        } else if wired & 6 == 4 {
            let upper = Register(register.0.checked_add(4)?);
            let old = self.read32(machine, upper);
            self.write32(machine, upper, u32::MAX);
            let high = self.read32(machine, upper);
            self.write32(machine, upper, old);
            (
                Space::Memory64,
                u64::from(high) << 32 | u64::from(wired & !0xf),
            )
        } else {
            (Space::Memory32, u64::from(wired & !0xf) | !0 << 32)
        };
        self.found(register, space, mask)
    }

    pub(super) fn size_rom(self, machine: &mut impl Machine, register: Register) -> Option<Bar> {
        let old = self.read32(machine, register);
        self.write32(machine, register, 0xffff_f800);
        let wired = self.read32(machine, register);
        self.write32(machine, register, old & !ROM_ENABLE);
        if wired & 0xffff_f800 == 0 {
            return None;
        }
        self.found(
            register,
            Space::Rom,
            u64::from(wired & 0xffff_f800) | !0 << 32,
        )
    }

    /// The lowest wired bit is the size. A mask with none is a broken device.
    fn found(self, register: Register, space: Space, mask: u64) -> Option<Bar> {
        let size = 1u64.checked_shl(mask.trailing_zeros())?;
        Some(Bar {
            function: self,
            register,
            space,
            size,
            base: None,
        })
    }

    pub(super) fn set_bar(self, machine: &mut impl Machine, bar: &Bar, base: u64) {
        self.write32(machine, bar.register, base as u32);
        if bar.space == Space::Memory64 {
            let upper = Register(bar.register.0 + 4);
            self.write32(machine, upper, (base >> 32) as u32);
        }
    }
}

impl fmt::Display for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02x}.{}", self.0 >> 3, self.0 & 7)
    }
}

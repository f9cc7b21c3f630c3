//! What the firmware needs of the machine, and of the hypervisor below it.

use core::fmt;

use xen_sys::addr::{Gfn, Paddr};
use xen_sys::errno::Errno;
use xen_sys::memory::E820Entry;

use crate::acpi::numa::Numa;
use crate::mtrr::Mtrrs;
use crate::version::Version;

/// A processor, its memory and its ports, and Xen's calls.
///
/// The image has the real one; tests have one of arrays. Addresses are physical
/// and below 4 GiB. Reading where nothing is gives all ones, as on a PC.
pub trait Machine {
    /// Reads a byte from an I/O port.
    fn in8(&mut self, port: u16) -> u8;
    /// Writes a byte to an I/O port.
    fn out8(&mut self, port: u16, value: u8);
    /// Reads two bytes from an I/O port.
    fn in16(&mut self, port: u16) -> u16;
    /// Writes two bytes to an I/O port.
    fn out16(&mut self, port: u16, value: u16);
    /// Reads four bytes from an I/O port.
    fn in32(&mut self, port: u16) -> u32;
    /// Writes four bytes to an I/O port.
    fn out32(&mut self, port: u16, value: u32);

    /// Copies memory out.
    fn read(&mut self, from: Paddr, to: &mut [u8]);
    /// Copies memory in.
    fn write(&mut self, to: Paddr, from: &[u8]);
    /// Copies memory; the ranges may overlap.
    fn copy(&mut self, from: Paddr, to: Paddr, len: u32);
    /// Reads a device's 32-bit register.
    fn read32(&mut self, at: Paddr) -> u32;
    /// Writes a device's 32-bit register.
    fn write32(&mut self, at: Paddr, value: u32);

    /// EAX, EBX, ECX, EDX of CPUID.
    fn cpuid(&mut self, leaf: u32, subleaf: u32) -> [u32; 4];
    /// Writes a model specific register of this processor.
    fn wrmsr(&mut self, msr: u32, value: u64);
    /// Reads a model specific register of this processor.
    fn rdmsr(&mut self, msr: u32) -> u64;

    /// Wakes a processor by INIT and SIPI, lets it load its memory types, and
    /// waits until it halts again. Whether it came.
    fn wake(&mut self, apic_id: u8, mtrrs: &Mtrrs) -> bool;

    /// `XENMEM_memory_map`: how many entries there are.
    ///
    /// # Errors
    /// Xen's; `ENOSYS` where the toolstack has set none.
    fn memory_map(&mut self, to: &mut [E820Entry]) -> Result<usize, Errno>;
    /// `XENMEM_populate_physmap` of one frame.
    ///
    /// # Errors
    /// `ENOMEM` when the domain may have no more.
    fn populate(&mut self, frame: Gfn) -> Result<(), Errno>;
    /// `XENMEM_add_to_physmap`: moves the memory of one frame to another.
    ///
    /// # Errors
    /// Xen's.
    fn move_frame(&mut self, from: Gfn, to: Gfn) -> Result<(), Errno>;
    /// `HVMOP_get_param` of this domain.
    ///
    /// # Errors
    /// Xen's.
    fn param(&mut self, index: u32) -> Result<u64, Errno>;
    /// `HVMOP_set_param` of this domain.
    ///
    /// # Errors
    /// Xen's.
    fn set_param(&mut self, index: u32, value: u64) -> Result<(), Errno>;

    /// `XENMEM_get_vnumainfo`; `None` for a domain without nodes.
    fn numa(&mut self) -> Option<Numa>;
    /// `HYPERVISOR_xen_version`: its number and the domain's UUID.
    fn version(&mut self) -> Version;

    /// Writes a line to Xen's log (port 0xe9).
    fn log(&mut self, line: fmt::Arguments<'_>);
}

/// Configuration by path, relative to the domain's own directory of xenstore.
pub trait Store {
    /// Copies a node's value out; `None` where there is none. A value that does
    /// not fit is cut off.
    fn read(&mut self, path: &str, to: &mut [u8]) -> Option<usize>;

    /// Sets a node. Whether it could be set: nothing here depends on it.
    fn write(&mut self, path: &str, value: &str) -> bool;
}

/// Reads a node as text without the blanks around it; `None` if it is no text.
pub fn text<'a>(store: &mut impl Store, path: &str, buffer: &'a mut [u8]) -> Option<&'a str> {
    let len = store.read(path, buffer)?.min(buffer.len());
    let value = core::str::from_utf8(buffer.get(..len)?).ok()?;
    Some(value.trim_matches(|c: char| c == '\0' || c.is_ascii_whitespace()))
}

/// Reads a node as a number, decimal or hexadecimal with `0x`.
pub fn number(store: &mut impl Store, path: &str) -> Option<u64> {
    let mut buffer = [0; 24];
    let value = text(store, path, &mut buffer)?;
    match value.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => value.parse().ok(),
    }
}

/// Reads a node as a switch.
pub fn flag(store: &mut impl Store, path: &str, default: bool) -> bool {
    number(store, path).map_or(default, |value| value != 0)
}

//! The firmware that Xen starts in an HVM domain.
//!
//! It finds a bare machine: devices without addresses, no tables, and a BIOS
//! somewhere in memory. It leaves a PC: devices placed, interrupts routed,
//! memory map, ACPI, SMBIOS, MP and PIR tables made, the BIOS where a processor
//! starts. Then it starts that BIOS, SeaBIOS or OVMF.
//!
//! All of this is here, over two traits: [`machine::Machine`], what the firmware
//! needs of processor and hypervisor, and [`machine::Store`], its configuration.
//! So the same code runs under `cargo test` on a machine of arrays. The image
//! (`main.rs`, module `bare`) is those two traits on the real machine.
//!
//! Begin with [`loader::load`]. What a value is and why is in
//! `docs/hvmloader.md`.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

#[cfg(test)]
mod fake;

pub mod acpi;
pub mod apic;
pub mod bios;
pub mod bytes;
pub mod cmos;
pub mod generation;
pub mod info;
pub mod layout;
pub mod loader;
pub mod machine;
pub mod mp;
pub mod mtrr;
pub mod pass;
pub mod pci;
pub mod pir;
pub mod ram;
pub mod smbios;
pub mod version;

//! Where things lie in the domain's physical memory.

use xen_sys::addr::Paddr;

/// 4 GiB.
pub const FOUR_GIB: u64 = 1 << 32;

/// The structure SeaBIOS and OVMF look for, the list of tables and the memory
/// map it points to: one page. The address is part of their interface.
pub const BIOS_INFO: Paddr = Paddr(0x1000);

/// The page with the code that runs in 16-bit mode. Free until the BIOS runs,
/// which uses it as it likes.
pub const LOW_CODE: Paddr = Paddr(0x8000);

/// `HVM_INFO_PADDR` (`hvm/hvm_info_table.h`).
pub const HVM_INFO: Paddr = Paddr(0x9f800);

/// The video memory of a PC begins here.
pub const VIDEO: u64 = 0xa_0000;

/// The legacy BIOS ends here, and with it what a PC reserves below 1 MiB.
pub const LEGACY_END: u64 = 0x10_0000;

/// What the guest may not use up to 4 GiB: tables, the I/O APIC, the local APIC,
/// Xen's own pages, flash. PCI devices lie below.
pub const RESERVED: Paddr = Paddr(0xfc00_0000);

/// `shared_info` while the firmware runs: a frame that nothing else is at.
pub const SHARED_INFO: Paddr = Paddr(0xfbff_f000);

/// Where the PCI devices begin unless there are more, or the toolstack says
/// otherwise: `HVM_BELOW_4G_MMIO_START` (`hvm/e820.h`).
pub const PCI_START: u64 = 0xf000_0000;

/// The lowest address PCI devices may begin at.
pub const PCI_LOWEST: u64 = 0x8000_0000;

/// The I/O APIC of Xen's machine.
pub const IO_APIC: Paddr = Paddr(0xfec0_0000);

/// The local APICs.
pub const LOCAL_APIC: Paddr = Paddr(0xfee0_0000);

/// The HPET of Xen's machine.
pub const HPET: Paddr = Paddr(0xfed0_0000);

/// A TPM, where there is one.
pub const TPM: Paddr = Paddr(0xfed4_0000);

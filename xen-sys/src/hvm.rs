//! `hvm/params.h`, `hvm/hvm_op.h`, `arch-x86/hvm/start_info.h`: what PVH and HVM guests need.
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::DomId;

/// Set a parameter, see [`XenHvmParam`].
pub const HVMOP_set_param: u32 = 0;
/// Read a parameter, see [`XenHvmParam`].
pub const HVMOP_get_param: u32 = 1;

/// `HVMOP_set_param`, `HVMOP_get_param`.
///
/// `struct xen_hvm_param`, 16 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct XenHvmParam {
    /// Whose parameter.
    pub domid: DomId,
    /// Zero.
    pub pad: u16,
    /// `HVM_PARAM_*`.
    pub index: u32,
    /// Value in or out.
    pub value: u64,
}
const _: () = assert!(size_of::<XenHvmParam>() == 16);

/// How upcalls arrive; the type in bits 56-63.
pub const HVM_PARAM_CALLBACK_IRQ: u32 = 0;
/// By a GSI.
pub const HVM_PARAM_CALLBACK_TYPE_GSI: u64 = 0;
/// By a PCI INTx line.
pub const HVM_PARAM_CALLBACK_TYPE_PCI_INTX: u64 = 1;
/// By a vector.
pub const HVM_PARAM_CALLBACK_TYPE_VECTOR: u64 = 2;
/// Frame of the xenstore page.
pub const HVM_PARAM_STORE_PFN: u32 = 1;
/// Port of xenstore.
pub const HVM_PARAM_STORE_EVTCHN: u32 = 2;
/// PAE is enabled.
pub const HVM_PARAM_PAE_ENABLED: u32 = 4;
/// Frame of the ioreq page.
pub const HVM_PARAM_IOREQ_PFN: u32 = 5;
/// Frame of the buffered ioreq page.
pub const HVM_PARAM_BUFIOREQ_PFN: u32 = 6;
/// Hyper-V enlightenments.
pub const HVM_PARAM_VIRIDIAN: u32 = 9;
/// Timer mode.
pub const HVM_PARAM_TIMER_MODE: u32 = 10;
/// HPET is enabled.
pub const HVM_PARAM_HPET_ENABLED: u32 = 11;
/// Identity page table for real mode.
pub const HVM_PARAM_IDENT_PT: u32 = 12;
/// ACPI S state.
pub const HVM_PARAM_ACPI_S_STATE: u32 = 14;
/// TSS for virtual 8086 mode.
pub const HVM_PARAM_VM86_TSS: u32 = 15;
/// Align platform timers.
pub const HVM_PARAM_VPT_ALIGN: u32 = 16;
/// Frame of the console page.
pub const HVM_PARAM_CONSOLE_PFN: u32 = 17;
/// Port of the console.
pub const HVM_PARAM_CONSOLE_EVTCHN: u32 = 18;
/// Which ACPI ports.
pub const HVM_PARAM_ACPI_IOPORTS_LOCATION: u32 = 19;
/// Port of the buffered ioreq page.
pub const HVM_PARAM_BUFIOREQ_EVTCHN: u32 = 26;
/// Frame of the paging ring.
pub const HVM_PARAM_PAGING_RING_PFN: u32 = 27;
/// Frame of the monitor ring.
pub const HVM_PARAM_MONITOR_RING_PFN: u32 = 28;
/// Frame of the sharing ring.
pub const HVM_PARAM_SHARING_RING_PFN: u32 = 29;
/// `SHUTDOWN_*` on a triple fault.
pub const HVM_PARAM_TRIPLE_FAULT_REASON: u32 = 31;
/// First frame of the ioreq servers.
pub const HVM_PARAM_IOREQ_SERVER_PFN: u32 = 32;
/// Frames of the ioreq servers.
pub const HVM_PARAM_NR_IOREQ_SERVER_PAGES: u32 = 33;
/// Address of the VM generation ID.
pub const HVM_PARAM_VM_GENERATION_ID_ADDR: u32 = 34;
/// Alternative P2M.
pub const HVM_PARAM_ALTP2M: u32 = 35;
/// Width of the x87 FIP.
pub const HVM_PARAM_X87_FIP_WIDTH: u32 = 36;
/// TSS for virtual 8086 mode, with size.
pub const HVM_PARAM_VM86_TSS_SIZED: u32 = 37;
/// Machine check capabilities.
pub const HVM_PARAM_MCA_CAP: u32 = 38;
/// Number of parameters.
pub const HVM_NR_PARAMS: u32 = 39;

/// `magic`: "xEn3" with the 0x80 bit of the "E" set.
pub const XEN_HVM_START_MAGIC_VALUE: u32 = 0x336e_c578;
/// Memory.
pub const XEN_HVM_MEMMAP_TYPE_RAM: u32 = 1;
/// Reserved.
pub const XEN_HVM_MEMMAP_TYPE_RESERVED: u32 = 2;
/// ACPI tables.
pub const XEN_HVM_MEMMAP_TYPE_ACPI: u32 = 3;
/// ACPI non-volatile memory.
pub const XEN_HVM_MEMMAP_TYPE_NVS: u32 = 4;
/// Unusable.
pub const XEN_HVM_MEMMAP_TYPE_UNUSABLE: u32 = 5;
/// Disabled.
pub const XEN_HVM_MEMMAP_TYPE_DISABLED: u32 = 6;
/// Persistent memory.
pub const XEN_HVM_MEMMAP_TYPE_PMEM: u32 = 7;

/// What a PVH kernel finds at EBX; version 1.
///
/// `struct hvm_start_info`, 56 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct HvmStartInfo {
    /// `XEN_HVM_START_MAGIC_VALUE`.
    pub magic: u32,
    /// 1.
    pub version: u32,
    /// `SIF_*`.
    pub flags: u32,
    /// Entries of `modlist_paddr`.
    pub nr_modules: u32,
    /// Array of [`HvmModlistEntry`].
    pub modlist_paddr: u64,
    /// Command line, NUL terminated.
    pub cmdline_paddr: u64,
    /// ACPI RSDP.
    pub rsdp_paddr: u64,
    /// Array of [`HvmMemmapTableEntry`].
    pub memmap_paddr: u64,
    /// Its entries.
    pub memmap_entries: u32,
    /// Zero.
    pub reserved: u32,
}
const _: () = assert!(size_of::<HvmStartInfo>() == 56);

/// A module.
///
/// `struct hvm_modlist_entry`, 32 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct HvmModlistEntry {
    /// First byte.
    pub paddr: u64,
    /// Bytes.
    pub size: u64,
    /// Its command line.
    pub cmdline_paddr: u64,
    /// Zero.
    pub reserved: u64,
}
const _: () = assert!(size_of::<HvmModlistEntry>() == 32);

/// A range of the memory map.
///
/// `struct hvm_memmap_table_entry`, 24 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct HvmMemmapTableEntry {
    /// First byte.
    pub addr: u64,
    /// Bytes.
    pub size: u64,
    /// `XEN_HVM_MEMMAP_TYPE_*` (`type`).
    pub kind: u32,
    /// Zero.
    pub reserved: u32,
}
const _: () = assert!(size_of::<HvmMemmapTableEntry>() == 24);

//! `physdev.h`: physical devices and interrupts (`HYPERVISOR_physdev_op`).
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{DomId, GuestHandle};

/// End of interrupt, old call without argument.
pub const PHYSDEVOP_IRQ_UNMASK_NOTIFY: u32 = 4;
/// Query an IRQ.
pub const PHYSDEVOP_irq_status_query: u32 = 5;
/// Set the vCPU's I/O privilege level.
pub const PHYSDEVOP_set_iopl: u32 = 6;
/// Set the vCPU's I/O bitmap.
pub const PHYSDEVOP_set_iobitmap: u32 = 7;
/// Read an I/O APIC register; dom0.
pub const PHYSDEVOP_apic_read: u32 = 8;
/// Write an I/O APIC register; dom0.
pub const PHYSDEVOP_apic_write: u32 = 9;
/// Allocate a vector.
pub const PHYSDEVOP_alloc_irq_vector: u32 = 10;
/// Free a vector.
pub const PHYSDEVOP_free_irq_vector: u32 = 11;
/// End of interrupt.
pub const PHYSDEVOP_eoi: u32 = 12;
/// Map a physical IRQ.
pub const PHYSDEVOP_map_pirq: u32 = 13;
/// Unmap it.
pub const PHYSDEVOP_unmap_pirq: u32 = 14;
/// Announce a PCI device.
pub const PHYSDEVOP_manage_pci_add: u32 = 15;
/// Remove a PCI device.
pub const PHYSDEVOP_manage_pci_remove: u32 = 16;
/// Register the EOI bitmap's page.
pub const PHYSDEVOP_pirq_eoi_gmfn_v1: u32 = 17;
/// Restore MSI state.
pub const PHYSDEVOP_restore_msi: u32 = 19;
/// Announce a PCI function.
pub const PHYSDEVOP_manage_pci_add_ext: u32 = 20;
/// Set up a GSI.
pub const PHYSDEVOP_setup_gsi: u32 = 21;
/// Find a free PIRQ.
pub const PHYSDEVOP_get_free_pirq: u32 = 23;
/// Report an MMCFG range.
pub const PHYSDEVOP_pci_mmcfg_reserved: u32 = 24;
/// Announce a PCI device.
pub const PHYSDEVOP_pci_device_add: u32 = 25;
/// Remove a PCI device.
pub const PHYSDEVOP_pci_device_remove: u32 = 26;
/// Restore MSI state.
pub const PHYSDEVOP_restore_msi_ext: u32 = 27;
/// Register the EOI bitmap's page, without implicit unmask.
pub const PHYSDEVOP_pirq_eoi_gmfn_v2: u32 = 28;
/// USB debug port.
pub const PHYSDEVOP_dbgp_op: u32 = 29;
/// Prepare a device for MSI-X.
pub const PHYSDEVOP_prepare_msix: u32 = 30;
/// Release it.
pub const PHYSDEVOP_release_msix: u32 = 31;

/// `PHYSDEVOP_eoi`.
///
/// `struct physdev_eoi`, 4 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct PhysdevEoi {
    /// PIRQ.
    pub irq: u32,
}
const _: () = assert!(size_of::<PhysdevEoi>() == 4);

/// `PHYSDEVOP_pirq_eoi_gmfn_*`.
///
/// `struct physdev_pirq_eoi_gmfn`, 8 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct PhysdevPirqEoiGmfn {
    /// Frame of the bitmap.
    pub gmfn: u64,
}
const _: () = assert!(size_of::<PhysdevPirqEoiGmfn>() == 8);

/// `PHYSDEVOP_irq_status_query`.
///
/// `struct physdev_irq_status_query`, 8 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct PhysdevIrqStatusQuery {
    /// PIRQ.
    pub irq: u32,
    /// Out: `XENIRQSTAT_*`.
    pub flags: u32,
}
const _: () = assert!(size_of::<PhysdevIrqStatusQuery>() == 8);
/// The guest must send EOI.
pub const XENIRQSTAT_needs_eoi: u32 = 1;
/// The IRQ is shared.
pub const XENIRQSTAT_shared: u32 = 2;

/// `PHYSDEVOP_set_iopl`.
///
/// `struct physdev_set_iopl`, 4 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct PhysdevSetIopl {
    /// 0 to 3.
    pub iopl: u32,
}
const _: () = assert!(size_of::<PhysdevSetIopl>() == 4);

/// `PHYSDEVOP_set_iobitmap`.
///
/// `struct physdev_set_iobitmap`, 16 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct PhysdevSetIobitmap {
    /// The bitmap.
    pub bitmap: GuestHandle,
    /// Its bits.
    pub nr_ports: u32,
    /// Padding; zero.
    pub _pad0: [u8; 4],
}
const _: () = assert!(size_of::<PhysdevSetIobitmap>() == 16);

/// `PHYSDEVOP_apic_read`, `PHYSDEVOP_apic_write`.
///
/// `struct physdev_apic`, 16 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct PhysdevApic {
    /// Address of the I/O APIC.
    pub apic_physbase: u64,
    /// Register.
    pub reg: u32,
    /// Value.
    pub value: u32,
}
const _: () = assert!(size_of::<PhysdevApic>() == 16);

/// `PHYSDEVOP_alloc_irq_vector`.
///
/// `struct physdev_irq`, 8 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct PhysdevIrq {
    /// IRQ.
    pub irq: u32,
    /// Out: vector.
    pub vector: u32,
}
const _: () = assert!(size_of::<PhysdevIrq>() == 8);
/// MSI.
pub const MAP_PIRQ_TYPE_MSI: i32 = 0;
/// GSI.
pub const MAP_PIRQ_TYPE_GSI: i32 = 1;
/// Unknown.
pub const MAP_PIRQ_TYPE_UNKNOWN: i32 = 2;
/// MSI, with the PCI segment in `bus`.
pub const MAP_PIRQ_TYPE_MSI_SEG: i32 = 3;
/// Several MSIs.
pub const MAP_PIRQ_TYPE_MULTI_MSI: i32 = 4;

/// `PHYSDEVOP_map_pirq`.
///
/// `struct physdev_map_pirq`, 40 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct PhysdevMapPirq {
    /// Whose IRQ.
    pub domid: DomId,
    /// Padding; zero.
    pub _pad0: [u8; 2],
    /// `MAP_PIRQ_TYPE_*` (`type`).
    pub kind: i32,
    /// GSI, or -1.
    pub index: i32,
    /// Wanted PIRQ or -1; out: the PIRQ.
    pub pirq: i32,
    /// PCI bus, segment in the upper half.
    pub bus: i32,
    /// PCI device and function.
    pub devfn: i32,
    /// MSI-X entry.
    pub entry_nr: i32,
    /// Padding; zero.
    pub _pad1: [u8; 4],
    /// Address of the MSI-X table, 0 for MSI.
    pub table_base: u64,
}
const _: () = assert!(size_of::<PhysdevMapPirq>() == 40);

/// `PHYSDEVOP_unmap_pirq`.
///
/// `struct physdev_unmap_pirq`, 8 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct PhysdevUnmapPirq {
    /// Whose IRQ.
    pub domid: DomId,
    /// Padding; zero.
    pub _pad0: [u8; 2],
    /// PIRQ.
    pub pirq: i32,
}
const _: () = assert!(size_of::<PhysdevUnmapPirq>() == 8);

/// `PHYSDEVOP_manage_pci_add`, `_remove`.
///
/// `struct physdev_manage_pci`, 2 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct PhysdevManagePci {
    /// Bus.
    pub bus: u8,
    /// Device and function.
    pub devfn: u8,
}
const _: () = assert!(size_of::<PhysdevManagePci>() == 2);

/// `PHYSDEVOP_setup_gsi`.
///
/// `struct physdev_setup_gsi`, 8 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct PhysdevSetupGsi {
    /// GSI.
    pub gsi: i32,
    /// 0 edge, 1 level.
    pub triggering: u8,
    /// 0 active high, 1 active low.
    pub polarity: u8,
    /// Padding; zero.
    pub _pad0: [u8; 2],
}
const _: () = assert!(size_of::<PhysdevSetupGsi>() == 8);

/// `PHYSDEVOP_get_free_pirq`.
///
/// `struct physdev_get_free_pirq`, 8 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct PhysdevGetFreePirq {
    /// `MAP_PIRQ_TYPE_*` (`type`).
    pub kind: i32,
    /// Out: PIRQ.
    pub pirq: u32,
}
const _: () = assert!(size_of::<PhysdevGetFreePirq>() == 8);

/// `PHYSDEVOP_pci_mmcfg_reserved`.
///
/// `struct physdev_pci_mmcfg_reserved`, 16 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct PhysdevPciMmcfgReserved {
    /// Address of the range.
    pub address: u64,
    /// PCI segment.
    pub segment: u16,
    /// First bus.
    pub start_bus: u8,
    /// Last bus.
    pub end_bus: u8,
    /// `XEN_PCI_MMCFG_RESERVED`.
    pub flags: u32,
}
const _: () = assert!(size_of::<PhysdevPciMmcfgReserved>() == 16);
/// The range is reserved in the memory map.
pub const XEN_PCI_MMCFG_RESERVED: u32 = 1;
/// The function is an extended one.
pub const XEN_PCI_DEV_EXTFN: u32 = 1;
/// The function is a virtual one.
pub const XEN_PCI_DEV_VIRTFN: u32 = 2;
/// A proximity domain follows.
pub const XEN_PCI_DEV_PXM: u32 = 4;

/// A PCI device.
///
/// `struct physdev_pci_device`, 4 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct PhysdevPciDevice {
    /// Segment.
    pub seg: u16,
    /// Bus.
    pub bus: u8,
    /// Device and function.
    pub devfn: u8,
}
const _: () = assert!(size_of::<PhysdevPciDevice>() == 4);

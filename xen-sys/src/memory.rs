//! `memory.h`: memory reservations, mapping and translation (`HYPERVISOR_memory_op`).
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::addr::{Mfn, Vaddr};
use crate::{DomId, GuestHandle};

/// Get more memory; returns the extents done.
pub const XENMEM_increase_reservation: u32 = 0;
/// Give memory back; returns the extents done.
pub const XENMEM_decrease_reservation: u32 = 1;
/// Highest machine frame in use.
pub const XENMEM_maximum_ram_page: u32 = 2;
/// Pages of the domain.
pub const XENMEM_current_reservation: u32 = 3;
/// Limit of pages of the domain.
pub const XENMEM_maximum_reservation: u32 = 4;
/// Frames that hold the M2P table.
pub const XENMEM_machphys_mfn_list: u32 = 5;
/// Populate guest frames; returns the extents done.
pub const XENMEM_populate_physmap: u32 = 6;
/// Put a special page in the guest's map.
pub const XENMEM_add_to_physmap: u32 = 7;
/// The pseudo-physical E820 map.
pub const XENMEM_memory_map: u32 = 9;
/// The machine's E820 map; dom0.
pub const XENMEM_machine_memory_map: u32 = 10;
/// Exchange extents.
pub const XENMEM_exchange: u32 = 11;
/// Where the M2P table is mapped.
pub const XENMEM_machphys_mapping: u32 = 12;
/// Set a domain's E820 map.
pub const XENMEM_set_memory_map: u32 = 13;
/// Highest guest frame in use.
pub const XENMEM_maximum_gpfn: u32 = 14;
/// Remove a page from the guest's map.
pub const XENMEM_remove_from_physmap: u32 = 15;
/// Set the populate-on-demand target.
pub const XENMEM_set_pod_target: u32 = 16;
/// Query the populate-on-demand target.
pub const XENMEM_get_pod_target: u32 = 17;
/// Pages saved by sharing.
pub const XENMEM_get_sharing_freed_pages: u32 = 18;
/// Pages shared.
pub const XENMEM_get_sharing_shared_pages: u32 = 19;
/// Hypervisor paging.
pub const XENMEM_paging_op: u32 = 20;
/// Memory access rights.
pub const XENMEM_access_op: u32 = 21;
/// Memory sharing.
pub const XENMEM_sharing_op: u32 = 22;
/// Several `add_to_physmap`.
pub const XENMEM_add_to_physmap_batch: u32 = 23;
/// Reserve pages for a domain.
pub const XENMEM_claim_pages: u32 = 24;
/// Frames that hold the 32-bit M2P table.
pub const XENMEM_machphys_compat_mfn_list: u32 = 25;
/// Virtual NUMA topology.
pub const XENMEM_get_vnumainfo: u32 = 26;
/// Reserved device memory.
pub const XENMEM_reserved_device_memory_map: u32 = 27;
/// Map a resource of another domain.
pub const XENMEM_acquire_resource: u32 = 28;

/// Populate on demand.
pub const XENMEMF_populate_on_demand: u32 = 1 << 16;
/// Only from the given node.
pub const XENMEMF_exact_node_request: u32 = 1 << 17;
/// The node is a virtual one.
pub const XENMEMF_vnode: u32 = 1 << 18;
/// `XENMEMF_address_bits(x)`: limit the address width of the extents.
pub const fn XENMEMF_address_bits(bits: u32) -> u32 {
    bits
}

/// `XENMEMF_get_address_bits(x)`: 0 means no limit.
pub const fn XENMEMF_get_address_bits(mem_flags: u32) -> u32 {
    mem_flags & 0xff
}

/// Extents to get, give back or populate.
///
/// `struct xen_memory_reservation`, 32 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct XenMemoryReservation {
    /// Array of frame numbers, 8 bytes each; in or out depending on the call.
    pub extent_start: GuestHandle,
    /// Number of extents.
    pub nr_extents: u64,
    /// log2 of the pages of each.
    pub extent_order: u32,
    /// `XENMEMF_*`.
    pub mem_flags: u32,
    /// Whose memory.
    pub domid: DomId,
    /// Padding; zero.
    pub _pad0: [u8; 6],
}
const _: () = assert!(size_of::<XenMemoryReservation>() == 32);

/// `XENMEM_exchange`.
///
/// `struct xen_memory_exchange`, 72 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct XenMemoryExchange {
    /// Extents to give (`in`).
    pub in_: XenMemoryReservation,
    /// Extents to get; their total size must be the same.
    pub out: XenMemoryReservation,
    /// Out: input extents exchanged. Must be 0 on input.
    pub nr_exchanged: u64,
}
const _: () = assert!(size_of::<XenMemoryExchange>() == 72);

/// Argument of `XENMEM_current_reservation` and its like.
///
/// `struct xen_memory_domain`, 2 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct XenMemoryDomain {
    /// Whose memory.
    pub domid: DomId,
}
const _: () = assert!(size_of::<XenMemoryDomain>() == 2);

/// `XENMEM_machphys_mfn_list`.
///
/// `struct xen_machphys_mfn_list`, 24 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct XenMachphysMfnList {
    /// Size of the array.
    pub max_extents: u32,
    /// Padding; zero.
    pub _pad0: [u8; 4],
    /// Out: array of frame numbers of 2 MiB pieces.
    pub extent_start: GuestHandle,
    /// Out: number written.
    pub nr_extents: u32,
    /// Padding; zero.
    pub _pad1: [u8; 4],
}
const _: () = assert!(size_of::<XenMachphysMfnList>() == 24);

/// `XENMEM_machphys_mapping`.
///
/// `struct xen_machphys_mapping`, 24 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct XenMachphysMapping {
    /// Out: first byte of the M2P table.
    pub v_start: Vaddr,
    /// Out: end of the M2P table.
    pub v_end: Vaddr,
    /// Out: highest frame it describes.
    pub max_mfn: u64,
}
const _: () = assert!(size_of::<XenMachphysMapping>() == 24);

/// Shared info page.
pub const XENMAPSPACE_shared_info: u32 = 0;
/// Grant table page.
pub const XENMAPSPACE_grant_table: u32 = 1;
/// Guest frame.
pub const XENMAPSPACE_gmfn: u32 = 2;
/// Range of guest frames.
pub const XENMAPSPACE_gmfn_range: u32 = 3;
/// Guest frame of another domain.
pub const XENMAPSPACE_gmfn_foreign: u32 = 4;
/// Device memory.
pub const XENMAPSPACE_dev_mmio: u32 = 5;
/// Bit of `idx`: a grant status page.
pub const XENMAPIDX_grant_table_status: u64 = 0x8000_0000;

/// `XENMEM_add_to_physmap`.
///
/// `struct xen_add_to_physmap`, 24 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct XenAddToPhysmap {
    /// Whose map.
    pub domid: DomId,
    /// Pages, for `XENMAPSPACE_gmfn_range`.
    pub size: u16,
    /// `XENMAPSPACE_*`.
    pub space: u32,
    /// Index in the space.
    pub idx: u64,
    /// Guest frame to put it at.
    pub gpfn: u64,
}
const _: () = assert!(size_of::<XenAddToPhysmap>() == 24);

/// `XENMEM_add_to_physmap_batch`.
///
/// `struct xen_add_to_physmap_batch`, 32 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct XenAddToPhysmapBatch {
    /// Whose map.
    pub domid: DomId,
    /// `XENMAPSPACE_*`.
    pub space: u16,
    /// Entries.
    pub size: u16,
    /// `foreign_domid` for `XENMAPSPACE_gmfn_foreign`, else 0.
    pub u: u16,
    /// Array of 8-byte indices.
    pub idxs: GuestHandle,
    /// Array of 8-byte frame numbers.
    pub gpfns: GuestHandle,
    /// Out: array of 4-byte errors.
    pub errs: GuestHandle,
}
const _: () = assert!(size_of::<XenAddToPhysmapBatch>() == 32);

/// `XENMEM_remove_from_physmap`.
///
/// `struct xen_remove_from_physmap`, 16 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct XenRemoveFromPhysmap {
    /// Whose map.
    pub domid: DomId,
    /// Padding; zero.
    pub _pad0: [u8; 6],
    /// Frame to remove.
    pub gpfn: u64,
}
const _: () = assert!(size_of::<XenRemoveFromPhysmap>() == 16);

/// `XENMEM_memory_map`.
///
/// `struct xen_memory_map`, 16 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct XenMemoryMap {
    /// In: entries of the buffer. Out: entries written.
    pub nr_entries: u32,
    /// Padding; zero.
    pub _pad0: [u8; 4],
    /// Out: array of [`E820Entry`].
    pub buffer: GuestHandle,
}
const _: () = assert!(size_of::<XenMemoryMap>() == 16);

/// `XENMEM_set_memory_map`.
///
/// `struct xen_foreign_memory_map`, 24 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct XenForeignMemoryMap {
    /// Whose map.
    pub domid: DomId,
    /// Padding; zero.
    pub _pad0: [u8; 6],
    /// The map.
    pub map: XenMemoryMap,
}
const _: () = assert!(size_of::<XenForeignMemoryMap>() == 24);

/// One entry of the E820 map, as the BIOS call INT 15h, E820h returns it: 20 bytes, packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, packed)]
pub struct E820Entry {
    /// First byte.
    pub addr: u64,
    /// Bytes.
    pub size: u64,
    /// `E820_*`.
    pub kind: u32,
}
const _: () = assert!(size_of::<E820Entry>() == 20);
/// Usable memory.
pub const E820_RAM: u32 = 1;
/// Reserved.
pub const E820_RESERVED: u32 = 2;
/// ACPI tables, usable once read.
pub const E820_ACPI: u32 = 3;
/// ACPI non-volatile memory.
pub const E820_NVS: u32 = 4;
/// Faulty memory.
pub const E820_UNUSABLE: u32 = 5;

/// `XENMEM_set_pod_target`, `XENMEM_get_pod_target`.
///
/// `struct xen_pod_target`, 40 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct XenPodTarget {
    /// In: the target.
    pub target_pages: u64,
    /// Out: pages of the domain.
    pub tot_pages: u64,
    /// Out: pages in the cache.
    pub pod_cache_pages: u64,
    /// Out: entries not yet populated.
    pub pod_entries: u64,
    /// Whose target.
    pub domid: DomId,
    /// Padding; zero.
    pub _pad0: [u8; 6],
}
const _: () = assert!(size_of::<XenPodTarget>() == 40);

/// A range of reserved device memory.
///
/// `struct xen_reserved_device_memory`, 16 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct XenReservedDeviceMemory {
    /// First frame.
    pub start_pfn: u64,
    /// Frames.
    pub nr_pages: u64,
}
const _: () = assert!(size_of::<XenReservedDeviceMemory>() == 16);

/// `XENMEM_acquire_resource`.
///
/// `struct xen_mem_acquire_resource`, 32 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct XenMemAcquireResource {
    /// Whose resource.
    pub domid: DomId,
    /// `XENMEM_resource_*` (`type`).
    pub kind: u16,
    /// Which one.
    pub id: u32,
    /// In: frames wanted; 0 asks for the size. Out: the size then.
    pub nr_frames: u32,
    /// Zero.
    pub pad: u32,
    /// First frame of the resource.
    pub frame: u64,
    /// Array of frame numbers.
    pub frame_list: GuestHandle,
}
const _: () = assert!(size_of::<XenMemAcquireResource>() == 32);
/// Pages of an ioreq server.
pub const XENMEM_resource_ioreq_server: u16 = 0;
/// Pages of a grant table.
pub const XENMEM_resource_grant_table: u16 = 1;
/// Trace buffer of a vCPU.
pub const XENMEM_resource_vmtrace_buf: u16 = 2;
/// The table itself.
pub const XENMEM_resource_grant_table_id_shared: u32 = 0;
/// Its status frames.
pub const XENMEM_resource_grant_table_id_status: u32 = 1;

/// A range of memory of a virtual NUMA node.
///
/// `struct xen_vmemrange`, 24 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct XenVmemrange {
    /// First byte.
    pub start: u64,
    /// End.
    pub end: u64,
    /// Zero.
    pub flags: u32,
    /// Virtual node.
    pub nid: u32,
}
const _: () = assert!(size_of::<XenVmemrange>() == 24);

/// `XENMEM_get_vnumainfo`.
///
/// `struct xen_vnuma_topology_info`, 40 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct XenVnumaTopologyInfo {
    /// Whose topology.
    pub domid: DomId,
    /// Zero.
    pub pad: u16,
    /// In: size of the arrays. Out: virtual nodes.
    pub nr_vnodes: u32,
    /// In: size of the array. Out: vCPUs.
    pub nr_vcpus: u32,
    /// In: size of the array. Out: ranges.
    pub nr_vmemranges: u32,
    /// Out: array of distances.
    pub vdistance: GuestHandle,
    /// Out: array of nodes.
    pub vcpu_to_vnode: GuestHandle,
    /// Out: array of [`XenVmemrange`].
    pub vmemrange: GuestHandle,
}
const _: () = assert!(size_of::<XenVnumaTopologyInfo>() == 40);

/// The M2P value of a frame that has no pseudo-physical number.
pub const INVALID_M2P_ENTRY: u64 = !0;
/// The P2M value of a page without a frame.
pub const INVALID_P2M_ENTRY: Mfn = Mfn(!0);

//! `sysctl.h`: control of the host (`HYPERVISOR_sysctl`), for toolstacks.
//!
//! The interface is not stable, as [`domctl`](crate::domctl)'s. What is here is the same in Xen 4.17 to
//! 4.22 on x86, whose versions are 0x15 and, since 4.21, 0x16.
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::domctl::XenctlBitmap;
use crate::{DomId, GuestHandle};

/// Version of Xen 4.17.
pub const XEN_SYSCTL_INTERFACE_VERSION: u32 = 0x15;

/// The hypervisor's messages.
pub const XEN_SYSCTL_readconsole: u32 = 1;
/// The machine.
pub const XEN_SYSCTL_physinfo: u32 = 3;
/// The scheduler.
pub const XEN_SYSCTL_sched_id: u32 = 4;
/// All domains.
pub const XEN_SYSCTL_getdomaininfolist: u32 = 6;
/// Keys of the hypervisor's console.
pub const XEN_SYSCTL_debug_keys: u32 = 7;
/// Idle times.
pub const XEN_SYSCTL_getcpuinfo: u32 = 8;
/// Cores, sockets and nodes.
pub const XEN_SYSCTL_cputopoinfo: u32 = 16;
/// Memory of nodes.
pub const XEN_SYSCTL_numainfo: u32 = 17;
/// CPU pools.
pub const XEN_SYSCTL_cpupool_op: u32 = 18;
/// Parameters of a scheduler.
pub const XEN_SYSCTL_scheduler_op: u32 = 19;
/// CPUID and MSR policies of the host.
pub const XEN_SYSCTL_get_cpu_policy: u32 = 29;

/// HVM guests.
pub const XEN_SYSCTL_PHYSCAP_hvm: u32 = 1;
/// PV guests.
pub const XEN_SYSCTL_PHYSCAP_pv: u32 = 1 << 1;
/// Devices for guests, through an IOMMU.
pub const XEN_SYSCTL_PHYSCAP_directio: u32 = 1 << 2;
/// Hardware-assisted paging.
pub const XEN_SYSCTL_PHYSCAP_hap: u32 = 1 << 3;
/// Shadow paging.
pub const XEN_SYSCTL_PHYSCAP_shadow: u32 = 1 << 4;
/// Page tables shared with the IOMMU.
pub const XEN_SYSCTL_PHYSCAP_iommu_hap_pt_share: u32 = 1 << 5;
/// Traces of vCPUs.
pub const XEN_SYSCTL_PHYSCAP_vmtrace: u32 = 1 << 6;
/// Performance counters for guests.
pub const XEN_SYSCTL_PHYSCAP_vpmu: u32 = 1 << 7;
/// Grant tables of version 1.
pub const XEN_SYSCTL_PHYSCAP_gnttab_v1: u32 = 1 << 8;
/// Grant tables of version 2.
pub const XEN_SYSCTL_PHYSCAP_gnttab_v2: u32 = 1 << 9;

/// About a pool.
pub const XEN_SYSCTL_CPUPOOL_OP_INFO: u32 = 3;
/// Processors in no pool.
pub const XEN_SYSCTL_CPUPOOL_OP_FREEINFO: u32 = 7;

/// Set parameters.
pub const XEN_SYSCTL_SCHEDOP_putinfo: u32 = 0;
/// Get parameters.
pub const XEN_SYSCTL_SCHEDOP_getinfo: u32 = 1;

/// What the processor has.
pub const XEN_SYSCTL_cpu_policy_raw: u32 = 0;
/// What Xen uses.
pub const XEN_SYSCTL_cpu_policy_host: u32 = 1;
/// Most a PV guest may be given.
pub const XEN_SYSCTL_cpu_policy_pv_max: u32 = 2;
/// Most an HVM guest may be given.
pub const XEN_SYSCTL_cpu_policy_hvm_max: u32 = 3;
/// What a PV guest is given.
pub const XEN_SYSCTL_cpu_policy_pv_default: u32 = 4;
/// What an HVM guest is given.
pub const XEN_SYSCTL_cpu_policy_hvm_default: u32 = 5;

/// No such core.
pub const XEN_INVALID_CORE_ID: u32 = !0;
/// No such socket.
pub const XEN_INVALID_SOCKET_ID: u32 = !0;
/// No such node.
pub const XEN_INVALID_NODE_ID: u32 = !0;

/// A call: the head, and the arguments of whatever command it is.
///
/// `struct xen_sysctl`, 136 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct XenSysctl {
    /// `XEN_SYSCTL_*`.
    pub cmd: u32,
    /// The version it is made for.
    pub interface_version: u32,
    /// The arguments; unused ones are zero.
    pub u: [u64; 16],
}
const _: () = assert!(size_of::<XenSysctl>() == 136);

/// `XEN_SYSCTL_readconsole`.
///
/// `struct xen_sysctl_readconsole`, 24 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct XenSysctlReadconsole {
    /// Whether to forget what was read.
    pub clear: u8,
    /// Whether to begin at `index`.
    pub incremental: u8,
    /// Zero.
    pub pad: [u8; 2],
    /// Where to begin; out: where it ended.
    pub index: u32,
    /// The text.
    pub buffer: GuestHandle,
    /// Room; out: bytes written.
    pub count: u32,
    /// Padding; zero.
    pub _pad0: [u8; 4],
}
const _: () = assert!(size_of::<XenSysctlReadconsole>() == 24);

/// `XEN_SYSCTL_physinfo`.
///
/// `struct xen_sysctl_physinfo`, 112 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct XenSysctlPhysinfo {
    /// Threads of a core.
    pub threads_per_core: u32,
    /// Cores of a socket.
    pub cores_per_socket: u32,
    /// Processors online.
    pub nr_cpus: u32,
    /// Highest number a processor can have.
    pub max_cpu_id: u32,
    /// Nodes online.
    pub nr_nodes: u32,
    /// Highest number a node can have.
    pub max_node_id: u32,
    /// Frequency, kHz.
    pub cpu_khz: u32,
    /// `XEN_SYSCTL_PHYSCAP_*`.
    pub capabilities: u32,
    /// The same of one architecture.
    pub arch_capabilities: u32,
    /// Zero.
    pub pad: u32,
    /// Memory, pages.
    pub total_pages: u64,
    /// Of these free.
    pub free_pages: u64,
    /// Free but not yet scrubbed.
    pub scrub_pages: u64,
    /// Claimed by domains that have not yet taken them.
    pub outstanding_pages: u64,
    /// Highest frame.
    pub max_mfn: u64,
    /// Feature words of CPUID.
    pub hw_cap: [u32; 8],
}
const _: () = assert!(size_of::<XenSysctlPhysinfo>() == 112);

/// `XEN_SYSCTL_sched_id`.
///
/// `struct xen_sysctl_sched_id`, 4 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct XenSysctlSchedId {
    /// Out: `XEN_SCHEDULER_*` of `domctl.h`.
    pub sched_id: u32,
}

/// `XEN_SYSCTL_getdomaininfolist`.
///
/// `struct xen_sysctl_getdomaininfolist`, 24 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct XenSysctlGetdomaininfolist {
    /// From this one on.
    pub first_domain: DomId,
    /// Padding; zero.
    pub _pad0: [u8; 2],
    /// Room.
    pub max_domains: u32,
    /// Array of [`XenDomctlGetdomaininfo`](crate::domctl::XenDomctlGetdomaininfo).
    pub buffer: GuestHandle,
    /// Out: domains told.
    pub num_domains: u32,
    /// Padding; zero.
    pub _pad1: [u8; 4],
}
const _: () = assert!(size_of::<XenSysctlGetdomaininfolist>() == 24);

/// `XEN_SYSCTL_debug_keys`.
///
/// `struct xen_sysctl_debug_keys`, 16 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct XenSysctlDebugKeys {
    /// The keys.
    pub keys: GuestHandle,
    /// How many.
    pub nr_keys: u32,
    /// Padding; zero.
    pub _pad0: [u8; 4],
}
const _: () = assert!(size_of::<XenSysctlDebugKeys>() == 16);

/// `XEN_SYSCTL_getcpuinfo`.
///
/// `struct xen_sysctl_getcpuinfo`, 24 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct XenSysctlGetcpuinfo {
    /// Room.
    pub max_cpus: u32,
    /// Padding; zero.
    pub _pad0: [u8; 4],
    /// Array of idle times, ns, 8 bytes each.
    pub info: GuestHandle,
    /// Out: processors told.
    pub nr_cpus: u32,
    /// Padding; zero.
    pub _pad1: [u8; 4],
}
const _: () = assert!(size_of::<XenSysctlGetcpuinfo>() == 24);

/// A processor's place.
///
/// `struct xen_sysctl_cputopo`, 12 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct XenSysctlCputopo {
    /// Its core.
    pub core: u32,
    /// Its socket.
    pub socket: u32,
    /// Its node.
    pub node: u32,
}
const _: () = assert!(size_of::<XenSysctlCputopo>() == 12);

/// `XEN_SYSCTL_cputopoinfo`.
///
/// `struct xen_sysctl_cputopoinfo`, 16 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct XenSysctlCputopoinfo {
    /// Room; out: processors told.
    pub num_cpus: u32,
    /// Padding; zero.
    pub _pad0: [u8; 4],
    /// Array of [`XenSysctlCputopo`]; null: tell how many.
    pub cputopo: GuestHandle,
}
const _: () = assert!(size_of::<XenSysctlCputopoinfo>() == 16);

/// A node's memory.
///
/// `struct xen_sysctl_meminfo`, 16 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct XenSysctlMeminfo {
    /// Bytes.
    pub memsize: u64,
    /// Of these free.
    pub memfree: u64,
}
const _: () = assert!(size_of::<XenSysctlMeminfo>() == 16);

/// `XEN_SYSCTL_numainfo`.
///
/// `struct xen_sysctl_numainfo`, 24 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct XenSysctlNumainfo {
    /// Room; out: nodes told.
    pub num_nodes: u32,
    /// Padding; zero.
    pub _pad0: [u8; 4],
    /// Array of [`XenSysctlMeminfo`].
    pub meminfo: GuestHandle,
    /// Distances, 4 bytes each.
    pub distance: GuestHandle,
}
const _: () = assert!(size_of::<XenSysctlNumainfo>() == 24);

/// `XEN_SYSCTL_cpupool_op`.
///
/// `struct xen_sysctl_cpupool_op`, 40 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct XenSysctlCpupoolOp {
    /// `XEN_SYSCTL_CPUPOOL_OP_*`.
    pub op: u32,
    /// Which pool, or the next above; out: which one is told of.
    pub cpupool_id: u32,
    /// Its scheduler.
    pub sched_id: u32,
    /// A domain.
    pub domid: u32,
    /// A processor.
    pub cpu: u32,
    /// Out: its domains.
    pub n_dom: u32,
    /// Out: its processors.
    pub cpumap: XenctlBitmap,
}
const _: () = assert!(size_of::<XenSysctlCpupoolOp>() == 40);

/// `XEN_SYSCTL_scheduler_op`.
///
/// `struct xen_sysctl_scheduler_op`, 32 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct XenSysctlSchedulerOp {
    /// Which pool.
    pub cpupool_id: u32,
    /// `XEN_SCHEDULER_*`.
    pub sched_id: u32,
    /// `XEN_SYSCTL_SCHEDOP_*`.
    pub cmd: u32,
    /// Padding; zero.
    pub _pad0: [u8; 4],
    /// Of credit2, the least time between two switches, µs (`u.sched_credit2.ratelimit_us`).
    pub ratelimit_us: u32,
    /// The rest of the union.
    pub _rest: [u32; 3],
}
const _: () = assert!(size_of::<XenSysctlSchedulerOp>() == 32);

/// `XEN_SYSCTL_get_cpu_policy`.
///
/// `struct xen_sysctl_cpu_policy`, 32 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct XenSysctlCpuPolicy {
    /// `XEN_SYSCTL_cpu_policy_*`.
    pub index: u32,
    /// Room in `leaves`; out: written.
    pub nr_leaves: u32,
    /// Room in `msrs`; out: written.
    pub nr_msrs: u32,
    /// Zero.
    pub _rsvd: u32,
    /// Array of [`XenCpuidLeaf`](crate::arch_x86::XenCpuidLeaf); null: tell how many.
    pub leaves: GuestHandle,
    /// Array of [`XenMsrEntry`](crate::arch_x86::XenMsrEntry); null: tell how many.
    pub msrs: GuestHandle,
}
const _: () = assert!(size_of::<XenSysctlCpuPolicy>() == 32);

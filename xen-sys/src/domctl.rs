//! `domctl.h`: control of domains (`HYPERVISOR_domctl`), for toolstacks.
//!
//! The interface is not stable: every call says which version it was made for, and Xen takes only its
//! own. What is here is that of Xen 4.17 and, where later ones differ on x86, both, the later under a
//! name with its first version. Releases and versions: 4.17 0x15, 4.18 0x16, 4.19 to 4.21 0x17, 4.22
//! 0x18.
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{DomId, GuestHandle};

/// Version of Xen 4.17.
pub const XEN_DOMCTL_INTERFACE_VERSION: u32 = 0x15;

/// Make a domain.
pub const XEN_DOMCTL_createdomain: u32 = 1;
/// Kill a domain.
pub const XEN_DOMCTL_destroydomain: u32 = 2;
/// Pause it; counted.
pub const XEN_DOMCTL_pausedomain: u32 = 3;
/// Undo a pause.
pub const XEN_DOMCTL_unpausedomain: u32 = 4;
/// Tell about this domain or the next above it.
pub const XEN_DOMCTL_getdomaininfo: u32 = 5;
/// Where a vCPU may run.
pub const XEN_DOMCTL_setvcpuaffinity: u32 = 9;
/// Shadow and log-dirty modes.
pub const XEN_DOMCTL_shadow_op: u32 = 10;
/// Most memory it may have.
pub const XEN_DOMCTL_max_mem: u32 = 11;
/// Registers of a vCPU.
pub const XEN_DOMCTL_setvcpucontext: u32 = 12;
/// Registers of a vCPU.
pub const XEN_DOMCTL_getvcpucontext: u32 = 13;
/// State of a vCPU.
pub const XEN_DOMCTL_getvcpuinfo: u32 = 14;
/// Make the vCPUs.
pub const XEN_DOMCTL_max_vcpus: u32 = 15;
/// Parameters of the scheduler.
pub const XEN_DOMCTL_scheduler_op: u32 = 16;
/// Its UUID.
pub const XEN_DOMCTL_setdomainhandle: u32 = 17;
/// Fill a hypercall page.
pub const XEN_DOMCTL_hypercall_init: u32 = 22;
/// Offset of its wall clock.
pub const XEN_DOMCTL_settimeoffset: u32 = 24;
/// Where a vCPU may run.
pub const XEN_DOMCTL_getvcpuaffinity: u32 = 25;
/// Undo a shutdown.
pub const XEN_DOMCTL_resumedomain: u32 = 27;
/// Press a button.
pub const XEN_DOMCTL_sendtrigger: u32 = 28;
/// State of an HVM domain.
pub const XEN_DOMCTL_gethvmcontext: u32 = 33;
/// State of an HVM domain.
pub const XEN_DOMCTL_sethvmcontext: u32 = 34;
/// 32 or 64 bits, of a PV domain.
pub const XEN_DOMCTL_set_address_size: u32 = 35;
/// 32 or 64 bits, of a PV domain.
pub const XEN_DOMCTL_get_address_size: u32 = 36;
/// Its time stamp counter.
pub const XEN_DOMCTL_gettscinfo: u32 = 59;
/// Its time stamp counter.
pub const XEN_DOMCTL_settscinfo: u32 = 60;
/// Types of frames.
pub const XEN_DOMCTL_getpageframeinfo3: u32 = 61;
/// Nodes whose memory it prefers.
pub const XEN_DOMCTL_setnodeaffinity: u32 = 68;
/// Virtual NUMA topology.
pub const XEN_DOMCTL_setvnumainfo: u32 = 74;
/// CPUID and MSR policy.
pub const XEN_DOMCTL_get_cpu_policy: u32 = 82;
/// CPUID and MSR policy.
pub const XEN_DOMCTL_set_cpu_policy: u32 = 83;
/// Pool of page tables of an HVM domain.
pub const XEN_DOMCTL_get_paging_mempool_size: u32 = 85;
/// Pool of page tables of an HVM domain.
pub const XEN_DOMCTL_set_paging_mempool_size: u32 = 86;

/// An HVM or PVH domain.
pub const XEN_DOMCTL_CDF_hvm: u32 = 1;
/// With hardware-assisted paging.
pub const XEN_DOMCTL_CDF_hap: u32 = 1 << 1;
/// Its integrity is checked by tboot.
pub const XEN_DOMCTL_CDF_s3_integrity: u32 = 1 << 2;
/// No out-of-sync shadow page tables.
pub const XEN_DOMCTL_CDF_oos_off: u32 = 1 << 3;
/// A xenstore domain.
pub const XEN_DOMCTL_CDF_xs_domain: u32 = 1 << 4;
/// May use the IOMMU.
pub const XEN_DOMCTL_CDF_iommu: u32 = 1 << 5;
/// May use virtualisation itself.
pub const XEN_DOMCTL_CDF_nested_virt: u32 = 1 << 6;
/// Sees performance counters.
pub const XEN_DOMCTL_CDF_vpmu: u32 = 1 << 7;

/// Dies.
pub const XEN_DOMINF_dying: u32 = 1;
/// An HVM or PVH domain.
pub const XEN_DOMINF_hvm_guest: u32 = 1 << 1;
/// Has shut down.
pub const XEN_DOMINF_shutdown: u32 = 1 << 2;
/// Paused by a toolstack.
pub const XEN_DOMINF_paused: u32 = 1 << 3;
/// All vCPUs wait.
pub const XEN_DOMINF_blocked: u32 = 1 << 4;
/// A vCPU runs.
pub const XEN_DOMINF_running: u32 = 1 << 5;
/// Under a debugger.
pub const XEN_DOMINF_debugged: u32 = 1 << 6;
/// A xenstore domain.
pub const XEN_DOMINF_xs_domain: u32 = 1 << 7;
/// With hardware-assisted paging.
pub const XEN_DOMINF_hap: u32 = 1 << 8;
/// Mask of the `SHUTDOWN_*` code.
pub const XEN_DOMINF_shutdownmask: u32 = 255;
/// Where the `SHUTDOWN_*` code is.
pub const XEN_DOMINF_shutdownshift: u32 = 16;
/// The domain has no vCPU.
pub const XEN_INVALID_MAX_VCPU_ID: u32 = !0;

/// Local APICs.
pub const XEN_X86_EMU_LAPIC: u32 = 1;
/// HPET.
pub const XEN_X86_EMU_HPET: u32 = 1 << 1;
/// ACPI PM timer and registers.
pub const XEN_X86_EMU_PM: u32 = 1 << 2;
/// Real-time clock.
pub const XEN_X86_EMU_RTC: u32 = 1 << 3;
/// I/O APIC.
pub const XEN_X86_EMU_IOAPIC: u32 = 1 << 4;
/// 8259.
pub const XEN_X86_EMU_PIC: u32 = 1 << 5;
/// VGA.
pub const XEN_X86_EMU_VGA: u32 = 1 << 6;
/// IOMMU.
pub const XEN_X86_EMU_IOMMU: u32 = 1 << 7;
/// 8254.
pub const XEN_X86_EMU_PIT: u32 = 1 << 8;
/// Event channels for physical interrupts.
pub const XEN_X86_EMU_USE_PIRQ: u32 = 1 << 9;
/// PCI by Xen itself.
pub const XEN_X86_EMU_VPCI: u32 = 1 << 10;
/// Unknown MSRs read as 0.
pub const XEN_X86_MSR_RELAXED: u32 = 1;

/// The credit scheduler.
pub const XEN_SCHEDULER_CREDIT: u32 = 5;
/// The credit2 scheduler.
pub const XEN_SCHEDULER_CREDIT2: u32 = 6;
/// The ARINC 653 scheduler.
pub const XEN_SCHEDULER_ARINC653: u32 = 7;
/// The RTDS scheduler.
pub const XEN_SCHEDULER_RTDS: u32 = 8;
/// The null scheduler.
pub const XEN_SCHEDULER_NULL: u32 = 9;
/// Set parameters of all vCPUs.
pub const XEN_DOMCTL_SCHEDOP_putinfo: u32 = 0;
/// Get parameters.
pub const XEN_DOMCTL_SCHEDOP_getinfo: u32 = 1;

/// The hard affinity.
pub const XEN_VCPUAFFINITY_HARD: u32 = 1;
/// The soft affinity.
pub const XEN_VCPUAFFINITY_SOFT: u32 = 2;
/// Undo `SCHEDOP_pin_override`.
pub const XEN_VCPUAFFINITY_FORCE: u32 = 4;

/// A non-maskable interrupt.
pub const XEN_DOMCTL_SENDTRIGGER_NMI: u32 = 0;
/// Reset.
pub const XEN_DOMCTL_SENDTRIGGER_RESET: u32 = 1;
/// An INIT interrupt.
pub const XEN_DOMCTL_SENDTRIGGER_INIT: u32 = 2;
/// The power button.
pub const XEN_DOMCTL_SENDTRIGGER_POWER: u32 = 3;
/// The sleep button.
pub const XEN_DOMCTL_SENDTRIGGER_SLEEP: u32 = 4;

/// Shadow memory of a domain: get it, MiB.
pub const XEN_DOMCTL_SHADOW_OP_GET_ALLOCATION: u32 = 30;
/// Shadow memory of a domain: set it, MiB.
pub const XEN_DOMCTL_SHADOW_OP_SET_ALLOCATION: u32 = 31;

/// The subleaf does not matter, in older calls.
pub const XEN_CPUID_INPUT_UNUSED: u32 = 0xffff_ffff;

/// Where the type is in an entry of `getpageframeinfo3`.
pub const XEN_DOMCTL_PFINFO_LTAB_SHIFT: u32 = 28;
/// An L1 table.
pub const XEN_DOMCTL_PFINFO_L1TAB: u32 = 1 << 28;
/// A pinned table.
pub const XEN_DOMCTL_PFINFO_LPINTAB: u32 = 1 << 31;
/// No such page.
pub const XEN_DOMCTL_PFINFO_XTAB: u32 = 0xf << 28;
/// Mask of the type.
pub const XEN_DOMCTL_PFINFO_LTAB_MASK: u32 = 0xf << 28;

/// A call: the head, and the arguments of whatever command it is.
///
/// `struct xen_domctl`, 144 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct XenDomctl {
    /// `XEN_DOMCTL_*`.
    pub cmd: u32,
    /// The version it is made for.
    pub interface_version: u32,
    /// Which domain.
    pub domain: DomId,
    /// Zero.
    pub _pad: [u16; 3],
    /// The arguments; unused ones are zero.
    pub u: [u64; 16],
}
const _: () = assert!(size_of::<XenDomctl>() == 144);

/// A bitmap in the caller's memory.
///
/// `struct xenctl_bitmap`, 16 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct XenctlBitmap {
    /// Its bytes.
    pub bitmap: GuestHandle,
    /// Its bits.
    pub nr_bits: u32,
    /// Padding; zero.
    pub _pad0: [u8; 4],
}
const _: () = assert!(size_of::<XenctlBitmap>() == 16);

/// What only x86 has of a domain's configuration.
///
/// `struct xen_arch_domainconfig`, 8 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct XenArchDomainconfig {
    /// `XEN_X86_EMU_*`.
    pub emulation_flags: u32,
    /// `XEN_X86_MSR_RELAXED`.
    pub misc_flags: u32,
}
const _: () = assert!(size_of::<XenArchDomainconfig>() == 8);

/// `XEN_DOMCTL_createdomain`.
///
/// `struct xen_domctl_createdomain`, 64 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct XenDomctlCreatedomain {
    /// Security label.
    pub ssidref: u32,
    /// UUID.
    pub handle: [u8; 16],
    /// `XEN_DOMCTL_CDF_*`.
    pub flags: u32,
    /// `XEN_DOMCTL_IOMMU_*`.
    pub iommu_opts: u32,
    /// vCPUs.
    pub max_vcpus: u32,
    /// Highest port.
    pub max_evtchn_port: u32,
    /// Frames of the grant table; negative: Xen's default.
    pub max_grant_frames: i32,
    /// Frames of the table of mapped grants; negative: Xen's default.
    pub max_maptrack_frames: i32,
    /// Newest version of grant tables, in the lowest 4 bits.
    pub grant_opts: u32,
    /// Trace buffer of a vCPU, bytes.
    pub vmtrace_size: u32,
    /// CPU pool.
    pub cpupool_id: u32,
    /// What is x86's alone.
    pub arch: XenArchDomainconfig,
}
const _: () = assert!(size_of::<XenDomctlCreatedomain>() == 64);

/// `XEN_DOMCTL_createdomain` since version 0x17: with `altp2m_opts`.
///
/// `struct xen_domctl_createdomain`, 68 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct XenDomctlCreatedomainV17 {
    /// Security label.
    pub ssidref: u32,
    /// UUID.
    pub handle: [u8; 16],
    /// `XEN_DOMCTL_CDF_*`.
    pub flags: u32,
    /// `XEN_DOMCTL_IOMMU_*`.
    pub iommu_opts: u32,
    /// vCPUs.
    pub max_vcpus: u32,
    /// Highest port.
    pub max_evtchn_port: u32,
    /// Frames of the grant table; negative: Xen's default.
    pub max_grant_frames: i32,
    /// Frames of the table of mapped grants; negative: Xen's default.
    pub max_maptrack_frames: i32,
    /// Newest version of grant tables, in the lowest 4 bits.
    pub grant_opts: u32,
    /// Mode of alternate p2m, in the lowest 2 bits.
    pub altp2m_opts: u32,
    /// Trace buffer of a vCPU, bytes.
    pub vmtrace_size: u32,
    /// CPU pool.
    pub cpupool_id: u32,
    /// What is x86's alone.
    pub arch: XenArchDomainconfig,
}
const _: () = assert!(size_of::<XenDomctlCreatedomainV17>() == 68);

/// `XEN_DOMCTL_getdomaininfo`, and each element of `XEN_SYSCTL_getdomaininfolist`.
///
/// `struct xen_domctl_getdomaininfo`, 112 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct XenDomctlGetdomaininfo {
    /// Which domain.
    pub domain: DomId,
    /// Padding.
    pub pad1: u16,
    /// `XEN_DOMINF_*`.
    pub flags: u32,
    /// Pages it has.
    pub tot_pages: u64,
    /// Pages it may have.
    pub max_pages: u64,
    /// Pages claimed and not yet allocated.
    pub outstanding_pages: u64,
    /// Pages shared.
    pub shr_pages: u64,
    /// Pages paged out.
    pub paged_pages: u64,
    /// Frame of its shared info page.
    pub shared_info_frame: u64,
    /// Time it has run, ns.
    pub cpu_time: u64,
    /// vCPUs online.
    pub nr_online_vcpus: u32,
    /// Highest vCPU.
    pub max_vcpu_id: u32,
    /// Security label.
    pub ssidref: u32,
    /// UUID.
    pub handle: [u8; 16],
    /// CPU pool.
    pub cpupool: u32,
    /// Bits of guest-physical addresses.
    pub gpaddr_bits: u8,
    /// Padding.
    pub pad2: [u8; 7],
    /// What is x86's alone.
    pub arch_config: XenArchDomainconfig,
}
const _: () = assert!(size_of::<XenDomctlGetdomaininfo>() == 112);

/// `XEN_DOMCTL_getpageframeinfo3`.
///
/// `struct xen_domctl_getpageframeinfo3`, 16 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct XenDomctlGetpageframeinfo3 {
    /// Frames.
    pub num: u64,
    /// In: frame numbers, 8 bytes each. Out: their types in bits 28 to 31.
    pub array: GuestHandle,
}
const _: () = assert!(size_of::<XenDomctlGetpageframeinfo3>() == 16);

/// `XEN_DOMCTL_setnodeaffinity`.
///
/// `struct xen_domctl_nodeaffinity`, 16 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct XenDomctlNodeaffinity {
    /// Which nodes.
    pub nodemap: XenctlBitmap,
}

/// `XEN_DOMCTL_setvcpuaffinity`, `XEN_DOMCTL_getvcpuaffinity`.
///
/// `struct xen_domctl_vcpuaffinity`, 40 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct XenDomctlVcpuaffinity {
    /// Which vCPU.
    pub vcpu: u32,
    /// `XEN_VCPUAFFINITY_*`.
    pub flags: u32,
    /// Where it may run; out: where it really may.
    pub cpumap_hard: XenctlBitmap,
    /// Where it prefers to run; out: where it really may.
    pub cpumap_soft: XenctlBitmap,
}
const _: () = assert!(size_of::<XenDomctlVcpuaffinity>() == 40);

/// `XEN_DOMCTL_shadow_op`.
///
/// `struct xen_domctl_shadow_op`, 40 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct XenDomctlShadowOp {
    /// `XEN_DOMCTL_SHADOW_OP_*`.
    pub op: u32,
    /// Flags of the mode.
    pub mode: u32,
    /// Memory, MiB.
    pub mb: u32,
    /// Padding; zero.
    pub _pad0: [u8; 4],
    /// Bitmap of dirty pages.
    pub dirty_bitmap: GuestHandle,
    /// Its bits.
    pub pages: u64,
    /// Out: counters of faults and dirty pages.
    pub stats: [u32; 2],
}
const _: () = assert!(size_of::<XenDomctlShadowOp>() == 40);

/// `XEN_DOMCTL_max_mem`.
///
/// `struct xen_domctl_max_mem`, 8 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct XenDomctlMaxMem {
    /// KiB.
    pub max_memkb: u64,
}

/// `XEN_DOMCTL_setvcpucontext`, `XEN_DOMCTL_getvcpucontext`.
///
/// `struct xen_domctl_vcpucontext`, 16 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct XenDomctlVcpucontext {
    /// Which vCPU.
    pub vcpu: u32,
    /// Padding; zero.
    pub _pad0: [u8; 4],
    /// A [`VcpuGuestContext`](crate::arch_x86::VcpuGuestContext).
    pub ctxt: GuestHandle,
}
const _: () = assert!(size_of::<XenDomctlVcpucontext>() == 16);

/// `XEN_DOMCTL_getvcpuinfo`.
///
/// `struct xen_domctl_getvcpuinfo`, 24 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct XenDomctlGetvcpuinfo {
    /// Which vCPU.
    pub vcpu: u32,
    /// Out: it is online.
    pub online: u8,
    /// Out: it waits.
    pub blocked: u8,
    /// Out: it runs.
    pub running: u8,
    /// Padding; zero.
    pub _pad0: u8,
    /// Out: time it has run, ns.
    pub cpu_time: u64,
    /// Out: where it runs or ran last.
    pub cpu: u32,
    /// Padding; zero.
    pub _pad1: [u8; 4],
}
const _: () = assert!(size_of::<XenDomctlGetvcpuinfo>() == 24);

/// `XEN_DOMCTL_max_vcpus`.
///
/// `struct xen_domctl_max_vcpus`, 4 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct XenDomctlMaxVcpus {
    /// vCPUs, as many as `createdomain` said.
    pub max: u32,
}

/// Parameters of credit2 (and of credit).
///
/// `struct xen_domctl_sched_credit2`, 4 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct XenDomctlSchedCredit2 {
    /// Share of the processors, 256 by default.
    pub weight: u16,
    /// Most it may use, per cent of one processor; 0: no limit.
    pub cap: u16,
}

/// `XEN_DOMCTL_scheduler_op`.
///
/// `struct xen_domctl_scheduler_op`, 24 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct XenDomctlSchedulerOp {
    /// `XEN_SCHEDULER_*`.
    pub sched_id: u32,
    /// `XEN_DOMCTL_SCHEDOP_*`.
    pub cmd: u32,
    /// The parameters, if they are credit's or credit2's (`u`).
    pub credit2: XenDomctlSchedCredit2,
    /// The rest of the union.
    pub _rest: [u32; 3],
}
const _: () = assert!(size_of::<XenDomctlSchedulerOp>() == 24);

/// `XEN_DOMCTL_setdomainhandle`.
///
/// `struct xen_domctl_setdomainhandle`, 16 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct XenDomctlSetdomainhandle {
    /// UUID.
    pub handle: [u8; 16],
}

/// `XEN_DOMCTL_hypercall_init`.
///
/// `struct xen_domctl_hypercall_init`, 8 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct XenDomctlHypercallInit {
    /// Frame: of a PV domain its machine frame.
    pub gmfn: u64,
}

/// `XEN_DOMCTL_settimeoffset`.
///
/// `struct xen_domctl_settimeoffset`, 8 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct XenDomctlSettimeoffset {
    /// Seconds its clock is ahead.
    pub time_offset_seconds: i64,
}

/// `XEN_DOMCTL_gethvmcontext`, `XEN_DOMCTL_sethvmcontext`.
///
/// `struct xen_domctl_hvmcontext`, 16 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct XenDomctlHvmcontext {
    /// Bytes.
    pub size: u32,
    /// Padding; zero.
    pub _pad0: [u8; 4],
    /// The records; null: tell the size.
    pub buffer: GuestHandle,
}
const _: () = assert!(size_of::<XenDomctlHvmcontext>() == 16);

/// `XEN_DOMCTL_set_address_size`, `XEN_DOMCTL_get_address_size`.
///
/// `struct xen_domctl_address_size`, 4 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct XenDomctlAddressSize {
    /// Bits: 32 or 64.
    pub size: u32,
}

/// `XEN_DOMCTL_sendtrigger`.
///
/// `struct xen_domctl_sendtrigger`, 8 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct XenDomctlSendtrigger {
    /// `XEN_DOMCTL_SENDTRIGGER_*`.
    pub trigger: u32,
    /// Which vCPU.
    pub vcpu: u32,
}

/// `XEN_DOMCTL_gettscinfo`, `XEN_DOMCTL_settscinfo`.
///
/// `struct xen_domctl_tsc_info`, 24 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct XenDomctlTscInfo {
    /// 0 default, 1 always emulate, 2 never emulate.
    pub tsc_mode: u32,
    /// Its frequency, kHz.
    pub gtsc_khz: u32,
    /// How often it has been restored.
    pub incarnation: u32,
    /// Zero.
    pub pad: u32,
    /// Time since the domain began, ns.
    pub elapsed_nsec: u64,
}
const _: () = assert!(size_of::<XenDomctlTscInfo>() == 24);

/// `XEN_DOMCTL_get_cpu_policy`, `XEN_DOMCTL_set_cpu_policy`.
///
/// `struct xen_domctl_cpu_policy`, 40 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct XenDomctlCpuPolicy {
    /// Entries of `leaves`; out: written.
    pub nr_leaves: u32,
    /// Entries of `msrs`; out: written.
    pub nr_msrs: u32,
    /// Array of [`XenCpuidLeaf`](crate::arch_x86::XenCpuidLeaf).
    pub leaves: GuestHandle,
    /// Array of [`XenMsrEntry`](crate::arch_x86::XenMsrEntry).
    pub msrs: GuestHandle,
    /// Out: the leaf that is refused.
    pub err_leaf: u32,
    /// Out: its subleaf.
    pub err_subleaf: u32,
    /// Out: the MSR that is refused.
    pub err_msr: u32,
    /// Padding; zero.
    pub _pad0: [u8; 4],
}
const _: () = assert!(size_of::<XenDomctlCpuPolicy>() == 40);

/// `XEN_DOMCTL_get_paging_mempool_size`, `XEN_DOMCTL_set_paging_mempool_size`.
///
/// `struct xen_domctl_paging_mempool`, 8 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct XenDomctlPagingMempool {
    /// Bytes.
    pub size: u64,
}

/// `XEN_DOMCTL_setvnumainfo`.
///
/// `struct xen_domctl_vnuma`, 48 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct XenDomctlVnuma {
    /// Virtual nodes.
    pub nr_vnodes: u32,
    /// Ranges of memory.
    pub nr_vmemranges: u32,
    /// vCPUs.
    pub nr_vcpus: u32,
    /// Zero.
    pub pad: u32,
    /// `nr_vnodes` squared distances.
    pub vdistance: GuestHandle,
    /// The node of each vCPU.
    pub vcpu_to_vnode: GuestHandle,
    /// The physical node of each node.
    pub vnode_to_pnode: GuestHandle,
    /// Array of [`XenVmemrange`](crate::memory::XenVmemrange).
    pub vmemrange: GuestHandle,
}
const _: () = assert!(size_of::<XenDomctlVnuma>() == 48);

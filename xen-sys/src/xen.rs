//! `xen.h`: what every part of the interface shares, and the structures of a running PV guest.
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::addr::{Maddr, Mfn, Vaddr};
use crate::arch_x86::{ArchSharedInfo, ArchVcpuInfo, XEN_LEGACY_MAX_VCPUS};
use crate::{DomId, EvtchnPort};

/// The interface version these definitions follow (`__XEN_LATEST_INTERFACE_VERSION__`, Xen 4.17).
pub const __XEN_LATEST_INTERFACE_VERSION__: u32 = 0x0004_0e00;

/// Time base update or one-shot timer; per vCPU.
pub const VIRQ_TIMER: u32 = 0;
/// Ask the guest to dump its state; per vCPU.
pub const VIRQ_DEBUG: u32 = 1;
/// Bytes received on the emergency console; dom0.
pub const VIRQ_CONSOLE: u32 = 2;
/// Exceptional event for some domain; dom0.
pub const VIRQ_DOM_EXC: u32 = 3;
/// Trace buffer has records; dom0.
pub const VIRQ_TBUF: u32 = 4;
/// A domain has paused for debugging; dom0.
pub const VIRQ_DEBUGGER: u32 = 6;
/// Xenoprofile interrupt; per vCPU.
pub const VIRQ_XENOPROF: u32 = 7;
/// Bytes received on the console; dom0.
pub const VIRQ_CON_RING: u32 = 8;
/// A physical CPU changed its state; dom0.
pub const VIRQ_PCPU_STATE: u32 = 9;
/// A memory event occurred; dom0.
pub const VIRQ_MEM_EVENT: u32 = 10;
/// Argo notification.
pub const VIRQ_ARGO: u32 = 11;
/// Low on heap memory; dom0.
pub const VIRQ_ENOMEM: u32 = 12;
/// Performance counter interrupt; per vCPU.
pub const VIRQ_XENPMU: u32 = 13;
/// Architecture specific 0; on x86 `VIRQ_MCA`.
pub const VIRQ_ARCH_0: u32 = 16;
/// Architecture specific 1.
pub const VIRQ_ARCH_1: u32 = 17;
/// Architecture specific 2.
pub const VIRQ_ARCH_2: u32 = 18;
/// Architecture specific 3.
pub const VIRQ_ARCH_3: u32 = 19;
/// Architecture specific 4.
pub const VIRQ_ARCH_4: u32 = 20;
/// Architecture specific 5.
pub const VIRQ_ARCH_5: u32 = 21;
/// Architecture specific 6.
pub const VIRQ_ARCH_6: u32 = 22;
/// Architecture specific 7.
pub const VIRQ_ARCH_7: u32 = 23;
/// Number of virtual IRQs.
pub const NR_VIRQS: u32 = 24;

/// `*ptr = val`; `ptr` is the machine address of a page table entry.
pub const MMU_NORMAL_PT_UPDATE: u64 = 0;
/// Set the M2P entry of the frame at `ptr` to `val`.
pub const MMU_MACHPHYS_UPDATE: u64 = 1;
/// As normal, keeping the accessed and dirty bits of the old entry.
pub const MMU_PT_UPDATE_PRESERVE_AD: u64 = 2;
/// As normal, `val` is not translated for auto-translated guests.
pub const MMU_PT_UPDATE_NO_TRANSLATE: u64 = 3;

/// Pin `mfn` as an L1 table.
pub const MMUEXT_PIN_L1_TABLE: u32 = 0;
/// Pin `mfn` as an L2 table.
pub const MMUEXT_PIN_L2_TABLE: u32 = 1;
/// Pin `mfn` as an L3 table.
pub const MMUEXT_PIN_L3_TABLE: u32 = 2;
/// Pin `mfn` as an L4 table.
pub const MMUEXT_PIN_L4_TABLE: u32 = 3;
/// Unpin `mfn`.
pub const MMUEXT_UNPIN_TABLE: u32 = 4;
/// Load `mfn` as the kernel's top-level table.
pub const MMUEXT_NEW_BASEPTR: u32 = 5;
/// Flush this vCPU's TLB.
pub const MMUEXT_TLB_FLUSH_LOCAL: u32 = 6;
/// Flush `linear_addr` on this vCPU.
pub const MMUEXT_INVLPG_LOCAL: u32 = 7;
/// Flush the TLBs of the vCPUs in `vcpumask`.
pub const MMUEXT_TLB_FLUSH_MULTI: u32 = 8;
/// Flush `linear_addr` on the vCPUs in `vcpumask`.
pub const MMUEXT_INVLPG_MULTI: u32 = 9;
/// Flush the TLBs of all vCPUs.
pub const MMUEXT_TLB_FLUSH_ALL: u32 = 10;
/// Flush `linear_addr` on all vCPUs.
pub const MMUEXT_INVLPG_ALL: u32 = 11;
/// Write back and invalidate the caches.
pub const MMUEXT_FLUSH_CACHE: u32 = 12;
/// Load an LDT at `linear_addr` with `nr_ents` entries.
pub const MMUEXT_SET_LDT: u32 = 13;
/// Load `mfn` as the top-level table for user mode.
pub const MMUEXT_NEW_USER_BASEPTR: u32 = 15;
/// Fill `mfn` with zeroes.
pub const MMUEXT_CLEAR_PAGE: u32 = 16;
/// Copy `src_mfn` to `mfn`.
pub const MMUEXT_COPY_PAGE: u32 = 17;
/// As `MMUEXT_FLUSH_CACHE`, on every physical CPU.
pub const MMUEXT_FLUSH_CACHE_GLOBAL: u32 = 18;
/// Mark `mfn` as a superpage (obsolete).
pub const MMUEXT_MARK_SUPER: u32 = 19;
/// Unmark `mfn` as a superpage (obsolete).
pub const MMUEXT_UNMARK_SUPER: u32 = 20;

/// One operation of `HYPERVISOR_mmuext_op`.
/// The header's unions hold one word each; which name applies follows from `cmd`.
///
/// `struct mmuext_op`, 24 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct MmuextOp {
    /// `MMUEXT_*`.
    pub cmd: u32,
    /// Padding; zero.
    pub _pad0: [u8; 4],
    /// `mfn` or `linear_addr`.
    pub arg1: u64,
    /// `nr_ents` (low 32 bits), `vcpumask` (a guest handle) or `src_mfn`.
    pub arg2: u64,
}
const _: () = assert!(size_of::<MmuextOp>() == 24);

impl MmuextOp {
    /// `arg1.mfn`.
    pub const fn mfn(&self) -> Mfn {
        Mfn(self.arg1)
    }

    /// `arg1.linear_addr`.
    pub const fn linear_addr(&self) -> Vaddr {
        Vaddr(self.arg1)
    }

    /// `arg2.nr_ents`: descriptors of the LDT.
    pub const fn nr_ents(&self) -> u32 {
        self.arg2 as u32
    }

    /// `arg2.vcpumask`: where the bitmap of vCPUs lies.
    pub const fn vcpumask(&self) -> crate::GuestHandle {
        crate::GuestHandle(self.arg2)
    }

    /// `arg2.src_mfn`: the frame to copy from.
    pub const fn src_mfn(&self) -> Mfn {
        Mfn(self.arg2)
    }
}

/// No flush at all.
pub const UVMF_NONE: u64 = 0;
/// Flush the whole TLB.
pub const UVMF_TLB_FLUSH: u64 = 1;
/// Flush only the mapped address.
pub const UVMF_INVLPG: u64 = 2;
/// The two bits that hold the kind of flush.
pub const UVMF_FLUSHTYPE_MASK: u64 = 3;
/// Flush the vCPUs of the bitmap whose address is in the other bits.
pub const UVMF_MULTI: u64 = 0;
/// Flush this vCPU.
pub const UVMF_LOCAL: u64 = 0;
/// Flush all vCPUs.
pub const UVMF_ALL: u64 = 4;

/// Write bytes to the hypervisor's console.
pub const CONSOLEIO_write: u32 = 0;
/// Read bytes from the hypervisor's console.
pub const CONSOLEIO_read: u32 = 1;

/// Enable the assist.
pub const VMASST_CMD_enable: u32 = 0;
/// Disable the assist.
pub const VMASST_CMD_disable: u32 = 1;
/// 32-bit guests: emulate 4 GiB segments.
pub const VMASST_TYPE_4gb_segments: u32 = 0;
/// 32-bit guests: trap 15 on such an emulation.
pub const VMASST_TYPE_4gb_segments_notify: u32 = 1;
/// Writes to page table pages are emulated.
pub const VMASST_TYPE_writable_pagetables: u32 = 2;
/// 32-bit guests: extended CR3 format.
pub const VMASST_TYPE_pae_extended_cr3: u32 = 3;
/// IOPL is the one of the virtual EFLAGS.
pub const VMASST_TYPE_architectural_iopl: u32 = 4;
/// Set `XEN_RUNSTATE_UPDATE` while the runstate area changes.
pub const VMASST_TYPE_runstate_update_flag: u32 = 5;
/// The M2P table is not mapped in user mode.
pub const VMASST_TYPE_m2p_strict: u32 = 32;

/// First reserved domain number.
pub const DOMID_FIRST_RESERVED: DomId = DomId(0x7FF0);
/// The calling domain.
pub const DOMID_SELF: DomId = DomId(0x7FF0);
/// Owner of memory-mapped I/O pages.
pub const DOMID_IO: DomId = DomId(0x7FF1);
/// Owner of Xen's heap pages shared with others.
pub const DOMID_XEN: DomId = DomId(0x7FF2);
/// Owner of shared (deduplicated) pages.
pub const DOMID_COW: DomId = DomId(0x7FF3);
/// Never a domain.
pub const DOMID_INVALID: DomId = DomId(0x7FF4);
/// The idle domain.
pub const DOMID_IDLE: DomId = DomId(0x7FFF);
/// Bits a domain number may have.
pub const DOMID_MASK: DomId = DomId(0x7FFF);

/// One update of `HYPERVISOR_mmu_update`.
///
/// `struct mmu_update`, 16 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct MmuUpdate {
    /// Machine address of the entry; the low two bits are `MMU_*`.
    pub ptr: u64,
    /// New contents of the entry.
    pub val: u64,
}
const _: () = assert!(size_of::<MmuUpdate>() == 16);

/// One call of `HYPERVISOR_multicall`.
///
/// `struct multicall_entry`, 64 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct MulticallEntry {
    /// Hypercall number.
    pub op: u64,
    /// Result, written by the hypervisor.
    pub result: u64,
    /// Arguments.
    pub args: [u64; 6],
}
const _: () = assert!(size_of::<MulticallEntry>() == 64);

/// System time of a vCPU, read like a sequence lock.
///
/// Nanoseconds = `system_time + (((tsc - tsc_timestamp) << tsc_shift) * tsc_to_system_mul >> 32)`;
/// a negative `tsc_shift` shifts right.
///
/// `struct vcpu_time_info`, 32 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct VcpuTimeInfo {
    /// Odd while an update is in progress.
    pub version: u32,
    /// Padding.
    pub pad0: u32,
    /// TSC at the last update.
    pub tsc_timestamp: u64,
    /// Nanoseconds since boot at the last update.
    pub system_time: u64,
    /// Scale factor, a fraction of 2^32.
    pub tsc_to_system_mul: u32,
    /// Binary shift applied to the TSC difference first.
    pub tsc_shift: i8,
    /// `XEN_PVCLOCK_*`.
    pub flags: u8,
    /// Padding.
    pub pad1: [u8; 2],
}
const _: () = assert!(size_of::<VcpuTimeInfo>() == 32);
/// Time is consistent across vCPUs.
pub const XEN_PVCLOCK_TSC_STABLE_BIT: u8 = 1;
/// The guest was stopped by the host.
pub const XEN_PVCLOCK_GUEST_STOPPED: u8 = 2;

/// Per-vCPU part of the shared memory.
///
/// `struct vcpu_info`, 64 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct VcpuInfo {
    /// Non-zero: an event waits.
    pub evtchn_upcall_pending: u8,
    /// Non-zero: no upcalls now (the virtual interrupt flag, inverted).
    pub evtchn_upcall_mask: u8,
    /// Padding; zero.
    pub _pad0: [u8; 6],
    /// Bit n: word n of `evtchn_pending` has an event (2-level ABI).
    pub evtchn_pending_sel: u64,
    /// x86: the virtual CR2.
    pub arch: ArchVcpuInfo,
    /// System time.
    pub time: VcpuTimeInfo,
}
const _: () = assert!(size_of::<VcpuInfo>() == 64);

/// The page shared between hypervisor and domain.
///
/// `struct shared_info`, 3136 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SharedInfo {
    /// vCPUs 0 to 31, unless moved by `VCPUOP_register_vcpu_info`.
    pub vcpu_info: [VcpuInfo; XEN_LEGACY_MAX_VCPUS],
    /// Pending events (2-level ABI).
    pub evtchn_pending: [u64; 64],
    /// Masked events (2-level ABI).
    pub evtchn_mask: [u64; 64],
    /// Wall clock version, odd while it changes.
    pub wc_version: u32,
    /// Seconds since 1970 at system time 0, low 32 bits.
    pub wc_sec: u32,
    /// Nanoseconds.
    pub wc_nsec: u32,
    /// Seconds, high 32 bits.
    pub wc_sec_hi: u32,
    /// x86 part.
    pub arch: ArchSharedInfo,
}
const _: () = assert!(size_of::<SharedInfo>() == 3136);
const _: () = assert!(
    core::mem::offset_of!(SharedInfo, evtchn_pending) == 2048
        && core::mem::offset_of!(SharedInfo, evtchn_mask) == 2560
        && core::mem::offset_of!(SharedInfo, wc_version) == 3072
        && core::mem::offset_of!(SharedInfo, arch) == 3088
);

/// What a PV kernel finds at RSI when it starts.
///
/// The header's `console` union is given as its `domU` half; dom0's is a `DOM0` matter.
///
/// `struct start_info`, 1168 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct StartInfo {
    /// `xen-<version>-<platform>`, NUL terminated.
    pub magic: [u8; 32],
    /// Pages of the domain.
    pub nr_pages: u64,
    /// Machine address of the shared info page.
    pub shared_info: Maddr,
    /// `SIF_*`.
    pub flags: u32,
    /// Padding; zero.
    pub _pad0: [u8; 4],
    /// Frame of the xenstore page.
    pub store_mfn: Mfn,
    /// Event channel of xenstore.
    pub store_evtchn: EvtchnPort,
    /// Padding; zero.
    pub _pad1: [u8; 4],
    /// Frame of the console page (`console.domU.mfn`).
    pub console_mfn: Mfn,
    /// Event channel of the console (`console.domU.evtchn`).
    pub console_evtchn: EvtchnPort,
    /// Padding; zero.
    pub _pad2: [u8; 4],
    /// Virtual address of the top-level page table.
    pub pt_base: Vaddr,
    /// Page table frames of the boot-time tables.
    pub nr_pt_frames: u64,
    /// Virtual address of the list of machine frames (P2M).
    pub mfn_list: Vaddr,
    /// Virtual address of the module, or its PFN with `SIF_MOD_START_PFN`.
    pub mod_start: u64,
    /// Bytes of the module.
    pub mod_len: u64,
    /// Command line, NUL terminated.
    pub cmd_line: [u8; MAX_GUEST_CMDLINE],
    /// First PFN of the P2M's frames, when it is not in the initial mapping.
    pub first_p2m_pfn: u64,
    /// Number of such frames.
    pub nr_p2m_frames: u64,
}
const _: () = assert!(size_of::<StartInfo>() == 1168);
const _: () = assert!(core::mem::offset_of!(StartInfo, cmd_line) == 128);
/// Bytes of the command line, its NUL included.
pub const MAX_GUEST_CMDLINE: usize = 1024;
/// The domain is privileged.
pub const SIF_PRIVILEGED: u32 = 1;
/// The domain is the initial control domain.
pub const SIF_INITDOMAIN: u32 = 2;
/// `mod_start` is a list of multiboot modules.
pub const SIF_MULTIBOOT_MOD: u32 = 4;
/// `mod_start` is a PFN.
pub const SIF_MOD_START_PFN: u32 = 8;
/// Tools understand the virtual, linear P2M.
pub const SIF_VIRT_P2M_4TOOLS: u32 = 16;
/// Power management, from the `xen_pm` command line option.
pub const SIF_PM_MASK: u32 = 0xff00;

/// One module when `SIF_MULTIBOOT_MOD` is set.
///
/// `struct xen_multiboot_mod_list`, 16 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct XenMultibootModList {
    /// Physical address of the first byte.
    pub mod_start: u32,
    /// Physical address behind the last byte.
    pub mod_end: u32,
    /// Physical address of its command line.
    pub cmdline: u32,
    /// Unused, zero.
    pub pad: u32,
}
const _: () = assert!(size_of::<XenMultibootModList>() == 16);

//! `arch-x86/xen.h`, `arch-x86/xen-x86_64.h`, `arch-x86/cpuid.h`: the x86-64 side of the interface.
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::addr::{Mfn, Vaddr};

/// 32-bit code, ring 3.
pub const FLAT_RING3_CS32: u16 = 0xe023;
/// 64-bit code, ring 3.
pub const FLAT_RING3_CS64: u16 = 0xe033;
/// 32-bit data, ring 3.
pub const FLAT_RING3_DS32: u16 = 0xe02b;
/// 64-bit data: the null selector.
pub const FLAT_RING3_DS64: u16 = 0;
/// 32-bit stack, ring 3.
pub const FLAT_RING3_SS32: u16 = 0xe02b;
/// 64-bit stack, ring 3.
pub const FLAT_RING3_SS64: u16 = 0xe02b;
/// Kernel data, 64 bits.
pub const FLAT_KERNEL_DS64: u16 = FLAT_RING3_DS64;
/// Kernel data, 32 bits.
pub const FLAT_KERNEL_DS32: u16 = FLAT_RING3_DS32;
/// Kernel data.
pub const FLAT_KERNEL_DS: u16 = FLAT_KERNEL_DS64;
/// Kernel code, 64 bits.
pub const FLAT_KERNEL_CS64: u16 = FLAT_RING3_CS64;
/// Kernel code, 32 bits.
pub const FLAT_KERNEL_CS32: u16 = FLAT_RING3_CS32;
/// Kernel code.
pub const FLAT_KERNEL_CS: u16 = FLAT_KERNEL_CS64;
/// Kernel stack, 64 bits.
pub const FLAT_KERNEL_SS64: u16 = FLAT_RING3_SS64;
/// Kernel stack, 32 bits.
pub const FLAT_KERNEL_SS32: u16 = FLAT_RING3_SS32;
/// Kernel stack.
pub const FLAT_KERNEL_SS: u16 = FLAT_KERNEL_SS64;
/// User data, 64 bits.
pub const FLAT_USER_DS64: u16 = FLAT_RING3_DS64;
/// User data, 32 bits.
pub const FLAT_USER_DS32: u16 = FLAT_RING3_DS32;
/// User data.
pub const FLAT_USER_DS: u16 = FLAT_USER_DS64;
/// User code, 64 bits.
pub const FLAT_USER_CS64: u16 = FLAT_RING3_CS64;
/// User code, 32 bits.
pub const FLAT_USER_CS32: u16 = FLAT_RING3_CS32;
/// User code.
pub const FLAT_USER_CS: u16 = FLAT_USER_CS64;
/// User stack, 64 bits.
pub const FLAT_USER_SS64: u16 = FLAT_RING3_SS64;
/// User stack, 32 bits.
pub const FLAT_USER_SS32: u16 = FLAT_RING3_SS32;
/// User stack.
pub const FLAT_USER_SS: u16 = FLAT_USER_SS64;

/// First address of the hypervisor's hole (PML4 slot 256).
pub const HYPERVISOR_VIRT_START: u64 = 0xFFFF_8000_0000_0000;
/// First address behind the hypervisor's hole (PML4 slot 272).
pub const HYPERVISOR_VIRT_END: u64 = 0xFFFF_8800_0000_0000;
/// Default place of the M2P table.
pub const MACH2PHYS_VIRT_START: u64 = 0xFFFF_8000_0000_0000;
/// End of the default place of the M2P table.
pub const MACH2PHYS_VIRT_END: u64 = 0xFFFF_8040_0000_0000;
/// Entries of the M2P table at its default place.
pub const MACH2PHYS_NR_ENTRIES: u64 = (MACH2PHYS_VIRT_END - MACH2PHYS_VIRT_START) >> 3;

/// Set FS base.
pub const SEGBASE_FS: u32 = 0;
/// Set user GS base.
pub const SEGBASE_GS_USER: u32 = 1;
/// Set kernel GS base.
pub const SEGBASE_GS_KERNEL: u32 = 2;
/// Load the user GS selector.
pub const SEGBASE_GS_USER_SEL: u32 = 3;

/// First GDT page that belongs to the hypervisor.
pub const FIRST_RESERVED_GDT_PAGE: usize = 14;
/// First GDT byte that belongs to the hypervisor.
pub const FIRST_RESERVED_GDT_BYTE: usize = FIRST_RESERVED_GDT_PAGE * 4096;
/// First GDT entry that belongs to the hypervisor.
pub const FIRST_RESERVED_GDT_ENTRY: usize = FIRST_RESERVED_GDT_BYTE / 8;
/// vCPUs whose `vcpu_info` fits the shared info page.
pub const XEN_LEGACY_MAX_VCPUS: usize = 32;
/// I/O port of the debug console.
pub const XEN_HVM_DEBUGCONS_IOPORT: u16 = 0xe9;
/// Bytes before an instruction that ask Xen to emulate it (`XEN_EMULATE_PREFIX`): `ud2a; "xen"`.
pub const XEN_EMULATE_PREFIX: [u8; 5] = [0x0f, 0x0b, 0x78, 0x65, 0x6e];

/// `fpu_ctxt` holds a state to load.
pub const VGCF_i387_valid: u64 = 1;
/// The vCPU starts in kernel mode.
pub const VGCF_in_kernel: u64 = 1 << 2;
/// The failsafe callback masks events.
pub const VGCF_failsafe_disables_events: u64 = 1 << 3;
/// The syscall callback masks events.
pub const VGCF_syscall_disables_events: u64 = 1 << 4;
/// The vCPU is online.
pub const VGCF_online: u64 = 1 << 5;
/// `iret_context.flags`: return by SYSRET (RCX and R11 are clobbered).
pub const VGCF_in_syscall: u64 = 1 << 8;

/// One entry of `HYPERVISOR_set_trap_table`; the table ends at `address` 0.
///
/// `struct trap_info`, 16 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct TrapInfo {
    /// Exception vector.
    pub vector: u8,
    /// Bits 0-1: least privileged ring that may raise it by `INT n`; bit 2: mask events on entry.
    pub flags: u8,
    /// Code selector.
    pub cs: u16,
    /// Padding; zero.
    pub _pad0: [u8; 4],
    /// Handler.
    pub address: Vaddr,
}
const _: () = assert!(size_of::<TrapInfo>() == 16);

impl TrapInfo {
    /// `TI_GET_DPL`: least privileged ring from which `INT n` may raise the vector.
    pub const fn dpl(&self) -> u8 {
        self.flags & 3
    }

    /// `TI_GET_IF`: entering the handler masks events.
    pub const fn masks_events(&self) -> bool {
        self.flags & 4 != 0
    }
}

/// Stack frame read by `HYPERVISOR_iret`.
///
/// `struct iret_context`, 72 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct IretContext {
    /// RAX; at the top of the stack.
    pub rax: u64,
    /// R11.
    pub r11: u64,
    /// RCX.
    pub rcx: u64,
    /// `VGCF_in_syscall` or 0.
    pub flags: u64,
    /// Instruction pointer.
    pub rip: u64,
    /// Code selector; ring 3 means user mode.
    pub cs: u64,
    /// Flags.
    pub rflags: u64,
    /// Stack pointer.
    pub rsp: u64,
    /// Stack selector.
    pub ss: u64,
}
const _: () = assert!(size_of::<IretContext>() == 72);

/// Registers of a vCPU.
///
/// `struct cpu_user_regs`, 200 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct CpuUserRegs {
    /// R15.
    pub r15: u64,
    /// R14.
    pub r14: u64,
    /// R13.
    pub r13: u64,
    /// R12.
    pub r12: u64,
    /// RBP.
    pub rbp: u64,
    /// RBX.
    pub rbx: u64,
    /// R11.
    pub r11: u64,
    /// R10.
    pub r10: u64,
    /// R9.
    pub r9: u64,
    /// R8.
    pub r8: u64,
    /// RAX.
    pub rax: u64,
    /// RCX.
    pub rcx: u64,
    /// RDX.
    pub rdx: u64,
    /// RSI.
    pub rsi: u64,
    /// RDI.
    pub rdi: u64,
    /// Error code of the exception (private to the hypervisor).
    pub error_code: u32,
    /// Vector of the entry (private to the hypervisor).
    pub entry_vector: u32,
    /// RIP.
    pub rip: u64,
    /// CS.
    pub cs: u16,
    /// Padding; zero.
    pub _pad0: [u16; 1],
    /// `evtchn_upcall_mask` at the time of the entry.
    pub saved_upcall_mask: u8,
    /// Padding; zero.
    pub _pad1: [u8; 3],
    /// RFLAGS; IF is the inverse of `saved_upcall_mask`.
    pub rflags: u64,
    /// RSP.
    pub rsp: u64,
    /// SS.
    pub ss: u16,
    /// Padding; zero.
    pub _pad2: [u16; 3],
    /// ES.
    pub es: u16,
    /// Padding; zero.
    pub _pad3: [u16; 3],
    /// DS.
    pub ds: u16,
    /// Padding; zero.
    pub _pad4: [u16; 3],
    /// FS; the base is elsewhere.
    pub fs: u16,
    /// Padding; zero.
    pub _pad5: [u16; 3],
    /// GS; the base is elsewhere.
    pub gs: u16,
    /// Padding; zero.
    pub _pad6: [u16; 3],
}
const _: () = assert!(size_of::<CpuUserRegs>() == 200);

/// Initial state of a vCPU: `VCPUOP_initialise`, `XEN_DOMCTL_setvcpucontext`, the builder.
///
/// `struct vcpu_guest_context`, 5168 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct VcpuGuestContext {
    /// FXSAVE image, with `VGCF_i387_valid`.
    pub fpu_ctxt: [u8; 512],
    /// `VGCF_*`.
    pub flags: u64,
    /// Registers.
    pub user_regs: CpuUserRegs,
    /// Virtual IDT.
    pub trap_ctxt: [TrapInfo; 256],
    /// Linear address of the LDT.
    pub ldt_base: Vaddr,
    /// Its entries.
    pub ldt_ents: u64,
    /// Frames of the GDT.
    pub gdt_frames: [Mfn; 16],
    /// Its entries.
    pub gdt_ents: u64,
    /// Kernel stack selector.
    pub kernel_ss: u64,
    /// Kernel stack pointer.
    pub kernel_sp: u64,
    /// CR0 to CR7; CR1 holds the user-mode CR3. CR3s in `xen_pfn_to_cr3` format.
    pub ctrlreg: [u64; 8],
    /// DR0 to DR7.
    pub debugreg: [u64; 8],
    /// Event upcall.
    pub event_callback_eip: Vaddr,
    /// Failsafe callback.
    pub failsafe_callback_eip: Vaddr,
    /// System call entry.
    pub syscall_callback_eip: Vaddr,
    /// Bitmap of enabled `VMASST_TYPE_*`.
    pub vm_assist: u64,
    /// FS base.
    pub fs_base: u64,
    /// GS base in kernel mode.
    pub gs_base_kernel: u64,
    /// GS base in user mode.
    pub gs_base_user: u64,
}
const _: () = assert!(size_of::<VcpuGuestContext>() == 5168);

/// `xen_pfn_to_cr3`: the frame as the interface writes it in CR3 fields.
pub const fn xen_pfn_to_cr3(pfn: u64) -> u64 {
    pfn << 12
}

/// `xen_cr3_to_pfn`: the frame of a CR3 field.
pub const fn xen_cr3_to_pfn(cr3: u64) -> u64 {
    cr3 >> 12
}

/// x86 part of `vcpu_info`.
///
/// `struct arch_vcpu_info`, 16 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct ArchVcpuInfo {
    /// Address of the last page fault.
    pub cr2: u64,
    /// Makes `vcpu_info` 64 bytes.
    pub pad: u64,
}
const _: () = assert!(size_of::<ArchVcpuInfo>() == 16);

/// x86 part of `shared_info`.
///
/// `struct arch_shared_info`, 48 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct ArchSharedInfo {
    /// Pages of the P2M, set by the guest.
    pub max_pfn: u64,
    /// Root of the 3-level P2M, or all ones: use `p2m_vaddr`.
    pub pfn_to_mfn_frame_list_list: Mfn,
    /// `XEN_NMIREASON_*`.
    pub nmi_reason: u64,
    /// Table that maps the linear P2M (`xen_pfn_to_cr3` format), 0 if unused.
    pub p2m_cr3: u64,
    /// Address of the linear P2M.
    pub p2m_vaddr: Vaddr,
    /// Odd while the P2M's page tables change.
    pub p2m_generation: u64,
}
const _: () = assert!(size_of::<ArchSharedInfo>() == 48);

/// One CPUID leaf of a policy.
///
/// `struct xen_cpuid_leaf`, 24 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct XenCpuidLeaf {
    /// EAX on input.
    pub leaf: u32,
    /// ECX on input, or `XEN_CPUID_NO_SUBLEAF`.
    pub subleaf: u32,
    /// EAX.
    pub a: u32,
    /// EBX.
    pub b: u32,
    /// ECX.
    pub c: u32,
    /// EDX.
    pub d: u32,
}
const _: () = assert!(size_of::<XenCpuidLeaf>() == 24);

/// One MSR of a policy.
///
/// `struct xen_msr_entry`, 16 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct XenMsrEntry {
    /// MSR number.
    pub idx: u32,
    /// Reserved, zero.
    pub flags: u32,
    /// Value.
    pub val: u64,
}
const _: () = assert!(size_of::<XenMsrEntry>() == 16);

/// The leaf has no subleaves.
pub const XEN_CPUID_NO_SUBLEAF: u32 = 0xffff_ffff;
/// First hypervisor leaf; may move up in steps of 0x100.
pub const XEN_CPUID_FIRST_LEAF: u32 = 0x4000_0000;
/// `XEN_CPUID_LEAF(i)`: 0 signature, 1 version, 2 hypercall page, 3 time, 4 HVM, 5 PV.
pub const fn XEN_CPUID_LEAF(i: u32) -> u32 {
    XEN_CPUID_FIRST_LEAF + i
}
/// "XenV"
pub const XEN_CPUID_SIGNATURE_EBX: u32 = 0x566e_6558;
/// "MMXe"
pub const XEN_CPUID_SIGNATURE_ECX: u32 = 0x6558_4d4d;
/// "nVMM"
pub const XEN_CPUID_SIGNATURE_EDX: u32 = 0x4d4d_566e;
/// Leaf 2, ECX: `MMU_PT_UPDATE_PRESERVE_AD` works.
pub const XEN_CPUID_FEAT1_MMU_PT_UPDATE_PRESERVE_AD: u32 = 1;
/// Leaf 4, EAX: virtualized APIC registers.
pub const XEN_HVM_CPUID_APIC_ACCESS_VIRT: u32 = 1;
/// Leaf 4, EAX: virtualized x2APIC accesses.
pub const XEN_HVM_CPUID_X2APIC_VIRT: u32 = 1 << 1;
/// Leaf 4, EAX: memory of other domains has valid IOMMU entries.
pub const XEN_HVM_CPUID_IOMMU_MAPPINGS: u32 = 1 << 2;
/// Leaf 4, EAX: EBX holds the vCPU number.
pub const XEN_HVM_CPUID_VCPU_ID_PRESENT: u32 = 1 << 3;
/// Leaf 4, EAX: ECX holds the domain number.
pub const XEN_HVM_CPUID_DOMID_PRESENT: u32 = 1 << 4;
/// Leaf 4, EAX: extended destination IDs in MSIs.
pub const XEN_HVM_CPUID_EXT_DEST_ID: u32 = 1 << 5;
/// Leaf 4, EAX: per-vCPU upcall vectors.
pub const XEN_HVM_CPUID_UPCALL_VECTOR: u32 = 1 << 6;
/// Leaf 5, EBX: width of machine addresses in bits.
pub const XEN_CPUID_MACHINE_ADDRESS_WIDTH_MASK: u32 = 0xff;
/// Highest leaf number.
pub const XEN_CPUID_MAX_NUM_LEAVES: u32 = 5;

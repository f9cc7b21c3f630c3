//! Hypercall numbers (`xen.h`, `__HYPERVISOR_*`) and the calling convention.
//!
//! On x86-64 the number is in RAX, the arguments in RDI, RSI, RDX, R10, R8, R9 (`R10` because
//! `SYSCALL` clobbers RCX), the result in RAX: negative values are `-errno` (see [`crate::errno`]).
/// Install virtual exception handlers.
pub const __HYPERVISOR_set_trap_table: u64 = 0;
/// Batched page table and M2P updates.
pub const __HYPERVISOR_mmu_update: u64 = 1;
/// Install the frames of the vCPU's GDT.
pub const __HYPERVISOR_set_gdt: u64 = 2;
/// Set the kernel stack used on entry from user mode.
pub const __HYPERVISOR_stack_switch: u64 = 3;
/// Set event, failsafe and syscall entry points.
pub const __HYPERVISOR_set_callbacks: u64 = 4;
/// Set or clear CR0.TS.
pub const __HYPERVISOR_fpu_taskswitch: u64 = 5;
/// Scheduling operations, interface before 3.1.1.
pub const __HYPERVISOR_sched_op_compat: u64 = 6;
/// Control of the physical platform, for dom0.
pub const __HYPERVISOR_platform_op: u64 = 7;
/// Write a debug register.
pub const __HYPERVISOR_set_debugreg: u64 = 8;
/// Read a debug register.
pub const __HYPERVISOR_get_debugreg: u64 = 9;
/// Write one descriptor of a GDT or LDT page.
pub const __HYPERVISOR_update_descriptor: u64 = 10;
/// Memory reservation and mapping, see [`crate::memory`].
pub const __HYPERVISOR_memory_op: u64 = 12;
/// Several hypercalls in one.
pub const __HYPERVISOR_multicall: u64 = 13;
/// Write the L1 entry that maps one virtual address.
pub const __HYPERVISOR_update_va_mapping: u64 = 14;
/// Arm the vCPU's one-shot timer.
pub const __HYPERVISOR_set_timer_op: u64 = 15;
/// Event channel operations, interface before 3.2.2.
pub const __HYPERVISOR_event_channel_op_compat: u64 = 16;
/// Version queries, see [`crate::version`].
pub const __HYPERVISOR_xen_version: u64 = 17;
/// The hypervisor's console.
pub const __HYPERVISOR_console_io: u64 = 18;
/// Physical device operations, interface before 3.2.2.
pub const __HYPERVISOR_physdev_op_compat: u64 = 19;
/// Grant tables, see [`crate::grant_table`].
pub const __HYPERVISOR_grant_table_op: u64 = 20;
/// Enable or disable an assist, `VMASST_*`.
pub const __HYPERVISOR_vm_assist: u64 = 21;
/// As `update_va_mapping`, with a page of another domain.
pub const __HYPERVISOR_update_va_mapping_otherdomain: u64 = 22;
/// Return from a trap, see [`crate::arch_x86::IretContext`].
pub const __HYPERVISOR_iret: u64 = 23;
/// Virtual CPU control, see [`crate::vcpu`].
pub const __HYPERVISOR_vcpu_op: u64 = 24;
/// Set FS or GS base, `SEGBASE_*`.
pub const __HYPERVISOR_set_segment_base: u64 = 25;
/// Extended MMU operations, see [`crate::xen::MmuextOp`].
pub const __HYPERVISOR_mmuext_op: u64 = 26;
/// Security module operations.
pub const __HYPERVISOR_xsm_op: u64 = 27;
/// NMI callback, see [`crate::nmi`].
pub const __HYPERVISOR_nmi_op: u64 = 28;
/// Scheduling operations, see [`crate::sched`].
pub const __HYPERVISOR_sched_op: u64 = 29;
/// Callback registration, see [`crate::callback`].
pub const __HYPERVISOR_callback_op: u64 = 30;
/// Profiling (obsolete).
pub const __HYPERVISOR_xenoprof_op: u64 = 31;
/// Event channels, see [`crate::event_channel`].
pub const __HYPERVISOR_event_channel_op: u64 = 32;
/// Physical devices, see [`crate::physdev`].
pub const __HYPERVISOR_physdev_op: u64 = 33;
/// HVM operations, see [`crate::hvm`].
pub const __HYPERVISOR_hvm_op: u64 = 34;
/// Control of the host, for the toolstack.
pub const __HYPERVISOR_sysctl: u64 = 35;
/// Control of domains, for the toolstack.
pub const __HYPERVISOR_domctl: u64 = 36;
/// Kexec, for dom0.
pub const __HYPERVISOR_kexec_op: u64 = 37;
/// Transcendent memory (removed from Xen 4.13).
pub const __HYPERVISOR_tmem_op: u64 = 38;
/// Argo inter-domain messages.
pub const __HYPERVISOR_argo_op: u64 = 39;
/// Performance counters, see [`crate::pmu`].
pub const __HYPERVISOR_xenpmu_op: u64 = 40;
/// Device model operations.
pub const __HYPERVISOR_dm_op: u64 = 41;
/// The hypervisor's file system.
pub const __HYPERVISOR_hypfs_op: u64 = 42;
/// Architecture specific 0; on x86 `do_mca`.
pub const __HYPERVISOR_arch_0: u64 = 48;
/// Architecture specific 1; on x86 paging domctl continuation.
pub const __HYPERVISOR_arch_1: u64 = 49;
/// Architecture specific 2.
pub const __HYPERVISOR_arch_2: u64 = 50;
/// Architecture specific 3.
pub const __HYPERVISOR_arch_3: u64 = 51;
/// Architecture specific 4.
pub const __HYPERVISOR_arch_4: u64 = 52;
/// Architecture specific 5.
pub const __HYPERVISOR_arch_5: u64 = 53;
/// Architecture specific 6.
pub const __HYPERVISOR_arch_6: u64 = 54;
/// Architecture specific 7.
pub const __HYPERVISOR_arch_7: u64 = 55;

/// Entries of the hypercall page (4096 bytes, 32 bytes an entry).
pub const NR_HYPERCALL_PAGE_ENTRIES: usize = 128;

/// The number's name without its `__HYPERVISOR_` prefix, for traces and messages.
pub const fn name(nr: u64) -> Option<&'static str> {
    Some(match nr {
        __HYPERVISOR_set_trap_table => "set_trap_table",
        __HYPERVISOR_mmu_update => "mmu_update",
        __HYPERVISOR_set_gdt => "set_gdt",
        __HYPERVISOR_stack_switch => "stack_switch",
        __HYPERVISOR_set_callbacks => "set_callbacks",
        __HYPERVISOR_fpu_taskswitch => "fpu_taskswitch",
        __HYPERVISOR_sched_op_compat => "sched_op_compat",
        __HYPERVISOR_platform_op => "platform_op",
        __HYPERVISOR_set_debugreg => "set_debugreg",
        __HYPERVISOR_get_debugreg => "get_debugreg",
        __HYPERVISOR_update_descriptor => "update_descriptor",
        __HYPERVISOR_memory_op => "memory_op",
        __HYPERVISOR_multicall => "multicall",
        __HYPERVISOR_update_va_mapping => "update_va_mapping",
        __HYPERVISOR_set_timer_op => "set_timer_op",
        __HYPERVISOR_event_channel_op_compat => "event_channel_op_compat",
        __HYPERVISOR_xen_version => "xen_version",
        __HYPERVISOR_console_io => "console_io",
        __HYPERVISOR_physdev_op_compat => "physdev_op_compat",
        __HYPERVISOR_grant_table_op => "grant_table_op",
        __HYPERVISOR_vm_assist => "vm_assist",
        __HYPERVISOR_update_va_mapping_otherdomain => "update_va_mapping_otherdomain",
        __HYPERVISOR_iret => "iret",
        __HYPERVISOR_vcpu_op => "vcpu_op",
        __HYPERVISOR_set_segment_base => "set_segment_base",
        __HYPERVISOR_mmuext_op => "mmuext_op",
        __HYPERVISOR_xsm_op => "xsm_op",
        __HYPERVISOR_nmi_op => "nmi_op",
        __HYPERVISOR_sched_op => "sched_op",
        __HYPERVISOR_callback_op => "callback_op",
        __HYPERVISOR_xenoprof_op => "xenoprof_op",
        __HYPERVISOR_event_channel_op => "event_channel_op",
        __HYPERVISOR_physdev_op => "physdev_op",
        __HYPERVISOR_hvm_op => "hvm_op",
        __HYPERVISOR_sysctl => "sysctl",
        __HYPERVISOR_domctl => "domctl",
        __HYPERVISOR_kexec_op => "kexec_op",
        __HYPERVISOR_tmem_op => "tmem_op",
        __HYPERVISOR_argo_op => "argo_op",
        __HYPERVISOR_xenpmu_op => "xenpmu_op",
        __HYPERVISOR_dm_op => "dm_op",
        __HYPERVISOR_hypfs_op => "hypfs_op",
        __HYPERVISOR_arch_0 => "arch_0",
        __HYPERVISOR_arch_1 => "arch_1",
        __HYPERVISOR_arch_2 => "arch_2",
        __HYPERVISOR_arch_3 => "arch_3",
        __HYPERVISOR_arch_4 => "arch_4",
        __HYPERVISOR_arch_5 => "arch_5",
        __HYPERVISOR_arch_6 => "arch_6",
        __HYPERVISOR_arch_7 => "arch_7",
        _ => return None,
    })
}

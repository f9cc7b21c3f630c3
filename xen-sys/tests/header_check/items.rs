//! What is compared: every constant and structure of `xen_sys` that has a C counterpart.

use core::mem::offset_of;

use xen_sys::arch_x86::*;
use xen_sys::callback::*;
use xen_sys::domctl::*;
use xen_sys::elfnote::*;
use xen_sys::event_channel::*;
use xen_sys::features::*;
use xen_sys::grant_table::*;
use xen_sys::hvm::*;
use xen_sys::hypercall::*;
use xen_sys::io::{blkif::*, console::*, netif::*, xenbus::*, xs_wire::*};
use xen_sys::memory::*;
use xen_sys::nmi::*;
use xen_sys::physdev::*;
use xen_sys::pmu::*;
use xen_sys::sched::*;
use xen_sys::sysctl::*;
use xen_sys::vcpu::*;
use xen_sys::version::*;
use xen_sys::xen::*;

use crate::{AbiValue, Check};

/// Constants; the C expression is the name.
macro_rules! constants {
    ($checks:ident; $($name:ident)*) => {
        $($checks.push(Check::number(stringify!($name), $name.number()));)*
    };
}

/// `Type = "C type" { field, field = "C designator" }`: the size of the whole, offset and size of
/// each field.
macro_rules! layouts {
    ($checks:ident; $($ty:ident = $c:literal { $($field:ident $(= $cfield:literal)?)* })*) => {
        $({
            $checks.push(Check::number(concat!("sizeof(", $c, ")"), size_of::<$ty>() as i128));
            $({
                let c_field = [$($cfield,)? stringify!($field)][0];
                $checks.push(Check::number(
                    &format!("offsetof({}, {c_field})", $c),
                    offset_of!($ty, $field) as i128,
                ));
                $checks.push(Check::number(
                    &format!("sizeof((({} *)0)->{c_field})", $c),
                    field_size(|t: &$ty| &t.$field) as i128,
                ));
            })*
        })*
    };
}

fn field_size<T, F>(_: fn(&T) -> &F) -> usize {
    size_of::<F>()
}

/// Every comparison.
pub fn all() -> Vec<Check> {
    let mut checks = Vec::new();
    add_constants(&mut checks);
    add_control(&mut checks);
    add_layouts(&mut checks);
    add_errnos(&mut checks);
    add_rings(&mut checks);
    add_strings(&mut checks);
    checks
}

fn add_constants(checks: &mut Vec<Check>) {
    constants! { checks;
        // hypercall
        __HYPERVISOR_set_trap_table __HYPERVISOR_mmu_update __HYPERVISOR_set_gdt
        __HYPERVISOR_stack_switch __HYPERVISOR_set_callbacks __HYPERVISOR_fpu_taskswitch
        __HYPERVISOR_sched_op_compat __HYPERVISOR_platform_op __HYPERVISOR_set_debugreg
        __HYPERVISOR_get_debugreg __HYPERVISOR_update_descriptor __HYPERVISOR_memory_op
        __HYPERVISOR_multicall __HYPERVISOR_update_va_mapping __HYPERVISOR_set_timer_op
        __HYPERVISOR_event_channel_op_compat __HYPERVISOR_xen_version
        __HYPERVISOR_console_io __HYPERVISOR_physdev_op_compat __HYPERVISOR_grant_table_op
        __HYPERVISOR_vm_assist __HYPERVISOR_update_va_mapping_otherdomain __HYPERVISOR_iret
        __HYPERVISOR_vcpu_op __HYPERVISOR_set_segment_base __HYPERVISOR_mmuext_op
        __HYPERVISOR_xsm_op __HYPERVISOR_nmi_op __HYPERVISOR_sched_op
        __HYPERVISOR_callback_op __HYPERVISOR_xenoprof_op __HYPERVISOR_event_channel_op
        __HYPERVISOR_physdev_op __HYPERVISOR_hvm_op __HYPERVISOR_sysctl __HYPERVISOR_domctl
        __HYPERVISOR_kexec_op __HYPERVISOR_tmem_op __HYPERVISOR_argo_op
        __HYPERVISOR_xenpmu_op __HYPERVISOR_dm_op __HYPERVISOR_hypfs_op __HYPERVISOR_arch_0
        __HYPERVISOR_arch_1 __HYPERVISOR_arch_2 __HYPERVISOR_arch_3 __HYPERVISOR_arch_4
        __HYPERVISOR_arch_5 __HYPERVISOR_arch_6 __HYPERVISOR_arch_7
        // xen
        VIRQ_TIMER VIRQ_DEBUG VIRQ_CONSOLE VIRQ_DOM_EXC VIRQ_TBUF VIRQ_DEBUGGER
        VIRQ_XENOPROF VIRQ_CON_RING VIRQ_PCPU_STATE VIRQ_MEM_EVENT VIRQ_ARGO VIRQ_ENOMEM
        VIRQ_XENPMU VIRQ_ARCH_0 VIRQ_ARCH_1 VIRQ_ARCH_2 VIRQ_ARCH_3 VIRQ_ARCH_4 VIRQ_ARCH_5
        VIRQ_ARCH_6 VIRQ_ARCH_7 NR_VIRQS MMU_NORMAL_PT_UPDATE MMU_MACHPHYS_UPDATE
        MMU_PT_UPDATE_PRESERVE_AD MMU_PT_UPDATE_NO_TRANSLATE MMUEXT_PIN_L1_TABLE
        MMUEXT_PIN_L2_TABLE MMUEXT_PIN_L3_TABLE MMUEXT_PIN_L4_TABLE MMUEXT_UNPIN_TABLE
        MMUEXT_NEW_BASEPTR MMUEXT_TLB_FLUSH_LOCAL MMUEXT_INVLPG_LOCAL MMUEXT_TLB_FLUSH_MULTI
        MMUEXT_INVLPG_MULTI MMUEXT_TLB_FLUSH_ALL MMUEXT_INVLPG_ALL MMUEXT_FLUSH_CACHE
        MMUEXT_SET_LDT MMUEXT_NEW_USER_BASEPTR MMUEXT_CLEAR_PAGE MMUEXT_COPY_PAGE
        MMUEXT_FLUSH_CACHE_GLOBAL MMUEXT_MARK_SUPER MMUEXT_UNMARK_SUPER UVMF_NONE
        UVMF_TLB_FLUSH UVMF_INVLPG UVMF_FLUSHTYPE_MASK UVMF_MULTI UVMF_LOCAL UVMF_ALL
        CONSOLEIO_write CONSOLEIO_read VMASST_CMD_enable VMASST_CMD_disable
        VMASST_TYPE_4gb_segments VMASST_TYPE_4gb_segments_notify
        VMASST_TYPE_writable_pagetables VMASST_TYPE_pae_extended_cr3
        VMASST_TYPE_architectural_iopl VMASST_TYPE_runstate_update_flag
        VMASST_TYPE_m2p_strict DOMID_FIRST_RESERVED DOMID_SELF DOMID_IO DOMID_XEN DOMID_COW
        DOMID_INVALID DOMID_IDLE DOMID_MASK XEN_PVCLOCK_TSC_STABLE_BIT
        XEN_PVCLOCK_GUEST_STOPPED MAX_GUEST_CMDLINE SIF_PRIVILEGED SIF_INITDOMAIN
        SIF_MULTIBOOT_MOD SIF_MOD_START_PFN SIF_VIRT_P2M_4TOOLS SIF_PM_MASK
        // arch_x86
        FLAT_RING3_CS32 FLAT_RING3_CS64 FLAT_RING3_DS32 FLAT_RING3_DS64 FLAT_RING3_SS32
        FLAT_RING3_SS64 FLAT_KERNEL_DS64 FLAT_KERNEL_DS32 FLAT_KERNEL_DS FLAT_KERNEL_CS64
        FLAT_KERNEL_CS32 FLAT_KERNEL_CS FLAT_KERNEL_SS64 FLAT_KERNEL_SS32 FLAT_KERNEL_SS
        FLAT_USER_DS64 FLAT_USER_DS32 FLAT_USER_DS FLAT_USER_CS64 FLAT_USER_CS32
        FLAT_USER_CS FLAT_USER_SS64 FLAT_USER_SS32 FLAT_USER_SS HYPERVISOR_VIRT_START
        HYPERVISOR_VIRT_END MACH2PHYS_VIRT_START MACH2PHYS_VIRT_END MACH2PHYS_NR_ENTRIES
        SEGBASE_FS SEGBASE_GS_USER SEGBASE_GS_KERNEL SEGBASE_GS_USER_SEL
        FIRST_RESERVED_GDT_PAGE FIRST_RESERVED_GDT_BYTE FIRST_RESERVED_GDT_ENTRY
        XEN_LEGACY_MAX_VCPUS XEN_HVM_DEBUGCONS_IOPORT VGCF_i387_valid VGCF_in_kernel
        VGCF_failsafe_disables_events VGCF_syscall_disables_events VGCF_online
        VGCF_in_syscall XEN_CPUID_NO_SUBLEAF XEN_CPUID_FIRST_LEAF XEN_CPUID_SIGNATURE_EBX
        XEN_CPUID_SIGNATURE_ECX XEN_CPUID_SIGNATURE_EDX
        XEN_CPUID_FEAT1_MMU_PT_UPDATE_PRESERVE_AD XEN_HVM_CPUID_APIC_ACCESS_VIRT
        XEN_HVM_CPUID_X2APIC_VIRT XEN_HVM_CPUID_IOMMU_MAPPINGS XEN_HVM_CPUID_VCPU_ID_PRESENT
        XEN_HVM_CPUID_DOMID_PRESENT XEN_HVM_CPUID_EXT_DEST_ID XEN_HVM_CPUID_UPCALL_VECTOR
        XEN_CPUID_MACHINE_ADDRESS_WIDTH_MASK XEN_CPUID_MAX_NUM_LEAVES
        // event_channel
        EVTCHNOP_bind_interdomain EVTCHNOP_bind_virq EVTCHNOP_bind_pirq EVTCHNOP_close
        EVTCHNOP_send EVTCHNOP_status EVTCHNOP_alloc_unbound EVTCHNOP_bind_ipi
        EVTCHNOP_bind_vcpu EVTCHNOP_unmask EVTCHNOP_reset EVTCHNOP_init_control
        EVTCHNOP_expand_array EVTCHNOP_set_priority BIND_PIRQ__WILL_SHARE EVTCHNSTAT_closed
        EVTCHNSTAT_unbound EVTCHNSTAT_interdomain EVTCHNSTAT_pirq EVTCHNSTAT_virq
        EVTCHNSTAT_ipi EVTCHN_2L_NR_CHANNELS EVTCHN_FIFO_PRIORITY_MAX
        EVTCHN_FIFO_PRIORITY_DEFAULT EVTCHN_FIFO_PRIORITY_MIN EVTCHN_FIFO_MAX_QUEUES
        EVTCHN_FIFO_PENDING EVTCHN_FIFO_MASKED EVTCHN_FIFO_LINKED EVTCHN_FIFO_BUSY
        EVTCHN_FIFO_LINK_BITS EVTCHN_FIFO_LINK_MASK EVTCHN_FIFO_NR_CHANNELS
        // grant_table
        GNTTAB_NR_RESERVED_ENTRIES GNTTAB_RESERVED_CONSOLE GNTTAB_RESERVED_XENSTORE
        GTF_invalid GTF_permit_access GTF_accept_transfer GTF_transitive GTF_type_mask
        GTF_readonly GTF_reading GTF_writing GTF_PWT GTF_PCD GTF_PAT GTF_sub_page
        GTF_transfer_committed GTF_transfer_completed GNTTABOP_map_grant_ref
        GNTTABOP_unmap_grant_ref GNTTABOP_setup_table GNTTABOP_dump_table GNTTABOP_transfer
        GNTTABOP_copy GNTTABOP_query_size GNTTABOP_unmap_and_replace GNTTABOP_set_version
        GNTTABOP_get_status_frames GNTTABOP_get_version GNTTABOP_swap_grant_ref
        GNTTABOP_cache_flush GNTCOPY_source_gref GNTCOPY_dest_gref GNTTAB_CACHE_CLEAN
        GNTTAB_CACHE_INVAL GNTTAB_CACHE_SOURCE_GREF GNTMAP_device_map GNTMAP_host_map
        GNTMAP_readonly GNTMAP_application_map GNTMAP_contains_pte GNTMAP_guest_avail_mask
        GNTST_okay GNTST_general_error GNTST_bad_domain GNTST_bad_gntref GNTST_bad_handle
        GNTST_bad_virt_addr GNTST_bad_dev_addr GNTST_no_device_space GNTST_permission_denied
        GNTST_bad_page GNTST_bad_copy_arg GNTST_address_too_big GNTST_eagain GNTST_no_space
        // memory
        XENMEM_increase_reservation XENMEM_decrease_reservation XENMEM_maximum_ram_page
        XENMEM_current_reservation XENMEM_maximum_reservation XENMEM_machphys_mfn_list
        XENMEM_populate_physmap XENMEM_add_to_physmap XENMEM_memory_map
        XENMEM_machine_memory_map XENMEM_exchange XENMEM_machphys_mapping
        XENMEM_set_memory_map XENMEM_maximum_gpfn XENMEM_remove_from_physmap
        XENMEM_set_pod_target XENMEM_get_pod_target XENMEM_get_sharing_freed_pages
        XENMEM_get_sharing_shared_pages XENMEM_paging_op XENMEM_access_op XENMEM_sharing_op
        XENMEM_add_to_physmap_batch XENMEM_claim_pages XENMEM_machphys_compat_mfn_list
        XENMEM_get_vnumainfo XENMEM_reserved_device_memory_map XENMEM_acquire_resource
        XENMEMF_populate_on_demand XENMEMF_exact_node_request XENMEMF_vnode
        XENMAPSPACE_shared_info XENMAPSPACE_grant_table XENMAPSPACE_gmfn
        XENMAPSPACE_gmfn_range XENMAPSPACE_gmfn_foreign XENMAPSPACE_dev_mmio
        XENMAPIDX_grant_table_status XENMEM_resource_ioreq_server
        XENMEM_resource_grant_table XENMEM_resource_vmtrace_buf
        XENMEM_resource_grant_table_id_shared XENMEM_resource_grant_table_id_status
        // sched
        SCHEDOP_yield SCHEDOP_block SCHEDOP_shutdown SCHEDOP_poll SCHEDOP_remote_shutdown
        SCHEDOP_shutdown_code SCHEDOP_watchdog SCHEDOP_pin_override SHUTDOWN_poweroff
        SHUTDOWN_reboot SHUTDOWN_suspend SHUTDOWN_crash SHUTDOWN_watchdog
        SHUTDOWN_soft_reset SHUTDOWN_MAX
        // vcpu
        VCPUOP_initialise VCPUOP_up VCPUOP_down VCPUOP_is_up VCPUOP_get_runstate_info
        VCPUOP_register_runstate_memory_area VCPUOP_set_periodic_timer
        VCPUOP_stop_periodic_timer VCPUOP_set_singleshot_timer VCPUOP_stop_singleshot_timer
        VCPUOP_register_vcpu_info VCPUOP_send_nmi VCPUOP_get_physid
        VCPUOP_register_vcpu_time_memory_area XEN_RUNSTATE_UPDATE RUNSTATE_running
        RUNSTATE_runnable RUNSTATE_blocked RUNSTATE_offline VCPU_SSHOTTMR_future
        // version
        XENVER_version XENVER_extraversion XENVER_compile_info XENVER_capabilities
        XENVER_changeset XENVER_platform_parameters XENVER_get_features XENVER_pagesize
        XENVER_guest_handle XENVER_commandline XENVER_build_id XEN_EXTRAVERSION_LEN
        XEN_CAPABILITIES_INFO_LEN XEN_CHANGESET_INFO_LEN
        // features
        XENFEAT_writable_page_tables XENFEAT_writable_descriptor_tables
        XENFEAT_auto_translated_physmap XENFEAT_supervisor_mode_kernel
        XENFEAT_pae_pgdir_above_4gb XENFEAT_mmu_pt_update_preserve_ad XENFEAT_highmem_assist
        XENFEAT_gnttab_map_avail_bits XENFEAT_hvm_callback_vector XENFEAT_hvm_safe_pvclock
        XENFEAT_hvm_pirqs XENFEAT_dom0 XENFEAT_memory_op_vnode_supported
        XENFEAT_ARM_SMCCC_supported XENFEAT_linux_rsdp_unrestricted
        XENFEAT_not_direct_mapped XENFEAT_direct_mapped XENFEAT_NR_SUBMAPS
        // elfnote
        XEN_ELFNOTE_INFO XEN_ELFNOTE_ENTRY XEN_ELFNOTE_HYPERCALL_PAGE XEN_ELFNOTE_VIRT_BASE
        XEN_ELFNOTE_PADDR_OFFSET XEN_ELFNOTE_XEN_VERSION XEN_ELFNOTE_GUEST_OS
        XEN_ELFNOTE_GUEST_VERSION XEN_ELFNOTE_LOADER XEN_ELFNOTE_PAE_MODE
        XEN_ELFNOTE_FEATURES XEN_ELFNOTE_BSD_SYMTAB XEN_ELFNOTE_HV_START_LOW
        XEN_ELFNOTE_L1_MFN_VALID XEN_ELFNOTE_SUSPEND_CANCEL XEN_ELFNOTE_INIT_P2M
        XEN_ELFNOTE_MOD_START_PFN XEN_ELFNOTE_SUPPORTED_FEATURES XEN_ELFNOTE_PHYS32_ENTRY
        XEN_ELFNOTE_MAX XEN_ELFNOTE_CRASH_INFO XEN_ELFNOTE_CRASH_REGS
        XEN_ELFNOTE_DUMPCORE_NONE XEN_ELFNOTE_DUMPCORE_HEADER
        XEN_ELFNOTE_DUMPCORE_XEN_VERSION XEN_ELFNOTE_DUMPCORE_FORMAT_VERSION
        // callback
        CALLBACKTYPE_event CALLBACKTYPE_failsafe CALLBACKTYPE_syscall
        CALLBACKTYPE_sysenter_deprecated CALLBACKTYPE_nmi CALLBACKTYPE_sysenter
        CALLBACKTYPE_syscall32 CALLBACKF_mask_events CALLBACKOP_register
        CALLBACKOP_unregister
        // nmi
        XEN_NMIREASON_io_error XEN_NMIREASON_pci_serr XEN_NMIREASON_unknown
        XENNMI_register_callback XENNMI_unregister_callback
        // physdev
        PHYSDEVOP_IRQ_UNMASK_NOTIFY PHYSDEVOP_irq_status_query PHYSDEVOP_set_iopl
        PHYSDEVOP_set_iobitmap PHYSDEVOP_apic_read PHYSDEVOP_apic_write
        PHYSDEVOP_alloc_irq_vector PHYSDEVOP_free_irq_vector PHYSDEVOP_eoi
        PHYSDEVOP_map_pirq PHYSDEVOP_unmap_pirq PHYSDEVOP_manage_pci_add
        PHYSDEVOP_manage_pci_remove PHYSDEVOP_pirq_eoi_gmfn_v1 PHYSDEVOP_restore_msi
        PHYSDEVOP_manage_pci_add_ext PHYSDEVOP_setup_gsi PHYSDEVOP_get_free_pirq
        PHYSDEVOP_pci_mmcfg_reserved PHYSDEVOP_pci_device_add PHYSDEVOP_pci_device_remove
        PHYSDEVOP_restore_msi_ext PHYSDEVOP_pirq_eoi_gmfn_v2 PHYSDEVOP_dbgp_op
        PHYSDEVOP_prepare_msix PHYSDEVOP_release_msix XENIRQSTAT_needs_eoi XENIRQSTAT_shared
        MAP_PIRQ_TYPE_MSI MAP_PIRQ_TYPE_GSI MAP_PIRQ_TYPE_UNKNOWN MAP_PIRQ_TYPE_MSI_SEG
        MAP_PIRQ_TYPE_MULTI_MSI XEN_PCI_MMCFG_RESERVED XEN_PCI_DEV_EXTFN XEN_PCI_DEV_VIRTFN
        XEN_PCI_DEV_PXM
        // pmu
        XENPMU_VER_MAJ XENPMU_VER_MIN XENPMU_mode_get XENPMU_mode_set XENPMU_feature_get
        XENPMU_feature_set XENPMU_init XENPMU_finish XENPMU_lvtpc_set XENPMU_flush
        XENPMU_MODE_OFF XENPMU_MODE_SELF XENPMU_MODE_HV XENPMU_MODE_ALL
        // hvm
        HVMOP_set_param HVMOP_get_param HVM_PARAM_CALLBACK_IRQ HVM_PARAM_CALLBACK_TYPE_GSI
        HVM_PARAM_CALLBACK_TYPE_PCI_INTX HVM_PARAM_CALLBACK_TYPE_VECTOR HVM_PARAM_STORE_PFN
        HVM_PARAM_STORE_EVTCHN HVM_PARAM_PAE_ENABLED HVM_PARAM_IOREQ_PFN
        HVM_PARAM_BUFIOREQ_PFN HVM_PARAM_VIRIDIAN HVM_PARAM_TIMER_MODE
        HVM_PARAM_HPET_ENABLED HVM_PARAM_IDENT_PT HVM_PARAM_ACPI_S_STATE HVM_PARAM_VM86_TSS
        HVM_PARAM_VPT_ALIGN HVM_PARAM_CONSOLE_PFN HVM_PARAM_CONSOLE_EVTCHN
        HVM_PARAM_ACPI_IOPORTS_LOCATION HVM_PARAM_BUFIOREQ_EVTCHN HVM_PARAM_PAGING_RING_PFN
        HVM_PARAM_MONITOR_RING_PFN HVM_PARAM_SHARING_RING_PFN HVM_PARAM_TRIPLE_FAULT_REASON
        HVM_PARAM_IOREQ_SERVER_PFN HVM_PARAM_NR_IOREQ_SERVER_PAGES
        HVM_PARAM_VM_GENERATION_ID_ADDR HVM_PARAM_ALTP2M HVM_PARAM_X87_FIP_WIDTH
        HVM_PARAM_VM86_TSS_SIZED HVM_PARAM_MCA_CAP HVM_NR_PARAMS XEN_HVM_START_MAGIC_VALUE
        XEN_HVM_MEMMAP_TYPE_RAM XEN_HVM_MEMMAP_TYPE_RESERVED XEN_HVM_MEMMAP_TYPE_ACPI
        XEN_HVM_MEMMAP_TYPE_NVS XEN_HVM_MEMMAP_TYPE_UNUSABLE XEN_HVM_MEMMAP_TYPE_DISABLED
        XEN_HVM_MEMMAP_TYPE_PMEM
        // io::xs_wire
        XS_CONTROL XS_DIRECTORY XS_READ XS_GET_PERMS XS_WATCH XS_UNWATCH
        XS_TRANSACTION_START XS_TRANSACTION_END XS_INTRODUCE XS_RELEASE XS_GET_DOMAIN_PATH
        XS_WRITE XS_MKDIR XS_RM XS_SET_PERMS XS_WATCH_EVENT XS_ERROR XS_IS_DOMAIN_INTRODUCED
        XS_RESUME XS_SET_TARGET XS_RESET_WATCHES XS_DIRECTORY_PART XS_TYPE_COUNT XS_INVALID
        XENSTORE_RING_SIZE XENSTORE_PAYLOAD_MAX XENSTORE_ABS_PATH_MAX XENSTORE_REL_PATH_MAX
        XENSTORE_SERVER_FEATURE_RECONNECTION XENSTORE_SERVER_FEATURE_ERROR
        XENSTORE_CONNECTED XENSTORE_RECONNECT XENSTORE_ERROR_NONE XENSTORE_ERROR_COMM
        XENSTORE_ERROR_RINGIDX XENSTORE_ERROR_PROTO
        // io::xenbus
        XenbusStateUnknown XenbusStateInitialising XenbusStateInitWait
        XenbusStateInitialised XenbusStateConnected XenbusStateClosing XenbusStateClosed
        XenbusStateReconfiguring XenbusStateReconfigured
        // io::blkif
        BLKIF_OP_READ BLKIF_OP_WRITE BLKIF_OP_WRITE_BARRIER BLKIF_OP_FLUSH_DISKCACHE
        BLKIF_OP_RESERVED_1 BLKIF_OP_DISCARD BLKIF_OP_INDIRECT
        BLKIF_MAX_SEGMENTS_PER_REQUEST BLKIF_MAX_INDIRECT_PAGES_PER_REQUEST
        BLKIF_DISCARD_SECURE BLKIF_RSP_EOPNOTSUPP BLKIF_RSP_ERROR BLKIF_RSP_OKAY VDISK_CDROM
        VDISK_REMOVABLE VDISK_READONLY
        // io::netif
        XEN_NETIF_NR_SLOTS_MIN XEN_NETIF_MAX_TX_SIZE NETTXF_csum_blank NETTXF_data_validated
        NETTXF_more_data NETTXF_extra_info XEN_NETIF_EXTRA_TYPE_NONE
        XEN_NETIF_EXTRA_TYPE_GSO XEN_NETIF_EXTRA_TYPE_MCAST_ADD
        XEN_NETIF_EXTRA_TYPE_MCAST_DEL XEN_NETIF_EXTRA_TYPE_HASH XEN_NETIF_EXTRA_TYPE_MAX
        XEN_NETIF_EXTRA_FLAG_MORE XEN_NETIF_GSO_TYPE_NONE XEN_NETIF_GSO_TYPE_TCPV4
        XEN_NETIF_GSO_TYPE_TCPV6 NETRXF_data_validated NETRXF_csum_blank NETRXF_more_data
        NETRXF_extra_info NETRXF_gso_prefix NETIF_RSP_DROPPED NETIF_RSP_ERROR NETIF_RSP_OKAY
        NETIF_RSP_NULL XEN_NETIF_CTRL_TYPE_INVALID XEN_NETIF_CTRL_TYPE_GET_HASH_FLAGS
        XEN_NETIF_CTRL_TYPE_SET_HASH_FLAGS XEN_NETIF_CTRL_TYPE_SET_HASH_KEY
        XEN_NETIF_CTRL_TYPE_GET_HASH_MAPPING_SIZE XEN_NETIF_CTRL_TYPE_SET_HASH_MAPPING_SIZE
        XEN_NETIF_CTRL_TYPE_SET_HASH_MAPPING XEN_NETIF_CTRL_TYPE_SET_HASH_ALGORITHM
        XEN_NETIF_CTRL_TYPE_GET_GREF_MAPPING_SIZE XEN_NETIF_CTRL_TYPE_ADD_GREF_MAPPING
        XEN_NETIF_CTRL_TYPE_DEL_GREF_MAPPING XEN_NETIF_CTRL_STATUS_SUCCESS
        XEN_NETIF_CTRL_STATUS_NOT_SUPPORTED XEN_NETIF_CTRL_STATUS_INVALID_PARAMETER
        XEN_NETIF_CTRL_STATUS_BUFFER_OVERFLOW XEN_NETIF_CTRL_HASH_TYPE_IPV4
        XEN_NETIF_CTRL_HASH_TYPE_IPV4_TCP XEN_NETIF_CTRL_HASH_TYPE_IPV6
        XEN_NETIF_CTRL_HASH_TYPE_IPV6_TCP XEN_NETIF_CTRL_HASH_ALGORITHM_NONE
        XEN_NETIF_CTRL_HASH_ALGORITHM_TOEPLITZ XEN_NETIF_CTRLF_GREF_readonly
    }
}

fn add_layouts(checks: &mut Vec<Check>) {
    layouts! { checks;
        // xen
        MmuextOp = "struct mmuext_op" {
            cmd arg1 arg2
        }
        MmuUpdate = "struct mmu_update" {
            ptr val
        }
        MulticallEntry = "struct multicall_entry" {
            op result args
        }
        VcpuTimeInfo = "struct vcpu_time_info" {
            version pad0 tsc_timestamp system_time tsc_to_system_mul tsc_shift flags
            pad1
        }
        VcpuInfo = "struct vcpu_info" {
            evtchn_upcall_pending evtchn_upcall_mask evtchn_pending_sel arch time
        }
        SharedInfo = "struct shared_info" {
            vcpu_info evtchn_pending evtchn_mask wc_version wc_sec wc_nsec wc_sec_hi
            arch
        }
        StartInfo = "struct start_info" {
            magic nr_pages shared_info flags store_mfn store_evtchn
            console_mfn = "console.domU.mfn" console_evtchn = "console.domU.evtchn"
            pt_base nr_pt_frames mfn_list mod_start mod_len cmd_line first_p2m_pfn
            nr_p2m_frames
        }
        XenMultibootModList = "struct xen_multiboot_mod_list" {
            mod_start mod_end cmdline pad
        }
        // arch_x86
        TrapInfo = "struct trap_info" {
            vector flags cs address
        }
        IretContext = "struct iret_context" {
            rax r11 rcx flags rip cs rflags rsp ss
        }
        CpuUserRegs = "struct cpu_user_regs" {
            r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi error_code
            entry_vector rip cs _pad0 saved_upcall_mask _pad1 rflags rsp ss _pad2 es
            _pad3 ds _pad4 fs _pad5 gs _pad6
        }
        VcpuGuestContext = "struct vcpu_guest_context" {
            fpu_ctxt flags user_regs trap_ctxt ldt_base ldt_ents gdt_frames gdt_ents
            kernel_ss kernel_sp ctrlreg debugreg event_callback_eip
            failsafe_callback_eip syscall_callback_eip vm_assist fs_base gs_base_kernel
            gs_base_user
        }
        ArchVcpuInfo = "struct arch_vcpu_info" {
            cr2 pad
        }
        ArchSharedInfo = "struct arch_shared_info" {
            max_pfn pfn_to_mfn_frame_list_list nmi_reason p2m_cr3 p2m_vaddr
            p2m_generation
        }
        XenCpuidLeaf = "struct xen_cpuid_leaf" {
            leaf subleaf a b c d
        }
        XenMsrEntry = "struct xen_msr_entry" {
            idx flags val
        }
        // event_channel
        EvtchnAllocUnbound = "struct evtchn_alloc_unbound" {
            dom remote_dom port
        }
        EvtchnBindInterdomain = "struct evtchn_bind_interdomain" {
            remote_dom remote_port local_port
        }
        EvtchnBindVirq = "struct evtchn_bind_virq" {
            virq vcpu port
        }
        EvtchnBindPirq = "struct evtchn_bind_pirq" {
            pirq flags port
        }
        EvtchnBindIpi = "struct evtchn_bind_ipi" {
            vcpu port
        }
        EvtchnClose = "struct evtchn_close" {
            port
        }
        EvtchnSend = "struct evtchn_send" {
            port
        }
        EvtchnStatus = "struct evtchn_status" {
            dom port status vcpu u
        }
        EvtchnBindVcpu = "struct evtchn_bind_vcpu" {
            port vcpu
        }
        EvtchnUnmask = "struct evtchn_unmask" {
            port
        }
        EvtchnReset = "struct evtchn_reset" {
            dom
        }
        EvtchnInitControl = "struct evtchn_init_control" {
            control_gfn offset vcpu link_bits _pad
        }
        EvtchnExpandArray = "struct evtchn_expand_array" {
            array_gfn
        }
        EvtchnSetPriority = "struct evtchn_set_priority" {
            port priority
        }
        EvtchnOp = "struct evtchn_op" {
            cmd u
        }
        EvtchnFifoControlBlock = "struct evtchn_fifo_control_block" {
            ready _rsvd head
        }
        // grant_table
        GrantEntryV1 = "struct grant_entry_v1" {
            flags domid frame
        }
        GrantEntryHeader = "struct grant_entry_header" {
            flags domid
        }
        GrantEntryV2 = "union grant_entry_v2" {
            hdr word1 = "full_page.pad0" word2 = "full_page.frame"
        }
        GnttabMapGrantRef = "struct gnttab_map_grant_ref" {
            host_addr flags ref_ = "ref" dom status handle dev_bus_addr
        }
        GnttabUnmapGrantRef = "struct gnttab_unmap_grant_ref" {
            host_addr dev_bus_addr handle status
        }
        GnttabSetupTable = "struct gnttab_setup_table" {
            dom nr_frames status frame_list
        }
        GnttabDumpTable = "struct gnttab_dump_table" {
            dom status
        }
        GnttabTransfer = "struct gnttab_transfer" {
            mfn domid ref_ = "ref" status
        }
        GnttabCopyPtr = "struct gnttab_copy_ptr" {
            u domid offset
        }
        GnttabCopy = "struct gnttab_copy" {
            source dest len flags status
        }
        GnttabQuerySize = "struct gnttab_query_size" {
            dom nr_frames max_nr_frames status
        }
        GnttabUnmapAndReplace = "struct gnttab_unmap_and_replace" {
            host_addr new_addr handle status
        }
        GnttabSetVersion = "struct gnttab_set_version" {
            version
        }
        GnttabGetStatusFrames = "struct gnttab_get_status_frames" {
            nr_frames dom status frame_list
        }
        GnttabGetVersion = "struct gnttab_get_version" {
            dom pad version
        }
        GnttabSwapGrantRef = "struct gnttab_swap_grant_ref" {
            ref_a ref_b status
        }
        GnttabCacheFlush = "struct gnttab_cache_flush" {
            a offset length op
        }
        // memory
        XenMemoryReservation = "struct xen_memory_reservation" {
            extent_start nr_extents extent_order mem_flags domid
        }
        XenMemoryExchange = "struct xen_memory_exchange" {
            in_ = "in" out nr_exchanged
        }
        XenMemoryDomain = "struct xen_memory_domain" {
            domid
        }
        XenMachphysMfnList = "struct xen_machphys_mfn_list" {
            max_extents extent_start nr_extents
        }
        XenMachphysMapping = "struct xen_machphys_mapping" {
            v_start v_end max_mfn
        }
        XenAddToPhysmap = "struct xen_add_to_physmap" {
            domid size space idx gpfn
        }
        XenAddToPhysmapBatch = "struct xen_add_to_physmap_batch" {
            domid space size u idxs gpfns errs
        }
        XenRemoveFromPhysmap = "struct xen_remove_from_physmap" {
            domid gpfn
        }
        XenMemoryMap = "struct xen_memory_map" {
            nr_entries buffer
        }
        XenForeignMemoryMap = "struct xen_foreign_memory_map" {
            domid map
        }
        XenPodTarget = "struct xen_pod_target" {
            target_pages tot_pages pod_cache_pages pod_entries domid
        }
        XenReservedDeviceMemory = "struct xen_reserved_device_memory" {
            start_pfn nr_pages
        }
        XenMemAcquireResource = "struct xen_mem_acquire_resource" {
            domid kind = "type" id nr_frames pad frame frame_list
        }
        XenVmemrange = "struct xen_vmemrange" {
            start end flags nid
        }
        XenVnumaTopologyInfo = "struct xen_vnuma_topology_info" {
            domid pad nr_vnodes nr_vcpus nr_vmemranges vdistance vcpu_to_vnode vmemrange
        }
        // sched
        SchedShutdown = "struct sched_shutdown" {
            reason
        }
        SchedPoll = "struct sched_poll" {
            ports nr_ports timeout
        }
        SchedRemoteShutdown = "struct sched_remote_shutdown" {
            domain_id reason
        }
        SchedWatchdog = "struct sched_watchdog" {
            id timeout
        }
        SchedPinOverride = "struct sched_pin_override" {
            pcpu
        }
        // vcpu
        VcpuRunstateInfo = "struct vcpu_runstate_info" {
            state state_entry_time time
        }
        VcpuRegisterRunstateMemoryArea = "struct vcpu_register_runstate_memory_area" {
            addr
        }
        VcpuSetPeriodicTimer = "struct vcpu_set_periodic_timer" {
            period_ns
        }
        VcpuSetSingleshotTimer = "struct vcpu_set_singleshot_timer" {
            timeout_abs_ns flags
        }
        VcpuRegisterVcpuInfo = "struct vcpu_register_vcpu_info" {
            mfn offset rsvd
        }
        VcpuGetPhysid = "struct vcpu_get_physid" {
            phys_id
        }
        VcpuRegisterTimeMemoryArea = "struct vcpu_register_time_memory_area" {
            addr
        }
        // version
        XenCompileInfo = "struct xen_compile_info" {
            compiler compile_by compile_domain compile_date
        }
        XenPlatformParameters = "struct xen_platform_parameters" {
            virt_start
        }
        XenFeatureInfo = "struct xen_feature_info" {
            submap_idx submap
        }
        XenBuildIdHeader = "struct xen_build_id" {
            len
        }
        // callback
        CallbackRegister = "struct callback_register" {
            kind = "type" flags address
        }
        CallbackUnregister = "struct callback_unregister" {
            kind = "type" _unused
        }
        // nmi
        XennmiCallback = "struct xennmi_callback" {
            handler_address pad
        }
        // physdev
        PhysdevEoi = "struct physdev_eoi" {
            irq
        }
        PhysdevPirqEoiGmfn = "struct physdev_pirq_eoi_gmfn" {
            gmfn
        }
        PhysdevIrqStatusQuery = "struct physdev_irq_status_query" {
            irq flags
        }
        PhysdevSetIopl = "struct physdev_set_iopl" {
            iopl
        }
        PhysdevSetIobitmap = "struct physdev_set_iobitmap" {
            bitmap nr_ports
        }
        PhysdevApic = "struct physdev_apic" {
            apic_physbase reg value
        }
        PhysdevIrq = "struct physdev_irq" {
            irq vector
        }
        PhysdevMapPirq = "struct physdev_map_pirq" {
            domid kind = "type" index pirq bus devfn entry_nr table_base
        }
        PhysdevUnmapPirq = "struct physdev_unmap_pirq" {
            domid pirq
        }
        PhysdevManagePci = "struct physdev_manage_pci" {
            bus devfn
        }
        PhysdevSetupGsi = "struct physdev_setup_gsi" {
            gsi triggering polarity
        }
        PhysdevGetFreePirq = "struct physdev_get_free_pirq" {
            kind = "type" pirq
        }
        PhysdevPciMmcfgReserved = "struct physdev_pci_mmcfg_reserved" {
            address segment start_bus end_bus flags
        }
        PhysdevPciDevice = "struct physdev_pci_device" {
            seg bus devfn
        }
        // pmu
        XenPmuParams = "struct xen_pmu_params" {
            version_maj = "version.maj" version_min = "version.min" val vcpu pad
        }
        // hvm
        XenHvmParam = "struct xen_hvm_param" {
            domid pad index value
        }
        HvmStartInfo = "struct hvm_start_info" {
            magic version flags nr_modules modlist_paddr cmdline_paddr rsdp_paddr
            memmap_paddr memmap_entries reserved
        }
        HvmModlistEntry = "struct hvm_modlist_entry" {
            paddr size cmdline_paddr reserved
        }
        HvmMemmapTableEntry = "struct hvm_memmap_table_entry" {
            addr size kind = "type" reserved
        }
        // io::console
        XenconsInterface = "struct xencons_interface" {
            in_ = "in" out in_cons in_prod out_cons out_prod
        }
        // io::xs_wire
        XsdSockmsg = "struct xsd_sockmsg" {
            kind = "type" req_id tx_id len
        }
        XenstoreDomainInterface = "struct xenstore_domain_interface" {
            req rsp req_cons req_prod rsp_cons rsp_prod server_features connection error
        }
        // io::blkif
        BlkifRequestSegment = "struct blkif_request_segment" {
            gref first_sect last_sect
        }
        BlkifRequest = "struct blkif_request" {
            operation nr_segments handle id sector_number seg
        }
        BlkifRequestDiscard = "struct blkif_request_discard" {
            operation flag handle id sector_number nr_sectors
        }
        BlkifRequestIndirect = "struct blkif_request_indirect" {
            operation indirect_op nr_segments id sector_number handle indirect_grefs
        }
        BlkifResponse = "struct blkif_response" {
            id operation status
        }
        // io::netif
        NetifTxRequest = "struct netif_tx_request" {
            gref offset flags id size
        }
        NetifExtraInfo = "struct netif_extra_info" {
            kind = "type" flags u
        }
        NetifTxResponse = "struct netif_tx_response" {
            id status
        }
        NetifRxRequest = "struct netif_rx_request" {
            id pad gref
        }
        NetifRxResponse = "struct netif_rx_response" {
            id offset flags status
        }
        XenNetifCtrlRequest = "struct xen_netif_ctrl_request" {
            id kind = "type" data
        }
        XenNetifCtrlResponse = "struct xen_netif_ctrl_response" {
            id kind = "type" status data
        }
        XenNetifGref = "struct xen_netif_gref" {
            ref_ = "ref" flags status
        }
    }
}

/// `EINTR` and `ERESTART` are left out: the header hides them from everyone but Xen itself.
fn add_errnos(checks: &mut Vec<Check>) {
    use xen_sys::errno::Errno;
    macro_rules! errnos {
        ($($name:ident)*) => {
            $(checks.push(Check::number(concat!("XEN_", stringify!($name)), Errno::$name.0 as i128));)*
        };
    }
    errnos! {
        EPERM ENOENT ESRCH EIO ENXIO E2BIG ENOEXEC EBADF ECHILD EAGAIN EWOULDBLOCK ENOMEM
        EACCES EFAULT EBUSY EEXIST EXDEV ENODEV ENOTDIR EISDIR EINVAL ENFILE EMFILE ENOSPC
        EROFS EMLINK EDOM ERANGE EDEADLK EDEADLOCK ENAMETOOLONG ENOLCK ENOSYS ENOTEMPTY
        ENODATA ETIME EBADMSG EOVERFLOW EILSEQ ENOTSOCK EMSGSIZE EOPNOTSUPP EADDRINUSE
        EADDRNOTAVAIL ENOBUFS EISCONN ENOTCONN ETIMEDOUT ECONNREFUSED
    }
}

fn add_rings(checks: &mut Vec<Check>) {
    use xen_sys::io::ring::{self, ring_slots};
    use xen_sys::io::{blkif, netif};
    let offsets = [
        ("req_prod", ring::SRING_REQ_PROD),
        ("req_event", ring::SRING_REQ_EVENT),
        ("rsp_prod", ring::SRING_RSP_PROD),
        ("rsp_event", ring::SRING_RSP_EVENT),
        ("ring", ring::SRING_RING),
        ("pvt", offset_of!(ring::SringHeader, pvt)),
    ];
    for (field, offset) in offsets {
        let c = format!("offsetof(struct blkif_sring, {field})");
        checks.push(Check::number(&c, offset as i128));
    }
    let blk = size_of::<blkif::BlkifRequest>().max(size_of::<blkif::BlkifResponse>());
    let tx = size_of::<netif::NetifTxRequest>().max(size_of::<netif::NetifTxResponse>());
    let rx = size_of::<netif::NetifRxRequest>().max(size_of::<netif::NetifRxResponse>());
    for order in 0..5 {
        let size = 4096 << order;
        for (name, slot) in [("blkif", blk), ("netif_tx", tx), ("netif_rx", rx)] {
            let c = format!("__CONST_RING_SIZE({name}, {size})");
            checks.push(Check::number(&c, ring_slots(size, slot) as i128));
        }
    }
}

fn add_strings(checks: &mut Vec<Check>) {
    use xen_sys::grant_table::gntst_message;
    use xen_sys::io::{protocols, xs_wire};
    checks.push(Check::text(
        "XEN_IO_PROTO_ABI_X86_32",
        protocols::XEN_IO_PROTO_ABI_X86_32,
    ));
    checks.push(Check::text(
        "XEN_IO_PROTO_ABI_X86_64",
        protocols::XEN_IO_PROTO_ABI_X86_64,
    ));
    checks.push(Check::text(
        "XEN_IO_PROTO_ABI_ARM",
        protocols::XEN_IO_PROTO_ABI_ARM,
    ));
    checks.push(Check::text(
        "XEN_IO_PROTO_ABI_NATIVE",
        protocols::XEN_IO_PROTO_ABI_NATIVE,
    ));
    checks.push(Check::number(
        "sizeof(xsd_errors) / sizeof(xsd_errors[0])",
        xs_wire::XSD_ERRORS.len() as i128,
    ));
    for (i, (_, name)) in xs_wire::XSD_ERRORS.iter().enumerate() {
        checks.push(Check::text(&format!("xsd_errors[{i}].errstring"), name));
    }
    for (i, status) in (0..=13i16).map(|n| (n, -n)) {
        checks.push(Check::text(
            &format!("gnttab_messages[{i}]"),
            gntst_message(status),
        ));
    }
    let prefix = xen_sys::arch_x86::XEN_EMULATE_PREFIX
        .map(|b| format!("0x{b:02x}"))
        .join(",");
    checks.push(Check::text(
        "XEN_EMULATE_PREFIX",
        &format!(".byte {prefix} ; "),
    ));
}

/// What a toolstack alone calls, as Xen 4.17 has it.
fn add_control(checks: &mut Vec<Check>) {
    constants! { checks;
        XEN_DOMCTL_INTERFACE_VERSION XEN_DOMCTL_createdomain XEN_DOMCTL_destroydomain
        XEN_DOMCTL_pausedomain XEN_DOMCTL_unpausedomain XEN_DOMCTL_getdomaininfo
        XEN_DOMCTL_setvcpuaffinity XEN_DOMCTL_shadow_op XEN_DOMCTL_max_mem
        XEN_DOMCTL_setvcpucontext XEN_DOMCTL_getvcpucontext XEN_DOMCTL_getvcpuinfo
        XEN_DOMCTL_max_vcpus XEN_DOMCTL_scheduler_op XEN_DOMCTL_setdomainhandle
        XEN_DOMCTL_hypercall_init XEN_DOMCTL_settimeoffset XEN_DOMCTL_getvcpuaffinity
        XEN_DOMCTL_resumedomain XEN_DOMCTL_sendtrigger XEN_DOMCTL_gethvmcontext
        XEN_DOMCTL_sethvmcontext XEN_DOMCTL_set_address_size XEN_DOMCTL_get_address_size
        XEN_DOMCTL_gettscinfo XEN_DOMCTL_settscinfo XEN_DOMCTL_getpageframeinfo3
        XEN_DOMCTL_setnodeaffinity XEN_DOMCTL_setvnumainfo XEN_DOMCTL_get_cpu_policy
        XEN_DOMCTL_set_cpu_policy XEN_DOMCTL_get_paging_mempool_size
        XEN_DOMCTL_set_paging_mempool_size XEN_DOMCTL_CDF_hvm XEN_DOMCTL_CDF_hap
        XEN_DOMCTL_CDF_s3_integrity XEN_DOMCTL_CDF_oos_off XEN_DOMCTL_CDF_xs_domain
        XEN_DOMCTL_CDF_iommu XEN_DOMCTL_CDF_nested_virt XEN_DOMCTL_CDF_vpmu XEN_DOMINF_dying
        XEN_DOMINF_hvm_guest XEN_DOMINF_shutdown XEN_DOMINF_paused XEN_DOMINF_blocked
        XEN_DOMINF_running XEN_DOMINF_debugged XEN_DOMINF_xs_domain XEN_DOMINF_hap
        XEN_DOMINF_shutdownmask XEN_DOMINF_shutdownshift XEN_INVALID_MAX_VCPU_ID
        XEN_X86_EMU_LAPIC XEN_X86_EMU_HPET XEN_X86_EMU_PM XEN_X86_EMU_RTC XEN_X86_EMU_IOAPIC
        XEN_X86_EMU_PIC XEN_X86_EMU_VGA XEN_X86_EMU_IOMMU XEN_X86_EMU_PIT XEN_X86_EMU_USE_PIRQ
        XEN_X86_EMU_VPCI XEN_X86_MSR_RELAXED XEN_SCHEDULER_CREDIT XEN_SCHEDULER_CREDIT2
        XEN_SCHEDULER_ARINC653 XEN_SCHEDULER_RTDS XEN_SCHEDULER_NULL XEN_DOMCTL_SCHEDOP_putinfo
        XEN_DOMCTL_SCHEDOP_getinfo XEN_VCPUAFFINITY_HARD XEN_VCPUAFFINITY_SOFT
        XEN_VCPUAFFINITY_FORCE XEN_DOMCTL_SENDTRIGGER_NMI XEN_DOMCTL_SENDTRIGGER_RESET
        XEN_DOMCTL_SENDTRIGGER_INIT XEN_DOMCTL_SENDTRIGGER_POWER XEN_DOMCTL_SENDTRIGGER_SLEEP
        XEN_DOMCTL_SHADOW_OP_GET_ALLOCATION XEN_DOMCTL_SHADOW_OP_SET_ALLOCATION
        XEN_CPUID_INPUT_UNUSED XEN_DOMCTL_PFINFO_LTAB_SHIFT XEN_DOMCTL_PFINFO_L1TAB XEN_DOMCTL_PFINFO_LPINTAB
        XEN_DOMCTL_PFINFO_XTAB XEN_DOMCTL_PFINFO_LTAB_MASK XEN_SYSCTL_INTERFACE_VERSION
        XEN_SYSCTL_readconsole XEN_SYSCTL_physinfo XEN_SYSCTL_sched_id
        XEN_SYSCTL_getdomaininfolist XEN_SYSCTL_debug_keys XEN_SYSCTL_getcpuinfo
        XEN_SYSCTL_cputopoinfo XEN_SYSCTL_numainfo XEN_SYSCTL_cpupool_op XEN_SYSCTL_scheduler_op
        XEN_SYSCTL_get_cpu_policy XEN_SYSCTL_PHYSCAP_hvm XEN_SYSCTL_PHYSCAP_pv
        XEN_SYSCTL_PHYSCAP_directio XEN_SYSCTL_PHYSCAP_hap XEN_SYSCTL_PHYSCAP_shadow
        XEN_SYSCTL_PHYSCAP_iommu_hap_pt_share XEN_SYSCTL_PHYSCAP_vmtrace XEN_SYSCTL_PHYSCAP_vpmu
        XEN_SYSCTL_PHYSCAP_gnttab_v1 XEN_SYSCTL_PHYSCAP_gnttab_v2 XEN_SYSCTL_CPUPOOL_OP_INFO
        XEN_SYSCTL_CPUPOOL_OP_FREEINFO XEN_SYSCTL_SCHEDOP_putinfo XEN_SYSCTL_SCHEDOP_getinfo
        XEN_SYSCTL_cpu_policy_raw XEN_SYSCTL_cpu_policy_host XEN_SYSCTL_cpu_policy_pv_max
        XEN_SYSCTL_cpu_policy_hvm_max XEN_SYSCTL_cpu_policy_pv_default
        XEN_SYSCTL_cpu_policy_hvm_default XEN_INVALID_CORE_ID XEN_INVALID_SOCKET_ID
        XEN_INVALID_NODE_ID
    }
    layouts! { checks;
        XenDomctl = "struct xen_domctl" { cmd interface_version domain _pad }
        XenctlBitmap = "struct xenctl_bitmap" { bitmap nr_bits }
        XenArchDomainconfig = "struct xen_arch_domainconfig" { emulation_flags misc_flags }
        XenDomctlCreatedomain = "struct xen_domctl_createdomain" { ssidref handle flags iommu_opts max_vcpus max_evtchn_port max_grant_frames max_maptrack_frames grant_opts vmtrace_size cpupool_id arch }
        XenDomctlGetdomaininfo = "struct xen_domctl_getdomaininfo" { domain pad1 flags tot_pages max_pages outstanding_pages shr_pages paged_pages shared_info_frame cpu_time nr_online_vcpus max_vcpu_id ssidref handle cpupool gpaddr_bits pad2 arch_config }
        XenDomctlGetpageframeinfo3 = "struct xen_domctl_getpageframeinfo3" { num array }
        XenDomctlNodeaffinity = "struct xen_domctl_nodeaffinity" { nodemap }
        XenDomctlVcpuaffinity = "struct xen_domctl_vcpuaffinity" { vcpu flags cpumap_hard cpumap_soft }
        XenDomctlShadowOp = "struct xen_domctl_shadow_op" { op mode mb dirty_bitmap pages stats }
        XenDomctlMaxMem = "struct xen_domctl_max_mem" { max_memkb }
        XenDomctlVcpucontext = "struct xen_domctl_vcpucontext" { vcpu ctxt }
        XenDomctlGetvcpuinfo = "struct xen_domctl_getvcpuinfo" { vcpu online blocked running cpu_time cpu }
        XenDomctlMaxVcpus = "struct xen_domctl_max_vcpus" { max }
        XenDomctlSchedCredit2 = "struct xen_domctl_sched_credit2" { weight cap }
        XenDomctlSchedulerOp = "struct xen_domctl_scheduler_op" { sched_id cmd credit2 = "u.credit2" }
        XenDomctlSetdomainhandle = "struct xen_domctl_setdomainhandle" { handle }
        XenDomctlHypercallInit = "struct xen_domctl_hypercall_init" { gmfn }
        XenDomctlSettimeoffset = "struct xen_domctl_settimeoffset" { time_offset_seconds }
        XenDomctlHvmcontext = "struct xen_domctl_hvmcontext" { size buffer }
        XenDomctlAddressSize = "struct xen_domctl_address_size" { size }
        XenDomctlSendtrigger = "struct xen_domctl_sendtrigger" { trigger vcpu }
        XenDomctlTscInfo = "struct xen_domctl_tsc_info" { tsc_mode gtsc_khz incarnation pad elapsed_nsec }
        XenDomctlCpuPolicy = "struct xen_domctl_cpu_policy" { nr_leaves nr_msrs leaves msrs err_leaf err_subleaf err_msr }
        XenDomctlPagingMempool = "struct xen_domctl_paging_mempool" { size }
        XenDomctlVnuma = "struct xen_domctl_vnuma" { nr_vnodes nr_vmemranges nr_vcpus pad vdistance vcpu_to_vnode vnode_to_pnode vmemrange }
        XenSysctl = "struct xen_sysctl" { cmd interface_version }
        XenSysctlReadconsole = "struct xen_sysctl_readconsole" { clear incremental index buffer count }
        XenSysctlPhysinfo = "struct xen_sysctl_physinfo" { threads_per_core cores_per_socket nr_cpus max_cpu_id nr_nodes max_node_id cpu_khz capabilities arch_capabilities pad total_pages free_pages scrub_pages outstanding_pages max_mfn hw_cap }
        XenSysctlSchedId = "struct xen_sysctl_sched_id" { sched_id }
        XenSysctlGetdomaininfolist = "struct xen_sysctl_getdomaininfolist" { first_domain max_domains buffer num_domains }
        XenSysctlDebugKeys = "struct xen_sysctl_debug_keys" { keys nr_keys }
        XenSysctlGetcpuinfo = "struct xen_sysctl_getcpuinfo" { max_cpus info nr_cpus }
        XenSysctlCputopo = "struct xen_sysctl_cputopo" { core socket node }
        XenSysctlCputopoinfo = "struct xen_sysctl_cputopoinfo" { num_cpus cputopo }
        XenSysctlMeminfo = "struct xen_sysctl_meminfo" { memsize memfree }
        XenSysctlNumainfo = "struct xen_sysctl_numainfo" { num_nodes meminfo distance }
        XenSysctlCpupoolOp = "struct xen_sysctl_cpupool_op" { op cpupool_id sched_id domid cpu n_dom cpumap }
        XenSysctlSchedulerOp = "struct xen_sysctl_scheduler_op" { cpupool_id sched_id cmd ratelimit_us = "u.sched_credit2.ratelimit_us" }
        XenSysctlCpuPolicy = "struct xen_sysctl_cpu_policy" { index nr_leaves nr_msrs _rsvd leaves msrs }
    }
}

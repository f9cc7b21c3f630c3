//! `features.h`: feature bit numbers (`XENVER_get_features`, `XEN_ELFNOTE_FEATURES`).
/// Page tables need not be write protected.
pub const XENFEAT_writable_page_tables: u32 = 0;
/// Descriptor tables need not be write protected.
pub const XENFEAT_writable_descriptor_tables: u32 = 1;
/// Frame numbers are guest physical.
pub const XENFEAT_auto_translated_physmap: u32 = 2;
/// The kernel runs in ring 0 (PVH: boots from PHYS32_ENTRY).
pub const XENFEAT_supervisor_mode_kernel: u32 = 3;
/// 32-bit page directories may lie above 4 GiB.
pub const XENFEAT_pae_pgdir_above_4gb: u32 = 4;
/// `MMU_PT_UPDATE_PRESERVE_AD` works.
pub const XENFEAT_mmu_pt_update_preserve_ad: u32 = 5;
/// `GNTMAP_contains_pte` and the like for high memory pages.
pub const XENFEAT_highmem_assist: u32 = 6;
/// `GNTMAP_guest_avail*` bits work.
pub const XENFEAT_gnttab_map_avail_bits: u32 = 7;
/// HVM: upcall by vector.
pub const XENFEAT_hvm_callback_vector: u32 = 8;
/// HVM: the PV clock is safe to use.
pub const XENFEAT_hvm_safe_pvclock: u32 = 9;
/// HVM: PIRQs can be bound to event channels.
pub const XENFEAT_hvm_pirqs: u32 = 10;
/// The domain is dom0.
pub const XENFEAT_dom0: u32 = 11;
/// `XENMEMF_vnode` works.
pub const XENFEAT_memory_op_vnode_supported: u32 = 13;
/// ARM: SMC calling convention.
pub const XENFEAT_ARM_SMCCC_supported: u32 = 14;
/// Linux takes the RSDP from the start info at any address.
pub const XENFEAT_linux_rsdp_unrestricted: u32 = 15;
/// The domain's memory is not mapped one to one.
pub const XENFEAT_not_direct_mapped: u32 = 16;
/// The domain's memory is mapped one to one.
pub const XENFEAT_direct_mapped: u32 = 17;
/// Words of 32 features.
pub const XENFEAT_NR_SUBMAPS: u32 = 1;

/// Bit number and name as `XEN_ELFNOTE_FEATURES` strings spell it.
pub const NAMES: [(u32, &str); 8] = [
    (XENFEAT_writable_page_tables, "writable_page_tables"),
    (
        XENFEAT_writable_descriptor_tables,
        "writable_descriptor_tables",
    ),
    (XENFEAT_auto_translated_physmap, "auto_translated_physmap"),
    (XENFEAT_supervisor_mode_kernel, "supervisor_mode_kernel"),
    (XENFEAT_pae_pgdir_above_4gb, "pae_pgdir_above_4gb"),
    (
        XENFEAT_mmu_pt_update_preserve_ad,
        "mmu_pt_update_preserve_ad",
    ),
    (XENFEAT_hvm_callback_vector, "hvm_callback_vector"),
    (XENFEAT_dom0, "dom0"),
];

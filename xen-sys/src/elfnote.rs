//! `elfnote.h`: notes in a guest kernel's ELF image; the note's name is "Xen".
/// Name of the notes, without its NUL.
pub const NAME: &str = "Xen";
/// NUL terminated information.
pub const XEN_ELFNOTE_INFO: u32 = 0;
/// Virtual address of the entry point.
pub const XEN_ELFNOTE_ENTRY: u32 = 1;
/// Virtual address of the hypercall page.
pub const XEN_ELFNOTE_HYPERCALL_PAGE: u32 = 2;
/// Virtual address of the start of the kernel's mapping.
pub const XEN_ELFNOTE_VIRT_BASE: u32 = 3;
/// What ELF physical addresses count from.
pub const XEN_ELFNOTE_PADDR_OFFSET: u32 = 4;
/// Interface version, e.g. "xen-3.0".
pub const XEN_ELFNOTE_XEN_VERSION: u32 = 5;
/// Name of the system.
pub const XEN_ELFNOTE_GUEST_OS: u32 = 6;
/// Version of the system.
pub const XEN_ELFNOTE_GUEST_VERSION: u32 = 7;
/// Loader; "generic" is the only one.
pub const XEN_ELFNOTE_LOADER: u32 = 8;
/// 32-bit: "yes", "no" or "bimodal".
pub const XEN_ELFNOTE_PAE_MODE: u32 = 9;
/// Features as a string, "!" before a required one.
pub const XEN_ELFNOTE_FEATURES: u32 = 10;
/// "yes": load the symbol table, as BSD wants it.
pub const XEN_ELFNOTE_BSD_SYMTAB: u32 = 11;
/// Lowest address the hypervisor's hole may start at.
pub const XEN_ELFNOTE_HV_START_LOW: u32 = 12;
/// Pairs (mask, value) of present L1 entries, for migration.
pub const XEN_ELFNOTE_L1_MFN_VALID: u32 = 13;
/// The suspend call can be cancelled and then returns 1.
pub const XEN_ELFNOTE_SUSPEND_CANCEL: u32 = 14;
/// Virtual address at which the initial P2M shall be mapped.
pub const XEN_ELFNOTE_INIT_P2M: u32 = 15;
/// The module need not be mapped: `mod_start` may be a PFN.
pub const XEN_ELFNOTE_MOD_START_PFN: u32 = 16;
/// Features as a bitmap of `XENFEAT_*`.
pub const XEN_ELFNOTE_SUPPORTED_FEATURES: u32 = 17;
/// Physical address of the 32-bit PVH entry point.
pub const XEN_ELFNOTE_PHYS32_ENTRY: u32 = 18;
/// Highest of the notes above.
pub const XEN_ELFNOTE_MAX: u32 = XEN_ELFNOTE_PHYS32_ENTRY;
/// Crash information of the hypervisor.
pub const XEN_ELFNOTE_CRASH_INFO: u32 = 0x100_0001;
/// Registers at the crash.
pub const XEN_ELFNOTE_CRASH_REGS: u32 = 0x100_0002;
/// Core file: this is a domain's core.
pub const XEN_ELFNOTE_DUMPCORE_NONE: u32 = 0x200_0000;
/// Core file: header.
pub const XEN_ELFNOTE_DUMPCORE_HEADER: u32 = 0x200_0001;
/// Core file: version of the hypervisor.
pub const XEN_ELFNOTE_DUMPCORE_XEN_VERSION: u32 = 0x200_0002;
/// Core file: version of the format.
pub const XEN_ELFNOTE_DUMPCORE_FORMAT_VERSION: u32 = 0x200_0003;

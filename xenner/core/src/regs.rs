//! The general registers of a stopped virtual CPU.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Registers in the order of `struct cpu_user_regs`
/// (`xen/include/public/arch-x86/xen-x86_64.h`), up to `ss`.
///
/// `cs` and `ss` are what the CPU runs with; what a guest sees in a frame is
/// made by [`crate::trap`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[allow(missing_docs, reason = "the registers are their own documentation")]
pub struct Regs {
    pub r15: u64,
    pub r14: u64,
    pub r13: u64,
    pub r12: u64,
    pub rbp: u64,
    pub rbx: u64,
    pub r11: u64,
    pub r10: u64,
    pub r9: u64,
    pub r8: u64,
    pub rax: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rsi: u64,
    pub rdi: u64,
    /// The error code the CPU pushed, or 0.
    pub error_code: u64,
    pub rip: u64,
    pub cs: u64,
    pub rflags: u64,
    pub rsp: u64,
    pub ss: u64,
}

/// RFLAGS bits.
pub mod flags {
    #![allow(missing_docs, reason = "named in the processor manuals")]
    pub const CF: u64 = 1 << 0;
    pub const RESERVED1: u64 = 1 << 1;
    pub const TF: u64 = 1 << 8;
    pub const IF: u64 = 1 << 9;
    pub const DF: u64 = 1 << 10;
    pub const IOPL: u64 = 3 << 12;
    pub const NT: u64 = 1 << 14;
    pub const RF: u64 = 1 << 16;
    pub const VM: u64 = 1 << 17;
    pub const AC: u64 = 1 << 18;
    pub const VIF: u64 = 1 << 19;
    pub const VIP: u64 = 1 << 20;
    pub const ID: u64 = 1 << 21;
}

const _: () = assert!(size_of::<Regs>() == 168);

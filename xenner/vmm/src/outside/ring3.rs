//! What ring 3 executes of ours: one page in slot 258, where SYSCALL leads.
//!
//! On a pagetable-based KVM SYSCALL stays in ring 3. It leads to an OUT here,
//! which ends in this process at once: no exception into ring 0 and no IRETQ out
//! of it. A program that jumps there says no more than SYSCALL would with the
//! RCX and R11 it holds.

use super::ring0::PORT;

/// Where ring 3 finds the page, and where LSTAR points.
pub const SYSCALL_TARGET: u64 = 0xffff_8100_0000_0000;
/// What the page holds: out PORT, al; ud2.
pub const CODE: [u8; 4] = [0xe6, PORT as u8, 0x0f, 0x0b];
/// RIP when the OUT has reached this process.
pub const SYSCALL_DONE: u64 = SYSCALL_TARGET + 2;
/// What R11 may bring into RFLAGS: what a program may change by POPF.
pub const SYSCALL_FLAGS: u64 = 0x24_0fd5;

const _: () = assert!(PORT < 0x100, "OUT has one byte for the port");

//! The Xen hypervisor ABI for 64-bit PV domains, as a `no_std` library.
//!
//! The library is told what the guest did (a system call instruction, an
//! exception) and changes the guest's registers and memory the way Xen does.
//! All it needs from below is the [`Machine`] trait: guest memory, the TLB, a
//! timer, a way to nudge another virtual CPU. Two machines implement it: the
//! ring-0 emulator inside the guest (`xenner-emu`), where nothing leaves the
//! virtual machine, and the host process (`xenner-vmm`), for hosts on which
//! guest ring 0 is slow.
//!
//! Where to begin: [`Domain`] is what all virtual CPUs share, [`Vcpu`] what
//! belongs to one; [`entry`] holds the three ways in ([`entry::syscall`],
//! [`entry::exception`], [`entry::resume`]); [`hypercall`] is the table.
//!
//! Unlike Xen, no page is type-counted: the virtual machine's boundary
//! confines the guest, so that a domain can only hurt itself. What is kept is
//! what a sane kernel can observe: results and error codes.
#![no_std]
#![forbid(unsafe_code)]
#![allow(
    non_upper_case_globals,
    reason = "constants keep the spelling of the public headers"
)]

pub mod cpuid;
pub mod domain;
pub mod emulate;
pub mod entry;
pub mod evtchn;
#[cfg(any(test, feature = "fake"))]
pub mod fake;
pub mod grant;
pub mod guest;
#[cfg(test)]
mod hostile_test;
pub mod hypercall;
pub mod image;
pub mod machine;
pub mod memory;
pub mod misc;
pub mod mmu;
pub mod msr;
pub mod ptwr;
pub mod regs;
pub mod sched;
pub mod time;
pub mod trap;
pub mod vcpu;
pub mod vcpu_op;
pub mod version;

/// What a hypercall gives back: the value for `rax`, or the error whose
/// negative goes there.
pub type Ret = Result<u64, xen_sys::errno::Errno>;

pub use domain::{Config, Domain, MAX_VCPUS, VcpuShared};
pub use machine::{Base, Flush, Machine, Physical};
pub use regs::Regs;
pub use vcpu::Vcpu;

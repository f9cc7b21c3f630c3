//! KVM virtual machines that look like Xen PV domains from inside.
//!
//! One process runs one domain. [`Vmm::build`] makes it in order: memory
//! ([`memory`]), the ring-0 emulator ([`emulator`]), the kernel (`xt-builder`),
//! the virtual machine ([`kvm`]), the back ends ([`devices`]); [`Vmm::run`]
//! runs its virtual CPUs ([`vcpu`]) until the domain ends.
//!
//! The process trusts nothing in guest memory, the emulator's included:
//! everything there is copied out, checked, and never believed again.

#![allow(
    non_upper_case_globals,
    reason = "constants keep the spelling of the public headers"
)]

pub mod backends;
pub mod devices;
pub mod domain;
pub mod emulator;
pub mod evtchn;
pub mod grants;
pub mod host;
pub mod kvm;
mod link;
mod medium;
pub mod memory;
pub mod outside;
pub mod shared;
pub mod shelf;
pub mod tables;
pub mod vcpu;

pub use domain::{DomainSpec, Handle, Role, TEST_GUEST, VcpuStats, Vmm, VmmError};
pub use shared::{CrashReport, DomainExit, Shared, Snapshot};

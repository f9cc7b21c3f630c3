//! Grant tables: being written, every command is unknown so far.

use xen_sys::addr::Vaddr;
use xen_sys::errno::Errno;

use crate::{Domain, Machine, Ret, Vcpu};

/// A domain's grant table.
pub struct GrantTable {}

impl GrantTable {
    /// Version 1. All bits are zero.
    pub const fn new() -> Self {
        Self {}
    }
}

impl Default for GrantTable {
    fn default() -> Self {
        Self::new()
    }
}

/// Frames of the heap for a table of `max_grant_frames`: its own and the
/// status frames of version 2.
pub const fn heap_pages(max_grant_frames: u32) -> u64 {
    // 256 entries of version 2 to a frame, 2048 status words.
    max_grant_frames as u64 + (max_grant_frames as u64).div_ceil(8)
}

/// `HYPERVISOR_grant_table_op` (`xen/include/public/grant_table.h`).
///
/// # Errors
/// `ENOSYS` for an unknown command.
pub fn grant_table_op<M: Machine>(
    _m: &mut M,
    _d: &Domain,
    _v: &mut Vcpu,
    _cmd: u64,
    _uop: Vaddr,
    _count: u64,
) -> Ret {
    Err(Errno::ENOSYS)
}

//! Grant tables: `HYPERVISOR_grant_table_op`.
//!
//! The table is `max_grant_frames` frames of the heap behind the bitmap of
//! owned frames, all of them there from the start; what `setup_table` grows is
//! a number. Version and number are kept in a word in front of it
//! ([`entry::heap_pages`]), so that the host finds every entry from its own
//! configuration and that word.
//!
//! Who maps grants is the host, with [`lookup_for_backend`]. A guest may map
//! and copy what it grants itself.

use xen_sys::addr::{Maddr, Vaddr};
use xen_sys::errno::Errno;
use xen_sys::grant_table::*;
use xen_sys::{DomId, GuestHandle};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::misc::own_domain;
use crate::{Domain, Machine, Ret, Vcpu, guest};

mod copy;
mod entry;
mod map;

pub(crate) use entry::is_table_frame;
pub use entry::{Granted, Use, heap_pages, init_reserved, lookup_for_backend, release_for_backend};
use entry::{Table, status_frames};

/// Mappings a domain may have of its own grants.
const MAPPINGS: usize = 256;

/// A domain's mappings; guarded by a lock in [`Domain`], which also serialises
/// changes of the table's version and size.
pub struct GrantTable {
    mappings: [map::Mapping; MAPPINGS],
}

impl GrantTable {
    /// Nothing is mapped. All bits are zero.
    pub const fn new() -> Self {
        Self {
            mappings: [map::Mapping::FREE; MAPPINGS],
        }
    }
}

impl Default for GrantTable {
    fn default() -> Self {
        Self::new()
    }
}

/// `HYPERVISOR_grant_table_op` (`xen/include/public/grant_table.h`): a command
/// on `count` elements at `uop`, each with a status of its own.
///
/// # Errors
/// `EINVAL` for a count that the command does not take, `EFAULT` for elements
/// that cannot be copied, `ENOSYS` for an unknown command.
pub fn grant_table_op<M: Machine>(
    m: &mut M,
    d: &Domain,
    v: &mut Vcpu,
    cmd: u64,
    uop: Vaddr,
    count: u64,
) -> Ret {
    // The upper bits are Xen's own, for the one command it continues.
    let (cmd, opaque) = (cmd as u32 & 0xfff, cmd as u32 >> 12);
    let count = count as u32;
    if (opaque != 0 && cmd != GNTTABOP_cache_flush) || count > i32::MAX as u32 {
        return Err(Errno::EINVAL);
    }
    let v = &*v;
    match cmd {
        GNTTABOP_map_grant_ref => {
            let mut stale = false;
            let result = each(m, uop, count, |m, op: &mut GnttabMapGrantRef| {
                op.status = map::map(m, d, v, op, &mut stale);
            });
            if stale {
                map::flush(m, d);
            }
            result
        }
        GNTTABOP_unmap_grant_ref => flushing(m, d, |m| {
            each(m, uop, count, |m, op: &mut GnttabUnmapGrantRef| {
                let GnttabUnmapGrantRef {
                    host_addr,
                    dev_bus_addr,
                    handle,
                    ..
                } = *op;
                let unmap = map::Unmap {
                    host_addr,
                    dev_bus_addr,
                    new_addr: 0,
                    handle,
                };
                op.status = map::unmap(m, d, v, &unmap);
            })
        }),
        GNTTABOP_unmap_and_replace => flushing(m, d, |m| {
            each(m, uop, count, |m, op: &mut GnttabUnmapAndReplace| {
                let GnttabUnmapAndReplace {
                    host_addr,
                    new_addr,
                    handle,
                    ..
                } = *op;
                let unmap = map::Unmap {
                    host_addr,
                    dev_bus_addr: 0,
                    new_addr,
                    handle,
                };
                op.status = map::unmap(m, d, v, &unmap);
            })
        }),
        GNTTABOP_copy => each(m, uop, count, |m, op: &mut GnttabCopy| {
            op.status = copy::copy(m, d, op);
        }),
        GNTTABOP_transfer => each(m, uop, count, |m, op: &mut GnttabTransfer| {
            op.status = copy::transfer(m, d, op);
        }),
        GNTTABOP_swap_grant_ref => each(m, uop, count, |m, op: &mut GnttabSwapGrantRef| {
            op.status = swap(m, d, op);
        }),
        GNTTABOP_setup_table => one(m, uop, count, |m, op| setup_table(m, d, op)),
        GNTTABOP_query_size => one(m, uop, count, |m, op| query_size(m, d, op)),
        GNTTABOP_get_status_frames => one(m, uop, count, |m, op| get_status_frames(m, d, op)),
        GNTTABOP_set_version => set_version(m, d, uop),
        GNTTABOP_get_version => get_version(m, d, uop),
        GNTTABOP_cache_flush => cache_flush(m, d, uop, count),
        _ => Err(Errno::ENOSYS),
    }
}

/// Runs a command on each element.
fn each<M: Machine, T: FromBytes + IntoBytes + Immutable>(
    m: &mut M,
    uop: Vaddr,
    count: u32,
    mut command: impl FnMut(&mut M, &mut T),
) -> Ret {
    for index in 0..u64::from(count) {
        if m.is_ending() {
            break;
        }
        let at = guest::element::<T>(uop, index);
        let mut op: T = guest::get(m, at)?;
        command(m, &mut op);
        guest::put(m, at, &op)?;
    }
    Ok(0)
}

/// Runs a command that takes one element and no more.
fn one<M: Machine, T: FromBytes + IntoBytes + Immutable>(
    m: &mut M,
    uop: Vaddr,
    count: u32,
    command: impl FnOnce(&mut M, &mut T),
) -> Ret {
    if count != 1 {
        return Err(Errno::EINVAL);
    }
    let mut op: T = guest::get(m, uop)?;
    command(m, &mut op);
    guest::put(m, uop, &op)?;
    Ok(0)
}

/// Flushes after a batch, however far it came.
fn flushing<M: Machine>(m: &mut M, d: &Domain, batch: impl FnOnce(&mut M) -> Ret) -> Ret {
    let result = batch(m);
    map::flush(m, d);
    result
}

/// The status for a domain that is not the caller.
fn domain_status(d: &Domain, dom: DomId) -> Result<(), i16> {
    own_domain(d, dom).map_err(|error| match error {
        Errno::EPERM => GNTST_permission_denied,
        _ => GNTST_bad_domain,
    })
}

fn setup_table<M: Machine>(m: &mut M, d: &Domain, op: &mut GnttabSetupTable) {
    op.status = domain_status(d, op.dom).err().unwrap_or_else(|| {
        let _grants = d.grant.lock();
        if op.nr_frames > d.config.max_grant_frames {
            return GNTST_general_error;
        }
        let mut table = Table::of(m, &d.config);
        if op.nr_frames > table.frames {
            table.frames = op.nr_frames;
            table.store(m);
        }
        let frames = (0..op.nr_frames).map(|index| table.shared_frame(index).0);
        put_frames(m, op.frame_list, frames)
    });
}

fn get_status_frames<M: Machine>(m: &mut M, d: &Domain, op: &mut GnttabGetStatusFrames) {
    op.status = domain_status(d, op.dom).err().unwrap_or_else(|| {
        let table = Table::of(m, &d.config);
        let there = if table.version == 2 {
            status_frames(table.frames)
        } else {
            0
        };
        if op.nr_frames > there {
            return GNTST_general_error;
        }
        let frames = (0..op.nr_frames).map(|index| table.status_frame(index).0);
        put_frames(m, op.frame_list, frames)
    });
}

fn put_frames<M: Machine>(m: &mut M, list: GuestHandle, frames: impl Iterator<Item = u64>) -> i16 {
    for (index, mfn) in (0..).zip(frames) {
        if guest::put(m, guest::element::<u64>(list.vaddr(), index), &mfn).is_err() {
            return GNTST_bad_virt_addr;
        }
    }
    GNTST_okay
}

fn query_size<M: Machine>(m: &mut M, d: &Domain, op: &mut GnttabQuerySize) {
    op.status = domain_status(d, op.dom).err().unwrap_or_else(|| {
        op.nr_frames = Table::of(m, &d.config).frames;
        op.max_nr_frames = d.config.max_grant_frames;
        GNTST_okay
    });
}

fn get_version<M: Machine>(m: &mut M, d: &Domain, uop: Vaddr) -> Ret {
    let mut op: GnttabGetVersion = guest::get(m, uop)?;
    own_domain(d, op.dom)?;
    op.version = Table::of(m, &d.config).version;
    guest::put(m, uop, &op)?;
    Ok(0)
}

fn set_version<M: Machine>(m: &mut M, d: &Domain, uop: Vaddr) -> Ret {
    let op: GnttabSetVersion = guest::get(m, uop)?;
    let result = match op.version {
        1 | 2 => switch(m, d, op.version),
        _ => Err(Errno::EINVAL),
    };
    let version = Table::of(m, &d.config).version;
    guest::put(m, uop, &GnttabSetVersion { version })?;
    result
}

const RESERVED: u32 = GNTTAB_NR_RESERVED_ENTRIES as u32;

/// Clears the table and makes it one of the other version. The entries of the
/// toolstack survive, in use or not; any other in use forbids it.
fn switch<M: Machine>(m: &mut M, d: &Domain, version: u32) -> Ret {
    let _grants = d.grant.lock();
    let old = Table::of(m, &d.config);
    if old.version == version {
        return Ok(0);
    }
    if (RESERVED..old.entries()).any(|gref| old.in_use(m, gref) != 0) {
        return Err(Errno::EBUSY);
    }
    let mut kept = [(0, 0); GNTTAB_NR_RESERVED_ENTRIES];
    for (gref, keep) in (0..).zip(&mut kept) {
        *keep = reserved_entry(m, &old, gref);
    }
    for index in 0..old.frames {
        m.clear_page(old.shared_frame(index));
    }
    for index in 0..status_frames(d.config.max_grant_frames) {
        m.clear_page(old.status_frame(index));
    }
    let mut new = old;
    new.version = version;
    for (gref, (header, frame)) in (0..).zip(kept) {
        let at = new.entry(gref);
        if version == 1 {
            m.store64(at, u64::from(header) | frame << 32);
        } else {
            let bits = header as u16 & (GTF_reading | GTF_writing);
            m.store64(Maddr(at.0 + 8), frame);
            new.set_use(m, gref, bits);
            m.store64(at, u64::from(header & !u32::from(bits)));
        }
    }
    new.store(m);
    Ok(0)
}

/// A reserved entry as flags (use bits included) with the domain above, and
/// frame. Version 2 entries that version 1 cannot express are dropped.
fn reserved_entry<M: Machine>(m: &M, table: &Table, gref: u32) -> (u32, u64) {
    let at = table.entry(gref);
    let header = m.load32(at);
    if table.version == 1 {
        return (header, u64::from(m.load32(Maddr(at.0 + 4))));
    }
    if header as u16 & GTF_type_mask != GTF_permit_access {
        return (0, 0);
    }
    (
        header | u32::from(table.in_use(m, gref)),
        m.load64(Maddr(at.0 + 8)),
    )
}

/// `GNTTABOP_swap_grant_ref`; gives the status.
fn swap<M: Machine>(m: &M, d: &Domain, op: &GnttabSwapGrantRef) -> i16 {
    let _grants = d.grant.lock();
    let table = Table::of(m, &d.config);
    let (a, b) = (op.ref_a.0, op.ref_b.0);
    if a >= table.entries() || b >= table.entries() {
        return GNTST_bad_gntref;
    }
    if a == b {
        return GNTST_okay;
    }
    if table.in_use(m, a) != 0 || table.in_use(m, b) != 0 {
        return GNTST_eagain;
    }
    let (at_a, at_b) = (table.entry(a), table.entry(b));
    for offset in (0..table.entry_size()).step_by(8).map(u64::from) {
        let word = m.load64(Maddr(at_a.0 + offset));
        m.store64(Maddr(at_a.0 + offset), m.load64(Maddr(at_b.0 + offset)));
        m.store64(Maddr(at_b.0 + offset), word);
    }
    GNTST_okay
}

/// `GNTTABOP_cache_flush`. Memory is coherent; the checks are Xen's.
fn cache_flush<M: Machine>(m: &mut M, d: &Domain, uop: Vaddr, count: u32) -> Ret {
    for index in 0..u64::from(count) {
        if m.is_ending() {
            break;
        }
        let at = guest::element::<GnttabCacheFlush>(uop, index);
        let op: GnttabCacheFlush = guest::get(m, at)?;
        let end = usize::from(op.offset) + usize::from(op.length);
        if usize::from(op.offset) >= xen_sys::addr::PAGE_SIZE
            || end > xen_sys::addr::PAGE_SIZE
            || op.op & !(GNTTAB_CACHE_CLEAN | GNTTAB_CACHE_INVAL) != 0
        {
            return Err(Errno::EINVAL);
        }
        if op.length == 0 || op.op == 0 {
            continue;
        }
        if !crate::memory::is_owned(m, d, Maddr(op.a).frame()) {
            return Err(Errno::EPERM);
        }
        if op.op == GNTTAB_CACHE_INVAL {
            // x86 has no way to drop lines unwritten.
            return Err(Errno::EOPNOTSUPP);
        }
    }
    Ok(0)
}

#[cfg(test)]
mod tests;

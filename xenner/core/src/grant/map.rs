//! Mapping grants. A domU's only granter is itself: dom0's grants are not for
//! it, and other domains there are none.

use xen_sys::DomId;
use xen_sys::GrantRef;
use xen_sys::addr::{Maddr, Mfn, Vaddr};
use xen_sys::grant_table::*;

use super::entry::{Table, Use};
use super::{GrantTable, MAPPINGS};
use crate::mmu::{self, pte};
use crate::{Domain, Flush, Machine, Vcpu, memory};

/// One mapping, named by its index, the handle.
#[derive(Clone, Copy)]
pub(super) struct Mapping {
    /// `GNTMAP_*`; 0 for a free slot.
    flags: u32,
    gref: GrantRef,
    mfn: Mfn,
}

impl Mapping {
    pub const FREE: Self = Self {
        flags: 0,
        gref: GrantRef(0),
        mfn: Mfn(0),
    };

    fn writes(&self) -> bool {
        self.flags & GNTMAP_readonly == 0
    }
}

/// The other mappings of a grant: whether there are, and whether any writes.
fn others(mappings: &[Mapping; MAPPINGS], gref: GrantRef) -> (bool, bool) {
    let same = || {
        mappings
            .iter()
            .filter(|it| it.flags != 0 && it.gref == gref)
    };
    (same().next().is_some(), same().any(Mapping::writes))
}

/// Clears the use bits of a grant that no mapping needs any more.
fn unpin<M: Machine>(m: &M, table: &Table, mappings: &[Mapping; MAPPINGS], gref: GrantRef) {
    match others(mappings, gref) {
        (false, _) => table.clear_use(m, gref.0, GTF_reading | GTF_writing),
        (true, false) => table.clear_use(m, gref.0, GTF_writing),
        (true, true) => {}
    }
}

/// `GNTTABOP_map_grant_ref`; gives the status. `stale` is set when a mapping
/// was overwritten: the caller then flushes ([`flush`]), holding no lock, since
/// a virtual CPU that waits for one does not answer.
pub(super) fn map<M: Machine>(
    m: &mut M,
    d: &Domain,
    v: &Vcpu,
    op: &mut GnttabMapGrantRef,
    stale: &mut bool,
) -> i16 {
    if op.flags & (GNTMAP_device_map | GNTMAP_host_map) == 0 {
        return GNTST_bad_gntref;
    }
    // Xen takes no DOMID_SELF here.
    match op.dom {
        DomId(domid) if domid == d.config.domid => {}
        DomId(0) => return GNTST_general_error,
        _ => return GNTST_bad_domain,
    }
    let mut grants = d.grant.lock();
    let mappings = &mut grants.mappings;
    let Some(handle) = mappings.iter().position(|it| it.flags == 0) else {
        return GNTST_no_space;
    };
    let table = Table::of(m, &d.config);
    let write = op.flags & GNTMAP_readonly == 0;
    let granted = match table.pin(m, &d.config, op.ref_, op.dom, write, Use::Map) {
        Ok(granted) => granted,
        Err(status) => return status,
    };
    if op.flags & GNTMAP_host_map != 0 {
        match enter(m, d, v, op, granted.mfn) {
            Some(old) => *stale |= old & pte::PRESENT != 0,
            None => {
                unpin(m, &table, mappings, op.ref_);
                return GNTST_general_error;
            }
        }
    }
    if let Some(slot) = mappings.get_mut(handle) {
        *slot = Mapping {
            flags: op.flags,
            gref: op.ref_,
            mfn: granted.mfn,
        };
    }
    op.handle = handle as u32;
    op.dev_bus_addr = granted.mfn.addr().0;
    GNTST_okay
}

/// The page table entry an operation names.
fn pte_slot<M: Machine>(m: &M, d: &Domain, v: &Vcpu, addr: u64, flags: u32) -> Option<Maddr> {
    if flags & GNTMAP_contains_pte == 0 {
        return l1_slot(m, v, addr);
    }
    let at = Maddr(addr);
    (addr & 7 == 0 && memory::is_owned(m, d, at.frame())).then_some(at)
}

fn l1_slot<M: Machine>(m: &M, v: &Vcpu, addr: u64) -> Option<Maddr> {
    let va = Vaddr(addr);
    if !va.is_canonical() || mmu::in_hole(va) {
        return None;
    }
    mmu::l1_slot(m, v.kernel_l4, va)
}

/// Makes the page table entry of a mapping, and gives the one before.
fn enter<M: Machine>(
    m: &mut M,
    d: &Domain,
    v: &Vcpu,
    op: &GnttabMapGrantRef,
    mfn: Mfn,
) -> Option<u64> {
    let at = pte_slot(m, d, v, op.host_addr, op.flags)?;
    let mut entry = mfn.addr().0 | pte::PRESENT | pte::USER | pte::ACCESSED | pte::DIRTY;
    if op.flags & GNTMAP_readonly == 0 {
        entry |= pte::WRITABLE;
    }
    // XENFEAT_gnttab_map_avail_bits: three bits for the guest's own use.
    entry |= u64::from(op.flags >> 16 & 7) << 9;
    let old = m.load64(at);
    m.store_pte(at, entry);
    Some(old)
}

fn all_vcpus(d: &Domain) -> u64 {
    u64::MAX >> (64 - d.config.nr_vcpus.clamp(1, 64))
}

/// What `GNTTABOP_unmap_grant_ref` and `GNTTABOP_unmap_and_replace` ask for.
pub(super) struct Unmap {
    pub host_addr: u64,
    pub dev_bus_addr: u64,
    /// The page at this address takes the mapping's place; 0 for none.
    pub new_addr: u64,
    pub handle: u32,
}

/// Ends a mapping; gives the status. The caller flushes once for a batch
/// ([`flush`]).
pub(super) fn unmap<M: Machine>(m: &mut M, d: &Domain, v: &Vcpu, op: &Unmap) -> i16 {
    let mut grants = d.grant.lock();
    let GrantTable { mappings } = &mut *grants;
    let Some(mapping) = mappings
        .get(op.handle as usize)
        .copied()
        .filter(|it| it.flags != 0)
    else {
        return GNTST_bad_handle;
    };
    let mut flags = mapping.flags;
    if op.dev_bus_addr != 0 && flags & GNTMAP_device_map != 0 {
        if op.dev_bus_addr != mapping.mfn.addr().0 {
            return GNTST_bad_dev_addr;
        }
        flags &= !GNTMAP_device_map;
    }
    if op.host_addr != 0 && flags & GNTMAP_host_map != 0 {
        if !replace(m, d, v, op, &mapping) {
            return GNTST_general_error;
        }
        flags &= !GNTMAP_host_map;
    }
    let ended = flags & (GNTMAP_device_map | GNTMAP_host_map) == 0;
    if let Some(slot) = mappings.get_mut(op.handle as usize) {
        *slot = if ended {
            Mapping::FREE
        } else {
            Mapping { flags, ..mapping }
        };
    }
    if ended {
        unpin(m, &Table::of(m, &d.config), mappings, mapping.gref);
    }
    GNTST_okay
}

/// Clears the page table entry of a mapping, or puts another page there.
fn replace<M: Machine>(m: &mut M, d: &Domain, v: &Vcpu, op: &Unmap, mapping: &Mapping) -> bool {
    if op.new_addr != 0 && mapping.flags & GNTMAP_contains_pte != 0 {
        return false;
    }
    let Some(at) = pte_slot(m, d, v, op.host_addr, mapping.flags) else {
        return false;
    };
    let old = m.load64(at);
    if old & pte::PRESENT == 0 || old & pte::FRAME != mapping.mfn.addr().0 {
        return false;
    }
    let mut new = 0;
    if op.new_addr != 0 {
        let Some(from) = l1_slot(m, v, op.new_addr) else {
            return false;
        };
        new = m.load64(from);
        m.store_pte(from, 0);
    }
    m.store_pte(at, new);
    true
}

/// Drops what the domain may have cached of mappings that ended.
pub(super) fn flush<M: Machine>(m: &mut M, d: &Domain) {
    m.flush_vcpus(all_vcpus(d), Flush::All);
}

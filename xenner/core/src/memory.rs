//! Who owns which frame, and `HYPERVISOR_memory_op`.
//!
//! The domain's memory lies in the `ram_pages` frames from `ram_base` on. A
//! bitmap says which of them the domain owns now, `max_pages` at most; the rest
//! is free and comes back by `XENMEM_populate_physmap` and its like.
//!
//! A frame given back is told to the host, which may take the memory away. As
//! no frame is reference counted, one that is given back while it is still
//! mapped stays reachable for the guest; it holds nobody else's data.

use core::sync::atomic::Ordering;

use core::mem::offset_of;

use xen_sys::addr::{DomId, Maddr, Mfn, PAGE_SHIFT, Vaddr};
use xen_sys::arch_x86::ArchSharedInfo;
use xen_sys::errno::Errno;
use xen_sys::memory::*;
use xen_sys::xen::{DOMID_SELF, SharedInfo};

use crate::domain::Config;
use crate::misc::own_domain;
use crate::{Domain, Machine, Physical, Ret, Vcpu, guest};

mod bitmap;
mod exchange;

use bitmap::Bitmap;
pub use bitmap::{bitmap_pages, init};

/// Largest extent a domU may ask for, as an order (Xen's default for
/// `memop-max-order`).
const MAX_ORDER: u32 = 9;
/// Bits of `cmd` that hold the command; above is the extent to start with.
const MEMOP_EXTENT_SHIFT: u32 = 6;
/// Frames of the largest extent. The bitmap starts at a multiple of it.
const CHUNK: u64 = 1 << MAX_ORDER;

/// What changes in the course of the domain's life; guarded by a lock in
/// [`Domain`].
pub struct Memory {
    /// Index of the leaf word to search first.
    hint: u64,
    /// Frames the current chunk of `XENMEM_exchange` gives.
    given: [u64; CHUNK as usize],
    /// The first frames of the extents it gets.
    got: [u64; CHUNK as usize],
}

impl Memory {
    /// The domain owns what it owns at start. All bits are zero.
    pub const fn new() -> Self {
        Self {
            hint: 0,
            given: [0; CHUNK as usize],
            got: [0; CHUNK as usize],
        }
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

/// Frames the heap of a domain must have (`Config::heap_pages`): the bitmap
/// and the grant table.
pub const fn heap_pages(ram_pages: u64, max_grant_frames: u32) -> u64 {
    bitmap_pages(ram_pages) + crate::grant::heap_pages(max_grant_frames)
}

/// Whether the domain owns a frame.
pub fn is_owned<M: Machine>(m: &M, d: &Domain, mfn: Mfn) -> bool {
    frame_is_owned(m, &d.config, mfn)
}

/// The same from a configuration, as the host has one.
#[inline]
pub fn frame_is_owned<M: Physical>(m: &M, config: &Config, mfn: Mfn) -> bool {
    mfn.0 >= config.ram_base.0
        && mfn.0 - config.ram_base.0 < config.ram_pages
        && Bitmap::of(config).get(m, mfn.0)
}

/// Frames the domain owns now.
pub fn tot_pages(d: &Domain) -> u64 {
    d.config
        .nr_pages
        .saturating_add_signed(d.balance.load(Ordering::Relaxed))
}

/// Takes 2^order free frames for the domain and clears them.
fn alloc<M: Machine>(m: &mut M, d: &Domain, order: u32, limit: u64) -> Option<u64> {
    let mut memory = d.memory.lock();
    let mfn = alloc_locked(m, d, &mut memory, order, limit)?;
    drop(memory);
    for frame in mfn..mfn + (1 << order) {
        m.clear_page(Mfn(frame));
    }
    Some(mfn)
}

fn alloc_locked<M: Machine>(
    m: &M,
    d: &Domain,
    memory: &mut Memory,
    order: u32,
    limit: u64,
) -> Option<u64> {
    if tot_pages(d) + (1 << order) > d.config.max_pages {
        return None;
    }
    let map = Bitmap::of(&d.config);
    let mfn = match map.find(m, memory.hint, order, limit) {
        None if memory.hint != 0 => map.find(m, 0, order, limit)?,
        other => other?,
    };
    map.mark(m, mfn, 1 << order, true);
    d.balance.fetch_add(1 << order, Ordering::Relaxed);
    if order == 0 {
        memory.hint = (mfn - map.base) / 64;
    }
    Some(mfn)
}

/// Takes a frame from the domain; false when it does not own it.
fn release<M: Machine>(m: &mut M, d: &Domain, memory: &mut Memory, mfn: u64) -> bool {
    if !is_owned(m, d, Mfn(mfn)) {
        return false;
    }
    let map = Bitmap::of(&d.config);
    map.mark(m, mfn, 1, false);
    d.balance.fetch_sub(1, Ordering::Relaxed);
    memory.hint = memory.hint.min((mfn - map.base) / 64);
    crate::mmu::forget_table(m, d, Mfn(mfn));
    m.set_m2p(Mfn(mfn), INVALID_M2P_ENTRY);
    true
}

/// Takes one frame from the domain and tells the host; false when the domain
/// does not own it.
pub(crate) fn give_up<M: Machine>(m: &mut M, d: &Domain, mfn: Mfn) -> bool {
    let mut memory = d.memory.lock();
    let owned = release(m, d, &mut memory, mfn.0);
    if owned {
        m.release_frames(mfn, 1);
    }
    owned
}

/// `HYPERVISOR_memory_op` (`xen/include/public/memory.h`).
///
/// The commands that take extents return the number done and no error: what a
/// domU gets for a bad argument is 0.
///
/// # Errors
/// Xen's own for each command; `ENOSYS` for an unknown one.
pub fn memory_op<M: Machine>(m: &mut M, d: &Domain, _v: &mut Vcpu, cmd: u64, arg: Vaddr) -> Ret {
    let start = cmd >> MEMOP_EXTENT_SHIFT;
    let command = cmd as u32 & ((1 << MEMOP_EXTENT_SHIFT) - 1);
    match command {
        XENMEM_increase_reservation | XENMEM_decrease_reservation | XENMEM_populate_physmap => {
            reservation(m, d, command, start, arg)
        }
        XENMEM_exchange => exchange::exchange(m, d, arg),
        XENMEM_add_to_physmap_batch => add_to_physmap_batch(m, d, start, arg),
        _ if start != 0 => Err(match command {
            XENMEM_maximum_ram_page
            | XENMEM_current_reservation
            | XENMEM_maximum_reservation
            | XENMEM_maximum_gpfn
            | XENMEM_add_to_physmap
            | XENMEM_remove_from_physmap
            | XENMEM_claim_pages
            | XENMEM_get_vnumainfo
            | XENMEM_reserved_device_memory_map => Errno::EINVAL,
            _ => Errno::ENOSYS,
        }),
        XENMEM_maximum_ram_page => Ok(d.config.m2p_entries),
        XENMEM_current_reservation | XENMEM_maximum_reservation | XENMEM_maximum_gpfn => {
            own_domain(d, guest::get(m, arg)?)?;
            Ok(match command {
                XENMEM_current_reservation => tot_pages(d),
                XENMEM_maximum_reservation => d.config.max_pages,
                _ => maximum_gpfn(m, d),
            })
        }
        XENMEM_memory_map => memory_map(m, d, arg),
        XENMEM_machphys_mapping => machphys_mapping(m, d, arg),
        XENMEM_machphys_mfn_list | XENMEM_machphys_compat_mfn_list => {
            // No frame of the table is for the guest to map by number.
            let mut list: XenMachphysMfnList = guest::get(m, arg)?;
            list.nr_extents = 0;
            guest::put(m, arg, &list)?;
            Ok(0)
        }
        XENMEM_reserved_device_memory_map => no_device_memory(m, arg),
        XENMEM_get_sharing_freed_pages | XENMEM_get_sharing_shared_pages => Ok(0),
        _ => translated(m, d, command, arg),
    }
}

/// The commands for translated domains and for the privileged.
fn translated<M: Machine>(m: &mut M, d: &Domain, command: u32, arg: Vaddr) -> Ret {
    match command {
        XENMEM_add_to_physmap => add_to_physmap(d, guest::get(m, arg)?),
        XENMEM_remove_from_physmap => {
            let op: XenRemoveFromPhysmap = guest::get(m, arg)?;
            own_domain(d, op.domid).and(Err(Errno::EACCES))
        }
        XENMEM_claim_pages => {
            let op: XenMemoryReservation = guest::get(m, arg)?;
            if !op.extent_start.is_null() || op.extent_order != 0 || op.mem_flags != 0 {
                return Err(Errno::EINVAL);
            }
            own_domain(d, op.domid).and(Err(Errno::EPERM))
        }
        XENMEM_get_vnumainfo => {
            let op: XenVnumaTopologyInfo = guest::get(m, arg)?;
            if op.pad != 0 {
                return Err(Errno::EINVAL);
            }
            own_domain(d, op.domid).and(Err(Errno::EOPNOTSUPP))
        }
        XENMEM_acquire_resource => {
            let op: XenMemAcquireResource = guest::get(m, arg)?;
            if op.pad != 0 {
                return Err(Errno::EINVAL);
            }
            // Its own memory is not among the resources, nor does it name itself.
            if op.domid == DOMID_SELF {
                return Err(Errno::ESRCH);
            }
            own_domain(d, op.domid).and(Err(Errno::EPERM))
        }
        XENMEM_set_pod_target | XENMEM_get_pod_target => {
            let op: XenPodTarget = guest::get(m, arg)?;
            own_domain(d, op.domid).and(Err(Errno::EINVAL))
        }
        XENMEM_access_op => {
            // struct xen_mem_access_op: op, access, domid, ...
            let [_, domid, ..]: [u16; 12] = guest::get(m, arg)?;
            let domid = DomId(domid);
            own_domain(d, domid).and(Err(Errno::EPERM))
        }
        XENMEM_machine_memory_map | XENMEM_set_memory_map => Err(Errno::EPERM),
        _ => Err(Errno::ENOSYS),
    }
}

fn add_to_physmap(d: &Domain, op: XenAddToPhysmap) -> Ret {
    if op.space == XENMAPSPACE_gmfn_foreign {
        return Err(Errno::ENOSYS);
    }
    own_domain(d, op.domid).and(Err(Errno::EACCES))
}

/// Each entry fails by itself; the call succeeds.
fn add_to_physmap_batch<M: Machine>(m: &mut M, d: &Domain, start: u64, arg: Vaddr) -> Ret {
    let op: XenAddToPhysmapBatch = guest::get(m, arg)?;
    if u32::from(op.space) == XENMAPSPACE_gmfn_range {
        return Err(Errno::EOPNOTSUPP);
    }
    if op.size == 0 {
        return Ok(0);
    }
    own_domain(d, op.domid)?;
    if u64::from(op.size) < start {
        return Err(Errno::EILSEQ);
    }
    for index in start..u64::from(op.size) {
        let error = Errno::EACCES.ret() as i32;
        guest::put(m, guest::element::<i32>(op.errs.vaddr(), index), &error)?;
    }
    Ok(0)
}

/// What the guest says it is: Xen knows no better for a PV domain.
fn maximum_gpfn<M: Machine>(m: &M, d: &Domain) -> u64 {
    let offset = offset_of!(SharedInfo, arch) + offset_of!(ArchSharedInfo, max_pfn);
    m.load64(Maddr(d.config.shared_info.addr().0 + offset as u64))
        .max(1)
        - 1
}

/// The pseudo-physical map that xl gives a PV domain: RAM from 0 to `maxmem`.
fn memory_map<M: Machine>(m: &mut M, d: &Domain, arg: Vaddr) -> Ret {
    let mut map: XenMemoryMap = guest::get(m, arg)?;
    map.nr_entries = map.nr_entries.min(1);
    if map.nr_entries == 1 {
        let ram = E820Entry {
            addr: 0,
            size: d.config.max_pages << PAGE_SHIFT,
            kind: E820_RAM,
        };
        guest::put(m, map.buffer.vaddr(), &ram)?;
    }
    guest::put(m, arg, &map)?;
    Ok(0)
}

fn machphys_mapping<M: Machine>(m: &mut M, d: &Domain, arg: Vaddr) -> Ret {
    let config = &d.config;
    let mapping = XenMachphysMapping {
        v_start: Vaddr(config.m2p),
        v_end: Vaddr(config.m2p + config.m2p_entries * 8),
        max_mfn: config.m2p_entries.max(1) - 1,
    };
    guest::put(m, arg, &mapping)?;
    Ok(0)
}

/// `XENMEM_reserved_device_memory_map` without devices: an empty map.
fn no_device_memory<M: Machine>(m: &mut M, arg: Vaddr) -> Ret {
    // struct xen_reserved_device_memory_map: flags, nr_entries, ...
    let [flags, _]: [u32; 2] = guest::get(m, arg)?;
    if flags & !1 != 0 {
        return Err(Errno::EINVAL);
    }
    guest::put(m, Vaddr(arg.0.wrapping_add(4)), &0u32)?;
    Ok(0)
}

/// The frame number above all that the caller can use.
fn limit_of(mem_flags: u32) -> Result<u64, Errno> {
    let bits = XENMEMF_get_address_bits(mem_flags);
    match bits {
        0 | 52.. => Ok(u64::MAX),
        _ if bits <= PAGE_SHIFT => Err(Errno::EINVAL),
        _ => Ok(1 << (bits - PAGE_SHIFT)),
    }
}

fn reservation<M: Machine>(m: &mut M, d: &Domain, command: u32, start: u64, arg: Vaddr) -> Ret {
    let Ok(op) = guest::get::<XenMemoryReservation>(m, arg) else {
        return Ok(start);
    };
    // Xen could not continue a longer list.
    if op.nr_extents > u64::from(u32::MAX >> MEMOP_EXTENT_SHIFT)
        || start >= op.nr_extents
        || own_domain(d, op.domid) == Err(Errno::ESRCH)
    {
        return Ok(start);
    }
    let limit = limit_of(op.mem_flags)?;
    if op.mem_flags & XENMEMF_vnode != 0 && command != XENMEM_decrease_reservation {
        // The domain has no virtual nodes.
        return Err(Errno::EINVAL);
    }
    if own_domain(d, op.domid).is_err() || op.extent_order > MAX_ORDER {
        return Ok(start);
    }
    if command == XENMEM_decrease_reservation {
        return Ok(decrease(m, d, &op, start));
    }
    for done in start..op.nr_extents {
        let at = guest::element::<u64>(op.extent_start.vaddr(), done);
        let step = match command {
            XENMEM_increase_reservation => increase(m, d, &op, limit, at),
            _ => populate(m, d, &op, limit, at),
        };
        if step.is_none() {
            return Ok(done);
        }
    }
    Ok(op.nr_extents)
}

/// One extent of `XENMEM_increase_reservation`; `None` stops the call.
fn increase<M: Machine>(
    m: &mut M,
    d: &Domain,
    op: &XenMemoryReservation,
    limit: u64,
    at: Vaddr,
) -> Option<()> {
    let mfn = alloc(m, d, op.extent_order, limit)?;
    if op.extent_start.is_null() {
        return Some(());
    }
    guest::put(m, at, &mfn).ok()
}

/// One extent of `XENMEM_populate_physmap`.
fn populate<M: Machine>(
    m: &mut M,
    d: &Domain,
    op: &XenMemoryReservation,
    limit: u64,
    at: Vaddr,
) -> Option<()> {
    let pfn: u64 = guest::get(m, at).ok()?;
    if op.mem_flags & XENMEMF_populate_on_demand != 0 {
        return None;
    }
    let mfn = alloc(m, d, op.extent_order, limit)?;
    for offset in 0..1 << op.extent_order {
        m.set_m2p(Mfn(mfn + offset), pfn.wrapping_add(offset));
    }
    guest::put(m, at, &mfn).ok()
}

/// `XENMEM_decrease_reservation`. As in Xen, the frames in front of one that
/// is not the domain's are gone.
///
/// The lock is held until the host has been told: a frame that is free may be
/// handed out at once, and must not be taken away then.
fn decrease<M: Machine>(m: &mut M, d: &Domain, op: &XenMemoryReservation, start: u64) -> u64 {
    let mut memory = d.memory.lock();
    let mut run = Run { first: 0, count: 0 };
    let mut done = start;
    'list: while done < op.nr_extents {
        let at = guest::element::<u64>(op.extent_start.vaddr(), done);
        let Ok(first) = guest::get::<u64>(m, at) else {
            break;
        };
        for offset in 0..1 << op.extent_order {
            let mfn = first.wrapping_add(offset);
            // A page table in force keeps its contents, for the CPU's sake.
            let table = crate::mmu::is_table(m, d, Mfn(mfn));
            if !release(m, d, &mut memory, mfn) {
                break 'list;
            }
            if !table {
                run.add(m, mfn);
            }
        }
        done += 1;
    }
    run.flush(m);
    done
}

/// Frames given back one after the other, to be told to the host in one go.
struct Run {
    first: u64,
    count: u64,
}

impl Run {
    fn add<M: Machine>(&mut self, m: &mut M, mfn: u64) {
        if self.count != 0 && mfn == self.first + self.count {
            self.count += 1;
        } else if self.count != 0 && mfn + 1 == self.first {
            self.first = mfn;
            self.count += 1;
        } else {
            self.flush(m);
            (self.first, self.count) = (mfn, 1);
        }
    }

    fn flush<M: Machine>(&mut self, m: &mut M) {
        if self.count != 0 {
            m.release_frames(Mfn(self.first), self.count);
            self.count = 0;
        }
    }
}

#[cfg(test)]
mod tests;

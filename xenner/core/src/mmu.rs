//! Page tables, descriptor tables, TLB: the hypercalls of direct paging.
//!
//! Guest page tables hold machine frame numbers and are used by the CPU as
//! they are. Two things are added to what the guest writes. Every present
//! entry needs the user bit, since the guest's kernel runs in ring 3: entries
//! written by hypercall get it at once, entries the kernel stored itself in a
//! table it had not pinned yet get it at the first fault
//! ([`admit_ring3`]). And every top-level table carries the emulator's
//! own entries in Xen's hole, slots 256 to 271 ([`install_hole`]).

use core::sync::atomic::Ordering;

use xen_sys::addr::{DomId, Maddr, Mfn, Vaddr};
use xen_sys::arch_x86::{FIRST_RESERVED_GDT_ENTRY, HYPERVISOR_VIRT_END, HYPERVISOR_VIRT_START};
use xen_sys::errno::Errno;
use xen_sys::xen::*;

use crate::domain::VCPU_UP;
use crate::machine::Flush;
use crate::{Domain, Machine, Ret, Vcpu, grant, guest, memory};

/// Page table entry bits.
pub mod pte {
    #![allow(missing_docs, reason = "named in the processor manuals")]
    pub const PRESENT: u64 = 1 << 0;
    pub const WRITABLE: u64 = 1 << 1;
    pub const USER: u64 = 1 << 2;
    pub const ACCESSED: u64 = 1 << 5;
    pub const DIRTY: u64 = 1 << 6;
    pub const HUGE: u64 = 1 << 7;
    pub const GLOBAL: u64 = 1 << 8;
    /// PWT, PCD and, at the lowest level, PAT.
    pub const CACHE: u64 = 1 << 3 | 1 << 4 | 1 << 7;
    pub const FRAME: u64 = 0x000f_ffff_ffff_f000;
}

const HOLE_FIRST: u64 = 256;
const HOLE_LAST: u64 = 271;

/// The address of the entry that maps `va` in a table of the given level
/// (4 is the top).
fn slot(table: Mfn, va: Vaddr, level: u32) -> Maddr {
    let index = va.0 >> (12 + 9 * (level - 1)) & 511;
    table.addr().offset(index * 8)
}

fn frame_of(entry: u64) -> Mfn {
    Mfn((entry & pte::FRAME) >> 12)
}

/// Finds the entry that maps `va` in the lowest table, without looking at it.
/// `None` when a table on the way is missing.
pub fn l1_slot<M: Machine>(m: &M, l4: Mfn, va: Vaddr) -> Option<Maddr> {
    walk(m, l4, va).map(|(slot, _)| slot)
}

/// The same, with the bits that all entries above have in common.
pub(crate) fn walk<M: Machine>(m: &M, l4: Mfn, va: Vaddr) -> Option<(Maddr, u64)> {
    let mut table = l4;
    let mut common = u64::MAX;
    for level in [4, 3, 2] {
        if !m.is_ram(table) {
            return None;
        }
        let entry = m.load64(slot(table, va, level));
        if entry & pte::PRESENT == 0 || entry & pte::HUGE != 0 {
            return None;
        }
        common &= entry;
        table = frame_of(entry);
    }
    m.is_ram(table).then(|| (slot(table, va, 1), common))
}

/// Adds the user bit to the present entries that map `va`. True when one
/// lacked it, so that the access is worth another try.
pub fn admit_ring3<M: Machine>(m: &mut M, v: &Vcpu, va: Vaddr) -> bool {
    if in_hole(va) {
        return false;
    }
    let mut table = if v.in_kernel { v.kernel_l4 } else { v.user_l4 };
    let mut changed = false;
    for level in [4, 3, 2, 1] {
        if !m.is_ram(table) {
            break;
        }
        let at = slot(table, va, level);
        let entry = m.load64(at);
        if entry & pte::PRESENT == 0 {
            break;
        }
        if entry & pte::USER == 0 {
            changed |= m.cmpxchg_pte(at, entry, entry | pte::USER).is_ok();
        }
        if entry & pte::HUGE != 0 {
            break;
        }
        table = frame_of(entry);
    }
    changed
}

/// Whether an address lies in the emulator's range.
#[inline]
pub fn in_hole(va: Vaddr) -> bool {
    (HYPERVISOR_VIRT_START..HYPERVISOR_VIRT_END).contains(&va.0)
}

/// Puts the emulator's entries into a top-level table.
pub fn install_hole<M: Machine>(m: &mut M, l4: Mfn) {
    if m.load64(l4.addr().offset(HOLE_FIRST * 8)) == m.hole_entry(HOLE_FIRST as usize) {
        return;
    }
    for index in HOLE_FIRST..=HOLE_LAST {
        let at = l4.addr().offset(index * 8);
        let entry = m.hole_entry(index as usize);
        m.store_pte(at, entry);
    }
}

/// The bit of a frame in the record of page tables.
fn table_bit(d: &Domain, mfn: Mfn) -> Option<(Maddr, u64)> {
    let index = mfn
        .0
        .checked_sub(d.config.ram_base.0)
        .filter(|n| *n < d.config.ram_pages)?;
    Some((
        d.config.tables.addr().offset(index / 64 * 8),
        1 << (index % 64),
    ))
}

/// Frames of the record of page tables: a bit for each frame that is known to
/// be one, then a bit for each that is pinned.
pub const fn record_pages(ram_pages: u64) -> u64 {
    2 * ram_pages.div_ceil(8 * 4096)
}

/// Bytes from the start of the record to the bits of pinned frames.
pub const fn pinned_offset(ram_pages: u64) -> u64 {
    record_pages(ram_pages) / 2 * 4096
}

/// The bit that tells whether a frame is pinned.
fn pinned_bit(d: &Domain, mfn: Mfn) -> Option<(Maddr, u64)> {
    let (at, bit) = table_bit(d, mfn)?;
    Some((at.offset(pinned_offset(d.config.ram_pages)), bit))
}

/// Pins a page table; one that is pinned is not pinned again.
fn pin<M: Machine>(m: &M, d: &Domain, mfn: Mfn) -> Result<(), Errno> {
    let (at, bit) = pinned_bit(d, mfn).ok_or(Errno::EINVAL)?;
    if m.fetch_or64(at, bit) & bit != 0 {
        return Err(Errno::EINVAL);
    }
    mark_table(m, d, mfn, true);
    Ok(())
}

fn unpin<M: Machine>(m: &M, d: &Domain, mfn: Mfn) -> Result<(), Errno> {
    let (at, bit) = pinned_bit(d, mfn).ok_or(Errno::EINVAL)?;
    if m.fetch_and64(at, !bit) & bit == 0 {
        return Err(Errno::EINVAL);
    }
    mark_table(m, d, mfn, false);
    Ok(())
}

/// A frame leaves the domain: it is no page table any more.
pub(crate) fn forget_table<M: Machine>(m: &M, d: &Domain, mfn: Mfn) {
    if is_table(m, d, mfn) {
        // It need not have been pinned.
        let _ = unpin(m, d, mfn);
        mark_table(m, d, mfn, false);
    }
}

/// Whether a frame is known to be a page table: pinned by itself, or one of
/// those the builder made.
pub fn is_table<M: Machine>(m: &M, d: &Domain, mfn: Mfn) -> bool {
    table_bit(d, mfn).is_some_and(|(at, bit)| m.load64(at) & bit != 0)
}

/// Records whether a frame is a page table.
pub fn mark_table<M: Machine>(m: &M, d: &Domain, mfn: Mfn, table: bool) {
    if let Some((at, bit)) = table_bit(d, mfn) {
        if table {
            m.fetch_or64(at, bit);
        } else {
            m.fetch_and64(at, !bit);
        }
    }
}

/// Whether the guest may map a frame: its own ones and those the hypervisor
/// shares with it.
fn may_map<M: Machine>(m: &M, d: &Domain, mfn: Mfn) -> bool {
    memory::is_owned(m, d, mfn)
        || mfn == d.config.shared_info
        || grant::is_table_frame(&d.config, mfn)
}

/// The same as a check.
fn mappable<M: Machine>(m: &M, d: &Domain, mfn: Mfn) -> Result<Mfn, Errno> {
    if may_map(m, d, mfn) {
        Ok(mfn)
    } else {
        Err(Errno::EINVAL)
    }
}

/// Checks an entry the guest wants at `at` and gives it the user bit. The
/// errors are those of Xen's `get_page_from_l1e` and of its siblings for the
/// upper levels.
pub(crate) fn accept<M: Machine>(
    m: &M,
    d: &Domain,
    v: &Vcpu,
    at: Maddr,
    value: u64,
) -> Result<u64, Errno> {
    if value & pte::PRESENT == 0 {
        return Ok(value);
    }
    let global_table = |m: &M| value & pte::GLOBAL != 0 && is_upper(m, v, at.frame());
    if value & pte::CACHE != 0 || global_table(m) {
        return Err(Errno::EINVAL);
    }
    let mfn = frame_of(value);
    if may_map(m, d, mfn) {
        return Ok(value | pte::USER);
    }
    Err(if is_upper(m, v, at.frame()) {
        Errno::EINVAL
    } else if m.is_ram(mfn) {
        // Somebody else's memory.
        Errno::EBUSY
    } else {
        // A device's, for all Xen knows.
        Errno::EPERM
    })
}

/// Whether a frame is a table above the lowest level in an address space in
/// force. No record is kept of that: this search serves rare cases only. It
/// gives up on address spaces larger than any guest's.
fn is_upper<M: Machine>(m: &M, v: &Vcpu, table: Mfn) -> bool {
    let mut budget = 1 << 15;
    [v.kernel_l4, v.user_l4]
        .iter()
        .any(|root| finds(m, *root, 4, table, &mut budget))
}

fn finds<M: Machine>(m: &M, here: Mfn, level: u32, wanted: Mfn, budget: &mut u32) -> bool {
    if here == wanted {
        return true;
    }
    if level == 2 || !m.is_ram(here) {
        return false;
    }
    for index in 0..512 {
        if level == 4 && (HOLE_FIRST..=HOLE_LAST).contains(&index) {
            continue;
        }
        let Some(left) = budget.checked_sub(1) else {
            return false;
        };
        *budget = left;
        let entry = m.load64(here.addr().offset(index * 8));
        if entry & (pte::PRESENT | pte::HUGE) == pte::PRESENT
            && finds(m, frame_of(entry), level - 1, wanted, budget)
        {
            return true;
        }
    }
    false
}

/// Who a foreign-domain argument names; a domU has power over itself only. It
/// has none over dom0, nor over what belongs to Xen or lies in `DOMID_IO`.
pub fn own_domain(d: &Domain, domid: u64) -> Result<(), Errno> {
    match DomId(domid as u16) {
        DOMID_SELF => Ok(()),
        DomId(domid) if domid == d.config.domid => Ok(()),
        DomId(0) | DOMID_IO | DOMID_XEN => Err(Errno::EPERM),
        _ => Err(Errno::ESRCH),
    }
}

/// `HYPERVISOR_mmu_update`: a list of page table stores.
///
/// # Errors
/// `ESRCH`/`EPERM` for another domain's, `EFAULT` for the list, `EINVAL` for
/// an entry that is refused; `done` tells how many were carried out.
pub fn mmu_update<M: Machine>(
    m: &mut M,
    d: &Domain,
    v: &mut Vcpu,
    list: Vaddr,
    count: u64,
    done: Vaddr,
    domid: u64,
) -> Ret {
    // The toolstack's preemption bit means nothing here.
    let count = count as u32 & 0x7fff_ffff;
    let (table_owner, frame_owner) = ((domid >> 16) as u16, domid as u16);
    if table_owner != 0 {
        own_domain(d, u64::from(table_owner - 1))?;
    }
    // Frames in DOMID_IO are checked one by one.
    if frame_owner != DOMID_IO.0 {
        own_domain(d, u64::from(frame_owner))?;
    }
    let mut result = Ok(0);
    let mut index = 0;
    while index < u64::from(count) && !m.is_ending() {
        result = guest::get(m, guest::element::<MmuUpdate>(list, index))
            .and_then(|update: MmuUpdate| one_update(m, d, v, update));
        if result.is_err() {
            break;
        }
        index += 1;
    }
    if done.0 != 0 {
        // Not being able to tell is no error.
        let _ = guest::put(m, done, &(index as u32));
    }
    result
}

fn one_update<M: Machine>(m: &mut M, d: &Domain, v: &Vcpu, update: MmuUpdate) -> Ret {
    let (at, command) = (Maddr(update.ptr & !7), update.ptr & 7);
    mappable(m, d, at.frame())?;
    match command {
        MMU_MACHPHYS_UPDATE => {
            m.set_m2p(at.frame(), update.val);
            Ok(0)
        }
        MMU_NORMAL_PT_UPDATE | MMU_PT_UPDATE_PRESERVE_AD | MMU_PT_UPDATE_NO_TRANSLATE => {
            refuse_hole(m, v, at)?;
            let value = accept(m, d, v, at, update.val)?;
            if command == MMU_PT_UPDATE_PRESERVE_AD {
                store_preserving(m, at, value);
            } else {
                m.store_pte(at, value);
            }
            Ok(0)
        }
        _ => Err(Errno::ENOSYS),
    }
}

fn store_preserving<M: Machine>(m: &mut M, at: Maddr, value: u64) {
    let mut old = m.load64(at);
    loop {
        let kept = old & (pte::ACCESSED | pte::DIRTY);
        match m.cmpxchg_pte(at, old, value | kept) {
            Ok(_) => return,
            Err(found) => old = found,
        }
    }
}

/// Slots 256 to 271 of a top-level table are not the guest's.
pub(crate) fn refuse_hole<M: Machine>(m: &M, v: &Vcpu, at: Maddr) -> Result<(), Errno> {
    let index = at.page_offset() as u64 / 8;
    if !(HOLE_FIRST..=HOLE_LAST).contains(&index) {
        return Ok(());
    }
    let table = at.frame();
    let marked = m.load64(table.addr().offset(HOLE_FIRST * 8)) == m.hole_entry(256);
    if marked || table == v.kernel_l4 || table == v.user_l4 {
        return Err(Errno::EINVAL);
    }
    Ok(())
}

/// `HYPERVISOR_update_va_mapping`.
///
/// # Errors
/// `EINVAL` when nothing can map the address or the entry is refused.
pub fn update_va_mapping<M: Machine>(
    m: &mut M,
    d: &Domain,
    v: &mut Vcpu,
    va: Vaddr,
    value: u64,
    flags: u64,
) -> Ret {
    if in_hole(va) {
        return Err(Errno::EINVAL);
    }
    let at = l1_slot(m, v.kernel_l4, va).ok_or(Errno::EINVAL)?;
    let value = accept(m, d, v, at, value)?;
    m.store_pte(at, value);
    let what = match flags & UVMF_FLUSHTYPE_MASK {
        UVMF_TLB_FLUSH => Flush::All,
        UVMF_INVLPG => Flush::Page(va),
        _ => return Ok(0),
    };
    match flags & !UVMF_FLUSHTYPE_MASK {
        UVMF_LOCAL => m.flush(what),
        UVMF_ALL => flush_where(m, d, v, u64::MAX, what),
        mask => {
            let vcpus = guest::get(m, Vaddr(mask))?;
            flush_where(m, d, v, vcpus, what);
        }
    }
    Ok(0)
}

/// Flushes on the virtual CPUs of a mask that are up, this one included if it
/// is among them.
fn flush_where<M: Machine>(m: &mut M, d: &Domain, v: &Vcpu, vcpus: u64, what: Flush) {
    let own = 1u64 << v.id;
    if vcpus & own != 0 {
        m.flush(what);
    }
    let mut others = 0;
    for (id, vcpu) in d.vcpus.iter().enumerate().take(d.config.nr_vcpus as usize) {
        if vcpu.state.load(Ordering::Acquire) & VCPU_UP != 0 {
            others |= 1 << id;
        }
    }
    others &= vcpus & !own;
    if others != 0 {
        m.flush_vcpus(others, what);
    }
}

/// `HYPERVISOR_mmuext_op`: a list of operations.
///
/// # Errors
/// As [`mmu_update`].
pub fn mmuext_op<M: Machine>(
    m: &mut M,
    d: &Domain,
    v: &mut Vcpu,
    list: Vaddr,
    count: u64,
    done: Vaddr,
    domid: u64,
) -> Ret {
    let count = count as u32 & 0x7fff_ffff;
    own_domain(d, domid)?;
    let mut result = Ok(0);
    let mut index = 0;
    while index < u64::from(count) && !m.is_ending() {
        result = guest::get(m, guest::element::<MmuextOp>(list, index))
            .and_then(|op: MmuextOp| one_ext(m, d, v, op));
        if result.is_err() {
            break;
        }
        index += 1;
    }
    if done.0 != 0 {
        // Not being able to tell is no error.
        let _ = guest::put(m, done, &(index as u32));
    }
    result
}

fn one_ext<M: Machine>(m: &mut M, d: &Domain, v: &mut Vcpu, op: MmuextOp) -> Ret {
    let ram = |m: &M, mfn: Mfn| mappable(m, d, mfn);
    match op.cmd {
        MMUEXT_PIN_L1_TABLE | MMUEXT_PIN_L2_TABLE | MMUEXT_PIN_L3_TABLE => {
            let table = ram(m, op.mfn())?;
            pin(m, d, table)?;
        }
        MMUEXT_PIN_L4_TABLE => {
            let l4 = ram(m, op.mfn())?;
            pin(m, d, l4)?;
            install_hole(m, l4);
        }
        MMUEXT_UNPIN_TABLE => {
            let table = ram(m, op.mfn())?;
            unpin(m, d, table)?;
        }
        MMUEXT_NEW_BASEPTR => {
            let l4 = ram(m, op.mfn())?;
            install_hole(m, l4);
            v.kernel_l4 = l4;
            m.load_cr3(l4);
        }
        MMUEXT_NEW_USER_BASEPTR => {
            let l4 = op.mfn();
            if l4.0 != 0 {
                ram(m, l4)?;
                install_hole(m, l4);
            }
            v.user_l4 = l4;
        }
        MMUEXT_TLB_FLUSH_LOCAL => m.flush(Flush::All),
        MMUEXT_INVLPG_LOCAL => m.flush(Flush::Page(op.linear_addr())),
        MMUEXT_TLB_FLUSH_MULTI => {
            let vcpus = vcpu_mask(m, d, op)?;
            flush_where(m, d, v, vcpus, Flush::All);
        }
        MMUEXT_INVLPG_MULTI => {
            let vcpus = vcpu_mask(m, d, op)?;
            flush_where(m, d, v, vcpus, Flush::Page(op.linear_addr()));
        }
        MMUEXT_TLB_FLUSH_ALL => flush_where(m, d, v, u64::MAX, Flush::All),
        MMUEXT_INVLPG_ALL => flush_where(m, d, v, u64::MAX, Flush::Page(op.linear_addr())),
        // Only a domain with passed-through devices has caches to flush.
        MMUEXT_FLUSH_CACHE => return Err(Errno::EACCES),
        MMUEXT_FLUSH_CACHE_GLOBAL => return Err(Errno::EINVAL),
        MMUEXT_SET_LDT => return set_ldt(m, v, op.linear_addr(), op.nr_ents()),
        MMUEXT_CLEAR_PAGE => {
            let page = ram(m, op.mfn())?;
            m.clear_page(page);
        }
        MMUEXT_COPY_PAGE => {
            let from = ram(m, op.src_mfn())?;
            let to = ram(m, op.mfn())?;
            m.copy_page(to, from);
        }
        MMUEXT_MARK_SUPER | MMUEXT_UNMARK_SUPER => return Err(Errno::EOPNOTSUPP),
        _ => return Err(Errno::ENOSYS),
    }
    Ok(0)
}

/// Reads the bitmap of virtual CPUs; its length is the domain's number of
/// virtual CPUs in whole bytes.
fn vcpu_mask<M: Machine>(m: &mut M, d: &Domain, op: MmuextOp) -> Result<u64, Errno> {
    let length = (d.config.nr_vcpus as usize).div_ceil(8).min(8);
    let mut bytes = [0u8; 8];
    m.copy_from_guest(Vaddr(op.vcpumask().0), &mut bytes[..length])
        .map_err(|_| Errno::EINVAL)?;
    Ok(u64::from_le_bytes(bytes))
}

/// A descriptor table's frames are put in place at once: its address means
/// something in kernel mode's page tables only.
fn set_ldt<M: Machine>(m: &mut M, v: &Vcpu, at: Vaddr, entries: u32) -> Ret {
    const PAGES: usize = 16;
    if at.0 & 0xfff != 0 || entries > 8192 || (entries != 0 && in_hole(at)) {
        return Err(Errno::EINVAL);
    }
    let mut frames = [Mfn(0); PAGES];
    let pages = (entries as usize).div_ceil(512);
    for (index, frame) in frames[..pages].iter_mut().enumerate() {
        let va = at.offset(index as u64 * 4096);
        let entry = l1_slot(m, v.kernel_l4, va).map_or(0, |slot| m.load64(slot));
        *frame = frame_of(entry);
        if entry & pte::PRESENT == 0 || !m.is_ram(*frame) {
            return Err(Errno::EINVAL);
        }
        raise_descriptors(m, *frame);
    }
    m.load_ldt(&frames[..pages], entries);
    Ok(0)
}

/// `HYPERVISOR_set_gdt`.
///
/// # Errors
/// `EINVAL` for too many entries or a frame that is none.
pub fn set_gdt<M: Machine>(m: &mut M, v: &mut Vcpu, list: Vaddr, entries: u64) -> Ret {
    let entries = entries as u32;
    if entries as usize > FIRST_RESERVED_GDT_ENTRY {
        return Err(Errno::EINVAL);
    }
    let mut frames = [Mfn(0); 16];
    let pages = (entries as usize).div_ceil(512);
    for (index, frame) in frames[..pages].iter_mut().enumerate() {
        *frame = guest::get(m, guest::element::<Mfn>(list, index as u64))?;
    }
    if !frames[..pages].iter().all(|frame| m.is_ram(*frame)) {
        return Err(Errno::EINVAL);
    }
    load_gdt(m, v, &frames[..pages], entries);
    Ok(0)
}

/// Puts a descriptor table in place.
pub fn load_gdt<M: Machine>(m: &mut M, v: &mut Vcpu, frames: &[Mfn], entries: u32) {
    for frame in frames {
        raise_descriptors(m, *frame);
    }
    v.gdt_entries = entries;
    m.load_gdt(frames, entries);
}

/// Gives the segments of a page the privilege ring 3 needs, as Xen's
/// `check_descriptor` does.
fn raise_descriptors<M: Machine>(m: &M, frame: Mfn) {
    for index in 0..512 {
        let at = frame.addr().offset(index * 8);
        let descriptor = m.load64(at);
        if let Some(checked) = check_descriptor(descriptor)
            && checked != descriptor
        {
            m.store64(at, checked);
        }
    }
}

const DESCRIPTOR_DPL: u64 = 3 << 45;
const DESCRIPTOR_SEGMENT: u64 = 1 << 44;
const DESCRIPTOR_PRESENT: u64 = 1 << 47;

/// What Xen makes of a descriptor; `None` when it refuses it. All segments are
/// well, and the halves of call gates that lead nowhere.
fn check_descriptor(descriptor: u64) -> Option<u64> {
    const TYPE: u64 = 0xf << 40;
    const CALL_GATE: u64 = 0xc << 40;
    if descriptor & DESCRIPTOR_PRESENT == 0 {
        return Some(descriptor);
    }
    if descriptor & DESCRIPTOR_SEGMENT == 0 {
        // Linux has no call gates. Xen emulates them; here none can be used, so
        // that one is stored in a form the CPU refuses.
        return match descriptor & TYPE {
            0 => Some(descriptor),
            CALL_GATE => Some(descriptor & !DESCRIPTOR_DPL),
            _ => None,
        };
    }
    Some(descriptor | DESCRIPTOR_DPL)
}

/// `HYPERVISOR_update_descriptor`.
///
/// # Errors
/// `EINVAL` for a place that is none or a descriptor that is refused.
pub fn update_descriptor<M: Machine>(m: &mut M, d: &Domain, at: Maddr, descriptor: u64) -> Ret {
    if at.0 & 7 != 0 || !m.is_ram(at.frame()) {
        return Err(Errno::EINVAL);
    }
    let checked = check_descriptor(descriptor).ok_or(Errno::EINVAL)?;
    let _order = d.descriptors.lock();
    m.store64(at, checked);
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::Fake;

    #[test]
    fn entries_name_frames_of_the_domain() {
        let mut f = Fake::new();
        let at = Mfn(Fake::RAM).addr();
        let mut try_entry = |entry: u64| f.call(|m, d, v| accept(m, d, v, at, entry));
        let own = Mfn(Fake::RAM + 1).addr().0 | pte::PRESENT;
        let free = Mfn(Fake::RAM + Fake::NR_PAGES).addr().0 | pte::PRESENT;
        assert_eq!(try_entry(own), Ok(own | pte::USER));
        assert_eq!(try_entry(0x1230), Ok(0x1230));
        assert_eq!(try_entry(own | pte::HUGE), Err(Errno::EINVAL));
        assert_eq!(try_entry(free), Err(Errno::EBUSY));
        assert_eq!(try_entry(1 << 45 | pte::PRESENT), Err(Errno::EPERM));
        f.v.kernel_l4 = Mfn(Fake::RAM);
        let of_upper = f.call(|m, d, v| accept(m, d, v, at, free));
        assert_eq!(of_upper, Err(Errno::EINVAL));
    }

    #[test]
    fn nobody_waits_for_the_rest_of_a_list() {
        let mut f = Fake::new();
        f.m.ends_after.set(Some(0));
        let done = Fake::ARG;
        f.poke(done, &7u32);
        let endless = u64::from(u32::MAX);
        let domid = u64::from(xen_sys::xen::DOMID_SELF.0);
        let ended = f.call(|m, d, v| mmu_update(m, d, v, Fake::LIST, endless, done, domid));
        assert_eq!((ended, f.peek::<u32>(done)), (Ok(0), 0));
        let ended = f.call(|m, d, v| mmuext_op(m, d, v, Fake::LIST, endless, done, domid));
        assert_eq!((ended, f.peek::<u32>(done)), (Ok(0), 0));
    }

    #[test]
    fn a_table_is_pinned_once() {
        let mut f = Fake::new();
        let table = Mfn(Fake::RAM + 3);
        f.call(|m, d, _| {
            assert_eq!(unpin(m, d, table), Err(Errno::EINVAL));
            assert_eq!(pin(m, d, table), Ok(()));
            assert_eq!(pin(m, d, table), Err(Errno::EINVAL));
            assert!(is_table(m, d, table));
            forget_table(m, d, table);
            assert!(!is_table(m, d, table));
            assert_eq!(pin(m, d, table), Ok(()));
        });
    }
}

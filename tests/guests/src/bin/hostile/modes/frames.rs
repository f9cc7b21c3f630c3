//! Frames and addresses that are not the guest's.

use xenner_guests::abi::*;
use xenner_guests::attempt;
use xenner_guests::boot::start_info;
use xenner_guests::hypercall::{call2, call4, handle};
use xenner_guests::memory::{
    P, Page, U, VIRT_BASE, W, entry_maddr, leaf, m2p_base, mmu_update, mmuext, p2m, root, set_leaf,
};
use xenner_guests::report::{eq, see};
use xenner_guests::time::system_time;

/// The highest frame number of the M2P table.
fn max_mfn() -> u64 {
    let mut map = XenMachphysMapping::default();
    call2(__HYPERVISOR_memory_op, XENMEM_machphys_mapping, &mut map);
    map.max_mfn
}

/// Every call that takes a frame, with frames nobody has, others have, or that are in special use.
pub fn bad_frames() {
    let info = start_info();
    let max = max_mfn();
    let page = Page::new();
    let at = entry_maddr(page.0, 1).unwrap_or(0);
    let frames = [
        0,
        1,
        0x9f,
        0xa0,
        0xff,
        0x100,
        max,
        max + 1,
        max / 2,
        info.shared_info.0 >> 12,
        0xfee00,
        0xfec00,
        0xf_ffff_ffff,
        0x10_0000_0000,
        0xff_ffff_ffff,
        u64::MAX,
        u64::MAX >> 12,
    ];
    for frame in frames {
        for cmd in 0..22 {
            if cmd != MMUEXT_UNPIN_TABLE || m2p_or_none(frame, max).is_none() {
                mmuext(cmd, frame, frame);
                mmuext(cmd, page.mfn(), frame);
            }
        }
        for command in 0..4 {
            mmu_update(frame << 12 | command, page.pfn());
            mmu_update(at | command & 2, frame << 12 | P | W | U);
            mmu_update(at, page.mfn() << 12 | P | W | U);
        }
        set_leaf(page.0, frame << 12 | P | U);
        page.writable();
        call2(__HYPERVISOR_update_descriptor, frame << 12, 0);
        call2(__HYPERVISOR_set_gdt, &[frame], 1);
        call2(__HYPERVISOR_set_gdt, 0, 0);
        reservations(frame);
    }
    see("hostile.bad_frames", "survived");
}

/// The pseudo-physical frame, if this machine frame is the domain's own. The M2P table may have holes.
fn m2p_or_none(frame: u64, max: u64) -> Option<u64> {
    if frame > max {
        return None;
    }
    let mut pfn = 0u64;
    let hole =
        attempt!("mov {pfn}, [{at}]"; at = in(reg) m2p_base() + frame * 8, pfn = inout(reg) pfn);
    (hole.is_none() && pfn < start_info().nr_pages && p2m(pfn) == frame).then_some(pfn)
}

fn reservations(frame: u64) {
    if m2p_or_none(frame, max_mfn()).is_some() {
        return;
    }
    for order in [0, 9, 18, 40, 63, 255] {
        let list = [frame; 2];
        let arg = XenMemoryReservation {
            extent_start: handle(&list),
            nr_extents: 1,
            extent_order: order,
            domid: DOMID_SELF,
            ..XenMemoryReservation::default()
        };
        call2(__HYPERVISOR_memory_op, XENMEM_decrease_reservation, &arg);
    }
}

/// Writes over the hypervisor's part of the address space. Every store must fault.
pub fn hypervisor_range() {
    let (mut tried, mut refused) = (0u64, 0u64);
    let mut store = |at: u64| {
        tried += 1;
        refused += u64::from(
            attempt!("mov [{at}], {junk}"; at = in(reg) at, junk = in(reg) u64::MAX).is_some(),
        );
    };
    let mut at = HYPERVISOR_VIRT_START;
    while at < HYPERVISOR_VIRT_END {
        store(at);
        store(at + 0x1000);
        store(at + 0x0020_0000);
        store(at + 0x3fff_f000);
        at += 0x4000_0000;
    }
    for page in 0..4096 {
        store(HYPERVISOR_VIRT_START + page * 4096);
        store(HYPERVISOR_VIRT_START + (1 << 39) + page * 4096);
        store(HYPERVISOR_VIRT_END - (page + 1) * 4096);
    }
    eq("hostile.hypervisor_range.refused", refused, tried);
}

/// Tries to map every frame that is not in its p2m, and writes to those it gets (Xen gives it the pages that it shares).
pub fn foreign_frames() {
    let page = Page::new();
    let max = max_mfn().min(0x40_0000);
    // From the lowest up for as long as it takes to meet all that is near, where attempts are dear.
    let end = system_time() + 10_000_000_000;
    for frame in (0..=max).take_while(|_| system_time() < end) {
        let mine = m2p_or_none(frame, max).is_some();
        if !mine
            && set_leaf(page.0, frame << 12 | P | W | U).ok()
            && leaf(page.0).is_some_and(|pte| pte & P == P)
        {
            let _ = attempt!("mov [{at}], {junk}"; at = in(reg) page.0, junk = in(reg) u64::MAX);
        }
    }
    page.writable();
    see("hostile.foreign_frames", "survived");
}

/// Gives all memory back, its own kernel last.
pub fn balloon_all() {
    let pages = start_info().nr_pages;
    for pfn in (0..pages).rev() {
        let list = [p2m(pfn)];
        let arg = XenMemoryReservation {
            extent_start: handle(&list),
            nr_extents: 1,
            domid: DOMID_SELF,
            ..XenMemoryReservation::default()
        };
        call2(__HYPERVISOR_memory_op, XENMEM_decrease_reservation, &arg);
    }
    see("hostile.balloon_all", "survived");
}

/// A page table root that maps nothing of the guest.
pub fn root_without_kernel() {
    let empty = Page::new();
    empty.read_only();
    mmuext(MMUEXT_PIN_L4_TABLE, empty.mfn(), 0);
    mmuext(MMUEXT_NEW_BASEPTR, empty.mfn(), 0);
    see("hostile.root_without_kernel", "survived");
}

/// Takes its own kernel's top level entry away.
pub fn kernel_unmapped() {
    let entry = root() + (VIRT_BASE >> 39 & 511) * 8;
    let at = leaf(entry).unwrap_or(0) & 0x000f_ffff_ffff_f000 | entry & 4095;
    let request = MmuUpdate { ptr: at, val: 0 };
    call4(__HYPERVISOR_mmu_update, &request, 1, 0, DOMID_SELF);
    mmuext(MMUEXT_TLB_FLUSH_LOCAL, 0, 0);
    see("hostile.kernel_unmapped", "survived");
}

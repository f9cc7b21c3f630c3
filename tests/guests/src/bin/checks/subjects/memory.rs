//! `memory_op` (memory.h) as balloon, p2m and boot code use it.

use xenner_guests::abi::*;
use xenner_guests::boot::start_info;
use xenner_guests::hypercall::{
    Arg, EFAULT, EINVAL, ENOSYS, EPERM, ESRCH, HYPERVISOR, OK, Ret, UNMAPPED, call2, handle_mut,
};
use xenner_guests::memory::{P, Page, U, W, m2p, mmu_update, set_leaf, set_p2m};
use xenner_guests::report::{eq, see, yes};

fn op(cmd: u32, arg: impl Arg) -> Ret {
    call2(__HYPERVISOR_memory_op, cmd, arg)
}

pub fn run() {
    queries();
    translations();
    balloon();
    counts();
    exchange();
    refusals();
}

fn domain(domid: DomId) -> XenMemoryDomain {
    XenMemoryDomain { domid }
}

fn queries() {
    let own = domain(DOMID_SELF);
    let current = op(XENMEM_current_reservation, &own);
    yes(
        "memory.current_reservation",
        current.0 as u64 == start_info().nr_pages,
    );
    yes(
        "memory.maximum_reservation",
        op(XENMEM_maximum_reservation, &own).0 >= current.0,
    );
    yes(
        "memory.maximum_ram_page",
        op(XENMEM_maximum_ram_page, 0).0 > 0,
    );
    eq(
        "memory.current_reservation.dom0",
        op(XENMEM_current_reservation, &domain(DomId(0))),
        EPERM,
    );
    eq(
        "memory.current_reservation.nobody",
        op(XENMEM_current_reservation, &domain(DomId(0x7000))),
        ESRCH,
    );
    eq(
        "memory.current_reservation.reserved_domid",
        op(XENMEM_current_reservation, &domain(DOMID_IO)),
        ESRCH,
    );
    eq(
        "memory.current_reservation.bad_pointer",
        op(XENMEM_current_reservation, UNMAPPED),
        EFAULT,
    );
    eq(
        "memory.maximum_reservation.nobody",
        op(XENMEM_maximum_reservation, &domain(DomId(0x7000))),
        ESRCH,
    );
    eq(
        "memory.maximum_gpfn.nobody",
        op(XENMEM_maximum_gpfn, &domain(DomId(0x7000))),
        ESRCH,
    );
    eq("memory.unknown", op(63, 0), ENOSYS);
    let mut map = XenMachphysMapping::default();
    eq(
        "memory.machphys_mapping",
        op(XENMEM_machphys_mapping, &mut map),
        OK,
    );
    yes("memory.machphys_mapping.order", map.v_start.0 < map.v_end.0);
    yes(
        "memory.machphys_mapping.room",
        (map.max_mfn + 1) * 8 <= map.v_end.0 - map.v_start.0,
    );
    yes(
        "memory.machphys_mapping.in_hole",
        map.v_start.0 >= HYPERVISOR_VIRT_START && map.v_end.0 <= HYPERVISOR_VIRT_END,
    );
    eq(
        "memory.machphys_mapping.bad_pointer",
        op(XENMEM_machphys_mapping, UNMAPPED),
        EFAULT,
    );
    eq(
        "memory.machphys_mapping.hypervisor_pointer",
        op(XENMEM_machphys_mapping, HYPERVISOR),
        EFAULT,
    );
    let mut entries = [[0u8; size_of::<E820Entry>()]; 8];
    let mut e820 = XenMemoryMap {
        nr_entries: 8,
        buffer: handle_mut(&mut entries),
        ..XenMemoryMap::default()
    };
    see("memory.memory_map", op(XENMEM_memory_map, &mut e820));
    see("memory.memory_map.nr_entries", e820.nr_entries);
    let word =
        |at: usize| u64::from_le_bytes(entries[0][at..at + 8].try_into().unwrap_or_default());
    see("memory.memory_map.first.addr", word(0));
    yes(
        "memory.memory_map.first.covers_all",
        word(8) >> 12 >= start_info().nr_pages,
    );
    see("memory.memory_map.first.kind", word(12) >> 32);
    see(
        "memory.memory_map.bad_pointer",
        op(XENMEM_memory_map, UNMAPPED),
    );
    eq(
        "memory.machine_memory_map",
        op(XENMEM_machine_memory_map, &mut e820),
        EPERM,
    );
}

/// p2m and M2P agree, and `MMU_MACHPHYS_UPDATE` changes the latter.
fn translations() {
    let page = Page::new();
    eq("memory.m2p.own_page", m2p(page.mfn()) == page.pfn(), true);
    let update = page.mfn() << 12 | MMU_MACHPHYS_UPDATE;
    eq("memory.m2p.update", mmu_update(update, page.pfn() + 5), OK);
    yes("memory.m2p.updated", m2p(page.mfn()) == page.pfn() + 5);
    eq("memory.m2p.restore", mmu_update(update, page.pfn()), OK);
    yes("memory.m2p.restored", m2p(page.mfn()) == page.pfn());
    see(
        "memory.m2p.update.no_frame",
        mmu_update(0x00ff_ffff_f000 | MMU_MACHPHYS_UPDATE, 1),
    );
}

fn reservation<T: ?Sized>(extents: &mut T, nr: u64, order: u32) -> XenMemoryReservation {
    XenMemoryReservation {
        extent_start: handle_mut(extents),
        nr_extents: nr,
        extent_order: order,
        mem_flags: 0,
        domid: DOMID_SELF,
        ..XenMemoryReservation::default()
    }
}

/// A page goes back to the hypervisor and another comes in its place.
fn balloon() {
    let page = Page::new();
    let (pfn, mfn) = (page.pfn(), page.mfn());
    let own = domain(DOMID_SELF);
    let before = op(XENMEM_current_reservation, &own).0;
    eq("memory.balloon.unmap", page.unmap(), OK);
    let mut list = [mfn];
    let out = reservation(&mut list, 1, 0);
    eq(
        "memory.decrease_reservation",
        op(XENMEM_decrease_reservation, &out),
        Ret(1),
    );
    see(
        "memory.decrease_reservation.change",
        op(XENMEM_current_reservation, &own).0 - before,
    );
    eq(
        "memory.decrease_reservation.again",
        op(XENMEM_decrease_reservation, &out),
        OK,
    );
    see(
        "memory.decreased.map",
        set_leaf(page.0, mfn << 12 | P | W | U),
    );
    list = [pfn];
    let back = reservation(&mut list, 1, 0);
    eq(
        "memory.populate_physmap",
        op(XENMEM_populate_physmap, &back),
        Ret(1),
    );
    see(
        "memory.populate_physmap.change",
        op(XENMEM_current_reservation, &own).0 - before,
    );
    yes("memory.populate_physmap.m2p", m2p(list[0]) == pfn);
    set_p2m(pfn, list[0]);
    eq("memory.populate_physmap.map", page.writable(), OK);
    page.write(0, 0x1234);
    eq("memory.populate_physmap.usable", page.read(0), 0x1234);

    eq("memory.increase_reservation.first_out", page.unmap(), OK);
    list = [page.mfn()];
    eq(
        "memory.increase_reservation.decrease",
        op(XENMEM_decrease_reservation, &reservation(&mut list, 1, 0)),
        Ret(1),
    );
    list = [0];
    eq(
        "memory.increase_reservation",
        op(XENMEM_increase_reservation, &reservation(&mut list, 1, 0)),
        Ret(1),
    );
    eq(
        "memory.increase_reservation.m2p",
        mmu_update(list[0] << 12 | MMU_MACHPHYS_UPDATE, pfn),
        OK,
    );
    set_p2m(pfn, list[0]);
    eq("memory.increase_reservation.map", page.writable(), OK);
    page.write(1, 0x4321);
    eq("memory.increase_reservation.usable", page.read(1), 0x4321);
}

/// These calls return how many extents were done, and few errors.
fn counts() {
    let mut list = [0u64; 2];
    eq(
        "memory.populate_physmap.none",
        op(XENMEM_populate_physmap, &reservation(&mut list, 0, 0)),
        OK,
    );
    eq(
        "memory.populate_physmap.huge_order",
        op(XENMEM_populate_physmap, &reservation(&mut list, 1, 30)),
        OK,
    );
    see(
        "memory.populate_physmap.huge_count",
        op(
            XENMEM_populate_physmap,
            &reservation(&mut list, u64::MAX, 0),
        ),
    );
    let mut bad = reservation(&mut list, 1, 0);
    bad.extent_start = GuestHandle(UNMAPPED);
    eq(
        "memory.populate_physmap.bad_list",
        op(XENMEM_populate_physmap, &bad),
        OK,
    );
    eq(
        "memory.decrease_reservation.bad_list",
        op(XENMEM_decrease_reservation, &bad),
        OK,
    );
    eq(
        "memory.populate_physmap.bad_pointer",
        op(XENMEM_populate_physmap, UNMAPPED),
        OK,
    );
    bad = reservation(&mut list, 1, 0);
    bad.domid = DomId(0);
    eq(
        "memory.populate_physmap.dom0",
        op(XENMEM_populate_physmap, &bad),
        OK,
    );
    bad.domid = DomId(0x7000);
    eq(
        "memory.populate_physmap.nobody",
        op(XENMEM_populate_physmap, &bad),
        OK,
    );
    let mut none = [0x00ff_ffff_ffffu64, 0];
    eq(
        "memory.decrease_reservation.no_frame",
        op(XENMEM_decrease_reservation, &reservation(&mut none, 1, 0)),
        OK,
    );
    let own = domain(DOMID_SELF);
    let most = op(XENMEM_maximum_reservation, &own).0 - op(XENMEM_current_reservation, &own).0;
    yes("memory.beyond_maximum", beyond(most));
}

/// Populates up to the maximum and one more; gives the pages back.
fn beyond(most: i64) -> bool {
    let mut frames = [0u64; 512];
    let count = frames.len().min(most.max(0) as usize + 1);
    let first = start_info().nr_pages + 100;
    frames
        .iter_mut()
        .enumerate()
        .for_each(|(index, pfn)| *pfn = first + index as u64);
    let got = op(
        XENMEM_populate_physmap,
        &reservation(&mut frames, count as u64, 0),
    )
    .0;
    let given = op(
        XENMEM_decrease_reservation,
        &reservation(&mut frames, got as u64, 0),
    )
    .0;
    got == most.min(frames.len() as i64) && given == got
}

fn exchange() {
    let pages = [Page::new(), Page::new(), Page::new(), Page::new()];
    let mut give = pages.map(Page::mfn);
    let pfns = pages.map(Page::pfn);
    for page in pages {
        page.unmap();
    }
    // In: four single frames. Out: one extent of four, whose first pfn the guest names.
    let mut take = [pfns[0]];
    let mut swap = XenMemoryExchange {
        in_: reservation(&mut give, 4, 0),
        out: reservation(&mut take, 1, 2),
        nr_exchanged: 0,
    };
    let ret = op(XENMEM_exchange, &mut swap);
    eq("memory.exchange", ret, OK);
    if ret != OK {
        for page in pages {
            page.writable();
        }
        return exchange_errors();
    }
    eq("memory.exchange.nr_exchanged", swap.nr_exchanged, 4);
    yes("memory.exchange.aligned", take[0] % 4 == 0);
    yes(
        "memory.exchange.m2p",
        (0..4).all(|i| m2p(take[0] + i) == pfns[0] + i),
    );
    for (index, page) in pages.iter().enumerate() {
        set_p2m(pfns[index], take[0] + index as u64);
        page.writable();
        page.write(0, index as u64);
    }
    yes(
        "memory.exchange.usable",
        pages
            .iter()
            .enumerate()
            .all(|(i, page)| page.read(0) == i as u64),
    );
    exchange_errors();
}

fn exchange_errors() {
    let (mut one, mut other) = ([0u64; 4], [0u64; 4]);
    let good = XenMemoryExchange {
        in_: reservation(&mut one, 4, 0),
        out: reservation(&mut other, 1, 2),
        nr_exchanged: 0,
    };
    eq(
        "memory.exchange.no_frames",
        op(XENMEM_exchange, &mut good.clone()),
        EINVAL,
    );
    let mut bad = good;
    bad.out.nr_extents = 2;
    eq(
        "memory.exchange.unequal",
        op(XENMEM_exchange, &mut bad),
        EINVAL,
    );
    bad = good;
    bad.nr_exchanged = 5;
    eq(
        "memory.exchange.too_far",
        op(XENMEM_exchange, &mut bad),
        EINVAL,
    );
    bad = good;
    bad.in_.domid = DomId(0x7000);
    see("memory.exchange.nobody", op(XENMEM_exchange, &mut bad));
    bad = good;
    bad.in_.extent_start = GuestHandle(UNMAPPED);
    eq(
        "memory.exchange.bad_list",
        op(XENMEM_exchange, &mut bad),
        EFAULT,
    );
    bad = good;
    (
        bad.in_.extent_order,
        bad.in_.nr_extents,
        bad.out.extent_order,
    ) = (30, 1, 30);
    see("memory.exchange.huge_order", op(XENMEM_exchange, &mut bad));
    eq(
        "memory.exchange.bad_pointer",
        op(XENMEM_exchange, UNMAPPED),
        EFAULT,
    );
}

fn refusals() {
    let page = Page::new();
    let map = XenAddToPhysmap {
        domid: DOMID_SELF,
        space: XENMAPSPACE_shared_info,
        gpfn: page.pfn(),
        ..XenAddToPhysmap::default()
    };
    see("memory.add_to_physmap", op(XENMEM_add_to_physmap, &map));
    let remove = XenRemoveFromPhysmap {
        domid: DOMID_SELF,
        gpfn: page.pfn(),
        ..XenRemoveFromPhysmap::default()
    };
    see(
        "memory.remove_from_physmap",
        op(XENMEM_remove_from_physmap, &remove),
    );
    see(
        "memory.set_memory_map",
        op(XENMEM_set_memory_map, &XenForeignMemoryMap::default()),
    );
    let mut pod = XenPodTarget {
        domid: DOMID_SELF,
        ..XenPodTarget::default()
    };
    see("memory.get_pod_target", op(XENMEM_get_pod_target, &mut pod));
    see("memory.set_pod_target", op(XENMEM_set_pod_target, &mut pod));
    see(
        "memory.claim_pages",
        op(XENMEM_claim_pages, &reservation(&mut [0u64; 1], 1, 0)),
    );
    let mut numa = XenVnumaTopologyInfo {
        domid: DOMID_SELF,
        ..XenVnumaTopologyInfo::default()
    };
    see("memory.get_vnumainfo", op(XENMEM_get_vnumainfo, &mut numa));
    let mut resource = XenMemAcquireResource {
        domid: DOMID_SELF,
        ..XenMemAcquireResource::default()
    };
    see(
        "memory.acquire_resource",
        op(XENMEM_acquire_resource, &mut resource),
    );
    see(
        "memory.reserved_device_memory_map",
        op(XENMEM_reserved_device_memory_map, 0),
    );
    see("memory.paging_op", op(XENMEM_paging_op, 0));
    see("memory.access_op", op(XENMEM_access_op, 0));
    see("memory.sharing_op", op(XENMEM_sharing_op, 0));
    let mut frames = [0u64; 4];
    let mut list = XenMachphysMfnList {
        max_extents: 1,
        extent_start: handle_mut(&mut frames),
        ..XenMachphysMfnList::default()
    };
    see(
        "memory.machphys_mfn_list",
        op(XENMEM_machphys_mfn_list, &mut list),
    );
}

//! `grant_table_op` (grant_table.h), version 1 and then 2, by grants of the domain to itself.

use core::sync::atomic::{AtomicU16, AtomicU32, Ordering::SeqCst};

use xenner_guests::abi::*;
use xenner_guests::attempt;
use xenner_guests::events;
use xenner_guests::hypercall::{EFAULT, ENOSYS, OK, Ret, UNMAPPED, call3, handle_mut};
use xenner_guests::memory::{P, Page, U, W, entry_maddr, leaf, set_leaf};
use xenner_guests::report::{eq, see, yes};
use xenner_guests::trap::Outcome;

pub fn run() {
    let own = own_domid();
    version_calls();
    let table = setup();
    version_1(table, own);
    copies(own);
    unmap_errors(own);
    transfers(own);
    others();
    version_2(table, own);
}

fn op<T>(cmd: u32, args: &mut [T]) -> Ret {
    call3(
        __HYPERVISOR_grant_table_op,
        cmd,
        args.as_mut_ptr() as u64,
        args.len(),
    )
}

/// This domain's number, as the loopback event channel's status tells it.
fn own_domid() -> u16 {
    let mut unbound = EvtchnAllocUnbound {
        dom: DOMID_SELF,
        remote_dom: DOMID_SELF,
        ..EvtchnAllocUnbound::default()
    };
    events::op(EVTCHNOP_alloc_unbound, &mut unbound);
    let mut bind = EvtchnBindInterdomain {
        remote_dom: DOMID_SELF,
        remote_port: unbound.port,
        ..EvtchnBindInterdomain::default()
    };
    events::op(EVTCHNOP_bind_interdomain, &mut bind);
    let mut status = EvtchnStatus {
        dom: DOMID_SELF,
        port: unbound.port,
        ..EvtchnStatus::default()
    };
    events::op(EVTCHNOP_status, &mut status);
    for port in [unbound.port, bind.local_port] {
        events::op(EVTCHNOP_close, &EvtchnClose { port });
    }
    status.u.word0 as u16
}

fn version_calls() {
    let mut version = GnttabGetVersion {
        dom: DOMID_SELF,
        ..GnttabGetVersion::default()
    };
    eq(
        "grant.get_version",
        op(GNTTABOP_get_version, core::slice::from_mut(&mut version)),
        OK,
    );
    eq("grant.get_version.is_1", version.version, 1);
    version.dom = DomId(0);
    see(
        "grant.get_version.dom0",
        op(GNTTABOP_get_version, core::slice::from_mut(&mut version)),
    );
    version.dom = DomId(0x7000);
    see(
        "grant.get_version.nobody",
        op(GNTTABOP_get_version, core::slice::from_mut(&mut version)),
    );
    let set = |version: u32| {
        let mut arg = [GnttabSetVersion { version }];
        let ret = op(GNTTABOP_set_version, &mut arg);
        (ret, arg[0].version)
    };
    let (ret, now) = set(3);
    see("grant.set_version.3", format_args!("{ret} now {now}"));
    let (ret, now) = set(0);
    see("grant.set_version.0", format_args!("{ret} now {now}"));
    let (ret, now) = set(1);
    see("grant.set_version.1", format_args!("{ret} now {now}"));
    let mut size = [GnttabQuerySize {
        dom: DOMID_SELF,
        ..GnttabQuerySize::default()
    }];
    eq("grant.query_size", op(GNTTABOP_query_size, &mut size), OK);
    eq("grant.query_size.status", size[0].status, GNTST_okay);
    see("grant.query_size.nr_frames", size[0].nr_frames);
    see("grant.query_size.max_nr_frames", size[0].max_nr_frames);
    size[0].dom = DomId(0);
    op(GNTTABOP_query_size, &mut size);
    see("grant.query_size.dom0", size[0].status);
    size[0].dom = DomId(0x7000);
    op(GNTTABOP_query_size, &mut size);
    see("grant.query_size.nobody", size[0].status);
    let mut two = [GnttabQuerySize {
        dom: DOMID_SELF,
        ..GnttabQuerySize::default()
    }; 2];
    see("grant.query_size.two", op(GNTTABOP_query_size, &mut two));
}

fn setup_table(nr_frames: u32, frames: &mut [u64], dom: DomId) -> (Ret, i16) {
    let mut arg = [GnttabSetupTable {
        dom,
        nr_frames,
        frame_list: handle_mut(frames),
        ..GnttabSetupTable::default()
    }];
    let ret = op(GNTTABOP_setup_table, &mut arg);
    (ret, arg[0].status)
}

/// The table's first frame, mapped.
fn setup() -> Page {
    let mut frames = [0u64; 64];
    let (ret, status) = setup_table(1, &mut frames, DOMID_SELF);
    eq("grant.setup_table", ret, OK);
    eq("grant.setup_table.status", status, GNTST_okay);
    let page = Page::new();
    eq(
        "grant.setup_table.map",
        set_leaf(page.0, frames[0] << 12 | P | W | U),
        OK,
    );
    let first = frames[0];
    let (ret, status) = setup_table(2, &mut frames, DOMID_SELF);
    see("grant.setup_table.grow", format_args!("{ret} {status}"));
    yes("grant.setup_table.first_stays", frames[0] == first);
    let (ret, status) = setup_table(1000, &mut frames, DOMID_SELF);
    see("grant.setup_table.too_many", format_args!("{ret} {status}"));
    let (ret, status) = setup_table(0, &mut frames, DOMID_SELF);
    see("grant.setup_table.none", format_args!("{ret} {status}"));
    let (ret, status) = setup_table(1, &mut frames, DomId(0));
    see("grant.setup_table.dom0", format_args!("{ret} {status}"));
    let (ret, status) = setup_table(1, &mut frames, DomId(0x7000));
    see("grant.setup_table.nobody", format_args!("{ret} {status}"));
    let mut bad = [GnttabSetupTable {
        dom: DOMID_SELF,
        nr_frames: 1,
        frame_list: GuestHandle(UNMAPPED),
        ..GnttabSetupTable::default()
    }];
    let ret = op(GNTTABOP_setup_table, &mut bad);
    see(
        "grant.setup_table.bad_list",
        format_args!("{ret} {}", bad[0].status),
    );
    // The toolstack left the console's and xenstore's entries (grant_table.h, reserved entries).
    see(
        "grant.reserved.console_flags",
        entry_flags(page, GNTTAB_RESERVED_CONSOLE).load(SeqCst) & GTF_type_mask,
    );
    see(
        "grant.reserved.xenstore_flags",
        entry_flags(page, GNTTAB_RESERVED_XENSTORE).load(SeqCst) & GTF_type_mask,
    );
    page
}

fn entry_flags(table: Page, gref: u32) -> &'static AtomicU16 {
    // SAFETY: a version 1 entry inside the mapped table page, which stays mapped; the hypervisor changes it atomically.
    unsafe { &*((table.0 + u64::from(gref % 512) * 8) as *const AtomicU16) }
}

fn grant_v1(table: Page, gref: u32, domid: u16, frame: u64, flags: u16) {
    let entry = table.0 + u64::from(gref % 512) * 8;
    // SAFETY: as in `entry_flags`.
    unsafe {
        (*((entry + 4) as *const AtomicU32)).store(frame as u32, SeqCst);
        (*((entry + 2) as *const AtomicU16)).store(domid, SeqCst);
    }
    entry_flags(table, gref).store(flags, SeqCst);
}

fn map(flags: u32, gref: u32, dom: u16, host_addr: u64) -> GnttabMapGrantRef {
    let mut arg = [GnttabMapGrantRef {
        host_addr,
        flags,
        ref_: GrantRef(gref),
        dom: DomId(dom),
        ..GnttabMapGrantRef::default()
    }];
    let ret = op(GNTTABOP_map_grant_ref, &mut arg);
    if ret != OK {
        arg[0].status = -99;
    }
    arg[0]
}

fn unmap(host_addr: u64, handle: u32) -> i16 {
    let mut arg = [GnttabUnmapGrantRef {
        host_addr,
        handle,
        ..GnttabUnmapGrantRef::default()
    }];
    let ret = op(GNTTABOP_unmap_grant_ref, &mut arg);
    if ret == OK { arg[0].status } else { -99 }
}

fn version_1(table: Page, own: u16) {
    let (shared, window) = (Page::new(), Page::new());
    shared.write(7, 0x7007);
    let frame = shared.mfn();
    window.unmap();
    grant_v1(table, 9, own, frame, GTF_permit_access);
    let mapped = map(GNTMAP_host_map, 9, own, window.0);
    eq("grant.map", mapped.status, GNTST_okay);
    if mapped.status != GNTST_okay {
        return;
    }
    eq("grant.map.seen", window.read(7), 0x7007);
    window.write(8, 0x8008);
    eq("grant.map.written", shared.read(8), 0x8008);
    eq(
        "grant.map.flags",
        entry_flags(table, 9).load(SeqCst),
        GTF_permit_access | GTF_reading | GTF_writing,
    );
    yes("grant.map.bus_address", mapped.dev_bus_addr == frame << 12);
    eq("grant.unmap", unmap(window.0, mapped.handle), GNTST_okay);
    eq("grant.unmap.entry_gone", leaf(window.0).unwrap_or(1) & P, 0);
    eq(
        "grant.unmap.flags",
        entry_flags(table, 9).load(SeqCst),
        GTF_permit_access,
    );
    see("grant.unmap.again", unmap(window.0, mapped.handle));
    read_only(table, own, frame, window);
    let pte = entry_maddr(window.0, 1).unwrap_or(0);
    let mapped = map(GNTMAP_host_map | GNTMAP_contains_pte, 9, own, pte);
    eq("grant.map.contains_pte", mapped.status, GNTST_okay);
    eq("grant.map.contains_pte.seen", window.read(7), 0x7007);
    eq(
        "grant.unmap.contains_pte",
        unmap(pte, mapped.handle),
        GNTST_okay,
    );
    map_errors(table, own, frame, window);
    window.writable();
}

fn read_only(table: Page, own: u16, frame: u64, window: Page) {
    let mapped = map(GNTMAP_host_map | GNTMAP_readonly, 9, own, window.0);
    eq("grant.map.readonly", mapped.status, GNTST_okay);
    see(
        "grant.map.readonly.write",
        Outcome(attempt!("mov qword ptr [{at}], 1"; at = in(reg) window.0)),
    );
    eq(
        "grant.map.readonly.flags",
        entry_flags(table, 9).load(SeqCst),
        GTF_permit_access | GTF_reading,
    );
    eq(
        "grant.unmap.readonly",
        unmap(window.0, mapped.handle),
        GNTST_okay,
    );
    grant_v1(table, 10, own, frame, GTF_permit_access | GTF_readonly);
    see(
        "grant.map.writable_of_readonly",
        map(GNTMAP_host_map, 10, own, window.0).status,
    );
    let mapped = map(GNTMAP_host_map | GNTMAP_readonly, 10, own, window.0);
    eq("grant.map.readonly_of_readonly", mapped.status, GNTST_okay);
    unmap(window.0, mapped.handle);
}

fn map_errors(table: Page, own: u16, frame: u64, window: Page) {
    see(
        "grant.map.empty_entry",
        map(GNTMAP_host_map, 20, own, window.0).status,
    );
    see(
        "grant.map.beyond_table",
        map(GNTMAP_host_map, 1_000_000, own, window.0).status,
    );
    see(
        "grant.map.nobody",
        map(GNTMAP_host_map, 9, 0x7000, window.0).status,
    );
    see(
        "grant.map.domid_self",
        map(GNTMAP_host_map, 9, DOMID_SELF.0, window.0).status,
    );
    see("grant.map.no_flags", map(0, 9, own, window.0).status);
    see(
        "grant.map.hypervisor_address",
        map(GNTMAP_host_map, 9, own, 0xffff_8700_0000_0000).status,
    );
    see(
        "grant.map.no_table",
        map(GNTMAP_host_map, 9, own, UNMAPPED).status,
    );
    let unaligned = map(GNTMAP_host_map, 9, own, window.0 + 1);
    see("grant.map.unaligned", unaligned.status);
    unmap(window.0 + 1, unaligned.handle);
    grant_v1(table, 21, 0, frame, GTF_permit_access);
    see(
        "grant.map.for_other_domain",
        map(GNTMAP_host_map, 21, own, window.0).status,
    );
    grant_v1(table, 22, own, 0x0fff_ffff, GTF_permit_access);
    see(
        "grant.map.no_frame",
        map(GNTMAP_host_map, 22, own, window.0).status,
    );
    grant_v1(table, 23, own, frame, GTF_accept_transfer);
    see(
        "grant.map.wrong_type",
        map(GNTMAP_host_map, 23, own, window.0).status,
    );
    let device = map(GNTMAP_device_map, 9, own, 0);
    see("grant.map.device", device.status);
    let mut release = [GnttabUnmapGrantRef {
        dev_bus_addr: device.dev_bus_addr,
        handle: device.handle,
        ..GnttabUnmapGrantRef::default()
    }];
    op(GNTTABOP_unmap_grant_ref, &mut release);
    see("grant.unmap.device", release[0].status);
    eq(
        "grant.unmap.device.flags",
        entry_flags(table, 9).load(SeqCst),
        GTF_permit_access,
    );
    eq(
        "grant.map.bad_pointer",
        call3(
            __HYPERVISOR_grant_table_op,
            GNTTABOP_map_grant_ref,
            UNMAPPED,
            1,
        ),
        EFAULT,
    );
    eq(
        "grant.map.none",
        call3(
            __HYPERVISOR_grant_table_op,
            GNTTABOP_map_grant_ref,
            UNMAPPED,
            0,
        ),
        OK,
    );
    let two = &mut [map_arg(9, own, window.0), map_arg(20, own, window.0)];
    eq("grant.map.two", op(GNTTABOP_map_grant_ref, two), OK);
    eq("grant.map.two.first", two[0].status, GNTST_okay);
    see("grant.map.two.second", two[1].status);
    unmap(window.0, two[0].handle);
    for gref in [10, 21, 22, 23] {
        grant_v1(table, gref, 0, 0, 0);
    }
}

fn map_arg(gref: u32, dom: u16, host_addr: u64) -> GnttabMapGrantRef {
    GnttabMapGrantRef {
        host_addr,
        flags: GNTMAP_host_map,
        ref_: GrantRef(gref),
        dom: DomId(dom),
        ..GnttabMapGrantRef::default()
    }
}

fn copy(source: GnttabCopyPtr, dest: GnttabCopyPtr, len: u16, flags: u16) -> i16 {
    let mut arg = [GnttabCopy {
        source,
        dest,
        len,
        flags,
        ..GnttabCopy::default()
    }];
    let ret = op(GNTTABOP_copy, &mut arg);
    if ret == OK { arg[0].status } else { -99 }
}

fn at(u: u64, domid: u16, offset: u16) -> GnttabCopyPtr {
    GnttabCopyPtr {
        u,
        domid: DomId(domid),
        offset,
        ..GnttabCopyPtr::default()
    }
}

fn copies(own: u16) {
    let (from, to) = (Page::new(), Page::new());
    from.fill(0x0101_0101_0101_0101);
    let this = DOMID_SELF.0;
    eq(
        "grant.copy.frames",
        copy(at(from.mfn(), this, 0), at(to.mfn(), this, 8), 16, 0),
        GNTST_okay,
    );
    yes(
        "grant.copy.copied",
        to.read(0) == 0
            && to.read(1) == from.read(0)
            && to.read(2) == from.read(0)
            && to.read(3) == 0,
    );
    to.fill(0);
    // Entry 9 grants a page to this domain.
    see(
        "grant.copy.from_gref",
        copy(
            at(9, own, 0),
            at(to.mfn(), this, 0),
            4096,
            GNTCOPY_source_gref,
        ),
    );
    eq("grant.copy.from_gref.copied", to.read(7), 0x7007);
    from.write(7, 0x7117);
    see(
        "grant.copy.to_gref",
        copy(
            at(from.mfn(), this, 56),
            at(9, own, 56),
            8,
            GNTCOPY_dest_gref,
        ),
    );
    see(
        "grant.copy.gref_to_gref",
        copy(
            at(9, own, 56),
            at(9, own, 64),
            8,
            GNTCOPY_source_gref | GNTCOPY_dest_gref,
        ),
    );
    to.fill(0);
    copy(
        at(9, own, 0),
        at(to.mfn(), this, 0),
        4096,
        GNTCOPY_source_gref,
    );
    eq("grant.copy.through_gref", to.read(8), 0x7117);
    see(
        "grant.copy.over_page_end",
        copy(at(from.mfn(), this, 4090), at(to.mfn(), this, 0), 8, 0),
    );
    see(
        "grant.copy.over_page_end.dest",
        copy(at(from.mfn(), this, 0), at(to.mfn(), this, 4090), 8, 0),
    );
    see(
        "grant.copy.nothing",
        copy(at(from.mfn(), this, 0), at(to.mfn(), this, 0), 0, 0),
    );
    see(
        "grant.copy.bad_gref",
        copy(
            at(400, own, 0),
            at(to.mfn(), this, 0),
            8,
            GNTCOPY_source_gref,
        ),
    );
    see(
        "grant.copy.gref_of_self",
        copy(
            at(9, this, 0),
            at(to.mfn(), this, 0),
            8,
            GNTCOPY_source_gref,
        ),
    );
    see(
        "grant.copy.nobody",
        copy(
            at(9, 0x7000, 0),
            at(to.mfn(), this, 0),
            8,
            GNTCOPY_source_gref,
        ),
    );
    see(
        "grant.copy.foreign_frame",
        copy(at(from.mfn(), 0, 0), at(to.mfn(), this, 0), 8, 0),
    );
    see(
        "grant.copy.no_frame",
        copy(at(0x000f_0000_0000, this, 0), at(to.mfn(), this, 0), 8, 0),
    );
    eq(
        "grant.copy.bad_pointer",
        call3(__HYPERVISOR_grant_table_op, GNTTABOP_copy, UNMAPPED, 1),
        EFAULT,
    );
}

fn unmap_errors(own: u16) {
    let window = Page::new();
    window.unmap();
    see("grant.unmap.bad_handle", unmap(window.0, 12345));
    see("grant.unmap.bad_handle.large", unmap(window.0, u32::MAX));
    let mapped = map(GNTMAP_host_map, 9, own, window.0);
    see(
        "grant.unmap.wrong_address",
        unmap(window.0 + 4096, mapped.handle),
    );
    see("grant.unmap.null_address", unmap(0, mapped.handle));
    see("grant.unmap.after_wrong", unmap(window.0, mapped.handle));
    let other = Page::new();
    other.write(0, 0x0707);
    let mapped = map(GNTMAP_host_map, 9, own, window.0);
    let mut replace = [GnttabUnmapAndReplace {
        host_addr: window.0,
        new_addr: other.0,
        handle: mapped.handle,
        ..GnttabUnmapAndReplace::default()
    }];
    see(
        "grant.unmap_and_replace",
        op(GNTTABOP_unmap_and_replace, &mut replace),
    );
    see("grant.unmap_and_replace.status", replace[0].status);
    see(
        "grant.unmap_and_replace.moved",
        leaf(window.0).unwrap_or(0) & P == P && window.read(0) == 0x0707,
    );
    see(
        "grant.unmap_and_replace.source_gone",
        leaf(other.0).unwrap_or(0) & P == 0,
    );
    other.writable();
    window.writable();
}

fn transfers(own: u16) {
    let page = Page::new();
    let transfer = |mfn: u64, domid: u16| {
        let mut arg = [GnttabTransfer {
            mfn,
            domid: DomId(domid),
            ref_: GrantRef(30),
            ..GnttabTransfer::default()
        }];
        let ret = op(GNTTABOP_transfer, &mut arg);
        (ret, arg[0].status)
    };
    let (ret, status) = transfer(0x000f_0000_0000, own);
    see("grant.transfer.no_frame", format_args!("{ret} {status}"));
    let (ret, status) = transfer(page.mfn(), 0x7000);
    see("grant.transfer.nobody", format_args!("{ret} {status}"));
}

fn others() {
    let mut swap = [GnttabSwapGrantRef {
        ref_a: GrantRef(9),
        ref_b: GrantRef(11),
        ..GnttabSwapGrantRef::default()
    }];
    see("grant.swap", op(GNTTABOP_swap_grant_ref, &mut swap));
    see("grant.swap.status", swap[0].status);
    op(GNTTABOP_swap_grant_ref, &mut swap);
    swap[0].ref_b = GrantRef(1_000_000);
    op(GNTTABOP_swap_grant_ref, &mut swap);
    see("grant.swap.bad_gref", swap[0].status);
    let mut flush = [GnttabCacheFlush::default()];
    see(
        "grant.cache_flush.nothing",
        op(GNTTABOP_cache_flush, &mut flush),
    );
    flush[0].op = 8;
    see(
        "grant.cache_flush.bad_op",
        op(GNTTABOP_cache_flush, &mut flush),
    );
    let mut dump = [GnttabDumpTable {
        dom: DOMID_SELF,
        ..GnttabDumpTable::default()
    }];
    see("grant.dump_table", op(GNTTABOP_dump_table, &mut dump));
    let mut zero = [0u64; 8];
    eq("grant.unknown", op(99, &mut zero), ENOSYS);
    see(
        "grant.count_too_large",
        call3(
            __HYPERVISOR_grant_table_op,
            GNTTABOP_query_size,
            &mut zero,
            1u64 << 32,
        ),
    );
    let mut status = [GnttabGetStatusFrames {
        nr_frames: 1,
        dom: DOMID_SELF,
        ..GnttabGetStatusFrames::default()
    }];
    let ret = op(GNTTABOP_get_status_frames, &mut status);
    see(
        "grant.get_status_frames.version_1",
        format_args!("{ret} {}", status[0].status),
    );
    eq(
        "grant.set_version.bad_pointer",
        call3(
            __HYPERVISOR_grant_table_op,
            GNTTABOP_set_version,
            UNMAPPED,
            1,
        ),
        EFAULT,
    );
}

fn grant_v2(table: Page, gref: u32, domid: u16, flags: u16, word1: u32, word2: u64) {
    let entry = table.0 + u64::from(gref % 256) * 16;
    // SAFETY: a version 2 entry inside the mapped table page.
    unsafe {
        (*((entry + 8) as *const core::sync::atomic::AtomicU64)).store(word2, SeqCst);
        (*((entry + 4) as *const AtomicU32)).store(word1, SeqCst);
        (*((entry + 2) as *const AtomicU16)).store(domid, SeqCst);
        (*(entry as *const AtomicU16)).store(flags, SeqCst);
    }
}

fn version_2(table: Page, own: u16) {
    grant_v1(table, 9, 0, 0, 0);
    let mut version = [GnttabSetVersion { version: 2 }];
    let ret = op(GNTTABOP_set_version, &mut version);
    see("grant2.set_version", ret);
    if ret != OK {
        return;
    }
    eq("grant2.set_version.now", version[0].version, 2);
    let mut frames = [0u64; 4];
    let mut status = [GnttabGetStatusFrames {
        nr_frames: 1,
        dom: DOMID_SELF,
        frame_list: handle_mut(&mut frames),
        ..GnttabGetStatusFrames::default()
    }];
    eq(
        "grant2.get_status_frames",
        op(GNTTABOP_get_status_frames, &mut status),
        OK,
    );
    eq(
        "grant2.get_status_frames.status",
        status[0].status,
        GNTST_okay,
    );
    let words = Page::new();
    eq(
        "grant2.status.map",
        set_leaf(words.0, frames[0] << 12 | P | W | U),
        OK,
    );
    status[0].nr_frames = 1000;
    op(GNTTABOP_get_status_frames, &mut status);
    see("grant2.get_status_frames.too_many", status[0].status);
    see("grant2.reserved.console_flags", {
        // SAFETY: entry 0's flags, inside the mapped table.
        unsafe { (*(table.0 as *const AtomicU16)).load(SeqCst) & GTF_type_mask }
    });
    let (shared, window) = (Page::new(), Page::new());
    shared.write(3, 0x3003);
    window.unmap();
    grant_v2(table, 9, own, GTF_permit_access, 0, shared.mfn());
    let mapped = map(GNTMAP_host_map, 9, own, window.0);
    eq("grant2.map", mapped.status, GNTST_okay);
    eq("grant2.map.seen", window.read(3), 0x3003);
    let word = |gref: u64| words.read(gref as usize / 4) >> (gref % 4 * 16) & 0xffff;
    eq(
        "grant2.map.status_word",
        word(9),
        u64::from(GTF_reading | GTF_writing),
    );
    eq("grant2.unmap", unmap(window.0, mapped.handle), GNTST_okay);
    eq("grant2.unmap.status_word", word(9), 0);
    see(
        "grant2.map.empty_entry",
        map(GNTMAP_host_map, 20, own, window.0).status,
    );
    grant_v2(
        table,
        12,
        own,
        GTF_permit_access | GTF_sub_page,
        16 << 16 | 8,
        shared.mfn(),
    );
    see(
        "grant2.sub_page.map",
        map(GNTMAP_host_map, 12, own, window.0).status,
    );
    let to = Page::new();
    let this = DOMID_SELF.0;
    see(
        "grant2.sub_page.copy",
        copy(
            at(12, own, 8),
            at(to.mfn(), this, 0),
            8,
            GNTCOPY_source_gref,
        ),
    );
    see(
        "grant2.sub_page.copy_beyond",
        copy(
            at(12, own, 20),
            at(to.mfn(), this, 0),
            8,
            GNTCOPY_source_gref,
        ),
    );
    let mut back = [GnttabSetVersion { version: 1 }];
    see(
        "grant2.set_version.status_mapped",
        op(GNTTABOP_set_version, &mut back),
    );
    words.writable();
    back[0].version = 1;
    see(
        "grant2.set_version.back",
        op(GNTTABOP_set_version, &mut back),
    );
    window.writable();
}

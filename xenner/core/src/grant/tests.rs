use super::*;
use crate::Physical as _;
use crate::fake::Fake;
use crate::mmu::pte;
use xen_sys::GrantRef;
use xen_sys::addr::Mfn;
use xen_sys::xen::DOMID_SELF;

const ME: DomId = DomId(Fake::DOMID);
const FRAME: u64 = Fake::RAM + 20;

fn run<T: IntoBytes + FromBytes + Immutable>(f: &mut Fake, cmd: u32, op: T) -> Result<T, Errno> {
    f.poke(Fake::ARG, &op);
    f.call(|m, d, v| grant_table_op(m, d, v, u64::from(cmd), Fake::ARG, 1))?;
    Ok(f.peek(Fake::ARG))
}

fn table(f: &Fake) -> Table {
    Table::of(&f.m, &f.d.config)
}

/// Writes an entry as a guest does.
fn grant(f: &Fake, gref: u32, flags: u16, domid: DomId, frame: u64) {
    let table = table(f);
    let header = u64::from(flags) | u64::from(domid.0) << 16;
    if table.version == 1 {
        f.m.store64(table.entry(gref), header | frame << 32);
    } else {
        f.m.store64(table.entry(gref), header);
        f.m.store64(Maddr(table.entry(gref).0 + 8), frame);
    }
}

fn use_bits(f: &Fake, gref: u32) -> u16 {
    table(f).in_use(&f.m, gref)
}

/// What a back end in the host does.
fn pin(f: &Fake, gref: GrantRef, write: bool, kind: Use) -> Result<Granted, i16> {
    table(f).pin(&f.m, &f.d.config, gref, DomId(0), write, kind)
}

fn unpin(f: &Fake, gref: GrantRef) {
    table(f).unpin(&f.m, gref, false);
}

fn setup(f: &mut Fake, nr_frames: u32) -> GnttabSetupTable {
    let op = GnttabSetupTable {
        dom: DOMID_SELF,
        nr_frames,
        frame_list: GuestHandle(Fake::LIST.0),
        ..Default::default()
    };
    run(f, GNTTABOP_setup_table, op).expect("one operation")
}

fn set_v2(f: &mut Fake) {
    let op = run(f, GNTTABOP_set_version, GnttabSetVersion { version: 2 });
    assert_eq!(op, Ok(GnttabSetVersion { version: 2 }));
}

fn size(f: &mut Fake) -> (u32, u32) {
    let op = GnttabQuerySize {
        dom: DOMID_SELF,
        ..Default::default()
    };
    let op = run(f, GNTTABOP_query_size, op).expect("one operation");
    assert_eq!(op.status, GNTST_okay);
    (op.nr_frames, op.max_nr_frames)
}

#[test]
fn the_table_grows_to_its_limit() {
    let mut f = Fake::new();
    assert_eq!(size(&mut f), (1, 4));
    assert_eq!(setup(&mut f, 3).status, GNTST_okay);
    let frames: [u64; 3] = f.peek(Fake::LIST);
    assert_eq!(Mfn(frames[2]).addr(), table(&f).entry(1024));
    assert_eq!(size(&mut f), (3, 4));
    assert_eq!(setup(&mut f, 1).status, GNTST_okay);
    assert_eq!(setup(&mut f, 5).status, GNTST_general_error);
    assert_eq!(size(&mut f), (3, 4));
    let last = frames[2] + u64::from(heap_pages(4) as u32) - 4;
    assert!(last < Fake::HEAP + Fake::HEAP_PAGES);
}

#[test]
fn other_domains_tables() {
    let mut f = Fake::new();
    for (dom, status) in [
        (DomId(0), GNTST_permission_denied),
        (DomId(9), GNTST_bad_domain),
    ] {
        let op = GnttabSetupTable {
            dom,
            nr_frames: 1,
            ..Default::default()
        };
        assert_eq!(
            run(&mut f, GNTTABOP_setup_table, op).map(|op| op.status),
            Ok(status)
        );
        let op = GnttabQuerySize {
            dom,
            ..Default::default()
        };
        assert_eq!(
            run(&mut f, GNTTABOP_query_size, op).map(|op| op.status),
            Ok(status)
        );
    }
    let op = |dom| GnttabGetVersion {
        dom,
        ..Default::default()
    };
    assert_eq!(
        run(&mut f, GNTTABOP_get_version, op(DomId(9))),
        Err(Errno::ESRCH)
    );
    assert_eq!(
        run(&mut f, GNTTABOP_get_version, op(ME)).map(|op| op.version),
        Ok(1)
    );
}

#[test]
fn counts_and_commands() {
    let mut f = Fake::new();
    let mut op =
        |cmd: u64, count: u64| f.call(|m, d, v| grant_table_op(m, d, v, cmd, Fake::ARG, count));
    assert_eq!(op(GNTTABOP_setup_table.into(), 2), Err(Errno::EINVAL));
    assert_eq!(op(GNTTABOP_query_size.into(), 0), Err(Errno::EINVAL));
    assert_eq!(op(GNTTABOP_copy.into(), 0), Ok(0));
    assert_eq!(op(GNTTABOP_copy.into(), 1 << 31), Err(Errno::EINVAL));
    assert_eq!(
        op(u64::from(GNTTABOP_copy) | 1 << 12, 0),
        Err(Errno::EINVAL)
    );
    assert_eq!(op(GNTTABOP_dump_table.into(), 1), Err(Errno::ENOSYS));
    assert_eq!(op(99, 1), Err(Errno::ENOSYS));
    let nowhere = f.call(|m, d, v| grant_table_op(m, d, v, 0, Vaddr(8), 1));
    assert_eq!(nowhere, Err(Errno::EFAULT));
}

#[test]
fn reserved_entries_survive_a_change_of_version() {
    let mut f = Fake::new();
    init_reserved(&f.m, &f.d.config, Mfn(FRAME), Mfn(FRAME + 1));
    let xenstore = GrantRef(GNTTAB_RESERVED_XENSTORE);
    let whole = Granted {
        mfn: Mfn(FRAME + 1),
        offset: 0,
        len: 4096,
    };
    assert_eq!(pin(&f, xenstore, true, Use::Map), Ok(whole));
    grant(&f, 100, GTF_permit_access, DomId(0), FRAME);
    set_v2(&mut f);
    assert_eq!(use_bits(&f, 1), GTF_reading | GTF_writing);
    assert_eq!(f.m.load32(table(&f).entry(1)), u32::from(GTF_permit_access));
    assert_eq!(f.m.load32(table(&f).entry(100)), 0);
    assert_eq!(pin(&f, xenstore, true, Use::Map), Ok(whole));

    let back = run(
        &mut f,
        GNTTABOP_set_version,
        GnttabSetVersion { version: 1 },
    );
    assert_eq!(back, Ok(GnttabSetVersion { version: 1 }));
    assert_eq!(use_bits(&f, 1), GTF_reading | GTF_writing);
    unpin(&f, xenstore);
    assert_eq!(use_bits(&f, 1), 0);
    assert_eq!(pin(&f, xenstore, true, Use::Map), Ok(whole));
}

#[test]
fn a_table_in_use_keeps_its_version() {
    let mut f = Fake::new();
    grant(&f, 8, GTF_permit_access, DomId(0), FRAME);
    let gref = GrantRef(8);
    pin(&f, gref, false, Use::Map).unwrap();
    let two = GnttabSetVersion { version: 2 };
    assert_eq!(run(&mut f, GNTTABOP_set_version, two), Err(Errno::EBUSY));
    // The version in force is told all the same.
    assert_eq!(f.peek::<GnttabSetVersion>(Fake::ARG).version, 1);
    unpin(&f, gref);
    assert!(run(&mut f, GNTTABOP_set_version, two).is_ok());
    let three = GnttabSetVersion { version: 3 };
    assert_eq!(run(&mut f, GNTTABOP_set_version, three), Err(Errno::EINVAL));
}

#[test]
fn status_frames_exist_in_version_2() {
    let mut f = Fake::new();
    let op = |nr_frames| GnttabGetStatusFrames {
        nr_frames,
        dom: DOMID_SELF,
        status: 0,
        frame_list: GuestHandle(Fake::LIST.0),
    };
    let cmd = GNTTABOP_get_status_frames;
    assert_eq!(run(&mut f, cmd, op(1)).unwrap().status, GNTST_general_error);
    set_v2(&mut f);
    assert_eq!(run(&mut f, cmd, op(1)).unwrap().status, GNTST_okay);
    assert_eq!(f.peek::<u64>(Fake::LIST), table(&f).status_frame(0).0);
    assert_eq!(run(&mut f, cmd, op(2)).unwrap().status, GNTST_general_error);
}

#[test]
fn a_back_end_gets_what_is_granted_and_no_more() {
    for version in [1, 2] {
        let mut f = Fake::new();
        if version == 2 {
            set_v2(&mut f);
        }
        let pin = |f: &Fake, gref: u32, write: bool, kind: Use| {
            pin(f, GrantRef(gref), write, kind).map(|granted| granted.mfn.0)
        };
        assert_eq!(pin(&f, 100_000, false, Use::Map), Err(GNTST_bad_gntref));
        assert_eq!(pin(&f, u32::MAX, false, Use::Map), Err(GNTST_bad_gntref));
        assert_eq!(pin(&f, 9, false, Use::Map), Err(GNTST_general_error));
        grant(&f, 9, GTF_permit_access, DomId(3), FRAME);
        assert_eq!(pin(&f, 9, false, Use::Map), Err(GNTST_general_error));
        grant(&f, 9, GTF_permit_access | GTF_readonly, DomId(0), FRAME);
        assert_eq!(pin(&f, 9, true, Use::Map), Err(GNTST_general_error));
        assert_eq!(use_bits(&f, 9), 0);
        assert_eq!(pin(&f, 9, false, Use::Map), Ok(FRAME));
        assert_eq!(use_bits(&f, 9), GTF_reading);
        unpin(&f, GrantRef(9));
        // Frames of the hypervisor, of nobody, and given up ones.
        for bad in [
            Fake::HEAP,
            5,
            Fake::RAM - 1,
            Fake::RAM + Fake::NR_PAGES,
            0xffff_ffff,
        ] {
            grant(&f, 10, GTF_permit_access, DomId(0), bad);
            assert_eq!(pin(&f, 10, true, Use::Map), Err(GNTST_bad_page));
            assert_eq!(use_bits(&f, 10), 0);
        }
        grant(&f, 11, GTF_accept_transfer, DomId(0), FRAME);
        assert_eq!(pin(&f, 11, false, Use::Copy), Err(GNTST_general_error));
        grant(&f, 12, GTF_transitive, DomId(0), FRAME);
        assert_eq!(pin(&f, 12, false, Use::Copy), Err(GNTST_general_error));
    }
}

#[test]
fn parts_of_pages_can_be_copied_only() {
    let mut f = Fake::new();
    set_v2(&mut f);
    grant(&f, 20, GTF_permit_access | GTF_sub_page, DomId(0), FRAME);
    f.m.store32(Maddr(table(&f).entry(20).0 + 4), 100 | 200 << 16);
    let pin = |kind| pin(&f, GrantRef(20), true, kind);
    assert_eq!(pin(Use::Map), Err(GNTST_general_error));
    assert_eq!(
        pin(Use::Copy),
        Ok(Granted {
            mfn: Mfn(FRAME),
            offset: 100,
            len: 200
        })
    );
    assert_eq!(use_bits(&f, 20), GTF_reading | GTF_writing);
}

#[test]
fn a_hostile_state_word_makes_no_larger_table() {
    let f = Fake::new();
    let at = Maddr((Fake::HEAP + 1 + crate::memory::bitmap_pages(Fake::MAX_PAGES)) << 12);
    f.m.store64(at, u64::MAX);
    assert_eq!((table(&f).version, table(&f).frames), (2, 4));
}

/// A page table that maps nothing, but has a table down to the last level for
/// this address. Gives the address of the entry.
fn page_tables(f: &mut Fake, virt: u64) -> Maddr {
    let mut frame = Fake::RAM + 100;
    f.v.kernel_l4 = Mfn(frame);
    for shift in [39, 30, 21] {
        let at = Maddr((frame << 12) + (virt >> shift & 511) * 8);
        frame += 1;
        f.m.store64(at, frame << 12 | pte::PRESENT | pte::WRITABLE | pte::USER);
    }
    Maddr((frame << 12) + (virt >> 12 & 511) * 8)
}

const VIRT: u64 = 0x7fff_1234_5000;

fn map_op(flags: u32, gref: u32) -> GnttabMapGrantRef {
    GnttabMapGrantRef {
        host_addr: VIRT,
        flags,
        ref_: GrantRef(gref),
        dom: ME,
        ..Default::default()
    }
}

fn unmap_op(handle: u32) -> GnttabUnmapGrantRef {
    GnttabUnmapGrantRef {
        host_addr: VIRT,
        handle,
        ..Default::default()
    }
}

fn map_status(f: &mut Fake, op: GnttabMapGrantRef) -> i16 {
    run(f, GNTTABOP_map_grant_ref, op).expect("readable").status
}

fn unmap_status(f: &mut Fake, op: GnttabUnmapGrantRef) -> i16 {
    run(f, GNTTABOP_unmap_grant_ref, op)
        .expect("readable")
        .status
}

#[test]
fn own_grants_can_be_mapped_by_address() {
    let mut f = Fake::new();
    let slot = page_tables(&mut f, VIRT);
    grant(&f, 30, GTF_permit_access, ME, FRAME);
    let flags = GNTMAP_host_map | 5 << 16;
    let op = run(&mut f, GNTTABOP_map_grant_ref, map_op(flags, 30)).unwrap();
    assert_eq!((op.status, op.dev_bus_addr), (GNTST_okay, FRAME << 12));
    let entry = f.m.load64(slot);
    assert_eq!(entry & pte::FRAME, FRAME << 12);
    assert_eq!(entry & !pte::FRAME, 0x67 | 5 << 9);
    assert_eq!(use_bits(&f, 30), GTF_reading | GTF_writing);
    assert!(f.m.flushed.is_empty());

    assert_eq!(unmap_status(&mut f, unmap_op(op.handle)), GNTST_okay);
    assert_eq!((f.m.load64(slot), use_bits(&f, 30)), (0, 0));
    assert_eq!(f.m.flushed, [crate::Flush::All]);
    assert_eq!(unmap_status(&mut f, unmap_op(op.handle)), GNTST_bad_handle);
}

#[test]
fn a_mapping_over_another_page_flushes() {
    let mut f = Fake::new();
    let slot = page_tables(&mut f, VIRT);
    f.m.store64(slot, FRAME << 12 | pte::PRESENT);
    grant(&f, 30, GTF_permit_access, ME, FRAME + 1);
    assert_eq!(map_status(&mut f, map_op(GNTMAP_host_map, 30)), GNTST_okay);
    assert_eq!(f.m.flushed, [crate::Flush::All]);
}

#[test]
fn own_grants_can_be_mapped_by_entry() {
    let mut f = Fake::new();
    grant(&f, 30, GTF_permit_access | GTF_readonly, ME, FRAME);
    let at = (Fake::RAM + 50) << 12 | 0x18;
    let by_pte = |host_addr: u64, flags: u32| GnttabMapGrantRef {
        host_addr,
        ..map_op(GNTMAP_host_map | GNTMAP_contains_pte | flags, 30)
    };
    let readonly = GNTMAP_readonly;
    assert_eq!(map_status(&mut f, by_pte(at, 0)), GNTST_general_error);
    assert_eq!(
        map_status(&mut f, by_pte(at + 4, readonly)),
        GNTST_general_error
    );
    assert_eq!(
        map_status(&mut f, by_pte(Fake::HEAP << 12, readonly)),
        GNTST_general_error
    );
    assert_eq!(use_bits(&f, 30), 0);
    assert_eq!(map_status(&mut f, by_pte(at, readonly)), GNTST_okay);
    assert_eq!(f.m.load64(Maddr(at)), FRAME << 12 | 0x65);
    assert_eq!(use_bits(&f, 30), GTF_reading);
    // Another address does not hold this mapping.
    let wrong = GnttabUnmapGrantRef {
        host_addr: at + 8,
        handle: 0,
        ..Default::default()
    };
    assert_eq!(unmap_status(&mut f, wrong), GNTST_general_error);
    let right = GnttabUnmapGrantRef {
        host_addr: at,
        ..wrong
    };
    assert_eq!(unmap_status(&mut f, right), GNTST_okay);
    assert_eq!(use_bits(&f, 30), 0);
}

#[test]
fn use_bits_follow_the_last_mapping() {
    let mut f = Fake::new();
    grant(&f, 30, GTF_permit_access, ME, FRAME);
    let device = |flags: u32| map_op(GNTMAP_device_map | flags, 30);
    let unmap = |handle: u32| GnttabUnmapGrantRef {
        host_addr: 0,
        dev_bus_addr: FRAME << 12,
        handle,
        ..Default::default()
    };
    assert_eq!(map_status(&mut f, device(0)), GNTST_okay);
    assert_eq!(map_status(&mut f, device(GNTMAP_readonly)), GNTST_okay);
    let astray = GnttabUnmapGrantRef {
        dev_bus_addr: 4096,
        ..unmap(0)
    };
    assert_eq!(unmap_status(&mut f, astray), GNTST_bad_dev_addr);
    assert_eq!(unmap_status(&mut f, unmap(0)), GNTST_okay);
    assert_eq!(use_bits(&f, 30), GTF_reading);
    assert_eq!(unmap_status(&mut f, unmap(1)), GNTST_okay);
    assert_eq!(use_bits(&f, 30), 0);
}

#[test]
fn mappings_refused() {
    let mut f = Fake::new();
    grant(&f, 30, GTF_permit_access, ME, FRAME);
    let host = GNTMAP_host_map;
    let of = |dom: DomId| GnttabMapGrantRef {
        dom,
        ..map_op(host, 30)
    };
    assert_eq!(map_status(&mut f, map_op(0, 30)), GNTST_bad_gntref);
    assert_eq!(map_status(&mut f, of(DOMID_SELF)), GNTST_bad_domain);
    assert_eq!(map_status(&mut f, of(DomId(9))), GNTST_bad_domain);
    assert_eq!(map_status(&mut f, of(DomId(0))), GNTST_general_error);
    assert_eq!(map_status(&mut f, map_op(host, 9999)), GNTST_bad_gntref);
    assert_eq!(map_status(&mut f, map_op(host, 31)), GNTST_general_error);
    // No page table for the address; then the grant is not in use either.
    f.v.kernel_l4 = Mfn(Fake::RAM + 100);
    assert_eq!(map_status(&mut f, map_op(host, 30)), GNTST_general_error);
    assert_eq!(use_bits(&f, 30), 0);
    for _ in 0..MAPPINGS {
        assert_eq!(
            map_status(&mut f, map_op(GNTMAP_device_map, 30)),
            GNTST_okay
        );
    }
    assert_eq!(
        map_status(&mut f, map_op(GNTMAP_device_map, 30)),
        GNTST_no_space
    );
    assert_eq!(
        unmap_status(&mut f, unmap_op(MAPPINGS as u32)),
        GNTST_bad_handle
    );
}

#[test]
fn unmap_and_replace_moves_an_entry() {
    let mut f = Fake::new();
    let slot = page_tables(&mut f, VIRT);
    let other = Maddr(slot.0 + 8);
    f.m.store64(other, 0x1234_5067);
    grant(&f, 30, GTF_permit_access, ME, FRAME);
    assert_eq!(map_status(&mut f, map_op(GNTMAP_host_map, 30)), GNTST_okay);
    let op = GnttabUnmapAndReplace {
        host_addr: VIRT,
        new_addr: VIRT + 4096,
        handle: 0,
        ..Default::default()
    };
    assert_eq!(
        run(&mut f, GNTTABOP_unmap_and_replace, op).unwrap().status,
        GNTST_okay
    );
    assert_eq!((f.m.load64(slot), f.m.load64(other)), (0x1234_5067, 0));
}

fn end(u: u64, domid: DomId, offset: u16) -> GnttabCopyPtr {
    GnttabCopyPtr {
        u,
        domid,
        offset,
        _pad0: [0; 4],
    }
}

fn copy_status(
    f: &mut Fake,
    source: GnttabCopyPtr,
    dest: GnttabCopyPtr,
    len: u16,
    flags: u16,
) -> i16 {
    let op = GnttabCopy {
        source,
        dest,
        len,
        flags,
        status: 0,
        _pad0: [0; 2],
    };
    run(f, GNTTABOP_copy, op).expect("readable").status
}

#[test]
fn copies() {
    let mut f = Fake::new();
    let text: [u8; 600] = core::array::from_fn(|index| index as u8);
    f.poke(Vaddr(Fake::virt(FRAME).0 + 10), &text);
    grant(&f, 40, GTF_permit_access, ME, FRAME + 1);
    let (from, to) = (end(FRAME, DOMID_SELF, 10), end(40, ME, 3000));
    let by_gref = GNTCOPY_dest_gref;
    assert_eq!(copy_status(&mut f, from, to, 600, by_gref), GNTST_okay);
    let copied: [u8; 600] = f.peek(Vaddr(Fake::virt(FRAME + 1).0 + 3000));
    assert!(copied == text);
    assert_eq!(use_bits(&f, 40), 0);

    assert_eq!(
        copy_status(&mut f, from, to, 1097, by_gref),
        GNTST_bad_copy_arg
    );
    let foreign = end(FRAME, DomId(0), 0);
    assert_eq!(
        copy_status(&mut f, foreign, to, 1, by_gref),
        GNTST_permission_denied
    );
    assert_eq!(
        copy_status(&mut f, end(FRAME, ME, 0), to, 1, by_gref),
        GNTST_permission_denied
    );
    assert_eq!(
        copy_status(&mut f, from, end(40, DomId(9), 0), 1, by_gref),
        GNTST_bad_domain
    );
    assert_eq!(
        copy_status(&mut f, from, end(40, DomId(0), 0), 1, by_gref),
        GNTST_general_error
    );
    assert_eq!(
        copy_status(&mut f, end(3, DOMID_SELF, 0), to, 1, by_gref),
        GNTST_bad_page
    );
    assert_eq!(
        copy_status(&mut f, from, end(77_777, ME, 0), 1, by_gref),
        GNTST_bad_gntref
    );
    grant(&f, 40, GTF_permit_access | GTF_readonly, ME, FRAME + 1);
    assert_eq!(
        copy_status(&mut f, from, to, 1, by_gref),
        GNTST_general_error
    );
    assert_eq!(
        copy_status(&mut f, end(40, ME, 0), from, 1, GNTCOPY_source_gref),
        GNTST_okay
    );
}

#[test]
fn copies_stay_in_a_part_of_a_page() {
    let mut f = Fake::new();
    set_v2(&mut f);
    grant(&f, 20, GTF_permit_access | GTF_sub_page, ME, FRAME);
    f.m.store32(Maddr(table(&f).entry(20).0 + 4), 100 | 200 << 16);
    let to = end(FRAME + 1, DOMID_SELF, 0);
    let mut from = |offset: u16, len: u16| {
        copy_status(&mut f, end(20, ME, offset), to, len, GNTCOPY_source_gref)
    };
    assert_eq!(from(100, 200), GNTST_okay);
    assert_eq!(from(99, 1), GNTST_general_error);
    assert_eq!(from(100, 201), GNTST_general_error);
    assert_eq!(from(300, 0), GNTST_okay);
    assert_eq!(from(4096, 0), GNTST_general_error);
    assert_eq!(from(4096, 1), GNTST_bad_copy_arg);
}

#[test]
fn a_transferred_page_is_gone() {
    let mut f = Fake::new();
    let op = |mfn: u64, domid: DomId| GnttabTransfer {
        mfn,
        domid,
        ..Default::default()
    };
    let cmd = GNTTABOP_transfer;
    assert_eq!(
        run(&mut f, cmd, op(3, DomId(0))).unwrap().status,
        GNTST_bad_page
    );
    assert_eq!(
        run(&mut f, cmd, op(FRAME, DomId(9))).unwrap().status,
        GNTST_bad_domain
    );
    assert_eq!(
        run(&mut f, cmd, op(FRAME, DomId(0))).unwrap().status,
        GNTST_bad_page
    );
    assert_eq!(f.m.released, [(FRAME, 1)]);
}

#[test]
fn entries_swap_unless_in_use() {
    for version in [1, 2] {
        let mut f = Fake::new();
        if version == 2 {
            set_v2(&mut f);
        }
        grant(&f, 50, GTF_permit_access, ME, FRAME);
        grant(&f, 51, GTF_permit_access, DomId(0), FRAME + 1);
        let op = |a: u32, b: u32| GnttabSwapGrantRef {
            ref_a: GrantRef(a),
            ref_b: GrantRef(b),
            ..Default::default()
        };
        let cmd = GNTTABOP_swap_grant_ref;
        assert_eq!(run(&mut f, cmd, op(50, 51)).unwrap().status, GNTST_okay);
        let gref = GrantRef(50);
        let mfn = pin(&f, gref, true, Use::Map);
        assert_eq!(mfn.map(|granted| granted.mfn.0), Ok(FRAME + 1));
        assert_eq!(run(&mut f, cmd, op(51, 50)).unwrap().status, GNTST_eagain);
        assert_eq!(run(&mut f, cmd, op(50, 50)).unwrap().status, GNTST_okay);
        assert_eq!(
            run(&mut f, cmd, op(50, 5000)).unwrap().status,
            GNTST_bad_gntref
        );
    }
}

#[test]
fn cache_flushes() {
    let mut f = Fake::new();
    let op = |a: u64, offset: u16, length: u16, op: u32| GnttabCacheFlush {
        a,
        offset,
        length,
        op,
    };
    let page = FRAME << 12;
    let mut result = |op| run(&mut f, GNTTABOP_cache_flush, op).map(drop);
    let (clean, drop_lines) = (GNTTAB_CACHE_CLEAN, GNTTAB_CACHE_INVAL);
    assert_eq!(result(op(page, 0, 4096, clean)), Ok(()));
    assert_eq!(result(op(page, 0, 4096, clean | drop_lines)), Ok(()));
    assert_eq!(result(op(page, 0, 64, drop_lines)), Err(Errno::EOPNOTSUPP));
    assert_eq!(result(op(page, 1, 4096, clean)), Err(Errno::EINVAL));
    assert_eq!(
        result(op(page, 0, 1, GNTTAB_CACHE_SOURCE_GREF | clean)),
        Err(Errno::EINVAL)
    );
    assert_eq!(result(op(4096, 0, 1, clean)), Err(Errno::EPERM));
    assert_eq!(result(op(4096, 0, 0, clean)), Ok(()));
}

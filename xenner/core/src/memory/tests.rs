use super::*;
use crate::fake::Fake;
use xen_sys::DomId;
use xen_sys::xen::DOMID_SELF;

const END: u64 = Fake::RAM + Fake::NR_PAGES;

fn args(nr_extents: u64, order: u32) -> XenMemoryReservation {
    XenMemoryReservation {
        extent_start: xen_sys::GuestHandle(Fake::LIST.0),
        nr_extents,
        extent_order: order,
        mem_flags: 0,
        domid: DOMID_SELF,
        _pad0: [0; 6],
    }
}

fn call<T: zerocopy::IntoBytes + zerocopy::Immutable>(f: &mut Fake, cmd: u32, arg: T) -> Ret {
    f.poke(Fake::ARG, &arg);
    f.call(|m, d, v| memory_op(m, d, v, u64::from(cmd), Fake::ARG))
}

fn set_list(f: &mut Fake, list: &[u64]) {
    for (index, value) in list.iter().enumerate() {
        f.poke(Vaddr(Fake::LIST.0 + index as u64 * 8), value);
    }
}

fn list(f: &mut Fake, count: u64) -> std::vec::Vec<u64> {
    (0..count)
        .map(|index| f.peek(Vaddr(Fake::LIST.0 + index * 8)))
        .collect()
}

extern crate std;

#[test]
fn the_bitmap_starts_with_the_first_pages_owned() {
    let f = Fake::new();
    let owned = |mfn: u64| is_owned(&f.m, &f.d, Mfn(mfn));
    assert!(owned(Fake::RAM) && owned(END - 1));
    assert!(!owned(Fake::RAM - 1) && !owned(END) && !owned(Fake::RAM + Fake::MAX_PAGES));
    assert!(!owned(0) && !owned(u64::MAX));
    assert_eq!(tot_pages(&f.d), Fake::NR_PAGES);
}

#[test]
fn bitmap_sizes() {
    // 2^24 frames: 64 GiB take 2 MiB, a 64th of it, and the slack.
    assert_eq!(bitmap_pages(1 << 24), 512 + 8 + 1);
    assert_eq!(bitmap_pages(1), 1);
}

#[test]
fn a_balloon_goes_down_and_up() {
    let mut f = Fake::new();
    set_list(&mut f, &[END - 2, END - 1, Fake::RAM + 5]);
    assert_eq!(call(&mut f, XENMEM_decrease_reservation, args(3, 0)), Ok(3));
    assert_eq!(f.m.released, [(END - 2, 2), (Fake::RAM + 5, 1)]);
    assert_eq!(f.m.m2p[&(END - 1)], INVALID_M2P_ENTRY);
    assert_eq!(tot_pages(&f.d), Fake::NR_PAGES - 3);
    assert_eq!(
        call(&mut f, XENMEM_current_reservation, DOMID_SELF),
        Ok(Fake::NR_PAGES - 3)
    );

    f.m.store64(Maddr((Fake::RAM + 5) << 12), 99);
    set_list(&mut f, &[1000, 1001]);
    assert_eq!(call(&mut f, XENMEM_populate_physmap, args(2, 0)), Ok(2));
    assert_eq!(list(&mut f, 2), [Fake::RAM + 5, END - 2]);
    assert_eq!(f.m.m2p[&(Fake::RAM + 5)], 1000);
    // What comes back is clear.
    assert_eq!(f.m.load64(Maddr((Fake::RAM + 5) << 12)), 0);
    assert_eq!(
        call(&mut f, XENMEM_maximum_reservation, DOMID_SELF),
        Ok(Fake::MAX_PAGES)
    );
}

#[test]
fn a_bad_frame_stops_a_decrease() {
    let mut f = Fake::new();
    let twice = Fake::RAM + 1;
    for bad in [twice, END, 0, u64::MAX] {
        let mut f = Fake::new();
        set_list(&mut f, &[twice, bad, Fake::RAM + 2]);
        assert_eq!(call(&mut f, XENMEM_decrease_reservation, args(3, 0)), Ok(1));
        assert_eq!(tot_pages(&f.d), Fake::NR_PAGES - 1);
    }
    // In an extent, the frames in front of the bad one are gone.
    set_list(&mut f, &[END - 3]);
    assert_eq!(call(&mut f, XENMEM_decrease_reservation, args(1, 2)), Ok(0));
    assert_eq!(
        (tot_pages(&f.d), f.m.released.as_slice()),
        (Fake::NR_PAGES - 3, &[(END - 3, 3)][..])
    );
}

#[test]
fn memory_runs_out_at_the_limit() {
    let mut f = Fake::new();
    let spare = Fake::MAX_PAGES - Fake::NR_PAGES;
    let mut whole = args(spare + 5, 0);
    whole.extent_start = xen_sys::GuestHandle::NULL;
    assert_eq!(call(&mut f, XENMEM_increase_reservation, whole), Ok(spare));
    assert_eq!(tot_pages(&f.d), Fake::MAX_PAGES);
    assert!(is_owned(&f.m, &f.d, Mfn(Fake::RAM + Fake::MAX_PAGES - 1)));
    assert_eq!(call(&mut f, XENMEM_increase_reservation, whole), Ok(0));
}

#[test]
fn extents_are_aligned_and_contiguous() {
    for order in 0..=9 {
        let mut f = Fake::new();
        // Holes everywhere: every third frame of the free part is taken.
        for mfn in (END..END + 600).step_by(3) {
            Bitmap::of(&f.d.config).mark(&f.m, mfn, 1, true);
        }
        set_list(&mut f, &[0x9000]);
        assert_eq!(
            call(&mut f, XENMEM_populate_physmap, args(1, order)),
            Ok(1),
            "{order}"
        );
        let mfn = list(&mut f, 1)[0];
        assert_eq!(mfn % (1 << order), 0);
        assert!((END..Fake::RAM + Fake::MAX_PAGES).contains(&mfn));
        for offset in 0..1 << order {
            assert_eq!(f.m.m2p[&(mfn + offset)], 0x9000 + offset);
            assert!(is_owned(&f.m, &f.d, Mfn(mfn + offset)));
        }
    }
    assert_eq!(
        call(&mut Fake::new(), XENMEM_populate_physmap, args(1, 10)),
        Ok(0)
    );
}

#[test]
fn address_bits_limit_the_frames() {
    let mut f = Fake::new();
    let bits = |bits: u32| XenMemoryReservation {
        mem_flags: bits,
        ..args(1, 0)
    };
    set_list(&mut f, &[7]);
    // The domain's memory starts at 2^28.
    assert_eq!(call(&mut f, XENMEM_populate_physmap, bits(28)), Ok(0));
    assert_eq!(
        call(&mut f, XENMEM_populate_physmap, bits(12)),
        Err(Errno::EINVAL)
    );
    assert_eq!(call(&mut f, XENMEM_populate_physmap, bits(29)), Ok(1));
}

#[test]
fn bad_lists_give_no_error() {
    let mut f = Fake::new();
    let nowhere = XenMemoryReservation {
        extent_start: xen_sys::GuestHandle(64),
        ..args(2, 0)
    };
    for cmd in [
        XENMEM_increase_reservation,
        XENMEM_decrease_reservation,
        XENMEM_populate_physmap,
    ] {
        assert_eq!(call(&mut f, cmd, nowhere), Ok(0));
        assert_eq!(
            call(
                &mut f,
                cmd,
                XenMemoryReservation {
                    domid: DomId(0),
                    ..args(2, 0)
                }
            ),
            Ok(0)
        );
        assert_eq!(call(&mut f, cmd, args(u64::MAX, 0)), Ok(0));
        assert_eq!(
            f.call(|m, d, v| memory_op(m, d, v, u64::from(cmd), Vaddr(8))),
            Ok(0)
        );
    }
    // Xen keeps the frame it could not name, and so do we.
    assert_eq!(tot_pages(&f.d), Fake::NR_PAGES + 1);
    // A call that is continued starts where it says.
    set_list(&mut f, &[0, 0, Fake::RAM]);
    let cmd = XENMEM_decrease_reservation | 2 << 6;
    assert_eq!(call(&mut f, cmd, args(3, 0)), Ok(3));
    assert_eq!(tot_pages(&f.d), Fake::NR_PAGES);
}

fn swap(order_in: u32, order_out: u32) -> XenMemoryExchange {
    let order = order_in.max(order_out);
    let mut op = XenMemoryExchange {
        in_: args(1 << (order - order_in), order_in),
        out: args(1 << (order - order_out), order_out),
        nr_exchanged: 0,
    };
    op.out.extent_start.0 += 0x2000;
    op
}

const OUT: Vaddr = Vaddr(Fake::LIST.0 + 0x2000);

#[test]
fn exchange_makes_frames_contiguous() {
    let mut f = Fake::new();
    let scattered: std::vec::Vec<u64> = (0..8).map(|index| Fake::RAM + 3 * index).collect();
    set_list(&mut f, &scattered);
    f.poke(OUT, &0x5000u64);
    assert_eq!(call(&mut f, XENMEM_exchange, swap(0, 3)), Ok(0));
    assert_eq!(f.peek::<XenMemoryExchange>(Fake::ARG).nr_exchanged, 8);
    let mfn: u64 = f.peek(OUT);
    assert_eq!(mfn % 8, 0);
    assert_eq!((f.m.m2p[&mfn], f.m.m2p[&(mfn + 7)]), (0x5000, 0x5007));
    assert!(scattered.iter().all(|mfn| !is_owned(&f.m, &f.d, Mfn(*mfn))));
    assert_eq!(tot_pages(&f.d), Fake::NR_PAGES);
}

#[test]
fn exchange_splits_extents() {
    let mut f = Fake::new();
    set_list(&mut f, &[END - 4]);
    for index in 0..4 {
        f.poke(Vaddr(OUT.0 + index * 8), &(0x700 + index));
    }
    assert_eq!(call(&mut f, XENMEM_exchange, swap(2, 0)), Ok(0));
    let got: [u64; 4] = f.peek(OUT);
    assert!(got.iter().all(|mfn| is_owned(&f.m, &f.d, Mfn(*mfn))));
    assert_eq!(f.m.m2p[&got[3]], 0x703);
}

#[test]
fn exchange_works_at_the_limit() {
    let mut f = Fake::new();
    let spare = Fake::MAX_PAGES - Fake::NR_PAGES;
    let mut whole = args(spare, 0);
    whole.extent_start = xen_sys::GuestHandle::NULL;
    assert_eq!(call(&mut f, XENMEM_increase_reservation, whole), Ok(spare));
    let aligned = Fake::RAM.next_multiple_of(16);
    set_list(
        &mut f,
        &(aligned..aligned + 16).collect::<std::vec::Vec<_>>(),
    );
    f.poke(OUT, &0u64);
    assert_eq!(call(&mut f, XENMEM_exchange, swap(0, 4)), Ok(0));
    let got: u64 = f.peek(OUT);
    assert_eq!(got % 16, 0);
    assert_eq!(tot_pages(&f.d), Fake::MAX_PAGES);
}

#[test]
fn a_failed_exchange_changes_nothing() {
    let mut f = Fake::new();
    set_list(
        &mut f,
        &[Fake::RAM, Fake::RAM + 1, Fake::RAM, Fake::RAM + 3],
    );
    assert_eq!(
        call(&mut f, XENMEM_exchange, swap(0, 2)),
        Err(Errno::EINVAL)
    );
    assert_eq!(f.peek::<XenMemoryExchange>(Fake::ARG).nr_exchanged, 0);
    assert!((0..4).all(|offset| is_owned(&f.m, &f.d, Mfn(Fake::RAM + offset))));
    // Nothing below 2^13 bytes.
    set_list(
        &mut f,
        &[Fake::RAM, Fake::RAM + 1, Fake::RAM + 2, Fake::RAM + 3],
    );
    let mut low = swap(0, 2);
    low.out.mem_flags = 13;
    assert_eq!(call(&mut f, XENMEM_exchange, low), Err(Errno::ENOMEM));
    assert!((0..4).all(|offset| is_owned(&f.m, &f.d, Mfn(Fake::RAM + offset))));
    assert_eq!((tot_pages(&f.d), f.m.released.len()), (Fake::NR_PAGES, 0));
}

#[test]
fn exchange_checks_its_sizes() {
    let mut f = Fake::new();
    assert_eq!(
        call(&mut f, XENMEM_exchange, swap(0, 10)),
        Err(Errno::EPERM)
    );
    let mut odd = swap(0, 3);
    odd.in_.nr_extents = 7;
    assert_eq!(call(&mut f, XENMEM_exchange, odd), Err(Errno::EINVAL));
    let mut huge = swap(0, 0);
    (huge.in_.nr_extents, huge.out.nr_extents) = (u64::MAX, u64::MAX);
    assert_eq!(call(&mut f, XENMEM_exchange, huge), Err(Errno::EINVAL));
    let mut foreign = swap(0, 0);
    (foreign.in_.domid, foreign.out.domid) = (DomId(5), DomId(5));
    assert_eq!(call(&mut f, XENMEM_exchange, foreign), Err(Errno::ESRCH));
    let mut nowhere = swap(0, 0);
    nowhere.in_.extent_start.0 = 16;
    assert_eq!(call(&mut f, XENMEM_exchange, nowhere), Err(Errno::EFAULT));
}

#[test]
fn the_memory_map_is_one_piece_of_ram() {
    let mut f = Fake::new();
    let map = XenMemoryMap {
        nr_entries: 128,
        _pad0: [0; 4],
        buffer: xen_sys::GuestHandle(Fake::LIST.0),
    };
    assert_eq!(call(&mut f, XENMEM_memory_map, map), Ok(0));
    assert_eq!(f.peek::<XenMemoryMap>(Fake::ARG).nr_entries, 1);
    let ram = E820Entry {
        addr: 0,
        size: Fake::MAX_PAGES << 12,
        kind: E820_RAM,
    };
    assert_eq!(f.peek::<E820Entry>(Fake::LIST), ram);
    assert_eq!(
        call(&mut f, XENMEM_machine_memory_map, map),
        Err(Errno::EPERM)
    );
}

#[test]
fn what_the_machine_has() {
    let mut f = Fake::new();
    assert_eq!(call(&mut f, XENMEM_machphys_mapping, [0u64; 3]), Ok(0));
    let mapping: XenMachphysMapping = f.peek(Fake::ARG);
    assert_eq!(mapping.max_mfn, Fake::HEAP + Fake::HEAP_PAGES - 1);
    assert_eq!(
        mapping.v_end.0 - mapping.v_start.0,
        (mapping.max_mfn + 1) * 8
    );
    assert_eq!(
        call(&mut f, XENMEM_maximum_ram_page, 0u8),
        Ok(mapping.max_mfn + 1)
    );
    assert_eq!(call(&mut f, XENMEM_maximum_gpfn, DOMID_SELF), Ok(0));
    f.m.store64(Maddr((Fake::HEAP << 12) + 3088), 2048);
    assert_eq!(call(&mut f, XENMEM_maximum_gpfn, DOMID_SELF), Ok(2047));
    assert_eq!(
        call(&mut f, XENMEM_current_reservation, DomId(0)),
        Err(Errno::EPERM)
    );
    assert_eq!(
        call(&mut f, XENMEM_current_reservation, DomId(1)),
        Err(Errno::ESRCH)
    );
}

#[test]
fn what_a_pv_domain_has_not() {
    let mut f = Fake::new();
    let mut add = XenAddToPhysmap {
        domid: DOMID_SELF,
        ..Default::default()
    };
    assert_eq!(call(&mut f, XENMEM_add_to_physmap, add), Err(Errno::EACCES));
    add.space = XENMAPSPACE_gmfn_foreign;
    assert_eq!(call(&mut f, XENMEM_add_to_physmap, add), Err(Errno::ENOSYS));
    let batch = XenAddToPhysmapBatch {
        domid: DOMID_SELF,
        size: 2,
        errs: xen_sys::GuestHandle(Fake::LIST.0),
        ..Default::default()
    };
    assert_eq!(call(&mut f, XENMEM_add_to_physmap_batch, batch), Ok(0));
    assert_eq!(f.peek::<[i32; 3]>(Fake::LIST), [-13, -13, 0]);
    let remove = XenRemoveFromPhysmap {
        domid: DOMID_SELF,
        _pad0: [0; 6],
        gpfn: Fake::RAM,
    };
    assert_eq!(
        call(&mut f, XENMEM_remove_from_physmap, remove),
        Err(Errno::EACCES)
    );
    let pod = XenPodTarget {
        domid: DOMID_SELF,
        ..Default::default()
    };
    assert_eq!(call(&mut f, XENMEM_get_pod_target, pod), Err(Errno::EINVAL));
    assert_eq!(
        call(&mut f, XENMEM_claim_pages, args(1, 1)),
        Err(Errno::EINVAL)
    );
    let vnuma = XenVnumaTopologyInfo {
        domid: DOMID_SELF,
        ..Default::default()
    };
    assert_eq!(
        call(&mut f, XENMEM_get_vnumainfo, vnuma),
        Err(Errno::EOPNOTSUPP)
    );
    assert_eq!(call(&mut f, 8, 0u64), Err(Errno::ENOSYS));
    assert_eq!(call(&mut f, 63, 0u64), Err(Errno::ENOSYS));
    assert_eq!(
        call(&mut f, XENMEM_maximum_ram_page | 1 << 6, 0u64),
        Err(Errno::EINVAL)
    );
}

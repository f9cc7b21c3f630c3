//! `mmuext_op` (xen.h): pins, base pointers, flushes, LDT, page clearing and copying.

use xenner_guests::abi::*;
use xenner_guests::hypercall::{
    Arg, EFAULT, EINVAL, ENOSYS, HYPERVISOR, NON_CANONICAL, OK, UNMAPPED, call4,
};
use xenner_guests::memory::{A, D, P, Page, U, W, mfn_of, mmu_update, mmuext, peek, root};
use xenner_guests::report::{eq, see, yes};

const NO_FRAME: u64 = 0x000f_0000_0000;

pub fn run() {
    pins();
    base_pointers();
    flushes();
    pages();
    batches();
}

/// A level 4 to level 1 chain over one data page, all kernel mappings read-only.
fn chain() -> [Page; 4] {
    let tables = [Page::new(), Page::new(), Page::new(), Page::new()];
    let data = Page::new();
    let entry = |page: Page| page.mfn() << 12 | P | W | U | A | D;
    tables[3].write(1, entry(data));
    for level in 0..3 {
        tables[level].write(0, entry(tables[level + 1]));
    }
    for page in tables {
        page.read_only();
    }
    tables
}

fn pins() {
    let [l4, l3, l2, l1] = chain();
    let pin = |cmd: u32, page: Page| mmuext(cmd, page.mfn(), 0);
    let unpin = |page: Page| mmuext(MMUEXT_UNPIN_TABLE, page.mfn(), 0);
    eq("mmuext.pin.l1", pin(MMUEXT_PIN_L1_TABLE, l1), OK);
    eq("mmuext.pin.l1.twice", pin(MMUEXT_PIN_L1_TABLE, l1), EINVAL);
    eq("mmuext.pin.l2", pin(MMUEXT_PIN_L2_TABLE, l2), OK);
    eq("mmuext.pin.l3", pin(MMUEXT_PIN_L3_TABLE, l3), OK);
    eq("mmuext.pin.l4", pin(MMUEXT_PIN_L4_TABLE, l4), OK);
    eq("mmuext.unpin.l1", unpin(l1), OK);
    eq("mmuext.unpin.l1.twice", unpin(l1), EINVAL);
    eq("mmuext.unpin.l4", unpin(l4), OK);
    eq("mmuext.unpin.l3", unpin(l3), OK);
    eq("mmuext.unpin.l2", unpin(l2), OK);
    eq("mmuext.pin.empty", pin(MMUEXT_PIN_L4_TABLE, l4), OK);
    eq("mmuext.pin.whole", unpin(l4), OK);
    eq(
        "mmuext.pin.no_frame",
        mmuext(MMUEXT_PIN_L1_TABLE, NO_FRAME, 0),
        EINVAL,
    );
    eq(
        "mmuext.unpin.no_frame",
        mmuext(MMUEXT_UNPIN_TABLE, NO_FRAME, 0),
        EINVAL,
    );
    let plain = Page::new();
    eq("mmuext.unpin.data", unpin(plain), EINVAL);
    eq("mmuext.pin.after.data", l1.writable(), OK);
    typecount();
}

/// What only a hypervisor that counts page types refuses.
fn typecount() {
    let [l4, l3, l2, l1] = chain();
    let pin = |cmd: u32, page: Page| mmuext(cmd, page.mfn(), 0);
    see("typecount.pin.l1_as_l2", pin(MMUEXT_PIN_L2_TABLE, l1));
    eq("typecount.pin.l4", pin(MMUEXT_PIN_L4_TABLE, l4), OK);
    see("typecount.pin.l3_as_l2", pin(MMUEXT_PIN_L2_TABLE, l3));
    see("typecount.pinned.writable_mapping", l2.writable());
    see("typecount.pinned.l4_writable_mapping", l4.writable());
    see(
        "typecount.clear_page.pinned",
        mmuext(MMUEXT_CLEAR_PAGE, l2.mfn(), 0),
    );
    let garbage = Page::new();
    garbage.write(0, 0x000f_0000_0000_0000 | P | U);
    garbage.read_only();
    see("typecount.pin.garbage", pin(MMUEXT_PIN_L1_TABLE, garbage));
    let open = Page::new();
    see(
        "typecount.pin.mapped_writable",
        pin(MMUEXT_PIN_L1_TABLE, open),
    );
    mmuext(MMUEXT_UNPIN_TABLE, open.mfn(), 0);
    see(
        "typecount.l1_maps_table_writable",
        mmu_update(l1.entry(2), l2.mfn() << 12 | P | W | U),
    );
    see(
        "typecount.l1_maps_table_read_only",
        mmu_update(l1.entry(2), l2.mfn() << 12 | P | U),
    );
    mmu_update(l1.entry(2), 0);
    mmuext(MMUEXT_UNPIN_TABLE, l4.mfn(), 0);
}

/// A copy of the boot page table becomes the root, and the old one again.
fn base_pointers() {
    let copy = Page::new();
    for slot in 0..512 {
        if !(256..272).contains(&slot) {
            copy.write(slot, peek(root() + slot as u64 * 8));
        }
    }
    copy.read_only();
    let old = mfn_of(root());
    eq(
        "mmuext.baseptr.pin",
        mmuext(MMUEXT_PIN_L4_TABLE, copy.mfn(), 0),
        OK,
    );
    eq(
        "mmuext.baseptr.new",
        mmuext(MMUEXT_NEW_BASEPTR, copy.mfn(), 0),
        OK,
    );
    yes(
        "mmuext.baseptr.m2p_is_there",
        xenner_guests::memory::m2p(copy.mfn()) == copy.pfn(),
    );
    eq(
        "mmuext.baseptr.same",
        mmuext(MMUEXT_NEW_BASEPTR, copy.mfn(), 0),
        OK,
    );
    eq(
        "mmuext.baseptr.no_frame",
        mmuext(MMUEXT_NEW_BASEPTR, NO_FRAME, 0),
        EINVAL,
    );
    eq("mmuext.baseptr.old", mmuext(MMUEXT_NEW_BASEPTR, old, 0), OK);
    eq(
        "mmuext.baseptr.unpin",
        mmuext(MMUEXT_UNPIN_TABLE, copy.mfn(), 0),
        OK,
    );
    eq("mmuext.baseptr.reuse", copy.writable(), OK);
    let [l4, ..] = chain();
    eq(
        "mmuext.user_baseptr.unpinned",
        mmuext(MMUEXT_NEW_USER_BASEPTR, l4.mfn(), 0),
        OK,
    );
    eq(
        "mmuext.user_baseptr.again",
        mmuext(MMUEXT_NEW_USER_BASEPTR, l4.mfn(), 0),
        OK,
    );
    eq(
        "mmuext.user_baseptr.none",
        mmuext(MMUEXT_NEW_USER_BASEPTR, 0, 0),
        OK,
    );
    eq(
        "mmuext.user_baseptr.no_frame",
        mmuext(MMUEXT_NEW_USER_BASEPTR, NO_FRAME, 0),
        EINVAL,
    );
    eq("mmuext.user_baseptr.released", l4.writable(), OK);
}

fn flushes() {
    let page = Page::new();
    let vcpus = 1u64;
    let mask = (&vcpus).word();
    eq(
        "mmuext.tlb_flush_local",
        mmuext(MMUEXT_TLB_FLUSH_LOCAL, 0, 0),
        OK,
    );
    eq(
        "mmuext.invlpg_local",
        mmuext(MMUEXT_INVLPG_LOCAL, page.0, 0),
        OK,
    );
    eq(
        "mmuext.invlpg_local.unmapped",
        mmuext(MMUEXT_INVLPG_LOCAL, UNMAPPED, 0),
        OK,
    );
    eq(
        "mmuext.invlpg_local.hypervisor",
        mmuext(MMUEXT_INVLPG_LOCAL, HYPERVISOR, 0),
        OK,
    );
    eq(
        "mmuext.invlpg_local.non_canonical",
        mmuext(MMUEXT_INVLPG_LOCAL, NON_CANONICAL, 0),
        OK,
    );
    eq(
        "mmuext.tlb_flush_multi",
        mmuext(MMUEXT_TLB_FLUSH_MULTI, 0, mask),
        OK,
    );
    eq(
        "mmuext.invlpg_multi",
        mmuext(MMUEXT_INVLPG_MULTI, page.0, mask),
        OK,
    );
    see(
        "mmuext.tlb_flush_multi.bad_mask",
        mmuext(MMUEXT_TLB_FLUSH_MULTI, 0, UNMAPPED),
    );
    see(
        "mmuext.invlpg_multi.bad_mask",
        mmuext(MMUEXT_INVLPG_MULTI, page.0, UNMAPPED),
    );
    let many = u64::MAX;
    see(
        "mmuext.tlb_flush_multi.all_bits",
        mmuext(MMUEXT_TLB_FLUSH_MULTI, 0, (&many).word()),
    );
    eq(
        "mmuext.tlb_flush_all",
        mmuext(MMUEXT_TLB_FLUSH_ALL, 0, 0),
        OK,
    );
    eq(
        "mmuext.invlpg_all",
        mmuext(MMUEXT_INVLPG_ALL, page.0, 0),
        OK,
    );
    eq(
        "mmuext.invlpg_all.non_canonical",
        mmuext(MMUEXT_INVLPG_ALL, NON_CANONICAL, 0),
        OK,
    );
    see("mmuext.flush_cache", mmuext(MMUEXT_FLUSH_CACHE, 0, 0));
    see(
        "mmuext.flush_cache_global",
        mmuext(MMUEXT_FLUSH_CACHE_GLOBAL, 0, 0),
    );
}

fn pages() {
    let (from, to) = (Page::new(), Page::new());
    from.fill(0x1111);
    eq(
        "mmuext.copy_page",
        mmuext(MMUEXT_COPY_PAGE, to.mfn(), from.mfn()),
        OK,
    );
    yes(
        "mmuext.copy_page.copied",
        (0..512).all(|word| to.read(word) == 0x1111),
    );
    eq(
        "mmuext.clear_page",
        mmuext(MMUEXT_CLEAR_PAGE, to.mfn(), 0),
        OK,
    );
    yes(
        "mmuext.clear_page.cleared",
        (0..512).all(|word| to.read(word) == 0),
    );
    eq(
        "mmuext.clear_page.no_frame",
        mmuext(MMUEXT_CLEAR_PAGE, NO_FRAME, 0),
        EINVAL,
    );
    eq(
        "mmuext.copy_page.no_frame",
        mmuext(MMUEXT_COPY_PAGE, NO_FRAME, from.mfn()),
        EINVAL,
    );
    eq(
        "mmuext.copy_page.no_source",
        mmuext(MMUEXT_COPY_PAGE, to.mfn(), NO_FRAME),
        EINVAL,
    );
    eq("mmuext.set_ldt.none", mmuext(MMUEXT_SET_LDT, 0, 0), OK);
    see(
        "mmuext.set_ldt.none_bad_address",
        mmuext(MMUEXT_SET_LDT, NON_CANONICAL, 0),
    );
    eq(
        "mmuext.set_ldt.unaligned",
        mmuext(MMUEXT_SET_LDT, from.0 + 8, 1),
        EINVAL,
    );
    eq(
        "mmuext.set_ldt.too_long",
        mmuext(MMUEXT_SET_LDT, from.0, 8193),
        EINVAL,
    );
    eq(
        "mmuext.set_ldt.hypervisor",
        mmuext(MMUEXT_SET_LDT, HYPERVISOR, 1),
        EINVAL,
    );
    see(
        "mmuext.mark_super",
        mmuext(MMUEXT_MARK_SUPER, from.mfn(), 0),
    );
    see(
        "mmuext.unmark_super",
        mmuext(MMUEXT_UNMARK_SUPER, from.mfn(), 0),
    );
    eq("mmuext.cmd_14", mmuext(14, 0, 0), ENOSYS);
    eq("mmuext.cmd_21", mmuext(21, 0, 0), ENOSYS);
    eq("mmuext.cmd_large", mmuext(u32::MAX, 0, 0), ENOSYS);
}

fn batches() {
    let flush = MmuextOp {
        cmd: MMUEXT_TLB_FLUSH_LOCAL,
        ..MmuextOp::default()
    };
    let bad = MmuextOp {
        cmd: 99,
        ..MmuextOp::default()
    };
    let list = |ops: &[MmuextOp], done: u64, domid: u16| {
        call4(
            __HYPERVISOR_mmuext_op,
            ops.as_ptr() as u64,
            ops.len(),
            done,
            domid,
        )
    };
    let mut done = 9u32;
    let own = DOMID_SELF.0;
    eq(
        "mmuext.batch.two",
        list(&[flush, flush], (&mut done).word(), own),
        OK,
    );
    eq("mmuext.batch.two.done", done, 2);
    eq(
        "mmuext.batch.second_bad",
        list(&[flush, bad, flush], (&mut done).word(), own),
        ENOSYS,
    );
    eq("mmuext.batch.second_bad.done", done, 1);
    eq("mmuext.batch.none", list(&[], (&mut done).word(), own), OK);
    eq(
        "mmuext.batch.bad_list",
        call4(__HYPERVISOR_mmuext_op, UNMAPPED, 1, 0, own),
        EFAULT,
    );
    see("mmuext.batch.bad_done", list(&[flush], UNMAPPED, own));
    see("mmuext.batch.foreign_dom0", list(&[flush], 0, 0));
    see("mmuext.batch.foreign_nobody", list(&[flush], 0, 0x7000));
    see("mmuext.batch.foreign_io", list(&[flush], 0, DOMID_IO.0));
}

//! `mmu_update` and `update_va_mapping` (xen.h), and page table stores without a hypercall.

use xenner_guests::abi::*;
use xenner_guests::attempt;
use xenner_guests::hypercall::{
    Arg, EFAULT, EPERM, HYPERVISOR, OK, Ret, UNMAPPED, call2, call3, call4,
};
use xenner_guests::memory::{
    A, D, FRAME, P, Page, U, W, entry_maddr, entry_of, leaf, mmu_update, mmuext, peek, root,
    set_leaf,
};
use xenner_guests::report::{eq, see, skip, yes};
use xenner_guests::trap::Outcome;

/// No frame of any machine.
const NO_FRAME: u64 = 0x000f_0000_0000_0000;

pub fn run() {
    update_va_mapping();
    update_va_mapping_flags();
    l1_entries();
    batches();
    preserve_ad();
    direct_writes();
    upper_levels();
    level4();
}

fn va_mapping(va: u64, pte: u64, flags: u64) -> Ret {
    call3(__HYPERVISOR_update_va_mapping, va, pte, flags)
}

fn update_va_mapping() {
    let (page, other) = (Page::new(), Page::new());
    other.write(0, 0x77);
    let pte = other.mfn() << 12 | P | W | U;
    eq("mmu.va.map", va_mapping(page.0, pte, UVMF_INVLPG), OK);
    eq("mmu.va.seen", page.read(0), 0x77);
    see(
        "pteflags.kernel_mapping",
        format_args!("{:#x}", leaf(page.0).unwrap_or(0) & !FRAME & !(A | D)),
    );
    eq(
        "mmu.va.without_user",
        va_mapping(page.0, pte & !U, UVMF_INVLPG),
        OK,
    );
    see(
        "pteflags.kernel_mapping_without_user",
        format_args!("{:#x}", leaf(page.0).unwrap_or(0) & !FRAME & !(A | D)),
    );
    eq("mmu.va.unmap", va_mapping(page.0, 0, UVMF_INVLPG), OK);
    see(
        "mmu.va.unmapped.read",
        Outcome(attempt!("mov rax, [{at}]"; at = in(reg) page.0, out("rax") _)),
    );
    eq(
        "mmu.va.not_present",
        va_mapping(page.0, 0x1234_5678_9abc_def0 & !P, UVMF_INVLPG),
        OK,
    );
    see(
        "mmu.va.not_present.pte",
        format_args!("{:#x}", leaf(page.0).unwrap_or(0)),
    );
    eq(
        "mmu.va.no_frame",
        va_mapping(page.0, NO_FRAME | P | U, UVMF_INVLPG),
        EPERM,
    );
    eq("mmu.va.restore", page.writable(), OK);
    see("mmu.va.no_table", va_mapping(UNMAPPED, pte, UVMF_INVLPG));
    see(
        "mmu.va.no_table.not_present",
        va_mapping(UNMAPPED, 0, UVMF_INVLPG),
    );
    see(
        "mmu.va.hypervisor",
        va_mapping(HYPERVISOR, pte, UVMF_INVLPG),
    );
    see(
        "mmu.va.hypervisor.not_present",
        va_mapping(HYPERVISOR, 0, UVMF_INVLPG),
    );
    see("mmu.va.unaligned", va_mapping(page.0 + 8, pte, UVMF_INVLPG));
    page.writable();
    let other_domain = |domid: DomId| {
        call4(
            __HYPERVISOR_update_va_mapping_otherdomain,
            page.0,
            pte,
            UVMF_INVLPG,
            domid,
        )
    };
    see("mmu.va_otherdomain.self", other_domain(DOMID_SELF));
    see("mmu.va_otherdomain.dom0", other_domain(DomId(0)));
    see("mmu.va_otherdomain.nobody", other_domain(DomId(0x7000)));
    see("mmu.va_otherdomain.io", other_domain(DOMID_IO));
    page.writable();
}

fn update_va_mapping_flags() {
    let page = Page::new();
    let pte = page.mfn() << 12 | P | W | U | A | D;
    for (check, flags) in [
        ("mmu.va.flags.none", UVMF_NONE),
        ("mmu.va.flags.tlb_flush_local", UVMF_TLB_FLUSH | UVMF_LOCAL),
        ("mmu.va.flags.tlb_flush_all", UVMF_TLB_FLUSH | UVMF_ALL),
        ("mmu.va.flags.invlpg_all", UVMF_INVLPG | UVMF_ALL),
        ("mmu.va.flags.both", UVMF_FLUSHTYPE_MASK),
        ("mmu.va.flags.bit_3", 8),
    ] {
        see(check, va_mapping(page.0, pte, flags));
    }
    let vcpus = 1u64;
    see(
        "mmu.va.flags.invlpg_multi",
        va_mapping(page.0, pte, UVMF_INVLPG | UVMF_MULTI | (&vcpus).word()),
    );
    see(
        "mmu.va.flags.tlb_flush_multi",
        va_mapping(page.0, pte, UVMF_TLB_FLUSH | UVMF_MULTI | (&vcpus).word()),
    );
    see(
        "mmu.va.flags.bad_mask",
        va_mapping(page.0, pte, UVMF_INVLPG | UVMF_MULTI | UNMAPPED),
    );
}

/// What a level 1 entry may hold.
fn l1_entries() {
    let page = Page::new();
    let Some(at) = entry_maddr(page.0, 1) else {
        return skip("mmu.l1", "the page has no entry");
    };
    let pte = page.mfn() << 12 | P | W | U | A | D;
    eq("mmu.l1.same", mmu_update(at, pte), OK);
    for (check, bits) in [
        ("mmu.l1.pwt", 1 << 3),
        ("mmu.l1.pcd", 1 << 4),
        ("mmu.l1.pat", 1 << 7),
        ("mmu.l1.global", 1 << 8),
        ("mmu.l1.avail_9", 1 << 9),
        ("mmu.l1.avail_10", 1 << 10),
        ("mmu.l1.avail_11", 1 << 11),
        ("mmu.l1.avail_52", 1 << 52),
        ("mmu.l1.avail_58", 1 << 58),
        ("mmu.l1.key_59", 1 << 59),
        ("mmu.l1.key_62", 1 << 62),
        ("mmu.l1.nx", 1 << 63),
    ] {
        let ret = mmu_update(at, pte | bits);
        let kept = leaf(page.0).unwrap_or(0) & bits == bits;
        see(
            check,
            format_args!("{ret} {}", if kept { "kept" } else { "lost" }),
        );
    }
    eq("mmu.l1.no_frame", mmu_update(at, NO_FRAME | P | U), EPERM);
    see("mmu.l1.frame_0", mmu_update(at, P | U));
    eq("mmu.l1.not_present", mmu_update(at, 0xdead_bee0), OK);
    eq("mmu.l1.back", mmu_update(at, pte), OK);
    let fetch = page.0;
    eq("mmu.l1.nx_set", mmu_update(at, pte | 1 << 63), OK);
    mmuext(MMUEXT_INVLPG_LOCAL, page.0, 0);
    see(
        "mmu.l1.nx_fetch",
        Outcome(attempt!("call {fetch}"; fetch = in(reg) fetch, clobber_abi("sysv64"))),
    );
    page.writable();
}

/// Requests, their order and their count.
fn batches() {
    let page = Page::new();
    let at = entry_maddr(page.0, 1).unwrap_or(0);
    let pte = page.mfn() << 12 | P | W | U | A | D;
    let list = |requests: &[MmuUpdate], done: u64, domid: u16| {
        let list = requests.as_ptr() as u64;
        call4(__HYPERVISOR_mmu_update, list, requests.len(), done, domid)
    };
    let good = MmuUpdate { ptr: at, val: pte };
    let bad = MmuUpdate {
        ptr: at,
        val: NO_FRAME | P,
    };
    let own = DOMID_SELF.0;
    let mut done = 9u32;
    eq(
        "mmu.batch.two",
        list(&[good, good], (&mut done).word(), own),
        OK,
    );
    eq("mmu.batch.two.done", done, 2);
    eq(
        "mmu.batch.second_bad",
        list(&[good, bad, good], (&mut done).word(), own),
        EPERM,
    );
    eq("mmu.batch.second_bad.done", done, 1);
    eq("mmu.batch.none", list(&[], (&mut done).word(), own), OK);
    see("mmu.batch.none.done", done);
    eq("mmu.batch.bad_done", list(&[good], UNMAPPED, own), OK);
    eq("mmu.batch.null_done", list(&[good], 0, own), OK);
    eq(
        "mmu.batch.bad_list",
        call4(__HYPERVISOR_mmu_update, UNMAPPED, 1, &mut done, own),
        EFAULT,
    );
    see("mmu.batch.bad_list.done", done);
    eq(
        "mmu.batch.hypervisor_list",
        call4(__HYPERVISOR_mmu_update, HYPERVISOR, 1, 0, own),
        EFAULT,
    );
    see("mmu.batch.foreign_dom0", list(&[good], 0, 0));
    see("mmu.batch.foreign_nobody", list(&[good], 0, 0x7000));
    see("mmu.batch.foreign_io", list(&[good], 0, DOMID_IO.0));
    see("mmu.batch.foreign_xen", list(&[good], 0, DOMID_XEN.0));
    see(
        "mmu.batch.table_dom0",
        call4(
            __HYPERVISOR_mmu_update,
            &good,
            1,
            0,
            1u32 << 16 | u32::from(own),
        ),
    );
    see("mmu.batch.no_table_frame", mmu_update(NO_FRAME, pte));
    see("mmu.batch.unaligned_ptr", mmu_update(at | 4, pte));
    see(
        "mmu.batch.no_translate",
        mmu_update(at | MMU_PT_UPDATE_NO_TRANSLATE, pte),
    );
    let data = Page::new();
    see("mmu.batch.data_page", mmu_update(data.mfn() << 12, 0x1234));
    see("mmu.batch.data_page.word", data.read(0));
    page.writable();
}

/// `MMU_PT_UPDATE_PRESERVE_AD` keeps the bits the CPU set.
fn preserve_ad() {
    let page = Page::new();
    let at = entry_maddr(page.0, 1).unwrap_or(0);
    let clean = page.mfn() << 12 | P | W | U;
    eq("mmu.ad.clear", mmu_update(at, clean), OK);
    mmuext(MMUEXT_INVLPG_LOCAL, page.0, 0);
    page.write(0, 1);
    yes(
        "mmu.ad.set_by_cpu",
        leaf(page.0).unwrap_or(0) & (A | D) == A | D,
    );
    eq(
        "mmu.ad.preserve",
        mmu_update(at | MMU_PT_UPDATE_PRESERVE_AD, clean),
        OK,
    );
    yes(
        "mmu.ad.preserved",
        leaf(page.0).unwrap_or(0) & (A | D) == A | D,
    );
    eq("mmu.ad.plain", mmu_update(at, clean), OK);
    yes("mmu.ad.cleared", leaf(page.0).unwrap_or(0) & (A | D) == 0);
    page.writable();
}

/// Level 1 tables are mapped read-only, and stores to them work nevertheless (xen.h, writable page tables).
fn direct_writes() {
    let page = Page::new();
    let Some(entry) = entry_of(page.0, 1) else {
        return skip("mmu.direct", "the page has no entry");
    };
    let pte = page.mfn() << 12 | P | W | U | A | D;
    let assist = |cmd: u32| call2(__HYPERVISOR_vm_assist, cmd, VMASST_TYPE_writable_pagetables);
    see(
        "mmu.direct.without_assist",
        Outcome(attempt!("mov [{to}], {pte}"; to = in(reg) entry, pte = in(reg) pte)),
    );
    eq("mmu.direct.assist", assist(VMASST_CMD_enable), OK);
    see(
        "mmu.direct.mov",
        Outcome(attempt!("mov [{to}], {pte}"; to = in(reg) entry, pte = in(reg) pte & !W)),
    );
    eq("mmu.direct.mov.entry", peek(entry) & (P | W | U), P | U);
    mmuext(MMUEXT_INVLPG_LOCAL, page.0, 0);
    see(
        "mmu.direct.protected",
        Outcome(attempt!("mov qword ptr [{to}], 1"; to = in(reg) page.0)),
    );
    see(
        "mmu.direct.xchg",
        Outcome(attempt!("xchg [{to}], {pte}"; to = in(reg) entry, pte = inout(reg) pte => _)),
    );
    eq(
        "mmu.direct.xchg.entry",
        peek(entry) & (P | W | U),
        P | W | U,
    );
    let old = peek(entry);
    see(
        "mmu.direct.cmpxchg",
        Outcome(attempt!("lock cmpxchg [{to}], {new}";
        to = in(reg) entry, new = in(reg) 0u64, inout("rax") old => _)),
    );
    eq("mmu.direct.cmpxchg.entry", peek(entry), 0);
    see(
        "mmu.direct.not_present",
        Outcome(attempt!("mov [{to}], {pte}"; to = in(reg) entry, pte = in(reg) 0x1230u64)),
    );
    eq("mmu.direct.not_present.entry", peek(entry), 0x1230);
    see(
        "mmu.direct.without_user",
        Outcome(attempt!("mov [{to}], {pte}"; to = in(reg) entry, pte = in(reg) pte & !U)),
    );
    eq(
        "mmu.direct.without_user.entry",
        peek(entry) & (P | W | U),
        P | W | U,
    );
    page.write(0, 3);
    see(
        "mmu.direct.no_frame",
        Outcome(attempt!("mov [{to}], {pte}"; to = in(reg) entry, pte = in(reg) NO_FRAME | P)),
    );
    see(
        "mmu.direct.half",
        Outcome(attempt!("mov dword ptr [{to}], {half:e}";
        to = in(reg) entry, half = in(reg) 0x1234_5670u32)),
    );
    set_leaf(page.0, 0);
    see(
        "mmu.direct.or",
        Outcome(attempt!("lock or qword ptr [{to}], 64"; to = in(reg) entry)),
    );
    see(
        "mmu.direct.bts",
        Outcome(attempt!("lock bts qword ptr [{to}], 9"; to = in(reg) entry)),
    );
    see("mmu.direct.bits.entry", format_args!("{:#x}", peek(entry)));
    let upper = entry_of(page.0, 2).unwrap_or(0);
    let value = peek(upper);
    see(
        "mmu.direct.level2",
        Outcome(attempt!("mov [{to}], {pte}"; to = in(reg) upper, pte = in(reg) value)),
    );
    let top = entry_of(page.0, 4).unwrap_or(0);
    let value = peek(top);
    see(
        "mmu.direct.level4",
        Outcome(attempt!("mov [{to}], {pte}"; to = in(reg) top, pte = in(reg) value)),
    );
    page.writable();
}

/// Hangs a chain of new tables below a free level 4 slot, uses it, takes it away.
fn upper_levels() {
    let (l3, l2, l1, data) = (Page::new(), Page::new(), Page::new(), Page::new());
    let table = |page: Page| page.mfn() << 12 | P | W | U | A | D;
    let base = UNMAPPED;
    data.write(0, 0x5a);
    l1.write(0, table(data));
    l2.write(0, table(l1));
    l3.write(0, table(l2));
    for page in [l3, l2, l1] {
        page.read_only();
    }
    let slot = base >> 39 & 511;
    let top = entry_maddr(root() + slot * 8, 1)
        .and(entry_maddr(base, 4))
        .unwrap_or(0);
    eq("mmu.upper.hang", mmu_update(top, table(l3)), OK);
    eq("mmu.upper.read", peek(base), 0x5a);
    see(
        "mmu.upper.l1_flags",
        format_args!("{:#x}", leaf(base).unwrap_or(0) & (P | W | U)),
    );
    eq("mmu.upper.map_next", set_leaf(base + 4096, table(data)), OK);
    eq("mmu.upper.read_next", peek(base + 4096), 0x5a);
    let l2_entry = |index: u64| l2.entry(index);
    let l3_entry = |index: u64| l3.entry(index);
    eq(
        "mmu.upper.l2_second",
        mmu_update(l2_entry(1), table(l1)),
        OK,
    );
    eq("mmu.upper.l2_second.read", peek(base + 0x20_0000), 0x5a);
    eq("mmu.upper.l2_clear", mmu_update(l2_entry(1), 0), OK);
    see(
        "mmu.upper.l2_large",
        mmu_update(l2_entry(2), data.mfn() >> 9 << 21 | P | W | U | 1 << 7),
    );
    see(
        "mmu.upper.l3_large",
        mmu_update(l3_entry(2), P | W | U | 1 << 7),
    );
    see(
        "mmu.upper.l2_no_frame",
        mmu_update(l2_entry(2), NO_FRAME | P | U),
    );
    see(
        "mmu.upper.l3_no_frame",
        mmu_update(l3_entry(2), NO_FRAME | P | U),
    );
    see(
        "mmu.upper.l2_global",
        mmu_update(l2_entry(2), table(l1) | 1 << 8),
    );
    see("mmu.upper.l2_not_present", mmu_update(l2_entry(3), 0xabc0));
    eq(
        "mmu.upper.l2_not_present.clear",
        mmu_update(l2_entry(3), 0),
        OK,
    );
    mmu_update(l2_entry(2), 0);
    eq(
        "mmu.upper.l1_read_only",
        mmu_update(l2_entry(1), table(l1) & !W),
        OK,
    );
    mmuext(MMUEXT_TLB_FLUSH_LOCAL, 0, 0);
    see(
        "mmu.upper.l1_read_only.write",
        Outcome(attempt!("mov qword ptr [{to}], 1"; to = in(reg) base + 0x20_0000)),
    );
    eq(
        "mmu.upper.l3_second",
        mmu_update(l3_entry(1), table(l2)),
        OK,
    );
    eq("mmu.upper.l3_second.read", peek(base + 0x4000_0000), 0x5a);
    eq("mmu.upper.unhang", mmu_update(top, 0), OK);
    mmuext(MMUEXT_TLB_FLUSH_LOCAL, 0, 0);
    see(
        "mmu.upper.gone",
        Outcome(attempt!("mov rax, [{at}]"; at = in(reg) base, out("rax") _)),
    );
    eq("mmu.upper.l3_is_data_again", l3.writable(), OK);
    eq("mmu.upper.l2_is_data_again", l2.writable(), OK);
    eq("mmu.upper.l1_is_data_again", l1.writable(), OK);
}

/// Slots of the top level that are not the guest's.
fn level4() {
    let top = entry_maddr(0, 4).unwrap_or(0);
    let spare = Page::new();
    let table = spare.mfn() << 12 | P | W | U;
    see(
        "mmu.level4.hypervisor_first",
        mmu_update(top + 256 * 8, table),
    );
    see(
        "mmu.level4.hypervisor_last",
        mmu_update(top + 271 * 8, table),
    );
    see("mmu.level4.hypervisor_clear", mmu_update(top + 257 * 8, 0));
    see(
        "mmu.level4.no_frame",
        mmu_update(top + 300 * 8, NO_FRAME | P),
    );
    see(
        "mmu.level4.large",
        mmu_update(top + 300 * 8, table | 1 << 7),
    );
    see("mmu.level4.not_present", mmu_update(top + 300 * 8, 0xff00));
    eq("mmu.level4.clear", mmu_update(top + 300 * 8, 0), OK);
}

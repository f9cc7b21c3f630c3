//! `set_gdt`, `update_descriptor`, the LDT.

use xenner_guests::abi::*;
use xenner_guests::attempt;
use xenner_guests::hypercall::{EFAULT, EINVAL, OK, Ret, UNMAPPED, call2};
use xenner_guests::memory::{Page, mmuext};
use xenner_guests::report::{eq, see};
use xenner_guests::trap::Outcome;

/// Flat 64-bit code, DPL 3.
const CODE: u64 = 0x00af_fb00_0000_ffff;
/// Flat data, DPL 3.
const DATA: u64 = 0x00cf_f300_0000_ffff;
const NO_FRAME: u64 = 0x000f_0000_0000;

fn set_gdt(frames: &[u64], entries: u32) -> Ret {
    call2(__HYPERVISOR_set_gdt, frames.as_ptr() as u64, entries)
}

fn update(maddr: u64, descriptor: u64) -> Ret {
    call2(__HYPERVISOR_update_descriptor, maddr, descriptor)
}

/// Loads GS with a selector.
fn load(selector: u16) -> Outcome {
    Outcome(attempt!("mov gs, {selector:x}"; selector = in(reg) u32::from(selector)))
}

pub fn run() {
    gdt();
    kinds();
    ldt();
}

fn gdt() {
    let table = Page::new();
    table.write(1, CODE);
    table.write(2, DATA);
    table.read_only();
    eq("gdt.set", set_gdt(&[table.mfn()], 512), OK);
    see("gdt.load.data", load(2 << 3 | 3));
    see("gdt.load.code", load(1 << 3 | 3));
    see("gdt.load.empty", load(3 << 3 | 3));
    see("gdt.load.beyond", load(600 << 3 | 3));
    eq("gdt.update", update(table.entry(3), DATA), OK);
    eq("gdt.update.written", table.read(3), DATA | 1 << 40);
    see("gdt.load.updated", load(3 << 3 | 3));
    eq("gdt.update.clear", update(table.entry(3), 0), OK);
    see("gdt.load.cleared", load(3 << 3 | 3));
    load(0);
    see(
        "gdt.write_protected",
        Outcome(attempt!("mov qword ptr [{at}], 0"; at = in(reg) table.0 + 32)),
    );
    eq(
        "gdt.too_long",
        set_gdt(&[table.mfn()], 14 * 512 + 1),
        EINVAL,
    );
    eq("gdt.no_frame", set_gdt(&[NO_FRAME], 512), EINVAL);
    eq(
        "gdt.bad_pointer",
        call2(__HYPERVISOR_set_gdt, UNMAPPED, 512),
        EFAULT,
    );
    see("gdt.load.after_errors", load(2 << 3 | 3));
    load(0);
    eq(
        "gdt.second",
        {
            let other = Page::new();
            other.write(1, DATA);
            other.read_only();
            set_gdt(&[other.mfn()], 8)
        },
        OK,
    );
    see("gdt.second.load", load(1 << 3 | 3));
    see("gdt.second.old_entry", load(2 << 3 | 3));
    load(0);
    eq("gdt.none", set_gdt(&[], 0), OK);
    see("gdt.none.load", load(1 << 3 | 3));
    eq("gdt.released", table.writable(), OK);
}

/// Which descriptors are accepted, and what becomes of them.
fn kinds() {
    let table = Page::new();
    table.read_only();
    eq("descriptor.set_gdt", set_gdt(&[table.mfn()], 512), OK);
    let at = table.entry(5);
    for (check, descriptor) in [
        ("descriptor.data_dpl0", DATA & !(3 << 45)),
        ("descriptor.data_dpl1", DATA & !(3 << 45) | 1 << 45),
        ("descriptor.code_dpl0", CODE & !(3 << 45)),
        ("descriptor.code32", 0x00cf_fb00_0000_ffff),
        ("descriptor.conforming_code", CODE | 1 << 42),
        ("descriptor.not_present", DATA & !(1 << 47)),
        ("descriptor.tss", 0x0000_8900_0000_0067),
        ("descriptor.ldt", 0x0000_8200_0000_0fff),
        ("descriptor.call_gate64", 0x8000_ec00_0033_1000),
        ("descriptor.interrupt_gate", 0x8000_ee00_0033_1000),
        ("descriptor.system_not_present", 0x0000_0900_0000_0067),
        ("descriptor.code_l_and_d", CODE | 1 << 54),
    ] {
        let ret = update(at, descriptor);
        let dpl = table.read(5) >> 45 & 3;
        see(check, format_args!("{ret} dpl {dpl}"));
        update(at, 0);
    }
    see("descriptor.unaligned", update(at | 4, DATA));
    see("descriptor.no_frame", update(NO_FRAME << 12, DATA));
    let plain = Page::new();
    see("descriptor.data_page", update(plain.mfn() << 12 | 8, DATA));
    see("descriptor.data_page.written", plain.read(1) != 0);
    set_gdt(&[], 0);
    let bad = Page::new();
    bad.write(4, 0x8000_ee00_0033_1000);
    bad.read_only();
    see("typecount.gdt.with_gate", set_gdt(&[bad.mfn()], 512));
    set_gdt(&[], 0);
    let open = Page::new();
    see("typecount.gdt.writable", set_gdt(&[open.mfn()], 512));
    set_gdt(&[], 0);
}

fn ldt() {
    let table = Page::new();
    table.write(0, DATA);
    table.write(1, 0x00cf_fb00_0000_ffff);
    table.read_only();
    see("ldt.none.load", load(7));
    eq("ldt.set", mmuext(MMUEXT_SET_LDT, table.0, 4), OK);
    see("ldt.load.data", load(7));
    see("ldt.load.code", load(1 << 3 | 7));
    see("ldt.load.empty", load(2 << 3 | 7));
    see("ldt.load.beyond", load(9 << 3 | 7));
    load(0);
    eq("ldt.update", update(table.entry(2), DATA), OK);
    see("ldt.load.updated", load(2 << 3 | 7));
    load(0);
    eq("ldt.clear", mmuext(MMUEXT_SET_LDT, 0, 0), OK);
    see("ldt.cleared.load", load(7));
    eq("ldt.released", table.writable(), OK);
}

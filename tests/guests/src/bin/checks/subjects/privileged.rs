//! Privileged instructions in a PV kernel: emulated, ignored or refused (Xen: `docs`, PV guests; Linux still relies on
//! the emulation of control register, MSR and CPUID instructions in early boot).

use xenner_guests::abi::*;
use xenner_guests::hypercall::{OK, call2};
use xenner_guests::memory::{mfn_of, root};
use xenner_guests::report::{eq, see, yes};
use xenner_guests::trap::Outcome;
use xenner_guests::{attempt, events};

pub fn run() {
    control_registers();
    cr0_ts();
    msrs();
    refused_instructions();
    ignored_instructions();
    ports();
    cpuid();
}

fn control_registers() {
    let mut cr0 = 0u64;
    see(
        "cr.read_cr0",
        Outcome(attempt!("mov {cr0}, cr0"; cr0 = inout(reg) cr0)),
    );
    see("cr.cr0", format_args!("{:#x}", cr0 & !8));
    see(
        "cr.write_cr0.same",
        Outcome(attempt!("mov cr0, {cr0}"; cr0 = in(reg) cr0)),
    );
    see(
        "cr.write_cr0.without_wp",
        Outcome(attempt!("mov cr0, {cr0}"; cr0 = in(reg) cr0 & !(1 << 16))),
    );
    see(
        "cr.write_cr0.without_pg",
        Outcome(attempt!("mov cr0, {cr0}"; cr0 = in(reg) cr0 & !(1 << 31))),
    );
    let mut cr3 = 0u64;
    see(
        "cr.read_cr3",
        Outcome(attempt!("mov {cr3}, cr3"; cr3 = inout(reg) cr3)),
    );
    yes("cr.cr3_is_root", cr3 == mfn_of(root()) << 12);
    see(
        "cr.write_cr3.same",
        Outcome(attempt!("mov cr3, {cr3}"; cr3 = in(reg) cr3)),
    );
    see(
        "cr.write_cr3.no_frame",
        Outcome(attempt!("mov cr3, {cr3}"; cr3 = in(reg) 0x000f_0000_0000_0000u64)),
    );
    let mut cr4 = 0u64;
    see(
        "cr.read_cr4",
        Outcome(attempt!("mov {cr4}, cr4"; cr4 = inout(reg) cr4)),
    );
    let known = 1 << 5 | 1 << 9 | 1 << 10;
    see("cr.cr4.pae_fxsr_xmm", format_args!("{:#x}", cr4 & known));
    see(
        "cr.write_cr4.same",
        Outcome(attempt!("mov cr4, {cr4}"; cr4 = in(reg) cr4)),
    );
    see(
        "cr.write_cr4.without_pae",
        Outcome(attempt!("mov cr4, {cr4}"; cr4 = in(reg) cr4 & !(1 << 5))),
    );
    see(
        "cr.write_cr4.vmxe",
        Outcome(attempt!("mov cr4, {cr4}"; cr4 = in(reg) cr4 | 1 << 13)),
    );
    let mut after = 0u64;
    let read = attempt!("mov {cr4}, cr4"; cr4 = inout(reg) after);
    see(
        "cr.write_cr4.kept",
        read.is_none() && after & known == cr4 & known && after & 1 << 13 == 0,
    );
    let mut cr2 = 0u64;
    let fault = attempt!("mov rax, [0x1238]"; out("rax") _);
    see(
        "cr.read_cr2",
        Outcome(attempt!("mov {cr2}, cr2"; cr2 = inout(reg) cr2)),
    );
    yes("cr.cr2_is_the_last", fault.is_some() && cr2 == 0x1238);
    see(
        "cr.write_cr2",
        Outcome(attempt!("mov cr2, {cr2}"; cr2 = in(reg) 0x77u64)),
    );
    eq("cr.write_cr2.in_vcpu_info", events::cr2(), 0x77);
    see(
        "cr.read_cr8",
        Outcome(attempt!("mov rax, cr8"; out("rax") _)),
    );
    see(
        "cr.write_cr8",
        Outcome(attempt!("mov cr8, {zero}"; zero = in(reg) 0u64)),
    );
}

/// CR0.TS by hypercall, by CLTS, by MOV; FPU instructions fault while it is set.
fn cr0_ts() {
    eq(
        "fpu.taskswitch.set",
        call2(__HYPERVISOR_fpu_taskswitch, 1, 0),
        OK,
    );
    see("fpu.taskswitch.fault", Outcome(attempt!("fnop")));
    eq(
        "fpu.taskswitch.clear",
        call2(__HYPERVISOR_fpu_taskswitch, 0, 0),
        OK,
    );
    see("fpu.taskswitch.no_fault", Outcome(attempt!("fnop")));
    call2(__HYPERVISOR_fpu_taskswitch, 1, 0);
    see("fpu.taskswitch.sse", Outcome(attempt!("xorps xmm0, xmm0")));
    // Xen clears TS before it delivers #NM; so does everybody who wants Linux's handlers to work.
    see("fpu.taskswitch.after_fault", Outcome(attempt!("fnop")));
    call2(__HYPERVISOR_fpu_taskswitch, 1, 0);
    let mut cr0 = 0u64;
    see(
        "fpu.ts.read",
        Outcome(attempt!("mov {cr0}, cr0"; cr0 = inout(reg) cr0)),
    );
    eq("fpu.ts.set", cr0 & 8, 8);
    see("fpu.clts", Outcome(attempt!("clts")));
    see("fpu.clts.no_fault", Outcome(attempt!("fnop")));
    see(
        "fpu.ts.write",
        Outcome(attempt!("mov cr0, {cr0}"; cr0 = in(reg) cr0)),
    );
    see("fpu.ts.write.fault", Outcome(attempt!("fnop")));
    see(
        "fpu.lmsw",
        Outcome(attempt!("lmsw {msw:x}"; msw = in(reg) 0xbu32)),
    );
    call2(__HYPERVISOR_fpu_taskswitch, 0, 0);
    see(
        "fpu.exception.x87",
        Outcome(
            attempt!("fninit", "push 0x37b", "fldcw [rsp]", "pop rax", "fld1", "fldz", "fdivp", "fwait"; out("rax") _),
        ),
    );
    see(
        "fpu.reset",
        Outcome(attempt!("fninit", "push 0x1f80", "ldmxcsr [rsp]", "pop rax"; out("rax") _)),
    );
    let mut kept = 0u64;
    let trap = attempt!("mov rax, 0x5a5a", "movq xmm7, rax", "mov eax, 29", "xor edi, edi", "xor esi, esi", "syscall",
        "movq {kept}, xmm7"; kept = inout(reg) kept, out("rax") _, out("rdi") _, out("rsi") _, out("rcx") _, out("r11") _);
    see("fpu.kept_over_yield", trap.is_none() && kept == 0x5a5a);
}

fn read_msr(msr: u32) -> (Outcome, u64) {
    let (mut low, mut high) = (0u32, 0u32);
    let trap = attempt!("rdmsr"; in("ecx") msr, inout("eax") low, inout("edx") high);
    (Outcome(trap), u64::from(high) << 32 | u64::from(low))
}

fn write_msr(msr: u32, value: u64) -> Outcome {
    Outcome(
        attempt!("wrmsr"; in("ecx") msr, in("eax") value as u32, in("edx") (value >> 32) as u32),
    )
}

fn msrs() {
    let (trap, efer) = read_msr(0xc000_0080);
    see("msr.read.efer", trap);
    see("msr.efer", format_args!("{:#x}", efer & 0xd01));
    see("msr.write.efer.same", write_msr(0xc000_0080, efer));
    see(
        "msr.write.efer.without_sce",
        write_msr(0xc000_0080, efer & !1),
    );
    for (check, msr) in [
        ("msr.read.tsc", 0x10),
        ("msr.read.apic_base", 0x1b),
        ("msr.read.star", 0xc000_0081),
        ("msr.read.lstar", 0xc000_0082),
        ("msr.read.cstar", 0xc000_0083),
        ("msr.read.sfmask", 0xc000_0084),
        ("msr.read.fs_base", 0xc000_0100),
        ("msr.read.gs_base", 0xc000_0101),
        ("msr.read.kernel_gs_base", 0xc000_0102),
        ("msr.read.pat", 0x277),
        ("msr.read.mtrr_cap", 0xfe),
        ("msr.read.mtrr_def_type", 0x2ff),
        ("msr.read.misc_enable", 0x1a0),
        ("msr.read.x2apic_id", 0x802),
        ("msr.read.unknown", 0x1234_5678),
        ("msr.read.hypervisor_range", 0x4000_0000),
        ("msr.read.hypervisor_range_1", 0x4000_0001),
        ("msr.read.tsc_deadline", 0x6e0),
    ] {
        see(check, read_msr(msr).0);
    }
    for (check, msr, value) in [
        ("msr.write.star", 0xc000_0081, 0),
        ("msr.write.lstar", 0xc000_0082, 0),
        ("msr.write.cstar", 0xc000_0083, 0),
        ("msr.write.sfmask", 0xc000_0084, 0),
        ("msr.write.sysenter_cs", 0x174, 0),
        ("msr.write.sysenter_eip", 0x176, 0),
        ("msr.write.apic_base", 0x1b, 0xfee0_0900),
        ("msr.write.pat", 0x277, 0x0007_0406_0007_0406),
        ("msr.write.unknown", 0x1234_5678, 0),
        ("msr.write.hypervisor_range", 0x4000_0000, 0),
        ("msr.write.tsc_deadline", 0x6e0, 0),
        ("msr.write.x2apic_eoi", 0x80b, 0),
    ] {
        see(check, write_msr(msr, value));
    }
    bases();
}

fn bases() {
    let word = 0x1122_3344u64;
    let address = &raw const word as u64;
    let mut got = 0u64;
    see("msr.write.fs_base", write_msr(0xc000_0100, address));
    see(
        "msr.fs_base.load",
        Outcome(attempt!("mov {got}, fs:[0]"; got = inout(reg) got)),
    );
    eq("msr.fs_base.effective", got, word);
    eq(
        "msr.fs_base.read_back",
        read_msr(0xc000_0100).1 == address,
        true,
    );
    see(
        "msr.write.fs_base.non_canonical",
        write_msr(0xc000_0100, 1 << 55),
    );
    see("msr.write.gs_base", write_msr(0xc000_0101, address));
    got = 0;
    see(
        "msr.gs_base.load",
        Outcome(attempt!("mov {got}, gs:[0]"; got = inout(reg) got)),
    );
    eq("msr.gs_base.effective", got, word);
    see("msr.write.kernel_gs_base", write_msr(0xc000_0102, 0x1000));
    eq(
        "msr.kernel_gs_base.read_back",
        read_msr(0xc000_0102).1,
        0x1000,
    );
    write_msr(0xc000_0100, 0);
    write_msr(0xc000_0101, 0);
    write_msr(0xc000_0102, 0);
    let segment_base = |which: u32, base: u64| call2(__HYPERVISOR_set_segment_base, which, base);
    eq("segment_base.fs", segment_base(SEGBASE_FS, address), OK);
    got = 0;
    see(
        "segment_base.fs.load",
        Outcome(attempt!("mov {got}, fs:[0]"; got = inout(reg) got)),
    );
    eq("segment_base.fs.effective", got, word);
    eq(
        "segment_base.gs_kernel",
        segment_base(SEGBASE_GS_KERNEL, address),
        OK,
    );
    got = 0;
    see(
        "segment_base.gs_kernel.load",
        Outcome(attempt!("mov {got}, gs:[0]"; got = inout(reg) got)),
    );
    eq("segment_base.gs_kernel.effective", got, word);
    eq(
        "segment_base.gs_user",
        segment_base(SEGBASE_GS_USER, 0x2000),
        OK,
    );
    eq(
        "segment_base.gs_user.in_msr",
        read_msr(0xc000_0102).1,
        0x2000,
    );
    see(
        "segment_base.gs_user_sel",
        segment_base(SEGBASE_GS_USER_SEL, 0),
    );
    see(
        "segment_base.gs_user_sel.bad",
        segment_base(SEGBASE_GS_USER_SEL, 0x1234),
    );
    see(
        "segment_base.fs.non_canonical",
        segment_base(SEGBASE_FS, 1 << 55),
    );
    see(
        "segment_base.gs_kernel.non_canonical",
        segment_base(SEGBASE_GS_KERNEL, 1 << 55),
    );
    see(
        "segment_base.gs_user.non_canonical",
        segment_base(SEGBASE_GS_USER, 1 << 55),
    );
    see("segment_base.unknown", segment_base(4, 0));
    segment_base(SEGBASE_FS, 0);
    segment_base(SEGBASE_GS_KERNEL, 0);
    segment_base(SEGBASE_GS_USER, 0);
}

fn refused_instructions() {
    let table = [0u64; 2];
    let at = table.as_ptr();
    see("instruction.hlt", Outcome(attempt!("hlt")));
    see(
        "instruction.lgdt",
        Outcome(attempt!("lgdt [{at}]"; at = in(reg) at)),
    );
    see(
        "instruction.lidt",
        Outcome(attempt!("lidt [{at}]"; at = in(reg) at)),
    );
    see(
        "instruction.lldt",
        Outcome(attempt!("lldt {sel:x}"; sel = in(reg) 0u32)),
    );
    see(
        "instruction.ltr",
        Outcome(attempt!("ltr {sel:x}"; sel = in(reg) 0x40u32)),
    );
    see("instruction.invd", Outcome(attempt!("invd")));
    see("instruction.swapgs", Outcome(attempt!("swapgs")));
    see("instruction.sysretq", Outcome(attempt!("sysretq")));
    see("instruction.monitor", Outcome(attempt!("monitor")));
    see("instruction.mwait", Outcome(attempt!("mwait")));
    see("instruction.rsm", Outcome(attempt!("rsm")));
    see(
        "instruction.rdpmc",
        Outcome(attempt!("rdpmc"; in("ecx") 0, out("eax") _, out("edx") _)),
    );
    see(
        "instruction.far_call",
        Outcome(attempt!(".byte 0xff, 0x18"; in("rax") at)),
    );
}

fn ignored_instructions() {
    see("instruction.cli", Outcome(attempt!("cli")));
    see("instruction.sti", Outcome(attempt!("sti")));
    see("instruction.wbinvd", Outcome(attempt!("wbinvd")));
    see(
        "instruction.invlpg",
        Outcome(attempt!("invlpg [{at}]"; at = in(reg) root())),
    );
    see(
        "instruction.invlpg.non_canonical",
        Outcome(attempt!("invlpg [{at}]"; at = in(reg) 1u64 << 55)),
    );
    see(
        "instruction.rdtsc",
        Outcome(attempt!("rdtsc"; out("eax") _, out("edx") _)),
    );
    see(
        "instruction.popf_if",
        Outcome(attempt!("pushfq", "and qword ptr [rsp], ~0x200", "popfq")),
    );
    let mut flags = 0u64;
    see(
        "instruction.pushf",
        Outcome(attempt!("pushfq", "pop {flags}"; flags = inout(reg) flags)),
    );
    eq("instruction.pushf.if", flags & 0x200, 0x200);
    eq("instruction.pushf.iopl", flags >> 12 & 3, 0);
}

fn ports() {
    see("port.in", Outcome(attempt!("in al, 0x80"; out("al") _)));
    see("port.out", Outcome(attempt!("out 0x80, al"; in("al") 0u8)));
    see(
        "port.in_dx",
        Outcome(attempt!("in eax, dx"; in("dx") 0xcf8u16, out("eax") _)),
    );
    let iopl = PhysdevSetIopl { iopl: 1 };
    see(
        "port.set_iopl",
        call2(__HYPERVISOR_physdev_op, PHYSDEVOP_set_iopl, &iopl),
    );
    let mut value = 0u8;
    see(
        "port.iopl.in",
        Outcome(attempt!("in al, 0x80"; inout("al") value)),
    );
    see("port.iopl.value", value);
    see(
        "port.iopl.out",
        Outcome(attempt!("out 0x80, al"; in("al") 0u8)),
    );
    let mut word = 0u32;
    see(
        "port.iopl.in_dx",
        Outcome(attempt!("in eax, dx"; in("dx") 0xcfcu16, inout("eax") word)),
    );
    see("port.iopl.in_dx.value", format_args!("{word:#x}"));
    see("port.iopl.cli", Outcome(attempt!("cli")));
    see("port.iopl.sti", Outcome(attempt!("sti")));
    let mut buffer = 0u8;
    let to = &raw mut buffer as u64;
    see(
        "port.iopl.insb",
        Outcome(attempt!("insb"; in("dx") 0x80u16, inout("rdi") to => _)),
    );
    let iopl = PhysdevSetIopl { iopl: 0 };
    call2(__HYPERVISOR_physdev_op, PHYSDEVOP_set_iopl, &iopl);
}

/// CPUID behind the prefix that makes Xen emulate it (arch-x86/xen.h `XEN_EMULATE_PREFIX`).
fn emulated(leaf: u32, subleaf: u32) -> Option<[u32; 4]> {
    let (a, b, c, d): (u32, u64, u32, u32);
    let trap = attempt!("push rbx", "ud2", ".ascii \"xen\"", "cpuid", "mov {b}, rbx", "pop rbx";
        b = out(reg) b, inout("eax") leaf => a, inout("ecx") subleaf => c, out("edx") d);
    trap.is_none().then_some([a, b as u32, c, d])
}

fn cpuid() {
    let Some([max, b, c, d]) = emulated(XEN_CPUID_FIRST_LEAF, 0) else {
        return see("cpuid.emulated", "refused");
    };
    yes(
        "cpuid.signature",
        [b, c, d]
            == [
                XEN_CPUID_SIGNATURE_EBX,
                XEN_CPUID_SIGNATURE_ECX,
                XEN_CPUID_SIGNATURE_EDX,
            ],
    );
    see("cpuid.max_leaf", format_args!("{max:#x}"));
    let leaf = |index: u32, sub: u32| emulated(XEN_CPUID_LEAF(index), sub).unwrap_or_default();
    yes("cpuid.version.major", leaf(1, 0)[0] >> 16 == 4);
    see("cpuid.hypercall_pages", leaf(2, 0)[0]);
    see("cpuid.hypercall_msr", format_args!("{:#x}", leaf(2, 0)[1]));
    see("cpuid.features", format_args!("{:#x}", leaf(2, 0)[2]));
    yes("cpuid.time.tsc_khz", leaf(3, 0)[2] > 100_000);
    see("cpuid.pv_limits", format_args!("{:?}", leaf(5, 0)));
    let basic = emulated(1, 0).unwrap_or_default();
    for (check, set) in [
        ("cpuid.1.hypervisor", basic[2] >> 31),
        (
            "cpuid.1.osxsave_and_xsave_agree",
            u32::from(basic[2] >> 26 & 1 == basic[2] >> 27 & 1),
        ),
        ("cpuid.1.monitor", basic[2] >> 3),
        ("cpuid.1.vmx", basic[2] >> 5),
        ("cpuid.1.x2apic", basic[2] >> 21),
        ("cpuid.1.pcid", basic[2] >> 17),
        ("cpuid.1.fpu", basic[3]),
        ("cpuid.1.vme", basic[3] >> 1),
        ("cpuid.1.pse", basic[3] >> 3),
        ("cpuid.1.msr", basic[3] >> 5),
        ("cpuid.1.pae", basic[3] >> 6),
        ("cpuid.1.mce", basic[3] >> 7),
        ("cpuid.1.apic", basic[3] >> 9),
        ("cpuid.1.sep", basic[3] >> 11),
        ("cpuid.1.mtrr", basic[3] >> 12),
        ("cpuid.1.pge", basic[3] >> 13),
        ("cpuid.1.mca", basic[3] >> 14),
        ("cpuid.1.pat", basic[3] >> 16),
        ("cpuid.1.pse36", basic[3] >> 17),
        ("cpuid.1.sse2", basic[3] >> 26),
    ] {
        see(check, set & 1);
    }
    extended();
}

fn extended() {
    let e = emulated(0x8000_0001, 0).unwrap_or_default();
    see("cpuid.ext.long_mode", e[3] >> 29 & 1);
    see("cpuid.ext.nx", e[3] >> 20 & 1);
    see("cpuid.ext.syscall", e[3] >> 11 & 1);
    see("cpuid.ext.pages_1g", e[3] >> 26 & 1);
    see("cpuid.ext.svm", e[2] >> 2 & 1);
    let seven = emulated(7, 0).unwrap_or_default();
    see("cpuid.7.smep", seven[1] >> 7 & 1);
    see("cpuid.7.smap", seven[1] >> 20 & 1);
    see("cpuid.7.pku", seven[2] >> 3 & 1);
    see(
        "cpuid.prefix.other_instruction",
        Outcome(attempt!("ud2", ".ascii \"xen\"", "nop")),
    );
    let rip = attempt!("ud2", ".ascii \"xem\"", "cpuid"; out("eax") _, out("ecx") _, out("edx") _);
    see("cpuid.prefix.misspelled", Outcome(rip));
}

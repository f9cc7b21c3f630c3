//! User mode: its page table, the ways in and out, what it may not do.

use xenner_guests::abi::*;
use xenner_guests::hypercall::{OK, call2};
use xenner_guests::memory::{A, D, P, Page, U, W, mmu_update, mmuext, set_leaf};
use xenner_guests::report::{eq, see, yes};
use xenner_guests::trap::{self, IF, Outcome, SYSENTER, TF, Trap, stub};
use xenner_guests::user::{self, Space, USER_BASE, USER_CODE, USER_SP, context, enter};
use xenner_guests::{events, user_code};

pub fn run() {
    let space = Space::new();
    eq("user.activate", space.activate(), OK);
    syscalls(&space);
    flags(&space);
    exceptions(&space);
    memory(&space);
    privileged(&space);
    segments(&space);
    compat(&space);
    interrupts(&space);
    stack_switch();
    mmuext(MMUEXT_NEW_USER_BASEPTR, 0, 0);
}

fn go(space: &Space, code: &[u8]) -> Option<Trap> {
    space.load(code);
    enter(&context())
}

fn flag(trap: Option<Trap>, bits: u64) -> u64 {
    trap.map_or(99, |trap| trap.frame.rflags & bits)
}

fn syscalls(space: &Space) {
    let trap = go(
        space,
        user_code!("mov eax, 42", "mov edi, 1", "mov rsi, 2", "syscall"),
    );
    see("user.syscall", Outcome(trap));
    let Some(Trap { frame, masked, .. }) = trap else {
        return;
    };
    yes(
        "user.syscall.registers",
        frame.rax == 42 && frame.rdi == 1 && frame.rsi == 2,
    );
    eq("user.syscall.rip", frame.rip - USER_CODE, 19);
    yes("user.syscall.rcx_is_rip", frame.rcx == frame.rip);
    eq(
        "user.syscall.r11",
        frame.r11 & (IF | TF | 0xf),
        frame.rflags & (IF | TF | 0xf),
    );
    eq("user.syscall.cs.rpl", frame.cs & 3, 3);
    see("selectors.user_cs", format_args!("{:#x}", frame.cs as u16));
    see("selectors.user_ss", format_args!("{:#x}", frame.ss as u16));
    yes("user.syscall.rsp", frame.rsp == USER_SP);
    eq("user.syscall.if", frame.rflags & IF, IF);
    see("user.syscall.masked", masked);
    let mut fast = context();
    (fast.flags, fast.rcx, fast.r11) = (VGCF_in_syscall, 0x1234, 0x246);
    space.load(user_code!("mov rax, rcx", "mov rbx, r11", "syscall"));
    let trap = enter(&fast);
    see("user.sysret", Outcome(trap));
    // The fast way back may lose RCX and R11 as SYSRET does.
    yes(
        "user.sysret.rcx",
        trap.is_some_and(|trap| [0x1234, USER_CODE].contains(&trap.frame.rax)),
    );
    let mut slow = context();
    (slow.rcx, slow.r11, slow.rax) = (0x1234, 0x5678, 0x9abc);
    space.load(user_code!(
        "mov rdi, rcx",
        "mov rsi, r11",
        "mov rdx, rax",
        "ud2"
    ));
    let trap = enter(&slow);
    yes(
        "user.iret.registers",
        trap.is_some_and(|trap| {
            [trap.frame.rdi, trap.frame.rsi, trap.frame.rdx] == [0x1234, 0x5678, 0x9abc]
        }),
    );
    let mut again = 0;
    space.load(user_code!("syscall"));
    for _ in 0..100 {
        again += u64::from(enter(&context()).is_some());
    }
    eq("user.syscall.hundred", again, 100);
}

fn flags(space: &Space) {
    let mut with = context();
    with.rflags |= 1 | 1 << 6 | 1 << 11 | 1 << 10;
    space.load(user_code!("ud2"));
    let trap = enter(&with);
    eq(
        "user.flags.arithmetic",
        flag(trap, 1 | 1 << 6 | 1 << 11 | 1 << 10),
        1 | 1 << 6 | 1 << 11 | 1 << 10,
    );
    let mut with = context();
    with.rflags |= 3 << 12;
    see("user.flags.iopl", flag(enter(&with), 3 << 12));
    let mut with = context();
    with.rflags &= !IF;
    see("user.flags.without_if", flag(enter(&with), IF));
    let mut with = context();
    with.rflags |= TF;
    space.load(user_code!("nop", "nop", "ud2"));
    let trap = enter(&with);
    see("user.flags.single_step", Outcome(trap));
    eq(
        "user.flags.single_step.rip",
        trap.map_or(0, |trap| trap.frame.rip - USER_CODE),
        1,
    );
    eq("user.flags.single_step.tf", flag(trap, TF), TF);
    let mut with = context();
    with.rflags |= 1 << 17;
    see("user.flags.vm", flag(enter(&with), 1 << 17));
    let mut with = context();
    with.rflags |= 1 << 14;
    space.load(user_code!("ud2"));
    see("user.flags.nt", flag(enter(&with), 1 << 14));
}

fn exceptions(space: &Space) {
    let trap = go(space, user_code!("nop", "ud2"));
    see("user.ud2", Outcome(trap));
    eq(
        "user.ud2.rip",
        trap.map_or(0, |trap| trap.frame.rip - USER_CODE),
        1,
    );
    yes(
        "user.ud2.from_user",
        trap.is_some_and(|trap| trap.from_user()),
    );
    yes("user.ud2.masked", trap.is_some_and(|trap| trap.masked));
    eq(
        "user.ud2.saved_mask",
        trap.map_or(9, |trap| trap.frame.cs >> 32 & 0xff),
        0,
    );
    let trap = go(space, user_code!("int3"));
    see("user.int3", Outcome(trap));
    eq(
        "user.int3.rip",
        trap.map_or(0, |trap| trap.frame.rip - USER_CODE),
        1,
    );
    see(
        "user.divide",
        Outcome(go(space, user_code!("xor ecx, ecx", "div ecx"))),
    );
    see("user.int_80", Outcome(go(space, user_code!("int 0x80"))));
    let gate = |flags: u8| {
        [
            TrapInfo {
                vector: 0x80,
                flags,
                cs: FLAT_KERNEL_CS64,
                address: Vaddr(stub(SYSENTER)),
                ..TrapInfo::default()
            },
            TrapInfo::default(),
        ]
    };
    trap::set_trap_table(&gate(0));
    see(
        "user.int_80.dpl0",
        Outcome(go(space, user_code!("int 0x80"))),
    );
    trap::set_trap_table(&gate(3));
    let trap = go(space, user_code!("int 0x80"));
    see("user.int_80.dpl3", Outcome(trap));
    eq(
        "user.int_80.rip",
        trap.map_or(0, |trap| trap.frame.rip - USER_CODE),
        2,
    );
    see("user.int_13", Outcome(go(space, user_code!("int 13"))));
    see(
        "user.x87",
        Outcome(go(space, user_code!("fninit", "fld1", "ud2"))),
    );
    call2(__HYPERVISOR_fpu_taskswitch, 1, 0);
    see(
        "user.device_not_available",
        Outcome(go(space, user_code!("fnop", "ud2"))),
    );
    call2(__HYPERVISOR_fpu_taskswitch, 0, 0);
    see(
        "user.bad_stack",
        Outcome(go(space, user_code!("mov rsp, 0x1000", "push rax"))),
    );
    see(
        "user.non_canonical",
        Outcome(go(
            space,
            user_code!("mov rax, 0x80000000000000", "mov rax, [rax]"),
        )),
    );
    see(
        "user.non_canonical.jump",
        Outcome(go(
            space,
            user_code!("mov rax, 0x80000000000000", "jmp rax"),
        )),
    );
}

fn memory(space: &Space) {
    let trap = go(space, user_code!("mov rax, 0x500000", "mov rcx, [rax]"));
    see("user.read_unmapped", Outcome(trap));
    yes(
        "user.read_unmapped.cr2",
        trap.is_some_and(|trap| trap.cr2 == 0x50_0000),
    );
    see(
        "user.write_unmapped",
        Outcome(go(space, user_code!("mov rax, 0x500000", "mov [rax], rcx"))),
    );
    see(
        "user.write_code",
        Outcome(go(space, user_code!("lea rax, [rip]", "mov [rax], rcx"))),
    );
    see(
        "user.read_kernel",
        Outcome(go(
            space,
            user_code!("mov rax, 0xffffffff80000000", "mov rcx, [rax]"),
        )),
    );
    see(
        "user.write_kernel",
        Outcome(go(
            space,
            user_code!("mov rax, 0xffffffff80000000", "mov [rax], rcx"),
        )),
    );
    see(
        "user.jump_kernel",
        Outcome(go(
            space,
            user_code!("mov rax, 0xffffffff80000000", "jmp rax"),
        )),
    );
    see(
        "user.read_hypervisor",
        Outcome(go(
            space,
            user_code!("mov rax, 0xffff870000000000", "mov rcx, [rax]"),
        )),
    );
    see(
        "user.write_hypervisor",
        Outcome(go(
            space,
            user_code!("mov rax, 0xffff870000000000", "mov [rax], rcx"),
        )),
    );
    see(
        "user.read_end_of_hole",
        Outcome(go(
            space,
            user_code!("mov rax, 0xffff87fffffffff8", "mov rcx, [rax]"),
        )),
    );
    let l1 = space.tables[3];
    let data = Page::new();
    data.write(0, 0x99);
    let pte = data.mfn() << 12 | P | W | U | A | D;
    eq("user.map_page", mmu_update(l1.entry(5), pte), OK);
    space.load(user_code!(
        "mov rax, 0x405000",
        "mov rbx, [rax]",
        "mov qword ptr [rax], 0x77",
        "ud2"
    ));
    let trap = enter(&context());
    see("user.new_page", Outcome(trap));
    eq(
        "user.new_page.value",
        trap.map_or(0, |trap| trap.frame.rbx),
        0x99,
    );
    eq("user.new_page.written", data.read(0), 0x77);
    eq(
        "user.without_user_bit",
        mmu_update(l1.entry(5), pte & !U),
        OK,
    );
    mmuext(MMUEXT_INVLPG_LOCAL, 0x40_5000, 0);
    see("user.without_user_bit.read", Outcome(enter(&context())));
    eq(
        "user.no_execute",
        mmu_update(l1.entry(5), pte | 1 << 63),
        OK,
    );
    see(
        "user.no_execute.jump",
        Outcome(go(space, user_code!("mov rax, 0x405000", "jmp rax"))),
    );
    eq("user.unmap", mmu_update(l1.entry(5), 0), OK);
    mmuext(MMUEXT_INVLPG_LOCAL, 0x40_5000, 0);
    see(
        "user.unmapped",
        Outcome(go(space, user_code!("mov rax, 0x405000", "mov rax, [rax]"))),
    );
    see(
        "user.kernel_lacks_user_page",
        Outcome(xenner_guests::attempt!("mov rax, [{at}]"; at = in(reg) USER_BASE, out("rax") _)),
    );
    set_leaf(data.0, pte);
}

fn privileged(space: &Space) {
    see("user.hlt", Outcome(go(space, user_code!("hlt"))));
    see("user.cli", Outcome(go(space, user_code!("cli"))));
    see(
        "user.read_cr0",
        Outcome(go(space, user_code!("mov rax, cr0"))),
    );
    see(
        "user.write_cr3",
        Outcome(go(space, user_code!("mov cr3, rax"))),
    );
    see("user.clts", Outcome(go(space, user_code!("clts"))));
    see(
        "user.rdmsr",
        Outcome(go(space, user_code!("mov ecx, 0x10", "rdmsr"))),
    );
    see(
        "user.wrmsr",
        Outcome(go(space, user_code!("mov ecx, 0xc0000100", "wrmsr"))),
    );
    see(
        "user.mov_dr",
        Outcome(go(space, user_code!("mov rax, dr0"))),
    );
    see(
        "user.invlpg",
        Outcome(go(space, user_code!("invlpg [rsp]"))),
    );
    see("user.wbinvd", Outcome(go(space, user_code!("wbinvd"))));
    see("user.in", Outcome(go(space, user_code!("in al, 0x80"))));
    see("user.out", Outcome(go(space, user_code!("out 0x80, al"))));
    see("user.swapgs", Outcome(go(space, user_code!("swapgs"))));
    see(
        "user.lgdt",
        Outcome(go(space, user_code!("lgdt [rsp - 16]"))),
    );
    see("user.sysretq", Outcome(go(space, user_code!("sysretq"))));
    see("user.rdtsc", Outcome(go(space, user_code!("rdtsc", "ud2"))));
    let trap = go(
        space,
        user_code!(
            "mov eax, 0x40000000",
            "ud2",
            ".ascii \"xen\"",
            "cpuid",
            "ud2"
        ),
    );
    see("user.emulated_cpuid", Outcome(trap));
    eq(
        "user.emulated_cpuid.rip",
        trap.map_or(0, |trap| trap.frame.rip - USER_CODE),
        12,
    );
    yes(
        "user.emulated_cpuid.signature",
        trap.is_some_and(|trap| trap.frame.rbx as u32 == XEN_CPUID_SIGNATURE_EBX),
    );
    let iopl = PhysdevSetIopl { iopl: 3 };
    call2(__HYPERVISOR_physdev_op, PHYSDEVOP_set_iopl, &iopl);
    see(
        "user.iopl3.in",
        Outcome(go(space, user_code!("in al, 0x80", "ud2"))),
    );
    see(
        "user.iopl3.cli",
        Outcome(go(space, user_code!("cli", "ud2"))),
    );
    let iopl = PhysdevSetIopl { iopl: 0 };
    call2(__HYPERVISOR_physdev_op, PHYSDEVOP_set_iopl, &iopl);
    see(
        "user.iopl0.in",
        Outcome(go(space, user_code!("in al, 0x80", "ud2"))),
    );
}

/// FS and GS bases belong to user mode; the kernel's GS base comes and goes with the mode.
fn segments(space: &Space) {
    space.stack.write(0, 0xf5f5);
    space.stack.write(1, 0x6565);
    let segment_base = |which: u32, base: u64| call2(__HYPERVISOR_set_segment_base, which, base);
    eq(
        "user.base.fs",
        segment_base(SEGBASE_FS, USER_BASE + 0x1000),
        OK,
    );
    eq(
        "user.base.gs_user",
        segment_base(SEGBASE_GS_USER, USER_BASE + 0x1008),
        OK,
    );
    let kernel = 0x4b4bu64;
    eq(
        "user.base.gs_kernel",
        segment_base(SEGBASE_GS_KERNEL, &raw const kernel as u64),
        OK,
    );
    let trap = go(
        space,
        user_code!("mov rax, fs:[0]", "mov rbx, gs:[0]", "syscall"),
    );
    eq(
        "user.base.fs.used",
        trap.map_or(0, |trap| trap.frame.rax),
        0xf5f5,
    );
    eq(
        "user.base.gs.used",
        trap.map_or(0, |trap| trap.frame.rbx),
        0x6565,
    );
    let mut got = 0u64;
    let back = xenner_guests::attempt!("mov {got}, gs:[0]"; got = inout(reg) got);
    see("user.base.gs_kernel.back", Outcome(back));
    eq("user.base.gs_kernel.used", got, 0x4b4b);
    let trap = go(
        space,
        user_code!("mov rax, fs:[0]", "mov rbx, gs:[0]", "syscall"),
    );
    eq(
        "user.base.gs.kept",
        trap.map_or(0, |trap| trap.frame.rbx),
        0x6565,
    );
    segment_base(SEGBASE_FS, 0);
    segment_base(SEGBASE_GS_USER, 0);
    segment_base(SEGBASE_GS_KERNEL, 0);
}

/// 32-bit code in a 64-bit guest.
fn compat(space: &Space) {
    let mut with = context();
    with.cs = u64::from(FLAT_USER_CS32);
    // mov eax, esp; inc eax (a REX prefix in 64-bit code); ud2
    space.load(&[0x89, 0xe0, 0x40, 0x0f, 0x0b]);
    let trap = enter(&with);
    see("user.compat", Outcome(trap));
    eq(
        "user.compat.rip",
        trap.map_or(0, |trap| trap.frame.rip - USER_CODE),
        3,
    );
    see(
        "selectors.user_cs32",
        format_args!("{:#x}", trap.map_or(0, |trap| trap.frame.cs as u16)),
    );
    // int 0x80, whose gate still has DPL 3
    space.load(&[0xcd, 0x80]);
    see("user.compat.int_80", Outcome(enter(&with)));
    // SYSCALL in 32-bit code, which only AMD's CPUs know.
    let callback = CallbackRegister {
        kind: CALLBACKTYPE_syscall32,
        address: Vaddr(stub(SYSENTER)),
        ..CallbackRegister::default()
    };
    eq(
        "amd.compat.callback",
        call2(__HYPERVISOR_callback_op, CALLBACKOP_register, &callback),
        OK,
    );
    space.load(&[0x0f, 0x05]);
    see("amd.compat.syscall", Outcome(enter(&with)));
}

/// An event while user mode runs is delivered on the kernel stack, and IRET goes back.
fn interrupts(space: &Space) {
    let mut virq = EvtchnBindVirq {
        virq: VIRQ_TIMER,
        ..EvtchnBindVirq::default()
    };
    eq(
        "user.event.bind",
        events::op(EVTCHNOP_bind_virq, &mut virq),
        OK,
    );
    let port = virq.port.0;
    events::clear_mask(port);
    let before = events::seen(port);
    space.load(user_code!(
        "mov rcx, 100000000",
        "2: dec rcx",
        "jnz 2b",
        "ud2"
    ));
    call2(
        __HYPERVISOR_set_timer_op,
        xenner_guests::time::system_time() + 1_000_000,
        0,
    );
    let trap = enter(&context());
    see("user.event.end", Outcome(trap));
    eq(
        "user.event.loop_finished",
        trap.map_or(1, |trap| trap.frame.rcx),
        0,
    );
    yes("user.event.seen", events::seen(port) > before);
    events::mask(port);
    events::op(EVTCHNOP_close, &EvtchnClose { port: virq.port });
}

fn stack_switch() {
    let page = Page::new();
    let set = |ss: u16, sp: u64| call2(__HYPERVISOR_stack_switch, u64::from(ss), sp);
    eq("stack_switch", set(FLAT_KERNEL_SS64, page.0 + 4096), OK);
    see(
        "stack_switch.rpl0",
        set(FLAT_KERNEL_SS64 & !3, page.0 + 4096),
    );
    see("stack_switch.null_ss", set(0, page.0 + 4096));
    see("stack_switch.non_canonical", set(FLAT_KERNEL_SS64, 1 << 55));
    eq("stack_switch.back", user::kernel_stack(), OK);
}

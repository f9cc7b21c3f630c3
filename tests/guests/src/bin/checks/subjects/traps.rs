//! Exceptions as the kernel sees them: frames, `set_trap_table`, `set_callbacks`, `callback_op`, `iret`.

use xenner_guests::abi::*;
use xenner_guests::hypercall::{
    Arg, EFAULT, EINVAL, HYPERVISOR, NON_CANONICAL, OK, Ret, UNMAPPED, call1, call2, call3,
};
use xenner_guests::memory::Page;
use xenner_guests::report::{eq, see, yes};
use xenner_guests::trap::{
    self, EVENT, FAILSAFE, IF, NMI, Outcome, SYSCALL, SYSENTER, TF, Trap, stub,
};
use xenner_guests::{attempt, events};

pub fn run() {
    exceptions();
    frame();
    page_faults();
    event_mask();
    tables();
    software_interrupts();
    callbacks();
    iret();
}

fn at(trap: Option<Trap>) -> u64 {
    trap.map_or(99, |trap| trap.advance)
}

fn exceptions() {
    let ud = attempt!("ud2");
    see("traps.ud2", Outcome(ud));
    eq("traps.ud2.advance", at(ud), 0);
    let bp = attempt!("int3");
    see("traps.int3", Outcome(bp));
    eq("traps.int3.advance", at(bp), 1);
    let bp = attempt!(".byte 0xcd, 3");
    see("traps.int_3", Outcome(bp));
    eq("traps.int_3.advance", at(bp), 2);
    let de =
        attempt!("div {zero}"; zero = in(reg) 0u64, inout("rax") 1u64 => _, inout("rdx") 0u64 => _);
    see("traps.divide", Outcome(de));
    eq("traps.divide.advance", at(de), 0);
    see("traps.into", Outcome(attempt!(".byte 0xce")));
    see(
        "traps.bad_selector",
        Outcome(attempt!("mov es, {bad:x}"; bad = in(reg) 0x1234u32)),
    );
    see(
        "traps.null_ss",
        Outcome(attempt!("mov ss, {zero:x}"; zero = in(reg) 0u32)),
    );
    let odd = NON_CANONICAL;
    see(
        "traps.non_canonical.read",
        Outcome(attempt!("mov rax, [{odd}]"; odd = in(reg) odd, out("rax") _)),
    );
    see(
        "traps.non_canonical.stack",
        Outcome(attempt!("mov rbp, {odd}", "mov rax, [rbp]"; odd = in(reg) odd, out("rax") _)),
    );
    see(
        "traps.non_canonical.jump",
        Outcome(attempt!("jmp {odd}"; odd = in(reg) odd)),
    );
    let step = attempt!("pushfq", "or qword ptr [rsp], 0x100", "popfq", "nop", "nop");
    see("traps.single_step", Outcome(step));
    eq(
        "traps.single_step.flag",
        step.map_or(0, |trap| trap.frame.rflags & TF),
        TF,
    );
    see("traps.lock_nop", Outcome(attempt!(".byte 0xf0, 0x90")));
    see(
        "traps.too_long",
        Outcome(attempt!(".fill 16, 1, 0x66", "nop")),
    );
}

/// Registers in the frame are those of the instruction.
fn frame() {
    let trap = attempt!("mov r12, 0x12", "mov r13, 0x13", "mov r8, 8", "mov rdx, 0xd", "mov rax, 0xa",
        "mov rsi, 0x51", "stc", "ud2";
        out("r12") _, out("r13") _, out("r8") _, out("rdx") _, out("rax") _, out("rsi") _);
    let Some(Trap { frame, masked, .. }) = trap else {
        return see("frame", "no trap");
    };
    let seen = [
        frame.r12, frame.r13, frame.r8, frame.rdx, frame.rax, frame.rsi,
    ];
    yes("frame.registers", seen == [0x12, 0x13, 8, 0xd, 0xa, 0x51]);
    let trap = attempt!("mov rcx, 0xc", "mov r11, 0x11", "ud2"; out("rcx") _, out("r11") _);
    eq("frame.rcx", trap.map_or(0, |trap| trap.frame.rcx), 0xc);
    eq("frame.r11", trap.map_or(0, |trap| trap.frame.r11), 0x11);
    yes("frame.flags.carry", frame.rflags & 1 == 1);
    eq("frame.flags.if", frame.rflags & IF, 0);
    eq("frame.flags.iopl", frame.rflags >> 12 & 3, 0);
    eq("frame.cs.rpl", frame.cs & 3, 0);
    see("selectors.frame_cs", format_args!("{:#x}", frame.cs as u16));
    see("selectors.frame_ss", format_args!("{:#x}", frame.ss as u16));
    eq("frame.cs.saved_upcall_mask", frame.cs >> 32 & 0xff, 1);
    yes("frame.masked", masked);
    let (cs, ss, ds): (u64, u64, u64);
    // SAFETY: reads of segment selectors.
    unsafe {
        core::arch::asm!("mov {0}, cs", "mov {1}, ss", "mov {2}, ds", out(reg) cs, out(reg) ss, out(reg) ds);
    }
    see("selectors.cs", format_args!("{cs:#x}"));
    see("selectors.ss", format_args!("{ss:#x}"));
    see("selectors.ds", format_args!("{ds:#x}"));
}

fn page_faults() {
    let page = Page::new();
    page.read_only();
    let trap = attempt!("mov [{page} + 0x123], rax"; page = in(reg) page.0, out("rax") _);
    see("page_fault.write_protected", Outcome(trap));
    yes(
        "page_fault.write_protected.cr2",
        trap.is_some_and(|trap| trap.cr2 == page.0 + 0x123),
    );
    page.unmap();
    let trap = attempt!("mov [{page}], rax"; page = in(reg) page.0, out("rax") _);
    see("page_fault.write_unmapped", Outcome(trap));
    yes(
        "page_fault.write_unmapped.cr2",
        trap.is_some_and(|trap| trap.cr2 == page.0),
    );
    see(
        "page_fault.fetch_unmapped",
        Outcome(attempt!("jmp {page}"; page = in(reg) page.0)),
    );
    page.writable();
    see(
        "page_fault.null",
        Outcome(attempt!("mov rax, [0]"; out("rax") _)),
    );
    let trap = attempt!("mov rax, [{at}]"; at = in(reg) HYPERVISOR, out("rax") _);
    see("page_fault.hypervisor_read", Outcome(trap));
    yes(
        "page_fault.hypervisor_read.cr2",
        trap.is_some_and(|trap| trap.cr2 == HYPERVISOR),
    );
    see(
        "page_fault.hypervisor_write",
        Outcome(attempt!("mov [{at}], rax"; at = in(reg) HYPERVISOR, out("rax") _)),
    );
    see(
        "page_fault.hypervisor_fetch",
        Outcome(attempt!("jmp {at}"; at = in(reg) HYPERVISOR)),
    );
    let m2p = xenner_guests::memory::m2p_base();
    see(
        "page_fault.m2p_write",
        Outcome(attempt!("mov [{at}], rax"; at = in(reg) m2p, out("rax") _)),
    );
    see(
        "page_fault.cr2_is_guests",
        Outcome(attempt!("mov rax, cr2"; out("rax") _)),
    );
}

/// Whether a handler begins with events masked is bit 2 of its table entry's flags.
fn event_mask() {
    let mut table = trap::table();
    eq("event_mask.table_unmasked", set_flags(&mut table, 0), OK);
    events::enable();
    let trap = attempt!("ud2");
    yes(
        "event_mask.unmasked_stays",
        trap.is_some_and(|trap| !trap.masked),
    );
    eq(
        "event_mask.unmasked.if",
        trap.map_or(0, |trap| trap.frame.rflags & IF),
        IF,
    );
    eq(
        "event_mask.unmasked.saved_mask",
        trap.map_or(9, |trap| trap.frame.cs >> 32 & 0xff),
        0,
    );
    yes(
        "event_mask.restored_by_iret",
        events::upcall_mask().load(core::sync::atomic::Ordering::Relaxed) == 0,
    );
    eq("event_mask.table_masked", set_flags(&mut table, 4), OK);
    let trap = attempt!("ud2");
    yes(
        "event_mask.masked_on_entry",
        trap.is_some_and(|trap| trap.masked),
    );
    eq(
        "event_mask.masked.if",
        trap.map_or(0, |trap| trap.frame.rflags & IF),
        IF,
    );
    yes(
        "event_mask.masked.restored",
        events::upcall_mask().load(core::sync::atomic::Ordering::Relaxed) == 0,
    );
    events::disable();
    let trap = attempt!("ud2");
    eq(
        "event_mask.disabled.if",
        trap.map_or(IF, |trap| trap.frame.rflags & IF),
        0,
    );
    yes(
        "event_mask.disabled.restored",
        events::upcall_mask().load(core::sync::atomic::Ordering::Relaxed) != 0,
    );
}

fn set_flags(table: &mut [TrapInfo], flags: u8) -> Ret {
    let last = table.len() - 1;
    table
        .iter_mut()
        .take(last)
        .for_each(|info| info.flags = info.flags & 3 | flags);
    trap::set_trap_table(table)
}

fn tables() {
    eq(
        "trap_table.bad_pointer",
        call1(__HYPERVISOR_set_trap_table, UNMAPPED),
        EFAULT,
    );
    eq(
        "trap_table.hypervisor_pointer",
        call1(__HYPERVISOR_set_trap_table, HYPERVISOR),
        EFAULT,
    );
    let entry = |vector: u8, cs: u16, address: u64| {
        [
            TrapInfo {
                vector,
                flags: 4,
                cs,
                address: Vaddr(address),
                ..TrapInfo::default()
            },
            TrapInfo::default(),
        ]
    };
    let handler = stub(6);
    see(
        "trap_table.non_canonical",
        trap::set_trap_table(&entry(6, FLAT_KERNEL_CS64, NON_CANONICAL)),
    );
    see(
        "trap_table.hypervisor_address",
        trap::set_trap_table(&entry(6, FLAT_KERNEL_CS64, HYPERVISOR)),
    );
    trap::set_trap_table(&trap::table());
    eq(
        "trap_table.one",
        trap::set_trap_table(&entry(0x80, FLAT_KERNEL_CS64, handler)),
        OK,
    );
    see(
        "trap_table.null_selector",
        trap::set_trap_table(&entry(0x81, 0, handler)),
    );
    see(
        "trap_table.rpl0_selector",
        trap::set_trap_table(&entry(0x81, FLAT_KERNEL_CS64 & !3, handler)),
    );
    eq("trap_table.others_stay", attempt!("ud2").is_some(), true);
    eq(
        "trap_table.clear",
        call1(__HYPERVISOR_set_trap_table, 0),
        OK,
    );
    eq("trap_table.back", trap::set_trap_table(&trap::table()), OK);
}

/// `INT n` from the kernel reaches any vector of the table with its DPL not checked against ring 3's.
fn software_interrupts() {
    let one = |flags: u8, address: u64| {
        [
            TrapInfo {
                vector: 0x80,
                flags,
                cs: FLAT_KERNEL_CS64,
                address: Vaddr(address),
                ..TrapInfo::default()
            },
            TrapInfo::default(),
        ]
    };
    eq("int_n.set_dpl0", trap::set_trap_table(&one(0, stub(6))), OK);
    let trap = attempt!("int 0x80");
    see("int_n.dpl0", Outcome(trap));
    eq("int_n.dpl0.advance", at(trap), 2);
    eq("int_n.set_dpl3", trap::set_trap_table(&one(3, stub(6))), OK);
    see("int_n.dpl3", Outcome(attempt!("int 0x80")));
    see("int_n.no_handler", Outcome(attempt!("int 0x90")));
    see("int_n.exception_vector", Outcome(attempt!("int 6")));
    see("int_n.hypervisors_vector", Outcome(attempt!("int 0xf0")));
}

fn callbacks() {
    let set = |event: u64, failsafe: u64, syscall: u64| {
        call3(__HYPERVISOR_set_callbacks, event, failsafe, syscall)
    };
    eq(
        "set_callbacks",
        set(stub(EVENT), stub(FAILSAFE), stub(SYSCALL)),
        OK,
    );
    see(
        "set_callbacks.non_canonical",
        set(NON_CANONICAL, NON_CANONICAL, NON_CANONICAL),
    );
    set(stub(EVENT), stub(FAILSAFE), stub(SYSCALL));
    let register = |kind: u16, flags: u16, address: u64| {
        let arg = CallbackRegister {
            kind,
            flags,
            address: Vaddr(address),
            ..CallbackRegister::default()
        };
        call2(__HYPERVISOR_callback_op, CALLBACKOP_register, &arg)
    };
    eq(
        "callback_op.event",
        register(CALLBACKTYPE_event, 0, stub(EVENT)),
        OK,
    );
    eq(
        "callback_op.failsafe",
        register(CALLBACKTYPE_failsafe, CALLBACKF_mask_events, stub(FAILSAFE)),
        OK,
    );
    eq(
        "callback_op.syscall",
        register(CALLBACKTYPE_syscall, CALLBACKF_mask_events, stub(SYSCALL)),
        OK,
    );
    eq(
        "callback_op.syscall32",
        register(CALLBACKTYPE_syscall32, CALLBACKF_mask_events, stub(SYSCALL)),
        OK,
    );
    eq(
        "callback_op.sysenter",
        register(CALLBACKTYPE_sysenter, CALLBACKF_mask_events, stub(SYSENTER)),
        OK,
    );
    see(
        "callback_op.sysenter_deprecated",
        register(CALLBACKTYPE_sysenter_deprecated, 0, stub(SYSENTER)),
    );
    eq(
        "callback_op.nmi",
        register(CALLBACKTYPE_nmi, 0, stub(NMI)),
        OK,
    );
    see("callback_op.type_6", register(6, 0, stub(EVENT)));
    see("callback_op.type_8", register(8, 0, stub(EVENT)));
    eq(
        "callback_op.event.non_canonical",
        register(CALLBACKTYPE_event, 0, NON_CANONICAL),
        EINVAL,
    );
    eq(
        "callback_op.syscall.non_canonical",
        register(CALLBACKTYPE_syscall, 0, NON_CANONICAL),
        EINVAL,
    );
    see(
        "callback_op.nmi.non_canonical",
        register(CALLBACKTYPE_nmi, 0, NON_CANONICAL),
    );
    let unregister = |kind: u16| {
        let arg = CallbackUnregister {
            kind,
            ..CallbackUnregister::default()
        };
        call2(__HYPERVISOR_callback_op, CALLBACKOP_unregister, &arg)
    };
    see(
        "callback_op.unregister.event",
        unregister(CALLBACKTYPE_event),
    );
    see(
        "callback_op.unregister.failsafe",
        unregister(CALLBACKTYPE_failsafe),
    );
    see(
        "callback_op.unregister.syscall",
        unregister(CALLBACKTYPE_syscall),
    );
    see(
        "callback_op.unregister.syscall32",
        unregister(CALLBACKTYPE_syscall32),
    );
    see(
        "callback_op.unregister.sysenter",
        unregister(CALLBACKTYPE_sysenter),
    );
    eq(
        "callback_op.unregister.nmi",
        unregister(CALLBACKTYPE_nmi),
        OK,
    );
    see("callback_op.unregister.type_8", unregister(8));
    see("callback_op.unknown", call2(__HYPERVISOR_callback_op, 2, 0));
    eq(
        "callback_op.bad_pointer",
        call2(__HYPERVISOR_callback_op, CALLBACKOP_register, UNMAPPED),
        EFAULT,
    );
    nmi();
}

fn nmi() {
    let mut arg = XennmiCallback {
        handler_address: Vaddr(stub(NMI)),
        pad: 0,
    };
    see(
        "nmi_op.register",
        call2(__HYPERVISOR_nmi_op, XENNMI_register_callback, &mut arg),
    );
    let sent = attempt!("mov eax, 24", "mov edi, 11", "mov rsi, 0", "mov rdx, 0", "syscall", "nop", "nop";
        out("rax") _, out("rdi") _, out("rsi") _, out("rdx") _, out("rcx") _, out("r11") _);
    see("nmi.send_to_self", Outcome(sent));
    see(
        "nmi.send.no_such_vcpu",
        call3(__HYPERVISOR_vcpu_op, VCPUOP_send_nmi, 77, 0),
    );
    see(
        "nmi_op.unregister",
        call2(__HYPERVISOR_nmi_op, XENNMI_unregister_callback, 0),
    );
    see(
        "nmi_op.bad_pointer",
        call2(__HYPERVISOR_nmi_op, XENNMI_register_callback, UNMAPPED),
    );
}

/// The hypercall page's return, to kernel mode: flags, stack and registers of the frame arrive.
fn iret() {
    let stack = Page::new();
    let context = IretContext {
        rax: 0xaa,
        r11: 0x1111,
        rcx: 0xcc,
        flags: 0,
        rip: 0,
        cs: u64::from(FLAT_KERNEL_CS64) & !3,
        rflags: 2 | 1 | 1 << 10,
        rsp: stack.0 + 0x800,
        ss: u64::from(FLAT_KERNEL_SS64),
    };
    let frame = (&context).word();
    let trap = attempt!("lea rax, [rip + 4f]", "mov [{frame} + 32], rax", "mov rsp, {frame}", "mov eax, 23",
        "syscall", "4: ud2"; frame = in(reg) frame, out("rax") _, out("rcx") _, out("r11") _);
    let Some(Trap { frame, .. }) = trap else {
        return see("iret", "no trap");
    };
    see("iret.landed", Outcome(trap));
    eq("iret.rax", frame.rax, 0xaa);
    eq("iret.rcx", frame.rcx, 0xcc);
    eq("iret.r11", frame.r11, 0x1111);
    yes("iret.rsp", frame.rsp == stack.0 + 0x800);
    eq("iret.rflags", frame.rflags & (1 | 1 << 10), 1 | 1 << 10);
    eq("iret.events_masked", frame.rflags & IF, 0);
}

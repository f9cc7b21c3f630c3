//! Frames the hypervisor cannot push or pop, handlers that are not there.

use xenner_guests::abi::*;
use xenner_guests::attempt;
use xenner_guests::events::{self, op};
use xenner_guests::hypercall::{HYPERVISOR, NON_CANONICAL, UNMAPPED, call2, call3};
use xenner_guests::memory::Page;
use xenner_guests::report::see;
use xenner_guests::trap::{self, FAILSAFE, Outcome, SYSCALL, stub};
use xenner_guests::user::{Space, context, enter};
use xenner_guests::user_code;

fn kernel_context() -> IretContext {
    let stack = Page::new();
    IretContext {
        cs: u64::from(FLAT_KERNEL_CS64) & !3,
        rflags: 2,
        rip: stub(6),
        rsp: stack.0 + 0x800,
        ss: u64::from(FLAT_KERNEL_SS64),
        ..IretContext::default()
    }
}

/// Returns with selectors that cannot be loaded.
pub fn iret_selectors() {
    let space = Space::new();
    space.activate();
    space.load(user_code!("ud2"));
    for selector in [
        0, 3, 8, 0x10, 0x33, 0x2b, 0xe00b, 0xe008, 0xe02b, 0xe013, 0xe043, 0xfff8, 0xffff, 7, 0xf,
    ] {
        let (mut code, mut stack) = (context(), context());
        code.cs = selector | 3;
        stack.ss = selector | 3;
        // A frame may be refused or repaired; the line is only to tell that the guest is still there.
        let _ = (enter(&code), enter(&stack));
    }
    for flags in [1 << 17, 3 << 12, 1 << 14, 1 << 19 | 1 << 20, u64::MAX] {
        let mut odd = context();
        odd.rflags = flags;
        let _ = enter(&odd);
        odd = context();
        odd.flags = flags;
        let _ = enter(&odd);
    }
    see("hostile.iret_selectors", Outcome(enter(&context())));
}

pub fn iret_non_canonical() {
    let mut frame = kernel_context();
    frame.rip = NON_CANONICAL;
    see("hostile.iret_non_canonical.rip", Outcome(enter(&frame)));
    frame = kernel_context();
    frame.rsp = NON_CANONICAL;
    see("hostile.iret_non_canonical.rsp", Outcome(enter(&frame)));
}

/// IRET with a stack pointer that points nowhere.
pub fn iret_bad_stack() {
    for rsp in [UNMAPPED, HYPERVISOR, NON_CANONICAL] {
        let _ = attempt!("mov rsp, {rsp}", "mov eax, 23", "syscall"; rsp = in(reg) rsp, out("rax") _, out("rcx") _,
            out("r11") _);
    }
    see("hostile.iret_bad_stack", "survived");
}

fn fault_on(rsp: u64) {
    let _ = attempt!("mov rsp, {rsp}", "ud2"; rsp = in(reg) rsp);
}

pub fn stack_unmapped() {
    fault_on(UNMAPPED + 4096);
    see("hostile.stack_unmapped", "survived");
}

pub fn stack_hypervisor() {
    fault_on(HYPERVISOR_VIRT_START + 4096);
    fault_on(HYPERVISOR);
    fault_on(HYPERVISOR_VIRT_END);
    see("hostile.stack_hypervisor", "survived");
}

pub fn stack_non_canonical() {
    fault_on(NON_CANONICAL);
    see("hostile.stack_non_canonical", "survived");
}

fn all_handlers_at(address: u64) {
    let mut table = trap::table();
    let last = table.len() - 1;
    table
        .iter_mut()
        .take(last)
        .for_each(|info| info.address = Vaddr(address));
    trap::set_trap_table(&table);
}

/// The handler's own page is not there: a fault in delivering the fault, and so on.
pub fn handler_unmapped() {
    all_handlers_at(UNMAPPED);
    let _ = attempt!("ud2");
    see("hostile.handler_unmapped", "survived");
}

pub fn handler_hypervisor() {
    all_handlers_at(HYPERVISOR);
    let _ = attempt!("ud2");
    see("hostile.handler_hypervisor", "survived");
}

pub fn no_handlers() {
    call2(__HYPERVISOR_set_trap_table, 0, 0);
    let _ = attempt!("ud2");
    see("hostile.no_handlers", "survived");
}

pub fn upcall_unmapped() {
    call3(
        __HYPERVISOR_set_callbacks,
        UNMAPPED,
        stub(FAILSAFE),
        stub(SYSCALL),
    );
    let mut ipi = EvtchnBindIpi::default();
    op(EVTCHNOP_bind_ipi, &mut ipi);
    events::clear_mask(ipi.port.0);
    let _ = attempt!("nop");
    events::enable();
    op(EVTCHNOP_send, &EvtchnSend { port: ipi.port });
    see("hostile.upcall_unmapped", "survived");
}

/// A trap from user mode finds its kernel stack in the hypervisor's hands.
pub fn user_stack_hypervisor() {
    let space = Space::new();
    space.activate();
    call2(
        __HYPERVISOR_stack_switch,
        FLAT_KERNEL_SS64,
        HYPERVISOR_VIRT_START + 0x2000,
    );
    space.load(user_code!("ud2"));
    let _ = enter(&context());
    see("hostile.user_stack_hypervisor", "survived");
}

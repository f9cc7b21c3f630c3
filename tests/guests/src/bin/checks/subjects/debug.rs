//! Debug registers: hypercalls, MOV, and the breakpoints they make.

use xenner_guests::abi::*;
use xenner_guests::attempt;
use xenner_guests::hypercall::{HYPERVISOR, NON_CANONICAL, OK, Ret, call1, call2};
use xenner_guests::report::{eq, see, yes};
use xenner_guests::trap::Outcome;

fn set(register: u32, value: u64) -> Ret {
    call2(__HYPERVISOR_set_debugreg, register, value)
}

fn get(register: u32) -> Ret {
    call1(__HYPERVISOR_get_debugreg, register)
}

pub fn run() {
    registers();
    breakpoints();
}

fn registers() {
    eq("debugreg.set_0", set(0, 0x1000), OK);
    eq("debugreg.get_0", get(0), Ret(0x1000));
    eq("debugreg.set_3", set(3, 0x3000), OK);
    eq("debugreg.get_3", get(3), Ret(0x3000));
    see("debugreg.set_0.hypervisor", set(0, HYPERVISOR));
    see("debugreg.set_0.non_canonical", set(0, NON_CANONICAL));
    eq("debugreg.get_0.after", get(0), Ret(0x1000));
    see("debugreg.set_4", set(4, 0));
    see("debugreg.set_5", set(5, 0));
    see("debugreg.set_8", set(8, 0));
    see("debugreg.get_4", get(4));
    see("debugreg.get_5", get(5));
    see("debugreg.get_8", get(8));
    see("debugreg.get_6", format_args!("{:#x}", get(6).0));
    see("debugreg.get_7", format_args!("{:#x}", get(7).0));
    see("debugreg.set_6", set(6, 0xffff_0ff0));
    see("debugreg.set_6.upper", set(6, 1 << 32));
    see("debugreg.set_7.reserved", set(7, 1 << 12));
    see("debugreg.set_7.upper", set(7, 1 << 32));
    see("debugreg.set_7.general_detect", set(7, 1 << 13));
    see("debugreg.set_7.io", set(7, 2 << 16 | 1));
    see("debugreg.set_7.length_8", set(7, 0b1011 << 16 | 1));
    see("debugreg.set_7.back", set(7, 0));
    see(
        "debugreg.mov_to_0",
        Outcome(attempt!("mov dr0, {value}"; value = in(reg) 0x4000u64)),
    );
    eq("debugreg.mov_to_0.seen", get(0), Ret(0x4000));
    let mut value = 0u64;
    see(
        "debugreg.mov_from_0",
        Outcome(attempt!("mov {value}, dr0"; value = inout(reg) value)),
    );
    eq("debugreg.mov_from_0.value", value, 0x4000);
    see(
        "debugreg.mov_from_7",
        Outcome(attempt!("mov {value}, dr7"; value = inout(reg) value)),
    );
    see(
        "debugreg.mov_to_0.hypervisor",
        Outcome(attempt!("mov dr0, {value}"; value = in(reg) HYPERVISOR)),
    );
}

fn breakpoints() {
    let word = 5u64;
    let watched = &raw const word as u64;
    eq("breakpoint.address", set(0, watched), OK);
    // Length 8, write, local 0.
    eq("breakpoint.enable", set(7, 0b1001 << 16 | 1), OK);
    let trap = attempt!("mov qword ptr [{at}], 6", "nop"; at = in(reg) watched);
    see("breakpoint.data_write", Outcome(trap));
    see(
        "breakpoint.data_write.dr6",
        format_args!("{:#x}", get(6).0 & 0xf00f),
    );
    eq("breakpoint.disable", set(7, 0), OK);
    set(6, 0xffff_0ff0);
    see(
        "breakpoint.off",
        Outcome(attempt!("mov qword ptr [{at}], 6"; at = in(reg) watched)),
    );
    let step = attempt!("pushfq", "or qword ptr [rsp], 0x100", "popfq", "nop", "nop");
    see("breakpoint.single_step", Outcome(step));
    see(
        "breakpoint.single_step.dr6",
        format_args!("{:#x}", get(6).0 & 0xf00f),
    );
    set(6, 0xffff_0ff0);
    let code: u64;
    // SAFETY: takes an address.
    unsafe {
        core::arch::asm!("lea {code}, [rip + 5f]", "jmp 6f", "5: nop", "ret", "6:", code = out(reg) code)
    };
    eq("breakpoint.code.address", set(1, code), OK);
    eq("breakpoint.code.enable", set(7, 1 << 2), OK);
    let trap = attempt!("call {code}"; code = in(reg) code);
    see("breakpoint.code", Outcome(trap));
    yes(
        "breakpoint.code.rip",
        trap.is_some_and(|trap| trap.frame.rip == code),
    );
    see(
        "breakpoint.code.dr6",
        format_args!("{:#x}", get(6).0 & 0xf00f),
    );
    set(7, 0);
    set(6, 0xffff_0ff0);
}

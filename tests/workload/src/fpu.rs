//! Floating point and vector registers belong to their thread, whatever else
//! runs in between.

use std::arch::asm;
use std::arch::x86_64::__cpuid;

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

use crate::runner::Check;
use crate::{Context, Failure, checks, cpu, ensure};

const ALWAYS: &[Check] = checks![
    sse_across_switches,
    x87_across_switches,
    control_words,
    sse_across_signals
];

pub const CHECKS: &[Check] = &[
    ALWAYS[0],
    ALWAYS[1],
    ALWAYS[2],
    ALWAYS[3],
    ("avx_across_switches", avx_across_switches),
];

const THREADS: u64 = 6;
const ROUNDS: u64 = 200;

/// Runs `body` in several threads on one CPU, so that they must share its
/// registers.
fn on_one_cpu(body: fn(u64) -> Result<(), Failure>) -> Result<(), Failure> {
    cpu::move_to(cpu::online()?[0])?;
    let threads: Vec<_> = (1..=THREADS)
        .map(|seed| {
            std::thread::spawn(move || (0..ROUNDS).try_for_each(|round| body(seed << 32 | round)))
        })
        .collect();
    for thread in threads {
        thread.join().map_err(|_| "a thread died")??;
    }
    Ok(())
}

/// Eight XMM registers loaded, the CPU given away, and looked at again, without
/// the compiler between.
fn sse_round(seed: u64) -> Result<(), Failure> {
    let set: [u64; 16] =
        std::array::from_fn(|i| seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) + i as u64);
    let mut got = [0_u64; 16];
    // SAFETY: reads `set`, writes `got`, both 128 bytes; sched_yield has no
    // effect on memory.
    unsafe {
        asm!(
            "movups xmm0, [{set}]", "movups xmm1, [{set} + 16]", "movups xmm2, [{set} + 32]",
            "movups xmm3, [{set} + 48]", "movups xmm12, [{set} + 64]", "movups xmm13, [{set} + 80]",
            "movups xmm14, [{set} + 96]", "movups xmm15, [{set} + 112]",
            "syscall",
            "movups [{got}], xmm0", "movups [{got} + 16], xmm1", "movups [{got} + 32], xmm2",
            "movups [{got} + 48], xmm3", "movups [{got} + 64], xmm12", "movups [{got} + 80], xmm13",
            "movups [{got} + 96], xmm14", "movups [{got} + 112], xmm15",
            set = in(reg) &set, got = in(reg) &mut got,
            inout("rax") libc::SYS_sched_yield => _, out("rcx") _, out("r11") _,
            out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _,
            out("xmm12") _, out("xmm13") _, out("xmm14") _, out("xmm15") _,
            options(nostack)
        );
    }
    ensure!(got == set, "XMM registers changed: {got:x?}, not {set:x?}");
    Ok(())
}

fn sse_across_switches() -> Result<(), Failure> {
    on_one_cpu(sse_round)
}

fn x87_round(seed: u64) -> Result<(), Failure> {
    let set = seed as f64;
    let mut got = 0.0_f64;
    // SAFETY: the x87 stack is empty here and left empty; `set` and `got` are
    // 8 bytes each.
    unsafe {
        asm!("fld qword ptr [{set}]", "syscall", "fstp qword ptr [{got}]",
            set = in(reg) &set, got = in(reg) &mut got,
            inout("rax") libc::SYS_sched_yield => _, out("rcx") _, out("r11") _,
            out("st(0)") _, options(nostack));
    }
    ensure!(got.to_bits() == set.to_bits(), "ST0 is {got}, not {set}");
    Ok(())
}

fn x87_across_switches() -> Result<(), Failure> {
    on_one_cpu(x87_round)
}

fn control_round(seed: u64) -> Result<(), Failure> {
    // Rounding modes differ between threads; exceptions stay masked.
    let mode = (seed >> 32) as u32 & 3;
    let (mxcsr, control) = (0x1f80 | mode << 13, (0x037f | mode << 10) as u16);
    let (mut mxcsr_got, mut control_got) = (0_u32, 0_u16);
    let (mxcsr_default, control_default) = (0x1f80_u32, 0x037f_u16);
    // SAFETY: the control words are put back before anything else computes.
    unsafe {
        asm!("ldmxcsr [{m}]", "fldcw [{c}]", "syscall", "stmxcsr [{mg}]", "fnstcw [{cg}]", "ldmxcsr [{md}]", "fldcw [{cd}]",
            m = in(reg) &mxcsr, c = in(reg) &control, mg = in(reg) &mut mxcsr_got, cg = in(reg) &mut control_got,
            md = in(reg) &mxcsr_default, cd = in(reg) &control_default,
            inout("rax") libc::SYS_sched_yield => _, out("rcx") _, out("r11") _, options(nostack));
    }
    ensure!(
        mxcsr_got & !0x3f == mxcsr,
        "MXCSR is {mxcsr_got:#x}, not {mxcsr:#x}"
    );
    ensure!(
        control_got == control,
        "the x87 control word is {control_got:#x}, not {control:#x}"
    );
    Ok(())
}

fn control_words() -> Result<(), Failure> {
    on_one_cpu(control_round)
}

extern "C" fn clobber(_signal: i32) {
    // SAFETY: these registers are the handler's to change.
    unsafe {
        asm!("pxor xmm0, xmm0", "pxor xmm1, xmm1", "pxor xmm15, xmm15", out("xmm0") _, out("xmm1") _, out("xmm15") _);
    }
}

/// A handler's registers are its own: `kill` to oneself inside the sequence.
fn sse_across_signals() -> Result<(), Failure> {
    let action = SigAction::new(
        SigHandler::Handler(clobber),
        SaFlags::empty(),
        SigSet::empty(),
    );
    // SAFETY: the handler changes registers alone.
    unsafe { sigaction(Signal::SIGUSR1, &action) }.context("sigaction")?;
    for round in 0..100_u64 {
        let (mut low, mut high) = (0_u64, 0_u64);
        // SAFETY: kill(self) runs the handler, which touches no memory.
        unsafe {
            asm!("movq xmm1, {set}", "movq xmm15, {set}", "syscall", "movq {low}, xmm1", "movq {high}, xmm15",
                set = in(reg) round, low = inout(reg) low, high = inout(reg) high,
                inout("rax") libc::SYS_kill => _, in("rdi") std::process::id(), in("rsi") libc::SIGUSR1,
                out("rcx") _, out("r11") _, out("xmm1") _, out("xmm15") _, options(nostack));
        }
        ensure!(
            low == round && high == round,
            "round {round}: got {low} and {high}"
        );
    }
    Ok(())
}

fn avx_round(seed: u64) -> Result<(), Failure> {
    let set: [u64; 8] =
        std::array::from_fn(|i| !seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) + i as u64);
    let mut got = [0_u64; 8];
    // SAFETY: only called where AVX is there and enabled; `set` and `got` are
    // 64 bytes each.
    unsafe {
        asm!(
            "vmovups ymm5, [{set}]", "vmovups ymm11, [{set} + 32]", "syscall",
            "vmovups [{got}], ymm5", "vmovups [{got} + 32], ymm11", "vzeroupper",
            set = in(reg) &set, got = in(reg) &mut got,
            inout("rax") libc::SYS_sched_yield => _, out("rcx") _, out("r11") _,
            out("xmm5") _, out("xmm11") _, options(nostack)
        );
    }
    ensure!(got == set, "YMM registers changed: {got:x?}, not {set:x?}");
    Ok(())
}

fn avx_across_switches() -> Result<Option<String>, Failure> {
    const OSXSAVE_AND_AVX: u32 = 1 << 27 | 1 << 28;
    if __cpuid(1).ecx & OSXSAVE_AND_AVX != OSXSAVE_AND_AVX {
        return Ok(Some("no AVX here".into()));
    }
    on_one_cpu(avx_round).map(|()| None)
}

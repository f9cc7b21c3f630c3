//! One process debugs another: single steps, breakpoints, registers, watched
//! memory.

use std::arch::global_asm;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::sys::ptrace;
use nix::sys::signal::{Signal, raise};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::process::{exits_with, forked};
use crate::runner::Check;
use crate::{Context, Failure, checks, ensure};

pub const CHECKS: &[Check] = checks![single_step, breakpoint_and_registers, watchpoint];

const NOPS: u64 = 8;

// A stretch of code whose every instruction is one byte long.
global_asm!(
    ".globl workload_steps, workload_steps_end",
    "workload_steps:",
    ".rept 8",
    "nop",
    ".endr",
    "workload_steps_end:",
    "ret",
);

unsafe extern "C" {
    fn workload_steps();
    fn workload_steps_end();
}

static WATCHED: AtomicU64 = AtomicU64::new(0);

/// A child that stops itself, then runs `body`.
fn traced(body: impl FnOnce() -> i32) -> Result<Pid, Failure> {
    let child = forked(|| {
        if ptrace::traceme().is_err() || raise(Signal::SIGSTOP).is_err() {
            return 1;
        }
        body()
    })?;
    stopped_by(child, Signal::SIGSTOP)?;
    Ok(child)
}

fn stopped_by(child: Pid, signal: Signal) -> Result<(), Failure> {
    let status = waitpid(child, None).context("waitpid")?;
    ensure!(
        status == WaitStatus::Stopped(child, signal),
        "wanted a stop by {signal}, got {status:?}"
    );
    Ok(())
}

/// Puts a breakpoint on the code, runs to it and takes it away again.
fn run_to_steps(child: Pid) -> Result<(), Failure> {
    let at = workload_steps as *const () as ptrace::AddressType;
    let code = ptrace::read(child, at).context("PTRACE_PEEKTEXT")?;
    ptrace::write(child, at, code & !0xff | 0xcc).context("PTRACE_POKETEXT")?;
    ptrace::cont(child, None).context("PTRACE_CONT")?;
    stopped_by(child, Signal::SIGTRAP)?;
    ptrace::write(child, at, code).context("PTRACE_POKETEXT")?;
    let mut registers = ptrace::getregs(child).context("PTRACE_GETREGS")?;
    ensure!(
        registers.rip == at as u64 + 1,
        "stopped at {:#x}, not past {at:?}",
        registers.rip
    );
    registers.rip -= 1;
    ptrace::setregs(child, registers).context("PTRACE_SETREGS")
}

fn run_steps() -> i32 {
    // SAFETY: the assembly above is a function that does nothing.
    unsafe { workload_steps() };
    0
}

fn single_step() -> Result<(), Failure> {
    let child = traced(run_steps)?;
    run_to_steps(child)?;
    let start = workload_steps as *const () as u64;
    ensure!(
        workload_steps_end as *const () as u64 - start == NOPS,
        "the code is not as written"
    );
    for step in 1..=NOPS {
        ptrace::step(child, None).context("PTRACE_SINGLESTEP")?;
        stopped_by(child, Signal::SIGTRAP)?;
        let rip = ptrace::getregs(child).context("PTRACE_GETREGS")?.rip;
        ensure!(
            rip == start + step,
            "after {step} steps RIP is {rip:#x}, not {:#x}",
            start + step
        );
    }
    ptrace::cont(child, None).context("PTRACE_CONT")?;
    exits_with(child, 0)
}

fn breakpoint_and_registers() -> Result<(), Failure> {
    let child = traced(|| {
        run_steps();
        i32::from(WATCHED.load(Ordering::SeqCst) != 77)
    })?;
    run_to_steps(child)?;
    let variable = &raw const WATCHED as ptrace::AddressType;
    ptrace::write(child, variable, 77).context("PTRACE_POKEDATA")?;
    ptrace::cont(child, None).context("PTRACE_CONT")?;
    exits_with(child, 0)
}

/// A debug register set to break on a store.
fn watchpoint() -> Result<(), Failure> {
    let child = traced(|| {
        run_steps();
        WATCHED.store(5, Ordering::SeqCst);
        i32::from(WATCHED.load(Ordering::SeqCst) != 5)
    })?;
    run_to_steps(child)?;
    // DR7: enable 0 locally, break on stores (01) of 8 bytes (10).
    let (enable, on_store, eight_bytes) = (1_i64, 0b01 << 16, 0b10 << 18);
    set_debug_register(child, 0, &raw const WATCHED as i64)?;
    set_debug_register(child, 7, enable | on_store | eight_bytes)?;
    ptrace::cont(child, None).context("PTRACE_CONT")?;
    stopped_by(child, Signal::SIGTRAP)?;
    let status = ptrace::read_user(child, debug_register(6)).context("PTRACE_PEEKUSER")?;
    ensure!(status & 0xf == 1, "DR6 is {status:#x}");
    let value = ptrace::read(child, &raw const WATCHED as ptrace::AddressType)
        .context("PTRACE_PEEKDATA")?;
    ensure!(value == 5, "stopped with {value} there");
    ptrace::cont(child, None).context("PTRACE_CONT")?;
    exits_with(child, 0)
}

fn debug_register(number: usize) -> ptrace::AddressType {
    (std::mem::offset_of!(libc::user, u_debugreg) + 8 * number) as ptrace::AddressType
}

fn set_debug_register(child: Pid, number: usize, value: i64) -> Result<(), Failure> {
    ptrace::write_user(child, debug_register(number), value).context("PTRACE_POKEUSER")
}

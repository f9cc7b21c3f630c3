//! Signals: delivery, masks, stacks, interrupted calls.

use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};

use nix::errno::Errno;
use nix::sys::signal::{
    SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal, kill, raise, sigaction, sigprocmask,
};
use nix::unistd::{Pid, getpid, getppid};

use crate::process::{exits_with, forked};
use crate::runner::Check;
use crate::{Context, Failure, checks, ensure};

pub const CHECKS: &[Check] = checks![
    signal_to_self,
    signal_from_child,
    signals_blocked,
    signal_on_other_stack,
    signal_interrupts_call
];

static COUNT: AtomicUsize = AtomicUsize::new(0);
static SENDER: AtomicI32 = AtomicI32::new(0);
static STACK_POINTER: AtomicUsize = AtomicUsize::new(0);

extern "C" fn count(_signal: i32, info: *mut libc::siginfo_t, _context: *mut libc::c_void) {
    let local = 0_u8;
    STACK_POINTER.store(&raw const local as usize, Ordering::SeqCst);
    // SAFETY: the kernel passes a valid siginfo; these signals come from kill.
    SENDER.store(unsafe { (*info).si_pid() }, Ordering::SeqCst);
    COUNT.fetch_add(1, Ordering::SeqCst);
}

/// Installs the counting handler.
fn handle(signal: Signal, flags: SaFlags) -> Result<(), Failure> {
    let action = SigAction::new(
        SigHandler::SigAction(count),
        flags | SaFlags::SA_SIGINFO,
        SigSet::empty(),
    );
    // SAFETY: the handler only stores to atomics.
    unsafe { sigaction(signal, &action) }.context("sigaction")?;
    Ok(())
}

fn signal_to_self() -> Result<(), Failure> {
    handle(Signal::SIGUSR1, SaFlags::empty())?;
    for wanted in 1..=200 {
        raise(Signal::SIGUSR1).context("raise")?;
        let got = COUNT.load(Ordering::SeqCst);
        ensure!(got == wanted, "{got} of {wanted} signals came");
    }
    ensure!(
        SENDER.load(Ordering::SeqCst) == getpid().as_raw(),
        "the sender is wrong"
    );
    Ok(())
}

fn signal_from_child() -> Result<(), Failure> {
    handle(Signal::SIGUSR2, SaFlags::empty())?;
    let blocked = SigSet::from(Signal::SIGUSR2);
    let mut before = SigSet::empty();
    sigprocmask(SigmaskHow::SIG_BLOCK, Some(&blocked), Some(&mut before)).context("sigprocmask")?;
    let child = forked(|| i32::from(kill(getppid(), Signal::SIGUSR2).is_err()))?;
    while COUNT.load(Ordering::SeqCst) == 0 {
        // Unblocks and waits in one step, so the signal cannot slip by.
        before
            .suspend()
            .or_else(|e| if e == Errno::EINTR { Ok(()) } else { Err(e) })
            .context("sigsuspend")?;
    }
    exits_with(child, 0)?;
    let sender = SENDER.load(Ordering::SeqCst);
    ensure!(
        sender == child.as_raw(),
        "it came from {sender}, not {child}"
    );
    Ok(())
}

fn signals_blocked() -> Result<(), Failure> {
    handle(Signal::SIGUSR1, SaFlags::empty())?;
    let set = SigSet::from(Signal::SIGUSR1);
    set.thread_block().context("block")?;
    raise(Signal::SIGUSR1).context("raise")?;
    ensure!(COUNT.load(Ordering::SeqCst) == 0, "it came though blocked");
    set.thread_unblock().context("unblock")?;
    let came = COUNT.load(Ordering::SeqCst);
    ensure!(came == 1, "it came {came} times when unblocked");
    Ok(())
}

fn signal_on_other_stack() -> Result<(), Failure> {
    let mut stack = vec![0_u8; 64 * 1024];
    let range = stack.as_ptr_range();
    let (low, high) = (range.start as usize, range.end as usize);
    let description = libc::stack_t {
        ss_sp: stack.as_mut_ptr().cast(),
        ss_flags: 0,
        ss_size: stack.len(),
    };
    // SAFETY: `stack` outlives the check's only signal.
    let set = unsafe { libc::sigaltstack(&raw const description, std::ptr::null_mut()) };
    ensure!(set == 0, "sigaltstack: {}", Errno::last());
    handle(Signal::SIGUSR1, SaFlags::SA_ONSTACK)?;
    raise(Signal::SIGUSR1).context("raise")?;
    let pointer = STACK_POINTER.load(Ordering::SeqCst);
    ensure!(
        (low..high).contains(&pointer),
        "handled at {pointer:#x}, not in {low:#x}..{high:#x}"
    );
    Ok(())
}

fn signal_interrupts_call() -> Result<(), Failure> {
    handle(Signal::SIGUSR1, SaFlags::empty())?;
    let (reader, _writer) = nix::unistd::pipe().context("pipe")?;
    let parent: Pid = getpid();
    let stop = forked(|| {
        // Again and again: the first may come before the parent reads.
        for _ in 0..10_000 {
            if kill(parent, Signal::SIGUSR1).is_err() {
                return 0;
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        1
    })?;
    let result = nix::unistd::read(&reader, &mut [0]);
    kill(stop, Signal::SIGKILL).context("kill")?;
    // A last signal may be on its way still.
    while nix::sys::wait::waitpid(stop, None) == Err(Errno::EINTR) {}
    ensure!(result == Err(Errno::EINTR), "read gave {result:?}");
    Ok(())
}

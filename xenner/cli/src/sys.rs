//! The few system calls without a safe wrapper.

use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use nix::libc;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::unistd::{ForkResult, Pid};

/// Runs `child` in a new process, which exits with what it returns, and returns that process's id.
/// The process must still have a single thread.
pub fn fork(child: impl FnOnce() -> u8) -> nix::Result<Pid> {
    // SAFETY: With one thread no lock is held by a thread that the child lacks, so the child may
    // run any code. The callers fork before they start threads.
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Parent { child } => Ok(child),
        ForkResult::Child => {
            let run = std::panic::AssertUnwindSafe(child);
            let status = std::panic::catch_unwind(run).unwrap_or(1);
            std::process::exit(status.into());
        }
    }
}

/// Takes ownership of descriptors that arrived in a control message.
pub fn received(fds: Vec<RawFd>) -> Vec<OwnedFd> {
    // SAFETY: The kernel has just made these descriptors for this process, and nothing else has
    // seen their numbers.
    fds.into_iter()
        .map(|fd| unsafe { OwnedFd::from_raw_fd(fd) })
        .collect()
}

/// Makes a system call that the seccomp filter refuses end the process with a line naming it,
/// instead of a bare signal.
pub fn report_refused_syscalls() -> nix::Result<()> {
    let handler = SigHandler::SigAction(refused_syscall);
    let action = SigAction::new(handler, SaFlags::SA_SIGINFO, SigSet::empty());
    // SAFETY: The handler only formats into its stack and calls write and _exit, which are
    // async-signal-safe.
    unsafe { sigaction(Signal::SIGSYS, &action) }.map(drop)
}

/// Offset of `si_syscall` in `siginfo_t` for `SIGSYS` on x86-64: behind the three leading integers,
/// their padding and `si_call_addr`.
const SI_SYSCALL: usize = 24;

extern "C" fn refused_syscall(_: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: The kernel passes a valid siginfo_t of 128 bytes, aligned to 8.
    let number = unsafe { info.cast::<u8>().add(SI_SYSCALL).cast::<u32>().read() };
    let mut line = *b"xenner: The sandbox refused system call 0000; this is a bug (--sandbox log shows more)\n";
    let digits = line.iter().position(|&byte| byte == b'0').unwrap_or(0);
    let mut rest = number;
    for slot in line[digits..digits + 4].iter_mut().rev() {
        *slot = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    let mut thread = *b"xenner: In thread \0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\n";
    let name = b"xenner: In thread ".len();
    // SAFETY: The name takes up to 16 bytes, for which there is room; the buffers are valid for their
    // lengths; _exit does not return.
    unsafe {
        libc::prctl(libc::PR_GET_NAME, thread.as_mut_ptr().add(name));
        libc::write(libc::STDERR_FILENO, line.as_ptr().cast(), line.len());
        libc::write(libc::STDERR_FILENO, thread.as_ptr().cast(), thread.len());
        libc::_exit(1);
    }
}

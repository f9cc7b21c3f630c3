//! What the kernel's services cost, in nanoseconds of CLOCK_MONOTONIC per
//! operation. Where the clock counts instructions these are instructions, and
//! the same from run to run.

use std::fs::File;
use std::io::{Read, Write};
use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous, munmap};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid, fork, getppid, pipe};

use crate::{Context, Failure};

/// A name, how often it is done, and what it is.
type Operation = (&'static str, u32, fn(u32) -> Result<(), Failure>);

const OPERATIONS: [Operation; 8] = [
    ("getppid", 20_000, ppid),
    ("read-zero", 10_000, read_zero),
    ("page-fault", 2_000, page_fault),
    ("mmap-touch-munmap", 500, mmap_touch_munmap),
    ("signal-self", 2_000, signal_self),
    ("pipe-ping-pong", 1_000, ping_pong),
    ("fork-exit-wait", 50, fork_exit_wait),
    ("fork-exec-wait", 20, fork_exec_wait),
];

/// Measures everything; each line is `bench: NAME NANOSECONDS`.
pub fn main() -> ExitCode {
    for (name, count, operation) in OPERATIONS {
        match measure(count, operation) {
            Ok(nanoseconds) => println!("bench: {name} {nanoseconds}"),
            Err(error) => {
                println!("bench: {name} failed: {error}");
                return ExitCode::FAILURE;
            }
        }
    }
    println!("bench: done");
    ExitCode::SUCCESS
}

/// The kernel's own account of how long it has run.
pub fn since_boot() -> Duration {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC);
    now.map_or(Duration::ZERO, Duration::from)
}

fn measure(count: u32, operation: fn(u32) -> Result<(), Failure>) -> Result<u128, Failure> {
    operation(count / 10 + 1)?;
    let start = Instant::now();
    operation(count)?;
    Ok(start.elapsed().as_nanos() / u128::from(count))
}

fn ppid(count: u32) -> Result<(), Failure> {
    for _ in 0..count {
        std::hint::black_box(getppid());
    }
    Ok(())
}

fn read_zero(count: u32) -> Result<(), Failure> {
    let mut zero = File::open("/dev/zero").context("/dev/zero")?;
    let mut byte = [0];
    (0..count).try_for_each(|_| zero.read_exact(&mut byte).context("read"))
}

fn map(pages: usize) -> Result<Region, Failure> {
    let length = NonZeroUsize::new(pages * 4096).ok_or("no pages")?;
    let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
    // SAFETY: a fresh mapping where the kernel likes.
    let start = unsafe { mmap_anonymous(None, length, protection, MapFlags::MAP_PRIVATE) }
        .context("mmap")?;
    Ok(Region { start, pages })
}

struct Region {
    start: std::ptr::NonNull<libc::c_void>,
    pages: usize,
}

impl Region {
    fn touch(&self, page: usize) {
        assert!(page < self.pages);
        // SAFETY: within the mapping, as just checked.
        unsafe {
            self.start
                .as_ptr()
                .byte_add(page * 4096)
                .cast::<u8>()
                .write_volatile(1)
        };
    }

    fn unmap(self) -> Result<(), Failure> {
        // SAFETY: the mapping is this region's own and goes with it.
        unsafe { munmap(self.start, self.pages * 4096) }.context("munmap")
    }
}

fn page_fault(count: u32) -> Result<(), Failure> {
    let region = map(count as usize)?;
    (0..count as usize).for_each(|page| region.touch(page));
    // What this costs goes to all faults together.
    region.unmap()
}

/// Large enough to need a page table of its own for the page touched.
fn mmap_touch_munmap(count: u32) -> Result<(), Failure> {
    const PAGES: usize = 1024;
    for _ in 0..count {
        let region = map(PAGES)?;
        region.touch(PAGES / 2);
        region.unmap()?;
    }
    Ok(())
}

fn signal_self(count: u32) -> Result<(), Failure> {
    extern "C" fn nothing(_signal: i32) {}
    let action = SigAction::new(
        SigHandler::Handler(nothing),
        SaFlags::empty(),
        SigSet::empty(),
    );
    // SAFETY: the handler does nothing.
    unsafe { sigaction(Signal::SIGUSR1, &action) }.context("sigaction")?;
    let own = Pid::this();
    (0..count).try_for_each(|_| nix::sys::signal::kill(own, Signal::SIGUSR1).context("kill"))
}

fn ping_pong(count: u32) -> Result<(), Failure> {
    let (ping_out, ping_in) = pipe().context("pipe")?;
    let (pong_out, pong_in) = pipe().context("pipe")?;
    let (mut ping_out, mut ping_in) = (File::from(ping_out), File::from(ping_in));
    let (mut pong_out, mut pong_in) = (File::from(pong_out), File::from(pong_in));
    let mut byte = [0];
    let child = child(move || {
        let mut byte = [0];
        (0..count)
            .all(|_| ping_out.read_exact(&mut byte).is_ok() && pong_in.write_all(&byte).is_ok())
    })?;
    for _ in 0..count {
        ping_in.write_all(&byte).context("write")?;
        pong_out.read_exact(&mut byte).context("read")?;
    }
    waitpid(child, None).context("waitpid")?;
    Ok(())
}

fn child(body: impl FnOnce() -> bool) -> Result<Pid, Failure> {
    // SAFETY: this process has one thread, so the child may do anything.
    match unsafe { fork() }.context("fork")? {
        ForkResult::Child => {
            let code = i32::from(!body());
            // SAFETY: ends the process, without what `exit` would do besides.
            unsafe { libc::_exit(code) }
        }
        ForkResult::Parent { child } => Ok(child),
    }
}

fn fork_exit_wait(count: u32) -> Result<(), Failure> {
    for _ in 0..count {
        let child = child(|| true)?;
        waitpid(child, None).context("waitpid")?;
    }
    Ok(())
}

/// The program run is this one, told to do nothing.
fn fork_exec_wait(count: u32) -> Result<(), Failure> {
    let arguments = [c"/proc/self/exe", c"child", c"exit", c"0"];
    for _ in 0..count {
        let child = child(|| nix::unistd::execv(arguments[0], &arguments).is_ok())?;
        let status = waitpid(child, None).context("waitpid")?;
        crate::ensure!(
            status == nix::sys::wait::WaitStatus::Exited(child, 0),
            "ended with {status:?}"
        );
    }
    Ok(())
}

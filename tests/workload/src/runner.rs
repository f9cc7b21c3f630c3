//! Runs the checks, each in a process of its own, and reports in TAP's manner.

use std::fs::File;
use std::io::{Read, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork, pipe};

use crate::{Context, Failure};

/// Far more than a check needs, even under nested emulation.
const LIMIT: Duration = Duration::from_secs(120);

/// A check's name and what it does. `Ok(Some(reason))` is "not applicable".
pub type Check = (&'static str, fn() -> Result<Option<String>, Failure>);

/// Makes a table of checks that apply everywhere.
#[macro_export]
macro_rules! checks {
    ($($function:ident),+ $(,)?) => {
        &[$((stringify!($function), || $function().map(|()| None))),+]
    };
}

const GROUPS: [&[Check]; 10] = [
    crate::cpu::CHECKS,
    crate::process::CHECKS,
    crate::signals::CHECKS,
    crate::faults::CHECKS,
    crate::memory::CHECKS,
    crate::threads::CHECKS,
    crate::fpu::CHECKS,
    crate::time::CHECKS,
    crate::trace::CHECKS,
    crate::compat::CHECKS,
];

/// What became of a check.
enum Verdict {
    Passed,
    Skipped(String),
    Failed(String),
}

/// Runs the named checks, or all; fails if one of them does.
pub fn main(names: &[String]) -> ExitCode {
    let (mut passed, mut skipped, mut failed) = (0, 0, 0);
    let all = GROUPS.iter().flat_map(|group| group.iter());
    let wanted = all.filter(|(name, _)| names.is_empty() || names.iter().any(|n| n == name));
    for (number, (name, check)) in wanted.enumerate() {
        let number = number + 1;
        let start = Instant::now();
        let verdict = isolated(*check).unwrap_or_else(Verdict::Failed);
        let taken = start.elapsed().as_millis();
        match verdict {
            Verdict::Passed => {
                passed += 1;
                println!("ok {number} {name} ({taken} ms)");
            }
            Verdict::Skipped(why) => {
                skipped += 1;
                println!("ok {number} {name} # skip {why}");
            }
            Verdict::Failed(why) => {
                failed += 1;
                println!("not ok {number} {name}: {why}");
            }
        }
    }
    println!("workload: {passed} passed, {failed} failed, {skipped} skipped");
    ExitCode::from(u8::from(failed > 0 || passed == 0))
}

/// Runs a check in a child process, so that one that crashes or hangs is only
/// itself lost.
fn isolated(check: fn() -> Result<Option<String>, Failure>) -> Result<Verdict, Failure> {
    let (reader, writer) = pipe().context("pipe")?;
    std::io::stdout().flush().context("flush")?;
    // SAFETY: this process has one thread, so the child may do anything.
    let child = match unsafe { fork() }.context("fork")? {
        ForkResult::Child => {
            drop(reader);
            let (code, message) = match check() {
                Ok(None) => (0, String::new()),
                Ok(Some(why)) => (1, why),
                Err(why) => (2, why),
            };
            // The parent sees a missing message as an empty one.
            let _ = File::from(writer).write_all(message.as_bytes());
            std::process::exit(code);
        }
        ForkResult::Parent { child } => child,
    };
    drop(writer);
    let status = wait_limited(child)?;
    let mut message = String::new();
    if !matches!(status, WaitStatus::Signaled(..)) {
        File::from(reader)
            .read_to_string(&mut message)
            .context("read")?;
    }
    Ok(match status {
        WaitStatus::Exited(_, 0) => Verdict::Passed,
        WaitStatus::Exited(_, 1) => Verdict::Skipped(message),
        WaitStatus::Exited(_, 2) => Verdict::Failed(message),
        other => Verdict::Failed(format!("the check ended unexpectedly: {other:?}")),
    })
}

fn wait_limited(child: nix::unistd::Pid) -> Result<WaitStatus, Failure> {
    let start = Instant::now();
    loop {
        match waitpid(child, Some(WaitPidFlag::WNOHANG)).context("waitpid")? {
            WaitStatus::StillAlive if start.elapsed() > LIMIT => {
                kill(child, Signal::SIGKILL).context("kill")?;
                waitpid(child, None).context("waitpid")?;
                return Err(format!("it hung for {LIMIT:?}"));
            }
            WaitStatus::StillAlive => std::thread::sleep(Duration::from_millis(1)),
            status => return Ok(status),
        }
    }
}

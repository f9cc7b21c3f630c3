//! Processes, files and pipes: fork, exec, wait.

use std::fs;
use std::io::{Read, Seek, SeekFrom, Write};
use std::process::{Command, ExitCode, Stdio};

use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};

use crate::runner::Check;
use crate::{Context, Failure, checks, ensure};

pub const CHECKS: &[Check] = checks![
    fork_and_wait,
    fork_tree,
    exec_self,
    files,
    pipe_bulk,
    pipe_ping_pong
];

/// What this program does when a check runs it.
pub fn child(arguments: &[String]) -> ExitCode {
    match arguments {
        [what, code] if what == "exit" => ExitCode::from(code.parse::<u8>().unwrap_or(255)),
        [what] if what == "echo" => {
            let mut text = String::new();
            let copied = std::io::stdin().read_to_string(&mut text);
            print!("{text}");
            ExitCode::from(u8::from(copied.is_err()))
        }
        _ => ExitCode::from(255),
    }
}

/// Forks a child that runs `body` and exits with its result.
pub fn forked(body: impl FnOnce() -> i32) -> Result<Pid, Failure> {
    // SAFETY: checks fork from a process with one thread, so the child may do
    // anything.
    match unsafe { fork() }.context("fork")? {
        ForkResult::Child => std::process::exit(body()),
        ForkResult::Parent { child } => Ok(child),
    }
}

/// Waits for a child and wants this exit status.
pub fn exits_with(child: Pid, code: i32) -> Result<(), Failure> {
    let status = waitpid(child, None).context("waitpid")?;
    ensure!(
        status == WaitStatus::Exited(child, code),
        "wanted exit {code}, got {status:?}"
    );
    Ok(())
}

fn fork_and_wait() -> Result<(), Failure> {
    for code in 0..50 {
        let child = forked(|| code)?;
        exits_with(child, code)?;
    }
    Ok(())
}

/// Many processes at once, in generations.
fn fork_tree() -> Result<(), Failure> {
    fn grow(depth: i32) -> Result<(), Failure> {
        if depth == 0 {
            return Ok(());
        }
        let branches: Vec<Pid> = (0..3)
            .map(|_| forked(|| i32::from(grow(depth - 1).is_err())))
            .collect::<Result<_, _>>()?;
        branches
            .into_iter()
            .try_for_each(|child| exits_with(child, 0))
    }
    grow(3)
}

fn exec_self() -> Result<(), Failure> {
    for code in [0, 7, 42] {
        let status = Command::new("/proc/self/exe")
            .args(["child", "exit", &code.to_string()])
            .status()
            .context("exec")?;
        ensure!(
            status.code() == Some(code),
            "wanted exit {code}, got {status}"
        );
    }
    let mut echo = Command::new("/proc/self/exe")
        .args(["child", "echo"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("exec")?;
    echo.stdin
        .take()
        .ok_or("no pipe")?
        .write_all(b"over and back")
        .context("write")?;
    let output = echo.wait_with_output().context("wait")?;
    ensure!(
        output.stdout == b"over and back",
        "echoed {:?}",
        output.stdout
    );
    Ok(())
}

fn files() -> Result<(), Failure> {
    let dir = std::env::temp_dir().join(format!("workload-{}", std::process::id()));
    fs::create_dir_all(&dir).context("mkdir")?;
    let (one, two) = (dir.join("one"), dir.join("two"));
    let data: Vec<u8> = (0..300_000_u32).map(|i| (i * 7 % 251) as u8).collect();
    fs::write(&one, &data).context("write")?;
    fs::rename(&one, &two).context("rename")?;
    let mut file = fs::File::options()
        .read(true)
        .write(true)
        .open(&two)
        .context("open")?;
    file.seek(SeekFrom::Start(123_456)).context("seek")?;
    let mut part = [0; 1000];
    file.read_exact(&mut part).context("read")?;
    ensure!(
        part[..] == data[123_456..124_456],
        "a part read back differs"
    );
    file.set_len(1000).context("truncate")?;
    ensure!(
        fs::read(&two).context("read")? == data[..1000],
        "the rest read back differs"
    );
    fs::remove_dir_all(&dir).context("remove")?;
    ensure!(!two.exists(), "it is still there");
    Ok(())
}

/// A megabyte through a pipe to a child, which must get every byte in order.
fn pipe_bulk() -> Result<(), Failure> {
    let (reader, writer) = nix::unistd::pipe().context("pipe")?;
    let (mut reader, mut writer) = (fs::File::from(reader), fs::File::from(writer));
    let expected: Vec<u8> = (0..1_u32 << 20).map(|i| (i ^ (i >> 8)) as u8).collect();
    let sent = expected.clone();
    let producer = forked(|| i32::from(writer.write_all(&sent).is_err()))?;
    drop(writer);
    let mut received = Vec::new();
    reader.read_to_end(&mut received).context("read")?;
    exits_with(producer, 0)?;
    ensure!(
        received == expected,
        "{} bytes came, not those sent",
        received.len()
    );
    Ok(())
}

fn pipe_ping_pong() -> Result<(), Failure> {
    let (ping_out, ping_in) = nix::unistd::pipe().context("pipe")?;
    let (pong_out, pong_in) = nix::unistd::pipe().context("pipe")?;
    let (mut ping_out, mut ping_in) = (fs::File::from(ping_out), fs::File::from(ping_in));
    let (mut pong_out, mut pong_in) = (fs::File::from(pong_out), fs::File::from(pong_in));
    let child = forked(|| {
        let mut byte = [0];
        for _ in 0..500 {
            if ping_out.read_exact(&mut byte).is_err() {
                return 1;
            }
            byte[0] = byte[0].wrapping_add(1);
            if pong_in.write_all(&byte).is_err() {
                return 2;
            }
        }
        0
    })?;
    for round in 0..500_u32 {
        let mut byte = [round as u8];
        ping_in.write_all(&byte).context("write")?;
        pong_out.read_exact(&mut byte).context("read")?;
        ensure!(
            byte[0] == (round as u8).wrapping_add(1),
            "round {round}: got {}",
            byte[0]
        );
    }
    exits_with(child, 0)
}

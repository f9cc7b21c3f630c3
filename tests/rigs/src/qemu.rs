//! QEMU as a process: its command line, its two serial ports, its end.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::channel::Channel;
use crate::error::{Error, Result};

/// How the emulated machine's clock runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clock {
    /// With the host's: as fast as emulation goes, one thread per CPU.
    Real,
    /// One nanosecond per instruction, one thread: figures that repeat.
    Instructions,
}

/// A machine to emulate.
#[derive(Debug, Clone)]
pub struct QemuSpec {
    /// `-cpu`.
    pub cpu: String,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// Virtual CPUs.
    pub cpus: u32,
    /// The clock.
    pub clock: Clock,
    /// `-kernel`: a bzImage or a multiboot 1 image.
    pub kernel: PathBuf,
    /// `-append`.
    pub append: String,
    /// `-initrd`: an archive, or multiboot modules with their arguments.
    pub initrd: String,
    /// A directory of the host the guest may mount as 9p with the tag `rig`.
    pub share: Option<PathBuf>,
    /// QEMU arguments beyond these.
    pub extra: Vec<String>,
}

impl QemuSpec {
    fn arguments(&self) -> Vec<String> {
        let mut arguments: Vec<String> = Vec::new();
        let mut option = |name: &str, value: &str| {
            arguments.push(name.into());
            arguments.push(value.into());
        };
        match self.clock {
            Clock::Real => option("-accel", "tcg,thread=multi"),
            Clock::Instructions => {
                option("-accel", "tcg,thread=single");
                option("-icount", "shift=0");
            }
        }
        option("-cpu", &self.cpu);
        option("-m", &self.memory_mib.to_string());
        option("-smp", &self.cpus.to_string());
        option("-kernel", &self.kernel.to_string_lossy());
        option("-append", &self.append);
        option("-initrd", &self.initrd);
        option("-display", "none");
        option("-nic", "none");
        if let Some(share) = &self.share {
            let path = share.to_string_lossy().replace(',', ",,");
            option(
                "-fsdev",
                &format!("local,id=rig,path={path},security_model=none"),
            );
            // A paravirtual dom0's memory is not contiguous: only the modern
            // transport with an IOMMU platform goes through its DMA mapping.
            let device =
                "virtio-9p-pci,fsdev=rig,mount_tag=rig,disable-legacy=on,iommu_platform=on";
            option("-device", device);
        }
        arguments.push("-no-reboot".into());
        arguments.extend(self.extra.iter().cloned());
        arguments
    }

    /// Starts the machine with its serial ports on channels.
    pub fn spawn(&self) -> Result<Qemu> {
        let (control, control_far) = socket_pair()?;
        let (console, console_far) = socket_pair()?;
        let (messages, messages_far) = socket_pair()?;
        let mut command = self.command();
        // The ports are the process's own first two descriptors, so nothing
        // has to be inherited by number.
        command
            .args(["-monitor", "none"])
            .args([
                "-chardev",
                "socket,id=console,fd=1",
                "-serial",
                "chardev:console",
            ])
            .args([
                "-chardev",
                "socket,id=control,fd=0",
                "-serial",
                "chardev:control",
            ])
            .stdin(Stdio::from(OwnedFd::from(control_far)))
            .stdout(Stdio::from(OwnedFd::from(console_far)))
            .stderr(Stdio::from(OwnedFd::from(messages_far)));
        Ok(Qemu {
            process: Process::start(command)?,
            console: Channel::new("the console", console)?,
            control: Channel::new("the control port", control)?,
            messages: Channel::new("QEMU's stderr", messages)?,
        })
    }

    /// Runs the machine on the caller's terminal until it ends. `Ctrl-A X`
    /// ends it early.
    pub fn run_on_terminal(&self) -> Result<ExitStatus> {
        let mut command = self.command();
        command
            .args(["-serial", "mon:stdio", "-serial", "null"])
            .stderr(Stdio::piped());
        let mut child = command.spawn().map_err(start_error)?;
        if let Some(stderr) = child.stderr.take() {
            let lines = BufReader::new(stderr)
                .lines()
                .map_while(std::io::Result::ok);
            lines
                .filter(|line| is_complaint(line))
                .for_each(|line| eprintln!("{line}\r"));
        }
        child.wait().map_err(start_error)
    }

    fn command(&self) -> Command {
        // Ends QEMU with the thread that started it, however that ends; see
        // `Process::start`.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--", "qemu-system-x86_64"]);
        command.args(self.arguments());
        command
    }

    /// The command line, for people.
    pub fn command_line(&self) -> String {
        let mut line = String::from("qemu-system-x86_64");
        for argument in self.arguments() {
            let plain = argument
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "-_=,./+".contains(c));
            let quoted = if plain {
                argument
            } else {
                shell_quote(&argument)
            };
            let _ = write!(line, " {quoted}");
        }
        line
    }
}

/// QEMU also remarks on each CPU feature that emulation lacks; nothing here uses
/// them.
fn is_complaint(line: &str) -> bool {
    !line.contains("TCG doesn't support requested feature")
}

fn socket_pair() -> Result<(UnixStream, UnixStream)> {
    UnixStream::pair().map_err(Error::io("create", Path::new("(socket pair)")))
}

fn start_error(source: std::io::Error) -> Error {
    Error::Start {
        program: "qemu-system-x86_64 (through setpriv)".into(),
        source,
        advice: "Run: apt-get install --no-install-recommends qemu-system-x86 util-linux".into(),
    }
}

/// A word for the shell, whatever is in it.
pub fn shell_quote(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// A running machine. Dropping it kills it.
#[derive(Debug)]
pub struct Qemu {
    process: Process,
    /// The first serial port: kernel messages.
    pub console: Channel,
    /// The second serial port: the harness's shell.
    pub control: Channel,
    messages: Channel,
}

impl Qemu {
    /// What QEMU itself complained of.
    pub fn complaints(&self) -> String {
        let text = self.messages.text();
        let lines = text
            .lines()
            .filter(|l| !l.contains("TCG doesn't support requested feature"));
        lines.collect::<Vec<_>>().join("\n")
    }

    /// Waits for the machine to end by itself.
    pub fn wait(&mut self, deadline: Duration) -> Result<ExitStatus> {
        self.process.wait(deadline).ok_or_else(|| Error::Timeout {
            channel: "the machine",
            pattern: "(its end)".into(),
            deadline,
            tail: self.console.tail(),
        })
    }
}

/// A child process that dies with its owner.
#[derive(Debug)]
struct Process {
    pid: nix::unistd::Pid,
    exits: mpsc::Receiver<ExitStatus>,
    status: Option<ExitStatus>,
}

impl Process {
    /// The parent death signal comes when the *thread* that forked ends, so a
    /// thread is kept for the child's whole life, which also collects its end.
    fn start(mut command: Command) -> Result<Self> {
        let (started, starts) = mpsc::channel();
        let (exited, exits) = mpsc::channel();
        std::thread::spawn(move || {
            let child: std::io::Result<Child> = command.spawn();
            // Only the child may hold the far ends of its ports: their closing
            // is how the channels learn of its end.
            drop(command);
            match child {
                Err(error) => drop(started.send(Err(error))),
                Ok(mut child) => {
                    let told = started.send(Ok(child.id()));
                    if told.is_ok()
                        && let Ok(status) = child.wait()
                    {
                        // Nobody may be left to hear it.
                        let _ = exited.send(status);
                    }
                }
            }
        });
        let pid = starts
            .recv()
            .map_err(|_| start_error(std::io::Error::other("the starting thread died")))?
            .map_err(start_error)?;
        Ok(Self {
            pid: nix::unistd::Pid::from_raw(pid.cast_signed()),
            exits,
            status: None,
        })
    }

    fn wait(&mut self, deadline: Duration) -> Option<ExitStatus> {
        let end = Instant::now() + deadline;
        if self.status.is_none() {
            let left = end.saturating_duration_since(Instant::now());
            self.status = self.exits.recv_timeout(left).ok();
        }
        self.status
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.wait(Duration::ZERO).is_none() {
            // It may end in between, and its thread has not collected it then.
            let _ = nix::sys::signal::kill(self.pid, nix::sys::signal::Signal::SIGKILL);
            self.wait(Duration::from_secs(10));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_for_the_shell() {
        assert_eq!(shell_quote("a b"), "'a b'");
        assert_eq!(shell_quote("it's"), r"'it'\''s'");
    }

    #[test]
    fn a_process_is_killed_on_drop() {
        let mut command = Command::new("sleep");
        command.arg("1000");
        let process = Process::start(command).expect("started");
        let pid = process.pid;
        drop(process);
        assert!(nix::sys::signal::kill(pid, None).is_err(), "still there");
    }

    #[test]
    fn an_end_is_reported() {
        let mut process = Process::start(Command::new("false")).expect("started");
        let status = process.wait(Duration::from_secs(10)).expect("ended");
        assert_eq!(status.code(), Some(1));
    }
}

//! What both rigs are: an emulated machine with a Debian kernel, a busybox
//! initial file system, a directory shared with the host and a shell.
//!
//! The console (first serial port) carries kernel messages; the shell the
//! harness speaks to is on the second port, so neither disturbs the other.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::Duration;

use regex::bytes::Regex;

use crate::error::{Error, Result};
use crate::initramfs::Initramfs;
use crate::packages::{Cache, Package};
use crate::qemu::{Clock, Qemu, QemuSpec, shell_quote};

/// Long enough for a machine under emulation on a busy host.
const BOOT: Duration = Duration::from_secs(240);

static READY: LazyLock<Regex> = LazyLock::new(|| pattern(r"(?m)^rig: ready\n"));
static DONE: LazyLock<Regex> = LazyLock::new(|| pattern(r"\n?rig: done (\d+)\n"));

#[expect(
    clippy::expect_used,
    reason = "the patterns are constants of this crate"
)]
fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("a valid pattern")
}

/// What a rig is to be.
#[derive(Debug, Clone)]
pub struct RigSpec {
    /// The clock of the emulated machine.
    pub clock: Clock,
    /// Its memory in MiB.
    pub memory_mib: u32,
    /// Its CPUs.
    pub cpus: u32,
    /// Programs of the host to put in, each with the libraries it needs:
    /// (path here, path there).
    pub programs: Vec<(PathBuf, String)>,
    /// Other files to put in: (path here, path there).
    pub files: Vec<(PathBuf, String)>,
    /// Kernel modules to load beyond those every rig of its kind has.
    pub modules: Vec<&'static str>,
    /// Whether a rig X has what HVM domains need: QEMU and firmware files.
    pub device_model: bool,
    /// Further words for Xen's command line; for rig X only.
    pub hypervisor: &'static str,
    /// What `/etc/terminal`, the script for rigs on a terminal, holds.
    pub terminal: String,
}

impl Default for RigSpec {
    fn default() -> Self {
        Self {
            clock: Clock::Real,
            memory_mib: 3072,
            cpus: 2,
            programs: Vec::new(),
            files: Vec::new(),
            modules: Vec::new(),
            device_model: false,
            hypervisor: "",
            terminal: "exec sh -i".into(),
        }
    }
}

impl RigSpec {
    /// Adds a program of the host with its libraries.
    #[must_use]
    pub fn program(mut self, here: impl Into<PathBuf>, there: &str) -> Self {
        self.programs.push((here.into(), there.into()));
        self
    }

    /// Adds a file of the host.
    #[must_use]
    pub fn file(mut self, here: impl Into<PathBuf>, there: &str) -> Self {
        self.files.push((here.into(), there.into()));
        self
    }

    /// Adds a kernel module with those it needs.
    #[must_use]
    pub fn module(mut self, name: &'static str) -> Self {
        self.modules.push(name);
        self
    }

    /// Puts in what HVM domains need; for rig X only.
    #[must_use]
    pub fn with_device_model(mut self) -> Self {
        self.device_model = true;
        self
    }

    /// The shell command a rig on a terminal runs, instead of a shell.
    #[must_use]
    pub fn on_terminal(mut self, command: String) -> Self {
        self.terminal = command;
        self
    }

    /// Makes the clock count instructions: figures then repeat from run to run.
    #[must_use]
    pub fn counting_instructions(mut self) -> Self {
        self.clock = Clock::Instructions;
        self.cpus = 1;
        self
    }

    /// Puts this spec's programs and files in.
    pub(crate) fn fill(&self, fs: &mut Initramfs, packages: &[Package]) -> Result<()> {
        for (here, there) in &self.programs {
            fs.program(here, there, packages)?;
        }
        for (here, there) in &self.files {
            fs.copy(here, there)?;
        }
        fs.file("/etc/terminal", 0o644, self.terminal.as_str());
        Ok(())
    }
}

/// A machine ready to start: its command line and the directory its files are in.
#[derive(Debug)]
pub struct Prepared {
    /// The machine.
    pub qemu: QemuSpec,
    dir: tempfile::TempDir,
}

impl Prepared {
    pub(crate) fn new(spec: &RigSpec, cpu: &str) -> Result<Self> {
        let dir = tempfile::Builder::new()
            .prefix("xenner-rig")
            .tempdir()
            .map_err(Error::io("create a directory in", &std::env::temp_dir()))?;
        let share = dir.path().join("share");
        fs::create_dir(&share).map_err(Error::io("create", &share))?;
        Ok(Self {
            qemu: QemuSpec {
                cpu: cpu.into(),
                memory_mib: spec.memory_mib,
                cpus: spec.cpus,
                clock: spec.clock,
                kernel: PathBuf::new(),
                append: String::new(),
                initrd: String::new(),
                share: Some(share),
                extra: Vec::new(),
            },
            dir,
        })
    }

    /// The directory of the host that the rig will see as `/share`.
    pub fn share(&self) -> PathBuf {
        self.path("share")
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

fn with_console(error: Error, qemu: &Qemu) -> Error {
    let console = format!("{}\n{}", qemu.console.tail(), qemu.complaints());
    match error {
        Error::Timeout {
            channel,
            pattern,
            deadline,
            tail,
        } => Error::Timeout {
            channel,
            pattern,
            deadline,
            tail: format!("{tail}\n-- console --\n{console}"),
        },
        Error::Ended {
            status,
            pattern,
            tail,
        } => Error::Ended {
            status,
            pattern,
            tail: format!("{tail}\n-- console --\n{console}"),
        },
        other => other,
    }
}

/// What a command in a rig did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Its exit status, as the shell's `$?`.
    pub status: i32,
    /// What it wrote to stdout and stderr.
    pub text: String,
}

impl Output {
    /// The text, if the command succeeded.
    pub fn success(self) -> std::result::Result<String, Self> {
        if self.status == 0 {
            Ok(self.text)
        } else {
            Err(self)
        }
    }
}

/// A running rig's shell.
#[derive(Debug)]
pub struct Shell {
    qemu: Qemu,
    share: PathBuf,
    _dir: tempfile::TempDir,
}

impl Shell {
    /// Starts a machine and waits for its shell.
    pub fn boot(machine: Prepared) -> Result<Self> {
        let mut qemu = machine.qemu.spawn()?;
        // What went wrong is on the console, not on the silent control port.
        if let Err(error) = qemu.control.expect(&READY, BOOT) {
            return Err(with_console(error, &qemu));
        }
        Ok(Self {
            qemu,
            share: machine.share(),
            _dir: machine.dir,
        })
    }

    /// Runs a shell command to its end.
    pub fn run(&mut self, command: &str, deadline: Duration) -> Result<Output> {
        self.run_with(command, deadline, &mut |_| {})
    }

    /// Runs a shell command and hands over its output line by line.
    pub fn run_with(
        &mut self,
        command: &str,
        deadline: Duration,
        sink: &mut dyn FnMut(&[u8]),
    ) -> Result<Output> {
        let line = format!(
            "sh -c {} </dev/null 2>&1; printf '\\nrig: done %d\\n' $?\n",
            shell_quote(command)
        );
        self.qemu.control.send(line.as_bytes())?;
        let done = self.qemu.control.expect_with(&DONE, deadline, sink);
        let done = done.map_err(|error| with_console(error, &self.qemu))?;
        let status = done.groups.get(1).and_then(|s| s.parse().ok());
        Ok(Output {
            status: status.unwrap_or(-1),
            text: done.before,
        })
    }

    /// The directory of the host that the rig sees as `/share`, both ways.
    pub fn share(&self) -> &Path {
        &self.share
    }

    /// Copies a file of the host in while the rig runs; its path there is
    /// `/share/NAME`.
    pub fn put(&self, from: &Path, name: &str) -> Result<()> {
        let to = self.share.join(name);
        fs::copy(from, &to).map_err(Error::io("copy", from))?;
        Ok(())
    }

    /// Writes a file the rig sees as `/share/NAME`.
    pub fn write(&self, name: &str, data: &[u8], permissions: u32) -> Result<()> {
        let to = self.share.join(name);
        fs::write(&to, data).map_err(Error::io("write", &to))?;
        let permissions = fs::Permissions::from_mode(permissions);
        fs::set_permissions(&to, permissions).map_err(Error::io("change", &to))
    }

    /// Reads a file the rig wrote to `/share/NAME`.
    pub fn read(&self, name: &str) -> Result<Vec<u8>> {
        let from = self.share.join(name);
        fs::read(&from).map_err(Error::io("read", &from))
    }

    /// The console: kernel (and hypervisor) messages.
    pub fn console(&mut self) -> &mut crate::channel::Channel {
        &mut self.qemu.console
    }

    /// Switches the machine off and waits for that.
    pub fn power_off(mut self) -> Result<()> {
        self.qemu.control.send(b"poweroff -f\n")?;
        self.qemu.wait(BOOT)?;
        Ok(())
    }
}

/// The part of `/init` every rig has, then `body`, then the shell: on the
/// console when the command line says `rig.terminal`, else on the second port.
pub(crate) fn init_script(terminal: &str, body: &str) -> String {
    format!(
        r#"#!/bin/sh
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mkdir -p /dev/pts /dev/shm /share
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /dev/shm
echo 1 >/proc/sys/kernel/printk
[ -f /modules/load ] && . /modules/load
mount -t 9p -o trans=virtio,version=9p2000.L,msize=262144 rig /share
ip link set lo up
{body}
if grep -qw rig.terminal /proc/cmdline; then
    setsid -c sh /etc/terminal </dev/{terminal} >/dev/{terminal} 2>&1
    poweroff -f
fi
stty -F /dev/ttyS1 raw -echo
exec </dev/ttyS1 >/dev/ttyS1 2>&1
echo 'rig: ready'
while :; do sh 2>&1 | cat; done
"#
    )
}

/// An initial file system with busybox and the modules for `/share`.
pub(crate) fn base_initramfs(cache: &Cache) -> Result<Initramfs> {
    let mut fs = Initramfs::new();
    fs.busybox(&cache.package("busybox-static")?)?;
    Ok(fs)
}

/// The modules the shared directory needs.
pub(crate) const SHARE_MODULES: [&str; 3] = ["virtio_pci", "9pnet_virtio", "9p"];

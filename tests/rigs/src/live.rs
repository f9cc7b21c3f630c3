//! A guest of `xenner` with busybox on its console, for tests that do things with it while it runs.

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::channel::Channel;
use crate::error::{Error, Result};
use crate::initramfs::Initramfs;
use crate::packages::{Cache, KernelFiles};
use crate::terminal::Terminal;

pub use crate::terminal::{BOOT, SOON};

/// What it prints when it obeys its console.
pub const READY: &str = "guest-is-ready";

const INIT: &str = "#!/bin/sh
export PATH=/bin:/sbin:/usr/bin:/usr/sbin
mount -t proc proc /proc; mount -t sysfs sysfs /sys; mount -t devtmpfs dev /dev
sh /modules/load
mkdir -p /mnt
stty -F /dev/console -echo -onlcr
echo guest-is-ready
while read -r line; do eval \"$line\"; done < /dev/console
";

/// What busybox' DHCP client does with an answer.
const UDHCPC: &str = "#!/bin/sh
case $1 in bound|renew)
    ip addr add $ip/$mask dev $interface
    for gateway in $router; do ip route add default via $gateway; done
    echo $router > /tmp/router; echo $dns > /tmp/dns;;
esac
";

/// An initial file system with busybox that obeys its console, and modules with what they depend on.
pub fn initramfs(cache: &Cache, kernel: &KernelFiles, modules: &[&str]) -> Result<Initramfs> {
    let mut fs = Initramfs::new();
    fs.busybox(&cache.package("busybox-static")?)?;
    fs.modules(kernel, modules)?;
    fs.file("/init", 0o755, INIT);
    fs.file("/etc/udhcpc.sh", 0o755, UDHCPC);
    Ok(fs)
}

/// A running guest; dropping it destroys it.
#[derive(Debug)]
pub struct Live {
    program: std::path::PathBuf,
    dir: TempDir,
    terminal: Terminal,
}

impl Live {
    /// Boots a guest with these arguments to `xenner run` besides.
    pub fn boot(program: &Path, kernel: &Path, initrd: &Path, more: &[&str]) -> Result<Self> {
        let temporary = Path::new("(temporary)");
        let dir = TempDir::new().map_err(Error::io("create", temporary))?;
        let socket = dir.path().join("console");
        let mut run = Command::new(program);
        run.env("XENNER_RUN_DIR", dir.path().join("run"))
            .args([
                "run", "--detach", "--name", "guest", "--memory", "192M", "--kernel",
            ])
            .arg(kernel)
            .arg("--initrd")
            .arg(initrd)
            .args(["--append", "console=hvc0 quiet panic=-1", "--console"])
            .arg(format!("socket:{}", socket.display()))
            .args(more)
            .stdin(Stdio::null());
        let output = run.output().map_err(|source| Error::Start {
            program: program.to_string_lossy().into_owned(),
            source,
            advice: "Set XENNER to a built xenner to do without".into(),
        })?;
        if !output.status.success() {
            return Err(Error::Program {
                program: format!("{run:?}"),
                status: output.status,
                output: String::from_utf8_lossy(&output.stderr).into_owned(),
            });
        }
        let stream = UnixStream::connect(&socket).map_err(Error::io("connect to", &socket))?;
        let mut live = Self {
            program: program.to_owned(),
            dir,
            terminal: Terminal::new(Channel::new("guest's console", stream)?),
        };
        live.ready()?;
        Ok(live)
    }

    /// Waits until the guest has started again and obeys.
    pub fn ready(&mut self) -> Result<()> {
        self.terminal.expect(READY, BOOT).map(drop)
    }

    /// Runs a shell command in the guest: its status and what it printed.
    pub fn run(&mut self, command: &str) -> Result<(i32, String)> {
        self.terminal.run(command)
    }

    /// Starts one, to be waited for by [`Self::finish`].
    pub fn start(&mut self, command: &str) -> Result<()> {
        self.terminal.start(command)
    }

    /// Waits for it.
    pub fn finish(&mut self, deadline: Duration) -> Result<(i32, String)> {
        self.terminal.finish(deadline)
    }

    /// Runs `xenner` on it; the domain is called `guest`.
    pub fn xenner(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("xenner starts")
    }

    /// The same, to be started.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .env("XENNER_RUN_DIR", self.dir.path().join("run"))
            .args(arguments)
            .stdin(Stdio::null());
        command
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.xenner(&["destroy", "guest"]);
    }
}

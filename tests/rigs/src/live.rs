//! A guest of `xenner` with busybox on its console, for tests that do things with it while it runs.

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use regex::bytes::Regex;
use tempfile::TempDir;

use crate::channel::Channel;
use crate::error::{Error, Result};
use crate::initramfs::Initramfs;
use crate::packages::{Cache, KernelFiles};

/// Long enough for a boot on a busy machine.
pub const BOOT: Duration = Duration::from_secs(120);
/// Long enough for a command there.
pub const SOON: Duration = Duration::from_secs(60);

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
    console: Channel,
    count: u32,
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
            console: Channel::new("guest's console", stream)?,
            count: 0,
        };
        live.ready()?;
        Ok(live)
    }

    /// Waits until the guest has started again and obeys.
    pub fn ready(&mut self) -> Result<()> {
        let ready = Regex::new("guest-is-ready").expect("a pattern");
        self.console.expect(&ready, BOOT).map(drop)
    }

    /// Runs a shell command in the guest: its status and what it printed.
    pub fn run(&mut self, command: &str) -> Result<(i32, String)> {
        self.start(command)?;
        self.finish(SOON)
    }

    /// Starts one, to be waited for by [`Self::finish`].
    pub fn start(&mut self, command: &str) -> Result<()> {
        self.count += 1;
        let line = format!("( {command} ) 2>&1; echo \"status=$? of {}\"\n", self.count);
        self.console.send(line.as_bytes())
    }

    /// Waits for it.
    pub fn finish(&mut self, deadline: Duration) -> Result<(i32, String)> {
        let pattern = format!("status=([0-9]+) of {}\r?\n", self.count);
        let pattern = Regex::new(&pattern).expect("a pattern");
        let found = self.console.expect(&pattern, deadline)?;
        let status = found.groups[1].parse().unwrap_or(-1);
        Ok((status, found.before.trim().to_owned()))
    }

    /// Runs `xenner` on it; the domain is called `guest`.
    pub fn xenner(&self, arguments: &[&str]) -> Output {
        Command::new(&self.program)
            .env("XENNER_RUN_DIR", self.dir.path().join("run"))
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .expect("xenner starts")
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.xenner(&["destroy", "guest"]);
    }
}

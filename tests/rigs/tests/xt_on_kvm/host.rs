//! A KVM host of its own, and guests that obey their consoles.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use tempfile::TempDir;
use xenner_rigs::channel::Channel;
use xenner_rigs::packages::{self, Cache, Kernel};
use xenner_rigs::terminal::{BOOT, Terminal};
use xenner_rigs::{live, rig_l, xenner};

/// A guest that powers off and reboots when it is asked to: busybox' commands want its own init.
pub const OBEY: &str = "for word in poweroff reboot; do rm -f /sbin/$word; \
    printf '#!/bin/sh\\nexec busybox %s -f\\n' $word > /sbin/$word; chmod +x /sbin/$word; done";

/// A KVM host of its own, in a run directory of its own.
pub struct Host {
    pub xt: PathBuf,
    pub xenner: PathBuf,
    dir: TempDir,
}

/// What a domain's console is at: `xt console`, whose ends are these.
pub struct Console {
    pub terminal: Terminal,
    program: Child,
}

impl Drop for Console {
    fn drop(&mut self) {
        let _ = self.program.kill();
        let _ = self.program.wait();
    }
}

impl Host {
    /// `None`, with a word why, where there is no KVM.
    pub fn new() -> Option<Self> {
        if let Err(skipped) = rig_l::detect() {
            println!("{skipped}");
            return None;
        }
        packages::install(&["iproute2"]).expect("the host's programs");
        let cache = Cache::open().expect("cache");
        let kernel = cache.kernel(Kernel::new("6.1", true)).expect("kernel");
        let dir = tempfile::tempdir().expect("temporary directory");
        live::initramfs(&cache, &kernel, &["xen_blkfront", "xen_netfront"])
            .and_then(|fs| fs.write(&dir.path().join("initrd")))
            .expect("initial file system");
        let host = Self {
            xt: xenner::build_xt().expect("xt"),
            xenner: xenner::build().expect("xenner"),
            dir,
        };
        let kernel = kernel.image.display();
        let config = format!(
            "name = 'guest'\nkernel = '{kernel}'\nramdisk = '{}'\nextra = 'console=hvc0 quiet panic=-1'\n\
             memory = 192\nmaxmem = 256\nvcpus = 2\nmaxvcpus = 2\non_crash = 'preserve'\n",
            host.path("initrd").display()
        );
        fs::write(host.path("guest.cfg"), config).expect("a configuration");
        Some(host)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn command(&self, line: &str) -> Command {
        let mut command = Command::new(&self.xt);
        command
            .args(["--host", "kvm", "--run-dir"])
            .arg(self.path("run"))
            .args(line.split_whitespace())
            .env("XENNER", &self.xenner)
            .current_dir(self.dir.path())
            .stdin(Stdio::null());
        command
    }

    /// Runs a command line: its status, its output and its complaints.
    pub fn try_xt(&self, line: &str) -> (i32, String, String) {
        let Output {
            status,
            stdout,
            stderr,
        } = self.command(line).output().expect("xt starts");
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        (status.code().unwrap_or(-1), text(stdout), text(stderr))
    }

    /// One that must succeed: its output.
    pub fn xt(&self, line: &str) -> String {
        let (status, output, complaint) = self.try_xt(line);
        assert_eq!(status, 0, "xt {line}: {complaint}");
        output
    }

    /// One that must fail with this status: its complaint.
    pub fn refused(&self, line: &str, with: i32) -> String {
        let (status, output, complaint) = self.try_xt(line);
        assert_eq!(status, with, "xt {line}: {output}{complaint}");
        complaint
    }

    pub fn console(&self, name: &str) -> Console {
        let (ours, theirs) = UnixStream::pair().expect("a pair of sockets");
        let theirs: OwnedFd = theirs.into();
        let program = self
            .command(&format!("console {name}"))
            .stdin(theirs.try_clone().expect("a copy"))
            .stdout(theirs)
            .stderr(Stdio::null())
            .spawn()
            .expect("xt starts");
        let channel = Channel::new("xt console", ours).expect("a channel");
        let terminal = Terminal::new(channel);
        Console { terminal, program }
    }

    /// What `list` says of a domain: number, memory, vCPUs, state.
    pub fn listed(&self, name: &str) -> Vec<String> {
        let list = self.xt("list");
        let (heading, lines) = list.split_once('\n').expect("a heading");
        assert_eq!(
            heading,
            "Name                                        ID   Mem VCPUs\tState\tTime(s)"
        );
        let line = lines
            .lines()
            .find(|line| line.split_whitespace().next() == Some(name));
        let line = line.unwrap_or_else(|| panic!("no {name} in\n{list}"));
        line.split_whitespace().skip(1).map(str::to_owned).collect()
    }
}

/// What may be left of a test that failed.
impl Drop for Host {
    fn drop(&mut self) {
        for line in self.try_xt("vm-list").1.lines().skip(1) {
            let name = line.split_whitespace().nth(2).unwrap_or_default();
            self.try_xt(&format!("destroy {name}"));
        }
    }
}

/// A command in the guest that must succeed; what it printed.
pub fn guest(console: &mut Console, command: &str) -> String {
    let (status, text) = console.terminal.run(command).expect("the guest answers");
    assert_eq!(status, 0, "{command}: {text}");
    text
}

/// Waits in the guest: the event comes by xenstore, and busybox has nothing to await it with.
pub fn until(console: &mut Console, condition: &str) {
    guest(
        console,
        &format!("until {condition}; do usleep 20000; done"),
    );
}

pub fn ready(console: &mut Console) {
    console
        .terminal
        .expect(live::READY, BOOT)
        .expect("the guest starts");
    guest(console, OBEY);
}

/// Waits until `list` says so: what the guest does on its own is told by nothing else.
pub fn until_listed(host: &Host, name: &str, column: usize, value: &str) {
    while host.listed(name)[column] != value {
        std::thread::yield_now();
    }
}

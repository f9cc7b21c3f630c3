//! A Debian system on a PV disk with a PV network card, on this machine's KVM: booted by `xenner`
//! itself, and by GRUB's PV image, which reads kernel and initrd through the same disk.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use pv_stats::DeviceStats;
use tempfile::TempDir;
use xenner_rigs::debian::System;
use xenner_rigs::foreground::Foreground;
use xenner_rigs::packages::{self, Cache};
use xenner_rigs::terminal::SOON;
use xenner_rigs::{rig_l, xenner};
use xt_builder::KernelImage;

/// For a system that stops its services first.
const END: Duration = Duration::from_secs(400);

/// A copy of the system's disk and where the report goes.
struct Bench {
    program: PathBuf,
    system: System,
    cache: Cache,
    dir: TempDir,
}

impl Bench {
    /// `None`, with a word why, where there is no KVM.
    fn new() -> Option<Self> {
        if let Err(skipped) = rig_l::detect() {
            println!("{skipped}");
            return None;
        }
        packages::install(&["e2fsprogs", "passt"]).expect("the host's programs");
        let cache = Cache::open().expect("cache");
        let system = System::of_this_release(&cache).expect("a Debian system");
        let dir = tempfile::tempdir().expect("temporary directory");
        system
            .copy_disk(&dir.path().join("root.img"))
            .expect("a copy");
        Some(Self {
            program: xenner::build().expect("xenner"),
            system,
            cache,
            dir,
        })
    }

    fn disk(&self) -> String {
        self.path("root.img")
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_string_lossy().into_owned()
    }

    fn start(&self, more: &[&str]) -> Foreground {
        let disk = format!("--disk=format=raw,vdev=xvda,target={}", self.disk());
        let report = format!("--report={}", self.path("report"));
        let mut arguments = vec!["--memory=512M", "--nic=user", &disk, &report];
        arguments.extend(more);
        Foreground::start(&self.program, &arguments).expect("xenner starts")
    }

    /// The devices' counters at the end.
    fn devices(&self) -> Vec<DeviceStats> {
        let text = fs::read(self.path("report")).expect("a report");
        let report: serde_json::Value = serde_json::from_slice(&text).expect("JSON");
        serde_json::from_value(report["stats"]["devices"].clone()).expect("counters")
    }
}

/// A command in the guest that must succeed; what it printed.
fn guest(guest: &mut Foreground, command: &str) -> String {
    let (status, text) = guest.terminal.run(command).expect("the guest answers");
    assert_eq!(status, 0, "{command}: {text}");
    text
}

/// Powers the system off, and the domain ends well.
fn power_off(guest: &mut Foreground) {
    guest.terminal.line("poweroff").expect("the console");
    let status = guest.wait(END).expect("the system ends");
    assert!(status.success(), "{status}: {}", guest.complaint());
}

fn host(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
    let all = [output.stdout, output.stderr].concat();
    let all = String::from_utf8_lossy(&all).into_owned();
    assert!(output.status.success(), "{program} {arguments:?}: {all}");
    all
}

/// A counter of the named device, all queues together.
fn sum(devices: &[DeviceStats], name: &str, counter: &str) -> u64 {
    let device = devices.iter().find(|device| device.name == name);
    let device = device.unwrap_or_else(|| panic!("no {name} in {devices:?}"));
    let queues = device.queues.iter();
    let counts = queues.filter_map(|queue| queue.counters.iter().find(|(n, _)| *n == counter));
    counts.map(|(_, count)| *count).sum()
}

#[test]
fn a_debian_system_lives_on_our_devices() {
    let Some(bench) = Bench::new() else { return };
    let kernel = format!("--kernel={}", bench.system.kernel.display());
    let initrd = format!("--initrd={}", bench.system.initrd.display());
    let append = "--append=root=/dev/xvda console=hvc0 quiet";
    let mut debian = bench.start(&[&kernel, &initrd, append]);
    debian.terminal.log_in().expect("the system's prompt");

    guest(
        &mut debian,
        "/lib/systemd/systemd-networkd-wait-online --any --ipv4 --timeout=50",
    );
    let link = guest(&mut debian, "networkctl --no-pager status 'e*'");
    assert!(link.contains("(DHCP4 via "), "{link}");
    // The kernel gives itself one on the link; the host's own network decides of a global one.
    guest(
        &mut debian,
        "until ip -6 -o addr show scope link -tentative | grep -q fe80; do sleep .1; done",
    );
    let global = guest(&mut debian, "ip -6 -o addr show scope global");
    let kind = if global.is_empty() {
        "of the link only"
    } else {
        &global
    };
    println!("IPv6: {kind}");
    let host_has = host("ip", &["-6", "-o", "addr", "show", "scope", "global"]);
    let host_routes = host("ip", &["-6", "route", "show", "default"]);
    if !host_has.is_empty() && !host_routes.is_empty() {
        assert!(
            !global.is_empty(),
            "the host has {host_has}, the guest nothing"
        );
    }
    // Something to find on the disk afterwards, which only the file system's own flush brought there.
    guest(&mut debian, "echo been here > /root/mark");
    let failed = guest(&mut debian, "systemctl --failed --no-legend --plain");
    assert_eq!(failed, "", "units that failed");
    power_off(&mut debian);

    host("e2fsck", &["-f", "-n", &bench.disk()]);
    let mark = host("debugfs", &["-R", "cat /root/mark", &bench.disk()]);
    assert!(mark.contains("been here"), "{mark}");
    let devices = bench.devices();
    for counter in ["read_bytes", "write_bytes", "flush_requests"] {
        assert!(sum(&devices, "xvda", counter) > 0, "{counter}: {devices:?}");
    }
    let card = devices.iter().find(|device| device.kind == "vif");
    let card = &card
        .unwrap_or_else(|| panic!("no card in {devices:?}"))
        .name;
    for counter in ["rx_packets", "tx_packets"] {
        assert!(sum(&devices, card, counter) > 0, "{counter}: {devices:?}");
    }
}

/// GRUB unpacks kernels by gzip, xz and lzo only, and Debian's are packed otherwise: the disk gets the
/// ELF image, which GRUB takes as it is.
fn unpack_kernel(bench: &Bench) {
    let packed = fs::read(&bench.system.kernel).expect("the kernel");
    let image = KernelImage::parse(&packed, None).expect("a kernel");
    let path = bench.path("vmlinux");
    fs::write(&path, image.elf()).expect("its ELF image");
    let configuration = "set timeout=0\n\
        linux /boot/vmlinux root=/dev/xvda console=hvc0 quiet\n\
        initrd /boot/initrd\n\
        boot\n";
    let config = bench.path("grub.cfg");
    fs::write(&config, configuration).expect("GRUB's configuration");
    let initrd = bench.system.initrd.to_string_lossy();
    for (from, to) in [
        (&*path, "/boot/vmlinux"),
        (&*initrd, "/boot/initrd"),
        (&*config, "/boot/grub/grub.cfg"),
    ] {
        // There is no way to replace a file.
        let _ = Command::new("debugfs")
            .args(["-w", "-R", &format!("rm {to}"), &bench.disk()])
            .output();
        host(
            "debugfs",
            &["-w", "-R", &format!("write {from} {to}"), &bench.disk()],
        );
    }
    host("e2fsck", &["-f", "-p", &bench.disk()]);
}

#[test]
fn grub_boots_it_from_the_disk() {
    let Some(bench) = Bench::new() else { return };
    unpack_kernel(&bench);
    let grub = bench.cache.package("grub-xen-host").expect("GRUB");
    let grub = grub.path("usr/lib/grub-xen/grub-x86_64-xen.bin");
    assert!(Path::new(&grub).is_file());
    let mut debian = bench.start(&[&format!("--kernel={}", grub.display())]);
    let found = r"Reading \(xen/xvda\)/boot/grub/grub.cfg";
    debian.terminal.expect(found, SOON).expect("GRUB's word");
    debian.terminal.log_in().expect("the system's prompt");
    power_off(&mut debian);
    host("e2fsck", &["-f", "-n", &bench.disk()]);
}

//! What a guest's disk and network card cost, by who serves them.
//!
//! The clock counts the instructions of the whole emulated machine: those of the
//! guest, of the back end, of the hypervisor and of the host's kernel. One guest
//! runs at a time, so what an operation takes by its clock is what the machine
//! spends on it. The medium is the same everywhere, a RAM disk of the host's
//! kernel (`brd`), and so is the far end of the network: a program on the host,
//! which has the bridge's own address.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use xenner_rigs::packages::{Cache, KernelFiles};
use xenner_rigs::qemu::shell_quote;
use xenner_rigs::{Domain, Output, RigK, RigSpec, RigX, Shell, dom0, guest, rig_x, xenner};

use super::{Figures, LIMIT, MEMORY_MIB, grouped, read, spec};

/// In the order of the table.
const OPERATIONS: [(&str, &str); 6] = [
    ("read-4k", "read 4 KiB"),
    ("read-4k-32", "read 4 KiB, 32 at once"),
    ("read-1m", "read 1 MiB"),
    ("write-4k-sync", "write 4 KiB + fdatasync"),
    ("tcp-out", "TCP MiB, guest to host"),
    ("tcp-in", "TCP MiB, host to guest"),
];

const DISK: &str = "/dev/ram0";
const BRIDGE: &str = "xenbr0";
const GUEST: &str = "192.168.77.2/24";
const PEER: &str = "192.168.77.1:5001";

/// What QEMU's own packages bring beside the programs: where it looks for the
/// first code of a machine.
const QEMU: &str = "/usr/bin/qemu-system-x86_64";
const FIRMWARE: [(&str, &str); 4] = [
    ("/usr/share/seabios/bios-256k.bin", "bios-256k.bin"),
    ("/usr/share/qemu/kvmvapic.bin", "kvmvapic.bin"),
    ("/usr/share/qemu/linuxboot_dma.bin", "linuxboot_dma.bin"),
    ("/usr/share/qemu/linuxboot.bin", "linuxboot.bin"),
];

/// Who serves the guest's devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Server {
    /// Nobody: the host itself, on the medium and its own loopback network
    Host,
    /// xenner, on KVM
    Xenner,
    /// Linux's blkback and netback, on Xen 4.17
    Kernel,
    /// QEMU's qdisk, on Xen 4.17
    Qdisk,
    /// QEMU's virtio, on KVM
    Virtio,
    /// The same with the network in the host's kernel (vhost)
    Vhost,
}

impl Server {
    fn title(self) -> &'static str {
        match self {
            Server::Host => "host alone",
            Server::Xenner => "xenner",
            Server::Kernel => "blkback, netback",
            Server::Qdisk => "QEMU qdisk",
            Server::Virtio => "QEMU virtio",
            Server::Vhost => "QEMU vhost-net",
        }
    }
}

/// The figures of each server, in their order.
pub type Columns = Vec<(Server, Figures)>;

/// Measures with one server after the other. `words` go to the guest's command
/// line.
pub fn measure(kernel: &KernelFiles, servers: &[Server], words: &str) -> Result<Columns> {
    let mut columns = Vec::new();
    for &server in servers {
        eprintln!("Measuring: devices, {}", server.title());
        let console = match server {
            Server::Host => host()?,
            Server::Xenner => on_xenner(kernel, words)?,
            Server::Kernel => on_xen(kernel, false, words)?,
            Server::Qdisk => on_xen(kernel, true, words)?,
            Server::Virtio => on_qemu(kernel, false, words)?,
            Server::Vhost => on_qemu(kernel, true, words)?,
        };
        let figures = read(&console).with_context(|| format!("{server:?} said:\n{console}"))?;
        columns.push((server, figures));
    }
    Ok(columns)
}

/// A rig with the medium's driver and the peer's program.
fn rig() -> RigSpec {
    spec()
        .file(guest::workload(), "/usr/bin/workload")
        .module("brd")
        .module("bridge")
}

fn done(output: Output) -> Result<String> {
    match output.success() {
        Ok(text) => Ok(text),
        Err(output) => bail!("Status {}:\n{}", output.status, output.text),
    }
}

/// The medium, every page of it there, the bridge, and the peer on it.
fn prepare(shell: &mut Shell, kernel: &KernelFiles) -> Result<()> {
    shell.put(&kernel.image, "vmlinuz")?;
    guest::devices_initramfs(kernel)?.write(&shell.share().join("initrd"))?;
    let (address, _) = PEER.split_once(':').unwrap_or((PEER, ""));
    let script = format!(
        "set -e
         cp /share/vmlinuz /share/initrd /tmp
         tr '\\0' x </dev/zero | dd of={DISK} bs=1M count=16 iflag=fullblock 2>/dev/null
         sync; echo 3 >/proc/sys/vm/drop_caches
         brctl addbr {BRIDGE}
         ip addr add {address}/24 dev {BRIDGE}
         ip link set {BRIDGE} up
         workload peer {PEER}"
    );
    done(shell.run(&script, LIMIT)?).context("Preparing the rig")?;
    Ok(())
}

fn append(console: &str, disk: Option<&str>, nic: bool, words: &str) -> String {
    let mut line =
        format!("console={console} quiet mitigations=off {words} xenner.test=devices,poweroff");
    if let Some(disk) = disk {
        line += &format!(" xenner.disk=/dev/{disk}");
    }
    if nic {
        line += &format!(" xenner.nic=eth0,{GUEST},{PEER}");
    }
    line
}

/// What the medium and TCP cost by themselves.
fn host() -> Result<String> {
    let mut rig = RigK::boot(&rig())?;
    let script = format!(
        "set -e
         tr '\\0' x </dev/zero | dd of={DISK} bs=1M count=16 iflag=fullblock 2>/dev/null
         sync; echo 3 >/proc/sys/vm/drop_caches
         workload peer 127.0.0.1:5001
         workload devices disk={DISK} peer=127.0.0.1:5001"
    );
    done(rig.run(&script, LIMIT)?)
}

fn on_xenner(kernel: &KernelFiles, words: &str) -> Result<String> {
    let mut rig = RigK::boot(&rig().program(xenner::build()?, "/usr/bin/xenner"))?;
    prepare(&mut rig.shell, kernel)?;
    let guest = xenner::Guest {
        kernel: "/tmp/vmlinuz".into(),
        initrd: "/tmp/initrd".into(),
        append: append("hvc0", Some("xvda"), true, words),
        memory_mib: MEMORY_MIB,
        vcpus: 1,
    };
    let disk = shell_quote(&format!("{DISK},raw,xvda,rw"));
    let nic = shell_quote(&format!("bridge={BRIDGE}"));
    let command = format!("{} --disk {disk} --nic {nic}", guest.command("xenner"));
    done(rig.run(&command, LIMIT)?)
}

/// What a script of Xen's must tell `xl` of a card.
const VIF_SCRIPT: &str = r#"#!/bin/sh
[ "$1" = online ] || exit 0
brctl addif "$(xenstore-read "$XENBUS_PATH/bridge")" "$vif"
ip link set "$vif" up
xenstore-write "$XENBUS_PATH/hotplug-status" connected
"#;

fn on_xen(kernel: &KernelFiles, qdisk: bool, words: &str) -> Result<String> {
    let mut spec = rig();
    if qdisk {
        let package = Cache::open()?.package("qemu-system-xen")?;
        let program = "/usr/libexec/xen-qemu-system-i386";
        let keys = "/usr/share/qemu/keymaps/en-us";
        spec = spec
            .program(package.path(program), program)
            .file(keys, keys);
    }
    // As the other hosts, and as `spec-ctrl=no` for Xen.
    let shell = Shell::boot(rig_x::prepare(&spec, "mitigations=off")?)?;
    let mut rig = RigX { shell };
    prepare(&mut rig.shell, kernel)?;
    rig.shell
        .write("block-rig", dom0::BLOCK.as_bytes(), 0o755)?;
    rig.shell.write("vif-rig", VIF_SCRIPT.as_bytes(), 0o755)?;
    done(rig.run("cp /share/*-rig /etc/xen/scripts", LIMIT)?)?;
    let mut domain = Domain::pv(
        "bench",
        "/tmp/vmlinuz",
        "/tmp/initrd",
        &append("hvc0", Some("xvda"), !qdisk, words),
    );
    domain.memory_mib = MEMORY_MIB;
    domain.extra = if qdisk {
        format!("disk = [ 'format=raw,vdev=xvda,access=rw,backendtype=qdisk,target={DISK}' ]")
    } else {
        format!(
            "disk = [ 'format=raw,vdev=xvda,access=rw,backendtype=phy,script=block-rig,target={DISK}' ]\n\
             vif = [ 'bridge={BRIDGE},script=vif-rig' ]"
        )
    };
    let ended = rig.run_domain(&domain, LIMIT)?;
    if ended.reason != Some(0) {
        let logs = rig.run("cat /var/log/xen/*.log", LIMIT)?;
        bail!(
            "The domain did not power off: {}\n{}\n{}",
            ended.xl,
            ended.console,
            logs.text
        );
    }
    Ok(ended.console)
}

fn on_qemu(kernel: &KernelFiles, vhost: bool, words: &str) -> Result<String> {
    let mut spec = rig()
        .program(QEMU, "/usr/bin/qemu-system-x86_64")
        .module("vhost_net");
    for (here, name) in FIRMWARE {
        spec = spec.file(Path::new(here), &format!("/usr/share/qemu/{name}"));
    }
    let mut rig = RigK::boot(&spec)?;
    prepare(&mut rig.shell, kernel)?;
    let append = append("ttyS0", Some("vda"), true, words);
    let vhost = if vhost { "on" } else { "off" };
    let command = format!(
        "set -e
         tunctl -t tap0
         brctl addif {BRIDGE} tap0
         ip link set tap0 up
         exec timeout {limit} qemu-system-x86_64 -M q35,accel=kvm -cpu host -m {MEMORY_MIB} -smp 1 \
         -nodefaults -no-user-config -display none -serial stdio -no-reboot -L /usr/share/qemu \
         -kernel /tmp/vmlinuz -initrd /tmp/initrd -append {append} \
         -blockdev host_device,node-name=disk,filename={DISK},cache.direct=on,aio=io_uring \
         -device virtio-blk-pci,drive=disk \
         -netdev tap,id=net,ifname=tap0,script=no,downscript=no,vhost={vhost} \
         -device virtio-net-pci,netdev=net,romfile=",
        append = shell_quote(&append),
        limit = LIMIT.as_secs(),
    );
    done(rig.run(&command, LIMIT + Duration::from_secs(60))?)
}

/// Each figure, and its ratio to xenner's.
pub fn table(release: &str, columns: &Columns) -> String {
    let mut lines = vec![format!(
        "Instructions of the whole machine per operation of a device, Linux {release}"
    )];
    let mut head = format!("{:<26}", "");
    for (server, _) in columns {
        head += &format!("{:>22}", server.title());
    }
    lines.push(head);
    let ours = columns.iter().find(|(server, _)| *server == Server::Xenner);
    for (name, title) in OPERATIONS {
        let mut line = format!("{title:<26}");
        let ours = ours.and_then(|(_, figures)| figures.get(name));
        for (server, figures) in columns {
            let Some(&figure) = figures.get(name) else {
                line += &format!("{:>14}{:8}", "-", "");
                continue;
            };
            let ratio = ours
                .filter(|_| *server != Server::Xenner)
                .map(|&ours| format!("{:.2}x", figure as f64 / ours as f64));
            let ratio = ratio.unwrap_or_default();
            line += &format!("{:>14}{ratio:>8}", grouped(figure));
        }
        lines.push(line.trim_end().into());
    }
    lines.join("\n") + "\n"
}

/// The same for programs.
pub fn json(columns: &Columns) -> serde_json::Value {
    columns
        .iter()
        .map(|(server, figures)| {
            let name = format!("{server:?}").to_lowercase();
            (name, serde_json::json!(figures))
        })
        .collect::<serde_json::Map<_, _>>()
        .into()
}

//! The ways in which HVM domains boot, each to the user space of a guest that ends by itself, and what
//! is said where there is nothing to boot.

use std::fs;
use std::path::Path;
use std::process::Command;

use regex::bytes::Regex;
use xenner_rigs::packages::{Cache, Kernel};
use xenner_rigs::rig_x::Domain;
use xenner_rigs::{RigSpec, dom0::guest_initramfs};

use crate::dom0::{Dom0, ENDS, LIMIT, domain, is_sound};

#[track_caller]
fn sound(dom0: &mut Dom0, domain: &Domain) {
    let console = dom0.run_with_xt(domain);
    let sound = is_sound(&console, domain.vcpus);
    assert!(sound, "{}:\n{console}", domain.name);
}

/// A domain that is given no kernel.
fn from(name: &str, media: &str) -> Domain {
    Domain {
        kernel: String::new(),
        ramdisk: None,
        command_line: String::new(),
        ..domain(name, 1, media)
    }
}

/// Memory on both sides of the hole, and the smallest hole and the largest.
#[test]
#[ignore = "minutes; for the nightly run"]
fn memory_above_4_gib() {
    let spec = RigSpec {
        memory_mib: 8192,
        ..RigSpec::default()
    };
    let mut dom0 = Dom0::boot(spec);
    let mut large = domain("large", 1, "");
    large.memory_mib = 5120;
    sound(&mut dom0, &large);
    let mut hole = domain("hole", 4, "mmio_hole = 2048");
    hole.memory_mib = 5120;
    sound(&mut dom0, &hole);
}

/// UEFI finds the kernel, too. Debian 12's build of it takes no tables from a Xen firmware: without ACPI
/// Linux has no power to switch off, and halts.
#[test]
#[ignore = "minutes; for the nightly run"]
fn ovmf_boots_a_kernel() {
    let mut dom0 = Dom0::boot(RigSpec::default());
    let mut uefi = domain("uefi", 1, "bios = \"ovmf\"");
    uefi.memory_mib = 512;
    let console = dom0.run_with_xt(&uefi);
    for line in ["efi: EFI v", "init: up", "reboot: System halted"] {
        assert!(console.contains(line), "{line}: {console}");
    }
}

/// GRUB on a medium that is a CD and a disk in one, with the kernel and `initrd`.
fn image(dom0: &Dom0, initrd: &Path, append: &str, name: &str) {
    let dir = tempfile::tempdir().expect("temporary directory");
    let boot = dir.path().join("boot");
    fs::create_dir_all(boot.join("grub")).expect("a directory");
    let share = dom0.rig.shell.share();
    fs::copy(share.join("vmlinuz"), boot.join("vmlinuz")).expect("copied");
    fs::copy(initrd, boot.join("initrd")).expect("copied");
    let menu = format!(
        "set timeout=0\nmenuentry linux {{\nlinux /boot/vmlinuz {append}\ninitrd /boot/initrd\n}}\n"
    );
    fs::write(boot.join("grub/grub.cfg"), menu).expect("written");
    let made = Command::new("grub-mkrescue")
        .args(["-d", "/usr/lib/grub/i386-pc", "-o"])
        .arg(share.join(name))
        .arg(dir.path())
        .output()
        .expect("grub-mkrescue");
    let said = String::from_utf8_lossy(&made.stderr);
    assert!(made.status.success(), "{said}");
}

/// Says what disks and cards there are, of which drivers, and reads the disk.
const LOOK: &str = r#"
for disk in sda xvda; do [ $disk = $(cat /proc/cmdline | sed -n 's/.*disk=\([a-z]*\).*/\1/p') ] && until [ -b /dev/$disk ]; do usleep 100000; done; done
echo "disks:" $(ls /sys/block | grep -E '^(sd|xvd)')
for card in /sys/class/net/*; do
    [ -e $card/device ] && echo "card:" $(basename $(readlink $card/device/driver))
done
for disk in sda xvda; do [ -b /dev/$disk ] && echo "sum:" $(dd if=/dev/$disk bs=1M count=4 2>/dev/null | md5sum); done
echo 'init: up'
busybox poweroff -f
"#;

#[test]
#[ignore = "minutes; for the nightly run"]
fn a_cd_and_a_disk_boot_and_emulated_devices_are_unplugged() {
    let mut dom0 = Dom0::boot(RigSpec::default());
    let share = dom0.rig.shell.share().to_owned();
    image(&dom0, &share.join("initrd"), ENDS, "image.iso");
    dom0.must("mkdir -p /disks && cp /share/image.iso /disks/image");
    let cd = from(
        "cd",
        "boot = \"d\"\ndisk = [\"/share/image.iso,raw,hdc,cdrom\"]",
    );
    sound(&mut dom0, &cd);
    let disk = from(
        "disk",
        "boot = \"c\"\ndisk = [\"/disks/image,raw,hda,w,backendtype=qdisk\"]",
    );
    sound(&mut dom0, &disk);

    // The same disk, with drivers for what is emulated and for what is not.
    let cache = Cache::open().expect("cache");
    let kernel = cache.kernel(Kernel::STANDARD).expect("kernel");
    let mut fs = guest_initramfs(&cache, &kernel, LOOK).expect("initial file system");
    let drivers = [
        "ata_piix",
        "sd_mod",
        "8139cp",
        "xen-blkfront",
        "xen-netfront",
    ];
    fs.modules(&kernel, &drivers).expect("modules");
    fs.write(&share.join("look")).expect("written");
    let sum = dom0.must("dd if=/disks/image bs=1M count=4 2>/dev/null | md5sum");
    dom0.rig
        .shell
        .write("vif-plain", VIF.as_bytes(), 0o755)
        .expect("a script");
    dom0.must("cp /share/vif-plain /etc/xen/scripts");
    let media =
        "disk = [\"/disks/image,raw,hda,w,backendtype=qdisk\"]\nvif = [\"script=vif-plain\"]";
    for (name, wanted, disk, card) in [
        ("unplugged", "xvda", "disks: xvda", "card: vif"),
        (
            "kept xen_emul_unplug=never",
            "sda",
            "disks: sda",
            "card: 8139cp",
        ),
    ] {
        let (name, more) = name.split_once(' ').unwrap_or((name, ""));
        let mut look = domain(name, 1, media);
        look.ramdisk = Some("/share/look".into());
        look.command_line = format!("console=hvc0 panic=-1 disk={wanted} {more}");
        let console = dom0.run_with_xt(&look);
        let seen: Vec<_> = console
            .lines()
            .filter(|line| {
                ["disks:", "card:", "sum:"]
                    .iter()
                    .any(|w| line.starts_with(w))
            })
            .collect();
        let sum = format!("sum: {}", sum.trim().replace("  ", " "));
        assert_eq!(seen, [disk, card, &sum], "{name}: {console}");
    }
}

/// Puts the interface of either kind on the bridge.
const VIF: &str = r#"#!/bin/sh
ip link show br0 >/dev/null 2>&1 || ip link add br0 type bridge && ip link set br0 up
case "$*" in
*type_if=tap*) [ "$1" = add ] && ip link set "$INTERFACE" master br0 up || exit 0;;
*) [ "$1" = online ] || exit 0
   ip link set "$vif" master br0 up && xenstore-write "$XENBUS_PATH/hotplug-status" connected;;
esac
"#;

const DHCP: &str = "echo root:x:0:0::/:/bin/sh >>/etc/passwd; echo root:x:0: >>/etc/group; dnsmasq --port=0 --interface=br0 --bind-interfaces --user=root --leasefile-ro \
    --dhcp-range=10.0.0.10,10.0.0.20 --dhcp-boot=boot.ipxe --enable-tftp --tftp-root=/share --log-facility=/run/dnsmasq.log";

/// From the network; and where nobody answers there, as with a CD or a disk that is none, the BIOS says that there is nothing to boot.
#[test]
#[ignore = "minutes; for the nightly run"]
fn the_network_boots_and_what_cannot_boot_is_said() {
    let spec = RigSpec::default().program("/usr/sbin/dnsmasq", "/usr/sbin/dnsmasq");
    let mut dom0 = Dom0::boot(spec);
    let script = format!("#!ipxe\nkernel vmlinuz {ENDS}\ninitrd initrd\nboot\n");
    let files = [("boot.ipxe", script.as_str()), ("vif-plain", VIF)];
    for (name, text) in files {
        let written = dom0.rig.shell.write(name, text.as_bytes(), 0o755);
        written.expect("a file for dom0");
    }
    dom0.must(
        "cp /share/vif-plain /etc/xen/scripts; mkdir -p /disks; \
         ip link add br0 type bridge && ip link set br0 up && ip addr add 10.0.0.1/24 dev br0; \
         dd if=/dev/zero of=/disks/none bs=1M count=4 2>/dev/null",
    );
    // Xen's tools make their directories with the first domain.
    dom0.configure(&domain("first", 1, ""));
    dom0.must("xt create -q -p -e /share/first.cfg && xt destroy first");
    let before = dom0.left();

    let network = from("network", "boot = \"n\"\nvif = [\"script=vif-plain\"]");
    let nothing = Regex::new("No bootable device").expect("a pattern");
    for (name, media) in [
        ("unanswered", "boot = \"n\"\nvif = [\"script=vif-plain\"]"),
        (
            "no-cd",
            "boot = \"d\"\ndisk = [\"/share/vmlinuz,raw,hdc,cdrom\"]",
        ),
        (
            "no-disk",
            "boot = \"c\"\ndisk = [\"/disks/none,raw,hda,w,backendtype=qdisk\"]",
        ),
    ] {
        dom0.configure(&from(name, media));
        dom0.must(&format!("xt create -q -e /share/{name}.cfg"));
        let said = dom0.rig.shell.console().expect(&nothing, LIMIT);
        said.unwrap_or_else(|error| panic!("{name}: {error}"));
        dom0.must(&format!("xt destroy {name}"));
        assert_eq!(dom0.left(), before, "{name}");
    }

    // Less of an initial file system than it says: the kernel does not find what is missing.
    dom0.must("head -c 100000 /share/initrd >/share/half");
    let mut half = domain("half", 1, "");
    half.ramdisk = Some("/share/half".into());
    let console = dom0.run_with_xt(&half);
    assert!(console.contains("Kernel panic"), "{console}");
    assert_eq!(dom0.left(), before);

    dom0.must(DHCP);
    sound(&mut dom0, &network);
    assert_eq!(dom0.left(), before);
}

//! HVM domains of real Xen under this project's firmware, and under Xen's: they
//! boot, and what the guest sees is the same.

use std::collections::BTreeMap;
use std::time::Duration;

use xenner_rigs::initramfs::Initramfs;
use xenner_rigs::packages::{Cache, Kernel};
use xenner_rigs::rig_x::Domain;
use xenner_rigs::{RigSpec, RigX};

/// For one domain, under two emulations and with the host busy.
const LIMIT: Duration = Duration::from_secs(900);

/// What the guest does: shows what firmware has left, each part under a heading.
const LOOK: &str = r#"#!/bin/busybox sh
export PATH=/bin
busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
part() { echo "@@@ $1"; }
bytes() { hexdump -v -e '32/1 "%02x" "\n"' "$@"; }
part e820; dmesg | grep -o 'BIOS-e820: .*'
part mtrr; cat /proc/mtrr
part cpus; cat /sys/devices/system/cpu/online
for d in /sys/bus/pci/devices/*; do
    part "pci ${d##*/}"; bytes -n 64 $d/config
done
for t in /sys/firmware/acpi/tables/[A-Z]*; do part "acpi ${t##*/}"; bytes $t; done
part dmi; bytes /sys/firmware/dmi/tables/DMI
part devices; ls /sys/bus/acpi/devices
part interrupts; cat /proc/interrupts
part end
poweroff -f
"#;

fn guest(cache: &Cache) -> Initramfs {
    let mut fs = Initramfs::new();
    let busybox = cache.package("busybox-static").expect("busybox");
    fs.busybox(&busybox).expect("busybox");
    fs.file("/init", 0o755, LOOK);
    fs
}

type View = BTreeMap<String, String>;

fn parts(console: &str) -> View {
    let mut view = View::new();
    let mut lines = console.lines().map(str::trim_end);
    let mut name = None;
    for line in &mut lines {
        if let Some(part) = line.split("@@@ ").nth(1) {
            name = Some(part.to_owned());
        } else if let Some(name) = &name {
            *view.entry(name.clone()).or_default() += &format!("{line}\n");
        }
    }
    view
}

fn look(rig: &mut RigX, name: &str, vcpus: u32, memory_mib: u32, firmware: Option<&str>) -> View {
    let mut domain = Domain::pv(
        name,
        "/share/vmlinuz",
        "/share/initrd",
        "console=hvc0 quiet",
    );
    domain.vcpus = vcpus;
    domain.memory_mib = memory_mib;
    domain.extra = "type = \"hvm\"\nvnc = 0\nvga = \"stdvga\"\n".into();
    if let Some(path) = firmware {
        domain.extra += &format!("firmware_override = {path:?}\n");
    }
    let ended = rig.run_domain(&domain, LIMIT).expect("the rig answers");
    let log = rig.run("xl dmesg | tail -60", LIMIT).expect("run").text;
    let told = format!("{}\n{}\n{log}", ended.console, ended.xl);
    assert_eq!(ended.reason, Some(0), "{name}: {told}");
    let view = parts(&ended.console);
    assert!(view.contains_key("e820"), "{name}: {told}");
    view
}

#[test]
fn guests_see_the_same_under_both_firmwares() {
    let cache = Cache::open().expect("cache");
    let spec = RigSpec::default().with_device_model();
    let mut rig = RigX::boot(&spec).expect("rig X");
    let kernel = cache.kernel(Kernel::STANDARD).expect("kernel");
    rig.shell.put(&kernel.image, "vmlinuz").expect("put");
    rig.shell
        .write("hvmloader", hvmloader_image::IMAGE, 0o644)
        .expect("put");
    guest(&cache)
        .write(&rig.shell.share().join("initrd"))
        .expect("initial file system");

    let ours = look(&mut rig, "ours", 2, 256, Some("/share/hvmloader"));
    let theirs = look(&mut rig, "theirs", 2, 256, None);
    let mut wrong = Vec::new();
    for (part, theirs) in &theirs {
        if EXPLAINED.iter().any(|(explained, _)| part == explained) {
            continue;
        }
        match ours.get(part) {
            Some(ours) if ours == theirs => println!("{part}: equal"),
            ours => wrong.push(format!("{part}:\nXen's\n{theirs}\nours\n{ours:?}\n")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

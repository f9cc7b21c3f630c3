//! What a guest sees of its machine: the same under this project's firmware as under Xen's.

use std::collections::BTreeMap;

use xenner_rigs::RigSpec;
use xenner_rigs::dom0::guest_initramfs;
use xenner_rigs::packages::{Cache, Kernel};

use crate::dom0::{Dom0, LIMIT, domain};

/// Tells all, section by section.
const TELL: &str = r#"
echo "== iomem"; cat /proc/iomem
echo "== mtrr"; cat /proc/mtrr
echo "== e820"; dmesg | sed -n 's/.*BIOS-e820: //p'
echo "== irq"; dmesg | sed -n 's/.*\] //; /PCI: Interrupt link/p; /IOAPIC/p; /hpet/p; /smpboot: Allowing/p; /MPTABLE/p; /^Intel Multi/p'
for device in /sys/bus/pci/devices/*; do
    echo "== pci ${device##*/}"; cat $device/resource $device/irq; head -c 64 $device/config | hexdump -C
done
for table in /sys/firmware/dmi/tables/* /sys/firmware/acpi/tables/*; do
    [ -f $table ] && echo "== table ${table##*/}" && hexdump -vC $table
done
echo "== end"
busybox poweroff -f
"#;

/// The sections, by their names.
fn sections(console: &str) -> BTreeMap<String, Vec<String>> {
    let mut sections: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut at = None;
    for line in console.lines() {
        match line.strip_prefix("== ") {
            Some(name) => at = Some(name.trim().to_owned()),
            None => {
                if let Some(name) = &at {
                    sections
                        .entry(name.clone())
                        .or_default()
                        .push(line.trim().to_owned());
                }
            }
        }
    }
    sections
}

#[test]
#[ignore = "minutes; for the nightly run"]
fn the_machine_looks_as_under_xens_firmware() {
    let mut dom0 = Dom0::boot(RigSpec::default());
    let cache = Cache::open().expect("cache");
    let kernel = cache.kernel(Kernel::STANDARD).expect("kernel");
    let share = dom0.rig.shell.share().to_owned();
    let fs = guest_initramfs(&cache, &kernel, TELL).expect("initial file system");
    fs.write(&share.join("tell")).expect("written");
    let [theirs, ours] = ["", "firmware_override = \"/share/hvmloader\""].map(|firmware| {
        let more = format!("uuid = \"01234567-89ab-cdef-0123-456789abcdef\"\n{firmware}");
        let mut tell = domain("tell", 2, &more);
        tell.ramdisk = Some("/share/tell".into());
        tell.command_line = "console=hvc0 panic=-1 loglevel=0".into();
        let ended = dom0.rig.run_domain(&tell, LIMIT).expect("the rig answers");
        let told = sections(&ended.console);
        assert!(told.contains_key("table APIC"), "{}", ended.console);
        told
    });
    let names: std::collections::BTreeSet<_> = theirs.keys().chain(ours.keys()).collect();
    let mut different = Vec::new();
    for name in names {
        let none = Vec::new();
        let (one, other) = (
            theirs.get(name).unwrap_or(&none),
            ours.get(name).unwrap_or(&none),
        );
        if one != other {
            println!("== {name}: {} lines, {} lines", one.len(), other.len());
            for line in one.iter().filter(|line| !other.contains(line)).take(40) {
                println!("  xen:  {line}");
            }
            for line in other.iter().filter(|line| !one.contains(line)).take(40) {
                println!("  ours: {line}");
            }
            different.push(name.clone());
        }
    }
    assert_eq!(different, Vec::<String>::new());
}

//! HVM domains of real Xen, with Xen's toolstack and this project's firmware.

use std::time::Duration;

use regex::bytes::Regex;
use xenner_rigs::packages::{Cache, Kernel};
use xenner_rigs::rig_x::Domain;
use xenner_rigs::{RigSpec, RigX};

/// Two emulations, one in the other, on a host that may be busy.
const LIMIT: Duration = Duration::from_secs(900);

fn domain(name: &str, more: &str) -> Domain {
    let mut domain = Domain::pv(name, "/share/vmlinuz", "/share/vmlinuz", "");
    domain.vcpus = 2;
    domain.extra =
        format!("type = \"hvm\"\nvnc = 0\nfirmware_override = \"/share/hvmloader\"\n{more}\n");
    domain
}

/// One rig for both: it is the rig that takes the time.
#[test]
fn our_firmware_starts_a_bios_and_refuses_what_is_none() {
    let cache = Cache::open().expect("cache");
    let spec = RigSpec::default().with_device_model();
    let mut rig = RigX::boot(&spec).expect("rig X");
    let kernel = cache.kernel(Kernel::STANDARD).expect("kernel");
    rig.shell.put(&kernel.image, "vmlinuz").expect("put");
    rig.shell
        .write("hvmloader", hvmloader_image::IMAGE, 0o644)
        .expect("put");
    rig.shell.write("small", &[0; 4096], 0o644).expect("put");

    // Xen's log is on the rig's console, and what firmware says is in it.
    let refused = domain("refused", "bios_path_override = \"/share/small\"");
    let ended = rig.run_domain(&refused, LIMIT).expect("the rig answers");
    assert_eq!(ended.reason, Some(3), "{}", ended.xl);
    let mut awaits = |pattern: &str| {
        let pattern = Regex::new(pattern).expect("a pattern");
        let console = rig.shell.console();
        console
            .expect(&pattern, LIMIT)
            .map(drop)
            .expect("in Xen's log");
    };
    awaits("there is no BIOS to start: the file is smaller than 64 KiB");

    let booted = domain("booted", "").to_config();
    rig.shell
        .write("booted.cfg", booted.as_bytes(), 0o644)
        .expect("put");
    let output = rig.run("xl create /share/booted.cfg", LIMIT).expect("run");
    assert_eq!(output.status, 0, "{}", output.text);
    let mut awaits = |pattern: &str| {
        let pattern = Regex::new(pattern).expect("a pattern");
        let console = rig.shell.console();
        console
            .expect(&pattern, LIMIT)
            .map(drop)
            .expect("in Xen's log");
    };
    // The BIOS checks the tables it copies, and finds display and boot ROM by
    // their PCI registers.
    for line in [
        "xen: copy e820",
        "Copying ACPI RSDP from 0xfc",
        "Copying SMBIOS from 0xfc",
        "Copying MPTABLE from 0xfc",
        "Copying PIR from 0xfc",
        "Running option rom at c000:0003",
        "Booting from ROM",
    ] {
        awaits(line);
    }
    rig.run("xl destroy booted", LIMIT).expect("run");
}

//! HVM domains of real Xen: this project's firmware under Xen's toolstack, and its toolstack with both.

mod boot;
mod dom0;
mod model;
mod view;

use dom0::{Dom0, LIMIT, domain, is_sound};
use regex::bytes::Regex;
use xenner_rigs::RigSpec;

/// One rig for both: it is the rig that takes the time.
#[test]
fn our_firmware_starts_linux_for_xl_and_refuses_what_is_no_bios() {
    let mut dom0 = Dom0::boot(RigSpec::default());
    dom0.rig
        .shell
        .write("small", &[0; 4096], 0o644)
        .expect("put");
    let ours = "firmware_override = \"/share/hvmloader\"";

    // Xen's log is on the rig's console, and what firmware says is in it.
    let small = format!("{ours}\nbios_path_override = \"/share/small\"");
    let refused = domain("refused", 1, &small);
    let ended = dom0
        .rig
        .run_domain(&refused, LIMIT)
        .expect("the rig answers");
    assert_eq!(ended.reason, Some(3), "{}", ended.xl);
    let awaits = |dom0: &mut Dom0, pattern: &str| {
        let pattern = Regex::new(pattern).expect("a pattern");
        let console = dom0.rig.shell.console();
        console
            .expect(&pattern, LIMIT)
            .map(drop)
            .expect("in Xen's log");
    };
    let small = "there is no BIOS to start: the file is smaller than 64 KiB";
    awaits(&mut dom0, small);

    let booted = domain("booted", 4, ours);
    let ended = dom0
        .rig
        .run_domain(&booted, LIMIT)
        .expect("the rig answers");
    if !is_sound(&ended.console, 4) {
        // Of a triple fault only Xen says anything.
        let log = dom0.must("xl dmesg | tail -n 60");
        panic!("{}\n{}\n{log}", ended.console, ended.xl);
    }
    assert_eq!(ended.reason, Some(0), "{}", ended.xl);
    // The BIOS checks the tables it copies, and finds the boot ROM by its PCI registers.
    for line in [
        "xen: copy e820",
        "Copying ACPI RSDP from 0xfc",
        "Copying SMBIOS from 0xfc",
        "Copying MPTABLE from 0xfc",
        "Copying PIR from 0xfc",
        "Booting from ROM",
    ] {
        awaits(&mut dom0, line);
    }
}

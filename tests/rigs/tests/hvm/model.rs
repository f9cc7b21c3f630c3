//! HVM domains that `xt` makes: like those of `xl`, and gone when they end.

use regex::Regex;
use xenner_rigs::RigSpec;

use crate::dom0::{Dom0, domain, is_sound};

/// A domain's nodes without what differs between any two domains.
fn nodes(dom0: &mut Dom0, name: &str) -> Vec<String> {
    let domid = dom0.must(&format!("xl domid {name}")).trim().to_owned();
    let text = dom0.must("xenstore-ls -fp");
    let uuid = Regex::new("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}").expect("a pattern");
    // In paths, in permissions, and as values that are it; 1 and 2 are also other things.
    let places = "/domain/|/libxl/|/backend/[a-z]+/|/device-model/|[( ,][nr]|id = \"";
    let number = Regex::new(&format!(r"({places}){domid}\b")).expect("a pattern");
    let idle = [
        "start_time",
        "/local/domain/0/control",
        "device-model-pid",
        "/name =",
        "/tty =",
    ];
    let lines = text
        .lines()
        .filter(|line| !idle.iter().any(|word| line.contains(word)))
        .map(|line| {
            let line = uuid.replace_all(line, "UUID");
            number.replace_all(&line, "${1}DOMID").into_owned()
        });
    let mut lines: Vec<String> = lines.collect();
    lines.sort();
    lines
}

#[test]
#[ignore = "minutes; for the nightly run"]
fn xt_makes_what_xl_makes_and_leaves_nothing() {
    let mut dom0 = Dom0::boot(RigSpec::default());

    // Both paused at the same place, one after the other.
    let theirs = domain("theirs", 2, "");
    dom0.configure(&theirs);
    dom0.must("xl create -q -p /share/theirs.cfg");
    let made_by_xl = nodes(&mut dom0, "theirs");
    dom0.must("xl destroy theirs");
    // With what the first domain leaves under xl: directories, and a history of numbers.
    let before = dom0.left();
    let ours = domain("ours", 2, "");
    dom0.configure(&ours);
    dom0.must("xt create -q -p -e /share/ours.cfg");
    let made_by_xt = nodes(&mut dom0, "ours");
    assert_eq!(made_by_xt, made_by_xl);
    dom0.must("xt destroy ours");
    assert_eq!(dom0.left(), before);

    let console = dom0.run_with_xt(&domain("runs", 4, ""));
    assert!(is_sound(&console, 4), "{console}");
    assert_eq!(dom0.left(), before);

    // What cannot be is said, and nothing is left of it.
    for (more, said) in [
        (
            "firmware_override = \"/share/initrd\"",
            "no firmware that Xen can start: it is no 32-bit ELF file",
        ),
        (
            "bios = \"seabios\"\nbios_path_override = \"/nowhere\"",
            "cannot read \"/nowhere\"",
        ),
        ("kernel = \"/nowhere\"", "cannot read \"/nowhere\""),
        (
            "device_model_override = \"/nowhere\"",
            "there is no program \"/nowhere\"",
        ),
        (
            "device_model_override = \"/bin/false\"",
            "The device model ended at its start",
        ),
        (
            "device_model_args = [ \"-nonsense\" ]",
            "-nonsense: invalid option",
        ),
        (
            "disk = [ \"/nowhere,raw,hda,rw,backendtype=qdisk\" ]",
            "Could not open '/nowhere'",
        ),
        ("boot = \"x\"", "'x' in boot is no device to boot from"),
        ("pci = [ \"01:00.0\" ]", "pci cannot be for an HVM domain"),
        ("vcpus = 129", "128 virtual CPUs at most"),
    ] {
        let wrong = domain("wrong", 1, more);
        dom0.configure(&wrong);
        let output = dom0.run("xt create -q /share/wrong.cfg");
        assert_ne!(output.status, 0, "{more}: {}", output.text);
        assert!(output.text.contains(said), "{more}: {}", output.text);
        assert_eq!(dom0.left(), before, "{more}");
    }

    // Without a user for it a device model that may be confined is not, which is said.
    let ids = "grep -E '^[UG]id:' /proc/$(pidof xen-qemu-system-i386)/status";
    dom0.configure(&domain("rooted", 1, ""));
    let said = dom0.must("xt create -p -e /share/rooted.cfg");
    let warned = "The device model runs as root: there is no user xen-qemuuser-shared";
    assert!(said.contains(warned), "{said}");
    assert!(!dom0.must(ids).contains("1234"));
    dom0.must("xt destroy rooted");
    assert_eq!(dom0.left(), before);

    // One that is confined: another user, an empty root. It is the rule where there is such a user.
    dom0.must("echo xen-qemuuser-shared:x:1234:1234::/:/bin/false >>/etc/passwd");
    for (key, is_confined) in [
        ("dm_restrict = 1", true),
        ("", true),
        ("dm_restrict = 0", false),
    ] {
        dom0.configure(&domain("confined", 1, key));
        let said = dom0.must("xt create -p -e /share/confined.cfg");
        assert!(!said.contains("runs as root"), "{key}: {said}");
        let ids = dom0.must(ids);
        let own = ids
            .split_whitespace()
            .filter(|word| *word == "1234")
            .count();
        assert_eq!(own, if is_confined { 8 } else { 0 }, "{key}: {ids}");
        let root = dom0.must("readlink /proc/$(pidof xen-qemu-system-i386)/root");
        let emptied = root.starts_with("/run/xen/qemu-root-");
        assert_eq!(emptied, is_confined, "{key}: {root}");
        dom0.must("xt destroy confined");
        assert_eq!(dom0.left(), before, "{key}");
    }

    // Another medium, through the monitor.
    let cdrom = "disk = [ \"/share/hvmloader,raw,hdc,cdrom\" ]\nboot = \"dc\"";
    dom0.configure(&domain("cdrom", 1, cdrom));
    dom0.must("xt create -q -p -e /share/cdrom.cfg");
    let params = "xenstore-read /libxl/$(xl domid cdrom)/device/vbd/5632/params";
    dom0.must("xt cd-insert cdrom hdc /share/initrd");
    assert_eq!(dom0.must(params).trim(), "aio:/share/initrd");
    dom0.must("xt cd-eject cdrom hdc");
    assert_eq!(dom0.must(params).trim(), "");
    let refused = dom0.run("xt cd-insert cdrom hdc /nowhere");
    assert!(
        refused.status != 0 && refused.text.contains("/nowhere"),
        "{}",
        refused.text
    );
    dom0.must("xt destroy cdrom");
    assert_eq!(dom0.left(), before);

    // A device model that dies later: the domain has crashed, and goes.
    let long = domain("long", 1, "");
    dom0.configure(&long);
    dom0.must("xt create -q /share/long.cfg");
    dom0.must("kill -9 $(pidof xen-qemu-system-i386)");
    dom0.must("while xl list long 2>/dev/null; do usleep 100000; done");
    dom0.must("while ps | grep '[h]ost xen supervise'; do usleep 100000; done");
    let log = dom0.must("cat /run/xt/supervise.log");
    assert!(log.contains("The device model of domain"), "{log}");
    assert_eq!(dom0.left(), before);
}

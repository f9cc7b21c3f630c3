use super::*;
use crate::document::{parse, parse_with_overrides};
use crate::keys::SPEC_KEYS;

/// A guest with the least that makes one.
const BASE: &str = "name='a'\nkernel='/k'\nmemory=64\n";

fn check(text: &str) -> Result<Checked<DomainSpec>, ConfigErrors> {
    DomainSpec::from_document(&parse(&(BASE.to_owned() + text), "f").unwrap(), SPEC_KEYS)
}

fn spec(text: &str) -> DomainSpec {
    let checked = check(text).unwrap_or_else(|errors| panic!("{text}: {errors}"));
    assert_eq!(checked.warnings, [], "{text}");
    checked.value
}

/// The one error's first line.
fn refused(text: &str) -> String {
    let errors = check(text).expect_err(text).errors;
    assert_eq!(errors.len(), 1, "{text}: {errors:?}");
    errors[0]
        .to_string()
        .lines()
        .next()
        .unwrap_or("")
        .to_owned()
}

#[test]
fn defaults() {
    let spec = spec("");
    assert_eq!(spec.domain_type, DomainType::Pv);
    assert_eq!(
        (
            spec.memory_mib,
            spec.max_memory_mib,
            spec.vcpus,
            spec.max_vcpus
        ),
        (64, 64, 1, 1)
    );
    assert_eq!((spec.cmdline, spec.ramdisk, spec.uuid), (None, None, None));
    assert_eq!(spec.on, EventActions::default());
    assert_eq!(spec.on.soft_reset, Action::SoftReset);
    assert_eq!(
        (spec.max_grant_frames, spec.max_event_channels),
        (None, None)
    );
}

#[test]
fn command_lines_as_xl_joins_them() {
    for (text, expected) in [
        ("root='/dev/xvda'", "root=/dev/xvda"),
        ("extra='ro'", "ro"),
        ("root='/dev/xvda'\nextra='ro'", "root=/dev/xvda ro"),
        ("root=''\nextra=''", "root= "),
        ("root='a'\nextra=''", "root=a "),
        ("cmdline='c d'", "c d"),
        ("cmdline=7", "7"),
    ] {
        assert_eq!(spec(text).cmdline.as_deref(), Some(expected), "{text}");
    }
    let checked = check("root='r'\nextra='e'\ncmdline=''").unwrap();
    assert_eq!(checked.value.cmdline.as_deref(), Some(""));
    let warnings: Vec<String> = checked.warnings.iter().map(|w| w.to_string()).collect();
    assert!(warnings[0].starts_with("f:4:6: Warning: root is ignored in favour of cmdline."));
    assert!(warnings[1].starts_with("f:5:7: Warning: extra is ignored"));
}

#[test]
fn types() {
    assert_eq!(spec("type='pvh'").domain_type, DomainType::Pvh);
    assert_eq!(spec("builder='hvm'").domain_type, DomainType::Hvm);
    assert_eq!(
        spec("builder='generic'\ntype='pv'").domain_type,
        DomainType::Pv
    );
    assert_eq!(refused("type='PV'"), "f:4:7: \"PV\" is no value for type.");
    assert_eq!(refused("type=''"), "f:4:7: \"\" is no value for type.");
    assert_eq!(
        refused("builder='hvm'\ntype='pv'"),
        "f:4:9: builder asks for hvm, but type for pv."
    );
}

#[test]
fn memory_and_cpus() {
    let only = |text: &str| {
        let text = format!("name='a'\nkernel='/k'\n{text}");
        DomainSpec::from_document(&parse(&text, "f").unwrap(), SPEC_KEYS).unwrap()
    };
    let sizes = |text: &str| {
        let spec = only(text).value;
        (spec.memory_mib, spec.max_memory_mib)
    };
    assert_eq!(sizes("memory=128\nmaxmem=256"), (128, 256));
    assert_eq!(sizes("maxmem=256"), (256, 256));
    assert_eq!(sizes("memory='0x40'"), (64, 64));
    let none = only("");
    assert_eq!(none.value.memory_mib, 32);
    assert_eq!(
        none.warnings[0].to_string(),
        "f: Warning: No memory is given; the guest gets 32 MiB.\n  help: Add memory = MIB"
    );
    let cpus = |text: &str| (spec(text).vcpus, spec(text).max_vcpus);
    assert_eq!(cpus("vcpus=3"), (3, 3));
    assert_eq!(cpus("maxvcpus=4"), (1, 4));
    assert_eq!(cpus("vcpus=2\nmaxvcpus=4"), (2, 4));
    assert_eq!(
        refused("vcpus=4\nmaxvcpus=2"),
        "f:5:10: maxvcpus = 2 is less than vcpus = 4."
    );
    assert_eq!(refused("vcpus=0"), "f:4:7: vcpus = 0 is out of range.");
    assert_eq!(
        refused("maxmem=32"),
        "f:4:8: maxmem = 32 is less than memory = 64."
    );
    assert_eq!(
        refused("maxmem='1g'"),
        "f:4:8: maxmem wants a number, not \"1g\"."
    );
    assert_eq!(
        refused("maxmem=[64]"),
        "f:4:8: maxmem wants a number, not a list."
    );
    assert_eq!(
        refused("vcpus=09"),
        "f:4:7: vcpus wants a number, not \"09\"."
    );
}

#[test]
fn events() {
    let on =
        spec("on_crash='coredump-restart'\non_reboot='rename-restart'\non_watchdog='preserve'").on;
    let expected = EventActions {
        crash: Action::CoredumpRestart,
        reboot: Action::RenameRestart,
        watchdog: Action::Preserve,
        ..EventActions::default()
    };
    assert_eq!(on, expected);
    let errors = check("on_crash='preserv'").unwrap_err().to_string();
    assert!(
        errors.contains("help: Did you mean preserve? Known: destroy, restart, "),
        "{errors}"
    );
}

#[test]
fn uuids() {
    let text = "12345678-1234-1234-1234-1234567890AB";
    let uuid = spec(&format!("uuid='{text}'")).uuid.unwrap();
    assert_eq!(uuid.to_string(), text.to_lowercase());
    for wrong in [
        "x",
        "",
        "123456781234123412341234567890AB",
        "12345678-12341234-1234-1234567890AB",
        "{12345678-1234-1234-1234-1234567890AB}",
    ] {
        assert!(
            refused(&format!("uuid='{wrong}'")).ends_with(" is no UUID."),
            "{wrong}"
        );
    }
}

#[test]
fn limits() {
    let spec = spec(
        "max_grant_frames=64\nmax_maptrack_frames=0\nmax_event_channels=0\nmax_grant_version=1",
    );
    assert_eq!(
        (spec.max_grant_frames, spec.max_maptrack_frames),
        (Some(64), Some(0))
    );
    assert_eq!(
        (spec.max_event_channels, spec.max_grant_version),
        (None, Some(1))
    );
    assert!(refused("max_grant_frames=2147483648").ends_with("is out of range."));
    assert!(refused("max_grant_version=3").ends_with("is out of range."));
}

#[test]
fn names_and_kernels() {
    let whole = |text: &str| {
        let errors = DomainSpec::from_document(&parse(text, "f").unwrap(), SPEC_KEYS).unwrap_err();
        errors
            .errors
            .iter()
            .map(|e| e.to_string().lines().next().unwrap_or("").to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        whole("memory=64"),
        ["f: The domain has no name.", "f: No kernel is given."]
    );
    assert_eq!(
        whole("name=''\nkernel=['k']"),
        ["f:1:6: name is empty.", "f:2:8: kernel is a list."]
    );
    assert_eq!(
        whole("name='a/b'\nkernel='k'"),
        ["f:1:6: \"a/b\" cannot be the name of a domain."]
    );
}

#[test]
fn keys_not_acted_on_are_warned_of_and_not_read() {
    let document = parse(&(BASE.to_owned() + "disk='nonsense'\nvnc=1"), "f").unwrap();
    let checked = DomainSpec::from_document(&document, &["name", "kernel", "memory"]).unwrap();
    let warnings: Vec<String> = checked.warnings.iter().map(|w| w.to_string()).collect();
    assert!(
        warnings[0].starts_with("f:4:1: Warning: disk has no effect here"),
        "{warnings:?}"
    );
    assert!(
        warnings[1].starts_with("f:5:1: Warning: vnc has no effect here"),
        "{warnings:?}"
    );
    assert!(checked.value.disks.is_empty());
}

#[test]
fn devices_and_cpuid_with_places() {
    let good = spec(
        "disk=['/a,,xvda','/b,,xvdb']\nvif=['','mac=00:16:3e:00:00:01']\ncpuid='host,tm=0'\nserial='pty'",
    );
    assert_eq!(
        (good.disks.len(), good.vifs.len(), good.cpuid.leaves.len()),
        (2, 2, 1)
    );
    assert_eq!(good.serial, ["pty"]);
    assert_eq!(
        refused("disk=[ '/a,qcow3,xvda' ]"),
        "f:4:12: \"qcow3\" is no format of a disk."
    );
    assert_eq!(
        refused("disk=['/a,,xvda','/b,,51712']"),
        "f:4:19: 51712 is the same device as xvda above."
    );
    assert_eq!(
        refused("disk='/a,,xvda'"),
        "f:4:6: disk is a single value but must be a list."
    );
    assert_eq!(
        refused("disk=[['/a,,xvda']]"),
        "f:4:7: A string is wanted here, not a list."
    );
    assert_eq!(
        refused("vif=['devid=1','']"),
        "f:4:17: There is a vif with devid 1 already."
    );
    assert_eq!(
        refused("cpuid='host,tmm=0'"),
        "f:4:13: There is no CPU feature \"tmm\"."
    );
    assert_eq!(
        refused("cpuid=['1:ecx=xx']"),
        "f:4:15: ecx wants exactly 32 characters 1, 0, x or k."
    );
}

#[test]
fn all_errors_at_once_in_the_order_of_the_text() {
    let errors = check("vcpus='x'\nfoo=1\non_crash='y'\nmaxvcpus=0").unwrap_err();
    let lines: Vec<usize> = errors
        .errors
        .iter()
        .map(|e| e.location.as_ref().unwrap().line)
        .collect();
    assert_eq!(lines, [4, 5, 6, 7]);
}

#[test]
fn a_message_in_full() {
    let expected = "web.cfg:2:15: There is no CPU feature \"ssse4\".
  | cpuid = 'host,ssse4=0'
  |               ^^^^^
  help: Did you mean ssse3?";
    let document = parse(
        "name='a';memory=64;kernel='k'\ncpuid = 'host,ssse4=0'",
        "web.cfg",
    )
    .unwrap();
    let errors = DomainSpec::from_document(&document, SPEC_KEYS).unwrap_err();
    assert_eq!(errors.to_string(), expected);
}

#[test]
fn arguments_override_the_file() {
    let document = parse_with_overrides(BASE, "f", &["memory=512", "vcpus=2;extra='x'"]).unwrap();
    let spec = DomainSpec::from_document(&document, SPEC_KEYS)
        .unwrap()
        .value;
    assert_eq!(
        (spec.memory_mib, spec.vcpus, spec.cmdline.as_deref()),
        (512, 2, Some("x"))
    );
    let document = parse_with_overrides(BASE, "f", &["memory='x'"]).unwrap();
    let errors = DomainSpec::from_document(&document, SPEC_KEYS)
        .unwrap_err()
        .to_string();
    assert!(
        errors.starts_with("command line:1:8: memory wants a number"),
        "{errors}"
    );
}

#[test]
fn json_and_back() {
    let spec = spec(
        "type='pvh'\nuuid='12345678-1234-1234-1234-1234567890ab'\ndisk=['/a,,xvda']\nvif=['mac=0:16:3e:0:0:1']\ncpuid='host,tm=k,rdcl-no=1'",
    );
    let json = serde_json::to_value(&spec).unwrap();
    assert_eq!(json["type"], "pvh");
    assert_eq!(json["on"]["reboot"], "restart");
    assert_eq!(json["on"]["soft_reset"], "soft-reset");
    assert_eq!(json["uuid"], "12345678-1234-1234-1234-1234567890ab");
    assert_eq!(json["disks"][0]["vdev"], "xvda");
    assert_eq!(json["vifs"][0]["mac"], "00:16:3e:00:00:01");
    assert_eq!(serde_json::from_value::<DomainSpec>(json).unwrap(), spec);
}

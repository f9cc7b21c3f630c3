//! Wrong input, and commands without a domain.

use super::rig::Rig;

pub const TESTS: &[(&str, fn())] = &[
    ("wrong_arguments", wrong_arguments),
    ("values_out_of_range", values_out_of_range),
    ("configurations", configurations),
    ("unusable_images", unusable_images),
    ("unusable_consoles", unusable_consoles),
    ("failures_to_build", failures_to_build),
    ("no_such_domain", no_such_domain),
    ("help_and_documents", help_and_documents),
    ("check", check),
    (
        "a_run_directory_others_can_write",
        a_run_directory_others_can_write,
    ),
];

/// One line, saying what and how to mend it; nothing left behind.
#[track_caller]
fn refused(rig: &Rig, code: i32, arguments: &[&str], parts: &[&str]) {
    let (out, err) = rig.expect(code, arguments);
    assert_eq!(out, "", "{arguments:?}");
    assert_eq!(err.lines().count(), 1, "{arguments:?}: {err}");
    assert!(err.starts_with("xenner: "), "{err}");
    for part in parts {
        assert!(err.contains(part), "{arguments:?}: no {part:?} in {err}");
    }
    rig.assert_clean();
}

fn wrong_arguments() {
    let rig = Rig::new();
    for arguments in [
        &["fly"][..],
        &[],
        &["run", "--memory", "lots"],
        &["run", "--console", "tty"],
        &["run", "--on-crash", "soft-reset"],
        &["run", "--vcpus", "-1"],
        &["shutdown"],
        &["shutdown", "--timeout", "5", "web"],
        &["sysrq", "web", "ab"],
    ] {
        let (_, err) = rig.expect(2, arguments);
        assert!(!err.is_empty(), "{arguments:?}");
    }
    let (_, err) = rig.expect(2, &["run", "--on-crash", "restrat"]);
    assert!(err.contains("coredump-restart"), "{err}");
    refused(&rig, 2, &["help", "fly"], &["no command \"fly\""]);
}

fn values_out_of_range() {
    let rig = Rig::new();
    let refused = |option, value, parts: &[&str]| refused(&rig, 3, &["run", option, value], parts);
    refused("--memory", "0", &["memory is 0 KiB", "32 MiB to 512 GiB"]);
    refused("--memory", "31M", &["31 MiB"]);
    refused("--memory", "1000T", &["1024000 GiB"]);
    refused("--maxmem", "64M", &["maxmem only 64 MiB"]);
    refused("--vcpus", "0", &["vcpus is 0", "1 to 32"]);
    refused("--vcpus", "33", &["vcpus is 33"]);
    refused("--vcpus", "4000000000", &["4000000000"]);
    refused("--name", "a/b", &["slash", "--name"]);
    refused("--name", "", &["empty"]);
    refused("--symbols", "/nonexistent", &["/nonexistent", "System.map"]);
}

fn configurations() {
    let rig = Rig::new();
    let config = rig.path("web.cfg");
    let path = config.to_str().unwrap();
    std::fs::write(
        &config,
        "name='web'\nkernel='/etc/hostname'\nextra='a'\nvnc=1\n",
    )
    .unwrap();
    let options = ["--append", "exit=poweroff", "--on-poweroff", "destroy"];
    let (out, err) = rig.expect(0, &[&["run", path, "memory=64"][..], &options].concat());
    assert_eq!(out, "booted: a exit=poweroff\r\n");
    assert!(err.contains("web.cfg:4:1: Warning: vnc"), "{err}");
    std::fs::write(&config, "name='web'\nkernel='/etc/hostname'\nvcpu=1\n").unwrap();
    let (_, err) = rig.expect(3, &["run", path]);
    assert!(
        err.contains("web.cfg:3:1: ") && err.contains("vcpus"),
        "{err}"
    );
    std::fs::write(&config, "name='web'\nkernel='/etc/hostname'\nmemory=16\n").unwrap();
    refused(&rig, 3, &["run", path], &["16 MiB", "32 MiB to 512 GiB"]);
    std::fs::write(&config, b"name='\xff'\n").unwrap();
    refused(&rig, 3, &["run", path], &["UTF-8"]);
    refused(&rig, 3, &["run", "/nonexistent.cfg"], &["/nonexistent.cfg"]);
    refused(&rig, 3, &["run", "/dev/zero"], &["regular file"]);
}

fn unusable_images() {
    let rig = Rig::new();
    let empty = rig.path("empty");
    std::fs::write(&empty, "").unwrap();
    let big = rig.path("big");
    std::fs::File::create(&big)
        .unwrap()
        .set_len(257 << 20)
        .unwrap();
    let (empty, big) = (empty.to_str().unwrap(), big.to_str().unwrap());
    refused(
        &rig,
        4,
        &["run", "--kernel", "/nonexistent/vmlinuz"],
        &["/nonexistent/vmlinuz"],
    );
    refused(
        &rig,
        4,
        &["run", "--kernel", "/dev/zero"],
        &["regular file"],
    );
    refused(&rig, 4, &["run", "--kernel", "/"], &["regular file"]);
    refused(&rig, 4, &["run", "--kernel", empty], &["is empty"]);
    refused(
        &rig,
        4,
        &["run", "--initrd", big],
        &["257 MiB", "raise the memory"],
    );
}

fn unusable_consoles() {
    let rig = Rig::new();
    let file = rig.path("file");
    std::fs::write(&file, "precious").unwrap();
    let socket = format!("socket:{}", file.display());
    refused(
        &rig,
        8,
        &["run", "--console", "file:/nonexistent/log"],
        &["/nonexistent/log", "--console"],
    );
    refused(&rig, 8, &["run", "--console", "file:/"], &["file:/"]);
    refused(&rig, 8, &["run", "--console", &socket], &["no socket"]);
    assert_eq!(std::fs::read(file).unwrap(), b"precious");
}

fn failures_to_build() {
    let rig = Rig::new();
    refused(
        &rig,
        4,
        &["run", "--append", "build=image"],
        &["was told to"],
    );
    refused(
        &rig,
        5,
        &["run", "--append", "build=host"],
        &["was told to"],
    );
    assert!(
        rig.expect(1, &["run", "--append", "fail"])
            .1
            .contains("processor broke")
    );
    let (_, err) = rig.expect(1, &["run", "--append", "build=panic"]);
    assert!(err.contains("bug in xenner"), "{err}");
    rig.assert_clean();
}

fn no_such_domain() {
    let rig = Rig::new();
    let core = rig.path("core");
    let core = core.to_str().unwrap();
    for arguments in [
        &["console", "web"][..],
        &["shutdown", "web"],
        &["reboot", "web"],
        &["destroy", "web"],
        &["pause", "web"],
        &["unpause", "web"],
        &["sysrq", "web", "t"],
        &["stats", "web"],
        &["dump-core", "web", core],
    ] {
        refused(
            &rig,
            7,
            arguments,
            &["No domain named \"web\"", "xenner list"],
        );
    }
    assert!(!std::path::Path::new(core).exists());
    refused(&rig, 7, &["destroy", "../web"], &["No domain"]);
    assert_eq!(rig.expect(0, &["list"]).0.lines().count(), 1);
    assert_eq!(rig.expect(0, &["list", "--json"]).0, "[]\n");
}

fn help_and_documents() {
    let rig = Rig::new();
    let (statuses, _) = rig.expect(0, &["help", "exit-status"]);
    assert!(statuses.contains("10  The guest crashed"), "{statuses}");
    assert!(rig.expect(0, &["--help"]).0.contains(&statuses));
    for command in ["run", "list", "console", "shutdown", "dump-core", "check"] {
        let (help, _) = rig.expect(0, &["help", command]);
        assert!(help.contains("xenner "), "no example for {command}: {help}");
        assert_eq!(
            help.trim_end(),
            rig.expect(0, &[command, "--help"]).0.trim_end()
        );
    }
    assert!(
        rig.expect(0, &["completions", "fish"])
            .0
            .contains("dump-core")
    );
    assert!(rig.expect(0, &["--version"]).0.starts_with("xenner "));
    rig.expect(0, &["man", rig.path("").to_str().unwrap()]);
    assert!(rig.path("xenner-run.1").exists());
    refused(&rig, 1, &["man", "/nonexistent"], &["/nonexistent"]);
}

fn check() {
    let rig = Rig::new();
    let output = rig.output(&["check", "--json"]);
    let verdict: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let usable = verdict["usable"].as_bool().unwrap();
    assert_eq!(output.status.code(), Some(if usable { 0 } else { 5 }));
    let points = verdict["points"].as_array().unwrap();
    assert!(points.iter().any(|point| point["what"] == "kvm"));
    let missing = points.iter().filter(|point| point["level"] == "missing");
    assert_eq!(missing.count() == 0, usable);
}

fn a_run_directory_others_can_write() {
    use std::os::unix::fs::PermissionsExt;
    let rig = Rig::new();
    std::fs::create_dir(rig.run_dir()).unwrap();
    std::fs::set_permissions(rig.run_dir(), PermissionsExt::from_mode(0o777)).unwrap();
    refused(&rig, 1, &["run"], &["mode 777", "--run-dir"]);
}

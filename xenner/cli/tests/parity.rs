//! The test guests under the real program on the real `/dev/kvm`, against what
//! Xen 4.17 answers (`tests/guests/reference`). What may differ stands in
//! `docs/differences.md`. Without a KVM the tests say that they are skipped.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{OnceLock, mpsc};
use std::time::Duration;

/// How long a guest may take; the longest takes some ten seconds alone.
const PATIENCE: Duration = Duration::from_secs(120);
const TARGET: &str = "x86_64-unknown-none";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn reference(guest: &str) -> String {
    let file = format!("tests/guests/reference/{guest}.xen-4.17.txt");
    std::fs::read_to_string(root().join(file)).unwrap()
}

/// Whether there is a KVM; says so when not.
fn kvm() -> bool {
    let opened = std::fs::File::options()
        .read(true)
        .write(true)
        .open("/dev/kvm");
    opened
        .inspect_err(|error| eprintln!("skipped: /dev/kvm cannot be used: {error}"))
        .is_ok()
}

/// The folder of the guests, built once.
fn guests() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("guests");
        let status = Command::new(env!("CARGO"))
            .current_dir(root())
            .args(["build", "--release", "--package", "xenner-guests"])
            .args(["--target", TARGET, "--target-dir"])
            .arg(&folder)
            .env_remove("RUSTFLAGS")
            .env_remove("CARGO_ENCODED_RUSTFLAGS")
            .status()
            .unwrap();
        assert!(
            status.success(),
            "The guests do not build. If the target is missing: rustup target add {TARGET}"
        );
        folder.join(TARGET).join("release")
    })
}

/// Runs a guest as its reference was made, to its end.
fn run(guest: &str, append: &str) -> Output {
    let errors = tempfile::NamedTempFile::new().unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_xenner"))
        .args(["run", "--vcpus", "2", "--memory", "64", "--append", append])
        .arg("--kernel")
        .arg(guests().join(guest))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(errors.reopen().unwrap())
        .spawn()
        .unwrap();
    let mut pipe = child.stdout.take().unwrap();
    let (done, all) = mpsc::channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = pipe.read_to_end(&mut bytes);
        let _ = done.send(bytes);
    });
    let Ok(stdout) = all.recv_timeout(PATIENCE) else {
        let _ = child.kill();
        let _ = child.wait();
        panic!("{guest} {append} does not end");
    };
    Output {
        status: child.wait().unwrap(),
        stdout,
        stderr: std::fs::read(errors.path()).unwrap(),
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).replace('\r', "")
}

/// `ok group.check: value` without `ok` or `FAIL`: the check and its value.
fn check(line: &str) -> Option<(&str, &str)> {
    let line = line
        .strip_prefix("ok ")
        .or_else(|| line.strip_prefix("FAIL "))?;
    line.split_once(": ")
}

/// The checks that differ.
fn differing(guest: &str, seen: &str) -> BTreeSet<String> {
    let want = reference(guest);
    let lines = |text: &str| -> Vec<(String, String)> {
        text.lines()
            .filter_map(check)
            .map(|(check, value)| (check.to_owned(), value.to_owned()))
            .collect()
    };
    let (seen, want) = (lines(seen), lines(&want));
    let names = |lines: &[(String, String)]| -> Vec<String> {
        lines.iter().map(|(check, _)| check.clone()).collect()
    };
    assert_eq!(names(&seen), names(&want), "not all checks of {guest} ran");
    seen.into_iter()
        .zip(want)
        .filter(|(seen, want)| seen != want)
        .map(|((check, _), _)| check)
        .collect()
}

/// The patterns of a section of `docs/differences.md`.
fn named(section: &str) -> Vec<String> {
    let text = std::fs::read_to_string(root().join("docs/differences.md")).unwrap();
    let (_, rest) = text.split_once(&format!("\n## {section}\n")).unwrap();
    let end = rest.find("\n## ").unwrap_or(rest.len());
    rest[..end]
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once('`'))
        .map(|(pattern, _)| pattern.to_owned())
        .collect()
}

/// Whether a check's name is meant; `*` stands for anything.
fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        Some((before, after)) => {
            name.len() >= before.len() + after.len()
                && name.starts_with(before)
                && name.ends_with(after)
        }
        None => pattern == name,
    }
}

/// Whether guest ring 0 is emulated here, as `xenner check` tells.
fn pagetable_based() -> bool {
    let output = Command::new(env!("CARGO_BIN_EXE_xenner"))
        .arg("check")
        .output()
        .unwrap();
    text(&output.stdout).contains("pagetable")
}

#[test]
fn hello_answers_as_on_xen() {
    if !kvm() {
        return;
    }
    let output = run("hello", "");
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(differing("hello", &text(&output.stdout)), BTreeSet::new());
}

#[test]
fn checks_answers_as_on_xen_but_for_what_is_documented() {
    if !kvm() {
        return;
    }
    let output = run("checks", "");
    assert!(output.status.success(), "{}", text(&output.stderr));
    let differing = differing("checks", &text(&output.stdout));
    let mut certain = named("Everywhere");
    certain.extend(named(if pagetable_based() {
        "On a pagetable-based KVM"
    } else {
        "On a KVM with VMX or SVM"
    }));
    let possible = named("By the processor");
    let unnamed: Vec<&String> = differing
        .iter()
        .filter(|name| !certain.iter().chain(&possible).any(|p| matches(p, name)))
        .collect();
    assert!(unnamed.is_empty(), "undocumented: {unnamed:#?}");
    let gone: Vec<&String> = certain
        .iter()
        .filter(|pattern| !differing.iter().any(|name| matches(pattern, name)))
        .collect();
    assert!(gone.is_empty(), "documented and gone: {gone:#?}");
}

#[test]
fn hostile_guests_end_themselves_only() {
    const GUEST_CRASHED: i32 = 10;
    if !kvm() {
        return;
    }
    for line in reference("hostile").lines() {
        let (mode, on_xen) = line.split_once(": ").unwrap();
        let output = run("hostile", &format!("mode={mode}"));
        let errors = text(&output.stderr);
        let ended = output.status.code();
        assert!(
            matches!(ended, Some(0 | GUEST_CRASHED)),
            "{mode} ended xenner with {}: {errors}",
            output.status
        );
        assert!(!errors.contains("panicked"), "{mode}: {errors}");
        // What Xen ends as a crash must not pass for a success.
        assert!(
            on_xen != "crash" || ended == Some(GUEST_CRASHED),
            "{mode} ended well"
        );
    }
}

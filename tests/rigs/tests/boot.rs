//! Debian's kernels as guests of xenner, on every KVM there is: each runs all
//! checks and ends as told.

mod common;

use std::process::{Command, Stdio};

use common::{Case, End, LIMIT, assert_sound, cases};
use xenner_rigs::guest::{self, Verdict};
use xenner_rigs::packages::Cache;
use xenner_rigs::rig_l::{self, Kvm};
use xenner_rigs::xenner::{self, Guest};
use xenner_rigs::{Error, Output, RigK, RigSpec};

const LARGEST_MIB: u32 = 4096;

/// What `xenner run` exits with (`xenner help exit-status`).
fn status(end: End) -> i32 {
    match end {
        End::Poweroff | End::Reboot => 0,
        End::Crash => 10,
    }
}

fn guest_of(case: &Case, kernel: &str, initrd: &str) -> Guest {
    Guest {
        kernel: kernel.into(),
        initrd: initrd.into(),
        append: case.append(),
        memory_mib: case.memory_mib,
        vcpus: case.vcpus,
    }
}

/// What does not always hold on the emulated processor: it misses a watchpoint
/// now and then, with a plain Linux as the guest, too (docs/differences.md). It
/// does not miss every one.
const EMULATED_LIMITS: &[&str] = &["watchpoint"];

/// What makes it miss them (docs/differences.md) can end it, too: it frees a watchpoint that it has
/// freed already, and all of the rig is gone.
fn lost_at_watchpoint(ran: &Result<Output, Error>) -> bool {
    let Err(Error::Ended { tail, .. }) = ran else {
        return false;
    };
    // Those that fail are "not ok".
    let mut checks = tail.lines().filter(|line| line.contains("ok "));
    checks
        .next_back()
        .is_some_and(|last| last.contains("breakpoint_and_registers"))
}

#[test]
fn kernels_boot_in_rig_k() {
    let cache = Cache::open().expect("cache");
    let cases = cases(LARGEST_MIB);
    let largest = cases.iter().map(|case| case.memory_mib).max().unwrap_or(0);
    let mut spec = RigSpec::default().program(xenner::build().expect("xenner"), "/usr/bin/xenner");
    spec.memory_mib = largest + 2048;
    let mut rig = RigK::boot(&spec).expect("rig K");
    let (mut wrong, mut always_missed) = (Vec::new(), true);
    for case in cases {
        case.provide(&rig.shell, &cache);
        // Off the shared directory: xenner's sandbox allows files by inode, and
        // 9p makes up a new one at each look.
        let command = guest_of(&case, "/tmp/vmlinuz", "/tmp/initrd").command("xenner");
        let limited = format!(
            "cp /share/vmlinuz /share/initrd /tmp; timeout {} {command}",
            LIMIT.as_secs()
        );
        let mut ran = rig.run(&limited, LIMIT * 2);
        if lost_at_watchpoint(&ran) && case.vcpus > 1 {
            println!("again, in another rig: QEMU ended at the watchpoint of {case:?}");
            rig = RigK::boot(&spec).expect("rig K");
            case.provide(&rig.shell, &cache);
            ran = rig.run(&limited, LIMIT * 2);
        }
        let output = ran.expect("the rig answers");
        always_missed &= Verdict::read(&output.text)
            .is_none_or(|verdict| verdict.failed_beyond(&[]).join("\n").contains("watchpoint"));
        wrong.extend(case.judge(
            &output.text,
            Some(output.status),
            status(case.end),
            EMULATED_LIMITS,
        ));
    }
    assert_sound(&wrong);
    assert!(!always_missed, "every guest missed its watchpoint");
}

/// What does not hold on a KVM without hardware virtualisation: its ring 3 has
/// no LDT segments and no debug registers.
const PAGETABLE_LIMITS: &[&str] = &["local_descriptors", "watchpoint"];

#[test]
fn kernels_boot_on_this_machine() {
    let kvm = match rig_l::detect() {
        Ok(kvm) => kvm,
        Err(skipped) => {
            println!("{skipped}");
            return;
        }
    };
    println!("this machine's KVM: {kvm:?}");
    let limits = if kvm == Kvm::Pagetable {
        PAGETABLE_LIMITS
    } else {
        &[]
    };
    let cache = Cache::open().expect("cache");
    let program = xenner::build().expect("xenner");
    let dir = tempfile::tempdir().expect("temporary directory");
    let initrd = dir.path().join("initrd");
    guest::initramfs()
        .and_then(|fs| fs.write(&initrd))
        .expect("initial file system");
    let mut wrong = Vec::new();
    for case in cases(LARGEST_MIB) {
        let files = cache.kernel(case.kernel).expect("kernel");
        let guest = guest_of(
            &case,
            &files.image.to_string_lossy(),
            &initrd.to_string_lossy(),
        );
        let output = Command::new("timeout")
            .arg(LIMIT.as_secs().to_string())
            .arg(&program)
            .args(guest.arguments())
            .stdin(Stdio::null())
            .output()
            .expect("xenner starts");
        let mut console = String::from_utf8_lossy(&output.stdout).into_owned();
        console += &String::from_utf8_lossy(&output.stderr);
        wrong.extend(case.judge(&console, output.status.code(), status(case.end), limits));
    }
    assert_sound(&wrong);
}

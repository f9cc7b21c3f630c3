//! The checks hold where they must: on Linux without a hypervisor between, and
//! in PV domains of real Xen. What fails elsewhere is then that place's fault.

mod common;

use common::{Case, End, LIMIT, assert_sound, cases};
use xenner_rigs::guest::{self, Verdict};
use xenner_rigs::packages::Cache;
use xenner_rigs::rig_x::Ended;
use xenner_rigs::{Domain, RigK, RigSpec, RigX};

#[test]
fn checks_hold_on_a_bare_machine() {
    let spec = RigSpec::default().program(guest::workload(), "/workload");
    let mut rig = RigK::boot(&spec).expect("rig K");
    let output = rig.run("/workload checks", LIMIT).expect("run");
    let verdict = Verdict::read(&output.text);
    assert!(
        verdict.is_some_and(|v| v.failed.is_empty()),
        "{}",
        output.text
    );
    assert_eq!(output.status, 0);
}

/// The reason code of `SCHEDOP_shutdown` (`sched.h`).
fn reason(end: End) -> i32 {
    match end {
        End::Poweroff => 0,
        End::Reboot => 1,
        End::Crash => 3,
    }
}

#[test]
fn checks_hold_on_xen() {
    let cache = Cache::open().expect("cache");
    let spec = RigSpec {
        memory_mib: 6144,
        ..RigSpec::default()
    };
    let mut rig = RigX::boot(&spec).expect("rig X");
    let mut wrong = Vec::new();
    for case in cases(4096) {
        case.provide(&rig.shell, &cache);
        let mut ended = run(&mut rig, &case);
        if case.vcpus > 1 && ended.console.contains(PATCHED_TEXT) {
            println!("again, the rig's own fault: {PATCHED_TEXT} in {case:?}");
            ended = run(&mut rig, &case);
        }
        let how = ended.reason.and_then(|r| i32::try_from(r).ok());
        let told = format!("{}\n{}", ended.console, ended.xl);
        wrong.extend(case.judge(&told, how, reason(case.end), &[]));
    }
    assert_sound(&wrong);
}

/// How a guest with several vCPUs dies now and then in this rig, with nothing of ours in it: Linux
/// patches its text behind an INT3, and a vCPU meets that INT3 after Linux is done with it. Seen
/// with Linux 6.12 on a loaded host, on real Xen under QEMU only.
const PATCHED_TEXT: &str = "Oops: int3";

fn run(rig: &mut RigX, case: &Case) -> Ended {
    let mut domain = Domain::pv("guest", "/share/vmlinuz", "/share/initrd", &case.append());
    domain.vcpus = case.vcpus;
    domain.memory_mib = case.memory_mib;
    rig.run_domain(&domain, LIMIT).expect("the rig answers")
}

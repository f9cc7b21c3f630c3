//! The checks hold where they must: on Linux without a hypervisor between, and
//! in PV domains of real Xen. What fails elsewhere is then that place's fault.

use std::time::Duration;

use xenner_rigs::guest::{self, Verdict};
use xenner_rigs::packages::{Cache, Kernel};
use xenner_rigs::{Domain, RigK, RigSpec, RigX, Shell};

const LONG: Duration = Duration::from_secs(300);

fn assert_all_passed(place: &str, console: &str) {
    let verdict = Verdict::read(console);
    let failed = verdict.as_ref().map(|v| &v.failed);
    assert!(
        failed.is_some_and(Vec::is_empty),
        "{place}: {failed:?}\n{console}"
    );
}

#[test]
fn checks_hold_on_a_bare_machine() {
    let spec = RigSpec::default().program(guest::workload(), "/workload");
    let mut rig = RigK::boot(&spec).expect("rig K");
    let output = rig.run("/workload checks", LONG).expect("run");
    assert_all_passed("bare machine", &output.text);
    assert_eq!(output.status, 0);
}

/// Puts a kernel and the guest's initial file system into a rig.
fn provide(shell: &Shell, cache: &Cache, kernel: Kernel) {
    let files = cache.kernel(kernel).expect("kernel");
    shell
        .put(&files.image, &format!("vmlinuz-{kernel}"))
        .expect("put");
    guest::initramfs()
        .and_then(|fs| fs.write(&shell.share().join("initrd")))
        .expect("initial file system");
}

#[test]
fn checks_hold_on_xen() {
    let cache = Cache::open().expect("cache");
    let mut rig = RigX::boot(&RigSpec::default()).expect("rig X");
    for (kernel, vcpus, end, reason) in [
        (Kernel::CLOUD, 1, "poweroff", 0),
        (Kernel::CLOUD, 4, "reboot", 1),
        (Kernel::new("6.12", true), 2, "crash", 3),
    ] {
        provide(&rig.shell, &cache, kernel);
        let mut domain = Domain::pv(
            "guest",
            &format!("/share/vmlinuz-{kernel}"),
            "/share/initrd",
            &format!("console=hvc0 quiet panic=-1 xenner.test=checks,{end}"),
        );
        domain.vcpus = vcpus;
        let ended = rig.run_domain(&domain, LONG).expect("run");
        assert_all_passed(&format!("{kernel}, {vcpus} vCPUs on Xen"), &ended.console);
        assert_eq!(ended.reason, Some(reason), "{end}: {}", ended.xl);
    }
}

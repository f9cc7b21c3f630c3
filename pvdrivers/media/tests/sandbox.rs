//! Disks under a seccomp filter that ends the process at the first other system call, and on hosts
//! without io_uring.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use common::{Model, Random, folder, have_qemu_img, open, qemu_img};
use pv_media::{Blocking, Disk, Format, MediumSpec, syscalls};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

/// Lets only these system calls through, in all threads; others have `otherwise`.
fn only(lists: &[&[i64]], otherwise: SeccompAction) {
    let rules: BTreeMap<_, _> = lists
        .concat()
        .into_iter()
        .map(|call| (call, vec![]))
        .collect();
    let arch = std::env::consts::ARCH.try_into().unwrap();
    let filter = SeccompFilter::new(rules, otherwise, SeccompAction::Allow, arch).unwrap();
    seccompiler::apply_filter_all_threads(&BpfProgram::try_from(filter).unwrap()).unwrap();
}

/// How the test's process ends; a second filter; what is refused with an error.
const TEST: &[i64] = &[
    libc::SYS_exit_group,
    libc::SYS_prctl,
    libc::SYS_seccomp,
    libc::SYS_openat,
];

/// A queue's own threads may still be starting when the second filter comes.
const STARTING: &[i64] = &[
    libc::SYS_rseq,
    libc::SYS_set_robust_list,
    libc::SYS_rt_sigprocmask,
    libc::SYS_sigaltstack,
    libc::SYS_sched_getaffinity,
    libc::SYS_gettid,
    libc::SYS_mmap,
    libc::SYS_mprotect,
    libc::SYS_munmap,
    libc::SYS_madvise,
];

/// These have an error, the others go through.
fn refuse(call: i64) {
    let forbidden = BTreeMap::from([(call, vec![])]);
    let arch = std::env::consts::ARCH.try_into().unwrap();
    let deny = SeccompAction::Errno(libc::EPERM as u32);
    let filter = SeccompFilter::new(forbidden, SeccompAction::Allow, deny, arch).unwrap();
    seccompiler::apply_filter_all_threads(&BpfProgram::try_from(filter).unwrap()).unwrap();
}

fn in_child(name: &str, folder: &std::path::Path) {
    let status = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            name,
            "--ignored",
            "--nocapture",
            "--test-threads=1",
        ])
        .env("PV_MEDIA_CHILD", "1")
        .env("PV_MEDIA_FOLDER", folder)
        .status()
        .unwrap();
    assert!(status.success(), "{status}");
}

fn disks() -> Vec<(Disk, Vec<u8>)> {
    let folder = PathBuf::from(std::env::var("PV_MEDIA_FOLDER").unwrap());
    let bytes = fs::read(folder.join("base")).unwrap();
    let disk = |format, name| open(&MediumSpec::new(format, folder.join(name)).direct_io());
    vec![
        (disk(Format::Raw, "raw"), bytes.clone()),
        (disk(Format::Qcow2, "packed"), bytes.clone()),
        (disk(Format::Qcow2, "top"), bytes),
    ]
}

fn prepare(folder: &std::path::Path) {
    let mut bytes = Random(1).bytes(4 << 20);
    bytes[1 << 20..3 << 20].fill(1);
    fs::write(folder.join("base"), &bytes).unwrap();
    fs::write(folder.join("raw"), &bytes).unwrap();
    qemu_img(folder, &["create", "-qfqcow2", "-bbase", "-Fraw", "top"]);
    qemu_img(
        folder,
        &["convert", "-c", "-fraw", "-Oqcow2", "base", "packed"],
    );
}

#[test]
fn the_system_calls_that_are_told_suffice() {
    if !have_qemu_img() {
        return;
    }
    let folder = folder();
    prepare(folder.path());
    in_child("filtered_child", folder.path());
}

#[test]
#[ignore = "runs in a process of its own, under a filter"]
fn filtered_child() {
    if !common::is_child() {
        return;
    }
    let disks = disks();
    refuse(libc::SYS_openat);
    only(
        &[syscalls::QUEUE, syscalls::SERVE, TEST],
        SeccompAction::KillProcess,
    );
    let mut models: Vec<_> = disks
        .iter()
        .flat_map(|(disk, bytes)| {
            let queues = [disk.queue(8), disk.queue_without_uring(8)];
            queues.map(|queue| (Blocking::on(queue.unwrap()), bytes.clone()))
        })
        .collect();
    only(
        &[syscalls::SERVE, STARTING, TEST],
        SeccompAction::KillProcess,
    );
    for (i, (io, bytes)) in models.drain(..).enumerate() {
        let mut model = Model::on(io, bytes, i as u64);
        match i % 2 {
            0 => model.steps(60, 200_000),
            // What the queue before it has written is not in this model.
            _ => (0..16).for_each(|i| {
                model.io.write(i << 18, &[i as u8; 8192]).unwrap();
                assert_eq!(model.io.read(i << 18, 8192).unwrap(), [i as u8; 8192]);
            }),
        }
        model.io.flush().unwrap();
    }
    // The files are closed under the filter too.
    drop(disks);
    std::process::exit(0);
}

#[test]
fn a_host_without_io_uring() {
    if !have_qemu_img() {
        return;
    }
    let folder = folder();
    prepare(folder.path());
    in_child("without_io_uring_child", folder.path());
}

#[test]
#[ignore = "runs in a process of its own, without io_uring"]
fn without_io_uring_child() {
    if !common::is_child() {
        return;
    }
    refuse(libc::SYS_io_uring_setup);
    for (i, (disk, bytes)) in disks().into_iter().enumerate() {
        let mut model = Model::new(&disk, bytes, i as u64);
        model.steps(60, 200_000);
        model.check_all();
    }
}

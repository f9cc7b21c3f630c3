//! Disks that fail and disappear under pv-media: in rig K, whose kernel has a fake SCSI disk and
//! bad sectors (`scsi_debug`, `dm-error`).

use std::fs;
use std::io;
use std::time::Duration;

use nix::libc;
use pv_media::{Blocking, Disk, Format, MediumSpec, Paths};
use xenner_rigs::packages;
use xenner_rigs::{RigK, RigSpec};

const MIB: u64 = 1 << 20;

/// Set for what runs there.
const DEVICE: &str = "RIG_DEVICE";

/// By io_uring and by threads.
fn both_ways(disk: &Disk) -> [Blocking; 2] {
    let threads = disk.queue_without_uring(4).expect("a queue");
    [Blocking::new(disk).expect("a queue"), Blocking::on(threads)]
}

fn errno<T: std::fmt::Debug>(result: io::Result<T>) -> i32 {
    let error = result.expect_err("a failure");
    error.raw_os_error().expect("the host's error")
}

/// What rig K's test does there.
const SCRIPT: &str = "\
set -e
disk() { basename /sys/bus/pseudo/drivers/scsi_debug/adapter0/host*/target*/*:0/block/*; }
rmmod scsi_debug
insmod /modules/scsi_debug.ko sector_size=4096 dev_size_mb=8 lbpu=1 lbprz=1
test() { echo \"== $1\"; RIG_DEVICE=$2 /test --exact $1 --ignored --nocapture; }
until [ -b /dev/$(disk) ]; do sleep 0.1; done
echo '0 2048 linear /dev/ram0 0
2048 2048 error
4096 4096 linear /dev/ram0 4096' | dmsetup create bad
test sectors_that_cannot_be_read /dev/dm-0
test a_disk_of_4096_byte_sectors_that_dies /dev/$(disk)
";

#[test]
fn disks_that_fail_and_disappear() {
    packages::install(&["dmsetup"]).expect("dmsetup");
    let spec = RigSpec::default()
        .program(std::env::current_exe().expect("this program"), "/test")
        .program("/usr/sbin/dmsetup", "/sbin/dmsetup")
        .module("brd")
        .module("dm_mod")
        .module("scsi_debug")
        .module("sd_mod");
    let mut rig = RigK::boot(&spec).expect("rig K");
    let output = rig.run(SCRIPT, Duration::from_secs(600));
    let output = output.expect("the rig answers");
    println!("{}", output.text);
    assert_eq!(output.status, 0, "{}", output.text);
    assert_eq!(output.text.matches("1 passed").count(), 2);
}

fn device_of_the_rig() -> Option<MediumSpec> {
    match std::env::var(DEVICE) {
        Ok(device) => Some(MediumSpec::new(Format::Raw, device)),
        Err(_) => {
            println!("skipped: another test runs this in rig K");
            None
        }
    }
}

#[test]
#[ignore = "runs in rig K, on a device whose second MiB is bad"]
fn sectors_that_cannot_be_read() {
    let Some(spec) = device_of_the_rig() else {
        return;
    };
    for direct_io in [false, true] {
        let spec = MediumSpec {
            direct_io,
            ..spec.clone()
        };
        let disk = Disk::open(&spec, &Paths).expect("the disk");
        assert_eq!(disk.info().sectors, 8192);
        both_ways(&disk).into_iter().for_each(bad_sectors);
    }
}

fn bad_sectors(mut io: Blocking) {
    io.write(0, &[1; 4096]).expect("it works");
    assert_eq!(errno(io.read(MIB, 4096)), libc::EIO);
    // One that only ends in it.
    assert_eq!(errno(io.read(MIB - 8192, 16384)), libc::EIO);
    let refused = io.write(MIB + 65536, &[2; 65536]).and_then(|()| io.flush());
    assert_eq!(errno(refused), libc::EIO);
    // The rest of it serves as ever.
    assert_eq!(io.read(0, 4096).expect("it works"), [1; 4096]);
    io.write(3 * MIB, &[3; 4096]).expect("it works");
    assert_eq!(io.read(3 * MIB, 4096).expect("it works"), [3; 4096]);
}

#[test]
#[ignore = "runs in rig K, on a disk that it takes away"]
fn a_disk_of_4096_byte_sectors_that_dies() {
    let Some(spec) = device_of_the_rig() else {
        return;
    };
    let disk = Disk::open(&spec.clone().direct_io(), &Paths).expect("the disk");
    let info = disk.info();
    assert_eq!((info.sectors, info.sector_size), (16384, 4096));
    let discard = info.discard.expect("discard");
    assert!(!discard.secure);
    let mut ways = both_ways(&disk);
    for io in &mut ways {
        io.write(0, &[1; 8192]).expect("it works");
        io.discard(4096, 4096).expect("it works");
        assert_eq!(
            io.read(0, 8192).expect("it works"),
            [[1; 4096], [0; 4096]].concat()
        );
        assert_eq!(errno(io.discard_secure(0, 4096)), libc::EOPNOTSUPP);
    }
    let name = spec
        .target
        .file_name()
        .and_then(|name| name.to_str())
        .expect("a name");
    fs::write(format!("/sys/block/{name}/device/delete"), "1").expect("it works");
    for io in &mut ways {
        for _ in 0..2 {
            let refused = [
                errno(io.read(0, 4096)),
                errno(io.write(0, &[1; 4096])),
                errno(io.discard(0, 4096)),
            ];
            // Linux takes its size away first: a read ends at once, a write is beyond the end, a
            // discard out of range.
            assert_eq!(refused, [libc::EIO, libc::ENOSPC, libc::EINVAL]);
        }
    }
    // It has no size any more, or the one it had; asking does no harm.
    let _ = disk.refresh();
    assert!(Disk::open(&spec, &Paths).is_err());
}

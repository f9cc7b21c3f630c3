//! Real block devices: loop devices. Disks that fail and disappear are in the rigs' tests.

mod common;

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::Command;

use common::{Model, folder, open};
use pv_media::{Blocking, Disk, Format, MediumSpec, Paths};

const MIB: u64 = 1 << 20;

/// A loop device over a file of its own; both go with it.
struct Loop {
    folder: tempfile::TempDir,
    device: PathBuf,
}

impl Loop {
    /// `None`, with a word why, where there can be none.
    fn new(size: u64, options: &[&str]) -> Option<Self> {
        let folder = folder();
        let file = folder.path().join("disk");
        File::create(&file).unwrap().set_len(size).unwrap();
        let output = Command::new("losetup")
            .args(["--find", "--show"])
            .args(options)
            .arg(&file)
            .output();
        let output = match output {
            Ok(output) if output.status.success() => output,
            Ok(output) => {
                let why = String::from_utf8_lossy(&output.stderr).into_owned();
                eprintln!("skipped: no loop device can be made here: {}", why.trim());
                return None;
            }
            Err(error) => {
                eprintln!("skipped: losetup (package mount): {error}");
                return None;
            }
        };
        let device = String::from_utf8(output.stdout).unwrap().trim().into();
        Some(Self { folder, device })
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("disk")
    }

    fn spec(&self) -> MediumSpec {
        MediumSpec::new(Format::Raw, &self.device)
    }

    fn losetup(&self, option: &str) {
        let status = Command::new("losetup")
            .arg(option)
            .arg(&self.device)
            .status();
        assert!(status.unwrap().success(), "losetup {option}");
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        self.losetup("--detach");
    }
}

/// Every way a queue can go about it.
fn every_way(spec: &MediumSpec, test: impl Fn(&Disk, Blocking)) {
    for direct_io in [false, true] {
        let spec = MediumSpec {
            direct_io,
            ..spec.clone()
        };
        let disk = open(&spec);
        test(&disk, Blocking::new(&disk).unwrap());
        test(&disk, Blocking::on(disk.queue_without_uring(4).unwrap()));
    }
}

fn errno<T: std::fmt::Debug>(result: io::Result<T>) -> i32 {
    result.unwrap_err().raw_os_error().unwrap()
}

#[test]
fn sectors_of_4096_bytes() {
    let Some(device) = Loop::new(4 * MIB, &["--sector-size", "4096"]) else {
        return;
    };
    every_way(&device.spec(), |disk, mut io| {
        let info = disk.info();
        assert_eq!((info.sectors, info.sector_size), (8192, 4096));
        assert!(info.physical_sector_size >= 4096);
        for (at, len) in [(0, 4096), (4096, 65536), (4 * MIB - 4096, 4096)] {
            let bytes = vec![at as u8 ^ 0x5a; len];
            io.write(at, &bytes).unwrap();
            assert_eq!(io.read(at, len).unwrap(), bytes);
        }
        io.flush().unwrap();
    });
    let smaller = MediumSpec {
        sector_size: Some(512),
        ..device.spec()
    };
    let error = Disk::open(&smaller, &Paths).unwrap_err().to_string();
    assert!(error.contains("has sectors of 4096 bytes"), "{error}");
}

#[test]
fn random_work_on_a_device_is_kept() {
    let Some(device) = Loop::new(8 * MIB, &[]) else {
        return;
    };
    for direct_io in [false, true] {
        let spec = MediumSpec {
            direct_io,
            ..device.spec()
        };
        let disk = open(&spec);
        let bytes = fs::read(device.file()).unwrap();
        let mut model = Model::new(&disk, bytes, 11);
        model.steps(200, 300_000);
        model.io.flush().unwrap();
        model.check_all();
        assert!(fs::read(device.file()).unwrap() == model.bytes);
    }
}

#[test]
fn a_read_only_device_is_refused_for_writing() {
    let Some(device) = Loop::new(MIB, &["--read-only"]) else {
        return;
    };
    let error = Disk::open(&device.spec(), &Paths).unwrap_err();
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(inner) = cause {
        text += &format!(": {inner}");
        cause = inner.source();
    }
    assert!(text.contains(device.device.to_str().unwrap()), "{text}");
    every_way(&device.spec().readonly(), |disk, mut io| {
        assert!(disk.info().readonly && disk.info().discard.is_none());
        assert_eq!(io.read(0, 4096).unwrap(), [0; 4096]);
        assert_eq!(errno(io.write(0, &[1; 4096])), libc::EROFS);
        assert_eq!(errno(io.discard(0, 4096)), libc::EOPNOTSUPP);
    });
}

#[test]
fn discard_is_offered_by_a_device_that_does_it() {
    let Some(device) = Loop::new(4 * MIB, &[]) else {
        return;
    };
    every_way(&device.spec(), |disk, mut io| {
        // No loop device can make anything unreadable, so nobody is promised that it can.
        assert!(!disk.info().discard.expect("discard").secure);
        assert_eq!(errno(io.discard_secure(0, MIB)), libc::EOPNOTSUPP);
        io.write(0, &vec![7; 4 * MIB as usize]).unwrap();
        io.flush().unwrap();
        let full = fs::metadata(device.file()).unwrap().blocks();
        io.discard(MIB, 2 * MIB).unwrap();
        io.flush().unwrap();
        let left = fs::metadata(device.file()).unwrap().blocks();
        assert!(left + 4000 <= full, "{left} blocks of {full}");
        let edge = io.read(MIB - 512, 1024).unwrap();
        assert_eq!(edge, [[7; 512], [0; 512]].concat());
    });
}

#[test]
fn a_device_that_shrinks_and_grows() {
    let Some(device) = Loop::new(4 * MIB, &[]) else {
        return;
    };
    let size = |size: u64| {
        let file = File::options().write(true).open(device.file());
        file.unwrap().set_len(size).unwrap();
        device.losetup("--set-capacity");
    };
    every_way(&device.spec(), |disk, mut io| {
        io.write(3 * MIB, &[9; 4096]).unwrap();
        size(2 * MIB);
        assert_eq!(errno(io.read(3 * MIB, 4096)), libc::EIO);
        let refused = errno(io.write(3 * MIB, &[1; 4096]));
        assert!([libc::EIO, libc::ENOSPC].contains(&refused), "{refused}");
        assert_eq!(io.read(MIB, 4096).unwrap(), [0; 4096]);
        assert_eq!(disk.refresh().unwrap().sectors, 4096);
        size(4 * MIB);
        assert_eq!(disk.refresh().unwrap().sectors, 8192);
        // What was written before may still be in the host's cache.
        io.read(3 * MIB, 4096).unwrap();
    });
}

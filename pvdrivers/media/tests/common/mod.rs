//! What the tests share.
#![allow(dead_code)]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use pv_media::{Blocking, Disk, MediumSpec, Paths};

/// A folder in the build's directory, which unlike `/tmp` is on a disk.
pub fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

pub fn open(spec: &MediumSpec) -> Disk {
    Disk::open(spec, &Paths).unwrap_or_else(|error| panic!("{error}: {error:?}"))
}

/// Numbers that are the same every time.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    pub fn bytes(&mut self, n: usize) -> Vec<u8> {
        (0..n.div_ceil(8))
            .flat_map(|_| self.next().to_ne_bytes())
            .take(n)
            .collect()
    }
}

/// Whether the reference implementation is installed; says so when it is not.
pub fn have_qemu_img() -> bool {
    let there = Command::new("qemu-img")
        .arg("--version")
        .stdout(Stdio::null())
        .status()
        .is_ok();
    if !there {
        eprintln!("skipped: qemu-img is not installed (package qemu-utils)");
    }
    there
}

/// Runs qemu-img and expects it to succeed.
pub fn qemu_img(folder: &Path, args: &[&str]) -> String {
    let out = Command::new("qemu-img")
        .args(args)
        .current_dir(folder)
        .output()
        .unwrap();
    let text =
        String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "qemu-img {args:?}: {text}");
    text
}

/// The image's content as the reference implementation sees it.
pub fn content(image: &Path, format: &str) -> Vec<u8> {
    let raw = image.with_extension("content");
    let (from, to) = (image.to_str().unwrap(), raw.to_str().unwrap());
    qemu_img(
        Path::new("/"),
        &["convert", "-f", format, "-O", "raw", from, to],
    );
    let bytes = std::fs::read(&raw).unwrap();
    std::fs::remove_file(raw).unwrap();
    bytes
}

/// A disk and what must be on it.
pub struct Model {
    pub io: Blocking,
    pub bytes: Vec<u8>,
    random: Random,
}

impl Model {
    pub fn new(disk: &Disk, bytes: Vec<u8>, seed: u64) -> Self {
        Self::on(Blocking::new(disk).unwrap(), bytes, seed)
    }

    pub fn on(io: Blocking, bytes: Vec<u8>, seed: u64) -> Self {
        let random = Random(seed);
        Self { io, bytes, random }
    }

    /// Writes, reads, discards and flushes at random.
    pub fn steps(&mut self, n: usize, longest: u64) {
        for _ in 0..n {
            let sectors = self.bytes.len() as u64 / 512;
            let at = self.random.below(sectors);
            let len = (1 + self.random.below(longest / 512)).min(sectors - at);
            let (at, len) = (at * 512, len * 512);
            let range = at as usize..(at + len) as usize;
            match self.random.below(10) {
                0..=4 => {
                    let data = self.random.bytes(len as usize);
                    self.io.write(at, &data).unwrap();
                    self.bytes[range].copy_from_slice(&data);
                }
                5..=7 => assert!(
                    self.io.read(at, len as usize).unwrap() == self.bytes[range],
                    "at {at}, {len} bytes"
                ),
                8 => self.io.flush().unwrap(),
                _ => {
                    // Anything may be there afterwards, but it must not change by itself.
                    match self.io.discard(at, len) {
                        Ok(()) => self.bytes[range]
                            .copy_from_slice(&self.io.read(at, len as usize).unwrap()),
                        Err(error) => assert_eq!(error.raw_os_error(), Some(libc::EOPNOTSUPP)),
                    }
                }
            }
        }
    }

    pub fn check_all(&mut self) {
        for (i, want) in self.bytes.chunks(1 << 20).enumerate() {
            let have = self.io.read((i as u64) << 20, want.len()).unwrap();
            if let Some(at) = have
                .chunks(512)
                .zip(want.chunks(512))
                .position(|(a, b)| a != b)
            {
                panic!("sector {} differs", (i << 11) + at);
            }
        }
    }
}

/// Whether this process was started by the test whose child it is.
pub fn is_child() -> bool {
    let child = std::env::var_os("PV_MEDIA_CHILD").is_some();
    if !child {
        eprintln!("skipped: another test runs this in a process of its own");
    }
    child
}

pub fn path(folder: &tempfile::TempDir, name: &str) -> PathBuf {
    folder.path().join(name)
}

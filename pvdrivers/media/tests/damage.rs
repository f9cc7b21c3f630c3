//! Damaged images are refused, not followed.

mod common;

use std::fs;
use std::path::Path;

use common::{Model, Random, folder, have_qemu_img, path, qemu_img};
use pv_media::{Blocking, Disk, Format, MediumError, MediumSpec, Paths};

/// An image with data, a snapshot and a backing file; 4-KiB clusters.
fn image(folder: &Path) -> Vec<u8> {
    fs::write(folder.join("base"), vec![3; 1 << 20]).unwrap();
    qemu_img(
        folder,
        &[
            "create",
            "-qfqcow2",
            "-ocluster_size=4096",
            "-bbase",
            "-Fraw",
            "disk",
            "4M",
        ],
    );
    let write = |seed| {
        let disk =
            Disk::open(&MediumSpec::new(Format::Qcow2, folder.join("disk")), &Paths).unwrap();
        let mut bytes = vec![0; 4 << 20];
        bytes[..1 << 20].fill(3);
        let mut model = Model::new(&disk, bytes, seed);
        for i in 0..100 {
            model
                .io
                .write(i * 37 % 100 * 8192, &[seed as u8; 4096])
                .unwrap();
        }
    };
    write(1);
    qemu_img(folder, &["snapshot", "-c", "one", "disk"]);
    write(2);
    fs::read(folder.join("disk")).unwrap()
}

fn number(bytes: &[u8], at: usize) -> u64 {
    u64::from_be_bytes(bytes[at..at + 8].try_into().unwrap())
}

fn open(folder: &Path, bytes: &[u8], readonly: bool) -> Result<Disk, MediumError> {
    fs::write(folder.join("damaged"), bytes).unwrap();
    let spec = MediumSpec::new(Format::Qcow2, folder.join("damaged"));
    Disk::open(&MediumSpec { readonly, ..spec }, &Paths)
}

#[test]
fn headers() {
    if !have_qemu_img() {
        return;
    }
    let folder = folder();
    let good = image(folder.path());
    assert!(open(folder.path(), &good, false).is_ok());
    let huge = 1u64 << 55;
    // What, where, bytes, and what is said of it.
    let cases: [(&str, usize, &[u8], &str); 18] = [
        ("magic", 0, b"QFI\0", "does not begin with"),
        ("version", 4, &9u32.to_be_bytes(), "version 9"),
        (
            "clusters too small",
            20,
            &8u32.to_be_bytes(),
            "out of 512 to 2 MiB",
        ),
        (
            "clusters too large",
            20,
            &63u32.to_be_bytes(),
            "out of 512 to 2 MiB",
        ),
        ("size", 24, &u64::MAX.to_be_bytes(), "the disk would have"),
        (
            "size beyond the L1 table",
            24,
            &huge.to_be_bytes(),
            "does not fit the size",
        ),
        ("encryption", 32, &1u32.to_be_bytes(), "encryption"),
        (
            "L1 table too large",
            36,
            &u32::MAX.to_be_bytes(),
            "does not fit the size",
        ),
        (
            "L1 table outside",
            40,
            &huge.to_be_bytes(),
            "the L1 table is at",
        ),
        (
            "L1 table unaligned",
            40,
            &4097u64.to_be_bytes(),
            "the L1 table is at",
        ),
        (
            "refcount table outside",
            48,
            &huge.to_be_bytes(),
            "the refcount table is at",
        ),
        (
            "refcount table too large",
            56,
            &u32::MAX.to_be_bytes(),
            "the refcount table has",
        ),
        ("snapshots", 60, &u32::MAX.to_be_bytes(), "snapshots"),
        (
            "snapshot table outside",
            64,
            &huge.to_be_bytes(),
            "the snapshot table is at",
        ),
        ("corrupt", 72, &2u64.to_be_bytes(), "marked as corrupt"),
        (
            "unknown feature",
            72,
            &(1u64 << 40).to_be_bytes(),
            "features",
        ),
        ("refcount width", 96, &7u32.to_be_bytes(), "refcounts have"),
        (
            "header length",
            100,
            &u32::MAX.to_be_bytes(),
            "the header has",
        ),
    ];
    for (what, at, bytes, said) in cases {
        for readonly in [false, true] {
            let mut bad = good.clone();
            bad[at..at + bytes.len()].copy_from_slice(bytes);
            let error = open(folder.path(), &bad, readonly)
                .err()
                .map(|error| error.to_string());
            assert!(
                error.as_ref().is_some_and(|error| error.contains(said)),
                "{what}: {error:?}"
            );
        }
    }
    for n in [0, 3, 71, 103, 4096, good.len() / 2] {
        assert!(
            open(folder.path(), &good[..n], false).is_err(),
            "only {n} bytes"
        );
    }
}

#[test]
fn tables() {
    if !have_qemu_img() {
        return;
    }
    let folder = folder();
    let good = image(folder.path());
    let l1 = number(&good, 40) as usize;
    let mask = 0x00ff_ffff_ffff_fe00;
    let l2 = (number(&good, l1) & mask) as usize;
    let refcounts = number(&good, 48) as usize;
    let block = number(&good, refcounts) as usize;
    let put = |at: usize, value: u64| {
        let mut bad = good.clone();
        bad[at..at + 8].copy_from_slice(&value.to_be_bytes());
        bad
    };
    let copied = 1u64 << 63;
    let used: Vec<usize> = (l2..l2 + 4096)
        .step_by(8)
        .filter(|at| number(&good, *at) != 0)
        .collect();
    let data = number(&good, used[0]);
    let damages = [
        (
            "an L2 table outside",
            put(l1, copied | 1 << 50),
            "no cluster of the file",
        ),
        (
            "an L2 table unaligned",
            put(l1, copied | 512),
            "no cluster of the file",
        ),
        (
            "the L1 table as L2 table",
            put(l1, copied | l1 as u64),
            "used for two things",
        ),
        (
            "data outside",
            put(used[0], copied | 1 << 50),
            "no cluster of the file",
        ),
        (
            "data unaligned",
            put(used[0], copied | ((data & mask) + 512)),
            "no cluster of the file",
        ),
        (
            "a table as data",
            put(used[0], copied | l2 as u64),
            "used for two things",
        ),
        (
            "refcounts as data",
            put(used[0], copied | block as u64),
            "used for two things",
        ),
        ("one cluster for two", put(used[1], data), "references"),
        (
            "compressed data outside",
            put(used[0], 1 << 62 | (1 << 57)),
            "not within the file",
        ),
        (
            "refcounts outside",
            put(refcounts, 1 << 50),
            "no cluster of the file",
        ),
        (
            "the L1 table as refcounts",
            put(refcounts, l1 as u64),
            "used for two things",
        ),
        ("no refcounts", put(refcounts, 0), "references"),
        (
            "clusters in use counted as free",
            put(block, 0),
            "references",
        ),
    ];
    for (what, bad, said) in damages {
        let error = open(folder.path(), &bad, false)
            .err()
            .map(|error| error.to_string());
        assert!(
            error.as_ref().is_some_and(|error| error.contains(said)),
            "{what}: {error:?}"
        );
        // Opened for reading, a wrong entry is an error where it is used, and never more.
        if let Ok(disk) = open(folder.path(), &bad, true) {
            let mut io = Blocking::new(&disk).unwrap();
            (0..64).for_each(|i| drop(io.read(i << 16, 1 << 16)));
        }
    }
}

/// Thousands of small damages: no panic, no endless loop, no more memory than the image is worth.
#[test]
fn random_damage() {
    if !have_qemu_img() {
        return;
    }
    let folder = folder();
    let good = image(folder.path());
    let mut random = Random(11);
    let tables: Vec<usize> = (0..good.len() / 4096)
        .filter(|cluster| {
            // Clusters of data are of one value.
            let bytes = &good[cluster * 4096..][..4096];
            bytes.iter().any(|byte| *byte != bytes[0])
        })
        .collect();
    assert!(tables.len() > 5, "{tables:?}");
    let mut opened = 0;
    for _ in 0..600 {
        let mut bad = good.clone();
        for _ in 0..1 + random.below(3) {
            let cluster = tables[random.below(tables.len() as u64) as usize];
            let longest = if cluster == 0 { 120 } else { 4096 };
            let at = cluster * 4096 + random.below(longest) as usize;
            bad[at] = match random.below(3) {
                0 => random.next() as u8,
                1 => bad[at] ^ 1 << random.below(8),
                _ => 0xff,
            };
        }
        let Ok(disk) = open(folder.path(), &bad, random.below(2) == 0) else {
            continue;
        };
        opened += 1;
        let mut io = Blocking::new(&disk).unwrap();
        let size = disk.info().sectors * 512;
        for i in 0..8 {
            let _ = io.read(i << 17, 1 << 17);
            let _ = io.write(
                random.below(size.clamp(512, 1 << 22) / 512) * 512,
                &[1; 512],
            );
        }
        let _ = io.discard(0, 1 << 16);
        let _ = io.flush();
    }
    assert!(
        opened > 50,
        "too few were good enough to be opened: {opened}"
    );
}

#[test]
fn damaged_vhd_and_vmdk() {
    if !have_qemu_img() {
        return;
    }
    let folder = folder();
    fs::write(path(&folder, "raw"), Random(2).bytes(3 << 20)).unwrap();
    let mut random = Random(12);
    let kinds = [
        (Format::Vhd, vec!["-Ovpc", "-osubformat=dynamic"]),
        (Format::Vmdk, vec!["-Ovmdk"]),
        (Format::Vmdk, vec!["-Ovmdk", "-osubformat=streamOptimized"]),
    ];
    for (format, args) in kinds {
        let args = [&["convert", "-fraw"], &args[..], &["raw", "image"]].concat();
        qemu_img(folder.path(), &args);
        let good = fs::read(path(&folder, "image")).unwrap();
        let spec = MediumSpec::new(format, path(&folder, "damaged")).readonly();
        let mut opened = 0;
        for i in 0..200 {
            let mut bad = good.clone();
            let at = match i % 3 {
                0 => random.below(512),
                1 => random.below(1 << 17).min(bad.len() as u64 - 1),
                _ => bad.len() as u64 - 1 - random.below(1024),
            };
            bad[at as usize] ^= 1 << random.below(8);
            if i % 10 == 0 {
                bad.truncate(at as usize);
            }
            fs::write(path(&folder, "damaged"), bad).unwrap();
            let Ok(disk) = Disk::open(&spec, &Paths) else {
                continue;
            };
            opened += 1;
            let mut io = Blocking::new(&disk).unwrap();
            (0..24).for_each(|i| drop(io.read(i << 17, 1 << 17)));
        }
        assert!(opened > 10, "{format:?} {opened}");
    }
}

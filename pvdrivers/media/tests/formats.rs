//! VHD and VMDK images as the reference implementation makes them, and the choice of formats.

mod common;

use std::fs;
use std::io;
use std::path::Path;

use common::{Model, Random, content, folder, have_qemu_img, open, path, qemu_img};
use pv_media::{
    Blocking, Disk, FileMap, Format, MediumError, MediumSpec, Needed, Opener, Paths, needed,
};

fn sparse_content() -> Vec<u8> {
    let mut bytes = vec![0; 6 << 20];
    let data = Random(3).bytes(3 << 19);
    bytes[1 << 20..][..data.len()].copy_from_slice(&data);
    bytes[(6 << 20) - 4096..].fill(0x77);
    bytes
}

/// A raw file converted to a format; the size may be rounded up.
fn converted(folder: &Path, args: &[&str], bytes: &[u8]) -> std::path::PathBuf {
    fs::write(folder.join("raw"), bytes).unwrap();
    let args = [&["convert", "-fraw"], args, &["raw", "image"]].concat();
    qemu_img(folder, &args);
    folder.join("image")
}

fn check(spec: &MediumSpec, bytes: &[u8]) {
    let disk = open(spec);
    let size = disk.info().sectors as usize * 512;
    assert!(
        size >= bytes.len() && size < bytes.len() + (1 << 20),
        "{size}"
    );
    let mut bytes = bytes.to_vec();
    bytes.resize(size, 0);
    let mut model = Model::new(&disk, bytes, 1);
    model.check_all();
    // Pieces across blocks, grains and extents.
    let mut random = Random(8);
    for _ in 0..100 {
        let at = random.below(size as u64 / 512 - 200) * 512;
        let len = (1 + random.below(199) as usize) * 512;
        assert!(model.io.read(at, len).unwrap() == model.bytes[at as usize..][..len]);
    }
}

#[test]
fn vhd() {
    if !have_qemu_img() {
        return;
    }
    for kind in ["dynamic", "fixed"] {
        let folder = folder();
        let options = format!("subformat={kind},force_size=on");
        let image = converted(folder.path(), &["-Ovpc", "-o", &options], &sparse_content());
        check(
            &MediumSpec::new(Format::Vhd, &image).readonly(),
            &sparse_content(),
        );
    }
}

#[test]
fn a_fixed_vhd_is_written_to_and_stays_one() {
    if !have_qemu_img() {
        return;
    }
    let folder = folder();
    let image = converted(
        folder.path(),
        &["-Ovpc", "-o", "subformat=fixed,force_size=on"],
        &sparse_content(),
    );
    let disk = open(&MediumSpec::new(Format::Vhd, &image));
    let mut model = Model::new(&disk, sparse_content(), 1);
    model.steps(100, 100_000);
    let end = model.bytes.len() as u64;
    assert!(model.io.write(end, &[0; 512]).is_err());
    assert!(disk.resize(1 << 20).is_err());
    let bytes = model.bytes;
    drop((model.io, disk));
    assert!(content(&image, "vpc") == bytes);
}

/// A child of `parent` in which some sectors of a block are its own. The reference implementation
/// cannot make one.
fn differencing(parent: &Path, child: &Path) -> Vec<u8> {
    let bytes = fs::read(parent).unwrap();
    let mut footer: [u8; 512] = bytes[bytes.len() - 512..].try_into().unwrap();
    let parent_uuid: [u8; 16] = footer[68..84].try_into().unwrap();
    let sum = |bytes: &[u8]| !bytes.iter().map(|byte| u32::from(*byte)).sum::<u32>();
    footer[60..64].copy_from_slice(&4u32.to_be_bytes());
    footer[68..84].copy_from_slice(&[9; 16]);
    footer[16..24].copy_from_slice(&512u64.to_be_bytes());
    footer[64..68].fill(0);
    let checksum = sum(&footer);
    footer[64..68].copy_from_slice(&checksum.to_be_bytes());
    let mut header = [0u8; 1024];
    header[..8].copy_from_slice(b"cxsparse");
    header[16..24].copy_from_slice(&1536u64.to_be_bytes());
    header[28..32].copy_from_slice(&4u32.to_be_bytes());
    header[32..36].copy_from_slice(&(2u32 << 20).to_be_bytes());
    header[40..56].copy_from_slice(&parent_uuid);
    for (i, unit) in "C:\\old\\image".encode_utf16().enumerate() {
        header[64 + 2 * i..][..2].copy_from_slice(&unit.to_be_bytes());
    }
    let checksum = sum(&header);
    header[36..40].copy_from_slice(&checksum.to_be_bytes());
    let mut table = [0xff; 512];
    table[..4].copy_from_slice(&4u32.to_be_bytes());
    // Sectors 1 to 8 and every odd one of the second bitmap byte's.
    let mut bitmap = [0; 512];
    (bitmap[0], bitmap[1], bitmap[2]) = (0b0111_1111, 0b1101_0101, 0xff);
    let block = Random(55).bytes(2 << 20);
    let parts: [&[u8]; 6] = [&footer, &header, &table, &bitmap, &block, &footer];
    fs::write(child, parts.concat()).unwrap();
    let mut want = sparse_content();
    for sector in 0..4096usize {
        if bitmap[sector / 8] << (sector % 8) & 0x80 != 0 {
            want[sector * 512..][..512].copy_from_slice(&block[sector * 512..][..512]);
        }
    }
    want
}

#[test]
fn a_differencing_vhd_shows_its_parent() {
    if !have_qemu_img() {
        return;
    }
    let folder = folder();
    let parent = converted(
        folder.path(),
        &["-Ovpc", "-o", "subformat=dynamic,force_size=on"],
        &sparse_content(),
    );
    let child = path(&folder, "child.vhd");
    let want = differencing(&parent, &child);
    let spec = MediumSpec::new(Format::Vhd, &child).readonly();
    check(&spec, &want);
    // Another parent is noticed.
    converted(
        folder.path(),
        &["-Ovpc", "-o", "subformat=dynamic,force_size=on"],
        &sparse_content(),
    );
    let error = Disk::open(&spec, &Paths).unwrap_err().to_string();
    assert!(error.contains("is not the image"), "{error}");
}

#[test]
fn vmdk() {
    if !have_qemu_img() {
        return;
    }
    let kinds = [
        "monolithicSparse",
        "monolithicFlat",
        "twoGbMaxExtentSparse",
        "twoGbMaxExtentFlat",
        "streamOptimized",
        "monolithicSparse,zeroed_grain=on",
    ];
    for kind in kinds {
        eprintln!("{kind}");
        let folder = folder();
        let options = format!("subformat={kind}");
        let image = converted(
            folder.path(),
            &["-Ovmdk", "-o", &options],
            &sparse_content(),
        );
        check(
            &MediumSpec::new(Format::Vmdk, &image).readonly(),
            &sparse_content(),
        );
    }
}

#[test]
fn what_can_only_be_read_says_so() {
    if !have_qemu_img() {
        return;
    }
    let folder = folder();
    let image = converted(folder.path(), &["-Ovmdk"], &sparse_content());
    let error = Disk::open(&MediumSpec::new(Format::Vmdk, &image), &Paths)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("can only be read") && error.contains("Make the disk read-only"),
        "{error}"
    );
}

#[test]
fn a_format_is_guessed_only_for_reading_and_only_when_asked() {
    if !have_qemu_img() {
        return;
    }
    let folder = folder();
    for (args, format) in [
        (["-Oqcow2"], "qcow2"),
        (["-Ovpc"], "vpc"),
        (["-Ovmdk"], "vmdk"),
        (["-Oraw"], "raw"),
    ] {
        let image = converted(folder.path(), &args, &sparse_content());
        let probed = MediumSpec::new(Format::Probe, &image);
        let disk = open(&probed.clone().readonly());
        assert!(
            Blocking::new(&disk).unwrap().read(1 << 20, 512).unwrap()
                == sparse_content()[1 << 20..][..512],
            "{format}"
        );
        drop(disk);
        let error = Disk::open(&probed, &Paths).unwrap_err().to_string();
        assert!(error.contains("has to be told, not guessed"), "{error}");
        // A raw disk is what it is, whatever a guest wrote to it.
        let raw = open(&MediumSpec::new(Format::Raw, &image));
        let first = Blocking::new(&raw).unwrap().read(0, 512).unwrap();
        assert!(fs::read(&image).unwrap()[..512] == first);
    }
    let image = converted(folder.path(), &["-Oraw"], &sparse_content());
    for format in [Format::Qcow2, Format::Vhd, Format::Vmdk] {
        let error = Disk::open(&MediumSpec::new(format, &image).readonly(), &Paths).unwrap_err();
        assert!(matches!(error, MediumError::Format { .. }), "{error}");
        assert!(error.to_string().contains("perhaps format=raw"), "{error}");
    }
}

#[test]
fn a_disk_from_files_that_were_opened_elsewhere() {
    if !have_qemu_img() {
        return;
    }
    let folder = folder();
    fs::write(path(&folder, "base"), sparse_content()).unwrap();
    qemu_img(
        folder.path(),
        &["create", "-qfqcow2", "-bbase", "-Fraw", "middle"],
    );
    qemu_img(
        folder.path(),
        &["create", "-qfqcow2", "-bmiddle", "-Fqcow2", "top"],
    );
    let spec = MediumSpec::new(Format::Qcow2, path(&folder, "top")).direct_io();
    let list = needed(&spec, &Paths).unwrap();
    let want = ["top", "middle", "base"].map(|name| Needed::File {
        path: path(&folder, name),
        write: name == "top",
        direct: true,
    });
    assert_eq!(list, want);
    let mut map = FileMap::new();
    for file in list {
        let Needed::File { path, write, .. } = file else {
            unreachable!("no sockets here")
        };
        map.insert(&path, false, Paths.open(&path, write).unwrap());
        if let Ok(direct) = Paths.open_direct(&path, write) {
            map.insert(&path, true, direct);
        }
    }
    let disk = Disk::open(&spec, &map).unwrap();
    let mut model = Model::new(&disk, sparse_content(), 2);
    model.steps(50, 50_000);
    model.check_all();
    let other = MediumSpec::new(Format::Raw, "/etc/hostname").readonly();
    let error = Disk::open(&other, &map).unwrap_err();
    assert!(
        matches!(error, MediumError::File { source, .. } if source.kind() == io::ErrorKind::NotFound)
    );
}

#[test]
fn circles_and_unsaid_formats_are_refused() {
    if !have_qemu_img() {
        return;
    }
    let folder = folder();
    let spec = |name: &str| MediumSpec::new(Format::Qcow2, path(&folder, name)).readonly();
    let refused = |name: &str| Disk::open(&spec(name), &Paths).unwrap_err().to_string();
    qemu_img(folder.path(), &["create", "-qfqcow2", "a", "1M"]);
    qemu_img(
        folder.path(),
        &["create", "-qfqcow2", "-ba", "-Fqcow2", "b"],
    );
    qemu_img(folder.path(), &["rebase", "-u", "-bb", "-Fqcow2", "a"]);
    assert!(refused("a").contains("in a circle"), "{}", refused("a"));
    assert!(needed(&spec("b"), &Paths).is_err());
    qemu_img(folder.path(), &["rebase", "-u", "-ba", "-Fqcow2", "a"]);
    assert!(refused("a").contains("in a circle"));
    // More images than anybody needs.
    qemu_img(folder.path(), &["create", "-qfqcow2", "0", "1M"]);
    for i in 1..70 {
        let args = [
            "create",
            "-qufqcow2",
            "-b",
            &(i - 1).to_string(),
            "-Fqcow2",
            &i.to_string(),
            "1M",
        ];
        qemu_img(folder.path(), &args);
    }
    assert!(refused("69").contains("more than 64"), "{}", refused("69"));
    open(&spec("60"));
    // No format of the backing file.
    let mut bytes = fs::read(path(&folder, "1")).unwrap();
    let at = bytes
        .windows(4)
        .position(|four| four == [0xe2, 0x79, 0x2a, 0xca])
        .unwrap();
    bytes[at..at + 4].copy_from_slice(&[1, 2, 3, 4]);
    fs::write(path(&folder, "1"), bytes).unwrap();
    assert!(refused("1").contains("rebase -u -F"), "{}", refused("1"));
}

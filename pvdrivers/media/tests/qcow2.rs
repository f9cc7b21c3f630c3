//! qcow2 images, compared with a model and with the reference implementation.

mod common;

use std::fs;
use std::path::Path;

use common::{Model, Random, content, folder, have_qemu_img, open, path, qemu_img};
use pv_media::{Blocking, Disk, Format, MediumSpec};

const MIB: u64 = 1 << 20;

fn spec(image: &Path) -> MediumSpec {
    MediumSpec::new(Format::Qcow2, image)
}

/// Sound, and nothing leaked.
fn check(image: &Path) {
    let text = qemu_img(
        Path::new("/"),
        &["check", "-f", "qcow2", image.to_str().unwrap()],
    );
    assert!(text.contains("No errors were found"), "{text}");
}

/// Random work on an image that has `bytes`, by every way to transfer.
fn work(image: &Path, mut bytes: Vec<u8>, steps: usize) -> Vec<u8> {
    for round in 0..4 {
        let spec = MediumSpec {
            direct_io: round % 2 == 1,
            ..spec(image)
        };
        let disk = open(&spec);
        assert_eq!(disk.info().sectors, bytes.len() as u64 / 512);
        let io = match round < 2 {
            true => Blocking::new(&disk).unwrap(),
            false => Blocking::on(disk.queue_without_uring(4).unwrap()),
        };
        let mut model = Model::on(io, bytes, 77 + round);
        model.steps(steps, 300 * 1024);
        model.check_all();
        bytes = model.bytes;
        drop((model.io, disk));
        check(image);
        let reference = content(image, "qcow2");
        let differs = reference
            .chunks(512)
            .zip(bytes.chunks(512))
            .position(|(a, b)| a != b);
        assert_eq!(
            differs, None,
            "round {round}: the sector that the reference sees otherwise"
        );
    }
    bytes
}

#[test]
fn images_of_every_layout() {
    if !have_qemu_img() {
        return;
    }
    let layouts = [
        "cluster_size=65536",
        "cluster_size=512",
        "cluster_size=4096,refcount_bits=1",
        "cluster_size=4096,refcount_bits=64",
        "cluster_size=2097152",
        "compat=0.10,cluster_size=4096",
        "cluster_size=65536,lazy_refcounts=on",
    ];
    for layout in layouts {
        let folder = folder();
        let image = path(&folder, "disk.qcow2");
        qemu_img(
            folder.path(),
            &[
                "create",
                "-q",
                "-f",
                "qcow2",
                "-o",
                layout,
                "disk.qcow2",
                "9000K",
            ],
        );
        eprintln!("{layout}");
        work(&image, vec![0; 9000 << 10], 120);
    }
}

#[test]
fn backing_files_are_read_and_not_written() {
    if !have_qemu_img() {
        return;
    }
    let folder = folder();
    let mut bytes = Random(5).bytes(5 << 20);
    fs::write(path(&folder, "base.raw"), &bytes).unwrap();
    qemu_img(
        folder.path(),
        &[
            "create", "-qf", "qcow2", "-b", "base.raw", "-F", "raw", "middle", "7M",
        ],
    );
    let middle = path(&folder, "middle");
    bytes.resize(7 << 20, 0);
    let bytes = work(&middle, bytes, 40);
    let middle_before = fs::read(&middle).unwrap();
    let options = "cluster_size=16384";
    qemu_img(
        folder.path(),
        &[
            "create", "-qf", "qcow2", "-o", options, "-b", "middle", "-F", "qcow2", "top",
        ],
    );
    work(&path(&folder, "top"), bytes, 40);
    assert!(fs::read(&middle).unwrap() == middle_before);
    assert!(fs::read(path(&folder, "base.raw")).unwrap() == Random(5).bytes(5 << 20));
}

#[test]
fn compressed_clusters() {
    if !have_qemu_img() {
        return;
    }
    for method in ["zlib", "zstd"] {
        let folder = folder();
        let mut bytes = Random(9).bytes(6 << 20);
        bytes[MIB as usize..4 << 20].fill(0x5a);
        // Some clusters that do not compress, and some that do somewhat.
        (0..MIB as usize)
            .step_by(3)
            .for_each(|i| bytes[4 * MIB as usize + i] = 0);
        fs::write(path(&folder, "raw"), &bytes).unwrap();
        let options = format!("compression_type={method}");
        qemu_img(
            folder.path(),
            &[
                "convert", "-c", "-fraw", "-Oqcow2", "-o", &options, "raw", "disk",
            ],
        );
        let image = path(&folder, "disk");
        let disk = open(&spec(&image).readonly());
        Model::new(&disk, bytes.clone(), 0).check_all();
        drop(disk);
        work(&image, bytes, 30);
    }
}

#[test]
fn snapshots_keep_what_they_had() {
    if !have_qemu_img() {
        return;
    }
    let folder = folder();
    let image = path(&folder, "disk");
    qemu_img(
        folder.path(),
        &[
            "create",
            "-qfqcow2",
            "-o",
            "cluster_size=4096",
            "disk",
            "6M",
        ],
    );
    let first = work(&image, vec![0; 6 << 20], 30);
    qemu_img(folder.path(), &["snapshot", "-c", "one", "disk"]);
    let second = work(&image, first.clone(), 30);
    qemu_img(folder.path(), &["snapshot", "-c", "two", "disk"]);
    work(&image, second.clone(), 30);
    for (name, want) in [("one", first), ("two", second)] {
        qemu_img(folder.path(), &["snapshot", "-a", name, "disk"]);
        check(&image);
        assert!(content(&image, "qcow2") == want, "{name}");
    }
}

#[test]
fn growing() {
    if !have_qemu_img() {
        return;
    }
    let folder = folder();
    let image = path(&folder, "disk");
    qemu_img(
        folder.path(),
        &["create", "-qfqcow2", "-o", "cluster_size=512", "disk", "1M"],
    );
    let mut bytes = work(&image, vec![0; MIB as usize], 20);
    let disk = open(&spec(&image));
    let mut model = Model::new(&disk, bytes, 1);
    for size in [MIB + 512, 5 * MIB, 40 * MIB] {
        model.bytes.resize(size as usize, 0);
        assert!(model.io.read(size - 512, 512).is_err());
        assert_eq!(disk.resize(size / 512).unwrap().sectors, size / 512);
        model.steps(50, 50_000);
        model.check_all();
    }
    assert!(disk.resize(1).is_err());
    bytes = model.bytes;
    drop((model.io, disk));
    check(&image);
    assert!(content(&image, "qcow2") == bytes);
}

#[test]
fn discard_gives_space_back_and_clusters_are_used_again() {
    if !have_qemu_img() {
        return;
    }
    let folder = folder();
    let image = path(&folder, "disk");
    qemu_img(folder.path(), &["create", "-qfqcow2", "disk", "64M"]);
    let disk = open(&spec(&image));
    let mut io = Blocking::new(&disk).unwrap();
    let size = || fs::metadata(&image).unwrap().len();
    let mut sizes = Vec::new();
    for round in 0..6u8 {
        for i in 0..8 {
            io.write(i * MIB, &vec![round + 1; MIB as usize]).unwrap();
        }
        io.flush().unwrap();
        sizes.push(size());
        io.discard(0, 8 * MIB).unwrap();
        assert_eq!(io.read(3 * MIB, 512).unwrap(), [0; 512]);
        // The second one frees what no request may still use.
        (0..2).for_each(|_| io.flush().unwrap());
    }
    assert!(sizes.iter().all(|size| *size < 12 * MIB), "{sizes:?}");
    use std::os::unix::fs::MetadataExt;
    let blocks = fs::metadata(&image).unwrap().blocks();
    assert!(blocks * 512 < 2 * MIB, "{blocks} blocks are still there");
    drop((io, disk));
    check(&image);
}

#[test]
fn many_requests_at_once() {
    use pv_media::{Memory, Operation, Request};
    if !have_qemu_img() {
        return;
    }
    let folder = folder();
    let image = path(&folder, "disk");
    qemu_img(folder.path(), &["create", "-qfqcow2", "disk", "32M"]);
    let disk = open(&spec(&image));
    let mut queues: Vec<_> = (0..2).map(|_| disk.queue::<Memory>(16).unwrap()).collect();
    let mut done = Vec::new();
    let mut random = Random(4);
    // Neighbours in the same clusters, by two queues, with flushes and discards elsewhere.
    let mut left = 0;
    for i in 0..4096u64 {
        let queue = &mut queues[(i % 2) as usize];
        let block = i * 4096;
        let request = |operation, offset, len, buffers| Request {
            tag: i,
            operation,
            offset,
            len,
            buffers,
        };
        queue.submit(request(
            Operation::Write,
            block,
            4096,
            Memory::of(&[i as u8; 4096]),
        ));
        left += 1;
        if random.below(40) == 0 {
            queue.submit(request(Operation::Flush, 0, 0, Memory::zeroed(0)));
            let at = (16 + random.below(16)) * MIB;
            queue.submit(request(
                Operation::Discard { secure: false },
                at,
                MIB,
                Memory::zeroed(0),
            ));
            left += 2;
        }
        queue.kick();
        queue.completed(&mut done);
    }
    while done.len() < left {
        queues
            .iter_mut()
            .for_each(|queue| queue.completed(&mut done));
    }
    assert!(done.iter().all(|done| done.result.is_ok()));
    drop((queues, disk));
    check(&image);
    let bytes = content(&image, "qcow2");
    assert!((0..4096usize).all(|i| bytes[i * 4096..][..4096] == [i as u8; 4096]));
}

#[test]
fn an_image_is_not_opened_twice_for_writing() {
    if !have_qemu_img() {
        return;
    }
    let folder = folder();
    let image = path(&folder, "disk");
    qemu_img(folder.path(), &["create", "-qfqcow2", "disk", "1M"]);
    let _disk = open(&spec(&image));
    assert!(Disk::open(&spec(&image), &pv_media::Paths).is_err());
    // The reference implementation sees the lock too.
    let info = std::process::Command::new("qemu-img")
        .args(["resize", "disk", "2M"])
        .current_dir(folder.path())
        .output();
    let text = String::from_utf8(info.unwrap().stderr).unwrap();
    assert!(text.contains("lock"), "{text}");
}

//! Raw files: content, direct I/O, holes, sizes, and a file that is shorter than it was.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use nix::fcntl::{FcntlArg, fcntl};
use pv_media::{
    Blocking, Disk, Format, MediumError, MediumSpec, Memory, Operation, Paths, Request,
};

const MIB: u64 = 1 << 20;

/// A file in a directory of the build, which unlike `/tmp` is on a disk.
struct Scratch {
    _folder: tempfile::TempDir,
    path: PathBuf,
}

fn scratch(size: u64) -> Scratch {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = folder.path().join("disk");
    File::create(&path).unwrap().set_len(size).unwrap();
    Scratch {
        _folder: folder,
        path,
    }
}

fn spec(scratch: &Scratch) -> MediumSpec {
    MediumSpec::new(Format::Raw, &scratch.path)
}

fn open(spec: &MediumSpec) -> Disk {
    Disk::open(spec, &Paths).unwrap()
}

fn pattern(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let mut next = || {
        state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (state >> 56) as u8
    };
    (0..len).map(|_| next()).collect()
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

#[test]
fn what_was_written_is_read_at_every_alignment() {
    let scratch = scratch(MIB);
    every_way(&spec(&scratch), |disk, mut io| {
        assert_eq!(disk.info().sectors, 2048);
        for (i, (offset, len)) in [
            (0, 4096),
            (512, 512),
            (4096, 65536),
            (7 * 512, 9 * 512),
            (MIB - 512, 512),
        ]
        .into_iter()
        .enumerate()
        {
            let bytes = pattern(i as u64, len);
            io.write(offset, &bytes).unwrap();
            assert_eq!(io.read(offset, len).unwrap(), bytes);
            let mut file = vec![0; len];
            std::os::unix::fs::FileExt::read_exact_at(
                &File::open(&scratch.path).unwrap(),
                &mut file,
                offset,
            )
            .unwrap();
            assert_eq!(file, bytes);
        }
        io.flush().unwrap();
    });
}

#[test]
fn pieces_go_where_they_belong() {
    let scratch = scratch(MIB);
    for direct_io in [false, true] {
        let disk = open(&MediumSpec {
            direct_io,
            ..spec(&scratch)
        });
        let mut queue = disk.queue::<Memory>(8).unwrap();
        let memory =
            Memory::of(&pattern(3, 16384)).pieces(&[8192..12288, 0..512, 512..4096, 12288..16384]);
        let bytes = memory.bytes().to_vec();
        queue.submit(Request {
            tag: 9,
            operation: Operation::Write,
            offset: 4096,
            len: 12288,
            buffers: memory,
        });
        queue.kick();
        let mut done = Vec::new();
        while done.is_empty() {
            queue.completed(&mut done);
        }
        assert_eq!(done[0].tag, 9);
        done[0].result.as_ref().unwrap();
        let file = fs::read(&scratch.path).unwrap();
        assert_eq!(file[4096..8192], bytes[8192..12288]);
        assert_eq!(file[8192..12288], bytes[..4096]);
        assert_eq!(file[12288..16384], bytes[12288..]);
    }
}

#[test]
fn many_at_once_more_than_the_depth() {
    let scratch = scratch(4 * MIB);
    let disk = open(&spec(&scratch));
    let mut queue = disk.queue::<Memory>(8).unwrap();
    for tag in 0..1000 {
        let buffers = Memory::of(&[tag as u8; 4096]);
        queue.submit(Request {
            tag,
            operation: Operation::Write,
            offset: tag * 4096,
            len: 4096,
            buffers,
        });
    }
    queue.kick();
    let mut done = Vec::new();
    while done.len() < 1000 {
        queue.completed(&mut done);
    }
    assert!(done.iter().all(|d| d.result.is_ok()));
    let file = fs::read(&scratch.path).unwrap();
    assert!((0..1000).all(|i| file[i * 4096..][..4096] == [i as u8; 4096]));
}

#[test]
fn what_cannot_be_is_refused() {
    let scratch = scratch(MIB);
    every_way(&spec(&scratch), |_, mut io| {
        for offset in [MIB, MIB - 512, u64::MAX - 100] {
            let error = io.read(offset, 4096).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
        }
    });
    let disk = open(&spec(&scratch).readonly());
    let mut io = Blocking::new(&disk).unwrap();
    assert!(disk.info().readonly);
    assert_eq!(
        io.write(0, &[1; 512]).unwrap_err().raw_os_error(),
        Some(libc::EROFS)
    );
    assert!(io.discard(0, 4096).is_err());
    // A request that says more than its buffers hold.
    let mut queue = disk.queue::<Memory>(1).unwrap();
    queue.submit(Request {
        tag: 0,
        operation: Operation::Read,
        offset: 0,
        len: 8192,
        buffers: Memory::zeroed(4096),
    });
    let mut done = Vec::new();
    queue.completed(&mut done);
    assert_eq!(
        done[0].result.as_ref().unwrap_err().raw_os_error(),
        Some(libc::EINVAL)
    );
}

#[test]
fn discard_gives_space_back() {
    let scratch = scratch(4 * MIB);
    every_way(&spec(&scratch), |disk, mut io| {
        let Some(discard) = disk.info().discard else {
            eprintln!("skipped: the file system makes no holes");
            return;
        };
        assert!(!discard.secure);
        io.write(0, &vec![7; 4 * MIB as usize]).unwrap();
        io.flush().unwrap();
        let full = fs::metadata(&scratch.path).unwrap().blocks();
        io.discard(MIB, 2 * MIB).unwrap();
        io.flush().unwrap();
        assert!(fs::metadata(&scratch.path).unwrap().blocks() + 4000 <= full);
        assert_eq!(
            io.read(MIB - 512, 1024).unwrap(),
            [[7; 512], [0; 512]].concat()
        );
    });
}

#[test]
fn a_truncated_file_is_an_error_not_zeros() {
    let scratch = scratch(4 * MIB);
    every_way(&spec(&scratch), |_, mut io| {
        let file = File::options().write(true).open(&scratch.path).unwrap();
        file.set_len(MIB + 8192).unwrap();
        assert!(io.read(MIB, 8192).is_ok());
        for (offset, len) in [(2 * MIB, 4096), (MIB + 4096, 8192), (MIB, 65536)] {
            let error = io.read(offset, len).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EIO), "{offset} {len}");
        }
        file.set_len(4 * MIB).unwrap();
        assert!(io.read(2 * MIB, 4096).is_ok());
    });
}

#[test]
fn the_size_follows_the_file() {
    let scratch = scratch(MIB);
    let disk = open(&spec(&scratch));
    let mut io = Blocking::new(&disk).unwrap();
    File::options()
        .write(true)
        .open(&scratch.path)
        .unwrap()
        .set_len(3 * MIB)
        .unwrap();
    assert!(io.read(2 * MIB, 512).is_err());
    assert_eq!(disk.refresh().unwrap().sectors, 6144);
    assert!(io.read(2 * MIB, 512).is_ok());
    assert_eq!(disk.resize(8192).unwrap().sectors, 8192);
    assert_eq!(fs::metadata(&scratch.path).unwrap().len(), 4 * MIB);
    assert_eq!(
        disk.resize(100).unwrap_err().kind(),
        ErrorKind::InvalidInput
    );
    assert_eq!(
        disk.resize(u64::MAX).unwrap_err().kind(),
        ErrorKind::InvalidInput
    );
}

#[test]
fn two_writers_are_refused_and_readers_are_not() {
    let scratch = scratch(MIB);
    let first = open(&spec(&scratch));
    let error = Disk::open(&spec(&scratch), &Paths).unwrap_err();
    assert!(
        matches!(error, MediumError::InUse { write: true, .. }),
        "{error}"
    );
    assert!(error.to_string().contains("Stop that one first"), "{error}");
    assert!(Disk::open(&spec(&scratch).readonly(), &Paths).is_err());
    let shared = MediumSpec {
        shared: true,
        ..spec(&scratch)
    };
    open(&shared);
    drop(first);
    let _readers = [
        open(&spec(&scratch).readonly()),
        open(&spec(&scratch).readonly()),
    ];
    assert!(Disk::open(&spec(&scratch), &Paths).is_err());
}

/// The ring of a killed process keeps its files, with this lock, until all it was given is done.
#[test]
fn transfers_of_a_killed_process_are_awaited() {
    let scratch = scratch(MIB);
    let left = File::options().write(true).open(&scratch.path).unwrap();
    let lock = libc::flock {
        l_type: libc::F_WRLCK as i16,
        l_whence: libc::SEEK_SET as i16,
        l_start: 300,
        l_len: 1,
        l_pid: 0,
    };
    fcntl(&left, FcntlArg::F_OFD_SETLK(&lock)).unwrap();
    // Who only reads does not care.
    open(&spec(&scratch).readonly());
    let writer = spec(&scratch);
    let (tell, told) = mpsc::channel();
    let opening = thread::spawn(move || {
        let disk = open(&writer);
        tell.send(()).unwrap();
        disk
    });
    assert!(told.recv_timeout(Duration::from_millis(200)).is_err());
    drop(left);
    told.recv().unwrap();
    drop(opening.join().unwrap());
    open(&spec(&scratch));
}

#[test]
fn what_is_no_disk_is_refused() {
    let error = Disk::open(&MediumSpec::new(Format::Raw, "/dev/null"), &Paths).unwrap_err();
    assert!(matches!(error, MediumError::File { .. }), "{error}");
    let error = Disk::open(&MediumSpec::new(Format::Raw, "/no/such/file"), &Paths).unwrap_err();
    assert_eq!(
        error.to_string(),
        "Cannot open for writing \"/no/such/file\""
    );
    let mut odd = MediumSpec::new(Format::Raw, "/dev/null");
    odd.sector_size = Some(1000);
    assert!(Disk::open(&odd, &Paths).is_err());
}

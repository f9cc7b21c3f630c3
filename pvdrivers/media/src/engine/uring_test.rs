use std::io::Write;

use tempfile::NamedTempFile;

use super::*;
use crate::Paths;
use crate::file::{MediaFile, Mode};

/// A ring for a file of 512 sevens; `None`, with a word why, where there is no io_uring.
fn ring() -> Option<(NamedTempFile, Uring)> {
    ring_of(|_| {})
}

fn ring_of(prepare: impl FnOnce(&mut MediaFile)) -> Option<(NamedTempFile, Uring)> {
    if let Err(error) = IoUring::new(8) {
        println!("skipped: there is no io_uring: {error}");
        return None;
    }
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(&[7; 512]).unwrap();
    let mode = Mode {
        write: true,
        direct: false,
        direct_devices: false,
        lock: false,
    };
    let mut media = MediaFile::open(file.path(), mode, &Paths).unwrap();
    prepare(&mut media);
    let mailbox = Arc::new(Mailbox::new().unwrap());
    let uring = Uring::new(Arc::from([media]), 8, mailbox).unwrap();
    Some((file, uring))
}

/// What comes of an entry.
#[allow(unsafe_code)]
fn result(uring: &mut Uring, entry: &squeue::Entry) -> i32 {
    // SAFETY: the callers' buffers and paths outlive the wait below.
    assert!(unsafe { sys::push(&mut uring.ring, entry) });
    uring.ring.submit_and_wait(1).unwrap();
    uring.ring.completion().next().unwrap().result()
}

#[test]
fn a_ring_does_nothing_but_transfers() {
    let Some((_file, mut uring)) = ring() else {
        return;
    };
    let here = types::Fd(libc::AT_FDCWD);
    let path = c"/proc/self/status".as_ptr();
    let entries = [
        ("open", opcode::OpenAt::new(here, path).build()),
        ("remove", opcode::UnlinkAt::new(here, path).build()),
        (
            "socket",
            opcode::Socket::new(libc::AF_INET, libc::SOCK_STREAM, 0).build(),
        ),
        ("nothing", opcode::Nop::new().build()),
        // What is allowed, linked to what follows.
        (
            "link",
            opcode::Fsync::new(types::Fixed(0))
                .build()
                .flags(squeue::Flags::IO_LINK),
        ),
    ];
    for (what, entry) in entries {
        assert_eq!(result(&mut uring, &entry), -libc::EACCES, "{what}");
    }
    let sync = opcode::Fsync::new(types::Fixed(0)).build();
    assert_eq!(result(&mut uring, &sync), 0);
}

#[test]
fn a_ring_knows_its_files_only() {
    let Some((file, mut uring)) = ring() else {
        return;
    };
    let mut bytes = [0; 512];
    let pieces = [IoVec::of_bytes(&mut bytes)];
    let vector = pieces.as_ptr().cast();
    let own = opcode::Readv::new(types::Fixed(0), vector, 1).build();
    assert_eq!(result(&mut uring, &own), 512);
    let other = types::Fd(file.as_file().as_raw_fd());
    let other = opcode::Readv::new(other, vector, 1).build();
    assert_eq!(result(&mut uring, &other), -libc::EACCES);
    assert_eq!(bytes, [7; 512]);

    let submitter = uring.ring.submitter();
    let fd = file.as_file().as_raw_fd();
    for refused in [
        submitter.register_files_update(0, &[fd]).map(drop),
        submitter.register_restrictions(&mut [Restriction::sqe_op(opcode::OpenAt::CODE)]),
        submitter.unregister_eventfd(),
    ] {
        assert!(refused.is_err());
    }
}

#[test]
#[allow(unsafe_code)]
fn writes_through_the_page_cache_can_be_durable_at_once() {
    let Some((file, mut uring)) = ring_of(|media| {
        assert!(!media.make_writes_durable() && !media.durable_writes());
        media.pretend_uncached();
        assert!(media.make_writes_durable() && media.durable_writes());
    }) else {
        return;
    };
    let mut bytes = [9; 100];
    let pieces = [IoVec::of_bytes(&mut bytes)];
    // SAFETY: the bytes outlive the wait below.
    unsafe { uring.push(5, 0, Act::Write, 12, pieces) };
    uring.ring.submit_and_wait(1).unwrap();
    assert!(uring.any());
    let mut done = Vec::new();
    uring.reap(&mut done);
    assert!(
        matches!(done.as_slice(), [(5, Ok(()))]),
        "the host takes no RWF_DSYNC: {done:?}"
    );
    assert!(!uring.any());
    let expected = [[7; 12].as_slice(), &[9; 100], &[7; 400]].concat();
    assert_eq!(std::fs::read(file.path()).unwrap(), expected);
}

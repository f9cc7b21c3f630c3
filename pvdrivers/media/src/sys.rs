//! The system calls that take addresses of lent memory, and ioctls of block devices.
//!
//! Invariant: an [`IoVec`] reaches the functions below only from [`IoBuffers`](pv_ring::IoBuffers)
//! that a queue keeps until the transfer has ended, or from a slice that is borrowed meanwhile.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;

use io_uring::squeue::Entry;
use io_uring::{IoUring, opcode, types};
use pv_ring::IoVec;

/// Most pieces that one system call takes (`UIO_MAXIOV`).
pub(crate) const IOV_MAX: usize = 1024;

const _: () = assert!(size_of::<IoVec>() == size_of::<libc::iovec>());

fn count(n: isize) -> io::Result<usize> {
    usize::try_from(n).map_err(|_| io::Error::last_os_error())
}

fn iov_len(iov: &[IoVec]) -> i32 {
    iov.len().min(IOV_MAX) as i32
}

/// `preadv` of at most [`IOV_MAX`] pieces.
///
/// # Safety
/// The pieces are lent to this call: mapped, writable, and without Rust references to them.
pub(crate) unsafe fn preadv(file: &File, iov: &[IoVec], offset: u64) -> io::Result<usize> {
    let pieces = iov.as_ptr().cast::<libc::iovec>();
    // SAFETY: `IoVec` is laid out as `struct iovec`; the pieces are by contract lent to the kernel.
    count(unsafe { libc::preadv(file.as_raw_fd(), pieces, iov_len(iov), offset as i64) })
}

/// `pwritev` of at most [`IOV_MAX`] pieces.
///
/// # Safety
/// The pieces are lent to this call: mapped, and without mutable Rust references to them.
pub(crate) unsafe fn pwritev(file: &File, iov: &[IoVec], offset: u64) -> io::Result<usize> {
    let pieces = iov.as_ptr().cast::<libc::iovec>();
    // SAFETY: as above.
    count(unsafe { libc::pwritev(file.as_raw_fd(), pieces, iov_len(iov), offset as i64) })
}

/// `readv` from a socket of at most [`IOV_MAX`] pieces.
///
/// # Safety
/// As for [`preadv`].
pub(crate) unsafe fn readv(socket: BorrowedFd<'_>, iov: &[IoVec]) -> io::Result<usize> {
    let pieces = iov.as_ptr().cast::<libc::iovec>();
    // SAFETY: as above.
    count(unsafe { libc::readv(socket.as_raw_fd(), pieces, iov_len(iov)) })
}

/// `sendmsg` without SIGPIPE of at most [`IOV_MAX`] pieces.
///
/// # Safety
/// As for [`pwritev`].
pub(crate) unsafe fn sendv(socket: BorrowedFd<'_>, iov: &[IoVec]) -> io::Result<usize> {
    // SAFETY: all-zero is a valid `msghdr`.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = iov.as_ptr().cast::<libc::iovec>().cast_mut();
    message.msg_iovlen = iov_len(iov) as usize;
    // SAFETY: the kernel only reads the vector, and the pieces are by contract lent to it.
    count(unsafe { libc::sendmsg(socket.as_raw_fd(), &message, libc::MSG_NOSIGNAL) })
}

/// Fills the pieces from `bytes`; false when their lengths differ.
///
/// # Safety
/// As for [`preadv`].
pub(crate) unsafe fn scatter(bytes: &[u8], iov: &[IoVec]) -> bool {
    let mut rest = bytes;
    for piece in iov {
        if piece.len() > rest.len() {
            return false;
        }
        let (now, later) = rest.split_at(piece.len());
        for (i, chunk) in now.chunks(8).enumerate() {
            let at = piece.base().wrapping_add(i * 8);
            match <[u8; 8]>::try_from(chunk) {
                // SAFETY: within the piece, which is by contract writable; unaligned is allowed.
                Ok(word) => unsafe { at.cast::<[u8; 8]>().write_volatile(word) },
                Err(_) => {
                    for (j, byte) in chunk.iter().enumerate() {
                        // SAFETY: as above.
                        unsafe { at.wrapping_add(j).write_volatile(*byte) };
                    }
                }
            }
        }
        rest = later;
    }
    rest.is_empty()
}

/// Fills the pieces with zeros.
///
/// # Safety
/// As for [`preadv`].
pub(crate) unsafe fn zero(iov: &[IoVec]) {
    for piece in iov {
        // SAFETY: the whole piece is by contract mapped and writable, and has no references.
        unsafe { std::ptr::write_bytes(piece.base(), 0, piece.len()) };
    }
}

/// An entry that reads at most [`IOV_MAX`] pieces. It does nothing until it is pushed.
pub(crate) fn read_entry(file: u32, iov: &[IoVec], offset: u64) -> Entry {
    let (pieces, n) = (iov.as_ptr().cast(), iov_len(iov) as u32);
    let entry = opcode::Readv::new(types::Fixed(file), pieces, n);
    entry.offset(offset).build()
}

/// The same for a write; a `durable` one is complete when it is on the medium.
pub(crate) fn write_entry(file: u32, iov: &[IoVec], offset: u64, durable: bool) -> Entry {
    let (pieces, n) = (iov.as_ptr().cast(), iov_len(iov) as u32);
    let flags = if durable { libc::RWF_DSYNC } else { 0 };
    let entry = opcode::Writev::new(types::Fixed(file), pieces, n);
    entry.offset(offset).rw_flags(flags).build()
}

/// Queues an entry; false when the queue is full.
///
/// # Safety
/// What the entry refers to, the vector and its pieces, stays valid until the entry has completed.
pub(crate) unsafe fn push(ring: &mut IoUring, entry: &Entry) -> bool {
    // SAFETY: by contract.
    unsafe { ring.submission().push(entry).is_ok() }
}

mod ioctls {
    nix::ioctl_read!(size, 0x12, 114, libc::size_t);
    nix::ioctl_read_bad!(sector, nix::request_code_none!(0x12, 104), libc::c_int);
    nix::ioctl_read_bad!(physical, nix::request_code_none!(0x12, 123), libc::c_uint);
    nix::ioctl_read_bad!(readonly, nix::request_code_none!(0x12, 94), libc::c_int);
    nix::ioctl_write_ptr_bad!(discard, nix::request_code_none!(0x12, 119), [u64; 2]);
    nix::ioctl_write_ptr_bad!(secure, nix::request_code_none!(0x12, 125), [u64; 2]);
}

/// What a block device says of itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BlockDevice {
    /// Bytes.
    pub size: u64,
    /// Bytes of a logical sector.
    pub sector: u32,
    /// Bytes of a physical sector.
    pub physical: u32,
    /// Whether it cannot be written.
    pub readonly: bool,
    /// Whether it discards.
    pub discard: bool,
    /// Whether it can make unreadable what it discards.
    pub secure: bool,
    /// Major and minor number (`dev_t`).
    pub number: u64,
}

/// `BLKGETSIZE64`, `BLKSSZGET`, `BLKPBSZGET`, `BLKROGET`, and what it says to discards.
pub(crate) fn block_device(file: &File) -> io::Result<BlockDevice> {
    let (mut size, mut sector, mut physical, mut readonly) = (0, 0, 0, 0);
    let fd = file.as_raw_fd();
    // SAFETY: each writes one value of the pointed-to type.
    unsafe {
        ioctls::size(fd, &mut size)?;
        ioctls::sector(fd, &mut sector)?;
        ioctls::physical(fd, &mut physical)?;
        ioctls::readonly(fd, &mut readonly)?;
    }
    Ok(BlockDevice {
        size: size as u64,
        sector: sector as u32,
        physical,
        readonly: readonly != 0,
        discard: can_discard(file, false),
        secure: can_discard(file, true) && tells_secure(),
        number: file.metadata()?.rdev(),
    })
}

/// Asks for a discard of one byte, which no device does: Linux says `EOPNOTSUPP` for a device that
/// cannot discard (`blk_ioctl_discard`, `blk_ioctl_secure_erase`), and only then that this makes
/// no sense, or that the file is not open for writing.
fn can_discard(file: &File, secure: bool) -> bool {
    let answer = block_discard(file, 1, 1, secure);
    answer.is_err_and(|error| error.raw_os_error() == Some(libc::EINVAL))
}

/// Before 5.19 Linux looked at the range first, so that its answer says nothing.
fn tells_secure() -> bool {
    // SAFETY: all-zero is a valid `utsname`, and the call fills it.
    let name = unsafe {
        let mut name: libc::utsname = std::mem::zeroed();
        libc::uname(&mut name);
        name
    };
    let release = name.release.map(|c| c as u8);
    let mut numbers = release.split(|byte| !byte.is_ascii_digit());
    let mut number = || {
        std::str::from_utf8(numbers.next()?)
            .ok()?
            .parse::<u32>()
            .ok()
    };
    (number(), number()) >= (Some(5), Some(19))
}

/// `BLKDISCARD` or `BLKSECDISCARD`.
pub(crate) fn block_discard(file: &File, offset: u64, len: u64, secure: bool) -> io::Result<()> {
    let range = [offset, len];
    // SAFETY: both read two 64-bit values.
    unsafe {
        match secure {
            true => ioctls::secure(file.as_raw_fd(), &range)?,
            false => ioctls::discard(file.as_raw_fd(), &range)?,
        }
    };
    Ok(())
}

/// Alignment that direct I/O needs of addresses and of offsets and lengths (`STATX_DIOALIGN`);
/// `None` where the kernel does not tell.
pub(crate) fn direct_alignment(file: &File) -> Option<(u32, u32)> {
    // SAFETY: all-zero is a valid `statx`.
    let mut stat: libc::statx = unsafe { std::mem::zeroed() };
    let (flags, mask) = (libc::AT_EMPTY_PATH, libc::STATX_DIOALIGN);
    // SAFETY: the path is a C string, `stat` a whole structure.
    let rc = unsafe { libc::statx(file.as_raw_fd(), c"".as_ptr(), flags, mask, &mut stat) };
    let told = rc == 0 && stat.stx_mask & libc::STATX_DIOALIGN != 0;
    told.then_some((stat.stx_dio_mem_align, stat.stx_dio_offset_align))
}

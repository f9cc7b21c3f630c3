//! The system calls that touch guest memory, and tap's ioctls. All `unsafe` of the crate but the
//! methods of [`Link`](crate::Link) themselves is here.
#![allow(unsafe_code)]

use std::io;
use std::mem::offset_of;
use std::os::fd::{AsRawFd, BorrowedFd};

use pv_ring::IoVec;

// `IoVec` promises to be a `struct iovec`; so slices of it can be handed on.
const _: () = assert!(size_of::<IoVec>() == size_of::<libc::iovec>());
const _: () = assert!(align_of::<IoVec>() == align_of::<libc::iovec>());
const _: () = assert!(offset_of!(libc::iovec, iov_base) == 0);

/// How a descriptor is written and read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    /// A character device: `readv`, `writev`. It must not block by its own setting.
    Device,
    /// A socket: `recvmsg`, `sendmsg`, which can be told not to wait or to raise SIGPIPE.
    Socket,
}

/// Bytes written.
///
/// # Safety
/// The pieces are mapped until this returns, and no Rust reference to them is used meanwhile.
pub(crate) unsafe fn write(
    fd: BorrowedFd<'_>,
    transport: Transport,
    pieces: &[IoVec],
) -> io::Result<usize> {
    restarted(|| match transport {
        // SAFETY: `pieces` has the layout asserted above and its length; what they point to is
        // mapped (the caller's word), and only read.
        Transport::Device => unsafe {
            libc::writev(
                fd.as_raw_fd(),
                pieces.as_ptr().cast(),
                pieces.len() as libc::c_int,
            )
        },
        Transport::Socket => {
            let header = message(pieces);
            // SAFETY: `header` names `pieces` only, for which the same holds.
            unsafe {
                libc::sendmsg(
                    fd.as_raw_fd(),
                    &raw const header,
                    libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL,
                )
            }
        }
    })
}

/// Bytes read.
///
/// # Safety
/// As for [`write`], and the pieces may be written.
pub(crate) unsafe fn read(
    fd: BorrowedFd<'_>,
    transport: Transport,
    pieces: &[IoVec],
) -> io::Result<usize> {
    restarted(|| match transport {
        // SAFETY: as in `write`; that they may be written is the caller's word.
        Transport::Device => unsafe {
            libc::readv(
                fd.as_raw_fd(),
                pieces.as_ptr().cast(),
                pieces.len() as libc::c_int,
            )
        },
        Transport::Socket => {
            let mut header = message(pieces);
            // SAFETY: `header` names `pieces` only, for which the same holds; there is no room
            // for descriptors, so none is received.
            unsafe { libc::recvmsg(fd.as_raw_fd(), &raw mut header, libc::MSG_DONTWAIT) }
        }
    })
}

fn message(pieces: &[IoVec]) -> libc::msghdr {
    // SAFETY: all zero is a `struct msghdr` without address, data or control.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = pieces.as_ptr().cast_mut().cast();
    header.msg_iovlen = pieces.len() as _;
    header
}

/// Calls again after a signal.
fn restarted(mut call: impl FnMut() -> isize) -> io::Result<usize> {
    loop {
        if let Ok(count) = usize::try_from(call()) {
            return Ok(count);
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// Bytes of all pieces.
pub(crate) fn total(pieces: &[IoVec]) -> usize {
    pieces
        .iter()
        .fold(0, |sum, piece| sum.saturating_add(piece.len()))
}

/// Copies `bytes` into the pieces, in order.
///
/// # Safety
/// The pieces are mapped, may be written, and no Rust reference to them exists.
///
/// # Panics
/// They are too small.
pub(crate) unsafe fn scatter(bytes: &[u8], pieces: &[IoVec]) {
    let mut rest = bytes;
    for piece in pieces {
        let (now, later) = rest.split_at(piece.len().min(rest.len()));
        // SAFETY: `now` is this process's own memory, apart from the piece, and no longer than it.
        // The guest may write there at the same time, which changes what it finds, nothing here.
        unsafe {
            piece
                .base()
                .copy_from_nonoverlapping(now.as_ptr(), now.len())
        };
        rest = later;
    }
    assert!(rest.is_empty(), "the room was checked before");
}

/// Appends to `bytes` what the pieces hold behind their first `skip` bytes.
///
/// # Safety
/// The pieces are mapped and no Rust reference to them exists.
pub(crate) unsafe fn gather(bytes: &mut Vec<u8>, pieces: &[IoVec], mut skip: usize) {
    for piece in pieces {
        let passed = skip.min(piece.len());
        skip -= passed;
        let count = piece.len() - passed;
        bytes.reserve(count);
        // SAFETY: the source is the piece behind `passed`; room for `count` bytes was reserved
        // behind the vector's length, and they are written before they become part of it.
        unsafe {
            let source = piece.base().add(passed);
            source.copy_to_nonoverlapping(bytes.as_mut_ptr().add(bytes.len()), count);
            bytes.set_len(bytes.len() + count);
        }
    }
}

/// The ioctls of tap devices (`linux/if_tun.h`).
pub(crate) mod tun {
    use std::os::fd::{AsRawFd, BorrowedFd};

    use nix::Result;

    mod raw {
        // The C library's request numbers: TUNSETIFF and TUNSETOFFLOAD say "int" and mean a
        // pointer and a number.
        nix::ioctl_write_ptr_bad!(set_iff, libc::TUNSETIFF, libc::ifreq);
        nix::ioctl_read_bad!(get_iff, libc::TUNGETIFF, libc::ifreq);
        nix::ioctl_write_int_bad!(set_offload, libc::TUNSETOFFLOAD);
        nix::ioctl_write_ptr_bad!(set_queue, libc::TUNSETQUEUE, libc::ifreq);
        nix::ioctl_write_ptr_bad!(set_vnet_hdr_sz, libc::TUNSETVNETHDRSZ, libc::c_int);
    }

    fn empty() -> libc::ifreq {
        // SAFETY: all zero is a `struct ifreq` with an empty name.
        unsafe { std::mem::zeroed() }
    }

    /// Attaches the descriptor to an interface, which is made if it is missing.
    pub(crate) fn attach(fd: BorrowedFd<'_>, name: &str, flags: libc::c_int) -> Result<()> {
        let mut request = empty();
        // The last byte stays zero; names are checked before.
        for (to, from) in request.ifr_name[..libc::IFNAMSIZ - 1]
            .iter_mut()
            .zip(name.bytes())
        {
            *to = from as libc::c_char;
        }
        request.ifr_ifru.ifru_flags = flags as libc::c_short;
        // SAFETY: the kernel reads and writes a `struct ifreq`, which this is.
        unsafe { raw::set_iff(fd.as_raw_fd(), &raw const request) }.map(drop)
    }

    /// Name and flags of the interface the descriptor is attached to.
    pub(crate) fn attached(fd: BorrowedFd<'_>) -> Result<(String, libc::c_int)> {
        let mut request = empty();
        // SAFETY: the kernel writes a `struct ifreq`, which this is.
        unsafe { raw::get_iff(fd.as_raw_fd(), &raw mut request) }?;
        let name = request.ifr_name.iter().take_while(|c| **c != 0);
        let name: Vec<u8> = name.map(|c| *c as u8).collect();
        // SAFETY: the kernel has written this member, and any number is one.
        let flags = unsafe { request.ifr_ifru.ifru_flags };
        let name = String::from_utf8_lossy(&name).into_owned();
        Ok((name, libc::c_int::from(flags)))
    }

    /// Attaches the descriptor to the interface whose queue it is, or detaches it for a while.
    pub(crate) fn set_queue(fd: BorrowedFd<'_>, attached: bool) -> Result<()> {
        let mut request = empty();
        let flag = match attached {
            true => libc::IFF_ATTACH_QUEUE,
            false => libc::IFF_DETACH_QUEUE,
        };
        request.ifr_ifru.ifru_flags = flag as libc::c_short;
        // SAFETY: the kernel reads a `struct ifreq`, which this is.
        unsafe { raw::set_queue(fd.as_raw_fd(), &raw const request) }.map(drop)
    }

    /// Sets what the device gives to this side: `TUN_F_...`.
    pub(crate) fn offload(fd: BorrowedFd<'_>, flags: libc::c_uint) -> Result<()> {
        // SAFETY: the argument is a number.
        unsafe { raw::set_offload(fd.as_raw_fd(), flags as libc::c_int) }.map(drop)
    }

    /// Sets how many bytes precede each frame.
    pub(crate) fn set_header(fd: BorrowedFd<'_>, bytes: usize) -> Result<()> {
        let bytes = bytes as libc::c_int;
        // SAFETY: the kernel reads an `int`, which this is.
        unsafe { raw::set_vnet_hdr_sz(fd.as_raw_fd(), &raw const bytes) }.map(drop)
    }
}

/// A copy of a descriptor known by its number, closed on exec.
pub(crate) fn duplicate(number: i32) -> nix::Result<std::os::fd::OwnedFd> {
    if number < 0 {
        return Err(nix::errno::Errno::EBADF);
    }
    // SAFETY: it is borrowed for this call only, and not -1; if it is not open, the call says so.
    let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
    let copy = nix::fcntl::fcntl(borrowed, nix::fcntl::F_DUPFD_CLOEXEC(3))?;
    // SAFETY: it was just made and nobody else knows it.
    Ok(unsafe { std::os::fd::FromRawFd::from_raw_fd(copy) })
}

/// A descriptor that is readable when a child has ended.
pub(crate) fn pidfd(pid: u32) -> io::Result<std::os::fd::OwnedFd> {
    // SAFETY: two numbers.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it was just made, closed on exec, and nobody else knows it.
    Ok(unsafe { std::os::fd::FromRawFd::from_raw_fd(fd as i32) })
}

/// Lets a child have a descriptor that is otherwise closed on exec.
pub(crate) fn inherit(command: &mut std::process::Command, fd: i32) {
    use std::os::unix::process::CommandExt;
    let keep = move || {
        // SAFETY: numbers only; the call is safe after fork.
        match unsafe { libc::fcntl(fd, libc::F_SETFD, 0) } {
            -1 => Err(io::Error::last_os_error()),
            _ => Ok(()),
        }
    };
    // SAFETY: the closure makes one system call and touches no memory of others.
    unsafe { command.pre_exec(keep) };
}

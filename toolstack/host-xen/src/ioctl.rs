//! The `ioctl` requests of Xen's drivers, typed: what a request reads and writes is its argument.
//!
//! Numbers and layouts: Linux `include/uapi/xen/{gntdev,gntalloc,evtchn,privcmd}.h`.
#![allow(unsafe_code)]

use std::ffi::{c_ulong, c_void};
use std::io;
use std::mem::{offset_of, size_of};
use std::os::fd::{AsFd, AsRawFd};

/// `_IOC(_IOC_NONE, group, number, size)` of `asm-generic/ioctl.h`.
pub(crate) const fn request(group: u8, number: u8, size: usize) -> c_ulong {
    (size as c_ulong) << 16 | (group as c_ulong) << 8 | number as c_ulong
}

/// The argument of one kind of request.
///
/// # Safety
/// The request reads and writes nothing but the memory at [`as_mut_ptr`](Self::as_mut_ptr), which
/// belongs to the argument and is as large as the request (and a count in the argument itself)
/// tells; it follows no pointer in it.
pub(crate) unsafe trait Argument {
    /// The request.
    const REQUEST: c_ulong;

    /// What the driver reads and writes.
    fn as_mut_ptr(&mut self) -> *mut c_void;
}

/// Makes a request; what it returned, which is never negative.
pub(crate) fn call<A: Argument>(device: &impl AsFd, argument: &mut A) -> io::Result<i32> {
    let fd = device.as_fd().as_raw_fd();
    // SAFETY: the descriptor is open; the request accesses only the argument, by the contract of
    // `Argument`, and that is borrowed for the call.
    let result = unsafe { libc::ioctl(fd, A::REQUEST, argument.as_mut_ptr()) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(result)
}

/// Requests with an argument of fixed size.
macro_rules! requests {
    ($($name:ident = $group:literal $number:literal, $size:literal;)*) => {$(
        const _: () = assert!(size_of::<$name>() == $size);

        // SAFETY: the request's size is the structure's, which holds numbers only.
        unsafe impl Argument for $name {
            const REQUEST: c_ulong = request($group, $number, $size);

            fn as_mut_ptr(&mut self) -> *mut c_void {
                (self as *mut Self).cast()
            }
        }
    )*};
}

requests! {
    UnmapGrantRef = b'G' 1, 16;
    SetMaxGrants = b'G' 3, 4;
    UnmapNotify = b'G' 7, 16;
    DeallocGref = b'G' 6, 16;
    BindVirq = b'E' 0, 4;
    BindInterdomain = b'E' 1, 8;
    BindUnboundPort = b'E' 2, 4;
    Notify = b'E' 4, 4;
}

/// `struct ioctl_gntdev_unmap_grant_ref`.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct UnmapGrantRef {
    pub index: u64,
    pub count: u32,
    pub pad: u32,
}

/// `struct ioctl_gntdev_set_max_grants`.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct SetMaxGrants {
    pub count: u32,
}

/// `struct ioctl_gntdev_unmap_notify`, `struct ioctl_gntalloc_unmap_notify`.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct UnmapNotify {
    /// Offset for `mmap` of the byte to clear, or of any in the page.
    pub index: u64,
    /// `UNMAP_NOTIFY_*`.
    pub action: u32,
    pub event_channel_port: u32,
}

/// Set a byte to zero.
pub(crate) const UNMAP_NOTIFY_CLEAR_BYTE: u32 = 1;
/// Notify an event channel.
pub(crate) const UNMAP_NOTIFY_SEND_EVENT: u32 = 2;

/// `struct ioctl_gntalloc_dealloc_gref`.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct DeallocGref {
    pub index: u64,
    pub count: u32,
    pub pad: u32,
}

/// `struct ioctl_evtchn_bind_virq`.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct BindVirq {
    pub virq: u32,
}

/// `struct ioctl_evtchn_bind_interdomain`.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct BindInterdomain {
    pub remote_domain: u32,
    pub remote_port: u32,
}

/// `struct ioctl_evtchn_bind_unbound_port`.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct BindUnboundPort {
    pub remote_domain: u32,
}

/// `struct ioctl_evtchn_notify`.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Notify {
    pub port: u32,
}

/// `struct ioctl_gntdev_grant_ref`.
#[repr(C)]
struct GrantRefEntry {
    domid: u32,
    gref: u32,
}

/// `struct ioctl_gntdev_map_grant_ref` up to its array.
#[repr(C)]
struct MapGrantRefHead {
    count: u32,
    pad: u32,
    index: u64,
}

const _: () = {
    assert!(size_of::<MapGrantRefHead>() == 16 && offset_of!(MapGrantRefHead, index) == 8);
    assert!(size_of::<GrantRefEntry>() == 8 && offset_of!(GrantRefEntry, gref) == 4);
    assert!(cfg!(target_endian = "little"));
};

/// `struct ioctl_gntdev_map_grant_ref` with all its grants, in 8-byte words: the head takes two, a
/// grant one.
pub(crate) struct MapGrantRef(Vec<u64>);

impl MapGrantRef {
    /// To map these grants of a domain.
    pub fn new(domid: u16, grefs: impl ExactSizeIterator<Item = u32>) -> Self {
        let mut words = Vec::with_capacity(2 + grefs.len());
        words.extend([0, 0]);
        words.extend(grefs.map(|gref| u64::from(domid) | u64::from(gref) << 32));
        // Of what was put in, whatever the iterator promised.
        words[0] = u64::from(words.len() as u32 - 2);
        Self(words)
    }

    /// Out: where to `mmap` them.
    pub fn index(&self) -> u64 {
        self.0[1]
    }
}

// SAFETY: the driver reads the head and as many entries as `count` says, which is how many words
// follow the head, and writes the head.
unsafe impl Argument for MapGrantRef {
    const REQUEST: c_ulong = request(
        b'G',
        0,
        size_of::<MapGrantRefHead>() + size_of::<GrantRefEntry>(),
    );

    fn as_mut_ptr(&mut self) -> *mut c_void {
        self.0.as_mut_ptr().cast()
    }
}

/// `struct ioctl_gntalloc_alloc_gref` up to its array.
#[repr(C)]
struct AllocGrefHead {
    domid: u16,
    flags: u16,
    count: u32,
    index: u64,
}

const _: () = assert!(size_of::<AllocGrefHead>() == 16 && offset_of!(AllocGrefHead, index) == 8);

/// The far domain may write.
pub(crate) const GNTALLOC_FLAG_WRITABLE: u16 = 1;

/// `struct ioctl_gntalloc_alloc_gref` with room for all grants, in 4-byte words: the head takes
/// four, a grant one. In 8-byte words it is kept, to be aligned.
pub(crate) struct AllocGref {
    words: Vec<u64>,
    count: u32,
}

impl AllocGref {
    /// To allocate `count` pages for a domain.
    pub fn new(domid: u16, flags: u16, count: u32) -> Self {
        let mut words = vec![0; 2 + (count as usize).div_ceil(2)];
        words[0] = u64::from(domid) | u64::from(flags) << 16 | u64::from(count) << 32;
        Self { words, count }
    }

    /// Out: where to `mmap` them.
    pub fn index(&self) -> u64 {
        self.words[1]
    }

    /// Out: one grant a page.
    pub fn grefs(&self) -> impl Iterator<Item = u32> {
        let pairs = self.words[2..].iter();
        pairs
            .flat_map(|pair| [*pair as u32, (*pair >> 32) as u32])
            .take(self.count as usize)
    }
}

// SAFETY: the driver reads and writes the head, and writes `count` grants behind it, for which
// there is room.
unsafe impl Argument for AllocGref {
    // The structure in the header ends with one grant and is padded to its alignment.
    const REQUEST: c_ulong = request(b'G', 5, size_of::<AllocGrefHead>() + 8);

    fn as_mut_ptr(&mut self) -> *mut c_void {
        self.words.as_mut_ptr().cast()
    }
}

#[cfg(test)]
#[path = "ioctl_test.rs"]
mod tests;

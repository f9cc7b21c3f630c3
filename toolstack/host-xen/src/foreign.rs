//! Another domain's memory in this process, for who builds or dumps it.
//!
//! Invariant: what is mapped is a [`Mapping`] of `/dev/xen/privcmd` made here, each of whose pages the
//! driver has filled. It is accessed by volatile copies only: the domain may write to it meanwhile.
//! Pages stay the domain's; a dead one stays a zombie until they are unmapped.
#![allow(unsafe_code)]

use std::ffi::{c_ulong, c_void};
use std::fs::File;
use std::io;
use std::mem::size_of;
use std::num::NonZeroUsize;
use std::sync::Arc;

use nix::errno::Errno;
use pv_ring::{HostPage, SharedPage};
use xen_sys::DomId;
use xen_sys::addr::PAGE_SIZE;

use crate::ioctl::{self, Argument};
use crate::mapping::Mapping;

/// `struct privcmd_mmapbatch_v2`.
#[repr(C)]
struct MmapBatchV2 {
    num: u32,
    dom: u16,
    addr: u64,
    arr: *const u64,
    err: *mut i32,
}

/// `struct privcmd_mmap_resource`.
#[repr(C)]
struct MmapResource {
    dom: u16,
    kind: u32,
    id: u32,
    idx: u32,
    num: u64,
    addr: u64,
}

const _: () = assert!(size_of::<MmapBatchV2>() == 32 && size_of::<MmapResource>() == 32);

pub(crate) const IOCTL_PRIVCMD_MMAPBATCH_V2: c_ulong =
    ioctl::request(b'P', 4, size_of::<MmapBatchV2>());
pub(crate) const IOCTL_PRIVCMD_MMAP_RESOURCE: c_ulong =
    ioctl::request(b'P', 7, size_of::<MmapResource>());

/// Frames to be mapped at an address.
struct Batch<'a> {
    raw: MmapBatchV2,
    /// What `raw` points to.
    _frames: &'a [u64],
    _errors: &'a mut [i32],
}

// SAFETY: the driver reads `num` frame numbers and writes as many errors, for which the two slices,
// borrowed as long as this lives, have room (`ForeignPages::map`); it follows no other pointer. That
// it changes the mapping at `addr` is the concern of the same function.
unsafe impl Argument for Batch<'_> {
    const REQUEST: c_ulong = IOCTL_PRIVCMD_MMAPBATCH_V2;

    fn as_mut_ptr(&mut self) -> *mut c_void {
        (&raw mut self.raw).cast()
    }
}

// SAFETY: the driver reads and writes the structure, which holds numbers only. That it changes the
// mapping at `addr` is the concern of `ForeignPages::resource`.
unsafe impl Argument for MmapResource {
    const REQUEST: c_ulong = IOCTL_PRIVCMD_MMAP_RESOURCE;

    fn as_mut_ptr(&mut self) -> *mut c_void {
        (self as *mut Self).cast()
    }
}

/// Pages of another domain as one run, unmapped when dropped.
#[derive(Debug)]
pub struct ForeignPages(Mapping);

impl ForeignPages {
    /// Maps frames of a domain: guest frames, of a PV domain machine frames. Xen lets nobody else map
    /// for writing what a PV domain has as a page table or descriptor table (`EBUSY`).
    ///
    /// # Errors
    /// `EINVAL` or the like when the domain has no such frame; then nothing is mapped.
    pub(crate) fn map(
        privcmd: &Arc<File>,
        domid: DomId,
        frames: &[u64],
        writable: bool,
    ) -> io::Result<Self> {
        let (mapping, errors) = try_map(privcmd, domid, frames, writable)?;
        match errors.iter().find(|error| **error != 0) {
            Some(error) => Err(Errno::from_raw(-error).into()),
            None => Ok(Self(mapping)),
        }
    }

    /// Which of these frames could be mapped for reading.
    ///
    /// # Errors
    /// The driver's.
    pub(crate) fn present(
        privcmd: &Arc<File>,
        domid: DomId,
        frames: &[u64],
    ) -> io::Result<Vec<u64>> {
        let (_unused, errors) = try_map(privcmd, domid, frames, false)?;
        let both = frames.iter().zip(errors);
        Ok(both
            .filter(|(_, error)| *error == 0)
            .map(|(frame, _)| *frame)
            .collect())
    }

    /// Maps a resource of a domain: `XENMEM_resource_*`, such as its grant table.
    ///
    /// # Errors
    /// The hypervisor's.
    pub(crate) fn resource(
        privcmd: &Arc<File>,
        domid: DomId,
        kind: u16,
        id: u32,
        frames: usize,
    ) -> io::Result<Self> {
        let mapping = room(privcmd, frames, true)?;
        let mut argument = MmapResource {
            dom: domid.0,
            kind: kind.into(),
            id,
            idx: 0,
            num: frames as u64,
            addr: mapping.as_ptr().as_ptr().addr() as u64,
        };
        // The range is the mapping just made, `num` pages long, and nobody else knows of it.
        ioctl::call(&**privcmd, &mut argument)?;
        Ok(Self(mapping))
    }
}

/// Maps what can be mapped, and tells of each frame why it could not: 0 or a negative error. Pages of
/// those that could not must not be accessed.
fn try_map(
    privcmd: &Arc<File>,
    domid: DomId,
    frames: &[u64],
    writable: bool,
) -> io::Result<(Mapping, Vec<i32>)> {
    let mapping = room(privcmd, frames.len(), writable)?;
    let mut errors = vec![0; frames.len()];
    let num = frames.len().try_into();
    let mut batch = Batch {
        raw: MmapBatchV2 {
            num: num.map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?,
            dom: domid.0,
            addr: mapping.as_ptr().as_ptr().addr() as u64,
            arr: frames.as_ptr(),
            err: errors.as_mut_ptr(),
        },
        _frames: frames,
        _errors: &mut errors,
    };
    // The range is the mapping just made, `num` pages long, and nobody else knows of it.
    match ioctl::call(&**privcmd, &mut batch) {
        // At least one frame is not there: its error tells.
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
        other => drop(other?),
    }
    Ok((mapping, errors))
}

/// Address space for so many pages, with nothing in it yet: until the driver has filled it, an access
/// would fault, so it is not handed out before.
fn room(privcmd: &Arc<File>, pages: usize, writable: bool) -> io::Result<Mapping> {
    let len = NonZeroUsize::new(pages * PAGE_SIZE)
        .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    Mapping::new(&**privcmd, 0, len, writable)
}

impl SharedPage for ForeignPages {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn load_u32(&self, offset: usize) -> u32 {
        self.0.load_u32(offset)
    }

    fn store_u32(&self, offset: usize, value: u32) {
        self.0.store_u32(offset, value);
    }

    fn read(&self, offset: usize, to: &mut [u8]) {
        self.0.read(offset, to);
    }

    fn write(&self, offset: usize, from: &[u8]) {
        self.0.write(offset, from);
    }
}

//! What a virtual disk is kept in: files, block devices, images, network block devices.
//!
//! Begin with [`Disk`]. A back end's queue takes a [`Queue`] of the disk, gives it [`Request`]s whose
//! buffers are guest memory, and gets each back as a [`Done`]. Nothing here copies data that the
//! medium can take from where it is.
//!
//! - [`MediumSpec`] says what is wanted, an [`Opener`] has the files: [`Paths`] opens them,
//!   [`FileMap`] has them from outside of a sandbox, [`needed`] tells which those are, [`syscalls`]
//!   what the sandbox has to let through.
//! - Raw files and block devices: io_uring, past the page cache if asked, threads where there is no
//!   io_uring.
//! - qcow2: read and written; data straight between its place in the file and lent memory, metadata
//!   in an order that survives power cuts. VHD and VMDK: read (fixed VHD also written).
//! - Network block devices: a client.
//! - [`Disk::null`] for measurements; [`Blocking`] and [`Memory`] for tools and tests.
//!
//! Images and servers are not trusted: what they say is checked before it is believed, and an image
//! that is damaged is refused.

#![deny(unsafe_code)]

mod blocking;
mod disk;
mod engine;
mod error;
mod file;
mod image;
mod memory;
mod nbd;
mod needed;
mod null;
mod opener;
mod raw;
mod slots;
mod spec;
mod sys;
pub mod syscalls;

use std::io;
use std::os::fd::BorrowedFd;

use pv_ring::IoBuffers;

pub use blocking::Blocking;
pub use disk::{Discard, Disk, DiskInfo};
pub use error::MediumError;
pub use memory::Memory;
pub use nbd::NbdUri;
pub use needed::{Needed, needed};
pub use opener::{Connect, FileMap, Opener, Paths};
pub use spec::{Format, MediumSpec};

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// From the medium into the buffers.
    Read,
    /// From the buffers to the medium.
    Write,
    /// Makes all that was answered before it durable.
    Flush,
    /// The content of the range does not matter any more; `secure` means that it must become
    /// unreadable.
    Discard {
        /// Not merely unneeded.
        secure: bool,
    },
}

/// One operation on a disk. The range was checked against the disk's size by whoever made it; a
/// medium checks again.
#[derive(Debug)]
pub struct Request<B> {
    /// Comes back with the answer.
    pub tag: u64,
    /// What to do.
    pub operation: Operation,
    /// First byte on the disk.
    pub offset: u64,
    /// Bytes; as many as the buffers of a read or write have.
    pub len: u64,
    /// Memory to read to or write from.
    pub buffers: B,
}

/// An answered request.
#[derive(Debug)]
pub struct Done<B> {
    /// Of the request.
    pub tag: u64,
    /// How it went.
    pub result: io::Result<()>,
    /// The request's, given back.
    pub buffers: B,
}

/// One thread's access to a disk.
pub trait Queue<B: IoBuffers>: Send {
    /// Takes a request. It may wait for [`kick`](Self::kick); it never blocks, and a failure is an
    /// answer.
    fn submit(&mut self, request: Request<B>);

    /// Starts what was submitted.
    fn kick(&mut self);

    /// Moves what has been answered to `done`; does not wait.
    fn completed(&mut self, done: &mut Vec<Done<B>>);

    /// Readable when there may be answers. `completed` clears it when there are, else
    /// [`clear`](Self::clear) has to.
    fn event(&self) -> BorrowedFd<'_>;

    /// Clears the event. Called after waiting for it and before `completed`: it may tell of what was
    /// taken already.
    fn clear(&mut self);
}

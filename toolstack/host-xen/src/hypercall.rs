//! Hypercalls from this process: `/dev/xen/privcmd`, with argument memory from `/dev/xen/hypercall`.
//!
//! The hypervisor reads and writes a caller's memory by virtual address and does not take page
//! faults: a page that was never touched, or is just being copied after a fork, makes a call fail at
//! random. [`Buffer`]s are pages of the kernel that stay mapped, and the only memory a call may name.

use std::ffi::c_ulong;
use std::fs::File;
use std::io;
use std::mem::{offset_of, size_of};
use std::num::NonZeroUsize;
use std::sync::Arc;

use pv_ring::{HostPage, SharedPage};
use xen_sys::GuestHandle;
use xen_sys::addr::PAGE_SIZE;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::device::{self, OpenError};
use crate::ioctl::{self, Argument};
use crate::mapping::Mapping;

pub(crate) const IOCTL_PRIVCMD_HYPERCALL: c_ulong =
    ioctl::request(b'P', 0, size_of::<PrivcmdHypercall>());

/// `struct privcmd_hypercall`.
#[derive(Debug)]
#[repr(C)]
struct PrivcmdHypercall {
    op: u64,
    arg: [u64; 5],
}

const _: () =
    assert!(size_of::<PrivcmdHypercall>() == 48 && offset_of!(PrivcmdHypercall, arg) == 8);

/// What a hypercall is given.
#[derive(Clone, Copy, Debug)]
pub enum Arg<'a> {
    /// A number.
    Value(u64),
    /// The address of memory that the hypervisor reads and writes.
    Buffer(&'a Buffer),
}

/// The way to the hypervisor.
#[derive(Clone, Debug)]
pub struct Privcmd {
    calls: Arc<File>,
    memory: Arc<File>,
}

impl Privcmd {
    /// Opens both devices. Kernels before 4.18 have no `/dev/xen/hypercall` and are refused.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open() -> Result<Self, OpenError> {
        Ok(Self {
            calls: Arc::new(device::open("/dev/xen/privcmd", "xen-privcmd", 0)?),
            memory: Arc::new(device::open("/dev/xen/hypercall", "xen-privcmd", 0)?),
        })
    }

    /// `/dev/xen/privcmd`, for what else it can do.
    pub(crate) fn device(&self) -> &Arc<File> {
        &self.calls
    }

    /// Memory for arguments, `len` bytes or more, all zero.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn buffer(&self, len: usize) -> io::Result<Buffer> {
        let len = len.max(1).next_multiple_of(PAGE_SIZE);
        let len =
            NonZeroUsize::new(len).ok_or_else(|| io::Error::from(io::ErrorKind::OutOfMemory))?;
        Mapping::new(&*self.memory, 0, len, true).map(Buffer)
    }

    /// Memory that holds `value`.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn buffer_of<T: IntoBytes + Immutable>(&self, value: &T) -> io::Result<Buffer> {
        let buffer = self.buffer(size_of::<T>())?;
        buffer.store(0, value);
        Ok(buffer)
    }

    /// Memory that holds `values`, or room for so many.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn array_of<T: IntoBytes + Immutable>(&self, values: &[T]) -> io::Result<Buffer> {
        let buffer = self.buffer(size_of_val(values))?;
        buffer.0.write(0, values.as_bytes());
        Ok(buffer)
    }

    /// Makes a hypercall, `__HYPERVISOR_*`, with up to five arguments; what it returned, never
    /// negative.
    ///
    /// # Safety
    /// The call accesses no memory of this process but the buffers in `args`, and as much of each as
    /// it is long: that holds for numbers among `args` and for handles inside the buffers as well.
    /// It leaves this process's mappings and this domain's kernel alone.
    ///
    /// # Errors
    /// The hypervisor's, as a number of Linux's; `EPERM` also from the driver.
    ///
    /// # Panics
    /// With more than five arguments.
    #[allow(unsafe_code)]
    pub unsafe fn hypercall(&self, op: u64, args: &[Arg<'_>]) -> io::Result<u64> {
        let mut call = PrivcmdHypercall { op, arg: [0; 5] };
        for (to, from) in call.arg[..args.len()].iter_mut().zip(args) {
            *to = match from {
                Arg::Value(value) => *value,
                Arg::Buffer(buffer) => buffer.address(),
            };
        }
        ioctl::call(&*self.calls, &mut call).map(|result| result as u64)
    }
}

// SAFETY: the driver reads the structure. What the hypervisor does with the numbers in it is the
// concern of `hypercall`, the only one to make such a request.
#[allow(unsafe_code)]
unsafe impl Argument for PrivcmdHypercall {
    const REQUEST: c_ulong = IOCTL_PRIVCMD_HYPERCALL;

    fn as_mut_ptr(&mut self) -> *mut std::ffi::c_void {
        (self as *mut Self).cast()
    }
}

/// Memory the hypervisor may access: whole pages that stay where they are.
#[derive(Debug)]
pub struct Buffer(Mapping);

impl Buffer {
    /// Its address, for an argument or a handle inside another buffer.
    pub fn address(&self) -> u64 {
        self.0.as_ptr().as_ptr().addr() as u64
    }

    /// Bytes.
    #[allow(clippy::len_without_is_empty)] // never empty
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Puts a value in.
    ///
    /// # Panics
    /// It is out of range.
    pub fn store<T: IntoBytes + Immutable>(&self, offset: usize, value: &T) {
        self.0.write(offset, value.as_bytes());
    }

    /// Its address as a handle, for a structure that goes to the hypervisor.
    pub fn handle(&self) -> GuestHandle {
        GuestHandle(self.address())
    }

    /// Takes `values.len()` values from the beginning out.
    ///
    /// # Panics
    /// They are out of range.
    pub fn load_array<T: FromBytes + IntoBytes>(&self, values: &mut [T]) {
        self.0.read(0, values.as_mut_bytes());
    }

    /// Takes a value out.
    ///
    /// # Panics
    /// It is out of range.
    pub fn load<T: FromBytes + IntoBytes>(&self, offset: usize) -> T {
        let mut value = T::new_zeroed();
        self.0.read(offset, value.as_mut_bytes());
        value
    }
}

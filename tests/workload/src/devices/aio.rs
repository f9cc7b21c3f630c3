//! Linux's asynchronous reads (`linux/aio_abi.h`), which the C library lacks.

use std::os::fd::RawFd;

use crate::{Context, Failure, ensure};

const IOCB_CMD_PREAD: u16 = 0;

/// `struct iocb`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
struct Iocb {
    data: u64,
    key: u32,
    rw_flags: u32,
    opcode: u16,
    reqprio: i16,
    fildes: u32,
    buf: u64,
    nbytes: u64,
    offset: i64,
    reserved2: u64,
    flags: u32,
    resfd: u32,
}

/// `struct io_event`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
struct IoEvent {
    data: u64,
    obj: u64,
    res: i64,
    res2: i64,
}

const _: () = assert!(size_of::<Iocb>() == 64 && size_of::<IoEvent>() == 32);

/// A context of the kernel for requests.
pub struct Queue {
    context: libc::c_ulong,
    depth: usize,
}

impl Queue {
    /// For up to `depth` requests at once.
    pub fn new(depth: usize) -> Result<Self, Failure> {
        let mut context: libc::c_ulong = 0;
        // SAFETY: the kernel writes the context's name there.
        let made = unsafe { libc::syscall(libc::SYS_io_setup, depth, &raw mut context) };
        ensure!(made == 0, "io_setup: {}", std::io::Error::last_os_error());
        Ok(Self { context, depth })
    }

    /// Fills each buffer from its offset: all submitted by one call, all awaited
    /// before the return.
    pub fn read<'a>(
        &mut self,
        file: RawFd,
        buffers: impl Iterator<Item = (&'a mut [u8], u64)>,
    ) -> Result<(), Failure> {
        let mut requests = Vec::with_capacity(self.depth);
        for (buffer, offset) in buffers {
            requests.push(Iocb {
                opcode: IOCB_CMD_PREAD,
                fildes: u32::try_from(file).context("descriptor")?,
                buf: buffer.as_mut_ptr().addr() as u64,
                nbytes: buffer.len() as u64,
                offset: i64::try_from(offset).context("offset")?,
                ..Iocb::default()
            });
        }
        let count = requests.len();
        ensure!(count <= self.depth, "{count} requests are too many");
        let mut pointers: Vec<*mut Iocb> = requests.iter_mut().map(|r| &raw mut *r).collect();
        let mut events = vec![IoEvent::default(); count];
        // SAFETY: the requests and the buffers they name are borrowed until
        // all are complete, below.
        let submitted = unsafe {
            libc::syscall(
                libc::SYS_io_submit,
                self.context,
                count,
                pointers.as_mut_ptr(),
            )
        };
        let Ok(submitted) = usize::try_from(submitted) else {
            return Err(format!("io_submit: {}", std::io::Error::last_os_error()));
        };
        // SAFETY: there is room for as many events as are awaited.
        let completed = unsafe {
            libc::syscall(
                libc::SYS_io_getevents,
                self.context,
                submitted,
                submitted,
                events.as_mut_ptr(),
                std::ptr::null::<libc::timespec>(),
            )
        };
        // Not all there means that the kernel may still write: nothing may go.
        assert_eq!(usize::try_from(completed), Ok(submitted), "io_getevents");
        ensure!(submitted == count, "{submitted} of {count} submitted");
        let whole = |event: &IoEvent| event.res == 4096;
        ensure!(events.iter().all(whole), "a read failed: {events:?}");
        Ok(())
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: no request is under way outside of `read`.
        unsafe { libc::syscall(libc::SYS_io_destroy, self.context) };
    }
}

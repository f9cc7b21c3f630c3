//! A file or block device that is part of a medium.
//!
//! With direct I/O it is open twice. A request whose range is made of whole pages and whose buffers
//! are aligned goes past the page cache, every other one through it. As no page is then shared by a
//! direct and a buffered request unless the requests overlap, the two views stay coherent.

mod cache;
mod lock;
mod pieces;
#[cfg(test)]
pub(crate) mod record;

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, FileTypeExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{FallocateFlags, FcntlArg, OFlag, fallocate, fcntl};

use crate::sys::{self, BlockDevice};
use crate::{MediumError, Opener};

pub(crate) use pieces::{Pieces, within};

/// What no request smaller than is sent past the page cache.
const PAGE: u32 = 4096;

#[derive(Debug)]
struct Direct {
    file: File,
    memory: u32,
    range: u32,
}

/// A file or block device that is part of a medium.
#[derive(Debug)]
pub(crate) struct MediaFile {
    path: PathBuf,
    buffered: File,
    direct: Option<Direct>,
    block: Option<BlockDevice>,
    /// Nothing between this process and the medium holds a direct write back.
    uncached: bool,
    /// What goes through the page cache is made durable at once.
    durable_writes: bool,
    writable: bool,
    /// What holds the locks against other users: a description that no ring knows, since a ring
    /// keeps its files open for a while after the process has ended. Whoever comes next waits for
    /// that ([`lock::await_transfers`]), but is not told of somebody who is no more.
    lock: Option<File>,
    #[cfg(test)]
    pub(crate) record: Option<record::Record>,
}

/// How a file is to be opened.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mode {
    pub write: bool,
    pub direct: bool,
    /// Direct if it is a block device.
    pub direct_devices: bool,
    pub lock: bool,
}

impl MediaFile {
    /// Opens and locks it.
    pub(crate) fn open(path: &Path, mode: Mode, opener: &dyn Opener) -> Result<Self, MediumError> {
        let verb = match mode.write {
            true => "open for writing",
            false => "open",
        };
        let error = MediumError::file;
        let buffered = opener.open(path, mode.write).map_err(error(verb, path))?;
        let kind = buffered.metadata().map_err(error("examine", path))?;
        let kind = kind.file_type();
        let block = match kind.is_block_device() {
            true => Some(sys::block_device(&buffered).map_err(error("ask for the size of", path))?),
            false if kind.is_file() => None,
            false => {
                let why = io::Error::other("it is neither a file nor a block device");
                return Err(error("use as a disk", path)(why));
            }
        };
        if mode.write && block.is_some_and(|b| b.readonly) {
            let why = io::Error::from(io::ErrorKind::ReadOnlyFilesystem);
            return Err(error(
                "write to (give the disk the access mode \"r\")",
                path,
            )(why));
        }
        waits(&buffered).map_err(error("set flags of", path))?;
        let lock = match mode.lock {
            true => Some(Self::lock(path, mode.write, opener)?),
            false => None,
        };
        if mode.lock && mode.write {
            lock::await_transfers(&buffered).map_err(error("write to", path))?;
        }
        let direct = mode.direct || (mode.direct_devices && block.is_some());
        let direct = direct.then(|| Direct::open(path, mode.write, block, opener));
        let direct = direct.flatten();
        let uncached =
            direct.is_some() && block.is_some_and(|b| cache::is_absent(b.number, opener));
        Ok(Self {
            path: path.to_owned(),
            buffered,
            direct,
            uncached,
            durable_writes: false,
            block,
            writable: mode.write,
            lock,
            #[cfg(test)]
            record: None,
        })
    }

    fn lock(path: &Path, write: bool, opener: &dyn Opener) -> Result<File, MediumError> {
        let file = opener.open(path, false);
        let file = file.map_err(MediumError::file("open", path))?;
        match lock::take(&file, write).map_err(MediumError::file("lock", path))? {
            true => Ok(file),
            false => Err(MediumError::InUse {
                path: path.to_owned(),
                write,
            }),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn block(&self) -> Option<BlockDevice> {
        self.block
    }

    pub(crate) fn writable(&self) -> bool {
        self.writable
    }

    /// Makes every transfer to the file durable by the time it is answered, if that is so for direct
    /// ones anyhow; whether it is.
    pub(crate) fn make_writes_durable(&mut self) -> bool {
        self.durable_writes = self.uncached;
        self.durable_writes
    }

    /// As if it were a device without a cache.
    #[cfg(test)]
    pub(crate) fn pretend_uncached(&mut self) {
        self.uncached = true;
    }

    /// Whether a write through the page cache has to be synchronous.
    pub(crate) fn durable_writes(&self) -> bool {
        self.durable_writes
    }

    /// No request of this file goes past the page cache any more.
    pub(crate) fn buffer_all(&mut self) {
        self.direct = None;
    }

    /// Bytes, now.
    pub(crate) fn size(&self) -> io::Result<u64> {
        match self.block {
            Some(_) => Ok(sys::block_device(&self.buffered)?.size),
            None => Ok(self.buffered.metadata()?.len()),
        }
    }

    /// The descriptor that goes through the page cache.
    pub(crate) fn buffered(&self) -> &File {
        &self.buffered
    }

    /// The one that goes past it; the same where there is none.
    pub(crate) fn direct(&self) -> &File {
        self.direct.as_ref().map_or(&self.buffered, |d| &d.file)
    }

    /// Whether a transfer can go past the page cache.
    pub(crate) fn fits_direct(&self, pieces: &Pieces) -> bool {
        let Some(direct) = &self.direct else {
            return false;
        };
        let memory = u64::from(direct.memory);
        pieces.offset().is_multiple_of(u64::from(direct.range))
            && pieces.left().is_multiple_of(u64::from(direct.range))
            && pieces.iov().iter().all(|piece| {
                (piece.base().addr() as u64).is_multiple_of(memory)
                    && (piece.len() as u64).is_multiple_of(memory.max(512))
            })
    }

    /// Fills `to` from `offset`; the end of the file is an error.
    pub(crate) fn read_at(&self, to: &mut [u8], offset: u64) -> io::Result<()> {
        self.buffered.read_exact_at(to, offset)
    }

    /// Writes bytes of this process's own, through the page cache.
    pub(crate) fn write_at(&self, from: &[u8], offset: u64) -> io::Result<()> {
        #[cfg(test)]
        let _noted = self.record.as_ref().map(|r| r.write(offset, from));
        self.buffered.write_all_at(from, offset)
    }

    /// Transfers lent memory, whole.
    ///
    /// # Safety
    /// The pieces are lent to this call: mapped, writable, and without Rust references to them.
    #[allow(unsafe_code)]
    pub(crate) unsafe fn transfer(&self, write: bool, pieces: &mut Pieces) -> io::Result<()> {
        #[cfg(test)]
        let _noted = match (&self.record, write) {
            // SAFETY: lent to this call.
            (Some(r), true) => Some(r.write(pieces.offset(), &unsafe { pieces.copy() })),
            _ => None,
        };
        let mut direct = self.fits_direct(pieces);
        let mut cached = false;
        while pieces.left() > 0 {
            cached |= !direct;
            let file = if direct {
                self.direct()
            } else {
                &self.buffered
            };
            // SAFETY: by contract.
            let n = unsafe {
                match write {
                    true => sys::pwritev(file, pieces.iov(), pieces.offset()),
                    false => sys::preadv(file, pieces.iov(), pieces.offset()),
                }
            };
            match n {
                Ok(0) => return Err(end_of_file()),
                Ok(n) => pieces.advance(n),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if direct && e.raw_os_error() == Some(libc::EINVAL) => direct = false,
                Err(e) => return Err(e),
            }
            direct &= self.fits_direct(pieces);
        }
        match write && cached && self.durable_writes {
            true => self.buffered.sync_data(),
            false => Ok(()),
        }
    }

    /// `fdatasync`.
    pub(crate) fn sync(&self) -> io::Result<()> {
        #[cfg(test)]
        let _noted = self.record.as_ref().map(|r| r.sync());
        self.buffered.sync_data()
    }

    /// Sets the size of a file. A block device has no more room than it has.
    pub(crate) fn set_size(&self, size: u64) -> io::Result<()> {
        if self.block.is_some() {
            return Err(io::Error::from_raw_os_error(libc::ENOSPC));
        }
        #[cfg(test)]
        let _noted = self.record.as_ref().map(|r| r.size(size));
        self.buffered.set_len(size)
    }

    /// Gives a range back to the host. Afterwards it is zero, or, of a block device, anything.
    pub(crate) fn discard(&self, offset: u64, len: u64, secure: bool) -> io::Result<()> {
        #[cfg(test)]
        let _noted = self.record.as_ref().map(|r| r.punch(offset, len));
        match (self.block, secure) {
            (Some(_), secure) => sys::block_discard(&self.buffered, offset, len, secure),
            (None, false) => self.punch(offset, len),
            (None, true) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    fn punch(&self, offset: u64, len: u64) -> io::Result<()> {
        let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        Ok(fallocate(&self.buffered, flags, offset as i64, len as i64)?)
    }

    /// Whether the file system can make holes: tried where there is nothing.
    pub(crate) fn can_punch(&self) -> bool {
        let end = self.size().map_or(0, |size| size.next_multiple_of(4096));
        self.writable && self.punch(end, 4096).is_ok()
    }
}

impl Drop for MediaFile {
    fn drop(&mut self) {
        self.lock.iter().for_each(lock::release);
        if self.lock.is_some() {
            lock::release(&self.buffered);
        }
    }
}

/// The file was opened such that opening does not wait; transfers have to.
fn waits(file: &File) -> io::Result<()> {
    let flags = OFlag::from_bits_retain(fcntl(file, FcntlArg::F_GETFL)?);
    fcntl(file, FcntlArg::F_SETFL(flags - OFlag::O_NONBLOCK))?;
    Ok(())
}

/// The medium is shorter than it was.
pub(crate) fn end_of_file() -> io::Error {
    io::Error::from_raw_os_error(libc::EIO)
}

impl Direct {
    /// `None`, with a line in the log, where the file system cannot.
    fn open(
        path: &Path,
        write: bool,
        block: Option<BlockDevice>,
        opener: &dyn Opener,
    ) -> Option<Self> {
        let file = match opener
            .open_direct(path, write)
            .and_then(|f| waits(&f).map(|()| f))
        {
            Ok(file) => file,
            Err(error) => {
                tracing::info!(?path, %error, "No direct I/O: through the page cache");
                return None;
            }
        };
        let sector = block.map_or(512, |b| b.sector);
        let (memory, range) = match sys::direct_alignment(&file) {
            Some((0, _) | (_, 0)) => return None,
            Some(told) => told,
            None => (sector, sector),
        };
        let range = range.max(PAGE);
        Some(Self {
            file,
            memory,
            range,
        })
    }
}

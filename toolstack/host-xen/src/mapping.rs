//! Memory of a device mapped into this process.
//!
//! Invariant: `base..base + len` is a mapping made here, and nothing else unmaps it.
#![allow(unsafe_code)]

use std::io;
use std::num::NonZeroUsize;
use std::os::fd::AsFd;
use std::ptr::NonNull;

use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use pv_ring::{HostPage, RawPage, SharedPage};

/// A shared mapping of a device; unmapped when dropped.
#[derive(Debug)]
pub struct Mapping {
    /// For as long as the mapping exists; it is not handed out.
    memory: RawPage<'static>,
    writable: bool,
}

impl Mapping {
    /// Maps `len` bytes of a device from `offset` on.
    ///
    /// # Errors
    /// The driver's.
    pub fn new(
        device: impl AsFd,
        offset: u64,
        len: NonZeroUsize,
        writable: bool,
    ) -> io::Result<Self> {
        let mut protection = ProtFlags::PROT_READ;
        protection.set(ProtFlags::PROT_WRITE, writable);
        let offset = offset
            .try_into()
            .map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        // SAFETY: the kernel chooses the address, so no other mapping is replaced.
        let base = unsafe { mmap(None, len, protection, MapFlags::MAP_SHARED, device, offset) }?;
        // SAFETY: mapped above for `len` bytes, page-aligned, until `drop`; no reference to it is
        // ever made, only `RawPage` accesses it. That it is not written to without permission is
        // checked in `write` and `store_u32`.
        let memory = unsafe { RawPage::new(base.cast(), len.get()) };
        Ok(Self { memory, writable })
    }

    fn assert_writable(&self) {
        assert!(self.writable, "store to memory mapped for reading");
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped by `new` with this address and length; nothing uses it any more, as all
        // uses borrow the mapping or are bound to its life by the contract of `HostPage`.
        let unmapped = unsafe { munmap(self.memory.as_ptr().cast(), self.memory.len()) };
        debug_assert_eq!(unmapped, Ok(()));
    }
}

impl SharedPage for Mapping {
    fn len(&self) -> usize {
        self.memory.len()
    }

    fn load_u32(&self, offset: usize) -> u32 {
        self.memory.load_u32(offset)
    }

    fn store_u32(&self, offset: usize, value: u32) {
        self.assert_writable();
        self.memory.store_u32(offset, value);
    }

    fn read(&self, offset: usize, to: &mut [u8]) {
        self.memory.read(offset, to);
    }

    fn write(&self, offset: usize, from: &[u8]) {
        self.assert_writable();
        self.memory.write(offset, from);
    }
}

impl HostPage for Mapping {
    fn as_ptr(&self) -> NonNull<u8> {
        self.memory.as_ptr()
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write;

    use super::*;

    fn one_page(writable: bool) -> Mapping {
        let path =
            std::env::temp_dir().join(format!("xt-mapping-{}-{writable}", std::process::id()));
        let mut file = File::create_new(&path).unwrap();
        file.write_all(&[7; 4096]).unwrap();
        drop(file);
        let file = File::options().read(true).write(true).open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        Mapping::new(&file, 0, NonZeroUsize::new(4096).unwrap(), writable).unwrap()
    }

    #[test]
    fn memory_is_read_and_written() {
        let page = one_page(true);
        assert_eq!((page.len(), page.load_u32(8)), (4096, 0x0707_0707));
        page.write(4, b"abcd");
        let mut back = [0; 4];
        page.read(4, &mut back);
        assert_eq!(&back, b"abcd");
    }

    #[test]
    #[should_panic(expected = "mapped for reading")]
    fn what_is_mapped_for_reading_is_not_written() {
        one_page(false).write(0, b"x");
    }
}

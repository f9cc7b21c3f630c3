//! Pages of this domain for others to map: `/dev/xen/gntalloc`. A front end in a process, or both
//! ends in one for a test.

use std::fs::File;
use std::io;
use std::num::NonZeroUsize;
use std::ptr::NonNull;
use std::sync::Arc;

use pv_ring::{Access, HostPage, SharedPage};
use xen_sys::addr::PAGE_SIZE;
use xen_sys::{DomId, GrantRef};

use crate::device::{self, OpenError};
use crate::ioctl::{self, AllocGref, DeallocGref, GNTALLOC_FLAG_WRITABLE};
use crate::mapping::Mapping;

const PATH: &str = "/dev/xen/gntalloc";

/// The open device.
#[derive(Clone, Debug)]
pub struct Gntalloc(Arc<File>);

impl Gntalloc {
    /// Opens the device.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open() -> Result<Self, OpenError> {
        device::open(PATH, "xen-gntalloc", 0).map(|file| Self(Arc::new(file)))
    }

    /// Allocates pages of zeroes and grants them to a domain.
    ///
    /// # Errors
    /// `ENOSPC` past the driver's limit (its parameter `limit`, 1024 pages unless set).
    pub fn allocate(&self, domid: DomId, count: u32, access: Access) -> io::Result<OwnPages> {
        let len = NonZeroUsize::new(count as usize * PAGE_SIZE)
            .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        let flags = match access {
            Access::Read => 0,
            Access::ReadWrite => GNTALLOC_FLAG_WRITABLE,
        };
        let mut argument = AllocGref::new(domid.0, flags, count);
        ioctl::call(&*self.0, &mut argument)?;
        let index = argument.index();
        let grants = Grants {
            device: Arc::clone(&self.0),
            index,
            count,
        };
        Ok(OwnPages {
            mapping: Mapping::new(&*self.0, index, len, true)?,
            grefs: argument.grefs().map(GrantRef).collect(),
            _grants: grants,
        })
    }
}

/// Pages granted to another domain; dropped, they are granted no more and, once that domain has
/// unmapped them, freed.
#[derive(Debug)]
pub struct OwnPages {
    // In this order: the memory goes before the driver's record of it.
    mapping: Mapping,
    grefs: Vec<GrantRef>,
    _grants: Grants,
}

impl OwnPages {
    /// One grant a page.
    pub fn grefs(&self) -> &[GrantRef] {
        &self.grefs
    }
}

impl SharedPage for OwnPages {
    fn len(&self) -> usize {
        self.mapping.len()
    }

    fn load_u32(&self, offset: usize) -> u32 {
        self.mapping.load_u32(offset)
    }

    fn store_u32(&self, offset: usize, value: u32) {
        self.mapping.store_u32(offset, value);
    }

    fn read(&self, offset: usize, to: &mut [u8]) {
        self.mapping.read(offset, to);
    }

    fn write(&self, offset: usize, from: &[u8]) {
        self.mapping.write(offset, from);
    }
}

impl HostPage for OwnPages {
    fn as_ptr(&self) -> NonNull<u8> {
        self.mapping.as_ptr()
    }
}

/// The driver's record of granted pages.
#[derive(Debug)]
struct Grants {
    device: Arc<File>,
    index: u64,
    count: u32,
}

impl Drop for Grants {
    fn drop(&mut self) {
        let (index, count) = (self.index, self.count);
        let mut argument = DeallocGref {
            index,
            count,
            pad: 0,
        };
        let removed = ioctl::call(&*self.device, &mut argument);
        debug_assert!(removed.is_ok(), "{removed:?}");
    }
}

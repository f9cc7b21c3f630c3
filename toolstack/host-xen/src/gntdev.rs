//! Other domains' pages in this process: `/dev/xen/gntdev`.
//!
//! # When the other domain dies
//! Xen keeps a page that is mapped here until it is unmapped, and the dead domain as a zombie until
//! then: `xl list` shows it as dying. So a mapped page never goes away under its user. Reads and
//! writes go on (nobody sees them), no signal is raised, I/O to the page ends as ever. Back ends are
//! told by xenstore, where the front end's nodes go, and unmap then.
//!
//! # When this process dies
//! The driver unmaps everything; the guest's pages are its own again. What the guest asked for and
//! was not answered stays in its ring.

use std::fs::File;
use std::io;
use std::num::NonZeroUsize;
use std::ptr::NonNull;
use std::sync::Arc;

use nix::errno::Errno;
use pv_ring::{Access, HostPage, SharedPage};
use xen_sys::addr::PAGE_SIZE;
use xen_sys::{DomId, EvtchnPort, GrantRef};

use crate::device::{self, OpenError};
use crate::ioctl::{
    self, MapGrantRef, SetMaxGrants, UNMAP_NOTIFY_CLEAR_BYTE, UNMAP_NOTIFY_SEND_EVENT,
    UnmapGrantRef, UnmapNotify,
};
use crate::mapping::Mapping;

const PATH: &str = "/dev/xen/gntdev";

/// An open grant device. The driver searches its mappings one by one, so one device a queue is
/// faster than one for all.
#[derive(Clone, Debug)]
pub struct Gntdev(Arc<File>);

impl Gntdev {
    /// Opens the device.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open() -> Result<Self, OpenError> {
        device::open(PATH, "xen-gntdev", 0).map(|file| Self(Arc::new(file)))
    }

    /// Allows so many pages to be mapped at once. Linux's own driver has no such limit per device,
    /// only the module's parameter `limit`, and does not know the request: it then does nothing.
    ///
    /// # Errors
    /// The driver's.
    pub fn set_max_grants(&self, count: u32) -> io::Result<()> {
        match ioctl::call(&*self.0, &mut SetMaxGrants { count }) {
            Err(error) if error.raw_os_error() == Some(Errno::ENOTTY as i32) => Ok(()),
            other => other.map(drop),
        }
    }

    /// Maps pages a domain has granted, one behind the other.
    ///
    /// # Errors
    /// `EINVAL` when a grant is unknown, not for this domain or not for this access: the driver does
    /// not tell which, nor Xen's status. `ENOMEM` when the driver's limit is reached. With one
    /// page refused none is mapped.
    pub fn map(
        &self,
        domid: DomId,
        grefs: &[GrantRef],
        access: Access,
    ) -> io::Result<GrantedPages> {
        let len = NonZeroUsize::new(grefs.len() * PAGE_SIZE)
            .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        let mut argument = MapGrantRef::new(domid.0, grefs.iter().map(|gref| gref.0));
        ioctl::call(&*self.0, &mut argument)?;
        let slots = Slots {
            device: Arc::clone(&self.0),
            index: argument.index(),
            count: grefs.len() as u32,
        };
        let writable = access == Access::ReadWrite;
        let mapping = Mapping::new(&*self.0, slots.index, len, writable)?;
        Ok(GrantedPages { mapping, slots })
    }
}

/// Pages of another domain, mapped here as one run; unmapped when dropped.
#[derive(Debug)]
pub struct GrantedPages {
    // In this order: the memory goes before the driver's record of it.
    mapping: Mapping,
    slots: Slots,
}

impl GrantedPages {
    /// What the kernel is to do when these pages are unmapped, in whatever way, this process being
    /// killed included: set the byte at `clear` to 0, notify through `notify`. It is done once.
    ///
    /// # Errors
    /// `EINVAL` for a byte out of range or of pages mapped for reading, or for a port that is not
    /// this process's.
    pub fn on_unmap(&self, clear: Option<usize>, notify: Option<EvtchnPort>) -> io::Result<()> {
        let byte = clear.unwrap_or(0);
        if byte >= self.len() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let mut action = 0;
        if clear.is_some() {
            action |= UNMAP_NOTIFY_CLEAR_BYTE;
        }
        if notify.is_some() {
            action |= UNMAP_NOTIFY_SEND_EVENT;
        }
        let mut argument = UnmapNotify {
            index: self.slots.index + byte as u64,
            action,
            event_channel_port: notify.map_or(0, |port| port.0),
        };
        ioctl::call(&*self.slots.device, &mut argument).map(drop)
    }
}

impl SharedPage for GrantedPages {
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

impl HostPage for GrantedPages {
    fn as_ptr(&self) -> NonNull<u8> {
        self.mapping.as_ptr()
    }
}

/// The driver's record of grants to be mapped.
#[derive(Debug)]
struct Slots {
    device: Arc<File>,
    index: u64,
    count: u32,
}

impl Drop for Slots {
    fn drop(&mut self) {
        let (index, count) = (self.index, self.count);
        let mut argument = UnmapGrantRef {
            index,
            count,
            pad: 0,
        };
        let removed = ioctl::call(&*self.device, &mut argument);
        debug_assert!(removed.is_ok(), "{removed:?}");
    }
}

//! The pages that the guest grants to back ends in this process.
//!
//! Mapping one is a look-up: the entry is checked and marked in use as Xen would, and the page is
//! used where it lies. The domain's memory stays mapped as long as anything refers to it, so a page
//! cannot go away under a back end, whatever the guest does with its frame meanwhile.

use std::ptr::NonNull;
use std::sync::{Arc, Mutex, PoisonError};

use pv_ring::host::GrantError;
use pv_ring::{Access, GrantMap, HostPage, RawPage, SharedPage};
use xen_sys::addr::PAGE_SIZE;
use xen_sys::errno::Errno;
use xen_sys::{DomId, GrantRef};
use xenner_core::grant::{self, Use};
use xenner_core::{Config, Physical};

use crate::memory::Memory;

/// Guest memory with host addresses.
pub trait HostMemory: Physical + Send + Sync + 'static {
    /// Where a frame of the domain's lies in this process: a whole page, mapped and writable as
    /// long as this object lives, to which no Rust reference exists.
    fn host_address(&self, mfn: xen_sys::addr::Mfn) -> Option<NonNull<u8>>;
}

/// The grants of one domain.
pub struct Grants<M = Memory>(Arc<Table<M>>);

impl<M> Clone for Grants<M> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

struct Table<M> {
    memory: M,
    /// The host's own: the guest's copy is the guest's to change.
    config: Config,
    layout: grant::Layout,
    uses: Box<[Mutex<Uses>]>,
}

/// How often this process uses an entry now. Who changes the counts changes the entry's use bits
/// before letting go of the lock.
#[derive(Clone, Copy, Default)]
struct Uses {
    readers: u32,
    writers: u32,
}

impl<M: HostMemory> Grants<M> {
    /// The grants of the domain with this configuration.
    pub fn new(memory: M, config: Config) -> Self {
        // Entries of version 1 are the smaller ones.
        let most = config.max_grant_frames as usize * (PAGE_SIZE / 8);
        Self(Arc::new(Table {
            memory,
            layout: grant::Layout::of(&config),
            config,
            uses: (0..most).map(|_| Mutex::default()).collect(),
        }))
    }
}

impl<M: HostMemory> GrantMap for Grants<M> {
    type Page = GrantedPage<M>;

    fn map(&self, gref: GrantRef, access: Access) -> Result<GrantedPage<M>, GrantError> {
        let now = self.0.layout.table(&self.0.memory);
        self.map_in(&now, gref, access)
    }

    fn map_many(
        &self,
        grefs: impl IntoIterator<Item = GrantRef>,
        access: Access,
        mut each: impl FnMut(Result<GrantedPage<M>, GrantError>),
    ) {
        // One look at the table's size and version for all.
        let now = self.0.layout.table(&self.0.memory);
        for gref in grefs {
            each(self.map_in(&now, gref, access));
        }
    }
}

impl<M: HostMemory> Grants<M> {
    #[inline(always)]
    fn map_in(
        &self,
        now: &grant::Table,
        gref: GrantRef,
        access: Access,
    ) -> Result<GrantedPage<M>, GrantError> {
        let table = &self.0;
        let refused = |status| GrantError::Refused { gref, status };
        let uses = table.uses.get(gref.0 as usize);
        let uses = uses.ok_or(refused(xen_sys::grant_table::GNTST_bad_gntref))?;
        let mut uses = uses.lock().unwrap_or_else(PoisonError::into_inner);
        let write = access == Access::ReadWrite;
        let (memory, config) = (&table.memory, &table.config);
        let granted = now.pin(memory, config, gref, DomId(0), write, Use::Map);
        let granted = granted.map_err(refused)?;
        let Some(base) = memory.host_address(granted.mfn) else {
            table.release(gref, *uses);
            let source = Errno::EFAULT;
            return Err(GrantError::Host { gref, source });
        };
        if write {
            uses.writers += 1;
        } else {
            uses.readers += 1;
        }
        Ok(GrantedPage {
            table: table.clone(),
            base,
            gref,
            access,
        })
    }
}

impl<M: HostMemory> Table<M> {
    /// Clears the use bits that `left` does not need. The guest may have changed the table's version
    /// since they were set, so it is looked at again.
    #[inline]
    fn release(&self, gref: GrantRef, left: Uses) {
        if left.writers == 0 {
            let now = self.layout.table(&self.memory);
            now.unpin(&self.memory, gref, left.readers > 0);
        }
    }
}

/// A page granted by the guest, in use until this is dropped.
pub struct GrantedPage<M: HostMemory = Memory> {
    table: Arc<Table<M>>,
    base: NonNull<u8>,
    gref: GrantRef,
    access: Access,
}

// SAFETY: the address is good in every thread as long as `table` lives, and all accesses are
// volatile or atomic.
unsafe impl<M: HostMemory> Send for GrantedPage<M> {}
// SAFETY: as for `Send`.
unsafe impl<M: HostMemory> Sync for GrantedPage<M> {}

impl<M: HostMemory> GrantedPage<M> {
    #[inline]
    fn raw(&self) -> RawPage<'_> {
        // SAFETY: by the contract of `HostMemory` the page is mapped while `self.table` lives, and
        // there are no references to it; pages are aligned.
        unsafe { RawPage::new(self.base, PAGE_SIZE) }
    }
}

impl<M: HostMemory> Drop for GrantedPage<M> {
    fn drop(&mut self) {
        let Some(uses) = self.table.uses.get(self.gref.0 as usize) else {
            return;
        };
        let mut uses = uses.lock().unwrap_or_else(PoisonError::into_inner);
        match self.access {
            Access::Read => uses.readers -= 1,
            Access::ReadWrite => uses.writers -= 1,
        }
        self.table.release(self.gref, *uses);
    }
}

impl<M: HostMemory> SharedPage for GrantedPage<M> {
    #[inline]
    fn len(&self) -> usize {
        PAGE_SIZE
    }

    #[inline]
    fn load_u32(&self, offset: usize) -> u32 {
        self.raw().load_u32(offset)
    }

    #[inline]
    fn store_u32(&self, offset: usize, value: u32) {
        self.raw().store_u32(offset, value);
    }

    #[inline]
    fn read(&self, offset: usize, to: &mut [u8]) {
        self.raw().read(offset, to);
    }

    #[inline]
    fn write(&self, offset: usize, from: &[u8]) {
        self.raw().write(offset, from);
    }
}

impl<M: HostMemory> HostPage for GrantedPage<M> {
    #[inline]
    fn as_ptr(&self) -> NonNull<u8> {
        self.base
    }
}

#[cfg(test)]
#[path = "grants_test.rs"]
mod tests;

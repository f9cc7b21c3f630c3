//! The guest's grant table, and the host's mappings of it.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use pv_ring::host::GrantError;
use pv_ring::{Access, GrantMap, HostPage, SharedPage};
use xen_sys::GrantRef;
use xen_sys::grant_table::{GNTST_bad_gntref, GNTST_permission_denied};

use super::memory::{LoopbackPage, Memory};

/// An entry: the frame in bits 63..32, whether it is granted and may be written, and in bits 29..0
/// how often it is mapped.
const GRANTED: u64 = 1 << 31;
const WRITABLE: u64 = 1 << 30;
const MAPPED: u64 = WRITABLE - 1;

/// Reserved by the interface (`GNTTAB_NR_RESERVED_ENTRIES`); the guest does not hand these out.
const RESERVED: u32 = 8;

#[derive(Debug)]
pub(super) struct Table {
    entries: Box<[AtomicU64]>,
    free: Mutex<Vec<GrantRef>>,
    memory: Arc<Memory>,
}

impl Table {
    pub(super) fn new(entries: usize, memory: Arc<Memory>) -> Self {
        let entries = entries + RESERVED as usize;
        Self {
            entries: (0..entries).map(|_| AtomicU64::new(0)).collect(),
            free: Mutex::new((RESERVED..entries as u32).rev().map(GrantRef).collect()),
            memory,
        }
    }

    pub(super) fn grant(&self, frame: u32, access: Access) -> Option<GrantRef> {
        let gref = self.free.lock().expect("no panic inside").pop()?;
        let writable = match access {
            Access::Read => 0,
            Access::ReadWrite => WRITABLE,
        };
        let entry = u64::from(frame) << 32 | GRANTED | writable;
        self.entries[gref.0 as usize].store(entry, Ordering::Release);
        Some(gref)
    }

    pub(super) fn end(&self, gref: GrantRef) -> bool {
        let Some(entry) = self.entries.get(gref.0 as usize) else {
            return false;
        };
        let mut seen = entry.load(Ordering::Acquire);
        while seen & GRANTED != 0 && seen & MAPPED == 0 {
            match entry.compare_exchange_weak(seen, 0, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => {
                    self.free.lock().expect("no panic inside").push(gref);
                    return true;
                }
                Err(now) => seen = now,
            }
        }
        false
    }

    pub(super) fn mappings(&self) -> u64 {
        let entries = self.entries.iter();
        entries.map(|e| e.load(Ordering::Acquire) & MAPPED).sum()
    }
}

/// The host's way to the guest's grants.
#[derive(Clone, Debug)]
pub struct LoopbackGrants(pub(super) Arc<Table>);

impl GrantMap for LoopbackGrants {
    type Page = MappedPage;

    fn map(&self, gref: GrantRef, access: Access) -> Result<MappedPage, GrantError> {
        let refused = |status| GrantError::Refused { gref, status };
        let entry = self.0.entries.get(gref.0 as usize);
        let entry = entry.ok_or(refused(GNTST_bad_gntref))?;
        let mut now = entry.load(Ordering::Acquire);
        loop {
            if now & GRANTED == 0 || now & MAPPED == MAPPED {
                return Err(refused(GNTST_bad_gntref));
            }
            if access == Access::ReadWrite && now & WRITABLE == 0 {
                return Err(refused(GNTST_permission_denied));
            }
            match entry.compare_exchange_weak(now, now + 1, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => break,
                Err(changed) => now = changed,
            }
        }
        Ok(MappedPage {
            page: Memory::page(&self.0.memory, (now >> 32) as u32),
            gref,
            table: self.0.clone(),
        })
    }
}

/// A granted page, mapped; dropping it unmaps it.
#[derive(Debug)]
pub struct MappedPage {
    page: LoopbackPage,
    gref: GrantRef,
    table: Arc<Table>,
}

impl Drop for MappedPage {
    fn drop(&mut self) {
        // Release: what was written through the mapping comes before its end.
        self.table.entries[self.gref.0 as usize].fetch_sub(1, Ordering::Release);
    }
}

impl SharedPage for MappedPage {
    fn len(&self) -> usize {
        self.page.len()
    }

    fn load_u32(&self, offset: usize) -> u32 {
        self.page.load_u32(offset)
    }

    fn store_u32(&self, offset: usize, value: u32) {
        self.page.store_u32(offset, value);
    }

    fn read(&self, offset: usize, to: &mut [u8]) {
        self.page.read(offset, to);
    }

    fn write(&self, offset: usize, from: &[u8]) {
        self.page.write(offset, from);
    }
}

impl HostPage for MappedPage {
    fn as_ptr(&self) -> NonNull<u8> {
        self.page.as_ptr()
    }
}

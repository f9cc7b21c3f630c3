//! Domains' memory: `HYPERVISOR_memory_op`, page table pins, event channels and mappings that a
//! toolstack makes for a domain.
#![allow(unsafe_code)]

use std::io;

use pv_ring::SharedPage;
use xen_sys::addr::{Mfn, Pfn};
use xen_sys::event_channel::{EVTCHNOP_alloc_unbound, EvtchnAllocUnbound};
use xen_sys::hypercall::{
    __HYPERVISOR_event_channel_op, __HYPERVISOR_memory_op, __HYPERVISOR_mmuext_op,
};
use xen_sys::memory::*;
use xen_sys::xen::{MMUEXT_PIN_L4_TABLE, MmuextOp};
use xen_sys::{DomId, EvtchnPort};
use zerocopy::FromZeros;

use crate::control::Control;
use crate::foreign::ForeignPages;
use crate::hypercall::Arg;

impl Control {
    /// Gives a domain memory: an extent of 2^`order` pages at each frame of `extents`, which becomes
    /// the first machine frame of it for PV domains. How many were done: fewer than asked when memory
    /// runs out, or Xen has no extent of this size left.
    ///
    /// # Errors
    /// The hypervisor's.
    pub fn populate(
        &self,
        domid: DomId,
        extents: &mut [u64],
        order: u32,
        flags: u32,
    ) -> io::Result<usize> {
        let buffer = self.privcmd.array_of(extents)?;
        let mut arguments = XenMemoryReservation {
            extent_start: buffer.handle(),
            nr_extents: extents.len() as u64,
            extent_order: order,
            mem_flags: flags,
            domid,
            _pad0: [0; 6],
        };
        // SAFETY: the buffer holds `nr_extents` frames, over which the call writes others.
        let done = unsafe { self.memory_op(XENMEM_populate_physmap, &mut arguments) }?;
        buffer.load_array(extents);
        Ok(done as usize)
    }

    /// Claims memory for a domain, so that nobody takes it while the domain is built; 0 gives the rest
    /// of a claim back.
    ///
    /// # Errors
    /// `ENOMEM` when there is not so much.
    pub fn claim(&self, domid: DomId, pages: u64) -> io::Result<()> {
        let mut arguments = XenMemoryReservation {
            nr_extents: pages,
            domid,
            ..Default::default()
        };
        // SAFETY: the handle is null, and the call does not use it.
        unsafe { self.memory_op(XENMEM_claim_pages, &mut arguments) }.map(drop)
    }

    /// Highest guest frame of a domain.
    ///
    /// # Errors
    /// The hypervisor's.
    pub fn maximum_gpfn(&self, domid: DomId) -> io::Result<Pfn> {
        let mut arguments = XenMemoryDomain { domid };
        // SAFETY: the arguments have no handles.
        unsafe { self.memory_op(XENMEM_maximum_gpfn, &mut arguments) }.map(Pfn)
    }

    /// Says what a domain finds at `XENMEM_memory_map`.
    ///
    /// # Errors
    /// `E2BIG` or `EINVAL` for more than 128 entries.
    pub fn set_memory_map(&self, domid: DomId, map: &[E820Entry]) -> io::Result<()> {
        let buffer = self.privcmd.array_of(map)?;
        let mut arguments = XenForeignMemoryMap {
            domid,
            _pad0: [0; 6],
            map: XenMemoryMap {
                nr_entries: map.len() as u32,
                _pad0: [0; 4],
                buffer: buffer.handle(),
            },
        };
        // SAFETY: the buffer holds `nr_entries` entries.
        unsafe { self.memory_op(XENMEM_set_memory_map, &mut arguments) }.map(drop)
    }

    /// Sets how much of a domain's memory is populated on demand.
    ///
    /// # Errors
    /// The hypervisor's.
    pub fn set_pod_target(&self, domid: DomId, pages: u64) -> io::Result<XenPodTarget> {
        let mut arguments = XenPodTarget {
            target_pages: pages,
            domid,
            ..Default::default()
        };
        // SAFETY: the arguments have no handles.
        unsafe { self.memory_op(XENMEM_set_pod_target, &mut arguments) }?;
        Ok(arguments)
    }

    /// Pages freed by sharing, in all domains.
    ///
    /// # Errors
    /// `ENOSYS` when Xen cannot share.
    pub fn sharing_freed_pages(&self) -> io::Result<u64> {
        // SAFETY: the call takes no memory.
        unsafe { self.memory_op(XENMEM_get_sharing_freed_pages, &mut ()) }
    }

    /// Pages that are shared, in all domains.
    ///
    /// # Errors
    /// `ENOSYS` when Xen cannot share.
    pub fn sharing_used_pages(&self) -> io::Result<u64> {
        // SAFETY: the call takes no memory.
        unsafe { self.memory_op(XENMEM_get_sharing_shared_pages, &mut ()) }
    }

    /// # Safety
    /// As for `Control::domctl`.
    unsafe fn memory_op<T: zerocopy::FromBytes + zerocopy::IntoBytes + zerocopy::Immutable>(
        &self,
        cmd: u32,
        arguments: &mut T,
    ) -> io::Result<u64> {
        // SAFETY: by the contract of this function.
        unsafe { self.operate(__HYPERVISOR_memory_op, cmd.into(), arguments) }
    }

    /// Pins a top-level page table of a PV domain: Xen checks it and all below it now, and keeps it.
    ///
    /// # Errors
    /// `EINVAL` for tables that Xen does not take; its log tells why.
    pub fn pin_top_level(&self, domid: DomId, table: Mfn) -> io::Result<()> {
        let mut op = MmuextOp::new_zeroed();
        op.cmd = MMUEXT_PIN_L4_TABLE;
        op.arg1 = table.0;
        let ops = self.privcmd.buffer_of(&op)?;
        let args = [
            Arg::Buffer(&ops),
            Arg::Value(1),
            Arg::Value(0),
            Arg::Value(domid.0.into()),
        ];
        // SAFETY: the call reads one operation, which the buffer holds; its handle for a count is
        // null. It is about another domain's page tables, not this one's.
        unsafe { self.privcmd.hypercall(__HYPERVISOR_mmuext_op, &args) }.map(drop)
    }

    /// Gives a domain a port for another to bind to.
    ///
    /// # Errors
    /// `ENOSPC` when it has no port left.
    pub fn alloc_unbound(&self, domid: DomId, remote: DomId) -> io::Result<EvtchnPort> {
        let mut arguments = EvtchnAllocUnbound {
            dom: domid,
            remote_dom: remote,
            port: EvtchnPort(0),
        };
        let cmd = EVTCHNOP_alloc_unbound.into();
        // SAFETY: the arguments have no handles.
        unsafe { self.operate(__HYPERVISOR_event_channel_op, cmd, &mut arguments) }?;
        Ok(arguments.port)
    }

    /// Maps frames of a domain into this process: guest frames, of a PV domain machine frames.
    ///
    /// # Errors
    /// `EINVAL` or the like when it has no such frame; then nothing is mapped.
    pub fn map_foreign(&self, domid: DomId, frames: &[u64]) -> io::Result<ForeignPages> {
        ForeignPages::map(self.privcmd.device(), domid, frames, true)
    }

    /// The same for reading, as is possible with a PV domain's page tables, too. Writing panics.
    ///
    /// # Errors
    /// As for [`map_foreign`](Self::map_foreign).
    pub fn map_foreign_to_read(&self, domid: DomId, frames: &[u64]) -> io::Result<ForeignPages> {
        ForeignPages::map(self.privcmd.device(), domid, frames, false)
    }

    /// Which of these frames a domain has. One that was to be populated on demand is then.
    ///
    /// # Errors
    /// The driver's.
    pub fn present_frames(&self, domid: DomId, frames: &[u64]) -> io::Result<Vec<u64>> {
        ForeignPages::present(self.privcmd.device(), domid, frames)
    }

    /// Maps a domain's grant table, the first `frames` pages of it, which Xen makes if need be.
    ///
    /// # Errors
    /// The hypervisor's; `ENOTTY` when Linux is older than 4.18.
    pub fn map_grant_table(&self, domid: DomId, frames: usize) -> io::Result<ForeignPages> {
        let (kind, id) = (
            XENMEM_resource_grant_table,
            XENMEM_resource_grant_table_id_shared,
        );
        ForeignPages::resource(self.privcmd.device(), domid, kind, id, frames)
    }

    /// Fills a frame of a domain with zeroes.
    ///
    /// # Errors
    /// As for [`map_foreign`](Self::map_foreign).
    pub fn clear_frame(&self, domid: DomId, frame: u64) -> io::Result<()> {
        let page = self.map_foreign(domid, &[frame])?;
        page.write(0, &[0; xen_sys::addr::PAGE_SIZE]);
        Ok(())
    }
}

//! Xenstore over its ring, before there are interrupts: the event channel's
//! bit in `shared_info` is polled by `SCHEDOP_poll`, so the processor sleeps
//! while the daemon works.

use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering};

use hvmloader::layout;
use hvmloader::machine::{Machine, Store};
use pv_ring::{EventChannel, RawPage, WaitChannel};
use pv_xenbus::{Transaction, XenbusError, XenbusFront};
use xen_sys::addr::{EvtchnPort, Gfn, PAGE_SIZE};
use xen_sys::errno::Errno;
use xen_sys::event_channel::{EVTCHNOP_send, EvtchnSend};
use xen_sys::hvm::{HVM_PARAM_STORE_EVTCHN, HVM_PARAM_STORE_PFN};
use xen_sys::hypercall::{__HYPERVISOR_event_channel_op, __HYPERVISOR_sched_op};
use xen_sys::memory::XENMAPSPACE_shared_info;
use xen_sys::sched::{SCHEDOP_poll, SchedPoll};
use xen_sys::xen::{SharedInfo, VcpuInfo};

use super::hardware::{Hardware, add_to_physmap, frame, remove_from_physmap};
use super::hypercall::{call, handle};

/// The connection. Dropping it leaves ring and port as an operating system
/// expects them.
pub struct Xenstore {
    front: XenbusFront<RawPage<'static>, Port>,
    port: Port,
}

impl Xenstore {
    /// Connects through the page and port that the toolstack has set.
    ///
    /// # Errors
    /// Xen's; those of a ring that cannot be used.
    pub fn connect() -> Result<Self, XenbusError> {
        let param = |index| Hardware.param(index).map_err(XenbusError::Channel);
        let page = Gfn(param(HVM_PARAM_STORE_PFN)?);
        let port = u32::try_from(param(HVM_PARAM_STORE_EVTCHN)?).unwrap_or(0);
        let shared_info = layout::SHARED_INFO.frame();
        let port = Port(EvtchnPort(port));
        add_to_physmap(XENMAPSPACE_shared_info, 0, Gfn(shared_info.0))
            .map_err(XenbusError::Channel)?;
        let base = NonNull::new(frame(page)).unwrap_or(NonNull::dangling());
        // SAFETY: the toolstack put a page of the domain there, mapped one to
        // one; only the ring is accessed through it.
        let ring = unsafe { RawPage::new(base, PAGE_SIZE) };
        Ok(Self {
            front: XenbusFront::attach(ring, port)?,
            port,
        })
    }
}

impl Store for Xenstore {
    fn read(&mut self, path: &str, to: &mut [u8]) -> Option<usize> {
        let value = self.front.read(Transaction::NONE, path).ok()?;
        let len = value.len().min(to.len());
        to.get_mut(..len)?.copy_from_slice(value.get(..len)?);
        Some(len)
    }

    fn write(&mut self, path: &str, value: &str) -> bool {
        let done = self.front.write(Transaction::NONE, path, value.as_bytes());
        done.is_ok()
    }
}

impl Drop for Xenstore {
    fn drop(&mut self) {
        self.port.clear();
        // It was mapped, so it can be taken away.
        let _ = remove_from_physmap(Gfn(layout::SHARED_INFO.frame().0));
    }
}

#[derive(Clone, Copy)]
struct Port(EvtchnPort);

impl Port {
    /// Forgets what the port was told.
    fn clear(self) {
        let number = self.0.0 as usize;
        let pending = core::mem::offset_of!(SharedInfo, evtchn_pending) + number / 64 * 8;
        word(pending).fetch_and(!(1 << (number % 64)), Ordering::AcqRel);
        word(core::mem::offset_of!(VcpuInfo, evtchn_pending_sel)).store(0, Ordering::Release);
        // evtchn_upcall_pending is the first byte of the first word.
        word(0).fetch_and(!0xff, Ordering::AcqRel);
    }
}

/// A word of `shared_info`, 64-bit layout: the calling code is.
fn word(offset: usize) -> &'static AtomicU64 {
    assert!(offset + 8 <= PAGE_SIZE && offset.is_multiple_of(8));
    let at = frame(Gfn(layout::SHARED_INFO.frame().0)).wrapping_add(offset);
    // SAFETY: `connect` put the page there; both Xen and this program access it
    // by atomic operations; aligned.
    unsafe { AtomicU64::from_ptr(at.cast()) }
}

impl EventChannel for Port {
    fn notify(&self) -> Result<(), Errno> {
        let mut send = EvtchnSend { port: self.0 };
        let argument = handle(&mut send).0;
        call(
            __HYPERVISOR_event_channel_op,
            u64::from(EVTCHNOP_send),
            argument,
        )
        .map(drop)
    }
}

impl WaitChannel for Port {
    fn wait(&self) -> Result<(), Errno> {
        let mut port = self.0;
        let mut poll = SchedPoll {
            ports: handle(&mut port),
            nr_ports: 1,
            ..SchedPoll::default()
        };
        let argument = handle(&mut poll).0;
        let result = call(__HYPERVISOR_sched_op, u64::from(SCHEDOP_poll), argument);
        self.clear();
        result.map(drop)
    }
}

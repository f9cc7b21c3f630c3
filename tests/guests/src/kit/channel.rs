//! The event channels of the console and of xenstore, as front ends want them.

use pv_ring::{EventChannel, RawPage, WaitChannel};
use xen_sys::errno::Errno;

use core::ptr::NonNull;

use crate::abi::*;
use crate::events::{self, op};
use crate::hypercall::{Ret, call2, handle};
use crate::memory::va_of_mfn;

/// A port that stays masked and is waited for by polling.
#[derive(Clone, Copy, Debug)]
pub struct Port(pub EvtchnPort);

fn result(ret: Ret) -> Result<(), Errno> {
    Errno::from_ret(ret.0).map_or(Ok(()), Err)
}

impl EventChannel for Port {
    fn notify(&self) -> Result<(), Errno> {
        result(op(EVTCHNOP_send, &EvtchnSend { port: self.0 }))
    }
}

impl WaitChannel for Port {
    fn wait(&self) -> Result<(), Errno> {
        // With the FIFO ABI the pending bit is elsewhere; that is rare enough to be waited for in a loop.
        if events::is_fifo() {
            return result(call2(__HYPERVISOR_sched_op, SCHEDOP_yield, 0));
        }
        let poll = SchedPoll {
            ports: handle(&self.0),
            nr_ports: 1,
            ..SchedPoll::default()
        };
        let ret = call2(__HYPERVISOR_sched_op, SCHEDOP_poll, &poll);
        events::clear(self.0.0);
        result(ret)
    }
}

/// The ring page of a machine frame in the initial mapping.
pub fn ring_page(frame: u64) -> RawPage<'static> {
    let base = NonNull::new(va_of_mfn(frame) as *mut u8).unwrap_or(NonNull::dangling());
    // SAFETY: the domain builder mapped this page, nobody unmaps it, and only rings use it.
    unsafe { RawPage::new(base, 4096) }
}

//! HVM and PVH domains: their parameters (`HYPERVISOR_hvm_op`), and their end by somebody else's hand.
#![allow(unsafe_code)]

use std::io;

use xen_sys::DomId;
use xen_sys::hvm::{HVMOP_get_param, HVMOP_set_param, XenHvmParam};
use xen_sys::hypercall::{__HYPERVISOR_hvm_op, __HYPERVISOR_sched_op};
use xen_sys::sched::{SCHEDOP_remote_shutdown, SchedRemoteShutdown};

use crate::control::Control;

impl Control {
    /// A parameter, `HVM_PARAM_*`.
    ///
    /// # Errors
    /// `EINVAL` for a PV domain, or one it does not have.
    pub fn hvm_param(&self, domid: DomId, index: u32) -> io::Result<u64> {
        self.param(HVMOP_get_param, domid, index, 0)
    }

    /// Sets it.
    ///
    /// # Errors
    /// `EINVAL` for a value it does not take.
    pub fn set_hvm_param(&self, domid: DomId, index: u32, value: u64) -> io::Result<()> {
        self.param(HVMOP_set_param, domid, index, value).map(drop)
    }

    /// Ends a domain as if it had done so itself, `SHUTDOWN_*`: what follows is as for any end.
    ///
    /// # Errors
    /// `ESRCH` for no such domain.
    pub fn shut_domain_down(&self, domid: DomId, reason: u32) -> io::Result<()> {
        let mut arguments = SchedRemoteShutdown {
            domain_id: domid,
            _pad0: [0; 2],
            reason,
        };
        let command = SCHEDOP_remote_shutdown.into();
        // SAFETY: the arguments have no handles.
        unsafe { self.operate(__HYPERVISOR_sched_op, command, &mut arguments) }.map(drop)
    }

    fn param(&self, cmd: u32, domid: DomId, index: u32, value: u64) -> io::Result<u64> {
        let mut arguments = XenHvmParam {
            domid,
            pad: 0,
            index,
            value,
        };
        // SAFETY: the arguments have no handles.
        unsafe { self.operate(__HYPERVISOR_hvm_op, cmd.into(), &mut arguments) }?;
        Ok(arguments.value)
    }
}

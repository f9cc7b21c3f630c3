//! `xen-sys` without its module names, so that a check reads like the header.

pub use xen_sys::arch_x86::*;
pub use xen_sys::callback::*;
pub use xen_sys::event_channel::*;
pub use xen_sys::features::*;
pub use xen_sys::grant_table::*;
pub use xen_sys::hypercall::*;
pub use xen_sys::memory::*;
pub use xen_sys::nmi::*;
pub use xen_sys::physdev::*;
pub use xen_sys::sched::*;
pub use xen_sys::vcpu::*;
pub use xen_sys::version::*;
pub use xen_sys::xen::*;
pub use xen_sys::{DomId, EvtchnPort, GrantRef, GuestHandle};

pub use xen_sys::addr::{Maddr, Mfn, Vaddr};

//! A Xen host: grants, event channels and hypercalls through `/dev/xen`.
//!
//! For a program in dom0 or in a driver domain; Linux's drivers and their headers
//! (`include/uapi/xen/*.h`) are the interface, Xen's C libraries are not needed.
//!
//! - [`XenHost`]: all that a back end needs. Begin with [`XenHost::open`].
//! - [`gntdev`]: other domains' pages in this process ([`GrantedPages`]).
//! - [`evtchn`]: ends of event channels one can poll ([`Channel`]).
//! - [`gntalloc`]: pages of this domain for others to map.
//! - [`hypercall`]: any hypercall; its arguments in memory are [`Buffer`]s, never the caller's own
//!   memory, so nothing on a stack or a heap is ever handed to the hypervisor.
//! - [`version`]: which hypervisor this is.
//!
//! A toolstack's calls (domctl, sysctl), whose layout changes with each release, belong in one module
//! per interface version above [`hypercall`], chosen by what [`version`] tells.
//!
//! `unsafe` is in three modules: the typed `ioctl`, the [`mapping`] of device memory, and the one
//! function that makes a [`hypercall`].
#![deny(unsafe_code)]

mod device;
pub mod evtchn;
pub mod gntalloc;
pub mod gntdev;
mod host;
pub mod hypercall;
mod ioctl;
pub mod mapping;
pub mod version;

pub use device::OpenError;
pub use evtchn::Channel;
pub use gntdev::{Gntdev, GrantedPages};
pub use host::{DomainGrants, XenHost};
pub use hypercall::{Buffer, Privcmd};

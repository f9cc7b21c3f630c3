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
//! What only a toolstack needs:
//!
//! - [`control`]: which version of the control interfaces the hypervisor speaks. Begin with
//!   [`Control::open`].
//! - [`domctl`], [`sysctl`], [`memory`], [`hvm`]: the calls, as methods of [`Control`].
//! - [`foreign`]: other domains' memory in this process, without their leave.
//!
//! `unsafe` is where the kernel or the hypervisor is handed an address: the typed `ioctl`, the
//! [`mapping`] of device memory, and what makes a [`hypercall`].
#![deny(unsafe_code)]

pub mod control;
mod device;
pub mod domctl;
pub mod evtchn;
pub mod foreign;
pub mod gntalloc;
pub mod gntdev;
mod host;
pub mod hvm;
pub mod hypercall;
mod ioctl;
pub mod mapping;
pub mod memory;
pub mod sysctl;
pub mod version;

pub use control::{Control, ControlError};
pub use device::OpenError;
pub use evtchn::Channel;
pub use foreign::ForeignPages;
pub use gntdev::{Gntdev, GrantedPages};
pub use host::{DomainGrants, XenHost};
pub use hypercall::{Buffer, Privcmd};

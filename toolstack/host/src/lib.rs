//! What a host of domains can do, whichever hypervisor it has: the seam between `xt` and the hosts.
//!
//! - [`Host`] is the trait: one method for what a verb of `xl` needs. `xt-xen` does it with Xen's
//!   hypercalls, `xt-kvm` with processes of `xenner`.
//! - [`info`]: what is told of a host, a domain, a vCPU and a device. All of it serialises: it is what
//!   `xt --json` prints.
//! - [`HostError`]: why something was not done, and what to do about it.
//!
//! Principles: a method does one thing and returns when it is done; none waits for a guest unless it
//! says so. What one kind of host does not have answers [`HostError::NotHere`], which the trait does by
//! itself for what only Xen has. A method may be called from any thread and by several processes at a
//! time: a host locks what it must.
#![forbid(unsafe_code)]

mod error;
mod host;
pub mod info;

pub use error::{HostError, Result};
pub use host::{
    AttachedDisk, AttachedNic, Changes, ConsoleEnd, ConsoleKind, CreateOptions, Created,
    Credit2Change, DeviceName, Host, Trigger,
};
pub use info::{
    ChannelInfo, CpuSet, Credit2, Credit2Domain, DomainInfo, DomainState, HostInfo, HostKind,
    HypervisorInfo, Sample, ShutdownReason, VcpuInfo, VcpuState,
};
pub use xen_sys::DomId;

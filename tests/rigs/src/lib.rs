//! Real Xen and real KVM for tests, on any machine that has QEMU.
//!
//! Three places to run something:
//! - [`RigX`]: Xen with a dom0 and Xen's own tools, under emulation: the
//!   reference;
//! - [`RigK`]: Linux with KVM on an emulated AMD machine: hardware semantics
//!   everywhere;
//! - [`rig_l`]: this machine's `/dev/kvm`, if it has one.
//!
//! Kernels, Xen and all tools come from Debian's archive ([`packages`]); the
//! only things installed are QEMU and what `apt` brings. To begin, read
//! [`RigX::boot`] and [`Shell::run`].
#![forbid(unsafe_code)]

pub mod channel;
pub mod debian;
pub mod dom0;
mod error;
pub mod foreground;
pub mod guest;
pub mod initramfs;
pub mod live;
pub mod packages;
pub mod qemu;
mod rig;
pub mod rig_k;
pub mod rig_l;
pub mod rig_x;
pub mod terminal;
pub mod xenner;

pub use error::{Error, Result};
pub use rig::{Output, Prepared, RigSpec, Shell};
pub use rig_k::RigK;
pub use rig_x::{Domain, RigX};

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

/// The lines that only one of two texts has.
pub fn difference(names: [&str; 2], one: &str, other: &str) -> String {
    let alone = |name: &str, lines: &str, others: &str| {
        let others: Vec<_> = others.lines().collect();
        let alone = lines.lines().filter(|line| !others.contains(line));
        alone
            .map(|line| format!("  {name}: {line:?}\n"))
            .collect::<String>()
    };
    alone(names[0], one, other) + &alone(names[1], other, one)
}

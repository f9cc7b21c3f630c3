//! Back ends of split drivers: the xenbus handshake and what they need of a host.
//!
//! - [`host`]: grants and event channels of a domain, from xenner or from Xen.
//! - [`driver`]: what a kind of device does at each step of the handshake.
//! - [`manager`]: takes the devices of one host process through the handshake. Begin with
//!   [`Manager::new`].
//! - [`control`]: what other threads see of it and ask of it.
//! - [`patience`]: when a queue's thread lets the guest finish first.
//! - `loopback` (feature `loopback`): a host and its guest in this process, for tests.

#![deny(unsafe_code)]

pub mod control;
pub mod driver;
pub mod host;
#[cfg(feature = "loopback")]
pub mod loopback;
pub mod manager;
pub mod patience;

pub use control::{Control, DeviceEntry};
pub use driver::{DeviceError, DeviceId, Driver, Nodes, Reporter};
pub use host::{Host, HostChannel};
pub use manager::{Manager, ManagerError, ManagerSpec};
pub use patience::Patience;

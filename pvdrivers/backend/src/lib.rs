//! Back ends of split drivers: the xenbus handshake and what they need of a host.
//!
//! - [`host`]: grants and event channels of a domain, from xenner or from Xen.
//! - [`driver`]: what a kind of device does at each step of the handshake.
//! - `loopback` (feature `loopback`): a host and its guest in this process, for tests.

pub mod driver;
pub mod host;
#[cfg(feature = "loopback")]
pub mod loopback;

pub use driver::{DeviceError, DeviceId, Driver, Nodes, Reporter};
pub use host::{Host, HostChannel};

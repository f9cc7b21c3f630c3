//! Back ends of split drivers: the xenbus handshake and what they need of a host.
//!
//! - [`host`]: grants and event channels of a domain, from xenner or from Xen.
//! - [`driver`]: what a kind of device does at each step of the handshake.

pub mod driver;
pub mod host;

pub use driver::{DeviceError, DeviceId, Driver, Nodes, Reporter};
pub use host::{Host, HostChannel};

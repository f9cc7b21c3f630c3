//! Disks and network cards, from what the user wrote to what serves the guest.
//!
//! A process that may still open things makes a [`parcel::Parcel`] of a specification: a description
//! and descriptors. That is the domain's own before its sandbox closes, or a command, which sends it
//! through the control socket. The [`desk`] in the domain's process unpacks it, opens nothing by
//! itself, and shows the device to the guest.

pub mod commands;
pub mod desk;
pub mod disk;
pub mod keeper;
pub mod nic;
pub mod parcel;

pub use disk::DiskSpec;
pub use nic::Nic;

//! Split block devices: front end and back end (`io/blkif.h`).
//!
//! - [`front`]: a front end for test guests, without `std` and without an allocator. Begin with
//!   [`front::FrontQueue`].
//! - `back` (feature `back`, on by default): the back end. Begin with `back::VbdDriver`.
//! - `loopback` (feature `loopback`): both in one process, with a disk in memory.
//! - [`wire`]: what both have in common: the layouts of a slot.
//!
//! Neither end trusts the other: what lies in shared memory is copied once, checked once, and an
//! index or a number that cannot be ends the device, not the process.
#![cfg_attr(not(feature = "back"), no_std)]
#![deny(unsafe_code)]

#[cfg(feature = "back")]
pub mod back;
pub mod front;
#[cfg(feature = "loopback")]
pub mod loopback;
pub mod wire;

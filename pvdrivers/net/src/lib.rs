//! Split network cards: front end and back end (`io/netif.h`).
//!
//! - [`front`]: netfront for test guests, unikernels and loopback, without `std` or an allocator.
//! - [`back`]: netback between a front end's rings and the host's network. Begin with
//!   [`back::VifDriver`].
//! - [`headers`]: where a frame's headers end, and its transport checksum.
//! - [`extra`]: what the slots of extra information say.
//! - `loopback` (feature `loopback`): both ends in one process, for tests.
//!
//! Directions are the guest's everywhere: it transmits (`tx`) and receives (`rx`).
#![cfg_attr(not(any(test, feature = "back")), no_std)]
#![deny(unsafe_code)]

#[cfg(feature = "back")]
pub mod back;
pub mod extra;
pub mod front;
pub mod headers;
#[cfg(any(test, feature = "loopback"))]
pub mod loopback;

/// Bytes of an Ethernet header.
pub const ETH_HLEN: usize = 14;
/// Bytes a slot can hold.
pub const PAGE_SIZE: usize = xen_sys::addr::PAGE_SIZE;

//! Shared rings between front ends and back ends, both ends of each.
//!
//! - [`page`]: the shared memory, reached by copies only: [`SharedPage`], [`RawPage`].
//! - [`byte_ring`]: the console's and xenstore's byte rings.
//! - [`sring`]: the request/response ring of `io/ring.h`.
//! - [`host`]: what a back end needs of the machine it runs on: [`GrantMap`], [`EventChannel`];
//!   and a front end of its kernel: [`GrantAccess`].
//!
//! The far end is not trusted. Each end keeps its own indices privately, reads only the far end's
//! index from the page, and refuses one that claims more than the ring holds
//! ([`RingError::OutOfBounds`]); requests and responses leave the page once, by copy. Indices run
//! free over 32 bits and are compared by wrapping subtraction.
#![no_std]
#![deny(unsafe_code)]

#[cfg(test)]
extern crate std;

pub mod byte_ring;
mod error;
pub mod host;
mod iovec;
pub mod page;
pub mod sring;

pub use byte_ring::{ByteRing, Consumer, Producer};
pub use error::RingError;
pub use host::{Access, EventChannel, GrantAccess, GrantMap, WaitChannel};
pub use iovec::{IoBuffers, IoVec};
pub use page::{HostPage, PageRun, RawPage, SharedPage, WordPage};
pub use sring::{BackRing, FrontRing};

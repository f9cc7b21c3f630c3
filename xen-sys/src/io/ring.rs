//! `io/ring.h`: the shared request/response ring's header.
//!
//! Slots follow at byte 64; each is as large as the larger of request and response, their number
//! the largest power of two that fits the page.
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// What precedes the slots of every `*_sring`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct SringHeader {
    /// Requests produced.
    pub req_prod: u32,
    /// Notify the back end when `req_prod` reaches this.
    pub req_event: u32,
    /// Responses produced.
    pub rsp_prod: u32,
    /// Notify the front end when `rsp_prod` reaches this.
    pub rsp_event: u32,
    /// Private to the driver.
    pub pvt: [u8; 4],
    /// Padding; zero.
    pub __pad: [[u8; 11]; 4],
}
const _: () = assert!(size_of::<SringHeader>() == 64);

/// Byte offset of `req_prod`.
pub const SRING_REQ_PROD: usize = 0;
/// Byte offset of `req_event`.
pub const SRING_REQ_EVENT: usize = 4;
/// Byte offset of `rsp_prod`.
pub const SRING_RSP_PROD: usize = 8;
/// Byte offset of `rsp_event`.
pub const SRING_RSP_EVENT: usize = 12;
/// Byte offset of the first slot.
pub const SRING_RING: usize = 64;

/// `__CONST_RING_SIZE`: slots of `slot` bytes in a ring of `size` bytes; 0 if none fits.
pub const fn ring_slots(size: usize, slot: usize) -> usize {
    if slot == 0 || size < SRING_RING + slot {
        return 0;
    }
    let fit = (size - SRING_RING) / slot;
    1 << fit.ilog2()
}

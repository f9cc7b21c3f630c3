//! Netfront for test guests, unikernels and loopback, without `std` or an allocator.
//!
//! - [`nodes`]: what to read and write in xenstore.
//! - [`TxQueue`], [`RxQueue`]: the two rings of a queue. Pages and grants are the caller's: packets
//!   are described by grants, and named by numbers of the caller's own.

pub mod nodes;
mod rx;
mod tx;

use pv_ring::RingError;
use xen_sys::errno::Errno;
use xen_sys::io::netif::XEN_NETIF_NR_SLOTS_MIN;

pub use rx::{Buffer, Received, RxPiece, RxQueue};
pub use tx::{TxDone, TxFrame, TxPiece, TxQueue};

/// Slots a packet may have, besides extra information.
pub const MAX_PIECES: usize = XEN_NETIF_NR_SLOTS_MIN;

/// Why a front end's ring cannot do what is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrontError {
    /// [`RingError::Full`]: wait for responses. Others mean that the back end is broken.
    #[error(transparent)]
    Ring(#[from] RingError),
    /// A packet of no pieces, of more than [`MAX_PIECES`], or of more than 65535 bytes.
    #[error("The packet has no pieces, too many, or too many bytes")]
    Packet,
    /// The back end has answered what was not asked, or half of a packet: it is broken.
    #[error("The back end has sent a response that makes no sense")]
    Response,
    /// The back end could not be notified.
    #[error("The back end cannot be notified")]
    Channel(#[source] Errno),
}

#[cfg(test)]
#[path = "front_test.rs"]
mod tests;

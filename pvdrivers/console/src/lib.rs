//! The PV console (`io/console.h`), both ends.
//!
//! - [`back`]: the host's half: output goes to a sink, input comes from a caller, and each side's
//!   pace limits the other. Begin with [`ConsoleBack::attach`].
//! - [`front`]: the guest's half, for test guests and unikernels. Begin with
//!   [`ConsoleFront::attach`].
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

pub mod back;
pub mod front;

use pv_ring::RingError;
use xen_sys::errno::Errno;

pub use back::{ConsoleBack, ConsoleStats, Counts};
pub use front::ConsoleFront;

/// What can go wrong with a console.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConsoleError {
    /// The page is too small, or the far end broke its indices.
    #[error("The console page cannot be used")]
    Ring(#[from] RingError),
    /// The far end could not be notified or waited for.
    #[error("The console's event channel failed")]
    Channel(#[from] Errno),
}

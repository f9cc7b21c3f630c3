//! XenBus: xenstore over its ring (`io/xs_wire.h`), and the device handshake (`io/xenbus.h`).
//!
//! - [`front`]: a guest's blocking xenstore client. Begin with [`XenbusFront::attach`].
//! - [`back`]: the daemon's end of the ring: whole messages in and out, no store.
//! - [`state`]: the states of a split driver, and which step follows from them.
//! - [`Text`]: paths and numbers without an allocator.
//!
//! Both ends work without `std` and without an allocator; a message's buffer is part of its end.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

pub mod back;
mod error;
mod events;
mod frame;
pub mod front;
pub mod state;
mod text;

pub use back::XenbusBack;
pub use error::XenbusError;
pub use events::Event;
pub use front::{Transaction, XenbusFront};
pub use state::{BackStep, FrontStep, XenbusState};
pub use text::Text;

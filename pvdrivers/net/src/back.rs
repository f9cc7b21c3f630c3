//! Netback: between a front end's rings and the host's network.
//!
//! - [`driver`]: the steps of the handshake; begin here, with [`VifDriver`].
//! - [`nodes`]: what xenstore says to and of a network card.
//! - `queue`: a queue's thread. It waits for the front end, the link and the end.
//! - `chains`: packets out of the transmit ring, each slot taken once and checked.
//! - `tx`, `rx`: the two directions. Payload stays where the guest has it; the link reads and
//!   writes the granted pages.
//! - `offload`: checksums left out and large segments, in each side's words.
//! - `link`: the calls of the link, which reads and writes the guest's memory.
//! - `shared`, `credit`: filters, link state and the rate limit, common to a card's queues.
//! - [`stats`]: the counters.
//!
//! What a front end does wrong has two fates, drawn as Linux's netback draws them. A packet that
//! cannot be sent is answered with `NETIF_RSP_ERROR` and counted. A ring that makes no sense any
//! more (indices, a packet cut short by the end of the requests, unknown extra information, a slot
//! that exceeds its page) ends the device: [`pv_backend::Reporter::failed`].

mod chains;
mod credit;
pub mod driver;
mod link;
pub mod nodes;
mod offload;
mod queue;
mod rx;
mod shared;
pub mod stats;
mod tx;

#[cfg(any(test, feature = "loopback"))]
pub use driver::Stepper;
pub use driver::{Network, VifDriver, VifSpec};
pub use nodes::Rate;

#[cfg(test)]
mod tests;

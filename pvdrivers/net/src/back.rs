//! Netback: between a front end's rings and the host's network.
//!
//! - [`driver`]: the steps of the handshake; begin here, with [`VifDriver`].
//! - [`nodes`]: what xenstore says to and of a network card.
//! - `queue`: a queue's thread. It waits for the front end, the link and the end.
//! - `chains`: packets out of the transmit ring, each slot taken once and checked.
//! - `tx`, `rx`: the two directions. Payload stays where the guest has it; the link reads and
//!   writes the granted pages.
//! - `credit`, `filter`: rate limits, and which frames a guest gets and may send.
//! - [`stats`]: the counters.
//!
//! What a front end does wrong has two fates, drawn as Linux's netback draws them. A packet that
//! cannot be sent is answered with `NETIF_RSP_ERROR` and counted. A ring that makes no sense any
//! more (indices, a packet cut short by the end of the requests, unknown extra information, a slot
//! that exceeds its page) ends the device: [`pv_backend::Reporter::failed`].

pub mod driver;
pub mod nodes;
pub mod stats;

pub use driver::{Network, VifDriver, VifSpec};
pub use nodes::Rate;

//! Network Block Devices (the NBD project's `doc/proto.md`): a client of the newstyle protocol.
//!
//! A disk has one connection, which all of its queues share. One thread sends requests, the data of
//! writes straight from lent memory; another receives replies, the data of reads straight into it.
//! When the server is gone, or says what makes no sense, everything is answered with `EIO`, now
//! and later; there is no second connection.

mod client;
mod handshake;
mod queue;
mod uri;

pub(crate) use client::Nbd;
pub(crate) use queue::NbdQueue;
pub use uri::NbdUri;

//! The guest's console: from the hub that everything goes through to the terminals, files and
//! sockets it can be seen on.

pub mod backend;
mod hub;
pub mod pump;
pub mod relay;
pub mod term;

pub use hub::{Chunk, Console, HISTORY, INPUT, REPLAY, Reader, Writer};

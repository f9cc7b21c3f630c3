//! Network Block Devices.

mod uri;

pub use uri::NbdUri;

//! `xt` on a KVM host: on this machine's KVM, and (`hardware`) on one with hardware semantics.

mod hardware;
mod host;
mod leftovers;
mod life;

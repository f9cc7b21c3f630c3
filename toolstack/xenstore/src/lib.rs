//! Xenstore: wire protocol, store, server and client.
//!
//! Xenstore is the small database through which a domain and its tool stack
//! find each other: file-like paths, short values, permissions, watches and
//! transactions. The protocol is Xen's `docs/misc/xenstore.txt` and the public
//! header `io/xs_wire.h`.
//!
//! Principles:
//!
//! * [`store`] knows nothing of connections and [`server`] nothing of file
//!   descriptors or shared pages; [`unix`] and [`ring`] carry bytes and know
//!   nothing of the store.
//! * One thread owns the [`server::Server`]. There is no lock in this crate.
//! * Everything from a connection is hostile: lengths, paths, indices, the
//!   pace at which replies are read. Memory and work per turn are bounded.
//!
//! Begin with [`server::Server`]; [`service::Service`] is the ready event loop
//! around it, [`domain::introduce_domain`] fills in what a new guest expects
//! and [`client::Client`] talks to any xenstore daemon.

#![forbid(unsafe_code)]

pub mod client;
pub mod domain;
pub mod path;
pub mod perms;
pub mod ring;
pub mod server;
pub mod service;
pub mod store;
pub mod unix;
pub mod wire;

pub use perms::DomId;

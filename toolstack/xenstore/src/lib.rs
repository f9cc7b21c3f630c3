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
//! It answers as xenstored 4.17 does, with these differences:
//!
//! * GET_PERMS works on `@introduceDomain` and `@releaseDomain`, as SET_PERMS does.
//! * Malformed numbers (domain ids, offsets) are `EINVAL`, not taken for 0, and
//!   INTRODUCE of domain 0 is refused.
//! * Quotas are exact: 128 watches and 10 transactions, where xenstored lets
//!   one more pass.
//! * A node a transaction was refused (`EACCES`) does not tie it to the node's
//!   parent: fewer conflicts.
//! * When a domain is released, grants to it are deleted, not just ignored.
//! * A client that reads nothing is not served further, and is dropped when
//!   8 MiB of events wait for it. There are no quotas on memory besides.
//! * CONTROL knows check, help, quota and version only.
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

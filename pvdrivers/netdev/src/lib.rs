//! The host side of a virtual network card: tap, macvtap, sockets, passt.
//!
//! A card is asked for as text, opened by whoever has the rights, and used by a process that may
//! be confined:
//!
//! 1. [`NicSpec`] is parsed from `--nic` ([`spec`] tells the form) or made of xl's `vif` fields
//!    ([`vif::XlVif`]).
//! 2. [`open`] makes the interface or starts passt, outside any sandbox, and gives [`Opened`]:
//!    plain descriptors, a [`Description`] of them that can be written as JSON, and an
//!    [`Attachment`] that undoes what was done when it is dropped. Descriptors and description can
//!    go to another process; the attachment stays with one that keeps its rights.
//! 3. [`Opened::into_links`] makes of them one [`Link`] for each queue, inside the sandbox.
//!
//! Guest memory is reached by the host's kernel and by copies in one module (`sys`) only. What the
//! far end of a socket says is not trusted: lengths are bounded before anything is allocated or
//! copied.
#![deny(unsafe_code)]

mod bridge;
mod error;
mod link;
mod mac;
mod macvtap;
mod netlink;
mod open;
mod packet;
mod pair;
mod passt;
mod script;
pub mod spec;
mod stream;
mod sys;
mod tap;
mod unix;
pub mod vif;
mod vnet;

pub use error::NetdevError;
pub use link::{FrameInfo, Gso, Link, MAX_FRAME, MIN_FRAME, Offloads};
pub use mac::MacAddress;
pub use open::{Attachment, Chores, Description, Framing, Opened, Request, open};
pub use pair::pair;
pub use passt::Passt;
pub use script::Script;
pub use spec::{NetdevSpec, NicSpec, SpecError};

/// The system calls of the links' methods, for a seccomp filter; on top come [`SET_OFFLOAD`],
/// waiting for a link's event, closing it, and memory for what it holds.
pub const SYSTEM_CALLS: [&str; 6] = [
    "readv", "writev", "recvmsg", "sendmsg", "recvfrom", "sendto",
];

/// An `ioctl` request: `TUNSETOFFLOAD`, of tap devices in [`Link::accept`].
pub const SET_OFFLOAD: u64 = libc::TUNSETOFFLOAD;

/// Another: `TUNSETQUEUE`, of tap devices in [`Link::set_used`].
pub const SET_QUEUE: u64 = libc::TUNSETQUEUE;

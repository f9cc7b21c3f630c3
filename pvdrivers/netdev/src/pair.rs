//! Two links with a cable between them, for tests and for guests of one process.

use std::io;
use std::os::fd::OwnedFd;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

use crate::link::{Link, Offloads};
use crate::packet::PacketLink;

/// Two links: what one sends the other receives, with what is known of it. Frames go across
/// as they are, so both sides must take what the other sends.
///
/// # Errors
/// The operating system's.
pub fn pair(offloads: Offloads) -> io::Result<(Box<dyn Link>, Box<dyn Link>)> {
    let (a, b) = socketpair(
        AddressFamily::Unix,
        SockType::SeqPacket,
        None,
        SockFlag::SOCK_CLOEXEC,
    )?;
    let end = |fd: OwnedFd| -> Box<dyn Link> { Box::new(PacketLink::half(fd, offloads)) };
    Ok((end(a), end(b)))
}

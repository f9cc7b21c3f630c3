//! The host side of a virtual network card: tap, macvtap, sockets, passt.
//!
//! Begin with [`Link`], what one queue of a back end sends frames to and receives them from.

use std::io;
use std::os::fd::BorrowedFd;

use pv_ring::IoVec;

/// What is known of a frame besides its bytes: `struct virtio_net_hdr` of `linux/virtio_net.h`,
/// which tap devices use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FrameInfo {
    /// The transport checksum is still to be filled in: from here to the frame's end ...
    pub csum_start: Option<u16>,
    /// ... and this far behind `csum_start`.
    pub csum_offset: u16,
    /// The checksum was found right, or never left this host.
    pub csum_valid: bool,
    /// To be cut into segments.
    pub gso: Option<Gso>,
}

/// How to cut a large TCP segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gso {
    /// TCP over IPv6, not IPv4.
    pub v6: bool,
    /// Bytes of payload in each.
    pub size: u16,
    /// Bytes of all headers; 0 if not known.
    pub header_len: u16,
    /// The first one carries CWR.
    pub ecn: bool,
}

/// What a link takes and gives besides plain frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offloads {
    /// Frames without a transport checksum.
    pub csum: bool,
    /// Large TCP segments over IPv4.
    pub tso4: bool,
    /// Large TCP segments over IPv6.
    pub tso6: bool,
}

/// Where a network card is plugged in: one queue of it.
pub trait Link: Send {
    /// Sends a frame that lies in `frame`'s pieces, in order.
    ///
    /// # Safety
    /// The pieces are mapped until this returns, and no Rust reference to them exists.
    ///
    /// # Errors
    /// `WouldBlock` when there is no room now; others mean that the frame is lost.
    unsafe fn send(&mut self, info: &FrameInfo, frame: &[IoVec]) -> io::Result<()>;

    /// Receives a frame into `room`'s pieces, in order; how long it is.
    ///
    /// # Safety
    /// As for [`send`](Self::send).
    ///
    /// # Errors
    /// `WouldBlock` when there is none; `InvalidData` when one was lost because it exceeds the room.
    unsafe fn recv(&mut self, room: &[IoVec]) -> io::Result<(usize, FrameInfo)>;

    /// Readable when there may be a frame.
    fn event(&self) -> BorrowedFd<'_>;

    /// What it can do, always.
    fn offloads(&self) -> Offloads;

    /// Tells the link what the far end takes: frames received come accordingly.
    ///
    /// # Errors
    /// The operating system's.
    fn accept(&mut self, offloads: Offloads) -> io::Result<()>;
}

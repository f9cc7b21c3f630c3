//! One queue of a network card's host side, whatever stands behind it.

use std::io;
use std::os::fd::BorrowedFd;

use pv_ring::IoVec;
use serde::{Deserialize, Serialize};

/// Bytes of the longest frame any link takes or gives: what the length field of a segment can say.
pub const MAX_FRAME: usize = 65_535;

/// Bytes of the shortest: an Ethernet header.
pub const MIN_FRAME: usize = 14;

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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Offloads {
    /// Frames without a transport checksum.
    pub csum: bool,
    /// Large TCP segments over IPv4.
    pub tso4: bool,
    /// Large TCP segments over IPv6.
    pub tso6: bool,
}

impl Offloads {
    /// None: every frame is whole and no longer than the MTU.
    pub const NONE: Self = Self {
        csum: false,
        tso4: false,
        tso6: false,
    };

    /// All of them.
    pub const ALL: Self = Self {
        csum: true,
        tso4: true,
        tso6: true,
    };
}

/// Where a network card is plugged in: one queue of it.
///
/// No method waits. What each link's calls come to in system calls is told by
/// [`SYSTEM_CALLS`](crate::SYSTEM_CALLS).
pub trait Link: Send {
    /// Sends a frame that lies in `frame`'s pieces, in order.
    ///
    /// # Safety
    /// The pieces are mapped until this returns, and no Rust reference to them exists.
    ///
    /// # Errors
    /// `WouldBlock` when there is no room now, see [`blocked`](Self::blocked); `UnexpectedEof` as
    /// for [`recv`](Self::recv); others mean that this frame is lost.
    #[allow(unsafe_code)]
    unsafe fn send(&mut self, info: &FrameInfo, frame: &[IoVec]) -> io::Result<()>;

    /// Receives a frame into `room`'s pieces, in order; how long it is.
    ///
    /// # Safety
    /// As for [`send`](Self::send).
    ///
    /// # Errors
    /// - `WouldBlock`: there is none.
    /// - `InvalidData`: one was lost because it exceeds the room or is shorter than a header.
    /// - `UnexpectedEof`: the far end is gone for good and the text says why; the event is of no
    ///   use any more.
    /// - Others: passing trouble of the operating system.
    #[allow(unsafe_code)]
    unsafe fn recv(&mut self, room: &[IoVec]) -> io::Result<(usize, FrameInfo)>;

    /// Readable when there may be a frame. A link may hold more frames than the event tells of:
    /// wait for it only after [`recv`](Self::recv) said `WouldBlock`.
    fn event(&self) -> BorrowedFd<'_>;

    /// Whether the event is to be awaited as writable too, and then [`flush`](Self::flush) to be
    /// called: the last `send` found no room, or the end of its frame is still here.
    fn blocked(&self) -> bool {
        false
    }

    /// Moves on what is [`blocked`](Self::blocked); call it when the event is writable. Afterwards, unless
    /// still blocked, a `send` that found no room may be tried again.
    ///
    /// # Errors
    /// As for [`send`](Self::send), but never `WouldBlock`.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// What it can do, always.
    fn offloads(&self) -> Offloads;

    /// Tells the link what the far end takes: frames received come accordingly. All queues of a
    /// card are told the same.
    ///
    /// # Errors
    /// The operating system's; `Unsupported` for what is not among [`offloads`](Self::offloads).
    fn accept(&mut self, offloads: Offloads) -> io::Result<()>;

    /// Whether frames may come by this link, one of a card's several: those nobody reads from would
    /// hold what comes by them. At first they may. The last one cannot be given up.
    ///
    /// # Errors
    /// The operating system's.
    fn set_used(&mut self, used: bool) -> io::Result<()> {
        let _ = used;
        Ok(())
    }
}

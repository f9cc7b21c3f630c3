//! Links on which a read or write is a frame: tap and macvtap devices, datagram and sequenced
//! packet sockets.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use pv_ring::IoVec;
use zerocopy::{FromZeros, IntoBytes};

use crate::link::{FrameInfo, Link, MAX_FRAME, MIN_FRAME, Offloads};
use crate::sys::{self, Transport};
use crate::tap;
use crate::vnet::{VNET_HEADER, VnetHeader};

/// A frame a message.
pub(crate) struct PacketLink {
    fd: OwnedFd,
    transport: Transport,
    /// Whether a [`VnetHeader`] precedes each frame.
    header: bool,
    /// Whether nothing read means that the far end has gone.
    ends: bool,
    offloads: Offloads,
    /// The pieces of the message at hand; kept for its memory only.
    pieces: Vec<IoVec>,
    blocked: bool,
    used: bool,
}

impl PacketLink {
    /// A tap device, which must not block and have headers of [`VNET_HEADER`] bytes.
    pub(crate) fn device(fd: OwnedFd, offloads: Offloads) -> Self {
        Self::new(fd, Transport::Device, true, offloads)
    }

    /// A socket whose messages are plain frames.
    pub(crate) fn socket(fd: OwnedFd) -> Self {
        Self::new(fd, Transport::Socket, false, Offloads::NONE)
    }

    /// One end of a pair of sequenced packet sockets whose messages have headers.
    pub(crate) fn half(fd: OwnedFd, offloads: Offloads) -> Self {
        Self {
            ends: true,
            ..Self::new(fd, Transport::Socket, true, offloads)
        }
    }

    /// Makes an empty message the end: sequenced packet sockets tell it so.
    pub(crate) fn ending(self, ends: bool) -> Self {
        Self { ends, ..self }
    }

    fn new(fd: OwnedFd, transport: Transport, header: bool, offloads: Offloads) -> Self {
        Self {
            fd,
            transport,
            header,
            ends: false,
            offloads,
            pieces: Vec::with_capacity(32),
            blocked: false,
            used: true,
        }
    }
}

#[allow(unsafe_code)]
impl Link for PacketLink {
    unsafe fn send(&mut self, info: &FrameInfo, frame: &[IoVec]) -> io::Result<()> {
        if !(MIN_FRAME..=MAX_FRAME).contains(&sys::total(frame)) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let mut header = VnetHeader::from(info);
        self.pieces.clear();
        if self.header {
            self.pieces.push(IoVec::of_bytes(header.as_mut_bytes()));
        }
        self.pieces.extend_from_slice(frame);
        // SAFETY: the header outlives the call and is not used in it; for the rest our caller answers.
        let result = unsafe { sys::write(self.fd.as_fd(), self.transport, &self.pieces) };
        self.blocked = is_blocked(&result);
        result.map(|_| ()).map_err(ended)
    }

    unsafe fn recv(&mut self, room: &[IoVec]) -> io::Result<(usize, FrameInfo)> {
        let mut header = VnetHeader::new_zeroed();
        let mut spill = [0];
        let before = if self.header { VNET_HEADER } else { 0 };
        self.pieces.clear();
        if self.header {
            self.pieces.push(IoVec::of_bytes(header.as_mut_bytes()));
        }
        self.pieces.extend_from_slice(room);
        // A frame that exceeds the room shows by a byte here; devices tell it in no other way.
        self.pieces.push(IoVec::of_bytes(&mut spill));
        // SAFETY: header and spill outlive the call and are not used in it; for the rest our caller answers.
        let count = unsafe { sys::read(self.fd.as_fd(), self.transport, &self.pieces) };
        let count = count.map_err(ended)?;
        if count == 0 && self.ends {
            return Err(gone());
        }
        let length = count.saturating_sub(before);
        match header.info() {
            Some(info) if (MIN_FRAME..=sys::total(room)).contains(&length) => Ok((length, info)),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    fn event(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    fn blocked(&self) -> bool {
        self.blocked
    }

    fn flush(&mut self) -> io::Result<()> {
        self.blocked = false;
        Ok(())
    }

    fn offloads(&self) -> Offloads {
        self.offloads
    }

    fn accept(&mut self, offloads: Offloads) -> io::Result<()> {
        within(offloads, self.offloads)?;
        match self.transport {
            Transport::Device => tap::set_offload(self.fd.as_fd(), offloads),
            Transport::Socket => Ok(()),
        }
    }

    fn set_used(&mut self, used: bool) -> io::Result<()> {
        if self.transport == Transport::Device && used != self.used {
            sys::tun::set_queue(self.fd.as_fd(), used)?;
        }
        self.used = used;
        Ok(())
    }
}

/// Refuses what is not among `able`.
pub(crate) fn within(asked: Offloads, able: Offloads) -> io::Result<()> {
    let beyond = [
        asked.csum && !able.csum,
        asked.tso4 && !able.tso4,
        asked.tso6 && !able.tso6,
    ];
    if beyond.contains(&true) {
        return Err(io::ErrorKind::Unsupported.into());
    }
    Ok(())
}

/// Whether a send found no room. Sockets of datagrams say ENOBUFS, too.
pub(crate) fn is_blocked<T>(result: &io::Result<T>) -> bool {
    result
        .as_ref()
        .is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
}

/// The far end has gone.
pub(crate) fn gone() -> io::Error {
    io::Error::new(
        io::ErrorKind::UnexpectedEof,
        "The far end has closed the connection.",
    )
}

/// Errors after which nothing will ever work again become `UnexpectedEof`.
pub(crate) fn ended(error: io::Error) -> io::Error {
    let lasting = [
        libc::EPIPE,
        libc::ECONNRESET,
        libc::ECONNREFUSED,
        libc::ENOTCONN,
        libc::EBADFD, // A tap device that was removed.
        libc::ENODEV, // A macvtap device that was.
    ];
    if error
        .raw_os_error()
        .is_some_and(|errno| lasting.contains(&errno))
    {
        return io::Error::new(io::ErrorKind::UnexpectedEof, error);
    }
    error
}

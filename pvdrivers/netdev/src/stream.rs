//! Frames on a stream socket, each behind its length in 4 bytes, most significant first: what
//! passt, QEMU's `-netdev stream` and vde_plug speak.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::sys::socket::{MsgFlags, recv, send};
use pv_ring::IoVec;

use crate::link::{FrameInfo, Link, MAX_FRAME, MIN_FRAME, Offloads};
use crate::packet::{ended, gone, is_blocked, within};
use crate::sys::{self, Transport};

/// Bytes of the length before each frame.
const PREFIX: usize = 4;

/// Bytes received ahead: the longest frame, and a few short ones at a system call.
const AHEAD: usize = 2 * (PREFIX + MAX_FRAME);

/// Frames one after the other.
pub(crate) struct StreamLink {
    fd: OwnedFd,
    /// Received and not yet given out: `ahead[start..end]`.
    ahead: Box<[u8]>,
    start: usize,
    end: usize,
    /// The end of a frame that did not fit into the socket.
    tail: Vec<u8>,
    blocked: bool,
    pieces: Vec<IoVec>,
}

impl StreamLink {
    pub(crate) fn new(fd: OwnedFd) -> Self {
        Self {
            fd,
            ahead: vec![0; AHEAD].into(),
            start: 0,
            end: 0,
            tail: Vec::with_capacity(PREFIX + MAX_FRAME),
            blocked: false,
            pieces: Vec::with_capacity(32),
        }
    }

    /// The next frame, if it is here as a whole: where it lies. It is taken.
    fn next_frame(&mut self) -> io::Result<Option<std::ops::Range<usize>>> {
        let here = &self.ahead[self.start..self.end];
        let Some((prefix, rest)) = here.split_first_chunk::<PREFIX>() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes(*prefix) as usize;
        if length > MAX_FRAME {
            // Where the next frame begins is not known any more.
            let text = format!(
                "The far end announced a frame of {length} bytes, at most {MAX_FRAME} are allowed."
            );
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, text));
        }
        if rest.len() < length {
            return Ok(None);
        }
        let start = self.start + PREFIX;
        self.start = start + length;
        Ok(Some(start..start + length))
    }

    /// Receives more; `WouldBlock` when there is none.
    fn fill(&mut self) -> io::Result<()> {
        self.ahead.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        let room = &mut self.ahead[self.end..];
        match recv(self.fd.as_raw_fd(), room, MsgFlags::MSG_DONTWAIT) {
            Ok(0) => Err(gone()),
            Ok(count) => {
                self.end += count;
                Ok(())
            }
            Err(nix::errno::Errno::EINTR) => Ok(()),
            Err(errno) => Err(ended(errno.into())),
        }
    }

    /// Sends what is left of an earlier frame.
    fn send_tail(&mut self) -> io::Result<()> {
        while !self.tail.is_empty() {
            let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
            match send(self.fd.as_raw_fd(), &self.tail, flags) {
                Ok(count) => drop(self.tail.drain(..count)),
                Err(nix::errno::Errno::EINTR) => {}
                Err(errno) => return Err(ended(errno.into())),
            }
        }
        Ok(())
    }
}

#[allow(unsafe_code)]
impl Link for StreamLink {
    unsafe fn send(&mut self, _info: &FrameInfo, frame: &[IoVec]) -> io::Result<()> {
        let length = sys::total(frame);
        if !(MIN_FRAME..=MAX_FRAME).contains(&length) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let tail = self.send_tail();
        self.blocked = is_blocked(&tail);
        tail?;
        let mut prefix = (length as u32).to_be_bytes();
        self.pieces.clear();
        self.pieces.push(IoVec::of_bytes(&mut prefix));
        self.pieces.extend_from_slice(frame);
        // SAFETY: the prefix outlives the call and is not used in it; for the rest our caller answers.
        let result = unsafe { sys::write(self.fd.as_fd(), Transport::Socket, &self.pieces) };
        self.blocked = is_blocked(&result);
        let sent = result.map_err(ended)?;
        if sent < PREFIX + length {
            // SAFETY: as before. The frame is cut where the kernel stopped, so what was sent and
            // what is kept make it up, however the guest changes it meanwhile.
            unsafe { sys::gather(&mut self.tail, &self.pieces, sent) };
            self.blocked = true;
        }
        Ok(())
    }

    unsafe fn recv(&mut self, room: &[IoVec]) -> io::Result<(usize, FrameInfo)> {
        loop {
            match self.next_frame()? {
                Some(frame) if (MIN_FRAME..=sys::total(room)).contains(&frame.len()) => {
                    let length = frame.len();
                    // SAFETY: our caller's word; the frame fits.
                    unsafe { sys::scatter(&self.ahead[frame], room) };
                    return Ok((length, FrameInfo::default()));
                }
                Some(_) => return Err(io::ErrorKind::InvalidData.into()),
                None => self.fill()?,
            }
        }
    }

    fn event(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    fn blocked(&self) -> bool {
        self.blocked
    }

    fn flush(&mut self) -> io::Result<()> {
        let result = self.send_tail();
        self.blocked = is_blocked(&result);
        match result {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(()),
        }
    }

    fn offloads(&self) -> Offloads {
        Offloads::NONE
    }

    fn accept(&mut self, offloads: Offloads) -> io::Result<()> {
        within(offloads, Offloads::NONE)
    }
}

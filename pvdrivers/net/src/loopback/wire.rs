//! A link whose far end is the test.
#![allow(unsafe_code)]

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use nix::sys::eventfd::{EfdFlags, EventFd};
use pv_netdev::{FrameInfo, Link, Offloads};
use pv_ring::IoVec;

use super::copy::{copy_in, copy_out};

/// A frame and what is known of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frame {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// What is known.
    pub info: FrameInfo,
}

#[derive(Debug, Default)]
struct State {
    sent: VecDeque<Frame>,
    to_guest: VecDeque<Frame>,
    busy: bool,
    send_error: Option<io::ErrorKind>,
    recv_error: Option<io::ErrorKind>,
    accepted: Offloads,
    most_pieces: usize,
}

#[derive(Debug)]
struct Inner {
    state: Mutex<State>,
    changed: Condvar,
    event: EventFd,
    offloads: Offloads,
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic inside")
    }

    fn wake(&self) {
        let _ = self.event.write(1);
        self.changed.notify_all();
    }
}

/// A link that takes and gives frames of these kinds, and its far end.
///
/// # Panics
/// No file descriptors left.
pub fn wire(offloads: Offloads) -> (WireLink, Wire) {
    let flags = EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC;
    let inner = Arc::new(Inner {
        state: Mutex::default(),
        changed: Condvar::new(),
        event: EventFd::from_flags(flags).expect("a file descriptor"),
        offloads,
    });
    (WireLink(inner.clone()), Wire(inner))
}

/// The back end's end.
#[derive(Debug)]
pub struct WireLink(Arc<Inner>);

/// The test's end.
#[derive(Clone, Debug)]
pub struct Wire(Arc<Inner>);

impl Wire {
    /// A frame for the guest.
    pub fn push(&self, frame: Frame) {
        self.0.state().to_guest.push_back(frame);
        self.0.wake();
    }

    /// Frames for the guest that are still here.
    pub fn waiting(&self) -> usize {
        self.0.state().to_guest.len()
    }

    /// The next frame the guest has sent.
    pub fn take(&self) -> Option<Frame> {
        self.0.state().sent.pop_front()
    }

    /// Awaits the next frame the guest sends.
    pub fn take_within(&self, time: Duration) -> Option<Frame> {
        let end = Instant::now() + time;
        let mut state = self.0.state();
        while state.sent.is_empty() {
            let left = end.checked_duration_since(Instant::now())?;
            let waited = self.0.changed.wait_timeout(state, left);
            state = waited.expect("no panic inside").0;
        }
        state.sent.pop_front()
    }

    /// There is no room for frames of the guest, or there is again.
    pub fn set_busy(&self, busy: bool) {
        self.0.state().busy = busy;
        self.0.wake();
    }

    /// Every `send` fails like that, or no more.
    pub fn fail_send(&self, error: Option<io::ErrorKind>) {
        self.0.state().send_error = error;
    }

    /// Every `recv` fails like that, or no more.
    pub fn fail_recv(&self, error: Option<io::ErrorKind>) {
        self.0.state().recv_error = error;
        self.0.wake();
    }

    /// What the back end said the guest takes.
    pub fn accepted(&self) -> Offloads {
        self.0.state().accepted
    }

    /// The most pieces a frame of the guest's came in.
    pub fn most_pieces(&self) -> usize {
        self.0.state().most_pieces
    }
}

impl Link for WireLink {
    unsafe fn send(&mut self, info: &FrameInfo, frame: &[IoVec]) -> io::Result<()> {
        let mut state = self.0.state();
        if let Some(error) = state.send_error {
            return Err(error.into());
        }
        if state.busy {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let mut bytes = Vec::new();
        // SAFETY: passed on, by the contract of this function.
        unsafe { copy_out(frame, &mut bytes) };
        state.most_pieces = state.most_pieces.max(frame.len());
        state.sent.push_back(Frame { bytes, info: *info });
        self.0.changed.notify_all();
        Ok(())
    }

    unsafe fn recv(&mut self, room: &[IoVec]) -> io::Result<(usize, FrameInfo)> {
        let mut state = self.0.state();
        if let Some(error) = state.recv_error {
            return Err(error.into());
        }
        let Some(frame) = state.to_guest.pop_front() else {
            let _ = self.0.event.read();
            return Err(io::ErrorKind::WouldBlock.into());
        };
        // SAFETY: passed on, by the contract of this function.
        match unsafe { copy_in(&frame.bytes, room) } {
            true => Ok((frame.bytes.len(), frame.info)),
            false => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    fn event(&self) -> BorrowedFd<'_> {
        self.0.event.as_fd()
    }

    fn blocked(&self) -> bool {
        self.0.state().busy
    }

    fn offloads(&self) -> Offloads {
        self.0.offloads
    }

    fn accept(&mut self, offloads: Offloads) -> io::Result<()> {
        self.0.state().accepted = offloads;
        Ok(())
    }
}

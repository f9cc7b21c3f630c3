//! A link that goes home when its user is done with it.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex, PoisonError};

use pv_netdev::{FrameInfo, Link, Offloads};
use pv_ring::IoVec;

type Home = Arc<Mutex<Vec<Box<dyn Link>>>>;

/// A link lent to a front end's connection. What it holds, such as half a frame of a stream, is
/// there for the next one.
pub struct Lent {
    /// There until this is dropped.
    link: Option<Box<dyn Link>>,
    home: Home,
}

impl Lent {
    /// Lends a link that goes back to `home`.
    pub fn new(link: Box<dyn Link>, home: Home) -> Self {
        Self {
            link: Some(link),
            home,
        }
    }

    fn link(&mut self) -> io::Result<&mut Box<dyn Link>> {
        self.link.as_mut().ok_or(io::ErrorKind::NotConnected.into())
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let mut home = self.home.lock().unwrap_or_else(PoisonError::into_inner);
        home.extend(self.link.take());
    }
}

impl Link for Lent {
    unsafe fn send(&mut self, info: &FrameInfo, frame: &[IoVec]) -> io::Result<()> {
        // SAFETY: the caller's promise is the same.
        unsafe { self.link()?.send(info, frame) }
    }

    unsafe fn recv(&mut self, room: &[IoVec]) -> io::Result<(usize, FrameInfo)> {
        // SAFETY: as above.
        unsafe { self.link()?.recv(room) }
    }

    fn event(&self) -> BorrowedFd<'_> {
        match &self.link {
            Some(link) => link.event(),
            None => unreachable!("a link is there until it is dropped"),
        }
    }

    fn offloads(&self) -> Offloads {
        self.link
            .as_ref()
            .map_or(Offloads::default(), |link| link.offloads())
    }

    fn accept(&mut self, offloads: Offloads) -> io::Result<()> {
        self.link()?.accept(offloads)
    }
}

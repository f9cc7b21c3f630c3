//! The calls of the link, which reads and writes the guest's memory.
//!
//! Invariant: the pieces given to the link are made here from pages and buffers that the caller
//! lends for the call, so they are mapped until it returns. Pages are never seen by a Rust
//! reference (`HostPage`); a buffer is lent as `&mut`, so there is no other reference to it.
#![allow(unsafe_code)]

use std::io;
use std::ops::Range;

use pv_netdev::{FrameInfo, Link};
use pv_ring::{HostPage, IoVec};

/// Pieces of a frame, kept to save the allocation.
#[derive(Debug, Default)]
pub(super) struct Pieces(Vec<IoVec>);

impl Pieces {
    /// Appends a piece. Guests have most of a frame in pages in a row, and each piece costs the
    /// host's kernel some hundred instructions.
    #[inline]
    fn add(&mut self, piece: IoVec) {
        if !self.0.last_mut().is_some_and(|last| last.join(&piece)) {
            self.0.push(piece);
        }
    }

    /// Sends a frame: `head`, then bytes of pages.
    ///
    /// # Errors
    /// The link's.
    pub fn send<'a, P: HostPage + 'a>(
        &mut self,
        link: &mut dyn Link,
        info: &FrameInfo,
        head: &mut [u8],
        pages: impl Iterator<Item = (&'a P, Range<usize>)>,
    ) -> io::Result<()> {
        self.0.clear();
        self.0.push(IoVec::of_bytes(head));
        for (page, range) in pages {
            self.add(IoVec::of(page, range));
        }
        // SAFETY: the module's invariant; `head` and the pages are borrowed until we return.
        let result = unsafe { link.send(info, &self.0) };
        self.0.clear();
        result
    }

    /// Receives a frame into whole pages, then into `rest` unless it is empty.
    ///
    /// # Errors
    /// The link's.
    pub fn recv<'a, P: HostPage + 'a>(
        &mut self,
        link: &mut dyn Link,
        pages: impl Iterator<Item = &'a P>,
        rest: &mut [u8],
    ) -> io::Result<(usize, FrameInfo)> {
        self.0.clear();
        let mut room = rest.len();
        for page in pages {
            room += page.len();
            self.add(IoVec::of(page, 0..page.len()));
        }
        if !rest.is_empty() {
            self.0.push(IoVec::of_bytes(rest));
        }
        // SAFETY: the module's invariant; the pages and `rest` are borrowed until we return.
        let result = unsafe { link.recv(&self.0) };
        self.0.clear();
        // A link may be wrong, but nothing here reads behind the room.
        result.map(|(len, info)| (len.min(room), info))
    }
}

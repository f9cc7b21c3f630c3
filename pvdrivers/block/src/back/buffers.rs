//! The guest's pages that a request in flight reads or writes: no byte of them is copied here.
//!
//! Invariant: each piece of `iovecs` lies in a page of `pages`, or in several that the host has
//! mapped next to each other. The two only grow together and only shrink to nothing together, and
//! nobody else can put pieces in.
#![allow(unsafe_code)]

use std::ops::Range;
use std::sync::Arc;

use pv_ring::{HostPage, IoBuffers, IoVec};

/// A mapped page of the guest.
#[derive(Debug)]
pub(crate) enum Lent<P> {
    /// For one request.
    Once(P),
    /// Also kept for later ones (persistent grant).
    Kept(Arc<P>),
}

impl<P: HostPage> Lent<P> {
    #[inline]
    pub(crate) fn page(&self) -> &P {
        match self {
            Self::Once(page) => page,
            Self::Kept(page) => page,
        }
    }
}

/// The pieces of the guest's memory of one request to the medium; dropping it unmaps the pages that
/// are not kept.
#[derive(Debug)]
pub struct Buffers<P> {
    iovecs: Vec<IoVec>,
    pages: Vec<Lent<P>>,
}

impl<P> Default for Buffers<P> {
    fn default() -> Self {
        Self {
            iovecs: Vec::new(),
            pages: Vec::new(),
        }
    }
}

impl<P: HostPage> Buffers<P> {
    /// Appends part of a page.
    #[inline]
    pub(crate) fn push(&mut self, page: Lent<P>, range: Range<usize>) {
        let piece = IoVec::of(page.page(), range);
        self.push_piece(piece);
        self.pages.push(page);
    }

    /// Appends all of `other`, which is empty then.
    pub(crate) fn append(&mut self, other: &mut Self) {
        for piece in other.iovecs.drain(..) {
            self.push_piece(piece);
        }
        self.pages.append(&mut other.pages);
    }

    /// Pages that the host has next to each other make one piece.
    #[inline]
    fn push_piece(&mut self, piece: IoVec) {
        if !self.iovecs.last_mut().is_some_and(|last| last.join(&piece)) {
            self.iovecs.push(piece);
        }
    }

    /// How many pages, which is at least as many as pieces.
    pub(crate) fn pages(&self) -> usize {
        self.pages.len()
    }

    /// Gives the pages back.
    pub(crate) fn clear(&mut self) {
        self.iovecs.clear();
        self.pages.clear();
    }
}

// SAFETY: each piece lies in mapped memory that `pages` keeps mapped as long as `self` lives, by
// the invariant above; `HostPage` promises that the address stays when the page object moves, that
// accesses by system calls are allowed, and that no reference to the memory exists. A kept page was
// mapped for writing. A page lent once was mapped for what the request does: one mapped for reading
// only is only given to requests that read from the buffers.
unsafe impl<P: HostPage + Send + Sync + 'static> IoBuffers for Buffers<P> {
    fn iovecs(&self) -> &[IoVec] {
        &self.iovecs
    }
}

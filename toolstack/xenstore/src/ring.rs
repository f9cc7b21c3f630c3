//! The connection of a guest: `struct xenstore_domain_interface` in a page
//! the guest shares (`io/xs_wire.h`).
//!
//! Requests come through one ring of 1024 bytes, replies and events go through
//! another. Indices run free and are compared by wrapping subtraction. The
//! guest may write anything anywhere at any time: our own indices are kept
//! here and only ever written to the page, the guest's are checked at each use.

use std::mem::offset_of;

use pv_ring::{RingError, SharedPage};
use xen_sys::io::xs_wire::{
    XENSTORE_CONNECTED, XENSTORE_ERROR_COMM, XENSTORE_ERROR_PROTO, XENSTORE_ERROR_RINGIDX,
    XENSTORE_RECONNECT, XENSTORE_RING_SIZE, XENSTORE_SERVER_FEATURE_ERROR,
    XENSTORE_SERVER_FEATURE_RECONNECTION, XenstoreDomainInterface,
};

use crate::perms::Identity;
use crate::server::{Channel, ChannelError, Closed, ConnId, Server, Turn};

const SIZE: u32 = XENSTORE_RING_SIZE as u32;
const REQ: usize = offset_of!(XenstoreDomainInterface, req);
const RSP: usize = offset_of!(XenstoreDomainInterface, rsp);
const REQ_CONS: usize = offset_of!(XenstoreDomainInterface, req_cons);
const REQ_PROD: usize = offset_of!(XenstoreDomainInterface, req_prod);
const RSP_CONS: usize = offset_of!(XenstoreDomainInterface, rsp_cons);
const RSP_PROD: usize = offset_of!(XenstoreDomainInterface, rsp_prod);
const SERVER_FEATURES: usize = offset_of!(XenstoreDomainInterface, server_features);
const CONNECTION: usize = offset_of!(XenstoreDomainInterface, connection);
const ERROR: usize = offset_of!(XenstoreDomainInterface, error);

/// The two rings, seen from the server.
#[derive(Debug)]
struct Rings<P> {
    page: P,
    req_cons: u32,
    rsp_prod: u32,
    /// Bytes moved since the guest was last told.
    moved: bool,
}

impl<P: SharedPage> Rings<P> {
    fn room(&self) -> Result<u32, ChannelError> {
        let cons = self.page.load_u32(RSP_CONS);
        Ok(SIZE - distance(self.rsp_prod, cons)?)
    }
}

/// Bytes between two indices, which a sane peer keeps within the ring's size.
fn distance(prod: u32, cons: u32) -> Result<u32, ChannelError> {
    match prod.wrapping_sub(cons) {
        used @ 0..=SIZE => Ok(used),
        _ => Err(ChannelError::RingIndex { prod, cons }),
    }
}

/// The contiguous bytes from index `at` on: offset and length, at most `len`.
fn span(at: u32, len: u32) -> (usize, usize) {
    let offset = at % SIZE;
    // Both are at most 1024.
    (offset as usize, len.min(SIZE - offset) as usize)
}

impl<P: SharedPage> Channel for Rings<P> {
    fn recv(&mut self, buf: &mut [u8]) -> Result<usize, ChannelError> {
        let prod = self.page.load_u32(REQ_PROD);
        let (offset, count) = span(self.req_cons, distance(prod, self.req_cons)?);
        let count = count.min(buf.len());
        if count == 0 {
            return Ok(0);
        }
        self.page.read(REQ + offset, &mut buf[..count]);
        self.req_cons = self.req_cons.wrapping_add(count as u32);
        self.page.store_u32(REQ_CONS, self.req_cons);
        self.moved = true;
        Ok(count)
    }

    fn send(&mut self, buf: &[u8]) -> Result<usize, ChannelError> {
        let (offset, count) = span(self.rsp_prod, self.room()?);
        let count = count.min(buf.len());
        if count == 0 {
            return Ok(0);
        }
        self.page.write(RSP + offset, &buf[..count]);
        self.rsp_prod = self.rsp_prod.wrapping_add(count as u32);
        self.page.store_u32(RSP_PROD, self.rsp_prod);
        self.moved = true;
        Ok(count)
    }
}

/// A guest's connection: its page and its place in the server.
#[derive(Debug)]
pub struct GuestRing<P> {
    rings: Rings<P>,
    conn: ConnId,
    broken: bool,
}

impl<P: SharedPage> GuestRing<P> {
    /// Connects a guest. The rings go on where the page says they are, so that
    /// a restored guest finds them unchanged; a fresh page is zero.
    ///
    /// # Errors
    /// [`RingError::TooSmall`].
    pub fn connect(server: &mut Server, who: Identity, page: P) -> Result<GuestRing<P>, RingError> {
        let (need, have) = (size_of::<XenstoreDomainInterface>(), page.len());
        if have < need {
            return Err(RingError::TooSmall { need, have });
        }
        let features = XENSTORE_SERVER_FEATURE_RECONNECTION | XENSTORE_SERVER_FEATURE_ERROR;
        page.store_u32(SERVER_FEATURES, features);
        let (req_cons, rsp_prod) = (page.load_u32(REQ_CONS), page.load_u32(RSP_PROD));
        let rings = Rings {
            page,
            req_cons,
            rsp_prod,
            moved: false,
        };
        Ok(GuestRing {
            rings,
            conn: server.connect(who),
            broken: false,
        })
    }

    /// Serves the guest for one turn: call it when the guest has notified us
    /// and when other connections were served. Then tell the guest if
    /// [`GuestRing::take_notify`] says so.
    ///
    /// # Errors
    /// [`Closed`], once: the guest broke the protocol and is served no more.
    /// The page's error field tells it why.
    pub fn pump(&mut self, server: &mut Server) -> Result<Turn, Closed> {
        if self.broken {
            return Ok(Turn::Idle);
        }
        self.serve(server).inspect_err(|closed| {
            self.broken = true;
            self.rings.moved = true;
            server.disconnect(self.conn);
            let code = match closed {
                Closed::Channel(ChannelError::RingIndex { .. }) => XENSTORE_ERROR_RINGIDX,
                Closed::Wire(_) => XENSTORE_ERROR_PROTO,
                _ => XENSTORE_ERROR_COMM,
            };
            self.rings.page.store_u32(ERROR, code);
        })
    }

    fn serve(&mut self, server: &mut Server) -> Result<Turn, Closed> {
        if self.rings.page.load_u32(CONNECTION) == XENSTORE_RECONNECT {
            self.reconnect(server);
        }
        match server.pump(self.conn, &mut self.rings)? {
            Turn::Idle if server.has_output(self.conn) && self.rings.room()? > 0 => Ok(Turn::More),
            turn => Ok(turn),
        }
    }

    fn reconnect(&mut self, server: &mut Server) {
        server.reset(self.conn);
        (self.rings.req_cons, self.rings.rsp_prod) = (0, 0);
        for field in [REQ_CONS, REQ_PROD, RSP_CONS, RSP_PROD] {
            self.rings.page.store_u32(field, 0);
        }
        self.rings.moved = true;
        self.rings.page.store_u32(CONNECTION, XENSTORE_CONNECTED);
    }

    /// Whether the guest has to be notified; asking resets it.
    pub fn take_notify(&mut self) -> bool {
        std::mem::take(&mut self.rings.moved)
    }

    /// The connection's name in the server.
    #[must_use]
    pub fn conn(&self) -> ConnId {
        self.conn
    }

    /// Whether the guest is served no more.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.broken
    }
}

#[cfg(test)]
mod tests;

//! A guest's xenstore client: one request at a time, watch events kept until asked for.

use pv_ring::{ByteRing, Consumer, Producer, SharedPage, WaitChannel};
use xen_sys::errno::Errno;
use xen_sys::io::xs_wire::{
    XS_DIRECTORY, XS_ERROR, XS_MKDIR, XS_READ, XS_RM, XS_TRANSACTION_END, XS_TRANSACTION_START,
    XS_UNWATCH, XS_WATCH, XS_WATCH_EVENT, XS_WRITE, XSD_ERRORS, XsdSockmsg,
};

use crate::events::{Event, Events};
use crate::frame::{Incoming, Outgoing};
use crate::{Text, XenbusError};

/// A transaction's number; [`Transaction::NONE`] for a request outside of any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transaction(pub u32);

impl Transaction {
    /// No transaction.
    pub const NONE: Self = Self(0);
}

/// A guest's end of the xenstore ring.
///
/// It holds about 12 KiB of buffers: keep it in a static or on a stack that has the room.
#[derive(Debug)]
pub struct XenbusFront<P, E> {
    req: Producer<P>,
    rsp: Consumer<P>,
    channel: E,
    outgoing: Outgoing,
    incoming: Incoming,
    events: Events,
    next_id: u32,
}

impl<P: SharedPage + Clone, E: WaitChannel> XenbusFront<P, E> {
    /// Takes over the guest's end: `start_info`'s `store_mfn` and `store_evtchn`.
    ///
    /// # Errors
    /// [`XenbusError::Ring`] when the page is too small.
    pub fn attach(page: P, channel: E) -> Result<Self, XenbusError> {
        Ok(Self {
            req: Producer::attach(page.clone(), ByteRing::XENSTORE_REQ)?,
            rsp: Consumer::attach(page, ByteRing::XENSTORE_RSP)?,
            channel,
            outgoing: Outgoing::new(),
            incoming: Incoming::new(),
            events: Events::new(),
            next_id: 0,
        })
    }

    /// Sends a request of the concatenated `parts` and waits for its reply's payload.
    ///
    /// # Errors
    /// [`XenbusError::Store`] when the daemon refuses; all others mean that the connection is
    /// broken.
    pub fn request(
        &mut self,
        kind: u32,
        transaction: Transaction,
        parts: &[&[u8]],
    ) -> Result<&[u8], XenbusError> {
        self.drop_reply();
        self.next_id = self.next_id.wrapping_add(1);
        let req_id = self.next_id;
        let header = XsdSockmsg {
            kind,
            req_id,
            tx_id: transaction.0,
            len: 0,
        };
        self.outgoing.begin(header, parts)?;
        while !self.pump()? || !self.outgoing.is_sent() {
            self.channel.wait().map_err(XenbusError::Channel)?;
        }

        match self.incoming.message() {
            Some((reply, payload)) if reply.req_id == req_id && reply.kind == kind => Ok(payload),
            Some((reply, name)) if reply.req_id == req_id && reply.kind == XS_ERROR => {
                Err(XenbusError::Store(errno(name)))
            }
            other => {
                let (kind, req_id) = other.map_or((0, 0), |(reply, _)| (reply.kind, reply.req_id));
                Err(XenbusError::Unexpected { kind, req_id })
            }
        }
    }

    /// Moves what can be moved in both directions; whether a reply is complete. Replies are taken
    /// even while the request is still being sent: a daemon with a full ring would not read on.
    fn pump(&mut self) -> Result<bool, XenbusError> {
        let mut moved = self.outgoing.flush(&mut self.req)?;
        let complete = loop {
            moved += self.incoming.fill(&mut self.rsp)?;
            match self.incoming.message() {
                Some((header, payload)) if header.kind == XS_WATCH_EVENT => {
                    self.events.push(payload);
                    self.incoming.clear();
                }
                message => break message.is_some(),
            }
        };
        if moved > 0 {
            self.channel.notify().map_err(XenbusError::Channel)?;
        }
        Ok(complete)
    }

    /// The reply of the former request has been used.
    fn drop_reply(&mut self) {
        if self.incoming.message().is_some() {
            self.incoming.clear();
        }
    }

    /// Value of a node.
    ///
    /// # Errors
    /// As [`request`](Self::request); `ENOENT`, `EACCES`.
    pub fn read(&mut self, transaction: Transaction, path: &str) -> Result<&[u8], XenbusError> {
        self.request(XS_READ, transaction, &[path.as_bytes(), b"\0"])
    }

    /// Value of a node that holds a decimal number.
    ///
    /// # Errors
    /// As [`read`](Self::read); [`XenbusError::Store`] with `EINVAL` when it is no number.
    pub fn read_number(
        &mut self,
        transaction: Transaction,
        path: &str,
    ) -> Result<u64, XenbusError> {
        let value = core::str::from_utf8(self.read(transaction, path)?).ok();
        value
            .and_then(|text| text.parse().ok())
            .ok_or(XenbusError::Store(Errno::EINVAL))
    }

    /// Sets a node, making it and its parents where needed.
    ///
    /// # Errors
    /// As [`request`](Self::request); `EACCES`.
    pub fn write(
        &mut self,
        transaction: Transaction,
        path: &str,
        value: &[u8],
    ) -> Result<(), XenbusError> {
        self.request(XS_WRITE, transaction, &[path.as_bytes(), b"\0", value])
            .map(drop)
    }

    /// Sets a node to a decimal number.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn write_number(
        &mut self,
        transaction: Transaction,
        path: &str,
        value: u64,
    ) -> Result<(), XenbusError> {
        // 20 digits at most.
        let text = Text::<20>::format(format_args!("{value}"));
        let text = text.map_err(|_| XenbusError::Store(Errno::EINVAL))?;
        self.write(transaction, path, text.as_bytes())
    }

    /// Makes an empty node and its parents.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn mkdir(&mut self, transaction: Transaction, path: &str) -> Result<(), XenbusError> {
        self.request(XS_MKDIR, transaction, &[path.as_bytes(), b"\0"])
            .map(drop)
    }

    /// Removes a node and its children.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn rm(&mut self, transaction: Transaction, path: &str) -> Result<(), XenbusError> {
        self.request(XS_RM, transaction, &[path.as_bytes(), b"\0"])
            .map(drop)
    }

    /// Names of a node's children.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn directory(
        &mut self,
        transaction: Transaction,
        path: &str,
    ) -> Result<impl Iterator<Item = &[u8]>, XenbusError> {
        let names = self.request(XS_DIRECTORY, transaction, &[path.as_bytes(), b"\0"])?;
        Ok(names
            .split(|byte| *byte == 0)
            .filter(|name| !name.is_empty()))
    }

    /// Watches a node and what is below it. The first event comes at once.
    ///
    /// # Errors
    /// As [`request`](Self::request); `EEXIST`.
    pub fn watch(&mut self, path: &str, token: &str) -> Result<(), XenbusError> {
        let parts: [&[u8]; 4] = [path.as_bytes(), b"\0", token.as_bytes(), b"\0"];
        self.request(XS_WATCH, Transaction::NONE, &parts).map(drop)
    }

    /// Ends a watch. Events that wait already still come.
    ///
    /// # Errors
    /// As [`request`](Self::request); `ENOENT`.
    pub fn unwatch(&mut self, path: &str, token: &str) -> Result<(), XenbusError> {
        let parts: [&[u8]; 4] = [path.as_bytes(), b"\0", token.as_bytes(), b"\0"];
        self.request(XS_UNWATCH, Transaction::NONE, &parts)
            .map(drop)
    }

    /// Starts a transaction.
    ///
    /// # Errors
    /// As [`request`](Self::request); `ENOSPC`.
    pub fn transaction_start(&mut self) -> Result<Transaction, XenbusError> {
        let payload = self.request(XS_TRANSACTION_START, Transaction::NONE, &[b"\0"])?;
        let text = core::str::from_utf8(payload).unwrap_or_default();
        let id = text.trim_end_matches('\0').parse();
        id.map(Transaction)
            .map_err(|_| XenbusError::Store(Errno::EINVAL))
    }

    /// Ends a transaction, committing it or not.
    ///
    /// # Errors
    /// As [`request`](Self::request); `EAGAIN`: others interfered, do it all again.
    pub fn transaction_end(
        &mut self,
        transaction: Transaction,
        commit: bool,
    ) -> Result<(), XenbusError> {
        let verdict: &[u8] = if commit { b"T\0" } else { b"F\0" };
        self.request(XS_TRANSACTION_END, transaction, &[verdict])
            .map(drop)
    }

    /// The oldest event that waits, if any.
    ///
    /// # Errors
    /// As [`request`](Self::request).
    pub fn poll_event(&mut self) -> Result<Option<Event<'_>>, XenbusError> {
        self.drop_reply();
        if self.pump()? {
            return Err(self.unexpected());
        }
        Ok(self.events.pop())
    }

    /// Waits for an event.
    ///
    /// # Errors
    /// As [`request`](Self::request).
    pub fn wait_event(&mut self) -> Result<Event<'_>, XenbusError> {
        self.drop_reply();
        loop {
            if self.pump()? {
                return Err(self.unexpected());
            }
            if !self.events.is_empty() {
                break;
            }
            self.channel.wait().map_err(XenbusError::Channel)?;
        }
        self.events.pop().ok_or(XenbusError::Unexpected {
            kind: XS_WATCH_EVENT,
            req_id: 0,
        })
    }

    /// Events lost because too many came while a reply was awaited.
    pub fn events_lost(&self) -> u64 {
        self.events.lost()
    }

    /// A reply came, but nothing was asked.
    fn unexpected(&self) -> XenbusError {
        let (kind, req_id) = self
            .incoming
            .message()
            .map_or((0, 0), |(reply, _)| (reply.kind, reply.req_id));
        XenbusError::Unexpected { kind, req_id }
    }
}

/// The error an `XS_ERROR` reply names; `EIO` for a name that is none.
fn errno(name: &[u8]) -> Errno {
    let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
    let known = XSD_ERRORS
        .iter()
        .find(|(_, known)| known.as_bytes() == name);
    known.map_or(Errno::EIO, |(errno, _)| *errno)
}

#[cfg(test)]
#[path = "front_test.rs"]
mod tests;

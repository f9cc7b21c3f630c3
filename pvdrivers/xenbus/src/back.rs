//! The daemon's end of the xenstore ring: whole requests in, whole replies and events out. What
//! they mean is the daemon's business.
//!
//! One message is sent at a time; while it does not fit the ring, [`XenbusBack::send`] refuses the
//! next one, and a daemon should read no further request: so a guest that does not read its
//! replies only stops itself.

use core::mem::offset_of;

use pv_ring::{ByteRing, Consumer, EventChannel, Producer, SharedPage};
use xen_sys::io::xs_wire::{
    XENSTORE_CONNECTED, XENSTORE_RECONNECT, XENSTORE_SERVER_FEATURE_ERROR,
    XENSTORE_SERVER_FEATURE_RECONNECTION, XenstoreDomainInterface, XsdSockmsg,
};

use crate::XenbusError;
use crate::frame::{Incoming, Outgoing};

const SERVER_FEATURES: usize = offset_of!(XenstoreDomainInterface, server_features);
const CONNECTION: usize = offset_of!(XenstoreDomainInterface, connection);
const ERROR: usize = offset_of!(XenstoreDomainInterface, error);

/// The daemon's end of one guest's ring.
#[derive(Debug)]
pub struct XenbusBack<P, E> {
    req: Consumer<P>,
    rsp: Producer<P>,
    page: P,
    channel: E,
    outgoing: Outgoing,
    incoming: Incoming,
    /// The incoming message has been handed out.
    taken: bool,
}

impl<P: SharedPage + Clone, E: EventChannel> XenbusBack<P, E> {
    /// Takes over the daemon's end where the page says it stands, and announces that it can
    /// reconnect and report errors.
    ///
    /// # Errors
    /// [`XenbusError::Ring`] when the page is too small.
    pub fn attach(page: P, channel: E) -> Result<Self, XenbusError> {
        let back = Self {
            req: Consumer::attach(page.clone(), ByteRing::XENSTORE_REQ)?,
            rsp: Producer::attach(page.clone(), ByteRing::XENSTORE_RSP)?,
            page,
            channel,
            outgoing: Outgoing::new(),
            incoming: Incoming::new(),
            taken: false,
        };
        let features = XENSTORE_SERVER_FEATURE_RECONNECTION | XENSTORE_SERVER_FEATURE_ERROR;
        back.page.store_u32(SERVER_FEATURES, features);
        Ok(back)
    }

    /// The next request, when it is complete.
    ///
    /// # Errors
    /// The guest broke the protocol: [`fail`](Self::fail) and serve it no more, until it
    /// reconnects.
    pub fn recv(&mut self) -> Result<Option<(XsdSockmsg, &[u8])>, XenbusError> {
        if core::mem::take(&mut self.taken) {
            self.incoming.clear();
        }
        let moved = self.incoming.fill(&mut self.req)?;
        self.notify_if(moved)?;
        self.taken = self.incoming.message().is_some();
        Ok(self.incoming.message())
    }

    /// Sends a reply or event of the concatenated `parts`; `header.len` is set here. `false`: the
    /// former message is not out yet, try again after the guest has notified.
    ///
    /// # Errors
    /// As [`recv`](Self::recv); [`XenbusError::TooLong`].
    pub fn send(&mut self, header: XsdSockmsg, parts: &[&[u8]]) -> Result<bool, XenbusError> {
        if !self.flush()? {
            return Ok(false);
        }
        self.outgoing.begin(header, parts)?;
        self.flush()?;
        Ok(true)
    }

    /// Puts what is left of the last message in the ring; whether that is all of it.
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    pub fn flush(&mut self) -> Result<bool, XenbusError> {
        let moved = self.outgoing.flush(&mut self.rsp)?;
        self.notify_if(moved)?;
        Ok(self.outgoing.is_sent())
    }

    /// Tells the guest why it is served no more: `XENSTORE_ERROR_*`.
    ///
    /// # Errors
    /// [`XenbusError::Channel`].
    pub fn fail(&mut self, error: u32) -> Result<(), XenbusError> {
        self.page.store_u32(ERROR, error);
        self.channel.notify().map_err(XenbusError::Channel)
    }

    /// Whether the guest asks for a new connection: drop its watches and transactions, then
    /// [`reconnect`](Self::reconnect).
    pub fn wants_reconnect(&self) -> bool {
        self.page.load_u32(CONNECTION) == XENSTORE_RECONNECT
    }

    /// Empties both rings and tells the guest that it is connected.
    ///
    /// # Errors
    /// [`XenbusError::Channel`].
    pub fn reconnect(&mut self) -> Result<(), XenbusError> {
        self.incoming.clear();
        self.outgoing.clear();
        self.taken = false;
        // The guest touches nothing before it sees the connection: both its indices are ours now.
        for ring in [ByteRing::XENSTORE_REQ, ByteRing::XENSTORE_RSP] {
            Producer::attach(self.page.clone(), ring)?.reset(0);
            Consumer::attach(self.page.clone(), ring)?.reset(0);
        }
        self.req = Consumer::attach(self.page.clone(), ByteRing::XENSTORE_REQ)?;
        self.rsp = Producer::attach(self.page.clone(), ByteRing::XENSTORE_RSP)?;
        self.page.store_u32(ERROR, 0);
        self.page.store_u32(CONNECTION, XENSTORE_CONNECTED);
        self.channel.notify().map_err(XenbusError::Channel)
    }

    fn notify_if(&self, moved: usize) -> Result<(), XenbusError> {
        if moved > 0 {
            self.channel.notify().map_err(XenbusError::Channel)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use pv_ring::WordPage;
    use xen_sys::errno::Errno;
    use xen_sys::io::xs_wire::{XENSTORE_ERROR_PROTO, XS_READ};
    use zerocopy::IntoBytes;

    use super::*;

    struct Silent;

    impl EventChannel for Silent {
        fn notify(&self) -> Result<(), Errno> {
            Ok(())
        }
    }

    fn write_request(page: &WordPage, header: XsdSockmsg, payload: &[u8]) {
        let mut req = Producer::attach(page, ByteRing::XENSTORE_REQ).unwrap();
        req.write(header.as_bytes()).unwrap();
        req.write(payload).unwrap();
    }

    #[test]
    fn a_request_comes_once_and_whole() {
        let page = WordPage::new();
        let mut back = XenbusBack::attach(&page, &Silent).unwrap();
        let header = XsdSockmsg {
            kind: XS_READ,
            len: 4,
            ..Default::default()
        };
        write_request(&page, header, b"a/");
        assert_eq!(back.recv(), Ok(None));
        Producer::attach(&page, ByteRing::XENSTORE_REQ)
            .unwrap()
            .write(b"b\0")
            .unwrap();
        assert_eq!(back.recv(), Ok(Some((header, &b"a/b\0"[..]))));
        assert_eq!(back.recv(), Ok(None));
    }

    #[test]
    fn a_guest_that_reads_nothing_is_held_back() {
        let page = WordPage::new();
        let mut back = XenbusBack::attach(&page, &Silent).unwrap();
        assert_eq!(back.send(XsdSockmsg::default(), &[&[1; 4096]]), Ok(true));
        assert_eq!(back.send(XsdSockmsg::default(), &[]), Ok(false));
        let mut rsp = Consumer::attach(&page, ByteRing::XENSTORE_RSP).unwrap();
        for _ in 0..4 {
            rsp.consume(1024).unwrap();
            back.flush().unwrap();
        }
        assert_eq!(back.send(XsdSockmsg::default(), &[]), Ok(true));
    }

    #[test]
    fn a_broken_guest_can_reconnect() {
        let page = WordPage::new();
        let mut back = XenbusBack::attach(&page, &Silent).unwrap();
        assert_eq!(page.load_u32(SERVER_FEATURES), 3);
        write_request(
            &page,
            XsdSockmsg {
                len: 5000,
                ..Default::default()
            },
            b"",
        );
        assert_eq!(back.recv(), Err(XenbusError::TooLong(5000)));
        back.fail(XENSTORE_ERROR_PROTO).unwrap();
        assert_eq!(page.load_u32(ERROR), XENSTORE_ERROR_PROTO);

        page.store_u32(CONNECTION, XENSTORE_RECONNECT);
        assert!(back.wants_reconnect());
        back.reconnect().unwrap();
        assert!(!back.wants_reconnect());
        assert_eq!(page.load_u32(ERROR), 0);
        let header = XsdSockmsg {
            kind: XS_READ,
            len: 2,
            ..Default::default()
        };
        write_request(&page, header, b"x\0");
        assert_eq!(back.recv(), Ok(Some((header, &b"x\0"[..]))));
    }
}

//! Messages over the byte rings: a header of 16 bytes, then `len` bytes of payload.

use pv_ring::{Consumer, Producer, SharedPage};
use xen_sys::io::xs_wire::{XENSTORE_PAYLOAD_MAX, XsdSockmsg};
use zerocopy::{FromBytes, IntoBytes};

use crate::XenbusError;

const HEADER: usize = size_of::<XsdSockmsg>();

/// A message being received, piece by piece.
#[derive(Debug)]
pub(crate) struct Incoming {
    bytes: [u8; HEADER + XENSTORE_PAYLOAD_MAX],
    len: usize,
}

impl Incoming {
    pub(crate) const fn new() -> Self {
        Self {
            bytes: [0; HEADER + XENSTORE_PAYLOAD_MAX],
            len: 0,
        }
    }

    /// Takes what the ring has of the message; the bytes taken. Once the message
    /// [is complete](Self::message) nothing more is taken until [`clear`](Self::clear).
    pub(crate) fn fill<P: SharedPage>(
        &mut self,
        ring: &mut Consumer<P>,
    ) -> Result<usize, XenbusError> {
        let mut moved = 0;
        loop {
            let want = self.want()?;
            let n = ring.read(&mut self.bytes[self.len..want])?;
            if n == 0 {
                return Ok(moved);
            }
            self.len += n;
            moved += n;
        }
    }

    /// How many bytes the message has, as far as is known by now.
    fn want(&self) -> Result<usize, XenbusError> {
        let Some(header) = self.header() else {
            return Ok(HEADER);
        };
        match header.len as usize {
            len @ 0..=XENSTORE_PAYLOAD_MAX => Ok(HEADER + len),
            len => Err(XenbusError::TooLong(len)),
        }
    }

    fn header(&self) -> Option<XsdSockmsg> {
        let (header, _) = XsdSockmsg::read_from_prefix(&self.bytes[..self.len]).ok()?;
        Some(header)
    }

    /// The message, when it is complete.
    pub(crate) fn message(&self) -> Option<(XsdSockmsg, &[u8])> {
        let header = self.header()?;
        let payload = self.bytes[HEADER..self.len].get(..header.len as usize)?;
        Some((header, payload))
    }

    /// Makes room for the next message.
    pub(crate) fn clear(&mut self) {
        self.len = 0;
    }
}

/// A message being sent, piece by piece.
#[derive(Debug)]
pub(crate) struct Outgoing {
    bytes: [u8; HEADER + XENSTORE_PAYLOAD_MAX],
    len: usize,
    sent: usize,
}

impl Outgoing {
    pub(crate) const fn new() -> Self {
        Self {
            bytes: [0; HEADER + XENSTORE_PAYLOAD_MAX],
            len: 0,
            sent: 0,
        }
    }

    /// Whether all of the former message is in the ring.
    pub(crate) fn is_sent(&self) -> bool {
        self.sent == self.len
    }

    /// Begins a message of the concatenated `parts`; `header.len` is set here.
    pub(crate) fn begin(&mut self, header: XsdSockmsg, parts: &[&[u8]]) -> Result<(), XenbusError> {
        let len: usize = parts.iter().map(|part| part.len()).sum();
        if len > XENSTORE_PAYLOAD_MAX {
            return Err(XenbusError::TooLong(len));
        }
        let header = XsdSockmsg {
            len: len as u32,
            ..header
        };
        (self.len, self.sent) = (0, 0);
        for part in core::iter::once(&header.as_bytes()).chain(parts) {
            self.bytes[self.len..][..part.len()].copy_from_slice(part);
            self.len += part.len();
        }
        Ok(())
    }

    /// Puts as much in the ring as fits; the bytes put there.
    pub(crate) fn flush<P: SharedPage>(
        &mut self,
        ring: &mut Producer<P>,
    ) -> Result<usize, XenbusError> {
        let n = ring.write(&self.bytes[self.sent..self.len])?;
        self.sent += n;
        Ok(n)
    }

    /// Forgets the message.
    pub(crate) fn clear(&mut self) {
        (self.len, self.sent) = (0, 0);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use pv_ring::{ByteRing, WordPage};
    use std::vec::Vec;

    use super::*;

    fn ends(page: &WordPage) -> (Producer<&WordPage>, Consumer<&WordPage>) {
        let ring = ByteRing::XENSTORE_REQ;
        (
            Producer::attach(page, ring).unwrap(),
            Consumer::attach(page, ring).unwrap(),
        )
    }

    #[test]
    fn a_claimed_length_beyond_the_limit_is_refused() {
        let page = WordPage::new();
        let (mut producer, mut consumer) = ends(&page);
        producer
            .write(
                XsdSockmsg {
                    len: 4097,
                    ..Default::default()
                }
                .as_bytes(),
            )
            .unwrap();
        let error = Incoming::new().fill(&mut consumer).unwrap_err();
        assert_eq!(error, XenbusError::TooLong(4097));
        assert!(
            Outgoing::new()
                .begin(XsdSockmsg::default(), &[&[0; 4097]])
                .is_err()
        );
    }

    proptest! {
        #[test]
        fn messages_pass_in_pieces(
            messages in prop::collection::vec(
                (any::<u32>(), prop::collection::vec(any::<u8>(), 0..=4096)), 1..6),
        ) {
            let page = WordPage::new();
            let (mut producer, mut consumer) = ends(&page);
            let (mut outgoing, mut incoming) = (Outgoing::new(), Incoming::new());
            let mut got = Vec::new();
            for (req_id, payload) in &messages {
                let header = XsdSockmsg { req_id: *req_id, ..Default::default() };
                let (a, b) = payload.split_at(payload.len() / 2);
                outgoing.begin(header, &[a, b]).unwrap();
                loop {
                    outgoing.flush(&mut producer).unwrap();
                    incoming.fill(&mut consumer).unwrap();
                    if let Some((header, payload)) = incoming.message() {
                        got.push((header.req_id, payload.to_vec()));
                        incoming.clear();
                        break;
                    }
                }
                prop_assert!(outgoing.is_sent());
            }
            prop_assert_eq!(got, messages);
        }

        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..1024)) {
            let page = WordPage::new();
            let (mut producer, mut consumer) = ends(&page);
            producer.write(&bytes).unwrap();
            let mut incoming = Incoming::new();
            while incoming.fill(&mut consumer).is_ok() && incoming.message().is_some() {
                incoming.clear();
            }
        }
    }
}

//! The transmit ring.

use pv_ring::{EventChannel, FrontRing, RingError, SharedPage};
use xen_sys::GrantRef;
use xen_sys::io::netif::{
    NETIF_RSP_NULL, NETTXF_csum_blank, NETTXF_data_validated, NETTXF_extra_info, NETTXF_more_data,
    NetifExtraInfo, NetifTxRequest, NetifTxResponse,
};
use zerocopy::{FromZeros, IntoBytes};

use super::{FrontError, MAX_PIECES};
use crate::PAGE_SIZE;
use crate::extra::{GsoInfo, MacAddr, multicast};

/// Slots of a ring of one page.
const SLOTS: usize = 256;

/// What is known of a frame besides its bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TxFrame {
    /// The transport checksum is left out.
    pub csum_blank: bool,
    /// The checksum is right, or blank and the data right.
    pub data_validated: bool,
    /// To be cut into segments.
    pub gso: Option<GsoInfo>,
}

/// Bytes of a granted page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TxPiece {
    /// The page's grant; the back end only reads.
    pub gref: GrantRef,
    /// First byte in the page.
    pub offset: u16,
    /// Bytes.
    pub len: u16,
}

/// A packet that the back end is done with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TxDone {
    /// The caller's name for it.
    pub packet: u16,
    /// `NETIF_RSP_OKAY`, or the first of its pieces' errors.
    pub status: i16,
}

/// What is known of a request in the ring, by its id.
#[derive(Clone, Copy, Debug, Default)]
struct Sent {
    in_use: bool,
    /// The id of the packet's first request; the rest is kept there.
    first: u16,
    packet: u16,
    unanswered: u16,
    status: i16,
}

/// A transmit ring: the front end's side.
#[derive(Debug)]
pub struct TxQueue<P, E> {
    ring: FrontRing<P, NetifTxRequest, NetifTxResponse>,
    channel: E,
    sent: [Sent; SLOTS],
    free: [u16; SLOTS],
    free_len: usize,
    notifications: u64,
}

impl<P: SharedPage, E: EventChannel> TxQueue<P, E> {
    /// Makes an empty ring in the page.
    ///
    /// # Errors
    /// [`FrontError::Ring`]: the page is none.
    pub fn new(page: P, channel: E) -> Result<Self, FrontError> {
        let ring = FrontRing::init(page)?;
        let need = PAGE_SIZE;
        if ring.slots() as usize != SLOTS {
            return Err(RingError::TooSmall { need, have: 0 }.into());
        }
        Ok(Self {
            ring,
            channel,
            sent: [Sent::default(); SLOTS],
            free: core::array::from_fn(|n| (SLOTS - 1 - n) as u16),
            free_len: SLOTS,
            notifications: 0,
        })
    }

    /// Slots that are free now. A packet takes one for each piece, and one if it is to be cut.
    pub fn free(&self) -> u32 {
        self.ring.free()
    }

    /// Notifications sent so far.
    pub fn notifications(&self) -> u64 {
        self.notifications
    }

    /// The event channel.
    pub fn channel(&self) -> &E {
        &self.channel
    }

    /// Puts a packet into the ring; the back end does not see it yet. The pages may not be changed
    /// until it is [`done`](Self::done).
    ///
    /// # Errors
    /// [`FrontError::Ring`] with [`RingError::Full`]; [`FrontError::Packet`].
    pub fn send(
        &mut self,
        frame: &TxFrame,
        pieces: &[TxPiece],
        packet: u16,
    ) -> Result<(), FrontError> {
        let len: usize = pieces.iter().map(|piece| usize::from(piece.len)).sum();
        let len = u16::try_from(len).map_err(|_| FrontError::Packet)?;
        if pieces.is_empty() || pieces.len() > MAX_PIECES {
            return Err(FrontError::Packet);
        }
        self.reserve(pieces.len() + usize::from(frame.gso.is_some()))?;
        let mut flags = 0;
        for (on, flag) in [
            (frame.csum_blank, NETTXF_csum_blank),
            (frame.data_validated, NETTXF_data_validated),
            (frame.gso.is_some(), NETTXF_extra_info),
        ] {
            flags |= if on { flag } else { 0 };
        }
        let first = self.free[self.free_len - 1];
        for (n, piece) in pieces.iter().enumerate() {
            let id = self.take_id(first);
            let more = if n + 1 < pieces.len() {
                NETTXF_more_data
            } else {
                0
            };
            self.ring.push(&NetifTxRequest {
                gref: piece.gref,
                offset: piece.offset,
                flags: more | if n == 0 { flags } else { 0 },
                id,
                size: if n == 0 { len } else { piece.len },
            })?;
            if let (0, Some(gso)) = (n, frame.gso) {
                self.push_extra(&gso.encode())?;
            }
        }
        self.sent[usize::from(first)].packet = packet;
        Ok(())
    }

    /// Asks for frames to a multicast address, or for no more of them; answered like a packet.
    ///
    /// # Errors
    /// [`FrontError::Ring`] with [`RingError::Full`].
    pub fn multicast(
        &mut self,
        address: MacAddr,
        wanted: bool,
        packet: u16,
    ) -> Result<(), FrontError> {
        self.reserve(2)?;
        let id = self.free[self.free_len - 1];
        self.take_id(id);
        self.ring.push(&NetifTxRequest {
            flags: NETTXF_extra_info,
            id,
            ..Default::default()
        })?;
        self.sent[usize::from(id)].packet = packet;
        self.push_extra(&multicast(address, wanted))
    }

    /// Puts any request into the ring, for tests of back ends. Its answers are seen only by
    /// [`raw_response`](Self::raw_response).
    ///
    /// # Errors
    /// [`FrontError::Ring`] with [`RingError::Full`].
    pub fn send_raw(&mut self, request: &NetifTxRequest) -> Result<(), FrontError> {
        Ok(self.ring.push(request)?)
    }

    /// Takes a response as it is, for tests of back ends.
    ///
    /// # Errors
    /// [`FrontError::Ring`]: the back end is broken.
    pub fn raw_response(&mut self) -> Result<Option<NetifTxResponse>, FrontError> {
        Ok(self.ring.pop()?)
    }

    fn reserve(&self, slots: usize) -> Result<(), FrontError> {
        // Extra information takes a slot, but no id: there are never fewer ids than slots.
        if (self.ring.free() as usize) < slots {
            return Err(RingError::Full.into());
        }
        Ok(())
    }

    fn take_id(&mut self, first: u16) -> u16 {
        self.free_len -= 1;
        let id = self.free[self.free_len];
        self.sent[usize::from(id)] = Sent {
            in_use: true,
            first,
            ..Default::default()
        };
        self.sent[usize::from(first)].unanswered += 1;
        id
    }

    fn push_extra(&mut self, extra: &NetifExtraInfo) -> Result<(), FrontError> {
        let mut slot = NetifTxRequest::new_zeroed();
        slot.as_mut_bytes()[..size_of::<NetifExtraInfo>()].copy_from_slice(extra.as_bytes());
        Ok(self.ring.push(&slot)?)
    }

    /// Lets the back end see what was sent, and notifies it if it asked for that; whether it did.
    ///
    /// # Errors
    /// [`FrontError::Channel`].
    pub fn publish(&mut self) -> Result<bool, FrontError> {
        let notify = self.ring.publish();
        if notify {
            self.notifications += 1;
            self.channel.notify().map_err(FrontError::Channel)?;
        }
        Ok(notify)
    }

    /// A packet that the back end is done with, if there is one.
    ///
    /// # Errors
    /// [`FrontError::Ring`], [`FrontError::Response`]: the back end is broken.
    pub fn done(&mut self) -> Result<Option<TxDone>, FrontError> {
        while let Some(response) = self.ring.pop()? {
            if response.status == NETIF_RSP_NULL {
                continue;
            }
            let sent = self.sent.get_mut(usize::from(response.id));
            let sent = sent.filter(|sent| sent.in_use);
            let sent = sent.ok_or(FrontError::Response)?;
            sent.in_use = false;
            let id = sent.first;
            let first = &mut self.sent[usize::from(id)];
            first.unanswered -= 1;
            if first.status == 0 {
                first.status = response.status;
            }
            let done = TxDone {
                packet: first.packet,
                status: first.status,
            };
            let all = first.unanswered == 0;
            // The first request's id holds the packet's state until all are answered.
            if response.id != id {
                self.give_id(response.id);
            }
            if all {
                self.give_id(id);
                return Ok(Some(done));
            }
        }
        Ok(None)
    }

    fn give_id(&mut self, id: u16) {
        self.free[self.free_len] = id;
        self.free_len += 1;
    }

    /// Asks to be notified when `count` more slots are answered; whether they are already, so that
    /// this end must not sleep.
    ///
    /// # Errors
    /// [`FrontError::Ring`]: the back end is broken.
    pub fn ask(&mut self, count: u32) -> Result<bool, FrontError> {
        Ok(self.ring.final_check_for(count)?)
    }
}

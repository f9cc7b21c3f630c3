//! The receive ring.

use pv_ring::{EventChannel, FrontRing, RingError, SharedPage};
use xen_sys::GrantRef;
use xen_sys::io::netif::{
    NETRXF_csum_blank, NETRXF_data_validated, NETRXF_extra_info, NETRXF_more_data, NetifExtraInfo,
    NetifRxRequest, NetifRxResponse, XEN_NETIF_EXTRA_FLAG_MORE, XEN_NETIF_EXTRA_TYPE_GSO,
};
use zerocopy::{FromBytes, IntoBytes};

use super::{FrontError, MAX_PIECES};
use crate::PAGE_SIZE;
use crate::extra::GsoInfo;

/// Slots of a ring of one page.
const SLOTS: usize = 256;

/// A page to receive into.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Buffer {
    /// The caller's name for it.
    pub name: u16,
    /// Its grant; the back end writes.
    pub gref: GrantRef,
}

/// Bytes received.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RxPiece {
    /// The page, which is the caller's again.
    pub buffer: Buffer,
    /// First byte in the page.
    pub offset: u16,
    /// Bytes; they lie within the page.
    pub len: u16,
}

/// A frame received.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Received {
    pieces: [RxPiece; MAX_PIECES],
    count: usize,
    /// The transport checksum is left out.
    pub csum_blank: bool,
    /// The checksum is right, or blank and the data right.
    pub data_validated: bool,
    /// A large segment.
    pub gso: Option<GsoInfo>,
}

impl Received {
    /// Where it is, in order.
    pub fn pieces(&self) -> &[RxPiece] {
        &self.pieces[..self.count]
    }

    /// Bytes.
    #[allow(clippy::len_without_is_empty)] // a frame never is
    pub fn len(&self) -> usize {
        self.pieces()
            .iter()
            .map(|piece| usize::from(piece.len))
            .sum()
    }
}

/// A receive ring: the front end's side.
#[derive(Debug)]
pub struct RxQueue<P, E> {
    ring: FrontRing<P, NetifRxRequest, NetifRxResponse>,
    channel: E,
    /// By the slot of the request; responses keep the order.
    buffers: [Buffer; SLOTS],
    posted: u32,
    taken: u32,
    errors: u64,
    notifications: u64,
}

impl<P: SharedPage, E: EventChannel> RxQueue<P, E> {
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
            buffers: [Buffer::default(); SLOTS],
            posted: 0,
            taken: 0,
            errors: 0,
            notifications: 0,
        })
    }

    /// Buffers that can be posted now.
    pub fn free(&self) -> u32 {
        self.ring.free()
    }

    /// Notifications sent so far.
    pub fn notifications(&self) -> u64 {
        self.notifications
    }

    /// Frames that came with an error and were dropped.
    pub fn errors(&self) -> u64 {
        self.errors
    }

    /// The event channel.
    pub fn channel(&self) -> &E {
        &self.channel
    }

    /// Gives the back end a page to receive into; it does not see it yet.
    ///
    /// # Errors
    /// [`FrontError::Ring`] with [`RingError::Full`].
    pub fn post(&mut self, buffer: Buffer) -> Result<(), FrontError> {
        let at = self.posted as usize % SLOTS;
        self.ring.push(&NetifRxRequest {
            id: at as u16,
            pad: 0,
            gref: buffer.gref,
        })?;
        self.buffers[at] = buffer;
        self.posted = self.posted.wrapping_add(1);
        Ok(())
    }

    /// Lets the back end see what was posted, and notifies it if it asked for that; whether it did.
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

    /// The next frame, if there is one. Buffers that carried no data, or a frame with an error, are
    /// posted again.
    ///
    /// # Errors
    /// [`FrontError::Ring`], [`FrontError::Response`]: the back end is broken.
    pub fn recv(&mut self) -> Result<Option<Received>, FrontError> {
        while let Some((first, buffer)) = self.take()? {
            let mut frame = Received {
                csum_blank: first.flags & NETRXF_csum_blank != 0,
                data_validated: first.flags & NETRXF_data_validated != 0,
                ..Default::default()
            };
            let mut good = frame.add(&first, buffer);
            let mut extra = first.flags & NETRXF_extra_info != 0;
            while extra {
                let (info, buffer) = self.take()?.ok_or(FrontError::Response)?;
                let info = NetifExtraInfo::read_from_bytes(info.as_bytes()).expect("8 bytes each");
                extra = info.flags & XEN_NETIF_EXTRA_FLAG_MORE != 0;
                if info.kind == XEN_NETIF_EXTRA_TYPE_GSO {
                    frame.gso = GsoInfo::decode(&info).ok();
                    good &= frame.gso.is_some();
                }
                self.post(buffer)?;
            }
            let mut more = first.flags & NETRXF_more_data != 0;
            while more {
                let (piece, buffer) = self.take()?.ok_or(FrontError::Response)?;
                more = piece.flags & NETRXF_more_data != 0;
                if frame.count == MAX_PIECES {
                    self.post(buffer)?;
                    good = false;
                } else {
                    good &= frame.add(&piece, buffer);
                }
            }
            if good {
                return Ok(Some(frame));
            }
            self.errors += 1;
            for piece in frame.pieces() {
                self.post(piece.buffer)?;
            }
        }
        Ok(None)
    }

    /// The next response and its buffer. Responses keep the order of requests, so the id says
    /// nothing new.
    fn take(&mut self) -> Result<Option<(NetifRxResponse, Buffer)>, FrontError> {
        let Some(response) = self.ring.pop()? else {
            return Ok(None);
        };
        let buffer = self.buffers[self.taken as usize % SLOTS];
        self.taken = self.taken.wrapping_add(1);
        Ok(Some((response, buffer)))
    }

    /// Asks to be notified of the next frame; whether there is one already, so that this end must
    /// not sleep.
    ///
    /// # Errors
    /// [`FrontError::Ring`]: the back end is broken.
    pub fn ask(&mut self) -> Result<bool, FrontError> {
        Ok(self.ring.final_check()?)
    }
}

impl Received {
    /// Adds a slot, there being room for it; whether it can be one.
    fn add(&mut self, response: &NetifRxResponse, buffer: Buffer) -> bool {
        let len = u16::try_from(response.status).unwrap_or(0);
        self.pieces[self.count] = RxPiece {
            buffer,
            offset: response.offset,
            len,
        };
        self.count += 1;
        response.status >= 0 && usize::from(response.offset) + usize::from(len) <= PAGE_SIZE
    }
}

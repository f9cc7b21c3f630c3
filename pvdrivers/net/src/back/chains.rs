//! Packets out of the transmit ring.
//!
//! A packet is a request, its extra information if it has any, and further requests as long as
//! each says that more follow. Every slot is taken once; the rules, and which breach is fatal, are
//! netback's (`xenvif_count_requests`, `xenvif_get_extras`).

use std::ops::Range;
use std::time::Instant;

use pv_ring::{BackRing, RingError, SharedPage};
use xen_sys::GrantRef;
use xen_sys::io::netif::{
    NETIF_RSP_ERROR, NETIF_RSP_NULL, NETIF_RSP_OKAY, NETTXF_csum_blank, NETTXF_data_validated,
    NETTXF_extra_info, NETTXF_more_data, NetifExtraInfo, NetifTxRequest, NetifTxResponse,
    XEN_NETIF_EXTRA_FLAG_MORE, XEN_NETIF_EXTRA_TYPE_GSO, XEN_NETIF_EXTRA_TYPE_HASH,
    XEN_NETIF_EXTRA_TYPE_MCAST_ADD, XEN_NETIF_EXTRA_TYPE_MCAST_DEL, XEN_NETIF_NR_SLOTS_MIN,
};
use zerocopy::{FromBytes, IntoBytes};

use super::shared::Shared;
use super::stats::QueueCounters;
use crate::extra::{GsoError, GsoInfo};
use crate::{ETH_HLEN, PAGE_SIZE};

/// Requests behind the first that a packet may have.
const MAX_MORE: usize = XEN_NETIF_NR_SLOTS_MIN;
/// More than that are no mistake (netback's `fatal_skb_slots`).
const FATAL_MORE: usize = 20;
/// Slots gathered at a time: some large segments, and enough small packets to share a
/// notification.
const BATCH: usize = 128;

/// The transmit ring.
pub(super) type TxRing<P> = BackRing<P, NetifTxRequest, NetifTxResponse>;

/// Why a transmit ring cannot be used any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ChainError {
    #[error(transparent)]
    Ring(#[from] RingError),
    #[error("The requests end within a packet")]
    Cut,
    #[error("The requests end where extra information should follow")]
    MissingExtra,
    #[error("Extra information of type {0} is unknown")]
    ExtraType(u8),
    #[error("A packet has more than {} slots", FATAL_MORE + 1)]
    TooManySlots,
    #[error("A slot of {size} bytes at {offset} exceeds its page")]
    CrossesPage { offset: u16, size: u16 },
    #[error("Extra information on segmentation makes no sense")]
    Gso(#[from] GsoError),
}

/// Bytes of a packet in a page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Slot {
    pub gref: GrantRef,
    pub offset: u16,
    pub size: u16,
    pub id: u16,
}

impl Slot {
    pub fn range(&self) -> Range<usize> {
        let start = usize::from(self.offset);
        start..start + usize::from(self.size)
    }

    fn of(request: &NetifTxRequest) -> Result<Self, ChainError> {
        let NetifTxRequest {
            gref,
            offset,
            size,
            id,
            ..
        } = *request;
        if usize::from(offset) + usize::from(size) > PAGE_SIZE {
            return Err(ChainError::CrossesPage { offset, size });
        }
        Ok(Self {
            gref,
            offset,
            size,
            id,
        })
    }
}

/// A packet to be sent.
#[derive(Clone, Debug)]
pub(super) struct Packet {
    /// Its slots among the batch's.
    pub slots: Range<usize>,
    /// Slots of extra information it had.
    pub extras: u16,
    /// Bytes.
    pub len: usize,
    pub csum_blank: bool,
    pub data_validated: bool,
    pub gso: Option<GsoInfo>,
}

/// Packets that were taken together. Those that cannot be sent are answered and not here.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub slots: Vec<Slot>,
    pub packets: Vec<Packet>,
    /// A first request that was taken and waits for credit.
    held: Option<NetifTxRequest>,
}

/// What follows the first request.
#[derive(Default)]
struct Extras {
    slots: u16,
    gso: Option<NetifExtraInfo>,
    multicast_add: Option<NetifExtraInfo>,
    multicast_del: Option<NetifExtraInfo>,
}

/// Whether more packets may follow in this batch.
enum Taken {
    One,
    NoneLeft,
    NoCredit(Instant),
}

impl Batch {
    /// Takes packets, up to a batch; when the rate limit lets the next pass, if it stops one.
    pub fn gather<P: SharedPage>(
        &mut self,
        ring: &mut TxRing<P>,
        shared: &Shared,
        counters: &QueueCounters,
    ) -> Result<Option<Instant>, ChainError> {
        self.slots.clear();
        self.packets.clear();
        if ring.waiting()? + ring.in_flight() == ring.slots() {
            counters.tx_ring_full.add(1);
        }
        // What is answered at once is bounded, too: others want to be served.
        for _ in 0..BATCH {
            if self.slots.len() + MAX_MORE >= BATCH {
                break;
            }
            match self.take_packet(ring, shared, counters)? {
                Taken::One => {}
                Taken::NoneLeft => break,
                Taken::NoCredit(until) => {
                    counters.tx_rate_limited.add(1);
                    return Ok(Some(until));
                }
            }
        }
        Ok(None)
    }

    fn take_packet<P: SharedPage>(
        &mut self,
        ring: &mut TxRing<P>,
        shared: &Shared,
        counters: &QueueCounters,
    ) -> Result<Taken, ChainError> {
        let Some(first) = self
            .held
            .take()
            .map_or_else(|| ring.pop(), |r| Ok(Some(r)))?
        else {
            return Ok(Taken::NoneLeft);
        };
        if let Err(until) = shared.take_credit(first.size) {
            self.held = Some(first);
            return Ok(Taken::NoCredit(until));
        }
        let mut extras = Extras::default();
        if first.flags & NETTXF_extra_info != 0 {
            extras = take_extras(ring)?;
        }
        let multicast = extras.multicast_add.map(|extra| (extra.u, true));
        let multicast = multicast.or(extras.multicast_del.map(|extra| (extra.u, false)));
        if let Some((address, wanted)) = multicast {
            counters.tx_multicast_requests.add(1);
            let status = match shared.multicast(address, wanted) {
                true => NETIF_RSP_OKAY,
                false => NETIF_RSP_ERROR,
            };
            answer(ring, first.id, extras.slots, status)?;
            return Ok(Taken::One);
        }
        self.take_chain(ring, &first, &extras, counters)?;
        Ok(Taken::One)
    }

    /// The rest of a packet.
    fn take_chain<P: SharedPage>(
        &mut self,
        ring: &mut TxRing<P>,
        first: &NetifTxRequest,
        extras: &Extras,
        counters: &QueueCounters,
    ) -> Result<(), ChainError> {
        let start = self.slots.len();
        self.slots.push(Slot::default());
        let mut error = None;
        // The first request's size is the whole packet's.
        let mut size = first.size;
        let mut more = first.flags & NETTXF_more_data != 0;
        while more {
            let count = self.slots.len() - start - 1;
            if count == FATAL_MORE {
                return Err(ChainError::TooManySlots);
            }
            let request = ring.pop()?.ok_or(ChainError::Cut)?;
            if count >= MAX_MORE {
                error = error.or(Some(&counters.tx_errors_slots));
            }
            match size.checked_sub(request.size) {
                Some(left) => size = left,
                None => error = error.or(Some(&counters.tx_errors_size)),
            }
            self.slots.push(Slot::of(&request)?);
            more = request.flags & NETTXF_more_data != 0;
        }
        if usize::from(size) < ETH_HLEN {
            error = error.or(Some(&counters.tx_errors_size));
        }
        if let Some(counter) = error {
            counter.add(1);
            answer(ring, first.id, extras.slots, NETIF_RSP_ERROR)?;
            for slot in self.slots.drain(start..).skip(1) {
                answer(ring, slot.id, 0, NETIF_RSP_ERROR)?;
            }
            return Ok(());
        }
        self.slots[start] = Slot::of(&NetifTxRequest { size, ..*first })?;
        let gso = extras
            .gso
            .map(|extra| GsoInfo::decode(&extra))
            .transpose()?;
        let empty = |slot: &Slot| slot.size == 0;
        if self.slots[start..].iter().any(empty) {
            // Slots wasted, but nothing to be mapped or sent.
            for slot in self.slots.extract_if(start.., |slot| empty(slot)) {
                answer(ring, slot.id, 0, NETIF_RSP_OKAY)?;
            }
        }
        self.packets.push(Packet {
            slots: start..self.slots.len(),
            extras: extras.slots,
            len: first.size.into(),
            csum_blank: first.flags & NETTXF_csum_blank != 0,
            data_validated: first.flags & NETTXF_data_validated != 0,
            gso,
        });
        Ok(())
    }

    /// Answers a packet of this batch.
    pub fn answer<P: SharedPage>(
        &self,
        ring: &mut TxRing<P>,
        packet: &Packet,
        status: i16,
    ) -> Result<(), RingError> {
        let mut extras = packet.extras;
        for slot in &self.slots[packet.slots.clone()] {
            answer(ring, slot.id, extras, status)?;
            extras = 0;
        }
        Ok(())
    }
}

fn take_extras<P: SharedPage>(ring: &mut TxRing<P>) -> Result<Extras, ChainError> {
    let mut extras = Extras::default();
    loop {
        let slot = ring.pop()?.ok_or(ChainError::MissingExtra)?;
        let (extra, _) = NetifExtraInfo::read_from_prefix(slot.as_bytes()).expect("8 of 12 bytes");
        extras.slots += 1;
        match extra.kind {
            XEN_NETIF_EXTRA_TYPE_GSO => extras.gso = Some(extra),
            XEN_NETIF_EXTRA_TYPE_MCAST_ADD => extras.multicast_add = Some(extra),
            XEN_NETIF_EXTRA_TYPE_MCAST_DEL => extras.multicast_del = Some(extra),
            // Of use to who spreads packets over queues by it.
            XEN_NETIF_EXTRA_TYPE_HASH => {}
            unknown => return Err(ChainError::ExtraType(unknown)),
        }
        if extra.flags & XEN_NETIF_EXTRA_FLAG_MORE == 0 {
            return Ok(extras);
        }
    }
}

/// Answers a request, and the slots of extra information behind it.
fn answer<P: SharedPage>(
    ring: &mut TxRing<P>,
    id: u16,
    extras: u16,
    status: i16,
) -> Result<(), RingError> {
    ring.push(&NetifTxResponse { id, status })?;
    for _ in 0..extras {
        let status = NETIF_RSP_NULL;
        ring.push(&NetifTxResponse { id, status })?;
    }
    Ok(())
}

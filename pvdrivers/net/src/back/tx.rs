//! What a guest sends.

use std::io;
use std::time::Instant;

use pv_netdev::{Link, Offloads};
use pv_ring::{Access, GrantMap, HostPage, SharedPage};
use pv_stats::Counter;
use xen_sys::io::netif::{NETIF_RSP_DROPPED, NETIF_RSP_ERROR, NETIF_RSP_OKAY};

use super::chains::{Batch, ChainError, Packet, Slot, TxRing};
use super::link::Pieces;
use super::offload::{ToLink, sum_of};
use super::shared::Shared;
use super::stats::QueueCounters;
use crate::headers::{Checksum, MAX_HEADERS};

/// The transmit direction of a queue.
pub(super) struct Tx<G: GrantMap> {
    ring: TxRing<G::Page>,
    grants: G,
    offloads: Offloads,
    batch: Batch,
    /// The batch's pages, by slot; `None`: the grant was refused.
    pages: Vec<Option<G::Page>>,
    /// The next packet of the batch to be sent.
    next: usize,
    sender: Sender,
}

/// What stands behind a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TxState {
    /// There may be more.
    More,
    /// Nothing waits.
    Idle,
    /// The link has no room.
    Blocked,
    /// The rate limit lets nothing pass before that time.
    Limited(Instant),
}

/// What became of a packet.
enum Fate {
    Sent(ToLink),
    Refused(i16),
    LinkBusy,
}

impl<G: GrantMap<Page: HostPage>> Tx<G> {
    pub fn new(ring: TxRing<G::Page>, grants: G, offloads: Offloads) -> Self {
        Self {
            ring,
            grants,
            offloads,
            batch: Batch::default(),
            pages: Vec::new(),
            next: 0,
            sender: Sender::default(),
        }
    }

    /// Sends a batch, or what is left of the last; whether to notify the front end.
    pub fn turn(
        &mut self,
        link: &mut dyn Link,
        shared: &Shared,
        counters: &QueueCounters,
    ) -> Result<(TxState, bool), ChainError> {
        let mut limited = None;
        if self.next == self.batch.packets.len() {
            self.next = 0;
            limited = self.batch.gather(&mut self.ring, shared, counters)?;
            self.map();
        }
        let mut totals = Totals::default();
        let mut blocked = false;
        while let Some(packet) = self.batch.packets.get(self.next) {
            let slots = &self.batch.slots[packet.slots.clone()];
            let pages = &self.pages[packet.slots.clone()];
            let fate =
                self.sender
                    .send(packet, slots, pages, self.offloads, link, shared, counters);
            let status = match fate {
                Fate::Sent(frame) => {
                    totals.add(packet, &frame);
                    NETIF_RSP_OKAY
                }
                Fate::Refused(status) => status,
                Fate::LinkBusy => {
                    counters.tx_link_busy.add(1);
                    blocked = true;
                    break;
                }
            };
            self.batch.answer(&mut self.ring, packet, status)?;
            self.next += 1;
        }
        totals.flush(counters);
        if blocked {
            // Answers wait for the rest of the batch: its pages may be unmapped only together.
            return Ok((TxState::Blocked, false));
        }
        // A front end takes its pages back as soon as it sees the answer.
        self.pages.clear();
        let answered = self.ring.unpublished();
        counters.requests.add(answered.into());
        counters.responses.add(answered.into());
        let notify = answered > 0 && self.ring.publish();
        let state = match (limited, answered) {
            (Some(until), _) => TxState::Limited(until),
            (None, 0) => TxState::Idle,
            (None, _) => TxState::More,
        };
        Ok((state, notify))
    }

    /// Asks to be notified of requests; whether there are some already.
    pub fn final_check(&mut self) -> Result<bool, ChainError> {
        Ok(self.ring.final_check()?)
    }

    fn map(&mut self) {
        let grefs = self.batch.slots.iter().map(|slot| slot.gref);
        let pages = &mut self.pages;
        self.grants
            .map_many(grefs, Access::Read, |page| pages.push(page.ok()));
        debug_assert_eq!(self.pages.len(), self.batch.slots.len());
    }
}

/// What a batch adds to the counters.
#[derive(Default)]
struct Totals {
    packets: u64,
    bytes: u64,
    large: u64,
    blank: u64,
    finished: u64,
    fixups: u64,
}

impl Totals {
    fn add(&mut self, packet: &Packet, frame: &ToLink) {
        self.packets += 1;
        self.bytes += packet.len as u64;
        self.large += u64::from(packet.gso.is_some());
        self.blank += u64::from(frame.blank);
        self.finished += u64::from(frame.finish.is_some());
        self.fixups += u64::from(frame.fixup);
    }

    fn flush(self, counters: &QueueCounters) {
        for (counter, n) in [
            (&counters.tx_packets, self.packets),
            (&counters.tx_bytes, self.bytes),
            (&counters.tx_gso_packets, self.large),
            (&counters.tx_csum_blank, self.blank),
            (&counters.tx_csum_finished, self.finished),
            (&counters.tx_gso_csum_fixup, self.fixups),
        ] {
            if n > 0 {
                counter.add(n);
            }
        }
    }
}

/// Sends packets one by one.
struct Sender {
    /// The first bytes of a packet: copied once, so that what was checked is what is sent.
    head: Box<[u8; MAX_HEADERS]>,
    pieces: Pieces,
}

impl Default for Sender {
    fn default() -> Self {
        Self {
            head: Box::new([0; MAX_HEADERS]),
            pieces: Pieces::default(),
        }
    }
}

impl Sender {
    #[allow(clippy::too_many_arguments)]
    fn send<P: HostPage>(
        &mut self,
        packet: &Packet,
        slots: &[Slot],
        pages: &[Option<P>],
        offloads: Offloads,
        link: &mut dyn Link,
        shared: &Shared,
        counters: &QueueCounters,
    ) -> Fate {
        let refused = |counter: &Counter, status| {
            counter.add(1);
            Fate::Refused(status)
        };
        if pages.iter().any(Option::is_none) {
            return refused(&counters.tx_errors_grant, NETIF_RSP_ERROR);
        }
        let data = || slots.iter().zip(pages.iter().flatten());
        let head = &mut self.head[..packet.len.min(MAX_HEADERS)];
        read(data(), 0, head);

        if shared.link_down() {
            return refused(&counters.tx_drops_link_down, NETIF_RSP_DROPPED);
        }
        if shared.source.is_some_and(|own| head[6..12] != own) {
            return refused(&counters.tx_drops_filtered, NETIF_RSP_DROPPED);
        }
        let frame = match ToLink::new(packet, head, offloads, counters) {
            Ok(frame) => frame,
            Err(counter) => return refused(counter, NETIF_RSP_ERROR),
        };
        if let Some(transport) = frame.finish {
            let copied = head.len().min(transport.end);
            let mut sum = Checksum::default();
            sum.add(&head[transport.start..copied]);
            sum_of(&mut sum, copied, transport.end, |at, to| {
                read(data(), at, to);
            });
            let at = transport.checksum_at();
            head[at..at + 2].copy_from_slice(&transport.checksum(sum.fold()));
        }

        let mut copied = head.len();
        let rest = data().filter_map(|(slot, page)| {
            let mut range = slot.range();
            if copied > 0 {
                let skip = copied.min(range.len());
                copied -= skip;
                range.start += skip;
            }
            (!range.is_empty()).then_some((page, range))
        });
        match self.pieces.send(link, &frame.info, head, rest) {
            Ok(()) => Fate::Sent(frame),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Fate::LinkBusy,
            Err(_) => refused(&counters.tx_drops_link, NETIF_RSP_DROPPED),
        }
    }
}

/// Copies bytes of a packet, from `at`.
fn read<'a, P: SharedPage + 'a>(
    data: impl Iterator<Item = (&'a Slot, &'a P)>,
    mut at: usize,
    mut to: &mut [u8],
) {
    for (slot, page) in data {
        let range = slot.range();
        if at >= range.len() {
            at -= range.len();
            continue;
        }
        let n = to.len().min(range.len() - at);
        let (now, later) = to.split_at_mut(n);
        page.read(range.start + at, now);
        if later.is_empty() {
            return;
        }
        (at, to) = (0, later);
    }
}

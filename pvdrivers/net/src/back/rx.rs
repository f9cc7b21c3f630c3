//! What a guest receives.
//!
//! The link writes frames into the pages that the guest has posted. How long the next frame is, and
//! whether it is a large segment, is known only afterwards. So
//! - pages for the longest frame are lent to the link; where there are fewer, the rest of a frame
//!   goes into a buffer here (`spill`) and follows when the guest has posted more;
//! - a large segment's second response is its extra information, and the second buffer carries no
//!   data. That buffer is left out whenever large segments may come. A longer frame that is none
//!   moves up by one page then.

use std::collections::VecDeque;
use std::io;
use std::time::{Duration, Instant};

use pv_netdev::{FrameInfo, Link};
use pv_ring::{Access, BackRing, GrantMap, HostPage, RingError, SharedPage};
use xen_sys::io::netif::{
    NETIF_RSP_ERROR, NETRXF_csum_blank, NETRXF_data_validated, NETRXF_extra_info, NETRXF_more_data,
    NetifExtraInfo, NetifRxRequest, NetifRxResponse,
};
use zerocopy::{FromBytes, IntoBytes};

use super::link::Pieces;
use super::offload::{FrontTakes, ToGuest, sum_of};
use super::shared::{Filtered, Shared};
use super::stats::QueueCounters;
use crate::headers::{Checksum, MAX_HEADERS};
use crate::{ETH_HLEN, PAGE_SIZE};

/// Bytes of the longest frame: a large segment.
const MAX_FRAME: usize = 0xffff;
const MAX_PAGES: usize = MAX_FRAME.div_ceil(PAGE_SIZE);
/// Buffers kept mapped: the longest frame's, and some for the next.
const READY: usize = 64;
/// Frames received before others are served.
const BATCH: usize = 64;
/// How long a link is left alone after a failure.
const LINK_PAUSE: Duration = Duration::from_millis(100);

/// The receive ring.
pub(super) type RxRing<P> = BackRing<P, NetifRxRequest, NetifRxResponse>;

/// What a front end is like that receives.
#[derive(Clone, Copy, Debug)]
pub(super) struct RxSpec {
    pub takes: FrontTakes,
    /// Bytes of the longest IP packet that is no large segment.
    pub mtu: u16,
    /// How long frames wait for buffers.
    pub drain_timeout: Duration,
}

/// A buffer of the guest's, mapped.
struct Ready<P> {
    id: u16,
    page: P,
}

/// A frame that was received.
#[derive(Clone, Copy, Debug)]
struct Frame {
    len: usize,
    /// Pages lent to the link: what exceeds them is in the spill.
    lent: usize,
    to_guest: ToGuest,
}

impl Frame {
    fn pages(&self) -> usize {
        self.len.div_ceil(PAGE_SIZE)
    }

    fn slots(&self) -> usize {
        self.pages() + usize::from(self.to_guest.gso.is_some())
    }
}

/// The receive direction of a queue.
pub(super) struct Rx<G: GrantMap> {
    ring: RxRing<G::Page>,
    grants: G,
    spec: RxSpec,
    ready: VecDeque<Ready<G::Page>>,
    /// A buffer behind those, whose grant was refused. None is taken from the ring meanwhile.
    bad: Option<u16>,
    pieces: Pieces,
    spill: Box<[u8]>,
    /// A frame that waits for buffers.
    held: Option<Frame>,
    /// Since when buffers have been lacking.
    starved: Option<Instant>,
    /// They have been for too long: frames are given up.
    stalled: bool,
    /// The link failed; it is left alone until then.
    pause: Option<Instant>,
    link_gone: bool,
}

/// What stands behind a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RxState {
    /// There may be more.
    More,
    /// The link has nothing.
    Idle,
    /// Frames wait for buffers, until then at most.
    Starved(Instant),
    /// Frames are given up for lack of buffers; the link has none now.
    Stalled,
    /// The link has failed; not before that time again.
    Paused(Instant),
    /// The link is gone.
    Gone,
}

/// What one frame's reception came to.
enum Step {
    Done,
    NoFrame,
    NoBuffers,
    LinkFailed,
}

impl<G: GrantMap<Page: HostPage>> Rx<G> {
    pub fn new(ring: RxRing<G::Page>, grants: G, spec: RxSpec) -> Self {
        Self {
            ring,
            grants,
            spec,
            ready: VecDeque::with_capacity(READY),
            bad: None,
            pieces: Pieces::default(),
            spill: vec![0; MAX_PAGES * PAGE_SIZE].into(),
            held: None,
            starved: None,
            stalled: false,
            pause: None,
            link_gone: false,
        }
    }

    /// Receives a batch; whether to notify the front end.
    pub fn turn(
        &mut self,
        link: &mut dyn Link,
        shared: &Shared,
        counters: &QueueCounters,
    ) -> Result<(RxState, bool), RingError> {
        if let Some(until) = self.pause {
            if Instant::now() < until {
                return Ok((RxState::Paused(until), false));
            }
            self.pause = None;
        }
        let mut state = RxState::More;
        for _ in 0..BATCH {
            if self.link_gone {
                state = RxState::Gone;
                break;
            }
            self.refill(counters)?;
            match self.step(link, shared, counters)? {
                Step::Done => {}
                Step::NoFrame => {
                    state = match self.stalled {
                        true => RxState::Stalled,
                        false => RxState::Idle,
                    };
                    break;
                }
                Step::NoBuffers => {
                    state = self.starve(counters);
                    if state != RxState::More {
                        break;
                    }
                }
                Step::LinkFailed => {
                    let until = Instant::now() + LINK_PAUSE;
                    self.pause = Some(until);
                    state = RxState::Paused(until);
                    break;
                }
            }
        }
        let answered = self.ring.unpublished();
        counters.responses.add(answered.into());
        Ok((state, answered > 0 && self.ring.publish()))
    }

    /// Asks to be notified of buffers; whether there are some already.
    pub fn final_check(&mut self) -> Result<bool, RingError> {
        self.ring.final_check()
    }

    /// Takes buffers from the ring and maps them. One that cannot be is answered with an error as
    /// soon as it comes first: responses keep the order of requests.
    fn refill(&mut self, counters: &QueueCounters) -> Result<(), RingError> {
        loop {
            if self.ready.is_empty()
                && let Some(bad) = self.bad.take()
            {
                self.refuse(bad)?;
            }
            if self.bad.is_some() || self.ready.len() >= READY {
                return Ok(());
            }
            let Some(NetifRxRequest { id, gref, .. }) = self.ring.pop()? else {
                return Ok(());
            };
            match self.grants.map(gref, Access::ReadWrite) {
                Ok(page) => self.ready.push_back(Ready { id, page }),
                Err(_) => {
                    counters.rx_errors_grant.add(1);
                    self.bad = Some(id);
                }
            }
        }
    }

    fn refuse(&mut self, id: u16) -> Result<(), RingError> {
        self.ring.push(&NetifRxResponse {
            id,
            status: NETIF_RSP_ERROR,
            ..Default::default()
        })
    }

    /// Answers all buffers up to the bad one with an error.
    fn refuse_all(&mut self) -> Result<(), RingError> {
        while let Some(Ready { id, page }) = self.ready.pop_front() {
            drop(page);
            self.refuse(id)?;
        }
        match self.bad.take() {
            Some(bad) => self.refuse(bad),
            None => Ok(()),
        }
    }

    /// Whether the second buffer is kept for extra information.
    fn expects_gso(&self) -> bool {
        self.spec.takes.offloads.tso4 || self.spec.takes.offloads.tso6
    }

    /// Pages the longest frame takes.
    fn window(&self) -> usize {
        if self.expects_gso() {
            return MAX_PAGES;
        }
        if !self.spec.takes.sg {
            return 1;
        }
        // With the Ethernet header and two VLAN tags.
        (usize::from(self.spec.mtu) + ETH_HLEN + 8)
            .div_ceil(PAGE_SIZE)
            .min(MAX_PAGES)
    }

    /// One frame.
    fn step(
        &mut self,
        link: &mut dyn Link,
        shared: &Shared,
        counters: &QueueCounters,
    ) -> Result<Step, RingError> {
        if let Some(frame) = self.held.take() {
            return self.deliver(frame, counters);
        }
        if self.ready.is_empty() && !self.stalled {
            return Ok(Step::NoBuffers);
        }
        if !self.ready.is_empty() {
            self.starved = None;
        }
        let gap = usize::from(self.expects_gso());
        let window = self.window();
        // The second may be kept.
        let taken = self.ready.len().min(window + gap);
        let first = taken.min(1);
        let behind = taken.min(1 + gap);
        let lent = first + taken - behind;
        let rest = if lent < MAX_PAGES {
            &mut self.spill[..]
        } else {
            &mut []
        };
        let pages = self.ready.range(..first);
        let pages = pages.chain(self.ready.range(behind..taken));
        let pages = pages.map(|ready| &ready.page);
        match self.pieces.recv(link, pages, rest) {
            Ok((len, info)) => self.received(len, lent, &info, shared, counters),
            Err(error) => Ok(match error.kind() {
                io::ErrorKind::WouldBlock => Step::NoFrame,
                io::ErrorKind::Interrupted => Step::Done,
                io::ErrorKind::InvalidData => {
                    counters.rx_drops_size.add(1);
                    Step::Done
                }
                io::ErrorKind::UnexpectedEof => {
                    counters.rx_errors_link.add(1);
                    tracing::error!("The link of a network card is gone: {error}");
                    self.link_gone = true;
                    Step::Done
                }
                _ => {
                    counters.rx_errors_link.add(1);
                    Step::LinkFailed
                }
            }),
        }
    }

    /// A frame has come: is it for the guest, and can it take it?
    fn received(
        &mut self,
        len: usize,
        lent: usize,
        info: &FrameInfo,
        shared: &Shared,
        counters: &QueueCounters,
    ) -> Result<Step, RingError> {
        if shared.link_down() {
            counters.rx_drops_link_down.add(1);
            return Ok(Step::Done);
        }
        let longest = if self.spec.takes.sg {
            MAX_FRAME
        } else {
            PAGE_SIZE
        };
        if !(ETH_HLEN..=longest).contains(&len) {
            counters.rx_drops_size.add(1);
            return Ok(Step::Done);
        }
        let mut head = [0; MAX_HEADERS];
        let looks = match info.csum_start.is_some() || info.gso.is_some() {
            true => len.min(MAX_HEADERS),
            false if shared.filters_received() => ETH_HLEN,
            false => 0,
        };
        let head = &mut head[..looks];
        match self.ready.front() {
            Some(Ready { page, .. }) if lent > 0 => page.read(0, head),
            _ => head.copy_from_slice(&self.spill[..looks]),
        }
        if let Some(address) = head.first_chunk::<6>() {
            let filtered = match shared.receives(*address) {
                Ok(()) => None,
                Err(Filtered::Address) => Some(&counters.rx_drops_filtered),
                Err(Filtered::Multicast) => Some(&counters.rx_drops_multicast),
            };
            if let Some(counter) = filtered {
                counter.add(1);
                return Ok(Step::Done);
            }
        }
        let to_guest = match ToGuest::new(info, head, len, &self.spec.takes, counters) {
            Ok(to_guest) => to_guest,
            Err(counter) => {
                counter.add(1);
                return Ok(Step::Done);
            }
        };
        let frame = Frame {
            len,
            lent,
            to_guest,
        };
        self.deliver(frame, counters)
    }

    /// Gives a frame to the guest, or keeps it until there are buffers.
    fn deliver(&mut self, frame: Frame, counters: &QueueCounters) -> Result<Step, RingError> {
        let slots = frame.slots();
        if self.ready.len() < slots && self.bad.is_some() {
            // It would lie across a buffer that is none. The guest's fault, the frame is lost.
            self.refuse_all()?;
            counters.rx_drops_no_buffers.add(1);
            return Ok(Step::Done);
        }
        if self.ready.len() < slots {
            self.held = Some(frame);
            return Ok(Step::NoBuffers);
        }
        self.arrange(&frame, counters);
        if let Some(finish) = frame.to_guest.finish {
            self.finish_checksum(&frame, &finish);
            counters.rx_csum_finished.add(1);
        }
        self.respond(&frame)?;
        self.starved = None;
        self.stalled = false;
        counters.rx_packets.add(1);
        counters.rx_bytes.add(frame.len as u64);
        if frame.to_guest.csum_blank {
            counters.rx_csum_blank.add(1);
        }
        if frame.to_guest.gso.is_some() {
            counters.rx_gso_packets.add(1);
        }
        Ok(Step::Done)
    }

    /// The slot a piece of a frame belongs in.
    fn slot(piece: usize, gap: bool) -> usize {
        piece + usize::from(gap && piece > 0)
    }

    /// Puts all pieces of a frame where they belong.
    fn arrange(&mut self, frame: &Frame, counters: &QueueCounters) {
        let written = self.expects_gso();
        let gso = frame.to_guest.gso.is_some();
        let page = |slot: usize| &self.ready[slot].page;
        let piece_len = |piece: usize| (frame.len - piece * PAGE_SIZE).min(PAGE_SIZE);
        let mut copied = 0;
        if written && !gso {
            let mut buffer = [0; PAGE_SIZE];
            for piece in 1..frame.pages().min(frame.lent) {
                let bytes = &mut buffer[..piece_len(piece)];
                page(Self::slot(piece, true)).read(0, bytes);
                page(piece).write(0, bytes);
                copied += bytes.len();
            }
        }
        for piece in frame.lent..frame.pages() {
            let from = (piece - frame.lent) * PAGE_SIZE;
            let bytes = &self.spill[from..from + piece_len(piece)];
            page(Self::slot(piece, gso)).write(0, bytes);
            copied += bytes.len();
        }
        if copied > 0 {
            counters.rx_copied_bytes.add(copied as u64);
        }
    }

    fn finish_checksum(&self, frame: &Frame, finish: &super::offload::Finish) {
        let gso = frame.to_guest.gso.is_some();
        let place = |at: usize| {
            let ready = &self.ready[Self::slot(at / PAGE_SIZE, gso)];
            (&ready.page, at % PAGE_SIZE)
        };
        let mut sum = Checksum::default();
        sum_of(&mut sum, finish.start, finish.end, |at, mut to| {
            let mut at = at;
            while !to.is_empty() {
                let (page, offset) = place(at);
                let (now, later) = to.split_at_mut(to.len().min(PAGE_SIZE - offset));
                page.read(offset, now);
                at += now.len();
                to = later;
            }
        });
        let checksum = match finish.transport {
            Some(transport) => transport.checksum(sum.fold()),
            None => (!sum.fold()).to_be_bytes(),
        };
        for (at, byte) in (finish.at..).zip(checksum) {
            let (page, offset) = place(at);
            page.write(offset, &[byte]);
        }
    }

    /// Answers the buffers of a frame: data, extra information if it is a large segment, the rest
    /// of the data.
    fn respond(&mut self, frame: &Frame) -> Result<(), RingError> {
        let to_guest = &frame.to_guest;
        let mut first = 0;
        for (on, flag) in [
            (to_guest.csum_blank, NETRXF_csum_blank),
            (to_guest.data_validated, NETRXF_data_validated),
            (to_guest.gso.is_some(), NETRXF_extra_info),
        ] {
            first |= if on { flag } else { 0 };
        }
        let mut left = frame.len;
        for slot in 0..frame.slots() {
            let Some(Ready { id, page }) = self.ready.pop_front() else {
                break;
            };
            drop(page); // Before the guest sees the answer.
            let response = match to_guest.gso {
                Some(gso) if slot == 1 => extra_response(&gso.encode()),
                _ => {
                    let len = left.min(PAGE_SIZE);
                    left -= len;
                    let more = if left > 0 { NETRXF_more_data } else { 0 };
                    NetifRxResponse {
                        id,
                        offset: 0,
                        flags: more | if slot == 0 { first } else { 0 },
                        status: len as i16,
                    }
                }
            };
            self.ring.push(&response)?;
        }
        Ok(())
    }

    /// There are no buffers for the next frame.
    fn starve(&mut self, counters: &QueueCounters) -> RxState {
        let since = *self.starved.get_or_insert_with(Instant::now);
        let until = since + self.spec.drain_timeout;
        if !self.stalled {
            if Instant::now() < until {
                return RxState::Starved(until);
            }
            self.stalled = true;
            counters.rx_stalls.add(1);
        }
        if self.held.take().is_some() {
            counters.rx_drops_no_buffers.add(1);
        }
        RxState::More
    }
}

/// Extra information takes the place of a response.
fn extra_response(extra: &NetifExtraInfo) -> NetifRxResponse {
    NetifRxResponse::read_from_bytes(extra.as_bytes()).expect("8 bytes each")
}

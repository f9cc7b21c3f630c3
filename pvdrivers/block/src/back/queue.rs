//! One ring and what becomes of its requests. No thread, no waiting: [`BlockQueue::process`] does
//! what can be done now.
//!
//! The path of a read or write: [`take`](BlockQueue::take) copies it out of the ring, checks it and
//! maps its pages ([`begin`](BlockQueue::begin)), adds it to the request before if it continues that
//! one, and gives it to the medium; [`complete`](BlockQueue::complete) answers it. Flushes go the same
//! way. A barrier stops the taking until it is answered ([`Barrier`]).

mod answers;
mod mapping;

use std::sync::Arc;
use std::time::Instant;

use pv_backend::{Host, HostChannel};
use pv_media::{Done, Operation, Queue, Request};
use pv_ring::{GrantMap, PageRun, RingError};
use xen_sys::errno::Errno;
use xen_sys::io::blkif::{BlkifRequest, BlkifRequestSegment};

use super::barrier::{Barrier, Step};
use super::buffers::Buffers;
use super::grants::Grants;
use super::journal::{JournalMemory, JournaledSlots};
use super::request::{Geometry, Head, Kind, Refusal, check_discard};
use super::stats::QueueCounters;
use crate::wire::Abi;

/// A page that a host maps.
pub type PageOf<H> = <<H as Host>::Grants as GrantMap>::Page;
/// The medium as one queue uses it.
pub type MediumQueue<H> = Box<dyn Queue<Buffers<PageOf<H>>>>;

/// First byte and bytes of a transfer, and its memory.
type Mapped<P> = ((u64, u64), Buffers<P>);

/// Requests are put together up to so many pages: 1 MiB.
const MAX_MERGED_PAGES: usize = 256;

/// Why a queue cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// The front end broke the ring.
    #[error("The front end's ring is broken")]
    Ring(#[from] RingError),
    /// The event channel does not work.
    #[error("The event channel fails: {0}")]
    Channel(Errno),
    /// The host does not let the thread wait.
    #[error("Cannot wait for events")]
    Wait(#[source] std::io::Error),
}

/// A request as it is answered. Several can be one request to the medium.
#[derive(Debug)]
struct Part {
    id: u64,
    operation: u8,
    bytes: u64,
    /// To be tried on its own when the medium refuses what it was merged into.
    again: BlkifRequest,
}

/// A request to the medium.
#[derive(Debug)]
struct Slot {
    kind: Kind,
    parts: Vec<Part>,
    offset: u64,
    len: u64,
    /// Others may be added.
    open: bool,
    started: Instant,
}

/// A ring, its event channel, its mappings and its way to the medium.
pub struct BlockQueue<H: Host> {
    ring: JournaledSlots<PageRun<Vec<PageOf<H>>, PageOf<H>>>,
    channel: H::Channel,
    grants: Grants<H::Grants>,
    medium: Option<MediumQueue<H>>,
    geometry: Geometry,
    counters: Arc<QueueCounters>,
    /// By tag.
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// Not given to the medium yet: the next request may continue it.
    pending: Option<(u32, Buffers<PageOf<H>>)>,
    barrier: Option<Barrier<PageOf<H>>>,
    /// To be served once nothing is in flight.
    next_medium: Option<(Option<MediumQueue<H>>, Geometry)>,
    /// Requests taken so far.
    taken: u32,
    /// Requests the medium has.
    submitted: usize,
    kick: bool,
    unpublished: bool,
    pool: Vec<Buffers<PageOf<H>>>,
    done: Vec<Done<Buffers<PageOf<H>>>>,
    segments: Vec<BlkifRequestSegment>,
}

/// What a queue is made of.
pub struct QueueParts<H: Host> {
    /// The pages of the ring, in order.
    pub ring: Vec<PageOf<H>>,
    /// The front end's layout.
    pub abi: Abi,
    /// The back end's end of the event channel.
    pub channel: H::Channel,
    /// The front end's grants.
    pub grants: H::Grants,
    /// How many pages to keep mapped.
    pub persistent_grants: usize,
    /// Where the queue counts.
    pub counters: Arc<QueueCounters>,
}

impl<H: Host> BlockQueue<H> {
    /// Attaches to the ring where it stands. Without a medium until
    /// [`set_medium`](Self::set_medium).
    ///
    /// # Errors
    /// [`RingError`]: what the front end has set up is no ring.
    pub fn new(parts: QueueParts<H>) -> Result<Self, RingError> {
        Self::with_journal(parts, None)
    }

    /// As [`new`](Self::new), with memory by which a killed queue's successor goes on.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with_journal(
        parts: QueueParts<H>,
        journal: Option<JournalMemory>,
    ) -> Result<Self, RingError> {
        Ok(Self {
            ring: JournaledSlots::attach(PageRun::new(parts.ring)?, parts.abi, journal)?,
            channel: parts.channel,
            grants: Grants::new(parts.grants, parts.persistent_grants),
            medium: None,
            geometry: Geometry {
                medium: None,
                max_indirect_segments: 0,
            },
            counters: parts.counters,
            slots: Vec::new(),
            free: Vec::new(),
            pending: None,
            barrier: None,
            next_medium: None,
            taken: 0,
            submitted: 0,
            kick: false,
            unpublished: false,
            pool: Vec::new(),
            done: Vec::new(),
            segments: Vec::new(),
        })
    }

    /// Slots of the ring: the most requests there can be at a time.
    pub fn depth(&self) -> usize {
        self.ring.slots() as usize
    }

    /// Requests taken from the ring so far; wraps.
    pub(crate) fn taken(&self) -> u32 {
        self.taken
    }

    /// Whether another back end has served the ring before.
    pub(crate) fn is_taken_over(&self) -> bool {
        self.ring.is_taken_over()
    }

    /// Requests the medium has.
    pub fn submitted(&self) -> usize {
        self.submitted
    }

    /// The event channel.
    pub fn channel(&self) -> &H::Channel {
        &self.channel
    }

    /// The medium, while there is one.
    pub(crate) fn medium(&self) -> Option<&MediumQueue<H>> {
        self.medium.as_ref()
    }

    /// Clears the medium's event, which has woken the thread.
    pub(crate) fn clear_medium(&mut self) {
        if let Some(medium) = &mut self.medium {
            medium.clear();
        }
    }

    pub(crate) fn counters(&self) -> &QueueCounters {
        &self.counters
    }

    /// Serves from another medium, or none, as soon as what is in flight is answered.
    pub fn set_medium(&mut self, medium: Option<MediumQueue<H>>, geometry: Geometry) {
        self.next_medium = Some((medium, geometry));
        self.advance();
    }

    /// The same medium has changed, in size for example.
    pub fn set_geometry(&mut self, geometry: Geometry) {
        match &mut self.next_medium {
            Some((_, next)) => *next = geometry,
            None => self.geometry = geometry,
        }
    }

    /// Takes what the front end has sent, starts it, answers what is done. Whether there was
    /// anything; if not, [`final_check`](Self::final_check) before sleeping.
    ///
    /// # Errors
    /// The device cannot go on. What is in flight stays so: [`drain`](Self::drain).
    pub fn process(&mut self) -> Result<bool, QueueError> {
        let mut moved = self.complete();
        self.advance();
        let taken = self.take();
        // What is answered at once needs no kick.
        moved |= self.complete();
        self.kick();
        self.counters.in_flight.set(self.ring.in_flight().into());
        self.counters.persistent_grants.set(self.grants.count());
        self.publish()?;
        moved |= taken?;
        Ok(moved)
    }

    /// Answers what is done, takes nothing new. Whether anything is still in flight.
    ///
    /// # Errors
    /// [`QueueError::Channel`].
    pub fn drain(&mut self) -> Result<bool, QueueError> {
        self.complete();
        self.advance();
        self.kick();
        self.publish()?;
        Ok(self.submitted > 0)
    }

    /// Asks for a notification of the next request; whether there is one already.
    ///
    /// # Errors
    /// [`QueueError::Ring`].
    pub fn final_check(&mut self) -> Result<bool, QueueError> {
        if self.is_closed() {
            return Ok(false);
        }
        Ok(self.ring.final_check()?)
    }

    /// Nothing is taken while a barrier or a change of medium waits for what is in flight.
    fn is_closed(&self) -> bool {
        self.barrier.is_some() || self.next_medium.is_some()
    }

    fn take(&mut self) -> Result<bool, RingError> {
        let mut now = None;
        let result = loop {
            if self.is_closed() {
                break Ok(());
            }
            match self.ring.pop() {
                Ok(Some(request)) => {
                    let now = *now.get_or_insert_with(Instant::now);
                    self.taken = self.taken.wrapping_add(1);
                    self.accept(&request, now, true);
                }
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        self.submit_pending();
        self.advance();
        if now.is_some() && self.ring.in_flight() == self.ring.slots() {
            self.counters.ring_full.add(1);
        }
        result.map(|()| now.is_some())
    }

    /// Starts a request, or answers that it cannot be.
    fn accept(&mut self, request: &BlkifRequest, now: Instant, merge: bool) {
        let head = Head::of(request);
        if head.is_indirect() {
            self.counters.indirect_requests.add(1);
        }
        if let Err(refusal) = self.begin(request, &head, now, merge) {
            self.refuse(&head, refusal);
        }
    }

    fn begin(
        &mut self,
        request: &BlkifRequest,
        head: &Head,
        now: Instant,
        merge: bool,
    ) -> Result<(), Refusal> {
        let medium = self.geometry.check_kind(head)?;
        let part = |bytes| Part {
            id: head.id,
            operation: head.operation,
            bytes,
            again: *request,
        };
        match head.kind {
            Kind::Flush => {
                self.submit_pending();
                let tag = self.slot(Kind::Flush, (0, 0), now, part(0));
                self.submit(tag, Operation::Flush, Buffers::default());
            }
            Kind::Discard => {
                let (offset, len, secure) = check_discard(&medium, request)?;
                self.submit_pending();
                let tag = self.slot(Kind::Discard, (offset, len), now, part(len));
                self.submit(tag, Operation::Discard { secure }, Buffers::default());
            }
            Kind::Barrier => {
                let (range, buffers) = self.map(request, head)?;
                self.submit_pending();
                self.barrier = Some(Barrier::new(range, buffers));
                let tag = self.slot(Kind::Barrier, range, now, part(range.1));
                self.barrier.as_mut().expect("just set").tag = tag;
            }
            Kind::Read | Kind::Write | Kind::Unknown => {
                let (range, mut buffers) = self.map(request, head)?;
                let part = part(range.1);
                if merge && self.continues(head.kind, range.0, &buffers) {
                    self.merge(part, &mut buffers);
                    self.pool.push(buffers);
                    return Ok(());
                }
                self.submit_pending();
                let tag = self.slot(head.kind, range, now, part);
                self.slots[tag as usize].open = merge;
                self.pending = Some((tag, buffers));
                if !merge {
                    self.submit_pending();
                }
            }
        }
        Ok(())
    }

    /// Whether a transfer at `offset` can go with the pending one.
    fn continues(&self, kind: Kind, offset: u64, buffers: &Buffers<PageOf<H>>) -> bool {
        self.pending.as_ref().is_some_and(|(tag, pending)| {
            let slot = &self.slots[*tag as usize];
            slot.open
                && slot.kind == kind
                && slot.offset + slot.len == offset
                && pending.pages() + buffers.pages() <= MAX_MERGED_PAGES
        })
    }

    fn merge(&mut self, part: Part, buffers: &mut Buffers<PageOf<H>>) {
        if let Some((tag, pending)) = &mut self.pending {
            let slot = &mut self.slots[*tag as usize];
            slot.len += part.bytes;
            slot.parts.push(part);
            pending.append(buffers);
            self.counters.merged_requests.add(1);
        }
    }

    fn slot(&mut self, kind: Kind, range: (u64, u64), started: Instant, part: Part) -> u32 {
        let tag = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot {
                kind,
                parts: Vec::new(),
                offset: 0,
                len: 0,
                open: false,
                started,
            });
            self.slots.len() as u32 - 1
        });
        let slot = &mut self.slots[tag as usize];
        (slot.kind, slot.started, slot.open) = (kind, started, false);
        (slot.offset, slot.len) = range;
        slot.parts.push(part);
        tag
    }

    fn submit_pending(&mut self) {
        if let Some((tag, buffers)) = self.pending.take() {
            let operation = match self.slots[tag as usize].kind {
                Kind::Read => Operation::Read,
                _ => Operation::Write,
            };
            self.submit(tag, operation, buffers);
        }
    }

    fn submit(&mut self, tag: u32, operation: Operation, buffers: Buffers<PageOf<H>>) {
        let medium = self.medium.as_mut().expect("the geometry has a medium");
        let slot = &self.slots[tag as usize];
        let (offset, len) = match operation {
            Operation::Flush => (0, 0),
            _ => (slot.offset, slot.len),
        };
        medium.submit(Request {
            tag: tag.into(),
            operation,
            offset,
            len,
            buffers,
        });
        self.submitted += 1;
        self.kick = true;
    }

    fn kick(&mut self) {
        if std::mem::take(&mut self.kick)
            && self.submitted > 0
            && let Some(medium) = &mut self.medium
        {
            medium.kick();
        }
    }

    /// Answers what the medium has done.
    fn complete(&mut self) -> bool {
        let Some(medium) = self.medium.as_mut().filter(|_| self.submitted > 0) else {
            return false;
        };
        let mut done = std::mem::take(&mut self.done);
        medium.completed(&mut done);
        let any = !done.is_empty();
        if any {
            let now = Instant::now();
            self.submitted -= done.len();
            for done in done.drain(..) {
                self.recycle(done.buffers);
                let tag = done.tag as u32;
                match self.slots[tag as usize].kind {
                    Kind::Barrier => self.barrier_step(done.result.is_ok(), now),
                    _ => self.finish(tag, done.result.is_ok(), now),
                }
            }
        }
        self.done = done;
        any
    }

    /// What waits for everything in flight to be answered.
    fn advance(&mut self) {
        if self.submitted > 0 || self.pending.is_some() {
            return;
        }
        if let Some(barrier) = &mut self.barrier {
            if barrier.step == Step::Drain {
                let tag = barrier.begin();
                self.submit(tag, Operation::Flush, Buffers::default());
            }
        } else if let Some((medium, geometry)) = self.next_medium.take() {
            self.medium = medium;
            self.geometry = geometry;
        }
    }

    /// A step of the barrier is done.
    fn barrier_step(&mut self, ok: bool, now: Instant) {
        let Some(barrier) = &mut self.barrier else {
            return;
        };
        let tag = barrier.tag;
        match barrier.next(ok) {
            Step::Write => {
                let buffers = barrier.buffers.take().unwrap_or_default();
                self.submit(tag, Operation::Write, buffers);
            }
            Step::Flush => self.submit(tag, Operation::Flush, Buffers::default()),
            Step::Drain | Step::Preflush | Step::Done => {
                if let Some(buffers) = self.barrier.take().and_then(|barrier| barrier.buffers) {
                    self.recycle(buffers);
                }
                self.finish(tag, ok, now);
            }
        }
    }

    fn recycle(&mut self, mut buffers: Buffers<PageOf<H>>) {
        buffers.clear();
        if self.pool.len() < self.depth() {
            self.pool.push(buffers);
        }
    }
}

impl<H: Host> BlockQueue<H> {
    /// Takes note of the front end's notifications; whether there were any.
    pub(crate) fn clear_channel(&self) -> std::io::Result<()> {
        if self.channel.clear()? {
            self.counters.notifications_received.add(1);
        }
        Ok(())
    }
}

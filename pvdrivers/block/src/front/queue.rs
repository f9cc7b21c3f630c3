//! One ring: requests in, answers out.

use pv_ring::{EventChannel, RingError, SharedPage, WaitChannel};
use xen_sys::GrantRef;
use xen_sys::errno::Errno;
use xen_sys::io::blkif::{
    BLKIF_DISCARD_SECURE, BLKIF_MAX_INDIRECT_PAGES_PER_REQUEST, BLKIF_MAX_SEGMENTS_PER_REQUEST,
    BLKIF_OP_DISCARD, BLKIF_OP_FLUSH_DISKCACHE, BLKIF_OP_INDIRECT, BLKIF_OP_READ, BLKIF_OP_WRITE,
    BLKIF_OP_WRITE_BARRIER, BLKIF_RSP_EOPNOTSUPP, BLKIF_RSP_OKAY, BlkifRequest,
    BlkifRequestDiscard, BlkifRequestIndirect, BlkifRequestSegment,
};
use zerocopy::IntoBytes;

use crate::wire::{Abi, FrontSlots, SEGMENTS_PER_INDIRECT_PAGE, slot};

/// What the back end is asked to do.
#[derive(Clone, Copy, Debug)]
pub enum Command<'a> {
    /// From the disk, beginning at a sector of 512 bytes, to the segments.
    Read(u64, Segments<'a>),
    /// From the segments to the disk.
    Write(u64, Segments<'a>),
    /// The same, behind all before and ahead of all after it. Without segments: only order, and
    /// what came before becomes durable.
    Barrier(u64, &'a [BlkifRequestSegment]),
    /// What was answered before becomes durable.
    Flush,
    /// The range does not matter any more.
    Discard {
        /// First sector.
        sector: u64,
        /// Sectors.
        sectors: u64,
        /// It must become unreadable.
        secure: bool,
    },
}

/// Where the segments of a request are written.
#[derive(Clone, Copy)]
pub enum Segments<'a> {
    /// To the slot: up to 11.
    Direct(&'a [BlkifRequestSegment]),
    /// To other pages, which stay the request's until it is answered.
    Indirect(&'a [BlkifRequestSegment], &'a [IndirectPage<'a>]),
}

/// A page for 512 segments, lent to the back end.
#[derive(Clone, Copy)]
pub struct IndirectPage<'a> {
    /// The page.
    pub page: &'a dyn SharedPage,
    /// Its grant.
    pub gref: GrantRef,
}

impl core::fmt::Debug for Segments<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Direct(segments) => f.debug_tuple("Direct").field(segments).finish(),
            Self::Indirect(segments, _) => f.debug_tuple("Indirect").field(segments).finish(),
        }
    }
}

/// A request's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// What the request was submitted with.
    pub tag: u64,
    /// How it went.
    pub result: Result<(), Failure>,
}

/// Why the back end did not do as asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// It does not do such things.
    #[error("The disk does not support the operation")]
    Unsupported,
    /// It tried, or would not.
    #[error("The disk reports an error")]
    Failed,
}

/// Why a queue does not work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrontError {
    /// No slot is free, or the ring is broken.
    #[error(transparent)]
    Ring(#[from] RingError),
    /// More segments than the request or its pages can hold.
    #[error("Too many segments")]
    Segments,
    /// The back end answers what nobody asked.
    #[error("The back end answers request {id}, which it was not sent as operation {operation}")]
    Answer {
        /// Its `id`.
        id: u64,
        /// Its `operation`.
        operation: u8,
    },
    /// The event channel does not work.
    #[error("The event channel fails: {0}")]
    Channel(Errno),
}

/// A request the back end has.
#[derive(Clone, Copy, Debug)]
struct Sent {
    tag: u64,
    operation: u8,
}

/// A ring with up to `SLOTS` requests at a time.
#[derive(Debug)]
pub struct FrontQueue<P, E, const SLOTS: usize = 32> {
    ring: FrontSlots<P>,
    channel: E,
    sent: [Option<Sent>; SLOTS],
    /// The first `free` of these are indices in `sent` that nobody has.
    free_list: [u16; SLOTS],
    free: usize,
    notifications: u64,
}

impl<P: SharedPage, E: EventChannel, const SLOTS: usize> FrontQueue<P, E, SLOTS> {
    /// Makes an empty ring: in a page, or a [`PageRun`](pv_ring::PageRun) of several.
    ///
    /// # Errors
    /// [`FrontError::Ring`] when the page is too small.
    pub fn new(page: P, channel: E, abi: Abi) -> Result<Self, FrontError> {
        const { assert!(SLOTS > 0 && SLOTS <= 1 << 16) };
        let ring = FrontSlots::init(page, abi)?;
        Ok(Self {
            free: SLOTS.min(ring.slots() as usize),
            ring,
            channel,
            sent: [None; SLOTS],
            free_list: core::array::from_fn(|at| at as u16),
            notifications: 0,
        })
    }

    /// How many requests can be submitted now.
    pub fn free(&self) -> usize {
        self.free.min(self.ring.free() as usize)
    }

    /// The event channel.
    pub fn channel(&self) -> &E {
        &self.channel
    }

    /// How often the back end was notified.
    pub fn notifications(&self) -> u64 {
        self.notifications
    }

    /// Writes a request to the ring; [`publish`](Self::publish) shows it to the back end. `tag` comes
    /// back with the answer.
    ///
    /// # Errors
    /// [`FrontError::Ring`] when there is no room, [`FrontError::Segments`].
    pub fn submit(&mut self, command: &Command<'_>, tag: u64) -> Result<(), FrontError> {
        if self.free() == 0 {
            return Err(RingError::Full.into());
        }
        let id = self.free_list[self.free - 1];
        let (request, operation) = encode(command, id.into())?;
        self.ring.push(&request)?;
        self.free -= 1;
        self.sent[usize::from(id)] = Some(Sent { tag, operation });
        Ok(())
    }

    /// Shows the submitted requests to the back end, and wakes it if it sleeps.
    ///
    /// # Errors
    /// [`FrontError::Channel`].
    pub fn publish(&mut self) -> Result<(), FrontError> {
        if self.ring.publish() {
            self.notifications += 1;
            self.channel.notify().map_err(FrontError::Channel)?;
        }
        Ok(())
    }

    /// The next answer, if there is one.
    ///
    /// # Errors
    /// [`FrontError::Ring`], [`FrontError::Answer`]: the back end is broken.
    pub fn answer(&mut self) -> Result<Option<Answer>, FrontError> {
        let Some(response) = self.ring.pop()? else {
            return Ok(None);
        };
        let (id, operation) = (response.id, response.operation);
        let sent = usize::try_from(id)
            .ok()
            .and_then(|id| self.sent.get_mut(id))
            .and_then(|sent| sent.take_if(|sent| sent.operation == operation))
            .ok_or(FrontError::Answer { id, operation })?;
        self.free_list[self.free] = id as u16;
        self.free += 1;
        let result = match response.status {
            BLKIF_RSP_OKAY => Ok(()),
            BLKIF_RSP_EOPNOTSUPP => Err(Failure::Unsupported),
            _ => Err(Failure::Failed),
        };
        Ok(Some(Answer {
            tag: sent.tag,
            result,
        }))
    }

    /// Asks to be notified of the next answer; whether there is one already.
    ///
    /// # Errors
    /// [`FrontError::Ring`].
    pub fn final_check(&mut self) -> Result<bool, FrontError> {
        Ok(self.ring.final_check()?)
    }
}

impl<P: SharedPage, E: WaitChannel, const SLOTS: usize> FrontQueue<P, E, SLOTS> {
    /// The next answer; waits for it.
    ///
    /// # Errors
    /// As [`answer`](Self::answer); [`FrontError::Channel`].
    pub fn wait(&mut self) -> Result<Answer, FrontError> {
        loop {
            if let Some(answer) = self.answer()? {
                return Ok(answer);
            }
            if !self.final_check()? {
                self.channel.wait().map_err(FrontError::Channel)?;
            }
        }
    }
}

/// The slot, and the operation its answer carries.
fn encode(command: &Command<'_>, id: u64) -> Result<(BlkifRequest, u8), FrontError> {
    let (operation, sector, segments) = match *command {
        Command::Read(sector, segments) => (BLKIF_OP_READ, sector, segments),
        Command::Write(sector, segments) => (BLKIF_OP_WRITE, sector, segments),
        Command::Barrier(sector, segments) => {
            let segments = Segments::Direct(segments);
            (BLKIF_OP_WRITE_BARRIER, sector, segments)
        }
        Command::Flush => (BLKIF_OP_FLUSH_DISKCACHE, 0, Segments::Direct(&[])),
        Command::Discard {
            sector,
            sectors,
            secure,
        } => {
            let request = BlkifRequestDiscard {
                operation: BLKIF_OP_DISCARD,
                flag: if secure { BLKIF_DISCARD_SECURE } else { 0 },
                id,
                sector_number: sector,
                nr_sectors: sectors,
                ..Default::default()
            };
            return Ok((slot(&request), BLKIF_OP_DISCARD));
        }
    };
    let request = match segments {
        Segments::Direct(segments) => direct(operation, id, sector, segments)?,
        Segments::Indirect(segments, pages) => indirect(operation, id, sector, segments, pages)?,
    };
    Ok((request, operation))
}

fn direct(
    operation: u8,
    id: u64,
    sector: u64,
    segments: &[BlkifRequestSegment],
) -> Result<BlkifRequest, FrontError> {
    let mut seg = [BlkifRequestSegment::default(); BLKIF_MAX_SEGMENTS_PER_REQUEST];
    let to = seg.get_mut(..segments.len()).ok_or(FrontError::Segments)?;
    to.copy_from_slice(segments);
    Ok(BlkifRequest {
        operation,
        nr_segments: segments.len() as u8,
        id,
        sector_number: sector,
        seg,
        ..Default::default()
    })
}

fn indirect(
    operation: u8,
    id: u64,
    sector: u64,
    segments: &[BlkifRequestSegment],
    pages: &[IndirectPage<'_>],
) -> Result<BlkifRequest, FrontError> {
    let needed = segments.len().div_ceil(SEGMENTS_PER_INDIRECT_PAGE);
    if needed > pages.len().min(BLKIF_MAX_INDIRECT_PAGES_PER_REQUEST) {
        return Err(FrontError::Segments);
    }
    let mut indirect_grefs = [GrantRef::default(); BLKIF_MAX_INDIRECT_PAGES_PER_REQUEST];
    let parts = segments.chunks(SEGMENTS_PER_INDIRECT_PAGE);
    for ((part, page), gref) in parts.zip(pages).zip(&mut indirect_grefs) {
        page.page.write(0, part.as_bytes());
        *gref = page.gref;
    }
    Ok(slot(&BlkifRequestIndirect {
        operation: BLKIF_OP_INDIRECT,
        indirect_op: operation,
        nr_segments: segments.len() as u16,
        id,
        sector_number: sector,
        indirect_grefs,
        ..Default::default()
    }))
}

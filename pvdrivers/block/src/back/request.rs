//! What a front end asks for, checked: nothing here trusts a number, nothing touches memory.

use xen_sys::GrantRef;
use xen_sys::io::blkif::{
    BLKIF_DISCARD_SECURE, BLKIF_MAX_INDIRECT_PAGES_PER_REQUEST, BLKIF_MAX_SEGMENTS_PER_REQUEST,
    BLKIF_OP_DISCARD, BLKIF_OP_FLUSH_DISKCACHE, BLKIF_OP_INDIRECT, BLKIF_OP_READ, BLKIF_OP_WRITE,
    BLKIF_OP_WRITE_BARRIER, BlkifRequest, BlkifRequestDiscard, BlkifRequestIndirect,
    BlkifRequestSegment,
};

use super::medium::MediumInfo;
use crate::wire::{SECTOR, view};

/// The last sector of a page.
const LAST_SECT: u8 = 7;

/// What a queue has to know of the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// `None`: no medium in the drive.
    pub medium: Option<MediumInfo>,
    /// Segments of an indirect request; 0: none of those.
    pub max_indirect_segments: u16,
}

/// Why a request is not carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The operation is unknown or was not offered.
    Unsupported,
    /// It makes no sense.
    Invalid,
    /// The disk cannot be written, or there is none.
    Refused,
    /// A page is not to be had.
    Grant,
}

/// Kinds of requests, as they are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Read,
    Write,
    Flush,
    Barrier,
    Discard,
    Unknown,
}

/// Where the segments are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Segments {
    /// In the slot, so many.
    Direct(usize),
    /// In other pages.
    Indirect(usize, [GrantRef; BLKIF_MAX_INDIRECT_PAGES_PER_REQUEST]),
}

/// A request as far as its slot tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    /// Of the answer.
    pub(crate) id: u64,
    /// Of the answer: for an indirect request what it does, as Linux' drivers have it.
    pub(crate) operation: u8,
    pub(crate) kind: Kind,
    pub(crate) sector: u64,
    pub(crate) segments: Segments,
}

impl Head {
    pub(crate) fn of(request: &BlkifRequest) -> Self {
        let indirect: BlkifRequestIndirect = view(request);
        let (operation, segments) = match request.operation {
            BLKIF_OP_INDIRECT => (
                indirect.indirect_op,
                Segments::Indirect(indirect.nr_segments.into(), indirect.indirect_grefs),
            ),
            operation => (operation, Segments::Direct(request.nr_segments.into())),
        };
        let kind = match (operation, segments) {
            (BLKIF_OP_READ, _) => Kind::Read,
            (BLKIF_OP_WRITE, _) => Kind::Write,
            (_, Segments::Indirect(..)) => Kind::Unknown,
            (BLKIF_OP_FLUSH_DISKCACHE, Segments::Direct(0)) => Kind::Flush,
            // A flush with data: a write between two flushes. A barrier is that and more.
            (BLKIF_OP_FLUSH_DISKCACHE | BLKIF_OP_WRITE_BARRIER, _) => Kind::Barrier,
            (BLKIF_OP_DISCARD, _) => Kind::Discard,
            _ => Kind::Unknown,
        };
        Self {
            id: request.id,
            operation,
            kind,
            sector: request.sector_number,
            segments,
        }
    }

    /// Whether it was sent as an indirect one.
    pub(crate) fn is_indirect(&self) -> bool {
        matches!(self.segments, Segments::Indirect(..))
    }
}

impl Geometry {
    /// Whether the disk does this kind of thing at all.
    pub(crate) fn check_kind(&self, head: &Head) -> Result<MediumInfo, Refusal> {
        if head.is_indirect() && self.max_indirect_segments == 0 {
            return Err(Refusal::Unsupported);
        }
        if head.kind == Kind::Unknown {
            return Err(match head.segments {
                Segments::Direct(_) => Refusal::Unsupported,
                Segments::Indirect(..) => Refusal::Invalid,
            });
        }
        let medium = self.medium.ok_or(Refusal::Refused)?;
        let offered = match head.kind {
            Kind::Flush | Kind::Barrier => medium.flush,
            Kind::Discard => medium.discard.is_some(),
            Kind::Read | Kind::Write | Kind::Unknown => true,
        };
        if !offered {
            return Err(Refusal::Unsupported);
        }
        let writes = matches!(head.kind, Kind::Write | Kind::Barrier | Kind::Discard);
        if writes && medium.readonly {
            return Err(Refusal::Refused);
        }
        Ok(medium)
    }

    /// How many segments the request claims, if that can be.
    pub(crate) fn check_count(&self, head: &Head) -> Result<usize, Refusal> {
        let (count, max) = match head.segments {
            Segments::Direct(count) => (count, BLKIF_MAX_SEGMENTS_PER_REQUEST),
            Segments::Indirect(count, _) => (count, self.max_indirect_segments.into()),
        };
        // Only a barrier may do nothing but order.
        if count > max || (count == 0 && head.kind != Kind::Barrier) {
            return Err(Refusal::Invalid);
        }
        Ok(count)
    }
}

/// First byte and bytes of the transfer.
pub(crate) fn check_segments(
    medium: &MediumInfo,
    sector: u64,
    segments: &[BlkifRequestSegment],
) -> Result<(u64, u64), Refusal> {
    let mut sectors = 0;
    let mut bits = sector;
    for segment in segments {
        if segment.first_sect > segment.last_sect || segment.last_sect > LAST_SECT {
            return Err(Refusal::Invalid);
        }
        let count = u64::from(segment.last_sect - segment.first_sect + 1);
        bits |= count;
        sectors += count;
    }
    check_range(medium, sector, sectors, bits)
}

/// First byte and bytes of the discard, and whether it is a secure one.
pub(crate) fn check_discard(
    medium: &MediumInfo,
    request: &BlkifRequest,
) -> Result<(u64, u64, bool), Refusal> {
    let discard: BlkifRequestDiscard = view(request);
    let secure = discard.flag & BLKIF_DISCARD_SECURE != 0;
    if secure && !medium.discard.is_some_and(|can| can.secure) {
        return Err(Refusal::Unsupported);
    }
    let (sector, sectors) = (discard.sector_number, discard.nr_sectors);
    if sectors == 0 {
        return Err(Refusal::Invalid);
    }
    let (offset, len) = check_range(medium, sector, sectors, sector | sectors)?;
    Ok((offset, len, secure))
}

/// Within the disk, and `bits` in whole sectors of the disk's own size.
fn check_range(
    medium: &MediumInfo,
    sector: u64,
    sectors: u64,
    bits: u64,
) -> Result<(u64, u64), Refusal> {
    let unit = u64::from(medium.sector_size) / SECTOR;
    let within = sector
        .checked_add(sectors)
        .is_some_and(|end| end <= medium.sectors);
    if !within || bits & (unit.max(1) - 1) != 0 {
        return Err(Refusal::Invalid);
    }
    // The size of a disk in bytes fits 64 bits, or it would not have been opened.
    let offset = sector.checked_mul(SECTOR).ok_or(Refusal::Invalid)?;
    let len = sectors.checked_mul(SECTOR).ok_or(Refusal::Invalid)?;
    Ok((offset, len))
}

//! `io/blkif.h`: block devices. Sectors are 512 bytes on the wire, whatever `sector-size` says.
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::GrantRef;

/// Read.
pub const BLKIF_OP_READ: u8 = 0;
/// Write.
pub const BLKIF_OP_WRITE: u8 = 1;
/// Write after all before it and before all after it (`feature-barrier`).
pub const BLKIF_OP_WRITE_BARRIER: u8 = 2;
/// Flush the write cache (`feature-flush-cache`).
pub const BLKIF_OP_FLUSH_DISKCACHE: u8 = 3;
/// Reserved (was: packet).
pub const BLKIF_OP_RESERVED_1: u8 = 4;
/// Discard sectors (`feature-discard`).
pub const BLKIF_OP_DISCARD: u8 = 5;
/// Segments are in other pages (`feature-max-indirect-segments`).
pub const BLKIF_OP_INDIRECT: u8 = 6;
/// Segments in a direct request.
pub const BLKIF_MAX_SEGMENTS_PER_REQUEST: usize = 11;
/// Pages of segments in an indirect request.
pub const BLKIF_MAX_INDIRECT_PAGES_PER_REQUEST: usize = 8;

/// Part of a page to read or write.
///
/// `struct blkif_request_segment`, 8 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct BlkifRequestSegment {
    /// The page.
    pub gref: GrantRef,
    /// First 512-byte sector in it, 0 to 7.
    pub first_sect: u8,
    /// Last sector in it, included.
    pub last_sect: u8,
    /// Padding; zero.
    pub _pad0: [u8; 2],
}
const _: () = assert!(size_of::<BlkifRequestSegment>() == 8);

/// A read, write, barrier or flush.
///
/// `struct blkif_request`, 112 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct BlkifRequest {
    /// `BLKIF_OP_*`.
    pub operation: u8,
    /// Segments used.
    pub nr_segments: u8,
    /// Virtual device number.
    pub handle: u16,
    /// Padding; zero.
    pub _pad0: [u8; 4],
    /// Echoed in the response.
    pub id: u64,
    /// First sector on the disk.
    pub sector_number: u64,
    /// Segments.
    pub seg: [BlkifRequestSegment; BLKIF_MAX_SEGMENTS_PER_REQUEST],
}
const _: () = assert!(size_of::<BlkifRequest>() == 112);

/// A discard; at the start of the slot.
///
/// `struct blkif_request_discard`, 32 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct BlkifRequestDiscard {
    /// `BLKIF_OP_DISCARD`.
    pub operation: u8,
    /// `BLKIF_DISCARD_SECURE` or 0.
    pub flag: u8,
    /// Virtual device number.
    pub handle: u16,
    /// Padding; zero.
    pub _pad0: [u8; 4],
    /// Echoed in the response.
    pub id: u64,
    /// First sector.
    pub sector_number: u64,
    /// Sectors.
    pub nr_sectors: u64,
}
const _: () = assert!(size_of::<BlkifRequestDiscard>() == 32);
/// The data must not be readable afterwards.
pub const BLKIF_DISCARD_SECURE: u8 = 1;

/// An indirect request; at the start of the slot.
///
/// `struct blkif_request_indirect`, 64 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct BlkifRequestIndirect {
    /// `BLKIF_OP_INDIRECT`.
    pub operation: u8,
    /// `BLKIF_OP_READ` or `BLKIF_OP_WRITE`.
    pub indirect_op: u8,
    /// Segments.
    pub nr_segments: u16,
    /// Padding; zero.
    pub _pad0: [u8; 4],
    /// Echoed in the response.
    pub id: u64,
    /// First sector on the disk.
    pub sector_number: u64,
    /// Virtual device number.
    pub handle: u16,
    /// Padding; zero.
    pub _pad1: [u8; 2],
    /// Pages of 512 segments each.
    pub indirect_grefs: [GrantRef; BLKIF_MAX_INDIRECT_PAGES_PER_REQUEST],
    /// Padding; zero.
    pub _pad2: [u8; 4],
}
const _: () = assert!(size_of::<BlkifRequestIndirect>() == 64);

/// A response.
///
/// `struct blkif_response`, 16 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct BlkifResponse {
    /// From the request.
    pub id: u64,
    /// From the request.
    pub operation: u8,
    /// Padding; zero.
    pub _pad0: [u8; 1],
    /// `BLKIF_RSP_*`.
    pub status: i16,
    /// Padding; zero.
    pub _pad1: [u8; 4],
}
const _: () = assert!(size_of::<BlkifResponse>() == 16);
/// Operation not supported.
pub const BLKIF_RSP_EOPNOTSUPP: i16 = -2;
/// It failed.
pub const BLKIF_RSP_ERROR: i16 = -1;
/// Done.
pub const BLKIF_RSP_OKAY: i16 = 0;
/// Node `info`: a CD-ROM.
pub const VDISK_CDROM: u32 = 1;
/// Node `info`: removable.
pub const VDISK_REMOVABLE: u32 = 2;
/// Node `info`: read only.
pub const VDISK_READONLY: u32 = 4;

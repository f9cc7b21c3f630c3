//! `grant_table.h`: sharing pages with other domains.
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{DomId, GrantRef, GuestHandle};

/// A version 1 entry; 512 in a page.
///
/// `struct grant_entry_v1`, 8 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct GrantEntryV1 {
    /// `GTF_*`.
    pub flags: u16,
    /// Domain that may map the frame.
    pub domid: DomId,
    /// Frame to share.
    pub frame: u32,
}
const _: () = assert!(size_of::<GrantEntryV1>() == 8);
/// Entries reserved for the toolstack.
pub const GNTTAB_NR_RESERVED_ENTRIES: usize = 8;
/// Entry of the console page.
pub const GNTTAB_RESERVED_CONSOLE: u32 = 0;
/// Entry of the xenstore page.
pub const GNTTAB_RESERVED_XENSTORE: u32 = 1;

/// Type: no grant.
pub const GTF_invalid: u16 = 0;
/// Type: `domid` may map the frame.
pub const GTF_permit_access: u16 = 1;
/// Type: `domid` may transfer a page here.
pub const GTF_accept_transfer: u16 = 2;
/// Type: refers to another domain's grant (v2).
pub const GTF_transitive: u16 = 3;
/// The type's bits.
pub const GTF_type_mask: u16 = 3;
/// Only reading is permitted.
pub const GTF_readonly: u16 = 1 << 2;
/// In use for reading, set by the hypervisor.
pub const GTF_reading: u16 = 1 << 3;
/// In use for writing, set by the hypervisor.
pub const GTF_writing: u16 = 1 << 4;
/// Cache attribute.
pub const GTF_PWT: u16 = 1 << 5;
/// Cache attribute.
pub const GTF_PCD: u16 = 1 << 6;
/// Cache attribute.
pub const GTF_PAT: u16 = 1 << 7;
/// Only part of the page (v2).
pub const GTF_sub_page: u16 = 1 << 8;
/// The transfer will happen.
pub const GTF_transfer_committed: u16 = 1 << 2;
/// The transfer has happened.
pub const GTF_transfer_completed: u16 = 1 << 3;

/// First word of a version 2 entry.
///
/// `struct grant_entry_header`, 4 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct GrantEntryHeader {
    /// `GTF_*`, without the status bits.
    pub flags: u16,
    /// Domain that may use the grant.
    pub domid: DomId,
}
const _: () = assert!(size_of::<GrantEntryHeader>() == 4);

/// A version 2 entry; 256 in a page.
///
/// The header's union overlaid: `word1` is `full_page.pad0`, `sub_page.{page_off, length}` or
/// `transitive.trans_domid`; `word2` is `frame`, or `transitive.gref` in its low 32 bits.
///
/// `union grant_entry_v2`, 16 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct GrantEntryV2 {
    /// Flags and domain.
    pub hdr: GrantEntryHeader,
    /// See above.
    pub word1: u32,
    /// See above.
    pub word2: u64,
}
const _: () = assert!(size_of::<GrantEntryV2>() == 16);

impl GrantEntryV2 {
    /// `full_page.frame` and `sub_page.frame`.
    pub const fn frame(&self) -> u64 {
        self.word2
    }

    /// `sub_page.page_off`: first byte, for copies only.
    pub const fn page_off(&self) -> u16 {
        self.word1 as u16
    }

    /// `sub_page.length`: bytes, for copies only.
    pub const fn length(&self) -> u16 {
        (self.word1 >> 16) as u16
    }

    /// `transitive.trans_domid`: whose grant it is.
    pub const fn trans_domid(&self) -> DomId {
        DomId(self.word1 as u16)
    }

    /// `transitive.gref`: that grant.
    pub const fn trans_gref(&self) -> GrantRef {
        GrantRef(self.word2 as u32)
    }
}

/// Map grants of another domain.
pub const GNTTABOP_map_grant_ref: u32 = 0;
/// Unmap them.
pub const GNTTABOP_unmap_grant_ref: u32 = 1;
/// Grow the grant table and list its frames.
pub const GNTTABOP_setup_table: u32 = 2;
/// Print the grant table on the console.
pub const GNTTABOP_dump_table: u32 = 3;
/// Give a page away.
pub const GNTTABOP_transfer: u32 = 4;
/// Copy between granted or own pages.
pub const GNTTABOP_copy: u32 = 5;
/// Current and maximum frames of a table.
pub const GNTTABOP_query_size: u32 = 6;
/// Unmap and put another page in its place.
pub const GNTTABOP_unmap_and_replace: u32 = 7;
/// Choose version 1 or 2.
pub const GNTTABOP_set_version: u32 = 8;
/// List the status frames (v2).
pub const GNTTABOP_get_status_frames: u32 = 9;
/// Version in use.
pub const GNTTABOP_get_version: u32 = 10;
/// Exchange two entries.
pub const GNTTABOP_swap_grant_ref: u32 = 11;
/// Cache maintenance on a grant.
pub const GNTTABOP_cache_flush: u32 = 12;

/// `GNTTABOP_map_grant_ref`.
///
/// `struct gnttab_map_grant_ref`, 32 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct GnttabMapGrantRef {
    /// Where to map: virtual address, or machine address of a PTE with `GNTMAP_contains_pte`.
    pub host_addr: u64,
    /// `GNTMAP_*`.
    pub flags: u32,
    /// The grant (`ref`).
    pub ref_: GrantRef,
    /// Whose grant.
    pub dom: DomId,
    /// Out: `GNTST_*`.
    pub status: i16,
    /// Out: names the mapping.
    pub handle: u32,
    /// Out: address for DMA.
    pub dev_bus_addr: u64,
}
const _: () = assert!(size_of::<GnttabMapGrantRef>() == 32);

/// `GNTTABOP_unmap_grant_ref`.
///
/// `struct gnttab_unmap_grant_ref`, 24 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct GnttabUnmapGrantRef {
    /// As given when mapping.
    pub host_addr: u64,
    /// DMA address, or 0.
    pub dev_bus_addr: u64,
    /// The mapping.
    pub handle: u32,
    /// Out: `GNTST_*`.
    pub status: i16,
    /// Padding; zero.
    pub _pad0: [u8; 2],
}
const _: () = assert!(size_of::<GnttabUnmapGrantRef>() == 24);

/// `GNTTABOP_setup_table`.
///
/// `struct gnttab_setup_table`, 24 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct GnttabSetupTable {
    /// Whose table.
    pub dom: DomId,
    /// Padding; zero.
    pub _pad0: [u8; 2],
    /// Frames wanted.
    pub nr_frames: u32,
    /// Out: `GNTST_*`.
    pub status: i16,
    /// Padding; zero.
    pub _pad1: [u8; 6],
    /// Out: array of `nr_frames` frame numbers, 8 bytes each.
    pub frame_list: GuestHandle,
}
const _: () = assert!(size_of::<GnttabSetupTable>() == 24);

/// `GNTTABOP_dump_table`.
///
/// `struct gnttab_dump_table`, 4 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct GnttabDumpTable {
    /// Whose table.
    pub dom: DomId,
    /// Out: `GNTST_*`.
    pub status: i16,
}
const _: () = assert!(size_of::<GnttabDumpTable>() == 4);

/// `GNTTABOP_transfer`.
///
/// `struct gnttab_transfer`, 24 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct GnttabTransfer {
    /// Page to give away.
    pub mfn: u64,
    /// Receiver.
    pub domid: DomId,
    /// Padding; zero.
    pub _pad0: [u8; 2],
    /// Its grant (`ref`).
    pub ref_: GrantRef,
    /// Out: `GNTST_*`.
    pub status: i16,
    /// Padding; zero.
    pub _pad1: [u8; 6],
}
const _: () = assert!(size_of::<GnttabTransfer>() == 24);

/// One end of a copy.
///
/// `struct gnttab_copy_ptr`, 16 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct GnttabCopyPtr {
    /// `ref` (low 32 bits) or `gmfn`, chosen by `GNTCOPY_*`.
    pub u: u64,
    /// Whose page.
    pub domid: DomId,
    /// First byte in the page.
    pub offset: u16,
    /// Padding; zero.
    pub _pad0: [u8; 4],
}
const _: () = assert!(size_of::<GnttabCopyPtr>() == 16);

impl GnttabCopyPtr {
    /// `u.ref`.
    pub const fn gref(&self) -> GrantRef {
        GrantRef(self.u as u32)
    }
}

/// `GNTTABOP_copy`.
///
/// `struct gnttab_copy`, 40 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct GnttabCopy {
    /// From.
    pub source: GnttabCopyPtr,
    /// To.
    pub dest: GnttabCopyPtr,
    /// Bytes.
    pub len: u16,
    /// `GNTCOPY_*`.
    pub flags: u16,
    /// Out: `GNTST_*`.
    pub status: i16,
    /// Padding; zero.
    pub _pad0: [u8; 2],
}
const _: () = assert!(size_of::<GnttabCopy>() == 40);
/// The source is a grant.
pub const GNTCOPY_source_gref: u16 = 1;
/// The destination is a grant.
pub const GNTCOPY_dest_gref: u16 = 2;

/// `GNTTABOP_query_size`.
///
/// `struct gnttab_query_size`, 16 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct GnttabQuerySize {
    /// Whose table.
    pub dom: DomId,
    /// Padding; zero.
    pub _pad0: [u8; 2],
    /// Out: frames now.
    pub nr_frames: u32,
    /// Out: limit.
    pub max_nr_frames: u32,
    /// Out: `GNTST_*`.
    pub status: i16,
    /// Padding; zero.
    pub _pad1: [u8; 2],
}
const _: () = assert!(size_of::<GnttabQuerySize>() == 16);

/// `GNTTABOP_unmap_and_replace`.
///
/// `struct gnttab_unmap_and_replace`, 24 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct GnttabUnmapAndReplace {
    /// Where it is mapped.
    pub host_addr: u64,
    /// Address whose page takes its place.
    pub new_addr: u64,
    /// The mapping.
    pub handle: u32,
    /// Out: `GNTST_*`.
    pub status: i16,
    /// Padding; zero.
    pub _pad0: [u8; 2],
}
const _: () = assert!(size_of::<GnttabUnmapAndReplace>() == 24);

/// `GNTTABOP_set_version`.
///
/// `struct gnttab_set_version`, 4 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct GnttabSetVersion {
    /// In: wanted. Out: in use.
    pub version: u32,
}
const _: () = assert!(size_of::<GnttabSetVersion>() == 4);

/// `GNTTABOP_get_status_frames`.
///
/// `struct gnttab_get_status_frames`, 16 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct GnttabGetStatusFrames {
    /// Frames wanted.
    pub nr_frames: u32,
    /// Whose table.
    pub dom: DomId,
    /// Out: `GNTST_*`.
    pub status: i16,
    /// Out: array of frame numbers.
    pub frame_list: GuestHandle,
}
const _: () = assert!(size_of::<GnttabGetStatusFrames>() == 16);

/// `GNTTABOP_get_version`.
///
/// `struct gnttab_get_version`, 8 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct GnttabGetVersion {
    /// Whose table.
    pub dom: DomId,
    /// Padding.
    pub pad: u16,
    /// Out: version.
    pub version: u32,
}
const _: () = assert!(size_of::<GnttabGetVersion>() == 8);

/// `GNTTABOP_swap_grant_ref`.
///
/// `struct gnttab_swap_grant_ref`, 12 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct GnttabSwapGrantRef {
    /// One entry.
    pub ref_a: GrantRef,
    /// The other.
    pub ref_b: GrantRef,
    /// Out: `GNTST_*`.
    pub status: i16,
    /// Padding; zero.
    pub _pad0: [u8; 2],
}
const _: () = assert!(size_of::<GnttabSwapGrantRef>() == 12);

/// `GNTTABOP_cache_flush`.
///
/// `struct gnttab_cache_flush`, 16 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct GnttabCacheFlush {
    /// `dev_bus_addr`, or `ref` in the low 32 bits with `GNTTAB_CACHE_SOURCE_GREF`.
    pub a: u64,
    /// First byte.
    pub offset: u16,
    /// Bytes.
    pub length: u16,
    /// `GNTTAB_CACHE_*`.
    pub op: u32,
}
const _: () = assert!(size_of::<GnttabCacheFlush>() == 16);
/// Write back.
pub const GNTTAB_CACHE_CLEAN: u32 = 1;
/// Invalidate.
pub const GNTTAB_CACHE_INVAL: u32 = 2;
/// The address is a grant.
pub const GNTTAB_CACHE_SOURCE_GREF: u32 = 1 << 31;

/// Map for I/O devices.
pub const GNTMAP_device_map: u32 = 1;
/// Map for the CPU.
pub const GNTMAP_host_map: u32 = 2;
/// Map read only.
pub const GNTMAP_readonly: u32 = 4;
/// Accessible from user mode too.
pub const GNTMAP_application_map: u32 = 8;
/// `host_addr` is the machine address of a PTE.
pub const GNTMAP_contains_pte: u32 = 16;
/// Bits for the guest's use in the PTE.
pub const GNTMAP_guest_avail_mask: u32 = 0xffff_0000;

/// Done.
pub const GNTST_okay: i16 = 0;
/// Undefined error.
pub const GNTST_general_error: i16 = -1;
/// Unknown domain.
pub const GNTST_bad_domain: i16 = -2;
/// Unknown or inappropriate grant.
pub const GNTST_bad_gntref: i16 = -3;
/// Unknown or inappropriate handle.
pub const GNTST_bad_handle: i16 = -4;
/// Inappropriate virtual address.
pub const GNTST_bad_virt_addr: i16 = -5;
/// Inappropriate device address.
pub const GNTST_bad_dev_addr: i16 = -6;
/// Out of I/O MMU space.
pub const GNTST_no_device_space: i16 = -7;
/// Not permitted.
pub const GNTST_permission_denied: i16 = -8;
/// The page is invalid.
pub const GNTST_bad_page: i16 = -9;
/// The copy crosses a page boundary.
pub const GNTST_bad_copy_arg: i16 = -10;
/// The page's address is too large.
pub const GNTST_address_too_big: i16 = -11;
/// Try again.
pub const GNTST_eagain: i16 = -12;
/// No space.
pub const GNTST_no_space: i16 = -13;

/// The header's text for a `GNTST_*` value (`GNTTABOP_error_msgs`).
pub const fn gntst_message(status: i16) -> &'static str {
    match status {
        GNTST_okay => "okay",
        GNTST_bad_domain => "unrecognised domain id",
        GNTST_bad_gntref => "invalid grant reference",
        GNTST_bad_handle => "invalid mapping handle",
        GNTST_bad_virt_addr => "invalid virtual address",
        GNTST_bad_dev_addr => "invalid device address",
        GNTST_no_device_space => "no spare translation slot in the I/O MMU",
        GNTST_permission_denied => "permission denied",
        GNTST_bad_page => "bad page",
        GNTST_bad_copy_arg => "copy arguments cross page boundary",
        GNTST_address_too_big => "page address size too large",
        GNTST_eagain => "operation not done; try again",
        GNTST_no_space => "out of space",
        _ => "undefined error",
    }
}

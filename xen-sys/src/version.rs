//! `version.h`: what hypervisor is this (`HYPERVISOR_xen_version`).
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::addr::Vaddr;

/// Returns major << 16 | minor.
pub const XENVER_version: u32 = 0;
/// Writes [`XEN_EXTRAVERSION_LEN`] bytes, e.g. ".4".
pub const XENVER_extraversion: u32 = 1;
/// Writes a [`XenCompileInfo`].
pub const XENVER_compile_info: u32 = 2;
/// Writes [`XEN_CAPABILITIES_INFO_LEN`] bytes, e.g. "xen-3.0-x86_64".
pub const XENVER_capabilities: u32 = 3;
/// Writes [`XEN_CHANGESET_INFO_LEN`] bytes.
pub const XENVER_changeset: u32 = 4;
/// Writes a [`XenPlatformParameters`].
pub const XENVER_platform_parameters: u32 = 5;
/// Reads and writes a [`XenFeatureInfo`].
pub const XENVER_get_features: u32 = 6;
/// Returns the page size.
pub const XENVER_pagesize: u32 = 7;
/// Writes the domain's UUID, 16 bytes.
pub const XENVER_guest_handle: u32 = 8;
/// Writes the hypervisor's command line, 1024 bytes.
pub const XENVER_commandline: u32 = 9;
/// Writes a `xen_build_id`.
pub const XENVER_build_id: u32 = 10;
/// Bytes of `xen_extraversion_t`.
pub const XEN_EXTRAVERSION_LEN: usize = 16;
/// Bytes of `xen_capabilities_info_t`.
pub const XEN_CAPABILITIES_INFO_LEN: usize = 1024;
/// Bytes of `xen_changeset_info_t`.
pub const XEN_CHANGESET_INFO_LEN: usize = 64;
/// Bytes of `xen_commandline_t`.
pub const XEN_COMMANDLINE_LEN: usize = 1024;

/// `XENVER_compile_info`; NUL terminated strings.
///
/// `struct xen_compile_info`, 144 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct XenCompileInfo {
    /// Compiler.
    pub compiler: [u8; 64],
    /// Who.
    pub compile_by: [u8; 16],
    /// Where.
    pub compile_domain: [u8; 32],
    /// When.
    pub compile_date: [u8; 32],
}
const _: () = assert!(size_of::<XenCompileInfo>() == 144);

/// `XENVER_platform_parameters`.
///
/// `struct xen_platform_parameters`, 8 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct XenPlatformParameters {
    /// Start of the hypervisor's hole.
    pub virt_start: Vaddr,
}
const _: () = assert!(size_of::<XenPlatformParameters>() == 8);

/// `XENVER_get_features`.
///
/// `struct xen_feature_info`, 8 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct XenFeatureInfo {
    /// In: which 32 features.
    pub submap_idx: u32,
    /// Out: `XENFEAT_*` bits.
    pub submap: u32,
}
const _: () = assert!(size_of::<XenFeatureInfo>() == 8);

/// Head of `XENVER_build_id`'s buffer; `len` bytes follow.
///
/// `struct xen_build_id`, 4 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct XenBuildIdHeader {
    /// In: room. Out: bytes.
    pub len: u32,
}
const _: () = assert!(size_of::<XenBuildIdHeader>() == 4);

//! `io/netif.h`: network devices: transmit, receive and control rings.
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::GrantRef;

/// Slots of a packet that every back end must take.
pub const XEN_NETIF_NR_SLOTS_MIN: usize = 18;
/// Largest packet to transmit, bytes.
pub const XEN_NETIF_MAX_TX_SIZE: usize = 0xffff;
/// The checksum is left out.
pub const NETTXF_csum_blank: u16 = 1;
/// The data has been validated.
pub const NETTXF_data_validated: u16 = 2;
/// The packet continues in the next request.
pub const NETTXF_more_data: u16 = 4;
/// Extra information follows.
pub const NETTXF_extra_info: u16 = 8;

/// A piece of a packet to transmit.
///
/// `struct netif_tx_request`, 12 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct NetifTxRequest {
    /// The page.
    pub gref: GrantRef,
    /// First byte in it.
    pub offset: u16,
    /// `NETTXF_*`.
    pub flags: u16,
    /// Echoed in the response.
    pub id: u16,
    /// Bytes; of the whole packet in its first request.
    pub size: u16,
}
const _: () = assert!(size_of::<NetifTxRequest>() == 12);
/// Not valid.
pub const XEN_NETIF_EXTRA_TYPE_NONE: u8 = 0;
/// Segmentation offload.
pub const XEN_NETIF_EXTRA_TYPE_GSO: u8 = 1;
/// Receive a multicast address.
pub const XEN_NETIF_EXTRA_TYPE_MCAST_ADD: u8 = 2;
/// Stop receiving it.
pub const XEN_NETIF_EXTRA_TYPE_MCAST_DEL: u8 = 3;
/// The packet's hash.
pub const XEN_NETIF_EXTRA_TYPE_HASH: u8 = 4;
/// Number of types.
pub const XEN_NETIF_EXTRA_TYPE_MAX: u8 = 5;
/// Another extra information follows.
pub const XEN_NETIF_EXTRA_FLAG_MORE: u8 = 1;
/// No segmentation.
pub const XEN_NETIF_GSO_TYPE_NONE: u8 = 0;
/// TCP over IPv4.
pub const XEN_NETIF_GSO_TYPE_TCPV4: u8 = 1;
/// TCP over IPv6.
pub const XEN_NETIF_GSO_TYPE_TCPV6: u8 = 2;

/// Extra information; takes a request's or response's slot.
///
/// `struct netif_extra_info`, 8 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct NetifExtraInfo {
    /// `XEN_NETIF_EXTRA_TYPE_*` (`type`).
    pub kind: u8,
    /// `XEN_NETIF_EXTRA_FLAG_*`.
    pub flags: u8,
    /// GSO: size (2, little endian), type, pad, features (2). Multicast: address. Hash: type, algorithm, value (4).
    pub u: [u8; 6],
}
const _: () = assert!(size_of::<NetifExtraInfo>() == 8);

/// Answer to a transmit request.
///
/// `struct netif_tx_response`, 4 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct NetifTxResponse {
    /// From the request.
    pub id: u16,
    /// `NETIF_RSP_*`.
    pub status: i16,
}
const _: () = assert!(size_of::<NetifTxResponse>() == 4);

/// A page to receive into.
///
/// `struct netif_rx_request`, 8 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct NetifRxRequest {
    /// Echoed in the response.
    pub id: u16,
    /// Zero.
    pub pad: u16,
    /// The page.
    pub gref: GrantRef,
}
const _: () = assert!(size_of::<NetifRxRequest>() == 8);
/// The data has been validated.
pub const NETRXF_data_validated: u16 = 1;
/// The checksum is left out.
pub const NETRXF_csum_blank: u16 = 2;
/// The packet continues in the next response.
pub const NETRXF_more_data: u16 = 4;
/// Extra information follows.
pub const NETRXF_extra_info: u16 = 8;
/// Old form of segmentation offload.
pub const NETRXF_gso_prefix: u16 = 16;

/// A piece of a received packet.
///
/// `struct netif_rx_response`, 8 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct NetifRxResponse {
    /// From the request.
    pub id: u16,
    /// First byte in the page.
    pub offset: u16,
    /// `NETRXF_*`.
    pub flags: u16,
    /// Bytes, or a negative `NETIF_RSP_*`.
    pub status: i16,
}
const _: () = assert!(size_of::<NetifRxResponse>() == 8);
/// Dropped.
pub const NETIF_RSP_DROPPED: i16 = -2;
/// Failed.
pub const NETIF_RSP_ERROR: i16 = -1;
/// Done.
pub const NETIF_RSP_OKAY: i16 = 0;
/// Transmit: the slot held extra information.
pub const NETIF_RSP_NULL: i16 = 1;

/// A control request.
///
/// `struct xen_netif_ctrl_request`, 16 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct XenNetifCtrlRequest {
    /// Echoed in the response.
    pub id: u16,
    /// `XEN_NETIF_CTRL_TYPE_*` (`type`).
    pub kind: u16,
    /// Arguments.
    pub data: [u32; 3],
}
const _: () = assert!(size_of::<XenNetifCtrlRequest>() == 16);

/// Answer to a control request.
///
/// `struct xen_netif_ctrl_response`, 12 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct XenNetifCtrlResponse {
    /// From the request.
    pub id: u16,
    /// From the request (`type`).
    pub kind: u16,
    /// `XEN_NETIF_CTRL_STATUS_*`.
    pub status: u32,
    /// Result.
    pub data: u32,
}
const _: () = assert!(size_of::<XenNetifCtrlResponse>() == 12);
/// Never sent.
pub const XEN_NETIF_CTRL_TYPE_INVALID: u16 = 0;
/// Hash types the back end knows.
pub const XEN_NETIF_CTRL_TYPE_GET_HASH_FLAGS: u16 = 1;
/// Hash types to use.
pub const XEN_NETIF_CTRL_TYPE_SET_HASH_FLAGS: u16 = 2;
/// Hash key.
pub const XEN_NETIF_CTRL_TYPE_SET_HASH_KEY: u16 = 3;
/// Largest hash to queue table.
pub const XEN_NETIF_CTRL_TYPE_GET_HASH_MAPPING_SIZE: u16 = 4;
/// Size of the hash to queue table.
pub const XEN_NETIF_CTRL_TYPE_SET_HASH_MAPPING_SIZE: u16 = 5;
/// The hash to queue table.
pub const XEN_NETIF_CTRL_TYPE_SET_HASH_MAPPING: u16 = 6;
/// Hash algorithm.
pub const XEN_NETIF_CTRL_TYPE_SET_HASH_ALGORITHM: u16 = 7;
/// Grants the back end can keep mapped.
pub const XEN_NETIF_CTRL_TYPE_GET_GREF_MAPPING_SIZE: u16 = 8;
/// Keep grants mapped.
pub const XEN_NETIF_CTRL_TYPE_ADD_GREF_MAPPING: u16 = 9;
/// Unmap them.
pub const XEN_NETIF_CTRL_TYPE_DEL_GREF_MAPPING: u16 = 10;
/// Done.
pub const XEN_NETIF_CTRL_STATUS_SUCCESS: u32 = 0;
/// Not supported.
pub const XEN_NETIF_CTRL_STATUS_NOT_SUPPORTED: u32 = 1;
/// Bad argument.
pub const XEN_NETIF_CTRL_STATUS_INVALID_PARAMETER: u32 = 2;
/// Too long.
pub const XEN_NETIF_CTRL_STATUS_BUFFER_OVERFLOW: u32 = 3;
/// Hash IPv4 addresses.
pub const XEN_NETIF_CTRL_HASH_TYPE_IPV4: u32 = 1;
/// Hash IPv4 addresses and TCP ports.
pub const XEN_NETIF_CTRL_HASH_TYPE_IPV4_TCP: u32 = 2;
/// Hash IPv6 addresses.
pub const XEN_NETIF_CTRL_HASH_TYPE_IPV6: u32 = 4;
/// Hash IPv6 addresses and TCP ports.
pub const XEN_NETIF_CTRL_HASH_TYPE_IPV6_TCP: u32 = 8;
/// No hash.
pub const XEN_NETIF_CTRL_HASH_ALGORITHM_NONE: u32 = 0;
/// Toeplitz hash.
pub const XEN_NETIF_CTRL_HASH_ALGORITHM_TOEPLITZ: u32 = 1;

/// An entry of the `ADD_GREF_MAPPING` list.
///
/// `struct xen_netif_gref`, 8 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct XenNetifGref {
    /// The grant (`ref`).
    pub ref_: GrantRef,
    /// `XEN_NETIF_CTRLF_GREF_readonly` or 0.
    pub flags: u16,
    /// Out: `XEN_NETIF_CTRL_STATUS_*`.
    pub status: u16,
}
const _: () = assert!(size_of::<XenNetifGref>() == 8);
/// Map read only.
pub const XEN_NETIF_CTRLF_GREF_readonly: u16 = 1;

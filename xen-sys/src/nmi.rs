//! `nmi.h`: the NMI callback of old interfaces (`HYPERVISOR_nmi_op`).
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::addr::Vaddr;

/// I/O check error, memory parity error.
pub const XEN_NMIREASON_io_error: u64 = 1;
/// PCI SERR#.
pub const XEN_NMIREASON_pci_serr: u64 = 2;
/// Unknown.
pub const XEN_NMIREASON_unknown: u64 = 4;
/// Register, see [`XennmiCallback`].
pub const XENNMI_register_callback: u32 = 0;
/// Unregister.
pub const XENNMI_unregister_callback: u32 = 1;

/// `XENNMI_register_callback`.
///
/// `struct xennmi_callback`, 16 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct XennmiCallback {
    /// Handler.
    pub handler_address: Vaddr,
    /// Unused.
    pub pad: u64,
}
const _: () = assert!(size_of::<XennmiCallback>() == 16);

//! `callback.h`: registering callbacks (`HYPERVISOR_callback_op`).
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::addr::Vaddr;

/// Event upcall.
pub const CALLBACKTYPE_event: u16 = 0;
/// Loading a selector on return failed.
pub const CALLBACKTYPE_failsafe: u16 = 1;
/// SYSCALL from 64-bit user mode.
pub const CALLBACKTYPE_syscall: u16 = 2;
/// SYSENTER, old number.
pub const CALLBACKTYPE_sysenter_deprecated: u16 = 3;
/// NMI.
pub const CALLBACKTYPE_nmi: u16 = 4;
/// SYSENTER.
pub const CALLBACKTYPE_sysenter: u16 = 5;
/// SYSCALL from 32-bit user mode.
pub const CALLBACKTYPE_syscall32: u16 = 7;
/// Mask events on entry.
pub const CALLBACKF_mask_events: u16 = 1;
/// Register, see [`CallbackRegister`].
pub const CALLBACKOP_register: u32 = 0;
/// Unregister, see [`CallbackUnregister`].
pub const CALLBACKOP_unregister: u32 = 1;

/// `CALLBACKOP_register`.
///
/// `struct callback_register`, 16 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct CallbackRegister {
    /// `CALLBACKTYPE_*` (`type`).
    pub kind: u16,
    /// `CALLBACKF_*`.
    pub flags: u16,
    /// Padding; zero.
    pub _pad0: [u8; 4],
    /// Handler.
    pub address: Vaddr,
}
const _: () = assert!(size_of::<CallbackRegister>() == 16);

/// `CALLBACKOP_unregister`.
///
/// `struct callback_unregister`, 4 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct CallbackUnregister {
    /// `CALLBACKTYPE_*` (`type`).
    pub kind: u16,
    /// Zero.
    pub _unused: u16,
}
const _: () = assert!(size_of::<CallbackUnregister>() == 4);

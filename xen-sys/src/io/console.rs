//! `io/console.h`: the console page.
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The console page: two byte rings, indices run free.
///
/// `struct xencons_interface`, 3088 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct XenconsInterface {
    /// To the guest (`in`).
    pub in_: [u8; 1024],
    /// From the guest.
    pub out: [u8; 2048],
    /// Bytes the guest has read.
    pub in_cons: u32,
    /// Bytes the back end has written.
    pub in_prod: u32,
    /// Bytes the back end has read.
    pub out_cons: u32,
    /// Bytes the guest has written.
    pub out_prod: u32,
}
const _: () = assert!(size_of::<XenconsInterface>() == 3088);

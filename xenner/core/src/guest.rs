//! Typed copies from and to guest-virtual memory.

use xen_sys::addr::Vaddr;
use xen_sys::errno::Errno;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::Machine;

/// Copies one value out of guest memory.
///
/// # Errors
/// `EFAULT` when it cannot be read.
pub fn get<T: FromBytes + IntoBytes>(m: &mut impl Machine, from: Vaddr) -> Result<T, Errno> {
    let mut value = T::new_zeroed();
    m.copy_from_guest(from, value.as_mut_bytes())?;
    Ok(value)
}

/// Copies one value into guest memory.
///
/// # Errors
/// `EFAULT` when it cannot be written.
pub fn put<T: IntoBytes + Immutable>(
    m: &mut impl Machine,
    to: Vaddr,
    value: &T,
) -> Result<(), Errno> {
    m.copy_to_guest(to, value.as_bytes())
}

/// The address of element `index` of an array of `T`, wrapping as the CPU
/// would; an absurd address then fails as unreadable.
pub fn element<T>(array: Vaddr, index: u64) -> Vaddr {
    Vaddr(
        array
            .0
            .wrapping_add(index.wrapping_mul(size_of::<T>() as u64)),
    )
}

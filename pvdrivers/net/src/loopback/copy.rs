//! What an operating system does with the pieces of a frame: it copies.
//!
//! Invariant: the pieces are those of a call of a `Link`, whose contract is that they are mapped
//! until it returns and seen by no Rust reference.
#![allow(unsafe_code)]

use std::ptr;

use pv_ring::IoVec;

/// Appends a frame's bytes.
///
/// # Safety
/// As for [`pv_netdev::Link::send`].
pub unsafe fn copy_out(frame: &[IoVec], to: &mut Vec<u8>) {
    for piece in frame {
        to.reserve(piece.len());
        let end = to.spare_capacity_mut().as_mut_ptr().cast::<u8>();
        // SAFETY: the piece is mapped (contract); there is room for it behind the vector's end,
        // and it is not part of the vector, which is ours alone.
        unsafe {
            ptr::copy_nonoverlapping(piece.base().cast_const(), end, piece.len());
            to.set_len(to.len() + piece.len());
        }
    }
}

/// Copies bytes into a frame's room; whether they fit.
///
/// # Safety
/// As for [`pv_netdev::Link::recv`].
pub unsafe fn copy_in(mut bytes: &[u8], room: &[IoVec]) -> bool {
    for piece in room {
        let (now, later) = bytes.split_at(bytes.len().min(piece.len()));
        // SAFETY: the piece is mapped (contract) and at least as long; `bytes` is a Rust reference,
        // so it is no part of it.
        unsafe { ptr::copy_nonoverlapping(now.as_ptr(), piece.base(), now.len()) };
        bytes = later;
        if bytes.is_empty() {
            break;
        }
    }
    bytes.is_empty()
}

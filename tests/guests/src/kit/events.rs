//! Event channels: the shared info page, the upcall, and the two-level ABI.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};

use crate::abi::*;
use crate::hypercall::{Arg, Ret, call2};
use crate::memory::{P, U, W, set_leaf};

#[repr(C, align(4096))]
struct SharedPage([AtomicU64; 512]);

/// Its own frame is given up; the shared info frame is mapped in its place.
static SHARED: SharedPage = SharedPage([const { AtomicU64::new(0) }; 512]);

/// Whether events were masked when the current attempt began.
pub static MASKED: AtomicBool = AtomicBool::new(true);
/// Whether an event upcall ends the current attempt instead of being handled.
pub static WATCHED: AtomicBool = AtomicBool::new(false);
static FIFO: AtomicBool = AtomicBool::new(false);

/// Whether the domain has gone over to the FIFO ABI, so that this module's bitmaps are not in use any more.
pub fn is_fifo() -> bool {
    FIFO.load(Relaxed)
}

/// Notes that it has.
pub fn now_fifo() {
    FIFO.store(true, Relaxed);
}

/// Upcalls handled.
pub static UPCALLS: AtomicU64 = AtomicU64::new(0);
/// Events handled, by port; ports above share the last count.
pub static SEEN: [AtomicU64; 128] = [const { AtomicU64::new(0) }; 128];

/// Word offsets in `struct shared_info` (xen.h): 32 `vcpu_info` of 64 bytes, then pending and mask bitmaps.
const PENDING: usize = 2048 / 8;
const MASK: usize = PENDING + 64;

/// Maps the shared info page; the upcall mask stays set until [`unmask_all`].
pub fn init(shared_info: u64) {
    set_leaf(&raw const SHARED as u64, shared_info | P | W | U);
    for word in 0..64 {
        SHARED.0[MASK + word].store(u64::MAX, Relaxed);
    }
}

/// A word of the shared info page.
pub fn shared(word: usize) -> &'static AtomicU64 {
    &SHARED.0[word % 512]
}

/// Address of the shared info page, and so of vCPU 0's `struct vcpu_info`.
pub fn shared_va() -> u64 {
    &raw const SHARED as u64
}

/// `vcpu_info.arch.cr2` of vCPU 0.
pub fn cr2() -> u64 {
    SHARED.0[2].load(Relaxed)
}

fn byte(offset: usize) -> &'static core::sync::atomic::AtomicU8 {
    // SAFETY: offset 0 and 1 are inside the page, which lives as long as the guest; atomics may alias atomics.
    unsafe {
        &*(&raw const SHARED)
            .cast::<core::sync::atomic::AtomicU8>()
            .add(offset)
    }
}

/// `evtchn_upcall_pending` of vCPU 0.
pub fn upcall_pending() -> &'static core::sync::atomic::AtomicU8 {
    byte(0)
}

/// `evtchn_upcall_mask` of vCPU 0.
pub fn upcall_mask() -> &'static core::sync::atomic::AtomicU8 {
    byte(1)
}

/// Remembers the upcall mask for the attempt that begins.
pub fn note_mask() {
    MASKED.store(upcall_mask().load(Relaxed) != 0, Relaxed);
}

/// Masks upcalls.
pub fn disable() {
    upcall_mask().store(1, SeqCst);
}

/// Unmasks upcalls and takes the one that may be due, as Linux does: a pending upcall is not delivered by clearing the
/// mask, so the guest asks for it with any hypercall.
pub fn enable() {
    upcall_mask().store(0, SeqCst);
    if upcall_pending().load(SeqCst) != 0 {
        call2(__HYPERVISOR_xen_version, XENVER_version, 0);
    }
}

/// Whether the port's pending bit is set.
pub fn pending(port: u32) -> bool {
    SHARED.0[PENDING + (port as usize / 64) % 64].load(SeqCst) >> (port % 64) & 1 == 1
}

/// Clears the port's pending bit.
pub fn clear(port: u32) {
    SHARED.0[PENDING + (port as usize / 64) % 64].fetch_and(!(1 << (port % 64)), SeqCst);
}

/// Sets the port's mask bit.
pub fn mask(port: u32) {
    SHARED.0[MASK + (port as usize / 64) % 64].fetch_or(1 << (port % 64), SeqCst);
}

/// Whether the port's mask bit is set.
pub fn masked(port: u32) -> bool {
    SHARED.0[MASK + (port as usize / 64) % 64].load(SeqCst) >> (port % 64) & 1 == 1
}

/// Clears the port's mask bit, without asking for an event that is pending already.
pub fn clear_mask(port: u32) {
    SHARED.0[MASK + (port as usize / 64) % 64].fetch_and(!(1 << (port % 64)), SeqCst);
}

/// The upcall of the two-level ABI: counts and clears every pending, unmasked port of vCPU 0.
pub fn on_upcall() {
    UPCALLS.fetch_add(1, Relaxed);
    upcall_pending().store(0, SeqCst);
    let mut words = SHARED.0[1].swap(0, SeqCst);
    while words != 0 {
        let word = words.trailing_zeros() as usize;
        words &= words - 1;
        let mut bits = SHARED.0[PENDING + word].load(SeqCst) & !SHARED.0[MASK + word].load(SeqCst);
        while bits != 0 {
            let bit = bits.trailing_zeros();
            bits &= bits - 1;
            SHARED.0[PENDING + word].fetch_and(!(1 << bit), SeqCst);
            let port = word * 64 + bit as usize;
            SEEN[port.min(SEEN.len() - 1)].fetch_add(1, Relaxed);
        }
    }
}

/// How often the port's event was handled.
pub fn seen(port: u32) -> u64 {
    SEEN[(port as usize).min(SEEN.len() - 1)].load(Relaxed)
}

/// An `event_channel_op` with its argument structure.
pub fn op(cmd: u32, arg: impl Arg) -> Ret {
    call2(__HYPERVISOR_event_channel_op, cmd, arg)
}

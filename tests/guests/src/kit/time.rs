//! The clock of `struct vcpu_time_info` (xen.h).

use core::sync::atomic::Ordering::{Relaxed, SeqCst};
use core::sync::atomic::fence;

use crate::events::shared;

fn rdtsc() -> u64 {
    // SAFETY: reads a counter.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// Nanoseconds since the hypervisor's boot, by vCPU 0's `time` in the shared info page.
pub fn system_time() -> u64 {
    loop {
        let version = shared(4).load(Relaxed) as u32;
        fence(SeqCst);
        let stamp = shared(5).load(Relaxed);
        let base = shared(6).load(Relaxed);
        let scale = shared(7).load(Relaxed);
        let delta = rdtsc().wrapping_sub(stamp);
        fence(SeqCst);
        if version & 1 == 0 && version == shared(4).load(Relaxed) as u32 {
            let shift = (scale >> 32) as u8 as i8;
            let delta = if shift < 0 {
                delta >> shift.unsigned_abs()
            } else {
                delta << shift
            };
            let product = u128::from(delta) * u128::from(scale as u32);
            return base.wrapping_add((product >> 32) as u64);
        }
        core::hint::spin_loop();
    }
}

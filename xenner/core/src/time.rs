//! System time and the two timers of a virtual CPU.
//!
//! The time stamp counter's frequency does not change, so `vcpu_time_info` is
//! filled once: system time is the scaled distance from `tsc_base`.

use xen_sys::xen::VIRQ_TIMER;

use crate::evtchn;
use crate::{Domain, Machine, Vcpu};

/// System time at a time stamp, ns.
pub fn system_time(d: &Domain, tsc: u64) -> u64 {
    let delta = tsc.wrapping_sub(d.config.tsc_base);
    let shift = d.config.tsc_shift;
    let shifted = if shift >= 0 {
        delta << (shift & 63)
    } else {
        delta >> (-shift & 63)
    };
    ((u128::from(shifted) * u128::from(d.config.tsc_to_system_mul)) >> 32) as u64
}

/// System time now, ns.
pub fn now<M: Machine>(m: &M, d: &Domain) -> u64 {
    system_time(d, m.tsc())
}

/// The time stamp at which system time reaches `ns`; far in the future when
/// that is beyond counting.
pub fn tsc_at(d: &Domain, ns: u64) -> u64 {
    // kHz * ns / 10^6, without a 128-bit division.
    let khz = u64::from(d.config.tsc_khz);
    let (ms, rest) = (ns / 1_000_000, ns % 1_000_000);
    let ticks = ms
        .saturating_mul(khz)
        .saturating_add(rest * khz / 1_000_000);
    d.config.tsc_base.saturating_add(ticks).saturating_add(1)
}

/// Arms the machine's timer for the earliest of the virtual CPU's deadlines.
pub fn rearm<M: Machine>(m: &mut M, d: &Domain, v: &Vcpu) {
    let periodic = if v.period != 0 { v.periodic_at } else { 0 };
    let earliest = [v.singleshot_at, periodic, v.poll_until]
        .into_iter()
        .filter(|at| *at != 0)
        .min();
    m.set_timer(earliest.map(|at| tsc_at(d, at)));
}

/// Acts on every deadline that has passed.
pub fn expire<M: Machine>(m: &mut M, d: &Domain, v: &mut Vcpu) {
    let now = now(m, d);
    let mut fired = false;
    if v.singleshot_at != 0 && v.singleshot_at <= now {
        v.singleshot_at = 0;
        fired = true;
    }
    if v.period != 0 && v.periodic_at <= now {
        let missed = (now - v.periodic_at) / v.period;
        v.periodic_at += (missed + 1) * v.period;
        fired = true;
    }
    if fired {
        evtchn::send_virq(m, d, v.id, v.id, VIRQ_TIMER);
    }
    rearm(m, d, v);
}

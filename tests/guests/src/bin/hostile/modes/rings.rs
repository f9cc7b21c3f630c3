//! Rings shared with the other side: indices and bytes out of all bounds.

use xenner_guests::abi::*;
use xenner_guests::boot::start_info;
use xenner_guests::hypercall::call2;
use xenner_guests::memory::{Page, va_of_mfn};
use xenner_guests::report::see;

const INDICES: [u32; 8] = [
    0,
    1,
    2047,
    2049,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_0000,
    u32::MAX,
];

fn write(at: u64, value: u32) {
    // SAFETY: an index word of a ring page that stays mapped.
    unsafe { (at as *mut u32).write_volatile(value) };
}

fn read(at: u64) -> u32 {
    // SAFETY: as in `write`.
    unsafe { (at as *const u32).read_volatile() }
}

fn notify(port: EvtchnPort) {
    call2(
        __HYPERVISOR_event_channel_op,
        EVTCHNOP_send,
        &EvtchnSend { port },
    );
    for _ in 0..20 {
        call2(__HYPERVISOR_sched_op, SCHEDOP_yield, 0);
    }
}

/// Four index words at `indices` take every value; then they are as before.
fn torture(indices: u64, port: EvtchnPort) {
    let before = [0, 4, 8, 12].map(|offset| read(indices + offset));
    for first in INDICES {
        for second in INDICES {
            for pair in [0, 8] {
                write(indices + pair, first);
                write(indices + pair + 4, second);
                notify(port);
            }
        }
    }
    for (offset, value) in [0u64, 4, 8, 12].iter().zip(before) {
        write(indices + offset, value);
    }
}

/// `struct xencons_interface` (io/console.h): in_cons, in_prod, out_cons, out_prod behind two rings.
pub fn console() {
    let info = start_info();
    torture(va_of_mfn(info.console_mfn.0) + 3072, info.console_evtchn);
    // What the other end makes of the ring now is its own affair, so nobody waits for the report to be read.
    see("hostile.console_ring", "survived");
    let end = xenner_guests::time::system_time() + 500_000_000;
    while xenner_guests::time::system_time() < end {
        notify(info.console_evtchn);
    }
    let reason = SchedShutdown {
        reason: SHUTDOWN_poweroff,
    };
    call2(__HYPERVISOR_sched_op, SCHEDOP_shutdown, &reason);
}

/// `struct xenstore_domain_interface` (io/xs_wire.h): garbage requests, then garbage indices.
pub fn xenstore() {
    let info = start_info();
    let ring = va_of_mfn(info.store_mfn.0);
    let junk = Page::new();
    for round in 0..512u64 {
        junk.write(0, round.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        for word in 0..128 {
            let value = junk.read(0).rotate_left(word as u32) ^ word;
            write(ring + word * 8, value as u32);
            write(ring + word * 8 + 4, (value >> 32) as u32 & 0xff);
        }
        write(ring + 2048 + 4, read(ring + 2048).wrapping_add(1024));
        notify(info.store_evtchn);
    }
    torture(ring + 2048, info.store_evtchn);
    see("hostile.xenstore_ring", "survived");
}

//! The PV console (io/console.h): a 2 KiB output ring in a page the domain builder set up.

use core::fmt::{self, Write};
use core::sync::atomic::{AtomicU64, Ordering::Relaxed, fence};

use crate::abi::*;
use crate::boot::start_info;
use crate::hypercall::call2;
use crate::memory::va_of_mfn;

const IN_RING: u64 = 1024;
const OUT_RING: u64 = 2048;
const OUT_CONS: u64 = IN_RING + OUT_RING + 8;
const OUT_PROD: u64 = IN_RING + OUT_RING + 12;

static PAGE: AtomicU64 = AtomicU64::new(0);

/// Finds the ring. Before, what is printed is lost.
pub fn init() {
    PAGE.store(va_of_mfn(start_info().console_mfn.0), Relaxed);
}

fn index(offset: u64) -> *mut u32 {
    (PAGE.load(Relaxed) + offset) as *mut u32
}

fn read_index(offset: u64) -> u32 {
    // SAFETY: the console page stays mapped, and the offsets are those of its index words.
    unsafe { index(offset).read_volatile() }
}

fn notify() {
    call2(
        __HYPERVISOR_event_channel_op,
        EVTCHNOP_send,
        &start_info().console_evtchn,
    );
}

fn put(byte: u8) {
    let prod = read_index(OUT_PROD);
    while u64::from(prod.wrapping_sub(read_index(OUT_CONS))) >= OUT_RING {
        notify();
        call2(__HYPERVISOR_sched_op, SCHEDOP_yield, 0);
    }
    let at = PAGE.load(Relaxed) + IN_RING + u64::from(prod) % OUT_RING;
    // SAFETY: `at` is inside the output ring of the console page.
    unsafe { (at as *mut u8).write_volatile(byte) };
    // The byte must be there before the index says so; pairs with the back end's read barrier.
    fence(core::sync::atomic::Ordering::SeqCst);
    // SAFETY: as in `read_index`.
    unsafe { index(OUT_PROD).write_volatile(prod.wrapping_add(1)) };
}

/// Waits until the other end has read everything.
pub fn drain() {
    while read_index(OUT_PROD) != read_index(OUT_CONS) {
        notify();
        call2(__HYPERVISOR_sched_op, SCHEDOP_yield, 0);
    }
}

/// Where [`print!`](crate::print) writes.
pub struct Console;

impl Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if PAGE.load(Relaxed) == 0 {
            return Ok(());
        }
        for byte in text.bytes() {
            if byte == b'\n' {
                put(b'\r');
            }
            put(byte);
        }
        if text.ends_with('\n') {
            notify();
        }
        Ok(())
    }
}

/// Prints on the PV console.
#[macro_export]
macro_rules! print {
    ($($arg:tt)*) => {{
        use core::fmt::Write as _;
        let _ = write!($crate::console::Console, $($arg)*);
    }};
}

/// Prints a line on the PV console.
#[macro_export]
macro_rules! println {
    () => { $crate::print!("\n") };
    ($($arg:tt)*) => { $crate::print!("{}\n", format_args!($($arg)*)) };
}

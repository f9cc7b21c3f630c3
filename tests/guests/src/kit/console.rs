//! What [`print!`](crate::print) prints on: the PV console.

use core::cell::UnsafeCell;
use core::fmt::{self, Write};

use pv_console::ConsoleFront;
use pv_ring::RawPage;

use crate::boot::start_info;
use crate::channel::{Port, ring_page};

const LINE: usize = 256;

/// A line is gathered before it goes to the ring, so that the other end is notified once per line.
struct Shared {
    front: Option<ConsoleFront<RawPage<'static>, Port>>,
    line: [u8; LINE],
    used: usize,
}

struct Cell(UnsafeCell<Shared>);
// SAFETY: only the boot vCPU prints, and no handler prints but one that does not return.
unsafe impl Sync for Cell {}

static SHARED: Cell = Cell(UnsafeCell::new(Shared {
    front: None,
    line: [0; LINE],
    used: 0,
}));

fn with<R>(f: impl FnOnce(&mut Shared) -> R) -> R {
    // SAFETY: as `Cell` says, there is one user at a time; no `f` below calls `with`.
    f(unsafe { &mut *SHARED.0.get() })
}

/// Finds the ring. Before, what is printed is lost.
pub fn init() {
    let info = start_info();
    let page = ring_page(info.console_mfn.0);
    with(|shared| shared.front = ConsoleFront::attach(page, Port(info.console_evtchn)).ok());
}

impl Shared {
    fn put(&mut self, byte: u8) {
        if let Some(room) = self.line.get_mut(self.used) {
            *room = byte;
            self.used += 1;
        }
        if self.used == LINE || byte == b'\n' {
            self.send();
        }
    }

    fn send(&mut self) {
        if let Some(front) = &mut self.front {
            // A console that fails has nowhere to say so.
            let _ = front.write_all(&self.line[..self.used]);
        }
        self.used = 0;
    }
}

/// Waits until the other end has read everything.
pub fn drain() {
    with(|shared| {
        shared.send();
        let _ = shared.front.as_mut().map(ConsoleFront::flush);
    });
}

/// Where [`print!`](crate::print) writes.
pub struct Console;

impl Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        with(|shared| {
            for byte in text.bytes() {
                if byte == b'\n' {
                    shared.put(b'\r');
                }
                shared.put(byte);
            }
        });
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

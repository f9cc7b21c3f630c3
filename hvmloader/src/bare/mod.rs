//! The bare-metal half: all the crate's `unsafe` is here.

mod entry;
mod hardware;
mod hypercall;
mod xenstore;

use core::panic::PanicInfo;

use hvmloader::loader::{self, Loaded};
use hvmloader::machine::Machine;
use xen_sys::addr::Paddr;
use xen_sys::hypercall::__HYPERVISOR_sched_op;
use xen_sys::sched::{SCHEDOP_shutdown, SHUTDOWN_crash, SchedShutdown};

use hardware::Hardware;
use xenstore::Xenstore;

/// From `entry.rs`, with the address Xen left in EBX.
#[unsafe(no_mangle)]
extern "C" fn enter(start_info: u64) -> ! {
    let mut machine = Hardware;
    entry::catch_exceptions();
    machine.log(format_args!("hvmloader {}", env!("CARGO_PKG_VERSION")));
    if !hypercall::init() {
        panic!("this is no domain of Xen: the CPUID leaves of Xen are missing");
    }
    let mut store = match Xenstore::connect() {
        Ok(store) => store,
        Err(error) => panic!("xenstore cannot be used: {error}"),
    };
    let low = entry::low_image();
    match loader::load(&mut machine, &mut store, Paddr(start_info), low) {
        Ok(Loaded) => {}
        Err(error) => panic!("{error}"),
    }
    drop(store);
    entry::start_bios()
}

#[unsafe(no_mangle)]
extern "C" fn fault(vector: u64, code: u64, rip: u64, cr2: u64) -> ! {
    panic!("exception {vector} (error {code:#x}) at {rip:#x}, CR2 {cr2:#x}");
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    Hardware.log(format_args!("hvmloader: {}", info.message()));
    loop {
        let mut shutdown = SchedShutdown {
            reason: SHUTDOWN_crash,
        };
        let argument = hypercall::handle(&mut shutdown).0;
        // It does not return.
        let _ = hypercall::call(__HYPERVISOR_sched_op, u64::from(SCHEDOP_shutdown), argument);
    }
}

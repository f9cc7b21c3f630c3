//! A guest for tests of toolstacks: it is up at once, and ends as its command line says, or stays.
//!
//! With the word `stay` it waits for ever; else see `boot::shutdown_as_asked`.

#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(not(target_os = "none"))]
fn main() {
    xenner_guests::explain("obey");
}

#[cfg(target_os = "none")]
xenner_guests::guest!(guest::main);

#[cfg(target_os = "none")]
mod guest {
    use xenner_guests::abi::*;
    use xenner_guests::hypercall::call2;
    use xenner_guests::{boot, println};

    pub fn main() {
        println!("guest-is-ready");
        while boot::has_word("stay") {
            call2(__HYPERVISOR_sched_op, SCHEDOP_block, 0);
        }
        boot::shutdown_as_asked();
    }
}

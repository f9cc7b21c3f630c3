//! A guest that means harm, in one mode per run: `mode=NAME` on the command line.
//!
//! A mode either survives what it does, and then prints a report and powers off, or ends in the domain's crash. Both
//! are fine; what must not happen is that anything outside the domain notices. `reference/` holds how each mode ends
//! on Xen. Without a mode the guest prints the list.

#![cfg_attr(target_os = "none", no_std, no_main)]
#![allow(
    clippy::needless_borrows_for_generic_args,
    reason = "as a hypercall argument a reference is its address, a number is itself"
)]

#[cfg(not(target_os = "none"))]
fn main() {
    xenner_guests::explain("hostile");
}

#[cfg(target_os = "none")]
mod modes;

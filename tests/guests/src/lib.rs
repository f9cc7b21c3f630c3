//! The kit of the test guests: small x86-64 Xen PV kernels.
//!
//! A guest built on it runs unchanged on Xen (`xl create`) and on xenner, and prints a report whose lines hold
//! nothing that depends on the host: no address, no frame number, no time. So the two reports are compared as
//! text, error codes included, and a difference is the bug.
//!
//! Principles:
//! - What a check observes is printed, pass or fail; see `report`.
//! - Anything may fault: `attempt!` runs an instruction and returns the trap it provoked.
//! - A guest is one image without a heap; pages come from what the domain builder mapped (`memory`).
//!
//! Soundness: a hypercall can do anything to the guest's memory, and nothing here tries to prove otherwise. Functions
//! that make one are safe to call in Rust's terms only as long as the frames and addresses handed in are the
//! caller's own; the domain is the unit of failure, as it is for the hypervisor under test.
//!
//! Begin with `bin/hello.rs`. On the host the crate holds [`compare`]: Xen's reports, and how others differ.

#![cfg_attr(target_os = "none", no_std)]

#[cfg(target_os = "none")]
#[path = "kit/mod.rs"]
mod kit;

#[cfg(target_os = "none")]
pub use kit::*;

#[cfg(not(target_os = "none"))]
pub mod compare;

/// Tells a person who runs a guest's host binary what to do instead.
#[cfg(not(target_os = "none"))]
pub fn explain(guest: &str) {
    eprintln!(
        "{guest} is a Xen PV kernel. Build it with\n  cargo build -p xenner-guests --target x86_64-unknown-none --release\n\
         and boot target/x86_64-unknown-none/release/{guest} with xenner or xl."
    );
}
